"""The plots of a card, as inline SVG: what was found against what would be perfect, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_SIDE, _EDGE = 300, 34
_ROW, _WIDTH, _NAME = 22, 760, 300
_MINE, _LINE, _BAD = "#0b6e4f", "#999999", "#cc2222"


@dataclass(frozen=True, slots=True)
class Bar:
    """A named value with its interval, drawn in red where it is `bad`."""

    name: str
    value: float
    low: float
    high: float
    bad: bool = False


def reliability_plot(points: Sequence[tuple[float, float, float, float]]) -> str:
    """Predicted against observed rates: (predicted, observed, low, high), all in [0, 1]. The diagonal is perfect."""

    def x(value: float) -> float:
        return _EDGE + value * (_SIDE - _EDGE - 6)

    def y(value: float) -> float:
        return _SIDE - _EDGE - value * (_SIDE - _EDGE - 6)

    marks = [
        f"<line x1='{x(0):.1f}' y1='{y(0):.1f}' x2='{x(1):.1f}' y2='{y(1):.1f}' stroke='{_LINE}' stroke-dasharray='4 3'/>"
    ]
    for predicted, observed, low, high in points:
        marks.append(
            f"<line x1='{x(predicted):.1f}' x2='{x(predicted):.1f}' y1='{y(low):.1f}' y2='{y(high):.1f}' stroke='{_MINE}' opacity='.5'/>"
            f"<circle cx='{x(predicted):.1f}' cy='{y(observed):.1f}' r='3' fill='{_MINE}'/>"
        )
    axes = (
        f"<path d='M{x(0):.1f} {y(1):.1f}V{y(0):.1f}H{x(1):.1f}' fill='none' stroke='currentColor' opacity='.6'/>"
        f"{_text(x(0.5), _SIDE - 6, 'predicted', 'middle')}{_text(x(0), _SIDE - _EDGE + 14, '0', 'middle')}"
        f"{_text(x(1), _SIDE - _EDGE + 14, '1', 'end')}{_text(_EDGE - 6, y(1) + 8, '1', 'end')}{_text(4, y(0.5), 'observed', 'start')}"
    )
    return (
        f"<svg viewBox='0 0 {_SIDE} {_SIDE}' style='max-width:{_SIDE}px' role='img' aria-label='calibration'>"
        f"{axes}{''.join(marks)}</svg>"
    )


def interval_plot(bars: Sequence[Bar], *, label: str) -> str:
    """Values with their intervals under each other, and a line at zero."""
    if not bars:
        return ""
    low = min(0.0, *(bar.low for bar in bars))
    high = max(0.0, *(bar.high for bar in bars))
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return _NAME + (value - low) / span * (_WIDTH - _NAME - 60)

    drawn = []
    for number, bar in enumerate(bars):
        y = number * _ROW + 14
        colour = _BAD if bar.bad else _MINE
        drawn.append(
            f"{_text(_NAME - 10, y + 4, bar.name if len(bar.name) < 44 else bar.name[:43] + '…', 'end')}"
            f"<line x1='{x(bar.low):.1f}' x2='{x(bar.high):.1f}' y1='{y}' y2='{y}' stroke='{colour}' stroke-width='2' opacity='.5'/>"
            f"<circle cx='{x(bar.value):.1f}' cy='{y}' r='3.5' fill='{colour}'/>{_text(_WIDTH, y + 4, f'{bar.value:.3g}', 'end')}"
        )
    height = len(bars) * _ROW + 8
    zero = f"<line x1='{x(0):.1f}' x2='{x(0):.1f}' y1='0' y2='{height}' stroke='{_LINE}'/>"
    return f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' aria-label='{escape(label)}'>{zero}{''.join(drawn)}</svg>"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='11' text-anchor='{anchor}' fill='currentColor'>{escape(text)}</text>"
    )
