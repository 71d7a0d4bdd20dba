/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine is asked to make: the container as the options say, and the agent in front of its
 * program. */
#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "driver/docker/host.h"
#include "oci/rlimit.h"
#include "shim/docker.h"

/* The agent's file */

static const struct arch {
	const char *name; /* as images have it */
	uint16_t machine;
	const char *file, *tls_file; /* below PREFIX/lib/micropod */
} arches[] = {
	{ "amd64", EM_X86_64, "agent", "micropod-agent-tls" },
	{ "arm64", EM_AARCH64, "agent-arm64", "micropod-agent-tls-arm64" },
};

static const struct arch *find_arch(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(arches); i++)
		if (strcmp(arches[i].name, name) == 0)
			return &arches[i];
	return NULL;
}

/* It has to be of the image's architecture, and to need nothing that is in the image. */
static int check_agent(const char *path, const struct arch *arch, struct err *err)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	Elf64_Ehdr head;
	Elf64_Phdr ph;

	if (fd < 0)
		return err_errno(err, errno, "cannot read the agent '%s'", path);
	if (pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
		memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
		head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB)
		return err_set(err, ENOEXEC, "the agent '%s' is no program of Linux", path);
	if (head.e_machine != arch->machine)
		return err_set(err, ENOEXEC,
			"the agent '%s' is not for %s, which the image is for: give another with "
			"--agent-binary",
			path, arch->name);
	for (unsigned i = 0; i < head.e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), (off_t)(head.e_phoff + i * sizeof(ph))) !=
			sizeof(ph))
			return err_set(err, ENOEXEC, "the agent '%s' is no program of Linux", path);
		if (ph.p_type == PT_INTERP)
			return err_set(err, ENOEXEC,
				"the agent '%s' is not static: the image may lack what it needs",
				path);
	}
	return 0;
}

int docker_agent_file(const struct sandbox_config *config, char **ret_path, struct err *err)
{
	const struct arch *arch = find_arch(config->image_arch);
	bool tls = config->agent_server && strncmp(config->agent_server, "https://", 8) == 0;
	int r = 0;

	if (!arch)
		return err_set(err, ENOTSUP, "there is no agent for images of architecture '%.20s'",
			config->image_arch ? config->image_arch : "");
	if (config->agent) {
		*ret_path = strdup(config->agent);
		if (!*ret_path)
			r = err_errno(err, ENOMEM, "cannot find the agent");
	} else {
		r = sandbox_program(tls ? arch->tls_file : arch->file, ret_path, err);
	}
	if (r == 0)
		r = check_agent(*ret_path, arch, err);
	return r;
}

/* Whether place is path or a folder above it. */
static bool covers(const char *place, size_t len, const char *path)
{
	while (len > 1 && place[len - 1] == '/')
		len--;
	return strncmp(place, path, len) == 0 &&
	       (path[len] == '/' || !path[len] || (len == 1 && *place == '/'));
}

bool docker_place_is_hidden(const struct sandbox_config *c)
{
	const char *path = c->agent_path;

	/* Or it is wanted there: that is quicker. */
	if (c->read_only || strcmp(path, DOCKER_TUNNEL_DIR "/" DOCKER_AGENT_NAME) == 0)
		return true;
	for (size_t i = 0; i < c->tmpfs.n; i++)
		if (covers(c->tmpfs.v[i], strcspn(c->tmpfs.v[i], ":"), path))
			return true;
	for (size_t i = 0; i < c->image_volumes.n; i++)
		if (covers(c->image_volumes.v[i], strlen(c->image_volumes.v[i]), path))
			return true;
	for (size_t i = 0; i + SANDBOX_VOLUME_WORDS <= c->volumes.n; i += SANDBOX_VOLUME_WORDS)
		if (covers(c->volumes.v[i + 1], strlen(c->volumes.v[i + 1]), path))
			return true;
	return false;
}

/* The archive */

static la_ssize_t on_archive(struct archive *a, void *arg, const void *data, size_t len)
{
	struct strbuf *out = arg;

	strbuf_add(out, data, len);
	return strbuf_error(out) < 0 ? -1 : (la_ssize_t)len;
}

static int add_entry(struct archive *a, const char *path, mode_t mode, const char *data, size_t len)
{
	struct archive_entry *e = archive_entry_new();
	int r;

	if (!e)
		return -ENOMEM;
	archive_entry_set_pathname(e, path);
	archive_entry_set_filetype(e, mode & S_IFMT);
	archive_entry_set_perm(e, mode & 07777);
	archive_entry_set_size(e, (la_int64_t)len);
	archive_entry_set_mtime(e, 0, 0);
	r = archive_write_header(a, e);
	if (r == ARCHIVE_OK && len && archive_write_data(a, data, len) != (la_ssize_t)len)
		r = ARCHIVE_FATAL;
	archive_entry_free(e);
	return r == ARCHIVE_OK ? 0 : -EIO;
}

int docker_agent_tar(const struct sandbox_config *config, const char *file, bool make_folder,
	struct strbuf *out, struct err *err)
{
	const char *name = config->agent_path + 1, *slash = strrchr(name, '/');
	auto_free char *data = NULL, *folder = NULL;
	struct archive *a;
	size_t len;
	int r = fs_read_file(AT_FDCWD, file, DOCKER_AGENT_MAX, &data, &len);

	if (r < 0)
		return err_errno(err, -r, "cannot read the agent '%s'", file);
	a = archive_write_new();
	if (!a)
		return err_errno(err, ENOMEM, "cannot pack the agent");
	archive_write_set_format_ustar(a);
	archive_write_set_bytes_per_block(a, 0);
	r = archive_write_open(a, out, NULL, on_archive, NULL) == ARCHIVE_OK ? 0 : -ENOMEM;
	if (r == 0 && make_folder && slash) {
		folder = strndup(name, (size_t)(slash - name));
		r = folder ? add_entry(a, folder, S_IFDIR | 01777, NULL, 0) : -ENOMEM;
	}
	if (r == 0)
		r = add_entry(a, name, S_IFREG | 0755, data, len);
	if (archive_write_close(a) != ARCHIVE_OK && r == 0)
		r = -EIO;
	archive_write_free(a);
	return r < 0 ? err_errno(err, -r, "cannot pack the agent") : 0;
}

/* The container */

/* NULL unless every string is UTF-8, which JSON is. */
static json_t *strings(const struct strv *sv)
{
	json_t *array = json_array();

	for (size_t i = 0; i < sv->n; i++) {
		if (json_array_append_new(array, json_string(sv->v[i])) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *entrypoint(const struct sandbox_config *c)
{
	json_t *array = json_array(), *words = strings(&c->args);

	if (!c->no_agent) {
		json_array_append_new(
			array, json_string(docker_place_is_hidden(c) ? DOCKER_TUNNEL_DIR
						   "/" DOCKER_AGENT_NAME
								     : c->agent_path));
		json_array_append_new(array, json_string("start"));
		json_array_append_new(array, json_string("--"));
	}

	if (!array || !words || json_array_extend(array, words) < 0) {
		json_decref(array);
		array = NULL;
	}
	json_decref(words);
	return array;
}

/* A server of the user's: we are the shim beside it then, where the container reaches us at all. */
static int add_server(json_t *array, const struct sandbox_config *c, struct err *err)
{
	auto_free char *token = NULL;
	int r = fs_read_file(AT_FDCWD, c->agent_token_file, LIMIT_TUNNEL_SECRET + 2, &token, NULL);

	if (r < 0)
		return err_errno(
			err, -r, "cannot read the agent's token '%s'", c->agent_token_file);
	token[strcspn(token, " \t\r\n")] = 0;
	json_array_append_new(array, json_sprintf("AGENT_SERVER_URL=%s", c->agent_server));
	r = json_array_append_new(array, json_sprintf("AGENT_TOKEN=%s", token));
	explicit_bzero(token, strlen(token));
	return r < 0 ? err_set(err, EILSEQ, "the agent's token is not text") : 0;
}

static json_t *environment(const struct shim *shim, const char *token, struct err *err)
{
	const struct sandbox_config *c = &shim->box.config;
	json_t *array = strings(&c->env);

	if (!array || c->no_agent)
		return array;
	if (c->agent_server && add_server(array, c, err) < 0) {
		json_decref(array);
		return NULL;
	}
	if (engine_is_local(c->engine)) {
		json_array_append_new(
			array, json_sprintf("%s=unix://" DOCKER_TUNNEL_DIR "/" DOCKER_TUNNEL_NAME,
				       c->agent_server ? "AGENT_SHIM_URL" : "AGENT_SERVER_URL"));
		json_array_append_new(array,
			json_sprintf("%s=%s", c->agent_server ? "AGENT_SHIM_TOKEN" : "AGENT_TOKEN",
				token));
	}
	if (shim->box.config.tty && shim->rows && shim->columns)
		json_array_append_new(
			array, json_sprintf("AGENT_WINDOW=%ux%u", shim->rows, shim->columns));
	return array;
}

static void add_ports(const struct sandbox_config *c, json_t *body, json_t *host)
{
	json_t *exposed = json_object(), *bindings = json_object();

	for (size_t i = 0; i < c->n_ports; i++) {
		const struct sandbox_port *p = &c->ports[i];
		json_t *list;
		char key[32];

		snprintf(key, sizeof(key), "%u/%s", p->guest, p->udp ? "udp" : "tcp");
		json_object_set_new(exposed, key, json_object());
		list = json_object_get(bindings, key);
		if (!list) {
			list = json_array();
			json_object_set_new(bindings, key, list);
		}
		json_array_append_new(
			list, json_pack("{s:s, s:o}", "HostIp", p->host_ip, "HostPort",
				      p->host ? json_sprintf("%u", p->host) : json_string("")));
	}
	json_object_set_new(body, "ExposedPorts", exposed);
	json_object_set_new(host, "PortBindings", bindings);
}

static json_t *binds(const struct sandbox_config *c, const char *folder)
{
	json_t *array = json_array();

	if (!c->no_agent && engine_is_local(c->engine))
		json_array_append_new(array, json_sprintf("%s:%s:ro", folder, DOCKER_TUNNEL_DIR));
	for (size_t i = 0; i + SANDBOX_VOLUME_WORDS <= c->volumes.n; i += SANDBOX_VOLUME_WORDS)
		if (*c->volumes.v[i] &&
			json_array_append_new(
				array, json_sprintf("%s:%s:%s", c->volumes.v[i],
					       c->volumes.v[i + 1], c->volumes.v[i + 2])) < 0) {
			json_decref(array);
			return NULL;
		}
	return array;
}

/* Those without a name: the engine gives them one, and removes them with the container. */
static json_t *anonymous(const struct sandbox_config *c)
{
	json_t *object = json_object();

	for (size_t i = 0; i + SANDBOX_VOLUME_WORDS <= c->volumes.n; i += SANDBOX_VOLUME_WORDS)
		if (!*c->volumes.v[i])
			json_object_set_new(object, c->volumes.v[i + 1], json_object());
	return object;
}

static json_t *tmpfs(const struct sandbox_config *c)
{
	json_t *object = json_object();

	for (size_t i = 0; i < c->tmpfs.n; i++) {
		const char *text = c->tmpfs.v[i], *colon = strchr(text, ':');
		auto_free char *dir = strndup(text, strcspn(text, ":"));

		if (dir)
			json_object_set_new(object, dir, json_string(colon ? colon + 1 : ""));
	}
	return object;
}

/* {"nofile": {"Soft": ..., "Hard": ...}}, as a list; -1: none. */
static json_t *ulimits(const struct sandbox_config *c)
{
	json_t *array = json_array();

	for (size_t i = 0; i < c->ulimits.n; i++) {
		struct err err = ERR_INIT;
		struct oci_rlimit limit;
		char name[32];

		if (oci_rlimit_parse(c->ulimits.v[i], &limit, &err) < 0)
			continue; /* looked at when the sandbox was made */
		snprintf(name, sizeof(name), "%s", oci_rlimit_name(limit.resource) + 7);
		for (char *p = name; *p; p++)
			*p = (char)tolower(*p);
		json_array_append_new(
			array, json_pack("{s:s, s:I, s:I}", "Name", name, "Soft",
				       (json_int_t)limit.soft, "Hard", (json_int_t)limit.hard));
	}
	return array;
}

static json_t *pairs(const struct strv *sv)
{
	json_t *object = json_object();

	for (size_t i = 0; i < sv->n; i++) {
		const char *equals = strchr(sv->v[i], '=');
		auto_free char *key = strndup(sv->v[i], strcspn(sv->v[i], "="));

		if (key && json_object_set_new(object, key, json_string(equals ? equals + 1 : "")) <
				   0) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

static json_t *security(const struct sandbox_config *c)
{
	json_t *array = json_array();

	if (c->no_new_privileges)
		json_array_append_new(array, json_string("no-new-privileges"));
	if (c->seccomp &&
		json_array_append_new(array, json_sprintf("seccomp=%s", c->seccomp)) < 0) {
		json_decref(array);
		return NULL;
	}
	return array;
}

static json_t *devices(const struct sandbox_config *c)
{
	json_t *array = json_array();

	for (size_t i = 0; i < c->devices.n; i++) {
		auto_free char *text = strdup(c->devices.v[i]);
		char *target = NULL, *access = NULL;

		if (text)
			sandbox_device_split(text, &target, &access);
		json_array_append_new(array, json_pack("{s:s, s:s, s:s}", "PathOnHost",
						     text ? text : "", "PathInContainer",
						     target ? target
						     : text ? text
							    : "",
						     "CgroupPermissions", access ? access : "rwm"));
	}
	return array;
}

/* Left out where nothing was asked for: the engine has defaults of its own. */
static void set_strings(json_t *host, const char *key, const struct strv *sv)
{
	if (sv->n)
		json_object_set_new(host, key, strings(sv));
}

static void set_number(json_t *host, const char *key, int64_t value)
{
	if (value)
		json_object_set_new(host, key, json_integer((json_int_t)value));
}

static void add_rights(const struct sandbox_config *c, json_t *host)
{
	set_strings(host, "CapAdd", &c->cap_add);
	set_strings(host, "CapDrop", &c->cap_drop);
	set_strings(host, "GroupAdd", &c->groups);
	set_strings(host, "ExtraHosts", &c->extra_hosts);
	set_strings(host, "Dns", &c->dns);
	set_strings(host, "DnsSearch", &c->dns_search);
	set_strings(host, "DnsOptions", &c->dns_options);
	json_object_set_new(host, "Privileged", json_boolean(c->privileged));
	json_object_set_new(host, "SecurityOpt", security(c));
	json_object_set_new(host, "Sysctls", pairs(&c->sysctls));
	json_object_set_new(host, "Devices", devices(c));
}

static void add_limits(const struct sandbox_config *c, json_t *host)
{
	set_number(host, "MemorySwap", c->memory_swap);
	set_number(host, "PidsLimit", c->pids_limit);
	set_number(host, "CpuShares", (int64_t)c->cpu_shares);
	set_number(host, "ShmSize", (int64_t)c->shm_bytes);
	set_number(host, "OomScoreAdj", c->oom_score_adj);
	if (c->cpuset)
		json_object_set_new(host, "CpusetCpus", json_string(c->cpuset));
	json_object_set_new(host, "Ulimits", ulimits(c));
}

static json_t *labels(const struct sandbox_config *c)
{
	json_t *object = pairs(&c->labels);

	json_object_set_new(object, DOCKER_LABEL, json_string(c->id));
	return object;
}

/* The engine's own log, of which ours is made. */
static void add_log(const struct sandbox_config *c, json_t *host)
{
	json_t *options;

	if (!c->log_driver && !c->log_bytes && !c->log_files)
		return;
	options = json_object();
	if (c->log_bytes)
		json_object_set_new(options, "max-size",
			json_sprintf("%llu", (unsigned long long)c->log_bytes));
	if (c->log_files)
		json_object_set_new(options, "max-file",
			json_sprintf("%llu", (unsigned long long)c->log_files));
	json_object_set_new(host, "LogConfig",
		json_pack("{s:s, s:o}", "Type", c->log_driver ? c->log_driver : "json-file",
			"Config", options));
}

static json_t *host_config(const struct sandbox_config *c, const char *folder, json_t *body)
{
	json_t *host = json_object();

	json_object_set_new(host, "Binds", binds(c, folder));
	json_object_set_new(host, "Tmpfs", tmpfs(c));
	json_object_set_new(host, "ReadonlyRootfs", json_boolean(c->read_only));
	json_object_set_new(host, "Init", json_boolean(c->init));
	json_object_set_new(host, "RestartPolicy", json_pack("{s:s}", "Name", "no"));
	if (c->memory)
		json_object_set_new(host, "Memory", json_integer((json_int_t)c->memory));
	if (c->cpu_milli)
		json_object_set_new(
			host, "NanoCpus", json_integer((json_int_t)(c->cpu_milli * 1000000)));
	if (c->no_network || c->network)
		json_object_set_new(
			host, "NetworkMode", json_string(c->no_network ? "none" : c->network));
	add_log(c, host);
	json_object_set_new(host, "PublishAllPorts", json_boolean(c->publish_all));
	add_rights(c, host);
	add_limits(c, host);
	add_ports(c, body, host);
	return host;
}

const char *docker_is_ours(const json_t *inspected, const struct sandbox_config *c)
{
	const json_t *labels = json_object_get(json_object_get(inspected, "Config"), "Labels");
	const char *label = json_string_value(json_object_get(labels, DOCKER_LABEL));
	const char *id = json_string_value(json_object_get(inspected, "Id"));

	return label && id && strlen(id) <= LIMIT_ID && strcmp(label, c->id) == 0 ? id : NULL;
}

/* What it is on its network. */
static json_t *endpoint(const struct sandbox_config *c)
{
	json_t *o = json_pack("{s:o}", "Aliases", strings(&c->aliases));

	if (c->ip)
		json_object_set_new(o, "IPAMConfig", json_pack("{s:s}", "IPv4Address", c->ip));
	return json_pack("{s:{s:o}}", "EndpointsConfig", c->network, o);
}

json_t *docker_container(
	const struct shim *shim, const char *folder, const char *token, struct err *err)
{
	const struct sandbox_config *c = &shim->box.config;
	json_t *body = json_object(), *args = entrypoint(c), *env = environment(shim, token, err);
	int r = args && env ? 0 : -1;

	if (r == 0 && c->image)
		r = json_object_set_new(body, "Image", json_string(c->image));
	json_object_set_new(body, "Cmd", json_null());
	json_object_set(body, "Entrypoint", args);
	json_object_set(body, "Env", env);
	json_decref(args);
	json_decref(env);
	if (r == 0 && c->cwd)
		r = json_object_set_new(body, "WorkingDir", json_string(c->cwd));
	if (r == 0 && c->user)
		r = json_object_set_new(body, "User", json_string(c->user));
	if (r == 0 && c->hostname)
		r = json_object_set_new(body, "Hostname", json_string(c->hostname));
	if (r == 0 && c->stop_signal)
		r = json_object_set_new(body, "StopSignal", json_string(c->stop_signal));
	/* We look ourselves, the same way for every kind of sandbox. */
	if (!c->no_agent)
		json_object_set_new(body, "Healthcheck", json_pack("{s:[s]}", "Test", "NONE"));
	json_object_set_new(body, "Tty", json_boolean(c->tty));
	json_object_set_new(body, "OpenStdin", json_boolean(c->open_stdin));
	if (r == 0)
		r = json_object_set_new(body, "Labels", labels(c));
	if (r == 0)
		r = json_object_set_new(body, "Volumes", anonymous(c));
	if (r == 0 && c->own_mac)
		r = json_object_set_new(body, "MacAddress",
			json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", c->mac[0], c->mac[1],
				c->mac[2], c->mac[3], c->mac[4], c->mac[5]));
	if (docker_network_is_named(c) && (c->ip || c->aliases.n))
		json_object_set_new(body, "NetworkingConfig", endpoint(c));
	json_object_set_new(body, "HostConfig", host_config(c, folder, body));
	if (r < 0) {
		json_decref(body);
		if (!err->code)
			err_set(err, EILSEQ,
				"a word of the command, its environment, folder or user is not "
				"UTF-8, "
				"which the engine wants");
		return NULL;
	}
	return body;
}
