/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place: segments that are asked of storage servers.
 *
 * LEASE --> SEGMENT to a store --> grant --> effect --> answer. The ask has a number of its own and
 * is sent once on each connection, with the same one, until the store has answered: what it granted
 * must not be lost. (Sent again beside the first, one of the two could be granted after what the
 * other brought has been given back; and a store that was stopped found dozens of each.) When
 * nobody is left who wants it, or another store is to be asked, it is sent once more, as one that
 * is over: the store answers that at once with what it had granted, and lets no others wait behind
 * it.
 */
#include "base/due.h"
#include "base/hash.h"
#include "base/node.h"
#include "base/plant.h"
#include "meta/shard_priv.h"

/* An ask that a store could not take is sent again after so long. */
#define ASK_AGAIN_MS 50

/* Then what only waits for its writer is given up. */
#define ASK_PATIENCE_MS 500

static void asking_place_at(struct asking *a, struct store *st)
{
	a->store = st;
	a->placed_ns = a->shard->loop->now_ns;
	if (st && !a->req.is_move)
		clean_before(st, a->slot);
}

static void asking_place(struct asking *a)
{
	asking_place_at(a, store_choose(a));
}

static struct asking *asking_find(const struct shard *s, const struct lease_req *req)
{
	struct hlink *l = htable_first(&s->asked, request_hash(s, req->session, req->request));

	for (; l; l = htable_next(l)) {
		struct asking *a = container_of(l, struct asking, by_request);

		if (a->req.session == req->session && a->req.request == req->request &&
		    a->req.job == req->job)
			return a;
	}
	return NULL;
}

bool asking_is_open(const struct store *st, uint64_t number)
{
	struct hlink *l = htable_first(&st->shard->asked_numbers, number);

	for (; l; l = htable_next(l)) {
		const struct asking *a = container_of(l, struct asking, by_number);

		if (a->request == number)
			return a->store == st; /* it may have been given up, and another asked */
	}
	return false;
}

void asking_free(struct asking *a)
{
	struct shard *s = a->shard;
	struct slot *slot = a->slot;
	struct line *line = a->line;

	if (!planted(QUOTA_LEAKED))
		catalog_ask_over(a->slot->catalog, a->req.job, a->bytes);
	timer_stop(s->loop, &a->again);
	list_remove(&a->link);
	list_remove(&a->crowd);
	if (a->req.request)
		htable_remove(&s->asked, &a->by_request);
	htable_remove(&s->asked_numbers, &a->by_number);
	s->asking_count--;
	a->of_job->count--;
	job_waits_rest(s, a->of_job);
	node_free(a);
	if (line)
		line_rest(line);
	lines_wake(slot); /* what it was charged for is free again */
}

static void asking_cancel(struct asking *a)
{
	if (!a->call.is_pending)
		return;
	call_cancel(&a->call);
	call_end(&a->call);
}

void asking_forget(struct asking *a)
{
	asking_cancel(a);
	asking_free(a);
}

/* It has waited for most of its time in line, and had little left to ask a store in. */
static bool was_quota(const struct asking *a)
{
	return a->asked_ns - a->born_ns > a->due_ns - a->asked_ns &&
	       a->shard->loop->now_ns >= due_again(a->asked_ns, a->due_ns);
}

void asking_refuse(struct asking *a, int err, const char *words)
{
	unsigned long long own = catalog_job_bytes(a->slot->catalog, a->req.job);

	if (!a->parked.conn)
		return;
	if (err == -ENOSPC && was_quota(a))
		parked_fail(&a->parked, -EDQUOT,
			    "the job's quota had no room for %llu ms, and then %s",
			    (unsigned long long)(a->asked_ns - a->born_ns) / MS, words);
	else if (err == -ENOSPC)
		parked_fail(&a->parked, err, "%s; this job has %llu bytes", words, own);
	else
		parked_fail(&a->parked, err, "%s", words);
}

static void asking_wait(struct asking *a, uint64_t until_ns)
{
	timer_start(a->shard->loop, &a->again, until_ns);
}

static bool is_at_store(const struct asking *a)
{
	return a->store && a->store->conn;
}

static uint64_t quiet_ns(const struct asking *a)
{
	return a->placed_ns + ASK_QUIET_MS * MS;
}

/*
 * Its store has no room, or cannot make any: one without its keeper does not. Another may have
 * some now; if not, it waits where it would have been placed.
 */
static bool is_to_leave(const struct asking *a)
{
	return a->shard->loop->now_ns >= quiet_ns(a) && !a->req.is_move && !a->is_leaving &&
	       !a->has_left && is_at_store(a) && store_beside(a->store) != a->store;
}

void asking_watch(struct asking *a)
{
	uint64_t now_ns = a->shard->loop->now_ns, look_ns = now_ns + SESSION_LIFE_MS * MS;

	if (a->call.is_pending && now_ns < quiet_ns(a))
		look_ns = quiet_ns(a);
	asking_wait(a, look_ns < a->due_ns ? look_ns : a->due_ns);
}

/* Somebody waits for it, in a session that lives. */
static bool has_asker(const struct asking *a)
{
	const struct presence *p = presence_find(a->shard, a->req.session);

	return a->parked.conn && p && p->epoch == a->req.epoch;
}

static bool is_wanted(const struct asking *a)
{
	return has_asker(a) && !a->req.is_over;
}

/* Only its store knows. One that is away tells of its grants when it comes back. */
static bool may_be_granted(const struct asking *a)
{
	return is_at_store(a) && a->is_asked;
}

/* Nothing was granted, and nothing will be. */
static void asking_none(struct asking *a)
{
	if (a->parked.conn) {
		struct wcur w = parked_answer(&a->parked);

		lease_rep_put(&w, &(struct lease_rep){ 0 });
		parked_reply(&a->parked, &w);
	}
	asking_forget(a);
}

static void asking_send(struct asking *a);

/* Nobody wants it. */
static void asking_give_up(struct asking *a)
{
	if (!may_be_granted(a))
		asking_none(a);
	else if (!a->call.is_pending || !a->is_withdrawn)
		asking_send(a);
}

/* What was granted meanwhile is heard, and it stays then. */
static void asking_leave(struct asking *a)
{
	a->is_leaving = true;
	asking_send(a);
}

static void asking_has_left(struct asking *a)
{
	struct store *other = is_at_store(a) ? store_beside(a->store) : NULL;

	a->is_leaving = false;
	a->has_left = true;
	a->is_now = other && other != a->store;
	asking_place_at(a, other);
}

static void asking_try(struct asking *a)
{
	if (!a->store)
		asking_place(a);
	if (is_at_store(a))
		asking_send(a);
	else
		asking_watch(a);
}

static void asking_again(struct timer *t)
{
	struct asking *a = container_of(t, struct asking, again);
	bool is_late = a->shard->loop->now_ns >= a->due_ns;

	if (is_late && a->line) {
		line_late(a);
		return;
	}
	if (is_late)
		asking_refuse(a, -ENOSPC, "no store of dram answered in time");
	else if (!has_asker(a))
		asking_refuse(a, -ENOLINK, "the session is over");
	if (!is_wanted(a))
		asking_give_up(a);
	else if (a->call.is_pending && is_to_leave(a))
		asking_leave(a);
	else if (a->line || a->call.is_pending)
		asking_watch(a);
	else
		asking_try(a);
}

static void answer_grants(struct asking *a, struct slice grants)
{
	struct reply_bytes *b = reply_bytes_take(a->shard, GRANTS_BYTES);
	struct wcur w;

	if (!b) {
		/* They are the session's; to ask again with the same request finds them. */
		parked_fail(&a->parked, -ENOMEM, "no memory for an answer");
		return;
	}
	memcpy(b->bytes, grants.ptr, grants.len);
	reply_bytes_made(b, grants.len);
	w = parked_answer(&a->parked);
	lease_rep_put(&w, &a->shard->wake_out.rep.lease);
	parked_reply_with(&a->parked, &w, &b->payload);
}

/*
 * The store has granted. False: there was no memory, or no room in the log, to note it, so it is
 * asked again.
 */
static bool granted(struct asking *a, uint64_t stamp_ns, struct slice grants)
{
	struct shard *s = a->shard;
	struct lease_req req = a->req;
	int r;

	if (!has_asker(a))
		req.session = 0;
	catalog_ask_over(a->slot->catalog, req.job, a->bytes);
	a->bytes = 0;
	r = catalog_grant(a->slot->catalog, &req, stamp_ns, grants, shard_now(s), &s->wake_out);
	if (r == -ENOBUFS)
		asking_refuse(a, r, s->wake_out.detail);
	if (r == -ENOMEM || r == -ENOBUFS)
		return false;
	if (a->store)
		store_note(a->store, a->slot);
	if (r < 0)
		asking_refuse(a, r, s->wake_out.detail);
	else if (req.session)
		answer_grants(a, grants);
	else
		asking_refuse(a, -ENOLINK, "the session is over");
	shard_after(a->slot, &s->wake_out);
	return true;
}

static int get_grants(struct asking *a, uint64_t *ret_stamp, struct slice *ret)
{
	struct rcur body = call_reply(&a->call);
	struct segment_rep rep;

	if (segment_rep_get(&body, &rep) < 0 || (rep.count == 0 && !a->is_withdrawn) ||
	    a->call.room_len != rep.count * (size_t)GRANT_SIZE)
		return -EBADMSG;
	*ret_stamp = rep.stamp_ns;
	*ret = (struct slice){ a->call.room, a->call.room_len };
	return 0;
}

static bool is_unknown(int r)
{
	return r == -ECONNRESET || r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -ENOMEM;
}

/* Its store holds as many of ours as it may: until one of those has its answer. */
static void asking_stand_by(struct asking *a)
{
	struct list *at = &a->store->crowd, *first = at->next;

	if (first != at && container_of(first, struct asking, crowd)->asked_ns > a->asked_ns)
		at = first; /* it had a turn, and somebody else was faster */
	list_insert(at, &a->crowd);
	asking_watch(a);
}

static void asking_answered(struct asking *a)
{
	struct call *call = &a->call;
	uint64_t now_ns = a->shard->loop->now_ns, stamp_ns;
	int r = call->result;
	struct slice grants;
	char words[160];

	if (r == 0)
		r = get_grants(a, &stamp_ns, &grants);
	call_detail(call, words, sizeof(words));
	call_end(call);
	a->is_asked = r == 0 ? grants.len > 0 : is_unknown(r);
	if (r == 0 && grants.len == 0) {
		if (is_wanted(a) && a->is_leaving)
			asking_has_left(a);
		if (is_wanted(a))
			asking_wait(a, now_ns); /* who was given up has come back */
		else
			asking_none(a);
	} else if (r == 0) {
		if (granted(a, stamp_ns, grants))
			asking_free(a);
		else
			asking_wait(a, now_ns + DUTY_AGAIN_MS * MS);
	} else if (r == -ENOSPC && a->is_now && now_ns < a->due_ns) {
		a->is_near_full = true;
		a->store = NULL;
		asking_wait(a, now_ns); /* where it may wait for room */
	} else if (r == -ECONNRESET || r == -EHOSTUNREACH) {
		/* Perhaps granted: it is asked again when it comes back, or now, if it is. */
		asking_wait(a, is_wanted(a) && !is_at_store(a) ? a->due_ns : now_ns);
	} else if ((r == -ENOSPC || r == -ETIMEDOUT) && a->due_ns > a->told_due_ns &&
		   now_ns < a->due_ns) {
		asking_wait(a, now_ns); /* who has joined meanwhile has more time */
	} else if (r == -EAGAIN && a->store && !a->req.is_move && now_ns < a->due_ns) {
		asking_stand_by(a);
	} else if ((r == -EAGAIN || r == -ENOMEM) && now_ns < a->due_ns) {
		asking_wait(a, now_ns + ASK_AGAIN_MS * MS);
	} else if (r == -ETIMEDOUT || r == -ENOMEM) {
		/* Perhaps granted, and there was no memory to say so: it is asked until it does. */
		asking_refuse(a, r == -ENOMEM ? r : -ENOSPC,
			      r == -ENOMEM ? words : "the store of dram did not answer in time");
		asking_wait(a, now_ns + DUTY_AGAIN_MS * MS);
	} else {
		asking_refuse(a, r, words);
		asking_free(a);
	}
}

static void asking_done(struct call *call)
{
	struct asking *a = call->owner;
	struct store *st = a->store;
	int r = call->result;

	asking_answered(a);
	if (r != -EAGAIN && st && st->conn && !list_is_empty(&st->crowd))
		asking_send(container_of(st->crowd.next, struct asking, crowd));
}

static void asking_send(struct asking *a)
{
	struct shard *s = a->shard;
	uint64_t now_ns = s->loop->now_ns, due_ns = a->due_ns;
	struct wcur w;

	asking_cancel(a);
	list_remove(&a->crowd);
	a->is_withdrawn = !is_wanted(a) || a->is_leaving;
	a->is_asked = true;
	a->call = (struct call){
		.done = asking_done, .owner = a, .room = a->store->grants, .room_cap = GRANTS_BYTES
	};
	if (due_ns <= now_ns)
		due_ns = now_ns + DUTY_AGAIN_MS * MS; /* only to hear whether it was granted */
	w = call_body(s->net, &a->call);
	segment_req_put(&w,
			&(struct segment_req){ .job = a->req.job,
					       .request = a->request,
					       .author = a->req.author,
					       .stamp_ns = shard_now(s),
					       .age_ms = a->req.age_ms + (now_ns - a->born_ns) / MS,
					       .need = store_need(a),
					       .size = a->size,
					       .is_move = a->req.is_move,
					       .is_whole = a->req.is_whole,
					       .is_now = a->is_now,
					       .is_over = a->is_withdrawn });
	call_send(a->store->conn, &a->call, MSG_SEGMENT, a->slot->number, &w, NULL, due_ns);
	/* The store has until then to say no; what it did if it says nothing we must know, too. */
	call_extend(&a->call, UINT64_MAX);
	a->told_due_ns = due_ns;
	if (a->parked.conn)
		asking_watch(a);
	else
		timer_stop(s->loop, &a->again);
}

bool asking_joins(struct request *r, struct slot *slot, const struct lease_req *req)
{
	struct shard *s = slot->shard;
	struct asking *a = req->request ? asking_find(s, req) : NULL;

	if (!a)
		return false;
	if (a->parked.conn)
		parked_drop(&a->parked);
	if (req->is_over && !may_be_granted(a)) {
		asking_forget(a);
		return false;
	}
	a->req = *req;
	a->due_ns = due_early(s->loop->now_ns, r->due_ns);
	request_park(r, &a->parked);
	asking_watch(a);
	if (req->is_over)
		asking_give_up(a);
	else if (!a->call.is_pending && is_at_store(a))
		asking_send(a);
	return true;
}

void asking_of_conn_over(struct parked *p)
{
	struct asking *a = container_of(p, struct asking, parked);

	parked_drop(p);
	asking_wait(a, a->shard->loop->now_ns + FUNCTION_GONE_MS * MS);
}

struct asking *asking_new(struct request *r, struct slot *slot, const struct lease_req *req)
{
	struct shard *s = slot->shard;
	struct job_waits *of;
	struct asking *a;

	/* Moves give others what they wait for, and servers make few at a time. */
	if (!req->is_move && !request_may_wait(r, s, req->job))
		return NULL;
	of = job_waits_get(s, req->job);
	a = of ? node_alloc(sizeof(*a)) : NULL;
	if (!a) {
		if (of)
			job_waits_rest(s, of);
		request_fail(r, -ENOMEM, "no memory to wait with");
		return NULL;
	}
	*a = (struct asking){ .shard = s,
			      .slot = slot,
			      .req = *req,
			      .of_job = of,
			      .request = node_random_u64(),
			      .born_ns = s->loop->now_ns,
			      .due_ns = due_early(s->loop->now_ns, r->due_ns),
			      .again = { .fire = asking_again } };
	list_init(&a->link);
	list_init(&a->crowd);
	if (req->request)
		htable_add(&s->asked, &a->by_request, request_hash(s, req->session, req->request));
	htable_add(&s->asked_numbers, &a->by_number, a->request);
	s->asking_count++;
	of->count++;
	request_park(r, &a->parked);
	return a;
}

void asking_go(struct asking *a, const struct outcome *out)
{
	struct shard *s = a->shard;

	a->bytes = out->ask.bytes;
	a->need = out->ask.need;
	a->size = out->ask.size;
	a->asked_ns = s->loop->now_ns;
	asking_place(a);
	list_insert(&s->askings, &a->link);
	if (a->store)
		asking_send(a);
	else
		asking_watch(a);
}

void asking_start(struct request *r, struct slot *slot, const struct lease_req *req,
		  const struct outcome *out)
{
	struct asking *a = asking_new(r, slot, req);

	if (a)
		asking_go(a, out);
	else
		catalog_ask_over(slot->catalog, req->job, out->ask.bytes);
}

void askings_of_store(struct store *st)
{
	struct shard *s = st->shard;

	for (struct list *l = s->askings.next; l != &s->askings; l = l->next) {
		struct asking *a = container_of(l, struct asking, link);

		if (a->call.is_pending || (a->store && a->store != st))
			continue;
		if (!a->store)
			asking_place(a);
		if (a->store)
			asking_send(a);
	}
}

void askings_look(struct shard *s)
{
	struct asking *oldest = list_is_empty(&s->askings)
					? NULL
					: container_of(s->askings.next, struct asking, link);

	if (!oldest || s->loop->now_ns - oldest->asked_ns < ASK_PATIENCE_MS * MS)
		return;
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		if (catalog_reclaim(slot->catalog, shard_now(s), &s->out) == 0)
			shard_after(slot, &s->out);
}
