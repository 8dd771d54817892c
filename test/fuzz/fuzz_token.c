/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens: no text that we did not sign is taken; narrowing never widens; a changed
 * byte never verifies.
 *
 * The input: a byte that says what; then either a text, or a job's name, restrictions
 * to add, and a place to change.
 */
#include "fuzz.h"

#include <errno.h>

#include "wire/extent.h"
#include "wire/token.h"

#define NOW_NS (1700000000ull * 1000000000)

static const uint8_t KEY[TOKEN_KEY_BYTES] = { 9, 8, 7 };
static const uint8_t OTHER_KEY[TOKEN_KEY_BYTES] = { 1, 2, 3 };

static void any_text(struct slice text)
{
	char narrower[TOKEN_BYTES_MAX + 1];
	struct token t;

	REQUIRE(token_verify(text, OTHER_KEY, sizeof(OTHER_KEY), NOW_NS, &t) == -EKEYREJECTED);
	if (token_narrow(text, words("a/"), RIGHT_READ, 1, narrower) == 0)
		REQUIRE(token_verify(words(narrower), OTHER_KEY, sizeof(OTHER_KEY), NOW_NS, &t) ==
			-EKEYREJECTED);
}

static bool begins_with(struct slice s, struct slice prefix)
{
	return prefix.len == 0 ||
	       (s.len >= prefix.len && memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static void is_narrower(const struct token *t, const struct token *before)
{
	REQUIRE(t->job == before->job);
	REQUIRE(t->job_name.len == before->job_name.len &&
		begins_with(t->job_name, before->job_name));
	REQUIRE((t->rights & ~before->rights) == 0);
	REQUIRE(begins_with(t->prefix, before->prefix));
	if (before->valid_until_ns)
		REQUIRE(t->valid_until_ns && t->valid_until_ns <= before->valid_until_ns);
}

/* One restriction more. False: there is no token any more that is good for anything. */
static bool narrow(struct bytes *in, char *text, struct token *t)
{
	struct slice prefix = take_slice(in, take(in, 1) % 32);
	unsigned rights = (unsigned)take(in, 1);
	uint64_t until_s = take(in, 1);
	char narrower[TOKEN_BYTES_MAX + 1];
	struct token before = *t;
	int r;

	if (until_s)
		until_s = NOW_NS / 1000000000 + until_s - 128;
	r = token_narrow(words(text), prefix, rights, until_s, narrower);
	if (r == -EMSGSIZE)
		return true; /* full: it stays what it was */
	REQUIRE(r == 0);
	/* Slices point into the struct itself. */
	before.prefix.ptr = t->prefix.len ? before.bytes + (t->prefix.ptr - t->bytes) : NULL;
	before.job_name.ptr = before.bytes + (t->job_name.ptr - t->bytes);
	r = token_verify(words(narrower), KEY, sizeof(KEY), NOW_NS, t);
	if (r < 0)
		return false;
	is_narrower(t, &before);
	REQUIRE(begins_with(t->prefix, prefix) || begins_with(before.prefix, prefix));
	REQUIRE((t->rights & ~(rights | ~(unsigned)RIGHTS_OF_JOB)) == 0);
	memcpy(text, narrower, sizeof(narrower));
	return true;
}

static void changed(struct bytes *in, const char *text)
{
	static const char DIGITS[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+ \n";
	char other[TOKEN_BYTES_MAX + 2];
	size_t len = strlen(text), at = take(in, 2) % len;
	struct token t;
	char digit = DIGITS[take(in, 1) % (sizeof(DIGITS) - 1)];

	memcpy(other, text, len + 1);
	if (other[at] == digit)
		return;
	other[at] = digit;
	REQUIRE(token_verify(words(other), KEY, sizeof(KEY), NOW_NS, &t) == -EKEYREJECTED);
	other[at] = '\0';
	REQUIRE(token_verify(words(other), KEY, sizeof(KEY), NOW_NS, &t) == -EKEYREJECTED);
	memcpy(other, text, len);
	other[len] = digit;
	other[len + 1] = '\0';
	REQUIRE(token_verify(words(other), KEY, sizeof(KEY), NOW_NS, &t) == -EKEYREJECTED);
}

static void own_token(struct bytes *in)
{
	uint64_t job = take(in, 8);
	struct slice name = take_slice(in, take(in, 1) % (JOB_NAME_BYTES_MAX + 8));
	char text[TOKEN_BYTES_MAX + 1];
	const char *why;
	struct token t;
	int r = token_make(KEY, sizeof(KEY), job, name, text);

	if (r < 0 || !job_name_is_valid(name, &why)) {
		REQUIRE(r < 0 || token_verify(words(text), KEY, sizeof(KEY), NOW_NS, &t) < 0);
		return;
	}
	REQUIRE(token_verify(words(text), KEY, sizeof(KEY), NOW_NS, &t) == 0);
	REQUIRE(t.job == job && t.rights == RIGHTS_OF_JOB && t.prefix.len == 0);
	REQUIRE(token_verify(words(text), OTHER_KEY, sizeof(OTHER_KEY), NOW_NS, &t) ==
		-EKEYREJECTED);
	REQUIRE(token_verify(words(text), KEY, sizeof(KEY), NOW_NS, &t) == 0);
	for (int i = 0; i < 6 && bytes_left(in) > 3; i++)
		if (!narrow(in, text, &t))
			break;
	changed(in, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = bytes_of(data, len);

	if (take(&in, 1) % 2 == 0)
		any_text(take_slice(&in, len));
	else
		own_token(&in);
	return 0;
}

void fuzz_seeds(void)
{
	char text[TOKEN_BYTES_MAX + 1], narrower[TOKEN_BYTES_MAX + 1];
	uint8_t bytes[2 * TOKEN_BYTES_MAX];
	struct wcur w = wcur_make(bytes, sizeof(bytes));

	REQUIRE(token_make(KEY, sizeof(KEY), 77, words("job"), text) == 0);
	put_le(&w, 0, 1);
	put_bytes(&w, text, strlen(text));
	fuzz_seed("whole", bytes, (size_t)wcur_finish(&w));

	REQUIRE(token_narrow(words(text), words("a/b"), RIGHT_READ, 2000000000, narrower) == 0);
	w = wcur_make(bytes, sizeof(bytes));
	put_le(&w, 0, 1);
	put_bytes(&w, narrower, strlen(narrower));
	fuzz_seed("narrowed", bytes, (size_t)wcur_finish(&w));

	w = wcur_make(bytes, sizeof(bytes));
	put_le(&w, 1, 1);
	put_u64(&w, 77);
	put_le(&w, 3, 1);
	put_bytes(&w, "job", 3);
	for (int i = 0; i < 3; i++) {
		put_le(&w, 2 + i, 1);
		put_bytes(&w, "a/b/", 2 + (size_t)i);
		put_le(&w, 3, 1);
		put_le(&w, 200 - i, 1);
	}
	put_u16(&w, 5);
	put_le(&w, 9, 1);
	fuzz_seed("own", bytes, (size_t)wcur_finish(&w));
}
