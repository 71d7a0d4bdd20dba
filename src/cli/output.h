/* SPDX-License-Identifier: Apache-2.0 */
/* What the listing verbs print: tables with Docker's columns, times and sizes as Docker words them.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "base/strv.h"

enum output_format { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_MAX };
extern const char *const output_words[]; /* for an OPT_WORD */

/* Cells row by row, columns of them a row; the first row is the heading. Prints to stdout, three
 * spaces between columns. */
void output_table(const struct strv *cells, size_t columns);

/*
 * Rows of a listing, printed as --format says: NULL or "table", "json" (an object a line), a
 * template (cli/gotext.h) for each, or "table TEMPLATE" with columns between tabs. All are
 * borrowed.
 */
struct output_rows {
	const char *format;
	const char *const *keys;    /* of the objects, in the table's order; NULL-terminated */
	const char *const *heading; /* of each */
	struct strv cells;
	size_t columns;
};

/* 0, or -EINVAL with err for a template that is wrong. */
int output_rows_begin(struct output_rows *rows, const char *format, const char *const *keys,
	const char *const *heading, struct err *err);
/* One row, an object of strings; takes the reference. 0 or -errno with err. */
int output_rows_add(struct output_rows *rows, json_t *row, struct err *err);
/* Prints what is to be aligned, and forgets it. */
void output_rows_end(struct output_rows *rows);
#define OUTPUT_FORMAT_HELP "how to print: table, json, or a template such as '{{.ID}}'"

/* One JSON value on a line of its own; takes the reference. */
void output_json(json_t *value);
/* The same over several lines, indented. */
void output_json_pretty(json_t *value);

/* What inspect prints of an array: NULL: indented JSON; "json": on one line; else the template for
 * each. Takes the reference. 0 or -errno with err. */
int output_inspected(const char *format, json_t *all, struct err *err);

/* A JSON string of s; bytes that are not UTF-8 become U+FFFD, as Docker shows them. */
json_t *output_string(const char *s);

/* KEY=VALUE words as a JSON object of strings. */
/* "02:..." */
json_t *output_mac(const uint8_t mac[static 6]);
json_t *output_pairs(const struct strv *words);

/* "Less than a second", "5 minutes", "About an hour", "3 days". buf: at least 32 bytes; returns
 * buf. */
const char *output_duration(int64_t ns, char *buf, size_t size);

/* "5.29MB": decimal units, three figures. */
const char *output_size(uint64_t bytes, char *buf, size_t size);

/* "5.293MiB": binary units, four figures, as Docker's memory columns. */
const char *output_binary_size(uint64_t bytes, char *buf, size_t size);

/* RFC 3339 with nanoseconds, UTC; 0 gives Docker's "0001-01-01T00:00:00Z". buf: at least 40 bytes.
 */
const char *output_time(int64_t ns, char *buf, size_t size);

/* Appends args as one quoted word, cut to max characters (0: all) with an ellipsis, and with
 * control and non-UTF-8 bytes escaped. */
void output_command(const struct strv *args, size_t max, struct strbuf *out);
