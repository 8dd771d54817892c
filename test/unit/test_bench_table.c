/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `wadi bench` prints of rows whose numbers are known, letter by letter: for eyes, and as
 * lines of JSON. Cells have a head each, and rows of one cell share it.
 */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>

#include "test.h"

static const struct bench_row ROW = {
	.bench = "get",
	.op = "get",
	.system = "wadi",
	.attach = "proxy",
	.mode = "quiet",
	.size = 4096,
	.clients = 1,
	.depth = 1,
	.p50_us = 1.234,
	.p99_us = 9.996,
	.p999_us = 12.34,
	.max_us = 10,
	.ops_per_s = 98765.4,
	.mb_per_s = 100,
	.server_cpu_us = 5.5,
	.client_cpu_us = 99.96,
	.least_share = 0.5,
	.object_bytes = NAN,
	.beside_mb_per_s = NAN,
	.behind_cpu_us = NAN,
};

/* Of a system that Wadi is compared with. */
static struct bench_row peer_of(struct bench_row row, const char *system)
{
	row.system = system;
	row.pairs = 15;
	row.latency = (struct interval){ .median = 2, .low = 1.5, .high = 12.344 };
	row.rate = (struct interval){ .median = 0.5, .low = 0.25, .high = 0.75 };
	return row;
}

#define COLUMNS                                                                                    \
	"               p50 us   p99 us    p99.9      max      ops/s     MB/s   srv us   cli us  " \
	"least  wadi / it: p50, ops/s (95 %)\n"
#define FIGURES     "     1.23    10.00     12.3     10.0      98765      100     5.50    100.0"
#define PEER_RATIOS "   2.00 (1.50-12.34)   0.50 (0.25-0.75)"

/* What is printed of them, to be freed. */
static char *table_of(const struct bench_row *rows, unsigned count, unsigned pairs)
{
	char *text = NULL;
	size_t len;
	struct bench_table t = { .f = open_memstream(&text, &len) };

	for (unsigned i = 0; i < count; i++)
		bench_table_row(&t, &rows[i], pairs);
	fclose(t.f);
	return text;
}

static void expect_table(const struct bench_row *rows, unsigned count, const char *expected)
{
	char *text = table_of(rows, count, 15);

	assert_string_equal(text, expected);
	free(text);
}

static void expect_end(struct bench_row row, const char *end)
{
	char *text = table_of(&row, 1, 15);
	size_t len = strlen(text);

	assert_true(len > strlen(end));
	assert_string_equal(text + len - strlen(end), end);
	free(text);
}

static void rows_of_a_cell_share_a_head(void **state)
{
	const struct bench_row rows[] = { ROW, peer_of(ROW, "raw"), peer_of(ROW, "redis") };

	expect_table(rows, 3,
		     "get of 4 KiB, 1 client, 1 in flight, proxy, quiet, 15 pairs\n" COLUMNS
		     "wadi        " FIGURES "   0.50\n"
		     "raw         " FIGURES "   0.50" PEER_RATIOS "\n"
		     "redis       " FIGURES "   0.50" PEER_RATIOS "\n");
}

static void another_cell_begins_after_an_empty_line(void **state)
{
	struct bench_row rows[] = { ROW, ROW, ROW, ROW, ROW, ROW };
	char *text;
	unsigned heads = 0;

	rows[1].size = 1;
	rows[2] = peer_of(rows[1], "raw");
	rows[2].clients = 2;
	rows[3] = peer_of(rows[2], "raw");
	rows[3].depth = 3;
	rows[4] = peer_of(rows[3], "raw");
	rows[4].op = "put";
	rows[5] = peer_of(rows[4], "raw");
	rows[5].bench = "batch";
	text = table_of(rows, 6, 1);
	for (const char *p = text; (p = strstr(p, " in flight, proxy, quiet, 1 pair\n")); p++)
		heads++;
	assert_int_equal(heads, 6);
	heads = 0;
	for (const char *p = text; (p = strstr(p, "\n\n")); p++)
		heads++;
	assert_int_equal(heads, 5);
	assert_non_null(strstr(text, "\n\nget of 1 B, 1 client, 1 in flight"));
	assert_non_null(strstr(text, "\n\nget of 1 B, 2 clients, 1 in flight"));
	assert_non_null(strstr(text, "\n\nget of 1 B, 2 clients, 3 in flight"));
	assert_non_null(strstr(text, "\n\nget: put of 1 B, 2 clients"));
	assert_non_null(strstr(text, "\n\nbatch: put of 1 B, 2 clients"));
	free(text);
}

/* The same again: Wadi is the first of each cell. */
static void wadi_opens_a_cell(void **state)
{
	const struct bench_row rows[] = { ROW, ROW };
	char *text = table_of(rows, 2, 15);

	assert_non_null(strstr(text, "\n\nget of 4 KiB"));
	free(text);
}

static void few_pairs_have_no_interval_of_95_percent(void **state)
{
	char *five = table_of(&ROW, 1, 5), *six = table_of(&ROW, 1, 6);

	assert_non_null(strstr(five, " 5 pairs\n"));
	assert_non_null(strstr(five, "wadi / it: p50, ops/s (all)\n"));
	assert_non_null(strstr(six, "wadi / it: p50, ops/s (95 %)\n"));
	free(five);
	free(six);
}

static void a_list_is_of_entries(void **state)
{
	struct bench_row row = ROW;
	char *text;

	row.bench = row.op = "list";
	row.size = 4096;
	text = table_of(&row, 1, 15);
	assert_ptr_equal(strstr(text, "list of 4096 entries, 1 client,"), text);
	free(text);
}

/* The servers behind are part of the store's, but where ways to attach are compared. */
static void cpu_time_is_of_all_servers_or_each_has_a_column(void **state)
{
	struct bench_row row = ROW;

	row.behind_cpu_us = 3;
	expect_end(row, "     8.50    100.0   0.50\n");
	row.server_cpu_us = NAN;
	expect_end(row, "     3.00    100.0   0.50\n");
	row.behind_cpu_us = NAN;
	row.client_cpu_us = row.least_share = NAN;
	expect_end(row, "        -        -      -\n");
	row = ROW;
	row.is_by_attach = true;
	row.behind_cpu_us = 3;
	expect_end(row, "     5.50    100.0   3.00\n");
}

static void ways_to_attach_are_named(void **state)
{
	struct bench_row rows[] = { ROW, ROW, ROW };

	for (unsigned i = 0; i < 3; i++) {
		rows[i].is_by_attach = true;
		rows[i].attach = (const char *[]){ "host", "sidecar", "proxy" }[i];
		if (i > 0)
			rows[i] = peer_of(rows[i], i == 1 ? "wadi" : "dir");
	}
	expect_table(rows, 3,
		     "get of 4 KiB, 1 client, 1 in flight, each way to attach, quiet, 15 pairs\n"
		     "               p50 us   p99 us    p99.9      max      ops/s     MB/s   srv us"
		     "   cli us behind  host / it: p50, ops/s (95 %)\n"
		     "host        " FIGURES "      -\n"
		     "sidecar     " FIGURES "      -" PEER_RATIOS "\n"
		     "dir         " FIGURES "      -" PEER_RATIOS "\n");
}

static void what_else_was_measured_ends_the_line(void **state)
{
	struct bench_row row = ROW;

	row.object_bytes = 123.4;
	expect_end(row, "   0.50  123 bytes of memory per object\n");
	row = ROW;
	row.beside_mb_per_s = 987.6;
	expect_end(row, "   0.50  beside 988 MB/s\n");
}

static char *json_of(const struct bench_row *row)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	bench_json(f, row);
	fclose(f);
	return text;
}

static void a_line_of_json_has_all_fields(void **state)
{
	struct bench_row row = ROW;
	char *text;

	row.op = "put";
	row.clients = 2;
	row.depth = 3;
	row.server_cpu_us = NAN;
	row.behind_cpu_us = 7.25;
	row.beside_mb_per_s = 1.5;
	text = json_of(&row);
	assert_string_equal(text,
			    "{\"bench\":\"get\",\"op\":\"put\",\"system\":\"wadi\","
			    "\"attach\":\"proxy\",\"size\":4096,\"clients\":2,\"depth\":3,"
			    "\"p50_us\":1.234,\"p99_us\":9.996,\"p999_us\":12.340,"
			    "\"max_us\":10.000,\"ops_per_s\":98765.4,\"mb_per_s\":100.000,"
			    "\"server_cpu_us\":null,\"client_cpu_us\":99.960,\"mode\":\"quiet\","
			    "\"behind_cpu_us\":7.250,\"beside_mb_per_s\":1.500}\n");
	free(text);
	row.server_cpu_us = 2;
	row.client_cpu_us = row.behind_cpu_us = row.beside_mb_per_s = NAN;
	text = json_of(&row);
	assert_non_null(strstr(text, "\"server_cpu_us\":2.000,\"client_cpu_us\":null,"
				     "\"mode\":\"quiet\",\"behind_cpu_us\":null,"
				     "\"beside_mb_per_s\":null}\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_of_a_cell_share_a_head),
		cmocka_unit_test(another_cell_begins_after_an_empty_line),
		cmocka_unit_test(wadi_opens_a_cell),
		cmocka_unit_test(few_pairs_have_no_interval_of_95_percent),
		cmocka_unit_test(a_list_is_of_entries),
		cmocka_unit_test(cpu_time_is_of_all_servers_or_each_has_a_column),
		cmocka_unit_test(ways_to_attach_are_named),
		cmocka_unit_test(what_else_was_measured_ends_the_line),
		cmocka_unit_test(a_line_of_json_has_all_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
