/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_priv.h"

#include <errno.h>

#include "base/node.h"
#include "wire/token.h"

static bool is_key(const struct store *s, struct slice given)
{
	unsigned difference = given.len != s->key_len;

	/* In a time that does not tell how much of it was right. */
	for (size_t i = 0; i < given.len && s->key_len > 0; i++)
		difference |= given.ptr[i] ^ (uint8_t)s->key[i % s->key_len];
	return difference == 0;
}

static int check_server(const struct store *s, const struct conn *c, const struct hello_req *q,
			const char **ret_why)
{
	*ret_why = "no such role";
	if (q->role != ROLE_PROXY && q->role != ROLE_META && q->role != ROLE_STORE)
		return -EINVAL;
	*ret_why = "not the key of this store's servers";
	if (!is_key(s, q->secret))
		return -EKEYREJECTED;
	*ret_why = "without a shared key, only for servers on this host";
	if (s->key_len == 0 && !c->peer.is_loopback)
		return -EACCES;
	return 0;
}

/* A direct client: it reads and writes segments of its job, and asks the slot for the rest. */
static int check_job(const struct store *s, const struct hello_req *q, struct access *ret,
		     const char **ret_why)
{
	struct token t;
	int r;

	*ret_why = "this storage server knows no tokens: start it with --token-key, for direct://";
	if (s->token_key_len == 0)
		return -EOPNOTSUPP;
	*ret_why = "not a token of this store, or its time is over";
	r = token_verify(q->secret, s->token_key, s->token_key_len, node_wall_ns(), &t);
	if (r < 0)
		return r;
	*ret_why = "only for a token of the whole job";
	if (t.prefix.len > 0)
		return -EACCES;
	ret->job = t.job;
	ret->rights = t.rights;
	ret->valid_until_ns = t.valid_until_ns;
	return 0;
}

static int check_hello(const struct store *s, const struct conn *c, const struct hello_req *q,
		       struct access *ret, const char **ret_why)
{
	*ret_why = "a connection says HELLO once";
	if (c->access)
		return -EINVAL;
	*ret_why = "this store speaks version 1 of the protocol";
	if (q->version != PROTOCOL_VERSION)
		return -EPROTONOSUPPORT;
	ret->role = q->role;
	return q->role == ROLE_JOB ? check_job(s, q, ret, ret_why) : check_server(s, c, q, ret_why);
}

/* So that the connections of a job are found when it is over; after htable_reserve(). */
static void client_add(struct store *s, struct client *k)
{
	htable_add(&s->jobs, &k->of_job, k->conn->access->job);
	k->is_of_job = true;
}

int store_access_set(struct conn *c, const struct access *access)
{
	c->access = node_alloc(sizeof(*c->access));
	if (!c->access)
		return -ENOMEM;
	*c->access = *access;
	return 0;
}

void store_hello_serve(struct request *r)
{
	struct store *s = r->conn->owner;
	struct rcur body = request_body(r);
	struct access access = { .role = ROLE_COUNT };
	struct hello_req q;
	const char *why = NULL;
	struct wcur w;
	int e = hello_req_get(&body, &q);

	if (e == 0)
		e = check_hello(s, r->conn, &q, &access, &why);
	if (e == 0)
		why = "the store has no memory for another client";
	if (e == 0 && access.role == ROLE_JOB)
		e = htable_reserve(&s->jobs);
	if (e == 0)
		e = store_access_set(r->conn, &access);
	if (e < 0) {
		request_fail(r, e, "%s", why ? why : "not a HELLO");
		return;
	}
	if (access.role == ROLE_JOB)
		client_add(s, r->conn->state);
	w = request_answer(r);
	hello_rep_put(&w, &(struct hello_rep){ .version = PROTOCOL_VERSION,
					       .credit = CONN_CREDIT,
					       .inline_max = INLINE_BYTES_MAX,
					       .job = access.job,
					       .rights = access.rights,
					       .slot = slot_of_id(access.job) });
	request_reply(r, &w, NULL);
}
