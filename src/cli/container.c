/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/container.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/parse.h"
#include "cli/ports.h"
#include "oci/caps.h"
#include "oci/profile.h"
#include "oci/rlimit.h"

#define CPU_PERIOD 100000 /* microseconds */
#define CPUSET_MAX 1024	  /* CPUs that can be named */

static int no_memory(struct err *err)
{
	return err_errno(err, ENOMEM, "cannot keep the options");
}

static int keep(char **field, const char *value, struct err *err)
{
	*field = strdup(value);
	return *field ? 0 : no_memory(err);
}

static int keep_all(struct strv *field, const struct strv *words, struct err *err)
{
	return strv_addv(field, (const char *const *)words->v) < 0 ? no_memory(err) : 0;
}

/* Limits */

static int set_memory_swap(
	const struct run_opts *o, struct sandbox_config *c, uint64_t memory, struct err *err)
{
	uint64_t bytes;

	if (!o->memory_swap)
		return 0;
	if (strcmp(o->memory_swap, "-1") == 0) {
		c->memory_swap = -1;
		return 0;
	}
	if (parse_size(o->memory_swap, &bytes) < 0 || bytes > INT64_MAX)
		return err_set(err, EINVAL,
			"option '--memory-swap' is '%.100s': give a size, such as 1g, or -1",
			o->memory_swap);
	if (!memory)
		return err_set(err, EINVAL, "option '--memory-swap' needs '--memory'");
	if (bytes && bytes < memory)
		return err_set(err, EINVAL,
			"option '--memory-swap' is '%.100s': it holds memory and swap, so give "
			"more than '--memory'",
			o->memory_swap);
	c->memory_swap = (int64_t)bytes;
	return 0;
}

static int set_pids(const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	if (!o->pids_limit)
		return 0;
	if (parse_i64(o->pids_limit, -1, INT32_MAX, &c->pids_limit) < 0)
		return err_set(err, EINVAL,
			"option '--pids-limit' is '%.100s': give a number, or -1 for no limit",
			o->pids_limit);
	if (!c->pids_limit)
		c->pids_limit = -1; /* Docker's other word for it */
	return 0;
}

/* "0-2,7" (cpuset(7)): the highest, or -EINVAL. */
static int highest_cpu(const char *text)
{
	auto_free char *copy = strdup(text);
	char *save = NULL, *part = copy ? strtok_r(copy, ",", &save) : NULL;
	unsigned highest = 0;

	if (!part || text[0] == ',' || strstr(text, ",,") || text[strlen(text) - 1] == ',')
		return -EINVAL;
	for (; part; part = strtok_r(NULL, ",", &save)) {
		char *dash = strchr(part, '-');
		unsigned from, to;

		if (dash)
			*dash++ = 0;
		if (parse_uint(part, 0, CPUSET_MAX, &from) < 0 ||
			parse_uint(dash ? dash : part, from, CPUSET_MAX, &to) < 0)
			return -EINVAL;
		highest = MAX(highest, to);
	}
	return (int)highest;
}

static int set_cpus(
	struct cli *cli, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	struct settings *s = &cli->settings;
	int highest;

	if (o->cpu_quota && s->cpu_milli)
		return err_set(err, EINVAL,
			"options '--cpu-quota' and '--cpus' say the same: leave one of them out");
	if (o->cpu_period && !o->cpu_quota)
		return err_set(err, EINVAL, "option '--cpu-period' needs '--cpu-quota'");
	if (o->cpu_quota) {
		s->cpu_milli = (uint64_t)o->cpu_quota * 1000 /
			       (o->cpu_period ? o->cpu_period : CPU_PERIOD);
		s->cpu_milli = MAX(s->cpu_milli, 10);
	}
	c->cpu_shares = o->cpu_shares;
	if (!o->cpuset)
		return 0;
	highest = highest_cpu(o->cpuset);
	if (highest < 0)
		return err_set(err, EINVAL,
			"option '--cpuset-cpus' is '%.100s': give numbers, such as 0-1,3",
			o->cpuset);
	return keep(&c->cpuset, o->cpuset, err);
}

int container_check_cpus(const struct sandbox_config *c, unsigned cpus, struct err *err)
{
	int highest = c->cpuset ? highest_cpu(c->cpuset) : 0;

	if (highest >= (int)cpus)
		return err_set(err, EINVAL,
			"option '--cpuset-cpus' names CPU %d: the sandbox has %u (--cpus)", highest,
			cpus);
	return 0;
}

static int set_ulimits(const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	struct oci_rlimit limit;
	int r = 0;

	if (o->ulimits.n > OCI_RLIMIT_MAX)
		return err_set(err, E2BIG, "option '--ulimit': there are %d limits in all",
			OCI_RLIMIT_MAX);
	for (size_t i = 0; r == 0 && i < o->ulimits.n; i++)
		r = oci_rlimit_parse(o->ulimits.v[i], &limit, err);
	return r < 0 ? err_wrap(err, "option '--ulimit'") : keep_all(&c->ulimits, &o->ulimits, err);
}

int container_set_restart(const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	static const char *const policies[] = { "on-failure", "always", "unless-stopped" };
	const char *word = o->restart, *colon = word ? strchr(word, ':') : NULL;
	size_t len = colon ? (size_t)(colon - word) : word ? strlen(word) : 0;
	unsigned times = 0;
	size_t i = 0;

	if (!word || strcmp(word, "no") == 0)
		return 0;
	while (i < ARRAY_SIZE(policies) &&
		(strlen(policies[i]) != len || strncmp(policies[i], word, len) != 0))
		i++;
	if (i == ARRAY_SIZE(policies) ||
		(colon && (i > 0 || parse_uint(colon + 1, 0, INT32_MAX, &times) < 0)))
		return err_set(err, EINVAL,
			"option '--restart' is '%.100s': give no, on-failure, on-failure:TIMES, "
			"always or unless-stopped",
			word);
	if (o->remove)
		return err_set(
			err, EINVAL, "options '--restart' and '--rm' are not for the same sandbox");
	c->restart_max = times;
	c->restart = strdup(policies[i]);
	return c->restart ? 0 : err_errno(err, ENOMEM, "cannot keep the options");
}

int container_set_limits(
	struct cli *cli, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	int r = set_memory_swap(o, c, cli->settings.memory, err);

	if (r == 0)
		r = set_pids(o, c, err);
	return r < 0 ? r : set_cpus(cli, o, c, err);
}

/* Rights */

/* As "CAP_CHOWN", or "ALL". */
static int add_caps(const struct strv *words, const char *option, struct strv *out, struct err *err)
{
	for (size_t i = 0; i < words->n; i++) {
		const char *word = words->v[i];
		unsigned cap;
		int r;

		if (strcasecmp(word, "ALL") == 0 || strcasecmp(word, "CAP_ALL") == 0)
			r = strv_add(out, "ALL");
		else if (oci_cap_parse(word, &cap) == 0)
			r = strv_add(out, oci_cap_name(cap));
		else
			return err_set(err, EINVAL,
				"option '--%s' is '%.100s': there is no such capability "
				"(capabilities(7))",
				option, word);
		if (r < 0)
			return no_memory(err);
	}
	return 0;
}

/* A file, or the profile itself, which is how it comes from another host. */
static int read_profile(const char *value, char **ret_text, struct err *err)
{
	int r;

	if (value[0] == '{')
		return keep(ret_text, value, err);
	r = fs_read_file(AT_FDCWD, value, LIMIT_SECCOMP_PROFILE, ret_text, NULL);
	return r < 0 ? err_errno(err, -r, "cannot read the seccomp profile '%.200s'", value) : 0;
}

/* KEY=VALUE or KEY:VALUE. */
static const char *security_value(const char *word, const char *key)
{
	size_t len = strlen(key);

	return strncmp(word, key, len) == 0 && (word[len] == '=' || word[len] == ':')
		       ? word + len + 1
		       : NULL;
}

/* Those that switch off what a VM's guest does not have are no more than true there. */
static bool is_idle(const char *word)
{
	return strcmp(word, "apparmor=unconfined") == 0 || strcmp(word, "label=disable") == 0 ||
	       strcmp(word, "label:disable") == 0 || strcmp(word, "apparmor:unconfined") == 0;
}

static int set_security(const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->security.n; i++) {
		const char *word = o->security.v[i], *value;

		if (strcmp(word, "no-new-privileges") == 0) {
			c->no_new_privileges = true;
		} else if ((value = security_value(word, "no-new-privileges"))) {
			if (parse_bool(value, &c->no_new_privileges) < 0)
				r = err_set(err, EINVAL,
					"option '--security-opt' is '%.100s': give true or false",
					word);
		} else if ((value = security_value(word, "seccomp"))) {
			free(c->seccomp);
			c->seccomp = NULL;
			r = strcmp(value, "unconfined") == 0
				    ? keep(&c->seccomp, value, err)
				    : read_profile(value, &c->seccomp, err);
		} else if (!is_idle(word)) {
			r = err_set(err, EINVAL,
				"option '--security-opt' is '%.100s': give no-new-privileges, "
				"seccomp=FILE or seccomp=unconfined",
				word);
		}
	}
	return r;
}

/* The agent has the filter for the default capabilities itself. */
static int compile_filter(struct sandbox_config *c, struct err *err)
{
	bool own = c->seccomp && strcmp(c->seccomp, "unconfined") != 0;
	const char *bad;
	uint64_t caps;

	if (c->privileged || (c->seccomp && !own))
		return 0;
	/* They have been looked at. */
	if (oci_caps_tweak(&c->cap_add, &c->cap_drop, &caps, &bad) < 0)
		return err_set(err, EINVAL, "there is no capability '%.100s'", bad);
	if (!own && !oci_profile_differs(caps))
		return 0;
	return oci_profile_compile(own ? c->seccomp : NULL, own ? strlen(c->seccomp) : 0, caps,
		&c->seccomp_filter, err);
}

/* Words */

static int add_pairs(
	const struct strv *words, const char *option, struct strv *out, struct err *err)
{
	for (size_t i = 0; i < words->n; i++)
		if (!strchr(words->v[i], '=') || words->v[i][0] == '=')
			return err_set(err, EINVAL, "option '--%s' is '%.100s': give KEY=VALUE",
				option, words->v[i]);
	return keep_all(out, words, err);
}

static int add_label_file(struct strv *labels, const char *path, struct err *err)
{
	auto_free char *text = NULL;
	size_t len;
	char *line, *rest;
	int r = fs_read_file(AT_FDCWD, path, LIMIT_ENV_FILE, &text, &len);

	if (r < 0)
		return err_errno(err, -r, "cannot read label file '%.200s'", path);
	if (memchr(text, 0, len))
		return err_set(err, EINVAL, "label file '%.200s' holds a zero byte", path);
	rest = text;
	while (r == 0 && (line = strsep(&rest, "\n"))) {
		line += strspn(line, " \t");
		line[strcspn(line, "\r")] = 0;
		if (*line && *line != '#')
			r = strv_add(labels, line);
	}
	return r < 0 ? no_memory(err) : 0;
}

static int read_labels(const struct run_opts *o, struct strv *labels, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->label_files.n; i++)
		r = add_label_file(labels, o->label_files.v[i], err);
	return r < 0 ? r : keep_all(labels, &o->labels, err);
}

/* A label may have no value. */
static int set_labels(const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	auto_strv struct strv labels = STRV_INIT;
	int r = read_labels(o, &labels, err);

	for (size_t i = 0; r == 0 && i < labels.n; i++) {
		const char *label = labels.v[i];

		if (!*label || *label == '=' || strlen(label) > LIMIT_LABEL_BYTES)
			return err_set(err, EINVAL,
				"option '--label' is '%.100s': give KEY=VALUE, of at most %zu "
				"bytes",
				label, (size_t)LIMIT_LABEL_BYTES);
		r = strchr(label, '=') ? strv_setenv(&c->labels, label)
				       : strv_addf(&c->labels, "%s=", label);
		if (r < 0)
			return no_memory(err);
	}
	return r;
}

static bool is_address(const char *text)
{
	unsigned char address[16];

	return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

static int set_names(
	struct cli *cli, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	bool docker = cli->settings.driver == SETTINGS_DRIVER_DOCKER;

	for (size_t i = 0; i < o->extra_hosts.n; i++) {
		const char *word = o->extra_hosts.v[i], *sep = word + strcspn(word, ":=");
		const char *address = *sep ? sep + 1 : "";
		bool gateway = strcmp(address, "host-gateway") == 0;

		if (sep == word || (!is_address(address) && !gateway) ||
			strcspn(word, " \t\n") < strlen(word))
			return err_set(err, EINVAL,
				"option '--add-host' is '%.100s': give NAME:ADDRESS", word);
		if (gateway && !docker && !c->host_access)
			return err_set(err, EINVAL,
				"option '--add-host' is '%.100s': this host is reached with "
				"'--host-access' only",
				word);
		if (strv_addf(&c->extra_hosts, "%.*s:%s", (int)(sep - word), word, address) < 0)
			return no_memory(err);
	}
	for (size_t i = 0; i < o->dns.n; i++)
		if (!is_address(o->dns.v[i]))
			return err_set(err, EINVAL,
				"option '--dns' is '%.100s': give the address of a name server",
				o->dns.v[i]);
	if (keep_all(&c->dns, &o->dns, err) < 0 ||
		keep_all(&c->dns_search, &o->dns_search, err) < 0)
		return -ENOMEM;
	return keep_all(&c->dns_options, &o->dns_options, err);
}

static int set_mac(const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	uint8_t mac[6];
	int n = 0;

	if (!o->mac_address)
		return 0;
	if (sscanf(o->mac_address, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1],
		    &mac[2], &mac[3], &mac[4], &mac[5], &n) != 6 ||
		o->mac_address[n] || mac[0] & 1)
		return err_set(err, EINVAL,
			"option '--mac-address' is '%.100s': give that of one card, such as "
			"02:00:00:00:00:01",
			o->mac_address);
	memcpy(c->mac, mac, sizeof(mac));
	c->own_mac = true;
	return 0;
}

/* Without an address or a port of the host; what a number is wrong with is told as for -p. */
static int check_exposed(const struct run_opts *o, struct err *err)
{
	struct port_list list = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->exposed.n; i++) {
		struct err ignored = ERR_INIT;

		if (strchr(o->exposed.v[i], ':') ||
			ports_parse(o->exposed.v[i], &list, &ignored) < 0)
			r = err_set(err, EINVAL,
				"option '--expose' is '%.100s': give ports of the container, such "
				"as 80, 53/udp or 8000-8002",
				o->exposed.v[i]);
	}
	free(list.v);
	return r;
}

static int set_places(const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	for (size_t i = 0; i < o->tmpfs.n; i++)
		if (o->tmpfs.v[i][0] != '/' || o->tmpfs.v[i][1] == ':' || !o->tmpfs.v[i][1])
			return err_set(err, EINVAL,
				"option '--tmpfs' is '%.100s': give an absolute path first",
				o->tmpfs.v[i]);
	for (size_t i = 0; i < o->devices.n; i++)
		if (o->devices.v[i][0] != '/')
			return err_set(err, EINVAL,
				"option '--device' is '%.100s': give an absolute path first",
				o->devices.v[i]);
	if (o->devices.n > LIMIT_DEVICES)
		return err_set(err, E2BIG, "option '--device': give %d at most", LIMIT_DEVICES);
	if (keep_all(&c->tmpfs, &o->tmpfs, err) < 0)
		return -ENOMEM;
	return keep_all(&c->devices, &o->devices, err);
}

/* A check that takes no time would be all that the container does. */
static int check_health(const struct run_opts *o, struct err *err)
{
	const int64_t times[] = { o->health_interval, o->health_timeout, o->health_start_period,
		o->health_start_interval };

	if (o->no_healthcheck && o->health_cmd)
		return err_set(err, EINVAL,
			"options '--no-healthcheck' and '--health-cmd' contradict each other");
	if (o->health_cmd && !*o->health_cmd)
		return err_set(err, EINVAL, "option '--health-cmd' is empty: give a command");
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		if (times[i] && (times[i] < NSEC_PER_MSEC || times[i] > LIMIT_LIFETIME))
			return err_set(err, EINVAL,
				"options '--health-...': give times from 1ms on, of ten years at "
				"most");
	return 0;
}

static int set_log(const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	for (size_t i = 0; i < o->log_opts.n; i++) {
		const char *word = o->log_opts.v[i];
		unsigned files;

		if (strncmp(word, "max-size=", 9) == 0 &&
			parse_size(word + 9, &c->log_bytes) == 0 && c->log_bytes >= 4 * KIB)
			continue;
		if (strncmp(word, "max-file=", 9) == 0 &&
			parse_uint(word + 9, 1, LIMIT_LOG_FILES, &files) == 0) {
			c->log_files = files;
			continue;
		}
		return err_set(err, EINVAL,
			"option '--log-opt' is '%.100s': give max-size=SIZE, of 4k or more, or "
			"max-file=N, of 1 to %d",
			word, LIMIT_LOG_FILES);
	}
	if (o->log_driver && !(c->log_driver = strdup(run_log_drivers[o->log_driver])))
		return err_errno(err, ENOMEM, "cannot make the sandbox");
	return 0;
}

static int set_oom_score(const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	if (!o->oom_score_adj || parse_i64(o->oom_score_adj, -1000, 1000, &c->oom_score_adj) == 0)
		return 0;
	return err_set(err, EINVAL, "option '--oom-score-adj' is '%.100s': give -1000 to 1000",
		o->oom_score_adj);
}

int container_set(
	struct cli *cli, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	bool docker = cli->settings.driver == SETTINGS_DRIVER_DOCKER;
	int r;

	c->read_only = o->read_only;
	c->init = o->init;
	c->privileged = o->privileged;
	c->publish_all = o->publish_all;
	c->shm_bytes = o->shm_bytes;
	r = check_health(o, err);
	if (r == 0)
		r = set_log(o, c, err);
	if (r == 0)
		r = set_oom_score(o, c, err);
	if (r == 0)
		r = check_exposed(o, err);
	if (r == 0)
		r = container_set_limits(cli, o, c, err);
	if (r == 0)
		r = set_ulimits(o, c, err);
	if (r == 0)
		r = add_caps(&o->cap_add, "cap-add", &c->cap_add, err);
	if (r == 0)
		r = add_caps(&o->cap_drop, "cap-drop", &c->cap_drop, err);
	if (r == 0)
		r = set_security(o, c, err);
	if (r == 0 && !docker)
		r = compile_filter(c, err);
	if (r == 0)
		r = add_pairs(&o->sysctls, "sysctl", &c->sysctls, err);
	if (r == 0)
		r = keep_all(&c->groups, &o->groups, err);
	if (r == 0)
		r = set_names(cli, o, c, err);
	if (r == 0)
		r = set_mac(o, c, err);
	if (r == 0)
		r = set_places(o, c, err);
	return r < 0 ? r : set_labels(o, c, err);
}

/* The image's, with what the options say over it, as Docker has it. */
static int set_health(const struct run_opts *o, const struct image_healthcheck *image,
	struct sandbox_config *c, struct err *err)
{
	int r = 0;

	if (o->no_healthcheck ||
		(!o->health_cmd && (!image->test.n || strcmp(image->test.v[0], "NONE") == 0)))
		return 0;
	if (o->health_cmd) {
		r = strv_add(&c->health_test, "CMD-SHELL");
		if (r == 0)
			r = strv_add(&c->health_test, o->health_cmd);
	} else if (image->test.n > 1) {
		r = strv_addv(&c->health_test, (const char *const *)image->test.v);
	}
	if (r < 0)
		return no_memory(err);
	c->health_interval_ns = o->health_interval ? o->health_interval : image->interval_ns;
	c->health_timeout_ns = o->health_timeout ? o->health_timeout : image->timeout_ns;
	c->health_start_period_ns =
		o->health_start_period ? o->health_start_period : image->start_period_ns;
	c->health_start_interval_ns = o->health_start_interval;
	c->health_retries = o->health_retries ? o->health_retries : image->retries;
	return 0;
}

int container_set_image(const struct run_opts *o, const struct image_config *image,
	struct sandbox_config *c, struct err *err)
{
	auto_strv struct strv labels = STRV_INIT;
	struct port_list ports = { .v = c->ports, .n = c->n_ports };
	int r = 0;

	if (keep_all(&labels, &image->labels, err) < 0)
		return -ENOMEM;
	/* Those of the command line count more. */
	for (size_t i = 0; i < c->labels.n; i++)
		if (strv_setenv(&labels, c->labels.v[i]) < 0)
			return no_memory(err);
	strv_deinit(&c->labels);
	c->labels = labels;
	labels = STRV_INIT;
	r = set_health(o, &image->healthcheck, c, err);
	if (r < 0)
		return r;
	if (!o->publish_all)
		return 0;
	if (c->no_network && c->engine)
		return err_set(err, EINVAL,
			"option '--publish-all' needs a network: leave '--network none' out");
	/* An engine does it for those of the image. */
	for (size_t i = 0; r == 0 && !c->engine && i < image->exposed_ports.n; i++)
		r = ports_parse(image->exposed_ports.v[i], &ports, err);
	for (size_t i = 0; r == 0 && i < o->exposed.n; i++)
		r = ports_parse(o->exposed.v[i], &ports, err);
	c->ports = ports.v;
	c->n_ports = ports.n;
	return r;
}

int container_for_host(
	const struct run_opts *o, struct strv *labels, struct strv *security, struct err *err)
{
	int r = read_labels(o, labels, err);

	for (size_t i = 0; r == 0 && i < o->security.n; i++) {
		const char *word = o->security.v[i], *value = security_value(word, "seccomp");
		auto_free char *text = NULL;

		if (!value || strcmp(value, "unconfined") == 0) {
			r = strv_add(security, word) < 0 ? no_memory(err) : 0;
			continue;
		}
		r = read_profile(value, &text, err);
		if (r == 0 && strv_addf(security, "seccomp=%s", text) < 0)
			r = no_memory(err);
	}
	return r;
}
