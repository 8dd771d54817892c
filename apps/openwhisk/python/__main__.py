"""The sort's functions in Python: `main` of an OpenWhisk action, which answers as `wadi-sort-fn` does.

It samples, maps, reduces and validates records that are there already (`wadi sort --input`), each share in memory. How a
mapper leaves records for a reducer is its own: one sorted object for each bucket. Samples, splitters and sums are the driver's.
"""
import bisect
import contextlib
import heapq
import os
import random
import resource
import secrets
import struct
import time
import zlib

import wadi

RECORD, KEY = 100, 10  # bytes

_kept = {"runs": 0, "store": None, "whose": None}  # from one run of this process to the next


class Final(Exception):
    """What would come again."""


class Run:
    """One run: its request, the store, and what is counted."""

    def __init__(self, request):
        self.request, self.index = request, int(request.get("index", 0))
        self.count = self.sum = self.read_bytes = self.written_bytes = 0
        self.store_read = self.store_written = 0
        self.io_s = self.wait_s = 0.0
        self.attach_s, self.store, self.more = None, None, {}

    def attach(self):
        """The store of the run before, if it is the same one's."""
        where = self.request.get("store") or {}
        whose = (where.get("url"), where.get("token"), where.get("job"))
        begin = time.monotonic()
        if _kept["store"] is None or _kept["whose"] != whose:
            let_go()
            _kept["store"], _kept["whose"] = wadi.open(whose[0], whose[1]), whose
            self.attach_s = time.monotonic() - begin
        else:
            self.attach_s = 0.0
        self.io_s += self.attach_s
        self.store = _kept["store"]

    def call(self, method, *args, **options):
        begin = time.monotonic()
        try:
            return getattr(self.store, method)(*args, **options)
        finally:
            self.io_s += time.monotonic() - begin

    def put(self, path, data):
        """Once: another attempt of the same function has put the same."""
        try:
            self.call("put", path, data, create=True)
        except wadi.ExistsError:
            pass
        self.store_written += len(data)

    def get(self, path):
        data = self.call("get", path)
        self.store_read += len(data)
        return data

    def tally(self, record):
        self.count += 1
        self.sum += zlib.crc32(record)

    def records(self):
        """Of the share, in order."""
        for path, offset, length in self.request["input"]:
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read(length)
            self.read_bytes += len(data)
            for at in range(0, len(data), RECORD):
                yield data[at:at + RECORD]


def let_go():
    if _kept["store"] is not None:
        _kept["store"].close()
    _kept["store"] = None


def sample(run):
    share, wanted, dice = list(run.records()), run.request["samples"], random.Random(run.index)
    keys = [dice.choice(share)[:KEY] for _ in range(wanted if share else 0)]
    run.put(f"samples/{run.index:05d}", b"".join(struct.pack("<I", KEY) + key for key in keys))


def splitters(run):
    data, found, at = run.get("splitters/00000"), [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4:at + 4 + length])
        at += 4 + length
    return found


def map_(run):
    between = splitters(run)
    buckets = [[] for _ in range(run.request["reduces"])]
    for record in run.records():
        run.tally(record)
        buckets[bisect.bisect_right(between, record[:KEY])].append(record)
    for number, bucket in enumerate(buckets):
        bucket.sort()
        run.put(f"shuffle/{number:05d}/{run.index:05d}", b"".join(bucket))


def reduce_(run):
    directory, maps, path = f"shuffle/{run.index:05d}", run.request["maps"], run.request["output"]
    begin = time.monotonic()
    run.store.wait_count(directory, maps, timeout=run.request["timeout_ms"] / 1000)
    run.wait_s += time.monotonic() - begin
    parts = [run.get(f"{directory}/{number:05d}") for number in range(maps)]
    runs = [[part[at:at + RECORD] for at in range(0, len(part), RECORD)] for part in parts]
    # Two attempts may be at it, in containers where both have the same number.
    part_path = f"{path}.{secrets.token_hex(8)}"
    try:
        with open(part_path, "xb") as file:
            for record in heapq.merge(*runs):
                run.tally(record)
                file.write(record)
        os.rename(part_path, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part_path)
        raise
    run.written_bytes = run.count * RECORD


def validate(run):
    last, duplicates = None, 0
    for record in run.records():
        key = record[:KEY]
        if last is not None and key < last:
            raise Final(f"{run.request['input'][0][0]}: not in order: number {run.count}, at {run.count * RECORD}")
        duplicates += key == last
        last = key
        run.tally(record)
    run.more = {"duplicates": duplicates, "first_len": KEY, "last_offset": max(0, run.count - 1) * RECORD, "last_len": KEY}


FUNCTIONS = {"sample": (sample, True), "map": (map_, True), "reduce": (reduce_, True), "validate": (validate, False)}


def reply_of(run, wall_s):
    reply = {"op": run.request["op"], "index": run.index, "attempt": run.request.get("attempt", 0), "count": run.count,
             "sum": f"{run.sum:x}", "read_bytes": run.read_bytes, "written_bytes": run.written_bytes,
             "wall_ns": int(wall_s * 1e9), "io_ns": int(run.io_s * 1e9), "wait_ns": int(run.wait_s * 1e9),
             "store_read_bytes": run.store_read, "store_written_bytes": run.store_written,
             "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, "run": _kept["runs"], **run.more}
    if run.attach_s is not None:
        reply["attach_ns"] = int(run.attach_s * 1e9)
    return reply


def main(request):
    """A reply for a request, whatever it is."""
    begin = time.monotonic()
    _kept["runs"] += 1
    try:
        run = Run(request)
        if request.get("format", "records") != "records" or request.get("op") not in FUNCTIONS:
            raise Final(f"these functions sort records of files, and know no \"{request.get('op')}\"")
        function, has_store = FUNCTIONS[request["op"]]
        if has_store:
            run.attach()
        function(run)
        return reply_of(run, time.monotonic() - begin)
    except Final as e:
        return {"error": str(e), "is_final": True}
    except Exception as e:  # pylint: disable=broad-except
        let_go()
        return {"error": f"{type(e).__name__}: {e}", "is_final": False}
