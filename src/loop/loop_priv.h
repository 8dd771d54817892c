/* SPDX-License-Identifier: Apache-2.0 */
/* loop: what its backends and its helper may do to it. */
#pragma once

#include "loop/loop.h"

/* Moves the mail to the end of the inbox. */
void loop_collect(struct loop *l);

/* A backend asks for events, or begins to wait for them: the time since the last one was busy. */
void loop_polls(struct loop *l, uint64_t now_ns);

/*
 * Runs what followed from what ran. For a backend after each event, from the loop's own stack.
 * Returns whether there was anything.
 */
bool loop_settle(struct loop *l);
