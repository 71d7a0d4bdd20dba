/* SPDX-License-Identifier: Apache-2.0 */
#include "image/manifest.h"

#include <string.h>

#include "base/limits.h"
#include "base/strbuf.h"
#include "image/json.h"

static const char *const layer_types[] = {
	"application/vnd.oci.image.layer.v1.tar",
	"application/vnd.oci.image.layer.v1.tar+gzip",
	"application/vnd.oci.image.layer.v1.tar+zstd",
	"application/vnd.oci.image.layer.nondistributable.v1.tar",
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
	"application/vnd.docker.image.rootfs.diff.tar",
	"application/vnd.docker.image.rootfs.diff.tar.gzip",
	"application/vnd.docker.image.rootfs.diff.tar.zstd",
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
};

static int bad(struct err *err, const char *why)
{
	return err_set(err, EBADMSG, "image manifest is not valid: %s", why);
}

static int copy_string(const json_t *obj, const char *key, char **ret_value)
{
	const char *s = json_string_value(json_object_get(obj, key));

	if (!s || !*s)
		return 0;
	*ret_value = strdup(s);
	return *ret_value ? 0 : -ENOMEM;
}

static int parse_descriptor(const json_t *obj, struct descriptor *d, struct err *err)
{
	const char *digest = json_string_value(json_object_get(obj, "digest"));
	const json_t *size = json_object_get(obj, "size"),
		     *platform = json_object_get(obj, "platform");

	if (!digest || !digest_valid(digest))
		return bad(err, "a descriptor has no sha256 digest");
	if (!json_is_integer(size) || json_integer_value(size) < 0 ||
		(uint64_t)json_integer_value(size) > LIMIT_LAYER_BYTES)
		return bad(err, "a descriptor has no size that can be");
	memcpy(d->digest, digest, DIGEST_SIZE);
	d->size = (uint64_t)json_integer_value(size);
	if (copy_string(platform, "architecture", &d->architecture) < 0 ||
		copy_string(platform, "os", &d->os) < 0 ||
		copy_string(platform, "variant", &d->variant) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

static int check_layer_type(const json_t *obj, struct err *err)
{
	const char *type = json_string_value(json_object_get(obj, "mediaType"));

	for (size_t i = 0; type && i < ARRAY_SIZE(layer_types); i++)
		if (strcmp(type, layer_types[i]) == 0)
			return 0;
	return err_set(err, EBADMSG,
		"the image has a layer of type '%.100s', which is not a file system layer",
		type ? type : "");
}

static int parse_items(const json_t *list, struct manifest *m, struct err *err)
{
	size_t n = json_array_size(list);
	int r;

	if (!json_is_array(list))
		return bad(err, m->is_index ? "manifests" : "layers");
	if (n > LIMIT_LAYERS)
		return err_set(err, E2BIG, "the image has %zu %s, at most %d can be used", n,
			m->is_index ? "variants" : "layers", LIMIT_LAYERS);
	m->items = calloc(n + 1, sizeof(*m->items));
	if (!m->items)
		return err_set(err, ENOMEM, "out of memory");
	m->n = n;
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_array_get(list, i);

		r = parse_descriptor(item, &m->items[i], err);
		if (r == 0 && !m->is_index)
			r = check_layer_type(item, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_root(const json_t *root, struct manifest *m, struct err *err)
{
	const json_t *version = json_object_get(root, "schemaVersion");
	int r;

	if (json_is_integer(version) && json_integer_value(version) == 1)
		return bad(err, "schema version 1 is no longer supported: push the image again "
				"with a current tool");
	if (!json_is_integer(version) || json_integer_value(version) != 2)
		return bad(err, "schemaVersion is not 2");
	m->is_index = json_object_get(root, "manifests") != NULL;
	if (m->is_index && (json_object_get(root, "layers") || json_object_get(root, "config")))
		return bad(err, "it is an index and a manifest at once"); /* CVE-2021-41190 */
	if (m->is_index)
		return parse_items(json_object_get(root, "manifests"), m, err);
	r = parse_descriptor(json_object_get(root, "config"), &m->config, err);
	if (r == 0 && m->config.size > LIMIT_MANIFEST)
		r = err_set(err, EFBIG, "image configuration has more than %zu bytes",
			(size_t)LIMIT_MANIFEST);
	return r < 0 ? r : parse_items(json_object_get(root, "layers"), m, err);
}

int manifest_parse(const char *json, size_t len, struct manifest *ret_manifest, struct err *err)
{
	auto_manifest struct manifest m = { 0 };
	auto_json json_t *root = NULL;
	json_error_t why;
	int r;

	if (len > LIMIT_MANIFEST)
		return err_set(err, EFBIG, "image manifest has more than %zu bytes",
			(size_t)LIMIT_MANIFEST);
	root = json_loadb(json, len, 0, &why);
	if (!root)
		return bad(err, why.text);
	r = parse_root(root, &m, err);
	if (r < 0)
		return r;
	*ret_manifest = m;
	m = (struct manifest){ 0 };
	return 0;
}

static void descriptor_deinit(struct descriptor *d)
{
	free(d->architecture);
	free(d->os);
	free(d->variant);
}

void manifest_deinit(struct manifest *m)
{
	descriptor_deinit(&m->config);
	for (size_t i = 0; i < m->n; i++)
		descriptor_deinit(&m->items[i]);
	free(m->items);
	*m = (struct manifest){ 0 };
}

int manifest_select(const struct manifest *index, const char *architecture,
	const struct descriptor **ret_item, struct err *err)
{
	const struct descriptor *found = NULL;
	auto_strbuf struct strbuf there = STRBUF_INIT;

	for (size_t i = 0; i < index->n; i++) {
		const struct descriptor *d = &index->items[i];

		if (!d->os || !d->architecture || strcmp(d->os, "linux") != 0)
			continue;
		if (strcmp(d->architecture, architecture) == 0 &&
			(!found || (found->variant && !d->variant)))
			found = d;
		if (there.len < 100)
			strbuf_addf(&there, "%s%.20s", there.len ? ", " : "", d->architecture);
	}
	if (!found)
		return err_set(err, ENOENT, "there is no build for linux/%s; there is: %s",
			architecture, there.len ? there.data : "none for linux");
	*ret_item = found;
	return 0;
}

const char *manifest_host_architecture(void)
{
#if defined(__x86_64__)
	return "amd64";
#elif defined(__aarch64__)
	return "arm64";
#else
#error "name this architecture as Go does"
#endif
}
