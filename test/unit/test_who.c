/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is given segments to map: the rules of the design, row by row. Below each row that
 * says no stands what would have to be different for a yes.
 */
#include "test.h"

#include <errno.h>

#include "proxy/who.h"

#define JOB    ((5ull << 54) | 1)
#define OTHER  ((6ull << 54) | 1)
#define OWN    1000
#define NOBODY UINT32_MAX

static const struct row {
	enum address_kind kind;
	enum role role;
	unsigned rights;
	uint16_t prefix_len;
	uint32_t uid;
	uint64_t job_of_uid;
	bool is_isolated, trusts_local;
	int result;
	bool binds;
	const char *why;
} rows[] = {
	/* By its uid. */
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, 2000, 0, false, false, 0, true, NULL },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, 2000, JOB, false, false, 0, false, NULL },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, 2000, OTHER, false, false, -EACCES, false,
	  "processes of its uid have segments of another job" },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, 0, 0, false, false, -EACCES, false,
	  "root can look into every process" },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, NOBODY, 0, false, false, -EACCES, false,
	  "root can look into every process" },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, OWN, 0, false, false, -EACCES, false,
	  "it has the proxy's own uid" },
	/* By its socket: uids of another namespace say nothing. */
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, 0, 0, true, false, 0, false, NULL },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, OWN, 0, true, false, 0, false, NULL },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, 2000, OTHER, true, false, 0, false, NULL },
	/* Because whoever started the proxy says so. */
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, 0, 0, false, true, 0, false, NULL },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, OWN, 0, false, true, 0, false, NULL },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 0, 2000, OTHER, false, true, 0, false, NULL },
	/* Neither helps a token of less than the whole job. */
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 2, 2000, 0, true, true, -EACCES, false,
	  "the token is of a part of the job, and a segment has all of it" },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_READ, 2, 2000, 0, false, false, -EACCES, false,
	  "the token is of a part of the job, and a segment has all of it" },
	{ ADDRESS_UNIX, ROLE_JOB, RIGHT_WRITE | RIGHT_REMOVE | RIGHT_LIST, 0, 2000, 0, true, true,
	  -EACCES, false, "the token gives no right to read" },
	{ ADDRESS_UNIX, ROLE_PROXY, RIGHT_READ, 0, 2000, 0, true, true, -EACCES, false,
	  "no HELLO as a function of a job" },
	/* Nor a door that no descriptor goes through. */
	{ ADDRESS_TCP, ROLE_JOB, RIGHT_READ, 0, 2000, 0, true, true, -EOPNOTSUPP, false,
	  "descriptors go through a Unix socket" },
	{ ADDRESS_SIM, ROLE_JOB, RIGHT_READ, 0, 2000, 0, true, true, -EOPNOTSUPP, false,
	  "descriptors go through a Unix socket" },
};

static void each_row_is_answered_as_the_design_says(void **state)
{
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		struct access access = { .role = row->role,
					 .job = JOB,
					 .rights = row->rights,
					 .prefix_len = row->prefix_len,
					 .prefix = "a/" };
		struct peer peer = { .address.kind = row->kind, .uid = row->uid };
		struct who w = { .access = &access,
				 .peer = &peer,
				 .own_uid = OWN,
				 .job_of_uid = row->job_of_uid,
				 .is_isolated = row->is_isolated,
				 .trusts_local = row->trusts_local };
		const char *why = "";
		bool binds = !row->binds;

		print_message("row %u\n", i);
		assert_int_equal(who_may_map(&w, &binds, &why), row->result);
		assert_int_equal(binds, row->binds);
		if (row->why)
			assert_string_equal(why, row->why);
	}
}

static void who_has_not_said_hello_has_nothing(void **state)
{
	struct peer peer = { .address.kind = ADDRESS_UNIX, .uid = 2000 };
	struct who w = { .peer = &peer, .own_uid = OWN, .is_isolated = true, .trusts_local = true };
	const char *why;
	bool binds;

	assert_int_equal(who_may_map(&w, &binds, &why), -EACCES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_row_is_answered_as_the_design_says),
		cmocka_unit_test(who_has_not_said_hello_has_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
