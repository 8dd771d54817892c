/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_conn: a connection to a Redis server, for values that are large.
 *
 * Commands and short replies are hiredis'. Values go straight from and to the caller's
 * memory: hiredis would hold each a second time, and a function's memory is counted.
 * Both may be mixed freely, as long as replies are taken in the order of their commands,
 * and a value's reply is asked for only when no short one is outstanding before it, since
 * hiredis reads ahead.
 *
 * After a failure in the middle of replies the connection is shut down: what would come
 * next is the answer to another question.
 */
#pragma once

#include <hiredis/hiredis.h>
#include <stddef.h>
#include <stdint.h>

#include "problem.h"

struct redis_conn {
	redisContext *context;
	struct problem **problem; /* whose it is now, which changes; not ours */
};

/* `address`: HOST, HOST:PORT, [IPv6]:PORT, or the path of a Unix socket. */
int redis_conn_open(struct redis_conn *c, const char *address, uint32_t timeout_ms,
		    struct problem **problem);
void redis_conn_close(struct redis_conn *c);
void redis_conn_shutdown(struct redis_conn *c);

/* Queues a command; it leaves with the next flush or the next reply that is waited for. */
int redis_ask(struct redis_conn *c, const char *format, ...);
int redis_flush(struct redis_conn *c);

/* The next reply: to be freed; a number, where `ret` is not NULL; so many that say nothing. */
int redis_reply(struct redis_conn *c, redisReply **ret);
int redis_reply_int(struct redis_conn *c, long long *ret);
int redis_replies(struct redis_conn *c, size_t count);

/* A command and its reply. */
int redis_command_int(struct redis_conn *c, long long *ret, const char *format, ...);

/* SET from the caller's memory; its reply is a short one, still to be read. */
int redis_value_send(struct redis_conn *c, const char *key, const void *data, size_t len);

/* The reply to GET or GETRANGE, which must have `len` bytes; `name` is for the error. */
int redis_value_recv(struct redis_conn *c, const char *name, void *buf, size_t len);
