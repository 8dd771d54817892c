/* SPDX-License-Identifier: Apache-2.0 */
#include "base/words.h"

#include <string.h>

/* Nobody types longer ones; what is longer is near to nothing. */
#define WORD_MAX 48

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c == '_' ? '-' : c;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Damerau and Levenshtein's, three rows of its table at a time. */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned rows[3][WORD_MAX + 1];

	for (size_t j = 0; j <= b_len; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= a_len; i++) {
		unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3];
		const unsigned *two_above = rows[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_len; j++) {
			char x = lower(a[i - 1]), y = lower(b[j - 1]);

			row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y));
			if (i > 1 && j > 1 && x == lower(b[j - 2]) && lower(a[i - 2]) == y &&
			    two_above[j - 2] + 1 < row[j])
				row[j] = two_above[j - 2] + 1;
		}
	}
	return rows[a_len % 3][b_len];
}

struct nearest nearest_begin(const char *word)
{
	return (struct nearest){ .word = word, .is_longer_unique = true };
}

void nearest_try(struct nearest *n, const char *valid)
{
	size_t len = strlen(n->word), valid_len = strlen(valid),
	       longer = len > valid_len ? len : valid_len;
	unsigned d;

	if (longer > WORD_MAX || len == 0)
		return;
	if (strncmp(n->word, valid, len) == 0) {
		n->is_longer_unique = !n->longer;
		n->longer = valid;
	}
	d = distance(n->word, len, valid, valid_len);
	if (3 * d > longer)
		return;
	if (!n->best || d < n->best_distance) {
		n->best = valid;
		n->best_distance = d;
	}
}

const char *nearest_end(const struct nearest *n)
{
	if (n->best)
		return n->best;
	return n->is_longer_unique ? n->longer : NULL;
}
