/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of a job, and pins: what the proxy has put is found as it was put, as long as nobody
 * else writes there; whatever lies in a head, a table or a pin page, a view is inside of a
 * mapping, a pin leaves as it came, and the proxy's own lists stay whole.
 *
 * The input: the size of the table, then steps: one byte that says which, and what it needs.
 */
#include "fuzz.h"

#include <errno.h>

#include "shm/index_priv.h"
#include "shm/view.h"

#define MAPPINGS  8
#define PATHS     24
#define FUNCTIONS 2
#define HEAD      (sizeof(struct index_head) + MAPPINGS * sizeof(uint32_t))

struct sides {
	uint8_t *head, *table, *next;
	size_t table_size, next_size;
	struct index_writer writer;
	struct viewer viewers[FUNCTIONS];
	struct pins pins[FUNCTIONS];
	struct mapping mappings[MAPPINGS], *mapped[MAPPINGS];
	struct index_item items[PATHS]; /* as they were put; version 0: not there */
	uint64_t version;
	bool is_spoiled; /* somebody wrote what only the proxy should */
};

/* Ends where it ends, so that one byte further is seen. */
static void *region(size_t size)
{
	void *p = aligned_alloc(128, size);

	REQUIRE(p);
	memset(p, 0, size);
	return p;
}

static struct hash_128 hash_of(unsigned path)
{
	uint8_t byte = (uint8_t)path;

	return index_hash(&byte, 1, 5);
}

static void table_open(struct sides *s, uint8_t *table, size_t size)
{
	for (unsigned i = 0; i < FUNCTIONS; i++)
		REQUIRE(index_reader_table(&s->viewers[i].index, table, size) == 0);
}

static void sides_open(struct sides *s, struct bytes *in)
{
	memset(s, 0, sizeof(*s));
	s->head = region((HEAD + 127) / 128 * 128);
	s->table_size = 4096 + take(in, 1) % 32 * 128;
	s->table = region(s->table_size);
	REQUIRE(index_writer_open(&s->writer, s->head, HEAD, s->table, s->table_size, 5) == 0);
	index_writer_lease(&s->writer, 100);
	for (unsigned i = 0; i < MAPPINGS; i++) {
		s->mappings[i] =
			(struct mapping){ .ptr = region(128 * (i + 1)), .len = 128 * (i + 1) };
		s->mapped[i] = &s->mappings[i];
	}
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		s->pins[i] = pins_of(region(128), MAPPINGS * sizeof(uint32_t));
		s->viewers[i] = (struct viewer){ .pins = s->pins[i],
						 .mappings = s->mapped,
						 .mapping_count = MAPPINGS };
		REQUIRE(index_reader_open(&s->viewers[i].index, s->head, HEAD) == 0);
	}
	table_open(s, s->table, s->table_size);
}

static void sides_close(struct sides *s)
{
	index_writer_close(&s->writer);
	for (unsigned i = 0; i < MAPPINGS; i++)
		free((void *)s->mappings[i].ptr);
	for (unsigned i = 0; i < FUNCTIONS; i++)
		free(s->pins[i].counts);
	free(s->head);
	free(s->table);
	free(s->next);
}

static void put(struct sides *s, struct bytes *in)
{
	unsigned path = (unsigned)take(in, 1) % PATHS;
	struct index_item item = { .mapping = (uint32_t)take(in, 1) % MAPPINGS,
				   .version = ++s->version };

	item.offset = take(in, 2) % 1200;
	item.len = take(in, 2) % 1200;
	item.expiry_ns = take(in, 1);
	REQUIRE(index_writer_put(&s->writer, hash_of(path), &item) == 0);
	s->items[path] = item;
}

static void drop(struct sides *s, struct bytes *in)
{
	unsigned path = (unsigned)take(in, 1) % PATHS;

	(void)index_writer_drop(&s->writer, hash_of(path));
	s->items[path].version = 0;
}

static void forget(struct sides *s, uint32_t mapping)
{
	for (unsigned i = 0; i < PATHS; i++)
		if (s->items[i].mapping == mapping)
			s->items[i].version = 0;
}

static void reclaim(struct sides *s, struct bytes *in)
{
	uint32_t mapping = (uint32_t)take(in, 1) % MAPPINGS;
	bool is_free = pins_reclaim(&s->writer, mapping, s->pins, FUNCTIONS), is_pinned = false;

	for (unsigned i = 0; i < FUNCTIONS; i++)
		is_pinned |= s->pins[i].counts[mapping] != 0;
	REQUIRE(is_free == !is_pinned);
	forget(s, mapping);
	if (is_free && take(in, 1) % 2) {
		index_writer_end_life(&s->writer, mapping);
		s->mappings[mapping].life = index_writer_life(&s->writer, mapping);
	}
}

static void grow(struct sides *s)
{
	if (!s->next) {
		s->next_size = s->table_size + 1024;
		s->next = region(s->next_size);
		REQUIRE(index_writer_grow(&s->writer, s->next, s->next_size) == 0);
		return;
	}
	while (!index_writer_copy(&s->writer))
		;
	free(s->table);
	s->table = s->next;
	s->table_size = s->next_size;
	s->next = NULL;
	/* What was spoiled may be what it is known by. */
	memcpy(s->table,
	       &(struct index_table){
		       .magic = INDEX_TABLE_MAGIC, .number = s->writer.now.number, .seed = 5 },
	       sizeof(struct index_table));
	table_open(s, s->table, s->table_size);
}

/* As the proxy put it, or not at all. */
static void is_as_put(const struct sides *s, unsigned path, const struct index_item *found)
{
	const struct index_item *put = &s->items[path];

	REQUIRE(put->version != 0 && found->version == put->version);
	REQUIRE(found->mapping == put->mapping && found->life == put->life);
	REQUIRE(found->offset == put->offset && found->len == put->len);
}

static void get(struct sides *s, struct bytes *in)
{
	const struct viewer *v = &s->viewers[take(in, 1) % FUNCTIONS];
	unsigned path = (unsigned)take(in, 1) % PATHS;
	uint64_t now_ns = take(in, 1);
	struct view view;
	uint32_t before;
	volatile uint8_t sum = 0;

	if (view_get(v, hash_of(path), now_ns, &view) < 0)
		return;
	REQUIRE(view.item.mapping < MAPPINGS);
	before = v->pins.counts[view.item.mapping];
	for (uint64_t i = 0; i < view.item.len; i++)
		sum = (uint8_t)(sum + view.ptr[i]);
	if (!s->is_spoiled) {
		REQUIRE(now_ns < 100);
		REQUIRE(s->items[path].expiry_ns == 0 || now_ns < s->items[path].expiry_ns);
		is_as_put(s, path, &view.item);
	}
	if (take(in, 1) % 4 == 0)
		return; /* it keeps it */
	(void)view_release(v, &view);
	REQUIRE(v->pins.counts[view.item.mapping] == before - 1);
}

static void spoil(struct sides *s, struct bytes *in)
{
	static const uint8_t WIDTHS[] = { 1, 2, 4, 8 };
	size_t at = take(in, 2), width = WIDTHS[take(in, 1) % 4];
	uint64_t value = take(in, width);

	switch (take(in, 1) % 3) {
	case 0:
		memcpy((uint8_t *)s->pins[at % FUNCTIONS].counts + at % 24, &value, width);
		return;
	case 1:
		memcpy(s->head + 8 + at % (HEAD - 16), &value, width);
		break;
	case 2:
		memcpy(s->table + at % (s->table_size - 8), &value, width);
		break;
	}
	s->is_spoiled = true;
}

/* Each entry is in one list, that of its mapping. */
static void lists_are_whole(struct index_writer *x)
{
	for (uint32_t i = 0; i < MAPPINGS; i++)
		while (!index_writer_drop_mapping(x, i))
			;
	REQUIRE(x->now.live == 0 && x->next.live == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = bytes_of(data, len);
	struct sides s;

	sides_open(&s, &in);
	while (bytes_left(&in) > 0) {
		switch (take(&in, 1) % 8) {
		case 0:
		case 1:
			put(&s, &in);
			break;
		case 2:
			drop(&s, &in);
			break;
		case 3:
			reclaim(&s, &in);
			break;
		case 4:
			grow(&s);
			break;
		case 5:
		case 6:
			get(&s, &in);
			break;
		case 7:
			spoil(&s, &in);
			break;
		}
	}
	lists_are_whole(&s.writer);
	sides_close(&s);
	return 0;
}

void fuzz_seeds(void)
{
	/* Put, get and keep, get and give; drop; reclaim; and a larger table in the middle of it.
	 */
	static const uint8_t EVERYDAY[] = { 0, 0, 3, 2, 0, 0, 64, 0,  0, 5,  0, 3,   1, 0, 5, 1,
					    3, 1, 1, 4, 0, 4, 1,  10, 0, 32, 0, 200, 4, 6, 1, 4,
					    1, 1, 2, 3, 3, 2, 3,  1,  1, 5,  0, 4,   1, 1 };
	/* The words of an entry, one after the other. */
	static const uint8_t HOSTILE[] = { 0,   0,   3,   2,   0,   0,   64, 0,   0, 7, 0,   0,
					   2,   255, 255, 255, 255, 0,   7,  24,  1, 3, 255, 255,
					   255, 255, 255, 255, 255, 255, 2,  5,   0, 3, 1,   1,
					   7,   1,   0,   2,   0,   0,   0,  128, 0, 3, 2,   1 };

	fuzz_seed("everyday", EVERYDAY, sizeof(EVERYDAY));
	fuzz_seed("hostile", HOSTILE, sizeof(HOSTILE));
}
