/* SPDX-License-Identifier: Apache-2.0 */
#include "embedded.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANY_PORT "127.0.0.1:0"

/* Of a proxy without a pool: what is on its way, and rings. */
#define PROXY_MEMORY (128ull << 20)

static int server_add(struct embedded *e, const struct embedded_config *config,
		      const char *const argv[], struct problem *problem)
{
	int r = server_open(&e->servers[e->server_count], config->program, argv, problem);

	if (r == 0)
		e->server_count++;
	return r;
}

static const char *number(uint64_t v, char buf[32])
{
	snprintf(buf, 32, "%llu", (unsigned long long)v);
	return buf;
}

/* All roles in one process. */
static int dev_open(struct embedded *e, const struct embedded_config *config,
		    struct problem *problem)
{
	char memory[32];
	const char *argv[] = { "wadi",     "dev",    "--memory", number(config->memory, memory),
			       "--listen", ANY_PORT, "--http",   ANY_PORT,
			       "--redis",  ANY_PORT, NULL };
	int r = server_add(e, config, argv, problem);

	e->memory = config->memory;
	if (r == 0)
		strcpy(e->url,
		       config->attach == ATTACH_PROXY ? e->servers[0].tcp : e->servers[0].local);
	return r;
}

/*
 * Others are told where metadata is before it says so. Whoever asks the kernel for any port does
 * not get this one as long as the socket is there, which is returned and never listens; whoever
 * asks for this one does.
 */
static int port_find(char *buf, size_t cap)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, r = 0;
	socklen_t len = sizeof(in);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&in, len) < 0 ||
	    getsockname(fd, (struct sockaddr *)&in, &len) < 0)
		r = -errno;
	if (r < 0 && fd >= 0)
		close(fd);
	snprintf(buf, cap, "127.0.0.1:%u", ntohs(in.sin_port));
	return r < 0 ? r : fd;
}

/* Metadata signs tokens with it, and proxies know them by it. */
static int key_make(const char *directory, char *path, size_t cap)
{
	uint8_t random[32];
	int n = snprintf(path, cap, "%s/token.key", directory), fd, r = 0;

	if (n < 0 || (size_t)n >= cap)
		return -ENAMETOOLONG;
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EAGAIN;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(random) && r >= 0; i++)
		r = dprintf(fd, "%02x", random[i]);
	close(fd);
	return r < 0 ? -EIO : 0;
}

/* Roles apart; a proxy only if functions are to have one. */
static int apart_open(struct embedded *e, const struct embedded_config *config,
		      struct problem *problem)
{
	bool has_proxy = config->attach == ATTACH_SIDECAR;
	char at[32], key[PATH_MAX], meta_memory[32], store_memory[32], proxy_memory[32];
	const char *meta[] = { "wadi",        "meta",
			       "--listen",    at,
			       "--token-key", key,
			       "--memory",    number(config->meta_memory, meta_memory),
			       NULL };
	const char *store[] = {
		"wadi", "store",       "--listen", ANY_PORT,   "--meta",
		at,     "--token-key", key,        "--memory", number(config->memory, store_memory),
		NULL
	};
	const char *proxy[] = { "wadi",        "proxy",
				"--listen",    ANY_PORT,
				"--http",      ANY_PORT,
				"--redis",     ANY_PORT,
				"--meta",      at,
				"--token-key", key,
				"--memory",    number(PROXY_MEMORY, proxy_memory),
				NULL };
	int fd = port_find(at, sizeof(at));
	int r = fd < 0 ? fd : key_make(config->directory, key, sizeof(key));

	e->memory = config->memory + config->meta_memory + (has_proxy ? PROXY_MEMORY : 0);
	if (r < 0)
		problem_set(problem, r, "cannot start a store: %s", strerror(-r));
	else
		r = server_add(e, config, meta, problem);
	if (fd >= 0)
		close(fd);
	if (r == 0)
		r = server_add(e, config, store, problem);
	if (r == 0 && has_proxy)
		r = server_add(e, config, proxy, problem);
	if (r == 0 && has_proxy)
		strcpy(e->url, e->servers[2].local);
	else if (r == 0)
		snprintf(e->url, sizeof(e->url), "direct://%s", at);
	return r;
}

int embedded_open(struct embedded *e, const struct embedded_config *config, struct problem *problem)
{
	int r;

	*e = (struct embedded){ 0 };
	if (config->attach == ATTACH_SIDECAR || config->attach == ATTACH_DIRECT)
		r = apart_open(e, config, problem);
	else
		r = dev_open(e, config, problem);
	if (r == 0 && !e->url[0])
		r = problem_set(problem, -EHOSTUNREACH,
				"the store that was started has no such endpoint");
	if (r < 0)
		embedded_close(e);
	return r;
}

void embedded_close(struct embedded *e)
{
	while (e->server_count > 0)
		server_close(&e->servers[--e->server_count]);
}
