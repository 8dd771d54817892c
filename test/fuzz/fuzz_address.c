/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses and endpoints: what is read comes out as text that is read as the same.
 *
 * The input: an address.
 */
#include "fuzz.h"

#include <errno.h>

#include "loop/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *copy = text_of((struct slice){ data, len }), *text = malloc(ADDRESS_TEXT_MAX);
	struct address a, again;
	int r = address_parse(copy, &a);

	REQUIRE(r == 0 || r == -EINVAL);
	if (r == 0) {
		REQUIRE(a.kind != ADDRESS_NONE);
		(void)address_is_loopback(&a);
		address_format(&a, text, ADDRESS_TEXT_MAX);
		REQUIRE(address_parse(text, &again) == 0);
		REQUIRE(memcmp(&a, &again, sizeof(a)) == 0);
		/* A table of shards has one line for each. */
		REQUIRE(a.kind != ADDRESS_TCP || !strchr(text, '\n'));
	}
	free(text);
	free(copy);
	return 0;
}

void fuzz_seeds(void)
{
	static const char *const SEEDS[] = {
		"127.0.0.1:4870",        "tcp://localhost:1",  "[2001:db8::1]:65535",
		"unix:///run/wadi.sock", "sim://7:4294967295", "tcp://[::ffff:127.0.0.1]:80",
		"host.example:80",
	};
	char name[16];

	for (size_t i = 0; i < sizeof(SEEDS) / sizeof(*SEEDS); i++) {
		snprintf(name, sizeof(name), "address-%zu", i);
		fuzz_seed(name, SEEDS[i], strlen(SEEDS[i]));
	}
}
