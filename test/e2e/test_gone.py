"""Stores whose host is lost, or that never come back, and what is said of their bytes.

A host is lost when the store and its keeper are killed at once. Metadata is killed with it, or not: it knows
from its log which stores there were.
"""
import json
import signal
import time

import pytest
from cluster import Cluster, kill_keepers, stop_all_of
from conftest import REFUSED, UNREACHABLE, pattern, told, until


@pytest.fixture
def new_cluster(tmp_path):
    made = []

    def make(**how):
        made.append(Cluster(str(tmp_path), **how))
        return made[-1]
    yield make
    for one in made:
        one.kill()


def lose_host(c):
    stop_all_of(c.roles["store"].process)  # so that it starts no other keeper
    kill_keepers(c.run_directory("store"))
    c.roles["store"].end(signal.SIGKILL)


def restart_meta(c):
    c.roles["meta"].end(signal.SIGKILL)
    c.start_meta(len(c.meta_ports))


def is_lost(w, path):
    return b": LOST: " in w.run("get", path, "--timeout", "2s").stderr


def bill(c, name):
    return next(job for job in c.admin.json("top")["jobs"] if job["name"] == name)


def goes_on(c, w):
    w("put", "-", "x", input=pattern(300_001))
    assert w("get", "x") == pattern(300_001)
    c.admin("job", "end", w.job)
    until(lambda: bill(c, w.job)["dram_bytes"] == 0, "the job to be cleared")
    with c.to_store() as store:
        until(lambda: store.call("INFO")["dram_used"] == 0, "all bytes to go")


@pytest.mark.parametrize("first", ["meta", "store"])
def test_a_lost_store_with_a_successor_is_lost_though_metadata_was_killed_too(new_cluster, first):
    c = new_cluster()
    w = c.job("j")
    w("put", "-", "small", input=pattern(2000))
    w("put", "-", "x", input=pattern(300_000))
    c.roles["meta"].end(signal.SIGKILL)
    lose_host(c)
    if first == "meta":
        c.start_meta(2)
    c.start_store()
    if first == "store":
        c.start_meta(2)
    until(lambda: is_lost(w, "x"), "the bytes to be lost")
    begun = time.monotonic()
    told = w.run("get", "x").stderr.decode()
    assert time.monotonic() - begun < 5
    assert ": LOST: " in told and "the store that had bytes of x has lost them; put it again" in told
    assert w("get", "small") == pattern(2000)
    assert bill(c, "j")["dram_bytes"] == 4096
    goes_on(c, w)


def agrees(c):
    bills = [line for line in c.admin.run("doctor", "--json").stdout.decode().splitlines() if '"bills"' in line]
    assert len(bills) == 1 and json.loads(bills[0])["level"] == "ok", bills
    return c.admin.json("top")["is_partial"]


@pytest.mark.parametrize("kills_meta", [False, True])
def test_a_store_that_never_comes_back_is_given_up(new_cluster, kills_meta):
    c = new_cluster(store_gone="8s")
    w = c.job("j")
    w("put", "-", "small", input=pattern(2000))
    w("put", "-", "x", input=pattern(300_000))
    assert not agrees(c)
    begun = time.monotonic()
    lose_host(c)
    if kills_meta:
        restart_meta(c)
    done = told(lambda: w.run("get", "x", "--timeout", "3s"))
    assert done.returncode == UNREACHABLE and b": UNREACHABLE: " in done.stderr, done.stderr
    until(lambda: is_lost(w, "x"), "the store to be given up")
    assert time.monotonic() - begun > 7
    assert "has not come back" in c.roles["meta"].told()
    assert w("get", "small") == pattern(2000)
    # What was there is paid no more: the small one's block is what goes on.
    at, before = time.monotonic(), bill(c, "j")
    assert before["dram_bytes"] == 4096
    time.sleep(1)
    after = bill(c, "j")
    paid, most = int(after["dram_byte_ms"]) - int(before["dram_byte_ms"]), (time.monotonic() - at) * 1000 * 4096
    assert 0 < paid <= most
    # The bill has what the store had counted, which nobody knows any more. That is known, whoever restarts.
    assert agrees(c)
    c.admin("job", "end", "j")
    until(lambda: bill(c, "j")["dram_bytes"] == 0, "the job to be cleared")
    c.start_store()
    goes_on(c, c.job("k"))
    restart_meta(c)
    assert agrees(c)


def test_a_store_of_which_nothing_is_left_is_missed_all_the_same(new_cluster):
    """The bills have what it had counted, whoever restarts, before it is given up and after."""
    c = new_cluster(store_gone="3s")
    w = c.job("j")
    w("put", "-", "x", input=pattern(3_000_000))
    w("rm", "x")
    with c.to_store() as store:
        until(lambda: store.call("INFO")["dram_used"] == 0, "its segments to be freed")
    assert not agrees(c)
    lose_host(c)
    restart_meta(c)
    assert agrees(c)

    def is_given_up():
        with c.to_meta() as meta:
            return meta.call("MAP")["store_count"] == 0
    until(is_given_up, "the store to be given up")
    assert agrees(c)
    restart_meta(c)
    assert agrees(c)


def test_a_job_that_has_ended_does_not_wait_for_its_store_for_ever(new_cluster):
    c = new_cluster(store_gone="8s")
    w = c.job("j")
    w("put", "-", "x", input=pattern(300_000))
    lose_host(c)
    c.admin("job", "end", "j")
    assert bill(c, "j")["dram_bytes"] > 300_000
    restart_meta(c)
    until(lambda: bill(c, "j")["dram_bytes"] == 0, "the job to be cleared")


def test_a_store_that_comes_back_in_time_has_its_bytes(new_cluster):
    c = new_cluster(store_gone="60s")
    w = c.job("j")
    w("put", "-", "x", input=pattern(300_000))
    c.roles["store"].process.send_signal(signal.SIGSTOP)
    restart_meta(c)
    time.sleep(2)
    c.roles["store"].process.send_signal(signal.SIGCONT)
    assert w("get", "x") == pattern(300_000)
    goes_on(c, w)


def test_a_store_that_comes_back_too_late_frees_what_it_has(new_cluster):
    c = new_cluster(store_gone="2s")
    w = c.job("j")
    w("put", "-", "x", input=pattern(300_000))
    with c.to_store() as store:
        assert store.call("INFO")["segment_count"] > 0
    c.roles["store"].process.send_signal(signal.SIGSTOP)
    restart_meta(c)
    until(lambda: is_lost(w, "x"), "the store to be given up")
    c.roles["store"].process.send_signal(signal.SIGCONT)
    with c.to_store() as store:
        until(lambda: store.call("INFO")["segment_count"] == 0, "its segments to be freed")
    w("get", "x", code=REFUSED, status="LOST")
    goes_on(c, w)
