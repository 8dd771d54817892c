/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep: `wadi keep DIR`, which a server starts for itself: it holds the server's memory,
 * so that it is there for the next one. The socket is its standard input; by hand it
 * makes one.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "shm/keeper.h"

static bool is_listening(int fd)
{
	int yes = 0;
	socklen_t len = sizeof(yes);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes;
}

/* As many descriptors as its owner may have, and none of those that the owner has. */
static void prepare(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
	(void)close_range(STDERR_FILENO + 1, ~0u, 0);
}

/* Signals that would end it while somebody's memory is here; they are for who is alone. */
static int end_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int command_keep(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	struct keep_options o;
	struct keeper_config config;
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	prepare();
	config = (struct keeper_config){
		.directory = in.words[0],
		.listen_fd = STDIN_FILENO,
		.stop_fd = end_signals(),
		.patience_ns = o.keep_s * 1000000,
	};
	if (!is_listening(STDIN_FILENO))
		config.listen_fd = keeper_listen(config.directory);
	r = config.listen_fd < 0 ? config.listen_fd : keeper_run(&config);
	return r < 0 ? fail_local(&in, "cannot keep memory in", config.directory, r) : EXIT_DONE;
}
