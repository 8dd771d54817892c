/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void object_fini(struct redis_object *o)
{
	free(o->path);
	free(o->parts);
}

void redis_objects_fini(struct redis_objects *t)
{
	for (size_t i = 0; i < t->count; i++)
		object_fini(&t->list[i]);
	free(t->list);
	*t = (struct redis_objects){ 0 };
}

static int table_grow(struct redis_objects *t)
{
	size_t cap = t->cap ? 2 * t->cap : 64;
	struct redis_object *more = reallocarray(t->list, cap, sizeof(*more));

	if (!more)
		return -ENOMEM;
	t->list = more;
	t->cap = cap;
	return 0;
}

int redis_objects_add(struct redis_objects *t, const char *path, const void *header, size_t len)
{
	struct redis_object o = { .count = len / sizeof(uint64_t) - 1 };

	if (len < sizeof(uint64_t) || len % sizeof(uint64_t))
		return -EBADMSG;
	if (t->count == t->cap && table_grow(t) < 0)
		return -ENOMEM;
	o.path = strdup(path);
	o.parts = calloc(o.count + 1, sizeof(*o.parts));
	if (!o.path || !o.parts) {
		object_fini(&o);
		return -ENOMEM;
	}
	memcpy(&o.writer, header, sizeof(o.writer));
	memcpy(o.parts, (const char *)header + sizeof(o.writer), o.count * sizeof(*o.parts));
	for (size_t i = 0; i < o.count; i++)
		o.len += o.parts[i];
	t->list[t->count++] = o;
	return 0;
}

const struct redis_object *redis_objects_find(struct redis_objects *t, const char *path)
{
	for (size_t i = 0; i < t->count; i++) {
		size_t index = (t->hit + i) % t->count;

		if (strcmp(t->list[index].path, path) == 0) {
			t->hit = index;
			return &t->list[index];
		}
	}
	return NULL;
}

struct redis_range redis_object_range(const struct redis_object *o, uint64_t offset, uint64_t len)
{
	struct redis_range range = { .from = offset };

	while (range.part < o->count && range.from >= o->parts[range.part])
		range.from -= o->parts[range.part++];
	if (range.part < o->count) {
		uint64_t left = o->parts[range.part] - range.from;

		range.len = left < len ? left : len;
	}
	return range;
}
