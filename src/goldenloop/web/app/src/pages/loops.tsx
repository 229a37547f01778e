// All loops at a glance.
import { isOpen, type Items, type Loop, paths, type Quality, type Rollout, rolloutsOf, useResource } from "../api";
import { Spark } from "../charts";
import { dateTime, metricName, number } from "../format";
import { Badge, Command, Conditions, EvidenceBars, Loading, Problem, rolloutSentence, waiting } from "../parts";
import { toLoop } from "../route";

const POLL_MS = 5_000;

export function LoopsPage() {
  const loops = useResource<Items<Loop>>(paths.loops, POLL_MS);
  const rollouts = useResource<Items<Rollout>>(paths.rollouts, POLL_MS);
  const items = loops.data?.items;
  const asking = items?.filter((loop) => waiting(loop.status?.conditions).length > 0).length ?? 0;
  const running = rollouts.data?.items.filter(isOpen).length ?? 0;
  return (
    <>
      <div class="head">
        <div class="name">
          <h1 tabIndex={-1}>Loops</h1>
        </div>
        {items && items.length > 0 && (
          <p class="under">
            {items.length} {items.length === 1 ? "loop" : "loops"} · {running} {running === 1 ? "rollout" : "rollouts"} under way ·{" "}
            {asking === 0 ? "nothing waits for you" : `${asking} ${asking === 1 ? "waits" : "wait"} for a person`}
          </p>
        )}
      </div>
      {loops.error && !items && <Problem error={loops.error} what="list of loops" />}
      {!items && !loops.error && <Loading />}
      {items?.length === 0 && <Empty />}
      <ul class="cards">
        {items?.map((loop) => (
          <li key={loop.metadata.name}>
            <LoopCard loop={loop} rollouts={rollouts.data?.items ?? []} />
          </li>
        ))}
      </ul>
    </>
  );
}

function Empty() {
  return (
    <div class="empty">
      <h2>No loop yet</h2>
      <p>A loop needs a name and a folder of data. These two commands make one and start it:</p>
      <Command text="goldenloop init my-loop" />
      <Command text="goldenloop apply -f my-loop/loop.yaml" />
      <p>Or watch one on real data first:</p>
      <Command text="goldenloop demo" />
    </div>
  );
}

function LoopCard({ loop, rollouts }: { loop: Loop; rollouts: Rollout[] }) {
  const { name } = loop.metadata;
  const { data: quality } = useResource<Quality>(paths.quality(name), POLL_MS * 2);
  const rollout = rolloutsOf(name, rollouts).find(isOpen);
  const { champion, phase, watermark, conditions } = loop.status ?? {};
  const labelled = quality?.windows.filter(({ loop: value }) => value !== null);
  const latest = labelled?.at(-1);
  return (
    <article class="card">
      <header>
        <h2>
          <a href={toLoop(name)}>{name}</a>
        </h2>
        <Badge state={phase} />
      </header>
      <div class="figures">
        <div>
          <span class="label">Champion</span>
          <span class={champion ? "big gold" : "big muted"}>{champion ? `v${champion}` : "none yet"}</span>
        </div>
        <div>
          <span class="label">{quality ? metricName(quality.metric) : "Quality"}</span>
          <span class="big">{number(latest?.loop)}</span>
          {latest && (
            <span class="small">
              {number(latest.low)} to {number(latest.high)}
            </span>
          )}
        </div>
      </div>
      <Spark windows={quality?.windows ?? []} metric={quality?.metric ?? "quality"} />
      {rollout ? (
        <div class="rollout">
          <p>
            <Badge state={rollout.status?.phase} /> {rolloutSentence(rollout)}
          </p>
          {rollout.status?.evidence && <EvidenceBars evidence={rollout.status.evidence} />}
        </div>
      ) : (
        <p class="quiet">No rollout under way</p>
      )}
      <Conditions conditions={waiting(conditions)} />
      <footer>{watermark ? <>Data up to {dateTime(watermark)}</> : "No data seen yet"}</footer>
    </article>
  );
}
