/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process_priv.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/container.h"
#include "base/log.h"
#include "meta/meta.h"
#include "shm/archive.h"

/* Of what is not pool, for the log. */
#define LOG_SHARE 4

/* Where `wadi dev` has its metadata, counted from --listen: behind the other doors. */
#define DIRECT_PORT_PLUS 3

static const char *unit_socket(const struct shard_unit *u, char *buf, size_t cap)
{
	snprintf(buf, cap, "unix://%s/shard-%u.sock", u->home.process->kept.dir.path, u->index);
	return buf;
}

static void unit_accept(struct listener *lr, struct stream *stream)
{
	struct shard_unit *u = lr->owner;

	shard_accept(u->shard, stream);
}

static int unit_listen(struct shard_unit *u, struct listener *lr, const char *text)
{
	struct address a;
	int r = address_parse(text, &a);

	*lr = (struct listener){ .accepted = unit_accept, .owner = u };
	if (r == 0)
		r = listener_open(u->home.loop, &a, lr);
	return r < 0 ? complain("cannot listen at", text, r) : 0;
}

/* "host:port" with a number added to its port, for the further shards of a metadata server. */
static int address_plus(const char *text, unsigned more, char *buf, size_t cap)
{
	struct address a;
	int r = address_parse(text, &a);
	uint16_t *port;

	if (r < 0)
		return complain("not an address:", text, r);
	port = a.u.any.sa_family == AF_INET6 ? &a.u.in6.sin6_port : &a.u.in.sin_port;
	if (a.kind == ADDRESS_TCP && ntohs(*port) + more > UINT16_MAX) {
		fprintf(stderr, "wadi: %s: there is no port %u; choose a lower one\n", text,
			ntohs(*port) + more);
		return -EINVAL;
	}
	if (a.kind == ADDRESS_TCP && *port != 0)
		*port = htons((uint16_t)(ntohs(*port) + more));
	address_format(&a, buf, cap);
	return 0;
}

/* Of each shard, out of what is not pool. */
static uint64_t log_bytes(const struct process *s)
{
	uint64_t bytes = other_bytes(s) / LOG_SHARE / s->unit_count;

	return bytes > LOG_BYTES_MIN ? bytes : LOG_BYTES_MIN;
}

static int unit_open(struct loop_thread *t)
{
	struct shard_unit *u = container_of(t, struct shard_unit, home);
	struct process *s = t->process;
	struct shard_config config = {
		.index = u->index,
		.count = (uint16_t)s->unit_count,
		.is_open_loopback = s->config->is_dev || !s->config->key_file,
		.key = { s->key, s->key_len },
		.token_key = { s->token_key, s->token_key_len },
		.keep = s->kept.keep,
		.archive = s->archives[u->index],
		.media = &media_memfd,
		.is_full = &s->budget.is_full,
		.parked_bytes = s->config->memory_bytes / PARKED_SHARE / s->unit_count,
		.log_bytes = log_bytes(s),
		.snapshot_bytes = s->config->snapshot_bytes,
		.store_gone_ms = s->config->store_gone_ms,
		.store_here = s->store_socket,
	};
	char text[ADDRESS_TEXT_MAX + 16];
	int r;

	for (unsigned i = 0; i < s->unit_count; i++)
		config.addresses[i] = s->units[i].address;
	r = shard_open(&config, t->loop, t->net, &u->shard);
	if (r < 0)
		return complain("cannot open", "a metadata shard", r);
	if (s->kept.is_again && !shard_went_on(u->shard))
		log_error(
			"All jobs of a metadata shard are lost: the keeper did not have its log. "
			"Server "
			"and keeper were killed at about the same time; --data keeps a log on disk "
			"shard=%u",
			u->index);
	if (u->index > 0 && s->config->is_dev)
		r = unit_listen(u, &u->unix_listener, unit_socket(u, text, sizeof(text)));
	if (r == 0 && !s->config->is_dev)
		r = unit_listen(u, &u->listener, u->address);
	return r;
}

static void unit_close(struct loop_thread *t)
{
	struct shard_unit *u = container_of(t, struct shard_unit, home);

	listener_close(&u->listener);
	listener_close(&u->unix_listener);
	if (u->shard)
		shard_close(u->shard);
	u->shard = NULL;
}

/* A directory for each shard, since each has a thread of its own that writes there. */
static int archives_open(struct process *s)
{
	char path[PATH_MAX];
	int r = 0;

	for (unsigned i = 0; i < s->unit_count && r == 0 && s->config->data; i++) {
		if (snprintf(path, sizeof(path), "%s/shard-%u", s->config->data, i) >=
		    (int)sizeof(path))
			r = -ENAMETOOLONG;
		if (r == 0)
			r = archive_open(path, &s->archives[i]);
		if (r < 0)
			return complain("cannot keep a log in", path, r);
	}
	return 0;
}

int shard_units_listen(struct process *s)
{
	struct shard_unit *u = &s->units[0];
	struct address a;
	char text[ADDRESS_TEXT_MAX];
	int r = 0;

	if (!s->config->is_dev)
		return 0;
	if (s->config->direct)
		snprintf(text, sizeof(text), "%s", s->config->direct);
	else if (address_parse(s->config->listen, &a) < 0 || a.kind != ADDRESS_TCP)
		return 0;
	else
		r = address_plus(s->config->listen, DIRECT_PORT_PLUS, text, sizeof(text));
	u->listener = (struct listener){ .accepted = unit_accept, .owner = u };
	return r < 0 ? r : listen_at(s, &u->listener, KEPT_DIRECT, text);
}

int shard_units_open(struct process *s)
{
	int r = archives_open(s);

	if (s->config->roles & WITH_STORE)
		store_unit_socket(s, s->store_socket, sizeof(s->store_socket));

	for (unsigned i = 0; i < s->unit_count && r == 0; i++) {
		s->units[i] = (struct shard_unit){
			.home = { .process = s, .open = unit_open, .close = unit_close },
			.index = (uint16_t)i,
		};
		if (s->config->is_dev)
			unit_socket(&s->units[i], s->units[i].address, ADDRESS_TEXT_MAX);
		else
			r = address_plus(s->config->listen, i, s->units[i].address,
					 ADDRESS_TEXT_MAX);
	}
	if (r == 0 && s->unit_count > 0) {
		s->units[0].home.loop = s->loop;
		s->units[0].home.net = s->net;
		r = unit_open(&s->units[0].home);
	}
	for (unsigned i = 1; i < s->unit_count && r == 0; i++)
		r = loop_thread_start(&s->units[i].home);
	return r;
}

void shard_units_close(struct process *s, bool must_leave)
{
	for (unsigned i = 0; i < s->unit_count && must_leave; i++)
		if (s->units[i].shard)
			shard_leave(s->units[i].shard);
	for (unsigned i = 1; i < s->unit_count; i++) {
		loop_thread_stop(&s->units[i].home);
		loop_thread_join(&s->units[i].home);
	}
	if (s->unit_count > 0)
		unit_close(&s->units[0].home);
}
