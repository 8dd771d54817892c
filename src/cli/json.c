/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/json.h"

#include <string.h>

#include "base/utf8.h"

/* JSON is UTF-8: a byte that is none becomes U+FFFD. */
static void put_text(FILE *f, const char *text, size_t len)
{
	fputc('"', f);
	for (size_t i = 0, n; i < len; i += n ? n : 1) {
		uint32_t c;

		n = utf8_decode(text + i, len - i, &c);
		if (n == 0)
			fputs("\\ufffd", f);
		else if (c == '"' || c == '\\')
			fprintf(f, "\\%c", (char)c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(f, "\\u%04x", c);
		else
			fwrite(text + i, 1, n, f);
	}
	fputc('"', f);
}

static void put_name(struct json *j, const char *name)
{
	if (j->is_begun)
		fputc(',', j->f);
	j->is_begun = true;
	if (name)
		fprintf(j->f, "\"%s\":", name);
}

struct json json_begin(FILE *f)
{
	fputc('{', f);
	return (struct json){ .f = f };
}

void json_end(struct json *j)
{
	fputs("}\n", j->f);
}

void json_text(struct json *j, const char *name, const char *text, size_t len)
{
	put_name(j, name);
	put_text(j->f, text, len);
}

void json_word(struct json *j, const char *name, const char *word)
{
	if (word)
		json_text(j, name, word, strlen(word));
	else
		json_null(j, name);
}

void json_number(struct json *j, const char *name, uint64_t n)
{
	put_name(j, name);
	fprintf(j->f, "%llu", (unsigned long long)n);
}

void json_exact(struct json *j, const char *name, unsigned __int128 n)
{
	char digits[48], *p = digits + sizeof(digits);

	*--p = '\0';
	do {
		*--p = (char)('0' + (int)(n % 10));
		n /= 10;
	} while (n);
	json_word(j, name, p);
}

void json_real(struct json *j, const char *name, double value, int decimals)
{
	put_name(j, name);
	fprintf(j->f, "%.*f", decimals, value);
}

void json_bool(struct json *j, const char *name, bool value)
{
	put_name(j, name);
	fputs(value ? "true" : "false", j->f);
}

void json_null(struct json *j, const char *name)
{
	put_name(j, name);
	fputs("null", j->f);
}

void json_list(struct json *j, const char *name)
{
	put_name(j, name);
	fputc('[', j->f);
	j->is_begun = false;
}

void json_list_end(struct json *j)
{
	fputc(']', j->f);
	j->is_begun = true;
}

void json_open(struct json *j)
{
	put_name(j, NULL);
	fputc('{', j->f);
	j->is_begun = false;
}

void json_close(struct json *j)
{
	fputc('}', j->f);
	j->is_begun = true;
}
