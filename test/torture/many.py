#!/usr/bin/python3
"""Great numbers: objects, jobs, waiters, and one object of gigabytes; what they cost in memory, and how
soon a killed store with many objects answers again.

usage: test/torture/many.py [objects=1000000] [jobs=10000] [waiters=32000] [idle=32000] [stream=12G] [restart=100000]

Without arguments all six, of that size. The store and its keeper run in a memory cgroup of
their own, with the limit that --memory gives them; where none can be made, that part is left out and
said so. Exit status 0: everything was right, nothing was left, and the limit held.
"""
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
from conftest import BUILD, WADI, Client, clean_environment  # noqa: E402
from cluster import Cluster, Role, free_ports  # noqa: E402
from group import Group  # noqa: E402

MANY = os.path.join(BUILD, "test/torture/many")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def number(text):
    return int(float(text[:-1]) * UNITS[text[-1]]) if text[-1] in UNITS else int(text)


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as stat:
        words = stat.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class Store:
    def __init__(self, memory, tmp, *options):
        self.group, self.memory, self.options = Group("many", memory), memory, options
        self.ports = [f"127.0.0.1:{p}" for p in free_ports(4)]
        self.log, self.process = os.path.join(tmp, "log"), None
        self.client = Client("tcp://" + self.ports[0])
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.give_up()
            raise

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [WADI, "dev", "--memory", str(self.memory), "--keep-s", "2s", "--listen", self.ports[0],
                 "--http", self.ports[1], "--redis", self.ports[2], "--direct", self.ports[3], *self.options],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=clean_environment(),
                preexec_fn=self.group.enter)

    def wait_ready(self):
        while b"ready" not in self.process.stdout.readline():
            assert self.process.poll() is None, open(self.log).read()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def many(self, *args, **how):
        return subprocess.run([MANY, *map(str, args)], stdout=subprocess.PIPE, check=True, text=True,
                              env=self.client.env(), **how).stdout.strip()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.give_up()
        else:
            self.end()

    def give_up(self):
        if self.process:
            self.process.terminate()
            self.process.wait(60)
        self.group.remove()

    def end(self):
        self.process.terminate()
        code = self.process.wait(60)
        peak, failures = self.group.read(2), self.group.failures()
        self.group.remove()
        print(f"  ended with {code}; the most memory: {peak / 1e6:.0f} MB; the limit was hit {failures} times")
        assert code == 0, open(self.log).read()[-2000:]
        assert failures == 0, "more memory was wanted than --memory says"


def timed(what, function):
    begun = time.monotonic()
    value = function()
    print(f"  {what}: {time.monotonic() - begun:.3f} s")
    return value


def settled(store, since):
    """What the group uses once what was given up is given back."""
    due = time.monotonic() + 20
    used = store.group.used()
    while used > since and time.monotonic() < due:
        time.sleep(0.2)
        used = store.group.used()
    return used


def objects(n, tmp):
    print(f"{n} objects of 100 bytes")
    with Store(max(1 << 30, (n * 1200 >> 20) + 1 << 20), tmp) as store:
        before = store.group.used()
        print("  put: " + store.many("objects", n))
        used = store.group.used() - before
        name = len("many/000/0000000")
        print(f"  memory: {used / n:.0f} bytes each; of these 100 of data, {name} of the name, "
              f"{used / n - 100 - name:.0f} others")
        print("  get: " + store.many("check", n))
        timed("stat", lambda: store.client("stat", "many/500/0000500"))
        timed("list of 1/1000", lambda: store.client("ls", "many/500"))
        timed("remove one", lambda: store.client("rm", "many/500/0000500"))
        timed("remove all (rm -r)", lambda: store.client("rm", "-r", "many", timeout=600))
        assert store.client("ls", "--json") == b""
        print(f"  memory left: {(settled(store, before + n * 10) - before) / n:.0f} bytes for each that was")
        found = store.client.run("doctor").stdout.decode()
        assert "ok    bills" in found, found


def jobs(n, tmp):
    print(f"{n} jobs, each with three small values and one object of 100 KB")
    with Store(2 << 30, tmp) as store:
        before = store.group.used()
        begun = time.monotonic()
        workers = [subprocess.Popen([sys.executable, __file__, "--some-jobs", store.client.endpoint, str(i),
                                     str(n // 4)]) for i in range(4)]
        assert all(w.wait() == 0 for w in workers)
        print(f"  made in {time.monotonic() - begun:.1f} s; {(store.group.used() - before) / n / 1000:.1f} kB each")
        timed("job ls", lambda: store.client("job", "ls"))
        timed("top", lambda: store.client("top", "--json"))
        timed("job show", lambda: store.client("job", "show", "job-1-0"))
        workers = [subprocess.Popen([sys.executable, __file__, "--end-jobs", store.client.endpoint, str(i),
                                     str(n // 4)]) for i in range(4)]
        assert all(w.wait() == 0 for w in workers)
        due = time.monotonic() + 30
        while store.client.json("top")["dram_used"] > 0:
            assert time.monotonic() < due, store.client.json("top")
            time.sleep(0.1)
        found = store.client.run("doctor").stdout.decode()
        assert "ok    bills" in found, found


def some_jobs(endpoint, worker, count, is_end):
    import ctypes
    lib = ctypes.CDLL(os.path.join(BUILD, "src/attach/libwadi.so"))
    lib.wadi_strerror.restype = ctypes.c_char_p

    class Options(ctypes.Structure):
        _fields_ = [("size", ctypes.c_size_t), ("endpoint", ctypes.c_char_p), ("token", ctypes.c_char_p),
                    ("timeout_ms", ctypes.c_uint32), ("reserved", ctypes.c_uint32)]

    def open_at(token):
        handle = ctypes.c_void_p()
        options = Options(ctypes.sizeof(Options), endpoint.encode(), token, 60000)
        assert lib.wadi_open(ctypes.byref(options), ctypes.byref(handle)) == 0
        return handle
    admin, token = open_at(None), ctypes.create_string_buffer(1024)
    data = bytes(100_000)
    for i in range(count):
        name = f"job-{worker}-{i}".encode()
        r = lib.wadi_job_end(admin, name) if is_end else lib.wadi_job_create(admin, name, None, token)
        assert r == 0, lib.wadi_strerror(admin)
        if is_end:
            continue
        job = open_at(token.value)
        for path, size in ((b"a", 10), (b"b", 100), (b"c", 300), (b"big", 100_000)):
            assert lib.wadi_put(job, path, data, ctypes.c_size_t(size), None, None) == 0, lib.wadi_strerror(job)
        lib.wadi_close(job)


def waiters(n, tmp):
    print(f"{n} parked waiters")
    with Store(1 << 30, tmp) as store:
        before = store.group.used()
        # A waiter is a stack in its process, and vm.max_map_count allows some 30,000 of them there.
        clients = [subprocess.Popen([MANY, "waiters", str(n // 4)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    text=True, env=store.client.env()) for _ in range(4)]
        connections = sum(int(re.fullmatch(r"waiting (\d+)\n", c.stdout.readline())[1]) for c in clients)
        # The last of them are still on their way.
        due = time.monotonic() + 60
        while store.client.json("top")["waiting"] < n // 4 * 4:
            assert time.monotonic() < due, store.client.json("top")
            time.sleep(0.1)
        used, cpu = store.group.used() - before, cpu_s(store.process.pid)
        time.sleep(5)
        print(f"  over {connections} connections; memory: {used / n:.0f} bytes each, without the kernel's sockets; "
              f"CPU while idle: {(cpu_s(store.process.pid) - cpu) / 5 * 100:.1f} %")
        timed("a put beside them", lambda: store.client("put", "-", "beside", input=b"x"))
        for c in clients:
            c.stdin.close()
        for c in clients:
            print("  " + c.stdout.read().strip())
            assert c.wait() == 0
        assert store.client.json("top")["waiting"] == 0


def idle(n, tmp):
    """Over as many proxies as their descriptors ask for: a server has most of its own for connections."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = -(-n // (files * 3 // 4))
    print(f"{n} connections that are idle, to {count} {'proxy' if count == 1 else 'proxies'} with {files} descriptors each")
    cluster = Cluster(tmp, shards=1, keep_s="2s")
    proxies, clients = [], []
    try:
        for i, port in enumerate(free_ports(count)):
            os.mkdir(os.path.join(tmp, str(i)))
            proxies.append(Role(os.path.join(tmp, str(i)), "proxy", "--listen", f"127.0.0.1:{port}", "--http", "127.0.0.1:0",
                                "--redis", "127.0.0.1:0", "--meta", cluster.metas, "--keep-s", "2s", *cluster.with_key,
                                *cluster.with_token_key, env=cluster.env))
        before = sum(resident(p) for p in proxies)
        # A handle is two descriptors: its connection, and what it waits with.
        clients = [subprocess.Popen([MANY, "idle", str(n // count // 2)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    text=True, env=Client(p.endpoints["tcp"], cluster.key).env())
                   for p in proxies for _ in range(2)]
        for c in clients:
            assert c.stdout.readline() == "idle\n"
        time.sleep(2)
        used, cpu = sum(resident(p) for p in proxies) - before, sum(cpu_s(p.process.pid) for p in proxies)
        time.sleep(20)
        print(f"  {used / n:.0f} bytes of a proxy's memory each, without the kernel's sockets; CPU while idle: "
              f"{(sum(cpu_s(p.process.pid) for p in proxies) - cpu) / 20 * 100 / count:.2f} % of a core for each proxy")
        begun = time.monotonic()
        for c in clients:
            c.stdin.close()
        for c in clients:
            assert c.wait() == 0
        print(f"  then each put and got a value: {time.monotonic() - begun:.1f} s")
        for p in proxies:
            assert p.end() == 0, p.told()
    finally:
        for c in clients:
            c.kill()
        for p in proxies:
            p.process.kill()
        cluster.kill()


def resident(role):
    with open(f"/proc/{role.process.pid}/smaps_rollup") as file:
        return 1024 * int(re.search(r"^Rss:\s+(\d+) kB", file.read(), re.M)[1])


def stream(size, tmp):
    print(f"one object of {size} bytes, streamed")
    with Store(size + (size >> 2) + (1 << 30), tmp) as store:
        for line in store.many("stream", size, timeout=1200).splitlines():
            print("  " + line)
        print("  " + store.many("read", size, timeout=1200))
        timed("remove", lambda: store.client("rm", "stream"))
        due = time.monotonic() + 30
        while store.client.json("top")["dram_used"] > 0:
            assert time.monotonic() < due, store.client.json("top")
            time.sleep(0.1)
        print(f"  its bytes were free after {30 - (due - time.monotonic()):.1f} s")


def restart(n, tmp):
    """kill -9, start again at the same ports: until `wadi stat` of the object that was put last answers."""
    print(f"restart with {n} objects of 100 bytes; the budget is 200 ms with 100000")
    with Store(max(1 << 30, (n * 1200 >> 20) + 1 << 20), tmp) as store:
        print("  put: " + store.many("objects", n))
        last = f"many/{(n - 1) % 1000:03}/{n - 1:07}"
        rounds = []
        for i in range(5):
            store.kill()
            begun = time.monotonic()
            store.start()
            while store.client.run("stat", last, "--timeout", "10s").returncode != 0:
                assert time.monotonic() < begun + 60, open(store.log).read()[-2000:]
                time.sleep(0.01)  # who asks all the time takes a core from it
            rounds.append(1000 * (time.monotonic() - begun))
            print(f"  {i + 1}: {rounds[-1]:.0f} ms, "
                  f"of which the store had {1000 * cpu_s(store.process.pid):.0f} ms of a core")
            store.wait_ready()
        print(f"  median: {sorted(rounds)[2]:.0f} ms")
        print("  get: " + store.many("check", n))


def main():
    if sys.argv[1:2] in (["--some-jobs"], ["--end-jobs"]):
        some_jobs(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[1] == "--end-jobs")
        return 0
    what = sys.argv[1:] or ["objects=1000000", "jobs=10000", "waiters=32000", "idle=32000", "stream=12G", "restart=100000"]
    tests = {"objects": objects, "jobs": jobs, "waiters": waiters, "idle": idle, "stream": stream, "restart": restart}
    for word in what:
        m = re.fullmatch(r"(\w+)=(\d+[KMG]?)", word)
        if not m or m.group(1) not in tests:
            print(__doc__)
            return 2
        tmp = tempfile.mkdtemp(prefix="wadi-many-")
        try:
            tests[m.group(1)](number(m.group(2)), tmp)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
