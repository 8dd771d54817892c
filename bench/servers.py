"""Servers that a bench starts for itself, and ends."""
import contextlib
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("WADI_BUILD", "build"))
WADI = os.path.join(BUILD, "src/cli/wadi")


@contextlib.contextmanager
def dev(directory, *options, **how):
    """A `wadi dev` on ports that the kernel chooses, once it is ready: its endpoints by scheme."""
    store = subprocess.Popen(
        [WADI, "dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--redis", "127.0.0.1:0",
         "--socket", os.path.join(directory, "s"), *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        text=True, **how)
    try:
        endpoints = {}
        for line in store.stdout:
            if line == "ready\n":
                break
            endpoint = line.strip().split("=", 1)[1]
            endpoints[endpoint.split(":")[0]] = endpoint
        yield endpoints
    finally:
        store.terminate()
        store.wait()
