"""One prediction and what is known of it, found among all that is logged, sealed or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from goldenloop.core.ids import is_uuid, uuid7_millisecond
from goldenloop.payloads import frames
from goldenloop.payloads.log import SEGMENT, segments
from goldenloop.payloads.records import Exchange, Label, Prediction, Record
from goldenloop.payloads.sealed import Sealed, holds_key, read_file

_CLOCK_SLACK_MS = 10_000  # how far the clocks of an id and of a segment's name may be apart
_ANSWER_MS = 600_000  # no request takes longer from its id to its record


def find(folder: Path, prediction_id: str) -> tuple[Prediction | Exchange | None, list[Label]]:
    """Return the prediction with this id and every label that names it, by the id or by its alias, in the order of their arrival.

    Our own ids carry their millisecond, so only segments that can hold them are opened, and of sealed files those between whose lowest
    and highest id it lies. A client's alias says nothing of its time: every segment is searched, and of the sealed ones those whose keys
    have it; where an alias repeats, the latest prediction counts. Raises UnavailableError where a sealed file is damaged.
    """
    sealed = Sealed(folder)
    sealed.refresh()
    known = len(sealed.manifests)
    names = [name for name in segments(folder) if name not in sealed.segments]
    prediction = _find_prediction(folder, names, sealed, prediction_id)
    labels = _find_labels(folder, names, sealed, prediction, prediction_id)
    sealed.refresh()
    # What was sealed meanwhile may have been missed in between.
    return (prediction, labels) if len(sealed.manifests) == known else find(folder, prediction_id)


def _find_prediction(folder: Path, names: list[str], sealed: Sealed, key: str) -> Prediction | Exchange | None:
    moment = uuid7_millisecond(key) if is_uuid(key) and key[14] == "7" else None
    if moment is not None:
        near = [
            name
            for name, start, end in _spans(names)
            if start <= moment + _ANSWER_MS and end >= moment - _CLOCK_SLACK_MS
        ]
        candidates = [*_matching(folder, near, key), *_sealed_by_id(sealed, key)]
        prediction = _latest(iter(candidates), key)
        if prediction is not None:
            return prediction
    return _latest(
        iter([*_matching(folder, names, key), *_sealed_by_id(sealed, key), *_sealed_by_alias(sealed, key)]), key
    )


def _find_labels(
    folder: Path, names: list[str], sealed: Sealed, prediction: Prediction | Exchange | None, key: str
) -> list[Label]:
    keys = [key] if prediction is None else [key, prediction.id, prediction.alias]
    after = names
    if prediction is not None and prediction.alias is None and is_uuid(prediction.id):
        first = uuid7_millisecond(prediction.id) - _CLOCK_SLACK_MS
        after = [name for name, _, end in _spans(names) if end >= first]
    labels: list[Label] = []
    for each in dict.fromkeys(keys):
        if each is not None:
            found = [*_sealed_labels(sealed, each), *_matching(folder, after, each)]
            labels += [record for record in found if isinstance(record, Label) and record.prediction == each]
    return sorted(labels, key=lambda label: label.arrival_us)


def _sealed_by_id(sealed: Sealed, key: str) -> Iterator[Record]:
    for file in sealed.files():
        if file.kind != "labels" and file.lowest <= key <= file.highest:
            yield from (record for _, record in read_file(sealed.folder, file, filters=[("id", "==", key)]))


def _sealed_by_alias(sealed: Sealed, key: str) -> Iterator[Record]:
    for manifest in sealed.manifests:
        if holds_key(sealed.folder, manifest, key):
            for file in manifest.files:
                if file.kind != "labels":
                    yield from (record for _, record in read_file(sealed.folder, file, filters=[("alias", "==", key)]))


def _sealed_labels(sealed: Sealed, key: str) -> Iterator[Record]:
    for manifest in sealed.manifests:
        if holds_key(sealed.folder, manifest, key):
            for file in manifest.files:
                if file.kind == "labels" and file.lowest <= key <= file.highest:
                    placed = read_file(sealed.folder, file, filters=[("prediction", "==", key)])
                    yield from (record for _, record in placed)


def _latest(records: Iterator[Record], key: str) -> Prediction | Exchange | None:
    found = [record for record in records if not isinstance(record, Label) and key in (record.id, record.alias)]
    return max(found, key=lambda prediction: (prediction.id == key, prediction.arrival_us), default=None)


def _matching(folder: Path, names: list[str], key: str) -> Iterator[Record]:
    """Records whose frame contains the key somewhere; the caller looks where."""
    needle = key.encode()
    decoder = msgspec.msgpack.Decoder(Record)
    for name in names:
        try:
            content = (folder / name).read_bytes()
        except FileNotFoundError:
            continue
        hit = content.find(needle)
        if hit < 0:
            continue
        for piece in frames.pieces(memoryview(content), frames.HEADER_BYTES, seed=frames.seed_of(name), whole=True):
            while 0 <= hit < piece.offset:
                hit = content.find(needle, hit + 1)
            if hit < 0:
                break
            if piece.body is not None and hit < piece.end:
                try:
                    yield decoder.decode(piece.body)
                except msgspec.DecodeError:
                    continue


def _spans(names: list[str]) -> list[tuple[str, int, int]]:
    """Each segment with the millisecond it began and that in which the next one of the same writer did."""
    spans = []
    by_writer: dict[str, list[tuple[int, int, str]]] = {}
    for name in names:
        parts = SEGMENT.match(name)
        assert parts is not None  # `segments` gives no others
        by_writer.setdefault(parts["writer"], []).append((int(parts["start"]), int(parts["sequence"]), name))
    for members in by_writer.values():
        members.sort()
        ends = [start for start, _, _ in members[1:]] + [2**62]
        spans += [(name, start, end) for (start, _, name), end in zip(members, ends, strict=True)]
    return sorted(spans)
