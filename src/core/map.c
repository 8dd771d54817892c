/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map: a direct client is given one address of the metadata server, or some. The first shard
 * that it reaches tells it where all of them are, and who it is itself.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/node.h"
#include "core/core_priv.h"

int identity_set(struct core *c, const struct hello_rep *rep)
{
	struct identity *i = &c->identity;

	if (rep->job_name.len > sizeof(i->job_name) || rep->prefix.len > sizeof(i->prefix))
		return -EBADMSG;
	if (rep->job || !i->job)
		i->job = rep->job;
	i->changes = rep->changes;
	i->heard_ns = c->loop->now_ns;
	i->rights = rep->rights;
	i->job_name_len = (uint8_t)rep->job_name.len;
	memcpy(i->job_name, rep->job_name.ptr, rep->job_name.len);
	i->prefix_len = (uint16_t)rep->prefix.len;
	if (rep->prefix.len > 0)
		memcpy(i->prefix, rep->prefix.ptr, rep->prefix.len);
	return 0;
}

int core_identify(struct core *c, uint64_t due_ns, const struct identity **ret, char *why,
		  size_t why_cap)
{
	struct shard_link *first = c->links[0];
	struct identity *i = &c->identity;
	int r = 0;

	/* Whose shard is to be reached it tells us. */
	if (c->shard_count == 0)
		r = link_wait(first, due_ns);
	if (r < 0)
		snprintf(why, why_cap, "%s", first->why);
	else
		r = core_reach(c, slot_of_name((struct slice){ i->job_name, i->job_name_len }),
			       due_ns, why, why_cap);
	*ret = i;
	return r;
}

/* Who was given as many addresses as there are shards has all of them. */
static void set_address(struct shard_link *l, const struct address_entry *e, unsigned count,
			const struct address *told_by)
{
	const struct core_config *config = &l->core->config;
	char text[ADDRESS_TEXT_MAX];

	snprintf(text, sizeof(text), "%.*s", (int)e->address.len, e->address.ptr);
	if (count == config->meta_count)
		l->address = config->metas[l->index];
	else if (e->address.len >= sizeof(text) || address_parse(text, &l->address) < 0)
		l->address = (struct address){ .kind = ADDRESS_NONE };
	else
		address_fill(&l->address, told_by);
}

static int make_links(struct shard_link *first, struct rcur *shards, unsigned count,
		      struct shard_link **links)
{
	bool is_there = false;

	for (uint16_t i = 0; i < count; i++) {
		struct address_entry e;

		address_entry_get(shards, &e);
		if (shards->bad)
			return -EBADMSG;
		/* The one that answers is the one that has an incarnation. */
		if (e.incarnation && !is_there) {
			first->index = i;
			links[i] = first;
			is_there = true;
			continue;
		}
		links[i] = link_new(first->core, i);
		if (!links[i])
			return -ENOMEM;
		set_address(links[i], &e, count, &first->address);
	}
	return is_there ? 0 : -EBADMSG;
}

static int take_map(struct shard_link *first, struct rcur *shards, unsigned count)
{
	struct shard_link *links[SHARDS_MAX] = { NULL };
	struct core *c = first->core;
	int r = count == 0 || count > SHARDS_MAX ? -EBADMSG
						 : make_links(first, shards, count, links);

	for (unsigned i = 0; i < SHARDS_MAX && r < 0; i++)
		if (links[i] && links[i] != first)
			link_free(links[i]);
	if (r < 0)
		return r;
	memcpy(c->links, links, sizeof(links));
	c->shard_count = (uint16_t)count;
	return 0;
}

void map_fini(struct shard_link *l)
{
	if (l->map.is_pending)
		call_cancel(&l->map);
	call_end(&l->map);
	l->map.room = node_free(l->map.room);
}

static void map_done(struct call *call)
{
	struct shard_link *l = call->owner;
	struct rcur body = call_reply(call), shards = rcur_make(call->room, call->room_len);
	int r = call->room ? call->result : -ENOMEM;
	struct map_rep rep;

	if (r == 0)
		r = map_rep_get(&body, &rep);
	if (r == 0)
		r = take_map(l, &shards, rep.shard_count);
	map_fini(l);
	if (r == 0) {
		link_begin(l);
		return;
	}
	/*
	 * If HELLO was refused, or nobody is there, that has been told; or it will be: such a
	 * refusal may wait until it is safe, and who is not let in yet is DENIED everything else.
	 */
	if (!l->conn || l->is_refused || (r == -EACCES && l->hello.is_pending))
		return;
	if (r == -EOPNOTSUPP)
		link_refuse(l, r,
			    "a proxy or a store is there, not metadata: a proxy's address "
			    "begins with tcp://");
	else
		link_refuse(l, r,
			    r == -ENOMEM ? "no memory for where its shards are"
					 : "where its shards are metadata did not say");
	conn_close(l->conn);
}

void map_ask(struct shard_link *l)
{
	struct wcur w;

	map_fini(l);
	l->map = (struct call){ .done = map_done, .owner = l, .net = l->core->net };
	l->map.room = node_alloc(LIST_BYTES);
	l->map.room_cap = l->map.room ? LIST_BYTES : 0;
	w = call_body(l->core->net, &l->map);
	map_req_put(&w, &(struct map_req){});
	call_send(l->conn, &l->map, MSG_MAP, 0, &w, NULL,
		  l->core->loop->now_ns + HELLO_MS_MAX * 1000000ull);
}
