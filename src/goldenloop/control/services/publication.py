"""From what is remembered of a service to its entry in the routing table."""

from __future__ import annotations

from goldenloop.control.services.records import (
    EXPLAINER,
    PREDICTOR,
    STABLE,
    TRANSFORMER,
    Revision,
    ServedArtifact,
    ServiceMemory,
    version_name,
)
from goldenloop.control.services.revisions import candidates, shares
from goldenloop.control.services.settings import ServiceSettings, features_of, names_of
from goldenloop.control.services.view import GraphView, ServedResource
from goldenloop.core.ids import digest_text
from goldenloop.core.routing import Graph, Route, Served, Service
from goldenloop.features.lookup import FEATURES_VARIABLE
from goldenloop.standards.inference_service.graph import nodes_of
from goldenloop.store.artifacts import Artifacts

_CODE = "python"  # the format of a user's own class


def entry_of(view: ServedResource, memory: ServiceMemory, artifacts: Artifacts) -> Service | None:
    """The service as it answers now, None where nothing can yet. Raises NotFoundError where the artifacts of what answers are gone.

    What is to take over stands in it with no part of the requests: workers load it, and say whether they could. That is so with
    `minReplicas: 0`, too: whether a model loads is not left for the first request to find out.
    """
    standing = candidates(memory, view.sources)
    parts = shares(memory, view.canary_percent)
    if not parts:
        return _first_entry(view, standing, artifacts)
    champion = next(iter(parts))
    routes = {version_name(PREDICTOR, number): percent for number, percent in parts.items() if number != champion}
    revisions = {version_name(PREDICTOR, number): memory.track(PREDICTOR).numbered(number) for number in parts}
    for track, percent in view.canaries.items():
        active = memory.track(track).numbered(memory.track(track).active)
        if active is not None:
            name = version_name(track, active.number)
            routes[name], revisions[name] = percent, active
    for track, revision in standing.items():
        name = version_name(track, revision.number)
        routes[name], revisions[name] = 0, revision
    # The one before stays loaded, so that going back is a pointer flip.
    previous = memory.track(PREDICTOR).numbered(memory.previous)
    if previous is not None and previous.is_loaded:
        revisions.setdefault(version_name(PREDICTOR, previous.number), previous)
    active_of = {track: memory.track(track).numbered(memory.track(track).active) for track in STABLE}
    return Service(
        namespace=view.namespace,
        name=view.name,
        champion=version_name(PREDICTOR, champion),
        versions=tuple(_served(name, each, view, artifacts) for name, each in revisions.items() if each is not None),
        routes=tuple(Route(version=name, percent=float(percent)) for name, percent in routes.items()),
        transformer=_beside(TRANSFORMER, active_of[TRANSFORMER], view, artifacts),
        explainer=_beside(EXPLAINER, active_of[EXPLAINER], view, artifacts),
        **_settings(view, is_loading=any(not revision.is_loaded for revision in standing.values())),
    )


def graph_entry_of(view: GraphView) -> Graph:
    """A graph as the routing table has it."""
    timeout = view.spec.timeout
    return Graph(
        namespace=view.namespace,
        name=view.name,
        nodes=nodes_of(view.spec),
        hosts=names_of(view.metadata).hosts,
        timeout_seconds=float(timeout) if timeout else None,
    )


def _first_entry(view: ServedResource, standing: dict[str, Revision], artifacts: Artifacts) -> Service | None:
    """Where nothing answers yet, nothing has to be kept whole: what is new is what answers."""
    predictor = standing.get(PREDICTOR)
    if predictor is None:
        return None
    name = version_name(PREDICTOR, predictor.number)
    return Service(
        namespace=view.namespace,
        name=view.name,
        champion=name,
        versions=(_served(name, predictor, view, artifacts),),
        transformer=_beside(TRANSFORMER, standing.get(TRANSFORMER), view, artifacts),
        explainer=_beside(EXPLAINER, standing.get(EXPLAINER), view, artifacts),
        **_settings(view, is_loading=True),
    )


def _settings(view: ServedResource, *, is_loading: bool) -> ServiceSettings:
    settings = view.settings
    if is_loading:
        settings["min_replicas"] = max(1, settings.get("min_replicas", 1))
    return settings


def _beside(track: str, revision: Revision | None, view: ServedResource, artifacts: Artifacts) -> Served | None:
    return None if revision is None else _served(version_name(track, revision.number), revision, view, artifacts)


def _served(name: str, revision: Revision, view: ServedResource, artifacts: Artifacts) -> Served:
    assert revision.made is not None
    made = revision.made
    features = _features_for(made, view)
    return Served(
        version=name,
        path=str(artifacts.local(made.address)),
        digest=served_digest(made, view),
        runtime=made.runtime,
        environment=made.environment if features is None else {**made.environment, FEATURES_VARIABLE: features},
    )


def served_digest(made: ServedArtifact, view: ServedResource) -> str:
    """What the table calls a model by: its digest, and of code that looks features up also where, since that is another process."""
    features = _features_for(made, view)
    return made.digest if features is None else digest_text(made.digest, FEATURES_VARIABLE, features)


def _features_for(made: ServedArtifact, view: ServedResource) -> str | None:
    return features_of(view.metadata) if made.format == _CODE else None
