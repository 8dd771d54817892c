/* SPDX-License-Identifier: Apache-2.0 */
#include "merge.h"

#include <errno.h>
#include <stdlib.h>

/* Moves what is left to the front and fills the rest of the buffer. */
static int window_slide(struct merge *m, struct window *w)
{
	size_t n;
	int r;

	if (w->left == 0)
		return -EBADMSG; /* and the buffer is perhaps not to be written */
	memmove(w->buf, w->buf + w->at, w->end - w->at);
	w->end -= w->at;
	w->at = 0;
	n = w->left < w->cap - w->end ? (size_t)w->left : w->cap - w->end;
	if (n == 0)
		return -EBADMSG; /* an item without an end, or longer than its run said */
	r = m->fill(m, w, n);
	if (r < 0)
		return r;
	w->end += n;
	w->left -= n;
	return 0;
}

/* The size of the item at `at`, or 0 if it is not whole in the buffer. */
static size_t window_item(const struct merge *m, const struct window *w)
{
	size_t there = w->end - w->at;
	const uint8_t *newline;

	if (m->format == FORMAT_RECORDS)
		return there < RECORD_SIZE ? 0 : RECORD_SIZE;
	newline = there ? memchr(w->buf + w->at, '\n', there) : NULL;
	return newline ? (size_t)(newline - (w->buf + w->at)) + 1 : 0;
}

/* Looks at the item at `at`, and brings it in if it must. */
static int window_load(struct merge *m, struct window *w)
{
	size_t size = window_item(m, w);

	if (size == 0 && w->at == w->end && w->left == 0) {
		w->size = 0;
		w->chunk = UINT64_MAX;
		return 0;
	}
	if (size == 0) {
		int r = window_slide(m, w);

		if (r < 0)
			return r;
		size = window_item(m, w);
		if (size == 0)
			return -EBADMSG;
	}
	w->size = size;
	w->key_len = m->format == FORMAT_RECORDS ? RECORD_KEY_SIZE : size - 1;
	w->chunk = chunk_load(w->buf + w->at, w->key_len, 0);
	return 0;
}

static bool is_before(const struct merge *m, uint32_t a, uint32_t b)
{
	const struct window *wa = &m->windows[a], *wb = &m->windows[b];
	int r;

	if (wa->chunk != wb->chunk)
		return wa->chunk < wb->chunk;
	/* An ended run looks like a key of the highest bytes, and is behind it. */
	if (wa->size == 0 || wb->size == 0)
		return wa->size > 0;
	r = key_compare(wa->buf + wa->at, wa->key_len, wb->buf + wb->at, wb->key_len);
	return r < 0 || (r == 0 && a < b);
}

/* The window of this index has a new item: up its path, the better one goes on. */
static void replay(struct merge *m, uint32_t winner)
{
	for (size_t node = (m->count + winner) / 2; node > 0; node /= 2) {
		uint32_t loser = m->losers[node];

		if (is_before(m, loser, winner)) {
			m->losers[node] = winner;
			winner = loser;
		}
	}
	m->losers[0] = winner;
}

/*
 * The windows are the leaves count .. 2 count - 1 of a tree whose inner nodes are
 * 1 .. count - 1. Built from the back, with the winners in a second array.
 */
static int tree_build(struct merge *m)
{
	uint32_t *winners = calloc(2 * m->count, sizeof(*winners));

	if (!winners)
		return -ENOMEM;
	for (size_t i = 0; i < m->count; i++)
		winners[m->count + i] = (uint32_t)i;
	for (size_t node = m->count - 1; node > 0; node--) {
		uint32_t a = winners[2 * node], b = winners[2 * node + 1];
		bool a_wins = is_before(m, a, b);

		winners[node] = a_wins ? a : b;
		m->losers[node] = a_wins ? b : a;
	}
	m->losers[0] = winners[1];
	free(winners);
	return 0;
}

int merge_init(struct merge *m)
{
	m->losers = NULL;
	m->is_taken = false;
	if (m->count == 0)
		return 0;
	for (size_t i = 0; i < m->count; i++) {
		int r = window_load(m, &m->windows[i]);

		if (r < 0)
			return r;
	}
	m->losers = calloc(m->count, sizeof(*m->losers));
	return m->losers ? tree_build(m) : -ENOMEM;
}

void merge_fini(struct merge *m)
{
	free(m->losers);
	m->losers = NULL;
}

int merge_next(struct merge *m, const uint8_t **ret_item, size_t *ret_size)
{
	struct window *w;

	if (m->count == 0)
		return 0;
	if (m->is_taken) {
		int r;

		w = &m->windows[m->losers[0]];
		w->at += w->size;
		r = window_load(m, w);
		if (r < 0)
			return r;
		replay(m, m->losers[0]);
	}
	w = &m->windows[m->losers[0]];
	m->is_taken = w->size > 0;
	if (!m->is_taken)
		return 0;
	*ret_item = w->buf + w->at;
	*ret_size = w->size;
	return 1;
}
