/* SPDX-License-Identifier: Apache-2.0 */
/* Starts micropod-net as a shim does: net-run PROGRAM [PORT]... Prints "pid N" and "port N" for
 * each, or "error TEXT"; waits for stdin's end. */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/net.h"
#include "net/publish.h"

int main(int argc, char **argv)
{
	struct net_port ports[8] = { 0 };
	struct net_config config = { .program = argv[1],
		.ports = ports,
		.log_fd = 2,
		.deadline = deadline_in(10 * NSEC_PER_SEC) };
	struct err err = ERR_INIT;
	int pidfd, fd, ready, r = 0;
	pid_t pid;
	char byte;

	for (int i = 2; i < argc && i < 10 && r == 0; i++)
		r = publish_parse(argv[i], &ports[config.n_ports++], &err);
	if (r == 0)
		r = net_start(&config, &pid, &pidfd, &fd, &ready, &err);
	if (r == 0)
		r = net_await(&config, ready, &err);
	if (r < 0) {
		printf("error %s\n", err.msg);
		return 1;
	}
	printf("pid %d\n", (int)pid);
	for (size_t i = 0; i < config.n_ports; i++)
		printf("port %u\n", ports[i].host);
	fflush(stdout);
	return (int)read(0, &byte, 1);
}
