/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/settings.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/cleanup.h"
#include "base/fs.h"

static const char *const accel_words[] = {
	[VM_ACCEL_AUTO] = "auto", [VM_ACCEL_TCG] = "tcg", [VM_ACCEL_KVM] = "kvm", NULL
};
static_assert(ARRAY_SIZE(accel_words) == VM_ACCEL_MAX + 1, "a word for each accelerator");

static const char *const driver_words[] = {
	[SETTINGS_DRIVER_VM] = "vm", [SETTINGS_DRIVER_DOCKER] = "docker", NULL
};
static_assert(ARRAY_SIZE(driver_words) == SETTINGS_DRIVER_MAX + 1, "a word for each driver");

#define AT(field) offsetof(struct settings, field)
const struct opt settings_opts[] = {
	{ "builder", 0, OPT_STRING, AT(builder), "IMAGE", "image that micropod build builds in" },
	{ "cloud-hypervisor", 0, OPT_STRING, AT(cloud_hypervisor), "FILE",
		"the Cloud Hypervisor to use" },
	{ "firecracker", 0, OPT_STRING, AT(firecracker), "FILE", "the Firecracker to use" },
	{ "accel", 0, OPT_WORD, AT(accel), "WHICH", "what runs the guest's code",
		.words = accel_words },
	{ "agent-rootfs", 0, OPT_STRING, AT(agent_rootfs), "FILE",
		"boot from this disk image with the agent as /sbin/init" },
	{ "cpus", 0, OPT_MILLI, AT(cpu_milli), "N",
		"CPUs, such as 0.5 or 2 (default: 2, or as many as the host has)" },
	{ "driver", 0, OPT_WORD, AT(driver), "WHICH",
		"what runs a sandbox: a VM, or a container of a Docker Engine",
		.words = driver_words },
	{ "enable-virtio-fs", 0, OPT_FLAG, AT(enable_virtio_fs), NULL,
		"whether folders of this host can be shown in sandboxes (default: true)" },
	{ "enable-vsock", 0, OPT_FLAG, AT(enable_vsock), NULL,
		"whether a VM's agent is joined over vsock instead of virtio-serial (default: "
		"false)" },
	{ "kernel", 0, OPT_STRING, AT(kernel), "WHICH",
		"kernel of the guest: small, cloud, or a file (default: small if it was built)" },
	{ "memory", 'm', OPT_SIZE, AT(memory), "SIZE",
		"memory of the sandbox, such as 512m (default: 1g)" },
	{ "template-limit", 0, OPT_SIZE, AT(template_limit), "SIZE",
		"room for templates, which starts go on from (default: 4g)" },
	{ "vmm", 0, OPT_STRING, AT(vmm), "WHICH",
		"what runs VMs: qemu, firecracker, cloud-hypervisor, or a file, the QEMU to use "
		"(default: qemu)" },
	{ NULL },
};

static_assert(ARRAY_SIZE(settings_opts) <= SETTINGS_ROWS_MAX, "a place for each row");

const struct settings settings_defaults = { .enable_virtio_fs = true };

void settings_deinit(struct settings *settings)
{
	strv_deinit(&settings->owned);
}

/* "agent-rootfs" as "agent_rootfs" or "AGENT_ROOTFS". */
void settings_spell(const char *name, bool upper, char *out, size_t size)
{
	size_t i;

	for (i = 0; name[i] && i < size - 1; i++)
		out[i] = name[i] == '-' ? '_'
					: (char)(upper ? toupper((unsigned char)name[i]) : name[i]);
	out[i] = 0;
}

static const struct opt *find_key(const char *key)
{
	char word[64];

	for (const struct opt *o = settings_opts; o->name; o++) {
		settings_spell(o->name, false, word, sizeof(word));
		if (strcmp(word, key) == 0)
			return o;
	}
	return NULL;
}

static int unknown_key(const char *path, size_t line, const char *key, struct err *err)
{
	char list[256] = "", word[64];
	size_t len = 0;

	for (const struct opt *o = settings_opts; o->name && len < sizeof(list); o++) {
		settings_spell(o->name, false, word, sizeof(word));
		len += (size_t)snprintf(
			list + len, sizeof(list) - len, "%s%s", len ? ", " : "", word);
	}
	return err_set(err, EINVAL, "%s:%zu: unknown key '%.100s': the keys are %s", path, line,
		key, list);
}

struct reader {
	struct settings *settings;
	const char *path;
	yaml_parser_t parser;
	yaml_event_t event;
	bool have_event;
	uint32_t seen; /* bit per row of the table */
};

static int next_event(struct reader *r, struct err *err)
{
	if (r->have_event)
		yaml_event_delete(&r->event);
	r->have_event = yaml_parser_parse(&r->parser, &r->event);
	if (r->have_event)
		return 0;
	return err_set(err, EINVAL, "%s:%zu: not valid YAML: %s", r->path,
		r->parser.problem_mark.line + 1,
		r->parser.problem ? r->parser.problem : "cannot be read");
}

static int expect(struct reader *r, yaml_event_type_t type, const char *what, struct err *err)
{
	int rc = next_event(r, err);

	if (rc < 0 || r->event.type == type)
		return rc;
	return err_set(
		err, EINVAL, "%s:%zu: %s expected", r->path, r->event.start_mark.line + 1, what);
}

static int note_origin(struct settings *s, const struct opt *opt, struct err *err, const char *fmt,
	...) PRINTF(4, 5);
static int note_origin(
	struct settings *s, const struct opt *opt, struct err *err, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (strv_add(&s->owned, text) < 0)
		return err_errno(err, ENOMEM, "cannot read the settings");
	s->from[opt - settings_opts] = s->owned.v[s->owned.n - 1];
	return 0;
}

static int take_value(struct reader *r, const struct opt *opt, const char *key, struct err *err)
{
	char what[512];
	const char *value;
	size_t line;
	int rc = expect(r, YAML_SCALAR_EVENT, "one word as the key's value", err);

	if (rc < 0)
		return rc;
	line = r->event.start_mark.line + 1;
	value = (const char *)r->event.data.scalar.value;
	if (strlen(value) != r->event.data.scalar.length || !*value)
		return err_set(err, EINVAL, "%s:%zu: key '%s' has no value", r->path, line, key);
	if (strv_add(&r->settings->owned, value) < 0)
		return err_errno(err, ENOMEM, "cannot read '%s'", r->path);
	snprintf(what, sizeof(what), "%s:%zu: key '%s'", r->path, line, key);
	rc = opt_store(opt, r->settings, what, r->settings->owned.v[r->settings->owned.n - 1], err);
	return rc < 0 ? rc : note_origin(r->settings, opt, err, "%s:%zu", r->path, line);
}

/* Keys and values up to the end of the mapping. */
static int take_keys(struct reader *r, struct err *err)
{
	int rc;

	while ((rc = next_event(r, err)) == 0 && r->event.type == YAML_SCALAR_EVENT) {
		size_t line = r->event.start_mark.line + 1;
		const char *key = (const char *)r->event.data.scalar.value;
		const struct opt *opt = find_key(key);
		char name[64];
		uint32_t bit;

		if (!opt)
			return unknown_key(r->path, line, key, err);
		bit = 1u << (opt - settings_opts);
		settings_spell(opt->name, false, name, sizeof(name));
		if (r->seen & bit)
			return err_set(err, EINVAL, "%s:%zu: key '%s' is given twice", r->path,
				line, name);
		r->seen |= bit;
		rc = take_value(r, opt, name, err);
		if (rc < 0)
			return rc;
	}
	if (rc == 0 && r->event.type != YAML_MAPPING_END_EVENT)
		return err_set(err, EINVAL, "%s:%zu: a key expected", r->path,
			r->event.start_mark.line + 1);
	return rc;
}

static int take_document(struct reader *r, struct err *err)
{
	int rc = expect(r, YAML_STREAM_START_EVENT, "YAML", err);

	if (rc == 0)
		rc = next_event(r, err);
	if (rc < 0 || r->event.type == YAML_STREAM_END_EVENT)
		return rc; /* empty, or comments only */
	rc = expect(r, YAML_MAPPING_START_EVENT, "lines of 'key: value'", err);
	if (rc == 0)
		rc = take_keys(r, err);
	if (rc == 0)
		rc = expect(r, YAML_DOCUMENT_END_EVENT, "the end of the file", err);
	return rc < 0 ? rc : expect(r, YAML_STREAM_END_EVENT, "the end of the file", err);
}

int settings_load_file(struct settings *settings, const char *path, struct err *err)
{
	struct reader r = { .settings = settings, .path = path };
	auto_free char *text = NULL;
	size_t len;
	int rc = fs_read_file(AT_FDCWD, path, LIMIT_SETTINGS, &text, &len);

	if (rc == -ENOENT || rc == -ENOTDIR)
		return 0;
	if (rc < 0)
		return err_errno(err, -rc, "cannot read '%s'", path);
	if (!yaml_parser_initialize(&r.parser))
		return err_errno(err, ENOMEM, "cannot read '%s'", path);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	rc = take_document(&r, err);
	if (r.have_event)
		yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	return rc;
}

static int load_environment(struct settings *settings, struct err *err)
{
	for (const struct opt *o = settings_opts; o->name; o++) {
		char name[80] = "MICROPOD_", what[100];
		const char *value;
		int r;

		settings_spell(o->name, true, name + strlen(name), sizeof(name) - strlen(name));
		value = getenv(name);
		if (!value || !*value)
			continue;
		snprintf(what, sizeof(what), "variable %s", name);
		r = opt_store(o, settings, what, value, err);
		if (r == 0)
			r = note_origin(settings, o, err, "%s", what);
		if (r < 0)
			return r;
	}
	return 0;
}

int settings_load(struct settings *settings, struct err *err)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	auto_free char *path = NULL;
	int r = settings_load_file(settings, "/etc/micropod/micropod.yaml", err), n = 0;

	if (r < 0)
		return r;
	if (config && *config == '/')
		n = asprintf(&path, "%s/micropod/micropod.yaml", config);
	else if (home && *home == '/')
		n = asprintf(&path, "%s/.config/micropod/micropod.yaml", home);
	if (n < 0) {
		path = NULL;
		return err_errno(err, ENOMEM, "cannot look for micropod.yaml");
	}
	if (path)
		r = settings_load_file(settings, path, err);
	return r < 0 ? r : load_environment(settings, err);
}
