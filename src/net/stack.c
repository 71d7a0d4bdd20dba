/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "net/net.h"

#define BACKLOG 128 /* libslirp itself listens with 1 */

struct stack {
	const struct net_plan *plan;
	Slirp *slirp;
	void (*send)(const void *frame, size_t len, void *arg);
	void *arg;
	int last_fd; /* the latest socket it registered */
	/* During a turn */
	struct pollfd *fill;
	unsigned n, max;
	const struct pollfd *fds;
	bool paused;
};

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
	struct stack *s = opaque;

	s->send(buf, len, s->arg);
	return (ssize_t)len;
}

static void guest_error(const char *msg, void *opaque)
{
	/* Any guest can cause any number of them. */
}

static int64_t clock_get_ns(void *opaque)
{
	return clock_monotonic();
}

/* Timers are for IPv6 router advertisements only, and guests are told all there is. */
static void *timer_new(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
	static int none;

	return &none;
}

static void timer_free(void *timer, void *opaque)
{
}

static void timer_mod(void *timer, int64_t expire_time, void *opaque)
{
}

static void register_poll_fd(int fd, void *opaque)
{
	struct stack *s = opaque;

	s->last_fd = fd;
}

static void unregister_poll_fd(int fd, void *opaque)
{
}

static void notify(void *opaque)
{
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_get_ns,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = register_poll_fd,
	.unregister_poll_fd = unregister_poll_fd,
	.notify = notify,
};

static struct in_addr v4(uint32_t address)
{
	return (struct in_addr){ htonl(address) };
}

static struct in6_addr v6(const char *text)
{
	struct in6_addr address = { 0 };

	inet_pton(AF_INET6, text, &address);
	return address;
}

int stack_new(const struct net_plan *plan, bool host_access,
	void (*send)(const void *frame, size_t len, void *arg), void *arg, struct stack **ret_stack,
	struct err *err)
{
	SlirpConfig config = {
		.version = 4,
		.in_enabled = true,
		.vnetwork = v4(plan->network),
		.vnetmask = v4(plan->mask),
		.vhost = v4(plan->bridged ? plan->proxy : plan->gateway),
		.vnameserver = v4(plan->dns),
		.vdhcp_start = v4(plan->guest),
		.in6_enabled = true,
		.vprefix_addr6 = v6(NET_PREFIX6),
		.vprefix_len = NET_GUEST_PREFIX6,
		.vhost6 = v6(NET_GATEWAY6),
		.vnameserver6 = v6(NET_DNS6),
		.vhostname = "micropod",
		.disable_host_loopback = !host_access,
		.disable_dhcp = true,
	};
	struct stack *s = calloc(1, sizeof(*s));

	if (!s)
		return err_errno(err, ENOMEM, "cannot start the network");
	s->plan = plan;
	s->send = send;
	s->arg = arg;
	s->last_fd = -1;
	s->slirp = slirp_new(&config, &callbacks, s);
	if (!s->slirp) {
		free(s);
		return err_set(err, EINVAL, "libslirp does not take its configuration");
	}
	*ret_stack = s;
	return 0;
}

struct stack *stack_free(struct stack *s)
{
	if (s) {
		slirp_cleanup(s->slirp);
		free(s);
	}
	return NULL;
}

void stack_input(struct stack *s, const uint8_t *frame, size_t len)
{
	slirp_input(s->slirp, frame, (int)len);
}

int stack_forward(struct stack *s, const char *host_ip, uint16_t host, uint16_t guest)
{
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_port = htons(host) };
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(guest), .sin_addr = v4(s->plan->guest)
	};

	if (inet_pton(AF_INET, host_ip, &from.sin_addr) != 1)
		return -EINVAL;
	s->last_fd = -1;
	errno = 0;
	if (slirp_add_hostxfwd(s->slirp, (struct sockaddr *)&from, sizeof(from),
		    (struct sockaddr *)&to, sizeof(to), 0) < 0)
		return errno ? -errno : -EIO;
	/* Again on the same socket only sets the queue's length (listen(2)). */
	if (s->last_fd >= 0 && listen(s->last_fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

static int add_poll(int fd, int events, void *opaque)
{
	struct stack *s = opaque;
	short wanted = 0;

	if (s->n >= s->max)
		return -1;
	if (events & SLIRP_POLL_IN)
		wanted |= POLLIN;
	if (events & SLIRP_POLL_OUT)
		wanted |= POLLOUT;
	if (events & SLIRP_POLL_PRI)
		wanted |= POLLPRI;
	s->fill[s->n] = (struct pollfd){ .fd = fd, .events = wanted };
	return (int)s->n++;
}

static int get_revents(int idx, void *opaque)
{
	struct stack *s = opaque;
	short came;
	int events = 0;

	if (idx < 0 || (unsigned)idx >= s->n || s->paused)
		return 0;
	came = s->fds[idx].revents;
	if (came & POLLIN)
		events |= SLIRP_POLL_IN;
	if (came & POLLOUT)
		events |= SLIRP_POLL_OUT;
	if (came & POLLPRI)
		events |= SLIRP_POLL_PRI;
	if (came & POLLERR)
		events |= SLIRP_POLL_ERR;
	if (came & POLLHUP)
		events |= SLIRP_POLL_HUP;
	return events;
}

unsigned stack_fill(struct stack *s, struct pollfd *fds, unsigned max, int *timeout_ms)
{
	uint32_t timeout = *timeout_ms < 0 ? UINT32_MAX : (uint32_t)*timeout_ms;

	s->fill = fds;
	s->n = 0;
	s->max = max;
	slirp_pollfds_fill(s->slirp, &timeout, add_poll, s);
	*timeout_ms = timeout > INT32_MAX ? -1 : (int)timeout;
	return s->n;
}

void stack_turn(struct stack *s, const struct pollfd *fds, unsigned n, bool paused)
{
	s->fds = fds;
	s->n = n;
	s->paused = paused;
	slirp_pollfds_poll(s->slirp, 0, get_revents, s);
}
