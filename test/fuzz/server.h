/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: a role of a process on the simulated loop, and peers that talk to it over
 * pairs: no system call, no thread, no clock. A target opens its role, converses, and
 * closes it; then nothing that it allocated is left.
 *
 * The input: steps of a byte each: a request, raw bytes, the last frame again or the
 * beginning of it, another connection, time that passes.
 */
#pragma once

#include <errno.h>

#include "base/log.h"
#include "base/node.h"
#include "loop/sim.h"
#include "loop/stream.h"
#include "arena.h"
#include "stacks.h"
#include "talk.h"
#include "wire/intake.h"

#define PEERS     3
#define STEPS_MAX 48
#define PAIR      (32u << 10)
#define MS        1000000ull
#define SECOND    (1000 * MS)

#define ROLES_KEY "secret"

struct peer_end {
	struct stream *stream;
	enum role role;
	uint64_t session, epoch;
	struct intake in;
	bool is_half; /* talk_hear() */
	uint8_t body[FRAME_BODY_MAX], payload[4096];
};

static struct loop *loop;
static struct sim *sim;
static struct sim_node *sim_node;
static struct talk talk;
static struct peer_end peers[PEERS];

/* Takes the other end; it may say no. */
typedef void accept_fn(struct stream *s);

static inline void world_open(void)
{
	struct sim_config config = { .seed = 1 };

	log_set_level(LOG_ERROR);
	REQUIRE(sim_open(&config, &sim) == 0 && sim_node_add(sim, 1, &sim_node) == 0);
	arena_begin(sim_node_of(sim_node));
	REQUIRE(sim_loop_open(sim_node, &loop) == 0);
	node_current = sim_node_of(sim_node);
}

static inline void turn_for(uint64_t ns)
{
	uint64_t end_ns = loop->now_ns + ns;

	do
		REQUIRE(loop_turn(loop, end_ns) == 0);
	while (loop->now_ns < end_ns);
}

/* Its process is stopped, and goes on. */
static inline void pause_for(uint64_t ns)
{
	sim_node_pause(sim_node, true);
	(void)sim_run(sim, sim_now_ns(sim) + ns);
	sim_node_pause(sim_node, false);
	turn_for(0);
}

static inline void world_close(void)
{
	REQUIRE(!heap_top(&loop->timers) && list_is_empty(&loop->tasks));
	REQUIRE(loop->fibers.alive_count == 0);
	loop_close(loop);
	node_current = NULL;
	REQUIRE(sim_node_bytes(sim_node) == 0);
	arena_end();
	sim_close(sim);
}

static inline void peer_close(struct peer_end *p)
{
	stream_close(p->stream);
	p->stream = NULL;
}

static void peer_is_ready(struct stream *s)
{
	(void)s; /* it looks when it likes */
}

static inline void peer_send(struct peer_end *p, const void *bytes, size_t len);
static inline void peer_read(struct peer_end *p);

static inline void peer_open(struct peer_end *p, accept_fn *accept, bool says_hello)
{
	struct stream *ends[2];

	REQUIRE(stream_pair(loop, PAIR, ends) == 0);
	p->stream = ends[0];
	p->stream->ready = peer_is_ready;
	intake_init(&p->in);
	p->is_half = false;
	accept(ends[1]);
	if (!says_hello)
		return;
	talk_as(&talk, p->role, p->role == ROLE_JOB ? words("") : words(ROLES_KEY), 0, 0);
	talk_request(&talk, MESSAGE_HELLO);
	peer_send(p, talk.frame, talk.len);
	turn_for(MS);
	peer_read(p);
	p->session = talk.session;
	p->epoch = talk.epoch;
}

/* As much as there is room for; the rest is lost with the connection's order. */
static inline void peer_send(struct peer_end *p, const void *bytes, size_t len)
{
	struct iovec iov = { (void *)bytes, len };

	for (int tries = 0; p->stream && iov.iov_len > 0 && tries < 8; tries++) {
		ssize_t n = stream_send(p->stream, &iov, 1);

		if (n < 0 && n != -EAGAIN) {
			peer_close(p);
			return;
		}
		if (n > 0) {
			iov.iov_base = (uint8_t *)iov.iov_base + n;
			iov.iov_len -= (size_t)n;
		}
		if (iov.iov_len > 0)
			turn_for(MS / 10);
	}
}

static inline void peer_hear(struct peer_end *p)
{
	const struct frame f = p->in.frame;

	intake_next(&p->in);
	if (f.flags & FRAME_REPLY) {
		talk_hear(&talk, &p->is_half, &f, (struct slice){ p->body, f.body_len },
			  (struct slice){ p->payload, f.payload_len <= sizeof(p->payload)
							      ? f.payload_len
							      : 0 });
		return;
	}
	talk_answer(&talk, &f);
	peer_send(p, talk.frame, talk.len);
}

/* Everything that is there; what the server says must be of the protocol. */
static inline void peer_read(struct peer_end *p)
{
	while (p->stream) {
		struct room room = intake_want(&p->in);
		ssize_t n;

		switch (p->in.state) {
		case INTAKE_FRAME:
			intake_body(&p->in, p->body);
			continue;
		case INTAKE_PLACE:
			/* What is long goes over itself: nobody looks at it. */
			intake_place(&p->in, p->payload,
				     intake_payload_left(&p->in) < sizeof(p->payload)
					     ? intake_payload_left(&p->in)
					     : (uint32_t)sizeof(p->payload));
			continue;
		case INTAKE_WHOLE:
			peer_hear(p);
			continue;
		default:
			break;
		}
		n = stream_recv(p->stream, room.ptr, room.len);
		if (n == -EAGAIN)
			return;
		if (n <= 0)
			peer_close(p);
		else
			REQUIRE(intake_got(&p->in, (size_t)n) == 0);
	}
}

static inline void wait_a_while(struct bytes *in)
{
	static const uint64_t STEPS[] = { 10 * MS, SECOND, 6 * SECOND, 31 * SECOND };

	turn_for(STEPS[take(in, 1) % 4]);
}

static inline void step(struct peer_end **p, accept_fn *accept)
{
	struct bytes *in = &talk.f.in;
	unsigned c = (unsigned)take(in, 1);
	struct slice raw;

	if (!(*p)->stream)
		peer_open(*p, accept, c < 0xf0);
	if (c < 0xa0) {
		talk_request(&talk, -1);
		peer_send(*p, talk.frame, talk.len);
	} else if (c < 0xb0) {
		raw = take_slice(in, take(in, 1));
		peer_send(*p, raw.ptr, raw.len);
	} else if (c < 0xb8) {
		peer_send(*p, talk.frame, talk.len);
	} else if (c < 0xc0) {
		peer_send(*p, talk.frame, talk.len > 0 ? take(in, 2) % talk.len : 0);
	} else if (c < 0xd0) {
		*p = &peers[c % PEERS];
		talk_as(&talk, (*p)->role, talk.secret, (*p)->session, (*p)->epoch);
	} else if (c < 0xd8) {
		peer_close(*p);
	} else if (c < 0xe0) {
		wait_a_while(in);
	}
	if (c % 4 != 3)
		turn_for(MS / 10);
	if (c % 8 != 7)
		peer_read(*p);
}

static inline void converse(struct bytes in, unsigned servers, const enum role roles[PEERS],
			    accept_fn *accept)
{
	struct peer_end *p = &peers[0];

	talk_init(&talk, servers, in);
	for (int i = 0; i < PEERS; i++) {
		peers[i].role = roles[i];
		peer_open(&peers[i], accept, true);
	}
	for (int i = 0; i < STEPS_MAX && bytes_left(&talk.f.in) > 0; i++)
		step(&p, accept);
	for (int i = 0; i < PEERS; i++)
		peer_close(&peers[i]);
	turn_for(MS);
}

/* Each message alone, and a mixture. */
static inline void server_seeds(void)
{
	uint8_t bytes[600];

	for (int n = 0; n < 4; n++) {
		char name[16];

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)(i * (size_t)(29 + 2 * n) % 223);
		snprintf(name, sizeof(name), "mixed-%d", n);
		fuzz_seed(name, bytes, sizeof(bytes));
	}
}
