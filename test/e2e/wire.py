"""A client of the protocol, made from src/wire/*.def: for what libwadi never says.

    c = Wire("127.0.0.1", port)
    c.hello(secret=token)
    reply = c.call("GET", path=b"x", take=100)
    reply.status, reply.detail, reply.payload, reply["version"]
"""
import os
import re
import socket
import struct

from conftest import LATE_S, ROOT

REPLY, MORE, ABORT = 1, 2, 4
JOB, PROXY, META, STORE = range(4)
MAGIC, VERSION, HEADER, FREE_PAYLOAD = 0x31444157, 1, 36, 64 << 10
NUMBERS = {"u16": "<H", "u32": "<I", "u64": "<Q"}


def read(name):
    with open(os.path.join(ROOT, "src", name), encoding="utf-8") as file:
        return file.read()


def parse_fields(text):
    lists = {}
    for m in re.finditer(r"^#define (\w+)\(F\)(.*)$", text.replace("\\\n", " "), re.M):
        lists[m.group(1)] = re.findall(r"F\((\w+),\s*(\w+)\)|(\w+)\(F\)", m.group(2))
    def flat(name):
        for kind, field, other in lists[name]:
            yield from flat(other) if other else [(kind, field)]
    return {name: list(flat(name)) for name in lists}


TEXT = read("wire/messages.def")
FIELDS = parse_fields(TEXT)
MESSAGES = {name: int(number, 16) for number, name in re.findall(r"^\s*M\((0x\w+),\s*(\w+),", TEXT, re.M)}
STATUSES = {name: (int(code), text) for code, name, text in
            re.findall(r'S\((\d+),\s*(\w+),\s*\w+,\s*\w+,\s*"([^"]*)"\)', read("wire/status.def"))}
STATUS_NAMES = {code: name for name, (code, _) in STATUSES.items()}


def encode(fields, values):
    values = dict(values)
    out = bytearray()
    for kind, name in FIELDS[fields]:
        value = values.pop(name, b"" if kind == "str" else 0)
        if kind == "str":
            value = value.encode() if isinstance(value, str) else value
            out += struct.pack("<H", len(value)) + value
        else:
            out += struct.pack(NUMBERS[kind], value)
    assert not values, f"{fields} has no {sorted(values)}"
    return bytes(out)


def decode(fields, data):
    """The values, and how many bytes they took."""
    values, at = {}, 0
    for kind, name in FIELDS[fields]:
        if kind == "str":
            length, = struct.unpack_from("<H", data, at)
            values[name] = bytes(data[at + 2:at + 2 + length])
            at += 2 + length
        else:
            values[name], = struct.unpack_from(NUMBERS[kind], data, at)
            at += struct.calcsize(NUMBERS[kind])
    assert at <= len(data), fields
    return values, at


def decode_all(fields, data):
    out = []
    while data:
        values, n = decode(fields, data)
        out.append(values)
        data = data[n:]
    return out


class Closed(Exception):
    """The other end has closed the connection."""


class Reply(dict):
    def __init__(self, name, frame, body, payload):
        self.frame, self.payload = frame, payload
        self.status = STATUS_NAMES[frame["status"]]
        self.detail = ""
        if self.status == "OK":
            values, n = decode(name + "_REP", body)
            assert n == len(body), (name, body)
            super().__init__(values)
        elif body:
            self.detail = decode("ERROR_REP", body)[0]["detail"].decode()

    def __str__(self):
        """As libwadi would put it."""
        return f"{self.status}: {STATUSES[self.status][1]} ({self.detail})"


class Wire:
    def __init__(self, host, port=None):
        if port is None:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(LATE_S)
            self.socket.connect(host)
        else:
            self.socket = socket.create_connection((host, port), LATE_S)
        self.next_call, self.early, self.asked = 1, {}, []

    @classmethod
    def at(cls, endpoint):
        scheme, where = endpoint.split("://", 1)
        if scheme == "unix":
            return cls(where)
        host, port = where.rsplit(":", 1)
        return cls(host.strip("[]"), int(port))

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send_frame(self, msg, body=b"", payload=b"", flags=0, status=0, slot=0, call=0, timeout_ms=0, **more):
        """`more` overrides what the header says: body_len, payload_len, magic."""
        values = {"msg": msg, "flags": flags, "status": status, "slot": slot, "call": call,
                  "timeout_ms": timeout_ms, "body_len": len(body), "payload_len": len(payload)}
        magic = more.pop("magic", MAGIC)
        values.update(more)
        is_long = values["payload_len"] > FREE_PAYLOAD
        if is_long:
            values["flags"] |= MORE
        data = struct.pack("<I", magic) + encode("FRAME", values) + body + payload
        if is_long:
            values.update(flags=flags, body_len=0, payload_len=0)
            data += struct.pack("<I", magic) + encode("FRAME", values)
        self.socket.sendall(data)

    def start(self, name, payload=b"", /, slot=0, timeout_ms=20_000, **fields):
        """Sends a request; its number, for end()."""
        call = self.next_call
        self.next_call += 1
        self.send_frame(MESSAGES[name], encode(name + "_REQ", fields), payload, slot=slot, call=call,
                        timeout_ms=timeout_ms)
        self.early[call] = (name, None)
        return call

    def end(self, call):
        while self.early[call][1] is None:
            self.receive()
        return self.early.pop(call)[1]

    def call(self, name, payload=b"", /, slot=0, timeout_ms=20_000, **fields):
        return self.end(self.start(name, payload, slot=slot, timeout_ms=timeout_ms, **fields))

    def read(self, length):
        out = bytearray()
        while len(out) < length:
            more = self.socket.recv(length - len(out))
            if not more:
                raise Closed
            out += more
        return bytes(out)

    def read_frame(self):
        try:
            header = self.read(HEADER)
        except ConnectionResetError:
            raise Closed from None
        assert struct.unpack_from("<I", header)[0] == MAGIC
        frame, _ = decode("FRAME", header[4:])
        return frame, self.read(frame["body_len"]), self.read(frame["payload_len"])

    def receive(self):
        """The next frame: an answer of ours, or a server's own request, which is answered."""
        frame, body, payload = self.read_frame()
        if frame["flags"] & MORE:
            rest, _, _ = self.read_frame()
            assert not rest["flags"] & ABORT, "the payload was taken back"
        if frame["flags"] & REPLY:
            name, _ = self.early[frame["call"]]
            self.early[frame["call"]] = (name, Reply(name, frame, body, payload))
        else:
            name = next(n for n, number in MESSAGES.items() if number == frame["msg"])
            self.asked.append((name, decode(name + "_REQ", body)[0]))
            self.send_frame(frame["msg"], encode(name + "_REP", {}), flags=REPLY, call=frame["call"])

    def is_closed_by_peer(self):
        """Reads on until it is."""
        try:
            while True:
                self.read_frame()
        except Closed:
            return True
        except (socket.timeout, OSError):
            return False

    def hello(self, role=JOB, secret="", version=VERSION, **fields):
        reply = self.call("HELLO", role=role, secret=secret or "", version=version, **fields)
        if reply.status == "OK":
            self.job, self.slot = reply["job"], reply["slot"]
            self.session, self.epoch = reply["session"], reply["epoch"]
        return reply
