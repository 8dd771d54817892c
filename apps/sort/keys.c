/* SPDX-License-Identifier: Apache-2.0 */
#include "keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEN_SIZE 4

void keys_fini(struct keys *k)
{
	free(k->bytes);
	free(k->keys);
	*k = (struct keys){ 0 };
}

uint8_t *keys_room(struct keys *k, size_t len)
{
	/* NULL is none: room for nothing has an address, too. */
	if (!k->bytes || len > k->cap - k->len) {
		size_t cap = 2 * (k->cap + len) + 1;
		uint8_t *more = realloc(k->bytes, cap);

		if (!more)
			return NULL;
		k->bytes = more;
		k->cap = cap;
	}
	k->len += len;
	return k->bytes + k->len - len;
}

int keys_add(struct keys *k, const uint8_t *key, size_t len)
{
	uint8_t *to;

	if (len > KEYS_CUT)
		len = KEYS_CUT;
	to = keys_room(k, LEN_SIZE + len);
	if (!to)
		return -ENOMEM;
	for (size_t i = 0; i < LEN_SIZE; i++)
		to[i] = (uint8_t)(len >> (8 * i));
	memcpy(to + LEN_SIZE, key, len);
	return 0;
}

/* The key at *at, which moves behind it; ptr NULL if there is none. */
static struct key key_get(const struct keys *k, size_t *at)
{
	struct key key = { 0 };
	const uint8_t *p = k->bytes + *at;

	if (k->len - *at < LEN_SIZE)
		return key;
	key.len = p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
	if (key.len > KEYS_CUT || k->len - *at - LEN_SIZE < key.len)
		return key;
	key.ptr = p + LEN_SIZE;
	*at += LEN_SIZE + key.len;
	return key;
}

int keys_index(struct keys *k)
{
	size_t at = 0, count = 0;

	free(k->keys);
	k->keys = calloc(k->len / LEN_SIZE + 1, sizeof(*k->keys));
	if (!k->keys)
		return -ENOMEM;
	while (at < k->len) {
		k->keys[count] = key_get(k, &at);
		if (!k->keys[count++].ptr)
			return -EBADMSG;
	}
	k->count = count;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct key *ka = a, *kb = b;

	return key_compare(ka->ptr, ka->len, kb->ptr, kb->len);
}

void keys_sort(struct keys *k)
{
	if (k->count > 1)
		qsort(k->keys, k->count, sizeof(*k->keys), compare);
}

int splitters_choose(const struct keys *samples, size_t bucket_count, struct keys *ret)
{
	for (size_t i = 1; i < bucket_count && samples->count > 0; i++) {
		const struct key *key = &samples->keys[i * samples->count / bucket_count];
		int r = keys_add(ret, key->ptr, key->len);

		if (r < 0)
			return r;
	}
	return keys_index(ret);
}

size_t splitter_find(const struct key *splitter, const struct item *items, size_t count,
		     const uint8_t *arena)
{
	size_t low = 0;

	while (count > 0) {
		size_t half = count / 2;
		const struct item *item = &items[low + half];

		if (key_compare(arena + item->offset, item->key_len, splitter->ptr, splitter->len) <
		    0) {
			low += half + 1;
			count -= half + 1;
		} else {
			count = half;
		}
	}
	return low;
}
