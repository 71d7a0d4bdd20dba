/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: facts are gathered, then judged in one table-like function, so that every cause has
 * its remedy in one place. That a guest did not boot is a fact too: it is kept in
 * state_dir/accel.json under the boot id, so that a new kernel or another host starts with a clean
 * sheet.
 */
#include "driver/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/kvm.h>
#include <pwd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#define HAVE_TSC 1
#endif

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/parse.h"
#include "base/proc.h"

#define VERDICT_FILE	   "accel.json"
#define LIMIT_VERDICT_FILE 4096
#define LIMIT_CPUINFO	   (4 * MIB)

static const char *const names[VM_ACCEL_MAX] = {
	[VM_ACCEL_AUTO] = "auto",
	[VM_ACCEL_TCG] = "tcg",
	[VM_ACCEL_KVM] = "kvm",
};

int accel_parse(const char *word, enum vm_accel *ret_accel)
{
	for (size_t i = 0; i < VM_ACCEL_MAX; i++)
		if (strcmp(word, names[i]) == 0) {
			*ret_accel = (enum vm_accel)i;
			return 0;
		}
	return -EINVAL;
}

const char *accel_name(enum vm_accel accel)
{
	return accel < VM_ACCEL_MAX ? names[accel] : "unknown";
}

/* Whether the first "flags" line of /proc/cpuinfo has the word. */
static bool cpu_has(const char *word)
{
	auto_free char *text = NULL;
	size_t len = strlen(word);
	char *line, *end;

	if (fs_read_file(AT_FDCWD, "/proc/cpuinfo", LIMIT_CPUINFO, &text, NULL) < 0)
		return false;
	line = strstr(text, "\nflags");
	if (!line)
		return false;
	end = strchr(line + 1, '\n');
	if (end)
		*end = 0;
	for (char *p = strstr(line, word); p; p = strstr(p + 1, word))
		if (p[-1] == ' ' && (p[len] == ' ' || p[len] == 0))
			return true;
	return false;
}

static void probe_kvm(struct accel_facts *f)
{
	auto_close int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = -1;

	f->cpu_flag = cpu_has("vmx") || cpu_has("svm");
	if (kvm < 0) {
		f->open_error = errno;
		return;
	}
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		f->vm_error = ENOTSUP;
		return;
	}
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		f->vm_error = errno;
}

static void name_user(struct accel_facts *f)
{
	struct passwd *pw = getpwuid(geteuid());

	if (pw)
		snprintf(f->user, sizeof(f->user), "%s", pw->pw_name);
	else
		snprintf(f->user, sizeof(f->user), "%u", (unsigned)geteuid());
}

static int read_verdict(const char *state_dir, struct accel_facts *f)
{
	auto_free char *path = NULL, *text = NULL;
	const char *boot, *why;
	char boot_id[37];
	int works = 1, r;
	json_t *root;

	if (asprintf(&path, "%s/%s", state_dir, VERDICT_FILE) < 0)
		return -ENOMEM;
	r = fs_read_file(AT_FDCWD, path, LIMIT_VERDICT_FILE, &text, NULL);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = proc_boot_id(boot_id);
	if (r < 0)
		return r;
	root = json_loads(text, 0, NULL);
	/* A damaged file says nothing; the next record replaces it. */
	if (root &&
		json_unpack(root, "{s:s,s:b,s:s}", "boot_id", &boot, "kvm_works", &works, "why",
			&why) == 0 &&
		!works && strcmp(boot, boot_id) == 0) {
		f->failed_before = true;
		snprintf(f->why_before, sizeof(f->why_before), "%s", why);
	}
	json_decref(root);
	return 0;
}

void accel_judge(const struct accel_facts *f, struct accel_verdict *ret_verdict)
{
	struct accel_verdict v = { .accel = VM_ACCEL_TCG };
	char cause[256];

	if (f->open_error == ENOENT || f->open_error == ENXIO || f->open_error == ENODEV)
		snprintf(cause, sizeof(cause), "there is no usable /dev/kvm: %s",
			f->cpu_flag ? "load the module (sudo modprobe kvm_intel, or kvm_amd)"
				    : "switch virtualisation on in the firmware, or nested "
				      "virtualisation in the hypervisor");
	else if (f->open_error == EACCES || f->open_error == EPERM)
		snprintf(cause, sizeof(cause),
			"no access to /dev/kvm: sudo usermod -aG kvm %s, then log in again",
			f->user);
	else if (f->open_error)
		snprintf(cause, sizeof(cause), "/dev/kvm does not open: %s",
			strerror(f->open_error));
	else if (!f->cpu_flag)
		snprintf(cause, sizeof(cause),
			"/dev/kvm is there but the CPU shows neither vmx nor svm: switch nested "
			"virtualisation on in the hypervisor");
	else if (f->vm_error)
		snprintf(cause, sizeof(cause),
			"/dev/kvm makes no VM (%s): is another hypervisor running?",
			strerror(f->vm_error));
	else if (f->failed_before)
		snprintf(cause, sizeof(cause),
			"a VM did not boot under it since this host started (%.100s): --accel kvm "
			"tries again",
			f->why_before);
	else
		v.accel = VM_ACCEL_KVM;
	if (v.accel != VM_ACCEL_KVM)
		snprintf(v.notice, sizeof(v.notice),
			"KVM is not used: %s. VMs are emulated (TCG): slower, and QEMU promises "
			"isolation only with KVM, so its "
			"confinement is the wall",
			cause);
	*ret_verdict = v;
}

int accel_choose(const char *state_dir, enum vm_accel wanted, struct accel_verdict *ret_verdict,
	struct err *err)
{
	struct accel_facts facts = { 0 };
	int r;

	if (wanted != VM_ACCEL_AUTO) {
		*ret_verdict = (struct accel_verdict){ .accel = wanted };
		return 0;
	}
	r = read_verdict(state_dir, &facts);
	if (r < 0)
		return err_errno(err, -r, "cannot read %s/%s", state_dir, VERDICT_FILE);
	probe_kvm(&facts);
	name_user(&facts);
	accel_judge(&facts, ret_verdict);
	return 0;
}

int accel_record(const char *state_dir, bool kvm_works, const char *why, struct err *err)
{
	auto_free char *path = NULL, *text = NULL;
	char boot_id[37];
	json_t *root;
	int r = proc_boot_id(boot_id);

	if (r < 0)
		return err_errno(err, -r, "cannot read the boot id");
	root = json_pack(
		"{s:s,s:b,s:s}", "boot_id", boot_id, "kvm_works", kvm_works, "why", why ? why : "");
	text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	json_decref(root);
	if (!text || asprintf(&path, "%s/%s", state_dir, VERDICT_FILE) < 0)
		return err_errno(err, ENOMEM, "cannot record the verdict on KVM");
	r = fs_replace_file(AT_FDCWD, path, text, strlen(text), 0600, false);
	return r < 0 ? err_errno(err, -r, "cannot write '%s'", path) : 0;
}

#ifdef HAVE_TSC
/* A moment on both clocks: the closest of a few tries, so that an interruption in between does not
 * count. */
static void sample(int64_t *ret_ns, uint64_t *ret_tsc)
{
	int64_t best = INT64_MAX;

	for (int i = 0; i < 8; i++) {
		int64_t before = clock_now(CLOCK_MONOTONIC_RAW);
		uint64_t tsc = __rdtsc();
		int64_t after = clock_now(CLOCK_MONOTONIC_RAW);

		if (after - before < best) {
			best = after - before;
			*ret_ns = before + best / 2;
			*ret_tsc = tsc;
		}
	}
}

uint64_t accel_tsc_khz(void)
{
	struct timespec interval = { .tv_nsec = 10 * NSEC_PER_MSEC };
	uint64_t tsc_a, tsc_b;
	int64_t ns_a, ns_b;

	if (!cpu_has("constant_tsc"))
		return 0;
	sample(&ns_a, &tsc_a);
	nanosleep(&interval, NULL);
	sample(&ns_b, &tsc_b);
	return (uint64_t)((double)(tsc_b - tsc_a) * 1e6 / (double)(ns_b - ns_a) + 0.5);
}
#else
uint64_t accel_tsc_khz(void)
{
	return 0;
}
#endif

/* "BOOT-ID KHZ". 0; -ENOENT: not there, of another boot, or damaged; -errno. */
static int read_tsc(const char *path, const char *boot_id, uint64_t *ret_khz)
{
	auto_free char *text = NULL;
	size_t len = strlen(boot_id);
	int r = fs_read_file(AT_FDCWD, path, 128, &text, NULL);

	if (r < 0)
		return r == -EFBIG ? -ENOENT : r;
	text[strcspn(text, "\n")] = 0;
	if (strncmp(text, boot_id, len) != 0 || text[len] != ' ' ||
		parse_u64(text + len + 1, 0, UINT64_MAX, ret_khz) < 0)
		return -ENOENT;
	return 0;
}

int accel_tsc_of_boot(const char *state_dir, uint64_t *ret_khz, struct err *err)
{
	auto_free char *path = NULL, *lock_path = NULL;
	auto_close int lock = -1;
	char boot_id[37], line[64];
	int n, r = proc_boot_id(boot_id);

	if (r < 0)
		return err_errno(err, -r, "cannot read the boot id");
	if (asprintf(&path, "%s/cache/tsc", state_dir) < 0 ||
		asprintf(&lock_path, "%s.lock", path) < 0)
		return err_errno(err, ENOMEM, "cannot find out the rate of the TSC");
	r = read_tsc(path, boot_id, ret_khz);
	if (r != -ENOENT)
		return r < 0 ? err_errno(err, -r, "cannot read '%s'", path) : 0;
	/* Of those that come at the same time one measures. */
	lock = fs_lock(AT_FDCWD, lock_path, true, true);
	if (lock < 0)
		return err_errno(err, -lock, "cannot lock '%s'", lock_path);
	if (read_tsc(path, boot_id, ret_khz) == 0)
		return 0;
	*ret_khz = accel_tsc_khz();
	n = snprintf(line, sizeof(line), "%s %llu\n", boot_id, (unsigned long long)*ret_khz);
	r = fs_replace_file(AT_FDCWD, path, line, (size_t)n, 0600, false);
	return r < 0 ? err_errno(err, -r, "cannot write '%s'", path) : 0;
}
