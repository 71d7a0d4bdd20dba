/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cmdline.h"

#include <errno.h>
#include <string.h>

#include "base/macro.h"

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\0';
}

/* If word begins with key, the rest of it. */
static bool after(
	const char *word, size_t len, const char *key, const char **ret_value, size_t *ret_len)
{
	size_t n = strlen(key);

	if (len < n || memcmp(word, key, n) != 0)
		return false;
	*ret_value = word + n;
	*ret_len = len - n;
	return true;
}

static int set_runtime(struct cmdline *c, const char *value, size_t len)
{
	static const char *const words[] = { "builtin", "crun", "runc" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strlen(words[i]) == len && memcmp(value, words[i], len) == 0) {
			memcpy(c->runtime, words[i], len + 1);
			return 0;
		}
	}
	return -EINVAL;
}

static int set_root(struct cmdline *c, const char *value, size_t len)
{
	if (!len || len >= sizeof(c->root))
		return -EINVAL;
	memcpy(c->root, value, len);
	c->root[len] = '\0';
	return 0;
}

static int set_disks(struct cmdline *c, const char *value, size_t len)
{
	if (!len || len >= sizeof(c->disks))
		return -EINVAL;
	memcpy(c->disks, value, len);
	c->disks[len] = '\0';
	return 0;
}

static int take_word(struct cmdline *c, const char *word, size_t len)
{
	const char *value;
	size_t n;

	if (after(word, len, "micropod.runtime=", &value, &n))
		return set_runtime(c, value, n);
	if (after(word, len, "micropod.root=", &value, &n))
		return set_root(c, value, n);
	if (after(word, len, "micropod.disks=", &value, &n))
		return set_disks(c, value, n);
	if (after(word, len, "micropod.vsock", &value, &n) && !n)
		c->vsock = true;
	if (after(word, len, "micropod.late", &value, &n) && !n)
		c->late = true;
	if (after(word, len, "micropod.reset", &value, &n) && !n)
		c->reset = true;
	if (after(word, len, "micropod.debug", &value, &n) && !n)
		c->debug = true;
	if (after(word, len, "micropod.trace", &value, &n) && !n)
		c->trace = true;
	return 0;
}

int cmdline_parse(const char *text, size_t len, struct cmdline *ret_cmdline)
{
	int r = 0;

	*ret_cmdline = (struct cmdline){ .runtime = "crun" };
	for (size_t i = 0; i < len;) {
		size_t n = 0;

		while (i + n < len && !is_space(text[i + n]))
			n++;
		if (n && take_word(ret_cmdline, text + i, n) < 0)
			r = -EINVAL;
		i += n + 1;
	}
	return r;
}
