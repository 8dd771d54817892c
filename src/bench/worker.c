/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/worker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/node.h"
#include "bench/bench.h"
#include "bench/first.h"

#define EVENTS         256
#define EACH_DEPTH     64
#define STUCK_NS       30000000000ull /* no system takes so long for anything that is asked here */
#define LOOK_NS        1000000000ull  /* clients have timers, which no descriptor tells of */
#define PRECISE_NS     100000ull      /* so long before a due time the worker spins */
#define SIZE_TOTAL_MAX (2ull << 30)

static uint64_t thread_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int fail(struct worker *w, const char *what, int64_t r)
{
	if (w->result == 0) {
		snprintf(w->error, sizeof(w->error), "%.20s: %.40s: %.60s%s%s", w->peer->ops->name,
			 what, strerror((int)-r), w->peer->error[0] ? ": " : "", w->peer->error);
		w->result = (int)r;
	}
	return w->result;
}

/* Keys. */

static void key_make(const struct load *load, uint64_t n, char *key)
{
	char digits[24];
	unsigned len = 0, at = (unsigned)(stpcpy(key, load->prefix) - key);

	do
		digits[len++] = (char)('0' + n % 10);
	while (n /= 10);
	while (len)
		key[at++] = digits[--len];
	key[at] = '\0';
}

static void request_fill(struct worker *w, struct request *rq)
{
	const struct load *load = &w->load;

	rq->op = w->begun_count % 2 ? load->other_op : load->op;
	rq->len = load->size;
	rq->is_done = false;
	if (load->key_count == 0)
		key_make(load, w->key_next++, rq->key);
	else if (rq->op == BENCH_LIST)
		strcpy(rq->key, load->prefix);
	else
		key_make(load, w->key_at++ % load->key_count, rq->key);
}

/* One slice. */

static bool may_begin(const struct worker *w, uint64_t now_ns)
{
	if (bench_is_interrupted())
		return false;
	if (w->load.count_max && w->begun_count >= w->load.count_max)
		return false;
	/* What is late is begun all the same, but not for ever. */
	if (w->load.rate > 0)
		return w->due_ns <= now_ns && w->due_ns < w->end_ns &&
		       now_ns < w->end_ns + w->slice_ns;
	return now_ns < w->end_ns;
}

/* The client of this request has work: the next request, if there is one now. */
static int begin(struct worker *w, struct request *rq, uint64_t now_ns)
{
	unsigned i = (unsigned)(rq - w->requests);
	struct client *c = w->clients[i / w->load.depth];
	int r;

	request_fill(w, rq);
	rq->begun_ns = now_ns;
	if (w->load.rate > 0) {
		rq->begun_ns = w->due_ns;
		w->due_ns += (uint64_t)(1e9 / w->load.rate);
	}
	w->begun_count++;
	w->busy_count++;
	r = c->ops->begin(c, rq);
	return r < 0 ? fail(w, "cannot send", r) : 0;
}

/* Those of the object; who asks about it, or removes it, moves none. */
static size_t bytes_moved(const struct request *rq)
{
	return rq->op == BENCH_STAT || rq->op == BENCH_LIST || rq->op == BENCH_REMOVE ? 0 : rq->len;
}

static int take(struct worker *w, struct request *rq, uint64_t now_ns)
{
	bool is_sized = rq->op == BENCH_GET || rq->op == BENCH_LIST;

	w->busy_count--;
	rq->is_done = false;
	if (rq->result < 0)
		return fail(w, bench_op_name(rq->op), rq->result);
	if (is_sized && (uint64_t)rq->result != rq->len)
		return fail(w, "the answer has another length", -EBADMSG);
	histogram_add(&w->tally->slice, now_ns - rq->begun_ns);
	w->tally->count++;
	w->tally->bytes += bytes_moved(rq);
	w->tally->by_client[(unsigned)(rq - w->requests) / w->load.depth]++;
	w->idle[w->idle_count++] = rq;
	return 0;
}

static int begin_idle(struct worker *w, uint64_t now_ns)
{
	int r = 0;

	while (r == 0 && w->idle_count && may_begin(w, now_ns))
		r = begin(w, w->idle[--w->idle_count], now_ns);
	return r;
}

/* What has ended on this client, and what follows it, until nothing more is to be had. */
static int serve_client(struct worker *w, unsigned i, int ended)
{
	struct client *c = w->clients[i];
	int r = 0;

	while (ended > 0 && r == 0) {
		uint64_t now_ns = node_now_ns();

		for (unsigned d = 0; d < w->load.depth && r == 0; d++) {
			struct request *rq = &w->requests[i * w->load.depth + d];

			if (rq->is_done)
				r = take(w, rq, now_ns);
		}
		/* What has a due time is begun by begin_due(). */
		if (r == 0 && w->load.rate <= 0)
			r = begin_idle(w, now_ns);
		if (r == 0)
			ended = c->ops->flush(c);
	}
	return r == 0 && ended < 0 ? fail(w, "the connection", ended) : r;
}

/* Until when there is nothing to do but answers. */
static uint64_t next_due(const struct worker *w, uint64_t now_ns)
{
	if (bench_is_interrupted() || w->load.rate <= 0 || w->idle_count == 0 ||
	    w->due_ns >= w->end_ns || now_ns >= w->end_ns + w->slice_ns)
		return UINT64_MAX;
	return w->due_ns > now_ns ? w->due_ns : now_ns;
}

static int wait_one(struct worker *w, uint64_t due_ns)
{
	struct client *c = w->clients[0];
	int n = c->ops->turn(c, due_ns);

	return n < 0 ? fail(w, "the connection", n) : serve_client(w, 0, n);
}

static int turn_client(struct worker *w, unsigned i)
{
	struct client *c = w->clients[i];
	int n = c->ops->turn(c, 0);

	return n < 0 ? fail(w, "the connection", n) : serve_client(w, i, n);
}

static int wait_many(struct worker *w, uint64_t due_ns)
{
	struct epoll_event events[EVENTS];
	uint64_t now_ns = node_now_ns(), ns = due_ns > now_ns ? due_ns - now_ns : 0;
	struct timespec rest;
	int n, r = 0;

	if (ns > LOOK_NS)
		ns = LOOK_NS;
	if (w->peer->ops->is_polling)
		ns = 0;
	rest = (struct timespec){ (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
	n = epoll_pwait2(w->epoll_fd, events, EVENTS, &rest, NULL);
	if (n < 0 && errno == ENOSYS) /* a kernel before 5.11, or an emulated one */
		n = epoll_wait(w->epoll_fd, events, EVENTS, (int)((ns + 999999) / 1000000));
	if (n < 0 && errno != EINTR)
		return fail(w, "epoll", -errno);
	for (int i = 0; i < n && r == 0; i++)
		r = turn_client(w, events[i].data.u32);
	if (n == 0 && ns == LOOK_NS)
		for (unsigned i = 0; i < w->load.clients && r == 0; i++)
			r = turn_client(w, i);
	return r;
}

/* All clients have something to do; only those that were given something have much. */
static int flush_all(struct worker *w)
{
	int r = 0;

	for (unsigned i = 0; i < w->load.clients && r == 0; i++) {
		int n = w->clients[i]->ops->flush(w->clients[i]);

		r = n < 0 ? fail(w, "the connection", n) : serve_client(w, i, n);
	}
	return r;
}

/* A request is due, or will be in a moment, which is spent awake. */
static int begin_due(struct worker *w)
{
	uint64_t now_ns = node_now_ns();
	int r = 0;

	while (now_ns < w->due_ns)
		now_ns = node_now_ns();
	while (r == 0 && w->idle_count && may_begin(w, now_ns)) {
		struct request *rq = w->idle[--w->idle_count];
		unsigned i = (unsigned)(rq - w->requests) / w->load.depth;
		int n;

		r = begin(w, rq, now_ns);
		n = r == 0 ? w->clients[i]->ops->flush(w->clients[i]) : 0;
		r = n < 0 ? fail(w, "the connection", n) : r == 0 ? serve_client(w, i, n) : r;
	}
	return r;
}

static int work(struct worker *w)
{
	uint64_t now_ns = node_now_ns(), stuck_ns = now_ns + STUCK_NS, count = 0;
	int r = w->load.rate > 0 ? 0 : begin_idle(w, now_ns);

	if (r == 0)
		r = flush_all(w);
	while (r == 0) {
		uint64_t due_ns = next_due(w, now_ns);

		if (w->busy_count == 0 && due_ns == UINT64_MAX)
			return 0;
		if (due_ns != UINT64_MAX && due_ns <= now_ns + PRECISE_NS)
			r = begin_due(w);
		else if (w->load.clients == 1)
			r = wait_one(w, due_ns == UINT64_MAX ? due_ns : due_ns - PRECISE_NS);
		else
			r = wait_many(w, due_ns == UINT64_MAX ? due_ns : due_ns - PRECISE_NS);
		now_ns = node_now_ns();
		if (w->tally->count != count)
			stuck_ns = now_ns + STUCK_NS;
		count = w->tally->count;
		if (r == 0 && now_ns > stuck_ns)
			r = fail(w, "nothing happens any more", -ETIMEDOUT);
	}
	return r;
}

/* Each request by a client of its own: connect, ask, hear. */
static int attach_again(struct worker *w)
{
	const struct client_how how = { .is_alone = true };
	struct request *rq = &w->requests[0];
	uint64_t now_ns = node_now_ns();
	int r = 0;

	while (r == 0 && now_ns < w->end_ns) {
		struct client *c;

		r = w->peer->ops->connect(w->peer, &how, &c);
		if (r < 0)
			return fail(w, "cannot connect", r);
		request_fill(w, rq);
		rq->begun_ns = now_ns;
		w->busy_count++;
		w->idle_count = 0;
		r = c->ops->begin(c, rq);
		for (int n = r; r >= 0 && !rq->is_done && n >= 0;)
			r = n = c->ops->turn(c, UINT64_MAX);
		r = r < 0 ? fail(w, "cannot attach", r) : take(w, rq, node_now_ns());
		c->ops->close(c);
		now_ns = node_now_ns();
	}
	return r;
}

/* Each request by a process of its own, which tells how long that took. */
static int start_again(struct worker *w)
{
	struct request *rq = &w->requests[0];
	uint64_t now_ns = node_now_ns();
	int r = 0;

	while (r == 0 && now_ns < w->end_ns && !bench_is_interrupted()) {
		struct first_times times;

		request_fill(w, rq);
		w->busy_count++;
		w->idle_count = 0;
		r = w->peer->ops->first(w->peer, rq->key, rq->len, &times);
		if (r < 0)
			return fail(w, "a fresh process", r);
		now_ns = node_now_ns();
		rq->result = (int64_t)rq->len;
		rq->begun_ns = now_ns - (w->load.by == LOAD_COLD ? times.open_ns : times.start_ns);
		r = take(w, rq, now_ns);
	}
	return r;
}

int worker_slice(struct worker *w)
{
	uint64_t begun_ns, ended_ns, cpu_ns;
	int r;

	memset(&w->tally->slice, 0, sizeof(w->tally->slice));
	begun_ns = node_now_ns();
	cpu_ns = thread_cpu_ns();
	w->idle_count = 0;
	w->busy_count = 0;
	w->begun_count = 0;
	w->due_ns = begun_ns;
	w->end_ns = begun_ns + w->slice_ns;
	for (unsigned i = w->load.clients * w->load.depth; i-- > 0;)
		w->idle[w->idle_count++] = &w->requests[i];
	if (w->load.by == LOAD_KEPT)
		r = work(w);
	else if (w->load.by == LOAD_OPENED)
		r = attach_again(w);
	else
		r = start_again(w);
	ended_ns = node_now_ns();
	w->tally->cpu_ns += thread_cpu_ns() - cpu_ns;
	if (w->load.rate > 0 && ended_ns < w->end_ns && !bench_is_interrupted())
		ended_ns = w->end_ns;
	w->tally->elapsed_ns += ended_ns - begun_ns;
	histogram_merge(&w->tally->latency, &w->tally->slice);
	return r;
}

int worker_each(struct worker *w, enum bench_op op, uint64_t from, uint64_t to)
{
	struct client *c = w->clients[0];
	struct request requests[EACH_DEPTH] = { 0 };
	unsigned depth = w->load.clients * w->load.depth == 1 ? 1 : EACH_DEPTH;
	uint64_t next = from, ended = from;
	int r = 0;

	/* A client that is alone takes one at a time; large ones too, for their memory. */
	if (w->load.size > 65536)
		depth = 1;
	while (r >= 0 && ended < to) {
		unsigned n = 0;

		for (; n < depth && next < to && r >= 0; n++) {
			requests[n] = (struct request){ .op = op,
							.buf = w->buffers,
							.len = w->load.size };
			if (op == BENCH_PUT && w->load.op == BENCH_LIST)
				requests[n].len = 1;
			key_make(&w->load, next++, requests[n].key);
			r = c->ops->begin(c, &requests[n]);
		}
		if (r >= 0)
			r = c->ops->flush(c);
		for (unsigned i = 0; i < n && r >= 0; i++) {
			while (r >= 0 && !requests[i].is_done)
				r = c->ops->turn(c, UINT64_MAX);
			if (r >= 0 && requests[i].result < 0 && requests[i].result != -ENOENT)
				r = (int)requests[i].result;
			ended++;
		}
	}
	return r < 0 ? fail(w, bench_op_name(op), r) : 0;
}

/* Opening and closing. */

static int watch(struct worker *w, unsigned i)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = i };
	int fd = w->clients[i]->ops->fd(w->clients[i]);

	return fd >= 0 && epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int allocate(struct worker *w)
{
	const struct load *load = &w->load;
	size_t count = (size_t)load->clients * load->depth;
	/* What is put may be the same bytes; what is got needs room of its own. */
	bool is_shared = load->op != BENCH_GET || load->other_op != BENCH_GET;
	size_t room = load->size ? load->size : 1;

	if (load->op == BENCH_LIST)
		room = 1;
	if (!is_shared && room > SIZE_TOTAL_MAX / count)
		return fail(w, "too many bytes would be in flight at once", -EFBIG);
	w->clients = calloc(load->clients, sizeof(*w->clients));
	w->requests = calloc(count, sizeof(*w->requests));
	w->idle = calloc(count, sizeof(*w->idle));
	w->buffers = malloc(is_shared ? room : room * count);
	if (!w->clients || !w->requests || !w->idle || !w->buffers)
		return fail(w, "clients", -ENOMEM);
	/* Touched, so that no first touch is measured; and no page is the kernel's zero page. */
	memset(w->buffers, 0x5a, is_shared ? room : room * count);
	for (size_t i = 0; i < count; i++)
		w->requests[i].buf = w->buffers + (is_shared ? 0 : i * room);
	return 0;
}

int worker_open(struct worker *w)
{
	struct client_how how = { .is_alone = w->load.clients == 1 && w->load.depth == 1 };
	int r;

	assert(w->load.depth <= BENCH_DEPTH_MAX);
	w->epoll_fd = -1;
	r = allocate(w);
	if (r == 0 && w->load.clients > 1) {
		w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		r = w->epoll_fd < 0 ? fail(w, "epoll", -errno) : 0;
	}
	for (unsigned i = 0; i < w->load.clients && r == 0; i++) {
		r = w->peer->ops->connect(w->peer, &how, &w->clients[i]);
		if (r == 0 && w->load.clients > 1)
			r = watch(w, i);
		if (r < 0)
			fail(w, "cannot connect", r);
	}
	return r;
}

void worker_close(struct worker *w)
{
	for (unsigned i = 0; w->clients && i < w->load.clients && w->clients[i]; i++)
		w->clients[i]->ops->close(w->clients[i]);
	if (w->epoll_fd >= 0)
		close(w->epoll_fd);
	free(w->clients);
	free(w->requests);
	free(w->idle);
	free(w->buffers);
	w->clients = NULL;
}
