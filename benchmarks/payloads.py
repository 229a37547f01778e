"""The payload store: durable records a second, bytes of a million sealed predictions, a trace among ten million, recovery.

    .venv/bin/python benchmarks/payloads.py [--millions 10] [--output FILE.md]

Predictions have 20 features, half of them measured (three decimals), a quarter whole numbers, a quarter texts of few kinds, and the
probabilities of two classes. Records come from a generator with a fixed seed; ids are those that serving would give.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from goldenloop.core.ids import uuid7
from goldenloop.payloads.finding import find
from goldenloop.payloads.log import PayloadReader, PayloadWriter
from goldenloop.payloads.records import Prediction, columns_of
from goldenloop.payloads.sealed import FOLDER
from goldenloop.payloads.sealing import seal

IN_FLIGHT = 256
NUMBERS, TEXTS = 15, 5
COLUMNS = columns_of([f"number_{place}" for place in range(NUMBERS)] + [f"text_{place}" for place in range(TEXTS)])
_BLOCK = 4096  # rows that are drawn at once
KINDS = ("clerk", "teacher", "farmer", "nurse", "engineer", "retired")


class Source:
    """Predictions one after the other."""

    def __init__(self, seed: int = 1) -> None:
        self._generator = np.random.default_rng(seed)
        self._place = 0
        self._draw()

    def _draw(self) -> None:
        generator = self._generator
        measured = np.round(generator.normal(50.0, 15.0, (_BLOCK, 10)), 3)
        whole = generator.integers(0, 100, (_BLOCK, NUMBERS - 10)).astype(float)
        self._numbers = [row.tobytes() for row in np.hstack([measured, whole])]
        self._texts = [tuple(KINDS[kind] for kind in row) for row in generator.integers(0, 6, (_BLOCK, TEXTS))]
        self._shares = generator.random(_BLOCK)

    def next(self) -> Prediction:
        place = self._place % _BLOCK
        if self._place and place == 0:
            self._draw()
        self._place += 1
        share = float(self._shares[place])
        now_us = time.time_ns() // 1_000
        return Prediction(
            id=uuid7(),
            alias=None,
            namespace="default",
            service="loan",
            arrival_us=now_us,
            event_us=now_us,
            columns=COLUMNS,
            rows=1,
            numbers=self._numbers[place],
            texts=self._texts[place],
            version="3",
            reason="champion",
            answers={"3": (("good" if share > 0.5 else "bad", (1.0 - share, share)),)},
            failures={},
            latency_us=int(300 + 200 * share),
        )


async def durable(folder: Path, seconds: float) -> float:
    """Acknowledged durable records a second, with so many waiting at the same time."""
    writer, source, count = PayloadWriter(folder, "bench", mode="durable"), Source(), 0
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal count
        while time.perf_counter() < end:
            writer.write(source.next())
            await writer.synced()
            count += 1

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
    rate = count / (time.perf_counter() - started)
    writer.close()
    return rate


def fill(folder: Path, records: int) -> None:
    """Write records and seal them as they come, so that the disk holds no more than it has to."""
    source, left = Source(), records
    while left:
        writer = PayloadWriter(folder, "bench", mode="async")
        for _ in range(min(left, 1_000)):
            part = [source.next() for _ in range(min(left, 200))]
            writer.write(*part)
            left -= len(part)
        writer.close()
        seal(folder)


def sealed_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / FOLDER).rglob("*") if path.is_file())


def traces(folder: Path, ids: list[str]) -> list[float]:
    """How long it takes to find each of these predictions, in ms, with the file cache as it is."""
    taken = []
    for identity in ids:
        started = time.perf_counter()
        found, _ = find(folder, identity)
        taken.append((time.perf_counter() - started) * 1_000)
        assert found is not None
    return taken


def recovery(folder: Path) -> tuple[int, int, float]:
    """Kill a writer; return how many records it had acknowledged, how many are read, and in how many seconds."""
    code = "import sys; from pathlib import Path; import payloads; payloads.write_for_ever(Path(sys.argv[1]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    )
    assert process.stdout is not None
    acknowledged, end = 0, time.monotonic() + 5
    while time.monotonic() < end:
        acknowledged = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.wait()
    started, count = time.perf_counter(), 0
    reader = PayloadReader(folder)
    while records := reader.read():
        count += len(records)
    return acknowledged, count, time.perf_counter() - started


def write_for_ever(folder: Path) -> None:
    """Append, and say after each hundred how many are acknowledged."""
    writer, source, count = PayloadWriter(folder, "killed"), Source(), 0
    while True:
        for _ in range(100):
            writer.append(source.next())
        count += 100
        os.write(1, b"%d\n" % count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="payloads-"))
    try:
        rate = asyncio.run(durable(folder / "durable", given.seconds))
        lines = [f"- {rate:,.0f} acknowledged durable records a second at {IN_FLIGHT} in flight"]
        print(lines[-1], flush=True)
        acknowledged, read, seconds = recovery(folder / "killed")
        lines.append(
            f"- after `kill -9` {read:,} records were read in {seconds:.1f} s, of {acknowledged:,} acknowledged"
        )
        print(lines[-1], flush=True)
        started, records = time.perf_counter(), int(given.millions * 1e6)
        fill(folder / "many", records)
        seconds = time.perf_counter() - started
        size = sealed_bytes(folder / "many")
        lines.append(
            f"- {size / records:,.1f} MB for a million sealed predictions of 20 features; "
            f"{records:,} were written and sealed in {seconds:,.0f} s"
        )
        print(lines[-1], flush=True)
        found = [record.id for record in PayloadReader(folder / "many").read(5)]
        taken = traces(folder / "many", found)
        lines.append(
            f"- one of {records:,} sealed predictions is found in {np.median(taken):,.0f} ms "
            f"(median of {len(taken)}; longest {max(taken):,.0f} ms)"
        )
        print(lines[-1], flush=True)
    finally:
        shutil.rmtree(folder)
    if given.output is not None:
        cores = os.cpu_count()
        given.output.write_text(
            "# The payload store\n\n`benchmarks/payloads.py` on " + f"{cores} cores.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
