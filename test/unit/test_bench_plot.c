/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The picture of rows whose numbers are known: where lines run on the page, what stands at the
 * axes, and which panels there are. A panel is 400 by 270; what is drawn in it is 322 by 196,
 * from 62 to the right of its corner and 34 below it.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/bench.h"
#include "test.h"

static struct bench_row row_of(const char *system, uint64_t size, unsigned clients, double p50_us)
{
	return (struct bench_row){ .bench = "get",
				   .op = "get",
				   .system = system,
				   .attach = "proxy",
				   .mode = "quiet",
				   .size = size,
				   .clients = clients,
				   .depth = 1,
				   .p50_us = p50_us,
				   .p99_us = p50_us * 10,
				   .ops_per_s = 1e6 / p50_us,
				   .mb_per_s = (double)size / p50_us,
				   .pairs = strcmp(system, "wadi") == 0 ? 0 : 5 };
}

/* The whole file, to be freed. */
static char *draw(struct bench_row *rows, unsigned count)
{
	char path[] = "/tmp/wadi-plot-XXXXXX", *text = calloc(1, 1 << 20);
	const struct bench_plot p = { .rows = rows, .count = count };
	FILE *f;

	close(mkstemp(path));
	assert_int_equal(bench_plot_write(&p, path), 0);
	f = fopen(path, "r");
	assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	unlink(path);
	return text;
}

static unsigned count_of(const char *text, const char *words)
{
	unsigned n = 0;

	for (; (text = strstr(text, words)); text++)
		n++;
	return n;
}

static void expect(const char *text, const char *words)
{
	if (!strstr(text, words))
		print_message("%s is not in %s\n", words, text);
	assert_non_null(strstr(text, words));
}

/* From 10 us at 100 bytes to 1,000 at a million, with the 99th percentile up to 10,000. */
static void lines_run_between_the_corners(void **state)
{
	struct bench_row rows[] = { row_of("wadi", 100, 1, 10), row_of("wadi", 1000000, 1, 1000) };
	char *text = draw(rows, 2);

	expect(text, "width='800' height='314'");
	/* The page's head is 44 high: the bottom of the panel is at 44 + 270 - 40. */
	expect(text, "<path d='M62.0 274.0L384.0 143.3' class='line' stroke='#0b5fa5' "
		     "stroke-width='3'/>");
	expect(text, "<path d='M62.0 208.7L384.0 78.0' class='line dash' stroke='#0b5fa5' "
		     "stroke-width='1'/>");
	/* The panel at the right has the throughput. */
	expect(text, "<path d='M462.0 274.0L784.0 78.0' class='line' ");
	expect(text, "<text x='62.0' y='62.0' class='title'>get: latency by size, us: "
		     "p50, p99 dashed</text>");
	expect(text, "<text x='462.0' y='62.0' class='title'>get: throughput by size, MB/s</text>");
	assert_int_equal(count_of(text, "class='title'"), 2);
	assert_int_equal(count_of(text, "</svg>\n"), 1);
	free(text);
}

static void axes_have_words(void **state)
{
	struct bench_row rows[] = { row_of("wadi", 1, 1, 1), row_of("wadi", 1 << 20, 1, 1e6) };
	char *text;

	rows[0].bench = rows[1].bench = "batch";
	text = draw(rows, 2);
	expect(text, "<text x='56.0' y='278.0' class='y'>1</text>");
	expect(text, "class='y'>10</text>");
	expect(text, "class='y'>100</text>");
	expect(text, "class='y'>1k</text>");
	expect(text, "class='y'>10k</text>");
	expect(text, "class='y'>100k</text>");
	expect(text, "class='y'>1M</text>");
	expect(text, "<text x='56.0' y='82.0' class='y'>10M</text>");
	expect(text, "<path d='M62.0 274.0H384.0' class='grid'/>");
	expect(text, "<text x='62.0' y='292.0' class='x'>1</text>");
	expect(text, "<text x='384.0' y='292.0' class='x'>1M</text>");
	expect(text, "batch, get: latency by size");
	free(text);
}

/* Words of neighbors that would lie on each other are left out, and those of other systems. */
static void words_have_room(void **state)
{
	struct bench_row rows[] = { row_of("wadi", 1000, 1, 1), row_of("raw", 1000, 1, 2),
				    row_of("wadi", 1001, 1, 1), row_of("wadi", 100000, 1, 1) };
	char *text = draw(rows, 4);

	assert_int_equal(count_of(text, "class='x'>1000<"), 2); /* in both panels */
	assert_int_equal(count_of(text, "class='x'>1001<"), 0);
	assert_int_equal(count_of(text, "class='x'>100000<"), 2);
	free(text);
}

static void clients_have_panels_of_their_own(void **state)
{
	struct bench_row rows[] = { row_of("wadi", 4096, 1, 1), row_of("wadi", 4096, 100, 10) };
	char *text = draw(rows, 2);

	expect(text, ">get: latency by clients, us: p50, p99 dashed, 4 KiB</text>");
	expect(text, ">get: throughput by clients, requests/s, 4 KiB</text>");
	assert_int_equal(count_of(text, "class='title'"), 2);
	assert_int_equal(count_of(text, "class='x'>100</text>"), 2);
	free(text);
}

/* A row of panels for each of them, and for each number in flight. */
static void operations_are_drawn_below_each_other(void **state)
{
	struct bench_row rows[6];
	char *text;

	for (unsigned i = 0; i < 6; i++) {
		rows[i] = row_of("wadi", i % 2 ? 1000 : 10, 1, i % 2 ? 10 : 1);
		if (i / 2 == 1)
			rows[i].op = "put";
		if (i / 2 == 2)
			rows[i].depth = 16;
	}
	text = draw(rows, 6);
	expect(text, "height='854'");
	assert_int_equal(count_of(text, "class='title'"), 6);
	expect(text, "<text x='62.0' y='332.0' class='title'>get, put: ");
	expect(text, "<text x='62.0' y='602.0' class='title'>get");
	free(text);
}

static void one_point_is_no_line(void **state)
{
	struct bench_row rows[] = { row_of("wadi", 10, 1, 1), row_of("raw", 10, 1, 5),
				    row_of("wadi", 100, 1, 1) };
	char *text;

	rows[2].p50_us = rows[2].mb_per_s = 0; /* no logarithm has it */
	text = draw(rows, 3);
	expect(text, "height='44'");
	assert_int_equal(count_of(text, "class='title'"), 0);
	free(text);
}

static void the_legend_has_those_that_are_there(void **state)
{
	struct bench_row rows[] = { row_of("wadi", 10, 1, 1), row_of("redis", 10, 1, 5) };
	char *text = draw(rows, 2);

	expect(text, "<path d='M62 22h24' class='line' stroke='#0b5fa5' stroke-width='3'/>"
		     "<text x='92' y='26'>wadi</text>\n");
	/* 50 and 8 for each letter to the right. */
	expect(text, "<path d='M144 22h24' class='line' stroke='#c8352b' stroke-width='2'/>"
		     "<text x='174' y='26'>redis</text>\n");
	expect(text, "<text x='244' y='26'>proxy, quiet</text>\n");
	assert_null(strstr(text, ">raw<"));
	free(text);

	for (unsigned i = 0; i < 2; i++)
		rows[i].is_by_attach = true;
	rows[1] = row_of("wadi", 10, 1, 5);
	rows[1].is_by_attach = true;
	rows[1].attach = "direct";
	rows[1].mode = rows[0].mode = "awake";
	text = draw(rows, 2);
	expect(text, "'>proxy</text>\n");
	expect(text, "'>direct</text>\n");
	expect(text, "'>awake</text>\n");
	assert_null(strstr(text, ">wadi<"));
	free(text);
}

static void others_are_thinner_and_wadi_is_the_last(void **state)
{
	struct bench_row rows[] = { row_of("wadi", 1, 1, 1), row_of("raw", 1, 1, 10),
				    row_of("wadi", 100, 1, 1), row_of("raw", 100, 1, 10) };
	char *text = draw(rows, 4);
	const char *raw = strstr(text, "stroke='#555555' stroke-width='1.8'/>");
	const char *wadi = strstr(text, "stroke='#0b5fa5' stroke-width='3'/>\n");

	assert_non_null(raw);
	assert_non_null(wadi);
	assert_true(wadi > raw);
	free(text);
}

static void what_cannot_be_written_is_told(void **state)
{
	struct bench_row row = row_of("wadi", 1, 1, 1);
	const struct bench_plot p = { .rows = &row, .count = 1 };

	assert_int_equal(bench_plot_write(&p, "/nonexistent/x.svg"), -ENOENT);
	assert_int_equal(bench_plot_write(&p, "/dev/full"), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_run_between_the_corners),
		cmocka_unit_test(axes_have_words),
		cmocka_unit_test(words_have_room),
		cmocka_unit_test(clients_have_panels_of_their_own),
		cmocka_unit_test(operations_are_drawn_below_each_other),
		cmocka_unit_test(one_point_is_no_line),
		cmocka_unit_test(the_legend_has_those_that_are_there),
		cmocka_unit_test(others_are_thinner_and_wadi_is_the_last),
		cmocka_unit_test(what_cannot_be_written_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
