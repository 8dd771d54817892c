"""What `make run` shows, smaller: tools/run-demo, which leaves nothing, however it ends."""
import contextlib
import glob
import os
import re
import secrets
import signal
import subprocess
import tempfile

import pytest
from cluster import is_there
from conftest import BUILD, DONE, LATE_S, ROOT, clean_environment, until

pytestmark = pytest.mark.skipif(BUILD != os.path.join(ROOT, "build"), reason="the demo is of build/")


def built():
    """What lies in the build's directory, but for what tests of other workers make there."""
    return set(glob.glob(f"{BUILD}/*")) - {f"{BUILD}/{name}" for name in ("dist", "e2e.lock", "npm")}


class Demo:
    def __init__(self, tmp_path, *options):
        self.mark, self.tmp = secrets.token_hex(8), tmp_path
        self.runtime = tempfile.mkdtemp(prefix="wadi-e2e-")  # the paths of sockets are short
        self.before = built()
        # An endpoint that is configured is not the demo's business. Functions see __OW_ names only.
        env = clean_environment(TMPDIR=str(tmp_path), XDG_RUNTIME_DIR=self.runtime, __OW_MARK=self.mark,
                                WADI_ENDPOINT="tcp://127.0.0.1:1")
        self.process = subprocess.Popen([f"{ROOT}/tools/run-demo", *options], env=env, cwd=tmp_path,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, start_new_session=True)

    def pids(self):
        found = []
        for path in glob.glob("/proc/[0-9]*/environ"):
            try:
                with open(path, "rb") as file:
                    if f"__OW_MARK={self.mark}".encode() in file.read():
                        found.append(int(path.split("/")[2]))
            except OSError:
                continue
        return found

    def named(self, name):
        found = []
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/comm") as file:
                    if file.read().strip() == name:
                        found.append(pid)
            except OSError:
                continue
        return found

    def groups(self):
        """Where those are that may hold much, and who is nowhere."""
        found = set()
        for name in ("wadi", "wadi-sort", "wadi-sort-fn"):
            for pid in self.named(name):
                try:
                    with open(f"/proc/{pid}/cgroup") as file:
                        group = re.search(r"(/wadi-demo-\d+)?$", re.search(
                            r"^(?:0:|\d+:memory):(.*)$", file.read(), re.M).group(1)).group(0)
                except OSError:
                    continue
                if is_there(pid):  # who has ended holds nothing, and is nowhere
                    found.add(group)
        return found

    def end(self):
        out, err = self.process.communicate(timeout=4 * LATE_S)
        until(lambda: not self.pids(), "its processes to end")
        until(lambda: built() == self.before and os.listdir(self.tmp) == [], "its files to go")
        until(lambda: os.listdir(self.runtime) == [], "its sockets to go")
        os.rmdir(self.runtime)
        assert glob.glob(f"/sys/fs/cgroup/**/wadi-demo-{self.process.pid}", recursive=True) == []
        return self.process.returncode, out, err


def test_it_sorts_within_its_limit_and_leaves_nothing(tmp_path):
    demo = Demo(tmp_path, "--generate", "300M")
    try:
        until(lambda: demo.named("wadi-sort-fn") or demo.process.poll() is not None, "functions")
        groups = demo.groups()
    finally:
        code, out, err = demo.end()
    assert (code, err) == (DONE, "")
    assert re.search(r"^verified: 3145728 records, sum [0-9a-f]+$", out, re.M)
    assert re.search(r"^functions: 8 maps, 8 reduces; 2 at once, ", out, re.M)
    limit = int(re.search(r"^memory: (\d+) MiB in all, ", out, re.M).group(1))
    assert limit <= 2048
    if "held by a control group" in out:
        assert groups == {f"/wadi-demo-{demo.process.pid}"}, groups
        assert int(re.search(rf"^memory: peak (\d+) of {limit} MiB", out, re.M).group(1)) <= limit
    # What each may have is no more, if there is no group to hold them.
    assert int(re.search(r"with functions (\d+) MiB at most$", out, re.M).group(1)) <= limit
    assert max(map(len, out.splitlines())) < 60 and "\x1b" not in out and "\r" not in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_may_be_stopped_in_the_middle(tmp_path, number):
    """The whole group, as a terminal does it."""
    demo = Demo(tmp_path)
    try:
        until(lambda: demo.named("wadi-sort-fn"), "functions")
        os.killpg(demo.process.pid, number)
    finally:
        code, out, err = demo.end()
    assert code == 1 and err == f"wadi sort: stopped by {signal.strsignal(number)}\n"
    assert "verified" not in out


def test_its_driver_may_be_killed(tmp_path):
    demo = Demo(tmp_path)
    try:
        until(lambda: demo.named("wadi-sort-fn"), "functions")
        for pid in demo.named("wadi-sort"):
            with contextlib.suppress(ProcessLookupError):  # a function that had not begun had this name, too
                os.kill(pid, signal.SIGKILL)
    finally:
        code, out, _ = demo.end()
    assert code == 128 + signal.SIGKILL and "verified" not in out
