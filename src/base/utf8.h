/* SPDX-License-Identifier: Apache-2.0 */
/*
 * utf8: characters of text that others gave us, which need not be text.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The first character of `text`, as RFC 3629 has it, and its bytes; 0 bytes: it is none. `len` is 1
 * at least. */
size_t utf8_decode(const char *text, size_t len, uint32_t *ret);
