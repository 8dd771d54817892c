"""A library in a strange host: threads, forks, signals, garbage, and the end of the interpreter."""
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest
from e2e import finish, until

import wadi


def run(code, env, *args, late_s=30):
    """A Python of its own: its exit status and all that it said."""
    process = subprocess.Popen([sys.executable, "-X", "dev", "-c", textwrap.dedent(code), *args], env=env,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    status, out, _ = finish(process, late_s)
    return status, out


def is_busy(store):
    try:
        store.stat("none")
    except wadi.BusyError as error:
        return error.status == "BUSY" and "each thread" in str(error)
    except wadi.NotFoundError:
        return False


def test_a_store_belongs_to_one_thread_at_a_time(s, endpoint, w):
    s.put("v", b"v" * 200_000)
    view, other_view, op = s.view("v"), s.view("v"), s.start_wait("x", timeout=20)
    waiting = threading.Thread(target=op.result)
    waiting.start()
    until(lambda: is_busy(s), "the other thread's call")
    for call in s.close, op.result, op.cancel:
        with pytest.raises(wadi.BusyError):
            call()
    assert not op.done()
    # Nobody can tell now whether it was whole.
    with pytest.raises(wadi.BusyError):
        view.release()
    with pytest.raises(wadi.BusyError):
        with other_view:
            pass
    assert other_view.released and not view.released
    with wadi.open(endpoint, w.token) as other:
        other.put("x", b"")
    waiting.join()
    assert op.done() and op.result().size == 0
    view.release()
    s.put("y", b"")


def test_what_runs_while_an_error_is_made_may_ask_for_it(env):
    """Making it is Python, in whose middle other threads run, and handlers."""
    status, out = run("""
        import sys, wadi

        def meanwhile(call):
            def trace(frame, event, arg):
                if frame.f_code.co_name == "error_of":
                    sys.settrace(None)
                    call()
            sys.settrace(trace)

        def ask():
            try:
                op.result()
            except wadi.BusyError:
                print("busy")

        store = wadi.open()
        op = store.start_get("none")
        meanwhile(ask)
        try:
            op.result()
        except wadi.NotFoundError:
            print("none")
        for n in range(3):
            store.start_get(f"none-{n}")
        ended = 0
        while ended < 3:
            ended += store.turn(timeout=20)
        meanwhile(store.ended)
        for op in store.ended():
            try:
                op.result()
            except wadi.NotFoundError as error:
                print(error.path)
    """, env)
    assert (status, out) == (0, "busy\nnone\nnone-0\nnone-1\nnone-2\n")


def test_a_store_that_was_not_opened_is_closed():
    store = wadi.Store.__new__(wadi.Store)
    for call in (lambda: store.start_put("x", b""), lambda: store.start_get("x"), lambda: store.start_remove("x"),
                 lambda: store.start_wait("x"), lambda: store.get("x"), lambda: store.view("x"), store.ended):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_what_cannot_be_opened_says_so_once(env):
    status, out = run("""
        import wadi
        store = wadi.open()
        for error, how in ((TypeError, (5, "wb")), (TypeError, (5, "rb")), (wadi.NotFoundError, ("none", "r")),
                           (LookupError, ("x", "w", "no-encoding"))):
            try:
                store.open(*how)
            except error:
                print(error.__name__)
    """, env)
    assert (status, out) == (0, "TypeError\nTypeError\nNotFoundError\nLookupError\n")


def test_other_threads_run_while_it_waits(s):
    turns = 0
    waiting = threading.Thread(target=lambda: pytest.raises(wadi.TimeoutError, s.wait, "x", timeout=0.3))
    waiting.start()
    while waiting.is_alive():
        turns += 1
    assert turns > 1000


def test_views_are_released_on_any_thread(s):
    s.put("x", b"v" * 200_000)
    views = [s.view("x") for _ in range(20)]
    waiting = threading.Thread(target=lambda: pytest.raises(wadi.TimeoutError, s.wait, "none", timeout=0.3))
    waiting.start()
    views.clear()  # while the store is in a call
    waiting.join()
    views = [s.view("x") for _ in range(20)]
    releasing = threading.Thread(target=views.clear)
    releasing.start()
    releasing.join()
    assert s.get("x", length=1) == b"v"


def test_garbage_in_any_order(endpoint, w):
    for order in range(6):
        store = wadi.open(endpoint, w.token)
        store.put("x", bytes([order]) * 150_000)
        gone = weakref.ref(store)
        things = [store, store.view("x"), memoryview(store.view("x")), store.reader("x"), store.writer("y"), store.list(),
                  store.reserve("z", 10)]
        view = things[2]
        del store
        for at in ((3, 1, 0), (0, 0, 0), (1, 1, 1), (5, 0, 2), (2, 3, 0), (0, 4, 3))[order]:
            things.pop(at % len(things))
            gc.collect()
        cycle = [things]
        cycle.append(cycle)
        del things, cycle
        gc.collect()
        assert bytes(view[:3]) == bytes([order]) * 3 and gone() is not None
        del view
        gc.collect()
        assert gone() is None


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_a_view_outlives_its_store(endpoint, w):
    before = descriptors()
    with wadi.open(endpoint, w.token) as store:
        store.put("x", b"v" * 150_000)
        view, reader = store.view("x"), store.reader("x")
    assert store.closed and bytes(view) == b"v" * 150_000
    with pytest.raises(ValueError, match="closed"):
        store.view("x")
    room = bytearray(10)
    assert reader.readinto(room) == 10 and room == b"v" * 10
    view.release()
    assert view.released and descriptors() > before
    reader.close()
    del view, reader
    assert descriptors() == before


def test_a_view_keeps_its_bytes(store, w):
    """They are those of its version, though the object is removed and its room wanted by others."""
    with wadi.open(store.endpoints["unix"], w.token) as local:
        local.put("x", b"old" * 100_000)
        local.get("x"), local.get("x"), local.get("x"), local.get("x")  # a ring, and so an index
        view = local.view("x")
        local.put("x", b"new" * 100_000)
        local.remove("x")
        for turn in range(20):
            local.put(f"other-{turn}", b"other" * 60_000)
        assert bytes(view) == b"old" * 100_000
        view.release()


def test_after_a_fork_the_child_opens_its_own(env):
    status, out = run("""
        import gc, os, wadi
        store = wadi.open()
        store.put("x", b"v" * 150_000)
        view, reader, writer = store.view("x"), store.reader("x"), store.writer("y")
        pid = os.fork()
        if pid == 0:
            try:
                store.get("x")
            except wadi.ForkedError as error:
                assert error.status == "FORKED" and "fork" in str(error)
            else:
                os._exit(1)
            try:
                reader.readinto(bytearray(10))
            except wadi.ForkedError:
                pass
            for call in view.release, lambda: bytes(view):
                try:
                    call()
                except wadi.ForkedError:
                    continue
                os._exit(2)
            store.close()
            del store, view, reader, writer
            gc.collect()
            with wadi.open() as own:
                assert own.get("x", length=1) == b"v"
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert bytes(view) == b"v" * 150_000
        writer.write(b"1")
        writer.commit()
        assert store.get("y") == b"1"
        view.release()
        print("done")
    """, env)
    assert (status, out) == (0, "done\n")


@pytest.mark.parametrize("call", ["store.wait('none', timeout=60)", "store.get('none', wait=60)",
                                  "store.view('none', wait=60)", "store.wait_count('none', 3, timeout=60)",
                                  "store.start_wait('none', timeout=60).result()", "store.turn(timeout=60)",
                                  "store.get_each(['none', 'none'], wait=60)"])
def test_ctrl_c_ends_a_wait(env, call):
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(f"""
        import wadi
        store = wadi.open()
        try:
            print("waits", flush=True)
            {call}
        except KeyboardInterrupt:
            store.put("x", b"1")
            assert store.get("x") == b"1"
            store.close()
            print("ended")
    """)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout.readline() == "waits\n"
    until(lambda: is_asleep(process.pid), "its wait")
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    status, out, _ = finish(process)
    assert (status, out) == (0, "ended\n")
    assert time.monotonic() - begun < 10


def test_ctrl_c_is_no_value(env):
    """It comes while the call does not wait, and is heard in the first code of Python after that, which makes an error."""
    status, out = run("""
        import _thread, operator, signal, wadi
        store = wadi.open()
        paths = map(operator.itemgetter(0), zip(["none"], map(_thread.interrupt_main, [signal.SIGINT])))
        try:
            print(store.get_many(paths, default=None))
        except KeyboardInterrupt:
            print("ended")
    """, env)
    assert (status, out) == (0, "ended\n")


def is_asleep(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "S"


def test_a_handler_runs_while_it_waits_and_the_wait_goes_on(env):
    status, out = run("""
        import signal, wadi
        seen = []
        def handle(*_):
            seen.append(1)
            try:
                store.put("x", b"")
            except wadi.BusyError:
                seen.append(2)
        signal.signal(signal.SIGALRM, handle)
        store = wadi.open()
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        try:
            store.wait("none", timeout=1)
        except wadi.TimeoutError:
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(len(seen) >= 4 and 1 in seen and 2 in seen)
    """, env)
    assert (status, out) == (0, "True\n")


@pytest.mark.parametrize("kept", ["view = store.view('x')", "view = memoryview(store.view('x'))",
                                  "reader = store.reader('x'); writer = store.writer('y'); writer.write(b'1')",
                                  "ops = [store.start_wait('none', timeout=60), store.start_put('y', b'1')]",
                                  "import threading; threading.Thread(target=lambda: store.wait('none', timeout=60),"
                                  " daemon=True).start(); import time; time.sleep(0.1)",
                                  "import atexit; view = store.view('x'); atexit.register(lambda: bytes(view))",
                                  "cycle = [store.view('x')]; cycle.append(cycle); store.view('x').own = 1"])
def test_the_interpreter_ends_with_it_alive(env, kept):
    """Whatever is left, in whatever order: it ends, and says nothing but what that code raises itself."""
    status, out = run(f"""
        import wadi
        store = wadi.open()
        store.put('x', b'v' * 150_000)
        try:
            {kept}
        except AttributeError:
            pass
    """, env)
    assert (status, out) == (0, "")


def test_memory_stays_where_it_was(s):
    """Every way in and out, many times: objects, failures, views, arrays of names."""
    def all_once():
        s.put("x", b"v" * 100_000, attributes=b"a")
        s.get("x")
        with s.view("x") as view:
            memoryview(view)
            view.__arrow_c_array__()
            view.__dlpack__(max_version=(1, 0))
        for _ in s.list():
            pass
        with pytest.raises(wadi.NotFoundError):
            s.get("none")
        assert isinstance(s.get_each(["x", "none"])[1], wadi.NotFoundError)
        s.put_each(["y", "z"], [b"1", b"2"])
        s.start_get("x").result()
        with s.reserve("y", 100_000):
            pass

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    for _ in range(100):
        all_once()
    before = resident()
    for _ in range(300):
        all_once()
    assert resident() - before < 8 << 20
