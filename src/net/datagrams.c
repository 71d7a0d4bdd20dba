/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a datagram on a published port becomes a frame to the guest, from the client's own
 * address, or from the gateway's where the guest could not answer that (loopback, link-local,
 * IPv6). A flow remembers which client stands behind the address and port that the guest sees. An
 * answer is a UDP packet from the published port of the guest to such a pair, and goes back through
 * the same socket. Only clients that have asked are ever sent anything, so a guest reaches no other
 * port of the host this way. What is larger than a frame is sent to the guest in fragments; from
 * the guest fragments are not put together.
 */
#include "net/datagrams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "net/packet.h"

#define FRAGMENT       1480 /* payload of one IP packet; a multiple of 8 */
#define DATAGRAM_MAX   (65535 - IPV4_HEADER - UDP_HEADER)
#define BURST	       32 /* datagrams of one socket in a turn */
#define MORE_FRAGMENTS 0x2000

struct door {
	int fd;
	uint16_t guest;
};

struct flow {
	struct sockaddr_storage peer;
	socklen_t peer_len;
	unsigned door;
	uint32_t seen_ip; /* as the guest sees the client, host byte order */
	uint16_t seen_port;
	int64_t used; /* 0: free */
};

struct datagrams {
	const struct net_plan *plan;
	void (*send)(const void *frame, size_t len, void *arg);
	void *arg;
	struct door doors[2 * LIMIT_PORTS];
	unsigned n_doors;
	struct flow flows[LIMIT_NET_FLOWS];
	uint8_t guest_mac[6];
	bool guest_known;
	uint16_t next_id, next_port;
	uint8_t buf[UDP_HEADER + DATAGRAM_MAX];
};

int datagrams_new(const struct net_plan *plan,
	void (*send)(const void *frame, size_t len, void *arg), void *arg, struct datagrams **ret_d)
{
	struct datagrams *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->plan = plan;
	d->send = send;
	d->arg = arg;
	*ret_d = d;
	return 0;
}

struct datagrams *datagrams_free(struct datagrams *d)
{
	if (!d)
		return NULL;
	for (unsigned i = 0; i < d->n_doors; i++)
		safe_close(d->doors[i].fd);
	free(d);
	return NULL;
}

int datagrams_publish(
	struct datagrams *d, const char *ip, uint16_t port, uint16_t guest, uint16_t *ret_port)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };
	bool six = strchr(ip, ':') != NULL;
	auto_close int fd =
		socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr *sa = six ? (struct sockaddr *)&sin6 : (struct sockaddr *)&sin;
	socklen_t len = six ? sizeof(sin6) : sizeof(sin);
	int on = 1;

	if (fd < 0)
		return -errno;
	if (d->n_doors >= ARRAY_SIZE(d->doors))
		return -ENOSPC;
	if (inet_pton(sa->sa_family, ip, six ? (void *)&sin6.sin6_addr : (void *)&sin.sin_addr) !=
		1)
		return -EINVAL;
	if (six && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
		return -errno;
	if (bind(fd, sa, len) < 0 || getsockname(fd, sa, &len) < 0)
		return -errno;
	*ret_port = ntohs(six ? sin6.sin6_port : sin.sin_port);
	d->doors[d->n_doors++] = (struct door){ take_fd(&fd), guest };
	return 0;
}

/* ---- flows ---- */

static bool same_peer(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a,
				  *b6 = (const struct sockaddr_in6 *)b;
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)a,
				 *b4 = (const struct sockaddr_in *)b;

	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET6)
		return a6->sin6_port == b6->sin6_port && a6->sin6_scope_id == b6->sin6_scope_id &&
		       memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
	return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
}

static struct flow *flow_to(struct datagrams *d, uint16_t guest, uint32_t ip, uint16_t port)
{
	for (size_t i = 0; i < ARRAY_SIZE(d->flows); i++) {
		struct flow *f = &d->flows[i];

		if (f->used && f->seen_ip == ip && f->seen_port == port &&
			d->doors[f->door].guest == guest)
			return f;
	}
	return NULL;
}

/* The client's own address and port, where the guest may answer those; else the gateway's and a
 * port nobody else has. */
static void choose_seen(struct datagrams *d, struct flow *f)
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)&f->peer;
	uint16_t guest = d->doors[f->door].guest;

	if (f->peer.ss_family == AF_INET) {
		f->seen_ip = ntohl(sin->sin_addr.s_addr);
		f->seen_port = ntohs(sin->sin_port);
		if (filter_destination(d->plan, f->seen_ip) == FILTER_PASS &&
			(f->seen_ip & d->plan->mask) != d->plan->network &&
			!flow_to(d, guest, f->seen_ip, f->seen_port))
			return;
	}
	f->seen_ip = d->plan->gateway;
	do
		f->seen_port = (uint16_t)(49152 + d->next_port++ % 16384);
	while (flow_to(d, guest, f->seen_ip, f->seen_port)); /* there are fewer flows than ports */
}

static struct flow *flow_from(
	struct datagrams *d, unsigned door, const struct sockaddr_storage *peer, socklen_t len)
{
	struct flow *oldest = &d->flows[0], made = { .peer = *peer, .peer_len = len, .door = door };

	for (size_t i = 0; i < ARRAY_SIZE(d->flows); i++) {
		struct flow *f = &d->flows[i];

		if (f->used && f->door == door && same_peer(&f->peer, peer))
			return f;
		if (f->used < oldest->used)
			oldest = f;
	}
	oldest->used = 0;
	choose_seen(d, &made);
	*oldest = made;
	return oldest;
}

/* ---- to the guest ---- */

/* One IP packet with a part of the datagram (len bytes from offset of total). */
static void send_part(
	struct datagrams *d, const struct flow *f, size_t offset, size_t len, size_t total)
{
	uint8_t frame[ETHERNET_HEADER + IPV4_HEADER + FRAGMENT], *ip = frame + ETHERNET_HEADER;

	memcpy(frame, d->guest_mac, 6);
	packet_mac(d->plan->gateway, frame + 6);
	put16(frame + 12, ETHERNET_IPV4);
	packet_ipv4(ip, f->seen_ip, d->plan->guest, IPPROTO_UDP, d->next_id,
		(unsigned)(offset / 8) | (offset + len < total ? MORE_FRAGMENTS : 0), len);
	memcpy(ip + IPV4_HEADER, d->buf + offset, len);
	d->send(frame, ETHERNET_HEADER + IPV4_HEADER + len, d->arg);
}

/* d->buf holds room for the header, then the data. */
static void send_datagram(struct datagrams *d, const struct flow *f, size_t data_len)
{
	size_t total = UDP_HEADER + data_len;

	packet_udp(d->buf, f->seen_ip, f->seen_port, d->plan->guest, d->doors[f->door].guest,
		data_len);
	d->next_id++;
	for (size_t offset = 0; offset < total; offset += FRAGMENT)
		send_part(d, f, offset, MIN((size_t)FRAGMENT, total - offset), total);
}

static void receive(struct datagrams *d, unsigned door)
{
	for (int i = 0; i < BURST; i++) {
		struct sockaddr_storage peer = { 0 };
		socklen_t len = sizeof(peer);
		ssize_t n = recvfrom(d->doors[door].fd, d->buf + UDP_HEADER, DATAGRAM_MAX,
			MSG_DONTWAIT, (struct sockaddr *)&peer, &len);
		struct flow *f;

		if (n < 0)
			return;
		/* Before the guest has said anything it listens nowhere. */
		if (!d->guest_known)
			continue;
		f = flow_from(d, door, &peer, len);
		f->used = clock_monotonic();
		send_datagram(d, f, (size_t)n);
	}
}

unsigned datagrams_fill(const struct datagrams *d, struct pollfd *fds, bool paused)
{
	for (unsigned i = 0; i < d->n_doors; i++)
		fds[i] = (struct pollfd){ .fd = paused ? -1 : d->doors[i].fd, .events = POLLIN };
	return d->n_doors;
}

void datagrams_turn(struct datagrams *d, const struct pollfd *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (fds[i].revents)
			receive(d, i);
}

/* ---- from the guest ---- */

bool datagrams_take(struct datagrams *d, const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + ETHERNET_HEADER, *udp;
	size_t header, total, size;
	struct flow *f;

	memcpy(d->guest_mac, frame + 6, 6);
	d->guest_known = true;
	/* The filter has checked the lengths of an IPv4 packet against the frame. */
	if (get16(frame + 12) != ETHERNET_IPV4 || ip[9] != IPPROTO_UDP ||
		(get16(ip + 6) & 0x3fff) || get32(ip + 12) != d->plan->guest)
		return false;
	header = (size_t)(ip[0] & 15) * 4;
	total = get16(ip + 2);
	udp = ip + header;
	if (total < header + UDP_HEADER)
		return false;
	size = get16(udp + 4);
	if (size < UDP_HEADER || size > total - header)
		return false;
	f = flow_to(d, get16(udp), get32(ip + 16), get16(udp + 2));
	if (!f)
		return false;
	f->used = clock_monotonic();
	/* A full socket buffer loses it, as any network may. */
	(void)sendto(d->doors[f->door].fd, udp + UDP_HEADER, size - UDP_HEADER,
		MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&f->peer, f->peer_len);
	return true;
}
