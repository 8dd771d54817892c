/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/own_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/node.h"
#include "bench/bench.h"
#include "bench/cpus.h"
#include "bench/plain.h"

#define READY_NS 20000000000ull
#define ANY_PORT "127.0.0.1:0"

/* Of metadata, and of a proxy without a pool. */
#define OTHER_MEMORY "256M"

/* Starts it, and takes its endpoint that begins with `scheme`, if that is wanted. */
static int start(struct child *c, struct own_store *s, const struct bench *b,
		 const char *const argv[], const char *scheme)
{
	cpu_set_t cpus = cpus_of(CPUS_SERVER, b->threads);
	uint64_t due_ns = node_now_ns() + READY_NS;
	char line[sizeof(s->endpoint)];
	int r = child_start(c, argv, &cpus, true);

	while (r == 0) {
		r = child_line(c, line, sizeof(line), due_ns);
		if (r == 0 && strcmp(line, "ready") == 0)
			break;
		if (r == 0 && scheme && strncmp(line, "endpoint=", 9) == 0 &&
		    strncmp(line + 9, scheme, strlen(scheme)) == 0)
			snprintf(s->endpoint, sizeof(s->endpoint), "%s", line + 9);
	}
	return r < 0 ? r : scheme && !s->endpoint[0] ? -EPROTO : 0;
}

static int dev_open(struct own_store *s, const struct bench *b, const char *scheme)
{
	char memory[32], shards[16];
	const char *argv[] = { b->program, "dev",    "--memory",    memory,    "--listen",
			       ANY_PORT,   "--http", ANY_PORT,      "--redis", ANY_PORT,
			       "--shards", shards,   "--log-level", "error",   NULL };

	snprintf(memory, sizeof(memory), "%llu", (unsigned long long)b->memory);
	snprintf(shards, sizeof(shards), "%u", b->threads);
	return start(&s->front, s, b, argv, scheme);
}

/* Metadata signs tokens with it, and proxies know them by it; here it is of one run. */
static int key_make(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), r = 0;

	if (fd < 0)
		return -errno;
	for (unsigned i = 0; i < 4 && r >= 0; i++)
		r = dprintf(fd, "%016llx", (unsigned long long)node_random_u64());
	close(fd);
	return r < 0 ? -EIO : 0;
}

static int apart_open(struct own_store *s, struct bench *b, bool has_proxy)
{
	const char *directory = bench_directory(b);
	char memory[32], loops[16], at[32], key[128];
	const char *meta[] = { b->program, "meta",       "--listen",    at,      "--token-key", key,
			       "--memory", OTHER_MEMORY, "--log-level", "error", NULL };
	const char *store[] = { b->program, "store", "--listen",    ANY_PORT,
				"--meta",   at,      "--token-key", key,
				"--memory", memory,  "--log-level", "error",
				NULL };
	const char *proxy[] = { b->program,    "proxy",       "--listen", ANY_PORT,     "--http",
				ANY_PORT,      "--redis",     ANY_PORT,   "--meta",     at,
				"--token-key", key,           "--memory", OTHER_MEMORY, "--loops",
				loops,         "--log-level", "error",    NULL };
	int r;

	if (!directory)
		return -EIO;
	snprintf(key, sizeof(key), "%s/token.key", directory);
	snprintf(at, sizeof(at), "127.0.0.1:%u", plain_free_port());
	snprintf(memory, sizeof(memory), "%llu", (unsigned long long)b->memory);
	snprintf(loops, sizeof(loops), "%u", b->threads);
	r = key_make(key);
	if (r == 0)
		r = start(&s->behind[0], s, b, meta, NULL);
	if (r == 0)
		r = start(&s->behind[1], s, b, store, NULL);
	if (r == 0 && has_proxy)
		r = start(&s->front, s, b, proxy, "unix://");
	if (r == 0 && !has_proxy)
		snprintf(s->endpoint, sizeof(s->endpoint), "direct://%s", at);
	return r;
}

int own_store_open(struct own_store *s, struct bench *b, enum bench_attach attach,
		   const char **ret_why)
{
	int r;

	*ret_why = "a server did not become ready";
	if (attach == BENCH_SIDECAR || attach == BENCH_DIRECT)
		r = apart_open(s, b, attach == BENCH_SIDECAR);
	else
		r = dev_open(s, b, attach == BENCH_HOST ? "unix://" : "tcp://");
	return r;
}

void own_store_close(struct own_store *s)
{
	child_stop(&s->front);
	for (unsigned i = OWN_STORE_BEHIND; i-- > 0;)
		child_stop(&s->behind[i]);
}
