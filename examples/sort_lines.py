#!/usr/bin/env python3
"""Sorts the lines of a file by functions: each map cuts its share into ranges, each reduce sorts one.

usage: sort_lines.py FILE OUTPUT [MAPS [REDUCES]]      WADI_ENDPOINT and WADI_TOKEN say where the store is
"""
import bisect
import concurrent.futures
import os
import shutil
import sys
from typing import List

import wadi

SAMPLE = 64 << 10  # bytes that say where the ranges begin


def splitters(path: str, reduces: int) -> List[bytes]:
    """Lines that cut a sample into equal ranges: some from every sixteenth of the file."""
    sample: List[bytes] = []
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        for at in range(16):
            file.seek(at * size // 16)
            if at:
                file.readline()  # most of the time it begins inside of one
            sample += file.readlines(SAMPLE // 16)
    sample.sort()
    return [sample[at * len(sample) // reduces] for at in range(1, reduces)] if sample else []


def map_lines(number: int, path: str, begin: int, end: int) -> None:
    """The lines that begin in [begin, end)."""
    with wadi.open() as store:
        cuts = store.get_object("sort/splitters")
        parts: List[List[bytes]] = [[] for _ in range(len(cuts) + 1)]
        with open(path, "rb") as file:
            if begin:
                file.seek(begin - 1)
                file.readline()
            while file.tell() < end:
                line = file.readline()
                parts[bisect.bisect_right(cuts, line)].append(line if line.endswith(b"\n") else line + b"\n")
        store.put_many((f"sort/range-{at:04}/{number:04}", b"".join(part)) for at, part in enumerate(parts))


def reduce_lines(at: int, maps: int) -> None:
    with wadi.open() as store:
        store.wait_count(f"sort/range-{at:04}", maps, timeout=60)
        parts = store.get_tree(f"sort/range-{at:04}")
        lines = b"".join(parts.values()).splitlines(keepends=True)
        store.remove_tree(f"sort/range-{at:04}")
        with store.open(f"sort/sorted/{at:04}", "wb") as file:
            file.write(b"".join(sorted(lines)))


def main(path: str, output: str, maps: int = 8, reduces: int = 4) -> None:
    size = os.path.getsize(path)
    cuts = splitters(path, reduces)
    with wadi.open() as store:
        store.put_object("sort/splitters", cuts)
    with concurrent.futures.ProcessPoolExecutor() as functions:
        running = [functions.submit(map_lines, number, path, number * size // maps, (number + 1) * size // maps)
                   for number in range(maps)]
        running += [functions.submit(reduce_lines, at, maps) for at in range(len(cuts) + 1)]
        for function in running:
            function.result()
    with wadi.open() as store, open(output, "wb") as whole:
        for at in range(len(cuts) + 1):
            with store.open(f"sort/sorted/{at:04}", "rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
        store.remove_tree("sort")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
