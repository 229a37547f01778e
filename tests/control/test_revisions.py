"""Whatever is applied and whatever fails, in whatever order: only what was loaded answers, and it answers everything."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.control.services.records import (
    PREDICTOR,
    REFUSED,
    TRANSFORMER,
    Revision,
    ServedArtifact,
    ServiceMemory,
    canary_track,
)
from goldenloop.control.services.revisions import (
    KEPT,
    candidates,
    failed,
    follow,
    retried,
    roll_out,
    settle,
    shares,
)
from goldenloop.core.clock import MINUTE, SECOND

CANARY = canary_track("b")
MADE = ServedArtifact(
    address="artifact:a", provenance="artifact:p", digest="d", runtime="onnx", format="f", size_bytes=1
)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, object]]:
    """What happens to a service: specs are applied; the newest revisions are made, loaded, or fail."""
    spec = st.tuples(
        st.integers(0, 3),  # the predictor's source
        st.none() | st.integers(0, 2),  # the transformer's
        st.none() | st.integers(0, 2),  # the canary's
        st.none() | st.integers(0, 99),  # canaryTrafficPercent
    )
    event = st.one_of(
        st.tuples(st.just("apply"), spec),
        st.tuples(
            st.sampled_from(["make", "load", "fail", "retry"]), st.sampled_from([PREDICTOR, TRANSFORMER, CANARY])
        ),
    )
    first = ("apply", draw(spec))
    return [first, *draw(st.lists(event, max_size=40))]


class Service:
    """The pure part of the reconciler."""

    def __init__(self) -> None:
        self.memory = ServiceMemory(uid="u")
        self.sources: dict[str, str] = {}
        self.percent: int | None = None
        self.loaded: set[tuple[str, int]] = set()  # by track and number

    def apply(self, spec: tuple[int, int | None, int | None, int | None]) -> None:
        named = zip((PREDICTOR, TRANSFORMER, CANARY), spec[:3], strict=True)
        self.sources = {track: f"{track}:{number}" for track, number in named if number is not None}
        self.percent = spec[3]

    def happen(self, what: str, track: str) -> None:
        newest = self.memory.track(track).newest
        if newest is None or track not in self.sources:
            return
        changed = newest
        if what == "make" and newest.state == "Pending":
            changed = msgspec.structs.replace(newest, made=MADE)
        elif what == "load" and track in candidates(self.memory, tuple(self.sources)) and not newest.is_loaded:
            changed = msgspec.structs.replace(newest, is_loaded=True)
            self.loaded.add((track, newest.number))
        elif what == "fail" and newest.state in ("Pending", "Loading"):
            changed = failed(newest, "ModelLoadFailed", "away", now_us=0, is_final=False)
        elif what == "retry":
            changed = retried(newest, now_us=60 * MINUTE)
        self.memory = self.memory.with_track(track, self.memory.track(track).with_revision(changed))

    def look(self) -> None:
        self.memory = follow(self.memory, self.sources)
        self.memory = roll_out(settle(self.memory, tuple(self.sources)), self.percent)


@given(steps())
def test_only_what_was_loaded_answers_and_everything_is_answered(happening: list[tuple[str, object]]) -> None:
    service = Service()
    has_answered = False
    for what, detail in happening:
        before = service.memory
        if what == "apply":
            service.apply(detail)  # type: ignore[arg-type]
        else:
            service.happen(what, str(detail))
        service.look()
        parts = shares(service.memory, service.percent)
        if has_answered:
            assert parts, "what has answered once goes on"
        has_answered = bool(parts)
        if parts:
            assert sum(parts.values()) == 100
            assert all(percent >= 0 for percent in parts.values())
            assert {(PREDICTOR, number) for number in parts} <= service.loaded
        for track in service.memory.tracks.values():
            assert track.active is None or track.numbered(track.active) is not None, "what answers is kept"
            assert len(track.revisions) <= KEPT + 3
            numbers = [each.number for each in track.revisions]
            assert numbers == sorted(set(numbers))
        # The stable components change together: never one of a new set with one of an old.
        if service.memory.track(PREDICTOR).active != before.track(PREDICTOR).active:
            for name in set(service.sources) - {CANARY}:
                track = service.memory.track(name)
                assert track.newest is not None
                assert track.active == track.newest.number


@given(steps())
def test_a_look_at_which_nothing_happened_changes_nothing(happening: list[tuple[str, object]]) -> None:
    service = Service()
    for what, detail in happening:
        if what == "apply":
            service.apply(detail)  # type: ignore[arg-type]
        else:
            service.happen(what, str(detail))
        service.look()
        settled = service.memory
        service.look()
        assert service.memory == settled


@given(st.integers(1, 40))
def test_a_failure_is_tried_again_ever_more_seldom_but_always(times: int) -> None:
    revision = Revision(number=1, fingerprint="f")
    now_us, waits = 0, []
    for _ in range(times):
        revision = failed(revision, "ModelLoadFailed", "away", now_us=now_us, is_final=False)
        assert revision.failure is not None
        assert revision.failure.retry_us is not None
        waits.append(revision.failure.retry_us - now_us)
        assert retried(revision, now_us=revision.failure.retry_us - 1) == revision
        now_us = revision.failure.retry_us
        revision = retried(revision, now_us=now_us)
        assert revision.failure is None
    assert waits == sorted(waits)
    assert waits[0] == 10 * SECOND
    assert waits[-1] <= 10 * MINUTE


def test_what_is_final_waits_for_another_spec_and_what_was_refused_for_trust() -> None:
    revision = Revision(number=1, fingerprint="f")
    final = failed(revision, "InvalidPredictorSpec", "an image", now_us=0, is_final=True)
    assert retried(final, now_us=10**18, refused_too=True) == final
    refused = failed(revision, REFUSED, "a pickle", now_us=0, is_final=False)
    assert retried(refused, now_us=1) == refused
    assert retried(refused, now_us=1, refused_too=True).failure is None
    elsewhere = failed(revision, "ModelLoadFailed", "away", now_us=0, is_final=False)
    assert retried(elsewhere, now_us=1, refused_too=True) == elsewhere
