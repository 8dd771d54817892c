/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_priv.h"

#include <errno.h>

#include "base/container.h"
#include "base/log.h"
#include "base/node.h"
#include "store/restore.h"

/* What is due already is tried again after so long: the janitor is at it. */
#define TURN_NS_MIN 1000000ull

void store_changed(struct store *s)
{
	loop_defer(s->loop, &s->turn);
}

uint64_t store_time_ns(const struct store *s)
{
	return s->opened_wall_ns + (s->loop->now_ns - s->opened_ns); /* may wrap, and back */
}

static void warn_of_failures(struct store *s)
{
	const struct pool *p = &s->pool;

	/* Without a keeper, whoever starts keepers has told. */
	if (p->counters.failed_count == s->failed_logged || p->failure == -EHOSTDOWN)
		return;
	s->failed_logged = p->counters.failed_count;
	log_warning("The machine has less memory, or descriptors, than the store may use. "
		    "Puts wait; lower --memory, or raise the cgroup's limit or `ulimit -n` "
		    "store=%s limit=%llu reserved=%llu",
		    s->name, (unsigned long long)p->limit, (unsigned long long)p->reserved);
}

static void turn(struct task *t)
{
	struct store *s = container_of(t, struct store, turn);
	uint64_t now_ns = s->loop->now_ns, due_ns, clean_ns;

	store_asks_serve(s);
	janitor_turn(&s->janitor);
	warn_of_failures(s);
	due_ns = pool_due_ns(&s->pool, now_ns);
	clean_ns = store_clean(s);
	if (clean_ns < due_ns)
		due_ns = clean_ns;
	if (due_ns == UINT64_MAX)
		timer_stop(s->loop, &s->due);
	else
		timer_start(s->loop, &s->due,
			    due_ns < now_ns + TURN_NS_MIN ? now_ns + TURN_NS_MIN : due_ns);
}

static void turn_is_due(struct timer *t)
{
	store_changed(container_of(t, struct store, due));
}

static void janitor_reported(struct janitor *j)
{
	store_changed(container_of(j, struct store, janitor));
}

static char *copy_of(const void *from, size_t len)
{
	char *p = node_alloc(len + 1);

	if (p && len)
		memcpy(p, from, len);
	return p;
}

static void tell_restored(const struct store *s, const struct restored *r)
{
	if (!r->is_again)
		return;
	log_info("the store goes on with what its predecessor left store=%s segments=%u bytes=%llu",
		 s->name, r->count, (unsigned long long)s->pool.used);
	if (r->lost > 0)
		log_error("Segments are lost: the keeper did not have them, or their rows are "
			  "damaged store=%s segments=%u",
			  s->name, r->lost);
	if (r->limit > 0)
		log_warning("More than --memory allows is in use; the store keeps the limit that "
			    "it needs store=%s wanted=%llu limit=%llu",
			    s->name, (unsigned long long)r->limit,
			    (unsigned long long)s->pool.limit);
}

static int init(struct store *s, const struct store_config *config)
{
	struct restored restored;
	int r;

	s->name = copy_of(config->name, strlen(config->name));
	s->key = copy_of(config->key.ptr, config->key.len);
	s->key_len = config->key.len;
	s->token_key = (uint8_t *)copy_of(config->token_key.ptr, config->token_key.len);
	s->token_key_len = config->token_key.len;
	s->address = copy_of(config->address, strlen(config->address));
	s->reach = node_alloc(sizeof(*s->reach));
	if (!s->name || !s->key || !s->token_key || !s->address || !s->reach)
		return -ENOMEM;
	s->reach->store = s;
	retired_init(&s->retired, config->keep);
	r = pool_open(&s->pool, config->keep, s->media, &s->retired, config->limit_bytes,
		      s->opened_wall_ns, &restored);
	if (r < 0)
		return r;
	tell_restored(s, &restored);
	return janitor_open(&s->janitor, s->loop, &s->pool, s->media, config->keep, &s->retired,
			    janitor_reported);
}

void store_end_views(struct store *s)
{
	struct segment *segment;
	unsigned at = 0;

	while ((segment = pool_view_over(&s->pool, &at)) != NULL)
		store_unpin(s, segment, false);
}

static void views_are_over(struct timer *t)
{
	store_end_views(container_of(t, struct store, views));
}

int store_open(const struct store_config *config, struct loop *l, struct net *n, struct store **ret)
{
	struct store *s;
	int r;

	if (config->tier != TIER_DRAM)
		return -EOPNOTSUPP;
	if (config->limit_bytes < SEGMENT_BYTES_MIN)
		return -EINVAL;
	s = node_alloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->loop = l;
	s->net = n;
	s->media = config->media ? config->media : &media_memfd;
	s->wanted = config->wanted;
	s->wanted_owner = config->owner;
	s->opened_ns = node_now_ns(); /* of the same moment, not of the turn's beginning */
	s->opened_wall_ns = node_wall_ns();
	s->turn.run = turn;
	s->due.fire = turn_is_due;
	s->patience.fire = store_patience_over;
	s->views.fire = views_are_over;
	list_init(&s->turn.link);
	list_init(&s->links);
	list_init(&s->conns);
	list_init(&s->waits);
	list_init(&s->empties);
	list_init(&s->spare_transfers);
	r = init(s, config);
	if (r < 0) {
		store_close(s);
		return r;
	}
	timer_start(l, &s->views, s->opened_ns + SERVE_MS * 1000000ull);
	store_changed(s); /* the first segments are made before anybody asks */
	*ret = s;
	return 0;
}

unsigned store_segments_max(const struct store *s)
{
	return s->pool.segment_max;
}

uint64_t store_incarnation(const struct store *s)
{
	return s->pool.number;
}

unsigned store_joined_count(const struct store *s)
{
	return s->joined_count;
}

const struct pool_counters *store_counters(const struct store *s)
{
	return &s->pool.counters;
}

uint64_t store_memory_bytes(const struct store *s)
{
	return s->pool.reserved - s->pool.lent;
}

bool store_is_waited_for(const struct store *s)
{
	return s->pool.ask_count > 0;
}

uint64_t store_lend(struct store *s, uint64_t bytes)
{
	uint64_t lent = pool_lend(&s->pool, bytes);

	if (lent != bytes)
		store_changed(s);
	return lent;
}

void store_info(const struct store *s, struct info_rep *ret)
{
	uint64_t moment_ns = store_time_ns(s);
	unsigned __int128 integral = book_integral(&s->pool.book, moment_ns);

	*ret = (struct info_rep){
		.dram_limit = s->pool.limit,
		.dram_used = s->pool.book.bytes,
		.dram_clean = pool_clean_bytes(&s->pool),
		.byte_ns_hi = (uint64_t)(integral >> 64),
		.byte_ns_lo = (uint64_t)integral,
		.segment_count = s->pool.used_count,
		.parked_count = s->pool.ask_count,
		.uptime_ms = (s->loop->now_ns - s->opened_ns) / 1000000,
		.moment_ns = moment_ns,
		.lingering_bytes = s->pool.counters.lingering_bytes,
	};
}

void store_close(struct store *s)
{
	if (!s)
		return;
	store_conns_close(s);
	store_end_views(s);
	janitor_close(&s->janitor);
	retired_fini(&s->retired);
	task_stop(&s->turn);
	timer_stop(s->loop, &s->due);
	timer_stop(s->loop, &s->patience);
	timer_stop(s->loop, &s->views);
	store_transfers_fini(s);
	htable_fini(&s->jobs);
	pool_fini(&s->pool, s->media);
	s->name = node_free(s->name);
	s->key = node_free(s->key);
	s->token_key = node_free(s->token_key);
	s->address = node_free(s->address);
	node_free(s->reach);
	node_free(s);
}
