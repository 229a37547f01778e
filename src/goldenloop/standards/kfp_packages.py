"""Pipeline packages as KFP's clients send them: YAML or JSON, alone or in a zip or a gzipped tar, or inline in a request."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.pipeline_ir import read_documents

LARGEST_PACKAGE = 32 << 20  # packed and unpacked
_MOST_MEMBERS = 1_000
_GZIP, _ZIP = b"\x1f\x8b", b"PK"
_MEND = "Send what `kfp.compiler` wrote: .yaml, .json, or a .zip or .tar.gz with one pipeline.yaml in it."


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline specification and, where there is one, its platform specification."""

    pipeline: JsonObject
    platform: JsonObject | None = None


def read_package(content: bytes, *, where: str) -> Package:
    """Return the pipeline in a file's content, by what the content is. Raises InvalidSpecError."""
    if len(content) > LARGEST_PACKAGE:
        raise InvalidSpecError(f"it is larger than {LARGEST_PACKAGE >> 20} MiB", where=where, mend=_MEND)
    if content.startswith(_GZIP):
        content = _from_tar(content, where)
    elif content.startswith(_ZIP):
        content = _from_zip(content, where)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InvalidSpecError("it is not text in UTF-8", where=where, mend=_MEND) from None
    documents = read_documents(text, where=where)
    return Package(pipeline=documents.pipeline, platform=documents.platform)


def split_specification(document: Json, *, where: str) -> Package:
    """Return the pipeline of a request's `pipeline_spec`, which is the specification or holds it beside the platform's.

    >>> split_specification({"pipeline_spec": {"root": {}}, "platform_spec": {}}, where="run.pipeline_spec").pipeline
    {'root': {}}
    """
    if not isinstance(document, dict):
        raise InvalidSpecError("it is not a mapping", where=where, mend=_MEND)
    inner = document.get("pipeline_spec", document.get("pipelineSpec"))
    if inner is None:
        return Package(pipeline=document)
    platform = document.get("platform_spec", document.get("platformSpec"))
    if not isinstance(inner, dict) or not isinstance(platform, dict | None):
        raise InvalidSpecError("pipeline_spec and platform_spec are not mappings", where=where, mend=_MEND)
    return Package(pipeline=inner, platform=platform or None)


def joined_specification(package: Package) -> JsonObject:
    """The reverse of `split_specification`: what an answer shows."""
    if package.platform is None:
        return package.pipeline
    return {"pipeline_spec": package.pipeline, "platform_spec": package.platform}


def _from_tar(content: bytes, where: str) -> bytes:
    try:
        # Unpacked as a whole and bounded first: a member's size in a tar is only what the tar says.
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            unpacked = _bounded(stream.read(LARGEST_PACKAGE + 1), where)
        with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
            names = [member.name for _, member in zip(range(_MOST_MEMBERS), archive, strict=False) if member.isfile()]
            found = archive.extractfile(_chosen(names, where))
            assert found is not None
            return found.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise InvalidSpecError(f"the archive cannot be read: {error}", where=where, mend=_MEND) from None


def _from_zip(content: bytes, where: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist()[:_MOST_MEMBERS] if not name.endswith("/")]
            with archive.open(_chosen(names, where)) as stream:
                return _bounded(stream.read(LARGEST_PACKAGE + 1), where)
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidSpecError(f"the archive cannot be read: {error}", where=where, mend=_MEND) from None


def _chosen(names: list[str], where: str) -> str:
    """The pipeline in an archive: `pipeline.yaml`, or the only file that can be one."""
    if "pipeline.yaml" in names:
        return "pipeline.yaml"
    written = [name for name in names if name.endswith((".yaml", ".yml", ".json"))]
    if len(written) != 1:
        raise InvalidSpecError(
            f"the archive holds {len(written)} files that could be the pipeline", where=where, mend=_MEND
        )
    return written[0]


def _bounded(content: bytes, where: str) -> bytes:
    if len(content) > LARGEST_PACKAGE:
        raise InvalidSpecError(f"unpacked it is larger than {LARGEST_PACKAGE >> 20} MiB", where=where, mend=_MEND)
    return content
