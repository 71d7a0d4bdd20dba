/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/envs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fs.h"

/* KEY alone: the value that we have, NULL if none. */
static int from_environment(struct strv *env, const char *key, bool keep, struct err *err)
{
	const char *value = getenv(key);
	auto_free char *entry = NULL;
	int r;

	if (!value)
		return keep && strv_add(env, key) < 0
			       ? err_errno(err, ENOMEM, "cannot keep variable '%s'", key)
			       : 0;
	if (asprintf(&entry, "%s=%s", key, value) < 0) {
		entry = NULL;
		return err_errno(err, ENOMEM, "cannot keep variable '%s'", key);
	}
	r = strv_setenv(env, entry);
	return r < 0 ? err_errno(err, -r, "cannot keep variable '%s'", key) : 0;
}

static int add(struct strv *env, const char *entry, bool keep, struct err *err)
{
	if (!strchr(entry, '='))
		return from_environment(env, entry, keep, err);
	return strv_setenv(env, entry) < 0
		       ? err_errno(err, ENOMEM, "cannot keep variable '%s'", entry)
		       : 0;
}

static int add_line(struct strv *env, char *line, const char *path, size_t number, struct err *err)
{
	size_t key, len = strlen(line);

	line += strspn(line, " \t");
	if (len && line[strlen(line) - 1] == '\r')
		line[strlen(line) - 1] = 0;
	if (!*line || *line == '#')
		return 0;
	key = strcspn(line, "=");
	if (key == 0)
		return err_set(err, EINVAL, "%s:%zu: a variable has no name: write KEY=VALUE", path,
			number);
	if (strcspn(line, " \t") < key)
		return err_set(err, EINVAL, "%s:%zu: white space in the name of variable '%.*s'",
			path, number, (int)MIN(key, 100), line);
	return add(env, line, false, err);
}

static int add_file(struct strv *env, const char *path, struct err *err)
{
	auto_free char *text = NULL;
	size_t len, number = 0;
	char *line, *rest;
	int r = fs_read_file(AT_FDCWD, path, LIMIT_ENV_FILE, &text, &len);

	if (r < 0)
		return err_errno(err, -r, "cannot read env file '%s'", path);
	if (memchr(text, 0, len))
		return err_set(err, EINVAL, "env file '%s' holds a zero byte", path);
	rest = text;
	while (r == 0 && (line = strsep(&rest, "\n")))
		r = add_line(env, line, path, ++number, err);
	return r;
}

int envs_build(
	const struct strv *files, const struct strv *options, struct strv *ret_env, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < files->n; i++)
		r = add_file(ret_env, files->v[i], err);
	for (size_t i = 0; r == 0 && i < options->n; i++) {
		if (!options->v[i][0] || options->v[i][0] == '=')
			return err_set(err, EINVAL,
				"option '--env' is '%.100s': a variable has no name: give "
				"KEY=VALUE",
				options->v[i]);
		r = add(ret_env, options->v[i], true, err);
	}
	return r;
}
