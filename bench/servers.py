"""Servers that a bench starts for itself, and ends."""
import contextlib
import os
import socket
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("WADI_BUILD", "build"))
WADI = os.path.join(BUILD, "src/cli/wadi")


@contextlib.contextmanager
def role(name, *options, **how):
    """A process, once it is ready: itself, and its endpoints by scheme."""
    process = subprocess.Popen([WADI, name, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **how)
    try:
        endpoints = {}
        for line in process.stdout:
            if line == "ready\n":
                break
            endpoint = line.strip().split("=", 1)[1]
            endpoints[endpoint.split(":")[0]] = endpoint
        yield process, endpoints
    finally:
        process.terminate()
        process.wait()


def free_port():
    """For a server that is told its port and does not say which one it has."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def doors(directory):
    return ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--redis", "127.0.0.1:0", "--socket",
            os.path.join(directory, "s")]


@contextlib.contextmanager
def dev(directory, *options, **how):
    """A `wadi dev` on ports that the kernel chooses: its endpoints by scheme."""
    with role("dev", *doors(directory), *options, **how) as (_, endpoints):
        yield endpoints


@contextlib.contextmanager
def apart(directory, has_proxy, **how):
    """Metadata and a store, and perhaps a proxy, as processes of their own: their pids, and the endpoint."""
    at = f"127.0.0.1:{free_port()}"
    key = os.path.join(directory, "key")
    with open(key, "w", encoding="ascii") as file:
        file.write(os.urandom(32).hex())
    with contextlib.ExitStack() as stack:
        meta, _ = stack.enter_context(role("meta", "--listen", at, "--token-key", key, **how))
        store, _ = stack.enter_context(role("store", "--listen", "127.0.0.1:0", "--meta", at, "--token-key", key, **how))
        pids = {"behind": [meta.pid, store.pid], "proxy": []}
        if not has_proxy:
            yield pids, "direct://" + at
            return
        proxy, endpoints = stack.enter_context(role("proxy", *doors(directory), "--meta", at, "--token-key", key, **how))
        pids["proxy"] = [proxy.pid]
        yield pids, endpoints["unix"]
