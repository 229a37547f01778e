"""Accepting model files that run code when they are loaded."""

from __future__ import annotations

from pathlib import Path

import httpx
import joblib
import msgspec
from sklearn.dummy import DummyClassifier

from goldenloop.control.platform import Platform
from goldenloop.control.trusting import trusted_digests
from goldenloop.core.served import ServedForm
from goldenloop.serving.predictors.trust import reason_to_refuse

TRUSTED = "/goldenloop/v1alpha1/trusted"
DIGEST = "ab" * 32


def test_trust_is_given_and_taken_back(http: httpx.Client, platform: Platform) -> None:
    given = http.post(TRUSTED, json={"digest": DIGEST, "reason": "mine"})
    assert given.status_code == 200
    assert given.json()["reason"] == "mine"
    assert http.post(TRUSTED, json={"digest": DIGEST, "reason": "again"}).json() == given.json()
    assert http.get(TRUSTED).json()["items"] == [given.json()]
    assert trusted_digests(platform.database) == (DIGEST,)
    assert http.delete(f"{TRUSTED}/{DIGEST}").json() == {"distrusted": DIGEST}
    assert trusted_digests(platform.database) == ()
    assert http.delete(f"{TRUSTED}/{DIGEST}").status_code == 404


def test_what_is_no_digest(http: httpx.Client) -> None:
    for body in (
        {"digest": "model.joblib"},
        {"digest": DIGEST.upper()},
        {},
        {"digest": 3},
        {"digest": DIGEST, "more": 1},
        [],
    ):
        assert 400 <= http.post(TRUSTED, json=body).status_code < 500
    assert http.get(TRUSTED).json() == {"items": []}


def test_the_platform_signs_so_that_its_host_believes(platform: Platform, tmp_path: Path) -> None:
    joblib.dump(DummyClassifier(), tmp_path / "model.joblib")
    form = ServedForm(form="tensors", runtime="process", loader="pickle", file="model.joblib")
    (tmp_path / "served.json").write_bytes(msgspec.json.encode(form))
    key = platform.home.signing_key()
    assert len(key) == 32
    assert platform.home.signing_key_file.stat().st_mode & 0o077 == 0
    assert reason_to_refuse(tmp_path, key)
    platform.world.sign(tmp_path)
    assert reason_to_refuse(tmp_path, platform.home.signing_key()) == ""
