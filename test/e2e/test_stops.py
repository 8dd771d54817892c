"""Processes are stopped for longer than anybody waits for them, and continued.

One test runs all that takes so long, side by side, each with processes of its own.
"""
import concurrent.futures
import os
import signal
import subprocess
import threading
import time

from cluster import Cluster, Role, free_ports
from conftest import DONE, LATE, LATE_S, REFUSED, UNREACHABLE, Client, finish, pattern, until

STOP_S = 40  # longer than a session lives
STARTING = threading.Lock()  # ports are found free, and taken a little later


class Pair(Cluster):
    """Two proxies: `a`, which is stopped, and `b`, which others use meanwhile."""

    def __init__(self, directory, memory="128M"):
        os.makedirs(os.path.join(directory, "b"))
        with STARTING:
            super().__init__(directory, shards=1, memory=memory)
            port, = free_ports(1)
            self.roles["b"] = Role(os.path.join(directory, "b"), "proxy", "--listen", f"127.0.0.1:{port}", "--http",
                                   "127.0.0.1:0", "--redis", "127.0.0.1:0", "--meta", self.metas, *self.with_key,
                                   *self.with_token_key)
        self.b = Client(f"tcp://127.0.0.1:{port}", self.key)

    def signal(self, name, number):
        self.roles[name].process.send_signal(number)

    def jobs(self, name):
        """The same job, by way of each."""
        token = self.b("job", "create", name).decode().strip()
        return self.admin.at(token), self.b.at(token)

    def used(self):
        return sum(job["dram_bytes"] for job in self.b.json("top")["jobs"])

    def is_empty(self):
        return self.b.json("top")["segments"] == 0

    def kill(self):
        for role in self.roles.values():
            if role.process.poll() is None:
                role.process.send_signal(signal.SIGCONT)
        super().kill()


def feed(process, data):
    process.stdin.write(data)
    process.stdin.flush()


def feed_and_finish(process, data):
    """Exit code and errors. Who fails may not read all of it."""
    try:
        feed(process, data)
        process.stdin.close()
    except BrokenPipeError:
        pass
    process.stdin = None
    code, _, told = finish(process, LATE_S * 3)
    return code, told


def stop_in_the_middle_of_a_put(directory, claim):
    """A proxy is stopped in the middle of a put. `claim`: others want the space meanwhile."""
    cluster = Pair(directory)
    try:
        data, other = pattern(24_000_000, 1), pattern(60_000_000, 2)
        a, b = cluster.jobs("mine")
        _, foreign = cluster.jobs("other")
        put = a.start("put", "--timeout", "150s", "-", "object", stdin=subprocess.PIPE)
        feed(put, data[:9_000_000])
        until(lambda: cluster.used() >= 8_000_000, "the first bytes to be there")
        cluster.signal("proxy", signal.SIGSTOP)
        began = time.monotonic()
        until(lambda: "a session is over" in cluster.roles["meta"].told(), "the session's end", 60)
        if claim:
            # More than is free: what only waits for its writer is given to who needs it.
            with open(os.path.join(directory, "other"), "wb") as f:
                f.write(other)
            foreign("put", "--timeout", "60s", os.path.join(directory, "other"), "one")
            foreign("put", "--timeout", "60s", "-", "two", input=other[:38_000_000])
            assert foreign("get", "two") == other[:38_000_000]
            foreign("rm", "two")
        time.sleep(max(0, STOP_S - (time.monotonic() - began)))
        cluster.signal("proxy", signal.SIGCONT)
        code, told = feed_and_finish(put, data[9_000_000:])
        if claim:
            # The bytes that had come are gone, and a stream's cannot be had again: its caller is told, perhaps only that it is
            # late, or that its store has cut off who was in the middle of a write.
            words = {DONE: b"", REFUSED: b": STALE: ", LATE: b": TIMEOUT: ", UNREACHABLE: b": UNREACHABLE: "}
            assert code in words and words[code] in told, (code, told)
            assert foreign("get", "one") == other
        else:
            assert code == DONE, (code, told)
        if code == DONE:
            assert b("get", "object") == data
        else:
            b("get", "object", code=REFUSED, status="NOTFOUND")
        for name in ("mine", "other"):
            cluster.b("job", "end", name)
        until(cluster.is_empty, "all space to be given back")
        return code
    finally:
        cluster.kill()


def stop_in_the_middle_of_a_get(directory):
    """A get that began before the job's end goes on after it in a stopped proxy: it is cut."""
    cluster = Pair(directory, memory="256M")
    try:
        data = pattern(100_000_000, 3)
        with open(os.path.join(directory, "data"), "wb") as f:
            f.write(data)
        a, b = cluster.jobs("mine")
        b("put", os.path.join(directory, "data"), "object")
        get = a.start("get", "--timeout", "150s", "object", "-")
        got = get.stdout.read(1_000_000)
        time.sleep(1)  # until pipe and sockets are full: the rest is still in the store
        cluster.signal("proxy", signal.SIGSTOP)
        began = time.monotonic()
        cluster.b("job", "end", "mine")
        took = time.monotonic() - began
        assert took < 15, f"the end of a job waited {took} s for a proxy that was stopped"  # half of its session
        until(cluster.is_empty, "the space of the job to be given back")
        time.sleep(STOP_S / 4)
        cluster.signal("proxy", signal.SIGCONT)
        got += get.stdout.read()
        assert get.wait(LATE_S * 3) != DONE, "it was served to its end"
        assert len(got) < len(data) / 2 and data.startswith(got), (len(got), get.stderr.read())
        b("ls", code=REFUSED)
    finally:
        cluster.kill()


def stop_the_metadata(directory):
    """Its sessions live on, and so does what was being written in them."""
    cluster = Pair(directory)
    try:
        data = pattern(20_000_000, 4)
        a, b = cluster.jobs("mine")
        put = a.start("put", "--timeout", "150s", "-", "object", stdin=subprocess.PIPE)
        feed(put, data[:9_000_000])
        until(lambda: cluster.used() >= 8_000_000, "the first bytes to be there")
        cluster.signal("meta", signal.SIGSTOP)
        time.sleep(STOP_S)
        cluster.signal("meta", signal.SIGCONT)
        code, told = feed_and_finish(put, data[9_000_000:])
        assert code == DONE, (code, told)
        assert b("get", "object") == data
        log = cluster.roles["meta"].told()
        assert "we were stopped" in log and "a session is over" not in log, log
        cluster.b("job", "end", "mine")
        until(cluster.is_empty, "all space to be given back")
    finally:
        cluster.kill()


def test_who_is_stopped_for_longer_than_a_session_lives_spoils_nothing(tmp_path):
    tests = {
        "put": lambda d: stop_in_the_middle_of_a_put(d, claim=False),
        "claimed": lambda d: stop_in_the_middle_of_a_put(d, claim=True),
        "get": stop_in_the_middle_of_a_get,
        "meta": stop_the_metadata,
    }
    with concurrent.futures.ThreadPoolExecutor(len(tests)) as pool:
        running = {name: pool.submit(test, str(tmp_path / name)) for name, test in tests.items()}
        failed = {name: run.exception() for name, run in running.items() if run.exception()}
    assert not failed, failed
