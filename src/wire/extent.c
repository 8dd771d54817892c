/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/extent.h"

#include "base/hash.h"

/* Part of the protocol: every client must find the same slot. */
#define SLOT_SEED 0x77616469

uint16_t slot_of_name(struct slice job_name)
{
	return (uint16_t)(hash_64(job_name.ptr, job_name.len, SLOT_SEED) % SLOT_COUNT);
}

uint32_t segment_size_for(uint64_t len)
{
	uint32_t size = SEGMENT_BYTES_MIN;

	while (size < len && size < SEGMENT_BYTES_MAX)
		size *= 2;
	return size;
}

/* Bytes of the well-formed character that begins at `p`; 0 if it is none (RFC 3629). */
static size_t character_len(const uint8_t *p, size_t left)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0; /* overlong */
	if (p[0] == 0xed)
		high = 0x9f; /* surrogates */
	if (p[0] == 0xf0)
		low = 0x90;
	if (p[0] == 0xf4)
		high = 0x8f; /* past U+10FFFF */
	if (left < n || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

bool path_is_valid(struct slice path, const char **ret_why)
{
	if (path.len == 0 || path.len > PATH_BYTES_MAX) {
		*ret_why = path.len == 0 ? "a path has at least 1 byte"
					 : "a path has at most 1024 bytes behind its job";
		return false;
	}
	for (size_t at = 0, n; at < path.len; at += n) {
		n = character_len(path.ptr + at, path.len - at);
		if (n == 0 || path.ptr[at] == '\0') {
			*ret_why = n == 0 ? "a path is UTF-8" : "a path has no NUL";
			return false;
		}
	}
	return true;
}

bool job_name_is_valid(struct slice name, const char **ret_why)
{
	*ret_why = "a job's name has 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot";
	if (name.len == 0 || name.len > JOB_NAME_BYTES_MAX || name.ptr[0] == '.')
		return false;
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = name.ptr[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    c != '.' && c != '_' && c != '-')
			return false;
	}
	return true;
}
