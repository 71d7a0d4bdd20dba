/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/strbuf.h"
#include "base/trace.h"

#define VARIABLE  "MICROPOD_TRACE"
#define STEPS_MAX 256
#define TEXT_MAX  (64 * 1024)

struct step {
	int64_t at;
	const char *who, *what; /* in the text */
};

static const char *wanted_picture(void)
{
	const char *value = getenv(VARIABLE);
	size_t len = value ? strlen(value) : 0;

	return len > 4 && strcmp(value + len - 4, ".svg") == 0 ? value : NULL;
}

int timeline_begin(struct err *err)
{
	const char *value = getenv(VARIABLE);
	int r;

	if (!value || !*value || strcmp(value, "0") == 0)
		return 0;
	if (strcmp(value, "1") != 0 && !wanted_picture())
		return err_set(err, EINVAL,
			"variable MICROPOD_TRACE is '%.100s': give 1, or a file's name ending in "
			"'.svg' for a picture",
			value);
	r = trace_begin();
	if (r < 0)
		return err_errno(err, -r, "cannot trace");
	trace_step("begin");
	return 0;
}

static int earlier(const void *a, const void *b)
{
	const struct step *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

/* Lines of "TIME WHO STEP", in the order of their times. */
static size_t read_steps(char *text, struct step steps[static STEPS_MAX])
{
	size_t n = 0;

	for (char *line = text, *end; *line && n < STEPS_MAX; line = end + 1) {
		struct step *s = &steps[n];
		char *who, *what;

		end = strchr(line, '\n');
		if (!end)
			break;
		*end = '\0';
		s->at = strtoll(line, &who, 10);
		what = *who == ' ' ? strchr(++who, ' ') : NULL;
		if (!what)
			continue;
		*what++ = '\0';
		s->who = who;
		s->what = what;
		n++;
	}
	qsort(steps, n, sizeof(*steps), earlier);
	return n;
}

static double ms(int64_t ns)
{
	return (double)ns / NSEC_PER_MSEC;
}

static void print_steps(const struct step *steps, size_t n)
{
	fprintf(stderr, "%9s %8s  %-6s %s\n", "ms", "+", "who", "step");
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "%9.1f %8.1f  %-6s %s\n", ms(steps[i].at - steps[0].at),
			i ? ms(steps[i].at - steps[i - 1].at) : 0.0, steps[i].who, steps[i].what);
}

/* A bar from the step before to the step; what it was doing stands beside. */
static void draw(const struct step *steps, size_t n, struct strbuf *out)
{
	const double left = 330, width = 560;
	double total = ms(steps[n - 1].at - steps[0].at), scale = width / (total > 0 ? total : 1);

	strbuf_addf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 980 %zu\" role=\"img\">\n"
		"<style>text { font: 12px sans-serif; fill: #24292f } .cli { fill: #6e7781 } "
		".shim { fill: #0969da } .agent { fill: #1a7f37 }\n"
		"@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .cli { fill: #8b949e "
		"} "
		".shim { fill: #4493f8 } .agent { fill: #3fb950 } }</style>\n"
		"<text x=\"8\" y=\"18\" font-weight=\"bold\">%.0f ms: <tspan class=\"cli\">command "
		"line</tspan>, <tspan class=\"shim\">shim and VM</tspan>, <tspan "
		"class=\"agent\">agent in the guest</tspan></text>\n",
		n * 18 + 34, total);
	for (size_t i = 1; i < n; i++) {
		double from = ms(steps[i - 1].at - steps[0].at), to = ms(steps[i].at - steps[0].at);

		strbuf_addf(out,
			"<text x=\"%.0f\" y=\"%zu\" text-anchor=\"end\">%s</text><rect "
			"class=\"%s\" x=\"%.1f\" y=\"%zu\" width=\"%.1f\" height=\"13\" rx=\"2\"/>"
			"<text x=\"%.1f\" y=\"%zu\">%.1f</text>\n",
			left - 8, i * 18 + 23, steps[i].what, steps[i].who, left + from * scale,
			i * 18 + 12, to > from ? (to - from) * scale + 0.5 : 0.5,
			left + to * scale + 5, i * 18 + 23, to - from);
	}
	strbuf_adds(out, "</svg>\n");
}

static int write_picture(const char *path, const struct step *steps, size_t n, struct err *err)
{
	auto_strbuf struct strbuf out = STRBUF_INIT;
	int r;

	draw(steps, n, &out);
	r = strbuf_error(&out);
	if (r == 0)
		r = fs_replace_file(AT_FDCWD, path, out.data, out.len, 0644, false);
	return r < 0 ? err_errno(err, -r, "cannot write the picture '%s'", path) : 0;
}

int timeline_show(struct err *err)
{
	auto_free char *text = NULL;
	struct step steps[STEPS_MAX];
	ssize_t len;
	size_t n;

	if (trace_fd() < 0)
		return 0;
	trace_step("end");
	text = malloc(TEXT_MAX + 1);
	len = text ? pread(trace_fd(), text, TEXT_MAX, 0) : -1;
	if (len < 0)
		return err_errno(err, text ? errno : ENOMEM, "cannot read the trace");
	text[len] = '\0';
	n = read_steps(text, steps);
	print_steps(steps, n);
	return wanted_picture() && n ? write_picture(wanted_picture(), steps, n, err) : 0;
}
