"""Which packages an installation's own interpreter has: what a run is reproduced in, and what it is compared with."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib import metadata

import msgspec

from goldenloop.core.errors import GoldenloopError
from goldenloop.core.json import JsonObject
from goldenloop.store.artifacts import Artifacts


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """An interpreter and the packages in it, by name."""

    python: str
    machine: str
    packages: dict[str, str]


@lru_cache(maxsize=1)
def present_lock() -> Lock:
    """That of this process, from which steps are forked; packages that a step asks for itself are in its pipeline."""
    found = {each.metadata["Name"].lower(): each.version for each in metadata.distributions() if each.metadata["Name"]}
    return Lock(
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        packages=dict(sorted(found.items())),
    )


def keep_lock(artifacts: Artifacts) -> JsonObject:
    """Keep the present lock as an artifact, once for each content, and return how a run's record names it."""
    lock = present_lock()
    address = artifacts.put_bytes(msgspec.json.encode(lock))
    return {"lock": address, "python": lock.python, "machine": lock.machine, "packages": len(lock.packages)}


def differences(artifacts: Artifacts, recorded: object) -> list[str] | None:
    """What is another one now than when a run recorded its environment, in words; None where that cannot be known."""
    if not isinstance(recorded, dict) or not isinstance(recorded.get("lock"), str):
        return None
    try:
        then = msgspec.json.decode(artifacts.read_bytes(str(recorded["lock"])), type=Lock)
    except (GoldenloopError, msgspec.DecodeError):
        return None
    now = present_lock()
    told = [
        f"{what} was {before}, and is {after}"
        for what, before, after in (("Python", then.python, now.python), ("the machine", then.machine, now.machine))
        if before != after
    ]
    for name in sorted({*then.packages, *now.packages}):
        before, after = then.packages.get(name), now.packages.get(name)
        if before != after:
            told.append(f"{name} was {before or 'not there'}, and is {after or 'not there any more'}")
    return told
