/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/guest.h"

#include <errno.h>
#include <jansson.h>
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

int sandbox_guest_current(
	struct sandbox_root *root, struct sandbox_guest *ret_guest, struct err *err)
{
	const char *kernel, *initramfs, *runc, *version;
	auto_free char *text = NULL;
	size_t len;
	json_t *o;
	int r = fs_read_file(root->fd, "guest/current.json", 64 * KIB, &text, &len);

	if (r == -ENOENT)
		return err_set(err, ENOENT,
			"no guest kernel is prepared in '%s': run micropod setup", root->path);
	if (r < 0)
		return err_errno(err, -r, "cannot read guest/current.json in '%s'", root->path);
	o = json_loadb(text, len, 0, NULL);
	if (json_unpack(o, "{s:s, s:s, s:s, s:s}", "kernel", &kernel, "initramfs", &initramfs,
		    "initramfs_runc", &runc, "version", &version) < 0) {
		json_decref(o);
		return err_set(err, EPROTO,
			"guest/current.json in '%s' is damaged: run micropod setup", root->path);
	}
	ret_guest->kernel = strdup(kernel);
	ret_guest->initramfs = strdup(initramfs);
	ret_guest->initramfs_runc = strdup(runc);
	ret_guest->version = strdup(version);
	json_decref(o);
	if (!ret_guest->kernel || !ret_guest->initramfs || !ret_guest->initramfs_runc ||
		!ret_guest->version) {
		sandbox_guest_deinit(ret_guest);
		return err_errno(err, ENOMEM, "cannot read guest/current.json");
	}
	return 0;
}
