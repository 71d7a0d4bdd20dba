/* SPDX-License-Identifier: Apache-2.0 */
/*
 * micropod-docker-shim: the shim of a container that a Docker Engine runs, and what else has to
 * talk to one, so that libcurl is loaded by nobody else:
 *
 *   micropod-docker-shim running ROOT ID          0: its container runs
 *   micropod-docker-shim remove ROOT ID           removes a sandbox' container; the caller has its
 * lock micropod-docker-shim image HOST POLICY IMAGE  says what an image is, fetched if need be:
 * lines on stdout, "progress DONE TOTAL WHAT", then "image JSON" or "error ERRNO MESSAGE"
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "driver/docker/auth.h"
#include "http/http.h"
#include "image/image.h"
#include "image/ref.h"
#include "shim/docker.h"
#include "shim/vm.h"

#define CALL_TIME (60 * NSEC_PER_SEC)

struct client {
	struct loop *loop;
	struct engine *engine;
	struct err pulled; /* what a pull's stream complains of */
};

static int client_open(struct client *c, const char *host, struct err *err)
{
	int r = loop_new(&c->loop);

	return r < 0 ? err_errno(err, -r, "cannot set up the event loop")
		     : engine_new(c->loop, host, &c->engine, err);
}

static void client_close(struct client *c)
{
	engine_free(c->engine);
	loop_free(c->loop);
}

/* remove, running */

static int ask(struct client *c, const char *method, const char *container, const char *after,
	json_t **ret_answer, struct err *err)
{
	auto_free char *path = NULL;
	struct engine_request request = { .method = method, .timeout = CALL_TIME };

	if (asprintf(&path, "/containers/%s%s", container, after) < 0) {
		path = NULL;
		return err_errno(err, ENOMEM, "cannot ask the engine");
	}
	request.path = path;
	return engine_wait(c->loop, c->engine, &request, ret_answer, err);
}

static int remove_container(struct client *c, const char *container, struct err *err)
{
	int r = ask(c, "DELETE", container, "?force=1&v=1", NULL, err);

	/* Somebody else is at it. */
	if (r == -EEXIST)
		r = ask(c, "POST", container, "/wait?condition=removed", NULL, err);
	if (r != -ENOENT)
		return r;
	*err = ERR_INIT;
	return 0;
}

/* A network that was made for it. What cannot be removed is no reason not to remove the sandbox. */
static void drop_network(
	struct client *c, struct sandbox_root *root, const struct sandbox_config *config)
{
	auto_strbuf struct strbuf path = STRBUF_INIT;
	struct engine_request request = { .method = "POST", .timeout = CALL_TIME };
	struct err err = ERR_INIT;

	if (!docker_network_is_named(config) || docker_network_is_wanted(root, config) ||
		docker_network_prune_path(config, &path) < 0)
		return;
	request.path = path.data;
	if (engine_wait(c->loop, c->engine, &request, NULL, &err) < 0)
		fprintf(stderr, "the network '%s' may be left: %s\n", config->network, err.msg);
}

static int find_running(struct client *c, const char *container, struct err *err)
{
	json_t *answer = NULL;
	int r = ask(c, "GET", container, "/json", &answer, err);
	bool running = json_is_true(json_object_get(json_object_get(answer, "State"), "Running"));

	json_decref(answer);
	return r < 0 || running ? r : err_set(err, ESRCH, "the container does not run");
}

/* One that no record names: its shim was killed in between. */
static int find_ours(struct client *c, const struct sandbox_config *config,
	struct docker_record *record, struct err *err)
{
	json_t *answer = NULL;
	const char *id;
	int r = ask(c, "GET", config->name, "/json", &answer, err);

	if (r == -ENOENT) {
		*err = ERR_INIT;
		return 0;
	}
	id = docker_is_ours(answer, config);
	if (id && !(record->container = strdup(id)))
		r = err_errno(err, ENOMEM, "cannot look for the container");
	json_decref(answer);
	return r;
}

/* Does something with the container of a sandbox; nothing if there is none: then absent counts. */
static int container_main(const char *root_path, const char *id,
	int (*fn)(struct client *c, const char *container, struct err *err), int absent)
{
	struct docker_record record = { 0 };
	struct sandbox_root *root = NULL;
	struct sandbox box = { 0 };
	struct client c = { 0 };
	struct err err = ERR_INIT;
	auto_free char *dir = NULL;
	auto_close int dfd = -1;
	int r = sandbox_root_open(root_path, &root, &err);

	if (r == 0)
		r = sandbox_load(root, id, &box, &err);
	if (r == 0) {
		dir = sandbox_path(root, id, NULL);
		dfd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
		r = docker_record_read(dfd, &record, &err);
	}
	if (r == 0)
		r = client_open(&c, box.config.engine, &err);
	if (r == 0 && !record.container)
		r = find_ours(&c, &box.config, &record, &err);
	if (r == 0)
		r = record.container ? fn(&c, record.container, &err) : absent;
	if (r == 0 && fn == remove_container)
		drop_network(&c, root, &box.config);
	if (err.code)
		fprintf(stderr, "%s\n", err.msg);
	client_close(&c);
	docker_record_deinit(&record);
	sandbox_deinit(&box);
	sandbox_root_free(root);
	return r != 0;
}

/* image */

static void on_pull(void *arg, json_t *item)
{
	struct client *c = arg;
	const char *error = json_string_value(json_object_get(item, "error"));
	const char *id = json_string_value(json_object_get(item, "id"));
	const json_t *detail = json_object_get(item, "progressDetail");
	json_int_t done = json_integer_value(json_object_get(detail, "current"));
	json_int_t total = json_integer_value(json_object_get(detail, "total"));

	if (error)
		err_set(&c->pulled, EIO, "the engine says: %.*s", (int)strcspn(error, "\r\n"),
			error);
	else if (id && total > 0 && done >= 0)
		printf("progress %lld %lld %.64s\n", (long long)done, (long long)total, id);
}

/* Without a tag the engine would fetch all that there are. */
static int pull_path(const char *name, struct strbuf *out, struct err *err)
{
	auto_image_ref struct image_ref ref = { 0 };
	int r = image_ref_parse(name, &ref, err);
	const char *tag;

	if (r < 0)
		return r;
	tag = ref.digest[0] ? ref.digest : ref.name + strlen(ref.repository) + 1;
	strbuf_adds(out, "/images/create?fromImage=");
	http_escape(out, ref.repository);
	strbuf_adds(out, "&tag=");
	http_escape(out, tag);
	return strbuf_error(out) < 0 ? err_errno(err, ENOMEM, "cannot fetch '%s'", name) : 0;
}

static int auth_for(const char *name, char **ret_header, struct err *err)
{
	auto_image_ref struct image_ref ref = { 0 };
	int r = image_ref_parse(name, &ref, err);

	return r < 0 || !ref.host ? r : engine_auth_header(ref.host, ret_header, err);
}

static int pull(struct client *c, const char *name, struct err *err)
{
	auto_strbuf struct strbuf path = STRBUF_INIT;
	auto_free char *header = NULL;
	struct engine_request request = { .method = "POST", .item = on_pull, .arg = c };
	int r = pull_path(name, &path, err);

	if (r == 0)
		r = auth_for(name, &header, err);
	if (r < 0)
		return r;
	request.path = path.data;
	request.header = header;
	r = engine_wait(c->loop, c->engine, &request, NULL, err);
	if (header)
		explicit_bzero(header, strlen(header));
	if (r == 0 && c->pulled.code) {
		*err = c->pulled;
		r = -err->code;
	}
	return r < 0 ? err_wrap(err, "cannot fetch '%s'", name) : 0;
}

static int inspect(struct client *c, const char *name, json_t **ret_image, struct err *err)
{
	auto_strbuf struct strbuf path = STRBUF_INIT;
	struct engine_request request = { .method = "GET", .timeout = CALL_TIME };

	strbuf_adds(&path, "/images/");
	http_escape(&path, name);
	strbuf_adds(&path, "/json");
	if (strbuf_error(&path) < 0)
		return err_errno(err, ENOMEM, "cannot look for '%s'", name);
	request.path = path.data;
	return engine_wait(c->loop, c->engine, &request, ret_image, err);
}

/* Names with a transport are for skopeo. */
static int check_name(const char *name, struct err *err)
{
	auto_image_ref struct image_ref ref = { 0 };
	struct err none = ERR_INIT;

	/* An image's id is a name for the engine, too. */
	if (image_ref_parse(name, &ref, &none) == 0 && !ref.repository)
		return err_set(err, EINVAL,
			"an engine cannot take '%s': load it there first (docker load)", name);
	return 0;
}

static int find(struct client *c, enum image_policy policy, const char *name, json_t **ret_image,
	struct err *err)
{
	int r = check_name(name, err);

	if (r == 0)
		r = policy == IMAGE_PULL_ALWAYS ? -ENOENT : inspect(c, name, ret_image, err);
	if (r != -ENOENT)
		return r;
	if (policy == IMAGE_PULL_NEVER)
		return err_set(err, ENOENT,
			"the engine has no image '%s': fetch it (leave '--pull never' out)", name);
	r = pull(c, name, err);
	return r < 0 ? r : inspect(c, name, ret_image, err);
}

/* As OCI has an image's configuration (image-spec, config.md), with its id beside. */
static json_t *as_oci(json_t *image)
{
	json_t *config = json_object_get(image, "Config");
	json_t *layers = json_object_get(json_object_get(image, "RootFS"), "Layers");

	return json_pack("{s:O?, s:{s:O?, s:O?, s:O, s:{s:s, s:O}}}", "id",
		json_object_get(image, "Id"), "config", "architecture",
		json_object_get(image, "Architecture"), "os", json_object_get(image, "Os"),
		"config", config ? config : json_null(), "rootfs", "type", "layers", "diff_ids",
		layers ? layers : json_null());
}

static int image_main(const char *host, const char *policy_word, const char *name)
{
	struct client c = { 0 };
	struct err err = ERR_INIT;
	enum image_policy policy;
	json_t *image = NULL, *oci = NULL;
	auto_free char *text = NULL;
	int r = image_policy_parse(policy_word, &policy);

	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (r < 0)
		err_set(&err, EINVAL, "'%s' is no policy", policy_word);
	else if (client_open(&c, host, &err) == 0 && find(&c, policy, name, &image, &err) == 0)
		oci = as_oci(image);
	text = oci ? json_dumps(oci, JSON_COMPACT) : NULL;
	if (text)
		printf("image %s\n", text);
	else
		printf("error %d %s\n", err.code ? err.code : EPROTO,
			err.code ? err.msg : "the engine's answer makes no sense");
	json_decref(image);
	json_decref(oci);
	client_close(&c);
	return !text;
}

/* An engine has them. */
const struct driver *const shim_drivers[] = { NULL };

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "remove") == 0)
		return container_main(argv[2], argv[3], remove_container, 0);
	if (argc == 4 && strcmp(argv[1], "running") == 0)
		return container_main(argv[2], argv[3], find_running, 1);
	if (argc == 5 && strcmp(argv[1], "image") == 0)
		return image_main(argv[2], argv[3], argv[4]);
	return shim_main(argc, argv, &shim_docker);
}
