/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: what the reference stands for is asked first (an index, or a manifest), then what
 * of it the store lacks is fetched: configuration, and when that is sound, layers. The record is
 * written last, so that a pull that ends early leaves blobs that the next one uses or prune
 * removes, and no image that is not whole.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"
#include "image/fetch.h"
#include "image/manifest.h"
#include "image/pull.h"
#include "image/ref.h"
#include "image/store.h"

struct pull {
	struct image_store *store;
	const struct image_ref *ref;
	const struct image_pull_opts *opts;
	const char *architecture;
	const char *source; /* of the blobs */
	char index[DIGEST_SIZE], manifest_digest[DIGEST_SIZE];
	struct manifest manifest;
};

int image_policy_parse(const char *word, enum image_policy *ret_policy)
{
	static const char *const words[] = {
		[IMAGE_PULL_MISSING] = "missing",
		[IMAGE_PULL_ALWAYS] = "always",
		[IMAGE_PULL_NEVER] = "never",
	};

	static_assert(ARRAY_SIZE(words) == IMAGE_PULL_MAX, "a word for each policy");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(word, words[i]) == 0) {
			*ret_policy = (enum image_policy)i;
			return 0;
		}
	return -EINVAL;
}

static void tell(const struct pull *p, enum image_phase phase)
{
	struct image_progress progress = { phase, p->ref->name, 0, 0 };

	if (p->opts->progress)
		p->opts->progress(p->opts->progress_arg, &progress);
}

static void tell_wait(void *arg)
{
	tell(arg, IMAGE_PHASE_WAIT);
}

static int wrong_digest(
	const struct pull *p, const char *wanted, const char *actual, struct err *err)
{
	return err_set(err, EBADMSG,
		"image '%.128s': the registry's manifest has digest %s instead of %s", p->ref->name,
		actual, wanted);
}

static int fetch_one(
	const struct pull *p, const char *source, const struct descriptor *d, struct err *err)
{
	struct fetch_blob blob = { .size = d->size };
	struct fetch_opts opts = { .ref = p->ref, .source = source, .blobs = &blob, .n_blobs = 1 };

	if (store_has_blob(p->store, d->digest, d->size))
		return 0;
	memcpy(blob.digest, d->digest, DIGEST_SIZE);
	return fetch_blobs(p->store, &opts, err);
}

/*
 * The manifest that the index chose. A registry has it under its digest; in layouts and archives it
 * is one more blob.
 */
static int fetch_chosen(struct pull *p, const struct descriptor *d, char **ret_raw, size_t *ret_len,
	struct err *err)
{
	auto_free char *source = NULL;
	char actual[DIGEST_SIZE];
	int r;

	if (d->size > LIMIT_MANIFEST)
		return err_set(
			err, EFBIG, "image '%.128s': its manifest is too large", p->ref->name);
	if (!p->ref->repository || store_has_blob(p->store, d->digest, d->size)) {
		r = fetch_one(p, p->ref->source, d, err);
		return r < 0 ? r : store_read_blob(p->store, d->digest, ret_raw, ret_len, err);
	}
	if (asprintf(&source, "docker://%s@%s", p->ref->repository, d->digest) < 0) {
		source = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	r = fetch_manifest(p->ref, source, ret_raw, ret_len, err);
	if (r < 0)
		return r;
	if (digest_of(*ret_raw, *ret_len, actual) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return strcmp(actual, d->digest) == 0 ? 0 : wrong_digest(p, d->digest, actual, err);
}

static int choose(struct pull *p, char **raw, size_t *len, struct err *err)
{
	auto_manifest struct manifest index = p->manifest;
	const struct descriptor *d;
	auto_free char *chosen = NULL;
	size_t chosen_len;
	int r;

	p->manifest = (struct manifest){ 0 };
	r = manifest_select(&index, p->architecture, &d, err);
	if (r < 0)
		return err_wrap(err, "image '%.128s'", p->ref->name);
	r = fetch_chosen(p, d, &chosen, &chosen_len, err);
	if (r < 0)
		return r;
	r = manifest_parse(chosen, chosen_len, &p->manifest, err);
	if (r < 0)
		return err_wrap(err, "image '%.128s'", p->ref->name);
	if (p->manifest.is_index)
		return err_set(err, EBADMSG, "image '%.128s': an index in an index", p->ref->name);
	free(*raw);
	*raw = take_ptr(chosen);
	*len = chosen_len;
	return 0;
}

/* What the reference stands for, down to the manifest of the architecture, which is put into the
 * store. */
static int resolve(struct pull *p, struct err *err)
{
	auto_free char *raw = NULL;
	size_t len;
	int r;

	tell(p, IMAGE_PHASE_RESOLVE);
	r = fetch_manifest(p->ref, p->ref->source, &raw, &len, err);
	if (r < 0)
		return r;
	if (digest_of(raw, len, p->index) < 0)
		return err_set(err, ENOMEM, "out of memory");
	if (p->ref->digest[0] && strcmp(p->ref->digest, p->index) != 0)
		return wrong_digest(p, p->ref->digest, p->index, err);
	r = manifest_parse(raw, len, &p->manifest, err);
	if (r < 0)
		return err_wrap(err, "image '%.128s'", p->ref->name);
	if (p->manifest.is_index) {
		r = choose(p, &raw, &len, err);
		if (r < 0)
			return r;
	}
	return store_put_blob(p->store, raw, len, p->manifest_digest, err);
}

static int fetch_layers(const struct pull *p, struct err *err)
{
	auto_free struct fetch_blob *blobs = calloc(p->manifest.n + 1, sizeof(*blobs));
	struct fetch_opts opts = { .ref = p->ref,
		.source = p->ref->source,
		.blobs = blobs,
		.progress = p->opts->progress,
		.progress_arg = p->opts->progress_arg };

	if (!blobs)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < p->manifest.n; i++) {
		const struct descriptor *d = &p->manifest.items[i];
		bool again = store_has_blob(p->store, d->digest, d->size);

		for (size_t k = 0; k < opts.n_blobs && !again; k++)
			again = strcmp(blobs[k].digest, d->digest) ==
				0; /* empty layers often repeat */
		if (again)
			continue;
		memcpy(blobs[opts.n_blobs].digest, d->digest, DIGEST_SIZE);
		blobs[opts.n_blobs++].size = d->size;
	}
	return fetch_blobs(p->store, &opts, err);
}

static int check_platform(const struct pull *p, const struct image_config *config, struct err *err)
{
	if (strcmp(config->os, "linux") != 0)
		return err_set(err, EINVAL,
			"image '%.128s' is for %.20s: only linux images can run", p->ref->name,
			config->os);
	if (strcmp(config->architecture, p->architecture) != 0)
		return err_set(err, EINVAL, "image '%.128s' is for %.20s, not for %s", p->ref->name,
			config->architecture, p->architecture);
	return 0;
}

/* Fetches what is missing and makes the image of it. */
static int complete(struct pull *p, const char *name, struct image **ret_image, struct err *err)
{
	auto_clean(image) struct image *image = NULL;
	int r;

	if ((r = fetch_one(p, p->ref->source, &p->manifest.config, err)) < 0)
		return r;
	r = store_make_image(p->store, name, p->manifest_digest, &image, err);
	if (r < 0)
		return err_wrap(err, "image '%.128s'", p->ref->name);
	if ((r = check_platform(p, &image->config, err)) < 0 || (r = fetch_layers(p, err)) < 0)
		return r;
	memcpy(image->index, p->index, DIGEST_SIZE);
	image->pulled = clock_realtime();
	r = store_save(p->store, image, err);
	if (r < 0)
		return r;
	*ret_image = take_ptr(image);
	return 0;
}

int pull_from(struct image_store *store, const struct image_ref *ref, const char *name,
	const struct image_pull_opts *opts, struct image **ret_image, struct err *err)
{
	struct pull p = { .store = store,
		.ref = ref,
		.opts = opts,
		.architecture =
			opts->architecture ? opts->architecture : manifest_host_architecture() };
	int r = resolve(&p, err);

	if (r == 0)
		r = complete(&p, name, ret_image, err);
	manifest_deinit(&p.manifest);
	return r;
}

/* The local image, if there is one of the architecture. */
static bool have_image(const struct pull *p, struct image **ret_image)
{
	auto_clean(image) struct image *image = NULL;

	if (store_load(p->store, p->ref->name, &image, NULL) < 0 ||
		strcmp(image->config.architecture, p->architecture) != 0)
		return false;
	*ret_image = take_ptr(image);
	return true;
}

static int pull_locked(struct pull *p, struct image **ret_image, struct err *err)
{
	auto_clean(image) struct image *local = NULL;
	int64_t asked = clock_realtime();
	auto_close int lock = -1, store_lock_fd = -1;
	char key[DIGEST_SIZE];

	if (digest_of(p->ref->name, strlen(p->ref->name), key) < 0)
		return err_set(err, ENOMEM, "out of memory");
	lock = store_lock(p->store, "pull", digest_hex(key), true, tell_wait, p, err);
	if (lock < 0)
		return lock;
	/* Whoever held the lock may have done it: after we asked, so what it found is as new as we
	 * want it. */
	if (have_image(p, &local) &&
		(p->opts->policy == IMAGE_PULL_MISSING || local->pulled >= asked)) {
		*ret_image = take_ptr(local);
		return 0;
	}
	store_lock_fd = store_lock(p->store, "store", "all", false, tell_wait, p, err);
	if (store_lock_fd < 0)
		return store_lock_fd;
	return pull_from(p->store, p->ref, p->ref->name, p->opts, ret_image, err);
}

const char *image_host_architecture(void)
{
	return manifest_host_architecture();
}

int image_pull(struct image_store *store, const char *reference, const struct image_pull_opts *opts,
	struct image **ret_image, struct err *err)
{
	auto_image_ref struct image_ref ref = { 0 };
	struct pull p = { .store = store,
		.ref = &ref,
		.opts = opts,
		.architecture =
			opts->architecture ? opts->architecture : manifest_host_architecture() };
	int r = image_ref_parse(reference, &ref, err);

	/* As Docker: what names no image here may be the beginning of one's id. */
	if (opts->policy != IMAGE_PULL_ALWAYS &&
		((r == 0 && have_image(&p, ret_image)) ||
			image_find_id(store, reference, ret_image)))
		return 0;
	if (r < 0)
		return r;
	if (opts->policy == IMAGE_PULL_NEVER)
		return err_set(err, ENOENT,
			"image '%.200s' is not in the store and --pull never forbids to fetch it: "
			"run micropod pull",
			ref.name);
	return pull_locked(&p, ret_image, err);
}
