/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "net/bridge.h"
#include "net/packet.h"

#define BURST	   64 /* frames in a turn */
#define ARP_SENDER 8  /* of an ARP packet: the sender's hardware address */
#define ARP_WANTED 24
#define IPV4_TO	   16

struct tap {
	const struct net_plan *plan;
	uint8_t mac[6];
	int fd, rule;
	void (*send)(const void *frame, size_t len, void *arg);
	void *arg;
};

int tap_new(const struct net_plan *plan, const char *bridge, const uint8_t mac[static 6],
	void (*send)(const void *frame, size_t len, void *arg), void *arg, struct tap **ret_tap,
	struct err *err)
{
	struct tap *tap = calloc(1, sizeof(*tap));
	int r;

	if (!tap)
		return err_errno(err, ENOMEM, "cannot join the network");
	*tap = (struct tap){ .plan = plan, .fd = -1, .rule = -1, .send = send, .arg = arg };
	memcpy(tap->mac, mac, 6);
	r = bridge_join(
		bridge, plan->guest, plan->reach != NET_REACH_NOWHERE, &tap->fd, &tap->rule, err);
	if (r < 0)
		tap_free(tap);
	else
		*ret_tap = tap;
	return r;
}

struct tap *tap_free(struct tap *tap)
{
	if (tap) {
		safe_close(tap->fd);
		safe_close(tap->rule);
		free(tap);
	}
	return NULL;
}

/* Its own stack has these. */
static bool is_stacks(const struct net_plan *plan, uint32_t address)
{
	return address == plan->dns || address == plan->proxy;
}

bool tap_take(struct tap *tap, const uint8_t *frame, size_t len)
{
	const uint8_t *packet = frame + ETHERNET_HEADER;
	uint16_t type = get16(frame + 12);
	uint32_t to;

	if (type != ETHERNET_ARP && type != ETHERNET_IPV4)
		return false;
	to = get32(packet + (type == ETHERNET_ARP ? ARP_WANTED : IPV4_TO));
	if (is_stacks(tap->plan, to))
		return false;
	/* Under another's hardware address it would get what is for that one. */
	if (memcmp(frame + 6, tap->mac, 6) != 0 ||
		(type == ETHERNET_ARP && memcmp(packet + ARP_SENDER, tap->mac, 6) != 0))
		return true;
	/* A full device loses it, as any wire may. */
	if (write(tap->fd, frame, len) < 0)
		return true;
	return true;
}

/* Other machines' frames, and what only this one's neighbours say, are not for it. */
static bool is_for_guest(const struct tap *tap, const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + ETHERNET_HEADER;
	uint32_t to;

	if (len < ETHERNET_HEADER || (!(frame[0] & 1) && memcmp(frame, tap->mac, 6) != 0))
		return false;
	if (get16(frame + 12) == ETHERNET_ARP)
		return true;
	if (get16(frame + 12) != ETHERNET_IPV4 || len < ETHERNET_HEADER + IPV4_HEADER)
		return false;
	to = get32(ip + IPV4_TO);
	return to == tap->plan->guest || to == (tap->plan->network | ~tap->plan->mask) ||
	       to >= 0xe0000000u;
}

unsigned tap_fill(const struct tap *tap, struct pollfd *fds, bool paused)
{
	fds[0] = (struct pollfd){ .fd = paused ? -1 : tap->fd, .events = POLLIN };
	return 1;
}

void tap_turn(struct tap *tap, const struct pollfd *fds, unsigned n)
{
	uint8_t frame[ETHERNET_HEADER + 4 + PACKET_MTU];

	for (int i = 0; n && fds[0].revents && i < BURST; i++) {
		ssize_t len = read(tap->fd, frame, sizeof(frame));

		if (len < 0)
			return;
		if (is_for_guest(tap, frame, (size_t)len))
			tap->send(frame, (size_t)len, tap->arg);
	}
}
