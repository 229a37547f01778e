"""Rollouts in simulated loops: dealt-out traffic, swapped colours, a person who is asked, margins, guards of a person's own, and what
may happen to a loop in the middle of one.
"""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from ring_worlds import LOOP_NAME, NAMESPACE, Rule, Scenario, Simulation, kinds, story

from goldenloop.control import byhand
from goldenloop.control.analysing import Analyses, measure, measured
from goldenloop.control.heeding import AnalysisKeeper
from goldenloop.control.memory import LoopMemory, RolloutMemory
from goldenloop.control.progress import MEMORY, ROLLOUT
from goldenloop.control.rollout_status import ROLLOUT_KIND
from goldenloop.control.view import LOOP
from goldenloop.core.clock import MINUTE, SECOND
from goldenloop.core.errors import InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.core.json import Json, JsonObject
from goldenloop.registry import versions
from goldenloop.rollouts.evidence import AnalysisState, MetricState
from goldenloop.standards import kubernetes
from goldenloop.standards.analysis_template import Metric, Prometheus, Web
from goldenloop.stats.spending import ErrorBudget
from goldenloop.store import memories, resources


def better(number: int, _regime: int) -> Rule:
    return Rule(errors=(0.45 if number == 0 else 0.05,), salt=0.37 * number)


def equal(number: int, _regime: int) -> Rule:
    return Rule(errors=(0.2,), salt=0.37 * number)


class Bench:
    """A loop with a rollout that a person asked for, fed window by window."""

    def __init__(
        self,
        folder: Path,
        spec: JsonObject,
        *,
        train: Callable[[int, int], Rule] = better,
        rows: int = 48,
        **more: object,
    ) -> None:
        self.scenario = Scenario(train=train, windows=30, rows_per_window=rows, spec=spec, strict_gate=False, **more)  # type: ignore[arg-type]
        self.simulation = Simulation(folder / "world", self.scenario)
        self._rows = self.scenario.rows(3)
        self._sent = 0
        self.simulation.replay.begin()
        self.send(2)
        byhand.run_now(self.simulation.world, NAMESPACE, LOOP_NAME, reason="")

    def send(self, windows: int) -> None:
        following = self._sent + windows * self.scenario.rows_per_window
        self.simulation.replay.send(self._rows[self._sent : following])
        self._sent = following

    def until_it_ends(self, most: int = 25) -> int:
        for windows in range(1, most + 1):
            self.send(1)
            if windows > 1 and self.rollout() is None:
                return windows
        raise AssertionError("the rollout does not end")

    def rollout(self) -> RolloutMemory | None:
        with self.simulation.world.database.read() as transaction:
            return memories.recall(transaction, NAMESPACE, LOOP_NAME, ROLLOUT, RolloutMemory)

    def memory(self) -> LoopMemory:
        with self.simulation.world.database.read() as transaction:
            found = memories.recall(transaction, NAMESPACE, LOOP_NAME, MEMORY, LoopMemory)
        assert found is not None
        return found

    def status(self, name: str = f"{LOOP_NAME}-2") -> JsonObject:
        with self.simulation.world.database.read() as transaction:
            status = resources.get(transaction, ROLLOUT_KIND, NAMESPACE, name)["status"]
        assert isinstance(status, dict)
        return status

    def golden(self) -> str:
        with self.simulation.world.database.read() as transaction:
            found = versions.golden(transaction, NAMESPACE, LOOP_NAME)
        assert found is not None
        return found.name

    def kinds(self) -> list[str]:
        return kinds(self.simulation.replay.result())


def test_where_predictions_change_what_happens_requests_are_dealt_out(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path, {"labels": {"delay": "1h", "feedback": True}, "rollout": {"canary": [25, 50, 100]}}, rows=80
    )
    bench.send(1)
    (service,) = bench.simulation.router.table.services
    (route,) = service.routes
    assert (route.version, route.percent, service.baseline) == ("2", 25.0, 25.0)
    status = bench.status()
    assert (status["comparison"], status["phase"], status["baselineShare"]) == ("split", "Canary", 25.0)
    bench.until_it_ends()
    assert bench.golden() == "2"
    status = bench.status()
    assert status["phase"] == "Promoted"
    assert 0.2 < float(str(status["difference"])) < 0.6  # .45 less .05
    assert 0 < int(str(status["labelled"])) < 14 * 80  # the share decides how many requests say something


def test_swapped_colours_wait_for_all_the_evidence_and_flip_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"rollout": {"strategy": "blueGreen"}}, rows=32)
    bench.until_it_ends()
    told = bench.kinds()
    assert "Canary" not in told
    assert "Promoted" in told
    assert bench.memory().budget == ErrorBudget.of(0.05)  # a find gives all of its share back


def test_a_person_is_asked_when_time_is_up_and_decides(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"rollout": {"maxDuration": "2h", "onInconclusive": "ask"}}, train=equal, rows=16)
    bench.send(6)
    status = bench.status()
    assert status["waitsFor"] == "person"
    assert status["latestEnd"] is None
    assert bench.kinds().count("Asking") == 1  # said once, however often it is looked at
    assert bench.rollout() is not None
    byhand.promote(bench.simulation.world, NAMESPACE, LOOP_NAME, version=None, reason="I looked at it")
    assert bench.golden() == "2"
    assert bench.status()["waitsFor"] is None


@pytest.mark.soak
def test_a_margin_is_used_up_by_those_that_are_taken_on_it(tmp_path: Path) -> None:
    rollout: JsonObject = {"maxDuration": "2h", "onInconclusive": "nonInferior", "margin": 0.9}
    bench = Bench(tmp_path, {"rollout": rollout}, train=equal, rows=32)
    bench.send(1)
    held = bench.rollout()
    assert held is not None
    assert held.margin == pytest.approx(0.45)
    bench.until_it_ends()
    assert bench.golden() == "2"
    assert bench.memory().margin_used == pytest.approx(0.45)
    assert "not worse by more than the margin" in story(bench.simulation.replay.result())[-1][2]


def test_alpha_comes_back_in_part_from_what_stays_open(tmp_path: Path) -> None:
    undecided = Bench(tmp_path, {"rollout": {"maxDuration": "1h"}}, train=equal, rows=24)
    undecided.until_it_ends()
    budget = undecided.memory().budget
    assert budget is not None
    assert budget.fruitless == 1
    assert ErrorBudget.of(0.05).begin().left < budget.left <= 0.05


def test_the_status_says_what_is_guarded_and_what_each_end_would_do(tmp_path: Path) -> None:
    rails: JsonObject = {"slices": ["truth"], "sliceMargin": 0.1}
    bench = Bench(tmp_path, {"rollout": {"guardrails": rails}}, train=equal, rows=24)
    bench.send(2)
    status = bench.status()
    shown = [guard for guard in status["guards"] if isinstance(guard, dict)]  # type: ignore[union-attr]
    assert {guard["name"] for guard in shown} == {"errors", "latency p50", "latency p99", "truth=0", "truth=1"}
    assert all(guard["verdict"] == "pass" for guard in shown)
    assert all(int(str(guard["rows"])) > 0 for guard in shown if guard["name"] == "errors")
    assert set(status["outcomes"]) == {"promote", "rollBack", "inconclusive", "advance"}  # type: ignore[call-overload]
    assert status["history"]


def test_a_champion_whose_files_are_gone_and_a_loop_that_is_deleted(tmp_path: Path) -> None:
    """What is loaded goes on answering; a loop that is deleted takes its rollout along and harms no other."""
    bench = Bench(tmp_path, {}, train=equal)
    bench.send(1)
    world = bench.simulation.world
    with world.database.read() as transaction:
        champion = versions.golden(transaction, NAMESPACE, LOOP_NAME)
    assert champion is not None
    folder = world.artifacts.local(champion.folder)
    kept = folder.with_name("elsewhere")
    shutil.move(folder, kept)
    try:
        bench.simulation.advance()  # says what is wrong, and does not fall over
    finally:
        shutil.move(kept, folder)
    bench.send(1)
    assert bench.rollout() is not None
    with world.database.write() as transaction:
        resources.remove(transaction, LOOP, NAMESPACE, LOOP_NAME)
    bench.simulation.advance()
    with world.database.read() as transaction, pytest.raises(NotFoundError):
        resources.get(transaction, LOOP, NAMESPACE, LOOP_NAME)
    assert bench.simulation.router.table.services == ()


# analyses of a person's own

TEMPLATE: JsonObject = {
    "metrics": [
        {
            "name": "rate",
            "interval": "1m",
            "successCondition": "result >= 0.9",
            "failureLimit": 1,
            "consecutiveErrorLimit": 1,
            "provider": {"web": {"url": "http://127.0.0.1:1/rate"}},
        }
    ]
}


class Server:
    """What a server outside would say."""

    def __init__(self, *answers: Json | Exception) -> None:
        self.answers = list(answers)

    def __call__(self, _metric: Metric) -> Json:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def guarded(tmp_path: Path, server: Server, *, template: JsonObject | None = TEMPLATE) -> tuple[Bench, AnalysisKeeper]:
    bench = Bench(tmp_path, {"rollout": {"analysis": [{"templateName": "rate"}]}}, train=equal, rows=24)
    bench.send(1)
    world = bench.simulation.world
    with world.database.write() as transaction:
        if template is not None:
            kind = kubernetes.kind_named("analysistemplates")
            document: JsonObject = {"metadata": {"name": "rate"}, "spec": template}
            resources.create(transaction, kind, NAMESPACE, document, now_us=0)
        rollout = memories.recall(transaction, NAMESPACE, LOOP_NAME, ROLLOUT, RolloutMemory)
        assert rollout is not None
        assert rollout.state.analyses == ()  # a stream that is replayed has no clock for them; here it is given one
        state = msgspec.structs.replace(rollout.state, analyses=(AnalysisState(name="rate"),))
        memories.remember(transaction, NAMESPACE, LOOP_NAME, ROLLOUT, msgspec.structs.replace(rollout, state=state))
    return bench, AnalysisKeeper(dataclasses.replace(world), Analyses(server))


def turn(bench: Bench, keeper: AnalysisKeeper, times: int, *, step_us: int = MINUTE) -> None:
    for _ in range(times):
        bench.simulation.clock.advance(step_us)
        keeper.advance()
        time.sleep(0.02)  # the threads of the measurements are real
        bench.simulation.clock.advance(SECOND)
        keeper.advance()


def test_an_analysis_that_fails_rolls_back(tmp_path: Path) -> None:
    bench, keeper = guarded(tmp_path, Server(0.95, 0.5, 0.4))
    turn(bench, keeper, 6)
    assert bench.rollout() is None
    status = bench.status()
    assert status["phase"] == "RolledBack"
    assert "the analysis rate failed: rate: 0.4 is failed" in str(status["reason"])
    keeper.close()


def test_an_analysis_without_its_template_keeps_the_champion(tmp_path: Path) -> None:
    bench, keeper = guarded(tmp_path, Server(0.95), template=None)
    turn(bench, keeper, 1)
    status = bench.status()
    assert status["phase"] == "Inconclusive"
    assert "no such AnalysisTemplate" in str(status["reason"])
    assert bench.golden() == "1"
    keeper.close()


@pytest.mark.parametrize(
    "trouble",
    [UnavailableError("refused"), ValueError("no JSON"), InvalidSpecError("the result is not a number")],
    ids=["away", "garbage", "nothing-counted"],
)
def test_a_server_that_says_nothing_is_an_error_and_no_evidence(trouble: Exception) -> None:
    metric = Metric(name="rate", provider=Web(url="http://127.0.0.1:1"), count=None, consecutive_error_limit=1)
    failed: Future[Json] = Future()
    failed.set_exception(trouble)
    once = measured(metric, MetricState(name="rate", next_us=0), failed, now_us=1)
    assert (once.phase, once.successful, once.errors_in_a_row) == ("Running", 0, 1)
    assert measured(metric, once, failed, now_us=2).phase == "Error"


def test_what_a_prometheus_and_a_web_server_say_is_measured() -> None:
    answers = {
        "/api/v1/query": b'{"data": {"resultType": "vector", "result": [{"value": [1, "0.5"]}, {"value": [1, "2"]}]}}',
        "/health": b'{"data": {"ok": 7}}',
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers[self.path.partition("?")[0]]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        asked = Metric(name="m", provider=Prometheus(address=address, query='up{a="b"}'))
        assert measure(asked) == [0.5, 2.0]
        assert measure(Metric(name="m", provider=Web(url=f"{address}/health", json_path="{$.data.ok}"))) == 7
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    with pytest.raises(UnavailableError):
        measure(asked)


def test_an_analysis_goes_on_measuring_also_when_the_clock_is_set_back(tmp_path: Path) -> None:
    bench, keeper = guarded(tmp_path, Server(0.95))
    turn(bench, keeper, 2)
    rollout = bench.rollout()
    assert rollout is not None
    before = rollout.state.analyses[0].metrics[0].successful
    bench.simulation.clock.advance(-30 * 24 * 60 * MINUTE)
    turn(bench, keeper, 2)
    rollout = bench.rollout()
    assert rollout is not None
    (analysis,) = rollout.state.analyses
    assert analysis.metrics[0].successful > before
    assert analysis.phase == "Running"
    assert not analysis.holds
    keeper.close()
