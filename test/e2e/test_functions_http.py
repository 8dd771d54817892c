"""The functions of the sort behind HTTP, and callers of every kind: platforms that follow their
contracts, and clients that follow none.
"""
import json
import os
import signal
import socket
import subprocess

import pytest
from cluster import free_ports
from conftest import BUILD, LATE_S, clean_environment, until
from test_sort import Redis, place  # noqa: F401, a fixture

FUNCTION = os.path.join(BUILD, "apps/sort/wadi-sort-fn")
GENERATE = {"op": "generate", "count": 1000, "function_memory": 32 << 20}
SUM_OF_A_THOUSAND = "1f9ffe645ec"
JSON = {"Content-Type": "application/json"}

pytestmark = pytest.mark.skipif(not os.path.exists(FUNCTION), reason="no " + FUNCTION)


class Server:
    def __init__(self, *args, **env):
        self.process = subprocess.Popen([FUNCTION, *(args or ["--http=127.0.0.1:0"])], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=clean_environment(**env))
        line = self.process.stdout.readline()
        assert line.startswith("listening on port "), (line, self.process.stderr.read())
        self.port = int(line.split()[-1])

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=LATE_S)

    def post(self, body, headers=None, path="/", method="POST"):
        """Status, headers and body of the answer."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self.connect() as s:
            s.sendall(request(body, JSON if headers is None else headers, path, method))
            return answer(s)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def request(body, headers, path="/", method="POST"):
    lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}",
             *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(s):
    """One answer, and no byte more; connections are kept."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = s.recv(1)
        assert byte, f"the connection ended in {head!r}"
        head += byte
    first, *lines = head.decode().split("\r\n")[:-2]
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = b""
    while len(body) < int(headers.get("content-length", 0)):
        body += s.recv(int(headers["content-length"]) - len(body))
    return int(first.split()[1]), headers, body


@pytest.fixture
def server():
    s = Server()
    yield s
    s.stop()


def generate(tmp_path, **more):
    return {"value": {**GENERATE, "output": str(tmp_path / "part"), **more}}


def test_a_request_is_answered_in_the_envelope_it_came_in(server, tmp_path):
    line = generate(tmp_path)
    status, headers, body = server.post(line)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["sum"] == SUM_OF_A_THOUSAND and json.loads(body)["run"] == 1

    event = {"ce-specversion": "1.0", "ce-id": "7-1", "ce-source": "/test", "ce-type": "any"}
    status, headers, body = server.post(line, {**JSON, **event}, path="/any/path")
    assert (status, headers["ce-id"], headers["ce-type"]) == (200, "7-1", "wadi.function.replied")
    assert json.loads(body)["sum"] == SUM_OF_A_THOUSAND and json.loads(body)["run"] == 2

    status, headers, body = server.post(
        {"specversion": "1.0", "id": "9", "source": "/test", "type": "any", "data": line},
        {"Content-Type": "application/cloudevents+json; charset=utf-8"})
    assert (status, headers["content-type"]) == (200, "application/cloudevents+json")
    assert json.loads(body)["id"] == "9" and json.loads(body)["data"]["sum"] == SUM_OF_A_THOUSAND


def test_an_azure_host_is_answered_in_its_envelope(tmp_path):
    port, = free_ports(1)
    server = Server("--http", FUNCTIONS_CUSTOMHANDLER_PORT=str(port))
    try:
        assert server.port == port
        line = json.dumps(generate(tmp_path))
        trigger = {"Url": "http://localhost/api/sort", "Method": "POST", "Query": {}, "Headers": {}, "Params": {}}
        status, _, body = server.post({"Data": {"req": {**trigger, "Body": line}}, "Metadata": {"sys": {}}},
                                      path="/sort")
        outer = json.loads(body)
        assert status == 200 and outer["Logs"] == [] and outer["Outputs"]["res"]["statusCode"] == 200
        assert json.loads(outer["Outputs"]["res"]["body"])["sum"] == SUM_OF_A_THOUSAND
        status, _, body = server.post({"Data": {"message": line}, "Metadata": {"DequeueCount": "1"}}, path="/sort")
        assert status == 200 and json.loads(json.loads(body)["ReturnValue"])["sum"] == SUM_OF_A_THOUSAND
        # enableProxyingHttpRequest
        assert server.post(line.encode(), path="/api/sort")[0] == 200
    finally:
        server.stop()


def test_failures_say_whether_to_come_again(server, tmp_path):
    for body, status, error in [
            (b"{}", 422, 'no object "value"'), (b"nonsense", 422, "not a line of JSON"), (b"", 422, "not a line"),
            ({"value": {"op": "fly", "function_memory": 32 << 20}}, 422, 'no function "fly"'),
            (generate(tmp_path / "nowhere"), 500, "cannot create")]:
        got, _, reply = server.post(body)
        assert (got, json.loads(reply)["is_final"]) == (status, status == 422) and error in json.loads(reply)["error"]
    assert server.post(b"{}", {"Content-Type": "text/html"})[0] == 415
    assert server.post(b"{}", {**JSON, "ce-specversion": "0.3"})[0] == 400
    assert server.post(b"", method="PUT")[1]["allow"] == "GET, HEAD, POST"
    assert server.post(b"", {}, "/health/liveness", "GET")[0] == 200
    assert server.post(b"", {}, "/robots.txt", "GET")[0] == 404


def test_hostile_clients_are_told_and_harm_nobody(server, tmp_path):
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    for sent, status in [
            (b"hello\r\n\r\n", 400), (b"\x16\x03\x01\x02" * 5000, 431), (head + b"X: " + b"x" * 20000, 431),
            (head + b"X: y\r\n" * 200 + b"\r\n", 431), (head + b"Content-Length: 6291457\r\n\r\n", 413),
            (head + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (head + b"Transfer-Encoding: gzip\r\n\r\n", 501),
            (head + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400)]:
        with server.connect() as s:
            s.sendall(sent)
            got, headers, body = answer(s)
            assert (got, headers["connection"], json.loads(body)["is_final"]) == (status, "close", status != 501), sent
            assert s.recv(1) == b""
    # Who sends all of it before he reads is told, too.
    with server.connect() as s:
        s.sendall(head + b"Content-Length: 9000000\r\n\r\n" + b"x" * 1000000)
        assert answer(s)[0] == 413
    # Depth that would be a stack, and a body of the most that is taken.
    assert server.post(b"[" * 1000000)[0] == 422
    assert server.post(json.dumps(generate(tmp_path)).encode().ljust(6 << 20))[0] == 200
    # More connections than there are places: those that ask for nothing go.
    idle = [server.connect() for _ in range(200)]
    assert server.post(generate(tmp_path))[0] == 200
    for s in idle:
        s.close()
    # Half requests keep their places, and the next one is told; they go when their clients do.
    half = [server.connect() for _ in range(64)]
    for s in half:
        s.sendall(head)

    def is_refused():
        """Not while there is a place of one whose half has not been read."""
        with server.connect() as s:
            s.settimeout(0.3)
            try:
                return answer(s)[0] == 503
            except socket.timeout:
                return False
    until(is_refused, "all places to be taken")
    for s in half:
        s.close()
    until(lambda: server.post(generate(tmp_path))[0] == 200, "a place")


def test_requests_may_be_pipelined_and_cut_anywhere(server, tmp_path):
    body = json.dumps(generate(tmp_path)).encode()
    chunked = (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
               + b"".join(b"%x\r\n%c\r\n" % (1, c) for c in body) + b"0\r\n\r\n")
    with server.connect() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in chunked[:200]:
            s.sendall(bytes([byte]))
        s.sendall(chunked[200:] + request(body, JSON) + request(b"", {}, "/", "GET"))
        assert [answer(s)[0] for _ in range(3)] == [200, 200, 200]
        s.sendall(request(body, {**JSON, "Expect": "100-continue"})[:-len(body)])
        assert answer(s)[0] == 100
        s.sendall(body)
        assert answer(s)[0] == 200


def waits(store, job):
    """A run that waits in the store until its job ends."""
    return {"value": {"op": "reduce", "function_memory": 64 << 20, "maps": 1, "output": "/dev/null",
                      "timeout_ms": 120_000, "store": {"url": store.endpoints["tcp"], "token": job.token,
                                                       "job": job.job}}}


def test_as_many_run_as_there_are_places_and_health_is_told_meanwhile(store, tmp_path):
    server = Server("--http=127.0.0.1:0", "--concurrency=2")
    try:
        job = store.job()
        line = json.dumps(waits(store, job)).encode()
        running = [server.connect() for _ in range(2)]
        for s in running:
            s.sendall(request(line, JSON))
        until(lambda: server.post(generate(tmp_path))[0] == 429, "both places taken")
        status, headers, body = server.post(generate(tmp_path))
        assert (status, headers["retry-after"], json.loads(body)["is_final"]) == (429, "1", False)
        assert server.post(b"", {}, "/health/readiness", "GET")[0] == 200
        # A caller that goes does not take the run with it, nor the place for ever.
        running.pop().close()
        assert server.post(generate(tmp_path))[0] == 429
        store.client()("job", "end", job.job)
        assert answer(running[0])[0] == 500
        until(lambda: server.post(generate(tmp_path))[0] == 200, "the places are free")
    finally:
        server.stop()


def test_sigterm_lets_runs_end_and_takes_no_more(store):
    server, job = Server(), store.job()
    try:
        with server.connect() as s, server.connect() as idle:
            s.sendall(request(json.dumps(waits(store, job)).encode(), JSON))
            until(lambda: server.post({})[0] == 429, "a run")
            server.process.send_signal(signal.SIGTERM)
            assert idle.recv(1) == b""
            with pytest.raises(ConnectionRefusedError):
                until(lambda: server.connect().close(), "nobody listens")
            store.client()("job", "end", job.job)
            status, headers, _ = answer(s)
            assert (status, headers["connection"]) == (500, "close")
        assert server.process.wait(LATE_S) == 0
    finally:
        server.stop()


def test_a_store_that_went_away_between_two_runs_is_told_by_the_second(server, place, tmp_path):
    """The way to it was kept, and what it has to say belongs to the run that finds out."""
    redis = Redis(place)
    line = {"value": {"op": "sample", "function_memory": 32 << 20, "samples": 10, "input": [[str(tmp_path / "part"), 0, 1000]],
                      "store": {"url": redis.options[1], "job": "sort-x"}}}
    try:
        assert server.post(generate(tmp_path))[0] == 200
        assert [server.post(line)[0] for _ in range(2)] == [200, 200]
    finally:
        redis.stop()
    status, _, body = server.post(line)
    assert status == 500 and json.loads(body)["error"].startswith("redis: "), body


def test_wrong_words_are_told(tmp_path):
    for words, error in [(["--htp"], "--htp"), (["--http", "--concurrency=0"], "--concurrency=0"),
                         (["--concurrency=2"], "--concurrency=2"), (["--http=nowhere.invalid:80"], "cannot listen")]:
        done = subprocess.run([FUNCTION, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env=clean_environment(), timeout=LATE_S, check=False)
        assert done.returncode in (1, 2) and error in done.stderr, (words, done)
