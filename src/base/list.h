/* SPDX-License-Identifier: Apache-2.0 */
/* An intrusive doubly linked list: a head and its entries are all `struct list`, linked in a ring.
 */
#pragma once

#include <stdbool.h>

#include "base/macro.h"

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(l)       \
	{                  \
		&(l), &(l) \
	}

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

/* Puts entry in front of pos: at the tail if pos is the head. */
static inline void list_add_tail(struct list *pos, struct list *entry)
{
	entry->prev = pos->prev;
	entry->next = pos;
	pos->prev->next = entry;
	pos->prev = entry;
}

/* Takes entry out of its list, if it is in one; it may be removed twice. */
static inline void list_remove(struct list *entry)
{
	entry->prev->next = entry->next;
	entry->next->prev = entry->prev;
	list_init(entry);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)

#define list_foreach(pos, head, member)                                                        \
	for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head); \
		pos = list_entry(pos->member.next, __typeof__(*pos), member))

/* The entry at pos may be removed and freed in the body; no other may. */
#define list_foreach_safe(pos, tmp, head, member)                         \
	for (pos = list_entry((head)->next, __typeof__(*pos), member),    \
	    tmp = list_entry(pos->member.next, __typeof__(*pos), member); \
		&pos->member != (head);                                   \
		pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*tmp), member))
