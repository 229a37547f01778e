"""What control knows, in Prometheus' format: the last measurement of each kind, promises, rollouts, runs."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from goldenloop.control.indicators import alpha_spent
from goldenloop.control.platform import Platform
from goldenloop.core.clock import SECOND
from goldenloop.standards.kubernetes import kind_named
from goldenloop.store import resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import alerts, measurements, messages, runs, versions

FEATURES_SHOWN = 32  # features of a monitor's metric, and slices, by value; the rest are `_other` (their highest value)


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
            yield from _objectives(transaction)
            yield _golden(transaction)
            yield from _told(transaction)
        up = GaugeMetricFamily("goldenloop_workers", "Inference workers that are connected to control.")
        up.add_metric([], self._platform.workers.count())
        yield up


def _measured(transaction: Transaction) -> Iterator[Metric]:
    labels = ["namespace", "service", "loop", "monitor", "metric", "feature", "slice", "model_version"]
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
        if row.feature or row.slice:
            key = (*common, "_other" if row.feature else "", "_other" if row.slice else "", row.version)
            seen[key] = seen.get(key, 0) + 1
            if seen[key] > FEATURES_SHOWN:
                others.setdefault(key, row.value if row.value is not None else 0.0)
                continue
        named = [*common, row.feature, row.slice, row.version]
        if row.value is not None:
            value.add_metric(named, row.value)
        if row.threshold is not None:
            threshold.add_metric(named, row.threshold)
        if not row.feature and not row.slice:
            verdict.add_metric([*named, row.verdict], 1)
    for key, highest in others.items():
        value.add_metric(list(key), highest)
    for (namespace, loop_name), count in latest.items():
        windows.add_metric([namespace, loop_name, loop_name], count)
    yield from (value, threshold, verdict, windows)


def _counted(transaction: Transaction) -> Iterator[Metric]:
    family = GaugeMetricFamily("goldenloop_runs", "Runs by state.", labels=["namespace", "loop", "state"])
    spent = GaugeMetricFamily("goldenloop_run_seconds", "Seconds that all runs took.", labels=["namespace", "loop"])
    took_us = func.sum(runs.c.finished_us - runs.c.started_us)
    query = select(runs.c.namespace, runs.c.loop, runs.c.state, func.count(), took_us).group_by(
        runs.c.namespace, runs.c.loop, runs.c.state
    )
    seconds: dict[tuple[str, str], float] = {}
    for namespace, loop, state, count, took in transaction.execute(query):
        family.add_metric([namespace, loop or "", state], count)
        seconds[namespace, loop or ""] = seconds.get((namespace, loop or ""), 0.0) + float(took or 0) / SECOND
    for (namespace, loop), total in seconds.items():
        spent.add_metric([namespace, loop], total)
    yield from (family, spent)
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


def _objectives(transaction: Transaction) -> Iterator[Metric]:
    """Where SLOs stand, as their status says; one that is not measured has its target only."""
    of_an_slo = ["namespace", "service", "slo"]
    target = GaugeMetricFamily(
        "goldenloop_objective_target", "The share that is promised to be good.", labels=of_an_slo
    )
    attained = GaugeMetricFamily("goldenloop_objective_attainment", "The share that was good.", labels=of_an_slo)
    left = GaugeMetricFamily(
        "goldenloop_error_budget_remaining", "The part of the error budget left.", labels=of_an_slo
    )
    error = GaugeMetricFamily("goldenloop_objective_error", "The bad share of the newest occurrence.", labels=of_an_slo)
    for document in resources.listing(transaction, kind_named("slos")):
        status, spec, namespace = document.get("status"), document["spec"], resources.metadata_of(document)["namespace"]
        shown = status.get("objectives") if isinstance(status, dict) else None
        if not isinstance(shown, list) or not isinstance(spec, dict):
            continue
        for each in shown:
            if not isinstance(each, dict):
                continue
            named = [str(namespace), str(spec["service"]), str(each["name"])]
            for family, field in (
                (target, "target"),
                (attained, "attainment"),
                (left, "budgetRemaining"),
                (error, "lastError"),
            ):
                if isinstance(value := each.get(field), int | float):
                    family.add_metric(named, value)
    spent = GaugeMetricFamily(
        "goldenloop_promotion_alpha_spent",
        "The error rate that rollouts have used up.",
        labels=["namespace", "service"],
    )
    for document in resources.listing(transaction, kind_named("loops")):
        metadata = resources.metadata_of(document)
        namespace, name = str(metadata["namespace"]), str(metadata["name"])
        spent.add_metric([namespace, name], alpha_spent(transaction, namespace, name))
    yield from (target, attained, left, error, spent)


def _golden(transaction: Transaction) -> Metric:
    family = GaugeMetricFamily(
        "goldenloop_golden_version", "The version that is golden.", labels=["namespace", "service"]
    )
    query = select(versions.c.namespace, versions.c.model, versions.c.number).where(versions.c.state == "Golden")
    for namespace, model, number in transaction.execute(query):
        family.add_metric([namespace, model], number)
    return family


def _told(transaction: Transaction) -> Iterator[Metric]:
    told = GaugeMetricFamily(
        "goldenloop_messages", "Messages to people in the last days.", labels=["namespace", "loop", "channel", "state"]
    )
    of = (messages.c.namespace, messages.c.loop, messages.c.channel, messages.c.state)
    for namespace, loop, channel, state, count in transaction.execute(select(*of, func.count()).group_by(*of)):
        told.add_metric([namespace, loop, channel, state], count)
    firing = GaugeMetricFamily(
        "goldenloop_alerts_firing", "Alerts that go on.", labels=["namespace", "loop", "alert", "instance"]
    )
    lasting = select(alerts.c.namespace, alerts.c.loop, alerts.c.kind, alerts.c.instance)
    for namespace, loop, kind, instance in transaction.execute(lasting.where(alerts.c.ended_us.is_(None))):
        firing.add_metric([namespace, loop, kind, instance], 1)
    yield from (told, firing)
