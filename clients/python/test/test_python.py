"""What Python adds: many at once, Python objects, files."""
import csv
import io
import json
import pickle
import zipfile

import pytest

import wadi


def test_many_at_once(s):
    objects = {f"d/{number:04}": bytes([number % 256]) * (number * 7 % 5000) for number in range(2000)}
    versions = s.put_many(objects)
    assert len(set(versions)) == 2000 and min(versions) > 0
    assert s.get_many(objects) == list(objects.values())
    assert s.get_many([]) == [] and s.put_many([]) == []
    assert s.get_many(["d/0001", "none", "d/0002"], default=None) == [objects["d/0001"], None, objects["d/0002"]]
    with pytest.raises(wadi.NotFoundError) as failed:
        s.get_many(["d/0001", "none", "none-either"])
    assert failed.value.path == "none" and "none" in str(failed.value)
    large = {f"large/{number}": bytes([number]) * (16384 + number % 2 + 1000 * number) for number in range(40)}
    s.put_many(large)
    assert s.get_many([*large, "d/0001", *large]) == [*large.values(), objects["d/0001"], *large.values()]
    s.put_many({"r/1": b"1", "r/2": b"2" * 100_000}, reads=1)
    assert [len(data) for data in s.get_many(["r/1", "r/2"])] == [1, 100_000]
    assert s.get_many(["r/1", "r/2"], default=None) == [None, None]
    assert s.get_many(["d/0003"] * 3, offset=1, length=2) == [b"\3\3"] * 3
    s.put_many([("l/1", b"x" * 3_000_000), ("l/2", b"")], ttl=60, attributes=b"a")
    assert s.get_tree("l") == {"1": b"x" * 3_000_000, "2": b""}
    assert s.stat("l/2").attributes == b"a"
    with pytest.raises(wadi.ExistsError) as failed:
        s.put_many({"l/2": b"again", "l/3": b"new"}, create=True)
    assert failed.value.path == "l/2" and s.get("l/3") == b"new" and s.get("l/2") == b""
    with pytest.raises(TypeError):
        s.put_many({"a": "text"})
    with pytest.raises(TypeError):
        s.get_many([1])


def test_calls_in_flight(s):
    puts = [s.start_put(f"x{n}", b"%d" % n, ttl=60) for n in range(100)]
    waits = [s.start_wait("later", timeout=20), s.start_wait("never", timeout=20)]
    assert all(put.result() > 0 for put in reversed(puts))
    gets = [s.start_get(f"x{n}") for n in range(100)] + [s.start_get("none")]
    assert not waits[0].done()
    s.put("later", b"12")
    assert waits[0].result().size == 2 and waits[0].done() and waits[0].result().size == 2
    assert [get.result() for get in gets[:100]] == [b"%d" % n for n in range(100)]
    for _ in range(2):
        with pytest.raises(wadi.NotFoundError):
            gets[100].result()
    waits[1].cancel()
    with pytest.raises(wadi.CanceledError):
        waits[1].result()
    data = bytearray(b"d" * 100_000)
    put = s.start_put("x", data)
    with pytest.raises(BufferError):
        data.append(1)  # it may not move before it was sent
    put.result()
    data.append(1)
    assert s.get("x") == b"d" * 100_000
    s.start_remove("x1")  # that nobody keeps
    while s.turn(timeout=1) == 0:
        pass
    assert [op.result() for op in s.ended()] == [None]
    assert s.get_many(["x1"], default=0) == [0]


class Plain:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == other.value


def test_python_objects(s):
    for value in (None, 5, {"a": [1, 2.5, "ü", b"b"]}, Plain([1, {2}]), "x" * 100_000):
        assert s.put_object("x", value, ttl=60) > 0
        assert s.get_object("x") == value
    buffers = [pickle.PickleBuffer(bytes([n]) * size) for n, size in enumerate((0, 1, 63, 64, 65, 100_000))]
    s.put_object("x", buffers)
    assert [bytes(part) for part in s.get_object("x")] == [bytes(part) for part in buffers]
    for bad in (b"", b"nonsense" * 10, s.get("x")[:200], b"wadi-p5\0" + b"\xff" * 16):
        s.put("bad", bad)
        with pytest.raises(wadi.DamagedError):
            s.get_object("bad")
    with pytest.raises(wadi.NotFoundError):
        s.get_object("none")


def test_arrays_in_objects_are_where_the_store_has_them(local):
    numpy = pytest.importorskip("numpy")
    value = {"weights": [numpy.arange(1000.0).reshape(10, 100), numpy.eye(3, dtype="i2")], "step": 7,
             "f": numpy.asfortranarray(numpy.arange(6).reshape(2, 3)), "none": numpy.zeros(0)}
    local.put_object("x", value)
    got = local.get_object("x")
    assert got["step"] == 7
    for mine, theirs in zip([*value["weights"], value["f"], value["none"]], [*got["weights"], got["f"], got["none"]]):
        assert mine.tobytes() == theirs.tobytes() and mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape and mine.flags.f_contiguous == theirs.flags.f_contiguous
        assert not theirs.flags.writeable and not theirs.flags.owndata
    for array in got["weights"]:
        assert array.ctypes.data % 64 == 0
    del got
    local.remove("x")


def test_files_of_bytes(s):
    with s.open("x", "wb", ttl=60) as file:
        for n in range(1000):
            assert file.write(b"%06d\n" % n) == 7
        with pytest.raises(wadi.NotFoundError):
            s.get("x")
        assert file.tell() == 7000
    assert file.version == s.stat("x").version
    with s.open("x", "rb") as file:
        assert isinstance(file, io.BufferedIOBase) and file.readline() == b"000000\n"
        assert file.seek(-7, io.SEEK_END) == 6993 and file.read() == b"000999\n" and file.read() == b""
        file.seek(70)
        assert next(file) == b"000010\n" and file.tell() == 77
        assert file.raw.stat.size == 7000
    with s.open("x", "rb", offset=7, length=14) as file:
        assert file.read() == b"000001\n000002\n"
        file.seek(7)
        assert file.read() == b"000002\n"
    s.put("big", b"0123456789" * 300_000)
    with s.open("big", "rb") as file:
        file.seek(1_000_000)
        assert file.read(5) == b"01234"
        s.put("big", b"another")
        file.seek(2_000_000)
        with pytest.raises(wadi.StaleError):
            file.read(5)


def test_files_of_text(s):
    with s.open("x.csv", "w", newline="") as file:
        csv.writer(file).writerows([["ü", 1], ["b", 2]])
    with s.open("x.csv") as file:
        assert list(csv.reader(file)) == [["ü", "1"], ["b", "2"]]
    with s.open("x.json", "x") as file:
        json.dump({"a": 1}, file)
    assert json.loads(s.get("x.json")) == {"a": 1}
    with pytest.raises(FileExistsError):
        with s.open("x.json", "x") as file:
            file.write("again")
    with pytest.raises(ValueError):
        s.open("x", "a")


def test_what_libraries_do_with_files(s):
    with s.open("x.zip", "wb") as file:
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as archive:
            archive.writestr("a", "1" * 1000)
            archive.writestr("b", "2")
        file.write(whole.getvalue())
    with s.open("x.zip", "rb") as file, zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["a", "b"] and archive.read("b") == b"2"


def test_what_was_not_finished_is_not_there(s):
    for mode in ("wb", "w"):
        with pytest.raises(KeyError):
            with s.open("x", mode) as file:
                file.write(b"1" if mode == "wb" else "1")
                raise KeyError
        file = s.open("x", mode)
        file.write(b"1" if mode == "wb" else "1")
        del file
    assert s.names() == []
