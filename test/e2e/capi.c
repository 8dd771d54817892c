/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C API against a real store: a test per promise of wadi/wadi.h.
 *
 * usage: capi [NAME...]       prints `ok NAME` or `FAIL NAME why` for each
 *
 * WADI_ENDPOINT says where, WADI_TOKEN who; without a token the handle may make jobs.
 * CAPI_ADMIN is the secret of who may make jobs, if that needs one. CAPI_MANY is how
 * many objects are many. capi_cxx.cc compiles the same lines as C++.
 */
#include <wadi/wadi.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* A test returns NULL, or what was not as it should be. */
typedef const char *test_fn(struct wadi *w);

static char why[512];

static const char *failed(int line, const char *what, long long r, const struct wadi *w)
{
	snprintf(why, sizeof(why), "line %d: %s: %lld %s: %.300s", line, what, r,
		 r < 0 ? wadi_status_name((int)r) : "", w ? wadi_strerror(w) : "");
	return why;
}

#define CHECK(condition)                                              \
	do {                                                          \
		if (!(condition))                                     \
			return failed(__LINE__, #condition, 0, NULL); \
	} while (0)

/* The result of a call on `w`. */
#define RETURNS(expected, call)                                      \
	do {                                                         \
		long long returned = (long long)(call);              \
		if (returned != (long long)(expected))               \
			return failed(__LINE__, #call, returned, w); \
	} while (0)

static void fill(uint8_t *p, size_t len, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0)
			x = x * 6364136223846793005ull + 1442695040888963407ull;
		p[i] = (uint8_t)(x >> (8 * (i % 8)));
	}
}

static uint8_t *filled(size_t len, uint64_t seed)
{
	uint8_t *p = (uint8_t *)malloc(len ? len : 1);

	if (!p)
		abort();
	fill(p, len, seed);
	return p;
}

/* Are these the bytes from `offset` on of filled(.., seed)? */
static bool is_filled(const void *p, size_t offset, size_t len, uint64_t seed)
{
	uint8_t *expected = filled(offset + len, seed);
	bool same = memcmp(p, expected + offset, len) == 0;

	free(expected);
	return same;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Who may make jobs. */
static int open_admin(struct wadi **ret)
{
	struct wadi_options options = WADI_OPTIONS;

	options.token = getenv("CAPI_ADMIN") ? getenv("CAPI_ADMIN") : "";
	return wadi_open(&options, ret);
}

static int open_with(const char *token, struct wadi **ret)
{
	struct wadi_options options = WADI_OPTIONS;

	options.token = token;
	return wadi_open(&options, ret);
}

/* A job of this process's own, and a handle in it. */
struct own_job {
	struct wadi *admin, *w;
	char name[40], token[WADI_TOKEN_MAX];
};

static int own_job_begin(struct own_job *j, const char *kind, uint64_t quota)
{
	struct wadi_job_options options = WADI_JOB_OPTIONS;
	int r = open_admin(&j->admin);

	snprintf(j->name, sizeof(j->name), "capi-%s-%d", kind, (int)getpid());
	options.quota_dram = quota;
	if (r == 0)
		r = wadi_job_create(j->admin, j->name, &options, j->token);
	return r == 0 ? open_with(j->token, &j->w) : r;
}

static void own_job_end(struct own_job *j)
{
	wadi_close(j->w);
	wadi_job_end(j->admin, j->name);
	wadi_close(j->admin);
}

static const char *whole_objects(struct wadi *w)
{
	static const size_t SIZES[] = { 0,           1,
					2047,        2048,
					2049,        64 * KIB - 1,
					64 * KIB,    64 * KIB + 1,
					MIB,         4 * MIB - 1,
					4 * MIB,     4 * MIB + 1,
					11 * MIB + 3 };

	for (size_t i = 0; i < COUNT_OF(SIZES); i++) {
		size_t len = SIZES[i];
		uint8_t *data = filled(len, i), *buf = (uint8_t *)malloc(len + 1);
		struct wadi_stat stat;
		uint64_t version = 0;
		void *copy = NULL;

		RETURNS(0, wadi_put(w, "x", data, len, NULL, &version));
		CHECK(version > 0);
		RETURNS(len, wadi_get(w, "x", buf, len + 1, NULL, &stat));
		CHECK(memcmp(buf, data, len) == 0);
		CHECK(stat.len == len && stat.version == version && stat.object != 0 &&
		      !stat.is_directory);
		CHECK(stat.ttl_left_ms == UINT64_MAX && stat.reads_left == UINT32_MAX);
		CHECK((stat.extent_count == 0) == (len <= 2048));
		RETURNS(len, wadi_get(w, "x", buf, len, NULL, NULL));
		RETURNS(len, wadi_get_alloc(w, "x", NULL, &copy, &stat));
		CHECK(memcmp(copy, data, len) == 0);
		wadi_free(copy);
		if (len > 0) {
			RETURNS(-EMSGSIZE, wadi_get(w, "x", buf, len - 1, NULL, &stat));
			CHECK(stat.len == len);
		}
		RETURNS(0, wadi_stat(w, "x", &stat));
		CHECK(stat.len == len && stat.version == version);
		free(data);
		free(buf);
	}
	return NULL;
}

static const char *ranges(struct wadi *w)
{
	static const struct {
		uint64_t offset, len, expected;
	} RANGES[] = { { 0, 1, 1 },
		       { 65535, 2, 2 },
		       { 0, 0, 9 * MIB },
		       { 9 * MIB - 1, 100, 1 },
		       { 9 * MIB, 1, 0 },
		       { UINT64_MAX, 1, 0 },
		       { 4 * MIB - 3, 2 * MIB, 2 * MIB },
		       { 7, 0, 9 * MIB - 7 },
		       { 1, UINT64_MAX, 9 * MIB - 1 } };
	uint8_t *data = filled(9 * MIB, 1), *buf = (uint8_t *)malloc(9 * MIB);

	RETURNS(0, wadi_put(w, "x", data, 9 * MIB, NULL, NULL));
	for (size_t i = 0; i < COUNT_OF(RANGES); i++) {
		struct wadi_get_options options = WADI_GET_OPTIONS;
		struct wadi_stat stat;

		options.offset = RANGES[i].offset;
		options.len = RANGES[i].len;
		RETURNS(RANGES[i].expected, wadi_get(w, "x", buf, 9 * MIB, &options, &stat));
		CHECK(stat.len == 9 * MIB);
		CHECK(memcmp(buf, data + (RANGES[i].expected ? RANGES[i].offset : 0),
			     RANGES[i].expected) == 0);
	}
	free(data);
	free(buf);
	return NULL;
}

static const char *versions_and_attempts(struct wadi *w)
{
	struct wadi_put_options create = WADI_PUT_OPTIONS, attempt = WADI_PUT_OPTIONS,
				replace = WADI_PUT_OPTIONS;
	uint64_t first, again, second, third;
	char buf[16];

	create.flags = WADI_CREATE;
	attempt.attempt.hi = 7;
	attempt.attempt.lo = 8;
	RETURNS(0, wadi_put(w, "x", "one", 3, &attempt, &first));
	RETURNS(0, wadi_put(w, "x", "one", 3, &attempt, &again));
	CHECK(first == again);
	RETURNS(-EEXIST, wadi_put(w, "x", "two", 3, &create, NULL));
	replace.if_version = first;
	RETURNS(0, wadi_put(w, "x", "two", 3, &replace, &second));
	CHECK(second > first);
	RETURNS(-EBADE, wadi_put(w, "x", "three", 5, &replace, NULL));
	RETURNS(0, wadi_put(w, "x", "one", 3, &attempt, &again));
	CHECK(again == first);
	RETURNS(3, wadi_get(w, "x", buf, sizeof(buf), NULL, NULL));
	CHECK(memcmp(buf, "two", 3) == 0);
	RETURNS(-EBADE, wadi_remove(w, "x", first));
	RETURNS(0, wadi_remove(w, "x", second));
	RETURNS(-ENOENT, wadi_remove(w, "x", 0));
	RETURNS(0, wadi_put(w, "x", "new", 3, &create, &third));
	CHECK(third > second);
	return NULL;
}

static const char *lives(struct wadi *w)
{
	struct wadi_put_options options = WADI_PUT_OPTIONS;
	struct wadi_stat stat;
	uint8_t *data = filled(3 * MIB, 1);
	uint64_t due = now_ms() + 20000;
	int r;

	options.reads = 2;
	options.ttl_ms = 60000;
	RETURNS(0, wadi_put(w, "x", data, 3 * MIB, &options, NULL));
	RETURNS(0, wadi_stat(w, "x", &stat));
	CHECK(stat.reads_left == 2 && stat.ttl_left_ms <= 60000 && stat.ttl_left_ms > 30000);
	for (int i = 0; i < 2; i++) {
		void *copy;

		RETURNS(3 * MIB, wadi_get_alloc(w, "x", NULL, &copy, NULL));
		CHECK(memcmp(copy, data, 3 * MIB) == 0);
		wadi_free(copy);
	}
	r = (int)wadi_get(w, "x", data, 3 * MIB, NULL, NULL);
	CHECK(r == -ENODATA || r == -ENOENT);

	options.reads = 0;
	options.ttl_ms = 100;
	RETURNS(0, wadi_put(w, "y", "y", 1, &options, NULL));
	do
		r = wadi_stat(w, "y", &stat);
	while (r == 0 && now_ms() < due);
	CHECK(r == -ETIME || r == -ENOENT);
	free(data);
	return NULL;
}

static const char *exactly_so_many_of_64_racing_readers(struct wadi *w)
{
	enum { READERS = 64, READS = 5 };
	const size_t len = 100000;
	struct wadi_put_options options = WADI_PUT_OPTIONS;
	struct wadi_op *ops[READERS];
	uint8_t *data = filled(len, 1), *buf = (uint8_t *)malloc(READERS * len);
	int got = 0;

	options.reads = READS;
	RETURNS(0, wadi_put(w, "x", data, len, &options, NULL));
	for (int i = 0; i < READERS; i++)
		RETURNS(0, wadi_start_get(w, "x", buf + (size_t)i * len, len, NULL, NULL, &ops[i]));
	for (int i = 0; i < READERS; i++) {
		int64_t r = wadi_op_end(&ops[i]);

		if (r == (int64_t)len) {
			CHECK(memcmp(buf + (size_t)i * len, data, len) == 0);
			got++;
		} else if (r != -ENODATA && r != -ENOENT) {
			return failed(__LINE__, "a read too many", r, w);
		}
	}
	CHECK(got == READS);
	free(data);
	free(buf);
	return NULL;
}

static const char *attributes(struct wadi *w)
{
	struct wadi_put_options options = WADI_PUT_OPTIONS;
	uint8_t bytes[WADI_ATTRIBUTES_MAX + 1];
	struct wadi_writer *wr;
	struct wadi_stat stat;

	fill(bytes, sizeof(bytes), 3);
	options.attributes = bytes;
	for (size_t len = 0; len <= WADI_ATTRIBUTES_MAX; len += 256) {
		options.attributes_len = len;
		RETURNS(0, wadi_put(w, "x", "x", 1, &options, NULL));
		RETURNS(0, wadi_stat(w, "x", &stat));
		CHECK(stat.attributes_len == len && memcmp(stat.attributes, bytes, len) == 0);
		RETURNS(0, wadi_rename(w, "x", "y", 0, NULL));
		RETURNS(0, wadi_stat(w, "y", &stat));
		CHECK(stat.attributes_len == len && memcmp(stat.attributes, bytes, len) == 0);
	}
	RETURNS(0, wadi_writer_open(w, "z", 0, &options, &wr));
	RETURNS(0, wadi_writer_commit(&wr, NULL));
	RETURNS(0, wadi_stat(w, "z", &stat));
	CHECK(stat.len == 0 && stat.attributes_len == WADI_ATTRIBUTES_MAX);
	options.attributes_len = WADI_ATTRIBUTES_MAX + 1;
	RETURNS(-EMSGSIZE, wadi_put(w, "x", "x", 1, &options, NULL));
	return NULL;
}

static const char *names(struct wadi *w)
{
	char name[WADI_PATH_MAX + 2], full[WADI_PATH_MAX + WADI_JOB_NAME_MAX + 3], buf[8];

	memset(name, 'n', sizeof(name));
	name[WADI_PATH_MAX] = '\0';
	RETURNS(0, wadi_put(w, name, "n", 1, NULL, NULL));
	snprintf(full, sizeof(full), "/%s/%s", wadi_job_name(w), name);
	RETURNS(1, wadi_get(w, full, buf, sizeof(buf), NULL, NULL));
	name[WADI_PATH_MAX] = 'n';
	name[WADI_PATH_MAX + 1] = '\0';
	RETURNS(-EMSGSIZE, wadi_put(w, name, "n", 1, NULL, NULL));
	RETURNS(-EINVAL, wadi_put(w, "", "n", 1, NULL, NULL));
	RETURNS(-EINVAL, wadi_put(w, "\xff", "n", 1, NULL, NULL));
	RETURNS(-EINVAL, wadi_put(w, "\xff", NULL, 0, NULL, NULL));
	RETURNS(-EINVAL, wadi_put(w, NULL, "n", 1, NULL, NULL));
	RETURNS(-EACCES, wadi_put(w, "/another/x", "n", 1, NULL, NULL));
	RETURNS(-EACCES, wadi_get(w, "/another/x", buf, sizeof(buf), NULL, NULL));
	/* A name that only begins like the job's is another. */
	snprintf(full, sizeof(full), "/%sx/y", wadi_job_name(w));
	RETURNS(-EACCES, wadi_get(w, full, buf, sizeof(buf), NULL, NULL));
	return NULL;
}

static const char *errors_have_names_and_words(struct wadi *w)
{
	char buf[8];

	CHECK(strcmp(wadi_status_name(-ENOENT), "NOTFOUND") == 0);
	CHECK(strcmp(wadi_status_name(-ETIMEDOUT), "TIMEOUT") == 0);
	CHECK(strcmp(wadi_status_name(-EDQUOT), "QUOTA") == 0);
	CHECK(strcmp(wadi_status_name(0), "OK") == 0 && strcmp(wadi_status_name(17), "OK") == 0);
	CHECK(wadi_status_name(-99999) != NULL);
	RETURNS(-ENOENT, wadi_get(w, "some/name", buf, sizeof(buf), NULL, NULL));
	CHECK(strstr(wadi_strerror(w), "some/name") && strstr(wadi_strerror(w), "NOTFOUND"));
	CHECK(strchr(wadi_strerror(w), '\n') == NULL);
	CHECK(wadi_strerror(NULL) != NULL);
	CHECK(strlen(wadi_version()) >= 5);
	wadi_free(NULL);
	wadi_close(NULL);
	return NULL;
}

static const char *parts_are_committed_in_the_order_of_their_numbers(struct wadi *w)
{
	/* Part, and bytes; a part that comes again goes on. */
	static const struct {
		uint32_t part;
		size_t len;
	} STEPS[] = { { 9999, 5 },    { 3, 2 * MIB }, { 1, 3 }, { 2, 70000 },
		      { 1, MIB + 1 }, { 0, 100 },     { 3, 1 }, { 5, 0 } };
	static const int ORDER[] = { 5, 2, 4, 3, 1, 6, 0 };
	struct wadi_writer *wr;
	struct wadi_stat stat;
	uint8_t *copy;
	void *p;
	size_t at = 0;
	int64_t n;

	RETURNS(0, wadi_writer_open(w, "x", 0, NULL, &wr));
	for (size_t i = 0; i < COUNT_OF(STEPS); i++) {
		uint8_t *data = filled(STEPS[i].len, i);

		RETURNS(0, wadi_writer_part(wr, STEPS[i].part));
		RETURNS(0, wadi_writer_write(wr, data, STEPS[i].len));
		free(data);
	}
	RETURNS(-EINVAL, wadi_writer_part(wr, 10000));
	RETURNS(-ENOENT, wadi_stat(w, "x", &stat));
	RETURNS(0, wadi_writer_commit(&wr, NULL));
	CHECK(wr == NULL);
	n = wadi_get_alloc(w, "x", NULL, &p, NULL);
	CHECK(n == (int64_t)(5 + 2 * MIB + 3 + 70000 + MIB + 1 + 100 + 1));
	copy = (uint8_t *)p;
	for (size_t i = 0; i < COUNT_OF(ORDER); i++) {
		CHECK(is_filled(copy + at, 0, STEPS[ORDER[i]].len, (uint64_t)ORDER[i]));
		at += STEPS[ORDER[i]].len;
	}
	wadi_free(p);
	return NULL;
}

/* Each part is an extent, and each answer has bytes of one only. */
static const char *ranges_to_the_end_of_an_object_of_many_extents(struct wadi *w)
{
	static const size_t PART = 70001, COUNT = 9;
	const size_t len = PART * COUNT;
	uint8_t *data = filled(len, 1), *buf = (uint8_t *)malloc(len);
	struct wadi_get_options options = WADI_GET_OPTIONS;
	struct wadi_writer *wr;
	struct wadi_stat stat;

	RETURNS(0, wadi_writer_open(w, "x", 0, NULL, &wr));
	for (uint32_t i = 0; i < COUNT; i++) {
		RETURNS(0, wadi_writer_part(wr, i));
		RETURNS(0, wadi_writer_write(wr, data + i * PART, PART));
	}
	RETURNS(0, wadi_writer_commit(&wr, NULL));
	RETURNS(0, wadi_stat(w, "x", &stat));
	CHECK(stat.extent_count == COUNT);
	RETURNS(len, wadi_get(w, "x", buf, len, NULL, NULL));
	CHECK(memcmp(buf, data, len) == 0);
	for (size_t left = 1; left < len; left += 9999) {
		options.offset = len - left;
		options.len = left;
		memset(buf, 0, left);
		RETURNS(left, wadi_get(w, "x", buf, left, &options, NULL));
		CHECK(memcmp(buf, data + options.offset, left) == 0);
	}
	free(data);
	free(buf);
	return NULL;
}

static const char *writers_of_any_length_and_hint(struct wadi *w)
{
	static const size_t LENGTHS[] = { 0, 1, 2048, 2049, MIB, MIB + 1, 5 * MIB + 7, 40 * MIB };
	static const size_t HINTS[] = { 0, 1, 5 * MIB, 64 * MIB };

	for (size_t i = 0; i < COUNT_OF(LENGTHS); i++) {
		size_t len = LENGTHS[i], step = i % 2 ? 100001 : 3 * MIB;
		uint8_t *data = filled(len, i);
		struct wadi_writer *wr;
		uint64_t version;
		void *copy;

		RETURNS(0, wadi_writer_open(w, "x", i % 3 ? len : HINTS[i % 4], NULL, &wr));
		for (size_t at = 0; at < len; at += step)
			RETURNS(0, wadi_writer_write(wr, data + at,
						     len - at < step ? len - at : step));
		RETURNS(0, wadi_writer_commit(&wr, &version));
		RETURNS(len, wadi_get_alloc(w, "x", NULL, &copy, NULL));
		CHECK(memcmp(copy, data, len) == 0);
		wadi_free(copy);
		free(data);
	}
	return NULL;
}

static const char *a_writer_that_is_abandoned_leaves_nothing(struct wadi *w)
{
	uint8_t *data = filled(3 * MIB, 1);
	struct wadi_job_info before, after;
	struct wadi_stat stat;
	uint64_t due = now_ms() + 20000;
	struct own_job j;

	RETURNS(0, own_job_begin(&j, "abandon", 0));
	RETURNS(0, wadi_put(j.w, "kept", "kept", 4, NULL, NULL));
	RETURNS(0, wadi_job_show(j.admin, j.name, &before));
	for (int i = 0; i < 20; i++) {
		struct wadi_writer *wr;

		RETURNS(0, wadi_writer_open(j.w, i % 2 ? "x" : "kept", 3 * MIB, NULL, &wr));
		RETURNS(0, wadi_writer_write(wr, data, 3 * MIB));
		wadi_writer_abandon(&wr);
		CHECK(wr == NULL);
	}
	RETURNS(-ENOENT, wadi_stat(j.w, "x", &stat));
	RETURNS(0, wadi_stat(j.w, "kept", &stat));
	CHECK(stat.len == 4);
	do {
		RETURNS(0, wadi_job_show(j.admin, j.name, &after));
	} while (after.dram_bytes > before.dram_bytes && now_ms() < due);
	CHECK(after.dram_bytes <= before.dram_bytes);
	own_job_end(&j);
	free(data);
	return NULL;
}

static const char *many_writers_take_turns_on_one_handle(struct wadi *w)
{
	enum { WRITERS = 12 };
	struct wadi_writer *wr[WRITERS];
	uint8_t *data = filled(300000, 5);
	char path[16];

	for (int i = 0; i < WRITERS; i++) {
		snprintf(path, sizeof(path), "x%d", i);
		RETURNS(0, wadi_writer_open(w, path, 0, NULL, &wr[i]));
	}
	for (int round = 0; round < 10; round++)
		for (int i = 0; i < WRITERS; i++)
			RETURNS(0, wadi_writer_write(wr[i], data + i, 290000 + (size_t)i));
	for (int i = WRITERS - 1; i >= 0; i--)
		RETURNS(0, wadi_writer_commit(&wr[i], NULL));
	for (int i = 0; i < WRITERS; i++) {
		size_t len = 290000 + (size_t)i;
		void *copy;

		snprintf(path, sizeof(path), "x%d", i);
		RETURNS(10 * len, wadi_get_alloc(w, path, NULL, &copy, NULL));
		for (size_t round = 0; round < 10; round++)
			CHECK(memcmp((uint8_t *)copy + round * len, data + i, len) == 0);
		wadi_free(copy);
	}
	free(data);
	return NULL;
}

static const char *eight_large_gets_are_read_in_turns_over_one_handle(struct wadi *w)
{
	enum { READERS = 8 };
	const size_t len = 12 * MIB + 5;
	struct wadi_reader *rd[READERS];
	size_t at[READERS] = { 0 };
	uint8_t *expected[READERS], *buf = (uint8_t *)malloc(2 * MIB);
	unsigned open_count = READERS;
	char path[16];

	for (int i = 0; i < READERS; i++) {
		expected[i] = filled(len, 100 + (uint64_t)i);
		snprintf(path, sizeof(path), "x%d", i);
		RETURNS(0, wadi_put(w, path, expected[i], len, NULL, NULL));
	}
	for (int i = 0; i < READERS; i++) {
		struct wadi_stat stat;

		snprintf(path, sizeof(path), "x%d", i);
		RETURNS(0, wadi_reader_open(w, path, NULL, &rd[i]));
		wadi_reader_stat(rd[i], &stat);
		CHECK(stat.len == len);
	}
	/* Some in sips, some in gulps. */
	while (open_count > 0) {
		for (int i = 0; i < READERS; i++) {
			size_t cap = i % 2 ? 2 * MIB : 40000 + 1000 * (size_t)i;
			int64_t n;

			if (!rd[i])
				continue;
			n = wadi_reader_read(rd[i], buf, cap);
			if (n < 0)
				return failed(__LINE__, "wadi_reader_read", n, w);
			CHECK((size_t)n <= cap && at[i] + (size_t)n <= len);
			CHECK(memcmp(buf, expected[i] + at[i], (size_t)n) == 0);
			at[i] += (size_t)n;
			if (n > 0)
				continue;
			CHECK(at[i] == len);
			wadi_reader_close(&rd[i]);
			CHECK(rd[i] == NULL);
			open_count--;
		}
	}
	for (int i = 0; i < READERS; i++)
		free(expected[i]);
	free(buf);
	return NULL;
}

static const char *a_reader_holds_its_version(struct wadi *w)
{
	const size_t len = 9 * MIB;
	uint8_t *first = filled(len, 1), *second = filled(len, 2), *buf = (uint8_t *)malloc(len);
	struct wadi_reader *rd[2];
	size_t at = 0;
	int64_t n;

	RETURNS(0, wadi_put(w, "x", first, len, NULL, NULL));
	RETURNS(0, wadi_reader_open(w, "x", NULL, &rd[0]));
	n = wadi_reader_read(rd[0], buf, 1000);
	CHECK(n > 0);
	at = (size_t)n;
	RETURNS(0, wadi_put(w, "x", second, len, NULL, NULL));
	RETURNS(0, wadi_reader_open(w, "x", NULL, &rd[1]));
	RETURNS(0, wadi_remove(w, "x", 0));
	while ((n = wadi_reader_read(rd[0], buf + at, len - at)) > 0)
		at += (size_t)n;
	RETURNS(0, n);
	CHECK(at == len && memcmp(buf, first, len) == 0);
	for (at = 0; (n = wadi_reader_read(rd[1], buf + at, len - at)) > 0;)
		at += (size_t)n;
	RETURNS(0, n);
	CHECK(at == len && memcmp(buf, second, len) == 0);
	RETURNS(-ENOENT, wadi_get(w, "x", buf, len, NULL, NULL));
	wadi_reader_close(&rd[0]);
	wadi_reader_close(&rd[1]);
	free(first);
	free(second);
	free(buf);
	return NULL;
}

static const char *in_place(struct wadi *w)
{
	static const size_t SIZES[] = { 0, 1, 2048, 65537, 5 * MIB + 1 };

	for (size_t i = 0; i < COUNT_OF(SIZES); i++) {
		struct wadi_put_options options = WADI_PUT_OPTIONS;
		struct wadi_reservation *r;
		struct wadi_view *v;
		struct wadi_stat stat;
		uint64_t version;

		RETURNS(0, wadi_reserve(w, "x", SIZES[i], &options, &r));
		fill((uint8_t *)wadi_reservation_data(r), SIZES[i], i);
		RETURNS(0, wadi_commit(&r, &version));
		CHECK(r == NULL);
		RETURNS(0, wadi_view(w, "x", NULL, &v));
		CHECK(wadi_view_len(v) == SIZES[i] && is_filled(wadi_view_data(v), 0, SIZES[i], i));
		wadi_view_stat(v, &stat);
		CHECK(stat.version == version && stat.len == SIZES[i]);
		/* What is replaced meanwhile is still there. */
		RETURNS(0, wadi_put(w, "x", "other", 5, NULL, NULL));
		CHECK(is_filled(wadi_view_data(v), 0, SIZES[i], i));
		RETURNS(0, wadi_release(&v));
		CHECK(v == NULL);
	}
	for (int i = 0; i < 2; i++) {
		struct wadi_put_options options = WADI_PUT_OPTIONS;
		struct wadi_reservation *r;
		struct wadi_view *v;

		options.flags = WADI_CREATE;
		RETURNS(0, wadi_reserve(w, "x", 100, &options, &r));
		if (i == 0) {
			RETURNS(-EEXIST, wadi_commit(&r, NULL));
		} else {
			wadi_abandon(&r);
		}
		CHECK(r == NULL);
		RETURNS(0, wadi_view(w, "x", NULL, &v));
		CHECK(wadi_view_len(v) == 5);
		RETURNS(0, wadi_release(&v));
		RETURNS(-ENOENT, wadi_view(w, "none", NULL, &v));
	}
	return NULL;
}

static const char *operations_in_flight(struct wadi *w)
{
	enum { OPS = 500 };
	static struct wadi_op *ops[OPS];
	static uint64_t versions[OPS];
	static char data[OPS][3000], got[OPS][3000];
	char path[16];

	for (int i = 0; i < OPS; i++) {
		snprintf(path, sizeof(path), "x%d", i); /* the name is copied */
		fill((uint8_t *)data[i], sizeof(data[i]), (uint64_t)i);
		RETURNS(0, wadi_start_put(w, path, data[i], i % 3 ? sizeof(data[i]) : 10, NULL,
					  &versions[i], &ops[i]));
	}
	for (int i = OPS - 1; i >= 0; i--) {
		RETURNS(0, wadi_op_end(&ops[i]));
		CHECK(ops[i] == NULL && versions[i] > 0);
	}
	for (int i = 0; i < OPS; i++) {
		snprintf(path, sizeof(path), "x%d", i);
		RETURNS(0, wadi_start_get(w, path, got[i], sizeof(got[i]), NULL, NULL, &ops[i]));
	}
	for (int i = 0; i < OPS; i++) {
		RETURNS(i % 3 ? sizeof(data[i]) : 10, wadi_op_end(&ops[i]));
		CHECK(memcmp(got[i], data[i], i % 3 ? sizeof(data[i]) : 10) == 0);
	}
	/* Failures are each operation's own. */
	RETURNS(0, wadi_start_get(w, "none", got[0], 10, NULL, NULL, &ops[0]));
	RETURNS(0, wadi_start_remove(w, "x1", 0, &ops[1]));
	RETURNS(0, wadi_start_remove(w, "none", 0, &ops[2]));
	RETURNS(-ENOENT, wadi_op_end(&ops[0]));
	CHECK(strstr(wadi_strerror(w), "none"));
	RETURNS(0, wadi_op_end(&ops[1]));
	RETURNS(-ENOENT, wadi_op_end(&ops[2]));
	return NULL;
}

/* Their memory is used again, for one of another kind, unless the name is a long one. */
static const char *operations_one_after_the_other(struct wadi *w)
{
	static const size_t LENS[] = { 1, 94, 95, 96, 102, 103, 104, 606, 607, 608, 1000 };
	struct wadi_put_options options = WADI_PUT_OPTIONS;
	char path[1001], got[8];
	struct wadi_stat stat;
	struct wadi_op *op;

	options.attributes = "attributes";
	options.attributes_len = 10;
	for (size_t i = 0; i < COUNT_OF(LENS); i++) {
		memset(path, 'x', LENS[i]);
		path[LENS[i]] = '\0';
		RETURNS(0, wadi_start_put(w, path, "first", 5, &options, NULL, &op));
		RETURNS(0, wadi_op_end(&op));
		RETURNS(0, wadi_start_wait(w, path, 1000, &stat, &op));
		RETURNS(0, wadi_op_end(&op));
		CHECK(stat.attributes_len == 10 && memcmp(stat.attributes, "attributes", 10) == 0);
		RETURNS(0, wadi_start_put(w, path, "second", 6, NULL, NULL, &op));
		RETURNS(0, wadi_op_end(&op));
		RETURNS(0, wadi_start_get(w, path, got, sizeof(got), NULL, &stat, &op));
		RETURNS(6, wadi_op_end(&op));
		CHECK(memcmp(got, "second", 6) == 0 && stat.attributes_len == 0);
		RETURNS(0, wadi_start_remove(w, path, 0, &op));
		RETURNS(0, wadi_op_end(&op));
		RETURNS(-ENOENT, wadi_stat(w, path, &stat));
	}
	return NULL;
}

static const char *operations_that_allocate(struct wadi *w)
{
	static const size_t LENS[] = { 0, 5, 3000, 2 * MIB + 1 };
	void *data[COUNT_OF(LENS)] = { 0 }, *nothing = NULL;
	struct wadi_op *ops[COUNT_OF(LENS)], *op;
	struct wadi_get_options options = WADI_GET_OPTIONS;
	struct wadi_stat stat;
	char path[16];

	for (size_t i = 0; i < COUNT_OF(LENS); i++) {
		uint8_t *bytes = filled(LENS[i], i);

		snprintf(path, sizeof(path), "x%zu", i);
		RETURNS(0, wadi_put(w, path, bytes, LENS[i], NULL, NULL));
		free(bytes);
	}
	for (size_t i = 0; i < COUNT_OF(LENS); i++) {
		snprintf(path, sizeof(path), "x%zu", i);
		RETURNS(0, wadi_start_get_alloc(w, path, NULL, &data[i], &stat, &ops[i]));
	}
	RETURNS(0, wadi_start_get_alloc(w, "none", NULL, &nothing, NULL, &op));
	for (size_t i = 0; i < COUNT_OF(LENS); i++) {
		RETURNS(LENS[i], wadi_op_end(&ops[i]));
		CHECK(data[i] && is_filled(data[i], 0, LENS[i], i));
		wadi_free(data[i]);
	}
	RETURNS(-ENOENT, wadi_op_end(&op));
	options.wait_ms = 30000;
	RETURNS(0, wadi_start_get_alloc(w, "none", &options, &nothing, NULL, &op));
	wadi_op_cancel(op);
	RETURNS(-ECANCELED, wadi_op_end(&op));
	CHECK(nothing == NULL);
	RETURNS(-EINVAL, wadi_start_get_alloc(w, NULL, NULL, &nothing, NULL, &op));
	return NULL;
}

/* What a host of the library says when it is asked: the last answer is yes. */
struct host {
	int asked_count, no_count;
};

static bool is_enough(void *arg)
{
	struct host *host = (struct host *)arg;

	return host->asked_count++ >= host->no_count;
}

static void ignore_signal(int signal_number)
{
	(void)signal_number;
}

/* Signals every `ms`; 0: no more. */
static void tick(int ms)
{
	struct itimerval every = { { 0, ms * 1000 }, { 0, ms * 1000 } };
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = ignore_signal;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

static const char *a_signal_ends_a_call_if_its_host_wants_that(struct wadi *w)
{
	struct host host = { 0, 2 };
	struct wadi_options options = WADI_OPTIONS;
	struct wadi_op *op;
	struct wadi *own;
	uint64_t begun_ms, took_ms = UINT64_MAX;

	options.is_interrupted = is_enough;
	options.interrupt_arg = &host;
	RETURNS(0, wadi_open(&options, &own));
	RETURNS(0, wadi_put(own, "x", "x", 1, NULL, NULL));
	CHECK(host.asked_count == 0);
	tick(20);
	/* Sooner than without a signal; on a machine that does much else, now and then. */
	for (int i = 0; i < 20 && took_ms >= 900; i++) {
		host.asked_count = 0;
		host.no_count = 2;
		begun_ms = now_ms();
		RETURNS(-ECANCELED, wadi_wait(own, "none", 30000, NULL));
		CHECK(host.asked_count == 3);
		took_ms = now_ms() - begun_ms;
	}
	CHECK(took_ms < 900);
	host.asked_count = 0;
	RETURNS(0, wadi_start_wait(own, "none", 30000, NULL, &op));
	RETURNS(-ECANCELED, wadi_turn(own, 30000));
	CHECK(host.asked_count == 3 && !wadi_op_has_ended(op));
	tick(0);
	/* Without a signal it is asked once a second. */
	host.asked_count = host.no_count = 0;
	begun_ms = now_ms();
	RETURNS(-ECANCELED, wadi_op_end(&op));
	CHECK(host.asked_count > 0 && now_ms() - begun_ms >= 900);
	/* The handle is as good as ever. */
	RETURNS(0, wadi_wait(own, "x", 1000, NULL));
	wadi_close(own);
	return NULL;
}

/* What was begun on another thread goes on here; how it is used, and closed. */
struct elsewhere {
	struct wadi *w;
	struct wadi_view *view;
	struct wadi_writer *writer;
	struct wadi_op *op;
	bool must_close;
	const char *error;
};

static const char *go_on(struct elsewhere *e)
{
	struct wadi *w = e->w;
	char buf[8];

	RETURNS(0, wadi_op_end(&e->op));
	RETURNS(0, wadi_release(&e->view));
	RETURNS(0, wadi_writer_write(e->writer, "23", 2));
	RETURNS(0, wadi_writer_commit(&e->writer, NULL));
	RETURNS(3, wadi_get(w, "w", buf, sizeof(buf), NULL, NULL));
	if (e->must_close)
		wadi_close(w);
	return NULL;
}

static void *go_on_here(void *arg)
{
	struct elsewhere *e = (struct elsewhere *)arg;

	e->error = go_on(e);
	return NULL;
}

static const char *a_handle_moves_from_thread_to_thread(struct wadi *w)
{
	for (int turn = 0; turn < 3; turn++) {
		struct elsewhere e;
		pthread_t thread;

		memset(&e, 0, sizeof(e));
		e.must_close = turn == 2;
		if (e.must_close)
			RETURNS(0, wadi_open(NULL, &e.w));
		else
			e.w = w;
		RETURNS(0, wadi_put(e.w, "x", "1", 1, NULL, NULL));
		RETURNS(0, wadi_view(e.w, "x", NULL, &e.view));
		RETURNS(0, wadi_writer_open(e.w, "w", 0, NULL, &e.writer));
		RETURNS(0, wadi_writer_write(e.writer, "1", 1));
		RETURNS(0, wadi_start_wait(e.w, "x", 10000, NULL, &e.op));
		CHECK(pthread_create(&thread, NULL, go_on_here, &e) == 0);
		CHECK(pthread_join(thread, NULL) == 0);
		if (e.error)
			return e.error;
	}
	return NULL;
}

static const char *waits_do_not_hold_up_others(struct wadi *w)
{
	struct wadi_op *waits[50], *op;
	struct wadi_stat stat;
	char path[16], buf[8];
	uint64_t count;

	for (int i = 0; i < 50; i++) {
		snprintf(path, sizeof(path), "d/x%d", i);
		RETURNS(0, wadi_start_wait(w, path, 30000, &stat, &waits[i]));
	}
	RETURNS(0, wadi_start_wait(w, "never", 30000, NULL, &op));
	for (int i = 0; i < 50; i++) {
		CHECK(!wadi_op_has_ended(waits[i]));
		snprintf(path, sizeof(path), "d/x%d", i);
		RETURNS(0, wadi_put(w, path, "x", 1, NULL, NULL));
		RETURNS(1, wadi_get(w, path, buf, sizeof(buf), NULL, NULL));
		RETURNS(0, wadi_op_end(&waits[i]));
	}
	RETURNS(0, wadi_wait_count(w, "d", 50, 10000, &count));
	CHECK(count == 50 && !wadi_op_has_ended(op));
	wadi_op_cancel(op);
	RETURNS(-ECANCELED, wadi_op_end(&op));
	return NULL;
}

static const char *an_event_loop_can_drive_a_handle(struct wadi *w)
{
	struct pollfd p = { .fd = wadi_fd(w), .events = POLLIN };
	uint8_t *data = filled(9 * MIB, 4), *buf = (uint8_t *)malloc(9 * MIB);
	struct wadi_op *put, *get;
	uint64_t due = now_ms() + 20000;
	int ended = 0, r = 0;

	CHECK(p.fd >= 0);
	RETURNS(0, wadi_put(w, "x", data, 9 * MIB, NULL, NULL));
	RETURNS(0, wadi_start_put(w, "y", data, 9 * MIB, NULL, NULL, &put));
	RETURNS(0, wadi_start_get(w, "x", buf, 9 * MIB, NULL, NULL, &get));
	while (r >= 0 && ended < 2 && now_ms() < due) {
		r = wadi_turn(w, 0);
		ended += r > 0 ? r : 0;
		/* What is left to do waits for something that the descriptor tells. */
		if (r >= 0 && ended < 2)
			CHECK(poll(&p, 1, 5000) == 1);
	}
	CHECK(r >= 0 && ended == 2 && wadi_op_has_ended(put) && wadi_op_has_ended(get));
	RETURNS(0, wadi_op_end(&put));
	RETURNS(9 * MIB, wadi_op_end(&get));
	CHECK(memcmp(buf, data, 9 * MIB) == 0);
	RETURNS(0, wadi_turn(w, 0));
	free(data);
	free(buf);
	return NULL;
}

static const char *a_put_waits_for_space_beside_a_remove_on_the_same_handle(struct wadi *w)
{
	uint8_t *data = filled(4 * MIB, 1);
	struct wadi_put_options options = WADI_PUT_OPTIONS;
	struct wadi_op *put, *removing;
	struct own_job j;
	char path[16];
	unsigned count = 0;
	uint64_t begun = now_ms(), due;
	int r;

	options.timeout_ms = 30000;
	RETURNS(0, own_job_begin(&j, "space", 24 * MIB));
	do {
		struct wadi_put_options soon = WADI_PUT_OPTIONS;

		soon.timeout_ms = 200;
		snprintf(path, sizeof(path), "x%u", count);
		r = wadi_put(j.w, path, data, 4 * MIB, &soon, NULL);
		count += r == 0;
		/* On a machine that does much else it is late before it finds no room, or the store
		 * is. */
	} while ((r == 0 || r == -ETIMEDOUT || r == -ENOSPC) && count < 100 &&
		 now_ms() < begun + 20000);
	if (r != -EDQUOT || count < 2)
		return failed(__LINE__, "the put that finds no room", r, j.w);
	RETURNS(0, wadi_start_put(j.w, "late", data, 4 * MIB, &options, NULL, &put));
	for (due = now_ms() + 300; now_ms() < due;)
		CHECK(wadi_turn(j.w, 10) == 0);
	CHECK(!wadi_op_has_ended(put));
	/* One removed in flight, the others one after the other. */
	RETURNS(0, wadi_start_remove(j.w, "x0", 0, &removing));
	RETURNS(0, wadi_op_end(&removing));
	for (unsigned i = 1; i < count; i++) {
		snprintf(path, sizeof(path), "x%u", i);
		RETURNS(0, wadi_remove(j.w, path, 0));
	}
	r = (int)wadi_op_end(&put);
	if (r)
		return failed(__LINE__, "the put that waited", r, j.w);
	RETURNS(4 * MIB, wadi_get(j.w, "late", data, 4 * MIB, NULL, NULL));
	CHECK(is_filled(data, 0, 4 * MIB, 1));
	own_job_end(&j);
	free(data);
	return NULL;
}

static const char *a_program_may_take_its_time_between_calls(struct wadi *w)
{
	struct wadi_put_options put = WADI_PUT_OPTIONS;
	struct wadi_get_options get = WADI_GET_OPTIONS;
	uint8_t *data = filled(5 * MIB, 1), *buf = (uint8_t *)malloc(5 * MIB);
	struct wadi_writer *wr;
	struct wadi_reader *rd;
	struct wadi_op *op;
	size_t at = 0;
	int64_t n;

	/* Each pause is longer than the deadline, which is for the store. */
	put.timeout_ms = get.timeout_ms = 3000;
	RETURNS(0, wadi_writer_open(w, "x", 0, &put, &wr));
	for (int i = 0; i < 2; i++) {
		RETURNS(0, wadi_writer_write(wr, data + i * MIB, MIB));
		usleep(3100000);
	}
	RETURNS(0, wadi_writer_write(wr, data + 2 * MIB, 3 * MIB));
	RETURNS(0, wadi_writer_commit(&wr, NULL));
	RETURNS(0, wadi_reader_open(w, "x", &get, &rd));
	while ((n = wadi_reader_read(rd, buf + at, MIB)) > 0) {
		at += (size_t)n;
		if (at < 2 * MIB)
			usleep(3100000);
	}
	RETURNS(0, n);
	CHECK(at == 5 * MIB && memcmp(buf, data, 5 * MIB) == 0);
	wadi_reader_close(&rd);
	RETURNS(0, wadi_start_get(w, "x", buf, 5 * MIB, &get, NULL, &op));
	usleep(3100000);
	RETURNS(5 * MIB, wadi_op_end(&op));
	free(data);
	free(buf);
	return NULL;
}

static const char *two_handles_see_each_others_changes_at_once(struct wadi *w)
{
	uint8_t *data = filled(200000, 1), *buf = (uint8_t *)malloc(200000);
	struct wadi *other;

	RETURNS(0, wadi_open(NULL, &other));
	CHECK(strcmp(wadi_job_name(w), wadi_job_name(other)) == 0);
	for (size_t i = 0; i < 100; i++) {
		size_t len = i * 2000 + 1;

		fill(data, len, i);
		RETURNS(0, wadi_put(w, "x", data, len, NULL, NULL));
		RETURNS(len, wadi_get(other, "x", buf, 200000, NULL, NULL));
		CHECK(memcmp(buf, data, len) == 0);
		RETURNS(0, wadi_remove(other, "x", 0));
		RETURNS(-ENOENT, wadi_get(w, "x", buf, 200000, NULL, NULL));
	}
	wadi_close(other);
	free(data);
	free(buf);
	return NULL;
}

static const char *lists(struct wadi *w)
{
	static const char *const PATHS[] = { "a", "a/1", "a/2/x", "a/2/y", "b/1", "c" };
	static const char *const TOP[] = { "a", "a/", "b/", "c" };
	struct wadi_list_options options = WADI_LIST_OPTIONS;
	struct wadi_list_entry e;
	struct wadi_stat stat;
	struct wadi_list *l;

	for (size_t i = 0; i < COUNT_OF(PATHS); i++)
		RETURNS(0, wadi_put(w, PATHS[i], PATHS[i], strlen(PATHS[i]), NULL, NULL));
	RETURNS(0, wadi_list_open(w, "", NULL, &l));
	for (size_t i = 0; i < COUNT_OF(TOP); i++) {
		RETURNS(1, wadi_list_next(l, &e));
		CHECK(strcmp(e.name, TOP[i]) == 0 && e.name_len == strlen(TOP[i]));
		CHECK(e.stat.is_directory == (strchr(TOP[i], '/') != NULL));
	}
	RETURNS(0, wadi_list_next(l, &e));
	RETURNS(0, wadi_list_next(l, &e));
	wadi_list_close(&l);
	CHECK(l == NULL);

	options.is_recursive = true;
	RETURNS(0, wadi_list_open(w, "", &options, &l));
	for (size_t i = 0; i < COUNT_OF(PATHS); i++) {
		RETURNS(1, wadi_list_next(l, &e));
		CHECK(strcmp(e.name, PATHS[i]) == 0 && e.stat.len == strlen(PATHS[i]));
	}
	RETURNS(0, wadi_list_next(l, &e));
	wadi_list_close(&l);

	options.after = "a/1";
	RETURNS(0, wadi_list_open(w, "", &options, &l));
	RETURNS(1, wadi_list_next(l, &e));
	CHECK(strcmp(e.name, "a/2/x") == 0);
	wadi_list_close(&l);
	RETURNS(0, wadi_stat(w, "a/", &stat));
	CHECK(stat.is_directory && stat.len == 1);
	return NULL;
}

static const char *jobs(struct wadi *w)
{
	struct wadi_job_info info, *all;
	struct wadi_store_info store;
	struct own_job j;
	char token[WADI_TOKEN_MAX], buf[8];
	struct wadi *narrow;
	bool is_listed = false;
	int count, r;

	RETURNS(0, own_job_begin(&j, "jobs", 32 * MIB));
	CHECK(strcmp(wadi_job_name(j.w), j.name) == 0);
	RETURNS(-EEXIST, wadi_job_create(j.admin, j.name, NULL, token));
	RETURNS(0, wadi_put(j.w, "a/x", "x", 1, NULL, NULL));
	RETURNS(0, wadi_job_renew(j.w, j.name, 123456));
	RETURNS(0, wadi_job_show(j.w, j.name, &info));
	CHECK(strcmp(info.name, j.name) == 0 && !info.has_ended && info.quota_dram == 32 * MIB);
	CHECK(info.lease_left_ms <= 123456 && info.lease_left_ms > 100000);
	CHECK(info.object_count == 1 && info.object_bytes == 1);
	count = wadi_job_list(j.admin, NULL, 0);
	CHECK(count >= 2);
	all = (struct wadi_job_info *)calloc((size_t)count + 100, sizeof(*all));
	count = wadi_job_list(j.admin, all, (size_t)count + 100);
	for (int i = 0; i < count; i++)
		is_listed = is_listed || strcmp(all[i].name, j.name) == 0;
	CHECK(is_listed);
	free(all);
	RETURNS(0, wadi_store_info(j.admin, &store));
	CHECK(store.dram_limit > 0 && store.dram_used <= store.dram_limit && store.job_count >= 2);
	CHECK(store.object_count >= 1 && store.uptime_ms > 0);

	RETURNS(0, wadi_token_narrow(j.token, "a/", WADI_RIGHT_READ, 60, token));
	RETURNS(0, open_with(token, &narrow));
	RETURNS(1, wadi_get(narrow, "a/x", buf, sizeof(buf), NULL, NULL));
	RETURNS(-EACCES, wadi_put(narrow, "a/y", "y", 1, NULL, NULL));
	RETURNS(-EACCES, wadi_put(narrow, "a/y", NULL, 0, NULL, NULL));
	RETURNS(-EACCES, wadi_get(narrow, "b", buf, sizeof(buf), NULL, NULL));
	RETURNS(-EACCES, wadi_job_end(narrow, j.name));
	RETURNS(-EACCES, wadi_job_renew(narrow, j.name, 1000));
	RETURNS(-EACCES, wadi_job_create(j.w, "another", NULL, token));
	RETURNS(-EKEYREJECTED, wadi_token_narrow("nonsense", NULL, WADI_RIGHT_READ, 0, token));
	wadi_close(narrow);

	RETURNS(0, wadi_job_end(j.w, j.name));
	r = (int)wadi_get(j.w, "a/x", buf, sizeof(buf), NULL, NULL);
	CHECK(r == -EIDRM || r == -ENXIO || r == -EKEYREJECTED);
	r = wadi_put(j.w, "a/y", "y", 1, NULL, NULL);
	CHECK(r == -EIDRM || r == -ENXIO || r == -EKEYREJECTED);
	own_job_end(&j);
	return NULL;
}

/*
 * Every call that asks the store, with what it needs. `at` is where, with a `/` at its
 * end or empty: there are x, d/1 and nothing else. The first failure of a call of
 * several steps is its result, and none may get a byte.
 */
struct asked {
	struct wadi *w;
	const char *at, *job;
	char path[2][200];
	uint8_t *large;
	char *buf; /* BUF_BYTES, for what is got */
};

#define BUF_BYTES ((size_t)64)
#define LARGE     (3 * MIB)

static const char *path_at(struct asked *a, int i, const char *name)
{
	snprintf(a->path[i], sizeof(a->path[i]), "%s%s", a->at, name);
	return a->path[i];
}

static int64_t ended(int r, struct wadi_op **op)
{
	return r < 0 ? r : wadi_op_end(op);
}

static int64_t call_put(struct asked *a)
{
	return wadi_put(a->w, path_at(a, 0, "x"), "new", 3, NULL, NULL);
}

static int64_t call_put_large(struct asked *a)
{
	return wadi_put(a->w, path_at(a, 0, "x"), a->large, LARGE, NULL, NULL);
}

static int64_t call_get(struct asked *a)
{
	return wadi_get(a->w, path_at(a, 0, "x"), a->buf, BUF_BYTES, NULL, NULL);
}

static int64_t call_get_that_waits(struct asked *a)
{
	struct wadi_get_options options = WADI_GET_OPTIONS;

	options.wait_ms = 10000;
	return wadi_get(a->w, path_at(a, 0, "x"), a->buf, BUF_BYTES, &options, NULL);
}

static int64_t call_get_alloc(struct asked *a)
{
	void *copy = NULL;
	int64_t r = wadi_get_alloc(a->w, path_at(a, 0, "x"), NULL, &copy, NULL);

	if (copy)
		memcpy(a->buf, copy, r > 0 && (size_t)r < BUF_BYTES ? (size_t)r : BUF_BYTES);
	wadi_free(copy);
	return r;
}

static int64_t call_stat(struct asked *a)
{
	struct wadi_stat stat;

	return wadi_stat(a->w, path_at(a, 0, "x"), &stat);
}

static int64_t call_stat_of_directory(struct asked *a)
{
	struct wadi_stat stat;

	return wadi_stat(a->w, path_at(a, 0, "d/"), &stat);
}

static int64_t call_remove(struct asked *a)
{
	return wadi_remove(a->w, path_at(a, 0, "x"), 0);
}

static int64_t call_remove_tree(struct asked *a)
{
	uint64_t count;

	return wadi_remove_tree(a->w, path_at(a, 0, "d"), &count);
}

static int64_t call_rename(struct asked *a)
{
	const char *from = path_at(a, 0, "x");

	return wadi_rename(a->w, from, path_at(a, 1, "y"), 0, NULL);
}

static int64_t call_wait(struct asked *a)
{
	return wadi_wait(a->w, path_at(a, 0, "x"), 10000, NULL);
}

static int64_t call_wait_count(struct asked *a)
{
	uint64_t count;

	return wadi_wait_count(a->w, path_at(a, 0, "d"), 1, 10000, &count);
}

static int64_t reserve_and_commit(struct asked *a, size_t len)
{
	struct wadi_reservation *r;
	int e = wadi_reserve(a->w, path_at(a, 0, "x"), len, NULL, &r);

	if (e < 0)
		return e;
	memset(wadi_reservation_data(r), 'n', len);
	return wadi_commit(&r, NULL);
}

static int64_t call_reserve(struct asked *a)
{
	return reserve_and_commit(a, 3);
}

static int64_t call_reserve_large(struct asked *a)
{
	return reserve_and_commit(a, LARGE);
}

static int64_t call_view(struct asked *a)
{
	struct wadi_view *v;
	int r = wadi_view(a->w, path_at(a, 0, "x"), NULL, &v);

	if (r < 0)
		return r;
	memcpy(a->buf, wadi_view_data(v), wadi_view_len(v));
	return wadi_release(&v);
}

static int64_t write_and_commit(struct asked *a, size_t len)
{
	struct wadi_writer *wr;
	int r = wadi_writer_open(a->w, path_at(a, 0, "x"), 0, NULL, &wr);

	if (r < 0)
		return r;
	r = wadi_writer_write(wr, a->large, len);
	if (r == 0)
		return wadi_writer_commit(&wr, NULL);
	wadi_writer_abandon(&wr);
	return r;
}

static int64_t call_writer(struct asked *a)
{
	return write_and_commit(a, 3);
}

static int64_t call_writer_large(struct asked *a)
{
	return write_and_commit(a, LARGE);
}

static int64_t call_reader(struct asked *a)
{
	struct wadi_reader *rd;
	int64_t r = wadi_reader_open(a->w, path_at(a, 0, "x"), NULL, &rd);

	if (r < 0)
		return r;
	r = wadi_reader_read(rd, a->buf, BUF_BYTES);
	wadi_reader_close(&rd);
	return r;
}

static int64_t list_all(struct asked *a, bool is_recursive)
{
	struct wadi_list_options options = WADI_LIST_OPTIONS;
	struct wadi_list_entry e;
	struct wadi_list *l;
	int r;

	options.is_recursive = is_recursive;
	r = wadi_list_open(a->w, path_at(a, 0, "d"), &options, &l);
	if (r < 0)
		return r;
	while ((r = wadi_list_next(l, &e)) > 0)
		snprintf(a->buf, BUF_BYTES, "%s", e.name);
	wadi_list_close(&l);
	return r;
}

static int64_t call_list(struct asked *a)
{
	return list_all(a, false);
}

static int64_t call_list_recursive(struct asked *a)
{
	return list_all(a, true);
}

static int64_t call_start_put(struct asked *a)
{
	struct wadi_op *op;

	return ended(wadi_start_put(a->w, path_at(a, 0, "x"), a->large, LARGE, NULL, NULL, &op),
		     &op);
}

static int64_t call_start_get(struct asked *a)
{
	struct wadi_op *op;

	return ended(wadi_start_get(a->w, path_at(a, 0, "x"), a->buf, BUF_BYTES, NULL, NULL, &op),
		     &op);
}

static int64_t call_start_remove(struct asked *a)
{
	struct wadi_op *op;

	return ended(wadi_start_remove(a->w, path_at(a, 0, "x"), 0, &op), &op);
}

static int64_t call_start_wait(struct asked *a)
{
	struct wadi_op *op;

	return ended(wadi_start_wait(a->w, path_at(a, 0, "x"), 10000, NULL, &op), &op);
}

static int64_t call_job_create(struct asked *a)
{
	char name[WADI_JOB_NAME_MAX + 1], token[WADI_TOKEN_MAX];

	snprintf(name, sizeof(name), "made-by-%s", a->job);
	return wadi_job_create(a->w, name, NULL, token);
}

static int64_t call_job_renew(struct asked *a)
{
	return wadi_job_renew(a->w, a->job, 1000);
}

static int64_t call_job_end(struct asked *a)
{
	return wadi_job_end(a->w, a->job);
}

static int64_t call_job_show(struct asked *a)
{
	struct wadi_job_info info;

	return wadi_job_show(a->w, a->job, &info);
}

static int64_t call_job_list(struct asked *a)
{
	struct wadi_job_info one[1];

	return wadi_job_list(a->w, one, 1);
}

static int64_t call_store_info(struct asked *a)
{
	struct wadi_store_info info;

	return wadi_store_info(a->w, &info);
}

#define RIGHT_ADMIN (1u << 30) /* no token of a job has it */

static const struct {
	const char *name;
	int64_t (*call)(struct asked *a);
	unsigned needs; /* WADI_RIGHT_* */
} CALLS[] = {
	{ "put", call_put, WADI_RIGHT_WRITE },
	{ "put of much", call_put_large, WADI_RIGHT_WRITE },
	{ "get", call_get, WADI_RIGHT_READ },
	{ "get that waits", call_get_that_waits, WADI_RIGHT_READ },
	{ "get_alloc", call_get_alloc, WADI_RIGHT_READ },
	{ "stat", call_stat, WADI_RIGHT_READ },
	{ "stat of a directory", call_stat_of_directory, WADI_RIGHT_READ },
	{ "remove", call_remove, WADI_RIGHT_REMOVE },
	{ "remove_tree", call_remove_tree, WADI_RIGHT_REMOVE },
	{ "rename", call_rename, WADI_RIGHT_REMOVE | WADI_RIGHT_WRITE },
	{ "wait", call_wait, WADI_RIGHT_READ },
	{ "wait_count", call_wait_count, WADI_RIGHT_LIST },
	{ "reserve", call_reserve, WADI_RIGHT_WRITE },
	{ "reserve of much", call_reserve_large, WADI_RIGHT_WRITE },
	{ "view", call_view, WADI_RIGHT_READ },
	{ "writer", call_writer, WADI_RIGHT_WRITE },
	{ "writer of much", call_writer_large, WADI_RIGHT_WRITE },
	{ "reader", call_reader, WADI_RIGHT_READ },
	{ "list", call_list, WADI_RIGHT_LIST },
	{ "list of all below", call_list_recursive, WADI_RIGHT_LIST },
	{ "start_put", call_start_put, WADI_RIGHT_WRITE },
	{ "start_get", call_start_get, WADI_RIGHT_READ },
	{ "start_remove", call_start_remove, WADI_RIGHT_REMOVE },
	{ "start_wait", call_start_wait, WADI_RIGHT_READ },
	{ "job_create", call_job_create, RIGHT_ADMIN },
	{ "job_renew", call_job_renew, WADI_RIGHT_JOB },
	{ "job_end", call_job_end, WADI_RIGHT_JOB },
	{ "job_show", call_job_show, WADI_RIGHT_JOB },
	{ "job_list", call_job_list, RIGHT_ADMIN },
	{ "store_info", call_store_info, RIGHT_ADMIN },
};

static const char *const SECRETS[] = { "d/1", "in/d/1", "in/x", "x" };

/* What a call that was allowed may have changed is as before. */
static int secrets_put(struct wadi *w)
{
	int r = wadi_remove_tree(w, "", NULL);

	for (size_t i = 0; r == 0 && i < COUNT_OF(SECRETS); i++)
		r = wadi_put(w, SECRETS[i], "secret", 6, NULL, NULL);
	return r;
}

/* Nothing is there but the secrets, of these versions or of any; the job's lease is as long as it
 * was. */
static bool secrets_are_there(struct wadi *w, uint64_t version_of[4])
{
	struct wadi_list_options options = WADI_LIST_OPTIONS;
	struct wadi_list_entry e;
	struct wadi_job_info info;
	struct wadi_list *l;
	unsigned count = 0;
	char buf[8];
	bool is_right = true;

	options.is_recursive = true;
	if (wadi_list_open(w, "", &options, &l) < 0)
		return false;
	while (is_right && wadi_list_next(l, &e) > 0) {
		is_right = count < COUNT_OF(SECRETS) && strcmp(e.name, SECRETS[count]) == 0 &&
			   (version_of[count] == 0 || version_of[count] == e.stat.version);
		if (is_right)
			version_of[count++] = e.stat.version;
	}
	wadi_list_close(&l);
	for (unsigned i = 0; is_right && i < count; i++)
		is_right = wadi_get(w, SECRETS[i], buf, sizeof(buf), NULL, NULL) == 6 &&
			   memcmp(buf, "secret", 6) == 0;
	return is_right && count == COUNT_OF(SECRETS) &&
	       wadi_job_show(w, wadi_job_name(w), &info) == 0 && info.lease_left_ms > 60000;
}

/* All calls by `asked`, of which those are allowed that need no more than `rights`. `owner` looks
 * after each. */
static const char *try_all_calls(struct asked *asked, unsigned rights, struct wadi *owner)
{
	static const char NOTHING[BUF_BYTES] = "";
	uint64_t versions[4] = { 0 };
	char buf[BUF_BYTES];

	asked->buf = buf;
	if (secrets_put(owner) != 0 || !secrets_are_there(owner, versions))
		return failed(__LINE__, "the secrets", 0, owner);
	for (size_t i = 0; i < COUNT_OF(CALLS); i++) {
		bool is_allowed = (CALLS[i].needs & ~rights) == 0;
		int64_t r;

		/* Nobody's job is ended: `jobs` does that. */
		if (is_allowed && CALLS[i].needs & WADI_RIGHT_JOB)
			continue;
		memset(buf, 0, sizeof(buf));
		r = CALLS[i].call(asked);
		if (is_allowed ? r < 0 : r != -EACCES)
			return failed(__LINE__, CALLS[i].name, r, asked->w);
		if (is_allowed) {
			memset(versions, 0, sizeof(versions));
			if (secrets_put(owner) != 0)
				return failed(__LINE__, "the secrets again", 0, owner);
		} else if (memcmp(buf, NOTHING, sizeof(buf)) != 0) {
			return failed(__LINE__, CALLS[i].name, 0, NULL);
		}
		if (!secrets_are_there(owner, versions)) {
			failed(__LINE__, CALLS[i].name, r, owner);
			strcat(why, " has changed something");
			return why;
		}
	}
	return NULL;
}

static const char *a_narrowed_token_against_every_call(struct wadi *w)
{
	uint8_t *large = filled(LARGE, 1);
	struct asked asked = { .large = large };
	const char *error = NULL;
	struct own_job j;
	char token[WADI_TOKEN_MAX];

	RETURNS(0, own_job_begin(&j, "narrow", 0));
	asked.job = j.name;
	/* One right alone, then all but that. */
	for (unsigned i = 0; i < 10 && !error; i++) {
		unsigned one = 1u << i % 5, rights = i < 5 ? one : WADI_RIGHT_ALL & ~one;

		RETURNS(0, wadi_token_narrow(j.token, NULL, rights, 0, token));
		RETURNS(0, open_with(token, &asked.w));
		asked.at = "";
		error = try_all_calls(&asked, rights, j.w);
		if (!error)
			wadi_close(asked.w);
	}
	/* All rights, but only for what begins with in/, and none to the job. */
	for (unsigned i = 0; i < 2 && !error; i++) {
		const unsigned rights = WADI_RIGHT_ALL & ~WADI_RIGHT_JOB;

		RETURNS(0, wadi_token_narrow(j.token, "in/", rights, 0, token));
		RETURNS(0, open_with(token, &asked.w));
		asked.at = i ? "in/" : "";
		error = try_all_calls(&asked, i ? rights : 0, j.w);
		if (!error)
			wadi_close(asked.w);
	}
	if (error)
		return error;
	own_job_end(&j);
	free(large);
	return NULL;
}

static const char *another_jobs_token_against_every_call(struct wadi *w)
{
	uint8_t *large = filled(LARGE, 1);
	struct asked asked = { .large = large };
	struct own_job j, other;
	const char *error;
	char at[WADI_JOB_NAME_MAX + 3], path[WADI_JOB_NAME_MAX + 8];

	RETURNS(0, own_job_begin(&j, "mine", 0));
	/* A name as long: it is compared, not only measured. */
	RETURNS(0, own_job_begin(&other, "next", 0));
	snprintf(at, sizeof(at), "/%s/", j.name);
	snprintf(path, sizeof(path), "/%s/x", j.name);
	asked.w = other.w;
	asked.job = j.name;
	asked.at = at;
	error = try_all_calls(&asked, 0, j.w);
	if (error)
		return error;
	/* Neither into it nor out of it. */
	RETURNS(0, wadi_put(other.w, "x", "x", 1, NULL, NULL));
	RETURNS(-EACCES, wadi_rename(other.w, "x", path, 0, NULL));
	RETURNS(-EACCES, wadi_rename(other.w, path, "x", 0, NULL));
	RETURNS(6, wadi_get(j.w, "x", at, sizeof(at), NULL, NULL));
	CHECK(memcmp(at, "secret", 6) == 0);
	own_job_end(&j);
	own_job_end(&other);
	free(large);
	return NULL;
}

static const char *the_end_of_a_job_ends_what_waits_in_it(struct wadi *w)
{
	struct wadi_op *ops[3];
	struct own_job j;
	char buf[8];

	RETURNS(0, own_job_begin(&j, "end", 0));
	RETURNS(0, wadi_start_wait(j.w, "x", 30000, NULL, &ops[0]));
	RETURNS(0, wadi_start_wait(j.w, "y", 30000, NULL, &ops[1]));
	{
		struct wadi_get_options options = WADI_GET_OPTIONS;

		options.wait_ms = 30000;
		RETURNS(0, wadi_start_get(j.w, "z", buf, sizeof(buf), &options, NULL, &ops[2]));
	}
	CHECK(wadi_turn(j.w, 50) == 0);
	RETURNS(0, wadi_job_end(j.admin, j.name));
	for (int i = 0; i < 3; i++) {
		int64_t r = wadi_op_end(&ops[i]);

		if (r != -EIDRM && r != -ENXIO && r != -EKEYREJECTED)
			return failed(__LINE__, "a wait in an ended job", r, j.w);
	}
	own_job_end(&j);
	return NULL;
}

/*
 * What a job reserves and does not write is committed all the same, so it must have no byte of a
 * job that has ended; here one that the same process had. (The server's own memory: test_scrub.py.)
 */
static const char *what_is_reserved_has_nothing_of_an_ended_job(struct wadi *w)
{
	static const size_t SIZES[] = { 3000, 100000, 3 * MIB };
	static const char MARK[] = "bytes of the job before";
	const size_t mark = sizeof(MARK);

	for (size_t i = 0; i < COUNT_OF(SIZES); i++) {
		size_t len = SIZES[i] / mark * mark;
		struct wadi_reservation *r;
		struct own_job before, next;
		uint8_t *data;
		void *copy;

		RETURNS(0, own_job_begin(&before, "before", 0));
		RETURNS(0, wadi_reserve(before.w, "x", len, NULL, &r));
		data = (uint8_t *)wadi_reservation_data(r);
		for (size_t at = 0; at < len; at += mark)
			memcpy(data + at, MARK, mark);
		RETURNS(0, wadi_commit(&r, NULL));
		RETURNS(len, wadi_get_alloc(before.w, "x", NULL, &copy, NULL));
		CHECK(memmem(copy, len, MARK, mark) == copy);
		wadi_free(copy);
		own_job_end(&before);

		RETURNS(0, own_job_begin(&next, "next", 0));
		RETURNS(0, wadi_reserve(next.w, "x", len, NULL, &r));
		data = (uint8_t *)wadi_reservation_data(r);
		CHECK(!memmem(data, len, MARK, mark));
		memcpy(data, "written", 7);
		RETURNS(0, wadi_commit(&r, NULL));
		RETURNS(len, wadi_get_alloc(next.w, "x", NULL, &copy, NULL));
		CHECK(memcmp(copy, "written", 7) == 0 && !memmem(copy, len, MARK, mark));
		wadi_free(copy);
		own_job_end(&next);
	}
	return NULL;
}

#define SHARDS 4

/* An id begins with the slot of its job; with four shards, slot N lies in shard N mod 4. */
static unsigned shard_of_job(const struct wadi_job_info *info)
{
	return (unsigned)(info->id >> 54) % SHARDS;
}

/* A job in each shard, and a handle in each. */
static const char *jobs_of_all_shards_begin(struct own_job jobs[SHARDS])
{
	unsigned found = 0;

	for (unsigned i = 0; found < SHARDS && i < 200; i++) {
		struct wadi_job_info info;
		struct own_job j;
		char kind[16];
		int r;

		snprintf(kind, sizeof(kind), "shard%u", i);
		r = own_job_begin(&j, kind, 0);
		if (r == 0)
			r = wadi_job_show(j.w, j.name, &info);
		if (r < 0)
			return failed(__LINE__, kind, r, j.admin);
		if (jobs[shard_of_job(&info)].w) {
			own_job_end(&j);
			continue;
		}
		jobs[shard_of_job(&info)] = j;
		found++;
	}
	CHECK(found == SHARDS);
	return NULL;
}

static const char *in_jobs_of_four_shards_on_a_handle_each(struct wadi *w)
{
	const size_t len = 3 * MIB + 1;
	struct own_job jobs[SHARDS];
	struct wadi_op *puts[SHARDS], *gets[SHARDS], *waits[SHARDS];
	uint8_t *data[SHARDS], *buf[SHARDS];
	const char *error;

	memset(jobs, 0, sizeof(jobs));
	error = jobs_of_all_shards_begin(jobs);
	if (error)
		return error;
	/* Each step in all of them, so that all are at work at once. */
	for (unsigned i = 0; i < SHARDS; i++) {
		data[i] = filled(len, 10 + i);
		buf[i] = (uint8_t *)malloc(len);
		w = jobs[i].w;
		RETURNS(0, wadi_start_wait(w, "d/late", 20000, NULL, &waits[i]));
		RETURNS(0, wadi_start_put(w, "d/x", data[i], len, NULL, NULL, &puts[i]));
		RETURNS(0, wadi_put(w, "small", data[i], 100 + i, NULL, NULL));
	}
	for (unsigned i = 0; i < SHARDS; i++) {
		w = jobs[i].w;
		RETURNS(0, wadi_op_end(&puts[i]));
		RETURNS(0, wadi_start_get(w, "d/x", buf[i], len, NULL, NULL, &gets[i]));
		RETURNS(0, wadi_rename(w, "small", "d/late", WADI_CREATE, NULL));
	}
	for (unsigned i = 0; i < SHARDS; i++) {
		struct wadi_list_options options = WADI_LIST_OPTIONS;
		struct wadi_list_entry e;
		struct wadi_list *l;
		struct wadi_stat stat;
		uint64_t count;

		w = jobs[i].w;
		RETURNS(len, wadi_op_end(&gets[i]));
		CHECK(memcmp(buf[i], data[i], len) == 0);
		RETURNS(0, wadi_op_end(&waits[i]));
		RETURNS(0, wadi_wait_count(w, "d", 2, 20000, &count));
		RETURNS(100 + i, wadi_get(w, "d/late", buf[i], len, NULL, NULL));
		CHECK(memcmp(buf[i], data[i], 100 + i) == 0);
		RETURNS(-ENOENT, wadi_stat(w, "small", &stat));
		options.is_recursive = true;
		RETURNS(0, wadi_list_open(w, "", &options, &l));
		RETURNS(1, wadi_list_next(l, &e));
		CHECK(strcmp(e.name, "d/late") == 0 && e.stat.len == 100 + i);
		RETURNS(1, wadi_list_next(l, &e));
		CHECK(strcmp(e.name, "d/x") == 0 && e.stat.len == len);
		RETURNS(0, wadi_list_next(l, &e));
		wadi_list_close(&l);
	}
	/* The end of one is nothing to the others. */
	for (unsigned i = 0; i < SHARDS; i++) {
		uint64_t count;

		for (unsigned k = i + 1; k < SHARDS; k++) {
			w = jobs[k].w;
			RETURNS(len, wadi_get(w, "d/x", buf[k], len, NULL, NULL));
			CHECK(memcmp(buf[k], data[k], len) == 0);
		}
		w = jobs[i].w;
		RETURNS(0, wadi_remove(w, "d/x", 0));
		RETURNS(0, wadi_remove_tree(w, "", &count));
		CHECK(count == 1);
		own_job_end(&jobs[i]);
		free(data[i]);
		free(buf[i]);
	}
	return NULL;
}

static const char *after_a_fork_the_child_opens_its_own(struct wadi *w)
{
	struct wadi_view *view;
	struct wadi_op *op;
	struct wadi *own;
	char buf[8];
	int status, r;
	pid_t pid;

	RETURNS(0, wadi_put(w, "x", "parent", 6, NULL, NULL));
	RETURNS(0, wadi_view(w, "x", NULL, &view));
	RETURNS(0, wadi_start_wait(w, "y", 30000, NULL, &op));
	pid = fork();
	if (pid == 0) {
		r = wadi_put(w, "x", "child", 5, NULL, NULL) == -EOWNERDEAD &&
		    wadi_get(w, "x", buf, sizeof(buf), NULL, NULL) == -EOWNERDEAD &&
		    wadi_turn(w, 0) == -EOWNERDEAD && wadi_op_end(&op) == -EOWNERDEAD &&
		    wadi_release(&view) == -EOWNERDEAD && view == NULL &&
		    strstr(wadi_strerror(w), "fork") != NULL;
		wadi_close(w);
		if (r && wadi_open(NULL, &own) == 0 &&
		    wadi_put(own, "y", "child", 5, NULL, NULL) == 0) {
			wadi_close(own);
			_exit(0);
		}
		_exit(1);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(memcmp(wadi_view_data(view), "parent", 6) == 0);
	RETURNS(0, wadi_release(&view));
	RETURNS(0, wadi_op_end(&op));
	RETURNS(6, wadi_get(w, "x", buf, sizeof(buf), NULL, NULL));
	CHECK(memcmp(buf, "parent", 6) == 0);
	return NULL;
}

/* Reads what is left, over and over, on a thread and a handle of its own. */
struct beside {
	pthread_t thread;
	bool must_stop; /* atomic */
	unsigned rounds, read_count;
	const char *error;
	char text[256];
};

static const char *read_beside(struct beside *b, struct wadi *w)
{
	struct wadi_list_options options = WADI_LIST_OPTIONS;
	struct wadi_list_entry e;
	struct wadi_list *l;
	char last[32] = "", path[64], buf[64];
	int r = wadi_list_open(w, "many/", &options, &l), seen = 0;

	if (r == -ENOENT)
		return NULL;
	if (r < 0)
		return "list";
	while (seen < 3000 && (r = wadi_list_next(l, &e)) > 0) {
		if (strcmp(e.name, last) <= 0)
			return "the names are not in order";
		snprintf(last, sizeof(last), "%s", e.name);
		if (seen++ % 64 == 0) {
			int64_t n;

			snprintf(path, sizeof(path), "many/%s", last);
			n = wadi_get(w, path, buf, sizeof(buf), NULL, NULL);
			if (n != -ENOENT &&
			    (n != (int64_t)strlen(last) || memcmp(buf, last, strlen(last)) != 0))
				return "an object is neither whole nor gone";
			b->read_count += n > 0;
		}
	}
	wadi_list_close(&l);
	return r < 0 && r != -ENOENT ? "list" : NULL;
}

static void *beside_main(void *arg)
{
	struct beside *b = (struct beside *)arg;
	struct wadi *w;

	if (wadi_open(NULL, &w) < 0) {
		b->error = "the reader's handle";
		return NULL;
	}
	while (!b->error && !__atomic_load_n(&b->must_stop, __ATOMIC_ACQUIRE)) {
		b->error = read_beside(b, w);
		__atomic_add_fetch(&b->rounds, 1, __ATOMIC_RELAXED);
	}
	if (b->error) {
		snprintf(b->text, sizeof(b->text), "%s: %.200s", b->error, wadi_strerror(w));
		b->error = b->text;
	}
	wadi_close(w);
	return NULL;
}

static const char *many_objects_are_removed_beside_a_reader(struct wadi *w)
{
	enum { FLIGHT = 256 };
	static struct wadi_op *ops[FLIGHT];
	static char names[FLIGHT][16];
	const char *text = getenv("CAPI_MANY");
	unsigned many = text ? (unsigned)atoi(text) : 3000;
	uint8_t *large = filled(6 * MIB, 1), *buf = (uint8_t *)malloc(6 * MIB);
	static struct beside beside;
	struct wadi_reader *rd;
	struct wadi_stat stat;
	uint64_t count, due;
	size_t at = 0;
	int64_t n;

	for (unsigned i = 0; i < many + FLIGHT; i++) {
		struct wadi_op **op = &ops[i % FLIGHT];
		char *name = names[i % FLIGHT], path[32];

		if (*op)
			RETURNS(0, wadi_op_end(op));
		if (i >= many)
			continue;
		snprintf(name, 16, "%06u", i);
		snprintf(path, sizeof(path), "many/%s", name);
		RETURNS(0, wadi_start_put(w, path, name, 6, NULL, NULL, op));
	}
	RETURNS(0, wadi_put(w, "many/large", large, 6 * MIB, NULL, NULL));
	RETURNS(0, wadi_put(w, "manyother", "x", 1, NULL, NULL));
	RETURNS(0, wadi_stat(w, "many/", &stat));
	CHECK(stat.is_directory && stat.len == many + 1);
	RETURNS(0, wadi_reader_open(w, "many/large", NULL, &rd));
	CHECK(wadi_reader_read(rd, buf, 1000) == 1000);

	CHECK(pthread_create(&beside.thread, NULL, beside_main, &beside) == 0);
	for (due = now_ms() + 20000; now_ms() < due;)
		if (__atomic_load_n(&beside.rounds, __ATOMIC_RELAXED) > 0)
			break;
	RETURNS(0, wadi_remove_tree(w, "many", &count));
	__atomic_store_n(&beside.must_stop, true, __ATOMIC_RELEASE);
	pthread_join(beside.thread, NULL);
	if (beside.error) {
		snprintf(why, sizeof(why), "beside: %s", beside.error);
		return why;
	}
	CHECK(count == many + 1 && beside.rounds > 0);
	RETURNS(-ENOENT, wadi_stat(w, "many/", &stat));
	RETURNS(0, wadi_stat(w, "manyother", &stat));
	/* The reader holds its version, to its end. */
	for (at = 1000; (n = wadi_reader_read(rd, buf + at, 6 * MIB - at)) > 0;)
		at += (size_t)n;
	RETURNS(0, n);
	CHECK(at == 6 * MIB && memcmp(buf + 1000, large + 1000, 6 * MIB - 1000) == 0);
	wadi_reader_close(&rd);
	free(large);
	free(buf);
	return NULL;
}

static const char *every_wait_has_a_deadline(struct wadi *w)
{
	struct wadi_get_options get = WADI_GET_OPTIONS;
	struct wadi_options options = WADI_OPTIONS;
	uint64_t begun = now_ms(), count;
	struct wadi_stat stat;
	struct wadi_op *op;
	struct wadi *other;
	char buf[8];
	int r;

	RETURNS(-ETIMEDOUT, wadi_wait(w, "x", 100, &stat));
	RETURNS(-ETIMEDOUT, wadi_wait_count(w, "d", 1, 100, &count));
	get.wait_ms = 100;
	r = (int)wadi_get(w, "x", buf, sizeof(buf), &get, NULL);
	CHECK(r == -ENOENT || r == -ETIMEDOUT);
	RETURNS(0, wadi_start_wait(w, "x", 100, NULL, &op));
	RETURNS(-ETIMEDOUT, wadi_op_end(&op));
	CHECK(now_ms() - begun >= 400 && now_ms() - begun < 20000);

	/* Nobody is there: told at once, and the handle can say so. */
	options.endpoint = "tcp://127.0.0.1:1";
	RETURNS(-EHOSTUNREACH, wadi_open(&options, &other));
	CHECK(other && strstr(wadi_strerror(other), "127.0.0.1:1"));
	wadi_close(other);
	options.endpoint = "nonsense";
	RETURNS(-EINVAL, wadi_open(&options, &other));
	wadi_close(other);
	options.endpoint = "direct://127.0.0.1:1,127.0.0.1:2";
	RETURNS(-EHOSTUNREACH, wadi_open(&options, &other));
	CHECK(other && strstr(wadi_strerror(other), "127.0.0.1:2"));
	wadi_close(other);
	options.endpoint = "direct://127.0.0.1:1,";
	RETURNS(-EINVAL, wadi_open(&options, &other));
	wadi_close(other);
	return NULL;
}

static const char *the_environment_says_how_long(struct wadi *w)
{
	struct wadi *other;

	(void)w;
	setenv("WADI_TIMEOUT", "soon", 1);
	RETURNS(-EINVAL, wadi_open(NULL, &other));
	CHECK(other && strstr(wadi_strerror(other), "WADI_TIMEOUT is no duration"));
	wadi_close(other);
	setenv("WADI_TIMEOUT", "1h", 1);
	RETURNS(0, wadi_open(NULL, &other));
	wadi_close(other);
	unsetenv("WADI_TIMEOUT");
	return NULL;
}

static const char *a_program_of_an_older_header_goes_on(struct wadi *w)
{
	struct wadi_put_options options;
	char buf[8];

	/* What lies behind its size is not looked at. */
	memset(&options, 0xff, sizeof(options));
	options.size = offsetof(struct wadi_put_options, ttl_ms);
	options.flags = WADI_CREATE;
	RETURNS(0, wadi_put(w, "x", "x", 1, &options, NULL));
	RETURNS(-EEXIST, wadi_put(w, "x", "y", 1, &options, NULL));
	RETURNS(1, wadi_get(w, "x", buf, sizeof(buf), NULL, NULL));
	return NULL;
}

static const char *what_is_not_in_this_build_is_refused(struct wadi *w)
{
	struct wadi_put_options options = WADI_PUT_OPTIONS;

	options.copies = 2;
	RETURNS(-EOPNOTSUPP, wadi_put(w, "x", "x", 1, &options, NULL));
	options.copies = 1;
	options.tier = WADI_TIER_NVMF;
	RETURNS(-EOPNOTSUPP, wadi_put(w, "x", "x", 1, &options, NULL));
	options.tier = WADI_TIER_DRAM;
	RETURNS(0, wadi_put(w, "x", "x", 1, &options, NULL));
	options.flags = WADI_DURABLE;
	RETURNS(-EOPNOTSUPP, wadi_put(w, "x", "x", 1, &options, NULL));
	return NULL;
}

static const char *handles_are_closed_whatever_is_in_flight(struct wadi *w)
{
	static char data[100000];
	struct wadi_stat stat;

	for (int i = 0; i < 20; i++) {
		struct wadi *other;
		struct wadi_op *op;

		RETURNS(0, wadi_open(NULL, &other));
		RETURNS(0, wadi_start_put(other, "x", data, sizeof(data), NULL, NULL, &op));
		if (i % 2)
			RETURNS(0, wadi_op_end(&op));
		else
			wadi_op_cancel(op), wadi_op_end(&op);
		wadi_close(other);
	}
	RETURNS(0, wadi_stat(w, "x", &stat));
	CHECK(stat.len == sizeof(data));
	/* Some that were begun, some half way, some that have ended; nobody ends them. */
	for (int i = 0; i < 20; i++) {
		struct wadi_op *ops[4];
		struct wadi_stat none;
		struct wadi *other;
		void *got = NULL;

		RETURNS(0, wadi_open(NULL, &other));
		RETURNS(0, wadi_start_put(other, "y", data, sizeof(data), NULL, NULL, &ops[0]));
		RETURNS(0, wadi_start_get_alloc(other, "x", NULL, &got, NULL, &ops[1]));
		RETURNS(0, wadi_start_wait(other, "none", 100000, &none, &ops[2]));
		RETURNS(0, wadi_start_remove(other, "none", 0, &ops[3]));
		for (int k = 0; k < i; k++)
			CHECK(wadi_turn(other, 0) >= 0);
		wadi_close(other);
		CHECK(got == NULL);
	}
	return NULL;
}

/* clang-format off */
#define TESTS(T)                                                        \
	T(whole_objects)                                                \
	T(ranges)                                                       \
	T(versions_and_attempts)                                        \
	T(lives)                                                        \
	T(exactly_so_many_of_64_racing_readers)                         \
	T(attributes)                                                   \
	T(names)                                                        \
	T(errors_have_names_and_words)                                  \
	T(parts_are_committed_in_the_order_of_their_numbers)            \
	T(ranges_to_the_end_of_an_object_of_many_extents)               \
	T(writers_of_any_length_and_hint)                               \
	T(a_writer_that_is_abandoned_leaves_nothing)                    \
	T(many_writers_take_turns_on_one_handle)                        \
	T(eight_large_gets_are_read_in_turns_over_one_handle)           \
	T(a_reader_holds_its_version)                                   \
	T(in_place)                                                     \
	T(operations_in_flight)                                         \
	T(operations_one_after_the_other)                               \
	T(operations_that_allocate)                                     \
	T(a_signal_ends_a_call_if_its_host_wants_that)                  \
	T(a_handle_moves_from_thread_to_thread)                         \
	T(waits_do_not_hold_up_others)                                  \
	T(an_event_loop_can_drive_a_handle)                             \
	T(a_put_waits_for_space_beside_a_remove_on_the_same_handle)     \
	T(a_program_may_take_its_time_between_calls)                    \
	T(two_handles_see_each_others_changes_at_once)                  \
	T(lists)                                                        \
	T(jobs)                                                         \
	T(a_narrowed_token_against_every_call)                          \
	T(another_jobs_token_against_every_call)                        \
	T(the_end_of_a_job_ends_what_waits_in_it)                       \
	T(what_is_reserved_has_nothing_of_an_ended_job)                 \
	T(in_jobs_of_four_shards_on_a_handle_each)                      \
	T(after_a_fork_the_child_opens_its_own)                         \
	T(many_objects_are_removed_beside_a_reader)                     \
	T(every_wait_has_a_deadline)                                    \
	T(the_environment_says_how_long)                                \
	T(a_program_of_an_older_header_goes_on)                         \
	T(what_is_not_in_this_build_is_refused)                         \
	T(handles_are_closed_whatever_is_in_flight)

#define TEST_ENTRY(name) { #name, name },
static const struct {
	const char *name;
	test_fn *run;
} ALL[] = { TESTS(TEST_ENTRY) };
/* clang-format on */

static bool is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	int failures = 0;

	for (size_t i = 0; i < COUNT_OF(ALL); i++) {
		const char *error;
		struct wadi *w;
		int r;

		if (!is_wanted(ALL[i].name, argc, argv))
			continue;
		r = wadi_open(NULL, &w);
		error = r < 0 ? failed(__LINE__, "wadi_open", r, w) : ALL[i].run(w);
		if (error)
			printf("FAIL %s %s\n", ALL[i].name, error);
		else
			printf("ok %s\n", ALL[i].name);
		fflush(stdout);
		failures += error != NULL;
		/* After a failure its streams and operations are still on the handle. */
		if (!error) {
			wadi_remove_tree(w, "", NULL);
			wadi_close(w);
		}
	}
	return failures > 0;
}
