"""Experiments: what runs and logged models belong to. A deleted one keeps all it has, and can be restored."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec
from sqlalchemy import Row, String, cast, insert, select, update

from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError
from goldenloop.core.ids import uuid7
from goldenloop.standards.mlflow.addresses import PROXIED
from goldenloop.standards.mlflow.filters import Entity, Vocabulary
from goldenloop.standards.mlflow.limits import (
    LARGEST_INTEGER,
    LONGEST_EXPERIMENT_NAME,
    LONGEST_EXPERIMENT_TAG,
    LONGEST_TEXT,
    check_key,
    check_length,
)
from goldenloop.store.database import Transaction, record_of
from goldenloop.store.tracking_tables import logged_models, tracked_experiments, tracked_runs
from goldenloop.tracking.searching import Question, Searchable, search
from goldenloop.tracking.values import EXPERIMENT, Pairs, set_tags, tags_of

ACTIVE, DELETED = "active", "deleted"


class View(StrEnum):
    """Which of the deleted and the others a search looks at."""

    ACTIVE_ONLY = "ACTIVE_ONLY"
    DELETED_ONLY = "DELETED_ONLY"
    ALL = "ALL"

    @property
    def lifecycles(self) -> tuple[str, ...]:
        """The lifecycle stages that are looked at."""
        return {"ACTIVE_ONLY": (ACTIVE,), "DELETED_ONLY": (DELETED,)}.get(self.value, (ACTIVE, DELETED))


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `tracked_experiments`, and its tags."""

    id: int
    name: str
    artifact_location: str
    lifecycle: str
    created_ms: int
    updated_ms: int
    tags: Pairs = {}


_table = tracked_experiments
SEARCHABLE = Searchable(
    vocabulary=Vocabulary(
        texts=frozenset({"name"}),
        numbers=frozenset({"creation_time", "last_update_time", "experiment_id"}),
        entities=frozenset({Entity.TAG}),
    ),
    attributes={
        "name": _table.c.name,
        "creation_time": _table.c.created_ms,
        "last_update_time": _table.c.updated_ms,
        "experiment_id": _table.c.id,
    },
    tag_kind=EXPERIMENT,
    owner=cast(_table.c.id, String),
    default=((_table.c.updated_ms, True), (_table.c.id, True)),
    largest_page=50_000,
)


def create_experiment(transaction: Transaction, name: str, *, location: str, tags: Pairs, now_ms: int) -> Experiment:
    """Make an experiment. Raises InvalidSpecError, ConflictError for a name that is taken, also by a deleted one."""
    _check_name(name)
    check_length(location, LONGEST_TEXT, where="artifact_location")
    for key, value in tags.items():
        _check_tag(key, value)
    _check_free(transaction, name)
    values = {
        "name": name,
        "artifact_location": location,
        "lifecycle": ACTIVE,
        "created_ms": now_ms,
        "updated_ms": now_ms,
    }
    made = transaction.execute(insert(_table).values(**values))
    assert made.inserted_primary_key is not None
    identity = int(made.inserted_primary_key[0])
    if not location:
        location = f"{PROXIED}:/{identity}"
        transaction.execute(update(_table).where(_table.c.id == identity).values(artifact_location=location))
    set_tags(transaction, EXPERIMENT, str(identity), tags)
    return Experiment(
        id=identity,
        name=name,
        artifact_location=location,
        lifecycle=ACTIVE,
        created_ms=now_ms,
        updated_ms=now_ms,
        tags=tags,
    )


def experiment_number(given: str, *, where: str = "experiment_id") -> int:
    """The id of an experiment as a number. Raises NotFoundError for what cannot be one, as no such experiment is there."""
    if given.isascii() and given.isdecimal() and int(given) <= LARGEST_INTEGER:
        return int(given)
    if not given:
        raise InvalidSpecError("no experiment is named", where=where, mend="Give its id.")
    raise NotFoundError(
        f"there is no experiment {given[:100]!r}", where=where, mend="Ids are numbers: search experiments."
    )


def get_experiment(transaction: Transaction, identity: int) -> Experiment:
    """The experiment with this id, deleted or not. Raises NotFoundError."""
    row = transaction.execute(select(_table).where(_table.c.id == identity)).first()
    if row is None:
        raise NotFoundError(f"there is no experiment {identity}", where="experiment_id", mend="Search experiments.")
    return _with_tags(transaction, [row])[0]


def experiment_named(transaction: Transaction, name: str) -> Experiment:
    """The experiment of this name, deleted or not. Raises NotFoundError."""
    row = transaction.execute(select(_table).where(_table.c.name == name)).first()
    if row is None:
        raise NotFoundError(
            f"there is no experiment {name[:200]!r}", where="experiment_name", mend="Create it, or search experiments."
        )
    return _with_tags(transaction, [row])[0]


def active_experiment(transaction: Transaction, identity: int) -> Experiment:
    """The experiment, to be written in. Raises NotFoundError, InvalidSpecError for a deleted one."""
    found = get_experiment(transaction, identity)
    if found.lifecycle != ACTIVE:
        raise InvalidSpecError(
            f"the experiment {identity} is deleted", where="experiment_id", mend="Restore it, or name another one."
        )
    return found


def search_experiments(transaction: Transaction, question: Question, view: View) -> tuple[list[Experiment], str]:
    """A page of experiments, and the token of the next. Raises InvalidSpecError."""
    where = [_table.c.lifecycle.in_(view.lifecycles)]
    found = search(transaction, SEARCHABLE, select(_table), question, where=where, scope=view)
    return _with_tags(transaction, found.rows), found.next_token


def rename_experiment(transaction: Transaction, identity: int, name: str, *, now_ms: int) -> None:
    """Give another name. Raises NotFoundError, InvalidSpecError, ConflictError."""
    current = active_experiment(transaction, identity)
    _check_name(name)
    if name != current.name:
        _check_free(transaction, name)
    transaction.execute(update(_table).where(_table.c.id == identity).values(name=name, updated_ms=now_ms))


def move_experiment(transaction: Transaction, identity: int, lifecycle: str, *, now_ms: int) -> None:
    """Delete an experiment with its runs and models, or restore it with them. Raises NotFoundError, InvalidSpecError."""
    current = get_experiment(transaction, identity)
    if current.lifecycle == lifecycle:
        raise InvalidSpecError(f"the experiment {identity} is {lifecycle} already", where="experiment_id")
    if identity == 0 and lifecycle == DELETED:
        raise InvalidSpecError(
            "the experiment 0 takes what is logged without one", where="experiment_id", mend="Delete its runs instead."
        )
    transaction.execute(update(_table).where(_table.c.id == identity).values(lifecycle=lifecycle, updated_ms=now_ms))
    for table in (tracked_runs, logged_models):
        transaction.execute(update(table).where(table.c.experiment_id == identity).values(lifecycle=lifecycle))


def tag_experiment(transaction: Transaction, identity: int, key: str, value: str, *, now_ms: int) -> None:
    """Set a tag. Raises NotFoundError, InvalidSpecError."""
    active_experiment(transaction, identity)
    _check_tag(key, value)
    set_tags(transaction, EXPERIMENT, str(identity), {key: value})
    transaction.execute(update(_table).where(_table.c.id == identity).values(updated_ms=now_ms))


def _with_tags(transaction: Transaction, rows: Sequence[Row[tuple[object, ...]]]) -> list[Experiment]:
    found = [record_of(row, Experiment) for row in rows]
    tags = tags_of(transaction, EXPERIMENT, [str(each.id) for each in found])
    return [msgspec.structs.replace(each, tags=tags[str(each.id)]) for each in found]


def _check_name(name: str) -> None:
    if not name.strip():
        raise InvalidSpecError("an experiment has a name", where="name", mend="Give one.")
    check_length(name, LONGEST_EXPERIMENT_NAME, where="name")


def _check_tag(key: str, value: str) -> None:
    check_key(key, where="tags", what="tag")
    check_length(value, LONGEST_EXPERIMENT_TAG, where=f"tags.{key}")


def _check_free(transaction: Transaction, name: str) -> None:
    lifecycle = transaction.scalar(select(_table.c.lifecycle).where(_table.c.name == name))
    if lifecycle is not None:
        mend = (
            "Take that one, or choose another name." if lifecycle == ACTIVE else "Restore it, or choose another name."
        )
        raise ConflictError(
            f"there is a{'n' if lifecycle == ACTIVE else ''} {lifecycle} experiment {name[:200]!r}",
            where="name",
            mend=mend,
        )


def new_id() -> str:
    """A new id of a run, time-ordered, as 32 hexadecimal digits."""
    return uuid7().replace("-", "")
