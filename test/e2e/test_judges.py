"""Platforms and clients that others wrote, from npm: they call our functions, and run them for a sort. Each is
skipped, and says so, where npm does not bring it.

Some listen on all addresses: they run in a network namespace of their own, and the sort with them.
"""
import json
import os
import shutil
import signal
import subprocess
import zipfile

import pytest
from cluster import free_ports
from conftest import LATE_S, ROOT, build_target, clean_environment, until
from npm import modules
from test_functions_http import SUM_OF_A_THOUSAND, Server, generate
from test_lambda import KEYS, RUNTIME, Lambda
from test_openwhisk import PLATFORMS
from test_sort import FUNCTION, SORT, place, sort  # noqa: F401, a fixture among them

IS_LARGE = bool(os.environ.get("WADI_TEST_LARGE"))
SIZE = "1G" if IS_LARGE else "5M"
NAMESPACE = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]

pytestmark = pytest.mark.skipif(not os.path.exists(SORT) or not os.path.exists(RUNTIME), reason="no " + SORT)


def test_the_sdk_of_cloudevents_asks_and_understands_the_replies(tmp_path):
    path = modules("@google-cloud/functions-framework@5.0.5")
    server = Server()
    try:
        done = subprocess.run(["node", os.path.join(PLATFORMS, "cloudevents_client.js"), path,
                               f"http://127.0.0.1:{server.port}", json.dumps(generate(tmp_path))],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LATE_S, check=False)
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    reply = [True, "A234", "/wadi/functions", "wadi.function.replied", "1.0", SUM_OF_A_THOUSAND]
    assert json.loads(done.stdout) == {"binary": reply, "structured": reply,
                                       "failed": [422, 'the request\'s "op" must be a string']}


def sort_alone(place, serve, *options):
    """The report of a sort beside a server on port 8080 of a network namespace."""
    if not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no network namespace of one's own here")
    script = """ip link set lo up || exit 99
"$@" >&2 & server=$!
tries=0
until curl -s -o /dev/null --noproxy '*' http://127.0.0.1:8080/ || [ $((tries += 1)) -gt 300 ]; do sleep 0.1; done
$SORT_COMMAND; code=$?
kill $server; wait $server 2>/dev/null
exit $code"""
    words = [SORT, "--json", "--platform", "http://127.0.0.1:8080/", *options]
    done = subprocess.run([*NAMESPACE, "sh", "-c", script, "sh", *serve], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, cwd=place, timeout=20 * LATE_S, check=False,
                          env=clean_environment(TMPDIR=place, WADI_SORT_FN=FUNCTION, SORT_COMMAND=" ".join(words)))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verified"] is True
    assert os.listdir(place) == []
    return report


def small(size=SIZE):
    return ["--generate", size, "--maps", "4", "--reduces", "2", "--parallel", "2"]


@pytest.mark.parametrize("package,serve", [
    ("@google-cloud/functions-framework@5.0.5",
     ["@google-cloud/functions-framework/build/src/main.js", "--source={node}", "--target=sort", "--port=8080"]),
    ("faas-js-runtime@3.0.2", ["faas-js-runtime/bin/cli.js", "{node}/function.js", "--port", "8080"]),
])
def test_a_sort_by_functions_that_a_framework_runs(place, package, serve):
    path = modules(package)
    node = os.path.join(ROOT, "apps/node")
    report = sort_alone(place, ["node", os.path.join(path, serve[0]), *(word.format(node=node) for word in serve[1:])],
                        *small())
    assert report["platform"] == "http" and report["starts"]["cold"]["runs"] <= 2 < report["starts"]["warm"]["runs"]


def started_from(directory):
    """The processes whose program lies there."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read().startswith(os.fsencode(str(directory))):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def test_a_sort_by_the_bootstrap_of_the_bundle_on_vercels_fun(place, tmp_path):
    path = modules("@vercel/fun@1.3.6")
    bundle = tmp_path / "lambda.zip"
    if not build_target("apps/bundle/launch"):
        pytest.skip("no launcher in this build")
    subprocess.run([os.path.join(ROOT, "tools/function-bundle"), "--program", RUNTIME, "--entry", "bootstrap", "--output",
                    str(bundle)], check=True)
    with zipfile.ZipFile(bundle) as archive:
        for entry in archive.infolist():
            os.chmod(archive.extract(entry, tmp_path / "function"), entry.external_attr >> 16)
    process = subprocess.Popen(["node", os.path.join(PLATFORMS, "fun.js"), path, str(tmp_path / "function")],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               env=clean_environment(XDG_CACHE_HOME=str(tmp_path / "cache")))
    try:
        endpoint = process.stdout.readline().strip().removeprefix("endpoint=")
        report = sort(place, *small(), "--platform", "lambda://any", env={**KEYS, "AWS_ENDPOINT_URL_LAMBDA": endpoint})
        assert report["starts"]["cold"]["runs"] >= 1 and report["starts"]["warm"]["runs"] > 2
    finally:
        process.stdin.close()
        try:
            process.wait(LATE_S)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    until(lambda: not started_from(tmp_path), "all bootstraps have ended")


def test_a_sort_by_functions_of_serverless_offline(place, tmp_path):
    path = modules("serverless-offline@14.8.2", "osls@4.3.1")
    for name in ("function.js", "package.json"):
        shutil.copy(os.path.join(ROOT, "apps/node", name), tmp_path)
    os.symlink(path, tmp_path / "node_modules")
    http_port, lambda_port = free_ports(2)
    (tmp_path / "serverless.yml").write_text(f"""
service: wadi
frameworkVersion: '*'
plugins: [serverless-offline]
provider: {{name: aws, runtime: nodejs20.x, timeout: 900, environment: {{WADI_SORT_FN: '{FUNCTION}'}}}}
custom: {{serverless-offline: {{host: 127.0.0.1, httpPort: {http_port}, lambdaPort: {lambda_port}, noPrependStageInUrl: true}}}}
functions: {{sort: {{handler: function.handler}}}}
""")
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(["node", os.path.join(path, "osls/bin/serverless.js"), "offline"], cwd=tmp_path,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                   env=clean_environment(HOME=str(tmp_path), **KEYS))
    try:
        until(lambda: "exposed for local invocation" in (tmp_path / "log").read_text(), "serverless-offline", late_s=10 * LATE_S)
        report = sort(place, *small(), "--platform", "lambda://wadi-dev-sort",
                      env={**KEYS, "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{lambda_port}"})
        assert report["starts"]["warm"]["runs"] > 2
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(LATE_S)


HANDLER = """
exports.handler = async (event, context) => {
  if (event.fail) throw new RangeError('asked to fail')
  return {event, id: context.awsRequestId, left: context.getRemainingTimeInMillis(), pid: process.pid}
}
"""


def test_the_official_runtime_client_finds_its_api(tmp_path):
    """The other way round: what AWS's own runtime makes of the Runtime API of our small platform."""
    if not all(map(shutil.which, ("autoreconf", "libtoolize", "cmake", "g++"))):
        pytest.skip("aws-lambda-ric wants autoconf, automake, libtool, cmake and g++")
    path = modules("aws-lambda-ric@3.3.0", is_built=True)
    (tmp_path / "index.js").write_text(HANDLER)
    script = tmp_path / "bootstrap"
    script.write_text(f"#!/bin/sh\nexec node {path}/aws-lambda-ric/bin/index.mjs index.handler\n")
    script.chmod(0o755)
    one = Lambda("--timeout", "20", command=str(script))
    try:
        first, second = (json.loads(one.invoke({"a": n})[2]) for n in (1, 2))
        assert first["event"] == {"a": 1} and second["event"] == {"a": 2}, one.log
        assert first["pid"] == second["pid"] and first["id"] != second["id"] and 10000 < second["left"] <= 20000
        status, headers, body = one.invoke({"fail": 1})
        assert (status, headers["x-amz-function-error"], json.loads(body)["errorType"]) == (200, "Unhandled", "RangeError")
        assert json.loads(one.invoke({"a": 3})[2])["pid"] == first["pid"]
        until(lambda: list(one.instances().values()) == ["T"], "the runtime, stopped")
    finally:
        one.stop()
