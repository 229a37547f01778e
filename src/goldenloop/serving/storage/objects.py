"""Objects of S3, Google Cloud Storage and Azure, through fsspec: one object, or all below a prefix.

The variables that KServe's storage initializer honours are honoured. The listing is compared before and after: what changed meanwhile
is no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, RefusedError, UnavailableError
from goldenloop.serving.storage.purse import PIECE, Purse, inner_path
from goldenloop.serving.storage.records import FetchedFile

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_ATTEMPTS = 3
_AT_ONCE = 8 * PIECE  # bytes asked for at once
_AZURE_HOST = re.compile(
    r"(?P<account>[\w-]+)\.(?:z\d{1,2}\.)?(?:blob|dfs)\.(?P<suffix>core\.windows\.net|storage\.azure\.net)"
)
_PACKAGES = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "azure": ("adlfs", "azure"),
}  # package, and extra that brings it
_VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL, or awsAnonymousCredential=true",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCESS_KEY, or AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
}
_NO_ACCESS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "ClientAuthenticationError",
    "RefreshError",
    "HttpError 401",
    "401",
    "403",
)
# KServe's storage secret (STORAGE_CONFIG, a JSON object) and the variables that its entries stand for.
_SECRET_ENTRIES = {
    "endpoint_url": "AWS_ENDPOINT_URL",
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "region": "AWS_DEFAULT_REGION",
    "ca_bundle": "AWS_CA_BUNDLE",
    "verify_ssl": "S3_VERIFY_SSL",
    "anonymous": "awsAnonymousCredential",
}


@dataclass(frozen=True, slots=True)
class _Object:
    place: str  # as the file system names it
    name: str  # below the prefix
    size: int
    etag: str


def is_azure(uri: str) -> bool:
    """Whether the https address is that of a blob in an Azure account."""
    return _AZURE_HOST.fullmatch(urlsplit(uri).hostname or "") is not None


def download(uri: str, purse: Purse, environment: Mapping[str, str]) -> tuple[FetchedFile, ...]:
    """Bring the object or the objects. Raises NotFoundError, RefusedError without access, UnavailableError, InvalidSpecError."""
    provider = {"s3": "s3", "gs": "gs"}.get(urlsplit(uri).scheme, "azure")
    try:
        return _download(provider, uri, purse, environment)
    except GoldenloopError:
        raise
    except ImportError as error:
        package, extra = _PACKAGES[provider]
        raise InvalidSpecError(
            f"this storage needs the package {package}: {error}",
            where=purse.where,
            mend=f"pip install 'goldenloop[{extra}]'.",
        ) from error
    except FileNotFoundError as error:
        raise NotFoundError(
            "there is nothing at this address", where=purse.where, mend="Check bucket and path."
        ) from error
    except Exception as error:  # every client has errors of its own
        said = f"{type(error).__name__}: {str(error)[:300]}"
        if isinstance(error, PermissionError) or any(sign in said for sign in _NO_ACCESS):
            raise RefusedError(
                f"the storage refuses access: {said}", where=purse.where, mend=f"Set {_VARIABLES[provider]}."
            ) from error
        raise UnavailableError(
            f"the storage does not answer, or breaks off: {said}",
            where=purse.where,
            mend="Nothing of it was kept; check address and network, and try again.",
        ) from error


def _download(provider: str, uri: str, purse: Purse, environment: Mapping[str, str]) -> tuple[FetchedFile, ...]:
    root, files = {"s3": _s3, "gs": _gs, "azure": _azure}[provider](uri, environment, purse)
    objects = _listed(files, root, purse)
    purse.check_listing(entry.size for entry in objects)
    fetched = tuple(
        purse.write(entry.name, _pieces(files, entry), etag=entry.etag, expected=entry.size) for entry in objects
    )
    if _listed(files, root, purse) != objects:
        raise UnavailableError("it changed while it was read", where=purse.where, mend="Fetch it again.")
    return fetched


def _listed(files: AbstractFileSystem, root: str, purse: Purse) -> list[_Object]:
    found: Mapping[str, Mapping[str, object]] | list[str] = files.find(root, detail=True)
    if isinstance(found, list):  # what adlfs says of a single blob
        found = {place: files.info(place) for place in found}
    objects = []
    for place, details in sorted(found.items()):
        if place.endswith("/") or details.get("type") == "directory":
            continue  # what consoles write to show an empty folder
        if place != root and not place.startswith(f"{root}/"):
            continue  # its name only begins alike
        name = place.rpartition("/")[2] if place == root else place[len(root) + 1 :]
        etag = next((str(details[key]) for key in ("ETag", "etag", "generation", "md5Hash") if details.get(key)), "")
        objects.append(
            _Object(place, str(inner_path(name, where=purse.where)), int(str(details["size"])), etag.strip('"'))
        )
    if not objects:
        raise NotFoundError("there is nothing at this address", where=purse.where, mend="Check bucket and path.")
    return objects


def _pieces(files: AbstractFileSystem, entry: _Object) -> Iterator[bytes]:
    if entry.size == 0:
        return
    with files.open(entry.place, "rb", block_size=_AT_ONCE, cache_type="readahead", size=entry.size) as stream:
        while piece := stream.read(PIECE):
            yield piece


def _s3(uri: str, environment: Mapping[str, str], purse: Purse) -> tuple[str, AbstractFileSystem]:
    from s3fs import S3FileSystem

    environment = _with_secret(environment, purse)
    endpoint = environment.get("AWS_ENDPOINT_URL")
    if not endpoint and (host := environment.get("S3_ENDPOINT")):
        scheme = "http" if environment.get("S3_USE_HTTPS", "1").lower() in ("0", "false") else "https"
        endpoint = host if "://" in host else f"{scheme}://{host}"
    client: dict[str, object] = {}
    if region := environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"):
        client["region_name"] = region
    if environment.get("S3_VERIFY_SSL", "1").lower() in ("0", "false"):
        client["verify"] = False
    elif bundle := environment.get("AWS_CA_BUNDLE"):
        client["verify"] = bundle
    addressing: dict[str, object] = {}
    if _is_true(environment.get("S3_USER_VIRTUAL_BUCKET")):
        addressing["addressing_style"] = "virtual"
    if _is_true(environment.get("S3_USE_ACCELERATE")):
        addressing["use_accelerate_endpoint"] = True
    config: dict[str, object] = {
        "connect_timeout": purse.limits.silence_seconds,
        "read_timeout": purse.limits.silence_seconds,
        "retries": {"max_attempts": _ATTEMPTS, "mode": "standard"},
    }
    if addressing:
        config["s3"] = addressing
    files = S3FileSystem(
        anon=_is_true(environment.get("awsAnonymousCredential")),
        key=environment.get("AWS_ACCESS_KEY_ID"),
        secret=environment.get("AWS_SECRET_ACCESS_KEY"),
        token=environment.get("AWS_SESSION_TOKEN"),
        endpoint_url=endpoint,
        client_kwargs=client,
        config_kwargs=config,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    return _bucket_path(uri, purse), files


def _gs(uri: str, environment: Mapping[str, str], purse: Purse) -> tuple[str, AbstractFileSystem]:
    # The package's own subclass asks over gRPC, which emulators do not speak, what kind of bucket it is, before each call.
    from gcsfs.core import GCSFileSystem

    emulator = environment.get("STORAGE_EMULATOR_HOST")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    files = GCSFileSystem(
        token="anon" if emulator else environment.get("GOOGLE_APPLICATION_CREDENTIALS"),
        project=environment.get("GOOGLE_CLOUD_PROJECT", ""),
        endpoint_url=emulator,
        timeout=purse.limits.silence_seconds,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    return _bucket_path(uri, purse), files


def _azure(uri: str, environment: Mapping[str, str], purse: Purse) -> tuple[str, AbstractFileSystem]:
    from adlfs import AzureBlobFileSystem

    parts = urlsplit(uri)
    account = environment.get("AZURE_STORAGE_ACCOUNT_NAME")
    path = unquote(parts.path).strip("/")
    token = environment.get("AZURE_STORAGE_SAS_TOKEN")
    host = _AZURE_HOST.fullmatch(parts.hostname or "")
    if parts.scheme == "https":  # https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH[?SAS]
        container, _, path = path.partition("/")
        token = parts.query or token
    else:  # abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH, or abfs://CONTAINER/PATH
        container = unquote(parts.username or parts.hostname or "")
    if host is not None:
        account = host["account"]
    connection = environment.get("AZURE_STORAGE_CONNECTION_STRING")
    if not container or not path or (account is None and connection is None):
        raise InvalidSpecError(
            "the address names no account, container or path",
            where=purse.where,
            mend="Write abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH, or set AZURE_STORAGE_ACCOUNT_NAME.",
        )
    key = environment.get("AZURE_STORAGE_ACCESS_KEY") or environment.get("AZURE_STORAGE_ACCOUNT_KEY")
    client = environment.get("AZURE_CLIENT_ID") or environment.get("AZ_CLIENT_ID")
    files = AzureBlobFileSystem(
        account_name=account,
        connection_string=connection,
        account_key=key,
        sas_token=token,
        client_id=client,
        tenant_id=environment.get("AZURE_TENANT_ID") or environment.get("AZ_TENANT_ID"),
        client_secret=environment.get("AZURE_CLIENT_SECRET") or environment.get("AZ_CLIENT_SECRET"),
        anon=not (key or token or client or connection),
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    return f"{container}/{path}", files


def _bucket_path(uri: str, purse: Purse) -> str:
    bucket, _, path = uri.partition("://")[2].partition("/")
    path = path.rstrip("/")
    if not bucket:
        raise InvalidSpecError("the address names no bucket", where=purse.where, mend="Write s3://BUCKET/PATH.")
    return f"{bucket}/{path}" if path else bucket


def _with_secret(environment: Mapping[str, str], purse: Purse) -> Mapping[str, str]:
    try:
        secret = json.loads(environment.get("STORAGE_CONFIG") or "{}")
        secret |= json.loads(environment.get("STORAGE_OVERRIDE_CONFIG") or "{}")
    except (ValueError, TypeError) as error:
        raise InvalidSpecError(
            f"STORAGE_CONFIG is not a JSON object: {error}", where=purse.where, mend="Write the secret as JSON."
        ) from error
    if secret.get("type") != "s3":
        return environment
    said = {variable: str(secret[entry]) for entry, variable in _SECRET_ENTRIES.items() if secret.get(entry)}
    return {**environment, **said}


def _is_true(value: str | None) -> bool:
    return (value or "").lower() in ("1", "true")
