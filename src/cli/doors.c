/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void accept_native(struct listener *lr, struct stream *stream)
{
	proxy_accept(((struct process *)lr->owner)->proxy, stream);
}

static void accept_http(struct listener *lr, struct stream *stream)
{
	proxy_accept_http(((struct process *)lr->owner)->proxy, stream);
}

static void accept_redis(struct listener *lr, struct stream *stream)
{
	proxy_accept_redis(((struct process *)lr->owner)->proxy, stream);
}

int listen_at(struct process *s, struct listener *lr, enum kept_door door, const char *text,
	      void (*accepted)(struct listener *lr, struct stream *stream))
{
	static const char *const schemes[KEPT_DOORS] = { [KEPT_LISTEN] = "tcp",
							 [KEPT_UNIX] = "unix",
							 [KEPT_HTTP] = "http",
							 [KEPT_REDIS] = "redis" };
	char shown[ADDRESS_TEXT_MAX];
	struct address a;
	int r;

	text = kept_door(&s->kept, door, text);
	r = address_parse(text, &a);

	*lr = (struct listener){ .accepted = accepted, .owner = s };
	if (r == 0 && s->config->is_dev && !address_is_loopback(&a)) {
		fprintf(stderr,
			"wadi: %s is not a loopback address, and `wadi dev` asks for no tokens; "
			"use `wadi run` with --key and --token-key\n",
			text);
		return -EACCES;
	}
	if (r == 0)
		r = listener_open(s->loop, &a, lr);
	if (r < 0)
		return complain("cannot listen at", text, r);
	kept_set_door(&s->kept, door, &lr->address);
	address_format(&lr->address, shown, sizeof(shown));
	if (schemes[door]) {
		const char *at = strstr(shown, "://");

		printf("endpoint=%s%s\n", schemes[door], at ? at : shown);
	}
	return 0;
}

int doors_open(struct process *s)
{
	const struct process_config *c = s->config;
	char text[ADDRESS_TEXT_MAX + 16];
	int r = 0;

	/* A process with metadata alone listens there for it; one with a store, for that. */
	if (c->roles & WITH_PROXY) {
		if (c->is_dev || !(c->roles & (WITH_META | WITH_STORE)))
			r = listen_at(s, &s->listen, KEPT_LISTEN, c->listen, accept_native);
		snprintf(text, sizeof(text), "unix://%s", s->socket_path);
		if (r == 0)
			r = listen_at(s, &s->unix_listen, KEPT_UNIX, text, accept_native);
		if (r == 0 && c->http)
			r = listen_at(s, &s->http, KEPT_HTTP, c->http, accept_http);
		if (r == 0 && c->redis)
			r = listen_at(s, &s->redis, KEPT_REDIS, c->redis, accept_redis);
	}
	return r;
}
