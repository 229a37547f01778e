"""`goldenloop`: the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from goldenloop import __version__
from goldenloop.cli.approving import approve, refuse
from goldenloop.cli.converting import convert
from goldenloop.cli.exporting import export
from goldenloop.cli.output import Output, console, guarded, say
from goldenloop.cli.recording import audit, query
from goldenloop.cli.reporting import report
from goldenloop.cli.reproducing import reproduce
from goldenloop.cli.trusting import trust
from goldenloop.client import Client
from goldenloop.core.errors import GoldenloopError, InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.serving.predictors.isolation import Isolation

app = typer.Typer(
    help="The whole machine-learning loop on one machine: train, bless, serve, watch, retrain, promote by evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

HomeOption = Annotated[Path, typer.Option("--home", envvar="GOLDENLOOP_HOME", help="The folder of the installation.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print: text, json or yaml.")]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="The namespace.")]
HOME = Path(".goldenloop")


def _show_version(asked: bool) -> None:
    if asked:
        console.print(f"goldenloop {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The whole machine-learning loop on one machine."""


@app.command()
@guarded
def up(
    home: HomeOption = HOME,
    http_port: Annotated[int, typer.Option(help="Control plane, API and pages; 0 for any free port.")] = 8080,
    inference_port: Annotated[int, typer.Option(help="Inference over HTTP; 0 for any free port.")] = 8000,
    grpc_port: Annotated[
        int | None, typer.Option(help="Inference over gRPC; by default 8001, or any free port if inference has any.")
    ] = None,
    mlmd_port: Annotated[
        int | None, typer.Option(help="ML Metadata over gRPC; by default 8082, or any free port if the API has any.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    database: Annotated[str | None, typer.Option(help="postgresql://…; by default a file in the home.")] = None,
    artifacts: Annotated[
        str | None, typer.Option(help="s3://BUCKET/PREFIX or a folder; by default in the home.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Inference workers; by default one a core.")] = None,
    isolation: Annotated[
        Isolation,
        typer.Option(help="How models that are code are shut in, besides limits; bubblewrap: without network."),
    ] = "none",
    access_log: Annotated[
        str | None,
        typer.Option(help="A file to which each inference request adds a line of JSON; - for the workers' logs."),
    ] = None,
    otel: Annotated[
        str | None,
        typer.Option(
            envvar="OTEL_EXPORTER_OTLP_ENDPOINT",
            help="Where traces go to: an OTLP receiver over HTTP (http://127.0.0.1:4318).",
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything answers.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Start the platform."""
    from goldenloop.cli.lifecycle import Options, Ports, start_detached, supervise
    from goldenloop.control.home import Home

    options = Options(
        Ports(http_port, inference_port, grpc_port, mlmd_port),
        host,
        database,
        artifacts,
        workers,
        isolation,
        access_log=access_log if access_log in (None, "-") else str(Path(access_log).absolute()),
        otel=otel,
    )
    place = Home.at(home)
    if not detach:
        console.print(f"starting in {place.path}; stop with Ctrl-C")
        supervise(place, options)
        return
    addresses = start_detached(place, options)
    shown: Json = msgspec.to_builtins(addresses)
    say(
        output,
        shown,
        f"running: pages and API {addresses.http}, inference {addresses.inference}, gRPC {addresses.grpc} (home {addresses.home})",
    )


@app.command()
@guarded
def down(home: HomeOption = HOME, output: OutputOption = Output.TEXT) -> None:
    """Stop the platform; what is under way is finished or goes on at the next start."""
    from goldenloop.cli.lifecycle import stop
    from goldenloop.control.home import Home

    pid = stop(Home(home.absolute()))
    say(output, {"stopped": pid}, f"stopped (process {pid})")


@app.command()
@guarded
def demo(
    home: Annotated[
        Path | None, typer.Option("--home", help="The folder of the installation; by default a temporary one.")
    ] = None,
    exit_: Annotated[
        bool, typer.Option("--exit", help="Stop everything at the end; exit code 0 only if the loop closed.")
    ] = False,
    http_port: Annotated[int, typer.Option(help="Control plane and pages; 0 for any free port.")] = 8080,
    inference_port: Annotated[int, typer.Option(help="Inference; 0 for any free port.")] = 8000,
    loop: Annotated[Path | None, typer.Option(help="Another loop file to show.")] = None,
    stream: Annotated[Path | None, typer.Option(help="Another stream to replay (CSV or Parquet).")] = None,
    history: Annotated[float, typer.Option(help="The part of the stream that is the past when the demo begins.")] = 0.4,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the loop closing on real data."""
    from goldenloop.cli.demo import DemoOptions, run_demo
    from goldenloop.cli.lifecycle import Ports

    options = DemoOptions(home, Ports(http_port, inference_port), loop, stream, history, exit_, output is Output.JSON)
    raise typer.Exit(run_demo(options))


@app.command()
@guarded
def init(
    name: Annotated[str, typer.Argument(help="The name of the loop; a folder of that name is made.")],
    data: Annotated[
        Path | None, typer.Option(help="Your data (CSV or Parquet, file or folder); by default a small sample.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a project: a loop file, data, and the commands to type."""
    from goldenloop.cli.scaffold import make_project

    made = make_project(name, data)
    say(output, {"folder": str(made.folder), "commands": list(made.commands)}, "\n".join(made.lines()))


@app.command()
@guarded
def apply(
    file: Annotated[Path, typer.Option("--file", "-f", help="A YAML file of resources.")],
    home: HomeOption = HOME,
    namespace: NamespaceOption = "default",
    wait: Annotated[bool, typer.Option("--wait", help="Return when the loops in it answer.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Create or change resources."""
    from goldenloop.cli.applying import read_resources

    documents = read_resources(file)
    client = Client.of_home(home)
    done: list[Json] = []
    for document in documents:
        what, kept = client.apply(document, namespace=namespace)
        done.append(kept)
        if output is Output.TEXT:
            console.print(f"{_title(kept)} {what}")
    if wait:
        for document in documents:
            if document["kind"] == "Loop":
                name, where = _names(document, namespace)
                version = client.until_served(name, namespace=where)
                if output is Output.TEXT:
                    console.print(f"loop {name} answers with version {version}")
    if output is not Output.TEXT:
        say(output, done[0] if len(done) == 1 else done, "")


@app.command()
@guarded
def get(
    kind: Annotated[
        str, typer.Argument(help="loops, rollouts, inferenceservices, monitors, triggers, slos, runs or versions.")
    ],
    name: Annotated[str | None, typer.Argument(help="One of them; for versions the loop.")] = None,
    home: HomeOption = HOME,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="The namespace; all by default.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List resources, runs or versions."""
    from goldenloop.cli.showing import list_things

    list_things(Client.of_home(home), kind, name, namespace, output)


@app.command()
@guarded
def describe(
    kind: Annotated[str, typer.Argument(help="A kind of resource, or run, or version.")],
    name: Annotated[
        str, typer.Argument(help="Its name; the id of a run; for a version LOOP, LOOP/NUMBER or LOOP-NUMBER.")
    ],
    number: Annotated[int | None, typer.Argument(help="The number of a version of LOOP.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the card of a version here, as Markdown.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the card of a version here, as one HTML file.")] = None,
    home: HomeOption = HOME,
    namespace: NamespaceOption = "default",
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one thing whole: what was chosen and why, its state, what happened to it; of a version its model card."""
    from goldenloop.cli.cards import CardFiles, describe_version
    from goldenloop.cli.showing import describe_thing

    files = CardFiles(markdown=markdown, html=html)
    if kind in ("version", "versions"):
        describe_version(Client.of_home(home), name, number, files, namespace=namespace, output=output)
        return
    files.must_be_none(number)
    describe_thing(Client.of_home(home), kind, name, namespace, output)


@app.command()
@guarded
def delete(
    kind: Annotated[str, typer.Argument(help="The kind.")],
    name: Annotated[str, typer.Argument(help="The name.")],
    home: HomeOption = HOME,
    namespace: NamespaceOption = "default",
    output: OutputOption = Output.TEXT,
) -> None:
    """Delete a resource and what it owns."""
    Client.of_home(home).delete(kind, name, namespace=namespace)
    say(output, {"deleted": {"kind": kind, "name": name}}, f"{kind}/{name} deleted")


@app.command()
@guarded
def logs(
    run: Annotated[str, typer.Argument(help="A run, or the name of a loop: its last run.")],
    step: Annotated[str | None, typer.Argument(help="One step; all by default.")] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on printing until the run ends; as JSON, a document for each line."),
    ] = False,
    home: HomeOption = HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print what the steps of a run printed."""
    from goldenloop.cli.showing import follow_logs, print_logs

    (follow_logs if follow else print_logs)(Client.of_home(home), run, step, output)


@app.command()
@guarded
def run(
    what: Annotated[str, typer.Argument(help="A loop; a pipeline, FILE.py:FUNCTION or FILE.yaml; with --from a run.")],
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE, for a pipeline.")
    ] = None,
    from_step: Annotated[
        str | None,
        typer.Option("--from", help="Do this step of a finished run again, and all that waits for it."),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Run a pipeline in this process, without the platform: breakpoint() works."),
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when the run has ended.")] = True,
    home: HomeOption = HOME,
    namespace: NamespaceOption = "default",
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a loop's pipeline now, or any pipeline, and watch it.

    Ctrl-C asks whether to leave the run going on, to cancel it, or to watch on; again, or where nobody can be asked, it goes on.
    """
    from goldenloop.cli.running import read_parameters, rerun, run_loop, run_pipeline
    from goldenloop.cli.showing import find_run

    is_pipeline = what.endswith((".yaml", ".yml")) or ".py" in what
    if debug and not is_pipeline:
        raise InvalidSpecError("only a pipeline can be debugged", where="WHAT", mend="Name it as FILE.py:FUNCTION.")
    if from_step is not None and is_pipeline:
        raise InvalidSpecError("--from is for a run", where="WHAT", mend="Give its id; see: goldenloop get runs.")
    if debug:
        from goldenloop.cli.debugging import debug_pipeline

        succeeded = debug_pipeline(what, read_parameters(parameter or []), output=output)
    elif from_step is not None:
        client = Client.of_home(home)
        succeeded = rerun(client, find_run(client, what), from_step, wait=wait, output=output)
    elif is_pipeline:
        client = Client.of_home(home)
        succeeded = run_pipeline(client, what, parameter or [], namespace=namespace, wait=wait, output=output)
    else:
        client = Client.of_home(home)
        succeeded = run_loop(client, what, namespace=namespace, reason=reason, wait=wait, output=output)
    if not succeeded:
        raise typer.Exit(1)


@app.command()
@guarded
def cancel(
    run: Annotated[str, typer.Argument(help="A run, or the name of a loop: its last run.")],
    home: HomeOption = HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """End a run and the processes of its steps."""
    from goldenloop.cli.showing import find_run

    client = Client.of_home(home)
    identity = find_run(client, run)
    ended = client.cancel_run(identity)
    say(output, {"run": identity, "cancelled": ended}, f"run {identity} " + ("is cancelled" if ended else "had ended"))


@app.command()
@guarded
def predict(
    service: Annotated[str, typer.Argument(help="The loop or inference service.")],
    rows: Annotated[str, typer.Argument(help="A row as JSON, a list of rows, or @FILE (JSON, or CSV with a header).")],
    version: Annotated[str | None, typer.Option(help="Ask this version instead of the one that answers.")] = None,
    home: HomeOption = HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Ask for an answer; it is logged like any other."""
    from goldenloop.cli.running import read_rows

    answer = Client.of_home(home).predict(service, read_rows(rows), version=version)
    shown: JsonObject = {
        "id": answer.id,
        "version": answer.version,
        "predictions": answer.values,
        "probabilities": msgspec.to_builtins(answer.probabilities),
    }
    say(
        output,
        shown,
        "\n".join([*(f"{value}" for value in answer.values), f"id {answer.id} (version {answer.version})"]),
    )


@app.command()
@guarded
def feedback(
    prediction: Annotated[str, typer.Argument(help="The id of a prediction.")],
    label: Annotated[str, typer.Argument(help="What turned out to be true.")],
    row: Annotated[int, typer.Option(min=0, help="Which row of the request.")] = 0,
    observed_at: Annotated[str | None, typer.Option(help="When it became known (ISO 8601); now by default.")] = None,
    home: HomeOption = HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell the truth about a prediction."""
    one: JsonObject = {"id": prediction, "row": row, "label": label, "observed_at": observed_at}
    accepted = Client.of_home(home).feedback([one])
    say(output, {"accepted": accepted}, f"{accepted} label taken")


@app.command()
@guarded
def backtest(
    loop: Annotated[Path, typer.Argument(help="The file of a Loop.")],
    data: Annotated[
        Path,
        typer.Option(help="The stream, CSV or Parquet: features, label, a time, and label_timestamp if it is known."),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="Change a field of the Loop (retrain.falseAlarmWindows=50; may be repeated), or try another policy in its "
            "place: cost, never, periodic:K, adwin, page-hinkley, accuracy<X, loss>X."
        ),
    ] = None,
    rollout: Annotated[
        Literal["gated", "instant"],
        typer.Option(help="Whether a new version earns its traffic (gated), or answers at once: the policy alone."),
    ] = "gated",
    warm_up: Annotated[float, typer.Option(help="The part of the rows on which the first version is trained.")] = 0.25,
    every: Annotated[int, typer.Option(min=1, help="At every how many windows the periodic policy retrains.")] = 1,
    report: Annotated[Path | None, typer.Option(help="Write a report as HTML here.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Keep what the backtest makes here.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell what a loop would have done on a recorded stream, beside never and periodic retraining. Needs no server."""
    from goldenloop.cli.backtesting import BacktestOptions, run_backtest

    run_backtest(
        BacktestOptions(
            loop=loop,
            data=data,
            policies=tuple(policy or ()),
            warm_up=warm_up,
            every=every,
            rollout=rollout,
            report=report,
            folder=folder,
            output=output,
        )
    )


@app.command()
@guarded
def trace(
    identity: Annotated[
        str,
        typer.Argument(
            help="The id of a prediction, ours or your own; a run; LOOP/NUMBER; a commit, or a digest of data, code or a model."
        ),
    ],
    row: Annotated[int, typer.Option(min=0, help="Which row of the request.")] = 0,
    home: HomeOption = HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say why an answer was what it was, back to data and code; of a version, a run, data or code, what it came from and led to."""
    from goldenloop.cli.showing import print_origin, print_trace

    traced = Client.of_home(home).trace(identity, row=row)
    say(output, traced, lambda: print_origin(traced) if "upstream" in traced else print_trace(traced))


@app.command()
@guarded
def promote(
    loop: Annotated[str, typer.Argument(help="The loop.")],
    version: Annotated[
        int | None, typer.Argument(help="The version; by default the challenger of the rollout.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    by: Annotated[str | None, typer.Option(help="Who decides, for the record; by default your user name.")] = None,
    home: HomeOption = HOME,
    namespace: NamespaceOption = "default",
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a version golden by hand; one that waits for approval is approved, and goes on as it would have without waiting."""
    from goldenloop.cli.cards import promote_version

    promote_version(Client.of_home(home), loop, version, reason=reason, by=by, namespace=namespace, output=output)


@app.command()
@guarded
def rollback(
    loop: Annotated[str, typer.Argument(help="The loop.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = HOME,
    namespace: NamespaceOption = "default",
    output: OutputOption = Output.TEXT,
) -> None:
    """End the rollout, or go back to the version before; works while control is down."""
    from goldenloop.cli.rollback import roll_back

    done = roll_back(home, loop, namespace=namespace, reason=reason)
    say(output, done, f"version {done['golden']} is golden; version {done['quarantined']} is quarantined")


app.command()(report)
app.command()(convert)
app.command()(trust)
app.command()(reproduce)
app.command()(approve)
app.command()(refuse)
app.command()(query)
app.add_typer(audit, name="audit")
app.add_typer(export, name="export")


def _title(document: JsonObject) -> str:
    name, _ = _names(document, "default")
    return f"{str(document['kind']).lower()}/{name}"


def _names(document: JsonObject, namespace: str) -> tuple[str, str]:
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        raise InvalidSpecError("there is no metadata", where="metadata")
    return str(metadata["name"]), str(metadata.get("namespace", namespace))


def run_main() -> None:
    """Run the command line; a fault of ours ends with 1 and the place to look at."""
    try:
        app()
    except GoldenloopError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def run_program() -> None:
    """The console script."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_main()


if __name__ == "__main__":
    run_program()
