"""Metadata with two shards, a store and a proxy as processes of their own, with keys."""
import os
import select
import signal
import socket
import subprocess
import time

import pytest

from conftest import LATE_S, REFUSED, USAGE, WADI, Client, clean_environment, run_wadi


def free_ports(count):
    """Of consecutive numbers: the shards of a metadata server have one each."""
    for first in range(20000 + os.getpid() % 10000, 32000):
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
    def __init__(self, directory, name, *options):
        self.log = open(os.path.join(directory, name + ".log"), "w+b")
        self.process = subprocess.Popen([WADI, name, *options], stdin=subprocess.DEVNULL, stderr=self.log,
                                        stdout=subprocess.PIPE, env=clean_environment())
        text, due = b"", time.monotonic() + LATE_S
        while b"ready\n" not in text:
            assert select.select([self.process.stdout], [], [], max(0, due - time.monotonic()))[0], self.told()
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, self.told()
            text += more

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


@pytest.fixture
def cluster(tmp_path):
    m0, m1, s, p = free_ports(4)
    metas = f"127.0.0.1:{m0},127.0.0.1:{m1}"
    for name in ("key", "token-key"):
        (tmp_path / name).write_text(os.urandom(40).hex() + "\n")
    key = ["--key", str(tmp_path / "key")]
    token_key = ["--token-key", str(tmp_path / "token-key")]
    roles = []
    try:
        roles.append(Role(tmp_path, "meta", "--listen", f"127.0.0.1:{m0}", "--shards", "2", *key, *token_key))
        roles.append(Role(tmp_path, "store", "--listen", f"127.0.0.1:{s}", "--meta", metas, "--memory", "512M", *key))
        roles.append(Role(tmp_path, "proxy", "--listen", f"127.0.0.1:{p}", "--http", "127.0.0.1:0", "--redis",
                          "127.0.0.1:0", "--meta", metas, *key, *token_key))
        yield Client(f"tcp://127.0.0.1:{p}", (tmp_path / "key").read_text().strip())
        for role in reversed(roles):
            assert role.end() == 0
    finally:
        for role in roles:
            if role.process.poll() is None:
                role.end(signal.SIGKILL)


def test_objects_cross_between_hosts_roles(cluster, tmp_path):
    data = os.urandom(9_000_001)
    (tmp_path / "x").write_bytes(data)
    # Names lie in both shards.
    for name in ("a", "b", "c", "d"):
        job = cluster.at(cluster("job", "create", name).decode().strip())
        for size in (0, 2048, 2049, 65537, len(data)):
            (tmp_path / "y").write_bytes(data[:size])
            job("put", tmp_path / "y", "x")
            assert job("get", "x") == data[:size]
        assert job("get", "x", "--range", "70000-70009") == data[70000:70010]
        cluster("job", "end", name)


def test_without_a_secret_nobody_gets_in(cluster):
    for token in (None, "nonsense", "AQABAAAA"):
        cluster.at(token)("ls", code=REFUSED, status="BADTOKEN")


def test_the_sort_runs_over_processes_of_their_own(cluster):
    done = subprocess.run([WADI, "sort", "--generate", "20M", "--maps", "3", "--reduces", "3"],
                          env=cluster.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    assert done.returncode == 0 and b"verified" in done.stdout, done.stdout


def test_roles_apart_must_share_the_key_of_tokens():
    done = run_wadi("meta", "--listen", "127.0.0.1:0")
    assert done.returncode != 0 and b"--token-key" in done.stderr
    done = run_wadi("store")
    assert done.returncode == USAGE and b"--meta" in done.stderr
