"""A version is what was signed when it was registered, or it is not served."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from ring_worlds import LOOP_NAME, NAMESPACE, Rule, Scenario, Simulation
from sqlalchemy import delete, update

from goldenloop.control import byhand
from goldenloop.control.attesting import Attestor, Checked, bundle_of
from goldenloop.control.memory import RolloutMemory
from goldenloop.control.progress import ROLLOUT
from goldenloop.control.ring import Ring
from goldenloop.core.errors import InvalidSpecError, RefusedError, UnavailableError
from goldenloop.core.json import JsonObject
from goldenloop.lineage import timeline
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion
from goldenloop.standards.attestation import read_bundle
from goldenloop.store import memories
from goldenloop.store.tables import attestations
from goldenloop.store.tables import versions as version_table

QUIET = Scenario(train=lambda number, _: Rule(errors=(0.1, 0.1), salt=0.37 * number), windows=12, rows_per_window=25)


class Signed:
    """A simulated loop whose versions are signed."""

    def __init__(self, folder: Path) -> None:
        self.key_file = folder / "attestation.key"
        self.simulation = Simulation(folder / "world", QUIET)
        self.world = self.simulation.world
        self.world.attestor = Attestor.of_file(self.key_file)
        self._rows = QUIET.rows(1)
        self._sent = 0
        self.simulation.replay.begin()
        self.send(1)

    def send(self, windows: int) -> None:
        following = self._sent + windows * QUIET.rows_per_window
        self.simulation.replay.send(self._rows[self._sent : following])
        self._sent = following

    def version(self, number: int) -> ModelVersion:
        with self.world.database.read() as transaction:
            return versions.get(transaction, NAMESPACE, LOOP_NAME, number)

    def bundle(self, number: int) -> JsonObject:
        with self.world.database.read() as transaction:
            found = bundle_of(transaction, versions.get(transaction, NAMESPACE, LOOP_NAME, number))
        assert isinstance(found, dict)
        return found

    def checked(self, number: int) -> Checked:
        attestor = Attestor.of_file(self.key_file)
        with self.world.database.read() as transaction:
            return attestor.check(transaction, versions.get(transaction, NAMESPACE, LOOP_NAME, number))

    def tamper(self, number: int) -> str:
        """Change one file of the served form; return its name."""
        folder = self.world.artifacts.local(self.version(number).folder)
        file = next(path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
        file.chmod(0o644)
        file.write_bytes(file.read_bytes() + b" ")
        return str(file.name)

    def look_again(self) -> Ring:
        """What a control process that starts anew sees first."""
        self.world.attestor = Attestor.of_file(self.key_file)
        ring = Ring(self.world, self.simulation.router.table)
        ring.advance()
        return ring

    def story(self) -> list[JsonObject]:
        with self.world.database.read() as transaction:
            return timeline.read(transaction, NAMESPACE, LOOP_NAME)

    def rollout(self) -> RolloutMemory | None:
        with self.world.database.read() as transaction:
            return memories.recall(transaction, NAMESPACE, LOOP_NAME, ROLLOUT, RolloutMemory)


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path)


def test_anybody_can_check_a_version_with_the_public_key_alone(signed: Signed) -> None:
    document, version = signed.bundle(1), signed.version(1)
    assert document["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    envelope = document["dsseEnvelope"]
    assert isinstance(envelope, dict)
    payload = base64.b64decode(str(envelope["payload"]))
    kind = str(envelope["payloadType"]).encode()
    key = load_pem_public_key(signed.key_file.with_suffix(".pub").read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    signature = base64.b64decode(str(envelope["signatures"][0]["sig"]))  # type: ignore[index, call-overload]
    key.verify(signature, b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
    said = msgspec.json.decode(payload)
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert said["subject"][1] == {
        "name": f"{NAMESPACE}/{LOOP_NAME}/1/model",
        "digest": {"sha256": version.digest},
    }
    assert said["predicate"]["runDetails"]["metadata"]["invocationId"] == version.run_id
    named = {each["name"] for each in said["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert named >= {"data", "evaluation_data"}
    assert signed.checked(1).state == "signed"
    assert signed.checked(1).run == version.run_id
    assert signed.key_file.stat().st_mode & 0o077 == 0


def test_a_champion_whose_file_was_changed_is_refused_and_what_was_served_stays(signed: Signed) -> None:
    file = signed.tamper(1)
    ring = signed.look_again()
    assert [(service.name, service.champion) for service in ring.table.services] == [(LOOP_NAME, "1")]
    (said,) = [line["text"] for line in signed.story() if line["kind"] == "Error"]
    assert f"version 1 is refused: {file} was changed since it was signed" in str(said)


def test_a_challenger_that_is_not_what_was_signed_ends_its_rollout(signed: Signed) -> None:
    byhand.run_now(signed.world, NAMESPACE, LOOP_NAME, reason="a new column")
    signed.send(1)
    assert signed.rollout() is not None
    with signed.world.database.write() as transaction:
        transaction.execute(update(version_table).where(version_table.c.number == 2).values(digest="0" * 64))
    signed.look_again()
    assert signed.rollout() is None
    assert "is not what was signed" in str(signed.story()[-1]["text"])
    assert signed.version(1).state == "Golden"
    with pytest.raises(RefusedError, match="version 2 is refused: default/sim/2/model is not what was signed"):
        byhand.promote(signed.world, NAMESPACE, LOOP_NAME, version=2, reason="all the same")


def test_the_run_that_made_it_is_part_of_what_is_signed(signed: Signed) -> None:
    run = signed.version(1).run_id
    with signed.world.database.write() as transaction:
        transaction.execute(update(version_table).where(version_table.c.number == 1).values(run_id="another"))
    assert signed.checked(1).why == f"run {run} was signed as the one that made it"


@pytest.mark.parametrize("what", ["payload", "signature", "key", "no bundle"])
def test_a_signature_that_does_not_fit_is_named(signed: Signed, what: str) -> None:
    document = signed.bundle(1)
    envelope = document["dsseEnvelope"]
    assert isinstance(envelope, dict)
    if what == "payload":
        payload = base64.b64decode(str(envelope["payload"])).replace(b'"finishedOn"', b'"FinishedOn"')
        envelope["payload"] = base64.b64encode(payload).decode()
    elif what == "signature":
        envelope["signatures"] = [{"sig": base64.b64encode(bytes(64)).decode()}]
    elif what == "key":
        signed.key_file.unlink()
    else:
        del document["dsseEnvelope"]
    with signed.world.database.write() as transaction:
        transaction.execute(update(attestations).values(bundle=document))
    checked = signed.checked(1)
    assert checked.state == "unfit"
    assert ("no Sigstore bundle" if what == "no bundle" else "its signature is not one of the key") in checked.why


def test_a_version_from_before_there_were_signatures_is_served_and_called_unsigned(signed: Signed) -> None:
    with signed.world.database.write() as transaction:
        transaction.execute(delete(attestations))
    signed.look_again()
    assert signed.checked(1).state == "unsigned"
    assert all(line["kind"] != "Error" for line in signed.story())


def test_a_key_file_that_holds_no_key_is_named_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "attestation.key"
    file.write_bytes(b"half")
    with pytest.raises(UnavailableError, match="it holds no Ed25519 key"):
        Attestor.of_file(file)
    assert file.read_bytes() == b"half"


@pytest.mark.parametrize("document", [None, [], {}, {"mediaType": "x"}], ids=["null", "list", "empty", "other"])
def test_what_is_no_bundle_is_said_so(document: object) -> None:
    with pytest.raises(InvalidSpecError, match="no Sigstore bundle"):
        read_bundle(document)
