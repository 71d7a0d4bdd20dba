/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/output.h"
#include "cli/term.h"

#define BAR	       24
#define INTERVAL       (100 * NSEC_PER_MSEC)
#define NAME_MAX_SHOWN 40

static const char *const words[] = {
	[IMAGE_PHASE_RESOLVE] = "Asking for",
	[IMAGE_PHASE_WAIT] = "Another micropod fetches",
	[IMAGE_PHASE_DOWNLOAD] = "Fetching",
	[IMAGE_PHASE_LAYER] = "Fetching layer",
	[IMAGE_PHASE_BUILD] = "Making the disk from layer",
};
static_assert(ARRAY_SIZE(words) == IMAGE_PHASE_MAX, "words for each phase");

void progress_init(struct progress *progress, bool quiet)
{
	*progress =
		(struct progress){ .on = !quiet && isatty(STDERR_FILENO), .last = IMAGE_PHASE_MAX };
}

void progress_show(void *arg, const struct image_progress *what)
{
	struct progress *p = arg;
	char line[256], bar[BAR + 1], done[32], total[32];
	uint32_t rows, columns = 80;
	const char *text = what->text;
	size_t filled;
	int64_t now = clock_monotonic();

	if (!p->on || (what->phase == p->last && now < p->next && what->done < what->total))
		return;
	p->last = what->phase;
	p->next = now + INTERVAL;
	if (strncmp(text, "sha256:", 7) == 0)
		text += 7;
	if (what->total) {
		filled = (size_t)(MIN(what->done, what->total) * BAR / what->total);
		memset(bar, '.', BAR);
		memset(bar, '#', filled);
		bar[BAR] = 0;
		snprintf(line, sizeof(line), "%s %.12s [%s] %s of %s", words[what->phase], text,
			bar, output_size(what->done, done, sizeof(done)),
			output_size(what->total, total, sizeof(total)));
	} else {
		snprintf(line, sizeof(line), "%s %.*s", words[what->phase], NAME_MAX_SHOWN, text);
	}
	if (!term_size(&rows, &columns))
		columns = 80;
	fprintf(stderr, "\r%.*s\033[K", (int)columns - 1, line);
	p->shown = true;
}

void progress_clear(struct progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = false;
}
