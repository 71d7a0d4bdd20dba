/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox and its template: one to start from, or one to be made for those that come later. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/proc.h"
#include "shim/vm.h"

#define BUILD_NICE 10
#define BUILD_LOG  "templates/build.log"

static void note_missing(struct shim *shim, const char *key)
{
	char why[LIMIT_ERR_MESSAGE], text[LIMIT_ERR_MESSAGE + 128];

	switch (template_failure(shim->root, key, why, sizeof(why))) {
	case TEMPLATE_FAILED:
		snprintf(text, sizeof(text),
			"no template could be made, so VMs boot, which takes longer: %s", why);
		shim_notice(shim, text);
		break;
	case TEMPLATE_FAILED_TOLD:
		break;
	case TEMPLATE_NOT_FAILED:
		snprintf(shim->template_key, sizeof(shim->template_key), "%s", key);
		break;
	}
}

void shim_find_template(struct shim *shim)
{
	char key[TEMPLATE_KEY_LEN + 1], text[LIMIT_ERR_MESSAGE + 64];
	struct err err = ERR_INIT;
	int r = machine_key(&shim->machine, key, &err);

	if (r == 0)
		r = template_open(shim->root, key, &shim->template, &err);
	if (r == 0) {
		log_info("template %.12s", key);
	} else if (r == -ENOENT) {
		note_missing(shim, key);
	} else if (r == -EBADMSG) {
		snprintf(text, sizeof(text), "%s: this VM boots, and a new one is made", err.msg);
		shim_notice(shim, text);
		snprintf(shim->template_key, sizeof(shim->template_key), "%s", key);
	} else {
		/* What is wrong is wrong for a boot as well, and told there. */
		log_warning("no template: %s", err.msg);
	}
}

void shim_drop_template(struct shim *shim, const char *why)
{
	char text[LIMIT_ERR_MESSAGE + 128];
	struct err err = ERR_INIT;

	snprintf(text, sizeof(text),
		"template %.12s did not start and was removed (%.400s): this VM boots, and a new "
		"one is made",
		shim->template.key, why);
	shim_notice(shim, text);
	snprintf(shim->template_key, sizeof(shim->template_key), "%s", shim->template.key);
	if (template_remove(shim->root, shim->template.key, &err) < 0)
		log_warning("%s", err.msg);
	template_close(&shim->template);
}

struct launch {
	char *const *argv;
	int log_fd;
};

static int be_nice(void *arg, struct err *err)
{
	return setpriority(PRIO_PROCESS, 0, BUILD_NICE) < 0 ? err_errno(err, errno, "nice") : 0;
}

/* In a short-lived child, so that it is nobody's child and outlives us. */
static int launch(void *arg, struct err *err)
{
	const struct launch *l = arg;
	struct proc_opts opts = { .path = "/proc/self/exe",
		.argv = l->argv,
		.cwd = "/",
		.stdin_fd = -1,
		.stdout_fd = l->log_fd,
		.stderr_fd = l->log_fd,
		.new_session = true,
		.in_child = be_nice };
	pid_t pid;

	return proc_spawn(&opts, &pid, NULL, err);
}

/* What goes wrong with the making is told by those who miss the template, from the log. */
static int open_build_log(const struct sandbox_root *root)
{
	struct stat st;
	int fd = openat(root->fd, BUILD_LOG, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size > LIMIT_SYSTEM_LOG &&
		ftruncate(fd, 0) < 0)
		log_debug("the build log cannot be emptied");
	return fd;
}

void shim_make_template(struct shim *shim)
{
	auto_strv struct strv argv = STRV_INIT;
	auto_close int log = -1;
	struct err err = ERR_INIT;
	int r;

	if (template_building(shim->root, shim->template_key))
		return;
	log = open_build_log(shim->root);
	r = strv_add(&argv, "micropod-shim");
	if (r == 0)
		r = machine_template_order(
			shim->root, &shim->machine, shim->box.config.template_limit, false, &argv);
	if (r == 0) {
		struct launch l = { strv_items(&argv), log };

		r = proc_call(launch, &l, deadline_in(10 * NSEC_PER_SEC), &err);
	}
	if (r < 0)
		log_warning("no template is made: %s", err.code ? err.msg : strerror(-r));
	else
		log_info("making template %.12s", shim->template_key);
	shim->template_key[0] = 0;
}
