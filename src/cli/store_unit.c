/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process_priv.h"

#include <stdio.h>

const char *store_unit_socket(const struct process *s, char *buf, size_t cap)
{
	snprintf(buf, cap, "unix://%s/store.sock", s->kept.dir.path);
	return buf;
}

static void accept_store(struct listener *lr, struct stream *stream)
{
	(void)store_accept(((struct process *)lr->owner)->store, stream);
}

int store_unit_listen(struct process *s)
{
	const struct process_config *c = s->config;
	char text[ADDRESS_TEXT_MAX];
	int r;

	if (!(c->roles & WITH_STORE))
		return 0;
	s->store_listen = (struct listener){ .accepted = accept_store, .owner = s };
	if (c->roles & WITH_META) {
		snprintf(s->advertised, sizeof(s->advertised), STORE_HERE);
		return listen_at(s, &s->store_listen, KEPT_STORE,
				 store_unit_socket(s, text, sizeof(text)));
	}
	r = listen_at(s, &s->store_listen, KEPT_STORE, c->listen);
	if (r < 0)
		return r;
	if (c->advertise)
		snprintf(s->advertised, sizeof(s->advertised), "%s", c->advertise);
	else
		address_format(&s->store_listen.address, s->advertised, sizeof(s->advertised));
	return 0;
}

static void segment_wanted(void *owner, uint64_t job, uint64_t segment, bool is_short)
{
	struct process *s = owner;

	if (s->cores[0].proxy)
		proxy_segment_wanted(s->cores[0].proxy, job, segment, is_short);
}

static bool knows_tokens(const struct process *s)
{
	return s->config->token_key_file || s->config->roles & WITH_META;
}

int store_unit_open(struct process *s)
{
	struct store_config config = {
		.tier = TIER_DRAM,
		.name = "dram",
		.key = { s->key, s->key_len },
		.address = s->advertised,
		/* Without the key that metadata signs with, no token would be one. */
		.token_key = { s->token_key, knows_tokens(s) ? s->token_key_len : 0 },
		.keep = s->kept.keep,
		.wanted = segment_wanted,
		.owner = s,
	};
	struct stream *stream;
	int r;

	config.limit_bytes = s->config->memory_bytes - other_bytes(s);
	r = store_open(&config, s->loop, s->net, &s->store);
	for (unsigned i = 0; i < s->unit_count && r == 0; i++) {
		r = to_shard(s, s->loop, (uint16_t)i, &stream);
		if (r == 0)
			r = store_join(s->store, stream);
	}
	for (unsigned i = 0; i < s->meta_count && r == 0 && s->unit_count == 0; i++)
		r = store_join_at(s->store, &s->metas[i]);
	return r < 0 ? complain("cannot open", "the store", r) : 0;
}

static void emptied(void *owner, uint64_t segment, uint32_t generation, int result)
{
	store_emptied(((struct process *)owner)->store, segment, generation, result);
}

/* Where the bytes are. */
int store_unit_open_mover(struct process *s)
{
	int r = mover_open(s->cores[0].core, emptied, s, &s->mover);

	if (r < 0)
		return complain("cannot open", "the mover", r);
	store_set_mover(s->store, s->mover, mover_empty);
	return 0;
}
