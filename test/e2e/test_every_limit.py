"""Every limit of src/base/limits.h is reached: by whom it is for, or on the wire.

A test says with @reaches which limits it goes up to and beyond. What is no bound for
anybody outside, a size or a period, is named in HELD with the unit test that holds it. A
limit that is in neither list fails.
"""
import base64
import contextlib
import glob
import hmac
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
import wire as protocol
from cluster import Cluster, is_there, keepers
from conftest import DONE, LATE_S, REFUSED, ROOT, USAGE, build_target, in_time, pattern, run_wadi, until
from conftest import told as told_of
from test_in_place import Writer, metric
from test_near import Near
from test_resident import Got
from test_rings import library  # noqa: F401, a fixture
from test_server import http_get
from test_statuses import SmallFiles, damage, replace_often
from test_unread import unread_bytes
from wire import PROXY, Wire, decode, decode_all, encode

KIB, MIB = 1 << 10, 1 << 20

TEXT = protocol.read("base/limits.h")
LIMITS = {name: eval(re.sub(r"(?<=[0-9])u\b", "", value))  # pylint: disable=eval-used
          for name, value in re.findall(r"^#define (\w+)\s+(.+)$", TEXT, re.M)}

REACHED = {}


def reaches(*names):
    def note(function):
        for name in names:
            assert name in LIMITS, f"no limit {name}"
            REACHED.setdefault(name, []).append(function.__name__)
        return function
    return note


# Sizes and periods of the inside, and the test (file: words of its name) that fails without them.
HELD = {
    "TICK_STEP": ("test_catalog_objects", "size"),
    "LOOP_TIMERS_PER_TURN": ("test_loop", "size"),
    "LOOP_LETTERS_PER_TURN": ("test_loop", "size"),
    "LOOP_ROUNDS_TO_SETTLE": ("test_loop", "size"),
    "SPARES_MAX": ("test_spares", "size"),
    "SPARE_BODIES_MAX": ("test_conn_hostile", "size"),
    "FIBER_STACK_BYTES": ("test_fiber", "size"),
    "FIBER_GUARD_BYTES": ("test_fiber", "size"),
    "LOOP_PIECE": ("test_core", "size"),
    "ERRANDS_MAX": ("test_core", "size"),
    "LOG_BYTES_MIN": ("test_restart", "size"),
    "VALUE_SEGMENTS_MAX": ("test_catalog_replay", "size"),
    "HOLD_MS_MAX": ("test_catalog_reads", "period"),
    "INDEX_STEP": ("test_shm_index", "size"),
    "INDEX_TABLE_BYTES_MIN": ("test_shm_index", "size"),
    "INDEX_TABLE_BYTES_MAX": ("test_shm_index", "size"),
    "RING_SLOTS": ("test_ring", "size"),
    "KEEP_REGIONS_MAX": ("test_keep_set", "size"),
    "KEEP_NEXT_MS": ("test_keep", "period"),
    "RING_SLOT_BYTES": ("test_ring", "size"),
    "DUTY_AGAIN_MS": ("test_shard", "period"),
    "SESSION_HEARTBEAT_MS": ("test_shard", "period"),
    "ASK_QUIET_MS": ("test_shard", "period"),
}


# Held by a test of another kind, or where something else always comes first.
GAPS = {
    "CONN_HALF_MS_MAX": "test_conn_hostile.c: a frame that stops half-way, an hour later",
    "HOST_QUIET_S": "test_vanish.py: a host that is gone without a word",
    "HOST_ASK_S": "the same",
    "HOST_GONE_S": "the same",
    "SERVE_MS": "test_stops.py: a stopped proxy serves nothing that has ended",
    "STORE_RESTART_MS": "test_kill.py: stores are killed under traffic",
    "STORE_GONE_MS_DEFAULT": "test_gone.py: a store that never comes back, with --store-gone of seconds",
    "PEER_STUCK_MS": "test_hostile.py: who stops reading what was removed",
    "UNREAD_BYTES_MAX": "test_hostile.py: floods on many connections, in a share of memory",
    "UNREAD_SHARE": "the same",
    "LOOP_AWAKE_GAP_NS": "waiting awake: measured by bench, and no bound",
    "LOOP_AWAKE_NS_MAX": "the same",
    "LOOP_AWAKE_REST_MS": "the same",
    "LOOP_TURNS_UNASKED": "the same",
    "LOOP_UNASKED_NS": "the same",
    "BELL_QUIET_NS": "test_bell.c: one that is silent is not looked at",
    "BELL_WORD_NS": "test_bell.c: an event is not forgotten over a word",
    "RINGS_MAX": "test_rings.py: with the share of memory that comes first",
    "RING_SHARE": "test_rings.py: one more function than there are rings for",
    "FDS_UNREAD_SHARE": "test_unread.py: who reads none takes none from other jobs",
    "RING_AFTER": "test_rings.py: who asks less often has no ring",
    "INDEX_HEAD_BYTES": "test_views.py: who is given an index",
    "INDEX_TABLE_BYTES_FIRST": "test_views.py: thousands of objects",
    "INDEXES_MAX": "test_views.py: as many jobs as may have an index",
    "INDEX_SHARE": "test_views.py: indexes have a share of memory",
    "MAPPINGS_MAX": "test_near.py: a handle maps at most 64 segments",
    "MAPPING_IDLE_MS": "test_near.py: what is not used is given up",
    "NEAR_FROM": "test_near.py: of a small object nothing is mapped",
    "UIDS_MAX": "test_near.py: as many users as may have segments of jobs",
    "FUNCTION_GONE_MS": "test_direct.py: a killed client leaves nothing within seconds",
    "HELLO_MS_DIRECT": "test_direct.py: metadata that does not answer is told in time",
    "DIRECT_REST_MS": "the same: a handle is closed",
    "DIRECT_WARM_MAX": "test_direct.py: a process keeps few clients warm",
    "CONN_UPLOADS_MAX": "test_hostile.py: uploads that never end are limited",
    "CONN_RESERVED_MAX": "test_in_place.py: a connection has room for so many objects",
    "RESERVE_FROM": "test_in_place.py: an object is written where it lies, from 65,537 bytes on",
    "RETIRED_LOOK_MS": "test_in_place.py: what is touched again is punched, and again",
    "COPIES_BYTES": "test_resident.py: more values than there is room for",
    "COPIES_MAX": "the same",
    "INDEX_AFTER": "test_resident.py: nobody is asked for what was got twice",
    "INTERRUPT_LOOK_MS": "capi.c: a signal ends a call if its host wants that",
    "WEB_IDLE_MS": "test_hostile.py: slow HTTP ends after its time",
    "NEAR_LEAD_SHARE": "test_hosts.py: the other host is left alone until this one is half full",
}


def hello_is_missed(cluster):
    cluster.silent.socket.settimeout(LATE_S)
    return cluster.silent.is_closed_by_peer()


def deadline_is_over(cluster):
    return cluster.waiting.end(cluster.wait).status == "TIMEOUT"


def session_is_over(cluster):
    mark = f"session={cluster.quiet.session:016x}"
    return until(lambda: mark in cluster.roles["meta"].told(), "the session to be over", 120)


def watch(cluster, what):
    if what(cluster):
        cluster.took[what] = time.monotonic() - cluster.began


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("limits"), memory="256M")
    made.began = time.monotonic()
    # What takes its time begins now, and is looked at by the tests at the end.
    made.silent = Wire("127.0.0.1", made.proxy_port)
    made.quiet = made.to_meta()
    made.quiet.close()
    made.waiting_job = made.job("waiting")
    made.waiting = Wire("127.0.0.1", made.proxy_port)
    made.waiting.hello(secret=made.waiting_job.token)
    made.wait = made.waiting.start("WAIT", job=made.waiting.job, path="never", timeout_ms=0)
    made.took = {}
    watchers = [threading.Thread(target=watch, args=(made, what), daemon=True)
                for what in (hello_is_missed, deadline_is_over, session_is_over)]
    for watcher in watchers:
        watcher.start()
    made.watched = lambda: [watcher.join(2 * LIMITS["SESSION_LIFE_MS"] / 1000) for watcher in watchers]
    try:
        yield made
        made.stop()
    finally:
        made.kill()


def at_meta(cluster, job, role=PROXY):
    """A connection of a server to the shard of a job; it has the job's number and slot."""
    with Wire.at(job.endpoint) as function:
        function.hello(secret=job.token)
        number, slot = function.job, function.slot
    meta = cluster.to_meta(slot % len(cluster.meta_ports), role)
    meta.job, meta.slot = number, slot
    return meta


@pytest.fixture
def meta(cluster, request):
    """Such a connection, and a job of its own."""
    name = "m-" + re.sub(r"[^a-z0-9]", "-", request.node.name.lower())[-60:]
    job = cluster.job(name)
    with at_meta(cluster, job) as made:
        made.client = job
        yield made
    cluster.admin("job", "end", name)


def ask(meta, message, payload=b"", **fields):
    """As a server does for the job."""
    names = [name for _, name in protocol.FIELDS[message + "_REQ"]]
    for name in ("job", "session", "epoch"):
        if name in names:
            fields.setdefault(name, getattr(meta, name))
    return meta.call(message, payload, slot=meta.slot, **fields)


# Names.


@reaches("PATH_BYTES_MAX")
def test_a_path(w):
    w("put", "-", "x" * 1024, input=b"x")
    told = w("put", "-", "x" * 1025, input=b"x", code=REFUSED, status="TOOLARGE")
    assert told == b"" and LIMITS["PATH_BYTES_MAX"] == 1024


@reaches("JOB_NAME_BYTES_MAX")
def test_a_jobs_name(store):
    store.client()("job", "create", "j" * 64)
    store.client()("job", "end", "j" * 64)
    store.client()("job", "create", "j" * 65, code=REFUSED, status="INVALID")


@reaches("ATTRIBUTES_BYTES_MAX")
def test_attributes(w):
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        assert wire.call("PUT", path="x", attributes=b"a" * 512).status == "OK"
        assert len(wire.call("GET", path="x")["attributes"]) == 512
        reply = wire.call("PUT", path="x", attributes=b"a" * 513)
    assert str(reply) == "TOOLARGE: larger than a limit (attributes have at most 512 bytes)"


@reaches("TOKEN_BYTES_MAX")
def test_a_token(store, w):
    def narrow(prefix):
        return w.run("job", "token", "--prefix", prefix)
    # The longest prefix of a token that is short enough, and one byte more.
    longest = max(n for n in range(500, 800) if narrow("p" * n).returncode == DONE)
    token = narrow("p" * longest).stdout.decode().strip()
    assert len(token) <= LIMITS["TOKEN_BYTES_MAX"] < len(token) + 3
    w.at(token)("put", "-", "p" * longest, input=b"x")
    done = narrow("p" * (longest + 1))
    assert done.returncode == REFUSED and b": TOOLARGE: " in done.stderr, done.stderr
    w.at("A" * (LIMITS["TOKEN_BYTES_MAX"] + 1))("ls", code=REFUSED, status="BADTOKEN")


@reaches("TOKEN_RESTRICTIONS_MAX")
def test_restrictions_of_a_token(w):
    narrow = w
    for _ in range(LIMITS["TOKEN_RESTRICTIONS_MAX"]):
        narrow = w.at(narrow("job", "token", "--rights", "read,list").decode().strip())
    assert narrow("ls") == b""
    narrow("job", "token", "--rights", "read", code=REFUSED, status="TOOLARGE")
    # One more that is made by hand, and signed as it should be.
    raw = base64.urlsafe_b64decode(narrow.token + "=" * (-len(narrow.token) % 4))
    more = bytes([2]) + struct.pack("<I", 1)
    signed = raw[:-32] + more + hmac.digest(raw[-32:], more, "sha256")
    w.at(base64.urlsafe_b64encode(signed).decode().rstrip("="))("ls", code=REFUSED, status="BADTOKEN")


# Frames.


def is_cut(store_or_w, **frame):
    """A frame that says so of itself ends its connection, and nothing else."""
    with Wire.at(store_or_w.endpoint) as wire:
        wire.hello(secret=store_or_w.token)
        wire.send_frame(call=7, **frame)
        return wire.is_closed_by_peer()


@reaches("FRAME_BODY_MAX")
def test_a_body(w):
    body = encode("STAT_REQ", {"path": "x"})
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        wire.early[7] = ("STAT", None)
        wire.send_frame(protocol.MESSAGES["STAT"], body.ljust(LIMITS["FRAME_BODY_MAX"], b"\0"), call=7)
        assert wire.end(7).status == "MALFORMED"
    assert is_cut(w, msg=protocol.MESSAGES["STAT"], body_len=LIMITS["FRAME_BODY_MAX"] + 1)
    assert is_cut(w, msg=protocol.MESSAGES["STAT"], body_len=0xffffffff)
    w("put", "-", "x", input=b"x")


@reaches("FRAME_PAYLOAD_MAX")
def test_a_payload(w):
    data = pattern(LIMITS["FRAME_PAYLOAD_MAX"])
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        assert wire.call("PUT", data, path="x").status in ("OK", "AGAIN")
        w("put", "-", "x", input=data + b"more")
        reply = wire.call("GET", path="x", take=0xffffffff)
        assert reply.payload == data[:len(reply.payload)] and MIB <= len(reply.payload) <= len(data)
    body = encode("PUT_REQ", {"path": "x"})
    assert is_cut(w, msg=protocol.MESSAGES["PUT"], body=body, payload_len=len(data) + 1)


@reaches("FRAME_FREE_PAYLOAD")
def test_a_payload_without_confirmation(w):
    """Up to here a payload is one frame; a longer one without its confirmation is half of one."""
    body = encode("PUT_REQ", {"path": "x"})
    most = LIMITS["FRAME_FREE_PAYLOAD"]
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        wire.call("PUT", pattern(most), path="warm")  # leases
        reply = until(lambda: (lambda r: r if r.status == "OK" else None)(wire.call("PUT", pattern(most), path="x")),
                      "room")
        assert wire.call("GET", path="x", take=most).frame["flags"] == protocol.REPLY
        assert reply["version"] > 0
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        w("put", "-", "y", input=pattern(most + 1))
        assert wire.call("GET", path="y", take=most + 1).frame["flags"] == protocol.REPLY | protocol.MORE
        # Taken back: nothing of it is there.
        wire.early[9] = ("PUT", None)
        header = {"msg": protocol.MESSAGES["PUT"], "call": 9, "flags": protocol.MORE, "body_len": len(body),
                  "payload_len": most + 1}
        wire.socket.sendall(struct.pack("<I", protocol.MAGIC) + encode("FRAME", header) + body + pattern(most + 1, 5))
        header.update(flags=protocol.ABORT, body_len=0, payload_len=0)
        wire.socket.sendall(struct.pack("<I", protocol.MAGIC) + encode("FRAME", header))
        assert wire.end(9).status == "CANCELED"
    assert w("get", "x") == pattern(most)


@reaches("CONN_CREDIT", "TRANSFER_PIECE")
def test_credit_and_a_piece(w):
    with Wire.at(w.endpoint) as wire:
        assert wire.hello(secret=w.token)["credit"] == LIMITS["CONN_CREDIT"]
        opened = wire.call("PUT_OPEN", path="x", len_hint=64 * MIB)
        assert opened["room"] >= LIMITS["TRANSFER_PIECE"]
        piece = pattern(LIMITS["TRANSFER_PIECE"])
        assert wire.call("PUT_DATA", piece, put=opened["put"], offset=0).status == "OK"
        assert wire.call("PUT_DROP", put=opened["put"]).status == "OK"
    assert is_cut(w, msg=protocol.MESSAGES["PUT_DATA"], body=encode("PUT_DATA_REQ", {}), payload_len=len(piece) + 1)


@reaches("CONN_REQUESTS_MAX")
def test_requests_that_are_not_answered(w):
    most = LIMITS["CONN_REQUESTS_MAX"]
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        for _ in range(most - 1):
            wire.start("GET", path="x", wait_ms=20000, timeout_ms=20000)
        assert wire.call("PING").status == "OK"  # the last one that is read
        last = wire.start("GET", path="x", wait_ms=20000, timeout_ms=20000)
        ping = wire.start("PING")
        with pytest.raises(socket.timeout):
            wire.socket.settimeout(0.3)
            wire.end(ping)
        wire.socket.settimeout(LATE_S)
        w("put", "-", "x", input=b"here")
        assert wire.end(last).payload == b"here" and wire.end(ping).status == "OK"


def stop_reading(job, count):
    """Asks for `count` MiB, and reads none of it."""
    wire = Wire.at(job.endpoint)
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
    wire.hello(secret=job.token)
    wire.calls = [wire.start("GET", path="x", take=MIB, timeout_ms=60000) for _ in range(count)]
    return wire


def settled(value):
    """What it is when it has not changed for a while."""
    seen = [value()]
    until(lambda: time.sleep(0.3) or seen.append(value()) or abs(seen[-1] - seen[-2]) < MIB, "it to stay the same")
    return seen[-1]


@reaches("CONN_SEND_QUEUE_BYTES", "CONN_ANSWERS_MAX")
def test_answers_that_are_not_read(cluster):
    """They are not made: what was read for one connection is bounded, and goes on when it reads."""
    job = cluster.job("unread")
    job("put", "-", "x", input=pattern(4 * MIB))
    with stop_reading(job, 20) as wire:  # what a process takes once and keeps
        for call in wire.calls:
            wire.end(call)
    before = settled(lambda: rss(cluster.pid("proxy")))
    with stop_reading(job, 500) as wire:  # each with a stack would be as much again
        grown = settled(lambda: rss(cluster.pid("proxy"))) - before
        assert grown <= 1.7 * LIMITS["CONN_SEND_QUEUE_BYTES"], f"{grown / MIB} MiB"
        for call in wire.calls:
            assert len(wire.end(call).payload) == MIB
    cluster.admin("job", "end", "unread")


@reaches("CONN_UNREAD_BYTES_MAX")
def test_short_answers_that_are_not_read(cluster):
    """Each has a buffer, a hundred times as long as it is: no more are made than a few."""
    job, count = cluster.job("short"), 200_000
    ping = struct.pack("<I", protocol.MAGIC) + encode("FRAME", {"msg": protocol.MESSAGES["PING"], "call": 1,
                                                                "timeout_ms": 60000})
    before = settled(lambda: rss(cluster.pid("proxy")))
    with Wire.at(job.endpoint) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        wire.hello(secret=job.token)
        asks = threading.Thread(target=wire.socket.sendall, args=(ping * count,))
        asks.start()
        grown = settled(lambda: rss(cluster.pid("proxy"))) - before
        assert grown < 2.5 * LIMITS["CONN_UNREAD_BYTES_MAX"], f"{grown / MIB} MiB"
        left = count * len(ping)  # an answer is as long
        while left > 0:
            left -= len(wire.socket.recv(min(left, MIB)))
        asks.join()
        assert wire.call("PING").status == "OK"
    cluster.admin("job", "end", "short")


@reaches("BUFFER_BYTES_MAX")
def test_answers_that_nobody_reads(cluster):
    """Of many connections: memory is bounded, and others have what they want when it has been wanted for a while."""
    job = cluster.job("unread-by-many")
    job("put", "-", "x", input=pattern(4 * MIB))
    before = settled(lambda: rss(cluster.pid("proxy")))
    wires = [stop_reading(job, 16) for _ in range(60)]
    grown = settled(lambda: rss(cluster.pid("proxy"))) - before
    assert grown <= 1.2 * LIMITS["BUFFER_BYTES_MAX"], f"{grown / MIB} MiB"
    # What they have asked for may still be on its way; then there is room.
    done = until(lambda: (lambda d: d if d.returncode == REFUSED else None)(job.run("get", "x", "--timeout", "500ms")),
                 "a get that is refused")
    assert b": LIMIT: too many at once (" in done.stderr, done.stderr
    assert job("get", "x", "--timeout", "25s") == pattern(4 * MIB)
    for wire in wires:
        wire.close()
    cluster.admin("job", "end", "unread-by-many")


@reaches("CONN_READS_MAX")
def test_reads_of_a_connection(w):
    w("put", "-", "x", input=pattern(100_000))
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        for _ in range(LIMITS["CONN_READS_MAX"] // 512):
            calls = [wire.start("GET", path="x", take=1) for _ in range(512)]
            holds = [wire.end(call)["hold"] for call in calls]
        assert all(holds)
        assert wire.call("GET", path="x", take=1).status == "LIMIT"
        assert w("get", "x") == pattern(100_000)
        assert wire.call("GET_END", hold=holds[0]).status == "OK"
        assert wire.call("GET", path="x", take=1).status == "OK"


# Objects.


@reaches("INLINE_BYTES_MAX")
def test_a_small_value(w):
    for length, extents in ((2048, 0), (2049, 1)):
        w("put", "-", "x", input=pattern(length))
        assert w.json("stat", "x")["extents"] == extents
    assert LIMITS["INLINE_BYTES_MAX"] == 2048


@pytest.fixture
def places(meta):
    """Places of 64 bytes in segments that we lease, for as many extents as an object may have."""
    found = []
    for request in range(1, 99):
        reply = ask(meta, "LEASE", request=request, need=MIB, size=MIB)
        assert reply.status == "OK", str(reply)
        for grant in decode_all("GRANT", reply.payload):
            found += [{"segment": grant["segment"], "generation": grant["generation"], "offset": offset, "len": 64,
                       "seed": 1} for offset in range(0, grant["size"], 64)]
        if len(found) > LIMITS["OBJECT_EXTENTS_MAX"] + 200:
            return found
    raise AssertionError("no room")


def extents_at(places, first, count):
    return b"".join(encode("EXTENT", place) for place in places[first:first + count])


@reaches("EXTENTS_MAX")
def test_extents_of_one_message(meta, places):
    most = LIMITS["EXTENTS_MAX"]
    reply = ask(meta, "COMMIT", extents_at(places, 0, most), len=most * 64, extent_count=most, path="x",
                attempt_lo=1)
    assert reply.status == "OK", str(reply)
    reply = ask(meta, "COMMIT", extents_at(places, most, most), len=most * 64, extent_count=most + 1, path="y",
                attempt_lo=2)
    assert reply.status == "INVALID", str(reply)
    meta.send_frame(protocol.MESSAGES["COMMIT"], encode("COMMIT_REQ", {}), payload_len=48 * (most + 1), slot=meta.slot)
    assert meta.is_closed_by_peer()


@reaches("OBJECT_EXTENTS_MAX")
def test_extents_of_an_object(meta, places):
    opened = ask(meta, "OPEN", request=7)["open"]
    count = LIMITS["OBJECT_EXTENTS_MAX"] // 64

    def extend(i, n):
        return meta.start("EXTEND", extents_at(places, 64 * i, n), slot=meta.slot, job=meta.job, session=meta.session,
                          epoch=meta.epoch, open=opened, extent_count=n, offset=i * 64 * 64)
    for i in range(count):  # a log that is full for a moment takes it a moment later
        until(lambda i=i: meta.end(extend(i, 64)).status == "OK", "an EXTEND")
    reply = meta.end(extend(count, 1))
    assert str(reply) == "LIMIT: too many at once (an object has at most 65536 extents)"
    reply = ask(meta, "COMMIT", open=opened, len=count * 64 * 64, path="x", attempt_lo=1)
    assert reply.status == "OK", str(reply)
    assert ask(meta, "STAT", path="x")["extent_count"] == LIMITS["OBJECT_EXTENTS_MAX"]


@reaches("PARTS_MAX")
def test_parts_of_an_upload(w, meta, places):
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        put = wire.call("PUT_OPEN", path="x")["put"]
        assert wire.call("PUT_DATA", b"last", put=put, part=9999).status == "OK"
        assert wire.call("PUT_DATA", b"first", put=put, part=0).status == "OK"
        reply = wire.call("PUT_DATA", b"none", put=put, part=10000)
        assert reply.status in ("INVALID", "LIMIT"), str(reply)
        put = wire.call("PUT_OPEN", path="y")["put"]
        assert wire.call("PUT_DATA", b"last", put=put, part=9999).status == "OK"
        assert wire.call("PUT_DATA", b"first", put=put, part=0).status == "OK"
        assert wire.call("PUT_COMMIT", put=put).status == "OK"
    assert w("get", "y") == b"firstlast"
    opened = ask(meta, "OPEN", request=7)["open"]
    reply = ask(meta, "EXTEND", extents_at(places, 0, 1), open=opened, part=LIMITS["PARTS_MAX"], extent_count=1)
    assert str(reply) == "LIMIT: too many at once (an object has at most 10000 parts)"


@reaches("CHECK_PIECE")
def test_a_range_is_verified_by_itself(store, w):
    data = os.urandom(3 * LIMITS["CHECK_PIECE"])
    at = LIMITS["CHECK_PIECE"]
    w("put", "-", "x", input=data)
    damage(store.process.pid, data[at + 100:at + 200])
    assert w("get", "x", "--range", f"0-{at - 1}") == data[:at]
    assert w("get", "x", "--range", f"{2 * at}-") == data[2 * at:]
    for part in (f"{at}-{at}", f"{2 * at - 1}-{2 * at}", f"{at - 1}-{at}"):
        w("get", "x", "--range", part, code=REFUSED, status="DAMAGED")


# Segments.


@reaches("SEGMENT_BYTES_MIN", "SEGMENT_POOL_SHARE", "LEASE_SEGMENTS_MAX")
def test_segments_of_a_lease(meta, cluster):
    limit = cluster.admin.json("top")["dram_limit"] or 256 * MIB * 7 // 8
    least, most = LIMITS["SEGMENT_BYTES_MIN"], LIMITS["LEASE_SEGMENTS_MAX"]
    reply = ask(meta, "LEASE", request=1, need=1, size=least - 1)
    assert str(reply) == "INVALID: not a valid request (segments have at least 65536 bytes)"
    counts = []

    def lease_many():
        """As many as there are, and more of them ahead when many were asked for."""
        reply = ask(meta, "LEASE", request=100 + len(counts), need=100 * least, size=least)
        grants = decode_all("GRANT", reply.payload)
        assert {g["size"] for g in grants} == {least}
        counts.append(len(grants))
        return counts[-1] >= most
    until(lease_many, "so many at once")
    assert max(counts) == most
    sizes = [g["size"] for g in decode_all("GRANT", ask(meta, "LEASE", request=3, need=1, size=1 << 31).payload)]
    assert len(sizes) == 1 and sizes[0] <= limit / LIMITS["SEGMENT_POOL_SHARE"] < 2 * sizes[0], (sizes, limit)


@reaches("SEGMENT_BYTES_MAX")
def test_the_largest_segment(tmp_path):
    """Of a pool of which 1/64 would be more."""
    made = Cluster(tmp_path, shards=1, memory="10G")
    try:
        with at_meta(made, made.job("j")) as meta:
            reply = ask(meta, "LEASE", request=1, need=1, size=1 << 31)
            assert [g["size"] for g in decode_all("GRANT", reply.payload)] == [LIMITS["SEGMENT_BYTES_MAX"]]
    finally:
        made.kill()


@reaches("SEGMENT_ALIGN", "SEGMENT_PAGE")
def test_places_in_a_segment(cluster, meta):
    align, page = LIMITS["SEGMENT_ALIGN"], LIMITS["SEGMENT_PAGE"]
    job = meta.client

    def places_of_two():
        """In one segment, unless that is sealed between them: for a second it is open."""
        for name in ("a", "b"):
            job("put", "-", name, input=pattern(2049))
        found = [decode_all("EXTENT", ask(meta, "LOOKUP", path=name, take=1).payload)[0] for name in ("a", "b")]
        return found[0]["segment"] == found[1]["segment"] and found
    places = until(places_of_two, "two in one segment")
    # From the back, side by side.
    assert places[0]["offset"] - places[1]["offset"] == (2049 + align - 1) // align * align
    assert all(place["offset"] % align == 0 for place in places)
    job("put", "-", "large", input=pattern(9 * MIB + 1))
    extents = decode_all("EXTENT", ask(meta, "LOOKUP", path="large", take=0xffffffff).payload)
    assert len(extents) > 1 and all(e["offset"] % page == 0 for e in extents)


@reaches("SEGMENT_IDLE_MS")
def test_an_open_segment_that_is_not_used(w):
    def is_open():
        """Its second may be over before that is looked at, on a machine that does much else."""
        w("rm", "x")
        w("put", "-", "x", input=pattern(10_000))
        return w.held() >= LIMITS["SEGMENT_BYTES_MIN"]
    w("put", "-", "x", input=b"x")
    begun = until(lambda: (begun := time.monotonic()) and is_open() and begun, "an open segment")
    until(lambda: w.held() < LIMITS["SEGMENT_BYTES_MIN"], "the segment to be sealed")
    assert w.held() <= 4 * LIMITS["SEGMENT_PAGE"]
    assert time.monotonic() - begun >= LIMITS["SEGMENT_IDLE_MS"] / 1000


def take_segments(meta, count, stop=1):
    """Leases of 16 of the smallest, until one is larger."""
    sizes = []
    for number in range(count):
        reply = ask(meta, "LEASE", request=number + 100, need=16 * 64 * KIB, size=64 * KIB)
        assert reply.status == "OK", (len(sizes), str(reply))
        sizes += [g["size"] for g in decode_all("GRANT", reply.payload)]
        if max(sizes) > 64 * KIB and len(sizes) > stop:
            break
    return sizes


@reaches("POOL_SEGMENTS_MAX")
def test_segments_of_a_pool(tmp_path):
    """As many as descriptors allow, and no more than the limit: here 300. Past half of them they grow."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 4096), before[1]))
    made = None
    try:
        made = Cluster(tmp_path, shards=1, memory="160M", store_prefix=["prlimit", "--nofile=400:400"])
        job = made.job("j")
        with at_meta(made, job) as meta:
            sizes = take_segments(meta, 100)
            # Those that are made ahead count, too.
            assert sizes[:100] == [64 * KIB] * 100 and len(sizes) <= 160 and sizes[-1] > 64 * KIB, sizes
            fds = len(os.listdir(f"/proc/{made.pid('store')}/fd"))
            while reply := ask(meta, "LEASE", request=len(sizes) + 1000, need=16 * 64 * KIB, size=64 * KIB,
                               timeout_ms=2000):
                if reply.status != "OK":
                    break
                sizes += [g["size"] for g in decode_all("GRANT", reply.payload)]
            # All of the memory was given out, and no more than 300 segments.
            assert str(reply).startswith("NOSPACE: "), str(reply)
            assert 100 < len(sizes) <= 300 and sum(sizes) >= 0.9 * 136 * MIB, (len(sizes), sum(sizes))
            assert fds < 400
        assert LIMITS["POOL_SEGMENTS_MAX"] == 32768
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        if made:
            made.kill()


@reaches("POOL_ASKS_MAX")
def test_asks_that_wait_for_space(tmp_path):
    made = Cluster(tmp_path, shards=1, memory="96M")
    try:
        made.job("j")
        fields = {"need": 64 * MIB, "size": MIB, "timeout_ms": 60000}
        stores = []
        most = LIMITS["POOL_ASKS_MAX"]
        each = LIMITS["CONN_REQUESTS_MAX"] // 2
        for index in range(most // each + 1):
            store = made.to_store()
            stores.append(store)
            for number in range(each):
                store.start("SEGMENT", job=5, request=index * each + number + 1, **fields)
        reply = stores[-1].end(stores[-1].next_call - 1)
        while reply.status == "OK":  # what was free was granted
            reply = stores[-1].call("SEGMENT", job=5, request=1 << 40, **fields)
        assert str(reply) == ("LIMIT: too many at once (16384 wait for space of store dram, which is its limit)")
        # More of one connection are told to come again.
        again = stores[0].call("SEGMENT", job=5, request=1 << 41, **fields)
        assert again.status in ("AGAIN", "LIMIT"), str(again)
        for store in stores:
            store.close()
    finally:
        made.kill()


@reaches("POOL_RESERVE_SHARE", "POOL_MOVE_SEGMENTS")
def test_the_last_part_of_a_pool(tmp_path):
    """Who is not the oldest leaves it to him."""
    made = Cluster(tmp_path, shards=1, memory="96M")
    try:
        made.job("j")
        with made.to_store() as store:
            # Who asks for a moment only is never the one who has waited longest.
            granted, refused, number = 0, 0, 0
            limit = 72 * MIB - LIMITS["POOL_MOVE_SEGMENTS"] * MIB  # the largest segment has 1 MiB here
            reserve, due = 72 * MIB // LIMITS["POOL_RESERVE_SHARE"], time.monotonic() + LATE_S
            # Until nothing more is made meanwhile; as long as there is more than that, a machine may do much else.
            while refused < 12 or 72 * MIB - granted - reserve >= MIB and time.monotonic() < due:
                number += 1
                reply = store.call("SEGMENT", job=5, request=number, need=64 * KIB, size=64 * KIB, timeout_ms=10)
                granted += 64 * KIB if reply.status == "OK" else 0
                refused = 0 if reply.status == "OK" else refused + 1
                time.sleep(0.1 if refused else 0)
            assert reply.status == "NOSPACE" and f"limit {limit}" in reply.detail, str(reply)
            left = 72 * MIB - granted
            assert 0 <= left - reserve < MIB, left
            # One that waits is the oldest, and gets what is left.
            reply = store.call("SEGMENT", job=5, request=number + 1, need=64 * KIB, size=64 * KIB, timeout_ms=5000)
            assert reply.status == "OK", str(reply)
    finally:
        made.kill()


@reaches("DEAD_SHARE")
def test_dead_bytes_beside_what_is_live(new_store):
    """Up to a fifth they stay; beyond, what is live is moved away from them before there is more."""
    store = new_store(memory="192M")
    w = store.job()

    def moved():
        text = http_get(store.endpoints["http"].rstrip("/") + "/metrics")[1]
        return int(re.search(r"^wadi_moved_bytes_total (\d+)", text, re.M).group(1))

    def put(names):
        for name in names:
            w("put", "-", name, input=pattern(100_000))
    put(f"{i:03}" for i in range(120))
    w("rm", *[f"{i:03}" for i in range(120) if i % 8 == 0])
    put(f"more/{i:03}" for i in range(40))
    assert moved() == 0
    w("rm", *[f"{i:03}" for i in range(120) if i % 8 in (1, 3, 5)])
    number = iter(range(1000))
    until(lambda: put([f"again/{next(number)}"]) or moved() > 0, "the dead bytes to be given back")
    assert w("get", "002") == pattern(100_000)
    assert store.stop() == 0


@reaches("VALUE_BLOCK_BYTES", "VALUE_SEGMENT_BYTES")
def test_values_lie_in_blocks(w):
    w("put", "-", "x", input=b"x" * 1000)
    assert w.held() == LIMITS["VALUE_BLOCK_BYTES"]
    for i in range(3):
        w("put", "-", f"x{i}", input=b"x" * 1000)
    assert w.held() <= 2 * LIMITS["VALUE_BLOCK_BYTES"]
    count = LIMITS["VALUE_SEGMENT_BYTES"] // LIMITS["VALUE_BLOCK_BYTES"] + 10
    with Wire.at(w.endpoint) as wire:  # more than one segment of them
        wire.hello(secret=w.token)
        calls = [wire.start("PUT", b"v" * 2048, path=f"v/{i}") for i in range(2 * count)]
        assert {wire.end(call).status for call in calls} == {"OK"}
    assert w.held() >= count * LIMITS["VALUE_BLOCK_BYTES"] > LIMITS["VALUE_SEGMENT_BYTES"]
    assert w("get", f"v/{count}") == b"v" * 2048


# The catalog.


@reaches("SLOT_COUNT")
def test_slots(cluster):
    with cluster.to_meta() as meta:
        last = LIMITS["SLOT_COUNT"] - 2  # of those that this shard has
        assert meta.call("STAT", slot=last, job=last << 54 | 1 << 40, path="x").status == "NOJOB"
        reply = meta.call("JOB_LIST", from_slot=LIMITS["SLOT_COUNT"])
        assert reply.status == "OK" and reply["count"] == 0, str(reply)
        body = encode("STAT_REQ", {"job": last << 54 | 1 << 40, "path": "x"})
        meta.early[99] = ("STAT", None)
        meta.send_frame(protocol.MESSAGES["STAT"], body, slot=LIMITS["SLOT_COUNT"], call=99)
        assert meta.end(99).status == "INVALID"


@reaches("SHARDS_MAX")
def test_shards(new_store):
    done = run_wadi("dev", "--shards", LIMITS["SHARDS_MAX"] + 1)
    assert done.returncode == USAGE and b"64" in done.stderr, done.stderr
    store = new_store("--shards", str(LIMITS["SHARDS_MAX"]))
    w = store.job()
    w("put", "-", "x", input=b"x")
    assert w("get", "x") == b"x" and store.stop() == 0


@reaches("LOOPS_MAX")
def test_loops(tmp_path):
    done = run_wadi("proxy", "--meta", "127.0.0.1:1", "--loops", LIMITS["LOOPS_MAX"] + 1)
    assert done.returncode == USAGE and b"64" in done.stderr, done.stderr
    made = Cluster(tmp_path, shards=1, loops=LIMITS["LOOPS_MAX"])
    try:
        job = made.job("a")
        wires = [Wire.at(job.endpoint) for _ in range(2 * LIMITS["LOOPS_MAX"])]
        assert {wire.hello(secret=job.token).status for wire in wires} == {"OK"}
        def metrics():
            return http_get(made.roles["proxy"].endpoints["http"].rstrip("/") + "/metrics")[1]

        # Two of these, and one to metadata; the first has another one, to the store, which it was asked about.
        counts = [4] + [3] * (LIMITS["LOOPS_MAX"] - 1)
        until(lambda: [int(n) for n in re.findall(r"^wadi_loop_connections{.*} (\d+)$", metrics(), re.M)] == counts,
              "the connection that made the job to be gone")
        text = metrics()
        assert text.endswith("\n") and 'wadi_loop_cpu_nanoseconds_total{loop="63"} ' in text
        for wire in wires:
            wire.close()
        made.stop()
    finally:
        made.kill()


@reaches("TREE_STEP", "LIST_STEP")
def test_steps_through_a_directory(w):
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        calls = [wire.start("PUT", path=f"d/{i:05}") for i in range(2100)]
        assert {wire.end(call).status for call in calls} == {"OK"}
        listed = wire.call("LIST", job=wire.job, directory="d/", max=0xffffffff, slot=wire.slot)
        assert (listed["count"], listed["has_more"]) == (LIMITS["LIST_STEP"], 1)
        removed = wire.call("REMOVE_TREE", job=wire.job, up_to=2100, directory="d/", max=0xffffffff, slot=wire.slot)
        assert (removed["count"], removed["next"]) == (LIMITS["TREE_STEP"], f"d/{LIMITS['TREE_STEP']:05}".encode())
    assert len(w.names("d")) == 2100 - LIMITS["TREE_STEP"]
    w("rm", "-r", "d")
    assert w.names() == []


@reaches("ATTEMPTS_PER_JOB")
def test_attempts_that_a_job_remembers(w):
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        first = wire.call("PUT", b"x", path="x", attempt_hi=9, attempt_lo=1)
        replace_often(w, b"x", LIMITS["ATTEMPTS_PER_JOB"])
        again = wire.call("PUT", b"x", path="x", attempt_hi=9, attempt_lo=1)
        assert again["version"] == first["version"], "the last one that is remembered"
        replace_often(w, b"x", 1)
        again = wire.call("PUT", b"x", path="x", attempt_hi=9, attempt_lo=1)
        assert again.status == "STALE" and str(LIMITS["ATTEMPTS_PER_JOB"]) in again.detail
        # Who knew of one change more when he began cannot have been forgotten.
        younger = wire.call("PUT", b"x", path="x", attempt_hi=9, attempt_lo=2, since=1)
        assert younger["changes"] == LIMITS["ATTEMPTS_PER_JOB"] + 2


@reaches("JOBS_PER_SLOT")
def test_jobs_of_a_slot(new_store):
    store = new_store()
    names = subprocess.run([build_target("test/e2e/names_of_slot"), str(LIMITS["JOBS_PER_SLOT"] + 1), "77"],
                           stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    with Wire.at(store.endpoints["tcp"]) as wire:
        wire.hello()
        for first in range(0, LIMITS["JOBS_PER_SLOT"], 512):
            calls = [wire.start("JOB_CREATE", slot=77, name=name) for name in names[first:first + 512]]
            if first + 512 > LIMITS["JOBS_PER_SLOT"]:
                calls = calls[:LIMITS["JOBS_PER_SLOT"] - first]
            assert {wire.end(call).status for call in calls} == {"OK"}
    done = store.client().run("job", "create", names[-1])
    assert done.returncode == REFUSED and b": LIMIT: " in done.stderr and b"16384 jobs" in done.stderr, done.stderr
    store.client()("job", "create", "another-slot")
    store.client()("job", "end", names[0])
    store.client()("job", "create", names[-1])


class Greeting:
    """Many connections with a HELLO each, and nothing else."""

    def __init__(self, where, **hello):
        values = {"version": protocol.VERSION, **hello}
        body = encode("HELLO_REQ", values)
        self.frame = struct.pack("<I", protocol.MAGIC) + encode(
            "FRAME", {"msg": protocol.MESSAGES["HELLO"], "call": 1, "body_len": len(body)}) + body
        self.where = where

    def start(self):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves no TIME_WAIT
        s.connect(self.where)
        s.sendall(self.frame)
        return s

    @staticmethod
    def answer(s):
        """Its status, and what it says if that is good."""
        header = s.recv(36, socket.MSG_WAITALL)
        frame, _ = decode("FRAME", header[4:])
        body = s.recv(frame["body_len"], socket.MSG_WAITALL)
        return frame["status"], decode("HELLO_REP", body)[0] if frame["status"] == 0 else None


def keep_alive(meta, sessions):
    """They live for half a minute, and there may be more of them than can be made in that time."""
    for first in range(0, len(sessions), 512):
        calls = [meta.start("HEARTBEAT", session=session, epoch=epoch) for session, epoch in sessions[first:first + 512]]
        assert {meta.end(call).status for call in calls} == {"OK"}


@reaches("SESSIONS_PER_SLOT")
def test_sessions_of_a_shard(tmp_path):
    made = Cluster(tmp_path, shards=1, memory="64M")
    try:
        greeting = Greeting(("127.0.0.1", made.meta_ports[0]), role=PROXY, secret=made.key)
        statuses, meta = {}, made.to_meta()
        sessions = [(meta.session, meta.epoch)]
        due = time.monotonic() + LIMITS["SESSION_LIFE_MS"] / 3000
        for _ in range(0, LIMITS["SESSIONS_PER_SLOT"], 256):
            some = [greeting.start() for _ in range(256)]
            for s in some:
                status, said = greeting.answer(s)
                statuses[status] = statuses.get(status, 0) + 1
                if said:
                    sessions.append((said["session"], said["epoch"]))
                s.close()
            if time.monotonic() > due:
                keep_alive(meta, sessions)
                due = time.monotonic() + LIMITS["SESSION_LIFE_MS"] / 3000
        # The proxy has one of them, and the store, which moves, and who keeps the others alive.
        limit = protocol.STATUSES["LIMIT"][0]
        assert statuses == {0: LIMITS["SESSIONS_PER_SLOT"] - 3, limit: 3}, statuses
        with Wire("127.0.0.1", made.meta_ports[0]) as one_more:
            reply = one_more.hello(role=PROXY, secret=made.key)
        assert str(reply) == "LIMIT: too many at once (a shard has at most 65536 sessions)"
        # Those who are there go on.
        job = made.job("j")
        job("put", "-", "x", input=b"x")
    finally:
        made.kill()


class Tenants:
    """Jobs of one slot, and a connection with the session that they share, as a proxy's."""

    def __init__(self, cluster):
        names = subprocess.run([build_target("test/e2e/names_of_slot"), "5", "78"],
                               stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        self.cluster = cluster
        self.clients = [cluster.job(name) for name in names]
        self.jobs = []
        for client in self.clients:
            with at_meta(cluster, client) as other:
                self.jobs.append(other.job)
        self.meta = at_meta(cluster, self.clients[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.meta.close()
        for client in self.clients:
            self.cluster.admin("job", "end", client.job)

    def start(self, job, message, **fields):
        return self.meta.start(message, slot=self.meta.slot, job=self.jobs[job], session=self.meta.session,
                               epoch=self.meta.epoch, **fields)

    def ask(self, job, message, **fields):
        return self.meta.end(self.start(job, message, **fields))

    def fill(self, job, count, message, **fields):
        """True: all of them had room."""
        for first in range(0, count, 512):
            calls = [self.start(job, message, request=first + i + 1, **fields) for i in range(512)]
            if {self.meta.end(call).status for call in calls} != {"OK"}:
                return False
        return True


@reaches("HOLDS_PER_SESSION", "HOLDS_PER_JOB")
def test_holds_of_a_session(cluster):
    look = {"path": "x", "is_held": 1, "take": 1, "request": 100_000}
    held = {"path": "x", "is_held": 1, "take": 1}
    with Tenants(cluster) as t:
        for client in t.clients:
            client("put", "-", "x", input=pattern(100_000))
        for job in range(4):
            assert t.fill(job, LIMITS["HOLDS_PER_JOB"], "LOOKUP", **held)
            reply = str(t.ask(job, "LOOKUP", **look))
            if job < 3:
                assert reply == "LIMIT: too many at once (a job has at most 16384 holds in one session)"
                # What one job has is in nobody's way.
                assert t.ask(job + 1, "LOOKUP", **look).status == "OK"
                assert t.ask(job + 1, "RELEASE", request=100_000).status == "OK"
        assert reply == "LIMIT: too many at once (a session has at most 65536 holds)"
        assert str(t.ask(4, "LOOKUP", **look)) == reply
        # Of that session alone.
        assert t.clients[0]("get", "x") == pattern(100_000)


@reaches("OPEN_PER_SESSION", "OPEN_PER_JOB")
def test_open_objects_of_a_session(cluster):
    with Tenants(cluster) as t:
        for job in range(4):
            assert t.fill(job, LIMITS["OPEN_PER_JOB"], "OPEN")
            reply = str(t.ask(job, "OPEN", request=100_000))
            if job < 3:
                assert reply == "LIMIT: too many at once (a job has at most 16384 open objects in one session)"
        assert reply == "LIMIT: too many at once (a session has at most 65536 open objects)"
        assert str(t.ask(4, "OPEN", request=1)) == reply


class Waiters:
    """Requests that wait, sent without asking for their answers."""

    def __init__(self, meta):
        self.socket, self.next_id = meta.socket, 1000

    def send(self, count, message, slot, **fields):
        body = encode(message + "_REQ", fields)
        header = struct.pack("<I", protocol.MAGIC) + encode("FRAME", {
            "msg": protocol.MESSAGES[message], "slot": slot, "timeout_ms": 600000, "body_len": len(body)})
        before, after = header[:12], header[16:] + body
        for _ in range(count // 16384):
            self.socket.sendall(b"".join(before + struct.pack("<I", self.next_id + i) + after for i in range(16384)))
            self.next_id += 16384


@reaches("PARKED_PER_SHARD", "PARKED_PER_JOB")
def test_requests_that_wait_at_a_shard(tmp_path):
    """A million records, no stacks; a quarter of them may be one job's."""
    made = Cluster(tmp_path, shards=1, memory="64M")
    try:
        most, of_job = LIMITS["PARKED_PER_SHARD"], LIMITS["PARKED_PER_JOB"]
        jobs = [made.job(f"j{i}") for i in range(most // of_job + 1)]
        with at_meta(made, jobs[0]) as meta:
            waiters = Waiters(meta)
            before_rss = rss(made.pid("meta"))
            for job in jobs[:-1]:
                with at_meta(made, job) as other:
                    number, slot = other.job, other.slot
                waiters.send(of_job, "WAIT", slot, job=number, path="never")
                if job is not jobs[-2]:
                    reply = str(meta.call("WAIT", slot=slot, job=number, path="never"))
                    assert reply == "LIMIT: too many at once (262144 requests of the job wait, which is the limit)"
            reply = ask(meta, "WAIT", path="never")
            assert str(reply) == "LIMIT: too many at once (1048576 requests wait here, which is the limit)"
            with at_meta(made, jobs[-1]) as other:
                assert str(ask(other, "WAIT", path="never")) == str(reply)
                assert str(ask(other, "LEASE", need=1, size=64 * KIB)) == str(reply)
            # 96 bytes, the allocator's, and a place in the heap of deadlines.
            assert rss(made.pid("meta")) - before_rss < 160 * most
            assert meta.call("PING").status == "OK"
    finally:
        made.kill()


@reaches("PARKED_PER_JOB")
def test_requests_for_room_that_wait_at_a_shard(tmp_path):
    """Of a job whose quota is used up. They are limited together with others that wait, and go with their connection."""
    made = Cluster(tmp_path, shards=1, memory="64M")
    try:
        job, of_job = made.job("j", "--quota", "dram=64K"), LIMITS["PARKED_PER_JOB"]
        with at_meta(made, job) as other, at_meta(made, job) as meta:
            lease = {"job": meta.job, "session": meta.session, "epoch": meta.epoch, "need": 1, "size": 64 * KIB}
            assert ask(meta, "LEASE", **lease).status == "OK"
            before_rss = rss(made.pid("meta"))
            Waiters(meta).send(of_job, "LEASE", meta.slot, **lease)
            for message, fields in (("LEASE", lease), ("WAIT", {"path": "never"})):
                reply = str(ask(meta, message, timeout_ms=2000, **fields))
                assert reply == "LIMIT: too many at once (262144 requests of the job wait, which is the limit)"
            # Half a kilobyte, the allocator's, and places in the tables of those who ask.
            assert rss(made.pid("meta")) - before_rss < 800 * of_job
            assert made.job("k")("put", "-", "x", input=pattern(100_000)) == b""
            meta.close()
            until(lambda: other.call("INFO")["parked_count"] == 0, "those to go whose connection has gone")
    finally:
        made.kill()


def wait_until_refused(wire):
    """Each waits for a path of its own."""
    calls = []
    for number in range(100_000):
        calls.append(wire.start("WAIT", slot=wire.slot, job=wire.job, path=f"never{number}", timeout_ms=600_000))
        if number % 100 == 99:
            assert wire.call("STAT", job=wire.job, path="x").status == "NOTFOUND"
            refused = [wire.early[call][1] for call in calls[-200:] if wire.early[call][1] is not None]
            if refused:
                return str(refused[0])
    raise AssertionError("all of them wait")


@reaches("PARKED_SHARE")
def test_memory_of_requests_that_wait(new_store):
    """One job has a quarter of what all may have; what is not a wait goes on."""
    store = new_store(memory="64M")
    share, before, wires = 64 * MIB // LIMITS["PARKED_SHARE"], rss(store.process.pid), []
    for count in range(4):
        job = store.job()
        wires.append(Wire.at(store.endpoints["tcp"]))
        wires[-1].hello(secret=job.token)
        refused = wait_until_refused(wires[-1])
        whose = "here have all their" if count == 3 else "of the job that wait have all its"
        assert refused.startswith("LIMIT: ") and whose in refused, refused
        job("put", "-", "beside", input=pattern(100_000))
        assert job("get", "beside") == pattern(100_000)
        job("rm", "beside")
    assert rss(store.process.pid) - before < 4 * share  # with what the proxy remembers of each
    for wire in wires:
        wire.close()


def rss(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


# Time.


@reaches("TIMEOUT_MS_MAX")
def test_the_longest_deadline(w):
    assert LIMITS["TIMEOUT_MS_MAX"] == 24 * 3600 * 1000
    w("ls", "--timeout", "24h")
    done = w.run("ls", "--timeout", "24h1s")
    assert done.returncode == USAGE
    done = w.run("ls", "--timeout", "86401s")
    assert done.returncode == USAGE and b"1d" in done.stderr, done.stderr


@reaches("JOB_LEASE_MS_DEFAULT", "JOB_LEASE_MS_MIN", "JOB_LEASE_MS_MAX")
def test_leases_of_jobs(store):
    with Wire.at(store.endpoints["tcp"]) as wire:
        wire.hello()

        def create(lease_ms):
            name = f"lease-{lease_ms}"
            slot = 0
            reply = wire.call("JOB_CREATE", slot=slot, name=name, lease_ms=lease_ms)
            if reply.status != "OK":
                return str(reply)
            left = wire.call("JOB_SHOW", name=name)["lease_left_ms"]
            wire.call("JOB_END", name=name)
            return left
        least, most = LIMITS["JOB_LEASE_MS_MIN"], LIMITS["JOB_LEASE_MS_MAX"]
        refused = f"INVALID: not a valid request (a lease is from {least} to {most} ms)"
        assert 590_000 < create(0) <= LIMITS["JOB_LEASE_MS_DEFAULT"]
        assert create(least - 1) == refused and create(most + 1) == refused
        assert create(least) <= least and most - 10_000 < create(most) <= most
    assert store.client().run("job", "create", "x", "--lease", "8d").returncode == USAGE


# Processes.


def many(w, message, payload=b"", **fields):
    """More than a proxy does at a time: of five connections, each with as many as it may have."""
    wires = [Wire.at(w.endpoint) for _ in range(5)]
    for wire in wires:
        wire.hello(secret=w.token)
    yield wires
    for wire in wires:
        for _ in range(LIMITS["CONN_REQUESTS_MAX"] - 1):
            wire.start(message, payload, timeout_ms=60000, **fields)
    yield str(wires[-1].end(wires[-1].next_call - 1))
    for wire in wires:
        wire.close()
    yield


@reaches("FIBERS_PER_LOOP")
def test_operations_of_a_proxy(tmp_path):
    """What is asked of metadata that has stopped. A read is not counted for one who is not told."""
    made = Cluster(tmp_path)
    try:
        w = made.job("j")
        w("put", "-", "counted", "--reads", "1", input=b"x")
        with Wire.at(w.endpoint) as reader:
            reader.hello(secret=w.token)
            hold = reader.call("GET", path="counted", take=1, read_lo=1)["hold"]
            asking = many(w, "PUT", b"x", path="x")
            next(asking)
            os.kill(made.pid("meta"), signal.SIGSTOP)
            assert next(asking) == ("LIMIT: too many at once (this proxy has 4096 operations in progress, which is its "
                                    "limit; try again)")
            assert reader.call("GET_END", hold=hold, is_confirmed=1).status == "LIMIT"
            os.kill(made.pid("meta"), signal.SIGCONT)
            next(asking)
            until(lambda: reader.call("GET_END", hold=hold, is_confirmed=1).status == "OK", "the read to be counted")
            assert reader.call("GET", path="counted", take=1, read_lo=2).status == "CONSUMED"
        assert LIMITS["FIBERS_PER_LOOP"] == 4096
        made.stop()
    finally:
        made.kill()


@reaches("GETS_WAITING_MAX")
def test_gets_that_wait_for_their_object(w):
    """What they wait for can be put, and whoever comes behind them waits all the same, but for one who only looks."""
    asking = many(w, "GET", path="x", wait_ms=60000)
    next(asking)
    assert next(asking) == ("LIMIT: too many at once (in this proxy 3072 gets wait for their object, which is its limit; "
                            "WAIT for it, and get it then)")
    begun = time.monotonic()
    done = w.run("get", "x", "--wait", "1s")
    assert b": NOTFOUND: " in done.stderr and time.monotonic() - begun >= 1, done.stderr
    late = w.start("get", "x", "--wait", "60s")
    with pytest.raises(subprocess.TimeoutExpired):
        late.wait(0.5)
    w("put", "-", "y", input=b"other")
    assert w("get", "y") == b"other"
    w("put", "-", "x", input=b"here")
    assert late.communicate(timeout=LATE_S) == (b"here", b"")
    next(asking)
    assert LIMITS["GETS_WAITING_MAX"] == 3072


@reaches("CONNS_MAX", "CONNS_TURNED_MAX")
def test_connections(new_store):
    """Of a server with few descriptors; no machine of these tests would do for all of them."""
    store = new_store(prefix=["prlimit", "--nofile=400:400"])
    w = store.job()
    some, told = [], None
    while not told:
        some.append(Wire.at(w.endpoint))
        reply = some[-1].hello(secret=w.token)
        told = None if reply.status == "OK" else str(reply)
    assert re.fullmatch(r"LIMIT: too many at once \(this process has \d+ connections, which is its limit\)", told), told
    count = int(re.search(r"\d+", told).group())
    assert len(some) <= count + 1 <= 200 and count < LIMITS["CONNS_MAX"]
    assert some.pop().is_closed_by_peer()
    done = told_of(lambda: w.run("ls", "--timeout", "3s"))
    assert done.returncode == REFUSED and b": LIMIT: " in done.stderr, done.stderr
    # Those who are there do not notice.
    assert some[0].call("PING").status == "OK"
    # Who says nothing is turned away later, and of those there are not many either.
    flood = [Wire.at(w.endpoint) for _ in range(LIMITS["CONNS_TURNED_MAX"] + 10)]
    assert flood[-1].is_closed_by_peer()
    assert some[0].call("PING").status == "OK"
    for wire in some + flood:
        wire.close()
    until(lambda: w.run("ls").returncode == DONE, "room for others")
    assert store.stop() == 0


def at_http(store, request):
    host, port = store.endpoints["http"].split("//")[1].rstrip("/").rsplit(":", 1)
    s = socket.create_connection((host, int(port)), LATE_S)
    s.sendall(request)
    return s


@reaches("WEB_CONNS_MAX")
def test_connections_of_the_door_for_monitors(new_store):
    """One more, and the one that has said half a request for longest has to go; no other does."""
    store = new_store()
    some = []
    for _ in range(LIMITS["WEB_CONNS_MAX"]):
        some.append(at_http(store, b"GET /healthz HTTP/1.1\r\n"))
    some[0].settimeout(0.3)
    with pytest.raises(TimeoutError):
        some[0].recv(1)
    some.append(at_http(store, b"GET /healthz HTTP/1.1\r\n"))
    some[0].settimeout(LATE_S)
    assert some[0].recv(1) == b""
    for s in some[1:]:
        s.sendall(b"\r\n")
        assert s.recv(1000).startswith(b"HTTP/1.1 200")
    for s in some:
        s.close()
    assert store.stop() == 0


@reaches("WEB_REQUEST_BYTES")
def test_a_request_of_the_door_for_monitors(store):
    for length, told in ((LIMITS["WEB_REQUEST_BYTES"], b"HTTP/1.1 200"), (LIMITS["WEB_REQUEST_BYTES"] + 1, b"HTTP/1.1 431")):
        request = b"GET /healthz HTTP/1.1\r\nX: " + b"x" * length
        with at_http(store, request[:length - 4] + b"\r\n\r\n") as s:
            assert s.recv(1000).startswith(told)


@reaches("LISTEN_BACKLOG", "LOOP_ACCEPTS_PER_TURN", "LOOP_EVENTS_PER_TURN")
def test_many_who_come_at_once(new_store):
    """While nobody accepts them: as many as the kernel keeps, and then all of them are served."""
    with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
        most = min(LIMITS["LISTEN_BACKLOG"], int(file.read()))
    store = new_store()
    w = store.job()
    os.kill(store.process.pid, signal.SIGSTOP)
    path, waiting = store.endpoints["unix"].split("://")[1], []
    body = encode("HELLO_REQ", {"version": protocol.VERSION, "secret": w.token})
    frame = struct.pack("<I", protocol.MAGIC) + encode(
        "FRAME", {"msg": protocol.MESSAGES["HELLO"], "call": 1, "body_len": len(body)}) + body
    try:
        while len(waiting) < most + 10:
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            try:
                s.connect(path)
            except BlockingIOError:
                s.close()
                break
            s.setblocking(True)
            s.settimeout(LATE_S)
            s.sendall(frame)
            waiting.append(s)
    finally:
        os.kill(store.process.pid, signal.SIGCONT)
    assert most <= len(waiting) <= most + 1
    assert len(waiting) > LIMITS["LOOP_ACCEPTS_PER_TURN"] and len(waiting) > LIMITS["LOOP_EVENTS_PER_TURN"]
    told = {"OK": 0, "LIMIT": 0, "closed": 0}
    for s in waiting:
        try:
            header = s.recv(36, socket.MSG_WAITALL)
            told[protocol.STATUS_NAMES[struct.unpack_from("<H", header, 8)[0]]] += 1
        except ConnectionResetError:
            told["closed"] += 1
    # As many as there are descriptors for; the others are told, or closed if there are too many of them.
    assert sum(told.values()) == len(waiting) and told["OK"] > 1000, told
    for s in waiting:
        s.close()
    assert w("ls") == b""


@reaches("SOCKET_AGAIN_MS")
def test_without_a_descriptor_for_who_comes(new_store):
    """He waits, and is served as soon as there is one."""
    store = new_store()
    w = store.job()
    w("put", "-", "x", input=b"x")
    pid = store.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    held = Wire.at(w.endpoint)
    held.hello(secret=w.token)
    used = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd")) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
    some = [Wire.at(w.endpoint) for _ in range(20)]
    getter = w.start("get", "x", "--timeout", "20s")
    time.sleep(0.1)
    assert held.call("PING").status == "OK"
    assert getter.poll() is None
    for wire in some:
        wire.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    began = time.monotonic()
    assert getter.communicate(timeout=LATE_S)[0] == b"x"
    assert time.monotonic() - began < 10  # half of its deadline
    held.close()


@reaches("STREAM_FDS_UNREAD")
def test_descriptors_that_are_not_read(store, w):
    """Who asks for more is refused until he has read what he was sent; nothing else is."""
    w("put", "-", "x", input=pattern(MIB))
    most = LIMITS["STREAM_FDS_UNREAD"]
    with Near(store.endpoints["unix"], w.token) as n:
        extent, _ = n.extents(n.hold("x"))[0]
        where = {"segment": extent["segment"], "generation": extent["generation"]}

        def answers(count):
            """As they come, one after the other: what is passed with one frame has to be sent before the next."""
            for _ in range(count):
                before = unread_bytes(n.wire.socket)
                n.wire.start("EXPORT", **where)
                until(lambda: unread_bytes(n.wire.socket) > before, "an answer")  # pylint: disable=cell-var-from-loop
            data, passed = b"", 0
            while unread_bytes(n.wire.socket):
                more, fds, _, _ = socket.recv_fds(n.wire.socket, 1 << 16, 4)
                data, passed, n.fds = data + more, passed + len(fds), n.fds + fds
            told = []
            while data:
                frame, _ = decode("FRAME", data[4:36])
                told.append(protocol.STATUS_NAMES[frame["status"]])
                data = data[36 + frame["body_len"]:]
            return told, passed
        for _ in range(2):
            assert answers(most + 10) == (["OK"] * most + ["LIMIT"] * 10, most)
        n.wire.early.clear()
        assert n.wire.call("GET", path="x", take=MIB).payload == pattern(MIB)


@reaches("RETIRED_MAX")
def test_memory_that_is_given_back_and_mapped_still(new_store):
    """What is touched of it is punched again, but for the oldest, if there is more of it than is watched."""
    most = min(LIMITS["RETIRED_MAX"], resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 16)
    store = new_store(memory="256M")
    with contextlib.ExitStack() as stack, Wire.at(store.endpoints["unix"]) as admin:
        admin.hello()

        def leave():
            """A job with memory of its own, which a function of it maps when its connection is over."""
            made = admin.call("JOB_CREATE", slot=77, name=f"left-{len(left)}")
            f = stack.enter_context(Writer(store.endpoints["unix"], made["token"]))
            f.map(f.reserve(1)[0])[:1] = b"x"
            f.wire.close()
            left.append(f)
        left = []
        for _ in range(most + 5):
            leave()
        until(lambda: metric(store, "pool_retired_count") == most and metric(store, "pool_let_go_count") == 5,
              "as many as may be to be watched")
        until(lambda: not any(f.pages() for f in left), "it to be punched")
        for f in left:
            f.maps[0][:1] = b"x"
        until(lambda: sum(f.pages() > 0 for f in left) == 5, "what is watched to be punched")
        assert all(f.pages() for f in left[:5])
    until(lambda: metric(store, "pool_retired_count") == 0, "nobody to map it")
    assert metric(store, "pool_let_go_count") == 5 and store.stop() == 0


@reaches("INDEX_SEEN")
def test_objects_that_were_got_once(new_store, library):  # noqa: F811
    """The second get brings so many of them into the index, and the third asks for the others."""
    store, count = new_store(), 4 * LIMITS["INDEX_SEEN"]
    w = store.job()
    with Got(library, store.endpoints["unix"], w.token) as h:
        h.put("y", b"y")
        h.until_at_hand(store, "y")
        for i in range(count):
            h.put(f"{i}", b"x")

        def asked(order):
            before = metric(store, "calls_total")
            for i in order:
                assert h.get(f"{i}", 1) == b"x"
            return metric(store, "calls_total") - before
        assert asked(range(count)) >= count
        # The newest first: they are those that are known.
        assert asked(reversed(range(count))) >= count
        found = count - asked(range(count))
    assert 0.5 * LIMITS["INDEX_SEEN"] < found <= LIMITS["INDEX_SEEN"], found
    assert store.stop() == 0


@reaches("ENDED_JOBS_MAX", "OVERS_MAX")
def test_jobs_that_have_ended(tmp_path):
    """The bills of the last ones are listed; and who comes back is told of the last ones, which are more."""
    most, listed = LIMITS["OVERS_MAX"], LIMITS["ENDED_JOBS_MAX"]
    made = Cluster(tmp_path, shards=1)
    names = subprocess.run([build_target("test/e2e/names_of_slot"), str(most + 5), "77"], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.split()
    try:
        with Wire("127.0.0.1", made.proxy_port) as admin:
            admin.hello(secret=made.key)

            def each(message, some):
                calls = [admin.start(message, slot=77, name=name) for name in some]
                replies = [admin.end(call) for call in calls]
                assert {reply.status for reply in replies} == {"OK"}, message
                return replies
            jobs = []
            for at in range(0, len(names), 500):
                jobs += [reply["job"] for reply in each("JOB_CREATE", names[at:at + 500])]
                each("JOB_END", names[at:at + 500])

            def is_listed(name):
                return admin.call("JOB_SHOW", slot=77, name=name).status
            until(lambda: is_listed(names[-listed - 1]) == "NOJOB", "the older bills to be a sum")
            assert {is_listed(name) for name in names[-listed:]} == {"OK"}
            assert {is_listed(name) for name in names[:10]} == {"NOJOB"}

        def told():
            with made.to_meta() as meta:
                meta.call("PING")  # behind what it is told
                return [asked["job"] for name, asked in meta.asked if name == "JOB_OVER"]
        until(lambda: len(told()) <= most, "older ones to be forgotten")
        assert told() == jobs[-most:]
        made.stop()
    finally:
        made.kill()


@reaches("KEEP_ANSWER_MS")
def test_a_keeper_that_says_nothing(tmp_path):
    """Its owner needs memory, and starts another, which is given all; the silent one goes."""
    made = Cluster(tmp_path)
    try:
        w, directory = made.job("kept"), made.run_directory("store")
        silent, = keepers(directory)
        os.kill(silent, signal.SIGSTOP)
        began = time.monotonic()
        w("put", "-", "x", "--timeout", "20s", input=pattern(20 * MIB))
        until(lambda: set(keepers(directory)) - {silent}, "another keeper")
        took = time.monotonic() - began
        least = LIMITS["KEEP_ANSWER_MS"] / 1000
        assert least <= took + 0.1 and took < 2 * least + 5, took
        until(lambda: not is_there(silent), "the end of who says nothing")
        made.roles["store"].end(signal.SIGKILL)
        made.start_store()
        assert w("get", "x") == pattern(20 * MIB)
        w("rm", "x")
        made.stop()
    finally:
        made.kill()


@reaches("MEMORY_BYTES_MIN")
def test_the_least_memory(new_store):
    done = run_wadi("dev", "--memory", "63M")
    assert done.returncode == USAGE and b"64M" in done.stderr
    w = new_store(memory="64M").job()
    w("put", "-", "x", input=pattern(MIB))
    assert w("get", "x") == pattern(MIB)


@reaches("LOGFULL_MS")
def test_how_long_a_full_log_is_waited_for(new_store, tmp_path):
    """Of a put that finds it full, not of one that fills it."""
    small = SmallFiles(new_store, tmp_path)
    small.put()
    small.grow_to(1)
    until(lambda: small.put().returncode, "the disk to be full")
    least = LIMITS["LOGFULL_MS"] / 1000

    def put():
        began = time.monotonic()
        assert b": LOGFULL: " in small.put().stderr
        assert least <= time.monotonic() - began
    in_time(put, 1.7 * least + 0.2)
    small.grow_to(resource.RLIM_INFINITY)


@reaches("SNAPSHOT_BYTES_DEFAULT")
def test_when_a_snapshot_is_made(new_store, tmp_path):
    store = new_store("--data", str(tmp_path))
    w = store.job(None, "--durable")  # whose values are in the log

    def made():
        return [name for name in os.listdir(tmp_path / "shard-0") if "snap" in name]
    before = made()
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)

        def put(count, first):
            calls = [wire.start("PUT", b"v" * 2048, path=f"{first + i}") for i in range(count)]
            assert {wire.end(call).status for call in calls} == {"OK"}
        logged = 0
        while made() == before:
            put(200, logged)
            logged += 200
            assert logged < 200_000
    # Two kilobytes each, and not much beside them.
    assert 0.5 <= logged * 2048 / LIMITS["SNAPSHOT_BYTES_DEFAULT"] <= 2, logged
    assert store.stop() == 0


# What was begun with the cluster.


def took_about(cluster, what, name):
    """Not less, and not twice as much: this machine may be busy, and have had other things to do just then."""
    cluster.watched()
    expected = LIMITS[name] / 1000
    assert expected <= cluster.took[what] + 0.1 and cluster.took[what] < 2 * expected + 5, cluster.took


@reaches("HELLO_MS_MAX")
def test_who_says_no_hello(cluster):
    took_about(cluster, hello_is_missed, "HELLO_MS_MAX")


@reaches("TIMEOUT_MS_DEFAULT")
def test_who_says_no_deadline(cluster):
    took_about(cluster, deadline_is_over, "TIMEOUT_MS_DEFAULT")
    assert re.search(r"^timeout *= *10s", cluster.admin("config", "show").decode(), re.M)


@reaches("SESSION_LIFE_MS")
def test_a_session_that_is_not_heard(cluster):
    took_about(cluster, session_is_over, "SESSION_LIFE_MS")
    with cluster.to_meta() as meta:
        reply = meta.call("HEARTBEAT", session=cluster.quiet.session, epoch=cluster.quiet.epoch)
        assert reply.status == "NOSESSION"
    # The proxy's, which says its heartbeat, is not.
    cluster.waiting_job("put", "-", "x", input=pattern(100_000))
    assert cluster.waiting_job("get", "x") == pattern(100_000)


def test_every_limit_is_reached_or_held():
    assert not set(REACHED) & set(HELD)
    left_out = set(LIMITS) - set(REACHED) - set(HELD) - set(GAPS)
    assert not set(GAPS) & (set(REACHED) | set(HELD)), "a gap that is closed: take it out of GAPS"
    assert not left_out, f"no test reaches {sorted(left_out)}"
    for name, (test, kind) in HELD.items():
        assert kind in ("size", "period")
        with open(os.path.join(ROOT, "test/unit", test + ".c"), encoding="utf-8") as file:
            assert re.search(rf"\b{name}\b", file.read()), f"{test}.c does not know {name}"
