"""Every verb on every kind at Kubernetes' paths, and what is said about a document that is wrong."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest

from goldenloop.api.resources import BODY_LIMIT
from goldenloop.standards.kubernetes import KINDS, Kind, kind_named
from goldenloop.store import resources

SPECS: dict[str, dict[str, Any]] = {
    "Loop": {"data": {"source": "/data/rows.csv", "label": "repaid"}, "retrain": {"cooldown": "2h"}},
    "Monitor": {"service": "loan", "monitors": [{"type": "drift", "features": ["amount"]}]},
    "Trigger": {"loop": "loan", "retrain": {"maxRunsPerDay": 2}},
    "Rollout": {"service": "loan", "champion": "1", "challenger": "2", "alpha": 0.01, "started": "2026-01-01T00:00:00Z"},
    "InferenceService": {"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "file:///models/1"}}},
    "InferenceGraph": {"nodes": {"root": {"routerType": "Sequence", "steps": [{"serviceName": "loan"}]}}},
    "TrainedModel": {"inferenceService": "loan", "model": {"storageUri": "s3://m", "framework": "sklearn", "memory": "1Gi"}},
    "AnalysisTemplate": {
        "metrics": [
            {
                "name": "errors",
                "successCondition": "result[0] < 0.05",
                "provider": {"prometheus": {"address": "http://127.0.0.1:9090", "query": "up"}},
            }
        ]
    },
    "SLO": {"service": "loan", "budgetingMethod": "Occurrences", "objectives": [{"target": 0.95, "op": "gte", "value": 0.8}]},
}  # fmt: skip
LOOP = kind_named("loop")
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def path(kind: Kind, namespace: str, *rest: str) -> str:
    return "/".join(["", "apis", kind.group, kind.version, "namespaces", namespace, kind.plural, *rest])


def document(kind: Kind, name: str = "loan", **spec: Any) -> dict[str, Any]:
    full = {**SPECS[kind.kind], **spec}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": full}


def refused(answer: httpx.Response, code: int, reason: str) -> str:
    """Check that an answer is a Status object; return its message."""
    body = answer.json()
    assert answer.status_code == code, answer.text
    assert (body["kind"], body["apiVersion"], body["status"]) == ("Status", "v1", "Failure")
    assert (body["code"], body["reason"]) == (code, reason)
    return str(body["message"])


# verbs


@every_kind
def test_every_verb_works_on_every_kind(http: httpx.Client, namespace: str, kind: Kind) -> None:
    created = http.post(path(kind, namespace), json=document(kind))
    assert created.status_code == 201
    kept = created.json()
    assert kept["spec"] == SPECS[kind.kind]
    assert kept["metadata"]["namespace"] == namespace
    assert http.get(path(kind, namespace, "loan")).json() == kept

    listed = http.get(path(kind, namespace)).json()
    assert listed["kind"] == f"{kind.kind}List"
    assert listed["apiVersion"] == kind.api_version
    assert listed["items"] == [kept]
    assert int(listed["metadata"]["resourceVersion"]) >= int(kept["metadata"]["resourceVersion"])
    everywhere = http.get(f"/apis/{kind.group}/{kind.version}/{kind.plural}").json()
    assert kept in everywhere["items"]

    kept["metadata"]["labels"] = {"team": "risk"}
    replaced = http.put(path(kind, namespace, "loan"), json=kept).json()
    assert replaced["metadata"]["labels"] == {"team": "risk"}
    assert replaced["metadata"]["generation"] == 1

    patched = http.patch(
        path(kind, namespace, "loan"),
        json={"metadata": {"labels": {"team": None, "stage": "test"}}},
        headers={"content-type": "application/merge-patch+json"},
    ).json()
    assert patched["metadata"]["labels"] == {"stage": "test"}
    assert patched["spec"] == SPECS[kind.kind]

    status = http.put(path(kind, namespace, "loan", "status"), json={**patched, "status": {"phase": "Seen"}}).json()
    assert status["status"] == {"phase": "Seen"}
    assert status["spec"] == SPECS[kind.kind]
    assert http.get(path(kind, namespace, "loan", "status")).json() == status

    deleted = http.delete(path(kind, namespace, "loan"))
    assert deleted.status_code == 200
    assert deleted.json()["status"] == "Success"
    assert "no " in refused(http.get(path(kind, namespace, "loan")), 404, "NotFound")
    assert http.get(path(kind, namespace)).json()["items"] == []


def test_a_patch_of_the_spec_is_a_new_generation_and_is_checked(http: httpx.Client, namespace: str) -> None:
    http.post(path(LOOP, namespace), json=document(LOOP))
    changed = http.patch(path(LOOP, namespace, "loan"), json={"spec": {"retrain": {"cooldown": "3h"}}})
    assert changed.json()["spec"] == {**SPECS["Loop"], "retrain": {"cooldown": "3h"}}
    assert changed.json()["metadata"]["generation"] == 2
    removed = http.patch(path(LOOP, namespace, "loan"), json={"spec": {"retrain": None}})
    assert "retrain" not in removed.json()["spec"]
    wrong = http.patch(path(LOOP, namespace, "loan"), json={"spec": {"retrain": {"cooldwn": "3h"}}})
    assert "Did you mean 'cooldown'?" in refused(wrong, 422, "Invalid")
    for patch in ({"spec": {"data": None}}, {"metadata": None}, {"metadata": {"name": "other"}}, {"kind": "Monitor"}):
        refused(http.patch(path(LOOP, namespace, "loan"), json=patch), 422, "Invalid")
    assert http.get(path(LOOP, namespace, "loan")).json() == removed.json(), "nothing was changed"


def test_a_patch_does_not_touch_the_status(http: httpx.Client, namespace: str) -> None:
    http.post(path(LOOP, namespace), json=document(LOOP))
    http.patch(path(LOOP, namespace, "loan", "status"), json={"status": {"phase": "Seen", "champion": "1"}})
    answered = http.patch(path(LOOP, namespace, "loan"), json={"status": {"phase": "Mine"}, "spec": {"replay": True}})
    assert answered.json()["status"] == {"phase": "Seen", "champion": "1"}
    merged = http.patch(path(LOOP, namespace, "loan", "status"), json={"status": {"phase": None}})
    assert merged.json()["status"] == {"champion": "1"}
    refused(http.put(path(LOOP, namespace, "loan", "status"), json={"status": "fine"}), 422, "Invalid")


@pytest.mark.parametrize("kind", ["text/plain", "application/json-patch+json", "application/apply-patch+yaml", ""])
def test_a_patch_of_another_type_is_refused(http: httpx.Client, namespace: str, kind: str) -> None:
    http.post(path(LOOP, namespace), json=document(LOOP))
    answer = http.patch(path(LOOP, namespace, "loan"), content=b"[]", headers={"content-type": kind})
    message = refused(answer, 422, "Invalid")
    assert message.startswith("Content-Type: ")
    assert "application/merge-patch+json" in message


# conflicts and owners


def test_a_name_that_is_taken_is_a_conflict(http: httpx.Client, namespace: str) -> None:
    assert http.post(path(LOOP, namespace), json=document(LOOP)).status_code == 201
    assert "there already" in refused(http.post(path(LOOP, namespace), json=document(LOOP)), 409, "Conflict")


def test_writing_on_an_old_version_is_a_conflict(http: httpx.Client, namespace: str) -> None:
    old = http.post(path(LOOP, namespace), json=document(LOOP)).json()
    new = http.put(path(LOOP, namespace, "loan"), json=document(LOOP, replay=True)).json()
    stale = {**old, "spec": {**old["spec"], "replay": False}}
    message = refused(http.put(path(LOOP, namespace, "loan"), json=stale), 409, "Conflict")
    assert "metadata.resourceVersion" in message
    assert "Read it again" in message
    version = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}}
    refused(http.patch(path(LOOP, namespace, "loan"), json={**version, "spec": {"replay": False}}), 409, "Conflict")
    refused(http.put(path(LOOP, namespace, "loan", "status"), json={**old, "status": {"a": 1}}), 409, "Conflict")
    assert http.get(path(LOOP, namespace, "loan")).json() == new


def test_what_is_owned_is_refused_and_goes_with_its_owner(http: httpx.Client, namespace: str) -> None:
    monitor = kind_named("monitor")
    owner = http.post(path(LOOP, namespace), json=document(LOOP)).json()
    owned = document(monitor)
    owned["metadata"]["ownerReferences"] = [resources.owner_reference(owner)]
    assert http.post(path(monitor, namespace), json=owned).status_code == 201
    for answer in (
        http.put(path(monitor, namespace, "loan"), json=document(monitor, service="other")),
        http.patch(path(monitor, namespace, "loan"), json={"spec": {"service": "other"}}),
        http.delete(path(monitor, namespace, "loan")),
    ):
        message = refused(answer, 403, "Forbidden")
        assert "belongs to Loop 'loan'" in message
        assert "Change the Loop" in message
    assert http.delete(path(LOOP, namespace, "loan")).status_code == 200
    refused(http.get(path(monitor, namespace, "loan")), 404, "NotFound")
    assert http.put(path(monitor, namespace, "loan"), json=document(monitor)).status_code == 404


# watch


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.iter_lines()]


def test_a_watch_tells_what_happens(http: httpx.Client, address: str, namespace: str) -> None:
    version = http.get(path(LOOP, namespace)).json()["metadata"]["resourceVersion"]
    seen: list[tuple[str, str]] = []
    begun = threading.Event()

    def watch() -> None:
        query = {"watch": "True", "resourceVersion": version, "timeoutSeconds": "10"}
        with httpx.stream("GET", address + path(LOOP, namespace), params=query, timeout=10) as answer:
            begun.set()
            for line in answer.iter_lines():
                event = json.loads(line)
                seen.append((event["type"], event["object"]["metadata"]["name"]))
                if event["type"] == "DELETED":
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert begun.wait(10)
    http.post(path(LOOP, namespace), json=document(LOOP))
    http.post(path(LOOP, namespace + "-other"), json=document(LOOP, "elsewhere"))
    http.put(path(LOOP, namespace, "loan"), json=document(LOOP, replay=True))
    http.delete(path(LOOP, namespace, "loan"))
    watcher.join(timeout=10)
    assert not watcher.is_alive()
    assert seen == [("ADDED", "loan"), ("MODIFIED", "loan"), ("DELETED", "loan")]


def test_a_watch_from_nowhere_begins_with_what_is_there(http: httpx.Client, namespace: str) -> None:
    kept = http.post(path(LOOP, namespace), json=document(LOOP)).json()
    began = time.monotonic()
    with http.stream("GET", path(LOOP, namespace), params={"watch": "1", "timeoutSeconds": "1"}) as answer:
        found = events(answer)
    assert found == [{"type": "ADDED", "object": kept}]
    assert 0.5 < time.monotonic() - began < 5, "it ends when its time is over"


def test_a_watch_goes_on_from_the_version_of_a_deletion(http: httpx.Client, namespace: str) -> None:
    kept = http.post(path(LOOP, namespace), json=document(LOOP)).json()
    http.delete(path(LOOP, namespace, "loan"))
    query = {"watch": "1", "timeoutSeconds": "1", "resourceVersion": kept["metadata"]["resourceVersion"]}
    with http.stream("GET", path(LOOP, namespace), params=query) as answer:
        (deleted,) = events(answer)
    assert deleted["type"] == "DELETED"
    query["resourceVersion"] = deleted["object"]["metadata"]["resourceVersion"]
    with http.stream("GET", path(LOOP, namespace), params=query) as answer:
        assert events(answer) == [], "it is not told twice"


@pytest.mark.parametrize(
    ("name", "value"),
    [("resourceVersion", "abc"), ("resourceVersion", "²"), ("resourceVersion", "9" * 30), ("timeoutSeconds", "soon")],
)
def test_a_watch_from_nonsense_is_refused(http: httpx.Client, namespace: str, name: str, value: str) -> None:
    answer = http.get(path(LOOP, namespace), params={"watch": "true", name: value})
    assert refused(answer, 422, "Invalid").startswith(f"{name}: {value!r}")


# discovery


def test_discovery_names_every_kind(http: httpx.Client) -> None:
    groups = http.get("/apis").json()
    assert groups["kind"] == "APIGroupList"
    versions = [version["groupVersion"] for group in groups["groups"] for version in group["versions"]]
    assert sorted(versions) == sorted({kind.api_version for kind in KINDS})
    assert len(groups["groups"]) == len({kind.group for kind in KINDS})
    [kserve] = [group for group in groups["groups"] if group["name"] == "serving.kserve.io"]
    assert kserve["preferredVersion"]["version"] == "v1beta1"
    for kind in KINDS:
        found = http.get(f"/apis/{kind.api_version}").json()
        assert found["kind"] == "APIResourceList"
        assert found["groupVersion"] == kind.api_version
        entries = {entry["name"]: entry for entry in found["resources"]}
        entry = entries[kind.plural]
        assert entry["kind"] == kind.kind
        assert entry["namespaced"] is True
        assert entry["shortNames"] == list(kind.short)
        assert set(entry["verbs"]) == {"create", "delete", "get", "list", "patch", "update", "watch"}
        assert set(entries[f"{kind.plural}/status"]["verbs"]) == {"get", "patch", "update"}
    assert http.get("/api").json()["kind"] == "APIVersions"
    refused(http.get("/openapi/v2"), 404, "NotFound")


# documents that are wrong: what, where, and what was meant


def without(kind: Kind, field: str) -> dict[str, Any]:
    made = document(kind)
    del made["spec"][field]
    return made


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (document(LOOP, retrain={"cooldwn": "1h"}), ["spec.retrain.cooldwn", "Did you mean 'cooldown'?"]),
        (document(LOOP, rolout={}), ["spec.rolout", "Did you mean 'rollout'?"]),
        (document(LOOP, objectives=[{"indicator": "a", "target": ">= 1", "windw": "1d"}]), ["Did you mean 'window'?"]),
        (document(LOOP, retrain={"cooldown": "soon"}), ["spec.retrain.cooldown", "'soon' is not a duration"]),
        (document(LOOP, retrain={"maxRunsPerDay": 0}), ["spec.retrain.maxRunsPerDay", ">= 1"]),
        (document(LOOP, retrain={"maxRunsPerDay": "4"}), ["spec.retrain.maxRunsPerDay", "Expected `int`, got `str`"]),
        (document(LOOP, rollout={"canary": [25, 5, 100]}), ["spec.rollout.canary", "do not rise"]),
        (document(LOOP, rollout={"canary": [5, 50]}), ["spec.rollout.canary", "not 100"]),
        (document(LOOP, rollout={"alpha": 1}), ["spec.rollout.alpha"]),
        (document(LOOP, objectives=[{"indicator": "accuracy", "target": "0.8"}]), ["spec.objectives[0].target"]),
        (document(LOOP, task="clustering"), ["spec.task", "clustering"]),
        (document(LOOP, pipeline={"source": "train.py:train"}), ["spec.pipeline", "goldenloop apply -f"]),
        (without(LOOP, "data"), ["spec", "missing required field `data`"]),
        ({**document(LOOP), "spec": None}, ["spec", "got `null`"]),
        ({**document(LOOP), "speck": {}}, ["speck", "Did you mean 'spec'?"]),
        ({**document(LOOP), "kind": "Lop"}, ["kind", "Did you mean 'Loop'?"]),
        ({**document(LOOP), "apiVersion": "goldenloop.dev/v1alpha2"}, ["apiVersion", "goldenloop.dev/v1alpha1"]),
        ({**document(LOOP), "kind": "Monitor"}, ["kind", "Monitor, not a Loop"]),
        ({**document(LOOP), "metadata": {"name": "Not A Name"}}, ["metadata.name", "lower-case"]),
        ({**document(LOOP), "metadata": {}}, ["metadata.name"]),
        ({"apiVersion": "goldenloop.dev/v1alpha1", "kind": "Loop", "spec": {"data": {}}}, ["metadata"]),
        ({**document(LOOP), "metadata": {"name": "a", "namespace": "elsewhere"}}, ["metadata.namespace", "elsewhere"]),
        ({**document(LOOP), "metadata": {"name": "a", "ownerReferences": [{"uid": "x"}]}}, ["no such owner"]),
        ([document(LOOP)], ["body", "not a mapping"]),
        ("loop", ["body", "not a mapping"]),
    ],
)  # fmt: skip
def test_a_wrong_loop_is_explained(http: httpx.Client, namespace: str, wrong: object, said: list[str]) -> None:
    message = refused(http.post(path(LOOP, namespace), json=wrong), 422, "Invalid")
    for part in said:
        assert part in message
    assert http.get(path(LOOP, namespace)).json()["items"] == [], "nothing was kept"


@pytest.mark.parametrize(
    ("name", "spec", "said"),
    [
        ("Monitor", {"monitors": [{"type": "drft"}]}, "spec.monitors[0].type"),
        ("Trigger", {"retrian": {}}, "Did you mean 'retrain'?"),
        ("Rollout", {"alpha": 0}, "spec.alpha"),
        ("InferenceService", {"predictor": {}}, "spec.predictor.model"),
        ("SLO", {"objectives": []}, "spec.objectives"),
        ("SLO", {"budgetingMethod": "Sometimes"}, "spec.budgetingMethod"),
    ],
)
def test_a_wrong_spec_of_another_kind_is_explained(
    http: httpx.Client, namespace: str, name: str, spec: dict[str, Any], said: str
) -> None:
    kind = kind_named(name.lower())
    assert said in refused(http.post(path(kind, namespace), json=document(kind, **spec)), 422, "Invalid")


def test_the_name_in_the_path_and_in_the_document_agree(http: httpx.Client, namespace: str) -> None:
    http.post(path(LOOP, namespace), json=document(LOOP))
    answer = http.put(path(LOOP, namespace, "loan"), json=document(LOOP, "other"))
    assert "the path says 'loan'" in refused(answer, 422, "Invalid")


def test_a_namespace_that_is_no_name_is_refused(http: httpx.Client) -> None:
    assert "metadata.namespace" in refused(http.post(path(LOOP, "Not%20One"), json=document(LOOP)), 422, "Invalid")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"apiVersion: v1"])
def test_a_body_that_is_not_json_is_refused(http: httpx.Client, namespace: str, body: bytes) -> None:
    message = refused(http.post(path(LOOP, namespace), content=body), 422, "Invalid")
    assert message.startswith("body: not JSON")


def test_a_body_has_a_bound(http: httpx.Client, namespace: str) -> None:
    assert BODY_LIMIT == 4 << 20
    fits = document(LOOP)
    fits["metadata"]["annotations"] = {"long": "x" * (BODY_LIMIT - 2_000)}
    assert http.post(path(LOOP, namespace), json=fits).status_code == 201
    large = document(LOOP, "large")
    large["metadata"]["annotations"] = {"long": "x" * BODY_LIMIT}
    assert "larger than 4 MiB" in refused(http.post(path(LOOP, namespace), json=large), 422, "Invalid")
    assert len(http.get(path(LOOP, namespace)).json()["items"]) == 1
