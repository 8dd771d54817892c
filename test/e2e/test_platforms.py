"""The sort on AWS Lambda and on functions behind HTTP: small platforms of our own, frozen functions, throttling, lost
answers, and functions that die, hang and answer nonsense.
"""
import http.server
import json
import os
import signal
import subprocess
import threading

import pytest
from cluster import Cluster
from conftest import REFUSED, UNREACHABLE, Client, until
from test_functions_http import Server
from test_lambda import KEYS, RUNTIME, Lambda
from test_openwhisk import restarted
from test_sort import SORT, place, sort  # noqa: F401, a fixture among them

SMALL = ["--generate", "1M", "--maps", 1, "--reduces", 1]

pytestmark = [pytest.mark.skipif(not os.path.exists(SORT), reason="no " + SORT),
              pytest.mark.skipif(not os.path.exists(RUNTIME), reason="no " + RUNTIME)]


@pytest.fixture
def platform():
    made = []

    def make(*options, **how):
        made.append(Lambda(*options, **how))
        made[-1].options = ["--platform", "lambda://sort"]
        made[-1].env = {**KEYS, "AWS_ENDPOINT_URL_LAMBDA": made[-1].endpoint}
        return made[-1]
    yield make
    for one in made:
        left = one.instances()
        one.stop()
        assert not any(os.path.exists(f"/proc/{pid}") for pid in left)


@pytest.fixture
def served():
    made = []

    def make(*args, **env):
        made.append(Server(*args, **env))
        made[-1].options = ["--platform", f"http://127.0.0.1:{made[-1].port}"]
        return made[-1]
    yield make
    for one in made:
        one.stop()


def starts(report):
    return {kind: report["starts"][kind]["runs"] for kind in ("cold", "warm")}


def test_a_sort_on_lambda_finds_its_instances_warm(place, platform):
    one = platform("--session-token", "token")
    options = ["--generate", "10M", "--maps", 3, "--reduces", 2, "--parallel", 2, *one.options]
    env = {**one.env, "AWS_SESSION_TOKEN": "token"}
    first = sort(place, *options, env=env)
    assert first["platform"] == "lambda" and starts(first) == {"cold": 2, "warm": 11}
    assert first["starts"]["cold"]["init_p50_ms"] > 0 and first["starts"]["warm"]["init_p50_ms"] == 0
    until(lambda: list(one.instances().values()) == ["T", "T"], "two instances, stopped")
    second = sort(place, *options, env=env)
    assert starts(second) == {"cold": 0, "warm": 13} and second["sum"] == first["sum"]


def test_throttling_and_lost_invocations_are_got_over(place, platform):
    one = platform("--concurrency", "2", "--lose-every", "5")
    report = sort(place, "--generate", "3M", "--maps", 4, "--reduces", 2, "--parallel", 3, *one.options, env=one.env)
    assert report["refused"] > 0 and sum(s["runs"] for s in report["stages"]) > sum(s["functions"] for s in report["stages"])


def test_lambda_tells_who_and_what_it_does_not_know(place, platform):
    one = platform()
    for change, code, want in [
            ({"AWS_SECRET_ACCESS_KEY": "x"}, REFUSED, "answered 403: The request signature we calculated does not match"),
            ({"AWS_ACCESS_KEY_ID": "x"}, REFUSED, "answered 403: The security token included in the request is invalid."),
            ({"AWS_SECRET_ACCESS_KEY": ""}, REFUSED, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"),
            ({"AWS_REGION": ""}, REFUSED, "AWS_REGION in the environment"),
            ({"AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:1"}, UNREACHABLE, "Failed to connect")]:
        assert want in sort(place, *SMALL, *one.options, env={**one.env, **change}, code=code)
    assert "answered 404: Function not found: other" in sort(place, *SMALL, "--platform", "lambda://other:1", env=one.env,
                                                             code=REFUSED)


@pytest.mark.parametrize("body,code,want", [
    ("exit 7", REFUSED, "Runtime.ExitError"),
    ("reply response nonsense", REFUSED, "its reply is no JSON object"),
    ("reply response '{}'", REFUSED, "its reply is another one's"),
    ("""reply error '{"errorType":"Sort.Final","errorMessage":"it will not"}'""", REFUSED, "generate 0: it will not"),
    ("sleep 60", 4, "it took too long"),
])
def test_functions_on_lambda_that_do_not_answer_as_they_should(place, platform, tmp_path, body, code, want):
    script = tmp_path / "bootstrap"
    script.write_text(f"""#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
reply() {{ curl -s --noproxy '*' -d "$2" "$api/$id/$1" >/dev/null; }}
while id=$(curl -s --noproxy '*' -D - -o /dev/null "$api/next" | tr -d '\\r' | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p') && [ "$id" ]; do
{body}
done
""")
    script.chmod(0o755)
    one = platform("--timeout", "0.5" if body.startswith("sleep") else "20", "--no-freeze", command=str(script))
    assert want in sort(place, *SMALL, *one.options, env=one.env, code=code)


def test_a_frozen_function_goes_on_with_a_proxy_that_was_restarted_meanwhile(place, platform, tmp_path):
    """So that who is thawed has a connection to nobody."""
    cluster = Cluster(str(tmp_path), shards=1, memory="256M")
    one = platform()
    restarts, over = [], threading.Event()
    thread = threading.Thread(target=restarted, args=(cluster, over, restarts))
    thread.start()
    try:
        for _ in range(20):
            report = sort(place, "--generate", "20M", "--maps", 4, "--reduces", 3, "--parallel", 2, *one.options,
                          env={**one.env, "WADI_ENDPOINT": cluster.roles["proxy"].endpoints["unix"], "WADI_TOKEN": cluster.key})
            assert starts(report)["warm"] > 0
            if len(restarts) >= 2:
                break
    finally:
        over.set()
        thread.join()
        cluster.kill()
    assert len(restarts) >= 2


@pytest.mark.skipif(not os.environ.get("WADI_TEST_LARGE"), reason="WADI_TEST_LARGE is not set: two minutes of standing still")
def test_functions_frozen_for_two_minutes_in_the_middle_of_a_job(place, platform, tmp_path):
    """All instances, in the middle of their runs, and the proxy restarted meanwhile."""
    cluster = Cluster(str(tmp_path), shards=1, memory="1G")
    one = platform("--timeout", "600")
    done = []
    env = {**one.env, "WADI_ENDPOINT": cluster.roles["proxy"].endpoints["unix"], "WADI_TOKEN": cluster.key}
    thread = threading.Thread(target=lambda: done.append(sort(
        place, "--generate", "400M", "--maps", 8, "--reduces", 4, "--parallel", 2, "--timeout", "600s", *one.options, env=env,
        late_s=600)))
    try:
        thread.start()
        until(lambda: any(b"sort-" in line for line in subprocess.run(
            ["ls", place], stdout=subprocess.PIPE, check=True).stdout.splitlines()), "the sort")
        until(lambda: len(one.instances()) == 2, "two instances")
        client = Client(cluster.roles["proxy"].endpoints["tcp"], cluster.key)
        until(lambda: sum(job["dram_bytes"] for job in client.json("top")["jobs"]) > 50000000, "maps have put", late_s=120)
        frozen = list(one.instances())
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        cluster.roles["proxy"].end(signal.SIGKILL)
        cluster.start_proxy()
        threading.Event().wait(120)
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        thread.join(600)
    finally:
        cluster.kill()
    assert done and done[0]["verified"]


def test_a_sort_behind_http(place, served):
    one = served("--http=127.0.0.1:0", "--concurrency=2")
    options = ["--generate", "10M", "--maps", 3, "--reduces", 2, "--parallel", 2, *one.options]
    first = sort(place, *options)
    assert first["platform"] == "http" and starts(first)["cold"] <= 2 and first["refused"] == 0
    assert starts(sort(place, *options)) == {"cold": 0, "warm": 13}


def test_a_server_with_fewer_places_refuses_and_the_sort_goes_on(place, served):
    one = served()
    report = sort(place, "--generate", "30M", "--maps", 2, "--reduces", 2, "--parallel", 2, *one.options)
    assert report["refused"] > 0


def test_a_server_that_dies_is_told(place, served):
    one = served()

    def kill():
        until(lambda: any(name.startswith(".input") for _, _, names in os.walk(place) for name in names), "a function's file")
        one.process.kill()
    thread = threading.Thread(target=kill)
    thread.start()
    told = sort(place, "--generate", "2G", "--parallel", 1, "--timeout", "1s", *one.options, code=4)
    thread.join()
    assert "the platform has refused to run it" in told and "Failed to connect" in told
    assert "Failed to connect" in sort(place, *SMALL, *one.options, code=UNREACHABLE)


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers every POST with what its path says."""

    def do_GET(self):
        self.send_error(405)

    def lie(self, request):
        """It has done all that it was asked for, and there was nothing to do."""
        return {"op": request["op"], "index": request["index"], "count": 0, "sum": "0"}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, body = {"/events": (204, b""), "/nonsense": (200, b"<html>"), "/broken": (500, b"<html>"),
                        "/liar": (200, json.dumps(self.lie(json.loads(body)["value"])).encode()),
                        "/who": (403, b""), "/gone": (404, b""), "/final": (422, b'{"error":"no","is_final":true}'),
                        "/bearer": (200 if self.headers.get("Authorization") == "Bearer s3cret" else 401, b'{"a":1}'),
                        "/azure": (200 if self.headers.get("x-functions-key") == "s3cret" else 401, b'{"a":1}'),
                        "/basic": (200 if self.headers.get("Authorization") == "Basic bWU6czNjcmV0" else 401, b'{"a":1}'),
                        }[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_what_others_answer_is_told(place):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        for path, want in [("/events", "answered 204 and nothing else; is it one for events?"),
                           ("/nonsense", "four times over"), ("/broken", "answered 500"), ("/who", "answered 403"),
                           ("/gone", "answered 404"), ("/liar", "the mappers have read 0 of 10485 records"), ("/final", "generate 0: no")]:
            assert want in sort(place, *SMALL, "--platform", url + path, code=REFUSED)
        for path, auth in [("/bearer", "bearer:s3cret"), ("/azure", "x-functions-key:s3cret"), ("/basic", "me:s3cret")]:
            assert "answered 401" in sort(place, *SMALL, "--platform", url + path, code=REFUSED)
            # Known, and then what it answers is no reply.
            assert "another one's" in sort(place, *SMALL, "--platform", url + path, "--auth", auth, code=REFUSED)
            assert "another one's" in sort(place, *SMALL, "--platform", url + path, env={"WADI_FUNCTION_AUTH": auth}, code=REFUSED)
        path = os.path.join(place, "lines")
        with open(path, "wb") as out:
            out.write(b"b\na\n")
        assert "the mappers have read 0 of 4 bytes" in sort(place, "--format", "lines", "--input", path, *SMALL[2:], "--platform",
                                                            url + "/liar", code=REFUSED)
    finally:
        server.shutdown()
        server.server_close()
