"""`wadi dev` itself: its endpoints, its end, IPv6, several shards."""
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import pytest
from cluster import free_ports
from conftest import (DONE, LATE_S, REFUSED, UNREACHABLE, USAGE, WADI, Client, clean_environment, finish, has_ipv6,
                      in_time, pattern, run_wadi, told, until)

MIB = 1 << 20


def test_dev_prints_its_endpoints_then_ready(store):
    lines = store.printed.splitlines()
    assert lines[-1] == "ready"
    assert all(re.fullmatch(r"endpoint=\S+", line) for line in lines[:-1] if line.startswith("endpoint"))
    assert {"tcp", "unix", "http", "redis"} <= set(store.endpoints)
    assert re.fullmatch(r"tcp://127\.0\.0\.1:[1-9]\d*", store.endpoints["tcp"])
    assert store.endpoints["unix"] == f"unix://{store.directory}/s"
    assert os.stat(f"{store.directory}/s").st_mode & 0o077 == 0


def test_roles_that_have_met_are_ready_at_once(new_store):
    """And not when the time is over that they have for it, which is ten seconds."""
    in_time(lambda: new_store().stop(), 5)


def test_without_a_token_there_is_the_job_default(store):
    admin = store.client()
    admin("put", "-", "/default/e2e/x", input=b"hello")
    assert admin("get", "e2e/x") == b"hello"
    admin("rm", "-r", "e2e")


def http_get(url):
    try:
        with urllib.request.urlopen(url, timeout=LATE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_http_has_health_and_metrics(store):
    url = store.endpoints["http"].rstrip("/")
    assert http_get(url + "/healthz")[0] == 200
    status, text = http_get(url + "/metrics")
    assert status == 200
    assert re.search(r"^wadi_\w+(\{.*\})? \d", text, re.M)
    for line in text.splitlines():
        assert re.fullmatch(r"#.*|[a-z_0-9]+(\{[^}]*\})? [-+0-9.eE]+", line), line
    assert http_get(url + "/nothing")[0] == 404


@pytest.mark.parametrize("version, header, stays", [
    ("1.1", "", True), ("1.1", "Connection: keep-alive\r\n", True), ("1.1", "Accept: close\r\n", True),
    ("1.1", "connection:  CLOSE\r\n", False), ("1.0", "", False)])
def test_an_http_connection_stays_unless_its_client_says_otherwise(store, version, header, stays):
    host, port = store.endpoints["http"].split("//")[1].rstrip("/").rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as s, s.makefile("rwb") as file:
        for _ in range(3 if stays else 1):
            file.write(f"GET /healthz HTTP/{version}\r\nHost: x\r\n{header}\r\n".encode())
            file.flush()
            assert file.readline().split()[1] == b"200"
            length = 0
            while (line := file.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert len(file.read(length)) == length > 0
        s.settimeout(0.2 if stays else 30)
        if stays:
            with pytest.raises(TimeoutError):
                s.recv(1)
        else:
            assert file.read() == b""


def test_the_metrics_have_what_the_pool_counts(new_store):
    store = new_store()
    client, url = store.client(), store.endpoints["http"].rstrip("/") + "/metrics"

    def counts():
        return {m[1]: int(m[2]) for m in re.finditer(r"^wadi_pool_(\w+) (\d+)$", http_get(url)[1], re.M)}
    before = counts()
    assert {"granted_count", "waited_count", "freed_count", "made_bytes", "cut_count"} < set(before)
    client("put", "-", "x", input=pattern(100_000))
    client("rm", "x")
    until(lambda: counts()["freed_count"] > before["freed_count"], "a segment to be freed")
    assert counts()["granted_count"] > before["granted_count"]


def test_redis_says_that_it_is_not_in_this_build(store):
    host, port = store.endpoints["redis"].split("//")[1].rsplit(":", 1)
    with socket.create_connection((host, int(port)), LATE_S) as s:
        s.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert s.recv(1000).startswith(b"-ERR not in this build")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_leaves_nothing(new_store, number):
    store = new_store()
    w = store.job()
    w("put", "-", "x", input=pattern(MIB))
    waiter = w.start("wait", "y", "--timeout", "5s")
    until(lambda: w.top()["waiting"] >= 1, "wait to wait")
    store.process.send_signal(number)
    assert store.process.wait(LATE_S) == 0
    code, _, err = finish(waiter)
    assert code in (REFUSED, UNREACHABLE), err
    assert os.listdir(store.directory) == ["log"]
    w("get", "x", "--timeout", "1s", code=UNREACHABLE)


def test_its_default_socket_is_of_its_user_alone():
    """In a directory of a short name: a socket's path has at most 107 bytes."""
    runtime = tempfile.mkdtemp(prefix="wadi-e2e-")
    process = subprocess.Popen([WADI, "dev", "--memory", "64M", "--listen", "127.0.0.1:0", "--http",
                                "127.0.0.1:0", "--redis", "127.0.0.1:0"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               env=clean_environment(XDG_RUNTIME_DIR=runtime))
    try:
        lines = []
        for line in process.stdout:
            lines.append(line.decode().strip())
            if lines[-1] == "ready":
                break
        directory = f"{runtime}/" + os.listdir(runtime)[0]
        assert re.fullmatch(r".*/wadi-\d+", directory)
        assert f"endpoint=unix://{directory}/proxy.sock" in lines
        assert os.stat(directory).st_mode & 0o777 == 0o700
        process.terminate()
        assert process.wait(LATE_S) == 0
        assert os.listdir(runtime) == []
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        shutil.rmtree(runtime)


def test_an_address_in_use_is_told(store):
    for option, scheme in (("--listen", "tcp"), ("--http", "http"), ("--redis", "redis")):
        words = {"--listen": "127.0.0.1:0", "--http": "127.0.0.1:0", "--redis": "127.0.0.1:0"}
        words[option] = store.endpoints[scheme].split("//")[1].rstrip("/")
        done = run_wadi("dev", "--memory", "64M", *[w for pair in words.items() for w in pair],
                        "--socket", f"{store.directory}/other")
        assert done.returncode == REFUSED, done.stderr
        assert words[option] in done.stderr.decode(), done.stderr
    done = run_wadi("dev", "--memory", "64M", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                    "--redis", "127.0.0.1:0", "--socket", f"{store.directory}/s")
    assert done.returncode == REFUSED and f"{store.directory}/s" in done.stderr.decode()
    assert store.client(scheme="unix")("ls", "/")


def test_other_addresses_than_loopback_need_tokens():
    done = run_wadi("dev", "--memory", "64M", "--listen", "0.0.0.0:0", "--http", "127.0.0.1:0",
                    "--redis", "127.0.0.1:0")
    assert done.returncode in (REFUSED, USAGE) and b"token" in done.stderr, done.stderr


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on loopback here")
def test_ipv6(new_store):
    store = new_store(listen="[::1]:0")
    assert re.fullmatch(r"tcp://\[::1\]:\d+", store.endpoints["tcp"])
    w = store.job()
    for size in (3, 100_000, 6 * MIB):
        w("put", "-", "x", input=pattern(size))
        assert w("get", "x") == pattern(size)
    assert store.stop() == 0


def test_four_shards_are_one_store(new_store):
    store = new_store("--shards", "4")
    jobs = [store.job(f"job-{i}") for i in range(16)]
    for number, w in enumerate(jobs):
        w("put", "-", "small", input=b"%d" % number)
        w("put", "-", "d/large", input=pattern(2 * MIB, number))
    for number, w in enumerate(jobs):
        assert w("get", "small") == b"%d" % number
        assert w("get", "d/large") == pattern(2 * MIB, number)
        assert w.names("-r") == ["d/large", "small"]
        w("mv", "small", "d/small")
        w("wait", "d", "--count", 2)
    listed = [json.loads(line)["name"] for line in store.client()("job", "ls", "--json").decode().splitlines()]
    assert sorted(listed) == sorted([w.job for w in jobs] + ["default"])
    top = store.client().top()
    assert top["objects"] == 32 and len(top["jobs"]) == 17
    for w in jobs[:8]:
        store.client()("job", "end", w.job)
    for w in jobs[8:]:
        w("rm", "-r", "d")
        store.client()("job", "end", w.job)
    until(lambda: store.client().top()["dram_used"] == 0, "all of it to go")
    assert b"ok    bills" in store.client().run("doctor").stdout
    assert store.stop() == 0


def test_jobs_go_on_when_one_is_ended_among_many(new_store):
    store = new_store()
    kept = store.job()
    kept("put", "-", "x", input=pattern(MIB))
    for _ in range(5):
        w = store.job()
        putters = [w.start("put", "-", f"x{i}", stdin=subprocess.PIPE) for i in range(4)]
        for putter in putters:
            putter.stdin.write(pattern(5 * MIB))
            putter.stdin.flush()
        store.client()("job", "end", w.job)
        for putter in putters:
            try:
                putter.stdin.close()
            except BrokenPipeError:
                pass
            putter.stdin = None
            code, _, err = finish(putter)
            assert code == REFUSED, err
    assert kept("get", "x") == pattern(MIB)
    store.client()("job", "end", kept.job)
    assert until(lambda: store.client().top()["dram_used"] == 0, "all bytes to go")
    assert store.stop() == 0


class Address:
    """Of a server that is killed and started again."""

    def __init__(self, scheme, directory):
        self.family = socket.AF_INET if scheme == "tcp" else socket.AF_UNIX
        self.at = ("127.0.0.1", *free_ports(1)) if scheme == "tcp" else f"{directory}/away"
        self.listen().close()
        self.endpoint = "tcp://%s:%d" % self.at if scheme == "tcp" else f"unix://{self.at}"

    def listen(self):
        """Closed, it refuses; a Unix socket's path stays."""
        s = socket.socket(self.family)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.family == socket.AF_UNIX and os.path.exists(self.at):
            os.unlink(self.at)
        s.bind(self.at)
        s.listen()
        s.settimeout(LATE_S)
        return s

    def pass_on(self, store):
        """One connection reaches a store, until its client closes it."""
        with self.listen() as s, s.accept()[0] as near, socket.socket(socket.AF_UNIX) as far:
            far.connect(f"{store.directory}/s")
            while True:
                for end in select.select([near, far], [], [], LATE_S)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    (far if end is near else near).sendall(data)


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_who_opens_waits_for_a_server_that_is_killed_meanwhile(store, w, scheme):
    address = Address(scheme, store.directory)
    w("put", "-", "x", input=b"here")
    with address.listen() as s:
        get = Client(address.endpoint, w.token).start("get", "x")
        s.accept()[0].close()
    with pytest.raises(subprocess.TimeoutExpired):
        get.wait(0.3)  # it is refused meanwhile
    address.pass_on(store)
    assert finish(get)[:2] == (DONE, b"here")


def test_who_opens_waits_for_a_server_that_has_left_its_socket(store, w):
    address = Address("unix", store.directory)
    w("put", "-", "x", input=b"here")
    get = Client(address.endpoint, w.token).start("get", "x")
    with pytest.raises(subprocess.TimeoutExpired):
        get.wait(0.3)
    address.pass_on(store)
    assert finish(get)[:2] == (DONE, b"here")
    # Until the deadline; what was wrong last is said then.
    away = told(lambda: Client(address.endpoint, w.token).run("ls", "--timeout", "2s"))
    assert away.returncode == UNREACHABLE and b"nobody listens there" in away.stderr, away.stderr
    os.unlink(address.at)
    begun = time.monotonic()
    assert Client(address.endpoint, w.token).run("ls", "--timeout", "60s").returncode == UNREACHABLE
    assert time.monotonic() - begun < 30, "where nobody ever was, nobody is waited for"
