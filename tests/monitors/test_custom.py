"""A monitor of a user's own, in a process of its own: what it says is kept, what it breaks is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.phases import Verdict
from goldenloop.monitors import custom
from goldenloop.monitors.catalogue.base import Asked, Monitor
from goldenloop.monitors.custom import CustomProcess, fit_custom, load_monitor
from goldenloop.standards.loop import NamedMonitor
from goldenloop.testing.monitors import MonitorSuite, past_of, window_like

CODE = """
import time
import msgspec
import numpy as np
from goldenloop.monitors.catalogue.base import Monitor
from goldenloop.monitors.findings import Outcome

class Limit(msgspec.Struct):
    rich: float

class Rich(Monitor):
    knows = Limit

    def fit(self, past):
        return Limit(rich=float(np.quantile(past.training.columns["income"], 0.9)))

    def measure(self, window, known, asked):
        if len(window) == 0:
            return Outcome(findings=(self.finding("share", None),))
        print("this must not stand among the answers")
        share = float(np.mean(window.columns["income"] > known.rich))
        return Outcome(findings=(self.finding("share", share, asked=asked, leading="high"),))

class Late(Monitor):
    needs_labels = True

    def measure(self, window, known, asked):
        return Outcome(findings=(self.finding("labels", int(window.labelled.sum())),))

class Wrong(Monitor):
    def measure(self, window, known, asked):
        return window.columns["no such column"]

class Slow(Monitor):
    def measure(self, window, known, asked):
        time.sleep(60)

class Dead(Monitor):
    def measure(self, window, known, asked):
        import os
        os._exit(3)
"""


def asked(name: str, **settings: object) -> Asked:
    return Asked(settings=NamedMonitor(type="custom", source=f"mine.py:{name}", code=CODE, **settings))  # type: ignore[arg-type]


class TestRich(MonitorSuite):
    def monitor(self) -> Monitor:  # type: ignore[type-arg]
        return load_monitor(asked("Rich").settings)


@pytest.fixture(scope="module")
def process() -> Iterator[CustomProcess]:
    process = CustomProcess()
    yield process
    process.close()


def test_what_it_finds_comes_back_under_its_name(process: CustomProcess) -> None:
    past = past_of()
    window = window_like(past, "usual")
    known = fit_custom(asked("Rich").settings, past)
    found = process.measure(asked("Rich", threshold=0.5), window, known, labelled=False)
    assert found is not None
    assert (found.findings[0].monitor, found.findings[0].metric) == ("custom", "Rich.share")
    assert found.findings[0].value == pytest.approx(0.1, abs=0.08)
    assert (found.findings[0].verdict, found.findings[0].threshold) == (Verdict.PASS, 0.5)
    assert process.measure(asked("Rich"), window, known, labelled=True) is None
    late = process.measure(asked("Late"), window, None, labelled=True)
    assert late is not None
    assert late.findings[0].value == len(window)


def test_what_goes_wrong_is_told_and_the_next_window_is_measured(
    process: CustomProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = past_of()
    window = window_like(past, "usual")
    for name, told in (("Wrong", "KeyError"), ("Dead", "its process ended"), ("Gone", "there is no monitor 'Gone'")):
        found = process.measure(asked(name), window, None, labelled=False)
        assert found is not None
        assert found.findings[0].verdict is Verdict.ERROR
        assert told in found.findings[0].note
    process.measure(asked("Late"), window, None, labelled=True)  # its process is there again
    monkeypatch.setattr(custom, "LONGEST_SECONDS", 0.3)
    slow = process.measure(asked("Slow"), window, None, labelled=False)
    assert slow is not None
    assert "took longer" in slow.findings[0].note
    monkeypatch.undo()
    assert process.measure(asked("Late"), window, None, labelled=True) is not None


def test_a_file_that_cannot_be_run_says_why() -> None:
    broken = NamedMonitor(type="custom", source="mine.py:Rich", code="this is no Python")
    with pytest.raises(InvalidSpecError, match="SyntaxError"):
        load_monitor(broken)
