"""`kill -9` of every part of a running platform, at many seeded moments: the loop closes, and every promise holds.

The sender does what a client does: a prediction that got no answer is sent again. So a request may be logged twice under two ids when its
answer was lost on the way; what was acknowledged is there exactly once.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from tests.crash.conftest import LOOP, Course, course_of, settle
from tests.support.platform import JOB, STEP, Platform, running, typed, wait_for
from tests.support.streams import Row, Sender

from goldenloop.payloads.records import Prediction

pytestmark = pytest.mark.process
FIRST_RUN, WINDOWS, TRIGGERED_RUN, ROLLOUT = "first run", "windows", "triggered run", "rollout"


@dataclass(frozen=True, slots=True)
class Kill:
    """What is killed, and when: in a phase, after a pause in seconds; or, among the windows, after so many answers."""

    phase: str
    part: str
    pause: float = 0.0
    answers: int = 0


def make_plan(seed: int) -> list[Kill]:
    """About a dozen kills over the whole loop, control's among them.

    Of the steps only control's own jobs are killed one by one: a person's step that is killed has failed, and so has its run. With the
    zygote both lose their process, and are done again.
    """
    dice = random.Random(seed)
    plan = [Kill(FIRST_RUN, part, dice.random()) for part in _shuffled(dice, [JOB, "control", "zygote"])]
    plan += [
        Kill(WINDOWS, dice.choice(["worker", "worker", "monitor", "control"]), answers=answers)
        for answers in sorted(dice.sample(range(30, 900), 4))
    ]
    plan += [
        Kill(TRIGGERED_RUN, part, dice.random()) for part in _shuffled(dice, ["control", JOB, "monitor", "worker"])
    ]
    plan += [Kill(ROLLOUT, part, dice.random() * 0.2) for part in _shuffled(dice, ["worker", "control", "monitor"])]
    return plan


def _shuffled(dice: random.Random, parts: list[str]) -> list[str]:
    return dice.sample(parts, len(parts))


@dataclass(slots=True)
class Killer:
    """Follows a plan beside the sender, and watches that there is never more than one golden version."""

    platform: Platform
    sender: Sender
    plan: list[Kill]
    done: list[Kill] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Kill what the plan says. A phase that has passed is left out."""
        for kill in self.plan:
            while not self._stopping.is_set() and self._is_early(kill):
                self._look()
                time.sleep(0.02)
            time.sleep(kill.pause)
            end = time.monotonic() + 3.0
            while self._is_due(kill) and time.monotonic() < end and not self._stopping.is_set():
                if self.platform.kill(kill.part, which=len(self.done)):
                    self.done.append(kill)
                    break
                time.sleep(0.005)
            self._look()
        while not self._stopping.is_set():
            self._look()
            time.sleep(0.05)

    def stop(self) -> None:
        self._stopping.set()

    def _look(self) -> None:
        golden = self.platform.rows("select number from versions where state = 'Golden'")
        if len(golden) > 1:
            self.troubles.append(f"{len(golden)} golden versions")

    def _phase(self) -> str:
        if not self.platform.rows("select number from versions where state = 'Golden'"):
            begun = self.platform.rows("select id from decisions")
            return FIRST_RUN if begun else ""
        if self.platform.rows("select name from memories where name = 'rollout'"):
            return ROLLOUT
        waiting = self.platform.rows("select id from decisions where fired and not settled")
        going = self.platform.rows("select id from runs where not settled")
        return TRIGGERED_RUN if waiting or going else WINDOWS

    def _is_due(self, kill: Kill) -> bool:
        if kill.phase == WINDOWS:
            return len(self.sender.answered) >= kill.answers
        return self._phase() == kill.phase

    def _is_early(self, kill: Kill) -> bool:
        if kill.phase == WINDOWS:
            return not self._is_due(kill)
        order = ["", FIRST_RUN, WINDOWS, TRIGGERED_RUN, ROLLOUT]
        promoted = len(self.platform.rows("select number from versions")) > 1
        present = self._phase()
        if present == WINDOWS and promoted:
            return False  # it is over
        return order.index(present) < order.index(kill.phase)


def check_promises(platform: Platform, sender: Sender) -> None:
    """Nothing acknowledged is lost, and nothing was done twice."""
    predictions, labels, _ = platform.payloads()
    logged = Counter(prediction.id for prediction in predictions)
    assert {identity: logged[identity] for identity in sender.answered} == dict.fromkeys(sender.answered, 1)
    assert len(set(sender.answered)) == len(sender.answered)
    assert set(sender.labelled) <= {label.prediction for label in labels}
    check_runs(platform)
    check_windows(platform, predictions)


def check_runs(platform: Platform) -> None:
    """One cause, one run; one run, one version; one version, one verdict and one story."""
    runs = platform.rows("select id, cause_key from runs")
    fired = platform.rows("select cause_key, run_id from decisions where fired")
    assert len({row["cause_key"] for row in runs}) == len(runs)
    assert sorted(row["run_id"] for row in fired) == sorted(row["id"] for row in runs), "each decision has its run"
    made = platform.rows("select run_id, state from versions")
    assert len({row["run_id"] for row in made}) == len(made)
    assert [row["state"] for row in made].count("Golden") == 1
    judged = [
        row["challenger"] for row in platform.rows("select challenger from evaluations where decided_by = 'gate'")
    ]
    assert sorted(judged) == list(range(1, len(made) + 1))
    told = Counter(platform.timeline())
    for kind in ("Run", "Trigger", "Blessed", "Refused", "Rollout", "Promoted", "Golden"):
        assert all(count == 1 for (what, _), count in told.items() if what == kind), f"{kind} is told twice: {told}"
    written = platform.rows("select task_id, port from artifact_tasks where direction = 'OUTPUT'")
    assert len({(row["task_id"], row["port"]) for row in written}) == len(written)


def check_windows(platform: Platform, predictions: list[Prediction]) -> None:
    """Each window is measured once, for one version, with no gap, and counts no more rows than there were."""
    rows = platform.rows(
        'select "window", version, start_us, end_us, "rows" from measurements '
        "where monitor = 'drift' and metric = 'statistic' order by \"window\""
    )
    assert [row["window"] for row in rows] == list(range(len(rows)))
    assert len(rows) > 1
    for before, after in pairwise(rows):
        assert before["end_us"] == after["start_us"]
    for row in rows:
        there = sum(1 for prediction in predictions if row["start_us"] <= prediction.event_us < row["end_us"])
        assert row["rows"] <= there


def disturbed(home: Path, stream: tuple[Path, list[Row]], plan: list[Kill]) -> tuple[Course, list[Kill]]:
    """Run the whole loop while parts of it are killed; check everything; return what became of it."""
    folder, rows = stream
    with running(home) as platform:
        sender = Sender(platform.inference, LOOP)
        killer = Killer(platform, sender, plan)
        thread = threading.Thread(target=killer.run, daemon=True)
        thread.start()
        try:
            platform.client.apply(_document(folder))
            wait_for(
                lambda: platform.rows("select number from versions where state = 'Golden'"),
                "a first version",
                seconds=90,
            )
            sender.send(rows)
            settle(platform)
        finally:
            killer.stop()
            thread.join()
        assert killer.troubles == []
        check_promises(platform, sender)
        versions = wait_for(lambda: platform.client.of_loop("versions", LOOP), "control")["items"]
        assert isinstance(versions, list)
        assert [each["state"] for each in versions if isinstance(each, dict)].count("Golden") == 1
        return course_of(platform), killer.done


def _document(folder: Path) -> dict[str, object]:
    from goldenloop.cli.applying import read_resources

    (document,) = read_resources(folder / f"{LOOP}.yaml")
    return document


def test_a_loop_whose_parts_are_killed_goes_the_same_way(
    tmp_path: Path, stream: tuple[Path, list[Row]], undisturbed: Course
) -> None:
    course, done = disturbed(tmp_path / "home", stream, make_plan(1))
    assert len(done) >= 9, done
    assert {kill.phase for kill in done} >= {FIRST_RUN, WINDOWS, TRIGGERED_RUN}, done
    assert course == undisturbed, done


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 125))
def test_a_loop_whose_parts_are_killed_goes_the_same_way_from_many_seeds(
    tmp_path: Path, stream: tuple[Path, list[Row]], undisturbed: Course, seed: int
) -> None:
    course, done = disturbed(tmp_path / "home", stream, make_plan(seed))
    assert course == undisturbed, done


def kill_all(platform: Platform) -> None:
    """What a power cut leaves: nothing."""
    found = [
        each
        for part in ("supervisor", "control", "worker", "monitor", "zygote", STEP)
        for each in platform.processes(part)
    ]
    for identity in found:
        try:
            os.kill(identity, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_a_platform_that_is_killed_whole_goes_on_where_it_was(tmp_path: Path, stream: tuple[Path, list[Row]]) -> None:
    folder, rows = stream
    dice = random.Random(7)
    moments = [1, 150 + dice.randrange(100), 400 + dice.randrange(100)]
    with running(tmp_path / "home") as platform:
        typed("apply", "-f", str(folder / f"{LOOP}.yaml"), home=platform.home)
        time.sleep(dice.random())
        sender = Sender(platform.inference, LOOP)
        thread = threading.Thread(target=_send_when_served, args=(platform, sender, rows[:600]), daemon=True)
        thread.start()
        for number, moment in enumerate(moments):
            if number:
                wait_for(lambda moment=moment: len(sender.answered) >= moment, f"{moment} answers")
            if number == 1:
                # The supervisor alone: its children do not outlive it, or two control processes would write.
                (supervisor,) = platform.processes("supervisor")
                os.kill(supervisor, signal.SIGKILL)
                wait_for(lambda: not platform.processes("control") and not platform.processes("worker"), "their end")
            else:
                kill_all(platform)
            platform.start()
            assert len(platform.processes("control")) == 1
        thread.join(timeout=90)
        assert not thread.is_alive()
        settle(platform)
        check_promises(platform, sender)
        assert [row["state"] for row in platform.rows("select state from versions")] == ["Golden"]


def _send_when_served(platform: Platform, sender: Sender, rows: list[Row]) -> None:
    wait_for(lambda: platform.rows("select number from versions where state = 'Golden'"), "a first version", seconds=90)
    sender.send(rows)
