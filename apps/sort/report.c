/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

const char *stage_name(size_t stage)
{
	static const char *const NAMES[STAGE_COUNT] = { "generate", "sample", "map", "reduce",
							"validate" };

	return NAMES[stage];
}

static uint64_t number(const json_t *reply, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(reply, name));
}

void report_add(struct report *r, const struct task *t)
{
	struct stage *s = &r->stages[t->stage];
	uint64_t read_bytes = number(t->reply, "read_bytes");
	uint64_t written_bytes = number(t->reply, "written_bytes");
	uint64_t peak_memory = number(t->reply, "peak_memory"), beyond_ns;

	if (s->functions == 0 || t->start_ns < s->start_ns)
		s->start_ns = t->start_ns;
	if (t->end_ns > s->end_ns)
		s->end_ns = t->end_ns;
	s->functions++;
	beyond_ns = starts_add(&r->starts, t);
	if (beyond_ns)
		times_add(&s->cold, beyond_ns);
	s->attempts += t->attempts;
	s->killed += t->killed_count;
	s->bytes += read_bytes > written_bytes ? read_bytes : written_bytes;
	s->io_ns += number(t->reply, "io_ns");
	s->wait_ns += number(t->reply, "wait_ns");
	s->store_read_bytes += number(t->reply, "store_read_bytes");
	s->store_written_bytes += number(t->reply, "store_written_bytes");
	if (peak_memory > s->peak_memory)
		s->peak_memory = peak_memory;
}

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static double ms(struct times *t)
{
	return (double)times_median_ns(t) / 1e6;
}

static double rate_mb(const struct stage *s)
{
	uint64_t ns = s->end_ns - s->start_ns;

	return ns ? (double)s->bytes / 1e6 / seconds(ns) : 0;
}

static double gb_seconds(u128 byte_ms)
{
	return (double)byte_ms / 1e12;
}

static double price(u128 byte_ms)
{
	return gb_seconds(byte_ms) / 3600 * PRICE_PER_GB_HOUR;
}

/*
 * From the end of the stages before to the end of this one; reducers that began early count
 * there. A mapper whose answer was lost ends once more, perhaps when all reducers have ended:
 * then there is nothing left for them.
 */
static u128 stage_byte_ms(const struct report *r, size_t stage)
{
	u128 before = 0, end = r->stages[stage].usage.dram_byte_ms;

	for (size_t i = 0; i < stage; i++)
		if (r->stages[i].functions > 0 && r->stages[i].usage.dram_byte_ms > before)
			before = r->stages[i].usage.dram_byte_ms;
	return end > before ? end - before : 0;
}

/* Bytes in four digits and a letter of powers of 1000. */
static const char *bytes_text(uint64_t bytes, char buf[16])
{
	static const char LETTERS[] = "BKMGTP";
	double v = (double)bytes;
	size_t i = 0;

	for (; v >= 999.5 && i < sizeof(LETTERS) - 2; i++)
		v /= 1000;
	snprintf(buf, 16,
		 i == 0    ? "%.0f%c"
		 : v < 10  ? "%.2f%c"
		 : v < 100 ? "%.1f%c"
			   : "%.0f%c",
		 v, LETTERS[i]);
	return buf;
}

/* At most six characters, of which three are digits. */
static const char *time_text(uint64_t ns, char buf[16])
{
	double ms = (double)ns / 1e6, v = ms < 999.5 ? ms : ms / 1e3;

	snprintf(buf, 16,
		 v < 9.995   ? "%.2f%s"
		 : v < 99.95 ? "%.1f%s"
			     : "%.0f%s",
		 v, ms < 999.5 ? "ms" : "s");
	return ns ? buf : "-";
}

static const char *dram_text(const struct store_usage *u, char buf[16])
{
	return u->is_known ? bytes_text(u->dram_bytes, buf) : "-";
}

/* 59 columns, so that a narrow terminal does not wrap it. */
static void stage_print(struct stage *s, const char *name, FILE *to)
{
	char cold[16], bytes[16], time[16], io[16], wait[16], dram[16];

	fprintf(to, "%-8s %4u %6s %5s %6s %5.0f %6s %6s %5s\n", name, s->attempts,
		time_text(times_median_ns(&s->cold), cold), bytes_text(s->bytes, bytes),
		time_text(s->end_ns - s->start_ns, time), rate_mb(s), time_text(s->io_ns, io),
		time_text(s->wait_ns, wait), dram_text(&s->usage, dram));
}

static void table_print(struct report *r, FILE *to)
{
	fprintf(to, "%-8s %4s %6s %5s %6s %5s %6s %6s %5s\n", "stage", "runs", "cold", "bytes",
		"time", "MB/s", "i/o", "wait", "dram");
	for (size_t i = 0; i < STAGE_COUNT; i++)
		if (r->stages[i].functions > 0)
			stage_print(&r->stages[i], stage_name(i), to);
}

static void starts_line(const char *name, struct starts *s, FILE *to)
{
	char beyond[16], init[16];

	if (s->beyond.count > 0)
		fprintf(to, "%-8s %4zu %6s %6s\n", name, s->beyond.count,
			time_text(times_median_ns(&s->beyond), beyond),
			time_text(times_median_ns(&s->init), init));
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100 * (double)part / (double)whole : 0;
}

/* Medians of what a run took beyond its function, and of making its instance. */
static void starts_print(struct report *r, FILE *to)
{
	struct starts_all *s = &r->starts;
	char attach[16];

	fprintf(to, "\n%-8s %4s %6s %6s\n", "starts", "runs", "p50", "init");
	starts_line("cold", &s->cold, to);
	starts_line("warm", &s->warm, to);
	fprintf(to, "attached %4zu %6s, %.2f%% of these runs; kept in %u\n", s->attach.count,
		time_text(times_median_ns(&s->attach), attach),
		percent(s->attached_ns, s->fresh_ns), s->kept_count);
	if (s->refused_count)
		fprintf(to, "%u times there was no room, and the run came again\n",
			s->refused_count);
}

static void bill_line(const char *name, u128 byte_ms, FILE *to)
{
	fprintf(to, "%-8s %9.3f %12.8f\n", name, gb_seconds(byte_ms), price(byte_ms));
}

/* Memory times time; nobody counts it where it is not Wadi's. */
static void bill_print(const struct report *r, FILE *to)
{
	if (!r->usage.is_known) {
		fprintf(to, "GB*s: -\n");
		return;
	}
	fprintf(to, "\n%-8s %9s %12s at $%.3f per GB*h\n", "bill", "GB*s", "$", PRICE_PER_GB_HOUR);
	for (size_t i = 0; i < STAGE_COUNT; i++)
		if (r->stages[i].functions > 0)
			bill_line(stage_name(i), stage_byte_ms(r, i), to);
	bill_line("all", r->usage.dram_byte_ms, to);
}

static uint32_t killed_count(const struct report *r)
{
	uint32_t killed = 0;

	for (size_t i = 0; i < STAGE_COUNT; i++)
		killed += r->stages[i].killed;
	return killed;
}

/* Like the table, lines of less than 60 columns. */
void report_print(struct report *r, FILE *to)
{
	char bytes[16], sum[U128_DIGITS];

	u128_format(r->sum, sum);
	table_print(r, to);
	if (killed_count(r))
		fprintf(to, "%u functions were killed and ran again\n", killed_count(r));
	starts_print(r, to);
	bill_print(r, to);
	fprintf(to, "\n%s in %.2f s over %s%s%s%s, %.0f MB/s\n", bytes_text(r->bytes, bytes),
		seconds(r->total_ns), r->store, r->attach ? " (" : "", r->attach ? r->attach : "",
		r->attach ? ")" : "", (double)r->bytes / 1e6 / seconds(r->total_ns));
	fprintf(to, "%s: %llu %s, sum %s\n", r->is_verified ? "verified" : "NOT VERIFIED",
		(unsigned long long)r->count, r->format == FORMAT_LINES ? "lines" : "records", sum);
	fprintf(to, "duplicates: %llu have the key of the one before\n",
		(unsigned long long)r->duplicates);
}

static json_t *starts_json(struct starts *s)
{
	return json_pack("{sI sf sf}", "runs", (json_int_t)s->beyond.count, "start_p50_ms",
			 ms(&s->beyond), "init_p50_ms", ms(&s->init));
}

static json_t *attaching_json(struct starts_all *s)
{
	return json_pack("{sI sI sf sf sf}", "runs", (json_int_t)s->attach.count, "kept",
			 (json_int_t)s->kept_count, "p50_ms", ms(&s->attach), "percent",
			 percent(s->attached_ns, s->fresh_ns), "percent_of_all",
			 percent(s->attached_ns, s->store_ns));
}

static json_t *bill_json(const struct store_usage *u, double v)
{
	return u->is_known ? json_real(v) : json_null();
}

static json_t *stage_json(struct report *r, size_t stage)
{
	struct stage *s = &r->stages[stage];
	u128 byte_ms = stage_byte_ms(r, stage);
	json_t *o = json_pack(
		"{ss sI sI sI sf sI sf sf sf sf sI sI sI}", "stage", stage_name(stage), "functions",
		(json_int_t)s->functions, "runs", (json_int_t)s->attempts, "killed",
		(json_int_t)s->killed, "cold_start_p50_ms", ms(&s->cold), "bytes",
		(json_int_t)s->bytes, "seconds", seconds(s->end_ns - s->start_ns), "mb_per_s",
		rate_mb(s), "ephemeral_io_s", seconds(s->io_ns), "wait_s", seconds(s->wait_ns),
		"ephemeral_read_bytes", (json_int_t)s->store_read_bytes, "ephemeral_written_bytes",
		(json_int_t)s->store_written_bytes, "peak_memory", (json_int_t)s->peak_memory);

	json_object_set_new(o, "tier_bytes",
			    s->usage.is_known
				    ? json_pack("{sI}", "dram", (json_int_t)s->usage.dram_bytes)
				    : json_null());
	json_object_set_new(o, "gb_s", bill_json(&s->usage, gb_seconds(byte_ms)));
	json_object_set_new(o, "price_usd", bill_json(&s->usage, price(byte_ms)));
	return o;
}

void report_print_json(struct report *r, FILE *to)
{
	char sum[U128_DIGITS];
	json_t *stages = json_array(), *o;
	uint64_t io_ns = 0, wait_ns = 0;

	for (size_t i = 0; i < STAGE_COUNT; i++) {
		if (r->stages[i].functions == 0)
			continue;
		json_array_append_new(stages, stage_json(r, i));
		io_ns += r->stages[i].io_ns;
		wait_ns += r->stages[i].wait_ns;
	}
	u128_format(r->sum, sum);
	o = json_pack("{sb ss ss ss? sI sI ss sI sf sf sf sf sI so}", "verified", r->is_verified,
		      "format", r->format == FORMAT_LINES ? "lines" : "records", "store", r->store,
		      "attach", r->attach, "count", (json_int_t)r->count, "bytes",
		      (json_int_t)r->bytes, "sum", sum, "duplicates", (json_int_t)r->duplicates,
		      "seconds", seconds(r->total_ns), "mb_per_s",
		      (double)r->bytes / 1e6 / seconds(r->total_ns), "ephemeral_io_s",
		      seconds(io_ns), "wait_s", seconds(wait_ns), "killed",
		      (json_int_t)killed_count(r), "stages", stages);
	json_object_set_new(o, "platform", json_stringn(r->platform, r->platform_len));
	json_object_set_new(o, "starts",
			    json_pack("{so so}", "cold", starts_json(&r->starts.cold), "warm",
				      starts_json(&r->starts.warm)));
	json_object_set_new(o, "attaching", attaching_json(&r->starts));
	json_object_set_new(o, "refused", json_integer(r->starts.refused_count));
	json_object_set_new(o, "gb_s", bill_json(&r->usage, gb_seconds(r->usage.dram_byte_ms)));
	json_object_set_new(o, "price_usd", bill_json(&r->usage, price(r->usage.dram_byte_ms)));
	json_object_set_new(o, "price_per_gb_hour", json_real(PRICE_PER_GB_HOUR));
	json_dumpf(o, to, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	fprintf(to, "\n");
	json_decref(o);
}
