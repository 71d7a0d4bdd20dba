/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/proc.h"
#include "base/strv.h"

const char *guest_kind(const struct cli *cli)
{
	const char *kernel = cli->settings.kernel;

	return kernel && sandbox_guest_is_kind(kernel) ? kernel : NULL;
}

int guest_prepare(struct cli *cli, bool quiet, bool update, struct err *err)
{
	auto_free char *program = NULL;
	auto_strv struct strv argv = STRV_INIT;
	struct proc_opts opts = { .stdin_fd = -1,
		.stdout_fd = STDERR_FILENO,
		.stderr_fd = STDERR_FILENO,
		.die_with_parent = true };
	const char *kind = guest_kind(cli);
	int status, r = sandbox_program("prepare-guest", &program, err);
	pid_t pid;

	if (r < 0)
		return r;
	if (strv_add(&argv, program) < 0 || (!quiet && strv_add(&argv, "--progress") < 0) ||
		(update && strv_add(&argv, "--update") < 0) ||
		(kind && strv_addf(&argv, "--kind=%s", kind) < 0) ||
		strv_add(&argv, cli->root->path) < 0)
		return err_errno(err, ENOMEM, "cannot prepare kernel and guest");
	opts.path = program;
	opts.argv = strv_items(&argv);
	r = proc_spawn(&opts, &pid, NULL, err);
	if (r < 0)
		return err_wrap(err, "cannot prepare kernel and guest");
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_errno(err, errno, "cannot wait for prepare-guest");
	/* It has said why, on stderr. */
	if (status != 0)
		return err_set(err, EIO,
			"cannot prepare kernel and guest below '%s/guest': prepare-guest failed "
			"with status %d (see above)",
			cli->root->path, proc_exit_code(status));
	return 0;
}

int guest_ensure(struct cli *cli, bool quiet, struct err *err)
{
	struct sandbox_guest guest = { 0 };
	struct err why = ERR_INIT;
	int r = sandbox_guest_current(cli->root, guest_kind(cli), &guest, &why);

	if (r == 0) {
		sandbox_guest_deinit(&guest);
		return 0;
	}
	if (r != -ENOENT)
		return err_set(err, -r, "%s: run micropod setup", why.msg);
	if (!quiet)
		fprintf(stderr,
			"micropod: the first run prepares kernel and guest below '%s/guest'\n",
			cli->root->path);
	return guest_prepare(cli, quiet, false, err);
}
