/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A get that libwadi makes through the index, of a proxy that may be damaged or hostile: what is
 * handed on has the sum that its entry says, and fits the caller's buffer; whatever lies in head,
 * table, pins and segments, nothing outside of a mapping is read, and a pin leaves as it came.
 *
 * The input: steps: one byte that says which, and what it needs.
 */
#include "fuzz.h"

#include <errno.h>

#include "attach/handle.h"
#include "base/hash.h"
#include "base/node.h"
#include "shm/index_priv.h"

#define MAPPINGS  8
#define PATHS     24
#define HEAD      (sizeof(struct index_head) + MAPPINGS * sizeof(uint32_t))
#define TABLE     8192
#define BUF_BYTES 3000

struct play {
	uint8_t *head, *table;
	struct index_writer writer;
	struct mapping mappings[MAPPINGS], *mapped[MAPPINGS];
	struct sight sight;
	struct wadi w;
	struct index_item items[PATHS]; /* as they were put; version 0: not there */
	uint64_t version;
	bool is_spoiled; /* somebody wrote where only the proxy should */
};

/* Ends where it ends, so that one byte further is seen. */
static void *region(size_t size)
{
	void *p = aligned_alloc(128, (size + 127) / 128 * 128);

	REQUIRE(p);
	memset(p, 0, size);
	return p;
}

static void play_open(struct play *p)
{
	struct viewer *v = &p->sight.viewer;

	memset(p, 0, sizeof(*p));
	p->head = region(HEAD);
	p->table = region(TABLE);
	REQUIRE(index_writer_open(&p->writer, p->head, HEAD, p->table, TABLE, 5) == 0);
	index_writer_lease(&p->writer, UINT64_MAX);
	for (unsigned i = 0; i < MAPPINGS; i++) {
		uint8_t *bytes = region(512 * (i + 1));

		memset(bytes, (int)i + 1, 512 * (i + 1));
		p->mappings[i] = (struct mapping){ .ptr = bytes, .len = 512 * (i + 1) };
		p->mapped[i] = &p->mappings[i];
	}
	v->pins = pins_of(region(MAPPINGS * sizeof(uint32_t)), MAPPINGS * sizeof(uint32_t));
	v->mappings = p->mapped;
	v->mapping_count = MAPPINGS;
	REQUIRE(index_reader_open(&v->index, p->head, HEAD) == 0);
	REQUIRE(index_reader_table(&v->index, p->table, TABLE) == 0);
	p->w.near.sight = &p->sight;
	p->w.conn = (struct conn *)&p->w; /* there is one, and it is not asked */
}

static void play_close(struct play *p)
{
	index_writer_close(&p->writer);
	for (unsigned i = 0; i < MAPPINGS; i++)
		free((void *)p->mappings[i].ptr);
	free(p->sight.viewer.pins.counts);
	free(p->head);
	free(p->table);
}

static struct slice path_at(unsigned path, uint8_t *byte)
{
	*byte = (uint8_t)path;
	return (struct slice){ byte, 1 };
}

/* Sometimes with a sum that is another's, or out of all bounds. */
static void put(struct play *p, struct bytes *in)
{
	unsigned path = (unsigned)take(in, 1) % PATHS, how = (unsigned)take(in, 1);
	struct index_item item = { .mapping = how % MAPPINGS,
				   .version = ++p->version,
				   .extent_count = how >> 3 & 3,
				   .seed = take(in, 1) };
	const struct mapping *m = &p->mappings[item.mapping];
	uint8_t byte;

	item.offset = take(in, 2) % 5000;
	item.len = take(in, 2) % 5000;
	if (item.offset <= m->len && item.len <= m->len - item.offset)
		item.crc = crc_more(crc_begin(item.seed), m->ptr + item.offset, item.len) +
			   (how >> 5 == 0);
	REQUIRE(index_writer_put(&p->writer, index_hash(path_at(path, &byte).ptr, 1, 5), &item) ==
		0);
	p->items[path] = item;
}

/* It is what was put, and as much of it as was asked for. */
static void is_as_put(const struct play *p, const struct index_item *item,
		      const struct get_how *how, int64_t n, const uint8_t *got)
{
	uint64_t at = how->options.offset < item->len ? how->options.offset : item->len;
	uint64_t left = item->len - at, len = how->options.len;
	const struct mapping *m = &p->mappings[item->mapping];

	REQUIRE(item->version != 0 && item->extent_count <= 1);
	REQUIRE((uint64_t)n == (len && len < left ? len : left));
	REQUIRE(n == 0 || memcmp(got, m->ptr + item->offset + at, (size_t)n) == 0);
	REQUIRE(n == 0 ||
		crc_more(crc_begin(item->seed), m->ptr + item->offset, item->len) == item->crc);
}

static void get(struct play *p, struct bytes *in)
{
	unsigned path = (unsigned)take(in, 1) % PATHS;
	uint32_t before[MAPPINGS];
	struct get_room room = { .cap = take(in, 2) % BUF_BYTES, .is_ours = take(in, 1) % 2 };
	struct get_how how = { .options = { .offset = take(in, 2) % 5000,
					    .len = take(in, 2) % 3000 } };
	uint8_t byte, *own = room.is_ours ? NULL : malloc(room.cap);
	struct wadi_stat stat;
	struct view view;
	int64_t n;

	how.path = path_at(path, &byte);
	room.buf = own;
	room.ret_stat = &stat;
	memcpy(before, p->sight.viewer.pins.counts, sizeof(before));
	n = resident_get(&p->w, &how, &room, &view);
	REQUIRE(n >= 0 || n == -ENOENT || n == -ENXIO || n == -ESTALE);
	REQUIRE(memcmp(before, p->sight.viewer.pins.counts, sizeof(before)) == 0);
	REQUIRE(n < 0 || room.is_ours || (uint64_t)n <= room.cap);
	REQUIRE(n >= 0 || !room.is_ours || !room.buf);
	if (n >= 0 && !p->is_spoiled)
		is_as_put(p, &p->items[path], &how, n, room.buf);
	free(own);
	if (room.is_ours)
		node_free(room.buf);
}

static void spoil(struct play *p, struct bytes *in)
{
	static const uint8_t WIDTHS[] = { 1, 2, 4, 8 };
	unsigned where = (unsigned)take(in, 1);
	size_t at = take(in, 2), width = WIDTHS[where >> 2 & 3];
	uint64_t value = take(in, width);
	const struct mapping *m = &p->mappings[where >> 4 & 7];

	switch (where % 4) {
	case 0: /* its own pins: that is no reason to be handed anything wrong */
		memcpy((uint8_t *)p->sight.viewer.pins.counts + at % 24, &value, width);
		return;
	case 1: /* nor are bytes that are not those that were summed */
		memcpy((uint8_t *)m->ptr + at % (m->len - 8), &value, width);
		return;
	case 2:
		memcpy(p->head + 8 + at % (HEAD - 16), &value, width);
		break;
	default:
		memcpy(p->table + at % (TABLE - 8), &value, width);
	}
	p->is_spoiled = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = bytes_of(data, len);
	static struct play p;

	play_open(&p);
	while (bytes_left(&in) > 0) {
		switch (take(&in, 1) % 8) {
		case 0:
		case 1:
			put(&p, &in);
			break;
		case 2:
			spoil(&p, &in);
			break;
		default:
			get(&p, &in);
		}
	}
	play_close(&p);
	return 0;
}

void fuzz_seeds(void)
{
	/* A value and an object of one extent; all of them, a part, and without room; then bytes
	 * that are not those any more. */
	static const uint8_t EVERYDAY[] = { 0,  1, 0xe1, 7,  0, 0,  100,  0,  0,    2,  0xea, 7,
					    64, 0, 0,    4,  3, 1,  0xb8, 11, 0,    0,  0,    0,
					    0,  3, 1,    50, 0, 0,  0,    0,  0,    0,  3,    2,
					    0,  2, 1,    10, 0, 20, 0,    2,  0x21, 80, 0,    9,
					    3,  2, 0,    2,  1, 0,  0,    0,  0 };
	/* An entry that leads out of its mapping, and a table of foreign words. */
	static const uint8_t HOSTILE[] = { 0,  1, 0xe0, 7, 0xf0, 1, 255, 3, 3, 1, 0xb8,
					   11, 1, 0,    0, 0,    0, 2,   3, 0, 1, 255,
					   3,  1, 0,    4, 0,    0, 0,   0, 0 };

	fuzz_seed("everyday", EVERYDAY, sizeof(EVERYDAY));
	fuzz_seed("hostile", HOSTILE, sizeof(HOSTILE));
}
