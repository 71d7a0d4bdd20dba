/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a power-of-two buffer indexed by the absolute offset, doubled until it has
 * LIMIT_RING bytes, so that a process which prints a line costs a small block. Times are kept as
 * marks {offset, time}: a new one is set when `resolution` has passed since the last, and when
 * there are too many every second one goes and the resolution doubles; so memory is bounded and a
 * busy stream only loses precision.
 */
#include "agent/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"

#define FIRST_CAP ((size_t)512)

void ring_init(struct ring *ring, enum ring_policy policy)
{
	*ring = (struct ring){ .policy = policy, .resolution = NSEC_PER_MSEC };
	list_init(&ring->readers);
}

void ring_deinit(struct ring *ring)
{
	while (!list_empty(&ring->readers))
		ring_detach(list_entry(ring->readers.next, struct ring_reader, link));
	free(ring->data);
	free(ring->marks);
	ring->data = NULL;
	ring->marks = NULL;
}

/* The first offset that must stay: what a reader has not had yet, under RING_BLOCK. */
static uint64_t needed_from(const struct ring *ring)
{
	uint64_t from = ring->end;
	const struct ring_reader *r;

	if (list_empty(&ring->readers))
		return ring->begin;
	list_foreach (r, &ring->readers, link)
		from = MIN(from, r->offset);
	return MAX(from, ring->begin);
}

size_t ring_space(const struct ring *ring)
{
	if (ring->policy == RING_DROP)
		return LIMIT_RING;
	return (size_t)(LIMIT_RING - (ring->end - needed_from(ring)));
}

/* Copies the kept bytes into a buffer of cap bytes (a power of two that holds them). */
static int resize(struct ring *ring, size_t cap)
{
	uint8_t *data = malloc(cap);

	if (!data)
		return -ENOMEM;
	for (uint64_t o = ring->begin; o < ring->end;) {
		size_t from = o & (ring->cap - 1), to = o & (cap - 1);
		size_t n = MIN(MIN(ring->cap - from, cap - to), (size_t)(ring->end - o));

		memcpy(data + to, ring->data + from, n);
		o += n;
	}
	free(ring->data);
	ring->data = data;
	ring->cap = cap;
	return 0;
}

static int reserve(struct ring *ring, size_t more)
{
	size_t need = MIN((size_t)(ring->end - ring->begin) + more, (size_t)LIMIT_RING);
	size_t cap = MAX(ring->cap, FIRST_CAP);

	while (cap < need)
		cap *= 2;
	return cap == ring->cap ? 0 : resize(ring, cap);
}

/* Drops marks that no kept byte has any more; the one that holds for begin stays. */
static void forget_marks(struct ring *ring)
{
	size_t gone = 0;

	while (gone + 1 < ring->n_marks && ring->marks[gone + 1].offset <= ring->begin)
		gone++;
	/* In bulk, so that the moves cost little on average. */
	if (gone < 64 && gone + 1 < ring->n_marks)
		return;
	ring->n_marks -= gone;
	memmove(ring->marks, ring->marks + gone, ring->n_marks * sizeof(*ring->marks));
}

static void thin_marks(struct ring *ring)
{
	size_t n = 0;

	for (size_t i = 0; i < ring->n_marks; i += 2)
		ring->marks[n++] = ring->marks[i];
	ring->n_marks = n;
	ring->resolution *= 2;
}

static int add_mark(struct ring *ring, int64_t time)
{
	size_t cap = ring->cap_marks ? ring->cap_marks * 2 : 4;
	struct ring_mark *last = ring->n_marks ? &ring->marks[ring->n_marks - 1] : NULL;

	/* A clock that was set back starts a new mark too: times are what was read, in order of
	 * offsets. */
	if (last && time >= last->time && time < last->time + ring->resolution)
		return 0;
	if (ring->n_marks == LIMIT_RING_MARKS)
		thin_marks(ring);
	if (ring->n_marks == ring->cap_marks) {
		struct ring_mark *marks = reallocarray(ring->marks, cap, sizeof(*marks));

		if (!marks)
			return -ENOMEM;
		ring->marks = marks;
		ring->cap_marks = cap;
	}
	ring->marks[ring->n_marks++] = (struct ring_mark){ ring->end, time };
	return 0;
}

int ring_write(struct ring *ring, const void *data, size_t len, int64_t time)
{
	const uint8_t *p = data;

	assert(len <= ring_space(ring));
	if (!len)
		return 0;
	if (reserve(ring, len) < 0 || add_mark(ring, time) < 0)
		return -ENOMEM;
	if (ring->end + len - ring->begin > LIMIT_RING)
		ring->begin = ring->end + len - LIMIT_RING;
	while (len) {
		size_t at = ring->end & (ring->cap - 1), n = MIN(len, ring->cap - at);

		memcpy(ring->data + at, p, n);
		ring->end += n;
		p += n;
		len -= n;
	}
	forget_marks(ring);
	return 0;
}

void ring_trim(struct ring *ring)
{
	size_t kept = (size_t)(ring->end - ring->begin), cap = 16;
	struct ring_mark *marks;

	while (cap < kept)
		cap *= 2;
	if (cap < ring->cap)
		(void)resize(ring, cap); /* out of memory: it stays as large as it is */
	if (ring->n_marks < ring->cap_marks && ring->n_marks) {
		marks = reallocarray(ring->marks, ring->n_marks, sizeof(*marks));
		if (marks) {
			ring->marks = marks;
			ring->cap_marks = ring->n_marks;
		}
	}
}

void ring_attach(struct ring *ring, struct ring_reader *reader, uint64_t offset)
{
	reader->ring = ring;
	reader->offset = MIN(offset, ring->end);
	list_add_tail(&ring->readers, &reader->link);
}

void ring_detach(struct ring_reader *reader)
{
	if (!reader->ring)
		return;
	list_remove(&reader->link);
	reader->ring = NULL;
}

/* The index of the mark that holds for offset. */
static size_t mark_of(const struct ring *ring, uint64_t offset)
{
	size_t lo = 0, hi = ring->n_marks;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (ring->marks[mid].offset <= offset)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

bool ring_peek(
	const struct ring_reader *reader, size_t max, bool by_mark, struct ring_piece *ret_piece)
{
	const struct ring *ring = reader->ring;
	uint64_t from = MAX(reader->offset, ring->begin);
	size_t at, len, mark;

	if (from >= ring->end)
		return false;
	at = from & (ring->cap - 1);
	len = MIN(MIN(max, ring->cap - at), (size_t)(ring->end - from));
	mark = mark_of(ring, from);
	if (by_mark && mark + 1 < ring->n_marks)
		len = MIN(len, (size_t)(ring->marks[mark + 1].offset - from));
	*ret_piece = (struct ring_piece){
		.data = ring->data + at,
		.len = len,
		.offset = from,
		.gap_from = reader->offset,
		.gap_to = from,
		.time = ring->marks[mark].time,
		.last_time = ring->marks[mark_of(ring, from + len - 1)].time,
	};
	return true;
}

void ring_advance(struct ring_reader *reader, uint64_t offset)
{
	assert(offset >= reader->offset && offset <= reader->ring->end);
	reader->offset = offset;
}

uint64_t ring_find_time(const struct ring *ring, int64_t time)
{
	for (size_t i = 0; i < ring->n_marks; i++)
		if (ring->marks[i].time >= time)
			return MIN(MAX(ring->marks[i].offset, ring->begin), ring->end);
	return ring->end;
}
