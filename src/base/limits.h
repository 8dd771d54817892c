/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits: every bound in the program, each with its reason, and what must hold
 * between them. A queue, a table or a length that has no line here is a bug.
 */
#pragma once

/* A limit in words: "4096". */
#define TEXT_OF_NUMBER(n) #n
#define TEXT_OF(limit)    TEXT_OF_NUMBER(limit)

/* Names. */

/* Bytes of UTF-8 behind the job, without a terminator: S3's, so that its keys fit. */
#define PATH_BYTES_MAX 1024

/* A job's name is a directory's; longer ones only fill log lines. */
#define JOB_NAME_BYTES_MAX 64

/* A door's own words about an object: S3 allows 2 KiB of them, clients use a tenth. */
#define ATTRIBUTES_BYTES_MAX 512

/* A token with a dozen restrictions, each as long as a path would be by itself. */
#define TOKEN_BYTES_MAX        1023
#define TOKEN_RESTRICTIONS_MAX 8

/* Frames. */

/* A page and a half: the longest path twice, attributes, and every other field. */
#define FRAME_BODY_MAX 4096

/* Past four megabytes a longer frame keeps a 100 Gbit/s link no busier. */
#define FRAME_PAYLOAD_MAX (4u << 20)

/* Payloads up to here are not counted against credit: they fit a socket's buffer. */
#define FRAME_FREE_PAYLOAD (64u << 10)

/* What a connection may have on its way to us, unanswered, beyond the above. */
#define CONN_CREDIT (4u << 20)

/* One piece of a transfer: four of them keep the credit of a connection busy. */
#define TRANSFER_PIECE (1u << 20)

/* Requests of one connection that are not answered yet. The next one is not read before. */
#define CONN_REQUESTS_MAX 1024

/*
 * Reads of one connection that go on, each with a hold and some memory: as many as libwadi
 * has operations.
 */
#define CONN_READS_MAX 4096

/*
 * Objects of one connection that come in pieces, each with some memory and a segment at least:
 * likewise. Writers of libwadi are no operations, but a program that has thousands open at a time
 * has as many segments that are half empty.
 */
#define CONN_UPLOADS_MAX 4096

/* Bytes waiting to be sent on one connection before it reads no more requests, or objects. */
#define CONN_SEND_QUEUE_BYTES (8u << 20)

/*
 * Memory that one connection keeps for what its peer has not taken, likewise: each answer has a
 * buffer for its body, which is a hundred times what most answers are until it has to wait.
 */
#define CONN_UNREAD_BYTES_MAX (4u << 20)

/*
 * Of all connections of one process, and of what came behind requests that wait; it is at most
 * 1/16 of --memory. Above it a connection that keeps more than its share is not read from, and one
 * that takes nothing for PEER_STUCK_MS is cut.
 */
#define UNREAD_BYTES_MAX (64u << 20)
#define UNREAD_SHARE     16

/* Answers with bytes that are made for one connection at a time; the others wait without a fiber.
 */
#define CONN_ANSWERS_MAX 64

/* Bytes on their way to and from segments of other processes. Puts come again, gets wait. */
#define BUFFER_BYTES_MAX (256u << 20)

/* Objects. */

/* Up to here a value costs less in the catalog than a second round trip does. */
#define INLINE_BYTES_MAX 2048

/* Extents of a LOOKUP, COMMIT, EXTEND or FIND; a chunk of a large object's list. */
#define EXTENTS_MAX 64

/* Numbered parts of an open object: S3's multipart uploads have so many. */
#define PARTS_MAX 10000

/* Of one object; at 64 MiB each, four terabytes. */
#define OBJECT_EXTENTS_MAX 65536

/* An extent's bytes are summed in pieces of this size, so that a range is checked by itself. */
#define CHECK_PIECE (64u << 10)

/* Segments. */

#define SEGMENT_BYTES_MIN (64u << 10)
#define SEGMENT_BYTES_MAX (64u << 20)

/* At most this share of a pool, so that one writer's open segment is not the pool. */
#define SEGMENT_POOL_SHARE 64

/* An object of one extent begins at a multiple of this; a piece of a larger one on a page. */
#define SEGMENT_ALIGN 64
#define SEGMENT_PAGE  4096

/* Segments granted by one LEASE, and asked for by one SEGMENT. */
#define LEASE_SEGMENTS_MAX 64

/* An open segment that nothing was put into for so long is sealed. */
#define SEGMENT_IDLE_MS 1000

/* Of one pool: each is a descriptor and a mapping, and the kernel has 65,530 of those. */
#define POOL_SEGMENTS_MAX 32768

/*
 * Segments that were given back and that functions map still, watched for pages that those make
 * there: a descriptor each, and one of the keeper's, so where there are few of those it is less. As
 * many as sixteen functions map at most; one that is pushed out has what is touched of it until its
 * holder ends.
 */
#define RETIRED_MAX 1024

/* They are looked at so often; so are segments in use, where they were punched and are mapped. */
#define RETIRED_LOOK_MS 1000

/* Asks for segments that wait at one pool for space; the next one is told to come again. */
#define POOL_ASKS_MAX 16384

/* The last so much of a pool is only for the oldest of those who wait. */
#define POOL_RESERVE_SHARE 20

/*
 * Segments are asked of the store in their asker's process until this share of its pool more is in
 * use than of the one that has most room; the rest stays for who else puts on that host.
 */
#define NEAR_LEAD_SHARE 2

/* What a keeper holds for a process: a descriptor each, and a kernel gives a process no more. */
#define KEEP_REGIONS_MAX 65536

/* A keeper that says nothing for so long is as good as dead: another one is started. */
#define KEEP_ANSWER_MS 2000

/* That a server which starts waits for the next keeper, where that one was the first. */
#define KEEP_NEXT_MS 6000

/* So many segments of the largest size are only for moves: to free one takes another. */
#define POOL_MOVE_SEGMENTS 2

/* A slot of whose bytes more than 1/5 are dead cleans before it asks for more. */
#define DEAD_SHARE 5

/* Values lie in blocks of one job, the blocks in segments of the slot. */
#define VALUE_BLOCK_BYTES   4096
#define VALUE_SEGMENT_BYTES (1u << 20)

/* Of one slot: a tebibyte of small values. Their table is then 8 MiB. */
#define VALUE_SEGMENTS_MAX (1u << 20)

/* The index of a job on a host. */

/* Of its table: the smallest is a page; the largest has half a million objects. */
#define INDEX_TABLE_BYTES_MIN 4096
#define INDEX_TABLE_BYTES_MAX (64u << 20)

/* Entries that one call drops or copies: some ten microseconds. */
#define INDEX_STEP 256

/* Of its head, and of a function's pins: a page has room for a thousand mappings. */
#define INDEX_HEAD_BYTES 4096

/* A table begins with five hundred objects, and grows fourfold while that is too few. */
#define INDEX_TABLE_BYTES_FIRST (64u << 10)

/*
 * Small values in an index of one job: copies in regions, each filled and then used again as a
 * whole. A megabyte is the values of a table as it begins.
 */
#define COPIES_BYTES (64u << 10)
#define COPIES_MAX   16

/* Objects that were got once: the next get of one brings it into the index. More push each other
 * out. */
#define INDEX_SEEN 1024

/* A handle that has got so much on one connection has the index of its job: to ask for it costs as
 * much as some twenty gets through the ring. */
#define INDEX_AFTER 16

/*
 * Indexes of one proxy: two descriptors each, and one for each function that reads one, of which
 * there are as many as rings, one for COPIES_BYTES of values. They have together at most 1/64 of
 * --memory; who finds no room, or pushes out others, has what he asks for copied.
 */
#define INDEXES_MAX 64
#define INDEX_SHARE 64

/* Shared memory. */

/*
 * Messages of a function that its proxy has not answered yet; what comes on top goes over
 * the socket. It hides a wake-up of the proxy a few dozen times, and costs 4 KiB each.
 */
#define RING_SLOTS 32

/* A request or its answer, with a small value: the longest of those, and 2 KiB for all else. */
#define RING_SLOT_BYTES 4096

/*
 * Rings of one proxy: two descriptors each, and 132 KiB, of which they have together at most
 * 1/16 of --memory, with those that functions have still. Who finds none has its socket.
 */
#define RINGS_MAX  1024
#define RING_SHARE 16

/*
 * Descriptors sent through a Unix socket before its peer has read them. The kernel keeps those
 * that nobody reads, and counts them as this process's user's.
 */
#define STREAM_FDS_UNREAD 128

/*
 * All those of one proxy are one in so many of the descriptors for its connections, far below what
 * the kernel has of one user's; and of them a job has at most as many as are left for others.
 */
#define FDS_UNREAD_SHARE 8

/* A handle asks for a ring with so many questions: to make one costs as much as a few of them. */
#define RING_AFTER 4

/* Of one proxy: uids whose processes were given segments to map, each bound to one job. */
#define UIDS_MAX 4096

/*
 * Segments that one handle maps. One that was not used for so long is given up: what it maps
 * is the job's for as long as it does.
 */
#define MAPPINGS_MAX    64
#define MAPPING_IDLE_MS 1000

/*
 * Objects that one connection has room for and has not put: it writes a few at a time, and what is
 * reserved for the others is its job's.
 */
#define CONN_RESERVED_MAX 1024

/* Longer ones a function writes to their place itself; these are copied by the proxy in less time.
 */
#define RESERVE_FROM ((64u << 10) + 1)

/* Below it, to ask where the bytes are costs more than to have them sent. */
#define NEAR_FROM (128u << 10)

/* The catalog. */

#define SLOT_COUNT 1024
#define SHARDS_MAX 64

/* How many names one REMOVE_TREE or LIST looks at: a bounded step, some hundred microseconds. */
#define TREE_STEP 1024
#define LIST_STEP 1024

/* What one tick of a catalog, or one wake-up, may handle before others have their turn. */
#define TICK_STEP 256

/* Commits that a job remembers, to answer a repeat the same. */
#define ATTEMPTS_PER_JOB 65536

#define JOBS_PER_SLOT     16384
#define SESSIONS_PER_SLOT 65536
#define HOLDS_PER_SESSION 65536
#define OPEN_PER_SESSION  65536

/* Ended jobs of a slot whose bill can be seen; the bills of older ones are in a sum. */
#define ENDED_JOBS_MAX 256

/*
 * Ended jobs of a shard that a server is told of when it comes back, if it was away for less than a
 * minute. What it does not hear of it is told when it asks for it.
 */
#define OVERS_MAX 4096

/* Of one job in a session: a quarter, so that others have room. As many as four connections read.
 */
#define HOLDS_PER_JOB 16384
#define OPEN_PER_JOB  16384

/* Requests that wait for something to be there, or for room. */
#define PARKED_PER_SHARD (1u << 20)
/* Of one job: a quarter, likewise. */
#define PARKED_PER_JOB (1u << 18)
/* Their memory, of all shards of a process: this share of --memory, and a quarter of it, likewise.
 */
#define PARKED_SHARE 8

/* Time. */

#define TIMEOUT_MS_DEFAULT 10000
#define TIMEOUT_MS_MAX     (24u * 3600 * 1000)

/* A signal that came just before a call began to wait is noticed after so long. */
#define INTERRUPT_LOOK_MS 1000

#define SESSION_HEARTBEAT_MS 5000
#define SESSION_LIFE_MS      30000

/*
 * A function that speaks to metadata itself, and whose connection has ended: if it lives, and
 * waits for anything, it is back at once.
 */
#define FUNCTION_GONE_MS 2000

/*
 * Who answers with bytes of a job does so for so long after he asked its shard anything: a
 * job's end waits no longer for one that is stopped.
 */
#define SERVE_MS 500

#define JOB_LEASE_MS_DEFAULT (10u * 60 * 1000)
#define JOB_LEASE_MS_MIN     1000
#define JOB_LEASE_MS_MAX     (7u * 24 * 3600 * 1000)

/* A hold or a view may keep bytes so long while others wait for space. */
#define HOLD_MS_MAX (60u * 1000)

/* A store that is killed is back within this time, if whoever started it starts it again at once.
 */
#define STORE_RESTART_MS 3000

/*
 * Of a host that is gone, or a virtual machine that is paused or was thrown away, no connection's
 * end is told. One on which nothing comes is asked after so long, and again so often, and its
 * connection ends. A process that is stopped is none of it: its kernel answers; but who sends to
 * one that reads nothing for so long connects anew, too.
 */
#define HOST_QUIET_S 30
#define HOST_ASK_S   5
#define HOST_GONE_S  60

/*
 * A store that leaves an ask for segments unanswered for so long is stopped, or full, or out of
 * reach, and another is asked: who leases for less may be NOSPACE beside one that has room.
 */
#define ASK_QUIET_MS 1000

/* Between a connection's beginning and its HELLO. */
#define HELLO_MS_MAX 5000

/* A direct client's to metadata: within that of its function, which is to hear of it. */
#define HELLO_MS_DIRECT 4000

/* Between two bytes of a frame that has begun; then its sender is not coming back. */
#define CONN_HALF_MS_MAX (60u * 1000)

/* A reader that takes nothing for so long does not keep bytes whose segment is wanted back. */
#define PEER_STUCK_MS 1000

/*
 * A store that was out of reach for so long is given up, unless said otherwise: by then a job
 * that nobody has renewed is over, too.
 */
#define STORE_GONE_MS_DEFAULT (10u * 60 * 1000)

/* A duty that was not answered is sent again after so long. */
#define DUTY_AGAIN_MS 1000

/* Processes. */

/* Of a proxy: more than the cores of any machine that is nothing but a proxy. */
#define LOOPS_MAX 64

/* Memory of a shard's log: a leaf that is filled, one made ahead, and some on their way to a file.
 */
#define LOG_BYTES_MIN (4u << 20)

/* A log that can take nothing for so long is full, and whoever waits for it is told. */
#define LOGFULL_MS 1000

/* Logged between two snapshots, unless said otherwise: it is replayed in a tenth of a second. */
#define SNAPSHOT_BYTES_DEFAULT (10u << 20)

/* Generous: an untouched page costs nothing but its address, and sanitizers need more. */
#define FIBER_STACK_BYTES (128u << 10)

/* The largest page of any kernel we run on, and wider than any frame of ours. */
#define FIBER_GUARD_BYTES (64u << 10)

/* Operations of a proxy, or of a handle, in progress; one more is refused: it can come again. */
#define FIBERS_PER_LOOP 4096

/*
 * Of these, gets that wait for their object: what they wait for is put through the rest. One more
 * is refused, and waits as WAIT does, which costs a record.
 */
#define GETS_WAITING_MAX 3072

/*
 * What a proxy undoes because it never heard what became of it. While so many wait for metadata
 * to answer, nothing is begun that may have to be undone.
 */
#define ERRANDS_MAX 4096

/*
 * Closing a direct client waits so long for metadata to take back what is open: a round trip, but
 * for one that does not answer; its session ends it otherwise.
 */
#define DIRECT_REST_MS 1000

/* Direct clients that a process keeps warm: those of as many threads, or of as many jobs. */
#define DIRECT_WARM_MAX 8

/*
 * Of one process; each is a descriptor, so where there are fewer of those, it is less. Above
 * it new ones are told so and closed; further ones, when so many wait for that, only closed.
 */
#define CONNS_MAX        40000
#define CONNS_TURNED_MAX 256

/*
 * Bytes that a loop copies or sums, or takes from a connection or gives to it while others are
 * heard, before they have their turn: some 50 us.
 */
#define LOOP_PIECE (256u << 10)

/* What one turn takes from each source; the rest waits for the next, so nobody starves. */
#define LOOP_TIMERS_PER_TURN  1024
#define LOOP_LETTERS_PER_TURN 1024
#define LOOP_EVENTS_PER_TURN  128
#define LOOP_ACCEPTS_PER_TURN 64

/*
 * What follows from one event, round by round, before the next one has its turn: a get takes
 * four, a put that leases some ten.
 */
#define LOOP_ROUNDS_TO_SETTLE 16

/*
 * Turns in a row that have work anyway, and so do not ask the kernel for more: to ask is
 * dearer than what most of them do. Those that move long values are no such turns: they
 * may take so long together, and then whoever else has come is heard.
 */
#define LOOP_TURNS_UNASKED 16
#define LOOP_UNASKED_NS    50000

/* Kept of one kind of memory for requests, when they are over: as many as one turn has. */
#define SPARES_MAX 128

/* Of bodies: a connection's requests that wait, and as many answers. */
#define SPARE_BODIES_MAX 2048

/*
 * Of the doors for monitors: connections, each with a buffer for its request; and how long they may
 * take for one. More of them push out the one that has said half a request for longest.
 */
#define WEB_CONNS_MAX     64
#define WEB_REQUEST_BYTES 8192
#define WEB_IDLE_MS       10000

/* Connections that the kernel has accepted and we have not; it cuts this to its own limit. */
#define LISTEN_BACKLOG 4096

/*
 * A client that waits asks its socket for so long before it sleeps, if its last answers came
 * as soon as that: two sleeping cores take 60 us to wake.
 */
#define LOOP_AWAKE_NS_MAX 100000

/* Who finds that it had to share its core meanwhile sleeps for so long as everybody does. */
#define LOOP_AWAKE_GAP_NS  50000
#define LOOP_AWAKE_REST_MS 100

/* Who was silent for so long in memory that we look at in each turn has to ring from then on. */
#define BELL_QUIET_NS 1000000

/* Who sleeps on a word in memory looks so often whether the other end is still there. */
#define BELL_WORD_NS 50000000

/* A connect or an accept that found no room is tried again after so long. */
#define SOCKET_AGAIN_MS 10

/* Metadata's floor: below it nothing can be promised. */
#define MEMORY_BYTES_MIN (64u << 20)

_Static_assert(2 * PATH_BYTES_MAX + ATTRIBUTES_BYTES_MAX + TOKEN_BYTES_MAX + 256 <= FRAME_BODY_MAX,
	       "the longest body fits");
_Static_assert(FIBER_STACK_BYTES % FIBER_GUARD_BYTES == 0, "every guard begins on a page");
_Static_assert(RING_SLOT_BYTES >= 2 * INLINE_BYTES_MAX, "a small value travels in a ring");
_Static_assert(CONN_CREDIT >= FRAME_PAYLOAD_MAX, "the longest payload may be sent at all");
