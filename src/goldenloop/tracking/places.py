"""Where a model lies that is named in MLflow's words.

| address | what |
|---|---|
| `models:/NAME/3`, `models:/NAME/latest`, `models:/NAME/Production`, `models:/NAME@ALIAS` | a version of a registered model |
| `models:/m-…` | a logged model |
| `runs:/RUN/PATH` | a model that a run logged under that name, else that path among the run's artifacts |

Each leads to the address of a folder: `mlflow-artifacts:/…` where the files came through us, or whatever a client said.
"""

from __future__ import annotations

import posixpath
import re

from sqlalchemy import select

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.standards.mlflow.addresses import MODELS, PROXIED, RUNS
from goldenloop.store.database import Transaction
from goldenloop.store.tracking_tables import logged_models, run_models
from goldenloop.tracking.experiments import ACTIVE
from goldenloop.tracking.inputs import OUTPUT
from goldenloop.tracking.logged import get_logged_model
from goldenloop.tracking.models import (
    STAGES,
    RegisteredVersion,
    get_version,
    latest_versions,
    version_with_alias,
)
from goldenloop.tracking.runs import get_info

TREE = "mlflow"  # the tree, beside the artifacts, of the files that came through us
_STEPS = 8  # addresses that lead to addresses
_LOGGED = re.compile(r"m-[0-9a-f]{32}")


def folder_of(transaction: Transaction, address: str) -> str:
    """The address of the folder that this one leads to. Raises NotFoundError, InvalidSpecError."""
    for _ in range(_STEPS):
        scheme, _, rest = address.partition(":/")
        if scheme == MODELS:
            address = _model(transaction, rest.strip("/"), address)
        elif scheme == RUNS:
            address = _of_run(transaction, rest.strip("/"), address)
        else:
            return address
    raise InvalidSpecError(
        "addresses lead to each other in a circle", where=address, mend="Register the files themselves."
    )


def path_in_tree(address: str) -> str:
    """The path, in the tree of files that came through us, of an `mlflow-artifacts` address. Raises InvalidSpecError."""
    if not address.startswith(f"{PROXIED}:/"):
        raise InvalidSpecError("these files did not come through us", where=address)
    rest = address.removeprefix(f"{PROXIED}:/")
    # With a host, mlflow-artifacts://HOST/path names the server as well, which is this one.
    path = rest.removeprefix("/").partition("/")[2] if rest.startswith("/") else rest
    return path.strip("/")


def version_named(transaction: Transaction, name: str, wanted: str) -> RegisteredVersion:
    """A version by its number, a stage, or `latest`. Raises NotFoundError, InvalidSpecError."""
    if wanted.isascii() and wanted.isdecimal() and len(wanted) < 10:
        return get_version(transaction, name, int(wanted))
    latest = latest_versions(transaction, [name])[name]
    if wanted.lower() == "latest":
        if latest:
            return max(latest, key=lambda version: version.number)
    elif wanted.lower() in (stage.lower() for stage in STAGES):
        for version in latest:
            if version.stage.lower() == wanted.lower():
                return version
    else:
        raise InvalidSpecError(
            f"{wanted[:100]!r} is no version", where=f"models:/{name}", mend="Give a number, a stage, or latest."
        )
    raise NotFoundError(
        f"{name!r} has no version that is {wanted!r}", where=f"models:/{name}", mend="Search its versions."
    )


def _model(transaction: Transaction, rest: str, address: str) -> str:
    if "@" in rest:
        name, _, alias = rest.rpartition("@")
        return version_with_alias(transaction, name, alias).source
    name, _, wanted = rest.partition("/")
    if wanted:
        return version_named(transaction, name, wanted).source
    if _LOGGED.fullmatch(name):
        return get_logged_model(transaction, name).info.artifact_uri
    raise InvalidSpecError(
        "not the address of a model", where=address, mend="Write models:/NAME/VERSION or models:/NAME@ALIAS."
    )


def _of_run(transaction: Transaction, rest: str, address: str) -> str:
    run_id, _, path = rest.partition("/")
    if not path:
        raise InvalidSpecError("not the address of a model of a run", where=address, mend="Write runs:/RUN/PATH.")
    info = get_info(transaction, run_id)
    made = (
        select(logged_models.c.artifact_uri)
        .join(run_models, run_models.c.model_id == logged_models.c.id)
        .where(run_models.c.run_id == run_id, run_models.c.direction == OUTPUT)
        .where(logged_models.c.name == path, logged_models.c.lifecycle == ACTIVE)
        .order_by(run_models.c.step.desc(), logged_models.c.created_ms.desc())
        .limit(1)
    )
    found = transaction.scalar(made)
    return str(found) if found is not None else posixpath.join(info.artifact_uri, path)
