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

static void repair(struct doctor *d, const struct oplog_config *config,
		   const struct recovered *found, const char *path)
{
	uint64_t lost;
	int r = oplog_repair(config, found, &lost);

	if (r < 0)
		finding(d, FINDING_BAD, "log", "see the reason, and try again",
			"%s could not be repaired: %s", path, strerror(-r));
	else
		finding(d, FINDING_WARN, "log", NULL,
			"%s was repaired: %llu records that could still be read are given up, and "
			"those that could not",
			path, (unsigned long long)lost);
}

static void look_at_shard(struct doctor *d, struct archive *a, uint16_t shard, uint16_t count,
			  const char *path, bool must_repair)
{
	struct oplog_config config = { .archive = a,
				       .media = &media_heap,
				       .limit_bytes = LOG_BYTES_MIN,
				       .shard = shard,
				       .shard_count = count };
	const struct recovery to = { .begin = begin, .image = image, .record = record };
	struct oplog log = { 0 };
	struct recovered found;
	int r = oplog_recover(&log, &config, &to, &found);

	if (r == 0)
		finding(d, FINDING_OK, "log", NULL,
			"%s: a snapshot up to record %llu, and %llu after it", path,
			(unsigned long long)found.snapshot_lsn,
			(unsigned long long)found.record_count);
	else if (found.is_damaged && must_repair)
		repair(d, &config, &found, path);
	else
		finding(d, FINDING_BAD, "log",
			found.is_damaged ? "give up what is damaged and all after it, with --repair"
					 : "see the reason",
			"%s", found.words[0] ? found.words : strerror(-r));
	oplog_close(&log, false);
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
		if (is_all)
			look_at_shard(d, archives[i], i, count, path, must_repair);
		archive_close(archives[i]);
	}
}
