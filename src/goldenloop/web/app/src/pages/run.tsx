// One run: its steps in time, what they wait for, and their logs.
import { useState } from "preact/hooks";
import { paths, type Run, type Task, useResource } from "../api";
import { between, duration } from "../format";
import { Badge, Facts, Head, Loading, Nothing, Panel, Problem, Time, toneOf } from "../parts";
import { toLoop } from "../route";

const ENDED = ["SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"];
const ROW = 34; // px, as in the style sheet

export function RunPage({ id }: { id: string }) {
  const [done, setDone] = useState(false);
  const run = useResource<Run>(paths.run(id), done ? 0 : 2_000);
  const data = run.data;
  const ended = data !== undefined && ENDED.includes(data.state);
  if (ended !== done) setDone(ended);
  const [chosen, choose] = useState<string | null>(null);
  const tasks = inOrder(data?.tasks ?? []);
  const shown = tasks.find(({ name }) => name === chosen) ?? tasks.find(({ state }) => state === "FAILED") ?? tasks.find(({ state }) => state === "RUNNING") ?? tasks[0];
  return (
    <>
      <Head
        trail={[["#/", "Loops"], data?.loop ? [toLoop(data.loop), data.loop] : ["#/runs", "Runs"]]}
        name={data?.name || `Run ${id.slice(0, 8)}`}
        badges={data && <Badge state={data.state} />}
      >
        {data?.cause?.text && <span>{data.cause.text}</span>}
      </Head>
      {run.error && !data && <Problem error={run.error} what="run" />}
      {!data && !run.error && <Loading />}
      {data?.error && <div class="problem" role="alert"><strong>The run failed</strong><p>{data.error}</p></div>}
      {data && (
        <>
          <Panel title="Steps" side={<span class="muted">{between(data.started, data.finished ?? new Date().toISOString())}</span>}>
            {tasks.length === 0 ? <Nothing>No step has started yet.</Nothing> : <Steps run={data} tasks={tasks} chosen={shown?.name} choose={choose} />}
          </Panel>
          {shown && <Log run={id} task={shown} />}
          <Panel title="About this run">
            <Facts
              facts={[
                ["Cause", data.cause?.kind ?? "–"],
                ["Created", <Time at={data.created} toTheSecond />],
                ["Started", <Time at={data.started} toTheSecond />],
                ["Finished", <Time at={data.finished} toTheSecond />],
                ["Id", <span class="code">{data.id}</span>],
              ]}
            />
          </Panel>
        </>
      )}
    </>
  );
}

/** Every step after those it depends on, and otherwise as given; a circle is shown as it stands. */
function inOrder(tasks: Task[]): Task[] {
  const names = new Set(tasks.map(({ name }) => name));
  const placed = new Set<string>();
  const rest = [...tasks];
  const ordered: Task[] = [];
  while (rest.length > 0) {
    const ready = rest.findIndex(({ dependsOn }) => (dependsOn ?? []).every((name) => placed.has(name) || !names.has(name)));
    const [next] = rest.splice(Math.max(0, ready), 1);
    if (!next) break;
    placed.add(next.name);
    ordered.push(next);
  }
  return ordered;
}

function Steps(props: { run: Run; tasks: Task[]; chosen: string | undefined; choose: (name: string) => void }) {
  const { tasks } = props;
  const instants = tasks.flatMap(({ started, finished }) => [started, finished]).filter((at): at is string => Boolean(at)).map((at) => Date.parse(at));
  const now = ENDED.includes(props.run.state) ? [] : [Date.now()];
  const from = Math.min(...instants, Date.parse(props.run.started ?? "") || Infinity);
  const until = Math.max(...instants, ...now, from + 1);
  const at = (iso: string | null | undefined, otherwise: number) => (iso ? ((Date.parse(iso) - from) / (until - from)) * 100 : otherwise);
  const bars = tasks.map((task) => {
    const left = at(task.started, 0);
    return { task, left, right: task.started ? Math.max(left, at(task.finished, ENDED.includes(task.state) ? left : 100)) : left };
  });
  const rowOf = new Map(tasks.map(({ name }, row) => [name, row]));
  // A line leaves the end of a step and comes in at the start of the one that waited for it.
  const lines = bars.flatMap(({ task, left }, row) =>
    (task.dependsOn ?? []).flatMap((name) => {
      const source = rowOf.get(name);
      const bar = source === undefined ? undefined : bars[source];
      if (source === undefined || bar === undefined || !task.started) return [];
      return [`M${bar.right} ${source * ROW + ROW / 2} V${row * ROW + ROW / 2} H${Math.max(left, bar.right)}`];
    }),
  );
  return (
    <div class="gantt">
      <div class="names">
        {tasks.map((task) => (
          <button key={task.name} type="button" aria-pressed={task.name === props.chosen} onClick={() => props.choose(task.name)}>
            <i class={`dot ${toneOf(task.state)}`} aria-hidden="true" />
            <span>{task.name}</span>
            <span class="hidden">, {task.state.toLowerCase()}</span>
          </button>
        ))}
      </div>
      <div class="bars" style={{ height: `${tasks.length * ROW}px` }}>
        <svg viewBox={`0 0 100 ${tasks.length * ROW}`} preserveAspectRatio="none" aria-hidden="true">
          {lines.map((line) => (
            <path key={line} d={line} vector-effect="non-scaling-stroke" />
          ))}
        </svg>
        {bars.map(({ task, left, right }, row) => (
          <div
            key={task.name}
            class={`bar ${toneOf(task.state)} ${left > 65 ? "late" : ""}`}
            style={{ left: `${left}%`, width: `${right - left}%`, top: `${row * ROW}px` }}
            title={task.error ?? undefined}
          >
            <span>
              {task.cached ? "from cache" : task.started ? between(task.started, task.finished ?? new Date().toISOString()) : task.state.toLowerCase()}
            </span>
          </div>
        ))}
      </div>
      <div class="scale" aria-hidden="true">
        <span>0</span>
        <span>{duration(Number.isFinite(until - from) ? until - from : 0)}</span>
      </div>
    </div>
  );
}

function Log({ run, task }: { run: string; task: Task }) {
  const log = useResource<string>(paths.log(run, task.name), ENDED.includes(task.state) ? 0 : 2_000, "text");
  return (
    <Panel title={`Log of ${task.name}`} side={<><Badge state={task.state} />{task.cached && <span class="badge quiet">cached</span>}</>}>
      {task.error && <p class="reason bad">{task.error}</p>}
      {log.data ? (
        <pre class="log" tabIndex={0} aria-label={`Log of ${task.name}`}>{log.data}</pre>
      ) : log.error && log.error.code !== 404 ? (
        <Nothing>{log.error.message}</Nothing>
      ) : log.data === undefined && !log.error ? (
        <Loading />
      ) : (
        <Nothing>{task.cached ? "This step was not run again: its result came from the cache." : "This step wrote nothing."}</Nothing>
      )}
    </Panel>
  );
}
