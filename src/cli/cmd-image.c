/* SPDX-License-Identifier: Apache-2.0 */
/* Images passed on and looked into: tag, save, push, history, image prune, login and logout. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/strv.h"
#include "cli/images.h"
#include "cli/output.h"
#include "image/passon.h"

#define COMMAND_SHOWN 45 /* characters of CREATED BY, as Docker */

/* tag */

static int run_tag(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	auto_clean(image_store) struct image_store *store = NULL;
	int r = image_store_open(cli->root->path, &store, err);

	return r < 0 ? r : image_tag(store, words[0], words[1], err);
}

/* save */

struct save {
	const char *output;
};

static const struct opt save_table[] = {
	{ "output", 'o', OPT_STRING, offsetof(struct save, output), "FILE",
		"write this file instead of stdout" },
	{ NULL },
};

/* The file appears when it is whole. */
static int save_to_file(
	struct image_store *store, const char *path, const char **words, size_t n, struct err *err)
{
	auto_free char *part = NULL;
	auto_close int fd = -1;
	int r;

	if (asprintf(&part, "%s.XXXXXX", path) < 0) {
		part = NULL;
		return err_errno(err, ENOMEM, "cannot save");
	}
	fd = mkostemp(part, O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "cannot write '%s'", path);
	r = image_save(store, words, n, fd, err);
	if (r == 0 && (fchmod(fd, 0644) < 0 || rename(part, path) < 0))
		r = err_errno(err, errno, "cannot write '%s'", path);
	if (r < 0)
		unlink(part);
	return r;
}

static int run_save(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct save *o = values;
	auto_clean(image_store) struct image_store *store = NULL;
	int r;

	if (!o->output && isatty(STDOUT_FILENO))
		return err_set(err, EINVAL,
			"an archive is nothing for a terminal: give '-o FILE', or redirect stdout");
	r = image_store_open(cli->root->path, &store, err);
	if (r < 0)
		return r;
	return o->output ? save_to_file(store, o->output, words, n, err)
			 : image_save(store, words, n, STDOUT_FILENO, err);
}

/* push */

struct push {
	bool quiet;
};

static const struct opt push_table[] = {
	{ "quiet", 'q', OPT_FLAG, offsetof(struct push, quiet), NULL, "print nothing" },
	{ NULL },
};

static int run_push(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct push *o = values;
	auto_clean(image_store) struct image_store *store = NULL;
	auto_clean(image) struct image *image = NULL;
	int r = image_store_open(cli->root->path, &store, err);

	if (r == 0)
		r = image_find(store, words[0], &image, err);
	if (r == 0)
		r = image_push(store, words[0], err);
	if (r == 0 && !o->quiet)
		printf("%s: digest: %s size: %llu\n", words[0], image->manifest,
			(unsigned long long)image->size);
	return r;
}

/* history */

struct history {
	bool no_trunc, quiet;
	const char *format;
};

#define AT(field) offsetof(struct history, field)
static const struct opt history_table[] = {
	{ "format", 0, OPT_STRING, AT(format), "FORMAT", OUTPUT_FORMAT_HELP },
	{ "no-trunc", 0, OPT_FLAG, AT(no_trunc), NULL, "show commands whole" },
	{ "quiet", 'q', OPT_FLAG, AT(quiet), NULL, "print ids only" },
	{ NULL },
};

static const char *const history_heading[] = { "IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT",
	NULL };
static const char *const history_keys[] = { "ID", "CreatedSince", "CreatedBy", "Size", "Comment",
	NULL };

/* Cut, and with nothing in it that steers a terminal. */
static json_t *plain(const char *text, size_t max)
{
	auto_free char *copy = NULL;
	size_t len = strlen(text);

	if (asprintf(&copy, "%.*s%s", (int)(max && len > max ? max - 1 : len), text,
		    max && len > max ? "\xe2\x80\xa6" : "") < 0)
		return NULL;
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	return output_string(copy);
}

static json_t *describe_step(
	const struct image *image, const struct image_step *s, bool last, const struct history *o)
{
	int64_t created = s->created * NSEC_PER_SEC;
	char span[32], size[32], when[40];
	json_t *row = json_object();

	json_object_set_new(row, "ID",
		last ? json_stringn(o->no_trunc ? image->id : digest_hex(image->id),
			       o->no_trunc ? DIGEST_LEN : 12)
		     : json_string("<missing>"));
	json_object_set_new(row, "CreatedSince",
		created ? json_sprintf("%s ago",
				  output_duration(clock_realtime() - created, span, sizeof(span)))
			: json_string("N/A"));
	json_object_set_new(
		row, "CreatedAt", json_string(output_time(created, when, sizeof(when))));
	json_object_set_new(
		row, "CreatedBy", plain(s->created_by, o->no_trunc ? 0 : COMMAND_SHOWN));
	json_object_set_new(row, "Size", json_string(output_size(s->size, size, sizeof(size))));
	json_object_set_new(row, "Comment", plain(s->comment, 0));
	return row;
}

static int run_history(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct history *o = values;
	auto_clean(image_store) struct image_store *store = NULL;
	auto_clean(image) struct image *image = NULL;
	struct image_history h = { 0 };
	struct output_rows rows;
	int r = image_store_open(cli->root->path, &store, err);

	if (r == 0)
		r = image_find(store, words[0], &image, err);
	if (r == 0)
		r = image_history(store, image, &h, err);
	if (r < 0)
		return r;
	r = output_rows_begin(
		&rows, o->quiet ? "{{.ID}}" : o->format, history_keys, history_heading, err);
	for (size_t i = h.n; r == 0 && i > 0; i--)
		r = output_rows_add(&rows, describe_step(image, &h.items[i - 1], i == h.n, o), err);
	output_rows_end(&rows);
	image_history_deinit(&h);
	return r;
}

/* image prune */

struct image_prune_opts {
	bool all, force;
};

#define PRUNE_AT(field) offsetof(struct image_prune_opts, field)
static const struct opt prune_table[] = {
	{ "all", 'a', OPT_FLAG, PRUNE_AT(all), NULL,
		"remove all that no sandbox uses, not only untagged ones" },
	{ "force", 'f', OPT_FLAG, PRUNE_AT(force), NULL, "do not ask" },
	{ NULL },
};

static int run_image_prune(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct image_prune_opts *o = values;

	if (!o->force && !cli_confirm("This removes %s images that no sandbox uses.",
				 o->all ? "all" : "untagged"))
		return 0;
	return images_prune(cli, o->all, err);
}

/* login and logout: skopeo's own, which asks for what is missing */

struct login {
	const char *user, *password;
	bool password_stdin;
};

#define LOGIN_AT(field) offsetof(struct login, field)
static const struct opt login_table[] = {
	{ "password", 'p', OPT_STRING, LOGIN_AT(password), "PASSWORD",
		"password or token; others on this host can see it" },
	{ "password-stdin", 0, OPT_FLAG, LOGIN_AT(password_stdin), NULL, "read it from stdin" },
	{ "username", 'u', OPT_STRING, LOGIN_AT(user), "NAME", "who logs in" },
	{ NULL },
};

static int run_skopeo(const char *verb, const char *host, const struct login *o, struct err *err)
{
	auto_strv struct strv argv = STRV_INIT;
	int r = strv_add(&argv, "skopeo");

	if (r == 0)
		r = strv_add(&argv, verb);
	if (r == 0 && o && o->user)
		r = strv_addf(&argv, "--username=%s", o->user);
	if (r == 0 && o && o->password)
		r = strv_addf(&argv, "--password=%s", o->password);
	if (r == 0 && o && o->password_stdin)
		r = strv_add(&argv, "--password-stdin");
	/* As for pulls: a registry on this machine need not have a certificate. */
	if (r == 0 && images_is_loopback(host))
		r = strv_add(&argv, "--tls-verify=false");
	if (r == 0)
		r = strv_add(&argv, host);
	if (r < 0)
		return err_errno(err, ENOMEM, "cannot start skopeo");
	execvp("skopeo", argv.v);
	return err_errno(err, errno,
		"cannot execute skopeo, which keeps the logins: install the package skopeo");
}

static int run_login(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return run_skopeo("login", n ? words[0] : "docker.io", values, err);
}

static int run_logout(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return run_skopeo("logout", n ? words[0] : "docker.io", NULL, err);
}

const struct verb verb_tag = {
	.name = "tag",
	.remote = VERB_THERE,
	.usage = "IMAGE NAME[:TAG]",
	.summary = "Give an image one more name",
	.min_words = 2,
	.max_words = 2,
	.run = run_tag,
};

const struct verb verb_save = {
	.name = "save",
	.usage = "[OPTIONS] IMAGE...",
	.summary = "Write images into an archive",
	.opts = save_table,
	.values_size = sizeof(struct save),
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run_save,
};

const struct verb verb_push = {
	.name = "push",
	.remote = VERB_THERE,
	.usage = "[OPTIONS] IMAGE",
	.summary = "Send an image to the registry in its name",
	.opts = push_table,
	.values_size = sizeof(struct push),
	.min_words = 1,
	.max_words = 1,
	.run = run_push,
};

const struct verb verb_history = {
	.name = "history",
	.remote = VERB_THERE,
	.usage = "[OPTIONS] IMAGE",
	.summary = "Show how an image was made",
	.opts = history_table,
	.values_size = sizeof(struct history),
	.min_words = 1,
	.max_words = 1,
	.run = run_history,
};

const struct verb verb_image_prune = {
	.name = "image prune",
	.remote = VERB_THERE,
	.usage = "[OPTIONS]",
	.summary = "Remove images that no sandbox uses",
	.opts = prune_table,
	.values_size = sizeof(struct image_prune_opts),
	.run = run_image_prune,
};

const struct verb verb_login = {
	.name = "login",
	.no_root = true,
	.usage = "[OPTIONS] [REGISTRY]",
	.summary = "Log in to a registry (by skopeo)",
	.opts = login_table,
	.values_size = sizeof(struct login),
	.max_words = 1,
	.run = run_login,
};

const struct verb verb_logout = {
	.name = "logout",
	.no_root = true,
	.usage = "[REGISTRY]",
	.summary = "Log out of a registry",
	.max_words = 1,
	.run = run_logout,
};
