/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/container.h"
#include "base/node.h"
#include "core/core_priv.h"

/* Between two tries of a READ or a WRITE. */
#define RESTART_PAUSE_NS 10000000ull

/* One that is not connected is forgotten after so long: if it comes back at all, its shard knows
 * where. */
#define FORGET_NS (60ull * 1000000000)

/* That it does not answer is said this much before the deadline, so that it is heard before it. */
#define EARLY_SHARE 8

static void store_lost(struct conn *conn)
{
	struct store_link *l = conn->owner;

	if (!l || l->conn != conn)
		return; /* closed by us, or by the end of the core */
	l->conn = NULL;
	l->is_ready = false;
}

/* A store asks nothing of us; the table is for the end of the connection. */
static const struct service STORE_SERVICE = { .server = SERVER_PROXY, .closed = store_lost };

static struct store_link *store_find(struct core *c, uint64_t store)
{
	for (struct list *l = c->stores.next; l != &c->stores; l = l->next) {
		struct store_link *s = container_of(l, struct store_link, link);

		if (s->store == store)
			return s;
	}
	return NULL;
}

/*
 * The shard of a slot knows those stores that the slot has segments of, whether they have come
 * back to it or not. *ret: LIST_BYTES, to be freed; at its stores.
 */
static int ask_map(struct core *c, uint16_t slot, uint64_t due_ns, uint8_t **ret,
		   struct rcur *ret_stores, unsigned *ret_count)
{
	uint8_t *room = node_alloc(LIST_BYTES);
	struct map_rep rep;
	struct ask a;
	struct rcur body;
	struct wcur w = ask_begin(c, &a, MSG_MAP, slot);
	int r = -ENOMEM;

	a.call.room = room;
	a.call.room_cap = LIST_BYTES;
	map_req_put(&w, &(struct map_req){});
	if (room)
		r = ask_wait(&a, &w, NULL, due_ns);
	body = ask_reply(&a);
	if (r == 0)
		r = map_rep_get(&body, &rep);
	*ret_stores = rcur_make(room, a.call.room_len);
	for (unsigned i = 0; r == 0 && i < rep.shard_count; i++) {
		struct address_entry shard;

		address_entry_get(ret_stores, &shard);
	}
	ask_end(&a);
	if (r < 0) {
		node_free(room);
		return r;
	}
	*ret = room;
	*ret_count = rep.store_count;
	return 0;
}

static int get_store(struct rcur *stores, uint64_t *ret_store, struct address *ret)
{
	struct address_entry e;
	char text[ADDRESS_TEXT_MAX];

	address_entry_get(stores, &e);
	if (stores->bad || e.address.len >= sizeof(text))
		return -EBADMSG;
	memcpy(text, e.address.ptr, e.address.len);
	text[e.address.len] = '\0';
	*ret_store = e.incarnation;
	return address_parse(text, ret);
}

/* Whether its bytes are lost its slot decides: what is not known here is out of reach. */
static int store_address(struct core *c, uint64_t store, uint16_t slot, uint64_t due_ns,
			 struct address *ret)
{
	struct rcur stores;
	uint64_t found = 0;
	unsigned count;
	uint8_t *room;
	int r = ask_map(c, slot, due_ns, &room, &stores, &count), x = -EHOSTUNREACH;

	if (r < 0)
		return r;
	while (count-- > 0 && !stores.bad && found != store)
		x = get_store(&stores, &found, ret);
	node_free(room);
	return found == store && x == 0 ? 0 : -EHOSTUNREACH;
}

/* A function with its token; who may administer the store has what its servers have. */
static uint16_t store_role(const struct core *c)
{
	return c->config.is_direct && !(c->identity.rights & RIGHT_ADMIN) ? ROLE_JOB : ROLE_PROXY;
}

static int store_hello(struct store_link *l, struct conn *conn, uint64_t due_ns)
{
	struct call call = { 0 };
	struct wcur w;
	int r;

	conn->access = node_alloc(sizeof(*conn->access));
	if (!conn->access)
		return -ENOMEM;
	conn->access->role = ROLE_STORE;
	w = call_body(l->core->net, &call);
	hello_req_put(&w, &(struct hello_req){ .version = PROTOCOL_VERSION,
					       .role = store_role(l->core),
					       .secret = l->core->config.key });
	call_send(conn, &call, MSG_HELLO, 0, &w, NULL, due_ns);
	r = call_wait(&call);
	l->core->store_refusal = r;
	call_detail(&call, l->core->store_words, sizeof(l->core->store_words));
	call_end(&call);
	/* It may have answered, and be gone again. */
	return r == 0 && l->conn != conn ? -ECONNRESET : r;
}

static int store_open(struct store_link *l, uint64_t due_ns)
{
	struct stream *s;
	struct conn *conn;
	int r = stream_connect(l->core->loop, &l->address, &s);

	/* Without a descriptor, for one: it cannot be reached, for now. */
	if (r < 0)
		return r == -ENOMEM ? r : -EHOSTUNREACH;
	conn = conn_open(l->core->net, s, &STORE_SERVICE, l);
	if (!conn)
		return -ENOMEM;
	l->conn = conn;
	r = store_hello(l, conn, due_ns);
	if (r < 0 && l->conn == conn) {
		l->conn = NULL;
		conn_close(conn);
	}
	return r;
}

const char *core_words(const struct core *c, int r, const char *otherwise)
{
	return r < 0 && r == c->store_refusal && c->store_words[0] ? c->store_words : otherwise;
}

/* One fiber connects; the others wait for it, and then look for themselves. */
static int store_connect(struct store_link *l, uint64_t due_ns)
{
	int r;

	if (l->is_connecting)
		return waitq_wait(&l->ready, due_ns);
	l->is_connecting = true;
	r = store_open(l, due_ns);
	l->is_connecting = false;
	l->is_ready = r == 0;
	while (waitq_wake(&l->ready))
		;
	return r;
}

int store_conn(struct core *c, uint64_t store, uint16_t slot, uint64_t due_ns, struct conn **ret)
{
	struct store_link *l = store_find(c, store);
	int r = 0;

	if (!l) {
		struct address address;

		r = store_address(c, store, slot, due_ns, &address);
		if (r < 0)
			return r;
		l = store_find(c, store); /* perhaps somebody else asked, too */
		if (!l) {
			l = node_alloc(sizeof(*l));
			if (!l)
				return -ENOMEM;
			*l = (struct store_link){ .core = c, .store = store, .address = address };
			waitq_init(&l->ready, &c->loop->fibers);
			list_init(&l->link);
			list_insert(&c->stores, &l->link);
		}
	}
	l->user_count++;
	while (r == 0 && !l->is_ready)
		r = store_connect(l, due_ns);
	l->user_count--;
	l->used_ns = c->loop->now_ns;
	if (r == 0)
		*ret = l->conn;
	return r;
}

struct store_wait store_wait_begin(const struct core *c, uint64_t due_ns)
{
	uint64_t now_ns = c->loop->now_ns, back_ns = now_ns + STORE_RESTART_MS * 1000000ull;
	uint64_t heard_ns = due_ns > now_ns ? due_ns - (due_ns - now_ns) / EARLY_SHARE : now_ns;

	return (struct store_wait){ .until_ns = heard_ns < back_ns ? heard_ns : back_ns };
}

bool store_comes_back(struct core *c, struct store_wait *w, int *result)
{
	if (*result != -ECONNRESET && *result != -EHOSTUNREACH)
		return false;
	w->first = w->first ? w->first : *result;
	if (!c->is_closing && c->loop->now_ns < w->until_ns &&
	    core_sleep(c, c->loop->now_ns + RESTART_PAUSE_NS) == 0)
		return true;
	*result = w->first;
	return false;
}

static int ask_info(struct core *c, uint64_t store, uint64_t due_ns, struct info_rep *ret)
{
	struct call call = { 0 };
	struct conn *conn;
	struct rcur body;
	struct wcur w;
	int r = store_conn(c, store, 0, due_ns, &conn);

	if (r < 0)
		return r;
	w = call_body(c->net, &call);
	info_req_put(&w, &(struct info_req){});
	call_send(conn, &call, MSG_INFO, 0, &w, NULL, due_ns);
	r = call_wait(&call);
	body = call_reply(&call);
	if (r == 0)
		r = info_rep_get(&body, ret);
	call_end(&call);
	return r;
}

int core_stores_info(struct core *c, uint64_t due_ns,
		     void (*add)(void *owner, const struct info_rep *one), void *owner)
{
	struct rcur stores;
	unsigned count;
	uint8_t *room;
	int r = ask_map(c, 0, due_ns, &room, &stores, &count);

	if (r < 0)
		return r;
	while (count-- > 0 && !stores.bad) {
		struct info_rep one;
		struct address address;
		uint64_t store;

		if (get_store(&stores, &store, &address) < 0 || store == c->config.reach_store)
			continue;
		add(owner, ask_info(c, store, due_ns, &one) == 0 ? &one : NULL);
	}
	node_free(room);
	return 0;
}

static void link_drop(struct store_link *l)
{
	list_remove(&l->link);
	if (l->conn) {
		l->conn->owner = NULL;
		conn_close(l->conn);
	}
	node_free(l);
}

void stores_tidy(struct core *c)
{
	for (struct list *i = c->stores.next, *next; i != &c->stores; i = next) {
		struct store_link *l = container_of(i, struct store_link, link);

		next = i->next;
		if (!l->conn && l->user_count == 0 && c->loop->now_ns - l->used_ns > FORGET_NS)
			link_drop(l);
	}
}

void stores_close(struct core *c)
{
	while (!list_is_empty(&c->stores))
		link_drop(container_of(c->stores.next, struct store_link, link));
}
