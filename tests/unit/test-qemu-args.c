/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "driver/qemu-args.h"
#include "test.h"

static struct vm_config config(enum vm_accel accel)
{
	return (struct vm_config){ .kernel = "k",
		.initramfs = "i",
		.memory = GIB,
		.cpus = 2,
		.accel = accel,
		.tsc_khz = 2500000,
		.state_fd = -1,
		.net_fd = -1 };
}

static const struct qemu_view view = { .program = "qemu",
	.firmware = "/firmware",
	.kernel = "/kernel",
	.initramfs = "/initramfs",
	.ram = "/ram",
	.disks = { "/disk/0", "/disk/1", "/disk/2" },
	.qmp_fd = 3,
	.console_fd = 4,
	.agent_fd = 5,
	.net_fd = -1 };

static char *build(const struct vm_config *c, const struct qemu_view *v)
{
	auto_strv struct strv argv = STRV_INIT;
	auto_strbuf struct strbuf line = STRBUF_INIT;
	struct err err = ERR_INIT;

	if (qemu_args_build(c, v, &argv, &err) < 0) {
		printf("# %s\n", err.msg);
		return NULL;
	}
	for (size_t i = 0; i < argv.n; i++)
		strbuf_addf(&line, "%s ", argv.v[i]);
	return strbuf_finish(&line);
}

static int refused(const struct vm_config *c)
{
	auto_strv struct strv argv = STRV_INIT;
	struct err err = ERR_INIT;
	int r = qemu_args_build(c, &view, &argv, &err);

	CHECK(r == 0 || err.msg[0]);
	return r;
}

#define HAS(text, part)	    CHECK(strstr((text), (part)) != NULL)
#define HAS_NOT(text, part) CHECK(strstr((text), (part)) == NULL)

static void clock_options_follow_the_accelerator(void)
{
	struct vm_config tcg = config(VM_ACCEL_TCG), kvm = config(VM_ACCEL_KVM);
	auto_free char *a = build(&tcg, &view), *b = build(&kvm, &view);

	REQUIRE(a && b);
	HAS(a, "-accel tcg,");
	HAS(a, "tsc_early_khz=2500000");
	HAS(a, "no_timer_check tsc=reliable");
	HAS(a, "-cpu Nehalem,-spec-ctrl,+arat");
	HAS(a, ",pit=off ");
	HAS(b, "-accel kvm ");
	HAS(b, "-cpu host ");
	HAS_NOT(b, "tsc_early_khz");
	HAS_NOT(b, "no_timer_check");
	HAS_NOT(b, "tsc=reliable");
	HAS_NOT(b, "Nehalem");
	HAS_NOT(b, "pit=off");
	HAS_NOT(b, "tcg");
}

static void every_vm_is_shut_in(void)
{
	for (enum vm_accel accel = VM_ACCEL_TCG; accel < VM_ACCEL_MAX; accel++) {
		struct vm_config c = config(accel);
		auto_free char *line = build(&c, &view);

		REQUIRE(line);
		HAS(line,
			"-sandbox "
			"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
		HAS(line, "-nodefaults -no-user-config -no-reboot");
		HAS(line, "reboot=t panic=-1");
		HAS(line, "-M microvm,");
		HAS(line, "memory-backend-ram,id=ram,size=1024M");
		HAS(line, "-m 1024M");
		HAS(line, "-smp 2 ");
		HAS(line, "name=micropod.agent");
		HAS_NOT(line, "-netdev");
		HAS_NOT(line, "vsock");
	}
}

static void slots_are_root_ports(void)
{
	struct vm_config c = config(VM_ACCEL_TCG);
	auto_free char *none = build(&c, &view), *two = NULL, *own = NULL;

	c.slots = 2;
	two = build(&c, &view);
	c.ram = VM_RAM_OWN;
	c.state_fd = 7;
	own = build(&c, &view);
	REQUIRE(none && two && own);
	HAS_NOT(none, "pci");
	HAS(two, ",pcie=on");
	HAS(two, " pcie_ports=native");
	HAS(two, "-device pcie-root-port,id=slot0,bus=pcie.0,chassis=1,slot=1 ");
	HAS(two, "-device pcie-root-port,id=slot1,bus=pcie.0,chassis=1,slot=2 ");
	HAS(own, "id=ram,size=1024M,share=on,mem-path=/ram ");
	c.slots = LIMIT_VM_SLOTS + 1;
	CHECK_INT(refused(&c), -EINVAL);
}

static void plugin_only_if_there_is_one(void)
{
	struct vm_config c = config(VM_ACCEL_TCG);
	struct qemu_view with = view;
	auto_free char *without = build(&c, &view), *line = NULL;

	with.trim = "/a,b/trim.so";
	with.trim_fd = 8;
	line = build(&c, &with);
	REQUIRE(line && without);
	HAS(line, "-plugin file=/a,,b/trim.so,fd=8 ");
	HAS_NOT(without, "-plugin");
}

static void memory_lies_where_it_is_wanted(void)
{
	struct vm_config c = config(VM_ACCEL_TCG);
	auto_free char *boots = NULL, *saved = NULL, *goes_on = NULL;

	c.ram_path = "/somewhere/ram";
	c.ram = VM_RAM_SHARED;
	saved = build(&c, &view);
	c.ram = VM_RAM_PRIVATE;
	c.state_fd = 7;
	goes_on = build(&c, &view);
	REQUIRE(saved && goes_on);
	HAS(saved, "memory-backend-file,id=ram,size=1024M,share=on,mem-path=/ram ");
	HAS_NOT(saved, "-incoming");
	HAS(goes_on, "memory-backend-file,id=ram,size=1024M,share=off,mem-path=/ram ");
	HAS(goes_on, "-incoming defer ");
	HAS(goes_on, "virtio-balloon-device,free-page-reporting=on ");
}

static void disks_report_errors(void)
{
	struct vm_config c = config(VM_ACCEL_TCG);
	auto_free char *line = NULL;

	c.disks[0] = (struct vm_disk){ "a", "image", true };
	c.disks[1] = (struct vm_disk){ "b", "scratch", false };
	c.n_disks = 2;
	line = build(&c, &view);
	REQUIRE(line);
	HAS(line, "node-name=disk0,read-only=on,discard=ignore,file.driver=file,file.aio=threads,"
		  "file.filename=/disk/0 ");
	HAS(line, "drive=disk0,serial=image,werror=report,rerror=report");
	HAS(line, "node-name=disk1,read-only=off,discard=unmap,");
	HAS(line, "drive=disk1,serial=scratch,werror=report,rerror=report");
	HAS_NOT(line, "disk2");
}

static void agent_rootfs_is_one_more_disk(void)
{
	struct vm_config c = config(VM_ACCEL_TCG);
	auto_free char *with = NULL, *without = NULL;

	c.disks[0] = (struct vm_disk){ "a", "image", true };
	c.n_disks = 1;
	c.agent_rootfs = "root.ext4";
	with = build(&c, &view);
	REQUIRE(with);
	HAS(with, "node-name=disk1,read-only=on,");
	HAS(with, "serial=agentroot,");
	HAS(with, "micropod.root=agentroot");
	HAS(with, "-initrd /initramfs");
	c.initramfs = NULL;
	without = build(&c, &view);
	REQUIRE(without);
	HAS(without, "root=/dev/vdb ro rootfstype=ext4 init=/sbin/init");
	HAS_NOT(without, "-initrd");
}

static void network_by_descriptor(void)
{
	struct vm_config c = config(VM_ACCEL_TCG);
	struct qemu_view v = view;
	auto_free char *line = NULL;

	c.net_fd = 40;
	memcpy(c.mac, "\x52\x55\x0a\x00\x02\x0f", 6);
	v.net_fd = 6;
	line = build(&c, &v);
	REQUIRE(line);
	HAS(line, "stream,id=net,server=off,addr.type=fd,addr.str=6 ");
	HAS(line, "mac=52:55:0a:00:02:0f");
}

/* Eight virtio-mmio slots are there without a second interrupt controller. */
static void many_devices_get_slots(void)
{
	struct vm_config c = config(VM_ACCEL_TCG);
	struct qemu_view v = view;
	auto_free char *few = NULL, *many = NULL;

	for (unsigned i = 0; i < LIMIT_DISKS; i++) {
		c.disks[i] = (struct vm_disk){ "d", "s", true };
		v.disks[i] = "/d";
	}
	/* Beside the port, the random numbers and the balloon. */
	c.n_disks = 5;
	few = build(&c, &v);
	c.n_disks = 6;
	many = build(&c, &v);
	REQUIRE(few && many);
	HAS_NOT(few, "ioapic2");
	HAS(many, "ioapic2=on");
}

static void commas_do_not_add_options(void)
{
	struct vm_config c = config(VM_ACCEL_TCG);
	struct qemu_view v = view;
	auto_free char *line = NULL;

	v.disks[0] = "/a,readonly=off";
	c.disks[0] = (struct vm_disk){ "a", "image", true };
	c.n_disks = 1;
	line = build(&c, &v);
	REQUIRE(line);
	HAS(line, "file.filename=/a,,readonly=off ");
}

static void wrong_configs_are_refused(void)
{
	static char long_line[4096];
	struct vm_config good = config(VM_ACCEL_TCG), c;

	memset(long_line, 'x', sizeof(long_line) - 1);
	CHECK_INT(refused(&good), 0);
	c = good, c.accel = VM_ACCEL_AUTO;
	CHECK_INT(refused(&c), -EINVAL);
	c = good, c.memory = MIB;
	CHECK_INT(refused(&c), -EINVAL);
	c = good, c.memory = 2 * TIB;
	CHECK_INT(refused(&c), -EINVAL);
	c = good, c.cpus = 0;
	CHECK_INT(refused(&c), -EINVAL);
	c = good, c.cpus = 65;
	CHECK_INT(refused(&c), -EINVAL);
	c = good, c.kernel = NULL;
	CHECK_INT(refused(&c), -EINVAL);
	c = good, c.initramfs = NULL;
	CHECK_INT(refused(&c), -EINVAL);
	c = good, c.n_disks = LIMIT_DISKS + 1;
	CHECK_INT(refused(&c), -EINVAL);
	c = good, c.cmdline = long_line;
	CHECK_INT(refused(&c), -E2BIG);
	c = good, c.n_disks = 1;
	c.disks[0] = (struct vm_disk){ "a", "x,werror=stop", true };
	CHECK_INT(refused(&c), -EINVAL);
	c.disks[0].serial = "twenty-one characters";
	CHECK_INT(refused(&c), -EINVAL);
	c.disks[0].serial = "";
	CHECK_INT(refused(&c), -EINVAL);
}

TEST_MAIN(TEST(clock_options_follow_the_accelerator), TEST(every_vm_is_shut_in),
	TEST(slots_are_root_ports), TEST(plugin_only_if_there_is_one),
	TEST(memory_lies_where_it_is_wanted), TEST(disks_report_errors),
	TEST(agent_rootfs_is_one_more_disk), TEST(network_by_descriptor),
	TEST(many_devices_get_slots), TEST(commas_do_not_add_options),
	TEST(wrong_configs_are_refused))
