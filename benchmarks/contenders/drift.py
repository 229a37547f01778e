"""One contender's drift report of two Parquet files, run in its own environment: prints CPU seconds, peak memory and what it calls drifted.

    python drift.py evidently|nannyml|alibi-detect|whylogs REFERENCE CURRENT

Imports are not counted; reading the files is. Each tests every column: a distance or p-value for numbers, one for categories.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
os.environ["WHYLOGS_NO_ANALYTICS"] = "True"
warnings.simplefilter("ignore")
ALPHA = 0.05


def evidently():
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    def run(before, after):
        result = Report([DataDriftPreset()]).run(pd.read_parquet(after), pd.read_parquet(before)).dict()
        return [m["metric_name"] for m in result["metrics"] if "ValueDrift" in m["metric_name"]]

    return run


def nannyml():
    import nannyml
    import pandas as pd

    def run(before, after):
        reference, current = pd.read_parquet(before), pd.read_parquet(after)
        calculator = nannyml.UnivariateDriftCalculator(
            column_names=list(reference.columns),
            chunk_number=1,
            continuous_methods=["jensen_shannon", "kolmogorov_smirnov", "wasserstein"],
            categorical_methods=["jensen_shannon", "chi2"],
        )
        calculator.fit(reference)
        return list(calculator.calculate(current).to_df().columns.get_level_values(0).unique())[1:]

    return run


def alibi_detect():
    import numpy as np
    import pandas as pd
    from alibi_detect.cd import ChiSquareDrift, KSDrift

    def run(before, after):
        reference, current = pd.read_parquet(before), pd.read_parquet(after)
        numbers = [name for name in reference if reference[name].dtype.kind == "f"]
        names = [name for name in reference if name not in numbers]
        # It cannot take missing numbers; codes for categories are what its own example makes.
        one, other = (frame[numbers].fillna(0.0).to_numpy(np.float32) for frame in (reference, current))
        found = KSDrift(one, p_val=ALPHA).predict(other)["data"]["p_val"].tolist()
        codes = [
            np.stack([pd.Categorical(frame[name], sorted(reference[name].unique())).codes for name in names], axis=1)
            for frame in (reference, current)
        ]
        levels = {place: list(range(int(codes[0][:, place].max()) + 1)) for place in range(len(names))}
        detector = ChiSquareDrift(codes[0].astype(np.int64), p_val=ALPHA, categories_per_feature=levels)
        return found + detector.predict(codes[1].astype(np.int64))["data"]["p_val"].tolist()

    return run


def whylogs():
    import pandas as pd
    import whylogs
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    def run(before, after):
        views = [whylogs.log(pd.read_parquet(path)).view() for path in (before, after)]
        return list(calculate_drift_scores(target_view=views[1], reference_view=views[0], with_thresholds=True))

    return run


def peak_kilobytes() -> int:
    """The most memory this program has held. Not `ru_maxrss`: a child's begins at its parent's, through exec."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def main() -> None:
    name, before, after = sys.argv[1:]
    run = {"evidently": evidently, "nannyml": nannyml, "alibi-detect": alibi_detect, "whylogs": whylogs}[name]()
    idle = peak_kilobytes()
    begun = time.process_time()
    columns = run(before, after)
    seconds = time.process_time() - begun
    peak = peak_kilobytes()
    print("\n" + json.dumps({"cpu": seconds, "extra_mb": (peak - idle) / 1024, "columns": len(columns)}))


main()
