/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notes: what callbacks saw, in its order, as one text for a test to compare.
 */
#pragma once

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char notes[512];

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *format, ...)
{
	size_t used = strlen(notes);
	va_list args;

	va_start(args, format);
	vsnprintf(notes + used, sizeof(notes) - used, format, args);
	va_end(args);
}
