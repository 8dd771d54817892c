/* SPDX-License-Identifier: Apache-2.0 */
#include "checker_memory.h"

#include <assert.h>
#include <string.h>

struct words words;

/* Words. */

static unsigned word_at(const void *p, size_t size, bool is_counter)
{
	unsigned w = 0;

	while (w < words.count && words.addresses[w] != p)
		w++;
	if (w < words.count)
		return w;
	assert(w < WORDS);
	words.addresses[w] = p;
	words.is_counter[w] = is_counter;
	words.initial[w] = 0;
	if (!is_counter)
		memcpy(&words.initial[w], p,
		       size); /* as setup() left it: steps do not write there */
	words.count++;
	return w;
}

unsigned memory_word(const void *p, size_t size)
{
	return word_at(p, size, false);
}

/* How often this thread has read these bytes. They are eight; nothing else begins among them. */
static unsigned counter_of(unsigned word, unsigned self)
{
	return word_at((const char *)words.addresses[word] + 1 + self, 0, true);
}

static void touch(struct state *s, unsigned w)
{
	if (s->counts[w] == 0) {
		s->counts[w] = 1;
		memset(&s->messages[w][0], 0, sizeof(s->messages[w][0]));
		s->messages[w][0].value = words.initial[w];
	}
}

static void join(struct sight *a, const struct sight *b)
{
	for (unsigned w = 0; w < words.count; w++)
		if (a->at[w] < b->at[w])
			a->at[w] = b->at[w];
}

static struct message *append(struct state *s, struct thread *t, unsigned w, uint64_t value,
			      const struct sight *sight)
{
	struct message *m = &s->messages[w][s->counts[w]];

	assert(s->counts[w] < MESSAGES);
	m->value = value;
	m->sight = *sight;
	t->now.at[w] = s->counts[w]++;
	m->sight.at[w] = t->now.at[w];
	return m;
}

/* Steps. */

unsigned memory_choices(struct state *s, const struct thread *t)
{
	if (t->next.kind != OP_LOAD)
		return 1;
	touch(s, t->next.word);
	return s->counts[t->next.word] - t->now.at[t->next.word];
}

static uint64_t do_load(struct state *s, struct thread *t, unsigned choice)
{
	unsigned w = t->next.word, at = t->now.at[w] + choice;
	const struct message *m = &s->messages[w][at];

	assert(t->next.order == memory_order_relaxed || t->next.order == memory_order_acquire);
	t->now.at[w] = (uint8_t)at;
	join(&t->acquired, &m->sight);
	if (t->next.order == memory_order_acquire)
		join(&t->now, &m->sight);
	return m->value;
}

static void do_store(struct state *s, struct thread *t)
{
	bool releases = t->next.order == memory_order_release;

	assert(releases || t->next.order == memory_order_relaxed);
	append(s, t, t->next.word, t->next.value, releases ? &t->now : &t->released);
}

/* Of all messages it reads the last; what came with that one goes on with its own. */
static void do_add(struct state *s, struct thread *t)
{
	unsigned w = t->next.word;
	const struct message *last = &s->messages[w][s->counts[w] - 1];
	bool releases = t->next.order == memory_order_release;
	uint64_t value = last->value + t->next.value;
	struct message *m;

	assert(releases || t->next.order == memory_order_relaxed);
	if (t->next.size < sizeof(value))
		value &= (1ull << 8 * t->next.size) - 1;
	words.is_added[w] = true;
	join(&t->acquired, &last->sight);
	m = append(s, t, w, value, releases ? &t->now : &t->released);
	join(&m->sight, &m[-1].sight);
}

void memory_fence(struct state *s, struct thread *t, memory_order order)
{
	if (order != memory_order_release)
		join(&t->now, &t->acquired);
	if (order == memory_order_seq_cst) {
		join(&s->all_fences, &t->now);
		t->now = s->all_fences;
	}
	if (order != memory_order_acquire)
		t->released = t->now;
}

static const char *do_read(struct state *s, struct thread *t, unsigned self, uint64_t *ret)
{
	unsigned w = t->next.word, counter = counter_of(w, self);

	if (t->now.at[w] != s->counts[w] - 1)
		return "bytes are read while they are written, or before they were";
	t->now.at[counter] = ++s->reads[counter];
	*ret = s->messages[w][s->counts[w] - 1].value;
	return NULL;
}

static const char *do_write(struct state *s, struct thread *t, unsigned self)
{
	unsigned w = t->next.word;

	for (unsigned i = 0; i < CHECKED_THREADS; i++)
		if (i != self && s->reads[counter_of(w, i)] > t->now.at[counter_of(w, i)])
			return "bytes are written while they are read";
	append(s, t, w, t->next.value, &t->released);
	return NULL;
}

const char *memory_step(struct state *s, unsigned self, unsigned choice, uint64_t *ret)
{
	struct thread *t = &s->threads[self];

	*ret = 0;
	if (t->next.word < WORDS)
		touch(s, t->next.word);
	switch (t->next.kind) {
	case OP_LOAD:
		*ret = do_load(s, t, choice);
		break;
	case OP_STORE:
		do_store(s, t);
		break;
	case OP_ADD:
		do_add(s, t);
		break;
	case OP_FENCE:
		memory_fence(s, t, t->next.order);
		break;
	case OP_CLOCK:
		*ret = s->time;
		break;
	case OP_ACKNOWLEDGE:
		s->acknowledged = t->next.value;
		join(&s->acknowledgement, &t->now);
		break;
	case OP_ACKNOWLEDGED:
		join(&t->now, &s->acknowledgement);
		*ret = s->acknowledged;
		break;
	case OP_READ:
		return do_read(s, t, self, ret);
	case OP_WRITE:
		return do_write(s, t, self);
	case OP_NONE:
		break;
	}
	return NULL;
}

/* Of what others add to, only what `killed` has seen: whoever died has drained what is his. */
void memory_inherit(struct state *s, unsigned killed, unsigned next)
{
	struct thread *t = &s->threads[next];

	s->threads[killed].has_ended = true;
	t->is_running = true;
	t->now = s->threads[killed].now;
	for (unsigned w = 0; w < words.count; w++)
		if (!words.is_counter[w] && !words.is_added[w] && s->counts[w] > 0)
			t->now.at[w] = (uint8_t)(s->counts[w] - 1);
	t->acquired = t->released = t->now;
}

/* States. */

void memory_copy(struct state *to, const struct state *from)
{
	memcpy(to, from, offsetof(struct state, threads));
	for (unsigned i = 0; i < CHECKED_THREADS; i++) {
		const struct thread *t = &from->threads[i];

		memcpy(&to->threads[i], t,
		       offsetof(struct thread, answers) + t->answer_count * sizeof(t->answers[0]));
	}
	for (unsigned w = 0; w < words.count; w++)
		memcpy(to->messages[w], from->messages[w],
		       from->counts[w] * sizeof(from->messages[w][0]));
}

static void forget(struct sight *sight, unsigned w, unsigned n)
{
	sight->at[w] = (uint8_t)(sight->at[w] > n ? sight->at[w] - n : 0);
}

static void forget_messages(struct state *s, unsigned w, unsigned n)
{
	s->counts[w] = (uint8_t)(s->counts[w] - n);
	memmove(s->messages[w], s->messages[w] + n, s->counts[w] * sizeof(s->messages[w][0]));
	forget(&s->all_fences, w, n);
	forget(&s->acknowledgement, w, n);
	for (unsigned i = 0; i < CHECKED_THREADS; i++) {
		forget(&s->threads[i].now, w, n);
		forget(&s->threads[i].acquired, w, n);
		forget(&s->threads[i].released, w, n);
	}
	for (unsigned v = 0; v < words.count; v++)
		for (unsigned i = 0; i < s->counts[v]; i++)
			forget(&s->messages[v][i].sight, w, n);
}

void memory_trim(struct state *s)
{
	for (unsigned w = 0; w < words.count; w++) {
		unsigned oldest = s->counts[w] ? s->counts[w] - 1u : 0;

		if (words.is_counter[w])
			continue;
		for (unsigned i = 0; i < CHECKED_THREADS; i++)
			if (thread_is_awake(&s->threads[i]) && s->threads[i].now.at[w] < oldest)
				oldest = s->threads[i].now.at[w];
		if (oldest > 0)
			forget_messages(s, w, oldest);
	}
}

static uint8_t *add_bytes(uint8_t *at, const void *p, size_t len)
{
	memcpy(at, p, len);
	return at + len;
}

static uint8_t *add_thread(uint8_t *at, const struct thread *t)
{
	uint8_t flags = (uint8_t)(t->is_running | t->has_ended << 1 | t->time_count << 2);

	at = add_bytes(at, &flags, 1);
	if (!thread_is_awake(t))
		return at;
	at = add_bytes(at, &t->digest, 8);
	at = add_bytes(at, &t->now, words.count);
	at = add_bytes(at, &t->acquired, words.count);
	return add_bytes(at, &t->released, words.count);
}

struct hash_128 memory_digest(const struct state *s)
{
	static uint8_t buf[WORDS * MESSAGES * sizeof(struct message) + 4096];
	uint8_t *at = buf;

	at = add_bytes(at, &s->time, 8);
	at = add_bytes(at, &s->acknowledged, 8);
	at = add_bytes(at, &s->all_fences, words.count);
	at = add_bytes(at, &s->acknowledgement, words.count);
	at = add_bytes(at, &s->reads, words.count);
	for (unsigned i = 0; i < CHECKED_THREADS; i++)
		at = add_thread(at, &s->threads[i]);
	for (unsigned w = 0; w < words.count; w++) {
		if (s->counts[w] == 0 ||
		    (s->counts[w] == 1 && s->messages[w][0].value == words.initial[w]))
			continue; /* the same, whether somebody has looked or not */
		*at++ = (uint8_t)w;
		*at++ = s->counts[w];
		for (unsigned i = 0; i < s->counts[w]; i++) {
			at = add_bytes(at, &s->messages[w][i].value, 8);
			at = add_bytes(at, &s->messages[w][i].sight, words.count);
		}
	}
	return hash_128(buf, (size_t)(at - buf), 0);
}
