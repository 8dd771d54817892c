#!/usr/bin/python3
"""The proxy of OpenWhisk's ActionLoop, as its contract has it: /init and /run over HTTP in front of an `exec`.

usage: actionloop.py [--port 0] [--directory DIR]        prints `port=N` when it listens, on loopback only

What a container of the real proxy has in its environment, this has as well: OW_WAIT_FOR_ACK, and variables that begin
with __OW_. The child gets nothing else, and of these what is before the second `=`.
"""
import argparse
import base64
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import zipfile

MARKER = b"XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n"
EARLY_EXIT_S = 0.005


class Failure(Exception):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Action:
    """The child: its standard input, and descriptor 3."""

    def __init__(self, path, env):
        ours, theirs = os.pipe()
        os.set_inheritable(theirs, True)

        def descriptors():
            os.dup2(theirs, 3)

        self.child = subprocess.Popen([path], cwd=os.path.dirname(path), env=env, stdin=subprocess.PIPE,
                                      preexec_fn=descriptors, pass_fds=(3, theirs) if theirs != 3 else (3,))
        os.close(theirs)
        self.output = os.fdopen(ours, "rb")

    def start(self):
        if not os.environ.get("OW_WAIT_FOR_ACK"):
            try:
                self.child.wait(EARLY_EXIT_S)
            except subprocess.TimeoutExpired:
                return
            raise Failure(502, "Command exited abruptly during initialization.")
        try:
            ack = json.loads(self.output.readline())
        except ValueError:
            raise Failure(502, "Command exited abruptly during initialization.") from None
        if not isinstance(ack, dict) or ack.get("ok") is not True:
            raise Failure(502, "The action did not initialize properly.")

    def interact(self, line):
        """A line for a line, however long; empty: it is gone."""
        try:
            self.child.stdin.write(line + b"\n")
            self.child.stdin.flush()
        except OSError:
            return b""
        return self.output.readline()

    def is_gone(self):
        try:
            self.child.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self):
        self.child.kill()
        self.child.wait()


class Proxy:
    def __init__(self, directory):
        self.directory = directory
        self.action = None
        self.lock = threading.Lock()

    def environment(self, more):
        env = {}
        for name, value in os.environ.items():
            if name.startswith("__OW_"):
                env[name] = value.split("=")[0]
        if os.environ.get("OW_WAIT_FOR_ACK"):
            env["__OW_WAIT_FOR_ACK"] = os.environ["OW_WAIT_FOR_ACK"]
        for name, value in (more or {}).items():
            env[name] = value if isinstance(value, str) else json.dumps(value)
        return env

    def extract(self, code, is_binary):
        data = base64.b64decode(code, validate=True) if is_binary else code.encode()
        path = os.path.join(self.directory, "exec")
        if data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as bundle:
                for entry in bundle.infolist():
                    to = bundle.extract(entry, self.directory)
                    if not entry.is_dir():
                        os.chmod(to, entry.external_attr >> 16 & 0o777 or 0o644)
        else:
            with open(path, "wb") as file:
                file.write(data)
        if not os.path.exists(path):
            raise Failure(502, "invalid action: no exec in the zip")
        os.chmod(path, 0o755)
        return path

    def init(self, request):
        value = request.get("value") or {}
        if self.action:
            raise Failure(403, "Cannot initialize the action more than once.")
        if not value.get("code"):
            raise Failure(403, "Missing main/no code to execute.")
        try:
            path = self.extract(value["code"], value.get("binary"))
        except (ValueError, zipfile.BadZipFile) as e:
            raise Failure(400, f"cannot decode the request: {e}") from None
        try:
            action = Action(path, self.environment(value.get("env")))
        except OSError as e:
            raise Failure(502, f"cannot start action: {e}") from None
        try:
            action.start()
        except Failure:
            action.kill()
            raise
        self.action = action
        return {"ok": True}

    def run(self, body):
        if not self.action:
            raise Failure(500, "no action defined yet")
        answer = self.action.interact(body.replace(b"\n", b""))
        for out in (sys.stdout, sys.stderr):
            out.buffer.write(MARKER)
            out.buffer.flush()
        if not answer:
            raise Failure(400, "command exited" if self.action.is_gone() else "no answer from the action")
        try:
            is_good = isinstance(json.loads(answer), (dict, list))
        except ValueError:
            is_good = False
        if not is_good:
            raise Failure(502, "The action did not return a dictionary or array.")
        return answer


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy = None

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            try:
                request = json.loads(body)
            except ValueError as e:
                raise Failure(400, f"Error unmarshaling request: {e}") from None
            if self.path == "/init":
                with self.proxy.lock:
                    answer = json.dumps(self.proxy.init(request)).encode() + b"\n"
            elif self.path == "/run":
                with self.proxy.lock:
                    answer = self.proxy.run(body)
            else:
                raise Failure(404, "no such path")
            self.answer(200, answer)
        except Failure as e:
            self.answer(e.status, json.dumps({"error": str(e)}).encode() + b"\n")

    def log_message(self, format, *args):
        pass


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1][7:])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--directory", default="action")
    args = parser.parse_args()
    os.makedirs(args.directory, exist_ok=True)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 3)  # so that nothing of Popen's own is there in a child
    Handler.proxy = Proxy(os.path.abspath(args.directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", args.port), Handler)
    server.daemon_threads = True
    print(f"port={server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
