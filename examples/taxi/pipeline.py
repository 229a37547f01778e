# ruff: noqa: UP014 - kfp reads these signatures
"""Chicago taxi trips, TFX's classic pipeline, of goldenloop's standard components: will the tip be over 20 % of the fare?

`taxi` goes from a file to a registered model. `retrain` is the same from training on, as a Loop asks for it: the loop hands over the
rows, and itself judges, blesses and registers what comes out as `model`.
"""

from pathlib import Path
from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model

from goldenloop.components import (
    bless,
    compute_statistics,
    evaluate,
    infer_schema,
    ingest_files,
    register,
    split,
    train_scikit_learn,
    transform,
    validate,
)

TRIPS = str(Path(__file__).resolve().with_name("trips.csv"))
BOOSTING = {"max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 15}
TREES = {"impute": "keep", "scale": "none", "encode": "ordinal"}  # boosting needs nothing more
SLICES = ["payment_type", "trip_miles"]
LIMITS = {"accuracy": 0.75}


@dsl.pipeline(name="taxi", description="From a file of trips to a registered model.")
def taxi(source: str = TRIPS, label: str = "big_tip", timestamp: str = "trip_start_timestamp"):
    """Train on the earlier trips, judge on the later ones."""
    trips = ingest_files(source=source)
    trips.set_caching_options(False)  # the file may have changed
    parts = split(dataset=trips.outputs["dataset"], by="time", column=timestamp)
    training, evaluation = parts.outputs["training"], parts.outputs["evaluation"]
    compute_statistics(dataset=training)
    schema = infer_schema(dataset=training, label=label, timestamp=timestamp).outputs["schema"]
    validate(dataset=evaluation, schema=schema, previous=training, stop=False)
    transformer = transform(training=training, schema=schema, **TREES).outputs["transformer"]
    trained = train_scikit_learn(training=training, schema=schema, transformer=transformer, settings=BOOSTING)
    model = trained.outputs["model"]
    judged = evaluate(model=model, evaluation=evaluation, schema=schema, slices=SLICES)
    blessed = bless(model=model, evaluation=evaluation, schema=schema, slices=SLICES, limits=LIMITS)
    register(
        model=model,
        name="taxi",
        blessing=blessed.outputs["blessing"],
        metrics=judged.outputs["metrics"],
    )


@dsl.pipeline(name="taxi-retrain", description="What a loop runs.")
def retrain(
    data: Input[Dataset],
    evaluation_data: Input[Dataset],
    label: str,
    timestamp: str,
    champion: Input[Model] | None = None,
) -> NamedTuple("Outputs", model=Model, metrics=Metrics):
    """Train on one window, evaluate on what came after it, and compare with the champion if there is one."""
    schema = infer_schema(dataset=data, label=label, timestamp=timestamp).outputs["schema"]
    validate(dataset=evaluation_data, schema=schema, previous=data, stop=False)
    transformer = transform(training=data, schema=schema, **TREES).outputs["transformer"]
    trained = train_scikit_learn(training=data, schema=schema, transformer=transformer, settings=BOOSTING)
    model = trained.outputs["model"]
    judged = evaluate(model=model, evaluation=evaluation_data, schema=schema, slices=SLICES)
    bless(model=model, evaluation=evaluation_data, schema=schema, champion=champion, slices=SLICES)
    outputs = NamedTuple("Outputs", model=Model, metrics=Metrics)
    return outputs(model, judged.outputs["metrics"])
