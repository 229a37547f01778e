"""The files of loops' versions as folders that MLflow's clients load: the served form, with an `MLmodel` beside it.

`golden/NAMESPACE/MODEL/NUMBER` holds what is served; where that is a graph over columns, also `MLmodel` and the code that
`mlflow.pyfunc.load_model` runs.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from goldenloop.core.clock import to_text
from goldenloop.core.errors import NotFoundError
from goldenloop.core.json import Json
from goldenloop.core.signatures import Signature
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database
from goldenloop.store.files import Entry

_LOADER = "golden_pyfunc"
_DESCRIPTION = "MLmodel"
_CODE = f"code/{_LOADER}.py"
_HIDDEN = ".manifest.json"


class GoldenFolders:
    """Reads versions; nothing is written."""

    def __init__(self, database: Database, artifacts: Artifacts) -> None:
        self._database = database
        self._artifacts = artifacts

    def listing(self, path: str) -> list[Entry]:
        """What is in a folder, by name; nothing where there is no such folder."""
        try:
            files, inner = self._files(path)
        except NotFoundError:
            return []
        found: dict[str, Entry] = {}
        for name, size in files.items():
            if not inner or name.startswith(f"{inner}/"):
                first, _, rest = name.removeprefix(f"{inner}/" if inner else "").partition("/")
                found[first] = Entry(first, None if rest else size)
        return sorted(found.values(), key=lambda entry: entry.name)

    def content(self, path: str) -> bytes | Path:
        """A file: where it lies, or what is in it. Raises NotFoundError."""
        version, inner = self._version(path)
        made = _made(version)
        if inner in made:
            return made[inner]
        folder = self._artifacts.local(version.folder)
        if inner not in {file.relative_to(folder).as_posix() for file in _files_below(folder)}:
            raise NotFoundError(f"there is no file {path[:200]!r}", where="path", mend="List the artifacts.")
        return folder / inner

    def _files(self, path: str) -> tuple[dict[str, int], str]:
        version, inner = self._version(path)
        folder = self._artifacts.local(version.folder)
        sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in _files_below(folder)}
        return sizes | {name: len(content) for name, content in _made(version).items()}, inner

    def _version(self, path: str) -> tuple[ModelVersion, str]:
        parts = path.split("/", 4)[1:]
        if len(parts) < 3 or not (parts[2].isascii() and parts[2].isdecimal() and len(parts[2]) < 10):
            raise NotFoundError(f"there is no version at {path[:200]!r}", where="path", mend="Search model versions.")
        with self._database.read() as transaction:
            version = versions.get(transaction, parts[0], parts[1], int(parts[2]))
        return version, parts[3] if len(parts) > 3 else ""


def _files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and file.name != _HIDDEN]


def _made(version: ModelVersion) -> dict[str, bytes]:
    """The files that MLflow needs beside the served form; none where a process of ours must score it."""
    if version.runtime != "onnx":
        return {}
    description: dict[str, Json] = {
        "artifact_path": "model",
        "flavors": {
            "python_function": {
                "loader_module": _LOADER,
                "code": "code",
                "data": ".",
                "env": {},
                "python_version": "3.11",
            },
        },
        "signature": _signature(version.signature),
        "utc_time_created": to_text(version.created_us).removesuffix("Z").replace("T", " "),
        "model_uuid": version.digest[:32],
    }
    code = Path(__file__).with_name(f"{_LOADER}.py").read_bytes()
    # JSON is YAML, which is what MLflow reads.
    return {_DESCRIPTION: msgspec.json.format(msgspec.json.encode(description)), _CODE: code}


def _signature(signature: Signature) -> dict[str, Json]:
    """MLflow's form: what goes in as JSON in a text."""
    types = {"number": "double", "category": "string"}
    inputs = [{"type": types[column.kind], "name": column.name, "required": True} for column in signature.inputs]
    return {"inputs": msgspec.json.encode(inputs).decode()}
