/* SPDX-License-Identifier: Apache-2.0 */
/*
 * functions: one of many functions of a proxy. It opens a handle, puts, reserves, streams, gets,
 * views and removes objects of its own, reads those of others, closes it, and begins again; it
 * checks every byte. functions.py starts many, and kills and stops them.
 *
 *	functions TABLE ME STEP COUNT OBJECTS SEED LIFE
 *
 * It is number ME of COUNT; those of its job are STEP apart. TABLE is a file with a line of words
 * for each of them, where it says how far it is. LIFE is how many had its number before: it removes
 * what the last one left. It ends when the first word of the table is not 0 any more: with 0, and
 * with what it had removed. With 3 when its job has ended and its views have said so. With 1, and a
 *line that says why, if anything was wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include "dice.h"
#include <wadi/wadi.h>

#define OBJECTS_MAX 10000
#define LARGE_COUNT 8 /* of its objects may be large ones */
#define LARGE_BYTES (1u << 20)
#define LARGE_EVERY 32 /* operations on them, more often than there are such */
#define LEN_MIN     16 /* of an object: its number, and some of what follows from it */
#define HELD_MAX    8
#define SHOWN       5
#define OPS_MIN     50 /* with one handle */
#define OPS_MAX     500
#define TIMEOUT_MS  60000

enum { JOB_HAS_ENDED = 3 };

/* Of the table; 128 bytes. functions.py knows them by their order. */
struct line {
	uint64_t ops, opens, puts, gets, views, longest_us, life, revoked, bytes, is_ready;
	uint64_t at[SHOWN]; /* where the bytes of some of its views are */
	uint64_t unused;
};

struct held {
	struct wadi_view *view;
	char path[40];
	unsigned object;
	uint64_t number; /* that it has, if we know it */
};

static struct line *lines, *mine;
static const volatile uint64_t *is_over;
static unsigned me, step_count, function_count, object_count;
static uint64_t state, numbers[OBJECTS_MAX]; /* 0: there is none */
static struct held held[HELD_MAX];
static unsigned held_count;
static uint8_t *out, *in;
static struct wadi *w;

static uint64_t roll(uint64_t below)
{
	return dice_roll(&state, below);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* An object begins with its number; its length and its other bytes follow from that. */
static size_t length_of(uint64_t number, unsigned object)
{
	uint64_t z = mix(number), kind = z % 100;

	z >>= 8;
	if (object < LARGE_COUNT && kind < 50)
		return LEN_MIN + z % (LARGE_BYTES - LEN_MIN);
	return LEN_MIN + z % (kind < 65 ? 2048 : 12000);
}

static uint64_t word_of(uint64_t number, unsigned object, size_t at)
{
	return mix(number + ((uint64_t)object << 32) + at);
}

static size_t make(uint8_t *to, uint64_t number, unsigned object)
{
	size_t len = length_of(number, object);

	memcpy(to, &number, 8);
	for (size_t at = 8; at < len; at += 8) {
		uint64_t word = word_of(number, object, at);

		memcpy(to + at, &word, len - at < 8 ? len - at : 8);
	}
	return len;
}

/* Its number; 0: nobody has put these bytes. */
static uint64_t number_in(const uint8_t *data, size_t len, unsigned object)
{
	uint64_t number;

	if (len < LEN_MIN)
		return 0;
	memcpy(&number, data, 8);
	if (len != length_of(number, object))
		return 0;
	for (size_t at = 8; at < len; at += 8) {
		uint64_t word = word_of(number, object, at);

		if (memcmp(data + at, &word, len - at < 8 ? len - at : 8) != 0)
			return 0;
	}
	return number;
}

static void wrong(const char *path, const char *what)
{
	fprintf(stderr, "functions: %u: %s: %s: %s\n", me, path, what, wadi_strerror(w));
	exit(1);
}

/* Is it one of those that are revoked with the segment, and not a copy? */
static int is_in_place(const struct held *h)
{
	uintptr_t ptr = (uintptr_t)wadi_view_data(h->view), begin, end;
	FILE *maps = fopen("/proc/self/maps", "re");
	char text[300];
	int found = 0;

	while (maps && !found && fgets(text, sizeof(text), maps))
		found = sscanf(text, "%lx-%lx", &begin, &end) == 2 && begin <= ptr && ptr < end &&
			strstr(text, " r--s ") && strstr(text, "memfd:wadi-segment");
	if (maps)
		fclose(maps);
	return found;
}

/* Whoever hears that his job has ended has no view any more that would say it were whole. */
static void job_has_ended(void)
{
	for (unsigned i = 0; i < held_count; i++) {
		int was_in_place = is_in_place(&held[i]);
		int r = wadi_release(&held[i].view);

		if (was_in_place && r != -ESTALE)
			wrong(held[i].path, "its job has ended, and its view is said to be whole");
		mine->revoked += was_in_place;
	}
	wadi_close(w);
	exit(JOB_HAS_ENDED);
}

static int is_fine(const char *path, int64_t r, const char *what)
{
	if (r == -EIDRM || r == -ENXIO)
		job_has_ended();
	if (r < 0 && r != -ENOENT)
		wrong(path, what);
	return r >= 0;
}

static void show_held(void)
{
	for (unsigned i = 0; i < SHOWN; i++)
		mine->at[i] = i < held_count ? (uintptr_t)wadi_view_data(held[i].view) : 0;
}

/* A view that was whole when it was given back had the right bytes until then. */
static void release(unsigned i)
{
	struct held *h = &held[i];
	uint64_t number = number_in(wadi_view_data(h->view), wadi_view_len(h->view), h->object);
	int r = wadi_release(&h->view);

	if (r == -ESTALE)
		mine->revoked++;
	else if (r < 0)
		wrong(h->path, "its view cannot be given back");
	else if (number == 0 || (h->number && number != h->number))
		wrong(h->path, "its view had other bytes");
	held[i] = held[--held_count];
	show_held();
}

/* Of one of our own, or of another one of our job. True: it is ours. */
static int choose(char path[40], unsigned *ret_object)
{
	unsigned count = (function_count - me % step_count + step_count - 1) / step_count;
	unsigned whose = me % step_count + step_count * (unsigned)roll(count);

	if (roll(4) || whose >= function_count)
		whose = me;
	*ret_object = (unsigned)roll(roll(LARGE_EVERY) ? object_count : LARGE_COUNT);
	snprintf(path, 40, "f%u.%llu/%u", whose, (unsigned long long)lines[whose].life,
		 *ret_object);
	return whose == me;
}

/* What we know of it is what is there. */
static void compare(const char *path, unsigned object, int is_ours, int is_there, uint64_t number)
{
	if (is_there && number == 0)
		wrong(path, "these are no bytes that anybody has put");
	if (is_ours && !is_there && numbers[object])
		wrong(path, "it is lost");
	if (is_ours && is_there && number != numbers[object])
		wrong(path, "these are older bytes");
}

static void view(void)
{
	struct held *h = &held[held_count];
	int is_ours, r;

	if (held_count == HELD_MAX) {
		release((unsigned)roll(HELD_MAX));
		return;
	}
	is_ours = choose(h->path, &h->object);
	r = wadi_view(w, h->path, NULL, &h->view);
	if (!is_fine(h->path, r, "it cannot be viewed")) {
		compare(h->path, h->object, is_ours, 0, 0);
		return;
	}
	h->number = is_ours ? numbers[h->object] : 0;
	if (is_ours && !h->number)
		wrong(h->path, "it was removed, and is viewed");
	held_count++;
	show_held();
	mine->views++;
	mine->bytes += wadi_view_len(h->view);
	if (roll(4))
		release(held_count - 1);
}

static void get(void)
{
	char path[40];
	unsigned object;
	int is_ours = choose(path, &object);
	int64_t len = wadi_get(w, path, in, LARGE_BYTES, NULL, NULL);
	int is_there = is_fine(path, len, "it cannot be read");

	compare(path, object, is_ours, is_there, is_there ? number_in(in, (size_t)len, object) : 0);
	mine->gets++;
	mine->bytes += is_there ? (uint64_t)len : 0;
}

static int put_in_place(const char *path, size_t len)
{
	struct wadi_reservation *place;
	int r = wadi_reserve(w, path, len, NULL, &place);

	if (r < 0)
		return r;
	if (roll(10) == 0) {
		wadi_abandon(&place);
		return wadi_put(w, path, out, len, NULL, NULL);
	}
	memcpy(wadi_reservation_data(place), out, len);
	return wadi_commit(&place, NULL);
}

static int put_in_pieces(const char *path, size_t len)
{
	struct wadi_writer *writer = NULL;
	int r = wadi_writer_open(w, path, 0, NULL, &writer);

	for (size_t at = 0, n; r == 0 && at < len; at += n) {
		n = 1 + roll(100000);
		n = n < len - at ? n : len - at;
		r = wadi_writer_write(writer, out + at, n);
	}
	if (r == 0)
		return wadi_writer_commit(&writer, NULL);
	if (writer)
		wadi_writer_abandon(&writer);
	return r;
}

static void put(unsigned object)
{
	uint64_t number = 1 + roll(UINT64_MAX - 1), how = roll(20);
	size_t len = make(out, number, object);
	char path[40];
	int r;

	snprintf(path, sizeof(path), "f%u.%llu/%u", me, (unsigned long long)mine->life, object);
	if (how < 2)
		r = put_in_pieces(path, len);
	else if (how < 9)
		r = put_in_place(path, len);
	else
		r = wadi_put(w, path, out, len, NULL, NULL);
	/* What is reserved goes with its job, and does not say so. */
	if (how >= 2 && how < 9 && r == -ESTALE)
		(void)is_fine(path, wadi_stat(w, path, NULL), "it cannot be looked for");
	if (!is_fine(path, r, "it cannot be put"))
		wrong(path, "it cannot be put");
	numbers[object] = number;
	mine->puts++;
	mine->bytes += len;
}

static void remove_it(unsigned object)
{
	char path[40];
	int is_there;

	snprintf(path, sizeof(path), "f%u.%llu/%u", me, (unsigned long long)mine->life, object);
	is_there = is_fine(path, wadi_remove(w, path, 0), "it cannot be removed");
	if (is_there != (numbers[object] != 0))
		wrong(path, "it was there, or not, when it was removed");
	numbers[object] = 0;
}

static void step(void)
{
	uint64_t begun = now_us(), took, what = roll(100);

	if (what < 45)
		view();
	else if (what < 65)
		get();
	else if (what < 85)
		put((unsigned)roll(roll(LARGE_EVERY) ? object_count : LARGE_COUNT));
	else if (what < 95 && held_count > 0)
		release((unsigned)roll(held_count));
	else
		remove_it((unsigned)roll(object_count));
	took = now_us() - begun;
	if (took > mine->longest_us)
		mine->longest_us = took;
	mine->ops++;
}

static void open_it(void)
{
	struct wadi_options options = WADI_OPTIONS;
	int r;

	options.timeout_ms = TIMEOUT_MS;
	r = wadi_open(&options, &w);
	(void)is_fine("handle", r == -ENOENT ? -EIO : r, "it cannot be opened");
	mine->opens++;
}

static void close_it(void)
{
	while (held_count > 0)
		release(held_count - 1);
	wadi_close(w);
	w = NULL;
}

static void remove_life(uint64_t life)
{
	char path[40];

	snprintf(path, sizeof(path), "f%u.%llu", me, (unsigned long long)life);
	(void)is_fine(path, wadi_remove_tree(w, path, NULL), "it cannot be removed");
}

static void begin(char **argv)
{
	int fd = open(argv[1], O_RDWR | O_CLOEXEC);
	void *table;

	me = (unsigned)strtoul(argv[2], NULL, 0);
	step_count = (unsigned)strtoul(argv[3], NULL, 0);
	function_count = (unsigned)strtoul(argv[4], NULL, 0);
	object_count = (unsigned)strtoul(argv[5], NULL, 0);
	state = strtoull(argv[6], NULL, 0);
	out = malloc(LARGE_BYTES);
	in = malloc(LARGE_BYTES);
	table = mmap(NULL, (1 + (size_t)function_count) * sizeof(*lines), PROT_READ | PROT_WRITE,
		     MAP_SHARED, fd, 0);
	if (!out || !in || table == MAP_FAILED || step_count == 0 || me >= function_count ||
	    object_count < LARGE_COUNT || object_count > OBJECTS_MAX) {
		fprintf(stderr, "functions: these words make no sense, or there is no memory\n");
		exit(2);
	}
	close(fd);
	is_over = table;
	lines = (struct line *)table + 1;
	mine = &lines[me];
	mine->life = strtoull(argv[7], NULL, 0);
}

int main(int argc, char **argv)
{
	if (argc != 8) {
		fprintf(stderr, "usage: functions TABLE ME STEP COUNT OBJECTS SEED LIFE\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* whoever started us has gone */
	begin(argv);
	open_it();
	if (mine->life > 0)
		remove_life(mine->life - 1);
	for (unsigned i = 0; i < object_count; i++)
		put(i);
	mine->is_ready = 1;
	while (!*is_over) {
		for (uint64_t n = OPS_MIN + roll(OPS_MAX - OPS_MIN); n > 0 && !*is_over; n--)
			step();
		close_it();
		open_it();
	}
	remove_life(mine->life);
	close_it();
	return 0;
}
