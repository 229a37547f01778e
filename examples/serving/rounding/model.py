"""A model that is code: any class with `predict` will do. `load` is called once, the rest for every request."""

from __future__ import annotations


class Rounding:
    """Rounds every number that it is sent to so many digits."""

    def load(self) -> None:
        """Read here what takes long: weights, tables, connections."""
        self.digits = 1

    def predict(self, payload: dict) -> dict:
        """Answer a V1 document."""
        return {"predictions": [[round(value, self.digits) for value in row] for row in payload["instances"]]}
