"""Who is given memory of its job, row by row, and what whoever has it can reach with it: nothing of another job.

Users and namespaces are made here, so most of it needs root. A function is `Near` of test_near.py, in a process of its own
where its user or namespace is another one.
"""
import contextlib
import ctypes
import errno
import json
import mmap
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from cluster import Role, free_ports, kill_keepers
from conftest import LATE_S, Client, clean_environment, pattern, until
from test_near import Near, inodes
from test_rings import own  # noqa: F401, a fixture

MB = 1 << 20
OVER_S = 60  # of src/meta/over.c
HERE = os.path.dirname(os.path.abspath(__file__))

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"),
                                reason="only root makes namespaces and is somebody else")

# A function: for each token, is it told where the bytes are, and does it get a descriptor? "copy": neither, and the bytes come.
FUNCTION = """
import json
import sys
sys.path.insert(0, sys.argv[1])
from test_near import Near
out = []
for token in sys.argv[3:]:
    with Near(sys.argv[2], token) as n:
        hold = n.hold("a/x")
        status = n.wire.call("GET_NEAR", hold=hold, offset=0).status
        if status == "OK":
            extent, _ = n.extents(hold)[0]
            where = n.export(extent["segment"], extent["generation"])
            assert where[extent["offset"]:extent["offset"] + 5] == b"bytes"
            out.append("map")
        else:
            assert status == "DENIED", status
            assert n.wire.call("GET_ON", hold=hold, offset=0, take=5).payload == b"bytes"
            out.append("copy")
print(json.dumps(out))
"""
NAMESPACES = {
    "ours": [],
    "of pids": ["unshare", "--pid", "--fork", "--mount-proc"],
    "of users, as its root": ["unshare", "--user", "--map-root-user"],
}


def as_user(uid):
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []


def function(endpoint, uid, namespace, *tokens):
    """What becomes of each token there."""
    before, after = ([], as_user(uid)) if namespace == "of pids" else (as_user(uid), [])
    done = subprocess.run([*before, *NAMESPACES[namespace], *after, "/usr/bin/python3", "-c", FUNCTION, HERE, endpoint, *tokens],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LATE_S, check=False,
                          env=clean_environment(WADI_BUILD=os.environ.get("WADI_BUILD")))
    if "unshare failed" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def job(endpoint, name, data=b"bytes" * 1000):
    """Its client, and a token for a part of it."""
    w = Client(endpoint)
    w = w.at(w("job", "create", name).decode().strip())
    w("put", "-", "a/x", input=data)
    return w, w("job", "token", "--prefix", "a/").decode().strip()


# By how the socket is declared: uid, namespace, what a token of the whole job gets. One of a part of it never maps.
TABLE = {
    (): [
        (0, "ours", "copy"),
        (0, "of pids", "copy"),
        (0, "of users, as its root", "copy"),
        (1234, "ours", "map"),
        (1235, "of pids", "map"),
        (1236, "of users, as its root", "map"),
    ],
    ("--isolated",): [
        (0, "ours", "map"),
        (0, "of users, as its root", "map"),
        (1234, "ours", "map"),
        (1235, "of pids", "map"),
    ],
    ("--trust-local",): [
        (0, "ours", "map"),
        (0, "of pids", "map"),
        (1234, "ours", "map"),
    ],
}


@contextlib.contextmanager
def store_of(uid, *options, prefix=()):
    """A store and proxy of that user, whose socket is everybody's."""
    with tempfile.TemporaryDirectory(prefix="wadi-e2e-") as directory:
        os.chown(directory, uid, uid)
        os.chmod(directory, 0o755)
        path = os.path.join(directory, "s")
        role = Role(directory, "run", "--roles", "meta,store,proxy", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                    "--redis", "127.0.0.1:0", "--memory", "128M", "--socket", path, "--socket-for", "all", *options,
                    env={"XDG_RUNTIME_DIR": directory}, prefix=[*as_user(uid), *prefix])
        try:
            yield "unix://" + path
        finally:
            assert role.end() == 0


@pytest.mark.parametrize("declared", TABLE, ids=lambda d: " ".join(d) or "nothing")
def test_who_maps_and_who_has_copies(declared):
    with store_of(4321, *declared) as endpoint:
        w, part = job(endpoint, "a")
        for uid, namespace, gets in TABLE[declared]:
            assert function(endpoint, uid, namespace, w.token, part) == [gets, "copy"], (declared, uid, namespace)
        # Of the next job, only where users are not what tells functions apart.
        other, _ = job(endpoint, "b")
        assert function(endpoint, 1234, "ours", other.token) == ["map" if declared else "copy"]


def test_who_is_of_the_proxys_own_user_has_copies():
    with store_of(4321) as endpoint:
        w, _ = job(endpoint, "a")
        assert function(endpoint, 4321, "ours", w.token) == ["copy"]
        assert function(endpoint, 1234, "ours", w.token) == ["map"]


def test_users_that_the_proxy_does_not_know_are_one():
    """It is root of a namespace of users in which nobody else is."""
    with store_of(0, prefix=NAMESPACES["of users, as its root"]) as endpoint:
        a, _ = job(endpoint, "a")
        b, _ = job(endpoint, "b")
        assert function(endpoint, 1234, "ours", a.token) == ["map"]
        assert function(endpoint, 1235, "ours", a.token) == ["map"]
        assert function(endpoint, 1235, "ours", b.token) == ["copy"]


class Host:
    """A store and proxy with a socket for all, which can be killed; metadata, and a proxy elsewhere."""

    def __init__(self, directory):
        self.directory = directory
        meta, self.port, elsewhere = free_ports(3)
        keys = []
        for name in ("key", "token-key"):
            keys += [f"--{name}", os.path.join(directory, name)]
            with open(keys[-1], "w", encoding="ascii") as file:
                file.write(os.urandom(40).hex() + "\n")
        self.env = {"XDG_RUNTIME_DIR": directory}
        self.doors = ["--http", "127.0.0.1:0", "--redis", "127.0.0.1:0", "--meta", f"127.0.0.1:{meta}", *keys]
        self.start_meta = lambda: Role(directory, "meta", "--listen", f"127.0.0.1:{meta}", *keys, env=self.env)
        self.meta = self.start_meta()
        self.elsewhere = Role(directory, "proxy", "--listen", f"127.0.0.1:{elsewhere}", *self.doors, env=self.env)
        self.start()
        with open(keys[1], encoding="ascii") as file:
            self.admin = Client(f"tcp://127.0.0.1:{elsewhere}", file.read().strip())
        self.endpoint = f"unix://{directory}/s"

    def start(self):
        self.role = Role(self.directory, "run", "--roles", "store,proxy", "--listen", f"127.0.0.1:{self.port}", "--memory",
                         "128M", "--keep-s", "5m", "--socket", f"{self.directory}/s", "--socket-for", "all", *self.doors, env=self.env)

    def kill(self):
        self.role.end(signal.SIGKILL)

    def job(self, name):
        token = self.admin("job", "create", name).decode().strip()
        Client(self.endpoint, token)("put", "-", "a/x", input=b"bytes" * 1000)
        return token

    def close(self):
        for role in (self.role, self.elsewhere, self.meta):
            role.end(signal.SIGKILL)
        kill_keepers(self.directory)


@pytest.fixture
def host():
    with tempfile.TemporaryDirectory(prefix="wadi-e2e-") as directory:
        os.chmod(directory, 0o755)
        made = Host(directory)
        yield made
        made.close()


def test_a_user_has_memory_of_one_job_though_the_proxy_was_killed(host):
    """A function of the first job may still map what it was given."""
    a, b = host.job("a"), host.job("b")
    assert function(host.endpoint, 1234, "ours", a) == ["map"]
    for _ in range(2):
        host.kill()
        host.start()
        assert function(host.endpoint, 1234, "ours", b, a, b) == ["copy", "map", "copy"]
    assert function(host.endpoint, 1235, "ours", b) == ["map"]
    host.admin("job", "end", "a")  # is waited for until nobody serves it; who was not heard in time hears of it later
    until(lambda: function(host.endpoint, 1234, "ours", b) == ["map"], "the proxy to hear of it")


@pytest.mark.parametrize("away_s", [0, pytest.param(OVER_S + 5, marks=pytest.mark.skipif(
    not os.environ.get("WADI_TEST_LARGE"), reason="a minute of waiting; WADI_TEST_LARGE runs it"))])
def test_a_job_that_ended_while_the_proxy_was_dead_binds_nobody(host, away_s):
    """Metadata tells who comes back of what ended lately; of what ended before, the proxy asks when somebody wants to know."""
    a, b = host.job("a"), host.job("b")
    assert function(host.endpoint, 1234, "ours", a) == ["map"]
    host.kill()
    host.admin("job", "end", "a")
    time.sleep(away_s)
    host.start()
    until(lambda: function(host.endpoint, 1234, "ours", b) == ["map"], "the proxy to hear of it")


@contextlib.contextmanager
def somebody(uid):
    """This process is, for what it may open."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def refused(number, call, *args):
    with pytest.raises(OSError) as e:
        call(*args)
    assert e.value.errno == number, (call, args)


def test_what_a_descriptor_is_good_for(own):
    """To be read. It cannot be written, resized, sealed, or opened again for more."""
    w = own.job()
    w("put", "-", "x", input=pattern(2 * MB))
    libc = ctypes.CDLL(None, use_errno=True)
    with Near(own.endpoints["unix"], w.token) as n:
        assert n.take("x") == pattern(2 * MB)
        fd = n.fds[0]
        size = os.fstat(fd).st_size
        for protection in (mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_WRITE):
            refused(errno.EACCES, mmap.mmap, fd, size, mmap.MAP_SHARED, protection)
        at = ctypes.addressof(ctypes.c_char.from_buffer_copy(b"x"))
        assert libc.write(fd, ctypes.c_void_p(at), 1) == -1 and ctypes.get_errno() == errno.EBADF
        refused(errno.EINVAL, os.ftruncate, fd, 0)
        assert libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(4096)) == -1 and ctypes.get_errno() == errno.EBADF
        with somebody(1234):
            for way in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                refused(errno.EACCES, os.open, f"/proc/self/fd/{fd}", way)
            for number in (fd, 0):
                refused(errno.EACCES, os.open, f"/proc/{own.process.pid}/fd/{number}", os.O_RDONLY)
            refused(errno.EACCES, os.listdir, f"/proc/{own.process.pid}/map_files")
        assert n.take("x") == pattern(2 * MB)


# Keeps its job's segment, and says its pid and the descriptor.
HOLDER = """
import os
import sys
sys.path.insert(0, sys.argv[1])
from test_near import Near
with Near(sys.argv[2], sys.argv[3]) as n:
    assert n.take("a/x")[:5] == b"bytes"
    print(os.getpid(), n.fds[0], flush=True)
    sys.stdin.readline()
"""


def test_what_one_functions_user_has_another_does_not_reach():
    with store_of(0) as endpoint:
        w, _ = job(endpoint, "a")
        holder = subprocess.Popen([*as_user(1234), "/usr/bin/python3", "-c", HOLDER, HERE, endpoint, w.token], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  env=clean_environment(WADI_BUILD=os.environ.get("WADI_BUILD")))
        pid, fd = holder.stdout.readline().split()
        with somebody(1235):
            for name in (f"fd/{fd}", "mem", "maps"):
                refused(errno.EACCES, os.open, f"/proc/{pid}/{name}", os.O_RDONLY)
        holder.communicate("end\n", timeout=LATE_S)
        assert holder.returncode == 0


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


PAGES = 16 * 4096  # what a pipe keeps, unless told otherwise


class Thief(Near):
    """It keeps whatever one can keep of memory: descriptors, mappings, one of them to be written, and pages in pipes."""

    def __init__(self, endpoint, token):
        super().__init__(endpoint, token)
        self.pipes, self.writable = [], []

    def keep(self, path, byte):
        for extent, _ in self.all_extents(self.hold(path)):
            where, fd = self.export(extent["segment"], extent["generation"]), self.fds[-1]
            at = (extent["offset"] + 4095) // 4096 * 4096
            assert where[at:at + PAGES] == byte * PAGES
            self.pipes += [self.splice(fd, at), self.vmsplice(fd, len(where), at)]
            anew = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)  # it is root, as in most containers
            self.writable.append(mmap.mmap(anew, len(where), mmap.MAP_SHARED))
            os.close(anew)

    @staticmethod
    def splice(fd, at):
        r, w = os.pipe()
        assert os.splice(fd, w, PAGES, offset_src=at) == PAGES
        os.close(w)
        return r

    @staticmethod
    def vmsplice(fd, size, at):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        ptr = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        r, w = os.pipe()
        vector = Vector(ptr + at, PAGES)
        assert libc.vmsplice(w, ctypes.byref(vector), ctypes.c_ulong(1), 0) == PAGES, ctypes.get_errno()
        libc.munmap(ctypes.c_void_p(ptr), ctypes.c_size_t(size))
        os.close(w)
        return r

    def loot(self):
        """All that these show, now."""
        for one in self.maps + self.writable:
            yield one[:]
        for r in self.pipes:
            yield os.read(r, PAGES)

    def close(self):
        super().close()
        for one in self.writable:
            one.close()
        for r in self.pipes:
            os.close(r)


@pytest.mark.parametrize("how", ["its objects are removed", "its job ends"])
def test_what_a_thief_keeps_shows_nothing_of_the_next_job(new_store, how):
    """The store is full of its job's bytes; then another job needs all of that memory."""
    store = new_store(memory="128M")
    a, b = store.job(), store.job()
    for i in range(4):
        a("put", "-", f"{i}", input=b"\x11" * (15 * MB))
    with Thief(store.endpoints["unix"], a.token) as n:
        for i in range(4):
            n.keep(f"{i}", b"\x11")
        mine = {str(os.fstat(fd).st_ino) for fd in n.fds}
        assert mine <= inodes(store)
        n.wire.close()  # and so its holds
        if how == "its job ends":
            a("job", "end", a.job)
        else:
            for i in range(4):
                a("rm", f"{i}")
        for i in range(4):
            b("put", "-", f"{i}", input=b"\x22" * (15 * MB))
        for one in n.loot():
            assert one.count(0) + one.count(0x11) == len(one)
        # And what it writes there is seen by nobody: the memory is its own by now.
        for one in n.writable:
            one[:] = b"\x33" * len(one)
        with Near(store.endpoints["unix"], b.token) as theirs:
            for i in range(4):
                assert theirs.take(f"{i}") == b"\x22" * (15 * MB)
            assert not mine & {str(os.fstat(fd).st_ino) for fd in theirs.fds}
    assert store.stop() == 0
