/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wadi: the client library of Wadi, an ephemeral store for serverless functions.
 *
 * A program opens a handle to a store, puts objects and gets them back. An object
 * is bytes at a path; it is invisible until its put has returned 0 and never
 * changes afterwards; a path can be replaced as a whole. Every object belongs to
 * a job and goes when the job ends.
 *
 *	struct wadi *w;
 *	int r = wadi_open(NULL, &w);
 *	if (r == 0)
 *		r = wadi_put(w, "greeting", "hello", 5, NULL, NULL);
 *	if (r < 0)
 *		fprintf(stderr, "%s\n", wadi_strerror(w));
 *	wadi_close(w);
 *
 * Paths: `/<job>/<a>/<b>/<name>`, or without the first slash relative to the job
 * of the handle's token. UTF-8 without NUL, 1 to 1,024 bytes behind the job.
 *
 * Results: 0 or a count, or a negative errno value as the list below has them.
 * wadi_strerror() then tells in one sentence what failed, where, and what to do.
 *
 * Threads: a handle and all that was made from it belong to one thread at a time.
 * The library starts no threads, touches no signals, and never aborts: after an
 * internal error every call on the handle returns -ENOTRECOVERABLE. After a fork
 * the child's calls on the parent's handle return -EOWNERDEAD.
 *
 * Time: every call ends by its deadline: `timeout_ms` of its options, else of the
 * handle, else 10 s. A transfer of several messages counts it for each step that
 * makes no progress.
 *
 * Options: structs begin with their own size, so that a program compiled against
 * an older header goes on working. Use the WADI_*_OPTIONS initializers, or pass
 * NULL for the defaults; a zero field always means the default.
 */
#ifndef WADI_H
#define WADI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WADI_API __attribute__((visibility("default")))
#else
#define WADI_API
#endif

/* Bytes of a path behind its job; of a job's name; of a token with its NUL; of attributes. */
#define WADI_PATH_MAX       1024
#define WADI_JOB_NAME_MAX   64
#define WADI_TOKEN_MAX      1024
#define WADI_ATTRIBUTES_MAX 512

/*
 * What calls return besides 0 and counts:
 *	-ENOENT         no such object, or nothing in this directory
 *	-EEXIST         WADI_CREATE, and there is an object already
 *	-EBADE          if_version, and the object has another version
 *	-ENODATA        the object was there; its last read has been taken
 *	-EALREADY       likewise, and a read with this read_id was one of those counted
 *	-ETIME          the object was there; its ttl is over
 *	-ESTALE         an old attempt of which nobody knows the outcome; a view that
 *	                was revoked; a put whose bytes are no longer to be had
 *	-ENOSPC         no room in the store within the deadline, or never
 *	-EDQUOT         the job's quota
 *	-EACCES         the token does not allow it
 *	-EKEYREJECTED   not a token of this store; -EKEYEXPIRED: no longer valid
 *	-ENXIO          no such job; -EIDRM: the job has ended
 *	-EINVAL         an argument, named by wadi_strerror()
 *	-EMSGSIZE       larger than a limit, named by wadi_strerror()
 *	-EUSERS         too many of something; the limit is named by wadi_strerror(). Of
 *	                connections to a server: still, at the deadline
 *	-EOPNOTSUPP     not in this build or not through this door
 *	-ECANCELED      wadi_op_cancel(), or is_interrupted() of the handle's options
 *	-ETIMEDOUT      the deadline; a change may have happened all the same, and to
 *	                repeat it with the same attempt is always right
 *	-EHOSTUNREACH   nobody answers at the endpoint, or its socket is closed to this user
 *	-EIO            damaged bytes; -EREMOTEIO: lost bytes, with the reason
 *	-EBADMSG        the other end does not speak this protocol
 *	-ENOMEM -ENOBUFS -EPROTO ...  as their names say
 */

/* The handle. */

struct wadi;

struct wadi_options {
	size_t size; /* sizeof(struct wadi_options) */
	/*
	 * Of a proxy: "tcp://host:port", "unix:///path". Of metadata, without a proxy:
	 * "direct://host:port[,host:port...]", some of its shards. NULL: from the environment.
	 */
	const char *endpoint;
	const char *token;   /* NULL: from the environment; none on a loopback `wadi dev` */
	uint32_t timeout_ms; /* of each call; 0: WADI_TIMEOUT (500ms, 30s), else 10,000 */
	uint32_t reserved;
	/*
	 * Asked while a call waits, after each signal to its thread and once a second: true ends
	 * the call with -ECANCELED. It makes no calls on the handle. NULL: nobody is asked.
	 */
	bool (*is_interrupted)(void *arg);
	void *interrupt_arg;
};
#define WADI_OPTIONS                                \
	{                                           \
		.size = sizeof(struct wadi_options) \
	}

/*
 * Opens a handle and connects it. With no endpoint it takes WADI_ENDPOINT, then
 * __OW_WADI_ENDPOINT, then tcp://127.0.0.1:4870; the token likewise. On failure
 * *ret is a handle all the same, good for wadi_strerror() and wadi_close(), or
 * NULL if there was no memory even for that.
 *
 * A proxy that goes away meanwhile, or that was killed and has left its Unix socket, is waited for
 * until the deadline, as in any call. Where nobody listens at all it is -EHOSTUNREACH at once.
 */
WADI_API int wadi_open(const struct wadi_options *options, struct wadi **ret);

/*
 * Drops what is in flight and frees the handle; NULL is fine. An operation that was started ends
 * with it, what it asked for may have happened or not, and nothing of it is to be touched any more.
 * Views, reservations and readers of it must be gone.
 * With direct://, its connections stay for the next wadi_open() of this process with the same
 * endpoint and token; what is open at the store is given back, for which it waits, a second at
 * most.
 */
WADI_API void wadi_close(struct wadi *w);

/* The last failure on this handle, in a sentence. Valid until the next call on it. */
WADI_API const char *wadi_strerror(const struct wadi *w);

/* The name of a result, as "NOTFOUND" for -ENOENT; "OK" from 0 on. Never NULL. */
WADI_API const char *wadi_status_name(int r);

/* The name of the job that the handle is in, the version of this library. */
WADI_API const char *wadi_job_name(const struct wadi *w);
WADI_API const char *wadi_version(void);

/*
 * For event loops: a descriptor that polls readable as long as wadi_turn() has work, by level
 * as poll() tells and not by edges (EPOLLET), and the work. A deadline that is over is work; what
 * was started or canceled since the last turn is not told of, so turn once after that.
 * wadi_turn() waits up to `timeout_ms` (0: not at all) and returns how many operations ended, or
 * a negative errno.
 */
WADI_API int wadi_fd(struct wadi *w);
WADI_API int wadi_turn(struct wadi *w, uint32_t timeout_ms);

/* Frees what the library allocated for the caller; NULL is fine. */
WADI_API void wadi_free(void *p);

/* Objects. */

enum wadi_tier { WADI_TIER_ANY, WADI_TIER_DRAM, WADI_TIER_NVMF, WADI_TIER_BLOCK };

/*
 * Names one try to change something: equal values mean a repeat of the same. Zero: the library
 * makes one. A job remembers its last 65,536 changes. What the library repeats by itself after
 * more than that is -ESTALE, and never done twice; a caller who brings an attempt of his own
 * again is to do so before. A refusal is not remembered: an attempt that is sent again after one
 * is decided anew, and the refusal of a repeat says nothing of what was sent before it, and not
 * answered.
 */
struct wadi_attempt {
	uint64_t hi, lo;
};

#define WADI_CREATE  (1u << 0) /* put-if-absent: -EEXIST if there is an object */
#define WADI_DURABLE (1u << 1) /* acknowledged after it is on stable storage */

struct wadi_put_options {
	size_t size;
	uint32_t flags;      /* WADI_CREATE, WADI_DURABLE */
	uint32_t ttl_ms;     /* the object goes after this time; 0: with its job */
	uint32_t reads;      /* the object goes after this many whole reads; 0: any number */
	uint32_t copies;     /* on how many hosts; 0 and 1: one */
	uint64_t if_version; /* replace this version only; 0: whatever is there */
	struct wadi_attempt attempt;
	const void *attributes; /* the caller's own, kept with the object */
	size_t attributes_len;  /* at most WADI_ATTRIBUTES_MAX */
	enum wadi_tier tier;
	uint32_t timeout_ms;
};
#define WADI_PUT_OPTIONS                                \
	{                                               \
		.size = sizeof(struct wadi_put_options) \
	}

struct wadi_get_options {
	size_t size;
	uint64_t offset;  /* begin at this byte; past the end: 0 bytes */
	uint64_t len;     /* at most so many bytes; 0: all */
	uint32_t wait_ms; /* if there is no object, wait so long for one */
	uint32_t timeout_ms;
	/*
	 * Names one read of a `reads` object; zero: the library makes one. The same read again is
	 * counted once, and gets the bytes for as long as the object is there.
	 */
	struct wadi_attempt read_id;
};
#define WADI_GET_OPTIONS                                \
	{                                               \
		.size = sizeof(struct wadi_get_options) \
	}

struct wadi_stat {
	uint64_t object;       /* id, never used again */
	uint64_t version;      /* grows with each commit to the job; never 0 */
	uint64_t len;          /* bytes */
	uint64_t age_ms;       /* since its commit */
	uint64_t ttl_left_ms;  /* UINT64_MAX: no ttl */
	uint32_t reads_left;   /* UINT32_MAX: any number */
	uint32_t extent_count; /* 0: a small value */
	enum wadi_tier tier;
	bool is_directory; /* a directory: `len` is the number of objects directly in it */
	uint16_t attributes_len;
	uint8_t attributes[WADI_ATTRIBUTES_MAX];
};

/* Puts `len` bytes at a path. *ret_version may be NULL. */
WADI_API int wadi_put(struct wadi *w, const char *path, const void *data, size_t len,
		      const struct wadi_put_options *options, uint64_t *ret_version);

/*
 * Gets into the caller's buffer: the number of bytes, or -EMSGSIZE if the object
 * (from `offset`, at most `len`) is longer than `cap`; `ret_stat`, which may be NULL,
 * then has its length.
 */
WADI_API int64_t wadi_get(struct wadi *w, const char *path, void *buf, size_t cap,
			  const struct wadi_get_options *options, struct wadi_stat *ret_stat);

/* The same into memory of the library's, to be given back with wadi_free(). */
WADI_API int64_t wadi_get_alloc(struct wadi *w, const char *path,
				const struct wadi_get_options *options, void **ret_data,
				struct wadi_stat *ret_stat);

/* `path` with a `/` at its end asks for a directory. */
WADI_API int wadi_stat(struct wadi *w, const char *path, struct wadi_stat *ret);

/* `if_version` 0: whatever is there. A missing object is -ENOENT. */
WADI_API int wadi_remove(struct wadi *w, const char *path, uint64_t if_version);

/*
 * Removes what lies below a directory, in byte order and not atomically; counts it. What is put
 * there meanwhile stays.
 */
WADI_API int wadi_remove_tree(struct wadi *w, const char *directory, uint64_t *ret_count);

/* Moves one object inside its job. `flags`: WADI_CREATE refuses to replace. */
WADI_API int wadi_rename(struct wadi *w, const char *from, const char *to, uint32_t flags,
			 uint64_t *ret_version);

/* Returns when there is an object at the path; -ETIMEDOUT after `wait_ms`. */
WADI_API int wadi_wait(struct wadi *w, const char *path, uint32_t wait_ms,
		       struct wadi_stat *ret_stat);

/* Returns when at least `count` objects are directly in the directory. */
WADI_API int wadi_wait_count(struct wadi *w, const char *directory, uint64_t count,
			     uint32_t wait_ms, uint64_t *ret_count);

/*
 * In place: reserve, write, commit; view, release. No copy where the attachment allows: then a view
 * keeps its bytes where they are, which its job pays for, and they are not compared with their sum.
 */

struct wadi_reservation;

/*
 * Room for an object of `len` bytes, *ret's until its commit. In the store's memory, where this
 * handle may share that: then the room is the job's from here on, and what the put would say of
 * it, as -ENOSPC and -EDQUOT, is said here. Else in this process's, and the commit puts it.
 */
WADI_API int wadi_reserve(struct wadi *w, const char *path, size_t len,
			  const struct wadi_put_options *options, struct wadi_reservation **ret);
/* `len` writable bytes, on a cache line; what is in them is anything. */
WADI_API void *wadi_reservation_data(struct wadi_reservation *r);

/*
 * Makes the object visible: the bytes that are there now, which are not to be written any more. The
 * reservation is gone (*take is NULL) whatever is returned. -ESTALE: so are the bytes, with their
 * job or their server, or nobody knows what came of it: reserve again.
 */
WADI_API int wadi_commit(struct wadi_reservation **take, uint64_t *ret_version);
WADI_API void wadi_abandon(struct wadi_reservation **take);

struct wadi_view;

WADI_API int wadi_view(struct wadi *w, const char *path, const struct wadi_get_options *options,
		       struct wadi_view **ret);
WADI_API const void *wadi_view_data(const struct wadi_view *v);
WADI_API size_t wadi_view_len(const struct wadi_view *v);
WADI_API void wadi_view_stat(const struct wadi_view *v, struct wadi_stat *ret);

/*
 * 0: the bytes were whole until now. -ESTALE: the view was revoked, or whoever would know is gone;
 * what was read may be anything. The view is gone, whatever is returned.
 */
WADI_API int wadi_release(struct wadi_view **take);

/* Streams: objects of any and of unknown length. */

struct wadi_writer;

/*
 * `len_hint`: the length if it is known, so that room is reserved whole; 0 if not.
 * Nothing is visible before wadi_writer_commit().
 */
WADI_API int wadi_writer_open(struct wadi *w, const char *path, uint64_t len_hint,
			      const struct wadi_put_options *options, struct wadi_writer **ret);
WADI_API int wadi_writer_write(struct wadi_writer *wr, const void *data, size_t len);

/* What is written next belongs to this part, 0 to 9,999. Committed in the order of their numbers.
 */
WADI_API int wadi_writer_part(struct wadi_writer *wr, uint32_t number);
WADI_API int wadi_writer_commit(struct wadi_writer **take, uint64_t *ret_version);
WADI_API void wadi_writer_abandon(struct wadi_writer **take);

struct wadi_reader;

/* Holds the version that it found, to its end. */
WADI_API int wadi_reader_open(struct wadi *w, const char *path,
			      const struct wadi_get_options *options, struct wadi_reader **ret);
WADI_API void wadi_reader_stat(const struct wadi_reader *rd, struct wadi_stat *ret);

/* The next bytes, 1 to `cap` of them; 0 at the end. */
WADI_API int64_t wadi_reader_read(struct wadi_reader *rd, void *buf, size_t cap);
WADI_API void wadi_reader_close(struct wadi_reader **take);

/* Directories. */

struct wadi_list;

struct wadi_list_options {
	size_t size;
	bool is_recursive; /* all below, not only what is directly in it */
	const char *after; /* begin behind this name (as listed); NULL: at the first */
	uint32_t timeout_ms;
};
#define WADI_LIST_OPTIONS                                \
	{                                                \
		.size = sizeof(struct wadi_list_options) \
	}

struct wadi_list_entry {
	const char *name; /* below the listed directory; a directory's ends in `/`. Until the next
			     call */
	size_t name_len;
	struct wadi_stat stat;
};

/* In byte order of the whole name. Not one moment: what is changed meanwhile may or may not be
 * seen. */
WADI_API int wadi_list_open(struct wadi *w, const char *directory,
			    const struct wadi_list_options *options, struct wadi_list **ret);
WADI_API int wadi_list_next(struct wadi_list *l, struct wadi_list_entry *ret); /* 1; 0 at the end */
WADI_API void wadi_list_close(struct wadi_list **take);

/* Several operations in flight. */

struct wadi_op;

/*
 * Like the calls of the same name, but they return at once; buffers and results
 * must stay until the operation has been ended. wadi_op_end() waits for it and
 * returns its result: 0, bytes (get), or an errno. Operations of a handle make
 * progress in any of its calls, and none waits for another.
 */
WADI_API int wadi_start_put(struct wadi *w, const char *path, const void *data, size_t len,
			    const struct wadi_put_options *options, uint64_t *ret_version,
			    struct wadi_op **ret);
WADI_API int wadi_start_get(struct wadi *w, const char *path, void *buf, size_t cap,
			    const struct wadi_get_options *options, struct wadi_stat *ret_stat,
			    struct wadi_op **ret);

/* The same into memory of the library's: *ret_data is set if the operation ends well. */
WADI_API int wadi_start_get_alloc(struct wadi *w, const char *path,
				  const struct wadi_get_options *options, void **ret_data,
				  struct wadi_stat *ret_stat, struct wadi_op **ret);
WADI_API int wadi_start_remove(struct wadi *w, const char *path, uint64_t if_version,
			       struct wadi_op **ret);
WADI_API int wadi_start_wait(struct wadi *w, const char *path, uint32_t wait_ms,
			     struct wadi_stat *ret_stat, struct wadi_op **ret);
WADI_API bool wadi_op_has_ended(const struct wadi_op *op);
WADI_API int64_t wadi_op_end(struct wadi_op **take);
WADI_API void wadi_op_cancel(struct wadi_op *op); /* still to be ended */

/* Jobs. */

struct wadi_job_options {
	size_t size;
	uint32_t lease_ms;  /* the job ends when nobody has renewed it for so long; 0: 10 minutes */
	uint32_t functions; /* hints, kept for the scaling of the store */
	uint64_t quota_dram;       /* bytes; 0: no limit but the store's */
	uint64_t capacity;         /* hint, bytes */
	uint32_t peak_mbps;        /* hint */
	bool is_latency_sensitive; /* hint */
	bool is_durable; /* what is acknowledged survives a power cut; objects of up to 2 KiB */
};
#define WADI_JOB_OPTIONS                                \
	{                                               \
		.size = sizeof(struct wadi_job_options) \
	}

/* A bill of `byte_ms_*`: bytes times milliseconds, exact to the millisecond. */
struct wadi_job_info {
	uint64_t id;
	char name[WADI_JOB_NAME_MAX + 1];
	bool has_ended;
	bool has_expired; /* it has ended because nobody renewed its lease */
	uint64_t lease_left_ms;
	uint64_t object_count;
	uint64_t object_bytes; /* of all its objects */
	uint64_t dram_bytes;   /* of the tier that it holds now, open space included */
	uint64_t quota_dram;   /* 0: none */
	uint64_t dram_byte_ms_hi,
		dram_byte_ms_lo; /* 128 bits: the integral of dram_bytes over time */
};

/*
 * Creates a job; `token` (WADI_TOKEN_MAX bytes of room) receives its whole-job token.
 * Needs a handle that may create jobs. -EEXIST while a job of this name lives.
 */
WADI_API int wadi_job_create(struct wadi *w, const char *name,
			     const struct wadi_job_options *options, char *token);
WADI_API int wadi_job_renew(struct wadi *w, const char *name, uint32_t lease_ms);

/* When it returns 0, nothing of the job can be read any more, through any door. */
WADI_API int wadi_job_end(struct wadi *w, const char *name);
WADI_API int wadi_job_show(struct wadi *w, const char *name, struct wadi_job_info *ret);

/* Up to `cap` jobs, living ones first; returns how many there are. */
WADI_API int wadi_job_list(struct wadi *w, struct wadi_job_info *ret, size_t cap);

/* Rights of a token. */
#define WADI_RIGHT_READ   (1u << 0)
#define WADI_RIGHT_WRITE  (1u << 1)
#define WADI_RIGHT_REMOVE (1u << 2)
#define WADI_RIGHT_LIST   (1u << 3)
#define WADI_RIGHT_JOB    (1u << 4) /* renew and end its job */
#define WADI_RIGHT_ALL    0x1fu

/*
 * A narrower token made from `token`, without asking anybody: only paths that begin
 * with `prefix` (NULL: all), only these rights, only for `valid_s` seconds from now
 * (0: no end of its own). `ret` has WADI_TOKEN_MAX bytes of room.
 */
WADI_API int wadi_token_narrow(const char *token, const char *prefix, uint32_t rights,
			       uint32_t valid_s, char *ret);

/* What is in the store as a whole: totals, as `wadi top` shows them. */
struct wadi_store_info {
	uint64_t dram_limit, dram_used,
		dram_clean;   /* bytes: may be used, belong to jobs, reserved ahead */
	uint64_t value_bytes; /* bytes of small values' blocks */
	uint64_t dram_byte_ms_hi,
		dram_byte_ms_lo; /* the store's own integral of what belonged to jobs */
	uint64_t segment_count, object_count, job_count, session_count, parked_count;
	uint64_t uptime_ms;
	uint64_t forgotten_byte_ms_hi,
		forgotten_byte_ms_lo; /* the part of it that is on bills of jobs which ended so
				       * long ago that wadi_job_list() has them no more */
	bool is_partial; /* a storage server is out of reach, or was lost with what it counted:
			  * dram_byte_ms is too little */
	uint64_t lingering_bytes; /* bytes that functions made anew, at the last look, of memory
				   * which they map and which was given back */
};
WADI_API int wadi_store_info(struct wadi *w, struct wadi_store_info *ret);

#ifdef __cplusplus
}
#endif

#endif
