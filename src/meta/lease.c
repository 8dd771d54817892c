/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease: segments asked for, granted, and given back by their writers.
 */
#include "base/node.h"
#include "meta/catalog_priv.h"

/* What is left of a quota is used in parts no smaller than this fraction of it. */
#define GRAINS 8

/* What a store will grant, at most: as many as it takes, the last as small as will do. */
static uint64_t ask_bytes_of(uint64_t need, uint32_t size)
{
	uint64_t full = need / size, rest = need % size;

	if (full == 0)
		return size;
	if (full >= LEASE_SEGMENTS_MAX)
		return (uint64_t)size * LEASE_SEGMENTS_MAX;
	return full * size + (rest ? segment_size_for(rest) : 0);
}

/*
 * So much of what is needed as the quota has room for, if that is of any use. The rest of it,
 * for which small segments would be needed, is asked for when that has been used.
 */
static uint64_t need_within(const struct job *j, const struct lease_req *req)
{
	uint64_t room = job_room(j), grain = SEGMENT_BYTES_MIN;

	if (req->is_move || req->least == 0 || room >= req->need)
		return req->need;
	while (grain <= room / (2 * GRAINS))
		grain *= 2;
	room -= room % grain;
	return room > req->least ? room : req->least;
}

/* So many bytes of what is needed were granted: is the quota in the way of the others? */
static bool is_short_of_quota(const struct job *j, const struct lease_req *req, uint64_t bytes)
{
	return !req->is_move && bytes < req->need && job_room(j) < req->need - bytes;
}

/* The grants of a request that was answered before, and is repeated. */
static struct lease_rep put_granted(const struct catalog *c, const struct job *j,
				    const struct lease_req *req, struct wcur *payload)
{
	uint64_t hash = catalog_request_hash(c, req->session, req->request), bytes = 0;
	struct lease_rep rep = { 0 };

	for (struct hlink *l = htable_first(&c->requests, hash); l; l = htable_next(l)) {
		const struct segment *s = container_of(l, struct segment, by_request);

		if (s->owner != req->session || s->request != req->request ||
		    s->job->id != req->job)
			continue;
		grant_put(payload, &(struct grant){ .segment = s->id,
						    .generation = s->generation,
						    .size = s->size,
						    .key = s->key,
						    .store = s->pool->store });
		bytes += s->size;
		rep.count++;
	}
	rep.is_short_of_quota = is_short_of_quota(j, req, bytes);
	return rep;
}

int catalog_lease(struct catalog *c, const struct lease_req *req, uint32_t segment_max,
		  uint64_t now_ns, struct wcur *payload, struct outcome *ret)
{
	uint32_t size = SEGMENT_BYTES_MIN;
	uint64_t need;
	struct job *j;
	int r;

	(void)now_ns;
	outcome_begin(c, ret);
	r = catalog_job_living(c, req->job, ret, &j);
	if (r < 0)
		return r;
	if (req->session == 0)
		return refuse(ret, -ENOLINK, "segments belong to a session");
	if (req->tier != TIER_ANY && req->tier != TIER_DRAM)
		return refuse(ret, -EOPNOTSUPP, "this store has no tier but dram");
	if (j->is_durable)
		return refuse(
			ret, -EOPNOTSUPP,
			"an object of a durable job has at most %u bytes: a larger one needs the "
			"tier block, which this store does not have",
			INLINE_BYTES_MAX);
	if (req->size < SEGMENT_BYTES_MIN || req->need == 0 || req->least > req->need)
		return refuse(ret, -EINVAL, "segments have at least %u bytes", SEGMENT_BYTES_MIN);
	ret->rep.lease = (struct lease_rep){ 0 };
	if (req->request)
		ret->rep.lease = put_granted(c, j, req, payload);
	if (ret->rep.lease.count > 0 || req->is_over)
		return 0;
	need = need_within(j, req);
	if (j->quota > 0 && need > j->quota && !req->is_move)
		return refuse(ret, -EDQUOT,
			      "job %.*s: %llu bytes can never fit its quota of %llu "
			      "bytes of dram",
			      (int)j->name_len, j->name, (unsigned long long)need,
			      (unsigned long long)j->quota);
	while (size < req->size && size < segment_max && size < SEGMENT_BYTES_MAX)
		size *= 2;
	/* A quota that is nearly used up is better used in small pieces than not at all. */
	while (!req->is_move && size > SEGMENT_BYTES_MIN &&
	       job_charge(j, ask_bytes_of(need, size), NULL) < 0)
		size /= 2;
	r = req->is_move ? 0 : job_charge(j, ask_bytes_of(need, size), ret);
	if (r < 0)
		return r;
	ret->ask.is_needed = true;
	ret->ask.need = need;
	ret->ask.size = size;
	ret->ask.bytes = ask_bytes_of(need, size);
	j->asked_bytes += ret->ask.bytes;
	return 0;
}

void catalog_ask_over(struct catalog *c, uint64_t job, uint64_t bytes)
{
	struct job *j = catalog_job_find(c, job);

	if (j)
		j->asked_bytes -= bytes;
}

static int seal(struct catalog *c, const struct segment *s, uint32_t front, uint32_t back,
		uint64_t now_ns)
{
	struct effect e = { .kind = EFFECT_SEGMENT_SEALED, .at_ns = now_ns };

	e.u.segment_sealed = (struct segment_sealed_effect){
		.segment = s->id, .generation = s->generation, .front = front, .back = back
	};
	return effect_do(c, &e);
}

static int answer_grants(struct catalog *c, const struct lease_req *req, struct slice grants,
			 struct outcome *ret)
{
	struct rcur at = rcur_make(grants.ptr, grants.len);
	struct lease_rep rep = { 0 };
	uint64_t bytes = 0;
	struct job *j;
	int r = catalog_job_living(c, req->job, ret, &j);

	if (r < 0)
		return r;
	for (; rep.count < grants.len / GRANT_SIZE; rep.count++) {
		struct grant g;

		grant_get(&at, &g);
		bytes += g.size;
	}
	rep.is_short_of_quota = is_short_of_quota(j, req, bytes);
	ret->rep.lease = rep;
	return 0;
}

/* The next of them that was opened for nobody; NULL: there is none. */
static const struct segment *next_of_nobody(const struct catalog *c, uint64_t job, struct rcur *at)
{
	while (at->p < at->end && !at->bad) {
		const struct segment *s;
		struct grant g;

		grant_get(at, &g);
		s = catalog_segment_find(c, g.segment, g.generation);
		if (s && s->state == SEGMENT_OPEN && s->owner == 0 && s->job->id == job)
			return s;
	}
	return NULL;
}

static bool has_some_of_nobody(const struct catalog *c, uint64_t job, struct slice grants)
{
	struct rcur at = rcur_make(grants.ptr, grants.len);

	return next_of_nobody(c, job, &at);
}

/* They go back to their store. */
static int seal_those_of_nobody(struct catalog *c, uint64_t job, struct slice grants,
				uint64_t now_ns)
{
	struct rcur at = rcur_make(grants.ptr, grants.len);
	const struct segment *s;
	int r = 0;

	while (r == 0 && (s = next_of_nobody(c, job, &at)) != NULL)
		r = seal(c, s, 0, s->size, now_ns);
	return r;
}

int catalog_grant(struct catalog *c, const struct lease_req *req, uint64_t stamp_ns,
		  struct slice grants, uint64_t now_ns, struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_SEGMENTS_OPENED, .at_ns = now_ns };
	bool is_again;
	int r;

	outcome_begin(c, ret);
	/* An earlier try has, and found no room in the log to seal them all. */
	is_again = has_some_of_nobody(c, req->job, grants);
	e.u.segments_opened = (struct segments_opened_effect){ .job = req->job,
							       .session = req->session,
							       .request = req->request,
							       .stamp_ns = stamp_ns,
							       .grants = grants };
	r = is_again ? 0 : effect_do(c, &e);
	if (r == 0 && req->session && !is_again)
		return answer_grants(c, req, grants, ret);
	if (r == 0)
		r = seal_those_of_nobody(c, req->job, grants, now_ns);
	if (r == 0 && req->session)
		return refuse(ret, -EAGAIN, "what was granted has gone back; ask again");
	return r;
}

int catalog_settle(struct catalog *c, const struct settle_req *req, uint64_t now_ns,
		   struct outcome *ret)
{
	struct segment *s = catalog_segment_find(c, req->segment, req->generation);

	outcome_begin(c, ret);
	if (!s || s->state > SEGMENT_SEALED)
		return 0; /* gone, or on its way there: nothing to settle any more */
	if (!s->job || s->job->id != req->job || s->owner != req->session)
		return refuse(ret, -ESTALE, "segment %llx.%u is somebody else's",
			      (unsigned long long)req->segment, req->generation);
	if (s->state == SEGMENT_SEALED)
		return 0;
	if (req->front > req->back || req->back > s->size ||
	    catalog_segment_is_claimed(s, req->front, req->back))
		return refuse(ret, -EINVAL, "bytes %u to %u of segment %llx are in use", req->front,
			      req->back, (unsigned long long)req->segment);
	return seal(c, s, req->front, req->back, now_ns);
}

int segment_give_up(struct catalog *c, const struct segment *s, uint64_t now_ns)
{
	uint32_t front = 0, back = s->size;

	if (s->live > 0)
		catalog_segment_gap(s, &front, &back);
	return seal(c, s, front, back, now_ns);
}

int fenced_give_up(struct catalog *c, uint64_t now_ns)
{
	return segment_give_up(c, container_of(c->fenced.next, struct segment, owed), now_ns);
}

int catalog_reclaim(struct catalog *c, uint64_t now_ns, struct outcome *ret)
{
	int r = 0;

	outcome_begin(c, ret);
	for (int i = 0; r == 0 && i < TICK_STEP && !list_is_empty(&c->fenced); i++)
		r = fenced_give_up(c, now_ns);
	return r;
}
