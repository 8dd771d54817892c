"""Objects in place: a view of what the index leads to is a pointer into memory that the proxy maps as well.

Once through libwadi, as every program does, and once by hand.
"""
import contextlib
import ctypes
import mmap
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
import wire as protocol
from cluster import Role, free_ports
from conftest import LATE_S, REFUSED, Client, clean_environment, pattern, until
from control_group import ControlGroup
from test_near import GetOptions
from test_restart import again  # noqa: F401, a fixture
from test_rings import ATTACHED, Handle, library, own  # noqa: F401, fixtures
from wire import Wire, decode

MB = 1 << 20
STOPPED_S = 120 if os.environ.get("WADI_TEST_LARGE") else 0  # beyond what all the rest takes


class Stat(ctypes.Structure):
    _fields_ = [("object", ctypes.c_uint64), ("version", ctypes.c_uint64), ("len", ctypes.c_uint64),
                ("age_ms", ctypes.c_uint64), ("ttl_left_ms", ctypes.c_uint64), ("reads_left", ctypes.c_uint32),
                ("extent_count", ctypes.c_uint32), ("tier", ctypes.c_int), ("is_directory", ctypes.c_bool),
                ("attributes_len", ctypes.c_uint16), ("attributes", ctypes.c_uint8 * 512)]


class View:
    """Of an object, as libwadi gives it."""

    def __init__(self, h, path, **options):
        self.lib, self.v = h.library, ctypes.c_void_p()
        o = GetOptions(size=ctypes.sizeof(GetOptions), **options)
        r = self.lib.wadi_view(h.w, path.encode(), ctypes.byref(o), ctypes.byref(self.v))
        assert r == 0, h.error()
        self.lib.wadi_view_data.restype = ctypes.c_void_p
        self.lib.wadi_view_len.restype = ctypes.c_size_t
        self.at, self.len = self.lib.wadi_view_data(self.v), self.lib.wadi_view_len(self.v)

    def bytes(self):
        return ctypes.string_at(self.at, self.len)

    def is_in_place(self):
        """Does it lie in memory that is shared, and not to be written?"""
        with open("/proc/self/maps", encoding="utf-8") as maps:
            for line in maps:
                span, rights = line.split()[:2]
                begin, end = (int(x, 16) for x in span.split("-"))
                if begin <= self.at < end:
                    return rights == "r--s" and "memfd:wadi-segment" in line
        return False

    def stat(self):
        s = Stat()
        self.lib.wadi_view_stat(self.v, ctypes.byref(s))
        return s

    def release(self):
        return self.lib.wadi_release(ctypes.byref(self.v))


def view(h, path, **options):
    """Its bytes, which are in place."""
    v = View(h, path, **options)
    assert v.is_in_place()
    data = v.bytes()
    assert v.release() == 0
    return data


STALE = -116


def test_a_view_is_in_place(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        for size in (3000, 65_536, 65_537, MB, 3 * MB + 5, 40 * MB + 1):
            h.put("x", pattern(size, size))
            for _ in range(3):
                v = View(h, "x")
                assert v.is_in_place()
                assert v.bytes() == pattern(size, size)
                assert v.release() == 0


def test_parts_and_what_is_known_of_it(own, library):
    w = own.job()
    w("put", "-", "x", "--ttl", "1h", input=pattern(200_000))
    told = w.json("stat", "x")
    with Handle(library, own.endpoints["unix"], w.token) as h:
        for _ in range(2):
            v = View(h, "x", offset=100_000, len=50_000)
            assert v.is_in_place() and v.bytes() == pattern(200_000)[100_000:150_000]
            s = v.stat()
            assert (s.version, s.len, s.reads_left, s.attributes_len) == (int(told["version"]), 200_000, 0xffffffff, 0)
            assert s.extent_count == 1 and 0 <= s.age_ms < 60_000 and 3_500_000 < s.ttl_left_ms <= 3_600_000
            assert v.release() == 0
        assert view(h, "x", offset=199_999) == pattern(200_000)[199_999:]
        assert view(h, f"/{w.job}/x", len=3) == pattern(3)
        v = View(h, "x", offset=300_000)
        assert v.len == 0 and v.release() == 0


def test_what_is_no_matter_of_an_index_is_copied(own, library):
    w = own.job()
    w("put", "-", "value", input=b"small")
    w("put", "-", "once", "--reads", "1", input=pattern(5000))
    w("put", "-", "empty", input=b"")
    with Handle(library, own.endpoints["unix"], w.token) as h:
        for path, data in (("value", b"small"), ("once", pattern(5000)), ("empty", b"")):
            v = View(h, path)
            assert v.bytes() == data and not v.is_in_place()
            assert v.release() == 0
        with pytest.raises(AssertionError, match="CONSUMED"):
            View(h, "once")
        with pytest.raises(AssertionError, match="NOTFOUND"):
            View(h, "nothing")
    with Handle(library, w.endpoint, w.token) as h:
        w("put", "-", "x", input=pattern(5000))
        v = View(h, "x")
        assert v.bytes() == pattern(5000) and not v.is_in_place() and v.release() == 0
    part = w("job", "token", "--prefix", "a/").decode().strip()
    w("put", "-", "a/x", input=pattern(5000))
    with Handle(library, own.endpoints["unix"], part) as h:
        v = View(h, "a/x")
        assert v.bytes() == pattern(5000) and not v.is_in_place() and v.release() == 0


def test_what_is_waited_for_is_viewed_in_place(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        threading.Timer(0.3, lambda: w("put", "-", "later", input=pattern(5000))).start()
        assert view(h, "later", wait_ms=30_000, timeout_ms=30_000) == pattern(5000)


def test_a_replaced_object_is_seen_at_once_and_its_views_stay(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h, Handle(library, own.endpoints["unix"], w.token) as other:
        held = []
        for i in range(200):
            other.put("x", pattern(5000 + i, i))
            v = View(h, "x")
            assert v.is_in_place() and v.bytes() == pattern(5000 + i, i)
            held.append(v)
        for i, v in enumerate(held):
            assert v.bytes() == pattern(5000 + i, i)
            assert v.release() == 0
        w("rm", "x")
        with pytest.raises(AssertionError, match="NOTFOUND"):
            View(h, "x")
        w("put", "-", "d/y", input=pattern(5000))
        assert view(h, "d/y") == pattern(5000)
        w("mv", "d/y", "d/z")
        with pytest.raises(AssertionError, match="NOTFOUND"):
            View(h, "d/y")
        assert view(h, "d/z") == pattern(5000)
        w("rm", "-r", "d")
        with pytest.raises(AssertionError, match="NOTFOUND"):
            View(h, "d/z")


def test_its_time_ends_in_the_index_too(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        def is_viewed():
            """Its time may be over before it is looked at, on a machine that does much else."""
            w("put", "-", "x", "--ttl", "700ms", input=pattern(5000))
            try:
                v = View(h, "x")
            except AssertionError as e:
                assert "EXPIRED" in str(e), e
                return False
            assert v.is_in_place() and v.bytes() == pattern(5000)
            return v.release() == 0
        until(is_viewed, "it to be viewed in time")
        time.sleep(0.8)
        with pytest.raises(AssertionError, match="EXPIRED"):
            View(h, "x")


def test_nobody_is_asked_for_what_is_at_hand(own, library):
    """The store is stopped; its lease lasts for half a second."""
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        for i in range(50):
            h.put(f"{i}", pattern(3000 + i, i))
        for i in range(50):
            assert view(h, f"{i}") == pattern(3000 + i, i)
        h.put("large", pattern(20 * MB))
        assert view(h, "large") == pattern(20 * MB)

        def are_at_hand():
            """Unless its lease was nearly over: on a machine that does much else it is not renewed in time now and then."""
            own.process.send_signal(signal.SIGSTOP)
            try:
                for name in (*range(50), "large"):
                    assert View(h, f"{name}", timeout_ms=1).release() == 0
                time.sleep(0.7)
                # Nobody can tell any more, so it is asked, and is not there.
                with pytest.raises(AssertionError, match="TIMEOUT"):
                    View(h, "1", timeout_ms=300)
            except AssertionError as e:
                assert "TIMEOUT" in str(e), e
                return False
            finally:
                own.process.send_signal(signal.SIGCONT)
            return True
        until(are_at_hand, "a lease that is long enough")
        assert view(h, "1", timeout_ms=5000) == pattern(3001, 1)


def test_thousands_of_objects(own, library):
    """Of which the first table has no room for one in ten."""
    w = own.job()
    count = 6000
    with Handle(library, own.endpoints["unix"], w.token) as h:
        for i in range(count):
            h.put(f"d/{i}", i.to_bytes(8, "little") * 400)
        def view_all():
            for i in range(count):
                v = View(h, f"d/{i}")
                assert ctypes.string_at(v.at, 8) == i.to_bytes(8, "little") and v.len == 3200
                assert v.release() == 0

        def at_hand():
            """So many are viewed in a moment without the store, where each one that is not takes a millisecond."""
            view_all()
            own.process.send_signal(signal.SIGSTOP)
            try:
                due, seen = time.monotonic() + 0.15, 0
                while time.monotonic() < due:
                    with contextlib.suppress(AssertionError):
                        assert View(h, f"d/{seen * 7919 % count}", timeout_ms=1).release() == 0
                    seen += 1
            finally:
                own.process.send_signal(signal.SIGCONT)
            return seen

        view_all()
        until(lambda: at_hand() > 250, "a table with room for most of them")
    w("rm", "-r", "d")
    until(lambda: w.held() == 0, "its segments")


def test_a_view_keeps_its_bytes_and_no_more_than_that(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        h.put("x", pattern(MB))
        v = View(h, "x")
        w("rm", "x")
        for i in range(40):  # it would have the same memory again
            h.put("y", pattern(MB, i))
        assert v.is_in_place() and v.bytes() == pattern(MB)
        w("rm", "y")
        assert w.held() > 0
        assert v.release() == 0
        until(lambda: w.held() == 0, "its memory")


def test_who_leaves_takes_nobodys_pins_along(own, library):
    """Pins lie side by side in the proxy; whose are last go where those were that are no more."""
    w = own.job()
    at = (library, own.endpoints["unix"], w.token)
    with Handle(*at) as second, Handle(*at) as third:
        with Handle(*at) as first:
            first.put("x", pattern(MB))
            assert view(first, "x") == view(second, "x") == pattern(MB)
            v = View(third, "x")
        w("rm", "x")
        for i in range(40):  # it would have the same memory again
            second.put("y", pattern(MB, i))
        assert v.is_in_place() and v.bytes() == pattern(MB)
        w("rm", "y")
        assert w.held() > 0
        assert v.release() == 0
        until(lambda: w.held() == 0, "its memory")


@pytest.mark.skipif(not os.environ.get("WADI_TEST_LARGE"), reason="a minute of waiting; WADI_TEST_LARGE runs it")
def test_an_old_view_makes_room_for_who_waits(new_store, library):
    """For so long as a view is kept while others wait: a minute."""
    store = new_store(memory="128M")
    w, other = store.job(), store.job()
    with Handle(library, store.endpoints["unix"], w.token) as h:
        h.put("x", pattern(40 * MB))
        held = View(h, "x")
        w("rm", "x")
        other("put", "-", "y", "--timeout", "1s", input=pattern(70 * MB), code=REFUSED)
        assert held.bytes() == pattern(40 * MB)
        began = time.monotonic()
        other("put", "-", "y", "--timeout", "100s", input=pattern(70 * MB), timeout=110)
        assert 50 < time.monotonic() - began < 75
        assert held.release() == STALE
    assert other("get", "y") == pattern(70 * MB)
    assert store.stop() == 0


def test_a_jobs_end_takes_views_away(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        h.put("x", pattern(20 * MB))
        h.put("y", pattern(5000))
        x, y = View(h, "x"), View(h, "y")
        assert x.bytes() == pattern(20 * MB)
        began = time.monotonic()
        w("job", "end", w.job)
        assert time.monotonic() - began < 30  # views are kept for a minute where nobody waits for them
        until(lambda: x.bytes().count(0) == x.len and y.bytes().count(0) == y.len, "it to be punched")
        assert x.release() == STALE and y.release() == STALE
        with pytest.raises(AssertionError, match="JOBENDED"):
            View(h, "x")
    until(lambda: own.client().json("top")["segments"] == 0, "its segments")


LOOP = ATTACHED + """
from test_views import View
mode = sys.argv[5]
if mode == "hold":
    held = [View(h, "x"), View(h, "y")]
    print("open", flush=True)
    sys.stdin.readline()
    print([v.release() for v in held], flush=True)
else:
    print("open", flush=True)
    n = 0
    while True:
        h.put("of/%d" % (n % 20), bytes([n % 251]) * (2100 + n * 37_003 % 300_000))
        for i in range(5):
            try:
                v = View(h, "of/%d" % ((n + i * 7) % 20))
            except AssertionError as e:
                assert "NOTFOUND" in str(e), e
                continue
            data = v.bytes()
            assert v.release() == 0 and data.count(data[0]) == len(data), (n, i)
        n += 1
"""


def start(library, store, w, mode):
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, os.path.dirname(os.path.abspath(__file__)), library._name, store.endpoints["unix"],
         w.token, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=clean_environment(WADI_BUILD=os.environ.get("WADI_BUILD")))
    assert process.stdout.readline() == b"open\n"
    return process


def finish(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_killed_functions_pins_are_taken_back(own, library):
    w = own.job()
    w("put", "-", "x", input=pattern(20 * MB))
    w("put", "-", "y", input=pattern(5000))
    process = start(library, own, w, "hold")
    w("rm", "x")
    w("rm", "y")
    time.sleep(0.3)
    assert w.held() >= 20 * MB
    finish(process)
    until(lambda: w.held() == 0, "what it viewed")


def test_functions_are_killed_while_they_view(own, library):
    dice = random.Random(11)
    w = own.job()
    stays = start(library, own, w, "loop")
    for _ in range(6):
        process = start(library, own, w, "loop")
        time.sleep(0.1 + dice.random() / 3)
        assert process.poll() is None, "it found wrong bytes"
        finish(process)
    assert stays.poll() is None, "it found wrong bytes"
    finish(stays)
    w("rm", "-r", "of")
    until(lambda: w.held() == 0, "its segments")
    own.client()("doctor")


class Signals:
    """A process is stopped as a shell does it."""

    def __init__(self, process):
        self.process = process

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        pass


class Freezer(ControlGroup):
    """As platforms do it."""

    def __init__(self, process):
        try:
            super().__init__("freezer")
        except BaseException:
            finish(process)
            raise
        self.write("cgroup.procs", str(process.pid))

    def is_frozen(self):
        return re.search(r"^FROZEN$|^frozen 1$", self.read("freezer.state" if self.is_old else "cgroup.events"), re.M)

    def stop(self):
        self.write("freezer.state", "FROZEN") if self.is_old else self.write("cgroup.freeze", "1")
        until(self.is_frozen, "it to be frozen")

    def go_on(self):
        self.write("freezer.state", "THAWED") if self.is_old else self.write("cgroup.freeze", "0")

    def close(self):
        until(lambda: not self.read("cgroup.procs"), "nobody to be in it")
        os.rmdir(self.path)


@pytest.mark.parametrize("how", [Signals, Freezer])
def test_a_stopped_function_holds_nobody_up(own, library, how):
    w, other = own.job(), own.job()
    w("put", "-", "x", input=pattern(20 * MB))
    w("put", "-", "y", input=pattern(5000))
    process = start(library, own, w, "hold")
    stopped = how(process)
    stopped.stop()
    try:
        began = time.monotonic()
        w("put", "-", "x", input=pattern(5000, 1))
        w("rm", "y")
        assert w("get", "x") == pattern(5000, 1)
        w("job", "end", w.job)
        assert time.monotonic() - began < 30  # half of what a view may be kept for
        until(lambda: own.client().json("top")["segments"] == 0, "its segments")
        other("put", "-", "x", input=pattern(20 * MB, 2))
        time.sleep(STOPPED_S)
    finally:
        stopped.go_on()
    process.stdin.write(b"go on\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"[%d, %d]\n" % (STALE, STALE)
    assert process.wait(20) == 0
    finish(process)
    stopped.close()
    assert other("get", "x") == pattern(20 * MB, 2)


class Reader:
    """A function by hand: its index, and its pins, in which it writes whatever it likes."""

    def __init__(self, store, token):
        self.wire = Wire.at(store.endpoints["unix"])
        assert self.wire.hello(secret=token).status == "OK"
        self.fds = []

    def index(self, **fields):
        return self.index_end(self.wire.start("INDEX", **fields))

    def index_end(self, call):
        data, fds, _, _ = socket.recv_fds(self.wire.socket, 1 << 16, 8)
        frame, _ = decode("FRAME", data[4:36])
        assert frame["call"] == call
        self.wire.early.pop(call)
        self.fds += fds
        status = protocol.STATUS_NAMES[frame["status"]]
        return (decode("INDEX_REP", data[36:])[0], fds) if status == "OK" else (status, fds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.close()
        for fd in self.fds:
            os.close(fd)


def test_who_is_given_an_index(own):
    w = own.job()
    with Wire.at(w.endpoint) as tcp:
        tcp.hello(secret=w.token)
        assert tcp.call("INDEX").status == "UNSUPPORTED"
    with Wire.at(own.endpoints["unix"]) as early:
        assert early.call("INDEX").status == "DENIED"
    part = w("job", "token", "--prefix", "a/").decode().strip()
    with Reader(own, part) as r:
        assert r.index() == ("DENIED", [])
    with Reader(own, w.token) as r:
        rep, fds = r.index()
        assert (rep["head_size"], rep["pins_size"], len(fds)) == (4096, 4096, 3)
        table = mmap.mmap(fds[0], rep["table_size"], mmap.MAP_SHARED, mmap.PROT_READ)
        assert table[:8] == struct.pack("<Q", 0x31656c6261746977)
        for fd in fds[:2]:
            with pytest.raises(PermissionError):
                mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        for fd in fds:
            with pytest.raises(OSError):
                os.ftruncate(fd, 0)
        table.close()
        assert r.index()[0] == "EXISTS"  # another one
        rep, fds = r.index(is_next=1)
        assert len(fds) == 1
        assert r.wire.call("MAPPING", number=0).status == "NOTFOUND"
        assert r.wire.call("MAPPING", number=1 << 31).status == "NOTFOUND"


def test_whatever_a_function_pins(own, library):
    """It keeps what its own job pays for, and only for as long as it is there."""
    dice = random.Random(5)
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h, Reader(own, w.token) as r:
        _, fds = r.index()
        pins = mmap.mmap(fds[2], 4096)
        for i in range(30):
            pins[:] = dice.randbytes(4096)
            h.put("x", pattern(MB, i))
            assert view(h, "x") == pattern(MB, i)
        w("rm", "x")
        time.sleep(0.3)
        assert w.held() > 0
        pins[:] = bytes(4096)
        until(lambda: w.held() == 0, "its segments")
        pins[:] = b"\xff" * 4096
        h.put("x", pattern(MB))
        assert view(h, "x") == pattern(MB)
        w("rm", "x")
        pins.close()
    until(lambda: w.held() == 0, "its segments")


def test_indexes_are_given_back(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        h.put("x", pattern(5000))
        assert view(h, "x") == pattern(5000)
        before = len(os.listdir(f"/proc/{own.process.pid}/fd"))
        for _ in range(100):
            with Handle(library, own.endpoints["unix"], w.token) as one:
                assert view(one, "x") == pattern(5000)
        until(lambda: len(os.listdir(f"/proc/{own.process.pid}/fd")) <= before, "descriptors")


def readers(store, count, stack):
    """Of as many jobs; what each was answered."""
    out = []
    for _ in range(count):
        r = stack.enter_context(Reader(store, store.job().token))
        out.append(("OK" if r.index()[1] else r.index()[0], r))
    return out


def test_as_many_jobs_as_may_have_an_index(own, library):
    with contextlib.ExitStack() as stack:
        some = readers(own, 66, stack)
        assert [status for status, _ in some] == ["OK"] * 64 + ["LIMIT"] * 2
        last = own.job()
        with Handle(library, own.endpoints["unix"], last.token) as h:
            h.put("x", pattern(5000))
            v = View(h, "x")
            assert v.bytes() == pattern(5000) and not v.is_in_place() and v.release() == 0
        some[0][1].wire.close()
        # The index of a job that nobody reads goes for it.
        with Handle(library, own.endpoints["unix"], last.token) as h:
            until(lambda: view_is_in_place(h, "x") or (h.close(), h.__init__(library, own.endpoints["unix"], last.token))[0],
                  "an index")


def test_indexes_have_a_share_of_memory(new_store):
    store = new_store(memory="64M")
    with contextlib.ExitStack() as stack:
        some = readers(store, 16, stack)
        most = (1 << 20) // (4096 + 4096 + (64 << 10))
        assert [status for status, _ in some] == ["OK"] * most + ["LIMIT"] * (16 - most)
    assert store.stop() == 0


@contextlib.contextmanager
def two_proxies(directory):
    """Metadata; a host with a store and a proxy, and a proxy elsewhere."""
    meta, listen, elsewhere = free_ports(3)
    keys = []
    for name in ("key", "token-key"):
        keys += [f"--{name}", os.path.join(directory, name)]
        with open(keys[-1], "w", encoding="ascii") as file:
            file.write(os.urandom(40).hex() + "\n")
    with open(keys[1], encoding="ascii") as file:
        key = file.read().strip()
    env, roles = {"XDG_RUNTIME_DIR": str(directory)}, []

    def start_meta():
        return Role(directory, "meta", "--listen", f"127.0.0.1:{meta}", *keys, env=env)

    path = f"/tmp/wadi-e2e-{os.getpid()}-{listen}"
    doors = ["--http", "127.0.0.1:0", "--redis", "127.0.0.1:0", "--meta", f"127.0.0.1:{meta}", *keys]
    try:
        roles.append(start_meta())
        roles.append(Role(directory, "run", "--roles", "store,proxy", "--listen", f"127.0.0.1:{listen}", "--memory", "256M",
                          "--socket", path, "--trust-local", *doors, env=env))
        roles.append(Role(directory, "proxy", "--listen", f"127.0.0.1:{elsewhere}", *doors, env=env))
        admin = Client(f"tcp://127.0.0.1:{elsewhere}", key)
        token = admin("job", "create", "a").decode().strip()
        yield roles, f"unix://{path}", f"tcp://127.0.0.1:{elsewhere}", token, start_meta
        for role in reversed(roles):
            assert role.end() == 0, role.told()
    finally:
        for role in roles:
            if role.process.poll() is None:
                role.process.send_signal(signal.SIGCONT)
                role.end(signal.SIGKILL)
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def test_what_is_replaced_elsewhere_is_never_seen_again(library, tmp_path):
    with two_proxies(tmp_path) as (_, here, there, token, _), \
            Handle(library, here, token) as h, Handle(library, there, token) as other:
        for i in range(300):
            other.put("x", pattern(3000 + i, i))
            for _ in range(2):
                assert view(h, "x") == pattern(3000 + i, i)
        # And beside each other: never one that is older than the last that was acknowledged before it began.
        acknowledged, seen, is_over = [0], [], threading.Event()

        def replaces():
            with Handle(library, there, token) as third:
                n = 0
                while not is_over.is_set():
                    third.put("y", n.to_bytes(8, "little") * 500)
                    acknowledged[0] = n
                    n += 1

        h.put("y", bytes(8) * 500)
        thread = threading.Thread(target=replaces)
        thread.start()
        due = time.monotonic() + 3
        while time.monotonic() < due or len(set(seen)) <= 20 and time.monotonic() < due + LATE_S:
            at_least = acknowledged[0]
            v = View(h, "y")  # or a copy: it may be replaced as often as it is found
            n = int.from_bytes(v.bytes()[:8], "little")
            assert v.release() == 0
            assert n >= at_least
            seen.append(n)
        is_over.set()
        thread.join()
        assert len(set(seen)) > 20


def test_a_stopped_proxy_is_waited_for_half_a_second(library, tmp_path):
    with two_proxies(tmp_path) as (roles, here, there, token, _), \
            Handle(library, here, token) as h, Handle(library, there, token) as other:
        def seconds():
            """That each put takes."""
            for i in range(3):
                h.put(f"{i}", pattern(5000, i))
                until(lambda: view_is_in_place(h, f"{i}"), "the index")  # pylint: disable=cell-var-from-loop
                assert view(h, f"{i}") == pattern(5000, i)
            roles[1].process.send_signal(signal.SIGSTOP)
            try:
                took = []
                for i in range(3):
                    began = time.monotonic()
                    other.put(f"{i}", b"a small value, which needs no store")
                    took.append(time.monotonic() - began)
                    with pytest.raises(AssertionError, match="TIMEOUT|HOSTUNREACH|UNREACH"):
                        View(h, f"{i}", timeout_ms=50)
            finally:
                roles[1].process.send_signal(signal.SIGCONT)
            for i in range(3):
                v = View(h, f"{i}")
                assert v.bytes() == b"a small value, which needs no store" and v.release() == 0
            return took

        # On a machine that does much else a lease is renewed late now and then, and a put served late.
        tries = []
        while not tries or not (0.4 < tries[-1][0] < 0.8 and max(tries[-1]) < 0.8):
            assert len(tries) < 20, tries
            tries.append(seconds())


def test_what_was_told_before_metadata_was_killed_is_not_told_after_it(library, tmp_path):
    with two_proxies(tmp_path) as (roles, here, there, token, start_meta), \
            Handle(library, here, token) as h, Handle(library, there, token) as other:
        for i in range(4):
            for k in range(20):
                h.put(f"{k}", pattern(5000, i))
                assert view(h, f"{k}") == pattern(5000, i)
            roles[0].end(signal.SIGKILL)
            roles[0] = start_meta()
            for k in range(20):
                other.put(f"{k}", pattern(6000, i + k))
                v = View(h, f"{k}")
                assert v.bytes() == pattern(6000, i + k)
                assert v.release() == 0
            until(lambda: view_is_in_place(h, "0"), "the index")


def view_is_in_place(h, path):
    v = View(h, path)
    is_in_place = v.is_in_place()
    assert v.release() == 0
    return is_in_place


@contextlib.contextmanager
def killable(again):
    """A store that can be killed; its Unix socket; a client of its only job."""
    path = f"/tmp/wadi-e2e-{os.getpid()}-sock"
    server = again("--socket", path)
    client = server.start()
    w = client.at(client("job", "create", "a").decode().strip())
    w.job = "a"
    server.endpoints = {"unix": f"unix://{path}"}
    try:
        yield server, w
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def test_views_outlive_their_proxy(again, library):
    with killable(again) as (server, w):
        with Handle(library, server.endpoints["unix"], w.token) as h:
            h.put("x", pattern(10 * MB))
            h.put("y", pattern(5000))
            for i in range(3):
                held = [View(h, "x"), View(h, "y")]
                assert all(v.is_in_place() for v in held)
                server.kill()
                assert held[0].bytes() == pattern(10 * MB, i) and held[1].bytes() == pattern(5000, i)
                server.start()
                w("rm", "x")
                # It would have the same memory again. For half a minute the function might come back, and then it does.
                due = time.monotonic() + 10
                for k in range(20):
                    w("put", "-", "x", input=pattern(10 * MB, 100 + k))
                    if time.monotonic() > due:
                        break
                w("put", "-", "y", input=pattern(5000, i + 1))
                w("put", "-", "x", input=pattern(10 * MB, i + 1))
                if i == 1:
                    until(lambda: view_is_in_place(h, "x"), "the index")
                    assert view(h, "y") == pattern(5000, i + 1)
                time.sleep(0.6)
                assert held[0].bytes() == pattern(10 * MB, i) and held[1].bytes() == pattern(5000, i)
                assert [v.release() for v in held] == [0, 0]
                until(lambda: view_is_in_place(h, "x"), "the index")
                assert view(h, "y") == pattern(5000, i + 1)
        for name in ("x", "y"):
            w("rm", name)
        until(lambda: w.held() < MB, "its memory")  # but for what killed ones had open


def index_regions(server):
    """Of its heads and of pins: no other memory is as small."""
    fds, sizes = f"/proc/{server.process.pid}/fd", []
    for fd in os.listdir(fds):
        with contextlib.suppress(OSError):
            if "memfd:" in os.readlink(f"{fds}/{fd}"):
                sizes.append(os.stat(f"{fds}/{fd}").st_size)
    return sizes.count(4096)


def test_a_successor_keeps_no_index_that_nobody_views(again, library):
    with killable(again) as (server, w):
        with Handle(library, server.endpoints["unix"], w.token) as h:
            h.put("x", pattern(5000))
            assert view(h, "x") == pattern(5000)
            assert index_regions(server) == 2
            server.kill()
        server.start()
        until(lambda: index_regions(server) == 0, "what its predecessor had to be given back")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_successor_has_indexes_that_were_made_at_the_same_time(again, jobs):
    with killable(again) as (server, w), contextlib.ExitStack() as stack:
        tokens = [w.token, w.token if jobs == 1 else w.at(None)("job", "create", "b").decode().strip()]
        both = [stack.enter_context(Reader(server, token)) for token in tokens]
        os.kill(server.process.pid, signal.SIGSTOP)
        calls = [r.wire.start("INDEX") for r in both]
        os.kill(server.process.pid, signal.SIGCONT)
        for r, call in zip(both, calls):
            _, fds = r.index_end(call)
            with mmap.mmap(fds[2], 4096) as pins:
                pins[:4] = struct.pack("<I", 1)
        server.kill()
        server.start()
        assert index_regions(server) == jobs + 2


def test_what_a_killed_proxy_left_goes_with_its_job(again, library):
    with killable(again) as (server, w):
        with Handle(library, server.endpoints["unix"], w.token) as h:
            h.put("x", pattern(5000))
            held = View(h, "x")
            server.kill()
            server.start()
            assert index_regions(server) == 2
            w("job", "end", "a")
            until(lambda: index_regions(server) == 0, "what its predecessor had to be given back")
            assert held.release() == STALE


def test_a_successor_gives_numbers_to_others(again, library):
    """What a function has mapped is not taken for what has its number now."""
    with killable(again) as (server, w):
        with Handle(library, server.endpoints["unix"], w.token) as h:
            for i in range(4):
                h.put(f"{i}", pattern(5 * MB, i))
            for i in range(3):
                assert view(h, f"{i}") == pattern(5 * MB, i)
            held = View(h, "3")
            server.kill()
            server.start()
            for i in (2, 0, 1):
                until(lambda: view_is_in_place(h, f"{i}"), "the index")  # pylint: disable=cell-var-from-loop
                assert view(h, f"{i}") == pattern(5 * MB, i)
            assert held.bytes() == pattern(5 * MB, 3) and held.release() == 0


def test_a_jobs_end_takes_views_of_a_killed_proxy_away(again, library):
    with killable(again) as (server, w):
        with Handle(library, server.endpoints["unix"], w.token) as h:
            h.put("x", pattern(10 * MB))
            held = View(h, "x")
            server.kill()
            server.start()
            w("job", "end", "a")
            until(lambda: held.bytes().count(0) == held.len, "it to be punched")
            assert held.release() == STALE


def test_a_function_that_died_with_its_proxy_keeps_nothing(again, library):
    """For half a minute it might have come back."""
    with killable(again) as (server, w):
        w("put", "-", "x", input=pattern(10 * MB))
        w("put", "-", "y", input=pattern(5000))
        process = start(library, server, w, "hold")
        server.kill()
        finish(process)
        server.start()
        w("rm", "x")
        w("rm", "y")
        time.sleep(1)
        assert w.held() >= 10 * MB
        until(lambda: w.held() < MB, "its memory", 60)
