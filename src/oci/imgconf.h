/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image's configuration (OCI image-spec config.md, with Docker's Healthcheck) and what becomes
 * of it and the command line: the first process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strv.h"

struct image_healthcheck {
	struct strv test; /* empty: none; {"NONE"}, {"CMD", args...} or {"CMD-SHELL", command} */
	int64_t interval_ns, timeout_ns, start_period_ns; /* 0: the default */
	unsigned retries;
};

struct image_config {
	struct strv entrypoint, cmd;
	struct strv env;	   /* KEY=VALUE */
	char *user;		   /* "name", "uid", "name:group" ...; NULL: root */
	char *working_dir;	   /* NULL: "/" */
	char *stop_signal;	   /* "SIGQUIT", "3" ...; NULL: SIGTERM */
	struct strv volumes;	   /* paths in the container, sorted */
	struct strv exposed_ports; /* "80/tcp", sorted */
	struct strv labels;	   /* KEY=VALUE, sorted */
	struct image_healthcheck healthcheck;
	char *architecture, *os, *variant; /* never NULL except variant */
	int64_t created;		   /* seconds since 1970; 0: not said */
	struct strv diff_ids;		   /* of the layers, lowest first */
};

/*
 * Reads the JSON of a configuration blob (at most LIMIT_MANIFEST bytes, hostile). *ret_config is
 * the caller's (image_config_deinit). -EBADMSG with err.
 */
int image_config_parse(
	const char *json, size_t len, struct image_config *ret_config, struct err *err);
void image_config_deinit(struct image_config *config);

/* RFC 3339 to seconds since 1970; 0: it is none, or NULL. */
int64_t image_time_parse(const char *text);

/* What the command line says. All borrowed. */
struct imgconf_overrides {
	const char *entrypoint;	 /* NULL: the image's; "": none. Either way given, the image's Cmd
				    does not count */
	const char *const *args; /* NULL-terminated; NULL or empty: the image's Cmd */
	const char *const
		*env; /* KEY=VALUE replaces, KEY alone removes; NULL-terminated, may be NULL */
	const char *working_dir; /* NULL: the image's */
	const char *user;	 /* NULL: the image's */
	bool tty;		 /* adds TERM=xterm */
};

struct imgconf_process {
	struct strv argv, env;
	char *cwd, *user; /* never NULL; user "": root */
};

/*
 * The first process as Docker computes it. HOSTNAME and HOME are for whoever starts it.
 * *ret_process is the caller's (imgconf_process_deinit). -EINVAL with err: no command, or a cwd
 * that is not absolute.
 */
int imgconf_process(const struct image_config *config, const struct imgconf_overrides *over,
	struct imgconf_process *ret_process, struct err *err);
void imgconf_process_deinit(struct imgconf_process *process);

#define auto_image_config    __attribute__((cleanup(image_config_deinit)))
#define auto_imgconf_process __attribute__((cleanup(imgconf_process_deinit)))
