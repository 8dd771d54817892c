"""What a store says when it does not do what it was asked for: one class for each status.

Each is an `Error`, which is an `OSError`, and the ones that Python has a class for are of that
too: `except FileNotFoundError` catches a `NotFoundError`.
"""
from __future__ import annotations

import builtins
import errno as _errno
from typing import Optional

__all__ = [
    "Error", "NotFoundError", "ConsumedError", "ExpiredError", "TakenError", "ExistsError", "VersionError",
    "StaleError", "NoSpaceError", "QuotaError", "DeniedError", "TokenError", "NoJobError", "JobEndedError",
    "InvalidError", "TooLargeError", "LimitError", "UnsupportedError", "TimeoutError", "CanceledError",
    "UnreachableError", "ProtocolError", "DamagedError", "LostError", "ForkedError", "BusyError",
]


class Error(OSError):
    """`status` is the store's name for it, `errno` the C library's, `path` the object's, if there is one."""

    status: str
    path: Optional[str]

    def __init__(self, errno: int, message: str, status: str = "INTERNAL", path: Optional[str] = None) -> None:
        super().__init__(errno, message)
        self.status = status
        self.path = path

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple:  # type: ignore[type-arg]
        return type(self), (self.errno, self.strerror, self.status, self.path)


class NotFoundError(Error, FileNotFoundError):
    """There is no such object, or nothing in this directory."""


class ConsumedError(NotFoundError):
    """The object was there; its last read has been taken."""


class TakenError(ConsumedError):
    """Likewise, and this read was one of those counted."""


class ExpiredError(NotFoundError):
    """The object was there; its time to live is over."""


class ExistsError(Error, FileExistsError):
    """`create`, and there is an object already."""


class VersionError(Error):
    """`if_version`, and the object has another version."""


class StaleError(Error):
    """An old attempt of which nobody knows the outcome, or a view that was revoked."""


class NoSpaceError(Error):
    """No room in the store within the deadline, or never."""


class QuotaError(NoSpaceError):
    """The job's quota."""


class DeniedError(Error, PermissionError):
    """The token does not allow it."""


class TokenError(DeniedError):
    """Not a token of this store, or no longer one."""


class NoJobError(Error):
    """There is no such job."""


class JobEndedError(NoJobError):
    """The job has ended."""


class InvalidError(Error, ValueError):
    """An argument; the words name it."""


class TooLargeError(Error):
    """Larger than a limit; the words name it."""


class LimitError(Error):
    """Too many of something; the words name the limit."""


class UnsupportedError(Error):
    """Not in this build, or not through this door."""


class TimeoutError(Error, builtins.TimeoutError):  # pylint: disable=redefined-builtin
    """The deadline. A change may have happened all the same; to repeat it with the same `attempt` is right."""


class CanceledError(Error):
    """The call was given up. A change may have happened all the same."""


class UnreachableError(Error, ConnectionError):
    """Nobody answers at the endpoint."""


class ProtocolError(Error):
    """The other end does not speak this protocol."""


class DamagedError(Error):
    """The bytes are damaged."""


class LostError(Error):
    """The bytes are lost; the words have the reason."""


class ForkedError(Error):
    """The store was opened before a fork: open another in this process."""


class BusyError(Error):
    """The store is in a call of another thread, or of the code that a signal has interrupted: open one for each."""


# The words of the protocol's, by errno, for Python runs on systems with the same numbers.
_CLASSES = {
    _errno.ENOENT: NotFoundError, _errno.EEXIST: ExistsError, _errno.EBADE: VersionError,
    _errno.ENODATA: ConsumedError, _errno.EALREADY: TakenError, _errno.ETIME: ExpiredError,
    _errno.ESTALE: StaleError, _errno.ENOSPC: NoSpaceError, _errno.EDQUOT: QuotaError,
    _errno.EACCES: DeniedError, 129: TokenError, 127: TokenError,  # EKEYREJECTED, EKEYEXPIRED
    _errno.ENXIO: NoJobError, _errno.EIDRM: JobEndedError, _errno.EINVAL: InvalidError,
    _errno.EMSGSIZE: TooLargeError, _errno.EUSERS: LimitError, _errno.EOPNOTSUPP: UnsupportedError,
    _errno.ETIMEDOUT: TimeoutError, _errno.ECANCELED: CanceledError, _errno.EHOSTUNREACH: UnreachableError,
    _errno.ECONNRESET: UnreachableError, _errno.EBADMSG: ProtocolError, _errno.EPROTONOSUPPORT: ProtocolError,
    _errno.EIO: DamagedError, _errno.EREMOTEIO: LostError, _errno.EOWNERDEAD: ForkedError, _errno.EBUSY: BusyError,
}


def error_of(errno: int, status: str, message: str, path: Optional[str]) -> Error:
    """The exception for a result of the C API."""
    if errno == _errno.EBUSY:
        status = "BUSY"
    return _CLASSES.get(errno, Error)(errno, message, status, path)
