/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may touch a segment: its job, in its generation, while it is not over; to write with the
 * key; and functions that were given it to map.
 */
#include "store/pool_priv.h"

#include <assert.h>
#include <errno.h>

#include "base/plant.h"

int pool_find(struct pool *p, uint64_t id, uint32_t generation, struct segment **ret)
{
	struct segment *s = pool_lookup(p, id);

	if (!s || s->generation != generation ||
	    (s->state != SEGMENT_OPEN && s->state != SEGMENT_SEALED))
		return -ESTALE;
	*ret = s;
	return 0;
}

struct segment *pool_pinned(struct pool *p, uint64_t id)
{
	struct segment *s = pool_lookup(p, id);

	assert(s && s->pin_count > 0);
	return s;
}

struct segment *pool_view_over(struct pool *p, unsigned *at)
{
	while (*at < p->segment_count) {
		struct segment *s = pool_segment_at(p, (*at)++);

		if (s->is_viewed && !s->job->has_views) {
			s->is_viewed = false;
			return s;
		}
	}
	return NULL;
}

void pool_hold_views(struct pool *p, uint64_t job, bool is_held)
{
	struct pool_job *j = pool_job_find(p, job);

	if (j)
		j->has_views = is_held;
}

/* To read in the punched middle would bring pages back that nobody counts. */
static bool is_inside(const struct segment *s, uint32_t offset, uint32_t len)
{
	uint64_t end = (uint64_t)offset + len;

	if (end > s->size)
		return false;
	return s->state == SEGMENT_OPEN || segment_booked_now(s) == s->size ||
	       end <= middle_begin(s) || offset >= middle_end(s);
}

/* One in use that is this job's, while the job is not over. */
static int find_of_job(struct pool *p, uint64_t job, uint64_t id, uint32_t generation,
		       struct segment **ret)
{
	int r = pool_find(p, id, generation, ret);

	if (r < 0)
		return r;
	if ((*ret)->job->id != job)
		return -ESTALE;
	return (*ret)->job->is_over ? -EIDRM : 0;
}

int pool_pin(struct pool *p, uint64_t job, uint64_t id, uint32_t generation, uint32_t offset,
	     uint32_t len, struct segment **ret, uint8_t **ret_bytes)
{
	struct segment *s;
	int r = find_of_job(p, job, id, generation, &s);

	if (r < 0)
		return r;
	if (!is_inside(s, offset, len))
		return -ERANGE;
	s->pin_count++;
	*ret = s;
	*ret_bytes = s->memory.ptr + offset;
	return 0;
}

int pool_pin_to_write(struct pool *p, uint64_t job, uint64_t id, uint32_t generation, uint64_t key,
		      uint32_t offset, uint32_t len, struct segment **ret, uint8_t **ret_bytes)
{
	struct segment *s;
	int r;

	if (planted(FENCE_LEFT_OUT) && (s = pool_lookup(p, id)) != NULL && segment_is_used(s)) {
		job = s->job->id;
		key = s->key;
		generation = s->generation;
	}
	r = pool_find(p, id, generation, &s);
	if (r < 0)
		return r;
	if (s->job->id == job && (s->key != key || s->state != SEGMENT_OPEN || s->is_revoked))
		return -EACCES;
	r = pool_pin(p, job, id, generation, offset, len, ret, ret_bytes);
	if (r == 0)
		s->writer_count++;
	return r;
}

static void export(struct pool *p, struct segment *s)
{
	if (s->is_exported)
		return;
	s->is_exported = true;
	p->counters.exported_count++;
	pool_note(p, s);
}

int pool_export(struct pool *p, uint64_t job, uint64_t id, uint32_t generation, uint64_t now_ns,
		struct segment **ret)
{
	struct segment *s;
	int r = find_of_job(p, job, id, generation, &s);

	if (r < 0)
		return r;
	export(p, s);
	pool_watch(p, s, now_ns);
	*ret = s;
	return 0;
}

int pool_export_to_write(struct pool *p, uint64_t job, uint64_t id, uint32_t generation,
			 uint64_t key, uint64_t author, struct segment **ret)
{
	struct segment *s;
	int r = find_of_job(p, job, id, generation, &s);

	if (r < 0)
		return r;
	if (s->key != key || s->state != SEGMENT_OPEN || s->is_revoked ||
	    (s->author && s->author != author))
		return -EACCES;
	if (!s->author)
		s->authored = generation;
	s->author = author;
	if (s->authored == generation)
		pool_note(p, s);
	export(p, s);
	*ret = s;
	return 0;
}
