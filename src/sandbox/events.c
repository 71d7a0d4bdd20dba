/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/events.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#define TRIES 10

/* The file, locked, and with room. fd or -errno. */
static int open_log(int dfd)
{
	for (int i = 0; i < TRIES; i++) {
		auto_close int fd = openat(dfd, EVENTS_FILE,
			O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		struct stat ours, there;

		if (fd < 0 || flock(fd, LOCK_EX) < 0 || fstat(fd, &ours) < 0)
			return -errno;
		/* Somebody may have moved it away before we had the lock. */
		if (fstatat(dfd, EVENTS_FILE, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
			ours.st_ino != there.st_ino)
			continue;
		if ((uint64_t)ours.st_size < LIMIT_EVENTS_LOG)
			return take_fd(&fd);
		if (renameat(dfd, EVENTS_FILE, dfd, EVENTS_OLD) < 0)
			return -errno;
	}
	return -EAGAIN;
}

/* As Docker's, with the fields of its older API beside the newer ones. */
static char *make_line(
	const struct sandbox_config *c, const char *action, const char *key, const char *value)
{
	int64_t now = clock_realtime();
	json_t *attributes =
		       json_pack("{s:s, s:s}", "image", c->image ? c->image : "", "name", c->name),
	       *event;
	auto_free char *text = NULL;
	char *line;

	if (key)
		json_object_set_new(attributes, key, json_string(value));
	event = json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:s, s:o}, s:s, s:I, s:I}", "status",
		action, "id", c->id, "from", c->image ? c->image : "", "Type", "container",
		"Action", action, "Actor", "ID", c->id, "Attributes", attributes, "scope", "local",
		"time", (json_int_t)(now / NSEC_PER_SEC), "timeNano", (json_int_t)now);
	text = event ? json_dumps(event, JSON_COMPACT) : NULL;
	json_decref(event);
	return text && asprintf(&line, "%s\n", text) >= 0 ? line : NULL;
}

void sandbox_event(const struct sandbox_root *root, const struct sandbox_config *config,
	const char *action, const char *key, const char *value)
{
	auto_free char *line = make_line(config, action, key, value);
	auto_close int fd = open_log(root->fd);
	int r = !line ? -ENOMEM : fd < 0 ? fd : fd_write_full(fd, line, strlen(line));

	if (r < 0)
		log_warning("event '%s' of sandbox %.12s is not in %s: %s", action, config->id,
			EVENTS_FILE, strerror(-r));
}
