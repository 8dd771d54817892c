"""Real processes on loopback: a store of this machine, and the command line as its client.

Ports are chosen by the kernel. Nothing waits for a time: `until` waits for a condition, and
fails when that takes too long. A test ends what it started, by process id, however it ends.
WADI_BUILD is the directory of the build, `build` if it is not set; WADI_SCHEME says how clients
are attached where a test does not, `tcp` if it is not set.
"""
import fcntl
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("WADI_BUILD", "build"))
WADI = os.path.join(BUILD, "wadi")
if not os.path.exists(WADI):
    WADI = os.path.join(BUILD, "src/cli/wadi")

SCHEME = os.environ.get("WADI_SCHEME", "tcp")
LATE_S = 30  # what takes longer has failed; nothing is expected to come near it

DONE, REFUSED, USAGE, UNREACHABLE, LATE = range(5)


@pytest.fixture(scope="session", autouse=True)
def runtime():
    """Where servers have their directories: what they could not remove, when they were killed with their keepers, goes with it."""
    # A keeper whose patience ends meanwhile removes its own, too.
    with tempfile.TemporaryDirectory(prefix="wadi-run-", ignore_cleanup_errors=True) as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory
        yield directory


def until(condition, what, late_s=LATE_S):
    """Returns the first true value of `condition`."""
    due = time.monotonic() + late_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < due, f"waited {late_s} s for {what}"
        time.sleep(0.01)


def in_time(action, most_s, tries=5):
    """It does not take longer, at least once of a few times: what waits for something waits each time, and a machine that
    does much else is slow now and then."""
    took = []
    while not took or took[-1] >= most_s:
        assert len(took) < tries, f"it took {took} s, and not {most_s}"
        begun = time.monotonic()
        action()
        took.append(time.monotonic() - begun)


def told(run):
    """How a command with a short deadline ended, but for its deadline: that may be over on a machine that does much else
    before anything is asked for, or before the store is heard, and says nothing then."""
    def heard():
        done = run()
        return None if done.returncode == LATE or b"no store of dram answered in time" in done.stderr else done
    return until(heard, "an answer before the deadline")


def catches(pid, number):
    """Does the process have a handler for a signal, or does that still end it?"""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"^SigCgt:\s+(\w+)$", file.read(), re.M).group(1), 16) >> (number - 1) & 1 == 1


def clean_environment(**more):
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("WADI_", "__OW_WADI_")) and k != "COLUMNS"}
    env.update({k: v for k, v in more.items() if v is not None})
    return env


def run_wadi(*args, input=None, env=None, cwd=None, timeout=LATE_S * 2, stdin=None, prefix=()):
    """Output is bytes: names and objects need not be text. `prefix` is a command that runs it."""
    words = [a if isinstance(a, bytes) else str(a) for a in args]
    more = {"input": input} if stdin is None else {"stdin": stdin}
    return subprocess.run([*prefix, WADI, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=env if env is not None else clean_environment(), cwd=cwd,
                          timeout=timeout, check=False, **more)


def build_target(name):
    """Path of what only these tests need, built here. None: it is not part of this build."""
    if os.path.exists(os.path.join(BUILD, "build.ninja")):
        known = subprocess.run(["ninja", "-C", BUILD, "-t", "targets", "all"], stdout=subprocess.PIPE, text=True,
                               check=True).stdout
        if f"\n{name}: " in known:
            # Two ninjas in one directory, of two workers, would overwrite each other's record.
            with open(os.path.join(BUILD, "e2e.lock"), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                done = subprocess.run(["ninja", "-C", BUILD, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, check=False)
            assert done.returncode == 0, done.stdout
    path = os.path.join(BUILD, name)
    return path if os.path.exists(path) else None


class Client:
    """The command line, with an endpoint and a token."""

    def __init__(self, endpoint, token=None):
        self.endpoint, self.token = endpoint, token

    def env(self, **more):
        return clean_environment(WADI_ENDPOINT=self.endpoint, WADI_TOKEN=self.token, **more)

    def run(self, *args, **how):
        return run_wadi(*args, env=self.env(), **how)

    def __call__(self, *args, code=DONE, status=None, **how):
        """Standard output of a command that ends with `code`, and says `status` if it fails."""
        done = self.run(*args, **how)
        told = done.stderr.decode(errors="replace")
        assert done.returncode == code, (args, done.returncode, told)
        if code == DONE:
            assert told == "", (args, told)
        else:
            assert re.fullmatch(r"wadi: [^\n]+\n", told), ("one line", args, told)
        if status:
            assert f": {status}: " in told, (args, told)
        return done.stdout

    def json(self, *args, **how):
        lines = self(*args, "--json", **how).decode().splitlines()
        assert len(lines) == 1
        return json.loads(lines[0])

    def names(self, *args):
        return [json.loads(line)["name"] for line in self("ls", "--json", *args).decode().splitlines()]

    def start(self, *args, stdin=subprocess.DEVNULL, **how):
        words = [a if isinstance(a, bytes) else str(a) for a in args]
        return subprocess.Popen([WADI, *words], stdin=stdin, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=self.env(), **how)

    def at(self, token):
        return Client(self.endpoint, token)

    def top(self):
        """What is in the whole store, which a job's token is not told."""
        return self.at(None).json("top")

    def held(self):
        return next(job["dram_bytes"] for job in self.top()["jobs"]
                    if job["name"] == self.job and not job["has_ended"])


def finish(process, late_s=LATE_S):
    """Exit code, output and errors of a started command."""
    try:
        out, err = process.communicate(timeout=late_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"did not end: {process.args}: {out[-500:]} {err[-500:]}") from None
    return process.returncode, out, err


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


def is_readable(file, due):
    """Waits for it; with poll, for a test may have thousands of descriptors."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(max(0, due - time.monotonic()) * 1000))


class Store:
    """A `wadi dev` of its own, with its endpoints by scheme."""

    def __init__(self, *options, memory="512M", listen="127.0.0.1:0", env=None, prefix=()):
        # A Unix socket's path has at most 107 bytes, and pytest's directories are long.
        self.directory = tempfile.mkdtemp(prefix="wadi-e2e-")
        self.log_path = os.path.join(self.directory, "log")
        self.endpoints = {}
        command = [*prefix, WADI, "dev", "--memory", memory, "--listen", listen, "--http", "127.0.0.1:0",
                   "--redis", "127.0.0.1:0", "--socket", os.path.join(self.directory, "s"), *options]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log,
                                            stdout=subprocess.PIPE, env=clean_environment(**(env or {})))
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def wait_ready(self):
        text, due = b"", time.monotonic() + LATE_S
        while b"ready\n" not in text:
            assert is_readable(self.process.stdout, due), f"not ready: {text} {self.log()}"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"ended before it was ready: {text} {self.log()}"
            text += more
        self.printed = text.decode()
        for endpoint in re.findall(r"^endpoint=(\S+)$", self.printed, re.M):
            self.endpoints[endpoint.split(":")[0]] = endpoint

    def client(self, token=None, scheme=SCHEME):
        return Client(self.endpoints[scheme], token)

    def job(self, name=None, *options):
        """A client in a new job of its own."""
        name = name or "job-" + secrets.token_hex(6)
        token = self.client()("job", "create", name, *options).decode().strip()
        client = self.client(token)
        client.job = name
        return client

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        """As a person ends it. Its exit code."""
        if self.is_alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(LATE_S)
        finally:
            self.kill()
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="session")
def lib():
    """libwadi.py, over the library of this build."""
    build_target("src/attach/libwadi.so.0.1.0")
    import libwadi  # pylint: disable=import-outside-toplevel
    return libwadi


@pytest.fixture(scope="session")
def shared_store():
    if not os.path.exists(WADI):
        pytest.fail(f"there is no {WADI}; build it, or set WADI_BUILD")
    store = Store()
    yield store
    log = store.log()
    code = store.stop()
    assert code == 0, log
    assert not re.search(r"^\S+ error ", log, re.M), log


@pytest.fixture
def store(shared_store):
    """The store that tests share; each has a job of its own in it."""
    assert shared_store.is_alive(), shared_store.log()
    yield shared_store
    assert shared_store.is_alive(), shared_store.log()


def nothing_is_left_of(admin, job):
    """Its end is acknowledged when nobody serves it any more; to take back many bytes takes longer on a machine that does much
    else."""
    def left():
        return [j for j in admin.top()["jobs"] if j["name"] == job and
                not (j["has_ended"] and j["dram_bytes"] == 0 and j["objects"] == 0)]
    until(lambda: not left(), f"all of job {job} to go")


@pytest.fixture
def w(store):
    """A client in a new job, which is ended, and must leave nothing behind."""
    client = store.job()
    yield client
    done = store.client().run("job", "end", client.job)
    assert done.returncode == 0 or b"JOBENDED" in done.stderr or b"NOJOB" in done.stderr, done.stderr
    nothing_is_left_of(store.client(), client.job)


@pytest.fixture
def new_store():
    """Makes stores of their own, for tests that fill, stop or configure one."""
    made = []

    def make(*args, **how):
        made.append(Store(*args, **how))
        return made[-1]
    yield make
    for one in made:
        one.kill()


def pattern(length, seed=0):
    """Bytes that repeat nowhere near, quickly made: numbered blocks."""
    block = bytes((i * 7 + i // 251 + seed) & 0xff for i in range(4096))
    out = bytearray()
    number = 0
    while len(out) < length:
        out += number.to_bytes(8, "little") + block[8:]
        number += 1
    return bytes(out[:length])
