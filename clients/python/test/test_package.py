"""What is installed."""
import ast
import glob
import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile

import e2e
import pytest

import wadi
from wadi import _wadi

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")


def wheel():
    return glob.glob(os.path.join(e2e.BUILD, "dist/wadi_store-*.whl"))[0]


def test_versions_are_one():
    with open(os.path.join(ROOT, "meson.build"), encoding="utf-8") as file:
        version = re.search(r"version: '([^']+)'", file.read()).group(1)
    assert wadi.__version__ == version == importlib.metadata.version("wadi-store")


def test_the_stub_has_what_the_extension_has():
    with open(os.path.join(os.path.dirname(wadi.__file__), "_wadi.pyi"), encoding="utf-8") as file:
        tree = ast.parse(file.read())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def told(name):
        node = classes[name]
        names = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
        for base in node.bases:
            names |= told(base.id) if isinstance(base, ast.Name) and base.id in classes else set()
        return names
    for name in ("Store", "View", "Reservation", "Reader", "Writer", "List", "Op"):
        there = {member for member in vars(getattr(_wadi, name)) if not re.fullmatch(r"__(doc|module|new|next|iter)__", member)}
        assert there - told(name) <= {"__len__", "__class_getitem__"}, name
        assert {n for n in told(name) if not n.startswith("__")} <= there, name


def test_it_needs_nothing_but_libc():
    """Its shared libraries are of libc, or lie beside it; and it is of the stable ABI."""
    assert _wadi.__file__.endswith("/wadi/_wadi.abi3.so")
    told = subprocess.run(["ldd", _wadi.__file__], stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in told.splitlines():
        name = line.split()[0]
        if not re.match(r"(linux-vdso|libc|libm|libpthread|libdl|librt|.*ld-linux.*)\.so|/lib.*ld-linux", name):
            assert os.path.dirname(wadi.__file__) in line, line


def test_without_anything_else_installed(tmp_path, store, w):
    """In an environment that has nothing, not even what Debian has."""
    venv = str(tmp_path / "venv")
    python = os.path.realpath(sys.executable)
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    subprocess.run([python, "-m", "pip", "--python", f"{venv}/bin/python", "install", "-q", "--no-index",
                    "--disable-pip-version-check", wheel()], check=True)
    code = ("import wadi, sys; s = wadi.open(); s.put_object('x', {'a': 1}); print(s.get_object('x')); "
            "print('numpy' in sys.modules)")
    told = subprocess.run([f"{venv}/bin/python", "-c", code], env=store.client(w.token).env(), stdout=subprocess.PIPE,
                          text=True, check=True)
    assert told.stdout == "{'a': 1}\nFalse\n"


def newer_python():
    """The newest that this machine has beside its own: in PATH, or of pyenv."""
    for minor in range(sys.version_info.minor + 6, sys.version_info.minor, -1):
        pyenv = sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/3.{minor}.*/bin")))
        for directory in [*pyenv, *os.environ.get("PATH", "").split(":")]:
            path = os.path.join(directory, f"python3.{minor}")
            # pyenv's shims are there for Pythons that it has and that are not chosen, too.
            if os.path.exists(path) and "shims" not in path:
                return path
    return None


def test_with_a_newer_python(tmp_path):
    """The same wheel, and the tests of objects with Debian's pytest, which needs nothing compiled."""
    python = newer_python()
    if not python:
        pytest.skip(f"no Python here is newer than {sys.version.split()[0]}")
    for name in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "attr", "attrs", "py", "py.py"):
        path = os.path.join(os.path.dirname(os.path.dirname(pytest.__file__)), name)
        if os.path.exists(path):
            os.symlink(path, tmp_path / name)
    with zipfile.ZipFile(wheel()) as archive:
        archive.extractall(tmp_path)
    tests = [os.path.join(os.path.dirname(os.path.abspath(__file__)), name) for name in ("test_objects.py", "test_asyncio.py")]
    done = subprocess.run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", *tests],
                          env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    if "No module named" in done.stdout and "_pytest" in done.stdout:
        pytest.skip(f"{python} has no pytest, and cannot use this one's")
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout
