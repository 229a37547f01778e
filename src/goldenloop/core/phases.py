"""What states things can be in, and which may follow which. Tests check that every table is complete and that every path ends."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """States of a pipeline run and of a task in it; the words are those of KFP's API."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


RUN_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.PENDING: frozenset(
        {RunState.RUNNING, RunState.SKIPPED, RunState.FAILED, RunState.CANCELED, RunState.SUCCEEDED}
    ),
    # A task goes back to pending when its attempt failed and another is allowed, or when its process was lost.
    RunState.RUNNING: frozenset({RunState.PENDING, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED}),
    RunState.SUCCEEDED: frozenset(),
    RunState.SKIPPED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELED: frozenset(),
}


class VersionState(StrEnum):
    """What has become of a model version."""

    REGISTERED = "Registered"  # known, not judged
    AWAITING_APPROVAL = "AwaitingApproval"  # the evaluation let it through; a person has to, as well
    BLESSED = "Blessed"  # the evaluation let it through; it may take part in a rollout
    REFUSED = "Refused"  # the evaluation did not
    GOLDEN = "Golden"  # it answers
    RETIRED = "Retired"  # it was golden, another followed
    QUARANTINED = "Quarantined"  # rolled back, by hand or by evidence; never served again by itself
    SUPERSEDED = "Superseded"  # its rollout ended without a decision in its favour


VERSION_TRANSITIONS: dict[VersionState, frozenset[VersionState]] = {
    VersionState.REGISTERED: frozenset({VersionState.BLESSED, VersionState.REFUSED, VersionState.AWAITING_APPROVAL}),
    VersionState.AWAITING_APPROVAL: frozenset({VersionState.BLESSED, VersionState.REFUSED, VersionState.SUPERSEDED}),
    VersionState.BLESSED: frozenset({VersionState.GOLDEN, VersionState.QUARANTINED, VersionState.SUPERSEDED}),
    VersionState.REFUSED: frozenset(),
    VersionState.GOLDEN: frozenset({VersionState.RETIRED, VersionState.QUARANTINED}),
    VersionState.RETIRED: frozenset({VersionState.GOLDEN}),  # a rollback by hand
    VersionState.QUARANTINED: frozenset(),
    VersionState.SUPERSEDED: frozenset({VersionState.GOLDEN}),  # promoted by hand, after all
}


class RolloutPhase(StrEnum):
    """Where a challenger stands on its way to the traffic."""

    SHADOW = "Shadow"
    CANARY = "Canary"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    INCONCLUSIVE = "Inconclusive"  # time is up and the evidence did not suffice: the champion stays


ROLLOUT_TRANSITIONS: dict[RolloutPhase, frozenset[RolloutPhase]] = {
    RolloutPhase.SHADOW: frozenset(
        {RolloutPhase.CANARY, RolloutPhase.PROMOTED, RolloutPhase.ROLLED_BACK, RolloutPhase.INCONCLUSIVE}
    ),
    RolloutPhase.CANARY: frozenset(
        {RolloutPhase.CANARY, RolloutPhase.PROMOTED, RolloutPhase.ROLLED_BACK, RolloutPhase.INCONCLUSIVE}
    ),
    RolloutPhase.PROMOTED: frozenset(),
    RolloutPhase.ROLLED_BACK: frozenset(),
    RolloutPhase.INCONCLUSIVE: frozenset(),
}


class Verdict(StrEnum):
    """What a measurement says. Only PASS and FAIL are evidence."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
