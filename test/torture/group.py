"""What a group of processes uses, by the kernel's own count."""
import os
import time


class Group:
    """A memory cgroup of our own, v1 or v2. Where none can be made, `path` is None, and it has counted nothing."""

    def __init__(self, name, limit=None):
        name = f"wadi-{name}-{os.getpid()}"
        v1, v2 = f"/sys/fs/cgroup/memory/{name}", f"/sys/fs/cgroup/{name}"
        self.path, self.files = (v1, ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes")) \
            if os.path.isdir("/sys/fs/cgroup/memory") else (v2, ("memory.max", "memory.current", "memory.peak"))
        try:
            os.mkdir(self.path)
            if limit:
                with open(os.path.join(self.path, self.files[0]), "w") as file:
                    file.write(str(limit))
        except OSError as why:
            print(f"no memory cgroup here ({why}): what it would count is not checked")
            self.path = None

    def enter(self):
        if self.path:
            with open(os.path.join(self.path, "cgroup.procs"), "w") as file:
                file.write(str(os.getpid()))

    def read(self, which):
        if not self.path:
            return 0
        with open(os.path.join(self.path, self.files[which])) as file:
            return int(file.read())

    def stat(self, *names):
        with open(os.path.join(self.path, "memory.stat")) as file:
            lines = dict(line.split() for line in file)
        return sum(int(lines.get(n, 0)) for n in names)

    def used(self):
        """Without the cache of files that were only read."""
        return self.stat("rss", "shmem") if self.path and "memory/" in self.path else self.read(1)

    def failures(self):
        """How often more was wanted than the limit."""
        if not self.path:
            return 0
        is_old = os.path.exists(os.path.join(self.path, "memory.failcnt"))
        with open(os.path.join(self.path, "memory.failcnt" if is_old else "memory.events")) as file:
            text = file.read()
        return int(text if is_old else dict(line.split() for line in text.splitlines())["max"])

    def remove(self):
        for _ in range(100):
            try:
                if self.path:
                    os.rmdir(self.path)
                return
            except OSError:
                time.sleep(0.05)
