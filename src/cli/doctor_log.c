/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_log: the log that a server with --data left: whether the next one can go on from
 * it, and what is given up so that it can. The server must not run: the directories are
 * locked.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "cli/doctor.h"
#include "meta/image.h"
#include "meta/oplog.h"

static int begin(void *owner, const struct leaf_header *h)
{
	(void)owner, (void)h;
	return 0;
}

static int image(void *owner, uint16_t slot, struct slice bytes)
{
	struct rcur c = rcur_make(bytes.ptr, bytes.len);
	struct image im;

	(void)owner, (void)slot;
	return image_get(&c, &im);
}

static int record(void *owner, uint16_t slot, uint64_t lsn, struct slice bytes)
{
	struct rcur c = rcur_make(bytes.ptr, bytes.len);
	struct effect e;

	(void)owner, (void)slot, (void)lsn;
	return effect_get(&c, &e);
}

/* True: nothing was given up, so there may be more behind it. */
static bool repair(struct doctor *d, const struct oplog_config *config,
		   const struct recovered *found, const char *path)
{
	int r = oplog_repair(config, found);

	if (r < 0)
		finding(d, FINDING_BAD, "log", "see the reason, and try again",
			"%s could not be repaired: %s", path, strerror(-r));
	else if (found->can_mend)
		finding(d, FINDING_WARN, "log", NULL,
			"%s was repaired: a bit was set right, and nothing is given up", path);
	else
		finding(d, FINDING_WARN, "log", NULL,
			"%s was repaired: %llu records that could still be read are given up, and "
			"those that could not%s",
			path, (unsigned long long)found->lost,
			found->is_all_lost ? "; nothing is left, and the next server begins there "
					     "with nothing"
					   : "");
	return r == 0 && found->can_mend;
}

/* True: it is to be looked at again. */
static bool look_at_shard(struct doctor *d, struct archive *a, uint16_t shard, uint16_t count,
			  const char *path, bool must_repair)
{
	struct oplog_config config = { .archive = a,
				       .media = &media_heap,
				       .limit_bytes = LOG_BYTES_MIN,
				       .shard = shard,
				       .shard_count = count };
	const struct recovery to = {
		.is_look = true, .begin = begin, .image = image, .record = record
	};
	struct oplog log = { 0 };
	struct recovered found;
	int r = oplog_recover(&log, &config, &to, &found);
	bool is_again =
		r < 0 && found.is_damaged && must_repair && repair(d, &config, &found, path);

	if (r == 0)
		finding(d, FINDING_OK, "log", NULL,
			"%s: a snapshot up to record %llu, and %llu after it", path,
			(unsigned long long)found.snapshot_lsn,
			(unsigned long long)found.record_count);
	else if (!found.is_damaged || !must_repair)
		finding(d, FINDING_BAD, "log",
			!found.is_damaged ? "see the reason"
			: found.can_mend
				? "set it right, with --repair"
				: "give up what is damaged and all after it, with --repair",
			"%s", found.words[0] ? found.words : strerror(-r));
	if (r == 0 && found.torn_bytes > 0)
		finding(d, FINDING_WARN, "log", NULL,
			"%s: the last %llu bytes are the beginning of something, and the next "
			"server cuts them off",
			path, (unsigned long long)found.torn_bytes);
	oplog_close(&log, false);
	return is_again;
}

void doctor_log(struct doctor *d, const char *data, bool must_repair)
{
	struct archive *archives[SHARDS_MAX];
	char path[4096];
	uint16_t count = 0;
	bool is_all;
	int r = 0;

	while (count < SHARDS_MAX && r == 0) {
		snprintf(path, sizeof(path), "%s/shard-%u", data, count);
		r = archive_find(path, &archives[count]);
		if (r == 0)
			count++;
	}
	is_all = r == -ENOENT || r == 0; /* 0: there are as many as there may be */
	if (r == -EWOULDBLOCK)
		finding(d, FINDING_BAD, "log", "stop the server that runs there first",
			"%s is in use", path);
	else if (count == 0 || !is_all)
		finding(d, FINDING_BAD, "log", "name the directory of a server's --data", "%s: %s",
			path, strerror(-r));
	for (uint16_t i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/shard-%u", data, i);
		while (is_all && look_at_shard(d, archives[i], i, count, path, must_repair))
			;
		archive_close(archives[i]);
	}
}
