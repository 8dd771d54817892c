"""What jobs are billed is what the store has counted, to the byte and the millisecond."""
import json
import os
import subprocess
import time

from conftest import WADI, build_target, until
from wire import Wire


def test_the_bills_of_all_jobs_are_the_stores_own_count(new_store, tmp_path):
    store = new_store()
    admin = store.client()
    (tmp_path / "x").write_bytes(os.urandom(3_000_000))
    (tmp_path / "y").write_bytes(os.urandom(100_000))
    jobs = [store.job() for _ in range(4)]
    for job in jobs:
        job("put", tmp_path / "x", "large")
        job("put", tmp_path / "y", "middle")
        for i in range(20):
            job("put", "-", f"small/{i}", input=b"v" * 1000)
        job("put", tmp_path / "y", "middle")  # replaced
        job("rm", "large")
    done = subprocess.run([WADI, "sort", "--generate", "30M", "--kill", "20"], env=admin.env(),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    time.sleep(0.1)  # for the bills to grow; nothing depends on how long it is
    for job in jobs:
        admin("job", "end", job.job)
    until(lambda: admin.json("top")["segments"] == 0 and admin.json("top")["value_bytes"] == 0,
          "the memory of ended jobs to be taken back")
    bills = [json.loads(line) for line in admin("usage", "--json").decode().splitlines()]
    assert len(bills) == 6  # default, four of ours, the sort's
    billed = sum(int(bill["dram_byte_ms"]) for bill in bills)
    counted = int(admin.json("top")["dram_byte_ms"])
    assert billed > 4 * 100_000 * 100
    # Each bill is rounded down to a millisecond; nothing else may differ.
    assert 0 <= counted - billed <= len(bills), (counted, billed)


def test_a_store_that_was_stopped_and_begins_anew_has_not_counted_what_was_before(new_store, tmp_path):
    options = ["--data", str(tmp_path / "data")]
    store = new_store(*options)
    w = store.client()
    w("put", "-", "x", input=b"x" * 3_000_000)
    w("rm", "x")
    until(lambda: w.json("top")["segments"] == 0, "the memory to be taken back")
    assert not w.json("top")["is_partial"]
    for _ in range(2):
        assert store.stop() == 0
        store = new_store(*options)
        w = store.client()
        told = " ".join(w.run("doctor").stdout.decode().split())
        assert "ok bills" in told and "one that is away, or was lost, has counted the rest" in told, told
        assert w.json("top")["is_partial"]


ENDED_JOBS_MAX = 256  # of a slot; older bills are forgotten


def end_jobs_of_a_slot(store, count):
    """That had a small value each for a moment."""
    names = subprocess.run([build_target("test/e2e/names_of_slot"), str(count), "77"],
                           stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    with Wire.at(store.endpoints["tcp"]) as admin:
        admin.hello()
        for name in names:
            made = admin.call("JOB_CREATE", slot=77, name=name)
            with Wire.at(store.endpoints["tcp"]) as job:
                job.hello(secret=made["token"])
                assert job.call("PUT", b"x", path="x", attempt_hi=9, attempt_lo=1).status == "OK"
            assert admin.call("JOB_END", slot=77, name=name).status == "OK"


def doctor_agrees(store):
    """And what it compares: the listed bills, the forgotten ones, the store's count."""
    admin = store.client()
    until(lambda: admin.json("top")["value_bytes"] == 0, "the memory of ended jobs to be taken back")
    top = admin.json("top")
    listed = sum(int(job["dram_byte_ms"]) for job in top["jobs"])
    assert 0 <= int(top["dram_byte_ms"]) - listed - int(top["forgotten_byte_ms"]) <= len(top["jobs"]) + 1
    told = admin.run("doctor").stdout.decode()
    assert "ok    bills" in told, told
    return int(top["forgotten_byte_ms"])


def log_a_megabyte(store):
    with Wire.at(store.endpoints["tcp"]) as wire:
        wire.hello()
        calls = [wire.start("PUT", b"x", path="x", attempt_hi=9, attempt_lo=i, attributes=bytes(512))
                 for i in range(1, 2000)]
        assert {wire.end(call).status for call in calls} == {"OK"}
        assert wire.call("REMOVE", job=wire.job, path="x", attempt_hi=9, attempt_lo=5000, slot=wire.slot).status == "OK"


def test_bills_that_are_not_listed_any_more_are_in_a_sum(new_store, tmp_path):
    options = ["--data", str(tmp_path / "data"), "--snapshot", "1M"]
    store = new_store(*options)
    end_jobs_of_a_slot(store, ENDED_JOBS_MAX)
    assert doctor_agrees(store) == 0
    end_jobs_of_a_slot(store, 9)
    assert len(store.client().json("top")["jobs"]) == 1 + ENDED_JOBS_MAX
    forgotten = doctor_agrees(store)
    assert forgotten > 0
    for is_snapshot in (False, True):  # what a restart reads
        assert any((tmp_path / "data/shard-0").glob("snapshot-*")) == is_snapshot
        store.process.kill()
        store.process.wait()
        store = new_store(*options)
        assert doctor_agrees(store) == forgotten
        log_a_megabyte(store)
        until(lambda: any((tmp_path / "data/shard-0").glob("snapshot-*")), "a snapshot")
