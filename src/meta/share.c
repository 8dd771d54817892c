/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share: how much a session has of one job. A proxy's session is shared by all jobs that
 * it serves, and without it one of them could take all that there is for the others.
 */
#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"

static uint64_t hash_of(const struct catalog *c, const struct session *s, const struct job *j)
{
	/* An id may come again while what it had before is cleared; a number does not. */
	uint64_t key[2] = { s->number, j->id };

	return hash_64(key, sizeof(key), c->seed);
}

static struct share *find(const struct catalog *c, const struct session *s, const struct job *j)
{
	struct hlink *l = htable_first(&c->shares, hash_of(c, s, j));

	for (; l; l = htable_next(l)) {
		struct share *h = container_of(l, struct share, link);

		if (h->session == s && h->job == j)
			return h;
	}
	return NULL;
}

struct share share_of(const struct catalog *c, const struct session *s, const struct job *j)
{
	const struct share *h = s ? find(c, s, j) : NULL;

	return h ? *h : (struct share){ 0 };
}

int share_reserve(const struct catalog *c, const struct session *s, const struct job *j,
		  struct share **ret_made)
{
	if (s && find(c, s, j))
		return 0;
	*ret_made = node_alloc(sizeof(**ret_made));
	return *ret_made ? 0 : -ENOMEM;
}

void share_change(struct catalog *c, struct session *s, struct job *j, int holds, int opens,
		  struct share **spare)
{
	struct share *h = find(c, s, j);

	if (!h) {
		h = TAKE_PTR(*spare);
		*h = (struct share){ .session = s, .job = j };
		htable_add(&c->shares, &h->link, hash_of(c, s, j));
	}
	s->hold_count += (uint32_t)holds;
	s->open_count += (uint32_t)opens;
	h->hold_count += (uint32_t)holds;
	h->open_count += (uint32_t)opens;
	if (h->hold_count > 0 || h->open_count > 0)
		return;
	htable_remove(&c->shares, &h->link);
	node_free(h);
}
