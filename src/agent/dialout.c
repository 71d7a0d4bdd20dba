/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/dialout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api.h"

/* One server's variables. */
struct variables {
	const char *url, *token, *plain, *pin, *ca;
};

static const struct variables server_variables = { "AGENT_SERVER_URL", "AGENT_TOKEN",
	"AGENT_INSECURE_PLAINTEXT", "AGENT_SERVER_PIN", "AGENT_SERVER_CA" };
/* Never anything but a socket on the same host. */
static const struct variables shim_variables = { .url = "AGENT_SHIM_URL",
	.token = "AGENT_SHIM_TOKEN" };

/* The variable's value, out of the environment; to be wiped with forget(). NULL: not set. */
static char *take(const char *name)
{
	char *value = name ? getenv(name) : NULL;

	if (value)
		unsetenv(name);
	return value;
}

/* In the block that the kernel has made, with the name in front: /proc/PID/environ shows it. */
static void forget(const char *name, char *value)
{
	if (value)
		explicit_bzero(value - strlen(name) - 1, strlen(name) + 1 + strlen(value));
}

/* With https, exactly one of pin and ca; without it none. */
static int check_trust(struct dialout *d, const struct variables *v, const char *url,
	const struct tls_trust *trust, struct err *err)
{
	if (!d->url.tls && (trust->pin || trust->ca))
		return err_set(err, EINVAL, "%s is for https://, and %s is '%s'",
			trust->pin ? v->pin : v->ca, v->url, url);
	if (d->url.tls && !trust->pin && !trust->ca)
		return err_set(err, EINVAL,
			"%s: '%s' needs AGENT_SERVER_PIN or AGENT_SERVER_CA: what the image trusts "
			"is not asked",
			v->url, url);
	if (d->url.tls || d->url.named)
		return secure_new(&d->url, trust, &d->secure, err);
	return 0;
}

static int check(struct dialout *d, const struct variables *v, const char *url, const char *token,
	const char *plain, const struct tls_trust *trust, struct err *err)
{
	size_t len = token ? strlen(token) : 0;

	if (!url || !*url)
		return 0;
	if (tunnel_url_parse(url, &secure_urls, &d->url, err) < 0)
		return err_wrap(err, "%s", v->url);
	if (!len || len > sizeof(d->token))
		return err_set(err, EINVAL, "%s is %s: %s needs one", v->token,
			len ? "too long" : "missing", v->url);
	if (d->url.exposed && (!plain || strcmp(plain, "1") != 0))
		return err_set(err, EPERM,
			"%s: the token would go to '%s' in plain: use a loopback address or "
			"unix:///PATH, or allow it with AGENT_INSECURE_PLAINTEXT=1",
			v->url, url);
	if (check_trust(d, v, url, trust, err) < 0)
		return -err->code;
	memcpy(d->token, token, len);
	d->token_len = len;
	d->wanted = true;
	return 0;
}

static int take_server(struct dialout *d, const struct variables *v, struct err *err)
{
	char *url = take(v->url), *token = take(v->token), *plain = take(v->plain),
	     *pin = take(v->pin), *ca = take(v->ca);
	const struct tls_trust trust = { .pin = pin && *pin ? pin : NULL,
		.ca = ca && *ca ? ca : NULL };
	int r;

	*d = (struct dialout){ 0 };
	r = check(d, v, url, token, plain, &trust, err);
	forget(v->url, url);
	forget(v->token, token);
	forget(v->plain, plain);
	forget(v->pin, pin);
	forget(v->ca, ca);
	return r;
}

int dialout_take(struct dialout *shim, struct dialout *server, struct dialout_window *window,
	struct err *err)
{
	char *size = take("AGENT_WINDOW");
	int r = take_server(server, &server_variables, err), r2;

	*window = (struct dialout_window){ 0 };
	if (size && sscanf(size, "%5hux%5hu", &window->rows, &window->columns) != 2)
		*window = (struct dialout_window){ 0 };
	forget("AGENT_WINDOW", size);
	/* Both, so that nothing of either stays in the environment. */
	r2 = take_server(shim, &shim_variables, r < 0 ? NULL : err);
	return r < 0 ? r : r2;
}

void dialout_deinit(struct dialout *d)
{
	d->secure = secure_free(d->secure);
	explicit_bzero(d->token, sizeof(d->token));
}

int dialout_start(struct dialout *d, struct loop *loop, struct rpc_server *server,
	void (*changed)(void *arg, const char *why), void *arg, struct tunnel_dialer **ret_dialer)
{
	struct tunnel_dialer_opts opts = { .url = d->url,
		.token = d->token,
		.token_len = d->token_len,
		.server = server,
		.api_generation = API_GENERATION,
		.changed = changed,
		.arg = arg };
	int r = d->secure ? secure_use(d->secure, loop, &opts) : 0;

	if (r == 0)
		r = tunnel_dialer_new(loop, &opts, ret_dialer);
	explicit_bzero(d->token, sizeof(d->token));
	return r;
}
