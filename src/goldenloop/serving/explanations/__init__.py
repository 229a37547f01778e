"""Why an answer is what it is: each column's part of it, by what kind of model gave it.

`making` writes, beside a served form, what its explanations need (`explain.json`, and rows of what is usual). `rows` explains one row by
it: a linear model by its coefficients, boosted trees by their own contributions, anything else by sampling. `answering` does so for
requests, and a trace for what was logged; both call the same functions with the same files, and so give the same numbers.
"""

from __future__ import annotations

from goldenloop.serving.explanations.making import keep_explainer
from goldenloop.serving.explanations.records import BACKGROUND_FILE, EXPLAIN_FILE, Explained, Explainer
from goldenloop.serving.explanations.rows import explain_row

__all__ = ["BACKGROUND_FILE", "EXPLAIN_FILE", "Explained", "Explainer", "explain_row", "keep_explainer"]
