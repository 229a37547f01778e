"""Other policies beside a loop; that they are kept in every database is in goldenloop.testing.stores."""

from __future__ import annotations

from pathlib import Path

from goldenloop.lineage.baselines import Baseline, Baselines, keep_baselines, read_baselines
from goldenloop.store.database import Database, sqlite_url


def test_a_new_comparison_takes_the_place_of_the_old(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "state.db"))
    database.migrate()
    old = Baselines(policies={"never": Baseline(windows=(0.5,), runs=1), "periodic": Baseline(windows=(0.6,), runs=9)})
    new = Baselines(policies={"never": Baseline(windows=(0.7, 0.8), runs=1, overall=0.75)})
    with database.write() as transaction:
        keep_baselines(transaction, "default", "loan", old)
        keep_baselines(transaction, "default", "loan", new)
        keep_baselines(transaction, "default", "other", old)
    with database.read() as transaction:
        shown = read_baselines(transaction, "default", "loan")
        assert shown == {"never": [{"index": 0, "value": 0.7}, {"index": 1, "value": 0.8}]}
        assert set(read_baselines(transaction, "default", "other")) == {"never", "periodic"}
        assert read_baselines(transaction, "elsewhere", "loan") == {}
    database.close()
