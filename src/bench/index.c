/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of the host attach alone: what a function does to get an object that is there,
 * from its name to its first byte and back, with nobody else in between: hash, clock, entry,
 * pin, second look, release. The other side is in this process, too, but is not called.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/container.h"
#include "base/limits.h"
#include "base/node.h"
#include "bench/alone.h"
#include "bench/cell.h"
#include "shm/memory.h"
#include "shm/view.h"

#define SEED        42
#define NAMES_MAX   100000
#define MAPPING     0
#define REGIONS     4
#define LEASE_NS    (3600ull * 1000000000) /* longer than any run */
#define OBJECT_SKIP 64
#define ENTRY_BYTES 128 /* of the table */

struct index_bench {
	struct alone alone;
	struct memory regions[REGIONS]; /* head, table, pins, bytes */
	struct index_writer writer;
	struct viewer viewer;
	struct mapping mapping, *mappings[MAPPING + 1];
	unsigned sum; /* so that the first byte is read */
};

static struct hash_128 hash_of(uint64_t n)
{
	char path[16] = "part/";

	for (unsigned i = 14; i > 4; i--, n /= 10)
		path[i] = (char)('0' + n % 10);
	return index_hash(path, 15, SEED);
}

static int get(struct alone *a, uint64_t n)
{
	struct index_bench *t = container_of(a, struct index_bench, alone);
	struct view view;
	int r = view_get(&t->viewer, hash_of(n), node_now_ns(), &view);

	if (r == -ENOENT) /* one of few that others pushed out */
		return 0;
	if (r < 0)
		return r;
	t->sum += *view.ptr;
	return view_release(&t->viewer, &view);
}

static uint64_t names_of(const struct index_bench *t)
{
	return t->alone.b->objects < NAMES_MAX ? t->alone.b->objects : NAMES_MAX;
}

/* The table as a proxy has it after it grew: half full. */
static int make_regions(struct index_bench *t)
{
	uint64_t names = names_of(t), bytes = t->alone.size * names;
	const size_t sizes[REGIONS] = { SEGMENT_PAGE,
					(names * 2 * ENTRY_BYTES / SEGMENT_PAGE + 1) * SEGMENT_PAGE,
					SEGMENT_PAGE,
					bytes < SEGMENT_BYTES_MAX
						? (bytes / SEGMENT_PAGE + 1) * SEGMENT_PAGE
						: SEGMENT_BYTES_MAX };

	for (unsigned i = 0; i < REGIONS; i++) {
		int r = media_memfd.make(sizes[i], &t->regions[i]);

		if (r == 0)
			r = media_memfd.fill(&t->regions[i], 0, sizes[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int open_index(struct index_bench *t)
{
	const struct memory *m = t->regions;
	int r = make_regions(t);

	if (r == 0)
		r = index_writer_open(&t->writer, m[0].ptr, m[0].size, m[1].ptr, m[1].size, SEED);
	if (r < 0)
		return r;
	index_writer_lease(&t->writer, node_now_ns() + LEASE_NS);
	t->mapping = (struct mapping){ .ptr = m[3].ptr, .len = m[3].size };
	t->mappings[MAPPING] = &t->mapping;
	t->viewer = (struct viewer){ .pins = pins_of(m[2].ptr, m[2].size),
				     .mappings = t->mappings,
				     .mapping_count = MAPPING + 1 };
	r = index_reader_open(&t->viewer.index, m[0].ptr, m[0].size);
	return r < 0 ? r : index_reader_table(&t->viewer.index, m[1].ptr, m[1].size);
}

static int put_all(struct index_bench *t)
{
	uint64_t places = (t->mapping.len - t->alone.size) / OBJECT_SKIP + 1;

	for (uint64_t n = 0; n < names_of(t); n++) {
		struct index_item item = { .mapping = MAPPING,
					   .offset = n % places * OBJECT_SKIP,
					   .len = t->alone.size,
					   .version = n + 1 };
		int r = index_writer_put(&t->writer, hash_of(n), &item);

		if (r < 0)
			return r;
	}
	return 0;
}

static int measure(struct index_bench *t)
{
	int r = open_index(t);

	if (r == 0)
		r = put_all(t);
	if (r == 0)
		r = alone_run(&t->alone, names_of(t), UINT64_MAX, t->alone.b->row_ns);
	if (r < 0)
		return bench_fail(t->alone.b, r, "the index cannot be measured: %s", strerror(-r));
	alone_give(&t->alone, "get", NAN);
	return 0;
}

static int with_size(struct bench *b, enum bench_kind kind, uint64_t size)
{
	struct index_bench *t = node_alloc(sizeof(*t));
	cpu_set_t cpus = cpus_of(CPUS_CLIENT, 1), before;
	int r;

	if (!t)
		return bench_fail(b, -ENOMEM, "no memory");
	t->alone = (struct alone){ .b = b, .kind = kind, .size = size, .call = get };
	if (t->alone.size > SEGMENT_BYTES_MAX)
		t->alone.size = SEGMENT_BYTES_MAX;
	before = cpus_pin(&cpus);
	r = measure(t);
	cpus_pin(&before);
	index_writer_close(&t->writer);
	for (unsigned i = 0; i < REGIONS; i++)
		media_memfd.free(&t->regions[i]);
	node_free(t);
	return r;
}

int bench_index_run(struct bench *b, enum bench_kind kind)
{
	struct bench_list sizes = bench_sizes(b, kind);
	int r = 0;

	for (unsigned i = 0; i < sizes.count && r == 0; i++)
		r = with_size(b, kind, sizes.values[i]);
	return r;
}
