/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the log writes can be read, by people and as JSON, and never too much
 * of it. Method: stderr is a pipe while lines are written; the test reads it.
 */
#include "test.h"

#include <fcntl.h>
#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static char said[65536];
static int saved_fd, pipe_fds[2];
static time_t begun;
static bool is_of_one_second;

static time_t second(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec;
}

/* A burst is counted by the second, so that all of it must lie in one. */
static void begin(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (t.tv_nsec > 500000000)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000000 - t.tv_nsec }, NULL);
	begun = second();
	assert_int_equal(pipe2(pipe_fds, O_NONBLOCK), 0);
	fflush(stderr);
	saved_fd = dup(STDERR_FILENO);
	dup2(pipe_fds[1], STDERR_FILENO);
}

static void end(void)
{
	ssize_t n;

	is_of_one_second = second() == begun;
	dup2(saved_fd, STDERR_FILENO);
	close(saved_fd);
	close(pipe_fds[1]);
	n = read(pipe_fds[0], said, sizeof(said) - 1);
	said[n > 0 ? n : 0] = '\0';
	close(pipe_fds[0]);
}

static unsigned line_count(void)
{
	unsigned count = 0;

	for (const char *p = said; *p; p++)
		count += *p == '\n';
	return count;
}

static bool matches(const char *pattern)
{
	regex_t re;
	bool is_match;

	assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
	is_match = regexec(&re, said, 0, NULL, 0) == 0;
	regfree(&re);
	return is_match;
}

static int teardown(void **state)
{
	log_set_level(LOG_INFO);
	log_set_json(false);
	return 0;
}

#define WHEN "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z"

static void a_line_is_time_level_and_sentence(void **state)
{
	begin();
	log_warning("A pool is full pool=%d", 3);
	end();
	assert_true(matches("^" WHEN " warning A pool is full pool=3\n$"));
}

static void json_is_escaped(void **state)
{
	log_set_json(true);
	begin();
	log_error("A name is odd name=\"%s\"", "a\\b\n\x01\xc3\xa4\xff");
	end();
	assert_true(matches("^\\{\"time\":\"" WHEN "\",\"level\":\"error\",\"pid\":[0-9]+,\"text\":"
			    "\"A name is odd name=\\\\\"a\\\\\\\\b  \xc3\xa4 \\\\\"\"\\}\n$"));
}

static void what_is_less_than_the_level_is_not_said(void **state)
{
	begin();
	log_debug("not by default");
	log_set_level(LOG_ERROR);
	log_warning("not now");
	log_error("only this");
	log_set_level(LOG_DEBUG);
	log_debug("and this");
	end();
	assert_int_equal(line_count(), 2);
	assert_non_null(strstr(said, "only this"));
	assert_non_null(strstr(said, "and this"));
}

static void say_often(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		log_info("The same again i=%u", i);
}

static void wait_a_second(void)
{
	nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
}

static void one_place_says_a_burst_a_second_and_then_how_much_was_left_out(void **state)
{
	is_of_one_second = false;
	for (int i = 0; i < 10 && !is_of_one_second; i++) {
		if (i > 0) { /* of what was tried on a busy machine nothing is left to be told */
			wait_a_second();
			say_often(1);
			wait_a_second();
		}
		begin();
		say_often(LOG_BURST + 1);
		log_info("somebody else");
		end();
	}
	assert_int_equal(line_count(), LOG_BURST + 1);
	assert_non_null(strstr(said, "somebody else"));
	assert_null(strstr(said, "left_out"));

	wait_a_second();
	begin();
	say_often(2);
	end();
	assert_int_equal(line_count(), 2);
	assert_true(matches("The same again i=0 left_out=1\n"));
	assert_true(matches("The same again i=1\n"));
}

static void a_line_that_is_too_long_is_cut_and_still_a_line(void **state)
{
	char *big = malloc(10001);

	memset(big, '"', 10000);
	big[10000] = '\0';
	begin();
	log_info("big=%s", big);
	log_set_json(true);
	log_info("json big=%s", big);
	end();
	free(big);
	assert_int_equal(line_count(), 2);
	assert_true(matches("\"\n.*[^\\\\](\\\\\\\\)*\"\\}\n$"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_line_is_time_level_and_sentence, teardown),
		cmocka_unit_test_teardown(json_is_escaped, teardown),
		cmocka_unit_test_teardown(what_is_less_than_the_level_is_not_said, teardown),
		cmocka_unit_test_teardown(
			one_place_says_a_burst_a_second_and_then_how_much_was_left_out, teardown),
		cmocka_unit_test_teardown(a_line_that_is_too_long_is_cut_and_still_a_line,
					  teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
