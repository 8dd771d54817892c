#!/usr/bin/env python3
"""Pictures through a pipeline of functions: one loads them, many make thumbnails, one lays those out on a sheet.

usage: thumbnails.py SHEET.png PICTURE...      WADI_ENDPOINT and WADI_TOKEN say where the store is
"""
import concurrent.futures
import io
import sys
from typing import List

from PIL import Image  # type: ignore[import]

import wadi

SIZE = 128


def load(paths: List[str]) -> None:
    with wadi.open() as store:
        for number, path in enumerate(paths):
            with open(path, "rb") as file:
                store.put(f"pictures/{number:04}", file.read(), attributes=path[-500:].encode())


def make_thumbnail(number: int) -> None:
    """Whoever waits for a picture need not know when it comes."""
    with wadi.open() as store:
        store.wait(f"pictures/{number:04}", timeout=60)
        with store.open(f"pictures/{number:04}", "rb") as file, Image.open(file) as picture:
            small = picture.convert("RGB")
            small.thumbnail((SIZE, SIZE))
        with store.open(f"thumbnails/{number:04}", "wb") as file:
            small.save(file, "PNG")
        store.remove(f"pictures/{number:04}")


def lay_out(count: int, output: str) -> None:
    columns = max(1, int(count ** 0.5))
    sheet = Image.new("RGB", (columns * SIZE, -(-count // columns) * SIZE), "white")
    with wadi.open() as store:
        store.wait_count("thumbnails", count, timeout=60)
        for number, data in enumerate(store.get_tree("thumbnails").values()):
            with Image.open(io.BytesIO(data)) as small:
                sheet.paste(small, (number % columns * SIZE + (SIZE - small.width) // 2,
                                    number // columns * SIZE + (SIZE - small.height) // 2))
        store.remove_tree("thumbnails")
    sheet.save(output)


def main(output: str, *paths: str) -> None:
    with concurrent.futures.ProcessPoolExecutor() as functions:
        running = [functions.submit(load, list(paths))]
        running += [functions.submit(make_thumbnail, number) for number in range(len(paths))]
        running.append(functions.submit(lay_out, len(paths), output))
        for function in running:
            function.result()
    print(f"{len(paths)} pictures on {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
