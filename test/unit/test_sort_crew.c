/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: each task succeeds once, in order, whatever dies on the way, or the job fails
 * with a reason. Method: a platform without processes, whose runs end as a script says.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "crew.h"

#define PLACES 4

struct play {
	struct platform platform;
	/* For each start: 'g'ood, 'd'ies, 'e'rror, 'f'inal error, 'l'ate, 'r'efused, 'n'ever, of
	 * an'o'ther. */
	const char *script;
	size_t waiting;               /* the last so many tasks wait for the others */
	size_t started, most, beside; /* others that run when one is refused, in all */
	struct platform_run *running[PLACES];
	char endings[PLACES];
	char order[256];     /* index and attempt of each start */
	uint64_t pause_ns;   /* what is not a success is asked to wait for; 0: it is not */
	uint64_t timeout_ns; /* 0: longer than any machine is busy */
};

static int play_start(struct platform *p, struct platform_run *run)
{
	struct play *play = (struct play *)p;
	json_t *root = json_loads(run->input, 0, NULL), *value = json_object_get(root, "value");
	size_t running = 0, place = PLACES;

	for (size_t i = 0; i < PLACES; i++) {
		running += play->running[i] != NULL;
		if (!play->running[i])
			place = i;
	}
	assert_true(place < PLACES);
	play->running[place] = run;
	play->endings[place] = play->script[play->started] ? play->script[play->started++] : 'g';
	play->beside += play->endings[place] == 'r' ? running : 0;
	if (running + 1 > play->most)
		play->most = running + 1;
	sprintf(play->order + strlen(play->order), "%lld.%lld ",
		json_integer_value(json_object_get(value, "index")),
		json_integer_value(json_object_get(value, "attempt")));
	json_decref(root);
	run->start_ns = clock_ns();
	return 0;
}

static int ending_of(char c)
{
	switch (c) {
	case 'd':
		return -ECHILD;
	case 'l':
		return -ETIMEDOUT;
	case 'r':
		return -EAGAIN;
	case 'n':
		return -EACCES;
	default:
		return 0;
	}
}

/* Of those that have this ending, or any: the one that runs longest; places are filled from the
 * back. */
static size_t longest(const struct play *play, char ending)
{
	size_t i = PLACES;

	while (i > 0 && (!play->running[i - 1] || (ending && play->endings[i - 1] != ending)))
		i--;
	return i;
}

/* Of the task that asked, or of another one. */
static char *reply_to(const char *input, bool is_its)
{
	json_t *root = json_loads(input, 0, NULL);
	json_int_t index =
		json_integer_value(json_object_get(json_object_get(root, "value"), "index"));
	char *text = NULL;

	json_decref(root);
	if (asprintf(&text, "{\"op\":\"map\",\"index\":%lld,\"count\":1}",
		     index + (is_its ? 0 : 1)) < 0)
		text = NULL;
	return text;
}

/* Who is refused hears of it first, then who runs longest ends. */
static int play_wait(struct platform *p, uint64_t due_ns, struct platform_run **ret)
{
	struct play *play = (struct play *)p;
	size_t i = longest(play, 'r');

	if (i == 0)
		i = longest(play, 0);
	if (i-- == 0) {
		usleep(1000);
		return 0;
	}
	*ret = play->running[i];
	play->running[i] = NULL;
	(*ret)->end_ns = clock_ns();
	(*ret)->r = ending_of(play->endings[i]);
	strcpy((*ret)->log, play->endings[i] == 'r' ? "too many" : "");
	(*ret)->again_ns = play->pause_ns ? clock_ns() + play->pause_ns : 0;
	(*ret)->output = NULL;
	if (play->endings[i] == 'g')
		(*ret)->output = reply_to((*ret)->input, true);
	if (play->endings[i] == 'o')
		(*ret)->output = reply_to((*ret)->input, false);
	if (play->endings[i] == 'e')
		(*ret)->output = strdup("{\"error\":\"no luck\",\"is_final\":false}");
	if (play->endings[i] == 'f')
		(*ret)->output = strdup("{\"error\":\"no way\",\"is_final\":true}");
	return 1;
}

static void play_kill(struct platform *p, struct platform_run *run)
{
	struct play *play = (struct play *)p;

	for (size_t i = 0; i < PLACES; i++)
		if (play->running[i] == run)
			play->endings[i] = 'd';
}

static void play_abandon(struct platform *p)
{
	struct play *play = (struct play *)p;

	for (size_t i = 0; i < PLACES; i++)
		play->running[i] = NULL;
}

static const struct platform_ops PLAY = {
	.start = play_start,
	.wait = play_wait,
	.kill = play_kill,
	.abandon = play_abandon,
};

struct result {
	int r;
	size_t ended;
	uint32_t attempts, killed, refused;
	struct problem problem;
};

static struct result run_all(struct play *play, size_t count, size_t parallel,
			     unsigned kill_percent)
{
	struct task *tasks = calloc(count, sizeof(*tasks)), *t;
	struct result res = { 0 };
	struct crew crew = {
		.platform = &play->platform,
		.problem = &res.problem,
		.tasks = tasks,
		.count = count,
		.parallel = parallel,
		.timeout_ns = play->timeout_ns ? play->timeout_ns : 60 * NS_PER_S,
		.kill_percent = kill_percent,
		.random = 5,
	};

	play->platform.ops = &PLAY;
	for (size_t i = 0; i < count; i++)
		tasks[i].request = json_pack("{ss si}", "op", "map", "index", (int)i);
	for (size_t i = count - play->waiting; i < count; i++)
		tasks[i].waits_for = count - play->waiting;
	while ((res.r = crew_next(&crew, clock_ns() + NS_PER_S, &t)) >= 0)
		res.ended += res.r == 1;
	for (size_t i = 0; i < count; i++) {
		res.attempts += tasks[i].attempts;
		res.killed += tasks[i].killed_count;
		res.refused += tasks[i].refused_count;
	}
	crew_fini(&crew);
	for (size_t i = 0; i < PLACES; i++)
		assert_null(play->running[i]);
	tasks_fini(tasks, count);
	return res;
}

static void tasks_run_in_order_and_so_many_at_once(void **state)
{
	struct play play = { .script = "" };
	struct result res = run_all(&play, 5, 2, 0);

	assert_int_equal(res.r, -ENOENT);
	assert_int_equal(res.ended, 5);
	assert_int_equal(play.most, 2);
	assert_string_equal(play.order, "0.1 1.1 2.1 3.1 4.1 ");
}

static void who_died_runs_again_before_those_who_have_not_run(void **state)
{
	struct play play = { .script = "del" };
	struct result res = run_all(&play, 3, 1, 0);

	assert_int_equal(res.r, -ENOENT);
	assert_int_equal(res.ended, 3);
	assert_int_equal(res.attempts, 6);
	assert_string_equal(play.order, "0.1 0.2 0.3 0.4 1.1 2.1 ");
}

static void after_four_attempts_the_job_fails(void **state)
{
	struct play died = { .script = "gdddd" }, failed = { .script = "eeee" },
		    late = { .script = "llll" }, other = { .script = "oooo" };
	struct result res = run_all(&died, 2, 1, 0);

	assert_int_equal(res.r, -EREMOTEIO);
	assert_string_equal(res.problem.text, "map 1: it died, four times over");
	res = run_all(&failed, 1, 1, 0);
	assert_int_equal(res.r, -EREMOTEIO);
	assert_string_equal(res.problem.text, "map 0: no luck, four times over");
	res = run_all(&other, 1, 1, 0);
	assert_int_equal(res.r, -EREMOTEIO);
	assert_string_equal(res.problem.text, "map 0: its reply is another one's, four times over");
	res = run_all(&late, 1, 1, 0);
	assert_int_equal(res.r, -ETIMEDOUT);
}

static void an_error_that_would_come_again_fails_at_once(void **state)
{
	struct play play = { .script = "f" };
	struct result res = run_all(&play, 2, 1, 0);

	assert_int_equal(res.r, -EREMOTEIO);
	assert_int_equal(res.attempts, 1);
	assert_string_equal(res.problem.text, "map 0: no way");
	assert_false(res.problem.is_final);
}

static void who_is_refused_comes_again_and_nobody_overtakes_him(void **state)
{
	struct play play = { .script = "grrgg" };
	struct result res = run_all(&play, 4, 1, 0);

	assert_int_equal(res.r, -ENOENT);
	assert_int_equal(res.attempts, 4);
	assert_int_equal(res.refused, 2);
	assert_string_equal(play.order, "0.1 1.1 1.1 1.1 2.1 3.1 ");
}

static void as_many_run_at_once_as_there_was_room_for_and_one_more_after_each(void **state)
{
	struct play play = { .script = "ggr" };
	struct result res = run_all(&play, 5, 3, 0);

	/* The third is refused beside two; when one of these has ended, three may run. */
	assert_int_equal(res.r, -ENOENT);
	assert_string_equal(play.order, "0.1 1.1 2.1 2.1 3.1 4.1 ");
	assert_int_equal(play.most, 3);
	assert_int_equal(res.refused, 1);
}

static void who_succeeds_leaves_its_place_to_who_was_refused_one(void **state)
{
	struct play play = { .script = "ggrrg" };
	struct result res = run_all(&play, 3, 3, 0);

	/* Refused beside two, then, without a pause, beside the one that goes on. */
	assert_int_equal(res.r, -ENOENT);
	assert_int_equal(res.refused, 2);
	assert_int_equal(play.beside, 3);
}

static void who_would_wait_for_others_comes_after_them_where_places_are_scarce(void **state)
{
	struct play many = { .script = "gdg", .waiting = 2 };
	struct play few = { .script = "gdrg", .waiting = 2 };
	struct result res = run_all(&many, 4, 3, 0);

	assert_int_equal(res.r, -ENOENT);
	assert_string_equal(many.order, "0.1 1.1 2.1 3.1 1.2 ");
	res = run_all(&few, 5, 3, 0);
	assert_int_equal(res.r, -ENOENT);
	assert_string_equal(few.order, "0.1 1.1 2.1 2.1 1.2 3.1 4.1 ");
}

static void a_platform_that_has_no_room_for_too_long_fails_the_job(void **state)
{
	static const char told[] = "the platform has refused to run it for ";
	struct play play = { .script = "rrrrrrrrrrrrrrrrrrrr", .timeout_ns = NS_PER_S };
	struct result res = run_all(&play, 1, 1, 0);

	assert_int_equal(res.r, -ETIMEDOUT);
	assert_memory_equal(res.problem.text, told, strlen(told));
	assert_in_range(atoi(res.problem.text + strlen(told)), 1, 20); /* or a busy machine's */
	assert_non_null(strstr(res.problem.text, " s, beside 0 others: too many"));
}

static void who_is_asked_to_wait_waits_but_not_beyond_his_time(void **state)
{
	struct play play = { .script = "rg", .pause_ns = 200 * NS_PER_MS };
	uint64_t start_ns = clock_ns();
	struct result res = run_all(&play, 1, 1, 0);

	assert_int_equal(res.r, -ENOENT);
	assert_true(clock_ns() - start_ns >= 200 * NS_PER_MS);
	play = (struct play){ .script = "dg", .pause_ns = 50 * NS_PER_MS };
	start_ns = clock_ns();
	res = run_all(&play, 1, 1, 0);
	assert_int_equal(res.r, -ENOENT);
	assert_true(clock_ns() - start_ns >= 50 * NS_PER_MS);
	play = (struct play){ .script = "rr", .pause_ns = 3600 * NS_PER_S, .timeout_ns = NS_PER_S };
	res = run_all(&play, 1, 1, 0);
	assert_int_equal(res.r, -ETIMEDOUT);
	assert_int_equal(res.refused, 1);
}

static void what_a_platform_will_never_do_fails_at_once(void **state)
{
	struct play play = { .script = "gn" };
	struct result res = run_all(&play, 3, 1, 0);

	assert_int_equal(res.r, -EREMOTEIO);
	assert_int_equal(res.attempts, 2);
	assert_string_equal(res.problem.text, "map 1: Permission denied");
}

static void a_share_of_the_runs_is_killed_and_all_tasks_succeed(void **state)
{
	struct play play = { .script = "" };
	struct result res = run_all(&play, 6, 3, 0);

	assert_int_equal(res.killed, 0);
	play = (struct play){ .script = "" };
	res = run_all(&play, 6, 3, 100);
	assert_int_equal(res.r, -ENOENT);
	assert_int_equal(res.ended, 6);
	assert_true(res.attempts >= 6);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(tasks_run_in_order_and_so_many_at_once),
		cmocka_unit_test(who_died_runs_again_before_those_who_have_not_run),
		cmocka_unit_test(after_four_attempts_the_job_fails),
		cmocka_unit_test(an_error_that_would_come_again_fails_at_once),
		cmocka_unit_test(who_is_refused_comes_again_and_nobody_overtakes_him),
		cmocka_unit_test(as_many_run_at_once_as_there_was_room_for_and_one_more_after_each),
		cmocka_unit_test(who_succeeds_leaves_its_place_to_who_was_refused_one),
		cmocka_unit_test(
			who_would_wait_for_others_comes_after_them_where_places_are_scarce),
		cmocka_unit_test(a_platform_that_has_no_room_for_too_long_fails_the_job),
		cmocka_unit_test(who_is_asked_to_wait_waits_but_not_beyond_his_time),
		cmocka_unit_test(what_a_platform_will_never_do_fails_at_once),
		cmocka_unit_test(a_share_of_the_runs_is_killed_and_all_tasks_succeed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
