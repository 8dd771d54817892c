"""--memory is of all memory: metadata takes from the pool what it needs, and neither goes beyond."""
import os
import re
import subprocess
import time

from conftest import BUILD, DONE, REFUSED, finish, pattern, told, until

MIB = 1 << 20


def resident(store):
    with open(f"/proc/{store.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def of_kind(store, kind):
    with open(f"/proc/{store.process.pid}/status") as file:
        return 1024 * int(re.search(rf"^{kind}:\s+(\d+) kB$", file.read(), re.M).group(1))


def start_many(store, n, timeout_ms=60000):
    return subprocess.Popen([os.path.join(BUILD, "test/torture/many"), "objects", str(n), str(timeout_ms)],
                            env=store.client().env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def many(store, n, timeout_ms=60000):
    return finish(start_many(store, n, timeout_ms), 120)


def test_small_objects_fill_the_memory_and_no_more(new_store):
    """What has no room waits for it, until its deadline; what is given back is for those who wait."""
    store = new_store(memory="64M")
    w = store.client()
    began = time.monotonic()
    code, _, err = many(store, 1000000, 4000)
    assert code == 1 and time.monotonic() - began > 1.5, err
    assert b": NOSPACE: no room in the store (metadata and data use all memory of the server; remove objects, " in err
    assert resident(store) <= 64 * MIB
    # What there is can be read.
    assert len(w("get", "many/500/0000500")) == 100
    waiting = [start_many(store, w.top()["objects"] // 2),
               w.start("put", "/dev/null", "waits", "--timeout", "60s"),
               w.start("job", "create", "waits", "--timeout", "60s")]
    w("rm", "-r", "many", timeout=120)
    assert [finish(p)[::2] for p in waiting] == [(0, b""), (0, b""), (0, b"")]
    assert resident(store) <= 64 * MIB
    # What metadata had of the memory for data, data have again.
    w("rm", "-r", "many", timeout=120)
    done = told(lambda: w.run("put", "-", "long", "--timeout", "2500ms", input=pattern(8 * MIB)))
    assert done.returncode == DONE, done.stderr
    assert resident(store) <= 64 * MIB


def test_what_metadata_has_the_pool_has_not(new_store):
    store = new_store(memory="64M")
    before = store.client().json("top")["dram_limit"]
    assert many(store, 60000)[0] == 0
    done = told(lambda: store.client().run("put", "-", "big", "--timeout", "3s", input=pattern(before - 4 * MIB)))
    assert b": NOSPACE: " in done.stderr, done.stderr
    assert resident(store) <= 64 * MIB
    store.client()("get", "big", code=REFUSED, status="NOTFOUND")


def test_what_is_removed_leaves_its_memory(new_store):
    """Of small objects: their values and the last snapshot at once, their metadata when nothing happens for a while."""
    n = 200_000
    store = new_store()
    shared = of_kind(store, "RssShmem")
    assert many(store, n)[0] == 0
    assert of_kind(store, "RssShmem") > shared + n * 110
    metadata = of_kind(store, "RssAnon")
    store.client()("rm", "-r", "many", timeout=60)
    # What the log has stays, until there is more of it.
    until(lambda: of_kind(store, "RssShmem") < shared + (24 << 20), "the memory of values and of the snapshot")
    # The last 65,536 removals are remembered.
    until(lambda: of_kind(store, "RssAnon") < metadata - (n - 65_536) * 110, "the memory of entries")
