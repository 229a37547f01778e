"""A Python class of the user's own.

    class Model:
        def load(self): ...                            once, in the process; `self.folder` is where its files lie
        def preprocess(self, payload, headers): ...    optional
        def predict(self, payload, headers): ...       what it is there for
        def postprocess(self, payload, headers): ...   optional
        def explain(self, payload, headers): ...       optional

Any of them may be a coroutine, and may leave `headers` out. `predict` and `explain` run between `preprocess` and `postprocess`. A V1
payload is the document as it came, with `instances`; a V2 payload has `inputs`, a list of name, shape, datatype and data (an array). A
class with `batching = True` is given arrays by name instead, the rows of many requests at once, and gives arrays by name, or one array;
then the other methods are left out. Subclasses of KServe's own `Model` get its `InferRequest` for V2.

`self.features` (or the parameter `features`) finds features by key, where the service's annotation `goldenloop.dev/features` says where
they lie (`goldenloop.features.lookup`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.served import ServedForm
from goldenloop.features.lookup import FEATURES_VARIABLE, FeatureLookup, ParquetFeatures
from goldenloop.serving.predictors.documents import answer_of, is_v2, kserve_answer, kserve_request
from goldenloop.serving.predictors.messages import Method
from goldenloop.serving.predictors.server import ConcurrentModel, Model
from goldenloop.serving.predictors.wire import Array

METHODS: tuple[Method, ...] = ("predict", "explain", "preprocess", "postprocess")

_Method = Callable[..., object]


def load_code(folder: Path, form: ServedForm, *, name: str) -> Model | ConcurrentModel:
    """Import the file, make the class, and let it load. Raises InvalidSpecError, RefusedError, and what its own code raises."""
    path = folder / form.file
    module = _import(path, folder)
    kind = _chosen(module, path, form.class_name)
    features = _features()
    instance = _made(kind, name=name, folder=folder, features=features)
    with contextlib.suppress(AttributeError):  # a class with slots does without
        instance.folder = folder  # type: ignore[attr-defined]
        if features is not None:
            instance.features = features  # type: ignore[attr-defined]
    load = getattr(instance, "load", None)
    if callable(load):
        made = _with(load, folder) if _takes(load, "path", "folder") else load()
        if inspect.isawaitable(made):
            import asyncio

            asyncio.run(cast("Callable[..., object]", _awaited)(made))  # type: ignore[arg-type]
    has_coroutines = any(inspect.iscoroutinefunction(getattr(kind, each)) for each in _own_methods(kind))
    return _ConcurrentCode(instance, form) if has_coroutines else _Code(instance, form)


class _Methods:
    """The methods of an instance, each called with what it takes."""

    def __init__(self, instance: object, form: ServedForm) -> None:
        self._instance = instance
        self._outputs = [output.name for output in form.outputs]
        self._is_kserve = _is_kserve(instance)
        self._methods: dict[Method, tuple[_Method, bool]] = {}
        for name in _own_methods(type(instance)):
            method: _Method = getattr(instance, name)
            self._methods[name] = (method, _takes_headers(method))

    def _chain(self, method: Method) -> list[tuple[_Method, bool]]:
        """What one call runs through. Raises TypeError for a method that the class does not have."""
        if method in ("predict", "explain"):
            if method not in self._methods:
                raise TypeError(f"{type(self._instance).__name__} has no method {method!r}")
            names: tuple[Method, ...] = ("preprocess", method, "postprocess")
        else:
            names = (method,)
        return [self._methods[name] for name in names if name in self._methods]

    def _given(self, payload: object) -> object:
        return kserve_request(payload) if self._is_kserve and is_v2(payload) else payload

    def _result(self, method: Method, payload: object, result: object) -> object:
        if self._is_kserve:
            result = kserve_answer(result)
        if method in ("preprocess", "postprocess"):
            return result
        return answer_of(result, v2=is_v2(payload), names=self._outputs)

    def _arrays(self, result: object) -> dict[str, Array]:
        if isinstance(result, Mapping):
            return {str(name): np.asarray(part) for name, part in result.items()}
        return {(self._outputs or ["predict"])[0]: np.asarray(result)}

    def _single(self) -> tuple[_Method, bool]:
        if "predict" not in self._methods:
            raise TypeError(f"{type(self._instance).__name__} has no method 'predict'")
        return self._methods["predict"]


class _Code(_Methods):
    """A class without coroutines."""

    def score(self, rows: int, tensors: dict[str, Array]) -> dict[str, Array]:  # noqa: ARG002
        method, takes_headers = self._single()
        return self._arrays(method(tensors, {}) if takes_headers else method(tensors))

    def call(self, method: Method, payload: object, headers: dict[str, str]) -> object:
        result = self._given(payload)
        for step, takes_headers in self._chain(method):
            result = step(result, headers) if takes_headers else step(result)
        return self._result(method, payload, result)


class _ConcurrentCode(_Methods):
    """A class with coroutines."""

    async def score(self, rows: int, tensors: dict[str, Array]) -> dict[str, Array]:  # noqa: ARG002
        method, takes_headers = self._single()
        result = method(tensors, {}) if takes_headers else method(tensors)
        return self._arrays(await result if inspect.isawaitable(result) else result)

    async def call(self, method: Method, payload: object, headers: dict[str, str]) -> object:
        result = self._given(payload)
        for step, takes_headers in self._chain(method):
            result = step(result, headers) if takes_headers else step(result)
            if inspect.isawaitable(result):
                result = await result
        return self._result(method, payload, result)


def _import(path: Path, folder: Path) -> ModuleType:
    # The name as a person would import it, so that pickles which name its classes find them.
    sys.path.insert(0, str(path.parent))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise InvalidSpecError("not a Python file", where=path.name, mend="Give a file that ends in .py.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    try:
        specification.loader.exec_module(module)
    except ImportError as error:
        listed = (folder / "requirements.txt").is_file()
        raise RefusedError(
            f"it cannot be imported: {error}",
            where=path.name,
            mend="requirements.txt is not installed for you: install it into the platform's environment."
            if listed
            else "Install the package into the platform's environment.",
        ) from error
    return module


def _chosen(module: ModuleType, path: Path, class_name: str | None) -> type:
    own = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and any(map(value.__dict__.get, METHODS))
    }
    if class_name is not None:
        named = getattr(module, class_name, None)
        if isinstance(named, type):
            return named
        raise InvalidSpecError(
            f"there is no class {class_name!r}",
            where=path.name,
            mend=f"It has {', '.join(own) or 'none with a predict'}.",
        )
    last = [kind for kind in own.values() if not any(kind in other.__mro__[1:] for other in own.values())]
    if len(last) == 1:
        return last[0]
    if not last:
        raise InvalidSpecError(
            "there is no class with a method predict",
            where=path.name,
            mend="Write one, and see the documentation of serving.",
        )
    raise InvalidSpecError(
        f"there are several classes with a method predict: {', '.join(kind.__name__ for kind in last)}",
        where=path.name,
        mend="Say which one, or keep the others in a file of their own.",
    )


def _features() -> FeatureLookup | None:
    """The features of the service, if it names any. Raises InvalidSpecError, UnavailableError."""
    uri = os.environ.get(FEATURES_VARIABLE)
    return None if uri is None else ParquetFeatures(uri)


def _made(kind: type, *, name: str, folder: Path, features: FeatureLookup | None) -> object:
    """Make an instance: without arguments, or with those of `name`, `path`, `folder`, `model_dir`, `features` that it cannot do without."""
    place = str(folder)
    known: dict[str, object] = {"name": name, "model_name": name, "path": place, "folder": place, "model_dir": place}
    if features is not None:
        known["features"] = features
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return kind()
    needed = [
        each
        for each in parameters
        if each.default is each.empty and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    strange = [each.name for each in needed if each.name not in known]
    if strange:
        raise InvalidSpecError(
            f"{kind.__name__} cannot be made without {', '.join(strange)}",
            where=kind.__name__,
            mend="Give the parameters defaults; `name` and `path` are filled in.",
        )
    return kind(**{each.name: known[each.name] for each in needed})


def _takes(method: _Method, *names: str) -> bool:
    try:
        return any(name in inspect.signature(method).parameters for name in names)
    except (TypeError, ValueError):
        return False


def _with(load: _Method, folder: Path) -> object:
    name = "path" if _takes(load, "path") else "folder"
    return load(**{name: str(folder)})


def _takes_headers(method: _Method) -> bool:
    """Whether it takes a second argument: the headers."""
    try:
        parameters = list(inspect.signature(method).parameters.values())
    except (TypeError, ValueError):
        return False
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return True
    return sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters) >= 2


def _own_methods(kind: type) -> list[Method]:
    """The methods that a class has, without those that KServe's `Model` gives it: they do nothing."""
    base = _kserve_model()
    found = {name: getattr(kind, name, None) for name in METHODS}
    return [
        name
        for name, method in found.items()
        if callable(method) and (base is None or method is not getattr(base, name, None))
    ]


def _kserve_model() -> type | None:
    module = sys.modules.get("kserve")
    return cast("type | None", getattr(module, "Model", None))


def _is_kserve(instance: object) -> bool:
    base = _kserve_model()
    return base is not None and isinstance(instance, base)


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable
