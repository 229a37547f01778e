// One loop: its timeline as a picture, its rollout, versions and runs, and what happened.
import { useRef, useState } from "preact/hooks";
import {
  isOpen, type Items, type Loop, type Owner, paths, type Quality, type Rollout, rolloutsOf, type Run, type TimelineItem, useResource,
  type Version,
} from "../api";
import { DriftChart, EvidenceChart, QualityChart } from "../charts";
import { anything, between, dateTime, grouped, metricName, number, title, words } from "../format";
import { type Timeline, useTimeline } from "../live";
import {
  Badge, Conditions, EvidenceBars, Facts, Head, Loading, Nothing, Panel, Problem, rolloutSentence, Sign, Table, Time,
  waiting,
} from "../parts";
import { toRun, toVersion } from "../route";
import { BudgetsPanel, MonitorsPanel, OwnerCards, WaitsPanel } from "./owner";

const SLOW_MS = 15_000; // the timeline says when something is new; this is for what it does not say

export function LoopPage({ name }: { name: string }) {
  const loop = useResource<Loop>(paths.loop(name), SLOW_MS);
  const quality = useResource<Quality>(paths.quality(name), SLOW_MS);
  const owner = useResource<Owner>(paths.owner(name), SLOW_MS);
  const rollouts = useResource<Items<Rollout>>(paths.rollouts, SLOW_MS);
  const versions = useResource<Items<Version>>(paths.versions(name), SLOW_MS);
  const runs = useResource<Items<Run>>(paths.runs(name), SLOW_MS);
  const pending = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const timeline = useTimeline(paths.view(name), () => {
    clearTimeout(pending.current);
    pending.current = setTimeout(() => {
      for (const resource of [loop, owner, quality, rollouts, versions, runs]) resource.refresh();
    }, 300);
  });
  if (loop.error && !loop.data) {
    return (
      <>
        <Head trail={[["#/", "Loops"]]} name={name} />
        <Problem error={loop.error} what="loop" />
      </>
    );
  }
  const status = loop.data?.status;
  const rollout = rolloutsOf(name, rollouts.data?.items ?? [])[0];
  const drift = quality.data?.drift ?? [];
  return (
    <>
      <Head
        trail={[["#/", "Loops"]]}
        name={name}
        badges={
          loop.data && (
            <>
              <Badge state={status?.phase} />
              {status?.champion && (
                <a class="badge gold" href={toVersion(name, status.champion)}>
                  Champion v{status.champion}
                </a>
              )}
            </>
          )
        }
      >
        {status?.watermark && (
          <span title={`watermark ${status.watermark}`}>Data up to {dateTime(status.watermark)}, event time</span>
        )}
      </Head>
      <Conditions conditions={waiting(status?.conditions)} />
      <OwnerCards owner={owner.data} />
      <div class="columns">
        <div class="main">
          <WaitsPanel owner={owner.data} />
          <Panel title={quality.data ? `${metricName(quality.data.metric)} over time` : "Quality over time"} side={<LatestQuality quality={quality.data} />}>
            {quality.data && quality.data.windows.length > 0 ? (
              <QualityChart quality={quality.data} items={timeline.items} />
            ) : quality.error ? (
              <Nothing>{quality.error.message}</Nothing>
            ) : quality.data ? (
              <Nothing>No window is full yet. The first point comes with the first labelled window.</Nothing>
            ) : (
              <Loading />
            )}
            {quality.data && drift.length > 0 && (
              <>
                <h3>Drift</h3>
                <DriftChart quality={quality.data} />
              </>
            )}
          </Panel>
          {rollout && <RolloutPanel rollout={rollout} loop={name} />}
          <BudgetsPanel owner={owner.data} />
          <MonitorsPanel owner={owner.data} />
          <VersionsPanel loop={name} versions={versions.data?.items} metric={quality.data?.metric} />
          <RunsPanel runs={runs.data?.items} />
          <ChoicesPanel loop={loop.data} />
        </div>
        <EventsPanel timeline={timeline} loop={name} />
      </div>
    </>
  );
}

function LatestQuality({ quality }: { quality: Quality | undefined }) {
  const latest = quality?.windows.findLast(({ loop }) => loop !== null);
  if (!latest) return null;
  return (
    <span>
      <strong class="big">{number(latest.loop)}</strong> <span class="muted">{number(latest.low)} to {number(latest.high)}</span>
    </span>
  );
}

function RolloutPanel({ rollout, loop }: { rollout: Rollout; loop: string }) {
  const { status } = rollout;
  if (!status) return null;
  const open = isOpen(rollout);
  const left = status.labelsUntilDecision;
  return (
    <Panel title={open ? "Current rollout" : "Last rollout"} side={<Badge state={status.phase} />}>
      <p class="lead">{rolloutSentence(rollout)}</p>
      <div class="split">
        <div>
          {status.evidence && (status.history?.length ?? 0) > 0 ? (
            <EvidenceChart history={status.history ?? []} evidence={status.evidence} />
          ) : (
            <Nothing>No labels yet, so no evidence either way.</Nothing>
          )}
        </div>
        <div>
          {status.evidence && <EvidenceBars evidence={status.evidence} />}
          <Facts
            facts={[
              ["Challenger", status.challenger ? <a href={toVersion(loop, status.challenger)}>v{status.challenger}</a> : "–"],
              ["Champion", status.champion ? <a href={toVersion(loop, status.champion)}>v{status.champion}</a> : "–"],
              ["Share of answers", `${number(status.share ?? 0)} %`],
              ["Labels seen", grouped(status.labelled ?? 0)],
              ...(open
                ? [["Labels until a decision", left === null || left === undefined ? "not foreseeable" : `about ${grouped(left)}`] as [string, string]]
                : []),
            ]}
          />
          {status.reason && <p class="reason">{status.reason}</p>}
        </div>
      </div>
    </Panel>
  );
}

function VersionsPanel({ loop, versions, metric }: { loop: string; versions: Version[] | undefined; metric: string | undefined }) {
  const shown = [...(versions ?? [])].sort((a, b) => b.number - a.number);
  const key = metric ?? Object.keys(shown[0]?.metrics ?? {})[0] ?? "accuracy";
  return (
    <Panel title="Versions" side={versions && <span class="muted">{versions.length}</span>}>
      {!versions ? (
        <Loading />
      ) : shown.length === 0 ? (
        <Nothing>None yet. The first run makes the first version.</Nothing>
      ) : (
        <Table caption="Versions" heads={[["Version"], ["State"], [metricName(key), "right"], ["Trained until"], ["Evaluation"], ["Run"]]}>
          {shown.map((version) => (
            <tr key={version.number}>
              <td><a class="strong" href={toVersion(loop, version.number)}>v{version.number}</a></td>
              <td><Badge state={version.state} /></td>
              <td class="right figure">{number(version.metrics?.[key])}</td>
              <td class="nowrap"><Time at={version.trainedUntil} recorded={version.created ?? null} /></td>
              <td class="wide">{version.evaluation?.reason ?? version.evaluation?.verdict ?? "–"}</td>
              <td>{version.run ? <a href={toRun(version.run)} aria-label={`Run that made version ${version.number}`}>run</a> : "–"}</td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

export function RunsPanel({ runs, name = "Runs" }: { runs: Run[] | undefined; name?: string }) {
  const shown = [...(runs ?? [])].sort((a, b) => (b.created ?? "").localeCompare(a.created ?? "") || b.id.localeCompare(a.id));
  return (
    <Panel title={name} side={runs && <span class="muted">{runs.length}</span>}>
      {!runs ? (
        <Loading />
      ) : shown.length === 0 ? (
        <Nothing>None yet.</Nothing>
      ) : (
        <Table caption={name} heads={[["Run"], ["State"], ["Cause"], ["Created"], ["Took", "right"]]}>
          {shown.map((run) => (
            <tr key={run.id}>
              <td class="nowrap"><a class="strong" href={toRun(run.id)}>{run.name || run.id.slice(0, 8)}</a></td>
              <td><Badge state={run.state} /></td>
              <td class="wide" title={run.error ?? undefined}>{run.cause?.text || run.cause?.kind || "–"}</td>
              <td class="nowrap"><Time at={run.created} toTheSecond /></td>
              <td class="right nowrap figure">{between(run.started, run.finished)}</td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

/** What the platform inferred, and why: nothing it chose is silent. */
function ChoicesPanel({ loop }: { loop: Loop | undefined }) {
  const choices = Object.entries(loop?.status?.choices ?? {});
  const conditions = loop?.status?.conditions ?? [];
  if (choices.length === 0 && conditions.length === 0) return null;
  return (
    <Panel title="Chosen for you">
      <dl class="choices">
        {choices.map(([name, choice]) => (
          <div key={name}>
            <dt>{words(name)}</dt>
            <dd>
              <strong>{anything(choice.value)}</strong> {choice.why && <span class="muted">{choice.why}</span>}
            </dd>
          </div>
        ))}
      </dl>
      {conditions.length > 0 && (
        <ul class="conditions" aria-label="Conditions">
          {conditions.map(({ type, status, message }) => (
            <li key={type} class={status === "True" ? "good" : status === "False" ? "bad" : "quiet"} title={message}>
              {title(type)}: {status === "True" ? "yes" : status === "False" ? "no" : "unknown"}
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

const SHOWN = 60; // events at first; the rest on request

function EventsPanel({ timeline, loop }: { timeline: Timeline; loop: string }) {
  const [all, setAll] = useState(false);
  const newest = [...timeline.items].reverse();
  const shown = all ? newest : newest.slice(0, SHOWN);
  return (
    <Panel
      title="Events"
      class="events"
      side={
        <span class={timeline.live ? "live on" : "live"} title={timeline.live ? "New events arrive as they happen" : "Asked for every few seconds"}>
          {timeline.live ? "live" : "polling"}
        </span>
      }
    >
      {!timeline.loaded && <Loading />}
      {timeline.error && <Nothing>{timeline.error.message}</Nothing>}
      {timeline.loaded && !timeline.error && newest.length === 0 && <Nothing>Nothing has happened yet.</Nothing>}
      <ol class="log-list" aria-live="polite" aria-relevant="additions">
        {shown.map((item) => (
          <Event key={item.sequence} item={item} loop={loop} />
        ))}
      </ol>
      {newest.length > shown.length && (
        <button type="button" class="more" onClick={() => setAll(true)}>
          Show {grouped(newest.length - shown.length)} older
        </button>
      )}
    </Panel>
  );
}

function Event({ item, loop }: { item: TimelineItem; loop: string }) {
  const facts = Object.entries(item.facts ?? {});
  const version = item.facts?.version;
  const run = item.facts?.run;
  return (
    <li>
      <Sign kind={item.kind} />
      <div>
        <p class="text">{item.text}</p>
        <div class="when">
          <span class="kind">{title(item.kind)}</span> <Time at={item.at} recorded={item.recorded ?? null} />
          {(typeof version === "string" || typeof version === "number") && <a href={toVersion(loop, version)}>v{version}</a>}
          {typeof run === "string" && <a href={toRun(run)}>run</a>}
          {facts.length > 0 && (
            <details>
              <summary>facts</summary>
              <Facts facts={facts.map(([name, value]) => [words(name), anything(value)])} />
            </details>
          )}
        </div>
      </div>
    </li>
  );
}
