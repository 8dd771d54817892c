/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dev: the commands that run servers: their options, as a process_config.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "base/log.h"
#include "cli/process.h"
#include "loop/stream.h"

static void set_log(unsigned level, bool is_json)
{
	log_set_level((enum log_level)level);
	log_set_json(is_json);
}

/* 0, or the exit code. Names of hosts are for clients; a server is told a number, or localhost. */
static int check_listen(const struct invocation *in, const char *const *addresses, size_t count)
{
	struct address a;

	for (size_t i = 0; i < count; i++)
		if (addresses[i] && address_parse(addresses[i], &a) < 0)
			return fail_usage(in,
					  "'%.200s' is not an address of this host; type a "
					  "number, as 127.0.0.1:4870 or [::1]:4870",
					  addresses[i]);
	return 0;
}

int command_dev(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	struct dev_options o;
	int code;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = check_listen(&in, (const char *const[]){ o.listen, o.http, o.redis, o.direct }, 4);
	if (code)
		return code;
	set_log(o.log_level, o.log_json);
	return process_run(&(struct process_config){
		.roles = WITH_META | WITH_STORE | WITH_PROXY,
		.memory_bytes = o.memory,
		.shard_count = (unsigned)o.shards,
		.loop_count = 1,
		.listen = o.listen,
		.http = o.http,
		.redis = o.redis,
		.direct = o.direct,
		.socket = o.socket,
		.data = o.data,
		.snapshot_bytes = o.snapshot,
		.keep_ms = o.keep_s,
		.store_gone_ms = STORE_GONE_MS_DEFAULT,
		.token_key_file = o.token_key,
		.is_dev = true,
		.trusts_local = true,
	});
}

/* "meta,store" as a set; 0 if a word is none. */
static unsigned roles_of(const char *list)
{
	static const struct {
		const char *name;
		unsigned role;
	} names[] = { { "meta", WITH_META }, { "store", WITH_STORE }, { "proxy", WITH_PROXY } };
	unsigned roles = 0;

	while (list && *list) {
		size_t n = strcspn(list, ",");
		unsigned role = 0;

		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (strlen(names[i].name) == n && strncmp(list, names[i].name, n) == 0)
				role = names[i].role;
		if (!role)
			return 0;
		roles |= role;
		list += n + (list[n] == ',');
	}
	return roles;
}

/* In the order of --socket-for. */
static const unsigned SOCKET_MODES[] = { 0600, 0660, 0666 };

static int run(int argc, char **argv, unsigned roles)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	struct role_options o;
	int code;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	if (!roles)
		roles = roles_of(o.roles);
	if (!roles)
		return fail_usage(&in, "--roles takes meta, store, proxy, or some of them with "
				       "commas between");
	if (!(roles & WITH_META) && !o.meta)
		return fail_usage(&in, "--meta says where the metadata servers are");
	if (o.loops > 1 && !(roles & WITH_PROXY))
		return fail_usage(&in, "--loops is of proxies; metadata has --shards, and a store "
				       "one loop");
	if (o.loops > 1 && roles & WITH_STORE)
		return fail_usage(&in,
				  "--loops is for a proxy without a store, which has one loop; "
				  "run `wadi store` and `wadi proxy --loops %llu` as "
				  "processes of their own",
				  (unsigned long long)o.loops);
	code = check_listen(&in, (const char *const[]){ o.listen, o.http, o.redis }, 3);
	if (code)
		return code;
	set_log(o.log_level, o.log_json);
	return process_run(&(struct process_config){
		.roles = roles,
		.memory_bytes = o.memory,
		.shard_count = (unsigned)o.shards,
		.loop_count = (unsigned)o.loops,
		.listen = o.listen,
		.http = roles & WITH_PROXY ? o.http : NULL,
		.redis = roles & WITH_PROXY ? o.redis : NULL,
		.socket = o.socket,
		.data = o.data,
		.snapshot_bytes = o.snapshot,
		.keep_ms = o.keep_s,
		.store_gone_ms = o.store_gone,
		.metas = o.meta,
		.key_file = o.key,
		.token_key_file = o.token_key,
		.advertise = o.advertise,
		.socket_mode = SOCKET_MODES[o.socket_for],
		.trusts_local = o.trust_local,
		.is_isolated = o.isolated,
	});
}

int command_run(int argc, char **argv)
{
	return run(argc, argv, 0);
}

int command_meta(int argc, char **argv)
{
	return run(argc, argv, WITH_META);
}

int command_store(int argc, char **argv)
{
	return run(argc, argv, WITH_STORE);
}

int command_proxy(int argc, char **argv)
{
	return run(argc, argv, WITH_PROXY);
}
