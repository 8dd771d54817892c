"""What tools/mutate tries on a broken line: every test program and every end-to-end file, each with the
time that it takes and the lines of src/ that it runs.

That map is made by running each of them once, alone, in a build by clang that counts in files which the
processes map: what a process has run is known even if it was killed with kill -9. It stands in
build/mutate/map.json. A test that has changed is measured again, by itself. Of a source that has
changed since it was measured, a test that ran any line of it counts as running them all.
"""
import glob
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
WORK = f"{ROOT}/build/mutate"
TREE, BUILD = f"{WORK}/tree", f"{WORK}/tree/build"
COUNTING, COUNTS, MAP = f"{WORK}/map", f"{WORK}/raw", f"{WORK}/map.json"
STAGES = ("unit", "model", "sim", "e2e")
JOBS = "-j2"
SIDE = 3  # end-to-end files beside each other; they wait more than they work
MEMORY_BYTES = 16 << 30  # of addresses: a mutation that allocates without end must not take the machine
MEASURE_S = 600
# Each build directory gets packages from npm for it, which are built for minutes; what it judges are the applications.
LEFT_OUT = ("test_judges.py",)

# %c: counters are in the file itself, %m: one per binary, for all of its processes. A counter that is
# kept in a register through an endless loop would never be seen.
COUNT = (f"-fprofile-instr-generate={COUNTS}/%c%m.profraw -fcoverage-mapping -mllvm -runtime-counter-relocation "
         "-mllvm -do-counter-promotion=false")


def call(command, due_s, cwd=TREE, env=None, log=None, address_bytes=MEMORY_BYTES):
    """The exit status; None if it took too long. Its children end with it."""
    def limit():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which who runs in the background ignores
        resource.setrlimit(resource.RLIMIT_AS, (address_bytes, address_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.nice(10)
    process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log or subprocess.DEVNULL,
                               stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=limit,
                               env={**os.environ, **(env or {})})
    try:
        return process.wait(due_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def output(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def make(build, *targets):
    return call(["ninja", "-C", build, JOBS, *targets], 1800) == 0


def digest(paths):
    found = hashlib.sha256()
    for path in sorted(paths):
        with open(f"{TREE}/{path}", "rb") as file:
            found.update(file.read())
    return found.hexdigest()


class Inputs:
    """Which sources, with headers, are in what ninja builds: by the compiler's own word."""

    def __init__(self, build):
        self.build, self.objects, name = build, {}, None
        for line in output("ninja", "-C", build, "-t", "deps").split("\n"):
            if line.startswith(" "):
                self.objects[name].add(os.path.relpath(os.path.join(build, line.strip()), TREE))
            elif line:
                name = line.split(":")[0]
                self.objects[name] = set()

    def of(self, target):
        names = output("ninja", "-C", self.build, "-t", "inputs", target).split("\n")
        return set().union(*(self.objects.get(n, set()) for n in names if n.endswith(".o")))


def programs(build):
    """The path in the build of each test program, and its stage."""
    for test in json.loads(output("meson", "introspect", "--tests", build)):
        stage = test["suite"][0].split(":")[-1]
        if stage in STAGES[:-1]:
            yield os.path.relpath(test["cmd"][0], build), stage


def e2e_sources(path):
    """A file, and what it uses of what lies beside it."""
    with open(f"{TREE}/{path}") as file:
        text = file.read()
    beside = (os.path.basename(p) for p in glob.glob(f"{TREE}/test/e2e/*.[pc]*"))
    return [path] + [f"test/e2e/{n}" for n in beside if os.path.splitext(n)[0] in text
                     and not n.startswith(("test_", "conftest"))]


class Map:
    """Of each test: stage, took_s, failed (what of it fails as it is), ran: of each source a digest, and
    two sets of lines as bits: those with code, and those of them that ran."""

    def __init__(self, anew):
        self.tests = {}
        if os.path.exists(MAP) and not anew:
            with open(MAP) as file:
                self.tests = json.load(file)
        self.digests = {}

    def measure(self, wanted_stages):
        """Whatever is new or has changed in these stages. Says nothing if that is nothing."""
        if not shutil.which("llvm-cov"):
            sys.exit("tools/mutate: no llvm-cov and llvm-profdata here, which read the counts: apt-get install llvm")
        if not os.path.exists(f"{COUNTING}/build.ninja"):
            flags = [f"-D{what}={COUNT}" for what in ("c_args", "cpp_args")]
            links = [f"-D{what}=-fprofile-instr-generate" for what in ("c_link_args", "cpp_link_args")]
            subprocess.run(["meson", "setup", COUNTING, TREE, "-Dtests=enabled", "-Doptimization=1", "-Ddebug=false",
                            "-Dwerror=false", "-Db_lundef=false", *flags, *links], check=True,
                           stdout=subprocess.DEVNULL,
                           env={**os.environ, "CC": "clang", "CXX": "clang++", "LLVM_PROFILE_FILE": os.devnull})  # meson runs one
        stages = dict(programs(COUNTING))
        if not make(COUNTING, "all", *stages):
            sys.exit("tools/mutate: the sources do not build with clang, which counts what is run")
        inputs = Inputs(COUNTING)
        wanted = {t: (s, [p for p in inputs.of(t) if p.startswith(("test/", "apps/"))]) for t, s in stages.items()}
        for path in glob.glob("test/e2e/test_*.py", root_dir=TREE):
            if os.path.basename(path) not in LEFT_OUT:
                wanted[path] = "e2e", e2e_sources(path)
        self.tests = {name: test for name, test in self.tests.items() if name in wanted}
        for name, (stage, sources) in sorted(wanted.items(), key=lambda w: (STAGES.index(w[1][0]), w[0])):
            of = digest(sources)
            if stage in wanted_stages and self.tests.get(name, {}).get("of") != of:
                self.tests[name] = {"stage": stage, "of": of, **measure_one(name, stage)}
                self.save()
                test = self.tests[name]
                print(f"{name}: {test['took_s']:.1f} s, {sum(int(ran, 16).bit_count() for _, _, ran in test['ran'].values())} "
                      f"lines{', fails as it is: ' if test['failed'] else ''}{' '.join(test['failed'])}", flush=True)

    def save(self):
        with open(MAP + ".new", "w") as file:
            json.dump(self.tests, file)
        os.rename(MAP + ".new", MAP)

    def of(self, path, line, stages):
        """The names of the tests that run it. Lines count from 1; the source is as it is on disk."""
        return [name for name, test in self.tests.items() if test["stage"] in stages and path in test["ran"]
                and all("::" in failed for failed in test["failed"]) and self.runs(test, path, line)]

    def runs(self, test, path, line):
        of, code, ran = test["ran"][path]
        if path not in self.digests:
            self.digests[path] = digest([path])
        has_code = int(code, 16) >> line & 1 and of == self.digests[path]
        return int(ran, 16) >> line & 1 if has_code else int(ran, 16) != 0


def measure_one(name, stage):
    shutil.rmtree(COUNTS, ignore_errors=True)
    os.makedirs(COUNTS)
    os.chmod(COUNTS, 0o1777)  # some tests have processes of other users
    start = time.monotonic()
    if stage == "e2e":
        failed = pytest(COUNTING, [name], MEASURE_S)
        binaries = [f"{COUNTING}/src/cli/wadi", *glob.glob(f"{COUNTING}/src/**/libwadi.so", recursive=True)]
    else:
        failed = [] if call([f"{COUNTING}/{name}"], MEASURE_S, cwd=COUNTING) == 0 else [name]
        binaries = [f"{COUNTING}/{name}"]
    took_s = time.monotonic() - start
    return {"took_s": took_s, "failed": failed, "ran": lines_of(binaries)}


def lines_of(binaries):
    counts = glob.glob(f"{COUNTS}/*.profraw")
    if not counts:
        return {}
    profile = f"{WORK}/profile"
    output("llvm-profdata", "merge", "-sparse", "-failure-mode=all", "-o", profile, *counts)
    text = output("llvm-cov", "export", "-format=lcov", f"-instr-profile={profile}", binaries[0],
                  *(f"-object={b}" for b in binaries[1:]))
    found, path = {}, None
    for line in text.split("\n"):
        if line.startswith("SF:"):
            path = os.path.relpath(os.path.realpath(line[3:]), TREE)
        elif line.startswith("DA:") and path.startswith("src/"):
            number, count = (int(n) for n in line[3:].split(",")[:2])
            code, ran = found.get(path, (0, 0))
            found[path] = code | 1 << number, ran | (count > 0) << number
    return {path: (digest([path]), f"{code:x}", f"{ran:x}") for path, (code, ran) in found.items()}


def pytest(build, files, due_s, *options):
    """The names of the tests that failed; what has no name is what could not even be run, or was late."""
    report = f"{WORK}/report.xml"
    if os.path.exists(report):
        os.unlink(report)
    status = call(["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options,
                   *files], due_s, env={"WADI_BUILD": build})
    if status is None:
        return ["late"]
    failed = []
    if status != 0 and os.path.exists(report):
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                failed.append(f"{case.get('classname').replace('.', '/')}.py::{case.get('name')}")
    return failed or ([] if status in (0, 5) else [f"status {status}"])  # 5: there was nothing to run
