"""The book of runs in the database: what trees note is gathered and written at the end of the engine's turn, in its
transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.engine import RowMapping

from goldenloop.core.clock import Clock
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.nodes import Entry, Kind
from goldenloop.pipelines.runs import UNFINISHED
from goldenloop.pipelines.values import Values, values_of
from goldenloop.store.database import Transaction
from goldenloop.store.tables import artifacts, tasks

_PIECE = 500  # rows that are read at a time, and ids that one query names


class StoreBook:
    """A `Book` of the trees of one engine. `begin` a turn with its transaction, and `flush` before the transaction
    ends.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._transaction: Transaction | None = None
        self._now_us = 0
        self._new: dict[str, JsonObject] = {}
        self._changed: defaultdict[str, JsonObject] = defaultdict(dict)

    def begin(self, transaction: Transaction) -> None:
        """Start a turn: what an earlier one left unwritten is forgotten with its transaction."""
        self._transaction = transaction
        self._now_us = self._clock.now_us()
        self._new.clear()
        self._changed.clear()

    def flush(self) -> None:
        """Write what was noted."""
        if self._new:
            self._open.execute(tasks.insert(), list(self._new.values()))
            self._new.clear()
        alike: defaultdict[tuple[str, ...], list[JsonObject]] = defaultdict(list)
        for identity, changes in self._changed.items():
            row: JsonObject = {f"new_{name}": value for name, value in changes.items()}
            alike[tuple(sorted(changes))].append({**row, "of_id": identity})
        for names, rows in alike.items():
            written = {name: bindparam(f"new_{name}", type_=tasks.c[name].type) for name in names}
            self._open.execute(update(tasks).where(tasks.c.id == bindparam("of_id")).values(written), rows)
        self._changed.clear()

    # What trees ask

    def now_us(self) -> int:
        return self._now_us

    def add(self, entry: Entry) -> None:
        self._new[entry.id] = {
            "id": entry.id,
            "run_id": entry.run_id,
            "name": entry.path,
            "scope": entry.scope,
            "kind": entry.kind.value,
            "component": entry.component,
            "round": entry.index,
            "state": entry.state.value,
            "attempt": entry.attempt,
            "forgiven": entry.forgiven,
            "not_before_us": None,
            "cache_key": None,
            "cached_from": None,
            "inputs": entry.inputs.as_document() if entry.inputs != Values() else None,
            "outputs": None,
            "started_us": None,
            "finished_us": None,
            "error": None,
        }

    def change(self, identity: str, changes: Mapping[str, Json]) -> None:
        (self._new[identity] if identity in self._new else self._changed[identity]).update(changes)

    def entries(self, run_id: str, scope: str) -> list[Entry]:
        self.flush()
        query = select(tasks).where(tasks.c.run_id == run_id, tasks.c.scope == scope)
        over = (tasks.c.kind != Kind.ROUND.value) | tasks.c.state.in_(UNFINISHED)
        return [_entry(row) for row in self._open.execute(query.where(over).order_by(tasks.c.round)).mappings()]

    def begun_rounds(self, run_id: str, loop: str) -> tuple[int, bool]:
        self.flush()
        of_loop = (tasks.c.run_id == run_id, tasks.c.scope == loop, tasks.c.kind == Kind.ROUND.value)
        begun = self._open.execute(select(func.count()).select_from(tasks).where(*of_loop)).scalar_one()
        failed = select(tasks.c.id).where(*of_loop, tasks.c.state == RunState.FAILED.value).limit(1)
        return begun, self._open.execute(failed).first() is not None

    def round_outputs(self, run_id: str, loop: str) -> Iterator[Values]:
        self.flush()
        query = (
            select(tasks.c.outputs)
            .where(tasks.c.run_id == run_id, tasks.c.scope == loop, tasks.c.kind == Kind.ROUND.value)
            .order_by(tasks.c.round)
        )
        for row in self._open.execution_options(yield_per=_PIECE).execute(query):
            yield values_of(row.outputs)

    def artifact_facts(self, ids: Iterable[str]) -> dict[str, JsonObject]:
        return {
            identity: {"name": row["name"], "uri": row["uri"], "type": row["type"], "metadata": row["properties"]}
            for identity, row in self.artifact_rows(ids).items()
        }

    def artifact_rows(self, ids: Iterable[str]) -> dict[str, RowMapping]:
        """The rows of these artifacts, by id."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, RowMapping] = {}
        for begin in range(0, len(wanted), _PIECE):
            query = select(artifacts).where(artifacts.c.id.in_(wanted[begin : begin + _PIECE]))
            found |= {row["id"]: row for row in self._open.execute(query).mappings()}
        return found

    @property
    def _open(self) -> Transaction:
        assert self._transaction is not None
        return self._transaction


def _entry(row: RowMapping) -> Entry:
    return Entry(
        id=row["id"],
        run_id=row["run_id"],
        path=row["name"],
        scope=row["scope"],
        kind=Kind(row["kind"]),
        component=row["component"],
        index=row["round"],
        state=RunState(row["state"]),
        attempt=row["attempt"],
        forgiven=row["forgiven"],
        not_before_us=row["not_before_us"],
        inputs=values_of(row["inputs"]),
        outputs=values_of(row["outputs"]),
        error=row["error"],
    )
