/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the files are walked line by line, each line cut at its colons, nothing copied. All
 * is slices of the caller's buffers, so that neither NUL bytes nor a missing last newline matter.
 */
#include "oci/user.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ID_MAX 0x7fffffff /* Docker's range: what fits a positive int */

static struct oci_word word_of(const char *data, size_t len)
{
	return (struct oci_word){ .data = data, .len = len };
}

static bool word_equal(struct oci_word a, struct oci_word b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* Cuts what stands before the next separator off *rest, which becomes the part after it; false at
 * the end. */
static bool cut(struct oci_word *rest, char separator, struct oci_word *ret_part)
{
	const char *end;

	if (!rest->data)
		return false;
	end = rest->len ? memchr(rest->data, separator, rest->len) : NULL;
	if (!end) {
		*ret_part = *rest;
		*rest = word_of(NULL, 0);
		return true;
	}
	*ret_part = word_of(rest->data, (size_t)(end - rest->data));
	*rest = word_of(end + 1, rest->len - ret_part->len - 1);
	return true;
}

/* Whether the word is a decimal number; one too large for an id is -ERANGE, anything else -EINVAL.
 */
static int word_id(struct oci_word w, uint32_t *ret_id)
{
	uint64_t value = 0;

	if (!w.len)
		return -EINVAL;
	for (size_t i = 0; i < w.len; i++) {
		if (w.data[i] < '0' || w.data[i] > '9')
			return -EINVAL;
		if (value <= ID_MAX)
			value = value * 10 + (unsigned)(w.data[i] - '0');
	}
	if (value > ID_MAX)
		return -ERANGE;
	*ret_id = (uint32_t)value;
	return 0;
}

struct passwd_line {
	struct oci_word name, home;
	uint32_t uid, gid;
};

/* name:password:uid:gid:comment:home:shell */
static bool parse_passwd(struct oci_word line, struct passwd_line *ret)
{
	struct oci_word f[7] = { 0 };
	size_t n = 0;

	while (n < 7 && cut(&line, ':', &f[n]))
		n++;
	if (n < 4 || !f[0].len || word_id(f[2], &ret->uid) < 0 || word_id(f[3], &ret->gid) < 0)
		return false;
	ret->name = f[0];
	ret->home = f[5];
	return true;
}

struct group_line {
	struct oci_word name, members;
	uint32_t gid;
};

/* name:password:gid:member,member */
static bool parse_group(struct oci_word line, struct group_line *ret)
{
	struct oci_word f[4] = { 0 };
	size_t n = 0;

	while (n < 4 && cut(&line, ':', &f[n]))
		n++;
	if (n < 3 || !f[0].len || word_id(f[2], &ret->gid) < 0)
		return false;
	ret->name = f[0];
	ret->members = f[3];
	return true;
}

/* The next line of file that is not blank, without white space around it. */
static bool next_line(struct oci_word *file, struct oci_word *ret_line)
{
	while (cut(file, '\n', ret_line)) {
		while (ret_line->len && strchr(" \t\r", ret_line->data[0]) && ret_line->data[0])
			*ret_line = word_of(ret_line->data + 1, ret_line->len - 1);
		while (ret_line->len && strchr(" \t\r", ret_line->data[ret_line->len - 1]) &&
			ret_line->data[ret_line->len - 1])
			ret_line->len--;
		if (ret_line->len)
			return true;
	}
	return false;
}

/* The first user that fits. want_id: by number, else by name. */
static bool find_user(struct oci_word file, bool want_id, uint32_t uid, struct oci_word name,
	struct passwd_line *ret)
{
	struct oci_word line;
	struct passwd_line p;

	while (next_line(&file, &line)) {
		if (parse_passwd(line, &p) && (want_id ? p.uid == uid : word_equal(p.name, name))) {
			*ret = p;
			return true;
		}
	}
	return false;
}

static bool find_group(
	struct oci_word file, bool want_id, uint32_t gid, struct oci_word name, uint32_t *ret_gid)
{
	struct oci_word line;
	struct group_line g;

	while (next_line(&file, &line)) {
		if (parse_group(line, &g) && (want_id ? g.gid == gid : word_equal(g.name, name))) {
			*ret_gid = g.gid;
			return true;
		}
	}
	return false;
}

/* Sorted insertion of a gid that is not there yet. */
static int add_group(struct oci_user *user, gid_t gid)
{
	size_t i = user->n_groups;

	for (size_t k = 0; k < user->n_groups; k++)
		if (user->groups[k] == gid)
			return 0;
	if (user->n_groups == OCI_GROUPS_MAX)
		return -E2BIG;
	for (; i && user->groups[i - 1] > gid; i--)
		user->groups[i] = user->groups[i - 1];
	user->groups[i] = gid;
	user->n_groups++;
	return 0;
}

static bool is_member(struct oci_word members, struct oci_word name)
{
	struct oci_word member;

	while (cut(&members, ',', &member))
		if (word_equal(member, name))
			return true;
	return false;
}

static int add_memberships(struct oci_user *user, struct oci_word file, struct oci_word name)
{
	struct oci_word line;
	struct group_line g;
	int r = 0;

	while (r == 0 && next_line(&file, &line))
		if (parse_group(line, &g) && is_member(g.members, name))
			r = add_group(user, g.gid);
	return r;
}

/* A group by number or name; a number needs no line in the file. */
static int resolve_group(struct oci_word w, struct oci_word file, gid_t *ret_gid, struct err *err)
{
	int len = (int)MIN(w.len, (size_t)128);
	uint32_t gid = 0;
	int r = word_id(w, &gid);

	if (r == -ERANGE)
		return err_set(err, EINVAL, "group '%.*s' is out of range: at most %d", len, w.data,
			ID_MAX);
	if (r == 0 || find_group(file, false, 0, w, &gid)) {
		*ret_gid = gid;
		return 0;
	}
	return err_set(
		err, ENOENT, "group '%.*s' is not in the container's /etc/group", len, w.data);
}

static void set_home(struct oci_user *user, struct oci_word home)
{
	/* Not absolute, too long or with a NUL: as if there were none. */
	if (!home.len || home.data[0] != '/' || home.len >= sizeof(user->home) ||
		memchr(home.data, 0, home.len))
		return;
	memcpy(user->home, home.data, home.len);
	user->home[home.len] = '\0';
}

/* The part of spec before ':'. *ret_name: the user's name in passwd, or empty. */
static int resolve_user(struct oci_word w, struct oci_word passwd, struct oci_user *user,
	struct oci_word *ret_name, struct err *err)
{
	int len = (int)MIN(w.len, (size_t)128);
	struct passwd_line p;
	uint32_t uid = 0;
	int r = w.len ? word_id(w, &uid) : 0;

	if (r == -ERANGE)
		return err_set(err, EINVAL, "user '%.*s' is out of range: at most %d", len, w.data,
			ID_MAX);
	*ret_name = word_of(NULL, 0);
	if (find_user(passwd, r == 0, uid, w, &p)) {
		user->uid = p.uid;
		user->gid = p.gid;
		set_home(user, p.home);
		*ret_name = p.name;
		return 0;
	}
	if (r < 0)
		return err_set(err, ENOENT, "user '%.*s' is not in the container's /etc/passwd",
			len, w.data);
	user->uid = uid;
	return 0;
}

int oci_user_lookup(struct oci_word spec, const struct oci_word *additional, size_t n_additional,
	const struct oci_user_files *files, struct oci_user *ret_user, struct err *err)
{
	struct oci_word passwd = word_of(files->passwd, files->passwd_len);
	struct oci_word group = word_of(files->group, files->group_len);
	struct oci_word user_part = word_of("", 0), group_part = word_of("", 0), name, rest = spec;
	struct oci_user user = { .home = "/" };
	int r;

	if (passwd.len > LIMIT_PASSWD_FILE || group.len > LIMIT_PASSWD_FILE)
		return err_set(err, EFBIG, "the container's /etc/%s is larger than %ju bytes",
			passwd.len > LIMIT_PASSWD_FILE ? "passwd" : "group",
			(uintmax_t)LIMIT_PASSWD_FILE);
	if (spec.len && cut(&rest, ':', &user_part))
		group_part = rest.data ? rest : group_part;
	r = resolve_user(user_part, passwd, &user, &name, err);
	if (r < 0)
		return r;
	if (group_part.len)
		r = resolve_group(group_part, group, &user.gid, err);
	else if (name.len && (r = add_memberships(&user, group, name)) < 0)
		err_set(err, -r, "the user is in more than %d groups", OCI_GROUPS_MAX);
	for (size_t i = 0; r == 0 && i < n_additional; i++) {
		gid_t gid;

		r = resolve_group(additional[i], group, &gid, err);
		if (r == 0 && (r = add_group(&user, gid)) < 0)
			err_set(err, -r, "the user is in more than %d groups", OCI_GROUPS_MAX);
	}
	if (r == 0)
		*ret_user = user;
	return r;
}
