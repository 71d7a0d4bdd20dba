/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/proc.h"

/* FNV-1a, 64 bits: tells roots of one user apart, no secret in it. */
static uint64_t hash_path(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3u;
	return h;
}

static char *default_root(void)
{
	const char *root = getenv("MICROPOD_ROOT"), *data = getenv("XDG_DATA_HOME"),
		   *home = getenv("HOME");
	char *path = NULL;
	int n;

	if (root && *root)
		return strdup(root);
	if (geteuid() == 0)
		return strdup("/var/lib/micropod");
	if (data && *data == '/')
		n = asprintf(&path, "%s/micropod", data);
	else if (home && *home == '/')
		n = asprintf(&path, "%s/.local/share/micropod", home);
	else
		n = asprintf(&path, "/tmp/micropod-data-%u", geteuid());
	return n < 0 ? NULL : path;
}

/* The folder that run folders of all roots go into; for /tmp one more level, owned and checked. */
static int run_base(char **ret_base, struct err *err)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	char *base = NULL;
	int n, r;

	if (geteuid() == 0 && access("/run", W_OK) == 0)
		n = asprintf(&base, "/run/micropod-");
	else if (xdg && *xdg == '/' && stat(xdg, &st) == 0 && st.st_uid == geteuid() &&
		 strlen(xdg) < 64)
		n = asprintf(&base, "%s/micropod-", xdg);
	else
		n = asprintf(&base, "/tmp/micropod-%u/", geteuid());
	if (n < 0)
		return err_errno(err, ENOMEM, "cannot name the run folder");
	if (base[n - 1] == '/') {
		base[n - 1] = 0;
		r = fs_private_dir(base, err);
		base[n - 1] = '/';
		if (r < 0) {
			free(base);
			return r;
		}
	}
	*ret_base = base;
	return 0;
}

static int name_run(struct sandbox_root *root, struct err *err)
{
	auto_free char *base = NULL;
	int r = run_base(&base, err);

	if (r < 0)
		return r;
	if (asprintf(&root->run, "%s%016llx", base, (unsigned long long)hash_path(root->path)) <
		0) {
		root->run = NULL;
		return err_errno(err, ENOMEM, "cannot name the run folder");
	}
	return 0;
}

int sandbox_root_make_run(struct sandbox_root *root, struct err *err)
{
	return fs_private_dir(root->run, err);
}

void sandbox_root_drop_run(struct sandbox_root *root)
{
	rmdir(root->run);
}

static int open_below(struct sandbox_root *root, const char *wanted, struct err *err)
{
	static const char *const folders[] = { "sandboxes", "names", "cache" };
	char *parent_end;
	auto_free char *parent = strdup(wanted);
	int r;

	if (!parent)
		return err_errno(err, ENOMEM, "cannot open root '%s'", wanted);
	parent_end = strrchr(parent, '/');
	if (parent_end && parent_end != parent) {
		*parent_end = 0;
		r = fs_make_dirs(parent, 0755);
		if (r < 0)
			return err_errno(err, -r, "cannot make folder '%s'", parent);
	}
	r = fs_private_dir(wanted, err);
	if (r < 0)
		return r;
	root->path = realpath(wanted, NULL);
	if (!root->path)
		return err_errno(err, errno, "cannot resolve root '%s'", wanted);
	root->fd = open(root->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root->fd < 0)
		return err_errno(err, errno, "cannot open root '%s'", root->path);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (mkdirat(root->fd, folders[i], 0700) < 0 && errno != EEXIST)
			return err_errno(err, errno, "cannot make '%s' in root '%s'", folders[i],
				root->path);
	root->boxes_fd = openat(root->fd, "sandboxes", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root->boxes_fd < 0)
		return err_errno(err, errno, "cannot open the sandboxes of root '%s'", root->path);
	r = proc_boot_id(root->boot_id);
	return r < 0 ? err_errno(err, -r, "cannot read the boot id") : 0;
}

int sandbox_root_open(const char *path, struct sandbox_root **ret_root, struct err *err)
{
	auto_free char *wanted = path ? strdup(path) : default_root();
	struct sandbox_root *root = calloc(1, sizeof(*root));
	int r;

	if (!root || !wanted) {
		free(root);
		return err_errno(err, ENOMEM, "cannot open the root");
	}
	root->fd = root->boxes_fd = -1;
	r = open_below(root, wanted, err);
	if (r == 0)
		r = name_run(root, err);
	if (r < 0) {
		sandbox_root_free(root);
		return r;
	}
	*ret_root = root;
	return 0;
}

struct sandbox_root *sandbox_root_free(struct sandbox_root *root)
{
	if (root) {
		safe_close(root->fd);
		safe_close(root->boxes_fd);
		free(root->path);
		free(root->run);
		free(root);
	}
	return NULL;
}

/*
 * Places to look in, relative to the folder of this executable: beside it (installed helpers look
 * for each other there), the installed layout from PREFIX/bin and PREFIX/libexec/micropod, and the
 * build tree.
 */
static const char *const program_places[] = { "%s/%s", "%s/../libexec/micropod/%s", "%s/../cli/%s",
	"%s/../shim/%s", "%s/../net/%s", "%s/../driver/%s", "%s/../../guest/%s",
	"%s/../../agents/%s", "%s/../runner/%s", "%s/../server/%s", "%s/../../bin/%s",
	"%s/../../lib/micropod/%s" };

int sandbox_program(const char *name, char **ret_path, struct err *err)
{
	const char *libexec = getenv("MICROPOD_LIBEXEC");
	char self[4096], *slash;
	ssize_t n;

	if (libexec && *libexec) {
		if (asprintf(ret_path, "%s/%s", libexec, name) < 0)
			return err_errno(err, ENOMEM, "cannot look for %s", name);
		return 0;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return err_errno(err, errno, "cannot tell where this program lies");
	self[n] = 0;
	slash = strrchr(self, '/');
	*slash = 0;
	for (size_t i = 0; i < ARRAY_SIZE(program_places); i++) {
		auto_free char *path = NULL;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		if (asprintf(&path, program_places[i], self, name) < 0)
			return err_errno(err, ENOMEM, "cannot look for %s", name);
#pragma GCC diagnostic pop
		if (access(path, X_OK) == 0) {
			*ret_path = take_ptr(path);
			return 0;
		}
	}
	return err_set(err, ENOENT,
		"program %s is missing beside '%s': install micropod again, or set "
		"MICROPOD_LIBEXEC to its folder",
		name, self);
}

char *sandbox_run_dir(const struct sandbox_root *root, const char *id)
{
	char *p = NULL;

	return asprintf(&p, "%s/%.*s", root->run, ID_SHOWN_LEN, id) < 0 ? NULL : p;
}

char *sandbox_socket(const struct sandbox_root *root, const char *id)
{
	char *p = NULL;

	return asprintf(&p, "%s/%.*s/shim.sock", root->run, ID_SHOWN_LEN, id) < 0 ? NULL : p;
}

char *sandbox_path(const struct sandbox_root *root, const char *id, const char *file)
{
	char *p = NULL;

	return asprintf(&p, "%s/sandboxes/%s%s%s", root->path, id, file ? "/" : "",
		       file ? file : "") < 0
		       ? NULL
		       : p;
}
