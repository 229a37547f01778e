"""Whether a short review is glad or sorry, in `models/model.onnx`: words weighed by TF-IDF, and a logistic regression.

The reviews (`reviews.csv`) were written for this example. The graph takes text and has the splitting into words inside it, so that who asks
sends a sentence and nothing else.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from onnx import helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

FOLDER = Path(__file__).parent


def main() -> None:
    """Train it and save it."""
    with (FOLDER / "reviews.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    texts, moods = np.array([row["text"] for row in rows]), np.array([row["mood"] for row in rows])
    # The converter knows words of letters; a pattern of its own choice would split otherwise than the trained model does.
    words = TfidfVectorizer(token_pattern="[a-zA-Z']+", sublinear_tf=False)
    model = make_pipeline(words, LogisticRegression(C=10.0))
    right = cross_val_score(model, texts, moods, cv=4).mean()
    model.fit(texts, moods)
    last = model.steps[-1][1]
    graph = to_onnx(
        model,
        initial_types=[("text", StringTensorType([None, 1]))],
        options={id(last): {"zipmap": False, "output_class_labels": False}},
        target_opset=17,
    )
    graph.graph.name = "sentiment"
    for node in graph.graph.node:
        if node.op_type == "StringNormalizer":  # small letters by the plain locale: others are not on every machine
            node.attribute.append(helper.make_attribute("locale", "C"))
    (FOLDER / "models").mkdir(exist_ok=True)
    file = FOLDER / "models" / "model.onnx"
    file.write_bytes(graph.SerializeToString())
    print(f"{file}: {right:.2f} of the reviews that it was not trained on right, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
