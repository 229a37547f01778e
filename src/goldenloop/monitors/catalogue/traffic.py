"""How requests come and how they are answered: volume, freshness, service level."""

from __future__ import annotations

import numpy as np

from goldenloop.core.clock import SECOND
from goldenloop.monitors.catalogue.base import Asked, Monitor, Past, Window
from goldenloop.monitors.findings import Outcome


class VolumeMonitor(Monitor[None]):
    """How many rows a window has, beside the windows before."""

    name = "volume"
    watches = "how many rows come"
    changed = "the number of rows"
    fewest_rows = 0

    def choose(self, past: Past) -> tuple[bool, str]:
        return (
            not past.counts_rows,
            "every window has as many rows" if past.counts_rows else "windows are spans of time",
        )

    def measure(self, window: Window, known: None, asked: Asked) -> Outcome:  # noqa: ARG002
        return Outcome(findings=(self.finding("rows", len(window), asked=asked, leading="both"),))


class FreshnessMonitor(Monitor[None]):
    """The longest time without a row, from the window's beginning to its end, in seconds."""

    name = "freshness"
    watches = "the longest time without a row"
    changed = "the time without a row"
    essential = True
    past_tells = False  # sources of rows do not say when each was asked about
    fewest_rows = 0

    def measure(self, window: Window, known: None, asked: Asked) -> Outcome:  # noqa: ARG002
        moments = np.concatenate(([window.start_us], np.sort(window.event_us), [window.end_us]))
        silence = float(np.diff(moments).max()) / SECOND
        age = float(window.end_us - moments[-2]) / SECOND
        return Outcome(
            findings=(
                self.finding("longest_silence_seconds", silence, asked=asked, leading="high"),
                self.finding("newest_row_age_seconds", age),
            )
        )


class ServiceMonitor(Monitor[None]):
    """Failures and latency of the answers, and how many are asked for in a second."""

    name = "service"
    watches = "rate, failures and latency"
    changed = "failed requests"
    essential = True
    past_tells = False
    fewest_rows = 0

    def measure(self, window: Window, known: None, asked: Asked) -> Outcome:  # noqa: ARG002
        rows, seconds = len(window), max(window.end_us - window.start_us, 1) / SECOND
        failed = window.failed / rows if rows else None
        p50, p99 = np.quantile(window.latency_ms, (0.5, 0.99)).tolist() if len(window.latency_ms) else (None, None)
        return Outcome(
            findings=(
                self.finding("failed_share", failed, asked=asked, leading="high"),
                self.finding("latency_p50_ms", p50),
                self.finding("latency_p99_ms", p99),
                self.finding("rows_per_second", rows / seconds),
            )
        )
