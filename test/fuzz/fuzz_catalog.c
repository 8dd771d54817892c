/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog, asked whatever a shard may pass on to it: it answers with statuses that
 * the protocol has, everything holds afterwards, and its log leads another catalog to
 * the same state.
 *
 * The input: a byte that says whether states are compared too, then requests.
 */
#include "slot.h"

#define REQUESTS_MAX 64

static uint8_t payload[LIST_BYTES];

struct asking {
	struct slot *t;
	struct fields *f;
	struct wcur w;
};

/* Requests that are a message, and no more. */
#define PLAIN(P)                    \
	P(JOB_RENEW, job_renew)     \
	P(REMOVE, remove)           \
	P(REMOVE_TREE, remove_tree) \
	P(RENAME, rename)           \
	P(OPEN, open)               \
	P(DROP, drop)               \
	P(SETTLE, settle)           \
	P(RELEASE, release)

/* Those with a list behind the answer. */
#define LISTED(P)         \
	P(LIST, list)     \
	P(LOOKUP, lookup) \
	P(FIND, find)

enum what {
#define P(NAME, name) ASK_##NAME,
	PLAIN(P) LISTED(P)
#undef P
		ASK_JOB_CREATE,
	ASK_JOB_END,
	ASK_JOB_SHOW,
	ASK_JOB_LIST,
	ASK_COMMIT_VALUE,
	ASK_COMMIT_EXTENTS,
	ASK_EXTEND,
	ASK_STAT,
	ASK_WAIT,
	ASK_WAIT_COUNT,
	ASK_LEASE,
	ASK_RECLAIM,
	ASK_SESSION_OVER,
	ASK_TICK,
	ASK_DUTY,
	ASK_COMPARE,
	ASK_OVER,
	ASK_SESSION_GONE,
	ASK_COUNT
};

static void job_create(struct asking *a)
{
	struct job_create_req req;

	FILL(JOB_CREATE_REQ, a->f, &req)
	if (catalog_job_create(a->t->c, &req, a->t->now, &a->t->out) == 0)
		LEARN(JOB_CREATE_REP, a->f, &a->t->out.rep.job_create)
}

static int commit_value(struct asking *a)
{
	uint64_t n = take(&a->f->in, 1) * 16;
	struct commit_req req;
	struct slice v;

	FILL(COMMIT_REQ, a->f, &req)
	v = fields_room(a->f, n);
	memset((uint8_t *)v.ptr, 'v', v.len);
	req.extent_count = 0;
	req.len = v.len;
	req.crc = crc_more(crc_begin(req.seed), v.ptr, v.len);
	return catalog_commit(a->t->c, &req, v, a->t->now, &a->t->out);
}

static uint64_t extents_len(struct slice extents)
{
	struct rcur c = rcur_make(extents.ptr, extents.len);
	uint64_t len = 0;

	while (c.p < c.end) {
		struct extent x;

		extent_get(&c, &x);
		len += x.len;
	}
	return len;
}

/* In place, or nearly so: behind each other in a segment that is known. */
static struct slice extents(struct fields *f, uint32_t *ret_count)
{
	struct slice s;

	*ret_count = (uint32_t)take(&f->in, 1) % 4;
	s = FILL_RECORDS(f, EXTENT, extent, *ret_count);
	return s;
}

static int commit_extents(struct asking *a)
{
	struct commit_req req;
	struct slice list;

	FILL(COMMIT_REQ, a->f, &req)
	list = extents(a->f, &req.extent_count);
	req.len = extents_len(list);
	return catalog_commit(a->t->c, &req, list, a->t->now, &a->t->out);
}

static int extend(struct asking *a)
{
	struct extend_req req;
	struct slice list;

	FILL(EXTEND_REQ, a->f, &req)
	list = extents(a->f, &req.extent_count);
	return catalog_extend(a->t->c, &req, list, a->t->now, &a->t->out);
}

/* Asked for, and granted as a store would, or one that is broken. */
static int lease(struct asking *a)
{
	struct slot *t = a->t;
	struct lease_req req;
	struct slice grants;
	uint64_t bytes;
	int r;

	FILL(LEASE_REQ, a->f, &req)
	r = catalog_lease(t->c, &req, SEGMENT_BYTES_MAX, t->now, &a->w, &t->out);
	if (r < 0 || !t->out.ask.is_needed)
		return r;
	REQUIRE(t->out.ask.size >= SEGMENT_BYTES_MIN && t->out.ask.size <= SEGMENT_BYTES_MAX);
	bytes = t->out.ask.bytes;
	grants = FILL_RECORDS(a->f, GRANT, grant, 1 + take(&a->f->in, 1) % 2);
	catalog_ask_over(t->c, req.job, bytes);
	if (take(&a->f->in, 1) % 8 == 0)
		req.session = 0;
	r = catalog_grant(t->c, &req, t->now, grants, t->now, &t->out);
	if (r == 0) {
		struct rcur c = rcur_make(grants.ptr, grants.len);
		struct grant g;

		while (c.p < c.end) {
			grant_get(&c, &g);
			LEARN(GRANT, a->f, &g)
			/* Now here, now there. */
			REQUIRE(catalog_store_known(t->c, g.store,
						    words(t->now / SECOND % 2 ? "tcp://store:1"
									      : "tcp://store:2"),
						    t->now, &t->out) == 0);
		}
		LEARN(LEASE_REQ, a->f, &req)
	}
	return r == -EBADMSG ? 0 : r; /* grants that make no sense */
}

static int duty(struct asking *a)
{
	static const int RESULTS[] = { 0, 0, 0, -ESTALE, -ECONNRESET };
	struct duty d;

	if (!catalog_duty(a->t->c, fields_number(a->f, -1, 8) % 2 ? STORE : 1, &d))
		return 0;
	return catalog_duty_done(a->t->c, &d, RESULTS[take(&a->f->in, 1) % 5], a->t->now,
				 &a->t->out);
}

/* The store has what it says, and nothing else. */
static void compare(struct asking *a)
{
	uint64_t store = take(&a->f->in, 1) % 2 ? STORE : fields_number(a->f, -1, 8);

	catalog_compare_begin(a->t->c, store);
	for (uint64_t n = take(&a->f->in, 1) % 4; n > 0; n--) {
		struct segment_entry e;

		FILL(SEGMENT_ENTRY, a->f, &e)
		(void)catalog_compare(a->t->c, &e);
	}
	for (int i = 0; i < 8 && catalog_compare_end(a->t->c, store, a->t->now, &a->t->out); i++)
		;
}

static void tick(struct asking *a)
{
	static const uint64_t STEPS[] = {
		1, 1000000, SECOND, 10 * SECOND, 61 * SECOND, 400 * SECOND
	};

	a->t->now += STEPS[take(&a->f->in, 1) % (sizeof(STEPS) / sizeof(*STEPS))];
	slot_tick(a->t);
}

static void look(struct asking *a, enum what what)
{
	struct slot *t = a->t;
	struct wait_count_req req;
	uint64_t ended;
	struct job_end_req end;
	struct job_show_req show;
	struct job_list_req list;
	uint32_t count = 0;

	FILL(WAIT_COUNT_REQ, a->f, &req)
	if (what == ASK_STAT)
		(void)catalog_stat(t->c, req.job, req.directory, t->now, &t->out);
	if (what == ASK_WAIT)
		(void)catalog_wait(t->c, req.job, req.directory, t->now, &t->out);
	if (what == ASK_WAIT_COUNT)
		(void)catalog_wait_count(t->c, req.job, req.directory, req.count, t->now, &t->out);
	if (what == ASK_JOB_END) {
		FILL(JOB_END_REQ, a->f, &end)
		(void)catalog_job_end(t->c, &end, t->now, &t->out, &ended);
	}
	if (what == ASK_JOB_SHOW) {
		FILL(JOB_SHOW_REQ, a->f, &show)
		(void)catalog_job_show(t->c, &show, t->now, &t->out);
	}
	if (what == ASK_JOB_LIST) {
		FILL(JOB_LIST_REQ, a->f, &list)
		(void)catalog_job_list(t->c, list.after, t->now, &a->w, &count);
	}
}

static int ask(struct asking *a, enum what what)
{
	struct slot *t = a->t;
	int r = 0;

	switch (what) {
#define P(NAME, name)                                             \
	case ASK_##NAME: {                                        \
		struct name##_req req;                            \
                                                                  \
		FILL(NAME##_REQ, a->f, &req)                      \
		r = catalog_##name(t->c, &req, t->now, &t->out);  \
		if (r == 0)                                       \
			LEARN(NAME##_REP, a->f, &t->out.rep.name) \
		return r;                                         \
	}
		PLAIN(P)
#undef P
#define P(NAME, name)                                                   \
	case ASK_##NAME: {                                              \
		struct name##_req req;                                  \
                                                                        \
		FILL(NAME##_REQ, a->f, &req)                            \
		r = catalog_##name(t->c, &req, t->now, &a->w, &t->out); \
		REQUIRE(r < 0 || wcur_finish(&a->w) >= 0);              \
		if (r == 0 && !t->out.must_wait)                        \
			LEARN(NAME##_REP, a->f, &t->out.rep.name)       \
		return r;                                               \
	}
		LISTED(P)
#undef P
	case ASK_JOB_CREATE:
		job_create(a);
		break;
	case ASK_COMMIT_VALUE:
		r = commit_value(a);
		break;
	case ASK_COMMIT_EXTENTS:
		r = commit_extents(a);
		break;
	case ASK_EXTEND:
		r = extend(a);
		break;
	case ASK_LEASE:
		return lease(a);
	case ASK_JOB_END:
	case ASK_JOB_SHOW:
	case ASK_JOB_LIST:
	case ASK_STAT:
	case ASK_WAIT:
	case ASK_WAIT_COUNT:
		look(a, what);
		break;
	case ASK_RECLAIM:
		return catalog_reclaim(t->c, t->now, &t->out);
	case ASK_SESSION_OVER:
		return catalog_session_over(t->c, fields_number(a->f, KNOWN_PLACE("session"), 8),
					    t->now, &t->out);
	case ASK_SESSION_GONE:
		return catalog_session_gone(t->c, fields_number(a->f, KNOWN_PLACE("session"), 8),
					    t->now, &t->out);
	case ASK_TICK:
		tick(a);
		break;
	case ASK_DUTY:
		return duty(a);
	case ASK_COMPARE:
		compare(a);
		break;
	case ASK_OVER:
		(void)catalog_job_over(t->c);
		break;
	case ASK_COUNT:
		break;
	}
	return r;
}

static void replay(const struct slot *t, bool is_compared)
{
	struct slot other;
	struct rcur c = rcur_make(slot_log_bytes, t->log_len);
	char *a, *b;

	slot_open(&other);
	while (c.p < c.end) {
		struct rcur at = c;
		struct effect e;

		if (catalog_replay(other.c, &c) == 0)
			continue;
		REQUIRE(effect_get(&at, &e) == 0);
		fprintf(stderr, "not taken from the log: %s\n%s", effect_name(e.kind),
			catalog_dump(other.c));
		abort();
	}
	slot_must_hold(other.c);
	if (is_compared) {
		a = catalog_dump(t->c);
		b = catalog_dump(other.c);
		REQUIRE(a && b && strcmp(a, b) == 0);
		node_free(a);
		node_free(b);
	}
	catalog_free(other.c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct fields f;
	struct slot t;
	struct asking a = { &t, &f, {} };
	bool is_compared;

	slots_begin();
	fields_init(&f, bytes_of(data, len));
	is_compared = take(&f.in, 1) % 4 == 0;
	slot_open(&t);
	slot_fill(&t, &f);
	for (int i = 0; i < REQUESTS_MAX && bytes_left(&f.in) > 0; i++) {
		int r;

		f.used = 0;
		a.w = wcur_make(payload, sizeof(payload));
		t.out.detail[0] = '\0';
		r = ask(&a, (enum what)(take(&f.in, 1) % ASK_COUNT));
		/* Nothing comes out of it that the wire has no word for. */
		REQUIRE(r <= 0 && (r == 0 || (status_of(r) != STATUS_INTERNAL && r != -EBADMSG)));
	}
	slot_must_hold(t.c);
	replay(&t, is_compared);
	catalog_free(t.c);
	slots_end();
	return 0;
}

void fuzz_seeds(void)
{
	uint8_t bytes[512];

	for (int n = 0; n < 4; n++) {
		char name[16];

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)(i * (size_t)(31 + 2 * n) % 227);
		snprintf(name, sizeof(name), "mixed-%d", n);
		fuzz_seed(name, bytes, sizeof(bytes));
	}
	for (uint8_t what = 0; what < ASK_COUNT; what++) {
		char name[16];

		memset(bytes, 0, 64);
		for (size_t i = 1; i < 64; i += 9)
			bytes[i] = what;
		snprintf(name, sizeof(name), "each-%u", what);
		fuzz_seed(name, bytes, 64);
	}
}
