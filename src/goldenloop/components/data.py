"""The components up to training: ingest, statistics, schema, validation, split, transformation."""

# mypy: disable-error-code="untyped-decorator, valid-type, arg-type"
# ruff: noqa: UP045 - kfp reads these signatures and writes the functions' source into the pipeline
from typing import NamedTuple, Optional

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

_IMAGE = "python:3.11"
_component = dsl.component(base_image=_IMAGE, packages_to_install=["goldenloop"])


@_component
def ingest_files(
    source: str,
    dataset: Output[Dataset],
    format: str = "auto",
) -> NamedTuple("Read", [("version", str), ("rows", int)]):
    """Read CSV, Parquet or JSON lines, from a file, a folder or a URL that fsspec knows, and note the version by content.

    KFP's cache goes by the address, not by what lies there: call `.set_caching_options(False)` on the task where the files change.

    Args:
        source: The address; `${NAME}` is taken from the environment of the step.
        format: auto (by the suffix), csv, parquet or jsonl.
    """
    from goldenloop.components.reading import read_files
    from goldenloop.components.tables import plain_errors, write_table

    with plain_errors():
        reading = read_files(source, format=format)
        dataset.metadata.update(write_table(reading.table, dataset.path), source=source, version=reading.version)
    print(f"{reading.table.num_rows} rows, {reading.table.num_columns} columns, {reading.version[:24]}")
    return reading.version, reading.table.num_rows


@_component
def ingest_sql(
    url: str,
    query: str,
    dataset: Output[Dataset],
) -> NamedTuple("Read", [("version", str), ("rows", int)]):
    """Read what a query gives, through SQLAlchemy, and note the version by content. The transaction is rolled back.

    Args:
        url: SQLAlchemy's address of the database; write secrets as `${NAME}`, taken from the environment of the step.
        query: A SELECT. Order it, if the order of rows is to mean something.
    """
    from goldenloop.components.reading import read_sql
    from goldenloop.components.tables import plain_errors, write_table

    with plain_errors():
        reading = read_sql(url, query)
        dataset.metadata.update(write_table(reading.table, dataset.path), query=query, version=reading.version)
    print(f"{reading.table.num_rows} rows, {reading.table.num_columns} columns, {reading.version[:24]}")
    return reading.version, reading.table.num_rows


@dsl.component(base_image=_IMAGE, packages_to_install=["goldenloop", "deltalake>=1"])
def ingest_delta(
    location: str,
    dataset: Output[Dataset],
    table_version: int = -1,
) -> NamedTuple("Read", [("version", str), ("rows", int)]):
    """Read a Delta table at one of its versions.

    Args:
        location: The folder or the URL of the table; `${NAME}` is taken from the environment of the step.
        table_version: The version to read; below 0 the newest.
    """
    from goldenloop.components.reading import read_delta
    from goldenloop.components.tables import plain_errors, write_table

    with plain_errors():
        reading = read_delta(location, version=table_version)
        dataset.metadata.update(write_table(reading.table, dataset.path), source=location, version=reading.version)
    print(f"{reading.table.num_rows} rows, {reading.table.num_columns} columns, {reading.version}")
    return reading.version, reading.table.num_rows


@dsl.component(base_image=_IMAGE, packages_to_install=["goldenloop", "pyiceberg[sql-sqlite]>=0.8"])
def ingest_iceberg(
    table: str,
    dataset: Output[Dataset],
    catalog: Optional[dict] = None,  # type: ignore[type-arg]
    snapshot: str = "",
) -> NamedTuple("Read", [("version", str), ("rows", int)]):
    """Read an Iceberg table at one of its snapshots.

    Args:
        table: NAMESPACE.TABLE of the catalog, or without a catalog the folder or the metadata file of a table.
        catalog: PyIceberg's properties (type, uri, warehouse, …); `${NAME}` is taken from the environment of the step.
        snapshot: The id of a snapshot; the newest where empty. It is a text because JSON's numbers are too short for it.
    """
    from goldenloop.components.reading import read_iceberg
    from goldenloop.components.tables import plain_errors, write_table

    with plain_errors():
        reading = read_iceberg(table, catalog=catalog, snapshot=snapshot)
        dataset.metadata.update(write_table(reading.table, dataset.path), source=table, version=reading.version)
    print(f"{reading.table.num_rows} rows, {reading.table.num_columns} columns, {reading.version}")
    return reading.version, reading.table.num_rows


@_component
def compute_statistics(dataset: Input[Dataset], statistics: Output[Artifact]) -> None:
    """Describe every column: missing and distinct values, mean, deviation and quantiles of numbers, commonest texts."""
    from pathlib import Path

    import msgspec

    from goldenloop.components.tables import plain_errors, read_table
    from goldenloop.features.statistics import describe

    with plain_errors():
        found = describe(read_table(dataset.path))
    Path(statistics.path).write_bytes(msgspec.json.encode(found))
    statistics.metadata["rows"] = found.rows
    for column in found.columns:
        print(f"{column.name}: {column.family}, {column.missing} missing, {column.distinct} different")


@_component
def infer_schema(
    dataset: Input[Dataset],
    schema: Output[Artifact],
    label: str = "",
    timestamp: str = "",
    subject: str = "",
    protected: list[str] = [],  # noqa: B006 - kfp takes defaults as JSON
    ignored: list[str] = [],  # noqa: B006
    dates: list[str] = [],  # noqa: B006
    task: str = "auto",
) -> None:
    """Say what each column is, and what new data must look like: types, ranges, vocabularies, missing values.

    Args:
        label: The column to predict; looked for by its name where empty.
        timestamp: The event time of a row.
        subject: The column that names whom a row is about; not an input.
        protected: Columns watched for fairness.
        ignored: Columns that models do not get.
        dates: Columns of which models get hour, weekday, month and day.
        task: auto, classification or regression.
    """
    from pathlib import Path

    import msgspec

    from goldenloop.components.tables import infer, plain_errors, read_table

    with plain_errors():
        found = infer(
            read_table(dataset.path),
            label=label,
            timestamp=timestamp,
            subject=subject,
            protected=protected,
            ignored=ignored,
            dates=dates,
            task=task,
        )
    Path(schema.path).write_bytes(msgspec.json.encode(found))
    schema.metadata["task"] = found.task
    schema.metadata["label"] = found.label
    print(f"label {found.label} ({found.label_reason}); {found.task}, because {found.task_reason}")
    for column in found.columns:
        print(f"{column.name}: {column.kind}, because {column.reason}")


@_component
def validate(
    dataset: Input[Dataset],
    schema: Input[Artifact],
    report: Output[Artifact],
    serving: Optional[Input[Dataset]] = None,
    previous: Optional[Input[Dataset]] = None,
    alpha: float = 0.01,
    least_distance: float = 0.1,
    stop: bool = True,
) -> NamedTuple("Checked", [("valid", bool), ("anomalies", int)]):
    """Check data against its schema, against what serving sees (skew) and against the span before it (drift).

    Args:
        serving: Rows as a served model gets them; labels are not asked for.
        previous: The span of data before this one.
        alpha: The chance that any column is reported as different though none is, for rows that do not depend on each other.
        least_distance: How far, 0 to 1, a column must have moved to be reported.
        stop: Whether the step fails where something is wrong; otherwise the report says so and the run goes on.
    """
    import sys
    from pathlib import Path

    import msgspec

    from goldenloop.components.checks import check
    from goldenloop.components.tables import plain_errors, read_schema, read_table

    with plain_errors():
        found = check(
            read_table(dataset.path),
            read_schema(schema.path),
            serving=read_table(serving.path) if serving is not None else None,
            previous=read_table(previous.path) if previous is not None else None,
            alpha=alpha,
            least_distance=least_distance,
        )
    Path(report.path).write_bytes(msgspec.json.encode(found))
    report.metadata["anomalies"] = len(found.anomalies)
    for anomaly in found.anomalies:
        print(f"{anomaly.kind}: {anomaly.column}: {anomaly.text}")
    print(f"{len(found.anomalies)} anomalies in {found.rows} rows")
    if stop and found.anomalies:
        listed = "; ".join(f"{anomaly.column} ({anomaly.kind}): {anomaly.text}" for anomaly in found.anomalies)
        sys.exit(f"the data is not as expected: {listed}")
    return not found.anomalies, len(found.anomalies)


@_component
def split(
    dataset: Input[Dataset],
    training: Output[Dataset],
    evaluation: Output[Dataset],
    test: Output[Dataset],
    by: str = "random",
    column: str = "",
    evaluation_share: float = 0.2,
    test_share: float = 0.0,
    seed: int = 0,
) -> None:
    """Divide rows into a training, an evaluation and a test part; the test part is empty unless asked for.

    Args:
        by: random; time (the latest rows of `column` are judged on); group (rows with one value of `column` stay together).
        column: The column of the time or of the group.
        evaluation_share: Of all rows, 0 to 1.
        test_share: Of all rows, 0 to 1.
        seed: Of random, and of which group goes where.
    """
    from goldenloop.components.splitting import divide
    from goldenloop.components.tables import plain_errors, read_table, write_table

    with plain_errors():
        parts = divide(
            read_table(dataset.path),
            by=by,
            column=column,
            evaluation_share=evaluation_share,
            test_share=test_share,
            seed=seed,
        )
        for target, part in ((training, parts.training), (evaluation, parts.evaluation), (test, parts.test)):
            target.metadata.update(write_table(part, target.path), by=by)
            print(f"{target.name}: {part.num_rows} rows")


@_component
def transform(
    training: Input[Dataset],
    schema: Input[Artifact],
    transformer: Output[Artifact],
    transformed: Output[Dataset],
    impute: str = "median",
    scale: str = "standard",
    encode: str = "one-hot",
    rare: int = 1,
) -> None:
    """Fit a transformer on training rows, and apply it to them. Training components take it and put it into the model.

    Args:
        impute: median, mean, or keep (a missing number stays missing).
        scale: standard, range, robust or none.
        encode: one-hot or ordinal.
        rare: Categories of fewer rows than this are taken together.
    """
    import joblib
    import msgspec

    from goldenloop.components.tables import plain_errors, read_schema, read_table, write_table
    from goldenloop.components.transforming import Recipe, apply_transformer, fit_transformer, recipe_of

    with plain_errors():
        recipe: Recipe = recipe_of(impute=impute, scale=scale, encode=encode, rare=rare)
        table, known = read_table(training.path), read_schema(schema.path)
        fitted = fit_transformer(table, known, recipe)
        made = apply_transformer(fitted, table, known)
        transformed.metadata.update(write_table(made, transformed.path))
    joblib.dump(fitted, transformer.path)
    transformer.metadata.update(msgspec.to_builtins(recipe))
    print(f"{len(known.inputs) + len(known.dates)} columns became {made.num_columns}")


@_component
def apply_transform(
    dataset: Input[Dataset],
    schema: Input[Artifact],
    transformer: Input[Artifact],
    transformed: Output[Dataset],
) -> None:
    """Apply a fitted transformer to other rows."""
    from goldenloop.components.tables import plain_errors, read_schema, read_table, write_table
    from goldenloop.components.transforming import apply_transformer, load_transformer

    with plain_errors():
        known = read_schema(schema.path)
        made = apply_transformer(load_transformer(transformer.path), read_table(dataset.path), known)
        transformed.metadata.update(write_table(made, transformed.path))
    print(f"{made.num_rows} rows, {made.num_columns} columns")
