"""People are told what happened: once it is written down, at least once, in order, and without their secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from receivers import HttpReceiver, http_receiver, smtp_receiver
from ring_worlds import LOOP_NAME, NAMESPACE, Rule, Scenario, Simulation
from sqlalchemy import insert, select

from goldenloop.api.metrics import _told
from goldenloop.control.byhand import run_now
from goldenloop.control.loops import show
from goldenloop.control.messenger import GIVEN_UP_US, KEPT_US, Messenger
from goldenloop.control.telling import MOST_WAITING, channels_of, channels_shown
from goldenloop.control.view import LOOP, LoopView
from goldenloop.control.world import Storyteller
from goldenloop.core.clock import HOUR, MINUTE, SECOND, VirtualClock, from_text
from goldenloop.core.json import Json, JsonObject
from goldenloop.store import resources
from goldenloop.store.database import Database, sqlite_url
from goldenloop.store.tables import alerts, measurements, messages, timeline

NOON = from_text("2026-01-31T12:00:00Z")
ALERTS = "/api/v2/alerts"


class Telling:
    """A store with one Loop, and the messenger. `again` is a control process that was killed and started anew."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(NOON)
        self.database = Database(sqlite_url(folder / "state.db"))
        self.database.migrate()
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        self.again()

    def again(self) -> None:
        self.messenger = Messenger(self.database, self.clock, self.secrets)

    def apply(self, *channels: JsonObject) -> None:
        document: JsonObject = {"metadata": {"name": LOOP_NAME}, "spec": {"data": {}, "notify": list(channels)}}
        with self.database.write() as transaction:
            if resources.find(transaction, LOOP, NAMESPACE, LOOP_NAME) is None:
                resources.create(transaction, LOOP, NAMESPACE, document, now_us=NOON)
            else:
                resources.replace(transaction, LOOP, NAMESPACE, LOOP_NAME, document)

    def tell(self, kind: str, text: str, **facts: object) -> None:
        with self.database.write() as transaction:
            self.teller(transaction).tell(kind, text, **facts)

    def teller(self, transaction: object) -> Storyteller:
        now_us = self.clock.now_us()
        return Storyteller(transaction, NAMESPACE, LOOP_NAME, now_us, now_us)  # type: ignore[arg-type]

    def measure(self, window: int, verdict: str) -> None:
        row = {"namespace": NAMESPACE, "loop": LOOP_NAME, "monitor": "drift", "metric": "statistic", "feature": ""}
        span = {"slice": "", "version": "1", "window": window, "start_us": 0, "end_us": 1, "rows": 9, "note": ""}
        with self.database.write() as transaction:
            transaction.execute(insert(measurements).values(**row, **span, value=1.0, verdict=verdict))

    def shown(self) -> list[Json]:
        with self.database.read() as transaction:
            channels = channels_of(transaction, NAMESPACE, LOOP_NAME)
            return channels_shown(transaction, NAMESPACE, LOOP_NAME, channels)

    def states(self) -> list[str]:
        with self.database.read() as transaction:
            return list(transaction.execute(select(messages.c.state).order_by(messages.c.id)).scalars())

    def firing(self) -> int:
        with self.database.read() as transaction:
            return len(transaction.execute(select(alerts)).all())


@pytest.fixture
def telling(tmp_path: Path) -> Telling:
    return Telling(tmp_path)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as made:
        yield made


def webhook(receiver: HttpReceiver, path: str = "/in") -> JsonObject:
    return {"name": "bus", "webhook": {"url": receiver.address + path}}


def texts(receiver: HttpReceiver, path: str = "/in") -> list[str]:
    return [body["data"]["text"] for body in receiver.at(path)]  # type: ignore[index,call-overload]


# messages


def test_each_channel_is_told_what_it_asks_for_once_and_in_order(telling: Telling, receiver: HttpReceiver) -> None:
    slack: JsonObject = {"name": "team", "slack": {"url": receiver.address + "/slack"}, "kinds": ["Warning"]}
    telling.apply(webhook(receiver), slack)
    for number in range(3):
        telling.tell("Alarm", f"alarm {number}", monitor="drift", window=number)
    telling.tell("Warning", "x is unlike the reference", monitor="drift")
    telling.tell("Served", "requests arrive")
    assert telling.messenger.advance() == 4
    assert telling.messenger.advance() == 0
    assert texts(receiver) == ["alarm 0", "alarm 1", "alarm 2"]
    assert receiver.at("/slack") == [{"text": "*Warning* of default/sim: x is unlike the reference"}]
    assert len({body["id"] for body in receiver.at("/in")}) == 3  # type: ignore[index,call-overload]


def test_what_was_not_kept_is_not_told(telling: Telling, receiver: HttpReceiver) -> None:
    telling.apply(webhook(receiver))

    def stumble() -> None:
        with telling.database.write() as transaction:
            telling.teller(transaction).tell("Promoted", "version 2 is golden")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stumble()
    with telling.database.read() as transaction:
        assert transaction.execute(select(timeline)).all() == []
    assert telling.messenger.advance() == 0
    assert receiver.bodies == []


def test_a_receiver_that_is_away_is_asked_less_and_less_and_hears_everything_in_order(
    telling: Telling, receiver: HttpReceiver
) -> None:
    telling.apply(webhook(receiver))
    receiver.status = 503
    telling.tell("Alarm", "first", monitor="drift")
    telling.tell("Alarm", "second", monitor="loss")
    asked = []
    for _ in range(40):
        telling.messenger.advance()
        asked.append(len(receiver.bodies))
        telling.clock.advance(SECOND)
    assert asked[-1] == 5, "at 0, 2, 6, 14 and 30 seconds"
    telling.again()
    [shown] = telling.shown()
    assert isinstance(shown, dict)
    assert shown["waiting"] == 2
    failure = shown["lastFailure"]
    assert isinstance(failure, dict)
    assert failure["text"] == "the receiver answered 503. It is sent again; check what it expects."
    assert failure["attempts"] == 5
    ids = {body["id"] for body in receiver.at("/in")}  # type: ignore[index,call-overload]
    assert len(ids) == 1, "the same message, with the same id"
    receiver.status = 200
    telling.clock.advance(HOUR)
    assert telling.messenger.advance() == 2
    assert texts(receiver)[-2:] == ["first", "second"]
    assert telling.states() == ["sent", "sent"]


def test_after_a_day_a_message_is_given_up_and_said_so(telling: Telling, receiver: HttpReceiver) -> None:
    telling.apply(webhook(receiver))
    receiver.status = 500
    telling.tell("Alarm", "old", monitor="drift")
    telling.clock.advance(GIVEN_UP_US)
    telling.messenger.advance()
    assert telling.states() == ["failed"]
    telling.clock.advance(KEPT_US + HOUR)
    telling.messenger.advance()
    assert telling.states() == []


def test_one_channel_that_is_away_holds_up_no_other(telling: Telling, receiver: HttpReceiver) -> None:
    away: JsonObject = {"name": "away", "webhook": {"url": "http://127.0.0.1:1/"}}
    telling.apply(away, webhook(receiver))
    telling.tell("Trigger", "retraining")
    assert telling.messenger.advance() == 1
    assert texts(receiver) == ["retraining"]


def test_no_more_wait_than_there_is_room_for(telling: Telling) -> None:
    telling.apply({"name": "away", "webhook": {"url": "http://127.0.0.1:1/"}})
    with telling.database.write() as transaction:
        teller = telling.teller(transaction)
        for number in range(MOST_WAITING + 3):
            teller.tell("Alarm", f"alarm {number}", monitor="drift")
    assert telling.states().count("waiting") == MOST_WAITING
    [shown] = telling.shown()
    assert isinstance(shown, dict)
    assert shown["dropped"] == 3


def test_a_channel_that_was_taken_out_is_told_nothing(telling: Telling, receiver: HttpReceiver) -> None:
    telling.apply(webhook(receiver))
    telling.tell("Alarm", "late", monitor="drift")
    telling.apply()
    telling.messenger.advance()
    assert telling.states() == ["dropped"]
    assert receiver.bodies == []


def test_a_secret_is_looked_up_when_it_is_needed_and_shown_nowhere(
    telling: Telling, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling.apply({"name": "team", "slack": {"urlFrom": {"secretKeyRef": {"name": "team", "key": "hook"}}}})
    telling.tell("Alarm", "hello", monitor="drift")
    telling.messenger.advance()
    [missing] = telling.shown()
    assert "secret team/hook: there is no such secret" in str(missing)
    (telling.secrets / "team").mkdir()
    (telling.secrets / "team" / "hook").write_text("http://127.0.0.1:1/very-hidden\n")
    telling.clock.advance(MINUTE)
    telling.messenger.advance()
    assert "hidden" not in str(telling.shown())
    assert "the receiver does not answer" in str(telling.shown())
    telling.apply({"name": "team", "slack": {"urlFrom": {"env": "TEAM_HOOK"}}})
    telling.clock.advance(MINUTE)
    telling.messenger.advance()
    assert "env TEAM_HOOK: the variable is not set" in str(telling.shown())
    monkeypatch.setenv("TEAM_HOOK", receiver.address + "/slack")
    telling.clock.advance(MINUTE)
    assert telling.messenger.advance() == 1
    assert len(receiver.at("/slack")) == 1


def test_a_mail_comes_and_who_is_refused_is_said(telling: Telling) -> None:
    with smtp_receiver() as server:
        telling.apply(
            {
                "name": "owner",
                "email": {
                    "server": f"127.0.0.1:{server.port}",
                    "security": "none",
                    "from": "loops@example.com",
                    "to": ["owner@example.com", "nobody@example.com"],
                },
            }
        )
        telling.tell("RolledBack", "version 1 is golden again", champion=1)
        assert telling.messenger.advance() == 1
    [mail] = server.mails
    assert mail["Subject"] == "[default/sim] RolledBack: version 1 is golden again"
    assert "champion: 1" in str(mail.get_payload())
    assert server.recipients == ["owner@example.com"]
    assert telling.states() == ["sent"]
    assert "refuses nobody@example.com" in str(telling.shown())


def test_a_mail_server_that_is_away_is_asked_again(telling: Telling) -> None:
    telling.apply(
        {"name": "owner", "email": {"server": "127.0.0.1:1", "security": "none", "from": "a@b.c", "to": ["d@e.f"]}}
    )
    telling.tell("Error", "stumbled")
    telling.messenger.advance()
    assert telling.states() == ["waiting"]
    assert "did not take the mail: ConnectionRefusedError" in str(telling.shown())


# alerts


def alertmanager(receiver: HttpReceiver) -> JsonObject:
    return {"name": "on-call", "alertmanager": {"url": receiver.address}}


def ends(receiver: HttpReceiver) -> list[list[str]]:
    return [[alert["endsAt"] for alert in body] for body in receiver.at(ALERTS)]  # type: ignore[attr-defined]


def test_an_alert_fires_every_minute_until_its_monitor_passes_again(telling: Telling, receiver: HttpReceiver) -> None:
    telling.apply(alertmanager(receiver))
    telling.measure(7, "fail")
    telling.tell("Alarm", "drift changed", monitor="drift", window=7)
    for _ in range(125):
        telling.messenger.advance()
        telling.clock.advance(SECOND)
    assert ends(receiver) == [["2026-01-31T12:05:00Z"], ["2026-01-31T12:06:00Z"], ["2026-01-31T12:07:00Z"]]
    telling.measure(8, "inconclusive")
    telling.messenger.advance()
    assert telling.firing() == 1, "no evidence ends nothing"
    telling.measure(9, "pass")
    telling.messenger.advance()
    assert ends(receiver)[-1] == ["2026-01-31T12:02:05Z"]
    assert telling.firing() == 0
    count = len(receiver.bodies)
    telling.clock.advance(HOUR)
    telling.messenger.advance()
    assert len(receiver.bodies) == count


@pytest.mark.parametrize(
    ("begins", "ends_it"),
    [
        (("BudgetSpent", {"slo": "a"}), ("BudgetLeft", {"slo": "a"})),
        (("AwaitingApproval", {"version": 3}), ("Approved", {"version": 3})),
        (("AwaitingApproval", {"version": 3}), ("Refused", {"version": 3})),
        (("RunFailed", {"run": "x"}), ("Blessed", {"version": 4})),
    ],
    ids=["budget", "approved", "refused", "run"],
)
def test_what_begins_and_what_ends_are_a_pair(
    telling: Telling,
    receiver: HttpReceiver,
    begins: tuple[str, dict[str, object]],
    ends_it: tuple[str, dict[str, object]],
) -> None:
    telling.apply(alertmanager(receiver))
    telling.tell(begins[0], "begins", **begins[1])
    telling.tell(begins[0], "begins again", **begins[1])
    telling.messenger.advance()
    assert ends(receiver) == [["2026-01-31T12:05:00Z"]]
    telling.clock.advance(SECOND)
    if begins[0] != "RunFailed":  # whatever run works ends it
        telling.tell(ends_it[0], "of another", **dict.fromkeys(ends_it[1], "another"))
        telling.messenger.advance()
        assert telling.firing() == 1
    telling.tell(ends_it[0], "ends", **ends_it[1])
    telling.messenger.advance()
    assert ends(receiver)[-1] == ["2026-01-31T12:00:01Z"]
    assert telling.firing() == 0


def test_an_alertmanager_that_was_away_hears_the_end(telling: Telling, receiver: HttpReceiver) -> None:
    telling.apply(alertmanager(receiver))
    receiver.status = 500
    telling.tell("BudgetSpent", "spent", slo="a")
    telling.messenger.advance()
    assert "the receiver answered 500" in str(telling.shown())
    telling.tell("BudgetLeft", "left", slo="a")
    receiver.status = 200
    telling.again()
    telling.clock.advance(MINUTE)
    assert telling.messenger.advance() == 1
    assert ends(receiver)[-1] == ["2026-01-31T12:00:00Z"]
    assert telling.firing() == 0


def test_metrics_count_messages_and_name_what_fires(telling: Telling, receiver: HttpReceiver) -> None:
    telling.apply(webhook(receiver), alertmanager(receiver))
    telling.tell("Alarm", "drift changed", monitor="drift", window=1)
    telling.messenger.advance()
    with telling.database.read() as transaction:
        families = {family.name: family.samples for family in _told(transaction)}
    [sent] = families["goldenloop_messages"]
    assert (sent.labels["channel"], sent.labels["state"], sent.value) == ("bus", "sent", 1)
    [fires] = families["goldenloop_alerts_firing"]
    assert (fires.labels["alert"], fires.labels["instance"]) == ("Alarm", "drift")


# the whole ring


def test_a_loop_tells_whom_its_file_names_and_shows_how_they_do(tmp_path: Path, receiver: HttpReceiver) -> None:
    scenario = Scenario(
        train=lambda number, _: Rule(errors=(0.1,), salt=0.37 * number),
        windows=2,
        rows_per_window=25,
        spec={"notify": [{**webhook(receiver), "kinds": ["Trigger", "Alarm"]}], "approval": "none"},
    )
    simulation = Simulation(tmp_path / "world", scenario)
    simulation.go(simulation.scenario.rows(1))
    world = simulation.world
    run_now(world, NAMESPACE, LOOP_NAME, reason="to see whom it tells")
    assert Messenger(world.database, world.clock, tmp_path).advance() == 1
    assert texts(receiver) == ["a run by hand: to see whom it tells"]
    with world.database.write() as transaction:
        [view] = [LoopView.of(document) for document in resources.listing(transaction, LOOP)]
        show(transaction, view, world.clock, {})
        status = resources.get(transaction, LOOP, NAMESPACE, LOOP_NAME)["status"]
    assert isinstance(status, dict)
    [shown] = status["notify"]  # type: ignore[misc]
    assert shown == {
        "name": "bus",
        "tells": ["Trigger", "Alarm"],
        "waiting": 0,
        "sent": 1,
        "failed": 0,
        "dropped": 0,
    }
