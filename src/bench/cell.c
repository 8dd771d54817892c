/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/cell.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAIRS_MAX   1000
#define THREADS_MAX 64

/* Objects that are put or got in turn: enough not to be one, few enough for memory. */
#define KEYS_MAX       64
#define KEYS_BYTES_MAX (256ull << 20)

/* One system in this cell. */
struct run {
	struct peer *peer;
	struct crew_member *crew;
	unsigned crew_count, main_count; /* main: without the one beside */
	struct tally *tallies;
	uint64_t server_cpu_ns, behind_cpu_ns;
	bool is_broken;
	double p50[PAIRS_MAX], rate[PAIRS_MAX];
};

/* What a slice has to prepare, and to take away afterwards. */
static bool is_fresh(const struct load *load)
{
	return load->key_count == 0;
}

static unsigned key_count_of(const struct load *load)
{
	uint64_t fit = KEYS_BYTES_MAX / (load->size ? load->size : 1);

	if (load->op == BENCH_CREATE || load->op == BENCH_REMOVE || load->op == BENCH_WAIT)
		return 0;
	if (load->op == BENCH_LIST)
		return (unsigned)load->size;
	return fit < 1 ? 1 : fit > KEYS_MAX ? KEYS_MAX : (unsigned)fit;
}

/* All members do the same, side by side. */
static int crew_all(struct run *run, unsigned count, enum crew_work work)
{
	int r = 0;

	for (unsigned i = 0; i < count; i++)
		crew_go(&run->crew[i], work);
	for (unsigned i = 0; i < count; i++)
		if (crew_wait(&run->crew[i]) < 0)
			r = run->crew[i].worker.result;
	return r;
}

static int member_each(struct crew_member *m, enum bench_op op, uint64_t from, uint64_t to)
{
	m->each.op = op;
	m->each.from = from;
	m->each.to = to;
	crew_go(m, CREW_EACH);
	return crew_wait(m);
}

/* Names of their own that each finds when it comes to them. */
static int fresh_put(struct run *run)
{
	int r = 0;

	if (run->peer->ops->is_floor)
		return 0;
	for (unsigned i = 0; i < run->crew_count && r == 0; i++) {
		struct crew_member *m = &run->crew[i];

		m->fresh = m->worker.key_next + m->worker.load.count_max;
		r = member_each(m, BENCH_PUT, m->worker.key_next, m->fresh);
	}
	return r;
}

/* Those that were put, by it or for it, and are there still. */
static int fresh_remove(struct run *run)
{
	int r = 0;

	if (run->peer->ops->is_floor)
		return 0;
	for (unsigned i = 0; i < run->crew_count && r == 0; i++) {
		struct crew_member *m = &run->crew[i];
		uint64_t next = m->worker.key_next;

		if (!is_fresh(&m->worker.load))
			continue;
		r = m->fresh < next ? member_each(m, BENCH_REMOVE, m->fresh, next)
				    : member_each(m, BENCH_REMOVE, next, m->fresh);
		m->fresh = next;
	}
	return r;
}

/* What the keys in turn need before, and what is left of them. */
static int keep_objects(struct run *run, enum bench_op op)
{
	int r = 0;

	for (unsigned i = 0; i < run->crew_count && r == 0; i++) {
		const struct load *load = &run->crew[i].worker.load;

		if (is_fresh(load) || run->peer->ops->is_floor)
			continue;
		r = member_each(&run->crew[i], op, 0, load->key_count);
	}
	return r;
}

static void member_init(struct run *run, unsigned i, const struct cell *c, const struct bench *b)
{
	struct crew_member *m = &run->crew[i];
	bool is_beside = i >= run->main_count;
	struct load *load = &m->worker.load;

	*load = is_beside ? c->beside : c->load;
	if (!is_beside) {
		unsigned share = load->clients / run->main_count;

		load->clients = share + (i < load->clients % run->main_count);
		load->rate /= run->main_count;
	}
	load->key_count = key_count_of(load);
	if (load->op == BENCH_LIST)
		strcpy(load->prefix, BENCH_DIRECTORY "/list/");
	else
		snprintf(load->prefix, sizeof(load->prefix), BENCH_DIRECTORY "/%c%c",
			 'a' + (int)(i / 26 % 26), 'a' + (int)(i % 26));
	m->cpus = cpus_of(CPUS_CLIENT, b->threads);
	/* Who measures is not to wait for who only makes work. */
	m->is_in_background = is_beside;
	m->worker.peer = run->peer;
	m->worker.slice_ns = b->row_ns / b->pairs;
	m->worker.tally = &run->tallies[i];
}

static void run_close(struct run *run)
{
	for (unsigned i = 0; i < run->crew_count; i++) {
		crew_stop(&run->crew[i]);
		free(run->tallies[i].by_client);
	}
	free(run->crew);
	free(run->tallies);
}

/* Told once, and it takes no part any more. */
static int run_break(struct bench *b, struct run *run, int r, const char *why)
{
	run->is_broken = true;
	if (run->peer == b->systems[0])
		return bench_fail(b, r, "%s", why);
	b->sink->skipped(b->sink, why);
	return 0;
}

static const char *why_of(const struct run *run)
{
	for (unsigned i = 0; i < run->crew_count; i++)
		if (run->crew[i].worker.result < 0)
			return run->crew[i].worker.error;
	return "no memory";
}

/* A floor answers one after the other: beside long values it would be none. */
static bool has_beside(const struct cell *c, const struct peer *p)
{
	return c->beside.clients > 0 && !p->ops->is_floor;
}

static int run_open(struct bench *b, const struct cell *c, struct run *run)
{
	unsigned threads = b->threads < c->load.clients ? b->threads : c->load.clients;
	int r = 0;

	run->main_count = threads;
	run->peer->clients = c->load.clients + (has_beside(c, run->peer) ? c->beside.clients : 0);
	run->peer->error[0] = '\0';
	threads += has_beside(c, run->peer);
	run->crew = calloc(threads, sizeof(*run->crew));
	run->tallies = calloc(threads, sizeof(*run->tallies));
	if (!run->crew || !run->tallies)
		return run_break(b, run, -ENOMEM, "no memory");
	for (unsigned i = 0; i < threads && r == 0; i++) {
		member_init(run, i, c, b);
		run->tallies[i].by_client =
			calloc(run->crew[i].worker.load.clients, sizeof(uint64_t));
		r = run->tallies[i].by_client ? crew_start(&run->crew[i]) : -ENOMEM;
		if (r == 0)
			run->crew_count++;
		else
			free(run->tallies[i].by_client);
	}
	if (r == 0)
		r = crew_all(run, run->crew_count, CREW_OPEN);
	if (r == 0)
		r = keep_objects(run, BENCH_PUT);
	return r < 0 ? run_break(b, run, r, why_of(run)) : 0;
}

/* Slices. */

struct before {
	uint64_t count, elapsed_ns;
};

static struct before tally_before(const struct run *run)
{
	struct before b = { 0 };

	for (unsigned i = 0; i < run->main_count; i++) {
		b.count += run->tallies[i].count;
		if (run->tallies[i].elapsed_ns > b.elapsed_ns)
			b.elapsed_ns = run->tallies[i].elapsed_ns;
	}
	return b;
}

static double slice_p50(const struct run *run)
{
	static struct histogram all;

	memset(&all, 0, sizeof(all));
	for (unsigned i = 0; i < run->main_count; i++)
		histogram_merge(&all, &run->tallies[i].slice);
	return (double)histogram_at(&all, 0.5);
}

static int slice(struct bench *b, const struct cell *c, struct run *run, unsigned pair)
{
	struct before before = tally_before(run), after;
	uint64_t cpu_ns, behind_ns;
	int r = 0;

	if (run->peer->ops->resume)
		run->peer->ops->resume(run->peer);
	if (c->load.op == BENCH_REMOVE)
		r = fresh_put(run);

	cpu_ns = peer_cpu_ns(run->peer);
	behind_ns = peer_behind_cpu_ns(run->peer);
	if (r == 0)
		r = crew_all(run, run->crew_count, CREW_SLICE);
	run->server_cpu_ns += peer_cpu_ns(run->peer) - cpu_ns;
	run->behind_cpu_ns += peer_behind_cpu_ns(run->peer) - behind_ns;

	if (r == 0 && c->load.op != BENCH_REMOVE)
		r = fresh_remove(run);
	if (run->peer->ops->pause)
		run->peer->ops->pause(run->peer);
	if (r < 0)
		return run_break(b, run, r, why_of(run));
	after = tally_before(run);
	run->p50[pair] = slice_p50(run);
	run->rate[pair] = (double)(after.count - before.count) * 1e9 /
			  (double)(after.elapsed_ns - before.elapsed_ns);
	return 0;
}

/* Rows. */

static struct interval ratio(const double *ours, const double *theirs, unsigned count)
{
	double values[PAIRS_MAX];

	for (unsigned i = 0; i < count; i++)
		values[i] = ours[i] / theirs[i];
	return interval_of(values, count);
}

/* What the slowest client got, of what each would have had by right. */
static double least_share(const struct run *run)
{
	uint64_t least = UINT64_MAX, sum = 0;
	unsigned clients = 0;

	for (unsigned i = 0; i < run->main_count; i++) {
		for (unsigned k = 0; k < run->crew[i].worker.load.clients; k++) {
			uint64_t n = run->tallies[i].by_client[k];

			least = n < least ? n : least;
			sum += n;
			clients++;
		}
	}
	return clients > 1 && sum ? (double)least * clients / (double)sum : NAN;
}

/* Of whoever works beside those that are measured. */
static double beside_mb_per_s(const struct run *run)
{
	const struct tally *t = &run->tallies[run->main_count];

	if (run->crew_count == run->main_count)
		return NAN;
	return (double)t->bytes * 1e3 / (double)t->elapsed_ns;
}

static void row_make(const struct bench *b, const struct cell *c, const struct run *run,
		     struct bench_row *ret)
{
	static struct histogram all;
	uint64_t bytes = 0, cpu_ns = 0, elapsed_ns = 0;
	double count;

	memset(&all, 0, sizeof(all));
	for (unsigned i = 0; i < run->main_count; i++) {
		histogram_merge(&all, &run->tallies[i].latency);
		bytes += run->tallies[i].bytes;
		cpu_ns += run->tallies[i].cpu_ns;
		if (run->tallies[i].elapsed_ns > elapsed_ns)
			elapsed_ns = run->tallies[i].elapsed_ns;
	}
	count = (double)all.count;
	*ret = (struct bench_row){
		.bench = bench_kind_name(c->kind),
		.op = c->op ? c->op : bench_op_name(c->load.op),
		.system = run->peer->ops->name,
		.attach = run->peer->attach,
		.mode = b->is_awake ? "awake" : "quiet",
		.size = c->load.size,
		.clients = c->load.clients,
		.depth = c->load.depth,
		.p50_us = (double)histogram_at(&all, 0.5) / 1e3,
		.p99_us = (double)histogram_at(&all, 0.99) / 1e3,
		.p999_us = (double)histogram_at(&all, 0.999) / 1e3,
		.max_us = (double)all.max / 1e3,
		.ops_per_s = count * 1e9 / (double)elapsed_ns,
		.mb_per_s = (double)bytes * 1e3 / (double)elapsed_ns,
		.server_cpu_us = run->peer->server && !has_beside(c, run->peer)
					 ? (double)run->server_cpu_ns / count / 1e3
					 : NAN,
		.client_cpu_us = c->load.by > LOAD_OPENED ? NAN : (double)cpu_ns / count / 1e3,
		.least_share = least_share(run),
		.object_bytes = NAN,
		.beside_mb_per_s = beside_mb_per_s(run),
		.behind_cpu_us =
			run->peer->behind[0] ? (double)run->behind_cpu_ns / count / 1e3 : NAN,
		.is_by_attach = c->kind == BENCH_KIND_ATTACH,
	};
}

static void rows_give(struct bench *b, const struct cell *c, const struct run *runs, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct bench_row row;

		if (runs[i].is_broken)
			continue;
		row_make(b, c, &runs[i], &row);
		if (i > 0) {
			row.pairs = b->pairs;
			row.latency = ratio(runs[0].p50, runs[i].p50, b->pairs);
			row.rate = ratio(runs[0].rate, runs[i].rate, b->pairs);
		}
		b->sink->row(b->sink, &row);
	}
}

static bool has_part(const struct bench *b, const struct cell *c, const struct peer *p)
{
	if (!(p->ops->ops & 1u << c->load.op))
		return false;
	if (p->ops->is_single && (c->load.clients > 1 || c->load.depth > 1))
		return false;
	if (c->load.by > LOAD_OPENED && !p->ops->first)
		return false;
	/* A server of one thread is no floor of one with several. */
	if (p->ops->is_floor && p->server && b->threads > 1 && c->load.clients > 1)
		return false;
	/* Who copies to himself opens nothing. */
	if (c->load.by != LOAD_KEPT && p->ops->is_floor && !p->server)
		return false;
	return !p->ops->is_serial || c->load.clients <= b->threads;
}

/* What Wadi has as a call only keeps its thread for itself. */
static bool is_call(enum bench_op op)
{
	return op == BENCH_STAT || op == BENCH_LIST || op == BENCH_WAIT;
}

/* What is not measured so; NULL: it is. */
static const char *why_not(const struct bench *b, const struct load *load)
{
	bool is_alone = load->clients <= b->threads && load->depth == 1;

	if (load->op == BENCH_LIST && load->size == 0)
		return "a directory without entries is none, so it has no list";
	if (is_call(load->op) && !is_alone)
		return "stat, list and wait are calls: one client for each thread, one request at "
		       "a time";
	if (load->by != LOAD_KEPT && (!is_alone || load->rate > 0))
		return "who opens a handle for each request has one client for each thread, one "
		       "request at a time, and no --rate";
	return NULL;
}

int cell_run(struct bench *b, const struct cell *c)
{
	const char *why = why_not(b, &c->load);
	struct run *runs;
	unsigned count = 0;
	int r = 0;

	if (why) {
		b->sink->skipped(b->sink, why);
		return 0;
	}
	runs = calloc(BENCH_SYSTEMS_MAX, sizeof(*runs));
	if (!runs)
		return bench_fail(b, -ENOMEM, "no memory");
	for (unsigned i = 0; i < b->system_count && r == 0; i++) {
		if (!has_part(b, c, b->systems[i]))
			continue;
		runs[count].peer = b->systems[i];
		r = run_open(b, c, &runs[count++]);
	}
	for (unsigned pair = 0; pair < b->pairs && r == 0; pair++) {
		for (unsigned k = 0; k < count && r == 0; k++) {
			/* There and back, so that nobody is always after the same other. */
			struct run *run = &runs[pair % 2 ? count - 1 - k : k];

			if (!run->is_broken)
				r = slice(b, c, run, pair);
			if (r == 0 && bench_is_interrupted())
				r = -ECANCELED;
		}
	}
	if (r == 0)
		rows_give(b, c, runs, count);
	for (unsigned i = 0; i < count; i++) {
		if (!runs[i].is_broken) {
			keep_objects(&runs[i], BENCH_REMOVE);
			fresh_remove(&runs[i]);
		}
		run_close(&runs[i]);
	}
	free(runs);
	return r;
}
