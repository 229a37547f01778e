"""scikit-learn's estimators and what has its interface: skops files, and pickles where they are trusted."""

from __future__ import annotations

import shutil
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, RefusedError
from goldenloop.core.served import ServedForm, TensorSpec
from goldenloop.core.signatures import Signature
from goldenloop.serving.conversion import convert_estimator
from goldenloop.serving.conversion.estimators import Estimator, Expected, ask, signature_of
from goldenloop.serving.conversion.hints import hints_of
from goldenloop.serving.conversion.samples import samples_of
from goldenloop.serving.explanations import keep_explainer
from goldenloop.serving.formats.found import Found, Made, ends
from goldenloop.serving.formats.tables import converted, in_process
from goldenloop.serving.predictors.estimators import load_pickle, load_skops


def find(folder: Path, names: Sequence[str]) -> list[Found]:
    """`*.skops`, `*.joblib`, `*.pkl`, `*.pickle`."""
    return [found_at(folder, name) for name in names if ends(name, ".skops", ".joblib", ".pkl", ".pickle")]


def found_at(folder: Path, name: str, *, called: str = "sklearn", also: str = "sklearn", version: str = "") -> Found:
    """The estimator in this file. Raises InvalidSpecError for a skops file that is none."""
    if ends(name, ".skops"):
        _check_skops(folder / name)
        return Found(
            format=called, loader="skops", folder=folder, file=name, files=(name,), also=also, framework_version=version
        )
    return Found(
        format=called,
        loader="pickle",
        folder=folder,
        file=name,
        files=(name,),
        pickles=(name,),
        also=also,
        framework_version=version,
    )


def make(found: Found, out: Path) -> Made:
    """Load it, convert it if that changes nothing, and keep the object itself otherwise. Raises InvalidSpecError, RefusedError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = _load(found)
        names, sample, expected = _tried(estimator)
        try:
            record = convert_estimator(estimator, sample, names, (expected,), out=out)
            made = converted(found, record)
        except GoldenloopError as error:
            made = _keep(found, estimator, sample, expected, why=str(error), out=out)
        assert made.form.signature is not None  # it is a table
        keep_explainer(out, made.form.signature, sample, background="made-up rows", estimator=estimator)
    return made


def _check_skops(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            archive.getinfo("schema.json")
    except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        raise InvalidSpecError(
            f"not a skops file: {error}", where=path.name, mend="Save the model with skops.io.dump."
        ) from error


def _load(found: Found) -> Estimator:
    try:
        return load_skops(found.path) if found.loader == "skops" else load_pickle(found.path)
    except GoldenloopError:
        raise
    except (ImportError, AttributeError) as error:
        raise RefusedError(
            f"the model needs code that is not installed here: {error}",
            where=found.file,
            mend="Install it, or build the model from scikit-learn's own classes.",
        ) from error
    except Exception as error:  # a file that was made wrong on purpose raises what it likes
        raise InvalidSpecError(
            f"not a saved estimator: {type(error).__name__}: {str(error)[:300]}",
            where=found.file,
            mend="Save the fitted estimator or pipeline anew.",
        ) from error


def _tried(estimator: Estimator) -> tuple[list[str], pyarrow.Table, Expected]:
    """The first sample that it can score, and what it says. Raises RefusedError where it scores none."""
    hints = hints_of(estimator)
    names = list(hints)
    refusal: GoldenloopError | None = None
    for sample in samples_of(hints):
        try:
            return names, sample, ask(estimator, sample, names)
        except RefusedError as error:
            refusal = error
    assert refusal is not None  # there is at least one sample
    raise refusal


def _keep(
    found: Found, estimator: Estimator, sample: pyarrow.Table, expected: Expected, *, why: str, out: Path
) -> Made:
    signature = signature_of(estimator, sample, sample.column_names, truths_are="category")
    shutil.copyfile(found.path, out / Path(found.file).name)
    form = ServedForm(
        form="table",
        runtime="process",
        loader=found.loader,
        format=found.format,
        framework_version=found.framework_version or _version(estimator),
        file=Path(found.file).name,
        signature=signature,
        inputs=_truths(signature, sample),
        batching=True,
    )
    return in_process(form, sample, expected, why=why, out=out)


def _truths(signature: Signature, sample: pyarrow.Table) -> tuple[TensorSpec, ...]:
    """The columns of truths, which travel as texts."""
    return tuple(
        TensorSpec(name, "BOOL", (-1, 1))
        for name in signature.names
        if pyarrow.types.is_boolean(sample.schema.field(name).type)
    )


def _version(estimator: Estimator) -> str:
    state: object = getattr(estimator, "__getstate__", dict)()
    return str(state.get("_sklearn_version", "")) if isinstance(state, dict) else ""
