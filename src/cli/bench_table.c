/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "base/quantity.h"
#include "cli/bench.h"
#include "cli/json.h"

static void json_maybe(struct json *j, const char *name, double value, int decimals)
{
	if (isnan(value))
		json_null(j, name);
	else
		json_real(j, name, value, decimals);
}

void bench_json(FILE *f, const struct bench_row *row)
{
	struct json j = json_begin(f);

	json_word(&j, "bench", row->bench);
	json_word(&j, "op", row->op);
	json_word(&j, "system", row->system);
	json_word(&j, "attach", row->attach);
	json_number(&j, "size", row->size);
	json_number(&j, "clients", row->clients);
	json_number(&j, "depth", row->depth);
	json_real(&j, "p50_us", row->p50_us, 3);
	json_real(&j, "p99_us", row->p99_us, 3);
	json_real(&j, "p999_us", row->p999_us, 3);
	json_real(&j, "max_us", row->max_us, 3);
	json_real(&j, "ops_per_s", row->ops_per_s, 1);
	json_real(&j, "mb_per_s", row->mb_per_s, 3);
	json_maybe(&j, "server_cpu_us", row->server_cpu_us, 3);
	json_maybe(&j, "client_cpu_us", row->client_cpu_us, 3);
	json_word(&j, "mode", row->mode);
	json_maybe(&j, "behind_cpu_us", row->behind_cpu_us, 3);
	json_maybe(&j, "beside_mb_per_s", row->beside_mb_per_s, 3);
	json_end(&j);
}

/* Three digits, or as many as stand before the point. */
static void put_number(FILE *f, double value, int width)
{
	if (isnan(value))
		fprintf(f, "%*s", width, "-");
	else
		fprintf(f, "%*.*f", width, value < 10 ? 2 : value < 100 ? 1 : 0, value);
}

/* Of all of its processes; those behind have a column of their own where ways are compared. */
static double server_cpu_us(const struct bench_row *row)
{
	if (row->is_by_attach || isnan(row->behind_cpu_us))
		return row->server_cpu_us;
	return row->behind_cpu_us + (isnan(row->server_cpu_us) ? 0 : row->server_cpu_us);
}

static void put_interval(FILE *f, const struct interval *i)
{
	fprintf(f, "  %5.2f (%.2f-%.2f)", i->median, i->low, i->high);
}

const char *bench_label(const struct bench_row *row)
{
	return row->is_by_attach && strcmp(row->system, "wadi") == 0 ? row->attach : row->system;
}

static bool is_same_cell(const struct bench_row *a, const struct bench_row *b)
{
	return a->bench && strcmp(a->bench, b->bench) == 0 && strcmp(a->op, b->op) == 0 &&
	       a->size == b->size && a->clients == b->clients && a->depth == b->depth &&
	       b->pairs > 0;
}

static void put_head(const struct bench_table *t, const struct bench_row *row, unsigned pairs)
{
	char size[QUANTITY_TEXT_MAX];
	bool is_list = strcmp(row->op, "list") == 0;

	fprintf(t->f, "%s%s", t->last.bench ? "\n" : "", row->bench);
	if (strcmp(row->bench, row->op) != 0)
		fprintf(t->f, ": %s", row->op);
	if (is_list)
		fprintf(t->f, " of %llu entries", (unsigned long long)row->size);
	else
		fprintf(t->f, " of %s", bytes_rough(row->size, size));
	fprintf(t->f, ", %u client%s, %u in flight, %s, %s, %u pair%s\n", row->clients,
		row->clients == 1 ? "" : "s", row->depth,
		row->is_by_attach ? "each way to attach" : row->attach, row->mode, pairs,
		pairs == 1 ? "" : "s");
	fprintf(t->f, "%-12s%9s%9s%9s%9s%11s%9s%9s%9s%7s  %s / it: p50, ops/s (%s)\n", "", "p50 us",
		"p99 us", "p99.9", "max", "ops/s", "MB/s", "srv us", "cli us",
		row->is_by_attach ? "behind" : "least", bench_label(row),
		pairs < INTERVAL_LEAST ? "all" : "95 %");
}

void bench_table_row(struct bench_table *t, const struct bench_row *row, unsigned pairs)
{
	if (!is_same_cell(&t->last, row))
		put_head(t, row, pairs);
	t->last = *row;
	fprintf(t->f, "%-12s", bench_label(row));
	put_number(t->f, row->p50_us, 9);
	put_number(t->f, row->p99_us, 9);
	put_number(t->f, row->p999_us, 9);
	put_number(t->f, row->max_us, 9);
	fprintf(t->f, "%11.0f", row->ops_per_s);
	put_number(t->f, row->mb_per_s, 9);
	put_number(t->f, server_cpu_us(row), 9);
	put_number(t->f, row->client_cpu_us, 9);
	put_number(t->f, row->is_by_attach ? row->behind_cpu_us : row->least_share, 7);
	if (row->pairs) {
		put_interval(t->f, &row->latency);
		put_interval(t->f, &row->rate);
	}
	if (!isnan(row->object_bytes))
		fprintf(t->f, "  %.0f bytes of memory per object", row->object_bytes);
	if (!isnan(row->beside_mb_per_s))
		fprintf(t->f, "  beside %.0f MB/s", row->beside_mb_per_s);
	fputc('\n', t->f);
	fflush(t->f);
}
