"""Which folders may be loaded by unpickling: those that this installation has signed, whole and unchanged.

Control signs what its own runs made, after the run has ended, and what the operator trusts (`goldenloop trust`). The signature lies in the
folder as `signed.json` and covers the names and contents of all other files.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from goldenloop.core.errors import GoldenloopError
from goldenloop.core.ids import digest_file, digest_text
from goldenloop.core.signing import is_signed, sign
from goldenloop.serving.predictors.forms import read_served_form

SIGNED_FILE = "signed.json"
_AFTERWARDS = frozenset({SIGNED_FILE, ".manifest.json"})  # the latter is the artifact store's own
UNPICKLING: frozenset[str] = frozenset({"pickle", "mlflow"})  # loaders that run code from the model's files


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """That a folder is known to this installation."""

    digest: str
    signature: str


def digest_folder(folder: Path) -> str:
    """Return the digest of a folder's files, their names and contents, without what is written about it afterwards."""
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    names = sorted(name for name in found if name not in _AFTERWARDS)
    return digest_text(*(part for name in names for part in (name, digest_file(folder / name))))


def sign_folder(folder: Path, key: bytes) -> None:
    """Sign what is in a folder now."""
    digest = digest_folder(folder)
    (folder / SIGNED_FILE).write_bytes(msgspec.json.encode(Signed(digest=digest, signature=sign(key, digest))))


def reason_to_refuse(folder: Path, key: bytes | None) -> str:
    """Why the model in a folder must not be loaded, empty where it may be. A file that is not readable is left to the process to tell."""
    try:
        form = read_served_form(folder)
    except GoldenloopError:
        return ""
    if form.loader not in UNPICKLING:
        return ""
    what = (
        f"the model is loaded by {form.loader}, which runs code from its files, and this installation has not signed it"
    )
    mend = "Save it as skops or ONNX, or accept it with `goldenloop trust DIGEST` and apply the service again."
    if key is None:
        return f"{what}. {mend}"
    try:
        signed = msgspec.json.decode((folder / SIGNED_FILE).read_bytes(), type=Signed)
    except (OSError, msgspec.DecodeError, ValueError):
        return f"{what}. {mend}"
    if not is_signed(key, signed.digest, signed.signature):
        return f"the signature of the model is not this installation's. {mend}"
    if digest_folder(folder) != signed.digest:
        return f"the model's files were changed after they were signed. {mend}"
    return ""
