/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/trace.h"
#include "driver/virtiofsd.h"
#include "shim/vm.h"

static void on_exit_status(struct loop_child *child, int wstatus)
{
	struct shim_share *share = container_of(child, struct shim_share, child);
	struct shim *shim = share->shim;
	struct err err = ERR_INIT;

	share->pid = 0;
	/* It leaves with its VM, whose own end says more, and comes next. */
	if (shim->ending || shim->falling_back || shim->gone || wstatus == 0)
		return;
	/* The guest waits for its answers for ever: better an end that is told. */
	err_set(&err, EIO, "what serves the volume '%.200s' (virtiofsd) died (status %d)",
		share->source, proc_exit_code(wstatus));
	shim_lost(shim, err.msg);
}

static int make_table(struct shim *shim)
{
	const struct strv *words = &shim->box.config.volumes;
	size_t n = words->n / SANDBOX_VOLUME_WORDS;
	char *tree = shim->box.config.image_tree;

	if (shim->shares)
		return 0;
	shim->shares = calloc(n + 2, sizeof(*shim->shares));
	if (!shim->shares)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		char *const *w = &words->v[i * SANDBOX_VOLUME_WORDS];
		struct shim_share *share = &shim->shares[i];

		*share = (struct shim_share){ .shim = shim,
			.source = w[0],
			.target = w[1],
			.read_only = strcmp(w[2], "ro") == 0,
			.socket = -1 };
		snprintf(share->tag, sizeof(share->tag), "volume%u", (unsigned)i % LIMIT_VM_SHARES);
	}
	shim->n_volumes = shim->n_shares = n;
	if (tree)
		shim->shares[shim->n_shares++] = (struct shim_share){ .shim = shim,
			.source = tree,
			.read_only = true,
			.socket = -1,
			.tag = SHIM_ROOT_TAG };
	return 0;
}

/* For who counts what the sandbox costs. */
static int note_process(struct shim *shim, pid_t pid)
{
	uint64_t start = 0;

	proc_start_time(pid, &start);
	return strv_addf(&shim->box.state.helpers, "%d %llu", (int)pid, (unsigned long long)start);
}

static int start_one(struct shim *shim, struct shim_share *share, struct err *err)
{
	const struct virtiofsd_config config = { .source = share->source,
		.read_only = share->read_only,
		.run_dir = shim->run_dir,
		.log_fd = 2 };
	int pidfd, r = virtiofsd_start(
			   &config, &share->pid, &pidfd, &share->socket, &share->file, err);

	if (r < 0)
		return r;
	r = loop_child_add(shim->loop, &share->child, share->pid, pidfd, on_exit_status);
	if (r < 0)
		safe_close(pidfd);
	else
		r = note_process(shim, share->pid);
	return r < 0 ? err_errno(err, -r, "cannot watch virtiofsd") : 0;
}

int shim_start_shares(struct shim *shim, struct err *err)
{
	int r = make_table(shim);

	if (r < 0)
		return err_errno(err, -r, "cannot share the volumes");
	for (size_t i = 0; r == 0 && i < shim->n_shares; i++)
		r = start_one(shim, &shim->shares[i], err);
	return r;
}

void shim_stop_shares(struct shim *shim)
{
	for (size_t i = 0; i < shim->n_shares; i++) {
		struct shim_share *share = &shim->shares[i];

		share->socket = safe_close(share->socket);
		if (share->pid <= 0)
			continue;
		loop_child_remove(&share->child);
		kill(share->pid, SIGKILL);
		waitpid(share->pid, NULL, 0);
		share->pid = 0;
	}
	strv_deinit(&shim->box.state.helpers);
}

struct plugging {
	struct shim *shim;
	size_t next;
	void (*done)(struct shim *shim);
};

static void plug_next(struct plugging *p);

static void on_plugged(const struct err *err, void *arg)
{
	struct plugging *p = arg;
	struct shim *shim = p->shim;
	struct shim_share *share = &shim->shares[p->next];
	struct err why = ERR_INIT;

	share->socket = safe_close(share->socket);
	/* The VM's end, if it is that, is told by itself. */
	if (shim->ending || shim->gone) {
		free(p);
		return;
	}
	if (err) {
		why = *err;
		err_wrap(&why, "cannot share '%s' with the VM", share->source);
		free(p);
		shim_fail(shim, 125, &why);
		return;
	}
	p->next++;
	plug_next(p);
}

static void plug_next(struct plugging *p)
{
	struct shim *shim = p->shim;

	if (p->next < shim->n_shares) {
		struct shim_share *share = &shim->shares[p->next];

		shim->driver->share(shim->vm, share->tag, share->socket,
			MIN(shim->start_deadline, deadline_in(SHIM_CALL_DEADLINE)), on_plugged, p);
		return;
	}
	if (shim->n_shares)
		trace_step("volumes plugged in");
	p->done(shim);
	free(p);
}

void shim_plug_shares(struct shim *shim, void (*done)(struct shim *shim))
{
	struct plugging *p = calloc(1, sizeof(*p));
	struct err err = ERR_INIT;

	if (!p) {
		err_errno(&err, ENOMEM, "cannot share the volumes");
		shim_fail(shim, 125, &err);
		return;
	}
	p->shim = shim;
	p->done = done;
	plug_next(p);
}
