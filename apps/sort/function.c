/* SPDX-License-Identifier: Apache-2.0 */
#include "function.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <isa-l/crc64.h>

#include "clock.h"

static const struct {
	const char *op;
	function_fn *run;
	bool has_store;
} KINDS[] = {
	{ "generate", generate_run, false },
	{ "sample", sample_run, true },
	{ "map", map_run, true },
	{ "reduce", reduce_run, true },
	{ "validate", validate_run, false },
};

int function_no_memory(struct function *f, size_t len)
{
	return problem_set(f->problem, -ENOMEM, "no memory for %zu bytes more, of %zu in all", len,
			   f->req->function_memory);
}

void function_tally(struct function *f, const uint8_t *item, size_t size)
{
	f->count++;
	if (f->req->format == FORMAT_RECORDS)
		f->sum += record_sum(item);
	else
		f->sum += crc64_ecma_refl(0, item, size);
}

static uint64_t peak_memory(void)
{
	struct rusage u;

	return getrusage(RUSAGE_SELF, &u) < 0 ? 0 : (uint64_t)u.ru_maxrss << 10;
}

static json_t *reply_make(const struct function *f, uint32_t run, uint64_t wall_ns)
{
	static const struct store_stats NONE;
	const struct store_stats *st = f->store ? &f->store->stats : &NONE;
	char sum[U128_DIGITS];
	json_t *reply;

	u128_format(f->sum, sum);
	reply = json_pack("{ss sI sI sI ss sI sI sI sI sI sI sI sI sI}", "op", f->req->op, "index",
			  (json_int_t)f->req->index, "attempt", (json_int_t)f->req->attempt,
			  "count", (json_int_t)f->count, "sum", sum, "read_bytes",
			  (json_int_t)f->read_bytes, "written_bytes", (json_int_t)f->written_bytes,
			  "wall_ns", (json_int_t)wall_ns, "io_ns", (json_int_t)st->io_ns, "wait_ns",
			  (json_int_t)st->wait_ns, "store_read_bytes", (json_int_t)st->read_bytes,
			  "store_written_bytes", (json_int_t)st->write_bytes, "peak_memory",
			  (json_int_t)peak_memory(), "run", (json_int_t)run);
	if (reply && f->store)
		json_object_set_new(reply, "attach_ns", json_integer((json_int_t)f->attach_ns));
	if (reply && f->more)
		json_object_update(reply, f->more);
	return reply;
}

static int store_attach(struct function *f, struct instance *i)
{
	int r;

	if (!f->req->store.url || !f->req->store.job)
		return problem_set_final(f->problem, -EINVAL, "the request names no store and job");
	r = instance_store_take(i, &f->req->store, f->problem, &f->store);
	if (r == 0)
		f->attach_ns = f->store->stats.io_ns; /* all that there is so far */
	return r;
}

static int run_kind(struct function *f, struct instance *instance)
{
	for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++) {
		int r = 0;

		if (strcmp(f->req->op, KINDS[i].op) != 0)
			continue;
		if (KINDS[i].has_store)
			r = store_attach(f, instance);
		return r < 0 ? r : KINDS[i].run(f);
	}
	return problem_set_final(f->problem, -EINVAL, "no function \"%s\"", f->req->op);
}

static json_t *run_value(struct instance *i, const json_t *value, struct problem *problem)
{
	uint64_t start_ns = clock_ns();
	struct request req;
	struct function f = { .req = &req, .problem = problem };
	json_t *reply = NULL;

	if (request_parse(value, &req, problem) < 0)
		return NULL;
	if (run_kind(&f, i) == 0)
		reply = reply_make(&f, i->runs, clock_ns() - start_ns);
	instance_store_give(i, f.store, reply != NULL);
	json_decref(f.more);
	request_fini(&req);
	return reply;
}

/* A sentence that was cut inside of a letter, or quotes bytes that are none, is no JSON. */
static json_t *error_make(const struct problem *p)
{
	static const char FORMAT[] = "{ss sb}";
	struct problem plain = *p;
	json_t *reply;

	if (!plain.text[0])
		strcpy(plain.text, "no memory for the reply");
	reply = json_pack(FORMAT, "error", plain.text, "is_final", plain.is_final);
	for (char *c = plain.text; !reply && *c; c++)
		if ((unsigned char)*c > '~')
			*c = '?';
	return reply ? reply : json_pack(FORMAT, "error", plain.text, "is_final", plain.is_final);
}

char *function_run(struct instance *i, const char *line, size_t len)
{
	struct problem problem = { 0 };
	json_error_t error;
	json_t *root = json_loadb(line, len, 0, &error);
	json_t *reply = NULL;
	char *text;

	i->runs++;
	if (root)
		reply = run_value(i, json_object_get(root, "value"), &problem);
	else
		problem_set_final(&problem, -EINVAL, "not a line of JSON: %s at %d", error.text,
				  error.position);
	if (!reply)
		reply = error_make(&problem);
	text = json_dumps(reply, JSON_COMPACT);
	json_decref(reply);
	json_decref(root);
	return text;
}
