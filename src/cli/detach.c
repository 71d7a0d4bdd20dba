/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/detach.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static int parse_key(const char *word, size_t len, unsigned char *ret_key)
{
	int c;

	if (len == 1 && isgraph((unsigned char)*word) && *word != ',') {
		*ret_key = (unsigned char)*word;
		return 0;
	}
	if (len != 6 || strncmp(word, "ctrl-", 5) != 0)
		return -EINVAL;
	/* ASCII: the control characters are the letters less 64. */
	c = toupper((unsigned char)word[5]);
	if (c < '@' || c > '_')
		return -EINVAL;
	*ret_key = (unsigned char)(c - '@');
	return 0;
}

int detach_keys_parse(const char *text, struct detach_keys *ret_keys, struct err *err)
{
	struct detach_keys k = { 0 };

	for (const char *at = text; *at;) {
		size_t len = strcspn(at, ",");

		if (k.n == DETACH_KEYS_MAX || parse_key(at, len, &k.keys[k.n++]) < 0 ||
			(at[len] && !at[len + 1]))
			return err_set(err, EINVAL,
				"option '--detach-keys' is '%.100s': give up to %d keys, such as "
				"ctrl-p,ctrl-q",
				text, DETACH_KEYS_MAX);
		at += len + (at[len] == ',');
	}
	*ret_keys = k;
	return 0;
}

/* What was held back was not the keys, but may have their begin in it: with "aab", "aa" and then
 * "a" gives one "a" and holds two. */
static size_t let_go(struct detach_keys *k, unsigned char next, char *out)
{
	unsigned char held[DETACH_KEYS_MAX + 1];
	size_t n = k->matched + 1, gone;

	memcpy(held, k->keys, k->matched);
	held[k->matched] = next;
	for (gone = 1; gone < n; gone++)
		if (memcmp(held + gone, k->keys, n - gone) == 0)
			break;
	k->matched = n - gone;
	memcpy(out, held, gone);
	return gone;
}

size_t detach_keys_filter(
	struct detach_keys *k, const char *in, size_t len, char *out, bool *ret_leave)
{
	size_t n = 0;

	*ret_leave = false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)in[i];

		if (!k->n) {
			out[n++] = in[i];
		} else if (c != k->keys[k->matched]) {
			n += let_go(k, c, out + n);
		} else if (++k->matched == k->n) {
			k->matched = 0;
			*ret_leave = true;
			return n;
		}
	}
	return n;
}
