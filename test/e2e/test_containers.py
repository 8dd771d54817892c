"""A function and a sidecar in containers of their own: they find each other through a volume, and share memory.

The image is made from this build alone. Containers are podman's, and, so that something is tested wherever
podman does not run, processes in namespaces of their own with the same root file system. What shares a name of a
socket on its command line, and is not podman itself, runs in a container.
"""
import contextlib
import json
import os
import re
import resource
import secrets
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from cluster import Role, free_ports
from conftest import LATE_S, ROOT, WADI, Client, clean_environment, is_readable, pattern, until

IMAGE = os.path.join(ROOT, "tools/container-image")
VOLUME = "/run/wadi"
MB = 1 << 20
PORTS = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--redis", "127.0.0.1:0"]

pytestmark = pytest.mark.skipif(not os.path.exists(WADI), reason="no " + WADI)


class Podman:
    """With whichever runtime works here. What does not is said, and the tests are skipped."""

    def __init__(self, directory):
        self.base = ["podman", "--storage-driver=vfs", "--root", directory + "/storage", "--runroot", directory + "/state",
                     "--cgroup-manager=cgroupfs"]
        assert subprocess.run([IMAGE, *self.base[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE).returncode == 0
        told = []
        for self.options in self.ways():
            done = subprocess.run(self.command("", "none", 0, {}, "version"), stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, timeout=2 * LATE_S)
            if done.returncode == 0 and done.stdout.startswith("wadi "):
                return
            told.append(f"{' '.join(self.options)}: {done.stderr.strip()}")
        pytest.skip("podman runs no container here: " + "; ".join(told))

    @staticmethod
    def ways():
        """Limits above our own need a capability that is not everywhere."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limits = [f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=8192:8192"]
        for runtime in ("crun", "runc"):
            if shutil.which(runtime):
                yield from (["--runtime", runtime, *some] for some in ([], limits))

    @staticmethod
    def why_not():
        return None if shutil.which("podman") else "podman is not installed"

    def command(self, volume, network, uid, env, *words):
        runtime, limits = self.options[:2], self.options[2:]
        return [*self.base, *runtime, "run", "--rm", "-i", f"--network={network}", f"--user={uid}:{uid}", *limits,
                *(["-v", f"{volume}:{VOLUME}"] if volume else []), *(f"--env={k}={v}" for k, v in env.items()),
                "localhost/wadi:latest", *words]

    def stop(self):
        subprocess.run([*self.base, "rm", "-fa", "-t", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Namespaces:
    """unshare and chroot: pids, mounts, System V and, without a network, that."""

    def __init__(self, directory):
        self.root = directory + "/root"
        subprocess.run([IMAGE, "--directory", self.root], check=True)
        done = subprocess.run(self.command("", "none", 0, {}, "version"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=LATE_S)
        if done.returncode or not done.stdout.startswith("wadi "):
            pytest.skip("no namespaces here: " + done.stderr.strip())

    @staticmethod
    def why_not():
        lacking = [name for name in ("unshare", "chroot") if not shutil.which(name)]
        return f"{lacking[0]} is not installed" if lacking else None

    def command(self, volume, network, uid, env, *words):
        mounts = (f"mount -t proc proc {self.root}/proc && mount -t tmpfs tmpfs {self.root}/tmp && "
                  f"mount --bind /dev {self.root}/dev")
        if volume:
            mounts += f" && mount --bind {volume} {self.root}{VOLUME}"
        return ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", *["--net"] * (network == "none"),
                "sh", "-c", mounts + ' && exec env -i "$@"', "sh", *(f"{k}={v}" for k, v in env.items()),
                shutil.which("chroot"), f"--userspec={uid}:{uid}", self.root, "/bin/wadi", *words]

    def stop(self):
        pass


@pytest.fixture(scope="module", params=[Podman, Namespaces])
def engine(request):
    if request.param.why_not():
        pytest.skip(request.param.why_not())
    directory = tempfile.mkdtemp(prefix="wadi-e2e-")
    made = None
    try:
        made = request.param(directory)
        yield made
    finally:
        if made:
            made.stop()
        shutil.rmtree(directory, ignore_errors=True)


class Pod:
    """A volume with a socket in it, and the containers that have it."""

    def __init__(self, engine):
        self.engine = engine
        self.volume = tempfile.mkdtemp(prefix="wadi-e2e-")
        os.chmod(self.volume, 0o777)
        self.name = secrets.token_hex(6)
        self.endpoint = f"unix://{VOLUME}/{self.name}"
        self.started = []
        for key in ("key", "token-key"):
            with open(f"{self.volume}/{key}", "w", encoding="ascii") as file:
                file.write(os.urandom(40).hex())

    def start(self, *words, network="none", uid=0, env=None):
        process = subprocess.Popen(self.engine.command(self.volume, network, uid, env or {}, *words), env=clean_environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.started.append(process)
        return process

    def sidecar(self, *words):
        """A proxy on the network of this machine."""
        process = self.start(*words, *PORTS, "--socket", f"{VOLUME}/{self.name}", "--key", f"{VOLUME}/key",
                             "--token-key", f"{VOLUME}/token-key", "--memory", "256M", network="host")
        text, due = b"", time.monotonic() + LATE_S
        while b"ready\n" not in text:
            assert is_readable(process.stdout, due), text
            more = os.read(process.stdout.fileno(), 65536)
            assert more, process.communicate()
            text += more
        return process

    def function(self, token, *words, **how):
        """A container without a network, which knows a socket and a token."""
        return self.start(*words, "--endpoint", self.endpoint, env={"WADI_TOKEN": token}, **how)

    def admin(self):
        """From outside, through the same socket."""
        with open(f"{self.volume}/key", encoding="ascii") as file:
            return Client(f"unix://{self.volume}/{self.name}", file.read())

    def pids(self, word):
        """Of programs in containers of this pod that have the word on their command line."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().decode().split("\0")
                if words[0] == "/bin/wadi" and word in words and any(w.endswith("/" + self.name) for w in words):
                    found.append(int(pid))
        return found

    def pid(self, word):
        return until(lambda: self.pids(word), word)[0]

    def end(self, process, code=0):
        """As podman and Kubernetes do: SIGTERM to the first process of a container, which is ours."""
        for pid in self.pids("proxy") + self.pids("run"):
            os.kill(pid, signal.SIGTERM)
        out, err = process.communicate(timeout=LATE_S)
        assert process.returncode == code, (out, err)

    def close(self):
        for process in self.started:
            if process.poll() is None:
                for pid in self.pids("proxy") + self.pids("run") + self.pids("bench"):
                    os.kill(pid, signal.SIGKILL)
                process.terminate()
            process.communicate(timeout=LATE_S)
        shutil.rmtree(self.volume, ignore_errors=True)


@pytest.fixture
def pod(engine):
    made = Pod(engine)
    yield made
    made.close()


@pytest.fixture
def metadata(pod, tmp_path):
    """On this machine, with the keys of the pod: where it is."""
    port, = free_ports(1)
    role = Role(tmp_path, "meta", "--listen", f"127.0.0.1:{port}", "--key", f"{pod.volume}/key", "--token-key",
                f"{pod.volume}/token-key", env={"XDG_RUNTIME_DIR": pod.volume})
    yield f"127.0.0.1:{port}"
    assert role.end() == 0


@pytest.fixture
def store(pod, metadata, tmp_path):
    role = Role(tmp_path, "store", "--listen", "127.0.0.1:0", "--meta", metadata, "--memory", "256M", "--key",
                f"{pod.volume}/key", env={"XDG_RUNTIME_DIR": pod.volume})
    yield metadata
    assert role.end() == 0


def mapped(pid, access):
    """Inodes of our memory that a process has mapped so."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            return set(re.findall(rf"^\S+ {access} \S+ \S+ (\d+) +/memfd:wadi-", maps.read(), re.M))
    return set()


def finish(process, code=0):
    out, err = process.communicate(timeout=2 * LATE_S)
    assert process.returncode == code, (out, err)
    return out


def gets(pod, token, seconds, **how):
    """A function that gets an object of 1 MiB again and again."""
    return pod.function(token, "bench", "get", "--sizes", "1M", "--pairs", "1", "--seconds", str(seconds), "--json", **how)


def test_a_sidecar_serves_a_function_without_a_network(pod, store):
    """Frames go through a ring that both have mapped; the bytes are the store's, and come from there."""
    sidecar = pod.sidecar("proxy", "--meta", store)
    token = pod.admin()("job", "create", "a").decode().strip()
    for size in (0, 64, 3 * MB + 1):
        with open(f"{pod.volume}/in", "wb") as file:
            file.write(pattern(size))
        finish(pod.function(token, "put", f"{VOLUME}/in", "x"))
        assert finish(pod.function(token, "get", "x")) == pattern(size)
    function = gets(pod, token, 60)
    inside, beside = pod.pid("bench"), pod.pid("proxy")
    until(lambda: mapped(inside, "rw-s") & mapped(beside, "rw-s"), "a ring that both have")
    assert mapped(inside, "r--s") == set()
    spaces = ["pid", "mnt", "ipc", "net"]
    assert all(os.readlink(f"/proc/{inside}/ns/{n}") != os.readlink(f"/proc/{beside}/ns/{n}") for n in spaces)
    # The next sidecar at the socket is found by the same function.
    os.kill(beside, signal.SIGKILL)
    sidecar.communicate(timeout=LATE_S)
    sidecar = pod.sidecar("proxy", "--meta", store)
    beside = pod.pid("proxy")
    until(lambda: mapped(inside, "rw-s") & mapped(beside, "rw-s"), "a ring of the next one")
    os.kill(inside, signal.SIGINT)
    function.communicate(timeout=LATE_S)
    pod.admin()("job", "end", "a")
    pod.end(sidecar)


@pytest.mark.parametrize("options, uid, maps", [
    ((), 0, False), (("--isolated",), 0, True), (("--trust-local",), 0, True),
    (("--socket-for", "all"), 1234, True), (("--socket-for", "all", "--isolated"), 1234, True)])
def test_who_maps_the_memory_of_a_sidecar(pod, metadata, options, uid, maps):
    """Root, and who is the same user as the sidecar, only where whoever mounts the volume vouches for it."""
    sidecar = pod.sidecar("run", "--roles", "store,proxy", "--meta", metadata, *options)
    token = pod.admin()("job", "create", "a").decode().strip()
    function = gets(pod, token, 60 if maps else 1, uid=uid)
    inside, beside = pod.pid("bench"), pod.pid("run")
    if maps:
        until(lambda: mapped(inside, "r--s"), "a segment that both have")
        assert mapped(inside, "r--s") & mapped(beside, "rw-s")
        os.kill(inside, signal.SIGKILL)
        function.communicate(timeout=LATE_S)
    else:
        seen = set()
        until(lambda: seen.update(mapped(inside, "r--s")) or function.poll() is not None, "its end")
        row = json.loads(finish(function))
        assert seen == set() and row["attach"] == "host" and row["ops_per_s"] > 0
    # Whatever became of the function: what it had mapped goes with its job.
    other = pod.function(token, "put", f"{VOLUME}/key", "y", uid=uid)
    finish(other)
    pod.admin()("job", "end", "a")
    until(lambda: pod.admin().json("top")["segments"] == 0, "all memory to be given back")
    pod.end(sidecar)


def test_another_user_does_not_reach_the_socket_of_its_owner(pod, metadata):
    sidecar = pod.sidecar("run", "--roles", "store,proxy", "--meta", metadata)
    token = pod.admin()("job", "create", "a").decode().strip()
    _, err = (function := pod.function(token, "ls", uid=1234)).communicate(timeout=LATE_S)
    assert function.returncode == 3 and b"UNREACHABLE" in err, err
    pod.end(sidecar)
