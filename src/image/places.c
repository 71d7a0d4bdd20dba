/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container mounts over an image needs places to be mounted at. Docker makes those that the
 * image lacks at each start, in the container's own layer; here they are on the image's disk, once.
 * Whatever the image itself has there, be it a link, stays.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "image/tree.h"

/* The entry's inode, made if it is missing. 0 or -errno. */
static int ensure(
	struct tree *tree, struct inode *dir, const char *name, mode_t mode, struct inode **ret)
{
	struct dentry *d = tree_lookup(dir, name, strlen(name));
	struct inode *inode;
	int r;

	if (d) {
		*ret = d->inode;
		return 0;
	}
	inode = inode_new(mode);
	if (!inode)
		return -ENOMEM;
	inode->attr.mtime = tree->created;
	r = tree_link(tree, dir, name, inode);
	if (r < 0)
		inode_free(inode);
	else
		*ret = inode;
	return r;
}

int tree_add_places(struct tree *tree, struct err *err)
{
	static const char *const folders[] = { "proc", "dev", "sys", "etc" };
	static const char *const files[] = { "resolv.conf", "hosts", "hostname" };
	struct inode *inode = NULL;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(folders) && r == 0; i++)
		r = ensure(tree, tree->root, folders[i], S_IFDIR | 0755, &inode);
	/* The last one is /etc. */
	for (size_t i = 0; i < ARRAY_SIZE(files) && r == 0 && S_ISDIR(inode->attr.mode); i++) {
		struct inode *file;

		r = ensure(tree, inode, files[i], S_IFREG | 0644, &file);
	}
	return r < 0 ? err_errno(err, -r, "cannot add what is mounted over the image") : 0;
}
