"""Params, tags and metrics: what is logged by key."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import delete, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Insert

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.store.database import ManyRows, Transaction, insert_ignoring
from goldenloop.store.tracking_tables import (
    logged_model_metrics,
    tracked_latest_metrics,
    tracked_metrics,
    tracked_params,
    tracked_tags,
)

EXPERIMENT, RUN, LOGGED_MODEL, MODEL, VERSION = "experiment", "run", "logged", "model", "version"  # whose tags
_AT_ONCE = 5_000  # ids in one statement; a database bounds its parameters

Pairs = dict[str, str]
Item = TypeVar("Item")


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a metric. It may be infinite, or no number."""

    key: str
    value: float
    timestamp_ms: int
    step: int = 0
    model_id: str = ""  # the logged model that it measures
    dataset_name: str = ""
    dataset_digest: str = ""

    def counts_over(self, other: Metric) -> bool:
        """Whether this is the value that counts: of a higher step, or later, or larger; what is no number comes last."""
        return (self.step, self.timestamp_ms, _rank(self.value)) >= (other.step, other.timestamp_ms, _rank(other.value))


def _upsert_latest(transaction: Transaction) -> Insert:
    """Keep a value where it counts over the one that is there."""
    make = postgresql.insert if transaction.dialect.name == "postgresql" else sqlite.insert
    table = tracked_latest_metrics
    statement = make(table)
    new = statement.excluded
    order = ("step", "timestamp_ms", "value")
    return statement.on_conflict_do_update(
        index_elements=[table.c.run_id, table.c.key],
        set_={name: new[name] for name in ("value", "is_nan", "timestamp_ms", "step")},
        where=tuple_(*(new[name] for name in order)) >= tuple_(*(table.c[name] for name in order)),
    )


_METRIC_COLUMNS = ("run_id", "key", "timestamp_ms", "step", "value", "is_nan")
_ADD_METRICS = ManyRows(lambda transaction: insert_ignoring(transaction, tracked_metrics), _METRIC_COLUMNS)
_KEEP_LATEST = ManyRows(_upsert_latest, _METRIC_COLUMNS)


def log_metrics(transaction: Transaction, run_id: str, metrics: Sequence[Metric]) -> None:
    """Keep values of a run, all in two statements whatever their number. The same value again changes nothing."""
    rows: list[tuple[object, ...]] = []
    newest: dict[str, tuple[Metric, tuple[object, ...]]] = {}
    for metric in metrics:
        is_nan = math.isnan(metric.value)
        row = (run_id, metric.key, metric.timestamp_ms, metric.step, 0.0 if is_nan else metric.value, is_nan)
        rows.append(row)
        if metric.key not in newest or metric.counts_over(newest[metric.key][0]):
            newest[metric.key] = (metric, row)
    _ADD_METRICS.execute(transaction, rows)
    _KEEP_LATEST.execute(transaction, [row for _, row in newest.values()])
    measured = [metric for metric in metrics if metric.model_id]
    if measured:
        transaction.execute(
            insert_ignoring(transaction, logged_model_metrics),
            [
                {
                    "model_id": metric.model_id,
                    "key": metric.key,
                    "run_id": run_id,
                    "timestamp_ms": metric.timestamp_ms,
                    "step": metric.step,
                    "dataset_name": metric.dataset_name,
                    "dataset_digest": metric.dataset_digest,
                    "value": _rank(metric.value),
                    "is_nan": math.isnan(metric.value),
                }
                for metric in measured
            ],
        )


def latest_metrics(transaction: Transaction, run_ids: Sequence[str]) -> dict[str, list[Metric]]:
    """The values that count, by run."""
    table = tracked_latest_metrics
    found: dict[str, list[Metric]] = defaultdict(list)
    for some in parts_of(run_ids):
        query = select(table.c.run_id, table.c.key, table.c.value, table.c.is_nan, table.c.timestamp_ms, table.c.step)
        for run_id, key, value, is_nan, timestamp_ms, step in transaction.execute(
            query.where(table.c.run_id.in_(some))
        ):
            number = math.nan if is_nan else value
            found[run_id].append(Metric(key=key, value=number, timestamp_ms=timestamp_ms, step=step))
    return found


def log_params(transaction: Transaction, owner: str, params: Pairs) -> None:
    """Keep params of a run or a logged model. Raises InvalidSpecError where one was logged with another value: it never changes."""
    if not params:
        return
    known = params_of(transaction, [owner], keys=list(params))[owner] if params else {}
    for key, value in params.items():
        if known.get(key, value) != value:
            raise InvalidSpecError(
                f"the param was logged before as {known[key][:200]!r}, and params do not change; this is {value[:200]!r}",
                where=f"params.{key}",
                mend="Log it under another key, or in another run.",
            )
    rows = [{"owner": owner, "key": key, "value": value} for key, value in params.items() if key not in known]
    if rows:
        transaction.execute(insert(tracked_params), rows)


def params_of(transaction: Transaction, owners: Sequence[str], *, keys: Sequence[str] = ()) -> dict[str, Pairs]:
    """Params by owner; of all keys, where none is named."""
    table = tracked_params
    found: dict[str, Pairs] = defaultdict(dict)
    for some in parts_of(owners):
        query = select(table.c.owner, table.c.key, table.c.value).where(table.c.owner.in_(some))
        if keys:
            query = query.where(table.c.key.in_(keys))
        for owner, key, value in transaction.execute(query).all():
            found[owner][key] = value
    return found


def _upsert_tag(transaction: Transaction) -> Insert:
    make = postgresql.insert if transaction.dialect.name == "postgresql" else sqlite.insert
    statement = make(tracked_tags)
    return statement.on_conflict_do_update(
        index_elements=list(tracked_tags.primary_key.columns), set_={"value": statement.excluded.value}
    )


_SET_TAGS = ManyRows(_upsert_tag, ("kind", "owner", "key", "value"))


def set_tags(transaction: Transaction, kind: str, owner: str, tags: Pairs) -> None:
    """Set tags; one that is there takes the new value."""
    _SET_TAGS.execute(transaction, [(kind, owner, key, value) for key, value in tags.items()])


def tags_of(transaction: Transaction, kind: str, owners: Sequence[str]) -> dict[str, Pairs]:
    """Tags by owner."""
    table = tracked_tags
    found: dict[str, Pairs] = defaultdict(dict)
    for some in parts_of(owners):
        query = select(table.c.owner, table.c.key, table.c.value).where(table.c.kind == kind, table.c.owner.in_(some))
        for owner, key, value in transaction.execute(query).all():
            found[owner][key] = value
    return found


def delete_tag(transaction: Transaction, kind: str, owner: str, key: str, *, must_exist: bool = True) -> None:
    """Delete a tag. Raises NotFoundError."""
    table = tracked_tags
    gone = transaction.execute(delete(table).where(table.c.kind == kind, table.c.owner == owner, table.c.key == key))
    if must_exist and gone.rowcount == 0:
        raise NotFoundError(f"there is no tag {key[:200]!r}", where=owner, mend="Look at the tags that are there.")


def forget_tags(transaction: Transaction, kind: str, owners: Sequence[str]) -> None:
    """Delete all tags of these."""
    for some in parts_of(owners):
        transaction.execute(delete(tracked_tags).where(tracked_tags.c.kind == kind, tracked_tags.c.owner.in_(some)))


def parts_of(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """The items, so many at a time that a statement can name them."""
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


def _rank(value: float) -> float:
    return 0.0 if math.isnan(value) else value
