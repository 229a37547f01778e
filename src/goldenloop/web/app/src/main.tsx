// The page: one address, one view. Everything it shows comes from the public API of the same origin.
import "./style.css";
import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useSignalEffect, useSignal } from "@preact/signals";
import { unreachableSince } from "./api";
import { dateTime } from "./format";
import { Head } from "./parts";
import { type Route, route, toTrace } from "./route";
import { LoopsPage } from "./pages/loops";
import { LoopPage } from "./pages/loop";
import { VersionPage } from "./pages/version";
import { RunPage } from "./pages/run";
import { ExperimentPage, RunsPage } from "./pages/runs";
import { TracePage } from "./pages/trace";

function view(at: Route) {
  switch (at.page) {
    case "loops":
      return <LoopsPage />;
    case "loop":
      return <LoopPage key={at.loop} name={at.loop} />;
    case "version":
      return <VersionPage key={`${at.loop}/${at.version}`} loop={at.loop} number={at.version} />;
    case "runs":
      return <RunsPage />;
    case "experiment":
      return <ExperimentPage key={at.id} id={at.id} />;
    case "run":
      return <RunPage key={at.id} id={at.id} />;
    case "trace":
      return <TracePage key={at.id} id={at.id} />;
    case "unknown":
      return (
        <>
          <Head trail={[["#/", "Loops"]]} name="No such page" />
          <p class="nothing">Nothing lies at <code>#{at.address}</code>.</p>
        </>
      );
  }
}

function nameOf(at: Route): string {
  switch (at.page) {
    case "loops":
      return "Loops";
    case "loop":
      return at.loop;
    case "version":
      return `${at.loop} v${at.version}`;
    case "runs":
      return "Runs";
    case "experiment":
      return "Experiment";
    case "run":
      return `Run ${at.id.slice(0, 8)}`;
    case "trace":
      return "Why this answer";
    case "unknown":
      return "No such page";
  }
}

function Search() {
  const id = useSignal("");
  return (
    <form
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        const wanted = id.value.trim();
        if (wanted) location.hash = toTrace(wanted);
      }}
    >
      <input
        type="search"
        name="prediction"
        aria-label="Explain a prediction: its id"
        placeholder="Explain a prediction id"
        autoComplete="off"
        spellcheck={false}
        value={id.value}
        onInput={(event) => {
          id.value = event.currentTarget.value;
        }}
      />
    </form>
  );
}

function App() {
  const main = useRef<HTMLElement>(null);
  const opened = useRef(false);
  const at = route.value;
  useSignalEffect(() => {
    document.title = `${nameOf(route.value)} · goldenloop`;
  });
  // After a change of page, reading goes on at its heading and at its top, as after a page load.
  useEffect(() => {
    if (opened.current) {
      scrollTo(0, 0);
      main.current?.querySelector("h1")?.focus({ preventScroll: true });
    }
    opened.current = true;
  }, [at]);
  const since = unreachableSince.value;
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); main.current?.querySelector("h1")?.focus(); }}>
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href="#/" aria-label="goldenloop, all loops">
          <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
            <path d="M23.6 10.2A10 10 0 1 0 26 16" fill="none" stroke="currentColor" stroke-width="4" stroke-linecap="round" />
            <circle cx="25" cy="8.6" r="3.6" fill="currentColor" />
          </svg>
          <span>goldenloop</span>
        </a>
        <nav aria-label="Pages">
          <a href="#/" aria-current={["loops", "loop", "version"].includes(at.page) ? "page" : undefined}>Loops</a>
          <a href="#/runs" aria-current={["runs", "run", "experiment"].includes(at.page) ? "page" : undefined}>Runs</a>
        </nav>
        <Search />
      </header>
      {since && (
        <div class="banner" role="alert">
          The control process has not answered since {dateTime(since.toISOString())} UTC. What you see may be old; predictions are
          answered without it.
        </div>
      )}
      <main id="content" ref={main}>{view(at)}</main>
      <footer class="bottom">
        Times are in UTC. Events and data carry event time; point at one for the wall clock. <a href="./third-party.txt">Licences</a>
      </footer>
    </>
  );
}

const root = document.getElementById("root");
if (root) {
  root.textContent = "";
  render(<App />, root);
}
