"""A drift report as one HTML file that loads nothing and runs nothing: a line and a small plot for each column."""

from __future__ import annotations

from html import escape

from goldenloop.api.reports.page import STYLE, html_table, verdict_cell
from goldenloop.api.reports.plots import number, pair_plot
from goldenloop.monitors.drift_report import ColumnReport, DriftReport
from goldenloop.stats.comparison import CategoryChange, Comparison, NumberChange

_COLUMNS_SHOWN = 1_000  # a page of more is slow to open; the JSON has all of them


def write_drift_report(report: DriftReport) -> str:
    """Return the report as HTML."""
    shown = report.columns[:_COLUMNS_SHOWN]
    rest = len(report.columns) - len(shown)
    more = f"<p class=quiet>{rest} more columns, with smaller effects, are in the JSON.</p>" if rest else ""
    table = html_table(
        ("column", "verdict", "reference (grey), current (green)", "JS", "PSI", "p", "missing", "what changed"),
        [_row(each) for each in shown],
        numbers=(3, 4, 5, 6),
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Drift report</title><style>{STYLE}</style></head><body>
<h1>Drift report: {verdict_cell(report.verdict.value)}</h1>
<p>{report.drifted} of {report.compared} compared columns have drifted.<br>
Reference: {escape(report.reference)}, {report.reference_rows:,} rows. Current: {escape(report.current)}, {report.current_rows:,} rows.</p>
<p class=quiet>A column has drifted where its p-value, corrected for all columns together, is below {report.alpha:g} and its effect (the
Jensen-Shannon distance, or the change of its missing share) is at least {report.effect:g}.</p>
{table}{more}
</body></html>
"""


def _row(column: ColumnReport) -> tuple[str, ...]:
    role = "" if column.role == "feature" else f"<br><span class=quiet>{column.role}</span>"
    found = column.comparison
    told = escape(column.reason) + ("" if found is None else f"<br><span class=quiet>{escape(_details(found))}</span>")
    plot = ""
    if found is not None and found.bars is not None:
        plot = pair_plot(found.bars.names, found.bars.reference, found.bars.current, label=column.column)
    return (
        f"{escape(column.column)}{role}",
        verdict_cell(column.verdict.value),
        plot,
        number(None if found is None else found.jensen_shannon),
        number(None if found is None else found.population_stability),
        number(column.adjusted_p),
        "" if found is None else f"{_share(found.missing.reference)} → {_share(found.missing.current)}",
        told,
    )


def _details(found: Comparison) -> str:
    change = found.change
    if isinstance(change, NumberChange):
        told = [
            f"mean {number(change.reference_mean)} → {number(change.current_mean)}",
            f"deviation {number(change.reference_deviation)} → {number(change.current_deviation)}",
            f"KS {number(change.kolmogorov_smirnov)}",
            f"Wasserstein {number(change.wasserstein)}",
        ]
        if change.outside.estimate > 0.0:
            told.append(f"{_share(change.outside.estimate)} outside the range before")
        return ", ".join(told)
    if isinstance(change, CategoryChange):
        told = [f"{change.reference_distinct} → {change.current_distinct} names", f"chi² {number(change.chi_square)}"]
        if change.new_names:
            told.append("new: " + ", ".join(f"{name} ({rows})" for name, rows in change.new_names))
        if change.gone_names:
            told.append("gone: " + ", ".join(name for name, _ in change.gone_names))
        return ", ".join(told)
    return ""


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"
