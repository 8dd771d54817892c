/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records and lines, and the lists of keys between them: sorted as LC_ALL=C sort has
 * it, stable, none lost; buckets divide them all.
 *
 * The input: a byte that says whether records or lines, one for the splitters, then the
 * items; what is no whole one is left out.
 */
#include "fuzz.h"

#include "item.h"
#include "keys.h"
#include "region.h"

#define BYTES_MAX 3072
#define ITEMS_MAX BYTES_MAX

static struct sorter *sorter;
static struct item items[ITEMS_MAX], scratch[ITEMS_MAX];

static int compare(const struct item *a, const struct item *b, const uint8_t *arena)
{
	return key_compare(arena + a->offset, a->key_len, arena + b->offset, b->key_len);
}

static void divided(const struct item *sorted, size_t count, const uint8_t *arena, size_t buckets)
{
	struct keys samples = { 0 }, splitters = { 0 };
	size_t from = 0;

	for (size_t i = 0; i < count; i += 1 + i % 3)
		REQUIRE(keys_add(&samples, arena + sorted[i].offset, sorted[i].key_len) == 0);
	REQUIRE(keys_index(&samples) == 0);
	keys_sort(&samples);
	REQUIRE(splitters_choose(&samples, buckets, &splitters) == 0);
	REQUIRE(splitters.count <= buckets);
	for (size_t i = 0; i < splitters.count; i++) {
		size_t at = splitter_find(&splitters.keys[i], sorted, count, arena);

		REQUIRE(at >= from && at <= count);
		from = at;
	}
	keys_fini(&samples);
	keys_fini(&splitters);
}

static void is_sorted(const struct item *sorted, size_t count, const uint8_t *arena, size_t bytes,
		      enum format format)
{
	size_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		sum += item_size(format, sorted[i].key_len);
		if (i == 0)
			continue;
		REQUIRE(compare(&sorted[i - 1], &sorted[i], arena) <= 0);
		REQUIRE(compare(&sorted[i - 1], &sorted[i], arena) < 0 ||
			sorted[i - 1].offset < sorted[i].offset);
	}
	REQUIRE(sum == bytes);
}

/* Keys as another function would have left them. */
static void foreign_keys(struct slice bytes)
{
	struct keys k = { 0 };
	size_t sum = 0;

	if (bytes.len > 0)
		memcpy(keys_room(&k, bytes.len), bytes.ptr, bytes.len);
	if (keys_index(&k) == 0) {
		for (size_t i = 0; i < k.count; i++) {
			REQUIRE(k.keys[i].len <= KEYS_CUT);
			sum += 4 + k.keys[i].len;
		}
		REQUIRE(sum == bytes.len);
		keys_sort(&k);
	}
	keys_fini(&k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = bytes_of(data, len);
	enum format format = take(&in, 1) % 2 ? FORMAT_LINES : FORMAT_RECORDS;
	size_t buckets = 1 + take(&in, 1) % 32, count, next;
	struct slice s = take_slice(&in, BYTES_MAX);
	const uint8_t *last =
		format == FORMAT_LINES && s.len > 0 ? memrchr(s.ptr, '\n', s.len) : NULL;
	uint8_t *arena;

	foreign_keys(s);
	if (format == FORMAT_LINES)
		s.len = last ? (size_t)(last - s.ptr) + 1 : 0;
	else
		s.len -= s.len % RECORD_SIZE;
	arena = malloc(s.len + REGION_SLACK);
	if (s.len > 0)
		memcpy(arena, s.ptr, s.len);
	memset(arena + s.len, 0xa5, REGION_SLACK);
	count = items_find(format, arena, 0, s.len, items, ITEMS_MAX, &next);
	REQUIRE(count == ITEMS_MAX || next == s.len);
	if (!sorter)
		sorter = sorter_new();
	items_sort(sorter, items, scratch, count, arena);
	is_sorted(items, count, arena, next, format);
	divided(items, count, arena, buckets);
	free(arena);
	return 0;
}

void fuzz_seeds(void)
{
	static uint8_t bytes[2 + 28 * RECORD_SIZE];
	static const char LINES[] =
		"\1\5pear\napple\n\napple pie and more of it\napple pie and more\nz\n";
	static const char EQUAL[] =
		"\1\3a\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\n"
		"a\na\na\na\na\na\naaaaaaaaaaaaaaaaaaaa\naaaaaaaaaaaaaaaaaaab\n";
	struct generator g;
	struct keys k = { 0 };

	bytes[1] = 7;
	generator_init(&g, SKEW_UNIFORM, 0);
	generator_make(&g, bytes + 2, 28);
	fuzz_seed("records", bytes, sizeof(bytes));
	fuzz_seed("lines", LINES, sizeof(LINES) - 1);
	fuzz_seed("equal", EQUAL, sizeof(EQUAL) - 1);
	keys_room(&k, 2)[0] = 1;
	keys_add(&k, (const uint8_t *)"pear", 4);
	keys_add(&k, (const uint8_t *)"", 0);
	fuzz_seed("keys", k.bytes, k.len);
	keys_fini(&k);
}
