"""A loop's report as one HTML file that loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from goldenloop.api.reports.plots import line_plot, number
from goldenloop.api.reports.record import Happening, LoopReport, Measured, Monitored

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1rem; color: #1c1c1c; background: #ffffff }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } h3 { font-size: 1rem; margin-bottom: .2rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #dddddd; overflow-wrap: anywhere }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
svg { width: 100%; height: auto } .quiet { color: #666666 } summary { cursor: pointer }
.pass { color: #0b6e4f } .fail, .error { color: #cc2222; font-weight: 600 } .inconclusive { color: #b06a00 }
@media (prefers-color-scheme: dark) {
  body { color: #eeeeee; background: #161616 } th, td { border-color: #333333 } .pass { color: #4cc38a } .quiet { color: #a0a0a0 }
}
"""
# The monitors that have a section of their own, in the order of the report; the others follow under "Data and predictions".
_SECTIONS = (
    ("Quality now", ("performance", "estimatedPerformance", "conceptDrift")),
    ("Fairness", ("fairness",)),
    ("Calibration", ("calibration",)),
    ("Service", ("service",)),
)


def write_page(report: LoopReport) -> str:
    """Return the report as HTML."""
    title = f"{escape(report.loop)}: report"
    alarms = [each.window for each in report.stood_out if each.kind == "Alarm" and each.window is not None]
    sections = [
        ("", _summary(report)),
        ("Monitors", _overview(report.monitors)),
        (f"{report.metric} by window", _quality(report, alarms)),
        *((name, _findings(report.monitors, monitors)) for name, monitors in _SECTIONS),
        ("Data and predictions", _findings(report.monitors, _others(report.monitors))),
        ("Alarms and warnings", _stood_out(report)),
        ("Measurements over time", _trends(report, alarms)),
        ("Objectives", _objectives(report)),
        ("What the loop did", _happenings(report.actions)),
        ("Runs and what they cost", _runs(report)),
    ]
    body = "".join(f"{f'<h2>{escape(name)}</h2>' if name else ''}{content}" for name, content in sections if content)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{STYLE}</style></head><body>
<h1>{escape(report.loop)}</h1>
{body}
</body></html>
"""


def html_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already; the columns in `numbers` are aligned to the right."""
    head = "".join(f"<th{_aligned(place, numbers)}>{escape(text)}</th>" for place, text in enumerate(headings))
    lines = "".join(
        f"<tr>{''.join(f'<td{_aligned(place, numbers)}>{cell}</td>' for place, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{lines}</table>" if lines else ""


def verdict_cell(verdict: str) -> str:
    """A verdict in its colour."""
    return f"<span class={verdict}>{verdict}</span>"


def _summary(report: LoopReport) -> str:
    if report.end is None:
        return "<p>Nothing has been measured yet: no window has closed.</p>"
    golden = f"version {report.golden} is golden" if report.golden is not None else "no version is golden"
    alarms, warnings = report.counts.get("Alarm", 0), report.counts.get("Warning", 0)
    return (
        f"<p>{report.windows} windows from {str(report.start)[:16]} to {report.end[:16]}; {golden}.<br>"
        f"{alarms} alarms, {warnings} warnings, {report.run_count} runs.</p>"
    )


def _overview(monitors: Sequence[Monitored]) -> str:
    rows = [
        (
            escape(each.monitor),
            verdict_cell(each.verdict.value),
            escape("; ".join(_said(finding) for finding in each.findings if not finding.feature and not finding.slice)),
            str(each.window),
            str(each.rows),
            escape(", ".join(f"{count} {verdict}" for verdict, count in sorted(each.verdicts.items()))),
        )
        for each in monitors
    ]
    return html_table(("monitor", "verdict", "last", "window", "rows", "since the report begins"), rows, numbers=(3, 4))


def _quality(report: LoopReport, alarms: Sequence[int]) -> str:
    drawn = line_plot(report.quality, label=report.metric, alarms=alarms)
    if not drawn:
        return "<p>No window has labels yet.</p>"
    return f"{drawn}<p class=quiet>With its interval; orange: windows with an alarm.</p>"


def _findings(monitors: Sequence[Monitored], names: Sequence[str]) -> str:
    parts = []
    for each in monitors:
        if each.monitor not in names:
            continue
        rows = [
            (
                escape(finding.metric),
                escape(finding.feature or finding.slice or "all rows"),
                number(finding.value),
                f"{number(finding.low)} … {number(finding.high)}" if finding.low is not None else "",
                number(finding.threshold) if finding.threshold is not None else "",
                verdict_cell(finding.verdict.value),
                escape(finding.note),
            )
            for finding in each.findings
        ]
        table = html_table(("metric", "of", "value", "interval", "against", "verdict", ""), rows, numbers=(2, 3, 4))
        opened = " open" if each.verdict.value in ("fail", "error") else ""
        parts.append(
            f"<details{opened}><summary>{escape(each.monitor)}, window {each.window}: "
            f"{verdict_cell(each.verdict.value)}</summary>{table}</details>"
        )
    return "".join(parts)


def _others(monitors: Sequence[Monitored]) -> list[str]:
    sectioned = {name for _, names in _SECTIONS for name in names}
    return [each.monitor for each in monitors if each.monitor not in sectioned]


def _stood_out(report: LoopReport) -> str:
    if not report.stood_out:
        return "<p>None.</p>"
    named = ", ".join(f"{escape(name)} ({count})" for name, count in report.named_features)
    return (f"<p>Features that were named: {named}.</p>" if named else "") + _happenings(report.stood_out)


def _trends(report: LoopReport, alarms: Sequence[int]) -> str:
    return "".join(
        f"<h3>{escape(trend.monitor)}: {escape(trend.metric)}</h3>"
        + line_plot(trend.points, label=f"{trend.monitor}: {trend.metric}", alarms=alarms, height=110)
        for trend in report.trends
    )


def _objectives(report: LoopReport) -> str:
    rows = [
        (
            escape(str(each.get("slo", ""))),
            escape(str(each.get("name", ""))),
            *(_percent(each.get(field)) for field in ("target", "attainment", "budgetRemaining")),
        )
        for each in report.objectives
    ]
    return html_table(("SLO", "objective", "target", "reached", "budget left"), rows, numbers=(2, 3, 4))


def _runs(report: LoopReport) -> str:
    if not report.runs:
        return "<p>No run.</p>"
    rows = [
        (
            escape(each.at[:16]),
            escape(each.state),
            escape(each.cause),
            "–" if each.seconds is None else f"{each.seconds:.1f}",
            escape(each.id),
        )
        for each in report.runs
    ]
    return f"<p>{report.run_count} runs took {report.run_seconds:.1f} s in all.</p>" + html_table(
        ("at", "state", "cause", "seconds", "run"), rows, numbers=(3,)
    )


def _happenings(happenings: Sequence[Happening]) -> str:
    rows = [(escape(each.at[:16]), escape(each.kind), escape(each.text)) for each in happenings]
    return html_table(("at", "", ""), rows) or "<p>Nothing.</p>"


def _said(finding: Measured) -> str:
    return (
        f"{finding.metric} {number(finding.value)}"
        if finding.value is not None
        else f"{finding.metric}: {finding.note}"
    )


def _percent(value: object) -> str:
    return f"{value:.2%}" if isinstance(value, int | float) else "–"


def _aligned(place: int, numbers: Sequence[int]) -> str:
    return " class=number" if place in numbers else ""
