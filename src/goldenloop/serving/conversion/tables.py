"""Conversion by the rows that a model was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, RefusedError
from goldenloop.core.signatures import Column, Signature, as_text
from goldenloop.serving.conversion.agreement import write_and_measure
from goldenloop.serving.conversion.estimators import (
    Estimator,
    Expected,
    ask,
    called,
    class_kind,
    has_truths,
    input_names,
    kind_of,
    load_estimator,
    rounded,
    signature_of,
)
from goldenloop.serving.conversion.graphs import graph_of
from goldenloop.serving.conversion.records import CONVERSION_FILE, Conversion
from goldenloop.serving.models import FEATURES, GRAPH_FILE, SIGNATURE_FILE, load
from goldenloop.serving.scoring import score_table

if TYPE_CHECKING:
    import pyarrow

COMPARED_ROWS = 20_000  # the first rows of the sample are compared, at most


def convert(
    estimator_path: Path, sample: pyarrow.Table, *, label: str, ignore: frozenset[str] = frozenset(), out: Path
) -> Conversion:
    """Write `model.onnx`, `signature.json` and `conversion.json` into `out`; return what was measured.

    The sample holds rows as the model was trained on; its column `label` and those in `ignore` are no inputs. Raises RefusedError where
    the model cannot be converted or the two sides disagree (then only `conversion.json` is written), InvalidSpecError for a bad file or
    sample.
    """
    if sample.num_rows == 0:
        raise InvalidSpecError(
            "the sample has no rows", where="sample", mend="Give the rows that the model was evaluated on."
        )
    sample = sample.slice(0, COMPARED_ROWS)
    out.mkdir(parents=True, exist_ok=True)
    if estimator_path.suffix == ".onnx":
        return take_graph(estimator_path, sample, label=label, ignore=ignore, out=out)
    estimator = load_estimator(estimator_path)
    names = input_names(estimator, sample, label=label, ignore=ignore)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A threshold may lie on a row's own value: on which side the row falls is then a matter of rounding, and either is the estimator's.
        expected = (ask(estimator, sample, names), ask(estimator, rounded(sample, names), names))
    return convert_estimator(estimator, sample, names, expected, out=out)


def convert_estimator(
    estimator: Estimator, sample: pyarrow.Table, names: Sequence[str], expected: Sequence[Expected], *, out: Path
) -> Conversion:
    """Write the three files for an estimator that says `expected` about the columns `names` of the sample.

    Where it says several things, as about values that rounding changes, each is right. Raises RefusedError.
    """
    refusals: list[GoldenloopError] = []
    # A column of truths is a category for most encoders, and a number for what computes with it.
    for truths_are in ("category", "number"):
        if truths_are == "number" and (len(refusals) == 0 or not has_truths(sample, names)):
            break
        signature = signature_of(estimator, sample, names, truths_are=truths_are)
        try:
            graph = graph_of(estimator, signature)
            return write_and_measure(graph, signature, called(estimator), sample, expected, out=out)
        except GoldenloopError as error:
            refusals.append(error)
    raise refusals[0]


def take_graph(path: Path, sample: pyarrow.Table, *, label: str, ignore: frozenset[str], out: Path) -> Conversion:
    """Take a graph that has the served form already; its classes come from the sample's labels or from `signature.json` beside it."""
    beside = path.with_name(SIGNATURE_FILE)
    content = path.read_bytes()
    if beside.is_file():
        signature = msgspec.json.decode(beside.read_bytes(), type=Signature)
    else:
        signature = _guess_signature(content, sample, label=label, ignore=ignore)
    (out / GRAPH_FILE).write_bytes(content)
    (out / SIGNATURE_FILE).write_bytes(msgspec.json.encode(signature))
    try:
        model = load(out)
        score_table(model, sample)
    except GoldenloopError as error:
        for name in (GRAPH_FILE, SIGNATURE_FILE):
            (out / name).unlink(missing_ok=True)
        raise RefusedError(
            f"the ONNX model does not have the served form: {error}",
            where=str(path),
            mend="Give it the input 'features' (float32 [n, k]) or one input a column, and the outputs 'predict' and 'probabilities'.",
        ) from error
    record = Conversion(
        source="onnx",
        estimator="onnx",
        rows=sample.num_rows,
        labels_agreeing=1.0,
        largest_difference=0.0,
        median_difference=0.0,
        accepted=True,
        rule="the graph itself is the model; it scored the whole sample",
        signature=signature,
    )
    (out / CONVERSION_FILE).write_bytes(msgspec.json.encode(record))
    return record


def _guess_signature(content: bytes, sample: pyarrow.Table, *, label: str, ignore: frozenset[str]) -> Signature:
    import onnx
    import pyarrow

    try:
        graph = onnx.load_from_string(content).graph
    except Exception as error:  # the parser's errors share no parent with a name
        raise InvalidSpecError(
            f"not an ONNX model: {error}", where=GRAPH_FILE, mend="Save the model as ONNX."
        ) from error
    names = [name for name in sample.column_names if name != label and name not in ignore]
    if [entry.name for entry in graph.input] != [FEATURES]:
        names = [entry.name for entry in graph.input]
    inputs = tuple(Column(name=name, kind=kind_of(sample, name)) for name in names if name in sample.column_names)
    if "probabilities" not in {entry.name for entry in graph.output}:
        return Signature(inputs=inputs, task="regression")
    if label not in sample.column_names:
        raise InvalidSpecError(
            f"there is no column {label!r}", where="sample", mend="The classes of an ONNX model are read from it."
        )
    labels = sample.column(label).drop_null()
    if pyarrow.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    classes = sorted(set(labels.to_pylist()))
    return Signature(
        inputs=inputs, task="classification", classes=tuple(map(as_text, classes)), class_kind=class_kind(classes)
    )
