/* SPDX-License-Identifier: Apache-2.0 */
#include "simulation.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/node.h"
#include "look.h"
#include "workload.h"

#define MS 1000000ull

/* The insides of servers are looked at so often. */
#define LOOK_NS (200 * MS)

/* Longer than a session lives, a hold is kept, and a fenced segment waits for its writer. */
#define SETTLE_NS (420000 * MS)

/* Nothing of a fault is felt any more. */
#define NOTICE_NS (90000 * MS)

/* Of a quota: what waits for a writer that is gone stays charged for so long (doc/why/021). */
#define FENCED_NS (300000 * MS)

/* The workload goes on for so long after the last fault. */
#define AFTER_NS (20000 * MS)

#define OWNED_MAX 4096

struct run {
	struct cluster c;
	struct model m;
	struct faults faults;
	struct workload wl;
	struct owned lent[OWNED_MAX], owned[OWNED_MAX];
	uint64_t looked_lsns[SHAPE_SHARDS_MAX]; /* of each shard, when it was looked at */
};

static uint64_t roll(void *owner)
{
	return sim_random(owner) >> 7;
}

/* There is little room: segments go from hand to hand, and what is written there comes late. */
static void crowd(struct shape *shape, struct plan *plan)
{
	shape->is_crowded = true;
	shape->is_together = false;
	shape->is_near = false;
	shape->is_durable = false;
	shape->pool_bytes = 4ull << 20;
	plan->is_tight = true;
	plan->len_max = 200000;
	plan->end_permille = 10;
	plan->weights[ACT_PUT] = 40;
	plan->weights[ACT_UPLOAD] = 20;
}

static void choose(struct sim *sim, struct shape *shape, struct plan *plan)
{
	static const unsigned WEIGHTS[ACTS] = {
		[ACT_PUT] = 20,   [ACT_CREATE] = 5, [ACT_IF_VERSION] = 5,  [ACT_UPLOAD] = 3,
		[ACT_GET] = 20,   [ACT_RANGE] = 5,  [ACT_HELD] = 6,        [ACT_STAT] = 4,
		[ACT_REMOVE] = 8, [ACT_RENAME] = 6, [ACT_REMOVE_TREE] = 2, [ACT_LIST] = 4,
		[ACT_WAIT] = 6,   [ACT_AGAIN] = 4,  [ACT_IN_PLACE] = 8,
	};
	static const uint64_t POOLS[] = { 8ull << 20, 64ull << 20, 256ull << 20, 256ull << 20 };
	uint64_t x = sim_random(sim);

	*shape = (struct shape){ .shards = 1 + (unsigned)(x % SHAPE_SHARDS_MAX),
				 .is_together = x >> 4 & 1,
				 .is_near = (x >> 4 & 1) && (x >> 57 & 1),
				 .names_left = x >> 48 & 1,
				 .keeps_stores = (x >> 40 & 3) != 0,
				 .has_archive = x >> 5 & 1,
				 .is_durable = (x >> 5 & 1) && (x >> 44 & 3) == 0,
				 .pool_bytes = POOLS[x >> 8 & 3],
				 .snapshot_bytes = 16384ull << (x >> 36 & 7),
				 .delay_ns_max = (x >> 12 & 3) == 0 ? 20 * MS : 500000 };
	*plan = (struct plan){ .len_max = (x >> 16 & 3) == 0 ? 1500000 : 200000,
			       .pause_ms_max = (x >> 20 & 3) == 0 ? 20 : 300,
			       .busy_until_ns = (5000 + x % 30000) * MS,
			       .end_permille = (x >> 24 & 1) ? 50 : 5,
			       .has_short_leases = (x >> 28 & 3) == 0,
			       .has_quotas = (x >> 32 & 3) == 0,
			       .is_tight = shape->pool_bytes < 64u << 20 };
	/* Each run leaves some of it out, and does more of something else. */
	for (int i = 0; i < ACTS; i++) {
		uint64_t y = sim_random(sim) >> 9;

		plan->weights[i] = y % 5 == 0 ? 0 : y % 5 == 1 ? 4 * WEIGHTS[i] : WEIGHTS[i];
	}
	plan->weights[ACT_PUT]++;
	if (!shape->is_near)
		plan->weights[ACT_IN_PLACE] = 0;
	/* There is no tier yet for more than values. */
	if (shape->is_durable) {
		plan->len_max = INLINE_BYTES_MAX;
		plan->weights[ACT_IN_PLACE] = 0;
		plan->weights[ACT_UPLOAD] = 0;
	}
	/* Half of all runs have clients that are their own proxies, one to three of four. */
	if (x >> 55 & 1)
		shape->directs = 1 + (unsigned)(sim_random(sim) >> 9) % ((1u << OPERATOR) - 2);
	if ((x >> 53 & 3) == 0)
		crowd(shape, plan);
}

static void killed(void *owner, struct process *p)
{
	struct run *r = owner;

	if (p->roles & RUNS_CLIENT)
		workload_killed(&r->wl, p->index);
}

static void started(void *owner, struct process *p)
{
	struct run *r = owner;

	if (p->roles & RUNS_CLIENT)
		workload_start(&r->wl, p->index);
}

/* Sessions. */

/* So long out of reach, and a session may be over: half its life, for what comes together. */
#define AWAY_MS (SESSION_LIFE_MS / 2)

/* Was it its own fault, or that of the way to it? That a shard was stopped is no reason. */
static bool may_lose_session(const struct run *r, const struct process *p)
{
	uint64_t away_ms = 0;

	/* Of a function it is over when its connection is. */
	if (p->roles & RUNS_DIRECT)
		return r->faults.count > 0;
	for (unsigned i = 0; i < r->faults.count; i++) {
		const struct fault *f = &r->faults.list[i];
		bool is_its = strcmp(f->a, p->name) == 0;
		bool is_way = strcmp(f->b, p->name) == 0 || strcmp(f->a, r->c.meta->name) == 0;

		if (f->kind == FAULT_POWER)
			return true;
		if ((f->kind == FAULT_PAUSE && is_its) ||
		    ((f->kind == FAULT_CUT || f->kind == FAULT_STALL || f->kind == FAULT_ALONE) &&
		     (is_its || is_way)))
			away_ms += f->for_ms;
	}
	return away_ms > AWAY_MS;
}

static void check_session(struct run *r, const struct process *p, const struct session_over *over)
{
	uint64_t ids[SHAPE_SHARDS_MAX];
	unsigned n = p->is_up && p->core ? core_sessions(p->core, ids, SHAPE_SHARDS_MAX) : 0;

	if (over->shard < n && ids[over->shard] == over->session && !may_lose_session(r, p))
		model_fail(&r->m,
			   "%s was never out of reach for long, but its session at shard %u was "
			   "ended",
			   p->name, over->shard);
}

static void check_sessions(struct run *r)
{
	for (; r->c.over_count > 0; r->c.over_count--)
		for (unsigned i = 0; i < r->c.count; i++)
			check_session(r, &r->c.processes[i], &r->c.over[r->c.over_count - 1]);
}

/* Inside. */

static bool has_cut_power(const struct run *r)
{
	for (unsigned i = 0; i < r->faults.count; i++)
		if (r->faults.list[i].kind == FAULT_POWER)
			return true;
	return false;
}

static int by_segment(const void *a, const void *b)
{
	const struct owned *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return (x->generation > y->generation) - (x->generation < y->generation);
}

static unsigned all_owned(struct run *r)
{
	struct process *p = r->c.meta;
	unsigned n = 0;

	for (unsigned i = 0; p->is_up && i < r->c.shape.shards; i++)
		n += shard_segments(p->shards[i], r->owned + n, OWNED_MAX - n);
	qsort(r->owned, n, sizeof(r->owned[0]), by_segment);
	return n;
}

static void check_owned(struct run *r)
{
	unsigned n = all_owned(r);

	for (unsigned i = 1; i < n; i++)
		if (by_segment(&r->owned[i - 1], &r->owned[i]) == 0)
			model_fail(&r->m, "segment %llx, generation %u, is of jobs %llx and %llx",
				   (unsigned long long)r->owned[i].segment, r->owned[i].generation,
				   (unsigned long long)r->owned[i - 1].job,
				   (unsigned long long)r->owned[i].job);
	/* Whoever has forgotten what he did last hears from the stores what they have instead. */
	if (has_cut_power(r))
		return;
	for (unsigned i = 0; i < SHAPE_STORES; i++) {
		struct process *p = r->c.stores[i];
		unsigned lent = p->is_up ? store_segments(p->store, r->lent, OWNED_MAX) : 0;

		for (unsigned k = 0; k < lent; k++) {
			const struct owned *o =
				bsearch(&r->lent[k], r->owned, n, sizeof(r->owned[0]), by_segment);

			if (o && o->job && o->job != r->lent[k].job)
				model_fail(&r->m,
					   "segment %llx, generation %u, is of job %llx at its "
					   "store, and of %llx at its slot",
					   (unsigned long long)o->segment, o->generation,
					   (unsigned long long)r->lent[k].job,
					   (unsigned long long)o->job);
		}
		/* The store has it in a later generation: so it was freed under its owner. */
		for (unsigned k = 0; k < lent && n > 0; k++) {
			struct owned key = r->lent[k];

			for (unsigned j = 0; j < n; j++)
				if (r->owned[j].segment == key.segment &&
				    r->owned[j].generation < key.generation &&
				    !r->owned[j].is_given_back)
					model_fail(&r->m,
						   "segment %llx is lent in generation %u, and a "
						   "slot still has generation %u",
						   (unsigned long long)key.segment, key.generation,
						   r->owned[j].generation);
		}
	}
}

static void look(struct run *r)
{
	const char *broken = NULL;
	bool has_changed = false;

	/* To look at all of a catalog takes longer than to change it. */
	for (unsigned i = 0; r->c.meta->is_up && i < r->c.shape.shards && !broken; i++) {
		uint64_t lsn = shard_lsn(r->c.meta->shards[i]);

		if (lsn == r->looked_lsns[i])
			continue;
		r->looked_lsns[i] = lsn;
		has_changed = true;
		broken = look_at_shard(r->c.meta->shards[i]);
	}
	for (unsigned i = 0; i < SHAPE_STORES && !broken; i++)
		if (r->c.stores[i]->is_up)
			broken = look_at_store(r->c.stores[i]->store);
	if (broken)
		model_fail(&r->m, "not so: %s", broken);
	if (has_changed)
		check_owned(r);
	check_sessions(r);
}

/* Whoever is gone has no session any more. */
static void check_living(struct run *r, unsigned shard)
{
	uint64_t living[PROCESSES_MAX], ids[SHAPE_SHARDS_MAX], other;
	unsigned n = 0;

	for (unsigned i = 0; i < r->c.count; i++) {
		const struct process *p = &r->c.processes[i];

		if (p->is_up && p->core && core_sessions(p->core, ids, SHAPE_SHARDS_MAX) > shard)
			living[n++] = ids[shard];
	}
	other = shard_other_session(r->c.meta->shards[shard], living, n);
	if (other)
		model_fail(&r->m, "all is over, but shard %u has a session of nobody, %llx", shard,
			   (unsigned long long)other);
}

static void look_at_the_end(struct run *r)
{
	unsigned __int128 jobs = 0, values = 0, stores = 0;
	char why[400];

	for (unsigned i = 0; i < r->c.shape.shards; i++) {
		node_current = sim_node_of(r->c.meta->node);
		shard_bills(r->c.meta->shards[i], &jobs, &values);
		if (!shard_is_empty(r->c.meta->shards[i], why, sizeof(why)))
			model_fail(&r->m, "all jobs have ended, but there is left: %s", why);
		check_living(r, i);
	}
	for (unsigned i = 0; i < SHAPE_STORES; i++) {
		if (r->c.stores[i]->is_gone)
			continue;
		node_current = sim_node_of(r->c.stores[i]->node);
		stores += store_bill(r->c.stores[i]->store);
		if (!store_is_empty(r->c.stores[i]->store, why, sizeof(why)))
			model_fail(&r->m, "all jobs have ended, but store %u has: %s", i, why);
	}
	node_current = NULL;
	for (unsigned i = 0; i < SHAPE_PROXIES; i++)
		if (core_waiting_count(r->c.proxies[i]->core) > 0)
			model_fail(&r->m, "all is over, but proxy %u asks on", i);
	if (r->m.loss_count == 0 && !has_cut_power(r) && jobs != stores + values)
		model_fail(&r->m,
			   "jobs pay for %.0f byte-seconds, and the stores count %.0f, values %.0f",
			   (double)jobs / 1e9, (double)stores / 1e9, (double)values / 1e9);
}

static bool is_in(const struct owned *o, const struct owned *list, unsigned count)
{
	return bsearch(o, list, count, sizeof(*list), by_segment) != NULL;
}

/* What slots have of stores is what those lend, and nothing else. */
static void check_lent(struct run *r)
{
	unsigned owned = all_owned(r), lent = 0;

	for (unsigned i = 0; i < SHAPE_STORES; i++)
		if (r->c.stores[i]->is_up)
			lent += store_segments(r->c.stores[i]->store, r->lent + lent,
					       OWNED_MAX - lent);
	qsort(r->lent, lent, sizeof(r->lent[0]), by_segment);
	for (unsigned i = 0; i < lent; i++)
		if (!is_in(&r->lent[i], r->owned, owned))
			model_fail(
				&r->m,
				"all is at rest, but segment %llx, generation %u, is lent to job "
				"%llx, and no slot has it",
				(unsigned long long)r->lent[i].segment, r->lent[i].generation,
				(unsigned long long)r->lent[i].job);
	for (unsigned i = 0; i < owned; i++)
		if (!is_in(&r->owned[i], r->lent, lent))
			model_fail(&r->m,
				   "all is at rest, but a slot has segment %llx, generation %u, of "
				   "job "
				   "%llx, which no store lends",
				   (unsigned long long)r->owned[i].segment, r->owned[i].generation,
				   (unsigned long long)r->owned[i].job);
}

/* Nobody does anything any more. Sessions and jobs live on, and end nothing for those who left. */
static void look_at_rest(struct run *r)
{
	char why[400];

	for (unsigned i = 0; i < r->c.shape.shards; i++)
		if (!shard_is_at_rest(r->c.meta->shards[i], why, sizeof(why)))
			model_fail(&r->m, "all is at rest, but there is left: %s", why);
	check_lent(r);
}

/* Runs until then; what is due of faults is done, and the insides are looked at. */
static void run_until(struct run *r, uint64_t until_ns, bool (*is_done)(struct run *r))
{
	const struct fault_hooks hooks = { killed, started, r };
	uint64_t look_ns = sim_now_ns(r->c.sim) + LOOK_NS;

	while (!r->m.failure[0] && sim_now_ns(r->c.sim) < until_ns && !(is_done && is_done(r))) {
		uint64_t due = faults_due_ns(&r->faults);

		if (due > look_ns)
			due = look_ns;
		if (due > until_ns)
			due = until_ns;
		sim_run(r->c.sim, due);
		workload_renew(&r->wl);
		if (sim_now_ns(r->c.sim) >= look_ns) {
			look(r);
			look_ns += LOOK_NS;
		}
		faults_do(&r->faults, &r->c, &r->m, &hooks, sim_now_ns(r->c.sim));
	}
}

static bool scripts_are_over(struct run *r)
{
	return workload_is_over(&r->wl);
}

static void run_to_the_end(struct run *r, const char *what)
{
	run_until(r, sim_now_ns(r->c.sim) + 600000 * MS, scripts_are_over);
	if (!r->m.failure[0] && !workload_is_over(&r->wl))
		model_fail(&r->m, "%s does not come to its end", what);
}

/* It has healed: whoever is asked for anything does it. */
static void try_all(struct run *r)
{
	for (unsigned job = 0; job < JOBS; job++)
		for (unsigned i = 0; i < SHAPE_CLIENTS && !r->m.failure[0]; i++)
			if (workload_try(&r->wl, i, job))
				run_to_the_end(r, "what is tried in the end");
}

static bool is_store_gone(const struct run *r)
{
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		if (r->c.stores[i]->is_gone)
			return true;
	return false;
}

static void run_all(struct run *r)
{
	const struct fault_hooks hooks = { killed, started, r };
	uint64_t until_ns = r->wl.plan.until_ns, notice_ns = NOTICE_NS;

	for (unsigned i = 0; i < SHAPE_CLIENTS; i++)
		workload_start(&r->wl, i);
	run_until(r, until_ns, NULL);
	faults_heal(&r->faults, &r->c, &r->m, &hooks, sim_now_ns(r->c.sim));
	run_until(r, until_ns + 600000 * MS, scripts_are_over);
	if (!r->m.failure[0] && !workload_is_over(&r->wl))
		model_fail(&r->m, "a script has not come to its end");
	/* All is whole again, or gone for good, and everybody has had time to notice. */
	notice_ns += is_store_gone(r) ? STORE_GONE_MS * MS : 0;
	notice_ns += r->wl.plan.has_quotas ? FENCED_NS : 0;
	run_until(r, sim_now_ns(r->c.sim) + notice_ns, NULL);
	r->m.trouble_count = 0;
	if (!r->m.failure[0])
		look_at_rest(r);
	if (r->m.failure[0])
		return;
	workload_read(&r->wl);
	run_to_the_end(r, "what is read in the end");
	try_all(r);
	if (r->m.failure[0])
		return;
	workload_finish(&r->wl);
	run_to_the_end(r, "the end");
	run_until(r, sim_now_ns(r->c.sim) + SETTLE_NS, NULL);
	if (!r->m.failure[0])
		look_at_the_end(r);
}

/* Nothing that happens in a run has a say in what will go wrong. */
static void begin(struct run *r, uint64_t seed, struct shape *shape, struct plan *plan)
{
	struct sim *dice;
	int x = sim_open(&(struct sim_config){ .seed = seed }, &dice);

	assert(x == 0);
	(void)x;
	memset(r, 0, sizeof(*r));
	log_set_level(getenv("SIM_TRACE") ? LOG_INFO : LOG_ERROR);
	choose(dice, shape, plan);
	cluster_open(&r->c, seed, shape);
	faults_make(&r->faults, &r->c, plan->busy_until_ns / MS, roll, dice);
	sim_close(dice);
	model_init(&r->m);
	r->m.is_tight = plan->is_tight;
}

void faults_of_seed(uint64_t seed, char *buf, size_t cap)
{
	static struct run run;
	struct shape shape;
	struct plan plan;

	begin(&run, seed, &shape, &plan);
	faults_format(&run.faults, buf, cap);
	cluster_close(&run.c);
}

void simulate(uint64_t seed, const char *faults, struct outcome_of *ret)
{
	static struct run run;
	struct run *r = &run;
	struct shape shape;
	struct plan plan;

	begin(r, seed, &shape, &plan);
	if (faults && !faults_parse(&r->faults, faults))
		model_fail(&r->m, "not a list of faults: %s", faults);
	/* Each fault has its time, and something goes on when it is over. */
	plan.until_ns = faults_end_ns(&r->faults) + AFTER_NS;
	if (plan.until_ns < plan.busy_until_ns)
		plan.until_ns = plan.busy_until_ns;
	*ret = (struct outcome_of){ 0 };
	snprintf(ret->shape, sizeof(ret->shape),
		 "%u shards%s%s, pools of %llu MiB%s, delays to %llu us, up to %u bytes, %s "
		 "leases%s%s%s",
		 shape.shards, shape.has_archive ? " with files" : "",
		 shape.is_durable ? " and durable jobs" : "",
		 (unsigned long long)shape.pool_bytes >> 20,
		 shape.is_near       ? " that clients map"
		 : shape.is_together ? " in the proxies"
				     : "",
		 (unsigned long long)shape.delay_ns_max / 1000, plan.len_max,
		 plan.has_short_leases ? "short" : "long", plan.has_quotas ? ", quotas" : "",
		 shape.names_left ? ", sessions handed on" : "",
		 shape.directs ? ", direct clients" : "");
	faults_format(&r->faults, ret->faults, sizeof(ret->faults));
	workload_init(&r->wl, &r->c, &r->m, &plan);
	if (!r->m.failure[0])
		run_all(r);
	memcpy(ret->failure, r->m.failure, sizeof(ret->failure));
	ret->fingerprint = sim_fingerprint(r->c.sim);
	ret->end_ms = sim_now_ns(r->c.sim) / MS;
	ret->ops = r->wl.ops;
	ret->gets = r->m.gets;
	ret->puts = r->m.puts;
	ret->checks = r->m.checks;
	cluster_close(&r->c);
	workload_fini(&r->wl);
	model_fini(&r->m);
}
