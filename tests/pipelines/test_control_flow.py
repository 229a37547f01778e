"""Branches, loops and exits of pipelines written with kfp.dsl, executed."""

# Without `from __future__ import annotations`: kfp reads the annotations of components themselves.
from typing import NamedTuple, Optional

import pytest
from compiled import Ran, double, fail, kinds, read, run, say, total, write
from kfp import dsl
from small_pipelines import World, constant, pipeline, step


@dsl.component
def count(words: list) -> int:
    return len(words)


@dsl.component
def pairs() -> list:
    return [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@dsl.component
def join(data: dsl.Input[list[dsl.Dataset]]) -> str:
    found = []
    for one in data:
        with open(one.path) as file:
            found.append(file.read())
    return "+".join(found)


@dsl.component
def sum_of_sums(numbers: list) -> int:
    return sum(sum(inner) for inner in numbers)


@dsl.component
def report(status: dsl.PipelineTaskFinalStatus) -> str:
    return f"{status.state} {status.pipeline_task_name} {'asked' in (status.error_message or '')}"


class Given(NamedTuple):
    numbers: int
    words: str


@dsl.pipeline
def branches(number: int) -> str:
    with dsl.If(number > 10):
        high = say(word="high")
    with dsl.Elif(number > 5):
        middle = say(word="middle")
    with dsl.Else():
        low = say(word="low")
    return dsl.OneOf(high.output, middle.output, low.output)


@pytest.mark.parametrize(("number", "word"), [(11, "high"), (6, "middle"), (1, "low")])
def test_exactly_one_branch_runs(world: World, number: int, word: str) -> None:
    ran = run(world, branches, number=number)
    assert (ran.state, ran.outputs) == ("SUCCEEDED", {"Output": word})
    leaves = {name: state for name, state in ran.states.items() if ".say" in name}
    assert list(leaves.values()) == ["SUCCEEDED"], "a branch that is not taken has no tasks"
    assert sorted(ran.states.values()).count("SKIPPED") == 2


def test_skipped_branches_in_a_loop_give_nothing(world: World) -> None:
    @dsl.pipeline
    def waiting(go: bool = False):
        with dsl.ParallelFor([1, 2]) as number:
            with dsl.If(go == True):  # noqa: E712 - kfp compiles the comparison
                inside = double(number=number)
            with dsl.If(number > 5):
                other = double(number=number)
        total(numbers=dsl.Collected(inside.output))
        total(numbers=dsl.Collected(other.output))

    ran = run(world, waiting)
    assert ran.state == "SUCCEEDED"
    assert (ran.given("total"), ran.given("total-2")) == (0, 0)
    assert [name for name in ran.states if name.endswith("double")] == []


def test_one_of_several_artifacts(world: World) -> None:
    @dsl.pipeline
    def choosing(first: bool) -> str:
        with dsl.If(first == True):  # noqa: E712
            one = write(word="one")
        with dsl.Else():
            two = write(word="two")
        chosen = dsl.OneOf(one.outputs["out"], two.outputs["out"])
        return read(data=chosen).output

    assert run(world, choosing, first=True).outputs == {"Output": "one"}
    assert run(world, choosing, first=False).outputs == {"Output": "two"}


def test_loops_collect_in_the_order_of_their_items(world: World) -> None:
    @dsl.pipeline
    def looping() -> int:
        with dsl.ParallelFor([3, 1, 2]) as number:
            doubled = double(number=number)
        kinds(value=dsl.Collected(doubled.output))
        return total(numbers=dsl.Collected(doubled.output)).output

    ran = run(world, looping)
    assert ran.outputs == {"Output": 12}
    assert ran.given("kinds") == "int,int,int", "an int stays an int"
    (gathered,) = ran.tasks["for-loop-2"].outputs["parameters"].values()
    assert gathered == [6, 2, 4]
    assert ran.tasks["for-loop-2[1].double"].inputs["parameters"] == {"number": 1}


def test_loops_over_what_a_step_gives_with_parts_of_items(world: World) -> None:
    @dsl.component
    def words_of(a: int, b: str) -> str:
        return f"{a}{b}"

    @dsl.pipeline
    def looping():
        with dsl.ParallelFor(pairs().output) as pair:
            words_of(a=pair.a, b=pair.b)

    ran = run(world, looping)
    assert ran.state == "SUCCEEDED", ran.error
    assert [ran.given(f"for-loop-1[{index}].words-of") for index in (0, 1)] == ["1x", "2y"]


def test_nested_loops_give_lists_of_lists_and_flat_artifacts(world: World) -> None:
    @dsl.pipeline
    def nested() -> Given:
        with dsl.ParallelFor([1, 2]) as outer:
            with dsl.ParallelFor([10, 20]) as inner, dsl.If(inner > 10):
                doubled = double(number=inner)
                written = write(word="w")
            double(number=outer)
        numbers = sum_of_sums(numbers=dsl.Collected(doubled.output))
        words = join(data=dsl.Collected(written.outputs["out"]))
        return Given(numbers=numbers.output, words=words.output)

    ran = run(world, nested)
    assert ran.state == "SUCCEEDED", ran.error
    assert ran.outputs == {"numbers": 80, "words": "w+w"}, "rounds whose branch was skipped give nothing"


def test_loops_over_parts_of_items_of_loops(world: World) -> None:
    @dsl.pipeline
    def nested(rows: list = [{"inner": [{"w": "a"}, {"w": "b"}]}, {"inner": []}, {"inner": [{"w": "c"}]}]):  # noqa: B006
        with dsl.ParallelFor(rows) as row, dsl.ParallelFor(row.inner) as one:
            say(word=one.w)

    ran = run(world, nested)
    assert ran.state == "SUCCEEDED", ran.error
    said = sorted(str(ran.given(name)) for name in ran.states if name.endswith(".say"))
    assert said == ["a", "b", "c"]


def test_loops_over_artifacts(world: World) -> None:
    @dsl.pipeline
    def several() -> list[dsl.Dataset]:
        with dsl.ParallelFor(["a", "b"]) as word:
            written = write(word=word)
        return dsl.Collected(written.outputs["out"])

    @dsl.pipeline
    def looping() -> str:
        made = several()
        with dsl.ParallelFor(made.output) as one:
            read(data=one)
        return join(data=made.output).output

    ran = run(world, looping)
    assert ran.state == "SUCCEEDED", ran.error
    assert ran.outputs == {"Output": "a+b"}
    assert sorted(str(ran.given(name)) for name in ran.states if name.endswith("read")) == ["a", "b"]


@pytest.mark.parametrize("words", [[], ["one"]])
def test_a_loop_over_nothing_gives_nothing(world: World, words: list[str]) -> None:
    @dsl.pipeline
    def looping(words: list) -> int:
        with dsl.ParallelFor(words) as word:
            said = say(word=word)
        return count(words=dsl.Collected(said.output)).output

    assert run(world, looping, words=words).outputs == {"Output": len(words)}


def test_a_loop_keeps_its_limit(world: World) -> None:
    @dsl.component
    def alone(number: int, folder: str):
        import os
        import time

        print("round", number)
        mark = os.path.join(folder, "busy")
        os.mkdir(mark)  # fails where another round is going on
        time.sleep(0.05)
        os.rmdir(mark)

    @dsl.pipeline
    def looping(folder: str):
        with dsl.ParallelFor([1, 2, 3, 4], parallelism=1) as number:
            alone(number=number, folder=folder)

    ran = run(world, looping, folder=str(world.folder))
    assert ran.state == "SUCCEEDED", ran.error


def test_one_bad_round_fails_the_loop_and_the_others_go_on(world: World) -> None:
    @dsl.component
    def picky(number: int) -> int:
        assert number != 2, "two is bad"
        return number

    @dsl.pipeline
    def looping():
        with dsl.ParallelFor([1, 2, 3]) as number:
            picked = picky(number=number)
        total(numbers=dsl.Collected(picked.output))

    ran = run(world, looping)
    assert ran.state == "FAILED"
    assert "two is bad" in ran.error
    assert [ran.states[f"for-loop-2[{index}].picky"] for index in range(3)] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert ran.states["total"] == "SKIPPED"


def test_an_exit_task_runs_whatever_happened_and_is_told(world: World) -> None:
    @dsl.pipeline
    def guarded(fails: bool):
        told = report()
        with dsl.ExitHandler(told, name="guard"):
            with dsl.If(fails == True):  # noqa: E712
                fail()
            say(word="fine")

    well, ill = run(world, guarded, fails=False), run(world, guarded, fails=True)
    assert (well.state, well.given("report")) == ("SUCCEEDED", "COMPLETE exit-handler-1 False")
    assert (ill.state, ill.given("report")) == ("FAILED", "FAILED exit-handler-1 True")


def test_a_step_may_ignore_that_what_it_waits_for_failed(world: World) -> None:
    @dsl.component
    def clean_up(word: str = "default") -> str:
        return word

    @dsl.pipeline
    def ignoring():
        failed = fail()
        clean_up(word=failed.output).ignore_upstream_failure()

    ran = run(world, ignoring)
    assert ran.state == "FAILED"
    assert ran.given("clean-up") == "default"


def test_pipelines_in_pipelines_with_optional_inputs(world: World) -> None:
    @dsl.component
    def shown(word: str = "own") -> str:
        return word

    @dsl.pipeline
    def inner(word: Optional[str] = None, other: str = "pipeline's") -> str:  # noqa: UP045 - kfp reads no other form
        shown(word=word)
        return shown(word=other).output

    @dsl.pipeline
    def outer(word: Optional[str] = None) -> str:  # noqa: UP045
        return inner(word=word).output

    ran = run(world, outer)
    assert ran.outputs == {"Output": "pipeline's"}
    assert ran.given("inner.shown") == "own", "what nobody gives is the step's own default"
    assert run(world, outer, word="given").given("inner.shown") == "given"


def test_numbers_arrive_as_they_were_given(world: World) -> None:
    @dsl.pipeline
    def numbers(given: list, written: list = [1, 2.5, 3]):  # noqa: B006
        kinds(value=given)
        kinds(value=written)
        kinds(value=[1, 2])

    ran = run(world, numbers, given=[1, 2.0, 2**60, {"a": 1}])
    assert ran.given("kinds") == "int,float,int,dict"
    assert ran.given("kinds-2") == "int,float,int"
    assert ran.given("kinds-3") == "int,int"


def test_what_waits_for_a_skipped_task_is_skipped_and_a_condition_without_a_value_fails(world: World) -> None:
    document = pipeline(
        {
            "unsure": step("true", takes={"word": constant("x")}),
            "never": step("true", takes={"word": constant("x")}),
            "behind": step("true", after=("never",)),
        }
    )
    tasks = document["root"]["dag"]["tasks"]
    tasks["unsure"]["triggerPolicy"] = {"condition": "inputs.parameter_values['nobody'] == 1"}
    tasks["never"]["triggerPolicy"] = {"condition": "inputs.parameter_values['word'] == 'y'"}
    ran = Ran(world, world.go(document))
    assert ran.states == {"unsure": "FAILED", "never": "SKIPPED", "behind": "SKIPPED"}
    assert "there is no 'nobody' in it" in ran.error
