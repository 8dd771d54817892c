/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terminal: how wide it is, and names that cannot harm it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

bool terminal_is(FILE *f);
/* Columns of the terminal behind `f`; COLUMNS if it says so; 80 where there is none. */
unsigned terminal_width(FILE *f);

/*
 * The name with control characters, broken UTF-8 and marks that turn the direction of
 * writing as \n, \t, \xNN, and a backslash as \\. Cut off with "..." where it does not
 * fit. Returns `buf`.
 */
const char *name_safe(const char *name, size_t len, char *buf, size_t cap);

/* To a terminal as name_safe() has it, elsewhere as it is. */
void name_put(FILE *f, const char *name, size_t len);

/* Columns that a safe name takes; wide characters take two. */
unsigned name_columns(const char *name);
/* Its beginning that fits into so many columns: bytes. */
size_t name_fit(const char *name, unsigned columns);
