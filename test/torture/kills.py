#!/usr/bin/python3
"""Kills servers at random moments under clients that check every byte.

usage: test/torture/kills.py [--kills N] [--mode dev|roles] [--clients N] [--seed S] [--data]

dev:   a `wadi dev`; killed are the server and its keeper, in turn at random.
roles: `wadi meta`, `store` and `proxy`, and their keepers.

One process is dead at a time. Nothing that was acknowledged may be lost or wrong, and nothing
may be left in the store afterwards, nor of its shared memory when all have ended. Ends with
`N kills, 0 lost` and exit status 0, or with what went wrong. The build is that of WADI_BUILD.
"""
import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
from conftest import BUILD, WADI, Client, clean_environment, run_wadi  # noqa: E402
from cluster import free_ports, keepers, kill_keepers  # noqa: E402
from group import Group  # noqa: E402

CHURN = os.path.join(BUILD, "test/torture/churn")
READY_S = 30


class Server:
    def __init__(self, directory, name, command):
        self.name, self.command, self.group = name, command, None
        self.env = clean_environment(XDG_RUNTIME_DIR=directory)
        self.run_directory = f"{directory}/wadi-{command[command.index('--listen') + 1].rsplit(':', 1)[1]}"
        self.log_path = os.path.join(directory, name + ".log")
        self.process = None
        self.ready_ms = []

    def start(self):
        begun = time.monotonic()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=log,
                                            stdout=subprocess.PIPE, env=self.env,
                                            preexec_fn=self.group.enter)
        text = b""
        while b"ready\n" not in text:
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more or time.monotonic() - begun > READY_S:
                raise SystemExit(f"{self.name} did not start again: {self.process.poll()}\n{self.tail()}")
            text += more
        self.ready_ms.append(1000 * (time.monotonic() - begun))
        return text.decode()

    def tail(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()[-3000:]

    def handed_over(self):
        with open(self.log_path, errors="replace") as log:
            return log.read().count("A new keeper has all of our memory")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def keeper(self):
        """Its pid; 0 if there is none right now."""
        return (keepers(self.run_directory) or [0])[0]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(READY_S)


def servers_of(mode, directory, has_data, memory):
    data = (lambda name: ["--data", os.path.join(directory, "data-" + name)]) if has_data else (lambda name: [])
    common = ["--memory", memory, "--keep-s", "60s"]
    if mode == "dev":
        ports = free_ports(4)
        addresses = [f"127.0.0.1:{p}" for p in ports]
        return addresses[0], None, [Server(directory, "dev", [
            WADI, "dev", "--listen", addresses[0], "--http", addresses[1], "--redis", addresses[2],
            "--direct", addresses[3], "--snapshot", "1M", *common, *data("dev")])]
    meta, store, proxy = (f"127.0.0.1:{p}" for p in free_ports(3))
    keys = []
    for name in ("key", "token-key"):
        with open(os.path.join(directory, name), "w", encoding="ascii") as file:
            file.write(os.urandom(40).hex() + "\n")
        keys.append(os.path.join(directory, name))
    with open(keys[0], encoding="ascii") as file:
        key = file.read().strip()
    return proxy, key, [
        Server(directory, "meta", [WADI, "meta", "--listen", meta, "--key", keys[0], "--token-key", keys[1],
                                   "--snapshot", "1M", *common, *data("meta")]),
        Server(directory, "store", [WADI, "store", "--listen", store, "--meta", meta, "--key", keys[0], *common]),
        Server(directory, "proxy", [WADI, "proxy", "--listen", proxy, "--http", "127.0.0.1:0", "--redis",
                                    "127.0.0.1:0", "--meta", meta, "--key", keys[0], "--token-key", keys[1]])]


def wait_for(condition, what, late_s=READY_S):
    """`what`: a text, or what makes one when it is late."""
    due = time.monotonic() + late_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > due:
            raise SystemExit(f"waited {late_s} s for {what() if callable(what) else what}")
        time.sleep(0.01)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--mode", choices=("dev", "roles"), default="dev")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--pause", type=float, default=0.5, help="mean seconds between two kills")
    parser.add_argument("--data", action="store_true", help="with a log on disk")
    parser.add_argument("--seed", type=int, default=None)
    o = parser.parse_args()
    seed = o.seed if o.seed is not None else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}", flush=True)
    dice = random.Random(seed)
    directory = tempfile.mkdtemp(prefix="wadi-kills-")
    endpoint, key, servers = servers_of(o.mode, directory, o.data, o.memory)
    clients, code, group = [], 1, Group("kills")
    try:
        for s in servers:
            s.group = group
            s.start()
        admin = Client("tcp://" + endpoint, key)
        token = admin("job", "create", "churn", "--lease", "1h").decode().strip()
        for i in range(o.clients):
            clients.append(subprocess.Popen([CHURN, f"c{i}", str(dice.getrandbits(60))], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True,
                                            env=clean_environment(WADI_ENDPOINT="tcp://" + endpoint, WADI_TOKEN=token)))
        kills = kill_some(servers, clients, dice, o)
        for c in clients:
            out, _ = c.communicate(timeout=120)
            print(out.strip())
            if c.returncode != 0:
                raise SystemExit(f"a client ended with {c.returncode}")
        check_empty(admin)
        for s in reversed(servers):
            if s.stop() != 0:
                raise SystemExit(f"{s.name} did not end well: {s.tail()}")
        if group.path:
            most = group.read(2)
            wait_for(lambda: group.stat("shmem") == 0, lambda: f"{group.stat('shmem')} bytes of shared memory to go")
            print(f"the most memory: {most / 1e6:.0f} MB; no shared memory is left")
        for s in servers:
            times = sorted(s.ready_ms)
            print(f"{s.name}: {len(times)} starts, ready after {times[len(times) // 2]:.0f} ms (median), "
                  f"{times[-1]:.0f} ms (longest)")
        print(f"{kills} kills, 0 lost")
        code = 0
    finally:
        for c in clients:
            if c.poll() is None:
                c.kill()
        for s in servers:
            if s.process and s.process.poll() is None:
                s.process.kill()
            kill_keepers(s.run_directory)
            if code and s.process:
                print(f"--- {s.name}\n{s.tail()}")
        group.remove()
        shutil.rmtree(directory, ignore_errors=True)
    return code


def kill_some(servers, clients, dice, o):
    victims = [(s, is_keeper) for s in servers for is_keeper in (False, True)]
    begun = time.monotonic()
    for n in range(o.kills):
        time.sleep(dice.expovariate(1 / o.pause))
        for c in clients:
            if c.poll() is not None:
                raise SystemExit(f"after {n} kills, a client ended with {c.returncode}")
        server, is_keeper = dice.choice(victims)
        if server.process.poll() is not None:
            raise SystemExit(f"{server.name} ended by itself: {server.tail()}")
        if is_keeper:
            pid, before = wait_for(server.keeper, "a keeper"), server.handed_over()
            os.kill(pid, signal.SIGKILL)
            # Until the next one has everything, two would be dead.
            wait_for(lambda: server.handed_over() > before, "another keeper")
        else:
            server.kill()
            server.start()
        if (n + 1) % 50 == 0:
            print(f"{n + 1} kills in {time.monotonic() - begun:.0f} s", flush=True)
    return o.kills


def check_empty(admin):
    # A store that was just killed is not counted before it is reached again.
    wait_for(lambda: b"ok    bills" in admin.run("doctor").stdout,
             "the bills to agree: " + admin.run("doctor").stdout.decode())
    admin("job", "end", "churn")
    wait_for(lambda: all(j["dram_bytes"] == 0 for j in admin.json("top")["jobs"] if j["name"] == "churn"),
             "the job's bytes to go: " + json.dumps(admin.json("top"))[:500])


if __name__ == "__main__":
    sys.exit(main())
