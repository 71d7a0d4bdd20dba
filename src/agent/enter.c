/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works, in an order that matters:
 *   1. every descriptor but stdio, the report and the pidfd is closed, so that no path of the
 * container leads to one of the agent's (CVE-2024-21626);
 *   2. cgroups, rlimits and the OOM score, while there are rights and the agent's /proc and /sys;
 *   3. the namespaces, all at once by the pidfd; the root is the container's from here on;
 *   4. session, terminal, user (names are the container's: a file that hangs is ended by the
 * agent's deadline);
 *   5. the working folder, and proof that it lies below this root: the kernel calls a folder that
 * does not
 *      "(unreachable)" (getcwd(2));
 *   6. bounding set, groups, user, capabilities. Without no_new_privs the filter needs
 * CAP_SYS_ADMIN, which is therefore given up only after it; with it the filter comes last;
 *   7. the program, looked up in the PATH it will have, by attempts: what the kernel says is what
 * counts. Until execve(2) the process is not dumpable (inherited from the agent): nobody in the
 * container can trace it or follow links in its /proc folder, and its /proc/PID/exe is the agent's
 * sealed memfd (CVE-2019-5736).
 */
#include "agent/enter.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "agent/keeper.h"
#include "agent/userfiles.h"
#include "agent/worker.h"
#include "base/cleanup.h"
#include "base/fd.h"

#define REPORT_FD     ENTER_REPORT_FD
#define PIDFD_FD      4
#define FIRST_FREE_FD 5
#define DEFAULT_PATH  "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static int failed(struct failure *f, const char *step, const char *object, int code)
{
	return failure_set(f, FAILURE_SPAWN, code, step, object, "cannot %s%s%s: %s", step,
		*object ? " " : "", object, strerror(code));
}

#define TRY(call, step, object)                                \
	do {                                                   \
		int try_ = (int)(call);                        \
		if (try_ < 0)                                  \
			return failed(f, step, object, errno); \
	} while (0)

int enter_send(const struct enter_report *report, int fd_to_pass)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)report, sizeof(*report) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd_to_pass >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd_to_pass, sizeof(int));
	}
	return sendmsg(REPORT_FD, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int enter_receive(int sock, struct enter_report *ret_report, int *ret_fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { ret_report, sizeof(*ret_report) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *c;

	*ret_fd = -1;
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (n == 0)
		return 0;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return n == (ssize_t)sizeof(*ret_report) ? 1 : -EPROTO;
}

/* Step 1. Sources are first moved above the numbers that are given out. */
static int arrange_fds(
	const struct process *p, const struct exec_target *t, int report, struct failure *f)
{
	int from[FIRST_FREE_FD] = { p->io.child[0], p->io.child[1], p->io.child[2], report,
		t->self ? report : t->pidfd };

	for (int i = 0; i < FIRST_FREE_FD; i++) {
		if (from[i] < 0)
			from[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (from[i] >= 0)
			from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 64);
		if (from[i] < 0)
			return failed(f, "arrange descriptors", "", errno);
	}
	for (int i = 0; i < FIRST_FREE_FD; i++)
		TRY(dup3(from[i], i, i < REPORT_FD ? 0 : O_CLOEXEC), "arrange descriptors", "");
	child_close_fds(FIRST_FREE_FD, NULL, 0);
	if (t->self)
		close(PIDFD_FD);
	return 0;
}

/* Step 2 */
int enter_set_limits(const struct exec_settings *s, struct failure *f)
{
	char score[16];
	int fd;

	snprintf(score, sizeof(score), "%d", s->oom_score_adj);
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	TRY(fd < 0 ? -1 : write(fd, score, strlen(score)), "set the OOM score", score);
	close(fd);
	for (size_t i = 0; i < s->n_rlimits; i++) {
		const struct oci_rlimit *l = &s->rlimits[i];
		struct rlimit lim = { .rlim_cur = (rlim_t)l->soft, .rlim_max = (rlim_t)l->hard };

		TRY(setrlimit(l->resource, &lim), "set", oci_rlimit_name(l->resource));
	}
	return 0;
}

static int join_cgroups(const struct exec_target *t, struct failure *f)
{
	int r = cgroup_join_v1(t->cgroup);

	return r < 0 ? failed(f, "join the cgroup", "", -r) : 0;
}

/* Step 3 */
static int join_namespaces(const struct exec_target *t, struct failure *f)
{
	int flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP;
	struct stat own, its;
	char path[48];

	/* Joining one's own user namespace is an error, so it is left out when both are the same.
	 */
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)t->pid);
	TRY(stat("/proc/self/ns/user", &own), "look at", "/proc/self/ns/user");
	TRY(stat(path, &its), "look at the container's user namespace", "");
	if (own.st_ino != its.st_ino)
		flags |= CLONE_NEWUSER;
	TRY(setns(PIDFD_FD, flags), "join the container's namespaces", "");
	close(PIDFD_FD);
	umask(022);
	return 0;
}

/* Step 4 */
int enter_terminal(const struct process *p, struct failure *f)
{
	struct enter_report report = { .kind = ENTER_REPORT_TTY };
	struct winsize size = { .ws_row = (unsigned short)p->rows,
		.ws_col = (unsigned short)p->columns };
	int unlock = 0, slave, r,
	    master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	TRY(master, "open", "/dev/ptmx");
	TRY(ioctl(master, TIOCSPTLCK, &unlock), "unlock a terminal of", "/dev/ptmx");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	TRY(slave, "open the other end of", "/dev/ptmx");
	if (p->rows && p->columns)
		TRY(ioctl(slave, TIOCSWINSZ, &size), "set the terminal's size", "");
	TRY(ioctl(slave, TIOCSCTTY, 0), "take the terminal", "");
	r = enter_send(&report, master);
	if (r < 0)
		return failed(f, "hand over the terminal", "", -r);
	close(master);
	for (int i = 0; i < 3; i++)
		TRY(dup2(slave, i), "arrange descriptors", "");
	close(slave);
	return 0;
}

static bool has_env(const struct strv *env, const char *key)
{
	size_t len = strlen(key);

	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->v[i], key, len) == 0 && env->v[i][len] == '=')
			return true;
	return false;
}

/* With the own group among the others: else leaving it would shed what the group is denied
 * (CVE-2022-36109). */
static int add_own_group(struct oci_user *user)
{
	for (size_t i = 0; i < user->n_groups; i++)
		if (user->groups[i] == user->gid)
			return 0;
	if (user->n_groups == OCI_GROUPS_MAX)
		return -E2BIG;
	user->groups[user->n_groups++] = user->gid;
	return 0;
}

int enter_find_user(struct exec_settings *s, struct failure *f)
{
	struct err err = ERR_INIT;
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), r;

	TRY(root, "open", "/");
	r = s->by_name ? userfiles_lookup(root, &s->user_words, &s->user, &err)
		       : userfiles_home(root, &s->user, &err);
	close(root);
	if (r < 0)
		return failure_set(f, FAILURE_SPAWN, err.code, "find the user",
			s->by_name ? s->user_words.v[0] : "", "%s", err.msg);
	if (s->by_name && add_own_group(&s->user) < 0)
		return failed(f, "set groups", "", E2BIG);
	if (!has_env(&s->env, "HOME") && strv_addf(&s->env, "HOME=%s", s->user.home) < 0)
		return failed(f, "set", "HOME", ENOMEM);
	/* What /dev/stdout leads to must be the user's to open. */
	for (int i = 0; i < 3; i++) {
		struct stat st;

		if (fstat(i, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(i)))
			TRY(fchown(i, s->user.uid, (gid_t)-1), "give the user its stdio", "");
	}
	return 0;
}

/* Step 5 */
int enter_change_folder(const struct exec_settings *s, struct failure *f)
{
	char here[PATH_MAX];
	const char *cwd = s->cwd && *s->cwd ? s->cwd : "/";
	long n;

	TRY(chdir(cwd), "change to", cwd);
	n = syscall(SYS_getcwd, here, sizeof(here));
	TRY(n, "find out about", cwd);
	if (here[0] != '/')
		return failure_set(f, FAILURE_SPAWN, EPERM, "change to", cwd,
			"cannot change to %s: it lies outside the container", cwd);
	return 0;
}

/* Step 6 */
static int set_caps(uint64_t permitted, uint64_t effective, uint64_t inheritable)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];

	for (int i = 0; i < 2; i++)
		d[i] = (struct __user_cap_data_struct){ .permitted =
								(uint32_t)(permitted >> 32 * i),
			.effective = (uint32_t)(effective >> 32 * i),
			.inheritable = (uint32_t)(inheritable >> 32 * i) };
	return (int)syscall(SYS_capset, &head, d);
}

static int own_permitted(uint64_t *ret_caps)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &head, d) < 0)
		return -1;
	*ret_caps = d[0].permitted | (uint64_t)d[1].permitted << 32;
	return 0;
}

static int become_user(const struct exec_settings *s, struct failure *f)
{
	for (unsigned cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (!(s->bounding >> cap & 1))
			TRY(prctl(PR_CAPBSET_DROP, cap), "drop capabilities", "");
	TRY(prctl(PR_SET_KEEPCAPS, 1), "keep capabilities", "");
	TRY(setgroups(s->user.n_groups, s->user.groups), "set groups", "");
	TRY(setresgid(s->user.gid, s->user.gid, s->user.gid), "set the group", "");
	TRY(setresuid(s->user.uid, s->user.uid, s->user.uid), "set the user", "");
	TRY(prctl(PR_SET_KEEPCAPS, 0), "keep capabilities", "");
	return 0;
}

static int load_filter(const struct exec_settings *s, struct failure *f)
{
	struct sock_fprog prog = { .len = (unsigned short)(s->seccomp_len /
							   sizeof(struct sock_filter)),
		.filter = s->seccomp };
	int r = s->seccomp ? oci_seccomp_load(&prog) : 0;

	return r < 0 ? failed(f, "load the seccomp filter", "", -r) : 0;
}

int enter_drop_rights(const struct exec_settings *s, struct failure *f)
{
	const uint64_t admin = (uint64_t)1 << CAP_SYS_ADMIN;
	uint64_t have, permitted, effective, ambient;
	int r;

	TRY(own_permitted(&have), "read capabilities", "");
	permitted = s->permitted & have;
	effective = s->effective & permitted;
	ambient = s->ambient & permitted & s->inheritable;
	r = become_user(s, f);
	if (r < 0)
		return r;
	if (!s->no_new_privileges && s->seccomp) {
		TRY(set_caps(permitted | (admin & have), effective | (admin & have),
			    s->inheritable & have),
			"set capabilities", "");
		r = load_filter(s, f);
		if (r < 0)
			return r;
	}
	TRY(set_caps(permitted, effective, s->inheritable & have), "set capabilities", "");
	for (unsigned cap = 0; ambient && cap < 64; cap++)
		if (ambient >> cap & 1)
			TRY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0),
				"set ambient capabilities", "");
	if (!s->no_new_privileges)
		return 0;
	TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs", "");
	return load_filter(s, f);
}

/* What execve(2) of a program without capabilities of its own takes from who is not root: a tool is
 * no program, and must not keep it. capabilities(7). 0 or -errno. */
static int lose_what_exec_takes(void)
{
	uint64_t ambient = 0;

	if (geteuid() == 0)
		return 0;
	for (unsigned cap = 0; cap < 64; cap++)
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
			ambient |= UINT64_C(1) << cap;
	return set_caps(ambient, ambient, ambient);
}

/* Step 7 */
int enter_execute(const struct process *p, const struct exec_settings *s, struct failure *f)
{
	const char *file = p->args.v[0], *path = DEFAULT_PATH;
	int code = ENOENT;
	char full[PATH_MAX];

	if (p->tool && lose_what_exec_takes() < 0)
		return failed(f, "set capabilities", "", errno);
	if (p->tool) {
		/* As execve(2) would: that it is closed says that it runs. */
		close(REPORT_FD);
		_exit(p->tool(&p->args));
	}
	for (size_t i = 0; i < s->env.n; i++)
		if (strncmp(s->env.v[i], "PATH=", 5) == 0)
			path = s->env.v[i] + 5;
	if (strchr(file, '/')) {
		execve(file, p->args.v, strv_items(&s->env));
		return failed(f, "execute", file, errno);
	}
	while (path && *file) {
		size_t len = strcspn(path, ":");

		if ((size_t)snprintf(full, sizeof(full), "%.*s%s%s",
			    len ? (int)MIN(len, sizeof(full)) : 1, len ? path : ".", "/",
			    file) < sizeof(full)) {
			execve(full, p->args.v, strv_items(&s->env));
			/* As execvp(3): go on after what may be elsewhere; remember a denial. */
			if (errno == EACCES)
				code = EACCES;
			else if (errno != ENOENT && errno != ENOTDIR)
				return failed(f, "execute", file, errno);
		}
		path = path[len] ? path + len + 1 : NULL;
	}
	if (code == ENOENT)
		return failure_set(f, FAILURE_SPAWN, ENOENT, "execute", file,
			"cannot execute %s: not found in PATH", file);
	return failed(f, "execute", file, code);
}

static int enter(const struct process *p, struct exec_settings *s, const struct exec_target *t,
	int report, struct failure *f)
{
	int r = arrange_fds(p, t, report, f);

	if (r == 0 && !t->self) {
		r = join_cgroups(t, f);
		if (r == 0)
			r = enter_set_limits(s, f);
		if (r == 0)
			r = join_namespaces(t, f);
	}
	if (r == 0 && t->kept && (r = keeper_start()) < 0)
		r = failed(f, "start a keeper", "", -r);
	if (r < 0)
		return r;
	TRY(setsid(), "start a session", "");
	if (p->io.tty)
		r = enter_terminal(p, f);
	if (r == 0)
		r = enter_find_user(s, f);
	if (r == 0)
		r = enter_change_folder(s, f);
	if (r == 0 && !s->as_is)
		r = enter_drop_rights(s, f);
	return r < 0 ? r : enter_execute(p, s, f);
}

_Noreturn void enter_main(const struct process *p, const struct exec_settings *s,
	const struct exec_target *t, int report)
{
	struct enter_report out = { .kind = ENTER_REPORT_FAILURE };
	struct exec_settings own = *s; /* what is changed in it is this process' copy */

	child_reset_signals();
	enter(p, &own, t, report, &out.failure);
	enter_send(&out, -1);
	_exit(127);
}
