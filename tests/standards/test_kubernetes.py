"""Kinds by the names that people type, names of resources, merge patches and conditions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.kubernetes import (
    KINDS,
    check_name,
    condition,
    kind_named,
    kind_of,
    merge_patch,
    set_condition,
    status_object,
)

leaves = some.booleans() | some.integers() | some.text(max_size=3)
documents = some.recursive(
    leaves, lambda inner: some.dictionaries(some.text(max_size=2), inner, max_size=4), max_leaves=10
)
patches = some.recursive(
    some.none() | leaves, lambda inner: some.dictionaries(some.text(max_size=2), inner, max_size=4), max_leaves=10
)


def without_nulls(value: Json) -> Json:
    if not isinstance(value, dict):
        return value
    return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}


@given(documents, patches)
def test_a_merge_patch_twice_is_a_merge_patch_once(target: Json, patch: Json) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(documents, patches)
def test_a_merge_patch_leaves_the_target_alone_and_no_null_behind(target: Json, patch: Json) -> None:
    before = repr(target)
    merged = merge_patch(target, patch)
    assert repr(target) == before
    assert without_nulls(merged) == merged


@given(patches.filter(lambda patch: isinstance(patch, dict)))
def test_a_merge_patch_on_nothing_is_itself_without_nulls(patch: Json) -> None:
    assert merge_patch({}, patch) == without_nulls(patch)


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [  # from RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_standard(target: Json, patch: Json, merged: Json) -> None:
    assert merge_patch(target, patch) == merged


def test_a_kind_is_found_by_all_its_names() -> None:
    for kind in KINDS:
        for name in (kind.kind, kind.kind.lower(), kind.plural, *kind.short):
            assert kind_named(name) is kind
        assert kind_of({"apiVersion": kind.api_version, "kind": kind.kind}) is kind


def test_no_name_means_two_kinds() -> None:
    names = [name for kind in KINDS for name in {kind.kind.lower(), kind.plural, *kind.short}]
    assert len(names) == len(set(names))


def test_a_kind_that_is_not_there_is_answered_with_a_near_one() -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'loops'"):
        kind_named("lops")
    with pytest.raises(NotFoundError, match="Known: loops, monitors"):
        kind_named("zebra")


@pytest.mark.parametrize(
    ("document", "place", "said"),
    [
        ({"apiVersion": "goldenloop.dev/v1alpha1", "kind": "Lopp"}, "f.yaml.kind", "Did you mean 'Loop'?"),
        ({"apiVersion": "goldenloop.dev/v1", "kind": "Loop"}, "f.yaml.apiVersion", "goldenloop.dev/v1alpha1"),
        ({"apiVersion": "openslo/v1", "kind": "Loop"}, "f.yaml.apiVersion", "goldenloop.dev/v1alpha1"),
        ({"kind": "Loop"}, "f.yaml.apiVersion", "None is not known"),
        ({}, "f.yaml.kind", "None is not known"),
    ],
)
def test_a_document_of_no_kind_is_explained(document: JsonObject, place: str, said: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        kind_of(document, where="f.yaml")
    assert caught.value.where == place
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["a", "a1", "loan-2", "a.b", "0", "a" * 63])
def test_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", ".a", "a_b", "a b", "a/b", "a\n", "ä", "a" * 64, None, 1, ["a"]])
def test_what_is_no_name(name: object) -> None:
    with pytest.raises(InvalidSpecError, match="is not a name"):
        check_name(name)


def test_a_condition_keeps_its_time_while_it_holds() -> None:
    ready = condition("Ready", True, "Served", "it answers", at="t1")
    other = condition("Other", None, "Why", "", at="t1")
    conditions = set_condition(set_condition([], ready), other)
    assert [each["status"] for each in conditions] == ["True", "Unknown"]
    same = set_condition(conditions, condition("Ready", True, "Served", "still", at="t2"))
    assert (same[0]["lastTransitionTime"], same[0]["message"]) == ("t1", "still")
    turned = set_condition(same, condition("Ready", False, "Gone", "", at="t3"))
    assert (turned[0]["lastTransitionTime"], turned[0]["status"]) == ("t3", "False")
    assert turned[1] == other
    assert conditions[0] == ready, "the list that was given is not changed"


def test_a_status_object_is_what_clients_expect() -> None:
    body = status_object(404, "NotFound", "there is no Loop 'a'")
    assert (body["kind"], body["apiVersion"], body["status"]) == ("Status", "v1", "Failure")
    assert (body["code"], body["reason"], body["message"]) == (404, "NotFound", "there is no Loop 'a'")
