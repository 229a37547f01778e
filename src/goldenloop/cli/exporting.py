"""`goldenloop export`: what other systems need of this one, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import typer

from goldenloop import __version__
from goldenloop.cli.output import Output, console, guarded, say
from goldenloop.client import Client
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.grafana import DASHBOARDS, dashboard
from goldenloop.standards.openslo import ServiceLevel, read_slo
from goldenloop.standards.prometheus_rules import rules_of

export = typer.Typer(
    help="Write what other systems need: rules for Prometheus, dashboards for Grafana.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_RULES = "goldenloop-rules.yaml"
_ALERTMANAGER = "127.0.0.1:9093"

HomeOption = Annotated[Path, typer.Option("--home", envvar="GOLDENLOOP_HOME", help="The folder of the installation.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print: text, json or yaml.")]
FolderOption = Annotated[Path | None, typer.Option("--output-dir", help="A folder to write into; it is made.")]


@export.command()
@guarded
def prometheus(
    slo: Annotated[list[str] | None, typer.Argument(help="Only these SLOs; all by default.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Write the rules into this file only.")] = None,
    output_dir: FolderOption = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Only of this namespace; all by default.")
    ] = None,
    alertmanager: Annotated[
        str, typer.Option(help="HOST:PORT of the Alertmanager to name in prometheus.yml.")
    ] = _ALERTMANAGER,
    home: HomeOption = Path(".goldenloop"),
    output: OutputOption = Output.TEXT,
) -> None:
    """Recording and alerting rules of all SLOs, under Sloth's names; with --output-dir also prometheus.yml and alertmanager.yml."""
    client = Client.of_home(home)
    rules = rules_of(_levels(client, slo or [], namespace), version=f"goldenloop-{__version__}")
    if not rules["groups"]:
        raise NotFoundError(
            "there is no objective to make rules of",
            mend="Write objectives into a Loop, or apply an SLO; see: goldenloop get slos.",
        )
    if file is not None and output_dir is not None:
        raise InvalidSpecError("--file and --output-dir are two answers to one question", mend="Give one of them.")
    addresses = client.addresses
    if output_dir is not None:
        files: dict[str, JsonObject] = {
            _RULES: rules,
            "prometheus.yml": _prometheus(addresses.http, addresses.inference, alertmanager),
            "alertmanager.yml": _alertmanager(addresses.http),
        }
        _write({output_dir / name: _yaml(content) for name, content in files.items()}, output)
    elif file is not None:
        _write({file: _yaml(rules)}, output)
    else:
        say(output, rules, lambda: console.print(_yaml(rules), markup=False, end=""))


@export.command()
@guarded
def grafana(
    output_dir: FolderOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Dashboards: the loop, its serving, its objectives. Without --output-dir they are printed as one JSON document."""
    boards = {uid: dashboard(uid) for uid in DASHBOARDS}
    if output_dir is not None:
        text = {output_dir / f"{uid}.json": _json(board) for uid, board in boards.items()}
        _write(text, output)
        return
    shown: Json = dict(boards)
    say(output, shown, lambda: console.print(_json(shown), markup=False, end=""))


def _levels(client: Client, names: list[str], namespace: str | None) -> list[tuple[str, ServiceLevel]]:
    """The objectives of the SLOs that are there. Raises NotFoundError for a name that none has."""
    found: list[tuple[str, ServiceLevel]] = []
    there = set()
    for document in client.listing("slos", namespace=namespace):
        metadata = document["metadata"]
        assert isinstance(metadata, dict)
        name = str(metadata["name"])
        there.add(name)
        if not names or name in names:
            found += [(str(metadata["namespace"]), level) for level in read_slo(name, document["spec"])]
    for name in names:
        if name not in there:
            raise NotFoundError(f"there is no SLO {name!r}", mend="See: goldenloop get slos.")
    return found


def _prometheus(http: str, inference: str, alertmanager: str) -> JsonObject:
    """A configuration that scrapes both ports, evaluates the rules and sends alerts."""
    jobs: list[Json] = [
        {"job_name": job, "static_configs": [{"targets": [urlsplit(address).netloc]}]}
        for job, address in (("goldenloop-control", http), ("goldenloop-inference", inference))
    ]
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": [_RULES],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": jobs,
    }


def _alertmanager(http: str) -> JsonObject:
    """A configuration that brings every alert back to the platform, where Triggers on alerts make runs of them."""
    return {
        "route": {"receiver": "goldenloop", "group_by": ["alertname", "sloth_id"], "group_wait": "10s"},
        "receivers": [
            {"name": "goldenloop", "webhook_configs": [{"url": f"{http}/webhooks/alertmanager", "send_resolved": True}]}
        ],
    }


def _write(files: dict[Path, str], output: Output) -> None:
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            raise InvalidSpecError(
                f"{path} cannot be written: {error.strerror}", where=str(path), mend="Give another place."
            ) from error
    names = [str(path) for path in files]
    say(output, {"written": list(names)}, "\n".join(f"wrote {name}" for name in names))


def _yaml(content: JsonObject) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)


def _json(content: Json) -> str:
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"
