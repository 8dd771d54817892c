"""The short form of test/torture: servers killed at random under clients that check every byte."""
import os
import subprocess

import pytest
from conftest import BUILD, ROOT


@pytest.mark.parametrize("mode", [["--mode", "dev"], ["--mode", "dev", "--data"], ["--mode", "roles"]],
                         ids=["dev", "dev-data", "roles"])
def test_nothing_acknowledged_is_lost(mode):
    if not os.path.exists(os.path.join(BUILD, "test/torture/churn")):
        pytest.fail("build it first: ninja -C build test/torture/churn")
    done = subprocess.run([os.path.join(ROOT, "test/torture/kills.py"), "--kills", "8", "--clients", "2", *mode],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240, check=False,
                          env={**os.environ, "WADI_BUILD": BUILD})
    assert done.returncode == 0 and b"8 kills, 0 lost" in done.stdout, done.stdout.decode(errors="replace")
