"""The C API, by a C program and its C++ twin: capi.c has a function per test."""
import os
import re
import subprocess

import pytest
from cluster import Cluster
from conftest import ROOT, Store, build_target, has_ipv6

with open(os.path.join(ROOT, "test/e2e/capi.c")) as source:
    TESTS = re.findall(r"^\tT\((\w+)\)", source.read(), re.M)

# Issue by issue the number grows; the twin needs no more than to show that it compiles and runs.
MANY = {"capi": "100000", "capi_cxx": "2000"}


@pytest.fixture(scope="session")
def programs():
    """Built here, because nobody else needs them."""
    built = {name: build_target(f"test/e2e/{name}") for name in MANY}
    return {name: path for name, path in built.items() if path}


def run(program, name, w, **env):
    done = subprocess.run([program, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**w.env(), **env},
                          timeout=120, check=False)
    assert done.stdout.decode() == f"ok {name}\n" and done.returncode == 0, done.stdout.decode(errors="replace")


@pytest.mark.parametrize("program", MANY)
@pytest.mark.parametrize("name", TESTS)
def test_c_api(programs, w, program, name):
    if program not in programs:
        assert program == "capi_cxx", "there is no capi"
        pytest.skip("no C++ compiler when this was built")
    run(programs[program], name, w, CAPI_MANY=MANY[program])


@pytest.mark.parametrize("name", TESTS)
def test_c_api_over_a_unix_socket(programs, store, w, name):
    """And through memory beside it, from the fourth question on."""
    run(programs["capi"], name, store.client(w.token, scheme="unix"), CAPI_MANY="2000")


@pytest.fixture(scope="module")
def ipv6_store():
    if not has_ipv6():
        pytest.skip("no IPv6 on loopback here")
    store = Store(listen="[::1]:0")
    yield store
    assert store.stop() == 0


@pytest.mark.parametrize("name", ["whole_objects", "operations_in_flight", "in_place", "jobs",
                                  "eight_large_gets_are_read_in_turns_over_one_handle",
                                  "after_a_fork_the_child_opens_its_own"])
def test_c_api_over_ipv6(programs, ipv6_store, name):
    w = ipv6_store.job()
    assert re.fullmatch(r"tcp://\[::1\]:\d+", w.endpoint)
    run(programs["capi"], name, w)


def test_c_api_with_four_shards_in_one_process(programs, new_store):
    store = new_store("--shards", "4")
    run(programs["capi"], "in_jobs_of_four_shards_on_a_handle_each", store.job())
    assert store.stop() == 0


def test_c_api_with_four_shards_over_connections(programs, tmp_path):
    cluster = Cluster(tmp_path, shards=4)
    try:
        run(programs["capi"], "in_jobs_of_four_shards_on_a_handle_each", cluster.job("j"), CAPI_ADMIN=cluster.key)
        cluster.stop()
    finally:
        cluster.kill()
