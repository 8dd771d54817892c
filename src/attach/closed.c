/* SPDX-License-Identifier: Apache-2.0 */
/*
 * closed: why a Unix socket cannot be connected to, as far as its path tells. Whoever is kept out
 * by its mode is told "nobody listens" otherwise, and looks for somebody who does. Who ends in
 * order takes its socket along, so one that is left is of somebody who was killed.
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

#define PATH_CAP (sizeof(((struct address *)NULL)->u.un.sun_path) + 1)

static bool path_of_socket(const struct address *a, char path[PATH_CAP])
{
	memset(path, 0, PATH_CAP);
	if (a->kind != ADDRESS_UNIX)
		return false;
	memcpy(path, a->u.un.sun_path, sizeof(a->u.un.sun_path));
	return true;
}

bool socket_is_left(const struct address *a)
{
	char path[PATH_CAP];
	struct stat s;

	return path_of_socket(a, path) && stat(path, &s) == 0 && S_ISSOCK(s.st_mode) &&
	       !is_closed(path, W_OK);
}

/* Each directory from the first on, then the socket. */
bool socket_is_closed(const struct address *a, char *buf, size_t cap)
{
	char path[PATH_CAP];

	if (!path_of_socket(a, path))
		return false;
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
