/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/terminal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/quantity.h"
#include "base/utf8.h"

bool terminal_is(FILE *f)
{
	return isatty(fileno(f));
}

unsigned terminal_width(FILE *f)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	uint64_t n;

	if (ioctl(fileno(f), TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
		return size.ws_col;
	if (columns && count_parse(columns, &n) == 0 && n >= 20 && n <= 1000)
		return (unsigned)n;
	return 80;
}

/* Does it move the cursor, or turn what others see? */
static bool is_harmful(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x2028 || c == 0x2029 ||
	       c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static size_t escape_byte(uint8_t b, char *to)
{
	static const char LETTERS[] = "abtnvfr"; /* from 7 on */

	if (b >= 7 && b <= 13) {
		to[0] = '\\';
		to[1] = LETTERS[b - 7];
		return 2;
	}
	return (size_t)sprintf(to, "\\x%02x", b);
}

/* One character of the name, safe, into `to` of 17 bytes; how many of the name that took. */
static size_t safe_step(const char *name, size_t len, char *to, size_t *ret_len)
{
	uint32_t c;
	size_t n = utf8_decode(name, len, &c);

	*ret_len = 0;
	if (n == 0) {
		*ret_len = escape_byte((uint8_t)*name, to);
		return 1;
	}
	if (c == '\\') {
		*ret_len = 2;
		memcpy(to, "\\\\", 3);
		return 1;
	}
	if (is_harmful(c)) {
		for (size_t i = 0; i < n; i++)
			*ret_len += escape_byte((uint8_t)name[i], to + *ret_len);
		return n;
	}
	memcpy(to, name, n);
	*ret_len = n;
	return n;
}

const char *name_safe(const char *name, size_t len, char *buf, size_t cap)
{
	size_t used = 0;

	while (len) {
		char piece[20];
		size_t piece_len, n = safe_step(name, len, piece, &piece_len);

		if (used + piece_len + 4 > cap) {
			memcpy(buf + used, "...", 4);
			return buf;
		}
		memcpy(buf + used, piece, piece_len);
		used += piece_len;
		name += n;
		len -= n;
	}
	buf[used] = '\0';
	return buf;
}

void name_put(FILE *f, const char *name, size_t len)
{
	if (!terminal_is(f)) {
		fwrite(name, 1, len, f);
		return;
	}
	while (len) {
		char piece[20];
		size_t piece_len, n = safe_step(name, len, piece, &piece_len);

		fwrite(piece, 1, piece_len, f);
		name += n;
		len -= n;
	}
}

/* The scripts whose characters take two columns, and the marks that take none: as good as
 * a progress bar needs. */
static unsigned columns_of(uint32_t c)
{
	if ((c >= 0x300 && c < 0x370) || (c >= 0x200b && c < 0x2010) || (c >= 0xfe00 && c < 0xfe10))
		return 0;
	if ((c >= 0x1100 && c < 0x1160) || (c >= 0x2e80 && c < 0xa4d0) ||
	    (c >= 0xac00 && c < 0xd7a4) || (c >= 0xf900 && c < 0xfb00) ||
	    (c >= 0xfe30 && c < 0xfe70) || (c >= 0xff00 && c < 0xff61) ||
	    (c >= 0x1f300 && c < 0x1f650) || (c >= 0x1f900 && c < 0x1fa00) ||
	    (c >= 0x20000 && c < 0x3fffe))
		return 2;
	return 1;
}

size_t name_fit(const char *name, unsigned columns)
{
	size_t len = strlen(name), at = 0;

	while (at < len) {
		uint32_t c = 0;
		size_t n = utf8_decode(name + at, len - at, &c);
		unsigned w = n ? columns_of(c) : 1;

		if (w > columns)
			break;
		columns -= w;
		at += n ? n : 1;
	}
	return at;
}

unsigned name_columns(const char *name)
{
	size_t len = strlen(name), at = 0;
	unsigned sum = 0;

	while (at < len) {
		uint32_t c = 0;
		size_t n = utf8_decode(name + at, len - at, &c);

		sum += n ? columns_of(c) : 1;
		at += n ? n : 1;
	}
	return sum;
}
