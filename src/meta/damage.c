/* SPDX-License-Identifier: Apache-2.0 */
/*
 * damage: what of a log or a snapshot cannot be believed, in words: where that is, and what a
 * repair gives up; and that repair.
 *
 * Where one bit is wrong the crc tells which, and nothing is lost. Else a log ends where it is
 * damaged. Without a snapshot the records behind it fit nothing, so all of them go.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/container.h"
#include "base/node.h"
#include "meta/image.h"
#include "meta/recover_priv.h"

/* Longer than any record. */
#define RECORD_MAX ((EFFECT_BYTES_MAX > IMAGE_BYTES_MAX ? EFFECT_BYTES_MAX : IMAGE_BYTES_MAX) + 32)

/* What records are sealed with, of any header that can be read; 0: there is none. */
static uint64_t seed_of(const struct list *leaves)
{
	for (struct list *i = leaves->next; i != leaves; i = i->next) {
		const struct leaf *leaf = container_of(i, struct leaf, link);

		if (!leaf->fault)
			return leaf->header.seed;
	}
	return 0;
}

/* The records that can be found behind a place in a leaf whose header perhaps cannot be read. */
static unsigned count_behind(struct found *f, struct leaf *leaf, uint32_t at)
{
	struct leaf_header h = leaf->header;
	char name[ARCHIVE_NAME_MAX];
	const uint8_t *bytes;
	uint32_t len;

	if (leaf->fault) {
		h.seed = seed_of(&f->snapshots);
		h.seed = h.seed ? h.seed : seed_of(&f->log->leaves);
	}
	if (found_bytes(f, leaf, &bytes, &len, name) < 0)
		return 0;
	return records_behind(bytes, len, &h, at < LEAF_HEADER ? LEAF_HEADER : at).count;
}

/* What can be read of that which a repair gives up. */
static uint64_t count_lost(struct found *f, struct leaf *leaf, uint32_t at)
{
	uint64_t count = 0;
	struct list *from = &leaf->link;

	if (leaf->header.kind == LEAF_SNAPSHOT) {
		for (struct list *i = f->snapshots.next; i != &f->snapshots; i = i->next) {
			struct leaf *other = container_of(i, struct leaf, link);

			if (other->header.number > f->ret->snapshot_number)
				count += count_behind(f, other, 0);
		}
		from = f->log->leaves.next;
	}
	for (struct list *i = from; i != &f->log->leaves; i = i->next, at = 0)
		count += count_behind(f, container_of(i, struct leaf, link), at);
	return count;
}

/* What begins at `at` can be read: the header, or a record. */
static bool is_read(const struct found *f, const struct leaf *leaf, uint32_t len, uint32_t at)
{
	struct leaf_header h;
	struct record record;

	if (at > 0)
		return record_get(f->buf, len, &leaf->header, &at, &record) == 0;
	return leaf_header_get(f->buf, len, &h) == 0 && found_is_named(f, &h, &leaf->header);
}

/* How far what begins at `at` goes, if that can be believed; else to the end of its length. */
static uint32_t end_of(const uint8_t *bytes, uint32_t len, uint32_t at)
{
	struct rcur c = rcur_make(bytes + at, len - at);
	uint32_t size = at == 0 ? LEAF_HEADER : record_size(get_u32(&c));

	if (size > RECORD_MAX)
		size = 4;
	return size < len - at ? at + size : len;
}

/* What cannot be read could be, if one bit of it were another. */
static bool can_mend(struct found *f, struct leaf *leaf, uint32_t at)
{
	char name[ARCHIVE_NAME_MAX];
	const uint8_t *bytes;
	uint32_t len, end;

	if (found_bytes(f, leaf, &bytes, &len, name) < 0 || at >= len || is_read(f, leaf, len, at))
		return false;
	end = end_of(bytes, len, at);
	for (uint32_t i = at; i < end; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			f->buf[i] ^= (uint8_t)(1u << bit);
			if (is_read(f, leaf, len, at)) {
				f->ret->mend_at = i;
				f->ret->mend_byte = f->buf[i];
				return true;
			}
			f->buf[i] ^= (uint8_t)(1u << bit);
		}
	return false;
}

int damaged(struct found *f, struct leaf *leaf, uint32_t at, const char *how, ...)
{
	struct recovered *ret = f->ret;
	char why[200], name[ARCHIVE_NAME_MAX];
	va_list args;

	va_start(args, how);
	vsnprintf(why, sizeof(why), how, args);
	va_end(args);
	oplog_file_name(&leaf->header, name);
	if (leaf->memory.ptr)
		return found_fail(f, -EUCLEAN, "%s of the keeper %s", name, why);
	ret->is_damaged = true;
	ret->damaged = leaf->header;
	ret->damaged_at = at;
	ret->can_mend = can_mend(f, leaf, at);
	if (ret->can_mend)
		return found_fail(f, -EUCLEAN,
				  "%s/%s %s, in one bit: `wadi doctor --data DIR --repair` sets it "
				  "right, and nothing is lost",
				  found_where(f, leaf), name, why);
	ret->lost = count_lost(f, leaf, at);
	ret->is_all_lost = ret->snapshot_number == 0 && ret->record_count == 0;
	return found_fail(f, -EUCLEAN,
			  "%s/%s %s; `wadi doctor --data DIR --repair` %s, %llu records that can "
			  "still be read and those that cannot%s",
			  found_where(f, leaf), name, why,
			  ret->is_all_lost ? "gives up all of it"
					   : "keeps what is before it and gives up the rest",
			  (unsigned long long)ret->lost,
			  ret->is_all_lost ? ": nothing is left then" : "");
}

/* The repair. */

/* 1, and the last file of this kind that comes after a name; 0: there is none. */
static int last_after(const struct oplog_config *config, uint16_t kind, const char *after,
		      char ret[ARCHIVE_NAME_MAX])
{
	struct archive *a = config->archive;
	char name[ARCHIVE_NAME_MAX];
	struct leaf_header h;
	int r, found = 0;

	snprintf(name, sizeof(name), "%s", after);
	while ((r = a->ops->next(a, name, name)) > 0) {
		if (!oplog_file_named(name, &h) || h.shard != config->shard || h.kind != kind)
			continue;
		memcpy(ret, name, sizeof(name));
		found = 1;
	}
	return r < 0 ? r : found;
}

/* The last ones first: what is left is a beginning, whenever we are stopped. */
static int remove_after(const struct oplog_config *config, uint16_t kind, const char *after)
{
	char last[ARCHIVE_NAME_MAX];
	int r;

	while ((r = last_after(config, kind, after, last)) > 0) {
		r = config->archive->ops->remove(config->archive, last);
		if (r < 0)
			break;
	}
	return r;
}

/* All that came after the snapshot which could be used. */
static int give_up_snapshots(const struct oplog_config *config, uint64_t used)
{
	struct leaf_header h = {
		.kind = LEAF_SNAPSHOT, .shard = config->shard, .number = used, .index = 0xfffff
	};
	char name[ARCHIVE_NAME_MAX];
	int r = remove_after(config, LEAF_LOG, "");

	oplog_file_name(&h, name);
	return r < 0 ? r : remove_after(config, LEAF_SNAPSHOT, name);
}

int oplog_repair(const struct oplog_config *config, const struct recovered *damage)
{
	struct archive *a = config->archive;
	char first[ARCHIVE_NAME_MAX];
	int r;

	oplog_file_name(&damage->damaged, first);
	if (damage->can_mend) {
		r = a->ops->write(a, first, damage->mend_at, &damage->mend_byte, 1);
		return r < 0 ? r : a->ops->sync(a, first);
	}
	if (damage->damaged.kind == LEAF_SNAPSHOT)
		return give_up_snapshots(config, damage->snapshot_number);
	r = remove_after(config, LEAF_LOG, first);
	if (r < 0)
		return r;
	if (damage->damaged_at <= LEAF_HEADER)
		return a->ops->remove(a, first);
	r = a->ops->cut(a, first, damage->damaged_at);
	return r < 0 ? r : a->ops->sync(a, first);
}
