#!/usr/bin/env python3
"""Counts the words of files: functions that map, functions that reduce, and a store between them.

usage: word_count.py FILE...      WADI_ENDPOINT and WADI_TOKEN say where the store is
"""
import collections
import concurrent.futures
import re
import sys
import zlib
from typing import List

import wadi

REDUCES = 4


def map_words(number: int, path: str) -> None:
    with open(path, encoding="utf-8", errors="replace") as file:
        counts = collections.Counter(re.findall(r"\w+", file.read().lower()))
    with wadi.open() as store:
        for at in range(REDUCES):
            part = {word: count for word, count in counts.items() if zlib.crc32(word.encode()) % REDUCES == at}
            store.put_object(f"words/{at}/{number:05}", part)


def reduce_words(at: int, maps: int) -> None:
    with wadi.open() as store:
        store.wait_count(f"words/{at}", maps, timeout=60)
        parts = [store.get_object(f"words/{at}/{name}") for name in store.names(f"words/{at}")]
        store.put_object(f"counted/{at}", sum(map(collections.Counter, parts), collections.Counter()))


def main(paths: List[str]) -> None:
    with concurrent.futures.ProcessPoolExecutor() as functions:
        running = [functions.submit(map_words, number, path) for number, path in enumerate(paths)]
        running += [functions.submit(reduce_words, at, len(paths)) for at in range(REDUCES)]
        for function in running:
            function.result()
    with wadi.open() as store:
        counted = [store.get_object(f"counted/{at}") for at in range(REDUCES)]
        store.remove_tree("words")
        store.remove_tree("counted")
    for word, count in sum(counted, collections.Counter()).most_common(20):
        print(f"{count:8} {word}")


if __name__ == "__main__":
    main(sys.argv[1:])
