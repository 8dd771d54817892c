/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent: what both ends of the wire must compute alike: the slot of a job, the
 * bytes that a segment is booked with, the numbers inside of ids, the checksum of
 * a piece.
 */
#pragma once

#include "wire/codec.h"

/* A job lies in the slot of its name; ids of its objects, holds and so on begin with it. */
uint16_t slot_of_name(struct slice job_name);

#define ID_SLOT_SHIFT 54
static inline uint16_t slot_of_id(uint64_t id)
{
	return (uint16_t)(id >> ID_SLOT_SHIFT);
}

/* A segment's id: the number of its pool, which is its store's incarnation, then its place there.
 */
#define SEGMENT_POOL_SHIFT 20
static inline uint64_t pool_of_segment(uint64_t id)
{
	return id >> SEGMENT_POOL_SHIFT;
}

/* Of a sealed segment: its used front and back, in whole pages. */
static inline uint32_t segment_booked(uint32_t size, uint32_t front, uint32_t back)
{
	uint32_t low = (front + SEGMENT_PAGE - 1) & ~(uint32_t)(SEGMENT_PAGE - 1);
	uint32_t high = back & ~(uint32_t)(SEGMENT_PAGE - 1);

	return low >= high ? size : low + (size - high);
}

/* A power of two from SEGMENT_BYTES_MIN to SEGMENT_BYTES_MAX that holds `len`, as far as one can.
 */
uint32_t segment_size_for(uint64_t len);

/* How many sums the table of an extent has: 0 if its crc is of the bytes themselves. */
static inline uint32_t extent_table_count(uint32_t len)
{
	return len <= CHECK_PIECE ? 0 : (len + CHECK_PIECE - 1) / CHECK_PIECE;
}

/* A name that may be stored: UTF-8 of 1 to PATH_BYTES_MAX bytes without NUL. Else why not. */
bool path_is_valid(struct slice path, const char **ret_why);
bool job_name_is_valid(struct slice name, const char **ret_why);
