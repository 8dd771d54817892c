/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plain: blocking sockets, for the floor and for a peer without a library.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct child;

struct plain_address {
	struct sockaddr_storage storage;
	socklen_t len;
};

/* A socket that listens: 127.0.0.1 and a port that the kernel chooses, or, with a name, an
 * abstract one of this host. *ret is where to connect. A descriptor, or a negative errno. */
int plain_listen(const char *local_name, struct plain_address *ret);
/* Where `path` is a Unix socket. */
struct plain_address plain_local(const char *path);
struct plain_address plain_loopback(uint16_t port);
/* A port of the loopback that was free just now. */
uint16_t plain_free_port(void);
int plain_connect(const struct plain_address *to);
/* Until the child listens there. -ETIMEDOUT; -ECHILD: it has ended. */
int plain_await(const struct plain_address *at, struct child *server, uint64_t due_ns);

/* All of it, or a negative errno; `v` is changed. */
int plain_send_all(int fd, struct iovec *v, unsigned count);
/* Waits for something to read, until due_ns (UINT64_MAX: leaves that to recv()). False: late. */
bool plain_wait(int fd, uint64_t due_ns);
