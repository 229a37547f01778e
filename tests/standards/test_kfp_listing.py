"""Filters, orders and page tokens as KFP's clients write them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.clock import SECOND
from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.kfp_listing import (
    Moment,
    Operation,
    Order,
    PageToken,
    Predicate,
    read_filter,
    read_order,
    read_token,
    write_token,
)


def written(**predicate: object) -> str:
    return json.dumps({"predicates": [predicate]})


def test_operations_are_names_and_numbers_and_fields_in_either_form() -> None:
    expected = (Predicate(key="name", operation=Operation.EQUALS, values=("x",)),)
    assert read_filter(written(operation=1, key="name", stringValue="x")) == expected
    assert read_filter(written(operation="EQUALS", key="name", string_value="x")) == expected


def test_every_kind_of_value_is_read() -> None:
    assert read_filter("") == ()
    assert read_filter("{}") == ()
    (one,) = read_filter(written(operation="IN", key="k", intValues={"values": [1, 2]}))
    assert one.values == (1, 2)
    (one,) = read_filter(written(operation="LESS_THAN", key="k", longValue="9007199254740993"))
    assert one.values == (9007199254740993,)
    (one,) = read_filter(written(operation=3, key="created_at", timestampValue="1970-01-01T00:00:01Z"))
    assert one.values == (Moment(SECOND),)


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"predicates": 1}',
        '{"predicates": [1]}',
        written(operation=4, key="k", stringValue="x"),
        written(operation="LIKE", key="k", stringValue="x"),
        written(operation=1, stringValue="x"),
        written(operation=1, key="k"),
        written(operation=1, key="k", stringValue="x", intValue=1),
        written(operation=1, key="k", stringValue=1),
        written(operation=1, key="k", intValue="x"),
        written(operation=1, key="k", longValue=2**70),
        written(operation=8, key="k", stringValue="x"),
        written(operation=1, key="k", stringValues={"values": ["x"]}),
        written(operation=9, key="k", intValue=1),
        written(operation=1, key="k", timestampValue="yesterday"),
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecError, match="filter.*Write it like"):
        read_filter(text)


def test_an_order_is_a_field_and_a_direction() -> None:
    assert read_order("") == Order("created_at", False)
    assert read_order(" NAME  DESC ") == Order("name", True)
    for wrong in ("a b", "a desc b"):
        with pytest.raises(InvalidSpecError, match="sort_by"):
            read_order(wrong)


@given(st.text(), st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1)), st.text(), st.booleans())
def test_a_token_comes_back_as_it_was(text: str, value: str | int, identity: str, descending: bool) -> None:
    token = PageToken(order=Order("name", descending), filter=text, value=value, identity=identity)
    assert read_token(write_token(token)) == token


@given(st.one_of(st.text(), st.binary().map(lambda content: content.hex())))
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecError, match="page token"):
        read_token(text)
