/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server remembers, in one SQLite database: tokens and credentials as digests, and who
 * called what. All functions block on the disk for a moment; several processes may have it open.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define STORE_ID_LEN	12 /* hex digits */
#define STORE_TOKEN_LEN 64 /* hex digits: 256 random bits */
#define STORE_SUBJECT	64

enum store_kind {
	STORE_USER,	   /* calls everything */
	STORE_HOST,	   /* joins as a runner, again and again */
	STORE_SANDBOX,	   /* calls one sandbox, by its id */
	STORE_AGENT,	   /* joins as one agent, once */
	STORE_AGENT_AGAIN, /* the same, again and again */
	STORE_KIND_MAX
};

/* Whom a token was made for. */
struct store_identity {
	char id[STORE_ID_LEN + 1]; /* of the token */
	enum store_kind kind;
	char subject[STORE_SUBJECT + 1]; /* name of the user, host or agent; the sandbox' id */
};

struct store;

#define STORE_DEFAULT_HELP "/var/lib/micropod-server, or ~/.local/share/micropod-server"

/* dir is made if it is missing (0700); NULL: MICROPOD_DATA, else /var/lib/micropod-server for root
 * and $XDG_DATA_HOME/micropod-server or ~/.local/share/micropod-server for others. 0 or -errno with
 * err. */
int store_open(const char *dir, struct store **ret_store, struct err *err);
struct store *store_close(struct store *store);

/* Either of them. */
static inline bool store_is_agent(enum store_kind kind)
{
	return kind == STORE_AGENT || kind == STORE_AGENT_AGAIN;
}

const char *store_kind_name(enum store_kind kind); /* "user", ... */

/* token: said once, never again. 0 or -errno with err. */
int store_make_token(struct store *store, enum store_kind kind, const char *subject,
	char id[static STORE_ID_LEN + 1], char token[static STORE_TOKEN_LEN + 1], struct err *err);
/* -ENOENT: there is none, or it has been revoked already. */
int store_revoke(struct store *store, const char *id, struct err *err);

struct store_token {
	struct store_identity who;
	int64_t created_ns, used_ns, revoked_ns; /* 0: not yet */
};
int store_list(struct store *store, int (*fn)(const struct store_token *token, void *arg),
	void *arg, struct err *err);

/* Whose token this is. 0; -ENOENT: nobody's, or a revoked one's. */
int store_find(struct store *store, const void *token, size_t len, struct store_identity *ret_who);
/* The same by the credential of a session. */
int store_find_credential(
	struct store *store, const void *credential, size_t len, struct store_identity *ret_who);
/* Takes one that is good once. 0; -EEXIST: somebody has. */
int store_use(struct store *store, const char *id);
/* What the session of that token comes back with; takes the place of any before. */
int store_keep_credential(
	struct store *store, const char *id, const void *credential, size_t len, struct err *err);
/* Whether it is still good: not revoked. */
bool store_valid(struct store *store, const char *id);

/* One row of the audit. Never fails: what cannot be written is
 * logged. */
void store_audit(struct store *store, const char *who, const char *what, const char *host,
	const char *sandbox, const char *result, int64_t duration_ns);
