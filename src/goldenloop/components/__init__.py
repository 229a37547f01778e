"""Standard components: from a data set to a registered model, each a lightweight KFP component that is usable alone.

>>> from goldenloop.components import ingest_files, split  # doctest: +SKIP

They run wherever KFP components run and goldenloop can be imported or installed by pip: here, under `kfp.local`, on a Kubeflow. What
`kfp.local` (2.16) cannot do is leave out an optional artifact: there `validate`, `train_…`, `bless` and `register` need all of theirs.
A body only reads and writes artifacts; the work is in the modules beside this one, which import no kfp and can be called from a
program of one's own.

What passes between them: a `Dataset` is one Parquet file, a schema is the JSON of `DataSchema`, statistics are the JSON of
`goldenloop.features.statistics.Statistics`, a `Model` is a folder with `model.joblib` (a scikit-learn pipeline that takes a data
frame with the schema's inputs by name) and `schema.json`. The components of `pipeline: auto` pass the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goldenloop.components.data import (
        apply_transform,
        compute_statistics,
        infer_schema,
        ingest_delta,
        ingest_files,
        ingest_iceberg,
        ingest_sql,
        split,
        transform,
        validate,
    )
    from goldenloop.components.models import (
        bless,
        evaluate,
        register,
        train_lightgbm,
        train_pytorch,
        train_scikit_learn,
        train_xgboost,
    )

__all__ = [
    "apply_transform",
    "bless",
    "compute_statistics",
    "evaluate",
    "infer_schema",
    "ingest_delta",
    "ingest_files",
    "ingest_iceberg",
    "ingest_sql",
    "register",
    "split",
    "train_lightgbm",
    "train_pytorch",
    "train_scikit_learn",
    "train_xgboost",
    "transform",
    "validate",
]

_OF_MODELS = {"bless", "evaluate", "register"}


def __getattr__(name: str) -> object:
    """The component of this name. kfp is imported on the first use: inside a running step its decorators do not exist."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    room = "models" if name in _OF_MODELS or name.startswith("train_") else "data"
    return getattr(importlib.import_module(f"{__name__}.{room}"), name)
