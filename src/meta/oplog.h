/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oplog: the effects of a shard, in order, each with a number, the lsn.
 *
 * A record is in memory that outlives the process before its effect is applied: on a
 * leaf that a keeper holds. That is what survives kill -9. With an archive, a helper's
 * thread writes leaves to files of the same bytes behind that, lazily, and syncs them for
 * those who wait (durable jobs); then the leaf's memory goes. Without one a leaf
 * stays until a snapshot covers it (snapshots.h).
 *
 *	spare --begun--> open --full--> closed --in its file--> filed --covered--> gone
 *
 * - The helper makes the next leaf ahead, so that appending never waits. When there is
 *   none (too many, no memory, no keeper, a disk that takes nothing), oplog_has_room() says
 *   so: that is LOGFULL. It recovers by itself.
 * - A disk that fails is tried again every second. What was written and not synced may be gone
 *   then, and the next sync says nothing of it: it is written anew.
 */
#pragma once

#include "loop/loop.h"
#include "meta/effect.h"
#include "meta/leaf.h"
#include "shm/archive.h"
#include "shm/keep.h"

struct oplog;

struct oplog_config {
	struct keep *keep;         /* may be NULL; not ours, here and below */
	struct archive *archive;   /* may be NULL */
	const struct media *media; /* NULL: nothing is kept, effects are only counted */
	uint64_t limit_bytes;      /* of leaves in memory */
	uint16_t shard, shard_count;
};

struct leaf {
	struct list link;
	struct leaf_header header;
	struct memory memory; /* ptr NULL: it is in its file only */
	uint64_t last_lsn;
	uint32_t used, filed; /* bytes; what is in the file */
	uint32_t synced;      /* what is safe there: of the rest nobody knows after an error */
	int fault;            /* of a file that is recovered: why its header cannot be read; 0 */
	bool is_closed;
};

/* A request of the helper. */
struct log_work {
	struct work work;
	struct oplog *log;
	struct leaf *leaf;
	uint32_t from, to;
	bool must_sync, is_busy;
	uint64_t lsn; /* of what is written up to `to` */
	int result;
};

/* Leaves, and files without one, that are to go: the helper's while it is busy. */
struct log_waste {
	struct work work;
	struct oplog *log;
	struct list leaves;
	struct leaf filed; /* whose memory goes, and whose file stays */
	bool is_busy;
};

struct oplog {
	uint64_t lsn;                                                     /* of the last record */
	void (*sink)(void *owner, uint16_t slot, const struct effect *e); /* may be NULL */
	void *owner;

	/* oplog.c's own. */
	struct oplog_config config;
	struct loop *loop;
	struct helper *helper;
	uint64_t seed, incarnation, memory, memory_ns, base_ns, next_number;
	struct list leaves; /* oldest first; the last is open */
	struct leaf *open, *spare;
	struct list snapshot; /* leaves of the last whole one */
	uint64_t bytes;       /* of the log's leaves with memory, the spare included */
	uint64_t synced_lsn;  /* up to it the files are synced */
	uint64_t unsynced_ns; /* the slots' time of the first record after it; 0: there is none */
	uint64_t after_ns;    /* of the first one since the running sync began; 0: none */
	uint64_t wanted_lsn;  /* somebody waits for that */
	uint64_t covered_lsn; /* by the last snapshot */
	uint64_t begun_bytes; /* appended since the last snapshot began */
	int disk_error;       /* of the last try; 0: it is well */
	bool has_complained, is_closing;
	struct log_work making, filing;
	struct log_waste waste;
	struct timer again, lazy, sync;
	void (*synced)(struct oplog *l); /* synced_lsn has grown, or disk_error changed */
};

/*
 * After oplog_recover(), which has set seed, incarnation, lsn and leaves; or of a new shard
 * with these set by the caller, who sets base_ns, memory and memory_ns always. Blocks for the first
 * leaf.
 */
int oplog_open(struct oplog *l, const struct oplog_config *config, struct loop *loop);
/* Its memory_ns was 0, and what is to be done once in a new memory has been done. */
void oplog_begun(struct oplog *l, uint64_t memory_ns);
/*
 * What is there goes to its files, if there is an archive. must_drop: the keeper has nothing
 * of it then; else a successor finds all of it.
 */
void oplog_close(struct oplog *l, bool must_drop);

/* Is there room for one effect more? Not for others' requests (is_own: the shard's work) first. */
bool oplog_has_room(struct oplog *l, bool is_own);
/* There is room. */
void oplog_append(struct oplog *l, uint16_t slot, const struct effect *e);
/* synced() is wanted for `lsn`. */
void oplog_sync(struct oplog *l, uint64_t lsn);
/* Records up to `lsn` are in a snapshot that is safe: their leaves and files go. */
void oplog_covered(struct oplog *l, uint64_t lsn);

/* Names in keeper and archive. */
struct keep_name oplog_keep_name(const struct leaf_header *h);
void oplog_file_name(const struct leaf_header *h, char ret[ARCHIVE_NAME_MAX]);
/* What that was made of; false: it is no such name. */
bool oplog_file_named(const char *name, struct leaf_header *ret);

/* recover.c */

struct recovery {
	void *owner;
	bool is_look; /* nobody goes on from what is there: no file is changed */
	/* What it was; before all others. */
	int (*begin)(void *owner, const struct leaf_header *h);
	int (*image)(void *owner, uint16_t slot, struct slice bytes);
	int (*record)(void *owner, uint16_t slot, uint64_t lsn, struct slice bytes);
};

struct recovered {
	bool is_found; /* there was something */
	uint64_t snapshot_number, snapshot_lsn;
	uint64_t record_count, torn_bytes;
	/* The machine has not been started since, so base_ns of then still holds, and its memory.
	 */
	bool has_clock;
	uint64_t base_ns, memory, memory_ns;
	char words[600]; /* of an error: what, where, what now */

	/* Of -EUCLEAN in a file: from there on nothing can be believed. */
	bool is_damaged;
	struct leaf_header damaged; /* its leaf */
	uint32_t damaged_at;        /* offset of the first byte that is wrong */
	/* One byte is wrong: where, and what it was. */
	bool can_mend;
	uint32_t mend_at;
	uint8_t mend_byte;
	/* Else, of a repair: */
	uint64_t lost;    /* records that can be read, and are given up with those that cannot */
	bool is_all_lost; /* nothing is left then */
};

/*
 * What keeper and archive have of this shard, through `to`. Leaves are in l->leaves then.
 * Before oplog_open(). -EUCLEAN: damaged, and words say where; -EINVAL: it is another's;
 * -ENOTSUP: of another version. No file was changed then.
 */
int oplog_recover(struct oplog *l, const struct oplog_config *config, const struct recovery *to,
		  struct recovered *ret);

/*
 * damage.c: mends what is damaged or gives it up: the file is cut off there, and what came
 * later goes. What is lost was acknowledged.
 */
int oplog_repair(const struct oplog_config *config, const struct recovered *damage);
