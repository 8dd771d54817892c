"""What `meson install` leaves is enough for others: header, libraries, pkg-config, commands."""
import glob
import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import BUILD, ROOT, clean_environment

PROGRAM = r"""
#include <wadi/wadi.h>

#include <stdio.h>
#include <string.h>

typedef void any(void);

/* Each function of the header, so that all that they need must be there. */
any *all[] = { ALL };

int main(void)
{
	struct wadi_put_options options = WADI_PUT_OPTIONS;
	char buf[16];
	struct wadi *w;
	int r = wadi_open(NULL, &w);

	options.flags = WADI_CREATE;
	if (r == 0)
		r = wadi_put(w, "greeting", "hello", 5, &options, NULL);
	if (r == 0)
		r = wadi_get(w, "greeting", buf, sizeof(buf), NULL, NULL) == 5 && memcmp(buf, "hello", 5) == 0 ? 0 : -1;
	if (r == 0)
		r = wadi_remove(w, "greeting", 0);
	printf("%s %s\n", r == 0 ? "done" : wadi_strerror(w), wadi_version());
	wadi_close(w);
	return r != 0;
}
"""

with open(os.path.join(ROOT, "include/wadi/wadi.h"), encoding="utf-8") as header:
    API = sorted(set(re.findall(r"^WADI_API[^(;]*?\b(wadi_\w+)\(", header.read(), re.M)))

C = ["gcc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
CXX = ["g++", "-std=c++17", "-Wall", "-Werror", "-x", "c++"]


def run(*command, **how):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
                          **how)
    assert done.returncode == 0, (command, done.stdout)
    return done.stdout


def is_plain():
    """A build with a sanitizer is for nobody else."""
    path = os.path.join(BUILD, "meson-info/intro-buildoptions.json")
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        return {o["name"]: o["value"] for o in json.load(file)}["b_sanitize"] == "none"


class Installed:
    def __init__(self, root):
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", env={**os.environ, "DESTDIR": str(root)})
        found = glob.glob(f"{root}/**/pkgconfig/wadi.pc", recursive=True)
        assert len(found) == 1, found
        self.root, self.directory = root, os.path.dirname(os.path.dirname(found[0]))
        # Nothing but what was installed: no path of the build, nothing of the system's own.
        self.env = clean_environment(PKG_CONFIG_LIBDIR=os.path.dirname(found[0]), PKG_CONFIG_SYSROOT_DIR=str(root),
                                     LC_ALL="C")

    def pkg_config(self, *words):
        return run("pkg-config", *words, "wadi", env=self.env).split()

    def find(self, name):
        return next(os.path.join(directory, name) for directory, _, names in os.walk(self.root) if name in names)

    def build(self, name, compiler, *libraries):
        source = os.path.join(self.root, name + ".c")
        with open(source, "w", encoding="ascii") as file:
            file.write(PROGRAM.replace("ALL", ", ".join(f"(any *){name}" for name in API)))
        program = os.path.join(self.root, name)
        run(*compiler, *self.pkg_config("--cflags"), source, "-o", program, *libraries, env=self.env)
        return program


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    if not is_plain() or not all(shutil.which(tool) for tool in ("meson", "pkg-config", "gcc")):
        pytest.skip("no build to install from, or no tools")
    return Installed(tmp_path_factory.mktemp("root"))


def libraries_of(program):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", program))


@pytest.mark.parametrize("compiler", [C, CXX], ids=["c", "c++"])
def test_a_program_is_linked_with_the_shared_library(installed, w, compiler):
    if not shutil.which(compiler[0]):
        pytest.skip("no " + compiler[0])
    program = installed.build("shared", compiler, *installed.pkg_config("--libs"))
    assert "libwadi.so.0" in libraries_of(program)
    told = run(program, env={**w.env(), "LD_LIBRARY_PATH": installed.directory})
    assert told == f"done {installed.pkg_config('--modversion')[0]}\n"


@pytest.mark.parametrize("compiler", [C, CXX], ids=["c", "c++"])
def test_a_program_is_linked_with_the_static_library(installed, w, compiler):
    if not shutil.which(compiler[0]):
        pytest.skip("no " + compiler[0])
    libraries = installed.pkg_config("--static", "--libs")
    at = libraries.index("-lwadi")
    libraries[at:at + 1] = ["-Wl,-Bstatic", "-lwadi", "-Wl,-Bdynamic"]
    program = installed.build("static", compiler, *libraries)
    assert "libwadi.so.0" not in libraries_of(program)
    assert run(program, env=w.env()) == f"done {installed.pkg_config('--modversion')[0]}\n"


def test_the_shared_library_has_the_api_and_nothing_else(installed):
    assert len(API) > 50
    symbols = run("nm", "-D", "--defined-only", installed.find("libwadi.so"))
    found = {line.split()[2].split("@")[0] for line in symbols.splitlines()}
    assert {name for name in found if not name.startswith("WADI_")} == set(API)
    static = run("nm", "-g", "--defined-only", installed.find("libwadi.a"))
    assert set(API) <= {line.split()[2] for line in static.splitlines() if len(line.split()) == 3}


def test_the_installed_commands_work(installed, store, w):
    wadi = installed.find("wadi")
    assert os.path.isfile(wadi)
    subprocess.run([wadi, "put", "-", "x"], input=b"hello", env=w.env(), check=True, timeout=30)
    assert run(wadi, "get", "x", env=w.env()) == "hello"
    done = run(wadi, "sort", "--generate", "1M", "--maps", "2", "--reduces", "2", env=store.client().env(),
               cwd=installed.root)
    assert "verified" in done
