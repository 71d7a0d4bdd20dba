/* SPDX-License-Identifier: Apache-2.0 */
/* --filter of verbs that list or remove sandboxes: of one key any value, of several keys all. */
#pragma once

#include "sandbox/manager.h"

/* 0, or -EINVAL with err for a key or value that is not known. */
int filters_check(const struct strv *filters, struct err *err);
bool filters_match(const struct strv *filters, const struct sandbox *box);
/* Whether one of them is about sandboxes that do not run (status, exited). */
bool filters_ask_for_ended(const struct strv *filters);
