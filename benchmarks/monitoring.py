"""What watching costs: the drift report of two files beside other people's, the online part a row, and the judging of a window.

    python benchmarks/monitoring.py [--evidently PYTHON] [--nannyml PYTHON] [--alibi-detect PYTHON] [--whylogs PYTHON]
        [--rows 1e5] [--rounds 3] [--out benchmarks/results/monitoring.md]

Each contender runs in its own environment (`make bench-monitoring` makes them), one after the other in each round, on the same files: 20
columns of numbers (normal, lognormal, offset, counts; some with missing values) and 10 of categories (2 to 300 names); three have
moved. Ours is measured at 1e6 rows too, and at 1e7 for its memory. CPU seconds are of a process after its imports, reading included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from goldenloop.stats.categories import Names, new_names
from goldenloop.stats.outliers import Scorer, fit_outliers
from goldenloop.stats.profiles import Profile, count, drift_scores, window_score
from goldenloop.stats.ranges import Range, missing_change, outside_share

HERE = Path(__file__).parent
PEERS = ("evidently", "nannyml", "alibi-detect", "whylogs")
GROUP_ROWS = 500_000
NUMBERS, NAMES = 20, (2, 5, 12, 50, 300)
WINDOW_ROWS, WINDOW_COLUMNS = 500, 20


def write_frame(path: Path, rows: int, *, moved: bool, seed: int) -> None:
    """Write a frame; it is made in pieces, so that a large one fits too."""
    generator = np.random.default_rng(seed)
    writer = None
    for start in range(0, rows, GROUP_ROWS):
        size = min(GROUP_ROWS, rows - start)
        columns: dict[str, object] = {}
        for place in range(NUMBERS):
            made = (
                generator.normal(size=size),
                generator.lognormal(size=size),
                generator.uniform(1000, 1010, size),
                generator.poisson(20, size).astype(float),
            )[place % 4]
            if place % 7 == 0:
                made[generator.random(size) < 0.02] = np.nan
            columns[f"number{place}"] = made + 0.4 if moved and place in (0, 1) else made
        for place in range(2 * len(NAMES)):
            known = NAMES[place % len(NAMES)]
            shares = 1.0 / np.arange(1, known + 1)
            shares = shares[::-1] if moved and place == 1 else shares
            codes = generator.choice(known, size, p=shares / shares.sum()).astype(np.int32)
            columns[f"name{place}"] = pa.DictionaryArray.from_arrays(codes, [f"v{each}" for each in range(known)]).cast(
                pa.string()
            )
        table = pa.table(columns)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def run(command: list[str]) -> dict[str, float] | None:
    """One run of a contender; None where it failed or took more than ten minutes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NML_DISABLE_USAGE_LOGGING": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"{command[:3]}: {error}\n{str(error.stderr)[-500:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def reports(folder: Path, peers: dict[str, str], rows: int, rounds: int) -> list[str]:
    """The table of reports."""
    sizes = [rows, 1_000_000, 10_000_000]
    for size in sizes:
        for side, moved in (("before", False), ("after", True)):
            write_frame(folder / f"{side}{size}.parquet", size, moved=moved, seed=1 + moved)
    files = {size: [str(folder / f"{side}{size}.parquet") for side in ("before", "after")] for size in sizes}
    ours = [sys.executable, str(HERE / "contenders" / "drift_ours.py")]
    contenders = {"goldenloop": [*ours, *files[rows]]}
    contenders |= {
        name: [python, str(HERE / "contenders" / "drift.py"), name, *files[rows]] for name, python in peers.items()
    }
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name, command in contenders.items():
            if (result := run(command)) is not None:
                found.setdefault(f"{name}, {rows:,} rows", []).append(result)
        for size in sizes[1:] if not found.get("goldenloop, 10,000,000 rows") else sizes[1:2]:
            if (result := run([*ours, *files[size]])) is not None:
                found.setdefault(f"goldenloop, {size:,} rows", []).append(result)
    base = statistics.median(each["cpu"] for each in found[f"goldenloop, {rows:,} rows"])
    lines = [
        "| report of 30 columns, each frame | CPU s | beside ours at the same rows | extra memory, MB |",
        "|---|---|---|---|",
    ]
    for name, results in found.items():
        seconds = statistics.median(each["cpu"] for each in results)
        beside = f"{seconds / base:.1f}" if name.endswith(f" {rows:,} rows") else ""
        memory = max(each["extra_mb"] for each in results)
        lines.append(f"| {name} | {seconds:.2f} | {beside} | {memory:.0f} |")
    return lines


def best(work: Callable[[], object], *, repeats: int = 30) -> float:
    """The CPU seconds of the fastest of many repeats."""
    fastest = float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        work()
        fastest = min(fastest, time.process_time() - begun)
    return fastest


def windows() -> list[str]:
    """What a window of 500 rows with 20 columns costs: counted in the stream, and judged."""
    generator = np.random.default_rng(0)

    def rows(size: int) -> dict[str, np.ndarray]:
        numbers = {f"number{place}": generator.normal(size=size) for place in range(WINDOW_COLUMNS - 5)}
        names = {
            f"name{place}": generator.choice(np.array(["a", "b", "c", "d"], dtype=object), size) for place in range(5)
        }
        return numbers | names

    reference, window = rows(5_000), rows(WINDOW_ROWS)
    kinds = {name: "number" if name.startswith("number") else "category" for name in reference}
    profile = Profile.of(reference, kinds)
    scorer = Scorer(fit_outliers("density", reference, kinds))
    ranges = {name: Range.of(reference[name]) for name, kind in kinds.items() if kind == "number"}
    names = {name: Names.of(reference[name]) for name, kind in kinds.items() if kind == "category"}

    def online() -> None:
        count(profile, window)
        scorer.scores(window)

    def judge() -> None:
        window_score(drift_scores(profile, count(profile, window)))
        for name, known in ranges.items():
            outside_share(known, window[name], tolerance=0.5)
            missing = int(np.isnan(window[name]).sum())
            missing_change(missing, WINDOW_ROWS, reference_missing=0, reference_rows=5_000)
        for name, known_names in names.items():
            new_names(known_names, window[name])
        scorer.judge(window)

    row_us, window_ms = best(online) / WINDOW_ROWS * 1e6, best(judge) * 1e3
    return [
        "| part | measured | at most |",
        "|---|---|---|",
        f"| online, a row of 20 columns in batches of 500: counts and an outlier score | {row_us:.1f} µs | 5 µs |",
        f"| a window of 500 rows with 20 columns: drift, ranges, missing, new names, outliers | {window_ms:.1f} ms | 20 ms |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in PEERS:
        parser.add_argument(f"--{name}")
    parser.add_argument("--rows", type=float, default=1e5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "monitoring.md")
    given = vars(parser.parse_args())
    peers = {name: python for name in PEERS if (python := given[name.replace("-", "_")])}
    with tempfile.TemporaryDirectory() as folder:
        compared = reports(Path(folder), peers, int(given["rows"]), given["rounds"])
    text = "\n".join(
        [
            "# What watching costs",
            "",
            "Both frames read from Parquet, every column tested, one thread; medians over rounds in which the contenders take turns.",
            "The others are run at fewer rows, to be done within a minute. alibi-detect gives p-values only; ours includes the page.",
            "",
            *compared,
            "",
            *windows(),
            "",
        ]
    )
    given["out"].write_text(text)
    print(text)


if __name__ == "__main__":
    main()
