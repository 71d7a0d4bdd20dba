/* SPDX-License-Identifier: Apache-2.0 */
/* One more layer on an image, and the configuration that goes with it (OCI image-spec, config.md,
 * manifest.md). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/strbuf.h"
#include "image/json.h"
#include "image/ref.h"
#include "image/store.h"

#define TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define TYPE_CONFIG   "application/vnd.oci.image.config.v1+json"
#define TYPE_LAYER    "application/vnd.oci.image.layer.v1.tar"
#define CHUNK	      (256 * KIB)

struct image_commit {
	struct image_store *store;
	int lock;
	struct store_temp temp;
};

struct image_commit *image_commit_free(struct image_commit *c)
{
	if (!c)
		return NULL;
	store_temp_deinit(&c->temp);
	safe_close(c->lock);
	free(c);
	return NULL;
}

int image_commit_new(
	struct image_store *store, struct image_commit **ret_commit, int *ret_fd, struct err *err)
{
	auto_clean(image_commit) struct image_commit *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(err, ENOMEM, "out of memory");
	c->store = store;
	c->temp = STORE_TEMP_INIT;
	/* Its blobs have no image before the end. */
	c->lock = store_lock(store, "store", "all", false, NULL, NULL, err);
	if (c->lock < 0)
		return c->lock;
	r = store_temp_open(store, &c->temp, err);
	if (r < 0)
		return r;
	*ret_fd = c->temp.fd;
	*ret_commit = take_ptr(c);
	return 0;
}

/* Changes, as a Dockerfile has them */

/* ["a", "b"], or words for a shell. NULL: no memory, or no JSON though it looks like it. */
static json_t *command(const char *text)
{
	json_t *list;

	if (*text != '[')
		return json_pack("[s, s, s]", "/bin/sh", "-c", text);
	list = json_loads(text, 0, NULL);
	for (size_t i = 0; list && i < json_array_size(list); i++)
		if (!json_is_string(json_array_get(list, i))) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* KEY=VALUE (or KEY VALUE) in the place of what has that key. */
static int set_env(json_t *config, const char *text)
{
	size_t len = strcspn(text, "= ");
	json_t *list = json_object_get(config, "Env");

	if (!len || !text[len])
		return -EINVAL;
	if (!json_is_array(list)) {
		list = json_array();
		json_object_set_new(config, "Env", list);
	}
	for (size_t i = json_array_size(list); i-- > 0;) {
		const char *old = json_string_value(json_array_get(list, i));

		if (old && strncmp(old, text, len) == 0 && old[len] == '=')
			json_array_remove(list, i);
	}
	return json_array_append_new(
		       list, json_sprintf("%.*s=%s", (int)len, text, text + len + 1)) < 0
		       ? -EINVAL
		       : 0;
}

static json_t *object_in(json_t *config, const char *key)
{
	json_t *o = json_object_get(config, key);

	if (json_is_object(o))
		return o;
	json_object_set_new(config, key, json_object());
	return json_object_get(config, key);
}

static int set_label(json_t *config, const char *text)
{
	const char *equals = strchr(text, '=');
	auto_free char *key = equals ? strndup(text, (size_t)(equals - text)) : NULL;

	return !key || !*key ? -EINVAL
	       : json_object_set_new(object_in(config, "Labels"), key, json_string(equals + 1)) < 0
		       ? -EINVAL
		       : 0;
}

/* Each word is a key of the set. */
static int add_words(json_t *config, const char *set, const char *text, const char *tail)
{
	auto_free char *copy = strdup(text);
	char *save = NULL;
	int r = copy ? 0 : -ENOMEM;

	for (char *w = copy ? strtok_r(copy, " \t", &save) : NULL; w && r == 0;
		w = strtok_r(NULL, " \t", &save)) {
		auto_free char *key = NULL;

		if (asprintf(&key, "%s%s", w, strchr(w, '/') ? "" : tail) < 0) {
			key = NULL;
			return -ENOMEM;
		}
		if (json_object_set_new(object_in(config, set), key, json_object()) < 0)
			r = -EINVAL;
	}
	return r;
}

static int set_volumes(json_t *config, const char *text)
{
	auto_json json_t *list = *text == '[' ? command(text) : NULL;
	int r = 0;

	if (*text != '[')
		return add_words(config, "Volumes", text, "");
	for (size_t i = 0; list && r == 0 && i < json_array_size(list); i++)
		r = json_object_set_new(object_in(config, "Volumes"),
			    json_string_value(json_array_get(list, i)), json_object()) < 0
			    ? -EINVAL
			    : 0;
	return list ? r : -EINVAL;
}

static int apply_change(json_t *config, const char *change)
{
	static const struct {
		const char *word, *key;
	} plain[] = { { "USER", "User" }, { "WORKDIR", "WorkingDir" },
		{ "STOPSIGNAL", "StopSignal" } },
	  commands[] = { { "CMD", "Cmd" }, { "ENTRYPOINT", "Entrypoint" } };
	size_t len = strcspn(change, " \t");
	const char *rest = change + len + strspn(change + len, " \t");
	char word[16];

	if (!len || len >= sizeof(word) || !*rest)
		return -EINVAL;
	for (size_t i = 0; i <= len; i++)
		word[i] = (char)(change[i] >= 'a' && change[i] <= 'z' ? change[i] - 32 : change[i]);
	word[len] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		if (strcmp(word, plain[i].word) == 0)
			return json_object_set_new(config, plain[i].key, json_string(rest)) < 0
				       ? -EINVAL
				       : 0;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(word, commands[i].word) == 0)
			return json_object_set_new(config, commands[i].key, command(rest)) < 0
				       ? -EINVAL
				       : 0;
	if (strcmp(word, "ENV") == 0)
		return set_env(config, rest);
	if (strcmp(word, "LABEL") == 0)
		return set_label(config, rest);
	if (strcmp(word, "EXPOSE") == 0)
		return add_words(config, "ExposedPorts", rest, "/tcp");
	if (strcmp(word, "VOLUME") == 0)
		return set_volumes(config, rest);
	return -EINVAL;
}

int image_change_check(const char *change, struct err *err)
{
	auto_json json_t *scratch = json_object();

	return apply_change(scratch, change) < 0
		       ? err_set(err, EINVAL,
				 "option '--change' is '%.100s': give one of CMD, ENTRYPOINT, ENV, "
				 "EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR, and what a "
				 "Dockerfile has behind it",
				 change)
		       : 0;
}

/* The configuration */

static json_t *strings(const struct strv *words)
{
	json_t *list = json_array();

	for (size_t i = 0; i < words->n; i++)
		json_array_append_new(list, json_string(words->v[i]));
	return list;
}

/* What the container was given: its command behind the image's entrypoint, if that is in front. */
static void set_process(json_t *config, const struct image_commit_opts *o)
{
	const json_t *entry = json_object_get(config, "Entrypoint");
	size_t n = json_array_size(entry), i = 0;
	struct strv rest;

	while (i < n && i < o->args->n &&
		strcmp(json_string_value(json_array_get(entry, i)), o->args->v[i]) == 0)
		i++;
	if (i < n) {
		json_object_del(config, "Entrypoint");
		i = 0;
	}
	rest = (struct strv){ .v = o->args->v + i, .n = o->args->n - i };
	json_object_set_new(config, "Cmd", strings(&rest));
	json_object_set_new(config, "Env", strings(o->env));
}

static json_t *history(const struct image_commit_opts *o, const char *now)
{
	auto_strbuf struct strbuf line = STRBUF_INIT;
	json_t *step = json_pack("{s:s}", "created", now);

	for (size_t i = 0; i < o->args->n; i++)
		strbuf_addf(&line, "%s%s", i ? " " : "", o->args->v[i]);
	json_object_set_new(step, "created_by", json_string(line.len ? line.data : ""));
	if (o->author)
		json_object_set_new(step, "author", json_string(o->author));
	if (o->message)
		json_object_set_new(step, "comment", json_string(o->message));
	return step;
}

static int append(json_t *o, const char *key, json_t *value)
{
	json_t *list = json_object_get(o, key);

	if (!json_is_array(list)) {
		json_object_set_new(o, key, json_array());
		list = json_object_get(o, key);
	}
	return json_array_append_new(list, value);
}

static int make_config(struct image_commit *c, const struct image *base, const char *diff_id,
	const struct image_commit_opts *o, char **ret_text, struct err *err)
{
	auto_free char *text = NULL;
	auto_json json_t *root = NULL;
	time_t now = (time_t)(clock_realtime() / NSEC_PER_SEC);
	char when[32];
	struct tm tm;
	size_t len;
	int r = store_read_blob(c->store, base->id, &text, &len, err);

	if (r < 0)
		return r;
	root = json_loadb(text, len, 0, NULL);
	if (!json_is_object(root) || !json_is_object(json_object_get(root, "rootfs")))
		return err_set(
			err, EBADMSG, "the configuration of image %s is not valid", base->id);
	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	set_process(object_in(root, "config"), o);
	for (size_t i = 0; r == 0 && i < o->changes->n; i++)
		r = apply_change(object_in(root, "config"), o->changes->v[i]);
	if (r < 0)
		return err_set(err, EINVAL, "option '--change' is not valid");
	json_object_set_new(root, "created", json_string(when));
	if (o->author)
		json_object_set_new(root, "author", json_string(o->author));
	if (append(json_object_get(root, "rootfs"), "diff_ids", json_string(diff_id)) < 0 ||
		append(root, "history", history(o, when)) < 0)
		return err_set(err, EILSEQ, "a word of the sandbox is not UTF-8");
	*ret_text = json_dumps(root, JSON_COMPACT);
	return *ret_text ? 0 : err_set(err, ENOMEM, "out of memory");
}

/* The manifest */

/* Layers of Docker's own kind are the same bytes under another name. */
static json_t *as_oci(const json_t *layer)
{
	const char *type = json_string_value(json_object_get(layer, "mediaType"));

	if (!type || strncmp(type, "application/vnd.docker.", 23) == 0)
		type = TYPE_LAYER "+gzip";
	return json_pack("{s:s, s:O, s:O}", "mediaType", type, "digest",
		json_object_get(layer, "digest"), "size", json_object_get(layer, "size"));
}

static int make_manifest(struct image_commit *c, const struct image *base, const char *config,
	size_t config_len, const char *layer, uint64_t layer_size, char **ret_text, struct err *err)
{
	auto_free char *text = NULL;
	auto_json json_t *root = NULL, *out = NULL;
	json_t *layers = json_array(), *old;
	size_t len, i;
	int r = store_read_blob(c->store, base->manifest, &text, &len, err);

	out = json_pack("{s:i, s:s, s:{s:s, s:s, s:I}, s:o}", "schemaVersion", 2, "mediaType",
		TYPE_MANIFEST, "config", "mediaType", TYPE_CONFIG, "digest", config, "size",
		(json_int_t)config_len, "layers", layers);
	if (r < 0)
		return r;
	root = json_loadb(text, len, 0, NULL);
	json_array_foreach(json_object_get(root, "layers"), i, old)
		json_array_append_new(layers, as_oci(old));
	json_array_append_new(layers, json_pack("{s:s, s:s, s:I}", "mediaType", TYPE_LAYER,
					      "digest", layer, "size", (json_int_t)layer_size));
	*ret_text = out ? json_dumps(out, JSON_COMPACT) : NULL;
	return *ret_text ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int digest_file(int fd, char out[static DIGEST_SIZE], uint64_t *ret_size, struct err *err)
{
	auto_clean(digest) struct digest *d = digest_new();
	auto_free char *buf = malloc(CHUNK);
	off_t at = 0;
	ssize_t n;

	if (!d || !buf)
		return err_set(err, ENOMEM, "out of memory");
	while ((n = pread(fd, buf, CHUNK, at)) > 0) {
		digest_update(d, buf, (size_t)n);
		at += n;
	}
	if (n < 0)
		return err_errno(err, errno, "cannot read the layer");
	digest_finish(d, out);
	*ret_size = (uint64_t)at;
	return 0;
}

int image_commit_finish(struct image_commit *c, const struct image *base,
	const struct image_commit_opts *o, char ret_id[static DIGEST_SIZE], struct err *err)
{
	auto_clean(image) struct image *image = NULL;
	auto_image_ref struct image_ref ref = { 0 };
	auto_free char *config = NULL, *manifest = NULL;
	char layer[DIGEST_SIZE], manifest_digest[DIGEST_SIZE];
	uint64_t size = 0;
	int r = o->target ? image_ref_parse(o->target, &ref, err) : 0;

	if (r == 0)
		r = digest_file(c->temp.fd, layer, &size, err);
	if (r == 0)
		r = store_temp_commit(&c->temp, c->store->blobs, digest_hex(layer), 0400, err);
	/* It is not packed: what it unpacks to is itself. */
	if (r == 0)
		r = make_config(c, base, layer, o, &config, err);
	if (r == 0)
		r = store_put_blob(c->store, config, strlen(config), ret_id, err);
	if (r == 0)
		r = make_manifest(c, base, ret_id, strlen(config), layer, size, &manifest, err);
	if (r == 0)
		r = store_put_blob(c->store, manifest, strlen(manifest), manifest_digest, err);
	if (r == 0)
		r = store_make_image(c->store, ref.name, manifest_digest, &image, err);
	if (r < 0)
		return r;
	image->pulled = clock_realtime();
	return store_save(c->store, image, err);
}
