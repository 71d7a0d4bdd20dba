/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/dialout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api.h"

/* The variable's value, out of the environment; to be wiped with forget(). NULL: not set. */
static char *take(const char *name)
{
	char *value = getenv(name);

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
static int check_trust(
	struct dialout *d, const char *url, const struct tls_trust *trust, struct err *err)
{
	if (!d->url.tls && (trust->pin || trust->ca))
		return err_set(err, EINVAL, "%s is for https://, and AGENT_SERVER_URL is '%s'",
			trust->pin ? "AGENT_SERVER_PIN" : "AGENT_SERVER_CA", url);
	if (d->url.tls && !trust->pin && !trust->ca)
		return err_set(err, EINVAL,
			"AGENT_SERVER_URL: '%s' needs AGENT_SERVER_PIN or AGENT_SERVER_CA: what "
			"the image trusts is not asked",
			url);
	if (d->url.tls || d->url.named)
		return secure_new(&d->url, trust, &d->secure, err);
	return 0;
}

static int check(struct dialout *d, const char *url, const char *token, const char *plain,
	const struct tls_trust *trust, struct err *err)
{
	size_t len = token ? strlen(token) : 0;

	if (!url || !*url)
		return 0;
	if (tunnel_url_parse(url, &secure_urls, &d->url, err) < 0)
		return err_wrap(err, "AGENT_SERVER_URL");
	if (!len || len > sizeof(d->token))
		return err_set(err, EINVAL, "AGENT_TOKEN is %s: AGENT_SERVER_URL needs one",
			len ? "too long" : "missing");
	if (d->url.exposed && (!plain || strcmp(plain, "1") != 0))
		return err_set(err, EPERM,
			"AGENT_SERVER_URL: the token would go to '%s' in plain: use a loopback "
			"address "
			"or unix:///PATH, or allow it with AGENT_INSECURE_PLAINTEXT=1",
			url);
	if (check_trust(d, url, trust, err) < 0)
		return -err->code;
	memcpy(d->token, token, len);
	d->token_len = len;
	d->wanted = true;
	return 0;
}

int dialout_take(struct dialout *d, struct err *err)
{
	char *url = take("AGENT_SERVER_URL"), *token = take("AGENT_TOKEN"),
	     *plain = take("AGENT_INSECURE_PLAINTEXT"), *window = take("AGENT_WINDOW"),
	     *pin = take("AGENT_SERVER_PIN"), *ca = take("AGENT_SERVER_CA");
	const struct tls_trust trust = { .pin = pin && *pin ? pin : NULL,
		.ca = ca && *ca ? ca : NULL };
	int r;

	*d = (struct dialout){ 0 };
	if (window && sscanf(window, "%5hux%5hu", &d->rows, &d->columns) != 2)
		d->rows = d->columns = 0;
	r = check(d, url, token, plain, &trust, err);
	forget("AGENT_SERVER_URL", url);
	forget("AGENT_TOKEN", token);
	forget("AGENT_INSECURE_PLAINTEXT", plain);
	forget("AGENT_WINDOW", window);
	forget("AGENT_SERVER_PIN", pin);
	forget("AGENT_SERVER_CA", ca);
	return r;
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
