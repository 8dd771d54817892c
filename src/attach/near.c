/* SPDX-License-Identifier: Apache-2.0 */
#include "attach/near.h"

#include <errno.h>
#include <unistd.h>

#include "attach/handle.h"
#include "base/container.h"
#include "base/hash.h"
#include "base/node.h"

/* Mappings. */

static void unmap(struct near *n, struct near_mapping *m)
{
	list_remove(&m->link);
	n->count--;
	media_memfd.free(&m->memory);
	node_free(m);
}

static struct near_mapping *oldest_unused(const struct near *n)
{
	for (struct list *l = n->mappings.next; l != &n->mappings; l = l->next) {
		struct near_mapping *m = container_of(l, struct near_mapping, link);

		if (m->user_count == 0)
			return m;
	}
	return NULL;
}

static void was_idle(struct timer *t)
{
	struct near *n = container_of(t, struct near, idle);
	struct loop *loop = n->w->loop;
	struct near_mapping *m;

	while ((m = oldest_unused(n)) && m->used_ns + MAPPING_IDLE_MS * 1000000ull <= loop->now_ns)
		unmap(n, m);
	if (n->count > 0)
		timer_start(loop, t, loop->now_ns + MAPPING_IDLE_MS * 1000000ull);
}

void near_init(struct near *n, struct wadi *w)
{
	*n = (struct near){ .w = w, .idle.fire = was_idle };
	list_init(&n->mappings);
	waitq_init(&n->came, &w->loop->fibers);
}

void near_fini(struct near *n)
{
	if (!n->w)
		return;
	timer_stop(n->w->loop, &n->idle);
	while (!list_is_empty(&n->mappings))
		unmap(n, container_of(n->mappings.next, struct near_mapping, link));
}

bool near_is_possible(const struct wadi *w)
{
	return w->address.kind == ADDRESS_UNIX && w->near.refused != w->connection;
}

static struct near_mapping *find(const struct near *n, uint64_t segment, uint32_t generation)
{
	for (struct list *l = n->mappings.next; l != &n->mappings; l = l->next) {
		struct near_mapping *m = container_of(l, struct near_mapping, link);

		if (m->segment == segment && m->generation == generation)
			return m;
	}
	return NULL;
}

/* The descriptor has done its work when it is mapped. */
static void add(struct near *n, int fd, uint64_t segment, uint32_t generation, uint32_t size)
{
	struct near_mapping *m = n->count < MAPPINGS_MAX ? NULL : oldest_unused(n);

	if (m)
		unmap(n, m);
	m = n->count < MAPPINGS_MAX ? node_alloc(sizeof(*m)) : NULL;
	if (!m)
		return;
	*m = (struct near_mapping){ .segment = segment,
				    .generation = generation,
				    .used_ns = n->w->loop->now_ns };
	if (memory_join_to_read(fd, size, &m->memory) < 0) {
		node_free(m);
		return;
	}
	list_init(&m->link);
	list_insert(&n->mappings, &m->link);
	n->count++;
	if (!timer_is_running(&n->idle))
		timer_start(n->w->loop, &n->idle,
			    n->w->loop->now_ns + MAPPING_IDLE_MS * 1000000ull);
}

/* Asking for one. */

static void came(struct call *call)
{
	struct near *n = container_of(call, struct near, call);
	struct wadi *w = n->w;
	bool is_same = w->conn && w->connection == n->asked_on;
	struct rcur body = call_reply(call);
	struct export_rep rep;
	int fd = -1;

	if (is_same && call->result == 0 && export_rep_get(&body, &rep) == 0 &&
	    conn_take_fds(w->conn, &fd, 1) == 1) {
		add(n, fd, n->asked_segment, n->asked_generation, rep.size);
		close(fd);
	} else if (call->result != -ESTALE && call->result != -EUSERS) {
		/* If it was only late, its descriptor would be taken for the next one's. */
		n->refused = n->asked_on;
	}
	call_end(call);
	while (waitq_wake(&n->came))
		;
}

static void ask(struct wadi_op *op, uint64_t segment, uint32_t generation)
{
	struct wadi *w = op->w;
	struct near *n = &w->near;
	struct wcur body;

	n->asked_on = w->connection;
	n->asked_segment = segment;
	n->asked_generation = generation;
	n->call = (struct call){ .done = came };
	(void)conn_take_fds(w->conn, NULL, 0); /* from here on they are wanted */
	body = call_body(w->net, &n->call);
	export_req_put(&body, &(struct export_req){ .segment = segment, .generation = generation });
	call_send(w->conn, &n->call, MSG_EXPORT, slot_of_id(w->job), &body, NULL, op->due_ns);
}

/* *ret NULL: it is not to be had now. -ECANCELED, -ETIMEDOUT. */
static int mapping_get(struct wadi_op *op, uint64_t segment, uint32_t generation,
		       struct near_mapping **ret)
{
	struct wadi *w = op->w;
	struct near *n = &w->near;
	bool has_asked = false;

	for (;;) {
		int r;

		*ret = find(n, segment, generation);
		/* A ring that is on its way has descriptors of its own. */
		if (*ret || !w->conn || w->conn->is_closed || !near_is_possible(w) ||
		    w->ring.is_pending || (has_asked && !n->call.is_pending))
			return 0;
		if (!n->call.is_pending) {
			ask(op, segment, generation);
			has_asked = true;
		}
		r = waitq_wait(&n->came, op->due_ns);
		if (r < 0)
			return r;
	}
}

static void mapping_use(struct near *n, struct near_mapping *m)
{
	m->user_count++;
	list_remove(&m->link);
	list_insert(&n->mappings, &m->link);
}

static void mapping_leave(struct near *n, struct near_mapping *m)
{
	m->user_count--;
	m->used_ns = n->w->loop->now_ns;
}

/* Copying. */

/* A piece of an extent that one sum is of: [from, to) of [begin, end) is copied, then checked. */
static bool copy_piece(const uint8_t *extent, uint32_t begin, uint32_t end, uint32_t from,
		       uint32_t to, uint8_t *copy, uint64_t seed, uint32_t sum)
{
	uint32_t crc = crc_begin(seed);

	memcpy(copy, extent + from, to - from);
	crc = crc_more(crc, extent + begin, from - begin);
	crc = crc_more(crc, copy, to - from);
	return crc_more(crc, extent + to, end - to) == sum;
}

/* [at, at + len) of an extent. -EIO: not these bytes, or not any more. */
static int copy_extent(struct wadi_op *op, const uint8_t *extent, const struct near_extent *e,
		       struct rcur sums, uint32_t at, uint8_t *copy, uint32_t len)
{
	uint32_t begin = at / CHECK_PIECE * CHECK_PIECE, last = at + len;

	rcur_take(&sums, (size_t)at / CHECK_PIECE * 4);
	for (uint32_t from = at, end, to; from < last; from = to, begin = end) {
		end = e->len - begin < CHECK_PIECE ? e->len : begin + CHECK_PIECE;
		to = end < last ? end : last;
		if (!copy_piece(extent, begin, end, from, to, copy, e->seed, get_u32(&sums)))
			return -EIO;
		copy += to - from;
		if (end % LOOP_PIECE == 0 && fiber_yield(&op->w->loop->fibers) < 0)
			return -ECANCELED;
	}
	return 0;
}

/* The extent and its sums, as they came. */
static int extent_take(struct rcur *list, struct near_extent *e, struct rcur *sums)
{
	uint32_t count;
	const uint8_t *p;

	near_extent_get(list, e);
	count = extent_table_count(e->len);
	p = rcur_take(list, (size_t)e->sum_count * 4);
	if (!p || e->len == 0 || e->sum_count != (count ? count : 1))
		return -EBADMSG;
	*sums = rcur_make(p, (size_t)e->sum_count * 4);
	return 0;
}

/* Copied; 0: to be asked for. */
static int64_t copy_mapped(struct wadi_op *op, const struct near_extent *e, struct rcur sums,
			   uint32_t at, uint8_t *to, uint32_t len)
{
	struct near *n = &op->w->near;
	struct near_mapping *m;
	int r = mapping_get(op, e->segment, e->generation, &m);

	if (r < 0 || !m)
		return r;
	if ((uint64_t)e->offset + e->len > m->memory.size)
		return 0;
	mapping_use(n, m);
	r = copy_extent(op, m->memory.ptr + e->offset, e, sums, at, to, len);
	mapping_leave(n, m);
	if (r == 0)
		op_progress(op);
	if (r == 0)
		return len;
	return r == -EIO ? 0 : r;
}

/* What one list has of [at, end), as far as it is mapped. */
static int64_t copy_list(struct wadi_op *op, struct rcur list, uint64_t first, unsigned count,
			 uint64_t at, uint64_t end, uint8_t *to)
{
	uint64_t begun = at;

	for (; count > 0 && at < end; count--) {
		struct near_extent e;
		struct rcur sums;
		uint64_t len;
		int64_t r;

		if (extent_take(&list, &e, &sums) < 0 || at < first || at - first >= e.len)
			break;
		len = first + e.len < end ? first + e.len - at : end - at;
		r = copy_mapped(op, &e, sums, (uint32_t)(at - first), to, (uint32_t)len);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		at += len;
		to += len;
		first += e.len;
	}
	return (int64_t)(at - begun);
}

static int64_t copy_more(struct wadi_op *op, struct got *g, uint64_t at, uint64_t end, uint8_t *to,
			 uint8_t *room)
{
	struct get_near_rep rep;
	struct question q;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_GET_NEAR);
	int64_t r;

	get_near_req_put(&w, &(struct get_near_req){ .hold = g->hold, .offset = at });
	q.call.room = room;
	q.call.room_cap = NEAR_BYTES;
	r = question_ask_once(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == -EACCES || r == -EOPNOTSUPP)
		op->w->near.refused = g->connection;
	if (r == 0)
		r = get_near_rep_get(&body, &rep);
	if (r == 0) {
		g->is_near = true;
		r = copy_list(op, rcur_make(room, q.call.room_len), rep.first, rep.count, at, end,
			      to);
	} else if (r != -ECANCELED) {
		r = 0; /* why, the socket will say */
	}
	question_end(&q);
	return r;
}

int64_t near_copy(struct wadi_op *op, struct got *g, uint64_t at, void *to, uint64_t len)
{
	uint8_t *room = len >= NEAR_FROM ? node_alloc(NEAR_BYTES) : NULL;
	uint64_t done = 0;
	int64_t r = room ? 1 : 0;

	while (r > 0 && done < len && near_is_possible(op->w) &&
	       op->w->connection == g->connection) {
		r = copy_more(op, g, at + done, at + len, (uint8_t *)to + done, room);
		done += r > 0 ? (uint64_t)r : 0;
	}
	node_free(room);
	return r < 0 ? r : (int64_t)done;
}
