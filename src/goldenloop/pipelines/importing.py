"""Importers: an artifact that lies somewhere becomes known here, with its address, type and metadata.

What lies on this machine is used where it is. What lies elsewhere and can be reached through fsspec is fetched once, by
this module as the program of a step (ADDRESS TARGET), and kept by its content. What cannot be fetched is known all the
same, as it is on a Kubeflow cluster: the step's log says why, and who needs the content fails.
"""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import fsspec
import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.artifact_records import ADDRESS
from goldenloop.pipelines.nodes import Node
from goldenloop.pipelines.placeholders import Surroundings, expand, expand_deep
from goldenloop.pipelines.values import Values

_MODULE = "goldenloop.pipelines.importing"
_PATIENCE_SECONDS = 30.0  # until an address must have answered what lies there
_FILE, _FOLDER = "file", "folder"
_ONLY_BY_NAME = ("oci://",)  # what no program on this machine can read


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """What an importer is to make known."""

    port: str
    type: str
    uri: str
    metadata: JsonObject

    @property
    def is_elsewhere(self) -> bool:
        """Whether it would have to be fetched."""
        local = self.uri.startswith((ADDRESS, *_ONLY_BY_NAME)) or "://" not in self.uri
        return not local


def read_import(node: Node, inputs: Values, facts: dict[str, str]) -> Import:
    """What an importer is to make known, given its inputs. Raises InvalidSpecError where it has no address."""
    importer = node.component.importer
    assert importer is not None
    surroundings = Surroundings(executor_input={"inputs": {"parameterValues": inputs.parameters}}, facts=facts)
    address = inputs.parameters.get(importer.uri_from) if importer.uri_from else importer.uri
    uri = expand(address, surroundings, where=node.path) if isinstance(address, str) else ""
    if not uri:
        raise InvalidSpecError(
            "the address of the artifact is empty", where=node.path, mend="Give artifact_uri a value."
        )
    metadata = expand_deep(importer.metadata, surroundings, where=node.path)
    assert isinstance(metadata, dict)
    port, spec = next(iter(node.component.output_artifacts.items()))
    return Import(port=port, type=spec.type, uri=uri.removeprefix("file://"), metadata=metadata)


def fetch_command(uri: str, target: Path) -> tuple[str, ...]:
    """The command that fetches what lies at an address to a path."""
    return (sys.executable, "-m", _MODULE, uri, str(target))


def main() -> None:
    """Fetch; say why where it cannot be done. That is no failure of the step."""
    uri, target = sys.argv[1:]
    found: list[str] = []
    looking = threading.Thread(target=_look, args=(uri, found), daemon=True)
    looking.start()
    looking.join(_PATIENCE_SECONDS)
    reason = found[0] if found else f"nobody answered in {_PATIENCE_SECONDS:g} s"
    if reason in (_FILE, _FOLDER):
        reason = _fetched(uri, Path(target), is_folder=reason == _FOLDER)
    print(
        f"{uri} is known by its address only: its content cannot be fetched ({reason})" if reason else f"fetched {uri}"
    )


def _look(uri: str, found: list[str]) -> None:
    """Note what lies at the address, or why nobody can say. Clients may try for minutes to reach a network that is not
    there.
    """
    try:
        files, path = fsspec.core.url_to_fs(uri)
        found.append(_FOLDER if files.info(path)["type"] == "directory" else _FILE)
    except Exception as error:  # each protocol's client has errors of its own
        found.append(_reason(error))


def _fetched(uri: str, target: Path, *, is_folder: bool) -> str:
    """Fetch; return why it could not be done, or nothing."""
    try:
        files, path = fsspec.core.url_to_fs(uri)
        if is_folder:
            files.get(path.rstrip("/") + "/", f"{target}/", recursive=True)
        else:
            files.get_file(path, str(target))
    except Exception as error:
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
