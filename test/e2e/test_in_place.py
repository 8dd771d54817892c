"""Objects that a function writes where they are to lie: in memory of the proxy that nobody else writes.

Once through libwadi, as every program does, and once by hand: what a function that holds on to its
descriptors and mappings, and goes on writing there, can do with them.
"""
import mmap
import os
import re
import signal

import pytest
import wire as protocol
from conftest import REFUSED, pattern, until
from test_direct import Program
from test_near import Keeping, Near, inodes, not_dev
from test_restart import again  # noqa: F401, a fixture
from test_rings import own  # noqa: F401, a fixture
from test_server import http_get
from test_views import killable
from wire import decode_all

MB = 1 << 20


def metric(store, name):
    return int(re.search(rf"^wadi_{name} (\d+)", http_get(store.endpoints["http"].rstrip("/") + "/metrics")[1], re.M).group(1))


class Writer(Keeping):
    """It writes where it was given room."""

    def reserve(self, size):
        """The number that it has, and its only part."""
        reply = self.wire.call("RESERVE", len=size)
        if reply.status != "OK":
            return reply.status, None
        part, = decode_all("RESERVED_PART", reply.payload)
        assert reply["count"] == 1 and part["len"] == size
        return reply["put"], part

    def map(self, put, index=0):
        return self.given("RESERVE_MAP", mmap.PROT_READ | mmap.PROT_WRITE, put=put, index=index)

    def put(self, put, path, sums, **how):
        return self.wire.call("RESERVE_PUT", sums, put=put, path=path, **how)


def test_an_object_is_written_where_it_lies(own, lib):
    w = own.job()
    h = lib.Handle(own.endpoints["unix"], w.token)
    seen = set()
    for turn, size in enumerate((65_537, MB, 3 * MB + 5, MB, MB, MB, MB)):
        r = h.reserve("x", size).write(pattern(size, turn))
        assert r.inode() in {int(i) for i in inodes(own)}
        seen.add(r.inode())
        r.commit()
        assert h.get("x", size) == pattern(size, turn)
        assert w("get", "x") == pattern(size, turn)
    h.reserve("x", MB).write(b"?" * MB).abandon()
    assert w("get", "x") == pattern(MB, 6)
    h.put("y", pattern(MB, 1))  # a plain put goes there as well
    assert w("get", "y") == pattern(MB, 1)
    for path in "xy":
        w("rm", path)
    h.close()
    until(lambda: w.held() == 0, "its segments")
    until(lambda: not seen & {int(i) for i in inodes(own)}, "its memory is given back")
    own.client()("doctor")


def test_large_ones_lie_in_segments_side_by_side(own, lib):
    """All of them full but the last, so that they are one range of addresses for who looks at them."""
    w = own.job()
    h = lib.Handle(own.endpoints["unix"], w.token)
    for size in (4 * MB + 1, 23 * MB + 7, 64 * MB + 1):  # the last one goes through the socket
        h.put("x", pattern(size, size & 255))
        assert h.get("x", size) == pattern(size, size & 255)
        r = h.reserve("y", size).write(pattern(size, size & 127))
        assert (r.inode() != 0) == (size <= 64 * MB)
        r.commit()
        assert h.get("y", size) == pattern(size, size & 127)
    with Writer(own.endpoints["unix"], w.token) as n:
        reply = n.wire.call("RESERVE", len=9 * MB + 5)
        parts = decode_all("RESERVED_PART", reply.payload)
        assert len(parts) == reply["count"] > 1 and sum(p["len"] for p in parts) == 9 * MB + 5
        assert all(p["offset"] == 0 and p["len"] % 65_536 == 0 for p in parts[:-1])
        for i, part in enumerate(parts):
            n.map(reply["put"], i)[:part["len"]] = bytes([i]) * part["len"]
        assert n.map(reply["put"], len(parts)) == "STALE"
        assert n.put(reply["put"], "y", b"\0" * 4 * 145).status == "OK"
        assert w.json("stat", "y")["length"] == 9 * MB + 5
        w("get", "y", code=REFUSED, status="DAMAGED")  # it was not summed
    for path in "xy":
        w("rm", path)
    h.close()
    until(lambda: w.held() == 0, "its segments")


def test_a_large_one_lies_in_one_segment_where_two_are_no_fewer_bytes(new_store):
    store = new_store(memory="1G")
    w = store.job()
    with Writer(store.endpoints["unix"], w.token) as n:
        for size, held, count in ((5 * MB, 5 * MB, 2), (6 * MB, 6 * MB, 2), (6 * MB + 65_536, 8 * MB, 1), (8 * MB, 8 * MB, 1)):
            reply = n.wire.call("RESERVE", len=size)
            assert (reply.status, reply["count"], w.held()) == ("OK", count, held)
            assert n.wire.call("PUT_DROP", put=reply["put"]).status == "OK"
            until(lambda: w.held() == 0, "its segments")
    assert store.stop() == 0


@pytest.mark.parametrize("scheme", ["tcp", "direct"])
def test_where_memory_is_not_shared_it_is_a_buffer(own, lib, scheme):
    w = own.job()
    h = lib.Handle(own.endpoints[scheme], w.token)
    r = h.reserve("x", 3 * MB).write(pattern(3 * MB))
    assert r.inode() == 0
    r.commit()
    assert w("get", "x") == pattern(3 * MB)
    h.close()


def test_a_stream_is_written_where_it_lies(own, lib):
    w = own.job()
    h = lib.Handle(own.endpoints["unix"], w.token)
    before = lib.writable()
    for turn, (size, step, hint) in enumerate(((1_500_000, 1000, 0), (5 * MB + 1, 1 << 30, 0), (9 * MB, 70_001, 0), (3 * MB, MB, 3 * MB),
                                               (2 * MB, 65_536, 40 * MB), (3 * MB, 300_000, 2 * MB))):
        lib.Stream(h, "x", hint).write(pattern(size, turn), step).commit()
        assert lib.writable() > before
        assert h.get("x", size) == pattern(size, turn)
        assert w("get", "x") == pattern(size, turn)
    data = pattern(6 * MB)
    s = lib.Stream(h, "y").part(7).write(data[3 * MB + 5:], 500_000).part(2).write(data[:2 * MB]).part(5)
    s.write(data[2 * MB + 9:3 * MB + 5]).part(2).write(data[2 * MB:2 * MB + 9]).commit()
    assert w("get", "y") == data
    s = lib.Stream(h, "z").write(data)
    assert w.held() > 12 * MB
    s.abandon()
    large = pattern(70 * MB, 2)
    h.put("y", large)  # its sums are too many for one message
    assert w("get", "y") == large
    for path in "xy":
        w("rm", path)
    h.close()
    until(lambda: w.held() == 0, "its segments")
    own.client()("doctor")


def test_streams_that_cannot_map_go_on_through_the_socket(own, lib):
    """A handle maps so many segments, and these are all in use."""
    w = own.job()
    h = lib.Handle(own.endpoints["unix"], w.token)
    data = pattern(MB + 70_000)
    before = lib.writable()
    streams = [lib.Stream(h, f"{i}").write(data[:MB + 100]) for i in range(70)]
    assert 64 <= lib.writable() - before < 70  # and its ring
    for s in streams:
        s.write(data[MB + 100:]).commit()
    for i in (0, 63, 64, 69):
        assert w("get", f"{i}") == data
    h.close()


def test_who_may_not_map_writes_to_a_buffer(lib):
    with not_dev() as endpoint:
        h = lib.Handle(endpoint)
        for _ in range(2):
            r = h.reserve("x", MB).write(pattern(MB))
            assert r.inode() == 0
            r.commit()
            assert h.get("x", MB) == pattern(MB)
        h.close()


def test_a_successor_watches_what_its_predecessor_had_taken_back(again):
    with killable(again) as (server, w), Writer(server.endpoints["unix"], w.token) as n:
        n.map(n.reserve(MB)[0])[:4] = b"mine"
        n.wire.close()
        until(lambda: n.pages() == 0, "its memory is punched")
        for _ in range(2):
            n.maps[0][:4] = b"mine"
            until(lambda: w.top()["lingering_bytes"] >= 4096, "it to be watched")
            until(lambda: n.pages() == 0, "what it touches again is punched")
            server.kill()
            server.start()


class Sparse:
    """A segment in use that an object of 256 KiB has alone: the first one of more, since they grow with what is put."""
    used = 262_144

    def __init__(self, n):
        for i in range(20):
            self.path, self.data = f"{i}", pattern(self.used, i)
            put, self.part = n.reserve(self.used)
            self.mine, self.fd = n.map(put), n.fds[-1]
            self.at = slice(self.part["offset"], self.part["offset"] + self.used)
            self.mine[self.at] = self.data
            assert n.put(put, self.path, b"\0" * 16).status == "OK"
            if len(self.mine) > 2 * self.used:
                break
        assert self.there() == len(self.mine)
        self.rest = len(self.mine) - self.used

    def there(self):
        return os.fstat(self.fd).st_blocks * 512

    def until_punched(self):
        until(lambda: self.there() == self.used, "what nothing was put into is punched")

    def write(self):
        for i in range(0, len(self.mine), self.used):
            if i != self.at.start:
                self.mine[i:i + self.used] = b"?" * self.used

    def is_whole(self):
        return self.mine[self.at] == self.data


def touched_and_punched(store, sparse, touch):
    """What functions touch is seen, and it is not there for long."""
    sparse.until_punched()
    # A look may come in the middle of it.
    until(lambda: (touch(), store.client().top()["lingering_bytes"] == sparse.rest)[1], "it to be seen")
    until(lambda: (touch(), b"that was given back" in store.client()("doctor"))[1], "it to be told")
    sparse.until_punched()
    until(lambda: store.client().top()["lingering_bytes"] == 0, "it to have been seen")


def test_what_a_function_touches_in_a_segment_in_use_is_punched(own):
    """What nothing was put into was punched, and the room is others'. To write there makes pages again, as to read does."""
    w = own.job()
    with Writer(own.endpoints["unix"], w.token) as n, Near(own.endpoints["unix"], w.token) as reader:
        sparse = Sparse(n)
        read = reader.export(sparse.part["segment"], sparse.part["since"])
        touched_and_punched(own, sparse, sparse.write)
        touched_and_punched(own, sparse, lambda: read[:])
        n.wire.close()
        touched_and_punched(own, sparse, sparse.write)
        assert metric(own, "pool_punched_again_bytes") >= 3 * sparse.rest
        assert sparse.is_whole() and read[sparse.at] == sparse.data
    for i in range(int(sparse.path) + 1):
        w("rm", f"{i}")
    until(lambda: w.held() == 0, "its segments")
    own.client()("doctor")


def test_a_successor_watches_what_is_in_use(again):  # noqa: F811
    with killable(again) as (server, w), Writer(server.endpoints["unix"], w.token) as n:
        sparse = Sparse(n)
        sparse.until_punched()
        server.kill()
        sparse.write()
        server.start()
        for _ in range(2):
            sparse.until_punched()
            sparse.write()
            until(lambda: w.top()["lingering_bytes"] > 0, "it to be seen")
        assert sparse.is_whole() and w.json("stat", sparse.path)["length"] == sparse.used


def test_what_is_not_committed_goes_with_its_function(own, lib):
    """Killed, or gone with its connection; whatever it still maps then is nobody's."""
    w = own.job()
    with Program(own.endpoints["unix"], w.token) as f:
        assert f("[h := Handle(), h.put('kept', pattern(100_000)), h.reserve('x', 1 << 20).write(b'a' * 1000).inode()][2] != 0") == "True"
        assert w.held() > MB
        f.process.kill()
        f.process.wait()
        until(lambda: w.held() < 4 * 65_536, "what was reserved")
    assert w("get", "kept") == pattern(100_000)
    with Writer(own.endpoints["unix"], w.token) as n:
        n.map(n.reserve(MB)[0])[:4] = b"mine"
        assert n.pages() == 2 * MB // 1024
        n.wire.close()
        until(lambda: n.pages() == 0, "its memory is punched")
        for i in range(3):
            # What it writes there now is charged to it, nobody sees it, and it is not there for long.
            n.maps[0][i * MB // 4:i * MB // 4 + 4] = b"mine"
            until(lambda: metric(own, "pool_retired_count") == 1, "it to be watched")
            until(lambda: own.client().top()["lingering_bytes"] >= 4096, "it to be seen")
            until(lambda: n.pages() == 0, "what it touches again is punched")
        until(lambda: metric(own, "pool_punched_again_bytes") >= 3 * 4096, "it to be told")
    until(lambda: metric(own, "pool_retired_count") == 0, "nobody to hold it")
    assert metric(own, "pool_let_go_count") == 0
    w("rm", "kept")
    until(lambda: w.held() == 0, "its segments")
    own.client()("doctor")


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_a_stream_hears_that_somebody_has_ended_its_job(own, lib, scheme):
    """Its connection is cut, and it says why: there is nothing to begin again."""
    w = own.job()
    h = lib.Handle(own.endpoints[scheme], w.token)
    streams = [lib.Stream(h, name).write(pattern(5 * MB)) for name in "xy"]
    w("job", "end", w.job)
    with pytest.raises(lib.Failed, match="JOBENDED"):
        streams[0].commit()
    with pytest.raises(lib.Failed, match="JOBENDED"):
        streams[1].write(pattern(5 * MB))
    for stream in streams:
        stream.abandon()
    h.close()


def test_a_job_that_ends_while_its_function_is_stopped(own, lib):
    w = own.job()
    before = own.client().top()["dram_used"]
    with Program(own.endpoints["unix"], w.token) as f:
        f("[h := Handle(), keep.update(h=h, r=h.reserve('x', 4 << 20).write(b'a' * 1000))]")
        inode = f("keep['r'].inode()")
        assert inode in inodes(own)
        f.process.send_signal(signal.SIGSTOP)
        w("job", "end", w.job)
        until(lambda: own.client().top()["dram_used"] <= before, "its memory")
        until(lambda: inode not in inodes(own), "its memory is unmade")
        f.process.send_signal(signal.SIGCONT)
        assert f("keep['r'].write(b'b' * 1000).commit()").startswith("STALE")
        assert f("keep['h'].put('x', b'x')").startswith("JOBENDED")
    own.client()("doctor")


def test_nobody_else_has_its_memory(own, lib):
    """Neither the job's other functions, while it lives, nor another job after it."""
    w, other = own.job(), own.job()
    with Writer(own.endpoints["unix"], w.token) as n:
        put, part = n.reserve(MB)
        mine = n.map(put)
        mine[:] = b"\x11" * len(mine)
        assert n.put(put, "x", b"\0" * 64).status == "OK"
        assert n.put(put, "x", b"\0" * 64).status == "STALE"
        assert n.map(put) == "STALE"
        w("rm", "x")
        until(lambda: w.held() == 0, "it is free")
        # It has it again, as it is.
        put, again = n.reserve(MB)
        assert (again["segment"], again["since"]) == (part["segment"], part["since"])
        assert n.map(put)[:] == mine[:]
        assert n.wire.call("PUT_DROP", put=put).status == "OK"
        w("put", "-", "mine", input=b"\x22" * (MB - 4096))
        with Writer(own.endpoints["unix"], w.token) as second:
            assert second.map(put) == "STALE"
            assert second.put(put, "x", b"\0" * 64).status == "STALE"
            theirs = second.map(second.reserve(MB)[0])
            theirs[:] = b"\x33" * len(theirs)
            assert {os.fstat(fd).st_ino for fd in n.fds}.isdisjoint({os.fstat(fd).st_ino for fd in second.fds})
        other("put", "-", "theirs", input=b"\x44" * (3 * MB))
        assert set(mine[:]) == {0x11}
        n.wire.close()
        until(lambda: n.pages() == 0, "its memory is punched")
        other("put", "-", "more", input=b"\x55" * (3 * MB))
        assert set(mine[:]) == {0}


def test_an_author_spoils_what_is_its_own(own, lib):
    """Its sums lie where it cannot write, so nobody takes what it wrote later for what it put."""
    w = own.job()
    w("put", "-", "other", input=pattern(100_000))
    with Program(own.endpoints["unix"], w.token) as f:
        f("[h := Handle(), keep.update(h=h, r=h.reserve('x', 1 << 20).write(pattern(1 << 20)))]")
        f("keep.update(at=keep['r'].at)")
        f("keep['r'].commit()")
        assert w("get", "x") == pattern(MB)
        f("[__import__('ctypes').memset(keep['at'] + 70_000, 1, 10)]")
        w("get", "x", code=REFUSED, status="DAMAGED")
        assert f("keep['h'].get('x')").startswith("DAMAGED")
        assert w("get", "other") == pattern(100_000)
        f("keep['h'].put('x', pattern(1 << 20, 1))")
        assert w("get", "x") == pattern(MB, 1)


@pytest.mark.skipif(not os.environ.get("WADI_TEST_LARGE"), reason="a minute; WADI_TEST_LARGE runs it")
def test_what_is_reserved_for_a_minute_is_given_to_who_waits(new_store):
    store = new_store(memory="128M")
    a, b = store.job(), store.job()
    with Writer(store.endpoints["unix"], a.token) as n:
        puts = []
        while len(puts) < 500 and (got := n.reserve(MB))[0] != "NOSPACE":
            puts.append(got[0])
        assert len(puts) > 20
        b("put", "-", "x", "--timeout", "100s", input=pattern(8 * MB))
        assert n.put(puts[0], "x", b"\0" * 64).status == "STALE"
    assert b("get", "x") == pattern(8 * MB)
    assert store.stop() == 0


def test_requests_that_make_no_sense(own):
    w = own.job()
    with Writer(own.endpoints["unix"], w.token) as n:
        for size, status in ((0, "TOOLARGE"), (1 << 40, "TOOLARGE"), ((64 << 20) + 1, "TOOLARGE")):
            assert n.reserve(size)[0] == status
        assert n.map(77) == "STALE"
        assert n.put(77, "x", b"").status == "STALE"
        put, part = n.reserve(100_000)
        assert n.map(put, index=1) == "STALE"
        assert n.put(put, "x", b"\0" * 4, flags=99).status == "INVALID"
        assert n.put(put, "", b"\0" * 8).status == "INVALID"
        assert n.put(put, "x", b"\0" * 4).status == "INVALID"  # a sum is missing; and then it is gone
        assert n.put(put, "x", b"\0" * 8).status == "STALE"
        puts = [n.reserve(1)[0] for _ in range(1024)]
        assert n.reserve(1)[0] == "LIMIT"
        assert n.wire.call("PUT_DROP", put=puts[5]).status == "OK"
        assert n.reserve(1)[0] not in ("LIMIT", *puts)
    until(lambda: w.held() == 0, "what was reserved")
    with Writer(own.endpoints["tcp"], w.token) as n:
        assert n.reserve(MB)[0] == "UNSUPPORTED"
    for narrow in (("--prefix", "a/"), ("--rights", "read"), ("--rights", "write")):  # to map is to read
        with Writer(own.endpoints["unix"], w("job", "token", *narrow).decode().strip()) as n:
            assert n.reserve(MB)[0] == "DENIED"


def test_rooms_that_make_no_sense(own):
    w = own.job()
    with Writer(own.endpoints["unix"], w.token) as n:
        def opened(path):
            reply = n.wire.call("PUT_OPEN", path=path, is_in_place=1)
            assert (reply.status, reply["is_in_place"]) == ("OK", 1)
            return reply["put"]

        def room(put, sums=b"", **fields):
            return n.wire.call("PUT_ROOM", sums, put=put, **fields)

        assert room(77, len=1).status == "NOTFOUND"
        assert n.map(77) == "STALE"
        sent = n.wire.call("PUT_OPEN", path="sent")["put"]
        assert room(sent, len=1).status == "UNSUPPORTED"
        put = opened("x")
        assert n.map(put) == "STALE"
        assert room(put, used=1).status == "INVALID"
        assert room(put, b"\0" * 4, used=0).status == "INVALID"
        assert room(put, offset=1, len=10).status == "INVALID"
        part = room(put, len=100_000)
        assert (part.status, part["len"]) == ("OK", 100_000)
        n.map(put)[part["offset"]:part["offset"] + 3] = b"abc"
        # While it is written, its bytes do not come in another way, and it does not end.
        assert n.wire.call("PUT_DATA", b"abc", put=put).status == "INVALID"
        assert n.wire.call("PUT_COMMIT", put=put).status == "INVALID"
        assert n.map(put, index=1) == "STALE"
        assert room(put, b"\0" * 4, used=3).status == "OK"
        assert n.wire.call("PUT_COMMIT", put=put).status == "OK"
        w("get", "x", code=REFUSED, status="DAMAGED")  # that was no sum of it
        for sums, used in ((b"\0" * 8, 100_001), (b"\0" * 4, 100_000), (b"\0" * 12, 100_000), (b"", 1)):
            put = opened("y")
            assert room(put, len=100_000)["len"] == 100_000
            assert room(put, sums, used=used).status == "INVALID"
            assert n.wire.call("PUT_COMMIT", put=put).status == "CANCELED"
        assert room(opened("y"), len=(1 << 32) - 1)["len"] > 0
    until(lambda: w.held() < MB, "what was open")
    with Writer(own.endpoints["tcp"], w.token) as n:
        assert n.wire.call("PUT_OPEN", path="x", is_in_place=1)["is_in_place"] == 0


def test_a_connection_has_room_for_so_many_objects(own):
    w = own.job()
    most = int(re.search(r"CONN_RESERVED_MAX (\d+)", protocol.read("base/limits.h"))[1])
    with Writer(own.endpoints["unix"], w.token) as f:
        puts = [f.reserve(1)[0] for _ in range(most)]
        assert f.reserve(1)[0] == "LIMIT"
        assert f.wire.call("PUT_DROP", put=puts[0]).status == "OK"
        assert isinstance(f.reserve(1)[0], int)
        assert f.reserve(1)[0] == "LIMIT"


def test_a_connection_has_room_for_so_many_objects_at_a_time(own):
    """However many it asks for before it hears an answer."""
    w = own.job()
    most = int(re.search(r"CONN_RESERVED_MAX (\d+)", protocol.read("base/limits.h"))[1])
    with Writer(own.endpoints["unix"], w.token) as f:
        calls = [f.wire.start("RESERVE", len=1) for _ in range(most + 200)]
        replies = [f.wire.end(call).status for call in calls]
    assert replies.count("OK") == most and replies.count("LIMIT") == 200


def test_a_proxy_that_is_killed_meanwhile(again, lib, tmp_path):  # noqa: F811
    """What was not committed is stale, what was is there, and what a function could write nobody has after it."""
    server = again("--socket", str(tmp_path / "s"))
    client = server.start()
    h = lib.Handle(f"unix://{tmp_path}/s")
    h.put("kept", pattern(MB))
    r = h.reserve("x", MB).write(pattern(MB))
    server.kill()
    server.start()
    with pytest.raises(lib.Failed, match="STALE"):
        r.commit()
    assert h.get("kept", MB) == pattern(MB)
    h.reserve("x", MB).write(pattern(MB, 1)).commit()
    assert client("get", "x") == pattern(MB, 1)
    h.close()
