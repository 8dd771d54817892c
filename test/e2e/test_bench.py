"""`wadi bench`: its lines of JSON, its peers, its picture; and it leaves nothing behind.

What the figures are worth is asked in test_worker.c and test_histogram.c, on a clock of
their own: here they only have to be there, and to agree with each other.
"""
import json
import os
import shutil
import signal
import subprocess
import time
import xml.etree.ElementTree

import pytest

from cluster import is_there
from conftest import DONE, REFUSED, UNREACHABLE, USAGE, WADI, catches, clean_environment, run_wadi, until

FIELDS = ["bench", "op", "system", "attach", "size", "clients", "depth", "p50_us", "p99_us",
          "p999_us", "max_us", "ops_per_s", "mb_per_s", "server_cpu_us", "client_cpu_us", "mode", "behind_cpu_us",
          "beside_mb_per_s"]
QUICK = ["--pairs", "2", "--seconds", "1", "--memory", "512M"]


def bench(*args, code=DONE, env=None):
    done = run_wadi("bench", *args, *QUICK, env=env, timeout=300)
    told = done.stderr.decode()
    assert done.returncode == code, told
    return done.stdout.decode(), told


def rows(*args, env=None):
    out, told = bench(*args, "--json", env=env)
    assert told == "", told
    return [json.loads(line) for line in out.splitlines()]


def test_each_row_has_the_fields_that_programs_read():
    all_rows = rows("--sizes", "100K", "--peer", "raw")
    assert [(r["op"], r["size"], r["system"]) for r in all_rows] == [
        (op, 102400, system) for op in ("get", "put") for system in ("wadi", "raw", "raw-polling")]
    for row in all_rows:
        assert list(row) == FIELDS
        assert (row["attach"], row["clients"], row["depth"], row["mode"]) == ("proxy", 1, 1, "quiet")
        assert 0 < row["p50_us"] <= row["p99_us"] <= row["p999_us"] <= row["max_us"]
        assert row["ops_per_s"] > 0 and row["server_cpu_us"] > 0 and row["client_cpu_us"] > 0
        # Both are rounded, and are small where the machine has other work.
        rounded = 0.05 * row["size"] / 1e6 + 0.0005
        assert row["mb_per_s"] == pytest.approx(row["ops_per_s"] * row["size"] / 1e6, rel=0.01, abs=rounded)


def test_every_bench_of_the_store_runs():
    names = ["create", "stat", "list", "remove", "wait", "mixed", "open"]
    found = {r["bench"]: r for r in rows(*names, "--attach", "host")}
    assert list(found) == names
    assert found["mixed"]["op"] == found["open"]["op"] == "get"
    # As many as are due; fewer only where the machine has other work.
    assert 0 < found["mixed"]["ops_per_s"] < 1200 and found["mixed"]["beside_mb_per_s"] > 1
    assert all(r["beside_mb_per_s"] is None for r in found.values() if r["bench"] != "mixed")
    assert all(r["attach"] == "host" and r["ops_per_s"] > 0 for r in found.values())
    # The floor has no long values beside it: it shows what the machine gives such gets.
    floor = rows("mixed", "--peer", "raw")[1]
    assert floor["system"] == "raw" and floor["beside_mb_per_s"] is None and 0 < floor["ops_per_s"] < 1200
    batch = rows("batch", "--sizes", "64", "--depth", "16")
    assert [(r["op"], r["depth"]) for r in batch] == [("get", 16), ("put", 16)]


def test_every_way_to_attach_does_the_same_work(tmp_path):
    plot = tmp_path / "attach.svg"
    out, told = bench("attach", "--sizes", "100,200K", "--json", "--plot", plot)
    found = [json.loads(line) for line in out.splitlines()]
    assert told == "", told
    ways = ["host", "sidecar", "proxy", "direct"]
    cells = [("start", 64), ("cold", 64), ("open", 64), *((op, size) for op in ("get", "put") for size in (100, 204800))]
    assert [(r["op"], r["size"], r["attach"]) for r in found] == [(*c, way) for c in cells for way in ways]
    assert all(r["bench"] == "attach" and r["system"] == "wadi" and r["p50_us"] > 0 for r in found)
    by = {(r["op"], r["size"], r["attach"]): r for r in found}
    for way in ways:
        row = by["get", 204800, way]
        assert (row["behind_cpu_us"] is None) == (way in ("host", "proxy"))
        assert (row["server_cpu_us"] is None) == (way == "direct")
        assert by["cold", 64, way]["client_cpu_us"] is None and row["client_cpu_us"] > 0
    # A process is made before it opens a handle. These are other processes, and the machine may have had other work then.
    assert any(by["start", 64, way]["p50_us"] > by["cold", 64, way]["p50_us"] for way in ways)
    # A sidecar asks the store for what it has no memory of its own for.
    assert by["get", 204800, "sidecar"]["behind_cpu_us"] > 1
    text = "".join(xml.etree.ElementTree.parse(plot).getroot().itertext())
    assert "sidecar" in text and "attach, get: throughput by size" in text and "attach, put: latency by size" in text


def test_any_bench_attaches_as_it_is_told():
    row, = rows("get", "--sizes", "100", "--attach", "sidecar")
    assert row["attach"] == "sidecar" and row["behind_cpu_us"] > 0


def test_a_table_names_the_ways_to_attach(w, store):
    env = clean_environment(WADI_ENDPOINT=store.endpoints["unix"], WADI_TOKEN=w.token)
    for options, name in ((["--attach", "sidecar"], "sidecar"), ([], "host")):
        out, _ = bench("attach", "--sizes", "100", *options, env=env)
        heads = [line for line in out.splitlines() if " 1 in flight, each way to attach, quiet, 2 pairs" in line]
        assert [head.split(" of ")[0] for head in heads] == ["attach: " + op for op in ("start", "cold", "open", "get", "put")]
        assert out.count(f"\n{name} ") == 5, out
        assert out.count(f"behind  {name} / it: p50") == 5


def test_a_fresh_process_that_gets_nothing_says_why(store):
    done = run_wadi("bench", "--first", "nothing", "--sizes", "64", env=clean_environment(WADI_ENDPOINT=store.endpoints["tcp"]))
    assert done.returncode == 1 and b"NOTFOUND" in done.stderr and done.stdout == b""


def test_the_catalog_alone_needs_no_store():
    found = rows("catalog", "--objects", "20000")
    assert [r["op"] for r in found] == ["create", "get", "put"]
    assert all(r["attach"] == "none" and r["client_cpu_us"] is None for r in found)
    row, = rows("log")
    assert row["op"] == "append" and row["ops_per_s"] > 10000


def test_the_index_alone_is_asked_for_small_and_large_objects():
    found = rows("index", "--objects", "1000")
    assert [(r["op"], r["size"], r["attach"]) for r in found] == [("get", 64, "none"), ("get", 64 << 20, "none")]
    assert all(r["ops_per_s"] > 10000 for r in found)
    row, = rows("index", "--objects", "64", "--sizes", "1M")
    assert row["size"] == 1 << 20


@pytest.mark.parametrize("attach, op", [("proxy", "create"), ("host", "get")])
def test_peers_do_the_same_work(attach, op):
    peers = ["redis"] * bool(shutil.which("redis-server")) + ["memcached"] * bool(shutil.which("memcached"))
    if not peers:
        pytest.skip("neither redis-server nor memcached is installed")
    found = rows(op, "--peer", ",".join(peers), "--peer", "dir", "--attach", attach, "--sizes", "3000")
    assert [r["system"] for r in found] == ["wadi", *peers, "dir"]
    for row in found:
        assert row["op"] == op and (row["server_cpu_us"] is None) == (row["system"] == "dir")
    many = rows("get", "--peer", peers[0], "--attach", attach, "--sizes", "100", "--clients", "20")
    assert [(r["system"], r["clients"]) for r in many] == [("wadi", 20), (peers[0], 20)]


def test_the_floor_of_one_host_is_memory_too():
    found = rows("get", "put", "--peer", "raw", "--attach", "host", "--sizes", "100,200K")
    systems = ["wadi", "raw", "raw-polling", "futex", "memory-polling", "memcpy"]
    assert [r["system"] for r in found] == systems * 4
    # One client alone can sleep on a word.
    found = rows("get", "--peer", "raw", "--attach", "host", "--sizes", "100", "--clients", "3")
    assert [r["system"] for r in found] == systems[:3]
    assert all(r["ops_per_s"] > 0 and r["server_cpu_us"] is not None for r in found)


def test_a_table_says_how_many_pairs_and_the_interval(tmp_path):
    plot = tmp_path / "bench.svg"
    out, _ = bench("get", "--sizes", "4K", "--clients", "1,5", "--peer", "raw", "--awake", "--plot", plot)
    assert out.count(", proxy, awake, 2 pairs\n") == 2
    assert "get of 4 KiB, 1 client, 1 in flight" in out and "get of 4 KiB, 5 clients, 1 in flight" in out
    for line in out.splitlines():
        if line.startswith("raw"):
            assert line.count("(") == 2, line
    # Of two pairs there are none with 95 %.
    assert out.count("wadi / it: p50, ops/s (all)\n") == 2
    picture = xml.etree.ElementTree.parse(plot).getroot()
    text = "".join(picture.itertext())
    assert "throughput by clients" in text and "raw-polling" in text


def test_nothing_is_left_in_a_store_that_was_named(w, store):
    env = clean_environment(WADI_ENDPOINT=store.endpoints["tcp"], WADI_TOKEN=w.token)
    # In so short a turn more are put than there is time to remove, and one thread comes further than another.
    done = run_wadi("bench", "create", "remove", "--threads", "2", "--clients", "2", "--seconds", "1", "--pairs", "30",
                    "--json", env=env)
    assert (done.returncode, done.stderr) == (DONE, b"")
    assert [json.loads(line)["op"] for line in done.stdout.splitlines()] == ["create", "remove"]
    assert w.names("-r") == []


def test_what_opens_a_handle_for_each_request_has_no_other_load():
    for options in (["--clients", "2"], ["--depth", "2"], ["--rate", "100"]):
        out, told = bench("open", *options)
        assert out == "" and told.startswith("wadi: bench: left out: who opens a handle")
    found = rows("open", "--attach", "host", "--peer", "raw")
    assert [r["system"] for r in found] == ["wadi", "raw", "raw-polling", "futex", "memory-polling"]


def test_a_floor_has_as_many_threads_as_the_store():
    floors = ["raw", "raw-polling"]
    for clients, expected in (("1", floors), ("4", [])):
        found = rows("get", "--sizes", "64", "--threads", "2", "--clients", clients, "--peer", "raw")
        assert [r["system"] for r in found] == ["wadi", *expected]


def test_an_empty_directory_has_no_list():
    out, told = bench("list", "--sizes", "0")
    assert out == "" and told.startswith("wadi: bench: left out: a directory without entries")


def test_a_rate_is_what_was_asked_for():
    row, = rows("get", "--sizes", "64", "--rate", "20")
    # Fewer only where the machine has other work.
    assert 0 < row["ops_per_s"] <= 20


def test_who_moves_no_bytes_has_no_throughput_of_them():
    assert all(r["mb_per_s"] == 0 for r in rows("stat", "remove", "index", "--sizes", "4K", "--objects", "64"))


def test_cpu_time_is_of_all_processes_of_a_store():
    out, _ = bench("get", "--sizes", "200K", "--attach", "direct")
    assert float(out.splitlines()[-1].split()[7]) > 1, out


def test_another_store_is_measured_where_one_is_named(w, store):
    for endpoint in (store.endpoints["tcp"], store.endpoints["unix"]):
        env = clean_environment(WADI_ENDPOINT=endpoint, WADI_TOKEN=w.token)
        row, = rows("get", "--sizes", "64", env=env)
        assert row["attach"] == ("host" if endpoint.startswith("unix") else "proxy")
        # Whose process that is, only a Unix socket tells.
        assert (row["server_cpu_us"] is None) == endpoint.startswith("tcp")


@pytest.mark.parametrize("args, words", [
    (["gte"], "did you mean get?"),
    (["--attach", "sidcar"], "did you mean sidecar?"),
    (["--sizes", "64,x"], "is not a list"),
    (["--clients", "0"], "--clients: 0 is too small"),
    (["--peer", "raw,redsi"], "did you mean redis?"),
    (["--seconds", "0"], "--seconds"),
    (["--rate", "4"], "type --rate 5 or more"),
    (["--rate", "5", "--pairs", "16"], "type --rate 6 or more"),
    (["--rate", "19", "--pairs", "10", "--threads", "2", "--seconds", "1"], "type --rate 20 or more"),
    (["--endpoint", "udp://x"], "is not an endpoint"),
])
def test_wrong_words_are_told(args, words):
    done = run_wadi("bench", *args)
    assert done.returncode == USAGE and words in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1 and done.stdout == b""


def test_rows_that_nobody_reads_are_not_measured():
    process = subprocess.Popen([WADI, "bench", "--sizes", ",".join(map(str, range(32))), *QUICK], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=clean_environment())
    process.stdout.readline()
    process.stdout.close()
    try:
        assert process.stderr.read() == b"wadi: bench: cannot write to standard output: Broken pipe\n"
        assert process.wait(30) == REFUSED
    finally:
        process.kill()
        process.wait()


def test_what_cannot_be_had_is_told():
    out, told = bench("get", "--endpoint", "tcp://127.0.0.1:1", code=UNREACHABLE)
    assert out == "" and "127.0.0.1:1" in told
    _, told = bench("get", "--sizes", "64", "--peer", "redis", env=clean_environment(PATH="/nonexistent"))
    assert told == ("wadi: bench: left out: redis: redis-server did not become ready; is it installed?\n")
    _, told = bench("get", "--sizes", "64", "--plot", "/nonexistent/x.svg", code=REFUSED)
    assert "/nonexistent/x.svg" in told


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def test_who_fills_a_catalog_is_interrupted():
    process = subprocess.Popen([WADI, "bench", "catalog", "--objects", "50000000"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, env=clean_environment())
    try:
        until(lambda: catches(process.pid, signal.SIGINT), "its handler")
        time.sleep(0.5)  # it is at it
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == b"wadi: bench: CANCELED: interrupted\n"
        assert process.returncode == REFUSED
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_its_servers_end_with_it_however_it_ends(number):
    process = subprocess.Popen([WADI, "bench", "get", "--sizes", "64", "--peer", "raw", "--seconds", "30"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_environment())
    try:
        # The store and two floors.
        children = until(lambda: len(children_of(process.pid)) == 3 and children_of(process.pid), "its servers")
        assert catches(process.pid, signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(number)
        told = process.stderr.read().decode()
        assert process.wait(30) == (-number if number == signal.SIGKILL else REFUSED), told
        assert told == ("" if number == signal.SIGKILL else "wadi: bench: CANCELED: interrupted\n")
        until(lambda: not any(is_there(child) for child in children), "the end of its servers")
    finally:
        process.kill()
        process.wait()
