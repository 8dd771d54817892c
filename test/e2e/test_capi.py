"""The C API, by a C program and its C++ twin: capi.c has a function per test."""
import os
import re
import subprocess

import pytest
from conftest import ROOT, build_target

with open(os.path.join(ROOT, "test/e2e/capi.c")) as source:
    TESTS = re.findall(r"^\tT\((\w+)\)", source.read(), re.M)

# Issue by issue the number grows; the twin needs no more than to show that it compiles and runs.
MANY = {"capi": "100000", "capi_cxx": "2000"}


@pytest.fixture(scope="session")
def programs():
    """Built here, because nobody else needs them."""
    built = {name: build_target(f"test/e2e/{name}") for name in MANY}
    return {name: path for name, path in built.items() if path}


@pytest.mark.parametrize("program", MANY)
@pytest.mark.parametrize("name", TESTS)
def test_c_api(programs, w, program, name):
    if program not in programs:
        assert program == "capi_cxx", "there is no capi"
        pytest.skip("no C++ compiler when this was built")
    done = subprocess.run([programs[program], name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**w.env(), "CAPI_MANY": MANY[program]}, timeout=120, check=False)
    assert done.stdout.decode() == f"ok {name}\n" and done.returncode == 0, done.stdout.decode(errors="replace")
