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
 */
#include "store_ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "redis_conn.h"
#include "redis_object.h"

#define PART_DEFAULT ((size_t)16 << 20)
#define PART_MAX     ((size_t)512 << 20) /* the longest string of Redis */

/* Replies of so many reads may be on their way; the server holds them in its memory. */
#define READS_AHEAD 4

/* How long a wait lasts before it looks round. */
#define LOOK_MS 2000

/* A job has ended when no key of it was there so often, and after so many looks in any case. */
#define END_EMPTY 4
#define END_TRIES 100

#define KEY_MAX (STORE_PATH_MAX + 128)

struct redis {
	struct store store;
	struct redis_conn conn;
	char *job;
	size_t part_size;
	struct redis_objects objects;
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

static int part_send(struct redis *rd, const char *path, uint64_t writer, size_t index,
		     const void *data, size_t len)
{
	char key[KEY_MAX];

	part_key(key, rd, path, writer, index);
	return redis_value_send(&rd->conn, key, data, len);
}

static void redis_close(struct store *s)
{
	struct redis *rd = (struct redis *)s;

	redis_objects_fini(&rd->objects);
	free(rd->job);
	redis_conn_close(&rd->conn);
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

static int server_open(struct redis *rd, const struct store_config *config, struct problem *problem)
{
	const char *address = config->url + strlen("redis://");
	const char *query = strchr(address, '?');
	char *copy;
	int r;

	if (part_size_parse(query, &rd->part_size) < 0)
		return problem_set_final(problem, -EINVAL,
					 "%s: behind the ? there is only part=SIZE, up to 512M",
					 config->url);
	copy = strndup(address, query ? (size_t)(query - address) : strlen(address));
	rd->job = config->job ? strdup(config->job) : NULL;
	if (copy && (rd->job || !config->job))
		r = redis_conn_open(&rd->conn, copy, config->timeout_ms, &rd->store.problem);
	else
		r = problem_set(problem, -ENOMEM, "no memory");
	free(copy);
	return r;
}

static int redis_open(const struct store_config *config, struct problem *problem,
		      struct store **ret)
{
	struct redis *rd = calloc(1, sizeof(*rd));
	int r;

	if (!rd)
		return problem_set(problem, -ENOMEM, "no memory");
	rd->store.problem = problem;
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

/* The header, if there is none yet, the name in its directory, and a wake-up; all or nothing. */
static int header_send(struct redis *rd, const struct redis_writer *w)
{
	char directory[STORE_PATH_MAX];
	const char *name = split(w->path, directory);
	size_t len = (w->count + 1) * sizeof(uint64_t);
	uint64_t *header = malloc(len);
	int r;

	if (!header)
		return no_memory(&rd->store);
	header[0] = w->number;
	if (w->count > 0)
		memcpy(header + 1, w->parts, w->count * sizeof(*w->parts));
	r = redis_ask(&rd->conn, "MULTI");
	if (r == 0)
		r = redis_ask(&rd->conn, "SETNX %s/o/%s %b", rd->job, w->path, header, len);
	if (r == 0)
		r = redis_ask(&rd->conn, "SADD %s/d/%s %s", rd->job, directory, name);
	if (r == 0)
		r = redis_ask(&rd->conn, "RPUSH %s/w/%s +", rd->job, directory);
	if (r == 0)
		r = redis_ask(&rd->conn, "EXEC");
	free(header);
	return r < 0 ? r : redis_flush(&rd->conn);
}

/* -EEXIST: there was a header. */
static int header_reply(struct redis *rd)
{
	redisReply *reply;
	int r = redis_replies(&rd->conn, 4);

	if (r == 0)
		r = redis_reply(&rd->conn, &reply);
	if (r < 0)
		return r;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3)
		r = problem_set(rd->store.problem, -EREMOTEIO, "redis: a transaction did not run");
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
		int r;

		part_key(key, rd, path, number, i);
		r = redis_ask(&rd->conn, "UNLINK %s", key);
		if (r < 0)
			return r;
	}
	return redis_replies(&rd->conn, count);
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
		r = redis_replies(&rd->conn, unread);
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

	return r < 0 ? r : redis_replies(&rd->conn, unread);
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

/* The reply to GET of a header; -ENOENT: there is none, which nobody is told. */
static int header_take(struct redis *rd, const char *path)
{
	redisReply *reply;
	int r = redis_reply(&rd->conn, &reply);

	if (r < 0)
		return r;
	if (reply->type == REDIS_REPLY_NIL)
		r = -ENOENT;
	else if (reply->type == REDIS_REPLY_STRING)
		r = redis_objects_add(&rd->objects, path, reply->str, reply->len);
	else
		r = -EBADMSG;
	if (r == -EBADMSG)
		problem_set(rd->store.problem, r, "%s is no object of ours", path);
	if (r == -ENOMEM)
		no_memory(&rd->store);
	freeReplyObject(reply);
	return r;
}

static int header_ask(struct redis *rd, const char *path)
{
	return redis_ask(&rd->conn, "GET %s/o/%s", rd->job, path);
}

/* -ENOENT: nobody is told. */
static int object_get(struct redis *rd, const char *path, const struct redis_object **ret)
{
	int r = 0;

	*ret = redis_objects_find(&rd->objects, path);
	if (*ret)
		return 0;
	r = header_ask(rd, path);
	if (r == 0)
		r = header_take(rd, path);
	if (r == 0)
		*ret = redis_objects_find(&rd->objects, path);
	return r;
}

/* A walk over the parts of all reads: one walks ahead to ask, one behind to receive. */
struct walk {
	const struct store_read *reads;
	size_t count, index, done;
	const struct redis_object *object; /* where it is now */
	struct redis_range range;
	uint8_t *to;
};

/* False: there are no more. The reads have been checked, so their objects are in the table. */
static bool walk_next(struct redis *rd, struct walk *w)
{
	const struct store_read *read;

	while (w->index < w->count && w->done == w->reads[w->index].len) {
		w->index++;
		w->done = 0;
	}
	if (w->index == w->count)
		return false;
	read = &w->reads[w->index];
	w->object = redis_objects_find(&rd->objects, read->path);
	w->range = redis_object_range(w->object, read->offset + w->done, read->len - w->done);
	w->to = (uint8_t *)read->buf + w->done;
	w->done += w->range.len;
	return true;
}

static int range_ask(struct redis *rd, const struct walk *w)
{
	unsigned long long from = w->range.from, to = from + w->range.len - 1;
	char key[KEY_MAX];
	int r;

	part_key(key, rd, w->object->path, w->object->writer, w->range.part);
	if (w->range.len == w->object->parts[w->range.part])
		r = redis_ask(&rd->conn, "GET %s", key);
	else
		r = redis_ask(&rd->conn, "GETRANGE %s %llu %llu", key, from, to);
	return r < 0 ? r : redis_flush(&rd->conn);
}

/* Headers first: after this only the replies that were asked for can come, in their order. */
static int reads_check(struct redis *rd, const struct store_read *reads, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct store_read *read = &reads[i];
		const struct redis_object *o;
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
	struct walk asks = { .reads = reads, .count = count }, takes = asks;
	size_t ahead = 0;
	int r = reads_check(rd, reads, count);

	if (r < 0)
		return r;
	do {
		while (r == 0 && ahead < READS_AHEAD && walk_next(rd, &asks)) {
			r = range_ask(rd, &asks);
			ahead++;
		}
		if (r == 0 && walk_next(rd, &takes)) {
			r = redis_value_recv(&rd->conn, takes.object->path, takes.to,
					     takes.range.len);
			ahead--;
		}
	} while (r == 0 && ahead > 0);
	/* Replies that nobody takes any more would be taken for others. */
	if (r < 0)
		redis_conn_shutdown(&rd->conn);
	return r;
}

static int redis_wait_count(struct store *s, const char *directory, size_t count, uint64_t due_ns)
{
	struct redis *rd = (struct redis *)s;

	for (;;) {
		long long have = 0;
		int left_ms = clock_left_ms(due_ns, LOOK_MS);
		char left_s[32];
		int r = redis_command_int(&rd->conn, &have, "SCARD %s/d/%s", rd->job, directory);

		snprintf(left_s, sizeof(left_s), "%d.%03d", left_ms / 1000, left_ms % 1000);
		if (r == 0 && have >= (long long)count)
			return redis_command_int(&rd->conn, NULL, "RPUSH %s/w/%s +", rd->job,
						 directory);
		if (r == 0 && left_ms == 0)
			return -ETIMEDOUT;
		if (r == 0)
			r = redis_command_int(&rd->conn, NULL, "BLPOP %s/w/%s %s", rd->job,
					      directory, left_s);
		if (r < 0)
			return r;
	}
}

/* The names in a directory, as an array; to be freed. */
static int names_get(struct redis *rd, const char *directory, redisReply **ret)
{
	int r = redis_ask(&rd->conn, "SMEMBERS %s/d/%s", rd->job, directory);

	if (r == 0)
		r = redis_reply(&rd->conn, ret);
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
		r = redis_objects_find(&rd->objects, path) ? 0 : header_ask(rd, path);
	}
	for (size_t i = 0; r == 0 && i < names->elements; i++) {
		const struct redis_object *o;

		path_join(path, directory, names->element[i]);
		if (!redis_objects_find(&rd->objects, path))
			r = header_take(rd, path);
		o = redis_objects_find(&rd->objects, path);
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
	const struct redis_object *o;
	int r = object_get(rd, path, &o);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = parts_remove(rd, path, o->writer, o->count);
	if (r == 0)
		r = redis_command_int(&rd->conn, NULL, "UNLINK %s/o/%s", rd->job, path);
	if (r == 0)
		r = redis_command_int(&rd->conn, NULL, "SREM %s/d/%s %s", rd->job, directory, name);
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
	return r < 0 ? r : redis_command_int(&rd->conn, NULL, "UNLINK %s/w/%s", rd->job, directory);
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
	return redis_command_int(&((struct redis *)s)->conn, NULL, "PING");
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
	int r = 0;

	for (size_t i = 0; i < keys->elements; i++)
		r = r < 0 ? r
			  : redis_ask(&rd->conn, "UNLINK %b", keys->element[i]->str,
				      keys->element[i]->len);
	return r < 0 ? r : redis_replies(&rd->conn, keys->elements);
}

/* Returns how many keys of the job there were. */
static int job_unlink(struct redis *rd, const char *job, size_t *ret_count)
{
	char cursor[32] = "0";
	int r = 0;

	*ret_count = 0;
	do {
		redisReply *reply;

		r = redis_ask(&rd->conn, "SCAN %s MATCH %s/* COUNT 1000", cursor, job);
		if (r == 0)
			r = redis_reply(&rd->conn, &reply);
		if (r < 0)
			return r;
		snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
		*ret_count += reply->element[1]->elements;
		r = keys_unlink(rd, reply->element[1]);
		freeReplyObject(reply);
	} while (r == 0 && strcmp(cursor, "0") != 0);
	return r;
}

/*
 * What a function had sent before it was killed is still to be read by the server, a piece in each
 * of its turns; each of our questions is of a later turn.
 */
static int redis_job_end(struct store *s, const char *job)
{
	unsigned empty_count = 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < END_TRIES && empty_count < END_EMPTY; i++) {
		size_t count;

		r = job_unlink((struct redis *)s, job, &count);
		empty_count = count > 0 ? 0 : empty_count + 1;
	}
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
