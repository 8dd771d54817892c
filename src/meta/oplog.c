/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/oplog.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/log.h"
#include "base/node.h"
#include "base/plant.h"

#define MS 1000000ull

/* What the longest record takes. */
#define RECORD_MAX (EFFECT_BYTES_MAX + 32)

/* The last so much of the last leaf is for the shard's own work: ends, expiry, duties. */
#define OWN_BYTES (LEAF_BYTES / 8)

/* A leaf or a disk that failed is tried again after so long. */
#define LEAF_AGAIN_MS 50
#define DISK_AGAIN_MS 1000

/* Nobody waits for it: so many bytes, or so long, are written in one go. */
#define LAZY_BYTES (256u << 10)
#define LAZY_MS    50

/* What nobody waits for is synced within that time: so much a power cut may take of it. */
#define SYNC_MS 1000

struct keep_name oplog_keep_name(const struct leaf_header *h)
{
	if (h->kind == LEAF_LOG)
		return (struct keep_name){ KEEP_LOG, h->shard, h->number };
	return (struct keep_name){ KEEP_SNAPSHOT, h->shard, h->number << 20 | h->index };
}

void oplog_file_name(const struct leaf_header *h, char ret[ARCHIVE_NAME_MAX])
{
	if (h->kind == LEAF_LOG)
		snprintf(ret, ARCHIVE_NAME_MAX, "log-%u-%016llx", h->shard,
			 (unsigned long long)h->number);
	else
		snprintf(ret, ARCHIVE_NAME_MAX, "snapshot-%u-%012llx-%05x", h->shard,
			 (unsigned long long)h->number & 0xffffffffffff, h->index);
}

bool oplog_file_named(const char *name, struct leaf_header *ret)
{
	bool is_log = strncmp(name, "log-", 4) == 0;
	char again[ARCHIVE_NAME_MAX], *p = (char *)name + (is_log ? 4 : strcspn(name, "-"));

	*ret = (struct leaf_header){ .kind = is_log ? LEAF_LOG : LEAF_SNAPSHOT };
	p += *p == '-';
	ret->shard = (uint16_t)strtoul(p, &p, 10);
	p += *p == '-';
	ret->number = strtoull(p, &p, 16);
	p += *p == '-';
	ret->index = is_log ? 0 : (uint32_t)strtoul(p, &p, 16);
	oplog_file_name(ret, again);
	return strcmp(name, again) == 0;
}

/* Making leaves, on the helper's thread. */

static int leaf_make(struct oplog *l, struct leaf *leaf)
{
	int r = keep_make(l->config.keep, l->config.media, LEAF_BYTES, &leaf->memory);

	if (r < 0)
		return r;
	r = l->config.media->fill(&leaf->memory, 0, LEAF_BYTES);
	if (r == 0)
		r = keep_put(l->config.keep, oplog_keep_name(&leaf->header), &leaf->memory);
	if (r < 0) {
		l->config.media->free(&leaf->memory);
		leaf->memory = (struct memory){ .fd = -1 };
	}
	return r;
}

static void make_run(struct work *w)
{
	struct log_work *m = container_of(w, struct log_work, work);

	m->result = leaf_make(m->log, m->leaf);
}

static struct leaf *leaf_new(struct oplog *l)
{
	struct leaf *leaf = node_alloc(sizeof(*leaf));

	if (!leaf)
		return NULL;
	*leaf = (struct leaf){ .header = { .kind = LEAF_LOG,
					   .shard = l->config.shard,
					   .shard_count = l->config.shard_count,
					   .seed = l->seed,
					   .incarnation = l->incarnation,
					   .memory = l->memory,
					   .number = l->next_number++ } };
	list_init(&leaf->link);
	return leaf;
}

static void make_begin(struct oplog *l)
{
	struct log_work *m = &l->making;

	if (m->is_busy || l->spare || l->is_closing || !l->helper ||
	    l->bytes + LEAF_BYTES > l->config.limit_bytes || timer_is_running(&l->again))
		return;
	m->leaf = leaf_new(l);
	if (!m->leaf) {
		timer_start(l->loop, &l->again, l->loop->now_ns + LEAF_AGAIN_MS * MS);
		return;
	}
	l->bytes += LEAF_BYTES;
	m->is_busy = true;
	helper_do(l->helper, &m->work);
}

static void make_done(struct work *w)
{
	struct log_work *m = container_of(w, struct log_work, work);
	struct oplog *l = m->log;

	m->is_busy = false;
	if (m->result == 0) {
		l->spare = TAKE_PTR(m->leaf);
		return;
	}
	m->leaf = node_free(m->leaf);
	l->bytes -= LEAF_BYTES;
	if (!l->has_complained)
		log_warning("no memory for the log, or no keeper; puts fail with LOGFULL when it "
			    "is full, and it is tried again shard=%u errno=%d",
			    l->config.shard, -m->result);
	l->has_complained = true;
	if (!l->is_closing)
		timer_start(l->loop, &l->again, l->loop->now_ns + LEAF_AGAIN_MS * MS);
}

static void make_again(struct timer *t)
{
	make_begin(container_of(t, struct oplog, again));
}

/* What is to go, on the helper's thread: leaves with memory, and files. */

static void leaf_drop(struct oplog *l, struct leaf *leaf)
{
	char name[ARCHIVE_NAME_MAX];

	if (leaf->memory.ptr) {
		keep_drop(l->config.keep, oplog_keep_name(&leaf->header));
		l->config.media->free(&leaf->memory);
		leaf->memory.ptr = NULL;
	}
	if (l->config.archive && leaf->is_closed) {
		oplog_file_name(&leaf->header, name);
		(void)l->config.archive->ops->remove(l->config.archive, name); /* or next time */
	}
}

static void waste_run(struct work *w)
{
	struct log_waste *waste = container_of(w, struct log_waste, work);

	leaf_drop(waste->log, &waste->filed);
	for (struct list *i = waste->leaves.next; i != &waste->leaves; i = i->next)
		leaf_drop(waste->log, container_of(i, struct leaf, link));
}

static void covered_go(struct oplog *l);

static void waste_done(struct work *w)
{
	struct log_waste *waste = container_of(w, struct log_waste, work);

	while (!list_is_empty(&waste->leaves)) {
		struct leaf *leaf = container_of(waste->leaves.next, struct leaf, link);

		list_remove(&leaf->link);
		node_free(leaf);
	}
	waste->is_busy = false;
	make_begin(waste->log);
	covered_go(waste->log);
}

static void covered_go(struct oplog *l)
{
	if (l->waste.is_busy || l->filing.is_busy || l->is_closing)
		return; /* it is tried again when they are done */
	for (struct list *i = l->leaves.next, *next; i != &l->leaves; i = next) {
		struct leaf *leaf = container_of(i, struct leaf, link);

		next = i->next;
		if (!leaf->is_closed || leaf->last_lsn > l->covered_lsn)
			break;
		list_remove(&leaf->link);
		list_insert(&l->waste.leaves, &leaf->link);
		if (leaf->memory.ptr)
			l->bytes -= LEAF_BYTES;
	}
	if (list_is_empty(&l->waste.leaves))
		return;
	l->waste.is_busy = true;
	helper_do(l->helper, &l->waste.work);
}

void oplog_covered(struct oplog *l, uint64_t lsn)
{
	l->covered_lsn = lsn;
	covered_go(l);
}

/* Files. */

/* The first leaf that is not in its file, or closed and still in memory; NULL: none is. */
static struct leaf *unfiled(struct oplog *l)
{
	for (struct list *i = l->leaves.next; i != &l->leaves; i = i->next) {
		struct leaf *leaf = container_of(i, struct leaf, link);

		if (leaf->memory.ptr && (leaf->filed < leaf->used || leaf->is_closed))
			return leaf;
	}
	return NULL;
}

static void file_run(struct work *w)
{
	struct log_work *f = container_of(w, struct log_work, work);
	struct archive *a = f->log->config.archive;
	char name[ARCHIVE_NAME_MAX];

	oplog_file_name(&f->leaf->header, name);
	f->result = f->from == f->to
			    ? 0
			    : a->ops->write(a, name, f->from, f->leaf->memory.ptr + f->from,
					    f->to - f->from);
	if (f->result == 0 && f->must_sync)
		f->result = a->ops->sync(a, name);
}

static void file_begin(struct oplog *l)
{
	struct log_work *f = &l->filing;
	struct leaf *leaf = unfiled(l);

	if (!l->config.archive || !l->helper || f->is_busy || l->is_closing)
		return;
	f->must_sync = l->wanted_lsn > l->synced_lsn;
	if (!leaf && f->must_sync)
		leaf = l->open; /* all of it is written, and not synced yet */
	if (!leaf)
		return;
	f->leaf = leaf;
	f->from = leaf->filed;
	f->is_busy = true;
	if (leaf->synced == 0) {
		/* The header alone: a file without one that has anything else is damaged. */
		f->must_sync = true;
		f->to = LEAF_HEADER;
		f->lsn = leaf->header.lsn;
	} else {
		/* So no file is synced before those that come before it. */
		f->must_sync |= leaf->is_closed;
		f->to = leaf->used;
		f->lsn = leaf->last_lsn;
		l->after_ns = 0;
	}
	timer_stop(l->loop, &l->lazy);
	helper_do(l->helper, &f->work);
}

/*
 * Its file stays until a snapshot covers it. Where something else is given up just now, it is
 * looked at once more behind that.
 */
static void leaf_filed(struct oplog *l, struct leaf *leaf)
{
	if (l->waste.is_busy || l->is_closing)
		return;
	l->waste.filed = (struct leaf){ .header = leaf->header, .memory = leaf->memory };
	leaf->memory = (struct memory){ .fd = -1 };
	l->bytes -= LEAF_BYTES;
	l->waste.is_busy = true;
	helper_do(l->helper, &l->waste.work);
}

static void file_failed(struct oplog *l, struct leaf *leaf, int err)
{
	leaf->filed = leaf->synced;
	if (l->disk_error == 0)
		log_error("the log cannot be written: durable puts fail, others when its memory is "
			  "full; it is tried again every second where=%s errno=%d",
			  l->config.archive->ops->where(l->config.archive), -err);
	l->disk_error = err;
	timer_start(l->loop, &l->lazy, l->loop->now_ns + DISK_AGAIN_MS * MS);
}

static void file_done(struct work *w)
{
	struct log_work *f = container_of(w, struct log_work, work);
	struct oplog *l = f->log;
	struct leaf *leaf = f->leaf;

	f->is_busy = false;
	if (f->result < 0) {
		file_failed(l, leaf, f->result);
	} else {
		if (l->disk_error)
			log_info("the log can be written again where=%s",
				 l->config.archive->ops->where(l->config.archive));
		l->disk_error = 0;
		leaf->filed = f->to;
		if (f->must_sync) {
			leaf->synced = f->to;
			l->synced_lsn = f->lsn;
		}
		/* Of an earlier leaf, or a header: the first after it is older than we know. */
		if (f->must_sync && leaf == l->open && f->to > LEAF_HEADER)
			l->unsynced_ns = l->after_ns;
		/* It may have been closed since this write began, which then did not sync it. */
		if (leaf->is_closed && leaf->synced == leaf->used)
			leaf_filed(l, leaf);
	}
	if (l->synced)
		l->synced(l);
	covered_go(l);
	if (f->result < 0)
		return;
	if (l->wanted_lsn > l->synced_lsn || (unfiled(l) && unfiled(l) != l->open))
		file_begin(l);
	else if (unfiled(l) && !timer_is_running(&l->lazy))
		timer_start(l->loop, &l->lazy, l->loop->now_ns + LAZY_MS * MS);
}

static void lazy(struct timer *t)
{
	file_begin(container_of(t, struct oplog, lazy));
}

static void sync_all(struct timer *t)
{
	struct oplog *l = container_of(t, struct oplog, sync);

	oplog_sync(l, l->lsn);
}

void oplog_sync(struct oplog *l, uint64_t lsn)
{
	if (lsn > l->wanted_lsn)
		l->wanted_lsn = lsn;
	if (!timer_is_running(&l->lazy) || !l->disk_error)
		file_begin(l);
}

/* Appending. */

static uint32_t room(const struct oplog *l)
{
	return l->open ? LEAF_BYTES - l->open->used : 0;
}

bool oplog_has_room(struct oplog *l, bool is_own)
{
	if (!l->config.media || l->spare)
		return true;
	make_begin(l);
	return room(l) >= RECORD_MAX + (is_own ? 0 : OWN_BYTES);
}

static void leaf_begin(struct oplog *l)
{
	struct leaf *leaf = TAKE_PTR(l->spare);

	if (l->open)
		l->open->is_closed = true;
	leaf->header.lsn = leaf->last_lsn = l->lsn;
	leaf->header.base_ns = l->base_ns;
	leaf->header.memory_ns = l->memory_ns;
	leaf->used = LEAF_HEADER;
	leaf_header_put(leaf->memory.ptr, &leaf->header);
	list_insert(&l->leaves, &leaf->link);
	l->open = leaf;
	make_begin(l);
	if (l->config.archive)
		file_begin(l); /* the one before is to be closed there, too */
}

static void file_later(struct oplog *l)
{
	if (!l->config.archive)
		return;
	if (!timer_is_running(&l->sync))
		timer_start(l->loop, &l->sync, l->loop->now_ns + SYNC_MS * MS);
	if (l->filing.is_busy || l->disk_error)
		return;
	if (l->open->used - l->open->filed >= LAZY_BYTES)
		file_begin(l);
	else if (!timer_is_running(&l->lazy))
		timer_start(l->loop, &l->lazy, l->loop->now_ns + LAZY_MS * MS);
}

void oplog_append(struct oplog *l, uint16_t slot, const struct effect *e)
{
	struct record record = { .slot = slot, .kind = RECORD_EFFECT };
	struct wcur w;
	uint32_t size;
	uint8_t *at;

	if (l->sink)
		l->sink(l->owner, slot, e);
	if (!l->config.media) {
		l->lsn++;
		return;
	}
	if (planted(EFFECT_LOST) && e->at_ns % 16 == 5)
		return;
	if (room(l) < RECORD_MAX)
		leaf_begin(l);
	at = l->open->memory.ptr + l->open->used;
	w = wcur_make(at + 24, EFFECT_BYTES_MAX);
	effect_put(&w, e);
	assert(!w.bad);
	record.lsn = ++l->lsn;
	record.synced = l->open->synced;
	record.bytes = (struct slice){ w.start, (size_t)(w.p - w.start) };
	size = record_seal(at, &l->open->header, &record);
	l->open->used += size;
	l->open->last_lsn = l->lsn;
	l->begun_bytes += size;
	if (l->unsynced_ns == 0)
		l->unsynced_ns = e->at_ns;
	if (l->after_ns == 0)
		l->after_ns = e->at_ns;
	leaf_set_used(l->open->memory.ptr,
		      planted(ACK_BEFORE_RECORD) ? l->open->used - size : l->open->used);
	file_later(l);
}

/* Beginning and end. */

/* Without it nothing can be promised, so it is waited for, whatever the limit says. */
static int first_leaf(struct oplog *l)
{
	int r;

	l->spare = leaf_new(l);
	if (!l->spare)
		return -ENOMEM;
	r = leaf_make(l, l->spare);
	if (r < 0) {
		l->spare = node_free(l->spare);
		return r;
	}
	l->bytes += LEAF_BYTES;
	leaf_begin(l);
	return 0;
}

int oplog_open(struct oplog *l, const struct oplog_config *config, struct loop *loop)
{
	int r;

	l->config = *config;
	l->loop = loop;
	l->again.fire = make_again;
	l->lazy.fire = lazy;
	l->sync.fire = sync_all;
	l->making = (struct log_work){ .log = l, .work = { .run = make_run, .done = make_done } };
	l->filing = (struct log_work){ .log = l, .work = { .run = file_run, .done = file_done } };
	l->waste = (struct log_waste){ .log = l, .work = { .run = waste_run, .done = waste_done } };
	list_init(&l->waste.leaves);
	if (!l->leaves.next) {
		list_init(&l->leaves);
		list_init(&l->snapshot);
	}
	l->synced_lsn = config->archive ? 0 : l->lsn;
	/* What a predecessor has made safe is written over, and may be torn until that is safe. */
	if (config->archive && l->open)
		l->wanted_lsn = l->lsn;
	if (!config->media)
		return 0;
	r = l->open ? 0 : first_leaf(l);
	if (r == 0)
		r = helper_open(loop, "log", &l->helper);
	if (r < 0)
		return r;
	make_begin(l);
	/* What was read may have been wanted safe already, and perhaps nothing else comes. */
	if (l->wanted_lsn > l->synced_lsn)
		file_begin(l);
	return 0;
}

void oplog_begun(struct oplog *l, uint64_t memory_ns)
{
	l->memory_ns = memory_ns;
	if (l->open)
		leaf_set_memory_ns(l->open->memory.ptr, memory_ns);
}

static int close_file(struct archive *a, struct leaf *leaf)
{
	char name[ARCHIVE_NAME_MAX];
	int r = 0;

	oplog_file_name(&leaf->header, name);
	while (r == 0 && leaf->synced < leaf->used) {
		uint32_t to = leaf->synced == 0 ? LEAF_HEADER : leaf->used;

		r = a->ops->write(a, name, leaf->synced, leaf->memory.ptr + leaf->synced,
				  to - leaf->synced);
		if (r == 0)
			r = a->ops->sync(a, name);
		leaf->synced = to;
	}
	return r;
}

static void close_files(struct oplog *l)
{
	struct archive *a = l->config.archive;

	for (struct list *i = l->leaves.next; a && i != &l->leaves; i = i->next) {
		struct leaf *leaf = container_of(i, struct leaf, link);

		if (leaf->memory.ptr)
			(void)close_file(a, leaf);
	}
}

static void leaves_free(struct oplog *l, struct list *leaves, bool must_drop)
{
	while (!list_is_empty(leaves)) {
		struct leaf *leaf = container_of(leaves->next, struct leaf, link);

		list_remove(&leaf->link);
		if (leaf->memory.ptr && must_drop)
			keep_drop(l->config.keep, oplog_keep_name(&leaf->header));
		if (leaf->memory.ptr)
			l->config.media->free(&leaf->memory);
		node_free(leaf);
	}
}

void oplog_close(struct oplog *l, bool must_drop)
{
	bool was_open = l->helper != NULL;

	l->is_closing = true;
	if (was_open)
		helper_close(l->helper);
	l->helper = NULL;
	if (!l->leaves.next)
		return; /* it was never opened */
	if (l->loop) {
		timer_stop(l->loop, &l->again);
		timer_stop(l->loop, &l->lazy);
		timer_stop(l->loop, &l->sync);
	}
	if (was_open)
		close_files(l);
	if (l->spare)
		list_insert(&l->leaves, &l->spare->link);
	l->spare = l->open = NULL;
	leaves_free(l, &l->leaves, must_drop);
	leaves_free(l, &l->snapshot, must_drop);
}
