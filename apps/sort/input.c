/* SPDX-License-Identifier: Apache-2.0 */
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Large enough for any disk, small enough to be still in the cache when it is looked at. */
#define READ_MAX ((size_t)1 << 20)

void input_init(struct input *in, enum format format, const struct segment *segments, size_t count,
		size_t line_max, struct problem *problem)
{
	*in = (struct input){
		.format = format,
		.segments = segments,
		.count = count,
		.line_max = line_max,
		.problem = problem,
		.fd = -1,
	};
}

static void segment_close(struct input *in)
{
	if (in->fd >= 0)
		close(in->fd);
	in->fd = -1;
}

void input_fini(struct input *in)
{
	segment_close(in);
}

static const struct segment *segment_now(const struct input *in)
{
	return &in->segments[in->index];
}

static uint64_t segment_end(const struct input *in)
{
	return segment_now(in)->offset + segment_now(in)->len;
}

static int64_t read_at(struct input *in, uint8_t *buf, size_t cap, uint64_t pos)
{
	const char *path = segment_now(in)->path;
	ssize_t n;

	do {
		n = pread(in->fd, buf, cap < READ_MAX ? cap : READ_MAX, (off_t)pos);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return problem_set(in->problem, -errno, "%s: cannot read: %s", path,
				   strerror(errno));
	in->read_bytes += (uint64_t)n;
	return n;
}

/* To the first line that begins in the segment, or to its end. */
static int line_seek(struct input *in, uint8_t *buf, size_t cap)
{
	uint64_t end = segment_end(in);

	in->pos--;
	while (in->pos + 1 < end) {
		uint64_t left = end - 1 - in->pos;
		int64_t n = read_at(in, buf, left < cap ? (size_t)left : cap, in->pos);
		const uint8_t *newline;

		if (n <= 0)
			return (int)n;
		newline = memchr(buf, '\n', (size_t)n);
		if (newline) {
			in->pos += (uint64_t)(newline - buf) + 1;
			return 0;
		}
		in->pos += (uint64_t)n;
	}
	in->pos = end;
	return 0;
}

static int segment_open(struct input *in, uint8_t *buf, size_t cap)
{
	const struct segment *s = segment_now(in);

	in->fd = open(s->path, O_RDONLY | O_CLOEXEC);
	if (in->fd < 0)
		return problem_set(in->problem, -errno, "%s: cannot open: %s", s->path,
				   strerror(errno));
	in->pos = s->offset;
	in->line_len = 0;
	return in->format == FORMAT_LINES && s->offset > 0 ? line_seek(in, buf, cap) : 0;
}

static int line_too_long(struct input *in, uint64_t begin)
{
	return problem_set_final(in->problem, -EMSGSIZE,
				 "%s: the line at offset %llu is longer than %zu bytes, a quarter "
				 "of the function's memory; --function-memory sets it",
				 segment_now(in)->path, (unsigned long long)begin, in->line_max);
}

/* Takes note of where lines end in bytes that begin at in->pos, and checks that they do. */
static int lines_follow(struct input *in, const uint8_t *buf, size_t len)
{
	const uint8_t *first = memchr(buf, '\n', len);
	const uint8_t *last;

	if (in->line_len + (first ? (size_t)(first - buf) : len) > in->line_max)
		return line_too_long(in, in->pos - in->line_len);
	if (!first) {
		in->line_len += len;
		return 0;
	}
	last = memrchr(buf, '\n', len);
	in->line_len = (uint64_t)(buf + len - (last + 1));
	return 0;
}

static int64_t read_inside(struct input *in, uint8_t *buf, size_t cap)
{
	uint64_t left = segment_end(in) - in->pos;
	int64_t n = read_at(in, buf, left < cap ? (size_t)left : cap, in->pos);

	if (n == 0)
		return problem_set(in->problem, -EIO, "%s: ends at %llu, and was longer before",
				   segment_now(in)->path, (unsigned long long)in->pos);
	return n;
}

/* Behind the segment: what is left of its last line. */
static int64_t read_tail(struct input *in, uint8_t *buf, size_t cap)
{
	int64_t n = read_at(in, buf, cap < 65536 ? cap : 65536, in->pos);
	const uint8_t *newline;

	if (n < 0)
		return n;
	if (n == 0) {
		buf[0] = '\n';
		return 1;
	}
	newline = memchr(buf, '\n', (size_t)n);
	return newline ? newline - buf + 1 : n;
}

static int64_t read_records(struct input *in, uint8_t *buf, size_t cap)
{
	int64_t n = in->pos < segment_end(in) ? read_inside(in, buf, cap) : 0;

	if (n > 0)
		in->pos += (uint64_t)n;
	return n;
}

static int64_t read_lines(struct input *in, uint8_t *buf, size_t cap)
{
	bool is_tail = in->pos >= segment_end(in);
	int64_t n;
	int r;

	if (is_tail && in->line_len == 0)
		return 0;
	/* So that no line longer than the limit lies inside one read. */
	if (cap > in->line_max)
		cap = in->line_max;
	n = is_tail ? read_tail(in, buf, cap) : read_inside(in, buf, cap);
	if (n < 0)
		return n;
	r = lines_follow(in, buf, (size_t)n);
	if (r < 0)
		return r;
	in->pos += (uint64_t)n;
	return n;
}

int64_t input_read(struct input *in, uint8_t *buf, size_t cap)
{
	for (; in->index < in->count; in->index++) {
		int64_t r = in->fd < 0 ? segment_open(in, buf, cap) : 0;

		if (r == 0)
			r = in->format == FORMAT_LINES ? read_lines(in, buf, cap)
						       : read_records(in, buf, cap);
		if (r != 0)
			return r;
		segment_close(in);
	}
	return 0;
}

int64_t input_fill(struct input *in, uint8_t *buf, size_t cap)
{
	size_t have = 0;

	while (have < cap) {
		int64_t n = input_read(in, buf + have, cap - have);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (int64_t)have;
}
