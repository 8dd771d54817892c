"""--memory is of all memory: metadata takes from the pool what it needs, and neither goes beyond."""
import os
import re
import subprocess

from conftest import BUILD, REFUSED, pattern, until

MIB = 1 << 20


def resident(store):
    with open(f"/proc/{store.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def of_kind(store, kind):
    with open(f"/proc/{store.process.pid}/status") as file:
        return 1024 * int(re.search(rf"^{kind}:\s+(\d+) kB$", file.read(), re.M).group(1))


def many(store, n):
    return subprocess.run([os.path.join(BUILD, "test/torture/many"), "objects", str(n)], env=store.client().env(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False)


def test_small_objects_fill_the_memory_and_no_more(new_store):
    store = new_store(memory="64M")
    done = many(store, 1000000)
    assert done.returncode == 1 and b": NOSPACE: " in done.stderr, done.stderr
    assert resident(store) <= 64 * MIB
    # What there is can be read, and what is given back can be used.
    assert len(store.client()("get", "many/500/0000500")) == 100
    store.client()("rm", "-r", "many", timeout=120)

    def has_room():
        return store.client().run("put", "-", "x", input=b"x").returncode == 0
    until(has_room, "memory that was given back")
    assert resident(store) <= 64 * MIB


def test_what_metadata_has_the_pool_has_not(new_store):
    store = new_store(memory="64M")
    before = store.client().json("top")["dram_limit"]
    assert many(store, 60000).returncode == 0
    told = store.client().run("put", "-", "big", "--timeout", "3s", input=pattern(before - 4 * MIB)).stderr.decode()
    assert ": NOSPACE: " in told
    assert resident(store) <= 64 * MIB
    store.client()("get", "big", code=REFUSED, status="NOTFOUND")


def test_what_is_removed_leaves_its_memory(new_store):
    """Of small objects: their values and the last snapshot at once, their metadata when nothing happens for a while."""
    n = 200_000
    store = new_store()
    shared = of_kind(store, "RssShmem")
    assert many(store, n).returncode == 0
    assert of_kind(store, "RssShmem") > shared + n * 110
    metadata = of_kind(store, "RssAnon")
    store.client()("rm", "-r", "many", timeout=60)
    # What the log has stays, until there is more of it.
    until(lambda: of_kind(store, "RssShmem") < shared + (24 << 20), "the memory of values and of the snapshot")
    # The last 65,536 removals are remembered.
    until(lambda: of_kind(store, "RssAnon") < metadata - (n - 65_536) * 110, "the memory of entries")
