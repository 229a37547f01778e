"""An engine in a process of its own, to be killed: FOLDER. It turns until no run is unfinished."""

from __future__ import annotations

import sys
from pathlib import Path

from small_pipelines import make_world
from sqlalchemy import select

from goldenloop.pipelines.local import LocalExecutor
from goldenloop.pipelines.runs import UNFINISHED
from goldenloop.store.tables import runs


def main() -> None:
    world = make_world(Path(sys.argv[1]), LocalExecutor(preimported=()), parallelism=2)
    while True:
        while world.engine.advance():
            pass
        with world.database.read() as transaction:
            if transaction.execute(select(runs.c.id).where(runs.c.state.in_(UNFINISHED))).first() is None:
                break
        world.engine.wait(0.1)
    world.engine.close()


if __name__ == "__main__":
    main()
