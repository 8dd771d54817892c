/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/meta.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/node.h"
#include "base/plant.h"
#include "meta/shard_priv.h"

/* Ticks of one turn: each does some dozens of microseconds of work. */
#define TICKS_PER_TURN 2

/* A tick that found no memory is tried again after so long. */
#define RETRY_MS 20

/*
 * Sessions and leases are over only when the loop has read what had come by then: so
 * many turns after they fell due.
 */
#define LATE_TURNS 3

#define SMALL_BYTES EXTENTS_BYTES
/* Of answers with lists, which are long, so many are kept for the next ones. */
#define LARGE_SPARES 4

/*
 * Ids are counted, and what was forgotten with a memory may be remembered elsewhere: tokens and
 * connections of jobs, holds, opened objects, versions. So in another memory the first job of a
 * slot has another number, of a few bytes still; and what goes on from files goes on so far ahead,
 * many times what a memory can have given and not made safe.
 */
#define JOBS_FROM   (1ull << 22)
#define SHORT_AHEAD (1ull << 24)
#define LONG_AHEAD  (1ull << 32)

uint64_t shard_now(const struct shard *s)
{
	return s->base_ns + s->loop->now_ns;
}

/* What catalogs ask of us. */

static void slot_log(struct catalog *c, const struct effect *e)
{
	struct slot *slot = catalog_owner(c);

	oplog_append(&slot->shard->log, slot->number, e);
}

static int slot_room(struct catalog *c, bool is_own)
{
	struct shard *s = ((struct slot *)catalog_owner(c))->shard;

	if (!is_own && s->config.is_full &&
	    atomic_load_explicit(s->config.is_full, memory_order_relaxed))
		return -ENOSPC;
	return oplog_has_room(&s->log, is_own) ? 0 : -ENOBUFS;
}

static bool slot_can_sync(struct catalog *c)
{
	const struct oplog *l = &((struct slot *)catalog_owner(c))->shard->log;

	return l->config.archive && l->disk_error == 0;
}

static void *slot_value_map(struct catalog *c, uint32_t index)
{
	struct slot *slot = catalog_owner(c);

	return regions_map(slot->shard, slot->number, index);
}

static void slot_value_unmap(struct catalog *c, uint32_t index, void *bytes)
{
	struct slot *slot = catalog_owner(c);

	(void)index;
	regions_unmap(slot->shard, bytes);
}

static const struct catalog_ops CATALOG_OPS = {
	.log = slot_log,
	.room = slot_room,
	.can_sync = slot_can_sync,
	.value_map = slot_value_map,
	.value_unmap = slot_value_unmap,
};

/* Of this memory and no other. */
static uint64_t any_number(const struct slot *slot)
{
	const uint64_t key[2] = { slot->shard->log.memory, slot->number };

	return hash_64(key, sizeof(key), 0);
}

static void ids_go_ahead(struct shard *s)
{
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1)) {
		uint64_t n = any_number(slot);
		const struct ids ids = { .jobs = SHORT_AHEAD + n % SHORT_AHEAD,
					 .others = LONG_AHEAD + n % LONG_AHEAD,
					 .versions = SHORT_AHEAD + n % SHORT_AHEAD };

		catalog_skip(slot->catalog, &ids);
	}
}

int shard_slot(struct shard *s, uint16_t number, struct slot **ret)
{
	struct slot *slot;

	if (number >= SLOT_COUNT)
		return -EINVAL;
	if (number % s->config.count != s->config.index)
		return -EREMCHG;
	*ret = s->slots[number];
	if (*ret)
		return 0;
	slot = node_alloc(sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	*slot = (struct slot){ .shard = s, .number = number };
	list_init(&slot->lines);
	slot->catalog = catalog_new(number, s->seed + number, &CATALOG_OPS, slot);
	if (!slot->catalog) {
		node_free(slot);
		return -ENOMEM;
	}
	if (s->is_blank)
		catalog_set_blank(slot->catalog);
	if (s->is_blank || s->is_lacking)
		catalog_set_lacking(slot->catalog);
	if (s->log.memory) /* it is not one that is being read */
		catalog_skip(slot->catalog, &(struct ids){ .jobs = any_number(slot) % JOBS_FROM });
	s->slots[number] = *ret = slot;
	s->slots_used[number / 64] |= 1ull << number % 64;
	return 0;
}

struct slot *slot_from(const struct shard *s, unsigned number)
{
	while (number < SLOT_COUNT) {
		uint64_t rest = s->slots_used[number / 64] >> number % 64;

		if (rest)
			return s->slots[number + (unsigned)__builtin_ctzll(rest)];
		number = (number / 64 + 1) * 64;
	}
	return NULL;
}

/* Time. */

static uint64_t soonest(uint64_t due, const struct heap *h)
{
	const struct heap_link *l = heap_top(h);

	return l && l->due < due ? l->due : due;
}

/* Begins to read what has come by now, if that is not being done already. */
static void read_on(struct shard *s)
{
	if (s->late_turns == 0) {
		s->late_turns = LATE_TURNS;
		s->reading_ns = s->loop->now_ns;
	}
	loop_defer(s->loop, &s->late);
}

/* Sees to it that what is due is done: at once, after some turns, or by the timer. */
void shard_plan(struct shard *s)
{
	uint64_t due = soonest(s->looked_ns + LOOK_MS * MS, &s->wait_dues);
	uint64_t slots = soonest(UINT64_MAX, &s->dues);

	if (s->is_closing)
		return;
	if (s->is_retrying) {
		if (due > s->loop->now_ns + RETRY_MS * MS)
			due = s->loop->now_ns + RETRY_MS * MS;
	} else if (slots == 0) {
		loop_defer(s->loop, &s->late);
	} else if (slots <= shard_now(s)) {
		read_on(s);
	} else if (slots < UINT64_MAX && slots - s->base_ns < due) {
		due = slots - s->base_ns;
	}
	if (!timer_is_running(&s->tick) || s->tick.link.due > due)
		timer_start(s->loop, &s->tick, due);
}

static void slot_plan(struct slot *slot)
{
	struct shard *s = slot->shard;
	uint64_t due = catalog_due(slot->catalog);

	if (heap_has(&slot->due) && slot->due.due == due)
		return;
	heap_remove(&s->dues, &slot->due);
	if (due != UINT64_MAX)
		heap_add(&s->dues, &slot->due, due);
}

void shard_after(struct slot *slot, const struct outcome *out)
{
	struct shard *s = slot->shard;

	waiters_wake(slot, out);
	lines_wake(slot);
	jobs_over_tell(slot);
	for (struct list *l = s->stores.next; l != &s->stores; l = l->next) {
		struct store *st = container_of(l, struct store, link);

		if (catalog_has_duty(slot->catalog, st->id))
			duties_send(st, slot);
	}
	slot_plan(slot);
	shard_plan(s);
	snapshots_look(&s->snapshots);
}

static void slot_tick(struct slot *slot)
{
	struct shard *s = slot->shard;
	const struct moment at = { .now_ns = shard_now(s),
				   .read_ns = s->base_ns + s->read_ns,
				   .awake_ns = s->awake_ns };
	int r = catalog_tick(slot->catalog, &at, &s->out);

	if (r < 0 && !s->is_retrying) {
		log_warning("a slot has no memory to go on, and tries again slot=%u status=%s",
			    slot->number, status_name(status_of(r)));
		s->is_retrying = true;
	}
	shard_after(slot, &s->out);
}

static void late(struct task *t)
{
	struct shard *s = container_of(t, struct shard, late);

	if (s->late_turns > 0 && --s->late_turns == 0) {
		s->read_ns = s->reading_ns;
		presences_expire(s);
	}
	for (int i = 0; i < TICKS_PER_TURN && !s->is_retrying; i++) {
		struct heap_link *l = heap_top(&s->dues);

		if (!l || l->due > s->base_ns + s->read_ns)
			break;
		slot_tick(container_of(l, struct slot, due));
	}
	if (s->late_turns > 0)
		loop_defer(s->loop, t);
	shard_plan(s);
}

/* Whether we were stopped, so that nobody could be heard. */
static void look(struct shard *s)
{
	uint64_t now_ns = s->loop->now_ns;

	if (planted(EXPIRY_BEFORE_INPUT)) {
		s->read_ns = now_ns;
		presences_expire(s);
	} else if (now_ns - s->looked_ns > SESSION_HEARTBEAT_MS * MS) {
		log_warning("we were stopped: sessions and leases get a new period seconds=%llu",
			    (unsigned long long)((now_ns - s->looked_ns) / (1000 * MS)));
		s->awake_ns = shard_now(s);
		presences_renew(s);
		stores_renew(s);
	}
	s->looked_ns = now_ns;
	if (s->config.is_open_loopback)
		(void)default_job_make(s);
	askings_look(s);
	stores_look(s);
	overs_look(s);
	read_on(s);
}

static void tick(struct timer *t)
{
	struct shard *s = container_of(t, struct shard, tick);

	s->is_retrying = false;
	if (s->loop->now_ns >= s->looked_ns + LOOK_MS * MS)
		look(s);
	waiters_due(s);
	shard_plan(s);
}

/* Payloads of answers. */

struct reply_bytes *reply_bytes_take(struct shard *s, size_t cap)
{
	bool is_small = cap <= SMALL_BYTES;
	struct reply_bytes *b;

	cap = is_small ? SMALL_BYTES : LIST_BYTES;
	b = spares_take(is_small ? &s->spare_small : &s->spare_large, sizeof(*b) + cap);
	if (!b)
		return NULL;
	b->shard = s;
	b->cap = cap;
	return b;
}

void reply_bytes_made(struct reply_bytes *b, size_t len)
{
	b->payload = (struct payload){
		.ptr = b->bytes, .len = len, .sent = reply_bytes_give, .kept = sizeof(*b) + b->cap
	};
}

void reply_bytes_give(struct payload *p)
{
	struct reply_bytes *b = container_of(p, struct reply_bytes, payload);
	struct shard *s = b->shard;

	if (b->cap <= SMALL_BYTES)
		spares_give(&s->spare_small, b, sizeof(*b) + b->cap);
	else if (s->spare_large.count < LARGE_SPARES)
		spares_give(&s->spare_large, b, sizeof(*b) + b->cap);
	else
		node_free(b);
}

/* Connections. */

void shard_accept(struct shard *s, struct stream *stream)
{
	struct peer_state *p = node_alloc(sizeof(*p));
	struct conn *c;

	if (!p || s->is_closing) {
		node_free(p);
		stream_close(stream);
		return;
	}
	*p = (struct peer_state){ .shard = s };
	list_init(&p->tellings);
	list_init(&p->forgets);
	c = conn_open(s->net, stream, &META_SERVICE, s);
	if (!c) {
		node_free(p);
		return;
	}
	c->state = p;
	list_insert(&s->conns, &c->link);
}

void meta_conn_closed(struct conn *c)
{
	struct peer_state *p = c->state;
	struct shard *s = p->shard;

	parkeds_of_conn_over(c);
	overs_of_conn_over(c);
	forgets_of_conn_over(c);
	store_detach(c);
	if (!s->is_closing) {
		presence_of_conn_over(c);
		stores_replaced(s);
	}
	list_remove(&c->link);
	node_free(p);
	shard_free_if_done(s);
}

static void log_synced(struct oplog *l)
{
	struct shard *s = container_of(l, struct shard, log);

	overs_safe(s);
	replies_safe(s);
	snapshots_log_synced(&s->snapshots);
}

static int log_open(struct shard *s)
{
	const struct shard_config *config = &s->config;
	struct oplog_config log = { .keep = config->keep,
				    .archive = config->archive,
				    .media = config->media,
				    .limit_bytes = config->log_bytes,
				    .shard = config->index,
				    .shard_count = config->count };
	int r = 0;

	s->log.synced = log_synced;
	s->log.seed = s->seed;
	s->log.incarnation = s->incarnation;
	if (log.media)
		r = shard_recover(s, &log);
	else
		s->log.config.media = NULL;
	s->log.base_ns = s->base_ns;
	s->log.memory = s->incarnation;
	s->log.memory_ns = s->was_blank ? 0 : s->memory_ns;
	if (s->log.memory != s->log.incarnation) /* others were before it */
		ids_go_ahead(s);
	if (r == 0)
		r = oplog_open(&s->log, &log, s->loop);
	if (r == 0) {
		snapshots_init(&s->snapshots, s, &s->log, s->recovered_snapshot);
		regions_look(s);
	}
	return r;
}

int shard_open(const struct shard_config *config, struct loop *l, struct net *n, struct shard **ret)
{
	struct shard *s;
	int r;

	if (config->count == 0 || config->count > SHARDS_MAX || config->index >= config->count)
		return -EINVAL;
	s = node_alloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct shard){ .loop = l,
			     .net = n,
			     .config = *config,
			     .tick = { .fire = tick },
			     .late = { .run = late },
			     .wake = { .run = waiters_work },
			     .serve_lines = { .run = lines_work } };
	s->incarnation = node_random_u64() | 1;
	s->seed = node_random_u64();
	s->opened_ns = s->looked_ns = s->memory_ns = l->now_ns;
	s->base_ns = node_wall_ns() - node_now_ns();
	s->awake_ns = shard_now(s);
	list_init(&s->conns);
	list_init(&s->stores);
	list_init(&s->askings);
	list_init(&s->overs);
	list_init(&s->forgettings);
	list_init(&s->held);
	list_init(&s->presence_order);
	list_init(&s->late.link);
	list_init(&s->wake.link);
	list_init(&s->serve_lines.link);
	list_init(&s->woken_lines);
	list_init(&s->all_waited);
	list_init(&s->woken);
	regions_init(s);
	r = htable_reserve(&s->presences) < 0 || htable_reserve(&s->waited) < 0 ||
			    htable_reserve(&s->looking) < 0 || htable_reserve(&s->job_waits) < 0 ||
			    htable_reserve(&s->asked) < 0 || htable_reserve(&s->asked_numbers) < 0
		    ? -ENOMEM
		    : log_open(s);
	if (r == 0 && s->was_blank) {
		presences_end(s);
		oplog_begun(&s->log, s->memory_ns);
	}
	if (r == 0 && config->is_open_loopback && !default_job_make(s))
		r = -ENOMEM;
	if (r < 0) {
		shard_leave(s); /* what it found is for the next one */
		shard_close(s);
		return r;
	}
	shard_plan(s);
	*ret = s;
	return 0;
}

void shard_free_if_done(struct shard *s)
{
	if (!s->is_closing || !list_is_empty(&s->conns))
		return;
	while (!list_is_empty(&s->askings))
		asking_forget(container_of(s->askings.next, struct asking, link));
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		lines_forget(slot);
	overs_fini(s);
	while (!list_is_empty(&s->stores))
		store_forget(container_of(s->stores.next, struct store, link));
	presences_fini(s);
	oplog_close(&s->log, !s->is_left);
	snapshots_fini(&s->snapshots);
	for (struct slot *slot = slot_from(s, 0), *next; slot; slot = next) {
		next = slot_from(s, slot->number + 1);
		catalog_free(slot->catalog);
		node_free(slot);
	}
	htable_fini(&s->presences);
	htable_fini(&s->waited);
	htable_fini(&s->looking);
	htable_fini(&s->job_waits);
	htable_fini(&s->asked);
	regions_fini(s);
	htable_fini(&s->asked_numbers);
	spares_fini(&s->spare_small, sizeof(struct reply_bytes) + SMALL_BYTES);
	spares_fini(&s->spare_large, sizeof(struct reply_bytes) + LIST_BYTES);
	node_free(s);
}

void shard_close(struct shard *s)
{
	if (!s)
		return;
	s->is_closing = true;
	forgettings_fini(s);
	replies_forget(s);
	timer_stop(s->loop, &s->tick);
	task_stop(&s->late);
	task_stop(&s->wake);
	task_stop(&s->serve_lines);
	for (struct list *l = s->conns.next, *next; l != &s->conns; l = next) {
		next = l->next;
		conn_close(container_of(l, struct conn, link));
	}
	shard_free_if_done(s);
}

bool shard_went_on(const struct shard *s)
{
	return s->has_gone_on;
}

void shard_leave(struct shard *s)
{
	s->is_left = true;
}

void shard_set_sink(struct shard *s,
		    void (*sink)(void *owner, uint16_t slot, const struct effect *e), void *owner)
{
	s->log.sink = sink;
	s->log.owner = owner;
}

void shard_info(const struct shard *s, struct info_rep *ret)
{
	uint64_t now_ns = shard_now(s);
	unsigned __int128 byte_ns = 0, forgotten = 0;

	*ret = (struct info_rep){ .session_count = s->presences.count,
				  .parked_count = s->waiter_count + s->asking_count,
				  .uptime_ms = (s->loop->now_ns - s->opened_ns) / MS,
				  .moment_ns = now_ns };
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1)) {
		struct catalog_sums sums;

		catalog_sums(slot->catalog, now_ns, &sums);
		ret->value_bytes += sums.value_bytes;
		ret->segment_count += sums.segment_count;
		ret->object_count += sums.object_count;
		ret->job_count += sums.job_count;
		byte_ns += sums.value_byte_ns;
		forgotten += sums.forgotten_byte_ns;
		ret->is_partial |= sums.has_lost;
	}
	ret->byte_ns_hi = (uint64_t)(byte_ns >> 64);
	ret->byte_ns_lo = (uint64_t)byte_ns;
	ret->forgotten_byte_ns_hi = (uint64_t)(forgotten >> 64);
	ret->forgotten_byte_ns_lo = (uint64_t)forgotten;
	for (struct list *l = s->stores.next; l != &s->stores; l = l->next)
		ret->is_partial |= !container_of(l, struct store, link)->conn;
}
