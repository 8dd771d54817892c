"""Clients that do not keep the protocol, or keep it to do harm: they stop in the middle, say half
of it, come in thousands, lie about lengths, flood. They cost the store a bounded memory, are told
so where that is possible, leave nothing half done, and others are served all the while.
"""
import concurrent.futures as futures
import json
import os
import re
import resource
import select
import signal
import socket
import struct
import threading
import time

import pytest
from cluster import Cluster
from conftest import DONE, LATE_S, finish, nothing_is_left_of, pattern, until
from conftest import told as told_of
from test_server import http_get
from wire import ABORT, FIELDS, HEADER, MESSAGES, MORE, REPLY, STATUS_NAMES, Closed, Wire, encode

KIB, MIB = 1 << 10, 1 << 20
FRAME_BODY_MAX, FRAME_PAYLOAD_MAX = 4096, 4 * MIB
HELLO_S, STUCK_S = 5, 1  # HELLO_MS_MAX, PEER_STUCK_MS
UNREAD_SHARE, CONN_READS_MAX, CONN_UPLOADS_MAX = 16, 4096, 4096

# What an idle connection may cost us: 4.3 KiB were measured, 1 of it for a token's prefix.
BYTES_PER_CONN = 6 * KIB


def resident(pid):
    """Memory of the process that is neither a file's nor shared: what is not the pool's."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"^RssAnon:\s+(\d+) kB", file.read(), re.M).group(1)) * KIB


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def endpoint(store, scheme):
    host, port = store.endpoints[scheme].split("//")[1].rsplit(":", 1)
    return host, int(port.rstrip("/"))


def raw(store, scheme="tcp", receive_bytes=None):
    """A socket; with a small buffer, what it does not read stays at the server."""
    if scheme == "unix":
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(LATE_S)
        s.connect(store.endpoints["unix"].split("://")[1])
        return s
    s = socket.socket()
    s.settimeout(LATE_S)
    if receive_bytes:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    s.connect(endpoint(store, scheme))
    return s


def wire_over(sock):
    wire = Wire.__new__(Wire)
    wire.socket, wire.next_call, wire.early, wire.asked = sock, 1, {}, []
    return wire


def connect(store, token=None, **how):
    wire = wire_over(raw(store, **how))
    assert wire.hello(secret=token).status == "OK"
    return wire


class Neighbor:
    """A client that behaves, all the while: every answer is looked at."""

    def __init__(self, store):
        self.store, self.client = store, store.job()
        self.count, self.slowest, self.problem, self.is_over = 0, 0, None, False
        self.thread = threading.Thread(target=self.run, args=(store,))
        self.thread.start()

    def run(self, store):
        try:
            with connect(store, self.client.token) as wire:
                while not self.is_over:
                    begun = time.monotonic()
                    value = b"%d" % self.count * 100
                    reply = wire.call("PUT", value, path="neighbor")
                    assert reply.status == "OK", str(reply)
                    reply = wire.call("GET", path="neighbor", take=4096)
                    assert reply.status == "OK" and reply.payload == value, str(reply)
                    self.slowest = max(self.slowest, time.monotonic() - begun)
                    self.count += 1
        except Exception as problem:  # told by the test's own thread
            self.problem = problem

    def __enter__(self):
        until(lambda: self.count or self.problem, "the neighbor to begin")
        return self

    def __exit__(self, kind, *_):
        self.is_over = True
        self.thread.join(LATE_S)
        if kind:
            return
        assert not self.problem, self.problem
        assert self.count > 3 and self.slowest < LATE_S / 2, (self.count, self.slowest)
        self.store.client()("job", "end", self.client.job)


def all_is_accounted_for(store):
    lines = [json.loads(line) for line in store.client()("doctor", "--json").decode().splitlines()]
    bills = [line for line in lines if line["about"] == "bills"]
    assert bills and bills[0]["level"] == "ok", bills


def nothing_is_left(store, job):
    assert store.client().run("job", "end", job).returncode == DONE
    nothing_is_left_of(store.client(), job)
    all_is_accounted_for(store)


@pytest.fixture
def own(new_store):
    """A store, a job in it, and a look at what is left of it all."""
    store = new_store(memory="256M")
    store.w = store.job()
    before = descriptors(store.process.pid)
    yield store
    nothing_is_left(store, store.w.job)
    until(lambda: descriptors(store.process.pid) <= before + 8, "its descriptors to come back")
    assert not re.search(r"^\S+ error ", store.log(), re.M), store.log()
    assert store.stop() == 0, store.log()


def test_who_stops_reading_keeps_nothing_that_is_wanted_back(own):
    """An answer that nobody takes pins its segment; once that is to be freed, it is cut."""
    own.w("put", "-", "large", input=pattern(MIB))
    wires = [connect(own, own.w.token, receive_bytes=4 * KIB) for _ in range(4)]
    for wire in wires:
        # Each answer is the whole object, so nothing is held but its bytes on their way out.
        for _ in range(16):
            wire.start("GET", path="large", take=MIB)
    for wire in wires:
        assert select.select([wire.socket], [], [], LATE_S)[0]
    with Neighbor(own):
        own.w("rm", "large")
        until(lambda: own.w.held() == 0, "the bytes of what was removed", 20)
    for wire in wires:
        wire.socket.settimeout(LATE_S)
        try:
            wire.read(16 * MIB)
            raise AssertionError("all of it came")
        except (Closed, ConnectionResetError):
            pass
        wire.close()


def test_who_stops_reading_is_not_cut_while_nobody_wants_it(own):
    own.w("put", "-", "large", input=pattern(MIB))
    with connect(own, own.w.token, receive_bytes=4 * KIB) as wire:
        calls = [wire.start("GET", path="large", take=MIB) for _ in range(16)]
        time.sleep(3 * STUCK_S)
        for call in calls:
            assert wire.end(call).payload == pattern(MIB)


FLOODS = {"PING": {}, "STAT": {"path": b"x"}, "GET": {"path": b"x", "take": KIB}, "LIST": {"max": 1}}


def flood_of(name, job):
    """Many requests, whose answers are as many."""
    body = encode(name + "_REQ", {"job": job, **FLOODS[name]} if name in ("STAT", "LIST") else FLOODS[name])
    return (struct.pack("<I", 0x31444157) + encode("FRAME", {"msg": MESSAGES[name], "call": 1, "timeout_ms": 60000,
                                                             "body_len": len(body)}) + body) * 500


def send_all_that_is_taken(wires, burst):
    """Until nothing is taken any more of those that are not cut."""
    cut, quiet_since = set(), time.monotonic()
    for wire in wires:
        wire.socket.setblocking(False)
    while time.monotonic() < quiet_since + 0.5:
        for wire in set(wires) - cut:
            try:
                wire.socket.send(burst)
                quiet_since = time.monotonic()
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                cut.add(wire)
        time.sleep(0.01)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_requests_without_reading_costs_a_bounded_memory(new_store, name):
    """Of all connections together: 1/16 of --memory, and what each may cost."""
    store = new_store(memory="64M")
    store.w = store.job()
    store.w("put", "-", "x", input=pattern(KIB))
    wires = [connect(store, store.w.token, receive_bytes=4 * KIB) for _ in range(100)]
    with Neighbor(store):
        before = resident(store.process.pid)
        most, is_over = [0], threading.Event()

        def look():
            while not is_over.wait(0.02):
                most[0] = max(most[0], resident(store.process.pid) - before)
        looks = threading.Thread(target=look)
        looks.start()
        try:
            send_all_that_is_taken(wires, flood_of(name, wires[0].job))
        finally:
            is_over.set()
            looks.join()
        # Buffers that are used again, and what came before it was noticed, are not much more.
        assert most[0] < 64 * MIB * 5 // UNREAD_SHARE + len(wires) * 64 * KIB, f"{most[0] / MIB} MiB"
    for wire in wires:
        wire.close()


def test_half_a_frame_holds_up_nobody(own):
    """Of each kind: in the header, the body, the payload, before the confirmation."""
    put = encode("PUT_REQ", {"path": b"half"})
    head = struct.pack("<I", 0x31444157) + encode("FRAME", {
        "msg": MESSAGES["PUT"], "flags": MORE, "call": 1, "timeout_ms": 60000, "body_len": len(put),
        "payload_len": MIB})
    whole = head + put + bytes(MIB)
    wires = []
    with Neighbor(own):
        for scheme in ("tcp", "unix"):
            for cut in (1, HEADER - 1, HEADER + 1, HEADER + len(put), HEADER + len(put) + 1, len(whole) - 1, len(whole)):
                wire = connect(own, own.w.token, scheme=scheme)
                wire.socket.sendall(whole[:cut])
                wires.append(wire)
        own.w("put", "-", "beside", input=pattern(3 * MIB))
        assert own.w("get", "beside") == pattern(3 * MIB)
        assert own.w.names() == ["beside"]
        for wire in wires:
            wire.close()
        own.w("rm", "beside")
        until(lambda: own.w.held() == 0, "what was reserved for halves")


def test_a_put_taken_back_or_cut_is_not_there(own):
    put = encode("PUT_REQ", {"path": b"x"})
    own.w("put", "-", "x", input=b"before")
    for last in ({"flags": ABORT}, {"flags": 0, "call": 77}, {"flags": MORE}, {"flags": 0, "payload_len": 5}):
        wire = connect(own, own.w.token)
        frame = {"msg": MESSAGES["PUT"], "call": 1, "timeout_ms": 9000}
        wire.socket.sendall(struct.pack("<I", 0x31444157)
                            + encode("FRAME", {**frame, "flags": MORE, "body_len": len(put), "payload_len": MIB})
                            + put + bytes(MIB) + struct.pack("<I", 0x31444157) + encode("FRAME", {**frame, **last}))
        if last["flags"] == ABORT:
            wire.early[1] = ("PUT", None)
            assert wire.end(1).status == "CANCELED"
        else:
            assert wire.is_closed_by_peer()
        wire.close()
        assert own.w("get", "x") == b"before"


EXTREMES = [0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def test_lengths_and_offsets_at_every_extreme_are_answered(own):
    """Each number that says how much or where, at each edge: an answer, or the connection's end."""
    own.w("put", "-", "there", input=pattern(100 * KIB))
    said = {}
    with Neighbor(own):
        for name, fields, payload in (
                ("GET", ("offset", "len", "take", "wait_ms"), b""),
                ("PUT", ("if_version", "ttl_ms", "reads", "flags", "tier", "copies", "age_ms"), b"value"),
                ("PUT_OPEN", ("len_hint", "age_ms", "ttl_ms"), b""),
                ("PUT_DATA", ("put", "part", "offset"), b"x" * 1000),
                ("GET_ON", ("hold", "offset", "take"), b""),
                ("GET_END", ("hold", "is_confirmed"), b""),
                ("LIST", ("max", "is_recursive"), b""),
                ("WAIT_COUNT", ("count",), b""),
                ("REMOVE_TREE", ("max",), b""),
                ("JOB_CREATE", ("lease_ms", "quota_dram", "capacity", "functions"), b"")):
            for field in fields:
                bits = int(next(k for k, f in FIELDS[name + "_REQ"] if f == field)[1:])
                for extreme in {e & ((1 << bits) - 1) for e in EXTREMES}:
                    with connect(own, None if name == "JOB_CREATE" else own.w.token) as wire:
                        values = {field: extreme}
                        known = [f for _, f in FIELDS[name + "_REQ"]]
                        if "job" in known:
                            values.setdefault("job", wire.job)
                        if "path" in known:
                            values["path"] = b"there" if name == "GET" else b"new"
                        if "directory" in known:
                            values["directory"] = b"nothing-here"
                        if name == "JOB_CREATE":
                            values["name"] = b"extreme"
                        if name in ("PUT_DATA", "GET_ON") and field != ("put" if name == "PUT_DATA" else "hold"):
                            opened = wire.call("PUT_OPEN", path=b"new") if name == "PUT_DATA" else \
                                wire.call("GET", path=b"there", take=10)
                            values["put" if name == "PUT_DATA" else "hold"] = opened["put"] if name == "PUT_DATA" \
                                else opened["hold"]
                        try:
                            reply = wire.call(name, payload, timeout_ms=300, **values)
                            assert reply.status not in ("INTERNAL", "MALFORMED"), (name, field, extreme, str(reply))
                            said.setdefault(reply.status, []).append((name, field, extreme))
                        except Closed:
                            raise AssertionError((name, field, extreme)) from None
                        if name == "JOB_CREATE" and reply.status == "OK":
                            own.client()("job", "end", "extreme")
    assert own.w("get", "there") == pattern(100 * KIB)
    assert {"OK", "INVALID", "NOTFOUND"} <= set(said), sorted(said)


@pytest.mark.parametrize("field,least", [("body_len", FRAME_BODY_MAX + 1), ("payload_len", FRAME_PAYLOAD_MAX + 1)])
def test_a_frame_above_its_limit_ends_the_connection(own, field, least):
    with Neighbor(own):
        for length in (least, 1 << 31, (1 << 32) - 1):
            with connect(own, own.w.token) as wire:
                wire.send_frame(MESSAGES["PUT"], encode("PUT_REQ", {"path": b"x"}), **{field: length})
                assert wire.is_closed_by_peer()
    assert own.w.names() == []


def test_an_object_of_exabytes_is_refused_or_waits_for_room(own):
    """2^63 bytes are announced: nothing is reserved for them that is not there."""
    before = own.client().top()["dram_used"]
    with Neighbor(own), connect(own, own.w.token) as wire:
        for hint in (1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1):
            reply = wire.call("PUT_OPEN", path=b"huge", len_hint=hint, timeout_ms=1000)
            assert reply.status in ("NOSPACE", "TOOLARGE", "QUOTA", "INVALID", "OK", "TIMEOUT"), str(reply)
            if reply.status == "OK":
                assert reply["room"] <= 256 * MIB
                wire.call("PUT_DROP", put=reply["put"])
        until(lambda: own.client().top()["dram_used"] < before + 64 * MIB, "what was reserved")
    assert own.w.names() == []


def test_reads_that_never_end_are_limited(own):
    """Each is held for its reader; one connection's are no more than it could use."""
    own.w("put", "-", "long", input=pattern(9 * MIB))
    said = {}
    with Neighbor(own), connect(own, own.w.token) as wire:
        for _ in range(CONN_READS_MAX // 512 + 1):
            for call in [wire.start("GET", path="long", take=10, timeout_ms=30000) for _ in range(512)]:
                reply = wire.end(call)
                said.setdefault(reply.status, []).append(reply)
        assert len(said["OK"]) == CONN_READS_MAX, {status: len(all) for status, all in said.items()}
        assert said["LIMIT"][0].detail == f"a connection has at most {CONN_READS_MAX} reads that go on"
        wire.call("GET_END", hold=said["OK"][0]["hold"])
        assert wire.call("GET", path="long", take=10).status == "OK"
        assert own.w("get", "long") == pattern(9 * MIB)


def test_uploads_that_never_end_are_limited(new_store):
    """As many as were asked for at a time, too."""
    store = new_store(memory="1G")
    most, said = CONN_UPLOADS_MAX, {}
    w = store.job()
    with connect(store, w.token) as wire:
        for _ in range(most // 512 + 1):
            for call in [wire.start("PUT_OPEN", path="x", len_hint=1, timeout_ms=30000) for _ in range(512)]:
                reply = wire.end(call)
                said.setdefault(reply.status, []).append(reply)
        assert {status: len(all) for status, all in said.items()} == {"OK": most, "LIMIT": 512}
        assert said["LIMIT"][0].detail == f"a connection has at most {most} objects that come in pieces"
        assert wire.call("PUT_DROP", put=said["OK"][0]["put"]).status == "OK"
        assert wire.call("PUT_OPEN", path="x", len_hint=1).status == "OK"
        assert wire.call("PUT_OPEN", path="x", len_hint=1).status == "LIMIT"
    until(lambda: w.held() == 0, "their segments to be given back")
    assert store.stop() == 0


def test_a_client_killed_in_the_middle_of_a_put_leaves_nothing(own, tmp_path):
    source = tmp_path / "pipe"
    os.mkfifo(source)
    with Neighbor(own):
        for _ in range(3):
            put = own.w.start("put", source, "half")
            with open(source, "wb", buffering=0) as pipe:
                pipe.write(bytes(20 * MIB))
                until(lambda: own.w.held() > 10 * MIB, "some of it to arrive")
                assert own.w.names() == []
                put.send_signal(signal.SIGKILL)
                finish(put)
            until(lambda: own.w.held() == 0, "the bytes of the half to come back")
        assert own.w.names() == []
        assert own.w("get", "half", code=1, status="NOTFOUND") == b""


def connections(store):
    _, text = http_get(store.endpoints["http"].rstrip("/") + "/metrics")
    return int(re.search(r"^wadi_connections (\d+)$", text, re.M).group(1))


def test_a_client_that_hangs_up_while_it_waits_for_room_leaves_nothing(own):
    """Its job has used up its quota, so it is not answered how much more may come."""
    job = own.job(None, "--quota", "dram=1M")
    job("put", "-", "most", input=pattern(500 * KIB))
    before, held = connections(own), job.held()
    for _ in range(3):
        with connect(own, job.token) as wire:
            put = wire.call("PUT_OPEN", path="more", len_hint=0)["put"]
            waiting = wire.start("PUT_DATA", put=put, timeout_ms=60000)
            assert wire.call("GET", path="most", take=1).status == "OK"
            assert wire.early[waiting][1] is None
        until(lambda: connections(own) <= before, "its connection to end")
    assert job.held() <= held  # less, if what was open at first has been sealed
    own.client()("job", "end", job.job)


def drip(store, scheme, text, every_s=0.3):
    """A byte now and then. How long it was borne."""
    with raw(store, scheme) as s:
        begun = time.monotonic()
        for byte in text:
            try:
                s.sendall(bytes([byte]))
            except (BrokenPipeError, ConnectionResetError):
                break
            if select.select([s], [], [], every_s)[0] and not s.recv(1000):
                break
        return time.monotonic() - begun


def test_a_slow_hello_ends_after_its_time(own):
    hello = encode("HELLO_REQ", {"version": 1})
    frame = struct.pack("<I", 0x31444157) + encode("FRAME", {"msg": MESSAGES["HELLO"], "call": 1,
                                                             "body_len": len(hello)}) + hello
    with Neighbor(own), futures.ThreadPoolExecutor() as pool:
        for borne in pool.map(lambda scheme: drip(own, scheme, frame), ("tcp", "unix")):
            assert HELLO_S - 1 < borne < HELLO_S + 10  # the whole of it would take twice as long


def test_slow_http_ends_after_its_time_and_monitors_are_served(own):
    """More of them than the port takes at once."""
    host, port = endpoint(own, "http")
    slow = [raw(own, "http") for _ in range(100)]
    for s in slow:
        s.sendall(b"GET /metrics HT")

    def is_healthy():
        try:
            with socket.create_connection((host, port), LATE_S) as s:
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return s.recv(1000).startswith(b"HTTP/1.1 200")
        except OSError:
            return False
    with Neighbor(own):
        begun = time.monotonic()
        until(is_healthy, "a monitor to be served beside them", 9)
        assert time.monotonic() - begun < 9  # when the first of them has to go
        borne = drip(own, "http", b"GET /metrics HTTP/1.1\r\nHost: xxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0.4)
        assert borne < 14
    for s in slow:
        s.close()


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
    yield resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_connections_are_served_in_bounded_memory(tmp_path, many_files):
    """At a proxy by itself, which has its descriptors for connections alone."""
    if many_files < 11000:
        pytest.skip("this machine allows fewer descriptors than that")
    cluster, conns = Cluster(tmp_path), []
    try:
        w, pid = cluster.job("many"), cluster.pid("proxy")
        hello = encode("HELLO_REQ", {"version": 1, "secret": w.token})
        frame = struct.pack("<I", 0x31444157) + encode("FRAME", {"msg": MESSAGES["HELLO"], "call": 1,
                                                                 "body_len": len(hello)}) + hello
        before, files = resident(pid), descriptors(pid)
        # Each HELLO is an operation of the proxy, which has FIBERS_PER_LOOP of them at a time.
        for _ in range(10):
            wave = []
            for _ in range(1000):
                s = socket.create_connection(("127.0.0.1", cluster.proxy_port), LATE_S)
                s.sendall(frame)
                wave.append(s)
            conns += wave
            for s in wave:
                assert s.recv(HEADER, socket.MSG_WAITALL)[8:10] == b"\0\0"
        assert descriptors(pid) >= 10000
        grown = resident(pid) - before
        assert grown < 10000 * BYTES_PER_CONN, grown
        w("put", "-", "x", input=pattern(3 * MIB))
        assert w("get", "x") == pattern(3 * MIB)
        for s in conns:
            s.close()
        until(lambda: descriptors(pid) <= files + 8, "the connections to end")
        cluster.stop()
    finally:
        for s in conns:
            s.close()
        cluster.kill()


def test_the_connection_after_the_last_is_told_and_closed(tmp_path, new_store):
    """With few descriptors there are few connections; who waits inside is not disturbed."""
    limit = 2048
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    store = new_store(memory="128M", prefix=("prlimit", f"--nofile={limit}"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
        w = store.job()
        inside = connect(store, w.token)
        conns, told = [], None
        for _ in range(limit):
            wire = wire_over(raw(store))
            reply = wire.hello(secret=w.token)
            if reply.status != "OK":
                told = reply
                assert wire.is_closed_by_peer()
                wire.close()
                break
            conns.append(wire)
        assert told is not None and told.status == "LIMIT", told
        assert re.fullmatch(r"this process has \d+ connections, which is its limit", told.detail)
        assert len(conns) >= limit // 12  # beside segments, rings, and descriptors that nobody has read
        assert inside.call("PUT", b"value", path="x").status == "OK"
        assert inside.call("GET", path="x", take=100).payload == b"value"
        done = told_of(lambda: store.client(w.token).run("get", "x", "--timeout", "3s"))
        assert done.returncode != DONE and b"LIMIT: " in done.stderr, done.stderr
        # Who has time waits for somebody to leave.
        waits = w.start("get", "x", "--timeout", "30s")
        time.sleep(0.2)
        assert waits.poll() is None
        for wire in conns:
            wire.close()
        assert finish(waits) == (DONE, b"value", b"")
        inside.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ask_raw(wire, name, body):
    """The status of the answer; whatever the body is."""
    call = wire.next_call
    wire.next_call += 1
    wire.send_frame(MESSAGES[name], body, call=call, timeout_ms=2000)
    while True:
        frame, _, _ = wire.read_frame()
        if frame["call"] == call and frame["flags"] & REPLY:
            return STATUS_NAMES[frame["status"]]


def test_a_body_that_is_cut_short_is_answered(tmp_path):
    """Every message to every role, without its body and without the last byte of it: a refusal, and the next one is heard."""
    cluster = Cluster(tmp_path)
    try:
        token = cluster.job("cut").token
        proxy = Wire("127.0.0.1", cluster.proxy_port)
        proxy.hello(secret=token)
        for who, wire in (("meta", cluster.to_meta()), ("store", cluster.to_store()), ("proxy", proxy)):
            with wire:
                for name in MESSAGES:
                    whole = encode(name + "_REQ", {})
                    if name == "HELLO" or not whole:
                        continue
                    for body in (b"", whole[:-1]):
                        said = ask_raw(wire, name, body)
                        assert said not in ("OK", "INTERNAL", "TIMEOUT"), (who, name, len(body), said)
                assert ask_raw(wire, "PING", encode("PING_REQ", {})) == "OK", who
    finally:
        cluster.kill()
