"""Every check of a version, in the order in which a card shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from goldenloop.evaluation.behaviour import run_test
from goldenloop.evaluation.checks import Check, Columns, Finding, Subject, carried_out
from goldenloop.evaluation.leakage import contradictions, smell_leakage
from goldenloop.evaluation.quality import check_calibration, check_fairness
from goldenloop.evaluation.searching import search_slices
from goldenloop.evaluation.stability import check_robustness
from goldenloop.standards.evaluation import EvaluationSpec
from goldenloop.stats.losses import Values

BEHAVIOUR = "behaviour: "  # before the name of a person's test


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What is known of the training rows: their inputs and labels, the time of the last one, and the times of the evaluation rows."""

    columns: Columns
    labels: Values
    until_us: int | None
    evaluation_times: NDArray[np.int64] | None


def examine(
    subject: Subject, training: Training, asked: EvaluationSpec, *, margin: float, cost: Callable[[], Finding]
) -> tuple[Check, ...]:
    """Carry out what is asked for. `cost` measures what serving costs. A check that raises is an error, and the others still run."""
    leakage = partial(
        smell_leakage,
        subject,
        asked.leakage,
        training=training.columns,
        training_labels=training.labels,
        evaluation_times=training.evaluation_times,
        training_until_us=training.until_us,
    )
    checks = [
        carried_out("slices", asked.slices.mode, partial(search_slices, subject, asked.slices, margin=margin)),
        carried_out("calibration", asked.calibration.mode, partial(check_calibration, subject, asked.calibration)),
        carried_out("fairness", asked.fairness.mode, partial(check_fairness, subject, asked.fairness)),
        carried_out("robustness", asked.robustness.mode, partial(check_robustness, subject, asked.robustness)),
        carried_out("serving", asked.serving.mode, cost),
        carried_out("leakage", asked.leakage.mode, leakage),
        carried_out("labels", asked.labels.mode, partial(contradictions, subject, asked.labels)),
        *(
            carried_out(f"{BEHAVIOUR}{test.name}", test.mode, partial(run_test, subject, test))
            for test in asked.behaviour
        ),
    ]
    return tuple(check for check in checks if check is not None)
