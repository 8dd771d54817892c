/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: what a person should know, on stderr: a sentence, then key=value, as text
 * or as JSON lines. Nothing per request.
 *
 * error: a person must act. warning: we cope, and this is how. info: life-cycle
 * events. Each format says at most LOG_BURST lines a second; how many were left
 * out is in its next line.
 */
#pragma once

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

#define LOG_BURST 10

void log_set_level(enum log_level level);
void log_set_json(bool is_json);

/* "A sentence key=value key=\"quoted\"". Any thread. `format` is a literal. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* clang-format off */
#define log_error(...)   log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_DEBUG, __VA_ARGS__)
/* clang-format on */
