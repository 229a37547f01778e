"""What control remembers of a service that a person wrote: its revisions, which of them answer, and which were rolled out."""

from __future__ import annotations

from typing import Literal

import msgspec

from goldenloop.core.served import Runtime

FailureReason = Literal["ModelLoadFailed", "RuntimeUnhealthy", "NoSupportingRuntime", "InvalidPredictorSpec"]
REFUSED: FailureReason = "NoSupportingRuntime"
ModelState = Literal["Pending", "Standby", "Loading", "Loaded", "FailedToLoad"]

PREDICTOR, TRANSFORMER, EXPLAINER = "predictor", "transformer", "explainer"
STABLE = (PREDICTOR, TRANSFORMER, EXPLAINER)  # the tracks that change together
_CANARY = "canary-"


def canary_track(name: str) -> str:
    """The track of the canary of this name."""
    return _CANARY + name


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a revision does not answer; `reason` is one of KServe's words. Without `retry_us` it is final until the spec changes."""

    reason: FailureReason
    message: str
    at_us: int
    attempts: int
    retry_us: int | None = None


class ServedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """The served form of a revision, kept: its address in the artifact store, and what it is.

    `provenance` is the address of what was fetched for it: places, files and their checksums. `notes` are for the user.
    """

    address: str
    provenance: str
    digest: str
    runtime: Runtime
    format: str
    size_bytes: int
    environment: dict[str, str] = {}  # of a user's own code
    notes: tuple[str, ...] = ()


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One model that a component had. It never changes but for how far it has come."""

    number: int
    fingerprint: str
    made: ServedArtifact | None = None
    is_loaded: bool = False  # every worker had it loaded
    attempts: int = 0
    failure: Failure | None = None

    @property
    def state(self) -> ModelState:
        """Where it stands, in KServe's words."""
        if self.failure is not None:
            return "FailedToLoad"
        if self.is_loaded:
            return "Loaded"
        return "Loading" if self.made is not None else "Pending"


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """The revisions of one component, oldest first, and the number of the one that takes part."""

    revisions: tuple[Revision, ...] = ()
    active: int | None = None

    @property
    def newest(self) -> Revision | None:
        return self.revisions[-1] if self.revisions else None

    def numbered(self, number: int | None) -> Revision | None:
        """The revision of this number, or None where it is not kept any more."""
        return next((each for each in self.revisions if each.number == number), None)

    def with_revision(self, changed: Revision) -> Track:
        """The track with this revision in the place of the one of its number."""
        return msgspec.structs.replace(
            self, revisions=tuple(changed if each.number == changed.number else each for each in self.revisions)
        )


class ServiceMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service stands. `rolled_out` is the predictor revision that last had all of the traffic, `previous` the one before it."""

    uid: str  # of the resource: another one of the same name begins anew
    tracks: dict[str, Track] = {}
    rolled_out: int | None = None
    previous: int | None = None

    def track(self, name: str) -> Track:
        return self.tracks.get(name, Track())

    def with_track(self, name: str, track: Track) -> ServiceMemory:
        return msgspec.structs.replace(self, tracks={**self.tracks, name: track})


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """What a client of the model repository asked for."""

    loaded: bool


def version_name(track: str, number: int) -> str:
    """The version in the routing table: the number for the predictor, with the track before it for all else."""
    return str(number) if track == PREDICTOR else f"{track}-{number}"


def revision_name(service: str, track: str, number: int) -> str:
    """The revision as KServe's clients see it.

    >>> revision_name("iris", "predictor", 2), revision_name("iris", "canary-tuned", 1)
    ('iris-predictor-00002', 'iris-tuned-predictor-00001')
    """
    if track.startswith(_CANARY):
        return f"{service}-{track.removeprefix(_CANARY)}-predictor-{number:05d}"
    return f"{service}-{track}-{number:05d}"
