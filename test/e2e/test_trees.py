"""Directories: listing, reading as one stream, whole trees in and out."""
import json
import os
import re
import socket
import subprocess
import threading

from conftest import DONE, LATE, REFUSED, UNREACHABLE, build_target, finish, pattern, until

MIB = 1 << 20


def fill(w, paths):
    for path in paths:
        w("put", "-", path, input=path.encode())


def test_ls_lists_in_byte_order(w):
    fill(w, ["b", "a/2", "a/10", "a/é", "a/z/y", "B", "a"])
    assert w("ls") == b"B\na\na/\nb\n"
    assert w("ls", "a") == b"10\n2\nz/\n\xc3\xa9\n"
    assert w("ls", "a/") == w("ls", f"/{w.job}/a/") == w("ls", "a")
    assert w("ls", "-r") == b"B\na\na/10\na/2\na/z/y\na/\xc3\xa9\nb\n"
    assert w("ls", "-r", "a/z") == b"y\n"
    assert w("ls", f"/{w.job}") == w("ls", f"/{w.job}/") == w("ls")
    # A name that is no directory but an object is that object.
    assert w("ls", "b") == b"b\n"
    w("ls", "c", code=REFUSED, status="NOTFOUND")
    w("ls", "b/", code=REFUSED, status="NOTFOUND")


def test_ls_of_an_empty_job_is_empty(w):
    assert w("ls") == b""
    assert w("ls", "-l") == b""
    assert w("ls", f"/{w.job}/") == b""


def test_ls_of_the_root_lists_the_jobs(store, w):
    listed = store.client()("ls", "/").decode().splitlines()
    assert f"{w.job}/" in listed and "default/" in listed and listed == sorted(listed)


def test_ls_l_shows_lengths_and_lives(w):
    w("put", "-", "plain", input=b"x" * 4096)
    w("put", "-", "short", "--ttl", "1h", "--reads", 3, input=b"")
    w("put", "-", "d/1", input=b"")
    rows = {line.split()[-1]: line.split() for line in w("ls", "-l").decode().splitlines()}
    assert rows["plain"][0] == "4096"
    assert rows["short"][0] == "0"
    assert "59" in " ".join(rows["short"]) or "1 h" in " ".join(rows["short"])
    assert "3" in rows["short"]
    assert rows["d/"][0] == "directory"
    entries = [json.loads(line) for line in w("ls", "--json").decode().splitlines()]
    assert [(e["name"], e["is_directory"]) for e in entries] == [("d/", True), ("plain", False), ("short", False)]
    assert entries[2]["reads_left"] == 3 and 0 < entries[2]["ttl_left_ms"] <= 3_600_000
    assert entries[1]["reads_left"] is None and entries[1]["ttl_left_ms"] is None


def test_stat_of_a_directory_counts_what_is_directly_in_it(w):
    fill(w, ["d/1", "d/2", "d/e/3"])
    assert w.json("stat", "d/") == {"path": "d/", "is_directory": True, "objects": 2}
    assert w.json("stat", "d")["is_directory"]
    w("stat", "e/", code=REFUSED, status="NOTFOUND")


def test_more_names_than_a_page_are_all_listed(w, tmp_path):
    os.mkdir(tmp_path / "in")
    names = [f"{i:05}" for i in range(2500)]
    for name in names:
        (tmp_path / "in" / name).write_bytes(name.encode())
    w("put", "-r", tmp_path / "in", "d")
    assert w("ls", "d").decode().split() == names
    assert w.json("stat", "d/")["objects"] == 2500
    assert w("get", "d/") == "".join(names).encode()
    w("rm", "-r", "d")
    assert w("ls", "-r") == b""


class Gets:
    """Gets one name after the other, on a thread, until it is told to stop: each is whole or gone."""

    def __init__(self, w, names):
        self.w, self.names, self.whole, self.gone, self.wrong = w, names, 0, 0, []
        self.must_stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        number = 0
        while not self.must_stop.is_set() and not self.wrong:
            name = self.names[number % len(self.names)]
            number += 1
            done = self.w.run("get", name)
            of_name = int(name[-7:])
            expected = of_name.to_bytes(8, "little") + bytes([of_name % 251]) * 92
            if done.returncode == DONE and done.stdout == expected:
                self.whole += 1
            elif done.returncode == REFUSED and b": NOTFOUND: " in done.stderr and not done.stdout:
                self.gone += 1
            else:
                self.wrong.append((name, done))

    def stop(self):
        self.must_stop.set()
        self.thread.join()


def test_rm_r_of_100000_objects_beside_readers(w):
    subprocess.run([build_target("test/torture/many"), "objects", "100000"], env=w.env(), stdout=subprocess.DEVNULL,
                   timeout=240, check=True)
    w("put", "-", "many/000/large", input=pattern(40 * MIB))
    w("put", "-", "manyother", input=b"x")
    assert w.top()["objects"] >= 100_002
    # Two that are in the middle while all is removed, for nobody takes what they print; and one that is quick.
    lister, getter = w.start("ls", "-r", "many"), w.start("get", "many/000/large")
    begun = {one: os.read(one.stdout.fileno(), 8) for one in (lister, getter)}
    gets = Gets(w, [f"many/{i % 1000:03}/{i:07}" for i in range(999, 100_000, 7919)])
    try:
        until(lambda: gets.whole >= 3 or gets.wrong, "the reader to begin")
        w("rm", "-r", "many")
        until(lambda: gets.gone >= 1 or gets.wrong, "the reader to find nothing")
    finally:
        gets.stop()
    assert not gets.wrong
    code, listed, told = finish(lister)
    names = (begun[lister] + listed).decode().splitlines()
    assert (code, told) == (DONE, b"") and names == sorted(names)
    assert all(name == "000/large" or re.fullmatch(r"\d{3}/\d{7}", name) for name in names)
    assert 1000 <= len(names) < 100_001, "it was not beside"
    # A get holds its version, to its end.
    code, data, told = finish(getter)
    assert (code, told) == (DONE, b"") and begun[getter] + data == pattern(40 * MIB)
    assert w("ls", "-r") == b"manyother\n"
    w("stat", "many/", code=REFUSED, status="NOTFOUND")


def test_get_of_a_directory_is_its_children_one_after_the_other(w):
    parts = [pattern(3 * MIB, 1), b"", b"tiny", pattern(70_000, 2)]
    for number, part in enumerate(parts):
        w("put", "-", f"out/part-{number}", input=part)
    assert w("get", "out/") == b"".join(parts)
    w("get", "no/", code=REFUSED, status="NOTFOUND")
    w("get", "out", code=REFUSED, status="DIRECTORY")
    assert b"`wadi get out/`" in w.run("get", "out").stderr
    # What lies deeper is left out, and that is told.
    w("put", "-", "out/deeper/x", input=b"x")
    done = w.run("get", "out/")
    assert (done.returncode, done.stdout) == (REFUSED, b"".join(parts))
    assert b"left out 1 directory" in done.stderr


def test_get_of_a_directory_can_wait_for_its_first_child(w):
    getter = w.start("get", "out/", "--wait", "30s")
    until(lambda: w.top()["waiting"] >= 1, "get to wait")
    w("put", "-", "out/1", input=b"1")
    assert finish(getter) == (DONE, b"1", b"")


def make_tree(root):
    files = {"a": b"a", "b/c": pattern(70_000), "b/d/e f": b"", "b/d/größe": pattern(2 * MIB),
             "zeile\nzwei": b"x"}
    for name, data in files.items():
        os.makedirs(os.path.dirname(root / name), exist_ok=True)
        (root / name).write_bytes(data)
    return files


def read_tree(root):
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = file.read()
    return found


def test_a_tree_goes_in_and_comes_out_again(w, tmp_path):
    files = make_tree(tmp_path / "in")
    for target, below in (("t", "t/"), ("u/v/", "u/v/"), (f"/{w.job}/w", "w/")):
        w("put", "-r", tmp_path / "in", target)
        assert w.names("-r", below) == sorted(files, key=str.encode)
    w("get", "-r", "t", tmp_path / "out")
    assert read_tree(tmp_path / "out") == files
    w("get", "-r", "u/", tmp_path / "made" / "for" / "it")
    assert read_tree(tmp_path / "made" / "for" / "it" / "v") == files
    # Again, over what is there.
    w("get", "-r", "t/", tmp_path / "out")
    assert read_tree(tmp_path / "out") == files
    w("get", "-r", "nothing", tmp_path / "out", code=REFUSED, status="NOTFOUND")
    lines = [json.loads(line) for line in
             w("put", "-r", "--json", tmp_path / "in", "j").decode().splitlines()]
    assert [line["path"] for line in lines] == ["j/" + name for name in sorted(files, key=str.encode)]


def test_a_file_is_as_long_as_what_is_read_of_it(w):
    """Those of /proc have a size of 0. This one has a line for each socket, with its name."""
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(600)]
    for i, one in enumerate(sockets):
        one.bind(b"\0%d" % i + b"x" * 100)
    assert len(open("/proc/self/net/unix", "rb").read()) > 65536 and os.stat("/proc/self/net/unix").st_size == 0
    w.run("put", "-r", "/proc/self/net", "net")
    assert w("get", "net/unix").count(b"x" * 100) >= 600


def test_a_tree_ends_when_nobody_answers(new_store, tmp_path):
    for i in range(5000):
        (tmp_path / f"{i}").touch()
    store = new_store()
    putter = store.client().start("put", "-r", tmp_path, "d", "--json", "--timeout", "1s")
    # What it has to say does not fit the pipe, so it is not at the end when the store is.
    assert json.loads(putter.stdout.readline())["path"] == "d/0"
    store.process.kill()
    code, _, told = finish(putter)
    assert code in (UNREACHABLE, LATE) and told.count(b"\n") == 1, told[:1000]


def test_a_directory_that_cannot_be_made_is_told_once(w, tmp_path):
    fill(w, ["d/1", "d/2"])
    (tmp_path / "file").write_bytes(b"")
    w("get", "-r", "d", tmp_path / "file" / "sub", code=REFUSED)


def test_what_is_no_file_is_left_out_and_told(w, tmp_path):
    os.mkdir(tmp_path / "in")
    (tmp_path / "in" / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "in" / "pipe")
    os.symlink("file", tmp_path / "in" / "link")
    done = w.run("put", "-r", tmp_path / "in", "d")
    assert done.returncode == REFUSED
    assert b"in/pipe': neither a file nor a directory" in done.stderr and b"in/link': a symbolic link" in done.stderr
    assert w.names("-r") == ["d/file"]


def test_no_name_leaves_the_directory_that_get_writes_to(w, tmp_path):
    for name in ("../evil", "a/../../evil", "good", "a//b", "./c", ".."):
        w("put", "--", "-", "d/" + name, input=b"x")
    os.mkdir(tmp_path / "out")
    done = w.run("get", "-r", "d/", tmp_path / "out")
    assert done.returncode == REFUSED
    assert read_tree(tmp_path) == {"out/good": b"x"}
    assert done.stderr.count(b"\n") == 5


def test_put_and_get_of_directories_and_files_are_told_apart(w, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    w("put", tmp_path / "file", "in/")
    assert w.names("-r") == ["in/file"]
    os.mkdir(tmp_path / "d")
    w("get", "in/file", tmp_path / "d")
    assert (tmp_path / "d" / "file").read_bytes() == b"x"
    os.symlink(tmp_path / "file", tmp_path / "link")
    w("put", "-", "y", input=b"y")
    w("get", "y", tmp_path / "link")
    assert os.path.islink(tmp_path / "link") and (tmp_path / "file").read_bytes() == b"y"
    w("put", tmp_path / "nothing", "x", code=REFUSED)
    w("put", "/dev/null", "empty")
    assert w("get", "empty") == b""
    w("get", "y", "/dev/null")
