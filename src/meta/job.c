/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"

/* The longest run of entries of one name: all of its ended jobs. */
#define LIST_ROOM_PER_NAME ((ENDED_JOBS_MAX + 1) * 192u)

struct slice job_name(const struct job *j)
{
	return (struct slice){ j->name, j->name_len };
}

static uint64_t name_hash(const struct catalog *c, struct slice name)
{
	return hash_64(name.ptr, name.len, c->seed);
}

struct job *catalog_job_find(const struct catalog *c, uint64_t id)
{
	uint64_t hash = hash_64(&id, sizeof(id), c->seed);

	for (struct hlink *l = htable_first(&c->jobs, hash); l; l = htable_next(l)) {
		struct job *j = container_of(l, struct job, by_id);

		if (j->id == id)
			return j;
	}
	return NULL;
}

/* The living one of a name, or else the one that ended last. */
static struct job *find_name(const struct catalog *c, struct slice name)
{
	struct job *found = NULL;

	for (struct hlink *l = htable_first(&c->names, name_hash(c, name)); l; l = htable_next(l)) {
		struct job *j = container_of(l, struct job, by_name);

		if (slice_compare(job_name(j), name) != 0)
			continue;
		if (!found || j->id > found->id)
			found = j;
	}
	return found;
}

int catalog_job_living(struct catalog *c, uint64_t id, struct outcome *out, struct job **ret)
{
	struct job *j = catalog_job_find(c, id);

	*ret = j;
	if (j && j->state == JOB_LIVING)
		return 0;
	if (j)
		return refuse(out, -EIDRM, "the job %.*s has ended", (int)j->name_len, j->name);
	if (slot_of_id(id) == c->slot && id != 0 &&
	    id < ((uint64_t)c->slot << ID_SLOT_SHIFT | c->next_job))
		return refuse(out, -EIDRM, "the job has ended");
	return refuse(out, -ENXIO, "there is no job of this id");
}

int catalog_job_lives(const struct catalog *c, uint64_t id)
{
	struct job *j;

	return catalog_job_living((struct catalog *)c, id, NULL, &j);
}

bool catalog_job_is_durable(const struct catalog *c, uint64_t job)
{
	const struct job *j = catalog_job_find(c, job);

	return j && j->is_durable;
}

uint64_t catalog_job_bytes(const struct catalog *c, uint64_t job)
{
	const struct job *j = catalog_job_find(c, job);

	return j ? j->held_bytes : 0;
}

uint64_t catalog_job_named(const struct catalog *c, struct slice name)
{
	struct job *j = find_name(c, name);

	return j ? j->id : 0;
}

uint64_t catalog_job_over(struct catalog *c)
{
	struct list *l = c->untold.next;

	if (l == &c->untold)
		return 0;
	list_remove(l);
	return container_of(l, struct job, untold)->id;
}

void catalog_job_over_again(struct catalog *c, uint64_t job)
{
	struct job *j = catalog_job_find(c, job);

	if (j)
		list_insert(&c->untold, &j->untold);
}

void job_book(struct catalog *c, struct job *j, int64_t delta, uint64_t stamp_ns)
{
	if (j->state != JOB_LIVING)
		return; /* its bill was closed at its end */
	SNAPSHOT(job, j);
	account_book(&j->account, delta, stamp_ns);
	account_book(&c->account, delta, stamp_ns);
}

uint64_t job_room(const struct job *j)
{
	uint64_t used = j->account.bytes + j->asked_bytes;

	if (j->quota == 0)
		return UINT64_MAX;
	return used < j->quota ? j->quota - used : 0;
}

int job_charge(const struct job *j, uint64_t bytes, struct outcome *out)
{
	if (bytes <= job_room(j))
		return 0;
	if (out)
		out->may_fit = bytes <= j->quota;
	return refuse(out, -EDQUOT,
		      "job %.*s: %llu of its quota of %llu bytes of dram are in use, "
		      "%llu more were asked for",
		      (int)j->name_len, j->name,
		      (unsigned long long)(j->account.bytes + j->asked_bytes),
		      (unsigned long long)j->quota, (unsigned long long)bytes);
}

/* JOB_MADE */

int job_made_reserve(struct catalog *c, struct effect *e)
{
	const struct job_made_effect *m = &e->u.job_made;
	struct job *j = find_name(c, m->name);

	if (m->name.len == 0 || m->name.len > JOB_NAME_BYTES_MAX || catalog_job_find(c, m->job) ||
	    (j && j->state == JOB_LIVING) || slot_of_id(m->job) != c->slot)
		return -EBADMSG;
	e->made.job = node_alloc(sizeof(struct job));
	return e->made.job ? 0 : -ENOMEM;
}

/* What it is called, and what was asked for; it is found by id and name. */
static void make(struct catalog *c, struct job *j, const struct job_made_effect *m,
		 uint64_t made_ns)
{
	uint64_t counter = m->job & ((1ull << ID_SLOT_SHIFT) - 1);
	struct wcur name;

	*j = (struct job){ .id = m->job,
			   .seen = c->snapshot.round,
			   .made_ns = made_ns,
			   .attempt = m->attempt,
			   .lease_ms = m->lease_ms,
			   .functions = m->functions,
			   .peak_mbps = m->peak_mbps,
			   .is_latency_sensitive = m->is_latency_sensitive,
			   .is_durable = m->is_durable,
			   .quota = m->quota_dram,
			   .capacity = m->capacity,
			   .block = NONE_32,
			   .index = { .ops = &ENTRY_OPS },
			   .name_len = (uint8_t)m->name.len };
	list_init(&j->link);
	list_init(&j->untold);
	list_init(&j->attempts);
	list_init(&j->segments);
	list_init(&j->opens);
	list_init(&j->holds);
	name = wcur_make(j->name, sizeof(j->name));
	memcpy(wcur_take(&name, m->name.len), m->name.ptr, m->name.len);
	for (int i = 7; i >= 0; i--)
		j->name[m->name.len + 1 + 7 - i] = (uint8_t)(m->job >> (8 * i));
	htable_add(&c->jobs, &j->by_id, hash_64(&j->id, sizeof(j->id), c->seed));
	htable_add(&c->names, &j->by_name, name_hash(c, m->name));
	index_add(&c->job_order, &j->in_order);
	if (counter >= c->next_job)
		c->next_job = counter + 1;
}

void job_made_apply(struct catalog *c, struct effect *e)
{
	struct job *j = TAKE_PTR(e->made.job);

	make(c, j, &e->u.job_made, e->at_ns);
	heap_add(&c->leases, &j->lease, e->at_ns + j->lease_ms * MS);
	list_insert(&c->living, &j->link);
	c->job_count++;
}

int job_restore(struct catalog *c, const struct job_made_effect *m, uint64_t made_ns,
		bool is_living, struct job **ret)
{
	const struct job *other = find_name(c, m->name);
	const char *why;
	struct job *j;

	if (!job_name_is_valid(m->name, &why) || slot_of_id(m->job) != c->slot ||
	    catalog_job_find(c, m->job) || (is_living && other && other->state == JOB_LIVING))
		return -EBADMSG;
	j = node_alloc(sizeof(*j));
	if (!j)
		return -ENOMEM;
	make(c, j, m, made_ns);
	*ret = j;
	return 0;
}

int catalog_job_create(struct catalog *c, const struct job_create_req *req, uint64_t now_ns,
		       struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_JOB_MADE, .at_ns = now_ns };
	struct job_made_effect *m = &e.u.job_made;
	const struct job *j = find_name(c, req->name);
	const uint64_t attempt = attempt_of(req->attempt_hi, req->attempt_lo);
	const char *why;
	int r;

	outcome_begin(c, ret);
	if (!job_name_is_valid(req->name, &why))
		return refuse(ret, -EINVAL, "%s", why);
	if (req->lease_ms != 0 &&
	    (req->lease_ms < JOB_LEASE_MS_MIN || req->lease_ms > JOB_LEASE_MS_MAX))
		return refuse(ret, -EINVAL, "a lease is from %u to %u ms", JOB_LEASE_MS_MIN,
			      JOB_LEASE_MS_MAX);
	if (j && j->state == JOB_LIVING) {
		if (attempt && j->attempt == attempt) {
			ret->rep.job_create = (struct job_create_rep){ .job = j->id };
			return 0;
		}
		return refuse(ret, -EEXIST, "there is a job %.*s already", (int)req->name.len,
			      req->name.ptr);
	}
	if (req->is_durable && !(c->ops->can_sync && c->ops->can_sync(c)))
		return refuse(
			ret, -EOPNOTSUPP,
			"a durable job needs a log on a disk that takes it: start the metadata "
			"server with --data DIR");
	/* Those whose bytes are being given back count, too. */
	if (c->jobs.count - c->ended_count >= JOBS_PER_SLOT)
		return refuse(
			ret, -EUSERS,
			"the slot of this name has %u jobs, which is its limit: end some, or take "
			"another name",
			JOBS_PER_SLOT);
	*m = (struct job_made_effect){
		.job = (uint64_t)c->slot << ID_SLOT_SHIFT | c->next_job,
		.attempt = attempt,
		.lease_ms = req->lease_ms ? req->lease_ms : JOB_LEASE_MS_DEFAULT,
		.functions = req->functions,
		.quota_dram = req->quota_dram,
		.capacity = req->capacity,
		.peak_mbps = req->peak_mbps,
		.is_latency_sensitive = req->is_latency_sensitive,
		.is_durable = req->is_durable != 0,
		.name = req->name,
	};
	ret->rep.job_create = (struct job_create_rep){ .job = m->job };
	r = effect_do(c, &e);
	return r;
}

/* JOB_RENEWED */

int job_renewed_reserve(struct catalog *c, struct effect *e)
{
	e->at.job = catalog_job_find(c, e->u.job_renewed.job);
	return e->at.job && e->at.job->state == JOB_LIVING ? 0 : -EBADMSG;
}

void job_renewed_apply(struct catalog *c, struct effect *e)
{
	struct job *j = e->at.job;

	SNAPSHOT(job, j);
	j->lease_ms = e->u.job_renewed.lease_ms;
	heap_remove(&c->leases, &j->lease);
	heap_add(&c->leases, &j->lease, e->at_ns + j->lease_ms * MS);
}

/* The job that a request names; only a living one. */
static int named(const struct catalog *c, struct slice name, struct outcome *out, struct job **ret)
{
	*ret = find_name(c, name);
	if (!*ret)
		return refuse(out, -ENXIO, "there is no job %.*s", (int)name.len, name.ptr);
	if ((*ret)->state != JOB_LIVING)
		return refuse(out, -EIDRM, "the job %.*s has ended", (int)name.len, name.ptr);
	return 0;
}

int catalog_job_renew(struct catalog *c, const struct job_renew_req *req, uint64_t now_ns,
		      struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_JOB_RENEWED, .at_ns = now_ns };
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = named(c, req->name, ret, &j);
	if (r < 0)
		return r;
	e.u.job_renewed.job = j->id;
	e.u.job_renewed.lease_ms = req->lease_ms ? req->lease_ms : j->lease_ms;
	if (e.u.job_renewed.lease_ms < JOB_LEASE_MS_MIN ||
	    e.u.job_renewed.lease_ms > JOB_LEASE_MS_MAX)
		return refuse(ret, -EINVAL, "a lease is from %u to %u ms", JOB_LEASE_MS_MIN,
			      JOB_LEASE_MS_MAX);
	r = effect_do(c, &e);
	ret->rep.job_renew.lease_left_ms = j->lease_ms;
	return r;
}

/* JOB_ENDED */

int job_ended_reserve(struct catalog *c, struct effect *e)
{
	e->at.job = catalog_job_find(c, e->u.job_ended.job);
	return e->at.job && e->at.job->state == JOB_LIVING ? 0 : -EBADMSG;
}

void job_ended_apply(struct catalog *c, struct effect *e)
{
	struct job *j = e->at.job;

	SNAPSHOT(job, j);
	/* The bill ends here, whenever the bytes go. */
	job_book(c, j, -(int64_t)j->account.bytes, e->at_ns);
	account_book(&c->value_account, -(int64_t)j->block_count * VALUE_BLOCK_BYTES, e->at_ns);
	heap_remove(&c->leases, &j->lease);
	list_remove(&j->link);
	list_insert(&c->clearing, &j->link);
	list_insert(&c->untold, &j->untold);
	j->number = c->next_number++;
	j->state = JOB_CLEARING;
	j->ended_ns = e->at_ns;
	j->has_expired = e->u.job_ended.has_expired;
	c->object_count -= j->object_count;
	c->job_count--;
	if (c->out)
		c->out->wakes_all = true;
}

int catalog_job_end(struct catalog *c, const struct job_end_req *req, uint64_t now_ns,
		    struct outcome *ret, uint64_t *ret_job)
{
	struct effect e = { .kind = EFFECT_JOB_ENDED, .at_ns = now_ns };
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = named(c, req->name, ret, &j);
	*ret_job = j ? j->id : 0;
	if (r == -EIDRM)
		return 0; /* a repeat */
	if (r < 0)
		return r;
	e.u.job_ended.job = j->id;
	return effect_do(c, &e);
}

/* JOB_CLEARED */

static void job_forget(struct catalog *c, struct job *j)
{
	SNAPSHOT(job, j);
	c->forgotten.moments += j->account.moments; /* its bytes are 0 since it ended */
	list_remove(&j->link);
	list_remove(&j->untold);
	htable_remove(&c->jobs, &j->by_id);
	htable_remove(&c->names, &j->by_name);
	index_remove(&c->job_order, &j->in_order);
	node_free(j);
	c->ended_count--;
}

static bool has_rest(const struct job *j)
{
	return j->segment_count > 0 || j->debris_count > 0 || j->index.root ||
	       !list_is_empty(&j->opens) || !list_is_empty(&j->holds) ||
	       !list_is_empty(&j->attempts);
}

/* What one call of JOB_CLEARED could do something about. */
static bool has_work(const struct job *j)
{
	return !list_is_empty(&j->segments) || j->index.root || !list_is_empty(&j->opens) ||
	       !list_is_empty(&j->holds) || !list_is_empty(&j->attempts);
}

void job_rest(struct catalog *c, struct job *j)
{
	if (!j || j->state != JOB_CLEARING)
		return;
	if (!has_work(j))
		list_remove(&j->link); /* the rest is the stores' and the debris' */
	if (has_rest(j))
		return;
	assert(j->held_bytes == 0 && j->block_count == 0);
	SNAPSHOT(job, j);
	list_remove(&j->link);
	list_insert(&c->ended, &j->link);
	j->number = c->next_number++;
	j->state = JOB_ENDED;
	if (++c->ended_count > ENDED_JOBS_MAX)
		job_forget(c, container_of(c->ended.next, struct job, link));
}

int job_cleared_reserve(struct catalog *c, struct effect *e)
{
	e->at.job = catalog_job_find(c, e->u.job_cleared.job);
	return e->at.job && e->at.job->state == JOB_CLEARING ? 0 : -EBADMSG;
}

/* One thing of an ended job goes: its space first. */
static void clear_one(struct catalog *c, struct job *j)
{
	const struct end end = { .what = GONE_REMOVED, .is_forgotten = true };

	if (!list_is_empty(&j->segments))
		catalog_segment_give_back(c, container_of(j->segments.next, struct segment, of_job),
					  j->ended_ns);
	else if (!list_is_empty(&j->holds))
		hold_end(c, container_of(j->holds.next, struct hold, of_job), NULL, j->ended_ns);
	else if (!list_is_empty(&j->opens))
		open_drop(c, container_of(j->opens.next, struct open, of_job));
	else if (j->index.root)
		entry_end(c, entry_of(j->index.root), &end, NULL);
	else if (!list_is_empty(&j->attempts))
		attempt_drop_first(c, j);
}

void job_cleared_apply(struct catalog *c, struct effect *e)
{
	struct job *j = e->at.job;

	for (uint32_t i = 0; i < e->u.job_cleared.count && has_work(j); i++)
		clear_one(c, j);
	job_rest(c, j);
}

static void show(const struct job *j, uint64_t now_ns, struct job_show_rep *ret)
{
	uint64_t until = j->state == JOB_LIVING ? now_ns : j->ended_ns;
	unsigned __int128 byte_ns = account_integral(&j->account, until);
	uint64_t due = j->lease.due;

	*ret = (struct job_show_rep){
		.job = j->id,
		.lease_left_ms = j->state == JOB_LIVING && due > now_ns ? (due - now_ns) / MS : 0,
		.object_count = j->state == JOB_LIVING ? j->object_count : 0,
		.object_bytes = j->state == JOB_LIVING ? j->object_bytes : 0,
		.dram_bytes = j->held_bytes,
		.quota_dram = j->quota,
		.byte_ns_hi = (uint64_t)(byte_ns >> 64),
		.byte_ns_lo = (uint64_t)byte_ns,
		.changes = job_changes(j),
		.has_ended = j->state != JOB_LIVING,
		.has_expired = j->has_expired,
		.name = job_name(j),
	};
}

int catalog_job_show(const struct catalog *c, const struct job_show_req *req, uint64_t now_ns,
		     struct outcome *ret)
{
	const struct job *j = find_name(c, req->name);

	ret->detail[0] = '\0';
	if (!j)
		return refuse(ret, -ENXIO, "there is no job %.*s", (int)req->name.len,
			      req->name.ptr);
	show(j, now_ns > c->last_ns ? now_ns : c->last_ns, &ret->rep.job_show);
	return 0;
}

bool catalog_job_list(const struct catalog *c, struct slice after, uint64_t now_ns,
		      struct wcur *payload, uint32_t *ret_count)
{
	uint8_t key[JOB_NAME_BYTES_MAX + 1];
	struct index_link *l;
	struct slice last = after;

	/* Behind all of this name: a name has no bytes below 2. */
	if (after.len > JOB_NAME_BYTES_MAX)
		after.len = JOB_NAME_BYTES_MAX;
	if (after.len > 0)
		memcpy(key, after.ptr, after.len);
	key[after.len] = 1;
	l = index_seek(&c->job_order, (struct slice){ key, after.len > 0 ? after.len + 1 : 0 },
		       false);
	for (; l; l = index_next(l)) {
		const struct job *j = container_of(l, struct job, in_order);
		struct job_show_rep rep;
		struct job_entry entry;

		_Static_assert(sizeof(rep) == sizeof(entry), "made from one list of fields");
		if (slice_compare(job_name(j), last) != 0 &&
		    (size_t)(payload->end - payload->p) < LIST_ROOM_PER_NAME)
			return false;
		last = job_name(j);
		show(j, now_ns > c->last_ns ? now_ns : c->last_ns, &rep);
		memcpy(&entry, &rep, sizeof(entry));
		job_entry_put(payload, &entry);
		++*ret_count;
	}
	return true;
}
