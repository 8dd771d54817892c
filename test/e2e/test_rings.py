"""Rings: a function on the proxy's host sends its frames through memory, beside its Unix socket.

Once through libwadi, as every program does, and once by hand: the memory is mapped here, and
what is written there is what the test says.
"""
import ctypes
import mmap
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pytest
import wire as protocol
from conftest import build_target, clean_environment, pattern, until
from test_restart import again  # noqa: F401, a fixture
from wire import MAGIC, REPLY, Wire, decode, encode

SLOTS, SLOT_BYTES, DATA_AT = 32, 4096, 4096
RING_BYTES = DATA_AT + SLOTS * SLOT_BYTES
SERVER_WORD, CALLER_WORD = 512, 576
CALLS = 4  # a handle's questions before it asks for a ring


class Ring:
    """A connection with a ring, by hand."""

    kind = Wire

    def __init__(self, w, store):
        self.wire = self.kind.at(store.endpoints["unix"])
        self.hello = self.wire.hello(secret=w.token)
        call = self.wire.start("RING")
        data, fds, _, _ = socket.recv_fds(self.wire.socket, 1 << 16, 4)
        frame, _ = decode("FRAME", data[4:36])
        assert frame["call"] == call and frame["status"] == 0 and len(data) == 36 and len(fds) == 2
        self.fds = fds
        self.memory = mmap.mmap(fds[0], RING_BYTES)
        self.sent = self.heard = 0

    def close(self):
        self.wire.close()
        self.memory.close()
        for fd in self.fds:
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def ring(self):
        os.eventfd_write(self.fds[1], 1)

    def put_entry(self, slot, length):
        self.sent += 1
        struct.pack_into("<Q", self.memory, (self.sent - 1) % SLOTS * 8, self.sent << 32 | slot << 16 | length)
        self.ring()

    def send(self, slot, name, payload=b"", /, **fields):
        body = encode(name + "_REQ", fields)
        frame = struct.pack("<I", MAGIC) + encode("FRAME", {
            "msg": protocol.MESSAGES[name], "call": 1000 + slot, "timeout_ms": 5000, "body_len": len(body),
            "payload_len": len(payload)}) + body + payload
        at = DATA_AT + slot * SLOT_BYTES
        self.memory[at:at + len(frame)] = frame
        self.put_entry(slot, len(frame))

    def receive(self):
        """Slot, frame, body and payload of the next answer in the ring."""
        place = 256 + self.heard % SLOTS * 8
        self.heard += 1
        entry = until(lambda: (e := struct.unpack_from("<Q", self.memory, place)[0]) >> 32 == self.heard and e, "an answer")
        slot, length = entry >> 16 & 0xffff, entry & 0xffff
        at = DATA_AT + slot * SLOT_BYTES
        data = self.memory[at:at + length]
        frame, _ = decode("FRAME", data[4:36])
        assert frame["flags"] & REPLY and len(data) == 36 + frame["body_len"] + frame["payload_len"]
        return slot, frame, data[36:36 + frame["body_len"]], data[36 + frame["body_len"]:]

    def call(self, slot, name, payload=b"", /, **fields):
        self.send(slot, name, payload, **fields)
        got, frame, body, payload = self.receive()
        assert got == slot and frame["call"] == 1000 + slot
        return frame, body, payload


def rings(store):
    """Those that the server has mapped."""
    with open(f"/proc/{store.process.pid}/maps", encoding="utf-8") as maps:
        spans = re.findall(r"^(\w+)-(\w+) .*memfd:wadi-segment", maps.read(), re.M)
    return sum(int(end, 16) - int(begin, 16) == RING_BYTES for begin, end in spans)


def descriptors(store):
    """But those of memory: segments of the pool come and go."""
    count = 0
    for fd in os.listdir(f"/proc/{store.process.pid}/fd"):
        try:
            count += "memfd" not in os.readlink(f"/proc/{store.process.pid}/fd/{fd}")
        except FileNotFoundError:
            pass
    return count


@pytest.fixture
def own(new_store):
    store = new_store()
    yield store
    log = store.log()
    assert store.is_alive() and store.stop() == 0, log
    assert not re.search(r"^\S+ error ", log, re.M), log


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("endpoint", ctypes.c_char_p), ("token", ctypes.c_char_p),
                ("timeout_ms", ctypes.c_uint32), ("reserved", ctypes.c_uint32)]


@pytest.fixture(scope="session")
def library():
    path = build_target("src/attach/libwadi.so.0.1.0")
    lib = ctypes.CDLL(path)
    lib.wadi_strerror.restype = ctypes.c_char_p
    lib.wadi_get.restype = ctypes.c_int64
    return lib


class Handle:
    def __init__(self, library, endpoint, token):
        self.library, self.w = library, ctypes.c_void_p()
        options = Options(ctypes.sizeof(Options), endpoint.encode(), token.encode() if token else None, 10000, 0)
        assert library.wadi_open(ctypes.byref(options), ctypes.byref(self.w)) == 0, self.error()

    def error(self):
        return self.library.wadi_strerror(self.w).decode()

    def put(self, path, data):
        r = self.library.wadi_put(self.w, path.encode(), data, ctypes.c_size_t(len(data)), None, None)
        assert r == 0, self.error()

    def get(self, path, cap=1 << 20):
        buf = ctypes.create_string_buffer(cap)
        n = self.library.wadi_get(self.w, path.encode(), buf, ctypes.c_size_t(cap), None, None)
        assert n >= 0, self.error()
        return buf.raw[:n]

    def close(self):
        self.library.wadi_close(self.w)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def test_frames_by_hand(own):
    w = own.job()
    with Ring(w, own) as ring:
        _, body, payload = ring.call(3, "PUT", b"hello", path="a")
        version = decode("PUT_REP", body)[0]["version"]
        assert version > 0 and payload == b""
        frame, body, payload = ring.call(31, "GET", path="a", take=4000)
        assert frame["status"] == 0 and payload == b"hello" and decode("GET_REP", body)[0]["version"] == version
        _, body, _ = ring.call(0, "STAT", job=ring.hello["job"], path="a")
        assert decode("STAT_REP", body)[0]["len"] == 5
        frame, _, _ = ring.call(1, "GET", path="b", take=4000)
        assert protocol.STATUS_NAMES[frame["status"]] == "NOTFOUND"
        # The socket goes on beside it.
        assert ring.wire.call("STAT", job=ring.hello["job"], path="a")["len"] == 5
        assert w("get", "a") == b"hello"


def test_who_has_asked_much_is_woken_once(own, library):
    """It sleeps as often as it has a batch on its way, and not as often as there are answers."""
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        for i in range(CALLS):
            h.put(f"{i}", b"x")
        def sleeps():
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
            for _ in range(50):
                ops = [ctypes.c_void_p() for _ in range(SLOTS)]
                for i, op in enumerate(ops):
                    assert library.wadi_start_put(h.w, b"%d" % i, b"x", ctypes.c_size_t(1), None, None, ctypes.byref(op)) == 0
                for op in ops:
                    assert library.wadi_op_end(ctypes.byref(op)) == 0
            return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before
        # On a machine that does much else the server is stopped in the middle of a batch now and then.
        assert any(sleeps() < 50 * 4 for _ in range(10))


def test_an_answer_that_does_not_fit_comes_through_the_socket(own):
    w = own.job()
    w("put", "-", "large", input=pattern(60_000))
    with Ring(w, own) as ring:
        ring.send(7, "GET", path="large", take=60_000)
        slot, frame, body, payload = ring.receive()
        assert slot == 7 and frame["flags"] & protocol.MORE and body == payload == b""
        frame, _, payload = ring.wire.read_frame()
        assert frame["call"] == 1007 and payload == pattern(60_000)
        assert ring.call(7, "GET", path="large", len=10, take=10)[2] == pattern(60_000)[:10]


def test_who_sleeps_on_the_socket_is_rung_there(own):
    w = own.job()
    with Ring(w, own) as ring:
        struct.pack_into("<I", ring.memory, CALLER_WORD, 2)
        ring.call(0, "PUT", b"x", path="a")
        frame, _, _ = ring.wire.read_frame()
        assert (frame["msg"], frame["call"]) == (protocol.MESSAGES["RING"], 0)
        assert struct.unpack_from("<I", ring.memory, CALLER_WORD) == (0,)


def test_who_may_have_one(own):
    w = own.job()
    with Wire.at(w.endpoint) as tcp:
        tcp.hello(secret=w.token)
        assert tcp.call("RING").status == "UNSUPPORTED"
    with Wire.at(own.endpoints["unix"]) as early:
        assert early.call("RING").status == "DENIED"
    with Ring(w, own) as ring:
        assert ring.wire.call("RING").status == "LIMIT"  # a second one
        assert protocol.STATUS_NAMES[ring.call(0, "RING")[0]["status"]] == "LIMIT"
        assert rings(own) == 1
    until(lambda: rings(own) == 0, "its memory to be given back")


def test_a_ring_is_of_one_connection(own):
    """What it was opened for at HELLO is what it may."""
    a, b = own.job(), own.job()
    b("put", "-", "secret", input=b"b's own")
    with Ring(a, own) as ring:
        frame, _, payload = ring.call(0, "STAT", job=ring.hello["job"] + (1 << 16), path="secret")
        assert protocol.STATUS_NAMES[frame["status"]] == "DENIED" and payload == b""
        assert protocol.STATUS_NAMES[ring.call(0, "GET", path="secret", take=100)[0]["status"]] == "NOTFOUND"
        a("job", "end", a.job)
        assert ring.wire.is_closed_by_peer()
    until(lambda: rings(own) == 0, "its memory to be given back")


def test_through_the_library(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        for i in range(CALLS - 1):
            h.put(f"{i}", b"v")
        assert rings(own) == 0  # it would not have paid yet
        h.put("more", b"v")
        until(lambda: (h.put("more", b"v"), rings(own) == 1)[1], "the ring")
        for size in (0, 1, 100, 2048, 2049, 3900, 4096, 5000, 65_536, 1_000_000):
            for _ in range(3):
                h.put("x", pattern(size, size))
                assert h.get("x") == pattern(size, size)
        own_job = own.client(w.token)
        assert own_job("get", "x") == pattern(1_000_000, 1_000_000)
    until(lambda: rings(own) == 0, "its memory to be given back")


def test_nothing_of_an_answer_is_left_when_it_was_taken(new_store, library):
    """What is left of one is waited for: a server that ends does so for two seconds."""
    def took_s():
        store = new_store()
        w = store.job()
        with Handle(library, store.endpoints["unix"], w.token) as h:
            until(lambda: (h.put("x", b"v" * 3000), rings(store) == 1)[1], "the ring")
            assert h.get("x") == b"v" * 3000
        begun = time.monotonic()
        assert store.stop() == 0
        return time.monotonic() - begun

    assert any(took_s() < 2 for _ in range(3))  # once is enough, on a machine that does much else


def test_one_more_than_there_are_rings_for_has_its_socket(new_store, library):
    store = new_store(memory="64M")
    w = store.job()
    most = (64 << 20) // 16 // RING_BYTES
    assert most == 31
    before = descriptors(store)
    some = [Ring(w, store) for _ in range(most)]
    with Wire.at(store.endpoints["unix"]) as one:
        one.hello(secret=w.token)
        refused = one.call("RING")
        assert refused.status == "LIMIT" and "at most 31" in refused.detail
    with Handle(library, store.endpoints["unix"], w.token) as h:
        for i in range(20):
            h.put("x", pattern(i))
            assert h.get("x") == pattern(i)
        assert rings(store) == most
        for ring in some:
            ring.close()
        until(lambda: rings(store) == 0 and descriptors(store) <= before + 4, "everything to be given back")
    with Ring(w, store) as ring:
        assert ring.call(0, "GET", path="x", take=100)[2] == pattern(19)
    assert store.stop() == 0


def test_a_ring_that_a_function_has_still_counts(new_store):
    """Its pages are there, and were made for the proxy."""
    store = new_store(memory="64M")
    w = store.job()
    held = []
    try:
        for i in range(31):
            ring = Ring(w, store)
            ring.wire.close()
            os.close(ring.fds[1])
            if i % 2:  # a mapping is as good as a descriptor
                os.close(ring.fds[0])
            else:
                ring.memory.close()
            held.append(ring)
        until(lambda: rings(store) == 0, "the proxy to have done with them")
        time.sleep(2.5)  # looks, of one a second
        with Wire.at(store.endpoints["unix"]) as one:
            one.hello(secret=w.token)
            assert one.call("RING").status == "LIMIT"
    finally:
        for i, ring in enumerate(held):
            if i % 2:
                ring.memory.close()
            else:
                os.close(ring.fds[0])

    def has_ring():
        with Wire.at(store.endpoints["unix"]) as one:
            one.hello(secret=w.token)
            return one.call("RING").status == "OK"
    until(has_ring, "a ring to be had again")
    ring = Ring(w, store)
    ring.wire.close()
    until(lambda: rings(store) == 0, "the proxy to have done with it")
    assert store.stop() == 0  # which waits for nobody
    ring.memory.close()
    for fd in ring.fds:
        os.close(fd)


# A function of its own: argv is this directory, libwadi, the endpoint, the token, and what is its own.
ATTACHED = """
import os
import sys
sys.path.insert(0, sys.argv[1])
from test_rings import Handle
import ctypes
library = ctypes.CDLL(sys.argv[2])
library.wadi_strerror.restype = ctypes.c_char_p
library.wadi_get.restype = ctypes.c_int64
h = Handle(library, sys.argv[3], sys.argv[4])
"""

LOOP = ATTACHED + """
step, most, paths = map(int, sys.argv[5:])
print("open", flush=True)
n = 0
while True:
    data = bytes([n % 251]) * (n * step % most)
    path = "of/%d/%d" % (os.getpid(), n % paths)
    h.put(path, data)
    assert h.get(path, most) == data
    n += 1
"""


def start_loop(library, store, w, step=37, most=5000, paths=50):
    """A function that puts and gets for ever, and ends if it gets anything else; sizes go up by `step`."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, os.path.dirname(os.path.abspath(__file__)), library._name, store.endpoints["unix"],
         w.token, str(step), str(most), str(paths)], stdout=subprocess.PIPE, env=clean_environment(WADI_BUILD=os.environ.get("WADI_BUILD")))
    assert process.stdout.readline() == b"open\n"
    return process


def test_killed_functions_leave_nothing(own, library):
    dice = random.Random(7)
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as other:
        other.put("mine", b"x" * 100)
        before = descriptors(own)
        for _ in range(6):
            some = [start_loop(library, own, w) for _ in range(2)]
            until(lambda: rings(own) >= 2, "their rings")
            time.sleep(dice.random() / 5)
            for one in some:
                assert one.poll() is None, "it found wrong bytes"
                one.kill()
                one.wait()
                one.stdout.close()
            assert other.get("mine") == b"x" * 100
        until(lambda: rings(own) <= 1, "their memory to be given back")
        until(lambda: descriptors(own) <= before + 2, "their descriptors to be given back")


def test_a_stopped_function_holds_up_nobody(own, library):
    w = own.job()
    stopped = start_loop(library, own, w)
    until(lambda: rings(own) == 1, "its ring")
    stopped.send_signal(signal.SIGSTOP)
    try:
        with Handle(library, own.endpoints["unix"], w.token) as other:
            for i in range(200):
                other.put("y", pattern(i))
                assert other.get("y") == pattern(i)
        stopped.send_signal(signal.SIGCONT)
        time.sleep(0.2)
        assert stopped.poll() is None
        # And the end of its job is not held up, either.
        stopped.send_signal(signal.SIGSTOP)
        w("job", "end", w.job)
        until(lambda: rings(own) == 0, "the ring of a stopped function to be given back")
    finally:
        stopped.kill()
        stopped.wait()
        stopped.stdout.close()


def test_a_hostile_function_harms_nobody_else(own, library):
    """It writes anything anywhere, at any time, and rings; another one works on beside it."""
    dice = random.Random(int(os.environ.get("WADI_SEED", "7")))
    bad, good = own.job(), own.job()
    is_over = threading.Event()

    def spoil():
        while not is_over.is_set():
            try:
                with Ring(bad, own) as ring:
                    for _ in range(dice.randrange(1, 60)):
                        kind = dice.randrange(6)
                        if kind == 0:
                            at = dice.randrange(RING_BYTES - 4096)
                            ring.memory[at:at + 4096] = dice.randbytes(4096)
                        elif kind == 1:
                            ring.put_entry(dice.randrange(40), dice.randrange(5000))
                        elif kind == 2:
                            struct.pack_into("<I", ring.memory, CALLER_WORD, dice.randrange(4))
                        elif kind == 3:
                            ring.memory.madvise(mmap.MADV_REMOVE)  # takes its pages away
                        else:
                            slot = dice.randrange(SLOTS)
                            ring.send(slot, dice.choice(["PUT", "PUT_DATA", "GET", "WAIT", "LIST", "PUT_OPEN"]),
                                      dice.randbytes(dice.randrange(3000)), path=f"p{slot}")
                            at = DATA_AT + slot * SLOT_BYTES + dice.randrange(200)
                            ring.memory[at:at + 1] = dice.randbytes(1)
                        ring.ring()
            except (OSError, AssertionError, protocol.Closed):
                pass  # its connection was closed

    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        with Handle(library, own.endpoints["unix"], good.token) as h:
            due = time.monotonic() + 5
            n = 0
            while time.monotonic() < due or n <= 50:
                h.put("x", pattern(n % 3000, n))
                assert h.get("x") == pattern(n % 3000, n)
                n += 1
    finally:
        is_over.set()
        thread.join()
    until(lambda: rings(own) == 0, "all memory to be given back")


def test_a_handle_goes_on_when_its_proxy_was_killed(again, library):
    with tempfile.TemporaryDirectory(prefix="wadi-e2e-") as directory:
        path = os.path.join(directory, "s")
        store = again("--socket", path)
        store.start()
        with Handle(library, "unix://" + path, None) as h:
            def asks_through_memory():
                h.put("x", pattern(19))
                return rings(store) == 1
            until(asks_through_memory, "a ring")
            store.kill()
            store.start()
            for i in range(20):
                h.put("y", pattern(i))
                assert h.get("y") == pattern(i)
            assert h.get("x") == pattern(19)
            until(asks_through_memory, "another ring")
