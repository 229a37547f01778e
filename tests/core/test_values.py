"""Ids, times, durations, errors and texts: small values that everything else leans on."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as some

from goldenloop.core.clock import SystemClock, VirtualClock, from_text, to_text
from goldenloop.core.durations import format_duration, parse_duration
from goldenloop.core.errors import GoldenloopError, InvalidSpecError
from goldenloop.core.ids import digest_bytes, digest_text, is_uuid, uuid7, uuid7_millisecond
from goldenloop.core.signatures import as_text


def at(moment_us: int) -> datetime:
    """The moment in UTC, without saying so."""
    return datetime.fromtimestamp(moment_us // 1_000_000, UTC).replace(tzinfo=None, microsecond=moment_us % 1_000_000)


moments = some.integers(min_value=-(2**45), max_value=2**52)  # 1968 to 2112


@given(moments)
def test_a_moment_comes_back_from_its_text(moment_us: int) -> None:
    assert from_text(to_text(moment_us)) == moment_us


@given(some.integers(0, 2**51).map(at), some.integers(-14, 14))
def test_an_offset_is_taken_into_account(moment: datetime, hours: int) -> None:
    here = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert from_text(here.isoformat()) == from_text(here.astimezone(UTC).isoformat())
    assert from_text(moment.isoformat()) == from_text(moment.replace(tzinfo=UTC).isoformat()), "no offset is UTC"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "12:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_text(text)


@given(some.lists(moments, min_size=2, max_size=2, unique=True))
def test_a_virtual_clock_goes_on_only_when_told(pair: list[int]) -> None:
    clock = VirtualClock(min(pair))
    assert clock.now_us() == clock.now_us() == min(pair)
    clock.advance(max(pair) - min(pair))
    assert clock.now_us() == max(pair)


def test_the_system_clock_tells_microseconds() -> None:
    assert abs(SystemClock().now_us() / 1e6 - datetime.now(UTC).timestamp()) < 5


@given(some.integers(min_value=0, max_value=2**55))
def test_a_duration_comes_back_from_its_text(length_us: int) -> None:
    assert parse_duration(format_duration(length_us)) == length_us


@pytest.mark.parametrize("text", ["", "1", "d", "1 d", "-1d", "1d2", "1y", "1d ", "one day", "1..5h", "1D"])
def test_what_is_no_duration_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidSpecError, match="is not a duration") as caught:
        parse_duration(text, where="spec.retrain.cooldown")
    assert caught.value.where == "spec.retrain.cooldown"
    assert "30s" in caught.value.mend


def test_ids_of_many_threads_differ_and_rise_in_each() -> None:
    made: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into += [uuid7() for _ in range(2_000)]

    threads = [threading.Thread(target=make, args=(each,)) for each in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each == sorted(each) for each in made)
    assert len({identity for each in made for identity in each}) == 8_000
    assert all(is_uuid(identity) and identity[14] == "7" and identity[19] in "89ab" for identity in made[0])


def test_ids_rise_when_the_clock_steps_back() -> None:
    late = uuid7(2_000_000_000_000)
    assert uuid7(1_000_000_000_000) > late
    assert uuid7_millisecond(late) == 2_000_000_000_000


AN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize("text", ["", "x", "0" * 36, AN_ID.upper(), AN_ID[:-1], AN_ID + "0"])
def test_what_is_no_id(text: str) -> None:
    assert is_uuid(AN_ID)
    assert not is_uuid(text)


@given(some.lists(some.text(max_size=5), max_size=4), some.lists(some.text(max_size=5), max_size=4))
def test_texts_with_other_boundaries_have_other_digests(first: list[str], second: list[str]) -> None:
    assert (digest_text(*first) == digest_text(*second)) == (first == second)


def test_a_digest_is_sha256() -> None:
    assert digest_bytes(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_an_error_says_what_where_and_how_to_mend_it() -> None:
    assert str(GoldenloopError("it is wrong", where="spec.data", mend="Mend it.")) == "spec.data: it is wrong. Mend it."
    assert str(GoldenloopError("it is wrong")) == "it is wrong"


@given(some.integers(min_value=-(2**50), max_value=2**50))
def test_a_whole_number_reads_the_same_as_float_and_int(number: int) -> None:
    assert as_text(number) == as_text(float(number)) == str(number)
