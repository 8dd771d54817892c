"""Metadata with two shards or four, a store and a proxy as processes of their own, with keys."""
import os
import re
import subprocess

import pytest
from cluster import Cluster
from conftest import REFUSED, USAGE, WADI, Client, pattern, run_wadi
from wire import FIELDS, JOB, TEXT, Wire


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


def test_each_of_four_shards_says_which_one_serves_a_job(tmp_path):
    made = Cluster(tmp_path, shards=4)
    try:
        of_shard = {}
        for number in range(200):
            job = made.job(f"j{number}")
            with Wire.at(job.endpoint) as wire:
                assert wire.hello(secret=job.token).status == "OK"
                of_shard.setdefault(wire.slot % 4, (wire.slot, wire.job))
            if len(of_shard) == 4:
                break
        assert sorted(of_shard) == [0, 1, 2, 3]
        for asked in range(4):
            with made.to_meta(asked) as meta:
                for shard, (slot, job) in of_shard.items():
                    for name, words in (("STAT", {"path": "x"}), ("LIST", {}), ("REMOVE", {"path": "x"})):
                        reply = meta.call(name, slot=slot, job=job, **words)
                        if shard == asked:
                            assert reply.status in ("OK", "NOTFOUND"), reply
                        else:
                            assert (reply.status, reply.detail) == ("ROUTE", f"tcp://127.0.0.1:{made.meta_ports[shard]}")
                assert meta.call("STAT", slot=1024, job=1 << 62, path="x").status == "INVALID"
                # After all that the connection serves.
                slot, job = of_shard[asked]
                assert meta.call("STAT", slot=slot, job=job, path="x").status == "NOTFOUND"
        made.stop()
    finally:
        made.kill()


# Who serves which message; see src/wire/messages.def.
SERVED_BY = {name: set(re.findall(r"\w+", servers)) for name, servers in
             re.findall(r"^\s*M\(0x\w+,\s*(\w+),\s*\w+,\s*([PSM_| ]+),", TEXT, re.M)}


@pytest.mark.parametrize("server,letter", [("proxy", "P"), ("meta", "M_")])
def test_no_message_by_another_jobs_token_is_served(tmp_path, server, letter):
    """The library and the command line ask for their own job only; a program of somebody else's may ask for any."""
    made = Cluster(tmp_path, shards=1)
    try:
        victim, other = made.job("victim"), made.job("another")
        victim("put", "-", "x", input=b"secret")
        with Wire.at(victim.endpoint) as wire:
            wire.hello(secret=victim.token)
            job, slot = wire.job, wire.slot
        before = victim.json("stat", "x")["version"], victim.json("job", "show", "victim")["lease_left_ms"]
        asked = 0
        for name, servers in SERVED_BY.items():
            fields = {field for _, field in FIELDS[name + "_REQ"]}
            if not fields & {"job", "name"}:
                continue
            # To a proxy, metadata says this on a connection of the proxy's making: not at its door.
            is_served = letter in servers and not (server == "proxy" and name in ("JOB_OVER", "FORGET"))
            with Wire("127.0.0.1", made.proxy_port if server == "proxy" else made.meta_ports[0]) as wire:
                assert wire.hello(role=JOB, secret=other.token).status == "OK"
                words = {"job": job, "path": "x", "from": "x", "to": "y", "name": "victim", "attempt_lo": 1,
                         "session": wire.session, "epoch": wire.epoch, "lease_ms": 1000}
                reply = wire.call(name, slot=slot, **{key: word for key, word in words.items() if key in fields})
            assert reply.status == ("DENIED" if is_served else "UNSUPPORTED"), (name, reply.status)
            assert not reply.payload and "secret" not in reply.detail
            asked += is_served
        assert asked >= 11
        assert victim.names("-r") == ["x"] and victim("get", "x") == b"secret"
        shown = victim.json("stat", "x")["version"], victim.json("job", "show", "victim")["lease_left_ms"]
        assert shown[0] == before[0] and shown[1] > before[1] - 60_000
        made.stop()
    finally:
        made.kill()


def test_metadata_is_not_taken_for_a_proxy(tmp_path):
    """It would answer some of what a proxy does: `top`, and a job's creation now and then."""
    made = Cluster(str(tmp_path))
    try:
        client = Client(f"tcp://127.0.0.1:{made.meta_ports[0]}", made.key)
        for words in (["top"], ["job", "create", "j"], ["put", "-", "x"], ["get", "x"]):
            done = client.run(*words, input=b"")
            assert done.returncode == REFUSED
            assert b"metadata is there, not a proxy: its address begins with direct://" in done.stderr
        made.stop()
    finally:
        made.kill()


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
