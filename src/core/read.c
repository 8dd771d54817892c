/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/container.h"
#include "base/hash.h"
#include "base/cleanup.h"
#include "base/node.h"
#include "core/core_priv.h"

/* So often the bytes may be somewhere else, before they are said to be gone. */
#define MOVED_TRIES 3

static int get_extents(struct found *f, const uint8_t *bytes, size_t len)
{
	struct rcur c = rcur_make(bytes, len);

	if (f->extent_count > EXTENTS_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < f->extent_count; i++)
		extent_get(&c, &f->u.extents[i]);
	return rcur_finish(&c);
}

/* They came where they will be, as they are on the wire. */
static int get_extents_in_place(struct core *c, struct found *f, size_t len)
{
	struct body *wire = body_take(c->net);
	int r;

	if (!wire)
		return -ENOMEM;
	memcpy(wire->u.bytes, f->u.value, len);
	r = get_extents(f, wire->u.bytes, len);
	body_give(c->net, wire);
	return r;
}

/* The payload, `len` bytes, lies where values are. */
static int get_lookup(struct core *c, struct found *f, const struct lookup_rep *rep, size_t len)
{
	if (rep->attributes.len > sizeof(f->attributes))
		return -EBADMSG;
	memcpy(f->attributes, rep->attributes.ptr, rep->attributes.len);
	f->hold = rep->hold;
	f->first = rep->first;
	f->extent_count = rep->found;
	f->nth_try = rep->nth_try;
	f->value_crc = rep->crc;
	f->value_seed = rep->seed;
	f->stat = (struct stat_rep){
		.object = rep->object,
		.version = rep->version,
		.len = rep->len,
		.age_ms = rep->age_ms,
		.ttl_left_ms = rep->ttl_left_ms,
		.reads_left = rep->reads_left,
		.extent_count = rep->extent_count,
		.tier = rep->tier,
		.is_directory = rep->is_directory,
		.attributes = { f->attributes, rep->attributes.len },
	};
	if (rep->extent_count > 0)
		return get_extents_in_place(c, f, len);
	if (len > INLINE_BYTES_MAX || len != rep->len)
		return -EBADMSG;
	f->value_len = (uint32_t)len;
	return crc_more(crc_begin(f->value_seed), f->u.value, len) == f->value_crc ? 0 : -EIO;
}

static void put_release(struct wcur *w, const struct found *f, bool is_confirmed)
{
	release_req_put(w, &(struct release_req){ .job = f->job,
						  .hold = f->hold,
						  .nth_try = f->nth_try,
						  .is_confirmed = is_confirmed });
}

void object_release(struct core *c, struct found *f, bool is_confirmed)
{
	uint8_t buf[64];
	struct wcur w = wcur_make(buf, sizeof(buf));

	(void)c;
	if (!f->hold)
		return;
	put_release(&w, f, is_confirmed);
	f->hold = 0;
	errand_start(TAKE_PTR(f->release), MSG_RELEASE, &w, NULL);
}

/*
 * There is no such hold any more. If this was sent before, and neither the session was over
 * meanwhile nor the hold's time can be, then it was that which used the read up.
 */
static bool is_repeat(const struct ask *a, const struct found *f)
{
	return a->sent_count > 1 && a->life == f->life &&
	       a->core->loop->now_ns - f->asked_ns < HOLD_MS_MAX / 2 * 1000000ull;
}

int object_release_wait(struct core *c, struct found *f, bool is_confirmed, uint64_t due_ns)
{
	struct ask a;
	struct wcur w;
	int r;

	if (!f->hold)
		return 0;
	w = ask_begin(c, &a, MSG_RELEASE, slot_of_id(f->job));
	put_release(&w, f, is_confirmed);
	r = ask_wait(&a, &w, NULL, due_ns);
	if (r == -ESTALE && is_confirmed && is_repeat(&a, f))
		r = 0;
	ask_end(&a);
	if (is_to_be_repeated(r))
		object_release(c, f, is_confirmed);
	else
		errand_free(TAKE_PTR(f->release));
	f->hold = 0;
	return r;
}

/* Nothing is there: said by a catalog that gave no hold, to this request or to an earlier try. */
static bool is_missing(int r)
{
	return r == -ENOENT || r == -ENODATA || r == -EALREADY || r == -ETIME || r == -EISDIR ||
	       r == -EOPNOTSUPP;
}

/*
 * It failed, and perhaps a hold was given that nobody was told of. By the number of the
 * request that is given back, and nothing is given to it any more: what of it is still on
 * its way comes before this, or in an epoch of the session that is over.
 */
static void lookup_give_up(struct found *f, uint64_t request)
{
	uint8_t buf[64];
	struct wcur w = wcur_make(buf, sizeof(buf));

	release_req_put(&w, &(struct release_req){ .job = f->job, .request = request });
	errand_start(TAKE_PTR(f->release), MSG_RELEASE, &w, NULL);
}

int object_look_up(struct core *c, const struct lookup_req *req, uint64_t due_ns, struct found *ret,
		   char *why, size_t why_cap)
{
	struct lookup_req numbered = *req;
	struct lookup_rep rep;
	struct rcur body;
	struct ask a;
	struct wcur w = ask_begin(c, &a, MSG_LOOKUP, slot_of_id(req->job));
	int r = errand_new(c, req->job, &ret->release, a.detail, sizeof(a.detail));

	ret->job = req->job;
	ret->hold = 0;
	ret->asked_ns = c->loop->now_ns;
	numbered.request = number_next(c);
	lookup_req_put(&w, &numbered);
	if (r == 0) {
		a.call.room = ret->u.value;
		a.call.room_cap = EXTENTS_BYTES;
		r = ask_wait(&a, &w, NULL, due_ns);
	}
	ret->life = a.life;
	body = ask_reply(&a);
	if (r == 0)
		r = lookup_rep_get(&body, &rep);
	if (r == 0)
		r = get_lookup(c, ret, &rep, a.call.room_len);
	if (r < 0)
		snprintf(why, why_cap, "%s", a.detail);
	if (r < 0)
		object_release(c, ret, false);
	if (ret->release && r < 0 && a.sent_ns && !is_missing(r))
		lookup_give_up(ret, numbered.request);
	if (!ret->hold)
		errand_free(TAKE_PTR(ret->release));
	ask_end(&a);
	return r;
}

int object_find(struct core *c, uint64_t job, struct slice path, uint64_t offset, uint32_t take,
		uint64_t read_hi, uint64_t read_lo, uint64_t due_ns, struct found *ret, char *why,
		size_t why_cap)
{
	struct lookup_req req = { .job = job,
				  .offset = offset,
				  .read_hi = read_hi,
				  .read_lo = read_lo,
				  .take = take,
				  .is_held = 1,
				  .path = path };

	return object_look_up(c, &req, due_ns, ret, why, why_cap);
}

int object_find_on(struct core *c, struct found *f, uint64_t offset, uint64_t due_ns)
{
	struct body *room = body_take(c->net);
	struct find_rep rep;
	struct rcur body;
	struct ask a;
	struct wcur w = ask_begin(c, &a, MSG_FIND, slot_of_id(f->job));
	int r = -ENOMEM;

	find_req_put(&w, &(struct find_req){ .job = f->job, .hold = f->hold, .offset = offset });
	if (room) {
		a.call.room = room->u.bytes;
		a.call.room_cap = EXTENTS_BYTES;
		r = ask_wait(&a, &w, NULL, due_ns);
	}
	body = ask_reply(&a);
	if (r == 0)
		r = find_rep_get(&body, &rep);
	if (r == 0) {
		f->first = rep.first;
		f->extent_count = rep.found;
		r = get_extents(f, room->u.bytes, a.call.room_len);
	}
	ask_end(&a);
	body_give(c->net, room);
	return r;
}

static int read_once(struct core *c, uint64_t job, uint64_t store, uint64_t segment,
		     uint32_t generation, uint32_t offset, uint8_t *buf, uint32_t len,
		     uint64_t due_ns)
{
	struct call call = { .room = buf, .room_cap = len };
	struct conn *conn;
	struct wcur w;
	int r = store_conn(c, store, slot_of_id(job), due_ns, &conn);

	if (r < 0)
		return r;
	w = call_body(c->net, &call);
	read_req_put(&w, &(struct read_req){ .job = job,
					     .segment = segment,
					     .generation = generation,
					     .offset = offset,
					     .len = len });
	call_send(conn, &call, MSG_READ, slot_of_id(job), &w, NULL, due_ns);
	r = call_wait(&call);
	if (r == 0 && call.room_len != len)
		r = -EBADMSG;
	call_end(&call);
	return r;
}

/* One READ: into a buffer of the caller's. */
static int read_far(struct core *c, uint64_t job, uint64_t store, uint64_t segment,
		    uint32_t generation, uint32_t offset, uint8_t *buf, uint32_t len,
		    uint64_t due_ns)
{
	struct store_wait wait = store_wait_begin(c, due_ns);
	int r;

	do
		r = read_once(c, job, store, segment, generation, offset, buf, len, due_ns);
	while (store_comes_back(c, &wait, &r));
	return r;
}

static void say_wanted(struct timer *t)
{
	struct core *c = container_of(t, struct core, wanting);

	if (list_is_empty(&c->buffering.waiting))
		return;
	timer_start(c->loop, t, c->loop->now_ns + PEER_STUCK_MS * 1000000ull);
	c->config.buffers_wanted(c->config.owner);
}

void buffers_open(struct core *c)
{
	waitq_init(&c->buffering, &c->loop->fibers);
	c->wanting.fire = say_wanted;
}

void buffers_close(struct core *c)
{
	timer_stop(c->loop, &c->wanting);
}

void buffer_given_back(struct core *c, uint64_t len)
{
	c->buffer_bytes -= len;
	waitq_wake(&c->buffering);
}

/* Who has stood here goes on, and then lets the next one look. */
static int buffer_take(struct core *c, uint32_t len, uint64_t due_ns, struct span *ret)
{
	while (c->buffer_bytes + len > BUFFER_BYTES_MAX) {
		int r;

		if (c->config.buffers_wanted && !timer_is_running(&c->wanting))
			timer_start(c->loop, &c->wanting,
				    c->loop->now_ns + PEER_STUCK_MS * 1000000ull);
		r = waitq_wait(&c->buffering, due_ns);
		if (r < 0)
			return r == -ETIMEDOUT ? -EUSERS : r;
	}
	ret->buffer = node_resize(NULL, len); /* not zeroed: all of it is written */
	if (ret->buffer) {
		ret->buffer_len = len;
		c->buffer_bytes += len;
	}
	waitq_wake(&c->buffering);
	return ret->buffer ? 0 : -ENOMEM;
}

/* Bytes of a segment: in place if it is here, else fetched. */
static int reach(struct core *c, uint64_t job, uint64_t segment, uint32_t generation,
		 uint32_t offset, uint32_t len, uint64_t due_ns, struct span *ret)
{
	uint64_t store = pool_of_segment(segment);
	uint8_t *ptr;
	int r;

	*ret = (struct span){ .core = c, .segment = segment };
	if (c->config.reach && store == c->config.reach_store) {
		r = c->config.reach_ops->pin(c->config.reach, job, segment, generation, offset, len,
					     &ptr);
		ret->is_pinned = r == 0;
	} else {
		r = buffer_take(c, len, due_ns, ret);
		ptr = ret->buffer;
		if (r == 0)
			r = read_far(c, job, store, segment, generation, offset, ptr, len, due_ns);
	}
	if (r < 0) {
		span_end(ret);
		return r;
	}
	ret->payload.ptr = ptr;
	ret->payload.len = len;
	return 0;
}

void span_end(struct span *s)
{
	if (s->is_pinned)
		s->core->config.reach_ops->unpin(s->core->config.reach, s->segment, false);
	s->is_pinned = false;
	if (s->buffer_len > 0)
		buffer_given_back(s->core, s->buffer_len);
	s->buffer_len = 0;
	s->buffer = node_free(s->buffer);
}

/* `bytes` begin at a multiple of CHECK_PIECE of the extent, and end at another or at its end. */
static int check(const struct extent *e, uint32_t at, const uint8_t *bytes, uint32_t len,
		 const uint8_t *table, struct fibers *fibers)
{
	struct rcur sums = rcur_make(table, (size_t)extent_table_count(e->len) * 4);

	if (!table)
		return crc_more(crc_begin(e->seed), bytes, len) == e->crc ? 0 : -EIO;
	rcur_take(&sums, (size_t)at / CHECK_PIECE * 4);
	for (uint32_t done = 0, n; done < len; done += n) {
		n = len - done < CHECK_PIECE ? len - done : CHECK_PIECE;
		if (crc_more(crc_begin(e->seed), bytes + done, n) != get_u32(&sums))
			return -EIO;
		if ((done + n) % LOOP_PIECE == 0 && fiber_yield(fibers) < 0)
			return -ECANCELED;
	}
	return 0;
}

static int read_table(struct core *c, uint64_t job, const struct extent *e, uint64_t due_ns,
		      struct span *ret)
{
	uint32_t len = extent_table_count(e->len) * 4;
	int r;

	*ret = (struct span){ 0 };
	if (len == 0)
		return 0;
	r = reach(c, job, e->table_segment, e->table_generation, e->table_offset, len, due_ns, ret);
	if (r == 0 && crc_more(crc_begin(e->seed), ret->payload.ptr, len) != e->crc) {
		span_end(ret);
		r = -EIO;
	}
	return r;
}

/* [at, at + len) of an extent, after its sums have been compared. */
static int extent_read(struct core *c, uint64_t job, const struct extent *e, uint32_t at,
		       uint32_t len, uint64_t due_ns, struct span *ret)
{
	/* Sums are of whole pieces. */
	uint32_t from = e->len <= CHECK_PIECE ? 0 : at & ~(uint32_t)(CHECK_PIECE - 1);
	uint32_t to = e->len <= CHECK_PIECE
			      ? e->len
			      : (at + len + CHECK_PIECE - 1) & ~(uint32_t)(CHECK_PIECE - 1);
	struct span table;
	int r = read_table(c, job, e, due_ns, &table);

	if (r < 0)
		return r;
	if (to > e->len)
		to = e->len;
	r = reach(c, job, e->segment, e->generation, e->offset + from, to - from, due_ns, ret);
	if (r == 0) {
		r = check(e, from, ret->payload.ptr, to - from, table.payload.ptr,
			  &c->loop->fibers);
		if (r < 0)
			span_end(ret);
	}
	span_end(&table);
	if (r == 0) {
		ret->payload.ptr = (const uint8_t *)ret->payload.ptr + (at - from);
		ret->payload.len = len;
	}
	return r;
}

const struct extent *extent_at(const struct found *f, uint64_t offset, uint32_t *ret_at)
{
	uint64_t begin = f->first;

	for (uint32_t i = 0; i < f->extent_count && offset >= begin; i++) {
		const struct extent *e = &f->u.extents[i];

		if (offset - begin < e->len) {
			*ret_at = (uint32_t)(offset - begin);
			return e;
		}
		begin += e->len;
	}
	return NULL;
}

/* From the extent with that byte, after looking for it if it is not at hand. */
static int read_at(struct core *c, struct found *f, uint64_t offset, uint32_t take, uint64_t due_ns,
		   struct span *ret)
{
	const struct extent *e;
	struct extent copy;
	uint32_t at;
	int r;

	e = extent_at(f, offset, &at);
	if (!e) {
		r = f->hold ? object_find_on(c, f, offset, due_ns) : -ESTALE;
		e = r == 0 ? extent_at(f, offset, &at) : NULL;
		if (!e)
			return r < 0 ? r : -EBADMSG;
	}
	copy = *e; /* another reader of the same object may look further while we wait */
	if (take > copy.len - at)
		take = copy.len - at;
	return extent_read(c, f->job, &copy, at, take, due_ns, ret);
}

int object_read(struct core *c, struct found *f, uint64_t offset, uint32_t take, uint64_t due_ns,
		struct span *ret)
{
	int r;

	*ret = (struct span){ .core = c };
	if (offset >= f->stat.len || take == 0)
		return 0;
	if (take > f->stat.len - offset)
		take = (uint32_t)(f->stat.len - offset);
	if (f->stat.extent_count == 0) {
		ret->payload.ptr = f->u.value + offset;
		ret->payload.len = take;
		return 0;
	}
	/* A hold keeps the bytes, not their place: they may have been moved since. */
	for (int i = 0;; i++) {
		r = read_at(c, f, offset, take, due_ns, ret);
		if (r != -ESTALE || !f->hold || i == MOVED_TRIES)
			return r;
		f->extent_count = 0;
	}
}
