/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/epoll_priv.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/container.h"
#include "base/limits.h"
#include "loop/loop_priv.h"

/* To the other thread of this core, if there is one. */
#if defined(__x86_64__)
#define cpu_relax() __builtin_ia32_pause()
#else
#define cpu_relax() __asm__ volatile("yield")
#endif

/* What fits epoll_wait()'s int; a wait that is longer ends with a turn in which nothing is due. */
#define WAIT_NS_MAX (1000000ull * 1000000000)

static int control(struct loop *l, struct source *s, int how, uint32_t events)
{
	struct epoll_event e = { .events = events | EPOLLET, .data.ptr = s };

	return epoll_ctl(epoll_of(l)->epoll_fd, how, s->fd, &e) < 0 ? -errno : 0;
}

int source_open(struct loop *l, struct source *s, uint32_t events)
{
	return control(l, s, EPOLL_CTL_ADD, events);
}

int source_change(struct loop *l, struct source *s, uint32_t events)
{
	return control(l, s, EPOLL_CTL_MOD, events);
}

void source_close(struct loop *l, struct source *s)
{
	if (s->fd < 0)
		return;
	if (epoll_of(l)->only == s)
		epoll_of(l)->only = NULL;
	/*
	 * close() alone would do, but for a copy of the descriptor in a child that was
	 * forked by whoever we are a library of: epoll would go on telling us.
	 */
	epoll_ctl(epoll_of(l)->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	close(s->fd);
	s->fd = -1;
}

static int wait_ns(struct epoll_loop *el, struct epoll_event *events, uint64_t ns)
{
	struct timespec rest = { .tv_sec = (time_t)(ns / 1000000000u),
				 .tv_nsec = (long)(ns % 1000000000u) };
	int n;

	if (!el->has_only_ms) {
		n = epoll_pwait2(el->epoll_fd, events, LOOP_EVENTS_PER_TURN, &rest, NULL);
		if (n >= 0 || errno != ENOSYS)
			return n;
		el->has_only_ms = true;
	}
	/* Rounded up: a turn too early would find nothing due, and spin. */
	ns = ns < WAIT_NS_MAX ? (ns + 999999) / 1000000 : WAIT_NS_MAX / 1000000;
	return epoll_wait(el->epoll_fd, events, LOOP_EVENTS_PER_TURN, (int)ns);
}

/* Memory is looked at so many times for each time that the kernel is asked. */
#define PEEKS 32

static bool peek_for_a_moment(struct loop *l)
{
	if (list_is_empty(&l->bells))
		return false;
	for (int i = 0; i < PEEKS; i++) {
		if (bells_peek(l))
			return true;
		cpu_relax();
	}
	return false;
}

/*
 * Asks again and again, until `end_ns`. 0: nothing has come, or a bell. If the core was somebody
 * else's in between, others want it, and who sleeps gets it back sooner than who spins.
 */
static int stay_awake(struct epoll_loop *el, struct epoll_event *events, uint64_t now_ns,
		      uint64_t end_ns)
{
	while (now_ns < end_ns && !peek_for_a_moment(&el->loop)) {
		int n = epoll_wait(el->epoll_fd, events, LOOP_EVENTS_PER_TURN, 0);
		uint64_t then_ns = now_ns;

		now_ns = node_now_ns();
		if (now_ns - then_ns > LOOP_AWAKE_GAP_NS)
			el->rest_ns = now_ns + LOOP_AWAKE_REST_MS * 1000000ull;
		if (n != 0 || now_ns < el->rest_ns)
			return n;
	}
	return 0;
}

/* A client, or whoever has clients that write into his memory. */
static bool may_stay_awake(const struct loop *l)
{
	return l->may_stay_awake || !list_is_empty(&l->bells);
}

/*
 * Two waits in a row that were over soon are a conversation: the next one will be, too. Where there
 * is one core it is the other one's, too, and so it is where as many talk to us as there are
 * cores; to ask how many there are takes as long as a request.
 */
static bool is_conversation(struct epoll_loop *el, uint64_t now_ns)
{
	if (!may_stay_awake(&el->loop) || el->short_waits < 2 || now_ns < el->rest_ns)
		return false;
	if (el->core_count == 0)
		el->core_count = sysconf(_SC_NPROCESSORS_ONLN);
	return el->core_count > 1 && bells_count(&el->loop) < (unsigned long)el->core_count;
}

/* Sleeps, `ns` at most; whatever has come meanwhile is seen first. */
static int sleep_ns(struct epoll_loop *el, struct epoll_event *events, uint64_t ns)
{
	struct loop *l = &el->loop;
	struct bell *b = bells_only(l);
	int n = 0;

	if (ns == 0)
		return wait_ns(el, events, 0);
	if (!bells_sleep(l, b != NULL))
		return 0;
	/* A socket that closes rings no bell, so it is asked for now and then. */
	if (!b || !bell_wait_word(b, ns))
		n = wait_ns(el, events, b ? 0 : ns);
	bells_awake(l);
	return n;
}

/* Reads the clock itself, for the turn has taken time so far. */
static int wait_until(struct epoll_loop *el, struct epoll_event *events, uint64_t due_ns)
{
	struct loop *l = &el->loop;
	uint64_t now_ns = node_now_ns(), end_ns = now_ns + LOOP_AWAKE_NS_MAX;
	bool may_wait;
	int n = 0;

	loop_polls(l, now_ns);
	may_wait = mailbox_sleep(&l->mail) && due_ns > now_ns;
	if (may_wait && is_conversation(el, now_ns))
		n = stay_awake(el, events, now_ns, end_ns < due_ns ? end_ns : due_ns);
	if (n == 0) {
		uint64_t then_ns = may_stay_awake(l) ? node_now_ns() : now_ns;

		n = sleep_ns(el, events, may_wait && due_ns > then_ns ? due_ns - then_ns : 0);
	}
	mailbox_awake(&l->mail);
	l->now_ns = l->polled_ns = node_now_ns();
	el->short_waits = l->now_ns < end_ns ? el->short_waits + 1 : 0;
	return n;
}

/*
 * The next turn has work of its own, or there will be none, so what the kernel has may wait a
 * little; who waits for our descriptor is told of it all the same, for as long as it is there.
 */
static bool may_leave_unasked(struct epoll_loop *el)
{
	struct loop *l = &el->loop;

	if (!l->is_needed_soon)
		return false;
	if (el->unasked == 0)
		el->unasked_from_ns = l->now_ns;
	return el->unasked++ < LOOP_TURNS_UNASKED &&
	       l->now_ns - el->unasked_from_ns < LOOP_UNASKED_NS;
}

/* So often the only one, it is likely to be that again. */
#define ONLY_COUNT 3

static void note_only(struct epoll_loop *el, struct source *s)
{
	el->only_count = s && s == el->only ? el->only_count + 1 : 0;
	el->only = s;
}

/*
 * Who waits for our descriptor comes because something has come, and with one connection it is
 * clear from where: that is asked itself, and epoll is not. False: it had nothing.
 */
static bool only_has_brought(struct epoll_loop *el, uint64_t due_ns)
{
	struct loop *l = &el->loop;
	struct source *s = el->only;
	unsigned before;

	if (!l->is_waited_for || due_ns > l->now_ns || !s || el->only_count < ONLY_COUNT ||
	    el->only_turns++ >= LOOP_TURNS_UNASKED)
		return false;
	before = s->received;
	s->event(s, EPOLLIN);
	loop_settle(l);
	if (s->received == before)
		el->only_count = 0;
	else
		el->unasked = 0; /* the kernel has been asked, if not all of it */
	return s->received != before;
}

static int epoll_poll(struct loop *l, uint64_t due_ns)
{
	struct epoll_loop *el = epoll_of(l);
	struct epoll_event events[LOOP_EVENTS_PER_TURN];
	int n;

	if (may_leave_unasked(el) || only_has_brought(el, due_ns))
		return 0;
	el->unasked = el->only_turns = 0;
	if (due_ns > l->now_ns) {
		n = wait_until(el, events, due_ns);
	} else {
		loop_polls(l, l->now_ns);
		n = epoll_wait(el->epoll_fd, events, LOOP_EVENTS_PER_TURN, 0);
	}
	if (n < 0 && errno != EINTR)
		return -errno;
	l->signal_count += n < 0;
	if (n > 0)
		note_only(el, n == 1 ? events[0].data.ptr : NULL);
	for (int i = 0; i < n; i++) {
		struct source *s = events[i].data.ptr;

		if (s->fd >= 0)
			s->event(s, events[i].events);
		loop_settle(l);
	}
	return 0;
}

static void epoll_wake(struct loop *l)
{
	/* It cannot fail but for a full counter, and then it is awake already. */
	if (eventfd_write(epoll_of(l)->alarm.fd, 1) < 0)
		return;
}

/* An edge for each write, so there is no need to read the counter. */
static void alarm_event(struct source *s, uint32_t events)
{
	(void)s, (void)events;
}

static void clock_event(struct source *s, uint32_t events)
{
	(void)events;
	container_of(s, struct epoll_loop, clock)->clock_due_ns = UINT64_MAX;
}

static int epoll_loop_fd(struct loop *l)
{
	struct epoll_loop *el = epoll_of(l);
	int r = 0;

	if (el->clock.fd < 0) {
		el->clock.fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
		r = el->clock.fd < 0 ? -errno : source_open(l, &el->clock, EPOLLIN);
	}
	if (r < 0)
		source_close(l, &el->clock);
	return r < 0 ? r : el->epoll_fd;
}

/* One that rings before that is left to ring: the turn that it asks for sets it again. */
static void epoll_tell(struct loop *l, uint64_t due_ns)
{
	struct epoll_loop *el = epoll_of(l);
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(due_ns / 1000000000u),
					       .tv_nsec = (long)(due_ns % 1000000000u) } };

	if (due_ns >= el->clock_due_ns)
		return;
	if (timerfd_settime(el->clock.fd, TFD_TIMER_ABSTIME, &at, NULL) == 0)
		el->clock_due_ns = due_ns;
}

static void epoll_close(struct loop *l)
{
	struct epoll_loop *el = epoll_of(l);

	sockets_end(el);
	source_close(l, &el->clock);
	source_close(l, &el->alarm);
	close(el->epoll_fd);
	node_free(el);
}

static const struct loop_ops EPOLL_OPS = {
	.poll = epoll_poll,
	.wake = epoll_wake,
	.connect = socket_connect,
	.listen = acceptor_open,
	.adopt = socket_adopt,
	.unlisten = acceptor_close,
	.close = epoll_close,
	.fd = epoll_loop_fd,
	.tell = epoll_tell,
};

int loop_open_epoll(struct loop **ret)
{
	struct epoll_loop *el = node_alloc(sizeof(*el));
	int r;

	if (!el)
		return -ENOMEM;
	loop_init(&el->loop, &EPOLL_OPS);
	el->alarm = (struct source){ .event = alarm_event, .fd = -1 };
	el->clock = (struct source){ .event = clock_event, .fd = -1 };
	el->clock_due_ns = UINT64_MAX;
	el->loop.fds_unread_max = 2 * STREAM_FDS_UNREAD;
	list_init(&el->unread);
	el->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (el->epoll_fd < 0) {
		r = -errno;
		node_free(el);
		return r;
	}
	el->alarm.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = el->alarm.fd < 0 ? -errno : source_open(&el->loop, &el->alarm, EPOLLIN);
	if (r < 0) {
		epoll_close(&el->loop);
		return r;
	}
	*ret = &el->loop;
	return 0;
}
