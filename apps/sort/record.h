/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record: the records of the public sort benchmark, 100 bytes with a key of 10.
 *
 * Record number n has the random number x(n+1) of a linear congruential sequence
 * modulo 2^128, so any range of records can be made without those before it. Its
 * bytes are: 0-9 the key, the most significant bytes of the random number; 10-11
 * `00 11`; 12-43 its number in hexadecimal; 44-47 `88 99 AA BB`; 48-95 the twelve
 * least significant half-bytes of the random number, each digit four times; 96-99
 * `CC DD EE FF`.
 *
 * A skew changes nothing but keys, and depends on the record's number alone.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RECORD_SIZE     100
#define RECORD_KEY_SIZE 10

__extension__ typedef unsigned __int128 u128;

enum skew {
	SKEW_UNIFORM, /* the standard, exactly */
	SKEW_ZIPF,    /* 90 % in one 65,536th of all keys, the others in ever colder ones */
	SKEW_EQUAL,   /* all keys are the same */
};

struct generator {
	enum skew skew;
	u128 number; /* of the next record */
	u128 random; /* of the next record */
};

void generator_init(struct generator *g, enum skew skew, u128 first_number);

/* The next `count` records, to `count` * RECORD_SIZE bytes. */
void generator_make(struct generator *g, uint8_t *ret, size_t count);

/* Of one record: the sum of these over all records is the benchmark's checksum. */
uint32_t record_sum(const uint8_t *record);
