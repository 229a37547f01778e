"""Who asks for a table gets the columns that KServe's users know; everybody else gets the documents."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from goldenloop.api.tables import table_of, wants_table
from goldenloop.core.clock import DAY, HOUR, MINUTE, SECOND, from_text
from goldenloop.standards.kubernetes import KINDS

KUBECTL = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (KUBECTL, True),
        ("application/json; as=Table; g=meta.k8s.io; v=v1", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, application/json;as=Table;v=v1;g=meta.k8s.io", False),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", False),
    ],
)
def test_a_table_is_for_who_asks_for_it_first(accept: str, wanted: bool) -> None:
    assert wants_table(accept) is wanted


def rows(answer: httpx.Response) -> list[dict[str, Any]]:
    """Each row by the names of its columns."""
    table = answer.json()
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    names = [column["name"] for column in table["columnDefinitions"]]
    assert all(row["object"]["kind"] == "PartialObjectMetadata" for row in table["rows"])
    return [dict(zip(names, row["cells"], strict=True)) for row in table["rows"]]


def test_a_service_is_shown_as_kserve_shows_it(http: httpx.Client, namespace: str) -> None:
    base = f"/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices"
    for name in ("iris", "new"):
        http.post(base, json={"metadata": {"name": name}, "spec": {"predictor": {"sklearn": {"storageUri": "s3://m"}}}})
    traffic = [
        {"revisionName": "iris-predictor-00002", "latestRevision": True, "percent": 10},
        {"revisionName": "iris-predictor-00001", "latestRevision": False, "percent": 90, "tag": "prev"},
    ]
    status = {
        "url": "http://iris.default.example.com",
        "conditions": [{"type": "Ready", "status": "True"}],
        "components": {"predictor": {"traffic": traffic}},
    }
    http.patch(f"{base}/iris/status", json={"status": status})
    iris, new = rows(http.get(base, headers={"accept": KUBECTL}))
    assert iris.pop("Age").endswith("s")
    assert iris == {
        "Name": "iris",
        "URL": "http://iris.default.example.com",
        "Ready": "True",
        "Prev": 90,
        "Latest": 10,
        "PrevRolledoutRevision": "iris-predictor-00001",
        "LatestReadyRevision": "iris-predictor-00002",
    }
    assert (new["Name"], new["Ready"], new["URL"], new["Latest"]) == ("new", "", None, None)
    [one] = rows(http.get(f"{base}/iris", headers={"accept": KUBECTL}))
    assert one.pop("Age")
    assert one == iris


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_has_a_table(http: httpx.Client, namespace: str, kind: Any) -> None:
    path = f"/apis/{kind.api_version}/namespaces/{namespace}/{kind.plural}"
    table = http.get(path, headers={"accept": KUBECTL}).json()
    assert table["rows"] == []
    assert [column["name"] for column in table["columnDefinitions"]][:: len(table["columnDefinitions"]) - 1] == [
        "Name",
        "Age",
    ]


@pytest.mark.parametrize(
    ("lasted_us", "shown"),
    [
        (0, "0s"),
        (119 * SECOND, "119s"),
        (120 * SECOND, "2m"),
        (119 * MINUTE, "119m"),
        (3 * HOUR, "3h"),
        (9 * DAY, "9d"),
    ],
)
def test_an_age_is_told_in_the_largest_unit_of_which_there_are_two(lasted_us: int, shown: str) -> None:
    document = {"metadata": {"name": "iris", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {}}
    table: Any = table_of(KINDS[0], [document], {}, now_us=from_text("2026-01-01") + lasted_us)
    assert table["rows"][0]["cells"][-1] == shown
