/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/node.h"

static int read_key(const char *file, uint8_t *key, size_t cap, size_t *ret_len)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, key, cap);
	int r = n < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	if (r < 0)
		return complain("cannot read the key", file, r);
	while (n > 0 && (key[n - 1] == '\n' || key[n - 1] == '\r'))
		n--;
	if (n < TOKEN_KEY_BYTES) {
		fprintf(stderr, "wadi: the key in %s has %zd bytes; it needs at least %d\n", file,
			n, TOKEN_KEY_BYTES);
		return -EINVAL;
	}
	*ret_len = (size_t)n;
	return 0;
}

/* One that is there can be read, whatever the disk takes. */
static int open_key(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0 || errno != EROFS)
		return fd;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		errno = EROFS;
	return fd;
}

/* As it was, or from now on, in a file that outlives the keeper, as durable jobs do. */
static int own_key(const char *directory, uint8_t key[TOKEN_KEY_BYTES])
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/token.key", directory);
	int fd = n < (int)sizeof(path) ? open_key(path) : -1;
	uint8_t found[TOKEN_KEY_BYTES];
	ssize_t got = fd < 0 ? -1 : pread(fd, found, sizeof(found), 0);
	int r = 0;

	if (got == sizeof(found))
		memcpy(key, found, sizeof(found));
	else if (fd < 0 || pwrite(fd, key, TOKEN_KEY_BYTES, 0) != TOKEN_KEY_BYTES || fsync(fd) < 0)
		r = errno ? -errno : -ENOSPC;
	if (fd >= 0)
		close(fd);
	return r < 0 ? complain("cannot keep the key of tokens in", path, r) : 0;
}

int keys_load(struct process *s)
{
	const struct process_config *c = s->config;
	int r = 0;

	if (c->token_key_file) {
		r = read_key(c->token_key_file, s->token_key, sizeof(s->token_key),
			     &s->token_key_len);
	} else {
		s->token_key_len = TOKEN_KEY_BYTES;
		node_random(s->token_key, TOKEN_KEY_BYTES);
		kept_key(&s->kept, s->token_key, TOKEN_KEY_BYTES);
		if (c->data)
			r = own_key(c->data, s->token_key);
	}
	if (r == 0 && c->key_file)
		r = read_key(c->key_file, s->key, KEY_MAX, &s->key_len);
	return r;
}

int keys_check(const struct process *s, bool is_loopback)
{
	const struct process_config *c = s->config;

	if (!c->token_key_file && c->roles & (WITH_META | WITH_PROXY) &&
	    !(c->roles & WITH_META && c->roles & WITH_PROXY)) {
		fprintf(stderr, "wadi: --token-key is needed: metadata makes tokens with it, and "
				"proxies know them by it\n");
		return -EINVAL;
	}
	if (!c->is_dev && !is_loopback && (!c->key_file || !c->token_key_file)) {
		fprintf(stderr,
			"wadi: %s is not a loopback address: --key and --token-key are needed\n",
			c->listen);
		return -EACCES;
	}
	return 0;
}
