"""The sort on OpenWhisk: its REST interface, its limits, its proxy, and functions that are frozen between their runs.

The platform is the small one of test/platforms, in front of the same zip that a real one would get.
"""
import base64
import concurrent.futures
import contextlib
import glob
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from cluster import Cluster, is_there
from conftest import BUILD, LATE_S, REFUSED, ROOT, UNREACHABLE, build_target, clean_environment, until
from npm import modules
from test_sort import FUNCTION, IS_LARGE, SORT, place, sort, start  # noqa: F401, a fixture among them

PLATFORMS = os.path.join(ROOT, "test/platforms")
AUTH = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:secret"
STOPPED_S = 125 if IS_LARGE else 2
MARKER = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"

pytestmark = pytest.mark.skipif(not os.path.exists(SORT), reason="no " + SORT)


@pytest.fixture(scope="session")
def bundle():
    """The zip, where the driver looks for it."""
    if not build_target("apps/bundle/launch"):
        pytest.skip("no launcher in this build")
    path = os.path.join(BUILD, "dist/wadi-sort-fn.zip")
    done = subprocess.run([os.path.join(ROOT, "tools/function-bundle"), "--program", FUNCTION, "--entry", "exec", "--output", path],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return path


class Program:
    """One of test/platforms, which prints a line when it listens."""

    def __init__(self, name, *options, env=None, cwd=None):
        self.process = subprocess.Popen([sys.executable, os.path.join(PLATFORMS, name), *map(str, options)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
                                        env=env or clean_environment())
        line = self.process.stdout.readline().decode()
        assert "=" in line, self.process.stderr.read()
        self.where = line.strip().split("=", 1)[1]

    def end(self):
        self.process.terminate()
        try:
            self.out, self.err = (text.decode() for text in self.process.communicate(timeout=LATE_S))
        finally:
            self.process.kill()


class Whisk(Program):
    def __init__(self, *options):
        super().__init__("openwhisk.py", "--auth", AUTH, "--per-minute", 100000, *options)
        self.options = ["--platform", self.where]
        self.env = {"__OW_API_KEY": AUTH}
        self.port = int(self.where.rsplit(":", 1)[1])

    def ask(self, method, path, body=None, auth=AUTH):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LATE_S)
        connection.request(method, path, json.dumps(body) if body is not None else None,
                           {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()})
        answer = connection.getresponse()
        with contextlib.closing(connection):
            return answer.status, json.loads(answer.read())

    def counts(self):
        return self.ask("GET", "/counts")[1]

    def end(self):
        """Whatever ran there has ended, too."""
        groups = children(self.process.pid)
        super().end()
        assert [pid for pid in groups if is_there(pid)] == []


@pytest.fixture
def whisk(bundle):
    started = []

    def start(*options):
        started.append(Whisk(*options))
        return started[-1]
    yield start
    for one in started:
        one.end()


@pytest.fixture
def directory_of_parts(place):
    path = os.path.join(place, "parts")
    sort(place, "--generate", "3000000", "--reduces", 2, "--output", path)
    return path


def restarted(cluster, over, restarts):
    """The proxy is killed again and again; it is there for three quarters of the time, also where a start takes long."""
    pause_s = 0.3
    while not over.wait(pause_s):
        begun = time.monotonic()
        cluster.roles["proxy"].end(signal.SIGKILL)
        cluster.start_proxy()
        restarts.append(1)
        pause_s = max(0.3, 3 * (time.monotonic() - begun))


def starts(report):
    return {kind: report["starts"][kind]["runs"] for kind in ("cold", "warm")}


def test_a_sort_on_an_empty_platform_makes_its_action_and_finds_it_warm_the_next_time(place, whisk):
    platform = whisk("--pause-grace-ms", 0)
    options = ["--generate", "10M", "--maps", 3, "--reduces", 2, "--parallel", 2, *platform.options]
    first = sort(place, *options, env=platform.env)
    assert first["platform"] == "openwhisk" and first["attach"] == "host"
    assert starts(first) == {"cold": 2, "warm": 11}
    assert first["starts"]["cold"]["init_p50_ms"] > 0 and first["starts"]["warm"]["init_p50_ms"] == 0
    attaching = first["attaching"]
    assert attaching["runs"] == 2 and attaching["kept"] == 6 and 0 < attaching["percent_of_all"] < attaching["percent"] < 100
    counts = platform.counts()
    assert counts["ran"] == 13 and counts["cold"] == 2 and counts["frozen"] > 0 and counts["thawed"] > 0
    second = sort(place, *options, env=platform.env)
    assert starts(second) == {"cold": 0, "warm": 13}
    assert second["sum"] == first["sum"] == sort(place, "--generate", "10M")["sum"]
    # Another limit is another action.
    assert starts(sort(place, *options, "--function-memory", "300M", env=platform.env)) == {"cold": 2, "warm": 11}
    assert platform.ask("GET", "/api/v1/namespaces/_/actions/wadi-sort")[1]["limits"]["memory"] == 332


def test_what_takes_longer_than_the_platform_blocks_is_asked_for(place, whisk):
    platform = whisk("--blocking-ms", 1)
    report = sort(place, "--generate", "5M", "--maps", 2, "--reduces", 2, *platform.options, env=platform.env)
    assert report["refused"] == 0 and platform.counts()["ran"] == 10


def test_refusals_lost_answers_and_dying_containers_are_got_over(place, whisk):
    platform = whisk("--fault", "429:5", "--fault", "503:7", "--fault", "502:11", "--fault", "lost:6", "--fault", "killed:8",
                     "--spared", 4, "--concurrent", 3)
    report = sort(place, "--generate", "5M", "--maps", 6, "--reduces", 4, "--parallel", 4, *platform.options, env=platform.env)
    counts = platform.counts()
    assert counts["fault"] >= 8 and counts["throttled"] > 0
    assert report["refused"] > counts["throttled"]


def test_a_platform_without_room_is_asked_until_the_time_of_a_run_is_over(place, whisk):
    platform = whisk("--concurrent", 0)
    told = sort(place, "--generate", "1M", "--timeout", "500ms", *platform.options, env=platform.env, code=4)
    assert re.search("the platform has refused to run it for [0-9] s, beside 0 others", told), told
    assert "answered 429: Too many concurrent requests in flight (count: 0, allowed: 0)." in told


def test_who_asks_is_told_by_a_file_the_environment_or_an_option(place, whisk):
    platform = whisk()
    path = os.path.join(place, "auth")
    options = ["--generate", "1M", "--maps", 1, "--reduces", 1, *platform.options]
    with open(path, "w") as file:
        file.write(AUTH + "\n")
    sort(place, *options, "--auth-file", path)
    sort(place, *options, "--auth-file", path, env={"__OW_API_KEY": "a:b"})
    sort(place, *options, "--auth", AUTH)
    told = sort(place, *options, env={"__OW_API_KEY": "a:b"}, code=REFUSED)
    assert "answered 401: The supplied authentication is invalid.; --auth-file or __OW_API_KEY has UUID:KEY" in told
    assert "this platform wants to know who asks" in sort(place, *options, code=REFUSED)
    assert "cannot read" in sort(place, *options, "--auth-file", path + "x", code=REFUSED)


def test_a_platform_shows_who_it_is(place, whisk):
    """By a certificate that the system does not know."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here")
    key, certificate = os.path.join(place, "key"), os.path.join(place, "certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out",
                    certificate], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    platform = whisk("--tls", certificate, key)
    options = ["--generate", "1M", "--maps", 1, "--reduces", 1, "--platform",
               platform.where.replace("openwhisk:", "openwhisk+https:")]
    sort(place, *options, env={**platform.env, "SSL_CERT_FILE": certificate})
    assert "certificate" in sort(place, *options, env=platform.env, code=UNREACHABLE)


class Liar:
    """A server that says of every action that it is there, and answers its invocation as a script has it, by its name."""

    def __init__(self, script):
        self.script = script
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.where = f"openwhisk://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.closing(connection), contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
                head += more
            name = head.split()[1].decode().split("?")[0].rsplit("/", 1)[1] if head else ""
            if head.startswith(b"GET") and name in self.script:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            elif head.startswith(b"GET"):
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                for part in self.script[name]():
                    connection.sendall(part)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass


def whole(body, status=b"200 OK", *headers):
    return [b"\r\n".join([b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body])]


def drip():
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    for _ in range(1000):
        time.sleep(0.02)
        yield b" "


LIES = {
    "silence": ([], REFUSED, "it died, four times over"),
    "nonsense": ([b"nonsense\r\n\r\n"], REFUSED, "four times over"),
    "half": ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}"], REFUSED, "four times over"),
    "chunk": ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"], REFUSED, "four times over"),
    "flood": ([b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * (1 << 20)] * 17], REFUSED, "the answer is longer than 16 MiB"),
    "elsewhere": (whole(b"", b"302 Found", b"Location: http://127.0.0.1:1/"), REFUSED, "answered 302"),
    "depth": (whole(b"[" * 100000), REFUSED, "answered 200"),
    "path": (whole(b'{"activationId":"../../actions/path"}', b"202 Accepted"), REFUSED, "answered 202"),
    "lines": (whole(b'{"error":"a\\nb\\u0000c"}', b"403 Forbidden"), REFUSED, "answered 403"),
    "never": (whole(b'{"activationId":"0"}', b"202 Accepted"), 4, "it took too long"),
    "text": (whole(b'{"response":{"status":"success","result":"x"}}'), REFUSED, "its reply is no JSON object, four times over"),
    "later": (whole(b"", b"429 Too Many", b"Retry-After: 99999999999999999999"), 4, "has refused to run it"),
    "drip": (None, 4, "it took too long"),
}


def test_whatever_a_platform_answers_ends_in_a_sentence(place):
    liar = Liar({name: drip if name == "drip" else lambda lie=lie: lie[0] for name, lie in LIES.items()})
    store = os.path.join(place, "store")
    os.mkdir(store)

    def told(name):
        # Who is told of something else has time for that on a machine that does much else.
        timeout = "2s" if LIES[name][1] == 4 else "60s"
        process = start(place, "--generate", "1M", "--maps", 1, "--reduces", 1, "--timeout", timeout, "--store", "dir:" + store,
                        "--platform", liar.where + "/" + name, env={"__OW_API_KEY": AUTH})
        err = process.communicate(timeout=4 * LATE_S)[1]
        return name, process.returncode, err

    with concurrent.futures.ThreadPoolExecutor(len(LIES)) as pool, contextlib.closing(liar.socket):
        for name, code, err in pool.map(told, LIES):
            assert code == LIES[name][1] and LIES[name][2] in err and err.count("\n") == 1, (name, code, err)
    assert os.listdir(store) == []


def test_an_action_that_is_not_there_or_does_not_answer_as_it_should(place, whisk):
    platform = whisk()
    there = ["--generate", "1M", "--maps", 1, "--reduces", 1, "--platform", platform.where + "/mine"]
    assert "answered 404: The requested resource does not exist." in sort(place, *there, env=platform.env, code=REFUSED)

    def put(script):
        code = base64.b64encode(script.encode()).decode()
        status, _ = platform.ask("PUT", "/api/v1/namespaces/_/actions/mine?overwrite=true", {
            "exec": {"kind": "blackbox", "image": "x", "binary": True, "code": code}})
        assert status == 200

    put("#!/bin/sh\necho '{\"ok\":true}' >&3\nread line\necho nonsense >&3\nread line\n")
    told = sort(place, *there, env=platform.env, code=REFUSED)
    assert "four times over" in told and "The action did not return a dictionary or array." in told
    put("#!/bin/sh\necho '{\"ok\":true}' >&3\nread line\necho oh >&2\n")
    assert "four times over" in (told := sort(place, *there, env=platform.env, code=REFUSED)) and "command exited" in told
    put("#!/bin/sh\n")
    assert "Command exited abruptly during initialization." in sort(place, *there, env=platform.env, code=REFUSED)
    put("#!/bin/sh\necho '{\"ok\":true}' >&3\nwhile read line; do echo '{\"error\":\"no\",\"is_final\":true}' >&3; done\n")
    assert "generate 0: no\n" in sort(place, *there, env=platform.env, code=REFUSED)


def test_a_function_that_takes_too_long_is_given_up(place, whisk):
    platform = whisk()
    code = base64.b64encode(b"#!/bin/sh\necho '{\"ok\":true}' >&3\nread line\nread line\n").decode()
    for timeout_ms, given in (("300000", "500ms"), ("100", "60s")):
        platform.ask("PUT", "/api/v1/namespaces/_/actions/slow?overwrite=true", {
            "exec": {"kind": "blackbox", "image": "x", "binary": True, "code": code}, "limits": {"timeout": int(timeout_ms)}})
        told = sort(place, "--generate", "1M", "--maps", 1, "--reduces", 1, "--timeout", given, "--platform",
                    platform.where + "/slow", env=platform.env, code=4)
        assert "it took too long" in told
    assert "exceeded its time limits of 100 milliseconds" in told


def test_a_platform_that_is_away_for_a_moment_is_waited_for_and_one_that_is_not_there_is_told(place, whisk):
    platform = whisk()
    options = ["--generate", "1M", "--maps", 1, "--reduces", 1, *platform.options]
    platform.end()
    assert "Failed to connect" in sort(place, *options, env=platform.env, code=UNREACHABLE)


def test_a_frozen_function_goes_on_with_a_proxy_that_was_restarted_meanwhile(place, whisk, tmp_path):
    """The proxy is killed again and again, so that who is thawed has a connection to nobody."""
    cluster = Cluster(str(tmp_path), shards=1, memory="256M")
    platform = whisk("--pause-grace-ms", 0)
    restarts, over = [], threading.Event()
    thread = threading.Thread(target=restarted, args=(cluster, over, restarts))
    thread.start()
    try:
        for endpoint in (cluster.roles["proxy"].endpoints["unix"], cluster.roles["proxy"].endpoints["tcp"]):
            for _ in range(20):
                report = sort(place, "--generate", "10M", "--maps", 4, "--reduces", 3, "--parallel", 2, *platform.options,
                              env={**platform.env, "WADI_ENDPOINT": endpoint, "WADI_TOKEN": cluster.key})
                assert starts(report)["warm"] > 0
                if len(restarts) >= 2:
                    break
    finally:
        over.set()
        thread.join()
        cluster.kill()
    assert len(restarts) >= 2 and platform.counts()["thawed"] > 0


def test_the_functions_may_be_in_python(place, whisk, directory_of_parts):
    """The zip with the client's wheel in it, of files that the functions in C have made."""
    wheels = glob.glob(os.path.join(BUILD, "dist/wadi_store-*.whl"))
    if not wheels:
        pytest.skip("no wheel of the Python client; `make python` builds one")
    path = os.path.join(place, "action.zip")
    subprocess.run([os.path.join(ROOT, "tools/python-action"), "--wheel", wheels[0], "--output", path], check=True)
    with open(path, "rb") as file:
        code = base64.b64encode(file.read()).decode()
    platform = whisk("--pause-grace-ms", 0)
    assert platform.ask("PUT", "/api/v1/namespaces/_/actions/python", {
        "exec": {"kind": "python:3", "code": code, "binary": True}})[0] == 200
    options = ["--input", directory_of_parts, "--maps", 3, "--reduces", 2, "--parallel", 2]
    there = ["--platform", platform.where + "/python"]
    report = sort(place, *options, *there, env=platform.env)
    assert (report["sum"], report["count"]) == ("3a9272607591", 30000) and starts(report) == {"cold": 2, "warm": 8}
    assert report["attaching"]["runs"] == 2 and report["attaching"]["kept"] == 6
    told = sort(place, "--generate", "1M", "--maps", 1, *there, env=platform.env, code=REFUSED)
    assert told == 'wadi sort: generate 0: these functions sort records of files, and know no "generate"\n'


def children(pid):
    """Process ids of those that it has started and that have not ended."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                state, parent = file.read().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(name))
    return found


def test_functions_stopped_in_the_middle_of_a_run_go_on_with_another_proxy(place, whisk, tmp_path):
    cluster = Cluster(str(tmp_path), shards=1, memory="512M")
    platform = whisk()
    process = start(place, "--generate", "100M", "--maps", 6, "--reduces", 4, "--parallel", 2, *platform.options, "--json",
                    env={**platform.env, "WADI_ENDPOINT": cluster.roles["proxy"].endpoints["unix"], "WADI_TOKEN": cluster.key})
    try:
        # All shares are made and sampled, and mappers have begun.
        until(lambda: platform.counts().get("ran", 0) >= 13 or process.poll() is not None, "the first mapper", 4 * LATE_S)
        assert process.poll() is None, process.communicate()
        groups = children(platform.process.pid)
        assert len(groups) >= 2
        for group in groups:
            os.killpg(group, signal.SIGSTOP)
        cluster.roles["proxy"].end(signal.SIGKILL)
        cluster.start_proxy()
        time.sleep(STOPPED_S)
        for group in groups:
            os.killpg(group, signal.SIGCONT)
        out, err = process.communicate(timeout=4 * LATE_S)
        assert process.returncode == 0, err
        assert json.loads(out)["verified"] is True
    finally:
        process.kill()
        process.communicate()
        cluster.kill()


def test_the_official_client_finds_a_platform(place, whisk, bundle):
    path = modules("openwhisk@3.21.9")
    platform = whisk()
    done = subprocess.run(["node", os.path.join(PLATFORMS, "openwhisk_client.js"), path, f"http://127.0.0.1:{platform.port}", AUTH,
                           bundle, os.path.join(place, "part")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=clean_environment(), timeout=LATE_S, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {
        "made": ["judged", "guest", "0.0.1", 128, "blackbox", None], "listed": ["judged"], "got": True,
        "again": [409, "resource already exists"], "result": 10, "record": ["success", 2, False], "later": [True, 10, True],
        "activations": 2, "failed": [502, None], "large": 413, "deleted": "judged",
        "gone": [404, "The requested resource does not exist."], "stranger": 401}


def test_functions_may_have_another_way_to_wadi_than_the_driver(place, whisk, store):
    platform = whisk()
    options = ["--generate", "3M", "--maps", 2, "--reduces", 2, *platform.options, "--function-endpoint"]
    env = {**platform.env, "WADI_ENDPOINT": store.endpoints["tcp"]}
    assert sort(place, *options, store.endpoints["unix"], env=env)["attach"] == "host"
    assert sort(place, *options, store.endpoints["direct"], env=env)["attach"] == "direct"
    assert "unix:///nowhere" in sort(place, *options, "unix:///nowhere", env=env, code=REFUSED)
    told = sort(place, *options, "tcp://127.0.0.1:1", "--attach", "host", env=env, code=REFUSED)
    assert told == "wadi sort: --attach host wants a unix:// endpoint, and --function-endpoint is tcp://127.0.0.1:1\n"


def test_an_image_is_an_action_as_well(place, whisk):
    platform = whisk("--pause-grace-ms", 0, "--image", "wadi/sort=" + FUNCTION)
    assert platform.ask("PUT", "/api/v1/namespaces/_/actions/docked", {"exec": {"kind": "blackbox", "image": "wadi/sort"}})[0] == 200
    options = ["--generate", "3M", "--maps", 2, "--reduces", 2, "--platform", platform.where + "/docked"]
    report = sort(place, *options, env=platform.env)
    assert report["starts"]["warm"]["runs"] > 0
    until(lambda: platform.counts().get("frozen", 0) > 0, "containers to be frozen")
    assert sort(place, *options, env=platform.env)["starts"]["warm"]["runs"] > 0
    assert platform.counts()["thawed"] > 0


class Server:
    """The action of an image, as its container has it."""

    def __init__(self, command, **how):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
        line = self.process.stdout.readline().decode()
        assert "port" in line, self.process.stderr.read()
        self.where = line.split()[-1]

    end = Program.end


def test_an_image_keeps_to_the_contract_of_a_runtime(place):
    server = Server([FUNCTION, "--openwhisk=127.0.0.1:0"], env={})
    request = {"op": "generate", "output": os.path.join(place, "part"), "count": 10, "function_memory": 33554432, "first": "0"}

    def post(path, body):
        return Loop.post(server, path, body)

    try:
        assert post("/run", {"value": request})[0] == 403
        assert post("/init", {"value": {"name": "x", "main": "main", "code": "", "binary": False,
                                        "env": {"__OW_WADI_ENDPOINT": "a=b://", "__OW_N": 3}}}) == (200, {"ok": True})
        status, told = post("/init", {"value": {}})
        assert (status, told["error"]) == (403, "Cannot initialize the action more than once.")
        for run in (1, 2):
            status, reply = post("/run", {"value": request, "activation_id": "1", "deadline": "99"})
            assert (status, reply["count"], reply["run"]) == (200, 10, run)
        assert post("/run", {"value": {**request, "x": "\u00e4\u20ac\n" * 300000}})[1]["run"] == 3
        status, told = post("/run", {"value": {"op": "fly", "function_memory": 33554432}})
        assert (status, told) == (200, {"error": "no function \"fly\"", "is_final": True})
        told = post("/run", {"value": {"op": "map", "function_memory": 33554432, "store": {"job": "j"}}})[1]["error"]
        assert told.startswith("no such store: 'a=b://'")
        assert post("/other", {})[0] == 404
    finally:
        server.end()
    assert server.out.split("\n").count(MARKER) == server.err.split("\n").count(MARKER) == 5


class Loop(Program):
    """The proxy of one container."""

    def __init__(self, place, *options, **env):
        super().__init__("actionloop.py", "--directory", os.path.join(place, "action"), *options,
                         env={"OW_WAIT_FOR_ACK": "1", **env})

    def post(self, path, body, binary=False):
        connection = http.client.HTTPConnection("127.0.0.1", int(self.where), timeout=LATE_S)
        connection.request("POST", path, body if binary else json.dumps(body))
        answer = connection.getresponse()
        with contextlib.closing(connection):
            return answer.status, json.loads(answer.read())

    def init(self, path, **env):
        with open(path, "rb") as file:
            code = base64.b64encode(file.read()).decode()
        return self.post("/init", {"value": {"name": "x", "main": "main", "binary": True, "code": code, "env": env}})


def running(program):
    """The process of a program that a launcher started."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read().split(b"\0")[-2:-1] == [program.encode()]:
                    return int(pid)
        except OSError:
            continue
    raise AssertionError("it does not run: " + program)


@pytest.fixture
def podman():
    """Its command, with a storage of its own; its paths are to be short."""
    if not shutil.which("podman"):
        pytest.skip("no podman here")
    directory = tempfile.mkdtemp(prefix="wadi-")
    yield ["podman", "--storage-driver=vfs", "--root", directory + "/storage", "--runroot", directory + "/state",
           "--cgroup-manager=cgroupfs"]
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.skipif(not IS_LARGE, reason="takes minutes where podman's storage is slow; WADI_TEST_LARGE is not set")
def test_an_image_runs_in_containers_that_are_frozen(place, tmp_path, podman, whisk, store):
    """By the Dockerfile, where podman builds and runs here; the socket of the store is in a volume."""
    root = str(tmp_path / "root")
    subprocess.run([os.path.join(ROOT, "tools/container-image"), "--directory", root], check=True)
    built = subprocess.run([*podman, "build", "-q", "--isolation=chroot", "--pull=never", "-t", "wadi-sort-openwhisk", "-f",
                            os.path.join(ROOT, "apps/openwhisk/Dockerfile"), root],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if built.returncode:
        pytest.skip("podman builds nothing here: " + built.stdout.strip()[-200:])
    # The port is the kernel's choice, and the network is ours only so that there is one to ask over.
    told = ""
    for runtime in ("crun", "runc"):
        run = [*podman, "--runtime", runtime, "run", "--rm", "--name={name}", "--network=host", "--ulimit=nofile=1024:1024",
               "--ulimit=nproc=1024:1024", f"-v{place}:{place}", f"-v{store.directory}:{store.directory}", "wadi-sort-openwhisk",
               "--openwhisk=127.0.0.1:0"]
        try:
            Server([word.replace("{name}", "first") for word in run]).end()
        except AssertionError as e:
            told = str(e)
            continue
        platform = whisk("--pause-grace-ms", 0, "--container", "wadi/sort=" + shlex.join(run))
        assert platform.ask("PUT", "/api/v1/namespaces/_/actions/docked", {"exec": {"kind": "blackbox", "image": "wadi/sort"}})[0] == 200
        report = sort(place, "--generate", "3M", "--maps", 2, "--reduces", 2, "--parallel", 2, "--platform",
                      platform.where + "/docked", env={**platform.env, "WADI_ENDPOINT": store.endpoints["unix"]})
        assert starts(report)["warm"] > 0 and platform.counts()["thawed"] > 0
        return
    pytest.skip("podman runs nothing here: " + told[-200:])


def test_the_action_keeps_to_the_contract_of_the_loop(place, bundle):
    """What OpenWhisk's own tests of a runtime ask for, of our action behind a proxy that does as the contract says."""
    loop = Loop(place, __OW_X="u?a=b==")
    path = os.path.join(place, "part")
    request = {"op": "generate", "output": path, "count": 10, "function_memory": 33554432, "first": "0"}
    try:
        assert loop.post("/run", {"value": {}}) == (500, {"error": "no action defined yet"})
        assert loop.post("/init", {"value": {}})[0] == 403
        assert loop.init(bundle, __OW_MORE="a=b") == (200, {"ok": True})
        assert loop.init(bundle) == (403, {"error": "Cannot initialize the action more than once."})
        for run in (1, 2):
            status, reply = loop.post("/run", {"value": request, "activation_id": "1", "deadline": "99"})
            assert (status, reply["count"], reply["run"]) == (200, 10, run)
        # More than a megabyte, newlines, Unicode, and what is no request.
        assert loop.post("/run", {"value": {**request, "x": "ä€\n" * 600000}})[1]["count"] == 10
        assert loop.post("/run", json.dumps({"value": request}, indent=1).encode(), binary=True)[1]["run"] == 4
        assert loop.post("/run", {"value": {"op": "\u20ac"}})[1]["is_final"] is True
        assert loop.post("/run", {}) == (200, {"error": "the line has no object \"value\"", "is_final": True})
        assert loop.post("/run", {"value": request})[1]["run"] == 7
        pid = running(os.path.join(place, "action/lib/program"))
        with open(f"/proc/{pid}/environ", "rb") as file:
            env = sorted(file.read().decode().rstrip("\0").split("\0"))
        assert env == ["__OW_MORE=a=b", "__OW_WAIT_FOR_ACK=1", "__OW_X=u?a"]
        os.kill(pid, signal.SIGKILL)
        assert loop.post("/run", {"value": request}) == (400, {"error": "command exited"})
    finally:
        loop.end()
    assert loop.out.split("\n").count(MARKER) == loop.err.split("\n").count(MARKER) == 8

