"""ML Metadata's service by its messages alone, on both databases: what is kept, found and refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goldenloop.api.mlmd.door import CALLS, MlmdDoor
from goldenloop.core.clock import SystemClock
from goldenloop.serving.grpc.status import CallError, Status
from goldenloop.standards.mlmd.messages import MESSAGES
from goldenloop.standards.mlmd.requests import CALLS as SERVED
from goldenloop.store.database import Database, sqlite_url


class Client:
    """Calls the door with the bytes that a client would send."""

    def __init__(self, door: MlmdDoor) -> None:
        self._door = door

    def __call__(self, name: str, **fields: object) -> Any:
        sent = MESSAGES.write(f"{name}Request", **fields)
        return MESSAGES.read(self._door.answer(CALLS[name], sent), f"{name}Response", object)

    def refused(self, name: str, **fields: object) -> tuple[Status, str]:
        """The status and the text of a call that fails."""
        with pytest.raises(CallError) as failed:
            self(name, **fields)
        return failed.value.status, str(failed.value)


@pytest.fixture(params=["sqlite", "postgresql"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    url = sqlite_url(tmp_path / "state.db") if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    database = Database(url)
    database.migrate()
    door = MlmdDoor(database, SystemClock())
    yield Client(door)
    door.close()
    database.close()


def put_types(client: Client) -> tuple[int, int, int]:
    """An artifact type, an execution type and a context type."""
    artifact = {"name": "Data", "properties": {"rows": 1, "share": 2, "note": 3, "shape": 4, "fresh": 6}}
    return (
        client("PutArtifactType", artifact_type=artifact).type_id,
        client("PutExecutionType", execution_type={"name": "Step"}).type_id,
        client("PutContextType", context_type={"name": "Run"}).type_id,
    )


def test_every_call_of_the_service_is_answered() -> None:
    assert set(CALLS) == set(SERVED)
    assert len(SERVED) == 52


def test_all_that_a_node_has_comes_back(client: Client) -> None:
    data, _, _ = put_types(client)
    given = {
        "type_id": data,
        "name": "loans",
        "uri": "file:///loans",
        "external_id": "x",
        "state": 2,
        "properties": {
            "rows": {"int_value": -(2**63)},
            "share": {"double_value": 1.0},
            "note": {"string_value": "ü"},
            "shape": {"struct_value": {"fields": {"a": {"number_value": 1}}}},
            "fresh": {"bool_value": True},
        },
        "custom_properties": {"rows": {"bool_value": False}, "p": {"proto_value": {"type_url": "t", "value": b"\0"}}},
    }
    [identity] = client("PutArtifacts", artifacts=[given]).artifact_ids
    [found] = client("GetArtifactsByID", artifact_ids=[identity, 999]).artifacts
    assert (found.id, found.type, found.name, found.uri, found.state) == (identity, "Data", "loans", "file:///loans", 2)
    assert found.create_time_since_epoch == found.last_update_time_since_epoch > 1_700_000_000_000
    sent = MESSAGES.read(MESSAGES.write("Artifact", **given), "Artifact", object)
    assert dict(found.properties) == dict(sent.properties)  # type: ignore[attr-defined]
    assert dict(found.custom_properties) == dict(sent.custom_properties)  # type: ignore[attr-defined]
    for name, fields in (
        ("GetArtifactByTypeAndName", {"type_name": "Data", "artifact_name": "loans"}),
        ("GetArtifactsByURI", {"uris": ["file:///loans"]}),
        ("GetArtifactsByExternalIds", {"external_ids": ["x"]}),
        ("GetArtifactsByType", {"type_name": "Data"}),
    ):
        answered = client(name, **fields)
        assert (answered.artifact if name.endswith("Name") else answered.artifacts[0]) == found


def test_a_change_replaces_and_a_masked_one_touches_what_it_names(client: Client) -> None:
    data, _, _ = put_types(client)
    first = {"type_id": data, "uri": "a", "properties": {"rows": {"int_value": 1}, "note": {"string_value": "n"}}}
    [identity] = client("PutArtifacts", artifacts=[first]).artifact_ids

    def now() -> Any:
        return client("GetArtifactsByID", artifact_ids=[identity]).artifacts[0]

    before = now()
    client("PutArtifacts", artifacts=[{**first, "id": identity}])
    assert now() == before, "nothing changed, and so did the time not"
    masked = {"id": identity, "uri": "b", "properties": {"rows": {"int_value": 2}, "note": {"string_value": "m"}}}
    client("PutArtifacts", artifacts=[masked], update_mask={"paths": ["properties.rows", "nonsense"]})
    assert (now().uri, now().properties["rows"].int_value, now().properties["note"].string_value) == ("a", 2, "n")
    assert now().last_update_time_since_epoch > before.last_update_time_since_epoch
    client("PutArtifacts", artifacts=[{"id": identity, "custom_properties": {"c": {"int_value": 1}}}])
    assert (now().type_id, now().uri, list(now().properties)) == (data, "", [])
    client("PutArtifacts", artifacts=[{"id": identity, "custom_properties": {"c": {"double_value": 1.0}}}])
    assert now().custom_properties["c"].WhichOneof("value") == "double_value"


def test_who_knows_an_old_state_does_not_overwrite_a_new_one(client: Client) -> None:
    data, _, _ = put_types(client)
    [identity] = client("PutArtifacts", artifacts=[{"type_id": data}]).artifact_ids
    [read] = client("GetArtifactsByID", artifact_ids=[identity]).artifacts
    options = {"abort_if_latest_updated_time_changed": True}
    mine = {"id": identity, "uri": "mine", "last_update_time_since_epoch": read.last_update_time_since_epoch}
    client("PutArtifacts", artifacts=[mine], options=options)
    status, text = client.refused("PutArtifacts", artifacts=[{**mine, "uri": "theirs"}], options=options)
    assert status is Status.FAILED_PRECONDITION
    assert "Read it again" in text
    assert client("GetArtifactsByID", artifact_ids=[identity]).artifacts[0].uri == "mine"


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("ascending", [True, False])
def test_pages_show_every_node_once_in_the_order(client: Client, order: int, ascending: bool) -> None:
    data, _, _ = put_types(client)
    ids = list(client("PutArtifacts", artifacts=[{"type_id": data} for _ in range(7)]).artifact_ids)
    by = {"field": order, "is_asc": ascending}
    seen: list[int] = []
    token = ""
    while True:
        options = {"max_result_size": 3, "order_by_field": by, "next_page_token": token}
        page = client("GetArtifacts", options=options)
        seen += [node.id for node in page.artifacts]
        token = page.next_page_token
        if not token:
            break
    assert seen == (ids if ascending else ids[::-1])


def build(client: Client) -> dict[str, int]:
    """raw → clean (Step "s1", in Run "r1") → model (Step "s2", in Run "r2"); r2 stands under r1."""
    data, step, run = put_types(client)
    raw, clean, model = client(
        "PutArtifacts",
        artifacts=[
            {"type_id": data, "name": "raw", "uri": "raw", "state": 2, "properties": {"rows": {"int_value": 10}}},
            {"type_id": data, "name": "Clean", "uri": "50%", "custom_properties": {"my p": {"string_value": "it's"}}},
            {"type_id": data, "name": "model", "uri": "m"},
        ],
    ).artifact_ids
    steps = [
        client(
            "PutExecution",
            execution={"type_id": step, "name": name, "last_known_state": state},
            artifact_event_pairs=[
                {"event": {"artifact_id": source, "type": 3, "path": {"steps": [{"key": "in"}, {"index": 0}]}}},
                {"event": {"artifact_id": target, "type": 4}},
            ],
            contexts=[{"type_id": run, "name": f"r{number}"}],
        )
        for number, (name, state, source, target) in enumerate((("s1", 3, raw, clean), ("s2", 4, clean, model)), 1)
    ]
    first, second = (each.context_ids[0] for each in steps)
    client("PutParentContexts", parent_contexts=[{"child_id": second, "parent_id": first}])
    return {
        "raw": raw, "Clean": clean, "model": model, "r1": first, "r2": second,
        "s1": steps[0].execution_id, "s2": steps[1].execution_id,
    }  # fmt: skip


FILTERS = [
    ("Artifacts", "uri = 'raw' OR name = 'model'", {"raw", "model"}),
    ("Artifacts", "name LIKE 'c%'", set()),  # capitals are told apart
    ("Artifacts", "name LIKE 'C_ean'", {"Clean"}),
    ("Artifacts", r"uri LIKE '%\\%'", {"Clean"}),
    ("Artifacts", "state = LIVE", {"raw"}),
    ("Artifacts", "state != LIVE", {"Clean", "model"}),
    ("Artifacts", "state IS NULL AND NOT uri IN ('m')", {"Clean"}),
    ("Artifacts", "properties.rows.int_value BETWEEN 5 AND 10.5", {"raw"}),
    ("Artifacts", 'custom_properties.`my p`.string_value = "it\'s"', {"Clean"}),
    ("Artifacts", "contexts_a.name = 'r1' AND contexts_b.name = 'r2'", {"Clean"}),
    ("Artifacts", "contexts_a.type = 'Run' AND contexts_a.name = 'r2'", {"Clean", "model"}),
    ("Artifacts", "events_0.type = OUTPUT", {"Clean", "model"}),
    ("Artifacts", "type = 'Data' AND create_time_since_epoch > 1", {"raw", "Clean", "model"}),
    ("Executions", "last_known_state IN (COMPLETE)", {"s1"}),
    ("Executions", "last_known_state NOT IN (COMPLETE) AND events_x.type = INPUT", {"s2"}),
    ("Contexts", "parent_contexts_p.name = 'r1'", {"r2"}),
    ("Contexts", "child_contexts_p.type = 'Run'", {"r1"}),
    ("Contexts", "artifacts_a.uri = 'raw'", {"r1"}),
    ("Contexts", "executions_e.last_known_state = FAILED", {"r2"}),
]


def test_filters(client: Client) -> None:
    build(client)
    for kind, text, wanted in FILTERS:
        found = getattr(client(f"Get{kind}", options={"filter_query": text}), kind.lower())
        assert {node.name for node in found} == wanted, text


def test_filters_that_make_no_sense_are_refused_with_what_to_do(client: Client) -> None:
    many = " OR ".join(f"contexts_{number}.id = 1" for number in range(30))
    for text in (
        "invalid syntax", "uri", "uri = 1", "id = 'a'", "state = 2", "state = SLEEPING", "nothing = 1", "uri = NULL",
        "properties.rows = 1", "last_known_state = NEW", "events_0.artifact_id = 1", "id = 99999999999999999999",
        "(" * 200 + "id = 1" + ")" * 200, "uri LIKE name", "id = 1; DROP TABLE runs", "uri = 'x", many,
    ):  # fmt: skip
        status, told = client.refused("GetArtifacts", options={"filter_query": text})
        assert status is Status.INVALID_ARGUMENT, text
        assert "filter_query" in told


def test_walks(client: Client) -> None:
    ids = build(client)
    names = {number: name for name, number in ids.items()}

    def reached(start: str, **options: object) -> set[str]:
        graph = client(
            "GetLineageSubgraph",
            lineage_subgraph_query_options={"starting_artifacts": {"filter_query": f"name = '{start}'"}, **options},
        ).lineage_subgraph
        assert {event.artifact_id for event in graph.events} <= {node.id for node in graph.artifacts}
        return {names[node.id] for node in (*graph.artifacts, *graph.executions)}

    everything = {"raw", "s1", "Clean", "s2", "model"}
    assert reached("model", direction=1) == everything
    assert reached("model", direction=2) == {"model"}
    assert reached("Clean", direction=2) == {"Clean", "s2", "model"}
    assert reached("Clean") == everything
    assert reached("Clean", max_num_hops=1) == {"s1", "Clean", "s2"}
    end = {"filter_query": "name = 's2'"}
    assert reached("raw", ending_executions=end) == {"raw", "s1", "Clean"}
    assert reached("raw", ending_executions={**end, "include_ending_nodes": True}) == {"raw", "s1", "Clean", "s2"}
    skeleton = client(
        "GetLineageSubgraph",
        lineage_subgraph_query_options={"starting_executions": {"filter_query": "name = 's1'"}},
        read_mask={"paths": ["events", "associations"]},
    ).lineage_subgraph
    assert (len(skeleton.artifacts), len(skeleton.events), len(skeleton.associations)) == (0, 4, 2)


def test_a_walk_round_a_circle_ends(client: Client) -> None:
    data, step, _ = put_types(client)
    [one] = client("PutArtifacts", artifacts=[{"type_id": data, "uri": "u"}]).artifact_ids
    pairs = [{"event": {"artifact_id": one, "type": kind}} for kind in (3, 4)]
    client("PutExecution", execution={"type_id": step}, artifact_event_pairs=pairs)
    options = {"starting_artifacts": {"filter_query": "uri = 'u'"}, "direction": 2}
    graph = client("GetLineageSubgraph", lineage_subgraph_query_options=options).lineage_subgraph
    assert (len(graph.artifacts), len(graph.executions), len(graph.events)) == (1, 1, 2)


def test_types_grow_where_the_caller_says_so_and_never_change(client: Client) -> None:
    put_types(client)
    properties = {"rows": 1, "share": 2, "note": 3, "shape": 4, "fresh": 6}
    grown = {"name": "Data", "properties": {**properties, "new": 1}}
    assert client.refused("PutArtifactType", artifact_type=grown)[0] is Status.ALREADY_EXISTS
    client("PutArtifactType", artifact_type=grown, can_add_fields=True)
    assert client.refused("PutArtifactType", artifact_type={"name": "Data"})[0] is Status.ALREADY_EXISTS
    client("PutArtifactType", artifact_type={"name": "Data", "base_type": 1}, can_omit_fields=True)
    changed = {"name": "Data", "properties": {"rows": 3}}
    flags = {"can_add_fields": True, "can_omit_fields": True}
    assert client.refused("PutArtifactType", artifact_type=changed, **flags)[0] is Status.ALREADY_EXISTS
    other = {"name": "Data", "base_type": 2}
    assert client.refused("PutArtifactType", artifact_type=other, **flags)[0] is Status.UNIMPLEMENTED
    found = client("GetArtifactType", type_name="Data").artifact_type
    assert (dict(found.properties), found.base_type) == ({**properties, "new": 1}, 1)


def test_what_is_wrong_is_said_and_nothing_of_it_is_kept(client: Client) -> None:
    data, step, run = put_types(client)
    ids = build_one(client, data, step, run)
    long = "x" * 2_000
    for name, status, fields in (
        ("GetArtifactType", Status.NOT_FOUND, {"type_name": "none"}),
        ("PutArtifactType", Status.INVALID_ARGUMENT, {"artifact_type": {}}),
        ("PutArtifactType", Status.INVALID_ARGUMENT, {"artifact_type": {"name": "T", "properties": {"p": 0}}}),
        ("PutArtifacts", Status.INVALID_ARGUMENT, {"artifacts": [{"uri": "kept?"}]}),
        ("PutArtifacts", Status.NOT_FOUND, {"artifacts": [{"type_id": 99, "uri": "kept?"}]}),
        ("PutArtifacts", Status.NOT_FOUND, {"artifacts": [{"type_id": step, "uri": "kept?"}]}),
        ("PutArtifacts", Status.INVALID_ARGUMENT, {"artifacts": [{"id": 999, "type_id": data}]}),
        ("PutArtifacts", Status.INVALID_ARGUMENT, {"artifacts": [{"id": ids["execution"], "uri": "kept?"}]}),
        (
            "PutArtifacts",
            Status.INVALID_ARGUMENT,
            {"artifacts": [node(data, "kept?", {"rows": {"string_value": "1"}})]},
        ),
        ("PutArtifacts", Status.INVALID_ARGUMENT, {"artifacts": [node(data, "kept?", {"other": {"int_value": 1}})]}),
        ("PutArtifacts", Status.INVALID_ARGUMENT, {"artifacts": [{"type_id": data, "uri": "kept?", "name": long}]}),
        ("PutArtifacts", Status.INVALID_ARGUMENT, {"artifacts": [{"type_id": data, "uri": "kept?", "name": "a\0b"}]}),
        ("PutArtifacts", Status.ALREADY_EXISTS, {"artifacts": [{"type_id": data, "uri": "kept?", "name": "n"}] * 2}),
        ("PutContexts", Status.INVALID_ARGUMENT, {"contexts": [{"type_id": run}]}),
        (
            "PutEvents",
            Status.INVALID_ARGUMENT,
            {"events": [{"artifact_id": 999, "execution_id": ids["execution"], "type": 3}]},
        ),
        (
            "PutEvents",
            Status.INVALID_ARGUMENT,
            {"events": [{"artifact_id": ids["artifact"], "execution_id": ids["execution"]}]},
        ),
        (
            "PutEvents",
            Status.ALREADY_EXISTS,
            {"events": [{"artifact_id": ids["artifact"], "execution_id": ids["execution"], "type": 3}]},
        ),
        (
            "PutParentContexts",
            Status.INVALID_ARGUMENT,
            {"parent_contexts": [{"child_id": ids["context"], "parent_id": ids["context"]}]},
        ),
        (
            "PutLineageSubgraph",
            Status.OUT_OF_RANGE,
            {"event_edges": [{"artifact_index": 0, "execution_index": 0, "event": {"type": 3}}]},
        ),
        ("GetArtifacts", Status.INVALID_ARGUMENT, {"options": {"max_result_size": 0}}),
        ("GetArtifacts", Status.INVALID_ARGUMENT, {"options": {"next_page_token": "nonsense"}}),
        ("GetArtifactsByExternalIds", Status.NOT_FOUND, {"external_ids": ["none"]}),
        ("GetLineageSubgraph", Status.INVALID_ARGUMENT, {}),
        ("GetLineageGraph", Status.UNIMPLEMENTED, {}),
    ):
        assert client.refused(name, **fields)[0] is status, (name, fields)
    assert not client("GetArtifactsByURI", uris=["kept?"]).artifacts


def test_contexts_never_stand_under_themselves(client: Client) -> None:
    _, _, run = put_types(client)
    one, two, three = client("PutContexts", contexts=[{"type_id": run, "name": f"c{n}"} for n in range(3)]).context_ids
    client(
        "PutParentContexts",
        parent_contexts=[{"child_id": one, "parent_id": two}, {"child_id": two, "parent_id": three}],
    )
    status, text = client.refused("PutParentContexts", parent_contexts=[{"child_id": three, "parent_id": one}])
    assert status is Status.INVALID_ARGUMENT
    assert "cycle" in text
    linked = client("GetParentContextsByContexts", context_ids=[one, two, three]).contexts
    assert {child: [node.id for node in each.parent_contexts] for child, each in linked.items()} == {
        one: [two],
        two: [three],
    }


def test_bytes_that_are_no_message_are_refused(client: Client) -> None:
    for content in (b"\xff\xff\xff", MESSAGES.write("GetArtifactTypeRequest", type_name="a")[:-1] + b"\xff"):
        with pytest.raises(CallError) as failed:
            client._door.answer(CALLS["GetArtifactType"], content)
        assert failed.value.status is Status.INVALID_ARGUMENT


def node(type_id: int, uri: str, properties: dict[str, object]) -> dict[str, object]:
    return {"type_id": type_id, "uri": uri, "properties": properties}


def build_one(client: Client, data: int, step: int, run: int) -> dict[str, int]:
    """An execution that read an artifact, in a context."""
    put = client(
        "PutExecution",
        execution={"type_id": step},
        artifact_event_pairs=[{"artifact": {"type_id": data, "uri": "in"}, "event": {"type": 3}}],
        contexts=[{"type_id": run, "name": "run"}],
    )
    return {"execution": put.execution_id, "artifact": put.artifact_ids[0], "context": put.context_ids[0]}
