"""Functions that write whatever they like into what they share with the proxy, whenever they like: rings, pins, descriptors.

Beside them honest functions of the same job and of another one (test/torture/functions.c) check every byte. A fixed seed, or
WADI_SEED; WADI_HOSTILE_S is how long, 3 seconds if it is not set; WADI_BUILD=build/asan runs the server with sanitizers.
"""
import ctypes
import mmap
import os
import random
import re
import socket
import struct
import subprocess
import threading
import time

import pytest
import wire as protocol
from conftest import BUILD, LATE_S, build_target, clean_environment, until
from test_rings import CALLER_WORD, DATA_AT, RING_BYTES, SERVER_WORD, SLOTS, Ring, descriptors, rings
from wire import MAGIC, decode, encode

SECONDS = float(os.environ.get("WADI_HOSTILE_S", "3"))
SEED = int(os.environ.get("WADI_SEED", "7"))
COUNT = 3  # hostile ones at a time
LINE = 128  # of functions.c
PUNCH = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
libc = ctypes.CDLL(None, use_errno=True)


class Hostile(Ring):
    """With a ring and an index, by hand, and what it has heard of."""

    def __init__(self, w, store, dice):
        super().__init__(w, store)
        self.dice, self.pins, self.holds, self.segments = dice, None, [0], [0]
        call = self.wire.start("INDEX")
        data, fds, _, _ = socket.recv_fds(self.wire.socket, 1 << 16, 8)
        self.fds += fds
        frame, _ = decode("FRAME", data[4:36])
        assert frame["call"] == call and len(fds) == 3
        self.wire.early.pop(call)
        self.pins = mmap.mmap(fds[2], 4096)
        self.wire.socket.settimeout(1)  # not all that it asks so is answered

    def close(self):
        if self.pins:
            self.pins.close()
        super().close()

    def number(self):
        """Mostly one that means something."""
        d = self.dice
        return d.choice([d.randrange(8), d.choice(self.holds), d.choice(self.segments), d.getrandbits(64), (1 << 64) - 1])

    def message(self):
        d = self.dice
        path = f"p{d.randrange(20)}"
        data = d.randbytes(d.choice([10, 2000, 3000]))
        return d.choice([
            ("PUT", data, {"path": path}), ("GET", b"", {"path": path, "take": 3000}),
            ("GET", b"", {"path": path, "is_view": 1}), ("GET", b"", {"path": path, "take": 1, "near_from": 1}),
            ("GET_NEAR", b"", {"hold": self.number(), "offset": d.choice([0, 1, 1 << 40])}),
            ("GET_ON", b"", {"hold": self.number(), "offset": 0, "take": 3000}),
            ("GET_END", b"", {"hold": self.number(), "is_confirmed": d.randrange(2)}),
            ("MAPPING", b"", {"number": self.number() & 0xffffffff}),
            ("INDEX", b"", {"is_next": d.randrange(2), "reader": self.number()}),
            ("PUT_OPEN", b"", {"path": path, "len_hint": d.choice([0, 5000, 1 << 20]), "is_in_place": d.randrange(2)}),
            ("PUT_ROOM", data[:d.choice([0, 4, 8])], {"put": self.number(), "used": d.choice([0, 1, 65_537]), "len": d.choice([0, 10, 1 << 20])}),
            ("RESERVE_MAP", b"", {"put": self.number()}),
            ("PUT_DATA", data, {"put": self.number(), "offset": d.choice([0, 10])}),
            ("PUT_COMMIT", b"", {"put": self.number()}), ("RING", b"", {}), ("PING", b"", {}),
        ])

    def ask(self):
        """Through the socket, and learns from it."""
        name, data, fields = self.message()
        if name in ("INDEX", "MAPPING", "RING", "RESERVE_MAP"):
            self.wire.start(name, **fields)  # descriptors may come, that nobody takes
            return
        reply = self.wire.call(name, data, **fields)
        if reply.status != "OK":
            return
        if name == "GET" and reply["hold"]:
            self.holds.append(reply["hold"])
        if name == "PUT_OPEN":
            self.holds.append(reply["put"])
        if name == "GET_NEAR" and reply["count"]:
            extent, _ = decode("NEAR_EXTENT", reply.payload)
            self.segments.append(extent["segment"])

    def step(self):
        d = self.dice
        # What ends the connection is not done so often, or nothing else would be.
        kind = d.randrange(9) if d.randrange(6) == 0 else d.choice([6, 8, 9, 9])
        if kind == 0:
            at = d.randrange(RING_BYTES - 4096)
            self.memory[at:at + 4096] = d.randbytes(4096)
        elif kind == 1:
            at = d.randrange(0, DATA_AT, 8)
            self.memory[at:at + 8] = struct.pack("<Q", self.number())
        elif kind == 2:
            self.put_entry(d.randrange(SLOTS + 8), d.randrange(5000))
        elif kind == 3:
            struct.pack_into("<I", self.memory, d.choice([CALLER_WORD, SERVER_WORD]), d.randrange(4))
        elif kind == 4:
            d.choice([self.memory, self.pins]).madvise(mmap.MADV_REMOVE)  # takes its pages away
        elif kind == 5:
            libc.fallocate(self.fds[d.choice([0, 4])], PUNCH, ctypes.c_long(0), ctypes.c_long(4096))
        elif kind == 6:
            at = d.randrange(4096 - 64)
            self.pins[at:at + 64] = d.choice([bytes(64), b"\xff" * 64, d.randbytes(64)])
        elif kind == 7:
            frame = struct.pack("<I", MAGIC) + encode("FRAME", {"msg": protocol.MESSAGES["PING"], "call": 999})
            socket.send_fds(self.wire.socket, [frame[:d.choice([36, 36, 36, 9])]], [d.choice(self.fds)] * d.randrange(1, 9))
        elif kind == 8:
            slot = d.randrange(SLOTS)
            name, data, fields = self.message()
            self.send(slot, name, data[:3000], **fields)
            at = DATA_AT + slot * 4096 + d.randrange(200)
            if d.randrange(4) == 0:
                self.memory[at:at + 1] = d.randbytes(1)
        else:
            self.ask()
        self.ring()


def play(w, store, seed, is_over, counts):
    dice = random.Random(seed)
    while not is_over.is_set():
        try:
            with Hostile(w, store, dice) as h:
                for _ in range(dice.randrange(1, 200)):
                    h.step()
                    counts[0] += 1
        except (OSError, AssertionError, KeyError, IndexError, struct.error, protocol.Closed):
            pass  # its connection was closed, or what it had written was in an answer


class Honest:
    """A function that checks every byte; it is told to end by the first word of its table."""

    def __init__(self, program, directory, store, w):
        self.path = os.path.join(directory, f"table-{w.job}")
        with open(self.path, "wb") as file:
            file.truncate(2 * LINE)
        with open(self.path, "r+b") as file:
            self.table = mmap.mmap(file.fileno(), 0)
        self.process = subprocess.Popen([program, self.path, "0", "1", "1", "50", "1", "0"], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE,
                                        env=clean_environment(WADI_ENDPOINT=store.endpoints["unix"], WADI_TOKEN=w.token))

    def count(self):
        """How often it did something."""
        return struct.unpack_from("<Q", self.table, LINE)[0]

    def end(self):
        self.table[:8] = b"\1" + bytes(7)
        _, told = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, told
        return self.count()


@pytest.fixture
def own(new_store):
    # A sanitizer keeps what was freed, and all that a process has is of its --memory.
    store = new_store(memory="4G" if "asan" in BUILD else "512M")
    yield store
    log = store.log()
    assert store.is_alive() and store.stop() == 0, log
    assert not re.search(r"^\S+ error ", log, re.M), log


def test_nothing_that_functions_write_harms_anybody(own, tmp_path):
    program = build_target("test/torture/functions")
    if not program:
        pytest.skip("no libwadi in this build")
    bad, good = (own.job(None, "--lease", f"{SECONDS + 600:.0f}s") for _ in range(2))
    before, is_over, counts = descriptors(own), threading.Event(), [0]
    honest = [Honest(program, tmp_path, own, w) for w in (bad, good)]
    threads = [threading.Thread(target=play, args=(bad, own, SEED + i, is_over, counts)) for i in range(COUNT)]
    for t in threads:
        t.start()
    try:
        due = time.monotonic() + SECONDS
        # As often as that they do something, even where the machine does much else.
        while time.monotonic() < due or time.monotonic() < due + LATE_S and not (
                min(h.count() for h in honest) > 20 * SECONDS and counts[0] > 100 * SECONDS):
            time.sleep(0.1)
            assert own.is_alive(), own.log()
    finally:
        is_over.set()
        for t in threads:
            t.join()
    done = [h.end() for h in honest]
    assert min(done) > 20 * SECONDS and counts[0] > 100 * SECONDS, (done, counts)
    print(f"{counts[0]} hostile steps, {done} honest ones")
    for w in (bad, good):
        w("job", "end", w.job)
    until(lambda: own.client().json("top")["segments"] == 0, "its segments")
    until(lambda: rings(own) == 0 and descriptors(own) <= before + 4, "rings and descriptors")
    found = own.client().run("doctor").stdout.decode()
    assert re.search("^ok    bills", found, re.M), found
