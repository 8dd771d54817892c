/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree: a directory is a range of the index: listing it, and removing what is in it,
 * in bounded steps in byte order.
 */
#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"

struct walk {
	const struct catalog *c;
	const struct job *job;
	struct slice directory; /* "" or with its last '/' */
	uint64_t now_ns;
	bool is_recursive;
	uint32_t max;
	struct wcur *payload;
	uint32_t count;
	bool has_more;
};

/* The first entry behind everything in a directory, whose path ends in '/'. */
static struct index_link *seek_behind(const struct job *j, struct slice directory)
{
	uint8_t key[PATH_BYTES_MAX + 1];

	memcpy(key, directory.ptr, directory.len);
	key[directory.len - 1]++;
	return index_seek(&j->index, (struct slice){ key, directory.len }, false);
}

/* Where to begin: behind `after`, and behind all of it if it is a directory. */
static int seek_start(const struct walk *w, struct slice after, struct index_link **ret)
{
	uint8_t key[PATH_BYTES_MAX + 1];
	struct slice path = { key, w->directory.len + after.len };

	if (after.len > PATH_BYTES_MAX || path.len > PATH_BYTES_MAX)
		return -EMSGSIZE;
	if (w->directory.len > 0)
		memcpy(key, w->directory.ptr, w->directory.len);
	if (after.len > 0)
		memcpy(key + w->directory.len, after.ptr, after.len);
	if (after.len > 0 && after.ptr[after.len - 1] == '/')
		*ret = seek_behind(w->job, path);
	else
		*ret = index_seek(&w->job->index, path, after.len > 0);
	return 0;
}

/* False: there is no room for it. */
static bool put(struct walk *w, struct slice name, const struct stat_rep *s)
{
	struct list_entry le = { .name = name };
	struct wcur before = *w->payload;

#define F(type, field) le.field = s->field;
	STAT_REP(F)
#undef F
	list_entry_put(w->payload, &le);
	if (w->payload->bad) {
		*w->payload = before;
		return false;
	}
	w->count++;
	return true;
}

static bool put_directory(struct walk *w, struct slice path)
{
	struct slice name = { path.ptr + w->directory.len, path.len - w->directory.len };
	const struct directory *d = directory_find(w->c, w->job, path);

	return put(w, name,
		   &(struct stat_rep){ .len = d ? d->count : 0,
				       .ttl_left_ms = NONE_64,
				       .reads_left = NONE_32,
				       .is_directory = 1 });
}

static bool put_object(struct walk *w, const struct entry *e)
{
	struct slice path = entry_path(e);
	struct stat_rep s;

	entry_stat(e, w->now_ns, &s);
	return put(w, (struct slice){ path.ptr + w->directory.len, path.len - w->directory.len },
		   &s);
}

/* The subdirectory of the walk's directory in which a path lies; empty if it is in the directory.
 */
static struct slice subdirectory(const struct walk *w, struct slice path)
{
	const uint8_t *rest = path.ptr + w->directory.len;
	const uint8_t *slash = memchr(rest, '/', path.len - w->directory.len);

	return slash ? (struct slice){ path.ptr, (size_t)(slash - path.ptr) + 1 }
		     : (struct slice){ 0 };
}

static void walk(struct walk *w, struct index_link *l)
{
	for (uint32_t looked = 0; l; looked++) {
		const struct entry *e = entry_of(l);
		struct slice path = entry_path(e), sub = { 0 };

		if (!slice_begins_with(path, w->directory))
			return;
		if (w->count == w->max || looked >= LIST_STEP) {
			w->has_more = true;
			return;
		}
		if (entry_has_expired(e, w->now_ns)) {
			l = index_next(l);
			continue;
		}
		if (!w->is_recursive)
			sub = subdirectory(w, path);
		if (sub.len > 0 ? !put_directory(w, sub) : !put_object(w, e)) {
			w->has_more = true;
			return;
		}
		l = sub.len > 0 ? seek_behind(w->job, sub) : index_next(l);
	}
}

int catalog_list(struct catalog *c, const struct list_req *req, uint64_t now_ns,
		 struct wcur *payload, struct outcome *ret)
{
	uint8_t buf[PATH_BYTES_MAX + 1];
	struct walk w = { .c = c,
			  .now_ns = now_ns,
			  .is_recursive = req->is_recursive,
			  .max = req->max ? req->max : LIST_STEP,
			  .payload = payload };
	struct index_link *l = NULL;
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, req->job, ret, &j);
	if (r < 0)
		return r;
	w.job = j;
	r = directory_path(req->directory, buf, &w.directory);
	if (r == 0)
		r = seek_start(&w, req->after, &l);
	if (r < 0)
		return refuse(ret, r, "a path has at most %u bytes behind its job", PATH_BYTES_MAX);
	walk(&w, l);
	ret->rep.list.count = w.count;
	ret->rep.list.has_more = w.has_more;
	if (w.count == 0 && !w.has_more && w.directory.len > 0 && req->after.len == 0)
		return refuse(ret, -ENOENT, "there is nothing in %.*s", (int)w.directory.len,
			      w.directory.ptr);
	return 0;
}

/* TREE_REMOVED */

int tree_removed_reserve(struct catalog *c, struct effect *e)
{
	const struct tree_removed_effect *m = &e->u.tree_removed;
	struct index_link *l;

	e->at.job = catalog_job_find(c, m->job);
	if (!e->at.job || e->at.job->state != JOB_LIVING)
		return -EBADMSG;
	l = index_seek(&e->at.job->index, m->from, false);
	for (uint32_t i = 0; i < m->looked; i++, l = index_next(l)) {
		struct attempt *a = NULL;

		if (!l)
			return -EBADMSG;
		if (entry_of(l)->version <= m->up_to && attempt_spare(entry_of(l), &a) < 0)
			return -ENOMEM;
		if (a) {
			a->link.next = (struct list *)e->made.spares;
			e->made.spares = a;
		}
	}
	return 0;
}

static void remove_one(struct catalog *c, struct effect *e, struct entry *entry)
{
	struct end end = { .what = GONE_REMOVED, .at_ns = e->at_ns };
	struct attempt *a = NULL;

	if (entry_has_expired(entry, e->at_ns))
		end.what = GONE_EXPIRED;
	if (entry->is_held) {
		a = e->made.spares;
		e->made.spares = (struct attempt *)a->link.next;
	}
	entry_end(c, entry, &end, &a);
	node_free(a);
}

void tree_removed_apply(struct catalog *c, struct effect *e)
{
	const struct tree_removed_effect *m = &e->u.tree_removed;
	struct index_link *l = index_seek(&e->at.job->index, m->from, false), *next;

	for (uint32_t i = 0; i < m->looked; i++, l = next) {
		next = index_next(l);
		if (entry_of(l)->version <= m->up_to)
			remove_one(c, e, entry_of(l));
	}
}

static int tree_step(struct catalog *c, const struct remove_tree_req *req, struct slice directory,
		     struct job *j, struct effect *e, struct outcome *ret)
{
	struct tree_removed_effect *m = &e->u.tree_removed;
	struct remove_tree_rep *rep = &ret->rep.remove_tree;
	uint32_t max = req->max && req->max < TREE_STEP ? req->max : TREE_STEP;
	struct index_link *l;

	*m = (struct tree_removed_effect){ .job = req->job, .up_to = req->up_to };
	m->from = req->from.len > 0 ? req->from : directory;
	if (!slice_begins_with(m->from, directory))
		return refuse(ret, -EINVAL, "%.*s does not lie in the directory that is removed",
			      (int)m->from.len, m->from.ptr);
	for (l = index_seek(&j->index, m->from, false);
	     l && slice_begins_with(entry_path(entry_of(l)), directory); l = index_next(l)) {
		if (m->looked == max) {
			rep->next = entry_path(entry_of(l));
			break;
		}
		m->looked++;
		rep->count += entry_of(l)->version <= m->up_to;
	}
	return rep->count > 0 ? effect_do(c, e) : 0;
}

int catalog_remove_tree(struct catalog *c, const struct remove_tree_req *req, uint64_t now_ns,
			struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_TREE_REMOVED, .at_ns = now_ns };
	uint8_t buf[PATH_BYTES_MAX + 1];
	struct slice directory;
	struct job *j;
	int r;

	outcome_begin(c, ret);
	ret->is_repeat = true; /* or not: nobody can tell */
	r = catalog_job_living(c, req->job, ret, &j);
	if (r < 0)
		return r;
	if (directory_path(req->directory, buf, &directory) < 0 || req->from.len > PATH_BYTES_MAX)
		return refuse(ret, -EMSGSIZE, "a path has at most %u bytes behind its job",
			      PATH_BYTES_MAX);
	ret->rep.remove_tree = (struct remove_tree_rep){ .version = j->version };
	return req->up_to == 0 ? 0 : tree_step(c, req, directory, j, &e, ret);
}
