"""What a resource must be before it is kept: strict, with the path of the wrong field."""

from __future__ import annotations

from goldenloop.control.services.settings import check_annotations
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.standards.analysis_template import check_template
from goldenloop.standards.documents import convert, near_miss
from goldenloop.standards.inference_service.graph import read_graph
from goldenloop.standards.inference_service.records import annotations_of, read_inference_service
from goldenloop.standards.inference_service.trained_model import read_trained_model
from goldenloop.standards.kubernetes import Kind, check_name, kind_of
from goldenloop.standards.loop import LoopSpec, MonitorSpec, PipelineSource, RolloutSpec, check_loop
from goldenloop.standards.openslo import read_slo
from goldenloop.standards.pipeline_ir import read_pipeline
from goldenloop.standards.trigger import read_trigger
from goldenloop.store.resources import metadata_of

_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


def check_document(kind: Kind, document: JsonObject, namespace: str, name: str | None = None) -> None:
    """Raise InvalidSpecError for anything that the kind does not allow."""
    for field in document:
        if field not in _FIELDS:
            raise InvalidSpecError(f"unknown field {field!r}", where=field, mend=near_miss(field, _FIELDS))
    if "apiVersion" in document or "kind" in document:
        given = kind_of(document)
        if given != kind:
            raise InvalidSpecError(f"this is a {given.kind}, not a {kind.kind}", where="kind")
    metadata = metadata_of(document)
    check_name(metadata.get("name"))
    if name is not None and metadata["name"] != name:
        raise InvalidSpecError(f"the name is {metadata['name']!r}, the path says {name!r}", where="metadata.name")
    if metadata.get("namespace", namespace) != namespace:
        raise InvalidSpecError(
            f"the namespace is {metadata['namespace']!r}, the path says {namespace!r}", where="metadata.namespace"
        )
    check_spec(kind, document.get("spec", {}))
    if kind.kind == "InferenceService":
        check_annotations(annotations_of(metadata))


def check_spec(kind: Kind, spec: object) -> None:
    """Raise InvalidSpecError for a spec that is not one of this kind."""
    match kind.kind:
        case "Loop":
            loop = convert(spec, LoopSpec, where="spec")
            check_loop(loop)
            _check_pipeline(loop)
        case "Monitor":
            convert(spec, MonitorSpec, where="spec")
        case "Trigger":
            read_trigger(spec)
        case "Rollout":
            convert(spec, RolloutSpec, where="spec")
        case "InferenceService":
            read_inference_service(spec)
        case "InferenceGraph":
            read_graph(spec)
        case "TrainedModel":
            read_trained_model(spec)
        case "AnalysisTemplate":
            check_template(spec)
        case "SLO":
            read_slo("slo", spec, where="spec")


def _check_pipeline(loop: LoopSpec) -> None:
    if not isinstance(loop.pipeline, PipelineSource):
        return
    if loop.pipeline.ir is None:
        raise InvalidSpecError(
            "the server takes compiled pipelines only",
            where="spec.pipeline",
            mend="Apply it with `goldenloop apply -f`, which compiles `source`, or give `ir`.",
        )
    read_pipeline(loop.pipeline.ir, where="spec.pipeline.ir")
