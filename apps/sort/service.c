/* SPDX-License-Identifier: Apache-2.0 */
#include "service.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "function.h"
#include "serve.h"

struct place {
	struct serve_function function;
	struct instance instance;
};

static char *place_run(struct serve_function *f, const char *line, size_t len)
{
	return function_run(&((struct place *)f)->instance, line, len);
}

static bool concurrency_parse(const char *text, size_t *ret)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (end == text || *end || *text == '-' || v < 1 || v > SERVE_RUNS_MAX)
		return false;
	*ret = v;
	return true;
}

static int usage(const char *word)
{
	fprintf(stderr,
		"wadi-sort-fn: '%s' is not understood; it takes --http[=ADDR:PORT] or "
		"--openwhisk[=ADDR:PORT], [--concurrency=1..%d], or nothing, and is an OpenWhisk "
		"action then\n",
		word, SERVE_RUNS_MAX);
	return 2;
}

int service_main(int argc, char **argv)
{
	struct place places[SERVE_RUNS_MAX] = { 0 };
	struct serve_function *functions[SERVE_RUNS_MAX];
	struct serve_config config = { .functions = functions, .function_count = 1 };
	bool is_server = false;
	int r;

	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];

		if (strcmp(word, "--http") == 0 || strncmp(word, "--http=", 7) == 0) {
			is_server = true;
			config.address = word[6] ? word + 7 : NULL;
		} else if (strcmp(word, "--openwhisk") == 0 ||
			   strncmp(word, "--openwhisk=", 12) == 0) {
			is_server = config.is_action = true;
			config.address = word[11] ? word + 12 : NULL;
		} else if (strncmp(word, "--concurrency=", 14) != 0 ||
			   !concurrency_parse(word + 14, &config.function_count)) {
			return usage(word);
		}
	}
	if (!is_server)
		return usage(argv[1]);
	for (size_t i = 0; i < config.function_count; i++) {
		places[i].function.run = place_run;
		functions[i] = &places[i].function;
	}
	r = serve(&config);
	for (size_t i = 0; i < config.function_count; i++)
		instance_fini(&places[i].instance);
	return r;
}
