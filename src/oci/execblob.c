/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout: "mpx1", the number of args and of env entries (two native uint32_t), then cwd, args and
 * env, each with the NUL it needs anyway.
 */
#include "oci/execblob.h"

#include <errno.h>
#include <linux/close_range.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse.h"
#include "base/strbuf.h"
#include "oci/spec.h"

static const char magic[4] = "mpx1";

struct header {
	char magic[4];
	uint32_t n_args, n_env;
};

static uint32_t add_strings(struct strbuf *sb, const char *const *v)
{
	uint32_t n = 0;

	for (; v && v[n]; n++)
		strbuf_add(sb, v[n], strlen(v[n]) + 1);
	return n;
}

int oci_execblob_encode(const char *const *args, const char *const *env, const char *cwd,
	void **ret_blob, size_t *ret_len)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	struct header head = { 0 };

	memcpy(head.magic, magic, sizeof(magic));
	strbuf_add(&sb, &head, sizeof(head));
	if (!cwd || !*cwd)
		cwd = "/";
	strbuf_add(&sb, cwd, strlen(cwd) + 1);
	head.n_args = add_strings(&sb, args);
	head.n_env = add_strings(&sb, env);
	if (strbuf_error(&sb) < 0)
		return -ENOMEM;
	if (sb.len > LIMIT_ARGV)
		return -E2BIG;
	memcpy(sb.data, &head, sizeof(head));
	*ret_len = sb.len;
	*ret_blob = strbuf_finish(&sb);
	return 0;
}

/* n strings from *at on, each ended by a NUL before end; v gets them and a NULL. */
static int take_strings(char **at, const char *end, uint32_t n, char **v)
{
	for (uint32_t i = 0; i < n; i++) {
		char *nul = memchr(*at, 0, (size_t)(end - *at));

		if (!nul)
			return -EBADMSG;
		v[i] = *at;
		*at = nul + 1;
	}
	v[n] = NULL;
	return 0;
}

int oci_execblob_decode(char *blob, size_t len, struct oci_exec *ret_exec)
{
	auto_free char **args = NULL;
	auto_free char **env = NULL;
	const char *end = blob + len;
	char *at = blob + sizeof(struct header), *cwd[2];
	struct header head;

	if (len < sizeof(head) || len > LIMIT_ARGV)
		return -EBADMSG;
	memcpy(&head, blob, sizeof(head));
	/* A string takes a byte at least: counts beyond the length are lies, and would make the
	 * arrays huge. */
	if (memcmp(head.magic, magic, sizeof(magic)) != 0 || !head.n_args || head.n_args > len ||
		head.n_env > len)
		return -EBADMSG;
	args = calloc((size_t)head.n_args + 1, sizeof(char *));
	env = calloc((size_t)head.n_env + 1, sizeof(char *));
	if (!args || !env)
		return -ENOMEM;
	if (take_strings(&at, end, 1, cwd) < 0 || take_strings(&at, end, head.n_args, args) < 0 ||
		take_strings(&at, end, head.n_env, env) < 0 || at != end)
		return -EBADMSG;
	ret_exec->cwd = cwd[0];
	ret_exec->args = take_ptr(args);
	ret_exec->env = take_ptr(env);
	return 0;
}

static const char *path_of(char *const *env)
{
	for (; *env; env++)
		if (strncmp(*env, "PATH=", 5) == 0)
			return *env + 5;
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/* As a runtime looks a program up: with '/', itself; else in each folder of PATH. Returns the errno
 * of the last try that says something. */
static int execute(const struct oci_exec *exec)
{
	const char *name = exec->args[0], *dir = path_of(exec->env);
	int failure = ENOENT;

	if (strchr(name, '/')) {
		execve(name, exec->args, exec->env);
		return errno;
	}
	while (*name && *dir) {
		auto_free char *full = NULL;
		size_t n = strcspn(dir, ":");

		if (asprintf(&full, "%.*s/%s", (int)n, n ? dir : ".", name) < 0) {
			full = NULL;
			return ENOMEM;
		}
		execve(full, exec->args, exec->env);
		if (errno != ENOENT && errno != ENOTDIR)
			failure = errno;
		dir += n + (dir[n] == ':');
	}
	return failure;
}

#define FAILED_NAME "exec-blob:" /* then the errno */

int oci_execblob_errno(const char *name)
{
	int64_t code;

	if (strncmp(name, FAILED_NAME, strlen(FAILED_NAME)) != 0 ||
		parse_i64(name + strlen(FAILED_NAME), 1, 999, &code) < 0)
		return 0;
	return (int)code;
}

static int fail(const char *what, int code)
{
	char name[16];

	snprintf(name, sizeof(name), FAILED_NAME "%d", code);
	prctl(PR_SET_NAME, name);
	dprintf(2, "micropod: %s: %s\n", what, strerror(code));
	return code == ENOENT || code == ENOTDIR ? 127 : 126;
}

int oci_execblob_main(void)
{
	auto_free char *blob = NULL;
	struct oci_exec exec;
	size_t len;
	int r = fd_read_all(OCI_EXEC_FD_BLOB, LIMIT_ARGV, &blob, &len);

	if (r == 0)
		r = oci_execblob_decode(blob, len, &exec);
	if (r < 0)
		return fail("the command handed down", -r);
	/* Nothing of the agent stays open in the program. */
	if (syscall(SYS_close_range, OCI_EXEC_FD_BLOB, OCI_EXEC_FD_AGENT, 0) < 0)
		return fail("close descriptors", errno);
	if (chdir(exec.cwd) < 0)
		return fail("working directory", errno);
	r = fail(exec.args[0], execute(&exec));
	free(exec.args);
	free(exec.env);
	return r;
}
