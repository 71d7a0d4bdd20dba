/* SPDX-License-Identifier: Apache-2.0 */
/* The engine is talked to by micropod-docker-shim alone, which tells what it has found in lines
 * (shim/docker-main.c). */
#include "cli/docker.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/proc.h"
#include "base/trace.h"
#include "cli/container.h"
#include "cli/progress.h"
#include "driver/docker/host.h"

#define SHIM "micropod-docker-shim"

bool docker_is_direct(const struct run_opts *o)
{
	return o->no_agent || (o->agent_server && !engine_is_local(engine_host()));
}

int docker_check_options(const struct run_opts *o, struct err *err)
{
	const char *only = o->cold	      ? "cold"
			   : o->host_access   ? "host-access"
			   : o->platform      ? "platform"
			   : o->rootfs	      ? "rootfs"
			   : o->runtime	      ? "runtime"
			   : o->scratch_bytes ? "storage-opt"
					      : NULL;

	if (only)
		return err_set(
			err, EINVAL, "option '--%s' is for VMs, not for '--driver docker'", only);
	if (o->agent_path && (o->agent_path[0] != '/' || strlen(o->agent_path) < 2 ||
				     o->agent_path[strlen(o->agent_path) - 1] == '/' ||
				     strlen(o->agent_path) > 90 || strstr(o->agent_path, "/../")))
		return err_set(err, EINVAL,
			"option '--agent-path' is '%.100s': give an absolute path of at most 90 "
			"bytes",
			o->agent_path);
	if (!o->agent_server != !o->agent_token_file)
		return err_set(err, EINVAL,
			"options '--agent-server' and '--agent-token-file' need each other");
	if (o->no_agent && (o->agent_server || o->agent_binary || o->agent_path))
		return err_set(err, EINVAL, "with '--no-agent' there is no agent to be told of");
	return 0;
}

/* The image */

static void show(struct progress *progress, const char *line)
{
	struct image_progress what = { .phase = IMAGE_PHASE_LAYER };
	unsigned long long done, total;
	char text[65];

	if (sscanf(line, "progress %llu %llu %64s", &done, &total, text) != 3)
		return;
	what.text = text;
	what.done = done;
	what.total = total;
	progress_show(progress, &what);
}

/* The last line's verdict: the image, or why there is none. */
static int read_lines(FILE *lines, struct progress *progress, char **ret_json, struct err *err)
{
	auto_free char *line = NULL;
	size_t size = 0;
	ssize_t n;

	while ((n = getline(&line, &size, lines)) > 0) {
		int code, at = 0;

		if (line[n - 1] == '\n')
			line[n - 1] = 0;
		if (strncmp(line, "image ", 6) == 0) {
			*ret_json = strdup(line + 6);
			return *ret_json ? 0 : err_errno(err, ENOMEM, "cannot read the image");
		}
		if (sscanf(line, "error %d %n", &code, &at) == 1 && at && code > 0)
			return err_set(err, code, "%s", line + at);
		show(progress, line);
	}
	return err_set(err, EIO, SHIM " has ended without an answer");
}

static int ask_engine(const char *host, const char *policy, const char *image, bool quiet,
	char **ret_json, struct err *err)
{
	auto_progress struct progress progress;
	auto_free char *program = NULL;
	auto_fclose FILE *lines = NULL;
	auto_close int theirs = -1;
	struct proc_opts opts = {
		.stdin_fd = -1, .stderr_fd = STDERR_FILENO, .die_with_parent = true
	};
	int fds[2], r = sandbox_program(SHIM, &program, err);
	pid_t pid;

	progress_init(&progress, quiet);
	if (r < 0)
		return r;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot ask the engine");
	theirs = fds[1];
	lines = fdopen(fds[0], "r");
	if (!lines) {
		safe_close(fds[0]);
		return err_errno(err, ENOMEM, "cannot ask the engine");
	}
	opts.path = program;
	opts.argv = (char *const[]){ program, (char *)"image", (char *)host, (char *)policy,
		(char *)image, NULL };
	opts.stdout_fd = theirs;
	r = proc_spawn(&opts, &pid, NULL, err);
	theirs = safe_close(theirs);
	if (r < 0)
		return r;
	r = read_lines(lines, &progress, ret_json, err);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}

/* The sandbox */

static int copy(char **field, const char *value, struct err *err)
{
	*field = value ? strdup(value) : NULL;
	return value && !*field ? err_errno(err, ENOMEM, "cannot make the sandbox") : 0;
}

static int set_image(const struct run_opts *o, const char **words, const char *json,
	struct sandbox_config *c, struct err *err)
{
	auto_image_config struct image_config config = { 0 };
	json_t *answer = json_loads(json, 0, NULL);
	auto_free char *text = json_dumps(json_object_get(answer, "config"), JSON_COMPACT);
	int r = text ? image_config_parse(text, strlen(text), &config, err)
		     : err_set(err, EBADMSG, "the engine's answer makes no sense");

	if (r == 0)
		r = copy(&c->image_digest, json_string_value(json_object_get(answer, "id")), err);
	json_decref(answer);
	if (r < 0)
		return err_wrap(err, "image '%s'", words[0]);
	r = run_set_process(o, &config, words, c, err);
	if (r == 0)
		r = container_set_image(o, &config, c, err);
	if (r == 0)
		r = copy(&c->image, words[0], err);
	if (r == 0)
		r = copy(&c->image_arch, config.architecture, err);
	if (r == 0 && strv_addv(&c->image_volumes, (const char *const *)config.volumes.v) < 0)
		r = err_errno(err, ENOMEM, "cannot make the sandbox");
	return r;
}

static int set_container(
	struct cli *cli, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	int r = copy(&c->engine, engine_host(), err);

	/* As Docker: no limit unless one is asked for. */
	c->memory = cli->settings.memory;
	c->cpu_milli = cli->settings.cpu_milli;
	c->no_agent = o->no_agent;
	if (r == 0)
		r = copy(&c->agent_server, o->agent_server, err);
	if (r == 0 && o->agent_token_file) {
		c->agent_token_file = realpath(o->agent_token_file, NULL);
		if (!c->agent_token_file)
			r = err_errno(err, errno, "cannot find the agent's token '%s'",
				o->agent_token_file);
	}
	if (r == 0)
		r = copy(&c->agent_path,
			o->agent_path		     ? o->agent_path
			: engine_is_local(c->engine) ? DOCKER_AGENT_HERE
						     : DOCKER_AGENT_PATH,
			err);
	if (r == 0 && o->agent_binary) {
		c->agent = realpath(o->agent_binary, NULL);
		if (!c->agent)
			r = err_errno(err, errno, "cannot find the agent '%s'", o->agent_binary);
	}
	if (r == 0 && !engine_is_local(c->engine) && !c->agent_server && !c->no_agent)
		return err_set(err, ENOTSUP,
			"the engine at %s is not on this host: its containers cannot reach the "
			"sandbox' shim here, so a server has to be named with --agent-server",
			c->engine);
	return r;
}

/* The engine keeps what it writes. */
static int no_scratch(const char *path, uint64_t bytes, void *arg, struct err *err)
{
	return 0;
}

int docker_create(struct cli *cli, const struct run_opts *o, const char **words,
	struct sandbox_config *c, struct err *err)
{
	auto_free char *json = NULL;
	int r = set_container(cli, o, c, err);

	if (r == 0)
		r = ask_engine(c->engine, run_pulls[o->pull], words[0], o->quiet, &json, err);
	if (r == 0)
		r = set_image(o, words, json, c, err);
	trace_step("image found");
	return r < 0 ? r : sandbox_create(cli->root, c, no_scratch, NULL, err);
}
