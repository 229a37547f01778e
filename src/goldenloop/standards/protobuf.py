"""Protocol Buffers messages from tables, in a pool of their own.

The library keeps one default pool a process, in which a name may be registered once. Client libraries register the messages of the same
protocols there, so ours stay out of it: then they can be imported beside each other.

A table maps a message to its fields, each `NUMBER NAME TYPE`: a scalar type of the language, or a message or enum of the table. `TYPE*`
is a repeated field, `<TYPE>` a map from texts, and `NAME|GROUP` a field of which only one in the group is set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from goldenloop.core.errors import InvalidSpecError

_Shape = TypeVar("_Shape")

_FieldType = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name.removeprefix("TYPE_").lower(): number
    for name, number in _FieldType.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of a service."""

    name: str
    request: str
    response: str
    client_streams: bool = False
    server_streams: bool = False


class Messages:
    """The messages of one file, read and written by name; `description` is the file for those who ask by reflection."""

    def __init__(
        self,
        file: str,
        package: str,
        *,
        messages: Mapping[str, Sequence[str]],
        enums: Mapping[str, Sequence[str]],
        services: Mapping[str, Sequence[Rpc]],
    ) -> None:
        described = descriptor_pb2.FileDescriptorProto(name=file, package=package, syntax="proto3")
        for name, values in enums.items():
            enum = described.enum_type.add(name=name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
        made: dict[str, descriptor_pb2.DescriptorProto] = {}
        for name, fields in messages.items():
            parent = made.get(name.rpartition(".")[0])
            message = described.message_type.add() if parent is None else parent.nested_type.add()
            message.name = name.rpartition(".")[2]
            made[name] = message
            for field in fields:
                _add_field(message, field, f".{package}.", name, enums)
        for name, methods in services.items():
            service = described.service.add(name=name)
            for rpc in methods:
                service.method.add(
                    name=rpc.name,
                    input_type=f".{package}.{rpc.request}",
                    output_type=f".{package}.{rpc.response}",
                    client_streaming=rpc.client_streams,
                    server_streaming=rpc.server_streams,
                )
        pool = descriptor_pool.DescriptorPool()
        pool.Add(described)
        self.file = file
        self.description: bytes = described.SerializeToString()
        self.services = tuple(f"{package}.{name}" for name in services)
        self._prefix = f"{package}."
        self._classes = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages
        }

    def read(self, content: bytes | bytearray, name: str, shape: type[_Shape]) -> _Shape:  # noqa: ARG002
        """Read a message. `shape` is a class that says which of its fields are looked at, and of what type they are.

        Raises InvalidSpecError.
        """
        try:
            message: _Shape = self._classes[name].FromString(content)
        except DecodeError as error:
            raise InvalidSpecError(
                f"it is no {name}: {error}", where="message", mend="Send it as the protocol has it."
            ) from error
        return message

    def has(self, symbol: str) -> bool:
        """Whether a message, a service or a method of this full name is in the file."""
        name = symbol.removeprefix(self._prefix)
        return symbol.startswith(self._prefix) and (name in self._classes or self._names_service(symbol))

    def _names_service(self, symbol: str) -> bool:
        return symbol in self.services or symbol.rpartition(".")[0] in self.services

    def write(self, name: str, /, **fields: object) -> bytes:
        """Write a message; messages within it may be dicts."""
        written: bytes = self._classes[name](**fields).SerializeToString()
        return written

    def write_document(self, name: str, document: Mapping[str, object]) -> bytes:
        """Write a message of what its JSON form says; fields that it does not have are left out."""
        message = self._classes[name]()
        json_format.ParseDict(document, message, ignore_unknown_fields=True)
        written: bytes = message.SerializeToString()
        return written


def _add_field(
    message: descriptor_pb2.DescriptorProto, text: str, prefix: str, owner: str, enums: Mapping[str, Sequence[str]]
) -> None:
    number, name, kind = text.split()
    name, _, group = name.partition("|")
    field = message.field.add(name=name, number=int(number), label=_FieldType.LABEL_OPTIONAL)
    if kind.startswith("<"):
        entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_FieldType.LABEL_OPTIONAL, type=_FieldType.TYPE_STRING)
        value = entry.field.add(name="value", number=2, label=_FieldType.LABEL_OPTIONAL)
        _set_type(value, kind.strip("<>"), prefix, enums)
        field.label = _FieldType.LABEL_REPEATED
        field.type = _FieldType.TYPE_MESSAGE
        field.type_name = f"{prefix}{owner}.{entry.name}"
        return
    if kind.endswith("*"):
        field.label = _FieldType.LABEL_REPEATED
    _set_type(field, kind.rstrip("*"), prefix, enums)
    if group:
        if group not in [each.name for each in message.oneof_decl]:
            message.oneof_decl.add(name=group)
        field.oneof_index = [each.name for each in message.oneof_decl].index(group)


def _set_type(
    field: descriptor_pb2.FieldDescriptorProto, kind: str, prefix: str, enums: Mapping[str, Sequence[str]]
) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _FieldType.TYPE_ENUM if kind in enums else _FieldType.TYPE_MESSAGE
        field.type_name = prefix + kind
