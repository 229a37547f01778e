"""Protocol Buffers messages from tables, in a pool of their own.

The library keeps one default pool a process, in which a name may be registered once. Client libraries register the messages of the same
protocols there, so ours stay out of it: then they can be imported beside each other.

A table maps a message to its fields, each `NUMBER NAME TYPE`: a scalar type of the language, or a message or enum of the table, or one of
the library's own (`google.protobuf.Struct`). `TYPE*` is a repeated field, `<TYPE>` a map from texts, `<KEY:TYPE>` one from another scalar,
`NAME|GROUP` a field of which only one in the group is set, and `TYPE =VALUE` one that has this value where nothing was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf import (  # type: ignore[import-untyped]
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    field_mask_pb2,
    json_format,
    message_factory,
    struct_pb2,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from goldenloop.core.errors import InvalidSpecError

_Shape = TypeVar("_Shape")

_FieldType = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name.removeprefix("TYPE_").lower(): number
    for name, number in _FieldType.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}
_LIBRARY = "google.protobuf."
_LIBRARY_FILES = (any_pb2.DESCRIPTOR, field_mask_pb2.DESCRIPTOR, struct_pb2.DESCRIPTOR)


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of a service."""

    name: str
    request: str
    response: str
    client_streams: bool = False
    server_streams: bool = False


class Messages:
    """The messages of one file, read and written by name; `description` is the file for those who ask by reflection.

    With `has_presence`, every field knows whether it was set, and not only messages do.
    """

    def __init__(
        self,
        file: str,
        package: str,
        *,
        messages: Mapping[str, Sequence[str]],
        enums: Mapping[str, Sequence[str]],
        services: Mapping[str, Sequence[Rpc]],
        has_presence: bool = False,
    ) -> None:
        described = descriptor_pb2.FileDescriptorProto(name=file, package=package, syntax="proto3")
        if has_presence:
            # As the second version of the language, but that texts must be UTF-8.
            described.syntax, described.edition = "editions", descriptor_pb2.EDITION_2023
        uses_library = any(_LIBRARY in field for fields in messages.values() for field in fields)
        if uses_library:
            described.dependency.extend(each.name for each in _LIBRARY_FILES)
        made: dict[str, descriptor_pb2.DescriptorProto] = {}
        for name, fields in messages.items():
            parent = made.get(name.rpartition(".")[0])
            message = described.message_type.add() if parent is None else parent.nested_type.add()
            message.name = name.rpartition(".")[2]
            made[name] = message
            for field in fields:
                _add_field(message, field, f".{package}.", name, enums)
        for name, values in enums.items():  # `Message.Enum` is one within a message
            owner = made.get(name.rpartition(".")[0])
            enum = (described if owner is None else owner).enum_type.add(name=name.rpartition(".")[2])
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
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
        if uses_library:
            for library_file in _LIBRARY_FILES:
                pool.AddSerializedFile(library_file.serialized_pb)
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

    def new(self, name: str, shape: type[_Shape]) -> _Shape:  # noqa: ARG002
        """An empty message to fill. `shape` says which of its fields are set, as in `read`."""
        message: _Shape = self._classes[name]()
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
    number, name, kind, *default = text.split()
    name, _, group = name.partition("|")
    field = message.field.add(name=name, number=int(number), label=_FieldType.LABEL_OPTIONAL)
    if default:
        field.default_value = default[0].removeprefix("=")
    if kind.startswith("<"):
        entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        key, _, of = kind.strip("<>").rpartition(":")
        entry.field.add(name="key", number=1, label=_FieldType.LABEL_OPTIONAL, type=_SCALARS[key or "string"])
        value = entry.field.add(name="value", number=2, label=_FieldType.LABEL_OPTIONAL)
        _set_type(value, of, prefix, enums)
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
    elif kind.startswith(_LIBRARY):
        field.type = _FieldType.TYPE_MESSAGE
        field.type_name = f".{kind}"
    else:
        field.type = _FieldType.TYPE_ENUM if kind in enums else _FieldType.TYPE_MESSAGE
        field.type_name = prefix + kind
