/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_conn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* The connection is of no use any more, whatever comes next. */
static int broken(struct redis_conn *c)
{
	int r = errno == EAGAIN || errno == EWOULDBLOCK ? -ETIMEDOUT : -EHOSTUNREACH;
	const char *why = c->context->errstr;

	if (!c->context->err || !*why)
		why = r == -ETIMEDOUT ? "no answer in time" : strerror(errno);
	redis_conn_shutdown(c);
	return problem_set(*c->problem, r, "redis: %s", why);
}

static int refused(struct redis_conn *c, const char *error)
{
	return problem_set(*c->problem, strncmp(error, "OOM", 3) ? -EREMOTEIO : -ENOSPC,
			   "redis says: %s", error);
}

static redisContext *context_open(const char *address, struct timeval timeout)
{
	char host[256];
	const char *colon = strrchr(address, ':');
	size_t len = colon ? (size_t)(colon - address) : strlen(address);

	if (*address == '/')
		return redisConnectUnixWithTimeout(address, timeout);
	if (*address == '[' && len > 2 && address[len - 1] == ']') {
		address++;
		len -= 2;
	}
	snprintf(host, sizeof(host), "%.*s", (int)len, address);
	return redisConnectWithTimeout(host, colon ? atoi(colon + 1) : 6379, timeout);
}

int redis_conn_open(struct redis_conn *c, const char *address, uint32_t timeout_ms,
		    struct problem **problem)
{
	struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };

	*c = (struct redis_conn){ .problem = problem, .context = context_open(address, timeout) };
	if (!c->context || c->context->err)
		return problem_set(*problem, -EHOSTUNREACH, "nobody answers at redis://%s: %s",
				   address, c->context ? c->context->errstr : "no memory");
	redisSetTimeout(c->context, timeout);
	return 0;
}

void redis_conn_close(struct redis_conn *c)
{
	if (c->context)
		redisFree(c->context);
	c->context = NULL;
}

void redis_conn_shutdown(struct redis_conn *c)
{
	shutdown(c->context->fd, SHUT_RDWR);
}

static int ask(struct redis_conn *c, const char *format, va_list args)
{
	return redisvAppendCommand(c->context, format, args) == REDIS_OK ? 0 : broken(c);
}

int redis_ask(struct redis_conn *c, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = ask(c, format, args);
	va_end(args);
	return r;
}

int redis_flush(struct redis_conn *c)
{
	int done = 0;

	while (!done)
		if (redisBufferWrite(c->context, &done) != REDIS_OK)
			return broken(c);
	return 0;
}

int redis_reply(struct redis_conn *c, redisReply **ret)
{
	void *reply;
	int r;

	if (redisGetReply(c->context, &reply) != REDIS_OK)
		return broken(c);
	*ret = reply;
	if ((*ret)->type != REDIS_REPLY_ERROR)
		return 0;
	r = refused(c, (*ret)->str);
	freeReplyObject(reply);
	return r;
}

int redis_reply_int(struct redis_conn *c, long long *ret)
{
	redisReply *reply;
	int r = redis_reply(c, &reply);

	if (r < 0)
		return r;
	if (ret)
		*ret = reply->integer;
	freeReplyObject(reply);
	return 0;
}

int redis_replies(struct redis_conn *c, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count; i++) {
		int one = redis_reply_int(c, NULL);

		r = r < 0 ? r : one;
	}
	return r;
}

int redis_command_int(struct redis_conn *c, long long *ret, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = ask(c, format, args);
	va_end(args);
	return r < 0 ? r : redis_reply_int(c, ret);
}

static int send_all(struct redis_conn *c, struct iovec *iov, size_t count)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = count };

	while (msg.msg_iovlen > 0) {
		ssize_t n = sendmsg(c->context->fd, &msg, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return broken(c);
		while (msg.msg_iovlen > 0 && (size_t)n >= msg.msg_iov->iov_len) {
			n -= (ssize_t)msg.msg_iov->iov_len;
			msg.msg_iov++;
			msg.msg_iovlen--;
		}
		if (msg.msg_iovlen > 0) {
			msg.msg_iov->iov_base = (char *)msg.msg_iov->iov_base + n;
			msg.msg_iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

int redis_value_send(struct redis_conn *c, const char *key, const void *data, size_t len)
{
	static char CRLF[] = "\r\n";
	struct iovec iov[3];
	char *head;
	int n, r;

	n = asprintf(&head, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(key), key, len);
	if (n < 0)
		return problem_set(*c->problem, -ENOMEM, "no memory");
	iov[0] = (struct iovec){ head, (size_t)n };
	iov[1] = (struct iovec){ (void *)(uintptr_t)data, len };
	iov[2] = (struct iovec){ CRLF, 2 };
	r = send_all(c, iov, 3);
	free(head);
	return r;
}

static int recv_all(struct redis_conn *c, void *buf, size_t len)
{
	for (size_t have = 0; have < len;) {
		ssize_t n = recv(c->context->fd, (char *)buf + have, len - have, MSG_WAITALL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ECONNRESET;
		if (n <= 0)
			return broken(c);
		have += (size_t)n;
	}
	return 0;
}

/* The first line of a reply, and not a byte of what follows. */
static int line_recv(struct redis_conn *c, char *line, size_t cap)
{
	size_t len;
	ssize_t n;
	int r;

	do {
		n = recv(c->context->fd, line, cap - 1, MSG_PEEK);
		if (n == 0)
			errno = ECONNRESET;
		if (n <= 0 && errno != EINTR)
			return broken(c);
	} while (n < 0 || (!memchr(line, '\n', (size_t)n) && n + 1 < (ssize_t)cap));
	line[n] = '\0';
	len = strcspn(line, "\n");
	if (len == (size_t)n)
		return problem_set(*c->problem, -EBADMSG, "redis: a reply that is none");
	r = recv_all(c, line, len + 1);
	line[strcspn(line, "\r\n")] = '\0';
	return r;
}

int redis_value_recv(struct redis_conn *c, const char *name, void *buf, size_t len)
{
	char line[256], end[2];
	int r = line_recv(c, line, sizeof(line));

	if (r < 0)
		return r;
	if (line[0] == '-')
		return refused(c, line + 1);
	if (line[0] != '$' || strtoll(line + 1, NULL, 10) != (long long)len)
		return problem_set(*c->problem, -EREMOTEIO, "redis: a part of %s is gone", name);
	r = recv_all(c, buf, len);
	return r < 0 ? r : recv_all(c, end, 2);
}
