"""What is kept for explanations (`explain.json`), and what an explanation is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Signature
from goldenloop.stats.attributions import Attribution

EXPLAIN_FILE = "explain.json"
BACKGROUND_FILE = "background.parquet"

Background = Literal["training rows", "made-up rows"]
Library = Literal["xgboost", "lightgbm"]
Method = Literal["linear", "trees", "sampled"]
Vector: TypeAlias = tuple[float, ...]  # a number for each score of the model


class LinearColumn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a column adds to the scores, compared with a row in which it is zero or some one category.

    A number adds `slope` times itself; a category what `values` says, or `unknown` where the model never saw it. `missing` is what a
    missing value adds. None: the model takes no such value. `usual` is the mean over the background.
    """

    name: str
    slope: Vector = ()
    values: dict[str, Vector] = {}
    unknown: Vector | None = None
    missing: Vector | None = None
    usual: Vector


class Linear(msgspec.Struct, frozen=True, kw_only=True, tag="linear"):
    """A model whose scores are sums over its columns: a linear model, with whatever prepares each column for it.

    `usual` are the mean scores over the background. Of two classes there is one score, that of the second. `is_logistic` says that it is
    the logarithm of the odds.
    """

    usual: Vector
    columns: tuple[LinearColumn, ...]
    is_logistic: bool = False


class Trees(msgspec.Struct, frozen=True, kw_only=True, tag="trees"):
    """Boosted trees, kept in their own `file`. `is_value` says that their score is the value itself, and not one that is transformed."""

    library: Library
    file: str
    is_value: bool = False


class Explainer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a version is explained. `form` is None where it is sampled; `background` says what the rows of what is usual are."""

    background: Background = "training rows"
    form: Linear | Trees | None = None


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """One answer explained: what each column added to `usual` to make it `score`, the largest first. `of` says what is scored,
    `against` what is usual.
    """

    attributions: tuple[Attribution, ...]
    score: float
    usual: float
    of: str
    method: Method = "sampled"
    against: str = "training rows"


def read_explainer(folder: Path) -> Explainer:
    """Return how a version is explained; one without the file is sampled. Raises InvalidSpecError for a broken file."""
    path = folder / EXPLAIN_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Explainer)
    except FileNotFoundError:
        return Explainer()
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidSpecError(
            f"not an explainer: {error}", where=str(path), mend="Apply the service again, or run the loop."
        ) from error


def explained_by_parts(parts: list[Attribution], *, usual: float, of: str, method: Method, against: str) -> Explained:
    """Put the parts in order; the score is what they add up to."""
    return Explained(
        attributions=tuple(sorted(parts, key=lambda part: -abs(part.contribution))),
        score=usual + sum(part.contribution for part in parts),
        usual=usual,
        of=of,
        method=method,
        against=against,
    )


def chosen_score(signature: Signature, answer: str | float, scores: int) -> tuple[int, float]:
    """Return which of a model's scores speaks for an answer, and its sign. Raises InvalidSpecError for a class that it does not know."""
    if signature.task == "regression" or not signature.classes:
        return 0, 1.0
    if str(answer) not in signature.classes:
        raise InvalidSpecError(f"the model knows no class {answer!r}", where="answer")
    place = signature.classes.index(str(answer))
    if scores == 1:
        return 0, 1.0 if place == 1 else -1.0
    return place, 1.0
