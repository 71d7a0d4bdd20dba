/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: one table row and one file a verb. Verbs return an exit code, or -errno with
 * err, which main() prints as one line; micropod's own failures exit with 125, whatever the verb.
 */
#pragma once

#include "base/opt.h"
#include "cli/context.h"
#include "cli/settings.h"
#include "sandbox/manager.h"

#define EXIT_TIMEOUT	SANDBOX_EXIT_TIMEOUT /* as timeout(1) */
#define EXIT_MICROPOD	125		     /* micropod itself failed */
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND	127
#define WORDS_ANY	UINT32_MAX

struct remote;

struct cli {
	const char *root_path;	 /* --root; NULL: as sandbox_root_open() chooses */
	const char *server, *on; /* --server, --on; NULL: this host */
	bool debug, help, version;
	struct settings settings;
	struct sandbox_root *root; /* open unless the verb has .no_root, or there is ... */
	struct context context;	   /* where the server is, if there is one */
	struct remote *remote;	   /* ... a server */
};

/* What a verb does with a server. */
enum verb_remote {
	VERB_LOCAL,	 /* it is for this host alone */
	VERB_HERE,	 /* it runs here, and calls go through the server (cli/boxes.h) */
	VERB_THERE,	 /* a host runs it */
	VERB_EVERYWHERE, /* every host runs it */
	VERB_BY_SANDBOX, /* the same: that which has the sandbox, for each word */
};

struct verb {
	const char *name;
	const char *usage;	/* what follows the name: "[OPTIONS] SANDBOX..." */
	const char *summary;	/* one line of help */
	const struct opt *opts; /* NULL: none of its own */
	const struct opt
		*shared_opts; /* those it has in common with another; into the same struct */
	size_t values_size;   /* of the struct that opts are parsed into */
	const void *defaults; /* of that struct; NULL: zeros */
	bool settings;	      /* takes the options of cli/settings.h too */
	bool options_first;   /* what follows the first word is another program's */
	bool no_root;
	enum verb_remote remote;
	const char *program; /* the verb is a program of its own, below libexec; args go there */
	unsigned min_words, max_words; /* WORDS_ANY: no upper bound */
	/* words: n of them, NULL behind. Returns the exit code, or -errno; err is printed if it is
	 * set, in either case. */
	int (*run)(
		struct cli *cli, const void *values, const char **words, size_t n, struct err *err);
};

extern const struct verb verb_attach, verb_build, verb_commit, verb_completion, verb_config_show,
	verb_context, verb_cp, verb_create, verb_df, verb_diff, verb_doctor, verb_exec, verb_events,
	verb_export, verb_extend, verb_history, verb_image_prune, verb_images, verb_inspect,
	verb_kill, verb_list, verb_load, verb_login, verb_logout, verb_logs, verb_network_create,
	verb_network_inspect, verb_network_ls, verb_network_prune, verb_network_rm, verb_pause,
	verb_pod_create, verb_pod_inspect, verb_pod_ls, verb_pod_rm, verb_pod_start, verb_pod_stop,
	verb_port, verb_port_forward, verb_prune, verb_ps, verb_pull, verb_push, verb_rename,
	verb_restart, verb_rm, verb_rmi, verb_run, verb_runner, verb_save, verb_server, verb_setup,
	verb_start, verb_stats, verb_stop, verb_tag, verb_template, verb_token, verb_top,
	verb_unpause, verb_update, verb_version, verb_volume_create, verb_volume_inspect,
	verb_volume_ls, verb_volume_prune, verb_volume_rm, verb_wait;

/* All verbs, NULL-terminated, in the order of the help text. */
extern const struct verb *const verb_table[];

/* Groups of verbs as Docker has them ("image ls"): their names, NULL-terminated; the i-th word that
 * follows one, or NULL; the verb that is meant, or NULL. */
extern const char *const verb_groups[];
const char *verb_in_group(const char *group, size_t i);
const struct verb *verb_by_group(const char *group, const char *word);

/* Runs one command line, prints its error, returns the exit code. */
int cli_main(int argc, char **argv);

/* Asks on the terminal whether to go on after this (printf(3)); all but a yes is a no. */
bool cli_confirm(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* One line on stderr, "micropod: " in front. */
void cli_complain(const struct err *err);
