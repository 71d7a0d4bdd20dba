/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU sends: single messages, and the same bytes to a whole client over a socket. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "driver/qmp.h"

static int answers;

static void on_answer(json_t *value, const struct err *err, void *arg)
{
	answers++;
	if ((value != NULL) == (err != NULL))
		abort();
}

static void on_closed(struct qmp *qmp, const struct err *err, void *arg)
{
	if (!err->code || !err->msg[0])
		abort();
}

static void one_message(const uint8_t *data, size_t size)
{
	struct qmp_message m;

	if (qmp_message_parse((const char *)data, size, &m) < 0)
		return;
	if (m.kind >= QMP_KIND_MAX || (m.kind == QMP_EVENT && !m.name) ||
		(m.kind == QMP_ERROR && !m.desc))
		abort();
	json_decref(m.root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qmp_events events = { .closed = on_closed };
	struct loop *loop;
	struct qmp *qmp;
	int fds[2];

	one_message(data, size);
	if (size > 65536 || loop_new(&loop) < 0)
		return 0;
	if (fd_socketpair(fds) < 0 || qmp_new(loop, fds[0], &events, &qmp) < 0)
		abort();
	answers = 0;
	for (int i = 0; i < 3; i++)
		if (qmp_command(qmp, "query-status", NULL, DEADLINE_NONE, on_answer, NULL) < 0)
			abort();
	if (send(fds[1], data, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && size)
		abort();
	for (int i = 0; i < 8; i++)
		loop_once(loop, 0);
	close(fds[1]);
	for (int i = 0; i < 4; i++)
		loop_once(loop, 0);
	/* Each command is answered once, if only by the end. */
	if (answers != 3)
		abort();
	qmp_free(qmp);
	loop_free(loop);
	return 0;
}
