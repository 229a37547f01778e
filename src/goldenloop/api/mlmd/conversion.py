"""Messages of ML Metadata ↔ records of the lineage graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from goldenloop.core.errors import InvalidSpecError
from goldenloop.lineage.graph.listing import Order, Page
from goldenloop.lineage.graph.records import MILLISECOND, Event, Kind, Node, NodeType, Packed, PropertyType, Value
from goldenloop.standards.mlmd.messages import (
    EventMessage,
    ListMessage,
    NodeMessage,
    TypeMessage,
    ValueMessage,
)

_STATE: Final = {Kind.ARTIFACT: "state", Kind.EXECUTION: "last_known_state"}


def node_of(kind: Kind, message: NodeMessage) -> Node:
    """An artifact, an execution or a context, as it was sent."""
    has = message.HasField
    state = _STATE.get(kind)
    return Node(
        id=message.id if has("id") else None,
        type_id=message.type_id if has("type_id") else None,
        name=message.name if has("name") else None,
        external_id=message.external_id if has("external_id") else None,
        uri=message.uri if kind is Kind.ARTIFACT and has("uri") else None,
        state=int(getattr(message, state)) if state and has(state) else None,
        properties=_values(message.properties),
        custom=_values(message.custom_properties),
        updated_us=message.last_update_time_since_epoch * MILLISECOND,
    )


def write_node(kind: Kind, node: Node, message: NodeMessage) -> None:
    """Fill a message."""
    assert node.id is not None
    assert node.type_id is not None
    message.id = node.id
    message.type_id = node.type_id
    message.type = node.type
    if node.name is not None:
        message.name = node.name
    if node.external_id is not None:
        message.external_id = node.external_id
    if node.uri is not None:
        message.uri = node.uri
    if node.state is not None:
        setattr(message, _STATE[kind], node.state)
    message.create_time_since_epoch = node.created_us // MILLISECOND
    message.last_update_time_since_epoch = node.updated_us // MILLISECOND
    for name, value in node.properties.items():
        _write_value(value, message.properties[name])
    for name, value in node.custom.items():
        _write_value(value, message.custom_properties[name])


def type_of(kind: Kind, message: TypeMessage) -> NodeType:
    """A type, as it was sent."""
    has = message.HasField
    structured = kind is Kind.EXECUTION
    return NodeType(
        name=message.name,
        version=message.version,
        description=message.description if has("description") else None,
        external_id=message.external_id if has("external_id") and message.external_id else None,
        base=int(message.base_type) if has("base_type") else None,
        properties=dict(message.properties),
        input_type=message.input_type.SerializeToString() if structured and has("input_type") else None,
        output_type=message.output_type.SerializeToString() if structured and has("output_type") else None,
    )


def write_type(node_type: NodeType, message: TypeMessage) -> None:
    """Fill a message."""
    assert node_type.id is not None
    message.id = node_type.id
    message.name = node_type.name
    if node_type.version:
        message.version = node_type.version
    if node_type.description is not None:
        message.description = node_type.description
    if node_type.external_id is not None:
        message.external_id = node_type.external_id
    if node_type.base is not None:
        message.base_type = node_type.base
    message.properties.update(node_type.properties)
    if node_type.input_type is not None:
        message.input_type.ParseFromString(node_type.input_type)
    if node_type.output_type is not None:
        message.output_type.ParseFromString(node_type.output_type)


def event_of(message: EventMessage, *, artifact_id: int | None = None, execution_id: int | None = None) -> Event:
    """An event, as it was sent; ends that it does not name are those that are given. Raises InvalidSpecError where one is missing."""
    has = message.HasField
    artifact = message.artifact_id if has("artifact_id") else artifact_id
    execution = message.execution_id if has("execution_id") else execution_id
    if artifact is None:
        raise InvalidSpecError("No artifact id is specified", where="event", mend="Give artifact_id.")
    if execution is None:
        raise InvalidSpecError("No execution id is specified", where="event", mend="Give execution_id.")
    steps = [step.key if step.HasField("key") else step.index for step in message.path.steps]
    return Event(
        artifact_id=artifact,
        execution_id=execution,
        type=int(message.type),
        milliseconds=message.milliseconds_since_epoch if has("milliseconds_since_epoch") else None,
        path=tuple(steps) if steps else None,
    )


def write_event(event: Event, message: EventMessage) -> None:
    """Fill a message."""
    message.artifact_id = event.artifact_id
    message.execution_id = event.execution_id
    message.type = event.type
    if event.milliseconds is not None:
        message.milliseconds_since_epoch = event.milliseconds
    for step in event.path or ():
        written = message.path.steps.add()
        if isinstance(step, str):
            written.key = step
        else:
            written.index = step


def page_of(message: ListMessage) -> Page:
    """Which page is asked for. Raises InvalidSpecError for an order that there is not."""
    order = message.order_by_field
    if order.field not in Order.__members__.values():
        raise InvalidSpecError(
            "Unsupported field specified in ListOperationOptions",
            where="order_by_field",
            mend="Order by CREATE_TIME, LAST_UPDATE_TIME or ID.",
        )
    return Page(
        size=message.max_result_size,
        order=Order(order.field),
        ascending=order.is_asc,
        token=message.next_page_token,
        filter_query=message.filter_query,
    )


def _values(given: Mapping[str, ValueMessage]) -> dict[str, Value | None]:
    return {name: _value(message) for name, message in given.items()}


def _value(message: ValueMessage) -> Value | None:
    field = message.WhichOneof("value")
    if field is None:
        return None
    if field == "struct_value":
        return Packed(PropertyType.STRUCT, message.struct_value.SerializeToString())
    if field == "proto_value":
        return Packed(PropertyType.PROTO, message.proto_value.SerializeToString())
    value: Value = getattr(message, field)
    return value


def _write_value(value: Value | None, message: ValueMessage) -> None:
    if isinstance(value, str):
        message.string_value = value
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif value is not None:
        (message.struct_value if value.kind is PropertyType.STRUCT else message.proto_value).ParseFromString(
            value.content
        )
