/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "agent/container.h"
#include "agent/netif.h"
#include "agent/pid1.h"
#include "agent/serve.h"
#include "agent/service.h"
#include "agent/vsock.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/parse.h"

#define PROC_FILE_MAX (256 * KIB)

/* The number behind "key:" in a file of /proc, times unit; 0: not there. */
static uint64_t proc_number(const char *path, const char *key, uint64_t unit)
{
	auto_free char *text = NULL;
	char *save = NULL;
	size_t len = strlen(key);

	if (fs_read_file(AT_FDCWD, path, PROC_FILE_MAX, &text, NULL) < 0)
		return 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		uint64_t value;
		char *at = line + len;

		if (strncmp(line, key, len) != 0 || *at != ':')
			continue;
		at += strspn(at, ": \t");
		at[strcspn(at, " ")] = 0;
		return parse_u64(at, 0, UINT64_MAX / unit, &value) == 0 ? value * unit : 0;
	}
	return 0;
}

static uint64_t own_rss(void)
{
	return proc_number("/proc/self/status", "VmRSS", KIB);
}

/* proc_pid_net(5): "  eth0: rx_bytes packets errs drop fifo frame compressed multicast tx_bytes
 * ..."; lo does not count. */
static void add_net(pid_t pid, uint64_t *rx, uint64_t *tx)
{
	auto_free char *text = NULL;
	char path[48], *save = NULL;

	snprintf(path, sizeof(path), "/proc/%d/net/dev", (int)pid);
	if (fs_read_file(AT_FDCWD, path, PROC_FILE_MAX, &text, NULL) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long in, out;
		char *colon = strchr(line, ':');

		line += strspn(line, " ");
		if (!colon || strncmp(line, "lo:", 3) == 0)
			continue;
		if (sscanf(colon + 1, "%llu %*u %*u %*u %*u %*u %*u %*u %llu", &in, &out) == 2) {
			*rx += in;
			*tx += out;
		}
	}
}

/* The first line of proc_stat(5): user nice system idle iowait irq softirq steal, in clock ticks.
 */
static void machine_cpu(API(StatsResponse) * out)
{
	auto_free char *text = NULL;
	unsigned long long t[8] = { 0 };
	const uint64_t tick = (uint64_t)(NSEC_PER_SEC / sysconf(_SC_CLK_TCK));

	if (fs_read_file(AT_FDCWD, "/proc/stat", MIB, &text, NULL) < 0 ||
		sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2],
			&t[3], &t[4], &t[5], &t[6], &t[7]) < 7)
		return;
	out->cpu_user_ns = (t[0] + t[1]) * tick;
	out->cpu_system_ns = (t[2] + t[5] + t[6]) * tick;
	out->cpu_usage_ns = out->cpu_user_ns + out->cpu_system_ns;
}

static void machine_stats(API(StatsResponse) * out)
{
	struct sysinfo info;
	uint64_t total = proc_number("/proc/meminfo", "MemTotal", KIB);

	machine_cpu(out);
	out->memory_limit_bytes = total;
	out->memory_bytes = total - MIN(total, proc_number("/proc/meminfo", "MemAvailable", KIB));
	out->memory_cache_bytes = proc_number("/proc/meminfo", "Cached", KIB);
	if (sysinfo(&info) == 0)
		out->pids = info.procs;
	add_net(getpid(), &out->net_rx_bytes, &out->net_tx_bytes);
}

static void container_stats(const struct container *c, API(StatsResponse) * out)
{
	struct cgroup_stats s;

	cgroup_read_stats(c->agent->self ? &c->agent->self_cgroup : &c->cgroup, &s);
	out->cpu_usage_ns = s.cpu_usage_ns;
	out->cpu_user_ns = s.cpu_user_ns;
	out->cpu_system_ns = s.cpu_system_ns;
	out->cpu_throttled_ns = s.cpu_throttled_ns;
	out->memory_bytes = s.memory;
	out->memory_limit_bytes = s.memory_limit;
	out->memory_peak_bytes = s.memory_peak;
	out->memory_cache_bytes = s.memory_cache;
	out->oom_kills = s.oom_kills;
	out->pids = s.pids;
	out->pids_limit = s.pids_limit;
	out->io_read_bytes = s.io_read;
	out->io_write_bytes = s.io_write;
	add_net(c->pid, &out->net_rx_bytes, &out->net_tx_bytes);
}

void service_stats(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(StatsRequest) *req = (const void *)msg;
	API(StatsResponse) out = MICROPOD__AGENT__V1__STATS_RESPONSE__INIT;
	struct container *c = NULL;

	if (*req->container_id) {
		c = container_find(agent, req->container_id);
		if (!c) {
			reply_error(call, FAILURE_NOT_FOUND, ENOENT, "container_id",
				req->container_id, "no container '%s'", req->container_id);
			return;
		}
		container_stats(c, &out);
	} else {
		machine_stats(&out);
	}
	out.time_ns = clock_realtime();
	out.agent_rss_bytes = own_rss();
	rpc_call_reply(call, &out.base);
}

void service_fill_info(struct agent *agent, struct utsname *uts, API(InfoResponse) * out)
{
	uname(uts);
	out->agent_version = MICROPOD_VERSION;
	out->api_generation = API_GENERATION;
	out->kernel = uts->release;
	out->hostname = uts->nodename;
	out->architecture = uts->machine;
	out->realtime_ns = clock_realtime();
	out->monotonic_ns = clock_monotonic();
	out->runtime = agent->self	? (char *)"self"
		       : agent->builtin ? (char *)"builtin"
					: agent->runtime.name;
	out->runtime_version = agent->runtime_version;
	out->pid1 = agent->pid1 != NULL;
	out->vsock_listening = agent->vsock != NULL;
}

void service_info(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	API(InfoResponse) out = MICROPOD__AGENT__V1__INFO_RESPONSE__INIT;
	struct utsname uts;

	service_fill_info(arg, &uts, &out);
	out.memory_bytes = proc_number("/proc/meminfo", "MemTotal", KIB);
	out.cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	out.rss_bytes = own_rss();
	rpc_call_reply(call, &out.base);
}

/* Network */

static int fill_link(struct netif_link *out, const API(Interface) * in, struct err *err)
{
	if (in->mac.len != 0 && in->mac.len != sizeof(out->mac))
		return err_set(err, EINVAL, "mac: must be 6 bytes");
	out->any = in->mac.len == 0;
	memcpy(out->mac, in->mac.data, in->mac.len);
	if (in->new_mac.len != 0 && in->new_mac.len != sizeof(out->new_mac))
		return err_set(err, EINVAL, "new_mac: must be 6 bytes");
	out->set_mac = in->new_mac.len != 0;
	memcpy(out->new_mac, in->new_mac.data, in->new_mac.len);
	if (*in->name && !netif_name_valid(in->name))
		return err_set(err, EINVAL, "name: '%s' cannot be an interface's", in->name);
	snprintf(out->name, sizeof(out->name), "%s", in->name);
	out->mtu = in->mtu;
	if (in->n_addresses > NETIF_ADDRESSES_MAX)
		return err_set(err, E2BIG, "more than %d addresses", NETIF_ADDRESSES_MAX);
	for (size_t i = 0; i < in->n_addresses; i++)
		if (netif_parse_address(in->addresses[i]->address, in->addresses[i]->prefix,
			    &out->addresses[out->n_addresses++]) < 0)
			return err_set(err, EINVAL, "address: '%s/%u' is none",
				in->addresses[i]->address, in->addresses[i]->prefix);
	return 0;
}

static int fill_route(struct netif_route *out, const API(Route) * in, struct err *err)
{
	if (*in->destination && netif_parse_cidr(in->destination, &out->destination) < 0)
		return err_set(err, EINVAL, "destination: '%s' is no network", in->destination);
	if (*in->gateway && netif_parse_address(in->gateway, strchr(in->gateway, ':') ? 128 : 32,
				    &out->gateway) < 0)
		return err_set(err, EINVAL, "gateway: '%s' is no address", in->gateway);
	if (*in->interface && !netif_name_valid(in->interface))
		return err_set(err, EINVAL, "interface: '%s' cannot be one's name", in->interface);
	snprintf(out->interface, sizeof(out->interface), "%s", in->interface);
	return 0;
}

static int set_clock(int64_t realtime_ns, struct err *err)
{
	struct timespec ts = { .tv_sec = realtime_ns / NSEC_PER_SEC,
		.tv_nsec = realtime_ns % NSEC_PER_SEC };

	if (realtime_ns < 0)
		return err_set(err, EINVAL, "realtime_ns: must not be negative");
	return clock_settime(CLOCK_REALTIME, &ts) < 0
		       ? err_errno(err, errno, "cannot set the clock")
		       : 0;
}

static int configure(const API(ConfigureNetworkRequest) * req, struct netif_link *links,
	struct netif_route *routes, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < req->n_routes; i++)
		r = fill_route(&routes[i], req->routes[i], err);
	if (r == 0 && (req->n_interfaces || req->n_routes))
		r = netif_configure(links, req->n_interfaces, routes, req->n_routes, err);
	if (r == 0 && (req->n_dns_servers || req->n_dns_search))
		r = netif_resolv_conf(RESOLV_CONF, (const char *const *)req->dns_servers,
			req->n_dns_servers, (const char *const *)req->dns_search, req->n_dns_search,
			err);
	return r;
}

/* What stays as it is when a machine goes on: all but name, clock and MAC addresses. *ret_data is
 * malloc'd. 0 or -ENOMEM. */
static int pack_lasting(const API(ConfigureNetworkRequest) * req, void **ret_data, size_t *ret_len)
{
	API(ConfigureNetworkRequest) lasting = *req;
	auto_free API(Interface) *copies = calloc(req->n_interfaces + 1, sizeof(*copies));
	auto_free API(Interface) **list = calloc(req->n_interfaces + 1, sizeof(*list));

	if (!copies || !list)
		return -ENOMEM;
	for (size_t i = 0; i < req->n_interfaces; i++) {
		copies[i] = *req->interfaces[i];
		copies[i].mac.len = copies[i].new_mac.len = 0;
		list[i] = &copies[i];
	}
	lasting.interfaces = list;
	lasting.hostname = (char *)"";
	lasting.realtime_ns = 0;
	*ret_len = protobuf_c_message_get_packed_size(&lasting.base);
	*ret_data = malloc(*ret_len + 1);
	if (!*ret_data)
		return -ENOMEM;
	protobuf_c_message_pack(&lasting.base, *ret_data);
	return 0;
}

/*
 * Name and clock are always set. The rest takes an emulated guest a good part of its start, so a
 * machine that is saved has it already, and going on with the same it only gets its MAC addresses.
 */
static int configure_anew(struct agent *agent, const API(ConfigureNetworkRequest) * req,
	struct netif_link *links, struct netif_route *routes, struct err *err)
{
	auto_free void *now = NULL;
	size_t len = 0;
	int r = pack_lasting(req, &now, &len);
	bool same;

	if (r < 0)
		return err_errno(err, -r, "cannot set up the network");
	same = agent->network && len == agent->network_len && memcmp(now, agent->network, len) == 0;
	for (size_t i = 0; r == 0 && i < req->n_interfaces; i++)
		r = fill_link(&links[i], req->interfaces[i], err);
	for (size_t i = 0; r == 0 && same && i < req->n_interfaces; i++)
		r = links[i].set_mac ? netif_set_mac(&links[i], err) : 0;
	if (r < 0 || same)
		return r;
	free(take_ptr(agent->network));
	r = configure(req, links, routes, err);
	if (r == 0) {
		agent->network = take_ptr(now);
		agent->network_len = len;
	}
	return r;
}

int service_set_network(
	struct agent *agent, const API(ConfigureNetworkRequest) * req, struct err *err)
{
	auto_free struct netif_link *links = calloc(NETIF_MAX, sizeof(*links));
	auto_free struct netif_route *routes = calloc(NETIF_ROUTES_MAX, sizeof(*routes));
	int r;

	if (req->n_interfaces > NETIF_MAX || req->n_routes > NETIF_ROUTES_MAX)
		return err_set(err, E2BIG, "more than %d interfaces or %d routes", NETIF_MAX,
			NETIF_ROUTES_MAX);
	if (!links || !routes)
		return err_set(err, ENOMEM, "out of memory");
	r = configure_anew(agent, req, links, routes, err);
	if (r == 0 && *req->hostname)
		r = netif_hostname(req->hostname, err);
	if (r == 0 && req->realtime_ns)
		r = set_clock(req->realtime_ns, err);
	return r;
}

static enum failure_kind network_failure(int code)
{
	return code == EINVAL ? FAILURE_INVALID : code == E2BIG ? FAILURE_LIMIT : FAILURE_UNKNOWN;
}

void service_configure_network(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	API(ConfigureNetworkResponse) out = MICROPOD__AGENT__V1__CONFIGURE_NETWORK_RESPONSE__INIT;
	struct agent *agent = arg;
	struct err err = ERR_INIT;

	if (!agent->pid1)
		reply_error(call, FAILURE_CONFLICT, EPERM, "network", "",
			"the network of this machine is not the agent's");
	else if (service_set_network(agent, (const void *)msg, &err) < 0)
		reply_error(
			call, network_failure(err.code), err.code, "network", "", "%s", err.msg);
	else
		rpc_call_reply(call, &out.base);
}

void service_listen_vsock(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const API(ListenVsockRequest) *req = (const void *)msg;
	API(ListenVsockResponse) out = MICROPOD__AGENT__V1__LISTEN_VSOCK_RESPONSE__INIT;
	struct err err = ERR_INIT;

	if (req->key.len != VSOCK_KEY_SIZE)
		reply_error(call, FAILURE_INVALID, EINVAL, "key", "", "key: must be %d bytes",
			VSOCK_KEY_SIZE);
	else if (serve_vsock(arg, req->port ? req->port : VSOCK_PORT, req->key.data, &err) < 0)
		reply_error(call, FAILURE_UNKNOWN, err.code, "vsock", "", "%s", err.msg);
	else
		rpc_call_reply(call, &out.base);
}

void service_shutdown(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const API(ShutdownRequest) *req = (const void *)msg;
	API(ShutdownResponse) out = MICROPOD__AGENT__V1__SHUTDOWN_RESPONSE__INIT;
	struct agent *agent = arg;

	if (req->grace_ns < 0) {
		reply_error(call, FAILURE_INVALID, EINVAL, "grace_ns", "",
			"grace_ns: must not be negative");
		return;
	}
	rpc_call_reply(call, &out.base);
	if (agent->pid1)
		pid1_shutdown(agent->pid1, req->grace_ns);
	else if (agent->self)
		agent->self_shutdown(agent->self_arg, req->grace_ns);
	else
		serve_shutdown(agent, req->grace_ns);
}
