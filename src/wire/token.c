/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "wire/extent.h"

#define TOKEN_VERSION   1
#define SIGNATURE_BYTES 32

/* Kinds of restrictions; a kind never changes its meaning. */
enum restriction { ONLY_PREFIX = 1, ONLY_RIGHTS = 2, ONLY_UNTIL = 3 };

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int sign(const uint8_t *key, size_t key_len, const uint8_t *bytes, size_t len, uint8_t *ret)
{
	unsigned n = SIGNATURE_BYTES;

	return HMAC(EVP_sha256(), key, (int)key_len, bytes, len, ret, &n) ? 0 : -ENOMEM;
}

/* RFC 4648, section 5, without padding. The cap counts the NUL. */
static int to_text(const uint8_t *bytes, size_t len, char *ret, size_t cap)
{
	uint32_t bits = 0;
	unsigned have = 0;
	size_t n = 0;

	if ((len * 8 + 5) / 6 + 1 > cap)
		return -EMSGSIZE;
	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | bytes[i];
		have += 8;
		for (; have >= 6; have -= 6)
			ret[n++] = DIGITS[bits >> (have - 6) & 63];
	}
	if (have > 0)
		ret[n++] = DIGITS[bits << (6 - have) & 63];
	ret[n] = '\0';
	return 0;
}

/* The count of bytes, or -EKEYREJECTED. Each token has one text only. */
static ptrdiff_t from_text(struct slice text, uint8_t *ret, size_t cap)
{
	uint32_t bits = 0;
	unsigned have = 0;
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++) {
		const char *digit = text.ptr[i] ? strchr(DIGITS, text.ptr[i]) : NULL;

		if (!digit || n == cap)
			return -EKEYREJECTED;
		bits = bits << 6 | (uint32_t)(digit - DIGITS);
		have += 6;
		if (have >= 8) {
			have -= 8;
			ret[n++] = (uint8_t)(bits >> have);
		}
	}
	if (have >= 6 || (bits & ((1u << have) - 1)) != 0)
		return -EKEYREJECTED;
	return (ptrdiff_t)n;
}

const char *token_why(int r)
{
	switch (r) {
	case -EKEYREJECTED:
		return "not signed by this store; `wadi job create` prints tokens";
	case -EKEYEXPIRED:
		return "its time is over; ask whoever gave it for another";
	case -EIDRM:
	case -ENXIO:
		return "the token's job has ended; `wadi job create` makes another";
	default:
		return "";
	}
}

bool secret_is(struct slice given, struct slice secret)
{
	return secret.len > 0 && given.len == secret.len &&
	       CRYPTO_memcmp(given.ptr, secret.ptr, secret.len) == 0;
}

int token_make(const uint8_t *key, size_t key_len, uint64_t job, struct slice job_name, char *ret)
{
	uint8_t bytes[JOB_NAME_BYTES_MAX + 16 + SIGNATURE_BYTES];
	struct wcur w = wcur_make(bytes, sizeof(bytes));
	uint8_t *signature;
	size_t len;

	put_le(&w, TOKEN_VERSION, 1);
	put_le(&w, 0, 1); /* the only key so far */
	put_u64(&w, job);
	put_str(&w, job_name);
	len = (size_t)(w.p - w.start);
	signature = wcur_take(&w, SIGNATURE_BYTES);
	if (!signature || sign(key, key_len, bytes, len, signature) < 0)
		return -EINVAL;
	return to_text(bytes, len + SIGNATURE_BYTES, ret, TOKEN_BYTES_MAX + 1);
}

/* Signs what was added since `from` with the signature before it, which it replaces. */
static int add(uint8_t *signature, const uint8_t *from, const uint8_t *to)
{
	uint8_t next[SIGNATURE_BYTES];
	int r = sign(signature, SIGNATURE_BYTES, from, (size_t)(to - from), next);

	memcpy(signature, next, SIGNATURE_BYTES);
	return r;
}

/* How many restrictions there are, of whatever kind; -EKEYREJECTED: it is not a token. */
static int count_restrictions(const uint8_t *bytes, size_t len)
{
	struct rcur c = rcur_make(bytes, len);
	int n = 0;

	rcur_take(&c, 2);
	(void)get_u64(&c);
	(void)get_str(&c);
	for (; c.p < c.end && !c.bad; n++) {
		switch (get_le(&c, 1)) {
		case ONLY_PREFIX:
			(void)get_str(&c);
			break;
		case ONLY_RIGHTS:
			(void)get_u32(&c);
			break;
		case ONLY_UNTIL:
			(void)get_u64(&c);
			break;
		default:
			c.bad = true;
		}
	}
	return c.bad ? -EKEYREJECTED : n;
}

int token_narrow(struct slice text, struct slice prefix, unsigned rights, uint64_t until_s,
		 char *ret)
{
	uint8_t bytes[TOKEN_BYTES_MAX], signature[SIGNATURE_BYTES];
	ptrdiff_t len = from_text(text, bytes, sizeof(bytes));
	struct wcur w;
	uint8_t *from;
	int r = 0, count;

	if (len < SIGNATURE_BYTES)
		return -EKEYREJECTED;
	len -= SIGNATURE_BYTES;
	count = count_restrictions(bytes, (size_t)len);
	if (count < 0)
		return count;
	count += (prefix.len > 0) + ((rights & RIGHTS_OF_JOB) != RIGHTS_OF_JOB) + (until_s > 0);
	if (count > TOKEN_RESTRICTIONS_MAX)
		return -EMSGSIZE;
	memcpy(signature, bytes + len, SIGNATURE_BYTES);
	w = wcur_make(bytes, sizeof(bytes));
	wcur_take(&w, (size_t)len);
	if (prefix.len > 0) {
		from = w.p;
		put_le(&w, ONLY_PREFIX, 1);
		put_str(&w, prefix);
		r = add(signature, from, w.p);
	}
	if (r == 0 && (rights & RIGHTS_OF_JOB) != RIGHTS_OF_JOB) {
		from = w.p;
		put_le(&w, ONLY_RIGHTS, 1);
		put_u32(&w, rights & RIGHTS_OF_JOB);
		r = add(signature, from, w.p);
	}
	if (r == 0 && until_s > 0) {
		from = w.p;
		put_le(&w, ONLY_UNTIL, 1);
		put_u64(&w, until_s);
		r = add(signature, from, w.p);
	}
	if (r < 0)
		return r;
	from = wcur_take(&w, SIGNATURE_BYTES);
	if (!from)
		return -EMSGSIZE;
	memcpy(from, signature, SIGNATURE_BYTES);
	return to_text(bytes, (size_t)wcur_finish(&w), ret, TOKEN_BYTES_MAX + 1);
}

/* A longer prefix with the same beginning narrows; one with another leaves nothing. */
static int only_prefix(struct token *t, struct slice prefix)
{
	size_t both = prefix.len < t->prefix.len ? prefix.len : t->prefix.len;

	if (both > 0 && memcmp(prefix.ptr, t->prefix.ptr, both) != 0)
		return -EKEYREJECTED;
	if (prefix.len > PATH_BYTES_MAX)
		return -EKEYREJECTED;
	if (prefix.len > t->prefix.len)
		t->prefix = prefix;
	return 0;
}

static int restrict_by(struct token *t, struct rcur *c)
{
	uint64_t until_ns;

	switch (get_le(c, 1)) {
	case ONLY_PREFIX:
		return only_prefix(t, get_str(c));
	case ONLY_RIGHTS:
		t->rights &= get_u32(c);
		return 0;
	case ONLY_UNTIL:
		until_ns = get_u64(c);
		until_ns = until_ns < UINT64_MAX / 1000000000 ? until_ns * 1000000000 : UINT64_MAX;
		if (t->valid_until_ns == 0 || until_ns < t->valid_until_ns)
			t->valid_until_ns = until_ns;
		return 0;
	default:
		return -EKEYREJECTED;
	}
}

int token_verify(struct slice text, const uint8_t *key, size_t key_len, uint64_t now_wall_ns,
		 struct token *ret)
{
	ptrdiff_t len = from_text(text, ret->bytes, sizeof(ret->bytes));
	uint8_t signature[SIGNATURE_BYTES];
	const char *why;
	struct rcur c;
	int r = 0;

	if (len < SIGNATURE_BYTES)
		return -EKEYREJECTED;
	len -= SIGNATURE_BYTES;
	c = rcur_make(ret->bytes, (size_t)len);
	ret->rights = RIGHTS_OF_JOB;
	ret->valid_until_ns = 0;
	ret->prefix = (struct slice){ 0 };
	if (get_le(&c, 1) != TOKEN_VERSION || get_le(&c, 1) != 0)
		return -EKEYREJECTED;
	ret->job = get_u64(&c);
	ret->job_name = get_str(&c);
	if (c.bad || !job_name_is_valid(ret->job_name, &why))
		return -EKEYREJECTED;
	if (sign(key, key_len, ret->bytes, (size_t)(c.p - ret->bytes), signature) < 0)
		return -ENOMEM;
	for (unsigned i = 0; r == 0 && c.p < c.end; i++) {
		const uint8_t *from = c.p;

		r = i < TOKEN_RESTRICTIONS_MAX ? restrict_by(ret, &c) : -EKEYREJECTED;
		if (r == 0)
			r = c.bad ? -EKEYREJECTED : add(signature, from, c.p);
	}
	if (r < 0)
		return r;
	if (CRYPTO_memcmp(signature, ret->bytes + len, SIGNATURE_BYTES) != 0)
		return -EKEYREJECTED;
	return ret->valid_until_ns && ret->valid_until_ns <= now_wall_ns ? -EKEYEXPIRED : 0;
}
