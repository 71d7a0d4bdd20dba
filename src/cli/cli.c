/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: options before the verb come from the global table; behind it the verb's own table
 * is asked first, then the settings where the verb takes them, then the global one. Help is printed
 * from the same tables.
 */
#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define AT(field) offsetof(struct cli, field)
static const struct opt global_opts[] = {
	{ "debug", 'D', OPT_FLAG, AT(debug), NULL,
		"say on stderr what is done (as MICROPOD_LOG=debug)" },
	{ "help", 'h', OPT_FLAG, AT(help), NULL, "print this and leave" },
	{ "on", 0, OPT_STRING, AT(on), "HOST",
		"with a server: the host to use (default: that with most free memory)" },
	{ "root", 0, OPT_STRING, AT(root_path), "DIR",
		"where images and sandboxes are kept (MICROPOD_ROOT)" },
	{ "server", 0, OPT_STRING, AT(server), "URL",
		"use the hosts of this server (MICROPOD_SERVER), with the token in "
		"MICROPOD_TOKEN" },
	{ "vmm", 0, OPT_STRING, AT(settings.vmm), "WHICH",
		"what runs VMs: qemu, firecracker, cloud-hypervisor, or a file, the QEMU to use "
		"(MICROPOD_VMM)" },
	{ NULL },
};
static const struct opt first_opts[] = {
	{ "version", 'v', OPT_FLAG, AT(version), NULL, "print the version and leave" },
	{ NULL },
};
static const struct opt no_opts[] = { { NULL } };

static const struct opt *table(const struct opt *opts)
{
	return opts ? opts : no_opts;
}

const struct verb *const verb_table[] = { &verb_run, &verb_create, &verb_start, &verb_stop,
	&verb_kill, &verb_restart, &verb_pause, &verb_unpause, &verb_update, &verb_rename,
	&verb_extend, &verb_events, &verb_rm, &verb_ps, &verb_list, &verb_exec, &verb_attach,
	&verb_cp, &verb_diff, &verb_commit, &verb_export, &verb_logs, &verb_top, &verb_port,
	&verb_port_forward, &verb_wait, &verb_inspect, &verb_build, &verb_pull, &verb_push,
	&verb_images, &verb_rmi, &verb_tag, &verb_load, &verb_save, &verb_history,
	&verb_image_prune, &verb_login, &verb_logout, &verb_volume_create, &verb_volume_ls,
	&verb_volume_inspect, &verb_volume_rm, &verb_volume_prune, &verb_network_create,
	&verb_network_ls, &verb_network_inspect, &verb_network_rm, &verb_network_prune,
	&verb_pod_create, &verb_pod_ls, &verb_pod_inspect, &verb_pod_start, &verb_pod_stop,
	&verb_pod_rm, &verb_prune, &verb_df, &verb_doctor, &verb_setup, &verb_stats, &verb_template,
	&verb_server, &verb_runner, &verb_token, &verb_context, &verb_config_show, &verb_completion,
	&verb_version, NULL };

void cli_complain(const struct err *err)
{
	fflush(stdout);
	fprintf(stderr, "micropod: %s\n", err->msg);
}

bool cli_confirm(const char *fmt, ...)
{
	char line[16];
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf(" Go on? [y/N] ");
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

/* Docker's words for the same. */
static const struct {
	const char *group, *word;
	const struct verb *verb;
} grouped[] = {
	{ "container", "attach", &verb_attach },
	{ "container", "commit", &verb_commit },
	{ "container", "cp", &verb_cp },
	{ "container", "create", &verb_create },
	{ "container", "diff", &verb_diff },
	{ "container", "exec", &verb_exec },
	{ "container", "export", &verb_export },
	{ "container", "inspect", &verb_inspect },
	{ "container", "kill", &verb_kill },
	{ "container", "list", &verb_ps },
	{ "container", "logs", &verb_logs },
	{ "container", "ls", &verb_ps },
	{ "container", "pause", &verb_pause },
	{ "container", "port", &verb_port },
	{ "container", "rename", &verb_rename },
	{ "container", "restart", &verb_restart },
	{ "container", "rm", &verb_rm },
	{ "container", "run", &verb_run },
	{ "container", "start", &verb_start },
	{ "container", "stats", &verb_stats },
	{ "container", "stop", &verb_stop },
	{ "container", "top", &verb_top },
	{ "container", "unpause", &verb_unpause },
	{ "container", "update", &verb_update },
	{ "container", "wait", &verb_wait },
	{ "image", "build", &verb_build },
	{ "image", "history", &verb_history },
	{ "image", "inspect", &verb_inspect },
	{ "image", "list", &verb_images },
	{ "image", "load", &verb_load },
	{ "image", "ls", &verb_images },
	{ "image", "prune", &verb_image_prune },
	{ "image", "pull", &verb_pull },
	{ "image", "push", &verb_push },
	{ "image", "rm", &verb_rmi },
	{ "image", "save", &verb_save },
	{ "image", "tag", &verb_tag },
	{ "config", "show", &verb_config_show },
	{ "network", "create", &verb_network_create },
	{ "network", "inspect", &verb_network_inspect },
	{ "network", "list", &verb_network_ls },
	{ "network", "ls", &verb_network_ls },
	{ "network", "prune", &verb_network_prune },
	{ "network", "rm", &verb_network_rm },
	{ "pod", "create", &verb_pod_create },
	{ "pod", "inspect", &verb_pod_inspect },
	{ "pod", "list", &verb_pod_ls },
	{ "pod", "ls", &verb_pod_ls },
	{ "pod", "rm", &verb_pod_rm },
	{ "pod", "start", &verb_pod_start },
	{ "pod", "stop", &verb_pod_stop },
	{ "system", "df", &verb_df },
	{ "system", "events", &verb_events },
	{ "system", "prune", &verb_prune },
	{ "volume", "create", &verb_volume_create },
	{ "volume", "inspect", &verb_volume_inspect },
	{ "volume", "list", &verb_volume_ls },
	{ "volume", "ls", &verb_volume_ls },
	{ "volume", "prune", &verb_volume_prune },
	{ "volume", "rm", &verb_volume_rm },
};

const char *const verb_groups[] = { "config", "container", "image", "network", "pod", "system",
	"volume", NULL };

const char *verb_in_group(const char *group, size_t i)
{
	for (size_t k = 0; k < ARRAY_SIZE(grouped); k++)
		if (strcmp(grouped[k].group, group) == 0 && i-- == 0)
			return grouped[k].word;
	return NULL;
}

const struct verb *verb_by_group(const char *group, const char *word)
{
	for (size_t k = 0; k < ARRAY_SIZE(grouped); k++)
		if (strcmp(grouped[k].group, group) == 0 && strcmp(grouped[k].word, word) == 0)
			return grouped[k].verb;
	return NULL;
}

/* NULL with err: word does not belong to the group; NULL without: there is no such group. */
static const struct verb *find_grouped(const char *group, const char *word, struct err *err)
{
	auto_strbuf struct strbuf known = STRBUF_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(grouped); i++) {
		if (strcmp(grouped[i].group, group) != 0)
			continue;
		if (word && strcmp(grouped[i].word, word) == 0)
			return grouped[i].verb;
		strbuf_addf(&known, "%s%s", known.len ? ", " : "", grouped[i].word);
	}
	if (known.len)
		err_set(err, EINVAL, "'micropod %s' is followed by one of %.300s", group,
			known.data);
	return NULL;
}

static const struct verb *find_verb(const char *name, struct err *err)
{
	const char *nearest = NULL;
	unsigned least = 3;

	for (size_t i = 0; verb_table[i]; i++) {
		unsigned d = opt_distance(name, verb_table[i]->name);

		if (d == 0)
			return verb_table[i];
		if (d < least) {
			least = d;
			nearest = verb_table[i]->name;
		}
	}
	if (nearest)
		err_set(err, EINVAL,
			"unknown command '%.100s': did you mean '%s'? See 'micropod --help'", name,
			nearest);
	else
		err_set(err, EINVAL, "unknown command '%.100s': see 'micropod --help'", name);
	return NULL;
}

static int print_buffer(struct strbuf *sb)
{
	fputs(sb->data ? sb->data : "", stdout);
	return 0;
}

static int help_all(void)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;

	strbuf_adds(&sb, "Usage: micropod [OPTIONS] COMMAND\n\nRuns OCI images, each in a virtual "
			 "machine of its own.\n\nCommands:\n");
	for (size_t i = 0; verb_table[i]; i++)
		strbuf_addf(&sb, "  %-14s %s\n", verb_table[i]->name, verb_table[i]->summary);
	strbuf_adds(&sb, "\nOptions:\n");
	opt_help(global_opts, &sb);
	opt_help(first_opts, &sb);
	strbuf_adds(&sb, "\n'micropod COMMAND --help' tells more about a command.\n");
	return print_buffer(&sb);
}

static int help_verb(const struct verb *verb)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;

	strbuf_addf(&sb, "Usage: micropod %s %s\n\n%s\n", verb->name, verb->usage, verb->summary);
	if (verb->opts || verb->shared_opts) {
		strbuf_adds(&sb, "\nOptions:\n");
		opt_help(table(verb->opts), &sb);
		opt_help(table(verb->shared_opts), &sb);
	}
	if (verb->settings) {
		strbuf_adds(&sb, "\nOptions that micropod.yaml and MICROPOD_* set too:\n");
		opt_help(SETTINGS_OPTIONS, &sb);
	}
	strbuf_adds(&sb, "\nGlobal options:\n");
	opt_help(global_opts, &sb);
	return print_buffer(&sb);
}

static int check_words(const struct verb *verb, size_t n, struct err *err)
{
	if (n < verb->min_words)
		return err_set(err, EINVAL, "'micropod %s' needs %s: micropod %s %s", verb->name,
			verb->min_words == 1 ? "an argument" : "more arguments", verb->name,
			verb->usage);
	if (n > verb->max_words)
		return err_set(err, EINVAL, "'micropod %s' takes %s: micropod %s %s", verb->name,
			verb->max_words ? "fewer arguments" : "no arguments", verb->name,
			verb->usage);
	return 0;
}

/* Without the options that say where: the host has its own. */
static int strip(char *const *args, size_t n, struct strv *out)
{
	static const char *const names[] = { "--server", "--on", "--root" };
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		bool ours = false;

		for (size_t j = 0; j < ARRAY_SIZE(names) && !ours; j++) {
			size_t len = strlen(names[j]);

			ours = strncmp(args[i], names[j], len) == 0 &&
			       (!args[i][len] || args[i][len] == '=');
			if (ours && !args[i][len])
				i++;
		}
		if (!ours)
			r = strv_add(out, args[i]);
	}
	return r;
}

static int run_there(struct cli *cli, const struct verb *verb, char *const *args, size_t n,
	const char **words, size_t n_words, struct err *err)
{
	auto_strv struct strv kept = STRV_INIT;

	if (verb->remote == VERB_BY_SANDBOX)
		return remote_verb(cli->remote, verb->name, true, args, n, words, n_words, err);
	if (strip(args, n, &kept) < 0)
		return err_errno(err, ENOMEM, "cannot ask the server");
	if (verb->remote == VERB_EVERYWHERE)
		return remote_everywhere(cli->remote, verb->name, strv_items(&kept), kept.n, err);
	return remote_verb(
		cli->remote, verb->name, false, strv_items(&kept), kept.n, words, n_words, err);
}

static int run_over_server(struct cli *cli, const struct verb *verb, const void *values,
	char *const *args, size_t n, const char **words, size_t n_words, struct err *err)
{
	int r;

	if (verb->remote == VERB_LOCAL)
		return err_set(err, EINVAL,
			"'micropod %s' is for this host alone: leave '--server' out", verb->name);
	r = remote_open(&cli->context, cli->on, &cli->remote, err);
	if (r < 0)
		return r;
	return verb->remote == VERB_HERE ? verb->run(cli, values, words, n_words, err)
					 : run_there(cli, verb, args, n, words, n_words, err);
}

/* --server, else MICROPOD_SERVER, else the current context. */
static int choose_server(struct cli *cli, struct err *err)
{
	const char *url = cli->server ? cli->server : getenv("MICROPOD_SERVER");

	if (!url || !*url)
		return context_current(&cli->context, err);
	cli->context.server = strdup(url);
	return cli->context.server ? 0 : err_errno(err, ENOMEM, "cannot read the command line");
}

static int run_here(struct cli *cli, const struct verb *verb, const void *values,
	const char **words, size_t n_words, struct err *err)
{
	int r = verb->no_root ? 0 : sandbox_root_open(cli->root_path, &cli->root, err);

	return r < 0 ? r : verb->run(cli, values, words, n_words, err);
}

static int run_with(struct cli *cli, const struct verb *verb, void *values, char *const *args,
	size_t n, struct err *err)
{
	const struct opt_set sets[] = {
		{ table(verb->opts), values },
		{ table(verb->shared_opts), values },
		{ verb->settings ? SETTINGS_OPTIONS : no_opts, &cli->settings },
		{ global_opts, cli },
	};
	char command[64];
	const struct opt_grammar grammar = { command, sets, ARRAY_SIZE(sets), verb->options_first };
	const char **words = calloc(n + 1, sizeof(*words));
	int count, r;

	if (!words)
		return err_errno(err, ENOMEM, "cannot read the command line");
	snprintf(command, sizeof(command), "micropod %s", verb->name);
	count = opt_parse(&grammar, args, n, words, err);
	r = MIN(count, 0);
	if (r == 0 && cli->help) {
		free(words);
		return help_verb(verb);
	}
	if (r == 0)
		r = check_words(verb, (size_t)count, err);
	if (cli->debug)
		log_init("micropod", 2, LOG_LEVEL_DEBUG);
	if (r == 0 && !verb->no_root)
		r = choose_server(cli, err);
	if (r == 0 && cli->on && !cli->context.server)
		r = err_set(err, EINVAL,
			"option '--on' needs a server: give --server URL, or choose a context");
	if (r == 0 && cli->context.server)
		r = run_over_server(cli, verb, values, args, n, words, (size_t)count, err);
	else if (r == 0)
		r = run_here(cli, verb, values, words, (size_t)count, err);
	free(words);
	return r;
}

static int run_verb(
	struct cli *cli, const struct verb *verb, char *const *args, size_t n, struct err *err)
{
	void *values = calloc(1, MAX(verb->values_size, 1));
	int r;

	if (!values)
		return err_errno(err, ENOMEM, "cannot read the command line");
	if (verb->defaults)
		memcpy(values, verb->defaults, verb->values_size);
	r = run_with(cli, verb, values, args, n, err);
	opt_free(table(verb->opts), values);
	opt_free(table(verb->shared_opts), values);
	free(values);
	return r;
}

static int set_log_level(struct err *err)
{
	const char *word = getenv("MICROPOD_LOG");
	enum log_level level = LOG_LEVEL_ERROR;

	if (word && *word && log_level_parse(word, &level) < 0)
		return err_set(err, EINVAL,
			"variable MICROPOD_LOG is '%.100s': give one of error, warning, info, "
			"debug",
			word);
	log_init("micropod", 2, level);
	return 0;
}

/* Options and help are that program's. Returns only if it cannot be executed. */
static int run_program(const struct verb *verb, char *const *args, struct err *err)
{
	auto_strv struct strv argv = STRV_INIT;
	auto_free char *program = NULL;
	int r = sandbox_program(verb->program, &program, err);

	if (r < 0)
		return r;
	r = strv_add(&argv, program);
	/* One program has several verbs. */
	if (r == 0 && strcmp(verb->name, strrchr(verb->program, '-') + 1) != 0)
		r = strv_add(&argv, verb->name);
	if (r == 0)
		r = strv_addv(&argv, (const char *const *)args);
	if (r < 0)
		return err_errno(err, ENOMEM, "cannot start %s", program);
	execv(program, argv.v);
	return err_errno(err, errno, "cannot execute %s", program);
}

static int run(struct cli *cli, char *const *args, size_t n, struct err *err)
{
	const struct opt_set sets[] = { { first_opts, cli }, { global_opts, cli } };
	const struct opt_grammar grammar = { "micropod", sets, ARRAY_SIZE(sets), true };
	const char **words = calloc(n + 1, sizeof(*words));
	const struct verb *verb = NULL;
	int count, r = set_log_level(err);

	if (!words)
		return err_errno(err, ENOMEM, "cannot read the command line");
	if (r == 0)
		r = settings_load(&cli->settings, err);
	count = r < 0 ? r : opt_parse(&grammar, args, n, words, err);
	if (count > 0) {
		verb = find_grouped(words[0], count > 1 ? words[1] : NULL, err);
		if (verb)
			count--;
		else if (!err->code)
			verb = find_verb(words[0], err);
		count = verb ? count : -EINVAL;
	}
	free(words);
	if (count < 0)
		return count;
	if (cli->version)
		return verb_version.run(cli, NULL, NULL, 0, err);
	if (!verb)
		return help_all(); /* with --help and, as Docker, without any word */
	if (verb->program)
		return run_program(verb, args + n - (size_t)count + 1, err);
	/* The verb's words are the last of args, whatever came in front. */
	return run_verb(cli, verb, args + n - (size_t)count + 1, (size_t)count - 1, err);
}

/* Without 0, 1 and 2 open, files would get those numbers and output would go into them. */
static void open_stdio(void)
{
	for (int fd = 0; fd < 3; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			abort();
	}
}

int cli_main(int argc, char **argv)
{
	struct cli cli = { .settings = settings_defaults };
	struct err err = ERR_INIT;
	int code;

	open_stdio();
	umask(077);
	code = timeline_begin(&err);
	if (code == 0)
		code = run(&cli, argv + 1, argc > 0 ? (size_t)argc - 1 : 0, &err);
	remote_close(cli.remote);
	context_deinit(&cli.context);
	sandbox_root_free(cli.root);
	settings_deinit(&cli.settings);
	if (code < 0 || err.code)
		cli_complain(&err);
	if (code < 0)
		code = EXIT_MICROPOD;
	if (fflush(stdout) != 0 || ferror(stdout)) {
		err_errno(&err, errno, "cannot write the output");
		cli_complain(&err);
		code = code ? code : EXIT_MICROPOD;
	}
	err = ERR_INIT;
	if (timeline_show(&err) < 0)
		cli_complain(&err);
	return code;
}
