/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths as functions type them: what stands behind the job's own name, or a refusal.
 *
 * The input: a path.
 */
#include "fuzz.h"

#include <errno.h>

#include "attach/handle.h"

/* As a function types it: "/job/a/b", or "a/b". */
static void of_a_job(const char *text)
{
	static struct wadi w = { .job_name = "job" };
	const char *why = NULL;
	struct slice path;
	int r = path_of(&w, text, &path, &why);

	REQUIRE(r == 0 || (why && *why));
	if (r < 0) {
		REQUIRE(r == -EACCES ? text[0] == '/' : strlen(text) > PATH_BYTES_MAX);
		return;
	}
	REQUIRE(path.ptr >= (const uint8_t *)text);
	REQUIRE(path.ptr + path.len == (const uint8_t *)text + strlen(text));
	if (text[0] == '/')
		REQUIRE(strncmp(text, "/job", 4) == 0 && (path.ptr - (const uint8_t *)text) >= 4);
	else
		REQUIRE(path.ptr == (const uint8_t *)text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *copy = text_of((struct slice){ data, len });

	of_a_job(copy);
	free(copy);
	return 0;
}

void fuzz_seeds(void)
{
	static const char *const SEEDS[] = { "a/b", "/job/a/b", "/job", "/jobs/a", "/", "/job//" };
	char name[16];

	for (size_t i = 0; i < sizeof(SEEDS) / sizeof(*SEEDS); i++) {
		snprintf(name, sizeof(name), "path-%zu", i);
		fuzz_seed(name, SEEDS[i], strlen(SEEDS[i]));
	}
}
