"""What the samples say: medians, spreads, ratios taken within a round, goals; as Markdown and JSON."""

import json
import re
import statistics

import plot

OURS, SLIRP, PASTA = "rnsnet 1500", "slirp4netns 65520", "pasta 65520"
DIRECTIONS = {"guest to host": (2.2, 6, 2), "host to guest": (2.4, 4, 1.8),
              "to a published port": (3, 4, 2), "from a published port": (2.4, 4, 1)}
# Directions that are one on the host's loopback.
LOOPBACK = {"guest to host": "to a published port", "host to guest": "from a published port"}
# What every work of a family also measured, where it is worth a table.
ALSO = {"TCP": ["Gbit per CPU-second", "helper CPU-seconds per GB"],
        "request/response": ["median, us", "99th percentile, us", "failed"],
        "UDP": ["lost at 50,000/s, %"]}


def as_json(found):
    """One sample per line: short enough to read, long enough to compare two runs."""
    def rounded(value):
        return float(f"{value:.6g}") if isinstance(value, float) else value

    def cell(samples):
        return [sample and {k: rounded(v) for k, v in sample.items()} for sample in samples]

    works = {name: work | {"columns": {c: cell(s) for c, s in work["columns"].items()}}
             for name, work in found["works"].items()}
    text = json.dumps(found | {"works": works}, indent=1)
    return re.sub(r"\{\s+([^{}]*?)\s+\}", lambda m: "{" + " ".join(m[1].split()) + "}", text) + "\n"


class Found:
    """The samples, by work, column and metric."""

    def __init__(self, found):
        self.works = found["works"]

    def rounds(self, work, column, metric=None):
        """One value per round, None where there was no sample."""
        work = self.works.get(work)
        samples = work["columns"].get(column, []) if work else []
        return [sample.get(metric or work["unit"]) if sample else None for sample in samples]

    def values(self, *where):
        return [value for value in self.rounds(*where) if value is not None]

    def ratios(self, above, below):
        """Ratios within a round, so that both had the same machine."""
        pairs = zip(self.rounds(*above), self.rounds(*below))
        return [a / b for a, b in pairs if a is not None and b]


def number(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values):
    middle = statistics.median(values)
    if len(values) == 1 or min(values) == max(values):
        return number(middle)
    return f"{number(middle)} ({number(min(values))}–{number(max(values))})"


def goals(found):
    """(what, values of which the median counts, bound, whether the bound is the most allowed)"""
    result = []

    def ratio(what, bound, above, below):
        result.append((what, found.ratios(above, below), bound, False))

    def most(what, bound, *where):
        result.append((what, found.values(*where), bound, True))

    for way, (slirp, slirp_1500, pasta) in DIRECTIONS.items():
        work = f"TCP: {way}, IPv4, 1 flow"
        for peer, bound in ((SLIRP, slirp), ("slirp4netns 1500", slirp_1500), (PASTA, pasta)):
            ratio(f"TCP {way} / {peer}", bound, (work, OURS), (work, peer))
        per_cpu = "Gbit per CPU-second"
        ratio(f"TCP {way}, Gbit per CPU-second / {SLIRP}", 1.8, (work, OURS, per_cpu),
              (work, SLIRP, per_cpu))
    for kind in ("IPv6, 1 flow", "IPv4, 8 flows"):
        for way in DIRECTIONS:
            work = f"TCP: {way}, {kind}"
            ratio(f"TCP {way}, {kind} / the same with IPv4, 1 flow", 0.9, (work, OURS),
                  (f"TCP: {way}, IPv4, 1 flow", OURS))
            # What the machine itself makes of it, to read the row above by. Its loopback knows no
            # published port: both ways in are one, and both ways out.
            if also := LOOPBACK.get(way):
                pairs = [pair for like in (way, also) for pair in found.ratios(
                    (f"TCP: {like}, {kind}", "loopback"), (f"TCP: {like}, IPv4, 1 flow", "loopback"))]
                result.append((f"the host's loopback, {way} or {also}, {kind} / the same with IPv4, "
                               "1 flow", pairs, None, False))
            for peer in (SLIRP, PASTA):
                if found.values(work, peer):
                    ratio(f"TCP {way}, {kind} / {peer}", 1, (work, OURS), (work, peer))
    for way in ("to a published port", "from a published port"):
        work = f"short cut: {way}, 1 flow"
        ratio(f"{way}, --publish-loopback / --offload=off", 3, (work, "rnsnet --publish-loopback"),
              (work, "rnsnet --offload=off"))
        for flows in ("1 flow", "8 flows"):
            # Splice beside splice.
            work = f"short cut: {way}, {flows}"
            ratios = found.ratios((work, "rnsnet --publish-loopback"), (work, PASTA))
            result.append((f"{way}, {flows}, --publish-loopback / {PASTA}", ratios, None, False))
    for work in found.works:
        if work.startswith("link of"):
            for mtu in (1500, 65520):
                ratio(f"{work}, rnsnet {mtu} / the host itself", 0.95, (work, f"rnsnet {mtu}"),
                      (work, "the host itself"))
        if work.startswith("idle flows"):
            ratio(f"{work.removeprefix('idle flows: ')}, 10,000 / none", 0.9,
                  (work, f"{OURS}, 10,000 idle"), (work, f"{OURS}, 0 idle"))
        if work.startswith(("request/response", "UDP")):
            calls, what = "connect" in work, work.removeprefix("request/response: ")
            bounds = (1.5, 1.2) if work.startswith("UDP") else (1.2, 1.2) if calls else (1, 1)
            for peer, bound in zip((SLIRP, PASTA), bounds):
                ratio(f"{what} / {peer}", bound, (work, OURS), (work, peer))
            if calls:
                most(f"{what}: failures at `ulimit -n 1024`", 0, work, OURS, "failed")
            if work.startswith("UDP"):
                most(f"{what}: % lost at 50,000/s", 0, work, OURS, "lost at 50,000/s, %")
    for what in ("two containers of one network", "one container to another's published port"):
        work = f"container to container: {what}"
        ratio(f"{what} / kernel veth and bridge", 0.5, (work, OURS),
              (work, "kernel veth and bridge"))
    start = [found.rounds("start to ready", who) for who in (OURS, SLIRP)]
    most("start to ready, ms", 15, "start to ready", OURS)
    behind = [ours - theirs for ours, theirs in zip(*start)]
    result.append(("start to ready, ms after slirp4netns", behind, 5, True))
    alone = "memory and wake-ups"
    most("idle PSS, KB", 3000, alone, OURS, "idle PSS, KB")
    most("PSS with one busy flow, KB", 8000, alone, OURS, "PSS with one busy flow, KB")
    for count in ("1,000", "10,000"):
        most(f"bytes per idle flow, {count} flows", 10_000, "memory per idle flow",
             f"{OURS}, {count} idle")
    most("wake-ups in 10 s idle", 0, alone, OURS, "wake-ups in 10 s")
    return [goal for goal in result if goal[1]]


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def works_table(found, family, metric, works):
    columns = list(dict.fromkeys(c for work in works.values() for c in work["columns"]))
    rows = []
    for name, work in works.items():
        cells = [found.values(name, column, metric) for column in columns]
        if any(cells):
            what = name.removeprefix(f"{family}: ")
            rows.append([what, *[spread(c) if c else "–" for c in cells]])
    used = [i for i in range(len(columns)) if any(row[i + 1] != "–" for row in rows)]
    return table([metric, *[columns[i] for i in used]], [[r[0], *[r[i + 1] for i in used]]
                                                        for r in rows])


INTRODUCTION = """# Benchmarks

Written by `ci/bench`; do not edit. `ci/bench --help` says how to run it, whole or in part, on your
own machine; it needs no root, and nothing leaves the namespaces that it makes.

![rnsnet beside slirp4netns and pasta](benchmarks.svg)

The contenders take turns: one sample each per round ({rounds} rounds, TCP samples of {seconds} s), in a
rotating order. Figures are medians over the rounds, with the lowest and the highest in brackets; the
ratios under *Goals* are taken within a round. A number after a name is the guest's MTU; rnsnet's
default is 1500, the others' is what their authors advise for speed, 65520. Every connection uses
cubic. Client, helper and server share the processors, as they do in use.

"""

NOTES = """
*To* and *from a published port* are measured over the host's loopback address, where pasta splices
two sockets and avoids its interface; slirp4netns 1.2.0 publishes IPv4 only. *Loopback* and *the host
itself* are the limits: no container at all; what loopback itself makes of another work is in italics
among the goals. *Two containers of one network* is what rnsnet's own switch does; the peers have
none. *Short cut* is the same without the TAP (`--publish-loopback`), beside a TAP that takes no frame
longer than the MTU (`--offload=off`). The links are emulated in user space between two namespaces (rate, delay of a round trip, 64
frames of queue, drop-tail). Datagrams are sent and received by sockets with the largest buffer that
the kernel gives, so that they are not lost at the two ends. rnsnet runs with 1024 open files, except
beside idle flows, the others with as many as there are. Processor time is that of client, helper and
server together. A *wake-up* is a voluntary context switch of the helper. PSS divides a page among
those who share it.
"""


def write(found_data, out):
    """Writes benchmarks.md and benchmarks.svg."""
    found = Found(found_data)
    text = INTRODUCTION.format(**found_data)
    facts = found_data["machine"] | {"minutes of the whole run": found_data["minutes"]}
    text += table(["machine", ""], [[k, str(v)] for k, v in facts.items()]) + NOTES
    rows = []
    for what, values, bound, at_most in goals(found):
        if bound is None:
            rows.append([f"*{what}*", spread(values), "–", "–"])
            continue
        middle = statistics.median(values)
        reached = middle <= bound if at_most else middle >= bound
        sign = "≤" if at_most else "≥"
        rows.append([what, spread(values), f"{sign} {bound:,}", "yes" if reached else "**no**"])
    if rows:
        count = sum(row[3] == "yes" for row in rows)
        limits = sum(row[3] == "–" for row in rows)
        text += f"\n## Goals\n\n{count} of {len(rows) - limits} reached.\n\n"
        text += table(["rnsnet 1500 unless said otherwise", "measured", "goal", "reached"], rows)
    families = {}
    for name, work in found.works.items():
        families.setdefault(name.split(":")[0], {})[name] = work
    for family, works in families.items():
        text += f"\n## {family[0].upper()}{family[1:]}\n"
        metrics = list(dict.fromkeys([w["unit"] for w in works.values()] + ALSO.get(family, [])))
        if family == "memory and wake-ups":
            metrics = list(next(iter(next(iter(works.values()))["columns"].values()))[0])
        for metric in metrics:
            chosen = {n: w for n, w in works.items() if metric not in ("Gbit/s", "per second")
                      or w["unit"] == metric}
            text += "\n" + works_table(found, family, metric, chosen)
    sizes = found_data["binary, bytes"]
    text += "\n## Size of the program\n\n"
    text += table(["bytes", *sizes], [["dynamically linked, stripped", *map(number, sizes.values())]])
    (out / "benchmarks.md").write_text(text)
    (out / "benchmarks.svg").write_text(plot.draw(found, found_data))
