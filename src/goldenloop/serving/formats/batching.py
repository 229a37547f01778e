"""Whether a model of tensors may be given the rows of several requests at once: measured, since no file says so."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.served import TensorSpec

Arrays = Mapping[str, NDArray[np.generic]]
Scorer = Callable[[Arrays], Arrays]

_SIZES = (1, 3, 8, 16, 28, 32, 64, 128, 224)  # tried for what is of any size besides the rows
_LARGEST = 1 << 24  # elements of one trial input
_SEED = 3
_DTYPES = {
    "BOOL": "bool", "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8", "UINT8": "u1", "UINT16": "u2",
    "UINT32": "u4", "UINT64": "u8", "FP16": "f2", "FP32": "f4", "FP64": "f8",
}  # fmt: skip


def try_out(
    score: Scorer, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[bool, tuple[TensorSpec, ...]]:
    """Return whether two rows together are answered as each alone, and the outputs with the shapes as they came.

    Where no trial runs (sizes that cannot be guessed, say) nothing is known: no batching, and the outputs as they were.
    """
    has_rows = bool(inputs) and all(spec.shape and spec.shape[0] == -1 for spec in inputs)
    is_free = any(-1 in spec.shape[1:] for spec in inputs)
    for size in _SIZES if is_free else (1,):
        if any(np.prod([size if n == -1 else n for n in spec.shape], dtype=float) > _LARGEST for spec in inputs):
            break
        generator = np.random.default_rng(_SEED)
        pair = {spec.name: _random(spec, size, 2 if has_rows else 1, generator) for spec in inputs}
        try:
            together = score(pair)
            if not has_rows:
                return False, _corrected(outputs, together, rows=None, is_free=is_free)
            alone = [score({name: array[row : row + 1] for name, array in pair.items()}) for row in range(2)]
        except Exception:  # the runtimes' errors share no parent with a name; another size may do
            continue
        same = all(_joins(together[name], alone[0][name], alone[1][name]) for name in together)
        return same, _corrected(outputs, together, rows=2 if same else None, is_free=is_free)
    return False, tuple(outputs)


def _joins(together: NDArray[np.generic], first: NDArray[np.generic], second: NDArray[np.generic]) -> bool:
    if together.ndim == 0 or first.shape[:1] != (1,) or together.shape != (2, *first.shape[1:]):
        return False
    joined = np.concatenate([first, second])
    if together.dtype.kind not in "fc":
        return bool(np.array_equal(together, joined))
    return bool(np.allclose(together, joined, rtol=1e-3, atol=1e-5, equal_nan=True))


def _corrected(
    outputs: Sequence[TensorSpec], given: Arrays, *, rows: int | None, is_free: bool
) -> tuple[TensorSpec, ...]:
    """Sizes that came otherwise than the file says are of any size; so is the first one where it counts rows.

    An output without a shape has the one that came, unless that hangs on sizes of inputs (`is_free`).
    """
    made = []
    for spec in outputs:
        real = given[spec.name].shape
        shape = spec.shape
        if len(shape) != len(real):
            shape = (-1,) * len(real) if is_free else real
        shape = tuple(said if said == came else -1 for said, came in zip(shape, real, strict=True))
        made.append(TensorSpec(spec.name, spec.datatype, (-1, *shape[1:]) if rows and shape else shape))
    return tuple(made)


def _random(spec: TensorSpec, size: int, rows: int, generator: np.random.Generator) -> NDArray[np.generic]:
    shape = [size if length == -1 else length for length in spec.shape]
    if spec.shape and spec.shape[0] == -1:
        shape[0] = rows
    if spec.datatype == "BYTES":
        texts = np.empty(shape, dtype=object)
        texts.reshape(-1)[:] = [text for text, _ in zip(_words(), range(texts.size), strict=False)]
        return texts
    dtype = np.dtype(_DTYPES[spec.datatype])
    if dtype.kind == "f":
        return generator.normal(size=shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)  # 0 and 1 are places in any table


def _words() -> Iterator[str]:
    return itertools.cycle(("a text", "another one, longer", "0"))
