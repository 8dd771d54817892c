"""Segments mapped into functions: a large get copies from where the bytes are, and nothing else can be had so.

Once through libwadi, as every program does, and once by hand: what a function that holds on to its
descriptors and mappings has of them later.
"""
import contextlib
import ctypes
import mmap
import os
import random
import re
import signal
import socket
import tempfile
import time

import pytest
import wire as protocol
from cluster import Role
from conftest import REFUSED, Client, pattern, until
from test_rings import Handle, library, own, start_loop  # noqa: F401, fixtures
from test_server import http_get
from wire import Wire, decode

MB = 1 << 20


def mapped(pid="self"):
    """Inodes of segments that are mapped to be read only."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        return set(re.findall(r"^\S+ r--s \S+ \S+ (\d+) +/memfd:wadi-segment", maps.read(), re.M))


def inodes(store):
    """Of all that the server maps."""
    with open(f"/proc/{store.process.pid}/maps", encoding="utf-8") as maps:
        return set(re.findall(r"^\S+ rw-s \S+ \S+ (\d+) +/memfd:wadi-segment", maps.read(), re.M))


class GetOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("offset", ctypes.c_uint64), ("len", ctypes.c_uint64),
                ("wait_ms", ctypes.c_uint32), ("timeout_ms", ctypes.c_uint32), ("read_hi", ctypes.c_uint64),
                ("read_lo", ctypes.c_uint64)]


class Keeping:
    """A function by hand, which keeps what it is given."""

    def __init__(self, endpoint, token):
        self.wire = Wire.at(endpoint)
        assert self.wire.hello(secret=token).status == "OK"
        self.fds, self.maps = [], []

    def given(self, message, access=mmap.PROT_READ, **fields):
        """What a descriptor leads to that comes with the answer, mapped; or the status."""
        call = self.wire.start(message, **fields)
        data, fds, _, _ = socket.recv_fds(self.wire.socket, 1 << 16, 4)
        frame, _ = decode("FRAME", data[4:36])
        assert frame["call"] == call
        self.wire.early.pop(call)
        status = protocol.STATUS_NAMES[frame["status"]]
        assert len(fds) == (status == "OK")
        if status != "OK":
            return status
        size = decode(message + "_REP", data[36:])[0]["size"]
        self.fds += fds
        self.maps.append(mmap.mmap(fds[0], size, mmap.MAP_SHARED, access))
        return self.maps[-1]

    def pages(self):
        return sum(os.fstat(fd).st_blocks for fd in self.fds)

    def close(self):
        self.wire.close()
        for one in self.maps:
            one.close()
        for fd in self.fds:
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Near(Keeping):
    """It finds where objects lie."""

    def hold(self, path):
        reply = self.wire.call("GET", path=path, take=1)
        assert reply.status == "OK" and reply["hold"]
        return reply["hold"]

    def extents(self, hold, offset=0):
        """(extent, sums) of each, from `offset` on."""
        reply = self.wire.call("GET_NEAR", hold=hold, offset=offset)
        assert reply.status == "OK", reply
        assert reply["count"] == 0 or reply["first"] == offset
        data, out = reply.payload, []
        for _ in range(reply["count"]):
            extent, n = decode("NEAR_EXTENT", data)
            data = data[n:]
            out.append((extent, data[:4 * extent["sum_count"]]))
            data = data[4 * extent["sum_count"]:]
        assert data == b""
        return out

    def all_extents(self, hold):
        offset, out = 0, []
        while some := self.extents(hold, offset):
            out += some
            offset += sum(extent["len"] for extent, _ in some)
        return out

    def export(self, segment, generation):
        return self.given("EXPORT", segment=segment, generation=generation)

    def take(self, path):
        """Every segment of an object, mapped; and its bytes, put together from there."""
        out = b""
        for extent, _ in self.all_extents(self.hold(path)):
            where = self.export(extent["segment"], extent["generation"])
            out += where[extent["offset"]:extent["offset"] + extent["len"]]
        return out


def test_large_gets_are_copied_from_where_they_are(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        h.put("small", pattern(60_000))
        assert h.get("small") == pattern(60_000)
        assert mapped() == set()
        for size in (100_000, 65_537, 131_072, MB, 3 * MB + 5, 40 * MB + 1):
            h.put("large", pattern(size, size))
            for _ in range(2):
                assert h.get("large", 41 * MB) == pattern(size, size)
        until(lambda: (h.get("large", 41 * MB), mapped())[1], "a mapping")
        assert mapped() <= inodes(own)
        # What is not used is given up; its own loop has to turn for that.
        until(lambda: (library.wadi_turn(h.w, 10), not mapped())[1], "the mappings to be given up")
        assert h.get("large", 41 * MB) == pattern(size, size)
    assert mapped() == set()


class Stream:
    """wadi_reader, of libwadi."""

    def __init__(self, h, path, **options):
        self.h, self.rd = h, ctypes.c_void_p()
        h.library.wadi_reader_read.restype = ctypes.c_int64
        o = GetOptions(size=ctypes.sizeof(GetOptions), **options)
        assert h.library.wadi_reader_open(h.w, path.encode(), ctypes.byref(o), ctypes.byref(self.rd)) == 0, h.error()

    def read(self, cap):
        """The bytes, or why not."""
        buf = ctypes.create_string_buffer(cap)
        n = self.h.library.wadi_reader_read(self.rd, buf, ctypes.c_size_t(cap))
        return buf.raw[:n] if n >= 0 else self.h.error()

    def rest(self, cap):
        out = []
        while data := self.read(cap):
            assert isinstance(data, bytes), data
            out.append(data)
        return b"".join(out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.h.library.wadi_reader_close(ctypes.byref(self.rd))


def sent(store):
    """Bytes that the server has sent through sockets."""
    return int(re.search(r"^wadi_sent_bytes_total (\d+)", http_get(store.endpoints["http"].rstrip("/") + "/metrics")[1], re.M).group(1))


def test_a_stream_is_copied_from_where_it_is(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        for size in (0, 1, 2048, 70_000, 131_072, MB, MB + 1, 3 * MB + 5, 40 * MB + 1):
            h.put("x", pattern(size, size))
            for cap in (70_001, MB, 7 * MB):
                before = sent(own)
                with Stream(h, "x") as rd:
                    assert rd.rest(cap) == pattern(size, size)
                assert sent(own) - before < 200_000, (size, cap)


def test_a_stream_keeps_its_version_and_ends_with_its_job(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        h.put("x", pattern(20 * MB))
        with Stream(h, "x") as rd:
            begin = rd.read(MB)
            for i in range(10):
                h.put("x", pattern(20 * MB, i + 1))
            assert begin + rd.rest(MB) == pattern(20 * MB)
        # It says what it knows; and where the bytes are, it knows for more than one read.
        with Stream(h, "x", timeout_ms=3000) as rd:
            assert rd.read(MB) == pattern(20 * MB, 10)[:MB]
            own.process.send_signal(signal.SIGSTOP)
            try:
                assert "TIMEOUT" in rd.read(MB)
            finally:
                own.process.send_signal(signal.SIGCONT)
        with Stream(h, "x") as rd:
            assert rd.read(MB) == pattern(20 * MB, 10)[:MB]
            w("job", "end", w.job)
            assert "JOBENDED" in rd.read(MB)


def test_a_stream_that_is_copied_is_counted(own, library):
    w = own.job()
    w("put", "-", "x", "--reads", "2", input=pattern(3 * MB))
    with Handle(library, own.endpoints["unix"], w.token) as h:
        with Stream(h, "x") as rd:
            assert len(rd.read(MB)) == MB  # and no more: it is not counted
        for _ in range(2):
            with Stream(h, "x") as rd:
                assert rd.rest(MB) == pattern(3 * MB)
        w("get", "x", code=REFUSED, status="CONSUMED")


def test_a_handle_maps_at_most_64_segments(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        for i in range(80):
            h.put(f"x{i}", pattern(4 * MB, i))
        assert own.client().json("top")["segments"] > 64
        until(lambda: (h.get("x0", 4 * MB), mapped())[1], "a mapping")

        size = MB // 4
        parts = [pattern(4 * MB, i)[MB:MB + size] for i in range(80)]
        buf, options = ctypes.create_string_buffer(size), GetOptions(size=ctypes.sizeof(GetOptions), offset=MB, len=size)

        def most():
            """At a time; who is so slow that he has not used one for a second has given it up."""
            counts = []
            for i in range(80):
                assert library.wadi_get(h.w, b"x%d" % i, buf, ctypes.c_size_t(size), ctypes.byref(options), None) == size
                assert buf.raw == parts[i]
                counts.append(len(mapped()))
            assert max(counts) <= 64 + 2  # and its index: head and table
            return max(counts)
        until(lambda: most() > 30, "many to be mapped")


def test_not_through_tcp_and_not_for_a_part_of_the_job(own, library):
    w = own.job()
    w("put", "-", "a/large", input=pattern(3 * MB))
    with Handle(library, w.endpoint, w.token) as h:
        assert h.get("a/large", 4 * MB) == pattern(3 * MB)
        assert mapped() == set()
    part = w("job", "token", "--prefix", "a/").decode().strip()
    with Handle(library, own.endpoints["unix"], part) as h:
        assert h.get("a/large", 4 * MB) == pattern(3 * MB)
        assert mapped() == set()
    with Near(own.endpoints["unix"], w.token) as whole, Near(own.endpoints["unix"], part) as n:
        extent, _ = whole.extents(whole.hold("a/large"))[0]
        assert n.wire.call("GET_NEAR", hold=n.hold("a/large"), offset=0).status == "DENIED"
        assert n.export(extent["segment"], extent["generation"]) == "DENIED"


def test_what_is_refused(own):
    a, b = own.job(), own.job()
    a("put", "-", "x", input=pattern(2 * MB))
    endpoint = own.endpoints["unix"]
    with Near(endpoint, a.token) as n, Near(endpoint, b.token) as other, Wire.at(endpoint) as early:
        extent, _ = n.extents(n.hold("x"))[0]
        where = extent["segment"], extent["generation"]
        assert other.export(*where) == "STALE"  # another job's
        assert n.export(where[0], where[1] + 1) == "STALE"
        assert n.export(where[0] + 1000, 1) == "STALE"
        assert n.export(1 << 63, 1) == "UNSUPPORTED"  # of no pool that is here
        assert n.wire.call("GET_NEAR", hold=77, offset=0).status == "NOTFOUND"
        assert n.wire.call("GET_NEAR", hold=n.hold("x"), offset=2 * MB)["count"] == 0
        assert early.call("EXPORT", segment=where[0], generation=where[1]).status == "DENIED"
        assert n.export(*where)[extent["offset"]:extent["offset"] + 100] == pattern(2 * MB)[:100]
        with pytest.raises(PermissionError):
            mmap.mmap(n.fds[0], MB, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(OSError):
            os.ftruncate(n.fds[0], 0)


def test_an_ended_jobs_memory_is_back_though_a_function_maps_it(own):
    w = own.job()
    w("put", "-", "x", input=pattern(20 * MB))
    with Near(own.endpoints["unix"], w.token) as n:
        assert n.take("x") == pattern(20 * MB)
        mine = {str(os.fstat(fd).st_ino) for fd in n.fds}
        assert n.pages() * 512 >= 20 * MB
        assert mine <= inodes(own)
        w("job", "end", w.job)
        assert n.wire.is_closed_by_peer()
        until(lambda: n.pages() == 0, "its memory")
        assert all(one[:].count(0) == len(one) for one in n.maps)  # which brings empty pages: the function's own
        other = own.job()
        other("put", "-", "x", input=b"\xa5" * (40 * MB))
        until(lambda: not mine & inodes(own), "it to be unmade")
        assert all(one[:].count(0) == len(one) for one in n.maps)


def test_no_other_job_gets_what_was_mapped(new_store):
    """The pool is full of what one job put and removed, and mapped; then another one needs it."""
    store = new_store(memory="128M")
    a, b = store.job(), store.job()
    a("put", "-", "x", input=b"\x11" * (60 * MB))
    with Near(store.endpoints["unix"], a.token) as n:
        assert n.take("x") == b"\x11" * (60 * MB)
        mine = {str(os.fstat(fd).st_ino) for fd in n.fds}
        n.wire.close()  # and so what it held; the mappings stay
        a("rm", "x")
        for i in range(4):
            b("put", "-", f"{i}", input=b"\x22" * (15 * MB))
        for one in n.maps:
            assert b"\x22" not in one[:]
        with Near(store.endpoints["unix"], b.token) as theirs:
            for i in range(4):
                assert theirs.take(f"{i}") == b"\x22" * (15 * MB)
            assert not mine & {str(os.fstat(fd).st_ino) for fd in theirs.fds}
    assert store.stop() == 0


def test_a_hold_keeps_the_bytes_that_are_copied(own):
    w = own.job()
    w("put", "-", "x", input=pattern(3 * MB))
    with Near(own.endpoints["unix"], w.token) as n:
        hold = n.hold("x")
        extents = n.all_extents(hold)
        w("rm", "x")
        w("put", "-", "x", input=b"\x33" * (3 * MB))
        out = b""
        for extent, _ in extents:
            where = n.export(extent["segment"], extent["generation"])
            out += where[extent["offset"]:extent["offset"] + extent["len"]]
        assert out == pattern(3 * MB)
        assert n.wire.call("GET_END", hold=hold, is_confirmed=0).status == "OK"
        assert n.wire.call("GET_END", hold=hold, is_confirmed=0).status == "NOTFOUND"


def test_killed_functions_leave_nothing(own, library):
    dice = random.Random(7)
    w = own.job()
    for _ in range(5):
        process = start_loop(library, own, w, step=370_003, most=9_000_000, paths=5)
        until(lambda: mapped(process.pid), "a mapping")  # pylint: disable=cell-var-from-loop
        time.sleep(dice.random() / 3)
        assert process.poll() is None, "it found wrong bytes"
        process.kill()
        process.wait()
        process.stdout.close()
    w("rm", "-r", "of")
    until(lambda: w.held() == 0, "its holds and segments")
    own.client()("doctor")


def change(store, data, to):
    """Where these bytes are in the server's segments, they are others from now on."""
    found = 0
    with open(f"/proc/{store.process.pid}/maps", encoding="utf-8") as maps, \
            open(f"/proc/{store.process.pid}/mem", "r+b", buffering=0) as mem:
        for begin, end in re.findall(r"^(\w+)-(\w+) rw-s .*memfd:wadi-segment", maps.read(), re.M):
            mem.seek(int(begin, 16))
            at = mem.read(int(end, 16) - int(begin, 16)).find(data)
            if at >= 0:
                mem.seek(int(begin, 16) + at)
                mem.write(to)
                found += 1
    assert found == 1


def test_other_bytes_than_were_put_are_never_handed_out(own, library):
    w = own.job()
    with Handle(library, own.endpoints["unix"], w.token) as h:
        h.put("x", pattern(2 * MB))
        until(lambda: (h.get("x", 2 * MB), mapped())[1], "a mapping")
        mark = pattern(2 * MB)[MB - 50:MB + 50]
        change(own, mark, b"?" * 100)
        with pytest.raises(AssertionError, match="DAMAGED"):
            h.get("x", 2 * MB)
        change(own, b"?" * 100, mark)
        assert h.get("x", 2 * MB) == pattern(2 * MB)


def test_a_job_that_ends_while_its_function_copies(own, library):
    """The bytes that were copied before are no answer any more."""
    w = own.job()
    w("put", "-", "x", input=pattern(40 * MB))
    with Handle(library, own.endpoints["unix"], w.token) as h:
        assert h.get("x", 40 * MB) == pattern(40 * MB)
        w("job", "end", w.job)
        with pytest.raises(AssertionError, match="JOBENDED"):
            h.get("x", 40 * MB)


@contextlib.contextmanager
def not_dev(*options):
    """Its Unix socket, which everybody may connect to."""
    with tempfile.TemporaryDirectory(prefix="wadi-e2e-") as directory:
        path = os.path.join(directory, "s")
        role = Role(directory, "run", "--roles", "meta,store,proxy", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                    "--redis", "127.0.0.1:0", "--memory", "128M", "--socket", path, *options,
                    env={"XDG_RUNTIME_DIR": directory})
        os.chmod(directory, 0o755)
        os.chmod(path, 0o666)
        try:
            yield "unix://" + path
        finally:
            assert role.end() == 0


@pytest.mark.parametrize("options", [(), ("--trust-local",), ("--isolated",)])
def test_a_process_of_the_servers_own_user_is_trusted_if_that_was_said(library, options):
    with not_dev(*options) as endpoint, Handle(library, endpoint, None) as h:
        h.put("x", pattern(2 * MB))
        if options:  # while its ring is on its way, bytes come as before
            until(lambda: (h.get("x", 2 * MB), mapped())[1], "a mapping")
        for _ in range(10):
            assert h.get("x", 2 * MB) == pattern(2 * MB)
        assert (mapped() != set()) == (options != ())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root connects as somebody else")
def test_one_user_maps_segments_of_one_job():
    """Until that is over: whoever has a process of this user can look into all of them."""
    with not_dev() as endpoint, contextlib.ExitStack() as stack:
        def connect(uid, token):
            os.seteuid(uid)  # which the kernel tells the server of
            try:
                return stack.enter_context(Near(endpoint, token))
            finally:
                os.seteuid(0)

        def asks(n):
            return n.wire.call("GET_NEAR", hold=n.hold("x"), offset=0).status

        admin, tokens = Client(endpoint), {}
        for job in ("a", "b"):
            tokens[job] = admin("job", "create", job).decode().strip()
            admin.at(tokens[job])("put", "-", "x", input=pattern(MB))
        assert asks(connect(0, tokens["a"])) == "DENIED"
        first = connect(1234, tokens["a"])
        assert asks(first) == "OK"
        assert asks(connect(1234, tokens["a"])) == "OK"
        assert asks(connect(1235, tokens["a"])) == "OK"
        assert asks(connect(1234, tokens["b"])) == "DENIED"
        first.wire.close()  # it may have given what it mapped to another process of its user
        second = connect(1234, tokens["b"])
        assert asks(second) == "DENIED"
        assert asks(connect(1236, tokens["b"])) == "OK"
        admin("job", "end", "a")
        until(lambda: asks(second) == "OK", "the proxy to hear of it")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root connects as somebody else")
def test_who_has_ended_his_job_is_bound_to_it_no_more():
    """Though his connection stays, on which he heard that."""
    with not_dev() as endpoint, contextlib.ExitStack() as stack:
        def connect(token):
            os.seteuid(1234)
            try:
                return stack.enter_context(Near(endpoint, token))
            finally:
                os.seteuid(0)

        admin, asked = Client(endpoint), {"RESERVE": {"len": MB}, "EXPORT": {"segment": 1, "generation": 1}, "INDEX": {}}
        wire = connect(admin("job", "create", "a").decode().strip()).wire
        assert wire.call("JOB_END", name="a").status == "OK"
        token = admin("job", "create", "b").decode().strip()
        admin.at(token)("put", "-", "x", input=pattern(MB))
        for name, fields in asked.items():
            assert wire.call(name, **fields).status == "JOBENDED", name
        next_one = connect(token)
        assert next_one.wire.call("GET_NEAR", hold=next_one.hold("x"), offset=0).status == "OK"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root connects as somebody else")
def test_as_many_users_as_may_have_segments_of_jobs():
    with not_dev() as endpoint:
        admin = Client(endpoint)
        token = admin("job", "create", "a").decode().strip()
        admin.at(token)("put", "-", "x", input=pattern(MB))
        statuses = []
        for uid in range(20000, 20000 + 4096 + 2):
            os.seteuid(uid)
            try:
                near = Near(endpoint, token)
            finally:
                os.seteuid(0)
            with near:
                statuses.append(near.wire.call("GET_NEAR", hold=near.hold("x"), offset=0).status)
        assert statuses == ["OK"] * 4096 + ["LIMIT"] * 2
