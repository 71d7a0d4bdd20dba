/* SPDX-License-Identifier: Apache-2.0 */
#include "base/opt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "base/strv.h"

#define WORD_MAX    64 /* longest word that is compared for a suggestion */
#define HELP_COLUMN 30

unsigned opt_distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned d[WORD_MAX + 1][WORD_MAX + 1];

	if (n >= WORD_MAX || m >= WORD_MAX)
		return WORD_MAX;
	for (size_t i = 0; i <= n; i++)
		d[i][0] = (unsigned)i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			unsigned best = MIN(d[i - 1][j], d[i][j - 1]) + 1;

			best = MIN(best, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MIN(best, d[i - 2][j - 2] + 1);
			d[i][j] = best;
		}
	}
	return d[n][m];
}

const struct opt *opt_find(const struct opt *opts, const char *name)
{
	for (; opts->name; opts++)
		if (strcmp(opts->name, name) == 0)
			return opts;
	return NULL;
}

/* Storing one value */

static int wrong_word(const struct opt *opt, const char *what, const char *value, struct err *err)
{
	char list[256] = "";

	for (size_t i = 0, len = 0; opt->words[i] && len < sizeof(list); i++)
		len += (size_t)snprintf(
			list + len, sizeof(list) - len, "%s%s", i ? ", " : "", opt->words[i]);
	return err_set(err, EINVAL, "%s is '%s': give one of %s", what, value, list);
}

static int store_word(
	const struct opt *opt, int *field, const char *what, const char *value, struct err *err)
{
	for (int i = 0; opt->words[i]; i++) {
		if (strcmp(opt->words[i], value) == 0) {
			*field = i;
			return 0;
		}
	}
	return wrong_word(opt, what, value, err);
}

static int store_call(
	const struct opt *opt, void *field, const char *what, const char *value, struct err *err)
{
	struct err why = ERR_INIT;
	int r = opt->parse(value, field, &why);

	return r < 0 ? err_set(err, -r, "%s is '%s': %s", what, value, why.msg) : 0;
}

int opt_store(
	const struct opt *opt, void *values, const char *what, const char *value, struct err *err)
{
	void *field = (char *)values + opt->offset;
	const char *hint = NULL;
	int r = 0;

	switch (opt->type) {
	case OPT_FLAG:
		r = parse_bool(value, field);
		hint = "give true or false";
		break;
	case OPT_STRING:
		*(const char **)field = value;
		break;
	case OPT_LIST:
		r = strv_add(field, value);
		break;
	case OPT_SIZE:
		r = parse_size(value, field);
		hint = "give bytes, or a number with k, m, g or t, such as 512m";
		break;
	case OPT_DURATION:
		r = parse_duration(value, field);
		hint = "give seconds, or a time such as 300ms, 10s or 1m30s";
		break;
	case OPT_MILLI:
		r = parse_milli(value, field);
		hint = "give a number above 0 with at most three decimals, such as 1.5";
		break;
	case OPT_UINT:
		r = parse_uint(value, opt->min, opt->max, field);
		if (r < 0)
			return err_set(err, EINVAL, "%s is '%s': give a whole number from %u to %u",
				what, value, opt->min, opt->max);
		break;
	case OPT_WORD:
		return store_word(opt, field, what, value, err);
	case OPT_CALL:
		return store_call(opt, field, what, value, err);
	default:
		abort();
	}
	if (r == -ENOMEM)
		return err_errno(err, ENOMEM, "cannot keep %s", what);
	return r < 0 ? err_set(err, EINVAL, "%s is '%s': %s", what, value, hint) : 0;
}

/* Parsing */

struct hit {
	const struct opt *opt;
	void *values;
};

static struct hit find_name(const struct opt_grammar *g, const char *name, size_t len)
{
	for (size_t i = 0; i < g->n_sets; i++)
		for (const struct opt *o = g->sets[i].opts; o->name; o++)
			if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
				return (struct hit){ o, g->sets[i].values };
	return (struct hit){ NULL, NULL };
}

static struct hit find_letter(const struct opt_grammar *g, char letter)
{
	for (size_t i = 0; i < g->n_sets; i++)
		for (const struct opt *o = g->sets[i].opts; o->name; o++)
			if (o->letter == letter)
				return (struct hit){ o, g->sets[i].values };
	return (struct hit){ NULL, NULL };
}

static int unknown_name(const struct opt_grammar *g, const char *name, size_t len, struct err *err)
{
	char word[WORD_MAX];
	const char *nearest = NULL;
	unsigned least = len > 4 ? 3 : 2; /* exclusive: at most two edits, one in a short word */

	snprintf(word, sizeof(word), "%.*s", (int)MIN(len, sizeof(word) - 1), name);
	for (size_t i = 0; i < g->n_sets; i++) {
		for (const struct opt *o = g->sets[i].opts; o->name; o++) {
			unsigned d = opt_distance(word, o->name);

			if (d < least) {
				least = d;
				nearest = o->name;
			}
		}
	}
	if (nearest)
		return err_set(err, EINVAL,
			"unknown option '--%s': did you mean '--%s'? See '%s --help'", word,
			nearest, g->command);
	return err_set(err, EINVAL, "unknown option '--%s': see '%s --help'", word, g->command);
}

static int parse_long(const struct opt_grammar *g, const char *arg, char *const *rest,
	size_t n_rest, size_t *used, struct err *err)
{
	const char *value = strchr(arg, '=');
	size_t len = value ? (size_t)(value - arg) : strlen(arg);
	struct hit h = find_name(g, arg, len);
	char what[WORD_MAX + 8];

	if (!h.opt)
		return unknown_name(g, arg, len, err);
	snprintf(what, sizeof(what), "option '--%s'", h.opt->name);
	if (value) {
		value++;
	} else if (h.opt->type == OPT_FLAG) {
		value = "true";
	} else if (n_rest) {
		value = rest[0];
		*used = 1;
	} else {
		return err_set(
			err, EINVAL, "%s needs a value: --%s %s", what, h.opt->name, h.opt->value);
	}
	return opt_store(h.opt, h.values, what, value, err);
}

/* "-itp8080:80": flags up to the first letter that takes a value, which is the rest of the word or
 * the next one. */
static int parse_letters(const struct opt_grammar *g, const char *arg, char *const *rest,
	size_t n_rest, size_t *used, struct err *err)
{
	bool more = true;

	for (const char *p = arg; *p && more; p++) {
		struct hit h = find_letter(g, *p);
		const char *value = "true";
		char what[WORD_MAX + 16];
		int r;

		if (!h.opt && !arg[1])
			return err_set(err, EINVAL, "unknown option '-%c': see '%s --help'", *p,
				g->command);
		if (!h.opt)
			return err_set(err, EINVAL,
				"unknown option '-%c' in '-%s': see '%s --help'", *p, arg,
				g->command);
		snprintf(what, sizeof(what), "option '-%c' (--%s)", *p, h.opt->name);
		if (h.opt->type != OPT_FLAG || p[1] == '=') {
			more = false;
			if (p[1])
				value = p[1] == '=' ? p + 2 : p + 1;
			else if (n_rest)
				value = rest[(*used)++];
			else
				return err_set(err, EINVAL, "%s needs a value: -%c %s", what, *p,
					h.opt->value);
		}
		r = opt_store(h.opt, h.values, what, value, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int opt_parse(const struct opt_grammar *grammar, char *const *args, size_t n,
	const char **ret_words, struct err *err)
{
	size_t words = 0, i = 0;
	bool options = true;

	while (i < n) {
		const char *arg = args[i++];
		size_t used = 0;
		int r = 0;

		if (!options || arg[0] != '-' || !arg[1]) {
			ret_words[words++] = arg;
			options = options && !grammar->options_first;
			continue;
		}
		if (strcmp(arg, "--") == 0)
			options = false;
		else if (arg[1] == '-')
			r = parse_long(grammar, arg + 2, args + i, n - i, &used, err);
		else
			r = parse_letters(grammar, arg + 1, args + i, n - i, &used, err);
		if (r < 0)
			return r;
		i += used;
	}
	ret_words[words] = NULL;
	return (int)words;
}

void opt_free(const struct opt *opts, void *values)
{
	for (; opts->name; opts++)
		if (opts->type == OPT_LIST)
			strv_deinit((struct strv *)((char *)values + opts->offset));
}

void opt_help(const struct opt *opts, struct strbuf *out)
{
	for (; opts->name; opts++) {
		char left[128];
		int len;

		len = snprintf(left, sizeof(left), "  %c%c%c --%s%s%s", opts->letter ? '-' : ' ',
			opts->letter ? opts->letter : ' ', opts->letter ? ',' : ' ', opts->name,
			opts->value ? " " : "", opts->value ? opts->value : "");
		strbuf_addf(out, "%-*s%s%s", HELP_COLUMN, left, len >= HELP_COLUMN ? "  " : "",
			opts->help);
		for (size_t i = 0; opts->words && opts->words[i]; i++)
			strbuf_addf(out, "%s%s", i ? ", " : " (", opts->words[i]);
		strbuf_adds(out, opts->words ? ")\n" : "\n");
	}
}

static int unparse_number(
	const struct opt *opt, const void *field, const void *before, struct strv *args)
{
	uint64_t value = *(const uint64_t *)field;

	if (before && value == *(const uint64_t *)before)
		return 0;
	if (!before && !value)
		return 0;
	if (opt->type == OPT_DURATION)
		return strv_addf(args, "--%s=%llu.%06llus", opt->name,
			(unsigned long long)(value / 1000000000),
			(unsigned long long)(value % 1000000000 / 1000));
	if (opt->type == OPT_MILLI)
		return strv_addf(args, "--%s=%llu.%03llu", opt->name,
			(unsigned long long)(value / 1000), (unsigned long long)(value % 1000));
	return strv_addf(args, "--%s=%llu", opt->name, (unsigned long long)value);
}

static int unparse_one(
	const struct opt *opt, const void *field, const void *before, struct strv *args)
{
	const struct strv *list = field;
	int r = 0;

	switch (opt->type) {
	case OPT_FLAG:
		if (*(const bool *)field != (before ? *(const bool *)before : false))
			r = strv_addf(args, "--%s=%s", opt->name,
				*(const bool *)field ? "true" : "false");
		return r;
	case OPT_STRING:
		return *(const char *const *)field
			       ? strv_addf(args, "--%s=%s", opt->name, *(const char *const *)field)
			       : 0;
	case OPT_LIST:
		for (size_t i = 0; r == 0 && i < list->n; i++)
			r = strv_addf(args, "--%s=%s", opt->name, list->v[i]);
		return r;
	case OPT_SIZE:
	case OPT_DURATION:
	case OPT_MILLI:
		return unparse_number(opt, field, before, args);
	case OPT_UINT:
		if (*(const unsigned *)field != (before ? *(const unsigned *)before : 0))
			r = strv_addf(args, "--%s=%u", opt->name, *(const unsigned *)field);
		return r;
	case OPT_WORD:
		if (*(const int *)field != (before ? *(const int *)before : 0))
			r = strv_addf(args, "--%s=%s", opt->name, opt->words[*(const int *)field]);
		return r;
	default:
		return 0;
	}
}

int opt_unparse(const struct opt *opts, const void *values, const void *defaults, struct strv *args)
{
	int r = 0;

	for (const struct opt *o = opts; r == 0 && o->name; o++)
		r = unparse_one(o, (const char *)values + o->offset,
			defaults ? (const char *)defaults + o->offset : NULL, args);
	return r;
}
