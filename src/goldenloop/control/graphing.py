"""A version in the lineage graph: the model that a run made was evaluated, and the evaluation made a version."""

from __future__ import annotations

from typing import Final

from goldenloop.core.phases import Verdict
from goldenloop.lineage.graph.keeping import keep_events, keep_nodes
from goldenloop.lineage.graph.links import put_members
from goldenloop.lineage.graph.nodes import ids_of_external
from goldenloop.lineage.graph.records import Event, EventType, Kind, Node
from goldenloop.registry.versions import ModelVersion
from goldenloop.store.database import Transaction

VERSION: Final = "goldenloop.ModelVersion"
EVALUATION: Final = "goldenloop.Evaluation"
_LIVE: Final = 2  # states of ML Metadata: an artifact that is there,
_COMPLETE: Final = 3  # and an execution that has ended well


def keep_version(
    transaction: Transaction, version: ModelVersion, verdict: Verdict, reason: str, *, now_us: int
) -> None:
    """Write a version, and what it was made of, in the transaction in which it is registered."""
    name = f"{version.namespace}/{version.model}/{version.number}"
    made = Node(name=name, uri=version.folder, state=_LIVE, custom={"digest": version.digest, "number": version.number})
    judged = Node(name=name, state=_COMPLETE, custom={"verdict": verdict.value, "reason": reason})
    [artifact] = keep_nodes(transaction, Kind.ARTIFACT, [(f"version/{name}", VERSION, made)], now_us=now_us).values()
    [execution] = keep_nodes(
        transaction, Kind.EXECUTION, [(f"evaluation/{name}", EVALUATION, judged)], now_us=now_us
    ).values()
    ends = {artifact: EventType.OUTPUT}
    if version.artifact_id is not None:
        ends |= dict.fromkeys(
            ids_of_external(transaction, Kind.ARTIFACT, [version.artifact_id]).values(), EventType.INPUT
        )
    events = [Event(artifact_id=node, execution_id=execution, type=kind) for node, kind in ends.items()]
    keep_events(transaction, events, now_us=now_us)
    if version.run_id is not None:
        for run in ids_of_external(transaction, Kind.CONTEXT, [version.run_id]).values():
            put_members(transaction, Kind.EXECUTION, [(run, execution)], are_known=True)
            put_members(transaction, Kind.ARTIFACT, [(run, artifact)], are_known=True)
