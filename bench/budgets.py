"""What the tables of `make bench` say about each budget.

A row of a table is a dict: `bench` (what stands before `get of`, or ""), `op`, `size` in bytes, `clients`,
`depth`, `attach`, `mode`, `system`, the columns, and of other systems `p50` and `ops`: what Wadi has,
divided by what it has, as (median, low, high). A budget is met when the near end of the interval
meets it, and missed by what is lacking there.
"""
import re

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "entries": 1}
HEAD = re.compile(r"(?:(?P<bench>\w+): )?(?P<op>\w+) of (?P<size>\d+) (?P<unit>\w+), (?P<clients>\d+) clients?, "
                  r"(?P<depth>\d+) in flight, (?P<attach>\w+), (?P<mode>\w+), \d+ pairs")
RATIOS = re.compile(r"([\d.]+) \(([\d.]+)-([\d.]+)\)")
COLUMNS = ("p50_us", "p99_us", "p999_us", "max_us", "ops_per_s", "mb_per_s", "server_us", "client_us", "least")


def rows(text):
    found, head = [], None
    for line in text.splitlines():
        m = HEAD.fullmatch(line)
        words = line.split()
        if m:
            head = {"bench": m["bench"] or "", "op": m["op"], "size": int(m["size"]) * UNITS[m["unit"]],
                    "clients": int(m["clients"]), "depth": int(m["depth"]), "attach": m["attach"], "mode": m["mode"]}
        elif not words:
            head = None
        elif head and words[0] != "p50":
            row = dict(head, system=words[0])
            row.update((name, float(word)) for name, word in zip(COLUMNS, words[1:]) if word != "-")
            ratios = [tuple(map(float, r)) for r in RATIOS.findall(line)]
            row.update(zip(("p50", "ops"), ratios))
            note = re.search(r"([\d.]+) bytes of memory per object", line)
            if note:
                row["object_bytes"] = float(note[1])
            found.append(row)
    return found


def size_text(size):
    for unit in ("MiB", "KiB"):
        if size >= UNITS[unit]:
            return f"{size // UNITS[unit]} {unit}"
    return f"{size} B"


def short(number):
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}"


def at_most(parts, limit, unit=""):
    """Of (name, median, near end): those, and whether all near ends are at most `limit`."""
    return verdict(parts, unit, [(n, near / limit) for n, _, near in parts if near > limit])


def at_least(parts, limit, unit=""):
    return verdict(parts, unit, [(n, limit / max(near, 1e-9)) for n, _, near in parts if near < limit])


def verdict(parts, unit, missed):
    if not parts:
        return "", "not measured"
    told = ", ".join(f"{name + ': ' if name else ''}{short(median)}{unit}" for name, median, _ in parts)
    if not missed:
        return told, "met"
    of_all = "" if len(parts) == 1 else " at " + ", ".join(name for name, _ in missed)
    return told, f"**missed**{of_all}, by {(max(by for _, by in missed) - 1) * 100:.0f} %"


def beside_floor(judged, floor, limit, unit):
    """What the same machine gives to who does nothing else, in the same run."""
    told, is_met = judged
    if not floor:
        return judged
    return f"{told}; floor: {short(floor[0])}{unit}", is_met + (", as the floor does" if floor[0] > limit else "")


class Tables:
    def __init__(self, texts):
        self.texts = texts

    def find(self, table, **wanted):
        return [r for r in rows(self.texts.get(table, "")) if all(r.get(k) == v for k, v in wanted.items())]

    def against(self, table, system, column, near, *, sizes=lambda size: True, named_by="size", **wanted):
        """(name, median, near end) of each ratio to a system; near: 1 low, 2 high."""
        return [(f"{r['op']} {size_text(r['size']) if named_by == 'size' else r['clients']}", r[column][0],
                 r[column][near])
                for r in self.find(table, system=system, **wanted) if column in r and sizes(r["size"])]

    def numbers(self, table, column, name=lambda r: r["op"], **wanted):
        return [(name(r), r[column], r[column]) for r in self.find(table, system="wadi", **wanted) if column in r]

    def match(self, table, pattern):
        """The numbers of the first match in the text of a table."""
        m = re.search(pattern, self.texts.get(table, ""))
        return [float(g) for g in m.groups()] if m else None

    def one(self, table, pattern, name=""):
        m = self.match(table, pattern)
        return [(name, m[0], m[-1])] if m else []


def is_large(size):
    return size >= 1 << 20


def is_huge(size):
    return size >= 16 << 20


def never_below_one(t):
    parts = []
    for op in ("get", "put"):
        all_rows = t.find("clients", system="wadi", op=op)
        one = [r["ops_per_s"] for r in all_rows if r["clients"] == 1]
        parts += [(f"{op} {r['clients']}", r["ops_per_s"] / one[0], r["ops_per_s"] / one[0])
                  for r in all_rows if one and r["clients"] > 1]
    return parts


def large_against_small(found):
    p50 = {r["size"]: r["p50_us"] for r in found}
    return [("", p50[max(p50)] / p50[min(p50)], p50[max(p50)] / p50[min(p50)])] if p50 else []


def p999_ms(found):
    return [("", r["p999_us"] / 1000, r["p999_us"] / 1000) for r in found]


def budgets(t):
    """(budget, (measured, verdict)) of each."""
    yield "64 B to 4 KiB over TCP: p50 <= 1.10 x a blocking ping-pong, quiet", \
        at_most(t.against("small-quiet", "raw", "p50", 1), 1.10)
    yield "the same, cores awake", at_most(t.against("small-awake", "raw", "p50", 1), 1.10)
    yield "by default never slower than Redis: p50, quiet", at_most(t.against("small-quiet", "redis", "p50", 1), 1)
    yield "the same, cores awake", at_most(t.against("small-awake", "redis", "p50", 1), 1)
    yield "8, 50, 1,000 clients: operations per second >= Redis", \
        at_least([p for p in t.against("clients", "redis", "ops", 2, named_by="clients")
                  if not p[0].endswith(" 1")], 1)
    yield "the same: never below those of one client", at_least(never_below_one(t), 1)
    yield "fairness among 1,000 clients: the slowest has half of the mean", \
        at_least(t.numbers("clients", "least", clients=1000), 0.5)
    yield "1 MiB and more over TCP: >= 0.9 x a raw stream", \
        at_least(t.against("large", "raw", "ops", 2, sizes=is_large), 0.9)
    yield "from 16 MiB: >= 1.5 x Redis", at_least(t.against("large", "redis", "ops", 2, sizes=is_huge), 1.5)
    yield "attach, to the first byte, over TCP: p50 <= 500 us", at_most(t.numbers("open", "p50_us"), 500, " us")
    yield "the same over a Unix socket: p50 <= 200 us", at_most(t.numbers("open-host", "p50_us"), 200, " us")
    yield "host attach, get of what is resident, by the index: p50 <= 0.3 us", \
        at_most(t.numbers("host", "p50_us", lambda r: size_text(r["size"]), op="get", size=64), 0.3, " us")
    yield "host attach, a request through the ring, its ends awake: p50 <= 1 us", \
        at_most(t.numbers("ring", "p50_us"), 1, " us")
    yield "the same, its ends asleep: p50 <= 1.2 x a futex there and back", \
        at_most(t.against("ring-asleep", "futex", "p50", 1), 1.2)
    yield "host attach, by the index: a first byte of 64 MiB is as near as one of 64 B", \
        at_most(large_against_small(t.find("index", system="wadi")), 1.2)
    yield "host attach, put of 1 MiB: >= 0.8 x memcpy() to memory that is in no cache", \
        at_least(t.against("host", "memcpy", "ops", 2, sizes=lambda size: size == 1 << 20, op="put"), 0.8)
    yield "catalog, one core: >= 2 M lookups a second", \
        at_least(t.numbers("catalog", "ops_per_s", op="get"), 2e6, " /s")
    yield "catalog, one core: >= 1 M commits a second", \
        at_least(t.numbers("catalog", "ops_per_s", op="put"), 1e6, " /s")
    yield "memory of an object of 100 bytes beside data and name: <= 203 bytes", \
        at_most(t.one("memory", r"of the name, (\d+) others"), 203, " B")
    yield "overwriting at 80 % live: <= 2.5 bytes moved per byte", \
        at_most(t.one("overwrite", r"([\d.]+) bytes moved per byte"), 2.5)
    yield "the same: p99.9 of small gets beside it <= 1 ms", \
        beside_floor(at_most(t.one("overwrite", r"p99\.9 ([\d.]+) ms"), 1, " ms"),
                     t.match("overwrite", r"thread and back.* p99\.9 ([\d.]+) ms"), 1, " ms")
    yield "p99.9 of 1 KiB gets beside 10 MB values <= 1 ms", \
        beside_floor(at_most(p999_ms(t.find("mixed", system="wadi")), 1, " ms"),
                     [r["p999_us"] / 1000 for r in t.find("mixed", system="raw")], 1, " ms")
    yield "the same: never slower than Redis", \
        at_most(t.against("mixed", "redis", "p50", 1), 1)
    yield "any single stall of a loop, while overwriting: <= 0.1 ms", \
        at_most(t.one("overwrite", r"longest stall ([\d.]+) ms"), 0.1, " ms")
    yield "`wadi dev`, start to first put: <= 50 ms", \
        at_most(t.one("start", r"start to first put: ([\d.]+) ms"), 50, " ms")
    yield "restart to first answer with 100,000 objects: <= 200 ms", \
        at_most(t.one("restart", r"\n  median: ([\d.]+) ms"), 200, " ms")
    yield "the sort: ephemeral I/O <= 0.5 x that over Redis", \
        at_most(t.one("sort", r"\nredis .*\)\s+([\d.]+) \(([\d.]+)-"), 0.5)
    yield "the sort: total <= 1.3 x its functions' own code", \
        at_most(t.one("sort", r"\nown .*?([\d.]+) \(([\d.]+)-"), 1.3)


def table(texts):
    """The budgets as a table of Markdown."""
    lines = ["| budget | measured | |", "| --- | --- | --- |"]
    lines += [f"| {what} | {told} | {is_met} |" for what, (told, is_met) in budgets(Tables(texts))]
    return "\n".join(lines) + "\n"
