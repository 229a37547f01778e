"""What a conversion measured, and the rule by which it is accepted."""

from __future__ import annotations

from typing import Literal

import msgspec

from goldenloop.core.served import Runtime
from goldenloop.core.signatures import Signature

CONVERSION_FILE = "conversion.json"
LABELS_AGREEING = 0.999  # at least this share of the sample's rows must get the same answer from both
MEDIAN_DIFFERENCE = 1e-4  # and the median difference of probabilities, or relative difference of values, is below this
RULE = f"labels agree on at least {LABELS_AGREEING:.1%} of the rows and the median difference is below {MEDIAN_DIFFERENCE:g}"


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversion gave. For regression labels agree where values differ by less than 1e-3 of their spread."""

    source: Literal["estimator", "onnx"]
    estimator: str
    rows: int
    labels_agreeing: float  # share, 0..1
    largest_difference: float  # of a probability, or of a value relative to the spread of the values
    median_difference: float
    accepted: bool
    rule: str
    signature: Signature
    runtime: Runtime = "onnx"  # process: it was not converted, and is served as it is
