"""What the machine does not give: descriptors, memory of a control group."""
import contextlib
import os
import re
import socket
import subprocess

import pytest

from conftest import DONE, REFUSED, finish, pattern, run_wadi, told, until
from control_group import ControlGroup

MIB = 1 << 20
FILES = 100  # of which three quarters may be segments


def files_of(store):
    return len(os.listdir(f"/proc/{store.process.pid}/fd"))


def few_files(new_store, count, **how):
    return new_store(prefix=["prlimit", f"--nofile={count}:{count}"], **how)


def address_of(store):
    host, port = store.endpoints["tcp"][len("tcp://"):].rsplit(":", 1)
    return host, int(port)


def test_when_connections_use_all_descriptors_who_comes_waits_and_is_served(new_store):
    """Those who say nothing are cut after five seconds, so there is room again."""
    store = few_files(new_store, FILES, memory="256M")
    w = store.client()
    w("put", "-", "small", input=b"x" * 1000)
    writer = w.start("put", "-", "long", stdin=subprocess.PIPE)
    writer.stdin.write(pattern(3 * MIB))
    writer.stdin.flush()
    until(lambda: w.top()["dram_used"] > 2 * MIB, "the writer to be at it")
    with contextlib.ExitStack() as stack:
        for _ in range(FILES):
            stack.enter_context(socket.create_connection(address_of(store)))
        until(lambda: files_of(store) == FILES, "all descriptors to be in use")
        # Who has a connection goes on with it, and who has none waits for one.
        late = w.start("get", "small", "--timeout", "30s")
        writer.stdin.write(pattern(5 * MIB)[3 * MIB:])
        code, _, err = finish(writer)
        assert (code, err) == (DONE, b"")
        code, out, err = finish(late)
        # So many may be let in at once then that a process has more connections than it may: who is one too many is told.
        assert (code, out, err) == (DONE, b"x" * 1000, b"") or (code, b"which is its limit" in err) == (REFUSED, True)
        until(lambda: w.run("get", "small").stdout == b"x" * 1000, "room for one more")
    assert "Connections wait until there are descriptors again" in store.log()
    assert w("get", "long") == pattern(5 * MIB)
    w("rm", "-r", "/default/")
    assert store.stop() == DONE


def test_when_segments_use_all_descriptors_the_put_is_told(new_store):
    store = few_files(new_store, FILES, memory="256M")
    w = store.client()
    data = pattern(9 * MIB)
    count = 0
    while (done := told(lambda: w.run("put", "-", f"o{count}", "--timeout", "1s", input=data))).returncode == DONE:
        count += 1
    words = done.stderr.decode()
    assert done.returncode == REFUSED
    assert re.search(r"NOSPACE: .*all 75 segments are in use, for more there are no descriptors.*ulimit -n", words)
    assert count >= 3
    # What is there can be read, and what is given back can be used again.
    assert w("get", "o0") == data
    for i in range(3):
        w("rm", f"o{i}")
    w("put", "-", "again", input=data)
    assert w("get", "again") == data
    w("rm", "-r", "/default/")
    until(lambda: w.top()["dram_used"] == 0, "the space to be given back")
    until(lambda: files_of(store) < 40, "the descriptors to be given back")
    assert store.stop() == DONE


def test_without_descriptors_for_its_own_a_server_says_so():
    for count in range(4, 14):
        done = run_wadi("dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--redis", "127.0.0.1:0",
                        prefix=["prlimit", f"--nofile={count}:{count}"])
        assert done.returncode == 1, (count, done)
        assert b"Too many open files" in done.stderr, (count, done)
        assert b"ready" not in done.stdout


class Group(ControlGroup):
    """For memory."""

    def __init__(self):
        super().__init__("memory")
        self.most, self.peak = ("memory.limit_in_bytes", "memory.max_usage_in_bytes") if self.is_old else \
            ("memory.max", "memory.peak")

    def limit(self, size):
        try:
            self.write(self.most, str(size))
        except OSError as why:
            pytest.skip(f"no limit of memory can be set here: {why}")

    def prefix(self):
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', self.path]

    def kills(self):
        """Of the kernel, for want of memory."""
        text = self.read("memory.oom_control" if self.most == "memory.limit_in_bytes" else "memory.events")
        return int(re.search(r"^oom_kill (\d+)$", text, re.M)[1])


@pytest.fixture
def group():
    made = Group()
    yield made
    # A process that has ended leaves its group a moment later.
    until(lambda: remove(made.path), "the group to be empty")


def remove(path):
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True


def test_more_memory_than_the_group_has_is_refused_at_once(group):
    group.limit(128 * MIB)
    done = run_wadi("dev", "--memory", "256M", "--listen", "127.0.0.1:0", prefix=group.prefix())
    assert done.returncode == 1
    assert done.stdout == b""
    assert re.fullmatch(rf"wadi: --memory 256M does not fit: {group.path}/{group.most} is 128 MiB; "
                        r"start with --memory 115M or less\n", done.stderr.decode()), done.stderr
    done = run_wadi("doctor", "--json", "--memory", "256M", prefix=group.prefix())
    assert f"--memory 256M does not fit: {group.path}" in done.stdout.decode()
    assert group.kills() == 0


def test_a_full_store_stays_within_its_memory_and_its_group(group, new_store):
    """The group has just what --memory says, and so has the store, its keeper included."""
    memory = 192 * MIB
    group.limit(memory)
    store = new_store(memory="192M", prefix=group.prefix())
    w = store.client()
    refused = 0
    for round_ in range(3):
        for i in range(60):
            done = w.run("put", "-", f"{round_}/{i}", "--timeout", "1s", input=pattern(4 * MIB, i))
            if done.returncode != DONE:
                assert re.search(b": (NOSPACE|TIMEOUT): ", done.stderr), done.stderr
                refused += 1
                break
        assert w("get", f"{round_}/0") == pattern(4 * MIB, 0)
        w("rm", "-r", f"{round_}/")
    assert refused == 3
    assert store.is_alive()
    assert group.kills() == 0
    assert int(group.read(group.peak)) <= memory
    if group.most == "memory.limit_in_bytes":
        assert int(group.read("memory.failcnt")) == 0
    assert store.stop() == DONE
