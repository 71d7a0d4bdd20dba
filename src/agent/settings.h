/* SPDX-License-Identifier: Apache-2.0 */
/* What later processes of a container get, out of what its creation said. */
#pragma once

#include "agent/api.h"
#include "agent/exec.h"

/* Environment, working folder and filter from the request's own fields. hostname: the container's.
 * 0 or -errno with err. */
int settings_from_request(const API(CreateContainerRequest) * req, const char *hostname,
	struct exec_settings *s, struct err *err);

/*
 * The same from a whole OCI spec (req->oci_spec). Its seccomp profile would have to be compiled:
 * execs get req->seccomp_bpf, else the built-in default. *ret_terminal: process.terminal; *ret_args
 * (appended): process.args.
 */
int settings_from_spec(const API(CreateContainerRequest) * req, struct exec_settings *s,
	bool *ret_terminal, struct strv *ret_args, struct err *err);

/*
 * User, capabilities, limits, no_new_privs and OOM score from the config.json that the runtime
 * gets, so that execs and the first process agree. 0 or -errno with err.
 */
int settings_from_config(const char *text, struct exec_settings *s, struct err *err);

/* This process' own environment, folder, user and capabilities. 0 or -errno with err. */
int settings_from_self(struct exec_settings *s, struct err *err);

/* Changes s to what an exec asks for. env entries without '=' remove that variable. 0 or -errno
 * with err. */
int settings_for_exec(struct exec_settings *s, const API(ProcessSpec) * spec, struct err *err);
