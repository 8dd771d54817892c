/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keepers. One contract for both: the real one, a process of its own that is spoken to
 * over its socket, and the simulator's. Then what only the real one can show: owners
 * and keepers that are killed, and strangers at the socket.
 */
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/node.h"
#include "loop/sim.h"
#include "shm/keep_client.h"
#include "shm/keep_heap.h"
#include "shm/keep_wire.h"
#include "shm/keeper.h"

#define SIZE (64u << 10)

/*
 * A keeper, and what can befall it and its owner. When the owner is killed, what it had
 * mapped is gone: in the simulator by that, else the test frees it before.
 */
struct world {
	struct keep *keep;
	const struct media *media;
	void (*kill_owner)(struct world *w); /* and open the next one */
	void (*kill_keeper)(struct world *w);
	void (*renew_keeper)(struct world *w);

	char directory[64];
	pid_t pid;
	int stop_fd;
	struct keep_client *client;

	struct sim *sim;
	struct sim_node *home;
	struct keep_heap *heap;
};

static struct keep_name name_of(enum keep_kind kind, uint16_t owner, uint64_t number)
{
	return (struct keep_name){ .kind = (uint16_t)kind, .owner = owner, .number = number };
}

/* The real one. */

static int connect_to(const struct world *w)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", w->directory, KEEPER_SOCKET);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
		close(fd);
		return -errno;
	}
	return fd;
}

/* The connection waits in the backlog until the keeper is there. */
static int start_keeper(struct world *w, uint64_t patience_ms)
{
	struct keeper_config config = { .directory = w->directory,
					.listen_fd = keeper_listen(w->directory),
					.stop_fd = w->stop_fd,
					.patience_ns = patience_ms * 1000000 };
	int fd;

	assert_true(config.listen_fd >= 0);
	fd = connect_to(w);
	assert_true(fd >= 0);
	w->pid = fork();
	if (w->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		/* As after an exec: a connection of its owner here would never end. */
		for (int i = 3; i < 1024; i++)
			if (i != config.listen_fd && i != w->stop_fd)
				close(i);
		_exit(keeper_run(&config) == 0 ? 0 : 1);
	}
	close(config.listen_fd);
	return fd;
}

static void real_kill_owner(struct world *w)
{
	keep_client_close(w->client);
	assert_int_equal(keep_client_open(connect_to(w), true, &w->client), 0);
	w->keep = keep_client_keep(w->client);
}

static void wait_dead(struct world *w)
{
	int status;

	assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
	w->pid = 0;
}

static void real_kill_keeper(struct world *w)
{
	kill(w->pid, SIGKILL);
	wait_dead(w);
	assert_int_equal(keep_client_watch(w->client, -1), 0);
}

static void real_renew_keeper(struct world *w)
{
	assert_int_equal(keep_client_renew(w->client, start_keeper(w, 60000)), 0);
}

static struct world *real_world(uint64_t patience_ms)
{
	struct world *w = calloc(1, sizeof(*w));
	int fd;

	strcpy(w->directory, "/tmp/wadi-keep-XXXXXX");
	assert_non_null(mkdtemp(w->directory));
	w->stop_fd = eventfd(0, EFD_CLOEXEC);
	w->media = &media_memfd;
	w->kill_owner = real_kill_owner;
	w->kill_keeper = real_kill_keeper;
	w->renew_keeper = real_renew_keeper;
	fd = start_keeper(w, patience_ms);
	assert_int_equal(keep_client_open(fd, false, &w->client), 0);
	w->keep = keep_client_keep(w->client);
	return w;
}

static int real_setup(void **state)
{
	*state = real_world(60000);
	return 0;
}

static bool is_there(const struct world *w)
{
	struct stat st;

	return stat(w->directory, &st) == 0;
}

static int real_teardown(void **state)
{
	struct world *w = *state;

	if (w->client)
		keep_client_end(w->client);
	keep_client_close(w->client);
	if (w->pid)
		wait_dead(w);
	assert_true(!is_there(w) || rmdir(w->directory) == 0);
	close(w->stop_fd);
	free(w);
	return 0;
}

/* The simulator's. */

static void sim_kill_owner(struct world *w)
{
	keep_heap_owner_gone(w->heap);
}

static void sim_kill_keeper(struct world *w)
{
	keep_heap_set_down(w->heap, true);
}

static void sim_renew_keeper(struct world *w)
{
	keep_heap_set_down(w->heap, false);
}

static int sim_setup(void **state)
{
	struct sim_config config = { .seed = 1 };
	struct world *w = calloc(1, sizeof(*w));

	assert_int_equal(sim_open(&config, &w->sim), 0);
	assert_int_equal(sim_node_add(w->sim, 1, &w->home), 0);
	assert_int_equal(keep_heap_open(sim_node_of(w->home), &w->heap), 0);
	w->keep = keep_heap_keep(w->heap);
	w->media = &media_heap;
	w->kill_owner = sim_kill_owner;
	w->kill_keeper = sim_kill_keeper;
	w->renew_keeper = sim_renew_keeper;
	*state = w;
	return 0;
}

static int sim_teardown(void **state)
{
	struct world *w = *state;

	keep_heap_close(w->heap);
	assert_int_equal(sim_node_bytes(w->home), 0);
	sim_close(w->sim);
	free(w);
	return 0;
}

/* The contract. */

static struct memory made(struct world *w, size_t size, uint8_t byte)
{
	struct memory m;

	assert_int_equal(keep_make(w->keep, w->media, size, &m), 0);
	assert_int_equal(w->media->fill(&m, 0, size), 0);
	memset(m.ptr, byte, size);
	return m;
}

static void put(struct world *w, struct keep_name name, size_t size, uint8_t byte)
{
	struct memory m = made(w, size, byte);

	assert_int_equal(keep_put(w->keep, name, &m), 0);
	/* As the end of the process does it. */
	if (m.fd >= 0)
		w->media->free(&m);
}

static bool is_all(const struct memory *m, uint8_t byte)
{
	for (size_t i = 0; i < m->size; i++)
		if (m->ptr[i] != byte)
			return false;
	return true;
}

static void must_take(struct world *w, struct keep_name name, size_t size, uint8_t byte)
{
	struct memory m;

	assert_int_equal(keep_take(w->keep, name, &m), 0);
	assert_int_equal(m.size, size);
	assert_true(is_all(&m, byte));
	keep_drop(w->keep, name);
	w->media->free(&m);
}

static void what_was_put_is_there_for_the_successor_and_nothing_else(void **state)
{
	struct world *w = *state;
	struct memory unkept = made(w, SIZE, 9), dropped = made(w, SIZE, 8), m;

	put(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	put(w, name_of(KEEP_SEGMENT, 0, 7), SIZE, 2);
	put(w, name_of(KEEP_SEGMENT, 0, 32767), 1u << 20, 3);
	put(w, name_of(KEEP_LOG, 63, 1ull << 40), SIZE, 4);
	assert_int_equal(keep_put(w->keep, name_of(KEEP_VALUE, 1, 1), &dropped), 0);
	keep_drop(w->keep, name_of(KEEP_VALUE, 1, 1));
	w->media->free(&dropped);
	keep_drop(w->keep, name_of(KEEP_VALUE, 1, 2)); /* was never there */
	/* Of the same process there is nothing to find. */
	assert_int_equal(keep_take(w->keep, name_of(KEEP_ABOUT, 0, 0), &m), -ENOENT);
	if (unkept.fd >= 0)
		w->media->free(&unkept);

	w->kill_owner(w);
	must_take(w, name_of(KEEP_SEGMENT, 0, 7), SIZE, 2);
	must_take(w, name_of(KEEP_SEGMENT, 0, 32767), 1u << 20, 3);
	must_take(w, name_of(KEEP_LOG, 63, 1ull << 40), SIZE, 4);
	must_take(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	assert_int_equal(keep_take(w->keep, name_of(KEEP_ABOUT, 0, 0), &m), -ENOENT);
	assert_int_equal(keep_take(w->keep, name_of(KEEP_VALUE, 1, 1), &m), -ENOENT);
	assert_int_equal(keep_take(w->keep, name_of(KEEP_SEGMENT, 1, 7), &m), -ENOENT);
	if (w->heap)
		assert_int_equal(keep_heap_count(w->heap), 0);
}

static void names_are_found_in_order_until_they_are_taken_or_dropped(void **state)
{
	struct world *w = *state;
	struct keep_name at;
	struct memory m;

	for (uint64_t i = 10; i > 0; i--)
		put(w, name_of(KEEP_VALUE, 3, i * 5), 4096, (uint8_t)i);
	put(w, name_of(KEEP_VALUE, 4, 1), 4096, 77);
	put(w, name_of(KEEP_SNAPSHOT, 3, 99), 4096, 78);
	assert_false(keep_find(w->keep, name_of(KEEP_VALUE, 3, 0), &at));

	w->kill_owner(w);
	assert_true(keep_find(w->keep, name_of(KEEP_VALUE, 3, 0), &at));
	assert_int_equal(at.number, 5);
	assert_true(keep_find(w->keep, name_of(KEEP_VALUE, 3, 5), &at));
	assert_int_equal(at.number, 5);
	assert_true(keep_find(w->keep, name_of(KEEP_VALUE, 3, 6), &at));
	assert_int_equal(at.number, 10);
	assert_true(at.kind == KEEP_VALUE && at.owner == 3);
	assert_false(keep_find(w->keep, name_of(KEEP_VALUE, 3, 51), &at));
	assert_false(keep_find(w->keep, name_of(KEEP_LOG, 3, 0), &at));
	assert_int_equal(keep_take(w->keep, name_of(KEEP_VALUE, 3, 5), &m), 0);
	keep_drop(w->keep, name_of(KEEP_VALUE, 3, 10));
	assert_true(keep_find(w->keep, name_of(KEEP_VALUE, 3, 0), &at));
	assert_int_equal(at.number, 15);
	if (m.fd >= 0)
		w->media->free(&m);

	/* The taken one is still kept, for the successor's successor; the dropped one is not. */
	w->kill_owner(w);
	must_take(w, name_of(KEEP_VALUE, 3, 5), 4096, 1);
	assert_int_equal(keep_take(w->keep, name_of(KEEP_VALUE, 3, 10), &m), -ENOENT);
	must_take(w, name_of(KEEP_VALUE, 3, 50), 4096, 10);
}

static void the_second_put_of_a_name_replaces_the_first(void **state)
{
	struct world *w = *state;

	put(w, name_of(KEEP_SNAPSHOT, 0, 1), SIZE, 1);
	put(w, name_of(KEEP_SNAPSHOT, 0, 1), 2 * SIZE, 2);
	w->kill_owner(w);
	/* Also of one that nobody took. */
	put(w, name_of(KEEP_SNAPSHOT, 0, 1), SIZE, 3);
	w->kill_owner(w);
	must_take(w, name_of(KEEP_SNAPSHOT, 0, 1), SIZE, 3);
}

static void what_nobody_took_is_dropped(void **state)
{
	struct world *w = *state;
	struct keep_name at;
	struct memory taken, m;

	for (unsigned i = 0; i < 200; i++)
		put(w, name_of(KEEP_SEGMENT, 0, i), 4096, (uint8_t)i);
	put(w, name_of(KEEP_TABLE, 0, 0), 4096, 4);
	w->kill_owner(w);
	assert_int_equal(keep_take(w->keep, name_of(KEEP_SEGMENT, 0, 150), &taken), 0);
	put(w, name_of(KEEP_TABLE, 0, 1), 4096, 5);
	keep_drop_rest(w->keep);
	assert_false(keep_find(w->keep, name_of(KEEP_SEGMENT, 0, 0), &at));
	assert_int_equal(keep_take(w->keep, name_of(KEEP_SEGMENT, 0, 151), &m), -ENOENT);
	assert_int_equal(keep_take(w->keep, name_of(KEEP_TABLE, 0, 0), &m), -ENOENT);
	if (w->heap)
		assert_int_equal(keep_heap_count(w->heap), 2);
	if (taken.fd >= 0)
		w->media->free(&taken);
	w->kill_owner(w);
	assert_true(keep_find(w->keep, name_of(KEEP_SEGMENT, 0, 0), &at));
	assert_int_equal(at.number, 150);
	assert_false(keep_find(w->keep, name_of(KEEP_SEGMENT, 0, 151), &at));
	must_take(w, name_of(KEEP_SEGMENT, 0, 150), 4096, 150);
	must_take(w, name_of(KEEP_TABLE, 0, 1), 4096, 5);
}

static void both_see_the_same_pages(void **state)
{
	struct world *w = *state;
	struct memory m = made(w, SIZE, 1);
	struct memory again;

	assert_int_equal(keep_put(w->keep, name_of(KEEP_LOG, 0, 0), &m), 0);
	memset(m.ptr, 2, SIZE); /* after the put */
	if (m.fd >= 0)
		w->media->free(&m);
	w->kill_owner(w);
	assert_int_equal(keep_take(w->keep, name_of(KEEP_LOG, 0, 0), &again), 0);
	assert_true(is_all(&again, 2));
	assert_int_equal(w->media->punch(&again, 0, SIZE), 0);
	assert_int_equal(w->media->fill(&again, 0, SIZE), 0);
	assert_true(is_all(&again, 0));
	keep_drop(w->keep, name_of(KEEP_LOG, 0, 0));
	w->media->free(&again);
}

static void when_the_keeper_dies_the_next_one_gets_all_that_was_put(void **state)
{
	struct world *w = *state;
	struct memory kept[100], late, m;

	put(w, name_of(KEEP_VALUE, 0, 1), 4096, 99);
	w->kill_owner(w); /* so that there is also something that nobody has taken yet */
	late = made(w, SIZE, 200);
	for (unsigned i = 0; i < 100; i++) {
		kept[i] = made(w, 4096, (uint8_t)i);
		assert_int_equal(keep_put(w->keep, name_of(KEEP_SEGMENT, 0, i), &kept[i]), 0);
	}
	w->kill_keeper(w);
	assert_int_equal(keep_put(w->keep, name_of(KEEP_SEGMENT, 0, 200), &late), -EHOSTDOWN);
	keep_drop(w->keep, name_of(KEEP_SEGMENT, 0, 50));
	w->media->free(&kept[50]);
	w->renew_keeper(w);
	assert_int_equal(keep_put(w->keep, name_of(KEEP_SEGMENT, 0, 201), &late), 0);
	for (unsigned i = 0; i < 100; i++)
		if (kept[i].fd >= 0)
			w->media->free(&kept[i]);
	if (late.fd >= 0)
		w->media->free(&late);

	w->kill_owner(w);
	for (unsigned i = 0; i < 100; i++) {
		if (i != 50)
			must_take(w, name_of(KEEP_SEGMENT, 0, i), 4096, (uint8_t)i);
	}
	assert_int_equal(keep_take(w->keep, name_of(KEEP_SEGMENT, 0, 50), &m), -ENOENT);
	assert_int_equal(keep_take(w->keep, name_of(KEEP_SEGMENT, 0, 200), &m), -ENOENT);
	must_take(w, name_of(KEEP_SEGMENT, 0, 201), SIZE, 200);
	must_take(w, name_of(KEEP_VALUE, 0, 1), 4096, 99);
}

static void without_a_keeper_nothing_is_kept_and_nothing_fails(void **state)
{
	struct keep_name at;
	struct memory m, other;

	assert_int_equal(keep_make(NULL, &media_heap, SIZE, &m), 0);
	assert_int_equal(keep_put(NULL, name_of(KEEP_LOG, 0, 0), &m), 0);
	assert_int_equal(keep_take(NULL, name_of(KEEP_LOG, 0, 0), &other), -ENOENT);
	assert_false(keep_find(NULL, name_of(KEEP_LOG, 0, 0), &at));
	keep_drop(NULL, name_of(KEEP_LOG, 0, 0));
	keep_drop_rest(NULL);
	media_heap.free(&m);
}

/* The real one alone. */

static void an_owner_that_is_killed_in_the_middle_leaves_all_that_was_acknowledged(void **state)
{
	struct world *w = *state;
	int told[2];
	uint64_t n = 0;
	pid_t pid;

	keep_client_close(w->client);
	w->client = NULL;
	assert_int_equal(pipe(told), 0);
	pid = fork();
	if (pid == 0) {
		struct keep_client *c;

		if (keep_client_open(connect_to(w), true, &c) < 0)
			_exit(1);
		for (uint64_t i = 1;; i++) {
			struct memory m;

			if (media_memfd.make(4096, &m) < 0)
				_exit(1);
			memcpy(m.ptr, &i, sizeof(i));
			if (keep_put(keep_client_keep(c), name_of(KEEP_SEGMENT, 0, i), &m) < 0 ||
			    write(told[1], &i, sizeof(i)) != sizeof(i))
				_exit(1);
		}
	}
	close(told[1]);
	while (n < 300)
		assert_int_equal(read(told[0], &n, sizeof(n)), sizeof(n));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	while (read(told[0], &n, sizeof(n)) == sizeof(n))
		;
	close(told[0]);

	assert_int_equal(keep_client_open(connect_to(w), true, &w->client), 0);
	w->keep = keep_client_keep(w->client);
	for (uint64_t i = 1; i <= n; i++) {
		struct memory m;

		assert_int_equal(keep_take(w->keep, name_of(KEEP_SEGMENT, 0, i), &m), 0);
		assert_memory_equal(m.ptr, &i, sizeof(i));
		media_memfd.free(&m);
	}
}

static void the_next_owner_waits_until_the_first_is_gone(void **state)
{
	struct world *w = *state;
	struct keep_client *second = NULL;
	int fd = connect_to(w);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	put(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	assert_true(fd >= 0);
	assert_int_equal(
		keep_send(fd, &(struct keep_message){ .kind = KEEP_HELLO, .value = KEEP_VERSION }),
		0);
	assert_int_equal(keep_send(fd, &(struct keep_message){ .kind = KEEP_LIST, .count = 1 }), 0);
	assert_int_equal(poll(&p, 1, 50), 0);
	put(w, name_of(KEEP_ABOUT, 0, 1), 4096, 2);
	keep_client_close(w->client);
	assert_int_equal(poll(&p, 1, 10000), 1);
	close(fd);
	assert_int_equal(keep_client_open(connect_to(w), true, &second), 0);
	w->client = second;
	w->keep = keep_client_keep(second);
	must_take(w, name_of(KEEP_ABOUT, 0, 1), 4096, 2);
}

static void a_keeper_that_nobody_comes_to_ends_and_leaves_nothing(void **state)
{
	struct world *w = real_world(200);
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t begun_ns;

	(void)state;
	put(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	/* What a killed owner leaves in its directory. */
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/proxy.sock", w->directory);
	assert_int_equal(bind(other, (struct sockaddr *)&at, sizeof(at)), 0);
	close(other);
	usleep(300000); /* longer than its patience: an owner that lives is no reason to go */
	assert_int_equal(waitpid(w->pid, NULL, WNOHANG), 0);
	begun_ns = node_now_ns();
	keep_client_close(TAKE_PTR(w->client));
	wait_dead(w);
	assert_true(node_now_ns() - begun_ns >= 200000000ull);
	assert_false(is_there(w));
	close(w->stop_fd);
	free(w);
}

static void a_keeper_waits_for_a_successor_that_has_locked_the_directory(void **state)
{
	struct world *w = real_world(100);
	int lock = open(w->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	void *p = w;

	(void)state;
	put(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	keep_client_close(TAKE_PTR(w->client));
	usleep(300000);
	assert_int_equal(keep_client_open(connect_to(w), true, &w->client), 0);
	w->keep = keep_client_keep(w->client);
	must_take(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	close(lock);
	real_teardown(&p);
}

static void a_keeper_ends_when_it_is_told_to_but_not_while_it_is_owned(void **state)
{
	struct world *w = real_world(60000);

	(void)state;
	put(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	assert_int_equal(eventfd_write(w->stop_fd, 1), 0);
	usleep(50000);
	put(w, name_of(KEEP_ABOUT, 0, 1), 4096, 1);
	keep_client_close(TAKE_PTR(w->client));
	wait_dead(w);
	assert_false(is_there(w));
	close(w->stop_fd);
	free(w);
}

static void a_keeper_whose_place_another_took_ends_with_its_owner(void **state)
{
	struct world *w = real_world(60000);
	struct memory m = made(w, 4096, 1);
	pid_t first = w->pid;
	void *p = w;

	(void)state;
	assert_int_equal(keep_put(w->keep, name_of(KEEP_ABOUT, 0, 0), &m), 0);
	kill(first, SIGSTOP);
	assert_int_equal(keep_client_renew(w->client, start_keeper(w, 60000)), 0);
	kill(first, SIGCONT);
	assert_int_equal(waitpid(first, NULL, 0), first);
	media_memfd.free(&m);
	w->kill_owner(w); /* the socket is the second one's, and still there */
	must_take(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	real_teardown(&p);
}

static void a_keeper_that_has_stopped_is_left(void **state)
{
	struct world *w = *state;
	struct memory m = made(w, 4096, 1);
	uint64_t begun_ns = node_now_ns();
	pid_t first = w->pid;

	kill(w->pid, SIGSTOP);
	assert_int_equal(keep_put(w->keep, name_of(KEEP_LOG, 0, 0), &m), -EHOSTDOWN);
	assert_true(node_now_ns() - begun_ns < 10 * KEEP_ANSWER_MS * 1000000ull);
	assert_int_equal(keep_put(w->keep, name_of(KEEP_LOG, 0, 0), &m), -EHOSTDOWN);
	assert_int_equal(keep_client_watch(w->client, -1), 0);
	real_renew_keeper(w);
	assert_int_equal(keep_put(w->keep, name_of(KEEP_LOG, 0, 0), &m), 0);
	kill(first, SIGKILL);
	assert_int_equal(waitpid(first, NULL, 0), first);
	media_memfd.free(&m);
}

/* Who cannot go on without a keeper waits for the next one, but not for ever. */
static void a_put_may_wait_for_the_next_one(void **state)
{
	struct world *w = *state;
	struct memory m = made(w, 4096, 1);
	uint64_t begun_ns, ms;

	w->kill_keeper(w);
	keep_client_set_waiting(w->client, true);
	begun_ns = node_now_ns();
	assert_int_equal(keep_put(w->keep, name_of(KEEP_LOG, 0, 0), &m), -EHOSTDOWN);
	ms = (node_now_ns() - begun_ns) / 1000000;
	assert_in_range(ms, KEEP_NEXT_MS, 3 * KEEP_NEXT_MS);
	keep_client_set_waiting(w->client, false);
	begun_ns = node_now_ns();
	assert_int_equal(keep_put(w->keep, name_of(KEEP_LOG, 0, 0), &m), -EHOSTDOWN);
	assert_true((node_now_ns() - begun_ns) / 1000000 < KEEP_NEXT_MS);
	real_renew_keeper(w);
	media_memfd.free(&m);
}

static void a_keeper_without_descriptors_says_so_and_keeps_what_it_has(void **state)
{
	struct world *w = *state;
	struct rlimit few = { .rlim_cur = 16, .rlim_max = 16 };
	struct memory m = made(w, 4096, 1);
	unsigned n = 0;
	int r;

	assert_int_equal(prlimit(w->pid, RLIMIT_NOFILE, &few, NULL), 0);
	while ((r = keep_put(w->keep, name_of(KEEP_LOG, 0, n), &m)) == 0 && n < 20)
		n++;
	assert_int_equal(r, -EMFILE);
	assert_true(n > 0);
	keep_drop(w->keep, name_of(KEEP_LOG, 0, 0));
	assert_int_equal(keep_put(w->keep, name_of(KEEP_LOG, 0, 100), &m), 0);
	/* A replacement has its descriptor before the other one goes. */
	assert_int_equal(keep_put(w->keep, name_of(KEEP_LOG, 0, 100), &m), -EMFILE);
	media_memfd.free(&m);
	keep_drop(w->keep, name_of(KEEP_LOG, 0, 1));
	real_kill_owner(w);
	assert_int_equal(keep_take(w->keep, name_of(KEEP_LOG, 0, 100), &m), 0);
	assert_true(is_all(&m, 1));
	media_memfd.free(&m);
}

/* What is put here by a peer that is up to something is not mapped by us. */
static void only_sealed_memory_of_ours_is_taken(void **state)
{
	struct world *w = *state;
	char path[] = "/tmp/wadi-keep-file-XXXXXX";
	int fds[4], seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct memory m;

	fds[0] = mkstemp(path);
	unlink(path);
	assert_int_equal(ftruncate(fds[0], 4096), 0);
	fds[1] = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fds[1], 4096), 0);
	fds[2] = memfd_create("odd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fds[2], 4095), 0);
	assert_int_equal(fcntl(fds[2], F_ADD_SEALS, seals), 0);
	fds[3] = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(fcntl(fds[3], F_ADD_SEALS, seals), 0);
	for (unsigned i = 0; i < 4; i++) {
		m = (struct memory){ .fd = fds[i] };
		assert_int_equal(keep_put(w->keep, name_of(KEEP_SEGMENT, 0, i), &m), 0);
		close(fds[i]);
	}
	real_kill_owner(w);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(keep_take(w->keep, name_of(KEEP_SEGMENT, 0, i), &m), -EBADF);
	keep_drop_rest(w->keep);
}

struct strange {
	const char *what;
	size_t len;
	uint8_t bytes[40];
	bool says_hello;
};

/* What is no message ends the connection, and nothing else. */
static void strange_bytes_end_the_connection_and_nothing_else(void **state)
{
	static const uint8_t hello[] = { 'w', 'a', 'd', 'k', 1, 0, 0, 0, 1, 0, 0, 0 };
	static const struct strange list[] = {
		{ "no message", 5, { 1, 2, 3 }, false },
		{ "another magic", 12, { 'w', 'a', 'd', 'i', 1, 0, 0, 0, 1 }, false },
		{ "another version", 12, { 'w', 'a', 'd', 'k', 1, 0, 0, 0, 2 }, false },
		{ "LIST before HELLO", 24, { 'w', 'a', 'd', 'k', 2, 0, 1 }, false },
		{ "HELLO twice", 12, { 'w', 'a', 'd', 'k', 1, 0, 0, 0, 1 }, true },
		{ "LIST of nothing", 12, { 'w', 'a', 'd', 'k', 2 }, true },
		{ "a name too short", 23, { 'w', 'a', 'd', 'k', 4, 0, 1 }, true },
		{ "a byte too many", 25, { 'w', 'a', 'd', 'k', 4, 0, 1 }, true },
		{ "65535 names", 24, { 'w', 'a', 'd', 'k', 4, 0, 255, 255 }, true },
		{ "PUT without a descriptor", 24, { 'w', 'a', 'd', 'k', 3, 0, 1 }, true },
		{ "an answer", 12, { 'w', 'a', 'd', 'k', 6 }, true },
		{ "kind 0", 12, { 'w', 'a', 'd', 'k' }, true },
		{ "kind 65535", 12, { 'w', 'a', 'd', 'k', 255, 255 }, true },
	};
	struct world *w = *state;

	put(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	keep_client_close(w->client);
	for (unsigned i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		int fd = connect_to(w);
		struct pollfd p = { .fd = fd };
		char more;

		if (list[i].says_hello)
			assert_int_equal(send(fd, hello, sizeof(hello), 0), sizeof(hello));
		assert_int_equal(send(fd, list[i].bytes, list[i].len, 0), list[i].len);
		if (poll(&p, 1, 5000) != 1)
			fail_msg("%s did not end the connection", list[i].what);
		assert_int_equal(recv(fd, &more, 1, MSG_DONTWAIT), 0);
		close(fd);
	}
	assert_int_equal(keep_client_open(connect_to(w), true, &w->client), 0);
	w->keep = keep_client_keep(w->client);
	must_take(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
}

/* Descriptors where none belong are closed, not collected. */
static void descriptors_of_a_stranger_are_closed(void **state)
{
	struct world *w = *state;
	int ends[2];
	char more;

	keep_client_close(w->client);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	for (int i = 0; i < 3; i++) {
		struct keep_message m = { .kind = i == 0   ? KEEP_HELLO
						  : i == 1 ? KEEP_DROP
							   : KEEP_PUT,
					  .value = KEEP_VERSION,
					  .fd_count = 3,
					  .fds = { ends[1], ends[1], ends[1] } };
		int fd = connect_to(w);

		if (i > 0)
			assert_int_equal(
				keep_send(fd, &(struct keep_message){ .kind = KEEP_HELLO,
								      .value = KEEP_VERSION }),
				0);
		assert_int_equal(keep_send(fd, &m), 0);
		assert_int_equal(recv(fd, &more, 1, 0), 0); /* the end */
		close(fd);
	}
	close(ends[1]);
	/* Nobody has the writing end any more. */
	assert_int_equal(poll(&(struct pollfd){ .fd = ends[0], .events = POLLIN }, 1, 5000), 1);
	assert_int_equal(read(ends[0], &more, 1), 0);
	close(ends[0]);
	assert_int_equal(keep_client_open(connect_to(w), true, &w->client), 0);
	w->keep = keep_client_keep(w->client);
}

static void who_connects_and_says_nothing_keeps_nobody_out(void **state)
{
	struct world *w = *state;
	int fd;

	put(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	keep_client_close(w->client);
	fd = connect_to(w);
	assert_int_equal(keep_client_open(connect_to(w), true, &w->client), 0);
	w->keep = keep_client_keep(w->client);
	must_take(w, name_of(KEEP_ABOUT, 0, 0), 4096, 1);
	close(fd);
}

/* A keeper that lies is left, and its descriptors are closed. */
static void an_answer_that_is_none_is_no_keeper(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++) {
		struct keep_message m = { .kind = KEEP_LIST };
		struct keep_client *c;
		int ends[2], r;

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
		if (i == 1)
			m.kind = KEEP_DONE;
		if (i == 2)
			m.value = 1; /* more, and nothing here */
		if (i == 3 || i == 4)
			m.count = m.fd_count = 2; /* of one name */
		if (i == 4)
			m.fd_count = 1;
		m.fds[0] = m.fds[1] = ends[1];
		if (i == 5)
			assert_int_equal(send(ends[1], "xxxxxxxxxxxxxxxx", 16, 0), 16);
		else
			assert_int_equal(keep_send(ends[1], &m), 0);
		r = keep_client_open(ends[0], true, &c);
		assert_int_equal(r<0, i> 0);
		if (r == 0)
			keep_client_close(c);
		close(ends[1]);
	}
}

/* What answers like a keeper as often as it is told, and what it was given; then it is gone. */
struct mute {
	pthread_t thread;
	int fd;
	unsigned answers, got;
	bool has_first;
};

static void *answer_some(void *arg)
{
	struct mute *k = arg;
	struct keep_message m;

	while (k->answers > 0 && keep_receive(k->fd, &m) == 0) {
		if (m.kind != KEEP_PUT)
			continue;
		for (unsigned i = 0; i < m.count; i++)
			k->has_first |= m.names[i].kind == KEEP_ABOUT;
		k->got += m.count;
		keep_message_close(&m);
		if (keep_send(k->fd, &(struct keep_message){ .kind = KEEP_DONE }) == 0)
			k->answers--;
	}
	close(k->fd);
	return NULL;
}

/* Owner and keeper may be killed in between: then who takes over must see that it lacks something.
 */
static void the_first_name_is_handed_over_when_all_others_are(void **state)
{
	struct world *w = *state;
	struct memory m = made(w, 4096, 1);

	for (unsigned i = 0; i < 150; i++)
		assert_int_equal(keep_put(w->keep, name_of(KEEP_LOG, 0, i), &m), 0);
	assert_int_equal(keep_put(w->keep, name_of(KEEP_ABOUT, 0, 0), &m), 0);
	real_kill_keeper(w);
	for (unsigned answers = 1; answers <= 3; answers++) {
		struct mute mute = { .answers = answers };
		int ends[2], r;

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
		mute.fd = ends[1];
		assert_int_equal(pthread_create(&mute.thread, NULL, answer_some, &mute), 0);
		r = keep_client_renew(w->client, ends[0]);
		pthread_join(mute.thread, NULL);
		assert_int_equal(r, answers < 3 ? -EHOSTDOWN : 0);
		assert_int_equal(mute.has_first, answers == 3);
		assert_int_equal(mute.got, answers < 3 ? answers * KEEP_BATCH : 151);
	}
	real_renew_keeper(w);
	media_memfd.free(&m);
}

/* Who was stopped between his connection and his first word finds it closed, and tries again. */
static void who_was_hung_up_on_may_try_again(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct keep_client *c = NULL;
		int ends[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
		close(ends[1]);
		assert_int_equal(keep_client_open(ends[0], i == 1, &c), -EHOSTDOWN);
		assert_null(c);
	}
}

struct putter {
	pthread_t thread;
	struct world *w;
	uint16_t owner;
	int failed;
};

static void *put_and_drop(void *arg)
{
	struct putter *p = arg;

	for (uint64_t i = 0; i < 200; i++) {
		struct keep_name name = name_of(KEEP_VALUE, p->owner, i);
		struct memory m;

		if (media_memfd.make(4096, &m) < 0 || keep_put(p->w->keep, name, &m) < 0)
			p->failed++;
		memset(m.ptr, p->owner + (int)i, m.size);
		if (i % 2)
			keep_drop(p->w->keep, name);
		media_memfd.free(&m);
	}
	return NULL;
}

static void several_threads_put_and_drop(void **state)
{
	struct world *w = *state;
	struct putter putters[4] = { 0 };
	struct memory m;

	for (uint16_t i = 0; i < 4; i++) {
		putters[i].w = w;
		putters[i].owner = i;
		assert_int_equal(
			pthread_create(&putters[i].thread, NULL, put_and_drop, &putters[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(putters[i].thread, NULL);
		assert_int_equal(putters[i].failed, 0);
	}
	real_kill_owner(w);
	for (uint16_t i = 0; i < 4; i++)
		for (uint64_t k = 0; k < 200; k += 2) {
			must_take(w, name_of(KEEP_VALUE, i, k), 4096, (uint8_t)(i + k));
			assert_int_equal(keep_take(w->keep, name_of(KEEP_VALUE, i, k + 1), &m),
					 -ENOENT);
		}
}

#define BOTH(test)                                                        \
	cmocka_unit_test_setup_teardown(test, real_setup, real_teardown), \
	{                                                                 \
#test " (simulated)", test, sim_setup, sim_teardown, NULL \
	}
#define REAL(test) cmocka_unit_test_setup_teardown(test, real_setup, real_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(what_was_put_is_there_for_the_successor_and_nothing_else),
		BOTH(names_are_found_in_order_until_they_are_taken_or_dropped),
		BOTH(the_second_put_of_a_name_replaces_the_first),
		BOTH(what_nobody_took_is_dropped),
		BOTH(both_see_the_same_pages),
		BOTH(when_the_keeper_dies_the_next_one_gets_all_that_was_put),
		cmocka_unit_test(without_a_keeper_nothing_is_kept_and_nothing_fails),
		REAL(an_owner_that_is_killed_in_the_middle_leaves_all_that_was_acknowledged),
		REAL(the_next_owner_waits_until_the_first_is_gone),
		cmocka_unit_test(a_keeper_that_nobody_comes_to_ends_and_leaves_nothing),
		cmocka_unit_test(a_keeper_waits_for_a_successor_that_has_locked_the_directory),
		cmocka_unit_test(a_keeper_ends_when_it_is_told_to_but_not_while_it_is_owned),
		cmocka_unit_test(a_keeper_whose_place_another_took_ends_with_its_owner),
		REAL(a_keeper_that_has_stopped_is_left),
		REAL(a_put_may_wait_for_the_next_one),
		REAL(a_keeper_without_descriptors_says_so_and_keeps_what_it_has),
		REAL(only_sealed_memory_of_ours_is_taken),
		REAL(strange_bytes_end_the_connection_and_nothing_else),
		REAL(descriptors_of_a_stranger_are_closed),
		REAL(who_connects_and_says_nothing_keeps_nobody_out),
		cmocka_unit_test(an_answer_that_is_none_is_no_keeper),
		cmocka_unit_test(who_was_hung_up_on_may_try_again),
		REAL(the_first_name_is_handed_over_when_all_others_are),
		REAL(several_threads_put_and_drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
