/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a session begins on a byte stream that has no connections (virtio-serial): the host sends a
 * frame of magic and nonce, the agent drops what it had, finds the frame and echoes it; the host
 * discards what comes before the echo. Both ends of it, without I/O. A zero byte stands only at the
 * start of a frame, so a frame that was cut, or bytes of an old session, never hide the next one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GREETING_MAGIC	   "\0micropod-hello\n"
#define GREETING_MAGIC_LEN 16
#define GREETING_LEN	   32 /* magic, then a nonce of 16 bytes that are not zero */

/*
 * Zero bytes that the host sends before the frame when an earlier session may have been cut: enough
 * to end any HTTP/2 frame (default SETTINGS_MAX_FRAME_SIZE) and then be a protocol error, RFC
 * 9113 4.2 and 6.1.
 */
#define GREETING_FLUSH (16 * 1024 + 64)

struct greeting {
	uint8_t frame[GREETING_LEN]; /* offer: what is sent and awaited; answer: what came and is
					echoed */
	size_t matched;
	bool offer;
};

/* The host's end: a fresh nonce; the caller sends g->frame. */
void greeting_offer(struct greeting *g);

/* The agent's end. */
void greeting_answer(struct greeting *g);

/*
 * Takes bytes up to and including the last one of the frame. Returns how many it took: fewer than
 * len only when *ret_done is set, and then the rest belongs to the session. Once done, the agent's
 * end sends g->frame.
 */
size_t greeting_feed(struct greeting *g, const void *data, size_t len, bool *ret_done);
