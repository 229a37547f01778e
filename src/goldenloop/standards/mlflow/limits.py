"""MLflow's limits on what may be logged, and how it writes numbers that JSON has no form for."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Final

from goldenloop.core.errors import InvalidSpecError

LONGEST_KEY: Final = 250  # of a metric, a param, a tag
LONGEST_PARAM: Final = 6_000
LONGEST_TAG: Final = 8_000
LONGEST_EXPERIMENT_TAG: Final = 20_000
LONGEST_REGISTRY_TAG: Final = 100_000
LONGEST_EXPERIMENT_NAME: Final = 500
LONGEST_MODEL_NAME: Final = 256
LONGEST_ALIAS: Final = 255
MOST_METRICS: Final = 1_000  # in a batch
MOST_PARAMS: Final = 100
MOST_TAGS: Final = 100
MOST_IN_BATCH: Final = 1_000
LARGEST_INTEGER: Final = (1 << 63) - 1
LONGEST_TEXT: Final = 65_535  # descriptions, sources
LONGEST_SCHEMA: Final = 1_048_575
LONGEST_PROFILE: Final = 16_777_215

_KEY: Final = re.compile(r"[/\w.\- :]+")
_ALIAS: Final = re.compile(r"[\w\-]+")
_LIKE_VERSION: Final = re.compile(r"[vV]\d+")
_UNSAFE: Final = re.compile(r"(^|/)\.{1,2}(/|$)|//|^/|/$")
_WORDS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def check_key(key: str, *, where: str, what: str) -> None:
    """Refuse a name of a metric, a param or a tag that MLflow refuses: clients make paths of them. Raises InvalidSpecError."""
    if not key:
        raise InvalidSpecError(f"the {what} has no name", where=where, mend="Give it one.")
    if len(key) > LONGEST_KEY:
        raise InvalidSpecError(
            f"the name {key[:40]!r}… of a {what} has {len(key)} characters", where=where, mend=f"At most {LONGEST_KEY}."
        )
    if not _is_fit(key):
        raise InvalidSpecError(
            f"{key!r} cannot name a {what}",
            where=where,
            mend="Use letters, digits, '_', '-', '.', ' ', ':' and '/', and no path that leads elsewhere.",
        )


@lru_cache(maxsize=4_096)  # the same few are asked for again and again
def _is_fit(key: str) -> bool:
    return bool(_KEY.fullmatch(key)) and not _UNSAFE.search(key)


def check_length(value: str, limit: int, *, where: str) -> None:
    """Refuse a text that is too long, or that no database keeps. Raises InvalidSpecError."""
    if len(value) > limit:
        raise InvalidSpecError(f"it has {len(value)} characters", where=where, mend=f"At most {limit}.")
    if "\0" in value:
        raise InvalidSpecError("there is a character U+0000, which no database keeps", where=where, mend="Remove it.")


def check_count(count: int, limit: int, *, where: str) -> None:
    """Refuse a batch that is too large. Raises InvalidSpecError."""
    if count > limit:
        raise InvalidSpecError(f"there are {count} in one batch", where=where, mend=f"Send at most {limit} at a time.")


def check_integer(value: int, *, where: str) -> None:
    """Refuse what is no 64-bit integer. Raises InvalidSpecError."""
    if not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER:
        raise InvalidSpecError("it does not fit into 64 bits", where=where)


def check_alias(alias: str, *, where: str = "alias") -> None:
    """Refuse an alias that would be read as something else. Raises InvalidSpecError."""
    if not _ALIAS.fullmatch(alias) or len(alias) > LONGEST_ALIAS:
        raise InvalidSpecError(
            f"{alias[:100]!r} cannot be an alias",
            where=where,
            mend=f"Use letters, digits, '_' and '-', at most {LONGEST_ALIAS} of them.",
        )
    if alias.lower() == "latest" or _LIKE_VERSION.fullmatch(alias):
        raise InvalidSpecError(f"{alias!r} would be read as a version", where=where, mend="Choose another alias.")


def check_model_name(name: str, *, where: str = "name") -> None:
    """Refuse a name of a registered model that could not stand in `models:/NAME/1`. Raises InvalidSpecError."""
    if not name.strip() or len(name) > LONGEST_MODEL_NAME or any(sign in name for sign in "/:\0"):
        raise InvalidSpecError(
            f"{name[:100]!r} cannot name a registered model",
            where=where,
            mend=f"Use 1 to {LONGEST_MODEL_NAME} characters without '/' and ':'.",
        )


def read_number(value: float | str, *, where: str) -> float:
    """A number as MLflow writes it in JSON: texts stand for what is not finite. Raises InvalidSpecError.

    >>> read_number("-Infinity", where="value"), read_number("0.5", where="value")
    (-inf, 0.5)
    """
    if isinstance(value, str):
        if value in _WORDS:
            return _WORDS[value]
        try:
            return float(value)
        except ValueError:
            raise InvalidSpecError(f"{value[:60]!r} is not a number", where=where) from None
    return float(value)


def write_number(value: float) -> float | str:
    """A number as MLflow's clients read it in JSON.

    >>> write_number(float("nan")), write_number(1.5)
    ('NaN', 1.5)
    """
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
