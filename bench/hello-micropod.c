/* SPDX-License-Identifier: Apache-2.0 */
/* hello-micropod unix:PATH: helloworld.Greeter on src/rpc. */
#include <stdio.h>

#include "helloworld.pb-c.h"
#include "io/addr.h"
#include "rpc/server.h"

static void say_hello(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	Helloworld__HelloReply reply = HELLOWORLD__HELLO_REPLY__INIT;
	char text[256];

	snprintf(text, sizeof(text), "Hello %s", ((const Helloworld__HelloRequest *)msg)->name);
	reply.message = text;
	rpc_call_reply(call, &reply.base);
}

static const struct rpc_method methods[] = {
	{
		.name = "SayHello",
		.in = &helloworld__hello_request__descriptor,
		.out = &helloworld__hello_reply__descriptor,
		.request = say_hello,
	},
};
static const struct rpc_service service = { "helloworld.Greeter", methods, ARRAY_SIZE(methods) };

int main(int argc, char **argv)
{
	struct rpc_server_opts opts = { 0 };
	struct rpc_server *server = NULL;
	struct err err = ERR_INIT;
	struct loop *loop = NULL;
	struct addr addr;
	int fd;

	if (argc != 2 || addr_parse(argv[1], &addr, &err) < 0)
		return 2;
	fd = addr_listen(&addr, 0600, &err);
	if (fd < 0 || loop_new(&loop) < 0 || rpc_server_new(loop, &opts, &server) < 0 ||
		rpc_server_add_service(server, &service, NULL, NULL) < 0 ||
		rpc_server_listen(server, fd) < 0) {
		fprintf(stderr, "hello-micropod: %s\n", err.msg);
		return 1;
	}
	return loop_run(loop) < 0;
}
