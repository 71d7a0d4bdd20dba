/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of names, by c-ares in our loop: the C library's resolver of a static program would
 * block, or load what the image has. The system's files (hosts, resolv.conf) are read anew for each
 * look-up.
 */
#pragma once

#include "io/loop.h"

struct names;

/* 0 or -ENOMEM. */
int names_new(struct loop *loop, struct names **ret_names);
/* Cancels too. Returns NULL. */
struct names *names_free(struct names *names);

/*
 * One at a time. found() comes once, from the loop, unless names_cancel() comes first: r 0 and a
 * numeric address, the first of those found; -ENOENT: there is no such name; -ETIMEDOUT; -EIO: the
 * name servers fail. 0 or -ENOMEM.
 */
int names_lookup(struct names *names, const char *name,
	void (*found)(void *arg, int r, const char *address), void *arg);
void names_cancel(struct names *names); /* no-op if there is nothing; not from found() */
