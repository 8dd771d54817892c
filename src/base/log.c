/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/utf8.h"

#define LINE_MAX_BYTES 1024
#define SITES          256

/* Formats share a site when their addresses meet: a line too few, never one too many. */
struct site {
	time_t second;
	unsigned said, left_out;
};

static enum log_level level_max = LOG_INFO;
static bool is_json_wanted;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct site sites[SITES];

static const char *const LEVELS[] = { "error", "warning", "info", "debug" };

void log_set_level(enum log_level level)
{
	level_max = level;
}

void log_set_json(bool is_json)
{
	is_json_wanted = is_json;
}

/* How many were left out before this line, or -1 if it is left out itself. */
static int admit(const char *format, time_t second)
{
	struct site *s = &sites[((uintptr_t)format >> 3) % SITES];
	int left_out = -1;

	pthread_mutex_lock(&lock);
	if (s->second != second) {
		s->second = second;
		s->said = 0;
	}
	if (s->said < LOG_BURST) {
		s->said++;
		left_out = (int)s->left_out;
		s->left_out = 0;
	} else {
		s->left_out++;
	}
	pthread_mutex_unlock(&lock);
	return left_out;
}

/* A JSON string without its quotes; bytes that are none of JSON's become spaces. Returns its
 * length. */
static size_t escape(char *to, size_t cap, const char *from)
{
	size_t n = 0, left = strlen(from);

	while (left > 0 && n + 5 < cap) {
		uint32_t c = 0;
		size_t len = utf8_decode(from, left, &c);
		bool is_space = len == 0 || c < 0x20;

		if (len == 0)
			len = 1;
		if (c == '"' || c == '\\')
			to[n++] = '\\';
		memcpy(to + n, is_space ? " " : from, len);
		n += len;
		from += len;
		left -= len;
	}
	to[n] = '\0';
	return n;
}

/* Small enough for a fiber's stack. */
static void put_line(enum log_level level, const struct timespec *t, const char *text)
{
	char line[2 * LINE_MAX_BYTES + 128], when[32];
	size_t n;
	struct tm tm;

	gmtime_r(&t->tv_sec, &tm);
	strftime(when, sizeof(when), "%FT%T", &tm);
	if (is_json_wanted) {
		n = (size_t)snprintf(
			line, sizeof(line),
			"{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"pid\":%d,\"text\":\"", when,
			t->tv_nsec / 1000000, LEVELS[level], getpid());
		n += escape(line + n, sizeof(line) - n - 3, text);
		n += (size_t)snprintf(line + n, sizeof(line) - n, "\"}\n");
	} else {
		n = (size_t)snprintf(line, sizeof(line), "%s.%03ldZ %-7s %s\n", when,
				     t->tv_nsec / 1000000, LEVELS[level], text);
	}
	/* One write, so lines of several processes do not mix. There is nobody to tell of a
	 * failure. */
	if (write(STDERR_FILENO, line, n) < 0)
		return;
}

void log_line(enum log_level level, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	struct timespec t;
	va_list args;
	int left_out;

	if (level > level_max)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	left_out = admit(format, t.tv_sec);
	if (left_out < 0)
		return;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (left_out > 0) {
		size_t used = strlen(text);

		snprintf(text + used, sizeof(text) - used, " left_out=%d", left_out);
	}
	put_line(level, &t, text);
}
