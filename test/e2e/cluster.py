"""Roles as processes of their own: metadata in shards, stores, a proxy, with keys."""
import contextlib
import os
import re
import signal
import socket
import shutil
import subprocess
import tempfile
import time

from conftest import LATE_S, WADI, Client, clean_environment, is_readable, until
from wire import META, PROXY, Wire


# Each worker of pytest has ports of its own: between a look and a use nobody may take them.
PORTS = range(12000, 32000, 20000 // 8)
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


def free_ports(count):
    """Of consecutive numbers: the shards of a metadata server have one each."""
    first_port = PORTS[WORKER % len(PORTS)]
    for first in range(first_port + os.getpid() % (PORTS.step // 2), first_port + PORTS.step - count):
        taken = []
        try:
            for port in range(first, first + count):
                s = socket.socket()
                taken.append(s)
                s.bind(("127.0.0.1", port))
            return list(range(first, first + count))
        except OSError:
            continue
        finally:
            for s in taken:
                s.close()
    raise AssertionError("no free ports")


class Role:
    def __init__(self, directory, name, *options, env=None, prefix=()):
        self.log = open(os.path.join(directory, name + ".log"), "a+b")
        self.process = subprocess.Popen([*prefix, WADI, name, *options], stdin=subprocess.DEVNULL, stderr=self.log,
                                        stdout=subprocess.PIPE, env=clean_environment(**(env or {})))
        text, due = b"", time.monotonic() + LATE_S
        while b"ready\n" not in text:
            assert is_readable(self.process.stdout, due), self.told()
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, self.told()
            text += more
        self.endpoints = dict(re.findall(r"^endpoint=(?=(\w+):)(\S+)$", text.decode(), re.M))

    def told(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def end(self, with_signal=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        code = self.process.wait(LATE_S)
        self.process.stdout.close()
        self.log.close()
        return code


def keepers(directory):
    """The process ids of those that keep memory in it, or below it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if b"keep" in words and any((word + b"/").startswith(os.fsencode(directory) + b"/") for word in words):
            found.append(int(pid))
    return found


def is_there(pid):
    """It has not ended; whether somebody has waited for it does not matter."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def make_keys(directory):
    """The key that servers share, which is returned, and that of tokens: files of these names."""
    keys = {name: os.urandom(40).hex() for name in ("key", "token-key")}
    for name, text in keys.items():
        with open(os.path.join(directory, name), "w", encoding="ascii") as file:
            file.write(text + "\n")
    return keys["key"]


def kill_keepers(directory):
    """Their process ids. One whose patience is over may end by itself meanwhile."""
    pids = keepers(directory)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def has_stopped(pid):
    """All of its threads."""
    states = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/stat") as file:
            states.append(file.read().rsplit(")", 1)[1].split()[0])
    return set(states) == {"T"}


def stop_all_of(process):
    """A signal is taken by one thread, and on a machine that does much else others go on for a while."""
    process.send_signal(signal.SIGSTOP)
    until(lambda: has_stopped(process.pid), "it to stop")


def kill_all(roles, runtime):
    """Those that still run, their keepers, and the directory of these."""
    for role in roles:
        if role.process.poll() is None:
            role.end(signal.SIGKILL)
    kill_keepers(runtime)
    shutil.rmtree(runtime, ignore_errors=True)


class Cluster:
    """`wadi meta`, `store` and `proxy` on loopback; whoever knows the key administers it."""

    def __init__(self, directory, shards=2, memory="512M", keep_s="60s", store_gone="10m", store_prefix=(),
                 loops=1, env=None):
        self.loops = ["--loops", str(loops)]
        self.directory, self.memory, self.store_prefix = directory, memory, store_prefix
        self.keep_s = ["--keep-s", keep_s]
        self.store_gone = ["--store-gone", store_gone]
        # A Unix socket's path has at most 107 bytes, and pytest's directories are long.
        self.runtime = tempfile.mkdtemp(prefix="wadi-e2e-")
        self.env = {"XDG_RUNTIME_DIR": self.runtime, **(env or {})}
        *self.meta_ports, self.store_port, self.proxy_port = free_ports(shards + 2)
        self.metas = ",".join(f"127.0.0.1:{port}" for port in self.meta_ports)
        self.key = make_keys(directory)
        self.with_key = ["--key", os.path.join(directory, "key")]
        self.with_token_key = ["--token-key", os.path.join(directory, "token-key")]
        self.roles = {}
        try:
            self.start_meta(shards)
            self.start_store()
            self.start_proxy()
        except BaseException:
            self.kill()
            raise
        self.admin = Client(f"tcp://127.0.0.1:{self.proxy_port}", self.key)

    def start_meta(self, shards):
        self.roles["meta"] = Role(self.directory, "meta", "--listen", f"127.0.0.1:{self.meta_ports[0]}", "--shards",
                                  str(shards), *self.with_key, *self.with_token_key, *self.keep_s, *self.store_gone,
                                  env=self.env)

    def start_store(self, knows_tokens=True):
        with_token_key = self.with_token_key if knows_tokens else []
        self.roles["store"] = Role(self.directory, "store", "--listen", f"127.0.0.1:{self.store_port}", "--meta",
                                   self.metas, "--memory", self.memory, *self.with_key, *with_token_key, *self.keep_s,
                                   env=self.env, prefix=self.store_prefix)

    def start_proxy(self):
        self.roles["proxy"] = Role(self.directory, "proxy", "--listen", f"127.0.0.1:{self.proxy_port}", "--http",
                                   "127.0.0.1:0", "--redis", "127.0.0.1:0", "--meta", self.metas, *self.with_key,
                                   *self.with_token_key, *self.keep_s, *self.loops, env=self.env)

    def job(self, name, *options):
        client = self.admin.at(self.admin("job", "create", name, *options).decode().strip())
        client.job = name
        return client

    def to_meta(self, shard=0, role=PROXY, **fields):
        """A connection as a server of this store has it."""
        wire = Wire("127.0.0.1", self.meta_ports[shard])
        wire.hello(role=role, secret=self.key, **fields)
        return wire

    def to_store(self, role=META):
        wire = Wire("127.0.0.1", self.store_port)
        wire.hello(role=role, secret=self.key)
        return wire

    def pid(self, name):
        return self.roles[name].process.pid

    def run_directory(self, name):
        port = {"meta": self.meta_ports[0], "store": self.store_port, "proxy": self.proxy_port}[name]
        return f"{self.runtime}/wadi-{port}"

    def stop(self):
        for name in ("proxy", "store", "meta"):
            assert self.roles[name].end() == 0, name
        assert os.listdir(self.runtime) == []
        os.rmdir(self.runtime)

    def kill(self):
        kill_all(self.roles.values(), self.runtime)
