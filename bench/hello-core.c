/* SPDX-License-Identifier: Apache-2.0 */
/* hello-core unix:PATH: helloworld.Greeter on gRPC's C-core, one thread on one completion queue. */
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helloworld.pb-c.h"

#define WAITING 128 /* calls that may come at once */

struct slot {
	grpc_call *call;
	gpr_timespec deadline;
	grpc_metadata_array metadata;
	grpc_byte_buffer *request;
	int answering, cancelled;
};

static grpc_server *server;
static grpc_completion_queue *cq;
static void *method;

static void wait_for_call(struct slot *s)
{
	memset(s, 0, sizeof(*s));
	grpc_metadata_array_init(&s->metadata);
	if (grpc_server_request_registered_call(server, method, &s->call, &s->deadline,
		    &s->metadata, &s->request, cq, cq, s) != GRPC_CALL_OK)
		abort();
}

static void answer(struct slot *s)
{
	Helloworld__HelloReply reply = HELLOWORLD__HELLO_REPLY__INIT;
	Helloworld__HelloRequest *request;
	grpc_slice in, out;
	grpc_byte_buffer_reader reader;
	grpc_byte_buffer *buffer;
	grpc_op ops[4];
	char text[256];

	grpc_byte_buffer_reader_init(&reader, s->request);
	in = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	request = helloworld__hello_request__unpack(
		NULL, GRPC_SLICE_LENGTH(in), GRPC_SLICE_START_PTR(in));
	snprintf(text, sizeof(text), "Hello %s", request ? request->name : "");
	helloworld__hello_request__free_unpacked(request, NULL);
	grpc_slice_unref(in);
	reply.message = text;
	out = grpc_slice_malloc(helloworld__hello_reply__get_packed_size(&reply));
	helloworld__hello_reply__pack(&reply, GRPC_SLICE_START_PTR(out));
	buffer = grpc_raw_byte_buffer_create(&out, 1);
	grpc_slice_unref(out);
	memset(ops, 0, sizeof(ops));
	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[1].op = GRPC_OP_SEND_MESSAGE;
	ops[1].data.send_message.send_message = buffer;
	ops[2].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	ops[2].data.send_status_from_server.status = GRPC_STATUS_OK;
	ops[3].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
	ops[3].data.recv_close_on_server.cancelled = &s->cancelled;
	s->answering = 1;
	if (grpc_call_start_batch(s->call, ops, 4, s, NULL) != GRPC_CALL_OK)
		abort();
	grpc_byte_buffer_destroy(buffer);
}

int main(int argc, char **argv)
{
	grpc_server_credentials *credentials;
	static struct slot slots[WAITING];

	if (argc != 2)
		return 2;
	grpc_init();
	server = grpc_server_create(NULL, NULL);
	cq = grpc_completion_queue_create_for_next(NULL);
	method = grpc_server_register_method(server, "/helloworld.Greeter/SayHello", NULL,
		GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
	grpc_server_register_completion_queue(server, cq, NULL);
	credentials = grpc_insecure_server_credentials_create();
	if (!grpc_server_add_http2_port(server, argv[1], credentials))
		return 1;
	grpc_server_start(server);
	for (int i = 0; i < WAITING; i++)
		wait_for_call(&slots[i]);
	for (;;) {
		grpc_event event =
			grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
		struct slot *s = event.tag;

		if (event.type != GRPC_OP_COMPLETE)
			return 0;
		/* A connection that ended before its request was whole gives none. */
		if (!s->answering && event.success && s->request) {
			answer(s);
			continue;
		}
		grpc_metadata_array_destroy(&s->metadata);
		if (s->request)
			grpc_byte_buffer_destroy(s->request);
		if (s->call)
			grpc_call_unref(s->call);
		wait_for_call(s);
	}
}
