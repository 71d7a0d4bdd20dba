/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/hosttree.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define BLOCK 65536

static int complain(const char *path, const char *why)
{
	fprintf(stderr, "micropod: %s: %s\n", path, why);
	return 1;
}

static const char *why(struct archive *a)
{
	const char *text = archive_error_string(a);

	return text ? text : strerror(errno);
}

/* Names are bytes; libarchive must not try to convert them to something smaller. */
static void use_utf8(void)
{
	setlocale(LC_CTYPE, "C.UTF-8");
}

/* Sending */

static int send_content(struct archive *out, struct archive *in, const char *path)
{
	const void *data;
	size_t len;
	int64_t offset, at = 0;
	int r;

	static const char zeros[4096];

	while ((r = archive_read_data_block(in, &data, &len, &offset)) == ARCHIVE_OK) {
		while (at < offset) {
			size_t n = (size_t)MIN(offset - at, (int64_t)sizeof(zeros));

			if (archive_write_data(out, zeros, n) < 0)
				return complain(path, why(out));
			at += (int64_t)n;
		}
		if (archive_write_data(out, data, len) < 0)
			return complain(path, why(out));
		at += (int64_t)len;
	}
	return r == ARCHIVE_EOF ? 0 : complain(path, why(in));
}

/* path's own part of what is read goes, name takes its place. */
static int rename_entry(struct archive_entry *e, const char *path, const char *name)
{
	const char *rest = archive_entry_pathname(e) + strlen(path);
	auto_free char *full = NULL;

	while (*rest == '/')
		rest++;
	if (asprintf(&full, "%s%s%s", name, *rest ? "/" : "", rest) < 0) {
		full = NULL;
		return -ENOMEM;
	}
	archive_entry_copy_pathname(e, full);
	return 0;
}

static int send_entry(struct archive *out, struct archive *in, struct archive_entry *e,
	struct archive_entry_linkresolver *links, const char *path)
{
	struct archive_entry *spare = NULL;
	int failed = 0;

	if (archive_entry_filetype(e) == AE_IFSOCK)
		return 0;
	/* An attribute of the host's, such as its ACLs, means nothing in the guest. */
	archive_entry_acl_clear(e);
	archive_entry_set_fflags(e, 0, 0);
	archive_entry_linkify(links, &e, &spare);
	if (!e)
		return 0;
	if (archive_write_header(out, e) < ARCHIVE_WARN)
		return complain(path, why(out));
	if (archive_entry_filetype(e) == AE_IFREG && !archive_entry_hardlink(e) &&
		archive_entry_size(e) > 0)
		failed = send_content(out, in, path);
	archive_write_finish_entry(out);
	return failed;
}

static int send_all(struct archive *out, struct archive *in, const char *path, const char *name)
{
	struct archive_entry_linkresolver *links = archive_entry_linkresolver_new();
	struct archive_entry *e = archive_entry_new();
	int r, failed = 0;

	if (!links || !e)
		return complain(path, "out of memory");
	archive_entry_linkresolver_set_strategy(links, ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
	while ((r = archive_read_next_header2(in, e)) != ARCHIVE_EOF) {
		auto_free char *said = NULL;

		if (r == ARCHIVE_FATAL)
			break;
		said = strdup(archive_entry_pathname(e) ? archive_entry_pathname(e) : path);
		if (r < ARCHIVE_WARN) {
			failed |= complain(said ? said : path, why(in));
			continue;
		}
		archive_read_disk_descend(in);
		if (!said || rename_entry(e, path, name) < 0) {
			failed |= complain(path, "out of memory");
			break;
		}
		failed |= send_entry(out, in, e, links, said);
	}
	if (r == ARCHIVE_FATAL)
		failed |= complain(path, why(in));
	archive_entry_free(e);
	archive_entry_linkresolver_free(links);
	return failed;
}

int hosttree_send(int fd, const char *path, const char *name, bool follow)
{
	struct archive *in = archive_read_disk_new(), *out = archive_write_new();
	int failed = 1;

	use_utf8();
	if (!in || !out)
		return complain(path, "out of memory");
	if (follow)
		archive_read_disk_set_symlink_hybrid(in);
	else
		archive_read_disk_set_symlink_physical(in);
	archive_write_set_format_pax(out);
	archive_write_set_bytes_per_block(out, BLOCK);
	archive_write_set_bytes_in_last_block(out, 1);
	if (archive_write_open_fd(out, fd) < ARCHIVE_WARN)
		complain(path, why(out));
	else if (archive_read_disk_open(in, path) < ARCHIVE_WARN)
		complain(path, why(in));
	else
		failed = send_all(out, in, path, name);
	if (archive_write_close(out) < ARCHIVE_WARN)
		failed = complain(path, why(out));
	archive_write_free(out);
	archive_read_free(in);
	return failed;
}

/* Receiving */

/* "name", "./name/x": with what leads nowhere taken off the front. */
static const char *without_dots(const char *path)
{
	while (path[0] == '.' && path[1] == '/') {
		path += 2;
		while (*path == '/')
			path++;
	}
	return path;
}

static bool is_below(const char *path, const char *name)
{
	size_t len = strlen(name);

	path = without_dots(path);
	if (strcmp(name, ".") == 0)
		return true;
	return strncmp(path, name, len) == 0 && (!path[len] || path[len] == '/');
}

/* NULL: it may be made. Else why not. */
static const char *refuse(struct archive_entry *e, const char *name)
{
	const char *path = archive_entry_pathname(e), *link = archive_entry_hardlink(e);
	mode_t type = archive_entry_filetype(e);

	if (!path || !is_below(path, name) || (link && !is_below(link, name)))
		return "the sandbox sends what was not asked for: left out";
	if (!link && (type == AE_IFCHR || type == AE_IFBLK))
		return "a device: left out";
	return NULL;
}

static int receive_content(struct archive *in, struct archive *out, const char *path)
{
	const void *data;
	size_t len;
	int64_t offset;
	int r;

	while ((r = archive_read_data_block(in, &data, &len, &offset)) == ARCHIVE_OK)
		if (archive_write_data_block(out, data, len, offset) < ARCHIVE_WARN)
			return complain(path, why(out));
	return r == ARCHIVE_EOF ? 0 : complain(path, why(in));
}

static int receive_entry(struct archive *in, struct archive *out, struct archive_entry *e,
	const char *name, bool keep)
{
	const char *path = archive_entry_pathname(e), *no = refuse(e, name);
	int failed;

	if (no)
		return complain(path ? path : "an entry without name", no);
	if (!keep)
		archive_entry_set_perm(e, archive_entry_perm(e) & 0777);
	/* Of the guest's file systems; what they mean here nobody knows. */
	archive_entry_acl_clear(e);
	archive_entry_set_fflags(e, 0, 0);
	if (archive_write_header(out, e) < ARCHIVE_WARN)
		return complain(path, why(out));
	failed = archive_entry_size(e) > 0 ? receive_content(in, out, path) : 0;
	if (archive_write_finish_entry(out) < ARCHIVE_WARN)
		failed = complain(path, why(out));
	return failed;
}

static int receive_all(int fd, const char *folder, const char *name, bool keep)
{
	int flags = ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
		    ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS;
	struct archive *in = archive_read_new(), *out = archive_write_disk_new();
	struct archive_entry *e;
	int r, failed = 0;

	use_utf8();
	if (!in || !out)
		return complain(folder, "out of memory");
	if (chdir(folder) < 0)
		return complain(folder, strerror(errno));
	archive_read_support_format_tar(in);
	archive_write_disk_set_options(
		out, keep ? flags | ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_XATTR : flags);
	if (archive_read_open_fd(in, fd, BLOCK) < ARCHIVE_WARN)
		failed = complain("the archive", why(in));
	for (;;) {
		r = archive_read_next_header(in, &e);
		if (r == ARCHIVE_EOF)
			break;
		if (r < ARCHIVE_WARN) {
			failed = complain("the archive", why(in));
			break;
		}
		failed |= receive_entry(in, out, e, name, keep);
	}
	if (archive_write_close(out) < ARCHIVE_WARN)
		failed = complain(folder, why(out));
	archive_write_free(out);
	archive_read_free(in);
	return failed;
}

int hosttree_receive(int fd, const char *folder, const char *name, bool keep)
{
	int failed = receive_all(fd, folder, name, keep);
	char buf[4096];
	ssize_t n;

	/* A pipe that nobody reads would end who writes to it before that can say how it went. */
	do {
		n = read(fd, buf, sizeof(buf));
	} while (n > 0 || (n < 0 && errno == EINTR));
	return failed;
}
