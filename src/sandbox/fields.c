/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/fields.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/parse.h"
#include "base/strbuf.h"
#include "sandbox/config.h"

/* Strings: JSON has only UTF-8, argv and environment have any bytes but NUL. */

static json_t *bytes_to_json(const char *s)
{
	size_t len = strlen(s);
	char *hex;
	json_t *v;

	if (utf8_valid(s, len))
		return json_stringn(s, len);
	hex = malloc(2 * len + 1);
	if (!hex)
		return NULL;
	hex_encode(s, len, hex);
	v = json_pack("{s:s}", "hex", hex);
	free(hex);
	return v;
}

static int bytes_from_json(const json_t *v, char **ret_s)
{
	const char *hex = json_string_value(json_object_get(v, "hex"));
	size_t n;
	char *s;

	if (json_is_string(v)) {
		if (strlen(json_string_value(v)) != json_string_length(v))
			return -EPROTO;
		s = strdup(json_string_value(v));
	} else if (hex) {
		n = strlen(hex) / 2;
		s = malloc(n + 1);
		if (s && (hex_decode(hex, s, n) < 0 || memchr(s, 0, n))) {
			free(s);
			return -EPROTO;
		}
		if (s)
			s[n] = 0;
	} else {
		return -EPROTO;
	}
	if (!s)
		return -ENOMEM;
	*ret_s = s;
	return 0;
}

static json_t *strv_to_json(const struct strv *sv)
{
	json_t *a = json_array();

	for (size_t i = 0; i < sv->n; i++)
		json_array_append_new(a, bytes_to_json(sv->v[i]));
	return a;
}

static int strv_from_json(const json_t *v, struct strv *sv)
{
	size_t i;
	json_t *item;

	if (!json_is_array(v))
		return -EPROTO;
	strv_deinit(sv);
	json_array_foreach(v, i, item)
	{
		char *s;
		int r = bytes_from_json(item, &s);

		if (r == 0)
			r = strv_take(sv, s);
		if (r < 0)
			return r;
	}
	return 0;
}

static json_t *ports_to_json(const struct sandbox_port *ports, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(
			a, json_pack("{s:s, s:i, s:i, s:s}", "host_ip", ports[i].host_ip, "host",
				   ports[i].host, "guest", ports[i].guest, "proto",
				   ports[i].udp ? "udp" : "tcp"));
	return a;
}

static int ports_from_json(const json_t *v, struct sandbox_port **ports, size_t *n)
{
	size_t count = json_array_size(v);
	struct sandbox_port *p;

	if (!json_is_array(v) || count > LIMIT_PORTS)
		return -EPROTO;
	p = calloc(count + 1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const char *ip, *proto;
		int host, guest;

		if (json_unpack(json_array_get(v, i), "{s:s, s:i, s:i, s:s}", "host_ip", &ip,
			    "host", &host, "guest", &guest, "proto", &proto) < 0 ||
			strlen(ip) >= sizeof(p->host_ip) || host < 0 || host > 65535 || guest < 1 ||
			guest > 65535) {
			free(p);
			return -EPROTO;
		}
		memcpy(p[i].host_ip, ip, strlen(ip) + 1);
		p[i].host = (uint16_t)host;
		p[i].guest = (uint16_t)guest;
		p[i].udp = strcmp(proto, "udp") == 0;
	}
	free(*ports);
	*ports = p;
	*n = count;
	return 0;
}

static json_t *mac_to_json(const uint8_t *m)
{
	return json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

static int mac_from_json(const json_t *v, uint8_t *mac)
{
	char hex[13];
	const char *s = json_string_value(v);

	if (!s || strlen(s) != 17)
		return -EPROTO;
	for (int i = 0; i < 6; i++)
		memcpy(hex + 2 * i, s + 3 * i, 2);
	hex[12] = 0;
	return hex_decode(hex, mac, 6) < 0 ? -EPROTO : 0;
}

static json_t *field_to_json(const struct field *f, const void *object)
{
	const void *p = (const char *)object + f->offset;

	switch (f->type) {
	case FIELD_STRING:
		return *(char *const *)p ? bytes_to_json(*(char *const *)p) : json_null();
	case FIELD_CHARS:
		return bytes_to_json(p);
	case FIELD_STRV:
		return strv_to_json(p);
	case FIELD_BOOL:
		return json_boolean(*(const bool *)p);
	case FIELD_I32:
		return json_integer(*(const int32_t *)p);
	case FIELD_I64:
		return json_integer(*(const int64_t *)p);
	case FIELD_U64:
		return json_integer((json_int_t) * (const uint64_t *)p);
	case FIELD_MAC:
		return mac_to_json(p);
	case FIELD_PORTS:
		return ports_to_json(*(struct sandbox_port *const *)p,
			*(const size_t *)((const char *)p + sizeof(void *)));
	case FIELD_WORD:
		return json_string(f->words[*(const unsigned *)p]);
	default:
		return NULL;
	}
}

int fields_write(const struct field *fields, size_t n, const void *object, char **ret_text)
{
	json_t *o = json_object();
	int r = o ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && r == 0; i++)
		if (json_object_set_new(o, fields[i].key, field_to_json(&fields[i], object)) < 0)
			r = -ENOMEM;
	if (r == 0) {
		*ret_text = json_dumps(o, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
		r = *ret_text ? 0 : -ENOMEM;
	}
	json_decref(o);
	return r;
}

static int chars_from_json(const struct field *f, const json_t *v, char *p)
{
	char *s = NULL;
	int r = bytes_from_json(v, &s);

	if (r == 0 && strlen(s) >= f->size)
		r = -EPROTO;
	if (r == 0)
		memcpy(p, s, strlen(s) + 1);
	free(s);
	return r;
}

static int word_from_json(const struct field *f, const json_t *v, unsigned *p)
{
	const char *s = json_string_value(v);

	for (unsigned i = 0; s && i < f->size; i++) {
		if (strcmp(f->words[i], s) == 0) {
			*p = i;
			return 0;
		}
	}
	return -EPROTO;
}

static int string_from_json(const json_t *v, char **p)
{
	char *s = NULL;
	int r = json_is_null(v) ? 0 : bytes_from_json(v, &s);

	if (r == 0) {
		free(*p);
		*p = s;
	}
	return r;
}

static int field_from_json(const struct field *f, const json_t *v, void *object)
{
	void *p = (char *)object + f->offset;

	switch (f->type) {
	case FIELD_STRING:
		return string_from_json(v, p);
	case FIELD_CHARS:
		return chars_from_json(f, v, p);
	case FIELD_STRV:
		return strv_from_json(v, p);
	case FIELD_BOOL:
		*(bool *)p = json_is_true(v);
		return json_is_boolean(v) ? 0 : -EPROTO;
	case FIELD_I32:
		*(int32_t *)p = (int32_t)json_integer_value(v);
		return json_is_integer(v) ? 0 : -EPROTO;
	case FIELD_I64:
	case FIELD_U64:
		*(int64_t *)p = json_integer_value(v);
		return json_is_integer(v) ? 0 : -EPROTO;
	case FIELD_MAC:
		return mac_from_json(v, p);
	case FIELD_PORTS:
		return ports_from_json(v, p, (size_t *)((char *)p + sizeof(void *)));
	case FIELD_WORD:
		return word_from_json(f, v, p);
	default:
		return -EPROTO;
	}
}

int fields_read(const struct field *fields, size_t n, const char *text, size_t len, void *object,
	struct err *err)
{
	json_error_t je;
	json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	int r = 0;

	if (!json_is_object(o)) {
		json_decref(o);
		return err_set(err, EPROTO, "not a JSON object: %s", je.text);
	}
	for (size_t i = 0; i < n && r == 0; i++) {
		const json_t *v = json_object_get(o, fields[i].key);

		if (v)
			r = field_from_json(&fields[i], v, object);
		if (r < 0)
			err_errno(err, -r, "field '%s'", fields[i].key);
	}
	json_decref(o);
	return r;
}

void fields_free(const struct field *fields, size_t n, void *object)
{
	for (size_t i = 0; i < n; i++) {
		void *p = (char *)object + fields[i].offset;

		switch (fields[i].type) {
		case FIELD_STRING:
		case FIELD_PORTS:
			free(*(void **)p);
			*(void **)p = NULL;
			break;
		case FIELD_STRV:
			strv_deinit(p);
			break;
		default:
			break;
		}
	}
}
