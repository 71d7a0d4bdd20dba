/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the guest's end of a copy is a tool that the agent runs as an exec (tree.h of the
 * agent), whose stdin or stdout is a tar stream; the host's end is a child of ours that makes or
 * takes one (hosttree.h), with a pipe between. What goes where is decided before, by Docker's
 * rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/proc.h"
#include "cli/helper.h"
#include "cli/hosttree.h"
#include "cli/tool.h"

#define EXIT_FAILED 1

struct cp {
	bool archive, follow;
};

#define AT(field) offsetof(struct cp, field)
static const struct opt opts[] = {
	{ "archive", 'a', OPT_FLAG, AT(archive), NULL, "keep owners and groups" },
	{ "follow-link", 'L', OPT_FLAG, AT(follow), NULL, "copy what a link SOURCE leads to" },
	{ NULL },
};

/* One end of a copy. */
struct end {
	char *box;	  /* word for the sandbox; NULL: this host */
	const char *path; /* as given, behind the colon */
	bool stream;	  /* "-" */
	bool contents;	  /* ends in "/.": what is in the folder, not the folder */
	bool slash;	  /* ends in "/" */
};

static int parse_end(const char *word, struct end *ret, struct err *err)
{
	const char *colon = strchr(word, ':');
	struct end e = { .path = word };
	size_t len;

	if (colon && colon != word && word[0] != '/' && word[0] != '.') {
		e.box = strndup(word, (size_t)(colon - word));
		if (!e.box)
			return err_errno(err, ENOMEM, "cannot copy");
		e.path = colon + 1;
	}
	len = strlen(e.path);
	e.stream = !e.box && strcmp(word, "-") == 0;
	e.slash = len && e.path[len - 1] == '/';
	e.contents = strcmp(e.path, ".") == 0 || (len > 1 && strcmp(e.path + len - 2, "/.") == 0);
	*ret = e;
	return len ? 0 : err_set(err, EINVAL, "'%s' names no path", word);
}

/* The last part of a path without slashes and dots at its end: "/a/b/." is "b", "/" is "/". */
static char *last_part(const char *path)
{
	size_t len = strlen(path);
	const char *slash;

	while (len > 1 && (path[len - 1] == '/' || (path[len - 1] == '.' && path[len - 2] == '/')))
		len--;
	slash = memrchr(path, '/', len);
	if (slash && len > 1)
		return strndup(slash + 1, (size_t)(path + len - slash - 1));
	return strndup(path, len);
}

/* What a copy of path is called where it goes into a folder. real: where path leads, whose name
 * stands for "..". NULL: out of memory. */
static char *own_name(const char *path, const char *real)
{
	char *name = last_part(path);

	if (name && strcmp(name, "..") == 0) {
		free(name);
		name = last_part(real);
	}
	/* The root has no name of its own. */
	if (name && strcmp(name, "/") == 0)
		*name = '.';
	return name;
}

/* As an absolute path of the guest, without slashes at its end. NULL: out of memory. */
static char *guest_path(const char *path)
{
	size_t len;
	char *full;

	if (asprintf(&full, "%s%s", *path == '/' ? "" : "/", path) < 0)
		return NULL;
	for (len = strlen(full); len > 1 && full[len - 1] == '/'; len--)
		full[len - 1] = '\0';
	return full;
}

/* The guest's end */

enum kind { KIND_NONE, KIND_FILE, KIND_FOLDER, KIND_OTHER, KIND_LINK };

/* What a path of the container is, and where it leads. 0, EXIT_FAILED (told already) or -errno. */
static int guest_stat(struct cli *cli, const struct sandbox *box, const char *path, bool follow,
	enum kind *ret_kind, char real[static PATH_MAX], struct err *err)
{
	static const char *const words[] = { [KIND_NONE] = "none ",
		[KIND_FILE] = "file ",
		[KIND_FOLDER] = "folder ",
		[KIND_OTHER] = "other ",
		[KIND_LINK] = "link " };
	const char *const args[] = { path, follow ? "follow" : "nofollow", NULL };
	auto_close int fd = memfd_create("stat", MFD_CLOEXEC);
	char text[PATH_MAX + 16];
	ssize_t n;
	int r;

	if (fd < 0)
		return err_errno(err, errno, "cannot copy");
	r = tool_run(cli, box, MICROPOD__AGENT__V1__TOOL__TOOL_STAT, args, -1, fd, err);
	if (r != 0)
		return r < 0 || err->code ? r : EXIT_FAILED;
	n = pread(fd, text, sizeof(text) - 1, 0);
	text[n < 0 ? 0 : n] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strncmp(text, words[i], strlen(words[i])) != 0)
			continue;
		*ret_kind = (enum kind)i;
		snprintf(real, PATH_MAX, "%s", text + strlen(words[i]));
		return 0;
	}
	return err_set(err, EPROTO, "sandbox '%s': the agent does not know about '%s'",
		box->config.name, path);
}

/* The host's end, in a child with a pipe to us */

struct host {
	bool send;
	const char *path; /* to send; the folder to receive into */
	const char *name;
	bool flag; /* follow; keep */
};

static int fork_host(const struct host *h, int *ret_fd, pid_t *ret_pid, struct err *err)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot copy");
	pid = fork();
	if (pid == 0) {
		int code;

		close(fds[h->send ? 0 : 1]);
		/* When the guest takes no more it says why itself. */
		signal(SIGPIPE, SIG_DFL);
		code = h->send ? hosttree_send(fds[1], h->path, h->name, h->flag)
			       : hosttree_receive(fds[0], h->path, h->name, h->flag);
		_exit(code);
	}
	close(fds[h->send ? 1 : 0]);
	*ret_fd = fds[h->send ? 0 : 1];
	*ret_pid = pid;
	if (pid < 0) {
		*ret_fd = safe_close(*ret_fd);
		return err_errno(err, errno, "cannot copy");
	}
	return 0;
}

static int run_both(struct cli *cli, const struct sandbox *box, Micropod__Agent__V1__Tool tool,
	const char *const *args, const struct host *h, struct err *err)
{
	auto_close int fd = -1;
	int code, status = 0;
	pid_t pid = -1;
	int r = fork_host(h, &fd, &pid, err);

	if (r < 0)
		return r;
	code = tool_run(cli, box, tool, args, h->send ? fd : -1, h->send ? -1 : fd, err);
	fd = safe_close(fd);
	/* It ends with its pipe. */
	waitpid(pid, &status, 0);
	if (code == 0)
		code = proc_exit_code(status) ? EXIT_FAILED : 0;
	return code;
}

/* From a sandbox */

/* Where on this host it goes: a folder, and the name in it. 0 or -errno. */
static int choose_host(const struct end *to, const struct end *from, const char *from_real,
	bool folder_comes, char folder[static PATH_MAX], char **ret_name, struct err *err)
{
	auto_free char *last = last_part(to->path);
	char real[PATH_MAX];
	struct stat st;

	if (!last)
		return err_errno(err, ENOMEM, "cannot copy");
	if (realpath(to->path, real) && stat(real, &st) == 0) {
		if (S_ISDIR(st.st_mode)) {
			snprintf(folder, PATH_MAX, "%s", real);
			*ret_name = from->contents ? strdup(".") : own_name(from->path, from_real);
		} else if (folder_comes || to->slash) {
			return err_set(err, ENOTDIR, "'%s' is not a folder", to->path);
		} else {
			snprintf(folder, PATH_MAX, "%.*s", (int)MAX(strrchr(real, '/') - real, 1),
				real);
			*ret_name = last_part(real);
		}
	} else {
		auto_free char *above = strdup(to->path);
		char *slash;

		if (!above)
			return err_errno(err, ENOMEM, "cannot copy");
		if (to->slash && !folder_comes)
			return err_set(err, ENOENT, "there is no folder '%s'", to->path);
		while ((slash = strrchr(above, '/')) && !slash[1] && slash != above)
			*slash = '\0';
		slash = strrchr(above, '/');
		if (slash)
			slash[slash == above] = '\0';
		if (!realpath(slash ? above : ".", folder))
			return err_errno(err, errno, "cannot copy to '%s'", to->path);
		*ret_name = take_ptr(last);
	}
	return *ret_name ? 0 : err_errno(err, ENOMEM, "cannot copy");
}

static int copy_out(struct cli *cli, const struct sandbox *box, const struct cp *o,
	const struct end *from, const struct end *to, struct err *err)
{
	bool follow = o->follow || from->slash || from->contents;
	auto_free char *path = guest_path(from->path), *name = NULL;
	char real[PATH_MAX], folder[PATH_MAX];
	enum kind kind;
	int r;

	if (!path)
		return err_errno(err, ENOMEM, "cannot copy");
	r = guest_stat(cli, box, path, follow, &kind, real, err);
	if (r != 0)
		return r;
	if (kind == KIND_NONE)
		return err_set(err, ENOENT, "there is no '%s' in sandbox '%s'", from->path,
			box->config.name);
	if (from->slash && kind != KIND_FOLDER)
		return err_set(err, ENOTDIR, "'%s' is not a folder", from->path);
	if (to->stream)
		name = from->contents ? strdup(".") : own_name(from->path, real);
	else if ((r = choose_host(to, from, real, kind == KIND_FOLDER, folder, &name, err)) < 0)
		return r;
	if (!name)
		return err_errno(err, ENOMEM, "cannot copy");
	{
		const char *const args[] = { path, name, follow ? "follow" : NULL, NULL };
		const struct host h = { .path = folder, .name = name, .flag = o->archive };

		return to->stream ? tool_run(cli, box, MICROPOD__AGENT__V1__TOOL__TOOL_GET_TREE,
					    args, -1, -1, err)
				  : run_both(cli, box, MICROPOD__AGENT__V1__TOOL__TOOL_GET_TREE,
					    args, &h, err);
	}
}

/* Into a sandbox */

static int choose_guest(const struct end *to, const struct end *from, const char *from_real,
	bool folder_comes, enum kind kind, char real[static PATH_MAX], char **ret_name,
	struct err *err)
{
	char *slash = strrchr(real, '/');

	if (kind == KIND_FOLDER) {
		*ret_name = from->contents ? strdup(".") : own_name(from->path, from_real);
	} else if (kind == KIND_NONE) {
		if (to->slash && !folder_comes)
			return err_set(err, ENOENT, "there is no folder '%s'", to->path);
		*ret_name = last_part(to->path);
	} else if (folder_comes || to->slash || !slash) {
		return err_set(err, ENOTDIR, "'%s' is not a folder", to->path);
	} else {
		*ret_name = strdup(slash + 1);
		slash[slash == real] = '\0';
	}
	return *ret_name ? 0 : err_errno(err, ENOMEM, "cannot copy");
}

static int copy_in(struct cli *cli, const struct sandbox *box, const struct cp *o,
	const struct end *from, const struct end *to, struct err *err)
{
	auto_free char *path = guest_path(to->path), *name = NULL;
	char real[PATH_MAX], from_real[PATH_MAX];
	struct stat st = { 0 };
	enum kind kind;
	int r;

	if (!from->stream &&
		(o->follow || from->slash || from->contents ? stat(from->path, &st)
							    : lstat(from->path, &st)) < 0)
		return err_errno(err, errno, "cannot copy '%s'", from->path);
	if (from->slash && !S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "'%s' is not a folder", from->path);
	if (!path)
		return err_errno(err, ENOMEM, "cannot copy");
	r = guest_stat(cli, box, path, true, &kind, real, err);
	if (r != 0)
		return r;
	if (from->stream && kind != KIND_FOLDER)
		return err_set(
			err, ENOTDIR, "'%s' is not a folder: an archive goes into one", to->path);
	if (!from->stream && !realpath(from->path, from_real))
		snprintf(from_real, sizeof(from_real), "%s", from->path); /* a link to nothing */
	if (!from->stream && (r = choose_guest(to, from, from_real, S_ISDIR(st.st_mode), kind, real,
				      &name, err)) < 0)
		return r;
	{
		const char *const args[] = { real, o->archive ? "keep" : "root", NULL };
		const struct host h = { .send = true,
			.path = from->path,
			.name = name,
			.flag = o->follow || from->slash || from->contents };

		return from->stream ? tool_run(cli, box, MICROPOD__AGENT__V1__TOOL__TOOL_PUT_TREE,
					      args, -1, -1, err)
				    : run_both(cli, box, MICROPOD__AGENT__V1__TOOL__TOOL_PUT_TREE,
					      args, &h, err);
	}
}

static int copy(struct cli *cli, const struct cp *o, const struct end *from, const struct end *to,
	struct err *err)
{
	struct helper helper;
	struct err lost = ERR_INIT;
	int r, ended;

	if (from->box && to->box)
		return err_set(err, EINVAL,
			"between sandboxes a copy goes by way of this host: first out of one, then "
			"into the other");
	if (!from->box && !to->box)
		return err_set(err, EINVAL, "one of the two must be in a sandbox: SANDBOX:PATH");
	r = helper_open(cli, from->box ? from->box : to->box, to->box != NULL, &helper, err);
	if (r < 0)
		return r;
	r = from->box ? copy_out(cli, &helper.box, o, from, to, err)
		      : copy_in(cli, &helper.box, o, from, to, err);
	/* What came of one that failed half-way stays, as in a sandbox that runs. */
	ended = helper_close(cli, &helper, true, &lost);
	if (ended < 0 && r == 0)
		r = err_set(err, lost.code, "%s", lost.msg);
	/* As Docker: whatever failed. */
	return r == 0 ? 0 : r < 0 && err->code ? r : EXIT_FAILED;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct end from = { 0 }, to = { 0 };
	int r = parse_end(words[0], &from, err);

	if (r == 0)
		r = parse_end(words[1], &to, err);
	if (r == 0)
		r = copy(cli, values, &from, &to, err);
	free(from.box);
	free(to.box);
	return r < 0 ? EXIT_FAILED : r;
}

const struct verb verb_cp = {
	.name = "cp",
	.remote = VERB_HERE,
	.usage = "[OPTIONS] SANDBOX:SOURCE TARGET|- | SOURCE|- SANDBOX:TARGET",
	.summary = "Copy files between a sandbox and this host",
	.opts = opts,
	.values_size = sizeof(struct cp),
	.min_words = 2,
	.max_words = 2,
	.run = run,
};
