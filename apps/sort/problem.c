/* SPDX-License-Identifier: Apache-2.0 */
#include "problem.h"

#include <stdarg.h>
#include <stdio.h>

static void set(struct problem *p, bool is_final, const char *format, va_list args)
{
	if (p->text[0])
		return;
	vsnprintf(p->text, sizeof(p->text), format, args);
	p->is_final = is_final;
}

int problem_set(struct problem *p, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set(p, false, format, args);
	va_end(args);
	return r;
}

int problem_set_final(struct problem *p, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set(p, true, format, args);
	va_end(args);
	return r;
}
