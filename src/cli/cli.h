/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli: what all subcommands share: how one begins, how it fails, how it ends.
 *
 *	int command_x(int argc, char **argv)            argv[0] is the command, "job ls"
 *	{
 *		CLEANUP(invocation_end) struct invocation in = { 0 };
 *		CLEANUP(client_close) struct wadi *w = NULL;
 *		struct x_options o;
 *		int code;
 *
 *		if (!invocation_begin(&in, argc, argv, &o, &code))
 *			return code;               help was wanted, or usage was wrong
 *		code = client_open(&in, &w);
 *		if (code)
 *			return code;
 *		...
 *	}
 *
 * A function named code_... or documented so returns an exit code; whatever is not 0
 * has been told on stderr, in one line.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/options.h"
#include "cli/options.h"

#define EXIT_DONE        0
#define EXIT_REFUSED     1 /* the store, or the file system, said no */
#define EXIT_USAGE       2
#define EXIT_UNREACHABLE 3
#define EXIT_LATE        4

/* Of one of many: the others would hear no more. */
static inline bool exit_is_silence(int code)
{
	return code == EXIT_UNREACHABLE || code == EXIT_LATE;
}

struct wadi;

/* commands.def */
enum command_group { OBJECTS, JOBS, STORE, SERVERS, OTHER };

typedef int command_fn(int argc, char **argv);

struct command {
	command_fn *run;
	const char *name;
	enum command_group group;
	const struct option_table *(*table)(void); /* NULL: parses for itself */
	int words_min, words_max;                  /* max 0 after a min: any number */
	const char *words, *summary, *text;
};

extern const struct command COMMAND_LIST[];
extern const unsigned COMMAND_COUNT;

/* NULL: there is none. Of two words: "job ls". */
const struct command *command_find(const char *name);
/* The command that the first words name, and how many they are: 0 if they name none. */
int command_of(char **words, int count, const struct command **ret);
/* Does any command have this option? For lines of a configuration that is for all. */
bool command_knows_option(const char *name);

/* Pages. */
void help_overview(bool is_error);
void help_command(const struct command *c);

struct invocation {
	const struct command *command;
	struct options options;
	char **words;
	int word_count;
};

/*
 * Parses: command line, file, environment. `values` is the struct of the command's
 * table. False: the command is over, with *ret_code.
 */
bool invocation_begin(struct invocation *in, int argc, char **argv, void *values, int *ret_code);
/* The same for a given table, and without a look at the words. */
bool invocation_read(struct invocation *in, const struct command *c, const struct option_table *t,
		     int argc, char **argv, void *values, int *ret_code);
void invocation_end(struct invocation *in); /* twice is fine */

/* "wadi: put: ..." with the usage behind it where it helps. EXIT_USAGE. */
int fail_usage(const struct invocation *in, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* "wadi: get /default/x: NOTFOUND: ..." from the handle's words. The exit code of `r`. */
int fail_status(const struct invocation *in, const struct wadi *w, const char *path, int r);
/* The same about a job, or, with NULL, about nothing in particular. */
int fail_about(const struct invocation *in, const struct wadi *w, const char *about, int r);
/* "wadi: get: cannot write x: No space left on device". EXIT_REFUSED. */
int fail_local(const struct invocation *in, const char *what, const char *name, int r);
int exit_code_of(int r);

/* Wrong words in the client options are wrong usage, and told before anybody is asked. An exit
 * code. */
int client_check(const struct invocation *in);
/* Opens the handle that the client options ask for. An exit code. */
int client_open(const struct invocation *in, struct wadi **ret);
void client_close(struct wadi **w);
/* As the messages have it: "/default/x" for "x". `buf` has PATH_TEXT_MAX bytes. */
#define PATH_TEXT_MAX (1 + JOB_NAME_BYTES_MAX + 1 + 4 * PATH_BYTES_MAX + 8)
const char *path_shown(const struct wadi *w, const char *path, char *buf);
/* "dir/" and "name". False: longer than any path, so it was not made. */
bool path_join(const char *directory, const char *name, char *buf);

/* All commands. */
#define COMMAND_DECLARE(function, ...) command_fn function;
#include "cli/commands.def"
COMMANDS(COMMAND_DECLARE)
