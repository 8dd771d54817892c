/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object: versions come and go: commit, remove, rename.
 */
#include "base/cleanup.h"
#include "base/node.h"
#include "base/plant.h"
#include "meta/catalog_priv.h"

static struct end end_of(const struct entry *old, enum gone what, uint64_t attempt, uint64_t at_ns)
{
	if (entry_has_expired(old, at_ns))
		return (struct end){ .what = GONE_EXPIRED, .at_ns = at_ns };
	return (struct end){ .what = what, .attempt = attempt, .at_ns = at_ns };
}

/* OBJECT_PUT */

static enum content content_of(const struct object_put_effect *m)
{
	if (m->open)
		return CONTENT_BODY;
	if (m->extents.len > EXTENT_SIZE)
		return CONTENT_BODY;
	if (m->extents.len == EXTENT_SIZE)
		return CONTENT_PIECE;
	return m->len > 0 ? CONTENT_VALUE : CONTENT_EMPTY;
}

/* Memory for what the object is made of, and whether it can be made. */
static int reserve_content(struct catalog *c, struct effect *e, enum content content)
{
	const struct object_put_effect *m = &e->u.object_put;
	uint32_t count = (uint32_t)(m->extents.len / EXTENT_SIZE), chunk_count = 1;

	if (m->open) {
		e->at.open = catalog_open_find(c, m->open);
		if (!e->at.open || e->at.open->len != m->len)
			return -EBADMSG;
		chunk_count = e->at.open->chunk_count;
	}
	if (content == CONTENT_VALUE)
		return value_reserve(c, m->value, (uint32_t)m->len);
	if (content != CONTENT_BODY)
		return 0;
	e->made.body = node_alloc(sizeof(struct body) + chunk_count * sizeof(struct chunk *));
	if (!e->made.body)
		return -ENOMEM;
	if (m->open)
		return 0;
	e->made.chunk = node_alloc(sizeof(struct chunk) + count * sizeof(struct piece));
	if (!e->made.chunk)
		return -ENOMEM;
	e->made.chunk->count = count;
	return 0;
}

/* What a request has found already, a record has not. */
static void look_up(const struct catalog *c, struct effect *e, uint64_t job, struct slice path)
{
	e->at.job = catalog_job_find(c, job);
	if (!e->at.job)
		return;
	e->at.hash = path_hash(c, job, path);
	e->at.entry = entry_find_hashed(c, e->at.job, path, e->at.hash.hi);
}

int object_put_reserve(struct catalog *c, struct effect *e)
{
	const struct object_put_effect *m = &e->u.object_put;
	enum content content = content_of(m);
	struct entry_plan plan = { .path_len = (uint16_t)m->path.len,
				   .attributes_len = (uint16_t)m->attributes.len,
				   .has_life = m->ttl_ms || m->reads,
				   .content = content };
	struct job *j;
	int r;

	if (!e->at.job)
		look_up(c, e, m->job, m->path);
	j = e->at.job;
	if (!j || j->state != JOB_LIVING)
		return -EBADMSG;
	r = reserve_content(c, e, content);
	if (r == 0)
		r = attempt_spare(e->at.entry, &e->made.attempt);
	if (r == 0 && !e->at.entry)
		r = directory_reserve(c, j, m->path, &e->made.directory);
	if (r < 0)
		return r;
	e->made.entry = entry_alloc(&plan);
	return e->made.entry ? 0 : -ENOMEM;
}

static void make_content(struct catalog *c, struct effect *e, struct entry *entry)
{
	const struct object_put_effect *m = &e->u.object_put;
	struct body *b;

	switch ((enum content)entry->content) {
	case CONTENT_EMPTY:
		return;
	case CONTENT_VALUE:
		*entry_value(entry) =
			(struct value){ .at = m->value, .seed = m->seed, .crc = m->crc };
		if (!c->out && c->is_blank && m->bytes.len == m->len)
			value_write(c, m->value, m->bytes);
		value_claim(c, entry->job, m->value, (uint32_t)m->len, e->at_ns);
		return;
	case CONTENT_PIECE:
		pieces_make(c, m->extents, entry_piece(entry));
		return;
	case CONTENT_BODY:
		break;
	}
	b = TAKE_PTR(e->made.body);
	*entry_body(entry) = b;
	if (m->open) {
		open_to_body(c, e->at.open, b);
		return;
	}
	list_init(&b->debris);
	b->job = entry->job;
	b->chunks[0] = TAKE_PTR(e->made.chunk);
	b->chunk_count = 1;
	b->piece_count = b->chunks[0]->count;
	pieces_make(c, m->extents, b->chunks[0]->pieces);
}

void object_put_apply(struct catalog *c, struct effect *e)
{
	const struct object_put_effect *m = &e->u.object_put;
	struct entry *entry = TAKE_PTR(e->made.entry);
	struct slice path = entry_path(entry), attributes = entry_attributes(entry);
	struct life *life = entry_life(entry);

	memcpy((uint8_t *)path.ptr, m->path.ptr, path.len);
	if (attributes.len > 0)
		memcpy((uint8_t *)attributes.ptr, m->attributes.ptr, attributes.len);
	entry->job = e->at.job;
	entry->object = m->object;
	entry_set(entry, m->version, m->len, e->at_ns);
	if (!planted(ATTEMPT_FORGOTTEN) || c->out)
		entry->attempt = m->attempt;
	entry->tier = m->tier & 3u;
	make_content(c, e, entry);
	if (life) {
		life->reads = m->reads;
		if (m->ttl_ms)
			heap_add(&c->expiries, &life->expiry, e->at_ns + m->ttl_ms * MS);
	}
	SNAPSHOT(job, e->at.job);
	e->at.job->version = m->version;
	catalog_id_used(c, m->object);
	if (e->at.entry) {
		struct end end = end_of(e->at.entry, GONE_REPLACED, 0, e->at_ns);

		entry_replace(c, e->at.entry, entry, e->at.hash, &end, &e->made.attempt);
	} else {
		entry_add(c, entry, e->at.hash, &e->made.directory);
	}
}

static int check_path(struct slice path, struct outcome *ret)
{
	const char *why;

	if (!path_is_valid(path, &why))
		return refuse(ret, path.len > PATH_BYTES_MAX ? -EMSGSIZE : -EINVAL, "%s", why);
	if (path.ptr[path.len - 1] == '/')
		return refuse(ret, -EISDIR, "a path that ends in / names a directory");
	return 0;
}

static int check_how(const struct commit_req *req, struct outcome *ret)
{
	int r = check_path(req->path, ret);

	if (r < 0)
		return r;
	if (req->attributes.len > ATTRIBUTES_BYTES_MAX)
		return refuse(ret, -EMSGSIZE, "attributes have at most %u bytes",
			      ATTRIBUTES_BYTES_MAX);
	if (req->flags & ~PUT_FLAGS_ALL)
		return refuse(ret, -EINVAL, "unknown flags");
	if (req->flags & PUT_DURABLE)
		return refuse(ret, -EOPNOTSUPP, "durable is for a job as a whole: create it so");
	if (req->tier != TIER_ANY && req->tier != TIER_DRAM)
		return refuse(ret, -EOPNOTSUPP, "this store has no tier but dram");
	if (req->copies > 1)
		return refuse(ret, -EOPNOTSUPP, "this store keeps one copy");
	return 0;
}

/* Has this attempt been committed before? True: ret has the same answer again. */
static bool is_repeat(const struct catalog *c, const struct entry *e, uint64_t hash,
		      uint64_t attempt, uint64_t *ret_object, uint64_t *ret_version)
{
	const struct attempt *a;

	if (attempt == 0)
		return false;
	if (e && e->attempt == attempt) {
		*ret_object = e->object;
		*ret_version = e->version;
		return true;
	}
	a = attempt_by_put(c, hash, attempt);
	if (!a)
		return false;
	*ret_object = a->object;
	*ret_version = a->version;
	return true;
}

/* May the path get a new version? */
static int check_old(const struct entry *old, struct slice path, uint64_t if_version,
		     bool is_create, uint64_t now_ns, struct outcome *ret)
{
	if (old && entry_has_expired(old, now_ns))
		old = NULL;
	if (planted(REFUSAL_WRONG) && now_ns % 16 == 5 && (is_create || if_version != 0))
		return refuse(ret, is_create ? -EEXIST : -EBADE, "refused");
	if (is_create && old)
		return refuse(ret, -EEXIST, "%.*s has version %llu", (int)path.len, path.ptr,
			      (unsigned long long)old->version);
	if (if_version != 0 && !old)
		return refuse(ret, -EBADE, "%.*s does not exist", (int)path.len, path.ptr);
	if (if_version != 0 && old->version != if_version)
		return refuse(ret, -EBADE, "%.*s has version %llu", (int)path.len, path.ptr,
			      (unsigned long long)old->version);
	return 0;
}

static int check_open(const struct catalog *c, const struct job *j, const struct commit_req *req,
		      struct outcome *ret)
{
	const struct open *o = catalog_open_find(c, req->open);

	if (!o || o->job != j || o->session->id != req->session)
		return refuse(ret, -ESTALE, "there is no such open object");
	if (req->len != 0 && o->len != req->len)
		return refuse(ret, -EINVAL, "its parts have %llu bytes, not %llu",
			      (unsigned long long)o->len, (unsigned long long)req->len);
	return 0;
}

static int check_extents(const struct catalog *c, const struct job *j, const struct commit_req *req,
			 struct slice payload, struct outcome *ret)
{
	uint64_t len;
	int r;

	if (payload.len != req->extent_count * (size_t)EXTENT_SIZE)
		return refuse(ret, -EINVAL, "not as many extents as announced");
	r = extents_check(c, j, &req->session, payload, &len, ret);
	if (r == 0 && len != req->len)
		return refuse(ret, -EINVAL, "the extents have %llu bytes, not %llu",
			      (unsigned long long)len, (unsigned long long)req->len);
	return r;
}

static int choose_value(const struct catalog *c, const struct job *j, const struct commit_req *req,
			struct slice payload, uint64_t *ret_at, struct outcome *ret)
{
	bool is_new;

	if (payload.len != req->len)
		return refuse(ret, -EINVAL, "%zu bytes came, not %llu", payload.len,
			      (unsigned long long)req->len);
	if (payload.len > INLINE_BYTES_MAX)
		return refuse(ret, -EMSGSIZE, "a value has at most %u bytes", INLINE_BYTES_MAX);
	if (crc_more(crc_begin(req->seed), payload.ptr, payload.len) != req->crc)
		return refuse(ret, -EIO, "the value does not have the checksum that came with it");
	if (payload.len == 0)
		return 0;
	value_choose(c, j, (uint32_t)payload.len, ret_at, &is_new);
	return is_new ? job_charge(j, VALUE_BLOCK_BYTES, ret) : 0;
}

/* Until there is a tier of flash, what is durable lies in the log. Duties rely on it (duties.c). */
static int check_durable(struct catalog *c, const struct commit_req *req, struct outcome *ret)
{
	if (req->open || req->extent_count > 0)
		return refuse(
			ret, -EOPNOTSUPP,
			"an object of a durable job has at most %u bytes: a larger one needs the "
			"tier block, which this store does not have",
			INLINE_BYTES_MAX);
	if (!c->ops->can_sync || !c->ops->can_sync(c))
		return refuse(
			ret, -ENOBUFS,
			"the disk of the metadata server's log takes nothing, so nothing is safe");
	return 0;
}

static int check_bytes(const struct catalog *c, const struct job *j, const struct commit_req *req,
		       struct slice payload, uint64_t *ret_at, struct outcome *ret)
{
	*ret_at = 0;
	if (req->open)
		return check_open(c, j, req, ret);
	if (req->extent_count > 0)
		return check_extents(c, j, req, payload, ret);
	return choose_value(c, j, req, payload, ret_at, ret);
}

int catalog_commit(struct catalog *c, const struct commit_req *req, struct slice payload,
		   uint64_t now_ns, struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_OBJECT_PUT, .at_ns = now_ns };
	struct object_put_effect *m = &e.u.object_put;
	const uint64_t attempt = attempt_of(req->attempt_hi, req->attempt_lo);
	uint64_t value;
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, req->job, ret, &j);
	if (r == 0)
		r = check_how(req, ret);
	if (r < 0)
		return r;
	e.at.job = j;
	e.at.hash = path_hash(c, j->id, req->path);
	attempt_expect(c, j, e.at.hash.hi, attempt);
	e.at.entry = entry_find_hashed(c, j, req->path, e.at.hash.hi);
	if (e.at.entry)
		index_expect(&e.at.entry->in_job);
	if (is_repeat(c, e.at.entry, e.at.hash.hi, attempt, &ret->rep.commit.object,
		      &ret->rep.commit.version)) {
		ret->rep.commit.changes = job_changes(j);
		ret->is_repeat = true;
		/* Its bytes may have come once more, and whoever is told OK drops nothing. */
		return open_give_up(c,
				    &(struct drop_req){ .job = req->job,
							.session = req->session,
							.open = req->open },
				    now_ns);
	}
	r = attempt_check(j, attempt, req->since, ret);
	if (r == 0)
		r = check_old(e.at.entry, req->path, req->if_version, req->flags & PUT_CREATE,
			      now_ns, ret);
	if (r == 0 && j->is_durable)
		r = check_durable(c, req, ret);
	if (r == 0)
		r = check_bytes(c, j, req, payload, &value, ret);
	if (r < 0)
		return r;
	*m = (struct object_put_effect){
		.job = req->job,
		.object = catalog_next_id(c),
		.version = j->version + 1,
		.attempt = attempt,
		.len = req->len,
		.seed = crc_begin(req->seed),
		.open = req->open,
		.value = value,
		.crc = req->crc,
		.ttl_ms = req->ttl_ms,
		.reads = req->reads,
		.flags = req->flags,
		.tier = TIER_DRAM,
		.copies = 1,
		.path = req->path,
		.attributes = req->attributes,
	};
	if (req->open)
		m->len = catalog_open_find(c, req->open)->len;
	else if (req->extent_count > 0)
		m->extents = payload;
	if (j->is_durable)
		m->bytes = payload;
	ret->rep.commit = (struct commit_rep){ .object = m->object, .version = m->version };
	r = effect_reserve(c, &e);
	if (r < 0)
		return r == -ENOSPC && !ret->detail[0]
			       ? refuse(ret, r, "no memory for another value segment")
			       : r;
	/* The bytes first: the record says that they are there. */
	if (content_of(m) == CONTENT_VALUE)
		value_write(c, value, payload);
	effect_finish(c, &e);
	ret->rep.commit.changes = job_changes(j);
	return 0;
}

/* OBJECT_REMOVED */

int object_removed_reserve(struct catalog *c, struct effect *e)
{
	const struct object_removed_effect *m = &e->u.object_removed;
	struct job *j;

	if (!e->at.job)
		look_up(c, e, m->job, m->path);
	j = e->at.job;
	/* What expires while its job is being cleared goes like this, too. */
	if (!j || (m->what != GONE_EXPIRED && (m->what != GONE_REMOVED || j->state != JOB_LIVING)))
		return -EBADMSG;
	return e->at.entry ? attempt_spare(e->at.entry, &e->made.attempt) : -EBADMSG;
}

void object_removed_apply(struct catalog *c, struct effect *e)
{
	const struct object_removed_effect *m = &e->u.object_removed;
	const struct end end = { .what = (enum gone)m->what,
				 .attempt = m->attempt,
				 .at_ns = e->at_ns,
				 .is_forgotten = e->at.job->state != JOB_LIVING };

	entry_end(c, e->at.entry, &end, &e->made.attempt);
	job_rest(c, e->at.job);
}

int catalog_remove(struct catalog *c, const struct remove_req *req, uint64_t now_ns,
		   struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_OBJECT_REMOVED, .at_ns = now_ns };
	const uint64_t attempt = attempt_of(req->attempt_hi, req->attempt_lo);
	const struct attempt *a = NULL;
	const struct entry *old;
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, req->job, ret, &j);
	if (r == 0)
		r = check_path(req->path, ret);
	if (r < 0)
		return r;
	look_up(c, &e, j->id, req->path);
	if (attempt)
		a = attempt_by_end(c, e.at.hash.hi, attempt);
	if (a) {
		ret->rep.remove = (struct remove_rep){ a->version, job_changes(j) };
		ret->is_repeat = true;
		return 0;
	}
	r = attempt_check(j, attempt, req->since, ret);
	if (r < 0)
		return r;
	old = e.at.entry;
	if (!old || entry_has_expired(old, now_ns))
		return catalog_missing(c, j, req->path, now_ns, ret);
	r = check_old(old, req->path, req->if_version, false, now_ns, ret);
	if (r < 0)
		return r;
	ret->rep.remove.version = old->version;
	e.u.object_removed = (struct object_removed_effect){
		.job = req->job, .attempt = attempt, .what = GONE_REMOVED, .path = req->path
	};
	r = effect_do(c, &e);
	ret->rep.remove.changes = job_changes(j);
	return r;
}

/* OBJECT_RENAMED: the same object gets another path, and a new version. */

int object_renamed_reserve(struct catalog *c, struct effect *e)
{
	const struct object_renamed_effect *m = &e->u.object_renamed;
	struct job *j = catalog_job_find(c, m->job);
	struct entry_plan plan;
	struct entry *from;
	int r;

	if (!j || j->state != JOB_LIVING || slice_compare(m->from, m->to) == 0)
		return -EBADMSG;
	e->at.job = j;
	from = e->at.entry = entry_find(c, j, m->from);
	e->at.hash = path_hash(c, j->id, m->to);
	e->at.target = entry_find_hashed(c, j, m->to, e->at.hash.hi);
	if (!from)
		return -EBADMSG;
	r = attempt_spare(e->at.target, &e->made.attempt);
	if (r == 0 && !e->at.target)
		r = directory_reserve(c, j, m->to, &e->made.directory);
	if (r < 0)
		return r;
	plan = (struct entry_plan){ .path_len = (uint16_t)m->to.len,
				    .attributes_len = from->attributes_len,
				    .has_life = from->has_life,
				    .content = (enum content)from->content };
	e->made.entry = entry_alloc(&plan);
	return e->made.entry ? 0 : -ENOMEM;
}

/* What it is made of goes along; nothing is claimed or released. */
static void move_content(struct catalog *c, struct entry *from, struct entry *to)
{
	struct life *old = entry_life(from), *life = entry_life(to);

	if (life) {
		life->reads = old->reads;
		life->granted = old->granted;
		if (heap_has(&old->expiry))
			heap_add(&c->expiries, &life->expiry, old->expiry.due);
	}
	switch ((enum content)from->content) {
	case CONTENT_EMPTY:
		break;
	case CONTENT_VALUE:
		*entry_value(to) = *entry_value(from);
		break;
	case CONTENT_PIECE:
		piece_relocate(entry_piece(from), entry_piece(to));
		break;
	case CONTENT_BODY:
		*entry_body(to) = *entry_body(from);
		break;
	}
}

void object_renamed_apply(struct catalog *c, struct effect *e)
{
	const struct object_renamed_effect *m = &e->u.object_renamed;
	const struct end end = { .what = GONE_RENAMED, .at_ns = e->at_ns, .keeps_content = true };
	struct entry *from = e->at.entry, *to = TAKE_PTR(e->made.entry);
	struct slice path = entry_path(to), attributes = entry_attributes(to);
	struct hold *h;

	SNAPSHOT(entry, from);
	SNAPSHOT(job, from->job);
	memcpy((uint8_t *)path.ptr, m->to.ptr, path.len);
	if (attributes.len > 0)
		memcpy((uint8_t *)attributes.ptr, entry_attributes(from).ptr, attributes.len);
	to->job = from->job;
	to->object = from->object;
	entry_set(to, m->version, from->len, from->made_ns);
	to->attempt = m->attempt;
	to->tier = from->tier;
	move_content(c, from, to);
	while ((h = hold_first(c, from)) != NULL) {
		hold_unhang(c, h);
		hold_hang(c, h, to);
	}
	to->job->version = m->version;
	to->job->renamed_ns = e->at_ns;
	if (e->at.target) {
		struct end old = end_of(e->at.target, GONE_REPLACED, 0, e->at_ns);

		entry_replace(c, e->at.target, to, e->at.hash, &old, &e->made.attempt);
	} else {
		entry_add(c, to, e->at.hash, &e->made.directory);
	}
	entry_end(c, from, &end, NULL);
}

int catalog_rename(struct catalog *c, const struct rename_req *req, uint64_t now_ns,
		   struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_OBJECT_RENAMED, .at_ns = now_ns };
	const uint64_t attempt = attempt_of(req->attempt_hi, req->attempt_lo);
	const struct entry *from, *target;
	struct hash_128 hash;
	uint64_t object;
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, req->job, ret, &j);
	if (r == 0)
		r = check_path(req->from, ret);
	if (r == 0)
		r = check_path(req->to, ret);
	if (r < 0)
		return r;
	hash = path_hash(c, j->id, req->to);
	target = entry_find_hashed(c, j, req->to, hash.hi);
	if (is_repeat(c, target, hash.hi, attempt, &object, &ret->rep.rename.version)) {
		ret->rep.rename.changes = job_changes(j);
		ret->is_repeat = true;
		return 0;
	}
	r = attempt_check(j, attempt, req->since, ret);
	if (r < 0)
		return r;
	from = entry_seen(c, j, req->from, now_ns);
	if (!from)
		return catalog_missing(c, j, req->from, now_ns, ret);
	r = check_old(target, req->to, 0, req->flags & PUT_CREATE, now_ns, ret);
	if (r < 0)
		return r;
	if (slice_compare(req->from, req->to) == 0) {
		ret->rep.rename = (struct rename_rep){ from->version, job_changes(j) };
		return 0;
	}
	e.u.object_renamed = (struct object_renamed_effect){ .job = req->job,
							     .version = j->version + 1,
							     .attempt = attempt,
							     .from = req->from,
							     .to = req->to };
	ret->rep.rename.version = e.u.object_renamed.version;
	r = effect_do(c, &e);
	ret->rep.rename.changes = job_changes(j);
	return r;
}
