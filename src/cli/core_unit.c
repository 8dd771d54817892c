/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process_priv.h"

/* Between two roles of one loop: as much as a socket would buffer. */
#define PAIR_BYTES (256u << 10)

int to_shard(void *owner, uint16_t index, struct stream **ret)
{
	struct process *s = owner;
	struct stream *ends[2];
	struct address a;
	int r;

	if (index == 0) {
		r = stream_pair(s->loop, PAIR_BYTES, ends);
		if (r == 0) {
			shard_accept(s->units[0].shard, ends[1]);
			*ret = ends[0];
		}
		return r;
	}
	r = address_parse(s->units[index].address, &a);
	return r < 0 ? r : stream_connect(s->loop, &a, ret);
}

static void job_over(void *owner, uint64_t job)
{
	struct process *s = owner;

	if (s->proxy)
		proxy_job_over(s->proxy, job);
}

static void session_begun(void *owner, uint16_t shard, uint64_t session)
{
	kept_set_session(&((struct process *)owner)->kept, shard, session);
}

int core_unit_open(struct process *s)
{
	struct core_config config = {
		.owner = s,
		.key = { s->key, s->key_len },
		.job_over = job_over,
		.sessions = kept_sessions(&s->kept),
		.session_begun = session_begun,
		.metas = s->metas,
		.meta_count = s->meta_count,
	};
	int r;

	if (s->unit_count > 0) {
		config.shard_count = (uint16_t)s->unit_count;
		config.to_shard = to_shard;
	}
	if (s->store) {
		store_reach(s->store, &config.reach, &config.reach_ops);
		config.reach_store = store_incarnation(s->store);
	}
	r = core_open(s->net, &config, &s->core);
	return r < 0 ? complain("cannot open", "the store core", r) : 0;
}

static void add_info(void *owner, struct info_rep *info)
{
	struct process *s = owner;
	struct info_rep one;

	if (!s->store)
		return;
	store_info(s->store, &one);
	info->dram_limit = one.dram_limit;
	info->dram_used = one.dram_used;
	info->dram_clean = one.dram_clean;
	info->segment_count = one.segment_count;
	info_add_integral(info, &one);
	info->moment_ns = one.moment_ns;
	info->moved_bytes = mover_counters(s->mover)->moved_bytes;
}

int core_unit_open_proxy(struct process *s)
{
	struct proxy_config config = {
		.core = s->core,
		.token_key = s->token_key,
		.token_key_len = s->token_key_len,
		.key = { s->key, s->key_len },
		.rings_max = rings_max(s),
		.is_open_loopback = s->config->is_dev || !s->config->key_file,
		.add_info = add_info,
		.owner = s,
	};

	return proxy_open(s->net, &config, &s->proxy);
}
