/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/lockdown.h"
#include "base/proc.h"
#include "cli/output.h"
#include "driver/accel.h"
#include "driver/driver.h"
#include "driver/virtiofsd.h"
#include "sandbox/guest.h"
#include "sandbox/template.h"

#define SPACE_WARN (4 * GIB)
#define SPACE_FAIL (256 * MIB)

static const char *const state_words[] = {
	[DOCTOR_OK] = "ok", [DOCTOR_WARN] = "warn", [DOCTOR_FAIL] = "fail"
};
static_assert(ARRAY_SIZE(state_words) == DOCTOR_STATE_MAX, "a word for each state");

const char *doctor_state_name(enum doctor_state state)
{
	return state_words[state];
}

static enum doctor_state PRINTF(3, 4)
	say(char *detail, enum doctor_state state, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(detail, LIMIT_ERR_MESSAGE, fmt, ap);
	va_end(ap);
	return state;
}

static enum doctor_state check_kvm(struct cli *cli, char *detail)
{
	struct accel_verdict verdict;
	struct err err = ERR_INIT;

	if (accel_choose(cli->root->path, VM_ACCEL_AUTO, &verdict, &err) < 0)
		return say(detail, DOCTOR_WARN, "%s", err.msg);
	if (verdict.accel == VM_ACCEL_KVM)
		return say(detail, DOCTOR_OK, "KVM is used");
	return say(detail, DOCTOR_WARN, "%s", verdict.notice);
}

static enum doctor_state check_qemu(struct cli *cli, char *detail)
{
	auto_strbuf struct strbuf can = STRBUF_INIT;
	auto_free char *version = NULL;
	struct err err = ERR_INIT;

	const char *vmm = cli->settings.vmm;

	/* Perhaps the word for another. */
	if (driver_table[0]->probe(vmm && vmm_kind_find(vmm) ? NULL : vmm, &version, &err) < 0)
		return say(detail, DOCTOR_FAIL, "%s", err.msg);
	vmm_abilities(driver_table[0]->kind->abilities, &can);
	return say(detail, DOCTOR_OK, "%s: %s", version, can.data);
}

static enum doctor_state check_other_vmm(unsigned which, const char *wanted, char *detail)
{
	const struct vmm_kind *kind = &vmm_kinds[which];
	auto_strbuf struct strbuf can = STRBUF_INIT;
	auto_free char *version = NULL;
	struct err err = ERR_INIT;

	vmm_abilities(kind->abilities, &can);
	if (vmm_probe(kind, wanted, &version, &err) < 0)
		return say(detail, DOCTOR_OK, "not used (--vmm %s; it has %s): %.120s", kind->word,
			can.data, err.msg);
	return say(detail, DOCTOR_OK, "%s: %s", version, can.data);
}

static enum doctor_state check_firecracker(struct cli *cli, char *detail)
{
	return check_other_vmm(VMM_FIRECRACKER, cli->settings.firecracker, detail);
}

static enum doctor_state check_cloud_hypervisor(struct cli *cli, char *detail)
{
	return check_other_vmm(VMM_CLOUD_HYPERVISOR, cli->settings.cloud_hypervisor, detail);
}

static int try_user_namespace(void *arg, struct err *err)
{
	return unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0
		       ? err_errno(err, errno, "cannot make a user namespace")
		       : 0;
}

static enum doctor_state check_user_namespaces(struct cli *cli, char *detail)
{
	struct err err = ERR_INIT;

	if (proc_call(try_user_namespace, NULL, deadline_in(5 * NSEC_PER_SEC), &err) < 0)
		return say(detail, DOCTOR_FAIL, "%s", err.msg);
	return say(detail, DOCTOR_OK, "can be made");
}

static enum doctor_state check_landlock(struct cli *cli, char *detail)
{
	int abi = lockdown_landlock_abi();

	if (abi <= 0)
		return say(detail, DOCTOR_WARN,
			"this kernel has none: QEMU is confined by namespaces and seccomp only");
	return say(detail, DOCTOR_OK, "ABI %d", abi);
}

static enum doctor_state check_skopeo(struct cli *cli, char *detail)
{
	static const char *const argv[] = { "skopeo", "--version", NULL };
	auto_free char *out = NULL;
	struct err err = ERR_INIT;

	if (proc_run(argv, 4096, &out, &err) < 0)
		return say(detail, DOCTOR_FAIL, "%s", err.msg);
	out[strcspn(out, "\n")] = 0;
	return say(detail, DOCTOR_OK, "%s", out);
}

static enum doctor_state check_virtiofsd(struct cli *cli, char *detail)
{
	auto_free char *program = NULL;
	struct err err = ERR_INIT;

	if (virtiofsd_find(&program, &err) < 0)
		return say(detail, DOCTOR_WARN, "%s", err.msg);
	return say(detail, DOCTOR_OK, "%s", program);
}

static enum doctor_state check_programs(struct cli *cli, char *detail)
{
	static const char *const names[] = { "micropod-shim", "micropod-net", "micropod-trim.so",
		"prepare-guest" };
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		auto_free char *path = NULL;

		if (sandbox_program(names[i], &path, &err) < 0)
			return say(detail, DOCTOR_FAIL, "%s", err.msg);
		if (access(path, X_OK) < 0)
			return say(detail, DOCTOR_FAIL, "cannot execute '%s': %s", path,
				strerror(errno));
	}
	return say(detail, DOCTOR_OK,
		"micropod-shim, micropod-net, micropod-trim.so and prepare-guest are there");
}

static enum doctor_state check_guest(struct cli *cli, char *detail)
{
	struct sandbox_guest guest = { 0 };
	struct err err = ERR_INIT;
	enum doctor_state state = DOCTOR_OK;
	int r = sandbox_guest_current(cli->root, NULL, &guest, &err);

	if (r == -ENOENT)
		return say(detail, DOCTOR_WARN, "not prepared yet");
	if (r < 0)
		return say(detail, DOCTOR_FAIL, "%s", err.msg);
	if (access(guest.kernel, R_OK) < 0 || access(guest.initramfs, R_OK) < 0)
		state = say(detail, DOCTOR_FAIL, "cannot read '%s' or '%s'", guest.kernel,
			guest.initramfs);
	else
		say(detail, DOCTOR_OK, "kernel %s", guest.version);
	sandbox_guest_deinit(&guest);
	return state;
}

/* Whether a line of /etc/subuid or /etc/subgid is for this user. */
static bool has_range(const char *file, const char *user, uid_t uid)
{
	auto_free char *text = NULL;
	char number[16];
	char *line, *rest;

	snprintf(number, sizeof(number), "%u", uid);
	if (fs_read_file(AT_FDCWD, file, MIB, &text, NULL) < 0)
		return false;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		size_t len = strcspn(line, ":");

		if ((strlen(user) == len && strncmp(line, user, len) == 0) ||
			(strlen(number) == len && strncmp(line, number, len) == 0))
			return true;
	}
	return false;
}

static const char *user_name(void)
{
	const struct passwd *pw = getpwuid(geteuid());

	return pw ? pw->pw_name : "";
}

static enum doctor_state check_subids(struct cli *cli, char *detail)
{
	const char *user = user_name();

	if (geteuid() == 0)
		return say(detail, DOCTOR_OK, "not needed by root");
	if (has_range("/etc/subuid", user, geteuid()) && has_range("/etc/subgid", user, geteuid()))
		return say(detail, DOCTOR_OK, "there for user '%s'", user);
	return say(detail, DOCTOR_WARN,
		"user '%s' has none: sandboxes work, images cannot be built from a root file "
		"system here",
		user);
}

static enum doctor_state check_disk_space(struct cli *cli, char *detail)
{
	uint64_t bytes;
	char size[32];
	int r = fs_free_bytes(cli->root->path, &bytes);

	if (r < 0)
		return say(detail, DOCTOR_FAIL, "cannot look at '%s': %s", cli->root->path,
			strerror(-r));
	say(detail, DOCTOR_OK, "%s free in '%.300s'", output_size(bytes, size, sizeof(size)),
		cli->root->path);
	return bytes < SPACE_FAIL ? DOCTOR_FAIL : bytes < SPACE_WARN ? DOCTOR_WARN : DOCTOR_OK;
}

static enum doctor_state check_run_folder(struct cli *cli, char *detail)
{
	struct err err = ERR_INIT;

	if (sandbox_root_make_run(cli->root, &err) < 0)
		return say(detail, DOCTOR_FAIL, "%s", err.msg);
	sandbox_root_drop_run(cli->root);
	if (geteuid() != 0 && strncmp(cli->root->run, "/tmp/", 5) == 0)
		return say(detail, DOCTOR_WARN,
			"'%s': without XDG_RUNTIME_DIR sockets lie in /tmp, where cleaners may "
			"take them",
			cli->root->run);
	return say(detail, DOCTOR_OK, "'%s'", cli->root->run);
}

/* logind removes /run/user/UID, and with KillUserProcesses the processes, when the last session of
 * a user ends. */
static enum doctor_state check_logout(struct cli *cli, char *detail)
{
	char path[300];

	if (geteuid() == 0 || access("/run/systemd/system", F_OK) < 0)
		return say(detail, DOCTOR_OK, "sandboxes survive it");
	snprintf(path, sizeof(path), "/var/lib/systemd/linger/%.200s", user_name());
	if (access(path, F_OK) == 0)
		return say(
			detail, DOCTOR_OK, "sandboxes survive it: user '%s' lingers", user_name());
	return say(detail, DOCTOR_WARN, "sandboxes of user '%s' end with the last session",
		user_name());
}

static enum doctor_state check_vsock(struct cli *cli, char *detail)
{
	auto_close int fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);

	return say(detail, DOCTOR_OK,
		fd >= 0 ? "by the kernel, for those who set enable_vsock"
			: "by micropod itself (no usable /dev/vhost-vsock), for those who set "
			  "enable_vsock");
}

/* Every template, every byte. */
static enum doctor_state check_templates(struct cli *cli, char *detail)
{
	struct template_info *infos = NULL;
	struct err err = ERR_INIT;
	uint64_t bytes = 0;
	char size[32];
	size_t n = 0, damaged = 0;

	if (template_list(cli->root, &infos, &n, &err) < 0)
		return say(detail, DOCTOR_WARN, "%s", err.msg);
	for (size_t i = 0; i < n; i++) {
		struct err why = ERR_INIT;

		bytes += infos[i].bytes;
		if (template_verify(cli->root, infos[i].key, &why) < 0) {
			damaged++;
			err = why;
		}
		template_info_deinit(&infos[i]);
	}
	free(infos);
	if (damaged)
		return say(detail, DOCTOR_WARN, "%s", err.msg);
	if (!n)
		return say(detail, DOCTOR_OK, "none yet: the first run makes one");
	return say(detail, DOCTOR_OK, "%zu, %s", n, output_size(bytes, size, sizeof(size)));
}

const struct doctor_finding doctor_table[] = {
	{ "kvm",
		"see what the line says; without KVM guests run emulated, several times slower, "
		"and QEMU promises no isolation",
		check_kvm },
	{ "qemu", "install QEMU (on Debian: apt install qemu-system-x86), or name it with --vmm",
		check_qemu },
	{ "firecracker", "nothing to do: QEMU is used unless another VMM is asked for",
		check_firecracker },
	{ "cloud-hypervisor", "nothing to do: QEMU is used unless another VMM is asked for",
		check_cloud_hypervisor },
	{ "programs",
		"install micropod again, or set MICROPOD_LIBEXEC to the folder of its programs",
		check_programs },
	{ "guest", "run micropod setup (the first run does it by itself)", check_guest },
	{ "templates", "nothing to do: the next run boots and makes it anew", check_templates },
	{ "skopeo", "install skopeo (on Debian: apt install skopeo)", check_skopeo },
	{ "virtiofsd", "install it: without it there are no volumes (-v)", check_virtiofsd },
	{ "user-namespaces",
		"allow them: sysctl -w kernel.unprivileged_userns_clone=1 "
		"user.max_user_namespaces=15000",
		check_user_namespaces },
	{ "landlock", "use a kernel from 5.13 on, with landlock among its lsm= modules",
		check_landlock },
	{ "subids",
		"give the user ranges: usermod --add-subuids 100000-165535 --add-subgids "
		"100000-165535 USER",
		check_subids },
	{ "disk-space", "make room: micropod prune, or another --root", check_disk_space },
	{ "run-folder",
		"log in with a session that sets XDG_RUNTIME_DIR, or check who owns the folder",
		check_run_folder },
	{ "logout", "let the user linger: loginctl enable-linger", check_logout },
	{ "vsock", "nothing to do", check_vsock },
	{ NULL },
};
