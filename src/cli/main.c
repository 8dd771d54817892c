/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wadi: one program, a subcommand for each thing it does (commands.def).
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wadi/wadi.h>

#include "base/words.h"
#include "bench/benches.def"
#include "cli/terminal.h"

/* clang-format off */
#define BENCH_LINE(NAME, name, run, op, sizes, clients, depths, what) "`" name "`: " what ".\n\n"
#define BENCH_HELP BENCHES(BENCH_LINE)
#define COMMAND_ENTRY(...) { __VA_ARGS__ },
const struct command COMMAND_LIST[] = { COMMANDS(COMMAND_ENTRY) };
const unsigned COMMAND_COUNT = sizeof(COMMAND_LIST) / sizeof(COMMAND_LIST[0]);

#define NAME_ENTRY(name) name,
static const char *const NOT_HERE[] = { COMMANDS_NOT_HERE(NAME_ENTRY) };
/* clang-format on */

#define COMMAND_NAME_MAX 32

const struct command *command_find(const char *name)
{
	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		if (strcmp(COMMAND_LIST[i].name, name) == 0)
			return &COMMAND_LIST[i];
	return NULL;
}

bool command_knows_option(const char *name)
{
	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		if (COMMAND_LIST[i].table && option_find(COMMAND_LIST[i].table(), name))
			return true;
	return false;
}

/* "job ls" of "job" and "ls"; just the first if there is no second. */
static void join_name(char **words, int count, char *buf, size_t cap)
{
	if (count > 1)
		snprintf(buf, cap, "%s %s", words[0], words[1]);
	else
		snprintf(buf, cap, "%s", words[0]);
}

int command_of(char **words, int count, const struct command **ret)
{
	char name[COMMAND_NAME_MAX];

	join_name(words, count, name, sizeof(name));
	*ret = command_find(name);
	if (*ret)
		return count > 1 ? 2 : 1;
	*ret = command_find(words[0]);
	return *ret ? 1 : 0;
}

/* Is `word` the first of two in some command? */
static bool is_family(const char *word)
{
	size_t len = strlen(word);

	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		if (strncmp(COMMAND_LIST[i].name, word, len) == 0 &&
		    COMMAND_LIST[i].name[len] == ' ')
			return true;
	return false;
}

static int fail_family(const char *word)
{
	size_t len = strlen(word);

	fprintf(stderr, "wadi: %s: which? There are", word);
	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		if (strncmp(COMMAND_LIST[i].name, word, len) == 0 &&
		    COMMAND_LIST[i].name[len] == ' ')
			fprintf(stderr, " `wadi %s`", COMMAND_LIST[i].name);
	fputc('\n', stderr);
	return EXIT_USAGE;
}

static const char *command_near(const char *name)
{
	struct nearest near = nearest_begin(name);

	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		nearest_try(&near, COMMAND_LIST[i].name);
	return nearest_end(&near);
}

static int fail_unknown(char **words, int count)
{
	char name[COMMAND_NAME_MAX], safe[4 * COMMAND_NAME_MAX];
	const char *best;

	for (size_t i = 0; i < sizeof(NOT_HERE) / sizeof(NOT_HERE[0]); i++) {
		if (strcmp(words[0], NOT_HERE[i]) != 0)
			continue;
		fprintf(stderr, "wadi: %s is not in this build; `wadi help` lists what is\n",
			words[0]);
		return EXIT_USAGE;
	}
	if (is_family(words[0])) {
		if (count < 2 || words[1][0] == '-')
			return fail_family(words[0]);
		join_name(words, count, name, sizeof(name));
	} else {
		snprintf(name, sizeof(name), "%s", words[0]);
	}

	best = command_near(name);
	if (!best && count > 1) {
		/* "confg show": it may have been meant as one of two words. */
		join_name(words, count, name, sizeof(name));
		best = command_near(name);
		if (!best)
			snprintf(name, sizeof(name), "%s", words[0]);
	}
	name_safe(name, strlen(name), safe, sizeof(safe));
	if (best)
		fprintf(stderr, "wadi: there is no command '%s'; did you mean `wadi %s`?\n", safe,
			best);
	else if (is_family(words[0]))
		return fail_family(words[0]);
	else
		fprintf(stderr, "wadi: there is no command '%s'; `wadi help` lists them\n", safe);
	return EXIT_USAGE;
}

int command_help(int argc, char **argv)
{
	const struct command *c;

	while (argc > 1 && argv[1][0] == '-') {
		argv++;
		argc--;
	}
	if (argc < 2) {
		help_overview(false);
		return EXIT_DONE;
	}
	if (command_of(argv + 1, argc - 1, &c) == 0)
		return fail_unknown(argv + 1, argc - 1);
	if (!c->table && c->run != command_help && c->run != command_version) {
		char help[] = "--help", *own[] = { argv[1], help, NULL };

		return c->run(2, own);
	}
	help_command(c);
	return EXIT_DONE;
}

int command_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	printf("wadi %s\n", wadi_version());
	return EXIT_DONE;
}

static int dispatch(int argc, char **argv)
{
	char name[COMMAND_NAME_MAX];
	const struct command *c;
	int taken;

	if (argc < 2) {
		help_overview(true);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return command_help(argc - 1, argv + 1);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return command_version(argc - 1, argv + 1);
	if (argv[1][0] == '-') {
		char safe[128];

		fprintf(stderr,
			"wadi: %s: options stand behind the command, as in `wadi ls --help`\n",
			name_safe(argv[1], strlen(argv[1]), safe, sizeof(safe)));
		return EXIT_USAGE;
	}

	taken = command_of(argv + 1, argc - 1, &c);
	if (taken == 0)
		return fail_unknown(argv + 1, argc - 1);
	/* argv[0] of a command is its name; of "job ls", both words of it. */
	strcpy(name, c->name);
	argv[taken] = name;
	return c->run(argc - taken, argv + taken);
}

/*
 * Whoever starts us may have closed these, and the next thing opened, perhaps the
 * connection to the store, would take their numbers: and what is meant for the
 * standard output would be sent to the store. Used, they fail as closed ones do.
 */
static int keep_places(void)
{
	static const int MODES[] = { O_WRONLY, O_RDONLY, O_RDONLY };

	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", MODES[fd]) != fd)
			return -errno;
	return 0;
}

int main(int argc, char **argv)
{
	int code = keep_places() < 0 ? EXIT_REFUSED : dispatch(argc, argv);

	/* What could not be written is not done, whatever the store said. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		if (code == EXIT_DONE)
			fprintf(stderr, "wadi: cannot write to standard output: %s\n",
				strerror(errno));
		code = code ? code : EXIT_REFUSED;
	}
	return code;
}
