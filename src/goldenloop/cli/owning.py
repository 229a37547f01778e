"""The owner's four questions on the terminal: fit, budget, deeds and their cost, what waits; and each monitor's last verdict."""

from __future__ import annotations

from goldenloop.cli.output import console
from goldenloop.core.json import Json, JsonObject

_FITNESS = {"Fit": "yes", "AtRisk": "at risk", "NotFit": "no", "Unknown": "not known"}


def print_owner(owner: JsonObject) -> None:
    """Print what `/owner` answered."""
    fit, did, promotions = _object(owner["fit"]), _object(owner["did"]), _object(owner["promotionError"])
    console.print("is it fit for use", style="bold")
    console.print(f"  {_FITNESS.get(str(fit['state']), 'not known')}: {fit['text']}", markup=False)
    console.print("how much budget is left", style="bold")
    for budget in _objects(owner["budgets"]):
        console.print(f"  {budget['promise']} ({budget['state']}): {budget['text']}", markup=False)
        for alert in _objects(budget.get("alerts")):
            if alert["firing"]:
                console.print(f"    {alert['severity']}: {alert['text']}", markup=False, style="yellow")
    console.print(
        f"  promotions: {promotions['spent']:.4f} of {promotions['alpha']} that one may ever be wrong is spent",
        markup=False,
    )
    console.print("what it did in 28 days, and what it cost", style="bold")
    console.print(
        f"  {did['runs']} runs, {did['minutes']} minutes ({did['failed']} failed); {did['promotions']} promoted,"
        f" {did['rolledBack']} rolled back, {did['alarms']} alarms; {did['windows']} windows judged in all",
        markup=False,
    )
    console.print("what waits for you", style="bold")
    waits = _objects(owner["waits"])
    for wait in waits:
        console.print(f"  {wait['text']}: {wait['command']}", markup=False)
    if not waits:
        console.print("  nothing", markup=False)
    console.print("what the monitors said last", style="bold")
    for said in _objects(owner["monitors"]):
        of = f" of {said['of']}" if said["of"] else ""
        value = "" if said["value"] is None else f" {said['value']:.4g}"
        held = "" if said["threshold"] is None else f" (threshold {said['threshold']:.4g})"
        note = f": {said['note']}" if said["note"] else ""
        console.print(f"  {said['monitor']}: {said['verdict']}, {said['metric']}{of}{value}{held}{note}", markup=False)


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _objects(value: Json) -> list[JsonObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
