"""What models that score tables share: from numbers and texts to what they take, and from what they say to the answers.

A table comes as `numbers`, float64 [n, k1], and `texts`, objects [n, k2] (left out where k2 is 0), in the order of the signature. The
answers are `predict`, a class as text or a value, and `probabilities`, [n, classes], for a classifier that has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.served import ServedForm
from goldenloop.core.signatures import Signature, as_text
from goldenloop.serving.predictors.wire import Array

if TYPE_CHECKING:
    import pandas


class Table:
    """How the rows of a form are laid out."""

    def __init__(self, form: ServedForm) -> None:
        signature = signature_of(form)
        self.names = list(signature.names)
        self._numbers = [column.name for column in signature.inputs if column.kind == "number"]
        self._texts = [column.name for column in signature.inputs if column.kind == "category"]
        # Truths travel as texts; what was trained on truths is given truths.
        self._truths = {spec.name for spec in form.inputs if spec.datatype == "BOOL"}
        self.is_all_numbers = not self._texts

    def frame(self, tensors: dict[str, Array]) -> pandas.DataFrame:
        """The rows as a data frame with the columns that the model was trained on."""
        import pandas

        columns: dict[str, object] = {}
        numbers = tensors["numbers"]
        for place, name in enumerate(self._numbers):
            columns[name] = numbers[:, place]
        for place, name in enumerate(self._texts):
            values = tensors["texts"][:, place].tolist()
            columns[name] = [_truth(value) for value in values] if name in self._truths else values
        return pandas.DataFrame(columns, columns=self.names)


class Classes:
    """The classes of a form, and the answers that name them."""

    def __init__(self, signature: Signature) -> None:
        self.names = np.array([*signature.classes, None], dtype=object)[:-1]  # objects, whatever they are
        self._signature = signature

    def check(self, own: Sequence[str | float | bool]) -> None:
        """Raise InvalidSpecError unless the model's own classes are the signature's, in this order."""
        written = tuple(map(as_text, own))
        if written != self._signature.classes:
            raise InvalidSpecError(
                f"the model's classes are {written[:8]}, the signature's {self._signature.classes[:8]}",
                where="signature",
                mend="Register the version again.",
            )

    def from_probabilities(self, probabilities: NDArray[np.generic]) -> dict[str, Array]:
        """The most probable class of each row, the first of several."""
        return {"predict": self.names[probabilities.argmax(axis=1)], "probabilities": probabilities}

    def from_second(self, probability: NDArray[np.generic]) -> dict[str, Array]:
        """Of two classes, where the model gives the probability of the second one."""
        probabilities = np.empty((len(probability), 2))
        probabilities[:, 1] = probability
        np.subtract(1.0, probabilities[:, 1], out=probabilities[:, 0])
        return self.from_probabilities(probabilities)


def signature_of(form: ServedForm) -> Signature:
    """The signature of a table. Raises InvalidSpecError."""
    if form.signature is None:
        raise InvalidSpecError("a table needs a signature", where="served.json", mend="Apply the service again.")
    return form.signature


def named(labels: Array) -> Array:
    """Labels as the signature writes classes."""
    made = np.empty(len(labels), dtype=object)
    made[:] = [as_text(label) for label in labels.reshape(-1).tolist()]
    return made


def matrix_of(tensors: dict[str, Array]) -> Array:
    """The rows of tensors by name: one tensor as it is, several side by side."""
    arrays = list(tensors.values())
    if len(arrays) == 1:
        only = arrays[0]
        return only if only.ndim > 1 else only.reshape(-1, 1)
    return np.column_stack([array.reshape(len(array), -1) for array in arrays])


def _truth(value: object) -> object:
    return value if value is None else value == "true"
