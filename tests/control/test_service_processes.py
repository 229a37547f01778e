"""A model that runs in a process of its own takes over when a process of it was ready, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest
from service_worlds import ServiceWorld, model

from goldenloop.core.clock import SECOND
from goldenloop.core.errors import RefusedError
from goldenloop.core.ids import digest_text
from goldenloop.core.json import Json, JsonObject
from goldenloop.serving.predictors.places import End, Place, Status

A, B, C, D = "s3://models/a", "s3://models/b", "s3://models/c", "s3://models/d"


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    made = ServiceWorld(tmp_path, predictors=tmp_path / "predictors")
    made.jobs.runtimes |= {A: "process", B: "process"}
    (tmp_path / "predictors").mkdir()
    return made


def tell(world: ServiceWorld, uri: str, status: Status) -> None:
    """What the host says of the first replica of a model."""
    Place(world.home / "predictors", digest_text(uri), 0).write_status(status)


READY = Status(state="ready", pid=1)
CANNOT_LOAD = Status(
    state="pausing",
    failures=1,
    reason="ImportError: no module named torch",
    ended=End(instance=1, kind="load", reason="ImportError: no module named torch"),
)
CRASHED = Status(
    state="pausing", failures=1, reason="signal 11", ended=End(instance=1, kind="crashed", reason="signal 11")
)


def test_a_process_that_is_ready_lets_its_revision_take_over(world: ServiceWorld) -> None:
    world.apply("own", model(A, minReplicas=0))
    world.run()
    assert world.entry("own").versions[0].runtime == "process"
    assert world.is_ready("own") == "Unknown"
    assert world.entry("own").min_replicas == 1, "it is started once, to see that it can be"
    tell(world, A, READY)
    world.run()
    assert world.is_ready("own") == "True"
    assert world.entry("own").min_replicas == 0
    tell(world, A, Status(state="idle"))
    world.run()
    assert world.is_ready("own") == "True", "at rest it is still known to load"


def test_a_process_that_cannot_load_never_takes_over(world: ServiceWorld) -> None:
    world.apply("own", model(A))
    tell(world, A, READY)
    world.run()
    tell(world, B, CANNOT_LOAD)
    world.apply("own", model(B))
    world.run()
    assert world.parts("own") == {"1": 100}
    assert "no module named torch" in world.condition("own", "PredictorReady")["message"]
    tell(world, B, READY)
    world.clock.advance(10 * SECOND)
    world.run()
    assert world.parts("own") == {"2": 100}


def test_one_crash_at_the_start_is_forgiven_and_several_are_not(world: ServiceWorld) -> None:
    world.apply("own", model(A))
    tell(world, A, CRASHED)
    world.run()
    assert world.is_ready("own") == "Unknown"
    tell(world, A, Status(state="pausing", failures=3, reason="signal 11", ended=CRASHED.ended))
    world.run()
    assert world.is_ready("own") == "False"
    assert world.names == []


def test_a_process_that_begins_to_fail_is_told_and_stays(world: ServiceWorld) -> None:
    world.apply("own", model(A))
    tell(world, A, READY)
    world.run()
    tell(world, A, Status(state="pausing", failures=4, reason="out of memory", ended=CRASHED.ended))
    world.run()
    assert world.names == ["own"], "the next attempt may succeed; nothing else could answer"
    assert "out of memory" in world.condition("own", "PredictorReady")["message"]
    tell(world, A, READY)
    world.run()
    assert world.is_ready("own") == "True"


def test_a_predictor_waits_for_its_transformers_process(world: ServiceWorld) -> None:
    """The first time, and when both change: what is loaded sooner stays loaded until the other is."""
    del world.jobs.runtimes[A]
    transformer: JsonObject = {"storageUris": [{"uri": B}]}
    world.apply("own", {**model(A), "transformer": transformer})
    world.run()
    assert world.entry("own").champion == "1", "it is in the table, so that workers load it"
    assert world.is_ready("own") == "Unknown"
    tell(world, B, READY)
    world.run()
    assert world.is_ready("own") == "True"
    world.jobs.runtimes[C] = "process"
    world.apply("own", {**model(D), "transformer": {"storageUris": [{"uri": C}]}})
    world.run()
    entry = world.entry("own")
    assert (entry.champion, entry.transformer and entry.transformer.version) == ("1", "transformer-1")
    assert {each.version for each in entry.versions} == {"1", "2", "transformer-2"}
    tell(world, C, READY)
    world.run()
    entry = world.entry("own")
    assert (entry.champion, entry.transformer and entry.transformer.version) == ("2", "transformer-2")


# code of the user's own


def own_code(**variables: str) -> JsonObject:
    env: list[Json] = [{"name": name, "value": value} for name, value in variables.items()]
    secret: JsonObject = {
        "name": "TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "one", "key": "key", "optional": True}},
    }
    return {"predictor": {"containers": [{"name": "own", "env": [*env, secret]}]}}


def test_code_finds_the_variables_of_its_container_and_no_secrets(world: ServiceWorld) -> None:
    (world.home / "secrets" / "one").mkdir(parents=True)
    (world.home / "secrets" / "one" / "key").write_text("hidden")
    digests = set()
    for level in ("1", "2"):
        world.apply("own", own_code(STORAGE_URI=A, LEVEL=level))
        for _ in range(4):
            world.look()
        assert world.jobs.asked[-1].environment["TOKEN"] == "hidden", "it reaches what fetches the files"
        [latest] = [each for each in world.entry("own").versions if each.environment.get("LEVEL") == level]
        assert latest.environment == {"LEVEL": level}
        digests.add(latest.digest)
        Place(world.home / "predictors", latest.digest, 0).write_status(READY)
        world.run()
    assert len(digests) == 2, "the same files with other variables are another process"
    assert world.parts("own") == {"2": 100}


def test_what_is_no_code_finds_no_variables(world: ServiceWorld) -> None:
    world.jobs.runtimes.clear()
    world.apply("own", own_code(STORAGE_URI=A, LEVEL="1"))
    world.run()
    assert world.entry("own").versions[0].environment == {}


# what runs code when it is loaded


def test_only_a_pickle_that_is_trusted_is_signed(world: ServiceWorld) -> None:
    world.jobs.loaders |= {A: "pickle", B: "skops"}
    world.trusted = ("digest",)
    for uri in (A, B):
        tell(world, uri, READY)
        world.apply("own", model(uri))
        world.run()
    assert [request.trusted for request in world.jobs.asked] == [("digest",), ("digest",)]
    assert world.signed == [A]


def test_a_refused_model_is_looked_at_again_as_soon_as_something_is_trusted(world: ServiceWorld) -> None:
    world.jobs.failing[A] = RefusedError("a pickle is code")
    world.apply("own", model(A))
    world.run()
    assert world.condition("own", "Ready")["reason"] == "NoSupportingRuntime"
    del world.jobs.failing[A]
    world.run()
    assert len(world.jobs.asked) == 1
    world.trusted = ("digest",)
    world.run()
    assert len(world.jobs.asked) == 2
    tell(world, A, READY)
    world.run()
    assert world.is_ready("own") == "True"
