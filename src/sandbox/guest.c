/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/guest.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fs.h"

void sandbox_guest_deinit(struct sandbox_guest *guest)
{
	free(guest->kernel);
	free(guest->initramfs);
	free(guest->initramfs_runc);
	free(guest->version);
	*guest = (struct sandbox_guest){ 0 };
}

bool sandbox_guest_is_kind(const char *word)
{
	return strcmp(word, "small") == 0 || strcmp(word, "cloud") == 0;
}

static char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

int sandbox_guest_current(struct sandbox_root *root, const char *kind,
	struct sandbox_guest *ret_guest, struct err *err)
{
	const char *kernel, *initramfs, *runc = NULL, *version;
	auto_free char *text = NULL;
	char file[32];
	size_t len;
	json_t *o;
	int r;

	snprintf(file, sizeof(file), "guest/%s.json", kind ? kind : "current");
	r = fs_read_file(root->fd, file, 64 * KIB, &text, &len);
	if (r == -ENOENT)
		return err_set(err, ENOENT,
			"no guest kernel is prepared in '%s': run micropod setup", root->path);
	if (r < 0)
		return err_errno(err, -r, "cannot read %s in '%s'", file, root->path);
	o = json_loadb(text, len, 0, NULL);
	if (json_unpack(o, "{s:s, s:s, s?s, s:s}", "kernel", &kernel, "initramfs", &initramfs,
		    "initramfs_runc", &runc, "version", &version) < 0) {
		json_decref(o);
		return err_set(
			err, EPROTO, "%s in '%s' is damaged: run micropod setup", file, root->path);
	}
	ret_guest->kernel = copy(kernel);
	ret_guest->initramfs = copy(initramfs);
	ret_guest->initramfs_runc = copy(runc);
	ret_guest->version = copy(version);
	json_decref(o);
	if (!ret_guest->kernel || !ret_guest->initramfs || !ret_guest->version ||
		(runc && !ret_guest->initramfs_runc)) {
		sandbox_guest_deinit(ret_guest);
		return err_errno(err, ENOMEM, "cannot read %s", file);
	}
	return 0;
}
