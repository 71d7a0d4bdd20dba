/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/volumes.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "sandbox/config.h"
#include "sandbox/volume.h"

struct place {
	const char *source, *target;
	bool read_only, named;
};

static bool is_path(const char *s)
{
	return s[0] == '/' || (s[0] == '.' && (!s[1] || s[1] == '/' || strncmp(s, "..", 2) == 0));
}

/* Every missing folder of it. */
static int make_folders(const char *path)
{
	char part[PATH_MAX];

	for (const char *p = strchr(path + 1, '/');; p = strchr(p + 1, '/')) {
		size_t len = p ? (size_t)(p - path) : strlen(path);

		if (len >= sizeof(part))
			return -ENAMETOOLONG;
		memcpy(part, path, len);
		part[len] = 0;
		if (mkdir(part, 0777) < 0 && errno != EEXIST)
			return -errno;
		if (!p)
			return 0;
	}
}

/* As the container will see it: no "//", no "." and no "/" at the end. ".." is refused. */
static int clean_target(const char *target, char out[static PATH_MAX], struct err *err)
{
	auto_free char *copy = strdup(target);
	char *save = NULL;
	size_t len = 0;

	if (target[0] != '/' || strlen(target) >= PATH_MAX)
		return err_set(err, EINVAL,
			"the volume's place '%.200s' in the container is no absolute path", target);
	for (char *part = copy ? strtok_r(copy, "/", &save) : NULL; part;
		part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0)
			return err_set(err, EINVAL,
				"the volume's place '%.200s' in the container has '..' in it",
				target);
		len += (size_t)snprintf(out + len, PATH_MAX - len, "/%s", part);
	}
	if (!len)
		return err_set(err, EINVAL,
			"a volume cannot be the container's root: give a folder in it");
	return 0;
}

static int add_words(const struct place *v, const char *source, const char *target,
	struct strv *volumes, struct err *err)
{
	int r = strv_add(volumes, source);

	if (r == 0)
		r = strv_add(volumes, target);
	if (r == 0)
		r = strv_add(volumes, v->read_only ? "ro" : "rw");
	return r < 0 ? err_errno(err, -r, "cannot make the sandbox") : 0;
}

/* One without a name: it is made with the sandbox, an engine makes its own. */
static int add_anonymous(const struct volumes_where *where, const struct place *v,
	const char *target, struct strv *volumes, struct err *err)
{
	auto_free char *path = where->engine ? strdup("") : volume_anonymous_path(where->root);

	return path ? add_words(v, path, target, volumes, err)
		    : err_errno(err, ENOMEM, "cannot make the sandbox");
}

/* One that is not there is made; an engine has its own. */
static int add_named(const struct volumes_where *where, const struct place *v, const char *target,
	struct strv *volumes, struct err *err)
{
	static const struct strv no_labels = STRV_INIT;
	auto_volume struct volume volume = { 0 };
	int r;

	if (!volume_name_valid(v->source) && is_path(v->source))
		return err_set(err, EINVAL,
			"'%.200s' is no name of a volume: for a path give type=bind", v->source);
	if (!volume_name_valid(v->source))
		return err_set(err, EINVAL,
			"'%.200s' is no name of a volume, and as a path it has to begin with '/' "
			"or "
			"'./'",
			v->source);
	if (where->engine)
		return add_words(v, v->source, target, volumes, err);
	r = volume_create(where->root, v->source, &no_labels, &volume, err);
	return r < 0 ? r : add_words(v, volume.path, target, volumes, err);
}

static int add(const struct volumes_where *where, const struct place *v, bool make,
	struct strv *volumes, struct err *err)
{
	auto_free char *real = NULL;
	char target[PATH_MAX];
	struct stat st;
	int r = clean_target(v->target, target, err);

	if (r < 0)
		return r;
	if (!v->source)
		return add_anonymous(where, v, target, volumes, err);
	if (v->named)
		return add_named(where, v, target, volumes, err);
	if (make && access(v->source, F_OK) < 0 && errno == ENOENT &&
		(r = make_folders(v->source)) < 0)
		return err_errno(err, -r, "cannot make the folder '%.200s'", v->source);
	real = realpath(v->source, NULL);
	if (!real || stat(real, &st) < 0)
		return err_errno(err, errno, "cannot share '%.200s' with the container", v->source);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(err, EINVAL,
			"cannot share '%.200s' with the container: it is neither a folder nor a "
			"regular file",
			v->source);
	return add_words(v, real, target, volumes, err);
}

/* Docker's; those about labels and caches have nothing to do here. */
static int take_options(char *options, struct place *v, const char *text, struct err *err)
{
	static const char *const idle[] = { "rw", "z", "Z", "cached", "delegated", "consistent",
		"rprivate", "private" };
	char *save = NULL;

	for (char *o = strtok_r(options, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		bool known = strcmp(o, "ro") == 0;

		if (known)
			v->read_only = true;
		for (size_t i = 0; i < ARRAY_SIZE(idle) && !known; i++)
			known = strcmp(o, idle[i]) == 0;
		if (!known)
			return err_set(err, EINVAL,
				"volume '%.200s' has an unknown option '%.40s': use ro or rw", text,
				o);
	}
	return 0;
}

int volumes_parse(
	const struct volumes_where *where, const char *text, struct strv *volumes, struct err *err)
{
	auto_free char *copy = strdup(text);
	struct place v = { .source = copy };
	char *target = copy ? strchr(copy, ':') : NULL, *options;
	int r;

	if (!copy)
		return err_errno(err, ENOMEM, "cannot make the sandbox");
	if (!target && *copy == '/') {
		v.source = NULL;
		v.target = copy;
		return add(where, &v, true, volumes, err);
	}
	if (!target || target == copy || !target[1])
		return err_set(err, EINVAL,
			"volume '%.200s' is not HOST:CONTAINER[:ro], NAME:CONTAINER[:ro] or "
			"/CONTAINER, such as ./src:/src",
			text);
	*target++ = 0;
	v.target = target;
	options = strchr(target, ':');
	if (options)
		*options++ = 0;
	v.named = !is_path(v.source);
	r = options ? take_options(options, &v, text, err) : 0;
	return r < 0 ? r : add(where, &v, true, volumes, err);
}

/* "source=/x": the value, if the word has one of the two keys. */
static const char *value_of(const char *word, const char *key, const char *other)
{
	const char *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : 0;

	if ((len == strlen(key) && memcmp(word, key, len) == 0) ||
		(len == strlen(other) && memcmp(word, other, len) == 0))
		return equals + 1;
	return NULL;
}

struct mount {
	struct place place;
	bool tmpfs;
	const char *size, *mode; /* of a tmpfs */
};

static bool is_true(const char *word, const char *key, const char *other)
{
	const char *value = value_of(word, key, other);

	return strcmp(word, key) == 0 || strcmp(word, other) == 0 ||
	       (value && (strcmp(value, "true") == 0 || strcmp(value, "1") == 0));
}

static bool is_false(const char *word, const char *key, const char *other)
{
	const char *value = value_of(word, key, other);

	return value && (strcmp(value, "false") == 0 || strcmp(value, "0") == 0);
}

static int take_mount_word(const char *word, struct mount *m, const char *text, struct err *err)
{
	const char *value;

	if ((value = value_of(word, "type", "type"))) {
		m->tmpfs = strcmp(value, "tmpfs") == 0;
		m->place.named = strcmp(value, "volume") == 0;
		if (!m->tmpfs && !m->place.named && strcmp(value, "bind") != 0)
			return err_set(err, EINVAL,
				"mount '%.200s' has type '%.40s': give bind, volume or tmpfs", text,
				value);
	} else if ((value = value_of(word, "source", "src"))) {
		m->place.source = value;
	} else if ((value = value_of(word, "target", "dst")) ||
		   (value = value_of(word, "destination", "destination"))) {
		m->place.target = value;
	} else if ((value = value_of(word, "tmpfs-size", "tmpfs-size"))) {
		m->size = value;
	} else if ((value = value_of(word, "tmpfs-mode", "tmpfs-mode"))) {
		m->mode = value;
	} else if (is_true(word, "readonly", "ro")) {
		m->place.read_only = true;
	} else if (!is_false(word, "readonly", "ro")) {
		return err_set(err, EINVAL,
			"mount '%.200s' has an unknown part '%.40s': use type, source, target, "
			"readonly, tmpfs-size and tmpfs-mode",
			text, word);
	}
	return 0;
}

static int add_tmpfs(const struct mount *m, const char *text, struct strv *tmpfs, struct err *err)
{
	char target[PATH_MAX];
	int r;

	if (!m->place.target || m->place.source)
		return err_set(
			err, EINVAL, "mount '%.200s' is not type=tmpfs,target=CONTAINER", text);
	r = clean_target(m->place.target, target, err);
	if (r < 0)
		return r;
	r = strv_addf(tmpfs, "%s:rw%s%s%s%s%s", target, m->place.read_only ? ",ro" : "",
		m->size ? ",size=" : "", m->size ? m->size : "", m->mode ? ",mode=" : "",
		m->mode ? m->mode : "");
	return r < 0 ? err_errno(err, -r, "cannot make the sandbox") : 0;
}

int volumes_parse_mount(const struct volumes_where *where, const char *text, struct strv *volumes,
	struct strv *tmpfs, struct err *err)
{
	auto_free char *copy = strdup(text);
	struct mount m = { .place.named = true }; /* Docker's default */
	char *save = NULL;
	int r = copy ? 0 : err_errno(err, ENOMEM, "cannot make the sandbox");

	for (char *word = r == 0 ? strtok_r(copy, ",", &save) : NULL; word && r == 0;
		word = strtok_r(NULL, ",", &save))
		r = take_mount_word(word, &m, text, err);
	if (r < 0)
		return r;
	if (m.tmpfs)
		return add_tmpfs(&m, text, tmpfs, err);
	if (m.size || m.mode)
		return err_set(err, EINVAL,
			"mount '%.200s': tmpfs-size and tmpfs-mode are for type=tmpfs", text);
	if ((!m.place.source && !m.place.named) || !m.place.target)
		return err_set(err, EINVAL,
			"mount '%.200s' is not type=bind,source=HOST,target=CONTAINER", text);
	return add(where, &m.place, false, volumes, err);
}

static unsigned depth(const char *path)
{
	unsigned n = 0;

	for (; *path; path++)
		n += *path == '/';
	return n;
}

static int by_depth(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;
	unsigned dx = depth(x[1]), dy = depth(y[1]);

	return dx != dy ? (dx > dy) - (dx < dy) : strcmp(x[1], y[1]);
}

int volumes_sort(struct strv *v, struct err *err)
{
	size_t n = v->n / SANDBOX_VOLUME_WORDS;

	if (n > LIMIT_VM_SHARES)
		return err_set(err, EINVAL, "%zu volumes are too many: give %d at most", n,
			LIMIT_VM_SHARES);
	if (n)
		qsort(v->v, n, SANDBOX_VOLUME_WORDS * sizeof(*v->v), by_depth);
	for (size_t i = 1; i < n; i++) {
		const char *target = v->v[i * SANDBOX_VOLUME_WORDS + 1];

		if (strcmp(target, v->v[(i - 1) * SANDBOX_VOLUME_WORDS + 1]) == 0)
			return err_set(
				err, EINVAL, "two volumes have the same place '%.200s'", target);
	}
	return 0;
}
