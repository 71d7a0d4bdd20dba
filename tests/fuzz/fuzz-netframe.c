/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's stream of frames in pieces of a size that the first byte gives; each frame goes through
 * the filter. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "net/filter.h"
#include "net/frame.h"

static size_t total;

static void on_frame(const uint8_t *frame, size_t len, void *arg)
{
	/* A copy of the exact size, so that a read beyond it is seen. */
	uint8_t *copy = malloc(len);

	memcpy(copy, frame, len);
	total += 4 + len;
	if (filter_frame(&net_plan_alone, copy, len) == FILTER_PASS && len < 14 + 20)
		abort();
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct frame_reader r;
	size_t piece = size ? (size_t)data[0] * 8 + 1 : 1;
	int e = 0;

	r.len = 0;
	total = 0;
	for (size_t done = 0; done < size && e == 0;) {
		size_t room, n;
		void *space = frame_reader_space(&r, &room);

		if (!room)
			abort();
		n = MIN(MIN(piece, room), size - done);
		memcpy(space, data + done, n);
		frame_reader_added(&r, n);
		e = frame_reader_each(&r, on_frame, NULL);
		done += n;
	}
	if (e == 0 && total + r.len != size)
		abort();
	on_frame(data, size, NULL);
	return 0;
}
