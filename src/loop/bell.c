/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/bell.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/container.h"
#include "base/limits.h"
#include "loop/epoll_priv.h"
#include "loop/loop_priv.h"

/* In memory of its own, for what epoll has told of may still be handed out in this turn. */
struct event {
	struct source source;
	struct bell *bell; /* NULL once it is closed */
	struct closing closing;
};

void bell_listen(struct bell *b)
{
	list_remove(&b->link);
	list_insert(&b->loop->bells, &b->link);
	b->heard_ns = b->loop->now_ns;
}

void bell_rest(struct bell *b)
{
	list_remove(&b->link);
}

/* An edge for each write, so there is no need to read the counter. */
static void rung(struct source *s, uint32_t events)
{
	struct bell *b = container_of(s, struct event, source)->bell;

	(void)events;
	if (b)
		bell_listen(b);
}

static void event_free(struct closing *c)
{
	node_free(container_of(c, struct event, closing));
}

static int event_open(struct bell *b)
{
	struct event *e = node_alloc(sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	*e = (struct event){ .bell = b, .source.event = rung, .closing.free = event_free };
	e->source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = e->source.fd < 0 ? -errno : source_open(b->loop, &e->source, EPOLLIN);
	if (r < 0) {
		if (e->source.fd >= 0)
			close(e->source.fd);
		node_free(e);
		return r;
	}
	b->event = e;
	return 0;
}

int bell_open(struct loop *l, struct bell *b, int *ret_fd)
{
	int r;

	if (l->ops->is_simulated)
		return -EOPNOTSUPP;
	b->loop = l;
	b->event = NULL;
	list_init(&b->link);
	if (!ret_fd)
		return 0;
	r = event_open(b);
	if (r < 0) {
		b->loop = NULL;
		return r;
	}
	*ret_fd = b->event->source.fd;
	bell_listen(b); /* what was written before it was there has rung at nothing */
	return 0;
}

void bell_close(struct bell *b)
{
	if (!b->loop)
		return;
	bell_rest(b);
	if (b->event) {
		b->event->bell = NULL;
		source_close(b->loop, &b->event->source);
		loop_free_later(b->loop, &b->event->closing);
	}
	b->event = NULL;
	b->loop = NULL;
}

static struct bell *bell_of(struct list *l)
{
	return container_of(l, struct bell, link);
}

static bool is_quiet(const struct loop *l, const struct bell *b)
{
	return b->event && l->now_ns - b->heard_ns > BELL_QUIET_NS;
}

bool bells_look(struct loop *l)
{
	bool is_any = false;
	struct list mark; /* each once, whatever is closed and opened meanwhile */

	if (list_is_empty(&l->bells))
		return false;
	list_insert(&l->bells, &mark);
	while (l->bells.next != &mark) {
		struct bell *b = bell_of(l->bells.next);

		list_remove(&b->link);
		list_insert(&l->bells, &b->link);
		if (is_quiet(l, b) && b->sleep(b, false)) {
			bell_rest(b);
		} else if (b->peek(b)) {
			b->heard_ns = l->now_ns;
			is_any |= b->look(b);
			(void)loop_settle(l);
		}
	}
	list_remove(&mark);
	return is_any;
}

bool bells_peek(const struct loop *l)
{
	for (struct list *i = l->bells.next; i != &l->bells; i = i->next)
		if (bell_of(i)->peek(bell_of(i)))
			return true;
	return false;
}

unsigned bells_count(const struct loop *l)
{
	unsigned count = 0;

	for (struct list *i = l->bells.next; i != &l->bells; i = i->next)
		count++;
	return count;
}

struct bell *bells_only(const struct loop *l)
{
	struct list *first = l->bells.next;

	return !list_is_empty(&l->bells) && first->next == &l->bells && bell_of(first)->word &&
			       !l->is_waited_for
		       ? bell_of(first)
		       : NULL;
}

void bells_awake(struct loop *l)
{
	for (struct list *i = l->bells.next; i != &l->bells; i = i->next)
		bell_of(i)->awake(bell_of(i));
}

bool bells_sleep(struct loop *l, bool is_on_word)
{
	for (struct list *i = l->bells.next; i != &l->bells; i = i->next) {
		if (bell_of(i)->sleep(bell_of(i), is_on_word))
			continue;
		bells_awake(l);
		return false;
	}
	return true;
}

bool bell_wait_word(struct bell *b, uint64_t ns)
{
	struct timespec rest = { .tv_nsec = (long)(ns < BELL_WORD_NS ? ns : BELL_WORD_NS) };

	return syscall(SYS_futex, b->word, FUTEX_WAIT, b->asleep, &rest, NULL, 0) == 0 ||
	       errno == EAGAIN;
}

void bell_ring_event(int fd)
{
	/* It cannot fail but for a full counter, and then it has been rung. */
	if (eventfd_write(fd, 1) < 0)
		return;
}

void bell_ring_word(_Atomic uint32_t *word)
{
	/* If nobody sleeps there any more, nobody is woken. */
	(void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}
