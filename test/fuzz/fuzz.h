/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz: what every target has: bytes that are taken from the front, a property that
 * must hold, and seeds.
 *
 * A target is fuzz_<name>.c with LLVMFuzzerTestOneInput(), which libFuzzer calls with
 * whatever bytes reach new code, and fuzz_seeds(), which makes the first inputs with
 * our own encoders (`tools/fuzz --seeds`; they lie in test/corpus/<name>). It makes no
 * system call, keeps nothing from one input to the next, and takes its random numbers
 * from the input, so that an input that failed fails again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The target's own: fuzz_seed() for each. */
void fuzz_seeds(void);
void fuzz_seed(const char *name, const void *bytes, size_t len);

/* Not assert(): it is the target that looks, and says at what. */
#define REQUIRE(condition)                                                                        \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                  \
		}                                                                                 \
	} while (0)

/* Of no interest to libFuzzer: what is here compares our own words. */
#define UNWATCHED __attribute__((no_sanitize("coverage")))

/* An input; zeros, and no bytes, once it is used up. */
struct bytes {
	const uint8_t *p, *end;
};

static inline struct bytes bytes_of(const uint8_t *data, size_t len)
{
	return (struct bytes){ data, data + len };
}

static inline size_t bytes_left(const struct bytes *in)
{
	return (size_t)(in->end - in->p);
}

static inline uint64_t take(struct bytes *in, size_t width)
{
	uint64_t v = 0;

	for (size_t i = 0; i < width && in->p < in->end; i++)
		v |= (uint64_t)*in->p++ << (8 * i);
	return v;
}

/* At most `len` bytes, where they are. */
static inline struct slice take_slice(struct bytes *in, size_t len)
{
	struct slice s = { in->p, len < bytes_left(in) ? len : bytes_left(in) };

	in->p += s.len;
	return s;
}

/* A copy that ends with its memory, so that one byte further is seen; and a NUL, for text. */
static inline char *text_of(struct slice s)
{
	char *copy = malloc(s.len + 1);

	REQUIRE(copy);
	if (s.len > 0)
		memcpy(copy, s.ptr, s.len);
	copy[s.len] = '\0';
	return copy;
}

static inline struct slice words(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}
