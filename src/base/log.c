/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"

static const char *const level_words[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};
static_assert(ARRAY_SIZE(level_words) == LOG_LEVEL_MAX, "a word for each level");

static struct {
	const char *ident;
	int fd;
	enum log_level max;
} log_state = { "micropod", 2, LOG_LEVEL_WARNING };

void log_init(const char *ident, int fd, enum log_level max)
{
	log_state.ident = ident;
	log_state.fd = fd;
	log_state.max = max;
}

int log_level_parse(const char *word, enum log_level *ret_level)
{
	for (size_t i = 0; i < LOG_LEVEL_MAX; i++) {
		if (strcmp(word, level_words[i]) == 0) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

int log_enabled(enum log_level level)
{
	return level <= log_state.max;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[LIMIT_LOG_LINE];
	struct timespec now;
	struct tm tm;
	va_list ap;
	size_t len;
	int saved = errno;

	if (!log_enabled(level))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	len += (size_t)snprintf(line + len, sizeof(line) - len, ".%03ldZ %s %s ",
		now.tv_nsec / 1000000, log_state.ident, level_words[level]);
	va_start(ap, fmt);
	vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	for (char *p = line + len; *p; p++)
		if ((unsigned char)*p < 0x20)
			*p = ' ';
	len = strlen(line);
	line[len++] = '\n';
	/* A log that cannot be written has nobody to tell. */
	if (write(log_state.fd, line, len) < 0)
		errno = saved;
	errno = saved;
}
