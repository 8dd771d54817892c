/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config show: the options in force, as lines that --config would take.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/quantity.h"
#include "cli/terminal.h"

#define ORIGIN_COLUMN 30

/* Takes --origin out of the words. */
static bool take_origin(int *argc, char **argv)
{
	bool is_there = false;
	int kept = 1;

	for (int i = 1; i < *argc; i++) {
		if (strcmp(argv[i], "--origin") == 0)
			is_there = true;
		else
			argv[kept++] = argv[i];
	}
	argv[kept] = NULL;
	*argc = kept;
	return is_there;
}

/* A line. What has no value is a comment, and so is what nobody should see. */
static void put_option(const struct options *o, const struct option *option, bool has_origin)
{
	char name[OPTION_NAME_MAX], text[QUANTITY_TEXT_MAX], origin[300];
	const char *value = options_shown(o, option, text);
	bool is_comment = !value || option->type == OPTION_secret;
	const char *quote =
		value && (strchr(value, '#') || !*value || *value == '"' || *value == ' ') ? "\""
											   : "";
	int n;

	option_spelled(option, name);
	n = printf("%s%s =%s%s%s%s", is_comment ? "# " : "", name + 2, value ? " " : "", quote,
		   value ? value : "", quote);
	if (has_origin) {
		options_origin_text(o, option, origin, sizeof(origin));
		printf("%*s  # %s", n < ORIGIN_COLUMN ? ORIGIN_COLUMN - n : 0, "",
		       value || strcmp(origin, "default") != 0 ? origin : "not set");
	}
	putchar('\n');
}

static void put_options(const struct options *o, const struct option_table *others, bool has_origin)
{
	for (unsigned i = 0; i < o->table->count; i++) {
		const struct option *option = &o->table->options[i];

		if (option->help && !(others && option_find(others, option->name)))
			put_option(o, option, has_origin);
	}
}

/* Of one command, with what follows it as its command line. argv[0] is its name. */
static int show_command(const struct command *c, int argc, char **argv, bool has_origin)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	void *values = calloc(1, c->table()->struct_size);
	int code = EXIT_DONE;

	if (!values)
		abort();
	if (invocation_read(&in, c, c->table(), argc, argv, values, &code)) {
		printf("# wadi %s\n", c->name);
		put_options(&in.options, NULL, has_origin);
	}
	invocation_end(&in);
	free(values);
	return code;
}

/* To be read, which takes options out and moves words. */
static char **copy_words(int argc, char **argv)
{
	char **own = calloc((size_t)argc + 1, sizeof(*own));

	if (!own)
		abort();
	memcpy(own, argv, (size_t)argc * sizeof(*own));
	return own;
}

/* Of clients, then of `wadi dev`. */
static int show_all(const struct command *self, int argc, char **argv, bool has_origin)
{
	const struct option_table *tables[] = { client_table(), dev_table() };
	static const char *const TITLES[] = { "clients", "wadi dev" };
	int code = EXIT_DONE;

	for (int i = 0; i < 2 && !code; i++) {
		CLEANUP(invocation_end) struct invocation in = { 0 };
		void *values = calloc(1, tables[i]->struct_size);
		char **own = copy_words(argc, argv);

		if (!values)
			abort();
		if (invocation_read(&in, self, tables[i], argc, own, values, &code)) {
			printf("%s# %s\n", i ? "\n" : "", TITLES[i]);
			put_options(&in.options, i ? tables[0] : NULL, has_origin);
		}
		invocation_end(&in);
		free(values);
		free(own);
	}
	return code;
}

int command_config_show(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	bool has_origin = take_origin(&argc, argv);
	const struct command *self = command_find(argv[0]), *c = NULL;
	struct no_options o;
	int taken = argc > 1 ? command_of(argv + 1, argc - 1, &c) : 0, code;
	char **own;

	if (taken && c->table) {
		argv[taken] = argv[1];
		return show_command(c, argc - taken, argv + taken, has_origin);
	}
	/* Without a command there is only --config. */
	own = copy_words(argc, argv);
	if (invocation_begin(&in, argc, own, &o, &code))
		code = show_all(self, argc, argv, has_origin);
	free(own);
	return code;
}
