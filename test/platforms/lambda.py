#!/usr/bin/python3
"""AWS Lambda as functions and their callers see it: the Runtime API and the Invoke API.

usage: test/platforms/lambda.py [--function NAME=COMMAND]... [OPTION]...

Each instance is a process with a Runtime API of its own, and is stopped (SIGSTOP, with all its
children) from its `next` to the next invocation. An invocation gets an idle instance or a new one.
Callers sign with SigV4. Prints `endpoint=URL`, then `ready`; SIGTERM ends it and all instances.
"""
import argparse
import base64
import collections
import datetime
import hashlib
import hmac
import http.server
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid

SYNCHRONOUS_MAX, EVENT_MAX = 6 << 20, 256 << 10
RESPONSE_MAX = (6 << 20) + 100
INIT_S = 10  # as Lambda allows
LOG_TAIL = 4096


# Signatures, from the documentation of Signature Version 4.

def sha256(data):
    return hashlib.sha256(data).hexdigest()


def canonical_request(method, path, query, headers, signed, payload_hash):
    """`path` as it was sent; every service but S3 encodes it once more."""
    path = urllib.parse.quote(urllib.parse.unquote(path), safe="/-_.~")
    path = urllib.parse.quote(path, safe="/-_.~")
    pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
    query = "&".join(f"{urllib.parse.quote(k, safe='-_.~')}={urllib.parse.quote(v, safe='-_.~')}" for k, v in pairs)
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signed)
    return "\n".join([method, path, query, lines, ";".join(signed), payload_hash])


def signature_of(secret, date, region, service, request):
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, sha256(request.encode())])
    key = ("AWS4" + secret).encode()
    for part in (date[:8], region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def signature_problem(keys, method, target, headers, body):
    """Why a request is not who it says, or None. `keys`: secret and session token by access key."""
    found = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/, ]+)/(\d{8})/([^/, ]+)/([^/, ]+)/aws4_request, ?"
                         r"SignedHeaders=([^, ]+), ?Signature=([0-9a-f]{64})", headers.get("authorization", ""))
    if not found:
        return "MissingAuthenticationTokenException", "Missing Authentication Token"
    access, day, region, service, signed, signature = found.groups()
    signed = signed.split(";")
    date = headers.get("x-amz-date", "")
    if access not in keys:
        return "UnrecognizedClientException", "The security token included in the request is invalid."
    secret, token = keys[access]
    if token and headers.get("x-amz-security-token") != token:
        return "UnrecognizedClientException", "The security token included in the request is invalid."
    must = {"host", "x-amz-date"} | ({"x-amz-security-token"} if token else set())
    if signed != sorted(signed) or must - set(signed) or set(signed) - set(headers) or service != "lambda":
        return "InvalidSignatureException", f"these headers are not all signed: {sorted(must)}"
    try:
        at = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return "IncompleteSignatureException", "Date must be in ISO-8601 'basic format'."
    if date[:8] != day or abs(time.time() - at.timestamp()) > 300:
        return "InvalidSignatureException", f"Signature expired: {date}"
    path, _, query = target.partition("?")
    request = canonical_request(method, path, query, headers, signed, sha256(body))
    if not hmac.compare_digest(signature_of(secret, date, region, service, request), signature):
        return "InvalidSignatureException", ("The request signature we calculated does not match the signature you "
                                             "provided. Check your AWS Secret Access Key and signing method.")
    return None


# Instances.

Outcome = collections.namedtuple("Outcome", "body error")  # error: None, or Handled, Unhandled


def error_body(kind, message):
    return json.dumps({"errorMessage": message, "errorType": kind}).encode()


class Invocation:
    def __init__(self, event, client_context):
        self.id = str(uuid.uuid4())
        self.event, self.client_context = event, client_context
        self.deadline = self.outcome = None


class Instance:
    """INIT --next--> IDLE, stopped --invocation--> BUSY --next--> IDLE; or it is gone."""

    def __init__(self, function):
        self.function = function
        self.changed = threading.Condition()
        self.state, self.current, self.init_error = "INIT", None, None
        self.log = bytearray()
        self.began = time.monotonic()
        self.init_ms, self.has_run = None, False
        self.server = RuntimeServer(self)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TZ": ":UTC", "_HANDLER": function.handler,
               "LAMBDA_TASK_ROOT": function.directory, "LAMBDA_RUNTIME_DIR": "/var/runtime",
               "AWS_LAMBDA_FUNCTION_NAME": function.name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
               "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512", "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
               "AWS_LAMBDA_LOG_STREAM_NAME": uuid.uuid4().hex, "AWS_REGION": "eu-test-1",
               "AWS_DEFAULT_REGION": "eu-test-1", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
               "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}", **function.environment}
        self.process = subprocess.Popen(function.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=env, cwd=function.directory,
                                        start_new_session=True)
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        """Its log, up to its end."""
        for chunk in iter(lambda: self.process.stdout.read1(4096), b""):
            self.log += chunk
            sys.stderr.write(chunk.decode(errors="replace"))
        status = self.process.wait()
        with self.changed:
            self.state = "GONE"
            if self.current and not self.current.outcome:
                what = f"exit status {status}" if status >= 0 else f"signal: {signal.strsignal(-status).lower()}"
                self.current.outcome = Outcome(error_body(
                    "Runtime.ExitError", f"RequestId: {self.current.id} Error: Runtime exited with error: {what}"),
                    "Unhandled")
            self.changed.notify_all()
        self.server.shutdown()
        self.server.server_close()

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def kill(self):
        self.signal(signal.SIGKILL)

    def freeze(self):
        if self.function.options.freeze:
            self.signal(signal.SIGSTOP)

    def invoke(self, invocation):
        """Waits for the outcome; an instance that is late is killed."""
        with self.changed:
            self.current = invocation
            self.changed.notify_all()
        self.signal(signal.SIGCONT)
        with self.changed:
            over = lambda: invocation.outcome or self.init_error or self.state == "GONE"  # noqa: E731
            self.changed.wait_for(lambda: over() or self.state == "BUSY", INIT_S)
            if not self.changed.wait_for(over, self.function.options.timeout):
                self.state = "GONE"
                invocation.outcome = Outcome(error_body(
                    "Sandbox.Timedout", f"{datetime.datetime.utcnow():%Y-%m-%dT%H:%M:%S.%fZ} {invocation.id} "
                    f"Task timed out after {self.function.options.timeout:.2f} seconds"), "Unhandled")
            outcome = invocation.outcome
            if self.init_error:
                outcome = Outcome(self.init_error, "Unhandled")
                self.state = "GONE"
            if not outcome:  # it went before it asked
                outcome = Outcome(error_body("Runtime.ExitError", f"RequestId: {invocation.id} Error: Runtime exited "
                                             "without providing a reason"), "Unhandled")
        if self.state == "GONE":
            self.kill()
        return outcome

    def give_next(self):
        """An invocation for who asked, who is stopped until there is one; None: it is gone."""
        with self.changed:
            if self.init_ms is None:
                self.init_ms = (time.monotonic() - self.began) * 1000
            if self.current and self.current.outcome:
                self.current = None
            if self.state != "GONE":
                self.state = "IDLE"
            self.changed.notify_all()
            if not self.current:
                self.freeze()
            while not self.current and self.state != "GONE":
                self.changed.wait()
            if self.state == "GONE":
                return None
            self.state = "BUSY"
            self.current.deadline = time.time() + self.function.options.timeout
            self.changed.notify_all()
            return self.current

    def take_outcome(self, request_id, outcome):
        with self.changed:
            if not self.current or self.current.id != request_id:
                return 400, "InvalidRequestID"
            if self.current.outcome:
                return 403, "InvalidStateTransition"
            self.current.outcome = outcome
            self.changed.notify_all()
            return 202, None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)
        self.wfile.flush()

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # who goes in the middle is not our trouble


class RuntimeHandler(Handler):
    def refuse(self, status, kind):
        self.answer(status, error_body(kind, kind))

    def do_GET(self):
        if self.path != "/2018-06-01/runtime/invocation/next":
            self.refuse(404, "NotFound")
            return
        invocation = self.server.instance.give_next()
        if not invocation:
            self.close_connection = True
            return
        headers = {"Lambda-Runtime-Aws-Request-Id": invocation.id,
                   "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                   "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{invocation.id.replace('-', '')[:24]}",
                   "Lambda-Runtime-Invoked-Function-Arn":
                       f"arn:aws:lambda:eu-test-1:000000000000:function:{self.server.instance.function.name}"}
        if invocation.client_context:
            headers["Lambda-Runtime-Client-Context"] = invocation.client_context
        self.answer(200, invocation.event, headers)

    def do_POST(self):
        instance, body = self.server.instance, self.body()
        found = re.fullmatch(r"/2018-06-01/runtime/invocation/([^/]+)/(response|error)", self.path)
        if self.path == "/2018-06-01/runtime/init/error":
            with instance.changed:
                instance.init_error = body
                instance.changed.notify_all()
            self.answer(202, b'{"status":"OK"}')
            return
        if not found:
            self.refuse(404, "NotFound")
            return
        request_id, kind = found.groups()
        if kind == "response" and len(body) > RESPONSE_MAX:
            self.refuse(413, "RequestEntityTooLarge")
            return
        status, problem = instance.take_outcome(request_id, Outcome(body, None if kind == "response" else "Unhandled"))
        if problem:
            self.refuse(status, problem)
        else:
            self.answer(202, b'{"status":"OK"}')


class RuntimeServer(Server):
    def __init__(self, instance):
        super().__init__(("127.0.0.1", 0), RuntimeHandler)
        self.instance = instance


# Functions, and who calls them.

class Function:
    def __init__(self, name, command, environment, options):
        self.name, self.command, self.environment, self.options = name, shlex.split(command), environment, options
        self.handler = options.handler
        self.directory = os.path.dirname(os.path.abspath(self.command[0])) if os.path.sep in command else os.getcwd()
        self.lock = threading.Lock()
        self.idle, self.busy = [], 0
        self.instances = []

    def take(self):
        """An idle instance, else a new one; None: as many as may be are busy."""
        with self.lock:
            if self.busy >= self.options.concurrency:
                return None
            self.busy += 1
            self.idle = [i for i in self.idle if i.state != "GONE"]
            if self.idle:
                return self.idle.pop()
        instance = Instance(self)
        with self.lock:
            self.instances.append(instance)
        return instance

    def give(self, instance):
        """Once it has asked for the next, which is the end of an invocation; who does not has a bug."""
        with instance.changed:
            if not instance.changed.wait_for(lambda: instance.state in ("IDLE", "GONE"), INIT_S):
                instance.kill()
        with self.lock:
            self.busy -= 1
            if instance.state == "IDLE":
                self.idle.append(instance)

    def invoke(self, event, client_context=None):
        """Outcome, log and whether it was a cold start; None: throttled."""
        instance = self.take()
        if not instance:
            return None
        is_cold, mark, began = not instance.has_run, len(instance.log), time.monotonic()
        instance.has_run = True
        invocation = Invocation(event, client_context)
        outcome = instance.invoke(invocation)
        took = (time.monotonic() - began) * 1000
        report = f"REPORT RequestId: {invocation.id}\tDuration: {took:.2f} ms\tMemory Size: 512 MB"
        if is_cold and instance.init_ms:
            report += f"\tInit Duration: {instance.init_ms:.2f} ms\t"
        self.give(instance)
        return outcome, bytes(instance.log[mark:]) + report.encode() + b"\n"

    def stop(self):
        for instance in self.instances:
            instance.kill()
            instance.process.wait()


class InvokeHandler(Handler):
    def refuse(self, status, kind, message, more=None):
        self.answer(status, json.dumps({"message": message, "Type": "User", **(more or {})}).encode(),
                    {"x-amzn-ErrorType": kind})

    def do_POST(self):
        body = self.body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        problem = signature_problem(self.server.keys, "POST", self.path, headers, body)
        if problem:
            self.refuse(403, *problem)
            return
        path, _, query = self.path.partition("?")
        found = re.fullmatch(r"/2015-03-31/functions/([A-Za-z0-9_%:-]+)/invocations", path)
        name = urllib.parse.unquote(found.group(1)).split(":")[-1] if found else None
        if name not in self.server.functions:
            self.refuse(404, "ResourceNotFoundException", f"Function not found: {name}")
            return
        self.invoke(self.server.functions[name], headers, body)

    def invoke(self, function, headers, body):
        kind = headers.get("x-amz-invocation-type", "RequestResponse")
        limit = EVENT_MAX if kind == "Event" else SYNCHRONOUS_MAX
        if len(body) > limit:
            self.refuse(413, "RequestTooLargeException",
                        f"Request must be smaller than {limit} bytes for the InvokeFunction operation")
            return
        try:
            json.loads(body or b"{}")
        except (ValueError, RecursionError):
            self.refuse(400, "InvalidRequestContentException", "Could not parse request body into json")
            return
        if kind == "DryRun":
            self.answer(204)
            return
        if kind == "Event":
            threading.Thread(target=function.invoke, args=(body,), daemon=True).start()
            self.answer(202)
            return
        if self.server.chaos():
            self.refuse(500, "ServiceException", "The AWS Lambda service encountered an internal error.",
                        {"Type": "Service"})
            return
        done = function.invoke(body, headers.get("x-amz-client-context"))
        if not done:
            self.refuse(429, "TooManyRequestsException", "Rate Exceeded.",
                        {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"})
            return
        outcome, log = done
        more = {"X-Amz-Executed-Version": "$LATEST"}
        if outcome.error:
            more["X-Amz-Function-Error"] = outcome.error
        if headers.get("x-amz-log-type") == "Tail":
            more["X-Amz-Log-Result"] = base64.b64encode(log[-LOG_TAIL:]).decode()
        self.answer(200, outcome.body, more)


class InvokeServer(Server):
    request_queue_size = 128

    def __init__(self, options):
        super().__init__(("127.0.0.1", options.port), InvokeHandler)
        self.options = options
        self.keys = {options.access_key: (options.secret_key, options.session_token)}
        environment = dict(pair.split("=", 1) for pair in options.environment)
        self.functions = {}
        for pair in options.function:
            name, command = pair.split("=", 1)
            self.functions[name] = Function(name, command, environment, options)
        self.count = 0

    def chaos(self):
        """True for every n-th invocation, which the service itself loses."""
        self.count += 1
        return self.options.lose_every and self.count % self.options.lose_every == 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1][7:])
    parser.add_argument("--function", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--environment", action="append", default=[], metavar="NAME=VALUE", help="of the functions")
    parser.add_argument("--handler", default="index.handler")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=60, help="seconds of an invocation")
    parser.add_argument("--concurrency", type=int, default=1000, help="invocations of a function at once; else 429")
    parser.add_argument("--lose-every", type=int, default=0, help="each so many-th invocation is answered 500")
    parser.add_argument("--no-freeze", dest="freeze", action="store_false")
    parser.add_argument("--access-key", default="AKIDEXAMPLE")
    parser.add_argument("--secret-key", default="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    parser.add_argument("--session-token", default="")
    server = InvokeServer(parser.parse_args())
    # One thread ends all, and nothing that it started is left.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    signal.signal(signal.SIGINT, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"endpoint=http://127.0.0.1:{server.server_port}\nready", flush=True)
    server.serve_forever()
    for function in server.functions.values():
        function.stop()


if __name__ == "__main__":
    main()
