/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loop 0 accepts, and gives each connection to the loop that has the fewest, its own too.
 * Those that only monitors use stay on loop 0.
 */
#include "cli/process_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/container.h"
#include "base/log.h"
#include "base/node.h"

/* A connection on its way to its loop. */
struct arrival {
	struct letter letter;
	struct core_unit *unit;
	const struct door *door;
	int fd;
	struct address from;
};

/* On its loop. */
static void arrive(const struct arrival *a)
{
	struct core_unit *u = a->unit;
	struct stream *stream;
	int r = stream_adopt(u->home.loop, a->fd, &a->from, &stream);

	if (r < 0) {
		log_warning("A connection was dropped for want of memory error=\"%s\"",
			    strerror(-r));
		atomic_fetch_sub_explicit(&u->conn_count, 1, memory_order_relaxed);
	} else if (u->proxy) {
		a->door->accept(u->proxy, stream);
	} else {
		stream_close(stream); /* at the very end */
	}
}

static void arrive_by_letter(struct letter *l)
{
	struct arrival *a = container_of(l, struct arrival, letter);

	arrive(a);
	node_free(a);
}

/* Relaxed, here and where they change: a count that is a little late chooses a little worse. */
static struct core_unit *idlest(struct process *s)
{
	struct core_unit *best = &s->cores[0];
	unsigned fewest = atomic_load_explicit(&best->conn_count, memory_order_relaxed);

	for (unsigned i = 1; i < s->core_count; i++) {
		unsigned n = atomic_load_explicit(&s->cores[i].conn_count, memory_order_relaxed);

		if (n < fewest) {
			fewest = n;
			best = &s->cores[i];
		}
	}
	return best;
}

static void take(struct listener *lr, int fd, const struct address *from)
{
	struct door *d = container_of(lr, struct door, listener);
	struct process *s = lr->owner;
	struct arrival here = { .unit = &s->cores[0], .door = d, .fd = fd, .from = *from };
	struct arrival *letter;

	if (d->is_spread)
		here.unit = idlest(s);
	letter = here.unit == &s->cores[0] ? NULL : node_alloc(sizeof(*letter));
	if (!letter)
		here.unit = &s->cores[0];
	atomic_fetch_add_explicit(&here.unit->conn_count, 1, memory_order_relaxed);
	if (!letter) {
		arrive(&here);
		return;
	}
	*letter = here;
	letter->letter.run = arrive_by_letter;
	loop_post(here.unit->home.loop, &letter->letter);
}

int listen_at(struct process *s, struct listener *lr, enum kept_door door, const char *text)
{
	static const char *const schemes[KEPT_DOORS] = { [KEPT_LISTEN] = "tcp",
							 [KEPT_UNIX] = "unix",
							 [KEPT_HTTP] = "http",
							 [KEPT_REDIS] = "redis",
							 [KEPT_DIRECT] = "direct" };
	char shown[ADDRESS_TEXT_MAX];
	struct address a;
	int r;

	text = kept_door(&s->kept, door, text);
	r = address_parse(text, &a);
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

static int door_open(struct process *s, struct door *d, enum kept_door door, const char *text)
{
	d->listener = (struct listener){ .taken = take, .owner = s, .mode = d->mode };
	return listen_at(s, &d->listener, door, text);
}

int doors_open(struct process *s)
{
	const struct process_config *c = s->config;
	char text[ADDRESS_TEXT_MAX + 16];
	int r = 0;

	if (!(c->roles & WITH_PROXY))
		return 0;
	s->native = s->unix_native = (struct door){ .accept = proxy_accept, .is_spread = true };
	s->unix_native.mode = c->socket_mode;
	s->redis = (struct door){ .accept = proxy_accept_redis, .is_spread = true };
	s->http = (struct door){ .accept = proxy_accept_http };
	/* A process with metadata alone listens there for it; one with a store, for that. */
	if (c->is_dev || !(c->roles & (WITH_META | WITH_STORE)))
		r = door_open(s, &s->native, KEPT_LISTEN, c->listen);
	snprintf(text, sizeof(text), "unix://%s", s->socket_path);
	if (r == 0)
		r = door_open(s, &s->unix_native, KEPT_UNIX, text);
	if (r == 0 && c->http)
		r = door_open(s, &s->http, KEPT_HTTP, c->http);
	if (r == 0 && c->redis)
		r = door_open(s, &s->redis, KEPT_REDIS, c->redis);
	if (r == 0)
		r = shard_units_listen(s);
	return r;
}

void doors_close(struct process *s)
{
	listener_close(&s->native.listener);
	listener_close(&s->unix_native.listener);
	listener_close(&s->http.listener);
	listener_close(&s->redis.listener);
	listener_close(&s->store_listen);
}
