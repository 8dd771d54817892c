/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wadi/wadi.h>

#include "cli/terminal.h"

/* A message is one line, whatever is in it. */
static void put_line(const struct invocation *in, const char *text)
{
	char safe[4096];

	fprintf(stderr, "wadi: %s: %s\n", in->command->name,
		name_safe(text, strlen(text), safe, sizeof(safe)));
}

int fail_usage(const struct invocation *in, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	put_line(in, text);
	return EXIT_USAGE;
}

int fail_local(const struct invocation *in, const char *what, const char *name, int r)
{
	char text[PATH_TEXT_MAX + 256];

	snprintf(text, sizeof(text), "%s %s: %s", what, name, strerror(-r));
	put_line(in, text);
	return EXIT_REFUSED;
}

int exit_code_of(int r)
{
	switch (r) {
	case -EHOSTUNREACH:
	case -ECONNREFUSED:
	case -ECONNRESET:
		return EXIT_UNREACHABLE;
	case -ETIMEDOUT:
		return EXIT_LATE;
	default:
		return r < 0 ? EXIT_REFUSED : EXIT_DONE;
	}
}

/* What the words should have been. */
static int fail_words(const struct invocation *in)
{
	const struct command *c = in->command;

	if (in->word_count < c->words_min)
		return fail_usage(in, "there is a word missing; type: wadi %s [OPTION]... %s",
				  c->name, c->words);
	if (*c->words)
		return fail_usage(in,
				  "there is no place for '%.200s'; type: wadi %s [OPTION]... %s",
				  in->words[c->words_max], c->name, c->words);
	return fail_usage(in, "takes no words, but options; there is no place for '%.200s'",
			  in->words[c->words_max]);
}

/* -EINVAL after wrong usage; `error` of the options says why. */
static int read_options(struct invocation *in, int *argc, char **argv)
{
	const struct option_table *t = in->options.table;
	int r = options_read_arguments(&in->options, argc, argv);

	if (r < 0 || in->options.is_help_wanted)
		return r;
	r = options_read_environment(&in->options, getenv);
	if (r == 0 && option_find(t, "config")) {
		const char *file = *(const char *const *)options_value(&in->options, "config");

		if (file)
			r = options_read_file(&in->options, file);
	}
	return r;
}

bool invocation_read(struct invocation *in, const struct command *c, const struct option_table *t,
		     int argc, char **argv, void *values, int *ret_code)
{
	int r;

	in->command = c;
	*ret_code = EXIT_DONE;
	options_init(&in->options, t, values);
	in->options.is_known = command_knows_option;
	r = read_options(in, &argc, argv);
	in->words = argv + 1;
	in->word_count = argc - 1;
	if (r < 0) {
		*ret_code =
			fail_usage(in, "%s", r == -ENOMEM ? strerror(ENOMEM) : in->options.error);
		return false;
	}
	if (in->options.is_help_wanted) {
		help_command(c);
		return false;
	}
	return true;
}

bool invocation_begin(struct invocation *in, int argc, char **argv, void *values, int *ret_code)
{
	const struct command *c = command_find(argv[0]);

	assert(c && c->table);
	if (!invocation_read(in, c, c->table(), argc, argv, values, ret_code))
		return false;
	if (in->word_count < c->words_min ||
	    (in->word_count > c->words_max && (c->words_max || !c->words_min))) {
		*ret_code = fail_words(in);
		return false;
	}
	return true;
}

void invocation_end(struct invocation *in)
{
	if (in->command)
		options_fini(&in->options);
}
