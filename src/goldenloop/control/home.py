"""The folder of one installation, and where everything lies in it."""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec

from goldenloop.core.errors import ConflictError, NotFoundError, UnavailableError
from goldenloop.core.signing import KEY_BYTES


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running installation answers; what `goldenloop up --output json` prints."""

    home: str
    http: str
    inference: str
    grpc: str | None
    mlmd: str | None
    pid: int


@dataclass(frozen=True, slots=True)
class Home:
    """Paths of one installation. The folder is private to its user: sockets in it need no password."""

    path: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> Home:
        """The home at this path, with its folders made. Raises UnavailableError where that cannot be."""
        home = cls(Path(path).absolute())
        try:
            for folder in (home.path, home.payloads, home.runs, home.logs, home.work, home.cache, home.models):
                folder.mkdir(parents=True, exist_ok=True)
            home.path.chmod(0o700)
        except OSError as error:
            raise UnavailableError(
                f"cannot be made: {error.strerror}",
                where=str(home.path),
                mend="Give another --home, or mend its permissions.",
            ) from error
        return home

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.path / 'state.db'}"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def payloads(self) -> Path:
        return self.path / "payloads"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def environments(self) -> Path:
        """Where the packages of steps are kept, one environment for each set of them."""
        return self.path / "environments"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def volumes(self) -> Path:
        """A folder for each claim of `pvc://CLAIM/…`."""
        return self.path / "volumes"

    @property
    def secrets(self) -> Path:
        """A folder for each secret, in it a file for each key."""
        return self.path / "secrets"

    @property
    def predictors(self) -> Path:
        """Sockets and states of predictor processes."""
        return self.work / "predictors"

    @property
    def signing_key_file(self) -> Path:
        return self.path / "signing.key"

    @property
    def attestation_key_file(self) -> Path:
        """The private key that versions are signed with; its public half lies beside it."""
        return self.path / "attestation.key"

    @property
    def routing_table(self) -> Path:
        return self.path / "routing.json"

    @property
    def control_socket(self) -> Path:
        return self.path / "control.sock"

    @property
    def addresses(self) -> Path:
        return self.path / "addresses.json"

    @property
    def settings(self) -> Path:
        return self.path / "settings.json"

    def running(self) -> Addresses:
        """Where the running installation answers. Raises NotFoundError where none runs."""
        try:
            addresses = msgspec.json.decode(self.addresses.read_bytes(), type=Addresses)
            os.kill(addresses.pid, 0)
        except (OSError, msgspec.DecodeError) as error:
            raise NotFoundError(
                "no platform is running here", where=str(self.path), mend="Start it with: goldenloop up --detach."
            ) from error
        return addresses

    def signing_key(self) -> bytes:
        """The key that this installation signs models with, made when it is first needed."""
        if not self.signing_key_file.exists():
            write_atomically(self.signing_key_file, secrets.token_bytes(KEY_BYTES))
        return self.signing_key_file.read_bytes()

    def lock(self) -> int:
        """Take the installation for this process, until it ends; return the descriptor. Raises ConflictError where another has it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise ConflictError(
                "a platform runs here already",
                where=str(self.path),
                mend="Stop it with `goldenloop down`, or give another --home.",
            ) from error
        return descriptor


def write_atomically(path: Path, content: bytes) -> None:
    """Put the content in the place of the file: a reader sees the old or the new, whole, also after a crash."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(partial, path)
