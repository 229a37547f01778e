"""What an answer costs in serving: requests through the code that serves, in this process, with one thread.

The same endpoints that a worker has answer with the served form: reading the body (REST, V2), scoring, the payload log and writing the
reply are in the time; the socket is not. Challenger and champion take turns, so that whatever else the machine does meets both. A model
that is served by a predictor process of its own is scored in this process here, so the way to that process, tens of microseconds, is not
in its time.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from goldenloop.core.clock import SystemClock
from goldenloop.core.phases import Verdict
from goldenloop.core.routing import RoutingTable, Served, Service
from goldenloop.evaluation.checks import Finding
from goldenloop.payloads.log import PayloadWriter
from goldenloop.serving.dataplane import DataPlane, Deployed
from goldenloop.serving.endpoints import Endpoints
from goldenloop.serving.metrics import Metrics
from goldenloop.serving.scorers import LocalScorer
from goldenloop.serving.scoring import TableModel
from goldenloop.standards.evaluation import ServingCheck
from goldenloop.standards.open_inference import rest as protocol

SINGLE_REQUESTS = 300
BATCH_REQUESTS = 60
BATCH_ROWS = 100
LONGEST_SECONDS = 4.0  # for each of both; a slow model is measured on fewer requests
FEWEST_REQUESTS = 20  # for a 99th percentile to be held against a limit
_WARM_UP = 5


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds at the endpoints, of requests with one row and with 100."""

    requests: int
    p50_ms: float
    p99_ms: float
    batch_requests: int
    batch_p50_ms: float
    batch_p99_ms: float


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What the challenger costs, beside the champion in the same process."""

    challenger: Latency
    champion: Latency | None
    size_bytes: int
    champion_size_bytes: int | None


def measure_cost(models: Mapping[str, TableModel], rows: pa.Table, sizes: Mapping[str, int], folder: Path) -> Cost:
    """Measure `challenger`, and `champion` where it is among the models. Raises GoldenloopError where one does not answer."""
    scratch = folder / "cost"
    scratch.mkdir()
    try:
        measured = asyncio.run(_measured(models, rows, scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Cost(
        challenger=measured["challenger"],
        champion=measured.get("champion"),
        size_bytes=sizes["challenger"],
        champion_size_bytes=sizes.get("champion"),
    )


def check_cost(cost: Cost, asked: ServingCheck) -> Finding:
    """Hold what was measured against the limits that are given."""
    measured = cost.challenger
    limits: dict[str, tuple[float | None, float, int]] = {
        "latency p50": (asked.latency_p50_ms, measured.p50_ms, measured.requests),
        "latency p99": (asked.latency_p99_ms, measured.p99_ms, measured.requests),
        f"latency p99 of {BATCH_ROWS} rows": (asked.batch_p99_ms, measured.batch_p99_ms, measured.batch_requests),
    }
    evidence = {**msgspec.to_builtins(cost), "limits": msgspec.to_builtins(asked)}
    size_mb = cost.size_bytes / 1e6
    over = [
        f"{name} is {value:.3g} ms, above {limit:g} ms"
        for name, (limit, value, _) in limits.items()
        if limit is not None and value > limit
    ]
    if asked.size_mb is not None and size_mb > asked.size_mb:
        over.append(f"the model has {size_mb:.3g} MB, above {asked.size_mb:g} MB")
    beside = (
        "" if cost.champion is None else f"; the champion {cost.champion.p50_ms:.3g} and {cost.champion.p99_ms:.3g} ms"
    )
    said = (
        f"a row is answered in {measured.p50_ms:.3g} ms (p50) and {measured.p99_ms:.3g} ms (p99), "
        f"{BATCH_ROWS} rows in {measured.batch_p99_ms:.3g} ms (p99), with {size_mb:.3g} MB{beside}"
    )
    if over:
        return Finding(verdict=Verdict.FAIL, reason="; ".join(over), evidence=evidence)
    few = [name for name, (limit, _, requests) in limits.items() if limit is not None and requests < FEWEST_REQUESTS]
    if few:
        return Finding(
            verdict=Verdict.INCONCLUSIVE,
            reason=f"the model is so slow that too few requests could be made for {', '.join(few)}",
            evidence=evidence,
        )
    has_limits = asked.size_mb is not None or any(limit is not None for limit, _, _ in limits.values())
    return Finding(
        verdict=Verdict.PASS if has_limits else Verdict.INCONCLUSIVE,
        reason=said if has_limits else f"{said}; no limit is given",
        applies=has_limits,
        evidence=evidence,
    )


async def _measured(models: Mapping[str, TableModel], rows: pa.Table, folder: Path) -> dict[str, Latency]:
    writer = PayloadWriter(folder / "payloads", "cost", mode="interval")
    plane = DataPlane(writer=writer, metrics=Metrics(str(folder)), clock=SystemClock(), on_held=lambda *_: None)
    deployed = {}
    services = []
    for name, model in models.items():
        service = Service(
            namespace="default", name=name, champion="1", versions=(Served(version="1", path="", digest=""),)
        )
        services.append(service)
        deployed["default", name] = Deployed(service, {"1": LocalScorer.of_table(model)})
    plane.take_table(RoutingTable(generation=1, services=tuple(services)), deployed, {})
    endpoints = Endpoints(plane)
    try:
        singles = await _timed(endpoints, models, rows, size=1, requests=SINGLE_REQUESTS)
        batches = await _timed(endpoints, models, rows, size=BATCH_ROWS, requests=BATCH_REQUESTS)
    finally:
        plane.stop()
        writer.close()
        for each in deployed.values():
            await each.models["1"].close()
    return {name: _summary(singles[name], batches[name]) for name in models}


async def _timed(
    endpoints: Endpoints, models: Mapping[str, TableModel], rows: pa.Table, *, size: int, requests: int
) -> dict[str, list[float]]:
    """Milliseconds of each request, by model; the first few are not counted."""
    bodies = {name: [_body(model, rows, size, number) for number in range(16)] for name, model in models.items()}
    found: dict[str, list[float]] = {name: [] for name in models}
    end = time.perf_counter() + LONGEST_SECONDS
    for number in range(-_WARM_UP, requests):
        for name in models:
            took = await _ask(endpoints, name, bodies[name][number % 16])
            if number >= 0:
                found[name].append(took)
        if time.perf_counter() > end and number >= 0:
            break
    return found


async def _ask(endpoints: Endpoints, name: str, body: bytes) -> float:
    """One request, from the bytes of its body to the bytes of the answer's. Raises GoldenloopError where the model does not answer."""
    begun = time.perf_counter()
    request = protocol.read_v2(body, model=name)
    protocol.write_v2(request, await endpoints.infer(request, {}))
    return (time.perf_counter() - begun) * 1_000


def _body(model: TableModel, rows: pa.Table, size: int, number: int) -> bytes:
    places = (np.arange(size) + number * size) % rows.num_rows
    taken = rows.take(pa.array(places))
    inputs = []
    for column in model.signature.inputs:
        values = taken.column(column.name).to_pylist()
        if column.kind == "number":
            data: list[object] = [None if value is None or value != value else float(value) for value in values]
        else:
            data = [None if value is None else str(value) for value in values]
        datatype = "FP64" if column.kind == "number" else "BYTES"
        inputs.append({"name": column.name, "datatype": datatype, "shape": [size], "data": data})
    return msgspec.json.encode({"inputs": inputs})


def _summary(singles: list[float], batches: list[float]) -> Latency:
    def of(values: list[float], level: float) -> float:
        return float(np.quantile(values, level, method="higher"))

    return Latency(
        requests=len(singles),
        p50_ms=of(singles, 0.5),
        p99_ms=of(singles, 0.99),
        batch_requests=len(batches),
        batch_p50_ms=of(batches, 0.5),
        batch_p99_ms=of(batches, 0.99),
    )
