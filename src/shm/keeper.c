/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/node.h"
#include "shm/keep_set.h"
#include "shm/keep_wire.h"

#define SECOND_NS 1000000000ull

/* Somebody has the directory locked when our time is over: he has so many seconds to connect. */
#define LOCKED_SECONDS 5

struct keeper {
	const struct keeper_config *config;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct stat at_path; /* the socket as we found it: another one there is another keeper's */
	struct keep_set set;
	int owner_fd;        /* -1: alone */
	bool has_said_hello; /* who has not is no owner, and our time goes on */
	uint64_t hello_ns;   /* until then he must */
	uint64_t alone_ns;   /* until then we wait for an owner */
	unsigned locked_count;
	bool is_over;
};

static int socket_path(const char *directory, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s", directory, KEEPER_SOCKET) <
			       (int)sizeof(ret->sun_path)
		       ? 0
		       : -ENAMETOOLONG;
}

int keeper_listen(const char *directory)
{
	struct sockaddr_un at;
	int r = socket_path(directory, &at);
	int fd = r < 0 ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return r < 0 ? r : -errno;
	(void)unlink(at.sun_path); /* of one that is gone; whoever calls has the lock */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(fd, 8) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

void keeper_unlisten(const char *directory)
{
	struct sockaddr_un at;

	if (socket_path(directory, &at) == 0)
		(void)unlink(at.sun_path);
}

/*
 * Nobody finds us where another keeper's socket is, or nothing. `otherwise`: what is to be taken
 * for true if the kernel cannot say.
 */
static bool can_be_found(const struct keeper *k, bool otherwise)
{
	struct stat now;

	if (stat(k->path, &now) < 0)
		return errno != ENOENT && errno != ENOTDIR && otherwise;
	return now.st_ino == k->at_path.st_ino && now.st_dev == k->at_path.st_dev;
}

static void remove_directory(const char *path)
{
	DIR *d = opendir(path);
	const struct dirent *e;
	struct stat st;

	/* What its owner could not remove; there are sockets, and nothing else is ours. */
	while (d && (e = readdir(d)) != NULL)
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISSOCK(st.st_mode))
			(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	(void)rmdir(path);
}

/* Our time is over, if nobody is just about to come. */
static void end_alone(struct keeper *k)
{
	int fd = open(k->config->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	bool is_locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;

	if (is_locked && can_be_found(k, true) && k->locked_count++ < LOCKED_SECONDS) {
		k->alone_ns = node_now_ns() + SECOND_NS;
	} else {
		k->is_over = true;
		if (fd >= 0 && !is_locked && can_be_found(k, false))
			remove_directory(k->config->directory);
	}
	if (fd >= 0)
		close(fd);
}

static void owner_lost(struct keeper *k)
{
	close(k->owner_fd);
	k->owner_fd = -1;
	if (!k->has_said_hello)
		return;
	k->has_said_hello = false;
	k->locked_count = 0;
	k->alone_ns = node_now_ns() + k->config->patience_ns;
	k->is_over = k->is_over || !can_be_found(k, true);
}

static void accept_owner(struct keeper *k)
{
	int fd = accept4(k->config->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (!keep_peer_is_ours(fd) || keep_set_patience(fd, KEEP_ANSWER_MS) < 0) {
		close(fd);
		return;
	}
	k->owner_fd = fd;
	k->hello_ns = node_now_ns() + SECOND_NS;
}

static void forget(struct keeper *k, struct keep_name name)
{
	struct kept *e = keep_set_get(&k->set, name);

	if (!e)
		return;
	close(e->fd);
	keep_set_remove(&k->set, e);
}

static int put(struct keeper *k, struct keep_name name, int fd)
{
	struct kept *e = keep_set_get(&k->set, name);
	int r = e ? 0 : keep_set_reserve(&k->set);

	if (r < 0) {
		close(fd);
	} else if (e) {
		close(e->fd);
		e->fd = fd;
	} else {
		keep_set_add(&k->set, &(struct kept){ .name = name, .fd = fd });
	}
	return r;
}

static int put_all(struct keeper *k, const struct keep_message *m)
{
	int r = 0;

	for (unsigned i = 0; i < m->count; i++) {
		int e = put(k, m->names[i], m->fds[i]);

		r = r < 0 ? r : e;
	}
	return r;
}

static int answer(const struct keeper *k, int result)
{
	return keep_send(k->owner_fd, &(struct keep_message){ .kind = KEEP_DONE, .value = result });
}

static int list_some(const struct keeper *k, struct keep_name from)
{
	struct keep_message m = { .kind = KEEP_LIST };
	unsigned i = keep_set_from(&k->set, from);

	for (; i < k->set.count && m.count < KEEP_BATCH; i++) {
		m.names[m.count] = k->set.list[i].name;
		m.fds[m.count++] = k->set.list[i].fd;
	}
	m.fd_count = m.count;
	m.value = i < k->set.count;
	return keep_send(k->owner_fd, &m);
}

/* -EBADMSG and whatever else ends the connection. Its descriptors are taken. */
static int serve(struct keeper *k, struct keep_message *m)
{
	unsigned fd_count = m->kind == KEEP_PUT ? m->count : 0;

	if (m->fd_count != fd_count || k->has_said_hello != (m->kind != KEEP_HELLO)) {
		keep_message_close(m);
		return -EBADMSG;
	}
	switch (m->kind) {
	case KEEP_HELLO:
		k->has_said_hello = m->value == KEEP_VERSION;
		return k->has_said_hello ? 0 : -EPROTONOSUPPORT;
	case KEEP_LIST:
		return m->count == 1 ? list_some(k, m->names[0]) : -EBADMSG;
	case KEEP_PUT:
		return answer(k, put_all(k, m));
	case KEEP_DROP:
		for (unsigned i = 0; i < m->count; i++)
			forget(k, m->names[i]);
		return 0;
	case KEEP_END:
		if (can_be_found(k, false))
			(void)unlink(k->path);
		k->is_over = true;
		return 0;
	case KEEP_DONE:
		break;
	}
	return -EBADMSG;
}

static void serve_owner(struct keeper *k)
{
	struct keep_message m;
	int r = keep_receive(k->owner_fd, &m);

	if (r == -EAGAIN)
		return; /* there was nothing after all */
	if (r == 0)
		r = serve(k, &m);
	else if (r == -EMFILE && m.kind == KEEP_PUT && k->has_said_hello)
		r = answer(k, -EMFILE);
	if (r < 0)
		owner_lost(k); /* also if it does not take an answer */
}

/* Until something comes, or our patience is at its end. */
static void step(struct keeper *k)
{
	bool is_owned = k->owner_fd >= 0, is_late;
	struct pollfd fds[2] = {
		{ .fd = is_owned ? k->owner_fd : k->config->listen_fd, .events = POLLIN },
		{ .fd = is_owned || k->locked_count > 0 ? -1 : k->config->stop_fd,
		  .events = POLLIN },
	};
	uint64_t due_ns = is_owned ? k->hello_ns : k->alone_ns, now_ns = node_now_ns();
	int ms = -1;

	if (!k->has_said_hello)
		ms = due_ns > now_ns ? (int)((due_ns - now_ns) / 1000000 + 1) : 0;
	if (poll(fds, 2, ms) < 0)
		return;
	is_late = !k->has_said_hello && node_now_ns() >= due_ns;
	if (fds[0].revents && is_owned)
		serve_owner(k);
	else if (is_owned && is_late)
		owner_lost(k);
	else if (!is_owned && (is_late || fds[1].revents))
		end_alone(k);
	else if (fds[0].revents)
		accept_owner(k);
}

int keeper_run(const struct keeper_config *config)
{
	struct keeper k = { .config = config,
			    .owner_fd = -1,
			    .alone_ns = node_now_ns() + config->patience_ns };
	struct sockaddr_un at;
	int r = socket_path(config->directory, &at);

	if (r < 0)
		return r;
	memcpy(k.path, at.sun_path, sizeof(k.path));
	if (stat(k.path, &k.at_path) < 0)
		return -errno;
	while (!k.is_over)
		step(&k);
	while (k.set.count > 0)
		forget(&k, k.set.list[k.set.count - 1].name);
	keep_set_fini(&k.set);
	if (k.owner_fd >= 0)
		close(k.owner_fd); /* last: its owner may take the directory away now */
	return 0;
}
