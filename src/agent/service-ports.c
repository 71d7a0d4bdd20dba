/* SPDX-License-Identifier: Apache-2.0 */
/* ListPorts, out of proc_pid_net(5): listening sockets are in state 0A. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/container.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fs.h"

#define LISTENS	 0x0a
#define FILE_MAX (4 * MIB)

struct port {
	API(ListeningPort) message;
	char address[INET6_ADDRSTRLEN];
};

struct ports {
	struct port v[LIMIT_LISTED_PORTS];
	size_t n;
};

/* The address as the kernel prints it: words of 32 bits in this machine's order. */
static bool parse_address(const char *hex, size_t words, char *out, socklen_t size)
{
	uint32_t bytes[4] = { 0 };

	for (size_t i = 0; i < words; i++)
		if (sscanf(hex + 8 * i, "%8x", &bytes[i]) != 1)
			return false;
	return inet_ntop(words == 1 ? AF_INET : AF_INET6, bytes, out, size) != NULL;
}

static void add_file(struct ports *ports, pid_t pid, const char *name, size_t words)
{
	auto_free char *text = NULL;
	char path[48], *save = NULL;

	snprintf(path, sizeof(path), "/proc/%d/net/%s", (int)pid, name);
	if (fs_read_file(AT_FDCWD, path, FILE_MAX, &text, NULL) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line && ports->n < LIMIT_LISTED_PORTS;
		line = strtok_r(NULL, "\n", &save)) {
		struct port *p = &ports->v[ports->n];
		char address[33];
		unsigned port, state, uid;

		if (sscanf(line, " %*d: %32[0-9A-F]:%4x %*[0-9A-F]:%*4x %2x %*s %*s %*s %u",
			    address, &port, &state, &uid) != 4 ||
			state != LISTENS || strlen(address) != 8 * words ||
			!parse_address(address, words, p->address, sizeof(p->address)))
			continue;
		p->message = (API(ListeningPort))MICROPOD__AGENT__V1__LISTENING_PORT__INIT;
		p->message.port = port;
		p->message.uid = uid;
		p->message.address = p->address;
		ports->n++;
	}
}

void service_list_ports(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(ListPortsRequest) *req = (const void *)msg;
	API(ListPortsResponse) out = MICROPOD__AGENT__V1__LIST_PORTS_RESPONSE__INIT;
	auto_free struct ports *ports = calloc(1, sizeof(*ports));
	API(ListeningPort) * list[LIMIT_LISTED_PORTS];
	const struct container *c = container_find(agent, req->container_id);

	if (!c || !ports) {
		reply_error(call, c ? FAILURE_UNKNOWN : FAILURE_NOT_FOUND, c ? ENOMEM : ENOENT,
			"container_id", req->container_id, "no container '%s'", req->container_id);
		return;
	}
	if (container_running(c)) {
		add_file(ports, c->pid, "tcp", 1);
		add_file(ports, c->pid, "tcp6", 4);
	}
	for (size_t i = 0; i < ports->n; i++)
		list[i] = &ports->v[i].message;
	out.ports = list;
	out.n_ports = ports->n;
	rpc_call_reply(call, &out.base);
}
