"""Reading what is in a folder; light, because the host does it too."""

from __future__ import annotations

from pathlib import Path

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.served import SERVED_FILE, ServedForm


def read_served_form(folder: Path) -> ServedForm:
    """Return what a folder says is in it. Raises InvalidSpecError."""
    path = folder / SERVED_FILE
    try:
        form = msgspec.json.decode(path.read_bytes(), type=ServedForm)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise InvalidSpecError(
            f"not a served form: {error}", where=str(path), mend="Apply the service again."
        ) from error
    if form.form == "table" and form.signature is None:
        raise InvalidSpecError("a table needs a signature", where=str(path), mend="Apply the service again.")
    return form
