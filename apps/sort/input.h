/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input: a function's share of the files in long-term storage, as one stream of
 * whole records or lines.
 *
 * A share is cut by bytes. A line belongs to the share in which it begins; so the
 * end of a line that began before the share is skipped, and the last line is read
 * on behind the share's end. A file that ends without a newline gets one.
 */
#pragma once

#include "item.h"
#include "problem.h"

struct segment {
	const char *path; /* not ours */
	uint64_t offset, len;
};

struct input {
	enum format format;
	const struct segment *segments; /* not ours */
	size_t count;
	size_t line_max;         /* a longer one is an error that names it */
	struct problem *problem; /* not ours */
	uint64_t read_bytes;

	/* input.c's own. */
	int fd; /* of segments[index]; -1: to be opened */
	size_t index;
	uint64_t pos;      /* in the file */
	uint64_t line_len; /* of the line that is not yet at its end */
};

void input_init(struct input *in, enum format format, const struct segment *segments, size_t count,
		size_t line_max, struct problem *problem);
void input_fini(struct input *in);

/* The next bytes, 1 to `cap`; 0 at the end of the share. */
int64_t input_read(struct input *in, uint8_t *buf, size_t cap);

/* Reads until `cap` bytes are there or the share is at its end, and returns how many are. */
int64_t input_fill(struct input *in, uint8_t *buf, size_t cap);
