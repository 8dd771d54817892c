/* SPDX-License-Identifier: Apache-2.0 */
/*
 * take: objects that others are told of, who do not ask. Their shard says when one is that no
 * more, and that may come before the answer which says what it is: who is about to tell looks
 * whether it did.
 */
#include <errno.h>
#include <string.h>

#include "base/container.h"
#include "core/core_priv.h"

/* On the stack of the fiber that waits for the answer. */
struct taking {
	struct list link;
	uint64_t job;
	struct slice path;
	bool is_spoiled;
};

void takings_spoil(struct core *c, uint64_t job, struct slice path)
{
	for (struct list *l = c->takings.next; l != &c->takings; l = l->next) {
		struct taking *t = container_of(l, struct taking, link);

		if (t->job == job &&
		    (path.len == 0 ||
		     (path.len == t->path.len && memcmp(t->path.ptr, path.ptr, path.len) == 0)))
			t->is_spoiled = true;
	}
}

void takings_spoil_shard(struct core *c, uint16_t shard)
{
	for (struct list *l = c->takings.next; l != &c->takings; l = l->next) {
		struct taking *t = container_of(l, struct taking, link);

		if (core_shard_of(c, t->job) == shard)
			t->is_spoiled = true;
	}
}

int object_take(struct core *c, uint64_t job, struct slice path, uint64_t due_ns, struct found *ret,
		char *why, size_t why_cap)
{
	const struct lookup_req req = {
		.job = job, .take = UINT32_MAX, .is_told_on = 1, .path = path
	};
	struct taking t = { .job = job, .path = path };
	int r;

	list_init(&t.link);
	list_insert(&c->takings, &t.link);
	r = object_look_up(c, &req, due_ns, ret, why, why_cap);
	list_remove(&t.link);
	return r == 0 && t.is_spoiled ? -EAGAIN : r;
}
