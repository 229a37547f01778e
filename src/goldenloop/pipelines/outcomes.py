"""What came of an attempt at a step: its outputs, kept, or why there are none."""

from __future__ import annotations

import msgspec

from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.json import Json, JsonObject
from goldenloop.pipelines.artifact_records import artifact_record
from goldenloop.pipelines.executor import Outcome, StepResult, log_tail
from goldenloop.pipelines.launching import Flight
from goldenloop.pipelines.step_files import read_outputs
from goldenloop.pipelines.values import Values
from goldenloop.store.artifacts import Artifacts


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an attempt. `lost`: nobody knows how it ended, it is started again; `final`: another attempt would end
    in the same way.
    """

    flight: Flight
    parameters: JsonObject = {}
    records: dict[str, list[dict[str, Json]]] = {}  # new artifact rows by port
    failure: str | None = None
    lost: bool = False
    final: bool = False

    @property
    def outputs(self) -> Values:
        """What it gave."""
        ids = {port: tuple(str(record["id"]) for record in listed) for port, listed in self.records.items()}
        return Values(self.parameters, ids)


def outcome_of(flight: Flight, result: StepResult, kept: Artifacts, *, now_us: int) -> Ended:
    """Keep what an attempt wrote and say what came of it. Raises UnavailableError where it cannot be kept now."""
    name = flight.name
    if result.outcome is Outcome.LOST:
        return Ended(flight=flight, lost=True)
    if not result.succeeded:
        tail = log_tail(flight.files.log)
        said = f"; the end of its log:\n{tail}" if tail else "; its log is empty"
        return Ended(flight=flight, failure=f"step {name!r} {result.describe()}{said}")
    try:
        if flight.wanted is not None:
            return _imported(flight, kept, now_us)
        parameters, written = read_outputs(flight.component, flight.files, where=name)
        records = {
            port: [artifact_record(one.type, port, one.keep(kept), one.metadata, now_us=now_us) for one in listed]
            for port, listed in written.items()
        }
    except UnavailableError:
        raise
    except (GoldenloopError, OSError, ValueError) as error:
        return Ended(flight=flight, failure=f"step {name!r} ended well, but not with its outputs: {error}")
    return Ended(flight=flight, parameters=parameters, records=records)


def _imported(flight: Flight, kept: Artifacts, now_us: int) -> Ended:
    wanted = flight.wanted
    assert wanted is not None
    copy = flight.files.output(wanted.port)
    content = kept.put(copy) if copy.exists() else None
    record = artifact_record(wanted.type, wanted.port, wanted.uri, wanted.metadata, now_us=now_us, content=content)
    return Ended(flight=flight, records={wanted.port: [record]})
