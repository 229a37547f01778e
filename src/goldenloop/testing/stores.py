"""What every database must do. Inherit `StoreConformance` and give the fixture `database_url`.

class TestMine(StoreConformance):
    @pytest.fixture
    def database_url(self):
        return "myprotocol://fresh-and-empty"
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from goldenloop.core.clock import SECOND
from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError, RefusedError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import VERSION_TRANSITIONS, Verdict, VersionState
from goldenloop.core.signatures import Column, Signature
from goldenloop.lineage import timeline
from goldenloop.lineage.baselines import Baseline, Baselines, keep_baselines, read_baselines
from goldenloop.lineage.timeline import Happening
from goldenloop.registry import versions
from goldenloop.registry.versions import Evaluation, ModelVersion, NewVersion
from goldenloop.standards.kubernetes import Kind, kind_named
from goldenloop.store import memories, resources
from goldenloop.store.database import Database, Transaction, insert_ignoring, upsert
from goldenloop.store.resources import metadata_of
from goldenloop.store.tables import changes, decisions, metadata, runs, tasks
from goldenloop.store.tables import memories as memories_table
from goldenloop.store.tables import resources as resources_table

NOW_US = 1_700_000_000 * SECOND
LOOP = kind_named("loop")
MONITOR = kind_named("monitor")
TRIGGER = kind_named("trigger")
SERVICE = kind_named("isvc")


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a reconciler may keep."""

    position: int
    values: tuple[float, ...] = ()
    text: str = ""


def document_of(name: str, spec: JsonObject | None = None, **extra: Json) -> JsonObject:
    """A resource as a person would write it, less apiVersion and kind."""
    return {"metadata": {"name": name, **extra}, "spec": spec if spec is not None else {"data": {"source": "rows.csv"}}}


def create(transaction: Transaction, name: str, kind: Kind = LOOP, *, owner: JsonObject | None = None) -> JsonObject:
    """Keep a resource, as its owner would where there is one."""
    document = document_of(name)
    if owner is not None:
        metadata_of(document)["ownerReferences"] = [resources.owner_reference(owner)]
    return resources.create(transaction, kind, "default", document, now_us=NOW_US)


def new_run(cause_key: str | None, **given: object) -> dict[str, object]:
    """A row of the table of runs."""
    empty: dict[str, object] = {name: {} for name in ("cause", "pipeline", "parameters", "inputs", "code")}
    row = {"id": uuid7(), "namespace": "default", "name": "train", "state": "PENDING", "created_us": NOW_US, **empty}
    return {**row, "cause_key": cause_key, "settled": False, **given}


def new_version(run_id: str | None = None, model: str = "loan") -> NewVersion:
    """A version that a run hands over."""
    return NewVersion(
        namespace="default",
        model=model,
        run_id=run_id,
        artifact_id=None,
        digest="d" * 64,
        folder="artifact:" + "d" * 64 + "/",
        signature=Signature(
            inputs=(Column(name="amount", kind="number"), Column(name="purpose", kind="category")),
            task="classification",
            classes=("false", "true"),
            class_kind="boolean",
        ),
        metrics={"accuracy": 0.8125, "slices": [{"name": "größe", "rows": 7}]},
        conversion={"opset": 18},
        data_version={"rows": 10_000_000_000},
        code_version={"commit": None},
        trained_until_us=NOW_US,
    )


def version_of(metadata_holder: JsonObject) -> int:
    """A resource's resourceVersion as a number."""
    return int(str(metadata_of(metadata_holder)["resourceVersion"]))


class StoreConformance:
    """The rules of `goldenloop.store` and of what keeps records in it, as tests."""

    @pytest.fixture
    def database_url(self) -> str:
        """The URL of a fresh, empty database."""
        raise NotImplementedError("a suite that inherits this one says where")

    @pytest.fixture
    def database(self, database_url: str) -> Iterator[Database]:
        """The database under test, with all its tables."""
        database = Database(database_url)
        database.migrate()
        yield database
        database.close()

    # tables

    def test_migrations_make_exactly_the_tables(self, database: Database) -> None:
        with database.engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            assert compare_metadata(context, metadata) == []

    def test_a_second_migration_changes_nothing(self, database: Database) -> None:
        with database.write() as transaction:
            kept = create(transaction, "loan")
        database.migrate()
        with database.read() as transaction:
            assert resources.get(transaction, LOOP, "default", "loan") == kept

    # transactions

    def test_what_is_written_is_there_for_another_connection(self, database: Database, database_url: str) -> None:
        with database.write() as transaction:
            kept = create(transaction, "loan")
        other = Database(database_url)
        try:
            with other.read() as transaction:
                assert resources.get(transaction, LOOP, "default", "loan") == kept
        finally:
            other.close()

    def test_a_transaction_that_fails_leaves_nothing(self, database: Database) -> None:
        def fail() -> None:
            with database.write() as transaction:
                create(transaction, "loan")
                transaction.execute(insert(runs).values(**new_run("k")))
                memories.remember(transaction, "default", "loan", "position", Remembered(position=1))
                raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError, match="in the middle"):
            fail()
        with database.read() as transaction:
            for table in (resources_table, changes, runs, memories_table):
                assert transaction.scalar(select(func.count()).select_from(table)) == 0, table.name

    def test_a_refused_row_takes_the_whole_transaction_with_it(self, database: Database) -> None:
        def fail() -> None:
            with database.write() as transaction:
                create(transaction, "loan")
                transaction.execute(
                    insert(tasks).values(id="t", run_id="no-such-run", name="n", component="c", state="PENDING")
                )

        with pytest.raises(IntegrityError):
            fail()
        with database.read() as transaction:
            assert resources.find(transaction, LOOP, "default", "loan") is None

    def test_a_read_keeps_nothing(self, database: Database) -> None:
        # A database may refuse to write there, or forget what was written.
        with contextlib.suppress(DBAPIError), database.read() as transaction:
            create(transaction, "loan")
        with database.read() as transaction:
            assert resources.find(transaction, LOOP, "default", "loan") is None

    def test_a_read_sees_one_state_of_the_world(self, database: Database) -> None:
        with database.write() as transaction:
            create(transaction, "first")
        with database.read() as transaction:
            before = resources.latest_sequence(transaction)
            with database.write() as writing:
                create(writing, "second")
            assert [metadata_of(each)["name"] for each in resources.listing(transaction, LOOP)] == ["first"]
            assert resources.latest_sequence(transaction) == before
        with database.read() as transaction:
            assert len(resources.listing(transaction, LOOP)) == 2

    def test_writers_wait_for_each_other(self, database: Database) -> None:
        with database.write() as transaction:
            memories.remember(transaction, "default", "loan", "count", Remembered(position=0))

        def count() -> None:
            for _ in range(10):
                with database.write() as transaction:
                    found = memories.recall(transaction, "default", "loan", "count", Remembered)
                    assert found is not None
                    memories.remember(transaction, "default", "loan", "count", Remembered(position=found.position + 1))

        self.side_by_side([count] * 4)
        with database.read() as transaction:
            found = memories.recall(transaction, "default", "loan", "count", Remembered)
        assert found == Remembered(position=40), "no count was lost"

    def test_changes_become_visible_in_the_order_of_their_numbers(self, database: Database) -> None:
        """Else a watcher that has seen a higher number would never see the lower one."""
        seen: list[int] = []
        done = threading.Event()

        def write(name: str) -> Callable[[], None]:
            def act() -> None:
                for number in range(10):
                    with database.write() as transaction:
                        create(transaction, f"{name}-{number}")

            return act

        def watch() -> None:
            while True:
                last = done.is_set()
                with database.read() as transaction:
                    found = resources.changes_since(transaction, LOOP, None, seen[-1] if seen else 0)
                seen.extend(change.sequence for change in found)
                if last:
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            self.side_by_side([write(name) for name in ("a", "b", "c")])
        finally:
            done.set()
            watcher.join()
        assert len(seen) == 30
        assert seen == sorted(seen)

    def test_one_of_many_creators_wins(self, database: Database) -> None:
        outcomes: list[str] = []

        def act() -> None:
            try:
                with database.write() as transaction:
                    create(transaction, "loan")
            except ConflictError:
                outcomes.append("conflict")
            else:
                outcomes.append("created")

        self.side_by_side([act] * 6)
        assert sorted(outcomes) == ["conflict"] * 5 + ["created"]

    def side_by_side(self, acts: list[Callable[[], None]]) -> None:
        """Run these in threads; raise the first error of any."""
        errors: list[BaseException] = []

        def guarded(act: Callable[[], None]) -> None:
            try:
                act()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def test_an_upsert_replaces_what_is_not_key(self, database: Database) -> None:
        key = {"namespace": "default", "loop": "loan", "name": "n"}
        with database.write() as transaction:
            upsert(transaction, memories_table, {**key, "document": {"a": 1}})
            upsert(transaction, memories_table, {**key, "document": {"b": [None, "ü", 2.5]}})
            rows = transaction.execute(select(memories_table)).all()
        assert [row.document for row in rows] == [{"b": [None, "ü", 2.5]}]

    # runs: one cause, one run

    def test_one_cause_starts_one_run(self, database: Database) -> None:
        with database.write() as transaction:
            first = transaction.execute(insert_ignoring(transaction, runs).values(**new_run("drift/7")))
            second = transaction.execute(insert_ignoring(transaction, runs).values(**new_run("drift/7")))
            other = transaction.execute(insert_ignoring(transaction, runs).values(**new_run("drift/8")))
        assert [first.rowcount, second.rowcount, other.rowcount] == [1, 0, 1]

    def test_one_cause_starts_one_run_also_when_many_ask(self, database: Database) -> None:
        def act() -> None:
            with database.write() as transaction:
                transaction.execute(insert_ignoring(transaction, runs).values(**new_run("drift/7")))

        self.side_by_side([act] * 6)
        with database.read() as transaction:
            assert transaction.scalar(select(func.count()).select_from(runs)) == 1

    def test_runs_without_a_cause_are_as_many_as_are_asked_for(self, database: Database) -> None:
        with database.write() as transaction:
            for _ in range(3):
                assert transaction.execute(insert_ignoring(transaction, runs).values(**new_run(None))).rowcount == 1

    def test_a_decision_on_a_cause_at_a_moment_is_one(self, database: Database) -> None:
        row = {"namespace": "default", "loop": "loan", "cause_key": "k", "fired": True, "reason": "r", "evidence": {}}
        times = {"event_us": NOW_US, "created_us": NOW_US}
        with database.write() as transaction:
            counts = [
                transaction.execute(insert_ignoring(transaction, decisions).values(**row, **times)).rowcount
                for _ in range(2)
            ]
        assert counts == [1, 0]

    # resources

    def test_a_resource_is_created_whole(self, database: Database) -> None:
        with database.write() as transaction:
            kept = create(transaction, "loan")
        assert kept["apiVersion"] == "goldenloop.dev/v1alpha1"
        assert kept["kind"] == "Loop"
        assert kept["spec"] == {"data": {"source": "rows.csv"}}
        assert kept["status"] == {}
        given = metadata_of(kept)
        assert given["name"] == "loan"
        assert given["namespace"] == "default"
        assert given["generation"] == 1
        assert given["creationTimestamp"] == "2023-11-14T22:13:20Z"
        assert len(str(given["uid"])) == 36
        with database.read() as transaction:
            assert resources.get(transaction, LOOP, "default", "loan") == kept
            assert resources.find(transaction, LOOP, "default", "loan") == kept
            assert version_of(kept) == resources.latest_sequence(transaction)

    def test_what_the_system_says_is_not_taken_from_people(self, database: Database) -> None:
        document = document_of("loan", uid="mine", generation=9, creationTimestamp="yesterday", labels={"team": "risk"})
        with database.write() as transaction:
            given = metadata_of(resources.create(transaction, LOOP, "default", document, now_us=NOW_US))
        assert given["uid"] != "mine"
        assert given["generation"] == 1
        assert given["creationTimestamp"] == "2023-11-14T22:13:20Z"
        assert given["labels"] == {"team": "risk"}

    def test_a_name_is_taken_once_per_kind_and_namespace(self, database: Database) -> None:
        with database.write() as transaction:
            create(transaction, "loan")
            create(transaction, "loan", MONITOR)
            resources.create(transaction, LOOP, "team-b", document_of("loan"), now_us=NOW_US)
            with pytest.raises(ConflictError, match="there already"):
                create(transaction, "loan")

    @pytest.mark.parametrize("name", ["", "Loan", "-loan", "loan-", "a/b", "a" * 64, "loan\n", "..", "größe"])
    def test_a_name_is_checked(self, database: Database, name: str) -> None:
        with database.write() as transaction:
            with pytest.raises(InvalidSpecError, match="is not a name") as caught:
                create(transaction, name)
            assert caught.value.where == "metadata.name"
            with pytest.raises(InvalidSpecError, match="is not a name") as caught:
                resources.create(transaction, LOOP, name, document_of("loan"), now_us=NOW_US)
            assert caught.value.where == "metadata.namespace"

    def test_what_is_not_there_is_not_found(self, database: Database) -> None:
        with database.write() as transaction:
            assert resources.find(transaction, LOOP, "default", "loan") is None
            acts: tuple[Callable[[], object], ...] = (
                lambda: resources.get(transaction, LOOP, "default", "loan"),
                lambda: resources.replace(transaction, LOOP, "default", "loan", document_of("loan")),
                lambda: resources.set_status(transaction, LOOP, "default", "loan", {}),
                lambda: resources.remove(transaction, LOOP, "default", "loan"),
            )
            for act in acts:
                with pytest.raises(NotFoundError, match="no Loop 'loan'"):
                    act()

    def test_a_list_is_in_order_and_of_its_kind_and_namespace(self, database: Database) -> None:
        with database.write() as transaction:
            for name in ("b", "a", "c"):
                create(transaction, name)
            create(transaction, "other", MONITOR)
            resources.create(transaction, LOOP, "another", document_of("z"), now_us=NOW_US)
            everywhere = [metadata_of(each)["name"] for each in resources.listing(transaction, LOOP)]
            here = [metadata_of(each)["name"] for each in resources.listing(transaction, LOOP, "default")]
        assert everywhere == ["z", "a", "b", "c"]
        assert here == ["a", "b", "c"]

    def test_a_new_spec_is_a_new_generation(self, database: Database) -> None:
        with database.write() as transaction:
            first = create(transaction, "loan")
            resources.set_status(transaction, LOOP, "default", "loan", {"phase": "Watching"})
            second = resources.replace(
                transaction, LOOP, "default", "loan", document_of("loan", {"data": {"source": "new.csv"}})
            )
        assert metadata_of(second)["generation"] == 2
        assert version_of(second) > version_of(first)
        assert metadata_of(second)["uid"] == metadata_of(first)["uid"]
        assert metadata_of(second)["creationTimestamp"] == metadata_of(first)["creationTimestamp"]
        assert second["status"] == {"phase": "Watching"}, "the status stays"

    def test_new_labels_are_no_new_generation(self, database: Database) -> None:
        with database.write() as transaction:
            first = create(transaction, "loan")
            labelled = resources.replace(
                transaction, LOOP, "default", "loan", document_of("loan", labels={"team": "risk"})
            )
            bare = resources.replace(transaction, LOOP, "default", "loan", document_of("loan"))
        assert metadata_of(labelled)["labels"] == {"team": "risk"}
        assert metadata_of(labelled)["generation"] == metadata_of(first)["generation"]
        assert "labels" not in metadata_of(bare), "what is left out of a replacement goes"

    def test_a_change_that_changes_nothing_is_none(self, database: Database) -> None:
        with database.write() as transaction:
            first = create(transaction, "loan")
            again = resources.replace(transaction, LOOP, "default", "loan", document_of("loan"))
            resources.set_status(transaction, LOOP, "default", "loan", {"phase": "Watching"})
            status = resources.get(transaction, LOOP, "default", "loan")
            same = resources.set_status(transaction, LOOP, "default", "loan", {"phase": "Watching"})
        assert version_of(again) == version_of(first)
        assert version_of(same) == version_of(status)

    def test_writing_on_an_old_version_is_a_conflict(self, database: Database) -> None:
        with database.write() as transaction:
            old = create(transaction, "loan")
            new = resources.replace(transaction, LOOP, "default", "loan", document_of("loan", {"data": {}}))
            stale: JsonObject = {**old, "spec": {"data": {"source": "x"}}}
            with pytest.raises(ConflictError, match="Read it again") as caught:
                resources.replace(transaction, LOOP, "default", "loan", stale)
            assert caught.value.where == "metadata.resourceVersion"
            seen = metadata_of(old)["resourceVersion"]
            with pytest.raises(ConflictError, match="Read it again"):
                resources.set_status(transaction, LOOP, "default", "loan", {"phase": "x"}, read_at=seen)
            assert resources.get(transaction, LOOP, "default", "loan") == new
            fresh = metadata_of(new)["resourceVersion"]
            written = resources.set_status(transaction, LOOP, "default", "loan", {"phase": "x"}, read_at=fresh)
            assert written["status"] == {"phase": "x"}
            assert resources.replace(transaction, LOOP, "default", "loan", written) == written

    def test_one_of_two_writers_on_the_same_version_wins(self, database: Database) -> None:
        with database.write() as transaction:
            old = create(transaction, "loan")
        outcomes: list[str] = []

        def act() -> None:
            document: JsonObject = {**old, "spec": {"data": {"source": uuid7()}}}
            try:
                with database.write() as transaction:
                    resources.replace(transaction, LOOP, "default", "loan", document)
            except ConflictError:
                outcomes.append("conflict")
            else:
                outcomes.append("replaced")

        self.side_by_side([act] * 4)
        assert sorted(outcomes) == ["conflict"] * 3 + ["replaced"]

    # owners

    def test_what_an_owner_created_goes_with_it(self, database: Database) -> None:
        with database.write() as transaction:
            loop = create(transaction, "loan")
            monitor = create(transaction, "loan", MONITOR, owner=loop)
            create(transaction, "deeper", TRIGGER, owner=monitor)
            create(transaction, "stranger", MONITOR)
            removed = resources.remove(transaction, LOOP, "default", "loan")
            assert removed == loop
            assert resources.listing(transaction, LOOP) == []
            assert resources.listing(transaction, TRIGGER) == []
            assert [metadata_of(each)["name"] for each in resources.listing(transaction, MONITOR)] == ["stranger"]
            gone = [(each.type, each.document["kind"]) for kind in (LOOP, MONITOR, TRIGGER)
                    for each in resources.changes_since(transaction, kind, None, version_of(loop))
                    if each.type == "DELETED"]  # fmt: skip
        assert sorted(gone) == [("DELETED", "Loop"), ("DELETED", "Monitor"), ("DELETED", "Trigger")]

    def test_what_is_owned_is_changed_by_its_owner_alone(self, database: Database) -> None:
        changed = document_of("loan", {"service": "other"})
        with database.write() as transaction:
            loop = create(transaction, "loan")
            owner = str(metadata_of(loop)["uid"])
            mine = create(transaction, "loan", MONITOR, owner=loop)
            acts: tuple[Callable[[], object], ...] = (
                lambda: resources.replace(transaction, MONITOR, "default", "loan", changed),
                lambda: resources.replace(transaction, MONITOR, "default", "loan", changed, by=uuid7()),
                lambda: resources.remove(transaction, MONITOR, "default", "loan"),
            )
            for act in acts:
                with pytest.raises(RefusedError, match=r"belongs to Loop 'loan'.*Change the Loop"):
                    act()
            assert resources.get(transaction, MONITOR, "default", "loan") == mine
            written = resources.replace(transaction, MONITOR, "default", "loan", changed, by=owner)
            assert written["spec"] == {"service": "other"}
            assert metadata_of(written)["ownerReferences"] == metadata_of(mine)["ownerReferences"], "it stays owned"
            resources.set_status(transaction, MONITOR, "default", "loan", {"window": 3})
            resources.remove(transaction, MONITOR, "default", "loan", by=owner)
            assert resources.find(transaction, MONITOR, "default", "loan") is None

    @pytest.mark.parametrize("references", [[{"uid": "nobody"}], [{}], "loan", ["loan"], [{"uid": 1}]])
    def test_an_owner_has_to_be_there(self, database: Database, references: Json) -> None:
        document = document_of("orphan", ownerReferences=references)
        with database.write() as transaction:
            create(transaction, "grown")
            with pytest.raises(InvalidSpecError, match="no such owner") as caught:
                resources.create(transaction, LOOP, "default", document, now_us=NOW_US)
            assert caught.value.where == "metadata.ownerReferences"
            with pytest.raises(InvalidSpecError, match="no such owner"):
                resources.replace(transaction, LOOP, "default", "grown", document)

    # what watchers follow

    def test_changes_are_told_in_order(self, database: Database) -> None:
        with database.write() as transaction:
            created = create(transaction, "loan")
            create(transaction, "loan", MONITOR)
            resources.create(transaction, LOOP, "another", document_of("loan"), now_us=NOW_US)
            replaced = resources.replace(transaction, LOOP, "default", "loan", document_of("loan", {"data": {}}))
            status = resources.set_status(transaction, LOOP, "default", "loan", {"phase": "Watching"})
            resources.remove(transaction, LOOP, "default", "loan")
            found = resources.changes_since(transaction, LOOP, "default", 0)
            latest = resources.latest_sequence(transaction)
            everywhere = resources.changes_since(transaction, LOOP, None, 0)
            rest = resources.changes_since(transaction, LOOP, "default", found[1].sequence)
            some = resources.changes_since(transaction, LOOP, "default", 0, limit=2)
        assert [change.type for change in found] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
        assert [change.document for change in found[:3]] == [created, replaced, status]
        assert [version_of(change.document) for change in found] == [change.sequence for change in found]
        assert found[-1].sequence == latest
        assert found[-1].document["status"] == {"phase": "Watching"}, "what it was when it went"
        assert len(everywhere) == 5
        assert rest == found[2:]
        assert some == found[:2]

    def test_old_changes_are_dropped_and_asking_for_them_says_gone(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resources, "CHANGES_KEPT", 100)
        with database.write() as transaction:
            create(transaction, "loan")
            for number in range(500):  # old ones are dropped at every five hundredth
                resources.set_status(transaction, LOOP, "default", "loan", {"number": number})
            latest = resources.latest_sequence(transaction)
            kept = resources.changes_since(transaction, LOOP, None, latest - 50)
            assert [change.sequence for change in kept] == list(range(latest - 49, latest + 1))
            assert transaction.scalar(select(func.count()).select_from(changes)) == 101
            with pytest.raises(ConflictError, match=r"too old.*List again"):
                resources.changes_since(transaction, LOOP, None, 100)
            assert resources.get(transaction, LOOP, "default", "loan")["status"] == {"number": 499}

    # memories

    def test_memories_come_back_as_they_were(self, database: Database) -> None:
        memory = Remembered(position=2**60, values=(0.1, -1e300, 5.0), text="naïve \N{SNOWMAN}")
        with database.write() as transaction:
            assert memories.recall(transaction, "default", "loan", "p", Remembered) is None
            memories.remember(transaction, "default", "loan", "p", Remembered(position=1))
            memories.remember(transaction, "default", "loan", "p", memory)
            memories.remember(transaction, "default", "loan", "q", Remembered(position=7))
            memories.remember(transaction, "default", "other", "p", Remembered(position=8))
        with database.read() as transaction:
            assert memories.recall(transaction, "default", "loan", "p", Remembered) == memory
            assert memories.recall(transaction, "default", "other", "p", Remembered) == Remembered(position=8)
            assert memories.recall(transaction, "elsewhere", "loan", "p", Remembered) is None

    def test_memories_are_forgotten_one_or_all(self, database: Database) -> None:
        with database.write() as transaction:
            for loop, name in (("loan", "p"), ("loan", "q"), ("loan", "r"), ("other", "p")):
                memories.remember(transaction, "default", loop, name, Remembered(position=1))
            memories.forget_one(transaction, "default", "loan", "p")
            assert memories.recall(transaction, "default", "loan", "p", Remembered) is None
            assert memories.recall(transaction, "default", "loan", "q", Remembered) is not None
            memories.forget(transaction, "default", "loan")
            assert memories.recall(transaction, "default", "loan", "q", Remembered) is None
            assert memories.recall(transaction, "default", "other", "p", Remembered) is not None

    # versions

    def test_versions_are_numbered_from_one_per_model(self, database: Database) -> None:
        with database.write() as transaction:
            numbers = [versions.register(transaction, new_version(), now_us=NOW_US).number for _ in range(3)]
            other = versions.register(transaction, new_version(model="other"), now_us=NOW_US)
            assert [each.number for each in versions.listing(transaction, "default", "loan")] == numbers == [1, 2, 3]
        assert other.number == 1

    def test_a_version_comes_back_as_it_was_registered(self, database: Database) -> None:
        given = new_version(run_id=uuid7())
        with database.write() as transaction:
            versions.register(transaction, given, now_us=NOW_US)
        with database.read() as transaction:
            found = versions.get(transaction, "default", "loan", 1)
        assert found.state is VersionState.REGISTERED
        for field in msgspec.structs.fields(NewVersion):
            assert getattr(found, field.name) == getattr(given, field.name), field.name
        assert found.created_us == NOW_US

    def test_a_run_registers_once(self, database: Database) -> None:
        run = uuid7()
        with database.write() as transaction:
            first = versions.register(transaction, new_version(run), now_us=NOW_US)
            second = versions.register(transaction, new_version(run), now_us=NOW_US + 1)
            assert first == second
            assert len(versions.listing(transaction, "default", "loan")) == 1
            assert versions.register(transaction, new_version(uuid7()), now_us=NOW_US).number == 2

    def test_a_version_that_is_not_there_is_not_found(self, database: Database) -> None:
        with database.read() as transaction, pytest.raises(NotFoundError, match="no version 3"):
            versions.get(transaction, "default", "loan", 3)

    @pytest.mark.parametrize("state", list(VersionState))
    def test_a_version_moves_as_the_table_of_phases_says(self, database: Database, state: VersionState) -> None:
        with database.write() as transaction:
            for target in VersionState:
                registered = versions.register(transaction, new_version(), now_us=NOW_US)
                version = self.brought_to(transaction, registered, state)
                if target is state:
                    assert versions.move(transaction, version, target) == version
                elif target in VERSION_TRANSITIONS[state]:
                    assert versions.move(transaction, version, target).state is target
                    assert versions.get(transaction, "default", "loan", version.number).state is target
                else:
                    with pytest.raises(ConflictError, match=f"cannot become {target}"):
                        versions.move(transaction, version, target)
                    assert versions.get(transaction, "default", "loan", version.number).state is state

    def brought_to(self, transaction: Transaction, version: ModelVersion, state: VersionState) -> ModelVersion:
        """Move a registered version to a state along the shortest way."""
        ways: list[list[VersionState]] = [[VersionState.REGISTERED]]
        for way in ways:
            if way[-1] is state:
                for step in way[1:]:
                    version = versions.move(transaction, version, step)
                return version
            ways += [[*way, following] for following in sorted(VERSION_TRANSITIONS[way[-1]]) if following not in way]
        raise AssertionError(f"no way leads to {state}")

    def test_a_version_that_was_moved_meanwhile_is_a_conflict(self, database: Database) -> None:
        with database.write() as transaction:
            stale = versions.register(transaction, new_version(), now_us=NOW_US)
            versions.move(transaction, stale, VersionState.REFUSED)
            with pytest.raises(ConflictError, match="no longer Registered"):
                versions.move(transaction, stale, VersionState.BLESSED)
            assert versions.get(transaction, "default", "loan", 1).state is VersionState.REFUSED

    def test_one_version_at_most_is_golden(self, database: Database) -> None:
        with database.write() as transaction:
            assert versions.golden(transaction, "default", "loan") is None
            made = []
            for _ in range(3):
                version = versions.register(transaction, new_version(), now_us=NOW_US)
                version = versions.move(transaction, version, VersionState.BLESSED)
                made.append(versions.make_golden(transaction, version))
                golden = versions.golden(transaction, "default", "loan")
                assert golden == made[-1]
                states = [each.state for each in versions.listing(transaction, "default", "loan")]
                assert states.count(VersionState.GOLDEN) == 1
            assert versions.make_golden(transaction, made[-1]) == made[-1], "a second time changes nothing"
            previous = versions.previous_golden(transaction, "default", "loan")
            assert previous is not None
            assert previous.number == 2
            versions.make_golden(transaction, previous, quarantine_old=True)
            states = [each.state for each in versions.listing(transaction, "default", "loan")]
        assert states == [VersionState.RETIRED, VersionState.GOLDEN, VersionState.QUARANTINED]

    def test_what_was_not_blessed_cannot_be_golden(self, database: Database) -> None:
        with database.write() as transaction:
            first = versions.register(transaction, new_version(), now_us=NOW_US)
            golden = versions.make_golden(transaction, versions.move(transaction, first, VersionState.BLESSED))
            second = versions.register(transaction, new_version(), now_us=NOW_US)
        with database.write() as transaction, pytest.raises(ConflictError, match="cannot become Golden"):
            versions.make_golden(transaction, second)
        with database.read() as transaction:
            assert versions.golden(transaction, "default", "loan") == golden, "the champion stays"

    def test_the_last_verdict_is_in_force(self, database: Database) -> None:
        def verdict(verdict: Verdict, reason: str) -> Evaluation:
            return Evaluation(
                namespace="default",
                model="loan",
                challenger=1,
                champion=None,
                verdict=verdict,
                reason=reason,
                evidence={"accuracy": {"value": 0.75}},
                decided_by="gate",
            )

        with database.write() as transaction:
            assert versions.last_evaluation(transaction, "default", "loan", 1) is None
            versions.record_evaluation(transaction, verdict(Verdict.INCONCLUSIVE, "too few rows"), now_us=NOW_US)
            versions.record_evaluation(transaction, verdict(Verdict.PASS, "better"), now_us=NOW_US)
            assert versions.last_evaluation(transaction, "default", "loan", 1) == verdict(Verdict.PASS, "better")
            assert versions.last_evaluation(transaction, "default", "loan", 2) is None

    # the timeline

    def test_the_timeline_is_read_in_order_from_anywhere(self, database: Database) -> None:
        def happening(number: int, loop: str = "loan") -> Happening:
            return Happening(
                namespace="default",
                loop=loop,
                kind="Tick",
                text=f"line {number}",
                facts={"number": number},
                event_us=NOW_US + number,
                created_us=NOW_US,
            )

        with database.write() as transaction:
            for number in range(5):
                timeline.tell(transaction, happening(number))
                timeline.tell(transaction, happening(number, "other"))
        with database.read() as transaction:
            lines = timeline.read(transaction, "default", "loan")
            assert [line["text"] for line in lines] == [f"line {number}" for number in range(5)]
            assert lines[3]["facts"] == {"number": 3}
            assert lines[1]["at"] == "2023-11-14T22:13:20.000001Z"
            assert lines[1]["recorded"] == "2023-11-14T22:13:20Z"
            third = int(str(lines[2]["sequence"]))
            assert timeline.read(transaction, "default", "loan", after=third) == lines[3:]
            assert timeline.read(transaction, "default", "loan", limit=2) == lines[:2]
            assert timeline.read(transaction, "elsewhere", "loan") == []

    def test_a_line_is_written_with_what_it_tells_or_not_at_all(self, database: Database) -> None:
        line = Happening(
            namespace="default", loop="loan", kind="K", text="t", facts={}, event_us=NOW_US, created_us=NOW_US
        )

        def fail() -> None:
            with database.write() as transaction:
                timeline.tell(transaction, line)
                raise RuntimeError("the thing itself failed")

        with pytest.raises(RuntimeError):
            fail()
        with database.read() as transaction:
            assert timeline.read(transaction, "default", "loan") == []

    def test_baselines_are_kept_beside_a_loop(self, database: Database) -> None:
        kept = Baselines(policies={"never": Baseline(windows=(0.5, None, 0.25), runs=1)})
        with database.write() as transaction:
            assert read_baselines(transaction, "default", "loan") == {}
            keep_baselines(transaction, "default", "loan", kept)
            shown = read_baselines(transaction, "default", "loan")
        assert shown == {
            "never": [{"index": 0, "value": 0.5}, {"index": 1, "value": None}, {"index": 2, "value": 0.25}]
        }
