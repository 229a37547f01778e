"""From a model to the served form: accepted only where both give the same answers on the sample.

What makes the two sides agree. Graphs compute in float32, estimators mostly in float64; a threshold of a tree may fall between the two,
so the agreement is measured, not assumed. A missing category is the empty text in a graph, and truths are the texts "true" and "false":
what fitted encoders and imputers know is rewritten so, in a copy.

All of it runs only in a sandboxed process of its own, never where requests or control are: models are loaded here.
"""

from goldenloop.serving.conversion.records import CONVERSION_FILE, Conversion
from goldenloop.serving.conversion.tables import convert, convert_estimator

__all__ = ["CONVERSION_FILE", "Conversion", "convert", "convert_estimator"]
