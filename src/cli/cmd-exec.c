/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/envs.h"
#include "cli/relay.h"

struct exec_opts {
	bool detach, interactive, tty, privileged;
	const char *user, *workdir, *detach_keys;
	int64_t timeout;
	struct strv env, env_files;
};

#define AT(field) offsetof(struct exec_opts, field)
static const struct opt opts[] = {
	{ "detach", 'd', OPT_FLAG, AT(detach), NULL, "start it and leave" },
	{ "detach-keys", 0, OPT_STRING, AT(detach_keys), "KEYS",
		"keys that leave it running (default: " DETACH_KEYS_DEFAULT ")" },
	{ "env", 'e', OPT_LIST, AT(env), "KEY=VALUE",
		"set a variable; KEY alone takes its value from here" },
	{ "env-file", 0, OPT_LIST, AT(env_files), "FILE",
		"set the variables of a file, one KEY=VALUE a line" },
	{ "interactive", 'i', OPT_FLAG, AT(interactive), NULL, "give it our stdin" },
	{ "privileged", 0, OPT_FLAG, AT(privileged), NULL, "with all capabilities" },
	{ "timeout", 0, OPT_DURATION, AT(timeout), "SECONDS",
		"kill it, with its children, if it takes longer, and exit with 124 (0: never)" },
	{ "tty", 't', OPT_FLAG, AT(tty), NULL, "give it a terminal" },
	{ "user", 'u', OPT_STRING, AT(user), "USER[:GROUP]",
		"user, by name or number (default: the container's)" },
	{ "workdir", 'w', OPT_STRING, AT(workdir), "DIR",
		"folder that it starts in (default: the container's)" },
	{ NULL },
};

static const struct exec_opts defaults = { .detach_keys = DETACH_KEYS_DEFAULT };

static void set_bytes(ProtobufCBinaryData *b, const char *s)
{
	b->data = (uint8_t *)s;
	b->len = s ? strlen(s) : 0;
}

static ProtobufCBinaryData *all_bytes(const char *const *words, size_t n)
{
	ProtobufCBinaryData *v = calloc(n + 1, sizeof(*v));

	for (size_t i = 0; v && i < n; i++)
		set_bytes(&v[i], words[i]);
	return v;
}

/* Nobody reads the output of a detached one: it must not wait for a reader. */
static int start_detached(
	struct client *client, Micropod__Agent__V1__ExecStart *start, struct err *err)
{
	Micropod__Agent__V1__CreateProcessRequest create =
		MICROPOD__AGENT__V1__CREATE_PROCESS_REQUEST__INIT;
	Micropod__Agent__V1__StartProcessRequest go =
		MICROPOD__AGENT__V1__START_PROCESS_REQUEST__INIT;
	int code;

	start->process->output_policy = MICROPOD__AGENT__V1__OUTPUT_POLICY__OUTPUT_POLICY_DROP;
	create.container_id = go.container_id = start->container_id;
	create.exec_id = go.exec_id = start->exec_id;
	create.process = start->process;
	if (client_unary(client, AGENT_METHOD("CreateProcess"), &create.base,
		    &micropod__agent__v1__create_process_response__descriptor, CLIENT_CALL_TIME,
		    NULL, &code, err) < 0 ||
		client_unary(client, AGENT_METHOD("StartProcess"), &go.base,
			&micropod__agent__v1__start_process_response__descriptor, CLIENT_CALL_TIME,
			NULL, &code, err) < 0)
		return code;
	return 0;
}

static int execute(struct client *client, const struct exec_opts *o, const struct detach_keys *keys,
	const char **args, size_t n, const struct strv *env, struct err *err)
{
	Micropod__Agent__V1__ExecStart start = MICROPOD__AGENT__V1__EXEC_START__INIT;
	Micropod__Agent__V1__ProcessSpec spec = MICROPOD__AGENT__V1__PROCESS_SPEC__INIT;
	Micropod__Agent__V1__User user = MICROPOD__AGENT__V1__USER__INIT;
	Micropod__Agent__V1__WindowSize window = MICROPOD__AGENT__V1__WINDOW_SIZE__INIT;
	auto_free ProtobufCBinaryData *argv = all_bytes(args, n);
	auto_free ProtobufCBinaryData *envp =
		all_bytes((const char *const *)strv_items(env), env->n);
	char id[ID_LEN + 1];

	if (!argv || !envp)
		return err_errno(err, ENOMEM, "cannot run in sandbox '%s'", client->name);
	id_generate(id);
	start.container_id = client->container;
	start.exec_id = id;
	start.process = &spec;
	spec.args = argv;
	spec.n_args = n;
	spec.env = envp;
	spec.n_env = env->n;
	set_bytes(&spec.cwd, o->workdir);
	set_bytes(&user.name, o->user);
	spec.user = o->user ? &user : NULL;
	spec.tty = o->tty;
	spec.open_stdin = o->interactive;
	spec.privileged = o->privileged;
	spec.kill_after_ns = o->timeout;
	if (o->tty && term_size(&window.rows, &window.columns))
		spec.window = &window;
	return o->detach ? start_detached(client, &start, err)
			 : relay_exec(client, &start, keys, err);
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct exec_opts *o = values;
	auto_strv struct strv env = STRV_INIT;
	auto_client struct client client = { 0 };
	auto_sandbox struct sandbox box = { 0 };
	struct detach_keys keys;
	int r = detach_keys_parse(o->detach_keys, &keys, err);

	if (r < 0)
		return r;
	if (o->workdir && o->workdir[0] != '/')
		return err_set(err, EINVAL, "option '--workdir' is '%s': give an absolute path",
			o->workdir);
	if (!o->detach && o->tty && o->interactive && !isatty(STDIN_FILENO))
		return err_set(err, EINVAL,
			"the input is not a terminal: leave '-t' out, or call from a terminal");
	r = envs_build(&o->env_files, &o->env, &env, err);
	if (r == 0)
		r = target_load(cli, words[0], &box, err);
	if (r == 0)
		r = client_open(cli, &box, &client, err);
	return r < 0 ? r : execute(&client, o, &keys, words + 1, n - 1, &env, err);
}

const struct verb verb_exec = {
	.name = "exec",
	.remote = VERB_HERE,
	.usage = "[OPTIONS] SANDBOX COMMAND [ARG...]",
	.summary = "Run a command in a running sandbox",
	.opts = opts,
	.values_size = sizeof(struct exec_opts),
	.defaults = &defaults,
	.options_first = true,
	.min_words = 2,
	.max_words = WORDS_ANY,
	.run = run,
};
