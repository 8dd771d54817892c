/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover: what keeper and archive have of a shard: the youngest whole snapshot, and the
 * records after it.
 *
 * A leaf that the keeper has is as its writer left it; its file may be behind. A file alone
 * comes from before the machine's end: its last records may be torn, and are cut off then.
 * Anything else that does not fit is damage, and nothing is guessed.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/log.h"
#include "base/node.h"
#include "base/pack.h"
#include "meta/oplog.h"

struct found {
	struct oplog *log;
	const struct recovery *to;
	struct recovered *ret;
	uint8_t *buf;          /* LEAF_BYTES, for files */
	struct list snapshots; /* leaves of snapshots, in order of number and index */
	bool has_begun;
};

static int fail(struct found *f, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(struct found *f, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->ret->words, sizeof(f->ret->words), format, args);
	va_end(args);
	return err;
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
	if (r == 0 &&
	    (leaf_header_get(leaf->memory.ptr, leaf->memory.size, &leaf->header) < 0 ||
	     leaf->memory.size != leaf_size(&leaf->header) || !is_ours(l, &leaf->header, kind)))
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
	return r == -ENOMEM ? r : 0;
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

static int list_file(struct found *f, const char *name, uint16_t kind)
{
	struct oplog *l = f->log;
	struct archive *a = l->config.archive;
	uint8_t bytes[LEAF_HEADER];
	struct leaf *leaf = NULL;
	int64_t got = a->ops->read(a, name, 0, bytes, sizeof(bytes));
	int r = got < 0 ? (int)got : leaf_new(&leaf);

	if (r < 0)
		return fail(f, r, "%s/%s cannot be read", a->ops->where(a), name);
	if (leaf_header_get(bytes, (size_t)got, &leaf->header) < 0 ||
	    !is_ours(l, &leaf->header, kind) || leaf->header.packed) {
		/* The machine ended before its first bytes were there: no record is in it. */
		log_warning("a file of the log that was never begun is removed where=%s/%s",
			    a->ops->where(a), name);
		(void)a->ops->remove(a, name);
		leaf_free(l, leaf);
		return 0;
	}
	if (!leaf_insert(kind == LEAF_LOG ? &l->leaves : &f->snapshots, leaf))
		leaf_free(l, leaf); /* the keeper has it */
	return 0;
}

static int list_files(struct found *f)
{
	struct archive *a = f->log->config.archive;
	char log[24], snapshot[24], name[ARCHIVE_NAME_MAX] = "";
	int r = 0, n = 0;

	snprintf(log, sizeof(log), "log-%u-", f->log->config.shard);
	snprintf(snapshot, sizeof(snapshot), "snapshot-%u-", f->log->config.shard);
	while (r == 0 && a && (n = a->ops->next(a, name, name)) > 0) {
		if (strncmp(name, log, strlen(log)) == 0)
			r = list_file(f, name, LEAF_LOG);
		else if (strncmp(name, snapshot, strlen(snapshot)) == 0)
			r = list_file(f, name, LEAF_SNAPSHOT);
	}
	return n < 0 ? fail(f, n, "%s cannot be listed", a->ops->where(a)) : r;
}

/* A leaf's bytes: its memory, or its file in our buffer. */
static int leaf_bytes(struct found *f, struct leaf *leaf, const uint8_t **ret, uint32_t *ret_len,
		      char name[ARCHIVE_NAME_MAX])
{
	struct archive *a = f->log->config.archive;
	int64_t got;

	oplog_file_name(&leaf->header, name);
	if (leaf->header.packed) {
		*ret = f->buf;
		*ret_len = LEAF_HEADER + (uint32_t)unpack_bytes(f->buf + LEAF_HEADER,
								LEAF_BYTES - LEAF_HEADER,
								leaf->memory.ptr + LEAF_HEADER,
								leaf->header.packed);
		return 0;
	}
	if (leaf->memory.ptr) {
		*ret = leaf->memory.ptr;
		*ret_len = leaf->used;
		return 0;
	}
	got = a->ops->read(a, name, 0, f->buf, LEAF_BYTES);
	if (got < 0)
		return fail(f, (int)got, "%s/%s cannot be read", a->ops->where(a), name);
	*ret = f->buf;
	*ret_len = (uint32_t)got;
	return 0;
}

static const char *where(const struct found *f, const struct leaf *leaf)
{
	return leaf->memory.ptr ? "the keeper"
				: f->log->config.archive->ops->where(f->log->config.archive);
}

/* Snapshots. */

static struct leaf *of_snapshot(const struct found *f, const struct list *l)
{
	return l == &f->snapshots ? NULL : container_of((struct list *)l, struct leaf, link);
}

/* Its records, to `to` if that is not NULL. 1: it is whole; 0: it is not. */
static int read_snapshot(struct found *f, struct leaf *first, bool must_use)
{
	uint32_t index = 0;
	bool is_whole = false;

	for (struct leaf *leaf = first; leaf && leaf->header.number == first->header.number;
	     leaf = of_snapshot(f, leaf->link.next)) {
		uint32_t len, at = LEAF_HEADER;
		char name[ARCHIVE_NAME_MAX];
		const uint8_t *bytes;
		struct record record;
		int r = leaf_bytes(f, leaf, &bytes, &len, name);

		if (r < 0 || leaf->header.index != index++ || is_whole)
			return r < 0 ? r : 0;
		while ((r = record_get(bytes, len, &leaf->header, &at, &record)) == 0) {
			if (record.kind == RECORD_LAST)
				is_whole = true;
			else if (must_use)
				r = f->to->image(f->to->owner, record.slot, record.bytes);
			if (r < 0)
				return fail(f, r == -ENOMEM ? r : -EUCLEAN,
					    "an image in %s of %s, before byte %u, does not fit "
					    "what came before it",
					    name, where(f, leaf), at);
		}
		if (r != -ENODATA)
			return 0;
	}
	return is_whole;
}

static int begin(struct found *f, const struct leaf_header *h)
{
	struct oplog *l = f->log;

	if (h->shard_count != l->config.shard_count)
		return fail(
			f, -EINVAL,
			"it was written by %u metadata shards, and there are %u now; start with "
			"--shards %u",
			h->shard_count, l->config.shard_count, h->shard_count);
	if (f->has_begun)
		return h->seed == l->seed && h->incarnation == l->incarnation
			       ? 0
			       : fail(f, -EINVAL,
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
		struct leaf *first = of_snapshot(f, at), *before;
		int r;

		while ((before = of_snapshot(f, first->link.prev)) != NULL &&
		       before->header.number == first->header.number)
			first = before;
		r = begin(f, &first->header);
		if (r == 0)
			r = read_snapshot(f, first, false);
		if (r == 1)
			r = read_snapshot(f, first, true);
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
		struct leaf *leaf = of_snapshot(f, f->snapshots.next);
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

static void note_damage(struct found *f, const struct leaf *leaf, uint32_t at)
{
	f->ret->is_damaged = leaf->memory.ptr == NULL;
	f->ret->damaged = leaf->header;
	f->ret->damaged_at = at;
}

static int damaged(struct found *f, const struct leaf *leaf, const char *name, uint32_t at,
		   unsigned behind)
{
	note_damage(f, leaf, at);
	return fail(
		f, -EUCLEAN,
		"%s/%s is damaged at byte %u, and at least %u records come behind that; "
		"`wadi doctor --data DIR --repair` keeps what is before it and gives up the rest",
		where(f, leaf), name, at, behind);
}

static int replay(struct found *f, const struct leaf *leaf, const char *name, uint32_t at,
		  const struct record *record)
{
	struct oplog *l = f->log;
	int r;

	if (record->lsn <= l->lsn)
		return 0; /* it is in the snapshot */
	if (record->lsn != l->lsn + 1) {
		note_damage(f, leaf, at - record_size(record->bytes.len));
		return fail(f, -EUCLEAN,
			    "%s/%s goes on with record %llu before byte %u, but %llu comes next: a "
			    "file is missing; `wadi doctor --data DIR --repair` keeps what is "
			    "before it",
			    where(f, leaf), name, (unsigned long long)record->lsn, at,
			    (unsigned long long)l->lsn + 1);
	}
	r = f->to->record(f->to->owner, record->slot, record->lsn, record->bytes);
	if (r < 0 && r != -ENOMEM && r != -ENOSPC)
		note_damage(f, leaf, at - record_size(record->bytes.len));
	if (r < 0)
		return fail(
			f, r == -ENOMEM || r == -ENOSPC ? r : -EUCLEAN,
			"record %llu in %s/%s, before byte %u, does not fit what came before it "
			"(%s)",
			(unsigned long long)record->lsn, where(f, leaf), name, at,
			r == -ENOMEM || r == -ENOSPC ? "no memory" : "damaged");
	l->lsn = record->lsn;
	f->ret->record_count++;
	return 0;
}

/*
 * A torn tail: only of a file, only of the last one, and only if no record behind it says
 * that those bytes were on the disk. What was not may be there in any order.
 */
static int cut(struct found *f, struct leaf *leaf, const char *name, const uint8_t *bytes,
	       uint32_t len, uint32_t at)
{
	struct archive *a = f->log->config.archive;
	bool is_last = leaf->link.next == &f->log->leaves;
	struct records_behind behind = records_behind(bytes, len, &leaf->header, at);

	if (leaf->memory.ptr || !is_last || behind.synced > at)
		return damaged(f, leaf, name, at, behind.count + !is_last);
	f->ret->torn_bytes += len - at;
	log_warning("the log ended in the middle of a record, of which no durable job was told: it "
		    "is cut off where=%s/%s offset=%u bytes=%u records=%u",
		    where(f, leaf), name, at, len - at, behind.count);
	return a->ops->cut(a, name, at);
}

static int replay_leaf(struct found *f, struct leaf *leaf)
{
	uint32_t len, at = LEAF_HEADER;
	char name[ARCHIVE_NAME_MAX];
	const uint8_t *bytes;
	struct record record;
	int r = begin(f, &leaf->header);

	if (r == 0)
		r = leaf_bytes(f, leaf, &bytes, &len, name);
	if (r < 0)
		return r;
	while ((r = record_get(bytes, len, &leaf->header, &at, &record)) == 0) {
		if (record.kind != RECORD_EFFECT)
			return damaged(f, leaf, name, at, 0);
		r = replay(f, leaf, name, at, &record);
		if (r < 0)
			return r;
	}
	leaf->last_lsn = f->log->lsn;
	leaf->used = at;
	f->log->begun_bytes += at;
	if (!leaf->memory.ptr)
		leaf->filed = at;
	/* Zeros where a file was made longer than what was written there are a tear, too. */
	if (r == -EBADMSG || (at < len && leaf->memory.ptr))
		return cut(f, leaf, name, bytes, len, at);
	return at < len ? cut(f, leaf, name, bytes, len, at) : 0;
}

/* Leaves that the snapshot covers may be there still, or some of them. */
static int replay_all(struct found *f)
{
	struct oplog *l = f->log;
	int r = 0;

	for (struct list *i = l->leaves.next; i != &l->leaves && r == 0; i = i->next) {
		struct leaf *leaf = container_of(i, struct leaf, link);

		if (leaf->header.number >= l->next_number)
			l->next_number = leaf->header.number + 1;
		if (leaf->header.lsn > l->lsn)
			note_damage(f, leaf, 0);
		if (leaf->header.lsn > l->lsn)
			r = fail(f, -EUCLEAN,
				 "the log in %s begins with record %llu, but %llu is needed; "
				 "without "
				 "it nothing that came later can be believed",
				 where(f, leaf), (unsigned long long)leaf->header.lsn + 1,
				 (unsigned long long)l->lsn + 1);
		if (r == 0)
			r = replay_leaf(f, leaf);
	}
	return r;
}

/*
 * The last leaf is written on, if the keeper has it. If not, the next one's file is not to
 * be safer than what comes before it: nobody knows how far a predecessor had synced that.
 */
static int go_on(struct found *f)
{
	struct oplog *l = f->log;
	struct archive *a = l->config.archive;
	char name[ARCHIVE_NAME_MAX];
	struct leaf *last;
	int r;

	if (list_is_empty(&l->leaves))
		return 0;
	last = container_of(l->leaves.prev, struct leaf, link);
	if (last->memory.ptr) {
		f->ret->has_clock = true;
		f->ret->base_ns = last->header.base_ns;
		f->ret->memory = last->header.memory;
		last->is_closed = false;
		l->open = last;
		return 0;
	}
	oplog_file_name(&last->header, name);
	r = a->ops->sync(a, name);
	return r < 0 ? fail(f, r, "%s/%s cannot be synced", a->ops->where(a), name) : 0;
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
	ret->is_found = !list_is_empty(&l->leaves) || !list_is_empty(&f.snapshots);
	if (r == 0)
		r = use_snapshot(&f);
	if (r == 0)
		r = replay_all(&f);
	if (r == 0)
		r = go_on(&f);
	if (r == 0)
		snapshots_over(&f);
	while (!list_is_empty(&f.snapshots))
		leaf_free(l, of_snapshot(&f, f.snapshots.next));
	node_free(f.buf);
	return r;
}

/* Records that can be read in a file from `at` on. */
static unsigned count_records(struct archive *a, const char *name, uint8_t *buf, uint32_t at)
{
	int64_t len = a->ops->read(a, name, 0, buf, LEAF_BYTES);
	struct leaf_header h;

	if (len < LEAF_HEADER || leaf_header_get(buf, (size_t)len, &h) < 0)
		return 0;
	return records_behind(buf, (uint32_t)len, &h, at < LEAF_HEADER ? LEAF_HEADER : at).count;
}

/* 1, and the last file of the log that comes after `first`; 0: there is none. */
static int last_after(struct archive *a, uint16_t shard, const char *first,
		      char ret[ARCHIVE_NAME_MAX])
{
	char log[24], name[ARCHIVE_NAME_MAX];
	int r, found = 0;

	snprintf(log, sizeof(log), "log-%u-", shard);
	memcpy(name, first, sizeof(name));
	while ((r = a->ops->next(a, name, name)) > 0 && strncmp(name, log, strlen(log)) == 0) {
		memcpy(ret, name, sizeof(name));
		found = 1;
	}
	return r < 0 ? r : found;
}

int oplog_repair(const struct oplog_config *config, const struct recovered *damage,
		 uint64_t *ret_lost)
{
	char first[ARCHIVE_NAME_MAX], last[ARCHIVE_NAME_MAX];
	uint8_t *buf = node_alloc(LEAF_BYTES);
	struct archive *a = config->archive;
	int r = 0;

	*ret_lost = 0;
	if (!buf)
		return -ENOMEM;
	oplog_file_name(&damage->damaged, first);
	/* The last ones first: what is left is a beginning, whenever we are stopped. */
	while (r == 0 && (r = last_after(a, config->shard, first, last)) > 0) {
		*ret_lost += count_records(a, last, buf, 0);
		r = a->ops->remove(a, last);
	}
	if (r == 0) {
		*ret_lost += count_records(a, first, buf, damage->damaged_at);
		r = damage->damaged_at <= LEAF_HEADER ? a->ops->remove(a, first)
						      : a->ops->cut(a, first, damage->damaged_at);
	}
	if (r == 0 && damage->damaged_at > LEAF_HEADER)
		r = a->ops->sync(a, first);
	node_free(buf);
	return r;
}
