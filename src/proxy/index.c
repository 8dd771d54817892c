/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/index.h"

#include <errno.h>

#include "base/container.h"
#include "base/node.h"

/*
 * Leases are written so often, a fraction of SERVE_MS; segments that are wanted back are looked at
 * more often, since somebody waits and nobody tells when a view ends.
 */
#define RENEW_MS 100
#define LOOK_MS  5

/* Steps of copying into a larger table, of INDEX_STEP entries each, in one look. */
#define COPY_STEPS 8

static struct job_index *index_find(const struct proxy *p, uint64_t job)
{
	for (struct list *l = p->indexes.next; l != &p->indexes; l = l->next) {
		struct job_index *x = container_of(l, struct job_index, link);

		if (x->job == job)
			return x;
	}
	return NULL;
}

static struct job_index *index_ref(struct job_index *x)
{
	x->user_count++;
	return x;
}

static void give_region(struct proxy *p, struct region *g)
{
	if (g)
		p->index_bytes -= g->size;
	region_free(g);
}

static void index_unref(struct job_index *x)
{
	struct proxy *p = x->proxy;

	if (--x->user_count > 0)
		return;
	give_region(p, x->head);
	give_region(p, x->table);
	give_region(p, x->next_table);
	node_free(x->pins);
	node_free(x->readers);
	node_free(x);
	p->index_count--;
}

static void stop_serving(struct job_index *x)
{
	if (x->until_ns)
		core_served(x->proxy->core, x->job);
	x->until_ns = NULL;
}

/* From here on views are revoked, and nothing is found. */
static void index_end(struct job_index *x)
{
	x->is_over = true;
	list_remove(&x->link);
	mapped_end_all(x);
	index_writer_close(&x->writer);
	stop_serving(x);
	index_unref(x);
}

/* Looking after them. */

static void look_soon(struct proxy *p, uint64_t ms)
{
	uint64_t due_ns = p->loop->now_ns + ms * 1000000;

	if (!timer_is_running(&p->index_look) || p->index_look.link.due > due_ns)
		timer_start(p->loop, &p->index_look, due_ns);
}

void index_look_soon(struct proxy *p)
{
	look_soon(p, LOOK_MS);
}

void index_renew(struct job_index *x)
{
	if (x->until_ns && !x->is_blind)
		index_writer_lease(&x->writer, *x->until_ns);
}

/* True: there is more. */
static bool copy_some(struct job_index *x)
{
	if (!x->next_table)
		return false;
	for (unsigned i = 0; i < COPY_STEPS; i++) {
		if (!index_writer_copy(&x->writer))
			continue;
		give_region(x->proxy, x->table);
		x->table = x->next_table;
		x->next_table = NULL;
		x->is_growing = false;
		return false;
	}
	return true;
}

static void look(struct timer *t)
{
	struct proxy *p = container_of(t, struct proxy, index_look);
	bool has_more = false;

	for (struct list *l = p->indexes.next; l != &p->indexes; l = l->next) {
		struct job_index *x = container_of(l, struct job_index, link);

		if (x->is_blind)
			x->is_blind = !mapped_drop_all(x);
		has_more |= mapped_look(x, false);
		has_more |= copy_some(x);
		has_more |= x->is_blind;
		index_renew(x);
	}
	if (!list_is_empty(&p->indexes))
		look_soon(p, has_more ? LOOK_MS : RENEW_MS);
}

static void blind(struct job_index *x)
{
	index_writer_lease(&x->writer, 0);
	x->is_blind = true;
	index_look_soon(x->proxy);
}

void proxy_forget(struct proxy *p, uint64_t job, struct slice path)
{
	struct job_index *x = index_find(p, job);

	if (!x)
		return;
	if (path.len > 0)
		index_writer_drop(&x->writer, index_hash(path.ptr, path.len, x->writer.seed));
	else if (!mapped_drop_all(x))
		blind(x);
}

void proxy_forget_shard(struct proxy *p, uint16_t shard)
{
	for (struct list *l = p->indexes.next; l != &p->indexes; l = l->next) {
		struct job_index *x = container_of(l, struct job_index, link);

		if (core_shard_of(p->core, x->job) == shard)
			blind(x);
	}
}

void index_segment_wanted(struct proxy *p, uint64_t job, uint64_t segment, bool is_short)
{
	struct job_index *x = index_find(p, job);

	if (x)
		mapped_want(x, segment, is_short);
}

void index_job_over(struct proxy *p, uint64_t job)
{
	struct job_index *x = index_find(p, job);

	if (x)
		index_end(x);
}

void indexes_init(struct proxy *p)
{
	list_init(&p->indexes);
	p->index_look.fire = look;
}

void indexes_stop(struct proxy *p)
{
	timer_stop(p->loop, &p->index_look);
	while (!list_is_empty(&p->indexes))
		index_end(container_of(p->indexes.next, struct job_index, link));
}

/* Making one. */

static int take_region(struct proxy *p, size_t size, struct region **ret)
{
	int r;

	if (p->index_bytes + size > p->config.index_bytes_max)
		return -EUSERS;
	p->index_bytes += size;
	r = region_new(p, size, ret);
	if (r < 0)
		p->index_bytes -= size;
	return r;
}

/* One that nobody reads goes for it. */
static bool has_room(struct proxy *p)
{
	for (struct list *l = p->indexes.next; l != &p->indexes; l = l->next) {
		struct job_index *x = container_of(l, struct job_index, link);

		if (p->index_count < p->config.indexes_max)
			break;
		if (x->user_count > 1)
			continue;
		index_end(x);
		break;
	}
	return p->index_count < p->config.indexes_max;
}

static int index_new(struct proxy *p, uint64_t job, struct job_index **ret)
{
	struct job_index *x = has_room(p) ? node_alloc(sizeof(*x)) : NULL;
	int r;

	if (!x)
		return -EUSERS;
	*x = (struct job_index){ .proxy = p, .job = job, .user_count = 1 };
	list_init(&x->link);
	p->index_count++;
	r = take_region(p, INDEX_HEAD_BYTES, &x->head);
	if (r == 0)
		r = take_region(p, INDEX_TABLE_BYTES_FIRST, &x->table);
	/* Two may have begun at the same time. */
	if (r == 0 && index_find(p, job))
		r = -EEXIST;
	if (r == 0)
		r = index_writer_open(&x->writer, x->head->memory.ptr, x->head->size,
				      x->table->memory.ptr, x->table->size, node_random_u64());
	if (r < 0) {
		index_unref(x);
		return r;
	}
	list_insert(&p->indexes, &x->link);
	look_soon(p, RENEW_MS);
	*ret = x;
	return 0;
}

static int index_get(struct proxy *p, uint64_t job, struct job_index **ret)
{
	int r = 0;

	*ret = index_find(p, job);
	if (!*ret)
		r = index_new(p, job, ret);
	if (r == -EEXIST) {
		*ret = index_find(p, job);
		r = 0;
	}
	return r;
}

/* Larger tables. */

static void grow_run(struct fiber *self);

struct growing {
	struct fiber fiber;
	struct job_index *index;
};

static void grow_ended(struct fiber *self)
{
	struct growing *g = container_of(self, struct growing, fiber);

	index_unref(g->index);
	node_free(g);
}

static void grow_run(struct fiber *self)
{
	struct job_index *x = container_of(self, struct growing, fiber)->index;
	uint64_t size = (uint64_t)x->table->size * 4;
	struct region *g = NULL;
	int r = size <= INDEX_TABLE_BYTES_MAX ? take_region(x->proxy, size, &g) : -EUSERS;

	if (r == 0 && !x->is_over)
		r = index_writer_grow(&x->writer, g->memory.ptr, g->size);
	if (r < 0 || x->is_over) {
		give_region(x->proxy, g);
		return; /* is_growing: it is not tried again */
	}
	x->next_table = g;
	index_look_soon(x->proxy);
}

void index_grow(struct job_index *x)
{
	struct growing *g;

	if (x->is_growing || x->is_over || !index_writer_is_full(&x->writer))
		return;
	g = node_alloc(sizeof(*g));
	if (!g)
		return;
	*g = (struct growing){ .index = index_ref(x) };
	x->is_growing = true;
	if (fiber_start(&x->proxy->loop->fibers, &g->fiber, grow_run, grow_ended) < 0)
		grow_ended(&g->fiber);
}

/* What is in it. */

int index_enter(struct job_index *x, const struct found *f, struct slice path)
{
	struct index_item item = { .len = f->stat.len,
				   .version = f->stat.version,
				   .object = f->stat.object,
				   .extent_count = f->stat.extent_count,
				   .tier = (uint8_t)f->stat.tier };
	int r;

	if (x->is_over || x->is_blind)
		return -EAGAIN;
	/* An entry has no room for a door's own words. */
	if (f->extent_count == 0 || f->extent_count != f->stat.extent_count ||
	    f->stat.attributes.len > 0)
		return -EOPNOTSUPP;
	r = mapped_get(x, f, &item.mapping, &item.offset);
	if (r < 0)
		return r;
	item.committed_ns = f->asked_ns - f->stat.age_ms * 1000000;
	if (f->stat.ttl_left_ms != NONE_64)
		item.expiry_ns = f->asked_ns + f->stat.ttl_left_ms * 1000000;
	item.seed = f->u.extents[0].seed;
	item.crc = f->u.extents[0].crc;
	r = index_writer_put(&x->writer, index_hash(path.ptr, path.len, x->writer.seed), &item);
	return r;
}

/* Readers. */

static int reader_add(struct job_index *x, struct reader *r, struct region *pins)
{
	unsigned n = x->reader_count;
	struct pins *grown_pins = node_resize(x->pins, (n + 1) * sizeof(*grown_pins));
	struct reader **grown;

	if (grown_pins)
		x->pins = grown_pins;
	grown = node_resize(x->readers, (n + 1) * sizeof(*grown));
	if (grown)
		x->readers = grown;
	if (!grown_pins || !grown)
		return -ENOMEM;
	*r = (struct reader){ .index = index_ref(x), .pins = pins, .nth = n };
	x->pins[n] = pins_of(pins->memory.ptr, pins->size);
	x->readers[n] = r;
	x->reader_count++;
	return 0;
}

void native_reader_close(struct native *n)
{
	struct reader *r = n->reader;
	struct job_index *x;

	if (!r)
		return;
	n->reader = NULL;
	x = r->index;
	x->reader_count--;
	x->pins[r->nth] = x->pins[x->reader_count];
	x->readers[r->nth] = x->readers[x->reader_count];
	x->readers[r->nth]->nth = r->nth;
	give_region(x->proxy, r->pins);
	node_free(r);
	if (x->reader_count == 0)
		stop_serving(x);
	if (!x->is_over)
		mapped_look(x, false);
	index_unref(x);
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

static int reader_new(struct op *op, struct job_index *x)
{
	struct native *n = native_of(op->request);
	struct reader *r = node_alloc(sizeof(*r));
	struct region *pins = NULL;
	int e = r ? take_region(x->proxy, INDEX_HEAD_BYTES, &pins) : -ENOMEM;

	if (e == 0 && (op->request->conn->is_closed || x->is_over))
		e = -ECANCELED;
	if (e == 0 && n->reader)
		e = -EEXIST;
	if (e == 0)
		e = reader_add(x, r, pins);
	if (e < 0) {
		give_region(x->proxy, pins);
		node_free(r);
		return e;
	}
	n->reader = r;
	return 0;
}

/* Answering. */

static int pass(struct conn *c, struct job_index *x, struct reader *r, bool is_next)
{
	int fds[3] = { memory_export(&x->table->memory) };

	if (is_next)
		return conn_pass_fds(c, fds, 1);
	fds[1] = memory_export(&x->head->memory);
	/* Ours has done its work: it is mapped. */
	fds[2] = r->pins->memory.fd;
	r->pins->memory.fd = -1;
	return conn_pass_fds(c, fds, 3);
}

static int index_answer(struct op *op, struct job_index *x, const struct index_req *req)
{
	struct reader *r = native_of(op->request)->reader;

	if (!r || r->index != x || x->is_over || op->request->conn->is_closed)
		return -ECANCELED;
	if (!req->is_next && r->pins->memory.fd < 0)
		return -EEXIST;
	return pass(op->request->conn, x, r, req->is_next != 0);
}

static void index_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct rcur body = request_body(r);
	struct job_index *x = NULL;
	struct index_rep rep = { .head_size = INDEX_HEAD_BYTES, .pins_size = INDEX_HEAD_BYTES };
	struct index_req req;
	struct wcur w;
	int e = index_req_get(&body, &req);

	if (e == 0)
		e = index_get(op->proxy, op->job, &x);
	if (e == 0)
		index_ref(x);
	if (e == 0 && !req.is_next && !native_of(r)->reader)
		e = reader_new(op, x);
	if (e == 0)
		e = serve(op, x);
	if (e == 0)
		e = index_answer(op, x, &req);
	if (e == 0)
		rep.table_size = (uint32_t)x->table->size;
	if (x)
		index_unref(x);
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

/* MAPPING. */

static void parts_sent(struct payload *p)
{
	node_free(p);
}

static struct payload *parts_payload(const struct mapped *m)
{
	size_t len = (size_t)m->part_count * MAPPING_PART_SIZE;
	struct payload *p = node_alloc(sizeof(*p) + len);
	struct wcur w;

	if (!p)
		return NULL;
	*p = (struct payload){ .ptr = p + 1, .len = len, .sent = parts_sent };
	w = wcur_make(p + 1, len);
	for (uint32_t i = 0; i < m->part_count; i++)
		mapping_part_put(&w, &m->parts[i]);
	return p;
}

void mapping_serve(struct request *r)
{
	struct rcur body = request_body(r);
	const struct reader *reader = native_of(r)->reader;
	const struct job_index *x = reader ? reader->index : NULL;
	const struct mapped *m = NULL;
	struct payload *payload = NULL;
	struct mapping_req req;
	struct wcur w;

	if (mapping_req_get(&body, &req) == 0 && x && req.number < x->mapped_count)
		m = x->mapped[req.number];
	if (!m || m->is_revoked || m->wanted_ns) {
		request_fail(r, -ENOENT, "nothing is mapped under this number");
		return;
	}
	payload = parts_payload(m);
	if (!payload) {
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	w = request_answer(r);
	mapping_rep_put(&w,
			&(struct mapping_rep){ .life = index_writer_life(&x->writer, req.number),
					       .count = (uint16_t)m->part_count });
	request_reply(r, &w, payload);
}
