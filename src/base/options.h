/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: one table makes the struct, the parser, the range checks and the help.
 *
 *	#define CUP_OPTIONS(OPTION)                                                     \
 *		OPTION(size,  bytes, "1K", 1, 1 << 20, "SIZE",     "what goes in")       \
 *		OPTION(drink, word,  "tea", 0, 0,      "tea|coffee", "with it")          \
 *		OPTION(hot,   bool,  NULL, 0, 0,       "H",        "heat it first")
 *
 *	OPTIONS_STRUCT(cup, CUP_OPTIONS);             struct cup { uint64_t size; ... }
 *	OPTIONS_TABLE(cup, cup_table, CUP_OPTIONS)    cup_table(), of struct cup
 *
 * A line is: name, type, preset (what would be typed, or NULL), least and most
 * (0, 0: any), unit, help. The unit stands for the value in the help; of a `word` or
 * `words` it is the choice, of a `bool` its letter, if it has one. A name's `_` is typed as `-`.
 * A line without help is not listed.
 *
 *	type      in the struct      typed as
 *	string    const char *       anything; NULL: not given
 *	secret    const char *       anything, and never shown
 *	address   const char *       HOST:PORT, [::1]:PORT
 *	word      unsigned           one of the choice; its place there
 *	words     unsigned           some of the choice, with commas, or given again; a bit for each
 *	bytes     uint64_t           64K, 1.5G
 *	duration  uint64_t, ms       500ms, 30s, 10m
 *	count     uint64_t           a whole number
 *	bool      bool               --name, --name=no, -H
 *
 * Where a value comes from, stronger ones last: the preset; `--config FILE`, lines of
 * `name = value`; WADI_NAME or __OW_WADI_NAME of the environment; the command line.
 * They may be read in any order. Strings point into what was read.
 *
 * After a failure (-EINVAL) `error` has a sentence that says what to type instead.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Of one table; a command with more of them needs to be two. */
#define OPTIONS_MAX 48
/* A configuration file: every option that there is, with a page about each. */
#define OPTIONS_FILE_BYTES (256u << 10)

enum option_type {
	OPTION_string,
	OPTION_secret,
	OPTION_address,
	OPTION_word,
	OPTION_words,
	OPTION_bytes,
	OPTION_duration,
	OPTION_count,
	OPTION_bool,
};

struct option {
	const char *name; /* with `_` */
	enum option_type type;
	size_t at; /* in the struct */
	const char *preset;
	uint64_t min, max;
	const char *unit, *help;
};

struct option_table {
	const struct option *options;
	unsigned count;
	size_t struct_size;
};

typedef const char *option_string_t;
typedef const char *option_secret_t;
typedef const char *option_address_t;
typedef unsigned option_word_t;
typedef unsigned option_words_t;
typedef uint64_t option_bytes_t;
typedef uint64_t option_duration_t;
typedef uint64_t option_count_t;
typedef bool option_bool_t;

/* clang-format off */
#define OPTION_MEMBER(name, type, ...) option_##type##_t name;
#define OPTIONS_STRUCT(name, LIST) struct name { LIST(OPTION_MEMBER) }
#define OPTION_ENTRY(name, type, ...) \
	{ #name, OPTION_##type, offsetof(options_of, name), __VA_ARGS__ },
/* In one .c file; the header has `const struct option_table *table(void);`. */
#define OPTIONS_TABLE(name, table, LIST)                                                           \
	const struct option_table *table(void)                                                     \
	{                                                                                          \
		typedef struct name options_of;                                                    \
		static const struct option entries[] = { LIST(OPTION_ENTRY) };                     \
		static const struct option_table t = { entries,                                    \
			sizeof(entries) / sizeof(entries[0]), sizeof(options_of) };                \
		return &t;                                                                         \
	}
/* clang-format on */

enum option_origin { ORIGIN_PRESET, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_COMMAND_LINE };

struct options {
	const struct option_table *table;
	void *values; /* the struct; not ours */
	/* A line of the file may be about another command. True if anybody has an option of this
	 * name. */
	bool (*is_known)(const char *name);
	bool is_help_wanted; /* --help or -h was there */
	char error[640];

	/* options.c's own. */
	struct {
		enum option_origin origin;
		unsigned line;
		char *owned; /* a text out of the file */
	} given[OPTIONS_MAX];
	char *file_name;
};

/* Sets the presets. */
void options_init(struct options *o, const struct option_table *table, void *values);
void options_fini(struct options *o); /* strings out of the file are gone with it */

/* Takes the options out of argv, and leaves the words, *argc of them, from argv[0] on. `--` ends
 * options. */
int options_read_arguments(struct options *o, int *argc, char **argv);
/* `get` is getenv(), but for tests. */
int options_read_environment(struct options *o, char *(*get)(const char *name));
/* 0 or a negative errno of opening and reading it. */
int options_read_file(struct options *o, const char *path);
/* The same from memory: pure. `text` is changed, and has room for one byte behind `len`. */
int options_read_text(struct options *o, const char *file_name, char *text, size_t len);

/* The option of this name (with `_` or `-`), or NULL. */
const struct option *option_find(const struct option_table *t, const char *name);
const void *options_value(const struct options *o, const char *name);
enum option_origin options_origin(const struct options *o, const char *name);

/* "--name" of "name"; `buf` has OPTION_NAME_MAX bytes. */
#define OPTION_NAME_MAX 64
const char *option_spelled(const struct option *option, char *buf);

/* The text that would give this value; NULL: it has none. `buf` has QUANTITY_TEXT_MAX bytes. */
const char *options_shown(const struct options *o, const struct option *option, char *buf);
/* "command line", "environment", "wadi.conf:3", "default"; `buf` has `cap` bytes. */
void options_origin_text(const struct options *o, const struct option *option, char *buf,
			 size_t cap);

/* A paragraph per option from `from` to before `to`, in lines of `width` columns. */
void options_help(FILE *f, const struct option_table *t, unsigned from, unsigned to,
		  unsigned width);
/* Words of `text` in lines of `width`; the first begins at `column`, the others with `indent`
 * blanks. */
void text_wrap(FILE *f, const char *text, unsigned column, unsigned indent, unsigned width);
