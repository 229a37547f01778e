"""Tells Alertmanagers what lasts, for as long as it does, and that it has ended, until they have heard so.

An Alertmanager forgets what it is not told again, and what it knew when it is started anew; so what fires is sent every minute, as
Prometheus does, and what began or ended at once. One that does not answer is tried again later, each time longer, and hears then how
things are.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Row, delete, select, update

from goldenloop.control.sending import deliver_alerts
from goldenloop.control.telling import channels_of, end_alarms
from goldenloop.core.clock import DAY, MINUTE, SECOND
from goldenloop.core.errors import GoldenloopError
from goldenloop.serving.outgoing import Poster
from goldenloop.standards.messages import LastingAlert
from goldenloop.standards.notify import Channel
from goldenloop.store.database import Database, Transaction, record_of
from goldenloop.store.tables import alerts

AGAIN_US = MINUTE
LONGEST_REST_US = 5 * MINUTE
GIVEN_UP_US = DAY  # after this an end that nobody heard of is forgotten: the alert has ended by itself there long ago

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Reached:
    """What one Alertmanager was told last: ids and ends, and when it is told again."""

    state: frozenset[tuple[int, int | None]] = frozenset()
    next_us: int = 0
    attempts: int = 0  # that failed, one after another


class Alertmanagers:
    """All Alertmanagers that Loops name. One thread calls `advance`."""

    def __init__(self, database: Database, poster: Poster, secrets: Path) -> None:
        self._database = database
        self._poster = poster
        self._secrets = secrets
        self._reached: dict[tuple[str, str, str], _Reached] = {}

    def advance(self, now_us: int) -> int:
        """Tell what is due; how many were told. Raises UnavailableError where the store does not answer."""
        with self._database.read() as transaction:
            if not _rows(transaction):
                return 0
        with self._database.write() as transaction:
            end_alarms(transaction, now_us=now_us)
            rows = _rows(transaction)
            places = sorted({(row.namespace, row.loop) for row in rows})
            known = {place: channels_of(transaction, *place) for place in places}
        told = 0
        for place in places:
            mine = [row for row in rows if (row.namespace, row.loop) == place]
            receivers = [channel for channel in known[place] if channel.alertmanager is not None]
            for channel in receivers:
                told += self._tell(channel, [row for row in mine if row.kind in channel.told], now_us)
            self._drop(mine, receivers, now_us)
        return told

    def _tell(self, channel: Channel, rows: list[Row[tuple[object, ...]]], now_us: int) -> bool:
        unheard = [row for row in rows if channel.name not in row.told]
        if not unheard:
            return False
        place = (unheard[0].namespace, unheard[0].loop, channel.name)
        reached = self._reached.setdefault(place, _Reached())
        state = frozenset((row.id, row.ended_us) for row in unheard)
        is_news = state != reached.state and reached.attempts == 0
        if now_us < reached.next_us <= now_us + LONGEST_REST_US and not is_news:
            return False
        try:
            deliver_alerts(
                [record_of(row, LastingAlert) for row in unheard], channel, self._poster, self._secrets, now_us
            )
        except GoldenloopError as error:
            _log.warning("%s/%s: channel %s: %s", *place, error)
            reached.attempts += 1
            reached.next_us = now_us + min(2 ** min(reached.attempts, 10) * SECOND, LONGEST_REST_US)
            self._mark([row.id for row in unheard], error=f"{channel.name}: {error}")
            return False
        reached.state, reached.attempts, reached.next_us = state, 0, now_us + AGAIN_US
        with self._database.write() as transaction:
            for row in unheard:
                heard = [*row.told, channel.name] if row.ended_us is not None else list(row.told)
                transaction.execute(update(alerts).where(alerts.c.id == row.id).values(told=heard, error=""))
        return True

    def _mark(self, ids: list[int], *, error: str) -> None:
        with self._database.write() as transaction:
            transaction.execute(update(alerts).where(alerts.c.id.in_(ids)).values(error=error))

    def _drop(self, rows: list[Row[tuple[object, ...]]], receivers: list[Channel], now_us: int) -> None:
        """Forget what has ended and what everybody has heard; all of it where nobody is told any more."""
        with self._database.write() as transaction:
            current = transaction.execute(select(alerts).where(alerts.c.id.in_([row.id for row in rows]))).all()
            gone = [
                row.id
                for row in current
                if not receivers
                or (
                    row.ended_us is not None
                    and (
                        now_us - row.ended_us >= GIVEN_UP_US
                        or all(each.name in row.told or row.kind not in each.told for each in receivers)
                    )
                )
            ]
            if gone:
                transaction.execute(delete(alerts).where(alerts.c.id.in_(gone)))


def _rows(transaction: Transaction) -> list[Row[tuple[object, ...]]]:
    return list(transaction.execute(select(alerts).order_by(alerts.c.id)).all())
