/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "driver/qmp.h"
#include "test.h"

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"

struct fixture {
	struct loop *loop;
	struct qmp *qmp;
	int far; /* QEMU's end */
	int events, closed, answers, code;
	char last_event[64], text[LIMIT_ERR_MESSAGE];
	bool free_on_event, free_on_answer, free_on_closed;
};

static void drop(struct fixture *f, bool wanted)
{
	if (wanted)
		f->qmp = qmp_free(f->qmp);
}

static void on_event(struct qmp *qmp, const char *name, json_t *data, void *arg)
{
	struct fixture *f = arg;

	f->events++;
	snprintf(f->last_event, sizeof(f->last_event), "%s", name);
	drop(f, f->free_on_event);
}

static void on_closed(struct qmp *qmp, const struct err *err, void *arg)
{
	struct fixture *f = arg;

	f->closed++;
	f->code = err->code;
	drop(f, f->free_on_closed);
}

static void on_answer(json_t *value, const struct err *err, void *arg)
{
	struct fixture *f = arg;

	f->answers++;
	f->code = err ? err->code : 0;
	snprintf(f->text, sizeof(f->text), "%s",
		err			   ? err->msg
		: json_string_value(value) ? json_string_value(value)
					   : "");
	drop(f, f->free_on_answer);
}

static void setup(struct fixture *f)
{
	struct qmp_events events = { .event = on_event, .closed = on_closed, .arg = f };
	int fds[2];

	memset(f, 0, sizeof(*f));
	REQUIRE(loop_new(&f->loop) == 0);
	REQUIRE(fd_socketpair(fds) == 0);
	f->far = fds[1];
	REQUIRE(qmp_new(f->loop, fds[0], &events, &f->qmp) == 0);
}

static void teardown(struct fixture *f)
{
	qmp_free(f->qmp);
	safe_close(f->far);
	loop_free(f->loop);
}

static void turn(struct fixture *f)
{
	for (int i = 0; i < 20; i++)
		CHECK_INT(loop_once(f->loop, clock_monotonic()), 0);
}

static void say(struct fixture *f, const char *text)
{
	CHECK_INT(fd_write_full(f->far, text, strlen(text)), 0);
	turn(f);
}

static void expect(struct fixture *f, const char *part)
{
	char buf[4096];
	ssize_t n = recv(f->far, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	buf[MAX(n, 0)] = 0;
	if (part)
		CHECK(strstr(buf, part) != NULL);
	else
		CHECK_INT(n, -1);
}

static void negotiate(struct fixture *f)
{
	say(f, GREETING);
	expect(f, "qmp_capabilities");
	say(f, "{\"return\": {}}\r\n");
}

static void commands_wait_for_negotiation(void)
{
	struct fixture f;

	setup(&f);
	CHECK_INT(qmp_command(f.qmp, "query-name", NULL, deadline_in(NSEC_PER_SEC), on_answer, &f),
		0);
	turn(&f);
	expect(&f, NULL);
	negotiate(&f);
	expect(&f, "{\"execute\":\"query-name\",\"id\":1}\n");
	say(&f, "{\"return\": \"yes\", \"id\": 1}\r\n");
	CHECK_INT(f.answers, 1);
	CHECK_STR(f.text, "yes");
	teardown(&f);
}

static void errors_carry_words(void)
{
	struct fixture f;

	setup(&f);
	negotiate(&f);
	CHECK_INT(qmp_command(f.qmp, "stop", json_pack("{s:i}", "x", 1), deadline_in(NSEC_PER_SEC),
			  on_answer, &f),
		0);
	expect(&f, "\"arguments\":{\"x\":1}");
	say(&f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\nway\"}, \"id\": 1}\n");
	CHECK_INT(f.code, EIO);
	CHECK_STR(f.text, "QEMU refused 'stop': no way");
	teardown(&f);
}

static void deadline_answers_once(void)
{
	struct fixture f;

	setup(&f);
	negotiate(&f);
	CHECK_INT(qmp_command(f.qmp, "stop", NULL, clock_monotonic(), on_answer, &f), 0);
	turn(&f);
	CHECK_INT(f.answers, 1);
	CHECK_INT(f.code, ETIMEDOUT);
	say(&f, "{\"return\": {}, \"id\": 1}\n");
	CHECK_INT(f.answers, 1);
	CHECK_INT(f.closed, 0);
	teardown(&f);
}

static void events_come_in_pieces(void)
{
	struct fixture f;

	setup(&f);
	say(&f, GREETING "{\"event\": \"SHUT");
	CHECK_INT(f.events, 0);
	say(&f, "DOWN\", \"data\": {}}\n{\"event\": \"STOP\"}\n");
	CHECK_INT(f.events, 2);
	CHECK_STR(f.last_event, "STOP");
	teardown(&f);
}

static void end_answers_what_is_open(void)
{
	struct fixture f;

	setup(&f);
	negotiate(&f);
	CHECK_INT(qmp_command(f.qmp, "stop", NULL, DEADLINE_NONE, on_answer, &f), 0);
	f.far = safe_close(f.far);
	turn(&f);
	CHECK_INT(f.answers, 1);
	CHECK_INT(f.closed, 1);
	CHECK_INT(qmp_command(f.qmp, "stop", NULL, DEADLINE_NONE, on_answer, &f), -EPIPE);
	teardown(&f);
}

static void garbage_closes(void)
{
	static const char *const bad[] = { "hello\n", "[]\n", "{}\n", "{\"error\": 1}\n",
		"{\"event\": 7}\n", "{\"QMP\": 1}\n", "\"\\u0000\"\n", "{\"a\": }\n" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct fixture f;

		setup(&f);
		say(&f, bad[i]);
		CHECK_INT(f.closed, 1);
		CHECK_INT(f.code, EPROTO);
		teardown(&f);
	}
}

static void long_line_closes(void)
{
	struct fixture f;
	char block[4096];
	ssize_t n = 1;

	setup(&f);
	memset(block, 'x', sizeof(block));
	for (size_t sent = 0; !f.closed && sent <= 2 * LIMIT_QMP_LINE && n > 0; sent += (size_t)n) {
		n = send(f.far, block, sizeof(block), MSG_NOSIGNAL);
		turn(&f);
	}
	CHECK_INT(f.closed, 1);
	CHECK_INT(f.code, EMSGSIZE);
	teardown(&f);
}

static void deep_nesting_closes(void)
{
	struct fixture f;
	char *deep = malloc(100000 + 2);

	setup(&f);
	memset(deep, '[', 100000);
	memcpy(deep + 100000, "\n", 2);
	say(&f, deep);
	CHECK_INT(f.code, EPROTO);
	free(deep);
	teardown(&f);
}

static void pending_is_limited(void)
{
	struct fixture f;

	setup(&f);
	for (int i = 0; i < LIMIT_QMP_PENDING; i++)
		CHECK_INT(qmp_command(f.qmp, "stop", NULL, DEADLINE_NONE, NULL, NULL), 0);
	CHECK_INT(qmp_command(f.qmp, "stop", NULL, DEADLINE_NONE, NULL, NULL), -EAGAIN);
	teardown(&f);
}

static void callbacks_may_free(void)
{
	struct fixture f;

	setup(&f);
	f.free_on_event = true;
	say(&f, "{\"event\": \"A\"}\n{\"event\": \"B\"}\n");
	CHECK_INT(f.events, 1);
	teardown(&f);

	setup(&f);
	f.free_on_answer = true;
	negotiate(&f);
	CHECK_INT(qmp_command(f.qmp, "a", NULL, DEADLINE_NONE, on_answer, &f), 0);
	CHECK_INT(qmp_command(f.qmp, "b", NULL, DEADLINE_NONE, on_answer, &f), 0);
	say(&f, "{\"return\": {}, \"id\": 1}\n{\"return\": {}, \"id\": 2}\n");
	CHECK_INT(f.answers, 1);
	teardown(&f);

	setup(&f);
	f.free_on_answer = true;
	CHECK_INT(qmp_command(f.qmp, "a", NULL, DEADLINE_NONE, on_answer, &f), 0);
	CHECK_INT(qmp_command(f.qmp, "b", NULL, DEADLINE_NONE, on_answer, &f), 0);
	say(&f, "nonsense\n");
	CHECK_INT(f.answers, 1);
	CHECK_INT(f.closed, 0);
	teardown(&f);
}

TEST_MAIN(TEST(commands_wait_for_negotiation), TEST(errors_carry_words),
	TEST(deadline_answers_once), TEST(events_come_in_pieces), TEST(end_answers_what_is_open),
	TEST(garbage_closes), TEST(long_line_closes), TEST(deep_nesting_closes),
	TEST(pending_is_limited), TEST(callbacks_may_free))
