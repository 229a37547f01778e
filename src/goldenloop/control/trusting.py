"""Model files that run code when they are loaded, and that the operator accepts: known by the SHA-256 of their content.

Trust is given before a model is examined, and counts from the next look on. What has been accepted is signed and stays served when the
trust is taken back; delete its service to end it.
"""

from __future__ import annotations

import re

import msgspec

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.lineage import audit
from goldenloop.store import memories
from goldenloop.store.database import Database, Transaction

MEMORY = "trusted"
MOST_TRUSTED = 10_000  # digests
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Trusted(msgspec.Struct, frozen=True, kw_only=True):
    """A digest that is accepted, why, and since when."""

    digest: str
    reason: str
    since_us: int


class TrustedModels(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, the newest last."""

    models: tuple[Trusted, ...] = ()


def trusted_models(transaction: Transaction) -> tuple[Trusted, ...]:
    """What is accepted."""
    remembered = memories.recall(transaction, "", "", MEMORY, TrustedModels)
    return () if remembered is None else remembered.models


def trusted_digests(database: Database) -> tuple[str, ...]:
    """The digests of what is accepted, in order."""
    with database.read() as transaction:
        return tuple(sorted(each.digest for each in trusted_models(transaction)))


def trust(transaction: Transaction, digest: str, *, reason: str, now_us: int) -> Trusted:
    """Accept a digest; one that is accepted already stays as it is. Raises InvalidSpecError for what is no digest."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidSpecError(
            f"{digest[:80]!r} is not a SHA-256 digest",
            where="digest",
            mend="Give the 64 hexadecimal digits that the refusal names, or the file itself.",
        )
    present = trusted_models(transaction)
    for each in present:
        if each.digest == digest:
            return each
    if len(present) >= MOST_TRUSTED:
        raise InvalidSpecError(f"{len(present)} digests are trusted already", mend="Take trust back from some first.")
    new = Trusted(digest=digest, reason=reason, since_us=now_us)
    memories.remember(transaction, "", "", MEMORY, TrustedModels(models=(*present, new)))
    audit.record(
        transaction, audit.Deed(action="trust", kind="Model", name=digest, facts={"reason": reason}), now_us=now_us
    )
    return new


def distrust(transaction: Transaction, digest: str, *, now_us: int) -> None:
    """Take trust back. Raises NotFoundError where there was none."""
    present = trusted_models(transaction)
    left = tuple(each for each in present if each.digest != digest)
    if len(left) == len(present):
        raise NotFoundError(f"{digest[:80]!r} is not trusted", where="digest", mend="See: goldenloop trust.")
    memories.remember(transaction, "", "", MEMORY, TrustedModels(models=left))
    audit.record(transaction, audit.Deed(action="distrust", kind="Model", name=digest), now_us=now_us)
