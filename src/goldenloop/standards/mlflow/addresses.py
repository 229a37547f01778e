"""Addresses of models in MLflow's words."""

from __future__ import annotations

from typing import Final

MODELS: Final = "models"
RUNS: Final = "runs"
PROXIED: Final = "mlflow-artifacts"  # files that clients send and take through the server


def is_tracked(address: str) -> bool:
    """Whether an address is one in MLflow's words.

    >>> is_tracked("models:/loan@golden"), is_tracked("s3://models/loan")
    (True, False)
    """
    scheme, separator, _ = address.partition(":/")
    return bool(separator) and scheme in (MODELS, RUNS, PROXIED)
