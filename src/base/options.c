/* SPDX-License-Identifier: Apache-2.0 */
#include "base/options_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int options_fail(struct options *o, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(o->error, sizeof(o->error), format, args);
	va_end(args);
	return -EINVAL;
}

/* `_` and `-` are the same. */
static bool is_name(const char *name, const char *text, size_t len)
{
	if (strlen(name) != len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] != text[i] && !(name[i] == '_' && text[i] == '-'))
			return false;
	return true;
}

const struct option *option_find_len(const struct option_table *t, const char *text, size_t len)
{
	for (unsigned i = 0; i < t->count; i++)
		if (is_name(t->options[i].name, text, len))
			return &t->options[i];
	return NULL;
}

const struct option *option_find(const struct option_table *t, const char *name)
{
	return option_find_len(t, name, strlen(name));
}

const char *option_spelled(const struct option *option, char *buf)
{
	snprintf(buf, OPTION_NAME_MAX, "--%s", option->name);
	for (char *p = buf; *p; p++)
		if (*p == '_')
			*p = '-';
	return buf;
}

void option_environment_name(const char *prefix, const struct option *option, char *buf)
{
	snprintf(buf, OPTION_NAME_MAX, "%s%s", prefix, option->name);
	for (char *p = buf; *p; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
}

const char *const OPTION_PREFIXES[2] = { "WADI_", "__OW_WADI_" };

void options_init(struct options *o, const struct option_table *table, void *values)
{
	struct option_source preset = { .origin = ORIGIN_PRESET };

	assert(table->count <= OPTIONS_MAX);
	memset(o, 0, sizeof(*o));
	memset(values, 0, table->struct_size);
	o->table = table;
	o->values = values;
	for (unsigned i = 0; i < table->count; i++) {
		const struct option *option = &table->options[i];

		/* A preset that does not parse is our mistake. */
		int r = option->preset ? options_set(o, option, option->preset, &preset, NULL) : 0;

		assert(r >= 0);
	}
}

void options_fini(struct options *o)
{
	for (size_t i = 0; i < OPTIONS_MAX; i++) {
		free(o->given[i].owned);
		o->given[i].owned = NULL;
	}
	free(o->file_name);
	o->file_name = NULL;
}

/* What was read. */

const void *options_value(const struct options *o, const char *name)
{
	const struct option *option = option_find(o->table, name);

	assert(option);
	return (const char *)o->values + option->at;
}

enum option_origin options_origin(const struct options *o, const char *name)
{
	const struct option *option = option_find(o->table, name);

	assert(option);
	return o->given[option - o->table->options].origin;
}

void options_origin_text(const struct options *o, const struct option *option, char *buf,
			 size_t cap)
{
	size_t i = (size_t)(option - o->table->options);
	char name[OPTION_NAME_MAX];

	switch (o->given[i].origin) {
	case ORIGIN_PRESET:
		snprintf(buf, cap, "default");
		break;
	case ORIGIN_FILE:
		snprintf(buf, cap, "%s:%u", o->file_name, o->given[i].line);
		break;
	case ORIGIN_ENVIRONMENT:
		option_environment_name(OPTION_PREFIXES[o->given[i].line], option, name);
		snprintf(buf, cap, "environment %s", name);
		break;
	case ORIGIN_COMMAND_LINE:
		snprintf(buf, cap, "command line");
		break;
	}
}
