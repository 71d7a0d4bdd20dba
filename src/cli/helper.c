/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "cli/start.h"

#define LIFETIME   (3600 * NSEC_PER_SEC) /* of one that is left over */
#define START_TIME 120			 /* s */
#define MEMORY	   GIB
#define CPU_MILLI  2000

/* Copies, so that what the guest does to it, were it only the journal's recovery, is the helper's.
 */
static int copy_scratch(const char *path, uint64_t bytes, void *arg, struct err *err)
{
	auto_close int from = open(arg, O_RDONLY | O_CLOEXEC);
	auto_close int to = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = from < 0 || to < 0 ? -errno : fd_copy_sparse(from, to);

	return r < 0 ? err_errno(err, -r, "cannot copy the writable layer") : 0;
}

static int copy_string(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

/* The same machine and image, and no program. */
static int make_config(const struct sandbox_config *of, struct sandbox_config *c)
{
	const struct {
		char **to;
		const char *from;
	} strings[] = {
		{ &c->image, of->image },
		{ &c->image_digest, of->image_digest },
		{ &c->image_disk, of->image_disk },
		{ &c->image_tree, of->image_tree },
		{ &c->vmm, of->vmm_kind ? NULL : of->vmm }, /* it needs what QEMU has */
		{ &c->kernel, of->kernel },
		{ &c->kernel_kind, of->kernel_kind },
		{ &c->initramfs, of->initramfs },
		{ &c->agent_rootfs, of->agent_rootfs },
		{ &c->reach, "nowhere" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		if (copy_string(strings[i].to, strings[i].from) < 0)
			return -ENOMEM;
	snprintf(c->name, sizeof(c->name), "files-of-%.*s", ID_SHOWN_LEN, of->id);
	c->pause = c->detached = c->limit_removes = true;
	c->lifetime_ns = LIFETIME;
	c->slots = of->image_tree != NULL;
	c->memory = MEMORY;
	c->cpu_milli = CPU_MILLI;
	c->accel = of->accel;
	c->cold = of->cold;
	c->template_limit = of->template_limit;
	c->scratch_bytes = of->scratch_bytes;
	random_bytes(c->mac, sizeof(c->mac));
	c->mac[0] = (uint8_t)((c->mac[0] & 0xfc) | 0x02);
	return 0;
}

static int start(struct cli *cli, const struct sandbox_config *c, struct err *err)
{
	const struct sandbox_start_opts opts = {
		.timeout_s = START_TIME, .detached = true, .log_level = LOG_LEVEL_INFO
	};
	int code;

	return sandbox_start(cli->root, c->id, &opts, &code, err);
}

static int make(struct cli *cli, const struct sandbox_config *of, struct helper *h, struct err *err)
{
	auto_free char *scratch = sandbox_path(cli->root, of->id, "scratch.img");
	struct sandbox_config c = { 0 };
	struct err ignored = ERR_INIT;
	int r = scratch ? make_config(of, &c) : -ENOMEM;

	if (r < 0)
		err_errno(err, -r, "cannot look into sandbox '%s'", of->name);
	if (r == 0)
		r = sandbox_create(cli->root, &c, copy_scratch, scratch, err);
	if (r == 0)
		r = start(cli, &c, err);
	if (r == 0)
		r = sandbox_load(cli->root, c.id, &h->box, err);
	/* In messages it is the one whose files these are. */
	if (r == 0)
		memcpy(h->box.config.name, of->name, sizeof(of->name));
	if (r < 0 && c.id[0])
		sandbox_remove(cli->root, c.id, true, &ignored);
	sandbox_config_deinit(&c);
	return r < 0 ? err_wrap(err, "cannot look into sandbox '%s'", of->name) : 0;
}

int helper_open(
	struct cli *cli, const char *word, bool write, struct helper *ret_helper, struct err *err)
{
	struct helper h = { .lock = -1 };
	struct sandbox box = { 0 };
	int r = target_load(cli, word, &box, err);

	if (r < 0)
		return r;
	memcpy(h.of, box.config.id, sizeof(h.of));
	/* What an engine runs is the engine's to look into; what is elsewhere, that host's. */
	if (target_alive(&box) || box.config.engine || cli->remote) {
		h.box = box;
		*ret_helper = h;
		return 0;
	}
	h.lock = sandbox_lock(cli->root, box.config.id, err);
	r = h.lock < 0 ? h.lock : make(cli, &box.config, &h, err);
	sandbox_deinit(&box);
	/* A copy is all that a reader needs. */
	if (r < 0 || !write)
		h.lock = safe_close(h.lock);
	h.made = true;
	if (r == 0)
		*ret_helper = h;
	return r;
}

/* The helper's layer in the place of the sandbox': the one or the other, whatever happens. */
static int keep_layer(struct cli *cli, const struct helper *h, struct err *err)
{
	auto_free char *from = sandbox_path(cli->root, h->box.config.id, "scratch.img");
	auto_free char *to = sandbox_path(cli->root, h->of, "scratch.img");

	if (!from || !to)
		return err_errno(err, ENOMEM, "cannot keep what was written");
	return rename(from, to) < 0 ? err_errno(err, errno, "cannot keep what was written") : 0;
}

static int end(struct cli *cli, struct helper *h, bool keep, struct err *err)
{
	const struct stop_opts opts = { 0 };
	int r = 0;

	/* All is on the disk when it has stopped. */
	if (keep)
		r = stop_box(cli, h->box.config.id, &opts, err);
	if (keep && r == 0)
		r = keep_layer(cli, h, err);
	return r;
}

int helper_close(struct cli *cli, struct helper *h, bool keep, struct err *err)
{
	struct err ignored = ERR_INIT;
	int r = h->made ? end(cli, h, keep && h->lock >= 0, err) : 0;

	if (h->made)
		sandbox_remove(cli->root, h->box.config.id, true, &ignored);
	sandbox_deinit(&h->box);
	h->lock = safe_close(h->lock);
	return r;
}
