"""Peers that talk nonsense that nearly makes sense (talker.c), to real servers, at each of their
ports: whatever they say, nobody crashes or hangs, a client beside them is served correctly, and
when they are gone, so is all that they had: connections, descriptors, memory, bytes.

A fixed seed, or WADI_SEED; each conversation is made of the seed and its number alone.
WADI_TALKS is how many conversations; WADI_BUILD=build/asan runs the servers with sanitizers.
"""
import os
import random
import re
import subprocess

import pytest
from cluster import Cluster
from conftest import BUILD, Store, pattern, until
from test_hostile import MIB, Neighbor, all_is_accounted_for, descriptors, resident

TALKER = os.path.join(BUILD, "test/e2e/talker")
TALKS = int(os.environ.get("WADI_TALKS", "20"))
SEEDS = [int(os.environ["WADI_SEED"])] if "WADI_SEED" in os.environ else [1, random.SystemRandom().getrandbits(32)]
# Each worker of pytest draws a seed of its own, but all must know the tests by the same names.
of_seeds = pytest.mark.parametrize("seed", SEEDS, ids=("given",) if "WADI_SEED" in os.environ else ("fixed", "fresh"))
IS_SANITIZED = "asan" in BUILD


def talk(address, seed, role, server, secret="", count=TALKS):
    command = [TALKER, address, str(seed), str(count), role, server, secret]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, check=False)
    again = " ".join(command)
    assert done.returncode == 0, (again, done.stdout.decode(errors="replace")[-1000:])
    sent, heard = map(int, re.search(rb"sent (\d+) heard (\d+)", done.stdout).groups())
    assert sent > 20 * count and heard > 2 * count, (again, done.stdout)


def no_memory_is_lost(pid, before, what):
    if not IS_SANITIZED:  # which keep what was freed
        until(lambda: resident(pid) < before + 16 * MIB, f"the memory of {what}")


@of_seeds
@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_a_function_that_talks_nonsense(seed, scheme):
    store = Store(memory="256M")
    try:
        pid, at = store.process.pid, store.endpoints[scheme]
        w = store.job()
        # Once, so that what stays is there: pools of buffers, stacks, the first segments.
        talk(at, seed + 1, "job", "proxy", w.token, 5)
        files, memory = descriptors(pid), resident(pid)
        with Neighbor(store):
            talk(at, seed, "job", "proxy", w.token)
            talk(at, seed, "job", "proxy")  # the job `default`, and jobs that it makes
        admin = store.client()
        for job in admin.top()["jobs"]:
            if not job["has_ended"] and job["name"] != "default":
                admin("job", "end", job["name"])
        admin.run("rm", "-r", "/default/")
        until(lambda: all(j["dram_bytes"] == 0 for j in admin.top()["jobs"] if j["has_ended"]),
              "the bytes of what has ended")
        until(lambda: descriptors(pid) <= files + 16, f"descriptors: {descriptors(pid)}, {files}")
        no_memory_is_lost(pid, memory, "connections that are gone")
        all_is_accounted_for(store)
        assert store.is_alive() and not re.search(r"^\S+ error ", store.log(), re.M), store.log()
        assert store.stop() == 0, store.log()
    finally:
        store.kill()


@of_seeds
def test_a_server_that_talks_nonsense(seed, tmp_path):
    """It has the roles' key, so it is believed much; but nobody falls over."""
    cluster = Cluster(tmp_path)
    try:
        w, theirs = cluster.job("beside"), cluster.job("theirs")
        w("put", "-", "kept", input=pattern(3 * MIB))
        files = {name: descriptors(cluster.pid(name)) for name in cluster.roles}
        for role, server, port in (("proxy", "meta", cluster.meta_ports[0]), ("store", "meta", cluster.meta_ports[1]),
                                   ("job", "meta", cluster.meta_ports[0]), ("proxy", "store", cluster.store_port),
                                   ("job", "store", cluster.store_port), ("job", "proxy", cluster.proxy_port)):
            talk(f"127.0.0.1:{port}", seed, role, server, cluster.key if role != "job" else theirs.token, TALKS // 3)
            assert w("get", "kept") == pattern(3 * MIB), (role, server)
            w("put", "-", "x", input=pattern(100000))
            assert w("get", "x") == pattern(100000)
        for name in cluster.roles:
            assert cluster.roles[name].process.poll() is None, cluster.roles[name].told()
            until(lambda n=name: descriptors(cluster.pid(n)) <= files[n] + 64, f"descriptors of {name}")
        # A slot's own words to the store: it may free what is others', and keep what it is granted.
        talk(f"127.0.0.1:{cluster.store_port}", seed, "meta", "store", cluster.key, TALKS // 3)
        assert cluster.roles["store"].process.poll() is None, cluster.roles["store"].told()
        cluster.stop()
    finally:
        cluster.kill()
