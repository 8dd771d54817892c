/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wadi/wadi.h>

#include "base/container.h"
#include "base/quantity.h"
#include "base/words.h"
#include "bench/first.h"
#include "cli/cli.h"
#include "cli/terminal.h"

/* What is printed, and where. */
struct printer {
	struct bench_sink sink;
	const struct bench *b;
	struct bench_table table;
	struct bench_plot plot;
	bool is_json;
	int error; /* of writing to standard output */
};

static void take_row(struct bench_sink *s, const struct bench_row *row)
{
	struct printer *p = container_of(s, struct printer, sink);

	if (p->is_json) {
		bench_json(stdout, row);
		fflush(stdout);
	} else {
		bench_table_row(&p->table, row, p->b->pairs);
	}
	if (ferror(stdout) && p->error == 0) {
		p->error = errno ? -errno : -EIO;
		bench_interrupt();
	}
	if (p->plot.rows && p->plot.count < BENCH_ROWS_MAX)
		p->plot.rows[p->plot.count++] = *row;
}

static void take_skipped(struct bench_sink *s, const char *why)
{
	char safe[1024];

	(void)s;
	fprintf(stderr, "wadi: bench: left out: %s\n",
		name_safe(why, strlen(why), safe, sizeof(safe)));
}

/* "64,4K,1M" */
static int parse_list(const struct invocation *in, const char *option, const char *text,
		      uint64_t least, uint64_t most, struct bench_list *ret)
{
	const char *at = text;

	while (at) {
		size_t len = strcspn(at, ",");
		char word[QUANTITY_TEXT_MAX];
		uint64_t value = 0;

		snprintf(word, sizeof(word), "%.*s", (int)len, at);
		if (len >= sizeof(word) || bytes_parse(word, &value) < 0)
			return fail_usage(in, "--%s: '%.100s' is not a list like 64,4K,1M", option,
					  text);
		if (value < least || value > most)
			return fail_usage(in, "--%s: %s is too %s; type %llu to %llu", option, word,
					  value < least ? "small" : "large",
					  (unsigned long long)least, (unsigned long long)most);
		if (ret->count == BENCH_LIST_MAX)
			return fail_usage(in, "--%s: at most %u values", option, BENCH_LIST_MAX);
		ret->values[ret->count++] = value;
		at = at[len] ? at + len + 1 : NULL;
	}
	return EXIT_DONE;
}

/* Names of benches as a set; none: get and put. */
static int parse_kinds(const struct invocation *in, unsigned *ret)
{
	*ret = in->word_count ? 0 : 1u << BENCH_KIND_GET | 1u << BENCH_KIND_PUT;
	for (int i = 0; i < in->word_count; i++) {
		struct nearest near = nearest_begin(in->words[i]);
		unsigned k = 0;

		if (strcmp(in->words[i], "all") == 0) {
			*ret = (1u << BENCH_KIND_COUNT) - 1;
			continue;
		}
		while (k < BENCH_KIND_COUNT && strcmp(bench_kind_name(k), in->words[i]) != 0)
			nearest_try(&near, bench_kind_name(k++));
		nearest_try(&near, "all");
		if (k == BENCH_KIND_COUNT && nearest_end(&near))
			return fail_usage(in, "there is no bench '%.100s'; did you mean %s?",
					  in->words[i], nearest_end(&near));
		if (k == BENCH_KIND_COUNT)
			return fail_usage(
				in, "there is no bench '%.100s'; `wadi bench --help` lists them",
				in->words[i]);
		*ret |= 1u << k;
	}
	return EXIT_DONE;
}

/* What an endpoint is; of a Unix socket only who asks knows whether it is a sidecar's. */
static enum bench_attach attach_of(const char *endpoint, enum bench_attach said)
{
	if (strncmp(endpoint, "unix://", 7) == 0)
		return said == BENCH_SIDECAR ? said : BENCH_HOST;
	return strncmp(endpoint, "direct://", 9) == 0 ? BENCH_DIRECT : BENCH_PROXY;
}

/* A turn without a request measures nothing. */
static int check_rate(const struct invocation *in, const struct bench_options *o)
{
	uint64_t least = (o->pairs * o->threads + o->seconds - 1) / o->seconds;

	if (o->rate == 0 || o->rate >= least)
		return EXIT_DONE;
	return fail_usage(in,
			  "--rate %llu is less than one request for each turn and thread; type "
			  "--rate %llu or more, fewer --pairs, or more --seconds",
			  (unsigned long long)o->rate, (unsigned long long)least);
}

static int bench_of(const struct invocation *in, const struct bench_options *o, struct bench *b)
{
	int code = client_check(in);

	if (code == EXIT_DONE)
		code = parse_kinds(in, &b->kinds);
	if (code == EXIT_DONE)
		code = parse_list(in, "sizes", o->sizes, 0, BENCH_SIZE_MAX, &b->sizes);
	if (code == EXIT_DONE)
		code = parse_list(in, "clients", o->clients, 1, BENCH_CLIENTS_MAX, &b->clients);
	if (code == EXIT_DONE)
		code = parse_list(in, "depth", o->depth, 1, BENCH_DEPTH_MAX, &b->depths);
	if (code == EXIT_DONE)
		code = check_rate(in, o);
	if (code == EXIT_DONE && o->endpoint)
		b->attach = attach_of(o->endpoint, b->attach);
	return code;
}

/* This program, for a store of our own. */
static const char *own_path(char *buf, size_t cap)
{
	ssize_t n = readlink("/proc/self/exe", buf, cap - 1);

	if (n < 0)
		return "wadi";
	buf[n] = '\0';
	return buf;
}

static int run(const struct invocation *in, struct printer *p, struct bench *b, const char *plot)
{
	int r;

	p->plot.rows = plot ? calloc(BENCH_ROWS_MAX, sizeof(*p->plot.rows)) : NULL;
	if (plot && !p->plot.rows)
		return fail_local(in, "cannot draw", plot, -ENOMEM);
	r = bench_run(b);
	if (p->error < 0) {
		free(p->plot.rows);
		return fail_local(in, "cannot write to", "standard output", p->error);
	}
	if (r < 0) {
		char safe[1024];

		fprintf(stderr, "wadi: bench: %s: %s\n", wadi_status_name(r),
			name_safe(b->error, strlen(b->error), safe, sizeof(safe)));
		free(p->plot.rows);
		return exit_code_of(r);
	}
	r = plot ? bench_plot_write(&p->plot, plot) : 0;
	free(p->plot.rows);
	return r < 0 ? fail_local(in, "cannot write", plot, r) : EXIT_DONE;
}

int command_bench(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	struct bench_options o;
	struct bench b = { 0 };
	struct printer p = { .sink = { take_row, take_skipped }, .b = &b, .table.f = stdout };
	char program[4096];
	int code;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	b.program = own_path(program, sizeof(program));
	b.endpoint = o.endpoint;
	b.token = o.token;
	b.attach = (enum bench_attach)o.attach;
	b.memory = o.memory;
	b.objects = o.objects;
	b.peers = o.peer;
	b.rate = (double)o.rate;
	b.row_ns = o.seconds * 1000000000u;
	b.pairs = (unsigned)o.pairs;
	b.threads = (unsigned)o.threads;
	b.is_awake = o.awake;
	b.sink = &p.sink;
	b.is_json = p.is_json = o.json;
	code = bench_of(&in, &o, &b);
	if (o.first && code == EXIT_DONE)
		return first_main(o.first, b.sizes.values[0]);
	return code ? code : run(&in, &p, &b, o.plot);
}
