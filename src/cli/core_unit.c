/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process_priv.h"

#include <unistd.h>

#include "base/container.h"
#include "base/node.h"

/* Between two roles of one loop: as much as a socket would buffer. */
#define PAIR_BYTES (256u << 10)

#define STOP_NS 2000000000ull

int to_shard(struct process *s, struct loop *from, uint16_t index, struct stream **ret)
{
	struct shard_unit *u = &s->units[index];
	struct stream *ends[2];
	struct address a = u->listener.address;
	int r = 0;

	if (u->home.loop == from) {
		r = stream_pair(from, PAIR_BYTES, ends);
		if (r == 0) {
			shard_accept(u->shard, ends[1]);
			*ret = ends[0];
		}
		return r;
	}
	if (s->config->is_dev)
		r = address_parse(u->address, &a);
	return r < 0 ? r : stream_connect(from, &a, ret);
}

static int unit_to_shard(void *owner, uint16_t index, struct stream **ret)
{
	struct core_unit *u = owner;

	return to_shard(u->home.process, u->home.loop, index, ret);
}

static void job_over(void *owner, uint64_t job)
{
	struct core_unit *u = owner;

	if (u->proxy)
		proxy_job_over(u->proxy, job);
}

static void forget(void *owner, uint64_t job, struct slice path)
{
	struct core_unit *u = owner;

	if (u->proxy)
		proxy_forget(u->proxy, job, path);
}

static void forget_shard(void *owner, uint16_t shard)
{
	struct core_unit *u = owner;

	if (u->proxy)
		proxy_forget_shard(u->proxy, shard);
}

static void buffers_wanted(void *owner)
{
	struct core_unit *u = owner;

	if (u->proxy)
		proxy_buffers_wanted(u->proxy);
}

static void session_begun(void *owner, uint16_t shard, uint64_t session)
{
	struct core_unit *u = owner;

	kept_set_session(&u->home.process->kept, u->index, shard, session);
}

static uint64_t session_left(void *owner, uint16_t shard)
{
	struct core_unit *u = owner;
	struct process *s = u->home.process;

	return kept_session_left(&s->kept, u->index, s->core_count, shard);
}

static void session_over(void *owner, uint16_t shard, uint64_t session)
{
	struct core_unit *u = owner;
	struct process *s = u->home.process;

	kept_session_over(&s->kept, u->index, s->core_count, shard, session);
}

static int open_core(struct core_unit *u)
{
	struct process *s = u->home.process;
	struct core_config config = {
		.owner = u,
		.key = { s->key, s->key_len },
		.job_over = job_over,
		.forget = forget,
		.forget_shard = forget_shard,
		.buffers_wanted = buffers_wanted,
		.sessions = kept_sessions(&s->kept, u->index),
		.session_begun = session_begun,
		.session_left = session_left,
		.session_over = session_over,
		.metas = s->metas,
		.meta_count = s->meta_count,
	};
	int r;

	waitq_init(&u->answered, &u->home.loop->fibers);
	if (s->unit_count > 0) {
		config.shard_count = (uint16_t)s->unit_count;
		config.to_shard = unit_to_shard;
	}
	if (s->store) {
		store_reach(s->store, &config.reach, &config.reach_ops);
		config.reach_store = store_incarnation(s->store);
	}
	r = core_open(u->home.net, &config, &u->core);
	return r < 0 ? complain("cannot open", "the store core", r) : 0;
}

static void add_info(void *owner, struct info_rep *info)
{
	struct process *s = ((struct core_unit *)owner)->home.process;
	struct info_rep one;

	if (!s->store)
		return;
	store_info(s->store, &one);
	info->dram_limit = one.dram_limit;
	info->dram_used = one.dram_used;
	info->dram_clean = one.dram_clean;
	info->segment_count = one.segment_count;
	info->lingering_bytes = one.lingering_bytes;
	info_add_integral(info, &one);
	info->moment_ns = one.moment_ns;
	info->moved_bytes = mover_counters(s->mover)->moved_bytes;
}

static void gone(void *owner)
{
	/* Relaxed: it orders nothing. */
	atomic_fetch_sub_explicit(&((struct core_unit *)owner)->conn_count, 1,
				  memory_order_relaxed);
}

static int open_proxy(struct core_unit *u)
{
	struct process *s = u->home.process;
	struct proxy_config config = {
		.core = u->core,
		.token_key = s->token_key,
		.token_key_len = s->token_key_len,
		.key = { s->key, s->key_len },
		.rings_max = rings_max(s),
		.indexes_max = indexes_max(s),
		.keep = s->store ? s->kept.keep : NULL,
		.index_bytes_max = s->config->memory_bytes / INDEX_SHARE / s->core_count,
		.own_uid = geteuid(),
		.trusts_local = s->config->trusts_local,
		.is_isolated = s->config->is_isolated,
		.is_open_loopback = s->config->is_dev || !s->config->key_file,
		.pool = s->store ? store_counters(s->store) : NULL,
		.add_info = add_info,
		.tallies = tallies_ask,
		.gone = gone,
		.owner = u,
	};

	u->home.loop->fds_unread_max = fds_unread_max(s);
	return proxy_open(u->home.net, &config, &u->proxy);
}

static void unit_stop(struct core_unit *u)
{
	struct loop *l = u->home.loop;
	uint64_t due_ns = node_now_ns() + STOP_NS;

	if (u->proxy)
		proxy_stop(u->proxy);
	if (u->core)
		core_stop(u->core);
	while (l && node_now_ns() < due_ns &&
	       (l->fibers.alive_count > 0 || (u->proxy && !proxy_has_stopped(u->proxy))))
		if (loop_turn(l, node_now_ns() + 1000000) < 0)
			break;
}

/* Waits for all the others, so that no loop is gone that another one may still post to. */
static void part(struct process *s, unsigned step)
{
	pthread_mutex_lock(&s->lock);
	s->parted_count[step]++;
	pthread_cond_broadcast(&s->changed);
	while (s->parted_count[step] < s->parting_count)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static void unit_part(struct core_unit *u)
{
	part(u->home.process, 0); /* nobody asks any more */
	if (u->home.loop)
		(void)loop_turn(u->home.loop, 0);
	part(u->home.process, 1); /* nobody answers any more */
}

static void unit_close(struct core_unit *u)
{
	proxy_close(u->proxy);
	core_close(u->core);
	u->proxy = NULL;
	u->core = NULL;
}

/* Of those that have a thread. */

static int thread_open(struct loop_thread *t)
{
	struct core_unit *u = container_of(t, struct core_unit, home);
	int r = open_core(u);

	net_limit_conns(t->net, conns_max(t->process) - files_shared(t->process));
	return r == 0 ? open_proxy(u) : r;
}

static void thread_close(struct loop_thread *t)
{
	struct core_unit *u = container_of(t, struct core_unit, home);

	unit_stop(u);
	if (t->result == 0)
		unit_part(u);
	unit_close(u);
}

int core_units_open_first(struct process *s)
{
	return open_core(&s->cores[0]);
}

static void count_parting(struct process *s, int more)
{
	pthread_mutex_lock(&s->lock);
	s->parting_count += (unsigned)more;
	pthread_mutex_unlock(&s->lock);
}

int core_units_open_proxies(struct process *s)
{
	int r = open_proxy(&s->cores[0]);

	for (unsigned i = 1; i < s->core_count && r == 0; i++) {
		s->cores[i].home = (struct loop_thread){ .process = s,
							 .open = thread_open,
							 .close = thread_close };
		s->cores[i].index = i;
		count_parting(s, 1);
		r = loop_thread_start(&s->cores[i].home);
		if (r < 0)
			count_parting(s, -1);
	}
	return r;
}

void core_units_stop(struct process *s)
{
	for (unsigned i = 1; i < s->core_count; i++)
		loop_thread_stop(&s->cores[i].home);
	unit_stop(&s->cores[0]);
	unit_part(&s->cores[0]);
	for (unsigned i = 1; i < s->core_count; i++)
		loop_thread_join(&s->cores[i].home);
}

void core_units_close(struct process *s)
{
	unit_close(&s->cores[0]);
}
