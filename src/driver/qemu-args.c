/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: what is the same for every VM stands in a table of words; what the accelerator
 * decides stands in one row each; disks, network and sockets follow. The order of devices is the
 * order in which the guest finds them.
 */
#include "driver/qemu-args.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

#define MEMORY_MIN  (64 * MIB) /* a distribution kernel and the initramfs unpacked */
#define MEMORY_MAX  (1 * TIB)
#define CPUS_MAX    64
#define CMDLINE_MAX 2047 /* COMMAND_LINE_SIZE of x86 less its NUL */

/* One row an accelerator: what is right under one is wrong under another. */
static const struct accel_options {
	const char *accel;   /* -accel */
	const char *machine; /* behind -M microvm,... */
	const char *cpu;     /* -cpu */
	const char *cmdline; /* kernel */
	bool tsc;	     /* the guest reads the host's TSC and cannot find its rate: tell it */
} accel_options[VM_ACCEL_MAX] = {
	[VM_ACCEL_TCG] = {
		.accel = "tcg,thread=multi,tb-size=64",
		/*
		 * The kernel needs no PIT here: it knows the TSC's rate, and measures the APIC's against that. At reset the PIT
		 * counts already, and QEMU carries it on 36 times a second for as long as nobody sets it otherwise: 6 ms of CPU
		 * time a second of each idle sandbox, more than all the rest of it.
		 */
		.machine = ",pit=off",
		/*
		 * x86-64-v2, which distributions need; fewer features than `max` mean less to emulate: quicker boots.
		 * Without arat the kernel distrusts the APIC's timer and, having no other here, never leaves its periodic tick:
		 * an idle sandbox with two CPUs took 7 % of a core (0.5 % with it), and every sleep was a multiple of 4 ms.
		 */
		.cpu = "Nehalem,-spec-ctrl,+arat",
		/*
		 * A busy host delays the timer interrupt, and the kernel would call it dead; nor may it measure the TSC
		 * against late ticks and fall back to counting them: such a clock ran 13 % slow under load. The TSC is the host's.
		 */
		.cmdline = "no_timer_check tsc=reliable mitigations=off",
		.tsc = true,
	},
	[VM_ACCEL_KVM] = {
		.accel = "kvm",
		.machine = "",
		.cpu = "host",
		.cmdline = "",
		.tsc = false,
	},
};

static const char *const common[] = { "-nodefaults", "-no-user-config", "-no-reboot", "-display",
	"none", "-msg", "timestamp=off", "-sandbox",
	"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
	/* Legacy virtio-mmio cannot carry vhost-user devices. */
	"-global", "virtio-mmio.force-legacy=false", NULL };

/* QEMU's option syntax: a comma in a value is doubled. */
static void add_value(struct strbuf *sb, const char *value)
{
	for (; *value; value++) {
		if (*value == ',')
			strbuf_addc(sb, ',');
		strbuf_addc(sb, *value);
	}
}

static int check(const struct vm_config *c, struct err *err)
{
	if (c->accel <= VM_ACCEL_AUTO || c->accel >= VM_ACCEL_MAX)
		return err_set(err, EINVAL, "no accelerator chosen");
	if (c->memory < MEMORY_MIN || c->memory > MEMORY_MAX)
		return err_set(err, EINVAL,
			"a VM has between 64 MiB and 1 TiB of memory, not %llu bytes",
			(unsigned long long)c->memory);
	if (c->cpus < 1 || c->cpus > CPUS_MAX)
		return err_set(
			err, EINVAL, "a VM has between 1 and %d CPUs, not %u", CPUS_MAX, c->cpus);
	if (c->n_disks > LIMIT_DISKS)
		return err_set(
			err, EINVAL, "a VM has at most %d disks, not %u", LIMIT_DISKS, c->n_disks);
	if (c->slots > LIMIT_VM_SLOTS)
		return err_set(
			err, EINVAL, "a VM has at most %d slots, not %u", LIMIT_VM_SLOTS, c->slots);
	if (!c->kernel)
		return err_set(err, EINVAL, "no kernel given");
	if (!c->initramfs && !c->agent_rootfs)
		return err_set(
			err, EINVAL, "neither an initramfs nor an agent root file system given");
	for (unsigned i = 0; i < c->n_disks; i++) {
		const char *serial = c->disks[i].serial;

		if (!*serial || strlen(serial) > QEMU_SERIAL_MAX || strpbrk(serial, ",="))
			return err_set(
				err, EINVAL, "'%s' cannot be a disk's serial number", serial);
	}
	return 0;
}

static int add_memory(const struct vm_config *c, const struct qemu_view *v, struct strv *argv)
{
	unsigned long long mib = (c->memory + MIB - 1) / MIB;
	auto_strbuf struct strbuf file = STRBUF_INIT;
	int r = strv_addf(argv, "%lluM", mib);

	if (r == 0)
		r = strv_add(argv, "-object");
	if (r < 0)
		return r;
	/* The name is the memory's in a saved state, whatever lies behind it. */
	if (c->ram == VM_RAM_ANONYMOUS)
		return strv_addf(argv, "memory-backend-ram,id=ram,size=%lluM", mib);
	strbuf_addf(&file, "memory-backend-file,id=ram,size=%lluM,share=%s,mem-path=", mib,
		c->ram == VM_RAM_PRIVATE ? "off" : "on");
	add_value(&file, v->ram);
	return strbuf_error(&file) ? -ENOMEM : strv_add(argv, file.data);
}

static int add_machine(const struct vm_config *c, const struct qemu_view *v,
	const struct accel_options *o, struct strv *argv)
{
	/* serial, rng, balloon, net and disks: virtio-mmio has 8 slots with one interrupt
	 * controller, 24 with two. */
	unsigned devices = 3 + (c->net_fd >= 0) + c->n_disks + (c->agent_rootfs != NULL);
	int r = strv_addv(
		argv, (const char *const[]){ "-accel", o->accel, "-cpu", o->cpu, "-M", NULL });

	if (r == 0)
		r = strv_addf(argv, "microvm,isa-serial=on,rtc=on,acpi=on,memory-backend=ram%s%s%s",
			devices > 8 ? ",ioapic2=on" : "", c->slots ? ",pcie=on" : "", o->machine);
	if (r == 0)
		r = strv_add(argv, "-m");
	if (r == 0)
		r = add_memory(c, v, argv);
	if (r == 0)
		r = strv_add(argv, "-smp");
	if (r == 0)
		r = strv_addf(argv, "%u", c->cpus);
	return r;
}

static int add_kernel(const struct vm_config *c, const struct qemu_view *v,
	const struct accel_options *o, struct strv *argv, struct err *err)
{
	auto_strbuf struct strbuf line = STRBUF_INIT;
	int r;

	/*
	 * reboot=t: the quickest reset, which -no-reboot makes an end; panic=-1: at once. The
	 * self-tests of the kernel's ciphers take an emulated guest half a second of its three.
	 */
	strbuf_adds(
		&line, "console=ttyS0 quiet reboot=t panic=-1 cryptomgr.notests lsm=landlock,yama");
	if (*o->cmdline)
		strbuf_addf(&line, " %s", o->cmdline);
	if (o->tsc && c->tsc_khz)
		strbuf_addf(&line, " tsc_early_khz=%llu", (unsigned long long)c->tsc_khz);
	/* The guest itself sees to its slots, not a firmware that is not there. */
	if (c->slots)
		strbuf_adds(&line, " pcie_ports=native");
	if (c->agent_rootfs && c->initramfs)
		strbuf_adds(&line, " micropod.root=" QEMU_AGENT_ROOTFS_SERIAL);
	else if (c->agent_rootfs) /* behind the other disks: vda is the first */
		strbuf_addf(&line, " root=/dev/vd%c ro rootfstype=ext4 init=/sbin/init",
			'a' + (int)c->n_disks);
	if (c->cmdline && *c->cmdline)
		strbuf_addf(&line, " %s", c->cmdline);
	if (strbuf_error(&line))
		return err_errno(err, ENOMEM, "cannot build QEMU's arguments");
	if (line.len > CMDLINE_MAX)
		return err_set(err, E2BIG, "the kernel command line has %zu bytes; at most %d fit",
			line.len, CMDLINE_MAX);
	r = strv_addv(
		argv, (const char *const[]){ "-kernel", v->kernel, "-append", line.data, NULL });
	if (r == 0 && c->initramfs)
		r = strv_addv(argv, (const char *const[]){ "-initrd", v->initramfs, NULL });
	return r < 0 ? err_errno(err, -r, "cannot build QEMU's arguments") : 0;
}

static int add_channels(const struct qemu_view *v, struct strv *argv)
{
	int r = strv_add(argv, "-chardev");

	if (r == 0)
		r = strv_addf(argv, "socket,id=qmp,fd=%d", v->qmp_fd);
	if (r == 0)
		r = strv_addv(argv, (const char *const[]){
					    "-mon", "chardev=qmp,mode=control", "-chardev", NULL });
	if (r == 0)
		r = strv_addf(argv, "socket,id=console,fd=%d", v->console_fd);
	if (r == 0)
		r = strv_addv(argv,
			(const char *const[]){ "-serial", "chardev:console", "-chardev", NULL });
	if (r == 0)
		r = strv_addf(argv, "socket,id=agent,fd=%d", v->agent_fd);
	if (r == 0)
		r = strv_addv(argv,
			(const char *const[]){ "-device", "virtio-serial-device,max_ports=2",
				"-device", "virtserialport,chardev=agent,name=micropod.agent,nr=1",
				"-object", "rng-builtin,id=rng", "-device",
				"virtio-rng-device,rng=rng",
				/* What the guest frees goes back to the host by itself. */
				"-device", "virtio-balloon-device,free-page-reporting=on", NULL });
	return r;
}

static int add_trim(const struct qemu_view *v, struct strv *argv)
{
	auto_strbuf struct strbuf option = STRBUF_INIT;

	if (!v->trim)
		return 0;
	strbuf_adds(&option, "file=");
	add_value(&option, v->trim);
	strbuf_addf(&option, ",fd=%d", v->trim_fd);
	return strbuf_error(&option)
		       ? -ENOMEM
		       : strv_addv(argv, (const char *const[]){ "-plugin", option.data, NULL });
}

static int add_disk(
	unsigned index, const struct qemu_view *v, const struct vm_disk *disk, struct strv *argv)
{
	auto_strbuf struct strbuf drive = STRBUF_INIT;
	int r;

	/*
	 * The host's page cache, so that sandboxes share an image's pages. What lies in it is there
	 * at once with io_uring; a pool of threads takes two changes of threads for each read.
	 * Flushes reach the host's disk: a stopped sandbox survives the host's crash.
	 */
	strbuf_addf(&drive,
		"driver=raw,node-name=disk%u,read-only=%s,discard=%s,%sfile.driver=file,file.aio=%"
		"s,"
		"file.filename=",
		index, disk->read_only ? "on" : "off", disk->read_only ? "ignore" : "unmap",
		disk->ephemeral ? "cache.no-flush=on," : "", v->io_uring ? "io_uring" : "threads");
	add_value(&drive, v->disks[index]);
	if (strbuf_error(&drive))
		return -ENOMEM;
	r = strv_addv(argv, (const char *const[]){ "-blockdev", drive.data, "-device", NULL });
	/* A full host disk is an error in the guest and an event here; the default would stop the
	 * VM for ever. */
	return r < 0 ? r
		     : strv_addf(argv,
			       "virtio-blk-device,id=blk%u,drive=disk%u,serial=%s,werror=report,"
			       "rerror=report",
			       index, index, disk->serial);
}

static int add_disks(const struct vm_config *c, const struct qemu_view *v, struct strv *argv)
{
	const struct vm_disk agent_rootfs = { .serial = QEMU_AGENT_ROOTFS_SERIAL,
		.read_only = true };
	int r = 0;

	for (unsigned i = 0; i < c->n_disks && r == 0; i++)
		r = add_disk(i, v, &c->disks[i], argv);
	if (r == 0 && c->agent_rootfs)
		r = add_disk(c->n_disks, v, &agent_rootfs, argv);
	return r;
}

static int add_slots(const struct vm_config *c, struct strv *argv)
{
	int r = 0;

	for (unsigned i = 0; i < c->slots && r == 0; i++) {
		r = strv_add(argv, "-device");
		if (r == 0)
			r = strv_addf(argv, "pcie-root-port,id=slot%u,bus=pcie.0,chassis=1,slot=%u",
				i, i + 1);
	}
	return r;
}

static int add_net(const struct vm_config *c, const struct qemu_view *v, struct strv *argv)
{
	int r = 0;

	if (v->net_fd >= 0) {
		r = strv_add(argv, "-netdev");
		if (r == 0)
			r = strv_addf(argv, "stream,id=net,server=off,addr.type=fd,addr.str=%d",
				v->net_fd);
		if (r == 0)
			r = strv_add(argv, "-device");
		if (r == 0)
			r = strv_addf(argv,
				/* Nobody on its network knows the guest before it goes on. */
				"virtio-net-device,netdev=net,guest_announce=off,"
				"mac=%02x:%02x:%02x:%02x:%02x:%02x",
				c->mac[0], c->mac[1], c->mac[2], c->mac[3], c->mac[4], c->mac[5]);
	}
	return r;
}

int qemu_args_build(const struct vm_config *config, const struct qemu_view *view, struct strv *argv,
	struct err *err)
{
	const struct accel_options *o;
	int r = check(config, err);

	if (r < 0)
		return r;
	o = &accel_options[config->accel];
	r = strv_add(argv, view->program);
	if (r == 0 && view->firmware)
		r = strv_addv(argv, (const char *const[]){ "-L", view->firmware, NULL });
	if (r == 0)
		r = strv_addv(argv, common);
	if (r == 0)
		r = add_machine(config, view, o, argv);
	/* A guest that goes on has its kernel in its memory, and never starts again (-no-reboot).
	 */
	if (r == 0 && config->state_fd < 0 && (r = add_kernel(config, view, o, argv, err)) < 0)
		return r;
	if (r == 0)
		r = add_channels(view, argv);
	if (r == 0)
		r = add_disks(config, view, argv);
	if (r == 0)
		r = add_slots(config, argv);
	if (r == 0)
		r = add_net(config, view, argv);
	if (r == 0)
		r = add_trim(view, argv);
	/* Deferred: how it is to be read can only be said by QMP before. */
	if (r == 0 && config->state_fd >= 0)
		r = strv_addv(argv, (const char *const[]){ "-incoming", "defer", NULL });
	return r < 0 ? err_errno(err, -r, "cannot build QEMU's arguments") : 0;
}
