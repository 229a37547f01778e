"""Triggers of pipelines: from causes to decisions, and from decisions to runs.

Each decision and the run that comes of it are one transaction, under a key that is unique among runs: a cause starts one run at most,
however often it is seen and wherever control is killed. What is true now is all that counts; nothing is remembered between looks but
what the store has.
"""

from __future__ import annotations

import logging

import msgspec
from sqlalchemy import Row, func, select, update

from goldenloop.control.causes import TRIGGER, Cause, TriggerView, note, pipeline_triggers, waiting_causes
from goldenloop.control.sources import SOURCE, look, next_moment
from goldenloop.control.world import World
from goldenloop.core.clock import DAY, SECOND, to_text
from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, UnavailableError
from goldenloop.core.ids import is_uuid
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.catalog import find_pipeline, get_version, version_named
from goldenloop.pipelines.experiments import named_experiment
from goldenloop.pipelines.runs import UNFINISHED, cancel_run
from goldenloop.pipelines.submission import Source, Submission, submit
from goldenloop.standards.kubernetes import condition, conditions_of, set_condition
from goldenloop.store import memories, resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import decisions, runs
from goldenloop.store.tables import memories as memory_table
from goldenloop.triggers.admission import Decision, Policy, Situation, Start, Wait, decide
from goldenloop.triggers.macros import CauseFacts, fill_parameters

LOOK_EVERY_US = SECOND  # at sources, which costs more than at causes that are there
DECIDED_AT_A_LOOK = 20  # of one trigger
LONGEST_STEM = 200  # of a run's name, before the moment

_log = logging.getLogger(__name__)


class Triggers:
    """Reconciles all Triggers of pipelines. One thread calls `advance`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._looked: dict[str, tuple[int, int]] = {}  # by uid: generation, and when its sources were looked at
        self._problems: dict[str, str] = {}  # by uid: what keeps its sources from being looked at

    def advance(self) -> bool:
        """Look once at every Trigger; whether something moved. Raises UnavailableError where the store does not answer."""
        with self._world.database.read() as transaction:
            views = pipeline_triggers(transaction)
        moved = self._forget_gone({view.uid for view in views})
        for view in views:
            try:
                moved = self._look(view) or moved
                moved = self._decide(view) or moved
            except UnavailableError:
                raise
            except GoldenloopError as error:
                _log.error("trigger %s/%s: %s", view.namespace, view.name, error)
                self._problems[view.uid] = str(error)
            self._show(view)
        return moved

    # from sources to causes

    def _look(self, view: TriggerView) -> bool:
        now_us = self._world.clock.now_us()
        generation, looked_us = self._looked.get(view.uid, (0, 0))
        if generation == view.generation and 0 <= now_us - looked_us < LOOK_EVERY_US:
            return False
        self._looked[view.uid] = (view.generation, now_us)
        self._problems.pop(view.uid, None)
        with self._world.database.read() as transaction:
            found = [look(transaction, view, on, now_us=now_us) for on in view.spec.on]
        new = [each for each in found if each is not None]
        if not new:
            return False
        with self._world.database.write() as transaction:
            for each in new:
                for cause in each.causes:
                    note(transaction, view, cause, now_us=now_us)
                memories.remember(transaction, view.namespace, view.uid, each.name, each.memory)
        return any(each.causes for each in new)

    # from causes to runs

    def _decide(self, view: TriggerView) -> bool:
        with self._world.database.read() as transaction:
            waiting = waiting_causes(transaction, view, limit=1)
            if not waiting or self._is_decided(transaction, view, waiting[0]):
                return False
        with self._world.database.write() as transaction:
            for row in waiting_causes(transaction, view, limit=DECIDED_AT_A_LOOK):
                decision = self._decision(transaction, view, _cause(row))
                if not self._settle(transaction, view, row, decision):
                    break  # those behind it wait for it
        return True

    def _is_decided(self, transaction: Transaction, view: TriggerView, row: Row[tuple[object, ...]]) -> bool:
        """Whether the decision on a cause is still the one on record: that it waits."""
        decision = self._decision(transaction, view, _cause(row))
        return isinstance(decision, Wait) and decision.reason == row.reason

    def _decision(self, transaction: Transaction, view: TriggerView, cause: Cause) -> Decision:
        now_us = self._world.clock.now_us()
        policy = Policy(
            concurrency=view.spec.concurrency,
            cooldown_us=parse_duration(view.spec.cooldown),
            max_runs_per_day=view.spec.max_runs_per_day,
            dry_run=view.spec.dry_run,
            suspended=view.spec.suspend,
        )
        mine = runs.c.started_by == view.uid
        going_on = select(runs.c.id).where(mine, runs.c.state.in_(UNFINISHED)).order_by(runs.c.created_us, runs.c.id)
        since_us = now_us - max(DAY, policy.cooldown_us)
        recent = select(runs.c.created_us).where(mine, runs.c.created_us > since_us)
        situation = Situation(
            now_us=now_us,
            going_on=tuple(transaction.execute(going_on).scalars()),
            started_us=tuple(transaction.execute(recent).scalars()),
        )
        return decide(policy, situation, cause.text)

    def _settle(
        self, transaction: Transaction, view: TriggerView, row: Row[tuple[object, ...]], decision: Decision
    ) -> bool:
        """Act on a decision and write it down; whether the cause is done with."""
        changes: dict[str, object] = {"reason": decision.reason, "settled": not isinstance(decision, Wait)}
        if isinstance(decision, Start):
            try:
                with transaction.begin_nested():  # what was begun for a run that cannot be goes with it
                    run_id = self._start(transaction, view, _cause(row), str(row.cause_key))
            except UnavailableError:
                raise
            except GoldenloopError as error:
                changes["reason"] = f"it came to nothing: {error}"
            else:
                now_us = self._world.clock.now_us()
                for replaced in decision.replaces:
                    cancel_run(transaction, replaced, now_us=now_us)
                changes |= {"fired": run_id is not None, "run_id": run_id}
                if run_id is None:
                    changes["reason"] = "its run was started before"
        transaction.execute(update(decisions).where(decisions.c.id == row.id).values(**changes))
        return bool(changes["settled"])

    def _start(self, transaction: Transaction, view: TriggerView, cause: Cause, key: str) -> str | None:
        """Make the run. Raises InvalidSpecError, NotFoundError, ConflictError; nothing of it is kept then."""
        now_us = self._world.clock.now_us()
        fired = select(func.count()).where(decisions.c.trigger_uid == view.uid, decisions.c.fired)
        facts = CauseFacts(
            scheduled_us=cause.event_us,
            now_us=now_us,
            index=(transaction.scalar(fired) or 0) + 1,
            facts=cause.facts,
        )
        parameters = fill_parameters(view.spec.parameters, facts)
        submission = Submission(
            namespace=view.namespace,
            name=f"{view.name[:LONGEST_STEM]} {to_text(cause.event_us)}",
            source=_source(transaction, view),
            parameters=parameters,
            experiment_id=named_experiment(transaction, view.namespace, view.spec.experiment, now_us=now_us).id,
            settings={"parameters": parameters},
            cause={"kind": "trigger", "trigger": view.name, "text": cause.text},
            cause_key=key,
            started_by=view.uid,
            scheduled_us=cause.event_us,
        )
        return submit(transaction, submission, now_us=now_us)

    # what people see, and what goes with a trigger

    def _show(self, view: TriggerView) -> None:
        with self._world.database.read() as transaction:
            status = self._status(transaction, view)
        if status == view.status:
            return
        with self._world.database.write() as transaction:
            if resources.find(transaction, TRIGGER, view.namespace, view.name) is not None:
                resources.set_status(transaction, TRIGGER, view.namespace, view.name, status)

    def _status(self, transaction: Transaction, view: TriggerView) -> JsonObject:
        mine = decisions.c.trigger_uid == view.uid
        last = transaction.execute(select(decisions).where(mine).order_by(decisions.c.id.desc()).limit(1)).first()
        waiting = transaction.scalar(select(func.count()).where(mine, decisions.c.settled.is_(False)))
        fired = transaction.scalar(select(func.count()).where(mine, decisions.c.fired))
        slot_us = next_moment(transaction, view)
        problem = self._problems.get(view.uid, "")
        at = to_text(self._world.clock.now_us())
        if problem:
            ready = condition("Ready", False, "NotLooking", problem, at=at)
        elif view.spec.suspend:
            ready = condition("Ready", False, "Suspended", "causes are noted, and nothing is started", at=at)
        else:
            ready = condition("Ready", True, "Looking", "causes are looked for", at=at)
        return {
            "observedGeneration": view.generation,
            "runs": fired or 0,
            "waiting": waiting or 0,
            "next": None if slot_us is None else to_text(slot_us),
            "last": None if last is None else _last(last),
            "conditions": list(set_condition(conditions_of(view.status), ready)),
        }

    def _forget_gone(self, present: set[str]) -> bool:
        """Settle the causes of triggers that were deleted, and drop what their sources remembered."""
        unsettled = (decisions.c.trigger_uid.is_not(None), decisions.c.settled.is_(False))
        remembered = select(memory_table.c.namespace, memory_table.c.loop).where(
            memory_table.c.name.startswith(SOURCE, autoescape=True)
        )
        with self._world.database.read() as transaction:
            orphans = set(transaction.execute(select(decisions.c.trigger_uid).where(*unsettled).distinct()).scalars())
            held = {(row.namespace, row.loop) for row in transaction.execute(remembered.distinct())}
        orphans -= present
        held = {(namespace, uid) for namespace, uid in held if uid not in present}
        if not orphans and not held:
            return False
        with self._world.database.write() as transaction:
            # Read again under the lock: one may have been made since.
            there = {view.uid for view in pipeline_triggers(transaction)}
            gone = {"settled": True, "reason": "the trigger was deleted"}
            transaction.execute(
                update(decisions).where(*unsettled, decisions.c.trigger_uid.in_(orphans - there)).values(**gone)
            )
            for namespace, uid in held:
                if uid not in there:
                    memories.forget(transaction, namespace, uid)
        return True


def _source(transaction: Transaction, view: TriggerView) -> Source:
    """The pipeline that a trigger names, looked up when it is needed. Raises NotFoundError."""
    named = view.spec.pipeline_version
    if named is None:
        return Source(pipeline_id=find_pipeline(transaction, view.namespace, view.spec.pipeline or "").id)
    if is_uuid(named):
        return Source(version_id=get_version(transaction, named).id)
    pipeline, _, version = named.rpartition("/")
    if not pipeline:
        raise InvalidSpecError(
            f"{named!r} names no version", where="spec.pipelineVersion", mend="Write PIPELINE/VERSION, or an id."
        )
    pipeline_id = find_pipeline(transaction, view.namespace, pipeline).id
    return Source(pipeline_id=pipeline_id, version_id=version_named(transaction, pipeline_id, version).id)


def _cause(row: Row[tuple[object, ...]]) -> Cause:
    return msgspec.convert(row.evidence, Cause)


def _last(row: Row[tuple[object, ...]]) -> JsonObject:
    cause = _cause(row)
    decided = "started" if row.fired else "waiting" if not row.settled else "nothing"
    return {
        "cause": cause.text,
        "at": to_text(cause.event_us),
        "decision": decided,
        "reason": row.reason,
        "run": row.run_id,
    }
