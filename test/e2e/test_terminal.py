"""What people see: a terminal of 60 columns, and a pipe."""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pytest
from conftest import DONE, LATE, LATE_S, REFUSED, UNREACHABLE, WADI, Client, pattern, until

MIB = 1 << 20
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command whose terminal is ours; what it has shown is in `text`."""

    def __init__(self, client, *words, columns=60, rows=24, stdin=None, stdout=None):
        self.text, self.is_over = "", False
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [WADI, *[w if isinstance(w, bytes) else str(w) for w in words]],
            stdin=slave if stdin is None else stdin, stdout=slave if stdout is None else stdout,
            stderr=slave, env=client.env(TERM="xterm"), start_new_session=True)
        os.close(slave)

    def read(self, late_s):
        ready, _, _ = select.select([self.master], [], [], late_s)
        if not ready:
            return False
        try:
            more = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            more = b""
        self.is_over = not more
        self.text += more.decode(errors="replace")
        return True

    def until(self, regex):
        due = time.monotonic() + LATE_S
        while not re.search(regex, self.text):
            assert not self.is_over, f"ended without {regex}: {self.text!r}"
            assert self.read(max(0, due - time.monotonic())), f"no {regex}: {self.text!r}"

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self):
        """Everything that was shown, and the exit code."""
        due = time.monotonic() + LATE_S
        while not self.is_over:
            if not self.read(max(0, due - time.monotonic())):
                self.process.kill()
        code = self.process.wait()
        os.close(self.master)
        return code, self.text.replace("\r\n", "\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def show(client, *words, **how):
    with Terminal(client, *words, **how) as terminal:
        return terminal.end()


def lines_of(text):
    """As the eye sees them: each redrawing of a line is one."""
    return [line for line in re.split(r"[\r\n]", ESCAPE.sub("", text)) if line]


@pytest.mark.parametrize("columns", [20, 60, 120])
def test_a_progress_bar_is_shown_for_what_takes_long_and_fits(w, tmp_path, columns):
    name = "a long name of a file with größe and 日本語 in it, and more than there is room for.bin"
    pipe = tmp_path / name
    os.mkfifo(pipe)
    with Terminal(w, "put", pipe, "x", columns=columns) as terminal:
        with open(pipe, "wb", buffering=0) as writer:
            # As slowly as it takes for the bar to be seen.
            sent = 0
            due = time.monotonic() + LATE_S
            while "MiB/s" not in terminal.text and "KiB/s" not in terminal.text:
                assert time.monotonic() < due
                writer.write(pattern(MIB))
                sent += 1
                terminal.read(0.05)
        code, text = terminal.end()
    assert code == DONE
    bars = lines_of(text)
    assert bars and all(len(bar) < columns for bar in bars), bars
    assert columns < 60 or all(bar.startswith("a long name") for bar in bars)
    assert text.endswith("\r\x1b[K"), repr(text[-40:])  # it is wiped
    assert w.json("stat", "x")["length"] == sent * MIB


def test_a_bar_of_known_length_shows_how_much(w, tmp_path):
    """To a reader that is slow until the bar has been seen."""
    data = pattern(48 * MIB)
    w("put", "-", "x", input=data)
    os.mkfifo(tmp_path / "pipe")
    with Terminal(w, "get", "x", tmp_path / "pipe") as terminal:
        with open(tmp_path / "pipe", "rb", buffering=0) as reader:
            got, due = bytearray(), time.monotonic() + LATE_S
            while "of 48 MiB" not in terminal.text:
                assert time.monotonic() < due
                got += reader.read(MIB // 4)
                terminal.read(0.02)
            while more := reader.read(MIB):
                got += more
        code, text = terminal.end()
    assert code == DONE and got == data
    assert lines_of(text)
    for bar in lines_of(text):
        assert len(bar) < 60 and re.search(r"^x +\d+% \[[#.]+\] .* of 48 MiB ", bar), bar


def test_a_short_transfer_and_a_pipe_show_no_bar(w, tmp_path):
    (tmp_path / "x").write_bytes(pattern(MIB))
    for words in (["put", tmp_path / "x", "x"], ["get", "x", tmp_path / "y"]):
        # On a machine that does much else even that takes longer than a second now and then.
        until(lambda: show(w, *words) == (DONE, ""), "a transfer without a bar")  # pylint: disable=cell-var-from-loop
    done = w.run("get", "x")
    assert (done.returncode, done.stderr) == (DONE, b"")


def test_names_on_a_terminal_cannot_harm_it(w):
    names = [b"a\nb", b"\x1b[2Jclear", b"tab\there", "größe 日本".encode(), b"back\\slash", "\u202eright".encode(),
             b"\xc2\x9b31m"]
    names.append("\u061cright".encode())
    for name in names:
        w("put", "--", "-", name, input=b"")
    code, text = show(w, "ls")
    assert code == DONE
    assert sorted(text.splitlines()) == sorted([
        "a\\nb", "\\x1b[2Jclear", "tab\\there", "größe 日本", "back\\\\slash", "\\xe2\\x80\\xaeright", "\\xd8\\x9cright",
        "\\xc2\\x9b31m"])
    code, text = show(w, "ls", "-l")
    assert code == DONE and "\x1b" not in text and "LENGTH" in text
    assert w("ls") == b"".join(name + b"\n" for name in sorted(names))
    code, text = show(w, "stat", b"\x1b[2Jclear")
    assert code == DONE and "\x1b" not in text
    code, text = show(w, "get", b"\x1b[2Jnone")
    assert code == REFUSED and "\x1b" not in text


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_top_fits_its_window_and_ends_with_q(store, w, columns):
    w("put", "-", "x", input=pattern(3 * MIB))
    jobs = [store.job(f"a-job-with-a-name-as-long-as-a-name-may-be-which-is-64-b-{i}{columns:03}")
            for i in range(4)]
    with Terminal(store.client(), "top", columns=columns, rows=12) as terminal:
        terminal.until("q quits")
        w("put", "-", "y", input=pattern(5 * MIB))
        terminal.until("(?s)q quits.*q quits.*q quits")
        terminal.type("q")
        code, text = terminal.end()
    assert code == DONE
    assert text.endswith("\x1b[?25h\x1b[?1049l")  # the screen and the cursor are back
    for page in text.split("\x1b[H\x1b[2J")[1:]:
        lines = ESCAPE.sub("", page).split("\n")
        assert len(lines) <= 12 and max(map(len, lines)) <= columns, page
        assert any("JOB" in line for line in lines) and any(line.startswith("dram [") for line in lines)
    for one in jobs:
        store.client()("job", "end", one.job)


def test_top_ends_with_ctrl_c_and_the_terminal_is_as_before(store):
    with Terminal(store.client(), "top") as terminal:
        terminal.until("q quits")
        os.kill(terminal.process.pid, 2)
        code, text = terminal.end()
    assert code == DONE and text.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l")
    # In a narrow window its lines are cut off, and not wrapped.
    assert text.index("\x1b[?7l") < text.index("dram [")


def test_top_says_why_it_ended_where_that_stays(new_store):
    store = new_store()
    with Terminal(Client(store.endpoints["tcp"]), "top", "--timeout", "5s") as terminal:
        terminal.until("q quits")
        store.process.kill()
        code, text = terminal.end()
    assert code in (UNREACHABLE, LATE)
    # Behind the other screen, which takes along what is on it.
    assert re.fullmatch(r"wadi: top: [A-Z]+: .*\n", text.rpartition("\x1b[?1049l")[2]), repr(text[-200:])


def test_top_is_one_page_when_piped(store, w):
    w("put", "-", "x", input=pattern(3 * MIB))
    out = store.client()("top").decode()
    assert "\x1b" not in out and w.job in out
    assert store.client()("top", "--once") .decode().count("JOB") == 1
    shown = [j for j in store.client().top()["jobs"] if j["name"] == w.job]
    assert len(shown) == 1 and shown[0]["dram_bytes"] >= 3 * MIB


@pytest.mark.parametrize("words", [["job", "ls"], ["usage"], ["top", "--once"], ["doctor"], ["ls", "-l"],
                                   ["stat", "x"], ["job", "show", "{job}"], ["usage", "{job}"],
                                   ["config", "show"]])
def test_tables_fit_60_columns_and_have_no_escapes_in_a_pipe(store, w, words):
    w("put", "-", "x", input=pattern(100_000))
    words = [word.format(job=w.job) for word in words]
    code, text = show(w if words[0] in ("ls", "stat") else store.client(), *words)
    assert code in (DONE, REFUSED)
    # A name of up to 16 bytes fits; what is to be typed stays in one piece.
    long = [line for line in text.splitlines()
            if len(line) - max(0, len(line.split()[-1:][0] if line.strip() else "") - 16) > 60 and "-> " not in line]
    assert not long, long
    done = (w if words[0] in ("ls", "stat") else store.client()).run(*words)
    assert b"\x1b" not in done.stdout and b"\r" not in done.stdout
