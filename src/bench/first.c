/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/first.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wadi/wadi.h>

#include "base/node.h"

#define LATE_MS 10000

/* Ours, but for the store that it asks. */
static char **environment(const struct first *f, char *endpoint, char *token)
{
	size_t count = 0, kept = 0;
	char **env;

	while (environ[count])
		count++;
	env = calloc(count + 3, sizeof(*env));
	if (!env)
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (strncmp(environ[i], "WADI_", 5) != 0 &&
		    strncmp(environ[i], "__OW_WADI_", 10) != 0)
			env[kept++] = environ[i];
	sprintf(endpoint, "WADI_ENDPOINT=%.255s", f->endpoint);
	sprintf(token, "WADI_TOKEN=%.1000s", f->token ? f->token : "");
	env[kept++] = endpoint;
	env[kept++] = token;
	return env;
}

static int spawn(const struct first *f, int out, pid_t *ret)
{
	char endpoint[300], token[1100], len[32];
	const char *argv[] = { f->program, "bench", "--first", f->key, "--sizes", len, NULL };
	posix_spawn_file_actions_t actions;
	char **env = environment(f, endpoint, token);
	int r;

	if (!env)
		return -ENOMEM;
	snprintf(len, sizeof(len), "%zu", f->len);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	r = posix_spawn(ret, f->program, &actions, NULL, (char *const *)argv, env);
	posix_spawn_file_actions_destroy(&actions);
	free(env);
	return -r;
}

/* All that it says, which is a line. */
static int hear(int fd, char *buf, size_t cap)
{
	uint64_t due_ns = node_now_ns() + LATE_MS * 1000000ull;
	size_t have = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, LATE_MS) <= 0 || node_now_ns() >= due_ns)
			return -ETIMEDOUT;
		n = read(fd, buf + have, cap - 1 - have);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	buf[have] = '\0';
	return 0;
}

int first_run(const struct first *f, struct first_times *ret)
{
	uint64_t begun_ns, opened_ns, ended_ns;
	char line[80];
	pid_t pid;
	int out[2], r;

	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	begun_ns = node_now_ns();
	r = spawn(f, out[1], &pid);
	close(out[1]);
	if (r == 0) {
		r = hear(out[0], line, sizeof(line));
		if (r < 0)
			kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
	}
	close(out[0]);
	if (r < 0)
		return r;
	if (sscanf(line, "%" SCNu64 " %" SCNu64, &opened_ns, &ended_ns) != 2)
		return -EPROTO;
	*ret = (struct first_times){ ended_ns - opened_ns, ended_ns - begun_ns };
	return 0;
}

int first_main(const char *key, size_t len)
{
	void *buf = malloc(len ? len : 1);
	uint64_t opened_ns = node_now_ns();
	struct wadi *w = NULL;
	int64_t r = buf ? wadi_open(NULL, &w) : -ENOMEM;

	if (r == 0)
		r = wadi_get(w, key, buf, len ? len : 1, NULL, NULL);
	if (r >= 0)
		printf("%" PRIu64 " %" PRIu64 "\n", opened_ns, node_now_ns());
	else
		fprintf(stderr, "wadi: bench: %s\n", wadi_strerror(w));
	wadi_close(w);
	free(buf);
	return r >= 0 ? 0 : 1;
}
