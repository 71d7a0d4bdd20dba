/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "sandbox/fields.h"
#include "shim/docker.h"

#define RECORD_MAX 4096

static const struct field fields[] = {
	{ "container", FIELD_STRING, offsetof(struct docker_record, container), 0, NULL },
	{ "token", FIELD_STRING, offsetof(struct docker_record, token), 0, NULL },
	{ "credential", FIELD_STRING, offsetof(struct docker_record, credential), 0, NULL },
};

int docker_record_read(int dfd, struct docker_record *ret_record, struct err *err)
{
	auto_free char *text = NULL;
	size_t len;
	int r = fs_read_file(dfd, DOCKER_RECORD, RECORD_MAX, &text, &len);

	*ret_record = (struct docker_record){ 0 };
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_errno(err, -r, "cannot read %s", DOCKER_RECORD);
	return fields_read(fields, ARRAY_SIZE(fields), text, len, ret_record, err);
}

int docker_record_write(int dfd, const struct docker_record *record, struct err *err)
{
	auto_free char *text = NULL;
	int r = fields_write(fields, ARRAY_SIZE(fields), record, &text);

	if (r == 0)
		r = fs_replace_file(dfd, DOCKER_RECORD, text, strlen(text), 0600, true);
	return r < 0 ? err_errno(err, -r, "cannot write %s", DOCKER_RECORD) : 0;
}

void docker_record_deinit(struct docker_record *record)
{
	fields_free(fields, ARRAY_SIZE(fields), record);
}
