/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shm_index: an index in memfds, for tests: the proxy's mapping may be written, the function's
 * is read-only, so whoever writes there dies of it.
 */
#pragma once

#include "test.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "shm/index_priv.h"
#include "shm/memory.h"
#include "shm/view.h"

#define MAPPINGS 64

struct region {
	struct memory memory;
	void *read_only;
};

static inline struct region region_make(size_t size)
{
	struct region r;

	assert_int_equal(media_memfd.make(size, &r.memory), 0);
	assert_int_equal(media_memfd.fill(&r.memory, 0, size), 0);
	r.read_only = mmap(NULL, size, PROT_READ, MAP_SHARED, r.memory.fd, 0);
	assert_ptr_not_equal(r.read_only, MAP_FAILED);
	return r;
}

static inline void region_free(struct region *r)
{
	munmap(r->read_only, r->memory.size);
	media_memfd.free(&r->memory);
}

struct indexed {
	struct region head, table, pins;
	struct index_writer writer;
	struct viewer viewer;
	struct mapping mappings[MAPPINGS], *mapped[MAPPINGS];
};

static inline void table_open(struct indexed *x, size_t size)
{
	x->table = region_make(size);
	assert_int_equal(index_writer_open(&x->writer, x->head.memory.ptr, x->head.memory.size,
					   x->table.memory.ptr, size, 77),
			 0);
	index_writer_lease(&x->writer, 1000);
	assert_int_equal(index_reader_table(&x->viewer.index, x->table.read_only, size), 0);
}

/* A lease until 1000, and mappings that nobody has mapped. */
static inline void indexed_open(struct indexed *x, size_t size)
{
	memset(x, 0, sizeof(*x));
	x->head = region_make(4096);
	x->pins = region_make(4096);
	((struct index_head *)x->head.memory.ptr)->magic = INDEX_HEAD_MAGIC;
	assert_int_equal(index_reader_open(&x->viewer.index, x->head.read_only, 4096), 0);
	x->viewer.pins = pins_of(x->pins.memory.ptr, x->pins.memory.size);
	x->viewer.mappings = x->mapped;
	x->viewer.mapping_count = MAPPINGS;
	table_open(x, size);
}

static inline void indexed_close(struct indexed *x)
{
	index_writer_close(&x->writer);
	region_free(&x->head);
	region_free(&x->table);
	region_free(&x->pins);
}

static inline struct hash_128 hash_of(const char *path)
{
	return index_hash(path, strlen(path), 77);
}

static inline int put(struct indexed *x, const char *path, uint32_t mapping, uint64_t version)
{
	struct index_item item = {
		.mapping = mapping, .offset = 64, .len = 100, .version = version
	};

	return index_writer_put(&x->writer, hash_of(path), &item);
}

/* The version that a function finds at this moment; 0: none. */
static inline uint64_t found(const struct indexed *x, const char *path, uint64_t now_ns)
{
	struct index_look look;

	if (index_reader_find(&x->viewer.index, hash_of(path), &look) < 0 ||
	    index_reader_check(&x->viewer.index, &look, now_ns) < 0)
		return 0;
	return look.item.version;
}
