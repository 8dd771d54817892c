"""What jobs are billed is what the store has counted, to the byte and the millisecond."""
import json
import os
import subprocess
import time

from conftest import WADI, until


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
