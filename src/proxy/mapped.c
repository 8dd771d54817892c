/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/container.h"
#include "base/node.h"
#include "proxy/index.h"

/* Entries that are dropped in one go: some hundred microseconds. */
#define DROP_STEPS 8

/* As many as have their places side by side: each but the last one ends with a page. */
static bool fit_together(const struct extent *e, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (e[i].offset % SEGMENT_PAGE != 0 ||
		    (i + 1 < count && e[i].len % SEGMENT_PAGE != 0))
			return false;
	return true;
}

static int parts_of(const struct found *f, struct mapping_part parts[EXTENTS_MAX],
		    uint64_t *ret_offset)
{
	const struct extent *e = f->u.extents;

	if (f->extent_count == 1) {
		parts[0] =
			(struct mapping_part){ .segment = e->segment, .generation = e->generation };
		*ret_offset = e->offset;
		return 0;
	}
	if (!fit_together(e, f->extent_count))
		return -EOPNOTSUPP;
	for (uint32_t i = 0; i < f->extent_count; i++)
		parts[i] = (struct mapping_part){ .segment = e[i].segment,
						  .generation = e[i].generation,
						  .offset = e[i].offset,
						  .len = e[i].len };
	*ret_offset = 0;
	return 0;
}

static bool part_is(const struct mapping_part *a, const struct mapping_part *b)
{
	return a->segment == b->segment && a->generation == b->generation &&
	       a->offset == b->offset && a->len == b->len;
}

static bool is_made_of(const struct mapped *m, const struct mapping_part *parts, uint32_t count)
{
	if (m->part_count != count || m->is_revoked || m->is_old || m->wanted_ns)
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (!part_is(&m->parts[i], &parts[i]))
			return false;
	return true;
}

static void unpin(struct job_index *x, const struct mapped *m, uint32_t count)
{
	if (m->copies)
		return;
	for (uint32_t i = 0; i < count; i++)
		core_unpin(x->proxy->core, m->parts[i].segment);
}

static int pin_all(struct job_index *x, const struct mapped *m, const struct extent *e)
{
	for (uint32_t i = 0; i < m->part_count; i++) {
		int r = core_pin(x->proxy->core, x->job, e[i].segment, e[i].generation, e[i].offset,
				 e[i].len);

		if (r < 0) {
			unpin(x, m, i);
			return r == -EOPNOTSUPP ? r : -EAGAIN;
		}
	}
	return 0;
}

/* There is a place for this one, which is below the writer's count. */
static int reach(struct job_index *x, uint32_t number)
{
	struct mapped **grown;

	if (number < x->mapped_count)
		return 0;
	grown = node_resize(x->mapped, (number + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	x->mapped = grown;
	while (x->mapped_count <= number)
		x->mapped[x->mapped_count++] = NULL;
	return 0;
}

/* A number that is free. */
static int number_take(struct job_index *x, uint32_t *ret)
{
	uint32_t n = 0;

	while (n < x->mapped_count && x->mapped[n])
		n++;
	*ret = n;
	return n == x->writer.mapping_count ? -EOPNOTSUPP : reach(x, n);
}

static int mapped_new(struct job_index *x, const struct found *f, const struct mapping_part *parts,
		      uint32_t *ret_number)
{
	struct mapped *m = node_alloc(sizeof(*m) + f->extent_count * sizeof(*parts));
	int r = m ? number_take(x, ret_number) : -ENOMEM;

	if (r == 0) {
		m->part_count = f->extent_count;
		memcpy(m->parts, parts, f->extent_count * sizeof(*parts));
		r = pin_all(x, m, f->u.extents);
	}
	if (r < 0) {
		node_free(m);
		return r;
	}
	x->mapped[*ret_number] = m;
	return 0;
}

int mapped_get(struct job_index *x, const struct found *f, uint32_t *ret_number,
	       uint64_t *ret_offset)
{
	struct mapping_part parts[EXTENTS_MAX];
	int r = parts_of(f, parts, ret_offset);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < x->mapped_count; i++) {
		if (x->mapped[i] && is_made_of(x->mapped[i], parts, f->extent_count)) {
			*ret_number = i;
			return 0;
		}
	}
	return mapped_new(x, f, parts, ret_number);
}

int mapped_add_copies(struct job_index *x, const struct copies_region *c, uint32_t *ret_number)
{
	struct mapped *m = node_alloc(sizeof(*m) + sizeof(m->parts[0]));
	int r = m ? number_take(x, ret_number) : -ENOMEM;

	if (r < 0) {
		node_free(m);
		return r;
	}
	m->copies = c->region;
	m->part_count = 1;
	m->parts[0] = (struct mapping_part){ .segment = c->id };
	x->mapped[*ret_number] = m;
	return 0;
}

static void number_give(struct job_index *x, uint32_t number)
{
	x->mapped[number] = node_free(x->mapped[number]);
}

/* Its life is over before its bytes are anybody else's. */
static void end(struct job_index *x, uint32_t number)
{
	struct mapped *m = x->mapped[number];

	index_writer_end_life(&x->writer, number);
	unpin(x, m, m->part_count);
	m->is_revoked = true;
	if (m->is_old && --x->old_count == 0)
		core_hold_views(x->proxy->core, x->job, false);
}

/* While somebody waits for space a view is not kept for longer. */
static bool is_too_old(struct job_index *x, uint32_t number, bool is_short)
{
	const struct mapped *m = x->mapped[number];

	return is_short && m->wanted_ns &&
	       x->proxy->loop->now_ns - m->wanted_ns >= HOLD_MS_MAX * 1000000ull &&
	       index_writer_drop_mapping(&x->writer, number);
}

/* True: it is still to be looked at. */
static bool look_at(struct job_index *x, uint32_t number, bool is_short)
{
	struct mapped *m = x->mapped[number];
	bool is_clear;

	if (!m || (!m->wanted_ns && !m->is_revoked && !m->is_old))
		return false;
	is_clear = pins_reclaim(&x->writer, number, x->pins, x->reader_count);
	if (!m->is_revoked && (is_clear || is_too_old(x, number, is_short)))
		end(x, number);
	if (!is_clear)
		return m->wanted_ns || m->is_revoked;
	number_give(x, number);
	return false;
}

bool mapped_look(struct job_index *x, bool is_short)
{
	bool has_more = false;

	for (uint32_t i = 0; i < x->mapped_count; i++)
		has_more |= look_at(x, i, is_short);
	return has_more;
}

/* Of an old one nobody knows, so it may be. */
static bool has_part(const struct mapped *m, uint64_t segment)
{
	for (uint32_t i = 0; i < m->part_count; i++)
		if (m->parts[i].segment == segment)
			return true;
	return m->is_old;
}

void mapped_want(struct job_index *x, uint64_t segment, bool is_short)
{
	for (uint32_t i = 0; i < x->mapped_count; i++) {
		struct mapped *m = x->mapped[i];

		if (!m || m->is_revoked || !has_part(m, segment))
			continue;
		if (!m->wanted_ns)
			m->wanted_ns = x->proxy->loop->now_ns;
		if (look_at(x, i, is_short))
			index_look_soon(x->proxy);
	}
}

void mapped_end_all(struct job_index *x)
{
	for (uint32_t i = 0; i < x->mapped_count; i++) {
		if (x->mapped[i] && !x->mapped[i]->is_revoked)
			end(x, i);
		number_give(x, i);
	}
	x->mapped = node_free(x->mapped);
	x->mapped_count = 0;
}

bool mapped_drop_all(struct job_index *x)
{
	uint32_t i = 0;

	for (unsigned steps = 0; i < x->mapped_count && steps < DROP_STEPS; steps++)
		while (i < x->mapped_count && index_writer_drop_mapping(&x->writer, i))
			i++;
	return i == x->mapped_count;
}

int mapped_restore(struct job_index *x, uint32_t number)
{
	struct mapped *m = reach(x, number) == 0 ? node_alloc(sizeof(*m)) : NULL;

	if (!m)
		return -ENOMEM;
	m->is_old = true;
	x->mapped[number] = m;
	x->old_count++;
	return 0;
}

/* MAPPING. */

static void parts_sent(struct payload *p)
{
	node_free(p);
}

static struct payload *parts_payload(const struct mapped *m)
{
	size_t len = (size_t)m->part_count * MAPPING_PART_SIZE;
	struct payload *p = node_alloc(sizeof(*p) + len);
	struct wcur w;

	if (!p)
		return NULL;
	*p = (struct payload){
		.ptr = p + 1, .len = len, .sent = parts_sent, .kept = sizeof(*p) + len
	};
	w = wcur_make(p + 1, len);
	for (uint32_t i = 0; i < m->part_count; i++)
		mapping_part_put(&w, &m->parts[i]);
	return p;
}

void mapping_serve(struct request *r)
{
	struct rcur body = request_body(r);
	const struct reader *reader = native_of(r)->reader;
	const struct job_index *x = reader ? reader->index : NULL;
	const struct mapped *m = NULL;
	struct payload *payload = NULL;
	struct mapping_req req;
	struct wcur w;

	if (mapping_req_get(&body, &req) == 0 && x && req.number < x->mapped_count)
		m = x->mapped[req.number];
	if (!m || m->is_revoked || m->wanted_ns) {
		request_fail(r, -ENOENT, "nothing is mapped under this number");
		return;
	}
	payload = parts_payload(m);
	if (!payload) {
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	w = request_answer(r);
	mapping_rep_put(&w,
			&(struct mapping_rep){ .life = index_writer_life(&x->writer, req.number),
					       .count = (uint16_t)m->part_count });
	request_reply(r, &w, payload);
}
