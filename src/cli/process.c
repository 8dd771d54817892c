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

#define START_NS 10000000000ull

/* Descriptors of files, listeners, loops. */
#define FILES_OF_OURS 64

/* Of one more: what it waits with and is woken by, and its connections to some stores. */
#define FILES_OF_A_LOOP 16

int complain(const char *what, const char *name, int r)
{
	fprintf(stderr, "wadi: %s %s: %s\n", what, name, strerror(-r));
	return r;
}

/*
 * Each connection is a descriptor, and so is each segment; and loops connect to shards. Those
 * of `wadi dev` have no connections but ours.
 */
unsigned conns_max(const struct process *s)
{
	unsigned served = s->unit_count > 1 && !s->config->is_dev ? s->unit_count : 1;
	unsigned loops = served + s->core_count - 1;
	unsigned shards = s->unit_count ? s->unit_count : s->meta_count;
	struct rlimit l = { .rlim_cur = 1024 };
	uint64_t taken = FILES_OF_OURS + (s->store ? store_segments_max(s->store) : 0), most;

	taken += (s->core_count - 1) * (FILES_OF_A_LOOP + shards);
	getrlimit(RLIMIT_NOFILE, &l);
	most = l.rlim_cur > taken + FILES_OF_OURS ? l.rlim_cur - taken : FILES_OF_OURS;
	most = most < CONNS_MAX ? most : CONNS_MAX;
	return (unsigned)(most / loops);
}

size_t unread_max(const struct process *s)
{
	unsigned loops = (s->unit_count ? s->unit_count : 1) + s->core_count - 1;
	uint64_t most = s->config->memory_bytes / UNREAD_SHARE;

	return (most < UNREAD_BYTES_MAX ? most : UNREAD_BYTES_MAX) / loops;
}

static bool has_functions_here(const struct process *s)
{
	return s->config->roles & WITH_PROXY && s->socket_path[0];
}

unsigned rings_max(const struct process *s)
{
	uint64_t most =
		s->config->memory_bytes / RING_SHARE / sizeof(struct ring_memory) / s->core_count;
	unsigned by_files = conns_max(s) / 8;

	if (!has_functions_here(s))
		return 0;
	most = most < by_files ? most : by_files;
	return most < RINGS_MAX ? (unsigned)most : RINGS_MAX;
}

unsigned indexes_max(const struct process *s)
{
	unsigned most = rings_max(s) > 0 ? conns_max(s) / 64 : 0;

	return most < INDEXES_MAX ? most : INDEXES_MAX;
}

unsigned fds_unread_max(const struct process *s)
{
	return has_functions_here(s) ? conns_max(s) / FDS_UNREAD_SHARE : 0;
}

unsigned files_shared(const struct process *s)
{
	unsigned indexes = indexes_max(s);

	/* Who has a ring may read an index; and who is gone with some unread has his socket. */
	return (indexes > 0 ? 3 : 2) * rings_max(s) + 2 * indexes + fds_unread_max(s);
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

static bool all_are_ready(struct process *s, uint64_t due_ns)
{
	unsigned count;
	const struct loop_tally *tallies = tallies_ask(&s->cores[0], due_ns, &count);

	for (unsigned i = 0; tallies && i < count; i++)
		if (!tallies[i].is_ready)
			return false;
	return tallies != NULL;
}

/* Every core has met every shard, and a store of ours has, too. */
static int wait_ready(struct process *s, uint64_t due_ns)
{
	struct core *core = s->cores[0].core;
	unsigned wanted = s->unit_count ? s->unit_count : s->meta_count;
	int r;

	if (!s->cores[0].proxy)
		return 0;
	r = core_wait_ready(core, due_ns);
	while (r == 0 && s->store && store_joined_count(s->store) < wanted &&
	       s->loop->now_ns < due_ns)
		r = core_sleep(core, s->loop->now_ns + 1000000);
	while (r == 0 && !all_are_ready(s, due_ns))
		r = s->loop->now_ns < due_ns ? core_sleep(core, s->loop->now_ns + 1000000)
					     : -EHOSTUNREACH;
	return r;
}

/* When the roles have found each other. */
static void start_run(struct fiber *self)
{
	struct process *s = container_of(self, struct process, starter);
	int r = wait_ready(s, s->loop->now_ns + START_NS);

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

static int open_loop(struct process *s)
{
	int r = loop_open_epoll(&s->loop);

	if (r == 0)
		r = net_open(s->loop, &s->net);
	s->cores[0].home.loop = s->loop;
	s->cores[0].home.net = s->net;
	if (r == 0)
		r = signals_open(s);
	return r < 0 ? complain("cannot open", "a loop", r) : 0;
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
		r = open_loop(s);
	if (r == 0)
		r = parse_metas(s);
	return r;
}

static int open_budget(struct process *s)
{
	uint64_t memory = s->config->memory_bytes;
	int r = budget_open(&s->budget, s->loop, s->store, memory,
			    s->store ? other_bytes(s) : memory);

	return r < 0 ? complain("cannot watch", "our own memory", r) : 0;
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
		r = open_budget(s);
	if (r == 0) {
		net_limit_conns(s->net, conns_max(s) - files_shared(s));
		net_limit_unread(s->net, unread_max(s));
	}
	if (r == 0 && c->roles & (WITH_PROXY | WITH_STORE))
		r = core_units_open_first(s);
	if (r == 0 && s->store)
		r = store_unit_open_mover(s);
	if (r == 0 && c->roles & WITH_PROXY)
		r = core_units_open_proxies(s);
	if (r == 0)
		kept_start(&s->kept);
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
	doors_close(s);
	if (s->starter.run && s->starter.state != FIBER_ENDED)
		fiber_cancel(&s->starter);
	mover_stop(s->mover);
	core_units_stop(s);
	budget_close(&s->budget);
	mover_close(s->mover);
	core_units_close(s);
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
	s->core_count = config->loop_count;
	s->parting_count = 1;
	s->cores[0].home.process = s;
	s->kept.dir.lock_fd = s->kept.data_fd = s->kept.wake_fd = -1;
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
