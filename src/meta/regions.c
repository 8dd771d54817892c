/* SPDX-License-Identifier: Apache-2.0 */
/*
 * regions: where the value segments of a shard's slots are: regions that outlive the
 * process, like the records that refer to them. Each begins with a page that says whose it
 * is. Some are made ahead by the helper; who takes the last one makes the next itself.
 */
#include "base/log.h"
#include "base/node.h"
#include "meta/shard_priv.h"

#define MAGIC        0x3165756c61766477ull /* "wdvalue1" */
#define REGION_BYTES (SEGMENT_PAGE + VALUE_SEGMENT_BYTES)

/* Made ahead, and kept when they are given back. */
#define SPARE_MAX 4

struct value_region {
	struct list link;
	struct memory memory;
	uint64_t number; /* with the keeper */
	uint16_t slot;
	bool is_lacking; /* made for values of a predecessor whose memory was gone */
	uint32_t index;
};

/* Behind the page's words is where we have it: good for this process only. */
static struct value_region **place_of(uint8_t *page)
{
	return (struct value_region **)(void *)(page + 64);
}

/* Without a log, any memory will do. */
static const struct media *media_of(const struct shard *s)
{
	return s->log.config.media ? s->log.config.media : &media_heap;
}

static struct keep_name name_of(const struct shard *s, const struct value_region *v)
{
	return (struct keep_name){ KEEP_VALUE, s->config.index, v->number };
}

/* The page in front. Its magic comes last and goes first: half a page is nobody's. */
static void say_whose(struct value_region *v)
{
	struct wcur w = wcur_make(v->memory.ptr + 8, 16), magic = wcur_make(v->memory.ptr, 8);

	memset(v->memory.ptr, 0, 8);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	put_u16(&w, v->slot);
	put_u16(&w, v->is_lacking);
	put_u32(&w, v->index);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	put_u64(&magic, MAGIC);
}

static bool is_somebodys(struct value_region *v)
{
	struct rcur c = rcur_make(v->memory.ptr, v->memory.size);

	if (v->memory.size != REGION_BYTES || get_u64(&c) != MAGIC)
		return false;
	v->slot = get_u16(&c);
	v->is_lacking = get_u16(&c) != 0;
	v->index = get_u32(&c);
	return true;
}

static int region_make(struct shard *s, struct value_region *v)
{
	int r = keep_make(s->log.config.keep, media_of(s), REGION_BYTES, &v->memory);

	if (r < 0)
		return r;
	/* Its blocks get their pages as they are used. */
	r = media_of(s)->fill(&v->memory, 0, SEGMENT_PAGE);
	if (r == 0)
		r = keep_put(s->log.config.keep, name_of(s, v), &v->memory);
	if (r < 0)
		media_of(s)->free(&v->memory);
	return r;
}

static struct value_region *region_new(struct shard *s)
{
	struct value_region *v = node_alloc(sizeof(*v));

	if (!v)
		return NULL;
	v->number = s->regions.next_number++;
	list_init(&v->link);
	return v;
}

/* On the helper's thread. */
static void make_run(struct work *w)
{
	struct regions *p = container_of(w, struct regions, work);
	struct shard *s = container_of(p, struct shard, regions);

	p->result = region_make(s, p->made);
}

static void make_done(struct work *w)
{
	struct regions *p = container_of(w, struct regions, work);
	struct shard *s = container_of(p, struct shard, regions);

	if (p->result < 0) {
		p->made = node_free(p->made);
		return; /* whoever needs one tries again */
	}
	list_insert(&p->spare, &p->made->link);
	p->made = NULL;
	p->spare_count++;
	regions_look(s);
}

void regions_look(struct shard *s)
{
	struct regions *p = &s->regions;

	if (!s->log.helper || p->made || p->spare_count >= SPARE_MAX / 2 || s->is_closing)
		return;
	p->made = region_new(s);
	if (p->made)
		helper_do(s->log.helper, &p->work);
}

/* The one that was this before, when the process began anew. */
static struct value_region *find_old(struct shard *s, uint16_t slot, uint32_t index)
{
	for (struct list *l = s->regions.old.next; l != &s->regions.old; l = l->next) {
		struct value_region *v = container_of(l, struct value_region, link);

		if (v->slot == slot && v->index == index)
			return v;
	}
	return NULL;
}

void *regions_map(struct shard *s, uint16_t slot, uint32_t index)
{
	struct regions *p = &s->regions;
	struct value_region *v = find_old(s, slot, index);
	bool is_old = v != NULL;

	if (!v && p->spare_count > 0) {
		v = container_of(p->spare.next, struct value_region, link);
		p->spare_count--;
	} else if (!v) {
		v = region_new(s);
		if (v && region_make(s, v) < 0)
			v = node_free(v);
	}
	if (!v)
		return NULL;
	if (!is_old) {
		v->slot = slot;
		v->is_lacking = s->is_blank;
		v->index = index;
		say_whose(v);
	}
	list_remove(&v->link);
	list_insert(&p->used, &v->link);
	*place_of(v->memory.ptr) = v;
	regions_look(s);
	return v->memory.ptr + SEGMENT_PAGE;
}

static void region_free(struct shard *s, struct value_region *v)
{
	list_remove(&v->link);
	if (!s->is_left)
		keep_drop(s->log.config.keep, name_of(s, v));
	media_of(s)->free(&v->memory);
	node_free(v);
}

struct region_gone {
	struct work work;
	struct shard *shard;
	struct value_region *region;
};

static void gone_run(struct work *w)
{
	struct region_gone *g = container_of(w, struct region_gone, work);

	keep_drop(g->shard->log.config.keep, name_of(g->shard, g->region));
	media_of(g->shard)->free(&g->region->memory);
}

static void gone_done(struct work *w)
{
	struct region_gone *g = container_of(w, struct region_gone, work);

	node_free(g->region);
	node_free(g);
}

void regions_unmap(struct shard *s, void *bytes)
{
	struct regions *p = &s->regions;
	struct value_region *v = *place_of((uint8_t *)bytes - SEGMENT_PAGE);
	struct region_gone *g;

	list_remove(&v->link);
	memset(v->memory.ptr, 0, 8); /* nobody's */
	g = s->log.helper && p->spare_count >= SPARE_MAX ? node_alloc(sizeof(*g)) : NULL;
	if (!g) {
		list_insert(&p->spare, &v->link);
		p->spare_count++;
		return;
	}
	*g = (struct region_gone){ .work = { .run = gone_run, .done = gone_done },
				   .shard = s,
				   .region = v };
	helper_do(s->log.helper, &g->work);
}

void regions_init(struct shard *s)
{
	struct regions *p = &s->regions;

	*p = (struct regions){ .work = { .run = make_run, .done = make_done } };
	list_init(&p->spare);
	list_init(&p->used);
	list_init(&p->old);
}

int regions_recover(struct shard *s)
{
	struct keep_name name = { KEEP_VALUE, s->config.index, 0 };

	while (keep_find(s->log.config.keep, name, &name) && name.kind == KEEP_VALUE &&
	       name.owner == s->config.index) {
		struct value_region *v = region_new(s);
		int r = v ? 0 : -ENOMEM;

		if (r == 0)
			r = keep_take(s->log.config.keep, name, &v->memory);
		if (r < 0) {
			node_free(v);
			return r;
		}
		v->number = name.number;
		if (name.number >= s->regions.next_number)
			s->regions.next_number = name.number + 1;
		list_insert(&s->regions.old, &v->link);
		if (!is_somebodys(v))
			region_free(s, v);
		else if (v->is_lacking)
			s->is_lacking = true;
		if (name.number++ == UINT64_MAX)
			break;
	}
	return 0;
}

void regions_recovered(struct shard *s)
{
	while (!list_is_empty(&s->regions.old))
		region_free(s, container_of(s->regions.old.next, struct value_region, link));
}

void regions_fini(struct shard *s)
{
	struct regions *p = &s->regions;
	struct list *all[] = { &p->spare, &p->used, &p->old };

	for (unsigned i = 0; i < 3; i++)
		while (all[i]->next && !list_is_empty(all[i]))
			region_free(s, container_of(all[i]->next, struct value_region, link));
}
