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
from goldenloop.core.ids import digest_text
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.pipeline_ir import ArtifactSpec, Component, ParameterSpec
from goldenloop.store.artifacts import Artifacts

# Artifacts whose content is their metadata; a step need not write a file for them.
_METADATA_ONLY = frozenset({"system.Metrics", "system.ClassificationMetrics", "system.SlicedClassificationMetrics"})
_PARAMETER_BYTES = 4 << 20  # the largest value of an output parameter that is read
_LONGEST_NAME = 150  # of a step's folder, in characters; a longer path is cut and told apart by its digest


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

    @staticmethod
    def folder_name(path: str) -> str:
        """The name of the folder of the task of this path."""
        return path if len(path) <= _LONGEST_NAME else f"{path[:_LONGEST_NAME]}-{digest_text(path)[:16]}"

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
    name: str
    type: str
    path: str
    digest: str
    metadata: JsonObject


def executor_input(
    component: Component, files: StepFiles, parameters: JsonObject, inputs: dict[str, tuple[InputArtifact, ...]]
) -> JsonObject:
    """KFP's ExecutorInput for a step."""
    return {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {
                port: {"artifacts": [_artifact(one.name, one.type, one.path, one.metadata) for one in listed]}
                for port, listed in inputs.items()
            },
        },
        "outputs": {
            "parameters": {port: {"outputFile": str(files.output(port))} for port in component.output_parameters},
            "artifacts": {
                port: {"artifacts": [_artifact(port, spec.type, str(files.output(port)), spec.metadata)]}
                for port, spec in component.output_artifacts.items()
            },
            "outputFile": str(files.executor_output),
        },
    }


def _artifact(name: str, kind: str, uri: str, metadata: JsonObject) -> JsonObject:
    schema: JsonObject = {"schemaTitle": kind, "schemaVersion": "0.0.1"}
    return {"name": name, "type": schema, "uri": uri, "metadata": metadata}


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


def read_outputs(
    component: Component, files: StepFiles, *, where: str
) -> tuple[JsonObject, dict[str, tuple[Written, ...]]]:
    """Read what a step that ended well has written. Raises InvalidSpecError that names an output that is not there."""
    said = _read_executor_output(files)
    values = said.get("parameterValues")
    values = values if isinstance(values, dict) else {}
    artifacts = said.get("artifacts")
    artifacts = artifacts if isinstance(artifacts, dict) else {}
    parameters: JsonObject = {}
    for port, parameter in component.output_parameters.items():
        given = values[port] if port in values else _read_parameter(parameter, files.output(port), where)
        parameters[port] = given
    written = {
        port: _read_artifacts(artifact, artifacts.get(port), files.output(port), where)
        for port, artifact in component.output_artifacts.items()
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


def _read_parameter(spec: ParameterSpec, path: Path, where: str) -> Json:
    try:
        if path.stat().st_size > _PARAMETER_BYTES:
            raise InvalidSpecError(
                f"output parameter {spec.name!r} is larger than {_PARAMETER_BYTES} bytes",
                where=where,
                mend="Write it as an artifact.",
            )
        text = path.read_text()
    except FileNotFoundError:
        raise InvalidSpecError(
            f"output parameter {spec.name!r} was not written",
            where=where,
            mend=f"Return it, or write it to {path.name}.",
        ) from None
    if spec.type == "STRING":
        return text
    try:
        return _parse(text.strip(), spec)
    except (ValueError, msgspec.DecodeError) as error:
        raise InvalidSpecError(
            f"output parameter {spec.name!r} is {text[:80]!r}, not of type {spec.type}", where=where
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


def _read_artifacts(spec: ArtifactSpec, said: Json, default: Path, where: str) -> tuple[Written, ...]:
    listed = said.get("artifacts") if isinstance(said, dict) else None
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    if spec.is_list:
        return tuple(_read_artifact(spec, one, default, where) for one in found)
    return (_read_artifact(spec, found[0] if found else {}, default, where),)


def _read_artifact(spec: ArtifactSpec, said: JsonObject, default: Path, where: str) -> Written:
    uri = str(said.get("uri") or default)
    custom = str(said.get("custom_path") or said.get("customPath") or "")
    known = said.get("metadata")
    metadata = {**spec.metadata, **(known if isinstance(known, dict) else {})}
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
    raise InvalidSpecError(f"output artifact {spec.name!r} was not written", where=where, mend=hint)
