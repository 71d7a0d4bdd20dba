/* SPDX-License-Identifier: Apache-2.0 */
#include "image/ref.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/macro.h"
#include "base/parse.h"

#define DEFAULT_HOST "docker.io"
#define LOWER	     "abcdefghijklmnopqrstuvwxyz"
#define UPPER	     "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS	     "0123456789"

/* Longest first where one is a prefix of another's; "docker://" is taken off before these are
 * looked at. */
static const char *const transports[] = {
	"docker-archive:",
	"docker-daemon:",
	"containers-storage:",
	"oci-archive:",
	"oci:",
	"dir:",
};

static int bad(struct err *err, const char *text, const char *why)
{
	return err_set(err, EINVAL, "image reference '%.200s' is not valid: %s", text, why);
}

static bool tag_valid(const char *s)
{
	size_t len = strlen(s);

	return len >= 1 && len <= 128 && s[0] != '.' && s[0] != '-' &&
	       strspn(s, LOWER UPPER DIGITS "_.-") == len;
}

/* One component of a path: runs of [a-z0-9] joined by one of "." "_" "__" or any number of "-". */
static bool component_valid(const char *s, size_t len)
{
	size_t i = 0;

	while (i < len) {
		size_t run = strspn(s + i, LOWER DIGITS);

		if (run == 0)
			return false;
		i += run;
		if (i >= len)
			return true;
		if (s[i] == '.')
			i++;
		else if (s[i] == '_')
			i += s[i + 1] == '_' ? 2 : 1;
		else if (s[i] == '-')
			i += strspn(s + i, "-");
		else
			return false;
	}
	return false;
}

static bool path_valid(const char *s)
{
	for (;;) {
		size_t len = strcspn(s, "/");

		if (!component_valid(s, len))
			return false;
		if (!s[len])
			return true;
		s += len + 1;
	}
}

static bool port_valid(const char *s)
{
	unsigned port;

	return strspn(s, DIGITS) == strlen(s) && parse_uint(s, 1, 65535, &port) == 0;
}

static bool host_name_valid(const char *s, size_t len)
{
	size_t start = 0;

	for (size_t i = 0; i <= len; i++) {
		if (i < len && s[i] != '.')
			continue;
		if (i == start || s[start] == '-' || s[i - 1] == '-' ||
			strspn(s + start, LOWER UPPER DIGITS "-") < i - start)
			return false;
		start = i + 1;
	}
	return true;
}

/* host, host:port, [ipv6] or [ipv6]:port */
static bool host_valid(const char *s)
{
	const char *end;

	if (s[0] == '[') {
		end = strchr(s, ']');
		if (!end || end == s + 1 ||
			strspn(s + 1, DIGITS "abcdefABCDEF:") != (size_t)(end - s - 1))
			return false;
		end++;
	} else {
		end = s + strcspn(s, ":");
		if (!host_name_valid(s, (size_t)(end - s)))
			return false;
	}
	return !*end || (*end == ':' && port_valid(end + 1));
}

static bool host_is_loopback(const char *host)
{
	size_t len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");

	return (len == 9 && strncmp(host, "localhost", 9) == 0) ||
	       (len == 5 && strncmp(host, "[::1]", 5) == 0) ||
	       (strncmp(host, "127.", 4) == 0 && strspn(host, DIGITS ".") == len);
}

/* Whether what stands before the first '/' is a host (distribution/reference, splitDockerDomain).
 */
static bool looks_like_host(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] == '.' || s[i] == ':' || (s[i] >= 'A' && s[i] <= 'Z'))
			return true;
	return len == 9 && strncmp(s, "localhost", 9) == 0;
}

/* Splits "[host/]path" of Docker's short forms in full; sets host and repository. */
static int expand_name(const char *text, const char *name, struct image_ref *ref, struct err *err)
{
	const char *slash = strchr(name, '/'), *path = name, *library = "";

	if (strlen(name) == DIGEST_HEX_LEN && strspn(name, DIGITS "abcdef") == DIGEST_HEX_LEN)
		return bad(err, text, "64 hex digits are an id, not a name");
	if (slash && looks_like_host(name, (size_t)(slash - name))) {
		ref->host = strndup(name, (size_t)(slash - name));
		path = slash + 1;
	} else {
		ref->host = strdup(DEFAULT_HOST);
	}
	if (!ref->host)
		return err_set(err, ENOMEM, "out of memory");
	if (strcmp(ref->host, "index.docker.io") == 0)
		memcpy(ref->host, DEFAULT_HOST, sizeof(DEFAULT_HOST));
	if (strcmp(ref->host, DEFAULT_HOST) == 0 && !strchr(path, '/'))
		library = "library/";
	if (!host_valid(ref->host))
		return bad(err, text, "the registry's name must be host or host:port");
	if (!path_valid(path))
		return bad(err, text,
			strpbrk(path, UPPER)
				? "the name must be in lower case"
				: "a name is parts of a-z 0-9 joined by . _ __ - and /");
	if (asprintf(&ref->repository, "%s/%s%s", ref->host, library, path) < 0) {
		ref->repository = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	if (strlen(ref->repository) > 255)
		return bad(err, text, "a name has at most 255 bytes");
	ref->loopback = host_is_loopback(ref->host);
	return 0;
}

static int parse_docker(const char *text, const char *rest, struct image_ref *ref, struct err *err)
{
	auto_free char *name = strdup(rest);
	const char *tag = "latest";
	char *at, *colon;
	int r;

	if (!name)
		return err_set(err, ENOMEM, "out of memory");
	at = strchr(name, '@');
	if (at) {
		*at++ = 0;
		if (!digest_valid(at))
			return bad(
				err, text, "after '@' comes sha256: and 64 lower-case hex digits");
		memcpy(ref->digest, at, DIGEST_SIZE);
	}
	colon = strrchr(name, ':');
	if (colon && !strchr(colon, '/')) {
		*colon++ = 0;
		if (!tag_valid(colon))
			return bad(err, text,
				"a tag is up to 128 of A-Z a-z 0-9 _ . - and begins with neither . "
				"nor -");
		tag = colon;
	}
	r = expand_name(text, name, ref, err);
	if (r < 0)
		return r;
	/* With both, the digest rules and the tag says nothing more, as in Docker. */
	r = ref->digest[0] ? asprintf(&ref->name, "%s@%s", ref->repository, ref->digest)
			   : asprintf(&ref->name, "%s:%s", ref->repository, tag);
	if (r < 0) {
		ref->name = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	if (asprintf(&ref->source, "docker://%s", ref->name) < 0) {
		ref->source = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

static int parse_transport(
	const char *text, const char *transport, struct image_ref *ref, struct err *err)
{
	if (!text[strlen(transport)])
		return bad(err, text, "nothing stands behind the transport");
	ref->name = strdup(text);
	ref->source = strdup(text);
	return ref->name && ref->source ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int parse(const char *text, struct image_ref *ref, struct err *err)
{
	if (!*text)
		return bad(err, text, "it is empty");
	if (strlen(text) > LIMIT_REFERENCE)
		return bad(err, text, "it is too long");
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return bad(err, text, "it has a control character");
	/* What goes to skopeo is JSON, which is Unicode. */
	if (!utf8_valid(text, strlen(text)))
		return err_set(err, EINVAL, "image reference is not valid: it is not UTF-8");
	if (strncmp(text, "docker://", 9) == 0)
		return parse_docker(text, text + 9, ref, err);
	for (size_t i = 0; i < ARRAY_SIZE(transports); i++)
		if (strncmp(text, transports[i], strlen(transports[i])) == 0)
			return parse_transport(text, transports[i], ref, err);
	return parse_docker(text, text, ref, err);
}

int image_ref_parse(const char *text, struct image_ref *ret_ref, struct err *err)
{
	auto_image_ref struct image_ref ref = { 0 };
	int r = parse(text, &ref, err);

	if (r < 0)
		return r;
	*ret_ref = ref;
	ref = (struct image_ref){ 0 };
	return 0;
}

void image_ref_deinit(struct image_ref *ref)
{
	free(ref->name);
	free(ref->source);
	free(ref->repository);
	free(ref->host);
	*ref = (struct image_ref){ 0 };
}
