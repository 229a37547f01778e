"""Keeping, beside a served form, what its explanations need."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from goldenloop.core.signatures import Signature
from goldenloop.serving.conversion.estimators import Estimator
from goldenloop.serving.explanations.linear import linear_form
from goldenloop.serving.explanations.records import (
    BACKGROUND_FILE,
    EXPLAIN_FILE,
    Background,
    Explainer,
    Library,
    Linear,
    Trees,
)
from goldenloop.serving.explanations.trees import trees_form

if TYPE_CHECKING:
    import pyarrow

BACKGROUND_ROWS = 100
_SEED = 11
_BOOSTER = "booster"  # the name of the file of one that was inside an estimator


def keep_explainer(
    out: Path,
    signature: Signature,
    sample: pyarrow.Table,
    *,
    background: Background,
    estimator: Estimator | None = None,
    booster: tuple[Path, Library] | None = None,
) -> Explainer:
    """Write `explain.json` and `background.parquet` into a served form; boosted trees keep their own file there too.

    `estimator` is the model as it was saved, `booster` the file of one that was saved without scikit-learn's interface. The sample holds
    rows as the model takes them; some of them are the background.
    """
    import pyarrow.parquet as pq

    rows = _some(sample.select(list(signature.names)))
    pq.write_table(rows, out / BACKGROUND_FILE, compression="zstd")
    form: Linear | Trees | None = None
    if booster is not None:
        form = _kept_trees(*booster, sample, signature, out)
    elif estimator is not None:
        form = _trees_of(estimator, sample, signature, out) or linear_form(estimator, signature, sample, rows)
    explainer = Explainer(background=background, form=form)
    (out / EXPLAIN_FILE).write_bytes(msgspec.json.encode(explainer))
    return explainer


def _some(rows: pyarrow.Table) -> pyarrow.Table:
    """A few rows, drawn alike each time; those with nothing missing, where there are enough."""
    import pyarrow

    frame = rows.to_pandas()
    complete = np.flatnonzero(frame.notna().all(axis=1).to_numpy())
    places = (
        complete if len(complete) >= BACKGROUND_ROWS and len(complete) > rows.num_rows / 2 else np.arange(len(frame))
    )
    chosen = np.random.default_rng(_SEED).permutation(places)[:BACKGROUND_ROWS]
    return rows.take(pyarrow.array(np.sort(chosen)))


def _kept_trees(path: Path, library: Library, sample: pyarrow.Table, signature: Signature, out: Path) -> Trees | None:
    """Keep a booster's file in the served form, if it can be asked there for contributions; the model's own file stays anyway."""
    kept = out / path.name
    if kept != path:
        shutil.copyfile(path, kept)
    form = trees_form(kept, library, sample.select(list(signature.names)))
    if form is None and kept.stem == _BOOSTER:
        kept.unlink()
    return form


def _trees_of(estimator: Estimator, sample: pyarrow.Table, signature: Signature, out: Path) -> Trees | None:
    """The booster inside an estimator of LightGBM's or XGBoost's own; one behind other steps gets other columns."""
    module = type(estimator).__module__.partition(".")[0]
    if module == "lightgbm" and hasattr(estimator, "booster_"):
        path = out / f"{_BOOSTER}.txt"
        estimator.booster_.save_model(str(path))
        return _kept_trees(path, "lightgbm", sample, signature, out)
    if module == "xgboost" and hasattr(estimator, "get_booster"):
        path = out / f"{_BOOSTER}.ubj"
        estimator.get_booster().save_model(str(path))
        return _kept_trees(path, "xgboost", sample, signature, out)
    return None
