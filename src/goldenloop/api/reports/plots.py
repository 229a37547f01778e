"""The plots of reports, as inline SVG: a value over windows with its interval and threshold, and two distributions beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Protocol

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 960, 200, 56, 22
_MINE, _BAND, _LIMIT, _ALARM, _OTHER = "#0b6e4f", "#0b6e4f", "#cc2222", "#e08a00", "#8a8f98"


class Placed(Protocol):
    """A value of a window."""

    @property
    def window(self) -> int: ...
    @property
    def end(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def threshold(self) -> float | None: ...


def line_plot(points: Sequence[Placed], *, label: str, alarms: Sequence[int] = (), height: int = _HEIGHT) -> str:
    """A line through the values, its interval as a band, thresholds in red, windows with an alarm in orange; "" for no value."""
    known = [point for point in points if point.value is not None]
    if not known:
        return ""
    heights = [
        each for point in known for each in (point.value, point.low, point.high, point.threshold) if each is not None
    ]
    low, high = min(heights), max(heights)
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    first, last = points[0].window, max(points[-1].window, points[0].window + 1)

    def x(window: int) -> float:
        return _LEFT + (window - first) / (last - first) * (_WIDTH - _LEFT - 6)

    def y(value: float) -> float:
        return 6 + (height - _BOTTOM - 6) * (high - value) / (high - low)

    drawn = [
        f"<line x1='{x(window):.1f}' x2='{x(window):.1f}' y1='0' y2='{height - _BOTTOM}' stroke='{_ALARM}' opacity='.7'/>"
        for window in alarms
        if first <= window <= last
    ]
    for piece in _stretches(points):
        band = [point for point in piece if point.low is not None and point.high is not None]
        if len(band) > 1:
            over = [f"{x(point.window):.1f},{y(point.high or 0.0):.1f}" for point in band]
            under = [f"{x(point.window):.1f},{y(point.low or 0.0):.1f}" for point in reversed(band)]
            drawn.append(f"<polygon points='{' '.join(over + under)}' fill='{_BAND}' opacity='.15'/>")
        corners = " ".join(f"{x(point.window):.1f},{y(point.value or 0.0):.1f}" for point in piece)
        drawn.append(
            f"<polyline fill='none' stroke='{_MINE}' stroke-width='1.5' points='{corners}'/>"
            if len(piece) > 1
            else f"<circle cx='{x(piece[0].window):.1f}' cy='{y(piece[0].value or 0.0):.1f}' r='2' fill='{_MINE}'/>"
        )
    limits = [(point.window, point.threshold) for point in known if point.threshold is not None]
    if limits:
        corners = " ".join(f"{x(window):.1f},{y(limit):.1f}" for window, limit in limits)
        drawn.append(f"<polyline fill='none' stroke='{_LIMIT}' stroke-dasharray='5 4' points='{corners}'/>")
    texts = (
        _text(0, 14, number(high))
        + _text(0, height - _BOTTOM, number(low))
        + _text(_LEFT, height - 4, points[0].end[:16])
        + _text(_WIDTH, height - 4, points[-1].end[:16], "end")
    )
    return f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' aria-label='{escape(label, quote=True)}'>{''.join(drawn)}{texts}</svg>"


def pair_plot(names: Sequence[str], reference: Sequence[float], current: Sequence[float], *, label: str) -> str:
    """Shares by bin: the reference in grey, the current frame in green before it; a bin's name shows on pointing at it."""
    width, height = 240, 56
    top = max([*reference, *current, 1e-12])
    step = width / max(len(names), 1)
    drawn = []
    for place, name in enumerate(names):
        tip = f"<title>{escape(name)}: {reference[place]:.1%} before, {current[place]:.1%} now</title>"
        bars = "".join(
            f"<rect x='{place * step + inset:.1f}' y='{height - share / top * height:.1f}' width='{max(step - 2 * inset - 1, 0.8):.1f}' "
            f"height='{share / top * height:.1f}' fill='{colour}'/>"
            for share, colour, inset in ((reference[place], _OTHER, 0.0), (current[place], _MINE, step * 0.22))
        )
        drawn.append(f"<g>{tip}{bars}</g>")
    return (
        f"<svg viewBox='0 0 {width} {height}' style='width:{width}px' role='img' aria-label='{escape(label, quote=True)}'>"
        f"{''.join(drawn)}</svg>"
    )


def number(value: float | None) -> str:
    """A number as reports write it."""
    return "–" if value is None else f"{value:.4g}"


def _stretches(points: Sequence[Placed]) -> list[list[Placed]]:
    """Runs of windows that have a value."""
    found: list[list[Placed]] = [[]]
    for point in points:
        if point.value is not None:
            found[-1].append(point)
        elif found[-1]:
            found.append([])
    return [piece for piece in found if piece]


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return (
        f"<text x='{x:.0f}' y='{y:.0f}' font-size='11' text-anchor='{anchor}' fill='currentColor'>{escape(text)}</text>"
    )
