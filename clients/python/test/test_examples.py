"""The examples, as people start them; each leaves nothing behind."""
import collections
import glob
import os
import re
import subprocess
import sys

import pytest

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../examples")


def run(name, *args, env):
    done = subprocess.run([sys.executable, os.path.join(EXAMPLES, name), *map(str, args)], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def unix(store, w):
    yield store.client(w.token, "unix").env()
    assert w("ls", "-r", "/" + w.job + "/") in (b"", b"model/trained\n")


def test_word_count(unix):
    with open(os.path.join(EXAMPLES, "word_count.py"), encoding="utf-8") as file:
        assert len([line for line in file if line.strip()]) <= 45
    paths = sorted(glob.glob(os.path.join(EXAMPLES, "../*.md")))
    counts = collections.Counter()
    for path in paths:
        with open(path, encoding="utf-8") as file:
            counts.update(re.findall(r"\w+", file.read().lower()))
    lines = [line.split() for line in run("word_count.py", *paths, env=unix).splitlines()]
    assert len(paths) > 2 and len(lines) == 20
    assert [int(count) for count, _ in lines] == [count for _, count in counts.most_common(20)]
    assert all(counts[word] == int(count) for count, word in lines)


def test_sort(unix, tmp_path):
    with open("/usr/share/dict/words", "rb") as file:
        lines = file.read().splitlines(keepends=True)
    lines = [line[::-1].strip() + b"\n" for line in lines]  # in no order
    (tmp_path / "in").write_bytes(b"".join(lines) + b"the last has no end")
    run("sort_lines.py", tmp_path / "in", tmp_path / "out", 5, 3, env=unix)
    assert (tmp_path / "out").read_bytes() == b"".join(sorted([*lines, b"the last has no end\n"]))
    for data in (b"", b"one\n"):
        (tmp_path / "in").write_bytes(data)
        run("sort_lines.py", tmp_path / "in", tmp_path / "out", env=unix)
        assert (tmp_path / "out").read_bytes() == data


def test_thumbnails(unix, tmp_path):
    image = pytest.importorskip("PIL.Image")
    paths = sorted(glob.glob("/usr/share/wallpapers/*.JPG"))[:7]
    if not paths:
        pytest.skip("no pictures here: Debian's propaganda-debian has some")
    assert run("thumbnails.py", tmp_path / "sheet.png", *paths, env=unix) == f"{len(paths)} pictures on {tmp_path}/sheet.png\n"
    with image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (256, 512)
        colors = {sheet.getpixel((x * 128 + 64, y * 128 + 64)) for x in range(2) for y in range(4)}
    assert len(colors) > len(paths) // 2


def test_parameter_server(unix):
    pytest.importorskip("numpy")
    told = run("parameter_server.py", 2, 25, env=unix)
    assert float(re.fullmatch(r"2 workers, 25 steps: (.*) % of new examples are right\n", told)[1]) > 90
