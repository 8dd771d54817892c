/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options: of a configuration file, of the command line and of the environment. What is
 * taken lies within its limits, and is taken again from the text that shows it; what is
 * refused comes with a sentence.
 *
 * The input: a byte that says from where, then the text; arguments end with a NUL each.
 */
#include "fuzz.h"

#include <errno.h>

#include "base/options.h"
#include "base/quantity.h"

#define ARGUMENTS_MAX 32

/* clang-format off */
#define CUP_OPTIONS(OPTION)                                                                  \
	OPTION(size,       bytes,    "1K", 1, 1 << 20,   "SIZE",       "what goes in")           \
	OPTION(drink,      word,     "tea", 0, 0,        "tea|coffee|water", "with it")          \
	OPTION(wait,       duration, NULL, 1, 60000,     "DURATION",   "until it is cool enough") \
	OPTION(spoon_count, count,   "1",  0, 0,         "N",          "of sugar")               \
	OPTION(label,      string,   NULL, 0, 0,         "TEXT",       "on the side")            \
	OPTION(at,         address,  "127.0.0.1:80", 0, 0, "ADDRESS",  "where it is brought")    \
	OPTION(hot,        bool,     NULL, 0, 0,         "H",          "heat it first")          \
	OPTION(long_spoon, bool,     NULL, 0, 0,         "l",          "for a high one")         \
	OPTION(guest,      secret,   NULL, 0, 0,         "NAME",       "who drinks it")
/* clang-format on */

OPTIONS_STRUCT(cup, CUP_OPTIONS);
static OPTIONS_TABLE(cup, cup_table, CUP_OPTIONS);

static bool knows(const char *name)
{
	return strcmp(name, "saucer") == 0;
}

static const char *environment; /* every variable's value */

static char *get(const char *name)
{
	(void)name;
	return (char *)environment;
}

static int read_file(struct options *o, struct bytes *in)
{
	struct slice s = take_slice(in, bytes_left(in));
	char *text = text_of(s);
	int r = options_read_text(o, "cup.conf", text, s.len);

	/* What it points to is its own. */
	memset(text, 0xff, s.len);
	free(text);
	return r;
}

static int read_arguments(struct options *o, struct bytes *in, char *copy)
{
	char cup[] = "cup", *argv[ARGUMENTS_MAX + 2] = { cup };
	int argc = 1, r, given;

	for (const char *end = copy + bytes_left(in); copy < end && argc <= ARGUMENTS_MAX;
	     copy += strlen(copy) + 1)
		argv[argc++] = copy;
	given = argc;
	r = options_read_arguments(o, &argc, argv);
	REQUIRE(argc >= 1 && argc <= given);
	for (int i = 0; r == 0 && i < argc; i++)
		REQUIRE(argv[i]);
	return r;
}

static void within_limits(const struct cup *cup)
{
	REQUIRE(cup->size >= 1 && cup->size <= 1 << 20);
	REQUIRE(cup->drink < 3);
	REQUIRE(cup->wait <= 60000);
	REQUIRE(cup->at && *cup->at);
}

/* The text that shows a value gives that value. */
static void shown_again(const struct options *o, const struct cup *cup)
{
	const struct option_table *t = cup_table();

	for (unsigned i = 0; i < t->count; i++) {
		char text[QUANTITY_TEXT_MAX], name[OPTION_NAME_MAX], origin[300];
		const char *shown = options_shown(o, &t->options[i], text);
		struct options other;
		struct cup again = { 0 };
		char first[] = "cup", *argv[] = { first, NULL, NULL }, *given;
		int argc = 2;

		options_origin_text(o, &t->options[i], origin, sizeof(origin));
		REQUIRE(*origin);
		if (!shown || t->options[i].type == OPTION_secret)
			continue;
		option_spelled(&t->options[i], name);
		given = argv[1] = malloc(strlen(name) + strlen(shown) + 2);
		sprintf(given, "%s=%s", name, shown);
		options_init(&other, t, &again);
		REQUIRE(options_read_arguments(&other, &argc, argv) == 0);
		switch (t->options[i].type) {
		case OPTION_string:
		case OPTION_address:
			REQUIRE(strcmp(*(const char **)((char *)&again + t->options[i].at),
				       *(const char **)((const char *)cup + t->options[i].at)) ==
				0);
			break;
		case OPTION_word:
			REQUIRE(again.drink == cup->drink);
			break;
		case OPTION_bool:
			REQUIRE(again.hot == cup->hot || t->options[i].unit[0] != 'H');
			break;
		case OPTION_bytes:
		case OPTION_duration:
		case OPTION_count:
			REQUIRE(*(uint64_t *)((char *)&again + t->options[i].at) ==
				*(const uint64_t *)((const char *)cup + t->options[i].at));
			break;
		case OPTION_secret:
		case OPTION_words: /* the cup has none */
			break;
		}
		options_fini(&other);
		free(given);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = bytes_of(data, len);
	unsigned from = (unsigned)take(&in, 1) % 3;
	char *copy = text_of((struct slice){ in.p, bytes_left(&in) });
	struct options o = { .is_known = knows };
	struct cup cup = { 0 };
	int r;

	options_init(&o, cup_table(), &cup);
	o.is_known = knows;
	if (from == 0) {
		r = read_file(&o, &in);
	} else if (from == 1) {
		r = read_arguments(&o, &in, copy);
	} else {
		environment = copy;
		r = options_read_environment(&o, get);
	}
	REQUIRE(r == 0 || r == -EINVAL);
	REQUIRE(memchr(o.error, 0, sizeof(o.error)));
	REQUIRE(r == 0 || o.error[0]);
	if (r == 0) {
		within_limits(&cup);
		shown_again(&o, &cup);
	}
	options_fini(&o);
	free(copy);
	return 0;
}

void fuzz_seeds(void)
{
	static const char FILE_TEXT[] =
		"\0# a cup\nsize = 64K\nwait=1.5s # short\n\nlabel = \"a # b\"\r\n"
		"hot\nsaucer = 3\nat = [::1]:80\n";
	static const char ARGUMENTS[] =
		"\1--size=64K\0--drink\0water\0-lH\0word\0--no\0--\0--size\0";
	static const char VALUE[] = "\00210m";

	fuzz_seed("file", FILE_TEXT, sizeof(FILE_TEXT) - 1);
	fuzz_seed("arguments", ARGUMENTS, sizeof(ARGUMENTS) - 1);
	fuzz_seed("environment", VALUE, sizeof(VALUE) - 1);
}
