/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of the sort: taken within the limits of its table, or refused with a
 * sentence.
 *
 * The input: arguments, with a NUL behind each.
 */
#include "fuzz.h"

#include <errno.h>

#include "options.h"

#define ARGUMENTS_MAX 32

static bool is_help(const char *s)
{
	return strcmp(s, "--help") == 0 || strcmp(s, "-h") == 0;
}

static void within_limits(const struct options *o)
{
#define CHECK_BYTES(m, min, max)  REQUIRE(o->m <= (max) && (o->m >= (min) || o->m == 0));
#define CHECK_NUMBER(m, min, max) CHECK_BYTES(m, min, max)
#define CHECK_TIME(m, min, max)   CHECK_BYTES(m, min, max)
#define CHECK_WORD(m, min, max)   REQUIRE(o->m <= (max) || o->m == ATTACH_ANY);
#define CHECK_TEXT(m, min, max)
#define CHECK_PATHS(m, min, max) REQUIRE(o->m.count == 0 || o->m.list[o->m.count - 1]);
#define CHECK_FLAG(m, min, max)
#define O(name, member, kind, def, min, max, value, help) CHECK_##kind(member, min, max)
	OPTIONS(O)
#undef O
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *copy = text_of((struct slice){ data, len });
	const char *argv[ARGUMENTS_MAX + 2] = { "sort" };
	struct problem problem = { 0 };
	struct options o;
	int argc = 1, r;

	for (const char *p = copy; p < copy + len && argc <= ARGUMENTS_MAX; p += strlen(p) + 1)
		if (!is_help(p)) /* which prints it */
			argv[argc++] = p;
	r = options_parse(argc, argv, &o, &problem);
	REQUIRE(r == 0 || r == -EINVAL || r == -ENOMEM);
	REQUIRE(r == 0 || problem.text[0]);
	if (r == 0) {
		within_limits(&o);
		options_fini(&o);
	}
	free(copy);
	return 0;
}

void fuzz_seeds(void)
{
	static const char MANY[] = "--generate=1G\0--maps\0"
				   "4\0--skew=zipf\0--input\0a\0--input=b\0--json\0"
				   "--timeout=1.5m\0--attach=host";
	static const char BAD[] = "--maps=0\0--what\0--skew=zip\0";

	fuzz_seed("many", MANY, sizeof(MANY) - 1);
	fuzz_seed("bad", BAD, sizeof(BAD) - 1);
}
