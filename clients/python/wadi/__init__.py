"""Wadi, an ephemeral store for the data that functions hand to each other.

    import wadi

    with wadi.open() as store:
        store.put("greeting", b"hello")
        assert store.get("greeting") == b"hello"

The endpoint and the token come from WADI_ENDPOINT and WADI_TOKEN where none are given.
"""
from __future__ import annotations

from typing import Optional

from ._wadi import List, Op, Reader, Reservation, View, Writer, token_narrow
from ._wadi import version as _version
from .errors import *  # noqa: F401,F403
from .errors import __all__ as _errors
from .records import Entry, JobInfo, Stat, StoreInfo
from .store import Store

__version__ = _version()

READ, WRITE, REMOVE, LIST, JOB = (1 << n for n in range(5))  # rights of a token

__all__ = _errors + ["open", "Store", "View", "Reservation", "Reader", "Writer", "List", "Op", "Entry", "JobInfo",
                     "Stat", "StoreInfo", "token_narrow", "READ", "WRITE", "REMOVE", "LIST", "JOB"]


def open(endpoint: Optional[str] = None, token: Optional[str] = None,  # pylint: disable=redefined-builtin
         timeout: Optional[float] = None) -> Store:
    """Opens a store. `timeout` in seconds is that of each of its calls; WADI_TIMEOUT, else 10, if it is not given."""
    return Store(endpoint, token, timeout)
