"""From a file that a person wrote to resources that the server takes: paths made absolute, pipelines compiled."""

from __future__ import annotations

from pathlib import Path

import msgspec

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.pipelines.compilation import compile_source
from goldenloop.standards.documents import convert, read_yaml
from goldenloop.standards.inference_service import records
from goldenloop.standards.inference_service.sources import STORAGE_URI
from goldenloop.standards.kubernetes import kind_of
from goldenloop.standards.loop import LoopSpec, NamedMonitor, PipelineSource, check_loop
from goldenloop.standards.mlflow.addresses import is_tracked


def read_resources(file: Path, *, source: Path | None = None) -> list[JsonObject]:
    """Return the resources of a file. Raises InvalidSpecError with file and line or field; nothing is sent then.

    `source` takes the place of what a Loop says in `data.source`.
    """
    try:
        text = file.read_text()
    except OSError as error:
        raise NotFoundError(f"cannot be read: {error.strerror}", where=str(file)) from error
    except UnicodeDecodeError as error:
        raise InvalidSpecError("not text in UTF-8", where=str(file), mend="Is this the right file?") from error
    documents = read_yaml(text, source=str(file))
    if not documents:
        raise InvalidSpecError("there is no resource in it", where=str(file))
    for document in documents:
        kind = kind_of(document, where=str(file))
        if kind.kind == "Loop":
            document["spec"] = _complete(document.get("spec", {}), file, source)
        elif kind.group == records.GROUP:
            document["spec"] = _with_absolute_places(document.get("spec", {}), file)
    return documents


def _complete(given: object, file: Path, source: Path | None) -> JsonObject:
    spec = convert(given, LoopSpec, where=f"{file}: spec")
    check_loop(spec)
    assert isinstance(given, dict)
    completed: JsonObject = dict(given)
    if source is not None or spec.data.source is not None:
        data = given["data"]
        assert isinstance(data, dict)
        completed["data"] = {**data, "source": str(source or _absolute(str(spec.data.source), file))}
    if isinstance(spec.pipeline, PipelineSource) and spec.pipeline.ir is None:
        if not spec.pipeline.source:
            raise InvalidSpecError(
                "there is neither source nor ir",
                where=f"{file}: spec.pipeline",
                mend="Give source: FILE.py:FUNCTION, or `auto`.",
            )
        compiled = compile_source(spec.pipeline.source, folder=file.parent)
        pipeline: JsonObject = msgspec.to_builtins(compiled)
        written = given["pipeline"]
        assert isinstance(written, dict)
        completed["pipeline"] = {**written, **pipeline}
    if isinstance(spec.monitors, tuple):
        written = given["monitors"]
        assert isinstance(written, list)
        completed["monitors"] = [
            _with_code(each, monitor, file) for each, monitor in zip(written, spec.monitors, strict=True)
        ]
    return completed


def _with_code(written: Json, monitor: NamedMonitor | str, file: Path) -> Json:
    """A custom monitor with the text of its file: the server reads no file of a person's."""
    if not isinstance(monitor, NamedMonitor) or monitor.type != "custom" or monitor.code:
        return written
    assert isinstance(written, dict)
    path = Path(_absolute(monitor.source.rpartition(":")[0], file, field="spec.monitors"))
    return {**written, "code": path.read_text()}


def _with_absolute_places(value: Json, file: Path) -> Json:
    """The spec with every place of a model that is a relative path beside the file made absolute: the server is somewhere else."""
    if isinstance(value, list):
        return [_with_absolute_places(inner, file) for inner in value]
    if not isinstance(value, dict):
        return value
    made = {name: _with_absolute_places(inner, file) for name, inner in value.items()}
    places = {"storageUri": "storageUri", "uri": "storageUris"}
    if made.get("name") == STORAGE_URI:
        places["value"] = STORAGE_URI
    for field, name in places.items():
        given = made.get(field)
        if isinstance(given, str) and given and not given.startswith("/"):
            made[field] = _absolute(given, file, field=name)
    return made


def _absolute(source: str, file: Path, *, field: str = "spec.data.source") -> str:
    if "://" in source or is_tracked(source):
        return source
    path = (file.parent / source).resolve()
    if not path.exists():
        raise NotFoundError(
            "there is nothing at this path", where=f"{file}: {field}: {path}", mend="Give a file or a folder."
        )
    return str(path)
