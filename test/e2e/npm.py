"""Packages of npm that judge what we make: pinned, installed without their scripts, and skipped visibly where there are none."""
import fcntl
import os
import shutil
import signal
import subprocess

import pytest
from conftest import BUILD

NPM_S = 120
BUILT_S = 300


def modules(package, *more, is_built=False):
    """The directory of modules that has `name@version`, and `more`; a test without it is skipped, and says why. One that
    `is_built` runs its scripts, since it is C++."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("no npm here")
    directory = os.path.join(BUILD, "npm", package.replace("/", "-"))
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(directory, "done")):
            most_s = BUILT_S if is_built else NPM_S
            npm = subprocess.Popen(["npm", "install", *([] if is_built else ["--ignore-scripts"]), "--no-audit", "--no-fund",
                                    "--legacy-peer-deps", "--prefix", directory, package, *more],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, start_new_session=True)
            try:
                said, _ = npm.communicate(timeout=most_s)
            except subprocess.TimeoutExpired:
                os.killpg(npm.pid, signal.SIGKILL)  # and the compilers that it started
                npm.communicate()
                pytest.skip(f"npm did not bring {package} within {most_s} s")
            if npm.returncode != 0:
                pytest.skip(f"npm cannot bring {package}: {said.strip().splitlines()[-1:]}")
            open(os.path.join(directory, "done"), "w").close()
    return os.path.join(directory, "node_modules")
