"""The functions of the sort as a custom runtime of AWS Lambda, on a small Lambda of our own
(test/platforms/lambda.py), which stops its instances between invocations.
"""
import base64
import glob
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from conftest import BUILD, LATE_S, ROOT, clean_environment, until

RUNTIME = os.path.join(BUILD, "apps/lambda/wadi-sort-lambda")
PLATFORM = os.path.join(ROOT, "test/platforms/lambda.py")
SUM_OF_A_THOUSAND = "1f9ffe645ec"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "AWS_REGION": "eu-test-1"}

pytestmark = [pytest.mark.skipif(not os.path.exists(RUNTIME), reason="no " + RUNTIME),
              pytest.mark.skipif(not shutil.which("curl"), reason="no curl, which signs as AWS wants it")]


class Lambda:
    """The platform, with one function, `sort`, and curl as its caller."""

    def __init__(self, *options, command=RUNTIME):
        self.process = subprocess.Popen([sys.executable, PLATFORM, "--function", f"sort={command}", *options],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=clean_environment())
        self.log = ""
        self.endpoint = self.process.stdout.readline().strip().removeprefix("endpoint=")
        assert self.process.stdout.readline() == "ready\n"
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            self.log += line

    def invoke(self, event, *options, name="sort", user=None):
        """Status, headers and body of the answer."""
        done = subprocess.run(
            ["curl", "-s", "-i", "--noproxy", "*", "--max-time", str(LATE_S), "--aws-sigv4", "aws:amz:eu-test-1:lambda", "--user",
             user or f"{KEYS['AWS_ACCESS_KEY_ID']}:{KEYS['AWS_SECRET_ACCESS_KEY']}", "-H",
             "Content-Type: application/json", "--data-binary", "@-", *options,
             f"{self.endpoint}/2015-03-31/functions/{name}/invocations"],
            input=(event if isinstance(event, str) else json.dumps(event)).encode(), stdout=subprocess.PIPE, check=True)
        head, body = done.stdout.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(first.split()[1]), headers, body

    def instances(self):
        """The processes of functions, and their states in /proc."""
        found = {}
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path) as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid:
                found[int(path.split("/")[2])] = fields[0]
        return found

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(LATE_S) in (0, -signal.SIGTERM)
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def platform():
    made = []

    def make(*options, **how):
        made.append(Lambda(*options, **how))
        return made[-1]
    yield make
    for one in made:
        left = one.instances()
        one.stop()
        assert not any(os.path.exists(f"/proc/{pid}") for pid in left)


def generate(tmp_path, **more):
    return {"value": {"op": "generate", "count": 1000, "function_memory": 32 << 20, "output": str(tmp_path / "part"),
                      **more}}


def waits(store, timeout_ms=60000):
    """A run that waits in the store for a map that nobody runs."""
    job = store.job()
    return {"value": {"op": "reduce", "function_memory": 64 << 20, "maps": 1, "output": "/dev/null",
                      "timeout_ms": timeout_ms, "store": {"url": store.endpoints["tcp"], "token": job.token,
                                                          "job": job.job}}}


def test_the_judge_signs_as_the_documentation_of_aws_does():
    spec = importlib.util.spec_from_file_location("platform_lambda", PLATFORM)
    lambda_py = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lambda_py)
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8", "host": "iam.amazonaws.com",
               "x-amz-date": "20150830T123600Z"}
    request = lambda_py.canonical_request("GET", "/", "Action=ListUsers&Version=2010-05-08", headers, sorted(headers),
                                          lambda_py.sha256(b""))
    assert lambda_py.sha256(request.encode()) == "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
    assert lambda_py.signature_of(KEYS["AWS_SECRET_ACCESS_KEY"], "20150830T123600Z", "us-east-1", "iam", request) == \
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"


def test_an_instance_is_made_once_and_stopped_between_its_runs(platform, tmp_path):
    one = platform()
    for run in (1, 2, 3):
        status, headers, body = one.invoke(generate(tmp_path), "-H", "X-Amz-Log-Type: Tail")
        reply = json.loads(body)
        assert (status, reply["sum"], reply["run"]) == (200, SUM_OF_A_THOUSAND, run)
        report = base64.b64decode(headers["x-amz-log-result"]).decode()
        assert ("Init Duration" in report) == (run == 1)
        until(lambda: list(one.instances().values()) == ["T"], "one instance, stopped")


def test_what_lambda_refuses_and_what_the_function_does(platform, tmp_path):
    one = platform()
    status, headers, body = one.invoke({"value": {"op": "fly", "function_memory": 32 << 20}})
    assert (status, headers["x-amz-function-error"]) == (200, "Unhandled")
    assert json.loads(body) == {"errorMessage": 'no function "fly"', "errorType": "Sort.Final", "stackTrace": []}
    status, _, body = one.invoke(generate(tmp_path / "nowhere"))
    assert status == 200 and json.loads(body)["errorType"] == "Sort.Failed"
    assert one.invoke("[" * 100000 + "]" * 100000)[0] == 400
    assert one.invoke(generate(tmp_path), name="other")[0] == 404
    assert one.invoke(generate(tmp_path), user="AKIDEXAMPLE:wrong")[1]["x-amzn-errortype"] == "InvalidSignatureException"
    assert one.invoke(" " * (6 << 20) + "{}")[0] == 413
    assert one.invoke(generate(tmp_path), "-H", "X-Amz-Invocation-Type: DryRun")[0] == 204
    path = tmp_path / "later"
    path.mkdir()
    assert one.invoke(generate(path), "-H", "X-Amz-Invocation-Type: Event")[0] == 202
    until(lambda: os.path.exists(path / "part"), "the event's run")


def test_a_run_that_waits_gives_up_in_time_to_say_so(platform, store, tmp_path):
    one = platform("--timeout", "4")
    status, _, body = one.invoke(waits(store))
    error = json.loads(body)
    # Of its four seconds, some have passed already on a machine that does much else.
    assert (status, error["errorType"]) == (200, "Sort.Failed"), error
    assert re.search("waited [123] s for 1 objects", error["errorMessage"]), error
    assert json.loads(one.invoke(generate(tmp_path))[2])["run"] == 2


def test_an_instance_that_is_killed_is_told_and_another_one_made(platform, store, tmp_path):
    one = platform()
    results = []
    until(lambda: store.client().top()["waiting"] == 0, "those of other tests to be over")
    caller = threading.Thread(target=lambda: results.append(one.invoke(waits(store))))
    caller.start()
    # One that is killed before it has asked for its run has exited "without providing a reason".
    until(lambda: store.client().top()["waiting"] >= 1, "it runs")
    [pid] = one.instances()
    os.kill(pid, signal.SIGKILL)
    caller.join(LATE_S)
    status, headers, body = results[0]
    assert (status, headers["x-amz-function-error"]) == (200, "Unhandled")
    assert json.loads(body)["errorType"] == "Runtime.ExitError" and "killed" in json.loads(body)["errorMessage"]
    assert json.loads(one.invoke(generate(tmp_path))[2])["run"] == 1


def test_a_start_that_cannot_be_is_told_once(platform, tmp_path):
    one = platform("--environment", "WADI_ENDPOINT=ftp://nowhere")
    status, headers, body = one.invoke(generate(tmp_path))
    assert (status, headers["x-amz-function-error"]) == (200, "Unhandled")
    assert json.loads(body)["errorType"] == "Sort.NoEndpoint"
    until(lambda: "WADI_ENDPOINT is no endpoint: ftp://nowhere" in one.log, "its log")


def test_a_runtime_without_its_api_ends_and_says_so():
    for env, error in [({}, "AWS_LAMBDA_RUNTIME_API is not there"),
                       ({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}, "no next invocation")]:
        done = subprocess.run([RUNTIME], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LATE_S,
                              env=clean_environment(**env), check=False)
        assert done.returncode == 1 and error in done.stderr
