/* SPDX-License-Identifier: Apache-2.0 */
/*
 * many: a great number of one thing, in one client.
 *
 *	many objects N [TIMEOUT_MS]
 *			  puts N objects of 100 bytes, DEPTH in flight, and says how fast
 *	many check N      gets them all, and checks every byte
 *	many waiters N    N requests that wait for an object that does not come, over as many
 *			  connections as descriptors allow; prints `waiting` and how many those
 *			  are, and puts the object when its standard input ends
 *	many idle N	  opens N handles, each with a connection of its own, and prints `idle`;
 *			  each puts and gets something when its standard input ends
 *	many stream SIZE  one object of SIZE bytes, streamed; how fast its quarters were, and
 *			  in turn with it an eighth as many bytes written to fresh memory
 *	many read SIZE    reads it, and checks every byte
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <wadi/wadi.h>

#define DEPTH 256
#define VALUE 100
#define PIECE (1u << 20)

/* After so much of a stream so much is written to fresh memory. */
#define FLOOR_EVERY (64u * PIECE)
#define FLOOR_BYTES (8u * PIECE)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fail(const struct wadi *w, const char *what, uint64_t i)
{
	fprintf(stderr, "many: %s %llu: %s\n", what, (unsigned long long)i,
		w ? wadi_strerror(w) : "no memory");
	exit(1);
}

static struct wadi *begin(uint32_t timeout_ms)
{
	struct wadi_options options = WADI_OPTIONS;
	struct wadi *w;

	options.timeout_ms = timeout_ms;
	if (wadi_open(&options, &w) < 0)
		fail(w, "open", 0);
	return w;
}

static void path_of(uint64_t i, char path[64])
{
	snprintf(path, 64, "many/%03llu/%07llu", (unsigned long long)(i % 1000),
		 (unsigned long long)i);
}

static void value_of(uint64_t i, uint8_t value[VALUE])
{
	memset(value, (int)(i % 251), VALUE);
	memcpy(value, &i, sizeof(i));
}

static void objects(uint64_t n, uint32_t timeout_ms, int is_check)
{
	static struct wadi_op *ops[DEPTH];
	static uint8_t values[DEPTH][VALUE];
	struct wadi *w = begin(timeout_ms);
	double begun = now_s();

	for (uint64_t i = 0; i < n + DEPTH; i++) {
		struct wadi_op **op = &ops[i % DEPTH];
		uint8_t *value = values[i % DEPTH], right[VALUE];
		char path[64];
		int64_t r = 0;

		if (*op)
			r = wadi_op_end(op);
		if (r < 0)
			fail(w, "object", i - DEPTH);
		if (is_check && i >= DEPTH) {
			value_of(i - DEPTH, right);
			if (r != VALUE || memcmp(value, right, VALUE) != 0)
				fail(w, "other bytes in object", i - DEPTH);
		}
		if (i >= n)
			continue;
		path_of(i, path);
		if (!is_check)
			value_of(i, value);
		r = is_check ? wadi_start_get(w, path, value, VALUE, NULL, NULL, op)
			     : wadi_start_put(w, path, value, VALUE, NULL, NULL, op);
		if (r < 0)
			fail(w, "object", i);
	}
	printf("%llu objects in %.2f s: %.0f per second\n", (unsigned long long)n, now_s() - begun,
	       (double)n / (now_s() - begun));
	wadi_close(w);
}

/* Until who has started us closes it. */
static void wait_for_input(void)
{
	char end;

	while (read(STDIN_FILENO, &end, 1) > 0)
		;
}

static void waiters(uint64_t n)
{
	struct wadi_op **ops = calloc(n, sizeof(*ops));
	struct rlimit files;
	struct wadi_stat stat;
	struct wadi **all;
	uint64_t count;
	double begun;

	/* The server, which has the same limit, has a sixth of its descriptors for connections; and
	 * three others like us may be there. */
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	count = files.rlim_max / 32 < n ? files.rlim_max / 32 : n;
	all = calloc(count, sizeof(*all));
	if (!all || !ops)
		fail(NULL, "waiters", n);
	for (uint64_t i = 0; i < n; i++) {
		struct wadi **w = &all[i % count];

		if (!*w)
			*w = begin(60000);
		if (wadi_start_wait(*w, "late", 3600000, &stat, &ops[i]) < 0)
			fail(*w, "waiter", i);
		while (wadi_turn(*w, 0) > 0)
			;
	}
	printf("waiting %llu\n", (unsigned long long)count);
	fflush(stdout);
	wait_for_input();
	begun = now_s();
	if (wadi_put(all[0], "late", "x", 1, NULL, NULL) < 0)
		fail(all[0], "put", 0);
	for (uint64_t i = 0; i < n; i++)
		if (wadi_op_end(&ops[i]) < 0)
			fail(all[i % count], "waiter", i);
	printf("%llu waiters awake in %.2f s\n", (unsigned long long)n, now_s() - begun);
	for (uint64_t i = 0; i < count; i++)
		wadi_close(all[i]);
	free(all);
	free(ops);
}

static void idle(uint64_t n)
{
	struct wadi **all = calloc(n, sizeof(*all));
	char path[64], value[64];
	int64_t len;

	if (!all)
		fail(NULL, "handles", n);
	for (uint64_t i = 0; i < n; i++)
		all[i] = begin(60000);
	printf("idle\n");
	fflush(stdout);
	wait_for_input();
	for (uint64_t i = 0; i < n; i++) {
		path_of(i, path);
		if (wadi_put(all[i], path, path, strlen(path), NULL, NULL) < 0)
			fail(all[i], "put", i);
		len = wadi_get(all[i], path, value, sizeof(value), NULL, NULL);
		if (len != (int64_t)strlen(path) || memcmp(path, value, (size_t)len) != 0)
			fail(all[i], "get", i);
	}
	for (uint64_t i = 0; i < n; i++)
		wadi_close(all[i]);
	free(all);
}

static void fill(uint64_t at, uint64_t *piece)
{
	for (size_t i = 0; i < PIECE / 8; i++)
		piece[i] = (at + i * 8) * 0x9e3779b97f4a7c15ull;
}

/*
 * What a store could do at best: pages of a memfd are made, and the piece is copied there. They
 * stay until we end, or the next to need some would find them. The seconds that it took.
 */
static double write_floor(const uint64_t *piece)
{
	double begun = now_s();
	int fd = memfd_create("floor", MFD_CLOEXEC);
	uint8_t *p = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, FLOOR_BYTES) == 0)
		p = mmap(NULL, FLOOR_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		fail(NULL, "floor", 0);
	close(fd);
	(void)madvise(p, FLOOR_BYTES, MADV_POPULATE_WRITE); /* else the copy makes them */
	for (size_t at = 0; at < FLOOR_BYTES; at += PIECE)
		memcpy(p + at, piece, PIECE);
	return now_s() - begun;
}

static void tell_quarter(double bytes, double seconds, double floor_s)
{
	double mbps = bytes / 1e6 / seconds,
	       floor = bytes / FLOOR_EVERY * FLOOR_BYTES / 1e6 / floor_s;

	printf("quarter: %.0f MB/s; fresh memory beside it: %.0f MB/s; ratio %.2f\n", mbps, floor,
	       mbps / floor);
	fflush(stdout);
}

static void stream(uint64_t size)
{
	static uint64_t piece[PIECE / 8];
	struct wadi *w = begin(60000);
	struct wadi_writer *wr;
	double begun = now_s(), quarter = begun, floor = 0, all_floor = 0;

	if (wadi_writer_open(w, "stream", 0, NULL, &wr) < 0)
		fail(w, "stream", 0);
	for (uint64_t at = 0; at < size; at += PIECE) {
		fill(at, piece);
		if (wadi_writer_write(wr, piece, PIECE) < 0)
			fail(w, "byte", at);
		if ((at + PIECE) % FLOOR_EVERY == 0)
			floor += write_floor(piece);
		if ((at + PIECE) % (size / 4) == 0) {
			tell_quarter((double)size / 4, now_s() - quarter - floor, floor);
			quarter = now_s();
			all_floor += floor;
			floor = 0;
		}
	}
	if (wadi_writer_commit(&wr, NULL) < 0)
		fail(w, "commit", size);
	printf("%llu bytes in %.2f s: %.0f MB/s\n", (unsigned long long)size,
	       now_s() - begun - all_floor, (double)size / 1e6 / (now_s() - begun - all_floor));
	wadi_close(w);
}

static void read_all(uint64_t size)
{
	static uint64_t piece[PIECE / 8], right[PIECE / 8];
	struct wadi *w = begin(60000);
	struct wadi_reader *rd;
	double begun = now_s();
	uint64_t at = 0, got = 0;
	int64_t n = 0;

	if (wadi_reader_open(w, "stream", NULL, &rd) < 0)
		fail(w, "stream", 0);
	while ((n = wadi_reader_read(rd, (uint8_t *)piece + got, PIECE - got)) > 0) {
		got += (uint64_t)n;
		if (got < PIECE)
			continue;
		fill(at, right);
		if (memcmp(piece, right, PIECE) != 0)
			fail(w, "other bytes at", at);
		at += PIECE;
		got = 0;
	}
	if (n < 0 || at != size)
		fail(w, "the end is at", at);
	wadi_reader_close(&rd);
	printf("%llu bytes read in %.2f s: %.0f MB/s\n", (unsigned long long)size, now_s() - begun,
	       (double)size / 1e6 / (now_s() - begun));
	wadi_close(w);
}

int main(int argc, char **argv)
{
	uint64_t n = argc == 3 || argc == 4 ? strtoull(argv[2], NULL, 0) : 0;
	uint32_t timeout_ms = argc == 4 ? (uint32_t)strtoul(argv[3], NULL, 0) : 60000;

	if (n > 0 && strcmp(argv[1], "objects") == 0)
		objects(n, timeout_ms, 0);
	else if (n > 0 && strcmp(argv[1], "check") == 0)
		objects(n, timeout_ms, 1);
	else if (n > 0 && strcmp(argv[1], "waiters") == 0)
		waiters(n);
	else if (n > 0 && strcmp(argv[1], "idle") == 0)
		idle(n);
	else if (n > 0 && n % (4ull * FLOOR_EVERY) == 0 && strcmp(argv[1], "stream") == 0)
		stream(n);
	else if (n > 0 && n % PIECE == 0 && strcmp(argv[1], "read") == 0)
		read_all(n);
	else
		return fprintf(stderr, "usage: many objects|check|waiters|idle|stream|read N "
				       "[TIMEOUT_MS]\n"),
		       2;
	return 0;
}
