"""Calls that are awaited."""
import asyncio
import signal

import pytest
from e2e import WADI

import wadi
import wadi.aio


def test_asyncio(endpoint, w):
    async def main():
        async with wadi.aio.open(endpoint, w.token) as store:
            await store.put("x", b"1", ttl=60)
            assert await store.get("x") == b"1"
            data = await asyncio.gather(*(store.put(f"d/{n}", b"%d" % n) for n in range(500)))
            assert len(set(data)) == 500
            got = await asyncio.gather(*(store.get(f"d/{n}") for n in range(500)))
            assert got == [b"%d" % n for n in range(500)]
            waiting = asyncio.create_task(store.wait("later", timeout=20))
            never = asyncio.create_task(store.wait("never", timeout=20))
            ticks = 0
            while ticks < 5:
                await asyncio.sleep(0.01)
                ticks += 1
            assert not waiting.done()
            await store.put("later", b"12")
            assert (await waiting).size == 2
            never.cancel()
            with pytest.raises(asyncio.CancelledError):
                await never
            with pytest.raises(wadi.NotFoundError):
                await store.get("none")
            with pytest.raises(wadi.TimeoutError):
                await store.wait("none", timeout=0.05)
            await store.remove("x")
            assert await store.get_many(["x", "d/3"], default=None) == [None, b"3"]
            assert len(await store.put_many({"a": b"1", "b": b"2"})) == 2
            await store.put_object("o", {"a": [1]})
            assert await store.get_object("o") == {"a": [1]}
            assert store.store.stat("a").size == 1
            left = asyncio.create_task(store.wait("left", timeout=20))
            await asyncio.sleep(0)
        with pytest.raises((wadi.CanceledError, asyncio.CancelledError)):
            await left
        with pytest.raises(ValueError):
            await store.get("a")
    asyncio.run(main())


def test_any_number_at_a_time(endpoint, w):
    async def main():
        async with wadi.aio.open(endpoint, w.token) as store:
            await store.put("x", b"1")
            assert await store.get_many(["x"] * 6000) == [b"1"] * 6000
    asyncio.run(main())


@pytest.mark.parametrize("end", [signal.SIGSTOP, signal.SIGKILL])
def test_calls_end_though_nothing_comes(new_store, end):
    """By their deadline, and as soon as they are canceled."""
    one = new_store()
    token, late = one.job().token, (wadi.TimeoutError, wadi.UnreachableError)

    async def main():
        async with wadi.aio.open(one.endpoints["tcp"], token) as store:
            data = bytearray(b"1" * 100_000)
            await store.put("x", data)
            waiting = asyncio.create_task(store.get("none", wait=20, timeout=2))
            await asyncio.sleep(0.05)
            one.process.send_signal(end)
            for call in waiting, store.get("y", timeout=0.3):
                with pytest.raises(late):
                    await asyncio.wait_for(call, 30)
            putting = asyncio.create_task(store.put("x", data, timeout=600))
            await asyncio.sleep(0.05)
            putting.cancel()
            await asyncio.wait([putting])
            await asyncio.sleep(0.05)
            data.append(1)  # it is not held any more
    asyncio.run(main())


def test_a_task_waits_while_another_program_works(env, endpoint, w):
    """Nothing but the descriptor wakes the loop."""
    async def main():
        async with wadi.aio.open(endpoint, w.token) as store:
            waiting = asyncio.create_task(store.get("x", wait=20))
            await asyncio.sleep(0.05)
            process = await asyncio.create_subprocess_exec(WADI, "put", "-", "x", env=env,
                                                           stdin=asyncio.subprocess.PIPE)
            await process.communicate(b"from afar")
            return await asyncio.wait_for(waiting, 20)
    assert asyncio.run(main()) == b"from afar"
