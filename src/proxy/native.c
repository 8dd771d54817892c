/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/container.h"
#include "base/log.h"
#include "base/node.h"
#include "proxy/index.h"
#include "wire/token.h"

#define DEFAULT_JOB "default"

struct proxy *proxy_of(const struct request *r)
{
	return r->conn->owner;
}

struct native *native_of(const struct request *r)
{
	return r->conn->state;
}

/* Until it is answered: the request with its body, a question with another, pages of a stack. */
#define TURN_BYTES \
	(sizeof(struct op) + sizeof(struct reading) + sizeof(struct request) + 4 * BODY_BYTES)

static void op_unkeep(struct op *op)
{
	if (op->kept > 0)
		conn_unkeep(op->request->conn, op->kept);
	op->kept = 0;
}

/* The connection is gone: whatever the fiber waits for is over. */
static void op_closed(struct request *r)
{
	struct op *op = r->owner;

	if (!op || op->request != r)
		return;
	if (op->fiber.run) {
		fiber_cancel(&op->fiber);
	} else if (!list_is_empty(&op->in_line)) {
		op_unkeep(op);
		op_free(op);
		request_fail(r, -ECANCELED, NULL); /* goes nowhere */
	}
}

struct op *op_new(struct proxy *p, struct request *r)
{
	struct op *op = spares_take(&p->spare_ops, sizeof(*op));

	if (!op)
		return NULL;
	*op = (struct op){ .proxy = p,
			   .request = r,
			   .job = r->conn->access ? r->conn->access->job : 0 };
	list_init(&op->sending);
	r->owner = op;
	r->closed = op_closed;
	list_init(&op->in_line);
	p->op_count++;
	return op;
}

void op_free(struct op *op)
{
	if (!op)
		return;
	list_remove(&op->in_line);
	piece_end(op->proxy->core, &op->piece);
	reading_leave(op);
	op->proxy->op_count--;
	spares_give(&op->proxy->spare_ops, op, sizeof(*op));
}

static void op_ended(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);

	op->has_ended = true;
	if (!op->is_sending)
		op_free(op);
}

int op_begin(struct op *op, fiber_fn *run)
{
	return fiber_start(&op->proxy->loop->fibers, &op->fiber, run, op_ended);
}

void op_refuse(struct op *op, struct request *r, int x)
{
	const char *why;

	x = fiber_refused(x, TOO_MANY_OPS, &why);
	if (op)
		op_unkeep(op);
	op_free(op);
	request_fail(r, x, "%s", why);
}

void op_serve(struct op *op, struct request *r, fiber_fn *run)
{
	int x = op ? op_begin(op, run) : -ENOMEM;

	if (x < 0)
		op_refuse(op, r, x);
}

static int turn_begin(struct op *op, struct native *n)
{
	int r = op_begin(op, op->run);

	op->native = n;
	op->has_turn = r == 0;
	n->answer_count += r == 0;
	return r;
}

void op_serve_in_turn(struct op *op, struct request *r, fiber_fn *run)
{
	struct native *n = native_of(r);
	int x = op ? 0 : -ENOMEM;

	if (x == 0) {
		op->run = run;
		op->kept += (uint32_t)TURN_BYTES;
		conn_keep(r->conn, op->kept);
	}
	if (x == 0 && n->answer_count >= CONN_ANSWERS_MAX)
		list_insert(&n->in_line, &op->in_line);
	else if (x == 0)
		x = turn_begin(op, n);
	if (x < 0)
		op_refuse(op, r, x);
}

void op_turn_over(struct op *op)
{
	struct native *n = op->native;

	if (!op->has_turn)
		return;
	op->has_turn = false;
	op_unkeep(op);
	n->answer_count--;
	while (n->answer_count < CONN_ANSWERS_MAX && !list_is_empty(&n->in_line)) {
		struct op *next = container_of(n->in_line.next, struct op, in_line);
		int x;

		list_remove(&next->in_line);
		x = turn_begin(next, n);
		if (x < 0)
			op_refuse(next, next->request, x);
	}
}

int answer_enter(struct op *op, uint32_t len)
{
	struct native *n = op->native = native_of(op->request);

	while (n->answer_bytes > 0 && n->answer_bytes + len > CONN_SEND_QUEUE_BYTES) {
		int r = waitq_wait(&n->answering, op->request->due_ns);

		if (r < 0)
			return r;
	}
	n->answer_bytes += len;
	op->answer_bytes = len;
	waitq_wake(&n->answering); /* there may be room for the next one, too */
	return 0;
}

void answer_leave(struct op *op)
{
	if (op->answer_bytes == 0)
		return;
	op->native->answer_bytes -= op->answer_bytes;
	op->answer_bytes = 0;
	waitq_wake(&op->native->answering);
}

int check_put(struct slice path, uint16_t flags, uint16_t tier, uint16_t copies,
	      struct slice attributes, const char **ret_why)
{
	if (!path_is_valid(path, ret_why))
		return -EINVAL;
	*ret_why = "unknown flags";
	if (flags & ~(unsigned)PUT_FLAGS_ALL)
		return -EINVAL;
	*ret_why = "attributes have at most 512 bytes";
	if (attributes.len > ATTRIBUTES_BYTES_MAX)
		return -EMSGSIZE;
	*ret_why = "durable is for a job as a whole: create it so";
	if (flags & PUT_DURABLE)
		return -EOPNOTSUPP;
	*ret_why = "this store has the tier dram only";
	if (tier != TIER_ANY && tier != TIER_DRAM)
		return tier < TIER_COUNT ? -EOPNOTSUPP : -EINVAL;
	*ret_why = "this store keeps one copy";
	return copies > 1 ? -EOPNOTSUPP : 0;
}

/* HELLO. */

static int show_job(struct op *op, struct slice name, struct job_show_rep *ret)
{
	struct ask a;
	struct rcur body;
	struct wcur w = ask_begin(op->proxy->core, &a, MSG_JOB_SHOW, slot_of_name(name));
	int r;

	job_show_req_put(&w, &(struct job_show_req){ .name = name });
	r = ask_wait(&a, &w, NULL, op->request->due_ns);
	body = ask_reply(&a);
	if (r == 0)
		r = job_show_rep_get(&body, ret);
	ret->name = name; /* what was decoded goes with the answer */
	ask_end(&a);
	return r;
}

static int make_default_job(struct op *op, struct slice name)
{
	struct ask a;
	struct wcur w = ask_begin(op->proxy->core, &a, MSG_JOB_CREATE, slot_of_name(name));
	int r;

	job_create_req_put(&w,
			   &(struct job_create_req){ .lease_ms = JOB_LEASE_MS_MAX, .name = name });
	r = ask_wait(&a, &w, NULL, op->request->due_ns);
	ask_end(&a);
	return r == -EEXIST ? 0 : r;
}

/* Who may make jobs is himself in one: `default`. */
static int hello_default(struct op *op, struct access *a, struct job_show_rep *job)
{
	static const struct slice name = { (const uint8_t *)DEFAULT_JOB, sizeof(DEFAULT_JOB) - 1 };
	int r = show_job(op, name, job);

	if (r == -ENXIO || (r == 0 && job->has_ended)) {
		r = make_default_job(op, name);
		if (r == 0)
			r = show_job(op, name, job);
	}
	a->job = job->job;
	a->rights = RIGHTS_OF_JOB | RIGHT_ADMIN;
	return r;
}

static int hello_token(struct op *op, struct slice secret, struct access *a, struct token *t,
		       struct job_show_rep *job)
{
	const struct proxy_config *config = &op->proxy->config;
	int r = -EKEYREJECTED;

	if (config->token_key)
		r = token_verify(secret, config->token_key, config->token_key_len, node_wall_ns(),
				 t);
	if (r == 0) {
		r = show_job(op, t->job_name, job);
		if (r == -ENXIO || (r == 0 && (job->job != t->job || job->has_ended)))
			r = -EIDRM;
	}
	if (r < 0) {
		snprintf(op->why, sizeof(op->why), "%s", token_why(r));
		return r;
	}
	a->job = t->job;
	a->rights = t->rights & RIGHTS_OF_JOB;
	a->valid_until_ns = t->valid_until_ns;
	a->prefix_len = (uint16_t)t->prefix.len;
	if (t->prefix.len > 0)
		memcpy(a->prefix, t->prefix.ptr, t->prefix.len);
	return 0;
}

/*
 * Metadata has looked at the token. What it said of the job is good if it was said just now;
 * else, of a client that was kept warm, it is asked again.
 */
static int hello_private(struct op *op, struct access *a, struct job_show_rep *job)
{
	uint64_t begun_ns = op->proxy->loop->now_ns;
	const struct identity *i;
	int r = core_identify(op->proxy->core, op->request->due_ns, &i, op->why, sizeof(op->why));
	bool is_fresh = r == 0 && i->job && i->heard_ns >= begun_ns;

	if (r < 0)
		return r;
	if (i->rights & RIGHT_ADMIN && !is_fresh)
		return hello_default(op, a, job);
	if (i->prefix_len > 0) {
		snprintf(op->why, sizeof(op->why),
			 "a token for some paths goes to a proxy: segments have bytes of others");
		return -EACCES;
	}
	*job = (struct job_show_rep){ .job = i->job,
				      .changes = i->changes,
				      .name = { i->job_name, i->job_name_len } };
	if (i->rights & RIGHT_JOB && !is_fresh)
		r = show_job(op, job->name, job);
	if (r == 0 && (job->job != i->job || job->has_ended))
		r = -EIDRM;
	if (r == -EIDRM || r == -ENXIO)
		snprintf(op->why, sizeof(op->why), "%s", token_why(r));
	a->job = i->job;
	a->rights = i->rights;
	return r;
}

static int hello(struct op *op, const struct hello_req *req, struct access *a, struct token *t,
		 struct job_show_rep *job)
{
	struct peer *peer = &op->request->conn->peer;

	a->role = ROLE_JOB;
	if (req->version != PROTOCOL_VERSION) {
		snprintf(op->why, sizeof(op->why), "we speak version %d", PROTOCOL_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (req->role != ROLE_JOB) {
		snprintf(op->why, sizeof(op->why), "this is a proxy, for functions");
		return -EOPNOTSUPP;
	}
	if (op->proxy->config.is_private)
		return hello_private(op, a, job);
	if (secret_is(req->secret, op->proxy->config.key))
		return hello_default(op, a, job);
	if (req->secret.len > 0)
		return hello_token(op, req->secret, a, t, job);
	if (op->proxy->config.is_open_loopback && peer->is_loopback)
		return hello_default(op, a, job);
	snprintf(op->why, sizeof(op->why), "this store wants a token: WADI_TOKEN");
	return -EKEYREJECTED;
}

/* Has the job ended, as far as we have heard, since so many others had? */
static bool has_ended_since(const struct proxy *p, uint64_t job, uint64_t count)
{
	while (count < p->ended_count)
		if (p->ended_jobs[count++ % ENDED_JOBS] == job)
			return true;
	return false;
}

/*
 * That a job lives may have been said before its end, and be heard after it: who is bound to it
 * then is cut by nobody.
 */
static int hello_living(struct op *op, const struct hello_req *req, struct access *a,
			struct token *t, struct job_show_rep *job)
{
	const struct proxy *p = op->proxy;
	uint64_t ended_count;
	int r;

	do {
		ended_count = p->ended_count;
		r = hello(op, req, a, t, job);
	} while (r == 0 && p->ended_count - ended_count > ENDED_JOBS); /* not all are known */
	if (r == 0 && has_ended_since(p, a->job, ended_count)) {
		r = -EIDRM;
		snprintf(op->why, sizeof(op->why), "%s", token_why(r));
	}
	return r;
}

static void hello_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct rcur body = request_body(r);
	struct access *a = node_alloc(sizeof(*a));
	struct job_show_rep job = { 0 };
	struct hello_req req;
	struct token token; /* its name is in the answer */
	struct wcur w;
	int x = a ? hello_req_get(&body, &req) : -ENOMEM;

	if (x == 0)
		x = hello_living(op, &req, a, &token, &job);
	if (x == 0 && (r->conn->is_closed || r->conn->access))
		x = r->conn->access ? -EINVAL : -ECANCELED;
	if (x < 0) {
		node_free(a);
		request_fail(r, x, "%s", op->why);
		return;
	}
	r->conn->access = a;
	native_of(r)->job_name_len = (uint8_t)job.name.len;
	memcpy(native_of(r)->job_name, job.name.ptr, job.name.len);
	op->job = a->job;
	w = request_answer(r);
	hello_rep_put(&w, &(struct hello_rep){ .version = PROTOCOL_VERSION,
					       .credit = CONN_CREDIT,
					       .inline_max = INLINE_BYTES_MAX,
					       .job = a->job,
					       .rights = a->rights,
					       .changes = job.changes,
					       .slot = slot_of_id(a->job),
					       .job_name = job.name,
					       .prefix = { a->prefix, a->prefix_len } });
	request_reply(r, &w, NULL);
}

static void hello_serve(struct request *r)
{
	struct op *op;

	if (r->conn->access) {
		request_fail(r, -EINVAL, "HELLO was said before");
		return;
	}
	op = op_new(proxy_of(r), r);
	op_serve(op, r, hello_run);
}

static void ping_serve(struct request *r)
{
	struct wcur w = request_answer(r);

	request_reply(r, &w, NULL);
}

static void native_closed(struct conn *c)
{
	struct native *n = c->state;
	struct proxy *p = c->owner;

	relay_drop_parked(c);
	uploads_close(p, n);
	readings_close(p, n);
	native_author_close(c);
	native_ring_close(n);
	native_reader_close(n);
	list_remove(&c->link);
	node_free(n);
	proxy_gone(p);
}

static const struct service NATIVE = {
	.server = SERVER_PROXY,
	.handlers = {
		[MESSAGE_HELLO] = { .serve = hello_serve },
		[MESSAGE_PING] = { .serve = ping_serve },
		[MESSAGE_RING] = { .serve = ring_serve },
		[MESSAGE_EXPORT] = { .serve = export_serve },
		[MESSAGE_INDEX] = { .serve = index_serve },
		[MESSAGE_MAPPING] = { .serve = mapping_serve },
		[MESSAGE_INFO] = { .serve = info_serve },
		[MESSAGE_STAT] = { .serve = relay_path_serve },
		[MESSAGE_LIST] = { .serve = relay_list_serve },
		[MESSAGE_REMOVE] = { .serve = relay_remove_serve },
		[MESSAGE_REMOVE_TREE] = { .serve = relay_tree_serve },
		[MESSAGE_RENAME] = { .serve = relay_rename_serve },
		[MESSAGE_WAIT] = { .serve = relay_wait_serve },
		[MESSAGE_WAIT_COUNT] = { .serve = relay_count_serve },
		[MESSAGE_JOB_CREATE] = { .serve = relay_job_create_serve },
		[MESSAGE_JOB_RENEW] = { .serve = relay_job_renew_serve },
		[MESSAGE_JOB_END] = { .serve = relay_job_end_serve },
		[MESSAGE_JOB_SHOW] = { .serve = relay_job_show_serve },
		[MESSAGE_JOB_LIST] = { .serve = relay_job_list_serve },
		[MESSAGE_PUT] = { .serve = put_serve, .place = put_place, .drop = put_drop },
		[MESSAGE_PUT_OPEN] = { .serve = put_open_serve },
		[MESSAGE_PUT_DATA] = { .serve = put_data_serve, .place = put_data_place,
				       .drop = put_data_drop },
		[MESSAGE_PUT_COMMIT] = { .serve = put_commit_serve },
		[MESSAGE_PUT_DROP] = { .serve = put_drop_serve },
		[MESSAGE_RESERVE] = { .serve = reserve_serve },
		[MESSAGE_RESERVE_MAP] = { .serve = reserve_map_serve },
		[MESSAGE_RESERVE_PUT] = { .serve = reserve_put_serve },
		[MESSAGE_PUT_ROOM] = { .serve = put_room_serve },
		[MESSAGE_GET] = { .serve = get_serve },
		[MESSAGE_GET_ON] = { .serve = get_on_serve },
		[MESSAGE_GET_END] = { .serve = get_end_serve },
		[MESSAGE_GET_NEAR] = { .serve = get_near_serve },
	},
	.closed = native_closed,
};

void proxy_accept(struct proxy *p, struct stream *s)
{
	struct native *n = p->is_stopping ? NULL : node_alloc(sizeof(*n));
	struct conn *c;

	if (!n) {
		stream_close(s);
		proxy_gone(p);
		return;
	}
	list_init(&n->uploads);
	list_init(&n->reserved);
	list_init(&n->readings);
	list_init(&n->in_line);
	waitq_init(&n->answering, &p->loop->fibers);
	c = conn_open(p->net, s, &NATIVE, p);
	if (!c) {
		node_free(n);
		proxy_gone(p);
		return;
	}
	c->state = n;
	list_insert(&p->conns, &c->link);
}

int proxy_open(struct net *n, const struct proxy_config *config, struct proxy **ret)
{
	struct proxy *p = node_alloc(sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->net = n;
	p->loop = net_loop(n);
	p->core = config->core;
	p->config = *config;
	p->started_ns = p->loop->now_ns;
	list_init(&p->conns);
	list_init(&p->left_regions);
	list_init(&p->web_conns);
	list_init(&p->sendings);
	r = uids_open(p);
	if (r < 0) {
		uids_close(p);
		node_free(p);
		return r;
	}
	indexes_init(p);
	indexes_restore(p);
	*ret = p;
	return 0;
}

void proxy_gone(struct proxy *p)
{
	if (p->config.gone)
		p->config.gone(p->config.owner);
}

void proxy_tally(const struct proxy *p, struct loop_tally *ret)
{
	ret->net = *net_counters(p->net);
	ret->waiting_count = core_waiting_count(p->core);
	ret->stall_ns_max = p->loop->busy_ns_max;
	ret->is_ready = core_is_ready(p->core);
}

const struct loop_tally *proxy_tallies(struct proxy *p, uint64_t due_ns, unsigned *ret_count)
{
	if (p->config.tallies)
		return p->config.tallies(p->config.owner, due_ns, ret_count);
	proxy_tally(p, &p->tally);
	*ret_count = 1;
	return &p->tally;
}

static bool is_sending(const struct proxy *p, const struct conn *c)
{
	for (struct list *l = p->sendings.next; l != &p->sendings; l = l->next)
		if (container_of(l, struct op, sending)->conn == c)
			return true;
	return false;
}

/* Who asked for the end hears of it when all others have, and has nothing of the job till then. */
static void job_over_of(struct proxy *p, struct conn *c)
{
	struct native *n = c->state;

	if (!n->is_ending || is_sending(p, c)) {
		conn_close(c); /* it leaves the list at the end of the turn */
		return;
	}
	n->is_over = true;
	uploads_close(p, n);
	conn_unplace(c, -EIDRM, "the job has ended");
	reserved_close_all(n);
	readings_close(p, n);
}

void proxy_job_over(struct proxy *p, uint64_t job)
{
	for (struct list *l = p->conns.next; l != &p->conns; l = l->next) {
		struct conn *c = container_of(l, struct conn, link);

		if (c->access && c->access->role == ROLE_JOB && c->access->job == job)
			job_over_of(p, c);
	}
	p->ended_jobs[p->ended_count++ % ENDED_JOBS] = job;
	uids_job_over(p, job);
	index_job_over(p, job);
}

void proxy_stop(struct proxy *p)
{
	p->is_stopping = true;
	for (struct list *l = p->conns.next; l != &p->conns; l = l->next)
		conn_close(container_of(l, struct conn, link));
	web_close_all(p);
	indexes_stop(p);
	regions_stop(p);
}

bool proxy_has_stopped(const struct proxy *p)
{
	return p->op_count == 0 && p->region_count == 0 && p->index_count == 0 &&
	       !p->is_asking_of_uid && list_is_empty(&p->conns) && list_is_empty(&p->web_conns);
}

void proxy_close(struct proxy *p)
{
	if (!p)
		return;
	if (p->helper)
		helper_close(p->helper);
	spares_fini(&p->spare_ops, sizeof(struct op));
	readings_fini(p);
	uids_close(p);
	node_free(p);
}
