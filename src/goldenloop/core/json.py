"""JSON values by a name, so that documents need no `Any`. The names are exact to a type checker, and wide to who reads them at run time:
decoders cannot follow a type that contains itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Json: TypeAlias = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
    JsonObject: TypeAlias = dict[str, Json]
else:
    from typing import Any

    Json = Any
    JsonObject = dict[str, Any]
