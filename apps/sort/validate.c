/* SPDX-License-Identifier: Apache-2.0 */
/*
 * validate: a part of the output, as the file has it: is it in order, how much is in
 * it, and what is the sum. Tells besides where the first and the last key are, so that
 * the driver can compare neighboring parts.
 */
#include "function.h"

#include <errno.h>
#include <string.h>

#include "region.h"

#define READ_SIZE ((size_t)1 << 20)

struct validator {
	struct function *f;
	struct input input;
	struct region arena;
	uint64_t base; /* where the arena begins in the file */
	size_t at, have;
	uint64_t duplicates;
	uint64_t first_len;
	uint64_t last_offset, last_len; /* in the file */
};

/* The key at `at`, or a length of SIZE_MAX if it is not whole in the arena. */
static size_t key_at(const struct validator *v)
{
	const uint8_t *begin = v->arena.ptr + v->at;
	const uint8_t *newline;

	if (v->f->req->format == FORMAT_RECORDS)
		return v->have - v->at < RECORD_SIZE ? SIZE_MAX : RECORD_KEY_SIZE;
	newline = memchr(begin, '\n', v->have - v->at);
	return newline ? (size_t)(newline - begin) : SIZE_MAX;
}

static int key_check(struct validator *v, size_t len)
{
	const uint8_t *last = v->arena.ptr + (v->last_offset - v->base);
	const uint8_t *key = v->arena.ptr + v->at;
	int order;

	if (v->f->count == 0) {
		v->first_len = len;
		return 0;
	}
	order = key_compare(last, v->last_len, key, len);
	v->duplicates += order == 0;
	if (order <= 0)
		return 0;
	return problem_set_final(v->f->problem, -EBADMSG, "%s: not in order: number %llu, at %llu",
				 v->f->req->input[0].path, (unsigned long long)v->f->count,
				 (unsigned long long)(v->base + v->at));
}

/* All that is whole in the arena; then what is not, and the last key, move to its front. */
static int arena_check(struct validator *v)
{
	size_t len, keep;

	while (v->at < v->have && (len = key_at(v)) != SIZE_MAX) {
		size_t size = item_size(v->f->req->format, len);
		int r = key_check(v, len);

		if (r < 0)
			return r;
		function_tally(v->f, v->arena.ptr + v->at, size);
		v->last_offset = v->base + v->at;
		v->last_len = len;
		v->at += size;
	}
	keep = v->f->count > 0 ? (size_t)(v->last_offset - v->base) : 0;
	v->have -= keep;
	v->at -= keep;
	v->base += keep;
	memmove(v->arena.ptr, v->arena.ptr + keep, v->have);
	return 0;
}

static int part_check(struct validator *v)
{
	int64_t n;

	while ((n = input_read(&v->input, v->arena.ptr + v->have, v->arena.len - v->have)) > 0) {
		int r;

		v->have += (size_t)n;
		r = arena_check(v);
		if (r < 0)
			return r;
	}
	if (n == 0 && v->at < v->have)
		return problem_set_final(v->f->problem, -EBADMSG,
					 "%s: its last %zu bytes are no record",
					 v->f->req->input[0].path, v->have - v->at);
	return (int)n;
}

int validate_run(struct function *f)
{
	struct validator v = { .f = f };
	size_t line_max = function_line_max(f);
	size_t size = f->req->format == FORMAT_LINES ? 2 * (line_max + 1) + READ_SIZE : READ_SIZE;
	int r;

	if (f->req->input_count != 1 || f->req->input[0].offset != 0)
		return problem_set_final(f->problem, -EINVAL, "validate: wants one whole file");
	if (region_init(&v.arena, size) < 0)
		return function_no_memory(f, size);
	input_init(&v.input, f->req->format, f->req->input, 1, line_max, f->problem);
	r = part_check(&v);
	f->read_bytes = v.input.read_bytes;
	f->more = json_pack("{sI sI sI sI}", "duplicates", (json_int_t)v.duplicates, "first_len",
			    (json_int_t)v.first_len, "last_offset", (json_int_t)v.last_offset,
			    "last_len", (json_int_t)v.last_len);
	input_fini(&v.input);
	region_fini(&v.arena);
	return r;
}
