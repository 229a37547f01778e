"""The control side of a running installation: everything put together, and the thread that turns the ring."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Literal

from goldenloop.control.analysts import AnalystProcess
from goldenloop.control.attesting import Attestor
from goldenloop.control.counters import WorkerCounters
from goldenloop.control.heeding import AnalysisKeeper
from goldenloop.control.home import Home
from goldenloop.control.housekeeping import Housekeeping
from goldenloop.control.jobs import LocalJobs, SharedExecutor
from goldenloop.control.messenger import Messenger
from goldenloop.control.objective_keeping import ObjectiveKeeper
from goldenloop.control.offline import adopt
from goldenloop.control.ring import Ring
from goldenloop.control.router import FileRouter, present_table
from goldenloop.control.schedules import Schedules
from goldenloop.control.services.examining import Places
from goldenloop.control.services.reconciler import ServiceReconciler
from goldenloop.control.triggers import Triggers
from goldenloop.control.trusting import trusted_digests
from goldenloop.control.workers import Workers
from goldenloop.control.world import World
from goldenloop.core.clock import SystemClock
from goldenloop.core.errors import GoldenloopError, NotFoundError
from goldenloop.pipelines.engine import Engine
from goldenloop.pipelines.local import LocalExecutor
from goldenloop.pipelines.zygote import PREIMPORTED
from goldenloop.serving.predictors.trust import sign_folder
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database

PARALLEL_STEPS = 4
# What control's own jobs need, imported once and forked with every step.
_JOBS_IMPORT = ("skl2onnx", "onnxruntime", "goldenloop.control.work.prepare", "goldenloop.control.work.assess")
_LOOK_SECONDS = 0.25  # the longest time between two looks; news ends it sooner
_PAUSE_SECONDS = 1.0  # after something that was needed did not answer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """How an installation was started, and what its control process is told."""

    database_url: str
    artifacts_url: str


class Platform:
    """Owns the processes and connections of control. `start` turns the ring until `stop`."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self.home = home
        self.database = Database(settings.database_url)
        self.database.migrate()
        self.artifacts = Artifacts(settings.artifacts_url, cache=home.cache)
        clock = SystemClock()
        self._executor = LocalExecutor(
            preimported=(*PREIMPORTED, *_JOBS_IMPORT),
            environments=home.environments,
            isolate=True,
            readable=(home.artifacts, home.cache),
        )
        shared = SharedExecutor(self._executor)
        self.engine = Engine(
            self.database,
            self.artifacts,
            shared.side(jobs=False),
            clock,
            folder=home.path,
            parallelism=PARALLEL_STEPS,
        )
        self.workers = Workers(home.control_socket, on_news=self.engine.wake)
        self._analyst = AnalystProcess(home.payloads, log=home.logs / "monitors.log")
        self.world = World(
            database=self.database,
            artifacts=self.artifacts,
            clock=clock,
            runs=self.engine,
            jobs=LocalJobs(shared.side(jobs=True), home.work / "jobs"),
            analyst=self._analyst,
            router=FileRouter(home, self.workers),
            sign=lambda folder: sign_folder(folder, home.signing_key()),
            attestor=Attestor.of_file(home.attestation_key_file),
        )
        adopt(home, self.world)
        places = Places(
            volumes=home.volumes,
            secrets=home.secrets,
            predictors=home.predictors,
            inference=lambda: _address(home, "inference"),
            grpc=lambda: _address(home, "grpc"),
            trusted=lambda: trusted_digests(self.database),
            sign=self.world.sign,
        )
        self.ring = Ring(self.world, present_table(home), hand_written=ServiceReconciler(self.world, places))
        self._analyses = AnalysisKeeper(self.world)
        self._housekeeping = Housekeeping(self.world, home.runs, home.payloads)
        self._beside = (
            Schedules(self.world),
            self._analyses,
            Triggers(self.world),
            ObjectiveKeeper(self.world, WorkerCounters(home.work / "metrics")),
            self._housekeeping,
        )
        self._messenger = Messenger(self.database, clock, home.secrets)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._turn, name="ring", daemon=True)
        self.looked_at = 0.0

    def start(self) -> None:
        """Begin to turn."""
        self._thread.start()
        self._messenger.start()

    def wake(self) -> None:
        """Look again at once: something changed."""
        self.engine.wake()

    def stop(self) -> None:
        """Stop turning and let go of everything. Steps that run are ended; they start again with the next control process."""
        self._stopping.set()
        self.engine.wake()
        self._thread.join(timeout=10)
        self._messenger.close()
        self._executor.close()
        self._analyst.close()
        self._analyses.close()
        self._housekeeping.close()
        self.workers.close()
        self.database.close()

    @property
    def is_turning(self) -> bool:
        """Whether the ring was looked at lately."""
        return self._thread.is_alive() and time.monotonic() - self.looked_at < 60

    def _turn(self) -> None:
        said = ""
        while not self._stopping.is_set():
            try:
                # Whoever asks for a rollback does not wait for a control process that is busy.
                adopted = adopt(self.home, self.world)
                turned = self.ring.advance()
                beside = [each.advance() for each in self._beside]
                moved = turned or adopted or any(beside)
                said = ""
            except GoldenloopError as error:
                if str(error) != said:
                    _log.error("%s", error)
                    said = str(error)
                self._stopping.wait(_PAUSE_SECONDS)
                continue
            except Exception:
                # A fault of ours: say where it is, and go on with the other loops at the next look.
                _log.error("the ring stumbled:\n%s", traceback.format_exc())
                self._stopping.wait(_PAUSE_SECONDS)
                continue
            finally:
                self.looked_at = time.monotonic()
            if not moved:
                self.engine.wait(_LOOK_SECONDS)


def _address(home: Home, of: Literal["inference", "grpc"]) -> str | None:
    """Where this platform answers; None as long as it is not said, as in a control process that runs by itself."""
    try:
        addresses = home.running()
    except NotFoundError:
        return None
    return addresses.inference if of == "inference" else addresses.grpc
