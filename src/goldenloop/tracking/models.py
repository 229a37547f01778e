"""Registered models and their versions, numbered from 1; aliases and stages point at versions.

A number that was given is not given again, also when its version was deleted, as long as a later one is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec
from sqlalchemy import Column, Row, Select, String, cast, delete, func, insert, select, update

from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError
from goldenloop.core.json import JsonObject
from goldenloop.standards.mlflow.filters import Entity, Vocabulary
from goldenloop.standards.mlflow.limits import (
    LONGEST_REGISTRY_TAG,
    LONGEST_TEXT,
    check_alias,
    check_key,
    check_length,
    check_model_name,
)
from goldenloop.store.database import Transaction, record_of, upsert
from goldenloop.store.tracking_tables import logged_models, registered_aliases, registered_models, registered_versions
from goldenloop.tracking.searching import Question, Searchable, search
from goldenloop.tracking.values import MODEL, VERSION, Pairs, delete_tag, forget_tags, set_tags, tags_of

# MLflow keeps prompts in its registry too, and its clients ask for what is none.
NOT_A_PROMPT = {"mlflow.prompt.is_prompt": "false"}
STAGES = ("None", "Staging", "Production", "Archived")
_models, _versions = registered_models, registered_versions


class RegisteredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `registered_models`; `aliases` maps to numbers of versions."""

    id: int
    name: str
    description: str
    created_ms: int
    updated_ms: int
    external_id: str | None
    details: JsonObject
    tags: Pairs = {}
    aliases: dict[str, int] = {}


class RegisteredVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `registered_versions`, with the name of its model."""

    id: int
    model_id: int
    model: str
    number: int
    name: str
    source: str
    run_id: str | None
    run_link: str
    logged_model_id: str | None
    description: str
    stage: str
    created_ms: int
    updated_ms: int
    external_id: str | None
    details: JsonObject
    tags: Pairs = {}
    aliases: tuple[str, ...] = ()


class NewRegistration(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of a new version. Without a name it is called by its number."""

    source: str
    name: str = ""
    run_id: str | None = None
    run_link: str = ""
    logged_model_id: str | None = None
    description: str = ""
    external_id: str | None = None
    details: JsonObject = {}
    tags: Pairs = {}


MODELS = Searchable(
    vocabulary=Vocabulary(
        texts=frozenset({"name"}),
        numbers=frozenset({"creation_timestamp", "last_updated_timestamp"}),
        entities=frozenset({Entity.TAG}),
        renamed={"timestamp": "last_updated_timestamp"},
    ),
    attributes={
        "name": _models.c.name,
        "creation_timestamp": _models.c.created_ms,
        "last_updated_timestamp": _models.c.updated_ms,
    },
    tag_kind=MODEL,
    assumed=NOT_A_PROMPT,
    owner=cast(_models.c.id, String),
    default=((_models.c.name, False), (_models.c.id, False)),
)
VERSIONS = Searchable(
    vocabulary=Vocabulary(
        texts=frozenset({"name", "run_id", "source_path", "current_stage"}),
        numbers=frozenset({"version_number", "creation_timestamp", "last_updated_timestamp"}),
        entities=frozenset({Entity.TAG}),
        renamed={"version": "version_number", "source": "source_path", "stage": "current_stage"},
    ),
    attributes={
        "name": _models.c.name,
        "run_id": _versions.c.run_id,
        "source_path": _versions.c.source,
        "current_stage": _versions.c.stage,
        "version_number": _versions.c.number,
        "creation_timestamp": _versions.c.created_ms,
        "last_updated_timestamp": _versions.c.updated_ms,
    },
    tag_kind=VERSION,
    assumed=NOT_A_PROMPT,
    owner=cast(_versions.c.id, String),
    default=(
        (_versions.c.updated_ms, True),
        (_models.c.name, False),
        (_versions.c.number, True),
        (_versions.c.id, True),
    ),
    largest_page=200_000,
)
_WITH_MODEL: Select[tuple[object, ...]] = select(*_versions.c, _models.c.name.label("model")).join(
    _models, _models.c.id == _versions.c.model_id
)


def create_model(
    transaction: Transaction,
    name: str,
    *,
    description: str = "",
    tags: Pairs | None = None,
    external_id: str | None = None,
    details: JsonObject | None = None,
    now_ms: int,
) -> RegisteredModel:
    """Register a name. Raises InvalidSpecError, ConflictError for a name that is taken."""
    check_model_name(name)
    check_length(description, LONGEST_TEXT, where="description")
    _check_tags(tags or {})
    if transaction.scalar(select(_models.c.id).where(_models.c.name == name)) is not None:
        raise ConflictError(
            f"there is a registered model {name!r} already",
            where="name",
            mend="Add a version to it, or choose another name.",
        )
    _check_external(transaction, _models.c.external_id, external_id)
    values = {
        "name": name, "description": description, "created_ms": now_ms, "updated_ms": now_ms,
        "external_id": external_id, "details": details or {},
    }  # fmt: skip
    made = transaction.execute(insert(_models).values(**values)).inserted_primary_key
    assert made is not None
    set_tags(transaction, MODEL, str(made[0]), tags or {})
    return get_model(transaction, name)


def get_model(transaction: Transaction, name: str) -> RegisteredModel:
    """The model of this name. Raises NotFoundError."""
    row = transaction.execute(select(_models).where(_models.c.name == name)).first()
    if row is None:
        raise NotFoundError(f"there is no registered model {name[:200]!r}", where="name", mend="Create it first.")
    return _complete_models(transaction, [row])[0]


def model_with_id(transaction: Transaction, identity: int) -> RegisteredModel:
    """The model with this id. Raises NotFoundError."""
    row = transaction.execute(select(_models).where(_models.c.id == identity)).first()
    if row is None:
        raise NotFoundError(f"there is no registered model {identity}", where="id", mend="List the registered models.")
    return _complete_models(transaction, [row])[0]


def search_models(transaction: Transaction, question: Question) -> tuple[list[RegisteredModel], str]:
    """A page of models, and the token of the next. Raises InvalidSpecError."""
    found = search(transaction, MODELS, select(_models), question, where=(), scope="models")
    return _complete_models(transaction, found.rows), found.next_token


def change_model(
    transaction: Transaction, identity: int, *, now_ms: int, name: str | None = None, description: str | None = None,
    external_id: str | None = None, details: JsonObject | None = None,
) -> RegisteredModel:  # fmt: skip
    """Change what is given. Raises NotFoundError, InvalidSpecError, ConflictError for a name that is taken."""
    changes: dict[str, object] = {"updated_ms": now_ms}
    current = model_with_id(transaction, identity)
    if name is not None and name != current.name:
        check_model_name(name, where="new_name")
        if transaction.scalar(select(_models.c.id).where(_models.c.name == name)) is not None:
            raise ConflictError(
                f"there is a registered model {name!r} already", where="new_name", mend="Choose another."
            )
        changes["name"] = name
    if description is not None:
        check_length(description, LONGEST_TEXT, where="description")
        changes["description"] = description
    if external_id is not None and external_id != current.external_id:
        _check_external(transaction, _models.c.external_id, external_id)
        changes["external_id"] = external_id
    if details is not None:
        changes["details"] = details
    transaction.execute(update(_models).where(_models.c.id == identity).values(**changes))
    return model_with_id(transaction, identity)


def delete_model(transaction: Transaction, name: str) -> None:
    """Delete a model with its versions, tags and aliases; files stay. Raises NotFoundError."""
    model = get_model(transaction, name)
    versions = transaction.execute(select(_versions.c.id).where(_versions.c.model_id == model.id)).scalars().all()
    forget_tags(transaction, VERSION, [str(version) for version in versions])
    forget_tags(transaction, MODEL, [str(model.id)])
    transaction.execute(delete(_models).where(_models.c.id == model.id))


def create_version(transaction: Transaction, model: str, new: NewRegistration, *, now_ms: int) -> RegisteredVersion:
    """Give the next number to a version. Raises NotFoundError, InvalidSpecError, ConflictError for a name that is taken."""
    found = transaction.execute(select(_models.c.id).where(_models.c.name == model)).scalar()
    if found is None:
        get_model(transaction, model)
    check_length(new.source, LONGEST_TEXT, where="source")
    check_length(new.description, LONGEST_TEXT, where="description")
    _check_tags(new.tags)
    new = _with_origin(transaction, new)
    check_length(new.run_id or "", 32, where="run_id")
    check_length(new.logged_model_id or "", 40, where="model_id")
    number = (transaction.scalar(select(func.max(_versions.c.number)).where(_versions.c.model_id == found)) or 0) + 1
    name = new.name or str(number)
    check_length(name, 256, where="name")
    taken = select(_versions.c.id).where(_versions.c.model_id == found, _versions.c.name == name)
    if transaction.scalar(taken) is not None:
        raise ConflictError(f"{model!r} has a version {name!r} already", where="name", mend="Choose another name.")
    _check_external(transaction, _versions.c.external_id, new.external_id)
    values = {
        "model_id": found, "number": number, "name": name, "source": new.source, "run_id": new.run_id or None,
        "run_link": new.run_link, "logged_model_id": new.logged_model_id or None, "description": new.description,
        "stage": STAGES[0], "created_ms": now_ms, "updated_ms": now_ms, "external_id": new.external_id, "details": new.details,
    }  # fmt: skip
    made = transaction.execute(insert(_versions).values(**values)).inserted_primary_key
    assert made is not None
    set_tags(transaction, VERSION, str(made[0]), new.tags)
    transaction.execute(update(_models).where(_models.c.id == found).values(updated_ms=now_ms))
    return RegisteredVersion(id=int(made[0]), model=model, tags=new.tags, **values)  # type: ignore[arg-type]  # each as its column


def get_version(transaction: Transaction, model: str, number: int) -> RegisteredVersion:
    """A version by its number. Raises NotFoundError."""
    row = transaction.execute(_WITH_MODEL.where(_models.c.name == model, _versions.c.number == number)).first()
    if row is None:
        get_model(transaction, model)
        raise NotFoundError(f"{model!r} has no version {number}", where="version", mend="Search its versions.")
    return _complete_versions(transaction, [row])[0]


def version_with_id(transaction: Transaction, identity: int) -> RegisteredVersion:
    """The version with this id. Raises NotFoundError."""
    row = transaction.execute(_WITH_MODEL.where(_versions.c.id == identity)).first()
    if row is None:
        raise NotFoundError(f"there is no model version {identity}", where="id", mend="List the versions of the model.")
    return _complete_versions(transaction, [row])[0]


def version_with_alias(transaction: Transaction, model: str, alias: str) -> RegisteredVersion:
    """The version that an alias points at. Raises NotFoundError."""
    found = get_model(transaction, model)
    if alias not in found.aliases:
        raise NotFoundError(f"{model!r} has no alias {alias[:100]!r}", where="alias", mend="Set it first.")
    return get_version(transaction, model, found.aliases[alias])


def latest_versions(transaction: Transaction, models: Sequence[str]) -> dict[str, list[RegisteredVersion]]:
    """The newest version of each stage, by model."""
    newest = (
        select(func.max(_versions.c.number).label("number"), _versions.c.model_id)
        .join(_models, _models.c.id == _versions.c.model_id)
        .where(_models.c.name.in_(models))
        .group_by(_versions.c.model_id, _versions.c.stage)
        .subquery()
    )
    query = _WITH_MODEL.join(
        newest, (newest.c.model_id == _versions.c.model_id) & (newest.c.number == _versions.c.number)
    ).order_by(_versions.c.number)
    found: dict[str, list[RegisteredVersion]] = defaultdict(list)
    for version in _complete_versions(transaction, transaction.execute(query).all()):
        found[version.model].append(version)
    return found


def search_versions(transaction: Transaction, question: Question) -> tuple[list[RegisteredVersion], str]:
    """A page of versions, and the token of the next. Raises InvalidSpecError."""
    found = search(transaction, VERSIONS, _WITH_MODEL, question, where=(), scope="versions")
    return _complete_versions(transaction, found.rows), found.next_token


def change_version(
    transaction: Transaction, identity: int, *, now_ms: int, description: str | None = None, source: str | None = None,
    external_id: str | None = None, details: JsonObject | None = None,
) -> RegisteredVersion:  # fmt: skip
    """Change what is given. Raises NotFoundError, InvalidSpecError."""
    current = version_with_id(transaction, identity)
    changes: dict[str, object] = {"updated_ms": now_ms}
    if description is not None:
        check_length(description, LONGEST_TEXT, where="description")
        changes["description"] = description
    if source is not None:
        check_length(source, LONGEST_TEXT, where="source")
        changes["source"] = source
    if external_id is not None and external_id != current.external_id:
        _check_external(transaction, _versions.c.external_id, external_id)
        changes["external_id"] = external_id
    if details is not None:
        changes["details"] = details
    transaction.execute(update(_versions).where(_versions.c.id == identity).values(**changes))
    return version_with_id(transaction, identity)


def move_version(
    transaction: Transaction, model: str, number: int, stage: str, *, archive_others: bool, now_ms: int
) -> RegisteredVersion:
    """Put a version into a stage, and the others that are there into the archive where asked. Raises NotFoundError, InvalidSpecError."""
    wanted = next((each for each in STAGES if each.lower() == stage.lower()), None)
    if wanted is None:
        raise InvalidSpecError(f"{stage[:60]!r} is no stage", where="stage", mend=f"There are {', '.join(STAGES)}.")
    version = get_version(transaction, model, number)
    if archive_others:
        if wanted not in ("Staging", "Production"):
            raise InvalidSpecError(
                f"{wanted} holds any number of versions", where="archive_existing_versions", mend="Leave it out."
            )
        others = (_versions.c.model_id == version.model_id, _versions.c.stage == wanted, _versions.c.number != number)
        transaction.execute(update(_versions).where(*others).values(stage="Archived", updated_ms=now_ms))
    mine = _versions.c.id == version.id
    transaction.execute(update(_versions).where(mine).values(stage=wanted, updated_ms=now_ms))
    return get_version(transaction, model, number)


def delete_version(transaction: Transaction, model: str, number: int, *, now_ms: int) -> None:
    """Delete a version with its tags and aliases; files stay. Raises NotFoundError."""
    version = get_version(transaction, model, number)
    forget_tags(transaction, VERSION, [str(version.id)])
    aliases = registered_aliases
    transaction.execute(delete(aliases).where(aliases.c.model_id == version.model_id, aliases.c.number == number))
    transaction.execute(delete(_versions).where(_versions.c.id == version.id))
    transaction.execute(update(_models).where(_models.c.id == version.model_id).values(updated_ms=now_ms))


def set_alias(transaction: Transaction, model: str, alias: str, number: int) -> None:
    """Point an alias at a version, wherever it pointed. Raises NotFoundError, InvalidSpecError."""
    check_alias(alias)
    version = get_version(transaction, model, number)
    upsert(transaction, registered_aliases, {"model_id": version.model_id, "alias": alias, "number": number})


def delete_alias(transaction: Transaction, model: str, alias: str) -> None:
    """Take an alias away; done twice it is done once. Raises NotFoundError for an unknown model."""
    found = get_model(transaction, model)
    aliases = registered_aliases
    transaction.execute(delete(aliases).where(aliases.c.model_id == found.id, aliases.c.alias == alias))


def tag_model(transaction: Transaction, model: str, key: str, value: str) -> None:
    """Set a tag. Raises NotFoundError, InvalidSpecError."""
    _check_tags({key: value})
    set_tags(transaction, MODEL, str(get_model(transaction, model).id), {key: value})


def untag_model(transaction: Transaction, model: str, key: str) -> None:
    """Delete a tag; done twice it is done once. Raises NotFoundError for an unknown model."""
    delete_tag(transaction, MODEL, str(get_model(transaction, model).id), key, must_exist=False)


def tag_version(transaction: Transaction, model: str, number: int, key: str, value: str) -> None:
    """Set a tag. Raises NotFoundError, InvalidSpecError."""
    _check_tags({key: value})
    set_tags(transaction, VERSION, str(get_version(transaction, model, number).id), {key: value})


def untag_version(transaction: Transaction, model: str, number: int, key: str) -> None:
    """Delete a tag; done twice it is done once. Raises NotFoundError for an unknown version."""
    delete_tag(transaction, VERSION, str(get_version(transaction, model, number).id), key, must_exist=False)


def _with_origin(transaction: Transaction, new: NewRegistration) -> NewRegistration:
    """The registration with the logged model that its source names, and the run that logged it."""
    logged = new.logged_model_id or (
        new.source.removeprefix("models:/") if new.source.startswith("models:/m-") else None
    )
    if logged is None or (new.logged_model_id and new.run_id):
        return new
    run_id = transaction.scalar(select(logged_models.c.source_run_id).where(logged_models.c.id == logged))
    return msgspec.structs.replace(new, logged_model_id=logged, run_id=new.run_id or run_id)


def _check_tags(tags: Pairs) -> None:
    for key, value in tags.items():
        check_key(key, where="tags", what="tag")
        check_length(value, LONGEST_REGISTRY_TAG, where=f"tags.{key}")


def _check_external(transaction: Transaction, column: Column[str | None], external_id: str | None) -> None:
    if external_id is not None and transaction.scalar(select(column).where(column == external_id)) is not None:
        raise ConflictError(f"the external id {external_id[:100]!r} is taken", where="externalId", mend="Give another.")


def _complete_models(transaction: Transaction, rows: Sequence[Row[tuple[object, ...]]]) -> list[RegisteredModel]:
    found = [record_of(row, RegisteredModel) for row in rows]
    tags = tags_of(transaction, MODEL, [str(model.id) for model in found])
    aliases: dict[int, dict[str, int]] = defaultdict(dict)
    table = registered_aliases
    for model_id, alias, number in transaction.execute(
        select(table.c.model_id, table.c.alias, table.c.number).where(table.c.model_id.in_([each.id for each in found]))
    ):
        aliases[model_id][alias] = number
    return [msgspec.structs.replace(each, tags=tags[str(each.id)], aliases=aliases[each.id]) for each in found]


def _complete_versions(transaction: Transaction, rows: Sequence[Row[tuple[object, ...]]]) -> list[RegisteredVersion]:
    found = [record_of(row, RegisteredVersion) for row in rows]
    tags = tags_of(transaction, VERSION, [str(version.id) for version in found])
    aliases: dict[tuple[int, int], list[str]] = defaultdict(list)
    table = registered_aliases
    models = {each.model_id for each in found}
    for model_id, alias, number in transaction.execute(
        select(table.c.model_id, table.c.alias, table.c.number)
        .where(table.c.model_id.in_(models))
        .order_by(table.c.alias)
    ):
        aliases[model_id, number].append(alias)
    return [
        msgspec.structs.replace(each, tags=tags[str(each.id)], aliases=tuple(aliases[each.model_id, each.number]))
        for each in found
    ]
