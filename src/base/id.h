/* SPDX-License-Identifier: Apache-2.0 */
/* Random ids and keys, and names that people give. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ID_LEN	     32 /* hex digits of a sandbox id */
#define ID_SHOWN_LEN 12

/* Fills buf with n random bytes from getrandom(2). Never fails: an unready pool blocks at boot, as
 * it must. */
void random_bytes(void *buf, size_t n);

/* Lower-case hex of n bytes and a NUL into out[2n + 1]. */
void hex_encode(const void *data, size_t n, char *out);

/* Exactly 2n hex digits to n bytes. Returns 0 or -EINVAL. */
int hex_decode(const char *hex, void *out, size_t n);

/* A fresh sandbox id: ID_LEN hex digits, of which the first shown ones are never all decimal (as
 * Docker's). */
void id_generate(char out[static ID_LEN + 1]);

/* Docker's rule for names: [a-zA-Z0-9][a-zA-Z0-9_.-]+, at most LIMIT_NAME bytes. */
bool name_valid(const char *name);

/* A random "adjective_noun" for sandboxes without a name; unique only with high chance.
 * out[LIMIT_NAME + 1]. */
void name_generate(char *out, size_t size);

/* Compares n bytes in time that does not depend on them. */
bool secret_equal(const void *a, const void *b, size_t n);
