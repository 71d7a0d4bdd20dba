/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/proc.h"
#include "base/strbuf.h"
#include "image/blocks.h"
#include "image/confine.h"
#include "image/digest.h"
#include "image/image.h"
#include "image/manifest.h"
#include "image/ref.h"
#include "image/tree.h"
#include "test.h"

#define HEX64 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void digests(void)
{
	char out[DIGEST_SIZE];

	CHECK_INT(digest_of("", 0, out), 0);
	CHECK_STR(out, "sha256:" HEX64);
	CHECK(digest_valid(out));
	CHECK(!digest_valid("sha256:" HEX64 "0"));
	CHECK(!digest_valid("sha512:" HEX64));
	CHECK(!digest_valid(
		"sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
	CHECK(!digest_valid(""));
}

static void references(void)
{
	static const struct {
		const char *text, *name, *source;
		bool loopback;
	} good[] = {
		{ "nginx", "docker.io/library/nginx:latest",
			"docker://docker.io/library/nginx:latest" },
		{ "nginx:1.2", "docker.io/library/nginx:1.2", NULL },
		{ "a/b", "docker.io/a/b:latest", NULL },
		{ "index.docker.io/nginx", "docker.io/library/nginx:latest", NULL },
		{ "docker.io/nginx", "docker.io/library/nginx:latest", NULL },
		{ "ghcr.io/a/b:T_a-g.1", "ghcr.io/a/b:T_a-g.1", NULL },
		{ "localhost/x", "localhost/x:latest", NULL, true },
		{ "localhost:5000/x", "localhost:5000/x:latest", NULL, true },
		{ "127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", NULL, true },
		{ "127.example.com/x", "127.example.com/x:latest", NULL },
		{ "[::1]:5000/x", "[::1]:5000/x:latest", NULL, true },
		{ "[2001:db8::1]/x", "[2001:db8::1]/x:latest", NULL },
		{ "Host/x", "Host/x:latest", NULL },
		{ "a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest", NULL },
		{ "x@sha256:" HEX64, "docker.io/library/x@sha256:" HEX64,
			"docker://docker.io/library/x@sha256:" HEX64 },
		{ "x:tag@sha256:" HEX64, "docker.io/library/x@sha256:" HEX64, NULL },
		{ "docker://q.io/x", "q.io/x:latest", "docker://q.io/x:latest" },
		{ "oci:/a/b:c", "oci:/a/b:c", "oci:/a/b:c" },
		{ "docker-archive:/x.tar", "docker-archive:/x.tar", "docker-archive:/x.tar" },
		{ "containers-storage:x", "containers-storage:x", NULL },
	};
	static const char *const wrong[] = { "", ":", "/", "x:", "x:.t", "x:-t", "x:t t", "X",
		"a/B", "a//b", "/a", "a/", "a..b", "a___b", "_a", "a_", "-a", "a-", "x@",
		"x@sha256:12", "x@md5:" HEX64, HEX64, "oci:", "docker://", "a b", "a\nb",
		"host:0/x", "host:65536/x", "host:/x", "-h.io/x", "h-.io/x", "h..io/x", "[::1/x",
		"[]/x", "[zz]/x", "\xff", "oci:\xff", "docker-archive:" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		auto_image_ref struct image_ref ref = { 0 };
		struct err err = ERR_INIT;

		CHECK_INT(image_ref_parse(good[i].text, &ref, &err), 0);
		CHECK_STR(ref.name, good[i].name);
		if (good[i].source)
			CHECK_STR(ref.source, good[i].source);
		CHECK_INT(ref.loopback, good[i].loopback);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		auto_image_ref struct image_ref ref = { 0 };
		struct err err = ERR_INIT;
		int r = image_ref_parse(wrong[i], &ref, &err);

		CHECK(err.msg[0]);
		if (r != -EINVAL) {
			printf("# taken: '%s'\n", wrong[i]);
			CHECK_INT(r, -EINVAL);
		}
	}
}

static void long_references(void)
{
	char text[LIMIT_REFERENCE + 2];
	struct image_ref ref = { 0 };
	struct err err = ERR_INIT;

	memset(text, 'a', sizeof(text));
	text[LIMIT_REFERENCE + 1] = 0;
	CHECK_INT(image_ref_parse(text, &ref, &err), -EINVAL);
	text[240] = 0;
	CHECK_INT(image_ref_parse(text, &ref, &err),
		-EINVAL); /* with docker.io/library/ more than 255 */
	text[237] = 0;
	CHECK_INT(image_ref_parse(text, &ref, &err), 0);
	image_ref_deinit(&ref);
}

#define DESCRIPTOR(more) "{\"digest\":\"sha256:" HEX64 "\",\"size\":10" more "}"
#define LAYER(type)	 DESCRIPTOR(",\"mediaType\":\"" type "\"")
#define OCI_LAYER	 LAYER("application/vnd.oci.image.layer.v1.tar+gzip")

static int parse_manifest(const char *json, struct manifest *m)
{
	struct err err = ERR_INIT;
	int r = manifest_parse(json, strlen(json), m, &err);

	CHECK(r == 0 || (err.msg[0] && err.code == -r));
	return r;
}

static void manifests(void)
{
	static const char *const wrong[] = {
		"",
		"x",
		"[]",
		"{}",
		"{\"schemaVersion\":1}",
		"{\"schemaVersion\":2}",
		"{\"schemaVersion\":2,\"config\":{},\"layers\":[]}",
		"{\"schemaVersion\":2,\"config\":" DESCRIPTOR("") ",\"layers\":{}}",
		"{\"schemaVersion\":2,\"config\":" DESCRIPTOR("") ",\"layers\":[" DESCRIPTOR(
			"") "]}",
		"{\"schemaVersion\":2,\"config\":" DESCRIPTOR("") ",\"layers\":[" LAYER(
			"text/plain") "]}",
		"{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" HEX64
		"\",\"size\":-1},\"layers\":[]}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:../" HEX64
		"\",\"size\":1},\"layers\":[]}",
	};
	auto_manifest struct manifest m = { 0 };
	auto_strbuf struct strbuf many = STRBUF_INIT;

	CHECK_INT(parse_manifest("{\"schemaVersion\":2,\"config\":" DESCRIPTOR(
					 "") ",\"layers\":[" OCI_LAYER "," OCI_LAYER "]}",
			  &m),
		0);
	CHECK_INT(m.n, 2);
	CHECK_INT(m.items[1].size, 10);
	CHECK(!m.is_index);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct manifest bad = { 0 };

		CHECK(parse_manifest(wrong[i], &bad) < 0);
	}
	strbuf_adds(
		&many, "{\"schemaVersion\":2,\"config\":" DESCRIPTOR("") ",\"layers\":[" OCI_LAYER);
	for (int i = 0; i < LIMIT_LAYERS; i++)
		strbuf_adds(&many, "," OCI_LAYER);
	strbuf_adds(&many, "]}");
	CHECK_INT(parse_manifest(many.data, &(struct manifest){ 0 }), -E2BIG);
}

static void architectures(void)
{
	auto_manifest struct manifest m = { 0 };
	const struct descriptor *d = NULL;
	struct err err = ERR_INIT;

	CHECK_INT(
		parse_manifest(
			"{\"schemaVersion\":2,\"manifests\":[" DESCRIPTOR(
				",\"platform\":{\"os\":"
				"\"windows\","
				"\"architecture\":"
				"\"amd64\"}") "," DESCRIPTOR(",\"platform\":{\"os\":\"linux\","
							     "\"architecture\":\"amd64\","
							     "\"variant\":\"v3\"}") "," DESCRIPTOR(",\"platform\":{\"os\":"
												   "\"linux\",\"architecture\":"
												   "\"amd64\"}") "," DESCRIPTOR("") "," DESCRIPTOR(",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"}") "]}",
			&m),
		0);
	CHECK(m.is_index);
	CHECK_INT(manifest_select(&m, "amd64", &d, &err), 0);
	CHECK(d == &m.items[2]);
	CHECK_INT(manifest_select(&m, "arm", &d, &err), 0);
	CHECK(d == &m.items[4]);
	CHECK_INT(manifest_select(&m, "s390x", &d, &err), -ENOENT);
	CHECK(strstr(err.msg, "there is: amd64, amd64, arm"));
}

static void policies(void)
{
	enum image_policy p = IMAGE_PULL_MAX;

	CHECK_INT(image_policy_parse("always", &p), 0);
	CHECK_INT(p, IMAGE_PULL_ALWAYS);
	CHECK_INT(image_policy_parse("Always", &p), -EINVAL);
}

/* Trees */

struct fixture {
	struct blocks blocks;
	struct tree tree;
};

static void setup(struct fixture *f)
{
	REQUIRE(blocks_init(&f->blocks, memfd_create("blocks", MFD_CLOEXEC)) == 0);
	REQUIRE(tree_init(&f->tree, &f->blocks, 0) == 0);
}

static void teardown(struct fixture *f)
{
	close(f->blocks.fd);
	tree_deinit(&f->tree);
	blocks_deinit(&f->blocks);
}

static int put(struct fixture *f, const char *path, mode_t mode, const char *target)
{
	char *copy = strdup(path);
	struct inode *dir, *inode;
	struct err err = ERR_INIT;
	const char *name;
	int r = tree_walk(&f->tree, copy, true, &dir, &name, &err);

	if (r == 0) {
		inode = inode_new(mode);
		inode->target = target ? strdup(target) : NULL;
		r = tree_link(&f->tree, dir, name, inode);
		if (r < 0)
			inode_free(inode);
	}
	free(copy);
	return r;
}

static struct dentry *get(struct fixture *f, const char *path)
{
	char *copy = strdup(path);
	struct inode *dir;
	const char *name;
	struct dentry *d = NULL;

	if (tree_walk(&f->tree, copy, false, &dir, &name, NULL) == 0)
		d = tree_lookup(dir, name, strlen(name));
	free(copy);
	return d;
}

static void walks(void)
{
	struct fixture f;

	setup(&f);
	CHECK_INT(put(&f, "./a//b/../c", S_IFREG, NULL), 0);
	CHECK(get(&f, "a/c") && get(&f, "/a/./c") && !get(&f, "a/b"));
	CHECK_INT(put(&f, "a/../../x", S_IFREG, NULL), -EINVAL);
	CHECK_INT(put(&f, "..", S_IFREG, NULL), -EINVAL);
	CHECK_INT(put(&f, "a/c/x", S_IFREG, NULL), -ENOTDIR);
	CHECK_INT(put(&f, "up", S_IFLNK, "../../a"), 0);
	CHECK_INT(put(&f, "up/d", S_IFREG, NULL), 0);
	CHECK(get(&f, "a/d"));
	CHECK_INT(put(&f, "loop", S_IFLNK, "loop"), 0);
	CHECK_INT(put(&f, "loop/x", S_IFREG, NULL), -ELOOP);
	teardown(&f);
}

static void links(void)
{
	struct fixture f;
	struct dentry *d;

	setup(&f);
	CHECK_INT(put(&f, "dir/file", S_IFREG, NULL), 0);
	d = get(&f, "dir/file");
	REQUIRE(d);
	/* The link takes the place of the folder that holds its only other name. */
	CHECK_INT(tree_link(&f.tree, f.tree.root, "dir", d->inode), 0);
	d = get(&f, "dir");
	REQUIRE(d);
	CHECK(S_ISREG(d->inode->attr.mode));
	CHECK_INT(d->inode->nlink, 1);
	CHECK_INT(f.tree.n_dentries, 1);
	teardown(&f);
}

static void whiteouts(void)
{
	struct fixture f;

	setup(&f);
	CHECK_INT(put(&f, "d/low", S_IFREG, NULL), 0);
	CHECK_INT(put(&f, "d/sub/low", S_IFREG, NULL), 0);
	CHECK_INT(put(&f, "d/gone/low", S_IFREG, NULL), 0);
	f.tree.layer = 1;
	CHECK_INT(put(&f, "d/sub/new", S_IFREG, NULL), 0);
	CHECK_INT(tree_clear_lower(&f.tree, get(&f, "d")->inode), 0);
	CHECK(!get(&f, "d/low") && !get(&f, "d/gone") && !get(&f, "d/sub/low") &&
		get(&f, "d/sub/new"));
	CHECK_INT(tree_remove_lower(&f.tree, get(&f, "d")), 0);
	CHECK(get(&f, "d/sub/new"));
	f.tree.layer = 2;
	CHECK_INT(tree_remove_lower(&f.tree, get(&f, "d")), 0);
	CHECK(!get(&f, "d"));
	CHECK_INT(f.tree.n_dentries, 0);
	teardown(&f);
}

static void freed_blocks(void)
{
	struct fixture f;
	static uint8_t data[5 * BLOCK_SIZE];
	struct extents a = { 0 }, b = { 0 };

	setup(&f);
	CHECK_INT(blocks_append(&f.blocks, data, 0, 3, &a), 0);
	CHECK_INT(blocks_append(&f.blocks, data, 0, 2, &b), 0);
	CHECK_INT(blocks_append(&f.blocks, data, 3, 5, &a), 0);
	CHECK_INT(a.n, 2);
	CHECK_INT(extents_blocks(&a), 8);
	CHECK_INT(b.v[0].physical, BLOCKS_FIRST + 3);
	CHECK_INT(blocks_free(&f.blocks, &a), 0);
	CHECK_INT(blocks_free(&f.blocks, &b), 0);
	CHECK_INT(extents_blocks(&f.blocks.freed), 10);
	CHECK_INT(a.n + b.n, 0);
	f.blocks.next = DISK_VIRTUAL_SIZE / BLOCK_SIZE - 1;
	CHECK_INT(blocks_append(&f.blocks, data, 0, 2, &a), -EFBIG);
	teardown(&f);
}

/* In a worker: what a parser that was taken over would try. */
static int try_things(void *arg, struct err *err)
{
	char byte = 1;
	int r = confine_worker(LIMIT_IMAGE_MEMORY, err);

	if (r < 0)
		return r;
	if (open("/etc/passwd", O_RDONLY) >= 0 || open("/tmp/x", O_WRONLY | O_CREAT, 0600) >= 0)
		return err_set(err, EPROTO, "a file could be opened");
	if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || fork() >= 0 ||
		execl("/bin/true", "true", NULL) >= 0)
		return err_set(err, EPROTO, "a call got through");
	if (pwrite(*(int *)arg, &byte, 1, 0) != 1)
		return err_set(err, EPROTO, "what was open is not writable");
	return 0;
}

static void confinement(void)
{
	int fd = memfd_create("out", MFD_CLOEXEC);
	struct err err = ERR_INIT;

	CHECK_INT(proc_call(try_things, &fd, deadline_in(10 * NSEC_PER_SEC), &err), 0);
	CHECK_STR(err.msg, "");
	close(fd);
}

TEST_MAIN(TEST(digests), TEST(references), TEST(long_references), TEST(manifests),
	TEST(architectures), TEST(policies), TEST(walks), TEST(links), TEST(whiteouts),
	TEST(freed_blocks), TEST(confinement))
