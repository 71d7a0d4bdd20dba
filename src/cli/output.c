/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse.h"
#include "cli/gotext.h"

const char *const output_words[] = { [OUTPUT_TABLE] = "table", [OUTPUT_JSON] = "json", NULL };
static_assert(ARRAY_SIZE(output_words) == OUTPUT_MAX + 1, "a word for each format");

#define COLUMNS_MAX 16
#define GAP	    3

/* Characters of valid UTF-8: cells are made printable before. */
static size_t width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

void output_table(const struct strv *cells, size_t columns)
{
	size_t widest[COLUMNS_MAX] = { 0 };

	assert(columns <= COLUMNS_MAX && cells->n % columns == 0);
	for (size_t i = 0; i < cells->n; i++)
		widest[i % columns] = MAX(widest[i % columns], width(cells->v[i]));
	for (size_t i = 0; i < cells->n; i++) {
		size_t c = i % columns;

		fputs(cells->v[i], stdout);
		if (c == columns - 1)
			putchar('\n');
		else
			printf("%*s", (int)(widest[c] - width(cells->v[i]) + GAP), "");
	}
}

/* A word without a field would print itself for each row: most likely a mistake. */
static int check_template(const char *format, struct err *err)
{
	return strstr(format, "{{")
		       ? 0
		       : err_set(err, EINVAL,
				 "option '--format' is '%.100s': give table, json, or a template "
				 "such as '{{.ID}}'",
				 format);
}

static bool is_table(const struct output_rows *rows)
{
	return !rows->format || strcmp(rows->format, "table") == 0;
}

static const char *table_template(const struct output_rows *rows)
{
	return rows->format && strncmp(rows->format, "table ", 6) == 0 ? rows->format + 6 : NULL;
}

/* What stands between tabs. */
static int add_cells(struct output_rows *rows, const char *text, struct err *err)
{
	for (;;) {
		size_t len = strcspn(text, "\t");

		if (strv_addn(&rows->cells, text, len) < 0)
			return err_errno(err, ENOMEM, "cannot print");
		if (!text[len])
			return 0;
		text += len + 1;
	}
}

static int format_row(struct output_rows *rows, const json_t *row, struct err *err)
{
	auto_strbuf struct strbuf out = STRBUF_INIT;
	const char *table = table_template(rows);
	int r = gotext_format(table ? table : rows->format, row, &out, err);

	if (r < 0)
		return r;
	if (table)
		return add_cells(rows, out.data ? out.data : "", err);
	puts(out.data ? out.data : "");
	return 0;
}

int output_rows_begin(struct output_rows *rows, const char *format, const char *const *keys,
	const char *const *heading, struct err *err)
{
	json_t *row = json_object();
	int r = 0;

	*rows = (struct output_rows){ .format = format, .keys = keys, .heading = heading };
	if (format && strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
		r = check_template(format, err);
	for (size_t i = 0; keys[i]; i++)
		json_object_set_new(row, keys[i], json_string(heading[i]));
	if (r < 0) {
		json_decref(row);
		return r;
	}
	if (is_table(rows)) {
		while (keys[rows->columns])
			rows->columns++;
		r = strv_addv(&rows->cells, heading) < 0 ? err_errno(err, ENOMEM, "cannot print")
							 : 0;
	} else if (table_template(rows)) {
		r = format_row(rows, row, err);
		rows->columns = rows->cells.n;
		if (r == 0 && rows->columns > COLUMNS_MAX)
			r = err_set(err, EINVAL, "option '--format': give %d columns at most",
				COLUMNS_MAX);
	}
	json_decref(row);
	return r;
}

int output_rows_add(struct output_rows *rows, json_t *row, struct err *err)
{
	int r = 0;

	if (is_table(rows)) {
		for (size_t i = 0; r == 0 && rows->keys[i]; i++) {
			const char *cell = json_string_value(json_object_get(row, rows->keys[i]));

			if (strv_add(&rows->cells, cell ? cell : "") < 0)
				r = err_errno(err, ENOMEM, "cannot print");
		}
	} else if (strcmp(rows->format, "json") == 0) {
		output_json(json_incref(row));
	} else {
		size_t before = rows->cells.n;

		r = format_row(rows, row, err);
		if (r == 0 && table_template(rows) && rows->cells.n - before != rows->columns)
			r = err_set(err, EINVAL,
				"option '--format': a value has a tab in it, which a table cannot "
				"show");
	}
	json_decref(row);
	return r;
}

void output_rows_end(struct output_rows *rows)
{
	if (rows->columns && rows->cells.n && rows->cells.n % rows->columns == 0)
		output_table(&rows->cells, rows->columns);
	strv_deinit(&rows->cells);
}

void output_json(json_t *value)
{
	json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
	putchar('\n');
	json_decref(value);
}

void output_json_pretty(json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(4) | JSON_ENCODE_ANY);
	putchar('\n');
	json_decref(value);
}

/* Each on a line of its own. */
static int print_formatted(const char *format, const json_t *all, struct err *err)
{
	const json_t *o;
	size_t i;

	json_array_foreach(all, i, o)
	{
		auto_strbuf struct strbuf out = STRBUF_INIT;
		int r = gotext_format(format, o, &out, err);

		if (r < 0)
			return r;
		puts(out.data ? out.data : "");
	}
	return 0;
}

int output_inspected(const char *format, json_t *all, struct err *err)
{
	int r = 0;

	if (!format || strcmp(format, "table") == 0)
		output_json_pretty(json_incref(all));
	else if (strcmp(format, "json") == 0)
		output_json(json_incref(all));
	else if ((r = check_template(format, err)) == 0)
		r = print_formatted(format, all, err);
	json_decref(all);
	return r;
}

/* Bytes of the UTF-8 character at s, 0 if there is none. */
static size_t character(const char *s)
{
	for (size_t n = 1; n <= 4 && s[n - 1]; n++)
		if (utf8_valid(s, n))
			return n;
	return 0;
}

json_t *output_string(const char *s)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;

	if (utf8_valid(s, strlen(s)))
		return json_string(s);
	while (*s) {
		size_t n = character(s);

		if (n)
			strbuf_add(&sb, s, n);
		else
			strbuf_adds(&sb, "\xef\xbf\xbd");
		s += n ? n : 1;
	}
	return json_string(sb.data);
}

json_t *output_mac(const uint8_t m[static 6])
{
	return json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

json_t *output_pairs(const struct strv *words)
{
	json_t *o = json_object();

	for (size_t i = 0; i < words->n; i++) {
		const char *equals = strchr(words->v[i], '=');
		auto_free char *key = strndup(words->v[i], strcspn(words->v[i], "="));

		if (key)
			json_object_set_new(o, key, output_string(equals ? equals + 1 : ""));
	}
	return o;
}

const char *output_duration(int64_t ns, char *buf, size_t size)
{
	static const struct {
		int64_t below; /* hours */
		int64_t unit;
		const char *name;
	} coarse[] = {
		{ 48, 1, "hours" },
		{ 24 * 7 * 2, 24, "days" },
		{ 24 * 30 * 2, 24 * 7, "weeks" },
		{ 24 * 365 * 2, 24 * 30, "months" },
		{ INT64_MAX, 24 * 365, "years" },
	};
	int64_t sec = ns / NSEC_PER_SEC, hours = (sec + 1800) / 3600;

	if (sec < 1)
		snprintf(buf, size, "Less than a second");
	else if (sec < 60)
		snprintf(buf, size, "%d second%s", (int)sec, sec == 1 ? "" : "s");
	else if (sec < 120)
		snprintf(buf, size, "About a minute");
	else if (sec < 3600)
		snprintf(buf, size, "%d minutes", (int)(sec / 60));
	else if (hours == 1)
		snprintf(buf, size, "About an hour");
	else
		for (size_t i = 0; i < ARRAY_SIZE(coarse); i++) {
			if (hours < coarse[i].below) {
				snprintf(buf, size, "%lld %s", (long long)(hours / coarse[i].unit),
					coarse[i].name);
				break;
			}
		}
	return buf;
}

#define UNITS 6

static const char *print_size(uint64_t bytes, double step, int figures,
	const char *const units[static UNITS], char *buf, size_t size)
{
	double v = (double)bytes;
	size_t u = 0;

	while (v >= step - 0.5 && u < UNITS - 1) {
		v /= step;
		u++;
	}
	snprintf(buf, size, "%.*g%s", figures, v, units[u]);
	return buf;
}

const char *output_size(uint64_t bytes, char *buf, size_t size)
{
	static const char *const units[UNITS] = { "B", "kB", "MB", "GB", "TB", "PB" };

	return print_size(bytes, 1000, 3, units, buf, size);
}

const char *output_binary_size(uint64_t bytes, char *buf, size_t size)
{
	static const char *const units[UNITS] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };

	return print_size(bytes, 1024, 4, units, buf, size);
}

const char *output_time(int64_t ns, char *buf, size_t size)
{
	time_t sec = (time_t)(ns / NSEC_PER_SEC);
	struct tm tm;
	size_t n;

	if (ns == 0) {
		snprintf(buf, size, "0001-01-01T00:00:00Z");
		return buf;
	}
	gmtime_r(&sec, &tm);
	n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, size - n, ".%09lldZ", (long long)(ns % NSEC_PER_SEC));
	return buf;
}

void output_command(const struct strv *args, size_t max, struct strbuf *out)
{
	auto_strbuf struct strbuf line = STRBUF_INIT;
	size_t shown = 0;

	for (size_t i = 0; i < args->n; i++)
		strbuf_addf(&line, "%s%s", i ? " " : "", args->v[i]);
	strbuf_addc(out, '"');
	for (const char *s = line.data; s && *s; shown++) {
		size_t n = character(s);

		if (max && shown == max - 1 && s[n ? n : 1]) {
			strbuf_adds(out, "\xe2\x80\xa6");
			break;
		}
		if (*s == '"' || *s == '\\')
			strbuf_addf(out, "\\%c", *s);
		else if (*s == '\n')
			strbuf_adds(out, "\\n");
		else if (*s == '\t')
			strbuf_adds(out, "\\t");
		else if (!n || (unsigned char)*s < 0x20 || *s == 0x7f)
			strbuf_addf(out, "\\x%02x", (unsigned char)*s);
		else
			strbuf_add(out, s, n);
		s += n ? n : 1;
	}
	strbuf_addc(out, '"');
}
