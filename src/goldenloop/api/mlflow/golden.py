"""The models of loops as MLflow's registry shows them: read-only, with the aliases `golden` and `champion` on the version that answers,
and `challenger` on the newest one that may follow it.

A loop's model is called by its name, and `NAMESPACE.NAME` outside the namespace `default`, or where a registered model has taken the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import select

from goldenloop.api.mlflow.calls import Answer, key_values
from goldenloop.core.errors import NotFoundError, RefusedError
from goldenloop.core.phases import VersionState
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion
from goldenloop.standards.mlflow.addresses import PROXIED
from goldenloop.standards.mlflow.filters import Comparison, Entity, holds
from goldenloop.store.database import Transaction
from goldenloop.store.tables import versions as versions_table
from goldenloop.store.tracking_tables import registered_models
from goldenloop.tracking.models import NOT_A_PROMPT
from goldenloop.tracking.values import Pairs

DEFAULT_NAMESPACE = "default"
FOLDER = "golden"  # below it, in the tree of files, lie the versions of loops
CHAMPIONS = ("champion", "golden")
CHALLENGER = "challenger"


@dataclass(frozen=True, slots=True)
class LoopModel:
    """A model of a loop, and the name that it goes by."""

    namespace: str
    model: str
    name: str


def loop_models(transaction: Transaction) -> list[LoopModel]:
    """All models of loops, by the names they go by; a name that a registered model has taken is not one of them."""
    table = versions_table
    taken = set(transaction.execute(select(registered_models.c.name)).scalars())
    found = []
    for namespace, model in transaction.execute(select(table.c.namespace, table.c.model).distinct()):
        plain = namespace == DEFAULT_NAMESPACE and model not in taken
        found.append(LoopModel(namespace, model, model if plain else f"{namespace}.{model}"))
    return sorted((each for each in found if each.name not in taken), key=lambda each: each.name)


def find_loop_model(transaction: Transaction, name: str) -> LoopModel | None:
    """The model of a loop that goes by this name."""
    return next((each for each in loop_models(transaction) if each.name == name), None)


def refuse_loop_model(transaction: Transaction, name: str) -> None:
    """Raise RefusedError where the name is that of a loop's model: its runs register its versions, and its rollouts move them."""
    found = find_loop_model(transaction, name)
    if found is not None:
        raise RefusedError(
            f"{name!r} is the model of the loop {found.model!r}, whose runs register its versions",
            where="name",
            mend="Register under another name, or run the loop.",
        )


def find_version(transaction: Transaction, found: LoopModel, wanted: str) -> ModelVersion:
    """A version of a loop's model by number, or by `latest`. Raises NotFoundError."""
    for version in versions.listing(transaction, found.namespace, found.model)[::-1]:
        if wanted in (version.name, "latest"):
            return version
    raise NotFoundError(f"{found.name!r} has no version {wanted[:60]!r}", where="version", mend="Search its versions.")


def version_with_alias(transaction: Transaction, found: LoopModel, alias: str) -> ModelVersion:
    """The version of a loop's model that an alias points at. Raises NotFoundError."""
    aliases = _aliases(versions.listing(transaction, found.namespace, found.model))
    if alias not in aliases:
        raise NotFoundError(
            f"{found.name!r} has no alias {alias[:60]!r} now",
            where="alias",
            mend=f"It has {', '.join(aliases) or 'none'}; the loop sets {', '.join((*CHAMPIONS, CHALLENGER))}.",
        )
    return versions.get(transaction, found.namespace, found.model, aliases[alias])


def model_shape(transaction: Transaction, found: LoopModel) -> Answer:
    """A loop's model as a registered model."""
    listed = versions.listing(transaction, found.namespace, found.model)
    aliases = _aliases(listed)
    return {
        "name": found.name,
        "creation_timestamp": listed[0].created_us // 1_000,
        "last_updated_timestamp": listed[-1].created_us // 1_000,
        "description": f"The model of the loop {found.namespace}/{found.model}: runs register its versions, rollouts move its aliases.",
        "latest_versions": [version_shape(found, listed[-1], _names(aliases, listed[-1]))],
        "tags": key_values({"goldenloop.loop": f"{found.namespace}/{found.model}"}),
        "aliases": [{"alias": alias, "version": str(number)} for alias, number in aliases.items()],
    }


def version_shapes(transaction: Transaction, found: LoopModel) -> list[Answer]:
    """The versions of a loop's model, newest first."""
    listed = versions.listing(transaction, found.namespace, found.model)
    aliases = _aliases(listed)
    return [version_shape(found, version, _names(aliases, version)) for version in listed[::-1]]


def shape_of(transaction: Transaction, found: LoopModel, version: ModelVersion) -> Answer:
    """A version with its aliases, as a model version."""
    aliases = _aliases(versions.listing(transaction, found.namespace, found.model))
    return version_shape(found, version, _names(aliases, version))


def version_shape(found: LoopModel, version: ModelVersion, aliases: Sequence[str]) -> Answer:
    """A version of a loop's model as a model version."""
    tags: Pairs = {"goldenloop.state": version.state.value, "goldenloop.digest": version.digest}
    if version.run_id:
        tags["goldenloop.run"] = version.run_id
    return {
        "name": found.name,
        "version": version.name,
        "creation_timestamp": version.created_us // 1_000,
        "last_updated_timestamp": version.created_us // 1_000,
        "current_stage": "None",
        "description": "",
        "source": source_of(version),
        "status": "READY",
        "tags": key_values(tags),
        "aliases": list(aliases),
    }


def fits(comparisons: Sequence[Comparison], shape: Answer) -> bool:
    """Whether a loop's model, or a version of it, is one that a search asks for."""
    values: dict[str, object] = {
        "name": shape["name"],
        "source_path": shape.get("source"),
        "version_number": float(str(shape["version"])) if "version" in shape else None,
        "current_stage": shape.get("current_stage"),
        "creation_timestamp": shape["creation_timestamp"],
        "last_updated_timestamp": shape["last_updated_timestamp"],
    }
    tags = NOT_A_PROMPT | {str(entry["key"]): entry["value"] for entry in cast(list[Answer], shape["tags"])}
    return all(
        holds(each, values.get(each.key) if each.entity is Entity.ATTRIBUTE else tags.get(each.key))
        for each in comparisons
    )


def _aliases(listed: list[ModelVersion]) -> dict[str, int]:
    golden = next((each.number for each in listed if each.state is VersionState.GOLDEN), None)
    aliases = {} if golden is None else dict.fromkeys(CHAMPIONS, golden)
    blessed = [each.number for each in listed if each.state is VersionState.BLESSED and each.number > (golden or 0)]
    return aliases | ({CHALLENGER: blessed[-1]} if blessed else {})


def _names(aliases: dict[str, int], version: ModelVersion) -> list[str]:
    return [alias for alias, number in aliases.items() if number == version.number]


def source_of(version: ModelVersion) -> str:
    """The address under which MLflow's clients find the files of a version."""
    return f"{PROXIED}:/{FOLDER}/{version.namespace}/{version.model}/{version.number}"
