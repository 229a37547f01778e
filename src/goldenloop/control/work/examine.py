"""Examining a model that a service names: fetched, recognised, and brought into a served form.

Two processes do it. The first one has the network and the storage's credentials, and reads no model. The second one has neither
credentials nor secrets in its environment, loads the model, and may crash of it: that is then what is said of the file.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from goldenloop.control.jobs import Failure
from goldenloop.control.work.records import Examination, Examined, Source
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, RefusedError, UnavailableError
from goldenloop.core.ids import digest_file, digest_text
from goldenloop.core.json import JsonObject
from goldenloop.core.served import Form, Loader, Runtime
from goldenloop.pipelines.executor import log_tail
from goldenloop.serving.storage import Fetched, fetch

_SECONDS = 1_200.0  # for loading, converting and comparing
_CLASS = "CLASS"  # the variable that names the class in a user's Python file
_PUBLIC = ("http", "https", "hf")  # where anybody may have put what is found
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
_WORDS_KEPT = 300  # characters of what a process said last


class Bringing(msgspec.Struct, frozen=True, kw_only=True):
    """What the second process is asked: to bring the model in `model` into the served form in `out`."""

    model: str
    out: str
    format: str | None
    class_name: str | None
    trusted: tuple[str, ...]
    is_public: bool


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What it answers."""

    form: Form
    runtime: Runtime
    loader: Loader
    format: str
    notes: tuple[str, ...]


def examine(request: Examination, folder: Path) -> Examined:
    """Do it. Raises what fetching raises, InvalidSpecError and RefusedError for what is no model or may not be served."""
    model, served = folder / "model", folder / "served"
    fetched = [_fetch(source, request, model) for source in _ordered(request.sources)]
    if not fetched:
        raise InvalidSpecError("there is no storage address", where="storageUri", mend="Say where the model lies.")
    bringing = Bringing(
        model=str(model),
        out=str(served),
        format=request.format,
        class_name=request.environment.get(_CLASS),
        trusted=request.trusted,
        is_public=any(urlsplit(source.uri).scheme in _PUBLIC for source in request.sources),
    )
    brought = _bring_aside(bringing, folder / "bring")
    shutil.rmtree(model)
    files = sorted(path for path in served.rglob("*") if path.is_file())
    digest = digest_text(*(part for path in files for part in (str(path.relative_to(served)), digest_file(path))))
    source: JsonObject = {"fetched": [msgspec.to_builtins(each) for each in fetched]}
    return Examined(
        folder=str(served),
        digest=digest,
        form=brought.form,
        runtime=brought.runtime,
        format=brought.format,
        size_bytes=sum(path.stat().st_size for path in files),
        source=source,
        notes=brought.notes,
    )


def bring(request: Bringing) -> Brought:
    """What the second process does."""
    from goldenloop.serving.formats import make_form, recognise

    found = recognise(
        Path(request.model), said=request.format, class_name=request.class_name, trusted=frozenset(request.trusted)
    )
    if found.runs_code and request.is_public and request.format is None:
        raise RefusedError(
            f"{found.file!r} is a program from a public place, which nobody asked to run",
            where="storageUri",
            mend="Read it; if it is what you want, say modelFormat: {name: python}.",
        )
    made = make_form(found, Path(request.out))
    return Brought(
        form=made.form.form,
        runtime=made.form.runtime,
        loader=made.form.loader,
        format=made.form.format,
        notes=made.notes,
    )


def _ordered(sources: tuple[Source, ...]) -> list[Source]:
    """Outer folders first."""
    return sorted(sources, key=lambda source: source.folder.count("/") + bool(source.folder))


def _fetch(source: Source, request: Examination, model: Path) -> Fetched:
    place = model / source.folder
    if not place.resolve().is_relative_to(model.resolve()):
        raise InvalidSpecError(f"the folder {source.folder!r} leads out of the model", where="storageUris")
    volumes = None if request.volumes is None else Path(request.volumes)
    return fetch(source.uri, place, volumes=volumes, environment={**os.environ, **request.environment})


def _bring_aside(request: Bringing, folder: Path) -> Brought:
    """Have it done by the second process."""
    folder.mkdir()
    (folder / "request.json").write_bytes(msgspec.json.encode(request))
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = (sys.executable, "-m", "goldenloop.control.work.main", "bring", str(folder))
    try:
        with (folder / "log.txt").open("wb") as log:
            code = subprocess.run(
                command,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=_SECONDS,
                check=False,
            ).returncode
    except subprocess.TimeoutExpired as error:
        raise InvalidSpecError(
            f"loading the model took longer than {_SECONDS:g} s", where="storageUri", mend="Serve a smaller one."
        ) from error
    failure = folder / "failure.json"
    if failure.exists():
        raise msgspec.json.decode(failure.read_bytes(), type=Failure).error()
    if code == 0:
        return msgspec.json.decode((folder / "response.json").read_bytes(), type=Brought)
    raise _fate(code, log_tail(folder / "log.txt", lines=1))


def _fate(code: int, words: str) -> GoldenloopError:
    if code == -signal.SIGKILL:
        return UnavailableError(
            "the process that loads the model was killed, probably for its memory",
            where="storageUri",
            mend="Serve a smaller model, or on a machine with more memory.",
        )
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return InvalidSpecError(
        f"the file makes the library that reads it crash ({how}): {words[:_WORDS_KEPT]}".rstrip(": "),
        where="storageUri",
        mend="Save the model anew, and compare its checksum.",
    )
