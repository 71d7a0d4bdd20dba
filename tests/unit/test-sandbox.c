/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "sandbox/manager.h"
#include "test.h"

static char dir[64];

static struct sandbox_root *open_root(void)
{
	struct sandbox_root *root = NULL;
	struct err err = ERR_INIT;
	char path[96];

	memcpy(dir, "/tmp/test-sandbox-XXXXXX", 25);
	REQUIRE(mkdtemp(dir));
	setenv("XDG_RUNTIME_DIR", dir, 1);
	snprintf(path, sizeof(path), "%s/deep/er/root", dir);
	if (sandbox_root_open(path, &root, &err) < 0)
		printf("# %s\n", err.msg);
	REQUIRE(root);
	return root;
}

static void close_root(struct sandbox_root *root)
{
	fs_remove_tree(AT_FDCWD, root->run);
	sandbox_root_free(root);
	CHECK_INT(fs_remove_tree(AT_FDCWD, dir), 0);
}

static int make_scratch(const char *path, uint64_t bytes, void *arg, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (arg)
		return err_set(err, ENOSPC, "no room");
	return fd < 0 ? err_errno(err, errno, "scratch") : safe_close(fd) * 0;
}

static int count(struct sandbox_root *root)
{
	auto_strv struct strv ids = STRV_INIT;
	struct err err = ERR_INIT;

	CHECK_INT(sandbox_list(root, &ids, &err), 0);
	return (int)ids.n;
}

static void config_keeps_any_bytes(void)
{
	struct sandbox_config c = { .memory = 1 << 30,
		.tty = true,
		.mac = { 2, 0, 0, 1, 2, 255 },
		.accel = VM_ACCEL_TCG },
			      d;
	struct err err = ERR_INIT;
	auto_free char *text = NULL;

	memcpy(c.name, "web", 4);
	strv_add(&c.args, "a\xff\x80z");
	strv_add(&c.args, "\xc3\xa9");
	strv_add(&c.env, "K=\n\x01");
	c.user = strdup("1:2");
	c.ports = calloc(1, sizeof(*c.ports));
	c.n_ports = 1;
	c.ports[0] = (struct sandbox_port){
		.host_ip = "127.0.0.1", .host = 8080, .guest = 80, .udp = true
	};
	CHECK_INT(sandbox_config_write(&c, &text, &err), 0);
	CHECK_INT(sandbox_config_read(text, strlen(text), &d, &err), 0);
	CHECK_STR(d.name, "web");
	CHECK_STR(d.args.v[0], "a\xff\x80z");
	CHECK_STR(d.args.v[1], "\xc3\xa9");
	CHECK_STR(d.env.v[0], "K=\n\x01");
	CHECK_STR(d.user, "1:2");
	CHECK(d.cwd == NULL && d.tty && d.accel == VM_ACCEL_TCG);
	CHECK_INT(d.memory, 1 << 30);
	CHECK_INT(d.n_ports, 1);
	CHECK_INT(d.ports[0].host, 8080);
	CHECK(d.ports[0].udp);
	CHECK(memcmp(c.mac, d.mac, 6) == 0);
	sandbox_config_deinit(&c);
	sandbox_config_deinit(&d);
}

static void damaged_config_is_refused(void)
{
	static const char *const bad[] = { "", "[]", "{\"memory\": \"x\"}", "{\"args\": [1]}",
		"{\"args\": [{\"hex\": \"0\"}]}", "{\"args\": [{\"hex\": \"00\"}]}",
		"{\"accel\": \"warp\"}", "{\"mac\": \"02\"}",
		"{\"ports\": [{\"host_ip\":\"\",\"host\":70000,\"guest\":1,\"proto\":\"tcp\"}]}",
		"{\"tty\": 1}", "{\"id\": \"0123456789012345678901234567890123456789\"}" };
	struct sandbox_config c;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(sandbox_config_read(bad[i], strlen(bad[i]), &c, &err), -EPROTO);
	CHECK_INT(sandbox_config_read("{\"unknown\": 1}", 14, &c, &err), 0);
}

static void create_find_remove(void)
{
	struct sandbox_root *root = open_root();
	struct sandbox_config a = { .name = "one" }, b = { 0 }, again = { .name = "one" },
			      bad = { .name = "../x" };
	struct sandbox box;
	struct err err = ERR_INIT;
	char id[ID_LEN + 1];

	CHECK_INT(sandbox_create(root, &a, make_scratch, NULL, &err), 0);
	CHECK_INT(sandbox_create(root, &b, make_scratch, NULL, &err), 0);
	CHECK(b.name[0]);
	CHECK_INT(sandbox_create(root, &again, make_scratch, NULL, &err), -EEXIST);
	CHECK(strstr(err.msg, "name 'one' is taken by sandbox"));
	CHECK_INT(sandbox_create(root, &bad, make_scratch, NULL, &err), -EINVAL);
	memcpy(bad.name, "three", 6);
	CHECK_INT(sandbox_create(root, &bad, make_scratch, &bad, &err), -ENOSPC);
	CHECK_INT(count(root), 2);

	CHECK_INT(sandbox_find(root, "one", id, &err), 0);
	CHECK_STR(id, a.id);
	CHECK_INT(sandbox_find(root, b.id, id, &err), 0);
	b.id[20] = 0;
	CHECK_INT(sandbox_find(root, b.id, id, &err), 0);
	CHECK_INT(sandbox_find(root, "", id, &err), -ENOENT);
	CHECK_INT(sandbox_find(root, "nothere", id, &err), -ENOENT);
	CHECK_STR(err.msg, "no such sandbox: nothere");

	CHECK_INT(sandbox_load(root, a.id, &box, &err), 0);
	CHECK_INT(box.state.phase, SANDBOX_CREATED);
	CHECK_STR(box.config.name, "one");
	sandbox_deinit(&box);
	CHECK_INT(sandbox_remove(root, a.id, false, &err), 0);
	CHECK_INT(sandbox_remove(root, a.id, false, &err), -ENOENT);
	CHECK_INT(sandbox_find(root, "one", id, &err), -ENOENT);
	CHECK_INT(sandbox_create(root, &again, make_scratch, NULL, &err), 0);
	CHECK_INT(count(root), 2);
	close_root(root);
}

static void lock_tells_life(void)
{
	struct sandbox_root *root = open_root();
	struct sandbox_config a = { .name = "one" };
	struct sandbox_state s = { .phase = SANDBOX_RUNNING };
	struct sandbox box;
	struct err err = ERR_INIT;
	char path[256];
	int lock;

	CHECK_INT(sandbox_create(root, &a, make_scratch, NULL, &err), 0);
	snprintf(path, sizeof(path), "%s/lock", a.id);
	lock = fs_lock(root->boxes_fd, path, true, false);
	CHECK(lock >= 0);
	CHECK_INT(sandbox_save_state(root, a.id, &s, &err), 0);
	CHECK_INT(sandbox_load(root, a.id, &box, &err), 0);
	CHECK_INT(box.state.phase, SANDBOX_RUNNING);
	sandbox_deinit(&box);
	CHECK_INT(sandbox_wait_gone(root, a.id, deadline_in(50 * NSEC_PER_MSEC)), -ETIMEDOUT);
	CHECK_INT(sandbox_remove(root, a.id, false, &err), -EBUSY);
	safe_close(lock);
	CHECK_INT(sandbox_load(root, a.id, &box, &err), 0);
	CHECK_INT(box.state.phase, SANDBOX_DEAD);
	sandbox_deinit(&box);
	CHECK_INT(sandbox_wait_gone(root, a.id, deadline_in(NSEC_PER_SEC)), 0);
	CHECK_INT(sandbox_remove(root, a.id, false, &err), 0);
	close_root(root);
}

static void sweep_takes_only_leftovers(void)
{
	struct sandbox_root *root = open_root();
	struct sandbox_config a = { .name = "one" };
	struct err err = ERR_INIT;
	char path[256], id[ID_LEN + 1];
	int lock;

	CHECK_INT(sandbox_create(root, &a, make_scratch, NULL, &err), 0);
	CHECK_INT(mkdirat(root->boxes_fd, ".new-dead", 0700), 0);
	CHECK_INT(mkdirat(root->boxes_fd, ".old-dead", 0700), 0);
	CHECK_INT(mkdirat(root->boxes_fd, ".new-live", 0700), 0);
	lock = fs_lock(root->boxes_fd, ".new-live/lock", true, false);
	CHECK_INT(symlinkat("00000000000000000000000000000000", root->fd, "names/ghost"), 0);
	snprintf(path, sizeof(path), "%s/0123456789ab", root->run);
	CHECK_INT(sandbox_root_make_run(root, &err), 0);
	CHECK_INT(mkdir(path, 0700), 0);
	CHECK_INT(sandbox_sweep(root, &err), 0);
	CHECK_INT(faccessat(root->boxes_fd, ".new-dead", F_OK, 0), -1);
	CHECK_INT(faccessat(root->boxes_fd, ".old-dead", F_OK, 0), -1);
	CHECK_INT(faccessat(root->boxes_fd, ".new-live", F_OK, 0), 0);
	CHECK_INT(faccessat(root->fd, "names/ghost", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	CHECK_INT(access(path, F_OK), -1);
	CHECK_INT(access(root->run, F_OK), -1);
	CHECK_INT(sandbox_find(root, "one", id, &err), 0);
	safe_close(lock);
	close_root(root);
}

static void missing_shim_is_told(void)
{
	struct sandbox_root *root = open_root();
	struct sandbox_config a = { .name = "one" };
	struct err err = ERR_INIT;
	int exit_code = 0;

	setenv("MICROPOD_LIBEXEC", dir, 1);
	CHECK_INT(sandbox_create(root, &a, make_scratch, NULL, &err), 0);
	CHECK_INT(sandbox_start(root, a.id, &(struct sandbox_start_opts){ 0 }, &exit_code, &err),
		-ENOENT);
	CHECK_INT(exit_code, 125);
	CHECK(strstr(err.msg, "cannot start the shim of sandbox 'one'"));
	CHECK_INT(sandbox_remove(root, a.id, false, &err), 0);
	close_root(root);
}

struct rival {
	struct sandbox_root *root;
	const struct sandbox_config *mine;
	int times;
};

/* While one is being made another takes its name. */
static int take_its_name(const char *path, uint64_t bytes, void *arg, struct err *err)
{
	struct rival *rival = arg;
	struct sandbox_config other = { .scratch_bytes = 1 };

	if (rival->times++ < 2) {
		snprintf(other.name, sizeof(other.name), "%s", rival->mine->name);
		CHECK_INT(sandbox_create(rival->root, &other, make_scratch, NULL, err), 0);
	}
	return make_scratch(path, bytes, NULL, err);
}

static void made_up_name_that_is_taken_meanwhile(void)
{
	struct sandbox_root *root = open_root();
	struct sandbox_config c = { .scratch_bytes = 1 },
			      named = { .scratch_bytes = 1, .name = "box" };
	struct rival rival = { .root = root, .mine = &c };
	struct err err = ERR_INIT;

	CHECK_INT(sandbox_create(root, &c, take_its_name, &rival, &err), 0);
	CHECK_INT(rival.times, 3);
	CHECK_INT(count(root), 3);
	/* One that was asked for is not changed. */
	rival = (struct rival){ .root = root, .mine = &named };
	CHECK_INT(sandbox_create(root, &named, take_its_name, &rival, &err), -EEXIST);
	CHECK_INT(rival.times, 1);
	CHECK_INT(count(root), 4);
	close_root(root);
}

/* More than there are words for. */
static void names_do_not_run_out(void)
{
	struct sandbox_root *root = open_root();
	struct err err = ERR_INIT;

	for (int i = 0; i < 2500; i++) {
		struct sandbox_config c = { .scratch_bytes = 1 };

		REQUIRE(sandbox_create(root, &c, make_scratch, NULL, &err) == 0);
	}
	CHECK_INT(count(root), 2500);
	close_root(root);
}

TEST_MAIN(TEST(config_keeps_any_bytes), TEST(damaged_config_is_refused), TEST(create_find_remove),
	TEST(lock_tells_life), TEST(sweep_takes_only_leftovers), TEST(missing_shim_is_told),
	TEST(made_up_name_that_is_taken_meanwhile), TEST(names_do_not_run_out))
