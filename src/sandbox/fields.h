/* SPDX-License-Identifier: Apache-2.0 */
/* Structs to JSON objects and back by a table of fields. */
#pragma once

#include <jansson.h>

#include "base/err.h"

enum field_type {
	FIELD_STRING, /* char *: malloc'd or NULL; any bytes, {"hex": ...} where they are no UTF-8
		       */
	FIELD_CHARS,  /* char[size], NUL-terminated */
	FIELD_STRV,   /* struct strv */
	FIELD_BOOL,   /* bool */
	FIELD_I32,
	FIELD_I64,
	FIELD_U64,
	FIELD_MAC,   /* uint8_t[6], "02:..." */
	FIELD_PORTS, /* struct sandbox_port *, followed by size_t */
	FIELD_WORD,  /* int-sized enum, by words */
	FIELD_TYPE_MAX
};

struct field {
	const char *key;
	enum field_type type;
	size_t offset;
	size_t size;		  /* FIELD_CHARS: of the array; FIELD_WORD: number of words */
	const char *const *words; /* FIELD_WORD */
};

/* 0 or -ENOMEM. */
int fields_write(const struct field *fields, size_t n, const void *object, char **ret_text);

/* Fields that are missing keep what object has; a wrong type or value is -EPROTO with err. Unknown
 * keys are ignored: a newer program wrote them. */
int fields_read(const struct field *fields, size_t n, const char *text, size_t len, void *object,
	struct err *err);

/* Frees what the fields own and zeroes them. */
void fields_free(const struct field *fields, size_t n, void *object);
