/* SPDX-License-Identifier: Apache-2.0 */
#include "attach/handle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/due.h"
#include "base/node.h"

#define ENDPOINT_DEFAULT "tcp://127.0.0.1:4870"
#define PAUSE_NS_MIN     1000000ull
#define PAUSE_NS_MAX     200000000ull
/* Who finds no room comes again less often: there may be many like him. */
#define PAUSE_NS_FULL 1000000000ull

const char *wadi_version(void)
{
	return WADI_VERSION;
}

const char *wadi_status_name(int r)
{
	return status_name((uint16_t)status_of(r));
}

const char *wadi_strerror(const struct wadi *w)
{
	return !w ? "no memory for a handle" : w->error[0] ? w->error : "no error";
}

const char *wadi_job_name(const struct wadi *w)
{
	return w->job_name;
}

void wadi_free(void *p)
{
	node_free(p);
}

int64_t handle_fail(struct wadi *w, const char *verb, const char *what, int64_t r, const char *why)
{
	enum status status;

	if (r >= 0)
		return r;
	status = status_of((int)r);
	snprintf(w->error, sizeof(w->error), "%s%s%s: %s: %s%s%s%s", verb, what ? " " : "",
		 what ? what : "", status_name((uint16_t)status), status_text((uint16_t)status),
		 why && why[0] ? " (" : "", why ? why : "", why && why[0] ? ")" : "");
	return r;
}

int handle_check(struct wadi *w)
{
	if (forked_since(&w->forked))
		return (int)handle_fail(w, "wadi", NULL, -EOWNERDEAD,
					"open another in this process");
	if (w->is_poisoned)
		return (int)handle_fail(w, "wadi", NULL, -ENOTRECOVERABLE,
					"an earlier error; open another");
	loop_adopt(w->loop);
	return 0;
}

/* Operations. */

static void op_main(struct fiber *self)
{
	struct wadi_op *op = container_of(self, struct wadi_op, fiber);

	op->result = op->run(op);
}

static void op_ended(struct fiber *self)
{
	struct wadi_op *op = container_of(self, struct wadi_op, fiber);

	op->has_ended = true;
	op->w->op_count--;
	op->w->ended_count++;
}

void op_init(struct wadi_op *op, struct wadi *w, const char *verb, const char *what,
	     uint32_t timeout_ms, int64_t (*run)(struct wadi_op *op))
{
	*op = (struct wadi_op){ .w = w,
				.verb = verb,
				.what = what,
				.run = run,
				.timeout_ms = timeout_ms ? timeout_ms : w->timeout_ms };
}

void op_progress(struct wadi_op *op)
{
	op->due_ns = op->w->loop->now_ns + op->timeout_ms * 1000000ull;
}

int op_start(struct wadi_op *op)
{
	const char *why;
	int r;

	op->w->loop->now_ns = node_now_ns(); /* the loop may have slept since its last turn */
	op_progress(op);
	r = op->w->op_count < FIBERS_PER_LOOP
		    ? fiber_start(&op->w->loop->fibers, &op->fiber, op_main, op_ended)
		    : -EAGAIN;
	if (r < 0) {
		r = fiber_refused(r, TOO_MANY_OPS, &why);
		snprintf(op->why, sizeof(op->why), "%s", why);
		return r;
	}
	op->w->op_count++;
	return 0;
}

/* The loop turns no more: an operation ends at its next wait, for its memory is the caller's. */
static int64_t op_give_up(struct wadi_op *op, int r)
{
	op->w->is_poisoned = true;
	fiber_cancel(&op->fiber);
	while (!op->has_ended)
		(void)fibers_run(&op->w->loop->fibers, op->w->loop->now_ns);
	return handle_fail(op->w, op->verb, op->what, -ENOTRECOVERABLE, strerror(-r));
}

/* A turn of a call that waits. -ECANCELED: whoever called wants it to end. */
static int turn(struct wadi *w, uint64_t due_ns)
{
	unsigned before = w->loop->signal_count;
	uint64_t look_ns;
	int r;

	if (!w->is_interrupted)
		return loop_turn(w->loop, due_ns);
	look_ns = node_now_ns() + INTERRUPT_LOOK_MS * 1000000ull;
	r = loop_turn(w->loop, look_ns < due_ns ? look_ns : due_ns);
	if (r < 0 || (w->loop->signal_count == before && w->loop->now_ns < look_ns))
		return r;
	return w->is_interrupted(w->interrupt_arg) ? -ECANCELED : 0;
}

int64_t op_finish(struct wadi_op *op)
{
	while (!op->has_ended) {
		int r = turn(op->w, UINT64_MAX);

		if (r == -ECANCELED && !op->has_ended)
			fiber_cancel(&op->fiber);
		else if (r < 0 && r != -ECANCELED)
			return op_give_up(op, r);
	}
	return handle_fail(op->w, op->verb, op->what, op->result, op->why);
}

int op_no_memory(struct wadi_op *op)
{
	snprintf(op->why, sizeof(op->why), "in this process");
	return -ENOMEM;
}

int64_t op_run(struct wadi_op *op)
{
	int r = handle_check(op->w);

	if (r < 0)
		return r;
	r = op_start(op);
	if (r < 0)
		return handle_fail(op->w, op->verb, op->what, r, op->why);
	return op_finish(op);
}

/* What this process may have no more of is no fault of the store. */
static int local_limit(int r)
{
	return r == -EMFILE || r == -ENFILE ? -EUSERS : r;
}

/* The connection. */

static int sleep_ns(struct wadi_op *op, uint64_t ns)
{
	int r = waitq_wait(&op->w->connected, op->w->loop->now_ns + ns);

	return r == -ETIMEDOUT ? 0 : r;
}

static int say_hello(struct wadi_op *op, struct conn *c)
{
	struct wadi *w = op->w;
	struct call call = { 0 };
	struct hello_rep rep;
	struct rcur body;
	struct wcur out = call_body(w->net, &call);
	int r;

	hello_req_put(&out,
		      &(struct hello_req){ .version = PROTOCOL_VERSION,
					   .role = ROLE_JOB,
					   .secret = { (uint8_t *)w->token, strlen(w->token) } });
	call_send(c, &call, MSG_HELLO, 0, &out, NULL, op->due_ns);
	r = call_wait(&call);
	body = call_reply(&call);
	if (r == 0)
		r = hello_rep_get(&body, &rep);
	if (r == 0 && rep.job_name.len > JOB_NAME_BYTES_MAX)
		r = -EBADMSG;
	if (r == 0) {
		if (w->job != rep.job)
			w->changes = 0;
		w->job = rep.job;
		handle_heard(w, rep.changes);
		memcpy(w->job_name, rep.job_name.ptr, rep.job_name.len);
		w->job_name[rep.job_name.len] = '\0';
	} else {
		call_detail(&call, op->why, sizeof(op->why));
		if (!op->why[0] && (r == -EHOSTUNREACH || r == -ECONNRESET) &&
		    !socket_is_closed(&w->address, op->why, sizeof(op->why)))
			snprintf(op->why, sizeof(op->why), "%s: %s", w->endpoint,
				 w->why_closed ? w->why_closed : "no answer");
	}
	call_end(&call);
	return r;
}

/* The proxy asks nothing of us; the table is for the end of the connection. */
static void conn_closed(struct conn *c)
{
	struct wadi *w = c->owner;

	w->why_closed = conn_why_closed(c);
	if (w->conn == c)
		w->conn = NULL;
	if (w->opening == c)
		w->opening = NULL;
	handle_ring_closed(c);
}

static const struct service CLIENT = { .closed = conn_closed, .late = reply_late };

/* -EAGAIN: there is no room at the other end at this moment. */
static int connect_once(struct wadi_op *op)
{
	struct wadi *w = op->w;
	struct stream *s;
	struct conn *c;
	int r = w->direct ? direct_connect(w->direct, &s)
			  : stream_connect(w->loop, &w->address, &s);

	if (r < 0) {
		snprintf(op->why, sizeof(op->why), "%s: %s", w->endpoint, strerror(-r));
		r = local_limit(r);
		return r == -EUSERS || r == -ENOMEM ? r : -EHOSTUNREACH;
	}
	c = conn_open(w->net, s, &CLIENT, w);
	if (!c)
		return -ENOMEM;
	w->opening = c;
	w->why_closed = NULL;
	r = say_hello(op, c);
	c = TAKE_PTR(w->opening); /* NULL: it was closed meanwhile */
	if (r == -ECONNRESET || (r == 0 && !c))
		r = -EHOSTUNREACH;
	if (r < 0) {
		conn_close(c);
		return r == -EUSERS ? -EAGAIN : r;
	}
	w->conn = c;
	w->connection++;
	w->asked_count = 0;
	w->near.get_count = 0;
	return 0;
}

/* Full means wait: the other end has as many as it may, and somebody may leave in time. */
static int connect_in_time(struct wadi_op *op)
{
	const struct loop *l = op->w->loop;
	uint64_t pause_ns = PAUSE_NS_MIN, early_ns = due_early(l->now_ns, op->due_ns);
	int r = connect_once(op), sleep;

	while (r == -EAGAIN && l->now_ns + pause_ns < early_ns) {
		sleep = sleep_ns(op, pause_ns);
		if (sleep < 0)
			return sleep;
		pause_ns = 2 * pause_ns < PAUSE_NS_FULL ? 2 * pause_ns : PAUSE_NS_FULL;
		op->why[0] = '\0';
		r = connect_once(op);
	}
	return r == -EAGAIN ? -EUSERS : r;
}

int handle_conn(struct wadi_op *op, struct conn **ret)
{
	struct wadi *w = op->w;
	int r = 0;

	while (w->is_saying_hello && r == 0)
		r = waitq_wait(&w->connected, op->due_ns);
	if (r == 0 && !w->conn) {
		w->is_saying_hello = true;
		r = connect_in_time(op);
		w->is_saying_hello = false;
		while (waitq_wake(&w->connected))
			;
	}
	*ret = w->conn;
	return r == 0 && !w->conn ? -EHOSTUNREACH : r;
}

struct wcur question_begin(struct wadi_op *op, struct question *q, uint16_t msg)
{
	*q = (struct question){
		.op = op, .msg = msg, .kept = body_take(op->w->net), .call = { .net = op->w->net }
	};
	return q->kept ? wcur_make(q->kept->u.bytes, BODY_BYTES) : (struct wcur){ .bad = true };
}

/* A connection that has closed is forgotten; the next question opens another. */
static void forget_closed(struct wadi *w)
{
	if (w->conn && w->conn->is_closed)
		w->conn = NULL;
}

int question_ask_once(struct question *q, const struct wcur *body, const struct payload *payload)
{
	struct wadi_op *op = q->op;
	ptrdiff_t len = wcur_finish(body);
	struct conn *c;
	struct wcur w;
	int r = len < 0 ? -ENOMEM : handle_conn(op, &c);

	if (r == 0)
		handle_want_ring(op->w);
	if (r < 0)
		return r;
	q->call.body = body_give(op->w->net, q->call.body);
	if (q->sent_ns)
		request_grow_old(q->msg, q->kept->u.bytes, (size_t)len,
				 (op->w->loop->now_ns - q->sent_ns) / 1000000 + 1);
	q->sent_ns = op->w->loop->now_ns;
	w = call_body(op->w->net, &q->call);
	put_bytes(&w, q->kept->u.bytes, (size_t)len);
	call_send(c, &q->call, q->msg, slot_of_id(op->w->job), &w, payload, op->due_ns);
	r = call_wait(&q->call);
	if (r == -ECONNRESET || r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -ECANCELED ||
	    r == -ENOMEM || r == -ENOBUFS)
		op->is_unsure = true;
	op->is_stale = r == -ESTALE;
	if (r < 0)
		call_detail(&q->call, op->why, sizeof(op->why));
	if (r == -ECONNRESET)
		snprintf(op->why, sizeof(op->why), "%s: the connection was lost", op->w->endpoint);
	forget_closed(op->w);
	return r;
}

int question_ask(struct question *q, const struct wcur *body, const struct payload *payload)
{
	uint64_t pause_ns = PAUSE_NS_MIN;
	struct wadi_op *op = q->op;

	for (;;) {
		int r = question_ask_once(q, body, payload), sleep;

		if (r != -ECONNRESET && !(r == -EHOSTUNREACH && op->w->connection > 0))
			return r;
		if (op->w->loop->now_ns + pause_ns >= op->due_ns)
			return -EHOSTUNREACH;
		sleep = sleep_ns(op, pause_ns);
		if (sleep < 0)
			return sleep;
		pause_ns = 2 * pause_ns < PAUSE_NS_MAX ? 2 * pause_ns : PAUSE_NS_MAX;
	}
}

void question_end(struct question *q)
{
	q->kept = body_give(q->op->w->net, q->kept);
	call_end(&q->call);
}

/* Attempts. */

/* What a job is said to have changed is old after so long. */
#define HEARD_MS 1000

void handle_heard(struct wadi *w, uint64_t changes)
{
	if (changes > w->changes)
		w->changes = changes;
	w->heard_ns = w->loop->now_ns;
}

uint64_t op_since(struct wadi_op *op)
{
	struct conn *c;

	/* Without one we know nothing of the job; what is wrong with it, the question will say. */
	if (!op->has_since)
		(void)handle_conn(op, &c);
	if (!op->has_since)
		op->since = op->w->changes;
	op->has_since = true;
	return op->since;
}

static int ask_changes(struct wadi_op *op)
{
	struct job_show_rep rep;
	struct question q;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_JOB_SHOW);
	int r;

	job_show_req_put(&w, &(struct job_show_req){ .name = { (uint8_t *)op->w->job_name,
							       strlen(op->w->job_name) } });
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = job_show_rep_get(&body, &rep);
	if (r == 0 && rep.job == op->w->job)
		handle_heard(op->w, rep.changes);
	question_end(&q);
	return r;
}

uint64_t op_since_lately(struct wadi_op *op)
{
	if (!op->has_since && op->w->loop->now_ns - op->w->heard_ns > HEARD_MS * 1000000ull)
		(void)ask_changes(op);
	return op_since(op);
}

bool op_renew(struct wadi_op *op, int result)
{
	/* All that was sent was refused, so none of it happens any more. */
	if (result != -ESTALE || !op->is_stale || op->is_unsure || op->renewals == RENEWALS_MAX ||
	    ask_changes(op) < 0)
		return false;
	op->renewals++;
	op->since = op->w->changes;
	return true;
}

/* Opening and closing. */

static const char *from_environment(const char *given, const char *name, const char *other)
{
	const char *s = given;

	if (!s)
		s = getenv(name);
	if (!s || !*s)
		s = given ? given : getenv(other);
	return s && *s ? s : NULL;
}

static uint32_t timeout_from_environment(void)
{
	const char *s = getenv("WADI_TIMEOUT");
	char *end;
	double v = s ? strtod(s, &end) : 0;

	if (!s || end == s || v <= 0)
		return TIMEOUT_MS_DEFAULT;
	if (strcmp(end, "ms") != 0)
		v *= strcmp(end, "m") == 0 ? 60000 : 1000;
	return v < TIMEOUT_MS_MAX ? (uint32_t)v : TIMEOUT_MS_MAX;
}

static int64_t open_run(struct wadi_op *op)
{
	struct conn *c;

	return handle_conn(op, &c);
}

struct wadi_attempt attempt_next(struct wadi *w)
{
	w->attempt.lo++;
	return w->attempt;
}

int handle_init(struct wadi *w, struct loop *l)
{
	w->loop = l;
	/* In the simulator, whose kills leave no page behind, nobody has begun. */
	if (!w->forked.pid)
		w->forked.pid = getpid();
	waitq_init(&w->connected, &l->fibers);
	node_random(&w->attempt, sizeof(w->attempt));
	w->attempt.hi |= 1; /* all zeros would be none */
	near_init(&w->near, w);
	if (w->direct)
		w->net = direct_net(w->direct);
	return w->direct ? 0 : net_open(l, &w->net);
}

static int configure(struct wadi *w, const struct wadi_options *o)
{
	const char *endpoint = from_environment(o->endpoint, "WADI_ENDPOINT", "__OW_WADI_ENDPOINT");
	const char *token = from_environment(o->token, "WADI_TOKEN", "__OW_WADI_TOKEN");
	int r;

	w->timeout_ms = o->timeout_ms ? o->timeout_ms : timeout_from_environment();
	w->is_interrupted = o->is_interrupted;
	w->interrupt_arg = o->interrupt_arg;
	snprintf(w->endpoint, sizeof(w->endpoint), "%s", endpoint ? endpoint : ENDPOINT_DEFAULT);
	if (token && strlen(token) > TOKEN_BYTES_MAX)
		return (int)handle_fail(w, "open", w->endpoint, -EKEYREJECTED,
					"the token is too long");
	snprintf(w->token, sizeof(w->token), "%s", token ? token : "");
	if (endpoint && strncmp(endpoint, "direct://", 9) == 0)
		r = direct_open(endpoint, w->token, &w->direct);
	else
		r = address_resolve(w->endpoint, &w->address);
	if (r == -EINVAL)
		return (int)handle_fail(w, "open", w->endpoint, r,
					"an endpoint is tcp://host:port, unix:///path, or "
					"direct://host:port of metadata");
	if (r == -EHOSTUNREACH)
		return (int)handle_fail(w, "open", w->endpoint, r, "the host's name is not known");
	return r < 0 ? (int)handle_fail(w, "open", w->endpoint, local_limit(r), strerror(-r)) : 0;
}

int wadi_open(const struct wadi_options *options, struct wadi **ret)
{
	struct wadi_options o = WADI_OPTIONS;
	struct wadi *w = node_alloc(sizeof(*w));
	struct wadi_op op;
	int r;

	*ret = w;
	if (!w)
		return -ENOMEM;
	if (options)
		memcpy(&o, options, options->size < sizeof(o) ? options->size : sizeof(o));
	forked_begin(&w->forked);
	r = configure(w, &o);
	if (r < 0)
		return r;
	if (w->direct)
		w->loop = direct_loop(w->direct);
	else
		r = loop_open_epoll(&w->loop);
	if (r == 0) {
		w->loop->may_stay_awake = true;
		r = handle_init(w, w->loop);
	}
	if (r < 0)
		return (int)handle_fail(w, "open", w->endpoint, local_limit(r), strerror(-r));
	op_init(&op, w, "open", w->endpoint, 0, open_run);
	return (int)op_run(&op);
}

void wadi_close(struct wadi *w)
{
	bool is_forked;

	if (!w)
		return;
	is_forked = forked_since(&w->forked);
	/* After a fork the descriptors are the parent's as well: what is told to the loop is told
	 * to it. */
	if (!is_forked && w->loop) {
		loop_adopt(w->loop);
		conn_close(w->conn);
		conn_close(w->opening);
	}
	/* Of a poisoned handle the rest is left to the end of the process: its loop is broken. */
	if (!is_forked && w->loop && !w->is_poisoned) {
		(void)loop_turn(w->loop, 0);
		near_fini(&w->near);
		if (w->direct) {
			direct_close(w->direct);
		} else {
			net_close(w->net);
			loop_close(w->loop);
		}
	}
	forked_end(&w->forked);
	node_free(w);
}

int wadi_fd(struct wadi *w)
{
	int r = handle_check(w);

	return r < 0 ? r : loop_fd(w->loop);
}

int wadi_turn(struct wadi *w, uint32_t timeout_ms)
{
	unsigned before = w->ended_count;
	uint64_t due_ns = node_now_ns() + timeout_ms * 1000000ull;
	int r = handle_check(w);

	/* What a turn has made ready no descriptor tells of, so it is run before we leave. */
	while (r == 0) {
		r = turn(w, due_ns);
		if (loop_due(w->loop) > w->loop->now_ns &&
		    (w->ended_count != before || w->loop->now_ns >= due_ns))
			break;
	}
	if (r == -ECANCELED)
		return (int)handle_fail(w, "turn", NULL, r, "");
	if (r < 0 && !w->is_poisoned && !forked_since(&w->forked)) {
		w->is_poisoned = true;
		r = (int)handle_fail(w, "turn", NULL, -ENOTRECOVERABLE, strerror(-r));
	}
	return r < 0 ? r : (int)(w->ended_count - before);
}

/* Paths. */

int path_of(struct wadi *w, const char *path, struct slice *ret, const char **ret_why)
{
	size_t job = strlen(w->job_name);

	if (!path) {
		*ret_why = "no path was given";
		return -EINVAL;
	}
	if (path[0] == '/') {
		if (strncmp(path + 1, w->job_name, job) != 0 ||
		    (path[1 + job] != '/' && path[1 + job] != '\0')) {
			snprintf(w->why, sizeof(w->why),
				 "the token is of job %s, and the path of another", w->job_name);
			*ret_why = w->why;
			return -EACCES;
		}
		path += 1 + job;
		path += *path == '/';
	}
	*ret = (struct slice){ (const uint8_t *)path, strlen(path) };
	if (ret->len > PATH_BYTES_MAX) {
		*ret_why = "a path has at most 1024 bytes behind its job";
		return -EMSGSIZE;
	}
	return 0;
}
