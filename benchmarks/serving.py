"""What a prediction costs the server: ours in each mode of the payload log, others, and the least that a handler can do, interleaved.

    python benchmarks/serving.py [--kserve PYTHON] [--mlserver PYTHON] [--bentoml PYTHON] [--rounds 3] [--requests 6000] [--write]

Each PYTHON is an interpreter of an environment with that server, scikit-learn and lightgbm; left out, it is not compared. What counts is
CPU per request of all of a server's processes, from /proc, and the ratios; latencies depend on what else the machine does, so they are
measured one right after the other and at the same offered load: half of what KServe's process can answer. `--write` puts the tables
into benchmarks/results/serving.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from harness.load import GrpcRequest, Request, Seen, send
from harness.models import COLUMNS, bento, grpc, make, rows_of, v1, v2_binary, v2_json
from harness.servers import MODES, Server, start_bare, start_ours, start_peer

RESULTS = Path(__file__).parent / "results" / "serving.md"
CONNECTIONS = 16
MANY_CONNECTIONS = 64
WARMING = 100  # requests before those that count
PEERS = ("kserve", "mlserver", "bentoml")
Make = Callable[[str, np.ndarray], Request | GrpcRequest]


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of request: `ours` is the beginning of the name of our services, `model` the name elsewhere."""

    name: str
    ours: str
    model: str
    rows: np.ndarray
    make: Make = v1
    is_grpc: bool = False
    fewer: int = 1  # times fewer requests, because each takes long
    connections: int = CONNECTIONS
    modes: tuple[str, ...] = ("interval",)
    kserve: tuple[str, ...] = ()  # names of its models
    is_bare: bool = False  # also asked of bare handlers, of MLServer and of BentoML


@dataclass(frozen=True, slots=True)
class Contender:
    """Who answers a workload, and what it is asked."""

    name: str
    server: Server
    request: Request | GrpcRequest


def workloads() -> list[Workload]:
    """What is measured."""
    one, flower, hundred = rows_of(COLUMNS, 1), rows_of(4, 1), rows_of(COLUMNS, 100)
    trees, both = ("lightgbm", "booster"), ("off", "interval")
    return [
        Workload("Iris, 1 row, V1", "iris", "iris", flower, modes=MODES, kserve=("iris",), is_bare=True),
        Workload(
            f"Iris, 1 row, V1, {MANY_CONNECTIONS} connections", "iris", "iris", flower, modes=("off", "interval", "durable"),
            connections=MANY_CONNECTIONS,
        ),
        Workload("LightGBM, 1 row, V1", "lightgbm", "lightgbm", one, modes=both, kserve=trees, is_bare=True),
        Workload("LightGBM, 100 rows, V1", "lightgbm", "lightgbm", hundred, fewer=8, modes=both, kserve=trees, is_bare=True),
        Workload("LightGBM, 100 rows, V2 binary", "lightgbm", "lightgbm", hundred, v2_binary, fewer=8, kserve=trees),
        Workload("Iris, 1 row, gRPC", "iris", "iris", flower, grpc, is_grpc=True, kserve=("iris",)),
        Workload("Iris not converted, 1 row, V1", "object", "iris", flower, kserve=("iris",)),
    ]  # fmt: skip


@dataclass
class Cell:
    """CPU microseconds a request, one for each round."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.0f} [{min(self.values):.0f}, {max(self.values):.0f}]" if self.values else "–"


@dataclass
class Measured:
    """Everything that was seen: CPU and p99 by workload and contender, and what one run of a server shows."""

    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    p99: dict[tuple[str, str], Cell] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)  # requests a second at which it was measured, by workload
    ready: dict[str, float] = field(default_factory=dict)
    pss: dict[str, float] = field(default_factory=dict)

    def of(self, workload: str, contender: str) -> Cell:
        return self.cells.get((workload, contender), Cell())

    def ratio(self, workload: str, above: str, below: str) -> float | None:
        """The median of the ratios round by round; none where one of them was not measured."""
        one, other = self.of(workload, above).values, self.of(workload, below).values
        return statistics.median([x / y for x, y in zip(one, other, strict=True)]) if one and other else None


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for peer in PEERS:
        parser.add_argument(f"--{peer}", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=6000, help="a cell; fewer where a request has 100 rows")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    pythons = {peer: str(python) for peer in PEERS if (python := getattr(options, peer))}
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        measured = measure(Path(folder), pythons, options.rounds, options.requests)
    text = report(measured, pythons, rounds=options.rounds)
    print(text)
    if options.write:
        RESULTS.write_text(text)


def measure(folder: Path, pythons: dict[str, str], rounds: int, requests: int) -> Measured:
    """All servers stand beside each other, idle but for the one that is asked."""
    models = make(folder / "models")
    measured = Measured()
    running: dict[str, Server] = {}
    try:
        three = running["three"] = start_ours(
            folder / "three", models, only=("iris-interval", "iris-off", "lightgbm-interval")
        )
        measured.ready["goldenloop"] = three.ready_cpu_seconds
        for name in ("iris-interval", "iris-off", "lightgbm-interval"):
            columns = COLUMNS if name.startswith("lightgbm") else 4
            send(three.rest, v1(name, rows_of(columns, 1)), connections=CONNECTIONS, requests=WARMING)
        measured.pss["goldenloop"] = three.pss_bytes() / 1e6
        running.pop("three").stop()
        running["ours"] = start_ours(folder / "ours", models)
        running["two"] = start_ours(folder / "two", models, workers=2, only=("iris-interval",))
        for name in ("iris", "lightgbm"):
            for http in ("goldenloop", "uvicorn"):
                running[f"bare {name} {http}"] = start_bare(models, name, http)
        for name, python in pythons.items():
            peer = running[name] = start_peer(name, python, models)
            measured.ready[name], measured.pss[name] = peer.ready_cpu_seconds, peer.pss_bytes() / 1e6
        for number in range(rounds):
            for workload in workloads():
                asked = contenders(workload, running)
                for each in asked:
                    cost = cpu_of(each, workload, requests=requests // workload.fewer)
                    measured.cells.setdefault((workload.name, each.name), Cell()).values.append(cost)
                    print(f"round {number + 1}: {workload.name}: {each.name}: {cost:.0f} us", file=sys.stderr)
                if "kserve" in running and workload.is_bare and workload.fewer == 1:
                    rate = measured.rates.setdefault(workload.name, 0.5e6 / measured.of(workload.name, "kserve").median)
                    for each in asked:
                        if each.name in ("interval", *PEERS):
                            seen = ask(each, workload, requests=requests // 4, rate=rate)
                            cell = measured.p99.setdefault((workload.name, each.name), Cell())
                            cell.values.append(seen.quantile(0.99) * 1e3)
    finally:
        for server in running.values():
            server.stop()
    return measured


def contenders(workload: Workload, running: dict[str, Server]) -> list[Contender]:
    """Who answers a workload."""
    rows = workload.rows

    def ours(mode: str, server: str = "ours", name: str = "") -> Contender:
        return Contender(name or mode, running[server], workload.make(f"{workload.ours}-{mode}", rows))

    found = [ours(mode) for mode in workload.modes]
    if workload.is_bare and workload.model == "iris":
        found.append(ours("interval", "two", "two workers"))
    if workload.is_bare:
        for name, http in (("bare", "goldenloop"), ("bare, uvicorn", "uvicorn")):
            found.append(Contender(name, running[f"bare {workload.model} {http}"], v1(workload.model, rows)))
    if "kserve" in running:
        for model in workload.kserve:
            name = "kserve, booster" if model == "booster" else "kserve"
            found.append(Contender(name, running["kserve"], workload.make(model, rows)))
    if workload.is_bare and "mlserver" in running:  # it speaks the second protocol only
        found.append(Contender("mlserver", running["mlserver"], v2_json(workload.model, rows)))
    if workload.is_bare and "bentoml" in running:
        found.append(Contender("bentoml", running["bentoml"], bento(workload.model, rows)))
    return found


def ask(contender: Contender, workload: Workload, *, requests: int, rate: float | None = None) -> Seen:
    """Send so many requests of a workload."""
    port = contender.server.grpc if workload.is_grpc else contender.server.rest
    assert port is not None
    return send(port, contender.request, connections=workload.connections, requests=requests, rate=rate)


def cpu_of(contender: Contender, workload: Workload, *, requests: int) -> float:
    """CPU microseconds a request of all the server's processes."""
    ask(contender, workload, requests=WARMING)
    before = contender.server.cpu_seconds()
    ask(contender, workload, requests=requests)
    return (contender.server.cpu_seconds() - before) / requests * 1e6


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound of a measured value; `at_least` or else at most."""

    what: str
    value: float | None
    bound: float
    at_least: bool = False
    unit: str = "×"

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        if self.value is None:
            return f"| {self.what} | not measured | {sign} {self.bound:g} {self.unit} | – |"
        met = self.value >= self.bound if self.at_least else self.value <= self.bound
        return f"| {self.what} | {self.value:.2f} {self.unit} | {sign} {self.bound:g} {self.unit} | {'met' if met else 'MISSED'} |"


def goals(measured: Measured) -> list[Goal]:
    """What was promised, and what came of it."""
    iris, many, trees, hundred, binary, over_grpc, kept = (each.name for each in workloads())

    def slower(workload: str, bound: float, peer: str = "kserve") -> Goal:
        return Goal(f"{peer} / ours: {workload}", measured.ratio(workload, peer, "interval"), bound, at_least=True)

    found = [
        slower(iris, 9),
        slower(trees, 18),
        slower(hundred, 3),
        slower(binary, 6),
        slower(over_grpc, 4),
        slower(kept, 4),
    ]
    for workload in (iris, trees):
        one, other = measured.p99.get((workload, "kserve")), measured.p99.get((workload, "interval"))
        value = one.median / other.median if one and other else None
        found.append(Goal(f"p99 kserve / ours: {workload}", value, 4, at_least=True))
    found += [
        Goal(f"ours, log off / bare handler: {each}", measured.ratio(each, "off", "bare"), 1.3)
        for each in (iris, trees, hundred)
    ]
    found += [
        Goal(f"log interval / off: {many}", measured.ratio(many, "interval", "off"), 1.15),
        Goal(f"log durable / off: {many}", measured.ratio(many, "durable", "off"), 1.6),
        Goal("two workers / one", measured.ratio(iris, "two workers", "interval"), 1.1),
        Goal("CPU until ready, three models", measured.ready.get("goldenloop"), 1.5, unit="s"),
        Goal("memory (PSS), three models", measured.pss.get("goldenloop"), 100, unit="MB"),
    ]
    return found


def report(measured: Measured, pythons: dict[str, str], *, rounds: int) -> str:
    """The tables, with what is needed to repeat them."""
    names = list(dict.fromkeys(contender for _, contender in measured.cells))
    lines = [
        "# What a prediction costs the server",
        "",
        f"{about(pythons)}; medians of {rounds} interleaved rounds, extremes in brackets.",
        "",
        "CPU microseconds a request, of all the server's processes; `off` to `durable` are our modes of the payload log:",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    lines += [
        f"| {workload.name} | {' | '.join(str(measured.of(workload.name, name)) for name in names)} |"
        for workload in workloads()
    ]
    timed = [name for name in ("interval", *PEERS) if any(contender == name for _, contender in measured.p99)]
    lines += [
        "",
        "p99 in milliseconds, counted from when a request was due, at half of the load that KServe's process can answer:",
        "",
        f"| | requests a second | {' | '.join(timed)} |",
        f"|---|---|{'---|' * len(timed)}",
    ]
    for name, rate in measured.rates.items():
        cells = [measured.p99.get((name, contender), Cell()) for contender in timed]
        lines.append(f"| {name} | {rate:.0f} | {' | '.join(f'{c.median:.1f}' if c.values else '–' for c in cells)} |")
    lines += ["", "| | CPU seconds until ready | memory (PSS), MB |", "|---|---|---|"]
    lines += [f"| {name} | {measured.ready[name]:.1f} | {measured.pss[name]:.0f} |" for name in measured.ready]
    lines += ["", "| goal | measured | bound | |", "|---|---|---|---|", *map(str, goals(measured))]
    lines += [
        "",
        "`bare` decodes, batches, scores and encodes on our HTTP server, and on uvicorn. `kserve` calls the classifiers as they are saved;",
        "`kserve, booster` calls the trees without LightGBM's own wrapper, which a person would have to write. MLServer is asked by the",
        "second protocol, BentoML by its own. Wall times, and so the p99, are only comparable within a line.",
    ]
    return "\n".join(lines) + "\n"


def about(pythons: dict[str, str]) -> str:
    """The day, the commit, the versions, and how busy the machine is."""
    words = ["git", "describe", "--always", "--dirty= with changes"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("goldenloop", "onnxruntime", "uvicorn", "scikit-learn", "lightgbm")
    ]
    for name, python in pythons.items():
        code = f"import importlib.metadata as m; print('{name}', m.version('{name}'))"
        versions.append(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    busy = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{datetime.now(tz=UTC):%Y-%m-%d}, commit {commit}, Python {sys.version.split()[0]}, {', '.join(versions)}; "
        f"{os.cpu_count()} cores, load {busy}"
    )


if __name__ == "__main__":
    main()
