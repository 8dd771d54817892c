/* SPDX-License-Identifier: Apache-2.0 */
/* loop: what its backends and its helper may do to it. */
#pragma once

#include "loop/loop.h"

/* Moves the mail to the end of the inbox. */
void loop_collect(struct loop *l);

/*
 * Bells (bell.c). look: serves those that are listened to; true if anything had come. sleep:
 * false if something has come, and then all are awake.
 */
struct bell;
bool bells_look(struct loop *l);
bool bells_peek(const struct loop *l);
unsigned bells_count(const struct loop *l);
bool bells_sleep(struct loop *l, bool is_on_word);
void bells_awake(struct loop *l);
/* The one on whose word the loop may sleep, for nothing else can come; or NULL. */
struct bell *bells_only(const struct loop *l);
/* Sleeps on its word, for BELL_WORD_NS at most; true if it was rung. */
bool bell_wait_word(struct bell *b, uint64_t ns);

/* A backend asks for events, or begins to wait for them: the time since the last one was busy. */
void loop_polls(struct loop *l, uint64_t now_ns);

/*
 * Runs what followed from what ran. For a backend after each event, from the loop's own stack.
 * Returns whether there was anything.
 */
bool loop_settle(struct loop *l);
