/* SPDX-License-Identifier: Apache-2.0 */
#include "attach/handle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/container.h"
#include "base/node.h"
#include "base/quantity.h"

#define ENDPOINT_DEFAULT "tcp://127.0.0.1:4870"

/* Of what a sentence is about: a path with its job in front. */
#define WHAT_MAX (PATH_BYTES_MAX + JOB_NAME_BYTES_MAX + 2)

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
	/* What is too long is cut, not what is wrong with it. */
	snprintf(w->error, sizeof(w->error), "%s%s%.*s: %s: %s%s%s%s", verb, what ? " " : "",
		 WHAT_MAX, what ? what : "", status_name((uint16_t)status),
		 status_text((uint16_t)status), why && why[0] ? " (" : "", why ? why : "",
		 why && why[0] ? ")" : "");
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
	if (op->result == -ESTALE && op->is_lost)
		op->result = handle_lost(op);
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
	list_init(&op->link);
	if (op->free)
		list_insert(&op->w->started, &op->link);
	return 0;
}

/* Without a turn: it ends at its next wait. */
static void op_stop(struct wadi_op *op)
{
	fiber_cancel(&op->fiber);
	while (!op->has_ended)
		(void)fibers_run(&op->w->loop->fibers, op->w->loop->now_ns);
}

/* The loop turns no more, and the operation's memory is the caller's. */
static int64_t op_give_up(struct wadi_op *op, int r)
{
	op->w->is_poisoned = true;
	op_stop(op);
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

void ops_drop(struct wadi *w)
{
	while (!list_is_empty(&w->started)) {
		struct wadi_op *op = container_of(w->started.next, struct wadi_op, link);

		op_stop(op);
		list_remove(&op->link);
		op->result = -ECANCELED; /* nobody takes what it has brought */
		op->free(op);
	}
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

/* As the command line reads it. */
static int timeout_from_environment(uint32_t *ret_ms)
{
	const char *s = getenv("WADI_TIMEOUT");
	uint64_t ms = TIMEOUT_MS_DEFAULT;
	int r = s && *s ? duration_parse(s, &ms) : 0;

	if (r == -ERANGE)
		ms = TIMEOUT_MS_MAX;
	else if (r < 0 || ms == 0)
		return -EINVAL;
	*ret_ms = ms < TIMEOUT_MS_MAX ? (uint32_t)ms : TIMEOUT_MS_MAX;
	return 0;
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
	list_init(&w->started);
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
	int r = 0;

	w->timeout_ms = o->timeout_ms;
	w->is_interrupted = o->is_interrupted;
	w->interrupt_arg = o->interrupt_arg;
	/* For messages, cut if it is a long name. */
	snprintf(w->endpoint, sizeof(w->endpoint), "%s", endpoint ? endpoint : ENDPOINT_DEFAULT);
	if (!w->timeout_ms)
		r = timeout_from_environment(&w->timeout_ms);
	if (r < 0)
		return (int)handle_fail(w, "open", w->endpoint, r,
					"WADI_TIMEOUT is no duration, as 500ms, 30s or 10m");
	if (token && strlen(token) > TOKEN_BYTES_MAX)
		return (int)handle_fail(w, "open", w->endpoint, -EKEYREJECTED,
					"the token is too long");
	snprintf(w->token, sizeof(w->token), "%s", token ? token : "");
	if (endpoint && strncmp(endpoint, "direct://", 9) == 0)
		r = direct_open(endpoint, w->token, &w->direct);
	else
		r = address_resolve(endpoint ? endpoint : ENDPOINT_DEFAULT, &w->address);
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

void handle_free(struct wadi *w)
{
	if (w)
		spares_fini(&w->spare_ops, OP_BYTES);
	node_free(w);
}

/* What was still asked for ends with its connection. One turn ends so many, and there may be more.
 */
static void turn_out(struct wadi *w)
{
	int r;

	do
		r = loop_turn(w->loop, 0);
	while (r == 0 && !w->direct && loop_due(w->loop) <= w->loop->now_ns);
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
		if (!w->is_poisoned)
			ops_drop(w);
		conn_close(w->conn);
		conn_close(w->opening);
	}
	/* Of a poisoned handle the rest is left to the end of the process: its loop is broken. */
	if (!is_forked && w->loop && !w->is_poisoned) {
		turn_out(w);
		near_fini(&w->near);
		if (w->direct) {
			direct_close(w->direct);
		} else {
			net_close(w->net);
			loop_close(w->loop);
		}
	}
	forked_end(&w->forked);
	handle_free(w);
}

int wadi_fd(struct wadi *w)
{
	int r = handle_check(w);

	return r < 0 ? r : loop_fd(w->loop);
}

int wadi_turn(struct wadi *w, uint32_t timeout_ms)
{
	unsigned before = w->ended_count;
	/* Without a wait any time that is over will do. */
	uint64_t due_ns = timeout_ms ? node_now_ns() + timeout_ms * 1000000ull : 0;
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
