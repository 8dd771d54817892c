/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static int output_write(struct sink *s, const uint8_t *data, size_t len)
{
	struct output *o = (struct output *)s; /* its first member */

	while (len > 0) {
		ssize_t n = write(o->fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return problem_set(o->problem, -errno, "%s: cannot write: %s", o->temporary,
					   strerror(errno));
		data += n;
		len -= (size_t)n;
		o->written += (uint64_t)n;
	}
	return 0;
}

_Static_assert(offsetof(struct output, sink) == 0, "a sink of ours is an output");

static char *temporary_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	uint64_t unique = 0;
	char *temporary;

	(void)!getrandom(&unique, sizeof(unique), 0); /* then O_EXCL says no, and we say why */
	if (asprintf(&temporary, "%.*s.%s-%016llx", (int)(name - path), path, name,
		     (unsigned long long)unique) < 0)
		return NULL;
	return temporary;
}

int output_open(struct output *o, const char *path, struct problem *problem)
{
	*o = (struct output){
		.sink.write = output_write,
		.problem = problem,
		.fd = -1,
		.path = strdup(path),
		.temporary = temporary_of(path),
	};
	if (!o->path || !o->temporary)
		return problem_set(problem, -ENOMEM, "no memory for the name of %s", path);
	o->fd = open(o->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (o->fd < 0)
		return problem_set(problem, -errno, "%s: cannot create: %s", o->temporary,
				   strerror(errno));
	return 0;
}

int output_commit(struct output *o)
{
	if (rename(o->temporary, o->path) < 0)
		return problem_set(o->problem, -errno, "%s: cannot rename: %s", o->path,
				   strerror(errno));
	close(o->fd);
	o->fd = -1;
	return 0;
}

void output_fini(struct output *o)
{
	if (o->fd >= 0) {
		close(o->fd);
		unlink(o->temporary);
	}
	free(o->path);
	free(o->temporary);
	*o = (struct output){ .fd = -1 };
}
