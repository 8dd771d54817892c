/* SPDX-License-Identifier: Apache-2.0 */
#include "direct/direct.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/node.h"
#include "direct/direct_priv.h"

#define SCHEME "direct://"

/* Between two roles of one loop: as much as a socket would buffer. */
#define PAIR_BYTES (256u << 10)

/* Until what was closed on a loop is free. */
#define TURNS_TO_CLOSE 3

static int parse(struct direct *d)
{
	const char *p = d->endpoint + sizeof(SCHEME) - 1;
	int r = *p ? 0 : -EINVAL;

	while (*p && r == 0) {
		size_t n = strcspn(p, ",");
		char text[ADDRESS_TEXT_MAX];

		if (n == 0 || n >= sizeof(text) || d->meta_count == SHARDS_MAX)
			return -EINVAL;
		memcpy(text, p, n);
		text[n] = '\0';
		r = address_resolve(text, &d->metas[d->meta_count++]);
		p += n;
		if (*p == ',' && !*++p)
			return -EINVAL;
	}
	return r;
}

static int open_roles(struct direct *d)
{
	struct core_config core = {
		.metas = d->metas,
		.meta_count = d->meta_count,
		.key = { (const uint8_t *)d->token, strlen(d->token) },
		.is_direct = true,
	};
	struct proxy_config proxy = { .is_private = true };
	int r;

	fibers_allow(&d->loop->fibers, FIBERS_PER_LOOP); /* the proxy's, beside the handle's */
	r = net_open(d->loop, &d->net);
	if (r == 0)
		r = core_open(d->net, &core, &d->core);
	proxy.core = d->core;
	return r < 0 ? r : proxy_open(d->net, &proxy, &d->proxy);
}

static int configure(struct direct *d, const char *endpoint, const char *token)
{
	strncpy(d->token, token, sizeof(d->token) - 1);
	d->endpoint = node_alloc(strlen(endpoint) + 1);
	if (!d->endpoint)
		return -ENOMEM;
	strcpy(d->endpoint, endpoint);
	return parse(d);
}

static int open_on(struct direct *d, struct loop *l, const char *endpoint, const char *token)
{
	int r = configure(d, endpoint, token);

	d->loop = l;
	return r < 0 ? r : open_roles(d);
}

int direct_open_on(struct loop *l, const char *endpoint, const char *token, struct direct **ret)
{
	*ret = node_alloc(sizeof(**ret));
	return *ret ? open_on(*ret, l, endpoint, token) : -ENOMEM;
}

static int open_new(const char *endpoint, const char *token, struct direct **ret)
{
	struct direct *d = node_alloc(sizeof(*d));
	struct loop *l = NULL;
	int r = d ? loop_open_epoll(&l) : -ENOMEM;

	if (r == 0) {
		l->may_stay_awake = true;
		d->pid = getpid();
		r = open_on(d, l, endpoint, token);
	}
	if (r < 0) {
		direct_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

int direct_open(const char *endpoint, const char *token, struct direct **ret)
{
	struct direct *d = warm_take(endpoint, token);

	if (d) {
		/* What has happened in the meantime is seen before anybody asks. */
		int r = loop_turn(d->loop, 0);

		direct_go_on(d);
		*ret = d;
		if (r == 0)
			return 0;
		direct_free(d);
	}
	return open_new(endpoint, token, ret);
}

struct loop *direct_loop(struct direct *d)
{
	return d->loop;
}

struct net *direct_net(struct direct *d)
{
	return d->net;
}

int direct_connect(struct direct *d, struct stream **ret)
{
	struct stream *ends[2];
	int r = stream_pair(d->loop, PAIR_BYTES, ends);

	if (r < 0)
		return r;
	proxy_accept(d->proxy, ends[1]);
	*ret = ends[0];
	return 0;
}

/* Turns until `is_so`, or for DIRECT_REST_MS. */
static bool turn_until(struct direct *d, bool (*is_so)(struct direct *d))
{
	uint64_t due_ns = node_now_ns() + DIRECT_REST_MS * 1000000ull;

	while (!is_so(d))
		if (node_now_ns() >= due_ns || loop_turn(d->loop, due_ns) < 0)
			return false;
	return true;
}

bool direct_rest(struct direct *d, unsigned others)
{
	if (!proxy_has_stopped(d->proxy))
		return false;
	core_rest(d->core);
	return core_has_rested(d->core) && d->loop->fibers.alive_count == others;
}

void direct_go_on(struct direct *d)
{
	core_go_on(d->core);
}

static bool has_rested(struct direct *d)
{
	return direct_rest(d, 0);
}

static bool has_stopped(struct direct *d)
{
	return d->loop->fibers.alive_count == 0 && (!d->proxy || proxy_has_stopped(d->proxy));
}

/* As a process with these roles ends; what does not end in time is left to its end. */
void direct_free(struct direct *d)
{
	if (!d)
		return;
	if (d->proxy)
		proxy_stop(d->proxy);
	if (d->core)
		core_stop(d->core);
	if (d->loop && !turn_until(d, has_stopped))
		return;
	proxy_close(d->proxy);
	core_close(d->core);
	for (int i = 0; d->net && i < TURNS_TO_CLOSE; i++)
		(void)loop_turn(d->loop, 0);
	if (d->net)
		net_close(d->net);
	if (d->loop)
		loop_close(d->loop);
	node_free(d->endpoint);
	node_free(d);
}

void direct_close(struct direct *d)
{
	if (!d)
		return;
	if (turn_until(d, has_rested))
		warm_give(d);
	else
		direct_free(d);
}
