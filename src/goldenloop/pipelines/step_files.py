"""The files of one attempt at a step: its own work folder, its log, what it is told (KFP's executor input) and what it
wrote.

RUN/STEP/attempt-N/log.txt            kept
RUN/STEP/attempt-N/work/              the step's current folder; removed when the run has ended
RUN/STEP/attempt-N/work/outputs/PORT  where an output goes unless the step says otherwise
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.pipelines.plan import Step
from goldenloop.standards.pipeline_ir import ArtifactSpec, ParameterSpec
from goldenloop.store.artifacts import Artifacts

# Artifacts whose content is their metadata; a step need not write a file for them.
_METADATA_ONLY = frozenset({"system.Metrics", "system.ClassificationMetrics", "system.SlicedClassificationMetrics"})
_PARAMETER_BYTES = 4 << 20  # the largest value of an output parameter that is read


@dataclass(frozen=True)
class StepFiles:
    """Where things lie. `attempt` counts from 1."""

    step_folder: Path
    attempt: int

    @property
    def folder(self) -> Path:
        return self.step_folder / f"attempt-{self.attempt}"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def executor_output(self) -> Path:
        return self.work / "executor_output.json"

    def output(self, port: str) -> Path:
        return self.work / "outputs" / port

    def prepare(self) -> None:
        """Make an empty work folder. A log that is there already is of a process that was lost: it is kept, and says
        so.
        """
        shutil.rmtree(self.work, ignore_errors=True)
        (self.work / "outputs").mkdir(parents=True)
        if self.log.exists() and self.log.stat().st_size:
            with open(self.log, "a") as stream:
                stream.write("\n[the process of this step was lost; it starts again]\n")


class InputArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact as a step gets it: `path` is on this machine and is only to be read."""

    id: str
    type: str
    path: str
    metadata: JsonObject


def executor_input(
    step: Step, files: StepFiles, parameters: JsonObject, inputs: dict[str, InputArtifact]
) -> JsonObject:
    """KFP's ExecutorInput for a step."""
    component = step.component
    return {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {
                port: _artifact_list(artifact.id, artifact.type, artifact.path, artifact.metadata)
                for port, artifact in inputs.items()
            },
        },
        "outputs": {
            "parameters": {port: {"outputFile": str(files.output(port))} for port in component.output_parameters},
            "artifacts": {
                port: _artifact_list(port, spec.type, str(files.output(port)), {})
                for port, spec in component.output_artifacts.items()
            },
            "outputFile": str(files.executor_output),
        },
    }


def _artifact_list(name: str, kind: str, uri: str, metadata: JsonObject) -> JsonObject:
    schema: JsonObject = {"schemaTitle": kind, "schemaVersion": "0.0.1"}
    return {"artifacts": [{"name": name, "type": schema, "uri": uri, "metadata": metadata}]}


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that a step wrote: a path on this machine, an address elsewhere, or its metadata alone."""

    type: str
    metadata: JsonObject
    path: str | None = None
    address: str | None = None

    def keep(self, kept: Artifacts) -> str:
        """Put it into the artifact folder; return its address."""
        if self.address is not None:
            return self.address
        if self.path is not None:
            return kept.put(Path(self.path))
        return kept.put_bytes(msgspec.json.encode(self.metadata, order="deterministic"))


def read_outputs(step: Step, files: StepFiles) -> tuple[JsonObject, dict[str, Written]]:
    """Read what a step that ended well has written. Raises InvalidSpecError that names an output that is not there."""
    said = _read_executor_output(files)
    values = said.get("parameterValues")
    values = values if isinstance(values, dict) else {}
    artifacts = said.get("artifacts")
    artifacts = artifacts if isinstance(artifacts, dict) else {}
    parameters: JsonObject = {}
    for port, parameter in step.component.output_parameters.items():
        parameters[port] = values[port] if port in values else _read_parameter(step, parameter, files.output(port))
    written = {
        port: _read_artifact(step, artifact, artifacts.get(port), files.output(port))
        for port, artifact in step.component.output_artifacts.items()
    }
    return parameters, written


def _read_executor_output(files: StepFiles) -> JsonObject:
    try:
        content = msgspec.json.decode(files.executor_output.read_bytes())
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError:
        # Python's json writes NaN and Infinity, which JSON has not; a metric may well be one.
        import json

        try:
            content = json.loads(files.executor_output.read_bytes(), parse_constant=lambda _name: None)
        except ValueError as error:
            raise InvalidSpecError(
                f"executor_output.json is not JSON: {error}", where="executor_output.json"
            ) from error
    return content if isinstance(content, dict) else {}


def _read_parameter(step: Step, spec: ParameterSpec, path: Path) -> Json:
    try:
        if path.stat().st_size > _PARAMETER_BYTES:
            raise InvalidSpecError(
                f"output parameter {spec.name!r} is larger than {_PARAMETER_BYTES} bytes",
                where=step.name,
                mend="Write it as an artifact.",
            )
        text = path.read_text()
    except FileNotFoundError:
        raise InvalidSpecError(
            f"output parameter {spec.name!r} was not written",
            where=step.name,
            mend=f"Return it, or write it to {path.name}.",
        ) from None
    if spec.type == "STRING":
        return text
    try:
        return _parse(text.strip(), spec)
    except (ValueError, msgspec.DecodeError) as error:
        raise InvalidSpecError(
            f"output parameter {spec.name!r} is {text[:80]!r}, not of type {spec.type}", where=step.name
        ) from error


def _parse(text: str, spec: ParameterSpec) -> Json:
    if spec.type == "NUMBER_INTEGER":
        return int(text)
    if spec.type == "NUMBER_DOUBLE":
        return float(text)
    if spec.type == "BOOLEAN":
        return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else bool(int(text))
    value: Json = msgspec.json.decode(text)
    if not isinstance(value, list if spec.type == "LIST" else dict):
        raise ValueError(text)
    return value


def _read_artifact(step: Step, spec: ArtifactSpec, said: Json, default: Path) -> Written:
    uri, metadata, custom = str(default), {}, ""
    listed = said.get("artifacts") if isinstance(said, dict) else None
    if isinstance(listed, list) and listed and isinstance(first := listed[0], dict):
        uri = str(first.get("uri") or default)
        custom = str(first.get("custom_path") or "")
        known = first.get("metadata")
        metadata = known if isinstance(known, dict) else {}
    if "://" in uri and not custom:
        return Written(type=spec.type, metadata=metadata, address=uri)
    path = Path(custom or uri)
    if not path.is_absolute():
        path = default.parents[1] / path  # the step's current folder
    if path.exists():
        return Written(type=spec.type, metadata=metadata, path=str(path))
    if spec.type in _METADATA_ONLY:
        return Written(type=spec.type, metadata=metadata)
    beside = sorted(other.name for other in path.parent.glob(f"{path.name}*")) if path.parent.is_dir() else []
    hint = (
        f"It wrote {', '.join(beside)} beside it; set {spec.name}.path to that."
        if beside
        else f"Write to {spec.name}.path."
    )
    raise InvalidSpecError(f"output artifact {spec.name!r} was not written", where=step.name, mend=hint)
