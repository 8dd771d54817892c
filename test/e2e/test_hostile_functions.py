"""Functions that write whatever they like into what they share with the proxy, whenever they like: rings, pins, descriptors, and
segments that they were given to write, for as long as they have them mapped.

Beside them honest functions of the same job and of another one (test/torture/functions.c) check every byte. A fixed seed, or
WADI_SEED; WADI_HOSTILE_S is how long, 3 seconds if it is not set; WADI_BUILD=build/asan runs the server with sanitizers.
"""
import collections
import contextlib
import ctypes
import fcntl
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
from wire import MAGIC, Wire, decode, decode_all, encode

SECONDS = float(os.environ.get("WADI_HOSTILE_S", "3"))
SEED = int(os.environ.get("WADI_SEED", "7"))
COUNT = 3  # hostile ones at a time
LINE = 128  # of functions.c
PUNCH = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
SEAL = 1033  # F_ADD_SEALS
PIECE = 64 << 10  # that has a sum
ROOMS = 8  # that it has at a time, or there is no memory for the honest ones
MAPPED = 16
libc = ctypes.CDLL(None, use_errno=True)


def crc_table():
    table = list(range(256))
    for _ in range(8):
        table = [c >> 1 ^ 0x82f63b78 * (c & 1) for c in table]
    return table


CRC = crc_table()


def sums(data, seed):
    """As src/base/hash.h has them."""
    out = b""
    for at in range(0, len(data), PIECE):
        crc = (seed ^ seed >> 32) & 0xffffffff
        for byte in data[at:at + PIECE]:
            crc = CRC[(crc ^ byte) & 0xff] ^ crc >> 8
        out += struct.pack("<I", crc)
    return out


def sums_bytes(length):
    return (length + PIECE - 1) // PIECE * 4


class Receiving(Wire):
    """It keeps the descriptors that come with what it reads."""

    def __init__(self, *where):
        super().__init__(*where)
        self.fds = []

    def read(self, length):
        out = b""
        while len(out) < length:
            more, fds, _, _ = socket.recv_fds(self.socket, length - len(out), 8)
            self.fds += fds
            if not more:
                raise protocol.Closed
            out += more
        return out


class Kept:
    """What one that is hostile has of memory to write: it goes on when its connection does not."""

    def __init__(self, dice, counts):
        self.dice, self.counts, self.some = dice, counts, []

    def add(self, fd):
        """Mapped to be written, if it may be; the size is what it is said to be by the kernel."""
        where = None
        with contextlib.suppress(OSError, ValueError):
            where = mmap.mmap(fd, os.fstat(fd).st_size)
        if where is None:
            os.close(fd)
            return None
        self.some.append((where, fd))
        if len(self.some) > MAPPED:
            self.drop(self.dice.randrange(MAPPED))
        self.counts["mapped"] += 1
        return where

    def drop(self, i):
        where, fd = self.some.pop(i)
        where.close()
        os.close(fd)

    def close(self):
        while self.some:
            self.drop(0)

    def scribble(self):
        d = self.dice
        if not self.some:
            return
        where, fd = d.choice(self.some)
        at = d.randrange(0, len(where) - 4095, d.choice([64, 4096]))
        kind = d.randrange(8)
        if kind == 0:
            where[at:at + 4096] = b"\xff" * 4096
        elif kind == 1:
            where.madvise(mmap.MADV_REMOVE, at // 4096 * 4096, 4096)
        elif kind == 2:
            libc.fallocate(fd, d.choice([PUNCH, 0, 1]), ctypes.c_long(at), ctypes.c_long(d.choice([4096, 1 << 20])))
        elif kind == 3:
            os.pwrite(fd, d.randbytes(100), at)
        elif kind == 4:
            self.resize(fd, d.choice([0, 4096, len(where) - 4096, 2 * len(where)]))
        elif kind == 5:
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, SEAL, 1 << d.randrange(6))
                self.counts["sealed"] += 1
        else:
            where[at:at + 64] = d.randbytes(64)
        self.counts["scribbled"] += 1

    def resize(self, fd, size):
        with contextlib.suppress(OSError):
            os.ftruncate(fd, size)
            self.counts["resized"] += 1


class Room:
    """What it may write: an object's, or an upload's at hand. `where` has its parts that it has mapped."""

    def __init__(self, put, parts, is_upload):
        self.put, self.parts, self.is_upload, self.where = put, parts, is_upload, {}
        self.offset = 0


class Hostile(Ring):
    """With a ring and an index, by hand, and what it has heard of."""

    kind = Receiving

    def __init__(self, w, store, dice, counts, kept):
        super().__init__(w, store)
        self.dice, self.pins, self.holds, self.segments = dice, None, [0], [0]
        self.counts, self.kept, self.rooms = counts, kept, []
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
        self.fds += self.wire.fds
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
            ("RESERVE", b"", {"len": d.choice([0, 1, 70_000, 2 << 20, (64 << 20) + 1, d.getrandbits(64)])}),
            ("RESERVE_MAP", b"", {"put": self.number(), "index": d.choice([0, 0, 1, 65_535])}),
            ("RESERVE_PUT", data[:d.choice([0, 4, 8, 16])], {"put": self.number(), "path": path}),
            ("PUT_DROP", b"", {"put": self.number()}),
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
        if name in ("PUT_OPEN", "RESERVE"):
            self.holds.append(reply["put"])
        if name == "RESERVE":
            self.wire.call("PUT_DROP", put=reply["put"])  # its memory is the honest ones', too
        if name == "GET_NEAR" and reply["count"]:
            extent, _ = decode("NEAR_EXTENT", reply.payload)
            self.segments.append(extent["segment"])

    # Memory to write.

    def reserve(self):
        d = self.dice
        length = d.choice([1, 1000, 4096, 70_000, 300_000, 1 << 20, 5 << 20])
        reply = self.wire.call("RESERVE", len=length)
        if reply.status == "OK":
            parts = decode_all("RESERVED_PART", reply.payload)
            assert len(parts) == reply["count"] and sum(p["len"] for p in parts) == length
            self.rooms.append(Room(reply["put"], parts, False))
            self.holds.append(reply["put"])

    def open_upload(self):
        reply = self.wire.call("PUT_OPEN", path=f"p{self.dice.randrange(20)}", len_hint=self.dice.choice([0, 1 << 20]),
                               is_in_place=1)
        if reply.status == "OK" and reply["is_in_place"]:
            self.rooms.append(Room(reply["put"], [], True))
            self.holds.append(reply["put"])

    def next_room(self, room, used, data):
        reply = self.wire.call("PUT_ROOM", data, put=room.put, offset=room.offset, used=used,
                               len=self.dice.choice([100, 4096, 200_000]))
        room.where = {}
        if reply.status == "OK":
            self.counts["PUT_ROOM"] += 1
            room.parts = [dict(reply)]
            room.offset += used
        return reply.status

    def map(self, room):
        index = self.dice.randrange(len(room.parts))
        fds = self.wire.fds
        reply = self.wire.call("RESERVE_MAP", put=room.put, index=index)
        if reply.status != "OK":
            return
        # Those before it came with answers that nobody has waited for.
        while len(fds) > 1:
            self.kept.add(fds.pop(0))
        where = self.kept.add(fds.pop())
        assert len(where) == reply["size"] and room.parts[index]["offset"] + room.parts[index]["len"] <= len(where)
        room.where[index] = where

    def write(self, room):
        """What it may: sums, which may be wrong; and, if all of it can be read then, the bytes."""
        d, out, all_of_it = self.dice, b"", b""
        for i, part in enumerate(room.parts):
            where = room.where.get(i)
            if where is not None and not where.closed and part["len"] <= 4096:
                data = d.randbytes(part["len"])
                where[part["offset"]:part["offset"] + part["len"]] = data
                out += sums(data, part["seed"])
                all_of_it += data
            else:
                out += d.randbytes(sums_bytes(part["len"]))
        if d.randrange(8) == 0:
            return out[:d.choice([0, 3, len(out) - 4])] + d.randbytes(d.choice([0, 4, 5])), None
        return out, all_of_it if len(all_of_it) == sum(part["len"] for part in room.parts) else None

    def put(self, room):
        path = f"p{self.dice.randrange(20)}"
        data, expected = self.write(room)
        if not room.is_upload:
            self.rooms.remove(room)
            self.count(self.wire.call("RESERVE_PUT", data, put=room.put, path=path), "RESERVE_PUT")
            # But for who has put another one there, or scribbled.
            self.counts["read"] += self.wire.call("GET", path=path, take=4096).payload == expected
        elif room.parts and self.dice.randrange(3):
            used = self.dice.choice([room.parts[0]["len"], room.parts[0]["len"], 1, room.parts[0]["len"] + 1])
            self.next_room(room, used, data[:sums_bytes(used)])
        else:
            self.rooms.remove(room)
            if room.parts:
                used = room.parts[0]["len"]
                self.wire.call("PUT_ROOM", data[:sums_bytes(used)], put=room.put, offset=room.offset, used=used)
            self.count(self.wire.call("PUT_COMMIT", put=room.put), "PUT_COMMIT" if room.parts else "empty")

    def count(self, reply, what):
        self.counts[what if reply.status == "OK" else "refused"] += 1

    def drop(self, room):
        self.rooms.remove(room)
        self.wire.call("PUT_DROP", put=room.put)

    def work_in_place(self):
        d = self.dice
        if len(self.rooms) >= ROOMS:
            self.drop(d.choice(self.rooms))
        kind = d.choice(["reserve", "open", "map", "map", "map", "put", "put", "drop"])
        room = d.choice(self.rooms) if self.rooms else None
        if kind == "reserve" or not room:
            self.reserve()
        elif kind == "open":
            self.open_upload()
        elif kind == "map" and room.parts:
            self.map(room)
        elif kind == "drop":
            if d.randrange(3) == 0:
                self.drop(room)
        elif room.parts:
            self.put(room)
        else:
            self.next_room(room, 0, b"")

    def step(self):
        d = self.dice
        for _ in range(d.randrange(4)):
            d.choice([self.work_in_place, self.work_in_place, self.kept.scribble])()
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
    kept = Kept(dice, counts)
    while not is_over.is_set():
        try:
            with Hostile(w, store, dice, counts, kept) as h:
                for _ in range(dice.randrange(1, 200)):
                    h.step()
                    counts["steps"] += 1
        except (OSError, AssertionError, KeyError, IndexError, struct.error, protocol.Closed):
            kept.scribble()  # its connection was closed, or what it had written was in an answer
    kept.close()


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
    before, is_over, counts = descriptors(own), threading.Event(), collections.Counter()
    honest = [Honest(program, tmp_path, own, w) for w in (bad, good)]
    threads = [threading.Thread(target=play, args=(bad, own, SEED + i, is_over, counts)) for i in range(COUNT)]
    for t in threads:
        t.start()
    try:
        due = time.monotonic() + SECONDS
        # As often as that they do something, even where the machine does much else.
        while time.monotonic() < due or time.monotonic() < due + LATE_S and not (
                min(h.count() for h in honest) > 20 * SECONDS and counts["steps"] > 100 * SECONDS):
            time.sleep(0.1)
            assert own.is_alive(), own.log()
            assert all(t.is_alive() for t in threads), "a hostile one met what it does not know"
    finally:
        is_over.set()
        for t in threads:
            t.join()
    done = [h.end() for h in honest]
    assert min(done) > 20 * SECONDS and counts["steps"] > 100 * SECONDS, (done, counts)
    # All of it is reached, and none of it does what a seal forbids.
    for what in ("RESERVE_PUT", "read", "PUT_ROOM", "PUT_COMMIT", "mapped", "scribbled"):
        assert counts[what] > SECONDS, counts
    assert not counts["resized"] and not counts["sealed"], counts
    print(f"{dict(counts)} hostile, {done} honest ones")
    for w in (bad, good):
        w("job", "end", w.job)
    until(lambda: own.client().json("top")["segments"] == 0, "its segments")
    until(lambda: rings(own) == 0 and descriptors(own) <= before + 4, "rings and descriptors")
    found = own.client().run("doctor").stdout.decode()
    assert re.search("^ok    bills", found, re.M), found
