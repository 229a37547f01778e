"""A card as one HTML file that loads nothing and runs nothing; its plots are inline SVG."""

from __future__ import annotations

from html import escape

import msgspec

from goldenloop.api.cards import tables
from goldenloop.api.cards.plots import Bar, interval_plot, reliability_plot
from goldenloop.api.cards.record import Card
from goldenloop.api.cards.tables import TextTable
from goldenloop.core.json import JsonObject
from goldenloop.stats.calibration import ReliabilityPoint
from goldenloop.stats.robustness import Stability

# What a browser may do with the page: show it.
SECURITY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c1c1c; background: #ffffff }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #dddddd }
td { overflow-wrap: break-word } table.facts td { overflow-wrap: anywhere }
table.facts td:first-child { color: #666666; white-space: nowrap; width: 9rem }
svg { width: 100%; height: auto } .quiet { color: #666666 }
.pass { color: #0b6e4f } .fail, .error, .worse { color: #cc2222; font-weight: 600 } .inconclusive { color: #b06a00 }
.state { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .7rem; font-size: .9rem }
@media (prefers-color-scheme: dark) {
  body { color: #eeeeee; background: #161616 } th, td { border-color: #333333 } .pass { color: #4cc38a }
}
"""
_MARKED = ("pass", "fail", "error", "inconclusive", "worse")  # cells that are shown in their colour


def write_page(card: Card) -> str:
    """Return the card as HTML."""
    last = card.decisions[-1] if card.decisions else None
    why = f"<p>{escape(last.by)}: {escape(last.reason)}</p>" if last is not None else ""
    title = f"{escape(card.model)}, version {card.version}"
    sections = [
        ("", _table(tables.facts(card), kind="facts")),
        ("Intended use", f"<p>{escape(card.intended_use or card.description) or _NOT_STATED}</p>"),
        ("Who decided", _table(tables.decisions(card)) if card.decisions else "<p>Nobody has decided yet.</p>"),
        ("Metrics", _metrics(card)),
        ("Checks", _optional(tables.checks(card))),
        ("Slices", _slices(card)),
        ("Calibration", _calibration(card)),
        ("Fairness", _optional(tables.groups(card))),
        ("Robustness", _robustness(card)),
        ("Rollout", _rollout(card)),
        ("Limits", f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in card.limits)}</ul>"),
        ("History", _history(card)),
    ]
    body = "".join(f"{f'<h2>{name}</h2>' if name else ''}{content}" for name, content in sections if content)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title} <span class=state>{escape(card.state)}</span></h1>
{f"<p class=quiet>{escape(card.description)}</p>" if card.description and card.intended_use else ""}
{why}
{body}
</body></html>
"""


_NOT_STATED = "Not stated in the Loop (<code>intendedUse</code>)."


def _metrics(card: Card) -> str:
    return _optional(tables.metrics(card)) + "".join(f"<p>{escape(line)}</p>" for line in tables.gains(card))


def _slices(card: Card) -> str:
    table = tables.slices(card)
    if table is None or card.judged is None:
        return ""
    has_champion = card.judged.champion_loss is not None
    bars = []
    for part in card.judged.slices:
        shown = part.gap if has_champion else part.loss
        if shown is not None:
            bars.append(Bar(f"{part.column} is {part.value}", shown.estimate, shown.low, shown.high, bad=part.worse))
    if has_champion:
        bars += [
            Bar(f"found: {found.text}", found.gap.estimate, found.gap.low, found.gap.high, bad=found.worse)
            for found in card.found_slices
        ]
    what = (
        "Loss beside the champion's, with intervals; right of the line is worse."
        if has_champion
        else "Loss, with intervals."
    )
    return f"<p class=quiet>{what}</p>{interval_plot(bars[:40], label='slices')}{_table(table)}"


def _calibration(card: Card) -> str:
    evidence = _evidence(card, "calibration")
    points = msgspec.convert(evidence.get("points", []), tuple[ReliabilityPoint, ...])
    if not points:
        return ""
    drawn = [(each.predicted, each.observed.estimate, each.observed.low, each.observed.high) for each in points]
    return reliability_plot(drawn)


def _robustness(card: Card) -> str:
    effects = _evidence(card, "robustness").get("effects")
    if not isinstance(effects, list):
        return ""
    bars = []
    for effect in msgspec.convert(effects, tuple[Stability, ...]):
        flips = effect.flips
        if flips.value is not None and flips.low is not None and flips.high is not None:
            bars.append(Bar(f"answers changed by {effect.noise}", flips.value, flips.low, flips.high))
    return interval_plot(bars, label="robustness")


def _rollout(card: Card) -> str:
    rollout = card.rollout
    if rollout is None:
        return ""
    text = (
        f"{rollout['name']}: {rollout['phase']} beside version {rollout['champion']} after {rollout['labelled']} labels. "
        f"{rollout['reason']}"
    )
    return f"<p>{escape(text)}</p>"


def _history(card: Card) -> str:
    rows = tuple((each.at[:19], each.kind, each.text) for each in card.history)
    return _table(TextTable(("", "", ""), rows)) if rows else ""


def _evidence(card: Card, name: str) -> JsonObject:
    return next((check.evidence for check in card.checks if check.name == name), {})


def _optional(table: TextTable | None) -> str:
    return "" if table is None else _table(table)


def _table(table: TextTable, *, kind: str = "") -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.headings)
    rows = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in table.rows)
    return f"<table{f' class={kind}' if kind else ''}>{f'<tr>{head}</tr>' if any(table.headings) else ''}{rows}</table>"


def _cell(text: str) -> str:
    return f"<td{f' class={text}' if text in _MARKED else ''}>{escape(text)}</td>"
