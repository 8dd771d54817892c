/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of a job in its proxy, under functions that write anything into their pins: what is
 * found in it is what was entered last, with the bytes that belong to it, for as long as nobody
 * has given them away; segments are pinned as often as they are unpinned, and given back once no
 * function has a pin; nothing is left at the end.
 *
 * The store core is played (segments.h): it has SEGMENTS segments, of which one that was wanted and
 * is not pinned begins another generation, with other bytes. What a function has pinned, and whose
 * pins it has not spoilt, is no such segment before HOLD_MS_MAX.
 *
 * The input: steps: one byte that says which, and what it needs.
 */
#include "regions.h"
#include "segments.h"
#include "server.h"

#include "base/container.h"
#include "base/hash.h"
#include "shm/view.h"

#define PATHS     250
#define FUNCTIONS 3

/* What was entered, and is not forgotten. */
struct entered {
	bool is_there;
	uint64_t version;
	uint32_t len;
	uint8_t byte; /* of a value: all its bytes */
	uint32_t segment, generation, offset, count;
};

static struct entered paths[PATHS];
static struct proxy proxy;
static struct job_index *job_index;
static struct reader *readers[FUNCTIONS];
static uint64_t until_ns, version;

/* Opening: regions are made by a helper, and waited for on a fiber. */

static void open_index(struct fiber *self)
{
	(void)self;
	REQUIRE(index_get(&proxy, JOB, &job_index) == 0);
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		struct region *pins;

		REQUIRE(index_take_region(&proxy, INDEX_HEAD_BYTES, NULL, &pins) == 0);
		REQUIRE(reader_add(job_index, i + 1, pins, &readers[i]) == 0);
		/* Somebody's: those that nobody has come back for are given up. */
		readers[i]->native = (struct native *)&readers[i];
	}
	job_index->until_ns = &until_ns;
	index_renew(job_index);
}

static void opened(struct fiber *self)
{
	(void)self;
}

static void open_all(void)
{
	static struct fiber fiber;

	for (uint32_t i = 0; i < SEGMENTS; i++) {
		segments[i] = (struct segment){ 0 };
		segment_begin(i);
	}
	memset(paths, 0, sizeof(paths));
	kept_count = 0;
	version = 0;
	until_ns = UINT64_MAX;
	proxy = (struct proxy){
		.loop = loop,
		.config = { .rings_max = FUNCTIONS, .indexes_max = 1, .index_bytes_max = 512 << 10 }
	};
	indexes_init(&proxy);
	fiber = (struct fiber){ 0 };
	REQUIRE(fiber_start(&loop->fibers, &fiber, open_index, opened) == 0);
	for (int i = 0; i < 100 && loop->fibers.alive_count > 0; i++)
		turn_for(MS);
	REQUIRE(job_index && readers[FUNCTIONS - 1]);
}

static void leave(unsigned i)
{
	kept_forget(i);
	if (readers[i])
		reader_remove(readers[i]);
	readers[i] = NULL;
}

static void close_all(void)
{
	for (unsigned i = 0; i < FUNCTIONS; i++)
		leave(i);
	indexes_stop(&proxy);
	for (int i = 0; i < 100 && (proxy.region_count > 0 || proxy.index_count > 0); i++)
		turn_for(MS);
	REQUIRE(proxy.region_count == 0 && proxy.index_count == 0 && proxy.index_bytes == 0);
	for (unsigned i = 0; i < SEGMENTS; i++)
		REQUIRE(segments[i].pins == 0);
	helper_close(proxy.helper);
	turn_for(MS);
	job_index = NULL;
}

/* Steps. */

static struct slice path_of(unsigned path, char buf[4])
{
	snprintf(buf, 4, "%u", path);
	return words(buf);
}

static void enter_value(struct found *f, struct bytes *in, struct entered *e)
{
	e->byte = (uint8_t)take(in, 1);
	e->len = (uint32_t)take(in, 2) % (INLINE_BYTES_MAX + 1);
	e->count = 0;
	memset(f->u.value, e->byte, e->len);
	f->value_len = e->len;
}

/* A piece of one segment, or whole pages of several that follow each other. */
static void enter_extents(struct found *f, struct bytes *in, struct entered *e)
{
	uint32_t count = 1 + (uint32_t)take(in, 1) % SEGMENTS, at = (uint32_t)take(in, 2);

	e->count = count;
	e->segment = (uint32_t)take(in, 1) % SEGMENTS;
	e->offset = count == 1 ? at % (SEGMENT_BYTES / 64 - 16) * 64 : at % 4 * SEGMENT_PAGE;
	e->len = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = (e->segment + i) % SEGMENTS;

		f->u.extents[i] =
			(struct extent){ .segment = n,
					 .generation = segments[n].generation,
					 .offset = e->offset,
					 .len = count == 1 ? 1 + at % 1000 : SEGMENT_PAGE };
		e->len += f->u.extents[i].len;
	}
	e->generation = segments[e->segment].generation;
	f->extent_count = f->stat.extent_count = count;
}

static void enter(struct bytes *in, bool is_value)
{
	static struct found f;
	unsigned path = (unsigned)take(in, 1) % PATHS;
	struct entered e = { .is_there = true, .version = ++version };
	char name[4];
	int r;

	memset(&f, 0, sizeof(f));
	f.asked_ns = loop->now_ns;
	if (is_value)
		enter_value(&f, in, &e);
	else
		enter_extents(&f, in, &e);
	f.stat.version = e.version;
	f.stat.len = e.len;
	f.stat.ttl_left_ms = NONE_64;
	f.stat.reads_left = NONE_32;
	r = index_enter(job_index, &f, path_of(path, name));
	REQUIRE(r == 0 || r == -EAGAIN || r == -EOPNOTSUPP);
	if (r < 0)
		return;
	paths[path] = e;
	index_grow(job_index);
}

static void forget(struct bytes *in)
{
	unsigned path = (unsigned)take(in, 1);
	char name[4];

	if (path % 64 == 63) {
		proxy_forget(&proxy, JOB, (struct slice){ 0 });
		memset(paths, 0, sizeof(paths));
		return;
	}
	proxy_forget(&proxy, JOB, path_of(path % PATHS, name));
	paths[path % PATHS].is_there = false;
}

/* Where the bytes of a mapping are, as the function would have mapped them. */
static void map(uint32_t number, struct mapping *ret, uint8_t room[SEGMENTS * SEGMENT_PAGE])
{
	const struct mapped *m = job_index->mapped[number];

	REQUIRE(number < job_index->mapped_count && m && m->part_count <= SEGMENTS);
	*ret = (struct mapping){ .life = index_writer_life(&job_index->writer, number) };
	if (m->copies) {
		ret->ptr = m->copies->memory.ptr;
		ret->len = COPIES_BYTES;
	} else if (m->parts[0].len == 0) {
		ret->ptr = segments[m->parts[0].segment].bytes;
		ret->len = SEGMENT_BYTES;
	} else {
		for (uint32_t i = 0; i < m->part_count; i++)
			memcpy(room + i * SEGMENT_PAGE,
			       segments[m->parts[i].segment].bytes + m->parts[i].offset,
			       m->parts[i].len);
		ret->ptr = room;
		ret->len = m->part_count * SEGMENT_PAGE;
	}
}

static uint8_t expected(const struct entered *e, uint32_t at)
{
	uint32_t n = e->count ? (e->segment + at / SEGMENT_PAGE * (e->count > 1)) % SEGMENTS : 0;

	if (e->count == 0)
		return e->byte;
	return byte_at(n, segments[n].generation,
		       e->offset + (e->count > 1 ? at % SEGMENT_PAGE : at));
}

/* A count that was spoilt may be at its end, and says then that nothing is pinned. */
static void keep(unsigned function, const struct pins *pins, uint32_t mapping)
{
	pins_take(pins, mapping);
	if (pins->counts[mapping] == 0)
		kept_forget(function);
	else
		kept_add(function, job_index->mapped[mapping]);
}

/* As the function does it, but that it has mapped everything. */
static void get(struct bytes *in)
{
	static uint8_t room[SEGMENTS * SEGMENT_PAGE];
	unsigned function = (unsigned)take(in, 1) % FUNCTIONS;
	unsigned path = (unsigned)take(in, 1) % PATHS;
	const struct reader *r = readers[function];
	struct index_look look;
	struct hash_128 hash;
	struct mapping m;
	struct index_reader x;
	char name[4];
	struct slice p = path_of(path, name);

	if (!r)
		return;
	REQUIRE(index_reader_open(&x, job_index->head->memory.ptr, INDEX_HEAD_BYTES) == 0);
	REQUIRE(index_reader_table(&x, job_index->table->memory.ptr, job_index->table->size) == 0);
	hash = index_hash(p.ptr, p.len, x.seed);
	if (index_reader_find(&x, hash, &look) < 0 ||
	    index_reader_check(&x, &look, loop->now_ns) < 0)
		return;
	map(look.item.mapping, &m, room);
	REQUIRE(paths[path].is_there && look.item.version == paths[path].version);
	REQUIRE(look.item.life == m.life && look.item.len == paths[path].len);
	REQUIRE(look.item.offset + look.item.len <= m.len);
	for (uint32_t i = 0; i < look.item.len; i += 61)
		REQUIRE(m.ptr[look.item.offset + i] == expected(&paths[path], i));
	if (take(in, 1) % 3 == 0 && look.item.mapping < job_index->pins[r->nth].count)
		keep(function, &job_index->pins[r->nth], look.item.mapping);
}

/* Somebody waits for a segment; when nothing is pinned there, it is somebody else's memory. */
static void want(struct bytes *in)
{
	uint32_t n = (uint32_t)take(in, 1) % SEGMENTS;
	bool is_short = take(in, 1) % 2;

	kept_want(n);
	segments[n].is_wanted = true;
	index_segment_wanted(&proxy, JOB, n, is_short);
}

/* What functions have pinned is taken from them only after HOLD_MS_MAX. */
static void look_at_revoked(void)
{
	for (uint32_t i = 0; i < job_index->mapped_count; i++) {
		const struct mapped *m = job_index->mapped[i];

		REQUIRE(!m || !m->is_revoked ||
			loop->now_ns - m->wanted_ns >= HOLD_MS_MAX * 1000000ull);
	}
}

static void reuse(void)
{
	for (uint32_t i = 0; i < SEGMENTS; i++)
		if (segments[i].is_wanted && segments[i].pins == 0) {
			kept_end(i);
			segment_begin(i);
		}
}

/* A function writes where it may. */
static void spoil(struct bytes *in)
{
	static const uint8_t WIDTHS[] = { 1, 4, 4, 8 };
	unsigned function = (unsigned)take(in, 1) % FUNCTIONS;
	struct reader *r = readers[function];
	size_t at = take(in, 2), width = WIDTHS[take(in, 1) % 4];
	uint64_t value = take(in, width);

	if (!r)
		return;
	kept_forget(function);
	/* Mostly where there are numbers. */
	at = at & 0x8000 ? at % (INDEX_HEAD_BYTES - 8) : at % 32;
	memcpy(r->pins->memory.ptr + at, &value, width);
}

static void clear(struct bytes *in)
{
	unsigned function = (unsigned)take(in, 1) % FUNCTIONS;
	struct reader *r = readers[function];

	kept_forget(function);
	if (r)
		memset(r->pins->memory.ptr, 0, INDEX_HEAD_BYTES);
}

static void play(struct bytes *in)
{
	switch (take(in, 1) % 12) {
	case 0:
	case 1:
	case 2:
		enter(in, true);
		break;
	case 3:
	case 4:
		enter(in, false);
		break;
	case 5:
		forget(in);
		break;
	case 6:
		want(in);
		break;
	case 7:
		if (take(in, 1) % 16 == 0)
			pause_for(HOLD_MS_MAX * MS);
		turn_for(6 * MS);
		break;
	case 8:
		spoil(in);
		break;
	case 9:
		clear(in);
		break;
	case 10:
		if (take(in, 1) % 8 == 0)
			leave((unsigned)take(in, 1) % FUNCTIONS);
		break;
	default:
		get(in);
	}
	look_at_revoked();
	reuse();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = bytes_of(data, len);

	world_open();
	open_all();
	for (int i = 0; i < 2000 && bytes_left(&in) > 0; i++)
		play(&in);
	close_all();
	world_close();
	return 0;
}

void fuzz_seeds(void)
{
	/* A value, twice, since the first finds no memory yet; extents; gets, kept and not; all
	 * that is wanted back, with a pin in it and without. */
	static const uint8_t EVERYDAY[] = { 0,  1, 9,  100, 0, 7, 1, 0, 1, 9,  100, 0, 3, 2,  0,
					    40, 0, 1,  4,   3, 2, 5, 0, 2, 11, 0,   1, 1, 11, 1,
					    2,  0, 11, 2,   3, 0, 6, 1, 0, 7,  1,   9, 1, 7,  1,
					    6,  2, 1,  9,   2, 7, 1, 5, 1, 11, 0,   1, 1 };
	/* Pins of the first numbers that nobody took, values until regions are used again, and gets
	 * of all of them. */
	uint8_t many[11 * PATHS + 9] = { 8, 0, 0, 0, 1, 255, 255, 255, 255 };

	for (unsigned i = 0; i < PATHS; i++) {
		memcpy(many + 9 + 7 * i, (const uint8_t[]){ 0, (uint8_t)i, 3, 0xff, 7, 7, 1 }, 7);
		memcpy(many + 9 + 7 * PATHS + 4 * i, (const uint8_t[]){ 11, 0, (uint8_t)i, 1 }, 4);
	}
	fuzz_seed("everyday", EVERYDAY, sizeof(EVERYDAY));
	fuzz_seed("many", many, sizeof(many));
}
