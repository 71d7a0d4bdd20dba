/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/imgconf.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/limits.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static void cleanup_json(json_t **j)
{
	json_decref(*j);
}
#define auto_json __attribute__((cleanup(cleanup_json)))

static int bad(struct err *err, const char *key)
{
	return err_set(err, EBADMSG, "image configuration is not valid: %s", key);
}

/* A string member; absent, null and "" leave NULL, as Docker takes them for the same. */
static int get_string(const json_t *obj, const char *key, char **ret_value, struct err *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v))
		return bad(err, key);
	if (json_string_length(v) == 0)
		return 0;
	*ret_value = strdup(json_string_value(v));
	return *ret_value ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int get_strings(const json_t *obj, const char *key, struct strv *ret_list, struct err *err)
{
	const json_t *v = json_object_get(obj, key);
	size_t bytes = 0;

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_array(v))
		return bad(err, key);
	for (size_t i = 0; i < json_array_size(v); i++) {
		const json_t *item = json_array_get(v, i);

		if (!json_is_string(item))
			return bad(err, key);
		bytes += json_string_length(item) + 1 + sizeof(char *);
		if (bytes > LIMIT_ARGV)
			return err_set(err, E2BIG, "image configuration: %s is too long", key);
		if (strv_add(ret_list, json_string_value(item)) < 0)
			return err_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The keys of an object, sorted; with_values: "key=value" of strings. */
static int get_keys(const json_t *obj, const char *key, bool with_values, struct strv *ret_list,
	struct err *err)
{
	json_t *map = json_object_get(obj, key), *value;
	const char *name;
	int r = 0;

	if (!map || json_is_null(map))
		return 0;
	if (!json_is_object(map))
		return bad(err, key);
	json_object_foreach(map, name, value)
	{
		if (with_values && !json_is_string(value))
			return bad(err, key);
		r = with_values ? strv_addf(ret_list, "%s=%s", name, json_string_value(value))
				: strv_add(ret_list, name);
		if (r < 0)
			return err_set(err, ENOMEM, "out of memory");
	}
	if (ret_list->n > 1)
		qsort(ret_list->v, ret_list->n, sizeof(char *), compare_strings);
	return 0;
}

static int get_integer(
	const json_t *obj, const char *key, int64_t max, int64_t *ret_value, struct err *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
		return bad(err, key);
	*ret_value = json_integer_value(v);
	return 0;
}

static int get_healthcheck(const json_t *config, struct image_healthcheck *health, struct err *err)
{
	const json_t *obj = json_object_get(config, "Healthcheck");
	int64_t retries = 0;
	int r;

	if (!obj || json_is_null(obj))
		return 0;
	if (!json_is_object(obj))
		return bad(err, "Healthcheck");
	r = get_strings(obj, "Test", &health->test, err);
	if (r == 0)
		r = get_integer(obj, "Interval", INT64_MAX, &health->interval_ns, err);
	if (r == 0)
		r = get_integer(obj, "Timeout", INT64_MAX, &health->timeout_ns, err);
	if (r == 0)
		r = get_integer(obj, "StartPeriod", INT64_MAX, &health->start_period_ns, err);
	if (r == 0)
		r = get_integer(obj, "Retries", 1000000, &retries, err);
	health->retries = (unsigned)retries;
	return r;
}

/* Docker and image-spec: config.env entries are KEY=VALUE with a key; anything else would be lost
 * or worse. */
static int check_env(const struct strv *env, struct err *err)
{
	for (size_t i = 0; i < env->n; i++)
		if (env->v[i][0] == '=' || !env->v[i][0])
			return bad(err, "Env has an entry without a name");
	return 0;
}

static int get_config(const json_t *obj, struct image_config *c, struct err *err)
{
	int r;

	if (!obj || json_is_null(obj))
		return 0;
	if (!json_is_object(obj))
		return bad(err, "config");
	if ((r = get_strings(obj, "Entrypoint", &c->entrypoint, err)) < 0 ||
		(r = get_strings(obj, "Cmd", &c->cmd, err)) < 0 ||
		(r = get_strings(obj, "Env", &c->env, err)) < 0 ||
		(r = get_string(obj, "User", &c->user, err)) < 0 ||
		(r = get_string(obj, "WorkingDir", &c->working_dir, err)) < 0 ||
		(r = get_string(obj, "StopSignal", &c->stop_signal, err)) < 0 ||
		(r = get_keys(obj, "Volumes", false, &c->volumes, err)) < 0 ||
		(r = get_keys(obj, "ExposedPorts", false, &c->exposed_ports, err)) < 0 ||
		(r = get_keys(obj, "Labels", true, &c->labels, err)) < 0 ||
		(r = get_healthcheck(obj, &c->healthcheck, err)) < 0)
		return r;
	return check_env(&c->env, err);
}

/* The fraction does not matter here. */
int64_t image_time_parse(const char *s)
{
	struct tm tm = { 0 };
	const char *p = s ? strptime(s, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	int hours, minutes;
	char sign;

	if (!p)
		return 0;
	if (*p == '.')
		p += 1 + strspn(p + 1, "0123456789");
	if (sscanf(p, "%c%2d:%2d", &sign, &hours, &minutes) == 3 && (sign == '+' || sign == '-'))
		return timegm(&tm) - (sign == '+' ? 1 : -1) * (hours * 3600 + minutes * 60);
	return *p == 'Z' ? timegm(&tm) : 0;
}

static int parse_root(const json_t *root, struct image_config *c, struct err *err)
{
	auto_free char *created = NULL;
	const json_t *fs = json_object_get(root, "rootfs");
	int r;

	if (!json_is_object(root) || !json_is_object(fs))
		return bad(err, "rootfs");
	if ((r = get_string(root, "architecture", &c->architecture, err)) < 0 ||
		(r = get_string(root, "os", &c->os, err)) < 0 ||
		(r = get_string(root, "variant", &c->variant, err)) < 0 ||
		(r = get_string(root, "created", &created, err)) < 0 ||
		(r = get_strings(fs, "diff_ids", &c->diff_ids, err)) < 0 ||
		(r = get_config(json_object_get(root, "config"), c, err)) < 0)
		return r;
	if (!c->architecture)
		return bad(err, "architecture");
	if (!c->os)
		return bad(err, "os");
	if (c->diff_ids.n > LIMIT_LAYERS)
		return err_set(err, E2BIG, "image has %zu layers, at most %d can be used",
			c->diff_ids.n, LIMIT_LAYERS);
	c->created = image_time_parse(created);
	return 0;
}

int image_config_parse(
	const char *json, size_t len, struct image_config *ret_config, struct err *err)
{
	auto_image_config struct image_config config = { 0 };
	auto_json json_t *root = NULL;
	json_error_t why;
	int r;

	if (len > LIMIT_MANIFEST)
		return err_set(err, EFBIG, "image configuration has more than %zu bytes",
			(size_t)LIMIT_MANIFEST);
	root = json_loadb(json, len, 0, &why);
	if (!root)
		return bad(err, why.text);
	r = parse_root(root, &config, err);
	if (r < 0)
		return r;
	*ret_config = config;
	config = (struct image_config){ 0 };
	return 0;
}

void image_config_deinit(struct image_config *c)
{
	strv_deinit(&c->entrypoint);
	strv_deinit(&c->cmd);
	strv_deinit(&c->env);
	strv_deinit(&c->volumes);
	strv_deinit(&c->exposed_ports);
	strv_deinit(&c->labels);
	strv_deinit(&c->healthcheck.test);
	strv_deinit(&c->diff_ids);
	free(c->user);
	free(c->working_dir);
	free(c->stop_signal);
	free(c->architecture);
	free(c->os);
	free(c->variant);
	*c = (struct image_config){ 0 };
}

static int set_argv(const struct image_config *c, const struct imgconf_overrides *o,
	struct strv *argv, struct err *err)
{
	const char *const *args = o->args && o->args[0] ? o->args : NULL;
	int r = 0;

	if (!o->entrypoint)
		r = strv_addv(argv, (const char *const *)c->entrypoint.v);
	else if (*o->entrypoint)
		r = strv_add(argv, o->entrypoint);
	if (r == 0 && args)
		r = strv_addv(argv, args);
	else if (r == 0 && !o->entrypoint)
		r = strv_addv(argv, (const char *const *)c->cmd.v);
	if (r < 0)
		return err_set(err, ENOMEM, "out of memory");
	if (argv->n == 0)
		return err_set(
			err, EINVAL, "the image names no command: give one behind the image");
	return 0;
}

static void drop_key(struct strv *env, const char *key)
{
	size_t len = strlen(key);

	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->v[i], key, len) == 0 && env->v[i][len] == '=') {
			free(env->v[i]);
			memmove(env->v + i, env->v + i + 1, (env->n - i) * sizeof(*env->v));
			env->n--;
			return;
		}
}

static int merge_env(struct strv *env, const char *const *more)
{
	int r = 0;

	for (; more && *more && r == 0; more++)
		if (strchr(*more, '='))
			r = strv_setenv(env, *more);
		else
			drop_key(env, *more);
	return r;
}

static int set_env(const struct image_config *c, const struct imgconf_overrides *o,
	struct strv *env, struct err *err)
{
	int r = strv_add(env, DEFAULT_PATH);

	if (r == 0 && o->tty)
		r = strv_add(env, "TERM=xterm");
	if (r == 0)
		r = merge_env(env, (const char *const *)c->env.v);
	if (r == 0)
		r = merge_env(env, o->env);
	return r < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* Docker refuses a relative -w, and takes an image's relative WorkingDir from the root. */
static int set_cwd(const struct image_config *c, const struct imgconf_overrides *o, char **ret_cwd,
	struct err *err)
{
	const char *dir = o->working_dir && *o->working_dir ? o->working_dir : NULL;

	if (dir && dir[0] != '/')
		return err_set(err, EINVAL, "working directory '%s' is not an absolute path", dir);
	if (!dir)
		dir = c->working_dir ? c->working_dir : "/";
	if (asprintf(ret_cwd, "%s%s", dir[0] == '/' ? "" : "/", dir) < 0) {
		*ret_cwd = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

int imgconf_process(const struct image_config *config, const struct imgconf_overrides *over,
	struct imgconf_process *ret_process, struct err *err)
{
	auto_imgconf_process struct imgconf_process p = { 0 };
	const char *user = over->user && *over->user ? over->user : config->user;
	int r;

	if ((r = set_argv(config, over, &p.argv, err)) < 0 ||
		(r = set_env(config, over, &p.env, err)) < 0 ||
		(r = set_cwd(config, over, &p.cwd, err)) < 0)
		return r;
	p.user = strdup(user ? user : "");
	if (!p.user)
		return err_set(err, ENOMEM, "out of memory");
	*ret_process = p;
	p = (struct imgconf_process){ 0 };
	return 0;
}

void imgconf_process_deinit(struct imgconf_process *p)
{
	strv_deinit(&p->argv);
	strv_deinit(&p->env);
	free(p->cwd);
	free(p->user);
	*p = (struct imgconf_process){ 0 };
}
