"""Pipelines and their versions in KFP's API, uploads among them."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

import msgspec
from starlette.routing import Route

from goldenloop.api.kfp.calls import Answer, Call, filled, namespace_of, route
from goldenloop.api.kfp.multipart import read_file
from goldenloop.control.platform import Platform
from goldenloop.core.clock import to_text
from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.core.json import JsonObject
from goldenloop.pipelines import catalog
from goldenloop.pipelines.catalog import CatalogPipeline, CatalogVersion, Label
from goldenloop.standards.kfp_packages import (
    LARGEST_PACKAGE,
    Package,
    joined_specification,
    read_package,
    split_specification,
)
from goldenloop.store import tables
from goldenloop.store.database import Transaction, record_of
from goldenloop.store.paging import read_page

_UPLOAD_FIELD = "uploadfile"
_FETCH_SECONDS = 30.0


class PipelineMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a pipeline."""

    name: str = ""
    display_name: str = ""
    description: str = ""
    namespace: str = ""
    tags: dict[str, str] = {}

    @property
    def label(self) -> Label:
        name = self.name or self.display_name
        return Label(name=name, display_name=self.display_name, description=self.description, tags=self.tags)


class PackageAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a package can be fetched."""

    pipeline_url: str = ""


class VersionMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a version."""

    name: str = ""
    display_name: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    pipeline_spec: JsonObject | None = None
    package_url: PackageAddress | None = None
    code_source_url: str = ""

    def label(self, *, otherwise: str = "") -> Label:
        """What it is called; by another name where it has none of its own."""
        name = self.name or self.display_name or otherwise
        return Label(name=name, display_name=self.display_name, description=self.description, tags=self.tags)


class PipelineAndVersionMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline that is made with its first version."""

    pipeline: PipelineMessage
    pipeline_version: VersionMessage


class PipelineRoutes:
    """Routes under `/pipelines`."""

    def __init__(self, platform: Platform) -> None:
        self._database = platform.database
        self._clock = platform.world.clock

    def routes(self) -> list[Route]:
        """What to mount."""
        one, versions = "/pipelines/{pipeline}", "/pipelines/{pipeline}/versions"
        version = f"{versions}/{{version}}"
        return [
            route("/pipelines/upload", self._upload, method="POST"),
            route("/pipelines/upload_version", self._upload_version, method="POST"),
            route("/pipelines/create", self._create_with_version, method="POST"),
            route("/pipelines/names/{name}", self._get_by_name),
            route("/pipelines", self._create, method="POST"),
            route("/pipelines", self._list),
            route(one, self._get),
            route(one, self._update, method="PATCH"),
            route(one, self._delete, method="DELETE"),
            route(versions, self._create_version, method="POST"),
            route(versions, self._list_versions),
            route(version, self._get_version),
            route(version, self._update_version, method="PATCH"),
            route(version, self._delete_version, method="DELETE"),
        ]

    # pipelines

    def _create(self, call: Call) -> Answer:
        given = call.message(PipelineMessage, where="pipeline")
        with self._database.write() as transaction:
            return _pipeline(self._insert(transaction, given.label, namespace_of(given.namespace)))

    def _create_with_version(self, call: Call) -> Answer:
        given = call.message(PipelineAndVersionMessage, where="body")
        package = _package(given.pipeline_version)
        with self._database.write() as transaction:
            made = self._insert(transaction, given.pipeline.label, namespace_of(given.pipeline.namespace))
            label = given.pipeline_version.label(otherwise=made.name)
            self._insert_version(transaction, made.id, label, package, given.pipeline_version)
        return _pipeline(made)

    def _upload(self, call: Call) -> Answer:
        package, label = _uploaded(call)
        with self._database.write() as transaction:
            made = self._insert(transaction, label, call.namespace())
            version = VersionMessage(code_source_url=call.text("code_source_url"))
            first = msgspec.structs.replace(label, tags={})
            self._insert_version(transaction, made.id, first, package, version)
        return _pipeline(made)

    def _get(self, call: Call) -> Answer:
        with self._database.read() as transaction:
            return _pipeline(catalog.get_pipeline(transaction, call.path["pipeline"]))

    def _get_by_name(self, call: Call) -> Answer:
        with self._database.read() as transaction:
            return _pipeline(catalog.pipeline_named(transaction, call.namespace(), call.path["name"]))

    def _list(self, call: Call) -> Answer:
        table = tables.pipelines
        where = [table.c.namespace == call.namespace()]
        with self._database.read() as transaction:
            page = read_page(transaction, catalog.PIPELINES, list(table.c), call.asked(), where=where)
        shown = [_pipeline(record_of(row, CatalogPipeline)) for row in page.rows]
        return filled({"pipelines": shown, "total_size": page.total, "next_page_token": page.next_token})

    def _update(self, call: Call) -> Answer:
        given = call.message(PipelineMessage, where="pipeline")
        with self._database.write() as transaction:
            return _pipeline(catalog.rename_pipeline(transaction, call.path["pipeline"], given.label))

    def _delete(self, call: Call) -> Answer:
        with self._database.write() as transaction:
            catalog.delete_pipeline(transaction, call.path["pipeline"], cascade=call.flag("cascade"))
        return {}

    # versions

    def _create_version(self, call: Call) -> Answer:
        given = call.message(VersionMessage, where="pipeline_version")
        package = _package(given)
        with self._database.write() as transaction:
            return _version(self._insert_version(transaction, call.path["pipeline"], given.label(), package, given))

    def _upload_version(self, call: Call) -> Answer:
        package, label = _uploaded(call)
        pipeline_id = call.text("pipelineid", "pipeline_id")
        version = VersionMessage(code_source_url=call.text("code_source_url"))
        with self._database.write() as transaction:
            return _version(self._insert_version(transaction, pipeline_id, label, package, version))

    def _get_version(self, call: Call) -> Answer:
        with self._database.read() as transaction:
            found = catalog.get_version(transaction, call.path["version"], pipeline_id=call.path["pipeline"])
        return _version(found)

    def _list_versions(self, call: Call) -> Answer:
        table = tables.pipeline_versions
        pipeline_id = call.path["pipeline"]
        with self._database.read() as transaction:
            catalog.get_pipeline(transaction, pipeline_id)
            where = [table.c.pipeline_id == pipeline_id]
            page = read_page(transaction, catalog.VERSIONS, list(table.c), call.asked(), where=where)
        shown = [_version(record_of(row, CatalogVersion)) for row in page.rows]
        return filled({"pipeline_versions": shown, "total_size": page.total, "next_page_token": page.next_token})

    def _update_version(self, call: Call) -> Answer:
        label = call.message(VersionMessage, where="pipeline_version").label()
        pipeline_id, version_id = call.path["pipeline"], call.path["version"]
        with self._database.write() as transaction:
            return _version(catalog.rename_version(transaction, pipeline_id, version_id, label))

    def _delete_version(self, call: Call) -> Answer:
        with self._database.write() as transaction:
            catalog.delete_version(transaction, call.path["pipeline"], call.path["version"])
        return {}

    def _insert(self, transaction: Transaction, label: Label, namespace: str) -> CatalogPipeline:
        return catalog.create_pipeline(transaction, label, namespace=namespace, now_us=self._clock.now_us())

    def _insert_version(
        self, transaction: Transaction, pipeline_id: str, label: Label, package: Package, given: VersionMessage
    ) -> CatalogVersion:
        return catalog.create_version(
            transaction,
            pipeline_id,
            label,
            package,
            code_source_url=given.code_source_url,
            package_url=given.package_url.pipeline_url if given.package_url is not None else "",
            now_us=self._clock.now_us(),
        )


def _uploaded(call: Call) -> tuple[Package, Label]:
    """The package in an upload, and what the address says it is called; else it is called as its file."""
    file = read_file(call.headers.get("content-type", ""), call.body, field=_UPLOAD_FIELD)
    display_name = call.text("display_name")
    try:
        tags = msgspec.json.decode(call.text("tags") or "{}", type=dict[str, str])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidSpecError(
            f"the tags cannot be read: {error}", where="tags", mend='Write {"team": "ml"}.'
        ) from None
    label = Label(
        name=call.text("name") or display_name or file.name,
        display_name=display_name,
        description=call.text("description"),
        tags=tags,
    )
    return read_package(file.content, where=file.name), label


def _package(given: VersionMessage) -> Package:
    """The package of a version that is not uploaded: in the message, or at the address that it gives."""
    if given.pipeline_spec is not None:
        return split_specification(given.pipeline_spec, where="pipeline_version.pipeline_spec")
    if given.package_url is not None and given.package_url.pipeline_url:
        return _fetched(given.package_url.pipeline_url)
    raise InvalidSpecError(
        "there is no pipeline", where="pipeline_version", mend="Give pipeline_spec, or package_url.pipeline_url."
    )


def _fetched(address: str) -> Package:
    where = "pipeline_version.package_url"
    if not address.startswith(("http://", "https://")):
        raise InvalidSpecError(f"{address!r} is not an address", where=where, mend="Give one with http:// or https://.")
    try:
        with urllib.request.urlopen(address, timeout=_FETCH_SECONDS) as answer:
            content: bytes = answer.read(LARGEST_PACKAGE + 1)
    except urllib.error.HTTPError as error:
        raise InvalidSpecError(f"{address} answers {error.code}", where=where, mend="Is this the right one?") from None
    except (ValueError, http.client.HTTPException) as error:
        raise InvalidSpecError(f"{address!r} is not an address: {error}", where=where, mend="Mend it.") from None
    except OSError as error:
        raise UnavailableError(f"{address} cannot be read: {error}", where=where, mend="Try again.") from None
    return read_package(content, where=address)


def _pipeline(pipeline: CatalogPipeline) -> Answer:
    return filled(
        {
            "pipeline_id": pipeline.id,
            "name": pipeline.name,
            "display_name": pipeline.display_name,
            "description": pipeline.description,
            "namespace": pipeline.namespace,
            "tags": pipeline.tags,
            "created_at": to_text(pipeline.created_us),
        }
    )


def _version(version: CatalogVersion) -> Answer:
    return filled(
        {
            "pipeline_id": version.pipeline_id,
            "pipeline_version_id": version.id,
            "name": version.name,
            "display_name": version.display_name,
            "description": version.description,
            "created_at": to_text(version.created_us),
            "package_url": filled({"pipeline_url": version.package_url}),
            "code_source_url": version.code_source_url,
            "pipeline_spec": joined_specification(version.package),
            "tags": version.tags,
        }
    )
