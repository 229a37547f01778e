"""The components from training on: train, evaluate, bless, register."""

# mypy: disable-error-code="untyped-decorator, valid-type, arg-type"
# ruff: noqa: UP045 - kfp reads these signatures and writes the functions' source into the pipeline
from typing import NamedTuple, Optional

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

_IMAGE = "python:3.11"
_component = dsl.component(base_image=_IMAGE, packages_to_install=["goldenloop"])


@_component
def train_scikit_learn(
    training: Input[Dataset],
    schema: Input[Artifact],
    model: Output[Model],
    transformer: Optional[Input[Artifact]] = None,
    estimator: str = "boosting",
    settings: dict = {},  # type: ignore[type-arg]  # noqa: B006 - kfp takes defaults as JSON
) -> None:
    """Train an estimator of scikit-learn on rows as they are; the transformer becomes the model's first step.

    Args:
        transformer: The output of `transform`; without one trees get numbers as they are, others imputed and scaled.
        estimator: boosting, forest, linear, or a full name such as sklearn.svm.SVC.
        settings: The estimator's own, by name.
    """
    from pathlib import Path

    from goldenloop.components import training as train
    from goldenloop.components.tables import plain_errors, read_schema, read_table
    from goldenloop.components.transforming import load_transformer

    with plain_errors():
        known = read_schema(schema.path)
        trained = train.train_scikit_learn(
            read_table(training.path),
            known,
            estimator=estimator,
            settings=settings,
            transformer=load_transformer(transformer.path) if transformer is not None else None,
        )
        model.metadata.update(trained.save(Path(model.path), known))
    model.framework = trained.framework
    print(f"{trained.estimator} trained on {trained.rows} rows")


@dsl.component(base_image=_IMAGE, packages_to_install=["goldenloop", "lightgbm>=4"])
def train_lightgbm(
    training: Input[Dataset],
    schema: Input[Artifact],
    model: Output[Model],
    transformer: Optional[Input[Artifact]] = None,
    settings: dict = {},  # type: ignore[type-arg]  # noqa: B006
) -> None:
    """Train LightGBM on rows as they are; the transformer becomes the model's first step.

    Args:
        transformer: The output of `transform`; without one missing numbers stay missing and categories are numbered.
        settings: LightGBM's own, by name.
    """
    from pathlib import Path

    from goldenloop.components import training as train
    from goldenloop.components.tables import plain_errors, read_schema, read_table
    from goldenloop.components.transforming import load_transformer

    with plain_errors():
        known = read_schema(schema.path)
        trained = train.train_lightgbm(
            read_table(training.path),
            known,
            settings=settings,
            transformer=load_transformer(transformer.path) if transformer is not None else None,
        )
        model.metadata.update(trained.save(Path(model.path), known))
    model.framework = trained.framework
    print(f"{trained.estimator} trained on {trained.rows} rows")


@dsl.component(base_image=_IMAGE, packages_to_install=["goldenloop", "xgboost>=2"])
def train_xgboost(
    training: Input[Dataset],
    schema: Input[Artifact],
    model: Output[Model],
    transformer: Optional[Input[Artifact]] = None,
    settings: dict = {},  # type: ignore[type-arg]  # noqa: B006
) -> None:
    """Train XGBoost on rows as they are; the transformer becomes the model's first step.

    Args:
        transformer: The output of `transform`; without one missing numbers stay missing and categories are numbered.
        settings: XGBoost's own, by name.
    """
    from pathlib import Path

    from goldenloop.components import training as train
    from goldenloop.components.tables import plain_errors, read_schema, read_table
    from goldenloop.components.transforming import load_transformer

    with plain_errors():
        known = read_schema(schema.path)
        trained = train.train_xgboost(
            read_table(training.path),
            known,
            settings=settings,
            transformer=load_transformer(transformer.path) if transformer is not None else None,
        )
        model.metadata.update(trained.save(Path(model.path), known))
    model.framework = trained.framework
    print(f"{trained.estimator} trained on {trained.rows} rows")


@dsl.component(base_image=_IMAGE, packages_to_install=["goldenloop", "torch>=2"])
def train_pytorch(
    training: Input[Dataset],
    schema: Input[Artifact],
    model: Output[Model],
    transformer: Optional[Input[Artifact]] = None,
    settings: dict = {},  # type: ignore[type-arg]  # noqa: B006
) -> None:
    """Train a network of rectified linear layers with PyTorch; the transformer becomes the model's first step.

    Nothing after training needs PyTorch: the weights are kept as scikit-learn's network, and as PyTorch's state beside it.

    Args:
        transformer: The output of `transform`; without one numbers are imputed and scaled, categories one-hot encoded.
        settings: layers, epochs, patience, batch, rate, decay, dropout, seed.
    """
    from pathlib import Path

    from goldenloop.components import training as train
    from goldenloop.components.networks import network_settings
    from goldenloop.components.tables import plain_errors, read_schema, read_table
    from goldenloop.components.transforming import load_transformer

    with plain_errors():
        known = read_schema(schema.path)
        trained = train.train_pytorch(
            read_table(training.path),
            known,
            network_settings(settings),
            transformer=load_transformer(transformer.path) if transformer is not None else None,
        )
        model.metadata.update(trained.save(Path(model.path), known))
    model.framework = trained.framework
    print(f"{trained.estimator} trained on {trained.rows} rows")


@_component
def evaluate(
    model: Input[Model],
    evaluation: Input[Dataset],
    schema: Input[Artifact],
    metrics: Output[Metrics],
    report: Output[Artifact],
    slices: list[str] = [],  # noqa: B006
    confidence: float = 0.95,
) -> None:
    """Measure a model on labelled rows, over all and by slice, with confidence intervals.

    Args:
        slices: Columns to cut by beside the categories of few values; numbers are cut at their quartiles.
        confidence: Of the intervals.
    """
    from pathlib import Path

    import msgspec

    from goldenloop.components import judging
    from goldenloop.components.tables import plain_errors, read_schema, read_table

    with plain_errors():
        found = judging.evaluate(
            Path(model.path),
            read_table(evaluation.path),
            read_schema(schema.path),
            slices=slices,
            confidence=confidence,
        )
    Path(report.path).write_bytes(msgspec.json.encode(found))
    report.metadata.update(rows=found.rows, slices=len(found.slices))
    metrics.log_metric("rows", found.rows)
    for name, measured in found.metrics.items():
        if measured.value is None:
            continue
        metrics.log_metric(name, measured.value)
        sure = ""
        if measured.low is not None and measured.high is not None:
            metrics.log_metric(f"{name}_low", measured.low)
            metrics.log_metric(f"{name}_high", measured.high)
            sure = f" ({measured.low:.4f} to {measured.high:.4f})"
        print(f"{name} {measured.value:.4f}{sure}")
    print(f"on {found.rows} rows and {len(found.slices)} slices of them")


@_component
def bless(
    model: Input[Model],
    evaluation: Input[Dataset],
    schema: Input[Artifact],
    blessing: Output[Artifact],
    champion: Optional[Input[Model]] = None,
    limits: dict = {},  # type: ignore[type-arg]  # noqa: B006
    margin: float = 0.0,
    slices: list[str] = [],  # noqa: B006
    stop: bool = False,
) -> NamedTuple("Judged", [("blessed", bool), ("verdict", str)]):
    """Judge a model against the trivial baseline, against a champion on the same rows and slices, and against limits.

    Args:
        champion: The model to hold it against; without one the baseline is enough.
        limits: For each metric the least it may be, or the most where lower is better.
        margin: How much worse than the champion is let through, in points of loss.
        slices: Columns to cut by beside the categories of few values.
        stop: Whether the step fails where the model is not blessed.
    """
    import sys
    from pathlib import Path

    import msgspec

    from goldenloop.components import judging
    from goldenloop.components.tables import plain_errors, read_schema, read_table

    with plain_errors():
        found = judging.bless(
            Path(model.path),
            read_table(evaluation.path),
            read_schema(schema.path),
            champion=Path(champion.path) if champion is not None else None,
            limits=limits,
            margin=margin,
            slices=slices,
            training_rows=int(model.metadata.get("rows", 0)),
        )
    Path(blessing.path).write_bytes(msgspec.json.encode(found))
    blessing.metadata.update(verdict=found.verdict.value, reason=found.reason)
    print(f"{found.verdict.value}: {found.reason}")
    if stop and not found.blessed:
        sys.exit(f"the model is not blessed: {found.reason}")
    return found.blessed, found.verdict.value


@_component
def register(
    model: Input[Model],
    name: str,
    record: Output[Artifact],
    blessing: Optional[Input[Artifact]] = None,
    metrics: Optional[Input[Metrics]] = None,
    version: str = "",
    registry: str = "",
) -> NamedTuple("Registered", [("outcome", str), ("version", str)]):
    """Register a model with a Kubeflow Model Registry, and write its record; a model that was judged and not blessed is left out.

    Args:
        name: Of the registered model.
        blessing: The output of `bless`. Without it the model is registered unjudged, and the record says so.
        metrics: The output of `evaluate`, for the record.
        version: Of the model; by default the first digits of its digest.
        registry: The address of a registry. By default that of the running goldenloop; where there is none the record stands alone.
    """
    from pathlib import Path

    import msgspec

    from goldenloop.components import registering
    from goldenloop.components.tables import plain_errors

    verdict = blessing.metadata.get("verdict", "") if blessing is not None else "not judged"
    reason = str(blessing.metadata.get("reason", "")) if blessing is not None else ""
    properties = {name: value for name, value in model.metadata.items() if name != "trials"}
    properties.update(metrics.metadata if metrics is not None else {})
    with plain_errors():
        found = registering.register(
            folder=Path(model.path),
            uri=model.uri,
            name=name,
            version=version,
            properties={**properties, "verdict": verdict},
            refused=f"not blessed: {reason}" if verdict not in ("not judged", "pass") else "",
            registry=registry,
        )
    Path(record.path).write_bytes(msgspec.json.encode(found))
    record.metadata.update(outcome=found.outcome, version=found.version, digest=found.digest)
    print(f"{found.name} version {found.version}: {found.outcome}; {found.reason}")
    return found.outcome, found.version
