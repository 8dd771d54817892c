/* SPDX-License-Identifier: Apache-2.0 */
#include "workload.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/container.h"
#include "base/node.h"

#define MS        1000000ull
#define BYTES_MAX (6u << 20)

/* Paths of a kind; each kind is used for something of its own. */
enum { PLAIN = 0, MOVED = 8, SHORT_LIVED = 12, COUNTED = 16, TREE = 20, LARGE = 26, PATHS = 30 };
/* Behind them: what is tried when all is whole again, and where that is moved. */
enum { TRIED = PATHS, TRIED_TO };

static const struct {
	unsigned first, count;
	const char *format;
} KINDS[] = {
	{ PLAIN, MOVED - PLAIN, "k%u" },
	{ MOVED, SHORT_LIVED - MOVED, "m%u" },
	{ SHORT_LIVED, COUNTED - SHORT_LIVED, "t%u" },
	{ COUNTED, TREE - COUNTED, "r%u" },
	{ TREE, LARGE - TREE, "d/x%u" },
	{ LARGE, PATHS - LARGE, "big/%u" },
	{ TRIED, 2, "p%u" },
};
_Static_assert(TRIED_TO < MODEL_PATHS, "the model knows them all");

static const char *path_name(unsigned path, char buf[24])
{
	for (size_t i = sizeof(KINDS) / sizeof(KINDS[0]); i > 0; i--)
		if (path >= KINDS[i - 1].first) {
			snprintf(buf, 24, KINDS[i - 1].format, path - KINDS[i - 1].first);
			return buf;
		}
	return "";
}

static struct slice slice_of(const char *text)
{
	return (struct slice){ (const uint8_t *)text, strlen(text) };
}

static struct process *process_of(const struct script *s)
{
	return s->wl->c->clients[s->index];
}

static uint64_t now(const struct script *s)
{
	return sim_now_ns(s->wl->c->sim);
}

static uint64_t roll(struct script *s)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return s->random * 0x2545f4914f6cdd1du >> 11;
}

static uint64_t below(struct script *s, uint64_t count)
{
	return count ? roll(s) % count : 0;
}

static void say(struct script *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct script *s, const char *format, ...)
{
	va_list args;

	if (!getenv("SIM_TRACE"))
		return;
	printf("%12.6f %s job %s: ", (double)now(s) / 1e9, process_of(s)->name,
	       s->gen ? s->gen->name : "-");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

static void nap(struct script *s, uint64_t ms)
{
	(void)waitq_wait(&s->sleep, s->op.w->loop->now_ns + ms * MS + 1);
}

static void use_proxy(struct script *s, unsigned proxy)
{
	struct wadi *w = s->op.w;

	if (w->conn)
		conn_close(w->conn);
	w->conn = NULL;
	if (!w->direct)
		w->address = cluster_proxy(s->wl->c, proxy);
	s->proxy = proxy;
}

/* Whose token the handle has. */
static void use_job(struct script *s, struct gen *g)
{
	if (s->gen == g)
		return;
	s->gen = g;
	if (process_of(s)->roles & RUNS_DIRECT) {
		process_attach(process_of(s), g->token);
		return;
	}
	snprintf(s->op.w->token, sizeof(s->op.w->token), "%s", g ? g->token : "");
	use_proxy(s, s->proxy);
}

/* What an answer means. */
enum meaning {
	YES,
	NO,      /* and nothing of it will ever be */
	UNKNOWN, /* perhaps it was done, perhaps it will be */
	OVER,    /* the job is */
};

static bool may_be_over(const struct model *m, const struct gen *g, uint64_t now_ns)
{
	return g->end_begun_ns <= now_ns ||
	       now_ns >= model_lasts_until(m, g->renewed_ns + g->lease_ns) || g->power_ns > 0;
}

struct
try {
	uint64_t begun_ns, attempt_hi, attempt_lo;
	unsigned tries, connection; /* connection: the one that it goes through */
	bool is_uncertain;          /* it was sent more than once */
	bool is_open; /* it is of several questions, and each needs what the first found */
};

static struct try try_begin(struct script *s)
{
	return (struct try){ .begun_ns = now(s),
			     .attempt_hi = roll(s) | 1,
			     .attempt_lo = roll(s),
			     .connection = s->op.w->connection + !s->op.w->conn };
}

/*
 * What may be said because something is broken: that it was not done in time, or not this time,
 * that no store with room answers, or that the log has no memory, without its keeper; and that what
 * an earlier question found is gone.
 */
static bool is_of_trouble(const struct try *t, int r)
{
	return r == -ETIMEDOUT || r == -EHOSTUNREACH || r == -ECONNRESET || r == -EAGAIN ||
	       r == -ENOSPC || r == -ENOBUFS || (r == -ESTALE && t->is_open);
}

/*
 * `may`: errors that are answers, up to 0. Everything that is neither 0 nor one of them
 * needs some trouble as an excuse, and most have none.
 */
static enum meaning meaning_of(struct script *s, struct try *t, const char *verb, unsigned path,
			       int r, const int *may)
{
	struct model *m = s->wl->m;
	char name[24];
	bool is_trouble = model_is_trouble(m, 1u << s->index, t->begun_ns, now(s));

	say(s, "%s %s: %s %s", verb, path_name(path, name), wadi_status_name(r),
	    r < 0 ? s->op.why : "");
	if (s->op.w->connection > t->connection)
		t->is_uncertain = true;
	if (r >= 0)
		return YES;
	if (r == -EIDRM || r == -ENXIO || (r == -EKEYREJECTED && s->gen)) {
		if (!may_be_over(s->wl->m, s->gen, now(s)))
			model_fail(m, "%s %s of job %s: %s %s, but nobody ended it", verb,
				   path_name(path, name), s->gen->name, wadi_status_name(r),
				   s->op.why);
		return OVER;
	}
	/* It waited for its job's quota to the last, and then the room was at the other store. */
	if (r == -ETIMEDOUT && s->gen && s->gen->quota && s->wl->c->shape.is_near)
		return UNKNOWN;
	for (; *may; may++)
		if (r == *may)
			return t->is_uncertain || (is_trouble && is_of_trouble(t, r)) ? UNKNOWN
										      : NO;
	if (!is_of_trouble(t, r))
		model_fail(m, "%s %s of job %s: %s %s, and nothing explains that", verb,
			   path_name(path, name), s->gen->name, wadi_status_name(r), s->op.why);
	if (!is_trouble && !may_be_over(s->wl->m, s->gen, now(s)))
		model_fail(m, "%s %s of job %s: %s %s, and nothing was wrong", verb,
			   path_name(path, name), s->gen->name, wadi_status_name(r), s->op.why);
	return UNKNOWN;
}

/* Not answered: once more? */
static bool again(struct script *s, struct try *t, enum meaning what)
{
	bool is_crowded = s->wl->c->shape.is_crowded;

	/* Else what it put through this proxy waits for the same as what comes late. */
	if (what == UNKNOWN && is_crowded)
		use_proxy(s, (s->proxy + 1) % SHAPE_PROXIES);
	if (what != UNKNOWN || ++t->tries > 5 || below(s, is_crowded ? 2 : 10) == 0 ||
	    s->wl->m->failure[0])
		return false;
	t->is_uncertain = true;
	if (below(s, 3) == 0)
		use_proxy(s, (unsigned)below(s, SHAPE_PROXIES));
	nap(s, below(s, 5) == 0 ? below(s, 20000) : below(s, 300));
	return true;
}

/* Errors that a put may be answered with although nothing is broken: up to 0. */
struct answers {
	int list[7];
};

static struct answers put_may(const struct script *s, uint32_t flags, const struct write *w)
{
	struct answers a = { 0 };
	unsigned n = 0;

	if (flags & WADI_CREATE)
		a.list[n++] = -EEXIST;
	if (w->if_version)
		a.list[n++] = -EBADE;
	if (s->gen->quota)
		a.list[n++] = -EDQUOT;
	if (s->wl->plan.is_tight) {
		a.list[n++] = -ENOSPC;
		a.list[n++] = -ETIMEDOUT;
		a.list[n++] = -EHOSTUNREACH;
	}
	return a;
}

/* Puts. */

static size_t choose_len(struct script *s)
{
	static const size_t edges[] = {
		0, 1, 7, 8, 2047, 2048, 2049, 65535, 65536, 65537, 1048577
	};
	size_t len;

	switch (s->wl->c->shape.is_crowded ? 4 + below(s, 4) : below(s, 8)) {
	case 0:
		len = edges[below(s, sizeof(edges) / sizeof(edges[0]))];
		break;
	case 1:
	case 2:
	case 3:
		len = below(s, 2049);
		break;
	case 4:
	case 5:
	case 6:
		len = below(s, 70000);
		break;
	default:
		len = below(s, s->wl->plan.len_max);
		break;
	}
	return len < s->wl->plan.len_max ? len : s->wl->plan.len_max;
}

static void put_options(struct script *s, struct put_how *how, const struct write *w,
			const struct try *t, uint32_t flags, const char *name)
{
	put_how_init(s->op.w, how, NULL);
	how->options.attempt.hi = w->attempt_hi;
	how->options.attempt.lo = w->attempt_lo;
	how->options.flags = flags;
	how->options.if_version = w->if_version;
	how->options.ttl_ms = w->ttl_ms;
	how->options.reads = w->reads;
	how->path = slice_of(name);
	/* When it was begun, in the node's time. */
	how->begun_ns = node_now_ns() - (now(s) - t->begun_ns);
}

static void put_ended(struct script *s, struct look *l, struct write *w, enum meaning what,
		      uint64_t version, bool is_create)
{
	if (what == NO)
		write_failed(w);
	if (what != YES)
		return;
	if (is_create)
		look_missed(l, now(s), "create");
	if (l->g->ended_ns < l->begun_ns)
		model_fail(s->wl->m, "a put into job %s was accepted after its end", l->g->name);
	write_acked(s->wl->m, w, version, now(s));
	if (w->reads == 0)
		s->memory[below(s, 16)] = w;
}

static void do_put(struct script *s, unsigned path, uint32_t flags, bool is_versioned)
{
	struct model *m = s->wl->m;
	struct look l = look_begin(m, s->gen, path, now(s));
	struct write *w = model_write(m, s->gen, path, choose_len(s), now(s));
	struct try t = try_begin(s);
	struct put_how how;
	struct answers may;
	uint64_t version;
	enum meaning what;
	char name[24];
	int r;

	w->attempt_hi = t.attempt_hi;
	w->attempt_lo = t.attempt_lo;
	if (path >= SHORT_LIVED && path < COUNTED)
		w->ttl_ms = 1 + (uint32_t)below(s, 8000);
	if (path >= COUNTED && path < TREE)
		w->reads = 1 + (uint32_t)below(s, 3);
	w->is_value = w->len <= INLINE_BYTES_MAX;
	if (is_versioned && l.top)
		w->if_version = l.top->version;
	may = put_may(s, flags, w);
	write_fill(w, 0, s->buf, w->len);
	do {
		put_options(s, &how, w, &t, flags, path_name(path, name));
		op_progress(&s->op);
		r = (int)put_object(&s->op, &how, s->buf, w->len, &version);
		what = meaning_of(s, &t, "put", path, r, may.list);
	} while (again(s, &t, what));
	if (r == -EEXIST && what == NO)
		look_refused(&l, w, "create");
	if (r == -EBADE && what == NO)
		look_refused_version(&l, w, w->if_version, now(s), "put");
	put_ended(s, &l, w, what, version, flags & WADI_CREATE);
}

/* Once more what was acknowledged before: the answer is the same. */
static void do_again(struct script *s)
{
	struct write *w = s->memory[below(s, 16)];
	struct answers may = { 0 };
	struct try t;
	struct put_how how;
	uint64_t version = 0;
	char name[24];

	if (!w || w->gen != s->gen || w->state != WRITE_ACKED || w->len > s->wl->plan.len_max ||
	    w->is_rename)
		return;
	t = try_begin(s);
	t.begun_ns = w->begun_ns;
	write_fill(w, 0, s->buf, w->len);
	put_options(s, &how, w, &t, 0, path_name(w->path, name));
	op_progress(&s->op);
	/* A put that is repeated still needs room for its bytes before anybody can say so. */
	if (s->wl->plan.is_tight || s->gen->quota)
		may = put_may(s, 0, w);
	if (meaning_of(s, &t, "put again", w->path,
		       (int)put_object(&s->op, &how, s->buf, w->len, &version), may.list) == YES &&
	    w->state == WRITE_ACKED && version != w->version)
		model_fail(
			s->wl->m,
			"job %s path %u: a repeat of write %u is answered with version %llu, not "
			"%llu",
			w->gen->name, w->path, w->number, (unsigned long long)version,
			(unsigned long long)w->version);
}

/* In pieces of several parts, which come in any order. */
#define PARTS_USED 4
struct parts {
	uint64_t from[PARTS_USED], len[PARTS_USED], sent[PARTS_USED];
	unsigned count;
};

static int send_parts(struct script *s, struct upload *u, const struct parts *plan, bool is_lazy)
{
	struct parts p = *plan;

	for (unsigned left = p.count; left > 0;) {
		unsigned i = (unsigned)below(s, p.count);
		uint64_t n = p.len[i] - p.sent[i];
		struct lane *lane;
		int r;

		if (n == 0)
			continue;
		if (n > 300000)
			n = 1 + below(s, 300000);
		lane = upload_lane(&s->op, u);
		if (!lane)
			return u->result;
		r = upload_send(&s->op, u, lane, i, p.sent[i], s->buf + p.from[i] + p.sent[i],
				(uint32_t)n);
		if (r < 0)
			return r;
		p.sent[i] += n;
		left -= p.sent[i] == p.len[i];
		if (is_lazy) {
			nap(s, below(s, 4000));
			op_progress(&s->op);
		}
	}
	return 0;
}

/* Each part from its beginning to its end, in the proxy's memory where that may be. */
static int write_parts(struct script *s, struct upload *u, const struct parts *p, bool is_lazy)
{
	for (unsigned i = 0; i < p->count; i++) {
		int r = 0;

		for (uint64_t at = 0, n; at < p->len[i] && r == 0; at += n) {
			const uint8_t *from = s->buf + p->from[i] + at;
			int64_t there;
			struct lane *lane;

			n = p->len[i] - at < 300000 ? p->len[i] - at : 1 + below(s, 300000);
			there = room_write(&s->op, u, i, at, from, n);
			r = there < 0 ? (int)there : 0;
			if (r == 0 && (uint64_t)there < n) {
				lane = upload_lane(&s->op, u);
				r = lane ? upload_send(&s->op, u, lane, i, at + (uint64_t)there,
						       from + there, (uint32_t)(n - there))
					 : u->result;
			}
			if (is_lazy) {
				nap(s, below(s, 4000));
				op_progress(&s->op);
			}
		}
		if (r == 0)
			r = room_end(&s->op, u);
		if (r < 0)
			return r;
	}
	return 0;
}

static int upload_once(struct script *s, const struct put_how *how, const struct parts *p,
		       uint64_t len, uint64_t *ret_version)
{
	struct upload *u = node_alloc(sizeof(*u));
	bool is_lazy = below(s, 4) == 0;
	int r;

	assert(u);
	r = upload_open(&s->op, u, how, below(s, 2) ? len : 0);
	say(s, "opened an upload of %llu bytes%s: %d, room %llu", (unsigned long long)len,
	    is_lazy ? ", in no hurry" : "", r, (unsigned long long)u->allowed);
	if (r == 0)
		r = u->is_in_place && below(s, 4) ? write_parts(s, u, p, is_lazy)
						  : send_parts(s, u, p, is_lazy);
	say(s, "sent %llu bytes of it: %d, room %llu", (unsigned long long)u->sent, r,
	    (unsigned long long)u->allowed);
	if (r == 0)
		r = upload_commit(&s->op, u, ret_version);
	upload_drop(s->op.w, u);
	node_free(u);
	return r;
}

static void do_upload(struct script *s, unsigned path)
{
	struct model *m = s->wl->m;
	struct look l = look_begin(m, s->gen, path, now(s));
	struct parts p = { .count = 1 + (unsigned)below(s, PARTS_USED) };
	struct try t = try_begin(s);
	struct put_how how;
	struct write *w;
	uint64_t version, len = 0;
	enum meaning what;
	char name[24];

	for (unsigned i = 0; i < p.count; i++) {
		p.from[i] = len;
		p.len[i] = 1 + below(s, s->wl->plan.len_max / 2);
		len += p.len[i];
	}
	w = model_write(m, s->gen, path, len, now(s));
	t.is_open = true;
	w->attempt_hi = t.attempt_hi;
	w->attempt_lo = t.attempt_lo;
	write_fill(w, 0, s->buf, len);
	do {
		put_options(s, &how, w, &t, 0, path_name(path, name));
		op_progress(&s->op);
		what = meaning_of(s, &t, "upload", path, upload_once(s, &how, &p, len, &version),
				  put_may(s, 0, w).list);
	} while (again(s, &t, what));
	put_ended(s, &l, w, what, version, false);
}

/* It hangs up, so the room is its own no more, and keeps what it has mapped of it. */
static void hang_up(struct script *s, struct reserved *v)
{
	use_proxy(s, s->proxy);
	if (s->ghost_count == GHOSTS_MAX)
		return;
	s->ghosts[s->ghost_count++] = (struct ghost){ v->data, v->len };
	v->mapping = NULL;
}

/* Nobody keeps it from writing there, as long as it lives. */
static void haunt(struct script *s)
{
	for (unsigned i = 0; i < s->ghost_count; i++) {
		const struct ghost *g = &s->ghosts[i];
		size_t at = below(s, g->len), most = g->len - at;

		if (below(s, 2))
			memset(g->data + at, 0xee, 1 + below(s, most < 70000 ? most : 70000));
	}
}

/*
 * Room is taken, written by and by, and put when it suits, or never: -ECANCELED. Whatever happens
 * meanwhile, to the function itself too, the bytes are nobody else's.
 */
static int in_place_once(struct script *s, const struct put_how *how, size_t len,
			 uint64_t *ret_version)
{
	struct reserved v;
	bool is_slow = below(s, 8) == 0;
	int r = reserved_begin(&s->op, len, how->begun_ns, &v);

	if (r == 0)
		r = reserved_map(&s->op, &v);
	if (r < 0) {
		reserved_end(s->op.w, &v);
		return is_for_the_socket(r) ? -EOPNOTSUPP : r;
	}
	say(s, "reserved %zu bytes in %u parts%s", len, v.count, is_slow ? ", in no hurry" : "");
	for (size_t at = 0, n; at < len; at += n) {
		n = len - at < 30000 ? len - at : 1 + below(s, 300000);
		if (n > len - at)
			n = len - at;
		memcpy(v.data + at, s->buf + at, n);
		nap(s, below(s, is_slow ? 20000 : 50));
	}
	if (below(s, 6) == 0)
		hang_up(s, &v);
	op_progress(&s->op);
	r = below(s, 10) == 0 || !s->op.w->conn
		    ? -ECANCELED
		    : reserved_put(&s->op, &v, how, NULL, op_since_lately(&s->op), ret_version);
	reserved_end(s->op.w, &v);
	return r;
}

/* As wadi_reserve() and wadi_commit(); after a STALE one, as wadi_put(). */
static int put_in_some_place(struct script *s, const struct put_how *how, size_t len, bool is_again,
			     uint64_t *ret_version)
{
	int r = -EOPNOTSUPP;

	if (!is_again && reserved_is_possible(s->op.w, len))
		r = in_place_once(s, how, len, ret_version);
	return r != -EOPNOTSUPP ? r : (int)put_object(&s->op, how, s->buf, len, ret_version);
}

static void do_in_place(struct script *s, unsigned path)
{
	struct model *m = s->wl->m;
	struct look l = look_begin(m, s->gen, path, now(s));
	size_t most = s->wl->plan.is_tight || below(s, 8) ? s->wl->plan.len_max : BYTES_MAX;
	size_t len = RESERVE_FROM + below(s, most - RESERVE_FROM);
	struct write *w = model_write(m, s->gen, path, len, now(s));
	struct try t = try_begin(s);
	struct put_how how;
	uint64_t version;
	enum meaning what;
	char name[24];

	t.is_open = true;
	w->attempt_hi = t.attempt_hi;
	w->attempt_lo = t.attempt_lo;
	write_fill(w, 0, s->buf, len);
	do {
		int r;

		put_options(s, &how, w, &t, 0, path_name(path, name));
		op_progress(&s->op);
		r = put_in_some_place(s, &how, len, t.tries > 0, &version);
		if (r == -ECANCELED) {
			write_failed(w);
			return;
		}
		what = meaning_of(s, &t, "put in place", path, r, put_may(s, 0, w).list);
	} while (again(s, &t, what));
	put_ended(s, &l, w, what, version, false);
}

/* Gets. */

static const int MAY_MISS[] = { -ENOENT, -ETIME, -ENODATA, -EREMOTEIO, 0 };
static const int MAY_MISS_OR_WAIT[] = { -ENOENT, -ETIME, -ENODATA, -EREMOTEIO, -ETIMEDOUT, 0 };

static bool is_miss(int r)
{
	return r == -ENOENT || r == -ETIME || r == -ENODATA;
}

/* So soon whoever waits is told that what he waits for is there. */
#define TOLD_NS (1000 * MS)

/* Since when what is there must have been seen by who waits in vain; false: by none. */
static bool was_to_be_told(const struct script *s, const struct try *t, uint64_t wait_ms,
			   uint64_t *ret_from_ns)
{
	uint64_t until_ns = t->begun_ns + wait_ms * MS;

	if (until_ns > now(s))
		until_ns = now(s);
	*ret_from_ns = until_ns - TOLD_NS;
	return until_ns >= t->begun_ns + TOLD_NS &&
	       !model_is_trouble(s->wl->m, 1u << s->index, t->begun_ns, now(s));
}

/* It was waited for something at a path, in vain. */
static void waited(struct script *s, const struct try *t, unsigned path, uint64_t wait_ms,
		   const char *verb)
{
	uint64_t from_ns;

	if (was_to_be_told(s, t, wait_ms, &from_ns) &&
	    model_was_there(s->wl->m, s->gen, path, from_ns, now(s)))
		model_fail(s->wl->m,
			   "%s of path %u of job %s waited for %llu ms in vain, and it was there",
			   verb, path, s->gen->name, (unsigned long long)wait_ms);
}

/* What a look at a path was answered, but for the bytes. */
static void looked(struct script *s, struct look *l, int r, const char *verb)
{
	if (r == -EREMOTEIO)
		look_lost(l, now(s), verb);
	else if (is_miss(r))
		look_missed(l, now(s), verb);
}

static void read_ended(struct script *s, struct write *w)
{
	if (w->reads && ++w->read_count > w->reads)
		model_fail(s->wl->m, "job %s path %u: write %u was read %u times, not %u",
			   s->gen->name, w->path, w->number, w->read_count, w->reads);
}

static void do_get(struct script *s, unsigned path, bool is_range, uint32_t wait_ms)
{
	struct look l = look_begin(s->wl->m, s->gen, path, now(s));
	struct try t = try_begin(s);
	struct wadi_stat stat;
	struct get_how how;
	struct write *w;
	uint64_t at = 0, len;
	char name[24];
	int r;

	get_how_init(s->op.w, &how, NULL);
	how.options.read_id.hi = t.attempt_hi;
	how.options.read_id.lo = t.attempt_lo;
	how.path = slice_of(path_name(path, name));
	if (is_range) {
		at = how.options.offset = below(s, 100000);
		how.options.len = 1 + below(s, 100000);
	}
	how.options.wait_ms = wait_ms;
	t.is_open = true;
	reads_begin(s->gen, path);
	op_progress(&s->op);
	r = (int)get_object(&s->op, &how, s->buf, BYTES_MAX, &stat);
	reads_end(s->gen, path);
	if (meaning_of(s, &t, "get", path, r,
		       path >= COUNTED && path < TREE ? MAY_MISS_OR_WAIT : MAY_MISS) != YES) {
		/* What it had asked for was not counted, unless an earlier try of it was. */
		if (is_miss(r) && !t.is_uncertain)
			reads_settle(s->gen, path, NULL);
		if (r == -ENOENT && wait_ms > 0)
			waited(s, &t, path, wait_ms, "get");
		looked(s, &l, r, "get");
		return;
	}
	len = at < stat.len ? stat.len - at : 0;
	if (is_range && len > how.options.len)
		len = how.options.len;
	if ((uint64_t)r != len)
		model_fail(s->wl->m, "get of path %u of job %s: %d bytes of %llu", path,
			   s->gen->name, r, (unsigned long long)len);
	w = look_got(&l, stat.version, stat.len, at, s->buf, (size_t)r, now(s), "get");
	/* Few bytes could be another's. */
	if (!w || w->version != stat.version)
		return;
	read_ended(s, w);
	if (!t.is_uncertain)
		reads_settle(s->gen, path, w);
}

/* As wadi_reader_read(). */
static int read_held(struct script *s, struct got *g, struct near_list *near, uint64_t at,
		     uint64_t len)
{
	int64_t n = near_copy(&s->op, g, near, at, s->buf, len);
	int r = n < 0 ? (int)n : 0;

	if (r == 0 && (uint64_t)n < len)
		r = get_range(&s->op, g, at + (uint64_t)n, s->buf + n, len - (uint64_t)n);
	return r == 0 && n > 0 ? get_check(&s->op, g) : r;
}

/* Reads a version piece by piece, whatever becomes of its path meanwhile. */
static void do_held(struct script *s, unsigned path)
{
	static const int may[] = { -EREMOTEIO, 0 };
	struct look l = look_begin(s->wl->m, s->gen, path, now(s)), on = l;
	struct try t = try_begin(s);
	struct get_how how;
	struct wadi_stat stat;
	struct got got = { .ret_stat = &stat };
	struct near_list near = { 0 };
	char name[24];
	int r;

	t.is_open = true;
	get_how_init(s->op.w, &how, NULL);
	how.path = slice_of(path_name(path, name));
	how.near_from = near_is_possible(s->op.w) ? NEAR_FROM : 0;
	op_progress(&s->op);
	r = get_begin(&s->op, &how, s->buf, 1 + (uint32_t)below(s, 66000), &got);
	if (meaning_of(s, &t, "hold", path, r, MAY_MISS) != YES) {
		looked(s, &l, r, "hold");
		return;
	}
	look_got(&l, stat.version, stat.len, 0, s->buf, got.len, now(s), "hold");
	for (uint64_t at = got.len, n; at < stat.len && !s->wl->m->failure[0]; at += n) {
		n = 1 + below(s, 400000);
		if (n > stat.len - at)
			n = stat.len - at;
		nap(s, below(s, 2) ? 0 : below(s, 3000));
		/* A version that was held before the power was cut may be another's now. */
		if (l.begun_ns > s->gen->power_ns)
			on.begun_ns = now(s);
		op_progress(&s->op);
		r = read_held(s, &got, &near, at, n);
		/* What is removed by its own time is no reason: it is held. */
		if (meaning_of(s, &t, "held", path, r, may) != YES) {
			looked(s, &l, r, "held");
			break;
		}
		look_got(&on, stat.version, stat.len, at, s->buf, n, now(s), "held");
	}
	node_free(near.bytes);
	get_forget(s->op.w, &got);
}

/* Names. */

static int ask(struct script *s, struct question *q, struct wcur *w)
{
	struct conn *c;
	int r;

	op_progress(&s->op);
	r = handle_conn(&s->op, &c);
	return r < 0 ? r : question_ask(q, w, NULL);
}

static void do_stat(struct script *s, unsigned path)
{
	struct look l = look_begin(s->wl->m, s->gen, path, now(s));
	struct try t = try_begin(s);
	struct question q;
	struct wcur w = question_begin(&s->op, &q, MSG_STAT);
	struct stat_rep rep;
	struct rcur body;
	char name[24];
	int r;

	stat_req_put(&w, &(struct stat_req){ .job = s->op.w->job,
					     .path = slice_of(path_name(path, name)) });
	r = ask(s, &q, &w);
	body = call_reply(&q.call);
	if (r == 0)
		r = stat_rep_get(&body, &rep);
	if (meaning_of(s, &t, "stat", path, r, MAY_MISS) == YES) {
		look_saw(&l, rep.version, now(s), "stat");
		look_reads(&l, rep.version, rep.reads_left, "stat");
	} else {
		looked(s, &l, r, "stat");
	}
	question_end(&q);
}

static int wait_for(struct script *s, unsigned path, uint64_t wait_ms, uint64_t *ret_version)
{
	struct question q;
	struct wcur w = question_begin(&s->op, &q, MSG_WAIT);
	struct stat_rep rep;
	struct rcur body;
	struct conn *c;
	char name[24];
	int r;

	wait_req_put(&w, &(struct wait_req){ .job = s->op.w->job,
					     .path = slice_of(path_name(path, name)) });
	op_progress(&s->op);
	r = handle_conn(&s->op, &c);
	s->op.due_ns = s->op.w->loop->now_ns + wait_ms * MS;
	if (r == 0)
		r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = stat_rep_get(&body, &rep);
	if (r == 0)
		*ret_version = rep.version;
	question_end(&q);
	return r;
}

static void do_wait(struct script *s, unsigned path)
{
	struct look l = look_begin(s->wl->m, s->gen, path, now(s));
	struct try t = try_begin(s);
	uint64_t wait_ms = below(s, 5000), version = 0;
	int r = wait_for(s, path, wait_ms, &version);

	if (meaning_of(s, &t, "wait", path, r, (const int[]){ -ETIMEDOUT, 0 }) == YES)
		look_saw(&l, version, now(s), "wait");
	else if (r == -ETIMEDOUT)
		waited(s, &t, path, wait_ms, "wait");
}

/* It is asked before `make` puts something there, and heard afterwards. */
static int wait_beside(struct script *s, unsigned path, uint64_t wait_ms,
		       void (*make)(struct script *s, unsigned path), uint64_t *ret_version)
{
	struct wadi *w = s->op.w;
	struct call call = { 0 };
	struct stat_rep rep;
	struct wcur out;
	struct rcur body;
	struct conn *c;
	char name[24];
	int r;

	op_progress(&s->op);
	r = handle_conn(&s->op, &c);
	if (r < 0)
		return r;
	out = call_body(w->net, &call);
	wait_req_put(&out,
		     &(struct wait_req){ .job = w->job, .path = slice_of(path_name(path, name)) });
	call_send(c, &call, MSG_WAIT, slot_of_id(w->job), &out, NULL,
		  w->loop->now_ns + wait_ms * MS);
	make(s, path);
	r = call_wait(&call);
	body = call_reply(&call);
	if (r == 0)
		r = stat_rep_get(&body, &rep);
	if (r == 0)
		*ret_version = rep.version;
	call_end(&call);
	return r;
}

static void put_there(struct script *s, unsigned path)
{
	do_put(s, path, 0, false);
}

static void do_wait_and_put(struct script *s, unsigned path)
{
	struct look l = look_begin(s->wl->m, s->gen, path, now(s));
	struct try t = try_begin(s);
	uint64_t wait_ms = 1000 + below(s, 8000), version = 0;
	int r = wait_beside(s, path, wait_ms, put_there, &version);

	/* Where the put asked through another proxy, the connection is gone. */
	if (meaning_of(s, &t, "wait", path, r, (const int[]){ -ETIMEDOUT, -ECONNRESET, 0 }) == YES)
		look_saw(&l, version, now(s), "wait");
	else if (r == -ETIMEDOUT)
		waited(s, &t, path, wait_ms, "wait");
}

/* Of the names in the directory, those that were there all the time since then. */
static unsigned count_there(const struct script *s, uint64_t from_ns)
{
	unsigned n = 0;

	for (unsigned i = TREE; i < LARGE; i++)
		n += model_was_there(s->wl->m, s->gen, i, from_ns, now(s));
	return n;
}

static int wait_for_count(struct script *s, uint64_t count, uint64_t wait_ms, uint64_t *ret_count)
{
	struct question q;
	struct wcur w = question_begin(&s->op, &q, MSG_WAIT_COUNT);
	struct wait_count_rep rep;
	struct rcur body;
	struct conn *c;
	int r;

	wait_count_req_put(&w, &(struct wait_count_req){ .job = s->op.w->job,
							 .count = count,
							 .directory = slice_of("d/") });
	op_progress(&s->op);
	r = handle_conn(&s->op, &c);
	s->op.due_ns = s->op.w->loop->now_ns + wait_ms * MS;
	if (r == 0)
		r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = wait_count_rep_get(&body, &rep);
	if (r == 0)
		*ret_count = rep.count;
	question_end(&q);
	return r;
}

static void do_wait_count(struct script *s)
{
	uint64_t wanted = 1 + below(s, LARGE - TREE), wait_ms = below(s, 5000);
	uint64_t there = 0, most = 0, from_ns;
	struct look looks[LARGE - TREE];
	struct try t = try_begin(s);
	enum meaning what;
	int r;

	for (unsigned i = 0; i < LARGE - TREE; i++)
		looks[i] = look_begin(s->wl->m, s->gen, TREE + i, now(s));
	r = wait_for_count(s, wanted, wait_ms, &there);
	for (unsigned i = 0; i < LARGE - TREE; i++)
		most += look_may_see(&looks[i], NULL);
	what = meaning_of(s, &t, "wait for a number", TREE, r, (const int[]){ -ETIMEDOUT, 0 });
	if (what == YES && (there < wanted || (there > most && t.begun_ns > s->gen->power_ns)))
		model_fail(s->wl->m,
			   "job %s: who waited for %llu names in a directory is told of %llu, and "
			   "there can be %llu",
			   s->gen->name, (unsigned long long)wanted, (unsigned long long)there,
			   (unsigned long long)most);
	if (r == -ETIMEDOUT && was_to_be_told(s, &t, wait_ms, &from_ns) &&
	    count_there(s, from_ns) >= wanted)
		model_fail(s->wl->m, "job %s: %llu names in a directory were waited for in vain",
			   s->gen->name, (unsigned long long)wanted);
}

static int ask_remove(struct script *s, const char *name, const struct try *t, uint64_t if_version,
		      uint64_t *ret_version)
{
	struct question q;
	struct wcur w = question_begin(&s->op, &q, MSG_REMOVE);
	struct remove_rep rep;
	struct rcur body;
	int r;

	remove_req_put(&w, &(struct remove_req){ .job = s->op.w->job,
						 .attempt_hi = t->attempt_hi,
						 .attempt_lo = t->attempt_lo,
						 .since = op_since(&s->op),
						 .if_version = if_version,
						 .path = slice_of(name) });
	r = ask(s, &q, &w);
	body = call_reply(&q.call);
	if (r == 0)
		r = remove_rep_get(&body, &rep);
	if (r == 0)
		*ret_version = rep.version;
	question_end(&q);
	return r;
}

static void do_remove(struct script *s, unsigned path)
{
	int may[] = { -ENOENT, -ETIME, -ENODATA, 0, 0 };
	struct model *m = s->wl->m;
	struct look l = look_begin(m, s->gen, path, now(s));
	struct absence *a = absence_begin(s->gen, path, now(s));
	uint64_t version = 0, twice = 0;
	uint64_t if_version = l.top && below(s, 4) == 0 ? l.top->version : 0;
	struct try t = try_begin(s);
	enum meaning what;
	char name[24];
	int r;

	if (if_version)
		may[3] = -EBADE;
	do {
		r = ask_remove(s, path_name(path, name), &t, if_version, &version);
		what = meaning_of(s, &t, "remove", path, r, may);
	} while (again(s, &t, what));
	if (what == NO)
		absence_failed(a);
	if (is_miss(r))
		look_missed(&l, now(s), "remove");
	if (r == -EBADE && what == NO)
		look_refused_version(&l, NULL, if_version, now(s), "remove");
	if (what != YES)
		return;
	if (version < l.floor && l.begun_ns > s->gen->power_ns)
		model_fail(m,
			   "remove of path %u of job %s: of version %llu, but none older than "
			   "%llu could be there",
			   path, s->gen->name, (unsigned long long)version,
			   (unsigned long long)l.floor);
	absence_took(m, s->gen, path, a, version, now(s));
	if (below(s, 8) == 0 && ask_remove(s, name, &t, if_version, &twice) == 0 &&
	    twice != version)
		model_fail(m,
			   "a remove of path %u of job %s took version %llu, and %llu when it was "
			   "repeated",
			   path, s->gen->name, (unsigned long long)version,
			   (unsigned long long)twice);
}

static int ask_rename(struct script *s, unsigned from, unsigned to, uint16_t flags,
		      const struct try *t, uint64_t *ret_version)
{
	struct question q;
	struct wcur out = question_begin(&s->op, &q, MSG_RENAME);
	struct rename_rep rep;
	struct rcur body;
	char name[24], name_to[24];
	int r;

	rename_req_put(&out, &(struct rename_req){ .job = s->op.w->job,
						   .attempt_hi = t->attempt_hi,
						   .attempt_lo = t->attempt_lo,
						   .since = op_since(&s->op),
						   .flags = flags,
						   .from = slice_of(path_name(from, name)),
						   .to = slice_of(path_name(to, name_to)) });
	r = ask(s, &q, &out);
	body = call_reply(&q.call);
	if (r == 0)
		r = rename_rep_get(&body, &rep);
	if (r == 0)
		*ret_version = rep.version;
	question_end(&q);
	return r;
}

static void rename_ended(struct script *s, unsigned from, struct write *w, struct absence *a,
			 uint64_t version)
{
	write_acked(s->wl->m, w, version, now(s));
	absence_took(s->wl->m, s->gen, from, a, 0, now(s));
	model_gone(s->gen, from, version, a->begun_ns);
}

static void do_rename(struct script *s)
{
	static const int may[] = { -ENOENT, -ETIME, -ENODATA, 0 };
	static const int may_exist[] = { -ENOENT, -ETIME, -ENODATA, -EEXIST, 0 };
	struct model *m = s->wl->m;
	unsigned from = MOVED + (unsigned)below(s, 4), to = MOVED + (unsigned)below(s, 4);
	uint16_t flags = below(s, 3) == 0 ? WADI_CREATE : 0;
	struct look l = look_begin(m, s->gen, from, now(s)), at = look_begin(m, s->gen, to, now(s));
	struct try t = try_begin(s);
	struct absence *a;
	struct write *w;
	uint64_t version;
	enum meaning what;
	int r;

	if (from == to)
		return;
	a = absence_begin(s->gen, from, now(s));
	w = model_rename(m, s->gen, from, to, now(s));
	do {
		r = ask_rename(s, from, to, flags, &t, &version);
		what = meaning_of(s, &t, "rename", from, r, flags ? may_exist : may);
	} while (again(s, &t, what));
	if (what == NO) {
		absence_failed(a);
		write_failed(w);
	}
	if (is_miss(r))
		look_missed(&l, now(s), "rename");
	if (r == -EEXIST && what == NO)
		look_refused(&at, w, "rename to");
	if (what != YES)
		return;
	if (flags & WADI_CREATE)
		look_missed(&at, now(s), "rename to");
	rename_ended(s, from, w, a, version);
}

static void do_remove_tree(struct script *s)
{
	static const int none[] = { 0 };
	struct model *m = s->wl->m;
	struct look looks[LARGE - TREE];
	struct absence *absences[LARGE - TREE];
	struct try t = try_begin(s);
	struct remove_tree_rep rep;
	struct slice from = { 0 };
	char at[24];
	uint64_t up_to = 0;
	bool has_more;
	enum meaning what;

	for (unsigned i = 0; i < LARGE - TREE; i++) {
		looks[i] = look_begin(m, s->gen, TREE + i, now(s));
		absences[i] = absence_begin(s->gen, TREE + i, now(s));
	}
	do {
		struct question q;
		struct wcur out = question_begin(&s->op, &q, MSG_REMOVE_TREE);
		struct rcur body;
		int r;

		remove_tree_req_put(&out,
				    &(struct remove_tree_req){ .job = s->op.w->job,
							       .up_to = up_to,
							       .max = 1 + (uint32_t)below(s, 4),
							       .directory = slice_of("d/"),
							       .from = from });
		r = ask(s, &q, &out);
		body = call_reply(&q.call);
		if (r == 0)
			r = remove_tree_rep_get(&body, &rep);
		has_more = r == 0 && up_to == 0 && rep.version > 0;
		if (r == 0 && rep.next.len > 0 && rep.next.len < sizeof(at)) {
			memcpy(at, rep.next.ptr, rep.next.len);
			from = (struct slice){ (uint8_t *)at, rep.next.len };
			has_more = true;
		}
		if (r == 0 && up_to == 0)
			up_to = rep.version;
		question_end(&q);
		what = meaning_of(s, &t, "rm -r", TREE, r, none);
	} while (again(s, &t, what) || (what == YES && has_more));
	for (unsigned i = 0; i < LARGE - TREE && what == YES; i++) {
		absence_took(m, s->gen, TREE + i, absences[i], 0, now(s));
		if (looks[i].top)
			model_gone(s->gen, TREE + i, looks[i].top->version, looks[i].begun_ns);
	}
}

static void do_list(struct script *s)
{
	struct look looks[LARGE - TREE];
	uint64_t versions[LARGE - TREE] = { 0 };
	struct try t = try_begin(s);
	struct question q;
	struct wcur out = question_begin(&s->op, &q, MSG_LIST);
	struct list_rep rep = { 0 };
	struct rcur body, list;
	uint8_t *page = node_alloc(LIST_BYTES);
	int r;

	for (unsigned i = 0; i < LARGE - TREE; i++)
		looks[i] = look_begin(s->wl->m, s->gen, TREE + i, now(s));
	list_req_put(&out, &(struct list_req){ .job = s->op.w->job, .directory = slice_of("d/") });
	assert(page);
	q.call.room = page;
	q.call.room_cap = LIST_BYTES;
	r = ask(s, &q, &out);
	body = call_reply(&q.call);
	if (r == 0)
		r = list_rep_get(&body, &rep);
	list = rcur_make(page, q.call.room_len);
	for (uint32_t i = 0; r == 0 && i < rep.count; i++) {
		struct list_entry e;

		list_entry_get(&list, &e);
		if (!list.bad && e.name.len == 2 && e.name.ptr[0] == 'x' &&
		    e.name.ptr[1] < '0' + LARGE - TREE)
			versions[e.name.ptr[1] - '0'] = e.version;
		else
			model_fail(s->wl->m, "a list of job %s has a name that nobody put",
				   s->gen->name);
	}
	if (meaning_of(s, &t, "list", TREE, r, MAY_MISS) == YES || r == -ENOENT)
		for (unsigned i = 0; i < LARGE - TREE; i++) {
			if (versions[i])
				look_saw(&looks[i], versions[i], now(s), "list");
			else
				look_missed(&looks[i], now(s), "list");
		}
	question_end(&q);
	node_free(page);
}

/* Scripts. */

/*
 * Where there is little room, everybody puts for a while, and gets for a while: what came late is
 * read before it is replaced.
 */
#define PUTS_MS 12000
#define GETS_MS 6000

static enum act choose_act(struct script *s)
{
	const unsigned *weights = s->wl->plan.weights;
	unsigned sum = 0;
	uint64_t x;

	if (s->wl->c->shape.is_crowded && now(s) / MS % (PUTS_MS + GETS_MS) >= PUTS_MS)
		return ACT_GET;
	for (int i = 0; i < ACTS; i++)
		sum += weights[i];
	x = below(s, sum);
	for (int i = 0;; i++) {
		if (x < weights[i])
			return (enum act)i;
		x -= weights[i];
	}
}

static void do_some_wait(struct script *s, unsigned path)
{
	switch (below(s, 4)) {
	case 0:
		do_wait_count(s);
		break;
	case 1:
		do_get(s, path, false, 1 + (uint32_t)below(s, 5000));
		break;
	case 2:
		do_wait_and_put(s, path);
		break;
	default:
		do_wait(s, path);
		break;
	}
}

static void act(struct script *s)
{
	unsigned path = (unsigned)below(s, PATHS);
	struct try t = try_begin(s);
	struct conn *c;

	s->wl->ops++;
	haunt(s);
	op_progress(&s->op);
	if (meaning_of(s, &t, "hello", path, handle_conn(&s->op, &c), (const int[]){ 0 }) != YES)
		return;
	switch (choose_act(s)) {
	case ACT_PUT:
		do_put(s, path, 0, false);
		break;
	case ACT_CREATE:
		do_put(s, path, WADI_CREATE, false);
		break;
	case ACT_IF_VERSION:
		do_put(s, path, 0, true);
		break;
	case ACT_UPLOAD:
		do_upload(s, LARGE + (unsigned)below(s, PATHS - LARGE));
		break;
	case ACT_IN_PLACE:
		do_in_place(s, below(s, 2) ? path % MOVED : LARGE + path % (PATHS - LARGE));
		break;
	case ACT_GET:
		do_get(s, path, false, 0);
		break;
	case ACT_RANGE:
		do_get(s, path >= COUNTED && path < TREE ? PLAIN : path, true, 0);
		break;
	case ACT_HELD:
		do_held(s, below(s, 2) ? LARGE + (unsigned)below(s, PATHS - LARGE) : PLAIN);
		break;
	case ACT_STAT:
		do_stat(s, path);
		break;
	case ACT_REMOVE:
		do_remove(s, path);
		break;
	case ACT_RENAME:
		do_rename(s);
		break;
	case ACT_REMOVE_TREE:
		do_remove_tree(s);
		break;
	case ACT_LIST:
		do_list(s);
		break;
	case ACT_WAIT:
		do_some_wait(s, path);
		break;
	case ACT_AGAIN:
		do_again(s);
		break;
	case ACTS:
		break;
	}
}

static bool goes_on(const struct script *s)
{
	return now(s) < s->wl->plan.until_ns && !s->wl->m->failure[0];
}

/* Some of what may be done, in a job. */
static void work(struct script *s, const struct gen *g)
{
	for (uint64_t n = 1 + below(s, 40); n > 0 && goes_on(s) && g->state == GEN_LIVING; n--) {
		act(s);
		nap(s, below(s, s->wl->plan.pause_ms_max +
					(now(s) > s->wl->plan.busy_until_ns ? 3000 : 0)));
	}
}

/* As wadi_close() does it, and the next wadi_open() of a process that was frozen in between. */
static void close_and_open(struct script *s)
{
	struct direct *d = s->op.w->direct;
	uint64_t until_ns = now(s) + DIRECT_REST_MS * MS;

	use_proxy(s, s->proxy);
	while (!direct_rest(d, s->op.w->op_count) && now(s) < until_ns)
		nap(s, 1);
	say(s, "closed%s", now(s) < until_ns ? "" : ", with something open");
	nap(s, below(s, 3) == 0 ? below(s, 20000) : below(s, 1000));
	direct_go_on(d);
}

/* A function: a process of its own, for one job, and perhaps for several calls. */
static void function_run(struct script *s, struct gen *g)
{
	use_job(s, g);
	work(s, g);
	while (goes_on(s) && g->state == GEN_LIVING && below(s, 3) > 0) {
		if (below(s, 4) > 0)
			close_and_open(s);
		work(s, g);
	}
	s->has_left = true;
	sim_stop(s->wl->c->sim);
}

static int64_t client_run(struct wadi_op *op)
{
	struct script *s = container_of(op, struct script, op);

	waitq_init(&s->sleep, &op->w->loop->fibers);
	while (goes_on(s) && !s->has_left) {
		struct gen *g = s->wl->jobs[below(s, JOBS)];

		if (!g || g->state != GEN_LIVING) {
			nap(s, 50 + below(s, 100));
		} else if (process_of(s)->roles & RUNS_DIRECT) {
			function_run(s, g);
		} else {
			use_job(s, g);
			work(s, g);
		}
	}
	s->is_running = s->has_left;
	return 0;
}

/* The operator: jobs come and go. */

#define LONG_LEASE_MS 3600000

static int ask_create(struct script *s, struct gen *g)
{
	struct question q;
	struct wcur w = question_begin(&s->op, &q, MSG_JOB_CREATE);
	struct job_create_rep rep;
	struct rcur body;
	int r;

	job_create_req_put(&w, &(struct job_create_req){ .lease_ms = (uint32_t)(g->lease_ns / MS),
							 .quota_dram = g->quota,
							 .is_durable = s->wl->c->shape.is_durable,
							 .name = slice_of(g->name) });
	r = ask(s, &q, &w);
	body = call_reply(&q.call);
	if (r == 0)
		r = job_create_rep_get(&body, &rep);
	if (r == 0) {
		g->id = rep.job;
		memcpy(g->token, rep.token.ptr, rep.token.len);
		g->token[rep.token.len] = '\0';
	}
	question_end(&q);
	say(s, "create %s: %s", g->name, wadi_status_name(r));
	return r;
}

static int job_create(struct script *s, unsigned job, uint64_t lease_ms)
{
	struct model *m = s->wl->m;
	struct gen *old = s->wl->jobs[job], *g;
	char name[MODEL_NAME_MAX];
	uint64_t begun_ns = now(s);
	int r;

	if (m->gen_count >= MODEL_GENS_MAX)
		return -ENOSPC;
	/* The name of one that has ended for certain may be used again. */
	if (old && old->state == GEN_ENDED && below(s, 2))
		snprintf(name, sizeof(name), "%s", old->name);
	else
		snprintf(name, sizeof(name), "j%u", s->wl->names++);
	g = model_gen(m, name);
	g->lease_ns = lease_ms * MS;
	g->quota = s->wl->plan.has_quotas ? (256u << 10) << below(s, 6) : 0;
	g->renewed_ns = begun_ns;
	r = ask_create(s, g);
	if (r == 0) {
		g->state = GEN_LIVING;
		s->wl->jobs[job] = g;
	}
	return r;
}

static void job_renew(struct script *s, struct gen *g)
{
	struct question q;
	struct wcur w = question_begin(&s->op, &q, MSG_JOB_RENEW);
	uint64_t begun_ns = now(s);
	int r;

	job_renew_req_put(&w, &(struct job_renew_req){ .name = slice_of(g->name) });
	r = ask(s, &q, &w);
	question_end(&q);
	say(s, "renew %s: %s", g->name, wadi_status_name(r));
	if (r == 0)
		g->renewed_ns = begun_ns;
	else if ((r == -EIDRM || r == -ENXIO) && !may_be_over(s->wl->m, g, now(s)))
		model_fail(s->wl->m, "renewal of job %s: %s, but nobody ended it", g->name,
			   wadi_status_name(r));
	if (r == -EIDRM || r == -ENXIO) {
		g->state = GEN_ENDED;
		if (g->ended_ns > now(s))
			g->ended_ns = now(s);
	}
}

static int job_end(struct script *s, struct gen *g)
{
	struct question q;
	struct wcur w = question_begin(&s->op, &q, MSG_JOB_END);
	int r;

	if (g->end_begun_ns == UINT64_MAX)
		g->end_begun_ns = now(s);
	g->state = GEN_ENDING;
	job_end_req_put(&w, &(struct job_end_req){ .name = slice_of(g->name) });
	r = ask(s, &q, &w);
	question_end(&q);
	say(s, "end %s: %s", g->name, wadi_status_name(r));
	if (r == 0 || r == -EIDRM) {
		g->is_end_acked |= r == 0;
		g->state = GEN_ENDED;
		if (g->ended_ns > now(s))
			g->ended_ns = now(s);
	}
	return r == -EIDRM ? 0 : r;
}

static uint64_t lease_ms(struct script *s)
{
	return s->wl->plan.has_short_leases ? 2000 + below(s, 20000) : LONG_LEASE_MS;
}

static void operate(struct script *s)
{
	unsigned job = (unsigned)below(s, JOBS);
	struct gen *g = s->wl->jobs[job];

	if (!g || g->state == GEN_ENDED)
		(void)job_create(s, job, lease_ms(s));
	else if (g->state == GEN_ENDING || below(s, 1000) < s->wl->plan.end_permille)
		(void)job_end(s, g);
	else if (s->wl->plan.has_short_leases && below(s, 3))
		job_renew(s, g);
}

static int64_t operator_run(struct wadi_op *op)
{
	struct script *s = container_of(op, struct script, op);

	waitq_init(&s->sleep, &op->w->loop->fibers);
	for (unsigned i = 0; i < JOBS; i++)
		(void)job_create(s, i, lease_ms(s));
	while (goes_on(s)) {
		operate(s);
		nap(s, 100 + below(s, 1000));
	}
	s->is_running = false;
	return 0;
}

/* The end: everything that may be there is read. */

static void read_all(struct script *s, struct gen *g)
{
	for (unsigned path = 0; path < PATHS && !s->wl->m->failure[0] && g->state == GEN_LIVING;
	     path++) {
		if (may_be_over(s->wl->m, g, now(s) + 2000 * MS))
			return;
		use_job(s, g);
		do_get(s, path, false, 0);
		/* There is to be room for what is tried next. */
		if (s->wl->plan.is_tight || g->quota)
			do_remove(s, path);
	}
}

/* Another one, where it may end before all has been tried in it, and that has its room. */
static void job_to_try(struct script *s, unsigned job)
{
	struct gen *g = s->wl->jobs[job];

	if (s->wl->m->failure[0] ||
	    (g && g->state == GEN_LIVING && !may_be_over(s->wl->m, g, now(s) + 600000 * MS)))
		return;
	use_job(s, NULL);
	if (s->wl->plan.is_tight && g && g->state != GEN_ENDED)
		(void)job_end(s, g);
	if (s->wl->m->gen_count < MODEL_GENS_MAX && job_create(s, job, LONG_LEASE_MS) < 0)
		model_fail(s->wl->m, "all is whole again, but no job can be created: %s",
			   s->op.why);
}

static int64_t read_run(struct wadi_op *op)
{
	struct script *s = container_of(op, struct script, op);

	waitq_init(&s->sleep, &op->w->loop->fibers);
	for (unsigned i = 0; i < JOBS; i++)
		if (s->wl->jobs[i])
			read_all(s, s->wl->jobs[i]);
	for (unsigned i = 0; i < JOBS; i++)
		job_to_try(s, i);
	s->is_running = false;
	return 0;
}

/* All is whole again: whatever is tried succeeds, in time, through everybody. */

#define TRIED_BYTES 20000

static bool has_succeeded(struct script *s, struct try *t, const char *verb, unsigned path, int r)
{
	static const int none[] = { 0 };

	if (meaning_of(s, t, verb, path, r, none) == YES)
		return true;
	model_fail(s->wl->m, "all is whole again, but %s of job %s by %s through proxy %u: %s %s",
		   verb, s->gen->name, process_of(s)->name, s->proxy, wadi_status_name(r),
		   s->op.why);
	return false;
}

static void try_put(struct script *s, uint64_t len, bool is_upload)
{
	struct look l = look_begin(s->wl->m, s->gen, TRIED, now(s));
	struct write *w = model_write(s->wl->m, s->gen, TRIED, len, now(s));
	struct parts p = { .count = 2, .from = { 0, len / 2 }, .len = { len / 2, len - len / 2 } };
	struct try t = try_begin(s);
	struct put_how how;
	uint64_t version;
	char name[24];
	int r;

	w->attempt_hi = t.attempt_hi;
	w->attempt_lo = t.attempt_lo;
	w->is_value = !is_upload && len <= INLINE_BYTES_MAX;
	write_fill(w, 0, s->buf, len);
	put_options(s, &how, w, &t, 0, path_name(TRIED, name));
	op_progress(&s->op);
	r = is_upload ? upload_once(s, &how, &p, len, &version)
		      : (int)put_object(&s->op, &how, s->buf, len, &version);
	if (has_succeeded(s, &t, is_upload ? "an upload" : "a put", TRIED, r))
		put_ended(s, &l, w, YES, version, false);
	do_get(s, TRIED, false, 0);
}

static void try_rename(struct script *s, unsigned to)
{
	struct absence *a = absence_begin(s->gen, TRIED, now(s));
	struct write *w = model_rename(s->wl->m, s->gen, TRIED, to, now(s));
	struct try t = try_begin(s);
	uint64_t version;

	if (has_succeeded(s, &t, "a rename", TRIED, ask_rename(s, TRIED, to, 0, &t, &version)))
		rename_ended(s, TRIED, w, a, version);
}

/* For what is moved there meanwhile. */
static void try_wait(struct script *s)
{
	struct look l = look_begin(s->wl->m, s->gen, TRIED_TO, now(s));
	struct try t = try_begin(s);
	uint64_t version = 0;
	int r = wait_beside(s, TRIED_TO, 10000, try_rename, &version);

	if (has_succeeded(s, &t, "a wait", TRIED_TO, r))
		look_saw(&l, version, now(s), "wait");
}

static void try_remove(struct script *s)
{
	struct absence *a = absence_begin(s->gen, TRIED_TO, now(s));
	struct try t = try_begin(s);
	uint64_t version;
	char name[24];

	if (has_succeeded(s, &t, "a remove", TRIED_TO,
			  ask_remove(s, path_name(TRIED_TO, name), &t, 0, &version)))
		absence_took(s->wl->m, s->gen, TRIED_TO, a, version, now(s));
}

static void try_all(struct script *s)
{
	try_put(s, 1000, false);
	if (!s->wl->c->shape.is_durable) {
		try_put(s, TRIED_BYTES, false);
		try_put(s, TRIED_BYTES, true);
	}
	try_wait(s);
	do_get(s, TRIED_TO, false, 0);
	try_remove(s);
}

static int64_t try_run(struct wadi_op *op)
{
	struct script *s = container_of(op, struct script, op);

	waitq_init(&s->sleep, &op->w->loop->fibers);
	use_job(s, s->wl->jobs[s->wl->tried_job]);
	for (unsigned i = 0; i < (op->w->direct ? 1 : SHAPE_PROXIES); i++) {
		use_proxy(s, i);
		try_all(s);
	}
	s->is_running = s->has_left = op->w->direct;
	if (s->has_left)
		sim_stop(s->wl->c->sim);
	return 0;
}

/* Every job is ended. */

static int64_t finish_run(struct wadi_op *op)
{
	struct script *s = container_of(op, struct script, op);

	waitq_init(&s->sleep, &op->w->loop->fibers);
	use_job(s, NULL);
	for (unsigned i = 0; i < s->wl->m->gen_count && !s->wl->m->failure[0]; i++) {
		struct gen *g = s->wl->m->gens[i];
		int r = -EAGAIN;

		if (g->state == GEN_ENDED)
			continue;
		for (unsigned tries = 0; tries < 10 && r != 0 && r != -ENXIO; tries++) {
			r = job_end(s, g);
			if (r != 0)
				nap(s, 500);
		}
		if (r != 0 && r != -ENXIO)
			model_fail(s->wl->m, "job %s cannot be ended: %s %s", g->name,
				   wadi_status_name(r), s->op.why);
	}
	s->is_running = false;
	return 0;
}

static void start(struct workload *wl, unsigned client, int64_t (*run)(struct wadi_op *op))
{
	struct script *s = &wl->scripts[client];
	struct process *p = wl->c->clients[client];

	s->is_running = true;
	s->has_left = false;
	s->ghost_count = 0;
	node_current = sim_node_of(p->node);
	op_init(&s->op, p->w, "script", NULL, 0, run);
	if (op_start(&s->op) < 0)
		model_fail(wl->m, "client %u has no fiber", client);
	node_current = NULL;
}

void workload_start(struct workload *wl, unsigned client)
{
	wl->scripts[client].gen = NULL;
	start(wl, client, client == OPERATOR ? operator_run : client_run);
}

void workload_killed(struct workload *wl, unsigned client)
{
	wl->scripts[client].is_running = false;
	wl->scripts[client].has_left = false;
}

void workload_renew(struct workload *wl)
{
	for (unsigned i = 0; i < SHAPE_CLIENTS; i++) {
		struct process *p = wl->c->clients[i];

		if (!wl->scripts[i].has_left)
			continue;
		process_kill(p);
		process_start(p);
		workload_start(wl, i);
	}
}

void workload_read(struct workload *wl)
{
	start(wl, OPERATOR, read_run);
}

bool workload_try(struct workload *wl, unsigned client, unsigned job)
{
	const struct gen *g = wl->jobs[job];
	bool is_tried = client == OPERATOR || wl->c->clients[client]->roles & RUNS_DIRECT;

	if (!g || g->state != GEN_LIVING || !is_tried)
		return false;
	wl->tried_job = job;
	start(wl, client, try_run);
	return true;
}

void workload_finish(struct workload *wl)
{
	start(wl, OPERATOR, finish_run);
}

bool workload_is_over(const struct workload *wl)
{
	for (unsigned i = 0; i < SHAPE_CLIENTS; i++)
		if (wl->scripts[i].is_running)
			return false;
	return true;
}

void workload_init(struct workload *wl, struct cluster *c, struct model *m, const struct plan *plan)
{
	*wl = (struct workload){ .c = c, .m = m, .plan = *plan };
	for (unsigned i = 0; i < SHAPE_CLIENTS; i++) {
		wl->scripts[i].wl = wl;
		wl->scripts[i].index = i;
		wl->scripts[i].proxy = i % SHAPE_PROXIES;
		wl->scripts[i].random = sim_random(c->sim) | 1;
		wl->scripts[i].buf = malloc(BYTES_MAX);
		assert(wl->scripts[i].buf);
	}
}

void workload_fini(struct workload *wl)
{
	for (unsigned i = 0; i < SHAPE_CLIENTS; i++)
		free(wl->scripts[i].buf);
}
