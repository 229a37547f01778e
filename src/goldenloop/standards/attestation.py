"""Attestations: an in-toto statement (v1) with SLSA provenance (v1) in a DSSE envelope, as a Sigstore bundle (v0.3) carries it.

What is signed is the pre-authentication encoding of DSSE, so neither the type nor the bytes of the statement can be exchanged. Nothing here
holds a key: a bundle is made of a statement and its signature, and taken apart into both.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A thing that a statement is about, by its SHA-256 in hex."""

    name: str
    sha256: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle holds: the bytes that were stated, their signature, and the name of the key."""

    payload: bytes
    signature: bytes
    key: str


def statement(subjects: tuple[Subject, ...], provenance: JsonObject) -> bytes:
    """The statement that these subjects came about in this way, as bytes to be signed."""
    about: list[Json] = [{"name": each.name, "digest": {"sha256": each.sha256}} for each in subjects]
    said = {
        "_type": STATEMENT_TYPE,
        "subject": about,
        "predicateType": PROVENANCE_TYPE,
        "predicate": provenance,
    }
    return msgspec.json.encode(said, order="deterministic")


def to_be_signed(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """The pre-authentication encoding of DSSE v1.

    >>> to_be_signed(b"hello world", "http://example.com/HelloWorld")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def bundle(envelope: Envelope) -> JsonObject:
    """The bundle as JSON."""
    return {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": envelope.key}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(envelope.payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(envelope.signature).decode(), "keyid": envelope.key}],
        },
    }


def read_bundle(document: object) -> Envelope:
    """Take a bundle apart. Raises InvalidSpecError where it is none, or one with another payload or several signatures."""
    try:
        assert isinstance(document, dict)
        assert document["mediaType"] == BUNDLE_TYPE
        inner = document["dsseEnvelope"]
        assert inner["payloadType"] == PAYLOAD_TYPE
        (signature,) = inner["signatures"]
        return Envelope(
            payload=base64.b64decode(inner["payload"], validate=True),
            signature=base64.b64decode(signature["sig"], validate=True),
            key=str(document["verificationMaterial"]["publicKey"]["hint"]),
        )
    except (AssertionError, KeyError, TypeError, ValueError, binascii.Error):
        raise InvalidSpecError(
            "it is no Sigstore bundle with one signed in-toto statement", where="bundle", mend="Read it again."
        ) from None


def subjects_of(payload: bytes) -> dict[str, str]:
    """What a statement is about: the SHA-256 by name. Raises InvalidSpecError where it is no statement."""
    try:
        said = msgspec.json.decode(payload)
        if said["_type"] != STATEMENT_TYPE:
            raise InvalidSpecError(f"it is a {said['_type']!r}", where="bundle", mend=f"Known: {STATEMENT_TYPE}.")
        return {str(each["name"]): str(each["digest"]["sha256"]) for each in said["subject"]}
    except (msgspec.DecodeError, KeyError, TypeError):
        raise InvalidSpecError("what was signed is no in-toto statement", where="bundle") from None


def run_of(payload: bytes) -> str | None:
    """The run that a statement names as where its subjects came about."""
    named = msgspec.json.decode(payload).get("predicate", {}).get("runDetails", {}).get("metadata", {})
    run = named.get("invocationId")
    return None if run is None else str(run)
