"""tools/install-packages, which `make run` and `make test` begin with: never installs here."""
import os
import shutil
import subprocess

import pytest
from conftest import ROOT

TOOLS = ["sh", "awk", "dirname", "cat", "env", "echo"]

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-query"), reason="no Debian here")


@pytest.fixture
def packages(tmp_path):
    """Runs it with these programs only: some are real, some are scripts that we give it."""
    def run(what, **scripts):
        path = tmp_path / "bin"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        for name in TOOLS + [n for n in ("dpkg", "dpkg-query", "id") if n not in scripts]:
            os.symlink(shutil.which(name), path / name)
        for name, text in scripts.items():
            (path / name).write_text(f"#!/bin/sh\necho {name} \"$@\" >>{tmp_path}/called\n{text}\n")
            (path / name).chmod(0o755)
        (tmp_path / "called").write_text("")
        done = subprocess.run([f"{ROOT}/tools/install-packages", what], env={"PATH": str(path)}, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr, (tmp_path / "called").read_text().splitlines()
    return run


# Asks for one package less than the real list has.
LACKS = 'for p in "$@"; do case $p in -*|libxxhash-dev|"") ;; *) echo "installed $p" ;; esac; done'


def test_what_is_there_is_not_installed(packages):
    code, out, err, called = packages("run", **{"apt-get": "exit 1", "sudo": "exit 1"})
    assert (code, out, err, called) == (0, "", "", [])


def test_without_root_and_sudo_it_says_what_to_install(packages):
    code, out, err, called = packages("run", **{"dpkg-query": LACKS, "id": "echo 1000", "apt-get": "exit 1"})
    assert code == 1 and out == ""
    assert "neither root nor sudo is there" in err and err.endswith("\n    apt-get install libxxhash-dev\n")
    assert not [line for line in called if line.startswith("apt-get")]


@pytest.mark.parametrize("user,sudo", [(0, False), (1000, True)])
def test_it_installs_what_is_missing_and_only_that(packages, user, sudo):
    scripts = {"dpkg-query": LACKS, "id": f"echo {user}", "apt-get": "exit 0"}
    if sudo:
        scripts["sudo"] = 'exec "$@"'
    code, out, err, called = packages("run", **scripts)
    assert (code, err) == (0, "") and out == "install-packages: installing libxxhash-dev\n"
    asked = [line for line in called if line.startswith("apt-get")]
    assert asked == ["apt-get -q update", "apt-get -q install -y --no-install-recommends libxxhash-dev"]
    assert len([line for line in called if line.startswith("sudo")]) == (2 if sudo else 0)


def test_what_could_not_be_installed_is_named(packages):
    code, _, err, _ = packages("run", **{"dpkg-query": LACKS, "id": "echo 0", "apt-get": "exit 100"})
    assert code == 1 and "apt-get failed" in err and err.endswith("\n    apt-get install libxxhash-dev\n")


def test_who_only_runs_it_needs_no_packages_for_tests(packages):
    lacks = LACKS.replace("libxxhash-dev", "python3-pytest")
    scripts = {"dpkg-query": lacks, "id": "echo 0", "apt-get": "exit 0"}
    assert packages("run", **scripts)[:3] == (0, "", "")
    assert packages("test", **scripts)[1] == "install-packages: installing python3-pytest\n"
