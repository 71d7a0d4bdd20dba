/* SPDX-License-Identifier: Apache-2.0 */
/*
 * micropod-net: the user-mode network of one sandbox, and its end of a network with a name. Frames
 * come and go on --fd as QEMU's `-netdev stream` has them; libslirp makes sockets of this process
 * out of them. Started by net_start(), tells on --ready-fd "port INDEX NUMBER" for each published
 * port and "ok", or "error CODE TEXT".
 *
 * How it works: everything that needs rights is bound first; then the process gives up its rights,
 * and the file system but for /etc (libslirp reads resolv.conf again when it changes), and only
 * then reads its first frame. One poll(2) loop. When the guest does not read, the queue to it
 * fills, and at half of it libslirp is told nothing of its sockets any more, so that the senders
 * wait; what it still sends by its timers is dropped when the queue is full.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/lockdown.h"
#include "base/parse.h"
#include "net/bus.h"
#include "net/datagrams.h"
#include "net/filter.h"
#include "net/frame.h"
#include "net/publish.h"
#include "net/relay.h"
#include "net/stack.h"
#include "net/tap.h"

#define NOBODY	    65534
#define QUEUE_PAUSE (LIMIT_NET_QUEUE / 2)
#define FDS_MAX \
	(1 + RELAY_FDS_MAX + DATAGRAMS_FDS_MAX + BUS_FDS_MAX + TAP_FDS_MAX + LIMIT_NET_SOCKETS)
#define PORT_TRIES  16
#define FRAME_BURST 64 /* reads from the VMM in one turn */

struct net {
	int fd;
	struct net_plan plan;
	struct stack *stack;
	struct relay *relay;
	struct datagrams *datagrams;
	struct bus *bus; /* NULL: it is alone */
	struct tap *tap; /* NULL: it is on no bridge */
	struct frame_reader in;
	struct frame_queue out;
	struct pollfd fds[FDS_MAX];
};

struct args {
	int fd, ready_fd;
	bool host_access;
	struct net_port ports[LIMIT_PORTS];
	unsigned n_ports;
	const char *bus, *bridge;
	uint8_t mac[6];
	struct strv names;
};

static struct net net;

static void to_guest(const void *frame, size_t len, void *arg)
{
	/* A full queue drops it, as a wire would. */
	(void)frame_queue_add(&net.out, frame, len);
}

static void from_guest(const uint8_t *frame, size_t len, void *arg)
{
	if (filter_frame(&net.plan, frame, len) == FILTER_PASS &&
		!datagrams_take(net.datagrams, frame, len) &&
		!(net.bus && bus_take(net.bus, frame, len)) &&
		!(net.tap && tap_take(net.tap, frame, len)))
		stack_input(net.stack, frame, len);
}

/* ---- published ports ---- */

/* A port that is free now, on the address. Someone may take it before it is bound for good: the
 * caller tries again. */
static int free_port(const char *ip, uint16_t *ret_port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sin);

	if (fd < 0 || inet_pton(AF_INET, ip, &sin.sin_addr) != 1)
		return fd < 0 ? -errno : -EINVAL;
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ||
		getsockname(fd, (struct sockaddr *)&sin, &len) < 0)
		return -errno;
	*ret_port = ntohs(sin.sin_port);
	return 0;
}

static int forward(const char *ip, uint16_t wanted, uint16_t guest, uint16_t *ret_bound)
{
	uint16_t port = wanted;
	int r = 0;

	for (int i = 0; i < PORT_TRIES; i++) {
		if (!wanted)
			r = free_port(ip, &port);
		if (r == 0)
			r = stack_forward(net.stack, ip, port, guest);
		if (r != -EADDRINUSE || wanted)
			break;
	}
	if (r == 0)
		*ret_bound = port;
	return r;
}

/* A host without IPv6 publishes on IPv4 only, unless an IPv6 address was asked for. */
static int unless_missing(int r)
{
	return r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL ? 0 : r;
}

static int publish_udp(struct net_port *p)
{
	uint16_t same;
	int r = datagrams_publish(
		net.datagrams, p->host_ip[0] ? p->host_ip : "0.0.0.0", p->host, p->guest, &p->host);

	if (r < 0 || p->host_ip[0])
		return r;
	return unless_missing(datagrams_publish(net.datagrams, "::", p->host, p->guest, &same));
}

static int publish_tcp(struct net_port *p)
{
	uint16_t inner;
	int r;

	if (strchr(p->host_ip, ':')) {
		r = forward("127.0.0.1", 0, p->guest, &inner);
		if (r == 0 && p->host == 0)
			p->host = inner; /* free there, so most likely free here */
		return r < 0 ? r : relay_listen(net.relay, p->host_ip, p->host, inner);
	}
	r = forward(p->host_ip[0] ? p->host_ip : "0.0.0.0", p->host, p->guest, &p->host);
	if (r < 0 || p->host_ip[0])
		return r;
	return unless_missing(relay_listen(net.relay, "::", p->host, p->host));
}

static int publish_all(struct args *args, struct err *err)
{
	for (unsigned i = 0; i < args->n_ports; i++) {
		struct net_port *p = &args->ports[i];
		int r = p->udp ? publish_udp(p) : publish_tcp(p);

		if (r < 0)
			return publish_error(p, -r, err);
	}
	return 0;
}

/* ---- rights ---- */

/* As root: become nobody, so that the files that may still be read are those that everyone may
 * read. */
static int become_nobody(struct err *err)
{
	pid_t parent = getppid();

	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
		setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return err_errno(err, errno, "cannot become user %d", NOBODY);
	/* A change of user takes the death signal away (prctl(2)). */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_errno(err, errno, "cannot set the parent-death signal");
	return getppid() == parent ? 0 : err_set(err, ESRCH, "the parent has died");
}

static int give_up_rights(struct err *err)
{
	struct lockdown_rule rules[4] = { { "/etc", LOCKDOWN_READ } };
	auto_free char *resolv = realpath("/etc/resolv.conf", NULL);
	struct rlimit files = { LIMIT_NET_SOCKETS, LIMIT_NET_SOCKETS }, now;
	unsigned n = 1;
	char *slash;
	int r;

	/* A resolver that replaces its file does so in its own folder: /run/systemd/resolve, say.
	 */
	slash = resolv ? strrchr(resolv, '/') : NULL;
	if (slash && slash != resolv) {
		*slash = 0;
		rules[n++] = (struct lockdown_rule){ resolv, LOCKDOWN_READ };
	}
	/* The network's folder: who is there. */
	if (net.bus)
		rules[n++] = (struct lockdown_rule){ ".", LOCKDOWN_READ };
	if (getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_max < files.rlim_max)
		files.rlim_cur = files.rlim_max = now.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		return err_errno(err, errno, "cannot limit the number of sockets");
	r = become_nobody(err);
	if (r == 0)
		r = lockdown_drop_privileges(err);
	if (r == 0)
		r = lockdown_landlock(rules, n, true, err);
	return r == -EOPNOTSUPP ? 0 : r;
}

/* ---- the loop ---- */

/* 0, or negative at the end of the VMM or of its protocol. */
static int read_frames(void)
{
	for (int i = 0; i < FRAME_BURST; i++) {
		size_t room;
		void *space = frame_reader_space(&net.in, &room);
		ssize_t n = recv(net.fd, space, room, MSG_DONTWAIT);
		int r;

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n == 0)
			return -EPIPE;
		frame_reader_added(&net.in, (size_t)n);
		r = frame_reader_each(&net.in, from_guest, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

static int write_frames(void)
{
	while (net.out.len) {
		size_t len;
		const void *data = frame_queue_data(&net.out, &len);
		ssize_t n = send(net.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		frame_queue_written(&net.out, (size_t)n);
	}
	return 0;
}

static int turn(void)
{
	struct pollfd *relay = net.fds + 1, *datagrams, *bus, *tap, *stack;
	bool paused = net.out.len > QUEUE_PAUSE;
	unsigned n_relay, n_datagrams, n_bus = 0, n_tap = 0, n_stack;
	int timeout = -1, r = 0;

	net.fds[0] = (struct pollfd){ .fd = net.fd,
		.events = (short)((paused ? 0 : POLLIN) | (net.out.len ? POLLOUT : 0)) };
	n_relay = relay_fill(net.relay, relay);
	datagrams = relay + n_relay;
	n_datagrams = datagrams_fill(net.datagrams, datagrams, paused);
	bus = datagrams + n_datagrams;
	if (net.bus)
		n_bus = bus_fill(net.bus, bus, paused);
	tap = bus + n_bus;
	if (net.tap)
		n_tap = tap_fill(net.tap, tap, paused);
	stack = tap + n_tap;
	n_stack = stack_fill(net.stack, stack, LIMIT_NET_SOCKETS, &timeout);
	if (poll(net.fds, 1 + n_relay + n_datagrams + n_bus + n_tap + (paused ? 0 : n_stack),
		    timeout) < 0)
		return errno == EINTR ? 0 : -errno;
	if (net.fds[0].revents & POLLOUT)
		r = write_frames();
	if (r == 0 && (net.fds[0].revents & (POLLIN | POLLHUP | POLLERR)))
		r = read_frames();
	relay_turn(net.relay, relay, n_relay);
	datagrams_turn(net.datagrams, datagrams, n_datagrams);
	if (net.bus)
		bus_turn(net.bus, bus, n_bus);
	if (net.tap)
		tap_turn(net.tap, tap, n_tap);
	stack_turn(net.stack, stack, n_stack, paused);
	return r < 0 ? r : write_frames();
}

/* ---- start ---- */

/* ADDRESS/PREFIX: its own on the network that it shares with others, whose gateway is the first
 * address, whose resolver the last. */
static int parse_address(char *text)
{
	char *slash = strchr(text, '/');
	unsigned prefix;
	struct in_addr in;

	if (slash)
		*slash++ = 0;
	if (!slash || inet_pton(AF_INET, text, &in) != 1 || parse_uint(slash, 8, 29, &prefix) < 0)
		return -EINVAL;
	net.plan.guest = ntohl(in.s_addr);
	net.plan.mask = ~(UINT32_MAX >> prefix);
	net.plan.network = net.plan.guest & net.plan.mask;
	net.plan.gateway = net.plan.network + 1;
	net.plan.dns = (net.plan.network | ~net.plan.mask) - 1;
	net.plan.proxy = net.plan.dns - 1;
	net.plan.shared = true;
	return 0;
}

static int parse_reach(const char *text)
{
	static const char *const words[] = { [NET_REACH_ALL] = "all",
		[NET_REACH_PRIVATE] = "private",
		[NET_REACH_INTERNET] = "internet",
		[NET_REACH_NOWHERE] = "nowhere" };

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(text, words[i]) == 0) {
			net.plan.reach = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_arg(int opt, char *value, struct args *args)
{
	unsigned number;
	int r;

	switch (opt) {
	case 'f':
	case 'r':
		r = parse_uint(value, 0, INT32_MAX, &number);
		if (r == 0)
			*(opt == 'f' ? &args->fd : &args->ready_fd) = (int)number;
		return r;
	case 'h':
		args->host_access = true;
		return 0;
	case 'a':
		return parse_address(value);
	case 'c':
		return parse_reach(value);
	case 'b':
		args->bus = value;
		return 0;
	case 'B':
		args->bridge = value;
		net.plan.bridged = true;
		return 0;
	case 'm':
		return hex_decode(value, args->mac, sizeof(args->mac));
	case 'N':
		return strv_add(&args->names, value);
	default:
		return -EINVAL;
	}
}

static int parse_args(int argc, char **argv, struct args *args, struct err *err)
{
	static const struct option options[] = { { "fd", 1, NULL, 'f' },
		{ "ready-fd", 1, NULL, 'r' }, { "host-access", 0, NULL, 'h' },
		{ "publish", 1, NULL, 'p' }, { "address", 1, NULL, 'a' }, { "reach", 1, NULL, 'c' },
		{ "bus", 1, NULL, 'b' }, { "bridge", 1, NULL, 'B' }, { "mac", 1, NULL, 'm' },
		{ "name", 1, NULL, 'N' }, { 0 } };
	int opt, r = 0;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0 && r == 0) {
		if (opt != 'p') {
			r = parse_arg(opt, optarg, args);
			if (r < 0)
				return err_set(
					err, EINVAL, "wrong option '%.100s'", argv[optind - 1]);
			continue;
		}
		if (args->n_ports >= LIMIT_PORTS)
			return err_set(err, E2BIG, "more than %d published ports", LIMIT_PORTS);
		r = publish_parse(optarg, &args->ports[args->n_ports++], err);
	}
	if (r == 0 && (args->fd < 0 || optind != argc || (args->bridge && !args->bus)))
		return err_set(err, EINVAL,
			"usage: micropod-net --fd N [--ready-fd N] [--host-access] [--publish "
			"[IP:]HOST:GUEST[/udp]]... [--reach all|private|internet|nowhere] "
			"[--address ADDRESS/PREFIX --bus DIR --mac HEX [--name NAME]... "
			"[--bridge DEVICE]]");
	return r;
}

static int start(struct args *args, struct err *err)
{
	int r = frame_queue_init(&net.out);

	if (r == 0)
		r = relay_new(&net.relay);
	if (r == 0)
		r = datagrams_new(&net.plan, to_guest, NULL, &net.datagrams);
	if (r == 0)
		r = fd_set_nonblock(args->fd, true);
	if (r < 0)
		return err_errno(err, -r, "cannot start the network");
	net.fd = args->fd;
	r = stack_new(&net.plan, args->host_access, to_guest, NULL, &net.stack, err);
	if (r == 0)
		r = publish_all(args, err);
	if (r == 0 && args->bus)
		r = bus_new(&net.plan, args->bus, args->mac, &args->names, to_guest, NULL, &net.bus,
			err);
	if (r == 0 && args->bridge)
		r = tap_new(&net.plan, args->bridge, args->mac, to_guest, NULL, &net.tap, err);
	return r < 0 ? r : give_up_rights(err);
}

static int tell(const struct args *args, const struct err *err)
{
	FILE *ready = args->ready_fd >= 0 ? fdopen(args->ready_fd, "w") : NULL;

	if (err->code)
		fprintf(stderr, "micropod-net: %s\n", err->msg);
	if (!ready)
		return 0;
	if (err->code) {
		fprintf(ready, "error %d %s\n", err->code, err->msg);
	} else {
		for (unsigned i = 0; i < args->n_ports; i++)
			fprintf(ready, "port %u %u\n", i, args->ports[i].host);
		fprintf(ready, "ok\n");
	}
	return fclose(ready);
}

int main(int argc, char **argv)
{
	static struct args args = { .fd = -1, .ready_fd = -1 };
	struct err err = ERR_INIT;
	int r;

	signal(SIGPIPE, SIG_IGN);
	net.plan = net_plan_alone;
	r = parse_args(argc, argv, &args, &err);
	if (r == 0)
		r = start(&args, &err);
	if (tell(&args, &err) != 0 || r < 0)
		return 1;
	do
		r = turn();
	while (r == 0);
	if (r != -EPIPE && r != -ECONNRESET)
		fprintf(stderr, "micropod-net: the connection to the VMM broke: %s\n",
			strerror(-r));
	relay_free(net.relay);
	datagrams_free(net.datagrams);
	bus_free(net.bus);
	tap_free(net.tap);
	stack_free(net.stack);
	frame_queue_deinit(&net.out);
	return r == -EPIPE || r == -ECONNRESET ? 0 : 1;
}
