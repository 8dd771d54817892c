"""The wall clock of all servers is set by an hour, and nothing lives longer or shorter for it.

A machine's clock is everybody's, so these processes have one of their own: libfaketime answers for
theirs from a file. The monotonic one stays the kernel's, as it does when a clock is set.
"""
import datetime
import glob
import os
import re
import signal
import time

import pytest
from cluster import Cluster
from conftest import LATE_S, REFUSED, until

LIBRARY = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
LIVES_S = 8

pytestmark = pytest.mark.skipif(not LIBRARY, reason="no libfaketime, of the package faketime")


class Clocked(Cluster):
    def __init__(self, directory):
        self.file = os.path.join(directory, "clock")
        self.set(0)
        super().__init__(directory, env={
            "LD_PRELOAD": LIBRARY[0], "FAKETIME_TIMESTAMP_FILE": self.file, "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"})

    def set(self, seconds):
        with open(self.file + ".new", "w", encoding="ascii") as file:
            file.write(f"{seconds:+d}\n")
        os.replace(self.file + ".new", self.file)

    def restart_meta(self):
        self.roles["meta"].end(signal.SIGKILL)
        self.start_meta(2)

    def last_told(self, name):
        """Seconds by which the clock of a server's last line is off."""
        at = re.findall(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", self.roles[name].told(), re.M)[-1]
        then = datetime.datetime.fromisoformat(at + "+00:00")
        return (then - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


@pytest.fixture
def cluster(tmp_path):
    made = Clocked(str(tmp_path))
    try:
        yield made
        made.stop()
    finally:
        made.kill()


def is_gone(client, path):
    return client.run("stat", path).returncode == REFUSED


@pytest.mark.parametrize("is_killed", [False, True], ids=["", "and metadata is killed"])
@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_no_lease_and_no_time_to_live_ends_early_or_never(cluster, seconds, is_killed):
    begun = time.monotonic()
    leased = cluster.job("leased", "--lease", f"{LIVES_S}s")
    job = cluster.job("stays", "--lease", "1h")
    job("put", "-", "short", "--ttl", f"{LIVES_S}s", input=b"eight seconds")
    job("put", "-", "long", "--ttl", "50m", input=b"fifty minutes")
    leased("put", "-", "held", input=b"as long as its job")
    made = time.monotonic()
    cluster.set(seconds)
    if is_killed:
        cluster.restart_meta()
        assert abs(cluster.last_told("meta") - seconds) < 60
    assert job("get", "long", "-") == b"fifty minutes"
    left = [job.json("stat", "long")["ttl_left_ms"] / 1000, job.json("stat", "short")["ttl_left_ms"] / 1000,
            cluster.admin.json("job", "show", "leased")["lease_left_ms"] / 1000]
    passed = time.monotonic() - begun
    for value, lives in zip(left, [3000, LIVES_S, LIVES_S]):
        assert lives - passed <= value <= lives, (left, passed)
    later = time.monotonic()
    job("put", "-", "later", "--ttl", f"{LIVES_S}s", input=b"eight seconds from here on")
    until(lambda: is_gone(job, "short"), "the object to expire")
    gone = time.monotonic()
    assert gone - begun >= LIVES_S and gone - made < LIVES_S + LATE_S
    until(lambda: cluster.admin.json("job", "show", "leased")["has_ended"], "the job to end")
    gone = time.monotonic()
    assert gone - begun >= LIVES_S and gone - made < LIVES_S + LATE_S
    until(lambda: is_gone(job, "later"), "the second object to expire")
    gone = time.monotonic()
    assert gone - later >= LIVES_S and gone - later < LIVES_S + LATE_S
    assert job("get", "long", "-") == b"fifty minutes"
