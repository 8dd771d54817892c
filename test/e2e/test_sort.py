"""The bucket sort: real functions over each store, killed, starved and compared with sort(1).

Sizes are for CI. With WADI_TEST_LARGE set, the sizes of a real evening are tested as well: 4 GB
with 128 MiB per function, and hundreds of megabytes of text over each store.
"""
import contextlib
import glob
import gzip
import json
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import fcntl
import time
import zlib

import pytest
from cluster import is_there
from conftest import (BUILD, DONE, LATE, LATE_S, REFUSED, UNREACHABLE, USAGE, WADI, Store, clean_environment, is_readable,
                      until)

SORT = os.path.join(BUILD, "apps/sort/wadi-sort")
FUNCTION = os.path.join(BUILD, "apps/sort/wadi-sort-fn")
IS_LARGE = bool(os.environ.get("WADI_TEST_LARGE"))
MIB = 1 << 20
SUM_OF_A_MILLION = "7a27e2d0d55de"

pytestmark = pytest.mark.skipif(not os.path.exists(SORT), reason="no " + SORT)


@pytest.fixture
def place():
    """A directory in memory, if the machine has one; these tests are not about disks."""
    path = tempfile.mkdtemp(prefix="wadi-sort-test-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Directory:
    """dir:PATH"""
    name = "dir"

    def __init__(self, place):
        self.path = os.path.join(place, "store")
        os.mkdir(self.path)
        self.options = ["--store", "dir:" + self.path]
        self.env = {}

    def left(self):
        return os.listdir(self.path)

    def stop(self):
        pass


class Memory:
    """memory:, where functions are threads"""
    name = "memory"
    options, env = ["--store", "memory:"], {}

    def __init__(self, place):
        pass

    def left(self):
        return []

    def stop(self):
        pass


class Redis:
    """A Redis server of our own on a Unix socket."""
    name = "redis"

    def __init__(self, place):
        if not shutil.which("redis-server"):
            pytest.skip("no redis-server")
        self.path = os.path.join(place, "redis")
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: os.path.exists(self.path) and self.cli("ping") == "PONG", "redis-server")
        self.options = ["--store", "redis://" + self.path]
        self.env = {}

    def cli(self, *words):
        return subprocess.run(["redis-cli", "-s", self.path, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=False).stdout.strip()

    def left(self):
        return self.cli("keys", "*").split()

    def stop(self):
        self.process.kill()
        self.process.wait()


class Wadi:
    """The store that tests share; each sort makes a job of its own in it."""
    name = "wadi"

    def __init__(self, store):
        self.store = store
        self.options = []
        self.env = {"WADI_ENDPOINT": store.endpoints["tcp"]}

    def left(self):
        return [job["name"] for job in self.store.client().top()["jobs"]
                if job["name"].startswith("sort-") and (job["dram_bytes"] or not job["has_ended"])]

    def stop(self):
        pass


@pytest.fixture(params=["dir", "memory", "redis", "wadi"])
def peer(request, place):
    """Each store in turn; whatever a test did to its sorts, nothing may be left in it."""
    if request.param == "wadi":
        if not os.path.exists(WADI):
            pytest.skip("no " + WADI)
        peer = Wadi(request.getfixturevalue("store"))
    else:
        peer = {"dir": Directory, "memory": Memory, "redis": Redis}[request.param](place)
    yield peer
    try:
        # An end is acknowledged when nobody serves the job any more; that its bytes are counted as gone takes longer now and then.
        until(lambda: peer.left() == [], f"nothing to be left in {peer.name}")
    finally:
        peer.stop()


@pytest.fixture
def directory(place):
    yield Directory(place)


@pytest.fixture(scope="module")
def orphan():
    """A store with the job of a driver that was killed, and when that was."""
    if not os.path.exists(WADI):
        pytest.skip("no " + WADI)
    store = Store()
    try:
        with tempfile.TemporaryDirectory() as place:
            process = start(place, "--generate", "200M", "--maps", 2, "--reduces", 64, "--function-memory", "32M",
                            env={"WADI_ENDPOINT": store.endpoints["tcp"]})
            until(lambda: store.client().top()["dram_used"] > 64 * MIB, "its data")
            lost_s = time.monotonic()
            process.kill()
            process.communicate()
            until(lambda: os.listdir(place) == [], "no file to be left")
        assert store.client().top()["objects"] > 0
        yield store, lost_s
    finally:
        store.kill()


def start(place, *options, env=None, **how):
    words = [str(o) for o in options]
    return subprocess.Popen([SORT, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            cwd=place, env=clean_environment(TMPDIR=place, **(env or {})), text=True,
                            errors="surrogateescape", **how)


def sort(place, *options, code=DONE, env=None, late_s=4 * LATE_S):
    """The report of a sort, or the sentence with which it failed. No file of its own may be left."""
    process = start(place, *options, "--json", env=env)
    try:
        out, err = process.communicate(timeout=late_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == code, (options, process.returncode, out, err)
    assert [name for name in os.listdir(place) if name.startswith("wadi-sort-")] == []
    if code != DONE:
        assert out == "" and re.fullmatch(r"wadi sort: [^\n]*\n", err), (out, err)
        return err
    assert err == "", err
    report = json.loads(out)
    assert report["verified"] is True
    return report


def parts(directory):
    return sorted(glob.glob(os.path.join(directory, "*")))


def content(directory):
    return b"".join(open(path, "rb").read() for path in parts(directory))


def stage(report, name):
    return next(s for s in report["stages"] if s["stage"] == name)


# First of all, so that nobody has to wait for the lease's end.
@pytest.mark.usefixtures("orphan")
def test_a_million_records_have_the_published_sum_before_and_after(place, peer):
    output = os.path.join(place, "out")
    report = sort(place, "--generate", 100_000_000, "--maps", 4, "--reduces", 3, "--output", output,
                  *peer.options, env=peer.env)
    assert (report["sum"], report["count"], report["duplicates"]) == (SUM_OF_A_MILLION, 1_000_000, 0)
    assert report["store"] == peer.name and report["attach"] == ("proxy" if peer.name == "wadi" else None)
    assert [os.path.basename(p) for p in parts(output)] == ["part-00000", "part-00001", "part-00002"]
    assert (report["gb_s"] is not None) == (peer.name == "wadi")
    # Not only our own validator's word.
    whole = content(output)
    records = [whole[i:i + 100] for i in range(0, len(whole), 100)]
    assert all(a[:10] <= b[:10] for a, b in zip(records, records[1:]))
    assert sum(map(zlib.crc32, records)) == int(SUM_OF_A_MILLION, 16)


def test_records_of_files_are_sorted_and_a_seed_makes_others(place, directory):
    """What one sort wrote is the next one's input, a file at a time and as a directory."""
    first, second, third = (os.path.join(place, name) for name in ("first", "second", "third"))
    made = sort(place, "--generate", "3M", "--seed", 9, "--output", first, "--reduces", 3, *directory.options)
    assert made["sum"] != sort(place, "--generate", "3M", *directory.options)["sum"]
    again = sort(place, "--input", first, "--output", second, "--maps", 5, "--reduces", 2, *directory.options)
    assert (again["sum"], again["count"]) == (made["sum"], made["count"])
    inputs = [word for path in reversed(parts(first)) for word in ("--input", path)]
    sort(place, *inputs, "--output", third, "--reduces", 1, *directory.options)
    assert content(first) == content(second) == content(third)


def test_skewed_keys_make_buckets_that_are_alike(place, peer):
    output = os.path.join(place, "out")
    sort(place, "--generate", "20M", "--skew", "zipf", "--maps", 4, "--reduces", 8, "--output", output,
         *peer.options, env=peer.env)
    sizes = [os.path.getsize(path) for path in parts(output)]
    assert len(sizes) == 8 and max(sizes) <= 1.5 * sum(sizes) / 8, sizes
    narrow = sum(whole == b"\x9e\x37" for whole in re.findall(rb"(?s)(..).{98}", content(output)))
    assert narrow > 0.88 * sum(sizes) / 100


def test_equal_keys_are_one_bucket_larger_than_a_function(place, peer):
    report = sort(place, "--generate", "60M", "--skew", "equal", "--function-memory", "32M", "--maps", 100,
                  "--reduces", 2, *peer.options, env=peer.env)
    # A hundred windows of 256 KiB do not fit, so runs were merged in two rounds.
    assert report["duplicates"] == report["count"] - 1
    assert stage(report, "reduce")["ephemeral_written_bytes"] > 60_000_000
    assert peer.name == "memory" or max(s["peak_memory"] for s in report["stages"]) <= 32 * MIB


def sources():
    """Word lists, documentation, then whatever else is text."""
    for top in ("/usr/share/dict", "/usr/share/doc", "/usr/share"):
        for root, _, names in os.walk(top):
            for name in sorted(names):
                path = os.path.join(root, name)
                if not os.path.islink(path) and (top.endswith("dict") or name.endswith(
                        (".gz", ".txt", ".html", "copyright", ".md", ".xml", ".h", ".py", ".pm", ".1"))):
                    yield path


def text(path, size):
    """Of this machine's own, in a few scripts and lengths, with all that is unusual about lines."""
    rng = random.Random(4)
    with open(path, "wb") as out:
        for source in sources():
            if out.tell() >= size:
                return
            try:
                with (gzip.open if source.endswith(".gz") else open)(source, "rb") as file:
                    out.write(file.read(4 * MIB))
            except OSError:
                continue
            if rng.random() < 0.05:
                out.write(b"\n\n\n" + b"x" * rng.choice([8, 9, MIB, MIB + 1]) + b"\n \n\0\n\0\0\n\xff\n")


def texts(place, size):
    source = os.path.join(place, "in")
    os.mkdir(source)
    text(os.path.join(source, "a"), size)
    for name, data in (("b", b"no newline at the end"), ("c", b""), ("d", b"\n"), ("e", b"\n\nb\n\na"),
                       ("f", b"z" * (2 * MIB) + b"\n" + b"z" * (2 * MIB - 1))):
        with open(os.path.join(source, name), "wb") as out:
            out.write(data)
    return source


def check_lines(place, source, *options, env=None):
    output = os.path.join(place, "out")
    want = subprocess.run(["sort", *parts(source)], env={**os.environ, "LC_ALL": "C"}, stdout=subprocess.PIPE,
                          check=True).stdout
    report = sort(place, "--format", "lines", "--input", source, "--output", output, *options, env=env)
    assert content(output) == want
    assert report["count"] == want.count(b"\n")
    shutil.rmtree(output)
    return report


def test_lines_are_sorted_as_sort_does(place, peer):
    is_large = peer.name == "wadi" and shutil.disk_usage(place).free > 2 << 30
    source = texts(place, 300_000_000 if IS_LARGE or is_large else 20_000_000)
    report = check_lines(place, source, "--maps", 5, "--reduces", 4, "--function-memory", "32M", *peer.options,
                         env=peer.env)
    assert peer.name == "memory" or max(s["peak_memory"] for s in report["stages"]) <= 32 * MIB


def test_few_bytes_and_many_functions(place, directory):
    source = os.path.join(place, "in")
    os.mkdir(source)
    for data in (b"", b"\n", b"a", b"b\na", b"\n\n\n", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"):
        with open(os.path.join(source, "file"), "wb") as out:
            out.write(data)
        check_lines(place, source, "--maps", 7, "--reduces", 3, *directory.options)


def test_a_line_that_is_too_long_is_named(place, directory):
    path = os.path.join(place, "long")
    with open(path, "wb") as out:
        out.write(b"short\n" + b"x" * (8 * MIB) + b"\n")
    report = sort(place, "--format", "lines", "--input", path, "--function-memory", "32M", *directory.options)
    # 4,096 samples of one line, and its begin is looked for once in each share.
    assert 8 * MIB < stage(report, "sample")["bytes"] < 40 * MIB
    with open(path, "ab") as out:
        out.write(b"y" * (8 * MIB + 1))
    told = sort(place, "--format", "lines", "--input", path, "--function-memory", "32M", *directory.options,
                code=REFUSED)
    assert f"{path}: the line at offset {8 * MIB + 7} is longer than {8 * MIB} bytes" in told
    assert "--function-memory" in told and "four times" not in told


@pytest.mark.parametrize("percent", [10, 60])
def test_functions_may_die_at_any_moment(place, peer, percent):
    report = sort(place, "--generate", "40M", "--kill", percent, "--seed", percent, "--maps", 6, "--reduces", 6,
                  "--function-memory", "32M", *peer.options, env=peer.env)
    runs = sum(s["runs"] for s in report["stages"])
    functions = sum(s["functions"] for s in report["stages"])
    assert report["killed"] == runs - functions
    # Some end before their killer comes; he comes to another then, so the share is right all the same.
    assert 0.6 * percent / 100 * runs <= report["killed"] + 2


def test_killed_functions_change_no_byte(place, directory):
    calm, wild = os.path.join(place, "calm"), os.path.join(place, "wild")
    options = ["--generate", "20M", "--skew", "zipf", "--maps", 5, "--reduces", 4, "--seed", 3, *directory.options]
    sort(place, *options, "--output", calm)
    sort(place, *options, "--output", wild, "--kill", 40)
    assert content(calm) == content(wild)
    assert len(os.listdir(wild)) == 4


def test_a_function_holds_no_more_than_it_may(place, directory):
    for memory, size in ((32, "60M"), (64, "150M")):
        report = sort(place, "--generate", size, "--maps", 1, "--reduces", 1, "--function-memory", f"{memory}M",
                      *directory.options)
        peaks = {s["stage"]: s["peak_memory"] for s in report["stages"]}
        assert max(peaks.values()) <= memory * MIB, peaks
        # And makes use of what it may hold.
        assert peaks["map"] >= memory * MIB / 2, peaks


def children_of(pid):
    """Process id and words of each; one of them may end meanwhile, or all."""
    found = {}
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = file.read().split()
        for child in children:
            with contextlib.suppress(OSError), open(f"/proc/{child}/cmdline", "rb") as file:
                found[int(child)] = file.read().decode().split("\0")
    return found


def functions_of(pid):
    return [child for child, words in children_of(pid).items() if "wadi-sort-fn" in words[0]]


def threads_of(pid):
    """Of a process whose functions they are."""
    return [int(word) for word in os.listdir(f"/proc/{pid}/task") if int(word) != pid]


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_the_output_is_verified_or_absent(place, directory, number):
    """Stopped when some parts are written, and killed: then somebody else removes what is there."""
    output = os.path.join(place, "out")
    process = start(place, "--generate", "300M", "--maps", 8, "--reduces", 32, "--output", output, *directory.options,
                    start_new_session=True)
    until(lambda: process.poll() is not None or glob.glob(f"{output}/.wadi-sort-*/part-*"), "a part")
    assert parts(output) == []
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=LATE_S)
    assert process.returncode == (-number if number == signal.SIGKILL else REFUSED), (out, err)
    until(lambda: os.listdir(output) == [] and sorted(os.listdir(place)) == ["out", "store"], "no file to be left")
    until(lambda: directory.left() == [], "its job to go")


def test_two_sorts_do_not_share_an_output(place, directory):
    output = os.path.join(place, "out")
    process = start(place, "--generate", "100M", "--maps", 8, "--output", output, *directory.options)
    until(lambda: glob.glob(f"{output}/.wadi-sort-*"), "its begin")
    other = os.path.join(output, "part-00003")
    with open(other, "w") as file:
        file.write("another's")
    _, err = process.communicate(timeout=LATE_S)
    assert process.returncode == REFUSED and "has parts of another sort in it" in err
    assert os.listdir(output) == ["part-00003"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_leaves_nothing(place, peer, number):
    output = os.path.join(place, "out")
    process = start(place, "--generate", "2G", "--maps", 64, "--output", output, *peer.options, env=peer.env)
    children = until(lambda: process.poll() is not None or functions_of(process.pid) or threads_of(process.pid),
                     "functions")
    process.send_signal(number)
    out, err = process.communicate(timeout=LATE_S)
    assert process.returncode == REFUSED, (out, err)
    assert err == f"wadi sort: stopped by {signal.strsignal(number)}\n"
    assert all(is_gone(pid) for pid in children)
    assert sorted(set(os.listdir(place)) - {"store", "redis"}) == ["out"] and os.listdir(output) == []


def test_functions_die_with_their_driver(place, directory):
    process = start(place, "--generate", "2G", "--maps", 64, *directory.options)
    children = until(lambda: functions_of(process.pid), "functions")
    process.kill()
    process.communicate()
    until(lambda: all(is_gone(pid) for pid in children), "the end of the functions")


def test_a_store_of_its_own_dies_with_the_driver(place):
    if not os.path.exists(WADI):
        pytest.skip("no " + WADI)
    process = start(place, "--generate", "2G", "--maps", 64)
    until(lambda: functions_of(process.pid), "functions")
    children = children_of(process.pid)
    process.kill()
    process.communicate()
    until(lambda: all(is_gone(pid) for pid in children), "the end of store and functions")


def test_the_lease_ends_the_job_of_a_driver_that_was_killed(orphan):
    """After its 30 s, of which most have passed while others were tested."""
    store, lost_s = orphan
    top = until(lambda: (t := store.client().top()) and t["segments"] == 0 and t["value_bytes"] == 0 and t,
                "the end of the job", late_s=45)
    assert all(job["has_ended"] for job in top["jobs"] if job["name"].startswith("sort-"))
    assert [job["dram_bytes"] for job in top["jobs"]] == [0, 0] and top["objects"] == 0, top
    assert time.monotonic() - lost_s >= 20
    # Whose bill it was is known, and it is all that was counted.
    assert 0 <= int(top["dram_byte_ms"]) - sum(int(job["dram_byte_ms"]) for job in top["jobs"]) <= 2
    assert sum(int(job["dram_byte_ms"]) for job in top["jobs"]) > 20_000 * MIB


@pytest.mark.skipif(not IS_LARGE, reason="90,000 objects; WADI_TEST_LARGE runs it")
def test_a_store_of_its_own_has_room_for_many_small_objects(place):
    report = sort(place, "--generate", "10M", "--maps", 300, "--reduces", 300, late_s=300)
    assert stage(report, "map")["functions"] == 300


@pytest.mark.skipif(not IS_LARGE, reason="4 GB twice; WADI_TEST_LARGE runs it")
@pytest.mark.parametrize("store", ["wadi", "dir"])
def test_four_gigabytes_with_128_mib_per_function(place, store):
    options = Directory(place).options if store == "dir" else []
    report = sort(place, "--generate", "4G", "--function-memory", "128M", *options, late_s=900)
    assert report["store"] == store
    assert max(s["peak_memory"] for s in report["stages"]) <= 128 * MIB


@pytest.mark.parametrize("attach", ["proxy", "host", "sidecar", "direct"])
def test_every_way_to_attach_to_a_store_of_its_own(place, attach):
    """From a place whose name is too long for the path of a socket."""
    if not os.path.exists(WADI):
        pytest.skip("no " + WADI)
    deep = os.path.join(place, "d" * 120)
    os.mkdir(deep)
    options = ["--generate", "30M", "--maps", 4, "--reduces", 4, "--attach", attach]
    report = sort(deep, *options)
    assert report["store"] == "wadi" and report["gb_s"] > 0 and report["price_usd"] > 0
    assert report["attach"] == attach
    # Some buckets may be reduced and removed before the last map is heard of.
    assert stage(report, "map")["ephemeral_written_bytes"] > 30_000_000
    assert 7_500_000 < stage(report, "map")["tier_bytes"]["dram"] < 32_500_000
    assert stage(report, "validate")["tier_bytes"]["dram"] < 7_500_000
    for what in ("gb_s", "price_usd"):
        stages = [s[what] for s in report["stages"]]
        assert all(v >= 0 for v in stages) and stages[2] > 0
        assert sum(stages) == pytest.approx(report[what], rel=0.2)
    assert report["price_usd"] == pytest.approx(report["gb_s"] / 3600 * report["price_per_gb_hour"], rel=1e-4)


def servers_of(pid):
    """Each child of a driver that is a server: its pid, by its role."""
    return {words[1]: child for child, words in children_of(pid).items() if words[0] == "wadi"}


@pytest.mark.parametrize("attach, roles", [("host", {"dev"}), ("sidecar", {"meta", "store", "proxy"}),
                                           ("direct", {"meta", "store"})])
def test_its_servers_end_with_a_driver_that_was_killed(place, attach, roles):
    if not os.path.exists(WADI):
        pytest.skip("no " + WADI)
    process = start(place, "--generate", "200M", "--attach", attach)
    try:
        servers = until(lambda: set(found := servers_of(process.pid)) == roles and found, "its servers")
    finally:
        process.kill()
        process.communicate()
    until(lambda: not any(is_there(pid) for pid in servers.values()), "the end of its servers")
    until(lambda: os.listdir(place) == [], "no file to be left")


@pytest.mark.parametrize("attach, scheme", [("host", "unix"), ("sidecar", "unix"), ("proxy", "tcp"),
                                            ("direct", "direct")])
def test_the_endpoint_must_be_of_the_way_to_attach(place, store, attach, scheme):
    for kind in ("tcp", "unix"):
        endpoint = store.endpoints[kind]
        options = ["--generate", "1M", "--attach", attach]
        if kind == scheme:
            assert sort(place, *options, env={"WADI_ENDPOINT": endpoint})["attach"] == attach
        else:
            assert sort(place, *options, code=REFUSED, env={"WADI_ENDPOINT": endpoint}) == (
                f"wadi sort: --attach {attach} wants a {scheme}:// endpoint, and WADI_ENDPOINT is {endpoint}\n")
    guessed = sort(place, "--generate", "1M", env={"WADI_ENDPOINT": store.endpoints["tcp"]})
    assert guessed["attach"] == "proxy"


def test_wrong_words_are_answered_with_2(place):
    for options, want in (
            (["--generat", "1M"], "no option --generat; the nearest is --generate"),
            (["--generate", "1M", "--skew", "zipff"], "the nearest is 'zipf'"),
            (["--generate", "1M", "--attach", "sidcar"], "the nearest is 'sidecar'"),
            ([], "nothing to sort")):
        assert want in sort(place, *options, code=USAGE)


def test_what_cannot_work_says_why(place, directory):
    odd = os.path.join(place, "odd")
    with open(odd, "wb") as out:
        out.write(b"x" * 150)
    taken = os.path.join(place, "taken")
    os.mkdir(taken)
    strange = os.fsdecode(os.fsencode(place) + b"/caf\xe9")  # of which a request cannot tell
    with open(strange, "wb") as out:
        out.write(b"b\na\n")
    with open(os.path.join(taken, "part-00000"), "wb"):
        pass
    for options, want in (
            (["--input", odd], "150 bytes are no whole number of records of 100; text is --format lines"),
            (["--input", odd + "x"], "odd" "x: cannot read: No such file or directory"),
            (["--input", "/dev/null"], "/dev/null: neither a file nor a directory"),
            (["--format", "lines", "--input", strange], f"{strange}: this is not UTF-8"),
            (["--format", "lines", "--input", taken, "--output", strange + "-out"], "-out: this is not UTF-8"),
            (["--generate", "1M", "--output", taken], "has parts of another sort in it"),
            (["--generate", "1M", "--output", odd], "odd: cannot"),
            (["--generate", "1M", "--store", "redis://localhost:1?part=0"], "only part=SIZE")):
        assert want in sort(place, *options, *([] if "--store" in options else directory.options), code=REFUSED)
    for url in ("redis://127.0.0.1:1", "redis:///nowhere"):
        assert f"nobody answers at {url}" in sort(place, "--generate", "1M", "--store", url, code=UNREACHABLE)
    told = sort(place, "--generate", "500M", "--maps", 1, "--timeout", "100ms", *directory.options, code=LATE)
    assert told.startswith("wadi sort: generate 0: it took too long; --timeout sets how long it may run, four times")
    assert directory.left() == []


def test_a_pipe_sees_a_table_and_no_bar(place, directory):
    process = start(place, "--generate", "1M", "--maps", 2, "--reduces", 2, *directory.options)
    out, err = process.communicate(timeout=LATE_S)
    assert (process.returncode, err) == (DONE, "")
    assert "\x1b" not in out and "\r" not in out
    assert all(re.search(rf"^{name} +2 ", out, re.M) for name in ("generate", "sample", "map", "reduce", "validate"))
    assert re.search(r"^GB\*s: -$", out, re.M)
    assert re.search(r"^verified: 10485 records, sum [0-9a-f]+\nduplicates: 0 have the key of the one before$", out, re.M)


def test_a_report_that_cannot_be_written_is_told(place, directory):
    for options in ([], ["--json"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([SORT, "--generate", "1M", *options, *directory.options], stdout=full,
                                  stderr=subprocess.PIPE, cwd=place, env=clean_environment(TMPDIR=place), text=True,
                                  check=False)
        assert done.returncode == REFUSED
        assert done.stderr == ("wadi sort: sorted and verified, but cannot write the report: "
                               "No space left on device\n")
        assert os.listdir(place) == ["store"] and directory.left() == []


@pytest.mark.parametrize("columns", [60, 100])
def test_a_terminal_sees_a_bar_that_fits(place, directory, columns):
    """Stages that take longer than a second because their function is stopped for so long."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    options = directory.options if columns > 60 else []  # a store of its own has a bill to show
    process = subprocess.Popen([SORT, "--generate", "300M", "--maps", "4", "--reduces", "2", *options],
                               stdin=slave, stdout=slave, stderr=slave, cwd=place,
                               env=clean_environment(TMPDIR=place, TERM="xterm"))
    os.close(slave)
    children, shown, due = set(), b"", time.monotonic() + LATE_S
    while b"#" not in shown and b"[-" not in shown:
        # Those that were seen may have ended before they were stopped: then it is the next ones that are.
        for pid in functions_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                children.add(pid)
        if is_readable(master, time.monotonic() + 0.05):
            shown += os.read(master, 65536)
        assert time.monotonic() < due, shown
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    try:
        while True:
            more = os.read(master, 65536)
            if not more:
                break
            shown += more
    except OSError:
        pass
    os.close(master)
    assert process.wait(LATE_S) == DONE
    bars = re.findall(r"\r(\w+ +\[[#\- ]*\] \d of [24], \d+ s)\x1b\[K", shown.decode())
    assert bars and all(len(bar) == columns - 3 for bar in bars), shown
    lines = re.sub(r"\r[^\n]*\x1b\[K", "", shown.decode()).splitlines()
    assert len(lines) > 10 and not [line for line in lines if len(line) >= 60], lines


class Action:
    """wadi-sort-fn as a platform runs it."""

    def __init__(self, env=None):
        reply, theirs = os.pipe()
        self.replies = os.fdopen(reply, "rb")
        self.process = subprocess.Popen([FUNCTION], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=env or {}, pass_fds=(3,) if theirs == 3 else (),
                                        preexec_fn=lambda: theirs == 3 or os.dup2(theirs, 3), close_fds=theirs == 3)
        os.close(theirs)

    def __call__(self, line):
        self.process.stdin.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.replies.readline())

    def end(self):
        self.process.stdin.close()
        assert self.replies.read() == b""
        assert self.process.stdout.read() == b""
        self.replies.close()
        self.process.stdout.close()
        return self.process.wait(LATE_S)


def test_the_function_speaks_actionloop(place):
    path = os.path.join(place, "part")
    request = {"value": {"op": "generate", "output": path, "count": 10, "function_memory": 32 * MIB},
               "activation_id": "7", "deadline": "1"}
    action = Action({"__OW_WAIT_FOR_ACK": "1"})
    assert json.loads(action.replies.readline()) == {"ok": True}
    for _ in range(3):  # a warm function is used again
        assert action(request)["count"] == 10
        assert "error" in action(b"this is no JSON\n")
        assert "error" in action(b"[]\n")
        assert "error" in action({"value": {"op": "fly", "function_memory": 32 * MIB}})
    request["value"]["padding"] = "x" * (3 * MIB)
    assert action(request)["count"] == 10
    assert action.end() == 0
    assert os.path.getsize(path) == 1000


def test_without_the_wish_for_it_there_is_no_acknowledgement(place):
    for env in ({}, {"__OW_WAIT_FOR_ACK": ""}):
        action = Action(env)
        assert "error" in action({})
        assert action.end() == 0


def test_the_endpoint_may_come_from_the_environment_as_platforms_filter_it(place, w):
    value = {"op": "sample", "index": 5, "input": [], "function_memory": 32 * MIB, "store": {"job": w.job}}
    assert "names no store" in Action({})({"value": value})["error"]
    action = Action({"__OW_WADI_ENDPOINT": w.endpoint, "__OW_WADI_TOKEN": w.token})
    assert action({"value": value})["op"] == "sample"
    assert action.end() == 0
    assert w.names("samples/") == ["00005"]
