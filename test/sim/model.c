/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull

static void *must_alloc(void *p)
{
	assert(p);
	return p;
}

void model_init(struct model *m)
{
	memset(m, 0, sizeof(*m));
}

void model_fini(struct model *m)
{
	for (unsigned i = 0; i < m->gen_count; i++) {
		struct gen *g = m->gens[i];

		for (unsigned p = 0; p < MODEL_PATHS; p++) {
			struct absence *a = g->paths[p].absences;

			while (a) {
				struct absence *next = a->next;

				free(a);
				a = next;
			}
		}
		free(g->versions);
		free(g);
	}
	for (size_t i = 0; i < m->write_count; i++)
		free(m->writes[i]);
	free(m->writes);
	model_init(m);
}

void model_fail(struct model *m, const char *format, ...)
{
	va_list args;

	if (m->failure[0])
		return;
	va_start(args, format);
	vsnprintf(m->failure, sizeof(m->failure), format, args);
	va_end(args);
}

void model_trouble(struct model *m, unsigned clients, uint64_t from_ns, uint64_t until_ns)
{
	assert(m->trouble_count < TROUBLES_MAX);
	m->troubles[m->trouble_count++] = (struct trouble){ from_ns, until_ns, clients };
}

bool model_is_trouble(const struct model *m, unsigned clients, uint64_t from_ns, uint64_t until_ns)
{
	for (unsigned i = 0; i < m->trouble_count; i++) {
		const struct trouble *t = &m->troubles[i];

		if (t->clients & clients && t->from_ns <= until_ns && t->until_ns >= from_ns)
			return true;
	}
	return false;
}

void model_loss(struct model *m, uint64_t at_ns)
{
	assert(m->loss_count < TROUBLES_MAX);
	m->losses_ns[m->loss_count++] = at_ns;
}

static void gen_power(struct gen *g, uint64_t at_ns)
{
	g->power_ns = at_ns;
	for (unsigned p = 0; p < MODEL_PATHS; p++) {
		g->paths[p].floor = 0;
		g->paths[p].top = NULL;
		for (struct absence *a = g->paths[p].absences; a; a = a->next)
			a->version = 0;
		for (struct write *w = g->paths[p].writes; w; w = w->next) {
			w->version = 0;
			w->read_count = 0;
			if (w->state == WRITE_ACKED)
				w->state = WRITE_SENT;
		}
	}
	if (g->state == GEN_ENDED && !g->is_end_acked) {
		g->state = GEN_ENDING;
		g->ended_ns = UINT64_MAX;
	}
}

void model_power(struct model *m, uint64_t at_ns)
{
	for (unsigned i = 0; i < m->gen_count; i++)
		gen_power(m->gens[i], at_ns);
}

uint64_t model_lasts_until(const struct model *m, uint64_t until_ns)
{
	uint64_t ahead_ns = m->is_ahead_believed ? m->ahead_ns : 0;

	return until_ns > ahead_ns ? until_ns - ahead_ns : 0;
}

struct gen *model_gen(struct model *m, const char *name)
{
	struct gen *g = must_alloc(calloc(1, sizeof(*g)));

	assert(m->gen_count < MODEL_GENS_MAX);
	g->number = m->gen_count;
	g->end_begun_ns = g->ended_ns = UINT64_MAX;
	snprintf(g->name, sizeof(g->name), "%s", name);
	m->gens[m->gen_count++] = g;
	return g;
}

/* Bytes. */

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* Eight bytes at a multiple of 8: no two places of any two writes have the same. */
static uint64_t word(const struct write *w, uint64_t at)
{
	return mix(((uint64_t)w->number + 1) << 32 | at / 8);
}

/* Up to eight bytes of a write from `at` on, as they lie in memory; returns how many. */
static size_t bytes_at(const struct write *w, uint64_t at, size_t len, uint64_t *ret)
{
	size_t skip = at % 8, n = 8 - skip < len ? 8 - skip : len;

	*ret = word(w, at) >> (8 * skip);
	return n;
}

void write_fill(const struct write *w, uint64_t at, uint8_t *buf, size_t len)
{
	uint64_t x;

	for (size_t i = 0, n; i < len; i += n) {
		n = bytes_at(w, at + i, len - i, &x);
		if (n == 8)
			memcpy(buf + i, &x, 8);
		else
			memcpy(buf + i, &x, n);
	}
}

bool write_matches(const struct write *w, uint64_t at, const uint8_t *buf, size_t len)
{
	uint64_t x, y;

	for (size_t i = 0, n; i < len; i += n) {
		n = bytes_at(w, at + i, len - i, &x);
		if (n < 8) {
			if (memcmp(buf + i, &x, n) != 0)
				return false;
			continue;
		}
		memcpy(&y, buf + i, 8);
		if (x != y)
			return false;
	}
	return true;
}

/* Writes. */

static struct write *write_add(struct model *m, struct gen *g, unsigned path, uint64_t now_ns)
{
	struct write *w = must_alloc(calloc(1, sizeof(*w)));

	if (m->write_count == m->write_cap) {
		m->write_cap = m->write_cap ? 2 * m->write_cap : 1024;
		m->writes = must_alloc(realloc(m->writes, m->write_cap * sizeof(struct write *)));
	}
	w->gen = g;
	w->path = path;
	w->number = (uint32_t)m->write_count;
	w->begun_ns = now_ns;
	/* A get that began before may get this. */
	w->begun_reads = g->paths[path].reading;
	w->next = g->paths[path].writes;
	g->paths[path].writes = w;
	m->writes[m->write_count++] = w;
	return w;
}

struct write *model_write(struct model *m, struct gen *g, unsigned path, uint64_t len,
			  uint64_t now_ns)
{
	struct write *w = write_add(m, g, path, now_ns);

	w->len = len;
	m->puts++;
	return w;
}

struct write *model_rename(struct model *m, struct gen *g, unsigned from, unsigned to,
			   uint64_t now_ns)
{
	struct write *w = write_add(m, g, to, now_ns);

	w->is_rename = true;
	w->from = from;
	return w;
}

static struct write *by_version(const struct gen *g, uint64_t version)
{
	for (size_t i = g->version_count; i-- > 0;)
		if (g->versions[i].version == version)
			return g->versions[i].write;
	return NULL;
}

static void version_add(struct gen *g, struct write *w, uint64_t version)
{
	if (g->version_count == g->version_cap) {
		g->version_cap = g->version_cap ? 2 * g->version_cap : 256;
		g->versions =
			must_alloc(realloc(g->versions, g->version_cap * sizeof(*g->versions)));
	}
	g->versions[g->version_count++] = (struct known_version){ version, w };
}

/* A version is of one write for ever. */
static void version_is(struct model *m, struct write *w, uint64_t version)
{
	struct gen *g = w->gen;
	const struct write *known = by_version(g, version);

	if (version == 0 || version > 1ull << 48) {
		model_fail(m, "job %s: version %llu of path %u is none", g->name,
			   (unsigned long long)version, w->path);
		return;
	}
	if (w->version && w->version != version)
		model_fail(m, "job %s path %u: write %u has version %llu, and %llu as well",
			   g->name, w->path, w->number, (unsigned long long)w->version,
			   (unsigned long long)version);
	if (known && known != w)
		model_fail(m, "job %s: version %llu is of write %u (path %u) and of %u (path %u)",
			   g->name, (unsigned long long)version, known->number, known->path,
			   w->number, w->path);
	if (!known)
		version_add(g, w, version);
	w->version = version;
}

static void path_raise(struct gen *g, unsigned path, const struct write *w)
{
	struct path *p = &g->paths[path];

	if (!p->top || p->top->version < w->version)
		p->top = w;
	if (p->floor < w->version)
		p->floor = w->version;
}

void model_gone(struct gen *g, unsigned path, uint64_t version, uint64_t begun_ns)
{
	struct path *p = &g->paths[path];

	if (begun_ns > g->power_ns && p->floor <= version)
		p->floor = version + 1;
}

void write_acked(struct model *m, struct write *w, uint64_t version, uint64_t now_ns)
{
	struct gen *g = w->gen;

	/* Said before the power was cut, perhaps, and heard after it. */
	if (w->begun_ns <= g->power_ns)
		return;
	version_is(m, w, version);
	w->state = WRITE_ACKED;
	w->ended_ns = now_ns;
	path_raise(g, w->path, w);
	if (w->if_version) {
		/* Nothing may have come between the version that was named and this one. */
		for (const struct write *v = g->paths[w->path].writes; v; v = v->next) {
			if (v->version > w->if_version && v->version < version)
				model_fail(m,
					   "job %s path %u: version %llu replaced %llu only, but "
					   "version %llu came between",
					   g->name, w->path, (unsigned long long)version,
					   (unsigned long long)w->if_version,
					   (unsigned long long)v->version);
		}
	}
}

void write_failed(struct write *w)
{
	w->state = WRITE_FAILED;
}

/* Absences. */

struct absence *absence_begin(struct gen *g, unsigned path, uint64_t now_ns)
{
	struct absence *a = must_alloc(calloc(1, sizeof(*a)));

	a->begun_ns = now_ns;
	a->ended_ns = UINT64_MAX;
	a->next = g->paths[path].absences;
	g->paths[path].absences = a;
	return a;
}

void absence_took(struct model *m, struct gen *g, unsigned path, struct absence *a,
		  uint64_t version, uint64_t now_ns)
{
	struct write *w = version ? by_version(g, version) : NULL;

	if (a->begun_ns <= g->power_ns)
		return;
	a->ended_ns = now_ns;
	a->version = version;
	if (w && w->path != path)
		model_fail(m, "job %s path %u: version %llu was removed, which was at path %u",
			   g->name, path, (unsigned long long)version, w->path);
	if (version)
		model_gone(g, path, version, a->begun_ns);
}

void absence_failed(struct absence *a)
{
	a->ended_ns = a->begun_ns = 0;
}

/* Looking. */

struct look look_begin(struct model *m, struct gen *g, unsigned path, uint64_t now_ns)
{
	return (struct look){ .m = m,
			      .g = g,
			      .path = path,
			      .begun_ns = now_ns,
			      .floor = g->paths[path].floor,
			      .top = g->paths[path].top,
			      .settled = g->paths[path].settled,
			      .read_count =
				      g->paths[path].top ? g->paths[path].top->read_count : 0 };
}

/* Began before the power was cut, and goes on after it: then it knows nothing. */
static bool knows_nothing(struct look *l)
{
	if (l->begun_ns > l->g->power_ns)
		return false;
	l->floor = 0;
	l->top = NULL;
	return true;
}

static void check_life(struct look *l, uint64_t version, uint64_t now_ns, const char *verb)
{
	if (l->g->ended_ns < l->begun_ns)
		model_fail(l->m,
			   "%s of path %u of job %s, version %llu, began %llu ms after the job's "
			   "end had been acknowledged, and was served",
			   verb, l->path, l->g->name, (unsigned long long)version,
			   (unsigned long long)((l->begun_ns - l->g->ended_ns) / MS));
	(void)now_ns;
}

void look_saw(struct look *l, uint64_t version, uint64_t now_ns, const char *verb)
{
	struct gen *g = l->g;
	struct write *w = by_version(g, version);

	l->m->checks++;
	if (knows_nothing(l))
		return;
	check_life(l, version, now_ns, verb);
	if (version < l->floor)
		model_fail(l->m,
			   "%s of path %u of job %s: version %llu, but none older than %llu could "
			   "be there any more",
			   verb, l->path, g->name, (unsigned long long)version,
			   (unsigned long long)l->floor);
	if (w && w->path != l->path)
		model_fail(l->m, "%s of path %u of job %s: version %llu, which is of path %u", verb,
			   l->path, g->name, (unsigned long long)version, w->path);
	if (w && w->state == WRITE_FAILED)
		model_fail(l->m, "%s of path %u of job %s: version %llu, which was refused", verb,
			   l->path, g->name, (unsigned long long)version);
	if (w)
		path_raise(g, l->path, w);
}

/* Could what was put by `w` have been moved to this path? `seen` are paths that were tried. */
static bool can_be_at(const struct gen *g, const struct write *w, unsigned path, uint32_t seen)
{
	if (w->path == path)
		return true;
	seen |= 1u << path;
	for (const struct write *r = g->paths[path].writes; r; r = r->next)
		if (r->is_rename && !(seen & (1u << r->from)) && can_be_at(g, w, r->from, seen))
			return true;
	return false;
}

/*
 * Whose bytes these are. Few bytes may be of several writes: then one is looked for that
 * could be here.
 */
static struct write *write_of_bytes(const struct look *l, uint64_t len, uint64_t at,
				    const uint8_t *buf, size_t buf_len)
{
	for (size_t i = l->m->write_count; i > 0; i--) {
		struct write *w = l->m->writes[i - 1];

		if (w->is_rename || w->len != len ||
		    !write_matches(w, at, buf, buf_len < 16 ? buf_len : 16))
			continue;
		if (buf_len >= 8 ||
		    (w->gen == l->g && w->state != WRITE_FAILED && can_be_at(l->g, w, l->path, 0)))
			return w;
	}
	return NULL;
}

static bool is_renamed_to(const struct gen *g, unsigned path)
{
	for (const struct write *r = g->paths[path].writes; r; r = r->next)
		if (r->is_rename)
			return true;
	return false;
}

struct write *look_got(struct look *l, uint64_t version, uint64_t len, uint64_t at,
		       const uint8_t *buf, size_t buf_len, uint64_t now_ns, const char *verb)
{
	struct gen *g = l->g;
	struct write *known = by_version(g, version), *w = known;

	l->m->gets++;
	if (!w || w->is_rename || w->len != len || !write_matches(w, at, buf, buf_len))
		w = write_of_bytes(l, len, at, buf, buf_len);
	if (!w) {
		model_fail(
			l->m,
			"%s of path %u of job %s: version %llu, %zu of %llu bytes from %llu on are "
			"of no write",
			verb, l->path, g->name, (unsigned long long)version, buf_len,
			(unsigned long long)len, (unsigned long long)at);
		return NULL;
	}
	if (w->gen != g) {
		model_fail(l->m, "%s of path %u of job %s: bytes of job %s", verb, l->path, g->name,
			   w->gen->name);
		return NULL;
	}
	if (!write_matches(w, at, buf, buf_len)) {
		model_fail(l->m,
			   "%s of path %u of job %s: version %llu begins as write %u, and goes on "
			   "otherwise",
			   verb, l->path, g->name, (unsigned long long)version, w->number);
		return NULL;
	}
	if (buf_len > 0 && !can_be_at(g, w, l->path, 0)) {
		model_fail(l->m, "%s of path %u of job %s: bytes of path %u", verb, l->path,
			   g->name, w->path);
		return NULL;
	}
	if (w->state == WRITE_FAILED)
		model_fail(l->m, "%s of path %u of job %s: bytes of write %u, which was refused",
			   verb, l->path, g->name, w->number);
	/* Without renames the version is the write's own. */
	if (!knows_nothing(l) && w->path == l->path && !is_renamed_to(g, l->path) &&
	    (buf_len >= 8 || known == w))
		version_is(l->m, w, version);
	look_saw(l, version, now_ns, verb);
	if (knows_nothing(l))
		return w;
	if (version > g->paths[l->path].floor)
		g->paths[l->path].floor = version;
	if (w->ttl_ms && w->state == WRITE_ACKED && l->begun_ns > w->ended_ns + w->ttl_ms * MS &&
	    !model_is_trouble(l->m, ALL_CLIENTS, w->begun_ns, now_ns))
		model_fail(l->m, "%s of path %u of job %s: %llu ms after its time to live was over",
			   verb, l->path, g->name,
			   (unsigned long long)((l->begun_ns - w->ended_ns) / MS - w->ttl_ms));
	return w;
}

void reads_begin(struct gen *g, unsigned path)
{
	g->paths[path].reading++;
	for (struct write *w = g->paths[path].writes; w; w = w->next)
		if (w->state != WRITE_FAILED)
			w->begun_reads++;
}

void reads_end(struct gen *g, unsigned path)
{
	g->paths[path].reading--;
}

void reads_settle(struct gen *g, unsigned path, const struct write *of)
{
	g->paths[path].settled++;
	for (struct write *w = g->paths[path].writes; w; w = w->next)
		if (w != of && w->state != WRITE_FAILED)
			w->begun_reads--;
}

/* Could this write be gone by itself by now? */
static bool ends_by_itself(const struct model *m, const struct write *w, uint64_t now_ns)
{
	return (w->ttl_ms && model_lasts_until(m, w->begun_ns + w->ttl_ms * MS) <= now_ns) ||
	       (w->reads && w->begun_reads >= w->reads);
}

/* Could what was put by `top`, and all that came after it, have been away for a moment? */
static bool may_be_gone(const struct model *m, const struct path *p, const struct write *top,
			uint64_t now_ns)
{
	for (const struct absence *a = p->absences; a; a = a->next) {
		if (a->begun_ns == 0 || a->begun_ns > now_ns || a->ended_ns < top->begun_ns)
			continue;
		/* One that is known to have taken something else, or an older version, took nothing
		 * of this. */
		if (a->version && a->version < top->version)
			continue;
		return true;
	}
	for (const struct write *w = p->writes; w; w = w->next)
		if (w->state != WRITE_FAILED && (!w->version || w->version >= top->version) &&
		    ends_by_itself(m, w, now_ns))
			return true;
	return false;
}

static bool is_explained(const struct look *l, uint64_t now_ns)
{
	return !l->top || l->top->version < l->floor ||
	       may_be_gone(l->m, &l->g->paths[l->path], l->top, now_ns);
}

bool look_may_see(const struct look *l, const struct write *but)
{
	for (const struct write *w = l->g->paths[l->path].writes; w; w = w->next)
		if (w != but && w->state != WRITE_FAILED && (!w->version || w->version >= l->floor))
			return true;
	return false;
}

void look_refused(struct look *l, const struct write *own, const char *verb)
{
	l->m->checks++;
	if (!knows_nothing(l) && !look_may_see(l, own))
		model_fail(l->m,
			   "%s of path %u of job %s: refused, since something is there, and "
			   "nothing can be",
			   verb, l->path, l->g->name);
}

/* The newest that is known, it is there still, and nothing else may have come. */
static bool is_uncontested(const struct look *l, const struct write *own, uint64_t now_ns)
{
	const struct path *p = &l->g->paths[l->path];

	if (!l->top || l->top->version < l->floor || may_be_gone(l->m, p, l->top, now_ns))
		return false;
	for (const struct write *w = p->writes; w; w = w->next)
		if (w != own && w->state != WRITE_FAILED &&
		    (!w->version || w->version > l->top->version))
			return false;
	return true;
}

void look_refused_version(struct look *l, const struct write *own, uint64_t version,
			  uint64_t now_ns, const char *verb)
{
	l->m->checks++;
	if (!knows_nothing(l) && l->top && l->top->version == version &&
	    is_uncontested(l, own, now_ns))
		model_fail(l->m,
			   "%s of path %u of job %s: refused, since version %llu is not there, "
			   "and it must be",
			   verb, l->path, l->g->name, (unsigned long long)version);
}

bool model_was_there(const struct model *m, const struct gen *g, unsigned path, uint64_t from_ns,
		     uint64_t now_ns)
{
	const struct path *p = &g->paths[path];

	for (const struct write *w = p->writes; w; w = w->next)
		if (w->state == WRITE_ACKED && w->ended_ns <= from_ns &&
		    !may_be_gone(m, p, w, now_ns))
			return true;
	return false;
}

void look_missed(struct look *l, uint64_t now_ns, const char *verb)
{
	l->m->checks++;
	if (knows_nothing(l))
		return;
	if (!is_explained(l, now_ns))
		model_fail(
			l->m,
			"%s of path %u of job %s: nothing there, but version %llu (write %u, %llu "
			"bytes) was acknowledged or seen, and nobody took it away",
			verb, l->path, l->g->name, (unsigned long long)l->top->version,
			l->top->number, (unsigned long long)l->top->len);
	if (l->top)
		model_gone(l->g, l->path, l->top->version, l->begun_ns);
}

void look_reads(struct look *l, uint64_t version, uint32_t left, const char *verb)
{
	const struct path *p = &l->g->paths[l->path];
	const struct write *w = by_version(l->g, version);
	uint32_t most, perhaps;

	if (!w || knows_nothing(l))
		return;
	most = w->reads == 0 ? UINT32_MAX : w->reads - (w == l->top ? l->read_count : 0);
	/* What was settled since then may have been under way when the answer was made. */
	perhaps = w->reads == 0 ? 0 : w->begun_reads + p->settled - l->settled;
	if (left > most || (uint64_t)left + perhaps < (w->reads ? w->reads : most))
		model_fail(l->m,
			   "%s of path %u of job %s: %u reads of version %llu are left, of %u, of "
			   "which %u were taken and %u more may have been",
			   verb, l->path, l->g->name, left, (unsigned long long)version, w->reads,
			   w->reads - most, perhaps - (w->reads - most));
}

void look_lost(struct look *l, uint64_t now_ns, const char *verb)
{
	const struct path *p = &l->g->paths[l->path];

	l->m->checks++;
	/* Values were in memory, and what was moved since the last sync is no longer there. */
	if (l->g->power_ns > 0)
		return;
	/* A loss at a store that happened since a write that could be there began. */
	for (const struct write *w = p->writes; w; w = w->next) {
		if (w->state == WRITE_FAILED || (w->version && w->version < l->floor) ||
		    w->is_value)
			continue;
		for (unsigned i = 0; i < l->m->loss_count; i++)
			if (l->m->losses_ns[i] <= now_ns &&
			    (w->is_rename || l->m->losses_ns[i] >= w->begun_ns))
				return;
	}
	model_fail(l->m, "%s of path %u of job %s: LOST, but no store lost anything of it", verb,
		   l->path, l->g->name);
}
