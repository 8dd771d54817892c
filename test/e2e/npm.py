"""Packages of npm that judge what we make: pinned, installed without their scripts, and skipped visibly where there are none."""
import fcntl
import os
import shutil
import subprocess

import pytest
from conftest import BUILD

NPM_S = 120


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
            try:
                done = subprocess.run(["npm", "install", *([] if is_built else ["--ignore-scripts"]), "--no-audit", "--no-fund",
                                       "--legacy-peer-deps", "--prefix", directory, package, *more],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, timeout=NPM_S * (5 if is_built else 1), check=False)
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm did not bring {package} within {NPM_S} s")
            if done.returncode != 0:
                pytest.skip(f"npm cannot bring {package}: {done.stdout.strip().splitlines()[-1:]}")
            open(os.path.join(directory, "done"), "w").close()
    return os.path.join(directory, "node_modules")
