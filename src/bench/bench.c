/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/bench.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/quantity.h"
#include "bench/cell.h"
#include "bench/cpus.h"

#define MOVED_BYTES 10000000

struct bench_entry {
	const char *name;
	int (*run)(struct bench *b, enum bench_kind kind);
	enum bench_op op;
	const char *sizes, *clients, *depths, *help;
};

/* clang-format off */
static const struct bench_entry ENTRIES[] = {
#define BENCH_ENTRY(NAME, ...) { __VA_ARGS__ },
	BENCHES(BENCH_ENTRY)
};
/* clang-format on */

const char *bench_kind_name(enum bench_kind kind)
{
	return ENTRIES[kind].name;
}

int bench_fail(struct bench *b, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(b->error, sizeof(b->error), format, args);
	va_end(args);
	return r;
}

/* What --sizes and the like say, or the list that the bench has by itself. */
static struct bench_list list_of(const struct bench_list *given, const char *own)
{
	struct bench_list l = { 0 };

	if (given->count)
		return *given;
	while (*own && l.count < BENCH_LIST_MAX) {
		size_t n = strcspn(own, ",");
		char text[QUANTITY_TEXT_MAX];

		snprintf(text, sizeof(text), "%.*s", (int)n, own);
		if (bytes_parse(text, &l.values[l.count]) == 0)
			l.count++;
		own += n + (own[n] == ',');
	}
	return l;
}

struct bench_list bench_sizes(const struct bench *b, enum bench_kind kind)
{
	return list_of(&b->sizes, ENTRIES[kind].sizes);
}

/* One cell for each size, number of clients and depth. */
static int cells_run(struct bench *b, enum bench_kind kind, struct cell *c)
{
	const struct bench_entry *e = &ENTRIES[kind];
	struct bench_list sizes = list_of(&b->sizes, e->sizes);
	struct bench_list clients = list_of(&b->clients, e->clients);
	struct bench_list depths = list_of(&b->depths, e->depths);
	unsigned count = sizes.count * clients.count * depths.count;
	int r = 0;

	c->kind = kind;
	if (b->rate > 0)
		c->load.rate = b->rate;
	for (unsigned i = 0; i < count && r == 0; i++) {
		c->load.size = sizes.values[i / clients.count / depths.count];
		c->load.clients = (unsigned)clients.values[i / depths.count % clients.count];
		c->load.depth = (unsigned)depths.values[i % depths.count];
		r = cell_run(b, c);
	}
	return r;
}

/* Names of their own, of which a slice has so many at the most. */
#define FRESH_MAX 5000

int bench_op_run(struct bench *b, enum bench_kind kind)
{
	enum bench_op op = ENTRIES[kind].op;
	bool is_fresh = op == BENCH_CREATE || op == BENCH_REMOVE || op == BENCH_WAIT;
	struct cell c = {
		.load = { .op = op, .other_op = op, .count_max = is_fresh ? FRESH_MAX : 0 }
	};

	return cells_run(b, kind, &c);
}

int bench_batch_run(struct bench *b, enum bench_kind kind)
{
	struct cell c = { .load = { .op = BENCH_GET, .other_op = BENCH_GET } };
	int r = cells_run(b, kind, &c);

	c.load.op = c.load.other_op = BENCH_PUT;
	return r < 0 ? r : cells_run(b, kind, &c);
}

/*
 * Gets a second of the mixed load: they are due whether the server has time or not. One after
 * the other, they would leave the one beside what they do not need, and it has their core.
 */
#define MIXED_RATE 1000

int bench_mixed_run(struct bench *b, enum bench_kind kind)
{
	struct cell c = { .load = { .op = BENCH_GET, .other_op = BENCH_GET, .rate = MIXED_RATE },
			  .beside = { .op = BENCH_PUT,
				      .other_op = BENCH_GET,
				      .size = MOVED_BYTES,
				      .clients = 1,
				      .depth = 1 } };

	return cells_run(b, kind, &c);
}

int bench_open_run(struct bench *b, enum bench_kind kind)
{
	struct cell c = { .load = { .op = BENCH_GET, .other_op = BENCH_GET, .by = LOAD_OPENED } };

	return cells_run(b, kind, &c);
}

/* To the first byte, of an object so small that its size does not matter. */
static int first_cells_run(struct bench *b, enum bench_kind kind)
{
	static const struct {
		const char *op;
		enum load_by by;
	} WAYS[] = { { "start", LOAD_STARTED }, { "cold", LOAD_COLD }, { "open", LOAD_OPENED } };
	int r = 0;

	for (unsigned i = 0; i < sizeof(WAYS) / sizeof(WAYS[0]) && r == 0; i++)
		r = cell_run(b, &(struct cell){ .kind = kind,
						.op = WAYS[i].op,
						.load = { .op = BENCH_GET,
							  .other_op = BENCH_GET,
							  .size = 64,
							  .clients = 1,
							  .depth = 1,
							  .by = WAYS[i].by } });
	return r;
}

/* The run. */

static volatile sig_atomic_t is_interrupted;

static void interrupt(int signal)
{
	(void)signal;
	is_interrupted = 1;
}

void bench_interrupt(void)
{
	is_interrupted = 1;
}

bool bench_is_interrupted(void)
{
	return is_interrupted;
}

bool bench_is_local(const struct bench *b)
{
	return b->attach == BENCH_HOST || b->attach == BENCH_SIDECAR;
}

const char *bench_directory(struct bench *b)
{
	if (!b->directory[0]) {
		snprintf(b->directory, sizeof(b->directory), "/tmp/wadi-bench-XXXXXX");
		if (!mkdtemp(b->directory))
			b->directory[0] = '\0';
	}
	return b->directory[0] ? b->directory : NULL;
}

static void remove_directory(struct bench *b)
{
	DIR *d = b->directory[0] ? opendir(b->directory) : NULL;
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	rmdir(b->directory);
}

/* A peer that cannot be had is left out, and told; without Wadi there is nothing. */
static int add_system(struct bench *b, struct peer *p)
{
	int r;

	if (!p)
		return bench_fail(b, -ENOMEM, "no memory");
	p->bench = b;
	if (!p->attach)
		p->attach = bench_attach_name(b->attach);
	r = p->ops->open(p);
	if (r < 0) {
		char why[400];

		snprintf(why, sizeof(why), "%s: %s", p->ops->name,
			 p->error[0] ? p->error : strerror(-r));
		p->ops->close(p);
		if (b->system_count == 0)
			return bench_fail(b, r, "%s", why);
		b->sink->skipped(b->sink, why);
		return 0;
	}
	if (p->ops->pause)
		p->ops->pause(p);
	b->systems[b->system_count++] = p;
	return 0;
}

static int open_peers(struct bench *b)
{
	int r = 0;

	if (b->peers & 1u << BENCH_RAW)
		r = add_system(b, peer_raw_new(false));
	if (r == 0 && b->peers & 1u << BENCH_RAW)
		r = add_system(b, peer_raw_new(true));
	if (r == 0 && b->peers & 1u << BENCH_RAW && bench_is_local(b))
		r = add_system(b, peer_memory_new(false));
	if (r == 0 && b->peers & 1u << BENCH_RAW && bench_is_local(b))
		r = add_system(b, peer_memory_new(true));
	if (r == 0 && b->peers & 1u << BENCH_RAW && bench_is_local(b))
		r = add_system(b, peer_memcpy_new());
	if (r == 0 && b->peers & 1u << BENCH_REDIS)
		r = add_system(b, peer_redis_new());
	if (r == 0 && b->peers & 1u << BENCH_MEMCACHED)
		r = add_system(b, peer_memcached_new());
	if (r == 0 && b->peers & 1u << BENCH_DIR)
		r = add_system(b, peer_dir_new());
	return r;
}

static void close_systems(struct bench *b)
{
	while (b->system_count) {
		struct peer *p = b->systems[--b->system_count];

		p->ops->close(p);
	}
}

static int open_systems(struct bench *b)
{
	int r = add_system(b, peer_wadi_new(b->attach));

	return r < 0 ? r : open_peers(b);
}

/* A store for each way to attach; of a store that was named, the one that its endpoint is. */
static int open_attaches(struct bench *b)
{
	static const enum bench_attach EACH[] = { BENCH_HOST, BENCH_SIDECAR, BENCH_PROXY,
						  BENCH_DIRECT };
	int r = 0;

	if (b->endpoint)
		return open_systems(b);
	for (unsigned i = 0; i < BENCH_ATTACH_COUNT && r == 0; i++)
		r = add_system(b, peer_wadi_new(EACH[i]));
	return r < 0 ? r : open_peers(b);
}

int bench_attach_run(struct bench *b, enum bench_kind kind)
{
	struct cell c = { .load = { .op = BENCH_GET, .other_op = BENCH_GET } };
	int r;

	close_systems(b); /* the other benches of this run have theirs after it again */
	r = open_attaches(b);
	if (r == 0)
		r = first_cells_run(b, kind);
	if (r == 0)
		r = cells_run(b, kind, &c);
	c.load.op = c.load.other_op = BENCH_PUT;
	if (r == 0)
		r = cells_run(b, kind, &c);
	close_systems(b);
	return r;
}

/* A thousand clients of several systems. */
static void raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* Catalog and log by themselves ask nobody, and sort and attach have stores of their own. */
#define NEED_SYSTEMS                                                                 \
	(~(1u << BENCH_KIND_CATALOG | 1u << BENCH_KIND_LOG | 1u << BENCH_KIND_SORT | \
	   1u << BENCH_KIND_ATTACH))

int bench_run(struct bench *b)
{
	static const int SIGNALS[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = interrupt }, old;
	struct awake awake = { .count = 0 };
	int r;

	raise_limits();
	for (size_t i = 0; i < sizeof(SIGNALS) / sizeof(SIGNALS[0]); i++)
		if (sigaction(SIGNALS[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(SIGNALS[i], &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = b->is_awake ? awake_start(&awake) : 0;
	for (unsigned k = 0; k < BENCH_KIND_COUNT && r == 0; k++) {
		if (!(b->kinds & 1u << k))
			continue;
		if (NEED_SYSTEMS & 1u << k && b->system_count == 0)
			r = open_systems(b);
		if (r == 0)
			r = ENTRIES[k].run(b, (enum bench_kind)k);
	}
	/* Whatever stopped because of it, and says so in its own words. */
	if (r < 0 && bench_is_interrupted())
		r = bench_fail(b, -ECANCELED, "interrupted");
	awake_stop(&awake);
	close_systems(b);
	remove_directory(b);
	return r;
}
