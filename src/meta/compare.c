/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compare: whenever a store says HELLO, its list of segments and ours are compared. What
 * no slot knows it is to free: a grant that was lost on its way. What it no longer
 * has is lost.
 *
 * The list comes in pages, on the same stream as answers to our duties: so what is in
 * it, and what is not, is never older than what the slots know.
 */
#include "base/log.h"
#include "base/node.h"
#include "meta/shard_priv.h"

#define SEGMENT_ENTRY_SIZE 32
#define ANY_SLOT           UINT16_MAX

struct comparing {
	struct store *store;
	struct call call;
	struct task task;
	uint64_t after;
	uint32_t count, at; /* entries of the page, and how many were looked at */
	bool has_more, is_whole;
	bool is_of_lost; /* the store is gone: nothing is on the list */
	unsigned slot;   /* at the end: whose segments are looked at */
	unsigned stray_count;
	uint8_t page[LIST_BYTES];
};

static void page_done(struct call *call);

static void ask_page(struct comparing *k)
{
	struct shard *s = k->store->shard;
	struct wcur w;

	k->call = (struct call){
		.done = page_done, .owner = k, .room = k->page, .room_cap = sizeof(k->page)
	};
	w = call_body(s->net, &k->call);
	segments_req_put(&w, &(struct segments_req){ .of_slot = ANY_SLOT, .after = k->after });
	call_send(k->store->conn, &k->call, MSG_SEGMENTS, 0, &w, NULL,
		  s->loop->now_ns + TIMEOUT_MS_DEFAULT * MS);
}

/* False: a stray segment cannot be freed right now. */
static bool look_at(struct comparing *k, const struct segment_entry *e)
{
	struct shard *s = k->store->shard;
	uint16_t number = slot_of_id(e->job);
	struct slot *slot = number < SLOT_COUNT ? s->slots[number] : NULL;

	if (number % s->config.count != s->config.index)
		return true; /* another shard's */
	if (slot && catalog_compare(slot->catalog, e))
		return true;
	/* Its answer was lost with the last connection, and is on its way again: behind this page.
	 */
	if (asking_is_open(k->store, e->request))
		return true;
	if (!stray_free(k->store, e))
		return false;
	k->stray_count++;
	return true;
}

static void look_at_page(struct comparing *k)
{
	struct rcur c = rcur_make(k->page, k->count * (size_t)SEGMENT_ENTRY_SIZE);

	(void)rcur_take(&c, k->at * (size_t)SEGMENT_ENTRY_SIZE);
	for (int i = 0; i < TICK_STEP && k->at < k->count; i++) {
		struct segment_entry e;

		segment_entry_get(&c, &e);
		if (!look_at(k, &e))
			return; /* compare_go_on() */
		k->after = e.segment;
		k->at++;
	}
	if (k->at < k->count) {
		loop_defer(k->store->shard->loop, &k->task);
	} else if (k->has_more) {
		ask_page(k);
	} else {
		k->is_whole = true;
		loop_defer(k->store->shard->loop, &k->task);
	}
}

/* What was in no page is lost. A step of one slot. */
static void look_for_lost(struct comparing *k)
{
	struct shard *s = k->store->shard;
	struct slot *slot = s->slots[k->slot];

	if (!slot || !catalog_compare_end(slot->catalog, k->store->id, shard_now(s), &s->out))
		k->slot++;
	if (slot)
		shard_after(slot, &s->out);
}

static void compared(struct comparing *k)
{
	struct store *st = k->store;
	bool is_lost = k->is_of_lost;

	if (k->stray_count > 0)
		log_warning("segments that no slot knows are freed store=%llx count=%u",
			    (unsigned long long)st->id, k->stray_count);
	compare_stop(st);
	/* If there was no memory, or no room in the log, for all of it: at the next look. */
	if (is_lost && !store_has_any(st))
		store_gone(st);
}

static void go_on(struct task *t)
{
	struct comparing *k = container_of(t, struct comparing, task);

	if (!k->is_whole) {
		look_at_page(k);
		return;
	}
	for (int i = 0; i < 64 && k->slot < SLOT_COUNT; i++)
		look_for_lost(k);
	if (k->slot < SLOT_COUNT) {
		loop_defer(k->store->shard->loop, t);
		return;
	}
	compared(k);
}

static void page_done(struct call *call)
{
	struct comparing *k = call->owner;
	struct rcur body = call_reply(call);
	struct segments_rep rep;
	int r = call->result;

	if (r == 0)
		r = segments_rep_get(&body, &rep);
	if (r == 0 && (call->room_len != rep.count * (size_t)SEGMENT_ENTRY_SIZE ||
		       (rep.has_more && rep.count == 0)))
		r = -EBADMSG;
	call_end(call);
	if (r < 0) {
		/* The next HELLO begins anew; and so does a connection that is worth nothing. */
		if (r != -ECONNRESET && k->store->conn)
			conn_close(k->store->conn);
		return;
	}
	k->count = rep.count;
	k->has_more = rep.has_more != 0;
	k->at = 0;
	look_at_page(k);
}

static struct comparing *comparing_new(struct store *st)
{
	struct shard *s = st->shard;
	struct comparing *k;

	compare_stop(st);
	k = node_alloc(sizeof(*k));
	if (!k)
		return NULL;
	k->store = st;
	k->task.run = go_on;
	list_init(&k->task.link);
	st->comparing = k;
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		catalog_compare_begin(slot->catalog, st->id);
	return k;
}

void compare_start(struct store *st)
{
	struct comparing *k = comparing_new(st);

	if (k)
		ask_page(k);
	else
		conn_close(st->conn); /* it comes again */
}

void store_lose(struct store *st)
{
	struct comparing *k = st->comparing ? NULL : comparing_new(st);

	if (!k)
		return; /* we are at it, or at the next look */
	k->is_whole = k->is_of_lost = true;
	loop_defer(st->shard->loop, &k->task);
}

void compare_stop(struct store *st)
{
	struct comparing *k = st->comparing;

	if (!k)
		return;
	if (k->call.is_pending) {
		call_cancel(&k->call);
		call_end(&k->call);
	}
	task_stop(&k->task);
	st->comparing = node_free(k);
}

void compare_go_on(struct store *st)
{
	struct comparing *k = st->comparing;

	if (k && !k->is_whole && !k->call.is_pending)
		loop_defer(st->shard->loop, &k->task);
}
