/* SPDX-License-Identifier: Apache-2.0 */
/*
 * micropod build: buildah, in a sandbox of its own. The images that the Dockerfile starts from are
 * fetched here, as for run, with this host's registries and credentials, and handed over as an
 * archive; the context is shared for reading; what was built comes back as an archive and is
 * loaded. So the sandbox has nothing of the host's but these, and needs the network for RUN only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/macro.h"
#include "cli/images.h"
#include "cli/progress.h"
#include "cli/runopts.h"
#include "cli/start.h"
#include "image/buildfile.h"
#include "image/passon.h"

#define BUILD_FAILED	1 /* Docker's exit code */
#define BUILDER_DEFAULT "quay.io/buildah/stable:latest"

struct build {
	const char *file, *builder, *network, *iidfile, *target, *platform;
	struct strv tags, args, labels, hosts;
	bool quiet, pull, no_cache, layers;
};

#define AT(field) offsetof(struct build, field)
static const struct opt build_table[] = {
	{ "add-host", 0, OPT_LIST, AT(hosts), "NAME:ADDRESS", "a line more in /etc/hosts of RUN" },
	{ "build-arg", 0, OPT_LIST, AT(args), "NAME[=VALUE]",
		"value of an ARG (without VALUE: this environment's)" },
	{ "builder", 0, OPT_STRING, AT(builder), "IMAGE",
		"image with buildah to build in (default: " BUILDER_DEFAULT ")" },
	{ "file", 'f', OPT_STRING, AT(file), "FILE",
		"the Dockerfile, - for stdin (default: CONTEXT/Dockerfile)" },
	{ "iidfile", 0, OPT_STRING, AT(iidfile), "FILE", "write the image's id to this file" },
	{ "label", 0, OPT_LIST, AT(labels), "KEY=VALUE", "a label more" },
	{ "layers", 0, OPT_FLAG, AT(layers), NULL,
		"a layer for each instruction (default: one for all of a stage)" },
	{ "network", 0, OPT_STRING, AT(network), "WHICH",
		"network of RUN: default, none, or as for run" },
	{ "no-cache", 0, OPT_FLAG, AT(no_cache), NULL,
		"as every build: nothing of an earlier one is used" },
	{ "platform", 0, OPT_STRING, AT(platform), "OS/ARCHITECTURE", "this machine's only" },
	{ "pull", 0, OPT_FLAG, AT(pull), NULL, "ask for newer images to start from" },
	{ "quiet", 'q', OPT_FLAG, AT(quiet), NULL, "print nothing but the id" },
	{ "tag", 't', OPT_LIST, AT(tags), "NAME[:TAG]", "name of the image" },
	{ "target", 0, OPT_STRING, AT(target), "STAGE", "build up to this stage" },
	{ NULL },
};

/* What runs in the sandbox; its arguments are those of `buildah bud`. */
static const char script[] =
	"set -e\n"
	"while read -r n name; do\n"
	"	id=$(buildah pull -q --signature-policy /build/in/policy.json "
	"docker-archive:/build/in/bases.tar:@$n)\n"
	"	buildah tag \"$id\" \"$name\"\n"
	"done < /build/in/bases\n"
	"buildah bud --format docker --signature-policy /build/in/policy.json --iidfile "
	"/build/out/id "
	"-f /build/in/Dockerfile \"$@\" /build/context >&2\n"
	"buildah push -q --signature-policy /build/in/policy.json \"$(cat /build/out/id)\" "
	"docker-archive:/build/out/image.tar\n";

/* Everything was verified when it was fetched. */
static const char policy[] = "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n";
static const char registries[] = "unqualified-search-registries = [\"docker.io\"]\n";

/* The root file system is an overlay already, which takes no other on top. */
static const char storage[] = "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/build\"\n"
			      "graphroot = \"/var/lib/build\"\n";

struct work {
	struct cli *cli;
	const struct build *o;
	struct image_store *store;
	char *folder, *in, *out, *context;
	int lock;
	struct strv args; /* "NAME=value" */
};

static void work_deinit(struct work *w)
{
	if (w->folder)
		fs_remove_tree(AT_FDCWD, w->folder);
	safe_close(w->lock);
	free(w->folder);
	free(w->in);
	free(w->out);
	free(w->context);
	strv_deinit(&w->args);
	image_store_close(w->store);
}

static int no_memory(struct err *err)
{
	return err_errno(err, ENOMEM, "cannot build");
}

/* malloc'd; NULL: no memory. */
static char *join(const char *folder, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

/* ---- what is handed over ---- */

/* Of this environment where no value is given, as Docker. */
static int set_args(struct work *w, struct err *err)
{
	for (size_t i = 0; i < w->o->args.n; i++) {
		const char *arg = w->o->args.v[i], *value = strchr(arg, '=') ? NULL : getenv(arg);
		int r = 0;

		if (!*arg || *arg == '=')
			return err_set(err, EINVAL,
				"option '--build-arg' is '%.100s': give NAME=VALUE", arg);
		if (strchr(arg, '='))
			r = strv_add(&w->args, arg);
		else if (value)
			r = strv_addf(&w->args, "%s=%s", arg, value);
		if (r < 0)
			return no_memory(err);
	}
	return 0;
}

/* "-" as context: stdin is the Dockerfile, and there is nothing else. */
static int open_context(struct work *w, const char *word, struct err *err)
{
	struct stat st;

	if (strcmp(word, "-") == 0) {
		w->context = join(w->folder, "context");
		if (!w->context)
			return no_memory(err);
		return mkdir(w->context, 0755) < 0
			       ? err_errno(err, errno, "cannot make '%s'", w->context)
			       : 0;
	}
	if (strstr(word, "://") || strncmp(word, "git@", 4) == 0)
		return err_set(err, ENOTSUP,
			"'%.200s' cannot be the context: fetch it, and give its folder", word);
	w->context = realpath(word, NULL);
	if (!w->context || stat(w->context, &st) < 0)
		return err_errno(err, errno, "cannot use the folder '%.200s'", word);
	return S_ISDIR(st.st_mode) ? 0
				   : err_set(err, ENOTDIR,
					     "'%.200s' cannot be the context: give a folder", word);
}

static int read_file(struct work *w, const char *word, char **text, size_t *len, struct err *err)
{
	static const char *const names[] = { "Containerfile", "Dockerfile" };
	bool from_stdin = strcmp(word, "-") == 0 || (w->o->file && strcmp(w->o->file, "-") == 0);
	auto_free char *path = NULL;
	int r = 0;

	if (from_stdin) {
		r = fd_read_all(STDIN_FILENO, LIMIT_BUILD_FILE, text, len);
		return r < 0 ? err_errno(err, -r, "cannot read a Dockerfile from stdin") : 0;
	}
	if (w->o->file && !(path = strdup(w->o->file)))
		return no_memory(err);
	/* The last is named where there is none. */
	for (size_t i = 0; !w->o->file && i < ARRAY_SIZE(names); i++) {
		free(path);
		path = join(w->context, names[i]);
		if (!path)
			return no_memory(err);
		if (access(path, F_OK) == 0)
			break;
	}
	r = fs_read_file(AT_FDCWD, path, LIMIT_BUILD_FILE, text, len);
	return r < 0 ? err_errno(err, -r, "cannot read the Dockerfile '%.200s'", path) : 0;
}

static int put(struct work *w, const char *name, const char *text, size_t len, struct err *err)
{
	auto_free char *path = join(w->in, name);
	int r;

	if (!path)
		return no_memory(err);
	r = fs_replace_file(AT_FDCWD, path, text, len, 0644, false);
	return r < 0 ? err_errno(err, -r, "cannot write '%s'", path) : 0;
}

/* The images that it starts from; the list has for each name in the file which one of them it is.
 */
static int put_bases(struct work *w, const struct strv *names, struct err *err)
{
	auto_progress struct progress progress;
	struct image_pull_opts opts = {
		.policy = w->o->pull ? IMAGE_PULL_ALWAYS : IMAGE_PULL_MISSING,
		.progress = progress_show,
		.progress_arg = &progress,
	};
	auto_strbuf struct strbuf list = STRBUF_INIT;
	auto_strv struct strv ids = STRV_INIT;
	size_t at;
	auto_free char *path = join(w->in, "bases.tar");
	auto_close int fd = -1;
	int r = path ? 0 : no_memory(err);

	progress_init(&progress, w->o->quiet);
	for (size_t i = 0; r == 0 && i < names->n; i++) {
		auto_clean(image) struct image *image = NULL;

		r = image_pull(w->store, names->v[i], &opts, &image, err);
		if (r < 0)
			break;
		/* Two names may be the same one's. */
		for (at = 0; at < ids.n && strcmp(ids.v[at], image->id) != 0; at++)
			;
		if (at == ids.n && strv_add(&ids, image->id) < 0)
			r = no_memory(err);
		strbuf_addf(&list, "%zu %s\n", at, names->v[i]);
	}
	progress_clear(&progress);
	if (r == 0 && strbuf_error(&list))
		r = no_memory(err);
	if (r == 0)
		r = put(w, "bases", list.len ? list.data : "", list.len, err);
	if (r < 0 || !ids.n)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "cannot write '%s'", path);
	return image_save(w->store, (const char *const *)strv_items(&ids), ids.n, fd, err);
}

static int prepare(struct work *w, const char *word, struct err *err)
{
	auto_strv struct strv bases = STRV_INIT;
	auto_free char *text = NULL;
	size_t len = 0;
	int r = image_store_open(w->cli->root->path, &w->store, err);

	if (r == 0)
		r = image_folder_new(w->store, "build", &w->folder, &w->lock, err);
	if (r < 0)
		return r;
	w->in = join(w->folder, "in");
	w->out = join(w->folder, "out");
	if (!w->in || !w->out)
		return no_memory(err);
	if (mkdir(w->in, 0700) < 0 || mkdir(w->out, 0700) < 0)
		return err_errno(err, errno, "cannot make a folder in '%s'", w->folder);
	r = set_args(w, err);
	if (r == 0)
		r = open_context(w, word, err);
	if (r == 0)
		r = read_file(w, word, &text, &len, err);
	if (r == 0)
		r = buildfile_bases(text, len, &w->args, &bases, err);
	if (r == 0)
		r = put(w, "Dockerfile", text, len, err);
	if (r == 0)
		r = put(w, "script", script, strlen(script), err);
	if (r == 0)
		r = put(w, "policy.json", policy, strlen(policy), err);
	if (r == 0)
		r = put(w, "registries.conf", registries, strlen(registries), err);
	if (r == 0)
		r = put(w, "storage.conf", storage, strlen(storage), err);
	return r < 0 ? r : put_bases(w, &bases, err);
}

/* ---- the sandbox ---- */

static int add_each(struct strv *words, const char *option, const struct strv *values)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < values->n; i++)
		r = strv_addf(words, "--%s=%s", option, values->v[i]);
	return r;
}

static int make_words(const struct work *w, const char *builder, struct strv *words)
{
	const struct build *o = w->o;
	int r = strv_addv(words, (const char *const[]){ builder, "/build/in/script", NULL });

	if (r == 0)
		r = add_each(words, "build-arg", &w->args);
	if (r == 0)
		r = add_each(words, "label", &o->labels);
	if (r == 0)
		r = add_each(words, "add-host", &o->hosts);
	if (r == 0 && o->target)
		r = strv_addf(words, "--target=%s", o->target);
	if (r == 0 && o->quiet)
		r = strv_add(words, "--quiet");
	if (r == 0)
		r = strv_addf(words, "--layers=%s", o->layers ? "true" : "false");
	return r;
}

static int make_shares(const struct work *w, struct run_opts *run)
{
	static const char *const env[] = { "BUILDAH_ISOLATION=chroot",
		"CONTAINERS_STORAGE_CONF=/build/in/storage.conf",
		"CONTAINERS_REGISTRIES_CONF=/build/in/registries.conf", NULL };
	int r = strv_addv(&run->env, env);

	if (r == 0)
		r = strv_addf(&run->mounts, "type=bind,source=%s,target=/build/in,readonly", w->in);
	if (r == 0)
		r = strv_addf(&run->mounts, "type=bind,source=%s,target=/build/out", w->out);
	if (r == 0)
		r = strv_addf(&run->mounts, "type=bind,source=%s,target=/build/context,readonly",
			w->context);
	return r;
}

/* 0, the exit code of what failed in there, or -errno with err. */
static int run_builder(struct work *w, struct err *err)
{
	const char *builder = w->o->builder		 ? w->o->builder
			      : w->cli->settings.builder ? w->cli->settings.builder
							 : BUILDER_DEFAULT;
	struct run_opts run = run_defaults;
	struct start_opts start = { .sig_proxy = true };
	auto_strv struct strv words = STRV_INIT;
	struct err ignored = ERR_INIT;
	char id[ID_LEN + 1];
	int r;

	run.remove = run.privileged = true;
	run.quiet = w->o->quiet;
	run.entrypoint = "/bin/sh";
	run.network = w->o->network;
	r = make_words(w, builder, &words);
	if (r == 0)
		r = make_shares(w, &run);
	r = r < 0 ? no_memory(err)
		  : run_create(w->cli, &run, (const char **)strv_items(&words), words.n, id, err);
	if (r == 0) {
		r = start_box(w->cli, id, &start, err);
		if (!start.started)
			sandbox_remove(w->cli->root, id, true, &ignored);
		else
			sandbox_wait_gone(w->cli->root, id, deadline_in(30 * NSEC_PER_SEC));
	}
	strv_deinit(&run.env);
	strv_deinit(&run.mounts);
	if (r > 0 && !err->code) {
		err_set(err, EIO, "the build failed (status %d): what it said stands above", r);
		return BUILD_FAILED;
	}
	return r;
}

/* ---- what comes back ---- */

static int write_id(const struct build *o, const char *id, struct err *err)
{
	int r = o->iidfile ? fs_replace_file(AT_FDCWD, o->iidfile, id, strlen(id), 0644, false) : 0;

	return r < 0 ? err_errno(err, -r, "cannot write '%s'", o->iidfile) : 0;
}

static int take_image(struct work *w, struct err *err)
{
	struct image_pull_opts opts = { 0 };
	struct image_list list = { 0 };
	auto_free char *path = join(w->out, "image.tar");
	int r;

	if (!path)
		return no_memory(err);
	r = image_load(w->store, path, -1, &opts, &list, err);
	if (r == 0 && list.n != 1)
		r = err_set(err, EBADMSG, "the build gave %zu images, not one", list.n);
	for (size_t i = 0; r == 0 && i < w->o->tags.n; i++)
		r = image_tag(w->store, list.items[0]->id, w->o->tags.v[i], err);
	if (r == 0)
		r = write_id(w->o, list.items[0]->id, err);
	if (r == 0)
		printf("%s\n", list.items[0]->id);
	image_list_deinit(&list);
	return r;
}

static int check(const struct cli *cli, const struct build *o, struct err *err)
{
	const char *arch = NULL;
	char buf[32];
	int r = images_platform(o->platform, buf, &arch, err);

	if (r < 0)
		return r;
	if (arch && strcmp(arch, image_host_architecture()) != 0)
		return err_set(err, ENOTSUP,
			"option '--platform' is '%.100s': this host's VMs run programs for "
			"linux/%s only",
			o->platform, image_host_architecture());
	if (cli->settings.driver == SETTINGS_DRIVER_DOCKER)
		return err_set(
			err, ENOTSUP, "micropod builds in a VM: leave '--driver docker' out");
	for (size_t i = 0; r == 0 && i < o->tags.n; i++)
		r = image_name_check(o->tags.v[i], err);
	return r;
}

static int run_build(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct work w = { .cli = cli, .o = values, .lock = -1 };
	int r = check(cli, values, err);

	if (r == 0)
		r = prepare(&w, words[0], err);
	if (r == 0)
		r = run_builder(&w, err);
	if (r == 0)
		r = take_image(&w, err);
	work_deinit(&w);
	return r;
}

const struct verb verb_build = {
	.name = "build",
	.usage = "[OPTIONS] CONTEXT",
	.summary = "Build an image from a Dockerfile, in a sandbox",
	.opts = build_table,
	.values_size = sizeof(struct build),
	.settings = true,
	.min_words = 1,
	.max_words = 1,
	.run = run_build,
};
