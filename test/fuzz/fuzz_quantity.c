/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantities: what is read is shown exactly, and read again as the same.
 *
 * The input: a text; and its first 8 bytes as a number.
 */
#include "fuzz.h"

#include <errno.h>

#include "base/quantity.h"

typedef int parse_fn(const char *text, uint64_t *ret);
typedef const char *show_fn(uint64_t v, char *buf);

static const char *count_exact(uint64_t v, char *buf)
{
	snprintf(buf, QUANTITY_TEXT_MAX, "%llu", (unsigned long long)v);
	return buf;
}

static void shown(parse_fn *parse, show_fn *exact, uint64_t v)
{
	char *buf = malloc(QUANTITY_TEXT_MAX);
	uint64_t again;

	REQUIRE(parse(exact(v, buf), &again) == 0);
	REQUIRE(again == v);
	free(buf);
}

static void rough(uint64_t v)
{
	static show_fn *const ROUGH[] = { bytes_rough, duration_rough, duration_brief };

	for (size_t i = 0; i < sizeof(ROUGH) / sizeof(*ROUGH); i++) {
		char *buf = malloc(QUANTITY_TEXT_MAX);

		REQUIRE(*ROUGH[i](v, buf));
		free(buf);
	}
}

static void text(parse_fn *parse, show_fn *exact, const char *s)
{
	uint64_t v = 0;
	int r = parse(s, &v);

	REQUIRE(r == 0 || r == -EINVAL || r == -ERANGE);
	if (r == 0)
		shown(parse, exact, v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = bytes_of(data, len);
	char *copy = text_of((struct slice){ data, len });
	uint64_t v = take(&in, 8);

	text(bytes_parse, bytes_exact, copy);
	text(duration_parse, duration_exact, copy);
	text(count_parse, count_exact, copy);
	shown(bytes_parse, bytes_exact, v);
	shown(duration_parse, duration_exact, v);
	rough(v);
	free(copy);
	return 0;
}

void fuzz_seeds(void)
{
	static const char *const SEEDS[] = {
		"4096", "64K", "1.5GiB", "500ms", "2.5h", "16777215.9T", "18446744073709551615",
		"7d"
	};
	char name[16];

	for (size_t i = 0; i < sizeof(SEEDS) / sizeof(*SEEDS); i++) {
		snprintf(name, sizeof(name), "text-%zu", i);
		fuzz_seed(name, SEEDS[i], strlen(SEEDS[i]));
	}
}
