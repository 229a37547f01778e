"""The report of a backtest: one HTML file that loads nothing, with its plots as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from goldenloop.control.backtesting import LOOP_POLICY, Policy, Told, Window

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 960, 260, 56, 24
_COLOURS = {"loop": "#0b6e4f", "never": "#888888", "periodic": "#3366aa"}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c1c1c; background: #ffffff }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #dddddd }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
svg { width: 100%; height: auto } .quiet { color: #666666 }
@media (prefers-color-scheme: dark) { body { color: #eeeeee; background: #161616 } th, td { border-color: #333333 } }
"""


def write_report(told: Told, *, name: str) -> str:
    """Return the report as HTML."""
    result = told.backtest
    quality = result.quality
    every = "every window" if told.every == 1 else f"every {told.every} windows"
    policies = (
        ("the loop" if told.policy == LOOP_POLICY else told.policy, "loop", quality.loop, result.runs),
        ("never retrained", "never", quality.never, 0),
        (f"retrained at {every}", "periodic", quality.periodic, told.periodic_runs),
    )
    rows = "".join(
        f"<tr><td><span style='color:{_COLOURS[key]}'>■</span> {escape(label)}</td>"
        f"<td class=number>{_shown(policy.overall)}</td><td class=number>{count}</td></tr>"
        for label, key, policy, count in policies
    )
    first, last = result.windows[0], result.windows[-1]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Backtest of {escape(name)}</title><style>{_STYLE}</style></head><body>
<h1>Backtest of {escape(name)}</h1>
<p>{len(result.windows)} windows from {first.start[:16]} to {last.end[:16]}. The first {told.warm_up_windows}
({told.warm_up_rows} rows) are the warm-up, on which the first version is trained; {told.live_rows} rows follow, each at its own time.</p>
<table><tr><th>policy</th><th class=number>{escape(quality.metric)}</th><th class=number>retrainings</th></tr>{rows}</table>
<p>{result.promotions} promotions, {result.rollbacks} roll-backs.</p>
<h2>{escape(quality.metric)} by window</h2>
{_plot([(key, policy) for _, key, policy, _ in policies], result.windows)}
<p class=quiet>Lines: orange an alarm under the promise, green a promotion, red a roll-back.</p>
<h2>What happened</h2>
{_happenings(result.windows)}
</body></html>
"""


def _plot(policies: Sequence[tuple[str, Policy]], windows: Sequence[Window]) -> str:
    values = [value for _, policy in policies for value in policy.windows if value is not None]
    if not values:
        return "<p>No window has labels.</p>"
    low, high = min(values), max(values)
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    across = (_WIDTH - _LEFT) / max(1, len(windows) - 1)

    def place(index: int, value: float) -> str:
        return f"{_LEFT + index * across:.1f},{(_HEIGHT - _BOTTOM) * (high - value) / (high - low) + 6:.1f}"

    marks = []
    for window in windows:
        for holds, colour in (
            (window.alarms, "#e08a00"),
            (window.promoted, "#18a35c"),
            (window.rolled_back, "#cc2222"),
        ):
            if holds:
                x = _LEFT + window.index * across
                marks.append(
                    f"<line x1='{x:.1f}' x2='{x:.1f}' y1='0' y2='{_HEIGHT - _BOTTOM}' stroke='{colour}' opacity='.6'/>"
                )
    lines = []
    for key, policy in reversed(policies):
        for piece in _pieces(policy.windows):
            points = " ".join(place(index, value) for index, value in piece)
            lines.append(f"<polyline fill='none' stroke='{_COLOURS[key]}' stroke-width='1.5' points='{points}'/>")
    axis = "".join(
        f"<text x='0' y='{y:.0f}' font-size='11' fill='currentColor'>{_shown(value)}</text>"
        for y, value in ((12, high), (_HEIGHT - _BOTTOM, low))
    )
    ends = (
        f"<text x='{_LEFT}' y='{_HEIGHT}' font-size='11' fill='currentColor'>{windows[0].start[:10]}</text>"
        f"<text x='{_WIDTH}' y='{_HEIGHT}' font-size='11' text-anchor='end' fill='currentColor'>{windows[-1].end[:10]}</text>"
    )
    return f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT + 4}' role='img'>{''.join(marks)}{''.join(lines)}{axis}{ends}</svg>"


def _pieces(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Stretches of windows that have a value."""
    pieces: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is not None:
            pieces[-1].append((index, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _happenings(windows: Sequence[Window]) -> str:
    rows = []
    for window in windows:
        texts = [
            f"alarm: {alarm.kind}{' in ' + alarm.feature if alarm.feature else ''} ({_shown(alarm.value)} passed {_shown(alarm.threshold)})"
            for alarm in window.alarms
        ]
        texts += [
            f"warning: {alarm.kind}{' in ' + alarm.feature if alarm.feature else ''}" for alarm in window.warnings
        ]
        if window.triggered:
            texts.append("retraining")
        if window.promoted:
            texts.append("promoted")
        if window.rolled_back:
            texts.append("rolled back")
        if texts:
            cells = (
                f"<td class=number>{window.index}</td><td>{window.start[:16]}</td><td class=number>{window.rows}</td>"
            )
            rows.append(f"<tr>{cells}<td>{'<br>'.join(map(escape, texts))}</td></tr>")
    if not rows:
        return "<p>Nothing: no alarm, no run.</p>"
    head = "<tr><th class=number>window</th><th>begins</th><th class=number>rows</th><th></th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}" if abs(value) >= 10 else f"{value:.4f}"
