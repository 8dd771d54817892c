"""The same for asyncio: calls that are awaited, any number of them at a time, on the loop's own thread.

    async with wadi.aio.open() as store:
        await asyncio.gather(*(store.put(name, data) for name, data in parts))
"""
from __future__ import annotations

import asyncio
import errno
import functools
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple, Type, TypeVar, Union

from . import _wadi
from .errors import CanceledError, NotFoundError
from .objects import Parts, load
from .records import Stat
from .store import _RAISE, Store

_Self = TypeVar("_Self", bound="AsyncStore")

# At most as many at once: a handle has room for twice as many, and those that were canceled are on their way out. Others wait for a place.
_IN_FLIGHT = 2048


class AsyncStore:
    """`store` is the handle: its other calls wait as ever, and hold the loop up meanwhile."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._loop = asyncio.get_running_loop()
        self._futures: Dict[_wadi.Op, asyncio.Future[Any]] = {}
        self._fd = store.fileno()
        self._places = asyncio.Semaphore(_IN_FLIGHT)
        self._is_turning = False
        self._loop.add_reader(self._fd, self._turn)

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        """What is in flight is canceled."""
        if self.store.closed:
            return
        self._loop.remove_reader(self._fd)
        futures, self._futures = self._futures, {}
        self.store.close()
        for future in futures.values():
            if not future.done():
                future.set_exception(CanceledError(errno.ECANCELED, "the store was closed", "CANCELED"))

    def _turn(self) -> None:
        self._is_turning = False
        if self.store.closed:
            return
        self.store.turn()
        for op in self.store.ended():
            future = self._futures.pop(op, None)
            if future is None or future.done():
                continue
            try:
                future.set_result(op.result())
            except Exception as error:  # pylint: disable=broad-except
                future.set_exception(error)

    def _turn_soon(self) -> None:
        """What is started or canceled before the loop turns is sent together; the descriptor does not tell of it."""
        if not self._is_turning:
            self._is_turning = True
            self._loop.call_soon(self._turn)

    def _cancel(self, op: _wadi.Op, future: asyncio.Future[Any]) -> None:
        if future.cancelled() and not self.store.closed:
            op.cancel()
            self._turn_soon()

    async def _run(self, start: Callable[..., _wadi.Op], *args: Any, **options: Any) -> Any:
        async with self._places:
            op = start(*args, **options)
            future = self._loop.create_future()
            self._futures[op] = future
            future.add_done_callback(functools.partial(self._cancel, op))
            self._turn_soon()
            return await future

    async def put(self, path: str, data: Any, **options: Any) -> int:
        return await self._run(self.store.start_put, path, data, **options)  # type: ignore[no-any-return]

    async def get(self, path: str, **options: Any) -> bytes:
        return await self._run(self.store.start_get, path, **options)  # type: ignore[no-any-return]

    async def remove(self, path: str, **options: Any) -> None:
        await self._run(self.store.start_remove, path, **options)

    async def wait(self, path: str, **options: Any) -> Stat:
        return await self._run(self.store.start_wait, path, **options)  # type: ignore[no-any-return]

    async def get_many(self, paths: Iterable[str], default: Any = _RAISE, **options: Any) -> List[Any]:
        got = await asyncio.gather(*(self.get(path, **options) for path in paths), return_exceptions=True)
        for at, value in enumerate(got):
            if isinstance(value, BaseException):
                if default is _RAISE or not isinstance(value, NotFoundError):
                    raise value
                got[at] = default
        return got

    async def put_many(self, objects: Union[Mapping[str, Any], Iterable[Tuple[str, Any]]],
                       **options: Any) -> List[int]:
        pairs = objects.items() if isinstance(objects, Mapping) else objects
        return await asyncio.gather(*(self.put(path, data, **options) for path, data in pairs))

    async def put_object(self, path: str, value: Any, **options: Any) -> int:
        parts = Parts(value)
        room = bytearray(parts.size)
        with memoryview(room) as bytes_of_it:
            parts.write(bytes_of_it)
        return await self.put(path, room, **options)

    async def get_object(self, path: str, **options: Any) -> Any:
        return load(await self.get(path, **options))


def open(endpoint: Optional[str] = None, token: Optional[str] = None,  # pylint: disable=redefined-builtin
         timeout: Optional[float] = None) -> AsyncStore:
    """Inside of a running loop. It connects before it returns."""
    return AsyncStore(Store(endpoint, token, timeout))
