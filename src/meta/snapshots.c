/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/snapshots.h"

#include <assert.h>

#include "base/log.h"
#include "base/node.h"
#include "base/pack.h"
#include "meta/image.h"
#include "meta/shard_priv.h"

/*
 * Things of one step: some dozens of microseconds. While the log grows, so many for each
 * record: else the log would be full before the snapshot of many objects is whole.
 */
#define STEP_MIN   32
#define STEP_MAX   256
#define PER_RECORD 8

/* Leaves that the helper has not written yet, before we go on. */
#define OUT_MAX 4

/* One that failed is tried again after so long. */
#define AGAIN_MS 1000

#define LAST_SHARE 4

/* When little is left of what the last one has: looked at so often, if it has so many. */
#define SHRINK_MS      1000
#define SHRINK_OBJECTS 10000

/* A leaf on its way to where it is safe. */
struct leaf_work {
	struct work work;
	struct snapshots *snapshots;
	struct leaf *leaf;
	uint8_t *bytes;
	int result;
};

/* Leaves of a snapshot that is not wanted any more. */
struct leaves_gone {
	struct work work;
	struct oplog *log;
	struct list leaves;
};

/* On the helper's thread. */

/* Packed, if that makes it smaller: then in `spare`, all but the header. */
static void make_small(struct leaf *leaf, const uint8_t *bytes, uint8_t *spare)
{
	uint32_t len = leaf->used - LEAF_HEADER;

	leaf->header.packed =
		spare ? (uint32_t)pack_bytes(spare, len, bytes + LEAF_HEADER, len) : 0;
}

static void copy_leaf(struct leaf *leaf, const uint8_t *bytes, const uint8_t *spare)
{
	uint8_t *to = leaf->memory.ptr;

	if (leaf->header.packed)
		memcpy(to + LEAF_HEADER, spare, leaf->header.packed);
	else
		memcpy(to + LEAF_HEADER, bytes + LEAF_HEADER, leaf->used - LEAF_HEADER);
	leaf_header_put(to, &leaf->header);
	leaf_set_used(to, leaf->used);
}

static int to_keeper(struct oplog *l, struct leaf *leaf, const uint8_t *bytes)
{
	uint8_t *spare = node_alloc(LEAF_BYTES);
	int r;

	make_small(leaf, bytes, spare);
	r = keep_make(l->config.keep, l->config.media, leaf_size(&leaf->header), &leaf->memory);
	if (r < 0) {
		node_free(spare);
		return r;
	}
	r = l->config.media->fill(&leaf->memory, 0, leaf->memory.size);
	if (r == 0) {
		copy_leaf(leaf, bytes, spare);
		r = keep_put(l->config.keep, oplog_keep_name(&leaf->header), &leaf->memory);
	}
	if (r < 0) {
		l->config.media->free(&leaf->memory);
		leaf->memory.ptr = NULL;
	}
	node_free(spare);
	return r;
}

static int to_archive(struct oplog *l, const struct leaf *leaf, const uint8_t *bytes)
{
	struct archive *a = l->config.archive;
	char name[ARCHIVE_NAME_MAX];
	int r;

	oplog_file_name(&leaf->header, name);
	r = a->ops->write(a, name, 0, bytes, leaf->used);
	return r < 0 ? r : a->ops->sync(a, name);
}

static void write_run(struct work *w)
{
	struct leaf_work *k = container_of(w, struct leaf_work, work);
	struct oplog *l = k->snapshots->log;

	k->result = l->config.archive ? to_archive(l, k->leaf, k->bytes)
				      : to_keeper(l, k->leaf, k->bytes);
}

static void gone_run(struct work *w)
{
	struct leaves_gone *g = container_of(w, struct leaves_gone, work);
	struct oplog *l = g->log;
	char name[ARCHIVE_NAME_MAX];

	for (struct list *i = g->leaves.next; i != &g->leaves; i = i->next) {
		struct leaf *leaf = container_of(i, struct leaf, link);

		oplog_file_name(&leaf->header, name);
		if (leaf->memory.ptr) {
			keep_drop(l->config.keep, oplog_keep_name(&leaf->header));
			l->config.media->free(&leaf->memory);
		}
		if (l->config.archive)
			(void)l->config.archive->ops->remove(l->config.archive, name);
	}
}

static void gone_done(struct work *w)
{
	struct leaves_gone *g = container_of(w, struct leaves_gone, work);

	while (!list_is_empty(&g->leaves)) {
		struct leaf *leaf = container_of(g->leaves.next, struct leaf, link);

		list_remove(&leaf->link);
		node_free(leaf);
	}
	node_free(g);
}

static void move_all(struct list *from, struct list *to)
{
	while (!list_is_empty(from)) {
		struct list *l = from->next;

		list_remove(l);
		list_insert(to, l);
	}
}

/* If there is no memory to say so, they stay until the next time. */
static void drop_leaves(struct snapshots *p, struct list *leaves)
{
	struct leaves_gone *g = list_is_empty(leaves) ? NULL : node_alloc(sizeof(*g));

	if (!g)
		return;
	*g = (struct leaves_gone){ .log = p->log, .work = { .run = gone_run, .done = gone_done } };
	list_init(&g->leaves);
	move_all(leaves, &g->leaves);
	if (!p->log->is_closing) {
		helper_do(p->log->helper, &g->work);
		return;
	}
	gone_run(&g->work);
	gone_done(&g->work);
}

/* Ends. */

static void snapshot_failed(struct snapshots *p, const char *why)
{
	if (!p->has_failed)
		log_warning("a snapshot was given up, and is tried again: %s shard=%u", why,
			    p->shard->config.index);
	p->has_failed = true;
}

static uint64_t count_objects(const struct shard *s)
{
	uint64_t count = 0;

	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1)) {
		struct catalog_sums sums;

		catalog_sums(slot->catalog, 0, &sums);
		count += sums.object_count;
	}
	return count;
}

/* The last one is there, and of so many objects. */
static void set_last(struct snapshots *p, uint64_t objects)
{
	struct loop *l = p->log->loop;

	p->last_objects = objects;
	if (objects >= SHRINK_OBJECTS && !p->log->config.archive)
		timer_start(l, &p->shrink, l->now_ns + SHRINK_MS * MS);
}

static void open_free(struct snapshots *p)
{
	if (!p->open)
		return;
	node_free(p->open->memory.ptr);
	p->open = node_free(p->open);
}

/* Every leaf has come back from the helper. */
static void snapshot_over(struct snapshots *p)
{
	struct oplog *l = p->log;

	p->is_running = false;
	if (p->has_failed) {
		p->failed_count++;
		open_free(p);
		drop_leaves(p, &p->done);
		timer_start(l->loop, &p->again, l->loop->now_ns + AGAIN_MS * MS);
		return;
	}
	p->taken_count++;
	p->last_bytes = ((uint64_t)p->index + 1) * LEAF_BYTES;
	set_last(p, p->begun_objects);
	drop_leaves(p, &l->snapshot);
	move_all(&p->done, &l->snapshot);
	oplog_covered(l, p->lsn);
	snapshots_look(p);
}

static void stop_slots(struct snapshots *p)
{
	if (p->has_slot)
		catalog_snapshot_stop(p->shard->slots[p->slot]->catalog);
	p->has_slot = false;
}

static void give_up(struct snapshots *p, const char *why)
{
	snapshot_failed(p, why);
	stop_slots(p);
	task_stop(&p->step);
	if (p->out_count == 0)
		snapshot_over(p);
}

/* Leaves. */

static void write_done(struct work *w)
{
	struct leaf_work *k = container_of(w, struct leaf_work, work);
	struct snapshots *p = k->snapshots;

	p->out_count--;
	if (k->result < 0) {
		node_free(k->leaf);
		snapshot_failed(p, p->log->config.archive ? "the disk takes nothing"
							  : "no memory, or no keeper");
	} else {
		list_insert(&p->done, &k->leaf->link);
	}
	node_free(k->bytes);
	node_free(k);
	if (p->has_failed) {
		stop_slots(p);
		task_stop(&p->step);
	}
	if (p->out_count == 0 && (p->has_failed || p->is_last_out))
		snapshot_over(p);
	else if (!p->has_failed && !p->is_last_out)
		loop_defer(p->log->loop, &p->step);
}

static bool leaf_out(struct snapshots *p)
{
	struct leaf_work *k = node_alloc(sizeof(*k));

	if (!k)
		return false;
	*k = (struct leaf_work){ .snapshots = p,
				 .leaf = p->open,
				 .bytes = p->open->memory.ptr,
				 .work = { .run = write_run, .done = write_done } };
	p->open->memory = (struct memory){ .fd = -1 };
	leaf_set_used(k->bytes, k->leaf->used);
	p->open = NULL;
	p->out_count++;
	helper_do(p->log->helper, &k->work);
	return true;
}

static bool leaf_begin(struct snapshots *p)
{
	struct oplog *l = p->log;
	struct leaf *leaf = node_alloc(sizeof(*leaf));
	uint8_t *bytes = leaf ? node_alloc(LEAF_BYTES) : NULL;

	if (!bytes) {
		node_free(leaf);
		return false;
	}
	*leaf = (struct leaf){ .header = { .kind = LEAF_SNAPSHOT,
					   .shard = l->config.shard,
					   .shard_count = l->config.shard_count,
					   .seed = l->seed,
					   .incarnation = l->incarnation,
					   .number = p->number,
					   .index = p->index,
					   .lsn = p->lsn },
			       .memory = { .ptr = bytes, .fd = -1 },
			       .used = LEAF_HEADER };
	list_init(&leaf->link);
	leaf_header_put(bytes, &leaf->header);
	p->open = leaf;
	return true;
}

static bool put(struct snapshots *p, uint16_t slot, uint16_t kind, const struct image *im)
{
	struct record record = { .lsn = p->lsn, .slot = slot, .kind = kind };
	struct wcur w;
	uint8_t *at;

	if (LEAF_BYTES - p->open->used < IMAGE_BYTES_MAX + 32) {
		if (!leaf_out(p))
			return false;
		p->index++;
		if (!leaf_begin(p))
			return false;
	}
	at = p->open->memory.ptr + p->open->used;
	w = wcur_make(at + 24, IMAGE_BYTES_MAX);
	if (im)
		image_put(&w, im);
	assert(!w.bad);
	record.bytes = (struct slice){ w.start, (size_t)(w.p - w.start) };
	p->open->used += record_seal(at, &p->open->header, &record);
	return true;
}

/* The catalog's: also while an effect is applied, so a failure ends the snapshot later. */
static void take_image(void *owner, const struct image *im)
{
	struct snapshots *p = owner;

	if (p->has_failed || !p->open || !put(p, (uint16_t)p->slot, RECORD_IMAGE, im))
		snapshot_failed(p, "no memory");
}

/* Steps. */

static void last_out(struct snapshots *p)
{
	if (!put(p, 0, RECORD_LAST, NULL) || !leaf_out(p)) {
		give_up(p, "no memory");
		return;
	}
	p->is_last_out = true;
}

/*
 * Slots are written one after the other, each as it is by then. So a snapshot is whole only
 * with the records up to its end: without some of them, the next records would have
 * numbers that a slot has seen already.
 */
static bool is_log_safe(struct snapshots *p)
{
	struct oplog *l = p->log;

	if (p->end_lsn == 0)
		p->end_lsn = l->lsn;
	if (!l->config.archive || l->synced_lsn >= p->end_lsn)
		return true;
	oplog_sync(l, p->end_lsn);
	return false;
}

void snapshots_log_synced(struct snapshots *p)
{
	if (p->is_running && p->end_lsn > 0 && !p->is_last_out)
		loop_defer(p->log->loop, &p->step);
}

static unsigned pace(struct snapshots *p)
{
	uint64_t n = (p->log->lsn - p->paced_lsn) * PER_RECORD;

	p->paced_lsn = p->log->lsn;
	return n < STEP_MIN ? STEP_MIN : n > STEP_MAX ? STEP_MAX : (unsigned)n;
}

static void step(struct task *t)
{
	struct snapshots *p = container_of(t, struct snapshots, step);
	struct shard *s = p->shard;

	if (!p->is_running || p->is_last_out || p->out_count >= OUT_MAX)
		return; /* write_done() goes on */
	if (!p->has_slot) {
		for (int i = 0; i < TICK_STEP && p->slot < SLOT_COUNT && !s->slots[p->slot]; i++)
			p->slot++;
		if (p->slot == SLOT_COUNT) {
			if (is_log_safe(p))
				last_out(p);
			return;
		}
		if (s->slots[p->slot]) {
			p->has_slot = true;
			catalog_snapshot_begin(s->slots[p->slot]->catalog, p->log->lsn, take_image,
					       p);
		}
	} else if (!catalog_snapshot_step(s->slots[p->slot]->catalog, pace(p))) {
		p->has_slot = false;
		p->slot++;
	}
	if (p->has_failed)
		give_up(p, "no memory");
	else
		loop_defer(s->loop, t);
}

static void begin(struct snapshots *p)
{
	p->is_running = true;
	p->has_failed = p->is_last_out = p->has_slot = false;
	p->number++;
	p->lsn = p->paced_lsn = p->log->lsn;
	p->index = 0;
	p->slot = 0;
	p->end_lsn = 0;
	p->log->begun_bytes = 0;
	p->begun_objects = count_objects(p->shard);
	timer_stop(p->log->loop, &p->shrink);
	if (!leaf_begin(p)) {
		give_up(p, "no memory");
		return;
	}
	loop_defer(p->log->loop, &p->step);
}

void snapshots_look(struct snapshots *p)
{
	struct oplog *l = p->log;
	uint64_t enough = p->shard->config.snapshot_bytes;

	if (p->is_running || !l->helper || l->is_closing || timer_is_running(&p->again))
		return;
	if (enough < p->last_bytes / LAST_SHARE)
		enough = p->last_bytes / LAST_SHARE;
	if (!l->config.archive && enough > l->config.limit_bytes / 2)
		enough = l->config.limit_bytes / 2;
	if (l->begun_bytes >= enough)
		begin(p);
}

static void again(struct timer *t)
{
	struct snapshots *p = container_of(t, struct snapshots, again);

	begin(p);
}

static void shrink(struct timer *t)
{
	struct snapshots *p = container_of(t, struct snapshots, shrink);

	if (timer_is_running(&p->again) || p->log->is_closing)
		return; /* that one will be of what is left */
	if (count_objects(p->shard) < p->last_objects / LAST_SHARE)
		begin(p);
	else
		set_last(p, p->last_objects);
}

void snapshots_init(struct snapshots *p, struct shard *s, struct oplog *l, uint64_t number)
{
	*p = (struct snapshots){ .shard = s,
				 .log = l,
				 .number = number,
				 .step = { .run = step },
				 .again = { .fire = again },
				 .shrink = { .fire = shrink } };
	list_init(&p->step.link);
	list_init(&p->done);
	if (number > 0)
		set_last(p, count_objects(s));
}

/* After oplog_close() has waited for the helper. */
void snapshots_fini(struct snapshots *p)
{
	struct oplog *l = p->log;

	if (!p->shard)
		return;
	stop_slots(p);
	task_stop(&p->step);
	timer_stop(p->shard->loop, &p->again);
	timer_stop(p->shard->loop, &p->shrink);
	open_free(p);
	while (!list_is_empty(&p->done)) {
		struct leaf *leaf = container_of(p->done.next, struct leaf, link);

		list_remove(&leaf->link);
		if (leaf->memory.ptr) {
			keep_drop(l->config.keep, oplog_keep_name(&leaf->header));
			l->config.media->free(&leaf->memory);
		}
		node_free(leaf);
	}
}
