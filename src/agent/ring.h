/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kept output of one stream of one process: the last LIMIT_RING bytes under absolute offsets,
 * with the time at which each part was read, and any number of readers, each with its own offset.
 *
 * Policy block: a byte makes room for a new one only when every attached reader has had it; without
 * a reader the ring fills up and then takes nothing. Policy drop: the oldest bytes go, and each
 * reader that has missed some is told exactly which. Nothing here blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

enum ring_policy { RING_BLOCK, RING_DROP };

struct ring_mark {
	uint64_t offset; /* of the first byte read at time */
	int64_t time;	 /* CLOCK_REALTIME ns */
};

struct ring {
	enum ring_policy policy;
	uint64_t begin, end; /* offsets of the first byte kept and of the next one to come */
	uint8_t *data;	     /* byte at offset o is data[o % cap]; grows up to LIMIT_RING */
	size_t cap;
	struct ring_mark *marks; /* by offset; marks[0] holds for begin */
	size_t n_marks, cap_marks;
	int64_t resolution; /* ns between marks; doubled whenever LIMIT_RING_MARKS are in use */
	struct list readers;
};

struct ring_reader {
	struct list link;
	struct ring *ring; /* NULL while not attached */
	uint64_t offset;   /* the next byte that it wants */
};

/* What a reader gets next. */
struct ring_piece {
	const uint8_t *data; /* borrowed until the ring is next written to or read from */
	size_t len;
	uint64_t offset;	   /* of data[0] */
	uint64_t gap_from, gap_to; /* bytes lost just before data; equal: none */
	int64_t time;		   /* when data was read */
	int64_t last_time; /* the same of data's last byte; equal unless the piece spans marks */
};

void ring_init(struct ring *ring, enum ring_policy policy);
/* Readers still attached are detached. */
void ring_deinit(struct ring *ring);

/* How many bytes ring_write() would take now; under RING_DROP always LIMIT_RING. */
size_t ring_space(const struct ring *ring);

/* Appends len bytes (len <= ring_space()), read at time. 0 or -ENOMEM; then nothing was taken. */
int ring_write(struct ring *ring, const void *data, size_t len, int64_t time);

/* Gives back memory that the kept bytes do not need; for a stream that has ended. */
void ring_trim(struct ring *ring);

/* offset may lie before begin (a gap comes first) or after end (clamped to it). */
void ring_attach(struct ring *ring, struct ring_reader *reader, uint64_t offset);
void ring_detach(struct ring_reader *reader); /* no-op if not attached */

/*
 * Looks at what comes next for the reader, at most max bytes; by_mark: only bytes of one mark, so
 * that they have one time. False when there is nothing. Nothing is consumed.
 */
bool ring_peek(
	const struct ring_reader *reader, size_t max, bool by_mark, struct ring_piece *ret_piece);

/* Moves past what a peek gave (its gap included): to offset, which is at least the reader's. */
void ring_advance(struct ring_reader *reader, uint64_t offset);

/* The first kept offset whose byte was read at or after time; end if there is none. */
uint64_t ring_find_time(const struct ring *ring, int64_t time);
