/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Levelled log lines for people who debug: "2026-01-31T12:00:00.123Z shim info message key=value".
 * Only main loops log above debug; libraries return errors. Process-wide state, set once in main().
 */
#pragma once

#include "base/macro.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_MAX
};

/* ident: borrowed for ever. fd: borrowed, where lines go (2 unless told otherwise). Lines above max
 * are dropped. */
void log_init(const char *ident, int fd, enum log_level max);

/* "error", "warning", "info", "debug" to a level. Returns 0 or -EINVAL; *ret_level untouched on
 * failure. */
int log_level_parse(const char *word, enum log_level *ret_level);

/* Whether a line of this level would be written. */
int log_enabled(enum log_level level);

void log_line(enum log_level level, const char *fmt, ...) PRINTF(2, 3);

#define log_error(...)	 log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                          \
	do {                                                    \
		if (log_enabled(LOG_LEVEL_DEBUG))               \
			log_line(LOG_LEVEL_DEBUG, __VA_ARGS__); \
	} while (0)
