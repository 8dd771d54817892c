/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uid: which job a uid is bound to, once its processes were given segments to map, until that is
 * over (who.h). A proxy that is killed leaves its functions what they have mapped, so the bindings
 * outlive it too: they are in a region that its keeper has.
 */
#include <errno.h>

#include "base/container.h"
#include "base/log.h"
#include "base/node.h"
#include "proxy/proxy_priv.h"
#include "proxy/who.h"

#define KEPT_BYTES (UIDS_MAX * sizeof(struct kept_uid))

/* Whether a job is over is asked for so long, and asked again when somebody wants to know again. */
#define ASK_MS 5000

static const struct keep_name KEPT = { .kind = KEEP_UIDS };

/* In that region. A job is written last, and is 0 first. */
struct kept_uid {
	uint64_t job; /* 0: none */
	uint32_t uid;
	uint32_t unused;
};

/* NULL: they are not kept. */
static struct kept_uid *kept_of(const struct proxy *p)
{
	return (struct kept_uid *)(void *)p->kept_uids.ptr;
}

static void keep_uid(struct proxy *p, struct uid_job *u)
{
	struct kept_uid *k = kept_of(p);

	while (k && k[u->place].job)
		u->place++;
	if (!k)
		return;
	k[u->place].uid = u->uid;
	__atomic_store_n(&k[u->place].job, u->job, __ATOMIC_RELEASE);
}

static void forget_uid(struct proxy *p, const struct uid_job *u)
{
	struct kept_uid *k = kept_of(p);

	if (k)
		__atomic_store_n(&k[u->place].job, 0, __ATOMIC_RELEASE);
}

const struct uid_job *uid_find(const struct proxy *p, uint32_t uid)
{
	for (struct list *l = p->uids.next; l != &p->uids; l = l->next) {
		const struct uid_job *u = container_of(l, struct uid_job, link);

		if (u->uid == uid)
			return u;
	}
	return NULL;
}

static struct uid_job *uid_new(struct proxy *p, uint32_t uid, uint64_t job)
{
	struct uid_job *u = p->uid_count < UIDS_MAX ? node_alloc(sizeof(*u)) : NULL;

	if (!u)
		return NULL;
	*u = (struct uid_job){ .uid = uid, .job = job };
	list_init(&u->link);
	list_insert(&p->uids, &u->link);
	p->uid_count++;
	return u;
}

int uid_bind(struct proxy *p, uint32_t uid, uint64_t job)
{
	struct uid_job *u = uid_new(p, uid, job);

	if (!u)
		return -EUSERS;
	keep_uid(p, u);
	return 0;
}

static void uid_free(struct proxy *p, struct uid_job *u)
{
	list_remove(&u->link);
	p->uid_count--;
	node_free(u);
}

void uids_job_over(struct proxy *p, uint64_t job)
{
	for (struct list *l = p->uids.next, *next; l != &p->uids; l = next) {
		struct uid_job *u = container_of(l, struct uid_job, link);

		next = l->next;
		if (u->job != job)
			continue;
		forget_uid(p, u);
		uid_free(p, u);
	}
}

/* Is it over, and nobody told us, since we were not there? */

struct asking {
	struct fiber fiber;
	struct proxy *proxy;
	uint64_t job;
};

/* Of an object that may be there or not. */
static void ask_run(struct fiber *self)
{
	const struct asking *q = container_of(self, struct asking, fiber);
	struct core *c = q->proxy->core;
	struct stat_req req = { .job = q->job, .path = { (const uint8_t *)"x", 1 } };
	struct ask a;
	struct wcur w = ask_begin(c, &a, MSG_STAT, slot_of_id(q->job));
	int r;

	stat_req_put(&w, &req);
	r = ask_wait(&a, &w, NULL, q->proxy->loop->now_ns + ASK_MS * 1000000ull);
	if (r == -EIDRM || r == -ENXIO)
		uids_job_over(q->proxy, q->job);
	ask_end(&a);
}

static void ask_ended(struct fiber *self)
{
	struct asking *q = container_of(self, struct asking, fiber);

	q->proxy->is_asking_of_uid = false;
	node_free(q);
}

void uid_ask_whether_over(struct proxy *p, uint64_t job)
{
	struct asking *q = p->is_asking_of_uid || p->is_stopping ? NULL : node_alloc(sizeof(*q));

	if (!q)
		return;
	*q = (struct asking){ .proxy = p, .job = job };
	p->is_asking_of_uid = true;
	if (fiber_start(&p->loop->fibers, &q->fiber, ask_run, ask_ended) < 0)
		ask_ended(&q->fiber);
}

/* A predecessor's. */
static int restore(struct proxy *p)
{
	struct kept_uid *k = kept_of(p);

	for (uint32_t i = 0; i < UIDS_MAX; i++) {
		struct uid_job *u;

		if (!k[i].job)
			continue;
		u = uid_new(p, k[i].uid, k[i].job);
		if (!u)
			return -ENOMEM;
		u->place = i;
	}
	return 0;
}

static int make_kept(struct proxy *p)
{
	struct keep *keep = p->config.keep;
	int r = keep_make(keep, &media_memfd, KEPT_BYTES, &p->kept_uids);

	if (r == 0)
		r = media_memfd.fill(&p->kept_uids, 0, KEPT_BYTES);
	if (r == 0)
		r = keep_put(keep, KEPT, &p->kept_uids);
	return r;
}

/* -ENOENT: there are none. */
static int take_kept(struct proxy *p)
{
	int r = keep_take(p->config.keep, KEPT, &p->kept_uids);

	if (r == 0 && p->kept_uids.size == KEPT_BYTES)
		return restore(p);
	return r == 0 || r == -EBADF ? -ENOENT : r;
}

int uids_open(struct proxy *p)
{
	int r;

	list_init(&p->uids);
	/* Who trusts all, or has namespaces to tell them apart, binds nobody. */
	if (!p->config.keep || p->config.is_isolated || p->config.trusts_local)
		return 0;
	r = take_kept(p);
	if (r == 0)
		return 0;
	if (r != -ENOENT) {
		log_error("which user's functions have memory of which job cannot be read, and "
			  "nobody may map any without it: start again when there is memory "
			  "errno=%d",
			  -r);
		return r;
	}
	media_memfd.free(&p->kept_uids);
	r = make_kept(p);
	if (r == 0)
		return 0;
	log_warning("Which user's functions have memory of which job will not be known to our "
		    "successor reason=%d",
		    -r);
	media_memfd.free(&p->kept_uids);
	return 0;
}

void uids_close(struct proxy *p)
{
	while (!list_is_empty(&p->uids))
		uid_free(p, container_of(p->uids.next, struct uid_job, link));
	media_memfd.free(&p->kept_uids);
}
