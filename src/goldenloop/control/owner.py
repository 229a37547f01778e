"""What the owner of a loop asks: is it fit for use, how much budget is left, what did it do and what did that cost, what waits for me."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import func, select

from goldenloop.control.indicators import alpha_spent
from goldenloop.control.memory import RolloutMemory
from goldenloop.control.objectives import SLO
from goldenloop.control.progress import ROLLOUT
from goldenloop.control.view import LOOP, LoopView
from goldenloop.core.clock import DAY, MINUTE, to_text
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import Verdict, VersionState
from goldenloop.registry import versions
from goldenloop.standards.kubernetes import conditions_of
from goldenloop.store import memories, resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import measurements, runs, timeline

LOOKED_BACK_US = 28 * DAY  # of the wall clock, for what the loop did
_WORST = (Verdict.ERROR.value, Verdict.FAIL.value, Verdict.INCONCLUSIVE.value, Verdict.PASS.value)
_BAD = {"Spent": 0, "Burning": 1, "Missed": 2, "Unknown": 3, "Met": 4}


def owner_view(transaction: Transaction, namespace: str, name: str, *, now_us: int) -> JsonObject:
    """The four answers, and what each monitor said last. Raises NotFoundError."""
    document = resources.get(transaction, LOOP, namespace, name)
    view = LoopView.of(document)
    budgets = _budgets(transaction, namespace, name)
    waits = _waits(transaction, view, document, budgets)
    spent, alpha = alpha_spent(transaction, namespace, name), view.spec.rollout.alpha
    return {
        "fit": _fitness(transaction, view, document, budgets),
        "budgets": list(budgets),
        "promotionError": {"alpha": alpha, "spent": spent, "remaining": 1.0 - spent / alpha},
        "did": _deeds(transaction, namespace, name, now_us),
        "waits": list(waits),
        "monitors": list(_monitors(transaction, namespace, name)),
    }


def _budgets(transaction: Transaction, namespace: str, name: str) -> list[JsonObject]:
    """Every objective of the service, the worst first; those of a person's SLOs as well."""
    found: list[JsonObject] = []
    for document in resources.listing(transaction, SLO, namespace):
        spec, status = document["spec"], document.get("status")
        if not isinstance(spec, dict) or spec.get("service") != name:
            continue
        shown = status.get("objectives") if isinstance(status, dict) else None
        slo = str(resources.metadata_of(document)["name"])
        if not isinstance(shown, list):
            problems = [str(each.get("message")) for each in conditions_of(status)]
            promise = str(spec.get("description") or slo)
            text = problems[0] if problems else "it has not been judged yet"
            found.append({"slo": slo, "name": slo, "promise": promise, "state": "Unknown", "text": text})
            continue
        found += [{"slo": slo, **each} for each in shown if isinstance(each, dict)]
    return sorted(found, key=lambda each: (_BAD.get(str(each["state"]), 3), str(each["name"])))


def _fitness(transaction: Transaction, view: LoopView, document: JsonObject, budgets: list[JsonObject]) -> JsonObject:
    """Fit, AtRisk, NotFit or Unknown, and why in a sentence."""
    golden = versions.golden(transaction, view.namespace, view.name)
    ready = [each for each in conditions_of(document.get("status")) if each["type"] == "Ready"]
    if golden is None:
        why = str(ready[0]["message"]) if ready else "no version answers yet"
        return {"state": "NotFit", "text": why}
    if ready and ready[0]["status"] == "False":
        return {"state": "NotFit", "text": str(ready[0]["message"])}
    by_state: dict[str, list[str]] = {}
    for each in budgets:
        by_state.setdefault(str(each["state"]), []).append(str(each["promise"]))
    answers = f"version {golden.name} answers"
    if "Spent" in by_state:
        return {"state": "NotFit", "text": f"{answers}, but the error budget is spent: {_list(by_state['Spent'])}"}
    if "Burning" in by_state:
        return {"state": "AtRisk", "text": f"{answers}; the budget goes too fast: {_list(by_state['Burning'])}"}
    if "Missed" in by_state:
        return {"state": "AtRisk", "text": f"{answers}; below its target so far: {_list(by_state['Missed'])}"}
    if not budgets:
        return {"state": "Unknown", "text": f"{answers}; nothing is promised: the Loop has no objectives"}
    met, unknown = len(by_state.get("Met", [])), len(by_state.get("Unknown", []))
    if not met:
        return {"state": "Unknown", "text": f"{answers}; nothing has been counted of what is promised yet"}
    text = (
        f"{answers}, and what is promised is kept"
        if not unknown
        else (f"{answers}; {met} of {len(budgets)} objectives are met, nothing has been counted of the others")
    )
    return {"state": "Fit", "text": text}


def _deeds(transaction: Transaction, namespace: str, name: str, now_us: int) -> JsonObject:
    """Runs and what they took, versions and what became of them, alarms."""
    since_us = now_us - LOOKED_BACK_US
    mine = (runs.c.namespace == namespace, runs.c.loop == name, runs.c.created_us > since_us)
    query = select(runs.c.state, func.count(), func.sum(runs.c.finished_us - runs.c.started_us)).where(*mine)
    states: Counter[str] = Counter()
    took_us = 0
    for state, number, took in transaction.execute(query.group_by(runs.c.state)):
        states[state] += number
        took_us += int(took or 0)
    told = (
        select(timeline.c.kind, func.count())
        .where(timeline.c.namespace == namespace, timeline.c.loop == name, timeline.c.created_us > since_us)
        .group_by(timeline.c.kind)
    )
    happened = {row[0]: row[1] for row in transaction.execute(told)}
    windows = transaction.scalar(
        select(func.count(func.distinct(measurements.c.window))).where(
            measurements.c.namespace == namespace, measurements.c.loop == name
        )
    )
    return {
        "since": to_text(since_us),
        "runs": sum(states.values()),
        "succeeded": states["SUCCEEDED"],
        "failed": states["FAILED"],
        "minutes": round(took_us / MINUTE, 2),
        "promotions": happened.get("Promoted", 0),
        "rolledBack": happened.get("RolledBack", 0),
        "notTaken": happened.get("Inconclusive", 0) + happened.get("Refused", 0),
        "alarms": happened.get("Alarm", 0),
        "windows": windows or 0,
    }


def _waits(
    transaction: Transaction, view: LoopView, document: JsonObject, budgets: list[JsonObject]
) -> list[JsonObject]:
    """What goes on only when a person does something, each with the command that does it."""
    namespace, name = view.namespace, view.name
    found: list[JsonObject] = []

    def wait(kind: str, text: str, command: str) -> None:
        found.append({"kind": kind, "text": text, "command": command})

    for version in versions.listing(transaction, namespace, name):
        if version.state == VersionState.AWAITING_APPROVAL:
            text = f"version {version.name} passed its evaluation; a person is to approve it"
            wait("Approval", text, f"goldenloop approve {name} {version.name} --reason WHY")
    rollout = memories.recall(transaction, namespace, name, ROLLOUT, RolloutMemory)
    if rollout is not None and rollout.state.asks:
        text = f"the rollout of version {rollout.state.challenger} asks: {rollout.state.asks}"
        wait("Rollout", text, f"goldenloop promote {name}, or goldenloop rollback {name}")
    for each in budgets:
        if each["state"] == "Spent":
            text = f"{each['promise']}: the error budget is spent; decide what is to change"
            wait("Budget", text, f"goldenloop describe slo {each['slo']}")
    for slo in resources.listing(transaction, SLO, namespace):
        spec, status = slo["spec"], slo.get("status")
        if not isinstance(spec, dict) or spec.get("service") != name:
            continue
        for state in conditions_of(status):
            if state["type"] == "Measured" and state["reason"] in ("NobodyMeasuresIt", "NotReadable"):
                wait(
                    "Objective", str(state["message"]), f"goldenloop describe slo {resources.metadata_of(slo)['name']}"
                )
    if view.spec.retrain.suspend:
        text = "retraining is suspended: causes are noted, and nothing is started"
        wait("Suspended", text, "set retrain.suspend: false in the Loop and apply it")
    status = document.get("status")
    if isinstance(status, dict) and status.get("phase") == "Blocked":
        reasons = [str(each["message"]) for each in conditions_of(status) if each["status"] == "False"]
        wait("Blocked", _list(reasons) or "the loop has no version", f"goldenloop logs {name}")
    return found


def _monitors(transaction: Transaction, namespace: str, name: str) -> list[JsonObject]:
    """What each monitor said of the last window that it judged: its worst verdict, and the measurement that has it."""
    mine = (measurements.c.namespace == namespace, measurements.c.loop == name)
    last = (
        select(measurements.c.monitor, func.max(measurements.c.window).label("window"))
        .where(*mine)
        .group_by(measurements.c.monitor)
        .subquery()
    )
    query = (
        select(measurements)
        .join(last, (measurements.c.monitor == last.c.monitor) & (measurements.c.window == last.c.window))
        .where(*mine)
        .order_by(measurements.c.monitor, measurements.c.id)
    )
    chosen: dict[str, tuple[tuple[int, int, int], JsonObject]] = {}
    for row in transaction.execute(query):
        rank = (_WORST.index(row.verdict), int(bool(row.feature or row.slice)), int(row.metric != "statistic"))
        if row.monitor in chosen and chosen[row.monitor][0] <= rank:
            continue
        shown: JsonObject = {
            "monitor": row.monitor,
            "metric": row.metric,
            "of": row.feature or row.slice,
            "verdict": row.verdict,
            "value": row.value,
            "threshold": row.threshold,
            "window": row.window,
            "at": to_text(row.end_us),
            "note": row.note,
        }
        chosen[row.monitor] = (rank, shown)
    return [shown for _, shown in sorted(chosen.values(), key=lambda each: (each[0], str(each[1]["monitor"])))]


def _list(texts: list[Json] | list[str]) -> str:
    return "; ".join(str(text) for text in texts)
