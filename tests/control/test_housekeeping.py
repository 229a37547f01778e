"""Housekeeping seals in a process of its own what nobody writes any more."""

from __future__ import annotations

import time
from pathlib import Path

from goldenloop.control.housekeeping import Sealing
from goldenloop.payloads.log import PayloadReader, PayloadWriter, segments
from goldenloop.payloads.records import Label


def test_sealing_goes_on_beside(tmp_path: Path) -> None:
    sealing = Sealing(tmp_path)
    sealing.advance()
    assert not (tmp_path / "sealed").exists(), "nothing is begun where nothing is to be done"
    label = Label(prediction="x", row=0, label="bad", observed_us=None, arrival_us=7)
    writer = PayloadWriter(tmp_path, "w")
    writer.write(label)
    writer.close()
    end = time.monotonic() + 60
    while segments(tmp_path):
        assert time.monotonic() < end, "the segment was not sealed"
        sealing.advance()
        time.sleep(0.1)
    assert PayloadReader(tmp_path).read() == [label]
    sealing.close()
