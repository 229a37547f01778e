"""`pipeline: auto`: from a data set to a good plain model within a time budget.

Compile with `python auto.py`, which writes `auto.yaml` beside this file; a test checks that the two belong together.
"""

# mypy: ignore-errors
# ruff: noqa: I001, B006, UP045, UP014 - kfp reads these signatures and writes the functions' source into the pipeline
from typing import NamedTuple, Optional

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

_component = dsl.component(base_image="python:3.11", packages_to_install=["goldenloop"])


@_component
def ingest(
    data: Input[Dataset],
    evaluation_data: Input[Dataset],
    timestamp: str,
    training: Output[Dataset],
    evaluation: Output[Dataset],
):
    """Read both data sets, put them in the order of time, and note their version by content."""
    from pathlib import Path

    from goldenloop.features.source import content_version, read_artifact, write_parquet
    from goldenloop.features.times import parse_times

    for source, target in ((data, training), (evaluation_data, evaluation)):
        table = read_artifact(Path(source.path))
        if timestamp and timestamp in table.column_names:
            times, _ = parse_times(table.column(timestamp), name=timestamp)
            table = table.take(times.argsort(kind="stable"))
        version = content_version(table)
        write_parquet(table, Path(target.path))
        target.metadata["rows"] = version.rows
        target.metadata["digest"] = version.digest
        print(f"{target.name}: {version.rows} rows, {len(version.columns)} columns, content {version.digest[:12]}")


@_component
def statistics(training: Input[Dataset], statistics: Output[Artifact]):
    """Describe every column of the training data."""
    from pathlib import Path

    import msgspec
    from goldenloop.features.source import read_artifact
    from goldenloop.features.statistics import describe

    found = describe(read_artifact(Path(training.path)))
    Path(statistics.path).write_bytes(msgspec.json.encode(found))
    for column in found.columns:
        print(f"{column.name}: {column.family}, {column.missing} missing, {column.distinct} different")


@_component
def validate(
    training: Input[Dataset],
    evaluation: Input[Dataset],
    statistics: Input[Artifact],
    label: str,
    timestamp: str,
    task: str,
    ignored: list,
    schema: Output[Artifact],
):
    """Infer the schema and check that a model can be trained and judged on the data."""
    import sys
    from pathlib import Path

    import msgspec
    from goldenloop.core.errors import GoldenloopError
    from goldenloop.features.source import read_artifact
    from goldenloop.features.statistics import Statistics
    from goldenloop.features.statistics import validate as check

    try:
        found = check(
            read_artifact(Path(training.path)),
            read_artifact(Path(evaluation.path)),
            msgspec.json.decode(Path(statistics.path).read_bytes(), type=Statistics),
            label=label,
            timestamp=timestamp,
            ignored=tuple(ignored),
            task=task,
        )
    except GoldenloopError as error:
        sys.exit(f"the data is not fit for training: {error}")
    Path(schema.path).write_bytes(msgspec.json.encode(found))
    schema.metadata["task"] = found.task
    print(f"label {found.label} ({found.label_reason}); {found.task}, because {found.task_reason}")
    for column in found.columns:
        print(f"{column.name}: {column.kind}, because {column.reason}")


@_component
def train(
    training: Input[Dataset],
    schema: Input[Artifact],
    budget_seconds: float,
    model: Output[Model],
):
    """Try baselines, then gradient boosting, within the time budget; keep the best, fitted on all rows."""
    from pathlib import Path

    import joblib
    import msgspec
    from goldenloop.core.clock import SystemClock
    from goldenloop.features.schema import Schema
    from goldenloop.features.source import read_artifact
    from goldenloop.tuning.tabular import train as search

    known = msgspec.json.decode(Path(schema.path).read_bytes(), type=Schema)
    trained = search(read_artifact(Path(training.path)), known, budget_seconds=budget_seconds, clock=SystemClock())
    for trial in trained.search.trials:
        outcome = f"loss {trial.loss:.5f}" if trial.loss is not None else f"failed: {trial.error}"
        print(f"{trial.name}: {outcome} in {trial.seconds:.2f} s")
    for name in trained.search.untried:
        print(f"{name}: not tried, the time budget of {budget_seconds} s is used up")
    print(f"{trained.search.name} is the best; fitted on all {trained.rows} rows")
    folder = Path(model.path)
    folder.mkdir()
    joblib.dump(trained.model, folder / "model.joblib")
    (folder / "schema.json").write_bytes(msgspec.json.encode(known))
    model.framework = "scikit-learn"
    model.metadata["file"] = "model.joblib"
    model.metadata["candidate"] = trained.search.name
    model.metadata["holdout_loss"] = trained.search.loss
    model.metadata["task"] = known.task
    model.metadata["rows"] = trained.rows
    model.metadata["trials"] = [msgspec.to_builtins(trial) for trial in trained.search.trials]


@_component
def evaluate(
    model: Input[Model],
    evaluation: Input[Dataset],
    schema: Input[Artifact],
    metrics: Output[Metrics],
    champion: Optional[Input[Model]] = None,
):
    """Judge the model on the evaluation data, and the champion on the same rows if there is one that can be read."""
    from pathlib import Path

    import joblib
    import msgspec
    from goldenloop.features.schema import Schema
    from goldenloop.features.source import read_artifact
    from goldenloop.tuning.tabular import judge

    known = msgspec.json.decode(Path(schema.path).read_bytes(), type=Schema)
    table = read_artifact(Path(evaluation.path))
    for name, value in judge(joblib.load(Path(model.path) / "model.joblib"), table, known).items():
        metrics.log_metric(name, value)
        print(f"{name}: {value:.5f}")
    if champion is not None:
        file = Path(champion.path) / "model.joblib" if Path(champion.path).is_dir() else Path(champion.path)
        try:
            judged = judge(joblib.load(file), table, known)
        except Exception as error:
            print(f"the champion cannot be judged here: {error}")
        else:
            for name, value in judged.items():
                metrics.log_metric(f"champion_{name}", value)
                print(f"champion {name}: {value:.5f}")


@dsl.pipeline(name="auto", description="A good plain model for a table, within a time budget.")
def auto(
    data: Input[Dataset],
    evaluation_data: Input[Dataset],
    label: str,
    timestamp: str = "",
    task: str = "auto",
    budget_seconds: float = 30.0,
    ignored: list = [],
    champion: Optional[Input[Model]] = None,
) -> NamedTuple("Outputs", model=Model, metrics=Metrics):
    read = ingest(data=data, evaluation_data=evaluation_data, timestamp=timestamp)
    described = statistics(training=read.outputs["training"])
    checked = validate(
        training=read.outputs["training"],
        evaluation=read.outputs["evaluation"],
        statistics=described.outputs["statistics"],
        label=label,
        timestamp=timestamp,
        task=task,
        ignored=ignored,
    )
    trained = train(training=read.outputs["training"], schema=checked.outputs["schema"], budget_seconds=budget_seconds)
    trained.set_caching_options(False)  # what it finds depends on the time it had
    judged = evaluate(
        model=trained.outputs["model"],
        evaluation=read.outputs["evaluation"],
        schema=checked.outputs["schema"],
        champion=champion,
    )
    outputs = NamedTuple("Outputs", model=Model, metrics=Metrics)
    return outputs(trained.outputs["model"], judged.outputs["metrics"])


if __name__ == "__main__":
    from pathlib import Path

    from kfp import compiler

    compiler.Compiler().compile(auto, str(Path(__file__).with_name("auto.yaml")))
