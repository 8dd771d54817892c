/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/list.h"
#include "base/spares.h"
#include "net/access.h"
#include "proxy/proxy.h"
#include "shm/keep.h"
#include "shm/memory.h"
#include "wire/extent.h"

/* The last so many jobs that have ended: HELLOs that were under way are compared with them. */
#define ENDED_JOBS 64

struct proxy {
	struct net *net;
	struct loop *loop;
	struct core *core;
	struct proxy_config config;
	struct list conns;     /* native ones */
	struct list web_conns; /* of http.c and redis.c */
	struct list sendings;  /* of op: answers whose bytes are on their way out of a segment */
	unsigned op_count, waiting_get_count;
	struct spares spare_ops, spare_readings;
	struct helper *helper; /* makes regions; NULL until the first */
	unsigned region_count, ring_count;
	struct list left_regions; /* that others have still */
	struct list uids;         /* of struct uid_job: who has segments */
	unsigned uid_count;
	struct memory kept_uids; /* the same, for a successor */
	bool is_asking_of_uid;
	struct list indexes; /* of struct job_index */
	unsigned index_count, reader_count;
	uint64_t index_places; /* that they have, a bit each */
	uint64_t index_bytes;
	struct timer index_look;
	struct loop_tally tally; /* where nobody has more than this one */
	uint64_t started_ns;
	uint64_t ended_jobs[ENDED_JOBS]; /* the nth at n % ENDED_JOBS */
	uint64_t ended_count;
	bool is_stopping;
};

/* Memory that functions are given. */
struct region {
	struct work work;
	struct proxy *proxy;
	struct memory memory;
	size_t size;
	struct keep_name name; /* kind 0: it is not kept */
	int result;
	bool is_made, is_unwanted; /* is_unwanted: whoever it was for has gone */
	bool is_punched;           /* at its end, whoever maps it: it has a job's bytes */
	struct waitq made;

	/* Of one that was left. */
	struct list link;
	struct timer again;
	int fd; /* exported, like that which others have */
	bool is_alone;
	void (*gone)(struct proxy *p);
};

/*
 * With all its pages; a fiber waits until it is made. With a name it is kept, if it can be; NULL:
 * it is not.
 */
int region_new(struct proxy *p, size_t size, const struct keep_name *name, struct region **ret);
/* What a predecessor kept; blocks, so at the start only. */
int region_take(struct proxy *p, size_t size, struct keep_name name, struct region **ret);
/* In the background; NULL is fine. */
void region_free(struct region *g);
/*
 * Of one that was exported: we have done with it, and when nobody else has it any more, `gone` is
 * called. Its pages are there, and counted for us, until then.
 */
void region_leave(struct region *g, void (*gone)(struct proxy *p));
/* Nothing is waited for any more. */
void regions_stop(struct proxy *p);

/* What a native connection has open. */
struct native {
	struct list uploads, readings;
	struct list reserved; /* room that it writes itself */
	unsigned reading_count, reserved_count, upload_count;
	uint64_t author;        /* what it is called there; 0: it has had none */
	uint64_t answer_bytes;  /* being read for it, or on their way */
	struct waitq answering; /* operations that wait for less of them */
	unsigned answer_count;  /* operations that have a turn: at most CONN_ANSWERS_MAX */
	struct list in_line;    /* those that have none yet, and no fiber */
	uint64_t next_id;
	struct region *ring;   /* NULL: it has none */
	struct reader *reader; /* of the index of its job; likewise */
	uint8_t job_name_len;
	uint8_t job_name[JOB_NAME_BYTES_MAX];
	bool is_ending; /* it has asked for the end of its own job, and is to hear the answer */
	bool is_over;   /* and that has come: nothing more is read for it */
};

/* An object that a function reads in several messages, or may read only so often. */
struct reading {
	struct list link; /* of its connection */
	struct proxy *proxy;
	uint64_t id;
	unsigned user_count; /* its connection, and those who read right now */
	bool is_near;        /* it was told where the bytes are */
	bool is_in_index;    /* nothing else is told */
	struct found found;
};

/*
 * op: a request that a fiber works on. It is canceled when its connection closes,
 * answers its request, and is freed when the fiber has ended and the answer is sent.
 */
struct op {
	struct fiber fiber;
	struct proxy *proxy;
	struct request *request;
	uint64_t job;
	int result;
	char why[160];

	uint16_t slot; /* relay.c */

	/* put.c */
	struct piece piece;
	/* upload.c */
	struct upload *upload;
	/* reserve.c */
	struct reserved *reserved;
	/* get.c */
	struct reading *reading;
	struct span span;
	struct native *native; /* while there are answer_bytes, or a turn: the connection's */
	uint32_t answer_bytes;
	fiber_fn *run; /* when it has its turn */
	uint32_t kept; /* memory of the connection's, until its turn is over */
	struct list in_line;
	bool has_turn;
	bool has_ended, is_sending, is_serving; /* is_serving: under the lease of its shard */
	struct conn *conn;                      /* while it is sending */
	struct list sending;                    /* of the proxy */
};

struct op *op_new(struct proxy *p, struct request *r);
/* Starts `run`, or fails the request, also if `op` is NULL. The op is the fiber's from then on. */
void op_serve(struct op *op, struct request *r, fiber_fn *run);
/* The parts of it, for who has more to undo; op_refuse() is for what op_begin() returned. */
int op_begin(struct op *op, fiber_fn *run);
void op_refuse(struct op *op, struct request *r, int x);
void op_free(struct op *op);
struct proxy *proxy_of(const struct request *r);
struct native *native_of(const struct request *r);

/*
 * op_serve(), for an answer with bytes: in its turn. op_turn_over() is for before the request
 * is answered, or when something is waited for that others must not wait for.
 */
void op_serve_in_turn(struct op *op, struct request *r, fiber_fn *run);
void op_turn_over(struct op *op);
/*
 * Before an answer of up to `len` bytes is made: waits until what the connection has not
 * taken yet leaves room for it. answer_leave() is for before the request is answered with
 * an error, or when the bytes have been sent.
 */
int answer_enter(struct op *op, uint32_t len);
void answer_leave(struct op *op);

#define TOO_MANY_OPS                                                                               \
	"this proxy has " TEXT_OF(FIBERS_PER_LOOP) " operations in progress, which is its limit; " \
						   "try again"

/* What any request that puts says of how: HOW of messages.def, as the core has it. */
#define HOW_OF(req)                                                                              \
	{                                                                                        \
		.attempt_hi = (req)->attempt_hi, .attempt_lo = (req)->attempt_lo,                \
		.since = (req)->since, .if_version = (req)->if_version, .ttl_ms = (req)->ttl_ms, \
		.reads = (req)->reads, .flags = (req)->flags, .tier = (req)->tier,               \
		.copies = (req)->copies, .path = (req)->path, .attributes = (req)->attributes    \
	}

/* A path that may be put: else why not. */
int check_put(struct slice path, uint16_t flags, uint16_t tier, uint16_t copies,
	      struct slice attributes, const char **ret_why);

/* NULL: none of this connection. */
struct reading *reading_find(const struct request *r, uint64_t id);
/* A request about one: `run` on a fiber, when it is the connection's turn. */
void reading_serve(struct reading *g, struct request *r, fiber_fn *run);
/* From here on the bytes may be sent, for as long as the job's shard answers us. */
int serve_begin(struct op *op);
void serve_end(struct op *op);
/* A get, or a read that goes on, gives back what it took when it is refused. */
void get_give_back(struct op *op);
/* Answers with the bytes of op->span, under the serving lease that was begun. */
void reply_span(struct op *op, const struct wcur *w);

void put_place(struct request *r);
void put_serve(struct request *r);
void put_drop(struct request *r);

void put_open_serve(struct request *r);
void put_data_place(struct request *r);
void put_data_serve(struct request *r);
void put_data_drop(struct request *r);
void put_commit_serve(struct request *r);
void put_drop_serve(struct request *r);
void uploads_close(struct proxy *p, struct native *n);
void put_room_serve(struct request *r);
/* What its function writes right now. NULL: nothing. */
const struct place *upload_place(const struct request *r, uint64_t id);

/* May it write itself to what is its job's? */
int author_check(const struct request *r, const char **ret_why);
/* What it is called there. */
uint64_t native_author(const struct request *r);
void reserve_serve(struct request *r);
void reserve_map_serve(struct request *r);
void reserve_put_serve(struct request *r);
/* None of this connection: nothing happens. */
void reserved_drop(struct request *r, uint64_t id);
void reserved_close_all(struct native *n);
/* The connection has ended: what it may write is nobody's. */
void native_author_close(struct conn *c);

/* find.c. How many bytes of the object are wanted in all, from where they begin. */
uint64_t get_wanted(const struct get_req *req, uint64_t object_len);
/*
 * What is there now; g->is_in_index: and the function reads it there. *may_view: may it? False from
 * then on, if there is no index, or no way there.
 */
int get_find(struct op *op, struct reading *g, const struct get_req *req, uint32_t take,
	     bool *may_view);
void get_serve(struct request *r);
void get_on_serve(struct request *r);
void get_end_serve(struct request *r);
/* May this connection map segments of its job? Its uid is bound then, if need be. */
int near_check(const struct request *r, const char **ret_why);
void export_serve(struct request *r);
void get_near_serve(struct request *r);
/* index.c */
void index_serve(struct request *r);
void mapping_serve(struct request *r);
void native_reader_close(struct native *n);
void index_segment_wanted(struct proxy *p, uint64_t job, uint64_t segment, bool is_short);
void index_job_over(struct proxy *p, uint64_t job);
void indexes_init(struct proxy *p);
void indexes_stop(struct proxy *p);

/*
 * Those of a predecessor, too. Blocks: at the start only. An error: they are there, and cannot be
 * had; they stay with the keeper, and uids_close() is due all the same.
 */
int uids_open(struct proxy *p);
void uids_close(struct proxy *p);
const struct uid_job *uid_find(const struct proxy *p, uint32_t uid);
/* -EUSERS. */
int uid_bind(struct proxy *p, uint32_t uid, uint64_t job);
/* Its end may have come while nobody was there to hear of it: then it is heard of soon. */
void uid_ask_whether_over(struct proxy *p, uint64_t job);
/* Whoever was bound to it is free to map another's. */
void uids_job_over(struct proxy *p, uint64_t job);
void readings_close(struct proxy *p, struct native *n);
/* An op is done with what it read from. */
void reading_leave(struct op *op);
void readings_fini(struct proxy *p);

void ring_serve(struct request *r);
void native_ring_close(struct native *n);

void relay_path_serve(struct request *r); /* STAT */
void relay_list_serve(struct request *r);
void relay_remove_serve(struct request *r);
void relay_tree_serve(struct request *r);
void relay_rename_serve(struct request *r);
void relay_wait_serve(struct request *r);
void relay_count_serve(struct request *r);
void relay_job_create_serve(struct request *r);
void relay_job_renew_serve(struct request *r);
void relay_job_end_serve(struct request *r);
void relay_job_show_serve(struct request *r);
void relay_job_list_serve(struct request *r);
void relay_drop_parked(struct conn *c);
void info_serve(struct request *r);

/* http.c, redis.c */
void web_close_all(struct proxy *p);

/* Of each loop of this process. On a fiber, and good until it waits; NULL: not in time. */
const struct loop_tally *proxy_tallies(struct proxy *p, uint64_t due_ns, unsigned *ret_count);
void proxy_gone(struct proxy *p); /* a connection that was accepted */

/* The totals; on a fiber. */
int proxy_info(struct proxy *p, uint64_t due_ns, struct info_rep *ret);
