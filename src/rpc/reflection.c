/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.reflection.v1 and v1alpha, which differ in name only (gRPC doc/server-reflection.md).
 * Descriptors stay the serialized bytes that protoc made; a question walks them. They are the
 * program's own, but are read with the care of any others.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/health/v1/health.desc.h"
#include "grpc/reflection/v1/reflection.desc.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "grpc/reflection/v1alpha/reflection.desc.h"
#include "rpc/server-internal.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest Request;
typedef Grpc__Reflection__V1__ServerReflectionResponse Response;

#define MAX_FILES 64 /* with all imports, in one answer */

struct bytes {
	const uint8_t *p;
	size_t len;
};

/* descriptor.proto: numbers of the fields that are looked at */
enum {
	SET_FILE = 1,
	FILE_NAME = 1,
	FILE_PACKAGE = 2,
	FILE_DEPENDENCY = 3,
	FILE_MESSAGE = 4,
	FILE_ENUM = 5,
	FILE_SERVICE = 6,
	FILE_EXTENSION = 7,
	ANY_NAME = 1,
	MESSAGE_FIELD = 2,
	MESSAGE_NESTED = 3,
	MESSAGE_ENUM = 4,
	MESSAGE_EXTENSION = 6,
	SERVICE_METHOD = 2,
	FIELD_EXTENDEE = 2,
	FIELD_NUMBER = 3,
};

static bool next_varint(struct bytes *b, uint64_t *ret_value)
{
	*ret_value = 0;
	for (unsigned shift = 0; b->len && shift < 64; shift += 7) {
		uint8_t c = *b->p++;

		b->len--;
		*ret_value |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return true;
	}
	return false;
}

/* The next field of a message: its number, and its bytes or number. False at the end. */
static bool next_field(
	struct bytes *b, unsigned *ret_number, struct bytes *ret_value, uint64_t *ret_varint)
{
	uint64_t tag, n = 0;

	*ret_value = (struct bytes){ NULL, 0 };
	*ret_varint = 0;
	if (!b->len || !next_varint(b, &tag))
		return false;
	*ret_number = (unsigned)(tag >> 3);
	switch (tag & 7) {
	case PROTOBUF_C_WIRE_TYPE_VARINT:
		return next_varint(b, ret_varint);
	case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
		if (!next_varint(b, &n))
			return false;
		break;
	case PROTOBUF_C_WIRE_TYPE_64BIT:
		n = 8;
		break;
	case PROTOBUF_C_WIRE_TYPE_32BIT:
		n = 4;
		break;
	default:
		return false;
	}
	if (n > b->len)
		return false;
	*ret_value = (struct bytes){ b->p, (size_t)n };
	b->p += n;
	b->len -= (size_t)n;
	return true;
}

static struct bytes field(struct bytes msg, unsigned number)
{
	struct bytes value;
	uint64_t varint;
	unsigned n;

	while (next_field(&msg, &n, &value, &varint))
		if (n == number)
			return value;
	return (struct bytes){ NULL, 0 };
}

/* Takes name off the front of *symbol, and the dot behind it. False if that is not what it starts
 * with. */
static bool take_name(struct bytes *symbol, struct bytes name)
{
	if (!name.len || symbol->len < name.len || memcmp(symbol->p, name.p, name.len) != 0)
		return false;
	if (symbol->len > name.len && symbol->p[name.len] != '.')
		return false;
	symbol->p += name.len;
	symbol->len -= name.len;
	if (symbol->len) {
		symbol->p++;
		symbol->len--;
	}
	return true;
}

/* Whether symbol is a thing of kind `number` in msg, or inside one. */
static bool has_symbol(struct bytes msg, unsigned kind, struct bytes symbol, bool in_message)
{
	struct bytes value;
	uint64_t varint;
	unsigned n;

	while (next_field(&msg, &n, &value, &varint)) {
		struct bytes rest = symbol;

		if (n != kind || !take_name(&rest, field(value, ANY_NAME)))
			continue;
		if (!rest.len)
			return true;
		if (!in_message && kind == FILE_SERVICE &&
			has_symbol(value, SERVICE_METHOD, rest, true))
			return true;
		if ((!in_message && kind == FILE_MESSAGE) ||
			(in_message && kind == MESSAGE_NESTED)) {
			static const unsigned kinds[] = { MESSAGE_NESTED, MESSAGE_ENUM,
				MESSAGE_FIELD, MESSAGE_EXTENSION };

			for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
				if (has_symbol(value, kinds[i], rest, true))
					return true;
		}
	}
	return false;
}

static bool file_has_symbol(struct bytes file, const void *arg)
{
	static const unsigned kinds[] = { FILE_SERVICE, FILE_MESSAGE, FILE_ENUM, FILE_EXTENSION };
	struct bytes symbol = { arg, strlen(arg) }, package = field(file, FILE_PACKAGE);

	if (package.len && (!take_name(&symbol, package) || !symbol.len))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (has_symbol(file, kinds[i], symbol, false))
			return true;
	return false;
}

static bool file_has_name(struct bytes file, const void *arg)
{
	struct bytes name = field(file, FILE_NAME);

	return name.len == strlen(arg) && memcmp(name.p, arg, name.len) == 0;
}

struct extension {
	const char *type; /* without the leading dot */
	uint64_t number;  /* 0: collect all */
	int32_t *found;
	size_t n, max;
};

/* Looks through the extensions of msg (a file or message). True if the one asked for is among them.
 */
static bool has_extension(struct bytes msg, bool in_message, struct extension *x, unsigned depth)
{
	struct bytes value;
	uint64_t varint;
	unsigned n;

	while (next_field(&msg, &n, &value, &varint)) {
		if (n == (in_message ? MESSAGE_NESTED : FILE_MESSAGE) &&
			depth < LIMIT_RPC_NESTING && has_extension(value, true, x, depth + 1))
			return true;
		if (n == (in_message ? MESSAGE_EXTENSION : FILE_EXTENSION)) {
			struct bytes extendee = field(value, FIELD_EXTENDEE), f = value, ignored;
			uint64_t number = 0;

			while (next_field(&f, &n, &ignored, &varint))
				if (n == FIELD_NUMBER)
					number = varint;
			if (extendee.len != strlen(x->type) + 1 ||
				memcmp(extendee.p + 1, x->type, extendee.len - 1) != 0)
				continue;
			if (x->number && number == x->number)
				return true;
			if (!x->number && x->n < x->max)
				x->found[x->n++] = (int32_t)number;
		}
	}
	return false;
}

static bool file_has_extension(struct bytes file, const void *arg)
{
	return has_extension(file, false, (struct extension *)(uintptr_t)arg, 0);
}

/* The first file of any set that test is true for; empty if none. */
static struct bytes find_file(const struct rpc_server *server,
	bool (*test)(struct bytes file, const void *arg), const void *arg)
{
	const struct rpc_descriptor_set *set;

	list_foreach (set, &server->descriptors, link) {
		struct bytes b = { set->set.data, set->set.len }, file;
		uint64_t varint;
		unsigned n;

		while (next_field(&b, &n, &file, &varint))
			if (n == SET_FILE && test(file, arg))
				return file;
	}
	return (struct bytes){ NULL, 0 };
}

/* Answers */

static void answer_error(Response *answer, Grpc__Reflection__V1__ErrorResponse *error,
	enum rpc_code code, const char *text)
{
	grpc__reflection__v1__error_response__init(error);
	error->error_code = code;
	error->error_message = (char *)(uintptr_t)text;
	answer->message_response_case =
		GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
	answer->error_response = error;
}

static size_t add_file(
	const struct rpc_server *server, struct bytes file, ProtobufCBinaryData *files, size_t n)
{
	struct bytes b = file, value;
	uint64_t varint;
	unsigned number;

	for (size_t i = 0; i < n; i++)
		if (files[i].data == file.p)
			return n;
	if (n == MAX_FILES)
		return n;
	files[n++] = (ProtobufCBinaryData){ file.len, (uint8_t *)(uintptr_t)file.p };
	while (next_field(&b, &number, &value, &varint)) {
		char name[256];
		struct bytes import;

		if (number != FILE_DEPENDENCY || value.len >= sizeof(name))
			continue;
		memcpy(name, value.p, value.len);
		name[value.len] = '\0';
		import = find_file(server, file_has_name, name);
		if (import.p)
			n = add_file(server, import, files, n);
	}
	return n;
}

static void answer_files(
	struct rpc_call *call, const struct rpc_server *server, Response *answer, struct bytes file)
{
	Grpc__Reflection__V1__FileDescriptorResponse list =
		GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
	Grpc__Reflection__V1__ErrorResponse error;
	ProtobufCBinaryData files[MAX_FILES];

	if (file.p) {
		list.n_file_descriptor_proto = add_file(server, file, files, 0);
		list.file_descriptor_proto = files;
		answer->message_response_case =
			GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
		answer->file_descriptor_response = &list;
	} else {
		answer_error(answer, &error, RPC_NOT_FOUND, "not found");
	}
	rpc_call_send(call, &answer->base);
}

static void answer_extensions(
	struct rpc_call *call, const struct rpc_server *server, Response *answer, char *type)
{
	Grpc__Reflection__V1__ExtensionNumberResponse list =
		GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;
	Grpc__Reflection__V1__ErrorResponse error;
	int32_t found[256];
	struct extension x = { .type = type, .found = found, .max = ARRAY_SIZE(found) };

	find_file(server, file_has_extension, &x); /* goes through all: number 0 matches none */
	if (find_file(server, file_has_symbol, type).p) {
		list.base_type_name = type;
		list.extension_number = found;
		list.n_extension_number = x.n;
		answer->message_response_case =
			GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE;
		answer->all_extension_numbers_response = &list;
	} else {
		answer_error(answer, &error, RPC_NOT_FOUND, "not found");
	}
	rpc_call_send(call, &answer->base);
}

static void answer_services(
	struct rpc_call *call, const struct rpc_server *server, Response *answer)
{
	Grpc__Reflection__V1__ListServiceResponse list =
		GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
	Grpc__Reflection__V1__ServiceResponse names[MAX_FILES], *pointers[MAX_FILES];
	const struct rpc_service_entry *e;

	list_foreach (e, &server->services, link) {
		if (list.n_service == MAX_FILES)
			break;
		grpc__reflection__v1__service_response__init(&names[list.n_service]);
		names[list.n_service].name = (char *)(uintptr_t)e->name;
		pointers[list.n_service] = &names[list.n_service];
		list.n_service++;
	}
	list.service = pointers;
	answer->message_response_case =
		GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
	answer->list_services_response = &list;
	rpc_call_send(call, &answer->base);
}

static void on_request(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const struct rpc_server *server = arg;
	Request *req = (Request *)(uintptr_t)msg;
	Response answer = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
	Grpc__Reflection__V1__ErrorResponse error;
	struct extension x;

	answer.valid_host = req->host;
	answer.original_request = req;
	switch (req->message_request_case) {
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
		answer_files(call, server, &answer,
			find_file(server, file_has_name, req->file_by_filename));
		break;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
		answer_files(call, server, &answer,
			find_file(server, file_has_symbol, req->file_containing_symbol));
		break;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
		x = (struct extension){ .type = req->file_containing_extension->containing_type,
			.number = (uint32_t)req->file_containing_extension->extension_number };
		answer_files(call, server, &answer,
			x.number ? find_file(server, file_has_extension, &x)
				 : (struct bytes){ NULL, 0 });
		break;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
		answer_extensions(call, server, &answer, req->all_extension_numbers_of_type);
		break;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
		answer_services(call, server, &answer);
		break;
	default:
		answer_error(&answer, &error, RPC_INVALID_ARGUMENT, "no question asked");
		rpc_call_send(call, &answer.base);
	}
	if (!rpc_call_writable(call))
		rpc_call_pause(call);
}

static void on_end(struct rpc_call *call, void *arg)
{
	rpc_call_finish(call, &RPC_STATUS_OK);
}

static void on_writable(struct rpc_call *call, void *arg)
{
	rpc_call_resume(call);
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
}

static const struct rpc_call_ops ops = {
	.message = on_request,
	.end = on_end,
	.writable = on_writable,
	.done = on_done,
};

static void open_info(struct rpc_call *call, void *arg)
{
	rpc_call_set_ops(call, &ops, arg);
}

static const struct rpc_method methods[] = {
	{
		.name = "ServerReflectionInfo",
		.in = &grpc__reflection__v1__server_reflection_request__descriptor,
		.out = &grpc__reflection__v1__server_reflection_response__descriptor,
		.client_streams = true,
		.server_streams = true,
		.open = open_info,
	},
};

const struct rpc_service rpc_reflection_service = { "grpc.reflection.v1.ServerReflection", methods,
	ARRAY_SIZE(methods) };
const struct rpc_service rpc_reflection_alpha_service = {
	"grpc.reflection.v1alpha.ServerReflection", methods, ARRAY_SIZE(methods)
};

int rpc_server_add_descriptors(struct rpc_server *server, const struct rpc_descriptors *set)
{
	struct rpc_descriptor_set *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return -ENOMEM;
	entry->set = *set;
	list_add_tail(&server->descriptors, &entry->link);
	return 0;
}

int rpc_reflection_init(struct rpc_server *server)
{
	const struct rpc_descriptors sets[] = {
		{ grpc_health_v1_health_desc, grpc_health_v1_health_desc_len },
		{ grpc_reflection_v1_reflection_desc, grpc_reflection_v1_reflection_desc_len },
		{ grpc_reflection_v1alpha_reflection_desc,
			grpc_reflection_v1alpha_reflection_desc_len },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(sets); i++)
		r = rpc_server_add_descriptors(server, &sets[i]);
	return r;
}

void rpc_reflection_deinit(struct rpc_server *server)
{
	while (!list_empty(&server->descriptors)) {
		struct rpc_descriptor_set *set =
			list_entry(server->descriptors.next, struct rpc_descriptor_set, link);

		list_remove(&set->link);
		free(set);
	}
}
