/* SPDX-License-Identifier: Apache-2.0 */
#include "base/options.h"

#include <string.h>

#include "base/quantity.h"

/* Where the words of an option's help begin, if there is room for two columns. */
#define HELP_COLUMN 30
#define NARROW      64

void text_wrap(FILE *f, const char *text, unsigned column, unsigned indent, unsigned width)
{
	bool is_first = true;

	for (;;) {
		size_t len;

		text += strspn(text, " ");
		len = strcspn(text, " ");
		if (len == 0)
			break;
		if (!is_first && column + 1 + len > width) {
			fprintf(f, "\n%*s", (int)indent, "");
			column = indent;
			is_first = true;
		}
		fprintf(f, "%s%.*s", is_first ? "" : " ", (int)len, text);
		column += (unsigned)len + !is_first;
		is_first = false;
		text += len;
	}
	fputc('\n', f);
}

/* "  -r, --recursive", "      --ttl DURATION". Returns its columns. */
static unsigned put_left(FILE *f, const struct option *option)
{
	char name[OPTION_NAME_MAX];
	int n;

	option_spelled(option, name);
	if (option->type != OPTION_bool)
		n = fprintf(f, "      %s %s", name, option->unit);
	else if (option->unit)
		n = fprintf(f, "  -%c, %s", option->unit[0], name);
	else
		n = fprintf(f, "      %s", name);
	return n < 0 ? 0 : (unsigned)n;
}

static const char *number_text(const struct option *option, uint64_t n, char *buf)
{
	if (option->type == OPTION_bytes)
		return bytes_exact(n, buf);
	if (option->type == OPTION_duration)
		return duration_exact(n, buf);
	snprintf(buf, QUANTITY_TEXT_MAX, "%llu", (unsigned long long)n);
	return buf;
}

/* The help, then what is to be known about values. */
static void describe(const struct option *option, char *buf, size_t cap)
{
	char least[QUANTITY_TEXT_MAX], most[QUANTITY_TEXT_MAX];
	const char *min = number_text(option, option->min, least);
	const char *max = number_text(option, option->max, most);
	const char *preset = option->type == OPTION_bool ? NULL : option->preset;
	size_t n = (size_t)snprintf(buf, cap, "%s", option->help);

	if (option->max && preset)
		snprintf(buf + n, cap - n, " (%s to %s; default %s)", min, max, preset);
	else if (option->max)
		snprintf(buf + n, cap - n, " (%s to %s)", min, max);
	else if (preset)
		snprintf(buf + n, cap - n, " (default %s)", preset);
}

void options_help(FILE *f, const struct option_table *t, unsigned from, unsigned to, unsigned width)
{
	unsigned indent = width < NARROW ? 10 : HELP_COLUMN;
	char text[512];

	for (unsigned i = from; i < to; i++) {
		const struct option *option = &t->options[i];
		unsigned column;

		if (!option->help)
			continue;
		column = put_left(f, option);
		if (column + 2 > indent) {
			fputc('\n', f);
			column = 0;
		}
		fprintf(f, "%*s", (int)(indent - column), "");
		describe(option, text, sizeof(text));
		text_wrap(f, text, indent, indent, width);
	}
}
