/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump: the state of a slot as sorted lines of text, so that two can be compared. What
 * is not logged (what is on its way, what was asked for) is not in it.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"

/* The longest line: a path and attributes, in hexadecimal where they are not plain. */
#define LINE_MAX_BYTES 8192

struct dump {
	const struct catalog *catalog;
	char **lines;
	size_t count, cap, len;
	bool bad;
	char line[LINE_MAX_BYTES];
	size_t at;
};

static void word(struct dump *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void word(struct dump *d, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(d->line + d->at, sizeof(d->line) - d->at, format, args);
	va_end(args);
	d->at += (size_t)n;
	if (d->at >= sizeof(d->line))
		d->at = sizeof(d->line) - 1;
}

static void text(struct dump *d, struct slice s)
{
	word(d, " \"");
	for (size_t i = 0; i < s.len; i++)
		word(d, s.ptr[i] >= ' ' && s.ptr[i] != '"' && s.ptr[i] < 127 ? "%c" : "\\%02x",
		     s.ptr[i]);
	word(d, "\"");
}

static void end(struct dump *d)
{
	char *copy = node_alloc(d->at + 1);

	if (d->count == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 256;
		char **more = node_resize(d->lines, cap * sizeof(*more));

		if (more) {
			d->lines = more;
			d->cap = cap;
		}
	}
	if (!copy || d->count == d->cap) {
		d->bad = true;
		node_free(copy);
	} else {
		memcpy(copy, d->line, d->at);
		d->lines[d->count++] = copy;
		d->len += d->at + 1;
	}
	d->at = 0;
}

static void account(struct dump *d, const struct account *a)
{
	word(d, " account=%" PRIu64 ",%016" PRIx64 "%016" PRIx64, a->bytes,
	     (uint64_t)(a->moments >> 64), (uint64_t)a->moments);
}

static void piece(struct dump *d, const struct piece *p)
{
	word(d, " [%" PRIx64 ".%u %u+%u %08x %" PRIx64, p->bytes.segment->id,
	     p->bytes.segment->generation, p->bytes.offset, p->bytes.len, p->crc, p->seed);
	if (p->table.segment)
		word(d, " table %" PRIx64 ".%u %u", p->table.segment->id,
		     p->table.segment->generation, p->table.offset);
	word(d, "]");
}

/* A line for each chunk: an object may have many. */
static void chunk(struct dump *d, const char *of, uint64_t id, const struct chunk *k)
{
	uint64_t sum = 0;

	word(d, "chunk of %s %" PRIx64 " first=%" PRIu64, of, id, k->first);
	for (uint32_t i = 0; i < k->count; i++) {
		piece(d, &k->pieces[i]);
		sum += k->pieces[i].bytes.len;
	}
	word(d, " bytes=%" PRIu64, sum);
	end(d);
}

static void entry(struct dump *d, const struct entry *e)
{
	const struct life *life = entry_life(e);
	const struct body *b = body_of(e);
	unsigned holds = 0;

	for (const struct hold *h = hold_first(d->catalog, e); h; h = hold_next(h))
		holds++;
	word(d, "entry job=%" PRIx64, e->job->id);
	text(d, entry_path(e));
	word(d,
	     " object=%" PRIx64 " version=%" PRIu64 " len=%" PRIu64 " made=%" PRIu64
	     " attempt=%" PRIx64 " holds=%u ghost=%d tier=%u",
	     e->object, (uint64_t)e->version, (uint64_t)e->len, (uint64_t)e->made_ns, e->attempt,
	     holds, e->is_ghost, (unsigned)e->tier);
	if (life)
		word(d, " reads=%u granted=%u expiry=%" PRIu64, life->reads, life->granted,
		     heap_has(&life->expiry) ? life->expiry.due : 0);
	if (e->content == CONTENT_VALUE)
		word(d, " value=%" PRIx64 " seed=%x crc=%08x", entry_value(e)->at,
		     entry_value(e)->seed, entry_value(e)->crc);
	if (e->content == CONTENT_PIECE)
		piece(d, entry_piece(e));
	text(d, entry_attributes(e));
	end(d);
	for (uint32_t i = 0; b && i < b->chunk_count; i++)
		chunk(d, "object", e->version, b->chunks[i]);
}

static void job(struct dump *d, const struct job *j)
{
	word(d, "job %" PRIx64, j->id);
	text(d, job_name(j));
	word(d,
	     " state=%d expired=%d made=%" PRIu64 " attempt=%" PRIx64 " ended=%" PRIu64
	     " lease=%u due=%" PRIu64 " quota=%" PRIu64 " held=%" PRIu64 " objects=%" PRIu64
	     " bytes=%" PRIu64 " version=%" PRIu64
	     " block=%u blocks=%u attempts=%u forgotten=%" PRIu64 " segments=%u debris=%u",
	     j->state, j->has_expired, j->made_ns, j->attempt, j->ended_ns, j->lease_ms,
	     heap_has(&j->lease) ? j->lease.due : 0, j->quota, j->held_bytes, j->object_count,
	     j->object_bytes, j->version, j->block, j->block_count, j->attempt_count,
	     j->forgotten_count, j->segment_count, j->debris_count);
	account(d, &j->account);
	end(d);
	for (struct list *l = j->attempts.next; l != &j->attempts; l = l->next) {
		const struct attempt *a = container_of(l, struct attempt, link);

		word(d,
		     "attempt job=%" PRIx64 " put=%d,%" PRIx64 " end=%d,%" PRIx64
		     " version=%" PRIu64 " object=%" PRIx64 " at=%" PRIu64 " what=%u tombstone=%d",
		     j->id, a->has_put, a->put, a->has_end, a->end, a->version, a->object, a->at_ns,
		     a->what, a->is_tombstone);
		end(d);
	}
}

static void segment(struct dump *d, const struct segment *s)
{
	word(d,
	     "segment %" PRIx64 ".%u job=%" PRIx64 " owner=%" PRIx64 " request=%" PRIx64
	     " key=%" PRIx64 " store=%" PRIx64 " size=%u used=%u,%u state=%d live=%" PRIu64
	     " placed=%" PRIu64 " held=%u stamps=%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
	     " session=%d",
	     s->id, s->generation, s->job ? s->job->id : 0, s->owner, s->request, s->key,
	     s->pool->store, s->size, s->front, s->back, s->state, s->live, s->placed, s->held,
	     s->opened_ns, s->fenced_ns, s->sealed_ns, s->freed_ns, s->session != NULL);
	if (s->claimed)
		word(d, " claimed=%016" PRIx64,
		     hash_64(s->claimed, s->size / SEGMENT_ALIGN / 8, 0));
	end(d);
}

static void hold(struct dump *d, const struct hold *h)
{
	word(d,
	     "hold %" PRIx64 " session=%" PRIx64 " request=%" PRIx64 " version=%" PRIu64
	     " read=%d,%" PRIx64 ":%" PRIx64 " try=%u",
	     h->id, h->session->id, h->request, (uint64_t)h->entry->version, h->is_read, h->read_hi,
	     h->read_lo, h->nth_try);
	end(d);
	if (h->entry->is_ghost && hold_first(d->catalog, h->entry) == h)
		entry(d, h->entry);
}

static void open_object(struct dump *d, const struct open *o)
{
	word(d,
	     "open %" PRIx64 " job=%" PRIx64 " session=%" PRIx64 " request=%" PRIx64 " len=%" PRIu64
	     " pieces=%u chunks=%u parts=%u",
	     o->id, o->job->id, o->session ? o->session->id : 0, o->request, o->len, o->piece_count,
	     o->chunk_count, o->part_count);
	end(d);
	for (struct index_link *l = index_first(&o->parts); l; l = index_next(l)) {
		const struct part *p = container_of(l, struct part, in_open);

		word(d, "part %u of open %" PRIx64 " len=%" PRIu64, p->number, o->id, p->len);
		end(d);
		for (const struct chunk *k = p->first; k; k = k->next)
			chunk(d, "open", o->id, k);
	}
}

static void session(struct dump *d, const struct session *s)
{
	unsigned segments = 0;

	for (struct list *l = s->segments.next; l != &s->segments; l = l->next)
		segments++;
	word(d, "session %" PRIx64 " over=%d gone=%d holds=%u opens=%u segments=%u", s->id,
	     s->over_number != 0, s->is_gone, s->hold_count, s->open_count, segments);
	end(d);
}

static void lists(struct dump *d, const struct catalog *c)
{
	for (struct list *l = c->debris.next; l != &c->debris; l = l->next) {
		const struct body *b = container_of(l, struct body, debris);

		word(d, "debris job=%" PRIx64 " chunks=%u", b->job->id, b->chunk_count);
		end(d);
		for (uint32_t i = 0; i < b->chunk_count; i++)
			chunk(d, "debris", 0, b->chunks[i]);
	}
	for (struct list *l = c->dropped.next; l != &c->dropped; l = l->next)
		open_object(d, container_of(l, struct open, debris));
	for (struct list *l = c->over_sessions.next; l != &c->over_sessions; l = l->next)
		session(d, container_of(l, struct session, link));
}

static void stores(struct dump *d, const struct catalog *c)
{
	for (struct list *l = c->pools.next; l != &c->pools; l = l->next) {
		const struct pool *p = container_of(l, struct pool, link);

		if (p->address[0] == '\0')
			continue;
		word(d, "store %" PRIx64 " address", p->store);
		text(d, (struct slice){ (const uint8_t *)p->address, strlen(p->address) });
		end(d);
	}
}

static void blocks(struct dump *d, const struct catalog *c)
{
	for (uint32_t i = 0; i < c->value_cap; i++) {
		for (uint32_t n = 0; c->values[i] && n < VALUE_BLOCKS; n++) {
			const struct value_block *b = &c->values[i]->blocks[n];

			if (!b->job)
				continue;
			word(d, "block %u.%u job=%" PRIx64 " live=%u", i, n, b->job->id, b->live);
			/* In others nothing is put any more. */
			if (b->job->block == i * VALUE_BLOCKS + n)
				word(d, " used=%u", b->used);
			end(d);
		}
	}
}

#define EACH(table, type, member, what)                            \
	for (struct {                                              \
		     size_t at;                                    \
		     struct hlink *l;                              \
	     } w_ = { 0, NULL };                                   \
	     (w_.l = htable_walk((table), &w_.at, w_.l)) != NULL;) \
	what(d, container_of(w_.l, type, member))

static void directory(struct dump *d, const struct directory *dir)
{
	word(d, "directory job=%" PRIx64, dir->job->id);
	text(d, (struct slice){ dir->path, dir->path_len });
	word(d, " count=%" PRIu64, dir->count);
	end(d);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *join(struct dump *d)
{
	char *all = d->bad ? NULL : node_alloc(d->len + 1), *p = all;

	if (all && d->count > 0)
		qsort(d->lines, d->count, sizeof(*d->lines), compare);
	for (size_t i = 0; i < d->count; i++) {
		size_t n = strlen(d->lines[i]);

		if (all) {
			memcpy(p, d->lines[i], n);
			p[n] = '\n';
			p += n + 1;
		}
		node_free(d->lines[i]);
	}
	node_free(d->lines);
	node_free(d);
	return all;
}

char *catalog_dump(const struct catalog *c)
{
	struct dump *d = node_alloc(sizeof(*d));

	if (!d)
		return NULL;
	d->catalog = c;
	word(d,
	     "catalog slot=%u last=%" PRIu64 " next=%" PRIu64 ",%" PRIu64 " jobs=%u ended=%u "
	     "objects=%" PRIu64 " segments=%" PRIu64 " lost=%d",
	     c->slot, c->last_ns, c->next_job, c->next_id, c->job_count, c->ended_count,
	     c->object_count, c->segment_count, c->has_lost);
	account(d, &c->account);
	account(d, &c->value_account);
	account(d, &c->forgotten);
	end(d);
	EACH(&c->jobs, struct job, by_id, job);
	EACH(&c->entries, struct entry, by_path, entry);
	EACH(&c->directories, struct directory, by_path, directory);
	EACH(&c->segments, struct segment, by_id, segment);
	EACH(&c->sessions, struct session, by_id, session);
	EACH(&c->holds, struct hold, by_id, hold);
	EACH(&c->opens, struct open, by_id, open_object);
	lists(d, c);
	stores(d, c);
	blocks(d, c);
	return join(d);
}
