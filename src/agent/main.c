/* SPDX-License-Identifier: Apache-2.0 */
/* micropod-agent: `init` as PID 1 of a VM, `serve` on a machine that has booted otherwise, `start`
 * in a container of somebody else's, and two helpers of containers. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/launch.h"
#include "agent/pid1.h"
#include "agent/reap.h"
#include "agent/serve.h"
#include "agent/takeover.h"
#include "oci/execblob.h"

static const char usage[] =
	"usage: micropod-agent init | serve --listen ADDRESS | start COMMAND... | --version | "
	"--help\n"
	"\n"
	"  init    boots a VM as its PID 1 and serves its shim\n"
	"  serve   serves on this machine (serve --help)\n"
	"  start   runs a command as the first process of a container (start --help)\n";

static int init_main(int argc, char **argv)
{
	return agent_init_main(argc, argv, &serve_pid1_ops);
}

static int exec_blob_main(int argc, char **argv)
{
	return oci_execblob_main();
}

/* A container's program that has nothing to do (agent/launch.h). */
static int rehearse_main(int argc, char **argv)
{
	return 0;
}

static const struct verb {
	const char *name;
	int (*main)(int argc, char **argv);
} verbs[] = {
	{ "init", init_main },
	{ "serve", serve_main },
	{ "start", takeover_main },
	{ "reap", reap_main },
	{ "exec-blob", exec_blob_main },
	{ LAUNCH_REHEARSAL_VERB, rehearse_main },
};

int main(int argc, char **argv)
{
	/* The kernel starts /init or /sbin/init without a word. */
	const char *word = argc > 1 ? argv[1] : getpid() == 1 ? "init" : "";

	if (strcmp(word, "--version") == 0) {
		puts("micropod-agent " MICROPOD_VERSION);
		return 0;
	}
	if (strcmp(word, "--help") == 0) {
		fputs(usage, stdout);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (strcmp(word, verbs[i].name) == 0)
			return verbs[i].main(argc, argv);
	fputs(usage, stderr);
	return 2;
}
