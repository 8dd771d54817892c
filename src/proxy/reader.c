/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader: a connection that has the index of its job, and pins of its own. A function that comes
 * back after its proxy was killed names the reader that it was, and goes on with its views.
 */
#include <errno.h>

#include "base/container.h"
#include "base/node.h"
#include "proxy/index.h"

int reader_add(struct job_index *x, uint64_t id, struct region *pins, struct reader **ret)
{
	unsigned n = x->reader_count;
	struct pins *grown_pins = node_resize(x->pins, (n + 1) * sizeof(*grown_pins));
	struct reader **grown, *r = node_alloc(sizeof(*r));

	if (grown_pins)
		x->pins = grown_pins;
	grown = node_resize(x->readers, (n + 1) * sizeof(*grown));
	if (grown)
		x->readers = grown;
	if (!grown_pins || !grown || !r) {
		node_free(r);
		return -ENOMEM;
	}
	*r = (struct reader){ .index = index_ref(x),
			      .pins = pins,
			      .id = id,
			      .since_ns = x->proxy->loop->now_ns,
			      .nth = n };
	x->pins[n] = pins_of(pins->memory.ptr, pins->size);
	x->readers[n] = r;
	x->reader_count++;
	x->proxy->reader_count++;
	*ret = r;
	return 0;
}

void reader_remove(struct reader *r)
{
	struct job_index *x = r->index;

	x->reader_count--;
	x->proxy->reader_count--;
	x->pins[r->nth] = x->pins[x->reader_count];
	x->readers[r->nth] = x->readers[x->reader_count];
	x->readers[r->nth]->nth = r->nth;
	index_give_region(x->proxy, r->pins);
	node_free(r);
	index_unref(x);
}

static void attach(struct native *n, struct reader *r)
{
	n->reader = r;
	r->native = n;
	r->index->native_count++;
}

void native_reader_close(struct native *n)
{
	struct job_index *x;

	if (!n->reader)
		return;
	x = index_ref(n->reader->index);
	reader_remove(n->reader);
	n->reader = NULL;
	if (--x->native_count == 0)
		index_stop_serving(x);
	if (!x->is_over)
		mapped_look(x, false);
	index_unref(x);
}

void readers_look(struct job_index *x)
{
	uint64_t now_ns = x->proxy->loop->now_ns;

	for (unsigned i = x->reader_count; i-- > 0;) {
		struct reader *r = x->readers[i];

		if (!r->native && now_ns - r->since_ns >= SESSION_LIFE_MS * 1000000ull)
			reader_remove(r);
	}
}

void readers_end(struct job_index *x)
{
	for (unsigned i = x->reader_count; i-- > 0;)
		if (!x->readers[i]->native)
			reader_remove(x->readers[i]);
}

/* Whoever reads it is answered for as long as our shard answers us. */
static int serve(struct op *op, struct job_index *x)
{
	const uint64_t *until_ns;
	int r;

	if (x->until_ns)
		return 0;
	r = core_serve(x->proxy->core, x->job, op->request->due_ns, &until_ns);
	if (r < 0)
		return r;
	if (x->until_ns || x->is_over)
		core_served(x->proxy->core, x->job);
	else
		x->until_ns = until_ns;
	return x->is_over ? -EIDRM : 0;
}

static bool has_room(const struct proxy *p)
{
	return p->reader_count < p->config.rings_max;
}

static int reader_new(struct op *op, struct job_index *x)
{
	struct native *n = native_of(op->request);
	struct keep_name name = { KEEP_PINS, x->place, node_random_u64() >> 1 | 1 };
	struct region *pins = NULL;
	struct reader *r;
	int e = has_room(x->proxy) ? 0 : -EUSERS;

	if (e == 0)
		e = index_take_region(x->proxy, INDEX_HEAD_BYTES, &name, &pins);
	/* Others have waited, too. */
	if (e == 0 && !has_room(x->proxy))
		e = -EUSERS;
	if (e == 0 && (op->request->conn->is_closed || x->is_over))
		e = -ECANCELED;
	if (e == 0 && n->reader)
		e = -EEXIST;
	if (e == 0)
		e = reader_add(x, name.number, pins, &r);
	if (e < 0) {
		index_give_region(x->proxy, pins);
		return e;
	}
	attach(n, r);
	return 0;
}

/* The one that this function was, if nobody else is. */
static bool reader_again(struct native *n, const struct job_index *x, uint64_t id)
{
	for (unsigned i = 0; i < x->reader_count; i++) {
		if (x->readers[i]->native || x->readers[i]->id != id)
			continue;
		attach(n, x->readers[i]);
		return true;
	}
	return false;
}

static int reader_get(struct op *op, struct job_index *x, const struct index_req *req,
		      bool *ret_is_again)
{
	struct native *n = native_of(op->request);

	*ret_is_again = false;
	if (req->is_next)
		return n->reader ? 0 : -ECANCELED;
	if (n->reader)
		return n->reader->is_passed ? -EEXIST : 0;
	*ret_is_again = req->reader && reader_again(n, x, req->reader);
	return *ret_is_again ? 0 : reader_new(op, x);
}

/* Answering. */

static int pass(struct op *op, struct job_index *x, bool is_table_alone)
{
	struct reader *r = native_of(op->request)->reader;
	unsigned count = is_table_alone ? 1 : 3;
	int fds[3], err;

	if (!r || r->index != x || x->is_over || op->request->conn->is_closed)
		return -ECANCELED;
	fds[0] = memory_export(&x->table->memory);
	if (!is_table_alone) {
		fds[1] = memory_export(&x->head->memory);
		fds[2] = memory_export_to_write(&r->pins->memory);
	}
	err = conn_pass_fds(op->request->conn, fds, count);
	r->is_passed = err == 0; /* else it may ask once more */
	return err;
}

static int answer(struct op *op, struct job_index *x, const struct index_req *req,
		  struct index_rep *ret)
{
	bool is_again;
	int r = reader_get(op, x, req, &is_again);

	if (r == 0)
		r = serve(op, x);
	if (r == 0)
		r = pass(op, x, is_again || req->is_next);
	if (r < 0)
		return r;
	index_renew(x);
	*ret = (struct index_rep){ .reader = native_of(op->request)->reader->id,
				   .head_size = INDEX_HEAD_BYTES,
				   .table_size = (uint32_t)x->table->size,
				   .pins_size = INDEX_HEAD_BYTES,
				   .is_again = is_again };
	return 0;
}

static void index_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct rcur body = request_body(r);
	struct job_index *x = NULL;
	struct index_rep rep;
	struct index_req req;
	struct wcur w;
	int e = index_req_get(&body, &req);

	if (e == 0)
		e = index_get(op->proxy, op->job, &x);
	if (e == 0) {
		index_ref(x);
		e = answer(op, x, &req, &rep);
		index_unref(x);
	}
	if (e < 0) {
		request_fail(r, e == -EMFILE || e == -ENFILE || e == -EBUSY ? -EUSERS : e,
			     "no index: %s", strerror(-e));
		return;
	}
	w = request_answer(r);
	index_rep_put(&w, &rep);
	request_reply(r, &w, NULL);
}

void index_serve(struct request *r)
{
	const char *why = "this proxy has no room for an index";
	int x = near_check(r, &why);

	if (x == 0 && proxy_of(r)->config.indexes_max == 0) {
		why = "this proxy makes no indexes";
		x = -EOPNOTSUPP;
	}
	if (x < 0)
		request_fail(r, x, "%s", why);
	else
		op_serve(op_new(proxy_of(r), r), r, index_run);
}
