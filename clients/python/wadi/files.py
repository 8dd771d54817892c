"""Objects as files: streams of io, for what reads and writes files."""
from __future__ import annotations

import errno
import io
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Type

from .errors import StaleError

if TYPE_CHECKING:
    from ._wadi import Store as _Store


class FileReader(io.RawIOBase):
    """Reads one version of an object, and says so if it has to begin anew (after a seek) and that is gone."""

    def __init__(self, store: _Store, path: str, **options: Any) -> None:
        super().__init__()
        self.name = path
        self._store, self._options = store, options
        self._base = int(options.pop("offset", None) or 0)
        self._reader = store.reader(path, offset=self._base, **options)
        self.stat = self._reader.stat
        self._size = max(0, self.stat.size - self._base)
        if options.get("length") is not None:
            self._size = min(self._size, options["length"])
        self._at = self._read_to = 0  # where the next read is to begin, and where the stream is

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position is not negative")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def _reopen(self) -> None:
        options = {name: value for name, value in self._options.items() if name not in ("length", "wait")}
        reader = self._store.reader(self.name, offset=self._base + self._at, length=self._size - self._at, **options)
        if reader.stat.version != self.stat.version:
            reader.close()
            raise StaleError(errno.ESTALE, f"read {self.name}: it was replaced meanwhile", "STALE", self.name)
        self._reader.close()
        self._reader, self._read_to = reader, self._at

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError("the file is closed")
        if self._at >= self._size:
            return 0
        if self._at != self._read_to:
            self._reopen()
        count = self._reader.readinto(buffer)
        self._at += count
        self._read_to = self._at
        return count

    def close(self) -> None:
        # One that could not be opened has none.
        if hasattr(self, "_reader") and not self.closed:
            self._reader.close()
        super().close()


class FileWriter(io.RawIOBase):
    """Becomes an object when it is closed; nothing of it is seen before that, or after an error inside of `with`."""

    def __init__(self, store: _Store, path: str, **options: Any) -> None:
        super().__init__()
        self.name = path
        self.version: Optional[int] = None
        self._writer = store.writer(path, **options)
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.closed:
            raise ValueError("the file is closed")
        count = self._writer.write(data)
        self._at += count
        return count

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.version = self._writer.commit()

    def abandon(self) -> None:
        if hasattr(self, "_writer"):
            self._writer.abandon()
        super().close()

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def __del__(self) -> None:
        # Whoever forgets to close it has not finished it.
        if not self.closed:
            self.abandon()


class TextWriter(io.TextIOWrapper):
    """Text, likewise."""

    def __init__(self, raw: FileWriter, **how: Any) -> None:
        self._raw = raw
        super().__init__(raw, write_through=True, **how)  # type: ignore[arg-type]

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        if error is None:
            self.close()
        else:
            self._raw.abandon()

    def __del__(self) -> None:
        if not self._raw.closed:
            self._raw.abandon()


def open_file(store: _Store, path: str, mode: str, encoding: Optional[str], errors: Optional[str],
              newline: Optional[str], **options: Any) -> Any:
    """As open() has it; "x" is `create`."""
    kind, text = mode.replace("b", "").replace("t", ""), "b" not in mode
    if kind not in ("r", "w", "x") or ("t" in mode) and not text:
        raise ValueError(f"a mode is r, w or x, with b or t: {mode!r}")
    how = {"encoding": encoding or "utf-8", "errors": errors, "newline": newline}
    if kind == "r":
        reader = io.BufferedReader(FileReader(store, path, **options), 1 << 16)
        return io.TextIOWrapper(reader, **how) if text else reader  # type: ignore[arg-type]
    if kind == "x":
        options["create"] = True
    writer = FileWriter(store, path, **options)
    return TextWriter(writer, **how) if text else writer
