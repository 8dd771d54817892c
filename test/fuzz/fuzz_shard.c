/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A metadata shard, and peers that say they are functions, proxies or stores.
 */
#include "server.h"

#include "meta/meta.h"

static const enum role ROLES[PEERS] = { ROLE_JOB, ROLE_PROXY, ROLE_STORE };
static const uint8_t TOKEN_KEY[32] = { 1, 2, 3 };
static struct shard *shard;

static void accept_shard(struct stream *s)
{
	shard_accept(shard, s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct shard_config config = { .count = 1,
				       .is_open_loopback = true,
				       .key = words(ROLES_KEY),
				       .token_key = { TOKEN_KEY, sizeof(TOKEN_KEY) },
				       .addresses = { "tcp://shard:1" } };
	struct net *net;

	world_open();
	REQUIRE(net_open(loop, &net) == 0);
	REQUIRE(shard_open(&config, loop, net, &shard) == 0);
	converse(bytes_of(data, len), SERVER_META, ROLES, accept_shard);
	shard_close(shard);
	turn_for(10 * MS);
	REQUIRE(net_counters(net)->conn_count == 0);
	net_close(net);
	world_close();
	return 0;
}

void fuzz_seeds(void)
{
	server_seeds();
}
