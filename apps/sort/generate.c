/* SPDX-License-Identifier: Apache-2.0 */
/* generate: a file of records to sort. */
#include <errno.h>

#include "function.h"
#include "output.h"
#include "region.h"

#define BATCH 8192 /* records: fits in the cache, and is a large write */

static int records_write(struct function *f, struct output *out, uint8_t *buf)
{
	struct generator g;

	generator_init(&g, f->req->skew, f->req->first);
	while (f->count < f->req->count) {
		uint64_t left = f->req->count - f->count;
		size_t n = left < BATCH ? (size_t)left : BATCH;
		int r;

		generator_make(&g, buf, n);
		for (size_t i = 0; i < n; i++)
			function_tally(f, buf + i * RECORD_SIZE, RECORD_SIZE);
		r = out->sink.write(&out->sink, buf, n * RECORD_SIZE);
		if (r < 0)
			return r;
	}
	return output_commit(out);
}

int generate_run(struct function *f)
{
	struct region buf = { 0 };
	struct output out;
	int r;

	if (!f->req->output)
		return problem_set_final(f->problem, -EINVAL, "generate: no \"output\"");
	if (region_init(&buf, BATCH * RECORD_SIZE) < 0)
		return function_no_memory(f, BATCH * RECORD_SIZE);
	r = output_open(&out, f->req->output, f->problem);
	if (r == 0)
		r = records_write(f, &out, buf.ptr);
	f->written_bytes = out.written;
	output_fini(&out);
	region_fini(&buf);
	return r;
}
