"""Sealing: what a segment held is found sealed, once, whatever happens while it is sealed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from goldenloop.core.errors import UnavailableError
from goldenloop.core.ids import uuid7
from goldenloop.payloads import sealing
from goldenloop.payloads.finding import find
from goldenloop.payloads.log import PayloadReader, PayloadWriter, segments
from goldenloop.payloads.records import Exchange, Label, Prediction, Record
from goldenloop.payloads.sealed import FOLDER, Sealed, manifest_path, verify
from goldenloop.payloads.sealing import DAMAGED, seal
from goldenloop.payloads.tables import payload_tables

DAY_US = 86_400_000_000


def prediction(alias: str | None = None, *, arrival_us: int = 1, service: str = "loan") -> Prediction:
    return Prediction(
        id=uuid7(),
        alias=alias,
        namespace="default",
        service=service,
        arrival_us=arrival_us,
        event_us=2,
        columns='["age","job"]',
        rows=1,
        numbers=b"\x00\x00\x00\x00\x00\xc0\x44\x40",
        texts=("clerk",),
        version="3",
        reason="champion",
        answers={"3": (("good", (0.25, 0.75)),)},
        failures={},
        latency_us=90,
    )


def some_records() -> list[Record]:
    first, second = prediction("order-1"), prediction(arrival_us=DAY_US, service="other")
    exchange = Exchange(
        id=uuid7(),
        alias="picture",
        namespace="default",
        service="images",
        arrival_us=4,
        event_us=4,
        request=b"{}",
        version="1",
        reason="champion",
        answers={"1": b"[]"},
        failures={},
        latency_us=3,
    )
    truth = Label(prediction="order-1", row=0, label="bad", observed_us=None, arrival_us=7)
    later = Label(prediction=second.id, row=0, label=1, observed_us=5, arrival_us=8)
    return [first, second, exchange, truth, later]


def logged(folder: Path, records: list[Record], name: str = "w") -> None:
    writer = PayloadWriter(folder, name)
    writer.write(*records)
    writer.close()


def all_of(folder: Path) -> list[Record]:
    reader = PayloadReader(folder)
    found: list[Record] = []
    while records := reader.read(2):
        found += records
    return found


def test_what_was_logged_is_read_found_and_asked_sealed(tmp_path: Path) -> None:
    records = some_records()
    logged(tmp_path, records)
    (manifest,) = seal(tmp_path)
    assert segments(tmp_path) == []
    assert manifest.records == 5
    assert all_of(tmp_path) == records, "in the order in which they were logged"
    first, second, exchange, truth, later = records
    assert isinstance(first, Prediction)
    assert isinstance(second, Prediction)
    assert isinstance(exchange, Exchange)
    assert find(tmp_path, first.id) == (first, [truth])
    assert find(tmp_path, "order-1") == (first, [truth])
    assert find(tmp_path, second.id) == (second, [later])
    assert find(tmp_path, "picture") == (exchange, [])
    assert find(tmp_path, uuid7()) == (None, [])
    assert [(namespace, service) for namespace, service, _ in payload_tables(tmp_path).predictions] == [
        ("default", "loan"),
        ("default", "other"),
    ]
    assert verify(tmp_path) == (1, [])


def test_other_programs_read_the_files_by_their_folders(tmp_path: Path) -> None:
    logged(tmp_path, some_records())
    seal(tmp_path)
    table = ds.dataset(tmp_path / FOLDER / "predictions", partitioning="hive").to_table()
    assert sorted(zip(table["loop"].to_pylist(), table["date"].to_pylist(), strict=True)) == [
        ("loan", "1970-01-01"),
        ("other", "1970-01-02"),
    ]
    assert table["age"].to_pylist() == [41.5, 41.5]


@pytest.mark.parametrize("given", range(6))
def test_a_reader_goes_on_where_it_was(given: int, tmp_path: Path) -> None:
    records = some_records()
    logged(tmp_path, records)
    reader = PayloadReader(tmp_path)
    before = reader.read(given) if given else []
    resumed = PayloadReader(tmp_path, reader.positions)
    seal(tmp_path)
    for each in (reader, resumed):
        after = []
        while found := each.read(1):
            after += found
        assert before + after == records
        assert each.read() == []


def test_a_segment_that_is_written_is_left_alone(tmp_path: Path) -> None:
    writer = PayloadWriter(tmp_path, "w")
    writer.write(*some_records())
    PayloadWriter(tmp_path, "empty").close()
    assert seal(tmp_path) == []
    assert len(segments(tmp_path)) == 1
    writer.close()
    assert len(seal(tmp_path)) == 1
    assert seal(tmp_path) == []


class Cut(BaseException):
    """The process ends here."""


STEPS = ("mkdir", "fsync", "replace", "unlink")


def cut_at(monkeypatch: pytest.MonkeyPatch, number: int, error: Callable[[], BaseException]) -> list[str]:
    """Raise at the step of this number that reaches the disk; return the steps that were taken, which grow."""
    taken: list[str] = []

    def guard(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **kwargs: object) -> object:
            taken.append(name)
            if len(taken) == number:
                raise error()
            return real(*args, **kwargs)

        return step

    for name in STEPS:
        monkeypatch.setattr(os, name, guard(name, getattr(os, name)))
    monkeypatch.setattr(sealing.pq, "write_table", guard("write", sealing.pq.write_table))
    return taken


@pytest.mark.parametrize("kind", ["killed", "full"])
def test_cut_off_at_any_step_nothing_is_lost_or_given_twice(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> BaseException:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    records = some_records()
    number, is_cut = 0, True
    while is_cut:
        number += 1
        folder = tmp_path / str(number)
        logged(folder, records)
        half_read = PayloadReader(folder)
        before = half_read.read(2)
        with monkeypatch.context() as patched:
            taken = cut_at(patched, number, Cut if kind == "killed" else full)
            try:
                seal(folder)
            except (Cut, UnavailableError) as error:
                if isinstance(error, UnavailableError):
                    assert "cannot be sealed" in str(error)
        is_cut = len(taken) >= number
        assert all_of(folder) == records, f"cut off at step {number}, {taken[-1]}"
        assert len(payload_tables(folder).predictions) == 2
        seal(folder)
        assert before + half_read.read() == records
        assert all_of(folder) == records
        assert segments(folder) == []
        assert verify(folder) == (1, [])
        left = [path.name for path in (folder / FOLDER).rglob("*.parquet")]
        assert len(left) == 4, "what was half done was done over"
        shutil.rmtree(folder)
    assert number > 30, "every step was tried"


def test_killed_it_is_done_by_the_next(tmp_path: Path) -> None:
    records = some_records()
    logged(tmp_path, records)
    code = (
        "import os, signal, sys; from pathlib import Path; import goldenloop.payloads.sealing as s\n"
        "s._let_go = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\ns.seal(Path(sys.argv[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    assert len(segments(tmp_path)) == 1
    assert all_of(tmp_path) == records
    assert seal(tmp_path) == []
    assert segments(tmp_path) == []
    assert all_of(tmp_path) == records


@pytest.mark.parametrize("where", ["torn", "flipped"])
def test_damage_is_named_and_kept_aside(where: str, tmp_path: Path) -> None:
    records = some_records()
    logged(tmp_path, records)
    (name,) = segments(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    if where == "torn":
        del content[-3:]
    else:
        content[40] ^= 1
    (tmp_path / name).write_bytes(content)
    (manifest,) = seal(tmp_path)
    assert manifest.records == 4
    assert (tmp_path / DAMAGED / name).read_bytes() == content
    reader = PayloadReader(tmp_path)
    assert reader.read() == (records[:-1] if where == "torn" else records[1:])
    assert [damage.file for damage in reader.damage] == [name]


def test_a_flipped_bit_in_a_sealed_file_is_named_and_never_data(tmp_path: Path) -> None:
    records = some_records()
    logged(tmp_path, records)
    seal(tmp_path)
    sealed = Sealed(tmp_path)
    sealed.refresh()
    file = next(file for file in sealed.files("labels"))
    path = sealed.folder / file.path
    content = bytearray(path.read_bytes())
    content[len(content) // 8] ^= 4
    path.write_bytes(content)
    links, problems = verify(tmp_path)
    assert (links, problems) == (1, [f"{file.path}: its content is not what was sealed"])


def test_a_manifest_that_was_changed_or_lost_is_named(tmp_path: Path) -> None:
    for place in range(3):
        logged(tmp_path, [prediction(str(place))])
        seal(tmp_path)
    folder = tmp_path / FOLDER
    assert verify(tmp_path) == (3, [])
    second = manifest_path(folder, 2)
    kept = second.read_bytes()
    second.write_bytes(kept.replace(b'"records": 1', b'"records": 2'))
    assert verify(tmp_path) == (
        3,
        ["000000003.json: it does not follow the manifest before it, which was changed or replaced"],
    )
    second.unlink()
    assert verify(tmp_path) == (1, ["000000002.json: it is missing, and 000000003.json is there"])
