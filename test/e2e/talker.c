/* SPDX-License-Identifier: Apache-2.0 */
/*
 * talker: a client, or a server's peer, that knows the protocol and does not keep it, over
 * real sockets: test_live.py runs it against servers. What it says is test/fuzz/talk.h's,
 * out of pseudo-random bytes: frames in any order, spoiled, again, cut short, several
 * connections interleaved, answers not read, connections cut.
 *
 *	talker ADDRESS SEED CONVERSATIONS job|proxy|meta|store proxy|meta|store [SECRET]
 *
 * The last but one is whose messages it sends. Prints its seed, how many frames it sent
 * and heard, and ends with 0; with 1 if a server said what is not of the protocol.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../fuzz/talk.h"
#include "loop/stream.h"
#include "wire/intake.h"

#define CONNS       6
#define STEPS       60
#define INPUT_BYTES 4096

struct peer_conn {
	int fd; /* -1: none */
	uint64_t session, epoch;
	struct intake in;
	bool is_half; /* talk_hear() */
	uint8_t body[FRAME_BODY_MAX], payload[4096];
};

static struct talk talk;
static struct peer_conn conns[CONNS];
static struct address address;
static enum role role;
static struct slice secret;
static uint64_t state, sent_count, heard_count;

static uint64_t roll(uint64_t below)
{
	uint64_t z = (state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z ^ (z >> 31)) % below;
}

static void drop(struct peer_conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/* Waits a moment for room, and leaves what finds none. */
static void say(struct peer_conn *c, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	sent_count++;
	for (int tries = 0; c->fd >= 0 && len > 0 && tries < 5; tries++) {
		ssize_t n = send(c->fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN) {
			drop(c);
		} else if (n < 0) {
			struct pollfd f = { .fd = c->fd, .events = POLLOUT };

			(void)poll(&f, 1, 2);
		} else {
			p += n;
			len -= (size_t)n;
		}
	}
}

static void heard(struct peer_conn *c)
{
	const struct frame f = c->in.frame;
	size_t len = f.payload_len <= sizeof(c->payload) ? f.payload_len : 0;

	heard_count++;
	intake_next(&c->in);
	talk_hear(&talk, &c->is_half, &f, (struct slice){ c->body, f.body_len },
		  (struct slice){ c->payload, len });
	if (f.flags & FRAME_REPLY)
		return;
	talk_answer(&talk, &f);
	say(c, talk.frame, talk.len);
}

static void listen_to(struct peer_conn *c)
{
	while (c->fd >= 0) {
		struct room room = intake_want(&c->in);
		uint32_t left;
		ssize_t n;

		switch (c->in.state) {
		case INTAKE_FRAME:
			intake_body(&c->in, c->body);
			continue;
		case INTAKE_PLACE:
			left = intake_payload_left(&c->in);
			intake_place(&c->in, c->payload,
				     left < sizeof(c->payload) ? left : sizeof(c->payload));
			continue;
		case INTAKE_WHOLE:
			heard(c);
			continue;
		default:
			break;
		}
		n = recv(c->fd, room.ptr, room.len, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			drop(c);
		else
			REQUIRE(intake_got(&c->in, (size_t)n) == 0);
	}
}

static void wait_for(struct peer_conn *c, int ms)
{
	struct pollfd f = { .fd = c->fd, .events = POLLIN };

	if (c->fd >= 0 && poll(&f, 1, ms) > 0)
		listen_to(c);
}

/* Most begin as they should. */
static void dial(struct peer_conn *c)
{
	c->fd = socket(address.u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(c->fd >= 0);
	if (connect(c->fd, &address.u.any, address.len) < 0) {
		perror("talker: connect");
		exit(3);
	}
	intake_init(&c->in);
	c->is_half = false;
	if (roll(16) == 0)
		return;
	talk_as(&talk, role, secret, 0, 0);
	talk_request(&talk, MESSAGE_HELLO);
	say(c, talk.frame, talk.len);
	wait_for(c, 50);
	c->session = talk.session;
	c->epoch = talk.epoch;
}

static void step(void)
{
	static uint8_t input[INPUT_BYTES];
	struct peer_conn *c = &conns[roll(CONNS)];
	unsigned what = (unsigned)roll(100);

	for (size_t i = 0; i < sizeof(input); i += 8)
		memcpy(input + i, &(uint64_t){ roll(UINT64_MAX) }, 8);
	talk.f.in = bytes_of(input, sizeof(input));
	if (c->fd < 0)
		dial(c);
	talk_as(&talk, role, secret, c->session, c->epoch);
	if (what < 75)
		talk_request(&talk, -1);
	if (what < 80) /* the last one again, perhaps on another connection */
		say(c, talk.frame, talk.len);
	else if (what < 85)
		say(c, talk.frame, talk.len > 0 ? roll(talk.len) : 0);
	else if (what < 88)
		say(c, input, roll(sizeof(input)));
	else if (what < 92)
		drop(c);
	if (roll(4))
		wait_for(c, (int)roll(3));
}

static enum role role_of(const char *word)
{
	static const char *const ROLES[ROLE_COUNT] = { "job", "proxy", "meta", "store" };

	for (int i = 0; i < ROLE_COUNT; i++)
		if (strcmp(word, ROLES[i]) == 0)
			return (enum role)i;
	fprintf(stderr, "talker: not a role: %s\n", word);
	exit(2);
}

int main(int argc, char **argv)
{
	static const unsigned SERVERS[ROLE_COUNT] = {
		[ROLE_PROXY] = SERVER_PROXY, [ROLE_META] = SERVER_META, [ROLE_STORE] = SERVER_STORE
	};
	uint64_t seed, count;
	unsigned servers;

	if (argc < 6 || address_parse(argv[1], &address) < 0) {
		fprintf(stderr, "usage: talker ADDRESS SEED CONVERSATIONS ROLE SERVER [SECRET]\n");
		return 2;
	}
	seed = strtoull(argv[2], NULL, 0);
	count = strtoull(argv[3], NULL, 0);
	role = role_of(argv[4]);
	servers = SERVERS[role_of(argv[5])];
	secret = words(argc > 6 ? argv[6] : "");
	signal(SIGPIPE, SIG_IGN);
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	for (int i = 0; i < CONNS; i++)
		conns[i].fd = -1;
	for (uint64_t n = 0; n < count; n++) {
		state = seed + n * 0x517cc1b727220a95ull;
		talk_init(&talk, servers, bytes_of((const uint8_t *)"", 0));
		for (int i = 0; i < STEPS; i++)
			step();
		for (int i = 0; i < CONNS; i++)
			drop(&conns[i]);
	}
	printf("sent %llu heard %llu\n", (unsigned long long)sent_count,
	       (unsigned long long)heard_count);
	return 0;
}
