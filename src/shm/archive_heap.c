/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An archive in memory: for the simulator, where it belongs to a node of the disk's own,
 * and for tests.
 */
#include <errno.h>
#include <string.h>

#include "base/container.h"
#include "base/list.h"
#include "base/node.h"
#include "shm/archive.h"

#define SECTOR 512

struct heap_file {
	struct list link;
	char name[ARCHIVE_NAME_MAX];
	uint8_t *bytes;
	size_t len, synced, cap;
	size_t dropped; /* where what a failed sync has dropped begins; SIZE_MAX: nothing */
	bool is_name_synced;
};

struct heap {
	struct archive archive;
	struct node *node; /* whose memory it is */
	struct list files;
	_Atomic int fail_err; /* a test sets them while a helper writes */
	_Atomic unsigned fail_count;
};

static struct heap *heap_of(struct archive *a)
{
	return container_of(a, struct heap, archive);
}

static struct heap_file *find(struct heap *h, const char *name)
{
	for (struct list *l = h->files.next; l != &h->files; l = l->next) {
		struct heap_file *f = container_of(l, struct heap_file, link);

		if (strcmp(f->name, name) == 0)
			return f;
	}
	return NULL;
}

static void file_free(struct heap_file *f)
{
	list_remove(&f->link);
	node_free(f->bytes);
	node_free(f);
}

static int must_fail(struct heap *h)
{
	if (h->fail_count == 0)
		return 0;
	h->fail_count--;
	return h->fail_err;
}

static int make(struct heap *h, const char *name, struct heap_file **ret)
{
	struct heap_file *f = node_alloc(sizeof(*f));

	if (!f || strlen(name) >= sizeof(f->name)) {
		node_free(f);
		return -ENOSPC;
	}
	memcpy(f->name, name, strlen(name) + 1);
	f->dropped = SIZE_MAX;
	list_init(&f->link);
	list_insert(&h->files, &f->link);
	*ret = f;
	return 0;
}

static int put(struct heap_file *f, size_t offset, const void *bytes, size_t len)
{
	size_t cap = f->cap ? f->cap : 4096;

	if (offset > f->len)
		return -EINVAL;
	while (cap < offset + len)
		cap *= 2;
	if (cap > f->cap) {
		uint8_t *more = node_resize(f->bytes, cap);

		if (!more)
			return -ENOSPC;
		f->bytes = more;
		f->cap = cap;
	}
	if (len > 0)
		memcpy(f->bytes + offset, bytes, len);
	if (f->len < offset + len)
		f->len = offset + len;
	if (f->synced > offset)
		f->synced = offset; /* what is written over may be torn */
	if (f->dropped >= offset && offset + len == f->len)
		f->dropped = SIZE_MAX;
	return 0;
}

static int heap_write(struct archive *a, const char *name, uint64_t offset, const void *bytes,
		      size_t len)
{
	struct heap *h = heap_of(a);
	struct node *caller = node_current;
	struct heap_file *f = find(h, name);
	int r = must_fail(h);

	node_current = h->node;
	if (r == 0 && !f)
		r = offset == 0 ? make(h, name, &f) : -ENOENT;
	if (r == 0)
		r = put(f, offset, bytes, len);
	node_current = caller;
	return r;
}

/*
 * As Linux has it: bytes that could not be written are as good as clean from then on, and
 * another sync says that all is well. They are lost with the power, unless written again.
 */
static int heap_sync(struct archive *a, const char *name)
{
	struct heap_file *f = find(heap_of(a), name);
	int r = must_fail(heap_of(a));

	if (r < 0 && f && f->dropped > f->synced)
		f->dropped = f->synced;
	if (r < 0 || !f)
		return r < 0 ? r : -ENOENT;
	f->synced = f->len < f->dropped ? f->len : f->dropped;
	f->is_name_synced = true;
	return 0;
}

static int64_t heap_read(struct archive *a, const char *name, uint64_t offset, void *buf,
			 size_t cap)
{
	struct heap_file *f = find(heap_of(a), name);
	size_t left = f && offset < f->len ? f->len - offset : 0;

	if (!f)
		return -ENOENT;
	if (left > cap)
		left = cap;
	if (left > 0)
		memcpy(buf, f->bytes + offset, left);
	return (int64_t)left;
}

static int heap_cut(struct archive *a, const char *name, uint64_t len)
{
	struct heap_file *f = find(heap_of(a), name);
	int r = must_fail(heap_of(a));

	if (r < 0 || !f)
		return r < 0 ? r : -ENOENT;
	if (len < f->len)
		f->len = len;
	if (f->synced > f->len)
		f->synced = f->len;
	return 0;
}

static int heap_remove(struct archive *a, const char *name)
{
	struct heap *h = heap_of(a);
	struct node *caller = node_current;
	struct heap_file *f = find(h, name);
	int r = must_fail(h);

	if (r < 0 || !f)
		return r;
	node_current = h->node;
	file_free(f);
	node_current = caller;
	return 0;
}

static int heap_next(struct archive *a, const char *after, char ret[ARCHIVE_NAME_MAX])
{
	struct heap *h = heap_of(a);
	const char *found = NULL;

	for (struct list *l = h->files.next; l != &h->files; l = l->next) {
		const struct heap_file *f = container_of(l, struct heap_file, link);

		if (strcmp(f->name, after) > 0 && (!found || strcmp(f->name, found) < 0))
			found = f->name;
	}
	if (found)
		memcpy(ret, found, ARCHIVE_NAME_MAX);
	return found != NULL;
}

static const char *heap_where(const struct archive *a)
{
	(void)a;
	return "memory";
}

static void heap_close(struct archive *a)
{
	struct heap *h = heap_of(a);
	struct node *caller = node_current;

	node_current = h->node;
	while (!list_is_empty(&h->files))
		file_free(container_of(h->files.next, struct heap_file, link));
	node_free(h);
	node_current = caller;
}

static const struct archive_ops HEAP_OPS = {
	.write = heap_write,
	.sync = heap_sync,
	.read = heap_read,
	.cut = heap_cut,
	.remove = heap_remove,
	.next = heap_next,
	.where = heap_where,
	.close = heap_close,
};

int archive_new(struct archive **ret)
{
	struct heap *h = node_alloc(sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->archive.ops = &HEAP_OPS;
	h->node = node_current;
	list_init(&h->files);
	*ret = &h->archive;
	return 0;
}

/* Some of what is left, from anywhere to anywhere, never got there. */
static void tear(struct heap_file *f, uint64_t dice)
{
	size_t unsynced = f->len - f->synced, from, to;

	if (unsynced == 0)
		return;
	f->len = f->synced + dice % (unsynced + 1);
	from = f->synced + (dice >> 20) % (unsynced + 1);
	to = from + (dice >> 40) % 4096;
	/* A sector is there, or it is not: what a file begins with is not torn. */
	if (f->synced == 0 && from < SECTOR) {
		from = 0;
		to = to < SECTOR ? SECTOR : to;
	}
	if (to > f->len)
		to = f->len;
	if (from < to)
		memset(f->bytes + from, 0, to - from);
	f->synced = f->len;
}

void archive_lose(struct archive *a, uint64_t dice)
{
	struct heap *h = heap_of(a);
	struct node *caller = node_current;

	node_current = h->node;
	for (struct list *l = h->files.next, *next; l != &h->files; l = next) {
		struct heap_file *f = container_of(l, struct heap_file, link);

		next = l->next;
		tear(f, dice);
		/* What was never synced has perhaps no name either. What is left, the disk has. */
		if (!f->is_name_synced && (dice % 2 || dice == 0))
			file_free(f);
		else
			f->is_name_synced = true;
		dice *= 6364136223846793005u; /* of the disk; no 0 comes of it */
	}
	node_current = caller;
}

void archive_fail(struct archive *a, int err, unsigned count)
{
	heap_of(a)->fail_err = err;
	heap_of(a)->fail_count = count;
}
