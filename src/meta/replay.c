/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay: what a record may say. A call checks its request before it decides, so that
 * what it decides fits; a record comes from a file, and is checked here. What
 * x_reserve() checks for both is not repeated.
 */
#include "meta/catalog_priv.h"

static bool is_path(struct slice path)
{
	const char *why;

	return path_is_valid(path, &why) && path.ptr[path.len - 1] != '/';
}

/* An id of this slot, with others behind it. */
static bool is_id(const struct catalog *c, uint64_t id)
{
	const uint64_t last = (1ull << ID_SLOT_SHIFT) - 1;

	return slot_of_id(id) == c->slot && (id & last) != 0 && (id & last) < last;
}

static bool check_job_made(const struct catalog *c, const struct job_made_effect *m)
{
	const char *why;

	return is_id(c, m->job) && job_name_is_valid(m->name, &why);
}

/* Its bytes are in one place, and all there. */
static bool check_content(const struct catalog *c, const struct job *j,
			  const struct object_put_effect *m)
{
	uint64_t len;

	if (m->open) {
		const struct open *o = catalog_open_find(c, m->open);

		return m->extents.len == 0 && o && o->job == j;
	}
	if (m->extents.len > 0)
		return extents_check(c, j, NULL, m->extents, &len, NULL) == 0 && len == m->len;
	return (m->bytes.len == 0 || m->bytes.len == m->len) &&
	       (m->len == 0 || (m->len <= INLINE_BYTES_MAX && value_may_lie(c, j, m->value)));
}

static bool check_object_put(const struct catalog *c, const struct object_put_effect *m)
{
	const struct job *j = catalog_job_find(c, m->job);

	return j && is_path(m->path) && m->attributes.len <= ATTRIBUTES_BYTES_MAX &&
	       m->version > j->version && m->version <= VERSION_LAST &&
	       m->len <= OBJECT_BYTES_LAST && is_id(c, m->object) && m->tier < TIER_COUNT &&
	       check_content(c, j, m);
}

static bool check_object_renamed(const struct catalog *c, const struct object_renamed_effect *m)
{
	const struct job *j = catalog_job_find(c, m->job);

	return j && is_path(m->to) && m->version > j->version && m->version <= VERSION_LAST;
}

static bool check_segment_sealed(const struct catalog *c, const struct segment_sealed_effect *m)
{
	const struct segment *s = catalog_segment_find(c, m->segment, m->generation);

	return s && s->state <= SEGMENT_FENCED && m->front <= m->back && m->back <= s->size &&
	       (s->live == 0 || !catalog_segment_is_claimed(s, m->front, m->back));
}

/* A read is granted of an object with reads left. */
static bool check_hold_made(const struct catalog *c, const struct hold_made_effect *m)
{
	const struct job *j = catalog_job_find(c, m->job);
	const struct entry *e = j ? entry_find(c, j, m->path) : NULL;
	const struct life *life = e ? entry_life(e) : NULL;

	return e && is_id(c, m->hold) && (!m->is_read || (life && life->reads > 0));
}

static bool check_open_extended(const struct catalog *c, const struct open_extended_effect *m)
{
	const struct open *o = catalog_open_find(c, m->open);

	return o && m->part < PARTS_MAX &&
	       o->piece_count + m->extents.len / EXTENT_SIZE <= OBJECT_EXTENTS_MAX;
}

static bool is_good(const struct catalog *c, const struct effect *e)
{
	switch (e->kind) {
	case EFFECT_JOB_MADE:
		return check_job_made(c, &e->u.job_made);
	case EFFECT_OBJECT_PUT:
		return check_object_put(c, &e->u.object_put);
	case EFFECT_OBJECT_RENAMED:
		return check_object_renamed(c, &e->u.object_renamed);
	case EFFECT_SEGMENT_SEALED:
		return check_segment_sealed(c, &e->u.segment_sealed);
	case EFFECT_HOLD_MADE:
		return check_hold_made(c, &e->u.hold_made);
	case EFFECT_OPEN_MADE:
		return is_id(c, e->u.open_made.open);
	case EFFECT_OPEN_EXTENDED:
		return check_open_extended(c, &e->u.open_extended);
	default: /* its reserve looks at all of it */
		return true;
	}
}

int record_check(const struct catalog *c, const struct effect *e)
{
	return e->at_ns <= TIME_LAST && is_good(c, e) ? 0 : -EBADMSG;
}
