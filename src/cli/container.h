/* SPDX-License-Identifier: Apache-2.0 */
/* Options that say what a container may do and have, which are Docker's and mean the same whatever
 * runs it. */
#pragma once

#include "cli/runopts.h"

/* Checks them and puts them into the configuration; what they name of this host is read. 0 or
 * -errno with err. */
int container_set(struct cli *cli, const struct run_opts *opts, struct sandbox_config *config,
	struct err *err);

/*
 * The part of it that can be changed later: --memory-swap, --pids-limit, CPUs; --cpu-quota is put
 * into the settings in place of --cpus. And --restart. 0 or -EINVAL with err.
 */
int container_set_limits(struct cli *cli, const struct run_opts *opts,
	struct sandbox_config *config, struct err *err);
int container_set_restart(
	const struct run_opts *opts, struct sandbox_config *config, struct err *err);

/* Whether a sandbox with so many CPUs has those that it is to run on. 0 or -EINVAL with err. */
int container_check_cpus(const struct sandbox_config *config, unsigned cpus, struct err *err);

/* What depends on the image: its labels, and the ports that --publish-all stands for. */
int container_set_image(const struct run_opts *opts, const struct image_config *image,
	struct sandbox_config *config, struct err *err);

/*
 * Those that name files of this host (--security-opt seccomp=, --label-file), for another one: with
 * what is in the files in their place. 0 or -errno with err.
 */
int container_for_host(
	const struct run_opts *opts, struct strv *labels, struct strv *security, struct err *err);
