"""The one file in a `multipart/form-data` body."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP

import msgspec

from goldenloop.core.errors import InvalidSpecError


class UploadedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was sent."""

    name: str
    content: bytes


def read_file(content_type: str, body: bytes, *, field: str) -> UploadedFile:
    """Return the file in this field of the form. Raises InvalidSpecError where there is none."""
    # A multipart body is a MIME message whose header stands in the request's.
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    if message.is_multipart():
        for part in message.iter_parts():
            if part.get_param("name", header="content-disposition") == field:
                content = part.get_payload(decode=True)
                assert isinstance(content, bytes)
                return UploadedFile(name=part.get_filename() or "pipeline.yaml", content=content)
    raise InvalidSpecError(
        f"there is no file in the field {field!r}", where="body", mend="Send it as multipart/form-data."
    )
