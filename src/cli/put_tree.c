/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put -r: the files below a directory, in byte order of their names. Small ones go
 * several at a time, so that the way to the store is paid once for all of them.
 *
 * One that cannot be put is told and left out; the others go on, unless nobody answers.
 */
#include "cli/put.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

#define IN_FLIGHT  16
#define TREE_SMALL (64 << 10)

struct flight {
	struct wadi_op *op; /* NULL: free */
	char *path, *buf;
};

struct tree {
	struct put *put;
	struct flight flights[IN_FLIGHT];
	unsigned next;
	char *prefix; /* of the paths, with its slash */
	int code;     /* the first that was not 0, or that ended it */
	bool is_over;
};

static void note(struct tree *t, int code)
{
	bool is_silence = exit_is_silence(code);

	if (!t->code || (is_silence && !t->is_over))
		t->code = code;
	t->is_over |= is_silence;
}

static void land(struct tree *t, struct flight *f)
{
	int64_t r;

	if (!f->op)
		return;
	r = wadi_op_end(&f->op);
	if (r < 0)
		note(t, fail_status(t->put->in, t->put->w, f->path, (int)r));
	free(f->path);
	f->path = NULL;
}

static void land_all(struct tree *t)
{
	for (unsigned i = 0; i < IN_FLIGHT; i++)
		land(t, &t->flights[(t->next + i) % IN_FLIGHT]);
}

/* Takes `path` if it returns 0. */
static int start(struct tree *t, char *path, const char *data, size_t len)
{
	struct flight *f = &t->flights[t->next];
	int r;

	land(t, f);
	if (!f->buf)
		f->buf = malloc(TREE_SMALL);
	if (!f->buf)
		return -ENOMEM;
	memcpy(f->buf, data, len);
	r = wadi_start_put(t->put->w, path, f->buf, len, &t->put->options, NULL, &f->op);
	if (r < 0)
		return r;
	f->path = path;
	t->next = (t->next + 1) % IN_FLIGHT;
	return 0;
}

static void put_one(struct tree *t, const char *file, off_t size, char *path)
{
	bool is_small = size <= TREE_SMALL && !t->put->is_json;
	int fd = open(file, O_RDONLY | O_CLOEXEC), r;
	ssize_t n = 0;

	if (fd < 0) {
		note(t, fail_local(t->put->in, "cannot open", file, -errno));
		free(path);
		return;
	}
	/* One byte more tells a small one from one that grows, or, as those of /proc, has no size.
	 */
	if (is_small)
		n = read_full(fd, t->put->buf, TREE_SMALL + 1);
	close(fd);
	if (!is_small || n > TREE_SMALL) {
		land_all(t);
		note(t, put_file(t->put, file, path));
		free(path);
		return;
	}
	r = n < 0 ? (int)n : start(t, path, t->put->buf, (size_t)n);
	if (r == 0)
		return;
	if (n < 0)
		note(t, fail_local(t->put->in, "cannot read", file, r));
	else
		note(t, fail_status(t->put->in, t->put->w, path, r));
	free(path);
}

static void visit(struct tree *t, const FTSENT *e, size_t root_len)
{
	const char *below = e->fts_path + root_len;
	char *path;

	switch (e->fts_info) {
	case FTS_D:
	case FTS_DP:
		return;
	case FTS_F:
		break;
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		note(t, fail_local(t->put->in, "cannot read", e->fts_path, -e->fts_errno));
		return;
	default:
		fail_usage(t->put->in, "left out '%.500s': %s", e->fts_path,
			   S_ISLNK(e->fts_statp->st_mode) ? "a symbolic link"
							  : "neither a file nor a directory");
		note(t, EXIT_REFUSED);
		return;
	}
	below += strspn(below, "/");
	if (asprintf(&path, "%s%s", t->prefix, below) < 0)
		note(t, fail_local(t->put->in, "cannot put", e->fts_path, -ENOMEM));
	else
		put_one(t, e->fts_path, e->fts_statp->st_size, path);
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

int put_tree(struct put *p, const char *directory, const char *path)
{
	char *root = strdup(directory), *roots[] = { root, NULL };
	struct tree t = { .put = p };
	size_t len = strlen(path);
	FTSENT *e;
	FTS *fts;

	fts = root ? fts_open(roots, FTS_COMFOLLOW | FTS_PHYSICAL | FTS_NOCHDIR, by_name) : NULL;
	if (!fts || asprintf(&t.prefix, "%s%s", path, len && path[len - 1] == '/' ? "" : "/") < 0) {
		t.prefix = NULL;
		note(&t, fail_local(p->in, "cannot read", directory, fts ? -ENOMEM : -errno));
	} else {
		while (!t.is_over && (e = fts_read(fts)))
			visit(&t, e, strlen(directory));
		if (!t.is_over && errno) /* as it is at the end, this is 0 */
			note(&t, fail_local(p->in, "cannot read all of", directory, -errno));
	}
	land_all(&t);

	if (fts)
		fts_close(fts);
	for (unsigned i = 0; i < IN_FLIGHT; i++)
		free(t.flights[i].buf);
	free(t.prefix);
	free(root);
	return t.code;
}
