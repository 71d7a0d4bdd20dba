/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "net/dns.h"
#include "net/filter.h"
#include "net/frame.h"
#include "net/net.h"
#include "net/publish.h"
#include "test.h"

/* An IPv4 frame from the guest, checksums left out: the filter does not look at them. */
static size_t packet(uint8_t *out, uint32_t from, uint32_t to, uint8_t proto, uint16_t port)
{
	static const uint8_t head[] = { 0x52, 0x55, 10, 0, 2, 2, 0x52, 0x55, 10, 0, 2, 15, 8, 0,
		0x45, 0, 0, 28 };

	memset(out, 0, 64);
	memcpy(out, head, sizeof(head));
	out[23] = proto;
	from = htonl(from);
	to = htonl(to);
	memcpy(out + 26, &from, 4);
	memcpy(out + 30, &to, 4);
	out[36] = (uint8_t)(port >> 8);
	out[37] = (uint8_t)port;
	return 14 + 28;
}

static enum filter_verdict verdict(uint32_t to, uint8_t proto, uint16_t port)
{
	uint8_t frame[64];

	return filter_frame(
		&net_plan_alone, frame, packet(frame, net_plan_alone.guest, to, proto, port));
}

static void destinations(void)
{
	CHECK_INT(verdict(0x08080808, 17, 53), FILTER_PASS);
	CHECK_INT(verdict(0xc0a80101, 6, 80), FILTER_PASS);
	CHECK_INT(verdict(net_plan_alone.dns, 17, 53), FILTER_PASS);
	CHECK_INT(verdict(net_plan_alone.dns, 6, 53), FILTER_PASS);
	CHECK_INT(verdict(net_plan_alone.dns, 6, 22), FILTER_SERVICE);
	CHECK_INT(verdict(net_plan_alone.dns, 47, 53), FILTER_SERVICE);
	CHECK_INT(verdict(net_plan_alone.gateway, 6, 22), FILTER_PASS);
	CHECK_INT(verdict(net_plan_alone.gateway, 1, 0), FILTER_PASS);
	CHECK_INT(verdict(net_plan_alone.gateway, 17, 67), FILTER_SERVICE);
	CHECK_INT(verdict(net_plan_alone.gateway, 17, 69), FILTER_SERVICE);
	CHECK_INT(verdict(0x7f000001, 6, 80), FILTER_DESTINATION);
	CHECK_INT(verdict(0x7fffffff, 6, 80), FILTER_DESTINATION);
	CHECK_INT(verdict(0x00000000, 6, 80), FILTER_DESTINATION);
	CHECK_INT(verdict(0xa9fea9fe, 6, 80), FILTER_DESTINATION); /* 169.254.169.254 */
	CHECK_INT(verdict(0xa9ff0000, 6, 80), FILTER_PASS);
	CHECK_INT(verdict(0xe0000001, 17, 80), FILTER_DESTINATION);
	CHECK_INT(verdict(0xffffffff, 17, 67), FILTER_DESTINATION);
	CHECK_INT(verdict(net_plan_alone.network | 0xff, 17, 80), FILTER_DESTINATION);
}

static void sources(void)
{
	uint8_t frame[64];

	CHECK_INT(
		filter_frame(&net_plan_alone, frame, packet(frame, 0x08080808, 0x01010101, 6, 80)),
		FILTER_SOURCE);
	CHECK_INT(filter_frame(&net_plan_alone, frame,
			  packet(frame, net_plan_alone.gateway, 0x01010101, 6, 80)),
		FILTER_SOURCE);
	CHECK_INT(
		filter_frame(&net_plan_alone, frame, packet(frame, 0x7f000001, 0x01010101, 6, 80)),
		FILTER_SOURCE);
	CHECK_INT(filter_frame(&net_plan_alone, frame,
			  packet(frame, net_plan_alone.guest + 1, 0x01010101, 6, 80)),
		FILTER_PASS);
}

/* An IPv6 frame; text addresses. */
static enum filter_verdict verdict6(
	const char *from, const char *to, uint8_t proto, uint16_t port_or_type)
{
	uint8_t frame[128] = { 0x52, 0x55, 10, 0, 2, 2, 0x52, 0x55, 10, 0, 2, 15, 0x86, 0xdd,
		0x60 };

	frame[19] = 8;
	frame[20] = proto;
	frame[21] = 255;
	REQUIRE(inet_pton(AF_INET6, from, frame + 22) == 1 &&
		inet_pton(AF_INET6, to, frame + 38) == 1);
	frame[54] = proto == 58 ? (uint8_t)port_or_type : 0;
	frame[56] = (uint8_t)(port_or_type >> 8);
	frame[57] = (uint8_t)port_or_type;
	return filter_frame(&net_plan_alone, frame, 14 + 40 + 8);
}

static void ipv6(void)
{
	static const struct {
		const char *to;
		enum filter_verdict verdict;
	} tcp[] = {
		{ "2606:4700::1111", FILTER_PASS },
		{ "fd00::1", FILTER_PASS },
		{ NET_GATEWAY6, FILTER_PASS },
		{ NET_DNS6, FILTER_SERVICE },
		{ NET_GUEST_ADDRESS6, FILTER_DESTINATION },
		{ NET_PREFIX6 "99", FILTER_DESTINATION },
		{ "::", FILTER_DESTINATION },
		{ "::1", FILTER_DESTINATION },
		{ "::127.0.0.1", FILTER_DESTINATION },
		{ "::ffff:127.0.0.1", FILTER_DESTINATION },
		{ "::ffff:8.8.8.8", FILTER_DESTINATION },
		{ "64:ff9b::127.0.0.1", FILTER_DESTINATION },
		{ "64:ff9b::169.254.169.254", FILTER_DESTINATION },
		{ "64:ff9b::8.8.8.8", FILTER_PASS },
		{ "2002:7f00:1::1", FILTER_DESTINATION },
		{ "2001:0:1::1", FILTER_DESTINATION },
		{ "2001:db8::1", FILTER_PASS },
		{ "fe80::2", FILTER_DESTINATION },
		{ "febf::2", FILTER_DESTINATION },
		{ "ff02::1", FILTER_DESTINATION },
		{ "ff0e::1", FILTER_DESTINATION },
	};

	for (size_t i = 0; i < ARRAY_SIZE(tcp); i++) {
		CHECK_INT(verdict6(NET_GUEST_ADDRESS6, tcp[i].to, 6, 80), tcp[i].verdict);
		if (tcp[i].verdict == FILTER_DESTINATION)
			CHECK_INT(verdict6(NET_GUEST_ADDRESS6, tcp[i].to, 17, 53),
				FILTER_DESTINATION);
	}
	CHECK_INT(verdict6(NET_GUEST_ADDRESS6, NET_DNS6, 17, 53), FILTER_PASS);
	CHECK_INT(verdict6(NET_GUEST_ADDRESS6, NET_GATEWAY6, 17, 69), FILTER_SERVICE);
	CHECK_INT(verdict6("fd00::1", "2606:4700::1111", 6, 80), FILTER_SOURCE);
	CHECK_INT(verdict6("::1", "2606:4700::1111", 17, 80), FILTER_SOURCE);
	CHECK_INT(verdict6("fe80::1", "2606:4700::1111", 6, 80), FILTER_SOURCE);
	/* Neighbours are asked for, routers are not. */
	CHECK_INT(verdict6(NET_GUEST_ADDRESS6, "ff02::1:ff00:2", 58, 135), FILTER_PASS);
	CHECK_INT(verdict6("::", "ff02::1:ff00:15", 58, 135), FILTER_PASS);
	CHECK_INT(verdict6("fe80::1", "fe80::2", 58, 136), FILTER_PASS);
	CHECK_INT(verdict6("fe80::1", "ff02::2", 58, 133), FILTER_SERVICE);
	CHECK_INT(verdict6(NET_GUEST_ADDRESS6, "ff05::1", 58, 128), FILTER_DESTINATION);
	CHECK_INT(verdict6(NET_GUEST_ADDRESS6, "::1", 58, 128), FILTER_DESTINATION);
	CHECK_INT(verdict6("fd00::9", NET_GATEWAY6, 58, 128), FILTER_SOURCE);
	/* Hop by hop, routing, fragment, destination options, none. */
	for (size_t i = 0; i < 5; i++)
		CHECK_INT(verdict6(NET_GUEST_ADDRESS6, "2606:4700::1111",
				  (const uint8_t[]){ 0, 43, 44, 60, 59 }[i], 80),
			FILTER_PROTOCOL);
}

static void how_far_ipv6_reaches(void)
{
	static const char *const to[] = { "2606:4700::1111", "fd00::1", "fec0::1",
		"64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8" };
	static const bool private[] = { false, true, true, true, false };

	for (size_t i = 0; i < ARRAY_SIZE(to); i++) {
		struct net_plan plan = net_plan_alone;
		uint8_t address[16];

		REQUIRE(inet_pton(AF_INET6, to[i], address) == 1);
		plan.reach = NET_REACH_PRIVATE;
		CHECK_INT(filter_destination6(&plan, address),
			private[i] ? FILTER_PASS : FILTER_DESTINATION);
		plan.reach = NET_REACH_INTERNET;
		CHECK_INT(filter_destination6(&plan, address),
			private[i] ? FILTER_DESTINATION : FILTER_PASS);
		plan.reach = NET_REACH_NOWHERE;
		CHECK_INT(filter_destination6(&plan, address), FILTER_DESTINATION);
	}
}

static void malformed_ipv6(void)
{
	uint8_t frame[64] = { [6] = 2, [12] = 0x86, 0xdd, 0x60 };

	CHECK_INT(filter_frame(&net_plan_alone, frame, 14 + 39), FILTER_MALFORMED);
	frame[19] = 9; /* more than there is */
	CHECK_INT(filter_frame(&net_plan_alone, frame, 14 + 40 + 8), FILTER_MALFORMED);
	frame[19] = 3;
	frame[20] = 6;
	CHECK_INT(filter_frame(&net_plan_alone, frame, 14 + 40 + 8), FILTER_MALFORMED);
	frame[14] = 0x40;
	CHECK_INT(filter_frame(&net_plan_alone, frame, 14 + 40 + 8), FILTER_MALFORMED);
}

static void fragments_do_not_hide_ports(void)
{
	uint8_t frame[64];
	size_t len = packet(frame, net_plan_alone.guest, net_plan_alone.dns, 17, 53);

	frame[20] = 0x20; /* more fragments */
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_SERVICE);
	frame[20] = 0;
	frame[21] = 1; /* a later one */
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_SERVICE);
	frame[21] = 0;
	frame[20] = 0x40; /* do not fragment */
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_PASS);
}

static void hostile_lengths(void)
{
	uint8_t frame[64];
	size_t len = packet(frame, net_plan_alone.guest, 0x08080808, 17, 53);

	for (size_t cut = 0; cut < len; cut++)
		CHECK_INT(filter_frame(&net_plan_alone, frame, cut), FILTER_MALFORMED);
	frame[14] = 0x44; /* header of 16 bytes */
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_MALFORMED);
	frame[14] = 0x4f; /* header longer than the packet */
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_MALFORMED);
	frame[14] = 0x65;
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_MALFORMED);
	frame[14] = 0x45;
	frame[16] = 0xff; /* total length beyond the frame */
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_MALFORMED);
	len = packet(frame, net_plan_alone.guest, net_plan_alone.dns, 17, 53);
	frame[17] = 22; /* no room for ports */
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_MALFORMED);
	CHECK_INT(filter_frame(&net_plan_alone, frame, 100000), FILTER_MALFORMED);
}

static void other_protocols(void)
{
	uint8_t frame[64];
	size_t len = packet(frame, net_plan_alone.guest, 0x08080808, 17, 53);

	frame[12] = 0x88, frame[13] = 0x64; /* PPPoE */
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_PROTOCOL);
	frame[12] = 0x81, frame[13] = 0x00;
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_PROTOCOL);
	frame[12] = 8, frame[13] = 0, frame[6] = 0xff; /* from a group */
	CHECK_INT(filter_frame(&net_plan_alone, frame, len), FILTER_MALFORMED);
}

static void arp(void)
{
	uint8_t frame[42] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x55, 10, 0, 2, 15, 8, 6, 0,
		1, 8, 0, 6, 4, 0, 1, 0x52, 0x55, 10, 0, 2, 15, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10,
		0, 2, 2 };

	CHECK_INT(filter_frame(&net_plan_alone, frame, sizeof(frame)), FILTER_PASS);
	CHECK_INT(filter_frame(&net_plan_alone, frame, sizeof(frame) - 1), FILTER_MALFORMED);
	frame[38] = 169, frame[39] = 254;
	CHECK_INT(filter_frame(&net_plan_alone, frame, sizeof(frame)), FILTER_DESTINATION);
	frame[38] = 10, frame[39] = 0, frame[28] = 192;
	CHECK_INT(filter_frame(&net_plan_alone, frame, sizeof(frame)), FILTER_SOURCE);
	memset(frame + 28, 0, 4);
	CHECK_INT(filter_frame(&net_plan_alone, frame, sizeof(frame)), FILTER_PASS);
	frame[18] = 8;
	CHECK_INT(filter_frame(&net_plan_alone, frame, sizeof(frame)), FILTER_MALFORMED);
}

/* A network with others: 10.89.0.0/24, of which the guest is the 2. */
static struct net_plan shared(enum net_reach reach)
{
	return (struct net_plan){ .network = 0x0a590000,
		.mask = 0xffffff00,
		.gateway = 0x0a590001,
		.dns = 0x0a5900fe,
		.guest = 0x0a590002,
		.reach = reach,
		.shared = true };
}

static enum filter_verdict shared_verdict(enum net_reach reach, uint32_t from, uint32_t to)
{
	const struct net_plan plan = shared(reach);
	uint8_t frame[64];

	return filter_frame(&plan, frame, packet(frame, from, to, 6, 53));
}

static void reach(void)
{
	static const uint32_t inner = 0x0a590009, private = 0xc0a80101, public = 0x08080808;

	CHECK_INT(shared_verdict(NET_REACH_ALL, 0x0a590002, inner), FILTER_PASS);
	CHECK_INT(shared_verdict(NET_REACH_ALL, 0x0a590003, inner), FILTER_SOURCE);
	CHECK_INT(shared_verdict(NET_REACH_ALL, 0x0a590002, 0x0a5900ff), FILTER_DESTINATION);
	CHECK_INT(shared_verdict(NET_REACH_ALL, 0x0a590002, public), FILTER_PASS);
	CHECK_INT(shared_verdict(NET_REACH_NOWHERE, 0x0a590002, inner), FILTER_PASS);
	CHECK_INT(shared_verdict(NET_REACH_NOWHERE, 0x0a590002, 0x0a5900fe), FILTER_PASS);
	CHECK_INT(shared_verdict(NET_REACH_NOWHERE, 0x0a590002, public), FILTER_DESTINATION);
	CHECK_INT(shared_verdict(NET_REACH_PRIVATE, 0x0a590002, private), FILTER_PASS);
	CHECK_INT(shared_verdict(NET_REACH_PRIVATE, 0x0a590002, 0x64400001), FILTER_PASS);
	CHECK_INT(shared_verdict(NET_REACH_PRIVATE, 0x0a590002, public), FILTER_DESTINATION);
	CHECK_INT(shared_verdict(NET_REACH_INTERNET, 0x0a590002, private), FILTER_DESTINATION);
	CHECK_INT(shared_verdict(NET_REACH_INTERNET, 0x0a590002, 0xac1f0001), FILTER_DESTINATION);
	CHECK_INT(shared_verdict(NET_REACH_INTERNET, 0x0a590002, public), FILTER_PASS);
	CHECK_INT(shared_verdict(NET_REACH_INTERNET, 0x0a590002, 0x7f000001), FILTER_DESTINATION);
}

static void dns(void)
{
	static const uint8_t query[] = { 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 'W', 'e', 'b',
		0, 0, 1, 0, 1 };
	static const uint32_t addresses[40] = { 0x0a590002, 0x0a590003 };
	uint8_t copy[sizeof(query)], out[DNS_MESSAGE];
	struct dns_question q;
	size_t len;

	REQUIRE(dns_read(query, sizeof(query), &q) == 0);
	CHECK_STR(q.name, "web");
	CHECK_INT(q.type, DNS_TYPE_A);
	len = dns_answer(query, &q, DNS_OK, addresses, 2, out);
	CHECK_INT(len, sizeof(query) + 2 * 16);
	CHECK_INT(out[7], 2);
	CHECK(out[0] == 0x12 && out[2] & 0x80 && memcmp(out + len - 4, "\x0a\x59\x00\x03", 4) == 0);
	/* As many as fit. */
	len = dns_answer(query, &q, DNS_OK, addresses, 40, out);
	CHECK(len <= sizeof(out) && out[7] == (len - sizeof(query)) / 16);
	len = dns_answer(query, &q, DNS_NO_NAME, NULL, 0, out);
	CHECK(len == sizeof(query) && (out[3] & 15) == DNS_NO_NAME);
	for (size_t cut = 0; cut < sizeof(query); cut++)
		CHECK_INT(dns_read(query, cut, &q), -EBADMSG);
	/* An answer, two questions, another class, a pointer, a byte that no name has, none. */
	static const struct {
		size_t at;
		uint8_t byte;
	} wrong[] = { { 2, 0x81 }, { 5, 2 }, { 20, 3 }, { 12, 0xc0 }, { 13, '/' }, { 12, 0 } };
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		memcpy(copy, query, sizeof(query));
		copy[wrong[i].at] = wrong[i].byte;
		CHECK_INT(dns_read(copy, sizeof(copy), &q), -EBADMSG);
	}
}

static size_t seen, bytes;

static void on_frame(const uint8_t *frame, size_t len, void *arg)
{
	seen++;
	bytes += len;
}

/* Puts data in by pieces of the given size, as a stream socket may. */
static int feed(struct frame_reader *r, const uint8_t *data, size_t len, size_t piece)
{
	while (len) {
		size_t room, n;
		void *space = frame_reader_space(r, &room);
		int e;

		REQUIRE(room > 0);
		n = MIN(MIN(piece, len), room);
		memcpy(space, data, n);
		frame_reader_added(r, n);
		e = frame_reader_each(r, on_frame, NULL);
		if (e < 0)
			return e;
		data += n;
		len -= n;
	}
	return 0;
}

static void frames_come_in_any_pieces(void)
{
	static const uint8_t stream[] = { 0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 0, 1, 'd', 0, 0, 0, 2,
		'e', 'f' };
	static struct frame_reader r;

	for (size_t piece = 1; piece <= sizeof(stream); piece++) {
		memset(&r, 0, sizeof(r));
		seen = bytes = 0;
		CHECK_INT(feed(&r, stream, sizeof(stream), piece), 0);
		CHECK_INT(seen, 3);
		CHECK_INT(bytes, 6);
	}
}

static void wrong_frame_lengths(void)
{
	static const uint8_t none[] = { 0, 0, 0, 0 }, huge[] = { 0xff, 0xff, 0xff, 0xff },
			     over[] = { 0, 1, 0x10, 1 };
	static struct frame_reader r;
	static uint8_t most[4 + LIMIT_NET_FRAME] = { 0, 1, 0x10, 0 };

	CHECK_INT(feed(&r, none, 4, 4), -EPROTO);
	memset(&r, 0, sizeof(r));
	CHECK_INT(feed(&r, huge, 4, 4), -EPROTO);
	memset(&r, 0, sizeof(r));
	CHECK_INT(feed(&r, over, 4, 4), -EPROTO);
	memset(&r, 0, sizeof(r));
	seen = bytes = 0;
	CHECK_INT(feed(&r, most, sizeof(most), sizeof(most)), 0);
	CHECK_INT(seen, 1);
	CHECK_INT(bytes, LIMIT_NET_FRAME);
}

static void queue_is_bounded(void)
{
	static uint8_t frame[1500];
	struct frame_queue q;
	size_t len, n = 0;

	REQUIRE(frame_queue_init(&q) == 0);
	while (frame_queue_add(&q, frame, sizeof(frame)) == 0)
		n++;
	CHECK_INT(n, LIMIT_NET_QUEUE / (sizeof(frame) + 4));
	frame_queue_data(&q, &len);
	CHECK(len <= LIMIT_NET_QUEUE);
	frame_queue_written(&q, 3000);
	CHECK_INT(frame_queue_add(&q, frame, sizeof(frame)), 0);
	frame_queue_data(&q, &len);
	frame_queue_written(&q, len);
	CHECK_INT(q.len, 0);
	CHECK_INT(frame_queue_add(&q, "ab", 2), 0);
	CHECK(memcmp(frame_queue_data(&q, &len), "\0\0\0\2ab", 6) == 0);
	frame_queue_deinit(&q);
}

static void ports_are_read(void)
{
	static const struct {
		const char *text, *ip, *back;
		unsigned host, guest;
		bool udp;
	} good[] = {
		{ "8080:80", "", "8080:80", 8080, 80, false },
		{ "127.0.0.1:53:53/udp", "127.0.0.1", "127.0.0.1:53:53/udp", 53, 53, true },
		{ "[::1]:0:65535/tcp", "::1", "[::1]:0:65535", 0, 65535, false },
	};
	static const char *const bad[] = { "", ":", "80", "80:", ":80", "0:0", "1:65536", "a:80",
		"80:80/sctp", "1.2.3:1:1", "::1:80:80", "[::1:80:80", "[1.2.3.4]8:8", "80:80/",
		"-1:80", "1:2:3:4", " 1:2" };
	struct net_port port;
	char text[PUBLISH_TEXT];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		CHECK_INT(publish_parse(good[i].text, &port, NULL), 0);
		CHECK_STR(port.host_ip, good[i].ip);
		CHECK_INT(port.host, good[i].host);
		CHECK_INT(port.guest, good[i].guest);
		CHECK_INT(port.udp, good[i].udp);
		publish_format(&port, text);
		CHECK_STR(text, good[i].back);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int r = publish_parse(bad[i], &port, NULL);

		if (r != -EINVAL)
			printf("# '%s' gave %d\n", bad[i], r);
		CHECK_INT(r, -EINVAL);
	}
}

static void holder_of_a_port_is_named(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sin);
	struct net_port port = { .host_ip = "127.0.0.1", .guest = 80 };
	struct err err = ERR_INIT;
	char pid[32];

	REQUIRE(bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 && listen(fd, 1) == 0);
	REQUIRE(getsockname(fd, (struct sockaddr *)&sin, &len) == 0);
	port.host = ntohs(sin.sin_port);
	CHECK_INT(publish_error(&port, EADDRINUSE, &err), -EADDRINUSE);
	snprintf(pid, sizeof(pid), "pid %d)", (int)getpid());
	CHECK(strstr(err.msg, "held by test-net"));
	CHECK(strstr(err.msg, pid));
	port.host = 80;
	publish_error(&port, EACCES, &err);
	CHECK(strstr(err.msg, "net.ipv4.ip_unprivileged_port_start=80"));
}

TEST_MAIN(TEST(destinations), TEST(sources), TEST(ipv6), TEST(how_far_ipv6_reaches),
	TEST(malformed_ipv6), TEST(fragments_do_not_hide_ports), TEST(hostile_lengths),
	TEST(other_protocols), TEST(arp), TEST(reach), TEST(dns), TEST(frames_come_in_any_pieces),
	TEST(wrong_frame_lengths), TEST(queue_is_bounded), TEST(ports_are_read),
	TEST(holder_of_a_port_is_named))
