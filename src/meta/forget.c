/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forget: proxies tell functions of objects, which then do not ask any more (LOOKUP, is_told_on).
 * When such a version ends, whoever has told on is asked to FORGET, and the change is answered
 * when each has, or SERVE_MS after the asking: who was stopped has no lease then.
 *
 * - Whoever has lost his connection has perhaps not heard, and serves for SERVE_MS at most; so
 *   does whoever was told by a predecessor of the shard.
 * - A change that was made before is answered after those that are still waited for. Nobody
 *   knows which of them it was, so all wait in one line; that is as long as the slowest proxy
 *   is slow, and no longer than SERVE_MS.
 * - Moments are the clock's, not the loop's: we may have been stopped since its turn began, and
 *   have answered in it a heartbeat that is younger, from which on somebody serves.
 * - Who does not answer in time is cut off. He comes back with nothing told on, and until then
 *   nobody waits for him twice.
 */
#include "base/node.h"
#include "meta/shard_priv.h"

/* An answer that waits. */
struct forgetting {
	struct list link; /* of the shard, the oldest first */
	struct slot *slot;
	struct request *request;
	struct said said;
	struct wcur body;
	struct list forgets;
	uint64_t until_ns; /* not before */
	struct timer due;
};

/* One connection is asked. */
struct forget {
	struct list of_forgetting, of_conn;
	struct forgetting *forgetting;
	struct conn *conn;
	uint64_t sent_ns;
	struct call call;
};

static bool is_done(const struct forgetting *f)
{
	return list_is_empty(&f->forgets) && f->slot->shard->loop->now_ns >= f->until_ns;
}

static void forgetting_free(struct forgetting *f)
{
	timer_stop(f->slot->shard->loop, &f->due);
	list_remove(&f->link);
	node_free(f);
}

/* Answers those at the head of the line that are done. */
static void line_moves(struct shard *s)
{
	while (!list_is_empty(&s->forgettings)) {
		struct forgetting *f = container_of(s->forgettings.next, struct forgetting, link);

		if (!is_done(f))
			return;
		reply_when_safe(f->request, f->slot, &f->said, &f->body, NULL);
		forgetting_free(f);
	}
}

static void is_due(struct timer *t)
{
	line_moves(container_of(t, struct forgetting, due)->slot->shard);
}

/* Not before then, whoever answers. */
static void wait_until(struct forgetting *f, uint64_t until_ns)
{
	if (until_ns <= f->until_ns)
		return;
	f->until_ns = until_ns;
	timer_start(f->slot->shard->loop, &f->due, until_ns);
}

static void forget_free(struct forget *g)
{
	if (g->call.is_pending)
		call_cancel(&g->call);
	call_end(&g->call);
	list_remove(&g->of_forgetting);
	list_remove(&g->of_conn);
	node_free(g);
}

static void forget_done(struct call *call)
{
	struct forget *g = call->owner;
	struct shard *s = g->forgetting->slot->shard;

	if (call->result < 0) {
		wait_until(g->forgetting, g->sent_ns + SERVE_MS * MS);
		conn_close(g->conn);
	}
	forget_free(g);
	line_moves(s);
}

static void forget_send(struct forgetting *f, struct conn *c, const struct forget_req *req)
{
	struct shard *s = f->slot->shard;
	struct peer_state *state = c->state;
	struct forget *g = c->is_closed ? NULL : node_alloc(sizeof(*g));
	struct wcur w;

	if (!g) {
		wait_until(f, node_now_ns() + SERVE_MS * MS);
		conn_close(c);
		return;
	}
	g->forgetting = f;
	g->conn = c;
	g->sent_ns = node_now_ns();
	list_init(&g->of_forgetting);
	list_init(&g->of_conn);
	list_insert(&f->forgets, &g->of_forgetting);
	list_insert(&state->forgets, &g->of_conn);
	g->call = (struct call){ .done = forget_done, .owner = g };
	w = call_body(s->net, &g->call);
	forget_req_put(&w, req);
	call_send(c, &g->call, MSG_FORGET, f->slot->number, &w, NULL, g->sent_ns + SERVE_MS * MS);
}

/* Nobody can be asked: they come back with nothing told on. */
static void cut_all(struct shard *s)
{
	for (struct list *l = s->conns.next, *next; l != &s->conns; l = next) {
		struct conn *c = container_of(l, struct conn, link);

		next = l->next;
		if (((struct peer_state *)c->state)->tells_on)
			conn_close(c);
	}
}

static void ask_all(struct forgetting *f, const struct forget_req *req)
{
	struct shard *s = f->slot->shard;

	for (struct list *l = s->conns.next, *next; l != &s->conns; l = next) {
		struct conn *c = container_of(l, struct conn, link);

		next = l->next;
		if (((struct peer_state *)c->state)->tells_on)
			forget_send(f, c, req);
	}
}

/*
 * When those that cannot be asked have no lease any more; 0: there are none. What went with the
 * power may have been told on, and then any change ends it; so it is for who comes after a server
 * that was killed before it had waited for that.
 */
static uint64_t unasked_until_ns(const struct shard *s, const struct outcome *out)
{
	uint64_t since_ns = 0;

	if (out->has_ended || out->is_repeat || s->has_forgotten)
		since_ns = s->succeeded_ns;
	if ((out->is_to_forget || out->is_repeat) && s->teller_lost_ns > since_ns)
		since_ns = s->teller_lost_ns;
	return since_ns ? since_ns + SERVE_MS * MS : 0;
}

void reply_when_forgotten(struct request *r, struct slot *slot, const struct said *said,
			  const struct wcur *body, struct slice path, struct slice other)
{
	struct shard *s = slot->shard;
	const struct outcome *out = &s->out;
	uint64_t until_ns = unasked_until_ns(s, out);
	struct forgetting *f;

	if (!out->is_to_forget && until_ns <= s->loop->now_ns &&
	    (!out->is_repeat || list_is_empty(&s->forgettings))) {
		reply_when_safe(r, slot, said, body, NULL);
		return;
	}
	f = node_alloc(sizeof(*f));
	if (!f) {
		cut_all(s);
		request_fail(r, -ENOMEM, "perhaps done: no memory to wait until all have heard");
		return;
	}
	*f = (struct forgetting){
		.slot = slot, .request = r, .said = *said, .body = *body, .due = { .fire = is_due }
	};
	list_init(&f->link);
	list_init(&f->forgets);
	list_insert(&s->forgettings, &f->link);
	wait_until(f, until_ns);
	if (out->is_to_forget)
		ask_all(f, &(struct forget_req){ .job = said->job, .path = path, .other = other });
	line_moves(s);
}

void forgets_of_conn_over(struct conn *c)
{
	struct peer_state *state = c->state;
	struct shard *s = state->shard;

	if (state->tells_on)
		s->teller_lost_ns = node_now_ns();
	while (!list_is_empty(&state->forgets)) {
		struct forget *g = container_of(state->forgets.next, struct forget, of_conn);

		wait_until(g->forgetting, g->sent_ns + SERVE_MS * MS);
		forget_free(g);
	}
	line_moves(s);
}

void forgettings_fini(struct shard *s)
{
	while (!list_is_empty(&s->forgettings)) {
		struct forgetting *f = container_of(s->forgettings.next, struct forgetting, link);

		while (!list_is_empty(&f->forgets))
			forget_free(container_of(f->forgets.next, struct forget, of_forgetting));
		request_fail(f->request, -ECANCELED, "perhaps done: the metadata server closes");
		forgetting_free(f);
	}
}
