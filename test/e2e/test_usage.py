"""Wrong words and options: exit code 2, one line, the nearest right one in it. And the help."""
import json
import os
import re
import socket
import subprocess

import pytest
from conftest import (DONE, LATE, REFUSED, UNREACHABLE, USAGE, WADI, Client, clean_environment, run_wadi,
                      until)

COMMANDS = ["put", "get", "ls", "stat", "rm", "mv", "wait", "job create", "job ls", "job show", "job renew",
            "job end", "job token", "usage", "top", "doctor", "config show", "dev", "run", "meta", "store",
            "proxy", "keep", "bench"]

WRONG = [
    # A misspelt command, and what there is.
    ("", "usage: wadi"),
    ("gte x", "`wadi get`"),
    ("lst", "`wadi ls`"),
    ("stats x", "`wadi stat`"),
    ("delete x", "`wadi help`"),
    ("job", "`wadi job create`"),
    ("job crate x", "`wadi job create`"),
    ("job --json", "`wadi job ls`"),
    ("config", "`wadi config show`"),
    ("config shwo", "`wadi config show`"),
    ("confg show", "`wadi config show`"),
    ("jbo create x", "`wadi job create`"),
    ("--json ls", "`wadi ls --help`"),
    ("help gte", "`wadi get`"),
    ("mount /mnt", "not in this build"),
    ("csi", "not in this build"),
    ("control", "not in this build"),
    ("keep", "there is a word missing"),
    ("get x --follow", "not in this build"),
    ("doctor --repair", "--data DIR"),
    # Each command: an option, a word too few, a word too many.
    ("put - x --tll 3s", "--ttl"),
    ("put", "wadi put [OPTION]... FILE|- PATH"),
    ("put -", "wadi put [OPTION]... FILE|- PATH"),
    ("put - x y", "'y'"),
    ("put - x --tier drum", "dram"),
    ("put - x --ttl 10", "10m"),
    ("put - x --ttl 0s", "1ms"),
    ("put - x --reads 0", "1"),
    ("put - x --reads -1", "whole number"),
    ("put - x --copies 99", "16"),
    ("put - x --create --if-version 3", "--if-version"),
    ("put - d/", "d/"),
    ("put /etc x", "put -r"),
    ("put -r /etc/passwd x", "-r"),
    ("put -r - x", "-r"),
    ("put -r /etc x --attempt 1", "--attempt"),
    ("put - x --timeout", "--timeout=DURATION"),
    ("put - x -z", "-z; there are -r -h"),
    ("put - x --quota 1", "--help"),
    ("get", "wadi get [OPTION]... PATH [FILE|-]"),
    ("get x --rnage 1-2", "--range"),
    ("get x --range 5-3", "A-B"),
    ("get x --range 5", "A-B"),
    ("get x --range -5", "A-B"),
    ("get x --range a-b", "A-B"),
    ("get d/ --range 0-1", "d/"),
    ("get -r x", "wadi get -r PATH DIR"),
    ("get -r x -", "-"),
    ("get x y z", "'z'"),
    ("ls --lnog", "--"),
    ("ls a b", "'b'"),
    ("ls -lx", "-x; there are -l -r -h"),
    ("stat", "wadi stat [OPTION]... PATH"),
    ("stat x --jsno", "--json"),
    ("rm", "wadi rm [OPTION]... PATH..."),
    ("rm d/", "rm -r"),
    ("rm x y --if-version 1", "--if-version"),
    ("rm x --recursiv", "--recursive"),
    ("mv x", "wadi mv [OPTION]... PATH NEWPATH"),
    ("mv d/ e/", "d/"),
    ("mv x y --craete", "--create"),
    ("wait", "wadi wait [OPTION]... PATH | DIR --count N"),
    ("wait d/", "--count"),
    ("wait d --cuont 3", "--count"),
    ("wait d --count 0", "1"),
    ("job create", "wadi job create [OPTION]... NAME"),
    ("job create x --laese 3s", "--lease"),
    ("job create x --lease 1ms", "1s"),
    ("job create x --quota 1G", "dram=1G"),
    ("job create x --quota dram=", "dram=1G"),
    ("job create x --quota disk=1G", "dram"),
    ("job ls x", "'x'"),
    ("job show", "wadi job show [OPTION]... NAME"),
    ("job renew", "wadi job renew [OPTION]... NAME"),
    ("job renew x --laese 3s", "--lease"),
    ("job end", "wadi job end [OPTION]... NAME"),
    ("job token", "WADI_TOKEN"),
    ("job token --token x", "--prefix"),
    ("job token --token x --rights raed", "read"),
    ("job token --token x --right read", "--rights"),
    ("job token --token x --rights all", "read,write,remove,list,job"),
    ("usage a b", "'b'"),
    ("usage --jsn", "--json"),
    ("top x", "'x'"),
    ("top --onec", "--once"),
    ("doctor --memroy 1G", "--memory"),
    ("doctor --memory 1X", "1.5G"),
    ("config show dev --memroy 1G", "--memory"),
    ("config show nonsense", "'nonsense'"),
    ("config show a b c", "'a'"),
    ("config show --config /dev/null x", "'x'"),
    ("dev --memroy 1G", "--memory"),
    ("dev --memory 1M", "64M"),
    ("dev --listen 4870", "127.0.0.1:4870"),
    ("dev --listen no.such.host.invalid:4870", "127.0.0.1:4870"),
    ("dev --http no.such.host.invalid:4871", "127.0.0.1:4870"),
    ("dev --direct no.such.host.invalid:4873", "127.0.0.1:4870"),
    ("meta --listen no.such.host.invalid:4870", "127.0.0.1:4870"),
    ("proxy --meta 127.0.0.1:1 --redis no.such.host.invalid:4872", "127.0.0.1:4870"),
    ("dev --log-level inof", "info"),
    ("dev --shards 0", "1"),
    ("dev x", "'x'"),
    ("run --rols x", "--roles"),
    ("meta --lisetn x", "--listen"),
    ("store --memroy x", "--memory"),
    ("proxy --sokcet x", "--socket"),
    ("ls --endpoint 127.0.0.1:4870", "tcp://127.0.0.1:4870"),
    ("ls --endpoint /run/wadi.sock", "unix:///run/wadi.sock"),
    ("ls --endpoint http://x", "tcp://HOST:PORT"),
    ("ls --endpoint http://x", "direct://HOST:PORT"),
    ("ls --timeout 10", "10m"),
    ("ls --timeout 9d", "1d"),
    ("ls --config /nonexistent/wadi.conf", "/nonexistent/wadi.conf"),
    ("ls --json=perhaps", "yes"),
]


@pytest.mark.parametrize("line,hint", WRONG, ids=[line or "nothing" for line, _ in WRONG])
def test_wrong_usage_is_2_and_names_what_is_right(line, hint):
    done = run_wadi(*line.split())
    told = done.stderr.decode()
    assert (done.returncode, done.stdout) == (USAGE, b""), told
    assert hint in told, told
    if line:
        assert re.fullmatch(r"wadi: [^\n]+\n", told), told


def test_what_is_typed_cannot_harm_the_terminal():
    for words in ([b"\x1b[31m"], [b"ls", b"--\x1b[31m"], [b"ls", b"a", b"b\n\x9b"], [b"get", b"x", b"--range=\x1b"]):
        done = run_wadi(*words)
        assert done.returncode == USAGE
        assert re.fullmatch(rb"wadi: [\x20-\x7e]+\n", done.stderr), done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [40, 60, 200])
def test_every_command_has_help_that_fits(command, columns):
    env = clean_environment(COLUMNS=str(columns))
    done = run_wadi(*command.split(), "--help", env=env)
    assert (done.returncode, done.stderr) == (DONE, b"")
    assert done.stdout == run_wadi("help", *command.split(), env=env).stdout
    text = done.stdout.decode()
    assert text.startswith(f"usage: wadi {command}")
    assert "--config FILE" in text and "Exit status" in text
    if columns >= 60:  # examples stay in one line
        assert max(len(line) for line in text.splitlines()) <= min(columns, 100)


def test_the_overview_lists_every_command_and_only_what_is_there():
    for words in (["help"], ["--help"], ["-h"], ["help", "--help"]):
        done = run_wadi(*words, env=clean_environment(COLUMNS="60"))
        assert (done.returncode, done.stderr) == (DONE, b"")
        lines = done.stdout.decode().splitlines()
        assert max(map(len, lines)) <= 60
        listed = {line[2:16].strip() for line in lines if line.startswith("  ") and line[2] != " "}
        assert listed == set(COMMANDS) | {"sort", "help", "version"}


def test_version():
    for words in (["version"], ["--version"], ["-V"]):
        done = run_wadi(*words)
        assert (done.returncode, done.stderr) == (DONE, b"")
        assert re.fullmatch(rb"wadi \d+\.\d+\.\d+\n", done.stdout)


def test_nobody_there_is_3(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for endpoint in (f"tcp://127.0.0.1:{port}", f"unix://{tmp_path}/nobody"):
            client = Client(endpoint)
            for words in (["get", "x"], ["put", "-", "x"], ["ls"], ["job", "ls"], ["top"], ["usage"]):
                client(*words, input=b"", code=UNREACHABLE, status="UNREACHABLE")
            done = client.run("doctor")
            assert done.returncode == UNREACHABLE and endpoint.encode() in done.stdout
    for name in ("no.such.host.invalid", ".".join(["x" * 40] * 5) + ".invalid"):
        done = run_wadi("ls", "--endpoint", f"tcp://{name}:1")
        assert done.returncode == UNREACHABLE, done.stderr


def test_somebody_who_never_answers_is_4():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = Client(f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        client("get", "x", "--timeout", "200ms", code=LATE, status="TIMEOUT")


def test_somebody_who_speaks_otherwise_is_told():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        client = Client(f"tcp://127.0.0.1:{other.getsockname()[1]}")
        process = client.start("get", "x", "--timeout", "20s")
        peer, _ = other.accept()
        with peer:
            peer.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n" * 4)
            out, err = process.communicate(timeout=30)
        assert process.returncode in (REFUSED, UNREACHABLE) and out == b"", err
        assert err.startswith(b"wadi: get"), err


def test_options_come_from_four_places(tmp_path):
    conf = tmp_path / "wadi.conf"
    conf.write_text("# for all\ntimeout = 3s\nmemory = 2G # of dev\n\nlog-level=debug\nttl = 5s\n")

    def shown(*words, **env):
        done = run_wadi("config", "show", *words, env=clean_environment(**env))
        assert (done.returncode, done.stderr) == (DONE, b""), done.stderr
        return {k.strip(): v.strip() for k, v in
                (line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)}

    assert shown()["timeout"] == "10s"
    assert shown("--origin")["timeout"].split("#")[1].strip() == "default"
    with_file = shown("--config", str(conf), "--origin")
    assert re.split(r"\s+# ", with_file["timeout"]) == ["3s", f"{conf}:2"]
    assert re.split(r"\s+# ", with_file["memory"]) == ["2G", f"{conf}:3"]
    with_env = shown("dev", "--origin", WADI_CONFIG=str(conf), WADI_MEMORY="3G")
    assert re.split(r"\s+# ", with_env["memory"]) == ["3G", "environment WADI_MEMORY"]
    assert re.split(r"\s+# ", with_env["log-level"]) == ["debug", f"{conf}:5"]
    with_all = shown("dev", "--origin", "--memory", "4G", WADI_CONFIG=str(conf), WADI_MEMORY="3G")
    assert re.split(r"\s+# ", with_all["memory"]) == ["4G", "command line"]
    put = shown("put", "--origin", "--config", str(conf), __OW_WADI_ENDPOINT="tcp://h:1")
    assert re.split(r"\s+# ", put["ttl"]) == ["5s", f"{conf}:6"]
    assert re.split(r"\s+# ", put["endpoint"]) == ["tcp://h:1", "environment __OW_WADI_ENDPOINT"]
    # A token is not for other people's eyes.
    done = run_wadi("config", "show", "--origin", env=clean_environment(WADI_TOKEN="sesame"))
    assert b"sesame" not in done.stdout and b"environment WADI_TOKEN" in done.stdout
    # What it prints, it takes.
    printed = run_wadi("config", "show", "dev", "--memory", "4G", "--log-json")
    conf.write_bytes(printed.stdout)
    assert shown("dev", "--config", str(conf))["memory"] == "4G"
    assert shown("dev", "--config", str(conf))["log-json"] == "yes"


def test_wrong_lines_and_variables_are_named(tmp_path):
    conf = tmp_path / "wadi.conf"
    for text, hint in (("timeout 3s\n", "wadi.conf:1"), ("\ntimeout = 3\n", "wadi.conf:2: timeout"),
                       ("tiemout = 3s\n", "--timeout"), ("\0", "not text"),
                       ("# x\n" * 100_000, "256 KiB")):
        conf.write_text(text)
        done = run_wadi("ls", "--config", conf)
        assert done.returncode == USAGE and hint in done.stderr.decode(), done.stderr
    done = run_wadi("ls", env=clean_environment(WADI_TIMEOUT="soon"))
    assert done.returncode == USAGE and b"WADI_TIMEOUT: 'soon'" in done.stderr


def test_doctor_names_what_to_do(store):
    done = store.client().run("doctor", "--memory", "900T")
    text = done.stdout.decode()
    assert done.returncode == REFUSED
    assert re.search(r"^bad +memory .*900T", text, re.M) and "--memory" in text.split("-> ", 1)[1]
    assert re.search(r"^ok +store ", text, re.M) and re.search(r"^ok +bills ", text, re.M)
    done = run_wadi("doctor", env={**store.client().env(), "WADI_MEMROY": "1G"})
    assert "--memory" in done.stdout.decode()
    # Of programs that have no options.
    done = run_wadi("doctor", env={**store.client().env(), "WADI_FUNCTION_AUTH": "x", "WADI_SORT_FN": "x"})
    assert re.search(rb"^ok +environment ", done.stdout, re.M)
    done = run_wadi("doctor", env={**store.client().env(), "WADI_TOKEN": "x"})
    assert done.returncode == REFUSED and re.search(rb"^bad +token ", done.stdout, re.M)


def test_json_is_json_whatever_a_file_is_called(tmp_path):
    done = run_wadi("doctor", "--json", "--data", bytes(tmp_path) + b"/\xff\"\x7f")
    about = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert done.returncode == REFUSED and f"{tmp_path}/\ufffd\"\x7f/shard-0" in about[-1]["text"]


def test_doctor_looks_at_as_many_logs_as_there_may_be(tmp_path):
    for shard in range(64):
        os.mkdir(tmp_path / f"shard-{shard}")
    done = run_wadi("doctor", "--data", tmp_path)
    assert done.stdout.count(b"\nok    log ") == 64, done.stdout


def test_ports_end():
    done = run_wadi("dev", "--listen", "127.0.0.1:65534", "--http", "127.0.0.1:0", "--redis", "127.0.0.1:0")
    assert done.returncode == REFUSED and b"there is no port 65537" in done.stderr


def test_sort_is_found_and_told_apart():
    """`wadi sort` is a program of its own; its own tests are elsewhere."""
    done = run_wadi("sort", "--help")
    assert done.returncode == DONE, done.stderr
    assert b"--generate" in done.stdout
    assert run_wadi("help", "sort").stdout == done.stdout
    for columns in (60, 80, 200):
        lines = run_wadi("sort", "--help", env=clean_environment(COLUMNS=str(columns))).stdout.decode().splitlines()
        assert len(lines) > 20 and max(map(len, lines)) <= min(columns, 100)
