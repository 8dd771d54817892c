"""Metadata and two hosts, each with a store and a proxy in one process: what a function puts lies on its host."""
import tempfile

import pytest
from cluster import Role, free_ports, kill_all, make_keys
from conftest import Client, pattern, until
from test_near import inodes
from wire import META, Wire

MB = 1 << 20


class Hosts:
    def __init__(self, directory, memory, shards):
        self.directory, self.memory = str(directory), memory
        self.runtime = tempfile.mkdtemp(prefix="wadi-e2e-")  # a Unix socket's path is short
        ports = free_ports(shards + 2)
        self.metas = ",".join(f"127.0.0.1:{port}" for port in ports[:shards])
        self.key = make_keys(directory)
        self.roles = []
        try:
            self.start("meta", ports[0], "--shards", str(shards))
            self.a, self.b = (self.start("run", port, "--roles", "store,proxy", "--meta", self.metas, "--memory", memory,
                                         "--http", "127.0.0.1:0", "--redis", "127.0.0.1:0", "--trust-local")
                              for port in ports[shards:])
            self.admin = Client(self.a.endpoints["unix"], self.key)
        except BaseException:
            self.kill()
            raise

    def start(self, command, port, *options):
        role = Role(self.directory, command, "--listen", f"127.0.0.1:{port}", "--key", f"{self.directory}/key",
                    "--token-key", f"{self.directory}/token-key", *options, env={"XDG_RUNTIME_DIR": self.runtime})
        role.port, role.key = port, self.key
        self.roles.append(role)
        return role

    def stop(self):
        for role in reversed(self.roles):
            assert role.end() == 0, role.told()

    def kill(self):
        kill_all(self.roles, self.runtime)


@pytest.fixture
def hosts(tmp_path, request):
    made = Hosts(tmp_path, **request.param)
    try:
        yield made
        made.stop()
    finally:
        made.kill()


def pool(host, what="used"):
    """Bytes of its pool that jobs have; or all of them."""
    with Wire("127.0.0.1", host.port) as wire:
        assert wire.hello(role=META, secret=host.key).status == "OK"
        return wire.call("INFO")[f"dram_{what}"]


def is_in_place(handle, host, path, data):
    """Puts it, and tells whether it was written straight into memory of that host."""
    r = handle.reserve(path, len(data)).write(data)
    inode = r.inode()
    r.commit()
    return inode in {int(i) for i in inodes(host)}


@pytest.mark.parametrize("hosts", [{"memory": "512M", "shards": 2}], indirect=True)
def test_what_a_function_puts_lies_on_its_host(hosts, lib):
    job = hosts.admin.at(hosts.admin("job", "create", "near").decode().strip())
    for host, other in ((hosts.a, hosts.b), (hosts.b, hosts.a)):
        elsewhere = pool(other)
        h = lib.Handle(host.endpoints["unix"], job.token)
        for turn in range(8):
            assert is_in_place(h, host, f"{host.process.pid}/reserved/{turn}", pattern(MB + turn, turn))
        h.put(f"{host.process.pid}/put", pattern(5 * MB, 9))
        h.put(f"{host.process.pid}/sent", pattern(60_000, 10))  # through the socket
        h.close()
        assert pool(host) >= 13 * MB + 60_000 and pool(other) <= elsewhere  # what was open there may be sealed meanwhile
    for host in (hosts.a, hosts.b):
        for reader in (hosts.a, hosts.b):
            get = Client(reader.endpoints["unix"], job.token)
            for turn in range(8):
                assert get("get", f"{host.process.pid}/reserved/{turn}") == pattern(MB + turn, turn)
            assert get("get", f"{host.process.pid}/put") == pattern(5 * MB, 9)
            assert get("get", f"{host.process.pid}/sent") == pattern(60_000, 10)


@pytest.mark.parametrize("hosts", [{"memory": "96M", "shards": 1}], indirect=True)
def test_a_host_that_is_full_puts_on_the_other(hosts, lib):
    job = hosts.admin.at(hosts.admin("job", "create", "wide").decode().strip())
    h = lib.Handle(hosts.a.endpoints["unix"], job.token, 5000)
    places = []
    while min(pool(host) / pool(host, "limit") for host in (hosts.a, hosts.b)) < 0.8:
        places.append(is_in_place(h, hosts.a, f"x/{len(places)}", pattern(MB, len(places))))
    # The other one is left alone until this one is half full.
    assert places.index(False) >= 0.45 * pool(hosts.a, "limit") / MB
    for turn in range(len(places)):
        assert h.get(f"x/{turn}", MB) == pattern(MB, turn)
    # The same function has room there again when there is some.
    job("rm", "-r", "x")
    until(lambda: is_in_place(h, hosts.a, "x/0", pattern(MB, 0)), "a put in place")
    assert h.get("x/0", MB) == pattern(MB, 0)
    h.close()


@pytest.mark.parametrize("hosts", [{"memory": "96M", "shards": 1}], indirect=True)
def test_what_is_dead_is_given_back_where_another_host_has_more_room(hosts, lib):
    job = hosts.admin.at(hosts.admin("job", "create", "clean").decode().strip())
    h = lib.Handle(hosts.a.endpoints["unix"], job.token)
    for turn in range(400):
        h.put(f"{turn % 4}/{turn}", pattern(60_000, turn))
    for part in range(3):
        job("rm", "-r", f"{part}")
    puts = iter(range(10_000))

    def has_shrunk():
        """Whoever asks for more cleans before."""
        turn = next(puts)
        h.put(f"more/{turn}", pattern(60_000, turn))
        return pool(hosts.a) < 12 * MB

    until(has_shrunk, "live bytes to be moved together")
    assert pool(hosts.b) == 0
    for turn in range(3, 400, 4):
        assert h.get(f"3/{turn}") == pattern(60_000, turn)
    h.close()


@pytest.mark.parametrize("hosts", [{"memory": "96M", "shards": 1}], indirect=True)
def test_an_object_may_be_larger_than_any_host(hosts, lib):
    job = hosts.admin.at(hosts.admin("job", "create", "large").decode().strip())
    data = pattern(110 * MB, 1)
    h = lib.Handle(hosts.a.endpoints["unix"], job.token)
    h.put("known", data)
    assert min(pool(hosts.a), pool(hosts.b)) > 30 * MB
    assert Client(hosts.b.endpoints["unix"], job.token)("get", "known") == data
    job("rm", "known")
    # As long as nobody knows how long it will be, too.
    Client(hosts.b.endpoints["unix"], job.token)("put", "-", "stream", input=data)
    assert h.get("stream", len(data)) == data
    job("rm", "stream")
    # But not larger than all of them.
    with pytest.raises(lib.Failed, match="NOSPACE"):
        h.put("larger", pattern(200 * MB, 2))
    until(lambda: pool(hosts.a) + pool(hosts.b) == 0, "what was leased in vain to be given back")
    h.close()
