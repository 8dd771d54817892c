/* SPDX-License-Identifier: Apache-2.0 */
#include "crew.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* How long a run lasts, as long as none of the list has ended. */
#define GUESS_NS (100 * NS_PER_MS)

/* Between a refusal and the next try, doubled each time. A minute is what platforms count in. */
#define REFUSED_MIN_NS (100 * NS_PER_MS)
#define REFUSED_MAX_NS (10 * NS_PER_S)

void tasks_fini(struct task *tasks, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		json_decref(tasks[i].request);
		json_decref(tasks[i].reply);
		free(tasks[i].line);
	}
	free(tasks);
}

static struct task *task_of(struct platform_run *run)
{
	return (struct task *)((char *)run - offsetof(struct task, run));
}

static double random_next(struct crew *c)
{
	uint64_t z = c->random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/*
 * Chooses who is killed, and when: a moment of the run, if it takes as long as the others
 * did. Who ended before leaves a debt, so that the share comes true. The last attempt is
 * spared, because what is tested is that the job goes on.
 */
static void kill_plan(struct crew *c, struct task *t)
{
	uint64_t typical_ns = c->ended_count ? c->ended_ns / c->ended_count : GUESS_NS;

	t->kill_ns = UINT64_MAX;
	if (c->kill_percent == 0 || t->attempts == TASK_ATTEMPTS)
		return;
	c->kill_debt += c->kill_percent / 100.0;
	if (random_next(c) >= c->kill_debt)
		return;
	c->kill_debt -= 1;
	t->kill_ns = clock_ns() + (uint64_t)(random_next(c) * (double)typical_ns);
}

/* Returns when the next one is to be killed. */
static uint64_t kill_due(struct crew *c)
{
	uint64_t next_ns = UINT64_MAX, now_ns = clock_ns();

	for (size_t i = 0; c->kill_percent && i < c->count; i++) {
		struct task *t = &c->tasks[i];

		if (t->kill_ns <= now_ns && t->line) {
			c->platform->ops->kill(c->platform, &t->run);
			t->kill_ns = 0;
		} else if (t->line && t->kill_ns < next_ns && t->kill_ns > 0) {
			next_ns = t->kill_ns;
		}
	}
	return next_ns;
}

static char *line_make(struct task *t)
{
	json_t *root = json_object();
	char *text, *line = NULL;

	json_object_set_new(t->request, "attempt", json_integer(t->attempts));
	json_object_set(root, "value", t->request);
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	return line;
}

static int task_start(struct crew *c, struct task *t)
{
	int r;

	t->has_started = true;
	t->attempts++;
	t->line = line_make(t);
	if (!t->line)
		return problem_set(c->problem, -ENOMEM, "no memory for a request");
	t->run = (struct platform_run){ .input = t->line, .due_ns = clock_ns() + c->timeout_ns };
	kill_plan(c, t);
	r = c->platform->ops->start(c->platform, &t->run);
	if (r < 0)
		return problem_set(c->problem, r, "cannot start a function");
	c->running_count++;
	return 0;
}

/* Returns in `ret_again_ns` when a refused one is to be tried again. */
static int tasks_start(struct crew *c, uint64_t *ret_again_ns)
{
	size_t places = c->places ? c->places : c->parallel, ended = 0;

	*ret_again_ns = UINT64_MAX;
	for (size_t i = 0; i < c->count && c->running_count < places; i++) {
		struct task *t = &c->tasks[i];
		int r;

		if (t->reply && ended == i)
			ended++;
		if (t->has_started)
			continue;
		if (c->places && t->waits_for > ended)
			return 0;
		if (t->again_ns > clock_ns()) {
			*ret_again_ns = t->again_ns;
			return 0; /* those behind it may be waiting for it */
		}
		r = task_start(c, t);
		if (r < 0)
			return r;
	}
	return 0;
}

static int task_refused(struct crew *c, struct task *t)
{
	uint64_t now_ns = clock_ns(), pause_ns = REFUSED_MIN_NS << t->refusals;

	if (t->refusals == 0)
		t->refused_ns = now_ns;
	if (pause_ns < REFUSED_MAX_NS)
		t->refusals++;
	else
		pause_ns = REFUSED_MAX_NS;
	if (t->refusals && now_ns - t->refused_ns >= c->timeout_ns)
		return problem_set(c->problem, -ETIMEDOUT,
				   "the platform has refused to run it for %llu s, beside %zu "
				   "others: %s",
				   (unsigned long long)((now_ns - t->refused_ns) / NS_PER_S),
				   c->running_count, t->run.log);
	t->again_ns = now_ns + pause_ns;
	if (t->again_ns < t->run.again_ns)
		t->again_ns = t->run.again_ns;
	if (t->again_ns > t->refused_ns + c->timeout_ns)
		t->again_ns = t->refused_ns + c->timeout_ns;
	t->refused_count++;
	t->attempts--;
	t->has_started = false;
	c->places = c->running_count ? c->running_count : 1;
	return 0;
}

/* What a run that failed has to say, as one line: the error of its reply, or how it died. */
static const char *failure_of(const struct task *t, const json_t *reply)
{
	const char *error = json_string_value(json_object_get(reply, "error"));

	if (error)
		return error;
	if (t->run.r == -ETIMEDOUT)
		return "it took too long; --timeout sets how long it may run";
	if (t->run.r < 0)
		return t->run.r == -ECHILD ? "it died" : strerror(-t->run.r);
	return json_is_object(reply) ? "its reply is another one's" : "its reply is no JSON object";
}

/* Some function's, and of what this task asked for; a platform may answer anything. */
static bool is_reply_to(const struct task *t, const json_t *reply)
{
	return json_is_object(reply) && !json_object_get(reply, "error") &&
	       json_equal(json_object_get(reply, "op"), json_object_get(t->request, "op")) &&
	       json_equal(json_object_get(reply, "index"), json_object_get(t->request, "index"));
}

/* It would come again: the function says so, or the platform. */
static bool failure_is_final(const struct task *t, const json_t *reply)
{
	int r = t->run.r;

	return json_is_true(json_object_get(reply, "is_final")) ||
	       (r < 0 && r != -ETIMEDOUT && r != -ECHILD);
}

static int task_failed(struct crew *c, struct task *t, const json_t *reply)
{
	bool is_final = failure_is_final(t, reply);
	const char *op = json_string_value(json_object_get(t->request, "op"));
	json_int_t index = json_integer_value(json_object_get(t->request, "index"));
	int r = t->run.r == -ETIMEDOUT ? -ETIMEDOUT : -EREMOTEIO;

	t->refusals = 0;
	t->again_ns = t->run.again_ns;
	t->has_started = false;
	if (!is_final && t->attempts < TASK_ATTEMPTS)
		return 0;
	return problem_set(c->problem, r, "%s %lld: %s%s%s%s", op, (long long)index,
			   failure_of(t, reply), is_final ? "" : ", four times over",
			   t->run.log[0] ? "; its log ends: " : "", t->run.log);
}

/* It leaves a place; who was refused one need not wait for longer than the platform wants. */
static void task_succeeded(struct crew *c, struct task *t)
{
	t->start_ns = t->run.start_ns;
	t->init_ns = t->run.init_ns;
	t->end_ns = t->run.end_ns;
	c->ended_count++;
	c->ended_ns += t->end_ns - t->start_ns;
	if (c->places && c->places < c->parallel)
		c->places++;
	for (size_t i = 0; c->places && i < c->count; i++) {
		struct task *other = &c->tasks[i];

		if (other->refusals && !other->has_started)
			other->again_ns = other->run.again_ns;
		other->refusals = 0;
	}
}

/* 1: it has succeeded; 0: it is to run again. */
static int task_end(struct crew *c, struct task *t)
{
	json_t *reply = t->run.output ? json_loads(t->run.output, 0, NULL) : NULL;
	bool is_good = is_reply_to(t, reply);
	int r;

	c->running_count--;
	free(t->line);
	free(t->run.output);
	t->line = t->run.output = NULL;
	if (t->kill_ns == 0 && !is_good)
		t->killed_count++;
	else if (t->kill_ns != UINT64_MAX)
		c->kill_debt += 1; /* it was faster than its killer */
	if (t->run.r == -EAGAIN)
		return task_refused(c, t);
	if (!is_good) {
		r = task_failed(c, t, reply);
		json_decref(reply);
		return r;
	}
	t->reply = reply;
	task_succeeded(c, t);
	return 1;
}

int crew_next(struct crew *c, uint64_t due_ns, struct task **ret)
{
	if (c->ended_count == c->count)
		return -ENOENT;
	for (;;) {
		struct platform_run *run;
		uint64_t kill_ns, next_ns;
		int r = tasks_start(c, &next_ns);

		if (r < 0)
			return r;
		kill_ns = kill_due(c);
		if (kill_ns < next_ns)
			next_ns = kill_ns;
		r = c->platform->ops->wait(c->platform, next_ns < due_ns ? next_ns : due_ns, &run);
		if (r < 0)
			return r;
		if (r > 0)
			r = task_end(c, task_of(run));
		else if (clock_ns() >= due_ns || next_ns == UINT64_MAX)
			return 0;
		if (r < 0)
			return r;
		if (r > 0) {
			*ret = task_of(run);
			return 1;
		}
	}
}

void crew_fini(struct crew *c)
{
	if (c->running_count > 0)
		c->platform->ops->abandon(c->platform);
	c->running_count = 0;
}
