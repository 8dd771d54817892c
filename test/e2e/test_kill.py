"""Processes that are killed, and what goes on with their memory.

Writers put objects and readers compare every byte of them while processes are killed with
SIGKILL and started again. What was acknowledged is there, as it was put; what was not is there
as a whole or not at all. WADI_KILLS says how often (default 4); WADI_SEED, what is put when.
"""
import os
import random
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest
from cluster import Cluster, is_there, keepers, stop_all_of
from conftest import DONE, LATE_S, REFUSED, WADI, Store, clean_environment, is_readable, pattern, until

KILLS = int(os.environ.get("WADI_KILLS", "4"))
SEED = int(os.environ.get("WADI_SEED", "1"))
SIZES = (1, 2000, 2049, 70_000, 300_000, 3 << 20)
PATIENT = ("--timeout", "40s")  # a machine that does much else may not start a server within the ten seconds of others


def one_keeper(directory):
    return until(lambda: keepers(directory), f"a keeper of {directory}")[0]


def ends(pid, what):
    until(lambda: not is_there(pid), what)


class Traffic:
    """Writers with names of their own, and readers of what was acknowledged."""

    def __init__(self, client, seed, writers=3, readers=2):
        self.client, self.dice = client, random.Random(seed)
        self.acknowledged, self.perhaps, self.errors = {}, {}, []
        self.lock, self.is_over, self.puts, self.gets, self.refused = threading.Lock(), False, 0, 0, 0
        self.threads = [threading.Thread(target=self.guard, args=(self.write, i)) for i in range(writers)]
        self.threads += [threading.Thread(target=self.guard, args=(self.read, i)) for i in range(readers)]
        for thread in self.threads:
            thread.start()

    def guard(self, what, number):
        try:
            while not self.is_over:
                what(number)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(repr(error))

    def write(self, number):
        with self.lock:
            name, seed, size = f"w{number}/{self.dice.randrange(12)}", self.dice.randrange(1 << 30), \
                self.dice.choice(SIZES)
            before = self.perhaps.setdefault(name, [])
            before.append((seed, size))
        done = self.client.run("put", "-", name, *PATIENT, input=pattern(size, seed & 0xff) + seed.to_bytes(4, "little"))
        with self.lock:
            if done.returncode == DONE:
                self.acknowledged[name] = (seed, size)
                self.perhaps[name] = [(seed, size)]
                self.puts += 1
            else:
                self.refused += 1

    def check(self, name, got, may_be):
        for seed, size in may_be:
            if got == pattern(size, seed & 0xff) + seed.to_bytes(4, "little"):
                return
        self.errors.append(f"{name}: {len(got)} bytes that nobody put")

    def read(self, _number):
        with self.lock:
            name = self.dice.choice(sorted(self.acknowledged)) if self.acknowledged else None
            before = list(self.perhaps.get(name, ()))
        if not name:
            time.sleep(0.01)
            return
        done = self.client.run("get", name, *PATIENT)
        with self.lock:
            if done.returncode == DONE:
                self.gets += 1
                self.check(name, done.stdout, before + self.perhaps[name])
            else:
                self.refused += 1
                if b"NOTFOUND" in done.stderr or b"DAMAGED" in done.stderr or b"LOST" in done.stderr:
                    self.errors.append(done.stderr.decode())

    def stop(self):
        self.is_over = True
        for thread in self.threads:
            thread.join(LATE_S * 2)
        assert not self.errors, self.errors[:5]
        for name in sorted(self.acknowledged):
            got = self.client("get", name)
            self.check(name, got, self.perhaps[name])
        assert not self.errors, self.errors[:5]

    def goes_on(self):
        """Until puts and gets are acknowledged again."""
        puts, gets = self.puts, self.gets
        until(lambda: self.errors or (self.puts > puts + 2 and self.gets > gets + 2), "traffic")


def bytes_of(c, job):
    return next(one for one in c.admin.json("top")["jobs"] if one["name"] == job)["dram_bytes"]


@pytest.fixture
def new_cluster(tmp_path):
    """Of one shard, with a store that can be killed and started again."""
    made = []

    def make(**how):
        made.append(Cluster(str(tmp_path), shards=1, **how))
        return made[-1]
    yield make
    for one in made:
        one.kill()


def test_a_killed_store_goes_on_with_every_byte(new_cluster):
    c = new_cluster()
    traffic = Traffic(c.job("j"), SEED)
    try:
        for _ in range(KILLS):
            traffic.goes_on()
            time.sleep(traffic.dice.random() * 0.3)
            c.roles["store"].end(signal.SIGKILL)
            c.start_store()
    finally:
        traffic.stop()
    assert traffic.puts > 2 * KILLS and traffic.gets > 2 * KILLS
    assert traffic.refused == 0  # it was waited for
    assert "goes on with what its predecessor left" in c.roles["store"].told()
    assert "lost" not in c.roles["store"].told()
    c.admin("job", "end", "j")
    with c.to_store() as store:
        until(lambda: store.call("INFO")["dram_used"] == 0, "all bytes to go")
        assert store.call("INFO")["segment_count"] == 0
    c.stop()


def test_a_killed_proxy_has_nothing_any_more_once_the_next_one_is_there(new_cluster):
    """Not even when metadata is killed again and again, and so never waits a session's life for anybody."""
    c = new_cluster()
    w = c.job("j")
    w("put", "-", "x", input=pattern(300_000, 1))
    before = c.admin.json("top")["sessions"]
    for number in range(4):
        c.roles["proxy"].end(signal.SIGKILL)
        c.start_proxy()
        w("put", "-", "x", input=pattern(300_000, number))
        c.roles["meta"].end(signal.SIGKILL)
        c.start_meta(1)
    assert w("get", "x") == pattern(300_000, 3)

    until(lambda: c.admin.json("top")["sessions"] == before, f"{before} sessions, not {c.admin.json('top')}", 20)
    c.stop()


@pytest.mark.parametrize("kills_meta", [False, True])
def test_what_a_killed_proxy_had_open_is_no_longer_charged_to_its_job(new_cluster, tmp_path, kills_meta):
    """Its successor says that it is gone: the quota has room as soon as the store has fenced it off."""
    c = new_cluster()
    w = c.job("j", "--quota", "dram=8M")
    w("put", "-", "x", input=pattern(300_000))
    stream = w.start("put", "-", "stream", stdin=subprocess.PIPE)
    stream.stdin.write(pattern(3 << 20))
    stream.stdin.flush()
    until(lambda: bytes_of(c, "j") >= 3 << 20, "the stream to have its space")
    c.roles["proxy"].end(signal.SIGKILL)
    if kills_meta:
        c.roles["meta"].end(signal.SIGKILL)
    stream.kill()
    stream.communicate()
    if kills_meta:
        c.start_meta(1)
    c.start_proxy()
    begun = time.monotonic()
    (tmp_path / "y").write_bytes(pattern(6 << 20))
    w("put", tmp_path / "y", "y", "--timeout", "60s", timeout=90)
    assert time.monotonic() - begun < 15  # half of a session's life
    assert w("get", "x") == pattern(300_000)
    assert w("get", "y") == pattern(6 << 20)
    c.admin("job", "end", "j")
    until(lambda: bytes_of(c, "j") == 0, "the job to be cleared")
    with c.to_store() as store:
        until(lambda: store.call("INFO")["segment_count"] == 0, "all segments to go")
    c.stop()


def test_the_bill_goes_on_exactly(new_cluster):
    """The time while it was down counts, too."""
    c = new_cluster()
    w = c.job("j")
    for number in range(4):
        w("put", "-", f"x{number}", input=pattern(200_000 + 900_000 * number))
        if number == 2:
            w("rm", "x1")
        c.roles["store"].end(signal.SIGKILL)
        time.sleep(0.1)
        c.start_store()
        assert w("get", f"x{number}") == pattern(200_000 + 900_000 * number)
    c.admin("job", "end", "j")
    with c.to_store() as store:
        until(lambda: store.call("INFO")["dram_used"] == 0, "all bytes to go")
        info = store.call("INFO")
    bill = next(job for job in c.admin.json("top")["jobs"] if job["name"] == "j")
    assert int(bill["dram_byte_ms"]) > 0
    assert int(bill["dram_byte_ms"]) == (info["byte_ns_hi"] << 64 | info["byte_ns_lo"]) // 1_000_000


def test_a_killed_keeper_is_replaced_and_the_next_one_has_everything(new_cluster):
    c = new_cluster()
    w = c.job("j")
    directory = c.run_directory("store")
    sizes = [2049 + 40_000 * i for i in range(40)]
    for number, size in enumerate(sizes):
        w("put", "-", f"x{number}", input=pattern(size, number))
    for turn in range(3):
        before = one_keeper(directory)
        os.kill(before, signal.SIGKILL)
        until(lambda: c.roles["store"].told().count("A new keeper has all of our memory") == 1, "another keeper")
        assert keepers(directory) != [before]
        # The owner right after it.
        c.roles["store"].end(signal.SIGKILL)
        os.remove(os.path.join(c.directory, "store.log"))
        c.start_store()
        for number, size in enumerate(sizes):
            assert w("get", f"x{number}") == pattern(size, number), turn


def test_keepers_are_killed_under_traffic(new_cluster):
    c = new_cluster()
    traffic, killed = Traffic(c.job("j"), SEED), set()

    def others():
        """Who was killed is seen for a while on a busy machine, and its end not heard of."""
        return [pid for pid in keepers(c.run_directory("store")) if pid not in killed]
    try:
        for _ in range(KILLS):
            traffic.goes_on()
            pid = until(others, "another keeper")[0]
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        assert traffic.refused == 0
        traffic.goes_on()
        # One that is killed while it is given everything is replaced without a word of success.
        until(lambda: others() and "A new keeper has all" in
              [line for line in c.roles["store"].told().splitlines() if "keeper" in line][-1], "the last keeper")
        c.roles["store"].end(signal.SIGKILL)
        c.start_store()
        traffic.goes_on()
    finally:
        traffic.stop()


def test_a_keeper_that_has_stopped_is_replaced(new_cluster):
    c = new_cluster()
    w = c.job("j")
    w("put", "-", "x", input=pattern(300_000))
    before = one_keeper(c.run_directory("store"))
    os.kill(before, signal.SIGSTOP)
    # A new segment is not granted until there is a keeper that has it.
    w("put", "-", "y", input=pattern(30 << 20), timeout=60)
    ends(before, "the stopped keeper to be ended")
    c.roles["store"].end(signal.SIGKILL)
    c.start_store()
    assert w("get", "x") == pattern(300_000)
    assert w("get", "y") == pattern(30 << 20)


def stop_keeper_of(parent, due):
    """As early as can be: it is among the next process numbers. None if it has not been seen."""
    while time.monotonic() < due:
        for pid in range(parent + 1, parent + 40):
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                    is_child = file.read().rpartition(")")[2].split()[1] == str(parent)
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    is_keeper = b"keep" in file.read().split(b"\0")
            except OSError:
                continue
            if is_child and is_keeper:
                os.kill(pid, signal.SIGSTOP)
                return pid
    return None


def test_a_start_bears_a_keeper_that_is_slow_to_start():
    """On a busy machine one may need longer for its first answer than a later one may take."""
    for _ in range(20):
        process = subprocess.Popen([WADI, "dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--redis", "127.0.0.1:0"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=clean_environment())
        try:
            keeper = stop_keeper_of(process.pid, time.monotonic() + 2)
            is_early = keeper and not is_readable(process.stdout, time.monotonic() + 3)
            assert process.poll() is None, process.stderr.read()
            if keeper and is_there(keeper):  # else it had answered once, and was replaced when it did not go on
                os.kill(keeper, signal.SIGCONT)
            else:
                is_early = False
            due, text = time.monotonic() + LATE_S, b""
            while b"ready\n" not in text:
                assert is_readable(process.stdout, due)
                more = os.read(process.stdout.fileno(), 65536)
                assert more, process.stderr.read()
                text += more
            process.send_signal(signal.SIGTERM)
            told = process.communicate(timeout=LATE_S)[1]
        finally:
            process.kill()
            process.communicate()
        if is_early:
            assert process.returncode == 0 and told == b""
            ends(keeper, "the keeper to end")
            return
    pytest.skip("the keeper was never stopped before its first answer")


def test_a_store_without_its_keeper_has_lost_its_bytes_and_says_so(new_cluster):
    c = new_cluster()
    w = c.job("j")
    w("put", "-", "small", input=pattern(2000))
    w("put", "-", "x", input=pattern(300_000))
    stop_all_of(c.roles["store"].process)  # so that it starts no other keeper
    os.kill(one_keeper(c.run_directory("store")), signal.SIGKILL)
    c.roles["store"].end(signal.SIGKILL)
    c.start_store()
    until(lambda: b": LOST: " in w.run("get", "x").stderr, "the bytes to be lost")
    w("get", "x", code=REFUSED, status="LOST")
    assert w("get", "small") == pattern(2000)
    w("put", "-", "x", input=pattern(300_001))
    assert w("get", "x") == pattern(300_001)


def test_an_owner_that_does_not_come_back_leaves_nothing(new_cluster):
    c = new_cluster(keep_s="500ms")
    c.job("j")("put", "-", "x", input=pattern(300_000))
    directory = c.run_directory("store")
    keeper = one_keeper(directory)
    time.sleep(1)  # its patience does not count while there is an owner
    assert keepers(directory) == [keeper]
    c.roles["store"].end(signal.SIGKILL)
    ends(keeper, "the keeper to end")
    assert not os.path.exists(directory)
    c.start_store()  # anew
    assert one_keeper(directory)


def strange_messages():
    dice = random.Random(5)
    hello = b"wadk" + struct.pack("<HHi", 1, 0, 1)
    yield [b""]
    yield [b"x"]
    yield [hello, hello]
    yield [hello, b"wadk" + struct.pack("<HHi", 4, 65535, 0)]
    for _ in range(30):
        yield [hello, b"wadk" + dice.randbytes(dice.randrange(900))]
    for _ in range(30):
        yield [dice.randbytes(dice.randrange(1, 900))]


def test_strange_bytes_at_its_socket_harm_nobody(new_cluster):
    """They wait while it is owned; then each is refused, and the next owner has all."""
    c = new_cluster()
    w = c.job("j")
    w("put", "-", "x", input=pattern(300_000))
    path = c.run_directory("store") + "/keep.sock"
    keeper = one_keeper(c.run_directory("store"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as early:
        early.connect(path)
        early.sendall(b"first")
        c.roles["store"].end(signal.SIGKILL)
        early.settimeout(LATE_S)
        assert early.recv(100) == b""
    for messages in strange_messages():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(path)  # waits for room in the backlog
            try:
                for message in messages:
                    s.send(message)
            except (BrokenPipeError, ConnectionResetError):
                pass
    assert keepers(c.run_directory("store")) == [keeper]
    c.start_store()
    assert w("get", "x") == pattern(300_000)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_is_refused(tmp_path):
    directory = tempfile.mkdtemp(prefix="wadi-e2e-")
    keeper = subprocess.Popen([WADI, "keep", directory], stdin=subprocess.DEVNULL, env=clean_environment())
    path = directory + "/keep.sock"
    script = f"""
import os, socket
os.setuid(65534)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout({LATE_S})
s.connect({path!r})
try:
    s.send(b"wadk" + bytes([1, 0, 0, 0, 1, 0, 0, 0]))
    s.send(b"wadk" + bytes([2, 0, 1, 0, 0, 0, 0, 0]) + bytes(12))
    print("answer", s.recv(4000))
except (BrokenPipeError, ConnectionResetError):
    print("answer", b"")
"""
    try:
        until(lambda: os.path.exists(path), "its socket")
        assert os.stat(path).st_mode & 0o077 == 0
        os.chmod(directory, 0o711)
        os.chmod(path, 0o666)
        done = subprocess.run(["/usr/bin/python3", "-c", script], stdout=subprocess.PIPE, timeout=LATE_S * 2, check=True)
        assert done.stdout == b"answer b''\n"
        assert keeper.poll() is None
        keeper.terminate()
        assert keeper.wait(LATE_S) == 0
        assert not os.path.exists(directory)
    finally:
        keeper.kill()
        keeper.wait()


def again(store, *options, **how):
    """Another `wadi dev` in the place of one that was killed."""
    store.process.kill()
    store.process.wait()
    return Store(*options, **how)


def test_a_killed_dev_goes_on_with_everything_at_the_same_endpoints(tmp_path):
    options = ["--data", str(tmp_path / "data"), "--keep-s", "30s"]
    stores = [Store(*options)]
    try:
        w = stores[0].job()
        endpoint = stores[0].endpoints["tcp"]
        traffic = Traffic(w, SEED)
        try:
            for _ in range(KILLS):
                traffic.goes_on()
                time.sleep(traffic.dice.random() * 0.3)
                stores.append(again(stores[-1], *options))
                assert stores[-1].endpoints["tcp"] == endpoint
        finally:
            traffic.stop()
        assert traffic.puts > 2 * KILLS and traffic.gets > 2 * KILLS
        assert b"ok    bills" in stores[-1].client().run("doctor").stdout
        stores[-1].client()("job", "end", w.job)
        until(lambda: stores[-1].client().top()["dram_used"] == 0, "all bytes to go")
        assert stores[-1].stop() == 0
        assert not os.path.exists(tmp_path / "data/run")
    finally:
        for store in stores:
            store.kill()


def test_what_a_killed_proxy_had_open_is_given_back(tmp_path):
    """Not after the life of its session: its successor says that it is gone."""
    options = ["--data", str(tmp_path / "data"), "--keep-s", "30s"]
    stores = [Store(*options, memory="160M")]
    try:
        w = stores[0].job()
        w("put", "-", "x", input=pattern(300_000))
        stream = w.start("put", "-", "stream", stdin=subprocess.PIPE)
        stream.stdin.write(pattern(70 << 20))
        stream.stdin.flush()
        until(lambda: stores[0].client().top()["dram_used"] >= 70 << 20, "the stream to have its space")
        stores.append(again(stores[-1], *options, memory="160M"))
        stream.kill()
        stream.communicate()
        until(lambda: stores[-1].client().top()["dram_used"] <= 1 << 20, "what the stream had to go")
        w("put", "-", "y", input=pattern(90 << 20), timeout=60)
        assert w("get", "x") == pattern(300_000)
        assert w("get", "y") == pattern(90 << 20)
        assert b"ok    bills" in stores[-1].client().run("doctor").stdout
        assert "a session is over: its process is gone" in stores[-1].log()
    finally:
        for store in stores:
            store.kill()
