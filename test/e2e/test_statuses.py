"""Every status of src/wire/status.def as somebody meets it, with the words that he reads.

A row is a function that brings a status about and returns what was said; its decorator says
which status, and the words. Most are lines of the command line or of wadi_strerror(); what
only servers say to each other is seen on the wire. A status without a row fails.
"""
import ctypes
import os
import re
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from cluster import Cluster
from conftest import BUILD, DONE, LATE, REFUSED, UNREACHABLE, WADI, Client, clean_environment, pattern, told, until
from wire import FREE_PAYLOAD, MESSAGES, REPLY, STATUSES, Wire, encode

KIB, MIB = 1 << 10, 1 << 20
ATTEMPTS_PER_JOB = 65536

ROWS = []

# Statuses that nothing in this version says, and what they wait for.
GAPS = {}


def says(status, words, code=REFUSED):
    """`words` is a regular expression of all that is behind the status; code None: not a command."""
    def note(function):
        ROWS.append(pytest.param(status, words, code, function, id=f"{status}-{function.__name__}"))
        return function
    return note


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.kill()


class Library:
    """libwadi by its C API, for what the command line never does."""

    class Options(ctypes.Structure):
        _fields_ = [("size", ctypes.c_size_t), ("endpoint", ctypes.c_char_p), ("token", ctypes.c_char_p),
                    ("timeout_ms", ctypes.c_uint32), ("reserved", ctypes.c_uint32)]

    def __init__(self, client):
        self.lib = ctypes.CDLL(os.path.join(BUILD, "src/attach/libwadi.so"))
        self.lib.wadi_strerror.restype = ctypes.c_char_p
        self.lib.wadi_status_name.restype = ctypes.c_char_p
        self.lib.wadi_op_end.restype = ctypes.c_int64
        self.lib.wadi_get.restype = ctypes.c_int64
        options = self.Options(ctypes.sizeof(self.Options), client.endpoint.encode(), client.token.encode())
        self.handle = ctypes.c_void_p()
        self.result = self.lib.wadi_open(ctypes.byref(options), ctypes.byref(self.handle))

    def words(self, result):
        assert result < 0
        words = self.lib.wadi_strerror(self.handle).decode()
        assert f": {self.lib.wadi_status_name(result).decode()}: " in words, (result, words)
        return words

    def start_wait(self, path):
        op = ctypes.c_void_p()
        result = self.lib.wadi_start_wait(self.handle, path, 30000, None, ctypes.byref(op))
        return op, result

    def close(self):
        self.lib.wadi_close(self.handle)


@pytest.fixture
def library(w):
    made = Library(w)
    assert made.result == 0
    yield made
    made.close()


@says("OK", "", DONE)
def put(w):
    return w.run("put", "-", "x", input=b"x")


@says("NOTFOUND", r"there is no such object \(there is no a/b in job {job}\)")
def get_of_nothing(w):
    return w.run("get", "a/b")


@says("NOTFOUND", r"there is no such object \(there is no d in job {job}; it is a directory\)", None)
def remove_of_a_directory(w):
    w("put", "-", "d/x", input=b"x")
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        return str(wire.call("REMOVE", slot=wire.slot, job=wire.job, path="d", attempt_lo=1))


@says("EXISTS", r"there is an object already \(x has version 1\)")
def create_twice(w):
    w("put", "-", "x", "--create", input=b"x")
    return w.run("put", "-", "x", "--create", input=b"x")


@says("EXISTS", r"there is an object already \(there is a job {job} already\)")
def a_job_twice(w, store):
    return store.client().run("job", "create", w.job)


@says("VERSION", r"the object has another version \(x has version 1\)")
def replace_another_version(w):
    w("put", "-", "x", input=b"x")
    return w.run("put", "-", "x", "--if-version", 9, input=b"y")


@says("VERSION", r"the object has another version \(x does not exist\)")
def replace_nothing(w):
    return w.run("put", "-", "x", "--if-version", 9, input=b"y")


@says("CONSUMED", r"its last read has been taken \(the last read of x was taken\)")
def read_once_too_often(w):
    w("put", "-", "x", "--reads", 1, input=b"x")
    assert w("get", "x") == b"x"
    return w.run("get", "x")


@says("TAKEN", r"this read was counted before \(all reads of x were taken, one of them by this\)", None)
def the_last_read_twice(w):
    w("put", "-", "x", "--reads", 1, input=b"x")
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        reply = wire.call("GET", path="x", take=100, read_lo=7)
        assert wire.call("GET_END", hold=reply["hold"], is_confirmed=1).status == "OK"
        return str(wire.call("GET", path="x", take=100, read_lo=7))


@says("EXPIRED", r"its time to live is over \(x has expired\)")
def get_of_what_has_expired(w):
    w("put", "-", "x", "--ttl", "50ms", input=b"x")
    until(lambda: w.run("stat", "x").returncode, "its time to be over")
    return w.run("get", "x")


class Cut:
    """Stands between a client and a store, and cuts the first answer to a PUT, or to what is named."""

    def __init__(self, to, message="PUT"):
        self.first_bytes = MESSAGES[message].to_bytes(2, "little") + REPLY.to_bytes(2, "little")
        host, port = to.split("//")[1].rsplit(":", 1)
        self.to, self.listener = (host, int(port)), socket.create_server(("127.0.0.1", 0))
        self.endpoint = "tcp://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.was_cut, self.go_on = threading.Event(), threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.was_cut.is_set():
                self.go_on.wait()
            server = socket.create_connection(self.to)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, source, sink):
        try:
            while data := source.recv(65536):
                if data[4:8] == self.first_bytes and not self.was_cut.is_set():
                    self.was_cut.set()
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.go_on.set()
        self.listener.close()


def replace_often(w, path, count):
    """As one program may: many requests on their way."""
    with Wire.at(w.endpoint) as wire:
        changes = wire.hello(secret=w.token)["changes"]
        name = secrets.randbits(64)
        for first in range(0, count, 500):
            calls = [wire.start("PUT", b"x", path=path, attempt_hi=name, attempt_lo=first + i + 1, since=changes)
                     for i in range(min(500, count - first))]
            replies = [wire.end(call) for call in calls]
            assert all(reply.status == "OK" for reply in replies)
            changes = replies[-1]["changes"]


@says("STALE", r"not known any more: look, or begin again \(the attempt may be older than the last 65536 changes, "
               r"which are all that the job remembers\)")
def a_repeat_after_too_many_changes(w, store):
    cut = Cut(store.endpoints["tcp"])
    try:
        putter = Client(cut.endpoint, w.token).start("put", "-", "x", "--timeout", "300s", stdin=subprocess.PIPE)
        putter.stdin.write(b"x")
        putter.stdin.close()
        putter.stdin = None
        assert cut.was_cut.wait(30)
        replace_often(w, b"x", ATTEMPTS_PER_JOB + 2)
        cut.go_on.set()
        out, err = putter.communicate(timeout=300)
        return subprocess.CompletedProcess(putter.args, putter.returncode, out, err)
    finally:
        cut.close()


@says("AGAIN", r"no room at this moment \(.*bytes of dram.*\)", None)
def a_put_of_one_frame_without_room(store):
    """What libwadi does not tell: it comes back with an upload, which waits."""
    w = store.job(None, "--quota", "dram=1M")
    w("put", "-", "x", input=pattern(600_000))
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        reply = wire.call("PUT", pattern(FREE_PAYLOAD * 8), path="y")
    store.client()("job", "end", w.job)
    return str(reply)


@says("NOSPACE", r"no room in the store \(dram: \d+ bytes needed, limit \d+, used \d+, by this job \d+; remove "
                 r"objects, end jobs, or raise --memory; this job has \d+ bytes\)")
def a_put_into_a_full_store(new_store):
    w = new_store(memory="64M").job()
    for number in range(40):
        done = told(lambda: w.run("put", "-", f"x{number}", "--timeout", "2s", input=pattern(2 * MIB)))
        if done.returncode:
            return done
    raise AssertionError("it is never full")


@says("NOSPACE", r"no room in the store \(dram: \d+ bytes needed, limit \d+, used \d+, by this job 0; remove "
                 r"objects, end jobs, or raise --memory; this job has \d+ bytes\)")
def a_put_of_more_than_there_is(new_store, tmp_path):
    with open(tmp_path / "large", "wb") as file:
        file.truncate(200 * MIB)
    return new_store(memory="64M").job().run("put", tmp_path / "large", "x", "--timeout", "60s")


@says("QUOTA", r"the job's quota is used up \(job \S+: \d+ of its quota of 2097152 bytes of dram are in use, \d+ more "
               r"were asked for\)")
def a_put_beyond_what_is_left(store):
    w = store.job(None, "--quota", "dram=2M")
    for number in range(9):
        done = told(lambda: w.run("put", "-", f"x{number}", "--timeout", "1s", input=pattern(600 * KIB)))
        if done.returncode:
            break
    store.client()("job", "end", w.job)
    return done


@says("QUOTA", r"the job's quota is used up \(job \S+: \d+ bytes can never fit its quota of 2097152 bytes of "
               r"dram\)")
def a_put_beyond_the_whole_quota(store, tmp_path):
    w = store.job(None, "--quota", "dram=2M")
    (tmp_path / "x").write_bytes(pattern(3 * MIB))
    done = w.run("put", tmp_path / "x", "x")
    store.client()("job", "end", w.job)
    return done


@says("DENIED", r"the token does not allow this \(the token gives no right to write\)")
def without_the_right(w):
    return w.at(w("job", "token", "--rights", "read").decode().strip()).run("put", "-", "x", input=b"")


@says("DENIED", r"the token does not allow this \(the token is only for paths with another beginning\)")
def outside_the_prefix(w):
    return w.at(w("job", "token", "--prefix", "in/").decode().strip()).run("get", "x")


@says("DENIED", r"the token does not allow this \(the token is of job {job}, and the path of another\)")
def in_another_job(w):
    return w.run("get", "/another/x")


@says("BADTOKEN", r"not a token of this store \(not signed by this store; `wadi job create` prints tokens\)")
def with_nonsense(w):
    return w.at("nonsense").run("get", "x")


@says("OLDTOKEN", r"the token is no longer valid \(its time is over; ask whoever gave it for another\)")
def with_an_old_token(w):
    old = w.at(w("job", "token", "--valid", "1s").decode().strip())
    until(lambda: old.run("ls").returncode, "the token to end")
    return old.run("get", "x")


@says("NOJOB", r"there is no such job \(there is no job nobody\)")
def show_no_job(store):
    return store.client().run("job", "show", "nobody")


@says("JOBENDED", r"the job has ended \(the token's job has ended; `wadi job create` makes another\)")
def with_the_token_of_an_ended_job(store):
    w = store.job()
    store.client()("job", "end", w.job)
    return w.run("get", "x")


@says("JOBENDED", r"the job has ended \(the job \S+ has ended\)")
def renew_an_ended_job(store):
    w = store.job()
    store.client()("job", "end", w.job)
    return store.client().run("job", "renew", w.job)


@says("INVALID", r"not a valid request \(a path is UTF-8\)")
def a_path_that_is_no_text(w):
    return w.run("put", "-", b"\xff", input=b"")


@says("TOOLARGE", r"larger than a limit \(a path has at most 1024 bytes behind its job\)")
def a_path_that_is_too_long(w):
    return w.run("put", "-", "x" * 1025, input=b"")


@says("LIMIT", r"too many at once \(a handle has at most 4096 operations in flight: end some\)", None)
def operations_in_flight(library):
    ops, result = [], 0
    while result == 0 and len(ops) < 5000:
        op, result = library.start_wait(b"x")
        if result == 0:
            ops.append(op)
    words = library.words(result)
    assert len(ops) == 4096
    for op in ops:
        library.lib.wadi_op_cancel(op)
    for op in ops:
        library.lib.wadi_op_end(ctypes.byref(op))
    return words


@says("LIMIT", r"too many at once \(Too many open files\)", REFUSED)
def without_a_descriptor_left(w):
    """Of the client: the store cannot help it."""
    return subprocess.run(["sh", "-c", "ulimit -n 4; exec \"$0\" ls", w.run("ls").args[0]], env=w.env(), check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@says("UNSUPPORTED", r"not supported here \(this store keeps one copy\)")
def two_copies(w):
    return w.run("put", "-", "x", "--copies", 2, input=b"")


@says("TIMEOUT", r"the deadline has passed \(it did not come in time\)", LATE)
def wait_for_nothing(w):
    return w.run("wait", "x", "--timeout", "1s")


@says("CANCELED", r"canceled", None)
def cancel(library):
    op, result = library.start_wait(b"x")
    assert result == 0
    library.lib.wadi_op_cancel(op)
    return library.words(library.lib.wadi_op_end(ctypes.byref(op)))


@says("ROUTE", r"served elsewhere \(tcp://127.0.0.1:\d+\)", None)
def the_wrong_shard(cluster):
    job = cluster.job("j")
    with Wire.at(job.endpoint) as wire:
        wire.hello(secret=job.token)
        number, slot = wire.job, wire.slot
    with cluster.to_meta((slot + 1) % 2) as meta:
        reply = meta.call("STAT", slot=slot, job=number, path="x")
    assert reply.detail == f"tcp://127.0.0.1:{cluster.meta_ports[slot % 2]}"
    return str(reply)


@says("NOSESSION", r"the session is over \(say HELLO again with this session\)", None)
def an_epoch_of_before(cluster):
    with cluster.to_meta() as meta, cluster.to_meta(session=meta.session, epoch=meta.epoch) as again:
        assert again.session == meta.session and again.epoch == meta.epoch + 1
        return str(meta.call("HEARTBEAT", session=meta.session, epoch=meta.epoch))


def damage(pid, data):
    """Changes a byte of what a store holds, in its memory."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        try:
            if "memfd:" not in os.readlink(path):
                continue
            with open(path, "r+b") as memory:
                at = memory.read().find(data)
                if at >= 0:
                    memory.seek(at)
                    memory.write(bytes([data[0] ^ 1]))
                    return
        except FileNotFoundError:  # closed meanwhile
            continue
    raise AssertionError("the store does not have these bytes")


@says("DAMAGED", r"the bytes are damaged \(they do not have the checksum that they were put with; put them again\)")
def a_bit_that_has_changed(store, w):
    data = os.urandom(200_000)
    w("put", "-", "x", input=data)
    assert w("get", "x") == data
    damage(store.process.pid, data[100_000:100_100])
    done = w.run("get", "x")
    assert done.stdout == b""
    # A range of which all is whole is still to be had.
    assert w("get", "x", "--range", "0-9") == data[:10]
    return done


@says("LOST", r"the bytes are lost \(the store that had bytes of x has lost them; put it again\)")
def a_store_that_was_ended(cluster):
    job = cluster.job("j")
    job("put", "-", "x", input=pattern(100_000))
    assert cluster.roles["store"].end() == 0
    cluster.start_store()
    done = until(lambda: (lambda d: d if d.returncode == REFUSED else None)(job.run("get", "x", "--timeout", "2s")),
                 "the two lists to be compared")
    job("put", "-", "x", input=pattern(100_000))
    assert job("get", "x") == pattern(100_000)
    return done


@says("MALFORMED", r"not a message of this protocol \(GET\)", None)
def a_body_of_another_shape(w):
    with Wire.at(w.endpoint) as wire:
        wire.hello(secret=w.token)
        wire.early[99] = ("GET", None)
        wire.send_frame(MESSAGES["GET"], b"short", call=99)
        return str(wire.end(99))


@says("MALFORMED", r"not a message of this protocol", REFUSED)
def an_answer_of_another_shape(w):
    """Of somebody who only looks like a store."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = Client("tcp://127.0.0.1:%d" % listener.getsockname()[1]).start("get", "x")
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall((0x31444157).to_bytes(4, "little") +
                         encode("FRAME", {"msg": MESSAGES["HELLO"], "flags": REPLY, "call": 1, "body_len": 3}) + b"xyz")
            out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@says("MALFORMED", r"not a message of this protocol", REFUSED)
def a_name_that_is_too_long(w):
    """Likewise: it goes on where the last one was, and has room for the longest that there is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = Client("tcp://127.0.0.1:%d" % listener.getsockname()[1]).start("job", "ls")
        peer, _ = listener.accept()
        with peer:
            wire = Wire.__new__(Wire)
            wire.socket = peer
            for name, values, payload in (("HELLO", {"version": 1, "job": 1, "job_name": "default"}, b""),
                                          ("JOB_LIST", {"count": 1}, encode("JOB_SHOW_REP", {"name": "x" * 4000}))):
                asked, _, _ = wire.read_frame()
                assert asked["msg"] == MESSAGES[name]
                wire.send_frame(asked["msg"], encode(name + "_REP", values), payload, flags=REPLY, call=asked["call"])
            out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@says("UNREACHABLE", r"it cannot be reached \(tcp://127.0.0.1:1: nobody listens there\)", UNREACHABLE)
def where_nobody_listens():
    return Client("tcp://127.0.0.1:1").run("get", "x")


@says("UNREACHABLE", r"nobody answers at tcp://127.0.0.1:4870; `wadi dev` starts a store, and WADI_ENDPOINT says where "
                     r"another is", UNREACHABLE)
def where_nobody_has_started_one():
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 4870))
        except OSError:
            pytest.skip("somebody uses port 4870")
        return Client(None).run("get", "x")


@says("UNREACHABLE", r"it cannot be reached \(the store that has its bytes does not answer; get it again\)", UNREACHABLE)
def a_store_that_is_gone(cluster):
    job = cluster.job("j")
    job("put", "-", "x", input=pattern(100_000))
    cluster.roles["store"].end(signal.SIGKILL)
    return told(lambda: job.run("get", "x", "--timeout", "2s"))


@says("UNREACHABLE", r"it cannot be reached \(the disk is away\)", UNREACHABLE)
def what_is_said_shortly_before_the_deadline():
    """It is not asked again then: nothing would be heard of that in time."""
    return told(said_shortly_before_the_deadline)


def said_shortly_before_the_deadline():
    """Unless this machine had other things to do, and it was over."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = Client("tcp://127.0.0.1:%d" % listener.getsockname()[1]).start("get", "x", "--timeout", "4s")
        peer, _ = listener.accept()
        with peer:
            wire = Wire.__new__(Wire)
            wire.socket = peer
            asked, _, _ = wire.read_frame()
            wire.send_frame(asked["msg"], encode("HELLO_REP", {"version": 1, "job": 1, "job_name": "default"}), flags=REPLY,
                            call=asked["call"])
            asked, _, _ = wire.read_frame()
            time.sleep(3.2)
            wire.send_frame(asked["msg"], encode("ERROR_REP", {"detail": "the disk is away"}), flags=REPLY,
                            status=STATUSES["UNREACHABLE"][0], call=asked["call"])
            out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@says("NOMEMORY", r"out of memory \(in this process\)", None)
def a_get_of_more_than_the_program_has(w):
    """In a process of its own, whose memory is limited once it has begun."""
    w("put", "-", "x", input=pattern(40 * MIB))
    script = """
import ctypes, resource, sys
sys.path.insert(0, sys.argv[1])
from conftest import Client
from test_statuses import Library
made = Library(Client(sys.argv[2], sys.argv[3]))
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20), resource.RLIM_INFINITY))
data = ctypes.c_void_p()
made.lib.wadi_get_alloc.restype = ctypes.c_int64
print(made.words(made.lib.wadi_get_alloc(made.handle, b"x", None, ctypes.byref(data), None)))
"""
    return subprocess.run(["/usr/bin/python3", "-c", script, os.path.dirname(__file__), w.endpoint, w.token],
                          env=w.env(WADI_BUILD=BUILD), check=True, stdout=subprocess.PIPE).stdout.decode().strip()


class SmallFiles:
    """A `wadi dev` whose files cannot grow while it is said so: what a full disk is to a log."""

    def __init__(self, new_store, directory):
        self.store = new_store("--data", str(directory), prefix=["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        token = self.store.client()("job", "create", "ledger", "--durable").decode().strip()
        self.client = self.store.client(token)

    def grow_to(self, length):
        _, hard = resource.prlimit(self.store.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.store.process.pid, resource.RLIMIT_FSIZE, (length, hard))

    def put(self):
        return self.client.run("put", "-", "x", "--timeout", "20s", input=b"x" * 2000)


@says("LOGFULL", r"the log can take no more for now \(.*disk.*\)")
def a_durable_put_without_a_disk(new_store, tmp_path):
    small = SmallFiles(new_store, tmp_path)
    assert small.put().returncode == DONE
    small.grow_to(1)
    done = until(lambda: (lambda d: d if d.returncode else None)(small.put()), "the disk to be full")
    small.grow_to(resource.RLIM_INFINITY)
    until(lambda: small.put().returncode == DONE, "the disk to be used again")
    return done


@says("OLDVERSION", r"no common version of the protocol \(we speak version 1\)", None)
def a_version_that_nobody_speaks(w):
    with Wire.at(w.endpoint) as wire:
        return str(wire.hello(secret=w.token, version=99))


@says("CLOSED", r"the connection was closed \(the store that has its bytes does not answer; get it again\)", None)
def a_store_that_dies_in_the_middle(cluster):
    """Between a proxy and libwadi, which begins again: it is not told to anybody."""
    job = cluster.job("j")
    job("put", "-", "x", input=pattern(8 * MIB))
    with Wire.at(job.endpoint) as wire:
        wire.hello(secret=job.token)
        got = wire.call("GET", path="x", take=MIB)
        os.kill(cluster.pid("store"), signal.SIGSTOP)
        call = wire.start("GET_ON", hold=got["hold"], offset=4 * MIB, take=MIB)
        wire.call("PING")
        cluster.roles["store"].end(signal.SIGKILL)
        return str(wire.end(call))


@says("DIRECTORY", r"the path names a directory; `wadi get d/` writes what is in it")
def get_of_a_directory(w):
    w("put", "-", "d/x", input=b"")
    return w.run("get", "d")


@says("DIRECTORY", r"the path names a directory; `wadi rm -r` removes all that is in it")
def rm_of_a_directory(w):
    w("put", "-", "d/x", input=b"")
    return w.run("rm", "d")


@says("INTERNAL", r"an error of ours; please report it \(an earlier error; open another\)", None)
def a_handle_whose_descriptor_was_closed(library):
    os.close(library.lib.wadi_fd(library.handle))
    first = library.words(library.lib.wadi_get(library.handle, b"x", None, 0, None, None))
    assert re.search(r": INTERNAL: an error of ours; please report it \(Bad file descriptor\)$", first)
    return library.words(library.lib.wadi_get(library.handle, b"x", None, 0, None, None))


@says("FORKED", r"the handle is of the process before fork \(open another in this process\)", None)
def a_child_with_its_parents_handle(library):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, library.words(library.lib.wadi_get(library.handle, b"x", None, 0, None, None)).encode())
        os._exit(0)
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(read, "rb") as file:
        return file.read().decode()


@pytest.mark.parametrize("status,words,code,row", ROWS)
def test_every_status_is_told_in_words(request, status, words, code, row):
    arguments = {name: request.getfixturevalue(name)
                 for name in row.__code__.co_varnames[:row.__code__.co_argcount]}
    said = row(**arguments)
    job = arguments["w"].job if "w" in arguments else arguments["library"] and "" if "library" in arguments else ""
    words = words.replace("{job}", re.escape(job))
    if code is None:
        assert re.fullmatch(rf"(?:\S+(?: \S+)?: )?{status}: {words}", said), said
        return
    line = said.stderr.decode()
    assert said.returncode == code, line
    if code == DONE:
        assert line == ""
    else:
        assert re.fullmatch(rf"wadi: [^\n]*: {status}: {words}\n", line), line


def test_no_status_is_left_out():
    named = {row.values[0] for row in ROWS}
    assert named | set(GAPS) == set(STATUSES), named ^ set(STATUSES)
    assert not named & set(GAPS), "a gap that is closed: take it out of GAPS"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_socket_that_is_closed_to_this_user(new_store):
    store = new_store()
    job, path = store.job(), f"{store.directory}/s"
    wadi = shutil.copy(WADI, store.directory)
    os.chmod(store.directory, 0o755)

    def as_another(endpoint):
        """As a user who owns nothing here."""
        done = subprocess.run([wadi, "ls"], user=65534, group=65534, extra_groups=[], cwd="/", capture_output=True, timeout=30,
                              env=clean_environment(WADI_ENDPOINT=f"unix://{endpoint}", WADI_TOKEN=job.token), check=False)
        return done.returncode, done.stderr.decode()

    code, words = as_another(path)
    assert code == UNREACHABLE
    assert (f"UNREACHABLE: it cannot be reached ({path} is closed to uid 65534: it is uid 0's, mode 0600; "
            "start the proxy with --socket-for group or all)") in words
    os.chmod(path, 0o666)
    assert as_another(path) == (0, "")
    # So may a directory on the way be.
    inner = f"{store.directory}/closed"
    os.mkdir(inner, 0o700)
    os.rename(path, f"{inner}/s")
    code, words = as_another(f"{inner}/s")
    assert code == UNREACHABLE
    assert f"({inner}/ is closed to uid 65534: it is uid 0's, mode 0700; have the socket elsewhere, with --socket)" in words
    os.rename(f"{inner}/s", path)
    code, words = as_another(f"{path}-not")
    assert code == UNREACHABLE and "closed to" not in words
    assert store.stop() == 0
