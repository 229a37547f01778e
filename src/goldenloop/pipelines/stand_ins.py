"""What a platform specification asks of Kubernetes, on one machine: secrets and config maps are files of the
installation, volumes and the workspace are folders of it. What has no counterpart is said in the warnings of the run.

HOME/secrets/NAME/KEY       a secret's value, the file's content
HOME/configmaps/NAME/KEY    likewise
HOME/volumes/NAME/          a persistent volume claim
HOME/runs/RUN/workspace/    the workspace of a run; it goes with the run's work folders
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.pipelines.values import Around, parameter_value
from goldenloop.standards.kubernetes_platform import ExecutorSettings, NameSource, Variables, Volume

CREATE_VOLUME = "argostub/createpvc"  # images that stand for an operation on a volume, and run nothing
DELETE_VOLUME = "argostub/deletepvc"
_SECRETS = "secrets"
_CONFIG_MAPS = "configmaps"
_VOLUMES = "volumes"


class StandIns(msgspec.Struct, frozen=True, kw_only=True):
    """What a step gets in place of what Kubernetes would give it: variables, folders by the paths at which they are
    expected, and the longest time that it may take.
    """

    environment: dict[str, str] = {}
    mounts: dict[str, str] = {}
    seconds: float | None = None


class Cupboard:
    """The secrets, config maps and volumes of an installation."""

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()

    def resolve(self, settings: ExecutorSettings, around: Around, *, pod: str, namespace: str, where: str) -> StandIns:
        """What a step gets. Raises NotFoundError that names the file to make for what is required and not there."""
        environment: dict[str, str] = {}
        for variables in settings.variables:
            environment |= self._variables(variables, around, where)
        known = {**settings.facts, "metadata.name": pod, "metadata.namespace": namespace}
        environment |= {name: known.get(field, "") for name, field in settings.fields.items()}
        mounts: dict[str, str] = {}
        for volume in settings.volumes:
            folder = self._folder(volume, around, where)
            if folder is not None:
                mounts[volume.path] = str(folder)
        return StandIns(environment=environment, mounts=mounts, seconds=settings.seconds or None)

    def create_volume(self, asked: JsonObject, *, job: str, where: str) -> str:
        """Make a volume and return its name: the one that is asked for, or that of the job with a suffix. It may be
        there already.
        """
        name = asked.get("pvc_name") or f"{job}{asked.get('pvc_name_suffix') or '-volume'}"
        self._inside(_VOLUMES, str(name), where=where).mkdir(parents=True, exist_ok=True)
        return str(name)

    def delete_volume(self, name: str, *, where: str) -> None:
        """Remove a volume and what lies in it; it may be gone already."""
        folder = self._inside(_VOLUMES, name, where=where)
        if folder != (self._home / _VOLUMES).resolve():
            shutil.rmtree(folder, ignore_errors=True)

    def _variables(self, variables: Variables, around: Around, where: str) -> dict[str, str]:
        name = _name(variables.name, around)
        found: dict[str, str] = {}
        for key, variable in variables.keys.items():
            kind = _SECRETS if variables.secret else _CONFIG_MAPS
            if name is None:
                if not variables.optional:
                    raise NotFoundError(f"the name of a {_said(kind)} is not given", where=where)
                continue
            file = self._inside(kind, name, key, where=where)
            if file.is_file():
                found[variable] = file.read_text()
            elif not variables.optional:
                raise NotFoundError(
                    f"{_said(kind)} {name!r} has no key {key!r} here",
                    where=where,
                    mend=f"Write its value to {file}; nothing is read from a cluster.",
                )
        return found

    def _folder(self, volume: Volume, around: Around, where: str) -> Path | None:
        name = _name(volume.name, around)
        if name is None:
            if volume.optional:
                return None
            raise NotFoundError(f"the name of the {_said(volume.kind)} for {volume.path} is not given", where=where)
        folder = self._inside(volume.kind, name, volume.part, where=where)
        if volume.kind == _VOLUMES:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_dir():
            if volume.optional:
                return None
            raise NotFoundError(
                f"there is no {_said(volume.kind)} {name!r} here",
                where=where,
                mend=f"Make the folder {folder} with one file for each key; nothing is read from a cluster.",
            )
        return folder

    def _inside(self, *parts: str, where: str) -> Path:
        """A path below the installation's home; names come from pipelines, so they must not lead out of it."""
        path = self._home.joinpath(*parts).resolve()
        if not path.is_relative_to((self._home / parts[0]).resolve()):
            raise InvalidSpecError(f"{'/'.join(parts[1:])!r} leads elsewhere", where=where, mend="Give a plain name.")
        return path


def _name(source: NameSource, around: Around) -> str | None:
    value: Json = source if isinstance(source, str) else parameter_value(source, around)
    return str(value) if value not in (None, "") else None


def _said(kind: str) -> str:
    return {_SECRETS: "secret", _CONFIG_MAPS: "config map", _VOLUMES: "volume"}[kind]
