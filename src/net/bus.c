/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the guest's questions for a member's hardware address are answered here, so that
 * no Ethernet goes between sandboxes, only IPv4 packets, whose addresses both ends check. Who is
 * there is what connect(2) says of its socket: entries that a killed member left mean nothing. A
 * member that does not read fills the queue of who sends to it, and what comes then is lost; it
 * slows nobody else.
 */
#include "net/bus.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "net/dns.h"
#include "net/frame.h"
#include "net/packet.h"

#define ARP_LEN		 28
#define ARP_REQUEST	 1
#define ARP_ANSWER	 2
#define PORT_DNS	 53
#define BURST		 64 /* packets in a turn */
#define NAME_MEMBERS_MAX 32 /* told of one name */

struct peer {
	uint32_t address; /* 0: free */
	int fd;
	int64_t used;
	struct frame_queue queue; /* allocated when it is first needed */
};

struct bus {
	const struct net_plan *plan;
	void (*send)(const void *frame, size_t len, void *arg);
	void *arg;
	uint8_t mac[6];
	int fd;
	uint16_t next_id;
	struct peer peers[LIMIT_NET_PEERS];
};

static void address_text(uint32_t address, char out[static INET_ADDRSTRLEN])
{
	struct in_addr in = { htonl(address) };

	inet_ntop(AF_INET, &in, out, INET_ADDRSTRLEN);
}

static void socket_address(uint32_t address, struct sockaddr_un *out)
{
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	address_text(address, out->sun_path);
}

/* ---- joining ---- */

/* What an earlier member with this address has left. */
static void drop_entries(const char *address)
{
	auto_closedir DIR *dir = opendir(".");
	size_t len = strlen(address);
	struct dirent *de;

	while (dir && (de = readdir(dir)))
		if (strncmp(de->d_name, address, len) == 0 &&
			(de->d_name[len] == 0 || de->d_name[len] == '='))
			unlink(de->d_name);
}

static int add_name(const char *address, const char *name)
{
	auto_free char *entry = NULL;
	int fd;

	if (asprintf(&entry, "%s=%s", address, name) < 0)
		return -ENOMEM;
	for (char *p = entry; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	fd = open(entry, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int join(struct bus *bus, const struct strv *names)
{
	struct sockaddr_un sun;
	mode_t mask;
	int r;

	socket_address(bus->plan->guest, &sun);
	drop_entries(sun.sun_path);
	bus->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (bus->fd < 0)
		return -errno;
	/* The folder says who may come near it; as root, members are another user by then. */
	mask = umask(0);
	r = bind(bus->fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ? -errno : 0;
	umask(mask);
	for (size_t i = 0; r == 0 && i < names->n; i++)
		r = add_name(sun.sun_path, names->v[i]);
	return r;
}

int bus_new(const struct net_plan *plan, const char *folder, const uint8_t mac[static 6],
	const struct strv *names, void (*send)(const void *frame, size_t len, void *arg), void *arg,
	struct bus **ret_bus, struct err *err)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	int r;

	if (!bus)
		return err_errno(err, ENOMEM, "cannot join the network");
	bus->plan = plan;
	bus->send = send;
	bus->arg = arg;
	bus->fd = -1;
	memcpy(bus->mac, mac, 6);
	for (size_t i = 0; i < ARRAY_SIZE(bus->peers); i++)
		bus->peers[i].fd = -1;
	r = chdir(folder) < 0 ? -errno : join(bus, names);
	if (r < 0) {
		bus_free(bus);
		return err_errno(err, -r, "cannot join the network in '%s'", folder);
	}
	*ret_bus = bus;
	return 0;
}

static void drop_peer(struct peer *p)
{
	p->fd = safe_close(p->fd);
	p->address = 0;
	if (p->queue.buf)
		frame_queue_deinit(&p->queue);
}

struct bus *bus_free(struct bus *bus)
{
	if (!bus)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(bus->peers); i++)
		drop_peer(&bus->peers[i]);
	safe_close(bus->fd);
	free(bus);
	return NULL;
}

/* ---- members ---- */

static int connect_member(uint32_t address)
{
	auto_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sun;

	socket_address(address, &sun);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return -errno;
	return take_fd(&fd);
}

static struct peer *find_peer(struct bus *bus, uint32_t address)
{
	struct peer *oldest = &bus->peers[0];
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(bus->peers); i++) {
		struct peer *p = &bus->peers[i];

		if (p->address == address)
			return p;
		if (!p->address || (oldest->address && p->used < oldest->used))
			oldest = p;
	}
	fd = connect_member(address);
	if (fd < 0)
		return NULL;
	drop_peer(oldest);
	oldest->address = address;
	oldest->fd = fd;
	return oldest;
}

static bool is_there(struct bus *bus, uint32_t address)
{
	auto_close int fd = -1;

	if (address == bus->plan->guest)
		return true;
	fd = connect_member(address);
	return fd >= 0;
}

/* A member's own address: in the network, and nobody else's. */
static bool may_be_member(const struct net_plan *plan, uint32_t address)
{
	return (address & plan->mask) == plan->network && address != plan->network &&
	       address != (plan->network | ~plan->mask) && address != plan->gateway &&
	       address != plan->dns;
}

/* ---- to a member ---- */

static void keep(struct peer *p, const uint8_t *packet, size_t len)
{
	if (!p->queue.buf && frame_queue_init(&p->queue) < 0)
		return;
	(void)frame_queue_add(&p->queue, packet, len);
}

static void to_member(struct bus *bus, uint32_t address, const uint8_t *packet, size_t len)
{
	/* Twice: it may have gone and come again since. */
	for (int i = 0; i < 2; i++) {
		struct peer *p = find_peer(bus, address);

		if (!p)
			return;
		p->used = clock_monotonic();
		if (p->queue.len) {
			keep(p, packet, len);
			return;
		}
		if (send(p->fd, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return;
		if (errno == EAGAIN) {
			keep(p, packet, len);
			return;
		}
		drop_peer(p);
	}
}

/* What was kept while the member did not read. */
static void write_on(struct peer *p)
{
	size_t len;

	while (p->queue.len) {
		const uint8_t *data = frame_queue_data(&p->queue, &len);
		size_t size = get32(data);

		if (send(p->fd, data + 4, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			if (errno != EAGAIN)
				drop_peer(p);
			return;
		}
		frame_queue_written(&p->queue, 4 + size);
	}
}

/* ---- from a member ---- */

static void receive(struct bus *bus)
{
	const struct net_plan *plan = bus->plan;
	uint8_t frame[ETHERNET_HEADER + PACKET_MTU + 1], *ip = frame + ETHERNET_HEADER;

	for (int i = 0; i < BURST; i++) {
		ssize_t n = recv(bus->fd, ip, PACKET_MTU + 1, MSG_DONTWAIT);

		if (n < 0)
			return;
		/* The sender's own filter has seen it; it may be in the guest's hands by now. */
		if (n < IPV4_HEADER || n > PACKET_MTU || ip[0] >> 4 != 4 || get16(ip + 2) > n ||
			get32(ip + 16) != plan->guest || get32(ip + 12) == plan->guest ||
			!may_be_member(plan, get32(ip + 12)))
			continue;
		memcpy(frame, bus->mac, 6);
		packet_mac(get32(ip + 12), frame + 6);
		put16(frame + 12, ETHERNET_IPV4);
		bus->send(frame, ETHERNET_HEADER + (size_t)n, bus->arg);
	}
}

unsigned bus_fill(const struct bus *bus, struct pollfd *fds, bool paused)
{
	unsigned n = 0;

	fds[n++] = (struct pollfd){ .fd = paused ? -1 : bus->fd, .events = POLLIN };
	for (size_t i = 0; i < ARRAY_SIZE(bus->peers); i++)
		if (bus->peers[i].queue.len)
			fds[n++] = (struct pollfd){ .fd = bus->peers[i].fd, .events = POLLOUT };
	return n;
}

void bus_turn(struct bus *bus, const struct pollfd *fds, unsigned n)
{
	if (n && fds[0].revents)
		receive(bus);
	for (unsigned k = 1; k < n; k++)
		for (size_t i = 0; fds[k].revents && i < ARRAY_SIZE(bus->peers); i++)
			if (bus->peers[i].address && bus->peers[i].fd == fds[k].fd)
				write_on(&bus->peers[i]);
}

/* ---- names ---- */

/* The members that have the name. */
static unsigned look_up(struct bus *bus, const char *name, uint32_t out[static NAME_MEMBERS_MAX])
{
	auto_closedir DIR *dir = opendir(".");
	unsigned n = 0;
	struct dirent *de;

	while (dir && n < NAME_MEMBERS_MAX && (de = readdir(dir))) {
		char *equals = strchr(de->d_name, '=');
		struct in_addr in;

		if (!equals || strcmp(equals + 1, name) != 0)
			continue;
		*equals = 0;
		if (inet_pton(AF_INET, de->d_name, &in) == 1 && is_there(bus, ntohl(in.s_addr)))
			out[n++] = ntohl(in.s_addr);
	}
	return n;
}

/* An IPv4 packet with a UDP datagram for the resolver's port: true if the name is a member's, or
 * nobody else may be asked. */
static bool answer_name(struct bus *bus, const uint8_t *ip, const uint8_t *udp, size_t len)
{
	uint8_t frame[ETHERNET_HEADER + IPV4_HEADER + UDP_HEADER + DNS_MESSAGE];
	uint8_t *out = frame + ETHERNET_HEADER, *datagram = out + IPV4_HEADER;
	uint32_t members[NAME_MEMBERS_MAX];
	struct dns_question q;
	unsigned n;

	if (dns_read(udp + UDP_HEADER, len - UDP_HEADER, &q) < 0)
		return bus->plan->reach == NET_REACH_NOWHERE;
	n = look_up(bus, q.name, members);
	if (!n && bus->plan->reach != NET_REACH_NOWHERE)
		return false;
	len = dns_answer(udp + UDP_HEADER, &q, n ? DNS_OK : DNS_NO_NAME, members,
		q.type == DNS_TYPE_A ? n : 0, datagram + UDP_HEADER);
	memcpy(frame, bus->mac, 6);
	packet_mac(bus->plan->dns, frame + 6);
	put16(frame + 12, ETHERNET_IPV4);
	packet_udp(datagram, bus->plan->dns, PORT_DNS, get32(ip + 12), get16(udp), len);
	packet_ipv4(out, bus->plan->dns, get32(ip + 12), IPPROTO_UDP, bus->next_id++, 0,
		UDP_HEADER + len);
	bus->send(frame, ETHERNET_HEADER + IPV4_HEADER + UDP_HEADER + len, bus->arg);
	return true;
}

/* ---- from the guest ---- */

/* RFC 826; the filter has checked its form. */
static bool take_arp(struct bus *bus, const uint8_t *frame)
{
	const uint8_t *arp = frame + ETHERNET_HEADER;
	uint8_t answer[ETHERNET_HEADER + ARP_LEN], *out = answer + ETHERNET_HEADER;
	uint32_t wanted = get32(arp + 24);

	if (!may_be_member(bus->plan, wanted))
		return false;
	/* One that asks for its own looks for somebody who has taken it. */
	if (get16(arp + 6) != ARP_REQUEST || wanted == bus->plan->guest || !is_there(bus, wanted))
		return true;
	memcpy(answer, bus->mac, 6);
	packet_mac(wanted, answer + 6);
	put16(answer + 12, ETHERNET_ARP);
	memcpy(out, arp, 8);
	put16(out + 6, ARP_ANSWER);
	packet_mac(wanted, out + 8);
	put32(out + 14, wanted);
	memcpy(out + 18, arp + 8, 10);
	bus->send(answer, sizeof(answer), bus->arg);
	return true;
}

bool bus_take(struct bus *bus, const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + ETHERNET_HEADER, *udp;
	size_t header, total;
	uint32_t to;

	/* With a bridge it is only for names. */
	if (get16(frame + 12) == ETHERNET_ARP)
		return !bus->plan->bridged && take_arp(bus, frame);
	if (get16(frame + 12) != ETHERNET_IPV4)
		return false;
	header = (size_t)(ip[0] & 15) * 4;
	total = get16(ip + 2);
	to = get32(ip + 16);
	if (!bus->plan->bridged && may_be_member(bus->plan, to)) {
		if (to != bus->plan->guest && total <= PACKET_MTU)
			to_member(bus, to, ip, total);
		return true;
	}
	udp = ip + header;
	if (to != bus->plan->dns || ip[9] != IPPROTO_UDP || total - header < UDP_HEADER ||
		get16(udp + 2) != PORT_DNS || get16(udp + 4) < UDP_HEADER ||
		get16(udp + 4) > total - header)
		return to == bus->plan->dns && bus->plan->reach == NET_REACH_NOWHERE;
	return answer_name(bus, ip, udp, get16(udp + 4));
}
