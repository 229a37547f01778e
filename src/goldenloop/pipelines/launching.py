"""From a step that may start to the request for an executor: its files, its inputs on this machine, its command line."""

from __future__ import annotations

import re

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.artifact_records import ADDRESS
from goldenloop.pipelines.environments import packages_of
from goldenloop.pipelines.executor import Limits, Resources, StepRequest
from goldenloop.pipelines.importing import Import, fetch_command
from goldenloop.pipelines.mounting import mounted_command
from goldenloop.pipelines.placeholders import Surroundings, expand, expand_words
from goldenloop.pipelines.python_step import match_python_step
from goldenloop.pipelines.stand_ins import StandIns
from goldenloop.pipelines.step_files import InputArtifact, StepFiles, executor_input
from goldenloop.standards.pipeline_ir import TASK_CONFIG, Component, ResourceSpec
from goldenloop.store.artifacts import Artifacts

_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?(?:[eE]\d+)?)(m|[kKMGTPE]i?|)$")
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


class Flight(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt at a step that is to run, or runs."""

    request_id: str
    run_id: str
    task_id: str
    name: str  # the path of the task
    component: Component
    files: StepFiles
    parameters: JsonObject = {}
    inputs: dict[str, tuple[InputArtifact, ...]] = {}  # `path` is an address until the step is launched
    facts: dict[str, str] = {}
    stand_ins: StandIns = StandIns()
    wanted: Import | None = None  # for an importer: what it makes known


def step_request(flight: Flight, kept: Artifacts, limits: Limits) -> StepRequest:
    """Prepare the files of an attempt and say what is to be run.

    Raises InvalidSpecError for a placeholder or quantity that cannot be read, NotFoundError for an input that is gone,
    OSError.
    """
    flight.files.prepare()
    folder, log = str(flight.files.work), str(flight.files.log)
    if flight.wanted is not None:
        fetch = fetch_command(flight.wanted.uri, flight.files.output(flight.wanted.port))
        return StepRequest(id=flight.request_id, folder=folder, log=log, command=fetch, limits=limits)
    container = flight.component.container
    assert container is not None
    local = {
        port: tuple(msgspec.structs.replace(artifact, path=_local(kept, artifact)) for artifact in artifacts)
        for port, artifacts in flight.inputs.items()
    }
    told = executor_input(flight.component, flight.files, _with_task_config(flight), local)
    surroundings = Surroundings(executor_input=told, facts=flight.facts)
    environment = {
        name: expand(value, surroundings, where=flight.name) for name, value in container.environment.items()
    }
    command = _without_source(container.command, surroundings, flight.name)
    mounts, seconds = flight.stand_ins.mounts, flight.stand_ins.seconds
    return StepRequest(
        id=flight.request_id,
        folder=folder,
        log=log,
        command=mounted_command(mounts, command) if mounts else command,
        args=expand_words(container.args, surroundings, where=flight.name),
        environment={**environment, **flight.stand_ins.environment},
        packages=packages_of(container.command),
        image=expand(container.image, surroundings, where=flight.name) or None,
        resources=_resources(container.resources, surroundings, where=flight.name),
        limits=limits if seconds is None else _shortened(limits, seconds),
    )


def _shortened(limits: Limits, seconds: float) -> Limits:
    return msgspec.structs.replace(limits, seconds=min(seconds, limits.seconds or seconds))


def quantity(text: str, *, where: str) -> float:
    """The number that a Kubernetes quantity means. Raises InvalidSpecError.

    >>> quantity("500m", where="task"), quantity("2Gi", where="task"), quantity("1.5G", where="task")
    (0.5, 2147483648.0, 1500000000.0)
    """
    found = _QUANTITY.match(text.strip())
    if found is None:
        raise InvalidSpecError(f"{text!r} is no quantity", where=where, mend="Write it as 500m, 2 or 4Gi.")
    number, unit = float(found[1]), found[2]
    if unit == "m":
        return number / 1000
    return number * (1024.0 if unit.endswith("i") else 1000.0) ** _POWERS[unit.rstrip("i")]


def _resources(spec: ResourceSpec, surroundings: Surroundings, *, where: str) -> Resources:
    def asked(*texts: str) -> float | None:
        chosen = next((value for text in texts if (value := expand(text, surroundings, where=where))), "")
        return quantity(chosen, where=where) if chosen else None

    memory = asked(spec.memory_limit)
    return Resources(
        processors=asked(spec.processor_limit, spec.processor_request),
        memory_bytes=None if memory is None else int(memory),
        accelerators=int(asked(spec.accelerator_count) or 0),
        accelerator_type=expand(spec.accelerator_type, surroundings, where=where),
    )


def _local(kept: Artifacts, artifact: InputArtifact) -> str:
    """Where an input lies on this machine; what does not lie here keeps its address."""
    if artifact.path.startswith(ADDRESS):
        return str(kept.local(artifact.path))
    if "://" in artifact.path:
        for copy in (f"{ADDRESS}{artifact.digest}", f"{ADDRESS}{artifact.digest}/"):
            if kept.exists(copy):
                return str(kept.local(copy))
    return artifact.path


def _with_task_config(flight: Flight) -> JsonObject:
    """The parameters, with the task's own configuration where a component asks for it."""
    container = flight.component.container
    assert container is not None
    names = [name for name, spec in flight.component.input_parameters.items() if spec.type == TASK_CONFIG]
    if not names:
        return flight.parameters
    environment = {**container.environment, **flight.stand_ins.environment}
    listed: JsonObject = {"env": [{"name": name, "value": value} for name, value in environment.items()]}
    return {**flight.parameters, **dict.fromkeys(names, listed)}


def _without_source(command: tuple[str, ...], surroundings: Surroundings, where: str) -> tuple[str, ...]:
    """Expand a command, but not the source of a Python component: braces in somebody's code are not ours."""
    return command if match_python_step(command) is not None else expand_words(command, surroundings, where=where)
