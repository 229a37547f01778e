"""What a prediction costs the server: ours in each mode of the payload log, KServe's, and the least that a handler can do, interleaved.

    python benchmarks/serving.py [--kserve PYTHON] [--rounds 3] [--requests 3000] [--rate 200] [--write]

`--kserve`: an interpreter of an environment with kserve, scikit-learn and lightgbm; left out without it. What counts is CPU per request of
all of a server's processes, from /proc, and the ratios; latencies depend on what else the machine does, which is why they are measured
one right after the other and at the same offered load. `--write` puts the tables into benchmarks/results/serving.md.
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

from harness.load import GrpcRequest, Request, Seen, send
from harness.models import COLUMNS, grpc, make, rows_of, v1, v2_binary
from harness.servers import MODES, Server, start_bare, start_kserve, start_ours

RESULTS = Path(__file__).parent / "results" / "serving.md"
CONNECTIONS = 16
MANY_CONNECTIONS = 64
WARMING = 100  # requests before those that count
Make = Callable[[str], Request | GrpcRequest]


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of request. `ours` is the beginning of the name of our services, `model` the name everywhere else."""

    name: str
    model: str
    make: Make
    is_grpc: bool = False
    fewer: int = 1  # times fewer requests, because each takes long
    connections: int = CONNECTIONS
    modes: tuple[str, ...] = ("interval",)
    peers: tuple[str, ...] = ()  # names of models of a peer
    is_bare: bool = False


def workloads() -> list[Workload]:
    """What is measured."""
    one, flower, hundred = rows_of(COLUMNS, 1), rows_of(4, 1), rows_of(COLUMNS, 100)
    trees = ("lightgbm", "booster")
    return [
        Workload("Iris, 1 row, V1", "iris", lambda name: v1(name, flower), modes=MODES, peers=("iris",), is_bare=True),
        Workload(
            f"Iris, 1 row, V1, {MANY_CONNECTIONS} connections", "iris", lambda name: v1(name, flower),
            modes=("off", "interval", "durable"), connections=MANY_CONNECTIONS,
        ),
        Workload("LightGBM, 1 row, V1", "lightgbm", lambda name: v1(name, one), modes=("off", "interval"), peers=trees, is_bare=True),
        Workload(
            "LightGBM, 100 rows, V1", "lightgbm", lambda name: v1(name, hundred), fewer=8, modes=("off", "interval"), peers=trees,
            is_bare=True,
        ),
        Workload("LightGBM, 100 rows, V2 binary", "lightgbm", lambda name: v2_binary(name, hundred), fewer=8, peers=trees),
        Workload("Iris, 1 row, gRPC", "iris", lambda name: grpc(name, flower), is_grpc=True, peers=("iris",)),
        Workload("Iris not converted, 1 row, V1", "object", lambda name: v1(name, flower), peers=("iris",)),
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
    parser.add_argument("--kserve", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=3000, help="a cell; fewer where a request has 100 rows")
    parser.add_argument(
        "--rate", type=float, default=200.0, help="requests a second, offered to each server for the p99"
    )
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        measured = measure(Path(folder), options.kserve, options.rounds, options.requests, options.rate)
    text = report(measured, options.kserve, rounds=options.rounds, rate=options.rate)
    print(text)
    if options.write:
        RESULTS.write_text(text)


def measure(folder: Path, kserve: str | None, rounds: int, requests: int, rate: float) -> Measured:
    """All servers stand beside each other, idle but for the one that is asked."""
    models = make(folder / "models")
    measured = Measured()
    running: list[Server] = []
    try:
        three = start_ours(folder / "three", models, only=("iris-interval", "iris-off", "lightgbm-interval"))
        running.append(three)
        measured.ready["goldenloop"] = three.ready_cpu_seconds
        for name in ("iris-interval", "iris-off", "lightgbm-interval"):
            columns = COLUMNS if name.startswith("lightgbm") else 4
            send(three.rest, v1(name, rows_of(columns, 1)), connections=CONNECTIONS, requests=WARMING)
        measured.pss["goldenloop"] = three.pss_bytes() / 1e6
        running.pop().stop()
        ours = start_ours(folder / "ours", models)
        running.append(ours)
        two = start_ours(folder / "two", models, workers=2, only=("iris-interval",))
        running.append(two)
        bare = {name: start_bare(models, name) for name in ("iris", "lightgbm")}
        running += bare.values()
        peer = None
        if kserve:
            peer = start_kserve(kserve, models)
            running.append(peer)
            measured.ready["kserve"], measured.pss["kserve"] = peer.ready_cpu_seconds, peer.pss_bytes() / 1e6
        for number in range(rounds):
            for workload in workloads():
                for contender, server, name in contenders(workload, ours, two, bare, peer):
                    cost = cpu_of(server, workload, name, requests=requests // workload.fewer)
                    measured.cells.setdefault((workload.name, contender), Cell()).values.append(cost)
                    print(f"round {number + 1}: {workload.name}: {contender}: {cost:.0f} us", file=sys.stderr)
                if workload.is_bare and workload.fewer == 1 and peer is not None:
                    for contender, server, name in (
                        ("interval", ours, f"{workload.model}-interval"),
                        ("kserve", peer, workload.model),
                    ):
                        seen = ask(server, workload, name, requests=requests // 2, rate=rate)
                        measured.p99.setdefault((workload.name, contender), Cell()).values.append(
                            seen.quantile(0.99) * 1e3
                        )
    finally:
        for server in running:
            server.stop()
    return measured


def contenders(
    workload: Workload, ours: Server, two: Server, bare: dict[str, Server], peer: Server | None
) -> list[tuple[str, Server, str]]:
    """Who answers a workload: what to call it, where, and by which name of the model."""
    found = [(mode, ours, f"{workload.model}-{mode}") for mode in workload.modes]
    if workload.model == "iris" and workload.is_bare:
        found.append(("two workers", two, "iris-interval"))
    if workload.is_bare:
        found.append(("bare", bare[workload.model], workload.model))
    if peer is not None:
        found += [("kserve" if name != "booster" else "kserve, booster", peer, name) for name in workload.peers]
    return found


def ask(server: Server, workload: Workload, model: str, *, requests: int, rate: float | None = None) -> Seen:
    """Send so many requests of a workload."""
    port = server.grpc if workload.is_grpc else server.rest
    assert port is not None
    return send(port, workload.make(model), connections=workload.connections, requests=requests, rate=rate)


def cpu_of(server: Server, workload: Workload, model: str, *, requests: int) -> float:
    """CPU microseconds a request of all the server's processes."""
    ask(server, workload, model, requests=WARMING)
    before = server.cpu_seconds()
    ask(server, workload, model, requests=requests)
    return (server.cpu_seconds() - before) / requests * 1e6


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


def report(measured: Measured, kserve: str | None, *, rounds: int, rate: float) -> str:
    """The tables, with what is needed to repeat them."""
    names = list(dict.fromkeys(contender for _, contender in measured.cells))
    lines = [
        "# What a prediction costs the server",
        "",
        f"{about(kserve)}; medians of {rounds} interleaved rounds, extremes in brackets.",
    ]
    lines += [
        "",
        "CPU microseconds a request, of all the server's processes; `off` to `durable` are our modes of the payload log:",
        "",
    ]
    lines += [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for workload in workloads():
        lines.append(f"| {workload.name} | {' | '.join(str(measured.of(workload.name, name)) for name in names)} |")
    lines += [
        "",
        f"p99 in milliseconds at {rate:g} requests a second, counted from when a request was due:",
        "",
        "| | ours | kserve |",
    ]
    lines += ["|---|---|---|"]
    for workload in workloads():
        cells = [measured.p99.get((workload.name, name)) for name in ("interval", "kserve")]
        if all(cells):
            lines.append(f"| {workload.name} | {' | '.join(f'{cell.median:.1f}' for cell in cells if cell)} |")
    lines += ["", "| | CPU seconds until ready | memory (PSS), MB |", "|---|---|---|"]
    lines += [f"| {name} | {measured.ready[name]:.1f} | {measured.pss[name]:.0f} |" for name in measured.ready]
    lines += ["", "| goal | measured | bound | |", "|---|---|---|---|", *map(str, goals(measured))]
    lines += [
        "",
        "`kserve` calls the classifiers as they are saved; `kserve, booster` calls the trees without LightGBM's own wrapper, which a",
    ]
    lines += ["person would have to write. Wall times, and so the p99, are only comparable within a line."]
    return "\n".join(lines) + "\n"


def about(kserve: str | None) -> str:
    """The day, the commit, the versions, and how busy the machine is."""
    words = ["git", "describe", "--always", "--dirty= with changes"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("goldenloop", "onnxruntime", "uvicorn", "scikit-learn", "lightgbm")
    ]
    if kserve:
        code = "import importlib.metadata as m; print('kserve', m.version('kserve'))"
        versions.append(subprocess.run([kserve, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    busy = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{datetime.now(tz=UTC):%Y-%m-%d}, commit {commit}, Python {sys.version.split()[0]}, {', '.join(versions)}; "
        f"{os.cpu_count()} cores, load {busy}"
    )


if __name__ == "__main__":
    main()
