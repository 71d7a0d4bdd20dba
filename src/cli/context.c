/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/context.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "cli/cli.h"
#include "cli/output.h"

#define DEFAULT "default"

/* The folder of micropod.yaml, made if it is missing. */
static int config_folder(bool make, char **ret_folder, struct err *err)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n;

	if (config && *config == '/')
		n = asprintf(ret_folder, "%s/micropod", config);
	else if (home && *home == '/')
		n = asprintf(ret_folder, "%s/.config/micropod", home);
	else
		return err_set(err, ENOENT, "there is no HOME to keep contexts in");
	if (n < 0) {
		*ret_folder = NULL;
		return err_errno(err, ENOMEM, "cannot find the contexts");
	}
	n = make ? fs_make_dirs(*ret_folder, 0700) : 0;
	return n < 0 ? err_errno(err, -n, "cannot make '%s'", *ret_folder) : 0;
}

static int load(json_t **ret_all, char **ret_path, struct err *err)
{
	auto_free char *folder = NULL, *text = NULL;
	size_t len;
	int r = config_folder(false, &folder, err);

	if (r < 0)
		return r;
	if (asprintf(ret_path, "%s/contexts.json", folder) < 0) {
		*ret_path = NULL;
		return err_errno(err, ENOMEM, "cannot find the contexts");
	}
	r = fs_read_file(AT_FDCWD, *ret_path, LIMIT_SETTINGS, &text, &len);
	if (r == 0)
		*ret_all = json_loadb(text, len, 0, NULL);
	else if (r == -ENOENT || r == -ENOTDIR)
		*ret_all = json_object();
	else
		return err_errno(err, -r, "cannot read '%s'", *ret_path);
	if (json_is_object(*ret_all))
		return 0;
	json_decref(*ret_all);
	return err_set(err, EBADMSG, "'%s' is damaged: remove it", *ret_path);
}

static int save(json_t *all, const char *path, struct err *err)
{
	auto_free char *folder = NULL, *text = json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS);
	int r = config_folder(true, &folder, err);

	if (r == 0)
		r = text ? fs_replace_file(AT_FDCWD, path, text, strlen(text), 0600, false)
			 : -ENOMEM;
	return r < 0 && !err->code ? err_errno(err, -r, "cannot write '%s'", path) : r;
}

static int copy(char **field, const json_t *one, const char *key)
{
	const char *value = json_string_value(json_object_get(one, key));

	*field = value ? strdup(value) : NULL;
	return value && !*field ? -ENOMEM : 0;
}

int context_current(struct context *ret_context, struct err *err)
{
	const char *wanted = getenv("MICROPOD_CONTEXT");
	auto_free char *path = NULL;
	struct context c = { 0 };
	json_t *all = NULL, *one;
	int r;

	*ret_context = c;
	if (wanted && strcmp(wanted, DEFAULT) == 0)
		return 0;
	r = load(&all, &path, wanted && *wanted ? err : NULL);
	/* Without a home there are none. */
	if (r < 0)
		return wanted && *wanted ? r : 0;
	if (!wanted || !*wanted)
		wanted = json_string_value(json_object_get(all, "current"));
	one = wanted ? json_object_get(json_object_get(all, "contexts"), wanted) : NULL;
	if (wanted && !one)
		r = err_set(err, ENOENT, "no such context: %.100s (micropod context ls)", wanted);
	else if (copy(&c.server, one, "server") < 0 || copy(&c.token_file, one, "token_file") < 0 ||
		 copy(&c.ca, one, "ca") < 0 || copy(&c.pin, one, "pin") < 0)
		r = err_errno(err, ENOMEM, "cannot read the contexts");
	json_decref(all);
	if (r < 0)
		context_deinit(&c);
	else
		*ret_context = c;
	return r;
}

void context_deinit(struct context *c)
{
	free(c->server);
	free(c->token_file);
	free(c->ca);
	free(c->pin);
	*c = (struct context){ 0 };
}

/* The verb */

struct opts {
	const char *token_file, *ca, *pin;
};

#define AT(field) offsetof(struct opts, field)
static const struct opt table[] = {
	{ "ca", 0, OPT_STRING, AT(ca), "FILE", "create: trust the authorities in it" },
	{ "pin", 0, OPT_STRING, AT(pin), "SHA256",
		"create: trust the certificate with this digest alone" },
	{ "token-file", 0, OPT_STRING, AT(token_file), "FILE", "create: a file with the token" },
	{ NULL },
};

/* Absolute: it is used from elsewhere. */
static int set_path(json_t *one, const char *key, const char *path, struct err *err)
{
	auto_free char *whole = path ? realpath(path, NULL) : NULL;

	if (path && !whole)
		return err_errno(err, errno, "cannot find '%s'", path);
	if (whole)
		json_object_set_new(one, key, json_string(whole));
	return 0;
}

static int create(
	struct cli *cli, json_t *contexts, const char *name, const struct opts *o, struct err *err)
{
	json_t *one;
	int r;

	if (!name_valid(name) || strcmp(name, DEFAULT) == 0)
		return err_set(err, EINVAL, "'%.100s' is no name for a context", name);
	if (!cli->server)
		return err_set(err, EINVAL, "a context needs a server: give --server URL");
	if (json_object_get(contexts, name))
		return err_set(err, EEXIST, "context '%s' is there already", name);
	one = json_pack("{s:s}", "server", cli->server);
	json_object_set_new(contexts, name, one);
	r = set_path(one, "token_file", o->token_file, err);
	if (r == 0)
		r = set_path(one, "ca", o->ca, err);
	if (r == 0 && o->pin)
		json_object_set_new(one, "pin", json_string(o->pin));
	return r;
}

static int list(json_t *all, json_t *contexts, struct err *err)
{
	const char *current = json_string_value(json_object_get(all, "current")), *name;
	auto_strv struct strv cells = STRV_INIT;
	json_t *one;
	int r = 0;

	if (strv_add(&cells, "NAME") < 0 || strv_add(&cells, "SERVER") < 0 ||
		strv_addf(&cells, "%s%s", DEFAULT, current ? "" : " *") < 0 ||
		strv_add(&cells, "(this host)") < 0)
		r = -ENOMEM;
	json_object_foreach(contexts, name, one)
	{
		const char *server = json_string_value(json_object_get(one, "server"));

		if (r == 0 && (strv_addf(&cells, "%s%s", name,
				       current && strcmp(current, name) == 0 ? " *" : "") < 0 ||
				      strv_add(&cells, server ? server : "") < 0))
			r = -ENOMEM;
	}
	if (r < 0)
		return err_errno(err, -r, "cannot list the contexts");
	output_table(&cells, 2);
	return 0;
}

static int use(json_t *all, json_t *contexts, const char *name, struct err *err)
{
	if (strcmp(name, DEFAULT) == 0)
		json_object_del(all, "current");
	else if (json_object_get(contexts, name))
		json_object_set_new(all, "current", json_string(name));
	else
		return err_set(err, ENOENT, "no such context: %.100s (micropod context ls)", name);
	return 0;
}

static int forget(json_t *all, json_t *contexts, const char *name, struct err *err)
{
	const char *current = json_string_value(json_object_get(all, "current"));

	if (current && strcmp(current, name) == 0)
		return err_set(err, EBUSY,
			"context '%s' is in use: change to another first (micropod context use "
			"default)",
			name);
	if (json_object_del(contexts, name) < 0)
		return err_set(err, ENOENT, "no such context: %.100s (micropod context ls)", name);
	return 0;
}

static int change(struct cli *cli, const struct opts *o, json_t *all, const char *path,
	const char *verb, const char *name, struct err *err)
{
	json_t *contexts = json_object_get(all, "contexts");
	int r;

	if (!json_is_object(contexts)) {
		contexts = json_object();
		json_object_set_new(all, "contexts", contexts);
	}
	if (strcmp(verb, "ls") == 0 && !name)
		return list(all, contexts, err);
	if (strcmp(verb, "create") == 0 && name)
		r = create(cli, contexts, name, o, err);
	else if (strcmp(verb, "use") == 0 && name)
		r = use(all, contexts, name, err);
	else if (strcmp(verb, "rm") == 0 && name)
		r = forget(all, contexts, name, err);
	else
		return err_set(err, EINVAL,
			"'micropod context' needs ls, or create, use or rm and a name");
	if (r == 0)
		r = save(all, path, err);
	if (r == 0)
		printf("%s\n", name);
	return r;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	auto_free char *path = NULL;
	json_t *all = NULL;
	int r = load(&all, &path, err);

	if (r < 0)
		return r;
	r = change(cli, values, all, path, words[0], n > 1 ? words[1] : NULL, err);
	json_decref(all);
	return r;
}

const struct verb verb_context = {
	.name = "context",
	.usage = "ls | create NAME --server URL [OPTIONS] | use NAME | rm NAME",
	.summary = "Keep servers by name",
	.opts = table,
	.values_size = sizeof(struct opts),
	.no_root = true,
	.min_words = 1,
	.max_words = 2,
	.run = run,
};
