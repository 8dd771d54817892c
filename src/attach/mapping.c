/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

#include "attach/handle.h"
#include "base/container.h"
#include "base/node.h"

static bool is_viewed(const struct mapping *m)
{
	/* Acquire: a view that was given back has read its bytes. Pairs with pins_give(). */
	return m->viewer &&
	       atomic_load_explicit(&m->viewer->pins.counts[m->number], memory_order_acquire) != 0;
}

static void unbind(struct mapping *m)
{
	if (m->viewer)
		m->viewer->mappings[m->number] = NULL;
	m->viewer = NULL;
}

static void unmap(struct near *n, struct mapping *m)
{
	unbind(m);
	list_remove(&m->link);
	n->count--;
	media_memfd.free(&m->memory);
	node_free(m);
}

static struct mapping *oldest_unused(const struct near *n)
{
	for (struct list *l = n->mappings.next; l != &n->mappings; l = l->next) {
		struct mapping *m = container_of(l, struct mapping, link);

		if (m->user_count == 0 && !is_viewed(m))
			return m;
	}
	return NULL;
}

/* Views note when they use one, and do not put it last, so all are looked at. */
static void was_idle(struct timer *t)
{
	struct near *n = container_of(t, struct near, idle);
	struct loop *loop = n->w->loop;

	for (struct list *l = n->mappings.next, *next; l != &n->mappings; l = next) {
		struct mapping *m = container_of(l, struct mapping, link);

		next = l->next;
		if (m->user_count == 0 && !is_viewed(m) &&
		    m->used_ns + MAPPING_IDLE_MS * 1000000ull <= loop->now_ns)
			unmap(n, m);
	}
	if (n->count > 0)
		timer_start(loop, t, loop->now_ns + MAPPING_IDLE_MS * 1000000ull);
}

void near_init(struct near *n, struct wadi *w)
{
	*n = (struct near){ .w = w, .idle.fire = was_idle };
	list_init(&n->mappings);
	list_init(&n->old_sights);
	waitq_init(&n->came, &w->loop->fibers);
}

void near_fini(struct near *n)
{
	if (!n->w)
		return;
	timer_stop(n->w->loop, &n->idle);
	sights_fini(n);
	while (!list_is_empty(&n->mappings))
		unmap(n, container_of(n->mappings.next, struct mapping, link));
}

bool near_is_possible(const struct wadi *w)
{
	return address_may_pass(&w->address) && w->near.refused != w->connection;
}

void near_wake(struct wadi *w)
{
	while (waitq_wake(&w->near.came))
		;
}

bool mapping_bind(struct mapping *m, struct viewer *v, uint32_t number, uint32_t life)
{
	struct mapping *before = v->mappings[number];

	if (m->viewer && (m->viewer != v || m->number != number) && is_viewed(m))
		return false;
	unbind(m);
	/* What had the number is of an earlier life, so whoever still views it was revoked. */
	if (before)
		before->viewer = NULL;
	m->viewer = v;
	m->number = number;
	m->life = life;
	v->mappings[number] = m;
	return true;
}

void mappings_unbind(struct near *n, const struct viewer *v)
{
	for (struct list *l = n->mappings.next; l != &n->mappings; l = l->next) {
		struct mapping *m = container_of(l, struct mapping, link);

		if (m->viewer == v)
			unbind(m);
	}
}

void mapping_use(struct near *n, struct mapping *m)
{
	m->user_count++;
	list_remove(&m->link);
	list_insert(&n->mappings, &m->link);
}

/*
 * Rooms of a segment lie side by side, from its beginning or from its end, so one range says what
 * was touched.
 */
void mapping_touch(struct mapping *m, const uint8_t *at, size_t len)
{
	size_t from = (size_t)(at - m->memory.ptr) & ~(size_t)(SEGMENT_PAGE - 1);
	size_t to = ((size_t)(at - m->memory.ptr) + len + SEGMENT_PAGE - 1) &
		    ~(size_t)(SEGMENT_PAGE - 1);

	if (from > m->touched_to || to < m->touched_from)
		m->touched_from = m->touched_to = from;
	if (from < m->touched_from) {
		memory_touch(&m->memory, from, m->touched_from);
		m->touched_from = from;
	}
	if (to > m->touched_to) {
		memory_touch(&m->memory, m->touched_to, to);
		m->touched_to = to;
	}
}

void mapping_leave(struct near *n, struct mapping *m)
{
	m->user_count--;
	m->used_ns = n->w->loop->now_ns;
}

/* One more, unless all that there may be are in use. Its memory is still to be mapped. */
static struct mapping *mapping_new(struct near *n)
{
	struct mapping *m = n->count < MAPPINGS_MAX ? NULL : oldest_unused(n);

	if (m)
		unmap(n, m);
	m = n->count < MAPPINGS_MAX ? node_alloc(sizeof(*m)) : NULL;
	if (m)
		m->used_ns = n->w->loop->now_ns;
	return m;
}

static void mapping_add(struct near *n, struct mapping *m)
{
	struct loop *loop = n->w->loop;

	m->ptr = m->memory.ptr;
	m->len = m->memory.size;
	list_init(&m->link);
	list_insert(&n->mappings, &m->link);
	n->count++;
	if (!timer_is_running(&n->idle))
		timer_start(loop, &n->idle, loop->now_ns + MAPPING_IDLE_MS * 1000000ull);
}

/* Asking. */

/* The descriptor has done its work when it is mapped. */
static void segment_came(struct near *n, int fd, uint32_t size)
{
	const struct near_asking *a = &n->asked;
	struct mapping *m = a->to;

	if (m) {
		/* Whole pages, the last one too: segments have nothing else. */
		size_t len = (a->len + SEGMENT_PAGE - 1) & ~(size_t)(SEGMENT_PAGE - 1);

		m->joined +=
			(a->msg == MSG_RESERVE_MAP ? memory_join_part_to_write : memory_join_part)(
				&m->memory, a->at, fd, a->offset, len) == 0;
	} else if ((m = mapping_new(n)) != NULL) {
		m->segment = a->segment;
		m->generation = a->generation;
		m->is_to_write = a->msg == MSG_RESERVE_MAP;
		if ((m->is_to_write ? memory_join : memory_join_to_read)(fd, size, &m->memory) == 0)
			mapping_add(n, m);
		else
			node_free(m);
	}
	close(fd);
}

static int export_came(struct near *n, struct rcur body)
{
	bool is_to_write = n->asked.msg == MSG_RESERVE_MAP;
	struct reserve_map_rep to_write;
	struct export_rep rep;
	int fd, r = is_to_write ? reserve_map_rep_get(&body, &to_write)
				: export_rep_get(&body, &rep);

	if (r == 0 && conn_take_fds(n->w->conn, &fd, 1) != 1)
		r = -EUSERS; /* it was lost on its way: there are too many, here or there */
	if (r == 0)
		segment_came(n, fd, is_to_write ? to_write.size : rep.size);
	return r;
}

static int index_came(struct near *n, struct rcur body)
{
	struct index_rep rep;
	int fds[3], r = index_rep_get(&body, &rep);
	unsigned count = r == 0 ? conn_take_fds(n->w->conn, fds, 3) : 0;

	return r == 0 ? sight_came(n, &rep, fds, count) : r;
}

/* What the proxy has said no to; of an index for as long as the connection lasts. */
static bool is_no(const struct near *n, int r)
{
	return r == -EUSERS ||
	       (n->asked.msg == MSG_INDEX ? r == -EACCES || r == -EOPNOTSUPP || r == -EEXIST ||
						    r == -EHOSTUNREACH || r == -ENOMEM
					  : r == -ESTALE);
}

static void came(struct call *call)
{
	struct near *n = container_of(call, struct near, call);
	struct wadi *w = n->w;
	int r = call->result;

	if (r == 0 && (!w->conn || w->connection != n->asked_on))
		r = -ECONNRESET;
	if (r == 0)
		r = n->asked.msg == MSG_INDEX ? index_came(n, call_reply(call))
					      : export_came(n, call_reply(call));
	if (r < 0 && n->asked.msg == MSG_INDEX)
		n->sight_refused = n->asked_on;
	/* If it was only late, its descriptor would be taken for the next one's. */
	if (r < 0 && !is_no(n, r))
		n->refused = n->asked_on;
	if (n->asked.to)
		mapping_leave(n, n->asked.to);
	call_end(call);
	near_wake(w);
}

static void ask(struct wadi *w, const struct near_asking *what, uint64_t due_ns)
{
	struct near *n = &w->near;
	struct wcur body;

	n->asked_on = w->connection;
	n->asked = *what;
	if (what->to)
		mapping_use(n, what->to);
	n->call = (struct call){ .done = came };
	(void)conn_take_fds(w->conn, NULL, 0); /* from here on they are wanted */
	body = call_body(w->net, &n->call);
	if (what->msg == MSG_INDEX)
		index_req_put(&body, &(struct index_req){ .reader = what->reader,
							  .is_next = what->is_next });
	else if (what->msg == MSG_RESERVE_MAP)
		reserve_map_req_put(
			&body, &(struct reserve_map_req){ .put = what->put, .index = what->index });
	else
		export_req_put(&body, &(struct export_req){ .segment = what->segment,
							    .generation = what->generation });
	call_send(w->conn, &n->call, what->msg, slot_of_id(w->job), &body, NULL, due_ns);
}

/* A ring that is on its way has descriptors of its own. */
static bool may_ask(const struct wadi *w)
{
	return w->conn && !w->conn->is_closed && near_is_possible(w) && !w->near.call.is_pending &&
	       !w->ring.is_pending;
}

void near_want_index(struct wadi *w)
{
	struct near *n = &w->near;
	const struct near_asking what = { .msg = MSG_INDEX,
					  .reader = n->sight ? n->sight->reader : 0 };

	if (++n->get_count < INDEX_AFTER || sight_at_hand(w) || n->sight_refused == w->connection ||
	    !may_ask(w))
		return;
	ask(w, &what, w->loop->now_ns + w->timeout_ms * 1000000ull);
}

int near_ask(struct wadi_op *op, const struct near_asking *what, bool *has_asked)
{
	struct wadi *w = op->w;
	struct near *n = &w->near;
	int r;

	if (!w->conn || w->conn->is_closed || !near_is_possible(w) ||
	    (*has_asked && !n->call.is_pending))
		return 0;
	if (may_ask(w)) {
		ask(w, what, op->due_ns);
		*has_asked = true;
	}
	r = waitq_wait(&n->came, op->due_ns);
	return r < 0 ? r : 1;
}

static struct mapping *find(const struct near *n, const struct near_asking *what)
{
	for (struct list *l = n->mappings.next; l != &n->mappings; l = l->next) {
		struct mapping *m = container_of(l, struct mapping, link);

		if (m->segment == what->segment && m->generation == what->generation &&
		    m->is_to_write == (what->msg == MSG_RESERVE_MAP))
			return m;
	}
	return NULL;
}

static int get(struct wadi_op *op, const struct near_asking *what, struct mapping **ret)
{
	bool has_asked = false;

	for (;;) {
		int r;

		*ret = find(&op->w->near, what);
		if (*ret)
			return 0;
		r = near_ask(op, what, &has_asked);
		if (r <= 0)
			return r;
	}
}

int mapping_get(struct wadi_op *op, uint64_t segment, uint32_t generation, struct mapping **ret)
{
	const struct near_asking what = { .msg = MSG_EXPORT,
					  .segment = segment,
					  .generation = generation };

	return get(op, &what, ret);
}

int mapping_get_to_write(struct wadi_op *op, uint64_t put, uint16_t index,
			 const struct reserved_part *part, struct mapping **ret)
{
	const struct near_asking what = { .msg = MSG_RESERVE_MAP,
					  .segment = part->segment,
					  .generation = part->since,
					  .put = put,
					  .index = index };

	return get(op, &what, ret);
}

/* What is to lie side by side, to be read or to be written. */
struct pieces {
	const struct mapping_part *parts;
	const struct reserved_part *reserved; /* else these, of `put` */
	uint64_t put;
	uint32_t count;
};

static struct near_asking piece_of(const struct pieces *p, uint32_t i)
{
	if (p->parts)
		return (struct near_asking){ .msg = MSG_EXPORT,
					     .segment = p->parts[i].segment,
					     .generation = p->parts[i].generation,
					     .offset = p->parts[i].offset,
					     .len = p->parts[i].len };
	return (struct near_asking){ .msg = MSG_RESERVE_MAP,
				     .put = p->put,
				     .index = (uint16_t)i,
				     .offset = p->reserved[i].offset,
				     .len = p->reserved[i].len };
}

static int join_piece(struct wadi_op *op, const struct near_asking *what)
{
	uint32_t before = what->to->joined;
	bool has_asked = false;
	int r = 1;

	while (r > 0 && what->to->joined == before)
		r = near_ask(op, what, &has_asked);
	return r < 0 ? r : what->to->joined > before ? 0 : -ENOENT;
}

static int join_all(struct wadi_op *op, const struct pieces *p, struct mapping *m)
{
	size_t at = 0;

	for (uint32_t i = 0; i < p->count; i++) {
		struct near_asking what = piece_of(p, i);
		int r;

		what.to = m;
		what.at = at;
		at += what.len;
		r = join_piece(op, &what);
		if (r < 0)
			return r;
	}
	return 0;
}

static int get_pieces(struct wadi_op *op, const struct pieces *p, struct mapping **ret)
{
	struct near *n = &op->w->near;
	struct mapping *m = mapping_new(n);
	size_t len = 0;
	int r;

	*ret = NULL;
	for (uint32_t i = 0; i < p->count; i++)
		len += piece_of(p, i).len;
	r = m ? memory_span((len + SEGMENT_PAGE - 1) & ~(size_t)(SEGMENT_PAGE - 1), &m->memory)
	      : -ENOENT;
	if (r < 0) {
		node_free(m);
		return 0;
	}
	mapping_add(n, m);
	mapping_use(n, m);
	r = join_all(op, p, m);
	mapping_leave(n, m);
	if (r == 0)
		*ret = m;
	return r == -ENOENT ? 0
			    : r; /* what is not whole goes when it has not been used for a while */
}

int mapping_get_pieces(struct wadi_op *op, const struct mapping_part *parts, uint32_t count,
		       struct mapping **ret)
{
	return get_pieces(op, &(struct pieces){ .parts = parts, .count = count }, ret);
}

int mapping_get_reserved(struct wadi_op *op, uint64_t put, const struct reserved_part *parts,
			 uint32_t count, struct mapping **ret)
{
	return get_pieces(op, &(struct pieces){ .reserved = parts, .put = put, .count = count },
			  ret);
}
