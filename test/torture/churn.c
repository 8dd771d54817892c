/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn: a client that never stops changing its objects and knows what they must be. It
 * puts, streams, gets and removes at random, checks every byte that it gets, and lives on
 * when servers are killed under it.
 *
 *	churn PREFIX SEED [PATHS]
 *
 * What was acknowledged must be there. What was sent and not answered may be there or not, until
 * somebody has looked; it is over when its deadline is, so we wait that long before we
 * go on with that path. It ends with the end of its standard input: then it looks at
 * everything once more, and prints what it did. A byte that is wrong, a version that is too
 * old or an object that is lost ends it at once, with 1 and a line that says which.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "dice.h"
#include <wadi/wadi.h>

#define PATHS_MAX  256
#define BYTES_MAX  (10u << 20)
#define TIMEOUT_MS 30000

/* A proxy gives up a moment after its caller's deadline. */
#define GRACE_NS 1500000000

struct object {
	char path[64];
	uint64_t acknowledged; /* number of its content; 0: it is not there */
	uint64_t perhaps;      /* sent and not answered, if is_unknown; 0: a removal */
	int is_unknown;
};

static struct object objects[PATHS_MAX];
static unsigned object_count = 24;
static uint64_t state, next_number = 1;
static uint8_t *out, *in;
static struct wadi *w;
static uint64_t counts[8], bytes, longest_ms;
enum { PUTS, STREAMS, GETS, REMOVES, UNKNOWNS, REPEATS };

static uint64_t roll(uint64_t below)
{
	return dice_roll(&state, below);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Length and bytes follow from the number. */
static size_t length_of(uint64_t number)
{
	uint64_t z = mix(number * 77), kind = z % 100;

	z >>= 8;
	if (kind < 5)
		return 0;
	if (kind < 55)
		return 1 + z % 2048;
	if (kind < 85)
		return 1 + z % 65536;
	if (kind < 98)
		return 1 + z % (1 << 20);
	return 1 + z % BYTES_MAX;
}

static size_t make(uint64_t number, const char *path, uint8_t *to)
{
	size_t len = length_of(number);
	uint64_t z = number;

	for (const char *p = path; *p; p++)
		z = z * 131 + (uint8_t)*p;
	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = mix(z + i);

		memcpy(to + i, &word, 8);
	}
	return len;
}

static void wrong(const struct object *o, const char *what)
{
	fprintf(stderr, "churn: %s: %s (acknowledged %llu, perhaps %llu, unknown %d): %s\n",
		o->path, what, (unsigned long long)o->acknowledged, (unsigned long long)o->perhaps,
		o->is_unknown, wadi_strerror(w));
	exit(1);
}

/* What a server that is away answers; everything else is a mistake of somebody's. */
static int is_away(int64_t r)
{
	return r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -ECONNRESET || r == -EAGAIN ||
	       r == -ENOLINK || r == -ENOBUFS;
}

/* Nothing of it is on its way any more. */
static void unknown(struct object *o, uint64_t number)
{
	const struct timespec grace = { 1, GRACE_NS - 1000000000 };

	if (o->is_unknown && o->perhaps != number)
		wrong(o, "two changes are unknown");
	o->is_unknown = 1;
	o->perhaps = number;
	counts[UNKNOWNS]++;
	nanosleep(&grace, NULL);
}

static int is_content(const struct object *o, uint64_t number, int64_t len)
{
	if (number == 0)
		return len == -ENOENT;
	return len == (int64_t)length_of(number) && make(number, o->path, out) == (size_t)len &&
	       memcmp(in, out, (size_t)len) == 0;
}

/* 0, or it is not known. */
static int look(struct object *o)
{
	int64_t len = wadi_get(w, o->path, in, BYTES_MAX + 8, NULL, NULL);

	if (is_away(len)) {
		counts[REPEATS]++;
		return -EAGAIN;
	}
	if (is_content(o, o->acknowledged, len)) {
		o->is_unknown = 0;
	} else if (o->is_unknown && is_content(o, o->perhaps, len)) {
		o->acknowledged = o->perhaps;
		o->is_unknown = 0;
	} else {
		wrong(o, len == -ENOENT ? "it is lost"
			 : len < 0      ? "it cannot be read"
					: "these are other bytes");
	}
	counts[GETS]++;
	bytes += len > 0 ? (uint64_t)len : 0;
	return 0;
}

static int64_t stream(const char *path, size_t len)
{
	struct wadi_put_options options = WADI_PUT_OPTIONS;
	struct wadi_writer *wr = NULL;
	int r;

	options.timeout_ms = TIMEOUT_MS;
	r = wadi_writer_open(w, path, roll(2) ? len : 0, &options, &wr);
	for (size_t at = 0; r == 0 && at < len;) {
		size_t part = 1 + roll(300000);

		if (part > len - at)
			part = len - at;
		r = wadi_writer_write(wr, out + at, part);
		at += part;
	}
	if (r == 0)
		return wadi_writer_commit(&wr, NULL);
	if (wr)
		wadi_writer_abandon(&wr);
	return r;
}

static void put(struct object *o)
{
	uint64_t number = next_number++;
	size_t len = make(number, o->path, out);
	int is_stream = roll(8) == 0;
	int64_t r = is_stream ? stream(o->path, len) : wadi_put(w, o->path, out, len, NULL, NULL);

	if (r == 0) {
		o->acknowledged = number;
		o->is_unknown = 0;
		counts[is_stream ? STREAMS : PUTS]++;
		bytes += len;
	} else if (is_away(r) || r == -ESTALE) {
		unknown(o, number);
	} else {
		wrong(o, "it cannot be put");
	}
}

static void remove_it(struct object *o)
{
	int r = wadi_remove(w, o->path, 0);

	if (r == 0 || (r == -ENOENT && o->acknowledged == 0)) {
		o->acknowledged = 0;
		o->is_unknown = 0;
		counts[REMOVES]++;
	} else if (is_away(r) || r == -ESTALE) {
		unknown(o, 0);
	} else {
		wrong(o, "it cannot be removed");
	}
}

static void step(void)
{
	struct object *o = &objects[roll(object_count)];
	uint64_t begun = now_ms(), what = roll(100);

	/* First what became of it: one change at a time may be unknown. */
	if (o->is_unknown || what < 40)
		(void)look(o);
	else if (what < 92)
		put(o);
	else
		remove_it(o);
	if (now_ms() - begun > longest_ms)
		longest_ms = now_ms() - begun;
}

static int must_end(void)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

int main(int argc, char **argv)
{
	struct wadi_options options = WADI_OPTIONS;
	int r;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: churn PREFIX SEED [PATHS]\n");
		return 2;
	}
	state = strtoull(argv[2], NULL, 0);
	if (argc > 3)
		object_count = (unsigned)strtoul(argv[3], NULL, 0);
	if (object_count == 0 || object_count > PATHS_MAX)
		return 2;
	for (unsigned i = 0; i < object_count; i++)
		snprintf(objects[i].path, sizeof(objects[i].path), "%.40s/%u", argv[1], i);
	out = malloc(BYTES_MAX + 8);
	in = malloc(BYTES_MAX + 8);
	options.timeout_ms = TIMEOUT_MS;
	r = out && in ? wadi_open(&options, &w) : -ENOMEM;
	if (r < 0) {
		fprintf(stderr, "churn: %s\n", w ? wadi_strerror(w) : "no memory");
		return 1;
	}
	while (!must_end())
		step();
	for (unsigned i = 0; i < object_count; i++)
		while (look(&objects[i]) < 0)
			;
	printf("puts %llu streams %llu gets %llu removes %llu unknown %llu repeated %llu bytes "
	       "%llu "
	       "longest_ms %llu\n",
	       (unsigned long long)counts[PUTS], (unsigned long long)counts[STREAMS],
	       (unsigned long long)counts[GETS], (unsigned long long)counts[REMOVES],
	       (unsigned long long)counts[UNKNOWNS], (unsigned long long)counts[REPEATS],
	       (unsigned long long)bytes, (unsigned long long)longest_ms);
	wadi_close(w);
	return 0;
}
