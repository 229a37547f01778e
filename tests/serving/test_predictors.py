"""Predictor processes end to end: a real host, real processes, and the worker's link to them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from predictor_bench import HostBench, host_bench, lives, until

from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.routing import Served
from goldenloop.serving.predictors import PredictorFailedError, PredictorTimeoutError
from goldenloop.serving.predictors.link import PredictorLink

pytestmark = pytest.mark.process

DOUBLES = """
    class Doubles:
        batching = True
        def predict(self, tensors):
            return {"twice": tensors["x"] * 2}
"""
# What a test asks of it is in the payload.
OBEDIENT = """
    import ctypes, os, sys, time

    class Obedient:
        def __init__(self):
            self.kept = []

        def predict(self, payload):
            for order, value in payload.items():
                getattr(self, order)(value)
            return {"predictions": [os.getpid()]}

        def instances(self, _): pass
        def fail(self, text): raise ValueError(text)
        def sleep(self, seconds): time.sleep(seconds)
        def exit(self, code): os._exit(code)
        def leave(self, code): sys.exit(code)
        def segfault(self, _): ctypes.string_at(0)
        def say(self, text): print(text)
        def shout(self, count): print("x" * count)
        def leak(self, mebibytes): self.kept.append(bytearray(mebibytes << 20))
        def take(self, mebibytes):
            for _ in range(mebibytes): self.kept.append(os.urandom(1 << 20)); time.sleep(0.002)
        def fork(self, path):
            if os.fork() == 0:
                os.setsid()
                open(path, "w").write(str(os.getpid()))
                time.sleep(60)
        def fork_back(self, _): os.fork()
        def close_descriptors(self, upto): os.closerange(3, upto)
        def spin(self, _):
            while True: pass
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[HostBench]:
    with host_bench(tmp_path / "home") as made:
        yield made


async def rows(link: PredictorLink, count: int = 2, *, seconds: float = 20) -> list[float]:
    given = np.arange(count, dtype=np.float64)
    answers = await link.score(count, {"x": given}, timeout_seconds=seconds)
    return answers["twice"].tolist()


async def order(link: PredictorLink, *, seconds: float = 20, **orders: object) -> int:
    """Let the obedient model do something; its process id."""
    answer = await link.call("predict", {"instances": [], **orders}, {}, timeout_seconds=seconds)
    return answer["predictions"][0]  # type: ignore[index]


def serve(bench: HostBench, source: str, **fields: object) -> tuple[Served, PredictorLink]:
    served = bench.code(source, batching="batching" in source)
    bench.publish(served, **fields)
    bench.start()
    return served, bench.link(served, max_replicas=int(str(fields.get("max_replicas", 1))))


def test_scores(bench: HostBench) -> None:
    _, link = serve(bench, DOUBLES)

    async def ask() -> None:
        assert await rows(link) == [0, 2]
        large = np.random.default_rng(1).random((3_000, 1_000))
        answers = await link.score(3_000, {"x": large}, timeout_seconds=30)
        np.testing.assert_array_equal(answers["twice"], large * 2)
        many = await asyncio.gather(*(rows(link, count) for count in range(1, 200)))
        assert many == [[2 * value for value in range(count)] for count in range(1, 200)]
        await link.close()
        with pytest.raises(UnavailableError, match="no longer served"):
            await rows(link)

    asyncio.run(ask())


def test_waits_for_the_host(bench: HostBench) -> None:
    served = bench.code(DOUBLES, batching=True)
    bench.publish(served)

    async def ask() -> None:
        link = bench.link(served)
        assert await link.ready() is False
        early = asyncio.create_task(rows(link))
        await asyncio.sleep(0.1)
        bench.start()
        assert await early == [0, 2]
        assert await link.ready() is True
        await link.close()

    asyncio.run(ask())


def test_what_a_model_raises(bench: HostBench) -> None:
    _, link = serve(bench, OBEDIENT)

    async def ask() -> None:
        pid = await order(link)
        with pytest.raises(PredictorFailedError, match=r"^ValueError: not \w+, sorry") as caught:
            await order(link, fail="not today, sorry")
        assert "model.py" not in str(caught.value)
        with pytest.raises(PredictorFailedError, match="SystemExit"):
            await order(link, leave=3)
        with pytest.raises(PredictorFailedError, match="no method 'explain'"):
            await link.call("explain", {"instances": []}, {}, timeout_seconds=5)
        with pytest.raises(PredictorFailedError, match="cannot be handed to the model"):
            await link.call("predict", {"instances": [object()]}, {}, timeout_seconds=5)
        assert await order(link) == pid
        await link.close()

    asyncio.run(ask())
    assert "ValueError: not today, sorry" in bench.log()
    assert "def fail" in bench.log()


@pytest.mark.parametrize(
    ("orders", "told"),
    [
        ({"exit": 7}, "ended its process with code 7"),
        ({"segfault": 0}, r"signal 11 \(SIGSEGV\)"),
        ({"close_descriptors": 4096}, "closed the process's own connections"),
    ],
)
def test_a_process_that_ends_fails_its_call_only(bench: HostBench, orders: dict[str, object], told: str) -> None:
    _, link = serve(bench, OBEDIENT)

    async def ask() -> None:
        before = await order(link)
        ending = asyncio.create_task(order(link, **orders))
        await asyncio.sleep(0)
        others = [asyncio.create_task(order(link)) for _ in range(20)]
        with pytest.raises(PredictorFailedError, match=told):
            await ending
        after = set(await asyncio.gather(*others))
        assert len(after) == 1
        assert before not in after
        await link.close()

    asyncio.run(ask())


def test_a_call_that_takes_too_long_is_ended(bench: HostBench) -> None:
    _, link = serve(bench, OBEDIENT)

    async def ask() -> None:
        before = await order(link)
        for slow in ({"sleep": 60}, {"spin": 0}):
            begun = time.monotonic()
            with pytest.raises(PredictorTimeoutError, match=r"in 0\.3 s"):
                await order(link, seconds=0.3, **slow)
            assert time.monotonic() - begun < 0.6
            after = await order(link)
            assert after != before
            before = after
        await link.close()

    asyncio.run(ask())


def test_waiting_does_not_count_against_the_process(bench: HostBench) -> None:
    """A call whose time is over while it waits is not begun, and nobody is ended for it."""
    _, link = serve(bench, OBEDIENT)

    async def ask() -> None:
        before = await order(link)
        slow = asyncio.create_task(order(link, sleep=0.8))
        await asyncio.sleep(0.05)
        short = [asyncio.create_task(order(link, seconds=0.2)) for _ in range(5)]
        for each in short:
            with pytest.raises(PredictorTimeoutError):
                await each
        assert await slow == before
        assert await order(link) == before
        await link.close()

    asyncio.run(ask())


@pytest.mark.parametrize("orders", [{"leak": 1_000}, {"take": 600}])
def test_memory_has_a_limit(bench: HostBench, orders: dict[str, object]) -> None:
    _, link = serve(bench, OBEDIENT, memory_bytes=200 << 20)

    async def ask() -> None:
        before = await order(link, leak=20)
        with pytest.raises(PredictorFailedError, match="out of memory"):
            await order(link, **orders)
        assert await order(link) != before
        await link.close()

    asyncio.run(ask())


def test_what_it_forks_ends_with_it(bench: HostBench, tmp_path: Path) -> None:
    served, link = serve(bench, OBEDIENT)
    child = tmp_path / "child"

    async def ask() -> None:
        before = await order(link, fork=str(child))
        until(lambda: child.is_file() and child.read_text() != "")
        assert await order(link, fork_back=0) == before
        assert await order(link) == before
        with pytest.raises(PredictorFailedError):
            await order(link, exit=1)
        assert await order(link) != before
        await link.close()

    asyncio.run(ask())
    until(lambda: not lives(int(child.read_text())))
    assert bench.status(served).failures == 1  # type: ignore[union-attr]


def test_what_it_prints_is_kept_and_bounded(bench: HostBench) -> None:
    _, link = serve(bench, OBEDIENT)

    async def ask() -> None:
        await order(link, say="hello from the model")
        until(lambda: "hello from the model" in bench.log())
        for _ in range(5):
            await order(link, shout=1 << 20)
        await order(link, say="the end")
        await link.close()

    asyncio.run(ask())
    until(lambda: "the end" in bench.log())
    assert len(bench.log()) < 5 << 20


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import nothing_of_the_kind", "cannot be imported: No module named 'nothing_of_the_kind'"),
        ("class A:\n  def predict(self, p): pass\nclass B:\n  def predict(self, p): pass", "several classes.*: A, B"),
        ("x = 1", "no class with a method predict"),
        ("class A:\n  def __init__(self, weights): pass\n  def predict(self, p): pass", "without weights"),
        (
            "class A:\n  def load(self): raise OSError('no weights')\n  def predict(self, p): pass",
            "OSError: no weights",
        ),
        ("import os\nos._exit(9)", "code 9 while it was loading"),
        ("import sys\nsys.exit('enough')", "SystemExit: enough"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGABRT)", "SIGABRT.* while it was loading"),
        ("kept = bytearray(900 << 20)", "out of memory"),
        ("while True: pass", r"did not finish loading in 1\.5 s"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_model_that_cannot_be_loaded(bench: HostBench, source: str, told: str) -> None:
    served = bench.code(source)
    bench.publish(served, memory_bytes=200 << 20)
    bench.start(load_seconds=1.5)

    async def ask() -> None:
        link = bench.link(served)
        with pytest.raises(UnavailableError, match=f"cannot be loaded: .*{told}"):
            await link.call("predict", {"instances": []}, {}, timeout_seconds=10)
        with pytest.raises(UnavailableError, match=told):
            for _ in range(100):
                await link.ready(timeout_seconds=0.1)
        await link.close()

    asyncio.run(ask())


def test_says_that_requirements_are_not_installed(bench: HostBench) -> None:
    served = bench.code("import nothing_of_the_kind")
    (Path(served.path) / "requirements.txt").write_text("nothing-of-the-kind\n")
    bench.publish(served)
    bench.start()

    async def ask() -> None:
        link = bench.link(served)
        with pytest.raises(UnavailableError, match=r"requirements\.txt is not installed"):
            await link.call("predict", {"instances": []}, {}, timeout_seconds=10)
        await link.close()

    asyncio.run(ask())


def test_failures_in_a_row_are_retried_ever_more_seldom(bench: HostBench, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    served, _ = serve(bench, f"open({str(starts)!r}, 'a').write('x')\nraise RuntimeError('broken')")

    def count() -> int:
        return len(starts.read_text()) if starts.exists() else 0

    until(lambda: count() >= 3)
    time.sleep(2.5)
    assert 3 <= count() <= 6
    status = bench.status(served)
    assert status is not None
    assert status.failures == count()
    assert status.state == "pausing"


def test_a_host_that_is_killed(bench: HostBench) -> None:
    served, link = serve(bench, OBEDIENT)

    async def ask() -> None:
        before = await order(link)
        under_way = asyncio.create_task(order(link, sleep=0.5))
        await asyncio.sleep(0.1)
        bench.processes[-1].kill()
        bench.processes[-1].wait()
        until(lambda: not lives(before), what="the process outlived its host")
        between = asyncio.create_task(order(link))
        await asyncio.sleep(0.2)
        assert not between.done()
        bench.start()
        after = await between
        assert after != before
        assert await under_way == after
        await link.close()

    asyncio.run(ask())
    assert bench.status(served).state == "ready"  # type: ignore[union-attr]


def test_a_host_that_is_stopped_lets_calls_end(bench: HostBench) -> None:
    _, link = serve(bench, OBEDIENT)

    async def ask() -> None:
        before = await order(link)
        under_way = asyncio.create_task(order(link, sleep=0.5))
        await asyncio.sleep(0.1)
        bench.processes[-1].send_signal(signal.SIGTERM)
        assert await under_way == before
        bench.processes[-1].wait(10)
        bench.start()
        assert await order(link) != before
        await link.close()

    asyncio.run(ask())


def test_workers_come_and_go(bench: HostBench) -> None:
    """A worker that is killed under a call costs others nothing."""
    served, link = serve(bench, OBEDIENT)
    program = f"""
import asyncio
from pathlib import Path
from goldenloop.serving.predictors.link import PredictorLink
async def main():
    link = PredictorLink(Path({str(bench.sockets)!r}), {served.digest!r})
    await link.call("predict", {{"instances": [0] * 100_000}}, {{}}, timeout_seconds=10)
    print("begun", flush=True)
    await asyncio.gather(*(link.call("predict", {{"instances": [], "sleep": 0.3}}, {{}}, timeout_seconds=10) for _ in range(3)))
asyncio.run(main())
"""

    async def ask() -> None:
        pid = await order(link)
        for _ in range(3):
            with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as worker:
                assert worker.stdout is not None
                worker.stdout.readline()
                worker.kill()
            assert await order(link) == pid
        await link.close()

    asyncio.run(ask())


def test_scales_to_zero_and_back(bench: HostBench) -> None:
    served, link = serve(bench, OBEDIENT, min_replicas=0, idle_seconds=0.3)

    async def ask() -> None:
        # It is tried once, and goes to rest.
        until(lambda: (found := bench.status(served)) is not None and found.state == "idle")
        assert await link.ready() is True
        before = await order(link)
        until(lambda: bench.status(served).state == "idle")  # type: ignore[union-attr]
        assert not lives(before)
        # A new host knows that it loads, and leaves it alone.
        bench.processes[-1].kill()
        bench.processes[-1].wait()
        bench.start()
        await asyncio.sleep(1)
        assert bench.status(served).state == "idle"  # type: ignore[union-attr]
        assert await order(link) != before
        await link.close()

    asyncio.run(ask())


def test_no_call_is_lost_to_idleness(bench: HostBench) -> None:
    served, link = serve(bench, DOUBLES, min_replicas=0, idle_seconds=0.05)

    async def ask() -> None:
        for pause in (0.0, 0.1, 0.15, 0.2, 0.25, 0.12, 0.18, 0.3):
            await asyncio.sleep(pause)
            assert set(map(tuple, await asyncio.gather(*(rows(link) for _ in range(20))))) == {(0.0, 2.0)}
        await link.close()

    asyncio.run(ask())
    assert bench.status(served).failures == 0  # type: ignore[union-attr]


def test_more_replicas_when_calls_queue(bench: HostBench) -> None:
    served, link = serve(bench, OBEDIENT, max_replicas=2, idle_seconds=0.3)

    async def ask() -> None:
        one = await order(link)
        assert link.replicas == 1
        seen = set(await asyncio.gather(*(order(link, sleep=0.15) for _ in range(16))))
        assert len(seen) == 2
        assert one in seen
        until(lambda: bench.status(served, 1).state == "idle")  # type: ignore[union-attr]
        assert bench.status(served, 0).state == "ready"  # type: ignore[union-attr]
        assert await order(link) == one
        await link.close()

    asyncio.run(ask())


def test_a_version_that_is_no_longer_named_stays_while_it_is_used(bench: HostBench) -> None:
    served, link = serve(bench, OBEDIENT)

    async def ask() -> None:
        before = await order(link)
        bench.publish()
        await asyncio.sleep(1.5)
        assert await order(link) == before
        under_way = asyncio.create_task(order(link, sleep=0.3))
        await asyncio.sleep(0.05)
        await link.close()
        assert await under_way == before

    asyncio.run(ask())
    until(lambda: bench.status(served) is None)
    assert list(bench.sockets.iterdir()) == []


def test_other_limits_mean_another_process(bench: HostBench) -> None:
    served, link = serve(bench, OBEDIENT)

    async def ask() -> None:
        before = await order(link)
        bench.publish(served, memory_bytes=300 << 20)
        failures = 0
        end = time.monotonic() + 20
        while await order(link) == before:
            assert time.monotonic() < end
        assert failures == 0
        await link.close()

    asyncio.run(ask())


def test_coroutines_run_at_the_same_time(bench: HostBench) -> None:
    source = """
        import asyncio
        class Waits:
            async def load(self): self.loaded = True
            def preprocess(self, payload, headers): return {**payload, "by": headers["x-by"]}
            async def predict(self, payload):
                assert self.loaded
                if payload.get("fail"): raise KeyError("no")
                await asyncio.sleep(payload.get("sleep", 0.3))
                return {"predictions": [payload["by"]]}
    """
    served, link = serve(bench, source)

    async def call(seconds: float = 20, **payload: object) -> object:
        return await link.call("predict", {"instances": [], **payload}, {"x-by": "me"}, timeout_seconds=seconds)

    async def ask() -> None:
        await call()
        begun = time.monotonic()
        answers = await asyncio.gather(*(call() for _ in range(30)))
        assert answers == [{"predictions": ["me"]}] * 30
        assert time.monotonic() - begun < 2
        pid = bench.pid(served)
        with pytest.raises(PredictorFailedError, match="KeyError: 'no'"):
            await call(fail=True)
        with pytest.raises(PredictorTimeoutError):
            await call(0.2, sleep=30)
        await call(sleep=0)
        await asyncio.sleep(0.5)
        assert bench.pid(served) == pid  # it was told to stop, and did
        await link.close()

    asyncio.run(ask())


def test_sees_nothing_of_the_platform(bench: HostBench) -> None:
    source = """
        import os, resource
        class Looks:
            def load(self, path): self.given = path
            def predict(self, payload):
                open("scratch", "w").write("x")
                return {"predictions": [dict(os.environ), os.getcwd(), self.given, str(self.folder), open("weights").read(),
                                        resource.getrlimit(resource.RLIMIT_CORE)[0], os.nice(0)]}
    """
    served = bench.code(source)
    (Path(served.path) / "weights").write_text("w")
    bench.publish(served)
    os.environ["GOLDENLOOP_SECRET"] = "s"
    try:
        bench.start()
    finally:
        del os.environ["GOLDENLOOP_SECRET"]

    async def ask() -> None:
        link = bench.link(served)
        answer = await link.call("predict", {"instances": []}, {}, timeout_seconds=10)
        environment, folder, given, own, weights, core, niceness = answer["predictions"]  # type: ignore[index]
        assert "GOLDENLOOP_SECRET" not in environment
        assert environment["OMP_NUM_THREADS"] == "1"
        assert own == given == served.path
        assert folder != served.path
        assert (weights, core) == ("w", 0)
        assert niceness > 0
        await link.close()

    asyncio.run(ask())
    assert not (Path(served.path) / "scratch").exists()
    assert not (Path(served.path) / "__pycache__").exists()


def test_two_models_do_not_hold_up_each_other(bench: HostBench) -> None:
    slow, fast = bench.code(OBEDIENT, digest="slow"), bench.code(DOUBLES, batching=True, digest="fast")
    bench.publish(slow, fast)
    bench.start()

    async def ask() -> None:
        one, other = bench.link(slow), bench.link(fast)
        await asyncio.gather(order(one), rows(other))
        waiting = asyncio.create_task(order(one, sleep=1.0))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await rows(other)
        assert time.monotonic() - begun < 0.5
        await waiting
        await asyncio.gather(one.close(), other.close())

    asyncio.run(ask())


def test_errors_are_of_the_tree() -> None:
    assert issubclass(PredictorFailedError, GoldenloopError)
    assert issubclass(PredictorTimeoutError, UnavailableError)
