"""Prometheus and Alertmanager themselves against a platform that runs: what is exported works, and an alert starts one run."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.support.platform import Platform, loop_file, running, typed, wait_for
from tests.support.prometheus_tools import alertmanager_server, free_port, needs_servers, prometheus_server
from tests.support.streams import Sender, make_rows, write_history

LOOP = "heat"
PAST, ROWS = make_rows(1, history=800, before=120, after=0)
OBJECTIVES = [
    {"indicator": "availability", "target": ">= 90 %", "window": "1h"},
    {"indicator": "latency_p99_ms", "target": "<= 5000", "window": "1h"},
    {"indicator": "accuracy", "target": ">= 0.5", "window": "28d"},
    {
        "indicator": "latency",
        "below": "0.5ms",
        "target": ">= 99.9 %",
        "window": "1h",
        "alerts": [{"factor": 10, "long": "10m", "short": "5m"}],
    },
]
PIPELINE = """
from kfp import dsl


@dsl.component
def note() -> str:
    return "seen"


@dsl.pipeline(name="noted")
def noted():
    note()
"""

pytestmark = needs_servers


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a loop that answers, and was asked for a window's rows."""
    folder = tmp_path_factory.mktemp("prometheus")
    write_history(folder / "history.csv", PAST)
    spec = {
        "data": {"source": "history.csv", "label": "label", "timestamp": "at"},
        "labels": {"delay": "7h"},
        "windows": {"size": "6h"},
        "replay": True,
        "objectives": OBJECTIVES,
    }
    loop_file(folder, LOOP, spec)  # type: ignore[arg-type]
    with running(folder / "home", workers=1) as started:
        applied = typed("apply", "-f", str(folder / f"{LOOP}.yaml"), "--wait", home=started.home)
        assert applied.returncode == 0, applied.stderr
        Sender(started.inference, LOOP).send(ROWS)
        wait_for(
            lambda: started.rows("select id from measurements where metric = 'accuracy' and monitor = 'performance'"),
            "a window whose labels are due",
        )
        yield started


def ask_again(platform: Platform, times: int) -> None:
    """More requests at the event time of the last: they are answered, and no window closes for them."""
    sender = Sender(platform.inference, LOOP)
    for _ in range(times):
        sender.predict(ROWS[-1])


def configured(platform: Platform, folder: Path, alertmanager: int) -> Path:
    """What `export prometheus` writes, made quick for a test."""
    done = typed(
        *("export", "prometheus", "--output-dir", str(folder), "--alertmanager", f"127.0.0.1:{alertmanager}"),
        home=platform.home,
    )
    assert done.returncode == 0, done.stderr
    path = folder / "prometheus.yml"
    content = yaml.safe_load(path.read_text())
    content["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    path.write_text(yaml.safe_dump(content))
    path = folder / "alertmanager.yml"
    content = yaml.safe_load(path.read_text())
    content["route"] |= {"group_wait": "1s", "group_interval": "1s", "repeat_interval": "2s"}
    path.write_text(yaml.safe_dump(content))
    return folder


def test_every_query_of_every_dashboard_is_answered_and_an_alert_starts_one_run(
    platform: Platform, tmp_path: Path
) -> None:
    """A latency that nothing keeps: rule, Alertmanager, webhook, Trigger, run. Alertmanager repeats itself, and the run is one."""
    port = free_port()
    folder = configured(platform, tmp_path / "monitoring", port)
    boards = tmp_path / "dashboards"
    assert typed("export", "grafana", "--output-dir", str(boards)).returncode == 0
    (tmp_path / "noted.py").write_text(PIPELINE)
    trigger = {
        "apiVersion": "goldenloop.dev/v1alpha1",
        "kind": "Trigger",
        "metadata": {"name": "on-burn"},
        "spec": {
            "on": [{"alert": {"name": "GoldenloopErrorBudgetBurn", "labels": {"sloth_slo": f"{LOOP}-latency-3"}}}],
            "pipeline": "noted",
            "concurrency": "queue",
        },
    }
    upload(platform, tmp_path / "noted.py")
    (tmp_path / "trigger.yaml").write_text(json.dumps(trigger))
    applied = typed("apply", "-f", str(tmp_path / "trigger.yaml"), home=platform.home)
    assert applied.returncode == 0, applied.stderr
    with alertmanager_server(folder / "alertmanager.yml", port), prometheus_server(folder / "prometheus.yml") as server:
        expected = 'goldenloop_error_budget_remaining{service="heat",slo="heat-accuracy-2"}'
        wait_for(lambda: server.query(expected), "the first scrape")
        end = time.monotonic() + 30
        unanswered = ["?"]
        while unanswered and time.monotonic() < end:
            ask_again(platform, 5)
            unanswered = [query for query in queries(boards) if not server.query(query)]
            time.sleep(0.3)
        assert unanswered == []
        run = "select id from runs where started_by is not null"
        wait_for(lambda: platform.rows(run), "the run of the alert")
        webhook = f"http://127.0.0.1:{port}/metrics"

        def repeated() -> bool:
            with urllib.request.urlopen(webhook, timeout=5) as answer:
                lines = answer.read().decode().splitlines()
            sent = [
                line for line in lines if line.startswith('alertmanager_notifications_total{integration="webhook"}')
            ]
            return float(sent[0].rpartition(" ")[2]) >= 3

        wait_for(repeated, "Alertmanager's repetitions")
        assert len(platform.rows(run)) == 1


def queries(boards: Path) -> list[str]:
    """Every query of every panel, with the variables filled in as a person would."""
    found = []
    for path in sorted(boards.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            found += [each["expr"].replace("$namespace", "default").replace("$loop", LOOP) for each in panel["targets"]]
    assert len(found) > 25
    return found


def upload(platform: Platform, source: Path) -> None:
    """Keep the pipeline under its name, as kfp's client does."""
    import kfp
    from kfp import compiler

    package = source.with_suffix(".yaml")
    names: dict[str, object] = {}
    exec(compile(source.read_text(), str(source), "exec", dont_inherit=True), names)
    compiler.Compiler().compile(names["noted"], str(package))
    assert platform.addresses is not None
    kfp.Client(host=platform.addresses.http).upload_pipeline(str(package), pipeline_name="noted")
