"""Metadata with two shards, a store and a proxy as processes of their own, with keys."""
import os
import subprocess

import pytest
from cluster import Cluster
from conftest import REFUSED, USAGE, WADI, pattern, run_wadi


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    try:
        yield made.admin
        made.stop()
    finally:
        made.kill()


def test_objects_cross_between_hosts_roles(cluster, tmp_path):
    data = os.urandom(9_000_001)
    (tmp_path / "x").write_bytes(data)
    # Names lie in both shards.
    for name in ("a", "b", "c", "d"):
        job = cluster.at(cluster("job", "create", name).decode().strip())
        for size in (0, 2048, 2049, 65537, len(data)):
            (tmp_path / "y").write_bytes(data[:size])
            job("put", tmp_path / "y", "x")
            assert job("get", "x") == data[:size]
        assert job("get", "x", "--range", "70000-70009") == data[70000:70010]
        cluster("job", "end", name)


def test_without_a_secret_nobody_gets_in(cluster):
    for token in (None, "nonsense", "AQABAAAA"):
        cluster.at(token)("ls", code=REFUSED, status="BADTOKEN")


def test_the_sort_runs_over_processes_of_their_own(cluster):
    done = subprocess.run([WADI, "sort", "--generate", "20M", "--maps", "3", "--reduces", "3"],
                          env=cluster.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    assert done.returncode == 0 and b"verified" in done.stdout, done.stdout


def test_roles_apart_must_share_the_key_of_tokens():
    done = run_wadi("meta", "--listen", "127.0.0.1:0")
    assert done.returncode != 0 and b"--token-key" in done.stderr
    done = run_wadi("store")
    assert done.returncode == USAGE and b"--meta" in done.stderr


def test_what_is_in_the_store_counts_other_processes_too(cluster):
    job = cluster.at(cluster("job", "create", "counted").decode().strip())
    job("put", "-", "big", input=pattern(5 << 20))
    top = cluster.json("top")
    assert top["dram_limit"] > 256 << 20 and top["dram_used"] >= 5 << 20
    found = {line.split()[1]: line.split()[0] for line in cluster.run("doctor").stdout.decode().splitlines()
             if line[:1].isalpha()}
    assert found["bills"] == "ok"
