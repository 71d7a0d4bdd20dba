/* SPDX-License-Identifier: Apache-2.0 */
#include "net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/parse.h"
#include "base/proc.h"
#include "base/strv.h"
#include "net/publish.h"

/* Every port's line, and a last one as long as an error. */
#define ANSWER_MAX (LIMIT_PORTS * 16 + LIMIT_ERR_MESSAGE + 32)

static int add_shared(const struct net_config *c, struct strv *argv)
{
	char mac[13];
	int r;

	hex_encode(c->mac, 6, mac);
	r = strv_addf(argv, "--address=%s", c->address);
	if (r == 0)
		r = strv_addf(argv, "--bus=%s", c->folder);
	if (r == 0)
		r = strv_addf(argv, "--mac=%s", mac);
	for (size_t i = 0; r == 0 && i < c->names->n; i++)
		r = strv_addf(argv, "--name=%s", c->names->v[i]);
	if (r == 0 && c->bridge)
		r = strv_addf(argv, "--bridge=%s", c->bridge);
	return r;
}

static int build_argv(const struct net_config *c, int fd, int ready, struct strv *argv)
{
	int r = strv_add(argv, c->program);

	if (r == 0)
		r = strv_addf(argv, "--fd=%d", fd);
	if (r == 0)
		r = strv_addf(argv, "--ready-fd=%d", ready);
	if (r == 0 && c->host_access)
		r = strv_add(argv, "--host-access");
	if (r == 0 && c->reach)
		r = strv_addf(argv, "--reach=%s", c->reach);
	if (r == 0 && c->address)
		r = add_shared(c, argv);
	for (size_t i = 0; i < c->n_ports && r == 0; i++) {
		char text[PUBLISH_TEXT];

		publish_format(&c->ports[i], text);
		r = strv_addf(argv, "--publish=%s", text);
	}
	return r;
}

/* Reads until the other end closes: 0, -ETIMEDOUT, -errno. */
static int read_answer(int fd, int64_t deadline, char *buf, size_t size)
{
	size_t len = 0;

	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		int r = poll(&pfd, 1, deadline_poll_ms(deadline));
		ssize_t n;

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -ETIMEDOUT;
		n = read(fd, buf + len, size - 1 - len);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		if (n > 0)
			len += (size_t)n;
	}
	buf[len] = 0;
	return 0;
}

/* "error CODE TEXT" */
static int take_error(char *line, struct err *err)
{
	char *text = strchr(line, ' ');
	unsigned code;

	if (text)
		*text++ = 0;
	if (!text || parse_uint(line, 1, 4095, &code) < 0)
		return err_set(err, EPROTO, "micropod-net failed without a reason");
	return err_set(err, (int)code, "%s", text);
}

static int take_port(const struct net_config *c, char *line)
{
	char *number = strchr(line, ' ');
	unsigned index, port;

	if (!number)
		return -EPROTO;
	*number++ = 0;
	if (parse_uint(line, 0, LIMIT_PORTS, &index) < 0 || index >= c->n_ports ||
		parse_uint(number, 1, 65535, &port) < 0)
		return -EPROTO;
	c->ports[index].host = (uint16_t)port;
	return 0;
}

static int take_answer(const struct net_config *c, char *answer, struct err *err)
{
	char *rest = NULL;

	for (char *line = strtok_r(answer, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (strcmp(line, "ok") == 0)
			return 0;
		if (strncmp(line, "error ", 6) == 0)
			return take_error(line + 6, err);
		if (strncmp(line, "port ", 5) != 0 || take_port(c, line + 5) < 0)
			break;
	}
	return err_set(err, EPROTO, "micropod-net died before it was ready");
}

int net_await(const struct net_config *c, int ready, struct err *err)
{
	char answer[ANSWER_MAX];
	int r = read_answer(ready, c->deadline, answer, sizeof(answer));

	if (r == -ETIMEDOUT)
		return err_set(err, ETIMEDOUT, "micropod-net was not ready in time");
	return r < 0 ? err_errno(err, -r, "cannot hear from micropod-net")
		     : take_answer(c, answer, err);
}

int net_start(struct net_config *config, pid_t *ret_pid, int *ret_pidfd, int *ret_vmm_fd,
	int *ret_ready_fd, struct err *err)
{
	auto_close int near = -1, vmm = -1, ready_in = -1, ready_out = -1, pidfd = -1;
	auto_strv struct strv argv = STRV_INIT;
	struct proc_opts opts = { .path = config->program,
		.stdin_fd = -1,
		.stdout_fd = config->log_fd,
		.stderr_fd = config->log_fd,
		.die_with_parent = true,
		.new_session = true };
	int fds[2], keep[2], r;
	pid_t pid;

	if (config->n_ports > LIMIT_PORTS)
		return err_set(err, E2BIG, "more than %d published ports", LIMIT_PORTS);
	r = fd_socketpair(fds);
	if (r < 0)
		return err_errno(err, -r, "cannot make a socket for the network");
	near = fds[0];
	vmm = fds[1];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot make a pipe");
	ready_in = fds[0];
	ready_out = fds[1];
	r = build_argv(config, near, ready_out, &argv);
	if (r < 0)
		return err_errno(err, -r, "cannot start micropod-net");
	keep[0] = near;
	keep[1] = ready_out;
	opts.argv = strv_items(&argv);
	opts.keep_fds = keep;
	opts.n_keep_fds = 2;
	r = proc_spawn(&opts, &pid, &pidfd, err);
	if (r < 0)
		return err_wrap(err, "cannot start the network");
	*ret_pid = pid;
	*ret_pidfd = take_fd(&pidfd);
	*ret_vmm_fd = take_fd(&vmm);
	*ret_ready_fd = take_fd(&ready_in);
	return 0;
}
