/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model: what the store promised, and whether an answer keeps it. It knows every write
 * that was ever sent, and of each whether it was acknowledged, and with which version.
 *
 * An operation is looked at from its beginning to its end. What was acknowledged, or
 * seen, before it began is a floor: nothing older may be answered, and nothing at all
 * only if something could have taken it away meanwhile. What was sent and not
 * answered may come true at any time, or never.
 *
 * Bytes of an object follow from its write's number, so bytes of another write, of
 * another job or from another place of the same object are told apart.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_PATHS     32
#define MODEL_GENS_MAX  256
#define MODEL_NAME_MAX  16
#define MODEL_TOKEN_MAX 1024

enum write_state { WRITE_SENT, WRITE_ACKED, WRITE_FAILED };

struct write {
	struct gen *gen;
	unsigned path, from; /* from: of a rename */
	uint32_t number;
	enum write_state state;
	bool is_rename;
	bool is_value;                        /* small, and put at once: metadata has the bytes */
	uint64_t begun_ns, ended_ns, version; /* version 0: not known */
	uint64_t if_version;
	uint64_t len;
	uint32_t ttl_ms, reads;
	uint32_t read_count,
		begun_reads; /* read ids with all bytes; those that may have been counted */
	uint64_t attempt_hi, attempt_lo;
	struct write *next; /* of the path */
};

/* Something that takes an object away: remove, remove of a tree, rename to elsewhere. */
struct absence {
	uint64_t begun_ns, ended_ns; /* ended: UINT64_MAX while it may still come true */
	uint64_t version;            /* what it took, if that is known */
	struct absence *next;
};

struct path {
	struct write *writes;
	struct absence *absences;
	uint64_t floor;          /* no older version is there any more */
	const struct write *top; /* the newest that is known to have been there */
	uint32_t reading;        /* gets that are under way, or whose process was killed */
	uint32_t settled;        /* gets of which it is known which write they read, if any */
};

/* Whose a version is: for ever, whatever metadata forgets. */
struct known_version {
	uint64_t version;
	struct write *write;
};

enum gen_state { GEN_NONE, GEN_LIVING, GEN_ENDING, GEN_ENDED };

/* A job, from its creation to its end. */
struct gen {
	unsigned number;
	char name[MODEL_NAME_MAX], token[MODEL_TOKEN_MAX];
	enum gen_state state;
	uint64_t id, quota;
	uint64_t lease_ns, renewed_ns;   /* the last renewal that was acknowledged began then */
	uint64_t end_begun_ns, ended_ns; /* UINT64_MAX: not yet */
	bool is_end_acked; /* JOB_END was answered; else somebody was told that it had ended */
	uint64_t power_ns; /* what began before this is perhaps forgotten; 0: nothing */
	struct path paths[MODEL_PATHS];
	struct known_version *versions;
	size_t version_count, version_cap;
};

/* A time in which something was broken, or had been shortly before. */
struct trouble {
	uint64_t from_ns, until_ns;
	unsigned clients; /* that may notice, by the bit of their number */
};
#define ALL_CLIENTS  (~0u)
#define TROUBLES_MAX 256

struct model {
	char failure[600]; /* the first one; "": none */
	struct gen *gens[MODEL_GENS_MAX];
	unsigned gen_count;
	struct write **writes; /* by number */
	size_t write_count, write_cap;
	struct trouble troubles[TROUBLES_MAX];
	unsigned trouble_count;
	uint64_t losses_ns[TROUBLES_MAX]; /* a store lost its bytes */
	unsigned loss_count;
	/* How far metadata's wall clock was set ahead, and whether it started from files alone. */
	uint64_t ahead_ns;
	bool is_ahead_believed;
	bool is_tight; /* pool or quotas are small: NOSPACE and QUOTA may come */
	uint64_t gets, puts, checks;
};

void model_init(struct model *m);
void model_fini(struct model *m);
void model_fail(struct model *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

void model_trouble(struct model *m, unsigned clients, uint64_t from_ns, uint64_t until_ns);
/* For one of these. */
bool model_is_trouble(const struct model *m, unsigned clients, uint64_t from_ns, uint64_t until_ns);
void model_loss(struct model *m, uint64_t at_ns);
/*
 * The power was cut, and no job is durable: whatever was acknowledged may be so or not, but for
 * JOB_END. Bytes are whole, of their job and their path, all the same.
 */
void model_power(struct model *m, uint64_t at_ns);

/* Metadata's host was without power: what time it is, it hears from its wall clock alone. */
uint64_t model_lasts_until(const struct model *m, uint64_t until_ns);

struct gen *model_gen(struct model *m, const char *name);

/* The bytes [at, at + len) of a write. */
void write_fill(const struct write *w, uint64_t at, uint8_t *buf, size_t len);
bool write_matches(const struct write *w, uint64_t at, const uint8_t *buf, size_t len);

struct write *model_write(struct model *m, struct gen *g, unsigned path, uint64_t len,
			  uint64_t now_ns);
struct write *model_rename(struct model *m, struct gen *g, unsigned from, unsigned to,
			   uint64_t now_ns);
/* Acknowledged with a version. */
void write_acked(struct model *m, struct write *w, uint64_t version, uint64_t now_ns);
/* The store said no, and nothing of it can come true later. */
void write_failed(struct write *w);

/* What was known when an operation began. */
struct look {
	struct model *m;
	struct gen *g;
	unsigned path;
	uint64_t begun_ns, floor;
	const struct write *top;
	uint32_t settled, read_count; /* of the path; of the top one */
};
struct look look_begin(struct model *m, struct gen *g, unsigned path, uint64_t now_ns);
/* There is this version. */
void look_saw(struct look *l, uint64_t version, uint64_t now_ns, const char *verb);
/* With these bytes. Returns the write; NULL: there was none, and it has been said. */
struct write *look_got(struct look *l, uint64_t version, uint64_t len, uint64_t at,
		       const uint8_t *buf, size_t buf_len, uint64_t now_ns, const char *verb);
/* There is nothing. */
void look_missed(struct look *l, uint64_t now_ns, const char *verb);
/* So many reads are left of this version; `l` as it was begun. */
void look_reads(struct look *l, uint64_t version, uint32_t left, const char *verb);
/* Could anything be there, but for this write? `l` as it was begun. */
bool look_may_see(const struct look *l, const struct write *but);
/* It was refused since something is there; or since this version is not. `own`: what was refused.
 */
void look_refused(struct look *l, const struct write *own, const char *verb);
void look_refused_version(struct look *l, const struct write *own, uint64_t version,
			  uint64_t now_ns, const char *verb);
/* Whoever waited for it since then was to be told: something was there all the time. */
bool model_was_there(const struct model *m, const struct gen *g, unsigned path, uint64_t from_ns,
		     uint64_t now_ns);
/* Its bytes are said to be lost. */
void look_lost(struct look *l, uint64_t now_ns, const char *verb);

/* A get of a path: any of those that may be there could be the one that is read. */
void reads_begin(struct gen *g, unsigned path);
void reads_end(struct gen *g, unsigned path);
/* It has read this one, or none (NULL): no other was counted for it. */
void reads_settle(struct gen *g, unsigned path, const struct write *w);

struct absence *absence_begin(struct gen *g, unsigned path, uint64_t now_ns);
/* It took this version (0: not known which); or it took nothing. */
void absence_took(struct model *m, struct gen *g, unsigned path, struct absence *a,
		  uint64_t version, uint64_t now_ns);
void absence_failed(struct absence *a);
/* No version up to this one is at the path any more: heard by an operation of that beginning. */
void model_gone(struct gen *g, unsigned path, uint64_t version, uint64_t begun_ns);
