"""Proxies by hand: what libwadi makes of answers that a real one gives once in a while, at a moment that no test can choose.

The function is a process of its own (libwadi.py), so that one that crashes is seen to.
"""
import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import BUILD, LATE_S, clean_environment, pattern
from wire import MESSAGES, MORE, REPLY, STATUSES, Wire, decode, encode

KIB, MIB = 1 << 10, 1 << 20
F_ADD_SEALS, SEALS = 1033, 7  # against all that changes its size
NAMES = {number: name for name, number in MESSAGES.items()}


class Function:
    """Says one line at a time, each a Python expression with `Handle`; the answer is heard when it is asked for."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, os.path.join(os.path.dirname(__file__), "libwadi.py")], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=clean_environment(WADI_BUILD=BUILD))

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        assert line, f"the function has ended with {self.process.wait(LATE_S)}"
        return line[:-1]

    def end(self):
        self.process.stdin.close()
        return self.process.wait(LATE_S)


class WithDescriptor:
    def __init__(self, to, fd):
        self.to, self.fd = to, fd

    def sendall(self, data):
        assert socket.send_fds(self.to, [data], [self.fd]) == len(data)


class Peer(Wire):
    """A function's connection, at the proxy's end."""

    def __init__(self, connection, job=1 << 48):
        self.socket = connection
        self.socket.settimeout(LATE_S)
        frame, fields, _ = self.asked("HELLO")
        self.answer(frame, version=1, credit=4 * MIB, inline_max=2048, job=job, job_name="j")

    def any(self):
        """The next request."""
        frame, body, payload = self.read_frame()
        if frame["flags"] & MORE:
            self.read_frame()
        return frame, body, payload

    def asked(self, name):
        """The next request, which is such a one: its frame, what it says, its payload."""
        frame, body, payload = self.any()
        assert NAMES[frame["msg"]] == name
        return frame, decode(name + "_REQ", body)[0], payload

    def answer(self, frame, payload=b"", fd=None, **fields):
        if fd is not None:
            # The kernel hands it over with the first of the bytes that it comes with.
            plain, self.socket = self.socket, WithDescriptor(self.socket, fd)
        self.send_frame(frame["msg"], encode(NAMES[frame["msg"]] + "_REP", fields), payload, flags=REPLY, call=frame["call"])

        if fd is not None:
            self.socket = plain

    def refuse(self, frame, status, detail=""):
        self.send_frame(frame["msg"], encode("ERROR_REP", {"detail": detail}), flags=REPLY, status=STATUSES[status][0],
                        call=frame["call"])

    def got(self, payload, **fields):
        """Answers a GET of an object that may be read once more."""
        frame, _, _ = self.asked("GET")
        self.answer(frame, payload, **{"object": 1, "version": 1, "len": len(payload), "ttl_left_ms": (1 << 64) - 1,
                                       "reads_left": (1 << 32) - 1, "extent_count": 1, "tier": 1, **fields})


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LATE_S)
        yield listener


@pytest.fixture
def function():
    function = Function()
    yield function
    function.process.kill()
    function.process.wait()


@pytest.fixture
def near(tmp_path):
    """Of functions on the proxy's host."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        listener.settimeout(LATE_S)
        yield listener


def accept(listener, **how):
    return Peer(listener.accept()[0], **how)


def opens(function, listener):
    """A connection of its handle, `h`."""
    at = listener.getsockname()
    at = "unix://" + at if isinstance(at, str) else "tcp://127.0.0.1:%d" % at[1]
    function.say(f"keep.setdefault('h', Handle('{at}', timeout_ms=5000))")
    peer = accept(listener)
    function.hear()
    return peer


def test_a_longer_version_after_a_shorter_one_whose_read_was_not_confirmed(function, listener):
    """Memory of the library's was as large as what was found at first, and was filled with what was found then."""
    peer, longer = opens(function, listener), pattern(64 * KIB, 2)
    function.say("keep['h'].get_new('x') == pattern(65536, 2)")
    peer.got(b"0123456789", hold=1, reads_left=1)
    peer.asked("GET_END")
    peer.close()
    peer = accept(listener)
    peer.got(longer, hold=1, version=2, reads_left=1)
    frame, said, _ = peer.asked("GET_END")
    assert said["is_confirmed"] == 1
    peer.answer(frame)
    assert function.hear() == "True"
    assert function.end() == 0


def memory(size):
    fd = os.memfd_create("wadi-segment", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
    return fd


def stream_in_place(function, near):
    """One of which a MiB, all that there was room for, is written."""
    peer, segment = opens(function, near), memory(2 * MIB)
    function.say("keep.setdefault('s', Stream(keep['h'], 'x', 8 << 20)).write(b'1' * (1 << 20))")
    frame, said, _ = peer.asked("PUT_OPEN")
    assert said["is_in_place"] == 1
    peer.answer(frame, put=1, room=MIB, is_in_place=1)
    frame, _, _ = peer.asked("PUT_ROOM")
    peer.answer(frame, segment=5, since=1, offset=0, len=MIB, seed=9)
    frame, said, _ = peer.asked("RESERVE_MAP")
    assert said["put"] == 1
    peer.answer(frame, fd=segment, size=2 * MIB)
    function.hear()
    assert os.pread(segment, MIB + 1, 0) == b"1" * MIB + b"\0"
    os.close(segment)
    return peer


def test_what_was_written_in_place_is_of_what_may_be_sent(function, near):
    """From there on its bytes are sent, within the room that there is for all of them."""
    peer = stream_in_place(function, near)
    function.say("keep['s'].write(b'2' * (2 << 20))")
    frame, said, _ = peer.asked("PUT_ROOM")
    assert said["used"] == MIB
    peer.refuse(frame, "UNSUPPORTED")
    for offset, room in ((MIB, 2 * MIB), (2 * MIB, 3 * MIB)):
        for bytes_sent in 0, MIB:
            frame, said, payload = peer.asked("PUT_DATA")
            assert (said["offset"], said["need"]) == (offset, 0 if bytes_sent else MIB)
            assert payload == b"2" * bytes_sent
            peer.answer(frame, room=room)
    function.hear()
    assert function.end() == 0


def test_a_stream_in_place_is_of_the_connection_that_it_was_opened_on(function, near):
    """Its number is that of somebody else's stream on the next one, so nothing is said of it there."""
    peer = stream_in_place(function, near)
    peer.close()
    function.say("keep['h'].turn()")  # hears of the end
    function.hear()
    function.say("keep['s'].write(b'2' * 100)")
    peer = accept(near)  # whether its job is there still
    assert function.hear().startswith("STALE write x: ")
    function.say("keep['h'].put('y', b'3')")
    frame, _, payload = peer.asked("PUT")
    assert payload == b"3"
    peer.answer(frame, version=1)
    assert function.hear() == "None"
    assert function.end() == 0


def test_a_get_in_the_middle_of_which_its_job_ends(function, listener):
    """What it held is gone, and the object was there: it asks anew what has become of it."""
    peer = opens(function, listener)
    function.say("keep['h'].get('x', 3 << 20)")
    peer.got(b"1" * MIB, hold=1, len=3 * MIB)
    for _ in range(2):
        frame, _, _ = peer.asked("GET_ON")
        peer.refuse(frame, "NOTFOUND", "nothing is held under this number")
    frame, _, _ = peer.asked("GET_END")
    peer.refuse(frame, "NOTFOUND", "nothing is held under this number")
    frame, _, _ = peer.asked("GET")
    peer.refuse(frame, "JOBENDED", "j has ended")
    assert function.hear() == "JOBENDED get x: JOBENDED: the job has ended (j has ended)"
    assert function.end() == 0


def test_a_put_in_the_middle_of_which_its_job_ends(function, listener):
    peer = opens(function, listener)
    function.say("keep['h'].put('x', b'1' * (5 << 20))")
    frame, _, _ = peer.asked("PUT_OPEN")
    peer.answer(frame, put=1, room=8 * MIB)
    frame, _, _ = peer.any()
    while NAMES[frame["msg"]] != "PUT_OPEN":
        peer.refuse(frame, "NOTFOUND", "there is no such upload on this connection")
        frame, _, _ = peer.any()
    peer.refuse(frame, "JOBENDED", "j has ended")
    assert function.hear() == "JOBENDED put x: JOBENDED: the job has ended (j has ended)"
    assert function.end() == 0


def test_a_handle_is_closed_over_thousands_of_things_that_it_gives_back(function, listener):
    """More than calls may end in one turn: it waits for no answer to them."""
    peer, count = opens(function, listener), 3000
    function.say(f"keep['h'].get_many('x', 10, {count})")
    asked = 0
    while asked < count:
        frame, _, _ = peer.any()
        if NAMES[frame["msg"]] == "GET":
            asked += 1
            peer.answer(frame, b"0123456789", hold=asked, object=1, version=1, len=20, reads_left=(1 << 32) - 1)
    assert function.hear() == "{'TOOLARGE'}"
    function.say("keep['h'].close()")
    assert function.hear() == "None"
    assert function.end() == 0


def slowly(read, write, rate):
    """Passes on so many bytes a second."""
    due = time.monotonic()
    with contextlib.suppress(OSError):
        while data := read.recv(32 * KIB):
            write.sendall(data)
            due = max(due, time.monotonic()) + len(data) / rate
            time.sleep(max(0, due - time.monotonic()))


def test_a_transfer_that_goes_on_is_not_late(function, w):
    """Its pieces are asked for four at a time: the last of them is long on its way, while others arrive."""
    host, port = w.endpoint.removeprefix("tcp://").rsplit(":", 1)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        function.say("keep.setdefault('h', Handle('tcp://127.0.0.1:%d', '%s', 1500))" % (listener.getsockname()[1], w.token))
        near, far = listener.accept()[0], socket.create_connection((host, int(port)))
    with near, far:
        for ends in ((near, far), (far, near)):
            threading.Thread(target=slowly, args=(*ends, 2 * MIB), daemon=True).start()
        function.hear()
        function.say("keep['h'].put('x', pattern(7 << 20))")
        assert function.hear() == "None"
        function.say("keep['h'].get('x', 7 << 20) == pattern(7 << 20)")
        assert function.hear() == "True"
        assert function.end() == 0


def test_what_is_in_no_index_is_not_looked_for_there(function, listener):
    """A proxy that says so without having been asked is not asked again and again."""
    peer = opens(function, listener)
    function.say("keep['h'].view('x')")
    peer.got(b"here", is_in_index=1)
    assert function.hear() == "b'here'"
    function.say("keep['h'].get('x')")
    peer.got(b"here", is_in_index=1)
    assert function.hear() == "b'here'"
    assert function.end() == 0


def test_a_reader_of_a_read_whose_confirmation_was_lost_has_its_bytes(function, listener):
    """It was the last one, so nobody would ever have them."""
    peer = opens(function, listener)
    function.say("keep['h'].read('x')")
    peer.got(b"0123456789", hold=1, reads_left=0)
    peer.asked("GET_END")
    peer.close()
    peer = accept(listener)
    frame, _, _ = peer.asked("GET")
    peer.refuse(frame, "TAKEN")
    assert function.hear() == "b'0123456789'"
    assert function.end() == 0


def test_a_long_wait_outlives_what_is_out_of_reach_for_a_moment(function, listener):
    """Metadata that is started again, in the last quarter of the wait."""
    peer = opens(function, listener)
    function.say("keep['h'].wait('x', 10000)")
    frame, _, _ = peer.asked("WAIT")
    time.sleep(8)
    peer.refuse(frame, "UNREACHABLE", "metadata does not answer")
    frame, _, _ = peer.asked("WAIT")
    peer.answer(frame, version=1)
    assert function.hear() == "None"
    assert function.end() == 0


def test_a_proxy_hears_of_the_end_of_a_handle_whatever_its_process_has_forked(function, listener):
    """What was open there is given back with the connection, of which the child has a copy."""
    peer = opens(function, listener)
    function.say("keep.setdefault('child', os.fork() or __import__('time').sleep(1000))")
    child = int(function.hear())
    try:
        function.say("keep['h'].close()")
        assert function.hear() == "None"
        assert peer.is_closed_by_peer()
    finally:
        os.kill(child, signal.SIGKILL)
    assert function.end() == 0


@pytest.mark.parametrize("name,call,fields", [
    ("STAT", "stat('x')", {"version": 1}),
    ("REMOVE", "remove('x')", {}),
    ("WAIT", "wait('x', 1000)", {"version": 1}),
])
@pytest.mark.parametrize("is_heard_of", [False, True])
def test_a_question_is_of_the_job_that_its_connection_is_of(function, listener, name, call, fields, is_heard_of):
    """That of a `wadi dev` that was started anew is another one, and there is no token that says so."""
    peer = opens(function, listener)
    peer.close()
    if is_heard_of:
        function.say("keep['h'].turn()")
        function.hear()
    function.say(f"keep['h'].{call}")
    peer = accept(listener, job=2 << 48)
    frame, said, _ = peer.asked(name)
    assert said["job"] == 2 << 48
    peer.answer(frame, **fields)
    assert function.hear() == "None"
    assert function.end() == 0
