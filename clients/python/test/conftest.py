"""The stores of test/e2e, with the Python client as the installed package has it.

tools/test installs the wheel into a fresh environment and runs these with its python.
"""
import importlib.util
import os
import sys

import pytest

import wadi

E2E = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../test/e2e")
spec = importlib.util.spec_from_file_location("e2e", os.path.join(E2E, "conftest.py"))
e2e = sys.modules["e2e"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(e2e)

shared_store, store, w, new_store = e2e.shared_store, e2e.store, e2e.w, e2e.new_store


@pytest.fixture(params=["tcp", "unix"])
def endpoint(request, store):
    return store.endpoints[request.param]


@pytest.fixture
def env(endpoint, w):
    """Of a program that is to come to the same job."""
    return e2e.clean_environment(WADI_ENDPOINT=endpoint, WADI_TOKEN=w.token)


@pytest.fixture
def s(endpoint, w):
    """An open store, in a job of its own that must leave nothing behind."""
    with wadi.open(endpoint, w.token) as one:
        yield one


@pytest.fixture
def local(store, w):
    """The same on the host: what may be mapped is."""
    with wadi.open(store.endpoints["unix"], w.token) as one:
        yield one
