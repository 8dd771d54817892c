"""Packages of npm that judge what we make: pinned, installed without their scripts, and skipped visibly where there are none."""
import fcntl
import os
import shutil
import subprocess

import pytest
from conftest import BUILD

NPM_S = 120


def modules(package):
    """The directory of modules that has `name@version`; a test without it is skipped, and says why."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("no npm here")
    directory = os.path.join(BUILD, "npm", package.replace("/", "-"))
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(directory, "done")):
            try:
                done = subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", directory,
                                       package], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, timeout=NPM_S, check=False)
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm did not bring {package} within {NPM_S} s")
            if done.returncode != 0:
                pytest.skip(f"npm cannot bring {package}: {done.stdout.strip().splitlines()[-1:]}")
            open(os.path.join(directory, "done"), "w").close()
    return os.path.join(directory, "node_modules")
