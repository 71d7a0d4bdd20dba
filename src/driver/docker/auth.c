/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/docker/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/strbuf.h"

#define FILE_MAX     (1 * MIB)
#define ANSWER_MAX   (64 * KIB)
#define HELPER	     "docker-credential-"
#define DOCKER_HUB   "docker.io"
#define DOCKER_INDEX "https://index.docker.io/v1/" /* what Docker calls its own */

struct login {
	char *user, *secret;
	bool token; /* the secret is one, and there is no user */
};

static void wipe(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

static void login_deinit(struct login *login)
{
	free(login->user);
	wipe(login->secret);
}

/* Keys are hosts or URLs, "https://host/v1/". */
static bool is_key_of(const char *key, const char *host)
{
	const char *scheme = strstr(key, "://"), *start = scheme ? scheme + 3 : key;
	size_t len = strcspn(start, "/");
	const char *rest = start + len;

	/* A path is a part of the registry (auth.json(5)), of which nothing is asked here. */
	if (*rest && strcmp(rest, "/") != 0 && strncmp(rest, "/v1", 3) != 0 &&
		strncmp(rest, "/v2", 3) != 0)
		return false;
	if (strcmp(host, DOCKER_HUB) == 0 && len == strlen("index." DOCKER_HUB) &&
		strncmp(start, "index." DOCKER_HUB, len) == 0)
		return true;
	return strlen(host) == len && strncmp(start, host, len) == 0;
}

/* "auth" is base64 of "user:secret". */
static int decode(const char *text, struct login *out)
{
	size_t len = strlen(text);
	auto_free unsigned char *plain = malloc(len + 1);
	int n = plain ? EVP_DecodeBlock(plain, (const unsigned char *)text, (int)len) : -1;
	char *colon;

	if (n < 0)
		return -EINVAL;
	plain[n] = 0; /* and what padding stands for is zeros already */
	colon = strchr((char *)plain, ':');
	if (colon) {
		*colon = 0;
		out->user = strdup((char *)plain);
		out->secret = strdup(colon + 1);
	}
	explicit_bzero(plain, (size_t)n);
	return out->user && out->secret ? 0 : -EINVAL;
}

static int read_entry(const json_t *entry, struct login *out, struct err *err)
{
	const char *auth = json_string_value(json_object_get(entry, "auth"));
	const char *token = json_string_value(json_object_get(entry, "identitytoken"));

	if (token && *token) {
		out->token = true;
		out->secret = strdup(token);
		return out->secret ? 0 : err_errno(err, ENOMEM, "cannot read the login");
	}
	if (auth && *auth && decode(auth, out) < 0)
		return err_set(err, EINVAL, "its 'auth' is not base64 of USER:PASSWORD");
	return 0;
}

/* Helpers */

static int read_answer(const char *text, struct login *out, struct err *err)
{
	json_error_t where;
	json_t *answer = json_loads(text, 0, &where);
	const char *user = json_string_value(json_object_get(answer, "Username"));
	const char *secret = json_string_value(json_object_get(answer, "Secret"));
	int r = 0;

	if (user && secret) {
		out->token = strcmp(user, "<token>") == 0;
		out->user = strdup(user);
		out->secret = strdup(secret);
	}
	if (!out->user || !out->secret)
		r = err_set(err, EPROTO, "its answer has no Username and Secret");
	json_decref(answer);
	return r;
}

static int ask_helper(const char *program, const char *server, char **ret_answer, struct err *err)
{
	auto_close int in_theirs = -1, in = -1, out_theirs = -1, out = -1;
	struct proc_opts opts = { .path = program,
		.argv = (char *const[]){ (char *)(uintptr_t)program, (char *)"get", NULL },
		.stderr_fd = STDERR_FILENO,
		.die_with_parent = true };
	int a[2], b[2], r, status = 0;
	size_t len;
	pid_t pid;

	if (pipe2(a, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot run it");
	in_theirs = a[0];
	in = a[1];
	if (pipe2(b, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot run it");
	out = b[0];
	out_theirs = b[1];
	opts.stdin_fd = in_theirs;
	opts.stdout_fd = out_theirs;
	r = proc_spawn(&opts, &pid, NULL, err);
	if (r < 0)
		return r;
	out_theirs = safe_close(out_theirs);
	/* A helper that reads nothing says more by its exit status. */
	if (fd_write_full(in, server, strlen(server)) < 0)
		r = 0;
	in = safe_close(in);
	r = fd_read_all(out, ANSWER_MAX, ret_answer, &len);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return err_errno(err, -r, "cannot read its answer");
	return proc_exit_code(status);
}

static int use_helper(const char *name, const char *host, struct login *out, struct err *err)
{
	const char *server = strcmp(host, DOCKER_HUB) == 0 ? DOCKER_INDEX : host;
	auto_free char *program = NULL, *answer = NULL;
	int r;

	if (!*name || strchr(name, '/'))
		return err_set(err, EINVAL, "'%.60s' is no name of a helper", name);
	if (asprintf(&program, HELPER "%s", name) < 0)
		return err_errno(err, ENOMEM, "cannot read the login");
	r = ask_helper(program, server, &answer, err);
	/* It knows nobody there: what it says of that differs from one to the next. */
	if (r == 0)
		r = read_answer(answer, out, err);
	if (answer)
		explicit_bzero(answer, strlen(answer));
	return r < 0 ? err_wrap(err, "'%s'", program) : 0;
}

/* Files */

static int look(const json_t *file, const char *host, struct login *out, struct err *err)
{
	const char *store = json_string_value(json_object_get(file, "credsStore")), *key;
	json_t *value;

	json_object_foreach(json_object_get(file, "credHelpers"), key,
		value) if (is_key_of(key, host) &&
			   json_is_string(value)) return use_helper(json_string_value(value), host,
		out, err);
	json_object_foreach(json_object_get(file, "auths"), key,
		value) if (is_key_of(key, host) && json_object_size(value)) return read_entry(value,
		out, err);
	return store ? use_helper(store, host, out, err) : 0;
}

static int read_file(const char *path, const char *host, struct login *out, struct err *err)
{
	auto_free char *text = NULL;
	json_error_t where;
	json_t *file;
	size_t len;
	int r = fs_read_file(AT_FDCWD, path, FILE_MAX, &text, &len);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0)
		return err_errno(err, -r, "cannot read the logins in '%s'", path);
	file = json_loadb(text, len, 0, &where);
	explicit_bzero(text, len);
	r = file ? look(file, host, out, err) : err_set(err, EINVAL, "%s", where.text);
	json_decref(file);
	return r < 0 ? err_wrap(err, "cannot use the login for '%s' in '%s'", host, path) : 0;
}

static int find(const char *host, struct login *out, struct err *err)
{
	static const struct {
		const char *variable, *rest;
	} places[] = {
		{ "DOCKER_CONFIG", "/config.json" },
		{ "HOME", "/.docker/config.json" },
		{ "REGISTRY_AUTH_FILE", "" },
		{ "XDG_RUNTIME_DIR", "/containers/auth.json" },
		{ "HOME", "/.config/containers/auth.json" },
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(places) && r == 0 && !out->secret; i++) {
		const char *value = getenv(places[i].variable);
		auto_free char *path = NULL;

		if (!value || !*value || (i == 1 && getenv("DOCKER_CONFIG")))
			continue;
		if (asprintf(&path, "%s%s", value, places[i].rest) < 0)
			return err_errno(err, ENOMEM, "cannot read the login");
		r = read_file(path, host, out, err);
	}
	return r;
}

/* Base64 as in URLs (RFC 4648 section 5), which the engine wants. */
static char *header(const char *json)
{
	size_t len = strlen(json), size = 4 * ((len + 2) / 3) + 1;
	auto_free unsigned char *text = malloc(size);
	char *out = NULL;

	if (!text)
		return NULL;
	EVP_EncodeBlock(text, (const unsigned char *)json, (int)len);
	for (unsigned char *p = text; *p; p++)
		*p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
	if (asprintf(&out, "X-Registry-Auth: %s", text) < 0)
		out = NULL;
	explicit_bzero(text, size);
	return out;
}

int engine_auth_header(const char *host, char **ret_header, struct err *err)
{
	struct login login = { 0 };
	json_t *body = NULL;
	char *json = NULL;
	int r = find(host, &login, err);

	*ret_header = NULL;
	if (r == 0 && login.secret) {
		const char *server = strcmp(host, DOCKER_HUB) == 0 ? DOCKER_INDEX : host;

		body = login.token ? json_pack("{s:s, s:s}", "identitytoken", login.secret,
					     "serveraddress", server)
				   : json_pack("{s:s, s:s, s:s}", "username", login.user,
					     "password", login.secret, "serveraddress", server);
		json = body ? json_dumps(body, JSON_COMPACT) : NULL;
		*ret_header = json ? header(json) : NULL;
		if (!*ret_header)
			r = err_errno(err, ENOMEM, "cannot use the login for '%s'", host);
	}
	wipe(json);
	json_decref(body);
	login_deinit(&login);
	return r;
}
