#!/usr/bin/python3
"""A small OpenWhisk: the part of its REST interface that runs actions, in front of /init and /run.

usage: openwhisk.py --auth UUID:KEY [OPTION ...]         prints `endpoint=openwhisk://127.0.0.1:N` when it listens

An action's container is a process group of actionloop.py, or of the program that --image has for its image, or podman's,
by the command that --container has for it. It runs one activation at a time, is stopped (SIGSTOP) when it
has had none for --pause-grace-ms, continued before the next, and removed after --idle-s. Limits are OpenWhisk's own
defaults. --fault KIND:N has every N-th invocation go wrong: 429, 502, 503 or 500 is answered and nothing runs; `lost` runs it
and closes the connection instead of an answer; `killed` kills the container in the middle. An attempt that is said to be the
--spared one only hears 429 and 503, so that a job with faults does not depend on luck. Counts of what happened are
at GET /counts, without a name.
"""
import argparse
import base64
import http.client
import http.server
import json
import os
import re
import resource
import secrets
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
PREFIX = "/api/v1/namespaces/"
NAMESPACE = "guest"
MB = 1 << 20
PAYLOAD_MAX, CODE_MAX = MB, 48 * MB  # of parameters and of results; of code before base64
MEMORY_MB, TIMEOUT_MS = (128, 512), (100, 300000)
MARKER = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
INIT_S = 60
REFUSALS = ("429", "503")  # no attempt, for who asks


class Refusal(Exception):
    """An answer that is an error of the platform's."""

    def __init__(self, status, text, headers=()):
        super().__init__(text)
        self.status, self.headers = status, headers


class Gone(Exception):
    """The container did not answer as it has to."""


class Late(Exception):
    pass


def now_ms():
    return int(time.time() * 1000)


class Container:
    def __init__(self, platform, action):
        self.platform, self.version = platform, action["version"]
        self.directory = tempfile.mkdtemp(prefix="whisk-", dir=platform.directory)
        self.log = open(os.path.join(self.directory, "log"), "w+b")
        self.is_stopped, self.is_idle, self.used = False, False, time.monotonic()
        self.freezing = threading.Lock()  # who is wanted while it is being stopped goes on after that
        env = {"OW_WAIT_FOR_ACK": "1", "__OW_API_HOST": "http://127.0.0.1", **dict(platform.args.env)}
        image = action["exec"].get("image")
        program, container = dict(platform.args.image).get(image), dict(platform.args.container).get(image)
        command, self.podman, self.name = [sys.executable, os.path.join(HERE, "actionloop.py"), "--directory",
                                           os.path.join(self.directory, "action")], None, os.path.basename(self.directory)
        if program:
            command = [program, "--openwhisk=127.0.0.1:0"]
            env.pop("OW_WAIT_FOR_ACK")
        elif container:
            command = shlex.split(container.replace("{name}", self.name))
            self.podman = command[:command.index("run")]
            env = None
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)))
        with platform.lock:
            platform.containers.add(self)
            is_over = platform.is_over
        told = re.search(rb"(\d+)\n", self.process.stdout.readline())
        if is_over or not told:
            self.remove()
            raise Gone("The container did not start.")
        self.port = int(told.group(1))
        threading.Thread(target=self.drain, daemon=True).start()

    def drain(self):
        for line in self.process.stdout:
            self.log.write(line)
            self.log.flush()

    def post(self, path, request, timeout_s):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("POST", path, json.dumps(request), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except TimeoutError:
            raise Late() from None
        except (OSError, ValueError, http.client.HTTPException) as e:
            raise Gone(str(e)) from None
        finally:
            connection.close()

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def freeze(self, word, number):
        """A container by its freezer, a process group by a signal."""
        if self.podman:
            subprocess.run([*self.podman, word, self.name], stdout=subprocess.DEVNULL, check=True)
        else:
            self.signal(number)

    def stop(self):
        with self.freezing:
            if not self.is_idle or self.is_stopped:
                return
            self.is_stopped = True
            self.freeze("pause", signal.SIGSTOP)
            self.platform.count("frozen")

    def go_on(self):
        with self.freezing:
            self.is_idle = False
            if self.is_stopped:
                self.freeze("unpause", signal.SIGCONT)
                self.platform.count("thawed")
            self.is_stopped = False

    def logs(self):
        """What came since the last time, without the marker."""
        data = os.pread(self.log.fileno(), MB, 0).decode(errors="replace")
        os.ftruncate(self.log.fileno(), 0)
        self.log.seek(0)
        return [line for line in data.splitlines() if line != MARKER][-100:]

    def remove(self):
        with self.platform.lock:
            if self not in self.platform.containers:
                return  # somebody else does it
            self.platform.containers.remove(self)
        for words in (["unpause", self.name], ["rm", "-f", "-t", "0", self.name]) if self.podman else ():
            subprocess.run([*self.podman, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class Platform:
    def __init__(self, args):
        self.args = args
        self.directory = tempfile.mkdtemp(prefix="openwhisk-")
        self.lock = threading.Lock()
        self.actions, self.activations = {}, {}
        self.containers, self.idle = set(), []  # all of them; those that run nothing
        self.running, self.invoked, self.minute = 0, 0, []
        self.counts, self.is_over = {}, False

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    # Actions

    def put(self, name, body, overwrite):
        limits = {"memory": 256, "timeout": 60000, "logs": 10, **(body.get("limits") or {})}
        for what, (least, most) in (("memory", MEMORY_MB), ("timeout", TIMEOUT_MS)):
            if not least <= limits[what] <= most:
                raise Refusal(400, "The request content was malformed:\nrequirement failed: "
                                   f"{what} {limits[what]} is not within {least} and {most}")
        execution = body.get("exec") or {}
        if not isinstance(execution.get("kind"), str):
            raise Refusal(400, "The request content was malformed:\n'kind' must be a string defined in 'exec'")
        if len(execution.get("code") or "") > CODE_MAX * 4 // 3:
            raise Refusal(413, "The action code exceeds the limit of 48 MB")
        with self.lock:
            old = self.actions.get(name)
            if old and not overwrite:
                raise Refusal(409, "resource already exists")
            version = f"0.0.{int(old['version'].split('.')[2]) + 1 if old else 1}"
            annotations = [a for a in body.get("annotations") or [] if a.get("key") != "exec"]
            self.actions[name] = {"namespace": NAMESPACE, "name": name, "version": version, "publish": False,
                                  "exec": execution, "limits": limits, "updated": now_ms(),
                                  "annotations": [*annotations, {"key": "exec", "value": execution["kind"]}],
                                  "parameters": body.get("parameters") or []}
            return self.actions[name]

    def action(self, name):
        if name not in self.actions:
            raise Refusal(404, "The requested resource does not exist.")
        return self.actions[name]

    # Containers

    def container(self, action):
        """One that is idle, or a new one, and how long its initialisation took, in ms."""
        with self.lock:
            for container in reversed(self.idle):
                if container.version == action["version"]:
                    self.idle.remove(container)
                    break
            else:
                container = None
        if container:
            container.go_on()
            return container, 0
        container = Container(self, action)
        begin = time.monotonic()
        try:
            status, answer = container.post("/init", {"value": {
                "name": action["name"], "main": action["exec"].get("main", "main"), "code": action["exec"].get("code", ""),
                "binary": bool(action["exec"].get("binary")),
                "env": {"__OW_ACTION_NAME": f"/{NAMESPACE}/{action['name']}", "__OW_NAMESPACE": NAMESPACE,
                        "__OW_ACTION_VERSION": action["version"]}}}, INIT_S)
        except (Gone, Late) as e:
            container.remove()
            raise Gone(f"The action did not initialize: {e}") from None
        if status != 200:
            container.remove()
            raise Gone(answer.get("error", "The action did not initialize."))
        self.count("cold")
        return container, max(1, int((time.monotonic() - begin) * 1000))

    def give_back(self, container):
        container.used, container.is_idle = time.monotonic(), True
        with self.lock:
            self.idle.append(container)

    def look_round(self):
        """Freezes who has had nothing to do, removes who has had nothing for long."""
        while True:
            time.sleep(0.01)
            with self.lock:
                stop = [c for c in self.idle if not c.is_stopped
                        and time.monotonic() - c.used > self.args.pause_grace_ms / 1000]
                remove = [c for c in self.idle if time.monotonic() - c.used > self.args.idle_s]
                self.idle = [c for c in self.idle if c not in remove]
            for container in stop:
                if container not in remove:
                    container.stop()
            for container in remove:
                container.remove()

    # Activations

    def refuse(self):
        """What an invocation has to pass before it runs."""
        with self.lock:
            now = time.monotonic()
            self.minute = [t for t in self.minute if now - t < 60]
            if self.running >= self.args.concurrent:
                text = f"Too many concurrent requests in flight (count: {self.running}, allowed: {self.args.concurrent})."
            elif len(self.minute) >= self.args.per_minute:
                text = f"Too many requests in the last minute (count: {len(self.minute)}, allowed: {self.args.per_minute})."
            else:
                self.minute.append(now)
                self.running += 1
                self.invoked += 1
                return self.invoked
        self.count("throttled")
        raise Refusal(429, text)

    def fault(self, number, parameters):
        for kind, every in self.args.fault:
            if number % every == 0 and (kind in REFUSALS or parameters.get("attempt") != self.args.spared):
                self.count("fault")
                return kind
        return None

    def activate(self, action, parameters):
        fault = self.fault(self.refuse(), parameters)
        if fault and fault.isdigit():
            with self.lock:
                self.running -= 1
            raise Refusal(int(fault), f"every so often there is a {fault} here", [("Retry-After", "0")])
        record = {"activationId": secrets.token_hex(16), "namespace": NAMESPACE, "name": action["name"],
                  "version": action["version"], "subject": NAMESPACE, "publish": False, "start": now_ms(), "end": 0,
                  "duration": 0, "logs": [], "response": None,
                  "annotations": [{"key": "path", "value": f"{NAMESPACE}/{action['name']}"},
                                  {"key": "kind", "value": action["exec"]["kind"]},
                                  {"key": "limits", "value": action["limits"]}]}
        done = threading.Event()
        threading.Thread(target=self.run, args=(action, parameters, record, done, fault), daemon=True).start()
        return record, done, fault

    def run(self, action, parameters, record, done, fault):
        asked = time.monotonic()
        container, response = None, None
        timeout_ms = action["limits"]["timeout"]
        try:
            container, init_ms = self.container(action)
            record["annotations"].append({"key": "waitTime", "value": int((time.monotonic() - asked) * 1000) - init_ms})
            if init_ms:
                record["annotations"].append({"key": "initTime", "value": init_ms})
            if fault == "killed":
                threading.Timer(0.005, container.signal, (signal.SIGKILL,)).start()
            status, answer = container.post("/run", {
                "value": parameters, "namespace": NAMESPACE, "action_name": f"/{NAMESPACE}/{action['name']}",
                "api_host": "http://127.0.0.1", "activation_id": record["activationId"],
                "deadline": str(now_ms() + timeout_ms)}, timeout_ms / 1000)
            response = self.response(status, answer)
            record["logs"] = container.logs()
        except Late:
            response = failed(f"The action exceeded its time limits of {timeout_ms} milliseconds.")
        except Gone as e:
            response = failed(f"The action did not produce a valid response and exited unexpectedly. {e}")
        if container and response["status"] in ("success", "application error"):
            self.give_back(container)
        elif container:
            container.remove()
        record.update(response=response, end=now_ms(), duration=now_ms() - record["start"])
        with self.lock:
            self.activations[record["activationId"]] = record
            self.running -= 1
        self.count("ran")
        done.set()

    @staticmethod
    def response(status, answer):
        if len(json.dumps(answer)) > PAYLOAD_MAX:
            return failed(f"The action produced a response that exceeded the allowed length: > {PAYLOAD_MAX} bytes.")
        if status != 200 or not isinstance(answer, dict):
            return failed(answer.get("error", "no answer") if isinstance(answer, dict) else "no object")
        if "error" in answer:
            return {"status": "application error", "statusCode": 1, "success": False, "result": answer}
        return {"status": "success", "statusCode": 0, "success": True, "result": answer}

    def close(self):
        """Nothing is left of those that run, either."""
        with self.lock:
            self.is_over = True
            containers = list(self.containers)
        for container in containers:
            container.remove()
        shutil.rmtree(self.directory, ignore_errors=True)


def failed(text):
    return {"status": "action developer error", "statusCode": 2, "success": False, "result": {"error": text}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    platform = None

    def answer(self, status, body, headers=()):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(data)

    def check_auth(self):
        want = "Basic " + base64.b64encode(self.platform.args.auth.encode()).decode()
        if not secrets.compare_digest(self.headers.get("Authorization", ""), want):
            raise Refusal(401, "The supplied authentication is invalid.", [("WWW-Authenticate", "Basic")])

    def body(self, most):
        length = int(self.headers.get("Content-Length") or 0)
        if length > most:
            self.close_connection = True
            raise Refusal(413, f"Request larger than allowed: {length} > {most} bytes.")
        data = self.rfile.read(length)
        try:
            body = json.loads(data or b"{}")
        except ValueError as e:
            raise Refusal(400, f"The request content was malformed:\n{e}") from None
        if not isinstance(body, dict):
            raise Refusal(400, "The request content was malformed:\nObject expected")
        return body

    def invoke(self, name, query):
        action = self.platform.action(name)
        record, done, fault = self.platform.activate(action, self.body(PAYLOAD_MAX))
        wait_s = self.platform.args.blocking_ms / 1000
        if query.get("blocking") != "true" or not done.wait(wait_s):
            return self.answer(202, {"activationId": record["activationId"]})
        if fault == "lost":
            self.close_connection = True
            return None
        response = record["response"]
        body = response["result"] if query.get("result") == "true" else record
        return self.answer(200 if response["success"] else 502, body)

    def of_actions(self, name, query):
        platform = self.platform
        if self.command == "POST" and name:
            return self.invoke(name, query)
        if self.command == "PUT" and name:
            action = platform.put(name, self.body(CODE_MAX * 2), query.get("overwrite") == "true")
        elif self.command == "DELETE" and name:
            action = platform.action(name)
            del platform.actions[name]
        elif self.command == "GET" and not name:
            return self.answer(200, [without_code(a) for a in platform.actions.values()])
        elif self.command == "GET":
            action = platform.action(name)
        else:
            raise Refusal(405, "HTTP method not allowed")
        return self.answer(200, action if self.command == "GET" and query.get("code") != "false" else without_code(action))

    def of_activations(self, name, query):
        records = self.platform.activations
        identity, _, part = name.partition("/")
        if not identity:
            kept = sorted((r for r in records.values() if query.get("name") in (None, r["name"])),
                          key=lambda r: -r["start"])
            skip = int(query.get("skip", 0))
            return self.answer(200, kept[skip:skip + int(query.get("limit", 30))])
        if identity not in records:
            raise Refusal(404, "The requested resource does not exist.")
        record = records[identity]
        return self.answer(200, {"": record, "result": record["response"], "logs": {"logs": record["logs"]}}[part])

    def route(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/counts":
            return self.answer(200, self.platform.counts)
        if not url.path.startswith(PREFIX):
            raise Refusal(404, "The requested resource could not be found.")
        self.check_auth()
        words = [urllib.parse.unquote(w) for w in url.path[len(PREFIX):].split("/")]
        if words == [""]:
            return self.answer(200, [NAMESPACE])
        if words[0] not in ("_", NAMESPACE):
            raise Refusal(403, "The supplied authentication is not authorized to access this resource.")
        of = {"actions": self.of_actions, "activations": self.of_activations}.get(words[1] if len(words) > 1 else "")
        if not of:
            raise Refusal(404, "The requested resource could not be found.")
        return of("/".join(words[2:]), query)

    def handle_any(self):
        try:
            self.route()
        except Refusal as e:
            self.close_connection = True  # what was not read of a request is no request
            self.answer(e.status, {"error": str(e), "code": secrets.token_hex(16)}, [*e.headers, ("Connection", "close")])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def log_message(self, format, *args):
        pass


def without_code(action):
    return {**action, "exec": {k: v for k, v in action["exec"].items() if k != "code"}}


def pair(kind):
    def parse(text):
        left, _, right = text.partition(kind)
        return left, right
    return parse


def fault(text):
    kind, _, every = text.partition(":")
    return kind, int(every)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1][7:])
    parser.add_argument("--auth", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--pause-grace-ms", type=float, default=10000)
    parser.add_argument("--idle-s", type=float, default=600)
    parser.add_argument("--concurrent", type=int, default=100)
    parser.add_argument("--per-minute", type=int, default=120)
    parser.add_argument("--blocking-ms", type=float, default=60000)
    parser.add_argument("--env", type=pair("="), action="append", default=[], help="NAME=VALUE for every container")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--image", type=pair("="), action="append", default=[], help="IMAGE=PROGRAM that is all of it")
    parser.add_argument("--container", type=pair("="), action="append", default=[],
                        help="IMAGE=COMMAND that runs one in the foreground, with {name} for its name")
    parser.add_argument("--fault", type=fault, action="append", default=[])
    parser.add_argument("--spared", type=int, metavar="ATTEMPT")
    args = parser.parse_args()
    platform = Handler.platform = Platform(args)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", args.port), Handler)
    server.daemon_threads = True
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*args.tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=platform.look_round, daemon=True).start()

    def end(number, frame):
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    print(f"endpoint=openwhisk://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    finally:
        platform.close()


if __name__ == "__main__":
    main()
