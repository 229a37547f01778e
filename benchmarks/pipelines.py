"""What a trivial step costs: a chain of ten and a fan of twenty, through our engine and through others, interleaved.

    python benchmarks/pipelines.py [--peers PYTHON] [--rounds 5] [--slow] [--write]

`--peers`: an interpreter of an environment with some of kfp, luigi, metaflow, prefect and dagster; those that are not
there are left out. `--slow` adds kfp.local as people run it, which installs kfp for each step. `--write` puts the table
into benchmarks/results/pipelines.md. What counts is the ratio to the bare fork and to us; the seconds are this machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = HERE / "contenders" / "pipelines.py"
RESULTS = HERE / "results" / "pipelines.md"
WORKLOADS = {"chain": 10, "fan": 20}
OURS = ("fork", "goldenloop")
PEERS = {
    "kfp.local": "kfp",
    "luigi": "luigi",
    "metaflow": "metaflow",
    "prefect": "prefect",
    "dagster": "dagster",
}
SLOW = {"kfp.local+pip": "kfp", "kfp.local+venv": "kfp"}
GOALS = {"chain": 40.0, "fan": 20.0}  # milliseconds a step, on two quiet cores
TIMEOUT_SECONDS = 900.0


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    versions = versions_in(options.peers)
    contenders = dict.fromkeys(OURS, sys.executable)
    wanted = {**PEERS, **(SLOW if options.slow else {})}
    contenders |= {name: options.peers for name, library in wanted.items() if versions[library]}
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(options.rounds):
        for workload, steps in WORKLOADS.items():
            for name, python in contenders.items():
                if name in SLOW and (number or workload != "chain"):
                    continue  # once is enough to see it
                milliseconds = measure(python, name, workload, 2 if name in SLOW else steps)
                if milliseconds is not None:
                    found.setdefault((name, workload), []).append(milliseconds)
                    print(f"round {number + 1}: {workload} {name}: {milliseconds:.1f} ms a step", file=sys.stderr)
    text = table(list(contenders), found, versions, rounds=options.rounds)
    print(text)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)


def measure(python: str, contender: str, workload: str, steps: int) -> float | None:
    """Milliseconds a step in one run; none where it does not work, which is said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # What they print goes to a file: a server that one of them leaves behind would keep a pipe open.
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [python, str(PROGRAM), contender, workload, str(steps)],
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        said.seek(0)
        text = said.read().strip()
    if code == 0:
        took = next(line for line in text.splitlines() if line.startswith("took "))  # some say more when they end
        return 1_000 * float(took.split()[1])
    how = f"took longer than {TIMEOUT_SECONDS:.0f} s" if code is None else f"ended with {code}"
    print(f"{contender} {workload} {how}: {text[-600:]}", file=sys.stderr)
    return None


def versions_in(python: str) -> dict[str, str]:
    """The versions of the peers that an interpreter has; nothing for those that it has not."""
    names = sorted({*PEERS.values(), *SLOW.values()})
    code = (
        "import importlib.metadata as m, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(name, m.version(name))\n"
        "    except m.PackageNotFoundError: print(name)"
    )
    lines = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[0]: line.partition(" ")[2] for line in lines}


def table(
    contenders: list[str], found: dict[tuple[str, str], list[float]], versions: dict[str, str], *, rounds: int
) -> str:
    """The medians, their spread, and the ratios, with what is needed to repeat them."""
    lines = ["# What a trivial step costs", "", f"{about()}; medians of {rounds} interleaved rounds.", ""]
    lines += ["| | chain of 10, ms a step | fan of 20, ms a step | chain, times a fork | chain, times ours |"]
    lines += ["|---|---|---|---|---|"]
    for name in contenders:
        cells = [middle(found.get((name, workload), [])) for workload in WORKLOADS]
        ratios = [ratio(found, name, other) for other in OURS]
        version = versions.get({**PEERS, **SLOW}.get(name, ""), "")
        lines.append(f"| {' '.join(filter(None, (name, version)))} | {' | '.join([*cells, *ratios])} |")
    lines += [
        "",
        "Goals, on two quiet cores: " + ", ".join(f"{name} {goal:g} ms" for name, goal in GOALS.items()) + ".",
    ]
    lines += ["Slowest and fastest in brackets. `kfp.local`: its runner of subprocesses, without a venv and without"]
    lines += [
        "installing kfp; `+pip` installs kfp for each step, `+venv` in a new environment each time (two steps, once)."
    ]
    lines += [
        "`goldenloop`: isolated processes, persisted. luigi and metaflow: processes, persisted. prefect: threads, and"
    ]
    lines += ["dagster: one process, persisted."]
    return "\n".join(lines) + "\n"


def middle(values: list[float]) -> str:
    """The median with its spread."""
    return f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]" if values else "–"


def ratio(found: dict[tuple[str, str], list[float]], name: str, other: str) -> str:
    """How many times a step of one costs that of the other, round by round, the median."""
    mine, theirs = found.get((name, "chain"), []), found.get((other, "chain"), [])
    each = [one / two for one, two in zip(mine, theirs, strict=False)]
    return f"{statistics.median(each):.1f}" if each else "–"


def about() -> str:
    """The commit, the machine, and how busy it is."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "no commit"
    today = datetime.datetime.now(datetime.UTC).date()
    load = os.getloadavg()[0]
    return f"{commit}, {today}, Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} before"


if __name__ == "__main__":
    main()
