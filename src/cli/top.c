/* SPDX-License-Identifier: Apache-2.0 */
/*
 * top: what is in the store, by job and tier. On a terminal it is drawn again every
 * second until somebody types q, elsewhere it is printed once.
 */
#include "cli/cli.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wadi/wadi.h>

#include "base/quantity.h"
#include "cli/show.h"
#include "cli/terminal.h"

#define REFRESH_MS 1000

/* Of a page, beside those of jobs: the store, headings, "and more", the keys. */
#define OTHER_ROWS 9

struct top {
	const struct invocation *in;
	struct wadi *w;
	struct wadi_store_info store;
	struct wadi_job_info *jobs;
	size_t job_count;
};

static volatile sig_atomic_t must_stop;

static void stop(int signo)
{
	(void)signo;
	must_stop = 1;
}

/* The largest first; ended ones last. */
static int by_use(const void *a, const void *b)
{
	const struct wadi_job_info *x = a, *y = b;

	if (x->has_ended != y->has_ended)
		return x->has_ended - y->has_ended;
	if (x->dram_bytes != y->dram_bytes)
		return x->dram_bytes < y->dram_bytes ? 1 : -1;
	return strcmp(x->name, y->name);
}

/* 0 or a negative errno. */
static int look(struct top *t)
{
	int r;

	free(t->jobs);
	t->jobs = NULL;
	t->job_count = 0;
	r = wadi_store_info(t->w, &t->store);
	if (r == 0)
		r = jobs_list(t->w, &t->jobs, &t->job_count);
	if (r == 0)
		qsort(t->jobs, t->job_count, sizeof(*t->jobs), by_use);
	return r;
}

static int fail(const struct top *t, int r)
{
	return fail_about(t->in, t->w, NULL, r);
}

/* "[####------......]": belongs to jobs, reserved ahead, free. */
static void put_bar(const struct wadi_store_info *s, unsigned cells)
{
	double limit = s->dram_limit ? (double)s->dram_limit : 1;
	unsigned used = (unsigned)((double)s->dram_used / limit * cells + 0.5);
	unsigned clean = (unsigned)((double)s->dram_clean / limit * cells + 0.5);

	if (used == 0 && s->dram_used)
		used = 1;
	putchar('[');
	for (unsigned i = 0; i < cells; i++)
		putchar(i < used ? '#' : i < used + clean ? '-' : '.');
	putchar(']');
}

static void put_store(const struct top *t, unsigned width)
{
	const struct wadi_store_info *s = &t->store;
	char used[QUANTITY_TEXT_MAX], clean[QUANTITY_TEXT_MAX], limit[QUANTITY_TEXT_MAX];
	char values[QUANTITY_TEXT_MAX], up[QUANTITY_TEXT_MAX], lingering[QUANTITY_TEXT_MAX];
	unsigned cells = width >= 100 ? 40 : width >= 76 ? 20 : 10;

	printf("up %s, %llu jobs, %llu objects, %llu sessions, %llu waiting\n",
	       duration_rough(s->uptime_ms, up), (unsigned long long)s->job_count,
	       (unsigned long long)s->object_count, (unsigned long long)s->session_count,
	       (unsigned long long)s->parked_count);
	printf("dram ");
	put_bar(s, cells);
	printf(" %s of %s\n", bytes_rough(s->dram_used, used), bytes_rough(s->dram_limit, limit));
	printf("     %llu segments, %s ahead, %s of small values\n",
	       (unsigned long long)s->segment_count, bytes_rough(s->dram_clean, clean),
	       bytes_rough(s->value_bytes, values));
	if (s->lingering_bytes)
		printf("     %s touched again by functions after it was given back\n",
		       bytes_rough(s->lingering_bytes, lingering));
}

static void put_job(const struct wadi_job_info *job, unsigned width)
{
	char holds[QUANTITY_TEXT_MAX], lease[QUANTITY_TEXT_MAX], safe[4 * WADI_JOB_NAME_MAX + 8];
	const char *left = job->has_expired ? "expired"
			   : job->has_ended ? "ended"
			   : job->lease_left_ms == UINT64_MAX
				   ? "-"
				   : duration_rough(job->lease_left_ms, lease);
	unsigned room = width > 46 ? width - 46 : 8;

	name_safe(job->name, strlen(job->name), safe, sizeof(safe));
	printf("%10s %9llu %11.3f  %-11s %.*s\n", bytes_rough(job->dram_bytes, holds),
	       (unsigned long long)job->object_count,
	       gb_seconds(job->dram_byte_ms_hi, job->dram_byte_ms_lo), left,
	       (int)name_fit(safe, room), safe);
}

/* Up to `rows` lines; 0: all. */
static void put_page(const struct top *t, unsigned width, unsigned rows)
{
	size_t room = rows > OTHER_ROWS ? rows - OTHER_ROWS : 1;
	size_t shown = rows && t->job_count > room ? room : t->job_count;

	put_store(t, width);
	printf("\n%10s %9s %11s  %-11s %s\n", "DRAM", "OBJECTS", "GB s", "LEASE LEFT", "JOB");
	for (size_t i = 0; i < shown; i++)
		put_job(&t->jobs[i], width);
	if (shown < t->job_count)
		printf("and %zu more\n", t->job_count - shown);
}

static void put_json(const struct top *t)
{
	const struct wadi_store_info *s = &t->store;
	struct json j = json_begin(stdout);

	json_number(&j, "uptime_ms", s->uptime_ms);
	json_number(&j, "dram_limit", s->dram_limit);
	json_number(&j, "dram_used", s->dram_used);
	json_number(&j, "dram_clean", s->dram_clean);
	json_number(&j, "value_bytes", s->value_bytes);
	json_exact(&j, "dram_byte_ms", byte_ms(s->dram_byte_ms_hi, s->dram_byte_ms_lo));
	json_exact(&j, "forgotten_byte_ms",
		   byte_ms(s->forgotten_byte_ms_hi, s->forgotten_byte_ms_lo));
	json_bool(&j, "is_partial", s->is_partial);
	json_number(&j, "lingering_bytes", s->lingering_bytes);
	json_number(&j, "segments", s->segment_count);
	json_number(&j, "objects", s->object_count);
	json_number(&j, "sessions", s->session_count);
	json_number(&j, "waiting", s->parked_count);
	json_list(&j, "jobs");
	for (size_t i = 0; i < t->job_count; i++) {
		json_open(&j);
		job_json(&j, &t->jobs[i]);
		json_close(&j);
	}
	json_list_end(&j);
	json_end(&j);
}

/* True when it is time to go. */
static bool was_quit(void)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	char c;

	if (poll(&in, 1, REFRESH_MS) <= 0)
		return must_stop;
	return read(STDIN_FILENO, &c, 1) <= 0 || c == 'q' || c == 'Q' || must_stop;
}

static unsigned rows_of_terminal(void)
{
	struct winsize size;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row ? size.ws_row : 24;
}

static int watch(struct top *t)
{
	struct sigaction action = { .sa_handler = stop };
	struct termios old, raw;
	bool has_keys = tcgetattr(STDIN_FILENO, &old) == 0;
	int r;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (has_keys) {
		raw = old;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	/* What is wider than the window is cut off: in two lines it would push out the first. */
	fputs("\033[?1049h\033[?25l\033[?7l", stdout);
	for (;;) {
		r = look(t);
		if (r < 0)
			break;
		fputs("\033[H\033[2J", stdout);
		put_page(t, terminal_width(stdout), rows_of_terminal());
		fputs("\nq quits", stdout);
		fflush(stdout);
		if (was_quit())
			break;
	}
	fputs("\033[?7h\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	if (has_keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &old);
	/* Only now: what is said on the other screen goes with it. */
	return r < 0 ? fail(t, r) : EXIT_DONE;
}

int command_top(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct top t = { .in = &in };
	struct top_options o;
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = client_open(&in, &w);
	if (code)
		return code;
	t.w = w;
	if (!o.once && !o.json && terminal_is(stdout)) {
		code = watch(&t);
	} else {
		r = look(&t);
		code = r < 0 ? fail(&t, r) : EXIT_DONE;
		if (!code && o.json)
			put_json(&t);
		else if (!code)
			put_page(&t, terminal_width(stdout), 0);
	}
	free(t.jobs);
	return code;
}
