/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/cleanup.h"
#include "base/node.h"
#include "base/plant.h"
#include "meta/catalog_priv.h"

static const size_t CONTENT_SIZE[] = {
	[CONTENT_EMPTY] = 0,
	[CONTENT_VALUE] = sizeof(struct value),
	[CONTENT_PIECE] = sizeof(struct piece),
	[CONTENT_BODY] = sizeof(struct body *),
};

static struct slice key_of(const struct index_link *l)
{
	return entry_path(entry_of(l));
}

static uint64_t priority_of(const struct index_link *l)
{
	return entry_of(l)->by_path.hash;
}

const struct index_ops ENTRY_OPS = { key_of, priority_of };

struct hash_128 path_hash(const struct catalog *c, uint64_t job, struct slice path)
{
	return hash_128(path.ptr, path.len, c->seed ^ job * 0x9e3779b97f4a7c15ull);
}

/* The parts behind the fixed one. */

static uint8_t *life_at(const struct entry *e)
{
	return (uint8_t *)(e + 1);
}

static uint8_t *content_at(const struct entry *e)
{
	return life_at(e) + (e->has_life ? sizeof(struct life) : 0);
}

static uint8_t *path_at(const struct entry *e)
{
	return content_at(e) + CONTENT_SIZE[e->content];
}

struct life *entry_life(const struct entry *e)
{
	return e->has_life ? (struct life *)life_at(e) : NULL;
}

struct value *entry_value(const struct entry *e)
{
	return (struct value *)content_at(e);
}

struct piece *entry_piece(const struct entry *e)
{
	return (struct piece *)content_at(e);
}

struct body **entry_body(const struct entry *e)
{
	return (struct body **)content_at(e);
}

struct slice entry_path(const struct entry *e)
{
	return (struct slice){ path_at(e), e->path_len };
}

struct slice entry_attributes(const struct entry *e)
{
	return (struct slice){ path_at(e) + e->path_len, e->attributes_len };
}

struct entry *entry_alloc(const struct entry_plan *p)
{
	size_t len = sizeof(struct entry) + (p->has_life ? sizeof(struct life) : 0) +
		     CONTENT_SIZE[p->content] + p->path_len + p->attributes_len;
	struct entry *e = node_alloc(len < sizeof(struct attempt) ? sizeof(struct attempt) : len);

	if (!e)
		return NULL;
	e->path_len = p->path_len & 0x7ffu;
	e->attributes_len = p->attributes_len & 0x3ffu;
	e->has_life = p->has_life;
	e->content = p->content & 3;
	return e;
}

void entry_set(struct entry *e, uint64_t version, uint64_t len, uint64_t made_ns)
{
	e->version = version & (2 * VERSION_LAST + 1);
	e->len = len & OBJECT_BYTES_LAST;
	e->made_ns = made_ns & TIME_LAST;
}

bool entry_has_expired(const struct entry *e, uint64_t now_ns)
{
	const struct life *life = entry_life(e);

	return life && heap_has(&life->expiry) && life->expiry.due <= now_ns;
}

struct entry *entry_find_hash(const struct catalog *c, uint64_t job, struct hash_128 hash)
{
	for (struct hlink *l = htable_first(&c->entries, hash.hi); l; l = htable_next(l)) {
		struct entry *e = container_of(l, struct entry, by_path);

		if (e->job->id == job && path_hash(c, job, entry_path(e)).lo == hash.lo)
			return e;
	}
	return NULL;
}

struct entry *entry_find_hashed(const struct catalog *c, const struct job *j, struct slice path,
				uint64_t hash)
{
	struct hlink *l = htable_first(&c->entries, hash);

	for (; l; l = htable_next(l)) {
		struct entry *e = container_of(l, struct entry, by_path);

		if (e->job == j && slice_compare(entry_path(e), path) == 0)
			return e;
	}
	return NULL;
}

struct entry *entry_find(const struct catalog *c, const struct job *j, struct slice path)
{
	return entry_find_hashed(c, j, path, path_hash(c, j->id, path).hi);
}

struct entry *entry_seen(const struct catalog *c, const struct job *j, struct slice path,
			 uint64_t now_ns)
{
	struct entry *e = entry_find(c, j, path);

	return e && !entry_has_expired(e, now_ns) ? e : NULL;
}

/* Directories. */

struct slice directory_of(struct slice path)
{
	while (path.len > 0 && path.ptr[path.len - 1] != '/')
		path.len--;
	return path;
}

struct directory *directory_find(const struct catalog *c, const struct job *j, struct slice path)
{
	struct hlink *l = htable_first(&c->directories, path_hash(c, j->id, path).hi);

	for (; l; l = htable_next(l)) {
		struct directory *d = container_of(l, struct directory, by_path);

		if (d->job == j && slice_compare((struct slice){ d->path, d->path_len }, path) == 0)
			return d;
	}
	return NULL;
}

struct directory *directory_find_hash(const struct catalog *c, uint64_t job, struct hash_128 hash)
{
	for (struct hlink *l = htable_first(&c->directories, hash.hi); l; l = htable_next(l)) {
		struct directory *d = container_of(l, struct directory, by_path);

		if (d->job->id == job &&
		    path_hash(c, job, (struct slice){ d->path, d->path_len }).lo == hash.lo)
			return d;
	}
	return NULL;
}

int directory_reserve(struct catalog *c, struct job *j, struct slice path, struct directory **ret)
{
	struct slice name = directory_of(path);

	if (directory_find(c, j, name))
		return 0;
	*ret = node_alloc(sizeof(**ret) + name.len);
	return *ret ? 0 : -ENOMEM;
}

static void directory_count_up(struct catalog *c, const struct entry *e, struct directory **spare)
{
	struct slice name = directory_of(entry_path(e));
	struct directory *d = directory_find(c, e->job, name);

	if (!d) {
		d = TAKE_PTR(*spare);
		d->job = e->job;
		d->path_len = (uint16_t)name.len;
		if (name.len > 0)
			memcpy(d->path, name.ptr, name.len);
		htable_add(&c->directories, &d->by_path, path_hash(c, d->job->id, name).hi);
	}
	d->count++;
	catalog_wake(c, e->job, name);
}

static void directory_count_down(struct catalog *c, const struct entry *e)
{
	struct directory *d = directory_find(c, e->job, directory_of(entry_path(e)));

	if (--d->count > 0)
		return;
	htable_remove(&c->directories, &d->by_path);
	node_free(d);
}

/* Coming and going. */

static void begin(struct catalog *c, struct entry *e, struct hash_128 hash)
{
	e->seen = c->snapshot.round;
	e->job->object_count++;
	e->job->object_bytes += e->len;
	c->object_count++;
	catalog_wake_hash(c, e->job->id, hash);
}

void entry_add(struct catalog *c, struct entry *e, struct hash_128 hash, struct directory **spare)
{
	htable_add(&c->entries, &e->by_path, hash.hi);
	index_add(&e->job->index, &e->in_job);
	directory_count_up(c, e, spare);
	tombstone_forget(c, hash.hi);
	begin(c, e, hash);
}

int attempt_spare(const struct entry *e, struct attempt **ret)
{
	if (!e || !e->is_held)
		return 0;
	*ret = node_alloc(sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

static void content_free(struct catalog *c, struct entry *e, uint64_t at_ns)
{
	switch ((enum content)e->content) {
	case CONTENT_EMPTY:
		break;
	case CONTENT_VALUE:
		value_release(c, e->job, entry_value(e)->at, at_ns);
		break;
	case CONTENT_PIECE:
		catalog_live_sub(c, entry_piece(e), at_ns);
		break;
	case CONTENT_BODY:
		body_discard(c, *entry_body(e), at_ns);
		break;
	}
	e->content = CONTENT_EMPTY;
}

void entry_free(struct catalog *c, struct entry *e, uint64_t at_ns)
{
	content_free(c, e, at_ns);
	node_free(e);
}

/* The record of a version that is gone. */
static void record(struct catalog *c, struct job *j, struct attempt *a, const struct entry *e,
		   const struct end *end, uint64_t hash)
{
	*a = (struct attempt){ .nth = a->nth,
			       .put = e->attempt,
			       .end = end->attempt,
			       .version = e->version,
			       .object = e->object,
			       .at_ns = end->at_ns,
			       .what = (uint8_t)end->what,
			       .has_put = e->attempt != 0,
			       .has_end = end->attempt != 0,
			       .is_tombstone =
				       end->what == GONE_EXPIRED || end->what == GONE_CONSUMED };
	attempt_add(c, j, a, hash);
}

static void end_it(struct catalog *c, struct entry *e, const struct end *end,
		   struct attempt **spare)
{
	struct job *j = e->job;
	struct life *life = entry_life(e);
	uint64_t hash = e->by_path.hash;
	bool is_worth_it = (e->attempt | end->attempt) != 0 || end->what == GONE_EXPIRED ||
			   end->what == GONE_CONSUMED;
	struct entry copy;
	struct attempt *a;

	SNAPSHOT(entry, e);
	if (c->out && end->what != GONE_EXPIRED) {
		c->out->has_ended = true;
		c->out->is_to_forget |= e->is_told_on;
	}
	j->object_count--;
	j->object_bytes -= e->len;
	if (j->state == JOB_LIVING)
		c->object_count--;
	if (life) {
		heap_remove(&c->expiries, &life->expiry);
		if (life->granted > 0)
			catalog_wake(c, j, entry_path(e));
	}
	is_worth_it = is_worth_it && !end->is_forgotten;
	if (planted(HOLD_IGNORED) && e->is_held) {
		content_free(c, e, end->at_ns);
		e->content = CONTENT_EMPTY;
	}
	if (e->is_held) {
		e->is_ghost = true;
		a = is_worth_it ? TAKE_PTR(*spare) : NULL;
		if (a)
			record(c, j, a, e, end, hash);
		return;
	}
	if (!end->keeps_content)
		content_free(c, e, end->at_ns);
	if (!is_worth_it) {
		node_free(e);
		return;
	}
	copy = *e;
	a = attempt_new(j);
	if (a) {
		node_free(e);
	} else {
		a = (struct attempt *)e;
		a->nth = 0;
	}
	record(c, j, a, &copy, end, hash);
}

void entry_end(struct catalog *c, struct entry *e, const struct end *end, struct attempt **spare)
{
	directory_count_down(c, e);
	htable_remove(&c->entries, &e->by_path);
	index_remove(&e->job->index, &e->in_job);
	end_it(c, e, end, spare);
}

void entry_replace(struct catalog *c, struct entry *e, struct entry *by, struct hash_128 hash,
		   const struct end *end, struct attempt **spare)
{
	htable_remove(&c->entries, &e->by_path);
	htable_add(&c->entries, &by->by_path, hash.hi);
	index_replace(&e->job->index, &e->in_job, &by->in_job);
	end_it(c, e, end, spare);
	/* There is none where something was, unless that has left one. */
	if (end->what != GONE_REPLACED)
		tombstone_forget(c, hash.hi);
	begin(c, by, hash);
	catalog_wake(c, by->job, directory_of(entry_path(by)));
}
