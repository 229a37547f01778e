"""A run that has ended goes on: from its failed steps, or from a step that somebody names.

What is done again: every task that did not succeed, the tasks that are named, and all that waits for either. What holds
such a task goes on around it; a loop keeps the rounds that succeeded. Attempts count anew, and their logs stay beside
the new ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import bindparam, case, delete, select, update
from sqlalchemy.engine import RowMapping

from goldenloop.core.errors import ConflictError, NotFoundError
from goldenloop.core.phases import RunState
from goldenloop.pipelines.nodes import Kind
from goldenloop.pipelines.plan import Layout, Plan
from goldenloop.pipelines.runs import UNFINISHED
from goldenloop.standards.pipeline_ir import read_pipeline
from goldenloop.store.database import Transaction
from goldenloop.store.tables import runs, tasks

_PIECE = 500


def restart_run(transaction: Transaction, run_id: str, *, steps: Collection[str] = ()) -> None:
    """Let a run that has ended go on; `steps` are paths of tasks that are done again although they succeeded.

    Raises NotFoundError for an unknown run or step, ConflictError for a run that goes on.
    """
    run = transaction.execute(select(runs.c.state, runs.c.pipeline).where(runs.c.id == run_id)).first()
    if run is None:
        raise NotFoundError(f"there is no run {run_id}")
    if run.state in UNFINISHED:
        raise ConflictError("the run is going on", where=run_id, mend="Cancel it first, or wait for its end.")
    columns = (tasks.c.id, tasks.c.name, tasks.c.scope, tasks.c.kind, tasks.c.component, tasks.c.state)
    rows = list(transaction.execute(select(*columns).where(tasks.c.run_id == run_id)).mappings())
    unknown = set(steps) - {row["name"] for row in rows}
    if unknown:
        raise NotFoundError(f"the run has no step {', '.join(sorted(unknown))}", where=run_id, mend="See its steps.")
    again = _Again(Plan(read_pipeline(run.pipeline["pipeline_spec"])), rows, frozenset(steps))
    again.look("")
    _write(transaction, again)
    state = RunState.RUNNING if rows else RunState.PENDING
    going_on = {"state": state.value, "finished_us": None, "error": None}
    transaction.execute(update(runs).where(runs.c.id == run_id).values(**going_on, revision=runs.c.revision + 1))


class _Again:
    """What is to be done with each row: `anew` from the beginning, `around` what is done anew inside, `gone` with what
    held it.
    """

    def __init__(self, plan: Plan, rows: list[RowMapping], named: frozenset[str]) -> None:
        self.anew: list[str] = []
        self.around: list[str] = []
        self.gone: list[str] = []
        self._plan = plan
        self._named = named
        self._inside: defaultdict[str, list[RowMapping]] = defaultdict(list)
        for row in rows:
            self._inside[row["scope"]].append(row)
        self._holders = {row["name"]: row for row in rows}

    def look(self, scope: str) -> bool:
        """Decide for all that stands in a scope or loop; return whether anything in it is done again."""
        rows = self._inside[scope]
        layout = self._layout(scope)
        moved = {row["name"]: self._moves(row) for row in rows}
        if layout is not None:
            self._spread(layout, scope, moved)
        for row in rows:
            if moved[row["name"]] == "anew":
                self.anew.append(row["id"])
                self._drop(row["name"])
            elif moved[row["name"]] == "around":
                self.around.append(row["id"])
        return any(moved.values())

    def _moves(self, row: RowMapping) -> str:
        """`anew`, `around`, or nothing, as far as the row itself says."""
        if row["name"] in self._named:
            return "anew"
        is_leaf = Kind(row["kind"]).is_leaf
        if row["state"] == RunState.SKIPPED.value or (is_leaf and row["state"] != RunState.SUCCEEDED.value):
            return "anew"
        if not is_leaf and self._inside.get(row["name"]):
            inside = self.look(row["name"])
            return "around" if inside or row["state"] != RunState.SUCCEEDED.value else ""
        return "" if row["state"] == RunState.SUCCEEDED.value else "anew"

    def _spread(self, layout: Layout, scope: str, moved: dict[str, str]) -> None:
        """What waits for something that is done again is done anew."""
        prefix = f"{scope}." if scope else ""
        for name in layout.tasks:  # in order, so that one look suffices
            path = prefix + name
            if any(moved.get(prefix + other) for other in layout.before[name]):
                moved[path] = "anew"

    def _drop(self, path: str) -> None:
        """What stood in something that is done anew is forgotten."""
        for row in self._inside.pop(path, ()):
            self.gone.append(row["id"])
            self._drop(row["name"])

    def _layout(self, scope: str) -> Layout | None:
        """The layout of a scope; a loop, whose rounds wait for nobody, has none."""
        if not scope:
            return self._plan.root
        holder = self._holders[scope]
        if holder["kind"] == Kind.LOOP.value:
            return None
        return self._plan.layout(self._plan.pipeline.components[holder["component"]])


def _write(transaction: Transaction, again: _Again) -> None:
    gone = frozenset(again.gone)
    # Attempts that failed are counted already; the last one of a task that ended in another way is not.
    used = case((tasks.c.state == RunState.FAILED.value, tasks.c.attempt), else_=tasks.c.attempt + 1)
    blank: dict[str, object] = {"finished_us": None, "error": None, "outputs": None}
    around = {**blank, "state": RunState.RUNNING.value}
    anew = {
        **blank,
        "state": RunState.PENDING.value,
        "attempt": used,
        "forgiven": used,
        "not_before_us": None,
        "started_us": None,
        "inputs": None,
        "cache_key": None,
        "cached_from": None,
    }
    for ids, values in ((again.anew, anew), (again.around, around)):
        rows = [{"of_id": identity} for identity in ids if identity not in gone]
        if rows:
            transaction.execute(update(tasks).where(tasks.c.id == bindparam("of_id")).values(**values), rows)
    for begin in range(0, len(again.gone), _PIECE):
        transaction.execute(delete(tasks).where(tasks.c.id.in_(again.gone[begin : begin + _PIECE])))
