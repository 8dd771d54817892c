/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshots: the images of all slots of a shard, taken one slot after the other in small
 * steps, on leaves that go to the keeper or the archive. When the last one is safe,
 * the log before it is not needed any more. That bounds both the log and how long a
 * restart takes: one begins when so much was logged since the last (snapshot_bytes), or
 * a quarter of what the last one took, whatever is more; and when less than a quarter of the
 * last one's objects are left, if it lies in memory.
 *
 *	IDLE --enough was logged, or little is left--> RUNNING --last image, safe--> IDLE
 *	                               +------no memory, disk-----^
 */
#pragma once

#include "meta/oplog.h"

struct shard;
struct slot;

struct snapshots {
	struct shard *shard;
	struct oplog *log;
	bool is_running, has_failed, is_last_out;
	uint64_t number, lsn;                 /* of the running one, or the last */
	uint64_t last_bytes;                  /* that it took */
	uint64_t begun_objects, last_objects; /* when the running one, the last one began */
	uint64_t paced_lsn;                   /* when the last step was made */
	uint64_t end_lsn; /* when the last slot was through; 0: that is to come */
	uint64_t taken_count, failed_count;
	unsigned slot;      /* whose turn it is */
	bool has_slot;      /* its snapshot runs */
	uint32_t index;     /* of the open leaf */
	struct leaf *open;  /* plain memory of the node */
	unsigned out_count; /* leaves that the helper writes */
	struct list done;   /* its leaves, kept or in files */
	struct task step;
	struct timer again, shrink;
};

/* number: of the one that the shard went on from; 0: of none. */
void snapshots_init(struct snapshots *p, struct shard *s, struct oplog *l, uint64_t number);
/* The log has grown: perhaps it is time. */
void snapshots_look(struct snapshots *p);
/* More of the log is synced: perhaps that was waited for. */
void snapshots_log_synced(struct snapshots *p);
void snapshots_fini(struct snapshots *p);
