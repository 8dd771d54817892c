"""Python objects as bytes of a store, by pickle's protocol 5: large buffers lie beside the pickle, and are read where they are.

    8 bytes of magic, number of buffers, length of the pickle, each buffer's length (all of 8 bytes, little-endian),
    the pickle, and each buffer at the next multiple of 64.

Like every pickle: load only what comes from those who may run code here. A job's token is that.
"""
from __future__ import annotations

import errno
import pickle
import struct
from typing import TYPE_CHECKING, Any, List, Tuple, Union

from .errors import DamagedError

if TYPE_CHECKING:
    from ._wadi import View

MAGIC = b"wadi-p5\0"
ALIGN = 64


def _after(at: int) -> int:
    return (at + ALIGN - 1) // ALIGN * ALIGN


class Parts:
    """A pickled object, and where its parts go."""

    def __init__(self, value: Any) -> None:
        buffers: List[pickle.PickleBuffer] = []
        body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        head = struct.pack(f"<8sQQ{len(raw)}Q", MAGIC, len(raw), len(body), *(part.nbytes for part in raw))
        self.parts: List[Tuple[int, Any]] = [(0, head + body)]
        self.size = len(head) + len(body)
        for part in raw:
            self.parts.append((_after(self.size), part))
            self.size = _after(self.size) + part.nbytes

    def write(self, room: memoryview) -> None:
        end = 0
        for at, part in self.parts:
            room[end:at] = bytes(at - end)
            end = at + len(part)
            room[at:end] = part


def load(view: Union[View, bytes]) -> Any:
    """Arrays in it are read only, and keep the view."""
    whole = memoryview(view) if isinstance(view, bytes) else view.data
    if whole[:8] != MAGIC or len(whole) < 24:
        raise DamagedError(errno.EIO, "these are not the bytes of an object that put_object() has put", "DAMAGED")
    count, length = struct.unpack_from("<QQ", whole, 8)
    if count > (len(whole) - 24) // 8:
        raise DamagedError(errno.EIO, "the object's bytes end before its buffers", "DAMAGED")
    at = 24 + 8 * count
    body = whole[at:at + length]
    at += length
    buffers = []
    for size in struct.unpack_from(f"<{count}Q", whole, 24):
        at = _after(at)
        buffers.append(whole[at:at + size])
        at += size
    if at > len(whole):
        raise DamagedError(errno.EIO, "the object's bytes end before its buffers", "DAMAGED")
    return pickle.loads(body, buffers=buffers)
