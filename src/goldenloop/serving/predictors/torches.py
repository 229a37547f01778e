"""PyTorch models that need no code of their own: TorchScript, and programs of `torch.export`. On a GPU where there is one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.served import ServedForm
from goldenloop.serving.predictors.messages import Method
from goldenloop.serving.predictors.server import Model
from goldenloop.serving.predictors.wire import Array

if TYPE_CHECKING:
    import torch


def load_torchscript(path: Path, form: ServedForm, *, threads: int) -> Model:
    """Load a TorchScript file. Raises RefusedError, InvalidSpecError."""
    device = _begin(threads)
    import torch

    try:
        module = torch.jit.load(str(path), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise InvalidSpecError(
            f"not a TorchScript file: {str(error).splitlines()[0][:300]}",
            where=path.name,
            mend="Save it with torch.jit.save.",
        ) from error
    return _TorchModel(module.eval(), form, device)


def load_exported(path: Path, form: ServedForm, *, threads: int) -> Model:
    """Load a program of `torch.export.save`. Raises RefusedError, InvalidSpecError."""
    device = _begin(threads)
    import torch

    try:
        program = torch.export.load(str(path))
    except Exception as error:  # whatever a broken file makes it raise
        raise InvalidSpecError(
            f"not an exported program: {str(error)[:300]}", where=path.name, mend="Save it with torch.export.save."
        ) from error
    if device != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    return _TorchModel(program.module(), form, device)


class _TorchModel:
    """Tensors in the order of the form's inputs; what comes back has the names of its outputs, in their order."""

    def __init__(self, module: Callable[..., object], form: ServedForm, device: str) -> None:
        self._module = module
        self._device = device
        self._inputs = [spec.name for spec in form.inputs]
        self._outputs = [spec.name for spec in form.outputs]

    def score(self, rows: int, tensors: dict[str, Array]) -> dict[str, Array]:  # noqa: ARG002
        import torch

        names = self._inputs or list(tensors)
        if missing := [name for name in names if name not in tensors]:
            raise ValueError(f"the tensor {missing[0]!r} is missing")
        given = [torch.from_numpy(np.require(tensors[name], requirements="W")).to(self._device) for name in names]
        with torch.inference_mode():
            return self._named(self._module(*given))

    def call(self, method: Method, payload: object, headers: dict[str, str]) -> object:  # noqa: ARG002
        raise TypeError(f"the model has no {method}: it scores tensors")

    def _named(self, result: object) -> dict[str, Array]:
        import torch

        if isinstance(result, torch.Tensor):
            parts: Sequence[torch.Tensor] = [result]
        elif isinstance(result, Mapping):
            return {str(name): _array(part) for name, part in result.items()}
        elif isinstance(result, list | tuple):
            parts = result
        else:
            raise TypeError(f"the model gave a {type(result).__name__}; tensors are what can be sent")
        names = self._outputs or [f"output_{place}" for place in range(len(parts))]
        if len(names) != len(parts):
            raise TypeError(f"the model gave {len(parts)} tensors, its form names {len(names)}")
        return {name: _array(part) for name, part in zip(names, parts, strict=True)}


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def _begin(threads: int) -> str:
    try:
        import torch
    except ImportError as error:
        raise RefusedError("PyTorch is not installed", mend="pip install 'goldenloop[torch]'.") from error
    torch.set_num_threads(threads)
    with contextlib.suppress(RuntimeError):  # it can be said once in a process
        torch.set_num_interop_threads(1)
    return "cuda" if torch.cuda.is_available() else "cpu"
