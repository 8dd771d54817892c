"""A store that is full: who came first is served first, all of it or nothing; what ends gives its space back."""
import re
import signal
import time

import pytest
from conftest import DONE, REFUSED, SCHEME, finish, pattern, told, until
from wire import Wire

MB = 1 << 20


def limit_of(store):
    """What jobs may use: the last two of the largest segments are for moves."""
    limit = store.client().json("top")["dram_limit"]
    largest = 64 << 10
    while 2 * largest <= limit // 64:
        largest *= 2
    return limit - 2 * largest


def let_in(w, writers, removable):
    """The order in which writers of new/NUMBER end, all of them well, while one piece after the other is removed: of
    `removable`, and then what they have put. Metadata's own log may take one, too, so not each brings somebody in."""
    ended = []

    def finished():
        for i, writer in enumerate(writers):
            if i not in ended and writer.poll() is not None:
                ended.append(i)
        return len(ended)

    while finished() < len(writers):
        before = len(ended)
        assert removable, ended
        w("rm", removable.pop(0))
        due = time.monotonic() + 0.5
        # Who was let in may take longer than that to end, and those behind him are not let in beside him.
        until(lambda: finished() > before or time.monotonic() >= due and  # pylint: disable=cell-var-from-loop
              w.top()["waiting"] >= len(writers) - before, "who was let in to end")
        removable += [f"new/{i}" for i in ended[before:]]
    assert all(finish(writer)[0] == 0 for writer in writers)
    return ended


def test_a_hundred_writers_into_a_full_store_finish_in_the_order_in_which_they_came(new_store, tmp_path):
    store = new_store(memory="96M")
    w = store.job()
    (tmp_path / "piece").write_bytes(pattern(MB))
    room = 0
    while told(lambda: w.run("put", "--timeout", "1s", tmp_path / "piece", f"old/{room}")).returncode == DONE:
        room += 1
    assert room > limit_of(store) // MB * 0.8
    (tmp_path / "new").write_bytes(pattern(900_000))
    writers = []
    for i in range(100):
        writers.append(w.start("put", "--timeout", "600s", tmp_path / "new", f"new/{i}"))
        # The first few may find what is left; all others come while those before them wait.
        until(lambda: w.top()["waiting"] >= sum(one.poll() is None for one in writers), f"writer {i} to wait")
    ended = let_in(w, writers, [f"old/{i}" for i in range(room)])
    # One piece was freed at a time; who ends close behind another may be seen with it.
    late = [i for place, i in enumerate(ended) if abs(place - i) > 4]
    assert not late, ended


def test_writers_who_wait_for_a_quota_finish_in_the_order_in_which_they_came(new_store, tmp_path):
    store = new_store(memory="160M")
    w = store.job(None, "--quota", "dram=9M")
    (tmp_path / "piece").write_bytes(pattern(MB))
    for i in range(8):
        w("put", tmp_path / "piece", f"old/{i}")
    writers = []
    for i in range(20):
        # Their sizes go up and down: who needs less does not pass who came before.
        (tmp_path / f"new{i}").write_bytes(pattern(900_000 if i % 3 else 300_000))
        writers.append(w.start("put", "--timeout", "600s", tmp_path / f"new{i}", f"new/{i}"))
        until(lambda: w.top()["waiting"] >= sum(one.poll() is None for one in writers), f"writer {i} to wait")
    ended = let_in(w, writers, [f"old/{i}" for i in range(8)])
    late = [i for place, i in enumerate(ended) if abs(place - i) > 2]
    assert not late, ended


def test_two_puts_that_fit_one_after_the_other_do_not_each_wait_for_what_the_other_has(new_store, tmp_path):
    store = new_store(memory="96M")
    w = store.job()
    (tmp_path / "large").write_bytes(pattern(int(limit_of(store) * 0.6)))
    puts = [w.start("put", "--timeout", "60s", tmp_path / "large", name) for name in ("a", "b")]
    first = until(lambda: next((p for p in puts if p.poll() is not None), None), "one of them")
    assert finish(first)[0] == 0
    name, other = ("a", puts[1]) if first is puts[0] else ("b", puts[0])
    assert w("get", name) == pattern(int(limit_of(store) * 0.6))
    assert other.poll() is None
    w("rm", name)
    assert finish(other)[0] == 0


@pytest.mark.parametrize("scheme, end", [(SCHEME, signal.SIGINT), (SCHEME, signal.SIGKILL), ("direct", signal.SIGINT),
                                         ("direct", signal.SIGKILL)])
def test_a_put_that_is_given_up_keeps_nobody_out(new_store, tmp_path, scheme, end):
    """It would have waited for an hour, for all that is left and a little more; others find that as soon as it is gone."""
    store = new_store(memory="96M")
    w, other = store.job(), store.job()
    (tmp_path / "half").write_bytes(pattern(limit_of(store) // 2))
    (tmp_path / "large").write_bytes(pattern(int(limit_of(store) * 0.6)))
    w("put", tmp_path / "half", "half")
    gone = store.client(w.token, scheme).start("put", "--timeout", "1h", tmp_path / "large", "large")
    until(lambda: w.top()["waiting"] > 0, "the put to wait")
    gone.send_signal(end)
    finish(gone)
    other("put", "-", "small", input=pattern(100_000))
    assert other("get", "small") == pattern(100_000)
    until(lambda: w.top()["waiting"] == 0, "nobody to wait")
    assert store.stop() == 0


def test_more_than_a_store_lets_wait_are_served_when_there_is_room(new_store, tmp_path):
    """It lets 512 of a shard; one of the others is sent whenever one of those has its answer."""
    store = new_store(memory="96M")
    w = store.job()
    (tmp_path / "most").write_bytes(pattern(int(limit_of(store) * 0.9)))
    w("put", tmp_path / "most", "most")
    with Wire.at(store.endpoints["direct"]) as wire:
        wire.hello(secret=w.token)
        asks = [wire.start("LEASE", slot=wire.slot, job=wire.job, session=wire.session, epoch=wire.epoch, request=1 + i,
                           need=1, size=64 << 10, timeout_ms=600_000) for i in range(700)]
        until(lambda: w.top()["waiting"] > 540, "them to wait")
        w("rm", "most")
        assert {wire.end(ask).status for ask in asks} == {"OK"}


def test_no_space_is_said_at_the_deadline_or_at_once_with_all_that_matters(new_store, tmp_path):
    store = new_store(memory="96M")
    w = store.job()
    limit = limit_of(store)
    (tmp_path / "most").write_bytes(pattern(int(limit * 0.9)))
    (tmp_path / "large").write_bytes(pattern(int(limit * 0.5)))
    w("put", tmp_path / "most", "most")

    began = []

    def put():
        began.append(time.monotonic())
        return w.run("put", "--timeout", "3s", tmp_path / "large", "large")
    done = told(put)
    took = time.monotonic() - began[-1]
    assert done.returncode == REFUSED and 2 < took < 10, (took, done.stderr)  # which would be the deadline unless said otherwise
    words = done.stderr.decode()
    assert ": NOSPACE: " in words and "dram" in words and f"limit {limit}" in words, words
    used = int(re.search(r"this job has (\d+) bytes", words)[1])
    assert used >= int(limit * 0.9), words
    # What can never fit is refused at once, and nothing stays of either.
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(limit + MB)
    began = time.monotonic()
    w("put", "--timeout", "30s", tmp_path / "huge", "huge", code=REFUSED, status="NOSPACE")
    assert time.monotonic() - began < 15  # half of its deadline
    w("rm", "most")
    until(lambda: w.held() == 0, "the space of both to be given back")


def test_what_expires_or_is_read_out_gives_its_space_back_within_a_second(new_store, tmp_path):
    store = new_store(memory="96M")
    w = store.job()
    (tmp_path / "x").write_bytes(pattern(3 * MB))

    def seconds():
        """How long each takes: what was read out beside what has not expired, and what expires."""
        for i in range(4):
            w("put", "--ttl", "3s", tmp_path / "x", f"short/{i}")
            w("put", "--reads", "1", tmp_path / "x", f"once/{i}")
        expire = time.monotonic() + 3
        for i in range(4):
            assert w("get", f"once/{i}") == pattern(3 * MB)
        read = time.monotonic()
        until(lambda: w.held() <= 13 * MB, "what was read out to be given back")
        read = time.monotonic() - read
        until(lambda: w.held() == 0, "what expired to be given back")
        return read, time.monotonic() - expire

    # Half a second for the looks themselves. A machine that does much else has no time for them now and then.
    took = [seconds()]
    while max(took[-1]) >= 1 + 0.5:
        assert len(took) < 5, took
        took.append(seconds())
