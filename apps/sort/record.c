/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include <string.h>

#include <isa-l/crc.h>

#define WIDE(hi, lo) ((u128)(hi) << 64 | (lo))

static const char DIGITS[] = "0123456789ABCDEF";

/* x becomes a x + c; composed with itself it jumps. */
struct step {
	u128 a, c;
};

static const struct step ONE_STEP = {
	.a = WIDE(0x2360ed051fc65da4, 0x4385df649fccf645),
	.c = WIDE(0x4a696d4772617952, 0x4950202020202001),
};

/* x(n) from x(0) = 0, by the powers of two in n. */
static u128 random_at(u128 n)
{
	struct step power = ONE_STEP;
	u128 x = 0;

	for (; n; n >>= 1) {
		if (n & 1)
			x = power.a * x + power.c;
		power.c += power.a * power.c;
		power.a *= power.a;
	}
	return x;
}

void generator_init(struct generator *g, enum skew skew, u128 first_number)
{
	*g = (struct generator){
		.skew = skew,
		.number = first_number,
		.random = random_at(first_number + 1),
	};
}

static void put_be(uint8_t *to, uint64_t v, size_t width)
{
	for (size_t i = 0; i < width; i++)
		to[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
}

static void put_hex(uint8_t *to, uint64_t v)
{
	for (size_t i = 0; i < 16; i++)
		to[i] = (uint8_t)DIGITS[v >> (60 - 4 * i) & 15];
}

/*
 * A rank of 1 upwards: 90 % are 1; of the others, those above a rank fall with its
 * square. By whole numbers, so that each machine makes the same records.
 */
static uint32_t rank_of(uint32_t uniform)
{
	static const uint32_t TENTH = UINT32_MAX / 10;
	uint64_t rank = 1;

	if (uniform >= TENTH)
		return 1;
	while (rank < 256 && (uint64_t)uniform * (rank + 1) * (rank + 1) < 4ull * TENTH)
		rank++;
	return (uint32_t)rank;
}

static void put_key(uint8_t *to, enum skew skew, u128 x)
{
	uint64_t top = (uint64_t)(x >> 64);

	switch (skew) {
	case SKEW_UNIFORM:
		break;
	case SKEW_ZIPF: {
		/* An odd factor, so that ranks lie all over the range of keys. */
		uint32_t range = (rank_of((uint32_t)(x >> 16)) * 40503u) & 0xffff;

		top = (uint64_t)range << 48 | (top & (UINT64_MAX >> 16));
		break;
	}
	case SKEW_EQUAL:
		memset(to, 0x7a, RECORD_KEY_SIZE);
		return;
	}
	put_be(to, top, 8);
	put_be(to + 8, (uint64_t)x >> 48, 2);
}

static void record_make(uint8_t *to, enum skew skew, u128 number, u128 x)
{
	uint64_t low = (uint64_t)x;

	put_key(to, skew, x);
	memcpy(to + 10, "\x00\x11", 2);
	put_hex(to + 12, (uint64_t)(number >> 64));
	put_hex(to + 28, (uint64_t)number);
	memcpy(to + 44, "\x88\x99\xaa\xbb", 4);
	for (size_t i = 0; i < 12; i++)
		memset(to + 48 + 4 * i, DIGITS[low >> (44 - 4 * i) & 15], 4);
	memcpy(to + 96, "\xcc\xdd\xee\xff", 4);
}

void generator_make(struct generator *g, uint8_t *ret, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		record_make(ret + i * RECORD_SIZE, g->skew, g->number, g->random);
		g->number++;
		g->random = ONE_STEP.a * g->random + ONE_STEP.c;
	}
}

uint32_t record_sum(const uint8_t *record)
{
	/* The reflected polynomial of gzip: zlib's. */
	return crc32_gzip_refl(0, record, RECORD_SIZE);
}
