/* SPDX-License-Identifier: Apache-2.0 */
/* The keys that leave a terminal and its process alone: Docker's --detach-keys. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define DETACH_KEYS_MAX	    8
#define DETACH_KEYS_DEFAULT "ctrl-p,ctrl-q"

struct detach_keys {
	unsigned char keys[DETACH_KEYS_MAX];
	size_t n;	/* 0: none */
	size_t matched; /* of them, at the end of what was typed so far */
};

/* "ctrl-p,ctrl-q": letters, digits, signs, or ctrl- with one of a-z @ [ \\ ] ^ _; "": none. 0 or
 * -EINVAL with err. */
int detach_keys_parse(const char *text, struct detach_keys *ret_keys, struct err *err);

/*
 * Goes through what was typed: what is not (or no longer) the begin of the keys goes to out, which
 * has room for len + DETACH_KEYS_MAX. Returns how many bytes that are. *ret_leave: all keys were
 * there; what came behind them is dropped.
 */
size_t detach_keys_filter(
	struct detach_keys *keys, const char *in, size_t len, char *out, bool *ret_leave);
