#!/usr/bin/python3
"""Many functions on one proxy's host: they open and close handles and views all the time, for long.

usage: test/torture/functions.py [--functions N] [--objects N] [--jobs N] [--seconds S] [--memory SIZE]
                                 [--seed S] [--kills]

Each is a process (functions.c) with so many objects, and checks every byte. Without --kills: memory of the
store's control group, descriptors and mappings of the server, its keeper and the functions do
not grow from the second third of the run to the last, and no function is served less than half of the mean. With
--kills: functions are killed or stopped at random moments, and continued; every now and then the job
of a stopped one ends, and what it has mapped is given back at once, while it is stopped; when it goes on
its views say that they were revoked, and nothing else happens to it.

In the end the store is empty, `wadi doctor` finds every byte, and the control group has as much shared memory as
in the beginning. Where there is no control group, that is left out and said so. Exit status 0: all of
that was so. The build is that of WADI_BUILD.
"""
import argparse
import collections
import mmap
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from kills import wait_for
from many import BUILD, Store, number
from cluster import keepers
from conftest import clean_environment

FUNCTION = os.path.join(BUILD, "test/torture/functions")
LINE = 128
FIELDS = "ops opens puts gets views longest_us life revoked bytes is_ready at0 at1 at2 at3 at4".split()
JOB_HAS_ENDED = 3
LATE_S = 60
AT_ONCE_S = 30  # on a machine where many want its two cores; views may be kept for a minute
REST_S = 300  # a shorter run does not come to rest: each job remembers its last 65,536 changes
GROWTH = 1.05  # from the second third to the last: what is put and removed at random is never the same
SLACK = {"fds": 20, "maps": 40, "kB": 4096}
SPARE_KB = (4 + 1) * 1028  # metadata has so many pieces of a megabyte ready, and with pages once they were used


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def descriptors(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def kinds_of_descriptors(pid):
    """How many of each: what they link to, without the number."""
    kinds = collections.Counter()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            kinds[re.sub(r"\[?\d+\]?| \(deleted\)", "", os.readlink(f"/proc/{pid}/fd/{fd}"))] += 1
        except OSError:
            continue  # closed meanwhile
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def own_kb(pid):
    """Memory that it shares with nobody."""
    pages = read(f"/proc/{pid}/statm").split()
    return (int(pages[1]) - int(pages[2])) * 4 if pages else 0


def mappings(pid):
    return read(f"/proc/{pid}/maps").count("\n")


def regions_of(pid, access):
    """(range, the first eight bytes) of what it has mapped so of the store's memory."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for span in re.findall(rf"^(\S+) {access} .* /memfd:wadi-segment", read(f"/proc/{pid}/maps"), re.M):
            memory.seek(int(span.split("-")[0], 16))
            try:
                found.append((span, memory.read(8)))
            except OSError:
                pass  # it is gone meanwhile
    return found


def segments_of(pid):
    """The ranges at which a function maps segments of its job; not the index of that."""
    return [span for span, magic in regions_of(pid, "r--s") if magic not in (b"widhead1", b"witable1")]


def mapped_bytes(pid, spans):
    """Pages that there are in the files behind these mappings, whoever has them."""
    total = 0
    for span in spans:
        try:
            total += os.stat(f"/proc/{pid}/map_files/{span}").st_blocks * 512
        except OSError:
            pass
    return total


def has_stopped(pid):
    return read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[0] == "T"


class Functions:
    def __init__(self, store, directory, o, dice):
        self.store, self.o, self.dice = store, o, dice
        self.endpoint = f"unix://{directory}/s"
        self.path = os.path.join(directory, "table")
        with open(self.path, "wb") as file:
            file.truncate(LINE * (1 + o.functions))
        with open(self.path, "r+b") as file:
            self.table = mmap.mmap(file.fileno(), 0)
        self.tokens, self.job_lives = [None] * o.jobs, [0] * o.jobs
        self.processes, self.lives = [None] * o.functions, [0] * o.functions
        self.stopped = {}  # number: when it is continued
        self.counts = dict.fromkeys(("killed", "stopped", "jobs ended", "ops", "revoked"), 0)

    def job(self, j):
        return f"job-{j}.{self.job_lives[j]}"

    def start_job(self, j):
        self.tokens[j] = self.store.client("job", "create", self.job(j), "--lease", "1h").decode().strip()

    def start(self, i):
        o = self.o
        self.table[LINE * (1 + i):LINE * (2 + i)] = bytes(LINE)
        self.processes[i] = subprocess.Popen(
            [FUNCTION, self.path, str(i), str(o.jobs), str(o.functions), str(o.objects), str(self.dice.getrandbits(60)),
             str(self.lives[i])], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=clean_environment(WADI_ENDPOINT=self.endpoint, WADI_TOKEN=self.tokens[i % o.jobs]))
        self.lives[i] += 1

    def line(self, i):
        return dict(zip(FIELDS, struct.unpack_from(f"<{len(FIELDS)}Q", self.table, LINE * (1 + i))))

    def lines(self):
        return [self.line(i) for i in range(self.o.functions)]

    def wait(self, i, code=0):
        """Its end, which is counted."""
        p = self.processes[i]
        _, told = p.communicate(timeout=LATE_S)
        if p.returncode != code or told:
            raise SystemExit(f"function {i} ended with {p.returncode}: {told}")
        line = self.line(i)
        self.counts["ops"] += line["ops"]
        self.counts["revoked"] += line["revoked"]
        return line

    def are_well(self):
        for i, p in enumerate(self.processes):
            if p.poll() is not None:
                self.wait(i, "still running")

    def end(self):
        for i in list(self.stopped):
            self.go_on(i)
        self.table[:8] = b"\1" + bytes(7)
        for i in range(self.o.functions):
            self.wait(i)

    def give_up(self):
        for p in self.processes:
            if p and p.poll() is None:
                p.kill()
                p.communicate()

    # What is done to them.

    def kill(self, i):
        self.stopped.pop(i, None)
        self.processes[i].kill()
        self.wait(i, -signal.SIGKILL)
        self.start(i)
        self.counts["killed"] += 1

    def stop(self, i, seconds):
        self.processes[i].send_signal(signal.SIGSTOP)
        self.stopped[i] = time.monotonic() + seconds
        self.counts["stopped"] += 1

    def go_on(self, i):
        self.stopped.pop(i, None)
        self.processes[i].send_signal(signal.SIGCONT)

    def views_in_place(self, i):
        """As many as are known of, while it is stopped."""
        line, spans = self.line(i), [tuple(int(x, 16) for x in s.split("-")) for s in segments_of(self.processes[i].pid)]
        return sum(any(begin <= line[f"at{k}"] < end for begin, end in spans) for k in range(5))

    def one_that_views(self):
        """Stopped while it has views in place."""
        for i in self.dice.sample(range(self.o.functions), self.o.functions):
            if i in self.stopped or not self.line(i)["at0"]:
                continue
            self.stop(i, float("inf"))
            wait_for(lambda: has_stopped(self.processes[i].pid), "a stop", LATE_S)  # pylint: disable=cell-var-from-loop
            if self.views_in_place(i) > 0:
                return i
            self.go_on(i)
        return None

    def end_a_job(self):
        """While one of its functions is stopped, with views in place."""
        i = wait_for(self.one_that_views, "a function with views", LATE_S)
        j, pid = i % self.o.jobs, self.processes[i].pid
        members = range(j, self.o.functions, self.o.jobs)
        count, spans = self.views_in_place(i), segments_of(pid)
        before = mapped_bytes(pid, spans)
        begun = time.monotonic()
        self.store.client("job", "end", self.job(j))
        wait_for(lambda: mapped_bytes(pid, spans) == 0, "what a stopped function maps", AT_ONCE_S)
        took = time.monotonic() - begun
        for k in members:
            if k in self.stopped:
                self.go_on(k)
        for k in members:
            line = self.wait(k, JOB_HAS_ENDED)
            if k == i and line["revoked"] < count:
                raise SystemExit(f"function {i} had {count} views in place, of which {line['revoked']} were revoked")
        wait_for(lambda: all(job["dram_bytes"] == 0 for job in self.store.client.json("top")["jobs"]
                             if job["name"] == self.job(j)), "the bytes of a job that has ended", AT_ONCE_S)
        self.counts["jobs ended"] += 1
        self.job_lives[j] += 1
        self.start_job(j)
        for k in members:
            self.lives[k] = 0
            self.start(k)
        return before, took


def shared_without_log(store):
    """In kB. The log is what was logged since the last snapshot, and that: no matter of who is there."""
    pid = store.process.pid
    leaves = [span for span, magic in regions_of(pid, "rw-s") if magic == b"wadilaf2"]
    return (store.group.stat("shmem") - mapped_bytes(pid, leaves)) // 1024, len(leaves)


def sample(store, functions):
    """Figures by name; the end of the name is the unit."""
    server, keeper = store.process.pid, (keepers(store.directory) or [0])[0]
    found = {"group kB": store.group.used() // 1024, "shared kB": store.group.stat("shmem") // 1024 if store.group.path else 0,
             "server kB": own_kb(server), "server fds": descriptors(server), "server maps": mappings(server),
             "keeper fds": descriptors(keeper), "keeper kB": own_kb(keeper)}
    if functions:
        pids = [p.pid for p in functions.processes]
        for name, count in (("functions kB", own_kb), ("functions fds", descriptors), ("functions maps", mappings)):
            found[name] = sum(map(count, pids))
    return found


def thirds_of(samples, name):
    n = len(samples) // 3
    return [sum(s[name] for s in samples[k * n:(k + 1) * n]) / n for k in range(3)] if n else [0, 0, 0]


def check_growth(samples, is_strict):
    grown = []
    for name in samples[0]:
        means = thirds_of(samples, name)
        print(f"  {name:15} {means[0]:10.0f} {means[1]:10.0f} {means[2]:10.0f}   mean of each third; "
              f"{min(s[name] for s in samples)} to {max(s[name] for s in samples)}")
        slack = SLACK[name.split()[1]]
        if means[2] > means[1] * GROWTH + slack:
            grown.append(name)
    if grown and is_strict:
        raise SystemExit(f"grows: {', '.join(grown)}")


def run_on(store, functions, seconds):
    """As they are, for so long."""
    begun, before, samples = time.monotonic(), [line["ops"] for line in functions.lines()], []
    while time.monotonic() < begun + seconds:
        time.sleep(max(0.2, seconds / 300))
        functions.are_well()
        samples.append(sample(store, functions))
    took = time.monotonic() - begun
    ops = [line["ops"] - b for line, b in zip(functions.lines(), before)]
    mean = sum(ops) / len(ops)
    longest = max(line["longest_us"] for line in functions.lines())
    opens = sum(line["opens"] for line in functions.lines())
    print(f"  {sum(ops) / took:.0f} operations a second, {opens} handles; of one function {min(ops) / mean:.2f} to "
          f"{max(ops) / mean:.2f} of the mean, {mean / took:.1f} a second; the longest took {longest / 1000:.0f} ms")
    check_growth(samples, seconds >= REST_S)
    if seconds >= REST_S and min(ops) < mean / 2:
        raise SystemExit(f"a function had {min(ops)} operations, where the mean is {mean:.0f}")


def harm(store, functions, seconds, pause_s):
    """Kills and stops them for so long, and until a job was ended, for which a machine that does much else may have had no time."""
    begun, dice, ended, samples = time.monotonic(), functions.dice, [], []
    next_end = begun + min(seconds / 3, 15)
    while time.monotonic() < begun + seconds or not ended:
        time.sleep(dice.expovariate(1 / pause_s))
        functions.are_well()
        for i in [i for i, due in functions.stopped.items() if due < time.monotonic()]:
            functions.go_on(i)
        i = dice.randrange(functions.o.functions)
        if dice.randrange(2):
            functions.kill(i)
        elif i not in functions.stopped:
            functions.stop(i, dice.choice((0.05, 0.5, 2, 5)) * dice.random())
        if time.monotonic() > next_end:
            ended.append(functions.end_a_job())
            next_end = time.monotonic() + 15
        samples.append(sample(store, None))
        if store.process.poll() is not None:
            raise SystemExit("the server has ended")
    for before, took in ended:
        print(f"  a job ended: {before >> 10} kB that a stopped function had mapped were gone after {took * 1000:.0f} ms")
    check_growth(samples, False)


def at_rest(store):
    """A server makes its log's next leaves ready after it has said that it is: what it has when that is done."""
    due, same, before = time.monotonic() + LATE_S, 0, sample(store, None)
    while same < 10 and time.monotonic() < due:
        time.sleep(0.05)
        now = sample(store, None)
        same = same + 1 if all(now[k] == before[k] for k in ("server fds", "keeper fds")) else 0
        before = now
    return before


def check_empty(store, functions, before):
    """Nothing is left of anybody, but for what the server has learned to keep ready."""
    c = store.client
    wait_for(lambda: c.json("top")["sessions"] == before["sessions"], "sessions of functions to be over", LATE_S)
    found = c.run("doctor").stdout.decode()
    if "ok    bills" not in found:
        raise SystemExit(f"doctor: {found}")
    print("  doctor: " + re.search(r"^ok    bills +(.*\n.*)", found, re.M)[1].replace("\n                 ", ""))
    for j in range(functions.o.jobs):
        c("job", "end", functions.job(j))
    wait_for(lambda: (t := c.json("top"))["segments"] == 0 and t["dram_used"] == 0 and t["waiting"] == 0, "its segments", LATE_S)
    pid = store.process.pid
    # A leaf has two descriptors, one of them with the helper that writes it: as the ring of the log was.
    wait_for(lambda: descriptors(pid) - shared_without_log(store)[1] <= before["server fds"] - before["leaves"] + 2,
             lambda: f"descriptors: {before['server fds']} before, with {before['leaves']} leaves of the log; now {descriptors(pid)}, "
             f"with {shared_without_log(store)[1]}: {kinds_of_descriptors(pid)}", LATE_S)
    if store.group.path:
        wait_for(lambda: shared_without_log(store)[0] <= before["without log kB"] + SPARE_KB,
                 lambda: f"shared memory: {before['without log kB']} kB before, now {shared_without_log(store)[0]} kB", LATE_S)
    after = sample(store, None)
    print("  before and after: " + ", ".join(f"{k} {before[k]} {after[k]}" for k in after))


def torture(o, dice, directory):
    with Store(number(o.memory), directory, "--socket", f"{directory}/s") as store:
        store.directory = directory
        functions = Functions(store, directory, o, dice)
        try:
            for j in range(o.jobs):
                functions.start_job(j)
            before = at_rest(store)
            before["without log kB"], before["leaves"] = shared_without_log(store)
            before["sessions"] = store.client.json("top")["sessions"]
            begun = time.monotonic()
            for i in range(o.functions):
                functions.start(i)
            wait_for(lambda: (functions.are_well(), all(line["is_ready"] for line in functions.lines()))[1], "all objects", 600)
            print(f"  {o.functions * o.objects} objects were there after {time.monotonic() - begun:.1f} s", flush=True)
            if o.kills:
                harm(store, functions, o.seconds, o.pause)
            else:
                run_on(store, functions, o.seconds)
            functions.end()
            check_empty(store, functions, before)
            print("  " + ", ".join(f"{v} {k}" for k, v in functions.counts.items()))
        except BaseException:
            print(read(store.log)[-3000:])
            raise
        finally:
            functions.give_up()
        log = read(store.log)
        if re.search(r"^\S+ error ", log, re.M):
            raise SystemExit(log[-3000:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", type=int, default=200)
    parser.add_argument("--objects", type=int, default=2000, help="of each of them")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--memory", default="4G")
    parser.add_argument("--kills", action="store_true")
    parser.add_argument("--pause", type=float, default=0.1, help="mean seconds between two that are killed or stopped")
    parser.add_argument("--seed", type=int, default=None)
    o = parser.parse_args()
    seed = o.seed if o.seed is not None else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}; {o.functions} functions with {o.objects} objects each, {o.seconds:.0f} s", flush=True)
    directory = tempfile.mkdtemp(prefix="wadi-functions-")
    os.environ["XDG_RUNTIME_DIR"] = directory
    try:
        torture(o, random.Random(seed), directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print("all is well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
