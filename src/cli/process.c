/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/container.h"
#include "base/node.h"
#include "base/quantity.h"
#include "cli/machine.h"
#include "cli/process_priv.h"
#include "shm/ring.h"

#define OTHER_SHARE     8
#define OTHER_BYTES_MIN (24ull << 20)

#define STOP_NS  2000000000ull
#define START_NS 10000000000ull

/* Descriptors of files, listeners, loops. */
#define FILES_OF_OURS 64

int complain(const char *what, const char *name, int r)
{
	fprintf(stderr, "wadi: %s %s: %s\n", what, name, strerror(-r));
	return r;
}

/* Each connection is a descriptor, and so is each segment. */
unsigned conns_max(const struct process *s)
{
	struct rlimit l = { .rlim_cur = 1024 };
	uint64_t taken = FILES_OF_OURS + (s->store ? store_segments_max(s->store) : 0), most;

	getrlimit(RLIMIT_NOFILE, &l);
	most = l.rlim_cur > taken + FILES_OF_OURS ? l.rlim_cur - taken : FILES_OF_OURS;
	most = most < CONNS_MAX ? most : CONNS_MAX;
	return (unsigned)(most / (s->unit_count > 1 ? s->unit_count : 1));
}

unsigned rings_max(const struct process *s)
{
	uint64_t most = s->config->memory_bytes / RING_SHARE / sizeof(struct ring_memory);
	unsigned by_files = conns_max(s) / 8;

	if (!(s->config->roles & WITH_PROXY) || !s->socket_path[0])
		return 0;
	most = most < by_files ? most : by_files;
	return most < RINGS_MAX ? (unsigned)most : RINGS_MAX;
}

uint64_t other_bytes(const struct process *s)
{
	uint64_t other = s->config->memory_bytes / OTHER_SHARE;

	return other > OTHER_BYTES_MIN ? other : OTHER_BYTES_MIN;
}

/* The end. */

static void stop_now(struct letter *l)
{
	loop_stop(container_of(l, struct process, stop)->loop);
}

static void *wait_for_signal(void *arg)
{
	struct process *s = arg;
	int signal;

	(void)sigwait(&s->signals, &signal);
	loop_post(s->loop, &s->stop);
	return NULL;
}

static int signals_open(struct process *s)
{
	int r;

	sigemptyset(&s->signals);
	sigaddset(&s->signals, SIGTERM);
	sigaddset(&s->signals, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	r = -pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
	s->stop.run = stop_now;
	if (r == 0)
		r = -pthread_create(&s->signal_thread, NULL, wait_for_signal, s);
	s->has_signal_thread = r == 0;
	return r;
}

/* As many descriptors as the kernel lets us have: each connection and each segment is one. */
static void raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int parse_metas(struct process *s)
{
	const char *p = s->config->metas;

	while (p && *p) {
		char text[ADDRESS_TEXT_MAX];
		size_t n = strcspn(p, ",");
		int r = n < sizeof(text) && s->meta_count < SHARDS_MAX ? 0 : -EINVAL;

		snprintf(text, sizeof(text), "%.*s", (int)n, p);
		if (r == 0)
			r = address_resolve(text, &s->metas[s->meta_count++]);
		if (r < 0)
			return complain("not an address of --meta:", text, r);
		p += n + (p[n] == ',');
	}
	return 0;
}

/* When the roles have found each other. */
static void start_run(struct fiber *self)
{
	struct process *s = container_of(self, struct process, starter);
	uint64_t due_ns = s->loop->now_ns + START_NS;
	int r = s->proxy ? core_wait_ready(s->core, due_ns) : 0;
	unsigned wanted = s->unit_count ? s->unit_count : s->meta_count;

	while (r == 0 && s->store && s->proxy && store_joined_count(s->store) < wanted &&
	       s->loop->now_ns < due_ns)
		r = core_sleep(s->core, s->loop->now_ns + 1000000);
	if (r == 0)
		r = doors_open(s);
	else if (r != -ECANCELED)
		complain("cannot reach", s->config->metas ? s->config->metas : "our own metadata",
			 r);
	if (r < 0) {
		s->is_failed = true;
		loop_stop(s->loop);
		return;
	}
	printf("ready\n");
	fflush(stdout);
}

/*
 * Above it the kernel would kill us, or a function, in the middle of a put: it has no
 * other way to say no to whoever touches memory.
 */
static int check_memory(uint64_t memory)
{
	char where[MEMORY_WHERE_MAX], size[QUANTITY_TEXT_MAX], most_text[QUANTITY_TEXT_MAX];
	uint64_t most = memory_most(where, sizeof(where));

	if (memory <= most)
		return 0;
	fprintf(stderr,
		"wadi: --memory %s does not fit: %s %s; start with --memory %lluM or less\n",
		bytes_exact(memory, size), where, bytes_rough(most, most_text),
		(unsigned long long)(most / 10 * 9 >> 20));
	return -ENOMEM;
}

/* What is there before any role: what a predecessor left, keys, a loop, and our end. */
static int prepare(struct process *s)
{
	const struct process_config *c = s->config;
	struct address a;
	uint16_t port = 0;
	int r = address_parse(c->listen, &a);

	if (r < 0)
		return complain("not an address:", c->listen, r);
	r = check_memory(c->memory_bytes);
	if (r < 0)
		return r;
	if (a.kind == ADDRESS_TCP)
		port = ntohs(a.u.any.sa_family == AF_INET6 ? a.u.in6.sin6_port : a.u.in.sin_port);
	s->kept_config = (struct kept_config){ port, c->data, c->keep_ms };
	r = kept_open(&s->kept, &s->kept_config);
	if (r < 0)
		return r;
	if (c->socket)
		snprintf(s->socket_path, sizeof(s->socket_path), "%s", c->socket);
	else if (c->roles & WITH_PROXY)
		snprintf(s->socket_path, sizeof(s->socket_path), "%s/proxy.sock", s->kept.dir.path);
	r = keys_load(s);
	if (r == 0)
		r = keys_check(s, address_is_loopback(&a));
	if (r == 0)
		r = loop_open_epoll(&s->loop);
	if (r == 0)
		r = net_open(s->loop, &s->net);
	if (r == 0)
		r = signals_open(s);
	if (r == 0)
		r = parse_metas(s);
	return r;
}

static int process_start(struct process *s)
{
	const struct process_config *c = s->config;
	int r = prepare(s);

	if (r == 0 && c->roles & WITH_META) {
		s->unit_count = c->shard_count;
		r = shard_units_open(s);
	}
	if (r == 0)
		r = store_unit_listen(s);
	if (r == 0 && c->roles & WITH_STORE)
		r = store_unit_open(s);
	if (r == 0 && c->roles & WITH_META)
		r = budget_open(&s->budget, s->loop, s->store, c->memory_bytes,
				s->store ? other_bytes(s) : c->memory_bytes);
	if (r == 0)
		net_limit_conns(s->net, conns_max(s) - 2 * rings_max(s));
	if (r == 0 && c->roles & (WITH_PROXY | WITH_STORE))
		r = core_unit_open(s);
	if (r == 0 && s->store)
		r = store_unit_open_mover(s);
	if (r == 0 && c->roles & WITH_PROXY)
		r = core_unit_open_proxy(s);
	if (r == 0)
		r = kept_start(&s->kept);
	if (r == 0)
		r = fiber_start(&s->loop->fibers, &s->starter, start_run, NULL);
	return r;
}

/*
 * Fibers end, connections close, memory goes back; what does not end in time is left to the
 * kernel. Who was told to end ends for good; who failed leaves what it found.
 */
static void process_stop(struct process *s, bool is_over)
{
	uint64_t due_ns = node_now_ns() + STOP_NS;

	listener_close(&s->listen);
	listener_close(&s->unix_listen);
	listener_close(&s->http);
	listener_close(&s->redis);
	listener_close(&s->store_listen);
	if (s->starter.run && s->starter.state != FIBER_ENDED)
		fiber_cancel(&s->starter);
	if (s->proxy)
		proxy_stop(s->proxy);
	mover_stop(s->mover);
	if (s->core)
		core_stop(s->core);
	while (s->loop && node_now_ns() < due_ns &&
	       (s->loop->fibers.alive_count > 0 || (s->proxy && !proxy_has_stopped(s->proxy))))
		if (loop_turn(s->loop, node_now_ns() + 1000000) < 0)
			break;
	budget_close(&s->budget);
	proxy_close(s->proxy);
	mover_close(s->mover);
	if (s->core)
		core_close(s->core);
	store_close(s->store);
	shard_units_close(s, !is_over);
	for (int i = 0; s->loop && i < TURNS_TO_CLOSE; i++)
		(void)loop_turn(s->loop, 0);
	if (s->has_signal_thread) {
		pthread_kill(s->signal_thread, SIGTERM); /* if it was not a signal that ended us */
		pthread_join(s->signal_thread, NULL);
	}
	if (s->net)
		net_close(s->net);
	if (s->loop && s->loop->fibers.alive_count == 0)
		loop_close(s->loop);
	for (unsigned i = 0; i < s->unit_count; i++)
		archive_close(s->archives[i]);
	kept_close(&s->kept, is_over);
}

int process_run(const struct process_config *config)
{
	struct process *s = node_alloc(sizeof(*s));
	int r;

	if (!s)
		return complain("cannot start", "", -ENOMEM), 1;
	s->config = config;
	s->kept.dir.lock_fd = s->kept.wake_fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	raise_limits();
	r = process_start(s);
	if (r == 0)
		r = loop_run(s->loop);
	if (s->is_failed)
		r = -EIO;
	process_stop(s, r == 0 || !s->kept.is_again);
	node_free(s);
	return r < 0 ? 1 : 0;
}
