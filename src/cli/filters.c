/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/filters.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "cli/labels.h"
#include "cli/target.h"
#include "sandbox/volume.h"

/* A key or KEY=VALUE of a label. */

/* ROOT/volumes/NAME/_data */
static bool is_volume(const char *path, const char *name)
{
	size_t len = strlen(path), tail = strlen(name) + strlen("/volumes//" VOLUME_DATA);
	auto_free char *end = NULL;

	if (asprintf(&end, "/volumes/%s/" VOLUME_DATA, name) < 0)
		end = NULL;
	return end && len > tail && strcmp(path + len - tail, end) == 0;
}

/* A volume's name, a place in the container, or what is there. */
static bool has_volume(const struct strv *volumes, const char *value)
{
	for (size_t i = 0; i + SANDBOX_VOLUME_WORDS <= volumes->n; i += SANDBOX_VOLUME_WORDS)
		if (strcmp(volumes->v[i], value) == 0 || strcmp(volumes->v[i + 1], value) == 0 ||
			is_volume(volumes->v[i], value))
			return true;
	return false;
}

static bool by_ancestor(const struct sandbox *box, const char *value)
{
	const char *image = box->config.image ? box->config.image : "";
	const char *digest = box->config.image_digest ? box->config.image_digest : "";
	const char *hex = strchr(digest, ':');
	size_t len = strlen(value);

	return strcmp(image, value) == 0 || strcmp(digest, value) == 0 ||
	       (len >= 4 && hex && strncmp(hex + 1, value, len) == 0) ||
	       (strncmp(image, value, len) == 0 && image[len] == ':');
}

static bool by_exit(const struct sandbox *box, const char *value)
{
	char code[16];

	snprintf(code, sizeof(code), "%d", box->state.exit_code);
	return box->state.phase == SANDBOX_EXITED && strcmp(code, value) == 0;
}

static bool by_health(const struct sandbox *box, const char *value)
{
	return strcmp(box->state.health[0] ? box->state.health : "none", value) == 0;
}

static bool by_id(const struct sandbox *box, const char *value)
{
	return strncmp(box->config.id, value, strlen(value)) == 0;
}

static bool by_label(const struct sandbox *box, const char *value)
{
	return labels_have(&box->config.labels, value);
}

/* A part of it, as Docker has it. */
static bool by_name(const struct sandbox *box, const char *value)
{
	return strstr(box->config.name, value) != NULL;
}

static bool by_network(const struct sandbox *box, const char *value)
{
	const struct sandbox_config *c = &box->config;

	return strcmp(c->no_network ? "none" : c->network ? c->network : "default", value) == 0;
}

static bool by_status(const struct sandbox *box, const char *value)
{
	return strcmp(target_state(box), value) == 0;
}

static bool by_volume(const struct sandbox *box, const char *value)
{
	return has_volume(&box->config.volumes, value);
}

static const struct {
	const char *key;
	bool (*matches)(const struct sandbox *box, const char *value);
} filters_known[] = {
	{ "ancestor", by_ancestor },
	{ "exited", by_exit },
	{ "health", by_health },
	{ "id", by_id },
	{ "label", by_label },
	{ "name", by_name },
	{ "network", by_network },
	{ "status", by_status },
	{ "volume", by_volume },
};

static size_t find(const char *word)
{
	size_t i = 0, len = strcspn(word, "=");

	while (i < ARRAY_SIZE(filters_known) &&
		(strlen(filters_known[i].key) != len ||
			strncmp(filters_known[i].key, word, len) != 0))
		i++;
	return word[len] ? i : ARRAY_SIZE(filters_known);
}

static bool is_state(const char *value)
{
	for (int p = 0; p < SANDBOX_PHASE_MAX; p++)
		if (strcmp(value, sandbox_phase_name((enum sandbox_phase)p)) == 0)
			return true;
	return strcmp(value, "paused") == 0;
}

int filters_check(const struct strv *filters, struct err *err)
{
	int64_t code;

	for (size_t i = 0; i < filters->n; i++) {
		const char *word = filters->v[i];

		if (find(word) == ARRAY_SIZE(filters_known))
			return err_set(err, EINVAL,
				"option '--filter' is '%.100s': give KEY=VALUE with one of "
				"ancestor, exited, health, id, label, name, network, status and "
				"volume",
				word);
		if (strncmp(word, "status=", 7) == 0 && !is_state(word + 7))
			return err_set(err, EINVAL,
				"option '--filter' is '%.100s': there is no such status", word);
		if (strncmp(word, "exited=", 7) == 0 && parse_i64(word + 7, 0, 255, &code) < 0)
			return err_set(err, EINVAL,
				"option '--filter' is '%.100s': give an exit code, 0 to 255", word);
	}
	return 0;
}

bool filters_match(const struct strv *filters, const struct sandbox *box)
{
	for (size_t k = 0; k < ARRAY_SIZE(filters_known); k++) {
		bool asked = false, any = false;

		for (size_t i = 0; i < filters->n; i++) {
			if (find(filters->v[i]) != k)
				continue;
			asked = true;
			any |= filters_known[k].matches(box, strchr(filters->v[i], '=') + 1);
		}
		if (asked && !any)
			return false;
	}
	return true;
}

bool filters_ask_for_ended(const struct strv *filters)
{
	for (size_t i = 0; i < filters->n; i++)
		if (strncmp(filters->v[i], "status=", 7) == 0 ||
			strncmp(filters->v[i], "exited=", 7) == 0)
			return true;
	return false;
}
