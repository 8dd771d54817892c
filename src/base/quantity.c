/* SPDX-License-Identifier: Apache-2.0 */
#include "base/quantity.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	uint64_t size;
};

static const struct unit BYTES[] = {
	{ "T", 1ull << 40 }, { "G", 1ull << 30 }, { "M", 1ull << 20 },
	{ "K", 1ull << 10 }, { "B", 1 },          { NULL, 0 },
};

static const struct unit DURATIONS[] = {
	{ "d", 24ull * 3600 * 1000 },
	{ "h", 3600ull * 1000 },
	{ "m", 60ull * 1000 },
	{ "s", 1000 },
	{ "ms", 1 },
	{ NULL, 0 },
};

/* The next digits of *text; -EINVAL if there are none. */
static int take_digits(const char **text, uint64_t *ret, uint64_t *ret_scale)
{
	const char *p = *text;
	uint64_t n = 0, scale = 1;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return -ERANGE;
		/* A number whose scale does not fit is too long for a fraction, and refused there.
		 */
		if (scale <= UINT64_MAX / 10)
			scale *= 10;
	}
	*text = p;
	*ret = n;
	*ret_scale = scale;
	return 0;
}

/* `number`, a point and more digits, `unit_size`: whole, or -EINVAL. */
static int join(uint64_t whole, uint64_t fraction, uint64_t scale, uint64_t unit_size,
		uint64_t *ret)
{
	uint64_t n, part;

	if (__builtin_mul_overflow(whole, unit_size, &n))
		return -ERANGE;
	if (__builtin_mul_overflow(fraction, unit_size, &part))
		return -EINVAL;
	/* 1.3K is 1,331.2 bytes; who writes it means about that much. Below a byte it means
	 * nothing. */
	if (unit_size == 1 && part % scale != 0)
		return -EINVAL;
	if (__builtin_add_overflow(n, part / scale, &n))
		return -ERANGE;
	*ret = n;
	return 0;
}

static int take_number(const char **text, uint64_t *ret_whole, uint64_t *ret_fraction,
		       uint64_t *ret_scale)
{
	uint64_t scale;
	int r = take_digits(text, ret_whole, &scale);

	if (r < 0)
		return r;
	*ret_fraction = 0;
	*ret_scale = 1;
	if (**text != '.')
		return 0;
	++*text;
	return take_digits(text, ret_fraction, ret_scale);
}

static const struct unit *find_unit(const struct unit *units, const char *name, size_t len)
{
	for (const struct unit *u = units; u->name; u++)
		if (strlen(u->name) == len && strncasecmp(u->name, name, len) == 0)
			return u;
	return NULL;
}

int bytes_parse(const char *text, uint64_t *ret)
{
	uint64_t whole, fraction, scale;
	const struct unit *u;
	size_t len;
	int r = take_number(&text, &whole, &fraction, &scale);

	if (r < 0)
		return r;
	if (!*text)
		return join(whole, fraction, scale, 1, ret);
	len = strlen(text);
	if (len == 3 && strncasecmp(text + 1, "ib", 2) == 0)
		len = 1;
	u = find_unit(BYTES, text, len);
	return u ? join(whole, fraction, scale, u->size, ret) : -EINVAL;
}

int duration_parse(const char *text, uint64_t *ret_ms)
{
	uint64_t whole, fraction, scale;
	const struct unit *u;
	int r = take_number(&text, &whole, &fraction, &scale);

	if (r < 0)
		return r;
	/* 0 is the same in every unit. */
	if (!*text && whole == 0 && fraction == 0) {
		*ret_ms = 0;
		return 0;
	}
	u = find_unit(DURATIONS, text, strlen(text));
	return u ? join(whole, fraction, scale, u->size, ret_ms) : -EINVAL;
}

int count_parse(const char *text, uint64_t *ret)
{
	uint64_t scale;
	int r = take_digits(&text, ret, &scale);

	return r < 0 ? r : *text ? -EINVAL : 0;
}

static const char *exact(uint64_t n, const struct unit *units, char *buf)
{
	for (const struct unit *u = units; u->name; u++) {
		if (n >= u->size && n % u->size == 0) {
			bool is_plain = u->size == 1 && strcmp(u->name, "B") == 0;

			snprintf(buf, QUANTITY_TEXT_MAX, "%llu%s",
				 (unsigned long long)(n / u->size), is_plain ? "" : u->name);
			return buf;
		}
	}
	return strcpy(buf, "0");
}

const char *bytes_exact(uint64_t bytes, char *buf)
{
	return exact(bytes, BYTES, buf);
}

const char *duration_exact(uint64_t ms, char *buf)
{
	return exact(ms, DURATIONS, buf);
}

/* Three significant digits, without zeros behind the point. */
static void put_rough(char *buf, double value, const char *unit)
{
	int decimals = value >= 100 ? 0 : value >= 10 ? 1 : 2;
	int n = snprintf(buf, QUANTITY_TEXT_MAX, "%.*f", decimals, value);

	if (strchr(buf, '.')) {
		while (buf[n - 1] == '0')
			n--;
		if (buf[n - 1] == '.')
			n--;
	}
	snprintf(buf + n, QUANTITY_TEXT_MAX - (size_t)n, " %s", unit);
}

const char *bytes_rough(uint64_t bytes, char *buf)
{
	static const char *const NAMES[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t i = 0;

	for (; value >= 1023.5 && i < 6; i++)
		value /= 1024;
	put_rough(buf, value, NAMES[i]);
	return buf;
}

const char *duration_rough(uint64_t ms, char *buf)
{
	uint64_t s = (ms + 500) / 1000;

	if (ms < 1000)
		put_rough(buf, (double)ms, "ms");
	else if (s < 60)
		put_rough(buf, (double)ms / 1000, "s");
	else if (s < 3600)
		snprintf(buf, QUANTITY_TEXT_MAX, "%u min %u s", (unsigned)(s / 60),
			 (unsigned)(s % 60));
	else if (s < 24 * 3600)
		snprintf(buf, QUANTITY_TEXT_MAX, "%u h %u min", (unsigned)(s / 3600),
			 (unsigned)(s / 60 % 60));
	else
		snprintf(buf, QUANTITY_TEXT_MAX, "%llu d %u h", (unsigned long long)(s / 86400),
			 (unsigned)(s / 3600 % 24));
	return buf;
}

const char *duration_brief(uint64_t ms, char *buf)
{
	uint64_t s = ms / 1000;

	if (ms < 1000)
		snprintf(buf, QUANTITY_TEXT_MAX, "%ums", (unsigned)ms);
	else if (s < 60)
		snprintf(buf, QUANTITY_TEXT_MAX, "%u.%us", (unsigned)s,
			 (unsigned)(ms % 1000 / 100));
	else if (s < 3600)
		snprintf(buf, QUANTITY_TEXT_MAX, "%um%02us", (unsigned)(s / 60),
			 (unsigned)(s % 60));
	else if (s < 100 * 3600)
		snprintf(buf, QUANTITY_TEXT_MAX, "%uh%02um", (unsigned)(s / 3600),
			 (unsigned)(s / 60 % 60));
	else
		snprintf(buf, QUANTITY_TEXT_MAX, "%llud", (unsigned long long)(s / 86400));
	return buf;
}
