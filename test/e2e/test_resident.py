"""Plain gets on the proxy's host: what is got again and again is copied from memory that the index leads to, and nobody is asked."""
import contextlib
import ctypes
import mmap
import os
import random
import re
import signal
import threading
import time

import pytest
from conftest import LATE_S, pattern, until
from test_near import Near
from test_restart import again  # noqa: F401, a fixture
from test_rings import Handle, library, own  # noqa: F401, fixtures
from test_views import MB, GetOptions, Reader, Stat, View, killable, two_proxies
from wire import decode

OFTEN = 40  # gets after which a handle has an index, and what it got is there


class Got(Handle):
    """A handle whose gets say how they ended."""

    def got(self, path, cap=70_000, **options):
        buf, s = ctypes.create_string_buffer(cap), Stat()
        o = GetOptions(size=ctypes.sizeof(GetOptions), **options)
        n = self.library.wadi_get(self.w, path.encode(), buf, ctypes.c_size_t(cap), ctypes.byref(o), ctypes.byref(s))
        return (buf.raw[:n] if n >= 0 else self.error(), s)

    def often(self, path):
        for _ in range(OFTEN):
            data = self.get(path)
        return data

    def until_at_hand(self, store, path):
        """Memory for copies is made beside the gets, so one more may be needed than `often` has."""
        def is_at_hand():
            self.often(path)
            with stopped(store):
                return isinstance(self.got(path, timeout_ms=50)[0], bytes)
        until(is_at_hand, f"{path} to be at hand")


class Hand(Reader):
    """A function by hand."""
    given, export = Near.given, Near.export

    def __init__(self, store, token):
        super().__init__(store, token)
        self.maps = []


SOON = {"timeout_ms": 50}  # for who is not asked


@contextlib.contextmanager
def stopped(store):
    """Its lease lasts for half a second."""
    store.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        store.process.send_signal(signal.SIGCONT)


def while_stopped(store, get):
    """What is got, all of it, from a store that is stopped. On a machine that does much else its lease is renewed late now and
    then, or is over before we have looked."""
    def are_there():
        with stopped(store):
            got = get()
        return None if any(isinstance(one, str) and "TIMEOUT" in one for one in got) else got
    return until(are_there, "a lease that is long enough")


def test_nobody_is_asked_for_what_was_got_twice(own, library):
    w = own.job()
    sizes = (0, 1, 64, 2048, 2049, 30_000, 65_536)
    with Got(library, own.endpoints["unix"], w.token) as h:
        for n in sizes:
            h.put(f"{n}", pattern(n, n))
            h.often(f"{n}")
        for n in sizes:
            told, data = w.json("stat", f"{n}"), pattern(n, n)
            h.until_at_hand(own, f"{n}")
            all_of_it, s, *rest = while_stopped(own, lambda: [  # pylint: disable=cell-var-from-loop
                *h.got(f"{n}", **SOON), h.got(f"{n}", offset=10, len=50, **SOON)[0], h.got(f"{n}", offset=n, **SOON)[0],
                h.got(f"/{w.job}/{n}", cap=n, **SOON)[0]])
            assert all_of_it == data and rest == [data[10:60], b"", data]
            assert (s.len, s.version, s.object, s.reads_left, s.attributes_len) == \
                (n, int(told["version"]), int(told["object"]), 0xffffffff, 0)
            assert s.ttl_left_ms == (1 << 64) - 1 and s.extent_count == (n > 2048) and s.age_ms < 60_000
        with stopped(own):
            time.sleep(0.7)
            # Nobody can tell any more, so it is asked, and is not there.
            assert "TIMEOUT" in h.got("64", timeout_ms=300)[0]
        assert h.got("64", timeout_ms=5000)[0] == pattern(64, 64)


def test_a_function_finds_what_another_has_got(own, library):
    w = own.job()
    with Got(library, own.endpoints["unix"], w.token) as h, Got(library, own.endpoints["unix"], w.token) as other:
        h.put("x", pattern(5000))
        h.put("y", b"small")
        h.until_at_hand(own, "x")
        h.until_at_hand(own, "y")
        other.put("z", b"something else")
        other.often("z")  # it has the index by now
        assert other.get("x") == pattern(5000)  # and the mapping
        assert while_stopped(own, lambda: [other.got(path, **SOON)[0] for path in "xy"]) == [pattern(5000), b"small"]


def test_who_asks_for_nothing_that_is_in_an_old_table_has_the_new_one(own, library):
    """What it gets is in the new one, once that is there; the old one says nothing of it."""
    w = own.job()
    with Got(library, own.endpoints["unix"], w.token) as h:
        h.put("y", b"y")
        h.put("large", pattern(2 * MB))
        h.until_at_hand(own, "y")
        for i in range(600):  # the first table has no room for so many
            h.put(f"d/{i}", b"d")
            for _ in range(3):
                assert h.get(f"d/{i}") == b"d"
        h.put("z", b"z")
        h.until_at_hand(own, "z")
        v = View(h, "large")
        assert v.is_in_place() and v.bytes() == pattern(2 * MB)
        assert v.release() == 0


def test_what_an_old_table_leads_to_is_asked_of_the_new_one(new_store, library):
    """Its bytes are elsewhere, or gone, and the number of its mapping is another's: it is neither found nor empty."""
    store = new_store("--memory", "64M")
    w = store.job()
    with Got(library, store.endpoints["unix"], w.token) as h, Got(library, store.endpoints["unix"], w.token) as other:
        other.put("gone", pattern(2 * MB))
        other.put("kept", pattern(2 * MB, 1))
        other.put("y", b"y")
        h.until_at_hand(store, "y")
        for name in ("gone", "kept"):
            assert View(other, name).release() == 0
        for i in range(600):  # the first table has no room for so many
            other.put(f"d/{i}", b"d")
            for _ in range(3):
                assert other.get(f"d/{i}") == b"d"
        w("rm", "gone")
        for i in range(60):  # all of memory is wanted for others
            other.put(f"e{i % 8}", pattern(2 * MB, i))
            assert View(other, f"e{i % 8}").release() == 0
        assert "NOTFOUND" in h.got("gone", cap=3 * MB)[0]
        assert h.got("kept", cap=3 * MB)[0] == pattern(2 * MB, 1)


def test_a_value_is_viewed_as_a_copy_that_nobody_is_asked_for(own, library):
    w = own.job()
    with Got(library, own.endpoints["unix"], w.token) as h:
        h.put("y", b"small")
        h.until_at_hand(own, "y")

        def view():
            try:
                v = View(h, "y", offset=1, len=3, **SOON)
            except AssertionError as e:
                return [str(e)]
            seen = [v.bytes(), v.is_in_place(), v.stat().len, v.stat().extent_count]
            return [*seen, v.release()]
        assert while_stopped(own, view) == [b"mal", False, 5, 0, 0]


def test_a_change_is_seen_at_once(own, library):
    w = own.job()
    with Got(library, own.endpoints["unix"], w.token) as h, Got(library, own.endpoints["unix"], w.token) as other:
        h.put("x", b"")
        h.often("x")
        for i in range(100):
            data = pattern((10, 3000, 2000, 70_000)[i % 4] + i, i)
            other.put("x", data)
            for _ in range(4):
                assert h.get("x") == data
        w("rm", "x")
        assert "NOTFOUND" in h.got("x")[0]
        h.put("d/y", b"y")
        h.often("d/y")
        w("mv", "d/y", "d/z")
        assert "NOTFOUND" in h.got("d/y")[0]
        assert h.often("d/z") == b"y"
        w("rm", "-r", "d")
        assert "NOTFOUND" in h.got("d/z")[0]

        def is_often_got():
            """Its time may be over before that, on a machine that does much else."""
            w("put", "-", "t", "--ttl", "900ms", input=b"t")
            return all(h.got("t")[0] == b"t" for _ in range(OFTEN))
        until(is_often_got, "it to be got in time")
        time.sleep(1)
        assert "EXPIRED" in h.got("t")[0]
        h.put("x", b"x")
        h.often("x")
        w("job", "end", w.job)
        assert "JOBENDED" in h.got("x")[0]
    until(lambda: own.client().json("top")["segments"] == 0, "its segments")


def test_what_is_no_matter_of_an_index_is_asked_for(own, library):
    w = own.job()
    with Got(library, own.endpoints["unix"], w.token) as h:
        h.put("x", pattern(5000))
        h.often("x")
        w("put", "-", "counted", "--reads", "25", input=pattern(5000))
        for _ in range(25):
            assert h.get("counted") == pattern(5000)
        assert "CONSUMED" in h.got("counted")[0]
        for path, data in (("large", pattern(MB)), ("longer", pattern(65_537))):
            h.put(path, data)
            assert h.often(path) == data
        reason, s = h.got("x", cap=4999)
        assert "it has 5000 bytes, and there is room for 4999" in reason and s.len == 5000
        assert h.got("x", cap=100, offset=4900)[0] == pattern(5000)[4900:]


def test_more_values_than_there_is_room_for(own, library):
    """Copies have a megabyte; what was pushed out is asked for, and comes back."""
    w = own.job()
    dice = random.Random(3)
    with Got(library, own.endpoints["unix"], w.token) as h:
        for i in range(600):
            h.put(f"{i}", pattern(2000, i))
        for _ in range(3):
            for i in range(600):
                assert h.get(f"{i}") == pattern(2000, i)
        for _ in range(1500):
            i = dice.randrange(600)
            if dice.random() < 0.1:
                h.put(f"{i}", pattern(2000, i))
            assert h.get(f"{i}") == pattern(2000, i)
        for _ in range(3):
            for i in range(200):
                assert len(h.get(f"{i}")) == 2000

        def are_at_hand():
            with stopped(own):
                due, at_hand = time.monotonic() + 0.3, 0
                for i in range(200):
                    at_hand += time.monotonic() < due and len(h.got(f"{i}", timeout_ms=1)[0]) == 2000
            return at_hand > 150
        until(are_at_hand, "most of them to be at hand")


def test_several_at_a_time(own, library):
    w = own.job()
    with Got(library, own.endpoints["unix"], w.token) as h:
        h.put("x", pattern(5000))
        h.until_at_hand(own, "x")
        h.library.wadi_op_end.restype = ctypes.c_int64
        soon = GetOptions(size=ctypes.sizeof(GetOptions), **SOON)

        def get():
            bufs = [ctypes.create_string_buffer(5000) for _ in range(50)]
            ops = [ctypes.c_void_p() for _ in bufs]
            for buf, op in zip(bufs, ops):
                assert h.library.wadi_start_get(h.w, b"x", buf, ctypes.c_size_t(5000), ctypes.byref(soon), None,
                                                ctypes.byref(op)) == 0
            ends = [h.library.wadi_op_end(ctypes.byref(op)) for op in ops]
            return [buf.raw if end == 5000 else h.error() for buf, end in zip(bufs, ends)]
        assert while_stopped(own, get) == [pattern(5000)] * 50


def memory_with(store, data):
    """Where in the server's memory `data` lies, open to be written: this test has its uid."""
    seen = set()
    for fd in os.listdir(f"/proc/{store.process.pid}/fd"):
        path = f"/proc/{store.process.pid}/fd/{fd}"
        with contextlib.suppress(OSError):
            if "memfd:wadi-segment" in os.readlink(path):
                file = os.open(path, os.O_RDWR)
                inode = os.fstat(file).st_ino
                found = [] if inode in seen else re.finditer(re.escape(data), os.pread(file, 64 * MB, 0))
                seen.add(inode)
                for at in found:
                    yield os.dup(file), at.start()
                os.close(file)


def flip(file, at):
    os.pwrite(file, bytes([os.pread(file, 1, at)[0] ^ 1]), at)


def test_damaged_bytes_are_never_handed_on(own, library):
    w = own.job()
    small, large = os.urandom(500), os.urandom(5000)
    with Got(library, own.endpoints["unix"], w.token) as h:
        h.put("small", small)
        h.put("large", large)
        h.until_at_hand(own, "small")
        h.until_at_hand(own, "large")
        places = list(memory_with(own, small)) + list(memory_with(own, large))
        assert len(places) >= 3  # the value, its copy, and the object
        for file, at in places:
            flip(file, at + 77)
        for path in ("small", "large"):
            for _ in range(3):
                assert "DAMAGED" in h.got(path)[0]
            assert "DAMAGED" in h.got(path, offset=200, len=10)[0]
        for file, at in places:
            flip(file, at + 77)
            os.close(file)
        assert h.get("small") == small and h.get("large") == large


def test_values_are_gone_with_their_job_whoever_maps_them(own, library):
    w = own.job()
    secret = os.urandom(300)
    with Hand(own, w.token) as r, Hand(own, own.job().token) as other, Got(library, own.endpoints["unix"], w.token) as h:
        r.index()
        h.put("x", secret)
        h.often("x")
        # Memory for copies is made when the first value is read, and has it when that is read again.
        found = until(lambda: (h.often("x"), r.wire.call("MAPPING", number=0).payload)[1], "a copy")
        part, _ = decode("MAPPING_PART", found)
        assert part["generation"] == 0 and part["len"] == 0
        copies = r.export(part["segment"], 0)
        assert copies.find(secret) >= 0
        with pytest.raises(PermissionError):
            mmap.mmap(r.fds[-1], len(copies), mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        # Nobody has it by another number, or as another job.
        assert r.export(part["segment"] ^ 1, 0) == "STALE"
        assert other.export(part["segment"], 0) == "STALE"
        other.index()
        assert other.export(part["segment"], 0) == "STALE"
        w("job", "end", w.job)
        until(lambda: copies[:] == bytes(len(copies)), "it to be punched")


def test_gets_go_on_with_the_next_proxy(again, library):  # noqa: F811
    with killable(again) as (server, w), Got(library, server.endpoints["unix"], w.token) as h:
        h.put("small", b"small")
        h.put("large", pattern(40_000))
        for _ in range(3):
            h.often("small")
            h.often("large")
            server.kill()
            server.start()
            assert h.get("small") == b"small" and h.get("large") == pattern(40_000)


def test_what_is_replaced_elsewhere_is_never_got_again(library, tmp_path):
    with two_proxies(tmp_path) as (_, here, there, token, _), \
            Got(library, here, token) as h, Got(library, there, token) as other:
        h.put("y", bytes(8))
        h.often("y")
        acknowledged, seen, is_over = [0], [], threading.Event()

        def replaces():
            with Handle(library, there, token) as third:
                n = 0
                while not is_over.is_set():
                    third.put("y", n.to_bytes(8, "little") * (1 if n % 2 else 500))
                    acknowledged[0] = n
                    n += 1

        for i in range(200):
            other.put("x", pattern((20, 3000)[i % 2] + i, i))
            for _ in range(3):
                assert h.get("x") == pattern((20, 3000)[i % 2] + i, i)
        thread = threading.Thread(target=replaces)
        thread.start()
        due = time.monotonic() + 2
        while time.monotonic() < due or len(set(seen)) <= 20 and time.monotonic() < due + LATE_S:
            at_least = acknowledged[0]
            n = int.from_bytes(h.get("y")[:8], "little")
            assert n >= at_least
            seen.append(n)
        is_over.set()
        thread.join()
        assert len(set(seen)) > 20
