/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/keep_client.h"

#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/container.h"
#include "base/limits.h"
#include "base/node.h"
#include "shm/keep_set.h"
#include "shm/keep_wire.h"

struct keep_client {
	struct keep keep;
	pthread_mutex_t lock; /* all below */
	int fd;
	bool is_up;      /* the connection is good */
	bool is_waiting; /* for the next keeper, if there is none */
	pthread_cond_t renewed;
	/* What is kept, and is handed over to the next keeper. Descriptors of what nobody has
	 * taken are ours, others are their regions'. */
	struct keep_set set;
	struct keep_message message; /* what is being said */
};

/* The watcher sees the end of the connection, and closes it. */
static int fail(struct keep_client *c)
{
	c->is_up = false;
	(void)shutdown(c->fd, SHUT_RDWR);
	return -EHOSTDOWN;
}

/* Sends c->message and receives into it. What comes back is of this kind, or the keeper is left. */
static int ask(struct keep_client *c, enum keep_message_kind wanted)
{
	struct keep_message *m = &c->message;
	int r = c->is_up ? keep_send(c->fd, m) : -EHOSTDOWN;

	m->fd_count = 0;
	if (r == 0)
		r = keep_receive(c->fd, m);
	if (r == 0 && m->kind == wanted && m->fd_count == (wanted == KEEP_LIST ? m->count : 0))
		return 0;
	if (r == 0)
		keep_message_close(m);
	return r == -EMFILE ? r : fail(c);
}

static int put_message(struct keep_client *c)
{
	int r;

	c->message.kind = KEEP_PUT;
	c->message.fd_count = c->message.count;
	r = ask(c, KEEP_DONE);
	return r < 0 ? r : c->message.value > 0 ? -EBADMSG : c->message.value;
}

static int client_make(struct keep *k, size_t size, struct memory *ret)
{
	(void)k;
	return media_memfd.make(size, ret);
}

static int put_locked(struct keep_client *c, struct keep_name name, int fd)
{
	struct kept *e = keep_set_get(&c->set, name);
	int r = e ? 0 : keep_set_reserve(&c->set);

	if (r < 0)
		return r;
	c->message = (struct keep_message){ .count = 1, .names = { name }, .fds = { fd } };
	r = put_message(c);
	if (r < 0)
		return r;
	if (!e) {
		keep_set_add(&c->set, &(struct kept){ .name = name, .fd = fd });
		return 0;
	}
	if (e->is_found)
		close(e->fd);
	e->is_found = false;
	e->fd = fd;
	return 0;
}

static bool wait_for_next(struct keep_client *c, uint64_t due_ns)
{
	struct timespec due = { .tv_sec = (time_t)(due_ns / 1000000000u),
				.tv_nsec = (long)(due_ns % 1000000000u) };

	while (c->is_waiting && !c->is_up)
		if (pthread_cond_timedwait(&c->renewed, &c->lock, &due) == ETIMEDOUT)
			return false;
	return c->is_up;
}

static int client_put(struct keep *k, struct keep_name name, const struct memory *m)
{
	struct keep_client *c = container_of(k, struct keep_client, keep);
	uint64_t due_ns = node_now_ns() + KEEP_NEXT_MS * 1000000ull;
	int r;

	assert(m->fd >= 0);
	pthread_mutex_lock(&c->lock);
	do
		r = put_locked(c, name, m->fd);
	while (r == -EHOSTDOWN && !c->is_up && wait_for_next(c, due_ns));
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* A keeper that is gone has nothing to be told, and the next one is not given it. */
static void forget(struct keep_client *c, struct kept *e)
{
	c->message = (struct keep_message){ .kind = KEEP_DROP, .count = 1, .names = { e->name } };
	if (e->is_found)
		close(e->fd);
	keep_set_remove(&c->set, e);
	if (c->is_up && keep_send(c->fd, &c->message) < 0)
		(void)fail(c);
}

static void client_drop(struct keep *k, struct keep_name name)
{
	struct keep_client *c = container_of(k, struct keep_client, keep);
	struct kept *e;

	pthread_mutex_lock(&c->lock);
	e = keep_set_get(&c->set, name);
	if (e)
		forget(c, e);
	pthread_mutex_unlock(&c->lock);
}

static bool client_find(struct keep *k, struct keep_name from, struct keep_name *ret)
{
	struct keep_client *c = container_of(k, struct keep_client, keep);
	bool is_there;

	pthread_mutex_lock(&c->lock);
	is_there = keep_set_find(&c->set, from, ret);
	pthread_mutex_unlock(&c->lock);
	return is_there;
}

static int client_take(struct keep *k, struct keep_name name, struct memory *ret)
{
	struct keep_client *c = container_of(k, struct keep_client, keep);
	struct kept *e;
	int r = -ENOENT;

	pthread_mutex_lock(&c->lock);
	e = keep_set_get(&c->set, name);
	if (e && e->is_found)
		r = memory_adopt(e->fd, ret);
	if (r == 0)
		e->is_found = false;
	pthread_mutex_unlock(&c->lock);
	return r;
}

static void client_drop_rest(struct keep *k)
{
	struct keep_client *c = container_of(k, struct keep_client, keep);

	pthread_mutex_lock(&c->lock);
	for (unsigned i = c->set.count; i-- > 0;)
		if (c->set.list[i].is_found)
			forget(c, &c->set.list[i]);
	pthread_mutex_unlock(&c->lock);
}

static const struct keep_ops CLIENT_OPS = {
	.make = client_make,
	.put = client_put,
	.drop = client_drop,
	.find = client_find,
	.take = client_take,
	.drop_rest = client_drop_rest,
};

/* The connection is ours, and said who we are. */
static int greet(int fd)
{
	int r = keep_peer_is_ours(fd) ? keep_set_patience(fd, KEEP_ANSWER_MS) : -EACCES;

	if (r < 0)
		return r;
	/* It waits a second for this, and has hung up if we were stopped for longer. */
	r = keep_send(fd, &(struct keep_message){ .kind = KEEP_HELLO, .value = KEEP_VERSION });
	return r < 0 ? -EHOSTDOWN : 0;
}

/* A page of what the keeper has. Its descriptors are ours; a name that comes twice is a lie. */
static int list_page(struct keep_client *c, struct keep_name *from)
{
	struct keep_message *m = &c->message;
	int r;

	*m = (struct keep_message){ .kind = KEEP_LIST, .count = 1, .names = { *from } };
	r = ask(c, KEEP_LIST);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < m->count && r == 0; i++) {
		r = keep_set_get(&c->set, m->names[i]) ? -EBADMSG : keep_set_reserve(&c->set);
		if (r == 0) {
			keep_set_add(&c->set, &(struct kept){ .name = m->names[i],
							      .fd = m->fds[i],
							      .is_found = true });
			m->fds[i] = -1;
			*from = m->names[i];
		}
	}
	for (unsigned i = 0; i < m->count; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	if (r == 0 && m->value != 0 && (m->count == 0 || ++from->number == 0))
		r = -EBADMSG;
	return r < 0 ? r : m->value != 0;
}

static void init_renewed(struct keep_client *c)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* as node_now_ns() */
	pthread_cond_init(&c->renewed, &attributes);
	pthread_condattr_destroy(&attributes);
}

int keep_client_open(int fd, bool has_more, struct keep_client **ret)
{
	struct keep_client *c = node_alloc(sizeof(*c));
	struct keep_name from = { 0 };
	int r = c ? greet(fd) : -ENOMEM;

	if (r < 0) {
		close(fd);
		node_free(c);
		return r;
	}
	c->keep.ops = &CLIENT_OPS;
	c->fd = fd;
	c->is_up = true;
	pthread_mutex_init(&c->lock, NULL);
	init_renewed(c);
	while (has_more && (r = list_page(c, &from)) > 0)
		;
	if (r < 0) {
		keep_client_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void keep_client_close(struct keep_client *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->set.count; i++)
		if (c->set.list[i].is_found)
			close(c->set.list[i].fd);
	keep_set_fini(&c->set);
	close(c->fd);
	pthread_cond_destroy(&c->renewed);
	pthread_mutex_destroy(&c->lock);
	node_free(c);
}

void keep_client_end(struct keep_client *c)
{
	struct keep_message *m = &c->message;

	pthread_mutex_lock(&c->lock);
	*m = (struct keep_message){ .kind = KEEP_END };
	if (c->is_up && keep_send(c->fd, m) == 0)
		while (keep_receive(c->fd, m) == 0)
			keep_message_close(m);
	c->is_up = false;
	pthread_mutex_unlock(&c->lock);
}

struct keep *keep_client_keep(struct keep_client *c)
{
	return &c->keep;
}

void keep_client_set_waiting(struct keep_client *c, bool is_waiting)
{
	pthread_mutex_lock(&c->lock);
	c->is_waiting = is_waiting;
	pthread_mutex_unlock(&c->lock);
}

int keep_client_watch(struct keep_client *c, int wake_fd)
{
	/* Only the watcher changes the descriptor. It hears of the end without asking for it. */
	struct pollfd fds[2] = { { .fd = c->fd }, { .fd = wake_fd, .events = POLLIN } };

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents)
			return -ECANCELED;
		if (fds[0].revents)
			return 0;
	}
}

/* The last of the first `n`, a message's worth. */
static int hand_over(struct keep_client *c, unsigned n)
{
	c->message = (struct keep_message){ 0 };
	for (unsigned i = n > KEEP_BATCH ? n - KEEP_BATCH : 0; i < n; i++) {
		c->message.names[c->message.count] = c->set.list[i].name;
		c->message.fds[c->message.count++] = c->set.list[i].fd;
	}
	return put_message(c);
}

int keep_client_renew(struct keep_client *c, int fd)
{
	int r = greet(fd);

	if (r < 0) {
		close(fd);
		return r;
	}
	pthread_mutex_lock(&c->lock);
	close(c->fd);
	c->fd = fd;
	c->is_up = true;
	for (unsigned n = c->set.count; n > 0 && r == 0; n -= n < KEEP_BATCH ? n : KEEP_BATCH)
		r = hand_over(c, n);
	if (r < 0)
		(void)fail(c);
	else
		pthread_cond_broadcast(&c->renewed);
	pthread_mutex_unlock(&c->lock);
	return r;
}
