/* SPDX-License-Identifier: Apache-2.0 */
/* How it works: what is on the disk, under Docker's keys where Docker has them, and under
 * "Micropod" what the shim says now. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/client.h"
#include "cli/images.h"
#include "cli/output.h"
#include "driver/accel.h"
#include "sandbox/network.h"
#include "sandbox/volume.h"
#include "net/net.h"

#define SHM_DEFAULT (64 * MIB)
#define STATUS_TIME (4 * NSEC_PER_SEC) /* the shim itself gives the agent two seconds */

static const char *const types[] = { "any", "container", "image", NULL };
enum inspect_type { TYPE_ANY, TYPE_CONTAINER, TYPE_IMAGE };

struct inspect {
	const char *format;
	int type;
};

#define AT(field) offsetof(struct inspect, field)
static const struct opt opts[] = {
	{ "format", 'f', OPT_STRING, AT(format), "FORMAT",
		"how to print: json, or a template such as '{{.State.Status}}' (default: "
		"indented JSON)" },
	{ "type", 0, OPT_WORD, AT(type), "TYPE", "what the names stand for", .words = types },
	{ NULL },
};

static void set_string(json_t *o, const char *key, const char *value)
{
	json_object_set_new(o, key, output_string(value ? value : ""));
}

static void set_int(json_t *o, const char *key, int64_t value)
{
	json_object_set_new(o, key, json_integer(value));
}

static void set_bool(json_t *o, const char *key, bool value)
{
	json_object_set_new(o, key, json_boolean(value));
}

static json_t *words_json(const struct strv *sv)
{
	json_t *a = json_array();

	for (size_t i = 0; i < sv->n; i++)
		json_array_append_new(a, output_string(sv->v[i]));
	return a;
}

/* {"Start": ..., "End": ..., "ExitCode": 0, "Output": "..."} for each. */
static json_t *health_log_json(const struct strv *log)
{
	json_t *a = json_array();

	for (size_t i = 0; i < log->n; i++) {
		json_t *o = json_object();
		long long begin = 0, end = 0;
		int code = 0, at = 0;
		char when[40];

		sscanf(log->v[i], "%lld %lld %d%n", &begin, &end, &code, &at);
		set_string(o, "Start", output_time(begin, when, sizeof(when)));
		set_string(o, "End", output_time(end, when, sizeof(when)));
		set_int(o, "ExitCode", code);
		set_string(o, "Output", log->v[i][at] ? log->v[i] + at + 1 : "");
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *health_json(const struct sandbox_state *st)
{
	json_t *o = json_object();

	set_string(o, "Status", st->health[0] ? st->health : "none");
	set_int(o, "FailingStreak", st->health_failing);
	json_object_set_new(o, "Log", health_log_json(&st->health_log));
	return o;
}

static json_t *state_json(const struct sandbox *box)
{
	const struct sandbox_state *st = &box->state;
	json_t *o = json_object();
	char when[40];

	set_string(o, "Status", target_state(box));
	set_bool(o, "Paused", st->paused && st->phase == SANDBOX_RUNNING);
	set_bool(o, "Running", target_alive(box));
	set_bool(o, "Restarting", st->phase == SANDBOX_RESTARTING);
	set_bool(o, "Dead", st->phase == SANDBOX_DEAD);
	set_bool(o, "OOMKilled", st->oom_killed);
	set_int(o, "Pid", target_alive(box) ? st->vmm_pid : 0);
	set_int(o, "ExitCode", st->exit_code);
	set_string(o, "Error", st->error);
	set_string(o, "StoppedBy", st->stopped_by);
	if (box->config.health_test.n)
		json_object_set_new(o, "Health", health_json(st));
	set_string(o, "Deadline",
		st->deadline_ns ? output_time(st->deadline_ns, when, sizeof(when)) : "");
	set_string(o, "StartedAt", output_time(st->started_ns, when, sizeof(when)));
	set_string(o, "FinishedAt", output_time(st->finished_ns, when, sizeof(when)));
	return o;
}

static json_t *config_json(const struct sandbox_config *c)
{
	json_t *o = json_object();
	char hostname[ID_SHOWN_LEN + 1];

	snprintf(hostname, sizeof(hostname), "%.*s", ID_SHOWN_LEN, c->id);
	set_string(o, "Hostname", c->hostname ? c->hostname : hostname);
	set_string(o, "User", c->user);
	set_bool(o, "Tty", c->tty);
	set_bool(o, "OpenStdin", c->open_stdin);
	json_object_set_new(o, "Env", words_json(&c->env));
	json_object_set_new(o, "Cmd", words_json(&c->args));
	set_string(o, "Image", c->image);
	set_string(o, "WorkingDir", c->cwd);
	set_string(o, "StopSignal", c->stop_signal ? c->stop_signal : "SIGTERM");
	set_int(o, "StopTimeout", c->stop_grace_ns / NSEC_PER_SEC);
	json_object_set_new(o, "Labels", output_pairs(&c->labels));
	return o;
}

/* "HOST:CONTAINER[:ro]" */
static json_t *binds_json(const struct strv *volumes)
{
	json_t *a = json_array();

	for (size_t i = 0; i + SANDBOX_VOLUME_WORDS <= volumes->n; i += SANDBOX_VOLUME_WORDS) {
		bool writable = strcmp(volumes->v[i + 2], "rw") == 0;

		json_array_append_new(a, json_sprintf("%s:%s%s", volumes->v[i], volumes->v[i + 1],
						 writable ? "" : ":ro"));
	}
	return a;
}

static json_t *restart_json(const struct sandbox_config *c)
{
	json_t *o = json_object();

	set_string(o, "Name", c->restart ? c->restart : "no");
	set_int(o, "MaximumRetryCount", (int64_t)c->restart_max);
	return o;
}

static json_t *security_json(const struct sandbox_config *c)
{
	json_t *a = json_array();

	if (c->no_new_privileges)
		json_array_append_new(a, json_string("no-new-privileges"));
	if (c->seccomp)
		json_array_append_new(a, json_sprintf("seccomp=%s", c->seccomp));
	return a;
}

static void add_rights(json_t *o, const struct sandbox_config *c)
{
	set_bool(o, "Privileged", c->privileged);
	json_object_set_new(o, "CapAdd", words_json(&c->cap_add));
	json_object_set_new(o, "CapDrop", words_json(&c->cap_drop));
	json_object_set_new(o, "SecurityOpt", security_json(c));
	json_object_set_new(o, "GroupAdd", words_json(&c->groups));
	json_object_set_new(o, "Sysctls", output_pairs(&c->sysctls));
	json_object_set_new(o, "ExtraHosts", words_json(&c->extra_hosts));
	json_object_set_new(o, "Dns", words_json(&c->dns));
	json_object_set_new(o, "DnsSearch", words_json(&c->dns_search));
	json_object_set_new(o, "DnsOptions", words_json(&c->dns_options));
	json_object_set_new(o, "Devices", words_json(&c->devices));
	set_bool(o, "PublishAllPorts", c->publish_all);
}

static json_t *log_json(const struct sandbox_config *c)
{
	json_t *config = json_object();

	json_object_set_new(config, "max-size",
		json_sprintf("%llu",
			(unsigned long long)(c->log_bytes ? c->log_bytes : LIMIT_CONTAINER_LOG)));
	json_object_set_new(config, "max-file",
		json_sprintf("%llu", (unsigned long long)(c->log_files ? c->log_files : 5)));
	return json_pack("{s:s, s:o}", "Type", c->log_driver ? c->log_driver : "json-file",
		"Config", config);
}

static json_t *host_config_json(const struct sandbox_config *c)
{
	json_t *o = json_object();

	set_int(o, "Memory", (int64_t)c->memory);
	set_int(o, "NanoCpus", (int64_t)c->cpu_milli * 1000000);
	set_bool(o, "AutoRemove", c->remove);
	json_object_set_new(o, "RestartPolicy", restart_json(c));
	set_int(o, "Timeout", c->timeout_ns);
	set_int(o, "Lifetime", c->lifetime_ns);
	set_int(o, "IdleTimeout", c->idle_ns);
	set_string(o, "AtLimit", c->limit_removes ? "remove" : "stop");
	set_string(o, "NetworkMode", c->no_network ? "none" : c->network ? c->network : "default");
	set_string(o, "Runtime", c->engine ? NULL : c->runtime);
	set_bool(o, "ReadonlyRootfs", c->read_only);
	set_bool(o, "Init", c->init);
	json_object_set_new(o, "Tmpfs", words_json(&c->tmpfs));
	add_rights(o, c);
	set_int(o, "MemorySwap", c->memory_swap);
	set_int(o, "PidsLimit", c->pids_limit);
	set_int(o, "CpuShares", (int64_t)c->cpu_shares);
	set_int(o, "OomScoreAdj", c->oom_score_adj);
	json_object_set_new(o, "LogConfig", log_json(c));
	set_string(o, "CpusetCpus", c->cpuset);
	set_int(o, "ShmSize", c->shm_bytes ? (int64_t)c->shm_bytes : (int64_t)SHM_DEFAULT);
	json_object_set_new(o, "Ulimits", words_json(&c->ulimits));
	json_object_set_new(o, "Binds", binds_json(&c->volumes));
	return o;
}

static json_t *mounts_json(const struct sandbox_root *root, const struct strv *volumes)
{
	json_t *a = json_array();

	for (size_t i = 0; i + SANDBOX_VOLUME_WORDS <= volumes->n; i += SANDBOX_VOLUME_WORDS) {
		bool writable = strcmp(volumes->v[i + 2], "rw") == 0;
		char name[LIMIT_NAME + 1];
		json_t *o = json_object();
		bool named;

		named = *volumes->v[i] != '/' || (root && volume_of(root, volumes->v[i], name));
		set_string(o, "Type", named ? "volume" : "bind");
		if (named)
			set_string(o, "Name", *volumes->v[i] != '/' ? volumes->v[i] : name);
		set_string(o, "Source", volumes->v[i]);
		set_string(o, "Destination", volumes->v[i + 1]);
		set_string(o, "Mode", writable ? "" : "ro");
		set_bool(o, "RW", writable);
		set_string(o, "Propagation", "rprivate");
		json_array_append_new(a, o);
	}
	return a;
}

/* Where a VM is on its network. Docker has it twice: of the default one, and of each by name. */
static void add_address(const struct sandbox *box, json_t *o)
{
	const struct sandbox_config *c = &box->config;
	struct network_plan plan;
	json_t *one = json_object();

	if (c->engine || c->no_network)
		return;
	network_plan(c, &plan);
	set_string(one, "IPAddress", plan.address);
	set_int(one, "IPPrefixLen", plan.prefix);
	set_string(one, "Gateway", plan.gateway);
	set_string(one, "GlobalIPv6Address", NET_GUEST_ADDRESS6);
	set_int(one, "GlobalIPv6PrefixLen", NET_GUEST_PREFIX6);
	set_string(one, "IPv6Gateway", NET_GATEWAY6);
	json_object_set_new(one, "MacAddress", output_mac(c->mac));
	json_object_update(o, one);
	json_object_set_new(one, "Aliases", words_json(&c->aliases));
	json_object_set_new(
		o, "Networks", json_pack("{s:o}", network_shared(c) ? c->network : "default", one));
}

/* {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]} */
static json_t *network_json(const struct sandbox *box)
{
	json_t *o = json_object(), *all = json_object();

	for (size_t i = 0; i < box->state.n_ports && target_alive(box); i++) {
		const struct sandbox_port *p = &box->state.ports[i];
		char key[16], number[8];
		json_t *list, *one = json_object();

		snprintf(key, sizeof(key), "%u/%s", p->guest, p->udp ? "udp" : "tcp");
		snprintf(number, sizeof(number), "%u", p->host);
		set_string(one, "HostIp", p->host_ip[0] ? p->host_ip : "0.0.0.0");
		set_string(one, "HostPort", number);
		list = json_object_get(all, key);
		if (!list) {
			list = json_array();
			json_object_set_new(all, key, list);
		}
		json_array_append_new(list, one);
	}
	json_object_set_new(o, "Ports", all);
	add_address(box, o);
	return o;
}

/* What only the shim knows. AgentConnected: the agent has answered just now. */
static void add_status(struct cli *cli, const struct sandbox *box, json_t *o)
{
	Micropod__Sandbox__V1__StatusRequest req = MICROPOD__SANDBOX__V1__STATUS_REQUEST__INIT;
	Micropod__Sandbox__V1__StatusResponse none = MICROPOD__SANDBOX__V1__STATUS_RESPONSE__INIT;
	auto_client struct client client = { 0 };
	ProtobufCMessage *answer = NULL;
	struct err err = ERR_INIT;
	const Micropod__Sandbox__V1__StatusResponse *st;

	if (client_open(cli, box, &client, &err) == 0)
		client_unary(&client, SANDBOX_METHOD("Status"), &req.base,
			&micropod__sandbox__v1__status_response__descriptor, STATUS_TIME, &answer,
			NULL, &err);
	st = answer ? (const Micropod__Sandbox__V1__StatusResponse *)answer : &none;
	set_bool(o, "ShimConnected", answer != NULL);
	set_bool(o, "AgentConnected", st->agent_connected);
	set_string(o, "Transport", st->transport);
	set_int(o, "CID", st->cid);
	set_string(o, "VsockPath", st->vsock_path);
	set_string(o, "AgentVersion", st->agent_version);
	set_int(o, "AgentRSS", (int64_t)st->agent_rss_bytes);
	set_int(o, "ApiGeneration", st->api_generation);
	set_string(o, "GuestRuntime", st->runtime);
	set_string(o, "GuestKernel", st->kernel);
	set_int(o, "GuestPid", st->pid);
	set_string(o, "VMM", st->vmm);
	set_int(o, "VMMPid", st->vmm_pid);
	set_int(o, "NetPid", st->net_pid);
	set_string(o, "Accel", answer ? st->accel : accel_name(box->config.accel));
	set_string(o, "ShimVersion", st->shim_version);
	set_string(o, "Notice", st->notice);
	if (answer)
		protobuf_c_message_free_unpacked(answer, NULL);
}

static json_t *micropod_json(struct cli *cli, const struct sandbox *box)
{
	const struct sandbox_config *c = &box->config;
	auto_free char *dir = sandbox_path(cli->root, c->id, NULL);
	json_t *o = json_object(), *root = json_object();

	set_string(root, "Type", c->engine ? "engine" : "block");
	set_string(root, "ImageDisk", c->image_disk);
	set_int(root, "ScratchBytes", c->engine ? 0 : (int64_t)c->scratch_bytes);
	json_object_set_new(o, "Rootfs", root);
	set_string(o, "Engine", c->engine);
	set_string(o, "AgentPath", c->agent_path);
	if (c->agent_server)
		set_string(o, "AgentServer", c->agent_server);
	if (c->no_agent)
		set_bool(o, "NoAgent", true);
	set_string(o, "Kernel", c->engine ? "" : c->kernel ? c->kernel : "prepared");
	set_string(o, "AgentRootfs",
		c->engine	  ? ""
		: c->agent_rootfs ? c->agent_rootfs
				  : "initramfs");
	set_bool(o, "HostAccess", c->host_access);
	set_bool(o, "Cold", c->cold);
	set_int(o, "ShimPid", target_alive(box) ? box->state.shim_pid : 0);
	set_string(o, "Dir", dir);
	add_status(cli, box, o);
	return o;
}

static json_t *box_json(struct cli *cli, const struct sandbox *box)
{
	const struct sandbox_config *c = &box->config;
	auto_free char *log = sandbox_path(cli->root, c->id, "container.log");
	json_t *o = json_object(), *args = words_json(&c->args);
	char when[40];

	json_array_remove(args, 0);
	set_string(o, "Id", c->id);
	set_string(o, "Created", output_time(c->created_ns, when, sizeof(when)));
	set_string(o, "Path", c->args.n ? c->args.v[0] : "");
	json_object_set_new(o, "Args", args);
	json_object_set_new(o, "State", state_json(box));
	set_string(o, "Image", c->image_digest);
	set_string(o, "LogPath", log);
	set_string(o, "Name", c->name);
	set_int(o, "RestartCount", box->state.restarts);
	set_string(o, "Driver", c->engine ? "docker" : "vm");
	json_object_set_new(o, "HostConfig", host_config_json(c));
	json_object_set_new(o, "Mounts", mounts_json(cli->root, &c->volumes));
	json_object_set_new(o, "Config", config_json(c));
	json_object_set_new(o, "NetworkSettings", network_json(box));
	json_object_set_new(o, "Micropod", micropod_json(cli, box));
	return o;
}

static json_t *keys_json(const struct strv *sv)
{
	json_t *o = json_object();

	for (size_t i = 0; i < sv->n; i++)
		json_object_set_new(o, sv->v[i], json_object());
	return o;
}

static json_t *healthcheck_json(const struct image_healthcheck *h)
{
	json_t *o = json_object();

	json_object_set_new(o, "Test", words_json(&h->test));
	set_int(o, "Interval", h->interval_ns);
	set_int(o, "Timeout", h->timeout_ns);
	set_int(o, "StartPeriod", h->start_period_ns);
	set_int(o, "Retries", h->retries);
	return o;
}

static json_t *image_config_json(const struct image_config *c)
{
	json_t *o = json_object();

	set_string(o, "User", c->user);
	json_object_set_new(o, "Env", words_json(&c->env));
	json_object_set_new(o, "Entrypoint", words_json(&c->entrypoint));
	json_object_set_new(o, "Cmd", words_json(&c->cmd));
	set_string(o, "WorkingDir", c->working_dir);
	set_string(o, "StopSignal", c->stop_signal);
	json_object_set_new(o, "ExposedPorts", keys_json(&c->exposed_ports));
	json_object_set_new(o, "Volumes", keys_json(&c->volumes));
	json_object_set_new(o, "Labels", output_pairs(&c->labels));
	if (c->healthcheck.test.n)
		json_object_set_new(o, "Healthcheck", healthcheck_json(&c->healthcheck));
	return o;
}

static json_t *image_json(const struct image *image)
{
	json_t *o = json_object(), *tags = json_array(), *root = json_object();
	char when[40];

	set_string(o, "Id", image->id);
	if (image->reference)
		json_array_append_new(tags, output_string(image->reference));
	json_object_set_new(o, "RepoTags", tags);
	set_string(o, "Digest", image->index);
	set_string(o, "ManifestDigest", image->manifest);
	set_string(o, "Created",
		output_time(image->config.created * NSEC_PER_SEC, when, sizeof(when)));
	set_string(o, "Architecture", image->config.architecture);
	set_string(o, "Os", image->config.os);
	set_int(o, "Size", (int64_t)image->size);
	json_object_set_new(o, "Config", image_config_json(&image->config));
	set_string(root, "Type", "layers");
	json_object_set_new(root, "Layers", words_json(&image->config.diff_ids));
	json_object_set_new(o, "RootFS", root);
	return o;
}

static json_t *find_image(struct cli *cli, const char *word, struct err *err)
{
	auto_clean(image_store) struct image_store *store = NULL;
	auto_clean(image) struct image *image = NULL;
	int r = image_store_open(cli->root->path, &store, err);

	if (r == 0)
		r = image_find(store, word, &image, err);
	return r < 0 ? NULL : image_json(image);
}

static json_t *find_box(struct cli *cli, const char *word, struct err *err)
{
	struct sandbox box;
	json_t *o;

	if (target_load(cli, word, &box, err) < 0)
		return NULL;
	o = box_json(cli, &box);
	sandbox_deinit(&box);
	return o;
}

static json_t *find(struct cli *cli, const char *word, int type, struct err *err)
{
	struct err no_image = ERR_INIT;
	json_t *o = type == TYPE_IMAGE ? NULL : find_box(cli, word, err);

	if (o || type == TYPE_CONTAINER || (type == TYPE_ANY && err->code != ENOENT))
		return o;
	o = find_image(cli, word, type == TYPE_IMAGE ? err : &no_image);
	if (!o && type == TYPE_ANY)
		err_set(err, ENOENT, "no such sandbox or image: %s", word);
	return o;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct inspect *in = values;
	json_t *all = json_array();
	int code = 0, r;

	for (size_t i = 0; i < n; i++) {
		struct err why = ERR_INIT;
		json_t *o = find(cli, words[i], in->type, &why);

		if (o) {
			json_array_append_new(all, o);
		} else {
			cli_complain(&why);
			code = EXIT_MICROPOD;
		}
	}
	r = output_inspected(in->format, all, err);
	return r < 0 ? r : code;
}

const struct verb verb_inspect = {
	.name = "inspect",
	.remote = VERB_BY_SANDBOX,
	.usage = "[OPTIONS] SANDBOX|IMAGE...",
	.summary = "Print all that is known of sandboxes or images, as JSON",
	.opts = opts,
	.values_size = sizeof(struct inspect),
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run,
};
