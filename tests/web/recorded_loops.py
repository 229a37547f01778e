"""Answers of the public API as a working installation gives them, made from a seed: four loops at four stages."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

API = "/apis/goldenloop.dev/v1alpha1"
OURS = "/goldenloop/v1alpha1"
START = datetime(1996, 5, 7, tzinfo=UTC)  # event time of the first row
WALL = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # when all of it was replayed
WINDOW = timedelta(hours=100)  # 200 rows, one every half hour
WINDOWS = 84
PROMOTIONS = {26: 2, 52: 3}  # window → the version that took over after it
PREDICTION = "0197f3a0-5b1c-7d2e-9f00-3c1d5a7e9b21"
EXPERIMENT = "0197f000-0000-7000-8000-00000000e001"

Json = dict[str, object]


def iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def digest(text: str) -> str:
    return "sha256:" + sha256(text.encode()).hexdigest()


def run_id(number: int) -> str:
    return str(UUID(int=0x0197F3A0_0000_7000_8000_000000000000 + number))


def _wall(window: float) -> datetime:
    return WALL + timedelta(seconds=0.7 * window)


def quality(*, seed: int = 7, metric: str = "accuracy", windows: int = WINDOWS) -> Json:
    """Accuracy that falls after two changes of the world, and comes back with each new champion."""
    draw = random.Random(seed)
    rows, never, periodic, drift = [], [], [], []
    version, statistic = 1, 0.0
    for index in range(windows):
        changed = sum(index >= at for at in (20, 46, 76))
        lag = {1: changed, 2: max(0, changed - 1), 3: max(0, changed - 2)}[version]
        season = 0.012 * math.sin(index / 5)
        value = 0.845 - 0.075 * lag + season + draw.gauss(0, 0.011)
        half = 1.96 * math.sqrt(value * (1 - value) / 200)
        start = START + WINDOW * index
        rows.append(
            {
                "index": index,
                "start": iso(start),
                "end": iso(start + WINDOW),
                "rows": 200,
                "loop": round(value, 4),
                "low": round(value - half, 4),
                "high": round(value + half, 4),
                "version": str(version),
            }
        )
        never.append({"index": index, "value": round(0.845 - 0.05 * changed + season + draw.gauss(0, 0.011), 4)})
        periodic.append({"index": index, "value": round(0.838 - 0.018 * changed + season + draw.gauss(0, 0.012), 4)})
        score = 0.9 * lag + abs(draw.gauss(0, 0.35))
        statistic = max(0.0, statistic + score - 0.55)
        threshold = 4.2
        verdict = "fail" if statistic > threshold else "pass"
        drift.append(
            {
                "index": index,
                "score": round(score, 3),
                "statistic": round(statistic, 3),
                "threshold": threshold,
                "verdict": verdict,
            }
        )
        if index in PROMOTIONS:
            version, statistic = PROMOTIONS[index], 0.0
    return {"metric": metric, "windows": rows, "never": never, "periodic": periodic, "drift": drift}


def timeline() -> list[Json]:
    items: list[Json] = []

    def say(window: float, kind: str, text: str, **facts: object) -> None:
        at = START + WINDOW * window
        items.append(
            {
                "sequence": len(items) + 1,
                "kind": kind,
                "text": text,
                "at": iso(at),
                "recorded": iso(_wall(window)),
                "facts": facts,
            }
        )

    say(0.1, "Run", "Run 1 started: the loop has no champion yet", run=run_id(1))
    say(0.2, "Blessed", "Version 1 beats the most frequent class by 0.27", version=1, run=run_id(1))
    say(0.3, "Golden", "Version 1 is golden: it is the first", version=1)
    say(0.4, "Served", "Version 1 answers at /v2/models/electricity/infer", version=1)
    say(
        9,
        "NotTriggered",
        "Feature vicprice looked odd in one window of 200 rows; by chance this happens",
        feature="vicprice",
    )
    say(
        22.2,
        "Alarm",
        "Accuracy fell from 0.84 to 0.77: loss alarm of detector e-detector",
        statistic=7.1,
        threshold=6.9,
    )
    say(22.3, "Trigger", "Retrain: the loss rose and 4 400 new labels are in", labels=4400, cooldown="over")
    say(22.4, "Run", "Run 2 started by the trigger", run=run_id(2))
    say(22.6, "Blessed", "Version 2 beats version 1 by 0.069 on the same 2 000 rows", version=2, run=run_id(2))
    say(22.7, "Rollout", "Version 2 goes in shadow beside version 1", version=2)
    say(24.5, "Canary", "Version 2 answers 25 % of the requests", version=2, share=25)
    say(
        26.9, "Promoted", "Version 2 is golden: better by evidence 22 400 : 1 after 812 labels", version=2, labelled=812
    )
    say(34, "RunFailed", "Run 3, asked for by hand, failed in step train: MemoryError", run=run_id(3))
    say(47.8, "Alarm", "Drift in nswprice and transfer: statistic 5.2 above 4.2", features=["nswprice", "transfer"])
    say(48.0, "Trigger", "Retrain: drift in 2 of 7 features, labels agree", labels=5100)
    say(48.1, "Run", "Run 4 started by the trigger", run=run_id(4))
    say(48.6, "Blessed", "Version 3 beats version 2 by 0.052 on the same 2 000 rows", version=3, run=run_id(4))
    say(48.8, "Rollout", "Version 3 goes in shadow beside version 2", version=3)
    say(
        52.9, "Promoted", "Version 3 is golden: better by evidence 20 300 : 1 after 941 labels", version=3, labelled=941
    )
    say(63.2, "Alarm", "Latency: 99 in 100 answers took 61 ms or less, the objective is 50 ms", value=61, objective=50)
    say(63.25, "NotTriggered", "A slow answer is no reason to train", about="latency")
    say(66.0, "RolledBack", "Version 4 was rolled back: worse by evidence 190 : 1", version=4)
    say(
        77.9,
        "Alarm",
        "Accuracy fell from 0.85 to 0.78: loss alarm of detector e-detector",
        statistic=7.6,
        threshold=6.9,
    )
    say(78.0, "Trigger", "Retrain: the loss rose and 5 000 new labels are in", labels=5000)
    say(78.1, "Run", "Run 6 started by the trigger", run=run_id(6))
    say(78.5, "Blessed", "Version 5 beats version 3 by 0.061 on the same 2 000 rows", version=5, run=run_id(6))
    say(78.7, "Rollout", "Version 5 goes in shadow beside version 3", version=5)
    say(81.2, "Canary", "Version 5 answers 5 % of the requests", version=5, share=5)
    return items


LATER: Json = {
    "sequence": 1000,
    "kind": "Canary",
    "text": "Version 5 answers 25 % of the requests",
    "at": iso(START + WINDOW * 83.5),
    "recorded": iso(_wall(83.5)),
    "facts": {"version": 5, "share": 25},
}


def rollouts() -> list[Json]:
    draw = random.Random(11)
    history: list[Json] = []
    benefit = harm = 0.0
    for step in range(1, 29):
        benefit = benefit + draw.gauss(0.19, 0.22)
        harm = max(-1.5, harm + draw.gauss(-0.05, 0.16))
        history.append(
            {
                "at": iso(START + WINDOW * (78.7 + step * 0.17)),
                "labelled": step * 29,
                "benefit": round(benefit, 3),
                "harm": round(harm, 3),
                "phase": "Shadow" if step < 15 else "Canary",
                "share": 0 if step < 15 else 5,
            }
        )
    owner = [{"kind": "Loop", "name": "electricity", "apiVersion": "goldenloop.dev/v1alpha1"}]
    thresholds = {"threshold": 8.4, "harmThreshold": 5.1}
    return [
        {
            "metadata": {"name": "electricity-5", "namespace": "default", "ownerReferences": owner},
            "spec": {"loop": "electricity"},
            "status": {
                "phase": "Canary",
                "champion": "3",
                "challenger": "5",
                "share": 5,
                "labelled": 812,
                "evidence": {"benefit": history[-1]["benefit"], "harm": history[-1]["harm"], **thresholds},
                "history": history,
                "reason": "Better so far; the evidence does not suffice to give it more of the traffic.",
                "labelsUntilDecision": 600,
            },
        },
        {
            "metadata": {"name": "electricity-4", "namespace": "default", "ownerReferences": owner},
            "spec": {"loop": "electricity"},
            "status": {
                "phase": "RolledBack",
                "champion": "3",
                "challenger": "4",
                "share": 0,
                "labelled": 203,
                "evidence": {"benefit": -1.0, "harm": 5.2, **thresholds},
                "history": [],
                "reason": "Worse by evidence.",
                "labelsUntilDecision": None,
            },
        },
    ]


def versions() -> list[Json]:
    states = {1: "Retired", 2: "Retired", 3: "Golden", 4: "Quarantined", 5: "Blessed", 6: "Refused"}
    reasons = {
        1: "beats the most frequent class by 0.27",
        2: "beats version 1 by 0.069 on the same 2 000 rows",
        3: "beats version 2 by 0.052 on the same 2 000 rows",
        4: "beats version 3 by 0.004 on the same 2 000 rows",
        5: "beats version 3 by 0.061 on the same 2 000 rows",
        6: "worse than version 3 on slice day=7 by 0.09",
    }
    until = {1: 0, 2: 22, 3: 48, 4: 62, 5: 78, 6: 80}
    run_of = {1: 1, 2: 2, 3: 4, 4: 5, 5: 6, 6: 7}
    return [
        {
            "number": number,
            "state": state,
            "metrics": {
                "accuracy": round(0.82 + 0.007 * number, 4),
                "log_loss": round(0.41 - 0.012 * number, 4),
                "roc_auc": round(0.88 + 0.008 * number, 4),
                "latency_p99_ms": round(0.9 + 0.07 * number, 2),
            },
            "created": iso(_wall(until[number] + 0.5)),
            "trainedUntil": iso(START + WINDOW * until[number]),
            "run": run_id(run_of[number]),
            "digest": digest(f"model {number}"),
            "evaluation": {"verdict": "fail" if number == 6 else "pass", "reason": reasons[number], "rows": 2000},
            "data": {"rows": 2000 + 200 * until[number], "digest": digest(f"data {number}")},
            "code": {"commit": sha256(b"commit").hexdigest()[:40], "dirty": number == 4, "digest": digest("code")},
        }
        for number, state in states.items()
    ]


def runs() -> list[Json]:
    causes = {
        1: ("First", "The loop has no champion yet"),
        2: ("Loss", "The loss rose: 0.16 to 0.23"),
        3: ("Manual", "Asked for by hand"),
        4: ("Drift", "Drift in nswprice and transfer"),
        5: ("Manual", "Asked for by hand"),
        6: ("Loss", "The loss rose: 0.15 to 0.22"),
        7: ("Manual", "Asked for by hand"),
    }
    found: list[Json] = []
    for number, (kind, text) in causes.items():
        created = WALL + timedelta(seconds=8 * number)
        failed = number == 3
        found.append(
            {
                "id": run_id(number),
                "name": f"electricity-{number}",
                "loop": "electricity",
                "state": "FAILED" if failed else "SUCCEEDED",
                "cause": {"kind": kind, "text": text},
                "created": iso(created),
                "started": iso(created + timedelta(milliseconds=60)),
                "finished": iso(created + timedelta(milliseconds=2300 if failed else 6140)),
                "error": "step train: MemoryError: cannot allocate 3.1 GiB" if failed else None,
            }
        )
    return found


def run(number: int) -> Json:
    """One run with its steps: a line that splits in two and comes together; run 3 dies in `train`."""
    head = next(found for found in runs() if found["id"] == run_id(number))
    created = WALL + timedelta(seconds=8 * number, milliseconds=60)
    plan: list[tuple[str, int, int, list[str], bool]] = [
        ("ingest", 0, 420, [], False),
        ("statistics", 440, 1180, ["ingest"], False),
        ("infer-schema", 440, 470, ["ingest"], True),
        ("validate-schema", 1200, 1490, ["statistics", "infer-schema"], False),
        ("train", 1510, 4620, ["validate-schema"], False),
        ("evaluate", 4650, 5510, ["train"], False),
        ("bless", 5530, 5690, ["evaluate"], False),
        ("register", 5710, 6080, ["bless"], False),
    ]
    tasks: list[Json] = []
    for name, start, end, depends, cached in plan:
        ended = number == 3 and start > 1510
        failed = number == 3 and name == "train"
        tasks.append(
            {
                "name": name,
                "state": "SKIPPED" if ended else "FAILED" if failed else "SUCCEEDED",
                "started": None if ended else iso(created + timedelta(milliseconds=start)),
                "finished": None if ended else iso(created + timedelta(milliseconds=2240 if failed else end)),
                "error": "MemoryError: cannot allocate 3.1 GiB" if failed else None,
                "cached": cached,
                "dependsOn": depends,
            }
        )
    return {**head, "tasks": tasks}


def log(task: str) -> str:
    return (
        f"[{task}] 19 400 rows, 7 features, label class\n"
        f"[{task}] candidate logistic regression: accuracy 0.7712 in 0.31 s\n"
        f"[{task}] candidate gradient boosting: accuracy 0.8411 in 2.48 s\n"
        f"[{task}] kept gradient boosting\n"
    )


def trace() -> Json:
    version = versions()[2]
    return {
        "prediction": {
            "id": PREDICTION,
            "at": iso(START + WINDOW * 82.4),
            "service": "electricity",
            "version": "3",
            "reason": "champion",
            "latencyMs": 1.84,
        },
        "payload": {
            "day": 3,
            "period": 0.425532,
            "nswprice": 0.0912,
            "nswdemand": 0.6301,
            "vicprice": 0.0051,
            "vicdemand": 0.5022,
            "transfer": 0.3147,
        },
        "answer": {"value": "UP", "probabilities": {"UP": 0.832, "DOWN": 0.168}},
        "label": {"label": "UP", "observed_at": iso(START + WINDOW * 82.7)},
        "attributions": [
            {
                "feature": "nswprice",
                "value": 0.0912,
                "contribution": 0.874,
                "text": "The price is high for this hour: raises UP most",
            },
            {"feature": "nswdemand", "value": 0.6301, "contribution": 0.402, "text": "Demand is above its median"},
            {
                "feature": "transfer",
                "value": 0.3147,
                "contribution": -0.288,
                "text": "Much flows in from the neighbour: lowers UP",
            },
            {"feature": "period", "value": 0.4255, "contribution": 0.121, "text": "Late morning"},
            {"feature": "vicdemand", "value": 0.5022, "contribution": -0.064, "text": ""},
            {"feature": "day", "value": 3, "contribution": 0.022, "text": ""},
            {"feature": "vicprice", "value": 0.0051, "contribution": -0.008, "text": ""},
        ],
        "evaluation": version["evaluation"],
        "version": version,
        "run": runs()[3],
        "data": version["data"],
        "code": version["code"],
    }


def loops() -> list[Json]:
    def loop(name: str, status: Json) -> Json:
        return {
            "apiVersion": "goldenloop.dev/v1alpha1",
            "kind": "Loop",
            "metadata": {"name": name, "namespace": "default", "generation": 1},
            "spec": {"pipeline": "auto", "data": {"source": f"data/{name}/"}},
            "status": status,
        }

    def condition(kind: str, status: str, *, reason: str = "", message: str = "") -> Json:
        return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": iso(WALL)}

    return [
        loop(
            "electricity",
            {
                "champion": "3",
                "phase": "Serving",
                "watermark": iso(START + WINDOW * WINDOWS),
                "conditions": [
                    condition("Ready", "True", message="version 3 answers"),
                    condition("LabelsOnTime", "Unknown"),
                ],
                "choices": {
                    "task": {"value": "classification", "why": "label class has 2 values in 45 312 rows"},
                    "metric": {"value": "accuracy", "why": "the classes are balanced, 42 % and 58 %"},
                    "windows": {
                        "value": "200 rows",
                        "why": "the smallest size at which a fall of 0.05 is seen within 5 windows",
                    },
                    "timestamp": {"value": "at", "why": "named in the loop file"},
                },
            },
        ),
        loop(
            "loan",
            {
                "champion": "1",
                "phase": "Serving",
                "watermark": iso(START + WINDOW * 40),
                "conditions": [condition("Ready", "True")],
            },
        ),
        loop(
            "taxi-tips",
            {
                "champion": "2",
                "phase": "Blocked",
                "watermark": iso(START + WINDOW * 31),
                "conditions": [
                    condition(
                        "DataReady",
                        "False",
                        reason="ColumnMissing",
                        message="data/taxi/2016-09.csv has no column trip_miles; add it, or leave it out",
                    )
                ],
            },
        ),
        loop(
            "churn",
            {"champion": None, "phase": "Training", "watermark": None, "conditions": [condition("Ready", "Unknown")]},
        ),
    ]


def owner(name: str) -> Json:
    """The four answers: of a loop with a rollout and a budget that goes too fast, and of loops that have nothing to say yet."""
    if name != "electricity":
        text = (
            "version 1 answers; nothing is promised: the Loop has no objectives" if name == "loan" else "no version yet"
        )
        return {
            "fit": {"state": "Unknown" if name == "loan" else "NotFit", "text": text},
            "budgets": [],
            "promotionError": {"alpha": 0.05, "spent": 0.0, "remaining": 1.0},
            "did": _did(runs=1, minutes=0.2),
            "waits": [],
            "monitors": [],
        }
    alert = {"text": "fires where more than 13.4 % fail over 1h and 5m", "severity": "page", "factor": 13.4}
    return {
        "fit": {
            "state": "AtRisk",
            "text": "version 3 answers; the budget goes too fast: latency_p99_ms <= 50 over 28d",
        },
        "budgets": [
            _budget("latency_p99_ms <= 50 over 28d", "Burning", 0.99, 0.9881, 0.31, 182_340)
            | {"alerts": [{**alert, "burnRate": 16.2, "firing": True}]},
            _budget("accuracy >= 0.70 over 28d", "Met", 0.95, 1.0, 1.0, 84),
            _budget("availability >= 99.9 % over 28d", "Met", 0.999, 0.99987, 0.87, 182_360),
            {
                **_budget("fairness/gap <= 0.1 over 28d", "Unknown", 0.95, None, None, 0),
                "text": "nobody measures fairness/gap; measured are drift/statistic, performance/accuracy.",
            },
        ],
        "promotionError": {"alpha": 0.05, "spent": 0.0412, "remaining": 0.176},
        "did": _did(runs=7, minutes=11.4, promotions=2, rolledBack=1, alarms=4, failed=1),
        "waits": [
            {
                "kind": "Approval",
                "text": "version 6 passed its evaluation; a person is to approve it",
                "command": "goldenloop approve electricity 6 --reason WHY",
            },
            {
                "kind": "Objective",
                "text": "nobody measures fairness/gap; measured are drift/statistic, performance/accuracy",
                "command": "goldenloop describe slo electricity-fairness-gap-3",
            },
        ],
        "monitors": [
            _said("drift", "statistic", "fail", 31.2, 22.4, ""),
            _said("fairness", "gap", "inconclusive", None, None, "sex=female", "3 rows are too few"),
            _said("missing", "share", "pass", 0.004, 0.02, "vicprice"),
            _said("performance", "excess_loss", "pass", 0.012, None, ""),
            _said("service", "latency_p99_ms", "pass", 12.4, None, ""),
        ],
    }


def _did(**counts: float) -> Json:
    nothing = {
        "succeeded": 0,
        "failed": 0,
        "promotions": 0,
        "rolledBack": 0,
        "notTaken": 0,
        "alarms": 0,
        "windows": WINDOWS,
    }
    return {"since": iso(WALL - timedelta(days=28)), **nothing, **counts}


def _budget(promise: str, state: str, target: float, attained: float | None, left: float | None, total: int) -> Json:
    return {
        "slo": promise,
        "name": promise,
        "promise": promise,
        "indicator": promise.split()[0],
        "state": state,
        "target": target,
        "window": "28d",
        "total": total,
        "attainment": attained,
        "budgetRemaining": left,
        "text": "",
        "note": "",
        "alerts": [],
    }


def _said(
    monitor: str, metric: str, verdict: str, value: float | None, threshold: float | None, of: str, note: str = ""
) -> Json:
    at = iso(START + WINDOW * WINDOWS)
    said = {"monitor": monitor, "metric": metric, "of": of, "verdict": verdict, "value": value, "threshold": threshold}
    return {**said, "window": WINDOWS - 1, "at": at, "note": note}


def answers() -> dict[str, object]:
    """Every recorded answer by its path, without the query."""
    empty: Json = {"metric": "accuracy", "windows": [], "never": None, "periodic": None, "drift": []}
    found: dict[str, object] = {
        f"{API}/namespaces/default/loops": {"kind": "LoopList", "items": loops()},
        f"{API}/rollouts": {"kind": "RolloutList", "items": rollouts()},
        f"{OURS}/runs": {"items": runs()},
        f"{OURS}/trace/{PREDICTION}": trace(),
        f"/apis/v2beta1/experiments/{EXPERIMENT}": {"experiment_id": EXPERIMENT, "display_name": "electricity by hand"},
        "/apis/v2beta1/runs": {
            "runs": [
                {"run_id": run_id(5), "display_name": "electricity-5", "state": "SUCCEEDED", "created_at": iso(WALL)}
            ],
            "total_size": 1,
        },
    }
    for number in range(1, 8):
        found[f"{OURS}/runs/{run_id(number)}"] = run(number)
        for task in ("ingest", "train"):
            found[f"{OURS}/runs/{run_id(number)}/tasks/{task}/log"] = log(task)
    for loop in loops():
        name = str(loop["metadata"]["name"])  # type: ignore[index]
        view = f"{OURS}/namespaces/default/loops/{name}"
        found[f"{API}/namespaces/default/loops/{name}"] = loop
        found[f"{view}/quality"] = {
            "electricity": quality(),
            "loan": quality(seed=3, metric="balanced_accuracy", windows=18) | {"never": None, "periodic": None},
            "taxi-tips": quality(seed=5, metric="roc_auc", windows=20) | {"never": None, "periodic": None},
        }.get(name, empty)
        found[f"{view}/timeline"] = {"items": timeline() if name == "electricity" else []}
        found[f"{view}/versions"] = {"items": versions() if name == "electricity" else []}
        found[f"{view}/owner"] = owner(name)
    return found
