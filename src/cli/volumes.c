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

struct volume {
	const char *source, *target;
	bool read_only;
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

static int add(const struct volume *v, bool make, struct strv *volumes, struct err *err)
{
	auto_free char *real = NULL;
	char target[PATH_MAX];
	struct stat st;
	int r = clean_target(v->target, target, err);

	if (r < 0)
		return r;
	if (!is_path(v->source))
		return err_set(err, EINVAL,
			"'%.200s' is no path, and volumes with names do not exist yet: give a path "
			"that begins with '/' or './'",
			v->source);
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
	r = strv_add(volumes, real);
	if (r == 0)
		r = strv_add(volumes, target);
	if (r == 0)
		r = strv_add(volumes, v->read_only ? "ro" : "rw");
	return r < 0 ? err_errno(err, -r, "cannot make the sandbox") : 0;
}

/* Docker's; those about labels and caches have nothing to do here. */
static int take_options(char *options, struct volume *v, const char *text, struct err *err)
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

int volumes_parse(const char *text, struct strv *volumes, struct err *err)
{
	auto_free char *copy = strdup(text);
	struct volume v = { .source = copy };
	char *target = copy ? strchr(copy, ':') : NULL, *options;
	int r;

	if (!copy)
		return err_errno(err, ENOMEM, "cannot make the sandbox");
	if (!target || target == copy || !target[1])
		return err_set(err, EINVAL,
			"volume '%.200s' is not HOST:CONTAINER[:ro], such as ./src:/src", text);
	*target++ = 0;
	v.target = target;
	options = strchr(target, ':');
	if (options)
		*options++ = 0;
	r = options ? take_options(options, &v, text, err) : 0;
	return r < 0 ? r : add(&v, true, volumes, err);
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

static int take_mount_word(const char *word, struct volume *v, const char *text, struct err *err)
{
	const char *value;

	if ((value = value_of(word, "type", "type"))) {
		if (strcmp(value, "bind") != 0)
			return err_set(err, EINVAL,
				"mount '%.200s' has type '%.40s': only bind can be had", text,
				value);
	} else if ((value = value_of(word, "source", "src"))) {
		v->source = value;
	} else if ((value = value_of(word, "target", "dst")) ||
		   (value = value_of(word, "destination", "destination"))) {
		v->target = value;
	} else if (strcmp(word, "readonly") == 0 || strcmp(word, "ro") == 0 ||
		   ((value = value_of(word, "readonly", "ro")) &&
			   (strcmp(value, "true") == 0 || strcmp(value, "1") == 0))) {
		v->read_only = true;
	} else if (!(value && (strcmp(value, "false") == 0 || strcmp(value, "0") == 0))) {
		return err_set(err, EINVAL,
			"mount '%.200s' has an unknown part '%.40s': use type, source, target and "
			"readonly",
			text, word);
	}
	return 0;
}

int volumes_parse_mount(const char *text, struct strv *volumes, struct err *err)
{
	auto_free char *copy = strdup(text);
	struct volume v = { 0 };
	char *save = NULL;
	int r = copy ? 0 : err_errno(err, ENOMEM, "cannot make the sandbox");

	for (char *word = r == 0 ? strtok_r(copy, ",", &save) : NULL; word && r == 0;
		word = strtok_r(NULL, ",", &save))
		r = take_mount_word(word, &v, text, err);
	if (r < 0)
		return r;
	if (!v.source || !v.target)
		return err_set(err, EINVAL,
			"mount '%.200s' is not type=bind,source=HOST,target=CONTAINER", text);
	return add(&v, false, volumes, err);
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

	if (n > LIMIT_VM_SLOTS)
		return err_set(err, EINVAL, "%zu volumes are too many: give %d at most", n,
			LIMIT_VM_SLOTS);
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
