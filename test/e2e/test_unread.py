"""Descriptors that functions are sent and do not read: the kernel has so many of one user's on their way, of all his
processes together, and passes no more of any. Root is not bound by that, so the server is somebody else here.
"""
import contextlib
import fcntl
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import termios
import time

import pytest
from conftest import LATE_S, pattern, until
from test_near import MB, Near, mapped
from test_reach import as_user, job, store_of
from test_rings import Handle, library  # noqa: F401, a fixture
from wire import STATUS_NAMES, Closed, decode

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root is somebody else")

SERVER, FILES, COUNT = 4321, 1000, 12
ASKED = 100  # by each of COUNT: more than there may be on their way

# Of the server's user: more than FILES of its descriptors are on their way to itself, until its input ends.
CROWD = f"""
import os, socket, sys
some = []
for _ in range({FILES} // 200 + 1):
    some.append(socket.socketpair())
    for _ in range(200 // 50):
        socket.send_fds(some[-1][0], [b"x"], [0] * 50)
print("there", flush=True)
sys.stdin.read()
"""


def small_store():
    return store_of(SERVER, "--isolated", prefix=["prlimit", f"--nofile={FILES}:{FILES}"])


def unread_bytes(s):
    return struct.unpack("I", fcntl.ioctl(s, termios.FIONREAD, bytes(4)))[0]


def is_closed(s):
    poll = select.poll()
    poll.register(s, 0)
    return bool(poll.poll(0))


class Deaf(Near):
    """It asks for descriptors, and reads none of them."""

    def ask(self):
        extent, _ = self.extents(self.hold("a/x"))[0]
        for _ in range(ASKED):
            # One after the other: what is passed with one frame has to be sent before the next.
            before, due = unread_bytes(self.wire.socket), time.monotonic() + LATE_S
            self.wire.start("EXPORT", segment=extent["segment"], generation=extent["generation"])
            while unread_bytes(self.wire.socket) == before:
                assert time.monotonic() < due
                if is_closed(self.wire.socket):
                    return  # it is nobody's concern but its own

    def told(self):
        """What it was answered: statuses. They come without the descriptors, which are gone then."""
        out = set()
        with contextlib.suppress(Closed):
            while unread_bytes(self.wire.socket):
                out.add(STATUS_NAMES[self.wire.read_frame()[0]["status"]])
        return out


def answer(n, message, **fields):
    """The status, and how many descriptors came with it."""
    n.wire.start(message, **fields)
    data, fds, _, _ = socket.recv_fds(n.wire.socket, 1 << 16, 4)
    frame, _ = decode("FRAME", data[4:36])
    n.wire.early.clear()
    n.fds += fds
    return STATUS_NAMES[frame["status"]], len(fds)


class Honest(Near):
    def __init__(self, endpoint, token):
        super().__init__(endpoint, token)
        self.room = self.wire.call("RESERVE", len=100_000)["put"]


def works(n, wanted):
    """Every message with descriptors, and the connection goes on."""
    extent, _ = n.extents(n.hold("a/x"))[0]
    where = {"segment": extent["segment"], "generation": extent["generation"]}
    assert [answer(n, "EXPORT", **where), answer(n, "RING"), answer(n, "INDEX"),
            answer(n, "RESERVE_MAP", put=n.room, index=0)] == wanted
    assert n.wire.call("GET", path="a/x", take=MB).payload == pattern(MB)
    assert n.wire.call("PUT", b"x", path="a/y").status == "OK"


ALL = [("OK", 1), ("OK", 2), ("OK", 3), ("OK", 1)]


def test_who_reads_none_takes_none_from_other_jobs():
    with small_store() as endpoint, contextlib.ExitStack() as stack:
        bad, good = (job(endpoint, name, pattern(MB))[0] for name in ("bad", "good"))
        honest = stack.enter_context(Honest(endpoint, good.token))
        some = [stack.enter_context(Deaf(endpoint, bad.token)) for _ in range(COUNT)]
        for n in some:
            n.ask()
        works(honest, ALL)
        # What it was sent stays on its way when it hangs up with one hand, and it comes again.
        for n in some:
            n.wire.socket.shutdown(socket.SHUT_WR)
        until(lambda: all(is_closed(n.wire.socket) for n in some), "the server to hang up")
        more = [stack.enter_context(Deaf(endpoint, bad.token)) for _ in range(COUNT)]
        for n in more:
            n.ask()
        works(stack.enter_context(Honest(endpoint, good.token)), ALL)
        assert set.union(*(n.told() for n in some)) == {"OK", "LIMIT"}
        assert set.union(*(n.told() for n in more)) <= {"OK", "LIMIT"}
        # Once they were read, its job has its share again.
        works(stack.enter_context(Honest(endpoint, bad.token)), ALL)


def test_who_was_refused_an_index_has_it_when_he_has_read():
    with small_store() as endpoint:
        w, _ = job(endpoint, "a", pattern(MB))
        with Deaf(endpoint, w.token) as n:
            n.ask()
            n.ask()  # more than a connection may have unread
            before = unread_bytes(n.wire.socket)
            n.wire.start("INDEX")
            until(lambda: unread_bytes(n.wire.socket) > before, "an answer")
            statuses = []
            while unread_bytes(n.wire.socket):
                statuses.append(STATUS_NAMES[n.wire.read_frame()[0]["status"]])
            assert statuses[-1] == "LIMIT"
            assert answer(n, "INDEX") == ("OK", 3)


def test_what_the_kernel_does_not_pass_is_done_without(library):
    with small_store() as endpoint, contextlib.ExitStack() as stack:
        w, _ = job(endpoint, "a", pattern(MB))
        n = stack.enter_context(Honest(endpoint, w.token))
        handle = stack.enter_context(Handle(library, endpoint, w.token))
        crowd = subprocess.Popen([*as_user(SERVER), sys.executable, "-c", CROWD], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        try:
            assert crowd.stdout.readline() == b"there\n"
            works(n, [(status, 0) for status, _ in ALL])
            # Their memory is passed to a keeper, so there are no more segments for now.
            for i in range(20):
                handle.put("mine", pattern(1000, i))
                assert handle.get("mine") == pattern(1000, i)
                assert handle.get("a/x") == pattern(MB)
        finally:
            crowd.communicate(timeout=LATE_S)
        works(stack.enter_context(Honest(endpoint, w.token)), ALL)
        assert not mapped()
        until(lambda: handle.get("a/x") == pattern(MB) and mapped(), "what was lost to be asked for again")
