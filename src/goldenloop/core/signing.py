"""Whose file it is: an installation signs what its own runs made and what its operator trusts, with a key that never leaves it.

A signature is the HMAC-SHA256 of a digest under the installation's key, in hex.
"""

from __future__ import annotations

import hmac

KEY_BYTES = 32


def sign(key: bytes, digest: str) -> str:
    """Return the signature of a digest.

    >>> sign(b"k", "d") == sign(b"k", "d"), sign(b"k", "d") == sign(b"other", "d")
    (True, False)
    """
    return hmac.digest(key, digest.encode(), "sha256").hex()


def is_signed(key: bytes, digest: str, signature: str) -> bool:
    """Whether this is the signature of the digest under the key."""
    return hmac.compare_digest(sign(key, digest), signature)
