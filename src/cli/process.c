/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/log.h"
#include "base/node.h"
#include "base/quantity.h"
#include "cli/budget.h"
#include "cli/kept.h"
#include "cli/machine.h"
#include "core/core.h"
#include "meta/meta.h"
#include "proxy/proxy.h"
#include "shm/archive.h"
#include "shm/ring.h"
#include "store/store.h"
#include "wire/token.h"

/* Between two roles of one loop: as much as a socket would buffer. */
#define PAIR_BYTES (256u << 10)

/* What is not pool: catalogs, values, buffers, stacks, the program itself. */
#define OTHER_SHARE     8
#define OTHER_BYTES_MIN (24ull << 20)

/* Of that, for the log. */
#define LOG_SHARE 4

#define STOP_NS  2000000000ull
#define START_NS 10000000000ull
#define KEY_MAX  256

/* Descriptors of files, listeners, loops. */
#define FILES_OF_OURS 64

/* A metadata shard, with the loop that it lives on. Shard 0 shares loop 0. */
struct shard_unit {
	struct process *process;
	uint16_t index;
	struct loop *loop;
	struct net *net;
	struct shard *shard;
	struct listener listener, unix_listener;
	pthread_t thread;
	bool has_thread, is_up;
	int result;
	struct letter stop;
	char address[ADDRESS_TEXT_MAX];
};

struct process {
	const struct process_config *config;
	struct kept_config kept_config;
	struct kept kept;
	char socket_path[ADDRESS_TEXT_MAX];
	struct loop *loop;
	struct net *net;
	struct shard_unit units[SHARDS_MAX];
	unsigned unit_count;
	struct address metas[SHARDS_MAX];
	unsigned meta_count;
	struct archive *archives[SHARDS_MAX]; /* of the units; NULL without --data */
	struct budget budget;
	struct store *store;
	struct core *core;
	struct mover *mover;
	struct proxy *proxy;
	struct listener listen, unix_listen, http, redis, store_listen;
	char advertised[ADDRESS_TEXT_MAX];
	uint8_t token_key[KEY_MAX], key[KEY_MAX + 1];
	size_t token_key_len, key_len;
	pthread_t signal_thread;
	struct letter stop;
	struct fiber starter;
	struct timer lost_parent;
	sigset_t signals;
	bool is_failed, has_signal_thread;
	pthread_mutex_t lock; /* units[].is_up, which other threads set */
	pthread_cond_t changed;
};

static int complain(const char *what, const char *name, int r)
{
	fprintf(stderr, "wadi: %s %s: %s\n", what, name, strerror(-r));
	return r;
}

/* Keys. */

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

/* As it was, or from now on, in a file that outlives the keeper, as durable jobs do. */
static int own_key(const char *directory, uint8_t key[TOKEN_KEY_BYTES])
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/token.key", directory);
	int fd = n < (int)sizeof(path) ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
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

static int load_keys(struct process *s)
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

/* Shards. */

static const char *unit_socket(const struct shard_unit *u, char *buf, size_t cap)
{
	snprintf(buf, cap, "unix://%s/shard-%u.sock", u->process->kept.dir.path, u->index);
	return buf;
}

static void unit_accept(struct listener *lr, struct stream *stream)
{
	struct shard_unit *u = lr->owner;

	shard_accept(u->shard, stream);
}

static int unit_listen(struct shard_unit *u, struct listener *lr, const char *text)
{
	struct address a;
	int r = address_parse(text, &a);

	*lr = (struct listener){ .accepted = unit_accept, .owner = u };
	if (r == 0)
		r = listener_open(u->loop, &a, lr);
	return r < 0 ? complain("cannot listen at", text, r) : 0;
}

/* "host:port" with a number added to its port, for the further shards of a metadata server. */
static int address_plus(const char *text, unsigned more, char *buf, size_t cap)
{
	struct address a;
	int r = address_parse(text, &a);
	uint16_t *port;

	if (r < 0)
		return complain("not an address:", text, r);
	port = a.u.any.sa_family == AF_INET6 ? &a.u.in6.sin6_port : &a.u.in.sin_port;
	if (a.kind == ADDRESS_TCP && *port != 0)
		*port = htons((uint16_t)(ntohs(*port) + more));
	address_format(&a, buf, cap);
	return 0;
}

static uint64_t other_bytes(const struct process *s)
{
	uint64_t other = s->config->memory_bytes / OTHER_SHARE;

	return other > OTHER_BYTES_MIN ? other : OTHER_BYTES_MIN;
}

/* Of each shard, out of what is not pool. */
static uint64_t log_bytes(const struct process *s)
{
	uint64_t bytes = other_bytes(s) / LOG_SHARE / s->unit_count;

	return bytes > LOG_BYTES_MIN ? bytes : LOG_BYTES_MIN;
}

static int unit_open(struct shard_unit *u)
{
	struct process *s = u->process;
	struct shard_config config = {
		.index = u->index,
		.count = (uint16_t)s->unit_count,
		.is_open_loopback = s->config->is_dev || !s->config->key_file,
		.key = { s->key, s->key_len },
		.token_key = { s->token_key, s->token_key_len },
		.keep = s->kept.keep,
		.archive = s->archives[u->index],
		.media = &media_memfd,
		.is_full = &s->budget.is_full,
		.log_bytes = log_bytes(s),
		.snapshot_bytes = s->config->snapshot_bytes,
		.store_gone_ms = s->config->store_gone_ms,
	};
	char text[ADDRESS_TEXT_MAX + 16];
	int r;

	for (unsigned i = 0; i < s->unit_count; i++)
		config.addresses[i] = s->units[i].address;
	r = shard_open(&config, u->loop, u->net, &u->shard);
	if (r < 0)
		return complain("cannot open", "a metadata shard", r);
	if (s->kept.is_again && !shard_went_on(u->shard))
		log_error(
			"All jobs of a metadata shard are lost: the keeper did not have its log. "
			"Server "
			"and keeper were killed at about the same time; --data keeps a log on disk "
			"shard=%u",
			u->index);
	if (u->index > 0 && s->config->is_dev)
		r = unit_listen(u, &u->unix_listener, unit_socket(u, text, sizeof(text)));
	if (r == 0 && !s->config->is_dev)
		r = unit_listen(u, &u->listener, u->address);
	return r;
}

static void unit_close(struct shard_unit *u)
{
	listener_close(&u->listener);
	listener_close(&u->unix_listener);
	if (u->shard)
		shard_close(u->shard);
	u->shard = NULL;
}

static void unit_stop(struct letter *l)
{
	struct shard_unit *u = container_of(l, struct shard_unit, stop);

	unit_close(u);
	loop_stop(u->loop);
}

static void unit_tell(struct shard_unit *u, int r)
{
	struct process *s = u->process;

	pthread_mutex_lock(&s->lock);
	u->result = r;
	u->is_up = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* Of one loop; each connection is a descriptor, and so is each segment. */
static unsigned conns_max(const struct process *s)
{
	struct rlimit l = { .rlim_cur = 1024 };
	uint64_t taken = FILES_OF_OURS + (s->store ? store_segments_max(s->store) : 0), most;

	getrlimit(RLIMIT_NOFILE, &l);
	most = l.rlim_cur > taken + FILES_OF_OURS ? l.rlim_cur - taken : FILES_OF_OURS;
	most = most < CONNS_MAX ? most : CONNS_MAX;
	return (unsigned)(most / (s->unit_count > 1 ? s->unit_count : 1));
}

/* Each is two descriptors more of a connection; at most a quarter of those is for that. */
static unsigned rings_max(const struct process *s)
{
	uint64_t most = s->config->memory_bytes / RING_SHARE / sizeof(struct ring_memory);
	unsigned by_files = conns_max(s) / 8;

	if (!(s->config->roles & WITH_PROXY) || !s->socket_path[0])
		return 0;
	most = most < by_files ? most : by_files;
	return most < RINGS_MAX ? (unsigned)most : RINGS_MAX;
}

static void *unit_main(void *arg)
{
	struct shard_unit *u = arg;
	int r = loop_open_epoll(&u->loop);

	if (r == 0)
		r = net_open(u->loop, &u->net);
	if (r == 0) {
		net_limit_conns(u->net, conns_max(u->process));
		r = unit_open(u);
	}
	unit_tell(u, r);
	if (r == 0)
		(void)loop_run(u->loop);
	else
		unit_close(u);
	/* Its letter may have arrived before loop_post() was done with the loop. */
	pthread_mutex_lock(&u->process->lock);
	pthread_mutex_unlock(&u->process->lock);
	if (u->loop) {
		(void)loop_turn(u->loop, 0);
		net_close(u->net);
		loop_close(u->loop);
	}
	return NULL;
}

/* A directory for each shard, since each has a thread of its own that writes there. */
static int archives_open(struct process *s)
{
	char path[PATH_MAX];
	int r = 0;

	for (unsigned i = 0; i < s->unit_count && r == 0 && s->config->data; i++) {
		if (snprintf(path, sizeof(path), "%s/shard-%u", s->config->data, i) >=
		    (int)sizeof(path))
			r = -ENAMETOOLONG;
		if (r == 0)
			r = archive_open(path, &s->archives[i]);
		if (r < 0)
			return complain("cannot keep a log in", path, r);
	}
	return 0;
}

static int units_open(struct process *s)
{
	int r = archives_open(s);

	for (unsigned i = 0; i < s->unit_count && r == 0; i++) {
		s->units[i] = (struct shard_unit){ .process = s,
						   .index = (uint16_t)i,
						   .stop = { .run = unit_stop } };
		if (s->config->is_dev)
			unit_socket(&s->units[i], s->units[i].address, ADDRESS_TEXT_MAX);
		else
			r = address_plus(s->config->listen, i, s->units[i].address,
					 ADDRESS_TEXT_MAX);
	}
	if (r == 0 && s->unit_count > 0) {
		s->units[0].loop = s->loop;
		s->units[0].net = s->net;
		r = unit_open(&s->units[0]);
	}
	for (unsigned i = 1; i < s->unit_count && r == 0; i++) {
		struct shard_unit *u = &s->units[i];

		r = -pthread_create(&u->thread, NULL, unit_main, u);
		u->has_thread = r == 0;
		pthread_mutex_lock(&s->lock);
		while (r == 0 && !u->is_up)
			pthread_cond_wait(&s->changed, &s->lock);
		pthread_mutex_unlock(&s->lock);
		if (r == 0)
			r = u->result;
	}
	return r;
}

/* must_leave: the start failed, and what a predecessor left is for the next one. */
static void units_close(struct process *s, bool must_leave)
{
	for (unsigned i = 0; i < s->unit_count && must_leave; i++)
		if (s->units[i].shard)
			shard_leave(s->units[i].shard);
	for (unsigned i = 1; i < s->unit_count; i++) {
		struct shard_unit *u = &s->units[i];

		if (!u->has_thread)
			continue;
		pthread_mutex_lock(&s->lock);
		if (u->result == 0)
			loop_post(u->loop, &u->stop);
		pthread_mutex_unlock(&s->lock);
		pthread_join(u->thread, NULL);
	}
	if (s->unit_count > 0)
		unit_close(&s->units[0]);
}

/* What the core and the store connect to. */

static int to_shard(void *owner, uint16_t index, struct stream **ret)
{
	struct process *s = owner;
	struct stream *ends[2];
	struct address a;
	int r;

	if (index == 0) {
		r = stream_pair(s->loop, PAIR_BYTES, ends);
		if (r == 0) {
			shard_accept(s->units[0].shard, ends[1]);
			*ret = ends[0];
		}
		return r;
	}
	r = address_parse(s->units[index].address, &a);
	return r < 0 ? r : stream_connect(s->loop, &a, ret);
}

static int parse_metas(struct process *s)
{
	const char *p = s->config->metas;

	while (p && *p) {
		char text[ADDRESS_TEXT_MAX];
		size_t n = strcspn(p, ",");
		int r = n < sizeof(text) && s->meta_count < SHARDS_MAX ? 0 : -EINVAL;

		snprintf(text, sizeof(text), "%.*s", (int)n, p);
		if (r == 0)
			r = address_resolve(text, &s->metas[s->meta_count++]);
		if (r < 0)
			return complain("not an address of --meta:", text, r);
		p += n + (p[n] == ',');
	}
	return 0;
}

static void segment_wanted(void *owner, uint64_t segment)
{
	struct process *s = owner;

	if (s->proxy)
		proxy_segment_wanted(s->proxy, segment);
}

static int store_start(struct process *s)
{
	struct store_config config = {
		.tier = TIER_DRAM,
		.name = "dram",
		.key = { s->key, s->key_len },
		.address = s->advertised,
		.keep = s->kept.keep,
		.wanted = segment_wanted,
		.owner = s,
	};
	struct stream *stream;
	int r;

	config.limit_bytes = s->config->memory_bytes - other_bytes(s);
	r = store_open(&config, s->loop, s->net, &s->store);
	for (unsigned i = 0; i < s->unit_count && r == 0; i++) {
		r = to_shard(s, (uint16_t)i, &stream);
		if (r == 0)
			r = store_join(s->store, stream);
	}
	for (unsigned i = 0; i < s->meta_count && r == 0 && s->unit_count == 0; i++)
		r = store_join_at(s->store, &s->metas[i]);
	return r < 0 ? complain("cannot open", "the store", r) : 0;
}

static void job_over(void *owner, uint64_t job)
{
	struct process *s = owner;

	if (s->proxy)
		proxy_job_over(s->proxy, job);
}

static void session_begun(void *owner, uint16_t shard, uint64_t session)
{
	kept_set_session(&((struct process *)owner)->kept, shard, session);
}

static int core_start(struct process *s)
{
	struct core_config config = {
		.owner = s,
		.key = { s->key, s->key_len },
		.job_over = job_over,
		.sessions = kept_sessions(&s->kept),
		.session_begun = session_begun,
		.metas = s->metas,
		.meta_count = s->meta_count,
	};
	int r;

	if (s->unit_count > 0) {
		config.shard_count = (uint16_t)s->unit_count;
		config.to_shard = to_shard;
	}
	if (s->store) {
		store_reach(s->store, &config.reach, &config.reach_ops);
		config.reach_store = store_incarnation(s->store);
	}
	r = core_open(s->net, &config, &s->core);
	return r < 0 ? complain("cannot open", "the store core", r) : 0;
}

static void emptied(void *owner, uint64_t segment, uint32_t generation, int result)
{
	store_emptied(((struct process *)owner)->store, segment, generation, result);
}

/* Where the bytes are. */
static int mover_start(struct process *s)
{
	int r = mover_open(s->core, emptied, s, &s->mover);

	if (r < 0)
		return complain("cannot open", "the mover", r);
	store_set_mover(s->store, s->mover, mover_empty);
	return 0;
}

static void add_info(void *owner, struct info_rep *info)
{
	struct process *s = owner;
	struct info_rep one;

	if (!s->store)
		return;
	store_info(s->store, &one);
	info->dram_limit = one.dram_limit;
	info->dram_used = one.dram_used;
	info->dram_clean = one.dram_clean;
	info->segment_count = one.segment_count;
	info_add_integral(info, &one);
	info->moment_ns = one.moment_ns;
	info->moved_bytes = mover_counters(s->mover)->moved_bytes;
}

/* Doors. */

static void accept_native(struct listener *lr, struct stream *stream)
{
	proxy_accept(((struct process *)lr->owner)->proxy, stream);
}

static void accept_http(struct listener *lr, struct stream *stream)
{
	proxy_accept_http(((struct process *)lr->owner)->proxy, stream);
}

static void accept_redis(struct listener *lr, struct stream *stream)
{
	proxy_accept_redis(((struct process *)lr->owner)->proxy, stream);
}

static void accept_store(struct listener *lr, struct stream *stream)
{
	(void)store_accept(((struct process *)lr->owner)->store, stream);
}

static int listen_at(struct process *s, struct listener *lr, enum kept_door door, const char *text,
		     void (*accepted)(struct listener *lr, struct stream *stream))
{
	static const char *const schemes[KEPT_DOORS] = { [KEPT_LISTEN] = "tcp",
							 [KEPT_UNIX] = "unix",
							 [KEPT_HTTP] = "http",
							 [KEPT_REDIS] = "redis" };
	char shown[ADDRESS_TEXT_MAX];
	struct address a;
	int r;

	text = kept_door(&s->kept, door, text);
	r = address_parse(text, &a);

	*lr = (struct listener){ .accepted = accepted, .owner = s };
	if (r == 0 && s->config->is_dev && !address_is_loopback(&a)) {
		fprintf(stderr,
			"wadi: %s is not a loopback address, and `wadi dev` asks for no tokens; "
			"use `wadi run` with --key and --token-key\n",
			text);
		return -EACCES;
	}
	if (r == 0)
		r = listener_open(s->loop, &a, lr);
	if (r < 0)
		return complain("cannot listen at", text, r);
	kept_set_door(&s->kept, door, &lr->address);
	address_format(&lr->address, shown, sizeof(shown));
	if (schemes[door]) {
		const char *at = strstr(shown, "://");

		printf("endpoint=%s%s\n", schemes[door], at ? at : shown);
	}
	return 0;
}

static int doors_open(struct process *s)
{
	const struct process_config *c = s->config;
	char text[ADDRESS_TEXT_MAX + 16];
	int r = 0;

	/* A process with metadata alone listens there for it; one with a store, for that. */
	if (c->roles & WITH_PROXY) {
		if (c->is_dev || !(c->roles & (WITH_META | WITH_STORE)))
			r = listen_at(s, &s->listen, KEPT_LISTEN, c->listen, accept_native);
		snprintf(text, sizeof(text), "unix://%s", s->socket_path);
		if (r == 0)
			r = listen_at(s, &s->unix_listen, KEPT_UNIX, text, accept_native);
		if (r == 0 && c->http)
			r = listen_at(s, &s->http, KEPT_HTTP, c->http, accept_http);
		if (r == 0 && c->redis)
			r = listen_at(s, &s->redis, KEPT_REDIS, c->redis, accept_redis);
	}
	return r;
}

/* Of a store that nobody else reaches: another one there is its successor, as at any address. */
#define HERE "here"

/* A store is told to others with its address, so it listens before it joins them. */
static int store_listen(struct process *s)
{
	const struct process_config *c = s->config;
	int r;

	if (!(c->roles & WITH_STORE))
		return 0;
	if (c->roles & WITH_META) {
		snprintf(s->advertised, sizeof(s->advertised), HERE);
		return 0;
	}
	r = listen_at(s, &s->store_listen, KEPT_STORE, c->listen, accept_store);
	if (r < 0)
		return r;
	if (c->advertise)
		snprintf(s->advertised, sizeof(s->advertised), "%s", c->advertise);
	else
		address_format(&s->store_listen.address, s->advertised, sizeof(s->advertised));
	return 0;
}

/* The end. */

static void stop_now(struct letter *l)
{
	loop_stop(container_of(l, struct process, stop)->loop);
}

static void *wait_for_signal(void *arg)
{
	struct process *s = arg;
	int signal;

	(void)sigwait(&s->signals, &signal);
	loop_post(s->loop, &s->stop);
	return NULL;
}

static int signals_open(struct process *s)
{
	int r;

	sigemptyset(&s->signals);
	sigaddset(&s->signals, SIGTERM);
	sigaddset(&s->signals, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	r = -pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
	s->stop.run = stop_now;
	if (r == 0)
		r = -pthread_create(&s->signal_thread, NULL, wait_for_signal, s);
	s->has_signal_thread = r == 0;
	return r;
}

/* As many descriptors as the kernel lets us have: each connection and each segment is one. */
static void raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* When the roles have found each other. */
static void start_run(struct fiber *self)
{
	struct process *s = container_of(self, struct process, starter);
	uint64_t due_ns = s->loop->now_ns + START_NS;
	int r = s->proxy ? core_wait_ready(s->core, due_ns) : 0;
	unsigned wanted = s->unit_count ? s->unit_count : s->meta_count;

	while (r == 0 && s->store && s->proxy && store_joined_count(s->store) < wanted &&
	       s->loop->now_ns < due_ns)
		r = core_sleep(s->core, s->loop->now_ns + 1000000);
	if (r == 0)
		r = doors_open(s);
	else if (r != -ECANCELED)
		complain("cannot reach", s->config->metas ? s->config->metas : "our own metadata",
			 r);
	if (r < 0) {
		s->is_failed = true;
		loop_stop(s->loop);
		return;
	}
	printf("ready\n");
	fflush(stdout);
}

/*
 * Above it the kernel would kill us, or a function, in the middle of a put: it has no
 * other way to say no to whoever touches memory.
 */
static int check_memory(uint64_t memory)
{
	char where[MEMORY_WHERE_MAX], size[QUANTITY_TEXT_MAX], most_text[QUANTITY_TEXT_MAX];
	uint64_t most = memory_most(where, sizeof(where));

	if (memory <= most)
		return 0;
	fprintf(stderr,
		"wadi: --memory %s does not fit: %s %s; start with --memory %lluM or less\n",
		bytes_exact(memory, size), where, bytes_rough(most, most_text),
		(unsigned long long)(most / 10 * 9 >> 20));
	return -ENOMEM;
}

static int process_start(struct process *s)
{
	const struct process_config *c = s->config;
	struct address a;
	uint16_t port = 0;
	int r = address_parse(c->listen, &a);

	if (r < 0)
		return complain("not an address:", c->listen, r);
	r = check_memory(c->memory_bytes);
	if (r < 0)
		return r;
	if (a.kind == ADDRESS_TCP)
		port = ntohs(a.u.any.sa_family == AF_INET6 ? a.u.in6.sin6_port : a.u.in.sin_port);
	s->kept_config = (struct kept_config){ port, c->data, c->keep_ms };
	r = kept_open(&s->kept, &s->kept_config);
	if (r < 0)
		return r;
	if (c->socket)
		snprintf(s->socket_path, sizeof(s->socket_path), "%s", c->socket);
	else if (c->roles & WITH_PROXY)
		snprintf(s->socket_path, sizeof(s->socket_path), "%s/proxy.sock", s->kept.dir.path);
	r = load_keys(s);
	if (r == 0 && !c->token_key_file && c->roles & (WITH_META | WITH_PROXY) &&
	    !(c->roles & WITH_META && c->roles & WITH_PROXY)) {
		fprintf(stderr, "wadi: --token-key is needed: metadata makes tokens with it, and "
				"proxies know them by it\n");
		r = -EINVAL;
	}
	if (r == 0 && !c->is_dev && !address_is_loopback(&a) &&
	    (!c->key_file || !c->token_key_file)) {
		fprintf(stderr,
			"wadi: %s is not a loopback address: --key and --token-key are needed\n",
			c->listen);
		r = -EACCES;
	}
	if (r == 0)
		r = loop_open_epoll(&s->loop);
	if (r == 0)
		r = net_open(s->loop, &s->net);
	if (r == 0)
		r = signals_open(s);
	if (r == 0)
		r = parse_metas(s);
	if (r == 0 && c->roles & WITH_META) {
		s->unit_count = c->shard_count;
		r = units_open(s);
	}
	if (r == 0)
		r = store_listen(s);
	if (r == 0 && c->roles & WITH_STORE)
		r = store_start(s);
	if (r == 0 && c->roles & WITH_META)
		r = budget_open(&s->budget, s->loop, s->store, c->memory_bytes,
				s->store ? other_bytes(s) : c->memory_bytes);
	if (r == 0)
		net_limit_conns(s->net, conns_max(s) - 2 * rings_max(s));
	if (r == 0 && c->roles & (WITH_PROXY | WITH_STORE))
		r = core_start(s);
	if (r == 0 && s->store)
		r = mover_start(s);
	if (r == 0 && c->roles & WITH_PROXY) {
		struct proxy_config config = {
			.core = s->core,
			.token_key = s->token_key,
			.token_key_len = s->token_key_len,
			.key = { s->key, s->key_len },
			.rings_max = rings_max(s),
			.is_open_loopback = c->is_dev || !c->key_file,
			.add_info = add_info,
			.owner = s,
		};

		r = proxy_open(s->net, &config, &s->proxy);
	}
	if (r == 0)
		r = kept_start(&s->kept);
	if (r == 0)
		r = fiber_start(&s->loop->fibers, &s->starter, start_run, NULL);
	return r;
}

/*
 * Fibers end, connections close, memory goes back; what does not end in time is left to the
 * kernel. Who was told to end ends for good; who failed leaves what it found.
 */
static void process_stop(struct process *s, bool is_over)
{
	uint64_t due_ns = node_now_ns() + STOP_NS;

	listener_close(&s->listen);
	listener_close(&s->unix_listen);
	listener_close(&s->http);
	listener_close(&s->redis);
	listener_close(&s->store_listen);
	if (s->starter.run && s->starter.state != FIBER_ENDED)
		fiber_cancel(&s->starter);
	if (s->proxy)
		proxy_stop(s->proxy);
	mover_stop(s->mover);
	if (s->core)
		core_stop(s->core);
	while (s->loop && node_now_ns() < due_ns &&
	       (s->loop->fibers.alive_count > 0 || (s->proxy && !proxy_has_stopped(s->proxy))))
		if (loop_turn(s->loop, node_now_ns() + 1000000) < 0)
			break;
	budget_close(&s->budget);
	proxy_close(s->proxy);
	mover_close(s->mover);
	if (s->core)
		core_close(s->core);
	store_close(s->store);
	units_close(s, !is_over);
	for (int i = 0; s->loop && i < 3; i++)
		(void)loop_turn(s->loop, 0);
	if (s->has_signal_thread) {
		pthread_kill(s->signal_thread, SIGTERM); /* if it was not a signal that ended us */
		pthread_join(s->signal_thread, NULL);
	}
	if (s->net)
		net_close(s->net);
	if (s->loop && s->loop->fibers.alive_count == 0)
		loop_close(s->loop);
	for (unsigned i = 0; i < s->unit_count; i++)
		archive_close(s->archives[i]);
	kept_close(&s->kept, is_over);
}

int process_run(const struct process_config *config)
{
	struct process *s = node_alloc(sizeof(*s));
	int r;

	if (!s)
		return complain("cannot start", "", -ENOMEM), 1;
	s->config = config;
	s->kept.dir.lock_fd = s->kept.wake_fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	raise_limits();
	r = process_start(s);
	if (r == 0)
		r = loop_run(s->loop);
	if (s->is_failed)
		r = -EIO;
	process_stop(s, r == 0 || !s->kept.is_again);
	node_free(s);
	return r < 0 ? 1 : 0;
}
