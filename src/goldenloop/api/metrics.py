"""What control knows, in Prometheus' format: the last measurement of each kind, promises, rollouts, runs."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from goldenloop.control.platform import Platform
from goldenloop.standards.kubernetes import kind_named
from goldenloop.store import resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import measurements, runs, versions

FEATURES_SHOWN = 32  # of a monitor, by value; the rest are summed up as `_other` (their highest value)


def exposition(platform: Platform) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Control(platform))
    return bytes(generate_latest(registry))


class _Control(Collector):
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def collect(self) -> Iterator[Metric]:
        with self._platform.database.read() as transaction:
            yield from _measured(transaction)
            yield from _counted(transaction)
            yield _golden(transaction)
        up = GaugeMetricFamily("goldenloop_workers", "Inference workers that are connected to control.")
        up.add_metric([], self._platform.workers.count())
        yield up


def _measured(transaction: Transaction) -> Iterator[Metric]:
    labels = ["namespace", "service", "loop", "monitor", "metric", "feature", "model_version"]
    value = GaugeMetricFamily("goldenloop_measurement", "The last measurement of a monitor.", labels=labels)
    threshold = GaugeMetricFamily("goldenloop_threshold", "What the measurement is held against.", labels=labels)
    verdict = GaugeMetricFamily("goldenloop_verdict", "1 for the verdict that holds.", labels=[*labels, "verdict"])
    windows = GaugeMetricFamily("goldenloop_windows", "Windows closed so far.", labels=["namespace", "service", "loop"])
    last = (
        select(
            measurements.c.namespace,
            measurements.c.loop,
            measurements.c.monitor,
            func.max(measurements.c.window).label("window"),
        )
        .group_by(measurements.c.namespace, measurements.c.loop, measurements.c.monitor)
        .subquery()
    )
    query = select(measurements).join(
        last,
        (measurements.c.namespace == last.c.namespace)
        & (measurements.c.loop == last.c.loop)
        & (measurements.c.monitor == last.c.monitor)
        & (measurements.c.window == last.c.window),
    )
    seen: dict[tuple[str, ...], int] = {}
    others: dict[tuple[str, ...], float] = {}
    latest: dict[tuple[str, str], int] = {}
    for row in transaction.execute(query.order_by(measurements.c.value.desc())):
        loop = (row.namespace, row.loop)
        latest[loop] = max(latest.get(loop, 0), row.window + 1)
        common = [row.namespace, row.loop, row.loop, row.monitor, row.metric]
        if row.feature:
            key = (*common, row.version)
            seen[key] = seen.get(key, 0) + 1
            if seen[key] > FEATURES_SHOWN:
                others.setdefault(key, row.value if row.value is not None else 0.0)
                continue
        named = [*common, row.feature, row.version]
        if row.value is not None:
            value.add_metric(named, row.value)
        if row.threshold is not None:
            threshold.add_metric(named, row.threshold)
        if not row.feature:
            verdict.add_metric([*named, row.verdict], 1)
    for key, highest in others.items():
        value.add_metric([*key[:5], "_other", key[5]], highest)
    for (namespace, loop_name), count in latest.items():
        windows.add_metric([namespace, loop_name, loop_name], count)
    yield from (value, threshold, verdict, windows)


def _counted(transaction: Transaction) -> Iterator[Metric]:
    family = GaugeMetricFamily("goldenloop_runs", "Runs by state.", labels=["namespace", "loop", "state"])
    query = select(runs.c.namespace, runs.c.loop, runs.c.state, func.count()).group_by(
        runs.c.namespace, runs.c.loop, runs.c.state
    )
    for namespace, loop, state, count in transaction.execute(query):
        family.add_metric([namespace, loop or "", state], count)
    yield family
    rollouts = GaugeMetricFamily(
        "goldenloop_rollout_evidence",
        "Log evidence of the rollout.",
        labels=["namespace", "service", "model_version", "side"],
    )
    for document in resources.listing(transaction, kind_named("rollouts")):
        status, metadata = document.get("status"), resources.metadata_of(document)
        if not isinstance(status, dict) or status.get("phase") not in ("Shadow", "Canary"):
            continue
        evidence, spec = status["evidence"], document["spec"]
        assert isinstance(evidence, dict)
        assert isinstance(spec, dict)
        for side in ("benefit", "harm", "threshold"):
            rollouts.add_metric(
                [str(metadata["namespace"]), str(spec["service"]), str(spec["challenger"]), side],
                float(str(evidence[side])),
            )
    yield rollouts


def _golden(transaction: Transaction) -> Metric:
    family = GaugeMetricFamily(
        "goldenloop_golden_version", "The version that is golden.", labels=["namespace", "service"]
    )
    query = select(versions.c.namespace, versions.c.model, versions.c.number).where(versions.c.state == "Golden")
    for namespace, model, number in transaction.execute(query):
        family.add_metric([namespace, model], number)
    return family
