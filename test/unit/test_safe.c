/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: nothing of a durable job is told to anybody before it is on the disk, whether he asked
 * or has waited for it. Method: a shard with a log whose disk syncs when it is told to, on a
 * thread of its own, and clients at the other ends of pairs.
 */
#include "test.h"

#include <pthread.h>
#include <stdio.h>

#include "base/container.h"
#include "base/hash.h"
#include "base/log.h"
#include "meta/meta.h"
#include "meta/oplog.h"
#include "shm/archive.h"
#include "shm/memory.h"
#include "world.h"

#define PAIR 65536

static struct net *net;
static struct shard *shard;
static uint64_t safe_job, other_job;

/* A disk that stops in the middle of a sync. */
struct gate {
	struct archive archive;
	struct archive *inner;
	pthread_mutex_t mutex;
	pthread_cond_t opened;
	bool is_closed;
};
static struct gate gate = { .mutex = PTHREAD_MUTEX_INITIALIZER,
			    .opened = PTHREAD_COND_INITIALIZER };

static void gate_set(bool is_closed)
{
	pthread_mutex_lock(&gate.mutex);
	gate.is_closed = is_closed;
	pthread_cond_broadcast(&gate.opened);
	pthread_mutex_unlock(&gate.mutex);
}

static int gate_write(struct archive *a, const char *name, uint64_t offset, const void *bytes,
		      size_t len)
{
	return gate.inner->ops->write(gate.inner, name, offset, bytes, len);
}

static int gate_sync(struct archive *a, const char *name)
{
	pthread_mutex_lock(&gate.mutex);
	while (gate.is_closed)
		pthread_cond_wait(&gate.opened, &gate.mutex);
	pthread_mutex_unlock(&gate.mutex);
	return gate.inner->ops->sync(gate.inner, name);
}

static int64_t gate_read(struct archive *a, const char *name, uint64_t offset, void *buf,
			 size_t cap)
{
	return gate.inner->ops->read(gate.inner, name, offset, buf, cap);
}

static int gate_cut(struct archive *a, const char *name, uint64_t len)
{
	return gate.inner->ops->cut(gate.inner, name, len);
}

static int gate_remove(struct archive *a, const char *name)
{
	return gate.inner->ops->remove(gate.inner, name);
}

static int gate_next(struct archive *a, const char *after, char ret[ARCHIVE_NAME_MAX])
{
	return gate.inner->ops->next(gate.inner, after, ret);
}

static const char *gate_where(const struct archive *a)
{
	return "the gate";
}

static const struct archive_ops GATE_OPS = { gate_write,  gate_sync, gate_read,  gate_cut,
					     gate_remove, gate_next, gate_where, NULL };

struct client {
	struct conn *conn;
	struct call call;
	uint64_t session, epoch;
	unsigned overs;
	uint8_t room[LIST_BYTES];
	char detail[200];
};
static struct client a, b, c, *const all[] = { &a, &b, &c };

static const char KEY[] = "0123456789abcdef0123456789abcdef";

static void client_closed(struct conn *conn)
{
	((struct client *)conn->owner)->conn = NULL;
}

static void job_over_serve(struct request *r)
{
	struct wcur w = request_answer(r);

	((struct client *)r->conn->owner)->overs++;
	request_reply(r, &w, NULL);
}

static const struct service PEER = {
	.server = SERVER_PROXY,
	.handlers = { [MESSAGE_JOB_OVER] = { .serve = job_over_serve } },
	.closed = client_closed,
};

#define SEND(k, NAME, name, slot, payload, ...)                                         \
	do {                                                                            \
		struct wcur w_;                                                         \
		call_end(&(k)->call);                                                   \
		(k)->call = (struct call){ .room = (k)->room, .room_cap = LIST_BYTES }; \
		w_ = call_body(net, &(k)->call);                                        \
		name##_req_put(&w_, &(struct name##_req){ __VA_ARGS__ });               \
		call_send((k)->conn, &(k)->call, MSG_##NAME, slot, &w_, payload,        \
			  loop->now_ns + 60 * SECOND);                                  \
	} while (0)

static int answer(struct client *k)
{
	WAIT_FOR(!k->call.is_pending);
	call_detail(&k->call, k->detail, sizeof(k->detail));
	return k->call.result;
}

#define GET(k, name)                                             \
	({                                                       \
		struct rcur c_ = call_reply(&(k)->call);         \
		struct name##_rep rep_;                          \
		assert_int_equal(name##_rep_get(&c_, &rep_), 0); \
		rep_;                                            \
	})

static void connect_silently(struct client *k)
{
	struct stream *ends[2];

	assert_int_equal(stream_pair(loop, PAIR, ends), 0);
	k->conn = conn_open(net, ends[0], &PEER, k);
	k->conn->access = node_alloc(sizeof(struct access));
	k->conn->access->role = ROLE_META;
	shard_accept(shard, ends[1]);
	k->call = (struct call){ .net = net };
}

static void connect_to(struct client *k)
{
	connect_silently(k);
	SEND(k, HELLO, hello, 0, NULL, .version = PROTOCOL_VERSION, .role = ROLE_PROXY);
	assert_int_equal(answer(k), 0);
	k->session = GET(k, hello).session;
	k->epoch = GET(k, hello).epoch;
}

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static uint64_t job_create(const char *name, bool is_durable)
{
	SEND(&a, JOB_CREATE, job_create, slot_of_name(text(name)), NULL, .lease_ms = 60000,
	     .is_durable = is_durable, .name = text(name));
	assert_int_equal(answer(&a), 0);
	return GET(&a, job_create).job;
}

static int setup(void **state)
{
	struct shard_config config = { .count = 1,
				       .media = &media_heap,
				       .archive = &gate.archive,
				       .token_key = { (const uint8_t *)KEY, sizeof(KEY) - 1 },
				       .log_bytes = LOG_BYTES_MIN,
				       .snapshot_bytes = 1u << 20 };

	log_set_level(LOG_ERROR);
	gate_set(false);
	gate.archive.ops = &GATE_OPS;
	world_open(false);
	assert_int_equal(archive_new(&gate.inner), 0);
	assert_int_equal(net_open(loop, &net), 0);
	assert_int_equal(shard_open(&config, loop, net, &shard), 0);
	for (unsigned i = 0; i < 3; i++) {
		memset(all[i], 0, sizeof(*all[i]));
		connect_to(all[i]);
	}
	safe_job = job_create("safe", true);
	other_job = job_create("other", false);
	return 0;
}

static int teardown(void **state)
{
	gate_set(false);
	for (unsigned i = 0; i < 3; i++) {
		call_cancel(&all[i]->call);
		call_end(&all[i]->call);
		if (all[i]->conn)
			conn_close(all[i]->conn);
	}
	shard_close(shard);
	turn_for(10 * MS);
	net_close(net);
	world_close();
	archive_close(gate.inner);
	return 0;
}

static void put(struct client *k, uint64_t job, const char *path, uint32_t reads)
{
	struct payload p = { .ptr = "value", .len = 5 };

	SEND(k, COMMIT, commit, slot_of_id(job), &p, .job = job, .session = k->session,
	     .epoch = k->epoch, .len = p.len, .seed = 1, .crc = crc_more(crc_begin(1), "value", 5),
	     .reads = reads, .path = text(path));
}

static void wait_for(struct client *k, uint64_t job, const char *path)
{
	SEND(k, WAIT, wait, slot_of_id(job), NULL, .job = job, .path = text(path));
}

static void who_waits_hears_of_it_when_it_is_on_the_disk(void **state)
{
	wait_for(&b, safe_job, "d/a");
	SEND(&c, WAIT_COUNT, wait_count, slot_of_id(safe_job), NULL, .job = safe_job, .count = 1,
	     .directory = text("d"));
	turn_for(20 * MS);
	gate_set(true);
	put(&a, safe_job, "d/a", 0);
	turn_for(50 * MS);
	assert_true(a.call.is_pending && b.call.is_pending && c.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_int_equal(answer(&b), 0);
	assert_int_equal(GET(&b, wait).version, 1);
	assert_int_equal(answer(&c), 0);
	assert_int_equal(GET(&c, wait_count).count, 1);
	/* Who asks for what is on the disk waits for nothing, whatever else is on its way there. */
	gate_set(true);
	put(&a, safe_job, "d/b", 0);
	turn_for(20 * MS);
	wait_for(&b, safe_job, "d/a");
	assert_int_equal(answer(&b), 0);
	wait_for(&b, safe_job, "d/b");
	turn_for(50 * MS);
	assert_true(a.call.is_pending && b.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&b), 0);
	assert_int_equal(GET(&b, wait).version, 2);
}

static void stat(struct client *k, const char *path)
{
	SEND(k, STAT, stat, slot_of_id(safe_job), NULL, .job = safe_job, .path = text(path));
}

/* An object is as old under its new name as it was under the old one. */
static void a_new_name_is_told_when_it_is_on_the_disk(void **state)
{
	put(&a, safe_job, "old", 0);
	assert_int_equal(answer(&a), 0);
	turn_for(20 * MS);
	gate_set(true);
	SEND(&a, RENAME, rename, slot_of_id(safe_job), NULL, .job = safe_job, .from = text("old"),
	     .to = text("new"));
	turn_for(20 * MS);
	stat(&b, "new");
	SEND(&c, LOOKUP, lookup, slot_of_id(safe_job), NULL, .job = safe_job, .session = c.session,
	     .epoch = c.epoch, .request = 1, .take = 10, .path = text("new"));
	turn_for(50 * MS);
	assert_true(a.call.is_pending && b.call.is_pending && c.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_int_equal(answer(&b), 0);
	assert_int_equal(answer(&c), 0);
	assert_int_equal(GET(&b, stat).version, 2);
	assert_memory_equal(c.room, "value", 5);
	/* What was renamed and is on the disk waits for nothing that came later. */
	gate_set(true);
	put(&a, safe_job, "other", 0);
	turn_for(20 * MS);
	stat(&b, "new");
	assert_int_equal(answer(&b), 0);
	assert_true(a.call.is_pending);
}

static void who_waits_in_another_job_does_not_wait_for_the_disk(void **state)
{
	wait_for(&b, other_job, "a");
	turn_for(20 * MS);
	gate_set(true);
	put(&c, safe_job, "a", 0);
	put(&a, other_job, "a", 0);
	assert_int_equal(answer(&a), 0);
	assert_int_equal(answer(&b), 0);
	assert_true(c.call.is_pending);
}

/* Else it would live again, or end too early, when the power comes back. */
static void a_job_is_renewed_and_ended_when_that_is_on_the_disk(void **state)
{
	const uint16_t slot = slot_of_name(text("safe"));

	gate_set(true);
	SEND(&a, JOB_RENEW, job_renew, slot, NULL, .lease_ms = 90000, .name = text("safe"));
	turn_for(50 * MS);
	assert_true(a.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_int_equal(GET(&a, job_renew).lease_left_ms, 90000);
	turn_for(20 * MS);
	gate_set(true);
	SEND(&a, JOB_END, job_end, slot, NULL, .name = text("safe"));
	turn_for(2 * SERVE_MS * MS);
	assert_true(a.call.is_pending);
	/* Nobody does what it means before. */
	assert_true(a.overs + b.overs + c.overs == 0);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_true(a.overs == 1 && b.overs == 1 && c.overs == 1);
}

/* It has no other promise of the disk, but what was ended does not come back. */
static void a_job_that_is_not_durable_is_ended_when_that_is_on_the_disk(void **state)
{
	turn_for(20 * MS);
	gate_set(true);
	SEND(&a, JOB_END, job_end, slot_of_name(text("other")), NULL, .name = text("other"));
	turn_for(2 * SERVE_MS * MS);
	assert_true(a.call.is_pending);
	assert_true(a.overs + b.overs + c.overs == 0);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_true(a.overs == 1 && b.overs == 1 && c.overs == 1);
}

/* The disk takes nothing: nobody hears of it, but who asked. */
static void a_job_ends_in_vain_for_a_disk_that_fails(void **state)
{
	const uint16_t slot = slot_of_name(text("safe"));

	turn_for(20 * MS);
	archive_fail(gate.inner, -EIO, UINT32_MAX);
	SEND(&a, JOB_END, job_end, slot, NULL, .name = text("safe"));
	assert_int_equal(answer(&a), -ENOBUFS);
	assert_int_equal(b.overs, 0);
	/* The bytes of one that is not durable are wanted back, whatever the disk does. */
	SEND(&c, JOB_END, job_end, slot_of_name(text("other")), NULL, .name = text("other"));
	assert_int_equal(answer(&c), 0);
	assert_int_equal(b.overs, 1);
	archive_fail(gate.inner, 0, 0);
	SEND(&a, JOB_END, job_end, slot, NULL, .name = text("safe"));
	assert_int_equal(answer(&a), 0);
	assert_int_equal(b.overs, 2);
}

/* A read that is given back goes to the next in line, and is granted when that is on the disk. */
static void a_read_that_was_waited_for_is_granted_when_it_is_on_the_disk(void **state)
{
	uint64_t hold;

	put(&a, safe_job, "r", 1);
	assert_int_equal(answer(&a), 0);
	SEND(&a, LOOKUP, lookup, slot_of_id(safe_job), NULL, .job = safe_job, .session = a.session,
	     .epoch = a.epoch, .request = 1, .take = 10, .path = text("r"));
	assert_int_equal(answer(&a), 0);
	hold = GET(&a, lookup).hold;
	SEND(&b, LOOKUP, lookup, slot_of_id(safe_job), NULL, .job = safe_job, .session = b.session,
	     .epoch = b.epoch, .request = 1, .take = 10, .path = text("r"));
	turn_for(20 * MS);
	gate_set(true);
	SEND(&a, RELEASE, release, slot_of_id(safe_job), NULL, .job = safe_job,
	     .session = a.session, .epoch = a.epoch, .hold = hold, .nth_try = 1);
	turn_for(50 * MS);
	assert_true(b.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&b), 0);
	assert_int_equal(b.call.room_len, 5);
	assert_memory_equal(b.room, "value", 5);
	assert_true(GET(&b, lookup).hold > hold);
}

static void look_up(struct client *k, const char *path, uint64_t request, uint64_t read)
{
	SEND(k, LOOKUP, lookup, slot_of_id(safe_job), NULL, .job = safe_job, .session = k->session,
	     .epoch = k->epoch, .request = request, .read_lo = read, .take = 10,
	     .path = text(path));
}

static void confirm(struct client *k, uint64_t hold)
{
	SEND(k, RELEASE, release, slot_of_id(safe_job), NULL, .job = safe_job, .session = a.session,
	     .epoch = a.epoch, .hold = hold, .nth_try = 1, .is_confirmed = 1);
}

/* Whoever repeats what was not answered learns from the refusal that it has worked. */
static void that_a_read_was_counted_is_told_when_it_is_on_the_disk(void **state)
{
	uint64_t hold;

	put(&a, safe_job, "r", 1);
	assert_int_equal(answer(&a), 0);
	look_up(&a, "r", 1, 7);
	assert_int_equal(answer(&a), 0);
	hold = GET(&a, lookup).hold;
	turn_for(20 * MS);
	gate_set(true);
	confirm(&a, hold);
	turn_for(20 * MS);
	confirm(&b, hold);
	look_up(&c, "r", 1, 7);
	turn_for(50 * MS);
	assert_true(a.call.is_pending && b.call.is_pending && c.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_int_equal(answer(&b), -ESTALE);
	assert_string_equal(b.detail, "the read was given back, or used up before");
	assert_int_equal(answer(&c), -EALREADY);
}

/* So does who is given the bytes again, since his read was counted; and how many are left is told.
 */
static void a_read_that_was_counted_is_repeated_when_that_is_on_the_disk(void **state)
{
	put(&a, safe_job, "r", 2);
	assert_int_equal(answer(&a), 0);
	look_up(&a, "r", 1, 7);
	assert_int_equal(answer(&a), 0);
	turn_for(20 * MS);
	gate_set(true);
	confirm(&a, GET(&a, lookup).hold);
	turn_for(20 * MS);
	look_up(&b, "r", 1, 7);
	stat(&c, "r");
	turn_for(50 * MS);
	assert_true(a.call.is_pending && b.call.is_pending && c.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_int_equal(answer(&b), 0);
	assert_int_equal(GET(&b, lookup).hold, 0);
	assert_memory_equal(b.room, "value", 5);
	assert_int_equal(answer(&c), 0);
	assert_int_equal(GET(&c, stat).reads_left, 1);
}

static void who_waited_for_a_read_in_vain_is_told_when_it_is_on_the_disk(void **state)
{
	put(&a, safe_job, "r", 1);
	assert_int_equal(answer(&a), 0);
	look_up(&a, "r", 1, 7);
	assert_int_equal(answer(&a), 0);
	look_up(&b, "r", 1, 8);
	turn_for(20 * MS);
	gate_set(true);
	confirm(&a, GET(&a, lookup).hold);
	turn_for(50 * MS);
	assert_true(a.call.is_pending && b.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_int_equal(answer(&b), -ENODATA);
}

/* By a: b asks for what is gone, and that is not on the disk. */
static void remove_unsafe_and_look(void)
{
	put(&a, safe_job, "a", 0);
	assert_int_equal(answer(&a), 0);
	turn_for(20 * MS);
	gate_set(true);
	SEND(&a, REMOVE, remove, slot_of_id(safe_job), NULL, .job = safe_job, .path = text("a"));
	turn_for(20 * MS);
	stat(&b, "a");
}

static void what_is_there_or_is_not_is_told_when_that_is_on_the_disk(void **state)
{
	struct payload p = { .ptr = "", .len = 0 };

	remove_unsafe_and_look();
	turn_for(50 * MS);
	assert_true(a.call.is_pending && b.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_int_equal(answer(&b), -ENOENT);
	/* Nothing has changed since. */
	gate_set(true);
	stat(&b, "a");
	assert_int_equal(answer(&b), -ENOENT);
	put(&a, safe_job, "b", 0);
	turn_for(20 * MS);
	SEND(&b, COMMIT, commit, slot_of_id(safe_job), &p, .job = safe_job, .session = b.session,
	     .epoch = b.epoch, .flags = PUT_CREATE, .path = text("b"));
	turn_for(50 * MS);
	assert_true(a.call.is_pending && b.call.is_pending);
	/* What is wrong with a request is told at once. */
	SEND(&c, COMMIT, commit, slot_of_id(safe_job), &p, .job = safe_job, .session = c.session,
	     .epoch = c.epoch, .flags = PUT_DURABLE, .path = text("b"));
	assert_int_equal(answer(&c), -EOPNOTSUPP);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_int_equal(answer(&b), -EEXIST);
}

static void that_a_job_is_there_or_has_ended_is_told_when_that_is_on_the_disk(void **state)
{
	const uint16_t slot = slot_of_name(text("more"));
	struct client late = { 0 };
	char token[TOKEN_BYTES_MAX + 1] = "";

	gate_set(true);
	for (unsigned i = 0; i < 2; i++)
		SEND(all[i], JOB_CREATE, job_create, slot, NULL, .lease_ms = 60000, .is_durable = 1,
		     .name = text("more"));
	turn_for(50 * MS);
	assert_true(a.call.is_pending && b.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	assert_int_equal(answer(&b), -EEXIST);
	safe_job = GET(&a, job_create).job;
	memcpy(token, GET(&a, job_create).token.ptr, GET(&a, job_create).token.len);
	turn_for(20 * MS);
	gate_set(true);
	SEND(&a, JOB_END, job_end, slot, NULL, .name = text("more"));
	turn_for(20 * MS);
	stat(&b, "a");
	SEND(&c, JOB_SHOW, job_show, slot, NULL, .name = text("more"));
	connect_silently(&late);
	SEND(&late, HELLO, hello, 0, NULL, .version = PROTOCOL_VERSION, .role = ROLE_JOB,
	     .secret = text(token));
	turn_for(50 * MS);
	assert_true(a.call.is_pending && b.call.is_pending && c.call.is_pending);
	assert_true(late.call.is_pending);
	gate_set(false);
	assert_int_equal(answer(&b), -EIDRM);
	assert_int_equal(answer(&c), 0);
	assert_int_equal(GET(&c, job_show).has_ended, 1);
	assert_int_equal(answer(&late), -EIDRM);
	assert_int_equal(answer(&a), 0);
	call_end(&late.call);
	conn_close(late.conn);
}

/* Who hears that it is not known is not misled. */
static void what_a_disk_that_fails_does_not_take_is_not_told(void **state)
{
	remove_unsafe_and_look();
	SEND(&c, JOB_SHOW, job_show, slot_of_name(text("safe")), NULL, .name = text("safe"));
	assert_int_equal(answer(&c), 0);
	archive_fail(gate.inner, -EIO, UINT32_MAX);
	gate_set(false);
	assert_int_equal(answer(&b), -ENOBUFS);
	assert_string_equal(b.detail,
			    "known, and not safe: the disk of the log at the gate takes nothing");
	assert_int_equal(answer(&a), -ENOBUFS);
	archive_fail(gate.inner, 0, 0);
}

static void who_leaves_before_it_is_on_the_disk_is_forgotten(void **state)
{
	wait_for(&b, safe_job, "a");
	turn_for(20 * MS);
	gate_set(true);
	put(&a, safe_job, "a", 0);
	turn_for(20 * MS);
	conn_close(b.conn);
	WAIT_FOR(!b.conn);
	turn_for(20 * MS);
	gate_set(false);
	assert_int_equal(answer(&a), 0);
	wait_for(&c, safe_job, "a");
	assert_int_equal(answer(&c), 0);
}

static void who_waits_for_a_disk_that_fails_is_told(void **state)
{
	wait_for(&b, safe_job, "a");
	turn_for(20 * MS);
	gate_set(true);
	put(&a, safe_job, "a", 0);
	turn_for(20 * MS);
	archive_fail(gate.inner, -EIO, UINT32_MAX);
	gate_set(false);
	assert_int_equal(answer(&b), -ENOBUFS);
	assert_string_equal(b.detail,
			    "perhaps done, and not safe: the disk of the log at the gate takes "
			    "nothing");
	assert_int_equal(answer(&a), -ENOBUFS);
	archive_fail(gate.inner, 0, 0);
}

/* Perhaps it was done; whoever asks again hears that it is. */
static void who_cannot_be_made_to_wait_for_the_disk_is_told_so(void **state)
{
	static struct node failing;
	unsigned n = 0, refused = 0;
	bool is_met;
	char path[16];

	do {
		int r;

		for (unsigned i = 0; i < 3; i++)
			if (!all[i]->conn)
				connect_to(all[i]);
		snprintf(path, sizeof(path), "p/%u", n);
		wait_for(&b, safe_job, path);
		turn_for(2 * MS);
		gate_set(true);
		loop->node = &failing;
		failing.fail_countdown = ++n;
		put(&a, safe_job, path, 0);
		turn_for(2 * MS); /* until it waits for the disk */
		gate_set(false);
		r = answer(&a);
		turn_for(2 * MS);
		is_met = failing.fail_countdown == 0;
		failing.fail_countdown = 0;
		loop->node = NULL;
		assert_true(r == 0 || (is_met && (r == -ENOMEM || r == -ECONNRESET)));
		refused += r == -ENOMEM;
		if (!a.conn)
			connect_to(&a);
		if (r < 0) {
			put(&a, safe_job, path, 0);
			assert_int_equal(answer(&a), 0);
		}
		r = answer(&b);
		assert_true(r == 0 || (is_met && (r == -ENOMEM || r == -ECONNRESET)));
		refused += r == -ENOMEM;
		stat(&c, path);
		assert_int_equal(answer(&c), 0);
	} while (is_met);
	assert_true(refused > 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(who_waits_hears_of_it_when_it_is_on_the_disk),
		T(a_new_name_is_told_when_it_is_on_the_disk),
		T(who_waits_in_another_job_does_not_wait_for_the_disk),
		T(a_job_is_renewed_and_ended_when_that_is_on_the_disk),
		T(a_job_that_is_not_durable_is_ended_when_that_is_on_the_disk),
		T(a_job_ends_in_vain_for_a_disk_that_fails),
		T(a_read_that_was_waited_for_is_granted_when_it_is_on_the_disk),
		T(that_a_read_was_counted_is_told_when_it_is_on_the_disk),
		T(a_read_that_was_counted_is_repeated_when_that_is_on_the_disk),
		T(who_waited_for_a_read_in_vain_is_told_when_it_is_on_the_disk),
		T(what_is_there_or_is_not_is_told_when_that_is_on_the_disk),
		T(that_a_job_is_there_or_has_ended_is_told_when_that_is_on_the_disk),
		T(what_a_disk_that_fails_does_not_take_is_not_told),
		T(who_leaves_before_it_is_on_the_disk_is_forgotten),
		T(who_waits_for_a_disk_that_fails_is_told),
		T(who_cannot_be_made_to_wait_for_the_disk_is_told_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
