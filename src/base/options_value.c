/* SPDX-License-Identifier: Apache-2.0 */
#include "base/options_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/quantity.h"
#include "base/words.h"

/* What a message calls an option: as it is written where the value came from. */
static const char *spelled(const struct option_source *s, const struct option *option, char *buf,
			   size_t cap)
{
	char name[OPTION_NAME_MAX];

	switch (s->origin) {
	case ORIGIN_FILE:
		option_spelled(option, name);
		snprintf(buf, cap, "%s:%u: %s", s->file_name, s->line, name + 2);
		break;
	case ORIGIN_ENVIRONMENT:
		option_environment_name(OPTION_PREFIXES[s->line], option, buf);
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
		return options_fail(o, "%s: %s is too small; type %s or more", who, text, min);
	return options_fail(o, "%s: %s is too %s; type %s to %s", who, text,
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
		return options_fail(o, "%s: '%s' is not %s", who, text, like);
	/* Without a limit of its own, what does not fit is still too large. */
	if (r == -ERANGE && option->max == 0)
		return options_fail(o, "%s: %s is too large", who, text);
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
		return options_fail(o, "%s: there is no '%s'; did you mean %s? There are %s", who,
				    text, nearest_end(&near), option->unit);
	return options_fail(o, "%s: there is no '%s'; there are %s", who, text, option->unit);
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
	return options_fail(o, "%s: '%s' is neither yes nor no", who, text);
}

static int parse_address(struct options *o, const char *who, const char *text, const char **ret)
{
	const char *colon = strrchr(text, ':');
	bool is_v6 = text[0] == '[';
	uint64_t port;

	if (!colon || colon == text || count_parse(colon + 1, &port) < 0 || port > UINT16_MAX ||
	    (is_v6 ? colon[-1] != ']' : memchr(text, ':', (size_t)(colon - text)) != NULL))
		return options_fail(
			o,
			"%s: '%s' is not an address; type HOST:PORT, as 127.0.0.1:4870 or "
			"[::1]:4870; port 0 lets the kernel choose",
			who, text);
	*ret = text;
	return 0;
}

int options_set(struct options *o, const struct option *option, const char *text,
		const struct option_source *s, char *owned)
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
