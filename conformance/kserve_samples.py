"""KServe's own samples against our rules: does each of them apply, and what in it does nothing act on?

    python conformance/kserve_samples.py CHECKOUT [CHECKOUT …]

A checkout is one of KServe's repository (its samples and resource definitions) or of its website (the YAML in its pages). Every document
of a kind that is served here goes through the checks of the API. One that KServe's definition takes and we refuse makes the exit code 1;
one that both refuse, such as an old apiVersion, is only listed. YAML in pages is listed, too: it may be a fragment. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from goldenloop.api.validation import check_document
from goldenloop.core.errors import GoldenloopError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.documents import read_yaml
from goldenloop.standards.inference_service.fields import (
    annotations_not_acted_on,
    not_acted_on,
    service_fields_not_acted_on,
)
from goldenloop.standards.inference_service.graph import graph_fields_not_acted_on
from goldenloop.standards.inference_service.records import GROUP, annotations_of, read_inference_service
from goldenloop.standards.inference_service.sources import (
    ModelSource,
    source_of_explainer,
    source_of_predictor,
    source_of_transformer,
)
from goldenloop.standards.inference_service.trained_model import TRAINED_MODEL
from goldenloop.standards.kubernetes import KINDS, Kind

DEFINITIONS = "config/crd/full/serving.kserve.io_{plural}.yaml"
_FENCE = re.compile(r"^[ \t]*```ya?ml[^\n]*\n(.*?)^[ \t]*```", re.S | re.M)
_HERE_DOCUMENT = re.compile(r"<<-?\s*['\"]?EOF['\"]?[^\n]*\n(.*?)\n\s*EOF", re.S)


@dataclass(frozen=True, slots=True)
class Sample:
    """One document of a file."""

    file: str
    document: JsonObject
    is_fragment: bool  # from a page

    @property
    def kind(self) -> Kind | None:
        """The kind here, None for one that is not ours or of a version that nobody serves any more."""
        named = (self.document.get("apiVersion"), self.document.get("kind"))
        return next((kind for kind in KINDS if (kind.api_version, kind.kind) == named), None)


@dataclass(frozen=True, slots=True)
class Finding:
    """What comes of one sample."""

    sample: Sample
    outcome: str  # applies, refused here, refused by both, broken file
    text: str

    @property
    def is_failure(self) -> bool:
        return self.outcome == "refused here" and not self.sample.is_fragment


def samples(checkout: Path) -> Iterator[Sample | Finding]:
    """The documents of KServe's group in the samples and pages of a checkout; files that are not YAML as findings."""
    for path in sorted([*checkout.rglob("*.yaml"), *checkout.rglob("*.yml"), *checkout.rglob("*.md*")]):
        inner = path.relative_to(checkout)
        if path.suffix in (".yaml", ".yml") and inner.parts[:2] != ("docs", "samples"):
            continue  # charts, tests and the project's own configuration
        is_page = path.suffix not in (".yaml", ".yml")
        if is_page and inner.parts[0] != "docs":
            continue
        text = path.read_text(errors="replace")
        for part in [*_FENCE.findall(text), *_HERE_DOCUMENT.findall(text)] if is_page else [text]:
            yield from _documents(str(inner), part, is_fragment=is_page)


def _documents(file: str, text: str, *, is_fragment: bool) -> Iterator[Sample | Finding]:
    if GROUP not in text:
        return
    try:
        documents = read_yaml(text, source=file)
    except GoldenloopError as error:
        yield Finding(Sample(file, {}, is_fragment), "broken file" if _is_broken(text) else "refused here", str(error))
        return
    for document in documents:
        if str(document.get("apiVersion")).startswith(GROUP):
            yield Sample(file, document, is_fragment)


def _is_broken(text: str) -> bool:
    """Whether nobody's reader makes anything of it."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError:
        return True
    return not all(isinstance(document, dict) or document is None for document in documents)


def judge(sample: Sample, definitions: dict[str, JsonObject]) -> Finding | None:
    """What comes of a sample; None for a kind that is not served here."""
    kind = sample.kind
    if kind is None:
        known = {each.kind for each in KINDS if each.group == GROUP}
        if sample.document.get("kind") not in known:
            return None
        return Finding(sample, "refused by both", f"{sample.document.get('apiVersion')} is no longer served by KServe")
    metadata = sample.document.get("metadata")
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    try:
        check_document(kind, sample.document, str(namespace or "default"))
    except GoldenloopError as error:
        faults = list(_faults(sample.document.get("spec"), definitions.get(kind.kind, {}), "spec"))
        outcome = "refused by both" if faults else "refused here"
        return Finding(sample, outcome, f"{error}{f' (KServe: {faults[0]})' if faults else ''}")
    return Finding(sample, "applies", "; ".join(_remarks(kind, sample.document)))


def _remarks(kind: Kind, document: JsonObject) -> Iterator[str]:
    """What a person would read in the conditions."""
    spec, metadata = document["spec"], document["metadata"]
    assert isinstance(spec, dict)
    assert isinstance(metadata, dict)
    if kind.kind == "InferenceService":
        read = read_inference_service(spec)
        components = {
            "predictor": source_of_predictor(read.predictor),
            "transformer": source_of_transformer(read),
            "explainer": source_of_explainer(read),
        }
        yield from (f"{name}: {said}" for name, source in components.items() if source and (said := _said(source)))
        paths = service_fields_not_acted_on(spec, read) + annotations_not_acted_on(annotations_of(metadata))
    else:
        paths = graph_fields_not_acted_on(spec) if kind.kind == "InferenceGraph" else not_acted_on(spec, TRAINED_MODEL)
    if paths:
        yield f"not acted on: {', '.join(paths)}"


def _said(source: ModelSource) -> str:
    if source.is_shell:
        return "for TrainedModels"
    return "" if source.has_files else "has no files here, so it is not ready"


def _faults(value: Json, schema: JsonObject, path: str) -> Iterator[str]:
    """What a resource definition (OpenAPI) has against a value: wrong types and values, and required fields that are missing."""
    types = {"object": dict, "array": list, "string": str, "boolean": bool}
    expected = types.get(str(schema.get("type")))
    if expected is not None and not isinstance(value, expected) and "x-kubernetes-int-or-string" not in schema:
        yield f"{path} is not of the type {schema['type']}"
        return
    allowed = schema.get("enum")
    if isinstance(allowed, list) and value not in allowed:
        yield f"{path} is none of {', '.join(map(str, allowed))}"
    if isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        for index, inner in enumerate(value):
            yield from _faults(inner, items, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    required, properties = schema.get("required"), schema.get("properties")
    for name in required if isinstance(required, list) else ():
        if name not in value:
            yield f"{path}.{name} is missing"
    others = schema.get("additionalProperties")
    for name, inner in value.items():
        known = properties.get(name) if isinstance(properties, dict) else others
        if isinstance(known, dict) and inner is not None:
            yield from _faults(inner, known, f"{path}.{name}")


def definitions_in(checkouts: list[Path]) -> dict[str, JsonObject]:
    """The schema of each kind's spec, from the first checkout that has the resource definitions."""
    found: dict[str, JsonObject] = {}
    for kind in (each for each in KINDS if each.group == GROUP):
        for path in (checkout / DEFINITIONS.format(plural=kind.plural) for checkout in checkouts):
            if path.exists():
                for version in yaml.safe_load(path.read_text())["spec"]["versions"]:
                    if version["name"] == kind.version:
                        found[kind.kind] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
                break
    return found


def main() -> int:
    """Print a line for each document, and the sums; 1 where one is refused that KServe takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "checkouts", nargs="+", type=Path, help="a checkout of github.com/kserve/kserve or kserve/website"
    )
    parser.add_argument("--all", action="store_true", help="also list what applies and is acted on in full")
    given = parser.parse_args()
    definitions = definitions_in(given.checkouts)
    if not definitions:
        print("none of the checkouts has KServe's resource definitions (config/crd/full)", file=sys.stderr)
        return 2
    findings: list[Finding] = []
    for checkout in given.checkouts:
        for found in samples(checkout):
            finding = found if isinstance(found, Finding) else judge(found, definitions)
            if finding is not None:
                findings.append(finding)
    if not findings:
        print("there are no samples in the checkouts", file=sys.stderr)
        return 2
    for finding in findings:
        if given.all or finding.text:
            where = "page" if finding.sample.is_fragment else "file"
            print(f"{finding.outcome:<16} {where}  {finding.sample.file}\n{'':<16} {finding.text}")
    sums = Counter((finding.outcome, finding.sample.is_fragment) for finding in findings)
    print(f"\n{'':<16} files  in pages")
    for outcome in ("applies", "refused here", "refused by both", "broken file"):
        print(f"{outcome:<16} {sums[outcome, False]:>5} {sums[outcome, True]:>9}")
    return int(any(finding.is_failure for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
