/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: what a reader or writer has in this slot. It comes with the first thing and
 * goes with the last; whether anybody was heard of it lately, the shard knows.
 */
#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"

struct session *catalog_session_find(const struct catalog *c, uint64_t id)
{
	for (struct hlink *l = htable_first(&c->sessions, id_hash(c, id)); l; l = htable_next(l)) {
		struct session *s = container_of(l, struct session, by_id);

		if (s->id == id)
			return s;
	}
	return NULL;
}

bool catalog_session_has(const struct catalog *c, uint64_t session)
{
	return catalog_session_find(c, session) != NULL;
}

bool catalog_session_is_of(const struct catalog *c, uint64_t session, uint64_t job)
{
	struct session *s = catalog_session_find(c, session);
	struct list *l;

	if (!s)
		return false;
	for (l = s->segments.next; l != &s->segments; l = l->next) {
		const struct job *j = container_of(l, struct segment, of_session)->job;

		if (!j || j->id != job)
			return false;
	}
	for (l = s->holds.next; l != &s->holds; l = l->next)
		if (container_of(l, struct hold, of_session)->entry->job->id != job)
			return false;
	for (l = s->opens.next; l != &s->opens; l = l->next)
		if (container_of(l, struct open, of_session)->job->id != job)
			return false;
	return true;
}

int catalog_sessions(const struct catalog *c, int (*each)(void *owner, uint64_t session),
		     void *owner)
{
	struct hlink *l = NULL;
	size_t at = 0;
	int r = 0;

	while (r == 0 && (l = htable_walk(&c->sessions, &at, l)) != NULL)
		r = each(owner, container_of(l, struct session, by_id)->id);
	return r;
}

int session_reserve(struct catalog *c, uint64_t id, struct session **ret_made)
{
	if (id == 0)
		return -EBADMSG;
	if (catalog_session_find(c, id))
		return 0;
	*ret_made = node_alloc(sizeof(**ret_made));
	return *ret_made ? 0 : -ENOMEM;
}

struct session *session_get(struct catalog *c, uint64_t id, struct session **spare)
{
	struct session *s = catalog_session_find(c, id);

	if (s)
		return s;
	s = TAKE_PTR(*spare);
	s->id = id;
	s->number = c->next_number++;
	s->seen = c->snapshot.round;
	list_init(&s->link);
	list_init(&s->segments);
	list_init(&s->holds);
	list_init(&s->opens);
	htable_add(&c->sessions, &s->by_id, id_hash(c, id));
	return s;
}

static bool has_rest(const struct session *s)
{
	return !list_is_empty(&s->segments) || !list_is_empty(&s->holds) ||
	       !list_is_empty(&s->opens);
}

void session_rest(struct catalog *c, struct session *s)
{
	if (s->over_number != 0 || has_rest(s))
		return;
	htable_remove(&c->sessions, &s->by_id);
	node_free(s);
}

static int over(struct catalog *c, uint64_t session, bool is_gone, uint64_t now_ns,
		struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_SESSION_OVER, .at_ns = now_ns };

	outcome_begin(c, ret);
	if (!catalog_session_find(c, session))
		return 0;
	e.u.session_over.session = session;
	e.u.session_over.is_gone = is_gone;
	return effect_do(c, &e);
}

int catalog_session_over(struct catalog *c, uint64_t session, uint64_t now_ns, struct outcome *ret)
{
	return over(c, session, false, now_ns, ret);
}

int catalog_session_gone(struct catalog *c, uint64_t session, uint64_t now_ns, struct outcome *ret)
{
	return over(c, session, true, now_ns, ret);
}

/* SESSION_OVER */

int session_over_reserve(struct catalog *c, struct effect *e)
{
	e->at.session = catalog_session_find(c, e->u.session_over.session);
	return e->at.session ? 0 : -EBADMSG;
}

/* Its next epoch, if there is one, begins with another struct. */
void session_over_apply(struct catalog *c, struct effect *e)
{
	struct session *s = e->at.session;

	SNAPSHOT(session, s);
	htable_remove(&c->sessions, &s->by_id);
	s->over_number = c->next_number++;
	s->is_gone = e->u.session_over.is_gone != 0;
	list_insert(&c->over_sessions, &s->link);
}

/* SESSION_CLEARED: the one that has been over for longest, of this id. */

int session_cleared_reserve(struct catalog *c, struct effect *e)
{
	for (struct list *l = c->over_sessions.next; l != &c->over_sessions; l = l->next) {
		struct session *s = container_of(l, struct session, link);

		if (s->id == e->u.session_cleared.session) {
			e->at.session = s;
			return 0;
		}
	}
	return -EBADMSG;
}

static void clear_one(struct catalog *c, struct session *s, uint64_t at_ns)
{
	if (!list_is_empty(&s->segments))
		catalog_segment_fence(c, container_of(s->segments.next, struct segment, of_session),
				      s->is_gone);
	else if (!list_is_empty(&s->holds))
		hold_end(c, container_of(s->holds.next, struct hold, of_session), NULL, at_ns);
	else
		open_drop(c, container_of(s->opens.next, struct open, of_session));
}

void session_cleared_apply(struct catalog *c, struct effect *e)
{
	struct session *s = e->at.session;

	for (uint32_t i = 0; i < e->u.session_cleared.count && has_rest(s); i++)
		clear_one(c, s, e->at_ns);
	if (has_rest(s))
		return;
	list_remove(&s->link);
	node_free(s);
}
