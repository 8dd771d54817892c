"""An object that may be read so often, by readers who die in the middle and come back."""
import json
import threading

import pytest
from conftest import REFUSED, pattern, until
from wire import Wire

MIB = 1 << 20
READS, READERS = 8, 64


def get_whole(wire, read, data, dies_at):
    """True: read and confirmed; False: there was no read left; None: died in the middle."""
    reply = wire.call("GET", path="x", take=MIB, read_hi=1, read_lo=read, timeout_ms=30_000)
    if reply.status in ("CONSUMED", "NOTFOUND"):
        return False
    assert reply.status == "OK", str(reply)
    got = bytearray(reply.payload)
    while len(got) < len(data):
        if dies_at is not None and len(got) >= dies_at:
            return None
        more = wire.call("GET_ON", hold=reply["hold"], offset=len(got), take=MIB)
        assert more.status == "OK" and more.payload, str(more)
        got += more.payload
    if dies_at is not None:
        return None  # it has all of it, and nobody knows
    assert got == data
    assert wire.call("GET_END", hold=reply["hold"], is_confirmed=1).status == "OK"
    return True


@pytest.mark.parametrize("size", [1000, 100_000, 3 * MIB])
def test_exactly_8_whole_reads_are_confirmed_though_a_third_of_64_readers_dies(store, w, size):
    data = pattern(size)
    w("put", "-", "x", "--reads", READS, input=data)
    results, broken = [], []

    def read(number):
        try:
            # The third try of who died twice: with the same read id each time.
            deaths = [0, MIB] if number % 3 == 0 else []
            for dies_at in deaths + [None]:
                with Wire.at(store.endpoints["tcp"]) as wire:
                    assert wire.hello(secret=w.token).status == "OK"
                    result = get_whole(wire, number + 1, data, dies_at)
                if result is not None:
                    results.append(result)
                    return
        except BaseException as e:
            broken.append((number, repr(e)))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not broken, broken
    assert results.count(True) == READS and results.count(False) == READERS - READS, results
    w("get", "x", code=REFUSED)
    until(lambda: w.held() == 0, "its bytes to be given back")


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_a_read_whose_last_answer_is_lost_is_counted_once(store, w, size):
    data = pattern(size)
    w("put", "-", "x", "--reads", 3, input=data)

    def read(number, hears):
        with Wire.at(store.endpoints["tcp"]) as wire:
            wire.hello(secret=w.token)
            reply = wire.call("GET", path="x", take=MIB, read_hi=1, read_lo=number)
            if reply.status != "OK":
                return reply.status
            got = reply.payload
            while len(got) < len(data):
                got += wire.call("GET_ON", hold=reply["hold"], offset=len(got), take=MIB).payload
            assert got == data
            if reply["hold"]:
                end = wire.start("GET_END", hold=reply["hold"], is_confirmed=1)
                if hears:
                    assert wire.end(end).status == "OK"
            return reply["reads_left"]

    def left():
        return json.loads(w("stat", "x", "--json"))["reads_left"]

    assert read(1, hears=False) == 2
    until(lambda: left() == 2, "the read to be counted")
    assert read(1, hears=True) == 2  # the same one
    assert left() == 2
    assert read(2, hears=True) == 1
    assert read(1, hears=True) == 1
    assert read(3, hears=True) == 0
    assert [read(n, hears=True) for n in (1, 2, 3, 4)] == ["TAKEN", "TAKEN", "TAKEN", "CONSUMED"]
    until(lambda: w.held() == 0, "its bytes to be given back")
