/* SPDX-License-Identifier: Apache-2.0 */
/* The method table: proto/agent.proto's service, row by row. */
#include "agent/service.h"

#include "agent/logs.h"

#define IN_OUT(message)                                              \
	.in = &micropod__agent__v1__##message##_request__descriptor, \
	.out = &micropod__agent__v1__##message##_response__descriptor

static const struct rpc_method methods[] = {
	{ .name = "CreateContainer",
		IN_OUT(create_container),
		.request = service_create_container },
	{ .name = "StartContainer", IN_OUT(start_container), .request = service_start_container },
	{ .name = "StopContainer",
		.in = &micropod__agent__v1__stop_container_request__descriptor,
		.out = &micropod__agent__v1__stop_container_event__descriptor,
		.server_streams = true,
		.request = service_stop_container },
	{ .name = "DeleteContainer",
		IN_OUT(delete_container),
		.request = service_delete_container },
	{ .name = "ListContainers", IN_OUT(list_containers), .request = service_list_containers },
	{ .name = "ExecInContainer",
		.in = &micropod__agent__v1__exec_request__descriptor,
		.out = &micropod__agent__v1__exec_event__descriptor,
		.client_streams = true,
		.server_streams = true,
		.open = service_exec },
	{ .name = "GetContainerLogs",
		.in = &micropod__agent__v1__get_container_logs_request__descriptor,
		.out = &micropod__agent__v1__log_entry__descriptor,
		.server_streams = true,
		.request = logs_request },
	{ .name = "CreateProcess", IN_OUT(create_process), .request = service_create_process },
	{ .name = "StartProcess", IN_OUT(start_process), .request = service_start_process },
	{ .name = "Attach",
		.in = &micropod__agent__v1__attach_request__descriptor,
		.out = &micropod__agent__v1__process_event__descriptor,
		.server_streams = true,
		.request = service_attach },
	{ .name = "SendInput",
		IN_OUT(send_input),
		.client_streams = true,
		.open = service_send_input },
	{ .name = "CloseInput", IN_OUT(close_input), .request = service_close_input },
	{ .name = "Resize", IN_OUT(resize), .request = service_resize },
	{ .name = "Signal", IN_OUT(signal), .request = service_signal },
	{ .name = "Wait", IN_OUT(wait), .request = service_wait },
	{ .name = "DeleteProcess", IN_OUT(delete_process), .request = service_delete_process },
	{ .name = "ListProcesses", IN_OUT(list_processes), .request = service_list_processes },
	{ .name = "Stats", IN_OUT(stats), .request = service_stats },
	{ .name = "Forward",
		.in = &micropod__agent__v1__forward_request__descriptor,
		.out = &micropod__agent__v1__forward_event__descriptor,
		.client_streams = true,
		.server_streams = true,
		.open = service_forward },
	{ .name = "Info", IN_OUT(info), .request = service_info },
	{ .name = "ConfigureNetwork",
		IN_OUT(configure_network),
		.request = service_configure_network },
	{ .name = "Quiesce", IN_OUT(quiesce), .request = service_quiesce },
	{ .name = "Resumed", IN_OUT(resumed), .request = service_resumed },
	{ .name = "ListenVsock", IN_OUT(listen_vsock), .request = service_listen_vsock },
	{ .name = "Shutdown", IN_OUT(shutdown), .request = service_shutdown },
};

const struct rpc_service agent_service = {
	.name = "micropod.agent.v1.Agent",
	.methods = methods,
	.n_methods = ARRAY_SIZE(methods),
};
