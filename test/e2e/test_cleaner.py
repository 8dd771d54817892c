"""A store that is nearly full of live bytes is overwritten without end: dead bytes are given back.

WADI_OVERWRITE_S is how long, 6 seconds if it is not set; for ten minutes: bench/overwrite.
"""
import importlib.machinery
import importlib.util
import json
import os
import random
import sys

from conftest import ROOT, build_target, until

SECONDS = int(os.environ.get("WADI_OVERWRITE_S", "6"))


def bench(name):
    path = os.path.join(ROOT, "bench", name)
    sys.path.insert(0, os.path.dirname(path))  # as when it is run
    spec = importlib.util.spec_from_loader(name, importlib.machinery.SourceFileLoader(name, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_overwriting_at_80_percent_live_moves_few_bytes_and_fails_no_put(new_store):
    build_target("bench/overwrite")
    # Until all of it was written once more, so that what was not moved had no room: a machine may do much else.
    for seconds in (SECONDS, 5 * SECONDS, 10 * SECONDS):
        store = new_store(memory="192M")
        endpoints = {k: store.endpoints[k] for k in ("http", "unix", "tcp")}
        result = bench("overwrite").overwrite(endpoints, live=0.8, seconds=seconds, size=100_000)
        print(json.dumps(result))
        assert result["exit_code"] == 0 and result["failed"] == 0 and result["wrong"] == 0, result
        if result["put_bytes"] > result["loaded_bytes"]:
            break
        assert store.stop() == 0
    assert result["put_bytes"] > result["loaded_bytes"], result
    assert 0 < result["moved_per_byte"] <= 2.5, result
    # Nothing is left of it, and the store has counted every byte.
    store.client()("rm", "-r", "/default/")
    until(lambda: store.client().json("top")["segments"] == 0, "all segments to be freed")


def test_a_job_at_its_quota_has_room_again_for_what_is_dead(new_store, tmp_path):
    """Other objects in each round, so that no segment dies by itself."""
    store = new_store(memory="192M")
    job = store.job("small", "--quota", "dram=8M")
    dice = random.Random(7)
    objects = {f"{i}": dice.randbytes(24_000) for i in range(256)}  # 6 of 8 MB
    for turn in range(24):
        directory = tmp_path / f"{turn}"
        directory.mkdir()
        for name in dice.sample(sorted(objects), 64) if turn else objects:
            objects[name] = dice.randbytes(24_000)
            (directory / name).write_bytes(objects[name])
        job("put", "-r", directory, "d")
    for name in dice.sample(sorted(objects), 16):
        assert job("get", f"d/{name}") == objects[name]
    assert job.held() <= 8 << 20
