/* SPDX-License-Identifier: Apache-2.0 */
/* What the sanitizers must be told, and nothing where there is none. */
#pragma once

#ifndef __has_feature /* gcc 12 has macros instead */
#define __has_feature(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#define ON_ASAN(statement) statement
#else
#define ON_ASAN(statement)
#endif

#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#include <sanitizer/tsan_interface.h>
#define ON_TSAN(statement) statement
#else
#define ON_TSAN(statement)
#endif
