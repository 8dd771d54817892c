/* SPDX-License-Identifier: Apache-2.0 */
#include "base/options_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/words.h"

static char letter_of(const struct option *option)
{
	return option->type == OPTION_bool && option->unit ? option->unit[0] : '\0';
}

/* The command line. */

/* `who` is the spelling with what is before it, `name` the bare name. */
static int unknown_option(struct options *o, const char *who, const char *name)
{
	struct nearest near = nearest_begin(name);
	const struct option *option;
	char spelling[OPTION_NAME_MAX];

	for (unsigned i = 0; i < o->table->count; i++)
		if (o->table->options[i].help)
			nearest_try(&near, o->table->options[i].name);
	nearest_try(&near, "help");
	if (!nearest_end(&near))
		return options_fail(o, "there is no option %s; --help lists them", who);
	option = option_find(o->table, nearest_end(&near));
	return options_fail(o, "there is no option %s; did you mean %s?", who,
			    option ? option_spelled(option, spelling) : "--help");
}

static int missing_value(struct options *o, const struct option *option)
{
	char name[OPTION_NAME_MAX];

	return options_fail(o, "%s needs a value: %s=%s", option_spelled(option, name), name,
			    option->unit ? option->unit : "TEXT");
}

/* "--name", "--name=value", "--name value". Returns how many of argv it took. */
static int read_long(struct options *o, char **argv, int left)
{
	struct option_source source = { .origin = ORIGIN_COMMAND_LINE };
	const char *name = argv[0] + 2, *value = strchr(name, '=');
	size_t len = value ? (size_t)(value - name) : strlen(name);
	const struct option *option = option_find_len(o->table, name, len);
	int taken = 1, r;

	if (len == 4 && memcmp(name, "help", 4) == 0) {
		o->is_help_wanted = true;
		return 1;
	}
	if (!option) {
		char spelling[OPTION_NAME_MAX];

		snprintf(spelling, sizeof(spelling), "--%.*s", (int)(len < 56 ? len : 56), name);
		return unknown_option(o, spelling, spelling + 2);
	}
	if (value) {
		value++;
	} else if (option->type == OPTION_bool) {
		value = "yes";
	} else {
		if (left < 2)
			return missing_value(o, option);
		value = argv[1];
		taken = 2;
	}
	r = options_set(o, option, value, &source, NULL);
	return r < 0 ? r : taken;
}

static int unknown_letter(struct options *o, char letter)
{
	char letters[3 * 26 * 2 + 1] = "";
	size_t len = 0;

	for (unsigned i = 0; i < o->table->count && len + 4 < sizeof(letters); i++)
		if (letter_of(&o->table->options[i]))
			len += (size_t)snprintf(letters + len, sizeof(letters) - len, " -%c",
						letter_of(&o->table->options[i]));
	return options_fail(o, "there is no option -%c; there are%s -h", letter, letters);
}

/* "-lr". */
static int read_letters(struct options *o, const char *letters)
{
	struct option_source source = { .origin = ORIGIN_COMMAND_LINE };

	for (; *letters; letters++) {
		const struct option *option = NULL;

		if (*letters == 'h') {
			o->is_help_wanted = true;
			continue;
		}
		for (unsigned i = 0; i < o->table->count && !option; i++)
			if (letter_of(&o->table->options[i]) == *letters)
				option = &o->table->options[i];
		if (!option)
			return unknown_letter(o, *letters);
		(void)options_set(o, option, "yes", &source, NULL); /* a bool takes yes */
	}
	return 1;
}

int options_read_arguments(struct options *o, int *argc, char **argv)
{
	int words = 1, count = *argc, taken;

	for (int i = 1; i < count; i += taken) {
		char *a = argv[i];

		taken = 1;
		if (strcmp(a, "--") == 0) {
			while (++i < count)
				argv[words++] = argv[i];
			break;
		}
		if (a[0] != '-' || a[1] == '\0') {
			argv[words++] = a;
			continue;
		}
		taken = a[1] == '-' ? read_long(o, argv + i, count - i) : read_letters(o, a + 1);
		if (taken < 0)
			return taken;
	}
	argv[words] = NULL;
	*argc = words;
	return 0;
}

/* The environment. */

int options_read_environment(struct options *o, char *(*get)(const char *name))
{
	struct option_source source = { .origin = ORIGIN_ENVIRONMENT };

	for (unsigned i = 0; i < o->table->count; i++) {
		char name[OPTION_NAME_MAX];
		const char *value = NULL;
		int r;

		for (unsigned j = 0; j < 2 && !value; j++) {
			option_environment_name(OPTION_PREFIXES[j], &o->table->options[i], name);
			value = get(name);
			source.line = j;
		}
		/* Set and empty is how a shell says: not set. */
		if (!value || !*value)
			continue;
		r = options_set(o, &o->table->options[i], value, &source, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The file. */

static char *trim(char *text)
{
	size_t len;

	text += strspn(text, " \t\r");
	len = strlen(text);
	while (len && strchr(" \t\r", text[len - 1]))
		len--;
	text[len] = '\0';
	return text;
}

/* The value of a line: up to a comment, or between quotes. NULL: quotes that do not end it. */
static char *line_value(char *text)
{
	char *end;

	text = trim(text);
	if (*text != '"') {
		for (end = text; *end; end++)
			if (*end == '#' && end > text && (end[-1] == ' ' || end[-1] == '\t'))
				break;
		*end = '\0';
		return trim(text);
	}
	end = strchr(++text, '"');
	if (!end)
		return NULL;
	*end++ = '\0';
	end = trim(end);
	return *end && *end != '#' ? NULL : text;
}

static int read_line(struct options *o, const struct option_source *s, char *line)
{
	char *equals, *name, *value, *owned;
	const struct option *option;

	line = trim(line);
	if (!*line || *line == '#')
		return 0;
	equals = strchr(line, '=');
	if (!equals)
		return options_fail(o, "%s:%u: '%.60s' is not a line like: name = value",
				    s->file_name, s->line, line);
	*equals = '\0';
	name = trim(line);
	value = line_value(equals + 1);
	if (!value)
		return options_fail(o, "%s:%u: what is behind %.60s does not end with a quote",
				    s->file_name, s->line, name);
	option = option_find(o->table, name);
	if (!option) {
		char who[300];

		if (o->is_known && o->is_known(name))
			return 0;
		snprintf(who, sizeof(who), "%s (%s:%u)", name, s->file_name, s->line);
		return unknown_option(o, who, name);
	}
	owned = strdup(value);
	if (!owned)
		return -ENOMEM;
	return options_set(o, option, owned, s, owned);
}

int options_read_text(struct options *o, const char *file_name, char *text, size_t len)
{
	struct option_source source = { .origin = ORIGIN_FILE, .file_name = file_name };
	char *line = text, *end = text + len;
	int r = 0;

	if (memchr(text, '\0', len))
		return options_fail(o, "%s: this is not text", file_name);
	free(o->file_name);
	o->file_name = strdup(file_name);
	if (!o->file_name)
		return -ENOMEM;
	while (line < end && r == 0) {
		char *newline = memchr(line, '\n', (size_t)(end - line));
		char *next = newline ? newline + 1 : end;

		/* The caller left room for the last line's end. */
		*(newline ? newline : end) = '\0';
		source.line++;
		r = read_line(o, &source, line);
		line = next;
	}
	return r;
}

int options_read_file(struct options *o, const char *path)
{
	char *text = malloc(OPTIONS_FILE_BYTES + 1);
	ssize_t n = 0;
	size_t len = 0;
	int fd = -1, r = -ENOMEM;

	if (!text)
		goto out;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		goto cannot;
	while (len < OPTIONS_FILE_BYTES && (n = read(fd, text + len, OPTIONS_FILE_BYTES - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		goto cannot;
	if (len == OPTIONS_FILE_BYTES)
		r = options_fail(o, "--config: %s is longer than %u KiB", path,
				 OPTIONS_FILE_BYTES >> 10);
	else
		r = options_read_text(o, path, text, len);
	goto out;
cannot:
	r = -errno;
	(void)options_fail(o, "--config: cannot read %s: %s", path, strerror(-r));
out:
	if (fd >= 0)
		close(fd);
	free(text);
	return r;
}
