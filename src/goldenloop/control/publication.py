"""From what is on record to the routing table: who answers, who scores in the shadow, and up to when requests may pass."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from goldenloop.control.memory import RolloutMemory
from goldenloop.control.rollout_status import baseline_of, share_of
from goldenloop.control.view import LoopView
from goldenloop.core.routing import Graph, Route, RoutingTable, Served, Service
from goldenloop.registry.versions import ModelVersion
from goldenloop.store.artifacts import Artifacts

BEFORE_ALL_TIME = -(1 << 62)  # holds a replay's first request, so that its time can become the origin of the windows


def service_of(
    view: LoopView,
    champion: ModelVersion,
    challenger: ModelVersion | None,
    rollout: RolloutMemory | None,
    earlier: ModelVersion | None,
    *,
    artifacts: Artifacts,
    hold_from_us: int | None,
) -> Service:
    """The service of a loop that has a champion."""
    # The version before stays loaded, so that going back is a pointer flip.
    present = [each for each in (champion, challenger, earlier) if each is not None]
    served = tuple(
        Served(
            version=version.name,
            path=str(artifacts.local(version.folder)),
            digest=version.digest,
            runtime=version.runtime,
        )
        for version in present
    )
    routes: tuple[Route, ...] = ()
    shadows: tuple[str, ...] = ()
    baseline = 0.0
    if rollout is not None and challenger is not None:
        share = share_of(view, rollout.state)
        shadows = (challenger.name,)
        routes = (Route(version=challenger.name, percent=share),) if share else ()
        baseline = baseline_of(view, rollout.state)
    return Service(
        namespace=view.namespace,
        name=view.name,
        loop=view.name,
        champion=champion.name,
        versions=served,
        routes=routes,
        baseline=baseline,
        shadows=shadows,
        replay=view.spec.replay,
        hold_from_us=hold_from_us if view.spec.replay else None,
        payload_mode=view.spec.serving.payload_mode,
    )


def table_of(
    services: Iterable[Service],
    graphs: Iterable[Graph] = (),
    *,
    unloaded: Collection[tuple[str, str]] = (),
    after: RoutingTable,
) -> RoutingTable | None:
    """The next table, or None where nothing changed. What is `unloaded`, by namespace and name, stays in it and is not loaded."""
    ordered = sorted(services, key=lambda service: (service.namespace, service.name))
    following = RoutingTable(
        generation=after.generation + 1,
        services=tuple(
            msgspec.structs.replace(service, loaded=(service.namespace, service.name) not in unloaded)
            for service in ordered
        ),
        graphs=tuple(sorted(graphs, key=lambda graph: (graph.namespace, graph.name))),
    )
    is_the_same = (following.services, following.graphs) == (after.services, after.graphs)
    return None if is_the_same else following


def read_table(content: bytes) -> RoutingTable:
    """A table as it was written."""
    return msgspec.json.decode(content, type=RoutingTable)
