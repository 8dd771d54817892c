/* SPDX-License-Identifier: Apache-2.0 */
/*
 * closed: why a Unix socket cannot be connected to, as far as its path tells. Whoever is kept out
 * by its mode is told "nobody listens" otherwise, and looks for somebody who does.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attach/handle.h"

static bool is_closed(const char *path, int way)
{
	return faccessat(AT_FDCWD, path, way, AT_EACCESS) < 0 && errno == EACCES;
}

static void say(char *buf, size_t cap, const char *path, const char *what_to_do)
{
	struct stat s;
	int n = snprintf(buf, cap, "%s is closed to uid %u", path, geteuid());

	if (n < 0 || (size_t)n >= cap)
		return;
	if (stat(path, &s) == 0)
		n += snprintf(buf + n, cap - (size_t)n, ": it is uid %u's, mode %04o", s.st_uid,
			      s.st_mode & 07777);
	if ((size_t)n < cap)
		snprintf(buf + n, cap - (size_t)n, "; %s", what_to_do);
}

/* Each directory from the first on, then the socket. */
bool socket_is_closed(const struct address *a, char *buf, size_t cap)
{
	char path[sizeof(a->u.un.sun_path) + 1] = "";

	if (a->kind != ADDRESS_UNIX)
		return false;
	memcpy(path, a->u.un.sun_path, sizeof(a->u.un.sun_path));
	for (char *p = strchr(path, '/'); p; p = strchr(p + 1, '/')) {
		char next = p[1];

		p[1] = '\0';
		if (is_closed(path, X_OK)) {
			say(buf, cap, path, "have the socket elsewhere, with --socket");
			return true;
		}
		p[1] = next;
	}
	if (!is_closed(path, W_OK))
		return false;
	say(buf, cap, path, "start the proxy with --socket-for group or all");
	return true;
}
