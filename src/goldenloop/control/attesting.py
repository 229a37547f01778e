"""Versions are signed when they are registered, and checked before the routing table names them.

The key is an Ed25519 key in the home; whoever has the public half can check a version's bundle without us. A statement names the served
form, file by file through its manifest, and the run that made it. A version from before there were signatures, or one that was registered
from elsewhere, has none: it is called unsigned wherever it is shown, and is served.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from sqlalchemy import select

from goldenloop import __version__
from goldenloop.control.home import write_atomically
from goldenloop.core.clock import to_text
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, RefusedError, UnavailableError
from goldenloop.core.ids import digest_bytes
from goldenloop.core.json import Json, JsonObject
from goldenloop.registry.versions import ModelVersion
from goldenloop.standards.attestation import (
    Envelope,
    Subject,
    bundle,
    read_bundle,
    run_of,
    statement,
    subjects_of,
    to_be_signed,
)
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Transaction, insert_ignoring
from goldenloop.store.tables import attestations, runs

BUILD_TYPE = "https://goldenloop.dev/build/pipeline-run/v1"
_MEND = "Train it again, or put the files back from a copy of the artifact folder."


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version's signature; `why` says what does not fit."""

    state: Literal["signed", "unsigned", "unfit"]
    key: str = ""
    run: str | None = None
    why: str = ""


class Attestor:
    """Signs and checks with the key of one installation."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._name = key_name(key.public_key())
        self._fit: set[tuple[str, str, int, str]] = set()

    @classmethod
    def of_file(cls, path: Path) -> Attestor:
        """With the key in this file, made when it is first needed; its public half lies beside it as `.pub`.

        Raises UnavailableError where the file holds no Ed25519 key.
        """
        if not path.exists():
            made = Ed25519PrivateKey.generate()
            write_atomically(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise _no_key(path) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _no_key(path)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        write_atomically(path.with_suffix(".pub"), public)
        return cls(key)

    def sign(self, transaction: Transaction, version: ModelVersion, *, now_us: int) -> None:
        """Keep a signed statement of where a version comes from, in the transaction that registers it."""
        payload = statement(_subjects(version), _provenance(transaction, version, now_us=now_us))
        envelope = Envelope(payload=payload, signature=self._key.sign(to_be_signed(payload)), key=self._name)
        row = {"namespace": version.namespace, "model": version.model, "number": version.number}
        values = {**row, "key": self._name, "bundle": bundle(envelope), "created_us": now_us}
        transaction.execute(insert_ignoring(transaction, attestations).values(**values))

    def check(self, transaction: Transaction, version: ModelVersion) -> Checked:
        """Whether the signature of a version is ours and speaks of this version; its files are not read."""
        document = bundle_of(transaction, version)
        if document is None:
            return Checked(state="unsigned")
        try:
            envelope = read_bundle(document)
            self._key.public_key().verify(envelope.signature, to_be_signed(envelope.payload))
            said, run = subjects_of(envelope.payload), run_of(envelope.payload)
        except InvalidSignature:
            return Checked(state="unfit", why=f"its signature is not one of the key {self._name[:12]}")
        except InvalidSpecError as error:
            return Checked(state="unfit", why=str(error))
        for each in _subjects(version):
            if said.get(each.name) != each.sha256:
                return Checked(state="unfit", key=envelope.key, run=run, why=f"{each.name} is not what was signed")
        if run != version.run_id:
            return Checked(
                state="unfit", key=envelope.key, run=run, why=f"run {run} was signed as the one that made it"
            )
        return Checked(state="signed", key=envelope.key, run=run)

    def must_fit(self, transaction: Transaction, artifacts: Artifacts, version: ModelVersion) -> None:
        """Raise RefusedError where a version is not what was signed when it was registered, its files included.

        Files are read once in the life of a process: what is in the store is read-only.
        """
        known = (version.namespace, version.model, version.number, version.folder)
        if known in self._fit:
            return
        checked = self.check(transaction, version)
        why = checked.why if checked.state == "unfit" else ""
        if checked.state == "signed":
            damaged = artifacts.damaged(version.folder)
            why = f"{damaged} was changed since it was signed" if damaged else ""
        if why:
            raise RefusedError(
                f"version {version.number} is refused: {why}", where=f"{version.namespace}/{version.model}", mend=_MEND
            )
        self._fit.add(known)

    def refusal(self, transaction: Transaction, artifacts: Artifacts, version: ModelVersion) -> str | None:
        """Why a version is refused, in words; None where it may be served."""
        try:
            self.must_fit(transaction, artifacts, version)
        except UnavailableError:
            raise
        except GoldenloopError as error:
            return str(error)
        return None


def bundle_of(transaction: Transaction, version: ModelVersion) -> Json:
    """The bundle of a version as it was kept, None where it has none."""
    query = select(attestations.c.bundle).where(
        attestations.c.namespace == version.namespace,
        attestations.c.model == version.model,
        attestations.c.number == version.number,
    )
    row = transaction.execute(query).first()
    found: Json = None if row is None else row.bundle
    return found


def key_name(key: Ed25519PublicKey) -> str:
    """The name of a key: the SHA-256 of its public half in DER."""
    return digest_bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _subjects(version: ModelVersion) -> tuple[Subject, ...]:
    name = f"{version.namespace}/{version.model}/{version.number}"
    folder = version.folder.removeprefix("artifact:").rstrip("/")
    return Subject(name=name, sha256=folder), Subject(name=f"{name}/model", sha256=version.digest)


def _provenance(transaction: Transaction, version: ModelVersion, *, now_us: int) -> JsonObject:
    """SLSA's: what was asked for, what went in, who made it."""
    row = transaction.execute(select(runs).where(runs.c.id == version.run_id)).mappings().first()
    metadata: JsonObject = {"invocationId": version.run_id, "finishedOn": to_text(now_us)}
    dependencies: list[Json] = []
    parameters: JsonObject = {}
    if row is not None:
        parameters = row["parameters"]
        metadata["startedOn"] = to_text(row["created_us"])
        for name, address in row["cause"].get("data", {}).items():
            sha256 = str(address).removeprefix("artifact:").rstrip("/")
            dependencies.append({"name": name, "uri": address, "digest": {"sha256": sha256}})
    code = version.code_version
    if isinstance(code.get("digest"), str):
        dependencies.append({"name": "code", "digest": {"sha256": code["digest"]}, "annotations": code})
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "namespace": version.namespace,
                "loop": version.model,
                "version": version.number,
                "parameters": parameters,
            },
            "internalParameters": {"dataVersion": version.data_version},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": "https://goldenloop.dev/builder/local", "version": {"goldenloop": __version__}},
            "metadata": metadata,
        },
    }


def _no_key(path: Path) -> UnavailableError:
    return UnavailableError(
        "it holds no Ed25519 key",
        where=str(path),
        mend="Put the key back from a copy. Without it, versions that it signed are refused.",
    )
