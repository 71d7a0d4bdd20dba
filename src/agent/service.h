/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of the Agent service, by what they are about; each has the shape that rpc/server.h
 * wants. arg is the struct agent. */
#pragma once

#include "agent/agent.h"
#include "agent/api.h"
#include "agent/reply.h"

/* service-container.c */
void service_create_container(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_start_container(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_stop_container(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_delete_container(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_list_containers(struct rpc_call *call, const ProtobufCMessage *req, void *agent);

/* service-exec.c */
void service_exec(struct rpc_call *call, void *agent);
void service_attach(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_acknowledge(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_send_input(struct rpc_call *call, void *agent);

/* service-process.c */
void service_create_process(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_start_process(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_close_input(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_resize(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_signal(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_wait(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_delete_process(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_list_processes(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
/* Finds (container_id, exec_id), or ends the call and returns NULL. */
struct process *service_find_process(
	struct rpc_call *call, struct agent *agent, const char *container_id, const char *exec_id);
/* Applies a new terminal size, also to a terminal that is not there yet. 0 or -errno. */
int service_set_window(struct process *p, const API(WindowSize) * window);

/* service-control.c */
void service_pause_container(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_resume_container(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_update_container(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_list_tasks(struct rpc_call *call, const ProtobufCMessage *req, void *agent);

/* service-files.c */
void service_stat_file(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_list_files(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_read_file(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_write_file(struct rpc_call *call, void *agent);
void service_make_folder(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_move_file(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_remove_file(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_watch_files(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_get_tree(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_put_tree(struct rpc_call *call, void *agent);

/* service-forward.c */
void service_forward(struct rpc_call *call, void *agent);

/* service-ports.c */
void service_list_ports(struct rpc_call *call, const ProtobufCMessage *req, void *agent);

/* service-machine.c */
void service_stats(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_info(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_configure_network(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_listen_vsock(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_shutdown(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
/* What InfoResponse says, but for what has to be looked up; strings are borrowed from uts and the
 * agent. */
struct utsname;
void service_fill_info(struct agent *agent, struct utsname *uts, API(InfoResponse) * out);
/* Does what a ConfigureNetworkRequest says. 0 or -errno with err. */
int service_set_network(
	struct agent *agent, const API(ConfigureNetworkRequest) * req, struct err *err);

/* service-saved.c */
void service_quiesce(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
void service_resumed(struct rpc_call *call, const ProtobufCMessage *req, void *agent);
