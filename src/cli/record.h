/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of container.log, the Kubernetes CRI log format: "<RFC 3339 time> <stdout|stderr> <F|P>
 * <bytes>\n". F: the bytes end a line; P: the line goes on in the stream's next record.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct record {
	int64_t time_ns;
	bool is_stderr;
	bool partial;
	const char *stamp; /* the time as written; borrowed, stamp_len bytes */
	size_t stamp_len;
	const char *data; /* borrowed */
	size_t len;
};

/* One line without its newline. 0, or -EINVAL: not a record. */
int record_parse(const char *line, size_t len, struct record *ret_record);

/* Which records to print, and how. */
struct record_filter {
	int64_t since_ns, until_ns; /* 0: no bound */
	bool timestamps;
};

/* What was printed so far, so that a line that came in parts gets one time in front. */
struct record_printer {
	struct record_filter filter;
	uint64_t skip_lines; /* whole lines still to be left out */
	bool skipping[2];    /* a line of stdout, stderr that has begun is left out */
	bool inside[2];	     /* a line of stdout, stderr has begun */
	bool past_until;
	/* Takes n bytes of stdout or stderr. 0 or -errno. */
	int (*write)(bool is_stderr, const void *data, size_t n, void *arg);
	void *arg;
};

/* Prints what the filter lets through. 0 or -errno of write. */
int record_print(struct record_printer *printer, const struct record *record);

/* Whether the filter lets it through. */
bool record_wanted(const struct record_filter *filter, const struct record *record);
