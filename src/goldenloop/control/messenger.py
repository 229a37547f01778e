"""Brings messages to their receivers, in a thread of its own: a receiver that does not answer holds nothing up but itself.

A message is sent until its receiver has taken it: at least once, always with the same id, in the order in which it was written. Where that
fails the channel rests, longer each time (2 s, 4 s, … `LONGEST_REST_US`), and after `GIVEN_UP_US` the message is on record as failed.

No error that is written down holds an address or a password.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from sqlalchemy import delete, select, update

from goldenloop.control.alertmanagers import Alertmanagers
from goldenloop.control.sending import deliver
from goldenloop.control.telling import channels_of
from goldenloop.core.clock import DAY, HOUR, MINUTE, SECOND, Clock
from goldenloop.core.errors import GoldenloopError
from goldenloop.serving.outgoing import Poster
from goldenloop.standards.messages import Message
from goldenloop.store.database import Database, record_of
from goldenloop.store.tables import messages

LONGEST_REST_US = 5 * MINUTE
GIVEN_UP_US = DAY
KEPT_US = 7 * DAY  # how long messages that were sent or given up stay on record
AT_ONCE = 50  # messages of one look
_TIDIED_EVERY_US = HOUR
_LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Messenger:
    """Sends what is due. `start` looks every second until `close`; tests call `advance`."""

    def __init__(self, database: Database, clock: Clock, secrets: Path) -> None:
        self._database = database
        self._clock = clock
        self._secrets = secrets
        self._poster = Poster()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._turn, name="messenger", daemon=True)
        self._alertmanagers = Alertmanagers(database, self._poster, secrets)
        self._tidied_us: int | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what was not sent is sent by the next one."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._poster.close()

    def advance(self) -> int:
        """Send what is due; how many messages and calls of an Alertmanager went through. Raises UnavailableError for the store."""
        now_us = self._clock.now_us()
        self._tidy(now_us)
        return self._send_messages(now_us) + self._alertmanagers.advance(now_us)

    def _turn(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            try:
                self.advance()
            except GoldenloopError as error:
                _log.error("%s", error)
            except Exception:
                _log.exception("the messenger stumbled")

    def _send_messages(self, now_us: int) -> int:
        query = (
            select(messages)
            .where(messages.c.state == "waiting", messages.c.next_us <= now_us)
            .order_by(messages.c.id)
            .limit(AT_ONCE)
        )
        with self._database.read() as transaction:
            due = transaction.execute(query).all()
            known = {place: channels_of(transaction, *place) for place in {(row.namespace, row.loop) for row in due}}
        sent, resting = 0, set()
        for row in due:
            place = (row.namespace, row.loop, row.channel)
            if place in resting or self._stopping.is_set():
                continue
            channel = next((each for each in known[row.namespace, row.loop] if each.name == row.channel), None)
            if channel is None:
                self._end(row.id, "dropped", now_us, "the Loop has no such channel any more")
                continue
            try:
                left_out = deliver(record_of(row, Message), channel, self._poster, self._secrets)
            except (GoldenloopError, ValueError) as error:  # a text that no mail can carry is no reason to stop
                resting.add(place)
                self._rest(row.id, place, attempts=row.attempts + 1, age_us=now_us - row.created_us, why=str(error))
            else:
                sent += 1
                self._end(row.id, "sent", self._clock.now_us(), left_out)
        return sent

    def _end(self, message: str, state: str, now_us: int, error: str) -> None:
        values: dict[str, object] = {"state": state, "ended_us": now_us}
        if error:
            values["error"] = error
        with self._database.write() as transaction:
            transaction.execute(update(messages).where(messages.c.id == message).values(**values))

    def _rest(self, message: str, place: tuple[str, str, str], *, attempts: int, age_us: int, why: str) -> None:
        """Let the whole channel rest, so that its messages keep their order and one that is away is not asked for each of them."""
        now_us = self._clock.now_us()
        _log.warning("%s/%s: channel %s: %s", *place, why)
        namespace, loop, channel = place
        rest_us = min(2 ** min(attempts, 10) * SECOND, LONGEST_REST_US)
        mine = (messages.c.namespace == namespace, messages.c.loop == loop, messages.c.channel == channel)
        with self._database.write() as transaction:
            failed: dict[str, object] = {"attempts": attempts, "error": why}
            if age_us >= GIVEN_UP_US:
                failed |= {"state": "failed", "ended_us": now_us}
            transaction.execute(update(messages).where(messages.c.id == message).values(**failed))
            transaction.execute(
                update(messages).where(*mine, messages.c.state == "waiting").values(next_us=now_us + rest_us)
            )

    def _tidy(self, now_us: int) -> None:
        if self._tidied_us is not None and 0 <= now_us - self._tidied_us < _TIDIED_EVERY_US:
            return
        self._tidied_us = now_us
        with self._database.write() as transaction:
            transaction.execute(delete(messages).where(messages.c.ended_us < now_us - KEPT_US))
