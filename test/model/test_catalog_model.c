/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog against a naive model: a list of objects, searched from the front. Random
 * requests of a few jobs and sessions on a few paths, so that they meet; repeats with
 * the same attempt; time that passes; sessions that end; a store that answers duties
 * when it likes. Every answer is compared. Again and again all invariants are checked
 * and the log is replayed into a second catalog, which must then be the same; so must be what
 * is restored from a snapshot that was taken while all this went on.
 *
 * usage: test_catalog_model [SEED [STEPS]]
 */
#include "../unit/slot.h"

#define JOBS     3
#define SESSIONS 3
#define OBJECTS  4096
#define ATTEMPTS 400000
#define READS    4096
#define COUNTED  100000
#define SEGMENTS 64
#define OPENS    16

#define CHECK(condition)                                                                          \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			printf("step %" PRIu64 ": %s:%d: not true: %s (%s)\n"                     \
			       "again: %s %" PRIu64 " %" PRIu64 "\n",                             \
			       step, __FILE__, __LINE__, #condition, t.out.detail, program, seed, \
			       step_count);                                                       \
			exit(1);                                                                  \
		}                                                                                 \
	} while (0)

static const char *program;
static uint64_t seed, step, step_count, state;
static struct slot_test t;

static uint64_t roll(uint64_t below)
{
	uint64_t z = (state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z ^ (z >> 31)) % below;
}

static const char *const PATHS[] = { "a",
				     "b",
				     "a/x",
				     "a/y",
				     "a/y/z",
				     "a/b/c",
				     "a-b",
				     "b/1",
				     "b/2",
				     "b/3/4",
				     "b/3/5",
				     "c",
				     "d/e/f",
				     "d/e/g",
				     "d/h",
				     "zz",
				     "a/y/z/1",
				     "a/y/z/2",
				     "\xc3\xa4/\xc3\xb6",
				     "long-name-of-a-file" };
#define PATH_COUNT (sizeof(PATHS) / sizeof(PATHS[0]))
static const char *const DIRECTORIES[] = { "",  "a",    "a/y/",    "a/y/z", "b",       "b/3",
					   "d", "d/e/", "nothing", "c",     "\xc3\xa4" };
#define DIRECTORY_COUNT (sizeof(DIRECTORIES) / sizeof(DIRECTORIES[0]))

/* The model. */

struct object {
	bool is_used;
	int job;
	char path[64];
	uint64_t version, object, len, expiry, hi, lo;
	uint32_t reads;
	char value[64];
	struct extent extents[4];
	uint32_t extent_count;
};

struct attempt_note {
	uint64_t job;
	char path[64];
	uint64_t hi, lo, version, object;
	bool is_removal;
};

/* A granted read, or a hold on a version. */
struct read_note {
	bool is_used, is_read, is_ghost;
	int job;
	char path[64];
	uint64_t session, hold, request, hi, lo, object, version;
	uint32_t nth_try;
	struct extent first;
};

/* A read that was confirmed. */
struct counted_note {
	uint64_t job, lo, version;
	char path[64];
};

struct segment_note {
	bool is_used;
	int job;
	uint64_t session;
	struct grant g;
	uint32_t front, back;
};

struct open_note {
	bool is_used;
	int job;
	uint64_t session, id;
	uint64_t len[3];
	struct extent extents[12];
	uint32_t part[12], count;
};

enum fate { FATE_NONE, FATE_EXPIRED, FATE_CONSUMED };

static struct {
	uint64_t id;
	char name[16];
	uint64_t version;
	bool lives;
	enum fate fates[PATH_COUNT];
	uint64_t consumed[PATH_COUNT]; /* the version that was */
} jobs[JOBS];
static uint64_t sessions[SESSIONS], next_session = 100, next_number = 1;
static struct object objects[OBJECTS];
static struct counted_note counted[COUNTED];
static size_t counted_count;
static struct attempt_note *notes;
static size_t note_count;
static struct read_note reads[READS];
static struct segment_note segments[SEGMENTS];
static struct open_note opens[OPENS];
static uint64_t counts[32];

static int path_index(const char *path)
{
	for (size_t i = 0; i < PATH_COUNT; i++)
		if (strcmp(PATHS[i], path) == 0)
			return (int)i;
	abort();
}

static bool has_expired(const struct object *o)
{
	return o->expiry && o->expiry <= t.now;
}

/* What is there, expired or not. */
static struct object *find_any(int job, const char *path)
{
	for (size_t i = 0; i < OBJECTS; i++)
		if (objects[i].is_used && objects[i].job == job &&
		    strcmp(objects[i].path, path) == 0)
			return &objects[i];
	return NULL;
}

static void object_gone(struct object *o, enum fate fate)
{
	jobs[o->job].fates[path_index(o->path)] = fate;
	for (size_t i = 0; i < READS; i++)
		if (reads[i].is_used && reads[i].object == o->object &&
		    reads[i].version == o->version)
			reads[i].is_ghost = true;
	o->is_used = false;
}

static struct object *find(int job, const char *path)
{
	struct object *o = find_any(job, path);

	if (o && has_expired(o)) {
		object_gone(o, FATE_EXPIRED);
		o = NULL;
	}
	return o;
}

static void expire_all(void)
{
	for (size_t i = 0; i < OBJECTS; i++)
		if (objects[i].is_used && has_expired(&objects[i]))
			object_gone(&objects[i], FATE_EXPIRED);
}

static int missing(int job, const char *path)
{
	switch (jobs[job].fates[path_index(path)]) {
	case FATE_EXPIRED:
		return -ETIME;
	case FATE_CONSUMED:
		return -ENODATA;
	default:
		return -ENOENT;
	}
}

static struct attempt_note *note_find(int job, const char *path, uint64_t hi, uint64_t lo,
				      bool is_removal)
{
	for (size_t i = note_count; (hi | lo) && i > 0; i--) {
		struct attempt_note *n = &notes[i - 1];

		if (n->job == jobs[job].id && n->hi == hi && n->lo == lo &&
		    n->is_removal == is_removal && strcmp(n->path, path) == 0)
			return n;
	}
	return NULL;
}

static void note_add(int job, const char *path, uint64_t hi, uint64_t lo, uint64_t version,
		     uint64_t object, bool is_removal)
{
	struct attempt_note *n = &notes[note_count++];

	if (note_count == ATTEMPTS)
		note_count = 0;
	*n = (struct attempt_note){ .job = jobs[job].id,
				    .hi = hi,
				    .lo = lo,
				    .version = version,
				    .object = object,
				    .is_removal = is_removal };
	snprintf(n->path, sizeof(n->path), "%s", path);
}

static unsigned granted(const struct object *o)
{
	unsigned n = 0;

	for (size_t i = 0; i < READS; i++)
		n += reads[i].is_used && reads[i].is_read && !reads[i].is_ghost &&
		     reads[i].object == o->object && reads[i].version == o->version;
	return n;
}

static int any_job(void)
{
	return (int)roll(JOBS);
}

static uint64_t any_session(void)
{
	return sessions[roll(SESSIONS)];
}

static const char *any_path(void)
{
	return PATHS[roll(PATH_COUNT)];
}

/* A new attempt, none, or one of the last. */
static void any_attempt(uint64_t *hi, uint64_t *lo)
{
	uint64_t n = roll(10);

	*hi = 0;
	*lo = 0;
	if (n == 0)
		return;
	if (n == 1 && note_count > 0) {
		const struct attempt_note *note =
			&notes[note_count - 1 - roll(note_count < 30 ? note_count : 30)];

		*hi = note->hi;
		*lo = note->lo;
		return;
	}
	*hi = seed;
	*lo = next_number++;
}

static struct object *object_new(int job, const char *path)
{
	for (size_t i = 0; i < OBJECTS; i++) {
		if (objects[i].is_used)
			continue;
		objects[i] = (struct object){ .is_used = true, .job = job };
		snprintf(objects[i].path, sizeof(objects[i].path), "%s", path);
		return &objects[i];
	}
	abort();
}

/* What the catalog must answer to a commit that is well-formed; 1: a repeat. */
static int expect_commit(int job, const char *path, const struct commit_req *req,
			 struct attempt_note **ret)
{
	struct attempt_note *n = note_find(job, path, req->attempt_hi, req->attempt_lo, false);
	struct object *o;

	*ret = n;
	if (!jobs[job].lives)
		return -EIDRM;
	if (n)
		return 1;
	o = find(job, path);
	if (req->flags & PUT_CREATE && o)
		return -EEXIST;
	if (req->if_version && (!o || o->version != req->if_version))
		return -EBADE;
	return 0;
}

static void committed(int job, const char *path, const struct commit_req *req,
		      struct object *content)
{
	struct object *old = find(job, path), *o;

	CHECK(t.out.rep.commit.version == jobs[job].version + 1);
	jobs[job].version++;
	if (old)
		object_gone(old, FATE_NONE);
	jobs[job].fates[path_index(path)] = FATE_NONE;
	o = object_new(job, path);
	memcpy(o->value, content->value, sizeof(o->value));
	memcpy(o->extents, content->extents, sizeof(o->extents));
	o->extent_count = content->extent_count;
	o->len = content->len;
	o->version = t.out.rep.commit.version;
	o->object = t.out.rep.commit.object;
	o->hi = req->attempt_hi;
	o->lo = req->attempt_lo;
	o->reads = req->reads;
	o->expiry = req->ttl_ms ? t.now + req->ttl_ms * MS : 0;
	note_add(job, path, o->hi, o->lo, o->version, o->object, false);
}

static struct commit_req any_how(int job, const char *path)
{
	struct commit_req req = { .job = jobs[job].id, .session = any_session() };
	struct object *o = find(job, path);

	any_attempt(&req.attempt_hi, &req.attempt_lo);
	if (roll(4) == 0)
		req.flags = PUT_CREATE;
	if (roll(5) == 0)
		req.if_version = o && roll(2) ? o->version : 1 + roll(1000);
	if (roll(4) == 0)
		req.ttl_ms = (uint32_t)(1 + roll(3000));
	if (roll(4) == 0)
		req.reads = (uint32_t)(1 + roll(3));
	return req;
}

static void check_commit(int r, int expected, const struct attempt_note *n)
{
	if (expected == 1) {
		CHECK(r == 0);
		CHECK(t.out.rep.commit.version == n->version);
		CHECK(t.out.rep.commit.object == n->object);
		counts[1]++;
	} else {
		CHECK(r == expected);
	}
}

static void step_put_value(void)
{
	int job = any_job();
	const char *path = any_path();
	struct commit_req req = any_how(job, path);
	struct object content = { 0 };
	struct attempt_note *n;
	int expected, r;

	if (roll(6) > 0)
		snprintf(content.value, sizeof(content.value), "%.*s%" PRIu64, (int)roll(40),
			 "0123456789012345678901234567890123456789", roll(1000000));
	content.len = strlen(content.value);
	expected = expect_commit(job, path, &req, &n);
	r = slot_put(&t, req, path, content.value);
	check_commit(r, expected, n);
	if (expected == 0)
		committed(job, path, &req, &content);
}

/* What was answered before, and perhaps not heard, comes again. */
static void step_repeat(void)
{
	const struct attempt_note *n;
	struct commit_req req = { .since = roll(1000) };
	int job = -1, r;

	if (note_count == 0)
		return;
	n = &notes[note_count - 1 - roll(note_count < 1000 ? note_count : 1000)];
	for (int i = 0; i < JOBS; i++)
		if (jobs[i].id == n->job && jobs[i].lives)
			job = i;
	if (job < 0 || (n->hi | n->lo) == 0)
		return;
	if (n->is_removal) {
		struct remove_req remove = { .job = n->job,
					     .attempt_hi = n->hi,
					     .attempt_lo = n->lo,
					     .path = text(n->path) };

		r = catalog_remove(t.c, &remove, t.now, &t.out);
		CHECK(r == 0 && t.out.rep.remove.version == n->version);
		counts[5]++;
		return;
	}
	req.job = n->job;
	req.attempt_hi = n->hi;
	req.attempt_lo = n->lo;
	req.flags = roll(2) ? PUT_CREATE : 0;
	r = slot_put(&t, req, n->path, "another try");
	check_commit(r, 1, note_find(job, n->path, n->hi, n->lo, false));
}

/* Segments. */

/* Where the store of them is: known from the first on, until it is gone. */
static const char *store_address;
static bool is_store_known;

static int check_store(void *owner, uint64_t store, const char *address)
{
	unsigned *count = owner;

	CHECK(store == STORE && ++*count == 1);
	CHECK(strcmp(address, store_address) == 0);
	return 0;
}

static void check_stores(void)
{
	unsigned count = 0;

	CHECK(catalog_stores(t.c, check_store, &count) == 0);
	CHECK(count == is_store_known);
	CHECK(is_store_known || !catalog_store_has(t.c, STORE));
}

static void store_moves(void)
{
	store_address = roll(4) ? "tcp://store:1" : "tcp://store:2";
	CHECK(catalog_store_known(t.c, STORE, text(store_address), t.now, &t.out) == 0);
	is_store_known = true;
	check_stores();
}

static struct segment_note *any_segment(int job, uint64_t session)
{
	size_t from = roll(SEGMENTS);

	for (size_t i = 0; i < SEGMENTS; i++) {
		struct segment_note *s = &segments[(from + i) % SEGMENTS];

		if (s->is_used && s->job == job && s->session == session)
			return s;
	}
	return NULL;
}

static void step_lease(void)
{
	struct grant grants[LEASE_SEGMENTS_MAX];
	int job = any_job(), r;
	uint64_t session = any_session(), request = next_number++;
	uint64_t need = 1 + roll(300000);
	uint16_t count;

	r = slot_lease(&t, jobs[job].id, session, request, need, SEGMENT_BYTES_MIN << roll(2),
		       grants);
	CHECK(r == (jobs[job].lives ? 0 : -EIDRM));
	if (r < 0)
		return;
	count = t.out.rep.lease.count;
	CHECK(count > 0);
	store_moves();
	/* The same request again: the same grants, in any order. */
	if (roll(3) == 0) {
		struct grant again[LEASE_SEGMENTS_MAX];

		CHECK(slot_lease(&t, jobs[job].id, session, request, need, SEGMENT_BYTES_MIN,
				 again) == 0);
		CHECK(t.out.rep.lease.count == count);
	}
	for (unsigned i = 0; i < count; i++) {
		size_t at = 0;

		while (at < SEGMENTS && segments[at].is_used)
			at++;
		if (at == SEGMENTS) {
			struct settle_req req = { .job = jobs[job].id,
						  .session = session,
						  .segment = grants[i].segment,
						  .generation = grants[i].generation,
						  .back = grants[i].size };

			CHECK(catalog_settle(t.c, &req, t.now, &t.out) == 0);
			continue;
		}
		segments[at] =
			(struct segment_note){ true, job, session, grants[i], 0, grants[i].size };
	}
}

/* Room for one extent, in pages from the front or packed at the back. */
static bool take(struct segment_note *s, uint32_t len, bool is_front, struct extent *ret)
{
	uint32_t room = (len + SEGMENT_ALIGN - 1) & ~(SEGMENT_ALIGN - 1u);

	if (is_front) {
		uint32_t from = (s->front + SEGMENT_PAGE - 1) & ~(SEGMENT_PAGE - 1u);

		if (from + room > s->back)
			return false;
		*ret = extent_at(&s->g, from, len);
		s->front = from + len;
	} else {
		if (s->back < room || s->back - room < s->front)
			return false;
		s->back -= room;
		*ret = extent_at(&s->g, s->back, len);
	}
	return true;
}

static void step_put_extents(void)
{
	int job = any_job(), r, expected;
	const char *path = any_path();
	struct commit_req req = any_how(job, path);
	struct object content = { 0 };
	uint32_t count = (uint32_t)(1 + roll(4));
	struct attempt_note *n;

	for (uint32_t i = 0; i < count; i++) {
		struct segment_note *s = any_segment(job, req.session);

		if (!s || !take(s, (uint32_t)(1 + roll(9000)), count > 1,
				&content.extents[content.extent_count]))
			continue;
		content.len += content.extents[content.extent_count++].len;
	}
	if (content.extent_count == 0)
		return;
	expected = expect_commit(job, path, &req, &n);
	r = slot_put_extents(&t, req, path, content.extents, content.extent_count);
	check_commit(r, expected, n);
	if (expected != 0)
		return;
	committed(job, path, &req, &content);
	counts[2]++;
	/* The same bytes once more, as another object: handed out twice. */
	req.attempt_hi = req.attempt_lo = req.if_version = req.flags = 0;
	CHECK(slot_put_extents(&t, req, path, content.extents, content.extent_count) == -EINVAL);
}

static void step_settle(void)
{
	struct segment_note *s = &segments[roll(SEGMENTS)];
	struct settle_req req = { .job = jobs[s->job].id,
				  .session = s->session,
				  .segment = s->g.segment,
				  .generation = s->g.generation,
				  .front = s->front,
				  .back = s->back };

	if (!s->is_used)
		return;
	CHECK(catalog_settle(t.c, &req, t.now, &t.out) == 0);
	if (roll(3) == 0)
		CHECK(catalog_settle(t.c, &req, t.now, &t.out) == 0);
	s->is_used = false;
}

static uint64_t restore_count, pace = 1; /* steps of ours for one of the snapshot's */

static void compare_restored(void)
{
	const char *why = slot_restore(&t);

	if (why)
		printf("%s\n", why);
	CHECK(!why);
	restore_count++;
}

static void end_snapshot(void)
{
	while (catalog_snapshot_step(t.c, 4000))
		;
	compare_restored();
}

/* Where the model thinks that bytes are. */
static void relocate(struct extent *x, const struct dying *d, const struct move_entry *m)
{
	if (x->segment != d->segment || x->generation != d->generation || x->offset != m->offset)
		return;
	x->segment = m->to_segment;
	x->generation = m->to_generation;
	x->offset = m->to_offset;
}

static void relocate_all(const struct dying *d, const struct move_entry *m)
{
	for (size_t i = 0; i < OBJECTS; i++)
		for (uint32_t k = 0; objects[i].is_used && k < objects[i].extent_count && k < 4;
		     k++)
			relocate(&objects[i].extents[k], d, m);
	for (size_t i = 0; i < READS; i++)
		if (reads[i].is_used)
			relocate(&reads[i].first, d, m);
	for (size_t i = 0; i < OPENS; i++)
		for (uint32_t k = 0; opens[i].is_used && k < opens[i].count; k++)
			relocate(&opens[i].extents[k], d, m);
}

/* The slot's words about a segment that is to be emptied: no more than there is. */
static uint32_t get_places(const struct dying *d, struct place_entry *ret)
{
	struct places_req req = { .job = d->job,
				  .segment = d->segment,
				  .generation = d->generation };
	uint64_t sum = 0;
	struct rcur c;

	CHECK(catalog_places(t.c, &req, slot_payload(&t), &t.out) == 0);
	c = rcur_make(t.payload, slot_got(&t).len);
	for (uint32_t i = 0; i < t.out.rep.places.count; i++) {
		place_entry_get(&c, &ret[i]);
		sum += (ret[i].len + SEGMENT_ALIGN - 1) & ~(SEGMENT_ALIGN - 1u);
	}
	CHECK(rcur_finish(&c) == 0);
	CHECK(sum == t.out.rep.places.live || t.out.rep.places.count == EXTENTS_MAX);
	return t.out.rep.places.count;
}

static bool places_has(const struct place_entry *places, uint32_t count, const struct move_entry *m)
{
	for (uint32_t i = 0; i < count; i++)
		if (places[i].offset == m->offset && places[i].len == m->len)
			return true;
	return false;
}

/* Some of what is live in a segment goes to another; some of it has died meanwhile. */
static void step_move(void)
{
	struct place_entry places[EXTENTS_MAX];
	struct move_entry moves[EXTENTS_MAX];
	uint8_t bytes[MOVES_BYTES];
	struct wcur w = wcur_make(bytes, sizeof(bytes));
	struct move_req req = { .session = any_session() };
	uint64_t expected = 0;
	struct slice payload;
	uint32_t count, known = 0;
	struct dying d;
	int job = -1, r;

	if (roll(4) > 0)
		return;
	if (catalog_snapshot_is_running(t.c) && roll(4) > 0)
		end_snapshot();
	if (!catalog_dying(t.c, STORE, &d))
		return;
	for (int i = 0; i < JOBS; i++)
		if (jobs[i].lives && jobs[i].id == d.job)
			job = i;
	count = job < 0 ? 0 : get_places(&d, places);
	req.job = d.job;
	req.segment = d.segment;
	req.generation = d.generation;
	for (uint32_t i = 0; i < count; i++) {
		struct segment_note *s = any_segment(job, req.session);
		bool is_dead = roll(5) == 0;
		struct extent x;

		if (!s || roll(4) == 0 || !take(s, places[i].len, roll(2) != 0, &x))
			continue;
		moves[known] = (struct move_entry){ .offset = places[i].offset,
						    .len = places[i].len + is_dead,
						    .to_segment = x.segment,
						    .to_generation = x.generation,
						    .to_offset = x.offset };
		expected += is_dead ? 0 : places[i].len;
		move_entry_put(&w, &moves[known++]);
	}
	payload = (struct slice){ bytes, (size_t)(w.p - w.start) };
	req.count = known;
	if (known > 0) {
		r = catalog_move(t.c, &req, payload, t.now, &t.out);
		if (catalog_snapshot_is_running(t.c)) {
			CHECK(r == -EAGAIN);
			(void)catalog_dying_over(t.c, &d);
			return;
		}
		CHECK(r == 0 && t.out.rep.move.moved == expected);
		counts[13] += expected > 0;
		for (uint32_t i = 0; i < known; i++)
			if (places_has(places, count, &moves[i]))
				relocate_all(&d, &moves[i]);
		/* The answer was lost, and the same comes again: it is there already. */
		CHECK(catalog_move(t.c, &req, payload, t.now, &t.out) == 0);
		CHECK(t.out.rep.move.moved == 0);
	}
	if (roll(2))
		(void)catalog_dying_over(t.c, &d);
}

/* Objects that come in pieces. */

static void step_open(void)
{
	struct open_note *o = &opens[roll(OPENS)];
	struct open_req req;
	int r;

	if (o->is_used)
		return;
	*o = (struct open_note){ .job = any_job(), .session = any_session() };
	req = (struct open_req){ .job = jobs[o->job].id,
				 .session = o->session,
				 .request = next_number++ };
	r = catalog_open(t.c, &req, t.now, &t.out);
	CHECK(r == (jobs[o->job].lives ? 0 : -EIDRM));
	if (r < 0)
		return;
	o->is_used = true;
	o->id = t.out.rep.open.open;
	CHECK(catalog_open(t.c, &req, t.now, &t.out) == 0);
	CHECK(t.out.rep.open.open == o->id);
}

static void step_extend(void)
{
	struct open_note *o = &opens[roll(OPENS)];
	struct segment_note *s = o->is_used ? any_segment(o->job, o->session) : NULL;
	uint32_t part = (uint32_t)roll(3);
	struct extend_req req = { .session = o->session,
				  .open = o->id,
				  .part = part,
				  .extent_count = 1,
				  .offset = o->len[part] };
	uint8_t bytes[EXTENT_SIZE];
	struct wcur w = wcur_make(bytes, sizeof(bytes));
	struct extent x;

	if (!s || o->count == 12 || !take(s, (uint32_t)(1 + roll(5000)), true, &x))
		return;
	req.job = jobs[o->job].id;
	extent_put(&w, &x);
	CHECK(catalog_extend(t.c, &req, (struct slice){ bytes, sizeof(bytes) }, t.now, &t.out) ==
	      0);
	o->extents[o->count] = x;
	o->part[o->count++] = part;
	o->len[part] += x.len;
	/* Sent again, and beyond the end. */
	CHECK(catalog_extend(t.c, &req, (struct slice){ bytes, sizeof(bytes) }, t.now, &t.out) ==
	      0);
	req.offset += x.len + 1;
	CHECK(catalog_extend(t.c, &req, (struct slice){ bytes, sizeof(bytes) }, t.now, &t.out) ==
	      -EINVAL);
	counts[3]++;
}

static void step_commit_open(void)
{
	struct open_note *o = &opens[roll(OPENS)];
	const char *path = any_path();
	struct object content = { 0 };
	struct attempt_note *n;
	struct commit_req req;
	int expected, r;

	if (!o->is_used)
		return;
	req = any_how(o->job, path);
	req.session = o->session;
	req.open = o->id;
	req.path = text(path);
	for (uint32_t part = 0; part < 3; part++)
		for (uint32_t i = 0; i < o->count; i++)
			if (o->part[i] == part && content.extent_count++ < 4)
				content.extents[content.extent_count - 1] = o->extents[i];
	content.len = o->len[0] + o->len[1] + o->len[2];
	expected = expect_commit(o->job, path, &req, &n);
	r = catalog_commit(t.c, &req, (struct slice){ 0 }, t.now, &t.out);
	check_commit(r, expected, n);
	if (r == 0)
		o->is_used = false; /* a repeat leaves nothing of what came once more */
	if (expected == 0) {
		committed(o->job, path, &req, &content);
		counts[4]++;
	}
}

static void step_drop(void)
{
	struct open_note *o = &opens[roll(OPENS)];
	struct drop_req req = { .job = jobs[o->job].id, .session = o->session, .open = o->id };

	if (!o->is_used)
		return;
	CHECK(catalog_drop(t.c, &req, t.now, &t.out) == 0);
	o->is_used = false;
}

/* Changes of names. */

static void step_remove(void)
{
	int job = any_job(), r;
	const char *path = any_path();
	struct remove_req req = { .job = jobs[job].id, .path = text(path) };
	struct object *o = find(job, path);
	struct attempt_note *n;

	any_attempt(&req.attempt_hi, &req.attempt_lo);
	if (roll(4) == 0)
		req.if_version = o && roll(2) ? o->version : 1 + roll(100);
	n = note_find(job, path, req.attempt_hi, req.attempt_lo, true);
	r = catalog_remove(t.c, &req, t.now, &t.out);
	if (!jobs[job].lives) {
		CHECK(r == -EIDRM);
	} else if (n) {
		CHECK(r == 0 && t.out.rep.remove.version == n->version);
		counts[5]++;
	} else if (!o) {
		CHECK(r == missing(job, path));
	} else if (req.if_version && req.if_version != o->version) {
		CHECK(r == -EBADE);
	} else {
		CHECK(r == 0 && t.out.rep.remove.version == o->version);
		note_add(job, path, req.attempt_hi, req.attempt_lo, o->version, o->object, true);
		object_gone(o, FATE_NONE);
	}
}

static void step_rename(void)
{
	int job = any_job(), r;
	const char *from = any_path(), *to = any_path();
	struct rename_req req = { .job = jobs[job].id, .from = text(from), .to = text(to) };
	struct object *o = find(job, from), *target = find(job, to);
	struct attempt_note *n;

	any_attempt(&req.attempt_hi, &req.attempt_lo);
	if (roll(3) == 0)
		req.flags = PUT_CREATE;
	n = note_find(job, to, req.attempt_hi, req.attempt_lo, false);
	r = catalog_rename(t.c, &req, t.now, &t.out);
	if (!jobs[job].lives) {
		CHECK(r == -EIDRM);
	} else if (n) {
		CHECK(r == 0 && t.out.rep.rename.version == n->version);
	} else if (!o) {
		CHECK(r == missing(job, from));
	} else if (req.flags & PUT_CREATE && target) {
		CHECK(r == -EEXIST);
	} else if (o == target) {
		CHECK(r == 0 && t.out.rep.rename.version == o->version);
	} else {
		CHECK(r == 0 && t.out.rep.rename.version == jobs[job].version + 1);
		jobs[job].version++;
		if (target)
			object_gone(target, FATE_NONE);
		jobs[job].fates[path_index(to)] = FATE_NONE;
		jobs[job].fates[path_index(from)] = FATE_NONE;
		for (size_t i = 0; i < READS; i++)
			if (reads[i].is_used && !reads[i].is_ghost &&
			    reads[i].object == o->object && reads[i].version == o->version) {
				reads[i].version = jobs[job].version;
				snprintf(reads[i].path, sizeof(reads[i].path), "%s", to);
			}
		o->version = jobs[job].version;
		o->hi = req.attempt_hi;
		o->lo = req.attempt_lo;
		snprintf(o->path, sizeof(o->path), "%s", to);
		note_add(job, to, o->hi, o->lo, o->version, o->object, false);
		counts[6]++;
	}
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(((const struct object *)a)->path, ((const struct object *)b)->path);
}

/* The visible objects of a job whose paths begin so, in order. */
static size_t sorted(int job, const char *prefix, struct object *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < OBJECTS; i++)
		if (objects[i].is_used && objects[i].job == job && !has_expired(&objects[i]) &&
		    strncmp(objects[i].path, prefix, strlen(prefix)) == 0)
			ret[n++] = objects[i];
	qsort(ret, n, sizeof(*ret), compare_paths);
	return n;
}

static void prefix_of(const char *directory, char *ret)
{
	size_t n = strlen(directory);

	snprintf(ret, 64, "%s%s", directory, n > 0 && directory[n - 1] != '/' ? "/" : "");
}

static void step_remove_tree(void)
{
	static struct object list[OBJECTS];
	int job = any_job(), r;
	const char *directory = DIRECTORIES[roll(DIRECTORY_COUNT)];
	struct remove_tree_req req = { .job = jobs[job].id,
				       .max = (uint32_t)(1 + roll(5)),
				       .directory = text(directory) };
	char prefix[64];
	size_t n, first = 0, looked = 0;
	uint32_t removed = 0;

	/* Expired ones count as steps: have none. */
	slot_tick(&t);
	expire_all();
	prefix_of(directory, prefix);
	n = sorted(job, prefix, list);
	req.up_to = roll(3) ? UINT64_MAX : roll((unsigned)jobs[job].version + 1);
	if (n > 0 && roll(3) == 0) {
		first = roll((unsigned)n);
		req.from = text(list[first].path);
	}
	r = catalog_remove_tree(t.c, &req, t.now, &t.out);
	if (!jobs[job].lives) {
		CHECK(r == -EIDRM);
		return;
	}
	CHECK(r == 0);
	CHECK(t.out.rep.remove_tree.version == jobs[job].version);
	for (; req.up_to > 0 && first < n && looked < req.max; first++, looked++) {
		if (list[first].version > req.up_to)
			continue;
		object_gone(find(job, list[first].path), FATE_NONE);
		removed++;
	}
	CHECK(t.out.rep.remove_tree.count == removed);
	if (req.up_to > 0)
		CHECK(slice_compare(t.out.rep.remove_tree.next,
				    first < n ? text(list[first].path) : text("")) == 0);
}

/* Looking. */

static void check_stat(const struct stat_rep *s, const struct object *o)
{
	CHECK(s->version == o->version && s->object == o->object && s->len == o->len);
	CHECK(s->is_directory == 0);
	CHECK(s->reads_left == (o->reads ? o->reads - granted(o) : NONE_32));
	CHECK(s->ttl_left_ms == (o->expiry ? (o->expiry - t.now) / MS : NONE_64));
}

static size_t directly_in(int job, const char *prefix)
{
	size_t n = 0;

	for (size_t i = 0; i < OBJECTS; i++)
		if (objects[i].is_used && objects[i].job == job && !has_expired(&objects[i]) &&
		    strncmp(objects[i].path, prefix, strlen(prefix)) == 0 &&
		    !strchr(objects[i].path + strlen(prefix), '/'))
			n++;
	return n;
}

static void step_stat(void)
{
	static struct object list[OBJECTS];
	int job = any_job(), r;
	const char *path = roll(3) ? any_path() : DIRECTORIES[roll(DIRECTORY_COUNT)];
	struct object *o = find(job, path);
	char prefix[64];

	r = catalog_stat(t.c, jobs[job].id, text(path), t.now, &t.out);
	prefix_of(path, prefix);
	if (!jobs[job].lives) {
		CHECK(r == -EIDRM);
	} else if (o) {
		CHECK(r == 0);
		check_stat(&t.out.rep.stat, o);
	} else if (path[0] == '\0' || sorted(job, prefix, list) > 0) {
		CHECK(r == 0 && t.out.rep.stat.is_directory);
		CHECK(t.out.rep.stat.len == directly_in(job, prefix));
	} else {
		bool is_path = false;

		for (size_t i = 0; i < PATH_COUNT; i++)
			is_path |= strcmp(PATHS[i], path) == 0;
		CHECK(r == (is_path ? missing(job, path) : -ENOENT));
	}
}

/* The next name of a listing, behind `after`; NULL at the end. */
static const char *next_name(const struct object *list, size_t n, size_t skip, bool is_recursive,
			     const char *after, char *buf)
{
	size_t a = strlen(after);

	for (size_t i = 0; i < n; i++) {
		const char *name = list[i].path + skip, *slash = strchr(name, '/');

		if (!is_recursive && slash)
			snprintf(buf, 64, "%.*s", (int)(slash - name + 1), name);
		else
			snprintf(buf, 64, "%s", name);
		if (a > 0 && after[a - 1] == '/' && strncmp(name, after, a) == 0)
			continue;
		if (a == 0 || strcmp(buf, after) > 0)
			return buf;
	}
	return NULL;
}

static void step_list(void)
{
	static struct object list[OBJECTS];
	int job = any_job(), r;
	const char *directory = DIRECTORIES[roll(DIRECTORY_COUNT)];
	char prefix[64], after[64] = "", buf[64];
	struct list_req req = { .job = jobs[job].id,
				.is_recursive = roll(2) != 0,
				.max = (uint32_t)(1 + roll(4)),
				.directory = text(directory) };
	size_t n;

	prefix_of(directory, prefix);
	n = sorted(job, prefix, list);
	for (int page = 0; page < 100; page++) {
		struct rcur c;

		req.after = text(after);
		r = catalog_list(t.c, &req, t.now, slot_payload(&t), &t.out);
		if (!jobs[job].lives || (n == 0 && prefix[0])) {
			CHECK(r == (jobs[job].lives ? -ENOENT : -EIDRM));
			return;
		}
		CHECK(r == 0);
		CHECK(t.out.rep.list.count <= req.max);
		c = rcur_make(t.payload, (size_t)(t.w.p - t.payload));
		for (uint32_t i = 0; i < t.out.rep.list.count; i++) {
			struct list_entry e;
			const char *name =
				next_name(list, n, strlen(prefix), req.is_recursive, after, buf);

			list_entry_get(&c, &e);
			CHECK(name && strlen(name) == e.name.len &&
			      memcmp(name, e.name.ptr, e.name.len) == 0);
			CHECK(e.is_directory == (name[strlen(name) - 1] == '/'));
			if (!e.is_directory) {
				char path[128];

				snprintf(path, sizeof(path), "%s%s", prefix, name);
				CHECK(e.version == find(job, path)->version);
			}
			snprintf(after, sizeof(after), "%s", name);
		}
		CHECK(rcur_finish(&c) == 0);
		if (!t.out.rep.list.has_more)
			break;
	}
	CHECK(!next_name(list, n, strlen(prefix), req.is_recursive, after, buf));
}

static struct read_note *read_find_note(const struct object *o, uint64_t hi, uint64_t lo)
{
	for (size_t i = 0; i < READS; i++)
		if (reads[i].is_used && !reads[i].is_ghost && reads[i].is_read &&
		    reads[i].object == o->object && reads[i].version == o->version &&
		    reads[i].hi == hi && reads[i].lo == lo)
			return &reads[i];
	return NULL;
}

static bool was_counted(int job, const char *path, uint64_t lo, uint64_t version)
{
	for (size_t i = 0; i < counted_count; i++)
		if (counted[i].job == jobs[job].id && counted[i].lo == lo &&
		    counted[i].version == version && strcmp(counted[i].path, path) == 0)
			return true;
	return false;
}

static struct read_note *read_new(int job, const struct object *o, const struct lookup_req *req,
				  bool is_read)
{
	for (size_t i = 0; i < READS; i++) {
		if (reads[i].is_used)
			continue;
		reads[i] = (struct read_note){ .is_used = true,
					       .is_read = is_read,
					       .job = job,
					       .session = req->session,
					       .hold = t.out.rep.lookup.hold,
					       .request = req->request,
					       .hi = req->read_hi,
					       .lo = req->read_lo,
					       .object = o->object,
					       .version = o->version,
					       .nth_try = 1,
					       .first = o->extents[0] };
		snprintf(reads[i].path, sizeof(reads[i].path), "%s", o->path);
		return &reads[i];
	}
	abort();
}

static void check_bytes(const struct object *o)
{
	if (o->extent_count == 0) {
		CHECK(slot_got(&t).len == o->len);
		CHECK(memcmp(t.payload, o->value, o->len) == 0);
	} else {
		struct rcur c = rcur_make(t.payload, slot_got(&t).len);
		struct extent x;

		CHECK(t.out.rep.lookup.found > 0 && t.out.rep.lookup.first == 0);
		CHECK(t.out.rep.lookup.extent_count == o->extent_count);
		for (uint32_t i = 0; i < t.out.rep.lookup.found; i++) {
			extent_get(&c, &x);
			if (i < 4)
				CHECK(memcmp(&x, &o->extents[i], sizeof(x)) == 0);
		}
		CHECK(rcur_finish(&c) == 0);
	}
}

/* The answer was lost, perhaps long ago: the same hold, of the version that it keeps. */
static void repeat_lookup(struct read_note *n)
{
	struct lookup_req req = { .job = jobs[n->job].id,
				  .session = n->session,
				  .request = n->request,
				  .take = 1,
				  .is_held = 1,
				  .read_hi = n->hi,
				  .read_lo = n->lo };
	uint64_t effects;

	slot_tick(&t);
	expire_all();
	if (!n->is_used)
		return;
	effects = t.effect_count;
	CHECK(slot_look(&t, req, n->path) == 0 && !t.out.must_wait);
	CHECK(t.out.rep.lookup.hold == n->hold && t.out.rep.lookup.nth_try == n->nth_try);
	CHECK(t.out.rep.lookup.version == n->version);
	CHECK(t.effect_count == effects);
	counts[14]++;
}

static void step_lookup(void)
{
	static uint64_t request;
	int job = any_job(), r;
	const char *path = any_path();
	struct object *o = find(job, path);
	struct lookup_req req = { .job = jobs[job].id,
				  .session = any_session(),
				  .request = ++request,
				  .take = (uint32_t)(1 + roll(6000)),
				  .is_held = roll(2) != 0,
				  .read_hi = seed,
				  .read_lo = 1 + roll(6) };
	struct read_note *n = &reads[roll(32)];
	bool is_read;

	if (roll(6) == 0 && n->is_used) {
		repeat_lookup(n);
		return;
	}
	n = o && o->reads ? read_find_note(o, req.read_hi, req.read_lo) : NULL;
	r = slot_look(&t, req, path);
	if (!jobs[job].lives) {
		CHECK(r == -EIDRM);
		return;
	}
	if (!o) {
		static struct object list[OBJECTS];
		char prefix[64];

		prefix_of(path, prefix);
		if (missing(job, path) == -ENOENT && sorted(job, prefix, list) > 0)
			CHECK(r == -EISDIR);
		else if (missing(job, path) == -ENODATA &&
			 was_counted(job, path, req.read_lo, jobs[job].consumed[path_index(path)]))
			CHECK(r == -EALREADY);
		else
			CHECK(r == missing(job, path));
		return;
	}
	CHECK(r == 0);
	is_read = o->reads && !was_counted(job, path, req.read_lo, o->version);
	counts[15] += o->reads && !is_read;
	if (is_read && !n && granted(o) == o->reads) {
		CHECK(t.out.must_wait);
		counts[7]++;
		return;
	}
	CHECK(!t.out.must_wait);
	CHECK(t.out.rep.lookup.version == o->version && t.out.rep.lookup.len == o->len);
	check_bytes(o);
	if (n) {
		n->nth_try++;
		n->session = req.session;
		n->request = req.request;
		CHECK(t.out.rep.lookup.hold == n->hold && t.out.rep.lookup.nth_try == n->nth_try);
	} else if (is_read ||
		   (req.is_held && o->extent_count && (req.take < o->len || o->extent_count > 1))) {
		CHECK(t.out.rep.lookup.hold != 0);
		read_new(job, o, &req, is_read);
		counts[8]++;
	} else {
		CHECK(t.out.rep.lookup.hold == 0);
	}
}

static void read_over(struct read_note *n, bool is_confirmed)
{
	n->is_used = false;
	if (n->is_read && is_confirmed && !n->is_ghost) {
		struct object *o = find_any(n->job, n->path);

		CHECK(o && o->version == n->version && counted_count < COUNTED);
		counted[counted_count] = (struct counted_note){ .job = jobs[n->job].id,
								.lo = n->lo,
								.version = n->version };
		snprintf(counted[counted_count++].path, sizeof(n->path), "%s", n->path);
		if (--o->reads == 0) {
			jobs[n->job].consumed[path_index(n->path)] = n->version;
			object_gone(o, FATE_CONSUMED);
			counts[9]++;
		}
	}
}

static void step_release(void)
{
	struct read_note *n = &reads[roll(32)];
	struct release_req req = { .job = jobs[n->job].id,
				   .session = n->session,
				   .hold = n->hold,
				   .nth_try = n->nth_try,
				   .is_confirmed = roll(2) != 0 };

	if (!n->is_used)
		return;
	/* One that has expired, and was not ticked, is gone for the model. */
	slot_tick(&t);
	expire_all();
	if (!n->is_used)
		return;
	if (roll(3) == 0) {
		/* Given up by who never heard which it was. */
		req.hold = 0;
		req.request = n->request;
		req.nth_try = 0;
		req.is_confirmed = false;
		CHECK(catalog_release(t.c, &req, t.now, &t.out) == 0);
		CHECK(!catalog_hold_find(t.c, n->hold));
		read_over(n, false);
		return;
	}
	if (roll(4) == 0)
		req.nth_try--;
	CHECK(catalog_release(t.c, &req, t.now, &t.out) == 0);
	if (!req.is_confirmed && n->is_read && req.nth_try != n->nth_try)
		return;
	read_over(n, req.is_confirmed);
	/* A confirmation that comes again, or late, is told so. */
	CHECK(catalog_release(t.c, &req, t.now, &t.out) == (req.is_confirmed ? -ESTALE : 0));
}

static void step_find(void)
{
	struct read_note *n = &reads[roll(32)];
	struct find_req req = { .job = jobs[n->job].id, .session = n->session, .hold = n->hold };
	struct extent x;
	struct rcur c;
	int r;

	if (!n->is_used || n->first.len == 0)
		return;
	r = catalog_find(t.c, &req, t.now, slot_payload(&t), &t.out);
	CHECK(r == 0 && t.out.rep.find.found > 0 && t.out.rep.find.first == 0);
	c = rcur_make(t.payload, slot_got(&t).len);
	extent_get(&c, &x);
	CHECK(memcmp(&x, &n->first, sizeof(x)) == 0);
	counts[10] += n->is_ghost;
}

static void step_wait(void)
{
	int job = any_job(), r;
	const char *path = any_path(), *directory = DIRECTORIES[roll(DIRECTORY_COUNT)];
	struct object *o = find(job, path);
	uint64_t count = roll(6);
	char prefix[64];

	r = catalog_wait(t.c, jobs[job].id, text(path), t.now, &t.out);
	CHECK(r == (jobs[job].lives ? 0 : -EIDRM));
	if (r == 0) {
		CHECK(t.out.must_wait == !o);
		if (o)
			check_stat(&t.out.rep.stat, o);
	}
	prefix_of(directory, prefix);
	r = catalog_wait_count(t.c, jobs[job].id, text(directory), count, t.now, &t.out);
	CHECK(r == (jobs[job].lives ? 0 : -EIDRM));
	if (r == 0) {
		CHECK(t.out.rep.wait_count.count == directly_in(job, prefix));
		CHECK(t.out.must_wait == (directly_in(job, prefix) < count));
	}
}

/* Ends. */

static uint64_t gone_count; /* segments that went with their process */

/* Nobody comes back: what it had goes as soon as the store has answered. */
static void check_gone(uint64_t session)
{
	slot_duties(&t);
	for (size_t i = 0; i < SEGMENTS; i++) {
		const struct grant *g = &segments[i].g;
		const struct segment *s;

		if (!segments[i].is_used || segments[i].session != session)
			continue;
		s = catalog_segment_find(t.c, g->segment, g->generation);
		CHECK(!s || s->state >= SEGMENT_SEALED);
		CHECK(!s || s->live > 0);
		gone_count++;
	}
}

static void step_session_over(void)
{
	uint64_t *session = &sessions[roll(SESSIONS)];
	bool is_gone = roll(3) == 0;

	if (roll(20) > 0)
		return;
	/* The end takes a few ticks; what expires meanwhile expires before it. */
	slot_tick(&t);
	expire_all();
	CHECK((is_gone ? catalog_session_gone : catalog_session_over)(t.c, *session, t.now,
								      &t.out) == 0);
	slot_tick(&t);
	CHECK(!catalog_session_has(t.c, *session));
	for (size_t i = 0; i < READS; i++)
		if (reads[i].is_used && reads[i].session == *session)
			read_over(&reads[i], false);
	for (size_t i = 0; i < OPENS; i++)
		if (opens[i].session == *session)
			opens[i].is_used = false;
	counts[11]++;
	if (is_gone) {
		check_gone(*session);
	} else if (roll(2)) {
		/* It comes back: what was complete is committed, the rest settled. */
		for (size_t i = 0; i < SEGMENTS; i++) {
			struct segment_note *s = &segments[i];
			struct settle_req req = { .job = jobs[s->job].id,
						  .session = s->session,
						  .segment = s->g.segment,
						  .generation = s->g.generation,
						  .front = s->front,
						  .back = s->back };

			if (!s->is_used || s->session != *session)
				continue;
			CHECK(catalog_settle(t.c, &req, t.now, &t.out) == 0);
			s->is_used = false;
		}
	} else if (roll(2)) {
		slot_duties(&t);
		CHECK(catalog_reclaim(t.c, t.now, &t.out) == 0);
	}
	for (size_t i = 0; i < SEGMENTS; i++)
		if (segments[i].session == *session)
			segments[i].is_used = false;
	*session = next_session++;
}

static void job_gone(int job)
{
	jobs[job].lives = false;
	for (size_t i = 0; i < OBJECTS; i++)
		if (objects[i].job == job)
			objects[i].is_used = false;
	for (size_t i = 0; i < READS; i++)
		if (reads[i].job == job)
			reads[i].is_used = false;
	for (size_t i = 0; i < SEGMENTS; i++)
		if (segments[i].job == job)
			segments[i].is_used = false;
	for (size_t i = 0; i < OPENS; i++)
		if (opens[i].job == job)
			opens[i].is_used = false;
}

static void job_begin(int job)
{
	snprintf(jobs[job].name, sizeof(jobs[job].name), "job%d", job);
	jobs[job].id = slot_job(&t, jobs[job].name, 0);
	jobs[job].version = 0;
	jobs[job].lives = true;
	memset(jobs[job].fates, 0, sizeof(jobs[job].fates));
}

static void step_job(void)
{
	int job = any_job(), r;
	struct job_end_req req = { .name = text(jobs[job].name) };
	uint64_t id;

	if (!jobs[job].lives) {
		if (roll(4) == 0)
			job_begin(job);
		return;
	}
	if (roll(60) == 0) {
		r = catalog_job_end(t.c, &req, t.now, &t.out, &id);
		CHECK(r == 0 && id == jobs[job].id);
		CHECK(catalog_job_end(t.c, &req, t.now, &t.out, &id) == 0);
		job_gone(job);
		counts[12]++;
	} else {
		struct job_renew_req renew = { .name = text(jobs[job].name) };

		CHECK(catalog_job_renew(t.c, &renew, t.now, &t.out) == 0);
	}
}

static void step_time(void)
{
	t.now += roll(200 * MS);
	if (roll(2) == 0)
		return;
	slot_tick(&t);
	expire_all();
	/* Reads that nobody confirmed for long are given back. */
	for (size_t i = 0; i < READS; i++)
		if (reads[i].is_used && reads[i].is_read && !catalog_hold_find(t.c, reads[i].hold))
			reads[i].is_used = false;
}

static void step_duties(void)
{
	struct duty d;

	for (uint64_t n = roll(8); n > 0 && catalog_duty(t.c, STORE, &d); n--) {
		/* Answered, lost on its way, or answered and the answer lost. */
		uint64_t luck = roll(4);
		int r = luck == 0 ? -ETIMEDOUT : stored_take(&t, &d);

		if (luck == 1)
			r = -ECONNRESET;
		CHECK(catalog_duty_done(t.c, &d, r, t.now, &t.out) == 0);
	}
}

/* What the jobs pay for is what the store and the values had. */
static void check_sums(void)
{
	struct catalog_sums sums;
	uint64_t used = 0;

	slot_tick(&t);
	expire_all();
	slot_duties(&t);
	catalog_sums(t.c, t.now, &sums);
	for (size_t i = 0; i < t.stored_count; i++)
		used += t.stored[i].is_used ? t.stored[i].booked : 0;
	CHECK(used == t.account.bytes);
	CHECK(sums.byte_ns == account_integral(&t.account, t.now) + sums.value_byte_ns);
}

static void check_everything(void)
{
	const char *why = catalog_check(t.c);

	if (why)
		printf("broken: %s\n", why);
	CHECK(!why);
	check_stores();
	why = slot_replay(&t);
	if (why)
		printf("%s\n", why);
	CHECK(!why);
}

/* Snapshots are taken beside the steps; what is restored of one, with the log since, is the same.
 */
static void step_snapshot(void)
{
	if (!catalog_snapshot_is_running(t.c)) {
		if (t.image_count > 0 && roll(100) == 0)
			compare_restored();
		if (roll(20) == 0) {
			pace = 1 + roll(roll(2) ? 3 : 40);
			slot_snapshot_begin(&t);
		}
	} else if (roll(pace) == 0 &&
		   !catalog_snapshot_step(t.c, 1 + (unsigned)roll(roll(2) ? 4 : 4000)) &&
		   roll(2) == 0) {
		compare_restored();
	}
}

static void (*const STEPS[])(void) = {
	step_put_value,   step_put_value,   step_put_value, step_put_extents, step_put_extents,
	step_lease,       step_settle,      step_open,      step_extend,      step_extend,
	step_extend,      step_commit_open, step_drop,      step_remove,      step_rename,
	step_stat,        step_list,        step_lookup,    step_lookup,      step_lookup,
	step_release,     step_release,     step_find,      step_wait,        step_session_over,
	step_job,         step_repeat,      step_repeat,    step_time,        step_duties,
	step_remove_tree, step_move,
};

static void end_all(void)
{
	struct catalog_sums sums;
	uint64_t id;

	for (int i = 0; i < JOBS; i++) {
		struct job_end_req req = { .name = text(jobs[i].name) };

		if (jobs[i].lives)
			CHECK(catalog_job_end(t.c, &req, t.now, &t.out, &id) == 0);
		job_gone(i);
	}
	slot_tick(&t);
	slot_duties(&t);
	slot_tick(&t);
	check_sums();
	check_everything();
	catalog_sums(t.c, t.now, &sums);
	CHECK(sums.job_count == 0 && sums.object_count == 0 && sums.segment_count == 0);
	CHECK(sums.value_bytes == 0 && t.account.bytes == 0);
	for (int i = 0; i < SESSIONS; i++)
		CHECK(!catalog_session_has(t.c, sessions[i]));
}

int main(int argc, char **argv)
{
	program = argv[0];
	seed = argc > 1              ? strtoull(argv[1], NULL, 0)
	       : getenv("WADI_SEED") ? strtoull(getenv("WADI_SEED"), NULL, 0)
				     : 1;
	step_count = argc > 2 ? strtoull(argv[2], NULL, 0) : 100000;
	state = seed;
	printf("seed %" PRIu64 "\n", seed);
	notes = calloc(ATTEMPTS, sizeof(*notes));
	slot_open(&t);
	for (int i = 0; i < JOBS; i++)
		job_begin(i);
	for (int i = 0; i < SESSIONS; i++)
		sessions[i] = next_session++;
	for (step = 0; step < step_count; step++) {
		STEPS[roll(sizeof(STEPS) / sizeof(STEPS[0]))]();
		step_snapshot();
		if (roll(50) == 0) {
			const char *why = catalog_check(t.c);

			if (why)
				printf("broken: %s\n", why);
			CHECK(!why);
		}
		if (roll(2000) == 0)
			check_everything();
		if (roll(200) == 0)
			check_sums();
	}
	end_all();
	slot_close(&t);
	free(notes);
	printf("%" PRIu64 " effects; repeats %" PRIu64 "+%" PRIu64 " extents %" PRIu64
	       " parts %" PRIu64 " opens %" PRIu64 " renames %" PRIu64 " read waits %" PRIu64
	       " holds %" PRIu64 "+%" PRIu64 " consumed %" PRIu64 " read again %" PRIu64
	       " ghosts %" PRIu64 " sessions %" PRIu64 " jobs %" PRIu64 " moves %" PRIu64
	       " restores %" PRIu64 "\n",
	       t.effect_count, counts[1], counts[5], counts[2], counts[3], counts[4], counts[6],
	       counts[7], counts[8], counts[14], counts[9], counts[15], counts[10], counts[11],
	       counts[12], counts[13], restore_count);
	return 0;
}
