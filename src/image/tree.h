/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image's file tree while layers are put on each other: names and attributes in memory, content
 * as blocks of the disk to be. Nothing here touches the host's file system. Names are bytes without
 * '/' and NUL.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "image/blocks.h"

struct xattr {
	char *name; /* "user.x" */
	void *value;
	size_t len;
};

struct attributes {
	mode_t mode; /* with the type */
	uint32_t uid, gid;
	int64_t mtime;
	uint32_t mtime_nsec;
	uint32_t major, minor;
	struct xattr *xattrs;
	size_t n_xattrs;
};

struct inode {
	struct attributes attr;
	uint64_t size;
	struct extents extents; /* of a file; later also of a folder or long symbolic link */
	char *target;		/* of a symbolic link */
	uint32_t nlink;		/* entries that name it */
	/* for ext4.c */
	uint32_t number;      /* on the disk; 0 until given */
	uint32_t flags;	      /* EXT4_..._FL */
	uint32_t meta_blocks; /* of the extent tree, below its root */
	void *extent_root;    /* the 60 bytes of i_block, if not all extents fit there */
	/* of a folder */
	struct inode *parent; /* NULL: the root */
	void *children;	      /* tsearch(3) tree of struct dentry by name */
	size_t n_children, n_dirs;
	uint32_t depth;
	uint32_t cleared; /* 1 + the last layer before which it has nothing left */
};

struct dentry {
	struct inode *inode;
	struct inode *dir;
	uint32_t layer; /* that put it there last */
	uint8_t len;
	char name[];
};

struct tree {
	struct inode *root;
	struct blocks *blocks; /* borrowed */
	uint32_t layer;	       /* being applied */
	int64_t created;       /* time of folders that no layer has */
	uint64_t n_dentries;
};

int tree_init(struct tree *tree, struct blocks *blocks, int64_t created); /* 0 or -ENOMEM */
void tree_deinit(struct tree *tree);

struct inode *inode_new(mode_t mode);	       /* NULL: out of memory */
struct inode *inode_free(struct inode *inode); /* only one without entries; its blocks stay taken */
void attributes_deinit(struct attributes *attr);

/* A folder's entry of this name, or NULL. */
struct dentry *tree_lookup(const struct inode *dir, const char *name, size_t len);

/*
 * Walks to the folder that holds path's last component, whose name goes to *ret_name (into path's
 * memory, NUL behind it);
 * "" if path is the root. Symbolic links are followed inside the root. make: missing folders are
 * made, else -ENOENT. path is taken apart. 0 or -errno with err, which says only what is wrong.
 */
int tree_walk(struct tree *tree, char *path, bool make, struct inode **ret_dir,
	const char **ret_name, struct err *err);

/* Puts inode into dir under name; what was there goes. Consumes nothing on failure. 0, -ENOMEM,
 * -EFBIG too many, -EMLINK, -ELOOP too deep. */
int tree_link(struct tree *tree, struct inode *dir, const char *name, struct inode *inode);

/* Removes the entry and all below it. 0 or -ENOMEM. */
int tree_remove(struct tree *tree, struct dentry *dentry);

/* Whiteouts: removes what lower layers put there: the entry with all below it, or all in a folder.
 * 0 or -ENOMEM. */
int tree_remove_lower(struct tree *tree, struct dentry *dentry);
int tree_clear_lower(struct tree *tree, struct inode *dir);

/* Adds the places of what every container mounts (/proc, /dev, /sys, three files in /etc) where the
 * image has nothing. 0 or -errno with err. */
int tree_add_places(struct tree *tree, struct err *err);

/* A folder's entries sorted by name (bytes), NULL behind them; the array is the caller's. NULL: out
 * of memory. */
struct dentry **tree_children(const struct inode *dir);
