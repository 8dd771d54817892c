/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "cli/terminal.h"

/* Lines longer than this are hard to read, however wide the window. */
#define READABLE_COLUMNS 100
#define NAME_COLUMN      16

static unsigned page_width(FILE *f)
{
	unsigned width = terminal_width(f);

	return width < READABLE_COLUMNS ? width : READABLE_COLUMNS;
}

static void put_group(FILE *f, const char *title, enum command_group group, unsigned width)
{
	fprintf(f, "\n%s\n", title);
	for (unsigned i = 0; i < COMMAND_COUNT; i++) {
		if (COMMAND_LIST[i].group != group)
			continue;
		fprintf(f, "  %-*s", NAME_COLUMN - 2, COMMAND_LIST[i].name);
		text_wrap(f, COMMAND_LIST[i].summary, NAME_COLUMN, NAME_COLUMN, width);
	}
}

void help_overview(bool is_error)
{
	FILE *f = is_error ? stderr : stdout;
	unsigned width = page_width(f);

	fputs("usage: wadi COMMAND [OPTION]... [WORD]...\n\n", f);
	text_wrap(
		f,
		"Wadi is an ephemeral store for serverless functions. `wadi dev` runs one on this "
		"machine; WADI_ENDPOINT says where another is, and WADI_TOKEN who asks.",
		0, 0, width);
	put_group(f, "objects", OBJECTS, width);
	put_group(f, "jobs", JOBS, width);
	put_group(f, "the store", STORE, width);
	put_group(f, "servers", SERVERS, width);
	put_group(f, "other", OTHER, width);
	fputc('\n', f);
	text_wrap(f, "`wadi help COMMAND` tells all about one of them.", 0, 0, width);
}

/* Paragraphs are wrapped; lines that begin with blanks are examples and stay. */
static void put_text(FILE *f, const char *text, unsigned width)
{
	while (*text) {
		size_t len = strcspn(text, "\n");
		char paragraph[1024];

		snprintf(paragraph, sizeof(paragraph), "%.*s", (int)len, text);
		if (*text == ' ' || len == 0)
			fprintf(f, "%s\n", paragraph);
		else
			text_wrap(f, paragraph, 0, 0, width);
		text += len + (text[len] == '\n');
	}
	fputc('\n', f);
}

/* Where the options begin that many commands share. */
static unsigned first_shared(const struct option_table *t)
{
	const struct option *o = option_find(t, "endpoint");

	if (!o)
		o = option_find(t, "config");
	return o ? (unsigned)(o - t->options) : t->count;
}

static void put_options(FILE *f, const struct option_table *t, unsigned width)
{
	unsigned shared = first_shared(t);

	if (shared > 0) {
		fputs("options\n", f);
		options_help(f, t, 0, shared, width);
		fputc('\n', f);
	}
	fputs(option_find(t, "endpoint") ? "options of all clients\n" : "options of all servers\n",
	      f);
	options_help(f, t, shared, t->count, width);
	fputc('\n', f);
}

void help_command(const struct command *c)
{
	unsigned width = page_width(stdout);
	char usage[256];

	snprintf(usage, sizeof(usage), "wadi %s%s%s%s", c->name, c->table ? " [OPTION]..." : "",
		 *c->words ? " " : "", c->words);
	fputs("usage: ", stdout);
	text_wrap(stdout, usage, 7, 11, width);
	fputc('\n', stdout);
	if (*c->text)
		put_text(stdout, c->text, width);
	else
		printf("%c%s.\n\n", c->summary[0] - ('a' - 'A'), c->summary + 1);
	if (!c->table)
		return;
	put_options(stdout, c->table(), width);
	text_wrap(stdout,
		  "Each option is also a line of --config FILE and a variable: --timeout, "
		  "`timeout=10s`, WADI_TIMEOUT.",
		  0, 0, width);
	text_wrap(stdout,
		  c->group == SERVERS
			  ? "Exit status: 0 ended as told, 1 failed, 2 wrong usage."
			  : "Exit status: 0 done, 1 the store said no, 2 wrong usage, 3 "
			    "unreachable, 4 timed out.",
		  0, 0, width);
}
