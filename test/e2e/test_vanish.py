"""A host that is gone without a word: a machine that was thrown away, or paused, a cable.

Server and client are in network namespaces of their own, and it is the link between them that
goes. Nobody is told of an end then: each side has to ask (HOST_QUIET_S and what follows it).
"""
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from cluster import Role, kill_all, make_keys
from conftest import LATE_S, WADI, Client, clean_environment, pattern, until
from test_every_limit import LIMITS

GONE_S = LIMITS["HOST_GONE_S"]
SERVER, CLIENT = "10.207.0.1", "10.207.0.2"
PORT = 4870


class Namespace:
    """A network of its own, which is gone with the process that holds it."""

    def __init__(self, address):
        self.address = address
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "600"], stdin=subprocess.DEVNULL)
        self.prefix = ("nsenter", "-t", str(self.holder.pid), "-n")
        until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"),
              "a network namespace")

    def ip(self, *words):
        subprocess.run([*self.prefix, "ip", *words], stdin=subprocess.DEVNULL, check=True)

    def up(self, link):
        self.ip("link", "set", "lo", "up")
        self.ip("addr", "add", self.address + "/24", "dev", link)
        self.ip("link", "set", link, "up")

    def end(self):
        self.holder.kill()
        self.holder.wait()


def can_have_namespaces():
    if os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run(["unshare", "--net", "ip", "link", "add", "wadi-a", "type", "veth", "peer", "name", "wadi-b"],
                          stderr=subprocess.DEVNULL, check=False).returncode == 0


@pytest.fixture
def hosts():
    if not can_have_namespaces():
        pytest.skip("no network namespaces with a link between them here")
    made = []
    try:
        for address in (SERVER, CLIENT):
            made.append(Namespace(address))
        server, client = made
        server.ip("link", "add", "wadi-a", "type", "veth", "peer", "name", "wadi-b", "netns", str(client.holder.pid))
        server.up("wadi-a")
        client.up("wadi-b")
        yield server, client
    finally:
        for one in made:
            one.end()


def connections(pid):
    """Open ones between the two, as the kernel has them where that process is."""
    def at(address):
        return "%02X%02X%02X%02X" % tuple(reversed([int(byte) for byte in address.split(".")]))
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    return sum({line[1].split(":")[0], line[2].split(":")[0]} == {at(SERVER), at(CLIENT)} and line[3] == "01"
               for line in lines)


def test_connections_of_a_host_that_is_gone_end_and_who_waits_goes_on_when_it_is_back(hosts, tmp_path):
    near, far = hosts
    runtime = tempfile.mkdtemp(prefix="wadi-e2e-")  # a Unix socket's path is short
    key, roles, waiter = make_keys(str(tmp_path)), [], None
    try:
        def start(name, *options):
            roles.append(Role(str(tmp_path), name, "--key", f"{tmp_path}/key", "--token-key", f"{tmp_path}/token-key",
                              *options, prefix=near.prefix, env={"XDG_RUNTIME_DIR": runtime}))
            return roles[-1]
        start("run", "--roles", "meta,store", "--listen", f"127.0.0.1:{PORT}", "--memory", "256M")
        proxy = start("proxy", "--listen", f"{SERVER}:{PORT + 1}", "--meta", f"127.0.0.1:{PORT}", "--http", "127.0.0.1:0",
                      "--redis", "127.0.0.1:0", "--socket", f"{runtime}/s")
        server, admin = proxy.process.pid, Client(f"unix://{runtime}/s", key)
        token = admin("job", "create", "j").decode().strip()
        waiter = subprocess.Popen([*far.prefix, WADI, "get", "x", "--wait", "5m"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  env=clean_environment(WADI_ENDPOINT=f"tcp://{SERVER}:{PORT + 1}", WADI_TOKEN=token))
        until(lambda: connections(server) == 1, "the client's connection")
        near.ip("link", "set", "wadi-a", "down")
        gone = time.monotonic()
        for pid in (server, waiter.pid):
            until(lambda: connections(pid) == 0, "the end of a connection", GONE_S + LATE_S)
        assert time.monotonic() - gone > LIMITS["HOST_QUIET_S"] / 2
        assert waiter.poll() is None
        near.ip("link", "set", "wadi-a", "up")
        admin.at(token)("put", "-", "x", input=pattern(5000))
        assert waiter.communicate(timeout=GONE_S + LATE_S) == (pattern(5000), b"")
        assert [role.end() for role in reversed(roles)] == [0, 0]
    finally:
        if waiter and waiter.poll() is None:
            waiter.send_signal(signal.SIGKILL)
            waiter.communicate()
        kill_all(roles, runtime)
