/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resident: a get of what the index leads to, if it has one sum, which the entry has: it is found,
 * pinned, copied and compared with that. What does not match, or is not there, is asked for as
 * always, so there is one set of errors.
 */
#include <errno.h>

#include "attach/handle.h"
#include "base/node.h"

/* So often what was fetched may have gone before it is looked at; then it is asked for. */
#define TRIES 4

static bool has_room(struct get_room *room, uint64_t len)
{
	void *grown;

	if (!room->is_ours)
		return len <= room->cap;
	grown = node_resize(room->buf, len ? len : 1);
	room->buf = grown ? grown : room->buf;
	return grown;
}

int64_t resident_copy(struct sight *s, const struct view *view, uint64_t now_ns,
		      const struct get_how *how, struct get_room *room)
{
	const struct wadi_get_options *o = &how->options;
	const struct index_item *item = &view->item;
	uint64_t at = o->offset < item->len ? o->offset : item->len, left = item->len - at;
	uint64_t len = o->len && o->len < left ? o->len : left;
	bool is_right = item->len <= CHECK_PIECE && item->extent_count <= 1 && has_room(room, len);

	if (is_right && len > 0)
		is_right = near_copy_piece(view->ptr, 0, (uint32_t)item->len, (uint32_t)at,
					   (uint32_t)(at + len), room->buf, item->seed, item->crc);
	if (view_release(&s->viewer, view) < 0 || !is_right) {
		if (room->is_ours)
			room->buf = node_free(room->buf);
		return -ENOENT;
	}
	if (room->ret_stat)
		sight_stat(item, now_ns, room->ret_stat);
	return (int64_t)len;
}

int64_t resident_get(struct wadi *w, const struct get_how *how, struct get_room *room,
		     struct view *ret_view)
{
	struct sight *s = sight_at_hand(w);
	uint64_t now_ns = node_now_ns();
	int r = s ? sight_look(s, how->path, now_ns, ret_view) : -ENOENT;

	return r < 0 ? r : resident_copy(s, ret_view, now_ns, how, room);
}

int64_t resident_get_prepared(struct wadi_op *op, const struct get_how *how, struct get_room *room)
{
	const struct near *n = &op->w->near;

	for (unsigned i = 0; i < TRIES; i++) {
		struct view view;
		int64_t len = resident_get(op->w, how, room, &view);
		int r;

		if (len >= 0)
			return len;
		/* Where one mapping would have to go for another, the ring is the shorter way. */
		if (len == -ENOENT || !near_is_possible(op->w) || n->count >= MAPPINGS_MAX)
			break;
		r = sight_prepare(op, n->sight, &view, (int)len);
		if (r == -ECANCELED || r == -ETIMEDOUT)
			return r;
		if (r < 0)
			break;
	}
	return -ENOENT;
}
