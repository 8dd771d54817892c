"""Objects, names and errors: what everybody uses first."""
import errno
import pickle
import time
import uuid

import pytest

import wadi


def test_bytes_come_back(s):
    for size in (0, 1, 2048, 65536, 65537, 3_000_000):
        data = bytes(range(256)) * (size // 256 + 1)
        data = data[:size]
        version = s.put("a/x", data)
        assert version > 0
        assert s.get("a/x") == data
        stat = s.stat("a/x")
        assert (stat.size, stat.version, stat.is_directory, stat.ttl_left) == (size, version, False, None)


def test_what_is_put_may_be_any_buffer(s):
    s.put("x", bytearray(b"abc"))
    assert s.get("x") == b"abc"
    s.put("x", memoryview(b"abcdef")[2:4])
    assert s.get("x") == b"cd"
    with pytest.raises(TypeError):
        s.put("x", "text")
    assert s.get("x") == b"cd"


def test_ranges(s):
    s.put("x", b"0123456789" * 10000)
    assert s.get("x", offset=5, length=3) == b"567"
    assert s.get("x", offset=99_998) == b"89"
    assert s.get("x", offset=1 << 40) == b""
    assert s.get("x", offset=1, length=80_000) == (b"1234567890" * 8000)
    room = bytearray(4)
    assert s.get_into("x", room, offset=2, length=3) == 3
    assert room == b"234\0"
    with pytest.raises(wadi.TooLargeError):
        s.get_into("x", room)
    with pytest.raises(ValueError):
        s.get("x", length=0)


def test_lives_versions_and_attributes(s):
    first = s.put("x", b"1", ttl=60, attributes=b"mine", create=True)
    stat = s.stat("x")
    assert 59 < stat.ttl_left <= 60 and stat.attributes == b"mine" and stat.tier == "dram"
    with pytest.raises(wadi.ExistsError) as failed:
        s.put("x", b"2", create=True)
    assert isinstance(failed.value, FileExistsError) and failed.value.status == "EXISTS"
    assert s.put("x", b"2", if_version=first) > first
    with pytest.raises(wadi.VersionError):
        s.put("x", b"3", if_version=first)
    attempt = uuid.uuid4().int
    assert s.put("y", b"1", attempt=attempt) == s.put("y", b"1", attempt=attempt)


def test_objects_of_so_many_reads(s):
    for size in (10, 100_000):
        s.put("x", b"x" * size, reads=2)
        assert len(s.get("x")) == size
        assert s.stat("x").reads_left == 1
        assert len(s.get("x")) == size
        with pytest.raises(wadi.ConsumedError):
            s.get("x")


def test_errors_have_status_errno_and_path(s):
    with pytest.raises(wadi.NotFoundError) as failed:
        s.get("none")
    error = failed.value
    assert (error.status, error.errno, error.path) == ("NOTFOUND", errno.ENOENT, "none")
    assert isinstance(error, wadi.Error) and isinstance(error, FileNotFoundError)
    assert "none" in str(error)
    for call in (s.get, s.view, s.stat, s.remove, lambda path: s.put(path, b""), lambda path: s.get_many([path])):
        with pytest.raises(wadi.TooLargeError, match="1024 bytes"):
            call("x" * 2000)
        with pytest.raises(wadi.TooLargeError, match="1024 bytes"):
            call("xx" + "é" * 1000)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.status, str(again)) == (wadi.NotFoundError, "NOTFOUND", str(error))
    with pytest.raises(wadi.DeniedError) as failed:
        s.get("/another/x")
    assert isinstance(failed.value, PermissionError)
    with pytest.raises(wadi.InvalidError):
        s.put("", b"")
    with pytest.raises(ValueError):
        s.put("a\0b", b"")
    with pytest.raises(TypeError, match="there is no argument 'tll' here"):
        s.put("x", b"", tll=3)


def test_names(s):
    for name in ("d/b", "d/a", "d/e/f", "d/ü"):
        s.put(name, name.encode())
    assert [entry.name for entry in s.list("d")] == ["a", "b", "e/", "ü"]
    assert [entry.name for entry in s.list("d", recursive=True, after="a")] == ["b", "e/f", "ü"]
    assert [entry.stat.size for entry in s.list("d")] == [3, 3, 1, 4]
    assert [entry.name for entry in s.list()] == ["d/"]
    assert s.stat("d/").is_directory and s.stat("d/").size == 3
    assert s.rename("d/a", "d/c") > 0
    with pytest.raises(wadi.ExistsError):
        s.rename("d/c", "d/b", create=True)
    s.remove("d/c")
    with pytest.raises(wadi.NotFoundError):
        s.remove("d/c")
    with pytest.raises(wadi.VersionError):
        s.remove("d/b", if_version=1 << 60)
    assert s.remove_tree("d") == 3
    assert list(s.list()) == []


def test_waits(s, w):
    with pytest.raises(wadi.TimeoutError) as failed:
        s.wait("x", timeout=0.05)
    assert isinstance(failed.value, TimeoutError) and failed.value.status == "TIMEOUT"
    putting = w.start("put", "-", "x", stdin=-1)
    begun = time.monotonic()
    putting.stdin.write(b"late")
    putting.stdin.close()
    assert s.wait("x", timeout=30).size == 4
    assert s.get("x", wait=30) == b"late"
    assert putting.wait(30) == 0 and time.monotonic() - begun < 30
    putting.stdout.close()
    putting.stderr.close()
    s.put("d/1", b"")
    assert s.wait_count("d", 1, timeout=5) == 1


def test_views(s):
    for size in (0, 5, 100_000, 3_000_000):
        s.put("x", b"v" * size)
        with s.view("x") as view:
            assert len(view) == size and bytes(view) == b"v" * size
            assert view.stat.size == size
            assert view.data.readonly and view.data[:1] == b"v"[:size]
        assert view.released
        with pytest.raises(ValueError):
            memoryview(view)
    with s.view("x", offset=1, length=2) as view:
        assert bytes(view) == b"vv"


def test_what_is_reserved_is_written_in_place(s):
    for size in (0, 5, 3_000_000):
        with s.reserve("x", size, attributes=b"a") as room:
            with memoryview(room) as bytes_of_it:
                bytes_of_it[:] = b"r" * size
        assert s.get("x") == b"r" * size and s.stat("x").attributes == b"a"
    with pytest.raises(KeyError):
        with s.reserve("y", 5):
            raise KeyError
    room = s.reserve("y", 5)
    room.abandon()
    with pytest.raises(wadi.NotFoundError):
        s.get("y")
    room = s.reserve("y", 1)
    kept = memoryview(room)
    with pytest.raises(BufferError, match="1 buffers"):
        room.commit()
    kept.release()
    assert room.commit() > 0
    with pytest.raises(ValueError):
        room.commit()


def test_streams(s):
    with s.writer("x") as writer:
        assert writer.write(b"a" * 1_000_000) == 1_000_000
        writer.part(1)
        writer.write(b"b" * 1_000_000)
    with s.reader("x") as reader:
        assert reader.stat.size == 2_000_000
        room = bytearray(1_500_000)
        got = b""
        while count := reader.readinto(room):
            got += room[:count]
    assert got == b"a" * 1_000_000 + b"b" * 1_000_000
    with pytest.raises(KeyError):
        with s.writer("y") as writer:
            writer.write(b"1")
            raise KeyError
    writer = s.writer("y")
    writer.write(b"1")
    writer.abandon()
    with pytest.raises(ValueError):
        writer.write(b"2")
    with pytest.raises(wadi.NotFoundError):
        s.reader("y")


def test_jobs_and_tokens(store, s):
    with wadi.open(store.endpoints["tcp"]) as admin:
        token = admin.job_create("of-python", lease=60, quota_dram=1 << 24)
        try:
            with wadi.open(store.endpoints["tcp"], token) as own:
                assert own.job == "of-python"
                own.put("x", b"12345")
                own.job_renew("of-python", lease=120)
                info = own.job_show("of-python")
                assert (info.name, info.objects, info.object_bytes, info.quota_dram) == ("of-python", 1, 5, 1 << 24)
                assert 60 < info.lease_left <= 120
            narrow = wadi.token_narrow(token, prefix="a/", rights=wadi.READ | wadi.LIST, valid=60)
            with wadi.open(store.endpoints["tcp"], narrow) as reader:
                with pytest.raises(wadi.DeniedError):
                    reader.put("a/x", b"")
            names = [job.name for job in admin.job_list()]
            assert "of-python" in names and s.job in names
            info = admin.info()
            assert info.jobs >= 2 and info.dram_limit > 0
            assert (info.is_partial, info.lingering_bytes) == (False, 0)
        finally:
            admin.job_end("of-python")
        with pytest.raises(wadi.NoJobError):
            admin.job_show("never-there")


def test_where_nobody_answers():
    with pytest.raises(wadi.UnreachableError) as failed:
        wadi.open("tcp://127.0.0.1:1", timeout=0.2)
    assert isinstance(failed.value, ConnectionError)
    with pytest.raises(wadi.InvalidError):
        wadi.open("nonsense")


def test_from_the_environment(monkeypatch, env, w):
    monkeypatch.setenv("WADI_ENDPOINT", env["WADI_ENDPOINT"])
    monkeypatch.setenv("WADI_TOKEN", env["WADI_TOKEN"])
    with wadi.open() as store:
        store.put("x", b"1")
        assert store.job == w.job
    assert store.closed
    with pytest.raises(ValueError, match="closed"):
        store.get("x")
    store.close()
