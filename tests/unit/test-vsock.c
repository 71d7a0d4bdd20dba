/* SPDX-License-Identifier: Apache-2.0 */
/* The vsock device, with this program as the VMM and the guest's driver. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "io/addr.h"
#include "test.h"
#include "vsock/device.h"
#include "vsock/packet.h"
#include "vsock/virtq.h"

#define MEMORY	  (8 * MIB)
#define GUEST	  UINT64_C(0x10000000) /* where the guest has it */
#define USER	  UINT64_C(0x7f0000000000)
#define NUM	  16
#define RX_BUF	  4096
#define RX_AT	  0x100000 /* buffers for what comes in */
#define TX_AT	  0x200000
#define TX_STRIDE 0x20000
#define PATH	  "/tmp/micropod-test-vsock"
#define CID	  3

enum { RX, TX };

struct ring {
	uint64_t at; /* of descriptors; avail and used behind */
	uint16_t avail, used;
	int kick, call;
};

struct machine {
	struct loop *loop;
	struct vsock_device *dev;
	int vmm, memfd;
	uint8_t *memory;
	struct ring rings[2];
	bool failed;
};

static uint8_t *avail_of(struct machine *m, int i)
{
	return m->memory + m->rings[i].at + 16 * NUM;
}

static uint8_t *used_of(struct machine *m, int i)
{
	return m->memory + m->rings[i].at + 0x1000;
}

static void turn(struct machine *m)
{
	for (int i = 0; i < 6; i++)
		loop_once(m->loop, 0);
}

static void tell(struct machine *m, uint32_t request, const void *data, uint32_t size, int fd)
{
	uint32_t header[3] = { request, 1, size };
	struct iovec iov[2] = { { header, sizeof(header) }, { (void *)data, size } };
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	if (sendmsg(m->vmm, &msg, MSG_NOSIGNAL) < 0)
		m->failed = true;
	turn(m);
}

static void tell_u64(struct machine *m, uint32_t request, uint64_t value, int fd)
{
	tell(m, request, &value, sizeof(value), fd);
}

static void tell_state(struct machine *m, uint32_t request, uint32_t index, uint32_t num)
{
	uint32_t state[2] = { index, num };

	tell(m, request, state, sizeof(state), -1);
}

static void on_failed(struct vsock_device *dev, const char *why, void *arg)
{
	struct machine *m = arg;

	m->failed = true;
	if (!strstr(why, "VMM"))
		printf("# odd: %s\n", why);
}

static void tell_memory(struct machine *m, uint64_t size, int fd)
{
	struct {
		uint32_t n, padding;
		uint64_t guest, size, user, offset;
	} table = { 1, 0, GUEST, size, USER, 0 };

	tell(m, 5, &table, sizeof(table), fd);
}

static void start_ring(struct machine *m, uint32_t i)
{
	struct {
		uint32_t index, flags;
		uint64_t desc, used, avail, log;
	} addr = { i, 0, USER + m->rings[i].at, USER + m->rings[i].at + 0x1000,
		USER + m->rings[i].at + 16 * NUM, 0 };

	tell_state(m, 8, i, NUM);
	tell(m, 9, &addr, sizeof(addr), -1);
	tell_state(m, 10, i, 0);
	tell_u64(m, 13, i, m->rings[i].call);
	tell_u64(m, 12, i, m->rings[i].kick);
	tell_state(m, 18, i, 1);
}

static void put_desc(struct machine *m, int ring, unsigned i, uint64_t at, uint32_t len,
	uint16_t flags, uint16_t next)
{
	struct vring_desc d = { GUEST + at, len, flags, next };

	memcpy(m->memory + m->rings[ring].at + 16 * (size_t)i, &d, sizeof(d));
}

static void offer(struct machine *m, int ring, uint16_t head)
{
	uint8_t *avail = avail_of(m, ring);
	uint16_t idx = ++m->rings[ring].avail;

	memcpy(avail + 4 + 2 * ((idx - 1) % NUM), &head, 2);
	memcpy(avail + 2, &idx, 2);
}

static void kick(struct machine *m, int ring)
{
	uint64_t one = 1;

	CHECK_INT(write(m->rings[ring].kick, &one, 8), 8);
	turn(m);
}

static void offer_buffers(struct machine *m, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		put_desc(m, RX, i, RX_AT + RX_BUF * i, RX_BUF, VRING_DESC_F_WRITE, 0);
		offer(m, RX, (uint16_t)i);
	}
	kick(m, RX);
}

static void machine_start(struct machine *m)
{
	struct err err = ERR_INIT;
	int fds[2];
	const struct vsock_device_events events = { on_failed, m };

	*m = (struct machine){ .vmm = -1 };
	m->memfd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	REQUIRE(m->memfd >= 0 && ftruncate(m->memfd, MEMORY) == 0);
	REQUIRE(fcntl(m->memfd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	m->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, m->memfd, 0);
	REQUIRE(m->memory != MAP_FAILED && loop_new(&m->loop) == 0 && fd_socketpair(fds) == 0);
	m->vmm = fds[1];
	for (int i = 0; i < 2; i++) {
		m->rings[i].at = 0x10000 * (uint64_t)(i + 1);
		m->rings[i].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		m->rings[i].call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	REQUIRE(vsock_device_new(m->loop, fds[0], PATH, CID, &events, &m->dev, &err) == 0);
	tell_u64(m, 2, (UINT64_C(1) << 32) | (1 << 30), -1);
	tell_memory(m, MEMORY, m->memfd);
}

static void machine_run(struct machine *m)
{
	machine_start(m);
	start_ring(m, RX);
	start_ring(m, TX);
}

static void machine_end(struct machine *m)
{
	vsock_device_free(m->dev);
	close(m->vmm);
	for (int i = 0; i < 2; i++) {
		close(m->rings[i].kick);
		close(m->rings[i].call);
	}
	munmap(m->memory, MEMORY);
	close(m->memfd);
	loop_free(m->loop);
}

/* The guest sends: header and len bytes, which lie in a buffer of its own. */
static void guest_sends(
	struct machine *m, const struct vsock_packet *p, const void *data, uint32_t real_len)
{
	unsigned i = m->rings[TX].avail % (NUM / 2) * 2;
	uint64_t at = TX_AT + TX_STRIDE * i;

	vsock_packet_write(p, m->memory + at);
	if (real_len)
		memcpy(m->memory + at + 64, data, real_len);
	put_desc(m, TX, i, at, VSOCK_HEADER, real_len ? VRING_DESC_F_NEXT : 0, (uint16_t)(i + 1));
	put_desc(m, TX, i + 1, at + 64, real_len, 0, 0);
	offer(m, TX, (uint16_t)i);
	kick(m, TX);
}

/* The next packet that the guest got; false: none. Its buffer is offered again. */
static bool guest_gets(struct machine *m, struct vsock_packet *p, char data[static RX_BUF])
{
	struct vring_used_elem e;
	uint16_t idx;
	uint8_t *at;

	memcpy(&idx, used_of(m, RX) + 2, 2);
	if (idx == m->rings[RX].used)
		return false;
	memcpy(&e, used_of(m, RX) + 4 + 8 * (m->rings[RX].used % NUM), sizeof(e));
	m->rings[RX].used++;
	at = m->memory + RX_AT + RX_BUF * (size_t)e.id;
	vsock_packet_read(at, p);
	CHECK_INT(e.len, VSOCK_HEADER + p->len);
	memcpy(data, at + VSOCK_HEADER, MIN(p->len, RX_BUF - 1));
	data[MIN(p->len, RX_BUF - 1)] = 0;
	offer(m, RX, (uint16_t)e.id);
	kick(m, RX);
	return true;
}

static int dial(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static char *read_text(int fd, char text[static 256])
{
	ssize_t n = recv(fd, text, 255, MSG_DONTWAIT);

	text[MAX(n, 0)] = 0;
	if (n <= 0)
		snprintf(text, 256, "%s", n < 0 ? "(nothing)" : "(end)");
	return text;
}

/* A connection from the host to the guest's port 1024, answered. */
static int connected(struct machine *m, struct vsock_packet *to_host, uint32_t room)
{
	int fd = dial(PATH);
	struct vsock_packet p;
	char data[RX_BUF], text[256], wanted[64];

	REQUIRE(fd >= 0 && write(fd, "CONN", 4) == 4);
	turn(m);
	CHECK_INT(write(fd, "ECT 1024\nearly", 14), 14);
	turn(m);
	REQUIRE(guest_gets(m, &p, data));
	CHECK_INT(p.op, VSOCK_REQUEST);
	CHECK_INT(p.src_cid, 2);
	CHECK_INT(p.dst_cid, CID);
	CHECK_INT(p.dst_port, 1024);
	CHECK_INT(p.buf_alloc, LIMIT_VSOCK_BUFFER);
	*to_host = (struct vsock_packet){ .src_cid = CID,
		.dst_cid = 2,
		.src_port = 1024,
		.dst_port = p.src_port,
		.type = VSOCK_TYPE_STREAM,
		.op = VSOCK_RESPONSE,
		.buf_alloc = room };
	guest_sends(m, to_host, NULL, 0);
	snprintf(wanted, sizeof(wanted), "OK %u\n", p.src_port);
	CHECK_STR(read_text(fd, text), wanted);
	return fd;
}

static void host_to_guest_and_back(void)
{
	struct vsock_packet p, out;
	struct machine m;
	char data[RX_BUF], text[256];
	int fd;

	machine_run(&m);
	offer_buffers(&m, 4);
	fd = connected(&m, &out, 8);
	/* As much as it said it has room for. */
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_INT(p.op, VSOCK_RW);
	CHECK_STR(data, "early");
	CHECK_INT(write(fd, "123456", 6), 6);
	turn(&m);
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_STR(data, "123");
	CHECK(!guest_gets(&m, &p, data));
	out.op = VSOCK_CREDIT_UPDATE;
	out.fwd_cnt = 8;
	guest_sends(&m, &out, NULL, 0);
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_STR(data, "456");
	out.op = VSOCK_RW;
	out.len = 5;
	guest_sends(&m, &out, "hello", 5);
	CHECK_STR(read_text(fd, text), "hello");
	/* Asked for, it says what it has taken. */
	out.op = VSOCK_CREDIT_REQUEST;
	out.len = 0;
	guest_sends(&m, &out, NULL, 0);
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_INT(p.op, VSOCK_CREDIT_UPDATE);
	CHECK_INT(p.fwd_cnt, 5);
	/* Ends: first the host's half, then the guest's. */
	shutdown(fd, SHUT_WR);
	turn(&m);
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_INT(p.op, VSOCK_SHUTDOWN);
	CHECK_INT(p.flags, VSOCK_NO_SEND);
	out.op = VSOCK_SHUTDOWN;
	out.flags = VSOCK_NO_SEND | VSOCK_NO_RECEIVE;
	guest_sends(&m, &out, NULL, 0);
	CHECK_STR(read_text(fd, text), "(end)");
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_INT(p.op, VSOCK_RST);
	CHECK(!guest_gets(&m, &p, data) && !m.failed);
	close(fd);
	machine_end(&m);
	CHECK(access(PATH, F_OK) < 0);
}

static void one_that_waits_for_the_guest(void)
{
	struct vsock_packet p;
	struct machine m;
	char data[RX_BUF], text[256];
	int fd;

	machine_start(&m);
	fd = dial(PATH);
	REQUIRE(fd >= 0 && write(fd, "CONNECT 7\n", 10) == 10);
	turn(&m);
	start_ring(&m, RX);
	start_ring(&m, TX);
	offer_buffers(&m, 2);
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_INT(p.op, VSOCK_REQUEST);
	/* Nobody listens there. */
	guest_sends(&m,
		&(struct vsock_packet){ .src_cid = CID,
			.dst_cid = 2,
			.src_port = 7,
			.dst_port = p.src_port,
			.type = 1,
			.op = VSOCK_RST },
		NULL, 0);
	CHECK_STR(read_text(fd, text), "(end)");
	close(fd);
	machine_end(&m);
}

static void greetings_that_are_none(void)
{
	static const char *const lines[] = { "CONNECT\n", "CONNECT x\n", "CONNECT 4294967296\n",
		"connect 1\n", "CONNECT 1 \n",
		"GET / HTTP/1.1\r\nHost: somewhere far away\r\n\r\n" };
	struct machine m;
	char text[256];

	machine_run(&m);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		int fd = dial(PATH);

		CHECK(write(fd, lines[i], strlen(lines[i])) > 0);
		turn(&m);
		/* What was not read makes it a reset. */
		read_text(fd, text);
		CHECK(strcmp(text, "(end)") == 0 || strcmp(text, "(nothing)") == 0);
		CHECK(send(fd, "x", 1, MSG_NOSIGNAL) < 0);
		close(fd);
	}
	CHECK(!m.failed);
	machine_end(&m);
}

static void guest_to_host(void)
{
	struct vsock_packet p, out = { .src_cid = CID,
		.dst_cid = 2,
		.src_port = 5000,
		.dst_port = 80,
		.type = VSOCK_TYPE_STREAM,
		.op = VSOCK_REQUEST,
		.buf_alloc = 1000 };
	struct addr addr;
	struct err err = ERR_INIT;
	struct machine m;
	char data[RX_BUF], text[256];
	int listener, fd;

	machine_run(&m);
	offer_buffers(&m, 4);
	guest_sends(&m, &out, NULL, 0);
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_INT(p.op, VSOCK_RST);
	CHECK_INT(p.dst_port, 5000);
	REQUIRE(addr_parse("unix:" PATH "_80", &addr, &err) == 0);
	listener = addr_listen(&addr, 0600, &err);
	REQUIRE(listener >= 0);
	guest_sends(&m, &out, NULL, 0);
	fd = addr_accept(listener);
	REQUIRE(fd >= 0 && guest_gets(&m, &p, data));
	CHECK_INT(p.op, VSOCK_RESPONSE);
	out.op = VSOCK_RW;
	out.len = 4;
	guest_sends(&m, &out, "ping", 4);
	CHECK_STR(read_text(fd, text), "ping");
	CHECK_INT(write(fd, "pong", 4), 4);
	turn(&m);
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_STR(data, "pong");
	/* A second one with the same ports is refused; as is what is no stream. */
	out.op = VSOCK_REQUEST;
	out.len = 0;
	guest_sends(&m, &out, NULL, 0);
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_INT(p.op, VSOCK_RST);
	out.type = 2;
	out.src_port = 5001;
	guest_sends(&m, &out, NULL, 0);
	REQUIRE(guest_gets(&m, &p, data));
	CHECK_INT(p.op, VSOCK_RST);
	/* From another address: nothing. */
	out.src_cid = 99;
	guest_sends(&m, &out, NULL, 0);
	CHECK(!guest_gets(&m, &p, data));
	close(fd);
	close(listener);
	unlink(PATH "_80");
	machine_end(&m);
}

/* LIMIT_VSOCK_BUFFER: what the host does not read is kept up to there; beyond it the guest lies. */
static void a_slow_host(void)
{
	static char block[LIMIT_VSOCK_PACKET], got[LIMIT_VSOCK_PACKET];
	struct vsock_packet p, out;
	struct machine m;
	char data[RX_BUF];
	unsigned char next = 0;
	uint32_t sum = 0, have = 0;
	ssize_t n;
	int fd;

	machine_run(&m);
	offer_buffers(&m, 4);
	fd = connected(&m, &out, 1000);
	CHECK(guest_gets(&m, &p, data)); /* "early" */
	out.op = VSOCK_RW;
	out.len = sizeof(block);
	for (; sum < LIMIT_VSOCK_BUFFER; sum += sizeof(block)) {
		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = (char)next++;
		guest_sends(&m, &out, block, sizeof(block));
	}
	next = 0;
	while (have < sum && (n = recv(fd, got, sizeof(got), MSG_DONTWAIT)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			CHECK((unsigned char)got[i] == next++);
		have += (uint32_t)n;
		turn(&m);
	}
	CHECK_INT(have, sum);
	while (guest_gets(&m, &p, data))
		CHECK_INT(p.op, VSOCK_CREDIT_UPDATE);
	/* And now one that sends and sends. */
	for (int i = 0; i < 64; i++)
		guest_sends(&m, &out, block, sizeof(block));
	p.op = 0;
	while (guest_gets(&m, &p, data) && p.op != VSOCK_RST)
		;
	CHECK_INT(p.op, VSOCK_RST);
	CHECK(!m.failed);
	close(fd);
	machine_end(&m);
}

/* LIMIT_VSOCK_CONNECTIONS, LIMIT_VSOCK_RESETS: more is refused, and forgotten. */
static void too_many(void)
{
	struct vsock_packet out = { .src_cid = CID, .dst_cid = 2, .type = 1, .op = VSOCK_RW };
	static int fds[LIMIT_VSOCK_CONNECTIONS + 1];
	struct vsock_packet p;
	struct machine m;
	char data[RX_BUF];
	unsigned resets = 0;

	machine_run(&m);
	for (uint32_t i = 0; i < LIMIT_VSOCK_RESETS + 20; i++) {
		out.src_port = i;
		guest_sends(&m, &out, NULL, 0);
	}
	offer_buffers(&m, 4);
	while (guest_gets(&m, &p, data))
		resets += p.op == VSOCK_RST;
	CHECK_INT(resets, LIMIT_VSOCK_RESETS);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial(PATH);
		CHECK(write(fds[i], "C", 1) == 1);
		turn(&m);
	}
	CHECK(send(fds[LIMIT_VSOCK_CONNECTIONS], "x", 1, MSG_NOSIGNAL) < 0);
	CHECK(send(fds[0], "x", 1, MSG_NOSIGNAL) == 1);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	machine_end(&m);
}

/* LIMIT_VSOCK_PACKET, and lengths that are not the buffer's. */
static void packets_that_lie(void)
{
	struct vsock_packet p, out;
	struct machine m;
	char data[RX_BUF], text[256];
	int fd;

	machine_run(&m);
	offer_buffers(&m, 4);
	fd = connected(&m, &out, 1000);
	CHECK(guest_gets(&m, &p, data));
	out.op = VSOCK_RW;
	out.len = 100;
	guest_sends(&m, &out, "short", 5);
	out.len = LIMIT_VSOCK_PACKET + 1;
	guest_sends(&m, &out, m.memory, LIMIT_VSOCK_PACKET + 1);
	CHECK_STR(read_text(fd, text), "(nothing)");
	out.len = 4;
	guest_sends(&m, &out, "real", 4);
	CHECK_STR(read_text(fd, text), "real");
	CHECK(!m.failed);
	close(fd);
	machine_end(&m);
}

/* A ring that makes no sense stands still; the rest, and the VMM, go on. */
static void broken_rings(void)
{
	const struct {
		uint64_t at;
		uint32_t len;
		uint16_t flags, next;
	} broken[] = {
		{ MEMORY, 64, 0, 0 },		       /* outside */
		{ MEMORY - 10, 64, 0, 0 },	       /* beyond the end */
		{ 0 - GUEST, 64, 0, 0 },	       /* at 0 */
		{ TX_AT, 44, VRING_DESC_F_NEXT, 0 },   /* its own next */
		{ TX_AT, 44, VRING_DESC_F_NEXT, NUM }, /* no such entry */
		{ TX_AT, 44, VRING_DESC_F_INDIRECT, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		struct machine m;
		uint16_t used;

		machine_run(&m);
		put_desc(&m, TX, 0, broken[i].at, broken[i].len, broken[i].flags, broken[i].next);
		offer(&m, TX, 0);
		kick(&m, TX);
		memcpy(&used, used_of(&m, TX) + 2, 2);
		CHECK_INT(used, 0);
		CHECK(!m.failed);
		machine_end(&m);
	}
	for (int i = 0; i < 2; i++) {
		struct machine m;
		uint16_t far = NUM + 1, used;

		machine_run(&m);
		offer_buffers(&m, 1);
		if (i == 0)
			memcpy(avail_of(&m, TX) + 2, &far, 2);
		else
			offer(&m, TX, NUM);
		kick(&m, TX);
		memcpy(&used, used_of(&m, TX) + 2, 2);
		CHECK_INT(used, 0);
		machine_end(&m);
	}
}

/* LIMIT_VIRTQ, LIMIT_VIRTQ_CHAIN */
static void sizes_of_rings(void)
{
	static uint8_t bytes[256 * KIB] __attribute__((aligned(4096)));
	const struct guest_memory memory = { { { 0, 0, sizeof(bytes), bytes, NULL, 0 } }, 1 };
	const uint64_t avail = 0x10000, used = 0x20000;
	struct vring_desc d = { 0x30000, 1, VRING_DESC_F_NEXT, 0 };
	struct virtq_chain chain;
	struct virtq q = { 0 };

	CHECK_INT(virtq_init(&q, &memory, LIMIT_VIRTQ, 0, avail, used, 0), 0);
	CHECK_INT(virtq_init(&q, &memory, 2 * LIMIT_VIRTQ, 0, avail, used, 0), -EINVAL);
	CHECK_INT(virtq_init(&q, &memory, 0, 0, avail, used, 0), -EINVAL);
	CHECK_INT(virtq_init(&q, &memory, 24, 0, avail, used, 0), -EINVAL);
	CHECK_INT(virtq_init(&q, &memory, 16, 8, avail, used, 0), -EINVAL);
	CHECK_INT(virtq_init(&q, &memory, 16, 0, avail + 1, used, 0), -EINVAL);
	CHECK_INT(virtq_init(&q, &memory, 16, 0, avail, used + 2, 0), -EINVAL);
	CHECK_INT(virtq_init(&q, &memory, 16, 0, avail, sizeof(bytes) - 4, 0), -EINVAL);
	CHECK_INT(virtq_init(&q, &memory, 16, UINT64_MAX - 15, avail, used, 0), -EINVAL);
	CHECK_INT(virtq_init(&q, &memory, 128, 0, avail, used, 0), 0);
	for (uint16_t i = 0; i < 128; i++) {
		d.next = (uint16_t)(i + 1);
		d.flags = i == LIMIT_VIRTQ_CHAIN - 1 ? 0 : VRING_DESC_F_NEXT;
		memcpy(bytes + 16 * (size_t)i, &d, sizeof(d));
	}
	bytes[avail + 2] = 1;
	CHECK_INT(virtq_pop(&q, &chain), 1);
	CHECK_INT(chain.n_out, LIMIT_VIRTQ_CHAIN);
	CHECK_INT(virtq_pop(&q, &chain), 0);
	virtq_unpop(&q);
	bytes[16 * (LIMIT_VIRTQ_CHAIN - 1) + 12] = VRING_DESC_F_NEXT;
	CHECK_INT(virtq_pop(&q, &chain), -EPROTO);
}

/* LIMIT_VHOST_REGIONS, LIMIT_VHOST_RINGS, LIMIT_VHOST_CONFIG: what is wrong ends the device. */
static void a_hostile_vmm(void)
{
	for (int i = 0; i < 9; i++) {
		struct machine m;
		uint8_t junk[12 + LIMIT_VHOST_CONFIG + 1] = { 0 };
		auto_close int plain = memfd_create("plain", MFD_CLOEXEC);

		machine_start(&m);
		REQUIRE(ftruncate(plain, MEMORY) == 0);
		switch (i) {
		case 0: /* memory that could shrink */
			tell_memory(&m, MEMORY, plain);
			break;
		case 1: /* more than there is */
			tell_memory(&m, 2 * MEMORY, m.memfd);
			break;
		case 2: /* none */
			tell_memory(&m, MEMORY, -1);
			break;
		case 3: {
			uint32_t n[2] = { LIMIT_VHOST_REGIONS + 1 };

			tell(&m, 5, n, sizeof(n), m.memfd);
			break;
		}
		case 4:
			tell_state(&m, 8, LIMIT_VHOST_RINGS, NUM);
			break;
		case 5: /* features nobody offered */
			tell_u64(&m, 2, UINT64_C(1) << 28, -1);
			break;
		case 6:
			tell(&m, 24, junk, sizeof(junk), -1);
			break;
		case 7: /* no such request */
			tell(&m, 4711, junk, 4, -1);
			break;
		case 8: /* a ring outside the memory */
			m.rings[RX].at = 2 * MEMORY;
			start_ring(&m, RX);
			break;
		}
		CHECK(m.failed);
		machine_end(&m);
	}
}

static void the_vmm_leaves(void)
{
	struct vsock_packet out;
	struct machine m;
	char text[256];
	int fd;

	machine_run(&m);
	offer_buffers(&m, 4);
	fd = connected(&m, &out, 1000);
	shutdown(m.vmm, SHUT_RDWR);
	turn(&m);
	CHECK(m.failed);
	CHECK_STR(read_text(fd, text), "(end)");
	close(fd);
	machine_end(&m);
}

TEST_MAIN(TEST(host_to_guest_and_back), TEST(one_that_waits_for_the_guest),
	TEST(greetings_that_are_none), TEST(guest_to_host), TEST(a_slow_host), TEST(too_many),
	TEST(packets_that_lie), TEST(broken_rings), TEST(sizes_of_rings), TEST(a_hostile_vmm),
	TEST(the_vmm_leaves))
