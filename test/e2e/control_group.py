"""A control group of our own, in version 1 or 2."""
import os
import secrets

import pytest


class ControlGroup:
    """Beneath ours; where none can be made, the test is skipped. `is_old`: its controller is of version 1."""

    def __init__(self, controller):
        with open("/proc/self/cgroup") as lines:
            own = dict(line.strip().split(":", 2)[1:] for line in lines)
        self.is_old = controller in own
        top = f"/sys/fs/cgroup/{controller}{own[controller]}" if self.is_old else "/sys/fs/cgroup" + own.get("", "/")
        self.path = os.path.join(top, "wadi-test-" + secrets.token_hex(4))
        try:
            os.mkdir(self.path)
        except OSError as why:
            pytest.skip(f"no control group can be made here: {why}")

    def write(self, name, text):
        with open(f"{self.path}/{name}", "w") as file:
            file.write(text)

    def read(self, name):
        with open(f"{self.path}/{name}") as file:
            return file.read()
