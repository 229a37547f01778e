"""Going back takes a second and fails no request, also while control is dead; a platform whose control is dead answers on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.support.platform import Platform, loop_file, running, typed, wait_for
from tests.support.streams import make_rows, write_history

from goldenloop.cli.rollback import roll_back
from goldenloop.client import Client
from goldenloop.core.errors import GoldenloopError
from goldenloop.core.json import JsonObject

pytestmark = pytest.mark.process
LOOP = "calm"
ROW: JsonObject = {"heat": 0.5, "load": 0.1, "place": "north"}
SPEC: JsonObject = {
    "data": {"source": "history.csv", "label": "label", "timestamp": "at"},
    "rollout": {"maxDuration": "30d"},
}


@dataclass(slots=True)
class Load:
    """Requests one after the other, in a thread: when each was answered and by which version, and what failed. None is sent again."""

    platform: Platform
    answers: list[tuple[float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        wait_for(lambda: len(self.answers) > 20, "answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        assert self._thread is not None
        self._thread.join()

    def more(self, count: int = 50) -> None:
        """Wait for so many more answers."""
        before = len(self.answers)
        wait_for(lambda: len(self.answers) >= before + count or bool(self.failures), f"{count} more answers")

    def _run(self) -> None:
        client: Client = self.platform.client
        while not self._stopping.is_set():
            try:
                answer = client.predict(LOOP, [ROW])
            except GoldenloopError as error:
                self.failures.append(str(error))
                return
            self.answers.append((time.monotonic(), answer.version))
            time.sleep(0.002)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a loop that takes arrival as time."""
    folder = tmp_path_factory.mktemp("calm")
    past, _ = make_rows(3, history=1_500, before=0, after=0)
    write_history(folder / "history.csv", past)
    with running(folder / "home") as platform:
        done = typed("apply", "-f", str(loop_file(folder, LOOP, SPEC)), "--wait", home=platform.home)
        assert done.returncode == 0, done.stderr
        yield platform


def states(platform: Platform) -> dict[int, str]:
    """The state of each version."""
    return {row["number"]: row["state"] for row in platform.rows("select number, state from versions")}


def promote_another(platform: Platform) -> int:
    """Train one more version and make it golden by hand; return its number when all workers answer by it."""
    done = typed("run", LOOP, home=platform.home, seconds=90)
    assert done.returncode == 0, done.stderr
    number = wait_for(
        lambda: next((each for each, state in states(platform).items() if state in ("Blessed", "Challenger")), None),
        "a challenger",
    )
    done = typed("promote", LOOP, str(number), home=platform.home)
    assert done.returncode == 0, done.stderr
    client = platform.client
    wait_for(lambda: all(client.predict(LOOP, [ROW]).version == str(number) for _ in range(10)), "the new version")
    return number


def test_rollback_under_load_and_without_control(calm: Platform) -> None:
    # Through control.
    second = promote_another(calm)
    with Load(calm) as load:
        begun = time.monotonic()
        done = roll_back(calm.home, LOOP, namespace="default", reason="too bold")
        load.more(400)
    assert load.failures == []
    assert done == {"golden": 1, "quarantined": second}
    assert max(at for at, version in load.answers if version == str(second)) - begun < 1.0
    assert states(calm)[second] == "Quarantined"

    # Control is dead, and stays so because the supervisor stands still: requests are answered, and a rollback works.
    third = promote_another(calm)
    (supervisor,) = calm.processes("supervisor")
    os.kill(supervisor, signal.SIGSTOP)
    try:
        assert calm.kill("control")
        wait_for(lambda: not calm.processes("control"), "the end of control")
        with Load(calm) as load:
            begun = time.monotonic()
            done = roll_back(calm.home, LOOP, namespace="default", reason="")
            load.more(400)
        assert load.failures == []
        assert done == {"golden": 1, "quarantined": third}
        assert max(at for at, version in load.answers if version == str(third)) - begun < 1.0
        assert states(calm)[third] == "Golden", "nobody has told the database yet"
    finally:
        os.kill(supervisor, signal.SIGCONT)

    # Control is back and takes it over, once.
    wait_for(lambda: states(calm)[third] == "Quarantined", "the adoption")
    with Load(calm) as load:
        load.more(200)
    assert {version for _, version in load.answers} == {"1"}
    assert load.failures == []
    assert states(calm) == {1: "Golden", second: "Quarantined", third: "Quarantined"}
    assert [kind for kind, _ in calm.timeline("RolledBack")] == ["RolledBack"] * 2
    assert list((calm.home / "pending-rollbacks").iterdir()) == []


def test_a_rollback_past_a_control_that_is_only_slow_is_adopted_without_a_restart(calm: Platform) -> None:
    number = promote_another(calm)
    (control,) = calm.processes("control")
    os.kill(control, signal.SIGSTOP)
    try:
        done = roll_back(calm.home, LOOP, namespace="default", reason="it hangs")
        assert done == {"golden": 1, "quarantined": number}
    finally:
        os.kill(control, signal.SIGCONT)
    wait_for(lambda: states(calm)[number] == "Quarantined", "the adoption")
    assert calm.processes("control") == [control]
    client = calm.client
    time.sleep(0.5)
    assert {client.predict(LOOP, [ROW]).version for _ in range(20)} == {"1"}
