"""A card as Markdown: for the terminal, a repository, a review."""

from __future__ import annotations

from goldenloop.api.cards import tables
from goldenloop.api.cards.record import Card
from goldenloop.api.cards.tables import TextTable


def write_markdown(card: Card) -> str:
    """Return the card as a document in CommonMark, with tables."""
    parts = [f"# {card.model}, version {card.version}", _lead(card), _table(tables.facts(card))]
    parts += [
        "## Intended use",
        _plain(card.intended_use or card.description) or "Not stated in the Loop (`intendedUse`).",
    ]
    parts += ["## Who decided", _table(tables.decisions(card)) if card.decisions else "Nobody has decided yet."]
    metrics = tables.metrics(card)
    if metrics is not None:
        parts += ["## Metrics", _table(metrics), *tables.gains(card)]
    checks = tables.checks(card)
    if checks is not None:
        parts += ["## Checks", _table(checks)]
    slices = tables.slices(card)
    if slices is not None:
        parts += ["## Slices", "Loss is between 0 and 1; less is better.", _table(slices)]
    groups = tables.groups(card)
    if groups is not None:
        parts += ["## Fairness", _table(groups)]
    if card.rollout is not None:
        parts += ["## Rollout", _rollout(card)]
    parts += ["## Limits", "\n".join(f"- {_plain(line)}" for line in card.limits) or "None are known."]
    if card.history:
        parts += [
            "## History",
            "\n".join(f"- {each.at[:19]} {each.kind}: {_plain(each.text)}" for each in card.history),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _lead(card: Card) -> str:
    last = card.decisions[-1] if card.decisions else None
    told = f"{_plain(card.description)}\n\n" if card.description and card.intended_use else ""
    if last is None:
        return f"{told}**{card.state}.**"
    return f"{told}**{card.state}.** {_plain(last.by)}: {_plain(last.reason)}"


def _rollout(card: Card) -> str:
    rollout = card.rollout
    assert rollout is not None
    return (
        f"{rollout['name']}, {rollout['phase']} beside version {rollout['champion']} after {rollout['labelled']} labels: "
        f"{_plain(str(rollout['reason']))}"
    )


def _table(table: TextTable) -> str:
    lines = [_row(table.headings), _row(tuple("---" for _ in table.headings))]
    return "\n".join(lines + [_row(row) for row in table.rows])


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    """Text that may stand in a cell: what comes from people and data does not become markup."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    return escaped.replace("`", "\\`").replace("*", "\\*").replace("[", "\\[")
