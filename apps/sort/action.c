/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wadi-sort-fn: the functions of the sort as a program, by the contract of OpenWhisk's
 * ActionLoop: where the platform says that it waits, an acknowledgement first; then for
 * each line of JSON on the standard input, however long, one on descriptor 3. Bad input
 * is answered too. The standard output is only a log. It ends with its input, which a
 * platform never closes. With --http or --openwhisk it is a server instead: service.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "function.h"
#include "service.h"

#define REPLY_FD 3

static int reply_write(const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = write(REPLY_FD, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fprintf(stderr,
				"wadi-sort-fn: cannot write to descriptor 3: %s; a "
				"platform opens it, and so does `3>&1` in a shell\n",
				strerror(errno));
			return -1;
		}
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A newline at the end, and the logs out, for platforms that read them per run. */
static int reply_line(const char *text)
{
	int r = reply_write(text);

	if (r == 0)
		r = reply_write("\n");
	fflush(stdout);
	fflush(stderr);
	return r;
}

int main(int argc, char **argv)
{
	const char *wants_ack = getenv("__OW_WAIT_FOR_ACK");
	struct instance instance = { 0 };
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;
	int r = 0;

	if (argc > 1)
		return service_main(argc, argv);
	if (wants_ack && *wants_ack)
		r = reply_line("{\"ok\":true}");
	while (r == 0 && (len = getline(&line, &cap, stdin)) >= 0) {
		char *reply = function_run(&instance, line, (size_t)len);

		r = reply_line(reply ? reply : "{\"error\":\"no memory\"}");
		free(reply);
	}
	instance_fini(&instance);
	free(line);
	return r < 0;
}
