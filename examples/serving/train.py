"""Two models of the Iris data in `models/`, saved as data (skops), not as code: a plain one and a better one."""

from __future__ import annotations

from pathlib import Path

import skops.io
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

FOLDER = Path(__file__).parent / "models"


def main() -> None:
    """Train both and save them."""
    rows, labels = load_iris(return_X_y=True, as_frame=True)
    rows.columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    for name, model in (
        ("first", LogisticRegression(max_iter=500)),
        ("second", RandomForestClassifier(30, random_state=0)),
    ):
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        skops.io.dump(model.fit(rows, labels), folder / "model.skops")
        print(f"{folder / 'model.skops'}: {model.score(rows, labels):.3f} of the training rows right")


if __name__ == "__main__":
    main()
