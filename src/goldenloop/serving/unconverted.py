"""Models of tables that cannot be converted: kept as they were saved, and scored by their own code.

Requests go to a predictor process. Where whole tables are scored beside the serving (assessment, explanations, replays), which happens in
job processes, the object is loaded there.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError, RefusedError, UnavailableError
from goldenloop.core.served import SERVED_FILE, ServedForm, TensorSpec
from goldenloop.core.signatures import Signature
from goldenloop.payloads.records import Answer
from goldenloop.serving.conversion import CONVERSION_FILE, Conversion
from goldenloop.serving.conversion.agreement import compare
from goldenloop.serving.conversion.estimators import ask, called, input_names, load_estimator, signature_of
from goldenloop.serving.conversion.records import LABELS_AGREEING
from goldenloop.serving.models import SIGNATURE_FILE, load
from goldenloop.serving.predictors.answers import answers_of
from goldenloop.serving.predictors.forms import read_served_form
from goldenloop.serving.predictors.loaders import load as load_object
from goldenloop.serving.scoring import TableModel, score_table
from goldenloop.standards.tabular import Batch, Layout

if TYPE_CHECKING:
    import pyarrow

    from goldenloop.serving.predictors.server import Model as LoadedObject

OBJECT_FILE = "model.joblib"


class ObjectModel:
    """A saved object, loaded in this process: only where no requests and no control are."""

    def __init__(self, folder: Path, form: ServedForm) -> None:
        if form.signature is None:
            raise InvalidSpecError("it has no signature", where=str(folder), mend="Only tables can be scored so.")
        self.signature = form.signature
        self.layout = Layout(form.signature)
        with warnings.catch_warnings():
            self._model = cast("LoadedObject", load_object(folder, form, name=folder.name, threads=1))

    def predict(self, columns: Mapping[str, NDArray[np.generic]], rows: int) -> tuple[Answer, ...]:
        """See `TableModel`. Raises InvalidSpecError for wrong columns, UnavailableError when the model fails."""
        batch = self.layout.from_columns(columns, where="columns")
        if batch.rows != rows:
            raise InvalidSpecError(f"the columns have {batch.rows} values, not {rows}", where="columns")
        return self.score(batch)

    def score(self, batch: Batch) -> tuple[Answer, ...]:
        """See `TableModel`. Raises UnavailableError when the model fails."""
        if batch.rows == 0:
            return ()
        try:
            given = self._model.score(batch.rows, {"numbers": batch.numbers, "texts": batch.texts})
        except Exception as error:  # whatever it raises
            raise UnavailableError(f"the model failed: {type(error).__name__}: {str(error)[:500]}") from error
        return answers_of(given, self.signature, batch.rows)


def load_version(folder: Path) -> TableModel:
    """Load the version in a folder, whatever its runtime. Raises UnavailableError, InvalidSpecError, RefusedError."""
    if (folder / SERVED_FILE).is_file():
        form = read_served_form(folder)
        if form.runtime == "process":
            return ObjectModel(folder, form)
    return load(folder)


def keep_object(
    path: Path, sample: pyarrow.Table, *, label: str, ignore: frozenset[str], why: str, out: Path
) -> Conversion:
    """Make a served form of the saved estimator itself, because it was not converted, and `why`.

    Writes `served.json`, `signature.json`, `conversion.json` and the file. Raises RefusedError where it cannot score the sample even so,
    InvalidSpecError for what is no saved estimator.
    """
    estimator = load_estimator(path)
    names = input_names(estimator, sample, label=label, ignore=ignore)
    expected = ask(estimator, sample, names)
    signature = signature_of(estimator, sample, names, truths_are="category")
    form = ServedForm(
        form="table",
        runtime="process",
        loader="pickle",
        format="sklearn",
        file=OBJECT_FILE,
        signature=signature,
        inputs=_truths(sample, signature),
        batching=True,
    )
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, out / OBJECT_FILE)
    answers = score_table(ObjectModel(out, form), sample)
    if compare(expected, answers)[0] < LABELS_AGREEING:
        raise RefusedError(
            "the loaded model gives other answers than before", where=str(path), mend="Save the fitted model anew."
        )
    record = Conversion(
        source="estimator",
        estimator=called(estimator),
        rows=sample.num_rows,
        labels_agreeing=1.0,
        largest_difference=0.0,
        median_difference=0.0,
        accepted=True,
        rule=f"not converted, the model itself is served in a process of its own: {why}",
        signature=signature,
        runtime="process",
    )
    for name, content in ((SERVED_FILE, form), (SIGNATURE_FILE, signature), (CONVERSION_FILE, record)):
        (out / name).write_bytes(msgspec.json.encode(content))
    return record


def _truths(sample: pyarrow.Table, signature: Signature) -> tuple[TensorSpec, ...]:
    """The columns that the model was trained on as truths, and that travel as texts."""
    import pyarrow

    return tuple(
        TensorSpec(name, "BOOL", (-1,))
        for name in signature.names
        if pyarrow.types.is_boolean(sample.schema.field(name).type)
    )
