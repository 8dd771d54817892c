/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept: what a predecessor that was killed left of its indexes: their heads, and the pins of their
 * readers. Its table goes, with all that nobody views. Numbers in which there are views stay as
 * they are until those end; what they were made of is not known any more, so until then nothing of
 * the job that was exported is given back.
 *
 * A reader that nobody has come back for within SESSION_LIFE_MS is dead, or stopped: its views end,
 * and say so.
 */
#include <errno.h>

#include "base/container.h"
#include "proxy/index.h"

static int take(struct proxy *p, size_t size, struct keep_name name, struct region **ret)
{
	int r = region_take(p, size, name, ret);

	if (r == 0)
		p->index_bytes += size;
	return r;
}

static void restore_readers(struct job_index *x)
{
	struct keep *keep = x->proxy->config.keep;
	struct keep_name name = { .kind = KEEP_PINS, .owner = x->place };

	for (; keep_find(keep, name, &name) && name.kind == KEEP_PINS && name.owner == x->place;
	     name.number++) {
		struct region *pins;
		struct reader *r;

		if (take(x->proxy, INDEX_HEAD_BYTES, name, &pins) == 0 &&
		    reader_add(x, name.number, pins, &r) < 0)
			index_give_region(x->proxy, pins);
	}
}

/* Whoever has mapped something under a number finds that another life has begun. */
static void restore_numbers(struct job_index *x)
{
	for (uint32_t i = 0; i < x->writer.mapping_count; i++)
		if (pins_reclaim(&x->writer, i, x->pins, x->reader_count) ||
		    mapped_restore(x, i) < 0)
			index_writer_end_life(&x->writer, i);
}

static void restore(struct proxy *p, struct keep_name name)
{
	struct job_index *x = index_alloc(p, name.number, name.owner);
	int r = x ? take(p, INDEX_HEAD_BYTES, name, &x->head) : -ENOMEM;

	if (r == 0)
		r = take(p, INDEX_TABLE_BYTES_FIRST, (struct keep_name){ 0 }, &x->table);
	if (r == 0)
		r = index_open(x);
	if (r < 0) {
		/* Nobody can end its views, so what they are of stays until the job is over. */
		core_hold_views(p->core, name.number, true);
		if (x)
			index_unref(x);
		return;
	}
	restore_readers(x);
	restore_numbers(x);
	if (x->old_count > 0)
		core_hold_views(p->core, x->job, true);
	else
		index_end(x);
}

void indexes_restore(struct proxy *p)
{
	for (uint16_t i = 0; p->config.keep && i < p->config.indexes_max; i++) {
		struct keep_name name = { .kind = KEEP_INDEX, .owner = i };

		if (keep_find(p->config.keep, name, &name) && name.kind == KEEP_INDEX &&
		    name.owner == i)
			restore(p, name);
	}
}
