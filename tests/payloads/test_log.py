"""The payload log: what was appended is read, once, in order, also after crashes, damage and a full disk."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.core.ids import uuid7
from goldenloop.payloads import log
from goldenloop.payloads.finding import find
from goldenloop.payloads.log import PayloadReader, PayloadWriter, segments
from goldenloop.payloads.records import Label, Prediction


def prediction(identity: str, alias: str | None = None, arrival_us: int = 1) -> Prediction:
    return Prediction(
        id=identity,
        alias=alias,
        namespace="default",
        service="loan",
        arrival_us=arrival_us,
        event_us=2,
        columns='["age","job"]',
        rows=1,
        numbers=struct.pack("<d", 41.5),
        texts=("clerk",),
        version="3",
        reason="champion",
        answers={"3": (("good", (0.25, 0.75)),)},
        failures={},
        latency_us=90,
    )


def label(identity: str, value: str = "good") -> Label:
    return Label(prediction=identity, row=0, label=value, observed_us=None, arrival_us=5)


def only_segment(folder: Path) -> Path:
    (name,) = segments(folder)
    return folder / name


@pytest.mark.parametrize("mode", ["durable", "interval", "async"])
def test_what_is_appended_is_read_once(mode: log.PayloadMode, tmp_path: Path) -> None:
    writer = PayloadWriter(tmp_path, "worker0", mode=mode)
    reader = PayloadReader(tmp_path)
    assert reader.read() == []
    first, second = prediction(uuid7()), label("x")
    writer.append(first)
    assert reader.read() == [first]
    assert reader.read() == []
    writer.append(second)
    later = PayloadReader(tmp_path, reader.positions)
    assert reader.read() == [second]
    assert later.read() == [second]
    assert PayloadReader(tmp_path).read() == [first, second]
    writer.close()
    assert PayloadReader(tmp_path).read(1) == [first]
    assert reader.damage == []


def test_durable_means_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(descriptor), real(descriptor))[1])
    durable = PayloadWriter(tmp_path / "a", "w", mode="durable")
    durable.append(label("x"))
    assert len(synced) == 1
    lazy = PayloadWriter(tmp_path / "b", "w", mode="async")
    lazy.append(label("x"))
    assert len(synced) == 1
    timed = PayloadWriter(tmp_path / "c", "w", mode="interval")
    timed.append(label("x"))
    end = time.monotonic() + 5
    while len(synced) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    for writer in (durable, lazy, timed):
        writer.close()


def test_requests_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def slow(_descriptor: int) -> None:
        nonlocal count
        count += 1
        time.sleep(0.02)

    monkeypatch.setattr(os, "fdatasync", slow)
    writer = PayloadWriter(tmp_path, "w", mode="async")

    async def one() -> None:
        writer.write(label("x"))
        await writer.synced()

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(100)))

    asyncio.run(many())
    assert 1 <= count <= 3
    writer.close()


def test_a_failed_sync_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    writer = PayloadWriter(tmp_path, "w", mode="durable")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        with pytest.raises(UnavailableError, match="brought to the disk"):
            writer.append(label("x"))
        writer.write(label("y"))  # a new segment: what the first one holds is not known
        with pytest.raises(UnavailableError, match="brought to the disk"):
            asyncio.run(writer.synced())
    writer.append(label("z"))
    writer.close()
    assert len(segments(tmp_path)) == 3
    assert [record.prediction for record in PayloadReader(tmp_path).read() if isinstance(record, Label)] == [
        "x",
        "y",
        "z",
    ]


def test_segments_rotate_and_closing_under_load_returns(tmp_path: Path) -> None:
    writer = PayloadWriter(tmp_path, "w", segment_bytes=1000)
    records = [prediction(uuid7()) for _ in range(100)]
    for record in records:
        writer.append(record)
    writer.close()
    assert len(segments(tmp_path)) > 10
    reader = PayloadReader(tmp_path)
    taken = []
    while piece := reader.read(7):
        assert len(piece) <= 7
        taken += piece
    assert taken == records
    (tmp_path / segments(tmp_path)[0]).unlink()
    assert reader.read() == []
    assert len(reader.positions) == len(segments(tmp_path))


def test_a_new_writer_begins_a_new_segment(tmp_path: Path) -> None:
    for _ in range(3):
        writer = PayloadWriter(tmp_path, "w")
        writer.append(label("x"))
        writer.close()
    assert len(segments(tmp_path)) == 3


def test_a_name_that_is_no_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError):
        PayloadWriter(tmp_path, "../other")


def test_a_full_disk_leaves_no_half_frame(tmp_path: Path) -> None:
    """A process whose files may have 2,000 bytes: the append that does not fit fails, and what fits later follows whole."""
    script = """
        import resource, signal, sys
        from pathlib import Path
        from goldenloop.core.errors import UnavailableError
        from goldenloop.payloads.log import PayloadWriter
        from goldenloop.payloads.records import Label
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        writer = PayloadWriter(Path(sys.argv[1]), "w")
        kept = 0
        try:
            while True:
                writer.append(Label(str(kept), 0, "x" * 100, None, 1))
                kept += 1
        except UnavailableError as error:
            assert "cannot be written" in str(error) and "Free some room" in str(error), error
        writer.append(Label(str(kept), 0, "", None, 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        writer.append(Label(str(kept + 1), 0, "x" * 100, None, 1))
        print(kept + 2)
        writer.close()
    """
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=True
    )
    reader = PayloadReader(tmp_path)
    assert [record.prediction for record in reader.read() if isinstance(record, Label)] == [
        str(i) for i in range(int(done.stdout))
    ]
    assert reader.damage == []


def test_damage_is_named_and_stepped_over(tmp_path: Path) -> None:
    writer = PayloadWriter(tmp_path, "w")
    for number in range(5):
        writer.append(label(str(number)))
    writer.close()
    path = only_segment(tmp_path)
    content = bytearray(path.read_bytes())
    size = (len(content) - 8) // 5
    content[8 + 2 * size + 12] ^= 0x40
    content[8 + 3 * size] ^= 0xFF  # the length of the fourth
    path.write_bytes(content)
    reader = PayloadReader(tmp_path)
    assert [record.prediction for record in reader.read() if isinstance(record, Label)] == ["0", "1", "4"]
    # Without a valid frame between them the two make one stretch.
    assert [(damage.file, damage.offset, damage.reason) for damage in reader.damage] == [
        (path.name, 8 + 2 * size, "the checksum does not fit")
    ]
    assert reader.read() == []
    assert len(reader.damage) == 1


def test_a_torn_tail_of_a_live_segment_is_waited_for(tmp_path: Path) -> None:
    writer = PayloadWriter(tmp_path, "w")
    for number in range(3):
        writer.append(label(str(number)))
    path = only_segment(tmp_path)
    content = path.read_bytes()
    os.truncate(path, len(content) - 4)
    reader = PayloadReader(tmp_path)
    assert [record.prediction for record in reader.read() if isinstance(record, Label)] == ["0", "1"]
    assert reader.damage == []
    with path.open("r+b") as stream:
        stream.write(content)
    assert [record.prediction for record in reader.read() if isinstance(record, Label)] == ["2"]
    writer.close()
    os.truncate(path, len(content) - 4)
    late = PayloadReader(tmp_path)
    assert len(late.read()) == 2
    assert [damage.reason for damage in late.damage] == ["ends in the middle of a frame"]


def test_damage_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    writer = PayloadWriter(tmp_path, "w")
    writer.append(label("big", "x" * 3_000_000))
    writer.append(label("after"))
    assert len(PayloadReader(tmp_path).read()) == 2
    path = only_segment(tmp_path)
    with path.open("r+b") as stream:
        stream.seek(2_000_000)
        stream.write(b"y")
    reader = PayloadReader(tmp_path)
    assert [record.prediction for record in reader.read() if isinstance(record, Label)] == ["after"]
    assert len(reader.damage) == 1
    writer.close()


def test_a_strange_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "w-1700000000000-000000.log").write_bytes(b"not ours at all, and long enough")
    reader = PayloadReader(tmp_path)
    assert reader.read() == []
    assert reader.damage[0].offset == 0


def test_find_looks_only_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [1_700_000_000_000 + 3_600_000 * hour for hour in range(6)]
    made = []
    for moment in moments:
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment * 1_000_000)
        writer = PayloadWriter(tmp_path, "w", mode="async")
        # Made by hand: ids of one process never step back to an earlier time.
        identity = f"{moment:012x}"[:8] + "-" + f"{moment:012x}"[8:] + "-7000-8000-000000000000"
        made.append(identity)
        writer.append(prediction(identity, alias="same", arrival_us=moment))
        if moment == moments[3]:
            writer.append(label(made[1]))
            writer.append(label("same", "bad"))
        writer.close()
    opened: list[str] = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (opened.append(path.name), real(path))[1])
    found, labels = find(tmp_path, made[1])
    assert found is not None
    assert found.id == made[1]
    assert [entry.label for entry in labels] == ["good", "bad"]
    opened = [name for name in opened if name.endswith(".log")]
    assert set(opened[:2]) <= set(segments(tmp_path)[:3])
    by_alias, _ = find(tmp_path, "same")
    assert by_alias is not None
    assert by_alias.id == made[-1]
    assert find(tmp_path, uuid7(moments[0])) == (None, [])
    assert find(tmp_path / "nowhere", "x") == (None, [])
