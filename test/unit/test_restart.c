/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard that goes on where its predecessor stopped: after a kill, from what a keeper
 * has; after the power was cut, from what an archive has. The predecessor is a node of
 * the simulator with all its memory; its catalogs are asked directly, in several slots, at
 * random. What they said before must be the same afterwards, to the last line of a dump.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "meta/shard_priv.h"
#include "net/conn.h"
#include "shm/keep_heap.h"
#include "world.h"

#define SERVER 1
#define KEEPER 2
#define DISK   3
#define JOBS   4
#define STORE  77

static struct sim_node *server, *keeper, *disk;
static struct keep_heap *keeps;
static struct archive *archive;
static struct net *net;
static struct shard *shard;
static uint64_t dice, jobs[JOBS], grant_number, request_number;
static struct grant open_grant[JOBS];
static uint32_t grant_used[JOBS];
static struct outcome out;
static uint64_t snapshot_bytes = 64 << 10, log_bytes = LOG_BYTES_MIN;
static bool has_keeper, has_archive;
static bool are_durable; /* jobs from now on */
static uint64_t fail_at; /* the allocation of a start that fails; 0: none does */
static bool has_failed;

static uint64_t roll(uint64_t below)
{
	uint64_t z = (dice += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z ^ (z >> 31)) % below;
}

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static int try_start_of(uint16_t count)
{
	struct shard_config config = { .count = count,
				       .media = &media_heap,
				       .keep = has_keeper ? keep_heap_keep(keeps) : NULL,
				       .archive = has_archive ? archive : NULL,
				       .log_bytes = log_bytes,
				       .snapshot_bytes = snapshot_bytes };
	int r;

	node_current = sim_node_of(server);
	if (sim_loop_open(server, &loop) < 0 || net_open(loop, &net) < 0)
		abort();
	node_current->fail_countdown = fail_at;
	r = shard_open(&config, loop, net, &shard);
	has_failed = fail_at > 0 && node_current->fail_countdown == 0;
	node_current->fail_countdown = 0;
	if (r < 0)
		shard = NULL;
	return r;
}

static void start(void)
{
	assert_int_equal(try_start_of(1), 0);
}

static void kill_9(void)
{
	node_current = NULL;
	sim_node_kill(server);
	keep_heap_owner_gone(keeps);
	shard = NULL;
	net = NULL;
}

/* Server and keeper. */
static void kill_both(void)
{
	kill_9();
	keep_heap_close(keeps);
	assert_int_equal(keep_heap_open(sim_node_of(keeper), &keeps), 0);
}

static void begin(bool with_keeper, bool with_archive)
{
	struct sim_config config = { .seed = 1, .delay_ns_min = MS / 20, .delay_ns_max = MS / 2 };

	dice = 42;
	are_durable = false;
	has_keeper = with_keeper;
	has_archive = with_archive;
	snapshot_bytes = 64 << 10;
	log_bytes = LOG_BYTES_MIN;
	grant_number = request_number = 0;
	memset(jobs, 0, sizeof(jobs));
	memset(open_grant, 0, sizeof(open_grant));
	assert_int_equal(sim_open(&config, &sim), 0);
	assert_int_equal(sim_node_add(sim, SERVER, &server), 0);
	assert_int_equal(sim_node_add(sim, KEEPER, &keeper), 0);
	assert_int_equal(sim_node_add(sim, DISK, &disk), 0);
	assert_int_equal(keep_heap_open(sim_node_of(keeper), &keeps), 0);
	node_current = sim_node_of(disk);
	assert_int_equal(archive_new(&archive), 0);
}

/* With what is still running: its memory goes with the simulator. */
static void end(void)
{
	kill_9();
	keep_heap_close(keeps);
	archive_close(archive);
	assert_int_equal(sim_node_bytes(keeper), 0);
	assert_int_equal(sim_node_bytes(disk), 0);
	sim_close(sim);
}

static struct slot *slot_of(int job)
{
	struct slot *slot;

	if (shard_slot(shard, slot_of_id(jobs[job]), &slot) < 0)
		abort();
	return slot;
}

static const char *name_of(int job, char *buf)
{
	snprintf(buf, 16, "job%d", job);
	return buf;
}

static void create(int job)
{
	char name[16];
	struct job_create_req req = { .lease_ms = 3600 * 1000,
				      .is_durable = are_durable,
				      .name = text(name_of(job, name)) };
	struct slot *slot;

	if (shard_slot(shard, slot_of_name(req.name), &slot) < 0)
		abort();
	if (catalog_job_create(slot->catalog, &req, shard_now(shard), &out) == 0)
		jobs[job] = out.rep.job_create.job;
	shard_after(slot, &out);
}

static int put_value(int job, const char *path, const char *value, uint64_t attempt)
{
	struct commit_req req = { .job = jobs[job],
				  .attempt_lo = attempt,
				  .path = text(path),
				  .len = strlen(value),
				  .seed = 5 };
	struct slot *slot = slot_of(job);
	int r;

	req.crc = crc_more(crc_begin(5), value, strlen(value));
	r = catalog_commit(slot->catalog, &req, text(value), shard_now(shard), &out);
	shard_after(slot, &out);
	return r;
}

static void get_grant(int job)
{
	struct lease_req req = { .job = jobs[job],
				 .session = 9,
				 .request = ++request_number,
				 .need = 1,
				 .size = SEGMENT_BYTES_MIN };
	struct slot *slot = slot_of(job);
	uint8_t payload[GRANTS_BYTES], grant[GRANT_SIZE];
	struct wcur w = wcur_make(payload, sizeof(payload));
	uint64_t now_ns = shard_now(shard);

	if (catalog_lease(slot->catalog, &req, SEGMENT_BYTES_MAX, now_ns, &w, &out) < 0 ||
	    !out.ask.is_needed)
		return;
	catalog_ask_over(slot->catalog, req.job, out.ask.bytes);
	open_grant[job] =
		(struct grant){ .segment = (uint64_t)STORE << SEGMENT_POOL_SHIFT | ++grant_number,
				.generation = 1,
				.size = SEGMENT_BYTES_MIN,
				.key = 3,
				.store = STORE };
	grant_used[job] = 0;
	w = wcur_make(grant, sizeof(grant));
	grant_put(&w, &open_grant[job]);
	(void)catalog_grant(slot->catalog, &req, now_ns, (struct slice){ grant, sizeof(grant) },
			    now_ns, &out);
	shard_after(slot, &out);
}

static int put_extent(int job, const char *path)
{
	struct slot *slot = slot_of(job);
	struct commit_req req = { .job = jobs[job],
				  .session = 9,
				  .path = text(path),
				  .extent_count = 1,
				  .len = 1 + roll(5000) };
	uint8_t bytes[EXTENT_SIZE];
	struct wcur w = wcur_make(bytes, sizeof(bytes));
	int r;

	if (open_grant[job].size == 0 || grant_used[job] + req.len > SEGMENT_BYTES_MIN)
		get_grant(job);
	if (open_grant[job].size == 0)
		return -ENOSPC;
	extent_put(&w, &(struct extent){ .segment = open_grant[job].segment,
					 .generation = 1,
					 .offset = grant_used[job],
					 .len = (uint32_t)req.len,
					 .seed = 1 });
	grant_used[job] += ((uint32_t)req.len + 63) & ~63u;
	r = catalog_commit(slot->catalog, &req, (struct slice){ bytes, sizeof(bytes) },
			   shard_now(shard), &out);
	shard_after(slot, &out);
	return r;
}

static void hold(int job, const char *path)
{
	struct slot *slot = slot_of(job);
	struct lookup_req req = {
		.job = jobs[job], .session = 9, .path = text(path), .is_held = 1
	};
	static uint8_t payload[LIST_BYTES];
	struct wcur w = wcur_make(payload, sizeof(payload));

	(void)catalog_lookup(slot->catalog, &req, shard_now(shard), &w, &out);
	shard_after(slot, &out);
}

static void remove_it(int job, const char *path)
{
	struct slot *slot = slot_of(job);
	struct remove_req req = { .job = jobs[job], .attempt_lo = roll(50), .path = text(path) };

	(void)catalog_remove(slot->catalog, &req, shard_now(shard), &out);
	shard_after(slot, &out);
}

static void end_job(int job)
{
	char name[16];
	struct slot *slot = slot_of(job);
	struct job_end_req req = { .name = text(name_of(job, name)) };
	uint64_t id;

	(void)catalog_job_end(slot->catalog, &req, shard_now(shard), &out, &id);
	shard_after(slot, &out);
	open_grant[job].size = 0;
}

static void work(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int job = (int)roll(JOBS);
		char path[40], value[200];

		if (!jobs[job] || roll(400) == 0) {
			if (jobs[job])
				end_job(job);
			create(job);
		}
		snprintf(path, sizeof(path), "d%u/file-%u", (unsigned)roll(4), (unsigned)roll(40));
		memset(value, 'a' + (int)roll(26), sizeof(value));
		value[1 + roll(sizeof(value) - 1)] = '\0';
		value[sizeof(value) - 1] = '\0';
		switch (roll(8)) {
		case 0:
			remove_it(job, path);
			break;
		case 1:
			hold(job, path);
			break;
		case 2:
		case 3:
			(void)put_extent(job, path);
			break;
		default:
			(void)put_value(job, path, value, roll(50));
		}
		if (roll(5) == 0)
			(void)loop_turn(loop, loop->now_ns + roll(MS));
	}
}

/* All slots, in memory that is nobody's node's; with the bytes of values. */
static char *dump(void)
{
	char *all = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&all, &len);

	for (int i = 0; i < SLOT_COUNT; i++) {
		char *one = shard->slots[i] ? catalog_dump(shard->slots[i]->catalog) : NULL;

		/* A slot that nothing was ever done in is no difference. */
		if (one && catalog_last_ns(shard->slots[i]->catalog) > 0)
			fputs(one, f);
		node_free(one);
	}
	fclose(f);
	return all;
}

static int look(int job, const char *path, char **ret)
{
	struct lookup_req req = { .job = jobs[job], .path = text(path), .take = 4096 };
	static uint8_t payload[EXTENTS_BYTES];
	struct wcur w = wcur_make(payload, sizeof(payload));
	int r = catalog_lookup(slot_of(job)->catalog, &req, shard_now(shard), &w, &out);

	payload[w.p - payload] = '\0';
	*ret = (char *)payload;
	return r;
}

static char *get(int job, const char *path)
{
	char *value;

	return look(job, path, &value) < 0 ? NULL : value;
}

static int look_error(int job, const char *path)
{
	char *value;

	return look(job, path, &value);
}

/* The number of a word, where another word is behind that. */
static void hide(char *dump, const char *word, const char *behind)
{
	while ((dump = strstr(dump, word)) != NULL) {
		char *end = strchr(++dump, ' ');

		if (strncmp(end, behind, strlen(behind)) == 0)
			memmove(dump, end, strlen(end) + 1);
	}
}

/* What comes next, ids and versions of jobs: where memory was lost they go on far ahead. */
static void hide_next(char *dump)
{
	hide(dump, " next=", " jobs=");
	hide(dump, " version=", " block=");
}

static void must_be_same(char *before)
{
	char *after = dump();

	if (shard->was_blank) {
		hide_next(before);
		hide_next(after);
	}
	if (strcmp(before, after) != 0) {
		size_t line = 0;

		for (size_t i = 0; before[i] && before[i] == after[i]; i++)
			if (before[i] == '\n')
				line = i + 1;
		printf("before: %.*s\nafter:  %.*s\n", (int)strcspn(before + line, "\n"),
		       before + line, (int)strcspn(after + line, "\n"), after + line);
	}
	assert_string_equal(before, after);
	free(before);
	free(after);
	for (int i = 0; i < SLOT_COUNT; i++)
		if (shard->slots[i])
			assert_null(catalog_check(shard->slots[i]->catalog));
}

/* Nothing but what was synced is left. */
static void cut_power_and_compare(char *before)
{
	kill_both();
	archive_lose(archive, 0);
	start();
	must_be_same(before);
}

static void file_all(void)
{
	oplog_sync(&shard->log, shard->log.lsn);
	WAIT_FOR(shard->log.synced_lsn == shard->log.lsn);
}

static void kill_and_compare(int rounds)
{
	uint64_t snapshots = 0;

	for (int i = 0; i < rounds; i++) {
		char *before;

		work((unsigned)roll(2000));
		before = dump();
		snapshots += shard->snapshots.taken_count;
		kill_9();
		start();
		must_be_same(before);
	}
	assert_true(snapshots > 10);
}

static void everything_is_there_after_kills(void **state)
{
	begin(true, false);
	start();
	kill_and_compare(40);
	end();
}

static void so_it_is_with_an_archive(void **state)
{
	begin(true, true);
	start();
	kill_and_compare(40);
	end();
}

static void values_are_as_they_were(void **state)
{
	begin(true, false);
	start();
	create(0);
	assert_int_equal(put_value(0, "a", "one", 1), 0);
	assert_int_equal(put_value(0, "b", "two", 2), 0);
	assert_int_equal(put_value(0, "a", "three", 3), 0);
	kill_9();
	start();
	assert_string_equal(get(0, "a"), "three");
	assert_string_equal(get(0, "b"), "two");
	/* A repeat is answered the same. */
	assert_int_equal(put_value(0, "b", "two", 2), 0);
	assert_int_equal(out.rep.commit.version, 2);
	end();
}

static int one_session(void *owner, uint64_t session)
{
	*(uint64_t *)owner = session;
	return 0;
}

static unsigned sessions_left(void)
{
	unsigned n = 0;

	for (int i = 0; i < SLOT_COUNT; i++) {
		uint64_t session = 0;

		if (shard->slots[i])
			(void)catalog_sessions(shard->slots[i]->catalog, one_session, &session);
		n += session != 0;
	}
	return n;
}

/* As whoever goes on from files alone does. */
static void end_sessions(void)
{
	for (int i = 0; i < SLOT_COUNT; i++) {
		uint64_t session = 0;

		while (shard->slots[i] &&
		       catalog_sessions(shard->slots[i]->catalog, one_session, &session) == 0 &&
		       session) {
			assert_int_equal(catalog_session_over(shard->slots[i]->catalog, session,
							      shard_now(shard), &out),
					 0);
			session = 0;
		}
	}
	for (int j = 0; j < JOBS; j++)
		open_grant[j].size = 0;
}

/*
 * What was synced is there when the power was cut; what came later, perhaps. But for sessions: what
 * they have was given and given back in memory.
 */
static void what_was_synced_survives_the_power(void **state)
{
	uint64_t lsn;
	char *before;

	begin(false, true);
	start();
	for (int i = 0; i < 10; i++) {
		work(500);
		end_sessions();
		oplog_sync(&shard->log, shard->log.lsn);
		WAIT_FOR(shard->log.synced_lsn == shard->log.lsn);
		before = dump();
		lsn = shard->log.lsn;
		kill_9();
		archive_lose(archive, roll(UINT64_MAX));
		start();
		assert_int_equal(shard->log.lsn, lsn);
		must_be_same(before);
	}
	end();
}

/* The last that they were given, or gave back, may not have been synced. */
static void sessions_are_over_when_the_power_was_cut(void **state)
{
	begin(true, true);
	start();
	work(500);
	assert_true(sessions_left() > 0);
	file_all();
	kill_9();
	start();
	assert_true(sessions_left() > 0);
	kill_9();
	archive_lose(archive, 0);
	keep_heap_close(keeps);
	assert_int_equal(keep_heap_open(sim_node_of(keeper), &keeps), 0);
	start();
	assert_int_equal(sessions_left(), 0);
	end();
}

static void cut_power(void)
{
	kill_both();
	archive_lose(archive, 0);
}

/* Whoever has made the first memory for the log may not have come so far. */
static void sessions_are_over_for_who_comes_after_a_start_that_did_not_end(void **state)
{
	unsigned refused = 0;
	bool is_refused;

	for (uint64_t nth = 1;; nth++) {
		begin(true, true);
		start();
		work(20);
		file_all();
		cut_power();
		fail_at = nth;
		is_refused = try_start_of(1) < 0;
		fail_at = 0;
		if (!has_failed)
			break;
		if (is_refused) {
			kill_9();
			start();
			assert_int_equal(sessions_left(), 0);
			refused++;
		}
		end();
	}
	end();
	assert_true(refused > 20);
}

/* It may have had nothing but zeros. */
static void so_they_are_where_the_first_leaf_was_not_begun(void **state)
{
	begin(true, true);
	start();
	work(20);
	file_all();
	cut_power();
	start();
	memset(shard->log.open->memory.ptr, 0, LEAF_BYTES);
	kill_9();
	start();
	assert_int_equal(sessions_left(), 0);
	end();
}

/* In the leaf that was the first then, and in another. */
static void but_not_those_that_began_after_the_power_was_cut(void **state)
{
	for (unsigned leaves = 1; leaves <= 4; leaves++) {
		uint64_t begun;

		begin(true, true);
		start();
		work(20);
		file_all();
		cut_power();
		start();
		begun = shard->log.open->header.number;
		do
			work(50);
		while (shard->log.open->header.number < begun + leaves - 1);
		kill_9();
		start();
		assert_true(sessions_left() > 0);
		end();
	}
}

/* Ids follow from it. The second one's is not that of the first, however often it is killed. */
static void each_memory_has_a_name_of_its_own(void **state)
{
	uint64_t first, second;

	begin(true, true);
	start();
	first = shard->incarnation;
	work(500);
	file_all();
	kill_9();
	start();
	assert_true(shard->incarnation == first);
	cut_power();
	start();
	second = shard->incarnation;
	assert_true(second != first);
	for (int i = 0; i < 2; i++) {
		kill_9();
		start();
		assert_true(shard->incarnation == second);
	}
	cut_power();
	start();
	assert_true(shard->incarnation != first && shard->incarnation != second);
	end();
}

static bool is_named(const char *path)
{
	char *all = dump();
	bool is_there = strstr(all, path) != NULL;

	free(all);
	return is_there;
}

/* Nobody asks, and it is done all the same: the space of what has expired is wanted. */
static void what_was_due_is_done_by_the_successor(void **state)
{
	struct commit_req req = { .path = text("short-lived"), .ttl_ms = 2000 };
	struct slot *slot;

	begin(true, false);
	start();
	create(0);
	slot = slot_of(0);
	req.job = jobs[0];
	assert_int_equal(catalog_commit(slot->catalog, &req, text(""), shard_now(shard), &out), 0);
	shard_after(slot, &out);
	kill_9();
	start();
	assert_true(is_named("short-lived"));
	turn_for(4 * SECOND);
	assert_false(is_named("short-lived"));
	end();
}

static uint64_t object_at(int job, const char *path)
{
	assert_int_equal(look_error(job, path), 0);
	return out.rep.lookup.object;
}

/*
 * Tokens and connections go by a job's id, requests by those of what was opened or is held: who was
 * told of one that is forgotten must not find another one under it.
 */
static void no_id_is_given_again_when_it_was_forgotten(void **state)
{
	uint64_t first, second, object, version;

	begin(true, true);
	start();
	create(0);
	create(1);
	first = jobs[0];
	second = jobs[1];
	cut_power(); /* nothing is left at all */
	start();
	assert_true(catalog_job_lives(slot_of(0)->catalog, first) < 0);
	create(0);
	assert_true(jobs[0] != first);
	first = jobs[0];
	file_all();
	put_value(0, "a", "value", 1);
	object = object_at(0, "a");
	version = out.rep.lookup.version;
	create(1);
	assert_true(jobs[1] != second);
	second = jobs[1];
	end_job(0);
	create(0);
	cut_power();
	start();
	/* Killed once more, before anything was given. */
	kill_9();
	start();
	assert_int_equal(look_error(0, "a"), -EIDRM);
	jobs[0] = first;
	assert_int_equal(look_error(0, "a"), -ENOENT);
	put_value(0, "a", "other", 2);
	assert_true(object_at(0, "a") > object + (1ull << 32));
	assert_true(out.rep.lookup.version > version + (1ull << 24));
	create(1);
	assert_true(jobs[1] != second);
	end_job(0);
	create(0);
	assert_true(jobs[0] > first + (1ull << 24));
	end();
}

static void cut_power_at_any_time(uint64_t seed)
{
	begin(false, true);
	dice = seed;
	start();
	for (int i = 0; i < 8; i++) {
		uint64_t synced;

		work((unsigned)roll(3000));
		synced = shard->log.synced_lsn;
		kill_9();
		archive_lose(archive, roll(UINT64_MAX));
		start();
		assert_true(shard->log.lsn >= synced);
		/* The jobs of the test may be older than what it believes. */
		for (int j = 0; j < JOBS; j++) {
			open_grant[j].size = 0;
			if (jobs[j] && catalog_job_lives(slot_of(j)->catalog, jobs[j]) < 0)
				jobs[j] = 0;
		}
		for (int s = 0; s < SLOT_COUNT; s++)
			if (shard->slots[s])
				assert_null(catalog_check(shard->slots[s]->catalog));
	}
	end();
}

static void a_power_cut_at_any_time_leaves_a_beginning(void **state)
{
	for (uint64_t seed = 1; seed <= 6; seed++)
		cut_power_at_any_time(seed);
}

/* Its slots are of different moments: without the records up to the last one they do not fit. */
static void a_snapshot_is_whole_only_with_the_log_up_to_its_end(void **state)
{
	begin(false, true);
	start();
	do
		work(20);
	while (shard->snapshots.taken_count == 0);
	assert_true(shard->snapshots.end_lsn > shard->snapshots.lsn);
	assert_true(shard->log.synced_lsn >= shard->snapshots.end_lsn);
	end();
}

/* Values of durable jobs are in the log, or in a snapshot; those of others were in memory. */
static void durable_values_survive_the_power(void **state)
{
	begin(true, true);
	snapshot_bytes = 4096;
	start();
	create(0);
	are_durable = true;
	create(1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(put_value(0, "a", "gone", 0), 0);
		assert_int_equal(put_value(1, "a", "one", 0), 0);
		for (int n = 0; n < 200 && i > 0; n++)
			assert_int_equal(put_value(1, "b", n % 2 ? "two" : "three", 0), 0);
		file_all();
		turn_for(SECOND);
		kill_9();
		archive_lose(archive, roll(UINT64_MAX));
		keep_heap_close(keeps);
		assert_int_equal(keep_heap_open(sim_node_of(keeper), &keeps), 0);
		start();
		assert_string_equal(get(1, "a"), "one");
		if (i > 0)
			assert_string_equal(get(1, "b"), "two");
		assert_null(get(0, "a"));
		assert_int_equal(look_error(0, "a"), -EREMOTEIO);
		/* The next one has memory, but not this. */
		kill_9();
		start();
		assert_int_equal(look_error(0, "a"), -EREMOTEIO);
		assert_string_equal(get(1, "a"), "one");
	}
	end();
}

/* In a snapshot they come in the order of their names, and lie in that of their puts. */
static void durable_values_survive_in_whatever_order_they_were_put(void **state)
{
	enum { COUNT = 60 };
	char path[8], value[1200];

	begin(true, true);
	snapshot_bytes = 4096;
	start();
	are_durable = true;
	create(0);
	for (int i = COUNT; i-- > 0;) {
		snprintf(path, sizeof(path), "%02d", i);
		memset(value, 'a' + i % 26, sizeof(value));
		value[900 + 5 * i - 1] = '\0';
		assert_int_equal(put_value(0, path, value, 0), 0);
	}
	file_all();
	turn_for(SECOND);
	/* All of them are in the snapshot, and some no more in a record behind it. */
	assert_true(shard->snapshots.number > 0);
	kill_9();
	archive_lose(archive, 0);
	keep_heap_close(keeps);
	assert_int_equal(keep_heap_open(sim_node_of(keeper), &keeps), 0);
	start();
	for (int i = 0; i < COUNT; i++) {
		snprintf(path, sizeof(path), "%02d", i);
		memset(value, 'a' + i % 26, sizeof(value));
		value[900 + 5 * i - 1] = '\0';
		assert_string_equal(get(0, path), value);
	}
	end();
}

static void durable_is_refused_without_a_disk(void **state)
{
	begin(true, false);
	start();
	are_durable = true;
	create(0);
	assert_int_equal(jobs[0], 0);
	assert_non_null(strstr(out.detail, "--data"));
	end();
}

static void a_large_object_of_a_durable_job_is_refused(void **state)
{
	begin(true, true);
	start();
	are_durable = true;
	create(0);
	assert_int_equal(put_extent(0, "a"), -ENOSPC);
	assert_non_null(strstr(out.detail, "block"));
	end();
}

static void while_the_disk_fails_nothing_durable_is_taken(void **state)
{
	begin(true, true);
	start();
	create(0);
	are_durable = true;
	create(1);
	archive_fail(archive, -EROFS, UINT32_MAX);
	assert_int_equal(put_value(1, "a", "one", 0), 0);
	oplog_sync(&shard->log, shard->log.lsn);
	WAIT_FOR(shard->log.disk_error == -EROFS);
	assert_int_equal(put_value(1, "a", "two", 0), -ENOBUFS);
	assert_int_equal(put_value(0, "a", "two", 0), 0);
	archive_fail(archive, 0, 0);
	turn_for(2 * SECOND);
	assert_int_equal(put_value(1, "a", "three", 0), 0);
	end();
}

/* The bytes that were written before the sync that failed are gone, unless written again. */
static void what_a_failed_sync_has_dropped_is_written_anew(void **state)
{
	begin(true, true);
	start();
	are_durable = true;
	create(0);
	file_all();
	for (int i = 0; i < 20; i++) {
		char *before;

		/* Written, since nobody waits for it, and not synced. */
		assert_int_equal(put_value(0, "a", "one", 0), 0);
		turn_for(SECOND / 2);
		assert_true(shard->log.open->filed == shard->log.open->used);
		archive_fail(archive, -EIO, 1);
		oplog_sync(&shard->log, shard->log.lsn);
		WAIT_FOR(shard->log.disk_error == -EIO);
		WAIT_FOR(shard->log.disk_error == 0);
		assert_int_equal(put_value(0, "b", "two", 0), 0);
		file_all();
		before = dump();
		cut_power_and_compare(before);
		assert_string_equal(get(0, "a"), "one");
		assert_string_equal(get(0, "b"), "two");
	}
	end();
}

/* Server and keeper are gone, the machine is not: what the file has is not safe yet. */
static void a_file_is_synced_before_the_next_one_is_begun(void **state)
{
	char *before;

	begin(true, true);
	start();
	are_durable = true;
	create(0);
	assert_int_equal(put_value(0, "a", "one", 0), 0);
	turn_for(SECOND / 2);
	kill_both();
	start();
	assert_string_equal(get(0, "a"), "one");
	assert_int_equal(put_value(0, "b", "two", 0), 0);
	file_all();
	before = dump();
	cut_power_and_compare(before);
	assert_string_equal(get(0, "a"), "one");
	end();
}

/* A write for which nobody waits does not sync; the leaf that it is of is closed meanwhile. */
static void a_leaf_that_is_closed_during_a_write_is_synced_all_the_same(void **state)
{
	const struct leaf *first;
	char *before;

	begin(true, true);
	snapshot_bytes = 1 << 30;
	start();
	are_durable = true;
	create(0);
	first = shard->log.open;
	while (LEAF_BYTES - first->used >= EFFECT_BYTES_MAX + 32) {
		assert_int_equal(put_value(0, "a", "value", 0), 0);
		if (first->used - first->filed > 128 << 10)
			(void)loop_turn(loop, loop->now_ns + MS);
	}
	while (!shard->log.filing.is_busy || shard->log.filing.to != first->used)
		(void)loop_turn(loop, loop->now_ns + MS);
	assert_false(shard->log.filing.must_sync);
	assert_int_equal(put_value(0, "b", "value", 0), 0);
	assert_true(shard->log.open != first && shard->log.filing.is_busy);
	file_all();
	before = dump();
	cut_power_and_compare(before);
	end();
}

static void last_file(char name[ARCHIVE_NAME_MAX])
{
	char next[ARCHIVE_NAME_MAX] = "log-";

	name[0] = '\0';
	while (archive->ops->next(archive, next, next) > 0 && strncmp(next, "log-", 4) == 0)
		memcpy(name, next, sizeof(next));
}

static void a_torn_tail_is_cut_off(void **state)
{
	char name[ARCHIVE_NAME_MAX];
	uint8_t byte = 0xff;
	uint64_t lsn;
	int64_t len;
	static uint8_t all[LEAF_BYTES];

	begin(false, true);
	start();
	create(0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(put_value(0, "a", "value", 0), 0);
	file_all();
	lsn = shard->log.lsn;
	kill_9();
	last_file(name);
	len = archive->ops->read(archive, name, 0, all, sizeof(all));
	assert_int_equal(archive->ops->write(archive, name, (uint64_t)len - 9, &byte, 1), 0);
	start();
	assert_int_equal(shard->log.lsn, lsn - 1);
	/* And it goes on from there. */
	assert_int_equal(put_value(0, "b", "other", 0), 0);
	file_all();
	kill_9();
	start();
	assert_int_equal(look_error(0, "b"), -EREMOTEIO); /* there, but its value was in memory */
	assert_int_equal(shard->log.lsn, lsn);
	end();
}

static void damage_before_the_tail_is_an_error(void **state)
{
	char name[ARCHIVE_NAME_MAX];
	uint8_t byte = 0xff;

	begin(false, true);
	start();
	create(0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(put_value(0, "a", "value", 0), 0);
	oplog_sync(&shard->log, shard->log.lsn);
	WAIT_FOR(shard->log.synced_lsn == shard->log.lsn);
	assert_int_equal(put_value(0, "a", "value", 0), 0);
	file_all();
	kill_9();
	last_file(name);
	assert_int_equal(archive->ops->write(archive, name, LEAF_HEADER + 300, &byte, 1), 0);
	assert_int_equal(try_start_of(1), -EUCLEAN);
	end();
}

/* Names and bytes of all files. */
static uint32_t sum_of_files(void)
{
	static uint8_t all[LEAF_BYTES];
	char name[ARCHIVE_NAME_MAX] = "";
	uint32_t sum = 0;

	while (archive->ops->next(archive, name, name) > 0) {
		int64_t len = archive->ops->read(archive, name, 0, all, sizeof(all));

		sum = crc_more(sum, name, strlen(name) + 1);
		sum = crc_more(sum, all, (size_t)len);
	}
	return sum;
}

static void change(const char *name, uint32_t at, uint8_t how)
{
	uint8_t byte;

	assert_int_equal(archive->ops->read(archive, name, at, &byte, 1), 1);
	byte ^= how;
	assert_int_equal(archive->ops->write(archive, name, at, &byte, 1), 0);
}

/* Whoever finds something wrong says where, and changes nothing. */
static void must_refuse(const char *name, uint32_t at, uint8_t how, int err)
{
	uint32_t sum;

	change(name, at, how);
	sum = sum_of_files();
	if (try_start_of(1) != err)
		fail_msg("%s with another byte %u: a start, or another error", name, at);
	kill_9();
	assert_int_equal(sum_of_files(), sum);
	change(name, at, how);
}

/* The bytes that the crc of a header covers, and the crc. */
#define HEADER_BYTES 76

static void a_damaged_header_is_an_error(void **state)
{
	char name[ARCHIVE_NAME_MAX];

	begin(false, true);
	start();
	are_durable = true;
	create(0);
	/* Of the only file, and of the last of several. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(put_value(0, i ? "b" : "a", "value", 0), 0);
		file_all();
		kill_9();
		last_file(name);
		for (uint32_t at = 0; at < HEADER_BYTES; at++) {
			must_refuse(name, at, 1, -EUCLEAN);
			must_refuse(name, at, 0xff, -EUCLEAN);
		}
		start();
		assert_string_equal(get(0, "a"), "value");
	}
	assert_string_equal(get(0, "b"), "value");
	end();
}

/* Whoever is refused leaves to the next one what it found, with the keeper, too. */
static void a_refused_start_takes_nothing_from_the_keeper(void **state)
{
	char name[ARCHIVE_NAME_MAX] = "log-";
	uint32_t sum;

	begin(true, true);
	snapshot_bytes = 1 << 30;
	start();
	create(0);
	while (shard->log.open->header.number < 2) {
		assert_int_equal(put_value(0, "a", "value", 0), 0);
		(void)loop_turn(loop, loop->now_ns + MS / 10);
	}
	file_all();
	turn_for(SECOND);
	assert_int_equal(put_value(0, "a", "in memory", 0), 0);
	kill_9();
	/* Of a leaf that is in its file only. */
	assert_int_equal(archive->ops->next(archive, name, name), 1);
	change(name, 20, 1);
	sum = sum_of_files();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(try_start_of(1), -EUCLEAN);
		kill_9();
		assert_int_equal(sum_of_files(), sum);
	}
	change(name, 20, 1);
	start();
	assert_string_equal(get(0, "a"), "in memory");
	end();
}

static void cut_file(const char *name, uint32_t len)
{
	assert_int_equal(archive->ops->cut(archive, name, len), 0);
}

static void zero(const char *name, uint32_t at, uint32_t len)
{
	static const uint8_t zeros[4096];

	assert_true(len <= sizeof(zeros));
	assert_int_equal(archive->ops->write(archive, name, at, zeros, len), 0);
}

/* What the power left of a file that was being begun; and what it cannot have left. */
static void only_the_last_file_may_not_have_begun(void **state)
{
	char first[ARCHIVE_NAME_MAX], name[ARCHIVE_NAME_MAX], next[ARCHIVE_NAME_MAX];

	begin(false, true);
	start();
	create(0);
	assert_int_equal(put_value(0, "a", "value", 0), 0);
	file_all();
	kill_9();
	last_file(first);
	for (int i = 0; i < 2; i++) {
		start();
		create(1);
		file_all();
		kill_9();
		last_file(name);
		assert_string_not_equal(name, first);
		cut_file(name, LEAF_HEADER - 1 + (uint32_t)i);
		zero(name, 0, LEAF_HEADER - 1 + (uint32_t)i);
		start();
		assert_int_equal(look_error(0, "a"), -EREMOTEIO); /* there, but without memory */
		assert_true(catalog_job_lives(slot_of(1)->catalog, jobs[1]) < 0);
		kill_9();
		last_file(next);
		assert_true(strcmp(next, name) != 0);
	}
	/* Its header was on the disk before anything else of it. */
	start();
	create(1);
	file_all();
	kill_9();
	last_file(name);
	assert_string_not_equal(name, first);
	zero(name, 0, LEAF_HEADER);
	assert_int_equal(try_start_of(1), -EUCLEAN);
	kill_9();
	/* Neither the last one. */
	cut_file(name, LEAF_HEADER - 1);
	zero(first, 0, LEAF_HEADER);
	assert_int_equal(try_start_of(1), -EUCLEAN);
	end();
}

/* Nothing else says what its records are sealed with. */
static void the_only_file_is_not_taken_for_one_that_was_never_begun(void **state)
{
	char name[ARCHIVE_NAME_MAX];
	uint32_t sum;

	begin(false, true);
	start();
	are_durable = true;
	create(0);
	assert_int_equal(put_value(0, "a", "value", 0), 0);
	file_all();
	kill_9();
	last_file(name);
	zero(name, 0, LEAF_HEADER);
	sum = sum_of_files();
	assert_int_equal(try_start_of(1), -EUCLEAN);
	kill_9();
	assert_int_equal(sum_of_files(), sum);
	end();
}

/* As long as nobody waits for anything, too. */
static void the_header_is_on_the_disk_before_any_record(void **state)
{
	static uint8_t all[LEAF_BYTES];
	char name[ARCHIVE_NAME_MAX];
	unsigned behind = 0;

	for (unsigned turns = 1; turns < 60; turns++) {
		uint32_t synced;
		int64_t len;

		begin(false, true);
		start();
		create(0);
		for (unsigned i = 0; i < turns; i++) {
			assert_int_equal(put_value(0, "a", "value", 0), 0);
			(void)loop_turn(loop, loop->now_ns + MS);
		}
		synced = shard->log.open->synced;
		kill_9();
		last_file(name);
		len = name[0] ? archive->ops->read(archive, name, 0, all, sizeof(all)) : 0;
		assert_true(synced > 0 || len <= LEAF_HEADER);
		behind += synced > 0;
		end();
	}
	assert_in_range(behind, 1, 58);
}

static void a_log_of_another_version_is_refused(void **state)
{
	static const uint8_t OTHER[] = "wadilaf3 and whatever else it may say";
	char name[ARCHIVE_NAME_MAX];
	uint32_t sum;

	begin(false, true);
	start();
	create(0);
	file_all();
	kill_9();
	last_file(name);
	assert_int_equal(archive->ops->write(archive, name, 0, OTHER, sizeof(OTHER)), 0);
	sum = sum_of_files();
	assert_int_equal(try_start_of(1), -ENOTSUP);
	kill_9();
	assert_int_equal(sum_of_files(), sum);
	end();
}

static void first_snapshot(char name[ARCHIVE_NAME_MAX])
{
	char next[ARCHIVE_NAME_MAX] = "snapshot-";

	assert_int_equal(archive->ops->next(archive, next, name), 1);
}

/* With durable values in it, and the log before it gone. Some more are in the log. */
static void make_snapshot(void)
{
	char path[8], next[ARCHIVE_NAME_MAX] = "log-";

	snapshot_bytes = 1 << 20;
	log_bytes = 4 << 20;
	start();
	are_durable = true;
	create(0);
	for (int i = 0; shard->snapshots.taken_count < 1 || shard->snapshots.is_running; i++) {
		snprintf(path, sizeof(path), "%d", i % 20);
		assert_int_equal(put_value(0, path, "value", 0), 0);
		(void)loop_turn(loop, loop->now_ns + MS);
	}
	assert_int_equal(put_value(0, "last", "value", 0), 0);
	file_all();
	turn_for(SECOND);
	kill_9();
	assert_int_equal(archive->ops->next(archive, next, next), 1);
	assert_string_not_equal(next, "log-0-0000000000000000");
}

/* The first record behind some bytes. */
static uint32_t record_behind(const char *name, uint32_t bytes)
{
	static uint8_t all[LEAF_BYTES];
	int64_t len = archive->ops->read(archive, name, 0, all, sizeof(all));
	uint32_t at = LEAF_HEADER;
	struct leaf_header h;
	struct record record;

	assert_int_equal(leaf_header_get(all, (size_t)len, &h), 0);
	while (at < bytes)
		assert_int_equal(record_get(all, (uint32_t)len, &h, &at, &record), 0);
	return at;
}

/* Its first file ends there, as it seems, and the next one goes on. */
static void a_hole_in_a_snapshot_is_an_error(void **state)
{
	char name[ARCHIVE_NAME_MAX], path[16], value[1800];

	begin(false, true);
	snapshot_bytes = 2 << 20;
	log_bytes = 8 << 20;
	start();
	are_durable = true;
	create(0);
	memset(value, 'a', sizeof(value));
	value[sizeof(value) - 1] = '\0';
	for (int i = 0; shard->snapshots.taken_count < 1; i++) {
		snprintf(path, sizeof(path), "%d", i);
		assert_int_equal(put_value(0, path, value, 0), 0);
		(void)loop_turn(loop, loop->now_ns + MS);
	}
	file_all();
	turn_for(SECOND);
	assert_true(shard->snapshots.index > 0);
	kill_9();
	first_snapshot(name);
	zero(name, record_behind(name, 100000), 4096);
	assert_int_equal(try_start_of(1), -EUCLEAN);
	end();
}

static void must_have_all(void)
{
	char path[8];

	for (int i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "%d", i);
		assert_string_equal(get(0, path), "value");
	}
	assert_string_equal(get(0, "last"), "value");
}

static void a_damaged_snapshot_is_an_error(void **state)
{
	static uint8_t all[LEAF_BYTES];
	char name[ARCHIVE_NAME_MAX];
	unsigned started = 0;
	int64_t len;

	begin(false, true);
	make_snapshot();
	first_snapshot(name);
	len = archive->ops->read(archive, name, 0, all, sizeof(all));
	for (uint32_t at = 0; at < HEADER_BYTES; at++)
		must_refuse(name, at, (uint8_t)(1 << at % 8), -EUCLEAN);
	for (uint32_t at = LEAF_HEADER; at < len; at++) {
		if (all[at]) {
			must_refuse(name, at, (uint8_t)(1 << at % 8), -EUCLEAN);
			continue;
		}
		/* Between records nothing is lost. */
		change(name, at, 1);
		if (try_start_of(1) == 0) {
			must_have_all();
			started++;
		}
		kill_9();
		change(name, at, 1);
	}
	assert_true(started > 0 && started < len / 8);
	start();
	must_have_all();
	end();
}

/* A disk writes pages in any order: what lies behind a hole says that this was not there yet. */
static void a_hole_in_what_was_not_synced_is_the_end(void **state)
{
	char name[ARCHIVE_NAME_MAX];
	static const uint8_t zeros[100];
	uint64_t lsn;
	uint32_t at;

	begin(false, true);
	start();
	create(0);
	assert_int_equal(put_value(0, "a", "value", 0), 0);
	oplog_sync(&shard->log, shard->log.lsn);
	WAIT_FOR(shard->log.synced_lsn == shard->log.lsn);
	lsn = shard->log.lsn;
	at = shard->log.open->used;
	for (int i = 0; i < 10; i++)
		assert_int_equal(put_value(0, "a", "value", 0), 0);
	file_all();
	kill_9();
	last_file(name);
	assert_int_equal(archive->ops->write(archive, name, at, zeros, sizeof(zeros)), 0);
	start();
	assert_int_equal(shard->log.lsn, lsn);
	/* What lay behind it does not come back. */
	assert_int_equal(put_value(0, "a", "value", 0), 0);
	file_all();
	kill_9();
	start();
	assert_int_equal(shard->log.lsn, lsn + 1);
	end();
}

static void what_nobody_waits_for_is_synced_after_a_second(void **state)
{
	begin(false, true);
	start();
	create(0);
	oplog_sync(&shard->log, shard->log.lsn);
	WAIT_FOR(shard->log.synced_lsn == shard->log.lsn);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(put_value(0, "a", "value", 0), 0);
		turn_for(SECOND / 10);
		assert_true(shard->log.synced_lsn < shard->log.lsn);
	}
	turn_for(SECOND);
	assert_int_equal(shard->log.synced_lsn, shard->log.lsn);
	end();
}

/* What a repair does: the log ends behind the first record that the snapshot does not cover. */
static void cut_log_to(uint64_t lsn)
{
	static uint8_t all[LEAF_BYTES];
	char name[ARCHIVE_NAME_MAX] = "log-";

	while (archive->ops->next(archive, name, name) && strncmp(name, "log-", 4) == 0) {
		int64_t len = archive->ops->read(archive, name, 0, all, sizeof(all));
		uint32_t at = LEAF_HEADER, end = 0;
		struct leaf_header h;
		struct record record;

		assert_int_equal(leaf_header_get(all, (size_t)len, &h), 0);
		while (record_get(all, (uint32_t)len, &h, &at, &record) == 0)
			if (record.lsn <= lsn)
				end = at;
		if (end == 0)
			assert_int_equal(archive->ops->remove(archive, name), 0);
		else
			assert_int_equal(archive->ops->cut(archive, name, end), 0);
	}
}

static void numbers_that_a_slot_has_seen_do_not_come_again_after_a_repair(void **state)
{
	uint64_t begun, ended;
	char *before;

	begin(false, true);
	start();
	do {
		work(100);
		begun = shard->snapshots.lsn;
		ended = shard->snapshots.end_lsn;
	} while (shard->snapshots.taken_count == 0 || shard->snapshots.is_running ||
		 ended < begun + 20);
	file_all();
	kill_9();
	cut_log_to(begun + 1);
	snapshot_bytes = 1ull << 40; /* so it is not the time for one anyway */
	start();
	assert_true(shard->log.lsn > begun); /* sessions are over besides */
	end_sessions();
	work(500);
	end_sessions();
	turn_for(SECOND);
	file_all();
	before = dump();
	kill_9();
	start();
	must_be_same(before);
	end();
}

static void a_missing_file_is_an_error(void **state)
{
	char name[ARCHIVE_NAME_MAX] = "log-";

	begin(false, true);
	snapshot_bytes = UINT64_MAX;
	start();
	create(0);
	while (shard->log.open->header.number < 3) {
		assert_int_equal(put_value(0, "a", "value", 0), 0);
		if (roll(100) == 0)
			(void)loop_turn(loop, loop->now_ns + MS);
	}
	file_all();
	kill_9();
	assert_int_equal(archive->ops->next(archive, name, name), 1);
	assert_int_equal(archive->ops->remove(archive, name), 0);
	assert_int_equal(try_start_of(1), -EUCLEAN);
	end();
}

static void another_number_of_shards_is_refused(void **state)
{
	begin(true, false);
	start();
	create(0);
	kill_9();
	assert_int_equal(try_start_of(2), -EINVAL);
	end();
}

static void a_full_disk_is_logfull_and_it_recovers(void **state)
{
	int r = 0;

	begin(true, true);
	start();
	create(0);
	archive_fail(archive, -ENOSPC, UINT32_MAX);
	for (int i = 0; i < 200000 && r == 0; i++) {
		r = put_value(0, "a", "value", 0);
		if (i % 200 == 0)
			(void)loop_turn(loop, loop->now_ns + MS);
	}
	assert_int_equal(r, -ENOBUFS);
	assert_true(shard->log.bytes <= log_bytes);
	/* Reads go on, and so does what gives back: the job's end. */
	assert_string_equal(get(0, "a"), "value");
	end_job(0);
	assert_int_equal(catalog_job_lives(slot_of(0)->catalog, jobs[0]), -EIDRM);
	archive_fail(archive, 0, 0);
	turn_for(5 * SECOND);
	create(0);
	assert_int_equal(put_value(0, "a", "again", 0), 0);
	kill_9();
	start();
	assert_string_equal(get(0, "a"), "again");
	end();
}

static void without_an_archive_snapshots_keep_the_log_short(void **state)
{
	begin(true, false);
	start();
	create(0);
	for (int i = 0; i < 100000; i++) {
		assert_int_equal(put_value(0, "a", "value", 0), 0);
		if (i % 20 == 0)
			(void)loop_turn(loop, loop->now_ns + MS);
		assert_true(shard->log.bytes <= log_bytes + 2 * LEAF_BYTES);
	}
	assert_true(shard->snapshots.taken_count > 25);
	end();
}

static unsigned leaves_of_snapshot(void)
{
	unsigned n = 0;

	for (struct list *l = shard->log.snapshot.next; l != &shard->log.snapshot; l = l->next)
		n++;
	return n;
}

/* None is begun in the middle of another one. */
static void put_many(void)
{
	const struct snapshots *p = &shard->snapshots;
	char path[16];

	for (int i = 0; i < 30000; i++) {
		snprintf(path, sizeof(path), "%d", i);
		assert_int_equal(put_value(0, path, "value", 0), 0);
		if (i % 20 == 0)
			(void)loop_turn(loop, loop->now_ns + MS);
		assert_false(p->is_running && timer_is_running(&p->shrink));
	}
	turn_for(5 * SECOND);
}

/* All but so many. */
static void remove_many(unsigned but)
{
	struct remove_tree_req req = { .job = jobs[0], .up_to = UINT64_MAX };
	struct catalog_sums sums;

	for (;;) {
		catalog_sums(slot_of(0)->catalog, shard_now(shard), &sums);
		if (sums.object_count <= but)
			break;
		assert_int_equal(
			catalog_remove_tree(slot_of(0)->catalog, &req, shard_now(shard), &out), 0);
	}
	turn_for(5 * SECOND);
}

static void when_little_is_left_a_snapshot_has_that_only(void **state)
{
	uint64_t taken;
	char *before;

	begin(true, false);
	snapshot_bytes = 1 << 20;
	start();
	create(0);
	put_many();
	assert_true(leaves_of_snapshot() >= 2);
	taken = shard->snapshots.taken_count;
	remove_many(12000);
	assert_int_equal(shard->snapshots.taken_count, taken);
	remove_many(2000);
	assert_int_equal(shard->snapshots.taken_count, taken + 1);
	assert_int_equal(leaves_of_snapshot(), 1);
	/* Also of one that a predecessor took. */
	put_many();
	kill_9();
	start();
	assert_true(leaves_of_snapshot() >= 2);
	remove_many(2000);
	assert_int_equal(leaves_of_snapshot(), 1);
	before = dump();
	kill_9();
	start();
	must_be_same(before);
	end();
}

static void the_clock_of_the_catalogs_never_goes_back(void **state)
{
	uint64_t now_ns;

	begin(true, false);
	start();
	create(0);
	assert_int_equal(put_value(0, "a", "value", 0), 0);
	now_ns = shard_now(shard);
	kill_9();
	sim_node_set_wall(server, 1000 * SECOND);
	start();
	assert_true(shard_now(shard) >= now_ns);
	assert_true(shard_now(shard) < now_ns + SECOND);
	end();
}

static void a_clean_end_leaves_nothing_with_the_keeper(void **state)
{
	begin(true, false);
	start();
	work(1000);
	shard_close(shard);
	turn_for(SECOND);
	assert_int_equal(keep_heap_count(keeps), 0);
	end();
}

static void a_clean_end_leaves_nothing_of_a_snapshot_that_was_begun(void **state)
{
	begin(true, false);
	start();
	create(0);
	put_many();
	for (int i = 0; list_is_empty(&shard->snapshots.done); i++) {
		assert_true(i < 100000);
		assert_int_equal(put_value(0, "a", "value", 0), 0);
		(void)loop_turn(loop, loop->now_ns + MS);
	}
	shard_close(shard);
	turn_for(SECOND);
	assert_int_equal(keep_heap_count(keeps), 0);
	net_close(net);
	loop_close(loop);
	node_current = NULL;
	assert_int_equal(sim_node_bytes(server), 0);
	end();
}

/* Nothing of it is left, but with the keeper and on the disk. */
static void close_server(void)
{
	net_close(net);
	loop_close(loop);
	node_current = NULL;
	assert_int_equal(sim_node_bytes(server), 0);
}

/*
 * Whatever allocation of a start fails: it is refused for want of memory, if it is, and the next
 * one goes on from all that there was.
 */
static void every_allocation_of_a_start_may_fail(void)
{
	char *before = dump();

	for (fail_at = 1, has_failed = true; has_failed; fail_at++) {
		int r;

		kill_9();
		r = try_start_of(1);
		if (r == 0) {
			must_be_same(strdup(before));
			continue;
		}
		assert_true(has_failed);
		assert_true(r == -ENOMEM || r == -ENOSPC);
		close_server();
	}
	assert_true(fail_at > 100);
	fail_at = 0;
	free(before);
}

static uint64_t first_of_log(void)
{
	return container_of(shard->log.leaves.next, struct leaf, link)->header.number;
}

/* Some of what it has is in the snapshot alone, some in the log alone. */
static void a_start_without_memory_changes_nothing(bool with_keeper, bool with_archive)
{
	begin(with_keeper, with_archive);
	start();
	while (first_of_log() < 2)
		work(200);
	for (int job = 0; job < JOBS; job++) {
		if (!jobs[job])
			create(job);
		get_grant(job); /* of a session that nobody has ended yet */
	}
	if (!with_keeper) {
		end_sessions();
		file_all();
	}
	every_allocation_of_a_start_may_fail();
	end();
}

static void a_start_from_a_keeper_may_lack_memory(void **state)
{
	a_start_without_memory_changes_nothing(true, false);
}

static void a_start_from_files_may_lack_memory(void **state)
{
	a_start_without_memory_changes_nothing(false, true);
}

static void a_start_from_a_keeper_and_files_may_lack_memory(void **state)
{
	a_start_without_memory_changes_nothing(true, true);
}

/* Puts until the log's leaf has room for some ten more, without a snapshot. */
static void fill_leaf(const char *value)
{
	uint32_t size = 0;
	char path[16];

	for (int i = 0; LEAF_BYTES - shard->log.open->used > 10 * size; i++) {
		uint32_t before = shard->log.open->used;

		snprintf(path, sizeof(path), "%d", i % 600);
		assert_int_equal(put_value(0, path, value, 0), 0);
		size = shard->log.open->used - before;
		(void)loop_turn(loop, loop->now_ns + MS);
	}
	turn_for(100 * MS);
}

/* A leaf ends, another is made, and snapshots are taken. True if the n-th allocation was met. */
static bool log_without_memory(const char *value, uint64_t n)
{
	uint64_t taken;
	bool is_met;
	char path[16];

	shard->config.snapshot_bytes = 1;
	node_current->fail_countdown = n;
	for (int i = 0; i < 20; i++) {
		int r;

		snprintf(path, sizeof(path), "%d", i);
		r = put_value(0, path, value, 0);
		assert_true(r == 0 || r == -ENOMEM || r == -ENOSPC || r == -ENOBUFS);
		turn_for(2 * MS);
	}
	is_met = node_current->fail_countdown == 0;
	node_current->fail_countdown = 0;
	/* What has failed is tried again. */
	taken = shard->snapshots.taken_count;
	turn_for(3 * SECOND);
	for (int i = 0; i < 10000 && shard->snapshots.taken_count == taken; i++) {
		assert_int_equal(put_value(0, "a", value, 0), 0);
		(void)loop_turn(loop, loop->now_ns + MS);
	}
	assert_true(shard->snapshots.taken_count > taken);
	return is_met;
}

static void every_allocation_of_a_log_may_fail(bool with_keeper, bool with_archive)
{
	static char value[INLINE_BYTES_MAX];
	uint64_t n = 0;
	bool is_met;

	memset(value, 'v', sizeof(value) - 1);
	do {
		char *before;

		begin(with_keeper, with_archive);
		are_durable = with_archive; /* so a snapshot has more than one leaf */
		start();
		create(0);
		shard->config.snapshot_bytes = 1; /* one that the next takes the place of */
		assert_int_equal(put_value(0, "first", value, 0), 0);
		WAIT_FOR(shard->snapshots.taken_count == 1);
		shard->config.snapshot_bytes = 1 << 30;
		fill_leaf(value);
		is_met = log_without_memory(value, ++n);
		if (with_archive)
			file_all();
		before = dump();
		shard_leave(shard);
		shard_close(shard);
		turn_for(SECOND);
		close_server();
		kill_9();
		start();
		must_be_same(before);
		end();
	} while (is_met);
	assert_true(n > 20);
}

/* Regions of values that nobody needs any more go; more of them wait when there is no memory. */
static void values_that_go_may_lack_memory(void **state)
{
	static char value[INLINE_BYTES_MAX];
	uint64_t n = 0;
	bool is_met;

	memset(value, 'v', sizeof(value) - 1);
	do {
		struct catalog_sums sums;
		char *before, path[16];

		begin(true, false);
		start();
		create(0);
		for (int i = 0; i < 8 * (int)(VALUE_SEGMENT_BYTES / INLINE_BYTES_MAX); i++) {
			snprintf(path, sizeof(path), "%d", i);
			assert_int_equal(put_value(0, path, value, 0), 0);
			(void)loop_turn(loop, loop->now_ns + MS);
		}
		end_job(0);
		node_current->fail_countdown = ++n;
		turn_for(SECOND);
		is_met = node_current->fail_countdown == 0;
		node_current->fail_countdown = 0;
		turn_for(5 * SECOND);
		catalog_sums(slot_of(0)->catalog, 0, &sums);
		assert_int_equal(sums.value_bytes, 0);
		before = dump();
		shard_leave(shard);
		shard_close(shard);
		turn_for(SECOND);
		close_server();
		kill_9();
		start();
		must_be_same(before);
		end();
	} while (is_met);
}

static void a_log_with_a_keeper_may_lack_memory(void **state)
{
	every_allocation_of_a_log_may_fail(true, false);
}

static void a_log_with_files_may_lack_memory(void **state)
{
	every_allocation_of_a_log_may_fail(true, true);
}

/* A keeper's region that cannot be mapped: which one, and how many have been. */
static struct {
	const struct keep_ops *ops;
	unsigned nth, count;
	int err;
} unmapped;

static int take_most(struct keep *k, struct keep_name name, struct memory *ret)
{
	return ++unmapped.count == unmapped.nth ? unmapped.err : unmapped.ops->take(k, name, ret);
}

static void what_cannot_be_mapped_now_is_left_to_the_next(void **state)
{
	static const int ERRORS[] = { -ENOMEM, -EMFILE, -ENFILE };
	struct keep_ops ops;
	struct keep *keep;
	bool is_refused;
	unsigned count;
	char *before;

	begin(true, false);
	start();
	while (first_of_log() < 2)
		work(200);
	before = dump();
	keep = keep_heap_keep(keeps);
	unmapped.ops = keep->ops;
	ops = *keep->ops;
	ops.take = take_most;
	unmapped.nth = 0;
	do {
		kill_9();
		count = keep_heap_count(keeps);
		unmapped.count = 0;
		unmapped.err = ERRORS[++unmapped.nth % 3];
		keep->ops = &ops;
		is_refused = try_start_of(1) < 0;
		assert_int_equal(is_refused, unmapped.count >= unmapped.nth);
		keep->ops = unmapped.ops;
		if (is_refused) {
			close_server();
			assert_int_equal(keep_heap_count(keeps), count);
			kill_9();
			start();
		}
		must_be_same(strdup(before));
	} while (is_refused);
	assert_true(unmapped.nth > 4);
	free(before);
	end();
}

static const struct service NOBODY = { 0 };

static void wait_for(struct call *c)
{
	while (c->is_pending)
		turn_for(MS);
	assert_int_equal(c->result, 0);
	call_end(c);
}

static struct conn *say_hello(void)
{
	struct call hello = { 0 };
	struct stream *ends[2];
	struct conn *c;
	struct wcur w;

	assert_int_equal(stream_pair(loop, 64 << 10, ends), 0);
	ends[1]->peer.is_loopback = true;
	shard_accept(shard, ends[1]);
	c = conn_open(net, ends[0], &NOBODY, NULL);
	assert_non_null(c);
	c->access = node_alloc(sizeof(*c->access));
	c->access->role = ROLE_META;
	w = call_body(net, &hello);
	hello_req_put(&w, &(struct hello_req){ .version = PROTOCOL_VERSION, .role = ROLE_META });
	call_send(c, &hello, MSG_HELLO, 0, &w, NULL, loop->now_ns + 10 * SECOND);
	wait_for(&hello);
	return c;
}

/* From its sending to its answer. `w`: begun with call_body(). */
static uint64_t takes(struct call *call, uint16_t msg, uint16_t slot, const struct wcur *w)
{
	struct conn *c = say_hello();
	uint64_t began_ns = loop->now_ns;

	call_send(c, call, msg, slot, w, NULL, loop->now_ns + 10 * SECOND);
	wait_for(call);
	conn_close(c);
	began_ns = loop->now_ns - began_ns;
	turn_for(MS);
	return began_ns;
}

static uint64_t end_takes(int job)
{
	struct call call = { 0 };
	struct wcur w = call_body(net, &call);
	char buf[16];
	struct slice name = text(name_of(job, buf));

	job_end_req_put(&w, &(struct job_end_req){ .name = name });
	return takes(&call, MSG_JOB_END, slot_of_name(name), &w);
}

static uint64_t put_takes(int job, const char *path)
{
	struct call call = { 0 };
	struct wcur w = call_body(net, &call);

	commit_req_put(&w, &(struct commit_req){ .job = jobs[job], .path = text(path) });
	return takes(&call, MSG_COMMIT, slot_of_id(jobs[job]), &w);
}

static uint64_t remove_takes(int job, const char *path)
{
	struct call call = { 0 };
	struct wcur w = call_body(net, &call);

	remove_req_put(
		&w, &(struct remove_req){ .job = jobs[job], .attempt_lo = 77, .path = text(path) });
	return takes(&call, MSG_REMOVE, slot_of_id(jobs[job]), &w);
}

/* Nor any that a former one has told on. */
static void a_successor_acknowledges_no_removal_before_old_leases_are_over(void **state)
{
	begin(true, false);
	start();
	create(0);
	put_value(0, "a", "value", 1);
	put_value(0, "b", "value", 2);
	put_value(0, "c", "value", 3);
	assert_true(remove_takes(0, "a") < 100 * MS);
	kill_9();
	start();
	assert_in_range(remove_takes(0, "b"), 450 * MS, 600 * MS);
	assert_true(remove_takes(0, "c") < 100 * MS);
	/* One that was made before, too. */
	kill_9();
	start();
	assert_in_range(remove_takes(0, "c"), 450 * MS, 600 * MS);
	assert_true(remove_takes(0, "c") < 100 * MS);
	end();
}

/* Whoever serves a job under a lease of the one before may not have come to us yet. */
static void a_successor_acknowledges_no_end_before_old_leases_are_over(void **state)
{
	begin(true, false);
	start();
	create(0);
	create(1);
	create(2);
	assert_true(end_takes(0) < 100 * MS);
	kill_9();
	start();
	assert_in_range(end_takes(1), 450 * MS, 600 * MS);
	assert_true(end_takes(2) < 100 * MS);
	/* One that ended before, too, if it is asked for again. */
	kill_9();
	start();
	assert_in_range(end_takes(1), 450 * MS, 600 * MS);
	assert_true(end_takes(1) < 100 * MS);
	end();
}

/* A put that was acknowledged, and goes with the power. */
static void lose_a(void)
{
	begin(true, true);
	start();
	create(0);
	file_all();
	assert_true(put_takes(0, "a") < 100 * MS);
	cut_power();
	start();
	assert_int_equal(look_error(0, "a"), -ENOENT);
}

/* Whoever was told of it goes on telling of what nobody here knows any more. */
static void what_went_with_the_power_is_not_told_on_when_it_is_put_again(void **state)
{
	lose_a();
	assert_in_range(put_takes(0, "a"), 450 * MS, 600 * MS);
	assert_true(put_takes(0, "b") < 100 * MS);
	/* After a kill all of it is known. */
	kill_9();
	start();
	assert_true(put_takes(0, "c") < 100 * MS);
	end();
}

static void who_comes_after_one_who_has_not_waited_for_that_waits_himself(void **state)
{
	lose_a();
	for (int i = 0; i < 2; i++) {
		turn_for(SECOND / 10);
		kill_9();
		start();
	}
	assert_in_range(put_takes(0, "a"), 450 * MS, 600 * MS);
	assert_true(put_takes(0, "b") < 100 * MS);
	end();
}

/* Nobody was told of anything before the first memory there was. */
static void who_comes_after_the_first_one_does_not_wait(void **state)
{
	begin(true, true);
	start();
	create(0);
	kill_9();
	start();
	assert_true(put_takes(0, "a") < 100 * MS);
	end();
}

#define T(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(everything_is_there_after_kills),
		T(so_it_is_with_an_archive),
		T(values_are_as_they_were),
		T(what_was_synced_survives_the_power),
		T(sessions_are_over_when_the_power_was_cut),
		T(sessions_are_over_for_who_comes_after_a_start_that_did_not_end),
		T(so_they_are_where_the_first_leaf_was_not_begun),
		T(but_not_those_that_began_after_the_power_was_cut),
		T(what_was_due_is_done_by_the_successor),
		T(each_memory_has_a_name_of_its_own),
		T(no_id_is_given_again_when_it_was_forgotten),
		T(a_power_cut_at_any_time_leaves_a_beginning),
		T(a_snapshot_is_whole_only_with_the_log_up_to_its_end),
		T(durable_values_survive_the_power),
		T(durable_values_survive_in_whatever_order_they_were_put),
		T(durable_is_refused_without_a_disk),
		T(a_large_object_of_a_durable_job_is_refused),
		T(while_the_disk_fails_nothing_durable_is_taken),
		T(what_a_failed_sync_has_dropped_is_written_anew),
		T(a_file_is_synced_before_the_next_one_is_begun),
		T(a_leaf_that_is_closed_during_a_write_is_synced_all_the_same),
		T(a_torn_tail_is_cut_off),
		T(damage_before_the_tail_is_an_error),
		T(a_damaged_header_is_an_error),
		T(a_refused_start_takes_nothing_from_the_keeper),
		T(only_the_last_file_may_not_have_begun),
		T(the_only_file_is_not_taken_for_one_that_was_never_begun),
		T(the_header_is_on_the_disk_before_any_record),
		T(a_log_of_another_version_is_refused),
		T(a_hole_in_a_snapshot_is_an_error),
		T(a_damaged_snapshot_is_an_error),
		T(a_hole_in_what_was_not_synced_is_the_end),
		T(what_nobody_waits_for_is_synced_after_a_second),
		T(numbers_that_a_slot_has_seen_do_not_come_again_after_a_repair),
		T(a_missing_file_is_an_error),
		T(another_number_of_shards_is_refused),
		T(a_full_disk_is_logfull_and_it_recovers),
		T(without_an_archive_snapshots_keep_the_log_short),
		T(when_little_is_left_a_snapshot_has_that_only),
		T(the_clock_of_the_catalogs_never_goes_back),
		T(a_clean_end_leaves_nothing_with_the_keeper),
		T(a_clean_end_leaves_nothing_of_a_snapshot_that_was_begun),
		T(a_start_from_a_keeper_may_lack_memory),
		T(a_start_from_files_may_lack_memory),
		T(values_that_go_may_lack_memory),
		T(a_log_with_a_keeper_may_lack_memory),
		T(a_log_with_files_may_lack_memory),
		T(what_cannot_be_mapped_now_is_left_to_the_next),
		T(a_start_from_a_keeper_and_files_may_lack_memory),
		T(a_successor_acknowledges_no_end_before_old_leases_are_over),
		T(a_successor_acknowledges_no_removal_before_old_leases_are_over),
		T(what_went_with_the_power_is_not_told_on_when_it_is_put_again),
		T(who_comes_after_one_who_has_not_waited_for_that_waits_himself),
		T(who_comes_after_the_first_one_does_not_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
