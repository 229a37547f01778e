"""A training pipeline as KFP users write it: ingest, statistics, validation, training, evaluation.

The loop hands over `data` and `evaluation_data`; it judges, blesses and registers what comes out as `model`.
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output


@dsl.component
def ingest(data: Input[Dataset], label: str, rows: Output[Dataset]):
    """Read the rows and leave out those without a label."""
    import pandas as pd

    table = pd.read_parquet(data.path)
    table = table[table[label].notna()]
    table.to_parquet(rows.path)
    rows.metadata["rows"] = len(table)
    print(f"{len(table)} rows, {table.shape[1]} columns")


@dsl.component
def statistics(rows: Input[Dataset], summary: Output[Artifact]):
    """Describe every column."""
    import pandas as pd

    table = pd.read_parquet(rows.path)
    described = table.describe(include="all").T
    described["missing"] = table.isna().mean()
    described.to_json(summary.path, orient="index", default_handler=str)
    print(described.to_string())


@dsl.component
def validate(rows: Input[Dataset], label: str, timestamp: str) -> NamedTuple("Found", [("features", list)]):
    """Fail where the data cannot be learned from."""
    from collections import namedtuple

    import pandas as pd

    table = pd.read_parquet(rows.path)
    features = [name for name in table.columns if name not in (label, timestamp)]
    wrong = [name for name in features if not pd.api.types.is_numeric_dtype(table[name])]
    if wrong:
        raise ValueError(f"not numbers: {wrong}")
    if table[label].nunique() < 2:
        raise ValueError(f"{label} has one value only; there is nothing to learn")
    empty = [name for name in features if table[name].isna().all()]
    if empty:
        raise ValueError(f"without any value: {empty}")
    return namedtuple("Found", ["features"])(features)


@dsl.component
def fit(rows: Input[Dataset], label: str, features: list, model: Output[Model], rounds: int = 40):
    """Gradient boosting on all features."""
    import joblib
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier

    table = pd.read_parquet(rows.path)
    booster = HistGradientBoostingClassifier(max_iter=rounds, early_stopping=False, random_state=0)
    booster.fit(table[features], table[label])
    joblib.dump(booster, model.path)
    model.metadata["framework"] = "scikit-learn"


@dsl.component
def evaluate(
    model: Input[Model], evaluation_data: Input[Dataset], label: str, features: list, metrics: Output[Metrics]
):
    """How well it does on later rows; the loop's own gate decides."""
    import joblib
    import pandas as pd

    table = pd.read_parquet(evaluation_data.path)
    answers = joblib.load(model.path).predict(table[features])
    accuracy = float((answers == table[label]).mean())
    metrics.log_metric("accuracy", accuracy)
    print(f"accuracy {accuracy:.4f} on {len(table)} later rows")


@dsl.pipeline(name="electricity")
def train(data: Input[Dataset], evaluation_data: Input[Dataset], label: str, timestamp: str, rounds: int = 40) -> Model:
    """Train on one window, evaluate on what came after it."""
    ingested = ingest(data=data, label=label)
    statistics(rows=ingested.outputs["rows"])
    found = validate(rows=ingested.outputs["rows"], label=label, timestamp=timestamp)
    features = found.outputs["features"]
    fitted = fit(rows=ingested.outputs["rows"], label=label, features=features, rounds=rounds)
    evaluate(model=fitted.outputs["model"], evaluation_data=evaluation_data, label=label, features=features)
    return fitted.outputs["model"]
