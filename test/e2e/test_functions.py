"""The short form of test/torture/functions.py: functions that open and close all the time, are killed, and are stopped."""
import os
import subprocess

import pytest
from conftest import BUILD, ROOT, build_target


@pytest.mark.parametrize("how", [["--seconds", "2"], ["--seconds", "5", "--kills"]], ids=["on and on", "killed and stopped"])
def test_functions_leave_nothing(how):
    if not build_target("test/torture/functions"):
        pytest.skip("no libwadi in this build")
    done = subprocess.run([os.path.join(ROOT, "test/torture/functions.py"), "--functions", "8", "--objects", "100",
                           "--jobs", "2", "--memory", "256M", *how], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=240, check=False, env={**os.environ, "WADI_BUILD": BUILD})
    assert done.returncode == 0 and b"all is well" in done.stdout, done.stdout.decode(errors="replace")
