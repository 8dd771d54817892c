"""Objects as arrays, without a copy: the buffer protocol, DLPack, Arrow."""
import ctypes
import os
import subprocess
import sys
import textwrap

import pytest

import wadi

numpy = pytest.importorskip("numpy")


def test_an_array_is_where_the_object_is(local):
    source = numpy.arange(1_000_000, dtype="f8")
    local.put("x", source)
    view = local.view("x")
    array = numpy.frombuffer(view, "f8")
    again = numpy.frombuffer(local.view("x"), "f8")
    assert (array == source).all() and not array.flags.writeable
    with pytest.raises(BufferError, match="1 buffers or arrays"):
        view.release()
    del array
    view.release()
    assert (again[::2] == source[::2]).all()


def test_an_array_keeps_its_view(local):
    local.put("x", numpy.arange(1000))
    array = numpy.frombuffer(local.view("x"), int)[10:20]
    with local.view("x") as view:
        longer = numpy.frombuffer(view, int)
    assert not view.released
    with pytest.raises(ValueError):
        memoryview(view)
    assert longer.sum() == 499500
    del longer
    assert view.released
    local.remove("x")
    local.close()
    assert list(array) == list(range(10, 20))


def test_an_array_is_written_in_place(s):
    with s.reserve("x", 8000) as room:
        numpy.frombuffer(room, "i8")[:] = numpy.arange(1000)
    assert (numpy.frombuffer(s.get("x"), "i8") == numpy.arange(1000)).all()
    with pytest.raises(BufferError):
        with s.reserve("y", 80) as room:
            array = numpy.frombuffer(room, "i8")
    array[:] = 1  # the room is still there, and becomes nothing
    with pytest.raises(wadi.NotFoundError):
        s.get("y")


class Tensor(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p),
                ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)), ("flags", ctypes.c_uint64),
                ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("dimensions", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("offset", ctypes.c_uint64)]


def pointer(capsule, name):
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return get(capsule, name)


def test_dlpack(s):
    s.put("x", b"0123456789")
    view = s.view("x")
    assert view.__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match="read only"):
        view.__dlpack__()
    capsule = view.__dlpack__(stream=None, max_version=(1, 1), dl_device=None, copy=None)
    with pytest.raises(BufferError):
        view.release()
    # As a consumer does: it takes the capsule's name, and calls the deleter when it is done.
    tensor = Tensor.from_address(pointer(capsule, b"dltensor_versioned"))
    assert (tensor.major, tensor.flags, tensor.device_type, tensor.dimensions) == (1, 1, 1, 1)
    assert (tensor.code, tensor.bits, tensor.lanes, tensor.offset) == (1, 8, 1, 0)
    assert (tensor.shape[0], tensor.strides[0]) == (10, 1)
    assert ctypes.string_at(tensor.data, 10) == b"0123456789"
    ctypes.pythonapi.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
    assert ctypes.pythonapi.PyCapsule_SetName(capsule, used_name) == 0
    del capsule
    with pytest.raises(BufferError):
        view.release()
    tensor.deleter(ctypes.addressof(tensor))
    view.release()
    # A capsule that nobody takes gives it back itself.
    view = s.view("x")
    view.__dlpack__(max_version=(1, 0))
    view.release()


used_name = b"used_dltensor_versioned"


def test_dlpack_into_numpy(s):
    if int(numpy.__version__.split(".")[0]) < 2:
        pytest.skip(f"NumPy {numpy.__version__} does not know DLPack 1.0")
    s.put("x", b"0123456789")
    array = numpy.from_dlpack(s.view("x"))
    assert array.tobytes() == b"0123456789" and not array.flags.writeable


class Array(ctypes.Structure):
    _fields_ = [("length", ctypes.c_int64), ("nulls", ctypes.c_int64), ("offset", ctypes.c_int64),
                ("buffer_count", ctypes.c_int64), ("child_count", ctypes.c_int64),
                ("buffers", ctypes.POINTER(ctypes.c_void_p)), ("children", ctypes.c_void_p),
                ("dictionary", ctypes.c_void_p), ("release", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
                ("context", ctypes.c_void_p)]


def test_arrow(s):
    s.put("x", b"0123456789")
    view = s.view("x")
    schema, capsule = view.__arrow_c_array__()
    assert ctypes.string_at(ctypes.c_char_p.from_address(pointer(schema, b"arrow_schema")).value) == b"C"
    array = Array.from_address(pointer(capsule, b"arrow_array"))
    assert (array.length, array.nulls, array.offset, array.buffer_count) == (10, 0, 0, 2)
    assert array.buffers[0] is None and ctypes.string_at(array.buffers[1], 10) == b"0123456789"
    with pytest.raises(BufferError):
        view.release()
    del schema, capsule
    view.release()


def test_arrow_into_pyarrow(s):
    pyarrow = pytest.importorskip("pyarrow")
    s.put("x", b"0123456789")
    assert pyarrow.array(s.view("x")).to_pylist() == list(b"0123456789")
    assert pyarrow.py_buffer(s.view("x")).to_pybytes() == b"0123456789"


def test_a_reader_of_a_large_array_has_little_memory_of_its_own(env, w):
    """Of 64 MiB that one process puts, another that views them maps all and copies none."""
    if not env["WADI_ENDPOINT"].startswith("unix:"):
        pytest.skip("over TCP a view is a copy")
    with wadi.open(env["WADI_ENDPOINT"], w.token) as one:
        one.put("x", numpy.ones(8 << 20))
    told = subprocess.run([sys.executable, "-c", textwrap.dedent("""
        import numpy, wadi
        def private():
            fields = dict(line.split(":") for line in open("/proc/self/smaps_rollup") if ": " in line)
            return sum(int(fields[name].split()[0]) for name in ("Private_Dirty", "Private_Clean", "Anonymous")) << 10
        store = wadi.open()
        for _ in range(4):
            store.stat("x")
        before = private()
        array = numpy.frombuffer(store.view("x"))
        total = array.sum()
        print(total, private() - before < 4 << 20)
    """)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    assert told.stdout == f"{float(8 << 20)} True\n", told.stdout
