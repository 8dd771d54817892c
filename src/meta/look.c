/* SPDX-License-Identifier: Apache-2.0 */
/*
 * look: what is there: stat, lookup, find by range, and waiting for it.
 */
#include "meta/catalog_priv.h"

int directory_path(struct slice path, uint8_t *buf, struct slice *ret)
{
	*ret = (struct slice){ buf, path.len };
	if (path.len > PATH_BYTES_MAX)
		return -EMSGSIZE;
	if (path.len == 0)
		return 0;
	memcpy(buf, path.ptr, path.len);
	if (buf[path.len - 1] != '/')
		buf[ret->len++] = '/';
	return 0;
}

/* Is there anything visible in it, at any depth? Its path ends in '/'. */
static bool is_directory(const struct job *j, struct slice directory, uint64_t now_ns)
{
	struct index_link *l = index_seek(&j->index, directory, false);

	for (int i = 0; l && i < LIST_STEP; i++, l = index_next(l)) {
		const struct entry *e = entry_of(l);

		if (!slice_begins_with(entry_path(e), directory))
			return false;
		if (!entry_has_expired(e, now_ns))
			return true;
	}
	return l != NULL;
}

static int refuse_missing(const struct job *j, struct slice path, uint64_t now_ns,
			  struct outcome *ret)
{
	uint8_t buf[PATH_BYTES_MAX + 1];
	struct slice directory;
	bool is_one = directory_path(path, buf, &directory) == 0 && directory.len > path.len &&
		      is_directory(j, directory, now_ns);

	return refuse(ret, -ENOENT, "there is no %.*s in job %.*s%s", (int)path.len, path.ptr,
		      (int)j->name_len, j->name, is_one ? "; it is a directory" : "");
}

int catalog_missing(const struct catalog *c, const struct job *j, struct slice path,
		    uint64_t now_ns, struct outcome *ret)
{
	const struct entry *e = entry_find(c, j, path);
	const struct attempt *a = tombstone_find(c, path_hash(c, j->id, path).hi);

	if (e ? entry_has_expired(e, now_ns) : a && a->what == GONE_EXPIRED)
		return refuse(ret, -ETIME, "%.*s has expired", (int)path.len, path.ptr);
	if (!e && a)
		return refuse(ret, -ENODATA, "the last read of %.*s was taken", (int)path.len,
			      path.ptr);
	return refuse_missing(j, path, now_ns, ret);
}

void entry_stat(const struct entry *e, uint64_t now_ns, struct stat_rep *ret)
{
	const struct life *life = entry_life(e);

	*ret = (struct stat_rep){
		.object = e->object,
		.version = e->version,
		.len = e->len,
		.age_ms = now_ns > e->made_ns ? (now_ns - e->made_ns) / MS : 0,
		.ttl_left_ms = NONE_64,
		.reads_left = NONE_32,
		.extent_count = entry_piece_count(e),
		.tier = e->tier,
		.attributes = entry_attributes(e),
	};
	if (life && heap_has(&life->expiry))
		ret->ttl_left_ms = life->expiry.due > now_ns ? (life->expiry.due - now_ns) / MS : 0;
	if (life && life->reads > 0)
		ret->reads_left = life->reads - life->granted;
}

/*
 * An answer about it tells of nothing younger. A rename keeps the age of an object, so what its job
 * has renamed last counts for all of them. Which reads were counted, and how many are left, may
 * have changed just now.
 */
static uint64_t known_since(const struct entry *e)
{
	const struct life *life = entry_life(e);

	if (life && life->reads > 0)
		return UINT64_MAX;
	return e->made_ns > e->job->renamed_ns ? e->made_ns : e->job->renamed_ns;
}

static int stat_directory(struct catalog *c, const struct job *j, struct slice path,
			  uint64_t now_ns, struct outcome *ret)
{
	uint8_t buf[PATH_BYTES_MAX + 1];
	struct slice directory;
	const struct directory *d;
	int r = directory_path(path, buf, &directory);

	if (r < 0)
		return refuse(ret, r, "a path has at most %u bytes behind its job", PATH_BYTES_MAX);
	r = catalog_expire(c, now_ns);
	if (r < 0)
		return r;
	if (directory.len > 0 && !is_directory(j, directory, now_ns))
		return catalog_missing(c, j, path, now_ns, ret);
	d = directory_find(c, j, directory);
	ret->rep.stat = (struct stat_rep){ .len = d ? d->count : 0,
					   .ttl_left_ms = NONE_64,
					   .reads_left = NONE_32,
					   .is_directory = 1 };
	return 0;
}

int catalog_stat(struct catalog *c, uint64_t job, struct slice path, uint64_t now_ns,
		 struct outcome *ret)
{
	const struct entry *e;
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, job, ret, &j);
	if (r < 0)
		return r;
	e = entry_seen(c, j, path, now_ns);
	if (!e)
		return stat_directory(c, j, path, now_ns, ret);
	entry_stat(e, now_ns, &ret->rep.stat);
	ret->seen_ns = known_since(e);
	return 0;
}

static int check_hold(const struct catalog *c, const struct job *j, uint64_t session,
		      struct outcome *ret)
{
	const struct session *s = catalog_session_find(c, session);

	if (session == 0)
		return refuse(ret, -ENOLINK, "a hold belongs to a session");
	if (s && s->hold_count >= HOLDS_PER_SESSION)
		return refuse(ret, -EUSERS, "a session has at most %u holds", HOLDS_PER_SESSION);
	if (share_of(c, s, j).hold_count >= HOLDS_PER_JOB)
		return refuse(ret, -EUSERS, "a job has at most %u holds in one session",
			      HOLDS_PER_JOB);
	return 0;
}

/* The read of an object with reads left: granted, granted before, or to be waited for. */
static int grant_read(struct catalog *c, const struct lookup_req *req, const struct entry *e,
		      uint64_t now_ns, struct outcome *ret, struct effect *ret_effect)
{
	const struct life *life = entry_life(e);
	struct hold *h = NULL;

	if (req->session == 0)
		return refuse(ret, -ENOLINK, "an object with reads left is read in a session");
	if (req->read_hi | req->read_lo)
		h = read_find(c, e, req->read_hi, req->read_lo);
	if (h) {
		*ret_effect = (struct effect){ .kind = EFFECT_HOLD_TRIED, .at_ns = now_ns };
		ret_effect->u.hold_tried = (struct hold_tried_effect){ .hold = h->id,
								       .session = req->session,
								       .request = req->request,
								       .nth_try = h->nth_try + 1 };
		ret->rep.lookup.hold = h->id;
		ret->rep.lookup.nth_try = h->nth_try + 1;
		return h->session->id == req->session ? 0
						      : check_hold(c, e->job, req->session, ret);
	}
	if (life->granted < life->reads) {
		ret_effect->u.hold_made.is_read = 1;
		return 0;
	}
	ret->must_wait = true;
	ret->key = (struct wake_key){ path_hash(c, req->job, req->path), req->job };
	return 0;
}

static void put_stat(struct lookup_rep *rep, const struct stat_rep *s)
{
#define F(type, field) rep->field = s->field;
	STAT_REP(F)
#undef F
}

/* The bytes, or where they are. */
static int put_content(const struct catalog *c, const struct lookup_req *req, const struct entry *e,
		       struct wcur *payload, struct outcome *ret, bool *ret_goes_on)
{
	uint64_t until =
		req->offset + req->take < req->offset ? UINT64_MAX : req->offset + req->take;
	struct lookup_rep *rep = &ret->rep.lookup;
	bool is_lost = false;
	uint64_t end;

	*ret_goes_on = false;
	if (e->content == CONTENT_EMPTY)
		return 0;
	if (e->content == CONTENT_VALUE) {
		const struct value *v = entry_value(e);
		uint8_t *to = wcur_take(payload, e->len);

		if (c->is_lacking &&
		    crc_more(crc_begin(v->seed), value_bytes(c, v->at), e->len) != v->crc)
			return refuse(
				ret, -EREMOTEIO,
				"%.*s was in the memory of a metadata server that has ended; it "
				"was not of a durable job",
				(int)req->path.len, req->path.ptr);
		rep->seed = v->seed;
		rep->crc = v->crc;
		if (to)
			memcpy(to, value_bytes(c, v->at), e->len);
		return 0;
	}
	rep->found = pieces_put(e, req->offset, until, payload, &rep->first, &end, &is_lost);
	if (is_lost)
		return refuse(ret, -EREMOTEIO,
			      "the store that had bytes of %.*s has lost them; put it again",
			      (int)req->path.len, req->path.ptr);
	/* Extents may lie in different segments, or at different servers: one is read at a time. */
	*ret_goes_on = end < e->len || until < e->len || rep->found > 1;
	return 0;
}

/* A repeat of a request that was given a hold: the same one, and the version that it keeps. */
static int look_again(const struct catalog *c, const struct lookup_req *req, const struct hold *h,
		      uint64_t now_ns, struct wcur *payload, struct outcome *ret)
{
	struct stat_rep stat;
	bool goes_on;
	int r;

	ret->rep.lookup = (struct lookup_rep){ .hold = h->id, .nth_try = h->nth_try };
	r = put_content(c, req, h->entry, payload, ret, &goes_on);
	if (r < 0)
		return r;
	entry_stat(h->entry, now_ns, &stat);
	put_stat(&ret->rep.lookup, &stat);
	ret->seen_ns = known_since(h->entry);
	if (ret->seen_ns < h->touched_ns)
		ret->seen_ns = h->touched_ns;
	return 0;
}

/* Of the version that was consumed at the path: was one of its reads this one? */
static bool was_last_read(const struct catalog *c, const struct job *j,
			  const struct lookup_req *req)
{
	const uint64_t path = path_hash(c, j->id, req->path).hi;

	return attempt_by_read(c, path, attempt_of(req->read_hi, req->read_lo),
			       tombstone_find(c, path)->version);
}

/* Nothing is there to be read any more. */
static int nothing_left(struct catalog *c, const struct job *j, const struct lookup_req *req,
			uint64_t now_ns, struct outcome *ret)
{
	int r = catalog_missing(c, j, req->path, now_ns, ret);

	if (r == -ENODATA && was_last_read(c, j, req))
		return refuse(ret, -EALREADY, "all reads of %.*s were taken, one of them by this",
			      (int)req->path.len, req->path.ptr);
	if (r == -ENOENT && stat_directory(c, j, req->path, now_ns, ret) == 0)
		return refuse(ret, -EISDIR, "%.*s is a directory", (int)req->path.len,
			      req->path.ptr);
	return r;
}

/* One that was confirmed gets the bytes again, without being counted again. */
static bool is_counted(const struct catalog *c, const struct lookup_req *req, const struct entry *e)
{
	return e->has_life && entry_life(e)->reads > 0 &&
	       !attempt_by_read(c, e->by_path.hash, attempt_of(req->read_hi, req->read_lo),
				e->version);
}

int catalog_lookup(struct catalog *c, const struct lookup_req *req, uint64_t now_ns,
		   struct wcur *payload, struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_HOLD_MADE, .at_ns = now_ns };
	const struct hold *h = hold_find_request(c, req->session, req->request);
	struct stat_rep stat;
	struct entry *entry;
	bool is_read, goes_on;
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, req->job, ret, &j);
	if (r < 0)
		return r;
	if (h && h->entry->job == j)
		return look_again(c, req, h, now_ns, payload, ret);
	entry = entry_seen(c, j, req->path, now_ns);
	if (!entry)
		return nothing_left(c, j, req, now_ns, ret);
	ret->rep.lookup = (struct lookup_rep){ 0 };
	if (req->is_told_on && entry->has_life && entry_life(entry)->reads > 0)
		return refuse(ret, -EOPNOTSUPP, "the reads of %.*s are counted", (int)req->path.len,
			      req->path.ptr);
	is_read = is_counted(c, req, entry);
	if (is_read)
		r = grant_read(c, req, entry, now_ns, ret, &e);
	if (r < 0 || ret->must_wait)
		return r;
	r = put_content(c, req, entry, payload, ret, &goes_on);
	if (r == 0 && (is_read || (req->is_held && goes_on))) {
		if (e.kind == EFFECT_HOLD_MADE) {
			r = check_hold(c, j, req->session, ret);
			e.u.hold_made.job = req->job;
			e.u.hold_made.session = req->session;
			e.u.hold_made.request = req->request;
			e.u.hold_made.hold = catalog_next_id(c);
			e.u.hold_made.read_hi = req->read_hi;
			e.u.hold_made.read_lo = req->read_lo;
			e.u.hold_made.path = req->path;
			ret->rep.lookup.hold = e.u.hold_made.hold;
			ret->rep.lookup.nth_try = 1;
		}
		if (r == 0)
			r = effect_do(c, &e);
	}
	if (r < 0)
		return r;
	entry->is_told_on |= req->is_told_on != 0;
	entry_stat(entry, now_ns, &stat);
	put_stat(&ret->rep.lookup, &stat);
	if (!is_read) /* a grant is to be as safe as a put */
		ret->seen_ns = known_since(entry);
	return 0;
}

int catalog_find(struct catalog *c, const struct find_req *req, uint64_t now_ns,
		 struct wcur *payload, struct outcome *ret)
{
	struct hold *h = catalog_hold_find(c, req->hold);
	struct find_rep *rep = &ret->rep.find;
	bool is_lost;
	struct job *j;
	uint64_t end;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, req->job, ret, &j);
	if (r < 0)
		return r;
	if (!h || h->entry->job != j || h->session->id != req->session)
		return refuse(ret, -ESTALE, "there is no such hold");
	h->touched_ns = now_ns;
	*rep = (struct find_rep){ 0 };
	if (entry_piece_count(h->entry) == 0)
		return 0;
	rep->found =
		pieces_put(h->entry, req->offset, UINT64_MAX, payload, &rep->first, &end, &is_lost);
	return is_lost ? refuse(ret, -EREMOTEIO,
				"the store that had the bytes has lost them; put them again")
		       : 0;
}

/* Waiting. */

int catalog_wait(struct catalog *c, uint64_t job, struct slice path, uint64_t now_ns,
		 struct outcome *ret)
{
	struct wake_key key = { path_hash(c, job, path), job };
	const char *why;

	outcome_begin(c, ret);
	if (!path_is_valid(path, &why))
		return refuse(ret, -EINVAL, "%s", why);
	if (path.ptr[path.len - 1] == '/')
		return refuse(ret, -EISDIR, "a path that ends in / names a directory");
	return catalog_wait_key(c, &key, now_ns, ret);
}

int catalog_wait_key(struct catalog *c, const struct wake_key *key, uint64_t now_ns,
		     struct outcome *ret)
{
	const struct entry *e;
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, key->job, ret, &j);
	if (r < 0)
		return r;
	e = entry_find_hash(c, key->job, key->hash);
	if (e && !entry_has_expired(e, now_ns)) {
		entry_stat(e, now_ns, &ret->rep.stat);
		ret->seen_ns = known_since(e);
		return 0;
	}
	ret->must_wait = true;
	ret->key = *key;
	return 0;
}

int catalog_wait_count(struct catalog *c, uint64_t job, struct slice path, uint64_t count,
		       uint64_t now_ns, struct outcome *ret)
{
	uint8_t buf[PATH_BYTES_MAX + 1];
	struct wake_key key = { .job = job };
	struct slice directory;
	int r;

	outcome_begin(c, ret);
	r = directory_path(path, buf, &directory);
	if (r < 0)
		return refuse(ret, r, "a path has at most %u bytes behind its job", PATH_BYTES_MAX);
	key.hash = path_hash(c, job, directory);
	return catalog_wait_count_key(c, &key, count, now_ns, ret);
}

int catalog_wait_count_key(struct catalog *c, const struct wake_key *key, uint64_t count,
			   uint64_t now_ns, struct outcome *ret)
{
	const struct directory *d;
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, key->job, ret, &j);
	if (r == 0)
		r = catalog_expire(c, now_ns);
	if (r < 0)
		return r;
	d = directory_find_hash(c, key->job, key->hash);
	ret->rep.wait_count.count = d ? d->count : 0;
	if (ret->rep.wait_count.count >= count)
		return 0;
	ret->must_wait = true;
	ret->key = *key;
	return 0;
}
