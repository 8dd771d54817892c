/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token: who may do what in a job, in words that its holder can narrow by itself.
 *
 *	base64url, unpadded, of: version, key id, job, job's name, restrictions, signature
 *
 * The first signature is HMAC-SHA256 of the beginning with the store's key; each
 * restriction is signed with the signature before it as the key, and only the last one
 * is in the token. So whoever has a token can add a restriction, and nobody can take
 * one away. A restriction is a prefix of paths, a set of rights, or an end in time.
 *
 * Pure, but for the cryptography of OpenSSL.
 */
#pragma once

#include "wire/codec.h"

#define TOKEN_KEY_BYTES 32

struct token {
	uint64_t job;
	unsigned rights;         /* enum rights */
	uint64_t valid_until_ns; /* by the wall clock; 0: for good */
	struct slice job_name, prefix;
	uint8_t bytes[TOKEN_BYTES_MAX]; /* what the slices point into */
};

/* Words about a token that was not accepted: "" if there are none. */
const char *token_why(int r);

/* In a time that does not tell where they differ. An empty secret equals nothing. */
bool secret_is(struct slice given, struct slice secret);

/* A token of the whole job, with its NUL, into `ret` of TOKEN_BYTES_MAX + 1 bytes. 0 or -EINVAL. */
int token_make(const uint8_t *key, size_t key_len, uint64_t job, struct slice job_name, char *ret);

/*
 * Adds restrictions to `text`: paths that begin with `prefix` (len 0: any), these
 * rights (RIGHTS_OF_JOB: no fewer), until that second of the wall clock (0: no end).
 * -EKEYREJECTED: not a token; -EMSGSIZE: too many restrictions.
 */
int token_narrow(struct slice text, struct slice prefix, unsigned rights, uint64_t until_s,
		 char *ret);

/* -EKEYREJECTED: not signed with this key, or not a token; -EKEYEXPIRED: its time is over. */
int token_verify(struct slice text, const uint8_t *key, size_t key_len, uint64_t now_wall_ns,
		 struct token *ret);
