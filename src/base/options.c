/* SPDX-License-Identifier: Apache-2.0 */
#include "base/options.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/quantity.h"
#include "base/words.h"

/* Who speaks: the spelling of the option where it was found, for messages. */
struct source {
	enum option_origin origin;
	const char *file_name;
	unsigned line; /* of the file; of the environment: which prefix */
};

__attribute__((format(printf, 2, 3))) static int fail(struct options *o, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(o->error, sizeof(o->error), format, args);
	va_end(args);
	return -EINVAL;
}

static char letter_of(const struct option *option)
{
	return option->type == OPTION_bool && option->unit ? option->unit[0] : '\0';
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

static const struct option *find(const struct option_table *t, const char *text, size_t len)
{
	for (unsigned i = 0; i < t->count; i++)
		if (is_name(t->options[i].name, text, len))
			return &t->options[i];
	return NULL;
}

const struct option *option_find(const struct option_table *t, const char *name)
{
	return find(t, name, strlen(name));
}

const char *option_spelled(const struct option *option, char *buf)
{
	snprintf(buf, OPTION_NAME_MAX, "--%s", option->name);
	for (char *p = buf; *p; p++)
		if (*p == '_')
			*p = '-';
	return buf;
}

static void environment_name(const char *prefix, const struct option *option, char *buf)
{
	snprintf(buf, OPTION_NAME_MAX, "%s%s", prefix, option->name);
	for (char *p = buf; *p; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
}

/* Platforms that pass only their own names on pass the second one. */
static const char *const PREFIXES[] = { "WADI_", "__OW_WADI_" };

/* What a message calls an option: as it is written where the value came from. */
static const char *spelled(const struct source *s, const struct option *option, char *buf,
			   size_t cap)
{
	char name[OPTION_NAME_MAX];

	switch (s->origin) {
	case ORIGIN_FILE:
		option_spelled(option, name);
		snprintf(buf, cap, "%s:%u: %s", s->file_name, s->line, name + 2);
		break;
	case ORIGIN_ENVIRONMENT:
		environment_name(PREFIXES[s->line], option, buf);
		break;
	case ORIGIN_PRESET:
	case ORIGIN_COMMAND_LINE:
		option_spelled(option, buf);
		break;
	}
	return buf;
}

/* Types, one by one: value from text, or a message. */

static const char *shown_number(const struct option *option, uint64_t n, char *buf)
{
	switch (option->type) {
	case OPTION_bytes:
		return bytes_exact(n, buf);
	case OPTION_duration:
		return n ? duration_exact(n, buf) : "0s";
	default:
		snprintf(buf, QUANTITY_TEXT_MAX, "%llu", (unsigned long long)n);
		return buf;
	}
}

static int check_range(struct options *o, const struct option *option, const char *who,
		       const char *text, uint64_t n)
{
	char least[QUANTITY_TEXT_MAX], most[QUANTITY_TEXT_MAX];
	const char *min = shown_number(option, option->min, least);
	const char *max = shown_number(option, option->max, most);

	if (n >= option->min && (option->max == 0 || n <= option->max))
		return 0;
	if (option->max == 0)
		return fail(o, "%s: %s is too small; type %s or more", who, text, min);
	return fail(o, "%s: %s is too %s; type %s to %s", who, text,
		    n < option->min ? "small" : "large", min, max);
}

static int parse_number(struct options *o, const struct option *option, const char *who,
			const char *text, uint64_t *ret)
{
	const char *like = option->type == OPTION_bytes      ? "a size like 4096, 64K or 1.5G"
			   : option->type == OPTION_duration ? "a duration like 500ms, 30s or 10m"
							     : "a whole number";
	uint64_t n;
	int r;

	if (option->type == OPTION_bytes)
		r = bytes_parse(text, &n);
	else if (option->type == OPTION_duration)
		r = duration_parse(text, &n);
	else
		r = count_parse(text, &n);
	if (r == -ERANGE)
		n = UINT64_MAX;
	else if (r < 0)
		return fail(o, "%s: '%s' is not %s", who, text, like);
	/* Without a limit of its own, what does not fit is still too large. */
	if (r == -ERANGE && option->max == 0)
		return fail(o, "%s: %s is too large", who, text);
	r = check_range(o, option, who, text, n);
	if (r == 0)
		*ret = n;
	return r;
}

/* The next word of a choice "a|b|c", and its end. */
static const char *choice_next(const char **choice, size_t *ret_len)
{
	const char *word = *choice;

	if (!*word)
		return NULL;
	*ret_len = strcspn(word, "|");
	*choice = word + *ret_len + (word[*ret_len] == '|');
	return word;
}

static int parse_word(struct options *o, const struct option *option, const char *who,
		      const char *text, unsigned *ret)
{
	char words[256], *at = words;
	const char *choice = option->unit, *word;
	struct nearest near = nearest_begin(text);
	unsigned place = 0;
	size_t len;

	while ((word = choice_next(&choice, &len))) {
		if (strlen(text) == len && memcmp(word, text, len) == 0) {
			*ret = place;
			return 0;
		}
		assert((size_t)(at - words) + len + 1 < sizeof(words));
		memcpy(at, word, len);
		at[len] = '\0';
		nearest_try(&near, at);
		at += len + 1;
		place++;
	}
	if (nearest_end(&near))
		return fail(o, "%s: there is no '%s'; did you mean %s? There are %s", who, text,
			    nearest_end(&near), option->unit);
	return fail(o, "%s: there is no '%s'; there are %s", who, text, option->unit);
}

/* Adds to *ret. */
static int parse_words(struct options *o, const struct option *option, const char *who,
		       const char *text, unsigned *ret)
{
	unsigned place, set = 0;
	char word[64];

	for (;;) {
		size_t len = strcspn(text, ",");
		int r;

		snprintf(word, sizeof(word), "%.*s", (int)len, text);
		r = parse_word(o, option, who, word, &place);
		if (r < 0)
			return r;
		set |= 1u << place;
		if (text[len] == '\0')
			break;
		text += len + 1;
	}
	*ret |= set;
	return 0;
}

static int parse_bool(struct options *o, const char *who, const char *text, bool *ret)
{
	static const char *const YES[] = { "yes", "true", "on", "1" };
	static const char *const NO[] = { "no", "false", "off", "0" };

	for (size_t i = 0; i < 4; i++) {
		if (strcasecmp(text, YES[i]) == 0 || strcasecmp(text, NO[i]) == 0) {
			*ret = strcasecmp(text, YES[i]) == 0;
			return 0;
		}
	}
	return fail(o, "%s: '%s' is neither yes nor no", who, text);
}

static int parse_address(struct options *o, const char *who, const char *text, const char **ret)
{
	const char *colon = strrchr(text, ':');
	bool is_v6 = text[0] == '[';
	uint64_t port;

	if (!colon || colon == text || count_parse(colon + 1, &port) < 0 || port > UINT16_MAX ||
	    (is_v6 ? colon[-1] != ']' : memchr(text, ':', (size_t)(colon - text)) != NULL))
		return fail(o,
			    "%s: '%s' is not an address; type HOST:PORT, as 127.0.0.1:4870 or "
			    "[::1]:4870; port 0 lets the kernel choose",
			    who, text);
	*ret = text;
	return 0;
}

/* Gives `option` the value of `text`, unless a stronger source has given it one already. */
static int set(struct options *o, const struct option *option, const char *text,
	       const struct source *s, char *owned)
{
	char *at = (char *)o->values + option->at, who[300];
	size_t i = (size_t)(option - o->table->options);
	int r = 0;

	if (s->origin < o->given[i].origin) {
		free(owned);
		return 0;
	}
	spelled(s, option, who, sizeof(who));
	switch (option->type) {
	case OPTION_string:
	case OPTION_secret:
		*(const char **)at = text;
		break;
	case OPTION_address:
		r = parse_address(o, who, text, (const char **)at);
		break;
	case OPTION_word:
		r = parse_word(o, option, who, text, (unsigned *)at);
		break;
	case OPTION_words: {
		/* A stronger source replaces what a weaker one said; one source adds. */
		unsigned words = o->given[i].origin == s->origin ? *(unsigned *)at : 0;

		r = parse_words(o, option, who, text, &words);
		if (r == 0)
			*(unsigned *)at = words;
		break;
	}
	case OPTION_bytes:
	case OPTION_duration:
	case OPTION_count:
		r = parse_number(o, option, who, text, (uint64_t *)at);
		break;
	case OPTION_bool:
		r = parse_bool(o, who, text, (bool *)at);
		break;
	}
	if (r < 0) {
		free(owned);
		return r;
	}
	free(o->given[i].owned);
	o->given[i].origin = s->origin;
	o->given[i].line = s->line;
	o->given[i].owned = owned;
	return 0;
}

void options_init(struct options *o, const struct option_table *table, void *values)
{
	struct source preset = { .origin = ORIGIN_PRESET };

	assert(table->count <= OPTIONS_MAX);
	memset(o, 0, sizeof(*o));
	memset(values, 0, table->struct_size);
	o->table = table;
	o->values = values;
	for (unsigned i = 0; i < table->count; i++) {
		const struct option *option = &table->options[i];

		/* A preset that does not parse is our mistake. */
		int r = option->preset ? set(o, option, option->preset, &preset, NULL) : 0;

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
		return fail(o, "there is no option %s; --help lists them", who);
	option = option_find(o->table, nearest_end(&near));
	return fail(o, "there is no option %s; did you mean %s?", who,
		    option ? option_spelled(option, spelling) : "--help");
}

static int missing_value(struct options *o, const struct option *option)
{
	char name[OPTION_NAME_MAX];

	return fail(o, "%s needs a value: %s=%s", option_spelled(option, name), name,
		    option->unit ? option->unit : "TEXT");
}

/* "--name", "--name=value", "--name value". Returns how many of argv it took. */
static int read_long(struct options *o, char **argv, int left)
{
	struct source source = { .origin = ORIGIN_COMMAND_LINE };
	const char *name = argv[0] + 2, *value = strchr(name, '=');
	size_t len = value ? (size_t)(value - name) : strlen(name);
	const struct option *option = find(o->table, name, len);
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
	r = set(o, option, value, &source, NULL);
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
	return fail(o, "there is no option -%c; there are%s -h", letter, letters);
}

/* "-lr". */
static int read_letters(struct options *o, const char *letters)
{
	struct source source = { .origin = ORIGIN_COMMAND_LINE };

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
		(void)set(o, option, "yes", &source, NULL); /* a bool takes yes */
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
	struct source source = { .origin = ORIGIN_ENVIRONMENT };

	for (unsigned i = 0; i < o->table->count; i++) {
		char name[OPTION_NAME_MAX];
		const char *value = NULL;
		int r;

		for (unsigned j = 0; j < 2 && !value; j++) {
			environment_name(PREFIXES[j], &o->table->options[i], name);
			value = get(name);
			source.line = j;
		}
		/* Set and empty is how a shell says: not set. */
		if (!value || !*value)
			continue;
		r = set(o, &o->table->options[i], value, &source, NULL);
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

static int read_line(struct options *o, const struct source *s, char *line)
{
	char *equals, *name, *value, *owned;
	const struct option *option;

	line = trim(line);
	if (!*line || *line == '#')
		return 0;
	equals = strchr(line, '=');
	if (!equals)
		return fail(o, "%s:%u: '%.60s' is not a line like: name = value", s->file_name,
			    s->line, line);
	*equals = '\0';
	name = trim(line);
	value = line_value(equals + 1);
	if (!value)
		return fail(o, "%s:%u: what is behind %.60s does not end with a quote",
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
	return set(o, option, owned, s, owned);
}

int options_read_text(struct options *o, const char *file_name, char *text, size_t len)
{
	struct source source = { .origin = ORIGIN_FILE, .file_name = file_name };
	char *line = text, *end = text + len;
	int r = 0;

	if (memchr(text, '\0', len))
		return fail(o, "%s: this is not text", file_name);
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
		r = fail(o, "--config: %s is longer than %u KiB", path, OPTIONS_FILE_BYTES >> 10);
	else
		r = options_read_text(o, path, text, len);
	goto out;
cannot:
	r = -errno;
	(void)fail(o, "--config: cannot read %s: %s", path, strerror(-r));
out:
	if (fd >= 0)
		close(fd);
	free(text);
	return r;
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

/* "raw,redis" of a set; NULL of none. */
static const char *shown_words(const char *choice, unsigned set, char *buf)
{
	const char *word;
	size_t len, at = 0;

	for (unsigned i = 0; (word = choice_next(&choice, &len)); i++)
		if (set & 1u << i && at + len + 2 < QUANTITY_TEXT_MAX)
			at += (size_t)sprintf(buf + at, "%s%.*s", at ? "," : "", (int)len, word);
	return set ? buf : NULL;
}

const char *options_shown(const struct options *o, const struct option *option, char *buf)
{
	const char *at = (const char *)o->values + option->at, *choice = option->unit, *word;
	size_t len = 0;

	switch (option->type) {
	case OPTION_string:
	case OPTION_address:
		return *(const char *const *)at;
	case OPTION_secret:
		return *(const char *const *)at ? "(set)" : NULL;
	case OPTION_word:
		word = choice_next(&choice, &len);
		for (unsigned i = *(const unsigned *)at; i > 0; i--)
			word = choice_next(&choice, &len);
		snprintf(buf, QUANTITY_TEXT_MAX, "%.*s", (int)len, word);
		return buf;
	case OPTION_words:
		return shown_words(choice, *(const unsigned *)at, buf);
	case OPTION_bytes:
	case OPTION_duration:
	case OPTION_count:
		if (!option->preset && o->given[option - o->table->options].origin == ORIGIN_PRESET)
			return NULL;
		return shown_number(option, *(const uint64_t *)at, buf);
	case OPTION_bool:
		return *(const bool *)at ? "yes" : "no";
	}
	return NULL;
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
		environment_name(PREFIXES[o->given[i].line], option, name);
		snprintf(buf, cap, "environment %s", name);
		break;
	case ORIGIN_COMMAND_LINE:
		snprintf(buf, cap, "command line");
		break;
	}
}
