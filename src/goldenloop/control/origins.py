"""What a version, a run, a data set or a state of the code came from, and what came of it, from what is on record."""

from __future__ import annotations

import msgspec
from sqlalchemy import select

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.ids import is_uuid
from goldenloop.core.json import Json, JsonObject
from goldenloop.registry.versions import ModelVersion
from goldenloop.store.database import Transaction, record_of
from goldenloop.store.tables import evaluations, runs
from goldenloop.store.tables import versions as version_table

_SHORTEST = 7  # letters of a digest or a commit, as git abbreviates


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One thing on the way. `id` may be traced in turn."""

    kind: str  # version, run, data, code, evaluation
    id: str
    text: str


def trace_origin(transaction: Transaction, identity: str) -> JsonObject | None:
    """Trace a run by its id, a version as LOOP/NUMBER or NAMESPACE/LOOP/NUMBER, or by the first letters (7 at least) of a digest or a
    commit what has it. None where it is none of them. Raises InvalidSpecError where the letters fit several things.
    """
    row = transaction.execute(select(runs.c.id).where(runs.c.id == identity)).first()
    if row is None and is_uuid(identity):
        return None  # a prediction's, most likely: no version is read for it
    known = [record_of(each, ModelVersion) for each in transaction.execute(select(version_table))]
    if row is not None:
        made = [version for version in known if version.run_id == identity]
        return _told("run", identity, _of_run(transaction, identity), _downstream_of(transaction, made))
    for version in known:
        if identity in (f"{version.model}/{version.number}", _name(version)):
            return _told("version", _name(version), _upstream_of(transaction, version), _came_of(transaction, version))
    if len(identity) < _SHORTEST:
        return None
    found: dict[tuple[str, str], list[ModelVersion]] = {}
    for version in known:
        for kind, digests in _digests(version).items():
            for digest in digests:
                if digest.startswith(identity):
                    found.setdefault((kind, digest), []).append(version)
    if not found:
        return None
    if len({digest for _, digest in found}) > 1:
        several = ", ".join(f"{kind} {digest[:16]}" for kind, digest in sorted(found))
        raise InvalidSpecError(f"{identity!r} fits several: {several}", where="ID", mend="Give more letters.")
    ((kind, digest), fitting) = next(iter(found.items()))
    if kind == "model":
        version = fitting[0]
        return _told("version", _name(version), _upstream_of(transaction, version), _came_of(transaction, version))
    sources = {str(version.data_version.get("source")) for version in fitting} if kind == "data" else set()
    upstream = [Link(kind="source", id=source, text="where the rows lay") for source in sorted(sources)]
    return _told(kind, digest, upstream, _downstream_of(transaction, fitting))


def _digests(version: ModelVersion) -> dict[str, list[str]]:
    code, data = version.code_version, version.data_version
    named: dict[str, list[Json]] = {
        "data": [data.get("digest")],
        "code": [code.get("digest")],
        "commit": [code.get("commit")],
        "model": [version.digest],
    }
    return {kind: [each for each in digests if isinstance(each, str)] for kind, digests in named.items()}


def _upstream_of(transaction: Transaction, version: ModelVersion) -> list[Link]:
    """Run, data and code of a version, and the version that it was judged beside."""
    data, code = version.data_version, version.code_version
    links = [] if version.run_id is None else _of_run(transaction, version.run_id, is_upstream=True)
    if isinstance(data.get("digest"), str):
        text = f"{data.get('rows')} rows of {data.get('source') or 'the payload log'}"
        links.append(Link(kind="data", id=str(data["digest"]), text=text))
    if isinstance(code.get("digest"), str):
        dirty = ", changed since" if code.get("dirty") else ""
        links.append(Link(kind="code", id=str(code["digest"]), text=f"{code.get('commit') or 'no commit'}{dirty}"))
    return links


def _of_run(transaction: Transaction, run_id: str, *, is_upstream: bool = False) -> list[Link]:
    """The run itself where it is upstream of something, and what it was given."""
    row = transaction.execute(select(runs).where(runs.c.id == run_id)).mappings().first()
    if row is None:
        return [Link(kind="run", id=run_id, text="not on record any more")]
    links = [Link(kind="run", id=run_id, text=str(row["cause"].get("text", "")))] if is_upstream else []
    for name, given in row["inputs"].items():
        links.append(Link(kind="artifact", id=str(given["uri"]), text=f"given to the run as {name}"))
    return links


def _came_of(transaction: Transaction, version: ModelVersion) -> list[Link]:
    """The verdicts on a version."""
    query = (
        select(evaluations)
        .where(
            evaluations.c.namespace == version.namespace,
            evaluations.c.model == version.model,
            evaluations.c.challenger == version.number,
        )
        .order_by(evaluations.c.created_us, evaluations.c.id)
    )
    return [
        Link(kind="evaluation", id=each.id, text=f"{each.verdict}: {each.reason}")
        for each in transaction.execute(query)
    ]


def _downstream_of(transaction: Transaction, made: list[ModelVersion]) -> list[Link]:
    links = []
    for version in made:
        links.append(Link(kind="version", id=_name(version), text=f"{version.state}, made by run {version.run_id}"))
        links += _came_of(transaction, version)
    return links


def _name(version: ModelVersion) -> str:
    return f"{version.namespace}/{version.model}/{version.number}"


def _told(kind: str, identity: str, upstream: list[Link], downstream: list[Link]) -> JsonObject:
    above: list[Json] = [msgspec.to_builtins(each) for each in upstream]
    below: list[Json] = [msgspec.to_builtins(each) for each in downstream]
    return {"kind": kind, "id": identity, "upstream": above, "downstream": below}
