/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths: UTF-8 as the table of RFC 3629 has it, whoever cuts it; a directory's path is
 * normal, and stays so.
 *
 * The input: a path, or a job's name.
 */
#include "fuzz.h"

#include "meta/catalog_priv.h"

/* By decoding it and encoding it again, which finds what is overlong. */
static size_t character(const uint8_t *p, size_t left)
{
	static const uint8_t LEADS[] = { 0x00, 0xc0, 0xe0, 0xf0 },
			     MASKS[] = { 0x7f, 0x1f, 0x0f, 7 };
	static const uint32_t FIRSTS[] = { 0, 0x80, 0x800, 0x10000 };

	for (size_t n = 1; n <= 4 && n <= left; n++) {
		uint32_t c = p[0] & MASKS[n - 1];

		if ((p[0] & (uint8_t)~MASKS[n - 1]) != LEADS[n - 1])
			continue;
		for (size_t i = 1; i < n; i++) {
			if (p[i] >> 6 != 2)
				return 0;
			c = c << 6 | (p[i] & 0x3f);
		}
		if (c < FIRSTS[n - 1] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			return 0;
		return n;
	}
	return 0;
}

static bool is_path(struct slice s)
{
	size_t n;

	if (s.len == 0 || s.len > PATH_BYTES_MAX || memchr(s.ptr, 0, s.len))
		return false;
	for (size_t at = 0; at < s.len; at += n) {
		n = character(s.ptr + at, s.len - at);
		if (n == 0)
			return false;
	}
	return true;
}

static bool is_job_name(const char *s, size_t len)
{
	return len > 0 && len <= JOB_NAME_BYTES_MAX && s[0] != '.' && strlen(s) == len &&
	       strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
		       len;
}

static void directories(struct slice s)
{
	uint8_t buf[PATH_BYTES_MAX + 1], other[PATH_BYTES_MAX + 1];
	struct slice d, again;
	int r = directory_path(s, buf, &d);

	REQUIRE((r < 0) == (s.len > PATH_BYTES_MAX));
	if (r < 0)
		return;
	REQUIRE(d.len >= s.len && d.len <= s.len + 1);
	REQUIRE(s.len == 0 ? d.len == 0 : d.ptr[d.len - 1] == '/');
	REQUIRE(s.len == 0 || memcmp(d.ptr, s.ptr, s.len) == 0);
	if (d.len > PATH_BYTES_MAX)
		return;
	REQUIRE(directory_path(d, other, &again) == 0);
	REQUIRE(again.len == d.len && memcmp(other, buf, d.len) == 0);
	d = directory_of(s);
	REQUIRE(d.len <= s.len && (d.len == 0 || d.ptr[d.len - 1] == '/'));
	REQUIRE(!memchr(s.ptr + d.len, '/', s.len - d.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *copy = text_of((struct slice){ data, len });
	struct slice s = { (const uint8_t *)copy, len };
	const char *why = NULL;
	bool is_good = path_is_valid(s, &why);

	REQUIRE(is_good == is_path(s));
	REQUIRE(is_good || (why && *why));
	REQUIRE(job_name_is_valid(s, &why) == is_job_name(copy, len));
	REQUIRE(slot_of_name(s) < SLOT_COUNT);
	directories(s);
	free(copy);
	return 0;
}

void fuzz_seeds(void)
{
	static const char *const SEEDS[] = {
		"a", "job", "a//b/", ".hidden", "\xc3\xa4/\xe2\x82\xac/\xf0\x9f\x92\xa7",
	};
	char name[16];
	char longest[PATH_BYTES_MAX + 1];

	for (size_t i = 0; i < sizeof(SEEDS) / sizeof(*SEEDS); i++) {
		snprintf(name, sizeof(name), "path-%zu", i);
		fuzz_seed(name, SEEDS[i], strlen(SEEDS[i]));
	}
	memset(longest, 'x', sizeof(longest));
	fuzz_seed("longest", longest, PATH_BYTES_MAX);
	fuzz_seed("too-long", longest, PATH_BYTES_MAX + 1);
}
