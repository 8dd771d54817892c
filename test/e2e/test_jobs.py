"""Jobs: what they hold, when they end, who may do what in them."""
import base64
import hmac
import json
import subprocess
import time

import pytest
from conftest import DONE, LATE, LATE_S, REFUSED, USAGE, Client, clean_environment, finish, pattern, run_wadi, told, until
from test_statuses import Cut
from wire import Closed, Wire

KIB, MIB = 1 << 10, 1 << 20


def info(w):
    return w.json("job", "show", w.job)


def test_who_never_heard_that_he_made_a_job_has_it_all_the_same(store):
    """The repeat is told what the first one was, and has a token for it; another one is told that there is one."""
    cut = Cut(store.endpoints["tcp"], "JOB_CREATE")
    try:
        making = Client(cut.endpoint).start("job", "create", "unheard")
        assert cut.was_cut.wait(LATE_S)
        cut.go_on.set()
        code, token, words = finish(making)
    finally:
        cut.close()
    assert code == DONE, words
    w = store.client(token.decode().strip())
    w("put", "-", "x", input=b"x")
    assert w("get", "x") == b"x"
    store.client()("job", "create", "unheard", code=REFUSED, status="EXISTS")
    store.client()("job", "end", "unheard")


def test_a_job_is_made_shown_and_ended(store):
    admin = store.client()
    token = admin("job", "create", "made.1", "--lease", "90s", "--quota", "dram=64M").decode().strip()
    w = admin.at(token)
    w.job = "made.1"
    w("put", "-", "x", input=pattern(100_000))
    shown = info(w)
    assert shown["name"] == "made.1" and not shown["has_ended"]
    assert 80_000 < shown["lease_left_ms"] <= 90_000
    assert shown["quota_dram"] == 64 * MIB
    assert shown["objects"] == 1 and shown["object_bytes"] == 100_000
    assert 100_000 <= shown["dram_bytes"] <= 64 * MIB
    admin("job", "create", "made.1", code=REFUSED, status="EXISTS")
    admin("job", "create", "made.2")
    names = [json.loads(j)["name"] for j in admin("job", "ls", "--json").decode().splitlines()]
    assert {"made.1", "made.2"} <= set(names)
    assert [line.split()[-1] for line in admin("job", "ls").decode().splitlines()] == names
    admin("job", "end", "made.2")
    admin("job", "renew", "made.1", "--lease", "1h")
    assert info(w)["lease_left_ms"] > 3_500_000
    w("job", "end", "made.1")
    for command in (("get", "x"), ("put", "-", "x"), ("ls",), ("stat", "x"), ("rm", "x")):
        w(*command, input=b"", code=REFUSED)
    # The name is free again, the old token is not one for it.
    again = admin.at(admin("job", "create", "made.1").decode().strip())
    assert again.names("-r") == []
    w("get", "x", code=REFUSED)
    again("job", "end", "made.1")


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "x" * 65, "ümlaut", "a b"])
def test_a_jobs_name_is_checked(store, name):
    store.client()("job", "create", "--", name, code=REFUSED, status="INVALID")


def test_a_job_that_nobody_renews_ends_by_itself(store):
    w = store.job(None, "--lease", "6s")
    w("put", "-", "x", input=pattern(3 * MIB))
    until(lambda: w.run("get", "x").returncode == REFUSED, "the lease to end")
    until(lambda: [j for j in store.client().top()["jobs"] if j["name"] == w.job and
                   not (j["has_ended"] and j["dram_bytes"] == 0)] == [], "its bytes to go")
    other = store.job()
    store.client()("job", "end", other.job)
    told = {line.split()[-1]: line.split()[0] for line in store.client()("job", "ls").decode().splitlines()}
    assert (told[w.job], told[other.job]) == ("expired", "ended"), told


def test_ended_jobs_leave_no_byte(new_store):
    store = new_store(memory="256M")
    for _ in range(3):
        jobs = [store.job() for _ in range(3)]
        for w in jobs:
            for size in (10, 3000, 100_000, 5 * MIB):
                w("put", "-", f"x{size}", input=pattern(size))
        for w in jobs:
            store.client()("job", "end", w.job)
        until(lambda: (top := store.client().top())["dram_used"] == top["objects"] == top["value_bytes"] == 0, "all of it to go")
    bills = [json.loads(line) for line in store.client().run("doctor", "--json").stdout.decode().splitlines()
             if '"bills"' in line]
    assert [b["level"] for b in bills] == ["ok"], bills
    assert store.stop() == 0


def test_a_quota_is_a_limit(store, tmp_path):
    w = store.job(None, "--quota", "dram=8M")
    (tmp_path / "huge").write_bytes(pattern(16 * MIB))
    (tmp_path / "x").write_bytes(pattern(2 * MIB))
    begun = time.monotonic()  # what can never fit is refused at once
    w("put", tmp_path / "huge", "huge", "--timeout", "60s", code=REFUSED, status="QUOTA")
    assert time.monotonic() - begun < 30
    tiny, begun = store.job(None, "--quota", "dram=1K"), time.monotonic()
    tiny("put", "-", "value", "--timeout", "20s", input=pattern(1500), code=REFUSED, status="QUOTA")
    assert time.monotonic() - begun < 10
    full, number = None, 0
    while not full:
        done = told(lambda: w.run("put", tmp_path / "x", f"x{number}", "--timeout", "1s"))  # pylint: disable=cell-var-from-loop
        full = done if done.returncode else None
        number += 1
        assert number < 10
    assert full.returncode == REFUSED and b": QUOTA: " in full.stderr, full.stderr
    assert b"8388608" in full.stderr or b"8 MiB" in full.stderr  # the limit is named
    assert info(w)["dram_bytes"] <= 8 * MIB
    # Others are not concerned, and who waits goes on when something is removed.
    other = store.job()
    other("put", tmp_path / "huge", "x")
    waiting = w.start("put", tmp_path / "x", "late", "--timeout", "30s")
    assert w.names() == [f"x{i}" for i in range(number - 1)]
    assert waiting.poll() is None
    w("rm", "x0", "x1")
    assert finish(waiting) == (DONE, b"", b"")
    assert w("get", "late") == pattern(2 * MIB)
    for one in (w, other):
        store.client()("job", "end", one.job)


@pytest.mark.parametrize("quota, size", [("1M", 900_000), ("2M", 1_900_000), ("3M", 3_000_000), ("4M", 3_000_000),
                                         ("4M", 4_000_000), ("6M", 6_000_000), ("16M", 16_000_000)])
def test_a_stream_that_fits_the_quota_is_taken(store, quota, size):
    """Nobody knows how long it will be, so room is asked for ahead; but not more than there is."""
    w = store.job(None, "--quota", f"dram={quota}")
    begun = time.monotonic()
    w("put", "-", "x", "--timeout", "20s", input=pattern(size))
    assert time.monotonic() - begun < 10  # it is not refused in the end, nor taken then
    assert w("get", "x") == pattern(size)
    store.client()("job", "end", w.job)


def test_an_upload_is_committed_though_an_answer_waits_for_room(store):
    """Of an object whose length nobody knows, as long as the quota has no more."""
    w, size = store.job(None, "--quota", "dram=1M"), 60 * KIB
    with Wire.at(w.endpoint) as wire:
        assert wire.hello(secret=w.token).status == "OK"
        opened = wire.call("PUT_OPEN", path="x")
        count = opened["room"] // size + 1
        calls = [wire.start("PUT_DATA", bytes(size), put=opened["put"], offset=i * size, timeout_ms=60_000)
                 for i in range(count)]
        assert wire.call("PUT_COMMIT", put=opened["put"], timeout_ms=5000).status == "OK"
        assert [wire.end(call).status for call in calls] == ["OK"] * count
    assert w("get", "x") == bytes(count * size)
    store.client()("job", "end", w.job)


def test_an_upload_of_which_a_piece_was_refused_is_not_committed(store):
    """Each piece has one sum, so nothing but the piece itself has no room."""
    w, size = store.job(None, "--quota", "dram=1M"), 60_000
    with Wire.at(w.endpoint) as wire:
        assert wire.hello(secret=w.token).status == "OK"
        put = wire.call("PUT_OPEN", path="x")["put"]
        calls = [wire.start("PUT_DATA", bytes(size), put=put, offset=i * size, timeout_ms=60_000) for i in range(20)]
        assert wire.end(calls[-1]).status == "QUOTA"
        reply = wire.call("PUT_COMMIT", put=put)
        assert reply.status == "QUOTA" and "had no place" in reply.detail, str(reply)
        assert wire.call("PUT_DROP", put=put).status == "OK"
    assert w.names() == []
    store.client()("job", "end", w.job)


def test_a_full_store_lets_puts_wait_and_then_says_so(new_store, tmp_path):
    (tmp_path / "x").write_bytes(pattern(2 * MIB))
    store = new_store(memory="96M")
    w = store.job()
    # What can never fit is refused at once.
    begun = time.monotonic()
    (tmp_path / "huge").write_bytes(pattern(128 * MIB))
    w("put", tmp_path / "huge", "never", "--timeout", "60s", code=REFUSED, status="NOSPACE")
    assert time.monotonic() - begun < 30
    number = 0
    while True:
        done = told(lambda: w.run("put", "-", f"x{number}", "--timeout", "1s", input=pattern(2 * MIB)))
        if done.returncode:
            break
        number += 1
    assert done.returncode == REFUSED and b": NOSPACE: " in done.stderr, done.stderr
    assert number * 2 >= 32  # most of it was to be had
    for i in range(number):
        assert w("get", f"x{i}") == pattern(2 * MIB), i
    waiting = [w.start("put", tmp_path / "x", f"late{i}", "--timeout", "30s") for i in range(3)]
    until(lambda: w.top()["waiting"] >= 1, "a put to wait for space")
    assert all(one.poll() is None for one in waiting)
    w("rm", *[f"x{i}" for i in range(number)])
    assert [finish(one)[0] for one in waiting] == [DONE] * 3
    for i in range(3):
        assert w("get", f"late{i}") == pattern(2 * MIB)
    assert store.stop() == 0


# Every command that asks the store, with words for an object x that is there.
COMMANDS = {
    "put": (["put", "-", "{}x"], "write"),
    "put large": (["put", "-", "{}x"], "write"),
    "get": (["get", "{}x"], "read"),
    "stat": (["stat", "{}x"], "read"),
    "wait": (["wait", "{}x"], "read"),
    "wait count": (["wait", "{}d", "--count", "1"], "list"),
    "ls": (["ls", "{}d"], "list"),
    "ls -r": (["ls", "-r", "{}d"], "list"),
    "rm": (["rm", "{}x"], "remove"),
    "rm -r": (["rm", "-r", "{}d"], "remove"),
    "mv": (["mv", "{}x", "{}y"], "remove and write"),
}
JOB_COMMANDS = {
    "job create": ["job", "create", "made-by-{}"],
    "job renew": ["job", "renew", "{}"],
    "job end": ["job", "end", "{}"],
    "job show": ["job", "show", "{}"],
    "usage": ["usage", "{}"],
}


@pytest.fixture
def filled(w):
    for prefix in ("", "in/"):
        w("put", "-", prefix + "x", input=b"secret")
        w("put", "-", prefix + "d/1", input=b"secret")
    return w


def run_command(w, name, prefix):
    words = [word.format(prefix) for word in COMMANDS[name][0]]
    return w.run(*words, input=pattern(3 * MIB) if name == "put large" else b"new")


@pytest.mark.parametrize("name", COMMANDS)
def test_another_jobs_token_opens_nothing(store, filled, name):
    other = store.job()
    for prefix in (f"/{filled.job}/", f"/{filled.job}/in/"):
        done = run_command(other, name, prefix)
        assert done.returncode == REFUSED and b": DENIED: " in done.stderr, done.stderr
        assert b"secret" not in done.stdout
    assert filled.names("-r") == ["d/1", "in/d/1", "in/x", "x"]
    assert filled("get", "x") == b"secret"
    store.client()("job", "end", other.job)


@pytest.mark.parametrize("name", JOB_COMMANDS)
def test_another_jobs_token_does_nothing_to_a_job(store, filled, name):
    other = store.job()
    done = other.run(*[word.format(filled.job) for word in JOB_COMMANDS[name]])
    assert done.returncode == REFUSED and b": DENIED: " in done.stderr, done.stderr
    assert filled("get", "x") == b"secret"
    store.client()("job", "end", other.job)


def narrow(w, *options):
    token = w("job", "token", *options).decode().strip()
    narrower = w.at(token)
    narrower.job = w.job
    return narrower


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("right", ["read", "write", "remove", "list"])
def test_a_token_without_the_right_is_refused(filled, name, right):
    needs = COMMANDS[name][1]
    done = run_command(narrow(filled, "--rights", right), name, "")
    if needs == right:
        assert done.returncode == DONE, done.stderr
    else:
        assert done.returncode == REFUSED and b": DENIED: " in done.stderr, done.stderr
        assert b"secret" not in done.stdout
        assert filled("get", "x") == b"secret"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_token_with_a_prefix_sees_nothing_else(filled, name):
    inside = narrow(filled, "--prefix", "in/")
    done = run_command(inside, name, "")
    assert done.returncode == REFUSED and b": DENIED: " in done.stderr, done.stderr
    assert b"secret" not in done.stdout
    assert filled("get", "x") == b"secret"
    assert run_command(inside, name, "in/").returncode == DONE


@pytest.mark.parametrize("name", JOB_COMMANDS)
def test_a_token_without_the_right_to_its_job_does_not_end_it(filled, name):
    narrower = narrow(filled, "--rights", "read,write,remove,list")
    done = narrower.run(*[word.format(filled.job) for word in JOB_COMMANDS[name]])
    assert done.returncode == REFUSED and b": DENIED: " in done.stderr, done.stderr
    assert filled("get", "x") == b"secret"


def test_who_may_not_end_his_job_is_cut_off_with_the_others(store, filled):
    """Though he has tried to: only who ends it stays, to hear the answer."""
    with Wire.at(filled.endpoint) as wire:
        assert wire.hello(secret=narrow(filled, "--rights", "read").token).status == "OK"
        assert wire.call("JOB_END", name=filled.job).status == "DENIED"
        store.client()("job", "end", filled.job)
        with pytest.raises((Closed, ConnectionError)):
            wire.call("PING")


def test_a_narrow_token_is_not_widened(filled):
    inside = narrow(narrow(filled, "--prefix", "in/"), "--rights", "read")
    wider = narrow(narrow(inside, "--rights", "read,write,remove,list,job"), "--prefix", "i")
    done = narrow(inside, "--prefix", "x").run("get", "x")  # nothing begins with both
    assert done.returncode == REFUSED
    for one in (inside, wider):
        one("get", "x", code=REFUSED, status="DENIED")
        one("put", "-", "in/x", input=b"", code=REFUSED, status="DENIED")
    assert inside("get", "in/x") == b"secret"
    narrow(filled, "--prefix", "in/d/")("mv", "in/d/1", "x", code=REFUSED, status="DENIED")
    narrow(filled, "--prefix", "in/d/")("mv", "x", "in/d/2", code=REFUSED, status="DENIED")


def test_a_token_ends_with_its_time(filled):
    short = narrow(filled, "--valid", "1s")
    done = until(lambda: (lambda d: d if d.returncode else None)(short.run("get", "x")), "the token to end")
    assert done.returncode == REFUSED and b": OLDTOKEN: " in done.stderr
    assert narrow(filled, "--valid", "1h")("get", "x") == b"secret"


def test_what_is_no_token_is_refused(store, filled):
    token = filled.token
    for wrong in (token[:-1] + ("A" if token[-1] != "A" else "B"), token[:-4], "x", "A" * 1000,
                  token + "AAAA", token[:10] + ("A" if token[10] != "A" else "B") + token[11:]):
        filled.at(wrong)("get", "x", code=REFUSED, status="BADTOKEN")
    filled.at("x" * 5000)("get", "x", code=REFUSED, status="BADTOKEN")


def test_nobody_signs_a_token_without_a_key(filled):
    """The key of a server that was told none is its own, and not what its memory was before."""
    raw = base64.urlsafe_b64decode(filled.token + "=" * (-len(filled.token) % 4))
    for key in (bytes(32), b"", raw[-32:]):
        signed = raw[:-32] + hmac.digest(key, raw[:-32], "sha256")
        forged = filled.at(base64.urlsafe_b64encode(signed).decode().rstrip("="))
        forged("get", "x", code=REFUSED, status="BADTOKEN")


def test_narrowing_asks_nobody_and_needs_a_token():
    done = run_wadi("job", "token", "--rights", "read")
    assert done.returncode == USAGE and b"WADI_TOKEN" in done.stderr
    done = run_wadi("job", "token", "--rights", "read", env=clean_environment(WADI_TOKEN="nonsense"))
    assert done.returncode == REFUSED and b": BADTOKEN: " in done.stderr


def test_bills_and_the_stores_own_count_agree(store):
    """The sum over all jobs, the ended ones too, of what other tests have left as well."""
    w = store.job()
    for size in (100, 50_000, 7 * MIB):
        w("put", "-", f"x{size}", input=pattern(size))
    w("rm", "x50000")
    before = json.loads(store.client()("usage", "--json", w.job))
    until(lambda: int(json.loads(store.client()("usage", "--json", w.job))["dram_byte_ms"]) >
          int(before["dram_byte_ms"]) + 7 * MIB, "the bill to grow")
    checked = [json.loads(line) for line in store.client().run("doctor", "--json").stdout.decode().splitlines()]
    assert [c["level"] for c in checked if c["about"] == "bills"] == ["ok"], checked
    store.client()("job", "end", w.job)
    after = int(json.loads(store.client()("usage", "--json", w.job))["dram_byte_ms"])
    assert after == int(json.loads(store.client()("usage", "--json", w.job))["dram_byte_ms"])
    checked = [json.loads(line) for line in store.client().run("doctor", "--json").stdout.decode().splitlines()]
    assert [c["level"] for c in checked if c["about"] == "bills"] == ["ok"], checked


def test_who_ends_his_own_job_hears_that_it_has_ended(new_store):
    """Also `default`, which whoever comes without a token makes anew."""
    store = new_store()
    job, anybody = store.job(), store.client()
    for client, name in ((job, job.job), (anybody, "default")):
        client("put", "-", "x", input=b"x" * 100_000)
        began = time.monotonic()
        client("job", "end", name)
        assert time.monotonic() - began < 9  # ten seconds are its deadline
    job("ls", code=REFUSED, status="JOBENDED")
    assert anybody("ls") == b""
    ended = [j for j in anybody.top()["jobs"] if j["name"] == "default" and j["has_ended"]]
    assert len(ended) == 1, ended


def test_who_hears_that_his_own_job_has_ended_waits_until_nobody_serves_it(new_store, lib):
    """Asked again over another connection, a proxy that was stopped may still have its lease."""
    store = new_store()
    job = store.job()
    handle = lib.Handle(store.endpoints["tcp"], job.token)
    handle.put("x", b"x")
    store.client()("job", "end", job.job)
    began = time.monotonic()
    handle.end_job(job.job)
    assert 0.5 <= time.monotonic() - began < 9  # ten seconds are its deadline
    handle.close()


def test_the_token_of_a_job_that_has_ended_does_nothing_to_the_next_of_its_name(store):
    """Not on the connection that ended it, either, which stays to hear that."""
    admin = store.client()
    with Wire.at(store.endpoints["tcp"]) as wire:
        assert wire.hello(secret=admin("job", "create", "again").decode().strip()).status == "OK"
        first = wire.call("JOB_SHOW", name="again")
        assert wire.call("JOB_END", name="again").status == "OK"
        ended = wire.call("JOB_SHOW", name="again")
        assert (ended["job"], ended["has_ended"]) == (first["job"], 1)
        assert wire.call("JOB_END", name="again").status == "OK"
        second = admin.at(admin("job", "create", "again").decode().strip())
        second("put", "-", "x", input=b"of the second")
        for message in ("JOB_SHOW", "JOB_RENEW", "JOB_END"):
            assert wire.call(message, name="again").status == "JOBENDED", message
    assert second("get", "x") == b"of the second"
    admin("job", "end", "again")
