/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: what a function is asked to do, from the `value` of its JSON line. All that
 * it needs is in there, so that any platform can run it anywhere.
 *
 *	"op"               generate, sample, map, reduce, validate
 *	"index"            which of its kind: the share, the bucket, the part
 *	"attempt"          1 for the first try
 *	"format"           "records" or "lines"
 *	"function_memory"  bytes that the function may hold
 *	"timeout_ms"       how long it waits for other functions
 *	"store"            {"url", "token", "job"}; a url or token that is missing comes
 *	                   from WADI_ENDPOINT, WADI_TOKEN, or the same behind __OW_
 *	"input"            [[path, offset, length], ...]           sample, map, validate
 *	"output"           path                                    generate, reduce
 *	"maps", "reduces"  how many there are                      map, reduce
 *	"samples"          how many to take                        sample
 *	"skew", "first", "count"   which records; first is hexadecimal     generate
 */
#pragma once

#include <jansson.h>

#include "input.h"
#include "store.h"

/* Lowest --function-memory: two windows of the longest line and the base fit in it. */
#define FUNCTION_MEMORY_MIN ((size_t)32 << 20)

/* Offsets into an arena have 32 bits. */
#define FUNCTION_MEMORY_MAX ((size_t)4 << 30)

/* Of one stage, and so the objects of a bucket; a driver holds what they all replied. */
#define FUNCTIONS_MAX 1000

struct request {
	const char *op;
	uint32_t index, attempt;
	enum format format;
	size_t function_memory;
	uint32_t timeout_ms;
	struct store_config store; /* its url is NULL if there is none */
	struct segment *input;     /* owned */
	size_t input_count;
	const char *output;
	uint32_t maps, reduces, samples;
	enum skew skew;
	u128 first;
	uint64_t count;
};

/* Strings point into `value` and into the environment. */
int request_parse(const json_t *value, struct request *ret, struct problem *problem);
void request_fini(struct request *r);

/* Requests are JSON, which is UTF-8; a path is any bytes. */
int request_text_check(const char *text, struct problem *problem);

/* 128 bits as hexadecimal digits and back, because JSON's numbers end at 53. */
#define U128_DIGITS 33 /* with the NUL */
void u128_format(u128 v, char ret[U128_DIGITS]);
int u128_parse(const char *s, u128 *ret);
