"""The page in headless Chromium, on recorded answers: what it says, that it is live, that no address leads nowhere."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvicorn
from recorded_loops import EXPERIMENT, LATER, PREDICTION, answers, run_id
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from goldenloop.web import static_folder

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
APP = Path(__file__).parents[2] / "src/goldenloop/web/app"
GZIPPED_BYTES = 150_000


class RecordedServer:
    """Serves the page and recorded answers on a free loopback port, under the strictest policy the page promises."""

    def __init__(self, recorded: dict[str, object], *, events: bool = True) -> None:
        self.recorded = recorded
        self.events = events
        self.say_more = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        application = Starlette(routes=[Route("/{path:path}", self._answer)])
        self._server = uvicorn.Server(uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)

    def __enter__(self) -> RecordedServer:
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline, "the recorded server did not start"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        if path.endswith("/timeline/events") and self.events:
            return StreamingResponse(self._say(), media_type="text/event-stream")
        if path.endswith("/timeline") and int(request.query_params.get("after", 0)) > 0:
            return JSONResponse({"items": [LATER] if self.say_more.is_set() else []})
        if path in self.recorded:
            found = self.recorded[path]
            loop = request.query_params.get("loop")
            if loop is not None and isinstance(found, dict):
                found = {"items": [item for item in found["items"] if item["loop"] == loop]}
            return PlainTextResponse(found) if isinstance(found, str) else JSONResponse(found)
        file = static_folder() / (path.lstrip("/") or "index.html")
        if file.is_file():
            return FileResponse(file, headers={"content-security-policy": "default-src 'self'"})
        message = f"{path} is not found"
        return JSONResponse({"kind": "Status", "status": "Failure", "message": message, "code": 404}, status_code=404)

    async def _say(self) -> AsyncIterator[str]:
        yield ": open\n\n"
        while not self._server.should_exit:
            if self.say_more.is_set():
                yield f"data: {json.dumps(LATER)}\n\n"
                return
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"SKIPPED, NOT PASSED: no {CHROMIUM}; `apt-get install chromium` lets the page be tested")
    sync_api = pytest.importorskip("playwright.sync_api", reason="SKIPPED, NOT PASSED: no playwright")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def server() -> Iterator[RecordedServer]:
    with RecordedServer(answers()) as running:
        yield running


class Tab:
    """A browser tab that remembers what went wrong in it."""

    def __init__(self, browser: object, **options: object) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)  # type: ignore[attr-defined]
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in {"error", "warning"} else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, server: RecordedServer, address: str, *, heading: str) -> str:
        """Go there, wait for the heading and for what is being read, return the visible text."""
        self.page.goto(f"{server.address}/{address}")
        self.page.get_by_role("heading", level=1, name=heading, exact=True).wait_for()
        self.page.locator(".loading").first.wait_for(state="detached")
        return str(self.page.inner_text("body"))


@pytest.fixture
def tab(browser: object) -> Iterator[Tab]:
    opened = Tab(browser, color_scheme="light")
    yield opened
    opened.context.close()


def test_built_files_are_small_and_name_no_other_host() -> None:
    """Under 150 kB gzipped in total; nothing is loaded from elsewhere; no script stands in the page itself."""
    files = [file for file in static_folder().iterdir() if file.is_file()]
    assert {"index.html", "app.js", "app.css"} <= {file.name for file in files}
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < GZIPPED_BYTES
    html = (static_folder() / "index.html").read_text()
    assert "http" not in html.replace("http-equiv", "")
    assert "<script>" not in html
    assert "url(http" not in (static_folder() / "app.css").read_text()


def test_committed_files_name_no_registry() -> None:
    for name in ("package.json", "package-lock.json", ".npmrc"):
        text = (APP / name).read_text()
        assert "registry." not in text, name
        assert '"resolved"' not in text, name


def test_build_gives_the_committed_files(tmp_path: Path) -> None:
    """What is committed in `static/` is what the sources give."""
    node = shutil.which("node")
    if node is None or not (APP / "node_modules/esbuild").is_dir():
        pytest.skip(
            "SKIPPED, NOT PASSED: the page was not rebuilt; it needs node and `npm ci` in src/goldenloop/web/app"
        )
    subprocess.run([node, "build.mjs", "--out", str(tmp_path)], cwd=APP, check=True, timeout=60)
    built = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    committed = {file.name: file.read_bytes() for file in static_folder().iterdir()}
    assert sorted(built) == sorted(committed)
    changed = [name for name in built if built[name] != committed[name]]
    assert not changed, f"run `npm run build` in src/goldenloop/web/app and commit: {changed}"


@pytest.mark.process
def test_loops_at_a_glance(tab: Tab, server: RecordedServer) -> None:
    text = tab.open(server, "", heading="Loops")
    tab.page.locator("svg.spark").nth(2).wait_for()
    text = tab.page.inner_text("body")
    assert "4 loops · 1 rollout under way · 1 waits for a person" in text
    for name in ("electricity", "loan", "taxi-tips", "churn"):
        assert tab.page.get_by_role("link", name=name, exact=True).is_visible()
    assert "Version 5 against 3: it answers 5 % of the requests." in text
    assert "has no column trip_miles" in text
    assert "none yet" in text
    assert (
        tab.page.get_by_role("meter", name="Evidence better")
        .get_attribute("aria-valuetext")
        .endswith("of 4\u2009447 : 1")
    )
    assert tab.complaints == []


@pytest.mark.process
def test_no_loop_yet(tab: Tab, server: RecordedServer) -> None:
    path = "/apis/goldenloop.dev/v1alpha1/namespaces/default/loops"
    with RecordedServer({**server.recorded, path: {"items": []}}) as empty:
        text = tab.open(empty, "", heading="Loops")
    assert "goldenloop init my-loop" in text
    assert "goldenloop apply -f my-loop/loop.yaml" in text


@pytest.mark.process
def test_one_loop(tab: Tab, server: RecordedServer) -> None:
    text = tab.open(server, "#/loops/electricity", heading="electricity")
    for chart in ("quality", "drift", "evidence"):
        canvas = tab.page.locator(f"[data-chart={chart}] canvas")
        canvas.wait_for()
        # Something is drawn: a canvas of one colour would be an empty picture.
        colours = canvas.evaluate(
            "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
        )
        assert colours > 20, chart
    summary = tab.page.locator("[data-chart=quality]").get_attribute("aria-label")
    assert summary.startswith("accuracy per window over event time, 84 windows")
    assert "3 stretches of champions; 10 marks" in summary
    assert "Champion v3" in text
    assert "Never retrained" in text
    assert "Current rollout" in text
    assert "about 600" in text
    assert "Promoted" in text
    assert "label class has 2 values" in text
    marks = tab.page.locator(".lane button")
    marks.first.focus()
    assert "loss alarm" in tab.page.locator(".tip").inner_text()
    when = tab.page.locator(".log-list time").first
    assert "wall clock" in when.get_attribute("title")
    newest = tab.page.locator(".log-list li .text").first.inner_text()
    assert newest == "Version 5 answers 5 % of the requests"
    assert tab.complaints == []


@pytest.mark.process
def test_the_owners_four_questions_are_answered(tab: Tab, server: RecordedServer) -> None:
    """At the head of the page: fit, budget, deeds and their cost, what waits; below, each objective and each monitor."""
    text = tab.open(server, "#/loops/electricity", heading="electricity")
    answers = tab.page.get_by_role("list", name="What the owner asks").locator("li")
    said = [str(each) for each in answers.all_inner_texts()]
    assert [each.split("\n")[1] for each in said] == ["At risk", "31 %", "7 runs, 11 min", "2"]
    assert "latency_p99_ms <= 50" in said[1]
    assert "2 promoted, 1 rolled back, 4 alarms, 1 failed" in said[2]
    assert "goldenloop approve electricity 6 --reason WHY" in text
    assert "Burning 16.2 times faster than evenly (page): fires where more than 13.4 % fail over 1h and 5m" in text
    assert "98.8 % good of 182\u2009340, 99 % promised; 31 % of the budget is left" in text
    assert "nobody measures fairness/gap" in text
    meter = tab.page.get_by_role("meter", name="Error budget of accuracy >= 0.70 over 28d")
    assert meter.get_attribute("aria-valuetext") == "100 % left"
    monitors = tab.page.get_by_label("Monitors", exact=True).last.inner_text()
    assert "3 rows are too few" in monitors
    assert "Statistic" in monitors
    assert tab.complaints == []


def test_a_loop_without_objectives_says_so(tab: Tab, server: RecordedServer) -> None:
    text = tab.open(server, "#/loops/loan", heading="loan")
    assert "None set" in text
    assert "nothing is promised: the Loop has no objectives" in text
    assert "Everything goes on by itself." in text
    assert tab.complaints == []


def test_a_loop_that_has_nothing_yet(tab: Tab, server: RecordedServer) -> None:
    text = tab.open(server, "#/loops/churn", heading="churn")
    assert "The first point comes with the first labelled window." in text
    assert "The first run makes the first version." in text
    assert "Nothing has happened yet." in text
    assert "electricity" not in text
    assert tab.complaints == []


@pytest.mark.process
def test_hover_tells_the_window(tab: Tab, server: RecordedServer) -> None:
    tab.open(server, "#/loops/electricity", heading="electricity")
    over = tab.page.locator("[data-chart=quality] .u-over")
    over.wait_for()
    over.hover(position={"x": 200, "y": 100})
    tip = tab.page.locator(".tip").first.inner_text()
    assert "champion" in tip
    assert "never retrained" in tip


@pytest.mark.process
@pytest.mark.parametrize("events", [True, False], ids=["server-sent events", "polling"])
def test_new_events_appear(tab: Tab, *, events: bool) -> None:
    with RecordedServer(answers(), events=events) as own:
        tab.open(own, "#/loops/electricity", heading="electricity")
        tab.page.locator(".live", has_text="live" if events else "polling").wait_for()
        assert LATER["text"] not in tab.page.inner_text(".log-list")
        own.say_more.set()
        tab.page.locator(".log-list .text", has_text=str(LATER["text"])).wait_for()
        assert tab.page.locator(".log-list .text").first.inner_text() == LATER["text"]


@pytest.mark.process
def test_version_run_and_trace(tab: Tab, server: RecordedServer) -> None:
    text = tab.open(server, "#/loops/electricity/versions/5", heading="Version 5")
    assert "beats version 3 by 0.061 on the same 2 000 rows" in text
    assert "v3, champion" in text
    assert "17\u2009600 rows" in text

    text = tab.open(server, f"#/runs/{run_id(4)}", heading="electricity-4")
    assert "Drift in nswprice and transfer" in text
    assert tab.page.locator(".gantt .bar").count() == 8
    tab.page.get_by_role("button", name="train").click()
    tab.page.get_by_text("kept gradient boosting").wait_for()

    text = tab.open(server, f"#/traces/{PREDICTION}", heading="Why this answer")
    assert "The price is high for this hour" in text
    assert "83.2 %" in text
    assert tab.page.locator(".contributions li").count() == 7
    assert tab.page.locator(".diverging .down").count() == 3
    tab.page.get_by_role("link", name="Version 3").click()
    tab.page.get_by_role("heading", level=1, name="Version 3").wait_for()
    assert tab.complaints == []


@pytest.mark.process
def test_a_failed_run_says_why(tab: Tab, server: RecordedServer) -> None:
    text = tab.open(server, f"#/runs/{run_id(3)}", heading="electricity-3")
    assert "cannot allocate 3.1 GiB" in text
    assert "Log of train" in text


@pytest.mark.process
@pytest.mark.parametrize(
    ("address", "heading"),
    [
        (f"#/runs/details/{run_id(4)}", "electricity-4"),  # KFP
        (f"#/experiments/details/{EXPERIMENT}", "electricity by hand"),
        ("#/experiments", "Runs"),
        ("#/models/electricity/versions/3", "Version 3"),  # MLflow
        ("#/models/electricity", "electricity"),
        (f"#/experiments/1/runs/{run_id(4).replace('-', '')}", "electricity-4"),
        ("#/runs", "Runs"),
        (f"#/traces/{PREDICTION}", "Why this answer"),
        ("#/nowhere/at/all", "No such page"),
    ],
)
def test_links_of_other_tools_resolve(tab: Tab, server: RecordedServer, address: str, heading: str) -> None:
    tab.open(server, address, heading=heading)
    assert tab.complaints == []


@pytest.mark.process
@pytest.mark.parametrize(
    ("address", "heading", "what"),
    [
        ("#/loops/nothing", "nothing", "No such loop"),
        ("#/loops/electricity/versions/99", "Version 99", "No such version"),
        ("#/runs/none", "Run none", "No such run"),
        ("#/traces/none", "Why this answer", "No such prediction"),
    ],
)
def test_what_is_not_there_is_said(tab: Tab, server: RecordedServer, address: str, heading: str, what: str) -> None:
    assert what in tab.open(server, address, heading=heading)


@pytest.mark.process
def test_a_silent_server_is_said(tab: Tab) -> None:
    with RecordedServer(answers()) as own:
        tab.open(own, "", heading="Loops")
    tab.page.get_by_text("The control process has not answered since").wait_for()
    assert tab.page.get_by_role("link", name="electricity", exact=True).is_visible()


@pytest.mark.process
def test_search_goes_to_the_trace(tab: Tab, server: RecordedServer) -> None:
    tab.open(server, "", heading="Loops")
    box = tab.page.get_by_role("searchbox")
    box.fill(f"  {PREDICTION} ")
    box.press("Enter")
    tab.page.get_by_role("heading", level=1, name="Why this answer").wait_for()


@pytest.mark.process
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_wide_and_narrow(
    browser: object, server: RecordedServer, tmp_path: Path, *, width: int, scheme: str
) -> None:
    """No page is wider than the screen, every control has a name. Pictures are kept in GOLDENLOOP_PICTURES."""
    pictures = Path(os.environ.get("GOLDENLOOP_PICTURES", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    opened = Tab(browser, color_scheme=scheme)
    opened.page.set_viewport_size({"width": width, "height": 900})
    for name, address, heading in (
        ("loops", "#/", "Loops"),
        ("loop", "#/loops/electricity", "electricity"),
        ("version", "#/loops/electricity/versions/5", "Version 5"),
        ("run", f"#/runs/{run_id(4)}", "electricity-4"),
        ("trace", f"#/traces/{PREDICTION}", "Why this answer"),
    ):
        opened.open(server, address, heading=heading)
        opened.page.wait_for_timeout(150)
        wide = opened.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} px wide"
        nameless = opened.page.evaluate(
            "[...document.querySelectorAll('a,button,input')]"
            ".filter(e => !(e.textContent.trim() || e.ariaLabel)).length"
        )
        assert nameless == 0, name
        file = pictures / f"{name}-{scheme}-{width}.png"
        opened.page.screenshot(path=str(file), full_page=True)
        assert file.stat().st_size > 10_000
    assert opened.complaints == []
    opened.context.close()
