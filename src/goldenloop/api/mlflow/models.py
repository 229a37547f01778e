"""Operations on registered models and their versions: those that clients registered, and, read-only, those of loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from goldenloop.api.mlflow import golden
from goldenloop.api.mlflow.calls import Answer, KeyValue, Operation, key_values, operation, pairs_of
from goldenloop.core.clock import Clock
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.standards.mlflow.filters import read_filter
from goldenloop.store.database import Database, Transaction
from goldenloop.tracking import models
from goldenloop.tracking.models import MODELS, VERSIONS, NewRegistration, RegisteredModel, RegisteredVersion
from goldenloop.tracking.places import folder_of
from goldenloop.tracking.searching import Question

_LARGEST_NUMBER = 2**31 - 1


class NamedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model by name."""

    name: str


class CreateModel(NamedModel, frozen=True, kw_only=True):
    """What a new model is told."""

    description: str = ""
    tags: tuple[KeyValue, ...] = ()


class RenameModel(NamedModel, frozen=True, kw_only=True):
    """Another name for a model."""

    new_name: str


class DescribeModel(NamedModel, frozen=True, kw_only=True):
    """What is said of a model."""

    description: str = ""


class TagModel(NamedModel, frozen=True, kw_only=True):
    """A tag of a model."""

    key: str
    value: str = ""


class NamedAlias(NamedModel, frozen=True, kw_only=True):
    """An alias of a model."""

    alias: str


class LatestVersions(NamedModel, frozen=True, kw_only=True):
    """The stages whose newest versions are asked for; all, where none is named."""

    stages: tuple[str, ...] = ()


class CreateVersion(NamedModel, frozen=True, kw_only=True):
    """What a new version is told."""

    source: str
    run_id: str = ""
    run_link: str = ""
    model_id: str = ""
    description: str = ""
    tags: tuple[KeyValue, ...] = ()


class NamedVersion(NamedModel, frozen=True, kw_only=True):
    """A version by the name of its model and its number."""

    version: str

    @property
    def number(self) -> int:
        """The number. Raises InvalidSpecError for what is none."""
        if (
            not (self.version.isascii() and self.version.isdecimal())
            or not 1 <= int(self.version[:20]) <= _LARGEST_NUMBER
        ):
            raise InvalidSpecError(
                f"{self.version[:60]!r} is no number of a version", where="version", mend="Give 1 or more."
            )
        return int(self.version)


class SetAlias(NamedVersion, frozen=True, kw_only=True):
    """An alias and where it points."""

    alias: str


class DescribeVersion(NamedVersion, frozen=True, kw_only=True):
    """What is said of a version."""

    description: str = ""


class TagVersion(NamedVersion, frozen=True, kw_only=True):
    """A tag of a version."""

    key: str
    value: str = ""


class MoveVersion(NamedVersion, frozen=True, kw_only=True):
    """A stage for a version."""

    stage: str
    archive_existing_versions: bool = False


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A question for models or versions."""

    filter: str = ""
    max_results: int = 100
    order_by: tuple[str, ...] = ()
    page_token: str = ""


class ModelOperations:
    """What can be done with registered models and their versions."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def operations(self) -> list[Operation]:
        """What to answer."""
        model, version = "/mlflow/registered-models", "/mlflow/model-versions"
        return [
            operation("POST", f"{model}/create", CreateModel, self._create),
            operation("GET", f"{model}/get", NamedModel, self._get),
            operation("GET", f"{model}/search", Search, self._search),
            operation("POST", f"{model}/search", Search, self._search),
            operation("POST", f"{model}/rename", RenameModel, self._rename),
            operation("PATCH", f"{model}/update", DescribeModel, self._describe),
            operation("DELETE", f"{model}/delete", NamedModel, self._delete),
            operation("POST", f"{model}/set-tag", TagModel, self._tag),
            operation("DELETE", f"{model}/delete-tag", TagModel, self._untag),
            operation("POST", f"{model}/get-latest-versions", LatestVersions, self._latest),
            operation("GET", f"{model}/get-latest-versions", LatestVersions, self._latest),
            operation("POST", f"{model}/alias", SetAlias, self._set_alias),
            operation("DELETE", f"{model}/alias", NamedAlias, self._delete_alias),
            operation("GET", f"{model}/alias", NamedAlias, self._get_by_alias),
            operation("POST", f"{version}/create", CreateVersion, self._create_version),
            operation("GET", f"{version}/get", NamedVersion, self._get_version),
            operation("GET", f"{version}/search", Search, self._search_versions),
            operation("POST", f"{version}/search", Search, self._search_versions),
            operation("PATCH", f"{version}/update", DescribeVersion, self._describe_version),
            operation("DELETE", f"{version}/delete", NamedVersion, self._delete_version),
            operation("POST", f"{version}/transition-stage", MoveVersion, self._move_version),
            operation("POST", f"{version}/set-tag", TagVersion, self._tag_version),
            operation("DELETE", f"{version}/delete-tag", TagVersion, self._untag_version),
            operation("GET", f"{version}/get-download-uri", NamedVersion, self._download_uri),
        ]

    def _create(self, asked: CreateModel) -> Answer:
        with self._database.write() as transaction:
            golden.refuse_loop_model(transaction, asked.name)
            made = models.create_model(
                transaction, asked.name, description=asked.description, tags=pairs_of(asked.tags), now_ms=self._now_ms()
            )
        return {"registered_model": _model_shape(made, [])}

    def _get(self, asked: NamedModel) -> Answer:
        with self._database.read() as transaction:
            found = golden.find_loop_model(transaction, asked.name)
            if found is not None:
                return {"registered_model": golden.model_shape(transaction, found)}
            return {"registered_model": _shown(transaction, models.get_model(transaction, asked.name))}

    def _search(self, asked: Search) -> Answer:
        with self._database.read() as transaction:
            found, token = models.search_models(transaction, _question(asked))
            latest = models.latest_versions(transaction, [each.name for each in found])
            shown = [_model_shape(each, latest[each.name]) for each in found]
            if not token:  # the models of loops come with the last page
                comparisons = read_filter(asked.filter, MODELS.vocabulary)
                listed = [golden.model_shape(transaction, each) for each in golden.loop_models(transaction)]
                shown += [each for each in listed if golden.fits(comparisons, each)]
        answer: Answer = {"registered_models": shown}
        return {**answer, "next_page_token": token} if token else answer

    def _rename(self, asked: RenameModel) -> Answer:
        with self._writing(asked.name) as transaction:
            golden.refuse_loop_model(transaction, asked.new_name)
            found = models.get_model(transaction, asked.name)
            renamed = models.change_model(transaction, found.id, name=asked.new_name, now_ms=self._now_ms())
            return {"registered_model": _shown(transaction, renamed)}

    def _describe(self, asked: DescribeModel) -> Answer:
        with self._writing(asked.name) as transaction:
            found = models.get_model(transaction, asked.name)
            changed = models.change_model(transaction, found.id, description=asked.description, now_ms=self._now_ms())
            return {"registered_model": _shown(transaction, changed)}

    def _delete(self, asked: NamedModel) -> Answer:
        with self._writing(asked.name) as transaction:
            models.delete_model(transaction, asked.name)
        return {}

    def _tag(self, asked: TagModel) -> Answer:
        with self._writing(asked.name) as transaction:
            models.tag_model(transaction, asked.name, asked.key, asked.value)
        return {}

    def _untag(self, asked: TagModel) -> Answer:
        with self._writing(asked.name) as transaction:
            models.untag_model(transaction, asked.name, asked.key)
        return {}

    def _latest(self, asked: LatestVersions) -> Answer:
        wanted = {stage.lower() for stage in asked.stages}
        with self._database.read() as transaction:
            found = golden.find_loop_model(transaction, asked.name)
            if found is not None:
                newest = golden.version_shapes(transaction, found)[:1]
                return {"model_versions": newest if not wanted or "none" in wanted else []}
            models.get_model(transaction, asked.name)
            latest = models.latest_versions(transaction, [asked.name])[asked.name]
        return {
            "model_versions": [_version_shape(each) for each in latest if not wanted or each.stage.lower() in wanted]
        }

    def _set_alias(self, asked: SetAlias) -> Answer:
        with self._writing(asked.name) as transaction:
            models.set_alias(transaction, asked.name, asked.alias, asked.number)
        return {}

    def _delete_alias(self, asked: NamedAlias) -> Answer:
        with self._writing(asked.name) as transaction:
            models.delete_alias(transaction, asked.name, asked.alias)
        return {}

    def _get_by_alias(self, asked: NamedAlias) -> Answer:
        with self._database.read() as transaction:
            found = golden.find_loop_model(transaction, asked.name)
            if found is not None:
                version = golden.version_with_alias(transaction, found, asked.alias)
                return {"model_version": golden.version_shape(found, version, (asked.alias,))}
            return {"model_version": _version_shape(models.version_with_alias(transaction, asked.name, asked.alias))}

    def _create_version(self, asked: CreateVersion) -> Answer:
        new = NewRegistration(
            source=asked.source,
            run_id=asked.run_id or None,
            run_link=asked.run_link,
            logged_model_id=asked.model_id or None,
            description=asked.description,
            tags=pairs_of(asked.tags),
        )
        if not new.source:
            raise InvalidSpecError("a version has files", where="source", mend="Say where they lie.")
        with self._writing(asked.name) as transaction:
            return {
                "model_version": _version_shape(
                    models.create_version(transaction, asked.name, new, now_ms=self._now_ms())
                )
            }

    def _get_version(self, asked: NamedVersion) -> Answer:
        number = asked.number
        with self._database.read() as transaction:
            found = golden.find_loop_model(transaction, asked.name)
            if found is not None:
                version = golden.find_version(transaction, found, str(number))
                return {"model_version": golden.shape_of(transaction, found, version)}
            return {"model_version": _version_shape(models.get_version(transaction, asked.name, number))}

    def _search_versions(self, asked: Search) -> Answer:
        with self._database.read() as transaction:
            found, token = models.search_versions(transaction, _question(asked))
            shown = [_version_shape(each) for each in found]
            if not token:
                comparisons = read_filter(asked.filter, VERSIONS.vocabulary)
                for model in golden.loop_models(transaction):
                    shown += [
                        each for each in golden.version_shapes(transaction, model) if golden.fits(comparisons, each)
                    ]
        answer: Answer = {"model_versions": shown}
        return {**answer, "next_page_token": token} if token else answer

    def _describe_version(self, asked: DescribeVersion) -> Answer:
        with self._writing(asked.name) as transaction:
            found = models.get_version(transaction, asked.name, asked.number)
            changed = models.change_version(transaction, found.id, description=asked.description, now_ms=self._now_ms())
        return {"model_version": _version_shape(changed)}

    def _delete_version(self, asked: NamedVersion) -> Answer:
        with self._writing(asked.name) as transaction:
            models.delete_version(transaction, asked.name, asked.number, now_ms=self._now_ms())
        return {}

    def _move_version(self, asked: MoveVersion) -> Answer:
        with self._writing(asked.name) as transaction:
            moved = models.move_version(
                transaction,
                asked.name,
                asked.number,
                asked.stage,
                archive_others=asked.archive_existing_versions,
                now_ms=self._now_ms(),
            )
        return {"model_version": _version_shape(moved)}

    def _tag_version(self, asked: TagVersion) -> Answer:
        with self._writing(asked.name) as transaction:
            models.tag_version(transaction, asked.name, asked.number, asked.key, asked.value)
        return {}

    def _untag_version(self, asked: TagVersion) -> Answer:
        with self._writing(asked.name) as transaction:
            models.untag_version(transaction, asked.name, asked.number, asked.key)
        return {}

    def _download_uri(self, asked: NamedVersion) -> Answer:
        number = asked.number
        with self._database.read() as transaction:
            found = golden.find_loop_model(transaction, asked.name)
            if found is not None:
                return {"artifact_uri": golden.source_of(golden.find_version(transaction, found, str(number)))}
            source = models.get_version(transaction, asked.name, number).source
            return {"artifact_uri": folder_of(transaction, source)}

    @contextmanager
    def _writing(self, name: str) -> Iterator[Transaction]:
        """A transaction that changes a registered model; that of a loop is refused."""
        with self._database.write() as transaction:
            try:
                yield transaction
            except NotFoundError:
                golden.refuse_loop_model(transaction, name)
                raise

    def _now_ms(self) -> int:
        return self._clock.now_us() // 1_000


def _question(asked: Search) -> Question:
    return Question(
        filter=asked.filter, order_by=asked.order_by, max_results=asked.max_results, page_token=asked.page_token
    )


def _shown(transaction: Transaction, model: RegisteredModel) -> Answer:
    return _model_shape(model, models.latest_versions(transaction, [model.name])[model.name])


def _model_shape(model: RegisteredModel, latest: list[RegisteredVersion]) -> Answer:
    return {
        "name": model.name,
        "creation_timestamp": model.created_ms,
        "last_updated_timestamp": model.updated_ms,
        "description": model.description,
        "latest_versions": [_version_shape(version) for version in latest],
        "tags": key_values(model.tags),
        "aliases": [{"alias": alias, "version": str(number)} for alias, number in model.aliases.items()],
    }


def _version_shape(version: RegisteredVersion) -> Answer:
    origin = {"run_id": version.run_id, "run_link": version.run_link, "model_id": version.logged_model_id}
    return {
        "name": version.model,
        "version": str(version.number),
        "creation_timestamp": version.created_ms,
        "last_updated_timestamp": version.updated_ms,
        "current_stage": version.stage,
        "description": version.description,
        "source": version.source,
        **{name: value for name, value in origin.items() if value},
        "status": "READY",
        "tags": key_values(version.tags),
        "aliases": list(version.aliases),
    }
