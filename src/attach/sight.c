/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <unistd.h>

#include "attach/handle.h"
#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"

#define MS 1000000ull

static void sight_free(struct near *n, struct sight *s)
{
	mappings_unbind(n, &s->viewer);
	list_remove(&s->link);
	media_memfd.free(&s->head);
	media_memfd.free(&s->table);
	media_memfd.free(&s->pins);
	node_free(s->viewer.mappings);
	node_free(s);
}

void sight_leave(struct near *n, struct sight *s)
{
	if (--s->user_count == 0 && s != n->sight)
		sight_free(n, s);
}

/* It is over. Its views are not. */
static void put_aside(struct near *n)
{
	struct sight *s = TAKE_PTR(n->sight);

	if (!s)
		return;
	if (s->user_count > 0)
		list_insert(&n->old_sights, &s->link);
	else
		sight_free(n, s);
}

void sights_fini(struct near *n)
{
	put_aside(n);
	while (!list_is_empty(&n->old_sights))
		sight_free(n, container_of(n->old_sights.next, struct sight, link));
}

static int open_table(struct sight *s, const struct index_rep *rep, int fd)
{
	struct memory table;
	int r = memory_join_to_read(fd, rep->table_size, &table);

	if (r < 0)
		return r;
	r = index_reader_table(&s->viewer.index, table.ptr, table.size);
	if (r < 0) {
		media_memfd.free(&table);
		return r;
	}
	media_memfd.free(&s->table);
	s->table = table;
	s->table_count++;
	return 0;
}

static int open_sight(struct sight *s, const struct index_rep *rep, const int fds[3])
{
	uint32_t count;
	int r = memory_join_to_read(fds[1], rep->head_size, &s->head);

	if (r == 0)
		r = index_reader_open(&s->viewer.index, s->head.ptr, s->head.size);
	if (r == 0)
		r = memory_join(fds[2], rep->pins_size, &s->pins);
	if (r == 0)
		r = open_table(s, rep, fds[0]);
	if (r < 0)
		return r;
	s->viewer.pins = pins_of(s->pins.ptr, s->pins.size);
	count = s->viewer.index.mapping_count < s->viewer.pins.count ? s->viewer.index.mapping_count
								     : s->viewer.pins.count;
	s->viewer.mappings = node_alloc(count * sizeof(struct mapping *));
	s->viewer.mapping_count = count;
	return s->viewer.mappings ? 0 : -ENOMEM;
}

static int sight_new(struct near *n, const struct index_rep *rep, const int fds[3])
{
	struct sight *s = node_alloc(sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	list_init(&s->link);
	s->connection = n->asked_on;
	s->reader = rep->reader;
	r = open_sight(s, rep, fds);
	if (r < 0) {
		sight_free(n, s);
		return r;
	}
	put_aside(n);
	n->sight = s;
	return 0;
}

/* It is the one that we have: only its table is another. */
static bool is_ours(const struct near *n, const struct index_rep *rep)
{
	const struct sight *s = n->sight;

	return s && rep->reader == s->reader && (rep->is_again || s->connection == n->asked_on);
}

int sight_came(struct near *n, const struct index_rep *rep, const int *fds, unsigned count)
{
	int r = count == 0 ? -EUSERS : -EBADMSG; /* as with a segment's */

	if (count == 1 && is_ours(n, rep)) {
		r = open_table(n->sight, rep, fds[0]);
		if (r == 0)
			n->sight->connection = n->asked_on;
	} else if (count == 3) {
		r = sight_new(n, rep, fds);
	}
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
	return r;
}

int sight_get(struct wadi_op *op, struct sight **ret)
{
	struct wadi *w = op->w;
	struct near *n = &w->near;
	const struct near_asking what = { .msg = MSG_INDEX,
					  .reader = n->sight ? n->sight->reader : 0 };
	bool has_asked = false;
	struct conn *c;
	int r = w->address.kind == ADDRESS_UNIX ? handle_conn(op, &c) : -EOPNOTSUPP;

	*ret = NULL;
	/* What is wrong, the question will say. */
	if (r < 0)
		return r == -ECANCELED ? r : 0;
	for (;;) {
		if (n->sight && n->sight->connection == w->connection) {
			*ret = n->sight;
			return 0;
		}
		if (n->sight_refused == w->connection)
			return 0;
		r = near_ask(op, &what, &has_asked);
		if (r <= 0)
			return r;
	}
}

int sight_next(struct wadi_op *op, struct sight *s)
{
	const struct near_asking what = { .msg = MSG_INDEX, .is_next = true };
	unsigned before = s->table_count;
	bool has_asked = false;
	int r = 1;

	/* Once it was refused, each get would ask in vain. */
	if (op->w->near.sight_refused == s->connection)
		return -ENOENT;
	while (r > 0 && s->table_count == before && op->w->connection == s->connection)
		r = near_ask(op, &what, &has_asked);
	return r < 0 ? r : s->table_count > before ? 0 : -ENOENT;
}

struct sight *sight_at_hand(const struct wadi *w)
{
	struct sight *s = w->near.sight;

	return s && w->conn && s->connection == w->connection ? s : NULL;
}

int sight_look(struct sight *s, struct slice path, uint64_t now_ns, struct view *ret)
{
	struct hash_128 hash = index_hash(path.ptr, path.len, s->viewer.index.seed);
	int r = view_get(&s->viewer, hash, now_ns, ret);

	if (r == 0)
		s->viewer.mappings[ret->item.mapping]->used_ns = now_ns;
	return r;
}

int sight_prepare(struct wadi_op *op, struct sight *s, const struct view *view, int why)
{
	int r = why;

	s->user_count++;
	if (why == -ENXIO)
		r = sight_map(op, s, view->item.mapping);
	else if (why == -ESTALE)
		r = sight_next(op, s);
	sight_leave(&op->w->near, s);
	return r;
}

void sight_stat(const struct index_item *item, uint64_t now_ns, struct wadi_stat *ret)
{
	*ret = (struct wadi_stat){
		.object = item->object,
		.version = item->version,
		.len = item->len,
		.age_ms = (now_ns - item->committed_ns) / MS,
		.ttl_left_ms = item->expiry_ns ? (item->expiry_ns - now_ns) / MS : UINT64_MAX,
		.reads_left = UINT32_MAX,
		.extent_count = item->extent_count,
		.tier = (enum wadi_tier)item->tier,
	};
}

/* The pieces, as they came, into `parts`. */
static int ask_parts(struct wadi_op *op, const struct sight *s, uint32_t number,
		     struct mapping_rep *ret, struct mapping_part parts[EXTENTS_MAX])
{
	uint8_t room[MAPPING_BYTES];
	struct question q;
	struct rcur body, list;
	struct wcur w = question_begin(op, &q, MSG_MAPPING);
	int r;

	mapping_req_put(&w, &(struct mapping_req){ .number = number });
	q.call.room = room;
	q.call.room_cap = sizeof(room);
	r = question_ask_there(&q, s->connection, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = mapping_rep_get(&body, ret);
	if (r == 0 && (ret->count == 0 || ret->count > EXTENTS_MAX))
		r = -EBADMSG;
	list = rcur_make(room, q.call.room_len);
	for (uint32_t i = 0; r == 0 && i < ret->count; i++)
		mapping_part_get(&list, &parts[i]);
	if (r == 0)
		r = rcur_finish(&list);
	question_end(&q);
	return r;
}

static int map_parts(struct wadi_op *op, const struct mapping_rep *rep,
		     const struct mapping_part *parts, struct mapping **ret)
{
	if (rep->count == 1 && parts->len == 0)
		return mapping_get(op, parts->segment, parts->generation, ret);
	return mapping_get_pieces(op, parts, rep->count, ret);
}

int sight_map(struct wadi_op *op, struct sight *s, uint32_t number)
{
	struct mapping_part parts[EXTENTS_MAX];
	struct mapping *m = NULL;
	struct mapping_rep rep;
	int r = ask_parts(op, s, number, &rep, parts);

	if (r == 0)
		r = map_parts(op, &rep, parts, &m);
	if (r == -ECANCELED || r == -ETIMEDOUT)
		return r;
	if (r < 0 || !m || op->w->near.sight != s || !mapping_bind(m, &s->viewer, number, rep.life))
		return -ENOENT;
	return 0;
}
