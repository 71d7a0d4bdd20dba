/* SPDX-License-Identifier: Apache-2.0 */
#include "image/tree.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/limits.h"

#define NAME_LEN_MAX   255
#define LINK_COUNT_MAX 65000	  /* ext4's */
#define WALK_MAX       (64 * KIB) /* bytes still to walk, with symbolic links put in */

struct key {
	const char *name;
	size_t len;
};

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int r = memcmp(a, b, MIN(a_len, b_len));

	return r ? r : (a_len > b_len) - (a_len < b_len);
}

static int compare_dentries(const void *a, const void *b)
{
	const struct dentry *x = a, *y = b;

	return compare_names(x->name, x->len, y->name, y->len);
}

/* tfind(3) gives the key first. */
static int compare_key(const void *key, const void *node)
{
	const struct key *k = key;
	const struct dentry *d = node;

	return compare_names(k->name, k->len, d->name, d->len);
}

void attributes_deinit(struct attributes *attr)
{
	for (size_t i = 0; i < attr->n_xattrs; i++) {
		free(attr->xattrs[i].name);
		free(attr->xattrs[i].value);
	}
	free(attr->xattrs);
	attr->xattrs = NULL;
	attr->n_xattrs = 0;
}

struct inode *inode_new(mode_t mode)
{
	struct inode *inode = calloc(1, sizeof(*inode));

	if (inode)
		inode->attr.mode = mode;
	return inode;
}

struct inode *inode_free(struct inode *inode)
{
	if (inode) {
		attributes_deinit(&inode->attr);
		free(inode->extents.v);
		free(inode->extent_root);
		free(inode->target);
		free(inode);
	}
	return NULL;
}

DEFINE_CLEANUP(inode, struct inode *, inode_free)

int tree_init(struct tree *tree, struct blocks *blocks, int64_t created)
{
	*tree = (struct tree){
		.blocks = blocks, .created = created, .root = inode_new(S_IFDIR | 0755)
	};
	if (!tree->root)
		return -ENOMEM;
	tree->root->attr.mtime = created;
	return 0;
}

/* Depth is bounded by LIMIT_PATH_DEPTH. */
static void drop_dentry(void *p)
{
	struct dentry *d = p;
	struct inode *inode = d->inode;

	if (S_ISDIR(inode->attr.mode))
		tdestroy(inode->children, drop_dentry);
	if (--inode->nlink == 0)
		inode_free(inode);
	free(d);
}

void tree_deinit(struct tree *tree)
{
	if (tree->root)
		tdestroy(tree->root->children, drop_dentry);
	inode_free(tree->root);
	*tree = (struct tree){ 0 };
}

struct dentry *tree_lookup(const struct inode *dir, const char *name, size_t len)
{
	struct key key = { name, len };
	void *found = tfind(&key, &dir->children, compare_key);

	return found ? *(struct dentry **)found : NULL;
}

struct collect {
	struct dentry **v;
	size_t n;
};

static void collect_one(const void *node, VISIT visit, void *arg)
{
	struct collect *c = arg;

	if (visit == postorder || visit == leaf)
		c->v[c->n++] = *(struct dentry *const *)node;
}

struct dentry **tree_children(const struct inode *dir)
{
	struct collect c = { calloc(dir->n_children + 1, sizeof(*c.v)), 0 };

	if (c.v)
		twalk_r(dir->children, collect_one, &c);
	return c.v;
}

int tree_link(struct tree *tree, struct inode *dir, const char *name, struct inode *inode)
{
	size_t len = strlen(name);
	struct dentry *old = tree_lookup(dir, name, len), *d;
	bool is_dir = S_ISDIR(inode->attr.mode);
	int r;

	if (old && old->inode == inode) {
		old->layer = tree->layer;
		return 0;
	}
	if (len == 0 || len > NAME_LEN_MAX)
		return -ENAMETOOLONG;
	if (inode->nlink >= LINK_COUNT_MAX)
		return -EMLINK;
	if (is_dir && dir->depth >= LIMIT_PATH_DEPTH)
		return -ELOOP;
	if (old) {
		/* inode may be linked from below the old entry alone: hold it. */
		inode->nlink++;
		r = tree_remove(tree, old);
		inode->nlink--;
		if (r < 0)
			return r;
	}
	if (tree->n_dentries >= LIMIT_LAYER_ENTRIES)
		return -EFBIG;
	d = malloc(sizeof(*d) + len + 1);
	if (!d)
		return -ENOMEM;
	*d = (struct dentry){
		.inode = inode, .dir = dir, .layer = tree->layer, .len = (uint8_t)len
	};
	memcpy(d->name, name, len + 1);
	if (!tsearch(d, &dir->children, compare_dentries)) {
		free(d);
		return -ENOMEM;
	}
	inode->nlink++;
	if (is_dir) {
		inode->parent = dir;
		inode->depth = dir->depth + 1;
		dir->n_dirs++;
	}
	dir->n_children++;
	tree->n_dentries++;
	return 0;
}

static int remove_children(struct tree *tree, struct inode *dir)
{
	auto_free struct dentry **children = tree_children(dir);
	int r = 0;

	if (!children)
		return -ENOMEM;
	for (size_t i = 0; children[i] && r == 0; i++)
		r = tree_remove(tree, children[i]);
	return r;
}

int tree_remove(struct tree *tree, struct dentry *d)
{
	struct inode *inode = d->inode, *dir = d->dir;
	bool is_dir = S_ISDIR(inode->attr.mode);
	int r;

	if (is_dir && (r = remove_children(tree, inode)) < 0)
		return r;
	if (inode->nlink == 1) {
		r = blocks_free(tree->blocks, &inode->extents);
		if (r < 0)
			return r;
	}
	tdelete(d, &dir->children, compare_dentries);
	dir->n_children--;
	dir->n_dirs -= is_dir;
	tree->n_dentries--;
	if (--inode->nlink == 0)
		inode_free(inode);
	free(d);
	return 0;
}

int tree_clear_lower(struct tree *tree, struct inode *dir)
{
	auto_free struct dentry **children = NULL;
	int r = 0;

	/* Once a layer is enough: what comes into the folder afterwards is the layer's own. */
	if (dir->cleared == tree->layer + 1)
		return 0;
	children = tree_children(dir);
	if (!children)
		return -ENOMEM;
	for (size_t i = 0; children[i] && r == 0; i++)
		r = tree_remove_lower(tree, children[i]);
	if (r == 0)
		dir->cleared = tree->layer + 1;
	return r;
}

int tree_remove_lower(struct tree *tree, struct dentry *d)
{
	struct inode *inode = d->inode;
	int r;

	if (S_ISDIR(inode->attr.mode)) {
		r = tree_clear_lower(tree, inode);
		if (r < 0 || inode->n_children)
			return r;
	}
	return d->layer == tree->layer ? 0 : tree_remove(tree, d);
}

/* Cleans path lexically, in place, to "a/b/c"; "" is the root. */
static int clean(char *path, struct err *err)
{
	size_t starts[LIMIT_PATH_DEPTH], depth = 0, out = 0;

	for (char *p = path, *next; *p; p = next) {
		size_t len = strcspn(p, "/");

		next = p[len] ? p + len + 1 : p + len;
		if (len == 0 || (len == 1 && p[0] == '.'))
			continue;
		if (len == 2 && p[0] == '.' && p[1] == '.') {
			if (depth == 0)
				return err_set(err, EINVAL, "the path climbs out of the image");
			out = starts[--depth];
			continue;
		}
		if (len > NAME_LEN_MAX)
			return err_set(
				err, ENAMETOOLONG, "a name is longer than %d bytes", NAME_LEN_MAX);
		if (depth == LIMIT_PATH_DEPTH)
			return err_set(
				err, EFBIG, "the path is deeper than %d folders", LIMIT_PATH_DEPTH);
		starts[depth++] = out;
		if (out)
			path[out++] = '/';
		memmove(path + out, p, len);
		out += len;
	}
	path[out] = 0;
	return 0;
}

struct walk {
	struct tree *tree;
	struct inode *dir;
	char *rest; /* owned by tree_walk(); components still to walk */
	int links;
	bool make;
};

static int make_dir(struct walk *w, const char *name, struct inode **ret_inode)
{
	auto_clean(inode) struct inode *inode = inode_new(S_IFDIR | 0755);
	int r;

	if (!inode)
		return -ENOMEM;
	inode->attr.mtime = w->tree->created;
	r = tree_link(w->tree, w->dir, name, inode);
	if (r < 0)
		return r;
	*ret_inode = take_ptr(inode);
	return 0;
}

static int follow(struct walk *w, const char *target, const char *rest, struct err *err)
{
	char *joined;

	if (++w->links > LIMIT_SYMLINKS)
		return err_set(
			err, ELOOP, "more than %d symbolic links lead there", LIMIT_SYMLINKS);
	if (strlen(target) + strlen(rest) + 2 > WALK_MAX)
		return err_set(err, ENAMETOOLONG, "the path is too long with its symbolic links");
	if (asprintf(&joined, "%s/%s", target, rest) < 0)
		return err_set(err, ENOMEM, "out of memory");
	free(w->rest);
	w->rest = joined;
	if (target[0] == '/')
		w->dir = w->tree->root;
	return 0;
}

/* Walks one component of w->rest, which starts at p. *ret_next: where the next one starts. */
static int step(struct walk *w, char *p, char **ret_next, struct err *err)
{
	size_t len = strcspn(p, "/");
	char *next = p[len] ? p + len + 1 : p + len;
	struct dentry *d;
	struct inode *made;
	int r;

	p[len] = 0;
	*ret_next = next;
	if (len == 0 || strcmp(p, ".") == 0)
		return 0;
	if (strcmp(p, "..") == 0) {
		if (w->dir->parent)
			w->dir = w->dir->parent;
		return 0;
	}
	d = tree_lookup(w->dir, p, len);
	if (d && S_ISLNK(d->inode->attr.mode)) {
		r = follow(w, d->inode->target, next, err);
		*ret_next = w->rest;
		return r;
	}
	if (d && !S_ISDIR(d->inode->attr.mode))
		return err_set(err, ENOTDIR, "'%.100s' on the way is no folder", p);
	if (d) {
		w->dir = d->inode;
		return 0;
	}
	if (!w->make)
		return err_set(err, ENOENT, "'%.100s' on the way is missing", p);
	r = make_dir(w, p, &made);
	if (r == -ELOOP)
		return err_set(err, EFBIG, "the path is deeper than %d folders", LIMIT_PATH_DEPTH);
	if (r < 0)
		return err_errno(err, -r, "cannot make folder '%.100s'", p);
	w->dir = made;
	return 0;
}

int tree_walk(struct tree *tree, char *path, bool make, struct inode **ret_dir,
	const char **ret_name, struct err *err)
{
	struct walk w = { .tree = tree, .dir = tree->root, .make = make };
	int r = clean(path, err);
	char *slash, *p;

	if (r < 0)
		return r;
	slash = strrchr(path, '/');
	*ret_name = slash ? slash + 1 : path;
	w.rest = slash ? strndup(path, (size_t)(slash - path)) : strdup("");
	if (!w.rest)
		return err_set(err, ENOMEM, "out of memory");
	for (p = w.rest; r == 0 && *p;)
		r = step(&w, p, &p, err);
	free(w.rest);
	if (r == 0)
		*ret_dir = w.dir;
	return r;
}
