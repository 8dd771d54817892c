/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json: an object in a line, written as it comes.
 *
 * Numbers that a reader with doubles would spoil (ids, versions, byte-seconds) are
 * written as strings.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *f;
	bool is_begun; /* a member has been written where we are */
};

struct json json_begin(FILE *f);
void json_end(struct json *j); /* and the line */
void json_text(struct json *j, const char *name, const char *text, size_t len);
void json_word(struct json *j, const char *name, const char *word); /* NULL is null */
void json_number(struct json *j, const char *name, uint64_t n);
void json_exact(struct json *j, const char *name, unsigned __int128 n); /* as a string */
void json_real(struct json *j, const char *name, double value, int decimals);
void json_bool(struct json *j, const char *name, bool value);
void json_null(struct json *j, const char *name);
/* A list of objects: json_list(), then json_open() and json_close() for each, json_list_end(). */
void json_list(struct json *j, const char *name);
void json_list_end(struct json *j);
void json_open(struct json *j);
void json_close(struct json *j);
