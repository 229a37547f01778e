"""Our drift report of two Parquet files, page included: prints CPU seconds, peak memory and the number of columns."""

from __future__ import annotations

import json
import sys
import time

from goldenloop.features.frames import open_frame
from goldenloop.monitors.drift_report import Question, report_drift
from goldenloop.web.reports import write_drift_report


def peak_kilobytes() -> int:
    """The most memory this program has held. Not `ru_maxrss`: a child's begins at its parent's, through exec."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


idle = peak_kilobytes()
begun = time.process_time()
report = report_drift(open_frame(sys.argv[1]), open_frame(sys.argv[2]), Question())
page = write_drift_report(report)
seconds = time.process_time() - begun
peak = peak_kilobytes()
print(json.dumps({"cpu": seconds, "extra_mb": (peak - idle) / 1024, "columns": report.compared}))
