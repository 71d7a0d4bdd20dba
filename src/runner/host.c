/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "runner/runner.h"

#define API(name) Micropod__Host__V1__##name

/* The number behind "key:" in /proc/meminfo, in bytes; 0: not there. */
static uint64_t meminfo(const char *key)
{
	auto_fclose FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	size_t len = strlen(key);

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, len) == 0 && line[len] == ':')
			return strtoull(line + len + 1, NULL, 10) * KIB;
	return 0;
}

static const char *go_arch(const char *machine)
{
	return strcmp(machine, "x86_64") == 0	 ? "amd64"
	       : strcmp(machine, "aarch64") == 0 ? "arm64"
						 : machine;
}

static void do_info(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	API(InfoResponse) out = MICROPOD__HOST__V1__INFO_RESPONSE__INIT;
	auto_strv struct strv ids = STRV_INIT;
	struct runner *r = arg;
	struct err ignored = ERR_INIT;
	struct utsname uts;

	uname(&uts);
	sandbox_list(r->root, &ids, &ignored);
	out.name = (char *)r->name;
	out.memory_bytes = meminfo("MemTotal");
	out.memory_free_bytes = meminfo("MemAvailable");
	out.cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	out.version = (char *)MICROPOD_VERSION;
	out.architecture = (char *)go_arch(uts.machine);
	out.sandboxes = (uint32_t)ids.n;
	rpc_call_reply(call, &out.base);
}

static int add_sandbox(struct runner *r, const char *id, API(ListResponse) * out, struct err *err)
{
	API(Sandbox) *entry = calloc(1, sizeof(*entry));
	char *config = NULL, *state = NULL;
	struct sandbox box;
	int code = entry ? sandbox_load(r->root, id, &box, err) : -ENOMEM;

	if (code < 0) {
		free(entry);
		return code;
	}
	code = sandbox_config_write(&box.config, &config, err);
	if (code == 0)
		code = sandbox_state_write(&box.state, &state, err);
	sandbox_deinit(&box);
	*entry = (API(Sandbox))MICROPOD__HOST__V1__SANDBOX__INIT;
	entry->id = strdup(id);
	if (code < 0 || !entry->id) {
		free(config);
		free(state);
		free(entry->id);
		free(entry);
		return code < 0 ? code : -ENOMEM;
	}
	entry->config = (ProtobufCBinaryData){ strlen(config), (uint8_t *)config };
	entry->state = (ProtobufCBinaryData){ strlen(state), (uint8_t *)state };
	out->sandboxes[out->n_sandboxes++] = entry;
	return 0;
}

static void free_list(API(ListResponse) * out)
{
	for (size_t i = 0; i < out->n_sandboxes; i++) {
		free(out->sandboxes[i]->id);
		free(out->sandboxes[i]->config.data);
		free(out->sandboxes[i]->state.data);
		free(out->sandboxes[i]);
	}
	free(out->sandboxes);
}

static void do_list(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const API(ListRequest) *req = (const API(ListRequest) *)msg;
	API(ListResponse) out = MICROPOD__HOST__V1__LIST_RESPONSE__INIT;
	auto_strv struct strv ids = STRV_INIT;
	struct runner *r = arg;
	struct err err = ERR_INIT;
	char id[ID_LEN + 1];
	int code;

	if (*req->word) {
		code = sandbox_find(r->root, req->word, id, &err);
		if (code == 0)
			code = strv_add(&ids, id);
		/* It may be another host's. */
		if (code == -ENOENT)
			code = 0;
	} else {
		code = sandbox_list(r->root, &ids, &err);
	}
	out.sandboxes = calloc(ids.n + 1, sizeof(*out.sandboxes));
	if (!out.sandboxes)
		code = -ENOMEM;
	/* Removed meanwhile, or damaged: the host's own command line says which. */
	for (size_t i = 0; code == 0 && i < ids.n; i++)
		(void)add_sandbox(r, ids.v[i], &out, &err);
	if (code == 0)
		rpc_call_reply(call, &out.base);
	else
		rpc_call_finish_code(call, code == -ENOTUNIQ ? RPC_INVALID_ARGUMENT : RPC_INTERNAL,
			"%s", err.msg[0] ? err.msg : strerror(-code));
	free_list(&out);
}

static const struct rpc_method methods[] = {
	{ .name = "Info",
		.in = &micropod__host__v1__info_request__descriptor,
		.out = &micropod__host__v1__info_response__descriptor,
		.request = do_info },
	{ .name = "List",
		.in = &micropod__host__v1__list_request__descriptor,
		.out = &micropod__host__v1__list_response__descriptor,
		.request = do_list },
	{ .name = "Command",
		.in = &micropod__host__v1__command_request__descriptor,
		.out = &micropod__host__v1__command_event__descriptor,
		.client_streams = true,
		.server_streams = true,
		.open = runner_command },
};

const struct rpc_service runner_host_service = {
	.name = "micropod.host.v1.Host", .methods = methods, .n_methods = ARRAY_SIZE(methods)
};
