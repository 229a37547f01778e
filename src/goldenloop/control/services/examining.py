"""Having models fetched and brought into a served form, in job processes, a few at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from goldenloop.control.services.credentials import environment_of, own_variables, place_of
from goldenloop.control.services.records import REFUSED, FailureReason, Revision, ServedArtifact
from goldenloop.control.services.revisions import failed
from goldenloop.control.services.tracked import fetchable
from goldenloop.control.work.records import Examination, Examined, Source
from goldenloop.control.world import World
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, RefusedError
from goldenloop.core.ids import digest_text
from goldenloop.serving.predictors.forms import read_served_form
from goldenloop.serving.predictors.trust import UNPICKLING
from goldenloop.standards.inference_service.records import folder_of
from goldenloop.standards.inference_service.sources import ModelSource

AT_ONCE = 2  # examinations that run side by side: each may hold a model in memory

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a platform keeps what services refer to, and where it answers.

    `volumes` has a folder for each claim, `secrets` one for each secret; in `predictors` the host of predictor processes says how they
    are (None: there is none). `inference` and `grpc` are addresses, None where nothing listens. `trusted` are the digests of pickles that
    an operator accepts; `sign` marks a folder as one that may be unpickled here.
    """

    volumes: Path
    secrets: Path
    predictors: Path | None = None
    inference: Callable[[], str | None] = lambda: None
    grpc: Callable[[], str | None] = lambda: None
    trusted: Callable[[], tuple[str, ...]] = tuple
    sign: Callable[[Path], None] = lambda _: None


class Examiner:
    """Asks for examinations, and writes down in revisions what came of them."""

    def __init__(self, world: World, places: Places) -> None:
        self._world = world
        self._places = places
        self._running: set[str] = set()

    def advance(self, key: str, revision: Revision, source: ModelSource) -> Revision:
        """The revision with what is known now: made, failed, or as it was. `key` is its own in all of the installation.

        The first call that finds room starts the work. Call `finish` with the key once the result is on record.
        """
        job = f"{key}/{revision.attempts}"
        if source.has_files and job not in self._running and len(self._running) >= AT_ONCE:
            return revision
        now_us = self._world.clock.now_us()
        try:
            if not source.has_files:
                raise InvalidSpecError(
                    "there is no storageUri, and images are not run here",
                    where=source.where,
                    mend="Give storageUri, or for code of your own a folder with model.py in the variable STORAGE_URI.",
                )
            found = self._world.jobs.result(job, "examine", self._request(source))
            if found is None:
                self._running.add(job)
                return revision
            if isinstance(found, GoldenloopError):
                raise found
            examined = msgspec.json.decode(found, type=Examined)
            return msgspec.structs.replace(revision, made=self._kept(examined, source))
        except GoldenloopError as error:
            _log.warning("revision %s: %s", key, error)
            # Files may be mended, and storages come back. Where there is nothing to fetch, only another spec helps.
            return failed(revision, _reason(error), str(error), now_us=now_us, is_final=not source.has_files)

    def finish(self, key: str, revision: Revision) -> None:
        """Let go of the files of the examination of this revision, as it was before the result."""
        job = f"{key}/{revision.attempts}"
        if job in self._running:
            self._running.discard(job)
            self._world.jobs.forget(job)

    def sweep(self, wanted: Collection[str]) -> None:
        """Let go of the examinations whose key begins with none of these: nobody waits for them any more."""
        for job in [job for job in self._running if not job.startswith(tuple(wanted))]:
            self._running.discard(job)
            self._world.jobs.forget(job)

    def _kept(self, examined: Examined, source: ModelSource) -> ServedArtifact:
        """Put what was made into the artifact store. A pickle that was not refused is one that an operator trusts: it is signed."""
        folder = Path(examined.folder)
        if read_served_form(folder).loader in UNPICKLING:
            self._places.sign(folder)
        environment = own_variables(source) if examined.form == "code" else {}
        texts = (text for pair in sorted(environment.items()) for text in pair)
        return ServedArtifact(
            address=self._world.artifacts.put(folder),
            provenance=self._world.artifacts.put_bytes(msgspec.json.encode(examined.source)),
            digest=digest_text(examined.digest, *texts) if environment else examined.digest,
            runtime=examined.runtime,
            format=examined.format,
            size_bytes=examined.size_bytes,
            environment=environment,
            notes=examined.notes,
        )

    def _request(self, source: ModelSource) -> Examination:
        environment = environment_of(source, self._places.secrets)
        uris = source.uris
        if source.storage is not None:
            uri, reaching = place_of(source.storage, self._places.secrets)
            uris, environment = (uri,), {**reaching, **environment}
        return Examination(
            sources=tuple(
                Source(uri=fetchable(self._world, each.uri), folder=folder_of(each.mount_path)) for each in uris
            ),
            format=source.format,
            format_version=source.format_version,
            volumes=str(self._places.volumes),
            trusted=self._places.trusted(),
            environment=environment,
        )


def _reason(error: GoldenloopError) -> FailureReason:
    if isinstance(error, InvalidSpecError):
        return "InvalidPredictorSpec"
    return REFUSED if isinstance(error, RefusedError) else "ModelLoadFailed"
