/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put: files and streams into the store.
 *
 * What ends within PUT_SMALL bytes is one call, a longer one a stream, whether it comes
 * from a file or a pipe. Nothing has to be undone when we are killed: what was not
 * committed goes with our connection.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wadi/wadi.h>

#include "base/hash.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/put.h"
#include "cli/terminal.h"

static int parse_hex(const char *text, size_t len, uint64_t *ret)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		int digit = c >= '0' && c <= '9'   ? c - '0'
			    : c >= 'a' && c <= 'f' ? c - 'a' + 10
			    : c >= 'A' && c <= 'F' ? c - 'A' + 10
						   : -1;

		if (digit < 0)
			return -EINVAL;
		n = n << 4 | (uint64_t)digit;
	}
	*ret = n;
	return 0;
}

/* 32 hexadecimal digits are an attempt as a program has it; any other word is hashed to one. */
static struct wadi_attempt attempt_of(const char *text)
{
	size_t len = strlen(text);
	struct wadi_attempt a;
	struct hash_128 h;

	if (len == 32 && parse_hex(text, 16, &a.hi) == 0 && parse_hex(text + 16, 16, &a.lo) == 0 &&
	    (a.hi | a.lo) != 0)
		return a;
	h = hash_128(text, len, 0);
	return (struct wadi_attempt){ .hi = h.hi, .lo = h.lo | 1 };
}

static void map_options(const struct put_options *o, struct wadi_put_options *ret)
{
	*ret = (struct wadi_put_options)WADI_PUT_OPTIONS;
	ret->flags = o->create ? WADI_CREATE : 0;
	ret->ttl_ms = (uint32_t)o->ttl;
	ret->reads = (uint32_t)o->reads;
	ret->copies = (uint32_t)o->copies;
	ret->if_version = o->if_version;
	ret->tier = (enum wadi_tier)o->tier; /* the choice has the enum's order */
	if (o->attempt)
		ret->attempt = attempt_of(o->attempt);
}

ssize_t read_full(int fd, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* A negative errno of the store's, or *ret_read of the file's. `p->buf` has the first `len` bytes.
 */
static int put_long(struct put *p, int fd, const char *path, uint64_t len_hint, size_t len,
		    int *ret_read)
{
	struct wadi_writer *writer;
	int r = wadi_writer_open(p->w, path, len_hint, &p->options, &writer);

	if (r < 0)
		return r;
	while (len > 0) {
		ssize_t n;

		r = wadi_writer_write(writer, p->buf, len);
		if (r < 0) {
			wadi_writer_abandon(&writer);
			return r;
		}
		p->len += len;
		progress_add(&p->progress, len);
		n = read_full(fd, p->buf, PUT_SMALL);
		if (n < 0) {
			*ret_read = (int)n;
			wadi_writer_abandon(&writer);
			return 0;
		}
		len = (size_t)n;
	}
	return wadi_writer_commit(&writer, &p->version);
}

/* The last part of a path says most in a narrow window. */
static const char *label_of(const char *name, char *buf, size_t cap)
{
	const char *slash = strrchr(name, '/');

	name = slash && slash[1] ? slash + 1 : name;
	return name_safe(name, strlen(name), buf, cap);
}

int put_stream(struct put *p, int fd, const char *name, const char *path)
{
	uint64_t len_hint = 0;
	struct stat st;
	char safe[256];
	ssize_t n;
	int r, read_error = 0;

	p->len = 0;
	/* One byte more tells a small one from a longer one. */
	n = read_full(fd, p->buf, PUT_SMALL + 1);
	if (n < 0)
		return fail_local(p->in, "cannot read", name, (int)n);
	if (n <= PUT_SMALL) {
		p->len = (uint64_t)n;
		r = wadi_put(p->w, path, p->buf, (size_t)n, &p->options, &p->version);
	} else {
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
			len_hint = (uint64_t)st.st_size;
		progress_begin(&p->progress, label_of(name, safe, sizeof(safe)), len_hint, false);
		r = put_long(p, fd, path, len_hint, (size_t)n, &read_error);
		progress_end(&p->progress);
	}
	if (read_error < 0)
		return fail_local(p->in, "cannot read", name, read_error);
	return r < 0 ? fail_status(p->in, p->w, path, r) : EXIT_DONE;
}

static void tell(const struct put *p, const char *path)
{
	struct json j;

	if (!p->is_json)
		return;
	j = json_begin(stdout);
	json_word(&j, "path", path);
	json_number(&j, "length", p->len);
	json_exact(&j, "version", p->version);
	json_end(&j);
}

int put_file(struct put *p, const char *file, const char *path)
{
	bool is_stdin = strcmp(file, "-") == 0;
	int fd = is_stdin ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC), code;

	if (fd < 0)
		return fail_local(p->in, "cannot open", file, -errno);
	code = put_stream(p, fd, is_stdin ? "standard input" : file, path);
	if (!is_stdin)
		close(fd);
	if (code == EXIT_DONE)
		tell(p, path);
	return code;
}

/* PATH, or PATH/FILE's own name if it ends in /. Whoever calls frees it. */
static int target_of(const struct invocation *in, const char *file, const char *path, char **ret)
{
	size_t len = strlen(path), file_len = strlen(file);
	const char *base;

	if (len == 0 || path[len - 1] != '/') {
		*ret = strdup(path);
		return EXIT_DONE;
	}
	if (strcmp(file, "-") == 0)
		return fail_usage(in,
				  "standard input has no name to go behind '%.200s'; type the "
				  "object's whole path",
				  path);
	while (file_len > 0 && file[file_len - 1] == '/')
		file_len--;
	base = memrchr(file, '/', file_len);
	base = base ? base + 1 : file;
	if (asprintf(ret, "%s%.*s", path, (int)(file + file_len - base), base) < 0)
		*ret = NULL;
	return EXIT_DONE;
}

static int check_usage(const struct invocation *in, const struct put_options *o)
{
	struct stat st;

	if (o->create && o->if_version)
		return fail_usage(in, "--create wants no object to be there and --if-version one; "
				      "type one of them");
	if (o->recursive && (o->attempt || o->if_version))
		return fail_usage(
			in, "--attempt and --if-version are of one object; leave them out, or -r");
	if (strcmp(in->words[0], "-") == 0)
		return o->recursive ? fail_usage(in, "-r needs a directory, not -") : EXIT_DONE;
	if (stat(in->words[0], &st) < 0)
		return fail_local(in, "cannot open", in->words[0], -errno);
	if (S_ISDIR(st.st_mode) && !o->recursive)
		return fail_usage(in, "'%.200s' is a directory; did you mean wadi put -r?",
				  in->words[0]);
	if (!S_ISDIR(st.st_mode) && o->recursive)
		return fail_usage(in, "'%.200s' is not a directory; leave -r out", in->words[0]);
	return EXIT_DONE;
}

int command_put(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct put p = { .in = &in };
	struct put_options o;
	char *path = NULL;
	int code;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = check_usage(&in, &o);
	if (code)
		return code;
	if (!o.recursive)
		code = target_of(&in, in.words[0], in.words[1], &path);
	if (code)
		return code;

	/* Before anything is read: a pipe can be read only once. */
	code = client_open(&in, &w);
	if (code == EXIT_DONE) {
		p.w = w;
		p.is_json = o.json;
		map_options(&o, &p.options);
		p.buf = malloc(PUT_SMALL + 1);
		if (!p.buf || (!o.recursive && !path))
			code = fail_local(&in, "cannot put", in.words[0], -ENOMEM);
		else if (o.recursive)
			code = put_tree(&p, in.words[0], in.words[1]);
		else
			code = put_file(&p, in.words[0], path);
	}
	free(p.buf);
	free(path);
	return code;
}
