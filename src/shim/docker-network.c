/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks by name. One that is there is used, and stays; one that is not is made with the sandbox,
 * says by a label whose it is, and goes with the last sandbox of this root that wants it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "http/http.h"
#include "shim/docker.h"

bool docker_network_is_named(const struct sandbox_config *c)
{
	/* What the engine means by these is no network, or one that is always there. */
	static const char *const special[] = { "default", "bridge", "host", "none", "nat" };

	if (!c->network || c->no_network || strncmp(c->network, "container:", 10) == 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(special); i++)
		if (strcmp(c->network, special[i]) == 0)
			return false;
	return true;
}

int docker_network_path(const struct sandbox_config *c, struct strbuf *out)
{
	strbuf_adds(out, "/networks/");
	http_escape(out, c->network);
	return strbuf_error(out);
}

json_t *docker_network_body(const struct sandbox_config *c)
{
	return json_pack("{s:s, s:s, s:b, s:{s:s}}", "Name", c->network, "Driver", "bridge",
		"CheckDuplicate", 1, "Labels", DOCKER_NETWORK_LABEL, c->network);
}

/* The engine itself looks whether anybody uses it, and whether it is one of ours. */
int docker_network_prune_path(const struct sandbox_config *c, struct strbuf *out)
{
	json_t *filters = json_pack(
		"{s:[o]}", "label", json_sprintf("%s=%s", DOCKER_NETWORK_LABEL, c->network));
	auto_free char *text = filters ? json_dumps(filters, JSON_COMPACT) : NULL;

	json_decref(filters);
	if (!text)
		return -ENOMEM;
	strbuf_adds(out, "/networks/prune?filters=");
	http_escape(out, text);
	return strbuf_error(out);
}

bool docker_network_is_wanted(struct sandbox_root *root, const struct sandbox_config *c)
{
	auto_strv struct strv ids = STRV_INIT;
	struct err err = ERR_INIT;
	bool wanted = false;

	if (sandbox_list(root, &ids, &err) < 0)
		return true; /* better one too many */
	for (size_t i = 0; i < ids.n && !wanted; i++) {
		struct sandbox box = { 0 };

		if (strcmp(ids.v[i], c->id) == 0 || sandbox_load(root, ids.v[i], &box, &err) < 0)
			continue;
		wanted = box.config.network && box.config.engine &&
			 strcmp(box.config.network, c->network) == 0 &&
			 strcmp(box.config.engine, c->engine) == 0;
		sandbox_deinit(&box);
	}
	return wanted;
}
