/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/alone.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/node.h"

static uint64_t cpu_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int alone_run(struct alone *a, uint64_t names, uint64_t count, uint64_t ns)
{
	uint64_t begun_ns = node_now_ns(), at_ns = begun_ns, cpu_ns = cpu_now_ns(), n = 0;
	int r = 0;

	memset(&a->latency, 0, sizeof(a->latency));
	a->calls = 0;
	while (r >= 0 && a->calls < count && at_ns - begun_ns < ns) {
		uint64_t next_ns;

		for (unsigned i = 0; i < ALONE_CALLS && r >= 0; i++) {
			n = (n + ALONE_STEP) % names;
			r = a->call(a, n);
		}
		next_ns = node_now_ns();
		histogram_add(&a->latency, (next_ns - at_ns) / ALONE_CALLS);
		a->calls += ALONE_CALLS;
		at_ns = next_ns;
		if (bench_is_interrupted())
			r = -ECANCELED;
	}
	a->busy_ns = at_ns - begun_ns;
	a->cpu_ns = cpu_now_ns() - cpu_ns;
	return r < 0 ? r : 0;
}

void alone_give(struct alone *a, const char *op, double object_bytes)
{
	struct bench_row row = {
		.bench = bench_kind_name(a->kind),
		.op = op,
		.system = "wadi",
		.attach = "none",
		.mode = a->b->is_awake ? "awake" : "quiet",
		.size = a->size,
		.clients = 1,
		.depth = 1,
		.p50_us = (double)histogram_at(&a->latency, 0.5) / 1e3,
		.p99_us = (double)histogram_at(&a->latency, 0.99) / 1e3,
		.p999_us = (double)histogram_at(&a->latency, 0.999) / 1e3,
		.max_us = (double)a->latency.max / 1e3,
		.ops_per_s = (double)a->calls * 1e9 / (double)a->busy_ns,
		.mb_per_s = (double)a->calls * (double)a->moved * 1e3 / (double)a->busy_ns,
		.server_cpu_us = (double)a->cpu_ns / 1e3 / (double)a->calls,
		.client_cpu_us = NAN,
		.least_share = NAN,
		.object_bytes = object_bytes,
		.beside_mb_per_s = NAN,
		.behind_cpu_us = NAN,
	};

	a->b->sink->row(a->b->sink, &row);
}
