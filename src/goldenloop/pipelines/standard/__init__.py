"""The platform's own pipelines. `programs/` holds them as KFP source and as compiled IR.

The source is a program, not a module: nobody imports it. Its components run in step processes and take what they need
from goldenloop there, as a user's components take what they need from their own packages.
"""

from __future__ import annotations

from pathlib import Path

from goldenloop.core.ids import digest_file
from goldenloop.core.json import JsonObject
from goldenloop.standards.pipeline_ir import read_documents

PROGRAMS = Path(__file__).parent / "programs"


def load_auto() -> JsonObject:
    """The specification of `pipeline: auto`: ingest, statistics, validate, train, evaluate."""
    return read_documents((PROGRAMS / "auto.yaml").read_text(), where="pipeline: auto").pipeline


def auto_code() -> JsonObject:
    """The code version of `pipeline: auto`: the release and the digest of its source."""
    from importlib import metadata

    return {
        "commit": f"goldenloop {metadata.version('goldenloop')}",
        "dirty": False,
        "digest": digest_file(PROGRAMS / "auto.py"),
        "source": "auto",
    }
