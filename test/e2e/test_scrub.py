"""No byte of an ended job is ever seen by the next.

What a function may read are its own job's objects, checked; what it could read by a mistake of ours are the
segments of its job. So this looks at those, in the memory of the server: a segment that has bytes of the new job,
and may have room behind them, has none of any job before. Each job fills the whole pool, so the next one can only
have memory that was of another, and some of its segments are the very ones: they were scrubbed, not made anew.
"""
import os
import secrets

from conftest import DONE, told, until

KIB, MIB = 1 << 10, 1 << 20


def segments(store):
    """The memory of the server's making, by inode."""
    found, directory = {}, f"/proc/{store.process.pid}/fd"
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        try:
            if "memfd:" not in os.readlink(path):
                continue
            with open(path, "rb") as memory:
                found[os.fstat(memory.fileno()).st_ino] = memory.read()
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


class Filler:
    """A job whose objects are nothing but its mark."""

    def __init__(self, store):
        self.store, self.w, self.mark, self.count, self.inodes = store, store.job(), secrets.token_bytes(32), 0, set()

    def put(self, size, timeout="30s"):
        """False: there is no room for it."""
        done = told(lambda: self.w.run("put", "-", f"x{self.count}", "--timeout", timeout, input=self.mark * (size // 32)))
        self.count += done.returncode == DONE
        assert done.returncode == DONE or b": NOSPACE: " in done.stderr, done.stderr
        return done.returncode == DONE

    def look(self, ended):
        """At all that has its mark."""
        mine = {inode: bytes_ for inode, bytes_ in segments(self.store).items() if self.mark in bytes_}
        assert mine, "the memory of the server is not looked at"
        for old in ended:
            assert not any(old.mark in bytes_ for bytes_ in mine.values()), "it has bytes of an ended job"
        self.inodes |= set(mine)
        return sum(bytes_.count(self.mark) * len(self.mark) for bytes_ in mine.values())


def test_no_byte_of_an_ended_job_is_in_memory_that_the_next_one_has(new_store):
    store = new_store(memory="64M")
    limit, ended = store.client().top()["dram_limit"], []
    for _ in range(4):
        job = Filler(store)
        # Segments with room behind what was put, at once; then all there is.
        for size in (70 * KIB, 300 * KIB, 70 * KIB, 3 * MIB, 3 * MIB):
            assert job.put(size)
            job.look(ended)
        assert any(not job.put(3 * MIB, "300ms") for _ in range(100)), "the pool is never full"
        assert job.look(ended) > limit * 3 / 4
        for i in range(job.count):
            assert set(job.w("get", f"x{i}").split(job.mark)) == {b""}
        store.client()("job", "end", job.w.job)
        ended.append(job)
    assert any(one.inodes & next_one.inodes for one, next_one in zip(ended, ended[1:])), "no segment changed its job"
    # And what nobody had since is not kept either.
    until(lambda: not any(old.mark in bytes_ for bytes_ in segments(store).values() for old in ended), "the last to go")
    assert store.stop() == 0
