"""Which revision follows which, and who answers: pure decisions.

Rules. A new source makes a new revision; one whose source was served before is not fetched again. Predictor, transformer and explainer
change together: what is new takes part once all that is new is loaded, and until then, or for ever where it fails, what was there goes on.
Without `canaryTrafficPercent` the newest loaded predictor answers everything and is *rolled out*. With it the newest answers that part and
the last one that was rolled out the rest; a part below 100 for one that was rolled out already takes it back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from goldenloop.control.services.records import (
    PREDICTOR,
    REFUSED,
    STABLE,
    Failure,
    FailureReason,
    Revision,
    ServiceMemory,
    Track,
)
from goldenloop.core.clock import MINUTE, SECOND

KEPT = 5  # revisions of a component whose served form is remembered
_FIRST_RETRY_US = 10 * SECOND
_LAST_RETRY_US = 10 * MINUTE


def follow(memory: ServiceMemory, sources: Mapping[str, str]) -> ServiceMemory:
    """Give each component a revision of its source (track → fingerprint)."""
    tracks = {name: _following(memory, name, fingerprint) for name, fingerprint in sources.items()}
    return msgspec.structs.replace(memory, tracks={**memory.tracks, **tracks})


def settle(memory: ServiceMemory, wanted: Collection[str]) -> ServiceMemory:
    """Let take part what is loaded: the stable components together, each canary by itself. A canary that is not wanted goes at once."""
    tracks = {name: memory.track(name) for name in wanted}
    stable = [name for name in wanted if name in STABLE]
    if all(_is_loaded(tracks[name]) for name in stable):
        tracks |= {name: _activated(tracks[name]) for name in stable}
    else:
        # A transformer that the spec no longer has goes with the predictor that it stands before.
        tracks |= {name: track for name, track in memory.tracks.items() if name in STABLE and name not in tracks}
    tracks |= {name: _activated(tracks[name]) for name in wanted if name not in STABLE and _is_loaded(tracks[name])}
    return msgspec.structs.replace(memory, tracks=tracks)


def roll_out(memory: ServiceMemory, percent: int | None) -> ServiceMemory:
    """Bring `rolled_out` and `previous` up to date with the percent that the spec asks for the newest predictor (None: everything)."""
    track = memory.track(PREDICTOR)
    latest = track.active
    if latest is None:
        return msgspec.structs.replace(memory, rolled_out=None, previous=None)
    if percent is None or memory.rolled_out is None:
        if memory.rolled_out == latest:
            return memory
        return msgspec.structs.replace(memory, rolled_out=latest, previous=memory.rolled_out)
    is_newest = track.newest is not None and track.newest.number == latest
    if memory.rolled_out == latest and is_newest and track.numbered(memory.previous) is not None:
        return msgspec.structs.replace(memory, rolled_out=memory.previous)
    return memory


def shares(memory: ServiceMemory, percent: int | None) -> dict[int, int]:
    """Which predictor revisions answer, and how much, 0..100; first the one that answers what nobody else does."""
    latest, rolled_out = memory.track(PREDICTOR).active, memory.rolled_out
    if latest is None or rolled_out is None:
        return {}
    if rolled_out == latest or percent is None:
        return {latest: 100}
    return {rolled_out: 100 - percent, latest: percent}


def failed(revision: Revision, reason: FailureReason, message: str, *, now_us: int, is_final: bool) -> Revision:
    """The revision after a failure. Where that is not final it is tried again after a while that doubles, from 10 s to 10 min."""
    attempts = revision.attempts + 1
    wait_us = min(_LAST_RETRY_US, _FIRST_RETRY_US * 2 ** min(attempts - 1, 10))
    failure = Failure(
        reason=reason,
        message=message,
        at_us=now_us,
        attempts=attempts,
        retry_us=None if is_final else now_us + wait_us,
    )
    return msgspec.structs.replace(revision, attempts=attempts, failure=failure)


def retried(revision: Revision, *, now_us: int, refused_too: bool = False) -> Revision:
    """The revision without its failure, where its time has come, or where it was refused and that may have changed."""
    failure = revision.failure
    if failure is None or failure.retry_us is None:
        return revision
    is_due = now_us >= failure.retry_us or (refused_too and failure.reason == REFUSED)
    return msgspec.structs.replace(revision, failure=None) if is_due else revision


def _following(memory: ServiceMemory, name: str, fingerprint: str) -> Track:
    track = memory.track(name)
    newest = track.newest
    if newest is not None and newest.fingerprint == fingerprint:
        return track
    known = next((each for each in reversed(track.revisions) if each.fingerprint == fingerprint and each.made), None)
    following = Revision(
        number=1 if newest is None else newest.number + 1,
        fingerprint=fingerprint,
        made=None if known is None else known.made,
    )
    needed = {track.active, memory.rolled_out, memory.previous} if name == PREDICTOR else {track.active}
    recent = track.revisions[-(KEPT - 1) :]
    kept = tuple(each for each in track.revisions if each in recent or each.number in needed)
    return msgspec.structs.replace(track, revisions=(*kept, following))


def _is_loaded(track: Track) -> bool:
    return track.newest is not None and track.newest.is_loaded and track.newest.failure is None


def _activated(track: Track) -> Track:
    assert track.newest is not None
    return track if track.active == track.newest.number else msgspec.structs.replace(track, active=track.newest.number)


def candidates(memory: ServiceMemory, wanted: Collection[str]) -> dict[str, Revision]:
    """The revisions that stand beside what answers, by track, until they take over without a failed request.

    What changes together is loaded once all of it is made. A canary waits for a stable predictor.
    """
    newest = {name: revision for name in wanted if (revision := memory.track(name).newest) is not None}
    standing = {
        name: revision
        for name, revision in newest.items()
        if revision.state in ("Loading", "Loaded") and revision.number != memory.track(name).active
    }
    is_whole = all(newest[name].state in ("Loading", "Loaded") for name in newest if name in STABLE)
    has_answered = memory.track(PREDICTOR).active is not None
    return {name: revision for name, revision in standing.items() if (is_whole if name in STABLE else has_answered)}
