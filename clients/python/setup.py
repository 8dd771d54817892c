"""Builds the extension with all of libwadi inside, so that a wheel needs nothing but libc.

In Wadi's own tree libwadi is that of the build, WADI_BUILD or ../../build. An sdist brings the
sources of it along, and compiles them; it needs the packages libxxhash-dev, libisal-dev and
libssl-dev. What has a static library is linked with that. The others come along in wadi/libs.
"""
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.join(HERE, "libwadi")  # in an sdist
IS_SDIST = os.path.isdir(SOURCES)
TREE = SOURCES if IS_SDIST else os.path.join(HERE, "../..")
# What libwadi is made of; meson.build of src/attach has the same list.
PARTS = ("base", "wire", "loop", "shm", "net", "core", "proxy", "direct", "attach")
SANITIZE = ["-fsanitize=" + os.environ["WADI_SANITIZE"], "-g"] if os.environ.get("WADI_SANITIZE") else []
FLAGS = ["-std=gnu11", "-O2", "-g0", "-fPIC", "-fvisibility=hidden", "-D_GNU_SOURCE", *SANITIZE]


def version():
    with open(os.path.join(TREE, "meson.build"), encoding="utf-8") as file:
        return re.search(r"version: '([^']+)'", file.read()).group(1)


def compiler():
    return os.environ.get("CC", "gcc").split()


def library_path(name):
    """Where the compiler would find it; None if nowhere."""
    told = subprocess.run([*compiler(), "-print-file-name=" + name], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()
    return os.path.realpath(told) if os.path.isabs(told) else None


def compiled(build):
    """libwadi.a, of the sources in an sdist."""
    sources = [path for part in PARTS for path in glob.glob(f"{SOURCES}/src/{part}/*.c")]
    sources.append(f"{SOURCES}/src/loop/switch_{os.uname().machine}.S")
    os.makedirs(build, exist_ok=True)
    objects = [os.path.join(build, f"{number}.o") for number in range(len(sources))]

    def compile_one(source, to):
        subprocess.run([*compiler(), *FLAGS, f'-DWADI_VERSION="{version()}"', f"-I{SOURCES}/src",
                        f"-I{SOURCES}/include", "-c", source, "-o", to], check=True)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as crew:
        list(crew.map(compile_one, sources, objects))
    archive = os.path.join(build, "libwadi.a")
    if os.path.exists(archive):
        os.unlink(archive)
    subprocess.run(["ar", "rcs", archive, *objects], check=True)
    return archive


class Build(build_ext):
    def build_extension(self, ext):
        if IS_SDIST:
            archive = compiled(os.path.join(self.build_temp, "libwadi"))
        else:
            archive = os.path.join(os.environ.get("WADI_BUILD", os.path.join(TREE, "build")),
                                   "src/attach/libwadi.a")
        ext.extra_objects = [self.alone(archive)]
        ext.depends = [archive, *glob.glob(f"{HERE}/csrc/*.h")]
        for name in ("xxhash", "isal", "crypto"):
            static = library_path(f"lib{name}.a")
            if static:
                ext.extra_objects.append(static)
            else:
                ext.libraries.append(name)
                self.bring(library_path(f"lib{name}.so"))
        super().build_extension(ext)

    def alone(self, archive):
        """All of it as one object, in which nobody else sees more than wadi.h has: names inside are its own."""
        os.makedirs(self.build_temp, exist_ok=True)
        whole = os.path.join(self.build_temp, "libwadi.o")
        subprocess.run(["ld", "-r", "--whole-archive", archive, "-o", whole], check=True)
        subprocess.run(["objcopy", "--localize-hidden", whole], check=True)
        return whole

    def bring(self, path):
        """A shared library into the package, under the name by which it is asked for."""
        told = subprocess.run(["readelf", "-d", path], stdout=subprocess.PIPE, text=True, check=True).stdout
        name = re.search(r"\(SONAME\).*\[(.+)\]", told).group(1)
        package = os.path.join(HERE if self.inplace else self.build_lib, "wadi/libs")
        os.makedirs(package, exist_ok=True)
        shutil.copy(path, os.path.join(package, name))


class Source(sdist):
    """With the sources of libwadi."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        for part in PARTS + ("meta", "store"):  # of the last two only headers are seen
            endings = "*.[ch]", "*.def", "*.S"
            for path in (p for e in endings for p in glob.glob(f"{TREE}/src/{part}/{e}")):
                if part in PARTS or not path.endswith(".c"):
                    self.add(path, f"{base_dir}/libwadi/src/{part}")
        self.add(f"{TREE}/include/wadi/wadi.h", f"{base_dir}/libwadi/include/wadi")
        self.add(f"{TREE}/meson.build", f"{base_dir}/libwadi")
        self.add(f"{TREE}/LICENSE", base_dir)

    @staticmethod
    def add(path, to):
        os.makedirs(to, exist_ok=True)
        shutil.copy(path, to)


setup(
    version=version(),
    ext_modules=[Extension(
        "wadi._wadi",
        sorted(os.path.relpath(path, HERE) for path in glob.glob(f"{HERE}/csrc/*.c")),
        include_dirs=[os.path.join(os.path.relpath(TREE, HERE), "include")],
        extra_compile_args=["-std=gnu11", "-fvisibility=hidden", "-D_GNU_SOURCE", "-Wall", "-Wextra",
                            "-Wno-missing-field-initializers", *SANITIZE],
        extra_link_args=["-Wl,--gc-sections", "-Wl,--exclude-libs,ALL", "-Wl,-rpath,$ORIGIN/libs", *(SANITIZE or ["-s"])],
        py_limited_api=True)],
    cmdclass={"build_ext": Build, "sdist": Source},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
