/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Redis server as the store: redis://HOST:PORT[?part=SIZE], redis:///PATH[?part=SIZE].
 *
 * An object is a header and parts of at most SIZE bytes. Parts have the name of their
 * writer in their key, so that attempts do not touch each other's; the header, which
 * appears last and only if there is none, says whose parts they are. Keys of a job:
 *
 *	JOB/o/PATH          header: the writer's number, then the length of each part
 *	JOB/p/PATH/N:I      part I of writer N
 *	JOB/d/DIRECTORY     set of the names in a directory
 *	JOB/w/DIRECTORY     list: an element per commit; who waits, pops them
 *
 * Nobody is forgotten on the list: who finds his count complete leaves an element for
 * the next, and who died with one in his hand is made up for by looking round.
 *
 * Large values go straight from and to the caller's memory: hiredis would hold each a
 * second time, and a function's memory is counted.
 */
#include "store_ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <hiredis/hiredis.h>

#include "clock.h"

#define PART_DEFAULT ((size_t)16 << 20)
#define PART_MAX     ((size_t)512 << 20) /* the longest string of Redis */

/* Replies of so many reads may be on their way; the server holds them in its memory. */
#define READS_AHEAD 4

/* How long a wait lasts before it looks round. */
#define LOOK_MS 2000

#define KEY_MAX (STORE_PATH_MAX + 128)

struct object {
	char *path;
	uint64_t writer;
	size_t count;    /* of parts */
	uint64_t *parts; /* their lengths */
	uint64_t len;
};

struct redis {
	struct store store;
	redisContext *conn;
	char *job;
	size_t part_size;
	struct object *objects; /* headers that were read: they never change */
	size_t object_count, object_cap, object_hit;
};

struct redis_writer {
	struct store_writer writer;
	char path[STORE_PATH_MAX];
	uint64_t number;
	uint64_t *parts; /* as they go into the header */
	size_t count, cap;
};

static int no_memory(struct store *s)
{
	return problem_set(s->problem, -ENOMEM, "no memory");
}

/* The connection is of no use any more, whatever comes next. */
static int broken(struct redis *rd)
{
	int r = errno == EAGAIN || errno == EWOULDBLOCK ? -ETIMEDOUT : -EHOSTUNREACH;

	return problem_set(rd->store.problem, r, "redis: %s",
			   rd->conn->err && rd->conn->errstr[0] ? rd->conn->errstr
			   : r == -ETIMEDOUT                    ? "no answer in time"
								: strerror(errno));
}

static int refused(struct redis *rd, const char *error)
{
	return problem_set(rd->store.problem, strncmp(error, "OOM", 3) ? -EREMOTEIO : -ENOSPC,
			   "redis says: %s", error);
}

/* The next reply, in *ret_int if it is a number; for commands whose replies are short. */
static int reply_int(struct redis *rd, long long *ret_int)
{
	void *reply;
	int r = 0;

	if (redisGetReply(rd->conn, &reply) != REDIS_OK)
		return broken(rd);
	if (((redisReply *)reply)->type == REDIS_REPLY_ERROR)
		r = refused(rd, ((redisReply *)reply)->str);
	else if (ret_int)
		*ret_int = ((redisReply *)reply)->integer;
	freeReplyObject(reply);
	return r;
}

/* Any reply but an error, to be freed. */
static int reply_get(struct redis *rd, redisReply **ret)
{
	void *reply;
	int r;

	if (redisGetReply(rd->conn, &reply) != REDIS_OK)
		return broken(rd);
	*ret = reply;
	if ((*ret)->type != REDIS_REPLY_ERROR)
		return 0;
	r = refused(rd, (*ret)->str);
	freeReplyObject(reply);
	return r;
}

static int flush(struct redis *rd)
{
	int done = 0;

	while (!done)
		if (redisBufferWrite(rd->conn, &done) != REDIS_OK)
			return broken(rd);
	return 0;
}

/* The directory of a path, to a buffer, and the name in it. */
static const char *split(const char *path, char directory[STORE_PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	snprintf(directory, STORE_PATH_MAX, "%.*s", slash ? (int)(slash - path) : 0, path);
	return slash ? slash + 1 : path;
}

static void part_key(char key[KEY_MAX], const struct redis *rd, const char *path, uint64_t writer,
		     size_t index)
{
	snprintf(key, KEY_MAX, "%s/p/%s/%016llx:%zu", rd->job, path, (unsigned long long)writer,
		 index);
}

static int send_all(struct redis *rd, struct iovec *iov, size_t count)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = count };

	while (msg.msg_iovlen > 0) {
		ssize_t n = sendmsg(rd->conn->fd, &msg, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return broken(rd);
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

/* SET of a part from the caller's memory. Its reply is to be read by reply_int(). */
static int part_send(struct redis *rd, const char *path, uint64_t writer, size_t index,
		     const void *data, size_t len)
{
	char head[KEY_MAX + 64], key[KEY_MAX];
	struct iovec iov[3];
	int n;

	part_key(key, rd, path, writer, index);
	n = snprintf(head, sizeof(head), "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(key),
		     key, len);
	iov[0] = (struct iovec){ head, (size_t)n };
	iov[1] = (struct iovec){ (void *)(uintptr_t)data, len };
	iov[2] = (struct iovec){ (void *)(uintptr_t) "\r\n", 2 };
	return send_all(rd, iov, 3);
}

static int recv_all(struct redis *rd, void *buf, size_t len)
{
	for (size_t have = 0; have < len;) {
		ssize_t n = recv(rd->conn->fd, (char *)buf + have, len - have, MSG_WAITALL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ECONNRESET;
		if (n <= 0)
			return broken(rd);
		have += (size_t)n;
	}
	return 0;
}

/* The first line of a reply, and not a byte of what follows. */
static int line_recv(struct redis *rd, char *line, size_t cap)
{
	size_t len;
	ssize_t n;
	int r;

	do {
		n = recv(rd->conn->fd, line, cap - 1, MSG_PEEK);
		if (n == 0)
			errno = ECONNRESET;
		if (n <= 0 && errno != EINTR)
			return broken(rd);
	} while (n < 0 || (!memchr(line, '\n', (size_t)n) && n + 1 < (ssize_t)cap));
	line[n] = '\0';
	len = strcspn(line, "\n");
	if (len == (size_t)n)
		return problem_set(rd->store.problem, -EBADMSG, "redis: a reply that is none");
	r = recv_all(rd, line, len + 1);
	line[strcspn(line, "\r\n")] = '\0';
	return r;
}

/* The reply to GET or GETRANGE, `len` bytes, to the caller's memory. */
static int bulk_recv(struct redis *rd, const char *path, void *buf, size_t len)
{
	char line[256], end[2];
	int r = line_recv(rd, line, sizeof(line));

	if (r < 0)
		return r;
	if (line[0] == '-')
		return refused(rd, line + 1);
	if (line[0] != '$' || strtoll(line + 1, NULL, 10) != (long long)len)
		return problem_set(rd->store.problem, -EREMOTEIO, "redis: a part of %s is gone",
				   path);
	r = recv_all(rd, buf, len);
	return r < 0 ? r : recv_all(rd, end, 2);
}

static void redis_close(struct store *s)
{
	struct redis *rd = (struct redis *)s;

	for (size_t i = 0; i < rd->object_count; i++) {
		free(rd->objects[i].path);
		free(rd->objects[i].parts);
	}
	free(rd->objects);
	free(rd->job);
	if (rd->conn)
		redisFree(rd->conn);
	free(rd);
}

/* What is behind the `?`: only the size of parts. */
static int part_size_parse(const char *query, size_t *ret)
{
	unsigned long long v;
	char *end;

	*ret = PART_DEFAULT;
	if (!query)
		return 0;
	if (strncmp(query, "?part=", 6) != 0)
		return -EINVAL;
	v = strtoull(query + 6, &end, 10);
	if (*end == 'K' || *end == 'M')
		v <<= *end++ == 'K' ? 10 : 20;
	if (*end || v == 0 || v > PART_MAX)
		return -EINVAL;
	*ret = (size_t)v;
	return 0;
}

static redisContext *server_connect(const char *address, struct timeval timeout)
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

static int server_open(struct redis *rd, const struct store_config *config, struct problem *problem)
{
	struct timeval timeout = { config->timeout_ms / 1000, config->timeout_ms % 1000 * 1000 };
	const char *address = config->url + strlen("redis://");
	const char *query = strchr(address, '?');
	char *copy;

	if (part_size_parse(query, &rd->part_size) < 0)
		return problem_set_final(problem, -EINVAL,
					 "%s: behind the ? there is only part=SIZE, up to 512M",
					 config->url);
	copy = strndup(address, query ? (size_t)(query - address) : strlen(address));
	rd->job = config->job ? strdup(config->job) : NULL;
	if (!copy || (config->job && !rd->job)) {
		free(copy);
		return problem_set(problem, -ENOMEM, "no memory");
	}
	rd->conn = server_connect(copy, timeout);
	free(copy);
	if (!rd->conn || rd->conn->err)
		return problem_set(problem, -EHOSTUNREACH, "nobody answers at %s: %s", config->url,
				   rd->conn ? rd->conn->errstr : "no memory");
	redisSetTimeout(rd->conn, timeout);
	return 0;
}

static int redis_open(const struct store_config *config, struct problem *problem,
		      struct store **ret)
{
	struct redis *rd = calloc(1, sizeof(*rd));
	int r;

	if (!rd)
		return problem_set(problem, -ENOMEM, "no memory");
	r = server_open(rd, config, problem);
	if (r < 0) {
		redis_close(&rd->store);
		return r;
	}
	*ret = &rd->store;
	return 0;
}

static int part_note(struct store *s, struct redis_writer *w, size_t len)
{
	if (w->count == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 16;
		uint64_t *more = reallocarray(w->parts, cap, sizeof(*more));

		if (!more)
			return no_memory(s);
		w->parts = more;
		w->cap = cap;
	}
	w->parts[w->count++] = len;
	return 0;
}

/* Cuts data into parts and sends them; *ret_unread replies are still to be read. */
static int parts_send(struct redis *rd, struct redis_writer *w, const uint8_t *data, size_t len,
		      size_t *ret_unread)
{
	*ret_unread = 0;
	while (len > 0) {
		size_t n = len < rd->part_size ? len : rd->part_size;
		int r = part_send(rd, w->path, w->number, w->count, data, n);

		if (r == 0)
			r = part_note(&rd->store, w, n);
		if (r < 0)
			return r;
		++*ret_unread;
		data += n;
		len -= n;
	}
	return 0;
}

static int replies_read(struct redis *rd, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count; i++) {
		int one = reply_int(rd, NULL);

		r = r < 0 ? r : one;
	}
	return r;
}

/* The header, if there is none yet, the name in its directory, and a wake-up; all or nothing. */
static int header_send(struct redis *rd, const struct redis_writer *w)
{
	char directory[STORE_PATH_MAX];
	const char *name = split(w->path, directory);
	size_t len = (w->count + 1) * sizeof(uint64_t);
	uint64_t *header = malloc(len);
	int r = 0;

	if (!header)
		return no_memory(&rd->store);
	header[0] = w->number;
	if (w->count > 0)
		memcpy(header + 1, w->parts, w->count * sizeof(*w->parts));
	r |= redisAppendCommand(rd->conn, "MULTI");
	r |= redisAppendCommand(rd->conn, "SETNX %s/o/%s %b", rd->job, w->path, header, len);
	r |= redisAppendCommand(rd->conn, "SADD %s/d/%s %s", rd->job, directory, name);
	r |= redisAppendCommand(rd->conn, "RPUSH %s/w/%s +", rd->job, directory);
	r |= redisAppendCommand(rd->conn, "EXEC");
	free(header);
	return r == REDIS_OK ? flush(rd) : broken(rd);
}

/* -EEXIST: there was a header. */
static int header_reply(struct redis *rd)
{
	redisReply *reply;
	int r = replies_read(rd, 4);

	if (r == 0)
		r = reply_get(rd, &reply);
	if (r < 0)
		return r;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3)
		r = refused(rd, "a transaction did not run");
	else if (reply->element[0]->integer == 0)
		r = -EEXIST;
	freeReplyObject(reply);
	return r;
}

/* Parts of an attempt that was not the first are nobody's. */
static int parts_remove(struct redis *rd, const char *path, uint64_t number, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char key[KEY_MAX];

		part_key(key, rd, path, number, i);
		if (redisAppendCommand(rd->conn, "UNLINK %s", key) != REDIS_OK)
			return broken(rd);
	}
	return replies_read(rd, count);
}

static int writer_init(struct redis *rd, struct redis_writer *w, const char *path)
{
	*w = (struct redis_writer){ 0 };
	if (getrandom(&w->number, sizeof(w->number), 0) < 0)
		return problem_set(rd->store.problem, -errno, "no random number: %s",
				   strerror(errno));
	snprintf(w->path, sizeof(w->path), "%s", path);
	return 0;
}

static int header_result(struct redis *rd, struct redis_writer *w, int r)
{
	int removed = r == -EEXIST ? parts_remove(rd, w->path, w->number, w->count) : 0;

	return removed < 0 ? removed : r;
}

/* One round trip: parts and header go out, then all replies come. */
static int redis_put(struct store *s, const char *path, const void *data, size_t len)
{
	struct redis *rd = (struct redis *)s;
	struct redis_writer w;
	size_t unread;
	int r = writer_init(rd, &w, path);

	if (r == 0)
		r = parts_send(rd, &w, data, len, &unread);
	if (r == 0)
		r = header_send(rd, &w);
	if (r == 0)
		r = replies_read(rd, unread);
	if (r == 0)
		r = header_result(rd, &w, header_reply(rd));
	free(w.parts);
	return r;
}

static int redis_writer_open(struct store *s, const char *path, struct store_writer **ret)
{
	struct redis_writer *w = malloc(sizeof(*w));
	int r = w ? writer_init((struct redis *)s, w, path) : no_memory(s);

	if (r < 0)
		free(w);
	else
		*ret = &w->writer;
	return r;
}

static int redis_writer_write(struct store_writer *writer, const void *data, size_t len)
{
	struct redis_writer *w = (struct redis_writer *)writer;
	struct redis *rd = (struct redis *)writer->store;
	size_t unread;
	int r = parts_send(rd, w, data, len, &unread);

	return r < 0 ? r : replies_read(rd, unread);
}

static void redis_writer_abandon(struct store_writer *writer)
{
	struct redis_writer *w = (struct redis_writer *)writer;

	free(w->parts); /* what was sent goes with the job */
	free(w);
}

static int redis_writer_commit(struct store_writer *writer)
{
	struct redis_writer *w = (struct redis_writer *)writer;
	struct redis *rd = (struct redis *)writer->store;
	int r = header_send(rd, w);

	if (r == 0)
		r = header_result(rd, w, header_reply(rd));
	redis_writer_abandon(writer);
	return r;
}

/* Takes a header into the table. */
static int object_add(struct redis *rd, const char *path, const redisReply *header)
{
	struct object o = { .path = strdup(path) };

	if (rd->object_count == rd->object_cap) {
		size_t cap = rd->object_cap ? 2 * rd->object_cap : 64;
		struct object *more = reallocarray(rd->objects, cap, sizeof(*more));

		if (!more) {
			free(o.path);
			return no_memory(&rd->store);
		}
		rd->objects = more;
		rd->object_cap = cap;
	}
	o.count = header->len / sizeof(uint64_t) - 1;
	o.parts = calloc(o.count + 1, sizeof(*o.parts));
	if (!o.path || !o.parts) {
		free(o.path);
		free(o.parts);
		return no_memory(&rd->store);
	}
	memcpy(&o.writer, header->str, sizeof(o.writer));
	memcpy(o.parts, header->str + sizeof(o.writer), o.count * sizeof(*o.parts));
	for (size_t i = 0; i < o.count; i++)
		o.len += o.parts[i];
	rd->objects[rd->object_count++] = o;
	return 0;
}

static const struct object *object_find(struct redis *rd, const char *path)
{
	/* Mostly the one of last time, or the next. */
	for (size_t i = 0; i < rd->object_count; i++) {
		size_t index = (rd->object_hit + i) % rd->object_count;

		if (strcmp(rd->objects[index].path, path) == 0) {
			rd->object_hit = index;
			return &rd->objects[index];
		}
	}
	return NULL;
}

/* The reply to GET of a header; -ENOENT: there is none, which nobody is told. */
static int header_take(struct redis *rd, const char *path)
{
	redisReply *reply;
	int r = reply_get(rd, &reply);

	if (r < 0)
		return r;
	if (reply->type == REDIS_REPLY_NIL)
		r = -ENOENT;
	else if (reply->type != REDIS_REPLY_STRING || reply->len < 8 || reply->len % 8)
		r = problem_set(rd->store.problem, -EBADMSG, "%s is no object of ours", path);
	else
		r = object_add(rd, path, reply);
	freeReplyObject(reply);
	return r;
}

static int header_ask(struct redis *rd, const char *path)
{
	int r = redisAppendCommand(rd->conn, "GET %s/o/%s", rd->job, path);

	return r == REDIS_OK ? 0 : broken(rd);
}

/* -ENOENT: nobody is told. */
static int object_get(struct redis *rd, const char *path, const struct object **ret)
{
	int r = 0;

	*ret = object_find(rd, path);
	if (*ret)
		return 0;
	r = header_ask(rd, path);
	if (r == 0)
		r = header_take(rd, path);
	if (r == 0)
		*ret = object_find(rd, path);
	return r;
}

/* A piece of a read that lies in one part. */
struct piece_read {
	const struct object *object;
	size_t part;
	uint64_t from; /* in the part */
	size_t len;
	uint8_t *to;
};

/* The next piece at `done` bytes of a read. */
static struct piece_read piece_at(const struct object *o, const struct store_read *read,
				  size_t done)
{
	uint64_t at = read->offset + done;
	struct piece_read p = { .object = o, .to = (uint8_t *)read->buf + done };

	while (p.part < o->count && at >= o->parts[p.part])
		at -= o->parts[p.part++];
	p.from = at;
	if (p.part < o->count) {
		uint64_t left = o->parts[p.part] - at;

		p.len = left < read->len - done ? (size_t)left : read->len - done;
	}
	return p;
}

static int piece_ask(struct redis *rd, const struct piece_read *p)
{
	char key[KEY_MAX];
	int r;

	part_key(key, rd, p->object->path, p->object->writer, p->part);
	if (p->len == p->object->parts[p->part])
		r = redisAppendCommand(rd->conn, "GET %s", key);
	else
		r = redisAppendCommand(rd->conn, "GETRANGE %s %llu %llu", key,
				       (unsigned long long)p->from,
				       (unsigned long long)(p->from + p->len - 1));
	return r == REDIS_OK ? flush(rd) : broken(rd);
}

/* A walk over the pieces of all reads; one walks ahead to ask, one behind to receive. */
struct walk {
	const struct store_read *reads;
	size_t count, index, done;
};

/* False: there are no more. The reads have been checked, so their objects are in the table. */
static bool walk_next(struct redis *rd, struct walk *w, struct piece_read *ret)
{
	const struct store_read *read;

	while (w->index < w->count && w->done == w->reads[w->index].len) {
		w->index++;
		w->done = 0;
	}
	if (w->index == w->count)
		return false;
	read = &w->reads[w->index];
	*ret = piece_at(object_find(rd, read->path), read, w->done);
	w->done += ret->len;
	return true;
}

/* Headers first: after this only the replies that were asked for can come, in their order. */
static int reads_check(struct redis *rd, const struct store_read *reads, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct store_read *read = &reads[i];
		const struct object *o;
		int r = object_get(rd, read->path, &o);

		if (r < 0)
			return problem_set(rd->store.problem, r, "redis: there is no %s",
					   read->path);
		if (read->offset > o->len || read->len > o->len - read->offset)
			return problem_set(rd->store.problem, -EIO, "%s: shorter than expected",
					   read->path);
	}
	return 0;
}

static int redis_read(struct store *s, const struct store_read *reads, size_t count)
{
	struct redis *rd = (struct redis *)s;
	struct walk asks = { reads, count, 0, 0 }, takes = asks;
	struct piece_read p;
	size_t ahead = 0;
	int r = reads_check(rd, reads, count);

	if (r < 0)
		return r;
	do {
		while (r == 0 && ahead < READS_AHEAD && walk_next(rd, &asks, &p)) {
			r = piece_ask(rd, &p);
			ahead++;
		}
		if (r == 0 && walk_next(rd, &takes, &p)) {
			r = bulk_recv(rd, p.object->path, p.to, p.len);
			ahead--;
		}
	} while (r == 0 && ahead > 0);
	/* Replies that nobody takes any more would be taken for others. */
	if (r < 0)
		shutdown(rd->conn->fd, SHUT_RDWR);
	return r;
}

static int command_int(struct redis *rd, long long *ret, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = redisvAppendCommand(rd->conn, format, args);
	va_end(args);
	return r == REDIS_OK ? reply_int(rd, ret) : broken(rd);
}

static int redis_wait_count(struct store *s, const char *directory, size_t count, uint64_t due_ns)
{
	struct redis *rd = (struct redis *)s;

	for (;;) {
		long long have = 0;
		int left_ms = clock_left_ms(due_ns, LOOK_MS);
		char left_s[32];
		int r = command_int(rd, &have, "SCARD %s/d/%s", rd->job, directory);

		snprintf(left_s, sizeof(left_s), "%d.%03d", left_ms / 1000, left_ms % 1000);
		if (r == 0 && have >= (long long)count)
			return command_int(rd, NULL, "RPUSH %s/w/%s +", rd->job, directory);
		if (r == 0 && left_ms == 0)
			return -ETIMEDOUT;
		if (r == 0)
			r = command_int(rd, NULL, "BLPOP %s/w/%s %s", rd->job, directory, left_s);
		if (r < 0)
			return r;
	}
}

/* The names in a directory, as an array; to be freed. */
static int names_get(struct redis *rd, const char *directory, redisReply **ret)
{
	int r = redisAppendCommand(rd->conn, "SMEMBERS %s/d/%s", rd->job, directory);

	if (r != REDIS_OK)
		return broken(rd);
	r = reply_get(rd, ret);
	if (r == 0 && (*ret)->type != REDIS_REPLY_ARRAY) {
		freeReplyObject(*ret);
		return problem_set(rd->store.problem, -EBADMSG, "%s is no directory of ours",
				   directory);
	}
	return r;
}

static void path_join(char path[STORE_PATH_MAX], const char *directory, const redisReply *name)
{
	/* Our own names, so they fit; a stranger's would be cut and then not found. */
	snprintf(path, STORE_PATH_MAX, "%.*s/%.*s", STORE_PATH_MAX - STORE_NAME_MAX, directory,
		 STORE_NAME_MAX - 2, name->str);
}

static int lens_add(struct redis *rd, const char *directory, const redisReply *names,
		    struct store_list *ret)
{
	char path[STORE_PATH_MAX];
	int r = 0;

	for (size_t i = 0; r == 0 && i < names->elements; i++) {
		path_join(path, directory, names->element[i]);
		r = object_find(rd, path) ? 0 : header_ask(rd, path);
	}
	for (size_t i = 0; r == 0 && i < names->elements; i++) {
		const struct object *o;

		path_join(path, directory, names->element[i]);
		if (!object_find(rd, path))
			r = header_take(rd, path);
		o = object_find(rd, path);
		if (r == 0 && o && store_list_add(ret, names->element[i]->str, o->len) < 0)
			r = no_memory(&rd->store);
		if (r == -ENOENT)
			r = 0; /* removed in the meantime */
	}
	return r;
}

static int redis_list(struct store *s, const char *directory, struct store_list *ret)
{
	struct redis *rd = (struct redis *)s;
	redisReply *names;
	int r = names_get(rd, directory, &names);

	if (r < 0)
		return r;
	r = lens_add(rd, directory, names, ret);
	freeReplyObject(names);
	return r;
}

static int object_remove(struct redis *rd, const char *path)
{
	char directory[STORE_PATH_MAX];
	const char *name = split(path, directory);
	const struct object *o;
	int r = object_get(rd, path, &o);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = parts_remove(rd, path, o->writer, o->count);
	if (r == 0)
		r = command_int(rd, NULL, "UNLINK %s/o/%s", rd->job, path);
	if (r == 0)
		r = command_int(rd, NULL, "SREM %s/d/%s %s", rd->job, directory, name);
	return r;
}

/* Directories of the job are never inside each other where this is used. */
static int directory_remove(struct redis *rd, const char *directory)
{
	redisReply *names;
	int r = names_get(rd, directory, &names);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < names->elements; i++) {
		char path[STORE_PATH_MAX];

		path_join(path, directory, names->element[i]);
		r = object_remove(rd, path);
	}
	freeReplyObject(names);
	return r < 0 ? r : command_int(rd, NULL, "UNLINK %s/w/%s", rd->job, directory);
}

static int redis_remove(struct store *s, const char *path)
{
	struct redis *rd = (struct redis *)s;
	char directory[STORE_PATH_MAX];

	if (*split(path, directory) == '\0')
		return directory_remove(rd, directory);
	return object_remove(rd, path);
}

static int redis_job_begin(struct store *s, const char *job, uint32_t lease_ms, char *ret_token)
{
	(void)job, (void)lease_ms, (void)ret_token; /* keys have neither */
	return command_int((struct redis *)s, NULL, "PING");
}

static int redis_job_renew(struct store *s, const char *job, uint32_t lease_ms)
{
	(void)s, (void)job, (void)lease_ms;
	return 0;
}

static int redis_job_usage(struct store *s, const char *job, struct store_usage *ret)
{
	(void)s, (void)job, (void)ret; /* nobody counts */
	return 0;
}

static int keys_unlink(struct redis *rd, const redisReply *keys)
{
	for (size_t i = 0; i < keys->elements; i++)
		if (redisAppendCommand(rd->conn, "UNLINK %b", keys->element[i]->str,
				       keys->element[i]->len) != REDIS_OK)
			return broken(rd);
	return replies_read(rd, keys->elements);
}

static int redis_job_end(struct store *s, const char *job)
{
	struct redis *rd = (struct redis *)s;
	char cursor[32] = "0";
	int r = 0;

	do {
		redisReply *reply;

		if (redisAppendCommand(rd->conn, "SCAN %s MATCH %s/* COUNT 1000", cursor, job))
			return broken(rd);
		r = reply_get(rd, &reply);
		if (r < 0)
			return r;
		snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
		r = keys_unlink(rd, reply->element[1]);
		freeReplyObject(reply);
	} while (r == 0 && strcmp(cursor, "0") != 0);
	return r;
}

const struct store_ops STORE_REDIS = {
	.open = redis_open,
	.close = redis_close,
	.put = redis_put,
	.writer_open = redis_writer_open,
	.writer_write = redis_writer_write,
	.writer_commit = redis_writer_commit,
	.writer_abandon = redis_writer_abandon,
	.read = redis_read,
	.wait_count = redis_wait_count,
	.list = redis_list,
	.remove = redis_remove,
	.job_begin = redis_job_begin,
	.job_renew = redis_job_renew,
	.job_usage = redis_job_usage,
	.job_end = redis_job_end,
};
