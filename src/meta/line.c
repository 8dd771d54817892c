/* SPDX-License-Identifier: Apache-2.0 */
/*
 * line: those who wait for room in the quota of a job, the oldest put first.
 *
 * Who is first asks the catalog again whenever something of the slot has changed. Nobody
 * passes him, however little he needs, but who is older: so it is by the age of the put,
 * as at a store, and who holds a part of what he puts comes before those who began later.
 */
#include "base/node.h"
#include "meta/shard_priv.h"

/* What is dead in the job's segments is looked for again so often. */
#define LINE_AGAIN_MS 100

/* Each is a look at the catalog, and perhaps a request to a store. */
#define LINES_PER_TURN (TICK_STEP / 4)

/* A line of a job, while anybody stands in it. */
struct line {
	struct list link, woken;
	struct slot *slot;
	uint64_t job;
	struct list askings; /* oldest put first */
	struct timer again;
};

static struct line *line_find(const struct slot *slot, uint64_t job)
{
	for (struct list *l = slot->lines.next; l != &slot->lines; l = l->next) {
		struct line *line = container_of(l, struct line, link);

		if (line->job == job)
			return line;
	}
	return NULL;
}

static struct asking *first_of(const struct line *l)
{
	return container_of(l->askings.next, struct asking, link);
}

static void line_wake(struct line *l)
{
	struct shard *s = l->slot->shard;

	if (s->is_closing)
		return;
	if (list_is_empty(&l->woken))
		list_insert(&s->woken_lines, &l->woken);
	loop_defer(s->loop, &s->serve_lines);
}

void lines_wake(struct slot *slot)
{
	for (struct list *l = slot->lines.next; l != &slot->lines; l = l->next)
		line_wake(container_of(l, struct line, link));
}

static void line_again(struct timer *t)
{
	struct line *l = container_of(t, struct line, again);
	struct loop *loop = l->slot->shard->loop;

	timer_start(loop, t, loop->now_ns + LINE_AGAIN_MS * MS);
	clean_quota(l->slot, first_of(l)->req.need);
	line_wake(l);
}

static struct line *line_get(struct slot *slot, uint64_t job)
{
	struct line *l = line_find(slot, job);

	if (l)
		return l;
	l = node_alloc(sizeof(*l));
	if (!l)
		return NULL;
	*l = (struct line){ .slot = slot, .job = job, .again = { .fire = line_again } };
	list_init(&l->woken);
	list_init(&l->askings);
	list_init(&l->link);
	list_insert(&slot->lines, &l->link);
	timer_start(slot->shard->loop, &l->again, slot->shard->loop->now_ns);
	return l;
}

/* Somebody has left it. */
void line_rest(struct line *l)
{
	if (!list_is_empty(&l->askings))
		return;
	timer_stop(l->slot->shard->loop, &l->again);
	list_remove(&l->woken);
	list_remove(&l->link);
	node_free(l);
}

static int64_t birth_of(const struct shard *s, const struct lease_req *req)
{
	uint64_t age_ms = req->age_ms < UINT32_MAX ? req->age_ms : UINT32_MAX;

	return (int64_t)s->loop->now_ns - (int64_t)(age_ms * MS);
}

bool line_is_before(const struct slot *slot, const struct lease_req *req)
{
	const struct line *l = line_find(slot, req->job);

	return l && first_of(l)->birth_ns <= birth_of(slot->shard, req);
}

void line_join(struct request *r, struct slot *slot, const struct lease_req *req)
{
	struct line *l = line_get(slot, req->job);
	struct asking *a;
	struct list *at;

	if (!l) {
		request_fail(r, -ENOMEM, "no memory to wait with");
		return;
	}
	a = asking_new(r, slot, req);
	if (!a) {
		line_rest(l);
		return;
	}
	a->line = l;
	a->birth_ns = birth_of(slot->shard, req);
	at = &l->askings;
	while (at->prev != &l->askings &&
	       container_of(at->prev, struct asking, link)->birth_ns > a->birth_ns)
		at = at->prev;
	list_insert(at, &a->link);
	asking_watch(a);
	line_wake(l);
}

/* 0: it is to be asked of a store; -EDQUOT with may_fit: there is still no room. */
static int ask_quota(struct asking *a, struct outcome *out)
{
	struct shard *s = a->shard;
	uint8_t grants[GRANTS_BYTES];
	struct wcur payload = wcur_make(grants, sizeof(grants));

	return catalog_lease(a->slot->catalog, &a->req, stores_segment_max(s), shard_now(s),
			     &payload, out);
}

void line_late(struct asking *a)
{
	struct outcome *out = &a->shard->wake_out;
	int r = ask_quota(a, out);

	if (r == 0) {
		catalog_ask_over(a->slot->catalog, a->req.job, out->ask.bytes);
		asking_refuse(a, -EDQUOT, "others of the job have waited for longer for its quota");
	} else {
		asking_refuse(a, r, out->detail);
	}
	asking_free(a);
}

/* False: the first one still waits. */
static bool serve_first(struct line *l)
{
	struct asking *a = first_of(l);
	struct outcome *out = &a->shard->wake_out;
	int r;

	if (!a->parked.conn) {
		asking_free(a);
		return true;
	}
	r = ask_quota(a, out);
	if (r == -EDQUOT && out->may_fit)
		return false;
	if (r < 0) {
		asking_refuse(a, r, out->detail);
		asking_free(a);
		return true;
	}
	list_remove(&a->link);
	a->line = NULL;
	line_rest(l);
	asking_go(a, out);
	return true;
}

void lines_work(struct task *t)
{
	struct shard *s = container_of(t, struct shard, serve_lines);

	for (int i = 0; i < LINES_PER_TURN; i++) {
		struct line *l;

		if (list_is_empty(&s->woken_lines))
			return;
		l = container_of(s->woken_lines.next, struct line, woken);
		if (!serve_first(l))
			list_remove(&l->woken);
	}
	loop_defer(s->loop, t);
}

void lines_forget(struct slot *slot)
{
	while (!list_is_empty(&slot->lines))
		asking_free(first_of(container_of(slot->lines.next, struct line, link)));
}
