"""The tree of a run without a database: what starts when, what it costs, and that it can be dropped at any moment."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from small_pipelines import parameter_of, pipeline, step

from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.nodes import Entry, Kind, Node
from goldenloop.pipelines.plan import Plan
from goldenloop.pipelines.tree import Tree
from goldenloop.pipelines.values import Values, values_of
from goldenloop.standards.pipeline_ir import read_pipeline

SECOND = 1_000_000


class MemoryBook:
    """A book in memory, with a clock that is set."""

    def __init__(self) -> None:
        self.time_us = 0
        self.rows: dict[str, Entry] = {}
        self.changes = 0

    def now_us(self) -> int:
        return self.time_us

    def add(self, entry: Entry) -> None:
        assert entry.path not in {known.path for known in self.rows.values()} or entry.id in self.rows
        self.rows[entry.id] = entry

    def change(self, identity: str, changes: Mapping[str, Json]) -> None:
        self.changes += 1
        known = {name: value for name, value in changes.items() if name in Entry.__struct_fields__}
        known |= {name: values_of(known[name]) for name in ("inputs", "outputs") if name in known}  # type: ignore[arg-type]
        if "state" in known:
            known["state"] = RunState(str(known["state"]))
        self.rows[identity] = msgspec.structs.replace(self.rows[identity], **known)

    def entries(self, run_id: str, scope: str) -> list[Entry]:
        found = self._inside(run_id, scope)
        return [row for row in found if row.kind is not Kind.ROUND or row.state in (RunState.PENDING, RunState.RUNNING)]

    def begun_rounds(self, run_id: str, loop: str) -> tuple[int, bool]:
        found = self._inside(run_id, loop)
        return len(found), any(row.state is RunState.FAILED for row in found)

    def round_outputs(self, run_id: str, loop: str) -> Iterable[Values]:
        return [row.outputs for row in sorted(self._inside(run_id, loop), key=lambda row: row.index or 0)]

    def artifact_facts(self, ids: Iterable[str]) -> dict[str, JsonObject]:
        return {identity: {} for identity in ids}

    def _inside(self, run_id: str, scope: str) -> list[Entry]:
        return [row for row in self.rows.values() if (row.run_id, row.scope) == (run_id, scope)]

    def states(self) -> dict[str, RunState]:
        return {row.path: row.state for row in self.rows.values()}


def tree_of(document: JsonObject, book: MemoryBook, **parameters: Json) -> Tree:
    return Tree("run", Plan(read_pipeline(document)), Values(parameters), {}, book)


def run_all(tree: Tree, *, fails: frozenset[str] = frozenset()) -> list[str]:
    """Run one step after the other; return their paths. A step gives its path as every parameter."""
    order = []
    while (node := tree.next_step()) is not None:
        order.append(node.path)
        finish(tree, node, fails=fails)
    return order


def finish(tree: Tree, node: Node, *, fails: frozenset[str] = frozenset()) -> None:
    tree.start(node, tree.inputs_of(node))
    if node.path in fails:
        tree.fail_attempt(node, f"{node.path} failed")
    else:
        tree.succeed(node, Values(dict.fromkeys(node.component.output_parameters, node.path)))


def loop_document(items: int, *, parallel: int = 0) -> JsonObject:
    """A loop whose rounds have a step `first` and a step `second` behind it; the loop gives all that `second` gave."""
    document = pipeline(
        {
            "first": step("true", takes={"item": {"componentInputParameter": "item"}}, gives={"word": "STRING"}),
            "second": step("true", takes={"word": parameter_of("first", "word")}, gives={"word": "STRING"}),
        }
    )
    body = document["root"]["dag"]["tasks"]
    document["components"]["comp-loop"] = {
        "dag": {
            "tasks": body,
            "outputs": {
                "parameters": {
                    "all": {"valueFromParameter": {"producerSubtask": "second", "outputParameterKey": "word"}}
                }
            },
        },
        "inputDefinitions": {"parameters": {"item": {"parameterType": "STRING"}}},
        "outputDefinitions": {"parameters": {"all": {"parameterType": "LIST"}}},
    }
    raw = msgspec.json.encode([str(number) for number in range(items)]).decode()
    document["root"]["dag"]["tasks"] = {
        "loop": {
            "componentRef": {"name": "comp-loop"},
            "parameterIterator": {"itemInput": "item", "items": {"raw": raw}},
            "iteratorPolicy": {"parallelismLimit": parallel},
        }
    }
    return document


names = st.sampled_from(["a", "b", "c", "d", "e", "f"])


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """Steps that wait for earlier ones, and those of them that fail."""
    listed = draw(st.lists(names, unique=True, min_size=1))
    edges = {
        name: tuple(draw(st.lists(st.sampled_from(listed[:place]), unique=True))) if place else ()
        for place, name in enumerate(listed)
    }
    return edges, frozenset(draw(st.sets(st.sampled_from(listed))))


@given(graphs())
def test_a_step_runs_after_all_it_waits_for_or_is_skipped(
    graph: tuple[dict[str, tuple[str, ...]], frozenset[str]],
) -> None:
    edges, fails = graph
    book = MemoryBook()
    tree = tree_of(pipeline({name: step("true", after=after) for name, after in edges.items()}), book)
    tree.begin()
    order = run_all(tree, fails=fails)
    states = book.states()
    for name, after in edges.items():
        if all(states[other] is RunState.SUCCEEDED for other in after):
            assert states[name] is (RunState.FAILED if name in fails else RunState.SUCCEEDED)
            assert all(order.index(other) < order.index(name) for other in after)
        else:
            assert states[name] is RunState.SKIPPED
            assert name not in order
    has_failed = RunState.FAILED in states.values()
    assert tree.ended is (RunState.FAILED if has_failed else RunState.SUCCEEDED)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6), st.integers(0, 3), st.randoms(use_true_random=False))
def test_a_tree_that_is_made_again_from_the_book_goes_on_in_the_same_way(
    items: int, parallel: int, dice: random.Random
) -> None:
    book = MemoryBook()
    document = loop_document(items, parallel=parallel)
    tree = tree_of(document, book)
    tree.begin()
    done: defaultdict[str, int] = defaultdict(int)
    going_on: list[Node] = []
    while tree.ended is None:
        if dice.random() < 0.3:
            alive = [node.id for node in going_on]
            tree = tree_of(document, book)
            tree.resume(alive)
            going_on = [tree.running[identity] for identity in alive]
            continue
        node = tree.next_step() if len(going_on) < 3 else None
        if node is not None:
            tree.start(node, tree.inputs_of(node))
            going_on.append(node)
        elif going_on:
            ended = going_on.pop(dice.randrange(len(going_on)))
            done[ended.path] += 1
            tree.succeed(ended, Values({"word": ended.path}))
        if parallel:
            assert len({node.path.partition("]")[0] for node in going_on}) <= parallel
    assert done == {f"loop[{index}].{name}": 1 for index in range(items) for name in ("first", "second")}
    (loop,) = [row for row in book.rows.values() if row.path == "loop"]
    assert loop.outputs.parameters == {"all": [f"loop[{index}].second" for index in range(items)]}
    assert tree.ended is RunState.SUCCEEDED


def test_rounds_begin_when_there_is_room_and_are_forgotten_when_they_end() -> None:
    book = MemoryBook()
    tree = tree_of(loop_document(1_000), book)
    tree.begin()
    first = tree.next_step()
    assert first is not None
    assert len(book.rows) == 1 + 3, "one round has begun, with two steps in it"
    finish(tree, first)
    before = book.changes
    for _ in range(10):
        node = tree.next_step()
        assert node is not None
        finish(tree, node)
    each = (book.changes - before) / 10
    while (node := tree.next_step()) is not None:
        finish(tree, node)
    assert book.changes / 2_000 < each * 1.5, "each step costs the same"
    assert tree.ended is RunState.SUCCEEDED
    assert not tree.running


def test_a_pause_comes_before_another_attempt() -> None:
    document = pipeline({"shaky": step("true", retries=2)})
    policy = {"maxRetryCount": 2, "backoffDuration": "10s", "backoffFactor": 3, "backoffMaxDuration": "3600s"}
    document["root"]["dag"]["tasks"]["shaky"]["retryPolicy"] = policy
    book = MemoryBook()
    tree = tree_of(document, book)
    tree.begin()
    for pause in (10, 30):
        assert run_all(tree, fails=frozenset({"shaky"})) == ["shaky"]
        assert tree.next_us() == book.time_us + pause * SECOND
        tree = tree_of(document, book)
        tree.resume(())
        tree.release(book.time_us)
        assert not tree.has_next(book.time_us)
        book.time_us += pause * SECOND
        tree.release(book.time_us)
    assert run_all(tree, fails=frozenset({"shaky"})) == ["shaky"]
    assert tree.ended is RunState.FAILED


def test_a_long_chain_that_is_skipped_is_no_deep_recursion() -> None:
    steps = {f"s{number}": step("true", after=(f"s{number - 1}",) if number else ()) for number in range(3_000)}
    book = MemoryBook()
    book.add = lambda entry: book.rows.update({entry.id: entry})  # type: ignore[method-assign]
    tree = tree_of(pipeline(steps), book)
    tree.begin()
    assert run_all(tree, fails=frozenset({"s0"})) == ["s0"]
    assert tree.ended is RunState.FAILED
    assert list(book.states().values()).count(RunState.SKIPPED) == 2_999
