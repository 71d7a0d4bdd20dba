/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store.h"

#include <errno.h>
#include <openssl/evp.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/macro.h"

#define FILE_NAME   "server.db"
#define BUSY_MS	    5000
#define DIGEST_SIZE 32

static const char schema[] =
	"PRAGMA journal_mode = WAL;"
	"PRAGMA synchronous = NORMAL;"
	"CREATE TABLE IF NOT EXISTS token(id TEXT PRIMARY KEY, kind INTEGER NOT NULL, subject TEXT "
	"NOT NULL,"
	" hash BLOB NOT NULL UNIQUE, credential BLOB UNIQUE, created_ns INTEGER NOT NULL,"
	" used_ns INTEGER NOT NULL DEFAULT 0, revoked_ns INTEGER NOT NULL DEFAULT 0);"
	"CREATE TABLE IF NOT EXISTS audit(time_ns INTEGER NOT NULL, who TEXT NOT NULL, what TEXT "
	"NOT NULL,"
	" host TEXT NOT NULL, sandbox TEXT NOT NULL, result TEXT NOT NULL, ms REAL NOT NULL);"
	"CREATE INDEX IF NOT EXISTS audit_time ON audit(time_ns);";

static const char *const kinds[] = {
	[STORE_USER] = "user",
	[STORE_HOST] = "host",
	[STORE_SANDBOX] = "sandbox",
	[STORE_AGENT] = "agent",
	[STORE_AGENT_AGAIN] = "agent+",
};
static_assert(ARRAY_SIZE(kinds) == STORE_KIND_MAX, "a word for each kind");

struct store {
	sqlite3 *db;
	sqlite3_stmt *find, *find_credential, *valid, *audit;
};

const char *store_kind_name(enum store_kind kind)
{
	return kinds[kind];
}

static int db_errno(int code)
{
	switch (code & 0xff) {
	case SQLITE_FULL:
		return ENOSPC;
	case SQLITE_NOMEM:
		return ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return EBUSY;
	case SQLITE_CONSTRAINT:
		return EEXIST;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return EBADMSG;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_CANTOPEN:
		return EACCES;
	default:
		return EIO;
	}
}

static int db_err(struct store *s, int code, const char *what, struct err *err)
{
	return err_set(err, db_errno(code), "cannot %s: %s", what,
		s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(code));
}

static int digest(const void *data, size_t len, uint8_t out[static DIGEST_SIZE])
{
	unsigned n = 0;

	return EVP_Digest(data, len, out, &n, EVP_sha256(), NULL) == 1 && n == DIGEST_SIZE
		       ? 0
		       : -ENOMEM;
}

static int prepare(struct store *s)
{
	static const char find[] =
		"SELECT id, kind, subject FROM token WHERE hash = ? AND revoked_ns = 0";
	static const char credential[] =
		"SELECT id, kind, subject FROM token WHERE credential = ? AND revoked_ns = 0";
	static const char valid[] = "SELECT 1 FROM token WHERE id = ? AND revoked_ns = 0";
	static const char audit[] = "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)";
	int r = sqlite3_prepare_v2(s->db, find, -1, &s->find, NULL);

	if (r == SQLITE_OK)
		r = sqlite3_prepare_v2(s->db, credential, -1, &s->find_credential, NULL);
	if (r == SQLITE_OK)
		r = sqlite3_prepare_v2(s->db, valid, -1, &s->valid, NULL);
	if (r == SQLITE_OK)
		r = sqlite3_prepare_v2(s->db, audit, -1, &s->audit, NULL);
	return r;
}

/* A copy. */
static int choose_folder(const char *given, char **ret_folder, struct err *err)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	int n;

	if (!given || !*given)
		given = getenv("MICROPOD_DATA");
	if (given && *given)
		n = asprintf(ret_folder, "%s", given);
	else if (geteuid() == 0)
		n = asprintf(ret_folder, "/var/lib/micropod-server");
	else if (data && *data == '/')
		n = asprintf(ret_folder, "%s/micropod-server", data);
	else if (home && *home == '/')
		n = asprintf(ret_folder, "%s/.local/share/micropod-server", home);
	else
		return err_set(err, ENOENT, "there is no HOME to keep tokens in: give --data DIR");
	if (n >= 0)
		return 0;
	*ret_folder = NULL;
	return err_errno(err, ENOMEM, "cannot find the server's folder");
}

int store_open(const char *given, struct store **ret_store, struct err *err)
{
	struct store *s = calloc(1, sizeof(*s));
	auto_free char *path = NULL, *dir = NULL;
	int r = s ? choose_folder(given, &dir, err)
		  : err_errno(err, ENOMEM, "cannot open the server's folder");

	if (r == 0 && (r = fs_make_dirs(dir, 0700)) < 0)
		err_errno(err, -r, "cannot make the folder '%s'", dir);
	if (r == 0)
		r = fs_private_dir(dir, err);
	if (r == 0 && asprintf(&path, "%s/" FILE_NAME, dir) < 0) {
		path = NULL;
		r = err_errno(err, ENOMEM, "cannot open '%s'", dir);
	}
	if (r < 0) {
		free(s);
		return r;
	}
	r = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
	if (r == SQLITE_OK)
		r = sqlite3_busy_timeout(s->db, BUSY_MS);
	if (r == SQLITE_OK)
		r = sqlite3_exec(s->db, schema, NULL, NULL, NULL);
	if (r == SQLITE_OK)
		r = prepare(s);
	if (r != SQLITE_OK) {
		r = err_set(err, db_errno(r), "cannot use the database '%s': %s", path,
			s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(r));
		store_close(s);
		return r;
	}
	*ret_store = s;
	return 0;
}

struct store *store_close(struct store *s)
{
	if (!s)
		return NULL;
	sqlite3_finalize(s->find);
	sqlite3_finalize(s->find_credential);
	sqlite3_finalize(s->valid);
	sqlite3_finalize(s->audit);
	sqlite3_close(s->db);
	free(s);
	return NULL;
}

/* Tokens */

int store_make_token(struct store *s, enum store_kind kind, const char *subject,
	char id[static STORE_ID_LEN + 1], char token[static STORE_TOKEN_LEN + 1], struct err *err)
{
	uint8_t random[STORE_TOKEN_LEN / 2], hash[DIGEST_SIZE];
	sqlite3_stmt *st = NULL;
	int r;

	random_bytes(random, STORE_ID_LEN / 2);
	hex_encode(random, STORE_ID_LEN / 2, id);
	random_bytes(random, sizeof(random));
	hex_encode(random, sizeof(random), token);
	explicit_bzero(random, sizeof(random));
	if (digest(token, STORE_TOKEN_LEN, hash) < 0)
		return err_errno(err, ENOMEM, "cannot make a token");
	r = sqlite3_prepare_v2(s->db,
		"INSERT INTO token(id, kind, subject, hash, created_ns) VALUES (?, ?, ?, ?, ?)", -1,
		&st, NULL);
	if (r == SQLITE_OK) {
		sqlite3_bind_text(st, 1, id, -1, SQLITE_STATIC);
		sqlite3_bind_int(st, 2, kind);
		sqlite3_bind_text(st, 3, subject, -1, SQLITE_STATIC);
		sqlite3_bind_blob(st, 4, hash, sizeof(hash), SQLITE_STATIC);
		sqlite3_bind_int64(st, 5, clock_realtime());
		r = sqlite3_step(st);
	}
	sqlite3_finalize(st);
	return r == SQLITE_DONE ? 0 : db_err(s, r, "make a token", err);
}

int store_revoke(struct store *s, const char *id, struct err *err)
{
	sqlite3_stmt *st = NULL;
	int r = sqlite3_prepare_v2(s->db,
		"UPDATE token SET revoked_ns = ? WHERE id = ? AND revoked_ns = 0", -1, &st, NULL);

	if (r == SQLITE_OK) {
		sqlite3_bind_int64(st, 1, clock_realtime());
		sqlite3_bind_text(st, 2, id, -1, SQLITE_STATIC);
		r = sqlite3_step(st);
	}
	sqlite3_finalize(st);
	if (r != SQLITE_DONE)
		return db_err(s, r, "revoke a token", err);
	return sqlite3_changes(s->db) ? 0 : err_set(err, ENOENT, "no such token: %s", id);
}

static void read_identity(sqlite3_stmt *st, struct store_identity *who)
{
	int kind = sqlite3_column_int(st, 1);

	snprintf(who->id, sizeof(who->id), "%s", (const char *)sqlite3_column_text(st, 0));
	who->kind = kind >= 0 && kind < STORE_KIND_MAX ? (enum store_kind)kind : STORE_SANDBOX;
	snprintf(
		who->subject, sizeof(who->subject), "%s", (const char *)sqlite3_column_text(st, 2));
}

int store_list(struct store *s, int (*fn)(const struct store_token *token, void *arg), void *arg,
	struct err *err)
{
	sqlite3_stmt *st = NULL;
	int r = sqlite3_prepare_v2(s->db,
		"SELECT id, kind, subject, created_ns, used_ns, revoked_ns FROM token"
		" ORDER BY created_ns",
		-1, &st, NULL);

	while (r == SQLITE_OK || r == SQLITE_ROW) {
		struct store_token token;

		r = sqlite3_step(st);
		if (r != SQLITE_ROW)
			break;
		read_identity(st, &token.who);
		token.created_ns = sqlite3_column_int64(st, 3);
		token.used_ns = sqlite3_column_int64(st, 4);
		token.revoked_ns = sqlite3_column_int64(st, 5);
		if (fn(&token, arg) < 0)
			break;
	}
	sqlite3_finalize(st);
	return r == SQLITE_DONE || r == SQLITE_ROW ? 0 : db_err(s, r, "list the tokens", err);
}

static int find_by(sqlite3_stmt *st, const void *secret, size_t len, struct store_identity *who)
{
	uint8_t hash[DIGEST_SIZE];
	int r;

	if (digest(secret, len, hash) < 0)
		return -ENOMEM;
	sqlite3_bind_blob(st, 1, hash, sizeof(hash), SQLITE_STATIC);
	r = sqlite3_step(st);
	if (r == SQLITE_ROW)
		read_identity(st, who);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return r == SQLITE_ROW ? 0 : r == SQLITE_DONE ? -ENOENT : -db_errno(r);
}

int store_find(struct store *s, const void *token, size_t len, struct store_identity *ret_who)
{
	return find_by(s->find, token, len, ret_who);
}

int store_find_credential(
	struct store *s, const void *credential, size_t len, struct store_identity *ret_who)
{
	return find_by(s->find_credential, credential, len, ret_who);
}

int store_use(struct store *s, const char *id)
{
	sqlite3_stmt *st = NULL;
	int r = sqlite3_prepare_v2(
		s->db, "UPDATE token SET used_ns = ? WHERE id = ? AND used_ns = 0", -1, &st, NULL);

	if (r == SQLITE_OK) {
		sqlite3_bind_int64(st, 1, clock_realtime());
		sqlite3_bind_text(st, 2, id, -1, SQLITE_STATIC);
		r = sqlite3_step(st);
	}
	sqlite3_finalize(st);
	if (r != SQLITE_DONE)
		return -db_errno(r);
	return sqlite3_changes(s->db) ? 0 : -EEXIST;
}

int store_keep_credential(
	struct store *s, const char *id, const void *credential, size_t len, struct err *err)
{
	sqlite3_stmt *st = NULL;
	uint8_t hash[DIGEST_SIZE];
	int r;

	if (digest(credential, len, hash) < 0)
		return err_errno(err, ENOMEM, "cannot keep a credential");
	r = sqlite3_prepare_v2(
		s->db, "UPDATE token SET credential = ? WHERE id = ?", -1, &st, NULL);
	if (r == SQLITE_OK) {
		sqlite3_bind_blob(st, 1, hash, sizeof(hash), SQLITE_STATIC);
		sqlite3_bind_text(st, 2, id, -1, SQLITE_STATIC);
		r = sqlite3_step(st);
	}
	sqlite3_finalize(st);
	return r == SQLITE_DONE ? 0 : db_err(s, r, "keep a credential", err);
}

bool store_valid(struct store *s, const char *id)
{
	bool valid;

	sqlite3_bind_text(s->valid, 1, id, -1, SQLITE_STATIC);
	valid = sqlite3_step(s->valid) == SQLITE_ROW;
	sqlite3_reset(s->valid);
	sqlite3_clear_bindings(s->valid);
	return valid;
}

void store_audit(struct store *s, const char *who, const char *what, const char *host,
	const char *sandbox, const char *result, int64_t duration_ns)
{
	const char *const texts[] = { who, what, host, sandbox, result };
	int r;

	sqlite3_bind_int64(s->audit, 1, clock_realtime());
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		sqlite3_bind_text(s->audit, (int)i + 2, texts[i], -1, SQLITE_STATIC);
	sqlite3_bind_double(s->audit, 7, (double)duration_ns / 1e6);
	r = sqlite3_step(s->audit);
	sqlite3_reset(s->audit);
	sqlite3_clear_bindings(s->audit);
	if (r != SQLITE_DONE)
		log_error("audit: a row is lost: %s", sqlite3_errmsg(s->db));
}
