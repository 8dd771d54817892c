/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: the command line of `wadi sort`, from the table in options.def.
 *
 * A word that is not in the table is answered with the nearest one that is, and the
 * exit code 2.
 */
#pragma once

#include "options.def"
#include "request.h"

/* In the order of WORDS_ATTACH; ANY is what nobody asked for otherwise. */
enum attach { ATTACH_HOST, ATTACH_PROXY, ATTACH_DIRECT, ATTACH_SIDECAR, ATTACH_ANY };

struct paths {
	const char **list; /* owned; the strings are not */
	size_t count;
};

#define MEMBER_BYTES  uint64_t
#define MEMBER_NUMBER uint64_t
#define MEMBER_TIME   uint64_t
#define MEMBER_WORD   uint64_t /* the index of the word: enum skew, format, attach */
#define MEMBER_TEXT   const char *
#define MEMBER_PATHS  struct paths
#define MEMBER_FLAG   bool

struct options {
#define O(name, member, kind, def, min, max, value, help) MEMBER_##kind member;
	OPTIONS(O)
#undef O
};

/* Strings of `ret` point into argv. 0; 1: --help, and stdout has it; -EINVAL: and the problem says
 * what is wrong. */
int options_parse(int argc, const char *const *argv, struct options *ret, struct problem *problem);
void options_fini(struct options *o);

/* The word of an index in "a|b|c", to a buffer. */
const char *word_of(const char *words, uint64_t index, char *buf, size_t cap);
