"""A transformer: what comes in inches goes to the model in centimetres, and what comes back gets its name."""

from __future__ import annotations

NAMES = ("setosa", "versicolor", "virginica")


class Units:
    """Stands before the predictor and behind it."""

    def preprocess(self, payload: dict) -> dict:
        """Before the model."""
        return {"instances": [[value * 2.54 for value in row] for row in payload["instances"]]}

    def predict(self, payload: dict) -> dict:
        """A transformer is asked for the other two only."""
        return payload

    def postprocess(self, payload: dict) -> dict:
        """After the model."""
        return {"predictions": [NAMES[int(label)] for label in payload["predictions"]]}
