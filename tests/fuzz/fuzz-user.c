/* SPDX-License-Identifier: Apache-2.0 */
/* oci/user.h: the input is "user\0group to add\0passwd file\0group file". */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "oci/user.h"

static struct oci_word part(const uint8_t **at, const uint8_t *end)
{
	const uint8_t *from = *at, *nul = from < end ? memchr(from, 0, (size_t)(end - from)) : NULL;
	const uint8_t *to = nul ? nul : end;

	*at = nul ? nul + 1 : end;
	return (struct oci_word){ (const char *)from, (size_t)(to - from) };
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *at = data, *end = data + size;
	struct oci_word spec, more, passwd, group;
	struct oci_user_files files;
	struct oci_user user;
	struct err err = ERR_INIT;
	int r;

	spec = part(&at, end);
	more = part(&at, end);
	passwd = part(&at, end);
	/* The last may hold NUL bytes. */
	group = (struct oci_word){ (const char *)at, (size_t)(end - at) };
	files = (struct oci_user_files){ passwd.data, group.data, passwd.len, group.len };
	r = oci_user_lookup(spec, &more, more.len ? 1 : 0, &files, &user, &err);
	if (r < 0) {
		if (err.code != -r || !err.msg[0])
			abort();
		return 0;
	}
	if (user.home[0] != '/' || user.n_groups > OCI_GROUPS_MAX || user.uid > 0x7fffffff ||
		user.gid > 0x7fffffff)
		abort();
	for (size_t i = 1; i < user.n_groups; i++)
		if (user.groups[i - 1] >= user.groups[i])
			abort();
	return 0;
}
