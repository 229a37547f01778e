"""Writes the page of the docs that is made from code: docs/cli.md, from the command line itself. `make docs` runs it.

With `--check` nothing is written, and the exit code is 1 where the page is not what it would be.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

COLUMNS = 100  # the width of the help texts, whatever terminal this runs in
PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
_HEAD = """\
# The command line

<!-- Made by scripts/write_docs.py from the program itself: change the help texts there and run `make docs`. -->

Rules that hold for every verb:

- `--home DIR`, or `GOLDENLOOP_HOME`, says which installation is meant; the default is `.goldenloop` in the current folder. All verbs
  but `up`, `demo` and `init` find the running platform through it. `rollback` also works while the control process is down.
- `--output json` prints one JSON document and nothing else on standard output, also for an error:
  `{"error": {"what": …, "where": …, "mend": …}}`. `--output yaml` prints YAML where there is a result.
- The exit code is 0 for success, 1 where what was asked for failed (a run that fails, a thing that is not there), and 2 for wrong use.
"""


def page() -> str:
    """The whole page."""
    os.environ.update(COLUMNS=str(COLUMNS), TERMINAL_WIDTH=str(COLUMNS), NO_COLOR="1")
    from typer.main import get_command
    from typer.testing import CliRunner

    from goldenloop.cli.main import app

    command = get_command(app)
    runner = CliRunner()
    verbs = list(command.commands)  # type: ignore[attr-defined]  # the root of an app with verbs is a group

    def helped(*arguments: str) -> str:
        result = runner.invoke(app, [*arguments, "--help"], prog_name="goldenloop", terminal_width=COLUMNS)
        if result.exit_code != 0:
            raise RuntimeError(f"{arguments}: {result.output}")
        return "\n".join(line.rstrip() for line in result.output.strip().splitlines())

    parts = [_HEAD, f"```text\n{helped()}\n```\n"]
    parts += [f"## {verb}\n\n```text\n{helped(verb)}\n```\n" for verb in verbs]
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Write or check."""
    made = page()
    if "--check" in arguments:
        same = PAGE.exists() and PAGE.read_text() == made
        if not same:
            sys.stderr.write("docs/cli.md is not what the program says; run: make docs\n")
        return 0 if same else 1
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
