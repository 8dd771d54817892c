/* SPDX-License-Identifier: Apache-2.0 */
#include "fault.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull

/* So long after the end of a fault its consequences may be felt: connections and sessions begin
 * anew. */
#define AFTERMATH_NS (5000 * MS)

static const char *const NAMES[FAULT_KINDS] = {
	[FAULT_KILL] = "kill",   [FAULT_HOST] = "host",   [FAULT_KEEPER] = "keeper",
	[FAULT_PAUSE] = "pause", [FAULT_CUT] = "cut",     [FAULT_ALONE] = "alone",
	[FAULT_STALL] = "stall", [FAULT_BREAK] = "break", [FAULT_WALL] = "wall",
	[FAULT_SLOW] = "slow",   [FAULT_GONE] = "gone",   [FAULT_POWER] = "power",
};

struct dice_of {
	uint64_t (*random)(void *owner);
	void *owner;
};

static uint64_t below(const struct dice_of *d, uint64_t count)
{
	return d->random(d->owner) % count;
}

/* Mostly short, sometimes longer than any session. */
static uint64_t duration_ms(const struct dice_of *d)
{
	switch (below(d, 6)) {
	case 0:
	case 1:
		return 1 + below(d, 100);
	case 2:
	case 3:
		return 100 + below(d, 5000);
	case 4:
		return 5000 + below(d, 30000);
	default:
		return 30000 + below(d, 60000);
	}
}

/* Between others there is nothing to cut. */
static bool do_talk(const struct process *a, const struct process *b)
{
	unsigned both = a->roles | b->roles;

	if (a == b)
		return false;
	if (a->roles & b->roles & RUNS_CLIENT)
		return false;
	if (both & RUNS_DIRECT)
		return both & (RUNS_META | RUNS_STORE);
	if (both & RUNS_CLIENT)
		return both & RUNS_PROXY;
	return both & RUNS_META || both & RUNS_PROXY;
}

static bool may_die(const struct process *p)
{
	return !(p->roles & RUNS_CLIENT && p->index == OPERATOR);
}

/* One store of those whose hosts are lost for so long is gone for good. */
#define GONE_MS 5000

/* Somebody else can do what it did. */
static bool may_go(const struct faults *f, const struct process *p)
{
	for (unsigned i = 0; i < f->count; i++)
		if (f->list[i].kind == FAULT_GONE)
			return false;
	return p->roles == RUNS_STORE;
}

static void make_one(const struct faults *before, struct fault *f, struct cluster *c,
		     uint64_t span_ms, bool may_lose_hosts, const struct dice_of *d)
{
	const struct process *a = &c->processes[below(d, c->count)];
	const struct process *b = &c->processes[below(d, c->count)];

	while (!do_talk(a, b))
		b = &c->processes[below(d, c->count)];
	*f = (struct fault){ .kind = (enum fault_kind)below(d, FAULT_GONE),
			     .at_ms = below(d, span_ms),
			     .for_ms = duration_ms(d) };
	/* Most of the time nothing is on its way: so half of them wait until something is. */
	if (below(d, 2))
		f->nth = 1 + (unsigned)below(d, 40);
	snprintf(f->a, sizeof(f->a), "%s", a->name);
	switch (f->kind) {
	case FAULT_KILL:
		if (!may_die(a))
			f->kind = FAULT_PAUSE;
		/* Of metadata's host there are no copies yet, but the log's files. */
		if (a->roles & RUNS_META && c->shape.has_archive && below(d, 2))
			f->kind = FAULT_POWER;
		break;
	case FAULT_HOST:
		if (a->roles & RUNS_META && c->shape.has_archive)
			f->kind = FAULT_POWER;
		else if (!may_die(a) || a->roles & RUNS_META || !may_lose_hosts)
			f->kind = FAULT_PAUSE;
		else if (f->for_ms >= GONE_MS && may_go(before, a))
			f->kind = FAULT_GONE;
		if (f->kind == FAULT_GONE)
			f->for_ms = 0;
		break;
	case FAULT_KEEPER:
		if (!process_is_kept(a))
			snprintf(f->a, sizeof(f->a), "%s", c->meta->name);
		break;
	case FAULT_CUT:
	case FAULT_STALL:
	case FAULT_BREAK:
		snprintf(f->b, sizeof(f->b), "%s", b->name);
		if (f->kind == FAULT_BREAK)
			f->for_ms = 0;
		break;
	case FAULT_WALL:
		f->for_ms = 0;
		f->amount = (int64_t)below(d, 7200000) - 3600000;
		break;
	case FAULT_SLOW:
		f->a[0] = '\0';
		f->nth = 0;
		f->amount = 1 + (int64_t)below(d, 200);
		f->for_ms %= 10000;
		break;
	default:
		break;
	}
	if (f->kind == FAULT_POWER)
		f->amount = (int64_t)below(d, 1000);
}

/* Of those that write to stores. */
static const struct process *choose_writer(const struct cluster *c, const struct dice_of *d)
{
	const struct process *writers[SHAPE_PROXIES + SHAPE_CLIENTS];
	unsigned n = 0;

	for (unsigned i = 0; i < c->count; i++)
		if (c->processes[i].roles & (RUNS_PROXY | RUNS_DIRECT))
			writers[n++] = &c->processes[i];
	return writers[below(d, n)];
}

/* What a proxy wrote to a store comes after it was given up: somebody else may have the room. */
static void make_late(struct fault *f, const struct cluster *c, const struct dice_of *d)
{
	*f = (struct fault){ .kind = FAULT_STALL,
			     .at_ms = f->at_ms,
			     .nth = 1 + (unsigned)below(d, 40),
			     .for_ms = 5000 + below(d, 15000) };
	snprintf(f->a, sizeof(f->a), "%s", choose_writer(c, d)->name);
	snprintf(f->b, sizeof(f->b), "%s", c->stores[below(d, SHAPE_STORES)]->name);
}

static int earlier(const void *a, const void *b)
{
	const struct fault *x = a, *y = b;

	return (x->at_ms > y->at_ms) - (x->at_ms < y->at_ms);
}

void faults_make(struct faults *f, struct cluster *c, uint64_t span_ms,
		 uint64_t (*random)(void *owner), void *owner)
{
	const struct dice_of d = { random, owner };
	/* Every fifth run has none: then nothing may fail at all. */
	unsigned count = below(&d, 5) == 0 ? 0 : 1 + (unsigned)below(&d, 12);
	bool may_lose_hosts = !c->shape.keeps_stores || below(&d, 3) == 0;

	*f = (struct faults){ 0 };
	for (; f->count < count; f->count++) {
		make_one(f, &f->list[f->count], c, span_ms, may_lose_hosts, &d);
		if (c->shape.is_crowded && below(&d, 8) > 0)
			make_late(&f->list[f->count], c, &d);
	}
	qsort(f->list, count, sizeof(f->list[0]), earlier);
}

/* As text. */

void faults_format(const struct faults *f, char *buf, size_t cap)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < f->count && at < cap; i++) {
		const struct fault *x = &f->list[i];

		at += (size_t)snprintf(buf + at, cap - at, "%s%s:%s%s%s@%llu", i ? "," : "",
				       NAMES[x->kind], x->a, x->b[0] ? "-" : "", x->b,
				       (unsigned long long)x->at_ms);
		if (x->nth && at < cap)
			at += (size_t)snprintf(buf + at, cap - at, "#%u", x->nth);
		if (x->for_ms && at < cap)
			at += (size_t)snprintf(buf + at, cap - at, "+%llu",
					       (unsigned long long)x->for_ms);
		if (x->amount && at < cap)
			at += (size_t)snprintf(buf + at, cap - at, "=%lld", (long long)x->amount);
	}
}

/* Up to one of `ends`; what is taken is gone from *at. */
static bool take(const char **at, const char *ends, char *buf, size_t cap)
{
	size_t n = strcspn(*at, ends);

	if (n >= cap)
		return false;
	memcpy(buf, *at, n);
	buf[n] = '\0';
	*at += n;
	return true;
}

static bool parse_one(struct fault *f, const char *text)
{
	char kind[12];
	char *end;

	*f = (struct fault){ .kind = FAULT_KINDS };
	if (!take(&text, ":", kind, sizeof(kind)) || *text++ != ':')
		return false;
	for (int k = 0; k < FAULT_KINDS; k++)
		if (strcmp(kind, NAMES[k]) == 0)
			f->kind = (enum fault_kind)k;
	if (f->kind == FAULT_KINDS || !take(&text, "-@", f->a, sizeof(f->a)))
		return false;
	if (*text == '-') {
		text++;
		if (!take(&text, "@", f->b, sizeof(f->b)))
			return false;
	}
	if (*text++ != '@')
		return false;
	f->at_ms = strtoull(text, &end, 10);
	if (*end == '#')
		f->nth = (unsigned)strtoul(end + 1, &end, 10);
	if (*end == '+')
		f->for_ms = strtoull(end + 1, &end, 10);
	if (*end == '=')
		f->amount = strtoll(end + 1, &end, 10);
	return *end == '\0';
}

bool faults_parse(struct faults *f, const char *text)
{
	*f = (struct faults){ 0 };
	while (*text) {
		char one[80];

		if (f->count == FAULTS_MAX || !take(&text, ",", one, sizeof(one)) ||
		    !parse_one(&f->list[f->count++], one))
			return false;
		text += *text == ',';
	}
	return true;
}

/* Doing. */

static uint64_t begin_ns(const struct fault *f)
{
	return f->at_ms * MS;
}

static uint64_t end_ns(const struct fault *f)
{
	return f->begun_ns + f->for_ms * MS;
}

/* Something that never comes is not waited for. */
#define WAIT_NS (5000 * MS)

static bool has_come(const struct fault *f, uint64_t now_ns)
{
	if (f->nth == 0)
		return now_ns >= begin_ns(f);
	return f->is_armed && (f->watch.left == 0 || now_ns >= begin_ns(f) + WAIT_NS);
}

static void arm(struct fault *f, struct cluster *c)
{
	const struct process *a = cluster_find(c, f->a), *b = cluster_find(c, f->b);

	f->is_armed = true;
	f->watch = (struct sim_watch){ .left = f->nth };
	list_init(&f->watch.link);
	if (!a)
		return;
	f->watch.a = a->id;
	f->watch.b = b ? b->id : 0;
	sim_watch(c->sim, &f->watch);
}

static uint64_t next_ns(const struct fault *f)
{
	if (f->has_ended)
		return UINT64_MAX;
	if (f->has_begun)
		return end_ns(f);
	return begin_ns(f) + (f->is_armed ? WAIT_NS : 0);
}

uint64_t faults_end_ns(const struct faults *f)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < f->count; i++) {
		const struct fault *x = &f->list[i];
		uint64_t at = (x->at_ms + x->for_ms) * MS + (x->nth ? WAIT_NS : 0);

		end = at > end ? at : end;
	}
	return end;
}

uint64_t faults_due_ns(const struct faults *f)
{
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < f->count; i++) {
		uint64_t at_ns = next_ns(&f->list[i]);

		due = at_ns < due ? at_ns : due;
	}
	return due;
}

static void cut_from_all(struct cluster *c, const struct process *p, bool is_cut)
{
	for (unsigned i = 0; i < c->count; i++)
		if (&c->processes[i] != p)
			sim_cut(c->sim, p->id, c->processes[i].id, is_cut);
}

/* If it may come back. */
static void start(struct process *p, const struct fault_hooks *hooks)
{
	if (p->is_up || p->is_gone)
		return;
	process_start(p);
	hooks->started(hooks->owner, p);
}

/* Until what it had is known to be lost, nobody knows whether it comes back. */
static uint64_t felt_ms(const struct fault *f)
{
	return f->kind == FAULT_GONE ? STORE_GONE_MS : f->for_ms;
}

/* What happens to a client, or on its way, is felt by nobody else. */
static unsigned clients_of(const struct process *a, const struct process *b)
{
	if (a && a->roles & RUNS_CLIENT)
		return 1u << a->index;
	if (b && b->roles & RUNS_CLIENT)
		return 1u << b->index;
	return ALL_CLIENTS;
}

/* A store without its keeper gives no room: the others do, if they have theirs. */
static bool may_do_without(const struct cluster *c, const struct process *a)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->processes[i].is_keeper_down)
			return false;
	return !(a->roles & RUNS_META);
}

static void begin(struct fault *f, struct cluster *c, struct model *m,
		  const struct fault_hooks *hooks, uint64_t now_ns)
{
	struct process *a = cluster_find(c, f->a), *b = cluster_find(c, f->b);

	f->has_begun = true;
	f->begun_ns = now_ns;
	if (f->is_armed)
		sim_unwatch(&f->watch);
	if (!a && f->kind != FAULT_SLOW)
		return; /* of a list that was made for another shape */
	if (f->kind != FAULT_WALL && !(f->kind == FAULT_KEEPER && may_do_without(c, a)))
		model_trouble(m, clients_of(a, b), now_ns, now_ns + felt_ms(f) * MS + AFTERMATH_NS);
	switch (f->kind) {
	case FAULT_KILL:
	case FAULT_HOST:
		/* Process and keeper at once are more than is promised to be survived. */
		if (!a->is_up || (a->is_keeper_down && f->kind == FAULT_KILL))
			break;
		hooks->killed(hooks->owner, a);
		if (f->kind == FAULT_HOST)
			process_kill_host(a);
		else
			process_kill(a);
		if (a->roles & RUNS_STORE && (f->kind == FAULT_HOST || !process_is_kept(a)))
			model_loss(m, now_ns);
		break;
	case FAULT_POWER:
		if (!a->is_up || !a->archive)
			break;
		hooks->killed(hooks->owner, a);
		process_cut_power(a, (uint64_t)f->amount);
		m->is_ahead_believed = true;
		if (!c->shape.is_durable)
			model_power(m, now_ns);
		break;
	case FAULT_GONE:
		if (a->roles != RUNS_STORE)
			break;
		/* Perhaps it was killed before, and only its keeper is left. */
		if (a->is_up)
			process_kill_host(a);
		a->is_gone = true;
		model_loss(m, now_ns);
		break;
	case FAULT_KEEPER:
		if (a->is_up)
			process_keeper_down(a, true);
		break;
	case FAULT_PAUSE:
		a->is_paused = true;
		sim_node_pause(a->node, true);
		break;
	case FAULT_ALONE:
		cut_from_all(c, a, true);
		break;
	case FAULT_CUT:
	case FAULT_BREAK:
		if (!b || a == b)
			break;
		sim_cut(c->sim, a->id, b->id, true);
		if (f->kind == FAULT_BREAK)
			sim_cut(c->sim, a->id, b->id, false);
		break;
	case FAULT_STALL:
		if (b && a != b)
			sim_stall(c->sim, a->id, b->id, true);
		break;
	case FAULT_WALL: {
		struct node *outer = node_current;

		node_current = sim_node_of(a->node);
		sim_node_set_wall(a->node, node_wall_ns() + (uint64_t)f->amount * MS);
		node_current = outer;
		if (a->archive && f->amount > 0)
			m->ahead_ns += (uint64_t)f->amount * MS;
		break;
	}
	case FAULT_SLOW:
		sim_set_delay(c->sim, (uint64_t)f->amount * MS);
		break;
	case FAULT_KINDS:
		break;
	}
}

static void end(struct fault *f, struct cluster *c, const struct fault_hooks *hooks)
{
	struct process *a = cluster_find(c, f->a), *b = cluster_find(c, f->b);

	f->has_ended = true;
	switch (f->kind) {
	case FAULT_KILL:
	case FAULT_HOST:
	case FAULT_POWER:
		if (a)
			start(a, hooks);
		break;
	case FAULT_KEEPER:
		if (a)
			process_keeper_down(a, false);
		break;
	case FAULT_PAUSE:
		if (a && a->is_paused) {
			a->is_paused = false;
			sim_node_pause(a->node, false);
		}
		break;
	case FAULT_ALONE:
		if (a)
			cut_from_all(c, a, false);
		break;
	case FAULT_CUT:
		if (a && b)
			sim_cut(c->sim, a->id, b->id, false);
		break;
	case FAULT_STALL:
		if (a && b)
			sim_stall(c->sim, a->id, b->id, false);
		break;
	case FAULT_SLOW:
		sim_set_delay(c->sim, c->shape.delay_ns_max);
		break;
	default:
		break;
	}
}

void faults_do(struct faults *f, struct cluster *c, struct model *m,
	       const struct fault_hooks *hooks, uint64_t now_ns)
{
	for (unsigned i = 0; i < f->count; i++) {
		struct fault *x = &f->list[i];

		if (x->has_begun && !x->has_ended && end_ns(x) <= now_ns)
			end(x, c, hooks);
		if (x->nth && !x->is_armed && begin_ns(x) <= now_ns)
			arm(x, c);
		if (!x->has_begun && has_come(x, now_ns))
			begin(x, c, m, hooks, now_ns);
	}
}

void faults_heal(struct faults *f, struct cluster *c, struct model *m,
		 const struct fault_hooks *hooks, uint64_t now_ns)
{
	for (unsigned i = 0; i < f->count; i++) {
		struct fault *x = &f->list[i];

		if (x->has_begun && !x->has_ended)
			end(x, c, hooks);
		if (x->is_armed && !x->has_begun)
			sim_unwatch(&x->watch);
		x->has_begun = x->has_ended = true;
	}
	/* Two faults of one process overlap, and the first to end ends both: so look again. */
	for (unsigned i = 0; i < c->count; i++) {
		struct process *p = &c->processes[i];

		if (p->is_paused)
			sim_node_pause(p->node, false);
		p->is_paused = false;
		process_keeper_down(p, false);
		start(p, hooks);
	}
	if (f->count > 0)
		model_trouble(m, ALL_CLIENTS, now_ns, now_ns + AFTERMATH_NS);
}
