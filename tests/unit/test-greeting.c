/* SPDX-License-Identifier: Apache-2.0 */
#include "io/greeting.h"
#include "test.h"

static void echo_is_found(void)
{
	struct greeting offer, answer;
	bool done;

	greeting_offer(&offer);
	greeting_answer(&answer);
	CHECK_INT(greeting_feed(&answer, offer.frame, GREETING_LEN, &done), GREETING_LEN);
	CHECK(done);
	CHECK(memcmp(answer.frame, offer.frame, GREETING_LEN) == 0);
	CHECK_INT(greeting_feed(&offer, answer.frame, GREETING_LEN, &done), GREETING_LEN);
	CHECK(done);
}

static void what_follows_is_left(void)
{
	uint8_t bytes[100 + GREETING_LEN + 3] = { 0 };
	struct greeting g;
	bool done;

	greeting_offer(&g);
	for (int i = 0; i < 100; i++)
		bytes[i] = (uint8_t)(i * 7);
	memcpy(bytes + 100, g.frame, GREETING_LEN);
	CHECK_INT(greeting_feed(&g, bytes, sizeof(bytes), &done), 100 + GREETING_LEN);
	CHECK(done);
}

/* Every split of the stream gives the same. */
static void any_split_works(void)
{
	for (size_t cut = 0; cut <= GREETING_LEN; cut++) {
		struct greeting offer, answer;
		bool done;

		greeting_offer(&offer);
		greeting_answer(&answer);
		greeting_feed(&answer, offer.frame, cut, &done);
		CHECK_INT(done, cut == GREETING_LEN);
		if (!done) {
			CHECK_INT(greeting_feed(
					  &answer, offer.frame + cut, GREETING_LEN - cut, &done),
				GREETING_LEN - cut);
			CHECK(done);
		}
	}
}

/* A host that died in the middle of its frame: the next one is still found, wherever the cut was.
 */
static void cut_frame_hides_nothing(void)
{
	for (size_t cut = 1; cut < GREETING_LEN; cut++) {
		struct greeting old, offer, answer;
		bool done;

		greeting_offer(&old);
		greeting_offer(&offer);
		greeting_answer(&answer);
		greeting_feed(&answer, old.frame, cut, &done);
		CHECK(!done);
		CHECK_INT(greeting_feed(&answer, offer.frame, GREETING_LEN, &done), GREETING_LEN);
		CHECK(done);
		CHECK(memcmp(answer.frame, offer.frame, GREETING_LEN) == 0);
	}
}

static void old_echo_is_not_taken(void)
{
	struct greeting old, offer;
	bool done;

	greeting_offer(&old);
	greeting_offer(&offer);
	CHECK(memcmp(old.frame, offer.frame, GREETING_LEN) != 0);
	CHECK_INT(greeting_feed(&offer, old.frame, GREETING_LEN, &done), GREETING_LEN);
	CHECK(!done);
	greeting_feed(&offer, offer.frame, GREETING_LEN, &done);
	CHECK(done);
}

static void nonce_has_no_zero(void)
{
	for (int i = 0; i < 1000; i++) {
		struct greeting g;

		greeting_offer(&g);
		CHECK(!memchr(g.frame + 1, 0, GREETING_LEN - 1));
	}
}

TEST_MAIN(TEST(echo_is_found), TEST(what_follows_is_left), TEST(any_split_works),
	TEST(cut_frame_hides_nothing), TEST(old_echo_is_not_taken), TEST(nonce_has_no_zero))
