/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover: what keeper and archive have of a shard: the youngest whole snapshot, and the
 * records after it.
 *
 * A leaf that the keeper has is as its writer left it; its file may be behind. A file alone
 * comes from before the machine's end: its last records may be torn, and are cut off then, and
 * the last file may have been made and not begun. Anything else that does not fit is damage, and
 * nothing is guessed. No file is changed before all of them are read and found well.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/log.h"
#include "base/node.h"
#include "base/pack.h"
#include "meta/recover_priv.h"

#define OTHER_VERSION                                                                            \
	"another version of the log, which this wadi cannot read: start the one that wrote it; " \
	"nothing was changed"

int found_fail(struct found *f, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->ret->words, sizeof(f->ret->words), format, args);
	va_end(args);
	return err;
}

/* Whoever is given something is out of memory, or out of that for values. */
static bool is_for_memory(int err)
{
	return err == -ENOMEM || err == -ENOSPC;
}

static bool is_before(const struct leaf_header *a, const struct leaf_header *b)
{
	return a->number != b->number ? a->number < b->number : a->index < b->index;
}

/* False: there is one of that number already. */
static bool leaf_insert(struct list *head, struct leaf *leaf)
{
	struct list *at = head;

	while (at->prev != head &&
	       is_before(&leaf->header, &container_of(at->prev, struct leaf, link)->header))
		at = at->prev;
	if (at->prev != head &&
	    !is_before(&container_of(at->prev, struct leaf, link)->header, &leaf->header))
		return false;
	list_insert(at, &leaf->link);
	return true;
}

static int leaf_new(struct leaf **ret)
{
	struct leaf *leaf = node_alloc(sizeof(*leaf));

	if (!leaf)
		return -ENOMEM;
	leaf->memory.fd = -1;
	leaf->is_closed = true;
	list_init(&leaf->link);
	*ret = leaf;
	return 0;
}

static void leaf_free(struct oplog *l, struct leaf *leaf)
{
	if (leaf->memory.ptr)
		l->config.media->free(&leaf->memory);
	list_remove(&leaf->link);
	node_free(leaf);
}

/* The keeper's. */

static bool is_ours(const struct oplog *l, const struct leaf_header *h, uint16_t kind)
{
	return h->kind == kind && h->shard == l->config.shard &&
	       (h->packed == 0 || (kind == LEAF_SNAPSHOT && h->packed < LEAF_BYTES));
}

static int take(struct found *f, struct keep_name name, uint16_t kind)
{
	struct oplog *l = f->log;
	struct leaf *leaf;
	int r = leaf_new(&leaf);

	if (r < 0)
		return r;
	r = keep_take(l->config.keep, name, &leaf->memory);
	/* The keeper has it, and we cannot have it now: who is started after us may. */
	if (r < 0 && r != -ENOENT && r != -EBADF) {
		leaf_free(l, leaf);
		return found_fail(f, r, "what the keeper has cannot be mapped");
	}
	if (r == 0)
		r = leaf_header_get(leaf->memory.ptr, leaf->memory.size, &leaf->header);
	if (r == -ENOTSUP) {
		leaf_free(l, leaf);
		return found_fail(f, r, "what the keeper has is of " OTHER_VERSION);
	}
	if (r == 0 &&
	    (leaf->memory.size != leaf_size(&leaf->header) || !is_ours(l, &leaf->header, kind)))
		r = -ENODATA; /* never begun */
	if (r == 0) {
		leaf->used = leaf_used(leaf->memory.ptr);
		if (leaf->used > LEAF_BYTES || leaf->used < LEAF_HEADER)
			r = -ENODATA;
	}
	if (r == 0 && leaf_insert(kind == LEAF_LOG ? &l->leaves : &f->snapshots, leaf)) {
		l->bytes += kind == LEAF_LOG ? LEAF_BYTES : 0;
		return 0;
	}
	keep_drop(l->config.keep, name);
	leaf_free(l, leaf);
	return 0;
}

static int take_all(struct found *f, uint16_t keep_kind, uint16_t kind)
{
	struct keep_name name = { keep_kind, f->log->config.shard, 0 };
	int r = 0;

	while (r == 0 && keep_find(f->log->config.keep, name, &name) && name.kind == keep_kind &&
	       name.owner == f->log->config.shard) {
		r = take(f, name, kind);
		if (name.number++ == UINT64_MAX)
			break;
	}
	return r;
}

/* The archive's. */

bool found_is_named(const struct found *f, const struct leaf_header *h,
		    const struct leaf_header *named)
{
	return is_ours(f->log, h, named->kind) && !h->packed && h->number == named->number &&
	       h->index == named->index;
}

static int list_file(struct found *f, const char *name, const struct leaf_header *named)
{
	struct oplog *l = f->log;
	struct archive *a = l->config.archive;
	uint8_t bytes[LEAF_HEADER];
	struct leaf *leaf = NULL;
	int64_t got = a->ops->read(a, name, 0, bytes, sizeof(bytes));
	int r = got < 0 ? (int)got : leaf_new(&leaf);

	if (r < 0)
		return found_fail(f, r, "%s/%s cannot be read", a->ops->where(a), name);
	leaf->fault =
		got < LEAF_HEADER ? -ENODATA : leaf_header_get(bytes, sizeof(bytes), &leaf->header);
	if (leaf->fault == -ENOTSUP) {
		leaf_free(l, leaf);
		return found_fail(f, -ENOTSUP, "%s/%s is of " OTHER_VERSION, a->ops->where(a),
				  name);
	}
	if (leaf->fault == 0 && !found_is_named(f, &leaf->header, named))
		leaf->fault = -EBADMSG;
	if (leaf->fault < 0)
		leaf->header = *named;
	if (!leaf_insert(named->kind == LEAF_LOG ? &l->leaves : &f->snapshots, leaf))
		leaf_free(l, leaf); /* the keeper has it */
	return 0;
}

static int list_files(struct found *f)
{
	struct archive *a = f->log->config.archive;
	char name[ARCHIVE_NAME_MAX] = "";
	struct leaf_header named;
	int r = 0, n = 0;

	while (r == 0 && a && (n = a->ops->next(a, name, name)) > 0)
		if (oplog_file_named(name, &named) && named.shard == f->log->config.shard)
			r = list_file(f, name, &named);
	return n < 0 ? found_fail(f, n, "%s cannot be listed", a->ops->where(a)) : r;
}

int found_bytes(struct found *f, struct leaf *leaf, const uint8_t **ret, uint32_t *ret_len,
		char name[ARCHIVE_NAME_MAX])
{
	struct archive *a = f->log->config.archive;
	int64_t got;

	oplog_file_name(&leaf->header, name);
	if (leaf->header.packed) {
		got = unpack_bytes(f->buf + LEAF_HEADER, LEAF_BYTES - LEAF_HEADER,
				   leaf->memory.ptr + LEAF_HEADER, leaf->header.packed);
		if (got == -ENOMEM)
			return found_fail(f, -ENOMEM, "no memory to unpack %s", name);
		leaf->fault = got < 0 ? (int)got : 0;
		*ret = f->buf;
		*ret_len = LEAF_HEADER + (got > 0 ? (uint32_t)got : 0);
		return 0;
	}
	if (leaf->memory.ptr) {
		*ret = leaf->memory.ptr;
		*ret_len = leaf->used;
		return 0;
	}
	got = a->ops->read(a, name, 0, f->buf, LEAF_BYTES);
	if (got < 0)
		return found_fail(f, (int)got, "%s/%s cannot be read", a->ops->where(a), name);
	*ret = f->buf;
	*ret_len = (uint32_t)got;
	return 0;
}

const char *found_where(const struct found *f, const struct leaf *leaf)
{
	return leaf->memory.ptr ? "the keeper"
				: f->log->config.archive->ops->where(f->log->config.archive);
}

/* Snapshots. */

/* NULL: that is the head. */
static struct leaf *of_list(const struct list *l, const struct list *head)
{
	return l == head ? NULL : container_of((struct list *)l, struct leaf, link);
}

/* 0. The oldest one is told of, if nothing before it helps: one after it was perhaps not finished.
 */
static int not_whole(struct found *f, struct leaf *leaf, uint32_t at, const char *how)
{
	f->broken = leaf;
	f->broken_at = at;
	f->broken_how = how;
	return 0;
}

/* Its records, to `to` if it must be used. 1: it is whole; 0: it is not. */
static int read_snapshot(struct found *f, struct leaf *first, bool must_use)
{
	struct leaf *last = first;
	uint32_t index = 0, len = 0, at = 0;
	bool is_whole = false;

	for (struct leaf *leaf = first; leaf && leaf->header.number == first->header.number;
	     leaf = of_list(leaf->link.next, &f->snapshots)) {
		char name[ARCHIVE_NAME_MAX];
		const uint8_t *bytes;
		struct record record;
		int r = found_bytes(f, leaf, &bytes, &len, name);

		if (r < 0)
			return r;
		last = leaf;
		if (leaf->fault)
			return not_whole(f, leaf, 0, "is damaged");
		if (leaf->header.index != index++ || is_whole)
			return not_whole(f, leaf, 0, "comes behind a gap");
		at = LEAF_HEADER;
		while ((r = record_get(bytes, len, &leaf->header, &at, &record)) == 0) {
			if (record.kind == RECORD_LAST)
				is_whole = true;
			else if (must_use)
				r = f->to->image(f->to->owner, record.slot, record.bytes);
			if (is_for_memory(r))
				return found_fail(f, r, "no memory for an image");
			if (r < 0)
				return found_fail(f, -EUCLEAN,
						  "an image in %s of %s, before byte %u, does not "
						  "fit what came before it",
						  name, found_where(f, leaf), at);
		}
		if (at < len)
			return not_whole(f, leaf, at, "is damaged");
	}
	return is_whole ? 1 : not_whole(f, last, at, "ends, and is not whole,");
}

static int begin(struct found *f, const struct leaf_header *h)
{
	struct oplog *l = f->log;

	if (h->shard_count != l->config.shard_count)
		return found_fail(
			f, -EINVAL,
			"it was written by %u metadata shards, and there are %u now; start with "
			"--shards %u",
			h->shard_count, l->config.shard_count, h->shard_count);
	if (f->has_begun)
		return h->seed == l->seed && h->incarnation == l->incarnation
			       ? 0
			       : found_fail(f, -EINVAL,
					    "two servers wrote here, whose data do not mix; "
					    "each needs a directory of its own");
	f->has_begun = true;
	l->seed = h->seed;
	l->incarnation = h->incarnation;
	return f->to->begin(f->to->owner, h);
}

/* The youngest that is whole. */
static int use_snapshot(struct found *f)
{
	struct list *at = f->snapshots.prev;

	while (at != &f->snapshots) {
		struct leaf *first = of_list(at, &f->snapshots), *before;
		int r;

		while ((before = of_list(first->link.prev, &f->snapshots)) != NULL &&
		       before->header.number == first->header.number)
			first = before;
		r = read_snapshot(f, first, false);
		if (r == 1) {
			r = begin(f, &first->header);
			r = r < 0 ? r : read_snapshot(f, first, true);
		}
		if (r < 0)
			return r;
		if (r == 1) {
			f->ret->snapshot_number = first->header.number;
			f->ret->snapshot_lsn = f->log->lsn = first->header.lsn;
			return 0;
		}
		at = first->link.prev;
	}
	return 0;
}

/* Those that were not used are of no use to anybody; the one that was stays. */
static void snapshots_over(struct found *f)
{
	struct oplog *l = f->log;

	while (!list_is_empty(&f->snapshots)) {
		struct leaf *leaf = of_list(f->snapshots.next, &f->snapshots);
		char name[ARCHIVE_NAME_MAX];

		list_remove(&leaf->link);
		if (leaf->header.number == f->ret->snapshot_number) {
			list_insert(&l->snapshot, &leaf->link);
			continue;
		}
		oplog_file_name(&leaf->header, name);
		keep_drop(l->config.keep, oplog_keep_name(&leaf->header));
		if (l->config.archive)
			(void)l->config.archive->ops->remove(l->config.archive, name);
		leaf_free(l, leaf);
	}
}

/* The log. */

static int replay(struct found *f, struct leaf *leaf, uint32_t at, const struct record *record)
{
	struct oplog *l = f->log;
	uint32_t from = at - record_size(record->bytes.len);
	int r;

	if (record->lsn <= l->lsn)
		return 0; /* it is in the snapshot */
	if (record->lsn != l->lsn + 1)
		return damaged(f, leaf, from,
			       "goes on with record %llu at byte %u, but %llu comes next: a file "
			       "is missing",
			       (unsigned long long)record->lsn, from,
			       (unsigned long long)l->lsn + 1);
	r = f->to->record(f->to->owner, record->slot, record->lsn, record->bytes);
	if (is_for_memory(r))
		return found_fail(f, r, "no memory for record %llu",
				  (unsigned long long)record->lsn);
	if (r < 0)
		return damaged(f, leaf, from,
			       "has record %llu at byte %u, which does not fit what came before it",
			       (unsigned long long)record->lsn, from);
	l->lsn = record->lsn;
	f->ret->record_count++;
	return 0;
}

/*
 * A torn tail: only of a file, only of the last one, and only if no record behind it says
 * that those bytes were on the disk. What was not may be there in any order.
 */
static int cut(struct found *f, struct leaf *leaf, const uint8_t *bytes, uint32_t len, uint32_t at)
{
	bool is_last = leaf->link.next == &f->log->leaves;
	struct records_behind behind = records_behind(bytes, len, &leaf->header, at);

	if (leaf->memory.ptr || !is_last || behind.synced > at)
		return damaged(f, leaf, at, "is damaged at byte %u", at);
	f->ret->torn_bytes += len - at;
	f->torn = leaf;
	f->torn_at = at;
	f->torn_records = behind.count;
	return 0;
}

static int replay_leaf(struct found *f, struct leaf *leaf)
{
	uint32_t len, at = LEAF_HEADER;
	char name[ARCHIVE_NAME_MAX];
	const uint8_t *bytes;
	struct record record;
	int r = leaf->fault ? damaged(f, leaf, 0, "is damaged at byte 0") : begin(f, &leaf->header);

	if (r == 0)
		r = found_bytes(f, leaf, &bytes, &len, name);
	if (r < 0)
		return r;
	while ((r = record_get(bytes, len, &leaf->header, &at, &record)) == 0) {
		r = record.kind == RECORD_EFFECT
			    ? replay(f, leaf, at, &record)
			    : damaged(f, leaf, at, "has a record of a snapshot before byte %u", at);
		if (r < 0)
			return r;
	}
	leaf->last_lsn = f->log->lsn;
	leaf->used = at;
	f->log->begun_bytes += at;
	if (!leaf->memory.ptr)
		leaf->filed = at;
	/* Zeros where a file was made longer than what was written there are a tear, too. */
	return r == -EBADMSG || at < len ? cut(f, leaf, bytes, len, at) : 0;
}

static int broken_snapshot(struct found *f)
{
	return damaged(f, f->broken, f->broken_at, "%s at byte %u", f->broken_how, f->broken_at);
}

/* Leaves that the snapshot covers may be there still, or some of them. */
static int replay_all(struct found *f)
{
	struct oplog *l = f->log;
	int r = f->broken && list_is_empty(&l->leaves) ? broken_snapshot(f) : 0;

	for (struct list *i = l->leaves.next; i != &l->leaves && r == 0; i = i->next) {
		struct leaf *leaf = container_of(i, struct leaf, link);

		if (leaf->header.number >= l->next_number)
			l->next_number = leaf->header.number + 1;
		if (leaf->header.lsn <= l->lsn)
			r = replay_leaf(f, leaf);
		else if (f->broken && i == l->leaves.next)
			r = broken_snapshot(f);
		else
			r = damaged(f, leaf, 0,
				    "begins with record %llu, but %llu comes next: what came "
				    "before is missing",
				    (unsigned long long)leaf->header.lsn + 1,
				    (unsigned long long)l->lsn + 1);
	}
	return r;
}

/*
 * The machine ended before the header of the last file was there. That is synced by itself, so
 * nothing is behind it then.
 */
static int leave_unbegun(struct found *f)
{
	struct leaf *last = of_list(f->log->leaves.prev, &f->log->leaves);
	char name[ARCHIVE_NAME_MAX];
	const uint8_t *bytes;
	uint32_t len;
	int r;

	if (!last || last->fault != -ENODATA)
		return 0;
	r = found_bytes(f, last, &bytes, &len, name);
	if (r < 0)
		return r;
	if (len > LEAF_HEADER && !leaf_is_zero(bytes + LEAF_HEADER, len - LEAF_HEADER))
		return 0; /* damaged */
	list_remove(&last->link);
	f->unbegun = last;
	return 0;
}

/* The last leaf is written on, if the keeper has it. */
static void go_on(struct found *f)
{
	struct oplog *l = f->log;
	struct leaf *last = of_list(l->leaves.prev, &l->leaves);

	if (!last || !last->memory.ptr)
		return;
	f->ret->has_clock = true;
	f->ret->base_ns = last->header.base_ns;
	f->ret->memory = last->header.memory;
	f->ret->memory_ns = last->header.memory_ns;
	last->is_closed = false;
	l->open = last;
}

static int settle_files(struct found *f)
{
	struct archive *a = f->log->config.archive;
	struct leaf *last = of_list(f->log->leaves.prev, &f->log->leaves);
	char name[ARCHIVE_NAME_MAX];
	int r = 0;

	if (f->unbegun) {
		oplog_file_name(&f->unbegun->header, name);
		log_warning("a file of the log that was never begun is removed where=%s/%s",
			    a->ops->where(a), name);
		r = a->ops->remove(a, name);
	}
	if (r == 0 && f->torn) {
		oplog_file_name(&f->torn->header, name);
		log_warning("the log ended in the middle of a record, of which no durable job was "
			    "told: it is cut off where=%s/%s offset=%u bytes=%llu records=%u",
			    a->ops->where(a), name, f->torn_at,
			    (unsigned long long)f->ret->torn_bytes, f->torn_records);
		r = a->ops->cut(a, name, f->torn_at);
	}
	/*
	 * The next one's file is not to be safer than what comes before it: nobody knows how far a
	 * predecessor had synced that.
	 */
	if (r == 0 && last && !last->memory.ptr) {
		oplog_file_name(&last->header, name);
		r = a->ops->sync(a, name);
	}
	return r < 0 ? found_fail(f, r, "%s/%s cannot be changed", a->ops->where(a), name) : 0;
}

int oplog_recover(struct oplog *l, const struct oplog_config *config, const struct recovery *to,
		  struct recovered *ret)
{
	struct found f = { .log = l, .to = to, .ret = ret };
	int r;

	*ret = (struct recovered){ 0 };
	l->config = *config;
	list_init(&l->leaves);
	list_init(&l->snapshot);
	list_init(&f.snapshots);
	f.buf = node_alloc(LEAF_BYTES);
	r = f.buf ? 0 : -ENOMEM;
	if (r == 0)
		r = take_all(&f, KEEP_LOG, LEAF_LOG);
	if (r == 0)
		r = take_all(&f, KEEP_SNAPSHOT, LEAF_SNAPSHOT);
	if (r == 0)
		r = list_files(&f);
	if (r == 0)
		r = leave_unbegun(&f);
	ret->is_found = !list_is_empty(&l->leaves) || !list_is_empty(&f.snapshots);
	if (r == 0)
		r = use_snapshot(&f);
	if (r == 0)
		r = replay_all(&f);
	if (r == 0)
		go_on(&f);
	if (r == 0 && !to->is_look)
		r = settle_files(&f);
	if (r == 0 && !to->is_look)
		snapshots_over(&f);
	if (f.unbegun)
		leaf_free(l, f.unbegun);
	while (!list_is_empty(&f.snapshots))
		leaf_free(l, of_list(f.snapshots.next, &f.snapshots));
	node_free(f.buf);
	return r;
}
