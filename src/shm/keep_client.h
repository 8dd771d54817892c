/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep_client: a keep whose regions are memfds that a `wadi keep` holds. Whoever opened
 * it starts keepers and watches them: here is what is said to them.
 *
 * A lock is held over each message there and back, so callers of several threads wait for
 * each other, KEEP_ANSWER_MS at most. A keeper that does not answer so long is left.
 */
#pragma once

#include "shm/keep.h"

struct keep_client;

/*
 * Takes the connection. With `has_more` the keeper was there before us, and what it has is
 * asked for: descriptors of all of it. A new one has nothing and is not waited for.
 * -EHOSTDOWN: it is gone, or has hung up, and may be met again.
 */
int keep_client_open(int fd, bool has_more, struct keep_client **ret);
/* Leaves the keeper, and all that it has, to a successor. NULL is fine. */
void keep_client_close(struct keep_client *c);
/* Ends the keeper, and waits for that; to be closed afterwards. */
void keep_client_end(struct keep_client *c);

struct keep *keep_client_keep(struct keep_client *c);

/* Waits until the keeper is gone (0), or `wake_fd` is readable (-ECANCELED). One thread at a time.
 */
int keep_client_watch(struct keep_client *c, int wake_fd);
/*
 * From now on a put() without a keeper waits for the next one, KEEP_NEXT_MS at most, before it
 * fails; or it does so no more. For a start, which cannot go on without; there is a watcher.
 */
void keep_client_set_waiting(struct keep_client *c, bool is_waiting);
/* Another keeper, a new one: takes the connection, and hands over all that was put. */
int keep_client_renew(struct keep_client *c, int fd);
