"""Objects through the command line: every size, names, versions, lifetimes."""
import json
import os
import random
import signal
import subprocess

import pytest
from conftest import DONE, LATE, REFUSED, WADI, finish, pattern, until

KIB, MIB = 1 << 10, 1 << 20
SIZES = [0, 1, 2047, 2048, 2049, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB, MIB + 1,
         4 * MIB - 1, 4 * MIB, 4 * MIB + 1]


@pytest.mark.parametrize("size", SIZES)
def test_an_object_of_any_size_comes_back_as_it_was(w, tmp_path, size):
    data = pattern(size)
    (tmp_path / "in").write_bytes(data)
    w("put", tmp_path / "in", "by/file")
    w("put", "-", "by/pipe", input=data)
    for path in ("by/file", "by/pipe", f"/{w.job}/by/file"):
        assert w("get", path) == data
        w("get", path, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
    stat = w.json("stat", "by/file")
    assert stat["length"] == size
    assert not stat["is_directory"]


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_both_endpoints_give_the_same(store, w, scheme):
    other = store.client(w.token, scheme)
    for size in (0, 5, 100_000, 6 * MIB):
        other("put", "-", f"x{size}", input=pattern(size))
        assert w("get", f"x{size}") == pattern(size)
        assert other("get", f"x{size}") == pattern(size)


def free_memory():
    with open("/proc/meminfo") as file:
        kib = int(next(line for line in file if line.startswith("MemAvailable")).split()[1])
    return kib * KIB


@pytest.mark.parametrize("size", [160 * MIB, pytest.param(1 << 30, marks=pytest.mark.skipif(
    free_memory() < 5 << 30, reason="less than 5 GiB of memory are free"))])
def test_a_large_object_is_streamed_through_a_pipe(new_store, size):
    store = new_store(memory=str(size // MIB + 256) + "M")
    w = store.job()
    block = bytearray(random.Random(1).randbytes(MIB))
    putter = w.start("put", "-", "large", stdin=subprocess.PIPE)
    for number in range(size // MIB):
        block[:8] = number.to_bytes(8, "little")
        putter.stdin.write(block)
    putter.stdin.close()
    putter.stdin = None
    assert finish(putter) == (0, b"", b"")
    assert w.json("stat", "large")["length"] == size

    getter = w.start("get", "large")
    for number in range(size // MIB):
        block[:8] = number.to_bytes(8, "little")
        assert getter.stdout.read(MIB) == block, f"MiB {number}"
    assert finish(getter) == (0, b"", b"")
    # In its middle, over the end of any segment.
    for number in (1, 63, 64, size // MIB - 2):
        at = number * MIB - 3
        block[:8] = number.to_bytes(8, "little")
        assert w("get", "large", "--range", f"{at}-{at + 10}") == bytes(block[-3:]) + bytes(block[:8])
    store.client()("job", "end", w.job)
    until(lambda: store.client().top()["dram_used"] == 0, "all of it to go")
    assert store.stop() == 0


def test_ranges_include_both_ends(w):
    data = pattern(5 * MIB)
    w("put", "-", "x", input=data)
    for first, last in ((0, 0), (0, 99), (1, 1), (64 * KIB - 1, 64 * KIB), (MIB - 1, MIB + 1),
                        (4 * MIB - 5, 4 * MIB + 5), (0, 5 * MIB - 1), (5 * MIB - 1, 9 * MIB)):
        assert w("get", "x", "--range", f"{first}-{last}") == data[first:last + 1], (first, last)
    assert w("get", "x", "--range", "5242870-") == data[5242870:]
    assert w("get", "x", "--range", "0-") == data
    assert w("get", "x", "--range", "5242880-") == b""
    assert w("get", "x", "--range", "99999999999-") == b""
    for small in (b"", b"abc"):
        w("put", "-", "small", input=small)
        assert w("get", "small", "--range", "1-1") == small[1:2]


def test_a_new_version_replaces_the_old_one_as_a_whole(w):
    versions = []
    for data in (b"first", pattern(3 * MIB), b"", pattern(100_000)):
        versions.append(int(w.json("put", "-", "x", input=data)["version"]))
        assert w("get", "x") == data
    assert versions == sorted(set(versions)) and versions[0] > 0
    assert int(w.json("stat", "x")["version"]) == versions[-1]


def test_put_if_absent_has_one_winner(w):
    w("put", "-", "x", "--create", input=b"mine")
    w("put", "-", "x", "--create", input=b"theirs", code=REFUSED, status="EXISTS")
    w("put", "-", "x", "--create", input=pattern(2 * MIB), code=REFUSED, status="EXISTS")
    assert w("get", "x") == b"mine"

    racers = [w.start("put", "-", "race", "--create", stdin=subprocess.PIPE) for _ in range(16)]
    ends = []
    for number, racer in enumerate(racers):
        racer.stdin.write(b"%d" % number)
    for racer in racers:
        racer.stdin.close()
        racer.stdin = None
    ends = [finish(racer)[0] for racer in racers]
    assert sorted(ends) == [DONE] + [REFUSED] * 15
    assert w("get", "race") == b"%d" % ends.index(DONE)


def test_if_version_replaces_that_version_only(w):
    first = w.json("put", "-", "x", input=b"1")["version"]
    second = w.json("put", "-", "x", "--if-version", first, input=b"2")["version"]
    w("put", "-", "x", "--if-version", first, input=b"3", code=REFUSED, status="VERSION")
    w("put", "-", "none", "--if-version", first, input=b"3", code=REFUSED)
    w("rm", "x", "--if-version", first, code=REFUSED, status="VERSION")
    assert w("get", "x") == b"2"
    w("rm", "x", "--if-version", second)
    w("get", "x", code=REFUSED, status="NOTFOUND")


@pytest.mark.parametrize("size", [10, 100_000, 5 * MIB])
def test_an_object_goes_when_its_time_to_live_is_over(w, size):
    w("put", "-", "x", "--ttl", "30s", input=pattern(size))
    assert 0 < w.json("stat", "x")["ttl_left_ms"] <= 30_000
    assert w("get", "x") == pattern(size)
    w("put", "-", "y", "--ttl", "200ms", input=pattern(size))
    until(lambda: w.run("get", "y").returncode == REFUSED, "the object to go")
    done = w.run("get", "y")
    assert b": EXPIRED: " in done.stderr or b": NOTFOUND: " in done.stderr
    assert w.names() == ["x"]
    assert w.json("stat", "x")["ttl_left_ms"] <= 30_000


@pytest.mark.parametrize("size", [10, 100_000, 3 * MIB])
def test_exactly_n_of_64_racing_readers_get_an_object_of_n_reads(w, tmp_path, size):
    """To files: who has a read and cannot write it would keep the others waiting."""
    reads, data = 5, pattern(size)
    w("put", "-", "x", "--reads", reads, input=data)
    assert w.json("stat", "x")["reads_left"] == reads
    racers = [w.start("get", "x", tmp_path / f"{i}", "--timeout", "60s") for i in range(64)]
    ends = [finish(racer) for racer in racers]
    assert sum(code == DONE for code, _, _ in ends) == reads, ends
    for number, (code, _, err) in enumerate(ends):
        if code == DONE:
            assert (tmp_path / f"{number}").read_bytes() == data
        else:
            assert code == REFUSED and (b": CONSUMED: " in err or b": NOTFOUND: " in err), (code, err)
    assert len(os.listdir(tmp_path)) == reads
    w("get", "x", code=REFUSED)


def test_a_read_that_is_broken_off_does_not_count(w):
    data = pattern(8 * MIB)
    w("put", "-", "x", "--reads", 1, input=data)
    reader = w.start("get", "x")
    assert reader.stdout.read(10) == data[:10]
    reader.kill()
    finish(reader)
    got = until(lambda: w.run("get", "x").stdout, "the read to be given back")
    assert got == data
    w("get", "x", code=REFUSED)


@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_a_repeated_attempt_is_answered_the_same(w, size):
    data = pattern(size)
    first = w.json("put", "-", "x", "--attempt", "function-7", input=data)["version"]
    assert w.json("put", "-", "x", "--attempt", "function-7", input=data)["version"] == first
    second = w.json("put", "-", "x", "--attempt", "function-8", input=b"other")["version"]
    # What was replaced is still known, and changes nothing any more.
    assert w.json("put", "-", "x", "--attempt", "function-7", input=data)["version"] == first
    assert w("get", "x") == b"other"
    assert w.json("stat", "x")["version"] == second
    # The same word at another path is another attempt.
    assert w.json("put", "-", "y", "--attempt", "function-7", input=data)["version"] != first
    # With --create a repeat is a repeat, and somebody else is refused.
    made = w.json("put", "-", "z", "--create", "--attempt", "a", input=data)["version"]
    assert w.json("put", "-", "z", "--create", "--attempt", "a", input=data)["version"] == made
    w("put", "-", "z", "--create", "--attempt", "b", input=data, code=REFUSED, status="EXISTS")


def test_mv_moves_one_object_and_copies_nothing(w):
    data = pattern(3 * MIB)
    w("put", "-", "a/x", input=data)
    before = w.json("stat", "a/x")
    w("mv", "a/x", "b/y")
    assert w("get", "b/y") == data
    assert w.json("stat", "b/y")["object"] == before["object"]
    w("get", "a/x", code=REFUSED, status="NOTFOUND")
    w("mv", "b/y", "c/")
    assert w.names("-r") == ["c/y"]
    w("put", "-", "d", input=b"d")
    w("mv", "c/y", "d", "--create", code=REFUSED, status="EXISTS")
    w("mv", "d", "c/y")
    assert w("get", "c/y") == b"d"
    w("mv", "nothing", "d", code=REFUSED, status="NOTFOUND")
    w("mv", "c", "e", code=REFUSED, status="DIRECTORY")
    told = w.run("mv", "c/y", "e" * 5000 + "/")
    assert told.returncode == REFUSED and told.stderr.startswith(b"wadi: mv: cannot move to eeee"), told.stderr[:100]


def test_rm_removes_what_is_there_and_says_what_is_not(w):
    for path in ("x", "y", "d/1", "d/2", "d/e/3", "dd"):
        w("put", "-", path, input=b"")
    w("rm", "x", "y")
    w("rm", "x", code=REFUSED, status="NOTFOUND")
    w("rm", "d", code=REFUSED, status="DIRECTORY")
    assert b"`wadi rm -r`" in w.run("rm", "d").stderr
    w("rm", "-r", "d")
    assert w.names("-r") == ["dd"]
    w("rm", "-r", "d", code=REFUSED, status="NOTFOUND")
    w("rm", "-r", "dd")
    assert w.names("-r") == []


def test_an_upload_that_is_interrupted_leaves_nothing(w):
    w("put", "-", "kept", input=b"old")
    held = w.held()
    for path in ("new", "kept"):
        putter = w.start("put", "-", path, stdin=subprocess.PIPE)
        putter.stdin.write(pattern(8 * MIB))
        putter.stdin.flush()
        until(lambda: w.held() > held + MIB, "the first bytes to be in the store")
        putter.send_signal(signal.SIGINT)
        code, _, err = finish(putter)
        assert (code, err) == (-signal.SIGINT, b"")
    assert w.names("-r") == ["kept"]
    assert w("get", "kept") == b"old"
    until(lambda: w.held() <= held, "the space to be given back")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE])
def test_a_download_that_is_interrupted_leaves_no_file(w, tmp_path, number):
    w("put", "-", "x", input=pattern(1000))
    (tmp_path / "old").write_bytes(b"old")
    getter = w.start("get", "y", tmp_path / "old", "--wait", "30s")
    until(lambda: len(os.listdir(tmp_path)) == 2, "the unfinished file")
    assert (tmp_path / "old").read_bytes() == b"old"
    getter.send_signal(number)
    assert finish(getter)[0] == -number
    assert os.listdir(tmp_path) == ["old"]
    w("get", "y", tmp_path / "new", code=REFUSED, status="NOTFOUND")
    assert os.listdir(tmp_path) == ["old"]
    w("get", "x", tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == pattern(1000)
    w("get", "x", tmp_path / "no" / "such", code=REFUSED)


def test_a_file_that_may_not_be_so_long_is_told(w, tmp_path):
    w("put", "-", "x", input=pattern(4 * MIB))
    told = w.run("get", "x", tmp_path / "y", prefix=["sh", "-c", "ulimit -f 64; exec \"$@\"", "sh"])
    assert (told.returncode, told.stderr) == (REFUSED, f"wadi: get: cannot write to {tmp_path}/y: File too large\n".encode())
    assert os.listdir(tmp_path) == []


def test_a_reader_that_goes_away_ends_get_like_cat(w):
    w("put", "-", "x", input=pattern(16 * MIB))
    getter = w.start("get", "x")
    assert getter.stdout.read(1) == pattern(1)
    getter.stdout.close()
    getter.stdout = None
    assert getter.wait(30) == -signal.SIGPIPE
    getter.stderr.close()
    # Where the signal is ignored, the write fails, and that is told.
    getter = w.start("get", "x", restore_signals=False,
                     preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN))
    getter.stdout.close()
    getter.stdout = None
    code, _, err = finish(getter)
    assert code == REFUSED and b"Broken pipe" in err


def test_a_full_disk_is_told(w):
    w("put", "-", "x", input=b"x" * 10)
    with open("/dev/full", "wb") as full:
        for words in (["get", "x"], ["ls"]):
            done = subprocess.run([WADI, *words], stdout=full, stderr=subprocess.PIPE, env=w.env(),
                                  check=False)
            assert done.returncode == REFUSED and b"No space left" in done.stderr


def test_what_is_closed_is_not_taken_for_the_store(w):
    """The next descriptor that is opened would have its number."""
    def closed(fd, *words):
        done = subprocess.run([WADI, *words], env=w.env(), preexec_fn=lambda: os.close(fd), check=False,
                              **{name: subprocess.PIPE for number, name in ((1, "stdout"), (2, "stderr")) if number != fd})
        return done.returncode, done.stderr

    w("put", "-", "x", input=b"x" * 100_000)
    for words in (["get", "x"], ["ls"], ["stat", "x"]):
        code, err = closed(1, *words)
        assert code == REFUSED and b"cannot write to standard output: Bad file descriptor" in err, (words, err)
    code, err = closed(0, "put", "-", "y")
    assert code == REFUSED and b"cannot read standard input: Bad file descriptor" in err
    assert closed(2, "get", "y") == (REFUSED, None)
    assert closed(0, "get", "x") == (DONE, b"")
    assert w.names() == ["x"] and w("get", "x") == b"x" * 100_000


NAMES = [b"with spaces  and\ttabs", "größe/日本語/🙂".encode(), b"new\nline", b"-r", b"--help",
         b"quote'\"\\", b"\x1b[31mred\x07", b".hidden", b"a//b", b".", b"..", b"a/../b",
         b"x" * 1024, ("é" * 512).encode(), b"a/" * 511 + b"bc", b"*?[]$`;&|", b"\xc2\x9b31m"]


@pytest.mark.parametrize("name", NAMES, ids=lambda n: ascii(n[:20]))
def test_any_name_of_utf8_up_to_1024_bytes_is_a_name(w, name):
    w("put", "--", "-", name, input=name)
    assert w("get", "--", name) == name
    assert w.names("-r") == [name.decode()]
    assert w("ls", "-r") == name + b"\n"
    assert json.loads(w("stat", "--json", "--", name))["path"] == name.decode()
    w("mv", "--", name, b"other")
    w("mv", "--", b"other", name)
    w("wait", "--", name)
    w("rm", "--", name)
    assert w.names("-r") == []


def test_what_is_no_name_is_refused_and_told_in_one_line(w):
    w("put", "-", "", input=b"", code=REFUSED, status="INVALID")
    w("get", "", code=REFUSED, status="DIRECTORY")
    assert b"`wadi get /%s/`" % w.job.encode() in w.run("get", "").stderr
    for name, status in ((b"x" * 1025, "TOOLARGE"), (b"\xff\xfe", "INVALID"),
                         (b"a\xc0\xaf", "INVALID"), (b"\xed\xa0\x80", "INVALID")):
        for command in (("put", "-"), ("rm",), ("wait", "--timeout", "1s")):
            w(*command, name, input=b"", code=REFUSED, status=status)
        w("get", name, code=REFUSED)
    done = w.run("get", b"no\nsuch\x1b[31mthing")
    assert done.returncode == REFUSED
    assert done.stderr.startswith(b"wadi: get /%s/no\\nsuch\\x1b[31mthing: NOTFOUND: " % w.job.encode())


def test_wait_returns_when_the_object_comes(w):
    w("wait", "x", "--timeout", "100ms", code=LATE, status="TIMEOUT")
    assert w.run("get", "x", "--wait", "100ms").returncode in (REFUSED, LATE)
    waiters = [w.start("wait", "x", "--timeout", "60s"), w.start("get", "x", "--wait", "60s"),
               w.start("wait", "./x", "--timeout", "60s")]
    until(lambda: w.top()["waiting"] >= 3, "three to wait")
    w("put", "-", "x", input=b"here")
    assert finish(waiters[0]) == (DONE, b"", b"")
    assert finish(waiters[1]) == (DONE, b"here", b"")
    w("put", "-", "./x", input=b"another name")
    assert finish(waiters[2])[0] == DONE
    w("wait", "x")


def test_wait_count_returns_when_there_are_so_many(w):
    w("put", "-", "d/1", input=b"")
    w("wait", "d/", "--count", 1)
    w("wait", "d/", "--count", 2, "--timeout", "100ms", code=LATE, status="TIMEOUT")
    waiters = [w.start("wait", path, "--count", 3, "--timeout", "60s") for path in ("d", "d/", f"/{w.job}/d")]
    until(lambda: w.top()["waiting"] >= 3, "three to wait")
    w("put", "-", "d/2", input=b"")
    w("put", "-", "d/e/3", input=b"")  # not directly in d
    assert all(waiter.poll() is None for waiter in waiters)
    w("put", "-", "d/3", input=b"")
    assert [finish(waiter)[0] for waiter in waiters] == [DONE] * 3


def test_a_wait_ends_when_its_job_does(store):
    w = store.job()
    waiters = [w.start("wait", "x", "--timeout", "60s"), w.start("wait", "d", "--count", 2, "--timeout", "60s"),
               w.start("get", "x", "--wait", "60s")]
    until(lambda: w.top()["waiting"] >= 3, "three to wait")
    store.client()("job", "end", w.job)
    for waiter in waiters:
        code, _, err = finish(waiter)
        assert code == REFUSED, err
        assert b": JOBENDED: " in err or b": NOJOB: " in err, err
