/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: addresses are what stream.h says, and come out as they went in. Method: a
 * table of texts; what is refused is tried in both ways of reading.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>

#include "loop/stream.h"

struct good {
	const char *text, *formatted;
	enum address_kind kind;
	bool is_loopback;
};

static const struct good GOOD[] = {
	{ "tcp://127.0.0.1:4870", "tcp://127.0.0.1:4870", ADDRESS_TCP, true },
	{ "127.0.0.1:4870", "tcp://127.0.0.1:4870", ADDRESS_TCP, true },
	{ "localhost:0", "tcp://127.0.0.1:0", ADDRESS_TCP, true },
	{ "127.255.1.2:65535", "tcp://127.255.1.2:65535", ADDRESS_TCP, true },
	{ "10.0.0.1:80", "tcp://10.0.0.1:80", ADDRESS_TCP, false },
	{ "0.0.0.0:1", "tcp://0.0.0.0:1", ADDRESS_TCP, false },
	{ "tcp://[::1]:80", "tcp://[::1]:80", ADDRESS_TCP, true },
	{ "[::]:80", "tcp://[::]:80", ADDRESS_TCP, false },
	{ "[2001:DB8:0::1]:80", "tcp://[2001:db8::1]:80", ADDRESS_TCP, false },
	{ "[::ffff:127.0.0.1]:80", "tcp://[::ffff:127.0.0.1]:80", ADDRESS_TCP, true },
	{ "[::ffff:10.0.0.1]:80", "tcp://[::ffff:10.0.0.1]:80", ADDRESS_TCP, false },
	{ "unix:///run/wadi/proxy.sock", "unix:///run/wadi/proxy.sock", ADDRESS_UNIX, true },
	{ "unix://here", "unix://here", ADDRESS_UNIX, true },
	{ "sim://7:4294967295", "sim://7:4294967295", ADDRESS_SIM, true },
};

static void good_addresses_come_out_as_they_went_in(void **state)
{
	for (size_t i = 0; i < sizeof(GOOD) / sizeof(*GOOD); i++) {
		const struct good *g = &GOOD[i];
		char text[ADDRESS_TEXT_MAX];
		struct address a, again;

		assert_int_equal(address_parse(g->text, &a), 0);
		assert_int_equal(a.kind, g->kind);
		assert_int_equal(address_is_loopback(&a), g->is_loopback);
		address_format(&a, text, sizeof(text));
		assert_string_equal(text, g->formatted);
		assert_int_equal(address_parse(text, &again), 0);
		assert_memory_equal(&again, &a, sizeof(a));
		assert_int_equal(address_resolve(g->text, &again), 0);
		assert_memory_equal(&again, &a, sizeof(a));
	}
}

static void an_address_of_no_host_gets_the_host_of_another(void **state)
{
	static const struct {
		const char *address, *host, *filled;
	} ROWS[] = {
		{ "0.0.0.0:7", "10.0.0.1:80", "tcp://10.0.0.1:7" },
		{ "[::]:7", "[2001:db8::1]:80", "tcp://[2001:db8::1]:7" },
		{ "[::]:7", "10.0.0.1:80", "tcp://10.0.0.1:7" },
		{ "0.0.0.0:7", "[::1]:80", "tcp://[::1]:7" },
		{ "10.0.0.2:7", "10.0.0.1:80", "tcp://10.0.0.2:7" },
		{ "[::1]:7", "10.0.0.1:80", "tcp://[::1]:7" },
		{ "unix:///x", "10.0.0.1:80", "unix:///x" },
		{ "0.0.0.0:7", "unix:///x", "tcp://0.0.0.0:7" },
	};

	for (size_t i = 0; i < sizeof(ROWS) / sizeof(*ROWS); i++) {
		char text[ADDRESS_TEXT_MAX];
		struct address a, host;

		assert_int_equal(address_parse(ROWS[i].address, &a), 0);
		assert_int_equal(address_parse(ROWS[i].host, &host), 0);
		address_fill(&a, &host);
		address_format(&a, text, sizeof(text));
		assert_string_equal(text, ROWS[i].filled);
	}
}

static const char *const BAD[] = {
	"",
	":",
	":80",
	"127.0.0.1",
	"127.0.0.1:",
	"127.0.0.1:65536",
	"127.0.0.1:99999999999999999999",
	"127.0.0.1:-1",
	"127.0.0.1:+1",
	"127.0.0.1: 80",
	"127.0.0.1:80 ",
	"127.0.0.1:80/",
	"::1:80",
	"[::1]",
	"[::1]80",
	"[::1:80",
	"[]:80",
	"[127.0.0.1]:80",
	"[::g]:80",
	"http://127.0.0.1:80",
	"tcp:/127.0.0.1:80",
	"tcp://",
	"unix://",
	"sim://",
	"sim://1",
	"sim://1:",
	"sim://:1",
	"sim://1:4294967296",
	"sim://12345678901234567890:1",
	"sim://a:1",
};

static void bad_addresses_are_refused_and_leave_no_trace(void **state)
{
	for (size_t i = 0; i < sizeof(BAD) / sizeof(*BAD); i++) {
		struct address a = { .kind = ADDRESS_SIM }, before = a;

		if (address_parse(BAD[i], &a) != -EINVAL)
			fail_msg("was accepted: \"%s\"", BAD[i]);
		if (address_resolve(BAD[i], &a) != -EINVAL)
			fail_msg("was resolved: \"%s\"", BAD[i]);
		assert_memory_equal(&a, &before, sizeof(a));
	}
}

static void names_are_looked_up_only_when_asked_to(void **state)
{
	struct address a;

	assert_int_equal(address_parse("name.invalid:80", &a), -EINVAL);
	assert_int_equal(address_parse("1.2.3:80", &a), -EINVAL);
	assert_int_equal(address_resolve("name.invalid:80", &a), -EHOSTUNREACH);
}

static void the_longest_path_fits_a_text_and_a_longer_one_is_refused(void **state)
{
	char path[109], text[ADDRESS_TEXT_MAX];
	struct address a;

	memset(path, 'x', sizeof(path));
	path[108] = '\0';
	snprintf(text, sizeof(text), "unix://%s", path);
	assert_int_equal(address_parse(text, &a), -EINVAL);
	path[107] = '\0';
	snprintf(text, sizeof(text), "unix://%s", path);
	assert_int_equal(address_parse(text, &a), 0);
	memset(text, 0, sizeof(text));
	address_format(&a, text, sizeof(text));
	assert_int_equal(strlen(text), 7 + 107);
}

static void a_text_that_does_not_fit_is_cut(void **state)
{
	struct address a, none = { .kind = ADDRESS_NONE };
	char text[8];

	assert_int_equal(address_parse("127.0.0.1:80", &a), 0);
	address_format(&a, text, sizeof(text));
	assert_string_equal(text, "tcp://1");
	address_format(&none, text, sizeof(text));
	assert_string_equal(text, "none");
	assert_false(address_is_loopback(&none));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_addresses_come_out_as_they_went_in),
		cmocka_unit_test(an_address_of_no_host_gets_the_host_of_another),
		cmocka_unit_test(bad_addresses_are_refused_and_leave_no_trace),
		cmocka_unit_test(names_are_looked_up_only_when_asked_to),
		cmocka_unit_test(the_longest_path_fits_a_text_and_a_longer_one_is_refused),
		cmocka_unit_test(a_text_that_does_not_fit_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
