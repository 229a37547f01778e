"""Results of earlier steps: what decides that a step would give the same again, and whether what it gave is still
there.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import RowMapping

from goldenloop.core.ids import digest_text
from goldenloop.core.phases import RunState
from goldenloop.pipelines.artifact_records import ADDRESS
from goldenloop.pipelines.nodes import Node
from goldenloop.pipelines.values import Values, values_of
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Transaction
from goldenloop.store.tables import artifacts, runs, tasks

_CANDIDATES = 5  # how many earlier results are looked at for one whose artifacts are still there


def cache_key(
    node: Node, inputs: Values, found: Mapping[str, RowMapping], *, pipeline: str, settings: tuple[str, ...]
) -> str:
    """What decides a step's outputs: what it runs, and the values and contents that it gets. `settings`: what platforms
    say of it.

    A key that the task itself names stands for all of that; it counts for its component within its pipeline.
    """
    component = node.component
    if node.task.cache_key:
        return digest_text("named", pipeline, component.name, node.task.cache_key)
    given = {
        port: [[found[identity][name] for name in ("uri", "digest", "type", "properties")] for identity in ids]
        for port, ids in inputs.artifacts.items()
    }
    ports = {port: spec.type for port, spec in component.output_artifacts.items()}
    parts = (
        component.container,
        inputs.parameters,
        given,
        ports,
        sorted(component.output_parameters),
    )
    return digest_text(*settings, *(msgspec.json.encode(part, order="deterministic").decode() for part in parts))


def find_cached(transaction: Transaction, kept: Artifacts, namespace: str, key: str) -> tuple[str, Values] | None:
    """The task that did the same before, and what it gave, if that is still there."""
    query = (
        select(tasks.c.id, tasks.c.outputs)
        .join(runs, runs.c.id == tasks.c.run_id)
        .where(
            tasks.c.cache_key == key,
            tasks.c.state == RunState.SUCCEEDED.value,
            tasks.c.cached_from.is_(None),
            runs.c.namespace == namespace,
        )
        .order_by(tasks.c.finished_us.desc())
        .limit(_CANDIDATES)
    )
    for row in transaction.execute(query).all():
        outputs = values_of(row.outputs)
        ids = [identity for port in outputs.artifacts.values() for identity in port]
        addresses = transaction.execute(select(artifacts.c.uri).where(artifacts.c.id.in_(ids))).scalars().all()
        if all(kept.exists(uri) for uri in addresses if uri.startswith(ADDRESS)):
            return row.id, outputs
    return None
