/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command-line options from static tables, read as Docker's command line reads them: --name=x,
 * --name x, clusters of letters (-itd), a value behind its letter (-p8080:80), "--" ends options.
 * Help text comes from the same tables.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strbuf.h"

enum opt_type {
	OPT_FLAG,     /* bool: --x, --x=false */
	OPT_STRING,   /* const char *: borrowed from argv; the last one given counts */
	OPT_LIST,     /* struct strv: one entry for each use */
	OPT_SIZE,     /* uint64_t, bytes: parse_size() */
	OPT_DURATION, /* int64_t, ns: parse_duration() */
	OPT_MILLI,    /* uint64_t, thousandths: parse_milli() */
	OPT_UINT,     /* unsigned, min to max */
	OPT_WORD,     /* int: index into words */
	OPT_CALL,     /* whatever parse makes of it */
	OPT_TYPE_MAX
};

struct opt {
	const char *name; /* without "--"; NULL ends a table */
	char letter;	  /* short form, or 0 */
	enum opt_type type;
	size_t offset;	   /* of the value in the struct that the table is parsed into */
	const char *value; /* what the value is called in help and errors: "NAME"; NULL for flags */
	const char *help;  /* one line */
	const char *const *words; /* OPT_WORD: NULL-terminated */
	unsigned min, max;	  /* OPT_UINT */
	/* OPT_CALL: stores at field. 0 or -errno; err says why the value is wrong, without naming
	 * the option. */
	int (*parse)(const char *value, void *field, struct err *err);
};

/* A table and the struct that its values go into, which holds the defaults before. */
struct opt_set {
	const struct opt *opts;
	void *values;
};

struct opt_grammar {
	const char *command;	    /* "micropod run": named in errors */
	const struct opt_set *sets; /* the first set that has an option wins */
	size_t n_sets;
	bool options_first; /* the first positional ends the options: what follows belongs to
			       another program */
};

/*
 * Parses args[0..n). Positionals (borrowed) go to ret_words, which has room for n + 1 pointers and
 * gets a NULL behind. Returns their count, or -EINVAL with one line that names the option, what is
 * wrong and what to do
 * (-ENOMEM too).
 */
int opt_parse(const struct opt_grammar *grammar, char *const *args, size_t n,
	const char **ret_words, struct err *err);

/* Stores one value as if --name=value had been given, for settings from elsewhere. what names it in
 * the error. 0 or -errno. */
int opt_store(
	const struct opt *opt, void *values, const char *what, const char *value, struct err *err);

/*
 * The other way round: appends "--name=value" for each option of the table whose value differs from
 * that in defaults (of the same struct; NULL: zeros). What OPT_CALL has made is left out. 0 or
 * -ENOMEM.
 */
struct strv;
int opt_unparse(
	const struct opt *opts, const void *values, const void *defaults, struct strv *args);

/* The entry of that long name, or NULL. */
const struct opt *opt_find(const struct opt *opts, const char *name);

/* Frees the lists. */
void opt_free(const struct opt *opts, void *values);

/* Appends a table of options as help text. */
void opt_help(const struct opt *opts, struct strbuf *out);

/*
 * How many edits (insert, delete, replace, swap of neighbours) make b of a; words over 63 bytes
 * count as far apart. For "did you mean".
 */
unsigned opt_distance(const char *a, const char *b);
