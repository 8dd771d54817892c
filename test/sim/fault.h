/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault: what goes wrong in a run, and when: a list, made from the seed or given, so
 * that a failing run can be repeated with fewer of them.
 *
 *	kill:store0@1500+3000           dies at 1.5 s, and is started again 3 s later
 *	host:store0@1500+3000           the same, and its keeper with it
 *	gone:store0@1500                the same, and neither comes back
 *	power:meta@1500+3000=7          the same, and what was not synced; 7: how much of it
 *	keeper:meta@2000+500            its keeper is gone, and there again 0.5 s later
 *	pause:proxy1@800+40000          stops, and goes on 40 s later
 *	cut:meta-proxy0@2000+5000       no connection between the two for 5 s
 *	alone:meta@2000+5000            cut off from all others
 *	stall:meta-proxy0@2000+5000     what is on its way between the two waits for 5 s
 *	break:client2-proxy0@900        their connections are lost, once
 *	wall:meta@3000=-3600000         its wall clock jumps, by ms
 *	slow:@1000+4000=80              every delay is up to 80 ms
 *	stall:proxy0-store0@2000#3+9000 at the third message between the two after 2 s
 */
#pragma once

#include "cluster.h"
#include "model.h"

#define FAULTS_MAX 64

enum fault_kind {
	FAULT_KILL,
	FAULT_HOST,
	FAULT_KEEPER,
	FAULT_PAUSE,
	FAULT_CUT,
	FAULT_ALONE,
	FAULT_STALL,
	FAULT_BREAK,
	FAULT_WALL,
	FAULT_SLOW,
	FAULT_GONE,  /* one of HOST that never ends */
	FAULT_POWER, /* one of HOST, of metadata that has files */
	FAULT_KINDS
};

struct fault {
	enum fault_kind kind;
	char a[12], b[12]; /* of processes */
	uint64_t at_ms, for_ms;
	unsigned nth; /* message to or from `a` (and `b`) after at_ms; 0: at at_ms itself */
	int64_t amount;

	/* fault.c's own. */
	struct sim_watch watch;
	uint64_t begun_ns;
	bool is_armed;
	bool has_begun, has_ended;
};

struct faults {
	struct fault list[FAULTS_MAX];
	unsigned count;
};

/* `span_ms`: they begin within it. `random` is the caller's generator. */
void faults_make(struct faults *f, struct cluster *c, uint64_t span_ms,
		 uint64_t (*random)(void *owner), void *owner);
/* "" is none; false: it is not a list. */
bool faults_parse(struct faults *f, const char *text);
void faults_format(const struct faults *f, char *buf, size_t cap);

/* When the last one is over, at the latest. */
uint64_t faults_end_ns(const struct faults *f);
/* When the next one begins or ends; UINT64_MAX. */
uint64_t faults_due_ns(const struct faults *f);
/* Does what is due. `killed` is told of each process that dies, `started` of each that is back. */
struct fault_hooks {
	void (*killed)(void *owner, struct process *p);
	void (*started)(void *owner, struct process *p);
	void *owner;
};
void faults_do(struct faults *f, struct cluster *c, struct model *m,
	       const struct fault_hooks *hooks, uint64_t now_ns);
/* What is broken is whole again, at once. */
void faults_heal(struct faults *f, struct cluster *c, struct model *m,
		 const struct fault_hooks *hooks, uint64_t now_ns);
