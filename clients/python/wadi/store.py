"""A handle to a store: the calls of the C API, and what Python adds to them."""
from __future__ import annotations

from types import TracebackType
from typing import Optional, Type, TypeVar

from . import _wadi

_Self = TypeVar("_Self", bound="Store")


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
