"""A handle to a store: the calls of the C API, and what Python adds to them."""
from __future__ import annotations

from types import TracebackType
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple, Type, TypeVar, Union

from . import _wadi
from .errors import Error, NotFoundError
from .files import open_file
from .objects import Parts, load

_Self = TypeVar("_Self", bound="Store")
_RAISE = object()


class Store(_wadi.Store):
    """Belongs to one thread at a time: open one for each. After a fork the child opens its own."""

    def __init__(self, endpoint: Optional[str] = None, token: Optional[str] = None,
                 timeout: Optional[float] = None) -> None:
        self._open(endpoint, token, timeout)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def get_many(self, paths: Iterable[str], default: Any = _RAISE, **options: Any) -> List[Any]:
        """The bytes at each path, asked for together, as one way there and back. They are gets of their own, not one moment.

        With a `default` that is what stands for an object that is not there; else the first failure is raised.
        """
        got = self.get_each(paths, **options)
        for at, value in enumerate(got):
            if isinstance(value, Error):
                if default is _RAISE or not isinstance(value, NotFoundError):
                    raise value
                got[at] = default
        return got

    def put_many(self, objects: Union[Mapping[str, Any], Iterable[Tuple[str, Any]]], **options: Any) -> List[int]:
        """Puts {path: bytes} together, as one way there and back; their versions. They are puts of their own: if one
        fails, which is raised, the others are there."""
        pairs = list(objects.items() if isinstance(objects, Mapping) else objects)
        done = self.put_each([path for path, _ in pairs], [data for _, data in pairs], **options)
        for value in done:
            if isinstance(value, Error):
                raise value
        return done  # type: ignore[return-value]

    def put_object(self, path: str, value: Any, **options: Any) -> int:
        """Puts a Python object by pickle's protocol 5. The large buffers of it (arrays) are copied once, into their place."""
        parts = Parts(value)
        with self.reserve(path, parts.size, **options) as room:
            with room.data as bytes_of_it:
                parts.write(bytes_of_it)
            return room.commit()

    def get_object(self, path: str, **options: Any) -> Any:
        """The object again. Arrays in it are read only and lie where the store has them, as long as they live."""
        return load(self.view(path, **options))

    def open(self, path: str, mode: str = "r", encoding: Optional[str] = None, errors: Optional[str] = None,
             newline: Optional[str] = None, **options: Any) -> Any:
        """A file, as the open() of Python gives one: modes r, w and x (with b or t), UTF-8 unless said otherwise.

        What is written is there when the file is closed, all of it; after an error inside of `with` nothing is."""
        return open_file(self, path, mode, encoding, errors, newline, **options)

    def names(self, directory: str = "", **options: Any) -> List[str]:
        """The names in a directory, in byte order."""
        return [entry.name for entry in self.list(directory, **options)]

    def get_tree(self, directory: str, **options: Any) -> Dict[str, bytes]:
        """All that lies directly in a directory, by name."""
        names = [name for name in self.names(directory) if not name.endswith("/")]
        prefix = directory.rstrip("/") + "/" if directory.strip("/") else directory
        got = self.get_many([prefix + name for name in names], **options)
        return dict(zip(names, got))
