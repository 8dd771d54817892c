/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sample: some keys of a share, for the driver to choose splitters from.
 *
 * One at a random place in each of as many equal stretches, so that a share that is
 * sorted already, or in parts, is seen whole. A line is hit in proportion to its
 * length, and so buckets become alike in bytes.
 */
#include "function.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "keys.h"
#include "runs.h"

/* How far to look back for the begin of a line; in a longer one the sample is given up. */
#define BACK_MAX ((uint64_t)4 << 20)
#define WINDOW   4096

struct sampler {
	struct function *f;
	struct keys keys;
	uint64_t random;
	const struct segment *segment; /* that fd is open on; NULL: none */
	int fd;

	/* The sample before in this segment, and where its line begins; none at 0. */
	uint64_t last_pos;
	int64_t last_begin;
};

/* splitmix64: for places, not for secrets; an attempt samples the same ones as the last. */
static uint64_t random_next(struct sampler *s)
{
	uint64_t z = s->random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static int64_t read_at(struct sampler *s, uint8_t *buf, size_t cap, uint64_t pos)
{
	ssize_t n = pread(s->fd, buf, cap, (off_t)pos);

	if (n < 0)
		return problem_set(s->f->problem, -errno, "%s: cannot read: %s", s->segment->path,
				   strerror(errno));
	s->f->read_bytes += (uint64_t)n;
	return n;
}

/*
 * Where the line at `pos` begins; -ENODATA: too far back. Where the sample before was is
 * far enough, since it was in the same line then: or each sample of a long line would
 * read all of it.
 */
static int64_t line_begin(struct sampler *s, uint64_t pos)
{
	uint64_t at = pos, far = s->last_pos;

	while (at > far && pos - at < BACK_MAX) {
		uint8_t buf[WINDOW];
		size_t want = at - far < WINDOW ? (size_t)(at - far) : WINDOW;
		int64_t n = read_at(s, buf, want, at - want);
		const uint8_t *newline;

		if (n < 0)
			return n;
		newline = memrchr(buf, '\n', (size_t)n);
		if (newline)
			return (int64_t)(at - want) + (newline - buf) + 1;
		at -= want;
	}
	return at == far ? s->last_begin : -ENODATA;
}

static int line_take(struct sampler *s, uint64_t pos)
{
	uint8_t buf[KEYS_CUT];
	int64_t begin = line_begin(s, pos), n;
	const uint8_t *newline;

	if (begin < 0 && begin != -ENODATA)
		return (int)begin;
	s->last_pos = pos;
	s->last_begin = begin;
	if (begin < 0)
		return 0;
	n = read_at(s, buf, sizeof(buf), (uint64_t)begin);
	if (n < 0)
		return (int)n;
	newline = memchr(buf, '\n', (size_t)n);
	return keys_add(&s->keys, buf, newline ? (size_t)(newline - buf) : (size_t)n);
}

static int record_take(struct sampler *s, uint64_t pos)
{
	uint8_t key[RECORD_KEY_SIZE];
	int64_t n = read_at(s, key, sizeof(key), pos / RECORD_SIZE * RECORD_SIZE);

	if (n < 0)
		return (int)n;
	return n < RECORD_KEY_SIZE ? 0 : keys_add(&s->keys, key, sizeof(key));
}

static void segment_close(struct sampler *s)
{
	if (s->segment)
		close(s->fd);
	s->segment = NULL;
}

static int segment_open(struct sampler *s, const struct segment *segment)
{
	segment_close(s);
	s->fd = open(segment->path, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0)
		return problem_set(s->f->problem, -errno, "%s: cannot open: %s", segment->path,
				   strerror(errno));
	s->segment = segment;
	s->last_pos = 0;
	s->last_begin = 0;
	return 0;
}

/* The sample at this byte of the share. */
static int share_take(struct sampler *s, const struct segment *segment, uint64_t pos)
{
	int r = s->segment == segment ? 0 : segment_open(s, segment);

	if (r < 0)
		return r;
	r = s->f->req->format == FORMAT_LINES ? line_take(s, pos) : record_take(s, pos);
	return r == -ENOMEM ? function_no_memory(s->f, s->keys.len) : r;
}

static int share_sample(struct sampler *s, uint64_t share_len)
{
	const struct request *req = s->f->req;
	uint64_t begin = 0; /* of the segment, in the share */
	size_t index = 0;

	for (uint32_t i = 0; i < req->samples && share_len > 0; i++) {
		uint64_t from = (uint64_t)((u128)share_len * i / req->samples);
		uint64_t to = (uint64_t)((u128)share_len * (i + 1) / req->samples);
		uint64_t pos = from + (to > from ? random_next(s) % (to - from) : 0);
		int r;

		while (pos - begin >= req->input[index].len)
			begin += req->input[index++].len;
		r = share_take(s, &req->input[index], req->input[index].offset + pos - begin);
		if (r < 0)
			return r;
	}
	return 0;
}

int sample_run(struct function *f)
{
	struct sampler s = { .f = f, .random = f->req->index };
	char path[STORE_PATH_MAX];
	uint64_t share_len = 0;
	int r;

	for (size_t i = 0; i < f->req->input_count; i++)
		share_len += f->req->input[i].len;
	r = share_sample(&s, share_len);
	if (r == 0) {
		runs_path("samples", f->req->index, path);
		r = store_put(f->store, path, s.keys.bytes, s.keys.len);
	}
	segment_close(&s);
	keys_fini(&s.keys);
	return r;
}
