"""Model versions in memory. A served form is a folder with `model.onnx` and `signature.json`.

The graph's form (made by `goldenloop.serving.conversion`): where all inputs are numbers, one input `features`, float32 [n, k]; otherwise
one input a column with the column's name, [n, 1], float32 or string, a missing category as the empty text. Outputs: `predict`, and for a
classifier that has them `probabilities`, float [n, classes]. Scoring uses one thread: requests are what runs side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.core.signatures import Signature, as_text
from goldenloop.payloads.records import Answer
from goldenloop.serving.predictors.answers import check_numbers
from goldenloop.standards.tabular import Batch, Layout

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

GRAPH_FILE = "model.onnx"
SIGNATURE_FILE = "signature.json"
FEATURES = "features"

_MISSING = np.array(None, dtype=object)
_MEND = "Register the version again; `goldenloop describe` tells which run made it."


class Model:
    """One version, loaded. It holds no state that a request changes, so threads may score with it at the same time."""

    def __init__(self, signature: Signature, session: InferenceSession) -> None:
        self.signature = signature
        self.layout = Layout(signature)
        # What the session's own `run` does before it calls this, for callers with arrays on devices, is a third of a small call.
        self._run = getattr(session, "_sess", session).run
        outputs = [output.name for output in session.get_outputs()]
        self.has_probabilities = signature.task == "classification" and "probabilities" in outputs
        self._outputs = ["predict", "probabilities"] if self.has_probabilities else ["predict"]
        # What the graph gives for a class → the class as the signature writes it.
        self._classes: dict[object, str] = {}
        for name in signature.classes:
            self._classes[name] = name
            if signature.class_kind == "boolean":
                self._classes[name == "true"] = name  # also finds 0 and 1
            elif signature.class_kind != "text":
                self._classes[float(name)] = name  # also finds whole numbers

    def predict(self, columns: Mapping[str, NDArray[np.generic]], rows: int) -> tuple[Answer, ...]:
        """Score columns by name, each of `rows` values. Raises InvalidSpecError for wrong columns, UnavailableError when it fails."""
        batch = self.layout.from_columns(columns, where="columns")
        if batch.rows != rows:
            raise InvalidSpecError(
                f"the columns have {batch.rows} values, not {rows}", where="columns", mend="Give all rows."
            )
        return self.score(batch)

    def score(self, batch: Batch) -> tuple[Answer, ...]:
        """Score rows that are laid out as `layout` has them: one answer a row. Raises UnavailableError when the graph fails."""
        try:
            given = self._run(self._outputs, self._feed(batch), None)
        except Exception as error:  # the runtime's errors share no parent with a name
            raise UnavailableError(f"the model failed: {str(error)[:500]}", mend=_MEND) from error
        labels = given[0].reshape(-1).tolist()
        if self.signature.task == "regression":
            check_numbers(labels)
            return tuple([(label, ()) for label in labels])
        classes = self._classes
        try:
            named = [classes[label] for label in labels]
        except KeyError as error:
            raise UnavailableError(
                f"the model gave {as_text(error.args[0])!r}, which is none of its classes", mend=_MEND
            ) from error
        if not self.has_probabilities:
            return tuple([(label, ()) for label in named])
        shares = given[1].tolist()
        check_numbers([row[0] for row in shares])
        return tuple(zip(named, map(tuple, shares), strict=True))

    def _feed(self, batch: Batch) -> dict[str, NDArray[np.generic]]:
        layout = self.layout
        numbers = batch.numbers.astype(np.float32)
        if layout.is_all_numbers:
            return {FEATURES: numbers}
        feed: dict[str, NDArray[np.generic]] = {}
        for place, name in enumerate(layout.number_names):
            feed[name] = numbers[:, place : place + 1]
        texts = np.where(batch.texts == _MISSING, "", batch.texts)
        for place, name in enumerate(layout.category_names):
            feed[name] = texts[:, place : place + 1]
        return feed


def load(folder: Path) -> Model:
    """Load the version in a folder. Raises UnavailableError where files are missing, InvalidSpecError where they are not a model."""
    signature = read_signature(folder)
    return Model(signature, _session(folder / GRAPH_FILE, signature))


def read_signature(folder: Path) -> Signature:
    """Return the signature of the version in a folder. Raises UnavailableError and InvalidSpecError."""
    path = folder / SIGNATURE_FILE
    try:
        signature = msgspec.json.decode(path.read_bytes(), type=Signature)
    except OSError as error:
        raise UnavailableError(
            f"the signature cannot be read: {error.strerror}", where=str(path), mend=_MEND
        ) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidSpecError(f"not a signature: {error}", where=str(path), mend=_MEND) from error
    if not signature.inputs or len(set(signature.names)) != len(signature.names):
        raise InvalidSpecError("a signature has at least one input, each name once", where=str(path), mend=_MEND)
    if signature.task == "classification" and not signature.classes:
        raise InvalidSpecError("a classifier's signature names its classes", where=str(path), mend=_MEND)
    return signature


def open_session(path: Path) -> InferenceSession:
    """Open a graph with one thread. Raises UnavailableError where it is not there, InvalidSpecError where it cannot be read."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    if not path.is_file():
        raise UnavailableError("the model file is not there", where=str(path), mend=_MEND)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no parent with a name
        raise InvalidSpecError(
            f"not a model that can be loaded: {str(error)[:500]}", where=str(path), mend=_MEND
        ) from error


def _session(path: Path, signature: Signature) -> InferenceSession:
    session = open_session(path)
    layout = Layout(signature)
    wanted = {FEATURES} if layout.is_all_numbers else set(layout.names)
    given = {entry.name for entry in session.get_inputs()}
    if given != wanted:
        raise InvalidSpecError(
            f"the graph takes {', '.join(sorted(given))[:200]}, the signature {', '.join(sorted(wanted))[:200]}",
            where=str(path),
            mend="Convert the model anew, so that graph and signature agree.",
        )
    if "predict" not in {entry.name for entry in session.get_outputs()}:
        raise InvalidSpecError("the graph has no output 'predict'", where=str(path), mend="Convert the model anew.")
    return session
