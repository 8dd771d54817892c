/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what people type becomes the value they meant, or a sentence that says what
 * to type. Method: one table with every type; arguments, environment and a file in
 * every order; all messages as literals.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/options.h"
#include "base/quantity.h"
#include "base/words.h"

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
	OPTION(guest,      secret,   NULL, 0, 0,         "NAME",       "who drinks it")          \
	OPTION(config,     string,   NULL, 0, 0,         "FILE",       "more options")
/* clang-format on */

OPTIONS_STRUCT(cup, CUP_OPTIONS);
static OPTIONS_TABLE(cup, cup_table, CUP_OPTIONS);

struct fixture {
	struct options options;
	struct cup cup;
	int argc;
	char *argv[16];
	char line[1024];
};

static struct fixture begin(void)
{
	return (struct fixture){ 0 };
}

/* `line` is split at `|`, so that words may have blanks. */
static int arguments(struct fixture *f, const char *line)
{
	snprintf(f->line, sizeof(f->line), "cup|%s", line);
	f->argc = 0;
	for (char *p = strtok(f->line, "|"); p; p = strtok(NULL, "|"))
		f->argv[f->argc++] = p;
	f->argv[f->argc] = NULL;
	return options_read_arguments(&f->options, &f->argc, f->argv);
}

static int text(struct fixture *f, const char *lines)
{
	char *copy = strdup(lines);
	int r = options_read_text(&f->options, "cup.conf", copy, strlen(copy));

	free(copy);
	return r;
}

static void expect_good(const char *line, const struct cup *cup)
{
	struct fixture f = begin();

	options_init(&f.options, cup_table(), &f.cup);
	assert_int_equal(arguments(&f, line), 0);
	assert_int_equal(f.cup.size, cup->size);
	assert_int_equal(f.cup.drink, cup->drink);
	assert_int_equal(f.cup.wait, cup->wait);
	assert_int_equal(f.cup.spoon_count, cup->spoon_count);
	assert_int_equal(f.cup.hot, cup->hot);
	assert_int_equal(f.cup.long_spoon, cup->long_spoon);
	if (cup->label)
		assert_string_equal(f.cup.label, cup->label);
	else
		assert_null(f.cup.label);
	options_fini(&f.options);
}

static void expect_bad(const char *line, const char *error)
{
	struct fixture f = begin();

	options_init(&f.options, cup_table(), &f.cup);
	assert_int_equal(arguments(&f, line), -EINVAL);
	assert_string_equal(f.options.error, error);
	options_fini(&f.options);
}

static void without_arguments_the_presets_stand(void **state)
{
	expect_good("", &(struct cup){ .size = 1024, .spoon_count = 1 });
}

static void values_stand_behind_an_equals_sign_or_a_blank(void **state)
{
	expect_good("--size=64K|--wait=500ms|--drink|water|--spoon-count|3|--label|a = b|-H",
		    &(struct cup){ .size = 65536,
				   .wait = 500,
				   .drink = 2,
				   .spoon_count = 3,
				   .label = "a = b",
				   .hot = true });
	expect_good("-lH|--label=", &(struct cup){ .size = 1024,
						   .spoon_count = 1,
						   .hot = true,
						   .long_spoon = true,
						   .label = "" });
	expect_good("--hot|--hot=no", &(struct cup){ .size = 1024, .spoon_count = 1 });
	expect_good("--spoon_count=0", &(struct cup){ .size = 1024 });
	expect_good("--size=1|--size=2", &(struct cup){ .size = 2, .spoon_count = 1 });
}

static void words_stay_in_their_order(void **state)
{
	struct fixture f = begin();

	options_init(&f.options, cup_table(), &f.cup);
	assert_int_equal(arguments(&f, "a|-|--hot|b|--|--size|-x"), 0);
	assert_int_equal(f.argc, 6);
	assert_string_equal(f.argv[1], "a");
	assert_string_equal(f.argv[2], "-");
	assert_string_equal(f.argv[3], "b");
	assert_string_equal(f.argv[4], "--size");
	assert_string_equal(f.argv[5], "-x");
	assert_null(f.argv[6]);
	assert_true(f.cup.hot);
	options_fini(&f.options);
}

/* clang-format off */
#define TRAY_OPTIONS(OPTION) \
	OPTION(cakes, words, "plain", 0, 0, "plain|cream|nut", "what is on it")
/* clang-format on */
OPTIONS_STRUCT(tray, TRAY_OPTIONS);
static OPTIONS_TABLE(tray, tray_table, TRAY_OPTIONS);

static void several_words_add_up_and_replace_those_of_a_weaker_source(void **state)
{
	char buf[QUANTITY_TEXT_MAX];
	struct fixture f = begin();
	struct tray tray;

	options_init(&f.options, tray_table(), &tray);
	assert_int_equal(tray.cakes, 1);
	assert_int_equal(arguments(&f, "--cakes=nut,cream"), 0);
	assert_int_equal(tray.cakes, 2 + 4);
	assert_string_equal(options_shown(&f.options, option_find(tray_table(), "cakes"), buf),
			    "cream,nut");
	assert_int_equal(arguments(&f, "--cakes|plain"), 0);
	assert_int_equal(tray.cakes, 1 + 2 + 4);
	assert_int_equal(arguments(&f, "--cakes=plain,nuts"), -EINVAL);
	assert_string_equal(f.options.error, "--cakes: there is no 'nuts'; did you mean nut? There "
					     "are plain|cream|nut");
	assert_int_equal(arguments(&f, "--cakes=cream,"), -EINVAL);
	assert_int_equal(tray.cakes, 1 + 2 + 4);
	options_fini(&f.options);
}

static void what_is_wrong_is_said_with_what_to_type(void **state)
{
	expect_bad("--szie=1K", "there is no option --szie; did you mean --size?");
	expect_bad("--dri", "there is no option --dri; did you mean --drink?");
	expect_bad("--spoon-cuont=1",
		   "there is no option --spoon-cuont; did you mean --spoon-count?");
	expect_bad("--hlep", "there is no option --hlep; did you mean --help?");
	expect_bad("--xyzzy", "there is no option --xyzzy; --help lists them");
	expect_bad("-Hx", "there is no option -x; there are -H -l -h");
	expect_bad("--size", "--size needs a value: --size=SIZE");
	expect_bad("--size=0", "--size: 0 is too small; type 1 to 1M");
	expect_bad("--size=2M", "--size: 2M is too large; type 1 to 1M");
	expect_bad("--size=99999999999999999999",
		   "--size: 99999999999999999999 is too large; type 1 to 1M");
	expect_bad("--size=1X", "--size: '1X' is not a size like 4096, 64K or 1.5G");
	expect_bad("--size=-1", "--size: '-1' is not a size like 4096, 64K or 1.5G");
	expect_bad("--wait=10", "--wait: '10' is not a duration like 500ms, 30s or 10m");
	expect_bad("--wait=0", "--wait: 0 is too small; type 1ms to 1m");
	expect_bad("--wait=2m", "--wait: 2m is too large; type 1ms to 1m");
	expect_bad("--spoon-count=x", "--spoon-count: 'x' is not a whole number");
	expect_bad("--drink=cofee",
		   "--drink: there is no 'cofee'; did you mean coffee? There are tea|coffee|water");
	expect_bad("--drink=milk", "--drink: there is no 'milk'; there are tea|coffee|water");
	expect_bad("--hot=perhaps", "--hot: 'perhaps' is neither yes nor no");
	expect_bad("--at=80", "--at: '80' is not an address; type HOST:PORT, as 127.0.0.1:4870 or "
			      "[::1]:4870; port 0 lets the kernel choose");
}

static void addresses_have_a_host_and_a_port(void **state)
{
	static const char *const GOOD[] = { "127.0.0.1:0", "localhost:65535", "[::1]:80",
					    "a.b-c:1" };
	static const char *const BAD[] = { "",           ":",      ":80",     "host",    "host:",
					   "host:65536", "::1:80", "[::1:80", "host:80x" };
	char line[64];

	for (size_t i = 0; i < sizeof(GOOD) / sizeof(GOOD[0]); i++) {
		struct fixture f = begin();

		options_init(&f.options, cup_table(), &f.cup);
		snprintf(line, sizeof(line), "--at=%s", GOOD[i]);
		assert_int_equal(arguments(&f, line), 0);
		assert_string_equal(f.cup.at, GOOD[i]);
		options_fini(&f.options);
	}
	for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
		struct fixture f = begin();

		options_init(&f.options, cup_table(), &f.cup);
		snprintf(line, sizeof(line), "--at=%s", BAD[i]);
		assert_int_equal(arguments(&f, line), -EINVAL);
		options_fini(&f.options);
	}
}

static void help_is_wanted_by_word_and_by_letter(void **state)
{
	static const char *const LINES[] = { "--help", "-h", "-Hh", "a|--help" };

	for (size_t i = 0; i < 4; i++) {
		struct fixture f = begin();

		options_init(&f.options, cup_table(), &f.cup);
		assert_int_equal(arguments(&f, LINES[i]), 0);
		assert_true(f.options.is_help_wanted);
		options_fini(&f.options);
	}
}

static bool knows_saucer(const char *name)
{
	return strcmp(name, "saucer") == 0;
}

static void a_file_has_a_line_for_each_option(void **state)
{
	struct fixture f = begin();

	options_init(&f.options, cup_table(), &f.cup);
	f.options.is_known = knows_saucer;
	assert_int_equal(text(&f, "# a comment\n\n  size = 2K  # and another\nspoon-count=4\r\n"
				  "label = \" # no comment \"\nsaucer = 3\nhot = yes\nwait=1s"),
			 0);
	assert_int_equal(f.cup.size, 2048);
	assert_int_equal(f.cup.spoon_count, 4);
	assert_string_equal(f.cup.label, " # no comment ");
	assert_true(f.cup.hot);
	assert_int_equal(f.cup.wait, 1000);
	options_fini(&f.options);
}

static void a_wrong_line_is_named(void **state)
{
	static const struct {
		const char *lines, *error;
	} CASES[] = {
		{ "\nsize", "cup.conf:2: 'size' is not a line like: name = value" },
		{ "size = 3M", "cup.conf:1: size: 3M is too large; type 1 to 1M" },
		{ "# x\nszie = 1", "there is no option szie (cup.conf:2); did you mean --size?" },
		{ "label = \"x", "cup.conf:1: what is behind label does not end with a quote" },
		{ "label = \"x\" y", "cup.conf:1: what is behind label does not end with a quote" },
	};

	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		struct fixture f = begin();

		options_init(&f.options, cup_table(), &f.cup);
		assert_int_equal(text(&f, CASES[i].lines), -EINVAL);
		assert_string_equal(f.options.error, CASES[i].error);
		options_fini(&f.options);
	}
}

static char *environment(const char *name)
{
	static char size[] = "3K", label[] = "of the environment", empty[] = "", ow[] = "coffee";

	if (strcmp(name, "WADI_SIZE") == 0)
		return size;
	if (strcmp(name, "WADI_LABEL") == 0)
		return label;
	if (strcmp(name, "WADI_WAIT") == 0)
		return empty;
	return strcmp(name, "__OW_WADI_DRINK") == 0 ? ow : NULL;
}

static char *bad_environment(const char *name)
{
	static char bad[] = "many";

	return strcmp(name, "WADI_SPOON_COUNT") == 0 ? bad : NULL;
}

static void a_wrong_variable_is_named(void **state)
{
	struct fixture f = begin();

	options_init(&f.options, cup_table(), &f.cup);
	assert_int_equal(options_read_environment(&f.options, bad_environment), -EINVAL);
	assert_string_equal(f.options.error, "WADI_SPOON_COUNT: 'many' is not a whole number");
	options_fini(&f.options);
}

static void origin_is(const struct fixture *f, const char *name, const char *value,
		      const char *origin)
{
	const struct option *option = option_find(cup_table(), name);
	char shown[QUANTITY_TEXT_MAX], from[64];

	assert_non_null(option);
	assert_string_equal(options_shown(&f->options, option, shown), value);
	options_origin_text(&f->options, option, from, sizeof(from));
	assert_string_equal(from, origin);
}

/* Whatever the order of reading is. */
static void the_command_line_beats_the_environment_beats_the_file(void **state)
{
	static const int ORDERS[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
					  { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };

	for (size_t i = 0; i < 6; i++) {
		struct fixture f = begin();

		options_init(&f.options, cup_table(), &f.cup);
		for (size_t j = 0; j < 3; j++) {
			switch (ORDERS[i][j]) {
			case 0:
				assert_int_equal(
					text(&f, "size=2K\nlabel=file\nspoon_count=7\nguest=x"), 0);
				break;
			case 1:
				assert_int_equal(options_read_environment(&f.options, environment),
						 0);
				break;
			default:
				assert_int_equal(arguments(&f, "--size=4K"), 0);
				break;
			}
		}
		origin_is(&f, "size", "4K", "command line");
		origin_is(&f, "label", "of the environment", "environment WADI_LABEL");
		origin_is(&f, "drink", "coffee", "environment __OW_WADI_DRINK");
		origin_is(&f, "spoon-count", "7", "cup.conf:3");
		origin_is(&f, "guest", "(set)", "cup.conf:4");
		origin_is(&f, "at", "127.0.0.1:80", "default");
		assert_null(options_shown(&f.options, option_find(cup_table(), "wait"), f.line));
		options_fini(&f.options);
	}
}

static void files_that_cannot_be_read_are_named(void **state)
{
	struct fixture f = begin();

	options_init(&f.options, cup_table(), &f.cup);
	assert_int_equal(options_read_file(&f.options, "/nonexistent/cup.conf"), -ENOENT);
	assert_string_equal(
		f.options.error,
		"--config: cannot read /nonexistent/cup.conf: No such file or directory");
	assert_int_equal(options_read_file(&f.options, "/"), -EISDIR);
	assert_int_equal(options_read_file(&f.options, "/dev/zero"), -EINVAL);
	assert_string_equal(f.options.error, "--config: /dev/zero is longer than 256 KiB");
	options_fini(&f.options);
}

static void a_line_is_as_long_as_the_width_allows(void **state)
{
	static const char *const WRAPPED[] = { "one two\n  three\n", "one two three\n" };

	for (unsigned i = 0; i < 2; i++) {
		char text[64] = "";
		FILE *f = fmemopen(text, sizeof(text), "w");

		assert_non_null(f);
		text_wrap(f, "one two three", 0, 2, 12 + i);
		fclose(f);
		assert_string_equal(text, WRAPPED[i]);
	}
}

static void help_keeps_to_the_width(void **state)
{
	static const unsigned WIDTHS[] = { 40, 60, 80, 120 };

	for (size_t i = 0; i < 4; i++) {
		char *out = NULL;
		size_t len = 0;
		FILE *f = open_memstream(&out, &len);

		options_help(f, cup_table(), 0, cup_table()->count, WIDTHS[i]);
		fclose(f);
		assert_non_null(strstr(out, "  -l, --long-spoon"));
		assert_non_null(strstr(out, "--wait DURATION"));
		for (char *line = strtok(out, "\n"); line; line = strtok(NULL, "\n"))
			assert_true(strlen(line) <= WIDTHS[i]);
		free(out);
	}
}

static void sizes_and_durations_are_read_whole(void **state)
{
	static const struct {
		const char *text;
		uint64_t value;
	} SIZES[] = { { "0", 0 },
		      { "1", 1 },
		      { "64K", 65536 },
		      { "64k", 65536 },
		      { "64KiB", 65536 },
		      { "1.5G", 1610612736 },
		      { "16T", 17592186044416 },
		      { "2B", 2 },
		      { "0.5K", 512 },
		      { "18446744073709551615", UINT64_MAX } },
	  DURATIONS[] = { { "0", 0 },         { "500ms", 500 },  { "30s", 30000 },
			  { "1.5s", 1500 },   { "10m", 600000 }, { "2h", 7200000 },
			  { "7d", 604800000 } };
	static const char *const BAD_SIZES[] = { "",    "K",   "1KB", "1 K", "1.",
						 ".5K", "1.5", "+1",  "1e3" };
	static const char *const BAD_DURATIONS[] = { "", "1", "s", "1x", "0.5ms", "1 s", "-1s" };
	uint64_t v;

	for (size_t i = 0; i < sizeof(SIZES) / sizeof(SIZES[0]); i++) {
		assert_int_equal(bytes_parse(SIZES[i].text, &v), 0);
		assert_true(v == SIZES[i].value);
	}
	for (size_t i = 0; i < sizeof(DURATIONS) / sizeof(DURATIONS[0]); i++) {
		assert_int_equal(duration_parse(DURATIONS[i].text, &v), 0);
		assert_int_equal(v, DURATIONS[i].value);
	}
	for (size_t i = 0; i < sizeof(BAD_SIZES) / sizeof(BAD_SIZES[0]); i++)
		assert_int_equal(bytes_parse(BAD_SIZES[i], &v), -EINVAL);
	for (size_t i = 0; i < sizeof(BAD_DURATIONS) / sizeof(BAD_DURATIONS[0]); i++)
		assert_int_equal(duration_parse(BAD_DURATIONS[i], &v), -EINVAL);
	assert_int_equal(bytes_parse("18446744073709551616", &v), -ERANGE);
	assert_int_equal(bytes_parse("16777216T", &v), -ERANGE);
	assert_int_equal(duration_parse("18446744073709551615d", &v), -ERANGE);
}

static void quantities_are_shown_as_they_would_be_typed_or_read(void **state)
{
	char buf[QUANTITY_TEXT_MAX];

	assert_string_equal(bytes_exact(0, buf), "0");
	assert_string_equal(bytes_exact(4097, buf), "4097");
	assert_string_equal(bytes_exact(1536ull << 20, buf), "1536M");
	assert_string_equal(bytes_exact(1ull << 30, buf), "1G");
	assert_string_equal(duration_exact(90000, buf), "90s");
	assert_string_equal(duration_exact(1500, buf), "1500ms");
	assert_string_equal(duration_exact(86400000, buf), "1d");

	assert_string_equal(bytes_rough(0, buf), "0 B");
	assert_string_equal(bytes_rough(1023, buf), "1023 B");
	assert_string_equal(bytes_rough(1024, buf), "1 KiB");
	assert_string_equal(bytes_rough(1536, buf), "1.5 KiB");
	assert_string_equal(bytes_rough((1 << 20) - 1, buf), "1 MiB");
	assert_string_equal(bytes_rough(123456789, buf), "118 MiB");
	assert_string_equal(bytes_rough(UINT64_MAX, buf), "16 EiB");
	assert_string_equal(duration_rough(12, buf), "12 ms");
	assert_string_equal(duration_rough(1500, buf), "1.5 s");
	assert_string_equal(duration_rough(61000, buf), "1 min 1 s");
	assert_string_equal(duration_rough(3599000, buf), "59 min 59 s");
	assert_string_equal(duration_rough(3600000, buf), "1 h 0 min");
	assert_string_equal(duration_rough(7500000, buf), "2 h 5 min");
	assert_string_equal(duration_rough(86399000, buf), "23 h 59 min");
	assert_string_equal(duration_rough(90000000, buf), "1 d 1 h");
	assert_string_equal(duration_brief(999, buf), "999ms");
	assert_string_equal(duration_brief(59999, buf), "59.9s");
	assert_string_equal(duration_brief(61000, buf), "1m01s");
	assert_string_equal(duration_brief(7500000, buf), "2h05m");
	assert_string_equal(duration_brief(864000000, buf), "10d");
}

static const char *near(const char *word)
{
	static const char *const WORDS[] = { "put", "get",  "ls",    "stat",  "rm",
					     "mv",  "wait", "usage", "job ls" };
	struct nearest n = nearest_begin(word);

	for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++)
		nearest_try(&n, WORDS[i]);
	return nearest_end(&n);
}

static void the_nearest_word_is_found_and_a_far_one_is_not(void **state)
{
	char endless[4096];

	assert_string_equal(near("gte"), "get");
	assert_string_equal(near("Put"), "put");
	assert_string_equal(near("stats"), "stat");
	assert_string_equal(near("wiat"), "wait");
	assert_string_equal(near("us"), "usage");
	assert_string_equal(near("job-ls"), "job ls");
	assert_null(near("frobnicate"));
	assert_null(near("x"));
	assert_null(near(""));
	memset(endless, 'a', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	assert_null(near(endless));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_arguments_the_presets_stand),
		cmocka_unit_test(values_stand_behind_an_equals_sign_or_a_blank),
		cmocka_unit_test(words_stay_in_their_order),
		cmocka_unit_test(several_words_add_up_and_replace_those_of_a_weaker_source),
		cmocka_unit_test(what_is_wrong_is_said_with_what_to_type),
		cmocka_unit_test(addresses_have_a_host_and_a_port),
		cmocka_unit_test(help_is_wanted_by_word_and_by_letter),
		cmocka_unit_test(a_file_has_a_line_for_each_option),
		cmocka_unit_test(a_wrong_line_is_named),
		cmocka_unit_test(a_wrong_variable_is_named),
		cmocka_unit_test(the_command_line_beats_the_environment_beats_the_file),
		cmocka_unit_test(files_that_cannot_be_read_are_named),
		cmocka_unit_test(a_line_is_as_long_as_the_width_allows),
		cmocka_unit_test(help_keeps_to_the_width),
		cmocka_unit_test(sizes_and_durations_are_read_whole),
		cmocka_unit_test(quantities_are_shown_as_they_would_be_typed_or_read),
		cmocka_unit_test(the_nearest_word_is_found_and_a_far_one_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
