/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quantity: sizes and durations as people write them.
 *
 * A size is bytes: 4096, 64K, 1.5G, 16TiB; K is 1,024. A duration is milliseconds
 * inside and has its unit outside: 500ms, 30s, 10m, 2h, 7d.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define QUANTITY_TEXT_MAX 32

/* All of `text`. -EINVAL: not one, or not a whole number of bytes or milliseconds; -ERANGE: more
 * than 64 bits. */
int bytes_parse(const char *text, uint64_t *ret);
int duration_parse(const char *text, uint64_t *ret_ms);
int count_parse(const char *text, uint64_t *ret);

/* Exact, as it would be typed: "64K", "1500M", "4097". Return `buf`, of QUANTITY_TEXT_MAX bytes. */
const char *bytes_exact(uint64_t bytes, char *buf);
const char *duration_exact(uint64_t ms, char *buf);

/* For eyes, three digits or so: "1.46 GiB", "64 KiB", "12 B"; "1.5 s", "2 h 5 min". */
const char *bytes_rough(uint64_t bytes, char *buf);
const char *duration_rough(uint64_t ms, char *buf);
const char *duration_brief(uint64_t ms, char *buf); /* for columns: "12ms", "1.5s", "2h05m" */
