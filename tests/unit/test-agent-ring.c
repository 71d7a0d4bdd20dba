/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "agent/ring.h"
#include "base/clock.h"
#include "base/limits.h"

static uint8_t pattern(uint64_t offset)
{
	return (uint8_t)(offset * 131 + offset / 251);
}

static void put(struct ring *ring, size_t len, int64_t time)
{
	static uint8_t buf[LIMIT_RING];

	for (size_t i = 0; i < len; i++)
		buf[i] = pattern(ring->end + i);
	CHECK_INT(ring_write(ring, buf, len, time), 0);
}

/* Reads all there is; checks bytes, and that gaps are exact. Returns the bytes that were lost. */
static uint64_t drain(struct ring_reader *r)
{
	struct ring_piece p;
	uint64_t lost = 0;

	while (ring_peek(r, 1000, false, &p)) {
		CHECK_INT(p.gap_from, r->offset);
		CHECK_INT(p.gap_to, p.offset);
		lost += p.gap_to - p.gap_from;
		for (size_t i = 0; i < p.len; i++)
			if (p.data[i] != pattern(p.offset + i))
				CHECK_INT(p.offset + i, -1);
		ring_advance(r, p.offset + p.len);
	}
	return lost;
}

static void grows_and_keeps_bytes(void)
{
	struct ring ring;
	struct ring_reader r;

	ring_init(&ring, RING_DROP);
	ring_attach(&ring, &r, 0);
	for (size_t n = 1; n < 3000; n += 7)
		put(&ring, n, (int64_t)n);
	CHECK(ring.cap <= LIMIT_RING);
	CHECK_INT(drain(&r), 0);
	CHECK_INT(r.offset, ring.end);
	ring_deinit(&ring);
}

static void small_output_costs_little(void)
{
	struct ring ring;

	ring_init(&ring, RING_BLOCK);
	put(&ring, 5, 1);
	CHECK(ring.cap <= 512);
	ring_trim(&ring);
	CHECK_INT(ring.cap, 16);
	put(&ring, 100, 2);
	CHECK_INT(ring.end, 105);
	ring_deinit(&ring);
}

static void drop_tells_each_reader_its_gap(void)
{
	struct ring ring;
	struct ring_reader fast, slow, late;

	ring_init(&ring, RING_DROP);
	ring_attach(&ring, &slow, 0);
	ring_attach(&ring, &fast, 0);
	put(&ring, LIMIT_RING, 1);
	CHECK_INT(drain(&fast), 0);
	put(&ring, 4242, 2);
	CHECK_INT(ring.begin, 4242);
	CHECK_INT(ring.end - ring.begin, LIMIT_RING);
	CHECK_INT(drain(&fast), 0);
	CHECK_INT(drain(&slow), 4242);
	ring_attach(&ring, &late, 17);
	CHECK_INT(drain(&late), 4242 - 17);
	ring_deinit(&ring);
	CHECK(!slow.ring && !late.ring);
}

static void block_waits_for_the_slowest(void)
{
	struct ring ring;
	struct ring_reader a, b;

	ring_init(&ring, RING_BLOCK);
	put(&ring, LIMIT_RING, 1);
	CHECK_INT(ring_space(&ring), 0);
	ring_attach(&ring, &a, 0);
	ring_attach(&ring, &b, 0);
	CHECK_INT(ring_space(&ring), 0);
	ring_advance(&a, 1000);
	CHECK_INT(ring_space(&ring), 0);
	ring_advance(&b, 600);
	CHECK_INT(ring_space(&ring), 600);
	put(&ring, 600, 2);
	CHECK_INT(drain(&a), 0);
	CHECK_INT(drain(&b), 0);
	CHECK_INT(ring_space(&ring), LIMIT_RING);
	ring_detach(&a);
	ring_detach(&b);
	/* Without a reader what is kept stays. */
	CHECK_INT(ring_space(&ring), 0);
	ring_deinit(&ring);
}

static void reader_beyond_the_end_waits(void)
{
	struct ring ring;
	struct ring_reader r;
	struct ring_piece p;

	ring_init(&ring, RING_BLOCK);
	put(&ring, 10, 1);
	ring_attach(&ring, &r, UINT64_MAX);
	CHECK_INT(r.offset, 10);
	CHECK(!ring_peek(&r, 100, false, &p));
	put(&ring, 1, 1);
	CHECK(ring_peek(&r, 100, false, &p));
	CHECK_INT(p.offset, 10);
	ring_deinit(&ring);
}

static void times_follow_bytes(void)
{
	struct ring ring;
	struct ring_reader r;
	struct ring_piece p;

	ring_init(&ring, RING_DROP);
	ring_attach(&ring, &r, 0);
	put(&ring, 10, 1 * NSEC_PER_SEC);
	put(&ring, 10, 2 * NSEC_PER_SEC);
	put(&ring, 10, 3 * NSEC_PER_SEC);
	CHECK(ring_peek(&r, 100, true, &p));
	CHECK_INT(p.len, 10);
	CHECK_INT(p.time, 1 * NSEC_PER_SEC);
	CHECK(ring_peek(&r, 100, false, &p));
	CHECK_INT(p.len, 30);
	CHECK_INT(p.last_time, 3 * NSEC_PER_SEC);
	ring_advance(&r, 15);
	CHECK(ring_peek(&r, 100, true, &p));
	CHECK_INT(p.len, 5);
	CHECK_INT(p.time, 2 * NSEC_PER_SEC);
	CHECK_INT(ring_find_time(&ring, 0), 0);
	CHECK_INT(ring_find_time(&ring, 2 * NSEC_PER_SEC), 10);
	CHECK_INT(ring_find_time(&ring, 2 * NSEC_PER_SEC + 1), 20);
	CHECK_INT(ring_find_time(&ring, 4 * NSEC_PER_SEC), 30);
	ring_deinit(&ring);
}

static void marks_are_bounded(void)
{
	struct ring ring;
	struct ring_reader r;
	struct ring_piece p;

	ring_init(&ring, RING_DROP);
	for (int64_t i = 0; i < 100 * LIMIT_RING_MARKS; i++)
		put(&ring, 3, i * NSEC_PER_SEC);
	CHECK(ring.n_marks <= LIMIT_RING_MARKS);
	CHECK(ring.resolution > NSEC_PER_MSEC);
	ring_attach(&ring, &r, ring.end - 1);
	CHECK(ring_peek(&r, 1, true, &p));
	/* As precise as the resolution says. */
	CHECK(100 * LIMIT_RING_MARKS * NSEC_PER_SEC - p.time <= 2 * ring.resolution + NSEC_PER_SEC);
	ring_deinit(&ring);
}

TEST_MAIN(TEST(grows_and_keeps_bytes), TEST(small_output_costs_little),
	TEST(drop_tells_each_reader_its_gap), TEST(block_waits_for_the_slowest),
	TEST(reader_beyond_the_end_waits), TEST(times_follow_bytes), TEST(marks_are_bounded))
