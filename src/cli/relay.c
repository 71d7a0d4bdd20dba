/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/relay.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define INPUT_STEP    (32 * KIB)
#define GIVE_UP_AFTER 3 /* interrupts: then we leave, and the process stays, as with Docker */

static const int proxied[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 };

void relay_finish(struct relay *relay, int exit_code)
{
	if (relay->over)
		return;
	relay->over = true;
	relay->exit_code = exit_code;
	source_close(&relay->in);
	loop_stop(relay->client->loop, 0);
}

void relay_fail(struct relay *relay, int exit_code, const struct err *err)
{
	if (relay->over)
		return;
	relay->error = *err;
	relay_finish(relay, exit_code);
}

/* Output */

static void on_sink_failed(struct relay *relay, int error)
{
	struct err err = ERR_INIT;

	/* As every program that writes into a closed pipe. The sandbox is not touched. */
	if (error == EPIPE) {
		relay->death = SIGPIPE;
		relay_finish(relay, 128 + SIGPIPE);
		return;
	}
	err_errno(&err, error, "cannot write the output of sandbox '%s', which goes on",
		relay->client->name);
	relay_fail(relay, EXIT_MICROPOD, &err);
}

static void on_out_failed(struct sink *sink, int error)
{
	on_sink_failed(container_of(sink, struct relay, out), error);
}

static void on_err_failed(struct sink *sink, int error)
{
	on_sink_failed(container_of(sink, struct relay, err), error);
}

void relay_output(struct relay *relay, const Micropod__Agent__V1__Output *o, struct rpc_call *call)
{
	bool is_err = o->stream == MICROPOD__AGENT__V1__STREAM__STREAM_STDERR;

	if (o->gap) {
		char note[128];
		int n = snprintf(note, sizeof(note), "micropod: %llu bytes of %s were lost\n",
			(unsigned long long)(o->gap->to - o->gap->from),
			is_err ? "stderr" : "stdout");

		sink_write(&relay->err, note, (size_t)n, call);
	}
	sink_write(is_err ? &relay->err : &relay->out, o->data.data, o->data.len, call);
}

/* Input */

void relay_input_changed(struct relay *relay)
{
	source_want(
		&relay->in, !relay->over && !relay->input_ended && relay->kind->can_send(relay));
}

static void on_input(struct source *source)
{
	struct relay *relay = container_of(source, struct relay, in);
	static char typed[INPUT_STEP - DETACH_KEYS_MAX], buf[INPUT_STEP];
	ssize_t n = read(source->fd, typed, sizeof(typed));
	bool leave = false;
	size_t len;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		len = detach_keys_filter(&relay->keys, typed, (size_t)n, buf, &leave);
		if (len)
			relay->kind->send(relay, buf, len);
	} else {
		/* An input that cannot be read (a terminal that hung up) has ended. */
		relay->input_ended = true;
		relay->kind->send(relay, NULL, 0);
	}
	if (leave) {
		relay->left = true;
		relay_finish(relay, 0);
		return;
	}
	relay_input_changed(relay);
}

/* Window size and signals */

void relay_send_size(struct relay *relay)
{
	uint32_t rows, columns;

	if (relay->tty && term_size(&rows, &columns))
		relay->kind->resize(relay, rows, columns);
}

static void give_up(struct relay *relay, int sig)
{
	relay->death = sig;
	relay_finish(relay, 128 + sig);
}

static void on_signal(struct loop_signals *sigs, const struct signalfd_siginfo *info)
{
	struct relay *relay = container_of(sigs, struct relay, signals);
	int sig = (int)info->ssi_signo;

	if (sig == SIGWINCH) {
		relay_send_size(relay);
		return;
	}
	/* With a terminal the keys that make signals go through as bytes; a signal then is meant
	 * for us. */
	if (relay->tty || !relay->sig_proxy) {
		give_up(relay, sig);
		return;
	}
	if ((sig == SIGINT || sig == SIGTERM) && ++relay->interrupts > GIVE_UP_AFTER) {
		give_up(relay, sig);
		return;
	}
	log_debug("signal %d goes to the process", sig);
	relay->kind->signal(relay, sig);
}

static int watch_signals(struct relay *relay)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGWINCH);
	for (size_t i = 0; i < ARRAY_SIZE(proxied); i++) {
		struct sigaction old;

		/* What our caller had ignored (nohup) stays ignored. */
		if (sigaction(proxied[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&mask, proxied[i]);
	}
	signal(SIGPIPE, SIG_IGN);
	return loop_signals_add(relay->client->loop, &relay->signals, &mask, on_signal);
}

/* Life */

int relay_init(struct relay *relay, const struct relay_kind *kind, struct client *client, bool tty,
	bool input, bool sig_proxy, struct err *err)
{
	int r;

	*relay = (struct relay){
		.kind = kind, .client = client, .tty = tty, .input = input, .sig_proxy = sig_proxy
	};
	r = fflush(stdout) == 0 ? 0 : -errno;
	if (r == 0)
		r = sink_open(&relay->out, client->loop, STDOUT_FILENO, on_out_failed);
	if (r == 0)
		r = sink_open(&relay->err, client->loop, STDERR_FILENO, on_err_failed);
	if (r == 0)
		r = watch_signals(relay);
	relay->watching = r == 0;
	return r < 0 ? err_errno(err, -r, "cannot use stdin and stdout") : 0;
}

int relay_raw(struct relay *relay, struct err *err)
{
	int r = relay->tty && relay->input ? term_set_raw(&relay->term, STDIN_FILENO) : 0;

	return r < 0 ? err_errno(err, -r, "cannot use the terminal") : 0;
}

int relay_go(struct relay *relay, struct err *err)
{
	int r;

	if (relay->over || !relay->input)
		return 0;
	r = source_open(&relay->in, relay->client->loop, STDIN_FILENO, on_input);
	relay_input_changed(relay);
	return r < 0 ? err_errno(err, -r, "cannot read the input") : 0;
}

static void die(int sig)
{
	sigset_t mask;

	signal(sig, SIG_DFL);
	sigemptyset(&mask);
	sigaddset(&mask, sig);
	raise(sig);
	sigprocmask(SIG_UNBLOCK, &mask, NULL);
}

int relay_run(struct relay *relay, struct err *err)
{
	int r = relay->over ? 0 : loop_run(relay->client->loop);

	sink_close(&relay->out);
	sink_close(&relay->err);
	term_restore(&relay->term);
	if (relay->death)
		die(relay->death);
	if (r < 0)
		return err_errno(err, -r, "the event loop failed");
	if (relay->left)
		fprintf(stderr, "\nread escape sequence\n");
	*err = relay->error;
	return relay->exit_code;
}

void relay_deinit(struct relay *relay)
{
	term_restore(&relay->term);
	source_close(&relay->in);
	sink_close(&relay->out);
	sink_close(&relay->err);
	if (relay->watching)
		loop_signals_remove(&relay->signals);
}
