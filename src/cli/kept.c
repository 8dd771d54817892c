/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/stream.h"
#include "shm/archive.h"
#include "shm/keep_wire.h"
#include "shm/keeper.h"
#include "wire/token.h"

#define ABOUT_MAGIC 0x3374756f62616477ull /* "wdabout3" */

/* Between two tries to start a keeper. */
#define AGAIN_MS_MIN 100
#define AGAIN_MS_MAX 5000

#define MEET_TRIES 3

/* Ports end before; what the kernel will choose is not known yet. */
#define NUMBER_OF_PID 65536
#define NUMBER_TRIES  16

/*
 * In a region of its own. A field counts when its flag does, which is set last, so that
 * whoever finds this after a kill reads nothing that is half written.
 */
struct about {
	uint64_t magic;
	uint32_t has_key, has_door[KEPT_DOORS];
	uint8_t key[TOKEN_KEY_BYTES];
	char doors[KEPT_DOORS][ADDRESS_TEXT_MAX];
	uint64_t sessions[LOOPS_MAX][SHARDS_MAX];
};

#define ABOUT_BYTES \
	(((unsigned)sizeof(struct about) + SEGMENT_PAGE - 1) / SEGMENT_PAGE * SEGMENT_PAGE)

static const struct keep_name ABOUT = { .kind = KEEP_ABOUT };

static int complain(const char *what, const char *name, int r)
{
	fprintf(stderr, "wadi: %s %s: %s\n", what, name, strerror(-r));
	return r;
}

/*
 * Before anything of it is written, or removed: another server's `run` says where that one's
 * memory is.
 */
static int lock_data(struct kept *k)
{
	const char *data = k->config->data;
	int r = data ? archive_directory(data) : 0;

	if (!data)
		return 0;
	if (r < 0)
		return complain("cannot make", data, r);
	k->data_fd = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k->data_fd >= 0 && flock(k->data_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (k->data_fd < 0 || errno != EWOULDBLOCK)
		return complain("cannot use", data, -errno);
	fprintf(stderr, "wadi: another server has %s; end it, or choose another --data\n", data);
	return -EBUSY;
}

/* The file in --data that says where the directory is. */

static bool run_file(const struct kept *k, char buf[RUNDIR_PATH_MAX + 256])
{
	return k->config->data && snprintf(buf, RUNDIR_PATH_MAX + 256, "%s/run", k->config->data) <
					  RUNDIR_PATH_MAX + 256;
}

static int read_run_file(const struct kept *k, char path[RUNDIR_PATH_MAX])
{
	char file[RUNDIR_PATH_MAX + 256];
	int fd = run_file(k, file) ? open(file, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n = fd < 0 ? -1 : read(fd, path, RUNDIR_PATH_MAX - 1);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return -ENOENT;
	path[n] = '\0';
	path[strcspn(path, "\n")] = '\0';
	return path[0] == '/' ? 0 : -ENOENT;
}

static int write_run_file(const struct kept *k)
{
	char file[RUNDIR_PATH_MAX + 256], new[RUNDIR_PATH_MAX + 260], before[RUNDIR_PATH_MAX];
	int fd, r = 0;

	if (!k->config->data)
		return 0;
	/* A disk that takes nothing just now is no reason to leave what a keeper has to itself. */
	if (read_run_file(k, before) == 0 && strcmp(before, k->dir.path) == 0)
		return 0;
	if (!run_file(k, file))
		return complain("cannot use", k->config->data, -ENAMETOOLONG);
	snprintf(new, sizeof(new), "%s.new", file);
	fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || dprintf(fd, "%s\n", k->dir.path) < 0 || rename(new, file) < 0)
		r = complain("cannot write", file, -errno);
	if (fd >= 0)
		close(fd);
	return r;
}

/* Keepers. */

static int connect_to(const char *directory)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int r;

	_Static_assert(RUNDIR_PATH_MAX + sizeof(KEEPER_SOCKET) < sizeof(at.sun_path), "it fits");
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", directory, KEEPER_SOCKET);
	if (fd < 0)
		return -errno;
	r = keep_set_patience(fd, KEEP_ANSWER_MS);
	if (r == 0 && connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		r = -errno;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* There is no keeper. Other errors are of one that is there. */
static bool is_nobody(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED;
}

/* With the socket as its standard input, and nothing else of ours. */
static int spawn(struct kept *k, int listen_fd)
{
	char program[] = "wadi", command[] = "keep", option[] = "--keep-s", patience[32];
	char *argv[] = { program, command, option, patience, k->dir.path, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int r;

	snprintf(patience, sizeof(patience), "%llums", (unsigned long long)k->config->keep_ms);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, listen_fd, STDIN_FILENO);
	posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
	r = posix_spawn(&k->pid, "/proc/self/exe", &files, &attributes, argv, NULL);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	if (r != 0)
		k->pid = 0;
	return -r;
}

/* Its connection. It waits in the backlog, so that we need not wait for the keeper. */
static int start_keeper(struct kept *k)
{
	int listen_fd = keeper_listen(k->dir.path), fd, r;

	if (listen_fd < 0)
		return listen_fd;
	fd = connect_to(k->dir.path);
	r = fd < 0 ? fd : spawn(k, listen_fd);
	close(listen_fd);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* One that has stopped, and one that is dead, is none. */
static void end_keeper(struct kept *k)
{
	if (k->pid <= 0)
		return;
	kill(k->pid, SIGKILL);
	while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
		;
	k->pid = 0;
}

static int restart_keeper(struct kept *k)
{
	int fd;

	end_keeper(k);
	fd = start_keeper(k);
	return fd < 0 ? fd : keep_client_renew(k->client, fd);
}

static bool pause_ms(const struct kept *k, int ms)
{
	struct pollfd p = { .fd = k->wake_fd, .events = POLLIN };

	return poll(&p, 1, ms) <= 0;
}

static void *watch(void *arg)
{
	struct kept *k = arg;

	while (keep_client_watch(k->client, k->wake_fd) == 0) {
		int again_ms = AGAIN_MS_MIN, r;

		log_warning("The keeper of our memory is gone; another one is started "
			    "directory=%s",
			    k->dir.path);
		while ((r = restart_keeper(k)) < 0) {
			log_error("There is no keeper: what is put from now on waits until there "
				  "is one again directory=%s error=\"%s\"",
				  k->dir.path, strerror(-r));
			if (!pause_ms(k, again_ms))
				return NULL;
			again_ms = 2 * again_ms < AGAIN_MS_MAX ? 2 * again_ms : AGAIN_MS_MAX;
		}
		log_info("A new keeper has all of our memory directory=%s", k->dir.path);
	}
	return NULL;
}

/* The directory. */

/* 1 or 0, or why it cannot be told: without descriptors nobody can be asked. */
static int has_predecessor(const struct kept *k)
{
	int fd = connect_to(k->dir.path);

	if (fd >= 0)
		close(fd);
	if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
		return fd;
	return !is_nobody(fd);
}

/*
 * With a port of the kernel's choice it is as --data says. Else it is ours alone, whatever
 * another process of the same number left.
 */
static int open_directory(struct kept *k)
{
	char before[RUNDIR_PATH_MAX];
	int r = read_run_file(k, before);

	if (k->config->port != 0)
		return rundir_open(&k->dir, k->config->port);
	if (r == 0)
		r = rundir_open_again(&k->dir, before);
	if (r != -ENOENT)
		return r;
	for (unsigned i = 0; i < NUMBER_TRIES; i++) {
		r = rundir_open(&k->dir, NUMBER_OF_PID + (unsigned)getpid() + i);
		if (r < 0)
			return r;
		r = has_predecessor(k);
		if (r < 0) {
			rundir_close(&k->dir);
			return complain("cannot use", k->dir.path, r);
		}
		k->is_alone = r == 0;
		if (r == 0)
			return 0;
		rundir_leave(&k->dir);
	}
	return complain("no directory for", "our sockets", -EBUSY);
}

static int about_make(struct kept *k)
{
	int r = media_memfd.make(ABOUT_BYTES, &k->about);

	if (r == 0)
		r = media_memfd.fill(&k->about, 0, ABOUT_BYTES);
	if (r == 0) {
		((struct about *)k->about.ptr)->magic = ABOUT_MAGIC;
		r = keep_put(k->keep, ABOUT, &k->about);
	}
	return r;
}

/* Whoever ends as it should takes its socket along. */
static void tell_of_the_dead(const struct kept *k)
{
	log_warning("A server of this directory and its keeper were both killed: what they held is "
		    "lost, and so is which user's functions may still map memory of which job; end "
		    "functions that were started before, or those of one user may be given memory "
		    "of two jobs directory=%s",
		    k->dir.path);
}

/* Its owner was killed before it had handed over the rest. */
static bool has_a_part(const struct kept *k)
{
	struct keep_name name;

	for (uint16_t kind = KEEP_ABOUT + 1; kind < KEEP_KINDS; kind++)
		if (keep_find(k->keep, (struct keep_name){ .kind = kind }, &name))
			return true;
	return false;
}

static int about_open(struct kept *k)
{
	int r = k->is_again ? keep_take(k->keep, ABOUT, &k->about) : -ENOENT;

	if (r == 0 && k->about.size == ABOUT_BYTES &&
	    ((struct about *)k->about.ptr)->magic == ABOUT_MAGIC)
		return 0;
	if (r == -ENOENT && has_a_part(k))
		tell_of_the_dead(k);
	/* Killed before it had all, or of another version: nothing of it is of use. */
	keep_drop(k->keep, ABOUT);
	media_memfd.free(&k->about);
	keep_drop_rest(k->keep);
	k->is_again = false;
	return about_make(k);
}

/* All that it has is its own, or a successor's. */
static void leave_keeper(struct kept *k)
{
	keep_client_close(k->client);
	k->client = NULL;
	k->keep = NULL;
	media_memfd.free(&k->about);
}

static int meet_keeper(struct kept *k)
{
	bool is_ours = k->pid > 0; /* what it has, we have just given it */
	int fd = connect_to(k->dir.path), r;

	k->is_again = !is_nobody(fd) && !is_ours;
	if (fd == -ECONNREFUSED && !k->is_alone && !is_ours)
		tell_of_the_dead(k);
	if (is_nobody(fd)) {
		end_keeper(k);
		fd = start_keeper(k);
	}
	r = fd < 0 ? fd : keep_client_open(fd, k->is_again, &k->client);
	if (r < 0)
		return r;
	k->keep = keep_client_keep(k->client);
	r = about_open(k);
	if (r < 0)
		leave_keeper(k);
	return r;
}

static int open_keeper(struct kept *k)
{
	int r = -EHOSTDOWN;

	/*
	 * One that was killed, too, may die under our hands. And one that we have just started
	 * may be silent for longer than an answer may take, if there is much else to do.
	 */
	for (int i = 0; i < MEET_TRIES && r == -EHOSTDOWN; i++)
		r = meet_keeper(k);
	return r < 0 ? complain(k->is_again ? "cannot take over from the keeper in"
					    : "cannot start a keeper in",
				k->dir.path, r)
		     : 0;
}

/* Signals are the main thread's. */
static int start_watcher(struct kept *k)
{
	sigset_t all, before;
	int r;

	k->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (k->wake_fd < 0)
		return complain("cannot watch the keeper in", k->dir.path, -errno);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&k->watcher, NULL, watch, k);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		return complain("cannot watch the keeper in", k->dir.path, r);
	k->has_watcher = true;
	keep_client_set_waiting(k->client, true);
	return 0;
}

int kept_open(struct kept *k, const struct kept_config *config)
{
	int r;

	*k = (struct kept){
		.config = config, .dir.lock_fd = -1, .data_fd = -1, .about.fd = -1, .wake_fd = -1
	};
	r = lock_data(k);
	if (r == 0)
		r = open_directory(k);
	if (r == 0)
		r = write_run_file(k);
	if (r == 0)
		r = open_keeper(k);
	return r < 0 ? r : start_watcher(k);
}

void kept_start(struct kept *k)
{
	keep_drop_rest(k->keep);
	keep_client_set_waiting(k->client, false);
}

void kept_close(struct kept *k, bool is_over)
{
	char file[RUNDIR_PATH_MAX + 256];

	if (k->has_watcher) {
		(void)eventfd_write(k->wake_fd, 1);
		pthread_join(k->watcher, NULL);
	}
	if (k->wake_fd >= 0)
		close(k->wake_fd);
	if (k->client && is_over) {
		keep_client_end(k->client);
		end_keeper(k);
		keeper_unlisten(k->dir.path);
	}
	leave_keeper(k);
	if (is_over && k->dir.lock_fd >= 0 && run_file(k, file))
		(void)unlink(file);
	if (is_over)
		rundir_close(&k->dir);
	else
		rundir_leave(&k->dir);
	if (k->data_fd >= 0)
		close(k->data_fd);
}

/* What is about us. */

const char *kept_door(const struct kept *k, enum kept_door door, const char *wanted)
{
	const struct about *about = (const struct about *)k->about.ptr;
	struct address a;

	if (!k->is_again || __atomic_load_n(&about->has_door[door], __ATOMIC_ACQUIRE) != 1 ||
	    address_parse(wanted, &a) < 0 || a.kind != ADDRESS_TCP || a.u.in.sin_port != 0)
		return wanted;
	return memchr(about->doors[door], '\0', ADDRESS_TEXT_MAX) ? about->doors[door] : wanted;
}

void kept_set_door(struct kept *k, enum kept_door door, const struct address *at)
{
	struct about *about = (struct about *)k->about.ptr;

	if (!about)
		return;
	__atomic_store_n(&about->has_door[door], 0, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	address_format(at, about->doors[door], ADDRESS_TEXT_MAX);
	__atomic_store_n(&about->has_door[door], 1, __ATOMIC_RELEASE);
}

const uint64_t *kept_sessions(const struct kept *k, unsigned loop)
{
	return k->about.ptr ? ((const struct about *)k->about.ptr)->sessions[loop] : NULL;
}

void kept_set_session(struct kept *k, unsigned loop, uint16_t shard, uint64_t session)
{
	if (k->about.ptr)
		((struct about *)k->about.ptr)->sessions[loop][shard] = session;
}

uint64_t kept_session_left(const struct kept *k, unsigned loop, unsigned count, uint16_t shard)
{
	const struct about *about = (const struct about *)k->about.ptr;

	for (unsigned i = loop + count; about && i < LOOPS_MAX; i += count)
		if (about->sessions[i][shard])
			return about->sessions[i][shard];
	return 0;
}

void kept_session_over(struct kept *k, unsigned loop, unsigned count, uint16_t shard,
		       uint64_t session)
{
	struct about *about = (struct about *)k->about.ptr;

	for (unsigned i = loop + count; about && i < LOOPS_MAX; i += count)
		if (about->sessions[i][shard] == session)
			about->sessions[i][shard] = 0;
}

void kept_key(struct kept *k, uint8_t *key, size_t len)
{
	struct about *about = (struct about *)k->about.ptr;

	if (!about || len != sizeof(about->key))
		return;
	if (__atomic_load_n(&about->has_key, __ATOMIC_ACQUIRE) == 1) {
		memcpy(key, about->key, len);
		return;
	}
	memcpy(about->key, key, len);
	__atomic_store_n(&about->has_key, 1, __ATOMIC_RELEASE);
}
