/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "platform.h"

enum kind { KIND_BYTES, KIND_NUMBER, KIND_TIME, KIND_WORD, KIND_TEXT, KIND_PATHS, KIND_FLAG };

struct option_line {
	const char *name;
	size_t offset; /* of the member */
	enum kind kind;
	uint64_t def, min, max;
	const char *value, *help;
};

static const struct option_line LINES[] = {
#define O(name, member, kind, def, min, max, value, help) \
	{ name, offsetof(struct options, member), KIND_##kind, def, min, max, value, help },
	OPTIONS(O)
#undef O
};
#define LINE_COUNT (sizeof(LINES) / sizeof(LINES[0]))

struct unit {
	const char *name;
	uint64_t factor;
};
static const struct unit SIZES[] = { { "", 1 },           { "K", 1ull << 10 }, { "M", 1ull << 20 },
				     { "G", 1ull << 30 }, { "T", 1ull << 40 }, { NULL, 0 } };
static const struct unit TIMES[] = { { "", 1000 },   { "ms", 1 },      { "s", 1000 },
				     { "m", 60000 }, { "h", 3600000 }, { NULL, 0 } };
static const struct unit NUMBERS[] = { { "", 1 }, { NULL, 0 } };

/* Levenshtein's distance of two short words; long ones are far from everything. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t row[33];

	if (a_len > 32 || b_len > 32)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (diagonal + 1 < best)
				best = diagonal + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[b_len];
}

static const char *nearest_option(const char *name, size_t len)
{
	size_t best = SIZE_MAX;
	const char *nearest = LINES[0].name;

	for (size_t i = 0; i < LINE_COUNT; i++) {
		size_t d = distance(name, len, LINES[i].name, strlen(LINES[i].name));

		if (d < best) {
			best = d;
			nearest = LINES[i].name;
		}
	}
	return nearest;
}

static int number_parse(const struct option_line *line, const struct unit *units, const char *text,
			uint64_t *ret)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (end == text || *text == '-' || errno)
		return -EINVAL;
	for (; units->name; units++) {
		if (strcmp(end, units->name) != 0)
			continue;
		if (v > UINT64_MAX / units->factor || v * units->factor < line->min ||
		    v * units->factor > line->max)
			return -ERANGE;
		*ret = v * units->factor;
		return 0;
	}
	return -EINVAL;
}

/* The word at `index`: its begin, and how long it is; NULL behind the last. */
static const char *word_at(const char *words, uint64_t index, size_t *ret_len)
{
	for (; index > 0; index--) {
		words = strchr(words, '|');
		if (!words)
			return NULL;
		words++;
	}
	*ret_len = strcspn(words, "|");
	return words;
}

const char *word_of(const char *words, uint64_t index, char *buf, size_t cap)
{
	size_t len = 0;
	const char *word = word_at(words, index, &len);

	snprintf(buf, cap, "%.*s", (int)len, word ? word : "");
	return buf;
}

static int word_parse(const char *name, const char *words, const char *text, size_t text_len,
		      uint64_t *ret, struct problem *problem)
{
	size_t best = SIZE_MAX, len, nearest_len = 0;
	const char *word, *nearest = "";

	for (uint64_t i = 0; (word = word_at(words, i, &len)); i++) {
		size_t d = distance(text, text_len, word, len);

		if (d == 0) {
			*ret = i;
			return 0;
		}
		if (d < best) {
			best = d;
			nearest = word;
			nearest_len = len;
		}
	}
	return problem_set(problem, -EINVAL, "--%s has no '%s'; the nearest is '%.*s' of %s", name,
			   text, (int)nearest_len, nearest, words);
}

static void time_format(uint64_t ms, char *buf, size_t cap)
{
	size_t i = sizeof(TIMES) / sizeof(TIMES[0]) - 2; /* the last one, the longest */

	while (ms % TIMES[i].factor)
		i--;
	snprintf(buf, cap, "%llu%s", (unsigned long long)(ms / TIMES[i].factor), TIMES[i].name);
}

/* A number as people write it, for messages. */
static const char *amount(const struct option_line *line, uint64_t v, char *buf, size_t cap)
{
	static const char SUFFIX[] = "\0KMGT";
	size_t i = 0;

	if (line->kind == KIND_BYTES)
		for (; i < 4 && v >= 1024 && v % 1024 == 0; i++)
			v /= 1024;
	if (line->kind == KIND_TIME)
		time_format(v, buf, cap);
	else
		snprintf(buf, cap, "%llu%.1s", (unsigned long long)v, &SUFFIX[i]);
	return buf;
}

static int path_add(struct paths *p, const char *path)
{
	const char **more = reallocarray(p->list, p->count + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	p->list = more;
	p->list[p->count++] = path;
	return 0;
}

static int value_parse(const struct option_line *line, const char *text, struct options *o,
		       struct problem *problem)
{
	static const struct unit *const UNITS[] = {
		[KIND_BYTES] = SIZES, [KIND_NUMBER] = NUMBERS, [KIND_TIME] = TIMES
	};
	void *member = (char *)o + line->offset;
	char min[32], max[32];
	int r;

	switch (line->kind) {
	case KIND_BYTES:
	case KIND_NUMBER:
	case KIND_TIME:
		r = number_parse(line, UNITS[line->kind], text, member);
		if (r < 0)
			problem_set(problem, r, "--%s takes %s from %s to %s, not '%s'", line->name,
				    line->kind == KIND_BYTES  ? "a size as 64M"
				    : line->kind == KIND_TIME ? "a time as 30s"
							      : "a number",
				    amount(line, line->min, min, sizeof(min)),
				    amount(line, line->max, max, sizeof(max)), text);
		return r;
	case KIND_WORD:
		return word_parse(line->name, line->value, text, strlen(text), member, problem);
	case KIND_TEXT:
		*(const char **)member = text;
		return *text ? 0 : problem_set(problem, -EINVAL, "--%s is empty", line->name);
	case KIND_PATHS:
		return path_add(member, text);
	case KIND_FLAG:
		*(bool *)member = true;
		return 0;
	}
	return 0;
}

static void defaults(struct options *o)
{
	*o = (struct options){ 0 };
	for (size_t i = 0; i < LINE_COUNT; i++)
		if (LINES[i].kind <= KIND_WORD)
			*(uint64_t *)((char *)o + LINES[i].offset) = LINES[i].def;
}

/* What is read by people: the window, or what COLUMNS says, and no wider than is legible. */
static size_t page_width(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size = { 0 };
	size_t width = columns ? strtoul(columns, NULL, 10) : 0;

	if (width == 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		width = size.ws_col;
	if (width == 0)
		width = 80;
	return width < 40 ? 40 : width > 100 ? 100 : width;
}

/* Lines begin with `indent` blanks and end between words. */
static void wrap(size_t indent, const char *text)
{
	size_t width = page_width(), column = 0;

	while (*text) {
		size_t len = strcspn(text, " ");

		if (column > 0 && column + 1 + len > width) {
			printf("\n");
			column = 0;
		}
		column += (size_t)printf("%*s%.*s", column ? 1 : (int)indent, "", (int)len, text);
		text += len;
		text += strspn(text, " ");
	}
	printf("\n");
}

static void help(void)
{
	wrap(0, "usage: wadi sort --generate SIZE | --input PATH [OPTION]...");
	printf("\n");
	wrap(0, "Sorts records or lines with functions that leave their data for each other in a "
		"store, and checks the result. Without WADI_ENDPOINT it starts a store of its own "
		"and ends it afterwards.");
	printf("\n");
	for (size_t i = 0; i < LINE_COUNT; i++) {
		const struct option_line *l = &LINES[i];
		char def[32], text[256];
		bool has_default = l->kind <= KIND_TIME && l->def > 0;

		printf("  --%s%s%s\n", l->name, *l->value ? " " : "", l->value);
		snprintf(text, sizeof(text), "%s%s%s%s", l->help, has_default ? "; " : "",
			 has_default ? amount(l, l->def, def, sizeof(def)) : "",
			 has_default ? " unless said otherwise" : "");
		wrap(6, text);
	}
	printf("\n");
	wrap(0, "Exit status: 0 sorted and verified; 1 not; 2 wrong usage; 3 the store or the "
		"platform "
		"is out of reach; 4 a function took too long.");
}

static const struct option_line *line_find(const char *name, size_t len)
{
	for (size_t i = 0; i < LINE_COUNT; i++)
		if (strlen(LINES[i].name) == len && strncmp(LINES[i].name, name, len) == 0)
			return &LINES[i];
	return NULL;
}

/* One option and its value, which is in the same argument or the next; how many they were. */
static int option_parse(const char *const *arg, struct options *o, struct problem *problem)
{
	const char *name = arg[0] + 2;
	size_t len = strcspn(name, "=");
	const struct option_line *line = line_find(name, len);
	const char *value = name[len] == '=' ? name + len + 1 : NULL;
	int used = 1, r;

	if (!line)
		return problem_set(problem, -EINVAL, "no option --%.*s; the nearest is --%s",
				   (int)len, name, nearest_option(name, len));
	if (line->kind == KIND_FLAG && value)
		return problem_set(problem, -EINVAL, "--%s takes no value", line->name);
	if (line->kind != KIND_FLAG && !value) {
		value = arg[1];
		used = 2;
	}
	if (line->kind != KIND_FLAG && !value)
		return problem_set(problem, -EINVAL, "--%s wants a value: %s", line->name,
				   line->value);
	r = value_parse(line, value, o, problem);
	return r < 0 ? r : used;
}

/* A word up to its punctuation, which is what tells stores apart. */
static int store_check(const char *store, struct problem *problem)
{
	size_t len = strcspn(store, ":");
	uint64_t ignored;

	len += strspn(store + len, ":/");
	if (strncmp(store, "dir:", 4) == 0)
		len = 4;
	else if (strncmp(store, "memory:", 7) == 0)
		len = strlen(store);
	else if (strncmp(store, "redis://", 8) == 0)
		len = 8;
	return word_parse("store", "wadi|redis://|dir:|memory:", store, len, &ignored, problem);
}

static int platform_option_check(const char *platform, struct problem *problem)
{
	uint64_t ignored;
	size_t len;

	platform_kind(platform, &len);
	if (word_parse("platform", WORDS_PLATFORM, platform, len, &ignored, problem) < 0)
		return -EINVAL;
	return platform_check(platform, problem);
}

/* What no line of the table can say. */
static int options_check(const struct options *o, struct problem *problem)
{
	if (o->store && store_check(o->store, problem) < 0)
		return -EINVAL;
	if (o->platform && platform_option_check(o->platform, problem) < 0)
		return -EINVAL;
	if (!o->generate && !o->input.count)
		return problem_set(problem, -EINVAL,
				   "nothing to sort: --generate SIZE or --input "
				   "PATH");
	if (o->generate && o->input.count)
		return problem_set(problem, -EINVAL, "--generate and --input: only one of them");
	if (o->generate && o->format != FORMAT_RECORDS)
		return problem_set(problem, -EINVAL, "--generate makes records, not lines");
	if (o->auth && o->auth_file)
		return problem_set(problem, -EINVAL, "--auth and --auth-file: only one of them");
	if (o->platform && o->store && strcmp(o->store, "memory:") == 0)
		return problem_set(problem, -EINVAL,
				   "--store memory: is for threads of this process, and no "
				   "--platform reaches it");
	if (o->function_endpoint && o->store && strcmp(o->store, "wadi") != 0)
		return problem_set(problem, -EINVAL,
				   "--function-endpoint is where Wadi is, and --store is %s",
				   o->store);
	if (o->attach != ATTACH_ANY && o->store && strcmp(o->store, "wadi") != 0)
		return problem_set(problem, -EINVAL,
				   "--attach is how to reach Wadi, and --store is %s", o->store);
	return 0;
}

int options_parse(int argc, const char *const *argv, struct options *ret, struct problem *problem)
{
	struct options o;
	int i = 1, r = 0;

	defaults(&o);
	while (r >= 0 && i < argc) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			help();
			options_fini(&o);
			return 1;
		}
		if (strncmp(argv[i], "--", 2) != 0)
			r = problem_set(problem, -EINVAL,
					"'%s' is no option; a file to sort is "
					"--input %s",
					argv[i], argv[i]);
		else
			r = option_parse(argv + i, &o, problem);
		i += r;
	}
	if (r >= 0)
		r = options_check(&o, problem);
	if (r < 0) {
		options_fini(&o);
		return -EINVAL;
	}
	*ret = o;
	return 0;
}

void options_fini(struct options *o)
{
	free(o->input.list);
	o->input = (struct paths){ 0 };
}
