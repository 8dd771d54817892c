/* SPDX-License-Identifier: Apache-2.0 */
/*
 * get: objects to files and streams.
 *
 * A file appears when it is whole: it is written under another name in the same
 * directory, which goes if we fail or are ended.
 */
#include "cli/get.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/quantity.h"
#include "cli/cli.h"
#include "cli/terminal.h"

int write_full(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int fail_directory(const struct get *g, const char *path)
{
	char shown[PATH_TEXT_MAX], safe[PATH_TEXT_MAX];
	bool has_slash;

	/* The directory of the job itself has no name but the whole one. */
	path_shown(g->w, path, shown);
	name_safe(*path ? path : shown, strlen(*path ? path : shown), safe, sizeof(safe));
	has_slash = safe[strlen(safe) - 1] == '/';
	fprintf(stderr,
		"wadi: get %s: DIRECTORY: the path names a directory; `wadi get %s%s` writes what "
		"is in it\n",
		shown, safe, has_slash ? "" : "/");
	return EXIT_REFUSED;
}

int get_stream(struct get *g, const char *path, int fd, const char *name)
{
	struct wadi_reader *reader;
	struct wadi_stat stat;
	char shown[PATH_TEXT_MAX];
	uint64_t len;
	int r = wadi_reader_open(g->w, path, &g->options, &reader), code = EXIT_DONE;
	int64_t n;

	if (r == -EISDIR)
		return fail_directory(g, path);
	if (r < 0)
		return fail_status(g->in, g->w, path, r);
	wadi_reader_stat(reader, &stat);
	len = stat.len > g->options.offset ? stat.len - g->options.offset : 0;
	if (g->options.len && g->options.len < len)
		len = g->options.len;
	progress_begin(&g->progress, path_shown(NULL, path, shown), len, fd == STDOUT_FILENO);
	while ((n = wadi_reader_read(reader, g->buf, GET_PIECE)) > 0) {
		r = write_full(fd, g->buf, (size_t)n);
		if (r < 0)
			break;
		progress_add(&g->progress, (uint64_t)n);
	}
	progress_end(&g->progress);
	if (n < 0)
		code = fail_status(g->in, g->w, path, (int)n);
	else if (r < 0)
		code = fail_local(g->in, "cannot write to", name, r);
	wadi_reader_close(&reader);
	return code;
}

/* The unfinished file, for the signal's handler: it goes, and so do we. */
static char unfinished[4096];

static void drop_unfinished(int signo)
{
	if (unfinished[0])
		unlink(unfinished);
	/* The action is the default again: the shell sees what ended us. */
	raise(signo);
}

/* SIGPIPE comes where nobody reads what we say about another object. */
static const int SIGNALS[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };

static void watch_signals(void)
{
	struct sigaction action = { .sa_handler = drop_unfinished,
				    .sa_flags = SA_RESETHAND | SA_NODEFER };

	for (size_t i = 0; i < sizeof(SIGNALS) / sizeof(SIGNALS[0]); i++) {
		struct sigaction old;

		/* What our parent had us ignore stays ignored. */
		if (sigaction(SIGNALS[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			(void)sigaction(SIGNALS[i], &action, NULL);
	}
	/* A file that may not be so long is a write() that fails, and says so. */
	signal(SIGXFSZ, SIG_IGN);
}

/* While `unfinished` is not the name of a file of ours, or is half of one, nobody removes that. */
static void hold_signals(int how)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(SIGNALS) / sizeof(SIGNALS[0]); i++)
		sigaddset(&set, SIGNALS[i]);
	sigprocmask(how, &set, NULL);
}

/* A new file beside `file`, open; its name is in `unfinished`. */
static int open_unfinished(const char *file)
{
	const char *slash = strrchr(file, '/');
	int dir_len = slash ? (int)(slash + 1 - file) : 0;
	static unsigned number;
	int fd, n, r;

	hold_signals(SIG_BLOCK);
	do {
		n = snprintf(unfinished, sizeof(unfinished), "%.*s.wadi-%d-%u", dir_len, file,
			     (int)getpid(), number++);
		if (n < (int)sizeof(unfinished))
			fd = open(unfinished, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		else
			fd = -1, errno = ENAMETOOLONG;
	} while (fd < 0 && errno == EEXIST);
	r = fd < 0 ? -errno : fd;
	if (fd < 0)
		unfinished[0] = '\0';
	hold_signals(SIG_UNBLOCK);
	return r;
}

/* Of an object, or, with a slash at its end, of the objects in a directory. */
static int get_any(struct get *g, const char *path, int fd, const char *name)
{
	size_t len = strlen(path);

	if (len && path[len - 1] == '/')
		return get_children(g, path, fd, name);
	return get_stream(g, path, fd, name);
}

/* Pipes and devices are written as they are. */
static int get_special(struct get *g, const char *path, const char *file)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC), code;

	if (fd < 0)
		return fail_local(g->in, "cannot open", file, -errno);
	code = get_any(g, path, fd, file);
	if (close(fd) < 0 && !code)
		code = fail_local(g->in, "cannot write to", file, -errno);
	return code;
}

/* Writes beside `file` and gives it the name when it is whole. `old`: what is there now, or NULL.
 */
static int get_whole(struct get *g, const char *path, const char *file, const struct stat *old)
{
	int fd = open_unfinished(file), code;

	if (fd < 0)
		return fail_local(g->in, "cannot write to", file, fd);
	if (old)
		(void)fchmod(fd, old->st_mode & 0777); /* as far as that may be kept */
	code = get_any(g, path, fd, file);
	if (close(fd) < 0 && !code)
		code = fail_local(g->in, "cannot write to", file, -errno);
	if (!code && rename(unfinished, file) < 0)
		code = fail_local(g->in, "cannot write to", file, -errno);
	if (code)
		unlink(unfinished);
	unfinished[0] = '\0';
	return code;
}

/* Into a directory under the last part of the object's own name. */
static int get_into(struct get *g, const char *path, const char *directory)
{
	size_t len = strlen(path);
	const char *base;
	char *file;
	int code;

	if (len && path[len - 1] == '/')
		return fail_usage(g->in, "'%.200s' is a directory; type a file, or -r", directory);
	base = strrchr(path, '/');
	if (asprintf(&file, "%s/%s", directory, base ? base + 1 : path) < 0)
		return fail_local(g->in, "cannot write to", directory, -ENOMEM);
	code = get_whole(g, path, file, NULL);
	free(file);
	return code;
}

int get_file(struct get *g, const char *path, const char *file)
{
	char *real = NULL;
	struct stat st;
	int code;

	if (stat(file, &st) < 0)
		return get_whole(g, path, file, NULL);
	if (S_ISDIR(st.st_mode))
		return get_into(g, path, file);
	if (!S_ISREG(st.st_mode))
		return get_special(g, path, file);
	/* A link stays one: what it points at is replaced. */
	real = realpath(file, NULL);
	code = get_whole(g, path, real ? real : file, &st);
	free(real);
	return code;
}

/* "A-B", both included, or "A-". */
static int parse_range(const struct invocation *in, const char *text, uint64_t *ret_offset,
		       uint64_t *ret_len)
{
	const char *dash = strchr(text, '-');
	char first[24];
	uint64_t last;

	if (!dash || dash == text || (size_t)(dash - text) >= sizeof(first))
		goto bad;
	memcpy(first, text, (size_t)(dash - text));
	first[dash - text] = '\0';
	if (count_parse(first, ret_offset) < 0)
		goto bad;
	*ret_len = 0;
	if (!dash[1])
		return EXIT_DONE;
	if (count_parse(dash + 1, &last) < 0 || last < *ret_offset)
		goto bad;
	*ret_len = last - *ret_offset + 1;
	return EXIT_DONE;
bad:
	return fail_usage(in,
			  "--range: '%.100s' is not a range; type A-B, as 0-99 for the first 100 "
			  "bytes, or A- for all from A on",
			  text);
}

static int check_usage(const struct invocation *in, const struct get_options *o, struct get *g)
{
	const char *path = in->words[0];
	size_t len = strlen(path);

	if (o->follow)
		return fail_usage(in, "--follow is not in this build; --wait waits for an object");
	if (o->recursive && in->word_count < 2)
		return fail_usage(in,
				  "-r needs a directory for the files; type: wadi get -r PATH DIR");
	if (o->recursive && strcmp(in->words[1], "-") == 0)
		return fail_usage(
			in, "-r writes files; type a directory in place of -, or leave -r out");
	if (o->recursive && (o->range || o->wait))
		return fail_usage(in,
				  "--range and --wait are of one object; leave them out, or -r");
	if (len && path[len - 1] == '/' && o->range)
		return fail_usage(in, "--range is of one object, and '%.200s' a directory", path);
	if (o->range)
		return parse_range(in, o->range, &g->options.offset, &g->options.len);
	return EXIT_DONE;
}

int command_get(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct get g = { .in = &in, .options = WADI_GET_OPTIONS };
	struct get_options o;
	int code;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = check_usage(&in, &o, &g);
	if (code)
		return code;
	code = client_open(&in, &w);
	if (code)
		return code;

	g.w = w;
	g.options.wait_ms = (uint32_t)o.wait;
	g.buf = malloc(GET_PIECE);
	watch_signals();
	if (!g.buf)
		code = fail_local(&in, "cannot get", in.words[0], -ENOMEM);
	else if (o.recursive)
		code = get_tree(&g, in.words[0], in.words[1]);
	else if (in.word_count < 2 || strcmp(in.words[1], "-") == 0)
		code = get_any(&g, in.words[0], STDOUT_FILENO, "standard output");
	else
		code = get_file(&g, in.words[0], in.words[1]);
	free(g.buf);
	return code;
}
