/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What does it cost to keep a nearly full store tidy? Objects are overwritten in random
 * order, uniformly, at a fixed amount of live bytes; beside that small objects are got, by the
 * same way and by another, and each of the large ones is now and then read back and compared
 * byte by byte. In turn with the gets as many bytes go to a thread that does nothing else, and
 * back: what the machine takes for that, beside all this, is the floor.
 *
 * usage: overwrite LIVE_BYTES SECONDS OBJECT_BYTES ENDPOINT      WADI_ENDPOINT as for any client
 *
 * Prints one line of JSON. What the store has moved meanwhile its metrics tell.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <wadi/wadi.h>

#define WRITERS      2
#define SMALL_NAMES  64
#define SMALL_BYTES  4096
#define TIMEOUT_MS   30000
#define SAMPLES_MAX  4000000
#define GET_PAUSE_US 500

struct writer {
	pthread_t thread;
	unsigned index;
	uint64_t random, put_bytes, put_count, failed_count, wrong_count, slowest_ns;
	uint8_t *buf, *back;
};

static uint64_t object_count, begun_ns, until_ns;
static size_t object_bytes;
static uint32_t *versions; /* each object is of one writer */
static atomic_bool is_over;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* NULL: where WADI_ENDPOINT says. */
static struct wadi *open_handle(const char *endpoint)
{
	struct wadi_options options = WADI_OPTIONS;
	struct wadi *w;

	options.endpoint = endpoint;
	options.timeout_ms = TIMEOUT_MS;
	if (wadi_open(&options, &w) < 0) {
		fprintf(stderr, "overwrite: %s\n", wadi_strerror(w));
		exit(2);
	}
	return w;
}

/* Half to one and a half of the mean, and so that any two differ in every word. */
static size_t fill(uint8_t *buf, uint64_t object, uint32_t version)
{
	uint64_t state = (object << 32 | version) * 0x9e3779b97f4a7c15ull + 1;
	size_t len = object_bytes / 2 + next(&state) % object_bytes;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = state + i * 0x2545f4914f6cdd1dull;

		memcpy(buf + i, &word, 8);
	}
	return len;
}

static void put(struct writer *wr, struct wadi *w, uint64_t object)
{
	size_t len = fill(wr->buf, object, versions[object] + 1);
	uint64_t begin_ns = now_ns(), took_ns;
	char path[32];
	int r;

	snprintf(path, sizeof(path), "o/%" PRIu64, object);
	r = wadi_put(w, path, wr->buf, len, NULL, NULL);
	took_ns = now_ns() - begin_ns;
	if (took_ns > wr->slowest_ns)
		wr->slowest_ns = took_ns;
	if (r < 0) {
		fprintf(stderr, "overwrite: put %s: %s\n", path, wadi_strerror(w));
		wr->failed_count++;
		return;
	}
	versions[object]++;
	wr->put_bytes += len;
	wr->put_count++;
}

static void check(struct writer *wr, struct wadi *w, uint64_t object)
{
	size_t len = fill(wr->buf, object, versions[object]);
	int64_t r;
	char path[32];

	snprintf(path, sizeof(path), "o/%" PRIu64, object);
	r = wadi_get(w, path, wr->back, 2 * object_bytes, NULL, NULL);
	if (r == (int64_t)len && memcmp(wr->buf, wr->back, len) == 0)
		return;
	fprintf(stderr, "overwrite: get %s: %" PRId64 " %s\n", path, r, wadi_strerror(w));
	wr->wrong_count++;
}

static uint64_t any_own(struct writer *wr)
{
	uint64_t mine = object_count / WRITERS;

	return (next(&wr->random) >> 11) % mine * WRITERS + wr->index;
}

static void *write_run(void *arg)
{
	struct writer *wr = arg;
	struct wadi *w = open_handle(NULL);

	/* Who measures is not to wait for who only makes work: it has what cores are left. */
	sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){ 0 });
	while (now_ns() < until_ns) {
		put(wr, w, any_own(wr));
		if (next(&wr->random) >> 60 == 0)
			check(wr, w, any_own(wr));
	}
	/* All of it is what was put last. */
	for (uint64_t i = wr->index; i < object_count; i += WRITERS)
		check(wr, w, i);
	wadi_close(w);
	return NULL;
}

static int by_time(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

struct samples {
	uint32_t *ns;
	size_t count;
};

struct getter {
	pthread_t thread, echo;
	int ends[2]; /* its own, the echo's */
	struct samples gets, far, floor;
	const char *endpoint; /* of the far ones */
	uint64_t failed_count;
};

static void sample(struct samples *s, uint64_t begin_ns)
{
	s->ns[s->count++] = (uint32_t)(now_ns() - begin_ns);
}

/* A request of 64 bytes, and an answer as long as a small object. */
#define ASK_BYTES 64

static bool receive(int fd, void *buf, size_t len)
{
	return recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

static void *echo_run(void *arg)
{
	const struct getter *g = arg;
	uint8_t buf[SMALL_BYTES] = { 0 };

	while (receive(g->ends[1], buf, ASK_BYTES))
		if (send(g->ends[1], buf, SMALL_BYTES, MSG_NOSIGNAL) != SMALL_BYTES)
			break;
	return NULL;
}

static void floor_once(struct getter *g)
{
	uint64_t begin_ns = now_ns();
	uint8_t buf[SMALL_BYTES] = { 0 };

	if (send(g->ends[0], buf, ASK_BYTES, MSG_NOSIGNAL) != ASK_BYTES ||
	    !receive(g->ends[0], buf, SMALL_BYTES)) {
		fprintf(stderr, "overwrite: the echo is gone\n");
		exit(2);
	}
	sample(&g->floor, begin_ns);
}

static void get_once(struct getter *g, struct wadi *w, uint64_t *random, struct samples *to)
{
	uint64_t begin_ns = now_ns();
	uint8_t buf[SMALL_BYTES];
	char path[32];

	snprintf(path, sizeof(path), "s/%u", (unsigned)(next(random) % SMALL_NAMES));
	if (wadi_get(w, path, buf, sizeof(buf), NULL, NULL) < 0)
		g->failed_count++;
	sample(to, begin_ns);
}

static void *get_run(void *arg)
{
	const struct timespec pause = { .tv_nsec = GET_PAUSE_US * 1000 };
	struct getter *g = arg;
	struct wadi *w = open_handle(NULL), *far = open_handle(g->endpoint);
	uint64_t random = 0x5eed;

	while (!atomic_load(&is_over) && g->gets.count < SAMPLES_MAX) {
		get_once(g, w, &random, &g->gets);
		nanosleep(&pause, NULL);
		get_once(g, far, &random, &g->far);
		nanosleep(&pause, NULL);
		floor_once(g);
		nanosleep(&pause, NULL);
	}
	wadi_close(far);
	wadi_close(w);
	return NULL;
}

static void getter_start(struct getter *g)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, g->ends) < 0) {
		perror("overwrite: socketpair");
		exit(2);
	}
	pthread_create(&g->echo, NULL, echo_run, g);
	pthread_create(&g->thread, NULL, get_run, g);
}

static void samples_sort(struct samples *s)
{
	qsort(s->ns, s->count, sizeof(*s->ns), by_time);
}

static void getter_end(struct getter *g)
{
	atomic_store(&is_over, true);
	pthread_join(g->thread, NULL);
	shutdown(g->ends[0], SHUT_RDWR);
	pthread_join(g->echo, NULL);
	samples_sort(&g->gets);
	samples_sort(&g->far);
	samples_sort(&g->floor);
}

/* Everything once: small ones first, half of them values. */
static void load(struct writer *wr)
{
	struct wadi *w = open_handle(NULL);
	uint8_t small[SMALL_BYTES] = { 0 };
	char path[32];

	for (unsigned i = 0; i < SMALL_NAMES; i++) {
		snprintf(path, sizeof(path), "s/%u", i);
		if (wadi_put(w, path, small, i % 2 ? SMALL_BYTES : 64, NULL, NULL) < 0)
			wr->failed_count++;
	}
	for (uint64_t i = 0; i < object_count; i++)
		put(wr, w, i);
	wadi_close(w);
}

static void samples_print(const char *name, const struct samples *s)
{
	static const struct {
		const char *name;
		double share;
	} AT[] = { { "p50", 0.5 }, { "p99", 0.99 }, { "p999", 0.999 } };

	printf(", \"%s_count\": %zu", name, s->count);
	for (unsigned i = 0; i < sizeof(AT) / sizeof(AT[0]); i++)
		printf(", \"%s_%s_ms\": %.3f", name, AT[i].name,
		       s->count ? s->ns[(size_t)(AT[i].share * (double)(s->count - 1))] / 1e6 : 0);
}

int main(int argc, char **argv)
{
	static struct writer writers[WRITERS];
	static struct getter getter;
	uint64_t put_bytes = 0, put_count = 0, failed = 0, wrong = 0, slowest = 0, loaded;

	if (argc != 5) {
		fprintf(stderr, "usage: overwrite LIVE_BYTES SECONDS OBJECT_BYTES ENDPOINT\n");
		return 2;
	}
	object_bytes = strtoull(argv[3], NULL, 0);
	getter.endpoint = argv[4];
	object_count = strtoull(argv[1], NULL, 0) / object_bytes / WRITERS * WRITERS;
	versions = calloc(object_count, sizeof(*versions));
	getter.gets.ns = calloc(SAMPLES_MAX, sizeof(*getter.gets.ns));
	getter.far.ns = calloc(SAMPLES_MAX, sizeof(*getter.far.ns));
	getter.floor.ns = calloc(SAMPLES_MAX, sizeof(*getter.floor.ns));
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ .index = i,
					      .random = 0x9e3779b9u + i,
					      .buf = malloc(2 * object_bytes + 8),
					      .back = malloc(2 * object_bytes + 8) };
	}
	load(&writers[0]);
	loaded = writers[0].put_bytes;
	printf("{\"loaded_bytes\": %" PRIu64 "}\n", loaded);
	fflush(stdout);
	/* Whoever started us looks at the metrics now, and says when to go on. */
	if (getchar() == EOF)
		return 2;
	writers[0].put_bytes = writers[0].put_count = writers[0].slowest_ns = 0;
	begun_ns = now_ns();
	until_ns = begun_ns + strtoull(argv[2], NULL, 0) * 1000000000;
	getter_start(&getter);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_create(&writers[i].thread, NULL, write_run, &writers[i]);
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(writers[i].thread, NULL);
		put_bytes += writers[i].put_bytes;
		put_count += writers[i].put_count;
		failed += writers[i].failed_count;
		wrong += writers[i].wrong_count;
		slowest = slowest > writers[i].slowest_ns ? slowest : writers[i].slowest_ns;
	}
	getter_end(&getter);
	printf("{\"put_bytes\": %" PRIu64 ", \"put_count\": %" PRIu64 ", \"failed\": %" PRIu64
	       ", \"wrong\": %" PRIu64 ", \"slowest_put_ms\": %.1f, \"failed_gets\": %" PRIu64,
	       put_bytes, put_count, failed, wrong, (double)slowest / 1e6, getter.failed_count);
	samples_print("get", &getter.gets);
	samples_print("far", &getter.far);
	samples_print("floor", &getter.floor);
	printf("}\n");
	return failed || wrong || getter.failed_count ? 1 : 0;
}
