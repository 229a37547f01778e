"""What a pipeline's specification says, as frozen records."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from goldenloop.core.clock import HOUR
from goldenloop.core.json import Json, JsonObject

ParameterType = Literal[
    "STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "LIST", "STRUCT", "TASK_FINAL_STATUS", "TASK_CONFIG"
]
FINAL_STATUS: ParameterType = "TASK_FINAL_STATUS"  # filled with how another task ended
TASK_CONFIG: ParameterType = "TASK_CONFIG"  # filled with how the task itself is configured


class ParameterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter that a component takes or gives. `literals`: the only values allowed, all where it is empty."""

    name: str
    type: ParameterType
    optional: bool = False
    has_default: bool = False
    default: Json = None
    literals: tuple[Json, ...] = ()


class ArtifactSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact, or a list of them, that a component takes or gives; `type` is a schema title such as `system.Model`."""

    name: str
    type: str
    version: str = "0.0.1"
    optional: bool = False
    is_list: bool = False
    metadata: JsonObject = {}


class Constant(msgspec.Struct, frozen=True):
    """A value written in the pipeline. A text may hold placeholders of the task's own inputs."""

    value: Json


class FromScope(msgspec.Struct, frozen=True):
    """The input of this name of the scope in which the task stands."""

    name: str


class FromTask(msgspec.Struct, frozen=True):
    """The output of this name of a task in the same scope."""

    task: str
    name: str


class FinalStatusOf(msgspec.Struct, frozen=True):
    """How a task in the same scope ended."""

    task: str


class OneOf(msgspec.Struct, frozen=True):
    """The first of several outputs whose task succeeded: what an if with an else gives."""

    choices: tuple[FromTask, ...]


ParameterBinding: TypeAlias = Constant | FromScope | FromTask | FinalStatusOf
ArtifactBinding: TypeAlias = FromScope | FromTask
Output: TypeAlias = FromTask | OneOf


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often a failed step is tried again, and the pause before it: first * factor ** (failures - 1), at most
    `longest_us`.
    """

    retries: int = 0
    first_us: int = 0
    factor: float = 2.0
    longest_us: int = HOUR

    def pause_us(self, failures: int) -> int:
        """The pause after so many failures, 1 or more.

        >>> RetryPolicy(retries=3, first_us=10, factor=2.0, longest_us=30).pause_us(3)
        30
        """
        if self.first_us == 0:
            return 0
        try:
            return int(min(self.first_us * self.factor ** (failures - 1), self.longest_us))
        except OverflowError:
            return self.longest_us


class ResourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a container asks of a machine, as Kubernetes quantities (`500m`, `2Gi`); a text may hold a placeholder."""

    processor_limit: str = ""
    processor_request: str = ""
    memory_limit: str = ""
    memory_request: str = ""
    accelerator_type: str = ""
    accelerator_count: str = ""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """What a leaf component runs: a command line with placeholders."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    environment: dict[str, str] = {}
    resources: ResourceSpec = ResourceSpec()


class Importer(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that lies somewhere and is to be known here. The address is a text, or the input named `uri_from`.

    `reimport`: make a new record even where the same artifact was imported before.
    """

    uri: str = ""
    uri_from: str = ""
    metadata: JsonObject = {}
    reimport: bool = False
    to_workspace: bool = False


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """A task that is done once for each of several items, in any order, at most `parallel` at a time (0: no limit).

    The items are written in the pipeline (`items`) or are the input named `items_from`; each is given as input `item`.
    """

    item: str
    over: Literal["parameters", "artifacts"] = "parameters"
    items: tuple[Json, ...] | None = None
    items_from: str = ""
    parallel: int = 0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One use of a component in a scope.

    `selectors`: expressions that take a part of an input parameter's value. `condition`: an expression over the inputs;
    where it is false the task is skipped. `whatever_happened`: it starts when what it waits for has ended, however that
    ended.
    """

    name: str
    component: str
    parameters: dict[str, ParameterBinding] = {}
    artifacts: dict[str, ArtifactBinding] = {}
    selectors: dict[str, str] = {}
    after: tuple[str, ...] = ()
    condition: str = ""
    whatever_happened: bool = False
    loop: Loop | None = None
    caching: bool = False
    cache_key: str = ""
    retry: RetryPolicy = RetryPolicy()


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that see each other, and which of their outputs are those of the whole."""

    tasks: dict[str, Task]
    parameters: dict[str, Output] = {}
    artifacts: dict[str, Output] = {}


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """What takes inputs and gives outputs: a container, an importer or a scope, exactly one of the three.

    `executor` is the label under which platforms say more about it.
    """

    name: str
    input_parameters: dict[str, ParameterSpec] = {}
    input_artifacts: dict[str, ArtifactSpec] = {}
    output_parameters: dict[str, ParameterSpec] = {}
    output_artifacts: dict[str, ArtifactSpec] = {}
    executor: str = ""
    container: Container | None = None
    importer: Importer | None = None
    scope: Scope | None = None


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline: its root component, whose scope holds the tasks, and all components by name."""

    name: str
    root: Component
    components: dict[str, Component]

    @property
    def root_scope(self) -> Scope:
        """The outermost tasks."""
        assert self.root.scope is not None
        return self.root.scope
