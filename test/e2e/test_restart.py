"""A killed `wadi dev` goes on where it was; durable jobs survive more than that.

The machine is not switched off here: to kill server and keeper leaves the files, as they were
written, and no memory. What was synced, and what was not, the unit tests of the log tell apart.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest
from cluster import free_ports, is_there, kill_keepers
from conftest import LATE_S, REFUSED, Client, clean_environment, in_time, pattern, run_wadi, until, WADI
from wire import Wire

KEEP = ("--keep-s", "30s")


def run_directory(data):
    with open(os.path.join(data, "run")) as file:
        return file.read().strip()


class Again:
    """A `wadi dev` with --data that can be killed and started again."""

    def __init__(self, tmp_path, *options, data=None):
        self.data = data or str(tmp_path / "data")
        self.log_path = str(tmp_path / "log")
        self.options = options
        self.process = None

    def start(self, is_expected=True, is_waited_for=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [WADI, "dev", "--memory", "256M", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                 "--redis", "127.0.0.1:0", "--data", self.data, *KEEP, *self.options],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=clean_environment())
        if not is_waited_for:
            return None
        text = b""
        while b"ready\n" not in text:
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                break
            text += more
        if not is_expected:
            assert b"ready" not in text
            return self.process.wait(LATE_S)
        assert b"ready" in text, self.log()
        self.endpoint = re.search(rb"^endpoint=(tcp://\S+)$", text, re.M).group(1).decode()
        return Client(self.endpoint)

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def kill_keeper(self):
        for pid in kill_keepers(run_directory(self.data)):
            until(lambda: not is_there(pid), "the keeper's end")  # pylint: disable=cell-var-from-loop

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        if self.process and not self.process.stdout.closed:
            self.process.stdout.close()


@pytest.fixture
def again(tmp_path):
    made = []

    def make(*options, **how):
        made.append(Again(tmp_path, *options, **how))
        return made[-1]
    yield make
    for one in made:
        one.stop()
        if os.path.exists(os.path.join(one.data, "run")):
            one.kill_keeper()


def job(client, name, *options):
    return Client(client.endpoint, client("job", "create", name, *options).decode().strip())


def test_after_a_kill_everything_small_is_there(again):
    server = again()
    client = server.start()
    j = job(client, "shuffle", "--quota", "dram=64M")
    values = {f"d/{i}": pattern(i * 7 % 2049, i) for i in range(300)}
    for path, value in values.items():
        j("put", "-", path, input=value)
    version = j.json("stat", "d/1")["version"]
    j("put", "-", "once", "--reads", "1", input=b"x")
    assert j("get", "once") == b"x"
    server.kill()
    endpoint = server.endpoint
    server.start()
    # Where it was, with the same tokens.
    assert server.endpoint == endpoint
    for path, value in values.items():
        assert j("get", path) == value
    assert j.json("stat", "d/1")["version"] == version
    j("get", "once", code=REFUSED, status="CONSUMED")
    assert client.json("job", "show", "shuffle")["quota_dram"] == 64 << 20
    assert "went on from what was left" in server.log()


def test_who_was_killed_with_his_keeper_is_told_of(again):
    """Nobody knows any more who maps what. After an orderly end, and with a keeper, nobody is told."""
    told = "A server of this directory and its keeper were both killed"
    server = again()
    server.start()
    server.kill()
    server.start()
    server.stop()
    server.start()
    assert told not in server.log()
    server.kill()
    server.kill_keeper()
    server.start()
    assert server.log().count(told) == 1
    assert "end functions that were started before" in server.log()


def test_what_a_process_of_the_same_number_left_is_nothing(runtime):
    """Without --data and a port the directory is named after the process: the numbers come again, and nobody with them."""
    def directory_of(pid):
        return os.path.join(runtime, f"wadi-{65536 + pid}")

    def take_the_place():
        shutil.rmtree(directory_of(os.getpid()), ignore_errors=True)  # there may be one of another test's
        os.mkdir(directory_of(os.getpid()), 0o700)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(directory_of(os.getpid()) + "/keep.sock")
    process = subprocess.Popen([WADI, "dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--redis", "127.0.0.1:0"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=take_the_place, env=clean_environment())
    text = b""
    while b"ready\n" not in text:
        text += os.read(process.stdout.fileno(), 65536) or b"ready\n"
    assert f"{directory_of(process.pid)}/proxy.sock".encode() in text
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=LATE_S)[1] == b"" and process.returncode == 0
    until(lambda: not os.path.exists(directory_of(process.pid)), "the end of its keeper")


def test_twenty_kills_with_snapshots_between(again):
    server = again("--snapshot", "1M")
    client = server.start()
    for i in range(20):
        for n in range(5):
            client("put", "-", f"k/{n}", input=b"%d" % i)
        server.kill()
        server.start()
        for n in range(5):
            assert client("get", f"k/{n}") == b"%d" % i


def test_a_durable_job_survives_all_processes(again):
    server = again()
    client = server.start()
    durable = job(client, "ledger", "--durable")
    other = job(client, "other")
    other("put", "-", "a", input=b"not safe")
    other("put", "-", "empty", input=b"")
    other("put", "-", "large", input=pattern(300_000))
    durable("put", "-", "a", input=b"safe")  # syncs all that came before it
    server.kill()
    server.kill_keeper()
    server.start()
    durable, other = Client(server.endpoint, durable.token), Client(server.endpoint, other.token)
    assert durable("get", "a") == b"safe"
    other("get", "a", code=REFUSED, status="LOST")
    until(lambda: b": LOST: " in other.run("get", "large", "--timeout", "2s").stderr, "the two lists to be compared")
    assert other("get", "empty") == b""
    durable("put", "-", "b", input=b"safe too")
    assert durable("get", "b") == b"safe too"


def put_all(endpoint, token, values):
    with Wire.at(endpoint) as wire:
        assert wire.hello(secret=token).status == "OK"
        calls = [wire.start("PUT", value, path=path) for path, value in values.items()]
        assert {wire.end(call).status for call in calls} == {"OK"}


def test_who_is_killed_while_it_goes_on_from_files_loses_nothing(again):
    """In a snapshot values come in the order of their names, not of their places."""
    server = again("--snapshot", "1M")
    client = server.start()
    durable, other = job(client, "ledger", "--durable"), job(client, "other")
    values = {}
    for round_ in range(4):
        for i in range(400, 0, -1):
            values[f"{i:03}"] = pattern(1 + (37 * i + 500 * round_) % 2048, i + round_)
        put_all(server.endpoint, durable.token, values)
        put_all(server.endpoint, other.token, {"x": b"not safe"})
    shard = os.path.join(server.data, "shard-0")
    until(lambda: any(name.startswith("snap") for name in os.listdir(shard)), "a snapshot")
    for delay_s in (0.002, 0.005, 0.01, 0.02, 0.04):
        server.kill()
        server.kill_keeper()
        for _ in range(2):
            server.start(is_waited_for=False)
            time.sleep(delay_s)
            server.kill()
        server.start()
        with Wire.at(server.endpoint) as wire:
            assert wire.hello(secret=durable.token).status == "OK"
            for path, value in values.items():
                assert wire.call("GET", path=path, take=4096).payload == value
        Client(server.endpoint, other.token)("get", "x", code=REFUSED, status="LOST")


def test_a_durable_job_needs_a_disk(store):
    store.client()("job", "create", "ledger", "--durable", code=REFUSED, status="UNSUPPORTED")


def test_a_large_object_of_a_durable_job_names_the_missing_tier(again):
    client = again().start()
    j = job(client, "ledger", "--durable")
    j("put", "-", "a", input=pattern(2048))
    told = j.run("put", "-", "b", input=pattern(2049)).stderr.decode()
    assert ": UNSUPPORTED: " in told and "tier block" in told
    told = j.run("put", "-", "c", input=pattern(9 << 20)).stderr.decode()
    assert ": UNSUPPORTED: " in told and "tier block" in told
    assert j.names() == ["a"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for a few times what the log has in memory."""
    at = str(tmp_path / "disk")
    os.mkdir(at)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", at],
                                           check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("cannot mount a small file system here")
    yield at
    subprocess.run(["umount", "-l", at], check=True)


def fill(disk):
    with open(os.path.join(disk, "ballast"), "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def refuses_durable(j):
    return b": LOGFULL: " in j.run("put", "-", "b", "--timeout", "5s", input=b"x").stderr


def put_until_refused(endpoint):
    """Objects that are not durable: those that were acknowledged, those that were not, and what was said of these."""
    there, refused, words = [], [], set()
    with Wire.at(endpoint) as wire:
        assert wire.hello().status == "OK"
        while not refused:
            paths = [f"many/{len(there) + i}" for i in range(500)]
            calls = [wire.start("PUT", path.encode(), path=path, attributes=bytes(512)) for path in paths]
            for path, reply in zip(paths, [wire.end(call) for call in calls]):
                (there if reply.status == "OK" else refused).append(path)
                words |= {str(reply)} if reply.status != "OK" else set()
            assert len(there) < 200_000
    return there, refused, words


def are_there(endpoint, there, refused):
    """As they were put, and nothing of the others."""
    with Wire.at(endpoint) as wire:
        assert wire.hello().status == "OK"
        for paths in (there[at:at + 500] for at in range(0, len(there), 500)):
            calls = [wire.start("GET", path=path, take=64) for path in paths]
            assert [wire.end(call).payload for call in calls] == [path.encode() for path in paths]
        assert {wire.call("GET", path=path, take=64).status for path in refused} == {"NOTFOUND"}


def disk_fails(server, client, break_it, mend_it):
    j = job(client, "ledger", "--durable")
    j("put", "-", "a", input=b"before")
    client("put", "-", "plain", input=b"plain")
    other = job(client, "other")
    other("put", "-", "x", input=pattern(300_000))
    break_it()
    until(lambda: refuses_durable(j), "a durable put that is refused")

    def say_so_at_once(w):
        """The deadline is not waited for."""
        def put():
            done = w.run("put", "-", "b", "--timeout", "60s", input=b"x")
            assert done.returncode == REFUSED and b": LOGFULL: " in done.stderr, done.stderr
            assert b"disk" in done.stderr
        in_time(put, 3)
    say_so_at_once(j)
    # Others go on, and so do reads.
    client("put", "-", "plain", input=b"again")
    assert client("get", "plain") == b"again"
    assert j("get", "a") == b"before"
    # Until the memory of the log is full: then they are told, and reads go on still.
    there, refused, words = put_until_refused(server.endpoint)
    assert len(there) > 2000 and len(words) == 1 and "its disk takes nothing" in words.pop()
    for w in (j, client):
        say_so_at_once(w)
    assert client("get", "plain") == b"again" and j("get", "a") == b"before"
    assert client.names() == ["many/", "plain"]
    are_there(server.endpoint, there, refused)
    # What gives memory back is taken, too.
    client("rm", "many/0")
    client("job", "end", "other")
    other("get", "x", code=REFUSED, status="JOBENDED")
    # A successor has all of it in memory, and goes on like that.
    server.kill()
    server.start()
    assert client("get", "plain") == b"again"
    are_there(server.endpoint, there[1:], ["many/0", *refused])
    for w in (j, client):
        say_so_at_once(w)
    mend_it()
    until(lambda: not refuses_durable(j), "a disk that is used again")
    j("put", "-", "c", input=b"after")
    client("put", "-", "plain", input=b"after")
    assert client("get", "plain") == b"after"
    are_there(server.endpoint, there[1:], ["many/0", *refused])
    put_all(server.endpoint, client.token, {path: b"" for path in refused})
    server.kill()
    server.kill_keeper()
    server.start()
    j = Client(server.endpoint, j.token)
    assert j("get", "a") == b"before" and j("get", "c") == b"after"


def test_a_full_disk(again, small_disk):
    server = again(data=os.path.join(small_disk, "data"))
    client = server.start()
    disk_fails(server, client, lambda: fill(small_disk),
               lambda: os.unlink(os.path.join(small_disk, "ballast")))


def test_a_read_only_disk(again, small_disk):
    def remount(how):
        return lambda: subprocess.run(["mount", "-o", f"remount,{how}", small_disk], check=True)

    server = again(data=os.path.join(small_disk, "data"))
    disk_fails(server, server.start(), remount("ro"), remount("rw"))


def last_log(data):
    names = sorted(n for n in os.listdir(os.path.join(data, "shard-0")) if n.startswith("log-"))
    return os.path.join(data, "shard-0", names[-1])


def test_damage_is_an_error_that_says_where_and_is_repaired_on_request(again):
    server = again()
    client = server.start()
    j = job(client, "ledger", "--durable")
    for i in range(20):
        j("put", "-", f"v/{i:02}", input=b"%d" % i)
    server.kill()
    server.kill_keeper()
    path = last_log(server.data)
    with open(path, "r+b") as file:
        at = file.read().index(b"v/10")
        file.seek(at)
        file.write(b"\xff")
    before = {n: os.stat(os.path.join(server.data, "shard-0", n)).st_size
              for n in os.listdir(os.path.join(server.data, "shard-0"))}
    assert server.start(is_expected=False) == 1
    told = server.log()
    assert os.path.basename(path) in told and "damaged at byte" in told and "doctor --data" in told
    # Nothing was touched.
    assert before == {n: os.stat(os.path.join(server.data, "shard-0", n)).st_size
                      for n in os.listdir(os.path.join(server.data, "shard-0"))}
    done = run_wadi("doctor", "--data", server.data)
    assert done.returncode == 1 and b"damaged at byte" in done.stdout
    done = run_wadi("doctor", "--data", server.data, "--repair")
    assert done.returncode == 0 and re.search(rb"\b9 records", done.stdout), done.stdout
    done = run_wadi("doctor", "--data", server.data)
    assert done.returncode == 0, done.stdout
    j = Client(server.start().endpoint, j.token)
    assert j.names("v") == [f"{i:02}" for i in range(10)]


def look_at_files(data):
    """Names, bytes and times of all that a shard has."""
    shard = os.path.join(data, "shard-0")
    found = {}
    for name in sorted(os.listdir(shard)):
        with open(os.path.join(shard, name), "rb") as file:
            found[name] = (file.read(), os.stat(os.path.join(shard, name)).st_mtime_ns)
    return found


def change(path, at, how):
    """A byte, but not the file's time."""
    before = os.stat(path)
    with open(path, "r+b", buffering=0) as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ how]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def must_only_look(data, code):
    """`wadi doctor` without --repair: what it said, in one line."""
    before = look_at_files(data)
    done = run_wadi("doctor", "--json", "--data", data)
    assert done.returncode == code, done.stdout
    assert look_at_files(data) == before
    return json.loads(done.stdout.decode().splitlines()[-1])["text"]


def make_ledger(server):
    """A killed server with six durable objects, and a job that has their names."""
    j = job(server.start(), "ledger", "--durable")
    for i in range(6):
        j("put", "-", f"v/{i}", input=b"%d" % i)
    server.kill()
    server.kill_keeper()
    return j


def files_without_times(data):
    return {name: had[0] for name, had in look_at_files(data).items()}


def test_a_bit_that_is_wrong_is_an_error_and_set_right_on_request(again):
    server = again()
    j = make_ledger(server)
    path = last_log(server.data)
    whole = files_without_times(server.data)
    begin = whole[os.path.basename(path)].index(b"v/2")
    for at in [*range(76), *range(begin, begin + 3)]:
        change(path, at, 1 << at % 8)
        told = must_only_look(server.data, REFUSED)
        assert f"{os.path.basename(path)} is damaged at byte {0 if at < 76 else ''}" in told and "nothing is lost" in told
        if at % 19 == 0:
            damaged = look_at_files(server.data)
            assert server.start(is_expected=False) == 1
            assert told in server.log()
            assert look_at_files(server.data) == damaged
        done = run_wadi("doctor", "--json", "--data", server.data, "--repair")
        assert done.returncode == 0 and b"nothing is given up" in done.stdout, done.stdout
        assert files_without_times(server.data) == whole
    must_only_look(server.data, 0)
    j = Client(server.start().endpoint, j.token)
    assert [j("get", f"v/{i}") for i in range(6)] == [b"%d" % i for i in range(6)]


def test_a_header_of_which_more_is_damaged_is_given_up_on_request(again):
    """All is lost then, and that is told: before, and when it is done."""
    server = again()
    j = make_ledger(server)
    path = last_log(server.data)
    for at in range(4, 12):
        change(path, at, 0xff)
    damaged = look_at_files(server.data)
    assert server.start(is_expected=False) == 1
    assert os.path.basename(path) in server.log() and "nothing is left then" in server.log()
    assert look_at_files(server.data) == damaged
    assert "nothing is left then" in must_only_look(server.data, REFUSED)
    done = run_wadi("doctor", "--json", "--data", server.data, "--repair")
    assert done.returncode == 0 and b"the next server begins there with nothing" in done.stdout, done.stdout
    assert not look_at_files(server.data)
    Client(server.start().endpoint, j.token)("get", "v/0", code=REFUSED)


def test_a_log_of_another_version_is_left_alone(again):
    server = again()
    make_ledger(server)
    with open(last_log(server.data), "r+b") as file:
        file.write(b"wadilaf3 and whatever else it may say")
    before = look_at_files(server.data)
    assert server.start(is_expected=False) == 1
    assert "is of another version" in server.log()
    assert look_at_files(server.data) == before
    assert "is of another version" in must_only_look(server.data, REFUSED)
    done = run_wadi("doctor", "--data", server.data, "--repair")
    assert done.returncode == REFUSED and look_at_files(server.data) == before


def test_a_header_of_zeros_is_damage_if_anything_is_behind_it(again):
    server = again()
    make_ledger(server)
    path = last_log(server.data)
    with open(path, "r+b") as file:
        file.write(bytes(96))
    before = look_at_files(server.data)
    assert server.start(is_expected=False) == 1
    for told in server.log(), must_only_look(server.data, REFUSED):
        assert f"{os.path.basename(path)} is damaged at byte 0" in told and "gives up all of it" in told
    assert look_at_files(server.data) == before
    done = run_wadi("doctor", "--json", "--data", server.data, "--repair")
    assert done.returncode == 0 and b"the next server begins there with nothing" in done.stdout, done.stdout
    server.start()


def test_a_look_changes_nothing_of_a_torn_tail(again):
    server = again()
    j = make_ledger(server)
    path = last_log(server.data)
    os.truncate(path, os.stat(path).st_size - 3)
    shutil.copy(path, path[:-1] + "f")
    os.truncate(path[:-1] + "f", 40)  # the next one, which was being begun
    assert "the next server cuts them off" in must_only_look(server.data, 0)
    j = Client(server.start().endpoint, j.token)
    assert [j.run("get", f"v/{i}").stdout for i in range(6)] == [b"0", b"1", b"2", b"3", b"4", b""]
    assert "was never begun" in server.log() and "it is cut off" in server.log()


def test_a_damaged_snapshot_is_an_error_that_says_where(again):
    server = again("--snapshot", "1M")
    j = job(server.start(), "ledger", "--durable")
    # Enough for one snapshot, and not for two.
    put_all(server.endpoint, j.token, {f"{i:03}": pattern(1500, i) for i in range(820)})
    shard = os.path.join(server.data, "shard-0")
    until(lambda: any(name.startswith("snap") for name in os.listdir(shard)), "a snapshot")
    until(lambda: "log-0-0000000000000000" not in os.listdir(shard), "the end of what it covers")
    server.kill()
    server.kill_keeper()
    name, = [name for name in os.listdir(shard) if name.startswith("snap") and name.endswith("0")]
    path = os.path.join(shard, name)
    whole = look_at_files(server.data)
    size = os.stat(path).st_size
    # Zeros may be what fills up a record, which nobody reads.
    for at in [*range(0, 76, 5), *(at for at in range(96, size, size // 40) if whole[name][0][at])]:
        change(path, at, 1)
        told = must_only_look(server.data, REFUSED)
        assert f"{name} is damaged at byte {0 if at < 96 else ''}" in told
        assert 0 <= at - int(re.search(r"at byte (\d+)", told)[1]) < 4096
        assert "nothing is lost" in told
        change(path, at, 1)
    assert look_at_files(server.data) == whole
    value = whole[name][0].index(pattern(1500, 3))
    change(path, value, 1)
    assert run_wadi("doctor", "--data", server.data, "--repair").returncode == 0
    assert files_without_times(server.data) == {name: had[0] for name, had in whole.items()}
    change(path, value, 1)
    change(path, value + 1, 1)
    damaged = look_at_files(server.data)
    assert server.start(is_expected=False) == 1
    assert f"{name} is damaged at byte" in server.log() and "nothing is left then" in server.log()
    assert look_at_files(server.data) == damaged
    done = run_wadi("doctor", "--json", "--data", server.data, "--repair")
    assert done.returncode == 0 and b"the next server begins there with nothing" in done.stdout, done.stdout
    must_only_look(server.data, 0)
    server.start()


def test_a_torn_tail_is_cut_off_and_told(again):
    server = again()
    client = server.start()
    j = job(client, "ledger", "--durable")
    for i in range(5):
        j("put", "-", f"{i}", input=b"%d" % i)
    server.kill()
    server.kill_keeper()
    path = last_log(server.data)
    os.truncate(path, os.stat(path).st_size - 3)
    j = Client(server.start().endpoint, j.token)
    assert "it is cut off" in server.log() and os.path.basename(path) in server.log()
    assert [j.run("get", f"{i}").stdout for i in range(5)] == [b"0", b"1", b"2", b"3", b""]


def test_a_directory_is_used_by_one_server(again):
    first = again()
    first.start()
    second = again(data=first.data)
    assert second.start(is_expected=False) == 1
    done = run_wadi("doctor", "--data", first.data)
    assert done.returncode == 1 and b"in use" in done.stdout
    second.process = None


def test_who_was_refused_a_directory_leaves_it_as_it_was(again):
    first = again()
    j = job(first.start(), "shuffle")
    j("put", "-", "x", input=b"x")
    port, = free_ports(1)
    second = again("--listen", f"127.0.0.1:{port}", data=first.data)
    assert second.start(is_expected=False) == 1
    second.process = None
    assert f"another server has {first.data}; " in first.log()
    # Where its memory is, it finds by a file in there.
    first.kill()
    assert Client(first.start().endpoint, j.token)("get", "x") == b"x"
