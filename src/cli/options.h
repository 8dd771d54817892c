/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: the commands' option structs, and their tables, made from the .def files.
 */
#pragma once

#include "base/limits.h"
#include "base/options.h"
#include "cli/options.def"
#include "cli/options_dev.def"
#include "cli/options_roles.def"

/* struct, its table, list */
#define OPTION_SETS(S)                                              \
	S(client_options, client_table, CLIENT_OPTIONS)             \
	S(put_options, put_table, PUT_OPTIONS)                      \
	S(get_options, get_table, GET_OPTIONS)                      \
	S(ls_options, ls_table, LS_OPTIONS)                         \
	S(rm_options, rm_table, RM_OPTIONS)                         \
	S(mv_options, mv_table, MV_OPTIONS)                         \
	S(wait_options, wait_table, WAIT_OPTIONS)                   \
	S(show_options, show_table, SHOW_OPTIONS)                   \
	S(job_create_options, job_create_table, JOB_CREATE_OPTIONS) \
	S(job_renew_options, job_renew_table, JOB_RENEW_OPTIONS)    \
	S(job_token_options, job_token_table, JOB_TOKEN_OPTIONS)    \
	S(top_options, top_table, TOP_OPTIONS)                      \
	S(doctor_options, doctor_table, DOCTOR_OPTIONS)             \
	S(bench_options, bench_table, BENCH_OPTIONS)                \
	S(no_options, no_table, CONFIG_OPTION)                      \
	S(dev_options, dev_table, DEV_OPTIONS)                      \
	S(keep_options, keep_table, KEEP_OPTIONS)                   \
	S(role_options, role_table, ROLE_OPTIONS)

#define OPTION_SET_DECLARE(name, table, LIST) \
	OPTIONS_STRUCT(name, LIST);           \
	const struct option_table *table(void);
OPTION_SETS(OPTION_SET_DECLARE)
