/* SPDX-License-Identifier: Apache-2.0 */
/* What PID 1 is made of and needs no machine: command line, module lists, network words, keys, the
 * serial port over a socketpair. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/cmdline.h"
#include "agent/modules.h"
#include "agent/mounts.h"
#include "agent/netif.h"
#include "agent/serial.h"
#include "agent/vsock.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strbuf.h"
#include "io/greeting.h"
#include "test.h"

static int parse(const char *text, struct cmdline *c)
{
	return cmdline_parse(text, strlen(text), c);
}

static void command_line(void)
{
	struct cmdline c;

	CHECK_INT(parse("console=ttyS0 quiet\n", &c), 0);
	CHECK_STR(c.runtime, "crun");
	CHECK_STR(c.root, "");
	CHECK(!c.debug && !c.trace);
	CHECK_INT(parse("micropod.runtime=runc micropod.debug  micropod.trace "
			"micropod.root=agentroot\n",
			  &c),
		0);
	CHECK_STR(c.runtime, "runc");
	CHECK_STR(c.root, "agentroot");
	CHECK(c.debug && c.trace);
	CHECK_INT(parse("xmicropod.debug micropod.debugx micropod.trace=1", &c), 0);
	CHECK(!c.debug && !c.trace);
	CHECK_INT(parse("micropod.runtime=youki micropod.debug", &c), -EINVAL);
	CHECK_STR(c.runtime, "crun");
	CHECK(c.debug);
	CHECK_INT(parse("micropod.root=123456789012345678901", &c), -EINVAL);
	CHECK_INT(parse("micropod.root=", &c), -EINVAL);
	CHECK(!c.vsock && !c.reset && !c.disks[0]);
	CHECK_INT(parse("micropod.vsock micropod.reset micropod.disks=image,scratch", &c), 0);
	CHECK(c.vsock && c.reset);
	CHECK_STR(c.disks, "image,scratch");
	CHECK_INT(parse("micropod.vsock=1 micropod.disks=", &c), -EINVAL);
	CHECK(!c.vsock);
	CHECK_INT(cmdline_parse("micropod.debug\0micropod.trace", 29, &c), 0);
	CHECK(c.debug && c.trace);
}

static void module_list(void)
{
	char text[] = "a.ko\n\n# not this\n../b.ko\nsub/c.ko\n.hidden\nd-e.ko";
	char *cursor = text;

	CHECK_STR(modules_next(&cursor), "a.ko");
	CHECK_STR(modules_next(&cursor), "d-e.ko");
	CHECK(modules_next(&cursor) == NULL);
	CHECK(modules_next(&cursor) == NULL);
}

static void module_files(void)
{
	char dir[] = "/tmp/test-modules.XXXXXX";
	auto_close int fd = -1;
	struct err err = ERR_INIT;

	REQUIRE(mkdtemp(dir));
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* No list: everything is built in. */
	CHECK_INT(modules_load(dir, "order", &err), 0);
	CHECK_INT(fs_replace_file(fd, "order", "gone.ko\nnot-elf.ko\n", 19, 0644, false), 0);
	CHECK_INT(fs_replace_file(fd, "not-elf.ko", "x", 1, 0644, false), 0);
	CHECK_INT(modules_load(dir, "order", &err), -ENOENT);
	CHECK(strstr(err.msg, "gone.ko") != NULL);
	CHECK(!modules_loaded("order") && !modules_loaded(".ko") &&
		!modules_loaded("no-such-module.ko"));
	CHECK_INT(fs_remove_tree(AT_FDCWD, dir), 0);
}

static void addresses(void)
{
	struct netif_address a = { .prefix = 99 };

	CHECK_INT(netif_parse_cidr("10.0.2.15/24", &a), 0);
	CHECK(a.family == AF_INET && a.prefix == 24 && a.addr[0] == 10 && a.addr[3] == 15);
	CHECK_INT(netif_parse_cidr("fec0::1/64", &a), 0);
	CHECK(a.family == AF_INET6 && a.prefix == 64 && a.addr[15] == 1);
	CHECK_INT(netif_parse_cidr("0.0.0.0/0", &a), 0);
	CHECK_INT(netif_parse_address("10.0.0.1", 32, &a), 0);
	CHECK_INT(netif_parse_cidr("10.0.0.1/33", &a), -EINVAL);
	CHECK_INT(netif_parse_cidr("10.0.0.1", &a), -EINVAL);
	CHECK_INT(netif_parse_cidr("10.0.0/8", &a), -EINVAL);
	CHECK_INT(netif_parse_cidr("host/8", &a), -EINVAL);
	CHECK_INT(netif_parse_cidr("10.0.0.1/ 8", &a), -EINVAL);
	CHECK_INT(netif_parse_cidr("::1/129", &a), -EINVAL);
	CHECK_INT(a.prefix, 32);
	CHECK(netif_name_valid("eth0") && netif_name_valid("a.b-c_15chars00"));
	CHECK(!netif_name_valid("") && !netif_name_valid("sixteen-chars-00") &&
		!netif_name_valid("a/b") && !netif_name_valid("..") && !netif_name_valid("a b") &&
		!netif_name_valid("a:1"));
}

static void name_servers(void)
{
	static const char *const servers[] = { "10.0.2.3", "fec0::3" }, *const search[] = {
		"example.org", "lan"
	};
	static const char *const bad_server[] = { "10.0.2.3\nnameserver 6.6.6.6" },
				 *const bad_search[] = { "a\nnameserver 6.6.6.6" };
	char path[] = "/tmp/test-resolv.XXXXXX";
	auto_close int fd = mkstemp(path);
	auto_free char *text = NULL;
	struct err err = ERR_INIT;
	size_t len;

	CHECK_INT(netif_resolv_conf(path, servers, 2, search, 2, &err), 0);
	CHECK_INT(netif_resolv_conf(path, bad_server, 1, NULL, 0, &err), -EINVAL);
	CHECK_INT(netif_resolv_conf(path, servers, 1, bad_search, 1, &err), -EINVAL);
	CHECK_INT(fs_read_file(AT_FDCWD, path, 4096, &text, &len), 0);
	CHECK_STR(text, "nameserver 10.0.2.3\nnameserver fec0::3\nsearch example.org lan\n");
	/* The same file, so that a container that has it mounted sees the change. */
	CHECK_INT(netif_resolv_conf(path, NULL, 0, NULL, 0, &err), 0);
	CHECK_INT(lseek(fd, 0, SEEK_END), 0);
	unlink(path);
	CHECK_INT(netif_hostname("", &err), -EINVAL);
	CHECK_INT(netif_hostname("a b", &err), -EINVAL);
	CHECK_INT(netif_hostname("-a", &err), -EINVAL);
}

static void disk_serials(void)
{
	struct err err = ERR_INIT;
	char path[32];

	CHECK_INT(mounts_find_disk("", 0, path, &err), -EINVAL);
	CHECK_INT(mounts_find_disk("123456789012345678901", 0, path, &err), -EINVAL);
	CHECK_INT(mounts_find_disk("../x", 0, path, &err), -EINVAL);
	CHECK_INT(
		mounts_find_disk("micropod-test-none", deadline_in(20 * NSEC_PER_MSEC), path, &err),
		-ENODEV);
	CHECK_STR(err.msg, "there is no disk with the serial number 'micropod-test-none'");
}

static void keys(void)
{
	char a[32], b[32];

	memset(a, 7, sizeof(a));
	memset(b, 7, sizeof(b));
	CHECK(vsock_key_equal(a, 32, b, 32));
	for (int i = 0; i < 32; i++) {
		b[i] ^= 0x80;
		CHECK(!vsock_key_equal(a, 32, b, 32));
		b[i] ^= 0x80;
	}
	CHECK(!vsock_key_equal(a, 31, b, 31) && !vsock_key_equal(a, 32, b, 31) &&
		!vsock_key_equal(a, 0, b, 0));
}

/* The serial port. A session here reads all it gets and, as HTTP/2 would, gives up at a zero byte
 * at the start of a "frame" of 9 bytes. */

struct peer {
	struct loop *loop;
	struct serial *serial;
	int host;
	struct io_stream *stream;
	unsigned begun, ended;
	bool strict; /* ends the session at the first zero byte */
	bool full;   /* refuses sessions */
	struct strbuf got;
};

static void on_input(void *arg, uint32_t events)
{
	struct peer *p = arg;
	char buf[64 * 1024];
	ssize_t n;

	while (p->stream && (n = io_stream_read(p->stream, buf, sizeof(buf))) > 0) {
		strbuf_add(&p->got, buf, (size_t)n);
		if (p->strict && memchr(buf, 0, (size_t)n))
			p->stream = io_stream_free(p->stream);
	}
}

static int on_begin(void *arg, struct io_stream *stream)
{
	struct peer *p = arg;

	if (p->full) {
		io_stream_free(stream);
		return -ENOMEM;
	}
	p->begun++;
	p->stream = stream;
	stream->arg = p;
	stream->on_event = on_input;
	io_stream_want(stream, EPOLLIN);
	return 0;
}

static void on_end(void *arg)
{
	struct peer *p = arg;

	p->ended++;
	p->stream = io_stream_free(p->stream);
}

static void peer_init(struct peer *p)
{
	const struct serial_ops ops = { on_begin, on_end, p };
	int fds[2];

	*p = (struct peer){ .host = -1 };
	REQUIRE(loop_new(&p->loop) == 0);
	REQUIRE(fd_socketpair(fds) == 0);
	p->host = fds[0];
	fd_set_nonblock(p->host, true);
	REQUIRE(serial_new(p->loop, fds[1], &ops, &p->serial) == 0);
}

static void peer_deinit(struct peer *p)
{
	serial_free(p->serial);
	CHECK(!p->stream);
	loop_free(p->loop);
	safe_close(p->host);
	strbuf_deinit(&p->got);
}

/* Runs the loop until nothing has happened for a moment; fails if it never rests. */
static void settle(struct peer *p)
{
	for (int i = 0; i < 50; i++)
		CHECK_INT(loop_once(p->loop, 0), 0);
}

static void send_all(struct peer *p, const void *data, size_t len)
{
	const char *at = data;

	while (len) {
		ssize_t n = write(p->host, at, len);

		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
		settle(p);
	}
}

static void expect_echo(struct peer *p, const struct greeting *g)
{
	uint8_t echo[GREETING_LEN * 2];
	ssize_t n;

	settle(p);
	n = read(p->host, echo, sizeof(echo));
	CHECK_INT(n, GREETING_LEN);
	CHECK(n == GREETING_LEN && memcmp(echo, g->frame, GREETING_LEN) == 0);
}

static void serial_session(void)
{
	struct peer p;
	struct greeting g;
	struct iovec iov[2] = { { (void *)"ab", 2 }, { (void *)"cde", 3 } };
	char buf[16];

	peer_init(&p);
	greeting_offer(&g);
	send_all(&p, "noise of an old session\0\0", 25);
	CHECK_INT(p.begun, 0);
	/* Byte by byte, with the session's first bytes right behind. */
	for (size_t i = 0; i < GREETING_LEN; i++)
		send_all(&p, g.frame + i, 1);
	expect_echo(&p, &g);
	CHECK_INT(p.begun, 1);
	send_all(&p, "PRI * HTTP", 10);
	settle(&p);
	CHECK_STR(p.got.data, "PRI * HTTP");
	CHECK_INT(io_stream_writev(p.stream, iov, 2), 5);
	CHECK_INT(read(p.host, buf, sizeof(buf)), 5);
	CHECK(memcmp(buf, "abcde", 5) == 0);
	/* The owner ends it: the port waits again. */
	p.stream = io_stream_free(p.stream);
	greeting_offer(&g);
	send_all(&p, g.frame, GREETING_LEN);
	expect_echo(&p, &g);
	CHECK_INT(p.begun, 2);
	CHECK_INT(p.ended, 0);
	peer_deinit(&p);
}

/* The host begins anew in the middle of a frame, and all it sends comes in one read. */
static void serial_reconnect(void)
{
	static const uint8_t zeros[GREETING_FLUSH];
	struct peer p;
	struct greeting g;
	auto_strbuf struct strbuf burst = STRBUF_INIT;

	for (size_t split = 0; split <= GREETING_LEN; split++) {
		peer_init(&p);
		p.strict = true;
		greeting_offer(&g);
		send_all(&p, g.frame, GREETING_LEN);
		expect_echo(&p, &g);
		greeting_offer(&g);
		strbuf_reset(&burst);
		strbuf_adds(&burst, "half a frame");
		strbuf_add(&burst, zeros, sizeof(zeros));
		strbuf_add(&burst, g.frame, split);
		send_all(&p, burst.data, burst.len);
		strbuf_reset(&burst);
		strbuf_add(&burst, g.frame + split, GREETING_LEN - split);
		strbuf_adds(&burst, "PRI");
		send_all(&p, burst.data, burst.len);
		expect_echo(&p, &g);
		CHECK_INT(p.begun, 2);
		CHECK_INT(p.got.len >= 3 && memcmp(p.got.data + p.got.len - 3, "PRI", 3) == 0, 1);
		peer_deinit(&p);
	}
}

/* What a session carries may look like a greeting: it goes through unchanged. */
static void serial_magic_in_data(void)
{
	struct peer p;
	struct greeting g, other;
	auto_strbuf struct strbuf data = STRBUF_INIT;

	peer_init(&p);
	greeting_offer(&g);
	greeting_offer(&other);
	for (int i = 0; i < 3; i++) {
		strbuf_adds(&data, "payload");
		strbuf_add(&data, other.frame, GREETING_LEN);
		strbuf_add(&data, GREETING_MAGIC, GREETING_MAGIC_LEN);
		strbuf_add(&data, "\0\0\0mic", 6);
	}
	send_all(&p, g.frame, GREETING_LEN);
	expect_echo(&p, &g);
	send_all(&p, data.data, data.len);
	for (int i = 0; i < 5; i++)
		settle(&p);
	CHECK_INT(p.got.len, data.len);
	CHECK(p.got.len == data.len && memcmp(p.got.data, data.data, data.len) == 0);
	CHECK_INT(p.begun, 1);
	peer_deinit(&p);
}

static void serial_hangup(void)
{
	struct peer p;
	struct greeting g;
	int64_t before;

	peer_init(&p);
	greeting_offer(&g);
	send_all(&p, g.frame, GREETING_LEN);
	expect_echo(&p, &g);
	p.host = safe_close(p.host);
	settle(&p);
	CHECK_INT(p.ended, 1);
	CHECK(!p.stream);
	/* A closed port is no busy loop. */
	before = clock_monotonic();
	CHECK_INT(loop_once(p.loop, deadline_in(30 * NSEC_PER_MSEC)), 0);
	CHECK_INT(loop_once(p.loop, deadline_in(30 * NSEC_PER_MSEC)), 0);
	CHECK(clock_monotonic() - before >= 30 * NSEC_PER_MSEC);
	peer_deinit(&p);
}

/* The host reads nothing: the echo waits, and what the session writes waits behind it. */
static void serial_full(void)
{
	static const uint8_t block[4096];
	struct iovec iov = { (void *)block, sizeof(block) };
	struct peer p;
	struct greeting g;
	ssize_t n;

	peer_init(&p);
	greeting_offer(&g);
	send_all(&p, g.frame, GREETING_LEN);
	settle(&p);
	while ((n = io_stream_writev(p.stream, &iov, 1)) > 0)
		;
	CHECK_INT(n, -EAGAIN);
	p.stream = io_stream_free(p.stream);
	greeting_offer(&g);
	send_all(&p, g.frame, GREETING_LEN);
	settle(&p);
	REQUIRE(p.stream);
	CHECK_INT(io_stream_writev(p.stream, &iov, 1), -EAGAIN);
	{
		struct greeting seeker = g;
		uint8_t buf[4096];
		bool done = false;

		while (!done && (n = read(p.host, buf, sizeof(buf))) != 0) {
			if (n > 0)
				greeting_feed(&seeker, buf, (size_t)n, &done);
			settle(&p);
			REQUIRE(n > 0 || errno == EAGAIN);
		}
		CHECK(done);
	}
	/* A session that cannot be served is given up; the next greeting is heard. */
	p.stream = io_stream_free(p.stream);
	p.full = true;
	greeting_offer(&g);
	send_all(&p, g.frame, GREETING_LEN);
	settle(&p);
	CHECK_INT(p.begun, 2);
	p.full = false;
	greeting_offer(&g);
	send_all(&p, g.frame, GREETING_LEN);
	settle(&p);
	CHECK_INT(p.begun, 3);
	peer_deinit(&p);
}

static void serial_ports(void)
{
	char dir[] = "/tmp/test-ports.XXXXXX", path[64];
	auto_close int top = -1;
	struct err err = ERR_INIT;

	REQUIRE(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/null", dir);
	CHECK_INT(fs_make_dirs(path, 0755), 0);
	top = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK_INT(serial_open_port(dir, "micropod.agent", deadline_in(10 * NSEC_PER_MSEC), &err),
		-ENODEV);
	CHECK_INT(fs_replace_file(top, "null/name", "micropod.agent\n", 15, 0644, false), 0);
	{
		auto_close int fd = serial_open_port(dir, "micropod.agent", 0, &err);

		CHECK(fd >= 0); /* /dev/null */
	}
	CHECK_INT(fs_remove_tree(AT_FDCWD, dir), 0);
}

TEST_MAIN(TEST(command_line), TEST(module_list), TEST(module_files), TEST(addresses),
	TEST(name_servers), TEST(disk_serials), TEST(keys), TEST(serial_session),
	TEST(serial_reconnect), TEST(serial_magic_in_data), TEST(serial_hangup), TEST(serial_full),
	TEST(serial_ports))
