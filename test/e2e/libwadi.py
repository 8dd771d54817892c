"""libwadi in this process, for what only a process with a handle shows. Not thread safe: a handle per thread.

Run as a program it does one line of standard input after the other, each a Python expression
with `Handle` and `pattern`, and prints what it gives.
"""
import ctypes
import os
import sys
import threading

from conftest import BUILD, pattern


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("endpoint", ctypes.c_char_p), ("token", ctypes.c_char_p),
                ("timeout_ms", ctypes.c_uint32), ("reserved", ctypes.c_uint32)]


LIB = ctypes.CDLL(os.path.join(BUILD, "src/attach/libwadi.so"))
LIB.wadi_strerror.restype = LIB.wadi_status_name.restype = ctypes.c_char_p
LIB.wadi_get.restype = LIB.wadi_get_alloc.restype = ctypes.c_int64
LIB.wadi_put.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p,
                         ctypes.c_void_p]
LIB.wadi_get.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p,
                         ctypes.c_void_p]
LIB.wadi_get_alloc.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
for name in ("wadi_close", "wadi_strerror", "wadi_reservation_data", "wadi_free"):
    getattr(LIB, name).argtypes = [ctypes.c_void_p]
LIB.wadi_reserve.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
LIB.wadi_start_get.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p,
                               ctypes.c_void_p, ctypes.c_void_p]
LIB.wadi_view.argtypes = LIB.wadi_get_alloc.argtypes[:2] + [ctypes.c_void_p, ctypes.c_void_p]
LIB.wadi_view_data.argtypes = LIB.wadi_view_len.argtypes = [ctypes.c_void_p]
LIB.wadi_view_data.restype, LIB.wadi_view_len.restype = ctypes.c_void_p, ctypes.c_size_t
LIB.wadi_reader_open.argtypes = LIB.wadi_view.argtypes
LIB.wadi_reader_read.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
LIB.wadi_reader_read.restype = ctypes.c_int64
LIB.wadi_wait.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_void_p]
LIB.wadi_stat.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
LIB.wadi_remove.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64]
LIB.wadi_turn.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
LIB.wadi_reservation_data.restype = ctypes.c_void_p
LIB.wadi_commit.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
LIB.wadi_abandon.argtypes = LIB.wadi_writer_abandon.argtypes = [ctypes.c_void_p]
LIB.wadi_writer_open.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p]
LIB.wadi_writer_write.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
LIB.wadi_writer_part.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
LIB.wadi_writer_commit.argtypes = [ctypes.c_void_p, ctypes.c_void_p]


class Failed(Exception):
    """str() begins with the status."""


class Handle:
    def __init__(self, endpoint=None, token=None, timeout_ms=0):
        options = Options(ctypes.sizeof(Options), endpoint and endpoint.encode(), token and token.encode(), timeout_ms)
        self.w = ctypes.c_void_p()
        self.check(LIB.wadi_open(ctypes.byref(options), ctypes.byref(self.w)))

    def check(self, r):
        if r < 0:
            raise Failed(LIB.wadi_status_name(r).decode() + " " + LIB.wadi_strerror(self.w).decode())
        return r

    def put(self, path, data):
        self.check(LIB.wadi_put(self.w, path.encode(), data, len(data), None, None))

    def get(self, path, cap=1 << 20):
        room = ctypes.create_string_buffer(cap)
        size = self.check(LIB.wadi_get(self.w, path.encode(), room, cap, None, None))
        return room.raw[:size]

    def get_new(self, path):
        """Into memory of the library's."""
        data = ctypes.c_void_p()
        size = self.check(LIB.wadi_get_alloc(self.w, path.encode(), None, ctypes.byref(data), None))
        got = ctypes.string_at(data, size)
        LIB.wadi_free(data)
        return got

    def get_many(self, path, cap, count):
        """At a time; how they ended."""
        room, ops = ctypes.create_string_buffer(cap), [ctypes.c_void_p() for _ in range(count)]
        for op in ops:
            self.check(LIB.wadi_start_get(self.w, path.encode(), room, cap, None, None, ctypes.byref(op)))
        return {LIB.wadi_status_name(LIB.wadi_op_end(ctypes.byref(op))).decode() for op in ops}

    def view(self, path):
        view = ctypes.c_void_p()
        self.check(LIB.wadi_view(self.w, path.encode(), None, ctypes.byref(view)))
        got = ctypes.string_at(LIB.wadi_view_data(view), LIB.wadi_view_len(view))
        self.check(LIB.wadi_release(ctypes.byref(view)))
        return got

    def read(self, path, cap=1 << 20):
        """The whole object, through a reader."""
        reader, room, got = ctypes.c_void_p(), ctypes.create_string_buffer(cap), b""
        self.check(LIB.wadi_reader_open(self.w, path.encode(), None, ctypes.byref(reader)))
        while size := self.check(LIB.wadi_reader_read(reader, room, cap)):
            got += room.raw[:size]
        LIB.wadi_reader_close(ctypes.byref(reader))
        return got

    def wait(self, path, wait_ms):
        self.check(LIB.wadi_wait(self.w, path.encode(), wait_ms, None))

    def stat(self, path):
        self.check(LIB.wadi_stat(self.w, path.encode(), ctypes.create_string_buffer(4096)))

    def remove(self, path):
        self.check(LIB.wadi_remove(self.w, path.encode(), 0))

    def end_job(self, name):
        self.check(LIB.wadi_job_end(self.w, name.encode()))

    def turn(self):
        self.check(LIB.wadi_turn(self.w, 1))

    def reserve(self, path, size):
        return Reservation(self, path, size)

    def close(self):
        LIB.wadi_close(self.w)


class Reservation:
    """Of an object that is written in place."""

    def __init__(self, handle, path, size):
        self.handle, self.size, self.r = handle, size, ctypes.c_void_p()
        handle.check(LIB.wadi_reserve(handle.w, path.encode(), size, None, ctypes.byref(self.r)))
        self.at = LIB.wadi_reservation_data(self.r)

    def write(self, data, offset=0):
        assert offset + len(data) <= self.size
        ctypes.memmove(self.at + offset, data, len(data))
        return self

    def commit(self):
        self.handle.check(LIB.wadi_commit(ctypes.byref(self.r), None))
        assert not self.r

    def abandon(self):
        LIB.wadi_abandon(ctypes.byref(self.r))
        assert not self.r

    def inode(self):
        """Of the memory that it lies in, if that is shared."""
        with open("/proc/self/maps", encoding="utf-8") as maps:
            for line in maps:
                span, rights, _, _, inode = line.split()[:5]
                begin, end = (int(x, 16) for x in span.split("-"))
                if begin <= self.at < end:
                    return int(inode) if rights == "rw-s" and "memfd:wadi-segment" in line else 0
        return 0


class Stream:
    """An object that is written piece by piece."""

    def __init__(self, handle, path, hint=0):
        self.handle, self.wr = handle, ctypes.c_void_p()
        handle.check(LIB.wadi_writer_open(handle.w, path.encode(), hint, None, ctypes.byref(self.wr)))

    def write(self, data, step=1 << 30):
        for at in range(0, len(data), step):
            piece = data[at:at + step]
            self.handle.check(LIB.wadi_writer_write(self.wr, piece, len(piece)))
        return self

    def part(self, number):
        self.handle.check(LIB.wadi_writer_part(self.wr, number))
        return self

    def commit(self):
        self.handle.check(LIB.wadi_writer_commit(ctypes.byref(self.wr), None))

    def abandon(self):
        LIB.wadi_writer_abandon(ctypes.byref(self.wr))


def writable():
    """How many segments this process has mapped to write there."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return sum(line.split()[1] == "rw-s" and "memfd:wadi-segment" in line for line in maps)


def sockets():
    """How many this process has."""
    return sum(os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") for fd in os.listdir("/proc/self/fd")
               if os.path.islink(f"/proc/self/fd/{fd}"))


def run(number):
    """A thread that opens, puts, gets and closes, and tells at the end how often that was right."""
    def body():
        for turn in range(30):
            data, handle = pattern(5000 * (turn % 3), turn), Handle()
            handle.put(f"of-{number}", data)
            right = handle.get(f"of-{number}") == data
            handle.close()
            done[number] += right
    done.append(0)
    threads.append(threading.Thread(target=body))
    threads[-1].start()
    return True


threads, done = [], []


def main():
    kept = {"Handle": Handle, "Stream": Stream, "keep": {}, "pattern": pattern, "sockets": sockets, "os": os, "run": run, "threads": threads,
            "done": done}
    for line in sys.stdin:
        try:
            exec("answer = " + line, kept)
            print(kept["answer"], flush=True)
        except Failed as failed:
            print(failed, flush=True)


if __name__ == "__main__":
    main()
