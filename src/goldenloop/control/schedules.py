"""Recurring runs: each slot of a schedule becomes one run.

A slot is taken in the transaction that makes its run, so a control process that is killed in between has done both or none, and the
cause's key keeps a slot from ever having a second run. While as many of its runs go on as a recurring run allows, its slots wait;
what becomes of those that were missed is the schedule's `catch_up`.
"""

from __future__ import annotations

import logging

from goldenloop.control.world import World
from goldenloop.core.clock import to_text
from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.pipelines.recurring import RecurringRun, due, take_slot
from goldenloop.pipelines.submission import Submission, submit
from goldenloop.store.database import Transaction
from goldenloop.triggers.macros import CauseFacts, fill_parameters

LONGEST_STEM = 200  # of a run's name, before the moment
DUE_AT_A_LOOK = 100  # slots, so that one long absence does not hold up everything else

_log = logging.getLogger(__name__)


class Schedules:
    """Reconciles all recurring runs. One thread calls `advance`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def advance(self) -> bool:
        """Take the slots that are due, oldest first; whether there was one. Raises UnavailableError."""
        taken = 0
        while taken < DUE_AT_A_LOOK:
            now_us = self._world.clock.now_us()
            with self._world.database.read() as transaction:
                if not due(transaction, now_us=now_us, limit=1):
                    break
            with self._world.database.write() as transaction:
                # What is due is read again under the lock: a person may have switched it off.
                waiting = due(transaction, now_us=now_us, limit=DUE_AT_A_LOOK - taken)
                for recurring in waiting:
                    self._take(transaction, recurring, now_us)
            taken += len(waiting)
        return taken > 0

    def _take(self, transaction: Transaction, recurring: RecurringRun, now_us: int) -> None:
        slot_us = recurring.slot(now_us=now_us)
        assert slot_us is not None, "a schedule that has ended has no next slot"
        number = recurring.started + 1
        facts = CauseFacts(scheduled_us=slot_us, now_us=now_us, index=number)
        parameters = fill_parameters(recurring.parameters, facts)
        submission = Submission(
            namespace=recurring.namespace,
            name=f"{recurring.name[:LONGEST_STEM]} {to_text(slot_us)}",
            source=recurring.source,
            parameters=parameters,
            experiment_id=recurring.experiment_id,
            settings={**(recurring.settings or {}), "parameters": parameters},
            cause={"kind": "recurring", "text": f"recurring run {recurring.name!r}, due at {to_text(slot_us)}"},
            cause_key=f"recurring/{recurring.id}/{slot_us}",
            started_by=recurring.id,
            scheduled_us=slot_us,
        )
        error: str | None = None
        try:
            with transaction.begin_nested():  # what was begun for a run that cannot be goes with it
                started = submit(transaction, submission, now_us=now_us) is not None
        except UnavailableError:
            raise
        except GoldenloopError as failure:
            # The slot has come to nothing; the next one is tried again, when somebody may have mended it.
            started, error = False, str(failure)
            _log.warning("recurring run %s: the slot of %s came to nothing: %s", recurring.id, to_text(slot_us), error)
        take_slot(transaction, recurring, slot_us, started=started, error=error)
