"""The messages of `ml_metadata.MetadataStoreService`, and the fields of them that are looked at.

The classes say the types of fields; nothing is ever made of them. Artifacts, executions and contexts have nearly the same fields, so one
class stands for all three; which one it is says which of `uri`, `state` and `last_known_state` are there.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import TypeVar

from goldenloop.standards.mlmd.entities import ENTITIES, ENUMS
from goldenloop.standards.mlmd.requests import CALLS, REQUESTS
from goldenloop.standards.protobuf import Messages, Rpc

MESSAGES = Messages(
    "ml_metadata/proto/metadata_store_service.proto",
    "ml_metadata",
    messages={**ENTITIES, **REQUESTS},
    enums=ENUMS,
    services={"MetadataStoreService": tuple(Rpc(name, f"{name}Request", f"{name}Response") for name in CALLS)},
    has_presence=True,
)

_Message = TypeVar("_Message", covariant=True)


class Repeated(Sequence[_Message]):
    """A repeated field of messages."""

    def add(self) -> _Message:
        """Put an empty message at the end and return it."""
        raise NotImplementedError


class Message:
    """Any message."""

    def HasField(self, name: str) -> bool:  # the library's names
        """Whether a field was set."""
        raise NotImplementedError

    def WhichOneof(self, group: str) -> str | None:
        """The field of a group that was set."""
        raise NotImplementedError

    def SerializeToString(self) -> bytes:
        """The message as it is sent."""
        raise NotImplementedError

    def ParseFromString(self, content: bytes) -> int:
        """Fill the message with what was sent."""
        raise NotImplementedError


class ValueMessage(Message):
    """`Value`."""

    int_value: int
    double_value: float
    string_value: str
    bool_value: bool
    struct_value: Message
    proto_value: Message


class TypeMessage(Message):
    """`ArtifactType`, `ExecutionType`, `ContextType`."""

    id: int
    name: str
    version: str
    description: str
    external_id: str
    properties: MutableMapping[str, int]
    base_type: int
    input_type: Message
    output_type: Message


class NodeMessage(Message):
    """`Artifact`, `Execution`, `Context`."""

    id: int
    name: str
    type_id: int
    type: str
    uri: str
    external_id: str
    properties: Mapping[str, ValueMessage]
    custom_properties: Mapping[str, ValueMessage]
    state: int
    last_known_state: int
    create_time_since_epoch: int
    last_update_time_since_epoch: int


class StepMessage(Message):
    """`Event.Path.Step`."""

    index: int
    key: str


class PathMessage(Message):
    """`Event.Path`."""

    steps: Repeated[StepMessage]


class EventMessage(Message):
    """`Event`."""

    artifact_id: int
    execution_id: int
    path: PathMessage
    type: int
    milliseconds_since_epoch: int


class LinkMessage(Message):
    """`Attribution`, `Association`."""

    artifact_id: int
    execution_id: int
    context_id: int


class ParentMessage(Message):
    """`ParentContext`."""

    child_id: int
    parent_id: int


class OrderMessage(Message):
    """`ListOperationOptions.OrderByField`."""

    field: int
    is_asc: bool


class ListMessage(Message):
    """`ListOperationOptions`."""

    max_result_size: int
    order_by_field: OrderMessage
    next_page_token: str
    filter_query: str


class MaskMessage(Message):
    """`google.protobuf.FieldMask`."""

    paths: Sequence[str]


class GraphMessage(Message):
    """`LineageGraph`."""

    artifact_types: Repeated[TypeMessage]
    execution_types: Repeated[TypeMessage]
    context_types: Repeated[TypeMessage]
    artifacts: Repeated[NodeMessage]
    executions: Repeated[NodeMessage]
    contexts: Repeated[NodeMessage]
    events: Repeated[EventMessage]
    attributions: Repeated[LinkMessage]
    associations: Repeated[LinkMessage]
