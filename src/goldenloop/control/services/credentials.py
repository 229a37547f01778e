"""What reaches a model's storage: variables and secrets, as KServe's resources name them.

A secret is a folder `HOME/secrets/NAME`, each key a file in it. A file whose name is that of a variable (AWS_ACCESS_KEY_ID) is that
variable wherever the secret is given as a whole: to a service account, or with `envFrom`. `storage.key` is a file in the secret
`storage-config`, a JSON document with KServe's fields.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.inference_service.records import Storage, StorageUri, Variable
from goldenloop.standards.inference_service.sources import STORAGE_URI, ModelSource

STORAGE_SECRET = "storage-config"
DEFAULT_KEYS = ("default", "default_{type}")  # tried in turn where a storage names no key
GOOGLE_FILE = "gcloud-application-credentials.json"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_KEY = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]*")
# KServe's field of a storage secret → the variable that storage clients read.
_FIELDS = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "endpoint_url": "AWS_ENDPOINT_URL",
    "region": "AWS_DEFAULT_REGION",
    "anonymous": "awsAnonymousCredential",
    "cabundle_configmap": "AWS_CA_BUNDLE_CONFIGMAP",
}


class StorageSecret(msgspec.Struct, frozen=True, kw_only=True):
    """Where a storage is (`type`, `bucket`), and the variables that reach it."""

    type: str
    bucket: str
    environment: dict[str, str]


def environment_of(source: ModelSource, secrets: Path) -> dict[str, str]:
    """The variables with which a model is fetched: of its service account, of `envFrom`, of `env`; the later ones win.

    Raises NotFoundError for a secret that is not there and is not optional, InvalidSpecError for a name that cannot be one.
    """
    found: dict[str, str] = {}
    if source.service_account is not None and (secrets / _checked(source.service_account)).is_dir():
        found |= _whole_secret(secrets / source.service_account)
    for given in source.env_from:
        if isinstance(reference := given.get("secretRef"), dict):
            folder = secrets / _checked(reference.get("name"))
            if _is_there(folder, reference):
                found |= {f"{given.get('prefix') or ''}{name}": text for name, text in _whole_secret(folder).items()}
    for variable in source.env:
        if (text := _value_of(variable, secrets)) is not None:
            found[variable.name] = text
    return found


def own_variables(source: ModelSource) -> dict[str, str]:
    """The variables whose values stand in the file: what a user's code finds in its environment. Secrets are for fetching only."""
    return {each.name: each.value or "" for each in source.env if each.value_from is None and each.name != STORAGE_URI}


def place_of(storage: Storage, secrets: Path) -> tuple[StorageUri, dict[str, str]]:
    """The address that a storage means, and the variables that reach it.

    Raises NotFoundError where the key is not there, InvalidSpecError where the address is not complete.
    """
    secret = _storage_secret(storage, secrets)
    kind = storage.parameters.get("type") or secret.type
    bucket = storage.parameters.get("bucket") or secret.bucket
    if kind in ("s3", "gs") and not bucket:
        raise InvalidSpecError(
            "the bucket is not said", where="storage.parameters.bucket", mend="Give it there, or in the secret."
        )
    if not kind:
        raise InvalidSpecError(
            "the type of the storage is not said",
            where="storage.parameters.type",
            mend="Give it there (s3, gs, …), or in the secret.",
        )
    path = storage.path.lstrip("/")
    environment = {**secret.environment, **_variables(storage.parameters)}
    return StorageUri(uri=f"{kind}://{bucket}/{path}" if bucket else f"{kind}://{path}"), environment


def _storage_secret(storage: Storage, secrets: Path) -> StorageSecret:
    folder = secrets / STORAGE_SECRET
    keys = [storage.key] if storage.key else [key.format(type=storage.parameters.get("type")) for key in DEFAULT_KEYS]
    path = next((folder / key for key in map(_checked, keys) if (folder / key).is_file()), None)
    if path is None:
        if storage.key is None:
            return StorageSecret(type="", bucket="", environment={})
        raise NotFoundError(
            f"there is no key {storage.key!r} in the secret {STORAGE_SECRET!r}",
            where="storage.key",
            mend=f"Write it to {folder / storage.key}: JSON with type, bucket, access_key_id, ….",
        )
    try:
        document = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise InvalidSpecError(f"not JSON: {error}", where=str(path)) from error
    if not isinstance(document, dict):
        raise InvalidSpecError("not a JSON object", where=str(path), mend="Write type, bucket, access_key_id, ….")
    texts = {name: str(value) for name, value in document.items() if isinstance(value, str | int | float | bool)}
    return StorageSecret(
        type=texts.get("type", ""),
        bucket=texts.get("bucket") or texts.get("default_bucket", ""),
        environment=_variables(texts),
    )


def _variables(fields: dict[str, str]) -> dict[str, str]:
    return {_FIELDS[name]: value for name, value in fields.items() if name in _FIELDS}


def _value_of(variable: Variable, secrets: Path) -> str | None:
    if variable.value is not None or variable.value_from is None:
        return variable.value or ""
    reference = variable.value_from.get("secretKeyRef")
    if not isinstance(reference, dict):
        return None
    path = secrets / _checked(reference.get("name")) / _checked(reference.get("key"))
    return _text(path) if _is_there(path, reference) else None


def _is_there(path: Path, reference: JsonObject) -> bool:
    if path.exists():
        return True
    if reference.get("optional") is True:
        return False
    raise NotFoundError(
        f"there is no secret {path.name if path.parent.name == 'secrets' else f'{path.parent.name}/{path.name}'}",
        where=str(path),
        mend="A secret is a folder, and each of its keys a file in it.",
    )


def _whole_secret(folder: Path) -> dict[str, str]:
    found = {path.name: _text(path) for path in sorted(folder.iterdir()) if _VARIABLE.fullmatch(path.name)}
    if (folder / GOOGLE_FILE).is_file():
        found["GOOGLE_APPLICATION_CREDENTIALS"] = str(folder / GOOGLE_FILE)
    return found


def _text(path: Path) -> str:
    return path.read_text().removesuffix("\n")


def _checked(name: Json) -> str:
    """The name, if it is that of a file in the folder and of nothing else."""
    if not isinstance(name, str) or not _KEY.fullmatch(name):
        raise InvalidSpecError(
            f"{name!r} is not the name of a secret", where="env", mend="Use letters, digits, '-', '.'."
        )
    return name
