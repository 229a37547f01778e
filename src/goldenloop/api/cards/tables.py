"""What the parts of a card say, as headings and rows of text: the same for Markdown and HTML."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from goldenloop.api.cards.record import Card
from goldenloop.core.json import Json
from goldenloop.evaluation.checks import Check
from goldenloop.evaluation.gate import SliceResult
from goldenloop.stats.intervals import Interval

_SLICES_SHOWN = 40


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text; `rows` are as long as `headings`."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def facts(card: Card) -> TextTable:
    """The first lines: what it is and where it comes from."""
    data, lineage = card.data, card.lineage
    period = f"{_day(data.get('from'))} to {_day(data.get('until'))}" if data.get("until") else "rows without a time"
    commit = lineage.get("commit") or "no commit"
    changed = ", changed since" if lineage.get("changedSinceCommit") else ""
    classes = f" of {', '.join(card.classes)}" if card.classes else ""
    rows = (
        ("state", card.state),
        ("task", f"{card.task}{classes}"),
        ("inputs", ", ".join(card.inputs)),
        ("protected", ", ".join(card.protected) or "none declared"),
        ("data", f"{data.get('rows')} rows of {data.get('source') or 'the payload log'}, {period}"),
        ("judged on", f"{data.get('evaluationRows')} later rows"),
        ("content hash", str(lineage.get("dataDigest") or "unknown")),
        ("run", f"{lineage.get('run')}: {lineage.get('cause') or 'no cause on record'}"),
        ("code", f"{lineage.get('code') or 'unknown'} ({commit}{changed})"),
        ("model digest", str(lineage.get("digest"))),
        ("served form", str(lineage.get("conversion") or "as the run made it")),
        ("signature", _signature(lineage.get("signature"))),
        ("registered", card.created),
    )
    return TextTable(("", ""), rows)


def _signature(checked: Json) -> str:
    """What is known of the version's signature."""
    if not isinstance(checked, dict) or checked["state"] == "unsigned":
        return "unsigned"
    if checked["state"] == "unfit":
        return f"DOES NOT FIT: {checked['why']}"
    return f"signed with key {str(checked['key'])[:12]}, made by run {checked['run']}"


def metrics(card: Card) -> TextTable | None:
    """Every metric of the challenger, beside the champion it was compared with."""
    judged = card.judged
    if judged is None:
        return None
    names = [*judged.challenger_metrics, "loss"]
    mine = {**judged.challenger_metrics, "loss": judged.challenger_loss}
    theirs = {**judged.champion_metrics, "loss": judged.champion_loss}
    beside = f"champion (version {card.compared_with})" if card.compared_with is not None else "champion (none)"
    return TextTable(
        ("metric", "this version", beside),
        tuple((name, number(mine.get(name)), number(theirs.get(name))) for name in names),
    )


def gains(card: Card) -> list[str]:
    """How far it is ahead, with intervals."""
    if card.judged is None:
        return []
    score = "half Brier score" if card.judged.baseline_rule == "Brier" else "loss"
    compared = (
        (score, "the trivial baseline", card.judged.baseline_gain),
        ("loss", "the champion", card.judged.champion_gain),
    )
    return [f"Gain in {unit} over {whom}: {interval(gain)}." for unit, whom, gain in compared if gain is not None]


def slices(card: Card) -> TextTable | None:
    """The declared slices and those that were found."""
    if card.judged is None or not (card.judged.slices or card.found_slices):
        return None
    rows = [_slice(part) for part in card.judged.slices[:_SLICES_SHOWN]]
    for found in card.found_slices:
        gap = interval(found.gap)
        champion = number(found.champion_loss)
        verdict = "worse" if found.worse else "not certain"
        rows.append((f"found: {found.text}", str(found.rows), number(found.loss), champion, gap, verdict))
    return TextTable(("slice", "rows", "loss", "champion's loss", "difference", ""), tuple(rows))


def checks(card: Card) -> TextTable | None:
    """Each check with its verdict."""
    if not card.checks:
        return None
    return TextTable(
        ("check", "mode", "verdict", "what was found"),
        tuple((check.name, check.mode, said(check), check.reason) for check in card.checks),
    )


def decisions(card: Card) -> TextTable:
    """Who decided what."""
    rows = tuple(
        (
            each.at[:19],
            each.verdict.value,
            each.by,
            "none" if each.champion is None else f"version {each.champion}",
            each.reason,
        )
        for each in card.decisions
    )
    return TextTable(("when", "verdict", "by", "compared with", "why"), rows)


def groups(card: Card) -> TextTable | None:
    """Rates of the groups of protected columns."""
    check = next((each for each in card.checks if each.name == "fairness"), None)
    found = None if check is None else check.evidence.get("groups")
    if not isinstance(found, list) or not found:
        return None
    rates = ("selection_rate", "true_positive_rate", "false_positive_rate")
    rows = [
        (str(group["group"]), str(group["rows"]), *(_measured(group[name]) for name in rates))
        for group in found
        if isinstance(group, dict)
    ]
    return TextTable(("group", "rows", "favourable answers", "of the deserving", "of the others"), tuple(rows))


def said(check: Check) -> str:
    """The verdict in a word."""
    return check.verdict.value if check.applies else "not applicable"


def number(value: float | None) -> str:
    """A number as people read it."""
    return "–" if value is None else f"{value:.4g}"


def interval(found: Interval) -> str:
    """An estimate with its interval."""
    return f"{found.estimate:.4g} ({found.low:.4g} to {found.high:.4g})"


def _slice(part: SliceResult) -> tuple[str, ...]:
    gap = "–" if part.gap is None else interval(part.gap)
    verdict = part.note or ("worse" if part.worse else "")
    name = f"{part.column} is {part.value}"
    loss = number(part.challenger_loss) if part.loss is None else interval(part.loss)
    return name, str(part.rows), loss, number(part.champion_loss), gap, verdict


def _measured(value: Json) -> str:
    if not isinstance(value, dict) or value.get("value") is None:
        return "–"
    found = {name: msgspec.convert(value[name], float | None) for name in ("value", "low", "high")}
    return f"{number(found['value'])} ({number(found['low'])} to {number(found['high'])})"


def _day(moment: object) -> str:
    return str(moment)[:10] if moment else "the beginning"
