/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sort's input: into whatever shares a file is cut, and however little is read at
 * once, the shares together are the file, in whole lines, or in whole records.
 *
 * The file is in memory: open, pread and close of input.c are these. The input: a byte
 * for the format, four for the cuts, then the file.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>

#include "input.h"

#define SHARES_MAX 8
#define LINE_MAX_  512

static struct slice file;

int __wrap_open(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_close(int fd);
ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t at);
ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t at);

int __wrap_open(const char *path, int flags, ...)
{
	(void)path, (void)flags;
	return 1000;
}

int __wrap_open64(const char *path, int flags, ...)
{
	(void)path, (void)flags;
	return 1000;
}

int __wrap_close(int fd)
{
	REQUIRE(fd == 1000);
	return 0;
}

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t at)
{
	size_t left = (size_t)at < file.len ? file.len - (size_t)at : 0;

	REQUIRE(fd == 1000 && at >= 0);
	if (len > left)
		len = left;
	if (len > 0)
		memcpy(buf, file.ptr + at, len);
	return (ssize_t)len;
}

ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t at)
{
	return __wrap_pread(fd, buf, len, at);
}

/* One share, `piece` bytes at a time. Its length, or an error. */
static int64_t read_share(enum format format, const struct segment *share, size_t piece,
			  uint8_t *to)
{
	struct problem problem = { 0 };
	struct input in;
	int64_t n, sum = 0;

	input_init(&in, format, share, 1, LINE_MAX_, &problem);
	while ((n = input_read(&in, to + sum, piece)) > 0) {
		REQUIRE((size_t)n <= piece);
		sum += n;
	}
	input_fini(&in);
	REQUIRE(n == 0 || problem.text[0]);
	return n < 0 ? n : sum;
}

static bool has_long_line(void)
{
	for (size_t at = 0; at < file.len;) {
		const uint8_t *end = memchr(file.ptr + at, '\n', file.len - at);
		size_t len = end ? (size_t)(end - (file.ptr + at)) : file.len - at;

		if (len > LINE_MAX_)
			return true;
		at += len + 1;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes bytes = bytes_of(data, len);
	enum format format = take(&bytes, 1) % 2 ? FORMAT_LINES : FORMAT_RECORDS;
	size_t piece = 1 + take(&bytes, 1), count = 1 + take(&bytes, 1) % SHARES_MAX;
	uint64_t cut = take(&bytes, 2);
	uint64_t from = 0;
	size_t sum = 0;
	uint8_t *all;

	file = take_slice(&bytes, 16 << 10);
	/* A share's read may fill its whole room. */
	all = malloc(file.len + 1 + piece + count);
	for (size_t i = 0; i < count; i++) {
		uint64_t left = file.len - from;
		struct segment share = { "file", from, i + 1 == count ? left : cut % (left + 1) };
		int64_t n = read_share(format, &share, piece, all + sum);

		if (n < 0) {
			REQUIRE(n == -EMSGSIZE && has_long_line());
			free(all);
			return 0;
		}
		sum += (size_t)n;
		from += share.len;
		cut = cut * 2654435761u + 1;
	}
	REQUIRE(memcmp(all, file.ptr, file.len) == 0);
	if (format == FORMAT_LINES && file.len > 0 && file.ptr[file.len - 1] != '\n')
		REQUIRE(sum == file.len + 1 && all[file.len] == '\n');
	else
		REQUIRE(sum == file.len);
	free(all);
	return 0;
}

void fuzz_seeds(void)
{
	static const char LINES[] = "\1\7\3\5\0one\ntwo\n\nthree and more\nlast without an end";
	static const char RECORDS[] = "\0\20\2\7\0"
				      "0123456789012345678901234567890123456789";

	fuzz_seed("lines", LINES, sizeof(LINES) - 1);
	fuzz_seed("records", RECORDS, sizeof(RECORDS) - 1);
}
