/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A storage server, and peers that say they are slots, proxies or functions: duties
 * that are doubled, late, or about segments of others; reads and writes anywhere.
 */
#include "server.h"

#include "shm/memory.h"
#include "store/store.h"

static const enum role ROLES[PEERS] = { ROLE_META, ROLE_PROXY, ROLE_META };
static const uint8_t TOKEN_KEY[32] = { 1, 2, 3 };
static struct store *store;

static void accept_store(struct stream *s)
{
	(void)store_accept(store, s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct store_config config = { .limit_bytes = 8u << 20,
				       .tier = TIER_DRAM,
				       .name = "fuzz",
				       .key = words(ROLES_KEY),
				       .token_key = { TOKEN_KEY, sizeof(TOKEN_KEY) },
				       .address = "tcp://store:1",
				       .media = &media_heap };
	struct info_rep info;
	struct net *net;

	world_open();
	REQUIRE(net_open(loop, &net) == 0);
	REQUIRE(store_open(&config, loop, net, &store) == 0);
	turn_for(MS);
	converse(bytes_of(data, len), SERVER_STORE, ROLES, accept_store);
	store_info(store, &info);
	REQUIRE(info.dram_used <= info.dram_limit);
	store_close(store);
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
