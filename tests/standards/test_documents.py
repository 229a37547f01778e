"""What is said about YAML that is wrong: the line, the column, the path, and the name that was meant."""

from __future__ import annotations

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.documents import MAXIMUM_DOCUMENT_BYTES, convert, near_miss, read_yaml

values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text() | some.floats(allow_nan=False),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=8,
)


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    cool_down: str = "1h"
    rows: int = 1


class Outer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    inner: Inner | None = None
    several: tuple[Inner, ...] = ()
    named: dict[str, Inner] = {}


@given(some.lists(some.dictionaries(some.text(), values, max_size=4), min_size=1, max_size=3))
def test_what_yaml_writes_is_read_back(documents: list[dict[str, object]]) -> None:
    assert read_yaml(yaml.safe_dump_all(documents)) == documents


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("kind: Loop\nspec: {a: 1", "loan.yaml:2:12", "expected"),
        ("kind: Loop\n\tspec: 1", "loan.yaml:2:1", "character"),
        ("spec:\n  a: 1\n  b: 2\n  a: 3", "loan.yaml:4:3", "the key 'a' stands twice"),
        ("spec: *nothing", "loan.yaml:1:7", "undefined alias"),
        ("spec: !!python/object:os.system {}", "loan.yaml:1:7", "could not determine a constructor"),
        ("kind: Loop\nname: a\x00b", "loan.yaml:2:8", "U+0000"),
        ("{[1, 2]: x}", "loan.yaml:1:2", "a key is a list or a mapping"),
        ("a: &a [*a]", "loan.yaml:1:4", "recursive"),
    ],
)
def test_wrong_yaml_is_explained_with_line_and_column(text: str, place: str, said: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read_yaml(text, source="loan.yaml")
    assert caught.value.where == place
    assert said in caught.value.what


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- kind: Loop", "document 1 is a list"),
        ("kind: Loop\n---\n- 1", "document 2 is a list"),
        ("just words", "document 1 is a str"),
        ("[" * 1_500, "nested too deeply"),
        ("x" * (MAXIMUM_DOCUMENT_BYTES + 1), "larger than 1 MiB"),
    ],
)
def test_a_text_that_is_no_resource_is_explained(text: str, said: str) -> None:
    with pytest.raises(InvalidSpecError, match=said) as caught:
        read_yaml(text, source="loan.yaml")
    assert caught.value.where == "loan.yaml"


def test_empty_documents_are_none() -> None:
    assert read_yaml("") == []
    assert read_yaml("---\n---\n# nothing\n") == []
    assert read_yaml("a: 1\n---\n---\nb: 2") == [{"a": 1}, {"b": 2}]


def test_a_date_stays_text() -> None:
    assert read_yaml("started: 2026-01-01\nat: 2026-01-01T00:00:00Z") == [
        {"started": "2026-01-01", "at": "2026-01-01T00:00:00Z"}
    ]


@pytest.mark.parametrize(
    ("document", "place", "said"),
    [
        ({"nam": "x"}, "spec.nam", "Did you mean 'name'?"),
        ({"name": "x", "inner": {"coolDwn": "1h"}}, "spec.inner.coolDwn", "Did you mean 'coolDown'?"),
        ({"name": "x", "inner": {"zzz": 1}}, "spec.inner.zzz", "Known here: coolDown, rows"),
        ({"name": "x", "several": [{}, {"row": 1}]}, "spec.several[1].row", "Did you mean 'rows'?"),
        ({"name": "x", "named": {"a": {"row": 1}}}, "spec.named[...].row", "Did you mean 'rows'?"),
        ({"name": 1}, "spec.name", "Expected `str`, got `int`"),
        ({"inner": {}}, "spec", "missing required field `name`"),
        ([], "spec", "got `array`"),
    ],
)
def test_a_wrong_field_is_named_with_its_path(document: object, place: str, said: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        convert(document, Outer, where="spec")
    assert caught.value.where == place
    assert said in str(caught.value)


def test_a_name_that_is_near_nothing_has_no_near_miss() -> None:
    assert near_miss("zebra", ["cooldown", "alpha"]) == ""
    assert near_miss("alhpa", ("cooldown", "alpha")) == "Did you mean 'alpha'?"
