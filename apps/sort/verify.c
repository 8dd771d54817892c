/* SPDX-License-Identifier: Apache-2.0 */
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define STEP 2048

static uint64_t number(const json_t *reply, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(reply, name));
}

void tally_add(struct tally *t, const json_t *reply)
{
	const char *text = json_string_value(json_object_get(reply, "sum"));
	u128 sum = 0;

	if (text)
		(void)u128_parse(text, &sum); /* then it stays 0, and does not match */
	t->count += number(reply, "count");
	t->sum += sum;
}

/* A key in a file: it may be longer than what we want to hold. */
struct stored_key {
	int fd;
	uint64_t offset, len;
};

/* Like key_compare(); 2: cannot be read. */
static int stored_compare(const struct stored_key *a, const struct stored_key *b)
{
	uint64_t len = a->len < b->len ? a->len : b->len;
	uint8_t x[STEP], y[STEP];

	for (uint64_t at = 0; at < len; at += STEP) {
		size_t n = len - at < STEP ? (size_t)(len - at) : STEP;
		int r;

		if (pread(a->fd, x, n, (off_t)(a->offset + at)) != (ssize_t)n ||
		    pread(b->fd, y, n, (off_t)(b->offset + at)) != (ssize_t)n)
			return 2;
		r = memcmp(x, y, n);
		if (r)
			return r < 0 ? -1 : 1;
	}
	return (a->len > b->len) - (a->len < b->len);
}

static int order_of(const struct part *a, const struct part *b)
{
	struct stored_key last = { .fd = open(a->path, O_RDONLY | O_CLOEXEC),
				   .offset = number(a->reply, "last_offset"),
				   .len = number(a->reply, "last_len") };
	struct stored_key first = { .fd = open(b->path, O_RDONLY | O_CLOEXEC),
				    .len = number(b->reply, "first_len") };
	int order = last.fd >= 0 && first.fd >= 0 ? stored_compare(&last, &first) : 2;

	if (last.fd >= 0)
		close(last.fd);
	if (first.fd >= 0)
		close(first.fd);
	return order;
}

int verify_parts(const struct part *parts, size_t count, struct tally in, uint64_t *duplicates,
		 struct problem *problem)
{
	const struct part *before = NULL; /* the last one that is not empty */
	struct tally out = { 0 };

	for (size_t i = 0; i < count; i++) {
		int order;

		tally_add(&out, parts[i].reply);
		*duplicates += number(parts[i].reply, "duplicates");
		if (number(parts[i].reply, "count") == 0)
			continue;
		order = before ? order_of(before, &parts[i]) : -1;
		if (order == 2)
			return problem_set(problem, -EIO, "%s: cannot read it again",
					   parts[i].path);
		if (order > 0)
			return problem_set(problem, -EBADMSG, "%s begins before the end of %s",
					   parts[i].path, before->path);
		*duplicates += order == 0;
		before = &parts[i];
	}
	if (out.count != in.count)
		return problem_set(problem, -EBADMSG, "%llu went in and %llu came out",
				   (unsigned long long)in.count, (unsigned long long)out.count);
	if (out.sum != in.sum)
		return problem_set(problem, -EBADMSG,
				   "the sums of what went in and of what came "
				   "out differ");
	return 0;
}
