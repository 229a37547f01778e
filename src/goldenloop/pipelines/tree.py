"""A run as far as it has come: a tree of scopes, tasks and rounds of loops. Pure: the engine tells it what has ended,
it says which step comes next, and notes every change in a `Book`.

Rules:

- a task is looked at when all that it waits for has ended. Where one of those did not succeed it is skipped, unless it
  starts whatever happened; then its condition decides, and then it starts;
- a task that holds others has failed when one of them has; a run has failed when a task of its root has;
- the rounds of a loop begin when there is room for a step, not before, so that a loop of ten thousand holds a few at a
  time;
- each change costs the same however large the run is: what ended is told to what waits for it, nothing else is looked
  at.

The book has everything: a tree can be dropped at any moment and made again from it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Mapping

from goldenloop.core.errors import GoldenloopError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.nodes import Book, Entry, Frame, Kind, Node, Rounds, kind_of, node_of
from goldenloop.pipelines.plan import Plan, round_path, task_path
from goldenloop.pipelines.values import (
    Around,
    Values,
    bind,
    holds,
    loop_items,
    loop_outputs,
    round_inputs,
    round_item,
    scope_outputs,
)

_OPEN = frozenset({RunState.PENDING, RunState.RUNNING})


class Tree:
    """See the module. `ended` is the state in which the run has ended, once it has."""

    def __init__(self, run_id: str, plan: Plan, inputs: Values, facts: Mapping[str, str], book: Book) -> None:
        self.run_id = run_id
        self.plan = plan
        self.facts = facts
        self.ended: RunState | None = None
        self.running: dict[str, Node] = {}  # leaves that run, by id
        self._book = book
        self._root = Frame("", plan.root, inputs)
        self._ready: deque[Node] = deque()  # leaves that may start
        self._delayed: list[tuple[int, int, Node]] = []
        self._order = itertools.count()
        self._loops: deque[Node] = deque()  # those that may have another round to begin
        self._due: deque[Node] = deque()  # tasks to be looked at
        self._settled: deque[Node] = deque()  # tasks whose end is to be told

    # Where it comes from

    def begin(self) -> None:
        """Open the root of a new run."""
        self._open(self._root)
        self._turn()

    def resume(self, alive: Iterable[str]) -> None:
        """Take up a run from the book. `alive`: the ids of steps whose processes are known; the other running ones
        start again.
        """
        self._restore(self._root, frozenset(alive))
        self._turn()

    # What comes next

    def next_step(self) -> Node | None:
        """The next leaf that may start, or None. A loop begins a round where nothing else is ready."""
        while True:
            self._turn()
            if self._ready:
                return self._ready.popleft()
            if not self._begin_round():
                return None

    def has_next(self, now_us: int) -> bool:
        """Whether `next_step` may give one, at this time."""
        delayed = self._delayed[0][0] <= now_us if self._delayed else False
        return bool(self._ready or self._loops or self._due or self._settled) or delayed

    def next_us(self) -> int | None:
        """When the next pause before a retry is over."""
        return self._delayed[0][0] if self._delayed else None

    def release(self, now_us: int) -> None:
        """Let the steps start whose pause is over."""
        while self._delayed and self._delayed[0][0] <= now_us:
            self._ready.append(heapq.heappop(self._delayed)[2])

    def inputs_of(self, node: Node) -> Values:
        """What a leaf gets. Raises InvalidSpecError."""
        return bind(node.task, node.component, self.around(node), where=node.path)

    def facts_of(self, node: Node) -> dict[str, str]:
        """Named facts for a task's placeholders."""
        return {**self.facts, "pipeline_task_name": node.task.name, "pipeline_task_uuid": node.id}

    def around(self, node: Node) -> Around:
        """What a task sees: the inputs of its scope, its neighbours, and facts."""
        frame = node.stands_in
        assert frame is not None
        return Around(inputs=frame.inputs, neighbours=frame.nodes, facts=self.facts_of(node))

    # What has happened

    def start(self, node: Node, inputs: Values, *, cache_key: str | None = None) -> None:
        """Note that a leaf runs."""
        node.state = RunState.RUNNING
        node.not_before_us = None
        self.running[node.id] = node
        self._note(
            node,
            inputs=inputs.as_document(),
            started_us=self._book.now_us(),
            not_before_us=None,
            cache_key=cache_key,
        )

    def succeed(self, node: Node, outputs: Values, *, cached_from: str | None = None) -> None:
        """Note that a leaf ended well."""
        self.running.pop(node.id, None)
        self._settle(node, RunState.SUCCEEDED, outputs=outputs, cached_from=cached_from)
        self._turn()

    def fail(self, node: Node, error: str) -> None:
        """Note that a leaf cannot be done, or not any more."""
        self.running.pop(node.id, None)
        self._settle(node, RunState.FAILED, error=error)
        self._turn()

    def fail_attempt(self, node: Node, error: str) -> None:
        """Note that an attempt failed: the leaf is tried again after a pause, as often as its task says."""
        self.running.pop(node.id, None)
        node.attempt += 1
        tried = node.attempt - node.forgiven
        if tried > node.task.retry.retries:
            self._settle(node, RunState.FAILED, error=error)
            self._turn()
            return
        when = self._book.now_us() + node.task.retry.pause_us(tried)
        node.state, node.error, node.not_before_us = RunState.PENDING, error, when
        heapq.heappush(self._delayed, (when, next(self._order), node))
        self._note(node, attempt=node.attempt, error=error, not_before_us=when)

    def lose(self, node: Node) -> None:
        """Note that a leaf's process is gone and nobody knows how it ended: it starts again."""
        self.running.pop(node.id, None)
        node.state = RunState.PENDING
        self._ready.appendleft(node)
        self._note(node)

    # How it goes on

    def _turn(self) -> None:
        """Tell every end, and look at every task that has nothing to wait for any more."""
        while self._settled or self._due:
            if self._settled:
                self._tell(self._settled.popleft())
            else:
                self._decide(self._due.popleft())

    def _decide(self, node: Node) -> None:
        if node.blocked and not node.task.whatever_happened:
            self._settle(node, RunState.SKIPPED)
            return
        if node.kind.is_leaf and not node.task.condition:
            self._ready.append(node)
            return
        try:
            inputs = self.inputs_of(node)
            if node.task.condition:
                facts = self._book.artifact_facts(itertools.chain.from_iterable(inputs.artifacts.values()))
                if not holds(node.task.condition, inputs, facts, where=node.path):
                    self._settle(node, RunState.SKIPPED)
                    return
            if node.kind.is_leaf:
                self._ready.append(node)
            elif node.kind is Kind.LOOP:
                self._open_loop(node, inputs)
            else:
                self._open_scope(node, inputs)
        except GoldenloopError as error:
            self._settle(node, RunState.FAILED, error=str(error))

    def _open_scope(self, node: Node, inputs: Values) -> None:
        self._start_holder(node, inputs)
        frame = Frame(node.path, self.plan.layout(node.component), inputs, node)
        node.inside = frame
        self._open(frame)

    def _open_loop(self, node: Node, inputs: Values) -> None:
        assert node.task.loop is not None
        items = loop_items(node.task.loop, node.component, inputs, where=node.path)
        self._start_holder(node, inputs)
        node.inside = Rounds(inputs, items)
        if items:
            self._queue(node, node.inside)
        else:
            self._close_loop(node, node.inside)

    def _start_holder(self, node: Node, inputs: Values) -> None:
        node.state = RunState.RUNNING
        self._note(node, inputs=inputs.as_document(), started_us=self._book.now_us())

    def _open(self, frame: Frame) -> None:
        for name, task in frame.layout.tasks.items():
            component = self.plan.component_of(task)
            node = Node(uuid7(), task_path(frame.path, name), kind_of(task, component), task, component, frame)
            node.waiting = len(frame.layout.before[name])
            frame.nodes[name] = node
            self._book.add(
                Entry(
                    id=node.id,
                    run_id=self.run_id,
                    path=node.path,
                    scope=frame.path,
                    kind=node.kind,
                    component=component.name,
                )
            )
            if node.waiting == 0:
                self._due.append(node)
        frame.open = len(frame.nodes)
        if frame.open == 0:
            self._close(frame)

    def _begin_round(self) -> bool:
        """Begin a round of the loop whose turn it is; return whether there was one to begin."""
        while self._loops:
            node = self._loops.popleft()
            rounds, loop = node.inside, node.task.loop
            assert isinstance(rounds, Rounds)
            assert loop is not None
            rounds.queued = False
            if loop.parallel and rounds.open >= loop.parallel:
                continue  # it comes back when a round of it has ended
            index = rounds.begun
            rounds.begun += 1
            rounds.open += 1
            self._queue(node, rounds)
            path = round_path(node.path, index)
            one = Node(uuid7(), path, Kind.ROUND, node.task, node.component, loop=node, state=RunState.RUNNING)
            own = round_item(loop, rounds.items[index])
            self._add_round(one, node, index, own)
            one.inside = Frame(path, self.plan.layout(one.component), round_inputs(rounds.inputs, own), one)
            self._open(one.inside)
            return True
        return False

    def _queue(self, node: Node, rounds: Rounds) -> None:
        if not rounds.queued and rounds.begun < len(rounds.items):
            rounds.queued = True
            self._loops.append(node)

    def _add_round(self, one: Node, loop: Node, index: int, inputs: Values) -> None:
        self._book.add(
            Entry(
                id=one.id,
                run_id=self.run_id,
                path=one.path,
                scope=loop.path,
                kind=one.kind,
                component=one.component.name,
                index=index,
                state=RunState.RUNNING,
                inputs=inputs,
            )
        )
        self._book.change(one.id, {"started_us": self._book.now_us()})

    def _settle(
        self,
        node: Node,
        state: RunState,
        *,
        error: str | None = None,
        outputs: Values | None = None,
        cached_from: str | None = None,
    ) -> None:
        node.state, node.error, node.inside = state, error, None
        changes: JsonObject = {"error": error, "finished_us": self._book.now_us()}
        if node.kind.is_leaf:
            changes |= {"attempt": node.attempt, "cached_from": cached_from}
        if outputs is not None:
            node.outputs = outputs
            changes["outputs"] = outputs.as_document()
        self._note(node, **changes)
        self._settled.append(node)

    def _tell(self, node: Node) -> None:
        """Tell those that wait for a task, and what holds it, that it has ended."""
        if node.loop is not None:
            rounds = node.loop.inside
            assert isinstance(rounds, Rounds)
            rounds.open -= 1
            self._spoil(rounds, node)
            self._queue(node.loop, rounds)
            if rounds.open == 0 and not rounds.queued:
                self._close_loop(node.loop, rounds)
            return
        frame = node.stands_in
        assert frame is not None
        for name in frame.layout.behind[node.task.name]:
            other = frame.nodes[name]
            other.waiting -= 1
            other.blocked |= node.state is not RunState.SUCCEEDED
            if other.waiting == 0:
                self._due.append(other)
        frame.open -= 1
        self._spoil(frame, node)
        if frame.open == 0:
            self._close(frame)

    def _spoil(self, around: Frame | Rounds, node: Node) -> None:
        if node.state is RunState.FAILED:
            around.failed = True
            around.error = around.error or node.error

    def _close(self, frame: Frame) -> None:
        state = RunState.FAILED if frame.failed else RunState.SUCCEEDED
        if frame.owner is None:
            self.ended = state
            return
        outputs = scope_outputs(frame.layout.scope, frame.nodes)
        self._settle(frame.owner, state, error=frame.error, outputs=outputs)

    def _close_loop(self, node: Node, rounds: Rounds) -> None:
        outputs = Values()
        if node.component.output_parameters or node.component.output_artifacts:
            outputs = loop_outputs(node.component, self._book.round_outputs(self.run_id, node.path))
        state = RunState.FAILED if rounds.failed else RunState.SUCCEEDED
        self._settle(node, state, error=rounds.error, outputs=outputs)

    def _note(self, node: Node, **changes: Json) -> None:
        self._book.change(node.id, {"state": node.state.value, **changes})

    # How it comes back

    def _restore(self, frame: Frame, alive: frozenset[str]) -> None:
        entries = {entry.path: entry for entry in self._book.entries(self.run_id, frame.path)}
        for name, task in frame.layout.tasks.items():
            entry = entries[task_path(frame.path, name)]
            component = self.plan.component_of(task)
            frame.nodes[name] = node_of(entry, task, component, stands_in=frame)
        for name, node in frame.nodes.items():
            others = [frame.nodes[other] for other in frame.layout.before[name]]
            node.waiting = sum(other.state in _OPEN for other in others)
            node.blocked = any(other.state not in _OPEN and other.state is not RunState.SUCCEEDED for other in others)
            if node.state in _OPEN:
                frame.open += 1
            else:
                self._spoil(frame, node)
        for node in frame.nodes.values():
            self._take_up(node, entries[node.path], alive)
        if frame.open == 0:
            self._close(frame)

    def _take_up(self, node: Node, entry: Entry, alive: frozenset[str]) -> None:
        if node.state is RunState.PENDING and node.waiting == 0:
            if node.not_before_us is not None:
                heapq.heappush(self._delayed, (node.not_before_us, next(self._order), node))
            else:
                self._due.append(node)
        elif node.state is not RunState.RUNNING:
            return
        elif node.kind.is_leaf:
            self.running[node.id] = node
            if node.id not in alive:
                self.lose(node)
        elif node.kind is Kind.LOOP:
            self._restore_loop(node, entry.inputs, alive)
        else:
            node.inside = Frame(node.path, self.plan.layout(node.component), entry.inputs, node)
            self._restore(node.inside, alive)

    def _restore_loop(self, node: Node, inputs: Values, alive: frozenset[str]) -> None:
        loop = node.task.loop
        assert loop is not None
        rounds = Rounds(inputs, loop_items(loop, node.component, inputs, where=node.path))
        rounds.begun, rounds.failed = self._book.begun_rounds(self.run_id, node.path)
        node.inside = rounds
        self._queue(node, rounds)
        entries = self._book.entries(self.run_id, node.path)
        rounds.open = len(entries)
        for entry in entries:
            one = node_of(entry, node.task, node.component, loop=node)
            own = round_item(loop, rounds.items[entry.index or 0])
            one.inside = Frame(one.path, self.plan.layout(one.component), round_inputs(inputs, own), one)
            self._restore(one.inside, alive)
        if not entries and not rounds.queued:
            self._close_loop(node, rounds)
